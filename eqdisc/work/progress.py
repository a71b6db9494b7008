"""Progress: what is shown while something long runs: a bar on a terminal, plain lines in a log, nothing when asked to be quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from ..work.journal import Journal

if TYPE_CHECKING:
    from rich.progress import TaskID

PAUSE = 5.0  # seconds between two lines of one stage in a log


class Progress:
    """Show nothing; the base of what shows something, and what it is in another process."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Progress, ()

    def show(self, stage: str, done: int | None, total: int | None, message: str) -> None:
        """Show that `stage` has finished `done` of `total` steps."""

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Leave the terminal to others for a while."""
        yield

    def close(self) -> None:
        """Leave the terminal as it was."""


class LogProgress(Progress):
    """Write a line when a stage begins, when it has ended, and every few seconds between."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.started = stream, time.monotonic()
        self.stage, self.last = "", 0.0

    def show(self, stage: str, done: int | None, total: int | None, message: str) -> None:
        now = time.monotonic()
        ended = done is not None and done == total
        if stage == self.stage and not ended and now - self.last < PAUSE:
            return
        self.stage, self.last = stage, now
        steps = "" if done is None else f" {done}" if total is None else f" {done}/{total}"
        text = f"{now - self.started:7.1f} s  {stage}{steps}" + (f"  {message}" if message else "")
        print(text, file=self.stream, flush=True)


class BarProgress(Progress):
    """Draw one bar for the stage that runs; it goes when the search has ended."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        texts = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[message]}", markup=False)
        columns = SpinnerColumn(), texts[0], BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), texts[1]
        self.bars = Bars(*columns, console=Console(file=stream), transient=True)
        self.task: TaskID = self.bars.add_task("starting", total=None, message="")
        self.bars.start()

    def show(self, stage: str, done: int | None, total: int | None, message: str) -> None:
        self.bars.update(self.task, description=stage, completed=done or 0, total=total, message=message)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        self.bars.stop()
        try:
            yield
        finally:
            self.bars.start()

    def close(self) -> None:
        self.bars.stop()


@contextmanager
def open_progress(quiet: bool, stream: TextIO | None = None) -> Iterator[Progress]:
    """Give what shows progress on `stream` (standard error), and clear it away in the end."""
    stream = stream or sys.stderr
    progress = Progress() if quiet else BarProgress(stream) if stream.isatty() else LogProgress(stream)
    try:
        yield progress
    finally:
        progress.close()


class ShownJournal(Journal):
    """A journal that shows and keeps nothing."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def record(
        self, stage: str, done: int | None = None, total: int | None = None, message: str = "", **facts: Any
    ) -> None:
        self.progress.show(stage, done, total, message)
