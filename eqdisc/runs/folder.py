"""Folder: the folder of one fit while it is written, complete at every moment.

    RUN/config.json  data.csv  validate.csv   there before the search starts; config.json is the last of them
        checkpoint/  front.csv                while it runs
        result.json  equations.tex  front.csv  field.safetensors  fit.png

Every file is written beside its place and moved there in one step, so that a reader never meets half a file; whoever writes holds
the folder's lock (`holding`).
"""

from __future__ import annotations

import csv
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..data.dataset import Dataset
from ..data.tables import hash_file, write_table
from ..judge.card import write_latex
from ..work.config import FitConfig
from ..work.errors import OptionError, RunError
from ..work.files import replacing, write_json, write_text
from .formats import FORMAT
from .run import Run

if TYPE_CHECKING:
    from ..judge.finding import Finding

PACKAGES = ("torch", "sympy", "scipy", "numpy", "pandas")
FILES = (
    "config.json",
    "data.csv",
    "validate.csv",
    "front.csv",
    "checkpoint",
    "result.json",
    "equations.tex",
    "field.safetensors",
    "fit.png",
    "error.log",
)


@dataclass(frozen=True)
class RunFolder:
    """The folder of a fit that is being written."""

    path: Path

    def write_front(self, entries: Sequence[Mapping[str, Any]], selected: int | None = None) -> None:
        """Replace front.csv: one law a row, as in result.json's `front`; the pick has a 1."""
        states = list(entries[0]["equations"]) if entries else []
        keys = ("complexity", "parameters", "train", "unseen", "description_length", "status")
        with replacing(self.path / "front.csv") as draft, draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["pick", *keys, *(f"d{name}/dt" for name in states)])
            for k, entry in enumerate(entries):
                sides = (entry["equations"][name] for name in states)
                writer.writerow([int(k == selected), *map(entry.get, keys), *sides])

    @property
    def steps(self) -> Path:
        """The log of the search's finished steps (`checkpoint`)."""
        return self.path / "checkpoint" / "steps"

    def write_discovery(self, found: Finding, sha256: str | None = None, keep_checkpoint: bool = False) -> Run:
        """Write everything a fit ends with, result.json first, which is the answer, and return it as a run.

        `sha256` is that of the table that was fitted; the checkpoint goes unless it is kept for an interrupted search.
        """
        run = Run.of(found, self.path, {"sha256": sha256 or hash_file(self.path / "data.csv")})
        write_json(self.path / "result.json", run.result)
        write_text(self.path / "equations.tex", write_latex(run.result, run.equations))
        self.write_front(run.front, run.result["selected"])
        if found.chain is not None:
            from ..units.chain import save_chain

            with replacing(self.path / "field.safetensors") as draft:
                save_chain(found.chain, draft)
        self._draw(run)
        if not keep_checkpoint:
            self.steps.unlink(missing_ok=True)
            with suppress(OSError):  # the lock goes last, with whoever holds it
                self.steps.parent.rmdir()
        return run

    def _draw(self, run: Run) -> None:
        from .plotting import new_figure, plot_fit

        figure, axes = new_figure(len(run.states))
        curves = run.simulate(smooth=True, most=len(run.shown))
        plot_fit(run.shown, curves, equations=run.equations, axes=axes)
        with replacing(self.path / "fit.png") as draft:
            figure.savefig(draft)

    def discard(self) -> None:
        """Remove what was written here, and the folder if nothing else is in it: a refusal leaves no run."""
        shutil.rmtree(self.path / "checkpoint", ignore_errors=True)
        for name in set(FILES) - {"checkpoint"}:
            (self.path / name).unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()


@contextmanager
def holding(path: Path, patience: float = 0.0) -> Iterator[None]:
    """Keep every other process out of a run folder; the lock goes with the process, however it ends.

    Raises RunError when another one holds it for longer than `patience` in seconds.
    """
    place = path / "checkpoint" / "lock"
    with locking(place, path, patience):
        try:
            yield
        finally:
            if (path / "result.json").exists() and not RunFolder(path).steps.exists():
                shutil.rmtree(place.parent, ignore_errors=True)


@contextmanager
def locking(place: Path, path: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock `place` of a folder `path`; raises RunError as `holding` does."""
    from filelock import FileLock, Timeout

    place.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place)
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        raise RunError(f"{path} is being written by another process; wait until that has ended.") from None
    try:
        yield
    finally:
        lock.release()


def create_run(
    path: Path,
    data: Dataset,
    config: FitConfig,
    *,
    source: str | Path | None = None,
    words: Sequence[str] = (),
    unseen: Dataset | None = None,
) -> RunFolder:
    """Make the folder of a fit with config.json, data.csv and what it is validated on; `words` is the command line it came from.

    Raises OptionError when the folder holds a run or a file that a run would overwrite.
    """
    refuse_taken(path)
    path.mkdir(parents=True, exist_ok=True)
    for name, table in (("data.csv", data), ("validate.csv", unseen)):
        if table is not None:
            with replacing(path / name) as draft:
                write_table(table, draft)
    about = {
        "format": FORMAT,
        "eqdisc": __version__,
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": list(words),
        "data": {"file": data.file, "sha256": None if source is None else hash_file(source), "notes": list(data.notes)},
        "time": data.time,
        "states": list(data.states),
        "inputs": [f"{name}:hold" if name in data.held else name for name in data.inputs],
        "group": data.group,
        "units": dict(data.units),
        "config": config.as_dict(),
        "versions": {"python": platform.python_version()} | versions_of(),
        "platform": platform.platform(),
        "fitted": hash_file(path / "data.csv"),
        "validate": None if unseen is None else unseen.file,
    }
    write_json(path / "config.json", about)
    return RunFolder(path)


def refuse_taken(path: Path) -> None:
    """Raise OptionError unless a run can be written to `path` without touching anything that is there."""
    if path.exists() and not path.is_dir():
        raise OptionError(f"--out {path} is a file; name a folder.")
    taken = [name for name in FILES if (path / name).exists() and not _only_locked(path / name)]
    if {"result.json", "config.json"} & set(taken):
        state = "a run" if "result.json" in taken else "a run without a result"
        raise OptionError(f"{path} holds {state} already; name another folder with --out or remove it.")
    if taken:
        raise OptionError(f"{path} holds a {taken[0]} that the run would overwrite; name another folder with --out.")


def _only_locked(path: Path) -> bool:
    """Tell whether this is the checkpoint of a run in which nothing stands yet."""
    return path.name == "checkpoint" and path.is_dir() and {p.name for p in path.iterdir()} <= {"lock"}


def default_folder(source: str | Path, parent: Path = Path("runs")) -> Path:
    """Return runs/<data name>-<time>, with a number behind it where that is taken."""
    name = f"{Path(source).stem}-{datetime.now():%Y%m%d-%H%M%S}"
    return next(p for k in range(1, 10**6) if not (p := parent / (name if k == 1 else f"{name}-{k}")).exists())


def versions_of(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of installed packages by name; none is loaded."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
