r"""Batches: many tables, each a fit of its own, with one run a table in one folder.

    FOLDER/tables.json   what is to be fitted, and how; there before the first search starts
           NAME/         the run of a table
           summary.csv   a table a row, in their order: verdict, equations, error, seconds, or why there is no law; renewed as fits end

A fit that ended is never done again, one that was begun goes on from its checkpoint, whoever takes it up: so a batch may be interrupted, and
its workers may die. Where they are on several machines, tables and FOLDER must be on a file system that all of them see.
"""

from __future__ import annotations

import csv
import json
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cached_property
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from .. import __version__
from ..work.config import FitConfig
from ..work.crew import Crew
from ..work.errors import OptionError, RunError
from ..work.files import read_file, replacing, write_json
from ..work.progress import Progress
from .folder import locking, refuse_taken
from .formats import FORMAT
from .job import Ending, Job, is_finished, take_up
from .run import Run, load

LIST, SUMMARY = "tables.json", "summary.csv"
HEAD = ("table", "run", "verdict", "equations", "error", "seconds", "message")
PATIENCE = 60.0  # seconds in which a process that was given up for dead lets go of its run
RENEWED = 2.0  # seconds between two versions of the summary


@dataclass(frozen=True)
class Batch:
    """Jobs whose runs are in one folder."""

    folder: Path
    jobs: tuple[Job, ...]

    @classmethod
    def of(cls, tables: Sequence[Path], job: Job) -> Batch:
        """Do a job with every table, its run in the folder of the job; paths become absolute, as workers may be elsewhere."""
        folder, unseen = job.folder.absolute(), job.validate and job.validate.absolute()
        each = {folder / name: path.absolute() for path, name in zip(tables, name_runs(tables), strict=True)}
        return cls(folder, tuple(replace(job, table=t, folder=run, validate=unseen) for run, t in each.items()))

    def begin(self) -> None:
        """Write tables.json. Raises OptionError where the folder holds a batch, or a run or a file that would be overwritten."""
        if (self.folder / LIST).exists():
            cure = f"eqdisc resume {self.folder} goes on with it, or name another folder with --out"
            raise OptionError(f"{self.folder} holds a batch of tables already; {cure}.")
        if (self.folder / SUMMARY).exists():
            cure = "name another folder with --out"
            raise OptionError(f"{self.folder} holds a {SUMMARY} that would be overwritten; {cure}.")
        for job in self.jobs:
            refuse_taken(job.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        one = self.jobs[0]
        about = {
            "format": FORMAT,
            "eqdisc": __version__,
            "command": one.words,
            "config": one.config.as_dict(),
            "roles": one.roles,
            "validate": one.validate,
            "tables": [{"table": job.table, "run": job.folder.name} for job in self.jobs],
        }
        write_json(self.folder / LIST, about)

    @classmethod
    def read(cls, folder: Path) -> Batch:
        """Read tables.json of a folder. Raises RunError where it is not one that this version has written."""
        folder = folder.absolute()
        try:
            about = json.loads(read_file(folder / LIST))
            unseen = None if about["validate"] is None else Path(about["validate"])
            rest = FitConfig(**about["config"]), dict(about["roles"]), unseen, tuple(about["command"])
            places = ((Path(one["table"]), folder / Path(one["run"]).name) for one in about["tables"])
            jobs = tuple(Job(table, run, *rest) for table, run in places)
            if any(job.folder.parent != folder or job.folder.name == ".." for job in jobs):
                raise ValueError("a run is not in the folder")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OptionError) as error:
            raise RunError(f"{folder / LIST} is no list of tables of eqdisc {__version__} ({error}).") from None
        return cls(folder, jobs)

    @cached_property
    def left(self) -> tuple[Job, ...]:
        """The jobs that had not ended when this was first asked for."""
        return tuple(job for job in self.jobs if not is_finished(job.folder))

    def fit(self, crew: Crew, progress: Progress) -> Iterator[tuple[Job, Future[Ending]]]:
        """Have the crew do what is left; yield each job and its future, which is done, as they end. The summary keeps up.

        Raises RunError where another process does the same.
        """
        tasks = [(job, self._shared(job), progress) for job in self.left]
        ended = [job for job in self.jobs if job not in self.left]
        with locking(self.folder / ".lock", self.folder), _Summary(self.folder / SUMMARY, self.jobs) as summary:
            for job in ended:
                summary.add(job, load(job.folder).result)
            begin, words = time.monotonic(), str(crew)
            progress.show("tables", len(ended), len(self.jobs), words)
            for done, (number, future) in enumerate(crew.spread(fit_one, tasks), 1):
                job = self.left[number]
                verdict = summary.enter(job, future)
                rest = _in_words((time.monotonic() - begin) / done * (len(tasks) - done))
                progress.show("tables", len(ended) + done, len(self.jobs), f"{job.folder.name}: {verdict}{rest}")
                yield job, future

    def _shared(self, job: Job) -> list[Path]:
        """Return what whoever does a job must see: that which is to be seen here."""
        paths = self.folder / LIST, job.table, *([] if job.validate is None else [job.validate])
        return [path for path in paths if path.exists()]


