r"""Checkpoint: the finished steps of a search in one file that is only ever appended to.

    line      what wrote it, as JSON: steps of another version, on another kind of machine, need not agree to the last bit
    record    key (16 bytes)  digest (16)  seconds (8)  length (8)  content (length)

A record is written whole when its step has ended, and forced to the disk every two seconds, so that a process that is killed loses the
step that it was in, and a machine that loses its power two seconds. A record whose digest does not fit, such as half a one at the end, and
whatever follows it are cut off when the file is opened. The content is safetensors: arrays, nothing that could be executed.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from .crew import Task, side_by_side
from .errors import RunError
from .files import refuse_strange
from .journal import Form, Packed, T, TimedJournal, Timing, digest

INTERVAL = 2.0  # seconds after which what was written is forced to the disk
LONGEST_HEAD = 10_000
LARGEST = 2**40  # bytes of a log
_RECORD = struct.Struct("<16s16sdQ")


class Checkpoint:
    """The log of one run's search: `get` what is there, `put` what is new.

    Raises RunError where it cannot be written; what is in it stays good.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path, self.spent = path, 0.0
        self._places: dict[bytes, tuple[int, int]] = {}
        self._started = self._forced = time.monotonic()
        self._file = self._open(json.dumps({"checkpoint": 1, "machine": platform.machine(), **about}).encode() + b"\n")
        self._base = self.spent

    def _open(self, head: bytes) -> IO[bytes]:
        path = self.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                refuse_strange(path, LARGEST)
            known = path.exists() and _starts_with(path, head)
            file = path.open("r+b" if known else "w+b", buffering=0)
            self._end = self._scan(file, len(head)) if known else file.write(head)
            file.truncate(self._end)
        except OSError as error:
            raise self._refusal(error) from None
        return file

    def _scan(self, file: IO[bytes], start: int) -> int:
        """Learn where each record is; return the end of the last good one."""
        end = start
        file.seek(start)
        for key, seal, spent, content in _read_records(file):
            if _seal(key, spent, content) != seal:
                break
            self._places[key] = (end + _RECORD.size, len(content))
            self.spent, end = spent, end + _RECORD.size + len(content)
        return end

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: bytes) -> Packed | None:
        """Return the arrays that were put under a key, or None."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        if key not in self._places:
            return None
        place, length = self._places[key]
        self._file.seek(place)
        try:
            return load(self._file.read(length))
        except (SafetensorError, ValueError, LookupError, TypeError, AttributeError):  # of kinds that NumPy lacks
            return None

    def put(self, key: bytes, arrays: Packed) -> None:
        """Keep arrays under a key."""
        from safetensors.numpy import save

        content = save({name: np.ascontiguousarray(v) for name, v in arrays.items()})
        self.spent = self._base + time.monotonic() - self._started
        record = _RECORD.pack(key, _seal(key, self.spent, content), self.spent, len(content)) + content
        try:
            self._file.seek(self._end)
            _write(self._file, record)
            if time.monotonic() - self._forced > INTERVAL:
                os.fsync(self._file.fileno())
                self._forced = time.monotonic()
        except OSError as error:
            self._file.truncate(self._end)
            raise self._refusal(error) from None
        self._places[key] = (self._end + _RECORD.size, len(content))
        self._end += len(record)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _refusal(self, error: OSError) -> RunError:
        run = self.path.parent.parent
        return RunError(f"{self.path}: {error.strerror or error}; mend that and go on with eqdisc resume {run}.")


def count_steps(path: Path) -> int:
    """Return how many whole records a log holds, without changing it; none where there is no log."""
    if not path.exists():
        return 0
    try:
        refuse_strange(path, LARGEST)
    except OSError as error:
        raise RunError(f"{path} is no log of steps: {error.strerror}.") from None
    with path.open("rb") as file:
        file.readline(LONGEST_HEAD)
        return sum(1 for _ in _read_records(file))


def _read_records(file: IO[bytes]) -> Iterator[tuple[bytes, bytes, float, bytes]]:
    """Yield key, digest, seconds and content of each record that is whole."""
    size = os.fstat(file.fileno()).st_size
    while len(head := file.read(_RECORD.size)) == _RECORD.size:
        key, seal, spent, length = _RECORD.unpack(head)
        content = file.read(min(length, size))
        if len(content) < length:
            return
        yield key, seal, spent, content


def _starts_with(path: Path, head: bytes) -> bool:
    with path.open("rb") as file:
        return file.readline(LONGEST_HEAD) == head


def _seal(key: bytes, spent: float, content: bytes) -> bytes:
    return hashlib.blake2b(key + struct.pack("<d", spent) + content, digest_size=16).digest()


def _write(file: IO[bytes], record: bytes) -> None:
    view = memoryview(record)
    while view:
        view = view[file.write(view) :]


class KeptJournal(TimedJournal):
    """A journal whose finished steps stand in a checkpoint, and are not done again; seconds before an interruption are spent.

    What it is told and asked for is timed.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        seconds: float | None = None,
        since: float | None = None,
        memory: float | None = None,
        timing: Timing | None = None,
    ) -> None:
        super().__init__(None if seconds is None else seconds - checkpoint.spent, since, memory)
        self.checkpoint, self.spent, self.timing = checkpoint, checkpoint.spent, timing or Timing()

    def recall(self, step: str, inputs: Callable[[], Any], work: Callable[[], T], form: Form[T]) -> T:
        with self.timing.step(step):
            key = digest(step, inputs())
            known = self._find(key, form)
            return self._keep(key, form, work()) if known is None else known

    def recall_each(
        self, step: str, inputs: Sequence[Callable[[], Any]], works: Sequence[Callable[[], T]], form: Form[T]
    ) -> Iterator[T]:
        keys = [digest(step, each()) for each in inputs]
        known = [self._find(key, form) for key in keys]
        done = side_by_side([work for work, one in zip(works, known, strict=True) if one is None])
        for key, one in zip(keys, known, strict=True):
            with self.timing.step(step):
                found = self._keep(key, form, next(done)) if one is None else one
            yield found

    def spread(
        self, step: str, inputs: Callable[[], Any], function: Callable[..., T], tasks: Sequence[Task], form: Form[T]
    ) -> Iterator[tuple[int, T]]:
        common, left = digest(step, inputs()), []
        for number in range(len(tasks)):
            known = self._find(digest(common, number), form)
            if known is None:
                left.append(number)
            else:
                yield number, known
        for k, found in super().spread(step, inputs, function, [tasks[number] for number in left], form):
            yield left[k], self._keep(digest(common, left[k]), form, found)

    def _find(self, key: bytes, form: Form[T]) -> T | None:
        """Return what was kept under a key, None where there is nothing or something of another form."""
        known = self.checkpoint.get(key)
        if known is not None:
            with suppress(LookupError, ArithmeticError, AttributeError, TypeError, ValueError, RuntimeError):
                return form.unpack(known)
        return None

    def _keep(self, key: bytes, form: Form[T], found: T) -> T:
        """Keep a result, unless the search was told to stop: such a step is not finished."""
        if not self.stop:
            self.checkpoint.put(key, form.pack(found))
        return found
