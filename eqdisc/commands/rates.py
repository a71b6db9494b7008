"""Rates: what is recovered of known laws, and what of the paper holds."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ..work.errors import OptionError
from .options import Output, Work, saved

RATES = Path("runs/benchmark")
_several = partial(Parameter, consume_multiple=True)
TARGETS = "fig3; fig4 or fig5 (epidemic); fig6 or tableA2 (simple arithmetic); fig7 or table1 (large-scale); nalm (one unit, nine ranges)."


def benchmark(
    suite: Annotated[
        str, Parameter(help="all, smoke, powers, polynomials, rational, transcendental, or names with commas.")
    ] = "all",
    /,
    *,
    out: Annotated[Path, saved(help="Folder of rows, summary and picture; what is there is not run again.")] = RATES,
    noise: Annotated[tuple[float, ...], _several(help="Shares of the standard deviation.")] = (0.0, 0.01, 0.02, 0.05),
    samples: Annotated[tuple[int, ...], _several(help="Samples a record [default: each system's own].")] = (),
    starts: Annotated[tuple[int, ...], _several(help="Records of each system.")] = (1,),
    seeds: Annotated[tuple[int, ...], _several(help="Seeds of noise and search.")] = (0,),
    time_limit: Annotated[float | None, Parameter(help="Seconds after which one fit ends with what it has.")] = None,
    work: Work = Work(),
    output: Output = Output(),
) -> None:
    """Measure what is recovered of the catalogue's laws."""
    from ..benchmarks.benchmark import list_tasks, read_rows, run_benchmark, write_benchmark, write_summary
    from ..work.progress import open_progress

    tasks = list_tasks(suite, noise, samples, starts, seeds)
    if not tasks:
        raise OptionError("nothing is to be measured: no system has so many starts.")
    with work.crew() as crew, open_progress(output.quiet) as progress:
        progress.show("fits", 0, len(tasks), "")
        for done, row in run_benchmark(tasks, out, crew, time_limit):
            progress.show("fits", done, len(tasks), f"{row['system']}, noise {row['noise']:g}")
    wanted = {task.key for task in tasks}
    rows = [row for row in read_rows(out / "rows.csv") if tuple(row.values())[: len(tasks[0].key)] in wanted]
    summary = write_summary(rows, out)
    output.answer(write_benchmark(summary), summary.to_dict("records"))
    output.tell(f"saved in {out}")


def reproduce(
    target: Annotated[str, Parameter(help=TARGETS)],
    /,
    *,
    variant: Annotated[
        Literal["coded", "printed"],
        Parameter(name="--as", help="What the paper's code does, or what its text says."),
    ] = "coded",
    budget: Annotated[
        Literal["smoke", "full"], Parameter(help="smoke: seconds, to see that it runs; full: as long as the paper.")
    ] = "smoke",
    out: Annotated[
        Path | None,
        saved(
            help="Folder of rows, table and picture; what is there is not run again [default: runs/reproduce/TARGET]."
        ),
    ] = None,
    output: Output = Output(),
) -> None:
    """Train a figure or table of the Neural Power Units paper anew, with its numbers beside ours."""
    from ..paper.experiment import find, read_rows, run, write_results
    from ..work.progress import open_progress

    experiment = find(target)
    folder = out or Path("runs/reproduce") / target
    with open_progress(output.quiet) as progress:

        def tell(share: float, text: str) -> None:
            progress.show(target, round(100 * share), 100, text)

        for _ in run(experiment, variant, budget, folder, tell):
            pass
    chosen = [r for r in read_rows(folder / "rows.csv") if (r["variant"], r["budget"]) == (variant, budget)]
    output.answer(write_results(experiment, chosen, folder), chosen)
    output.tell(f"saved in {folder}")
