"""Jobs: a search with a run folder, begun, gone on with after an interruption, or done again to see whether it ends alike."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..data.tables import read_table
from ..work.checkpoint import Checkpoint, KeptJournal
from ..work.compiler import announcing
from ..work.config import FitConfig
from ..work.crew import Crew
from ..work.errors import DataError, EqdiscError, OptionError
from ..work.files import as_json
from ..work.journal import Journal, Timing
from ..work.memory import loading, refuse_large
from ..work.progress import Progress, ShownJournal
from .folder import RunFolder, create_run, holding, refuse_taken, versions_of
from .run import Begun, Run, differ, hash_file, load, read_begun

if TYPE_CHECKING:
    from ..data.dataset import Dataset

CLOSE = 1e-6  # relative: numbers that differ by less are of the same law, fitted on another machine
PASSING = ("seconds", "versions", "eqdisc", "device")  # facts of a result that belong to the time it was made


class RunJournal(KeptJournal):
    """The journal of a fit with a run folder.

    `interrupted` is set by Ctrl-C; `stop` is true then, and when the time or the memory that `config` allows is spent. A record with
    the fact `front` (entries as in result.json) replaces front.csv.
    """

    interrupted = False

    def __init__(
        self,
        folder: RunFolder,
        progress: Progress,
        checkpoint: Checkpoint,
        config: FitConfig = FitConfig(),
        since: float | None = None,
        timing: Timing | None = None,
    ) -> None:
        super().__init__(checkpoint, config.time_limit, since, config.memory, timing)
        self.folder, self.progress = folder, progress

    @property
    def stop(self) -> bool:
        return self.interrupted or super().stop

    @property
    def late(self) -> bool:
        return self.interrupted or super().late

    @property
    def cause(self) -> str:
        return "Ctrl-C" if self.interrupted else super().cause

    def record(
        self, stage: str, done: int | None = None, total: int | None = None, message: str = "", **facts: Any
    ) -> None:
        self.timing.end(stage)
        self.progress.show(stage, done, total, message)
        if facts.get("front"):
            self.folder.write_front(facts["front"])


@contextmanager
def obeying_interrupts(journal: RunJournal) -> Iterator[None]:
    """Let the first Ctrl-C ask the journal's search to stop, and the second end the program at once."""

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if journal.interrupted:
            raise KeyboardInterrupt
        journal.interrupted = True
        with suppress(RuntimeError):  # the signal came in the middle of another write to the same stream
            journal.progress.show("stopping", None, None, "the best so far will be saved; Ctrl-C again ends at once")

    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # whoever started this process handles it
        yield
        return
    try:
        former = signal.signal(signal.SIGINT, on_interrupt)
    except ValueError:  # not the main thread: whoever runs it handles Ctrl-C
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


@dataclass(frozen=True)
class Job:
    """One table and the run folder that its law goes to; `roles` are those of `read_table`."""

    table: Path
    folder: Path
    config: FitConfig = FitConfig()
    roles: Mapping[str, Any] = field(default_factory=dict)
    validate: Path | None = None
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ending:
    """How a fit ended: its run, whether it was interrupted, and what is to be said of its table."""

    run: Run
    interrupted: bool = False
    notes: tuple[str, ...] = ()


def start(
    job: Job,
    progress: Progress,
    tell: Callable[[str], None],
    crew: Crew = Journal.crew,
    timing: Timing | None = None,
) -> Ending:
    """Fit a table. `tell` passes on what was mended in the table."""
    since, timing = time.monotonic(), timing or Timing()
    timing.end("starting")
    refuse_taken(job.folder)
    refuse_large(job.table, job.config.memory)
    data = _read(job.table, job.roles, tell)
    unseen = None if job.validate is None else _read(job.validate, job.roles, tell)
    _tell_sample(data if job.config.hidden else data.sample(), data, tell)
    with holding(job.folder):
        folder = create_run(job.folder, data, job.config, source=job.table, words=job.words, unseen=unseen)
        try:
            begun = Begun(data, unseen, job.config, hash_file(job.table))
            timing.end("reading")
            return _search(folder, begun, progress, crew, timing, since)
        except (DataError, OptionError):
            folder.discard()
            raise


