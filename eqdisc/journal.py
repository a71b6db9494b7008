"""What a long search says while it runs, and how it is asked to stop.

`discover` is pure: it prints nothing and writes nothing. It tells a `Journal` where it stands; the command turns
that into progress, checkpoints and a front that can be read while the search runs.
"""

from __future__ import annotations

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