def fit_one(job: Job, shared: Iterable[Path], progress: Progress) -> Ending:
    """Fit a table, or go on with it. Raises what `start` and `resume` do, and RunError where a path in `shared` cannot be seen."""
    for path in shared:
        if not path.exists():
            where = "put tables and run folders on a file system that all machines see, under the same name"
            raise RunError(f"the worker on {socket.gethostname()} does not see {path}; {where}.")
    notes: list[str] = []
    ending = take_up(job, progress, notes.append, PATIENCE)
    return Ending(Run(job.folder, ending.run.result), ending.interrupted, tuple(notes))  # what is soon sent


def _in_words(seconds: float) -> str:
    """Return how much time is left, nothing for none.

    >>> _in_words(40), _in_words(600), _in_words(9000), _in_words(0)
    (', about 40 s left', ', about 10 min left', ', about 2.5 h left', '')
    """
    for unit, size, digits in (("h", 3600, 1), ("min", 60, 0), ("s", 1, 0)):
        if seconds >= 1.5 * size or (unit == "s" and seconds > 0):
            return f", about {seconds / size:.{digits}f} {unit} left"
    return ""


def expand(tables: Iterable[Path]) -> list[Path]:
    """Return tables without repetition, patterns such as data/*.csv (** for folders in folders) replaced by the files that they match.

    Raises OptionError for a pattern that matches none.
    """
    found: list[Path] = []
    for path in tables:
        if path.exists() or not has_magic(str(path)):
            found.append(path)
            continue
        files = sorted(Path(name) for name in glob(str(path), recursive=True))
        if not any(file.is_file() for file in files):
            raise OptionError(f"no file matches {path}; check the folder and the pattern.")
        found += [file for file in files if file.is_file()]
    return list(dict.fromkeys(found))


def name_runs(tables: Iterable[Path]) -> list[str]:
    """Name each run after its table, with a number behind it where that is taken: tables of one name from several folders.

    >>> name_runs([Path("a.csv"), Path("b/a.csv"), Path("a-2.csv")])
    ['a', 'a-2', 'a-2-2']
    """
    taken = dict.fromkeys((LIST, SUMMARY))
    for path in tables:
        names = (path.stem if k == 1 else f"{path.stem}-{k}" for k in range(1, len(taken) + 2))
        taken[next(name for name in names if name not in taken)] = None
    return list(taken)[2:]


class _Summary:
    """The rows of summary.csv, written anew every few seconds and in the end."""

    def __init__(self, path: Path, jobs: Sequence[Job]) -> None:
        self.path, self.rows = path, {job.folder.name: dict.fromkeys(HEAD, "") for job in jobs}
        for job in jobs:
            self.rows[job.folder.name] |= {"table": str(job.table), "run": job.folder.name}
        self.written = 0.0

    def __enter__(self) -> _Summary:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()

    def enter(self, job: Job, future: Future[Ending]) -> str:
        """Fill in the row of a job that has ended, as `add` does."""
        if (error := future.exception()) is not None:
            return self.add(job, None, str(error) or type(error).__name__)
        ending = future.result()
        return self.add(job, ending.run.result, "interrupted" if ending.interrupted else "")

    def add(self, job: Job, result: Mapping[str, Any] | None, message: str = "") -> str:
        """Fill in the row of a job and return the word for it: the verdict, or failed."""
        row = self.rows[job.folder.name]
        row |= {"verdict": "failed" if result is None else str(result["verdict"]), "message": message}
        if result is not None:
            law = "; ".join(f"d{name}/d{result['time']} = {side}" for name, side in result["equations"].items())
            row |= {"equations": law, "error": result["errors"]["train"], "seconds": result["seconds"]}
        if time.monotonic() - self.written > RENEWED:
            self._write()
        return row["verdict"]

    def _write(self) -> None:
        with replacing(self.path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, HEAD, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows.values())
        self.written = time.monotonic()
