"""Options: what several commands take, and how a command answers."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from .. import __version__
from ..work.errors import OptionError, printable
from ..work.files import as_json, replacing

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..runs.run import Run
    from ..work.crew import Crew

TABLE, SEARCH, WORK = Group("Table", sort_key=1), Group("Search", sort_key=2), Group("Work", sort_key=3)
OUTPUT = Group("Output", sort_key=4)

saved, sought = partial(Parameter, group=OUTPUT), partial(Parameter, group=SEARCH)
Table = Annotated[Path, Parameter(help="A table (.csv, .parquet, .xlsx).")]
Folder = Annotated[Path, Parameter(help="Folder of a finished fit.")]


@Parameter(name="*", group=OUTPUT)
@dataclass(frozen=True, kw_only=True)
class Output:
    """What a command says."""

    json: Annotated[bool, Parameter(negative="")] = False
    """Print the answer as JSON."""

    quiet: Annotated[bool, Parameter(negative="")] = False
    """Neither progress nor warnings on standard error."""

    def tell(self, text: str) -> None:
        """Write a line to standard error."""
        if not self.quiet:
            print(printable(text), file=sys.stderr, flush=True)

    def answer(self, text: str, facts: Any, *, one_of_many: bool = False) -> None:
        """Write the answer to standard output: the text, or the facts as JSON, on one line if others follow."""
        if self.json:
            text = json.dumps(as_json(facts), indent=None if one_of_many else 2, ensure_ascii=False)
        if sys.stdout.isatty():  # no name moves the cursor
            text = "\n".join(printable(line) for line in text.split("\n"))
        try:
            print(text, flush=True)
        except BrokenPipeError:  # whoever reads has enough (head); the status still counts
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    @contextmanager
    def saving(self, path: Path) -> Iterator[Path]:
        """Give a path to write to, as `replacing` does, and say where it was saved."""
        with replacing(path) as draft:
            yield draft
        self.tell(f"saved in {path}")

    def save(self, path: Path, text: str) -> None:
        """Replace a file by a text, and say so."""
        with self.saving(path) as draft:
            draft.write_text(text, encoding="utf-8")

    def load(self, folder: Path) -> Run:
        """Read a run, and warn of one that another version wrote."""
        from ..runs.run import load

        run = load(folder)
        written = run.result.get("eqdisc", __version__)
        if written != __version__:
            self.tell(f"warning: {folder} was written by eqdisc {written}; this is {__version__}.")
        return run

    def read(self, path: Path, **roles: Any) -> Dataset:
        """Read a table in these roles and pass on what was mended."""
        from ..data.tables import read_table

        data = read_table(path, **roles)
        for note in data.notes:
            self.tell(f"warning: {note}")
        return data


@Parameter(name="*", group=WORK)
@dataclass(frozen=True, kw_only=True)
class Work:
    """Who does what can be done side by side: tables, replicates of a bootstrap, random starts. The result is the same."""

    workers: int | None = None
    """Processes on this machine [default: 1]."""

    scheduler: str | None = None
    """Dask scheduler whose workers do it, tcp://host:8786; they must see the same files."""

    def crew(self) -> Crew:
        """Return them."""
        from ..work.crew import Crew

        if self.workers is not None and self.scheduler is not None:
            raise OptionError("--workers and --scheduler both say who does the work; use one of them.")
        if self.workers is not None and self.workers < 1:
            raise OptionError(f"--workers is {self.workers}; it must be 1 at least.")
        return Crew(self.workers or 1, self.scheduler)


@Parameter(name="*", group=TABLE)
@dataclass(frozen=True, kw_only=True)
class Roles:
    """Which columns of a table are what."""

    time: str | None = None
    """Column of times [found by: t or time, else the first]."""

    trajectory: str | None = None
    """Column that tells trajectories apart [found by: trajectory]."""

    states: str | None = None
    """Columns that the law is about, with commas [found by: every other column of numbers]."""

    inputs: str | None = None
    """Columns that are known and not explained, with commas: u is linear between samples, u:hold keeps its last value."""

    group: str | None = None
    """Column of groups, which share a law but not every coefficient; without trajectories each group is one."""

    units: str | None = None
    """Units of columns, S=persons,t=day, beside those in the header, S [persons]."""