def resume(path: Path, progress: Progress, crew: Crew = Journal.crew) -> Ending:
    """Go on with a run. What is finished is left as it is."""
    begun = read_begun(path)
    if is_finished(path):
        return Ending(load(path))
    with holding(path):
        return Ending(load(path)) if is_finished(path) else _search(RunFolder(path), begun, progress, crew, Timing())


def take_up(job: Job, progress: Progress, tell: Callable[[str], None], patience: float) -> Ending:
    """Fit a table, or go on with what was begun of it; what may be asked for until it is done, by whoever does it.

    Waits for `patience` in seconds where another process seems to be at it still.
    """
    begun = job.folder / "config.json"  # the last that is written before a search starts
    if job.folder.exists():
        with holding(job.folder, patience):
            if not begun.exists():
                RunFolder(job.folder).discard()
    return resume(job.folder, progress) if begun.exists() else start(job, progress, tell)


def is_finished(path: Path) -> bool:
    """Tell whether a run has its result, and no steps of a search that may go on."""
    return (path / "result.json").exists() and not RunFolder(path).steps.exists()


def _read(path: Path, roles: Mapping[str, Any], tell: Callable[[str], None]) -> Dataset:
    data = read_table(path, **roles)
    for note in data.notes:
        tell(f"warning: {note}")
    return data


def _tell_sample(part: Dataset, data: Dataset, tell: Callable[[str], None]) -> None:
    if len(part) < len(data):
        tell(
            f"{data.file}: law, numbers and intervals are those of {len(part):,} of {len(data):,} trajectories, evenly chosen "
            f"({part.rows:,} of {data.rows:,} rows); starts and errors are those of all."
        )


def _search(
    folder: RunFolder, begun: Begun, progress: Progress, crew: Crew, timing: Timing, since: float | None = None
) -> Ending:
    """Search and save."""
    checkpoint = Checkpoint(folder.steps, {"eqdisc": __version__, "versions": versions_of()})
    journal = RunJournal(folder, progress, checkpoint, begun.config, since, timing)
    journal.crew = crew
    progress.show("loading", None, None, "")
    before = time.monotonic()
    with loading():
        from ..discovery import discover  # torch is loaded here, with config.json and data.csv in place

    journal.reserve = time.monotonic() - before  # printing, drawing and saving take about as long
    timing.end("loading")
    wait = partial(progress.show, "compiling", None, None, "half a minute, for the first fit only")
    try:
        with obeying_interrupts(journal), announcing(wait):
            found = discover(begun.data, begun.config, validate=begun.unseen, journal=journal)
    except EqdiscError:
        if journal.interrupted:
            raise KeyboardInterrupt from None
        raise
    finally:
        checkpoint.close()
    timing.end("verdict")
    progress.show("saving", None, None, "")
    run = folder.write_discovery(found, begun.sha256, keep_checkpoint=journal.interrupted)
    timing.end("saving")
    return Ending(run, journal.interrupted)


@dataclass(frozen=True)
class Repetition:
    """How a search that was done again compares: what differs, by its place in result.json, and the largest relative change of a number."""

    differences: tuple[str, ...]
    change: float

    @property
    def same(self) -> bool:
        """Whether it ended with the same law: nothing differs but numbers, and these by less than a millionth."""
        return not self.differences or self.change < CLOSE

    @property
    def sentence(self) -> str:
        """What to say of it."""
        if not self.differences:
            return "the same result, to the last bit"
        where = ", ".join(self.differences[:4]) + (", ..." if len(self.differences) > 4 else "")
        if self.same:
            return f"the same law; numbers differ by {self.change:.1g} of themselves at most ({where})"
        return f"another result: {where} differ"


def repeat(path: Path, progress: Progress) -> Repetition:
    """Search again from what a finished run began with, and compare with its result.json."""
    run, begun = load(path), read_begun(path)
    from ..discovery import discover

    found = discover(begun.data, begun.config, validate=begun.unseen, journal=ShownJournal(progress))
    now = as_json(found.result())
    before = {key: value for key, value in run.result.items() if key not in PASSING}
    before["data"] = {key: value for key, value in before["data"].items() if key in now["data"]}
    differences = dict(differ(before, {key: value for key, value in now.items() if key not in PASSING}))
    return Repetition(tuple(differences), max(differences.values(), default=0.0))
