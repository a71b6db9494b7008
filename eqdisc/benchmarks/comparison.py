r"""Comparison with the peers on ten textbook systems, clean and noisy.

    python -m eqdisc.benchmarks.comparison [--noise 0 0.01 0.05] [--systems NAME ...] [--seed 0] [--out runs/peers]

Every task is `eqdisc compare` on a record of a catalogue system: three quarters of it are fitted, the rest and, where the catalogue has
a second start, a whole record from there are foretold. Noise is a share of each state's standard deviation. Recovered is the
catalogue's law, term by term (`scoring`); a method foretells where its error on what it did not see is below twice the noise, or below
half a per cent of the states' spread where that is more.
"""

from __future__ import annotations

import itertools
import platform
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..law.catalogue import catalogue, simulate_system
from ..law.equations import Equations
from ..peers.comparison import Comparison, Contender, compare
from ..work.files import read_rows
from .benchmark import rate_text
from .pages import as_table, command, keeping
from .scoring import middle_of, recovered

if TYPE_CHECKING:
    import pandas as pd

SYSTEMS = (
    *("fsir", "lotka_volterra", "lorenz", "west", "two_tanks"),
    *("van_der_pol", "sir", "power_predation", "stefan_boltzmann", "michaelis_menten"),
)
NOISES = (0.0, 0.01, 0.05)
SECONDS = 15.0  # for each method
FORETOLD, SHARE = 2.0, 5e-3  # of the noise, of a state's spread
FIELDS = ("system", "noise", "method", "recovered", "foretold", "error", "size", "seconds", "note", "equations")


def run_comparison(
    systems: Sequence[str], noises: Sequence[float], seed: int, folder: Path, seconds: float = SECONDS
) -> Iterator[list[dict[str, Any]]]:
    """Run the tasks that are not yet in rows.csv, append a row a method, and yield the rows of each task."""
    path = folder / "rows.csv"
    there = {(row["system"], float(row["noise"])) for row in read_rows(path, FIELDS)}
    with keeping(path, FIELDS) as keep:
        for noise, name in itertools.product(noises, systems):
            if (name, noise) not in there:
                rows = compare_on(name, noise, seed, seconds)
                keep(rows)
                yield rows


def compare_on(name: str, noise: float, seed: int, seconds: float) -> list[dict[str, Any]]:
    """Return a row for each method on one system."""
    system = catalogue()[name]
    data = simulate_system(name, noise=noise, seed=seed, starts=min(2, len(system.x0)))
    found = compare(data, seed=seed, time_limit=seconds)
    return [{"system": name, "noise": noise, **_row(c, found, system.law)} for c in found.contenders]


def _row(c: Contender, found: Comparison, truth: Equations) -> dict[str, Any]:
    spread = float((found.data.stacked().std(0) / found.sigma).min())
    return {
        "method": c.name,
        "recovered": int(isinstance(c.law, Equations) and recovered(c.law, truth, middle_of(found.data))),
        "foretold": int(c.unseen < max(FORETOLD, SHARE * spread)),
        "error": c.unseen,
        "size": "" if c.size is None else c.size,
        "seconds": round(c.seconds, 2),
        "note": c.note,
        "equations": "; ".join(c.equations),
    }


def summarise(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return a line for each method and noise: how many tasks, laws recovered, records foretold, medians of error, size and time."""
    import pandas as pd

    table = pd.DataFrame(rows)
    numbers = ["noise", "recovered", "foretold", "error", "size", "seconds"]
    table[numbers] = table[numbers].apply(pd.to_numeric)
    table["method"] = pd.Categorical(table["method"], table["method"].unique())  # in the order in which they ran
    groups = table.groupby(["noise", "method"], observed=True)
    counts = groups.agg(tasks=("method", "size"), recovered=("recovered", "sum"), foretold=("foretold", "sum"))
    return counts.join(groups[["error", "size", "seconds"]].median()).reset_index().astype({"method": object})


def as_markdown(summary: pd.DataFrame) -> str:
    """Return the summary as a page with its date and versions."""
    from .. import __version__

    head = f"eqdisc {__version__}, Python {platform.python_version()}, NumPy {np.__version__}, {date.today()}"
    names = ["noise", "method", "recovered", "foretold", "median error / noise", "median numbers", "median s"]
    return "\n".join(
        [
            "# eqdisc and its peers",
            "",
            head,
            "",
            *as_table(names, (_cells_of(row) for _, row in summary.iterrows())),
            "",
        ]
    )


def _cells_of(line: pd.Series) -> list[str]:
    rates = [rate_text(int(line[key]), int(line["tasks"])) for key in ("recovered", "foretold")]
    return [
        f"{line['noise']:g}",
        line["method"],
        *rates,
        f"{line['error']:.3g}",
        f"{line['size']:.0f}",
        f"{line['seconds']:.1f}",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the tasks and write rows.csv and summary.md."""
    parser = command("eqdisc.benchmarks.comparison", __doc__)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS))
    parser.add_argument("--noise", nargs="+", type=float, default=list(NOISES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each method")
    parser.add_argument("--out", type=Path, default=Path("runs/peers"), help="folder; what is there is not run again")
    options = parser.parse_args(arguments)
    for rows in run_comparison(options.systems, options.noise, options.seed, options.out, options.seconds):
        errors = ", ".join(f"{row['method']} {row['error']:.3g}" for row in rows)
        print(f"{rows[0]['system']}, noise {rows[0]['noise']:g}: {errors}", flush=True)
    page = as_markdown(summarise(read_rows(options.out / "rows.csv", FIELDS)))
    (options.out / "summary.md").write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
