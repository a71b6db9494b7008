r"""What a long search says while it runs, how it is asked to stop, and what it need not do twice.

`discover` is pure: it prints nothing and writes nothing. It tells a `Journal` where it stands; the command turns
that into progress, checkpoints and a front that can be read while the search runs.

A search is deterministic, so that what it has to remember is no state, but the results of its dear steps. Each step is asked of
the journal: `recall` gives what the same work on the same inputs gave before, or has it done and keeps it. An interrupted search that
runs again finds its finished steps and goes the same way to the same end. Steps that can be done side by side are spread over its crew.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from .crew import Crew, Task, side_by_side
from .memory import resident

T = TypeVar("T")
# of the time allowed, what the search may take, and after what nothing is added to its answer; less the journal's reserve
SEARCHING, ENDING = 0.85, 0.95
STEP, FULL = 0.1, 0.9  # of the memory allowed, what one step may take, and where the search ends
ROOM = 5e8  # bytes that the arrays of one step may take: more lanes than fit in are worked on in turn
NEAR = 4e7  # of these, on a processor: what stays near it takes two thirds of the time
Packed = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Form(Generic[T]):
    """How the result of a step is written as arrays by name, and read again: `unpack(pack(x))` is x to the last bit."""

    pack: Callable[[T], Packed]
    unpack: Callable[[Packed], T]


class Journal:
    """A journal that keeps nothing; subclasses show, keep and interrupt.

    >>> Journal().record("matching", done=1, total=3)
    >>> Journal().stop
    False
    """

    spent = 0.0  # seconds that went into the search before this process took it up
    room = ROOM
    crew = Crew()

    def __reduce__(self) -> tuple[Any, ...]:
        """Come to another process as a journal that keeps nothing."""
        return Journal, ()

    @property
    def stop(self) -> bool:
        """True once the search should end with the best it has (Ctrl-C, time limit)."""
        return False

    @property
    def late(self) -> bool:
        """True once the time allowed is spent, and what can be left out of the answer should be."""
        return False

    @property
    def cause(self) -> str:
        """What asks the search to stop, once something does."""
        return "whoever ran it"

    def record(
        self, stage: str, done: int | None = None, total: int | None = None, message: str = "", **facts: Any
    ) -> None:
        """Take note that `stage` has finished `done` of `total` steps."""

    def recall(self, step: str, inputs: Callable[[], Any], work: Callable[[], T], form: Form[T]) -> T:
        """Return what `work` gave for the same `inputs` (whatever `digest` takes) in a step of this name, or have it done."""
        return work()

    def recall_each(
        self, step: str, inputs: Sequence[Callable[[], Any]], works: Sequence[Callable[[], T]], form: Form[T]
    ) -> Iterator[T]:
        """Yield in their order what `recall` gives for each of the works, those that must be done side by side."""
        return side_by_side(works)

    def spread(
        self, step: str, inputs: Callable[[], Any], function: Callable[..., T], tasks: Sequence[Task], form: Form[T]
    ) -> Iterator[tuple[int, T]]:
        """Have `function` called with each of `tasks` by the crew; yield (number, result) as they are ready, until told to stop.

        `inputs` name what all tasks have in common, for whoever keeps results.
        """
        for number, future in self.crew.spread(function, tasks, lambda: self.stop):
            yield number, future.result()


class TimedJournal(Journal):
    """A journal that asks the search to stop in time to end after `seconds`, counted from the moment `since`, or when the process
    holds more than `memory` gigabytes; None is no limit.

    >>> TimedJournal(60.0).stop, TimedJournal(None).stop, TimedJournal(0.0).stop
    (False, False, True)
    """

    reserve = 0.0  # seconds that are needed after the search

    def __init__(self, seconds: float | None, since: float | None = None, memory: float | None = None) -> None:
        self.seconds, self.since, self.memory = seconds, time.monotonic() if since is None else since, memory
        self.room = ROOM if memory is None else min(ROOM, STEP * 1e9 * memory)

    def __reduce__(self) -> tuple[Any, ...]:
        """Come to another process, whose clock is another, with the same time left."""
        return _arrive, (self.seconds, time.monotonic() - self.since, self.reserve, self.memory)

    @property
    def stop(self) -> bool:
        return self._spent(SEARCHING) or (self.memory is not None and resident() > FULL * self.memory)

    @property
    def late(self) -> bool:
        return self._spent(ENDING)

    @property
    def cause(self) -> str:
        return "the time allowed" if self._spent(SEARCHING) else "the memory allowed"

    def _spent(self, share: float) -> bool:
        return self.seconds is not None and time.monotonic() - self.since >= share * self.seconds - self.reserve


def _arrive(seconds: float | None, spent: float, reserve: float, memory: float | None) -> TimedJournal:
    journal = TimedJournal(seconds, time.monotonic() - spent, memory)
    journal.reserve = reserve
    return journal


class Finishing(Journal):
    """A journal for work that is done to its end although the search was asked to stop; the rest goes to the journal it stands for."""

    def __init__(self, journal: Journal) -> None:
        self.room = journal.room
        vars(self).update({name: getattr(journal, name) for name in ("record", "recall", "recall_each")})


class Timing:
    """Adds up the seconds of a fit (`--profile`): `end` closes a stage, `step` times one step.

    Stages follow one another and add up to the whole process; steps are what the search asks its journal for (`Journal.recall`), many
    times and in several stages. What a crew does in other processes counts as waiting for it.

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


def room_on(device: str, room: float = ROOM) -> float:
    """Return how much of the room the arrays of one step should take on a device, in bytes."""
    return min(room, NEAR) if device.startswith("cpu") else room


def digest(*values: Any) -> bytes:
    """Return 16 bytes that name values to the last bit: numbers, texts, arrays, tensors, records and collections of them.

    >>> digest(1.0, np.zeros(2)) == digest(1.0, np.zeros(2)), digest(1.0) == digest(1)
    (True, False)
    """
    state = hashlib.blake2b(digest_size=16)
    for value in values:
        _feed(state, value)
    return state.digest()


def _feed(state: Any, value: Any) -> None:
    if value is None or isinstance(value, (bool, int, float, str, bytes, np.generic)):
        plain = value if isinstance(value, bytes) else repr(value).encode()
        state.update(f"{type(value).__name__}:{len(plain)}:".encode() + plain)
    elif isinstance(value, np.ndarray) or hasattr(value, "detach"):
        array = value if isinstance(value, np.ndarray) else value.detach().cpu().numpy()
        state.update(f"array:{array.dtype.str}:{array.shape}:".encode())
        state.update(np.ascontiguousarray(array).data if array.size else b"")
    elif is_dataclass(value):
        state.update(type(value).__name__.encode())
        _feed(state, [getattr(value, f.name) for f in fields(value)])
    elif isinstance(value, Mapping):
        _feed(state, list(value.items()))
    elif isinstance(value, (list, tuple)):
        state.update(f"list:{len(value)}:".encode())
        for part in value:
            _feed(state, part)
    elif isinstance(value, frozenset):
        _feed(state, sorted(value))
    elif " at 0x" in (text := repr(value)):
        raise TypeError(f"a {type(value).__name__} has no digest")
    else:
        state.update(text.encode())
