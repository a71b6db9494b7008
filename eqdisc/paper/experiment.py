"""An experiment: cells that are measured one after the other, rows that are kept as they come, a table and a picture of them.

A cell is a model on a task with all its seeds, which train side by side; its rows are appended to rows.csv at once. A run that was
interrupted measures what is missing, and goes on inside a cell from its checkpoint. Rows of other variants and budgets may stand in
the same file.
"""

from __future__ import annotations

import csv
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..work import files
from ..work.errors import OptionError, did_you_mean
from .training import Keeper

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VARIANTS = ("printed", "coded")
KEY = ("variant", "budget", "model", "task")
Row = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One model on one task; `cost` is what it takes in about seconds on one core, for the time that is left."""

    variant: str
    budget: str
    model: str
    task: str
    cost: float = 1.0

    @property
    def columns(self) -> dict[str, str]:
        """What names the cell in rows.csv."""
        return {name: getattr(self, name) for name in KEY}

    @property
    def file(self) -> str:
        """A name for files that belong to the cell."""
        return "-".join("".join(c if c.isalnum() else "_" for c in part) for part in self.columns.values())


@dataclass(frozen=True)
class Desk:
    """Where a cell may leave files, and how it says how far it is."""

    folder: Path
    keeper: Keeper
    tell: Callable[[int, int], None]


@dataclass(frozen=True)
class Experiment:
    """What is measured, how, and what is written about it.

    `measure(cell, desk)` returns the cell's rows, without the cell's own columns; `write(rows, folder)` returns a page in Markdown;
    `draw(rows, folder)` the picture.
    """

    title: str
    list_cells: Callable[[str, str], list[Cell]]
    measure: Callable[[Cell, Desk], list[Row]]
    write: Callable[[list[Row], Path], str]
    draw: Callable[[list[Row], Path], Figure]
    fields: tuple[str, ...]


def run(
    experiment: Experiment, variant: str, budget: str, folder: Path, tell: Callable[[float, str], None]
) -> Iterator[list[Row]]:
    """Measure the cells that have no rows yet and yield the rows of each; `tell(share, text)` says how far the run is."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "rows.csv"
    cells = experiment.list_cells(variant, budget)
    there = read_rows(path)
    wanted = [cell for cell in cells if not select(there, **cell.columns)]
    clock = _Clock(sum(cell.cost for cell in cells), sum(cell.cost for cell in wanted), tell)
    for cell in wanted:
        keeper = Keeper(folder / f"{cell.file}.checkpoint")
        rows = experiment.measure(cell, Desk(folder, keeper, partial(clock.show, cell)))
        append_rows(path, (*KEY, *experiment.fields), [cell.columns | row for row in rows])
        clock.passed += cell.cost
        yield rows


class _Clock:
    """Foretells the time that is left from what the cells so far have taken."""

    def __init__(self, total: float, left: float, tell: Callable[[float, str], None]) -> None:
        self.total, self.passed, self.tell = total, total - left, tell
        self.first, self.started = self.passed, time.monotonic()

    def show(self, cell: Cell, done: int, of: int) -> None:
        now = self.passed + cell.cost * done / max(of, 1)
        text = f"{cell.model}, {cell.task}"
        if now > self.first:
            left = (time.monotonic() - self.started) * (self.total - now) / (now - self.first)
            text += f", {write_time(left)} left"
        self.tell(now / self.total, text)


def write_time(seconds: float) -> str:
    """Return a time in words.

    >>> write_time(42.3), write_time(150), write_time(7300)
    ('42 s', '2 min 30 s', '2 h 1 min')
    """
    s = round(seconds)
    if s < 60:
        return f"{s} s"
    return f"{s // 60} min {s % 60} s" if s < 3600 else f"{s // 3600} h {s % 3600 // 60} min"


def append_rows(path: Path, fields: Sequence[str], rows: Sequence[Row]) -> None:
    """Append rows to a CSV that begins with a line of names."""
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields, restval="")
        if fresh:
            writer.writeheader()
        writer.writerows({name: _cell_of(value) for name, value in row.items()} for row in rows)


def _cell_of(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else json.dumps(value) if isinstance(value, list) else value


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a CSV, numbers as numbers; none where there is no file. Raises OptionError where it holds something else."""
    return [{name: _value_of(name, text) for name, text in row.items()} for row in files.read_rows(path, KEY)]


def _value_of(name: str, text: str) -> Any:
    if name in KEY:
        return text
    try:
        return float(text)
    except ValueError:
        return text


def select(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    """Return the rows with those values.

    >>> select([{"model": "npu", "seed": 0}, {"model": "nmu", "seed": 0}], model="nmu")
    [{'model': 'nmu', 'seed': 0}]
    """
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def groups(rows: Sequence[Row], **wanted: Sequence[Any]) -> Iterator[tuple[tuple[Any, ...], list[Row]]]:
    """Yield the rows with each combination of those values, the last one's first in turn, where there are any.

    >>> rows = [{"task": "+", "model": "npu"}, {"task": "x", "model": "nmu"}]
    >>> [values for values, _ in groups(rows, task=("x", "+"), model=("npu", "nmu"))]
    [('x', 'nmu'), ('+', 'npu')]
    """
    for values in itertools.product(*wanted.values()):
        some = select(rows, **dict(zip(wanted, values, strict=True)))
        if some:
            yield values, some


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table.

    >>> print(markdown(["a", "b"], [["1", "2"]]))
    | a | b |
    |-|-|
    | 1 | 2 |
    """
    rule = "|" + "-|" * len(head)
    return "\n".join([f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(line)} |" for line in lines)])


def write_results(experiment: Experiment, rows: list[Row], folder: Path) -> str:
    """Write table.md and picture.png of one variant and budget, and return the page."""
    from datetime import date

    import torch

    from .. import __version__

    variant, budget = rows[0]["variant"], rows[0]["budget"]
    head = f"eqdisc {__version__}, PyTorch {torch.__version__}, {date.today()}; as {variant}, {budget} budget"
    page = f"# {experiment.title}\n\n{head}\n\n{experiment.write(rows, folder)}"
    stem = f"{variant}-{budget}"
    (folder / f"{stem}.md").write_text(page, encoding="utf-8")
    experiment.draw(rows, folder).savefig(folder / f"{stem}.png")
    return page


def find(target: str) -> Experiment:
    """Return the experiment behind a figure or table. Raises OptionError for one that is not there."""
    from importlib import import_module

    if target not in TARGETS:
        raise OptionError(
            f"there is no target {target!r}.{did_you_mean(target, TARGETS)} Targets are {', '.join(TARGETS)}."
        )
    return import_module(f".{TARGETS[target]}", __package__).EXPERIMENT


TARGETS = {
    "fig3": "surfaces",
    "fig4": "epidemic",
    "fig5": "epidemic",
    "fig6": "simple",
    "tableA2": "simple",
    "fig7": "large",
    "table1": "large",
    "nalm": "single",
}
