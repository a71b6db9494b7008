"""Laws: what can be done with the law of a run."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ..work.errors import OptionError
from ..work.files import write_text
from .options import Folder, Output, saved

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..law.simulation import Simulation
    from ..runs.run import Run


def show(
    run: Folder,
    /,
    *,
    front: Annotated[bool, Parameter(negative="", help="Every law on the front, with its equations.")] = False,
    to: Annotated[
        Literal["unicode", "latex", "sympy"] | None, Parameter(help="The equations alone, in this form.")
    ] = None,
    output: Output = Output(),
) -> None:
    """Show the law, the front and the verdict of a run."""
    from ..runs.text import write_answer, write_equations, write_front

    if front and to is not None:
        raise OptionError("--front shows every law in its readable form; leave out --to.")
    found = output.load(run)
    if to is not None:
        lines = write_equations(found, to)
        output.answer("\n".join(lines), dict(zip(found.states, lines, strict=True)))
    elif front:
        output.answer(write_front(found, equations=True), found.front)
    else:
        output.answer(write_answer(found), found.result)


def simulate(
    run: Folder,
    /,
    *,
    x0: Annotated[str | None, Parameter(help="Initial state, S=99,I=1; states left out start as in the data.")] = None,
    t_end: Annotated[float | None, Parameter(help="Last time [default: the data's times].")] = None,
    out: Annotated[Path | None, saved(help="CSV file [default: standard output].")] = None,
    output: Output = Output(),
) -> None:
    """Simulate the law of a run: every trajectory from its estimated start, or one from --x0."""
    found = output.load(run)
    curves = found.simulate(None if x0 is None else _read_x0(x0), t_end=t_end)
    _warn(curves, found.result["time"], output)
    header = ["trajectory", found.result["time"], *found.states]
    rows = [[name, *row] for name, k in curves.items() for row in zip(k.t.tolist(), *k.x.T.tolist(), strict=True)]
    facts, table = [dict(zip(header, row, strict=True)) for row in rows], _csv([header, *rows])
    if out is None:
        output.answer(table.rstrip("\n"), facts)
    else:
        output.save(out, json.dumps(facts, indent=2) if output.json else table)


def _warn(curves: Mapping[str, Simulation], time: str, output: Output) -> None:
    """Say which simulations end before their time."""
    from ..work.status import Status

    for name, curve in curves.items():
        if curve.status is not Status.OK:
            output.tell(f"warning: trajectory {name} ends at {time} = {curve.end:g}. {curve.status.advice}")


def _csv(rows: Iterable[Iterable[Any]]) -> str:
    page = io.StringIO()
    csv.writer(page, lineterminator="\n").writerows(rows)
    return page.getvalue()


def _read_x0(text: str) -> dict[str, float]:
    """Read S=99,I=1; a name may hold an equals sign, but no comma."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not equals or not abs(number) < float("inf"):
            raise OptionError(f"--x0 holds {part!r}; write each state with its value, such as S=99,I=1.")
        if name.strip() in found:
            raise OptionError(f"--x0 names {name.strip()!r} twice.")
        found[name.strip()] = number
    return found


def report(
    run: Folder,
    /,
    *,
    out: Annotated[Path | None, saved(help="HTML file [default: RUN/report.html].")] = None,
    output: Output = Output(),
) -> None:
    """Write a run as one page of HTML that needs nothing else."""
    from ..runs.report import write_report

    place = run / "report.html" if out is None else out
    write_text(place, write_report(output.load(run)))
    output.answer(f"saved in {place}", {"report": str(place)})


def export(
    run: Folder,
    /,
    *,
    to: Annotated[
        Literal["python", "julia", "c", "stan", "sbml", "latex", "sympy", "json"],
        Parameter(help="Programs (python, julia, c), models (stan, sbml), formulas (latex, sympy, json)."),
    ],
    out: Annotated[Path | None, saved(help="File [default: standard output].")] = None,
    output: Output = Output(),
) -> None:
    """Write the law of a run in another language."""
    text = output.load(run).export(to)
    if out is None:
        output.answer(text.rstrip("\n"), {"to": to, "text": text})
    else:
        output.save(out, text)


def validate(
    run: Folder,
    data: Annotated[Path, Parameter(help="A table with the same states that was not fitted.")],
    /,
    *,
    time: Annotated[str | None, Parameter(help="Column of times [default: that of the run].")] = None,
    trajectory: Annotated[str | None, Parameter(help="Column that tells trajectories apart.")] = None,
    output: Output = Output(),
) -> None:
    """Simulate the law of a run along trajectories it never saw, each from its own start; one that was fitted, from the fitted start."""
    from ..runs.text import write_validation

    found = output.load(run)
    found.refuse_hidden("fit both tables together to see whether one law holds for both")
    roles = {"states": list(found.states), "inputs": list(found.inputs) or None, "group": found.group or None}
    unseen = output.read(data, time=time or found.result["time"], trajectory=trajectory, **roles)
    facts = _validate(found, unseen)
    output.answer(write_validation(facts, found.result["errors"].get("train")), facts)


def _validate(run: Run, data: Dataset) -> dict[str, Any]:
    import numpy as np

    from ..judge.validation import METRIC, score, stretches_unseen

    stretches = stretches_unseen(data)
    rows, squares, counts = [], [], []
    for k, stretch in zip(data.trajectories, stretches, strict=True):
        fitted = run.start_fitted(k)
        stretch = stretch if fitted is None else stretch._replace(start=fitted)
        one = score(run.law_of(k.group), [stretch], run.sigma)
        row = {"trajectory": k.name, "error": one.error, "status": one.status.name.lower(), "end": one.end}
        rows.append(row | {"fitted": fitted is not None})
        counts.append(np.isfinite(stretch.x).sum())
        squares.append(one.error**2 * counts[-1])
    horizon = max(float(s.t[-1] - s.t[0]) for s in stretches)
    error = float(np.sqrt(sum(squares) / sum(counts)))
    return {"metric": METRIC, "error": error, "horizon": horizon, "trajectories": rows}


def propose(run: Folder, /, *, output: Output = Output()) -> None:
    """Propose the measurement that would separate the forms still standing; RUN/next.png shows what each foretells."""
    from ..runs.design import propose_experiments
    from ..runs.plotting import plot_experiment
    from ..runs.text import write_experiments

    found = output.load(run)
    experiments = propose_experiments(found)
    picture = plot_experiment(found, experiments[0])
    facts = [{**asdict(e), "x0": dict(zip(found.states, e.x0, strict=True))} for e in experiments]
    output.answer(write_experiments(found, experiments), facts)
    with output.saving(run / "next.png") as draft:
        picture.savefig(draft, format="png")
