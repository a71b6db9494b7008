"""What a long search says while it runs, and how it is asked to stop.

`discover` is pure: it prints nothing and writes nothing. It tells a `Journal` where it stands; the command turns
that into progress, checkpoints and a front that can be read while the search runs.
"""

from __future__ import annotations

import time
from typing import Any


class Journal:
    """A journal that keeps nothing; subclasses show, write and interrupt.

    >>> Journal().record("matching", done=1, total=3)
    >>> Journal().stop
    False
    """

    @property
    def stop(self) -> bool:
        """True once the search should end with the best it has (Ctrl-C, time limit)."""
        return False

    def record(
        self, stage: str, done: int | None = None, total: int | None = None, message: str = "", **facts: Any
    ) -> None:
        """Take note that `stage` has finished `done` of `total` steps."""

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Keep `state` (arrays, numbers, texts) under `name`, so that an interrupted search can go on."""

    def load(self, name: str) -> dict[str, Any] | None:
        """Return what was kept under `name`, or None."""
        return None


class TimedJournal(Journal):
    """A journal that asks the search to stop when `seconds` have passed; None is no limit.

    >>> TimedJournal(60.0).stop, TimedJournal(None).stop, TimedJournal(0.0).stop
    (False, False, True)
    """

    def __init__(self, seconds: float | None) -> None:
        self.deadline = None if seconds is None else time.monotonic() + seconds

    @property
    def stop(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline
