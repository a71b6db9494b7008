"""The command: words in, the answer on standard output, progress and warnings on standard error, an exit status (`commands.fence`).

Whatever is slow to load (torch, SymPy, pandas, matplotlib) is loaded by the command that needs it.
"""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable, Sequence

from cyclopts import App, Parameter

from . import __version__
from .commands import fits, laws, rates, tables
from .commands.fence import FOUND, INTERRUPTED, MISTYPED, NOTHING, UNUSABLE, fenced
from .work.errors import DataWarning, SpeedWarning

COMMANDS: dict[str, Callable[..., int | None]] = {  # each under the line to paste that its help ends with
    "eqdisc fit data/fsir.csv --out runs/fsir": fits.fit,
    "eqdisc check data/fsir.csv": tables.check,
    "eqdisc show runs/fsir --to latex": laws.show,
    "eqdisc simulate runs/fsir --x0 S=99,I=1,R=0 --t-end 200 --out sim.csv": laws.simulate,
    "eqdisc report runs/fsir --out fsir.html": laws.report,
    "eqdisc export runs/fsir --to python --out fsir.py": laws.export,
    "eqdisc validate runs/fsir more.csv": laws.validate,
    "eqdisc next runs/west": laws.propose,
    "eqdisc resume runs/fsir": fits.resume,
    "eqdisc rerun runs/fsir": fits.rerun,
    "eqdisc compare data/fsir.csv --out runs/compared": tables.compare,
    "eqdisc systems fsir --out fsir.csv --noise 0.02": tables.systems,
    "eqdisc benchmark smoke --out runs/smoke": rates.benchmark,
    "eqdisc reproduce tableA2 --budget smoke --out runs/tableA2": rates.reproduce,
}

app = App(
    name="eqdisc",
    help="From a table of measurements over time to the differential equation behind it.",
    help_epilogue="example:  eqdisc fit data/fsir.csv",
    help_format="plaintext",
    default_parameter=Parameter(
        negative_iterable=(),
        show_default=lambda value: None if value is None or value is False or value == () else str(value),
    ),
    version=__version__,
    version_flags=["--version"],
)
for line, command in COMMANDS.items():
    app.command(command, name=line.split()[1], help_epilogue=f"example:  {line}")


def run() -> None:
    """Run the command line as a process of its own and end it with the exit status.

    Python's collector of cycles has little to find among half a million objects that loading made: looking there less often saves 0.3 s
    of a fit, not looking at them once more at the end 0.7 s.
    """
    gc.set_threshold(10_000)
    status = main()
    gc.freeze()
    sys.exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status; no exception leaves but what ends Python itself."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that has no sqrt sign gets a question mark
    words = list(sys.argv[1:] if arguments is None else arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", DataWarning)
        warnings.simplefilter("default", SpeedWarning)
        warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
        return fenced(lambda: app(words, exit_on_error=False, print_error=False, result_action="return_value"))


__all__ = ["FOUND", "INTERRUPTED", "MISTYPED", "NOTHING", "UNUSABLE", "app", "main", "run"]
