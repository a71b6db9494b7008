"""The timing of a fit (`--profile`): seconds by stage and by step, as its journal passes them.

Stages follow one another and add up to the whole process; steps are what the search asks its journal for (`Journal.recall`), many
times and in several stages. What a crew does in other processes counts as waiting for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Timing:
    """Adds up seconds: `end` closes a stage, `step` times one step.

    >>> timing = Timing()
    >>> with timing.step("fit"):
    ...     pass
    >>> timing.end("search")
    >>> list(timing.stages), timing.steps["fit"][0]
    (['search'], 1)
    """

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self.steps: dict[str, tuple[int, float]] = {}
        self._since = time.perf_counter()

    @classmethod
    def of_process(cls) -> Timing:
        """Return a timing whose first stage began with this process, as its processor time so far tells."""
        timing = cls()
        timing._since -= time.process_time()
        return timing

    def end(self, stage: str) -> None:
        """Count the time since the last stage ended to this one."""
        now = time.perf_counter()
        self.stages[stage] = self.stages.get(stage, 0.0) + now - self._since
        self._since = now

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count the time within to a step, once more."""
        began = time.perf_counter()
        try:
            yield
        finally:
            times, seconds = self.steps.get(name, (0, 0.0))
            self.steps[name] = times + 1, seconds + time.perf_counter() - began


__all__ = ["Timing"]
