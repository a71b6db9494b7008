r"""Crews: who does what can be done side by side: this process, several on this machine, or the workers of a Dask scheduler.

    Crew()   Crew(workers=4)   Crew(scheduler="tcp://host:8786")   side_by_side(works), in threads of this process

A task is a function of a module with its arguments, and comes to the same wherever it is done. Outcomes come as they are ready, each under
the number of its task, so that whoever sorts them has the same from every crew. Where a worker dies, its task is done again by another, and
fails when that has happened three times; the others go on. A task that leaves something behind must therefore find what is there already.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from .. import __version__
from .errors import OptionError, RunError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from distributed import Client

T = TypeVar("T")
Task = tuple[Any, ...]

TRIES = 3  # workers that may die over one task; Dask's own number is its scheduler's allowed-failures
PULSE = 0.2  # seconds between two looks at whether to stop
PATIENCE = 20.0  # seconds in which a scheduler must answer
_ALONE = threading.Lock()  # held by whoever works in this process: threads and their number belong to all of it


def _never() -> bool:
    return False


class Crew:
    """Spread tasks over `workers` processes here or over the workers of a Dask `scheduler`; do them in this process without either.

    Workers start with the first task and end with the `with` block; whatever they were doing then is dropped. A script that uses
    several processes guards what it does with `if __name__ == "__main__":`. Raises OptionError for numbers below one, for both at once, and
    where Dask is missing, RunError where no scheduler answers.

    >>> with Crew() as crew:
    ...     [future.result() for _, future in crew.spread(pow, [(2, 3), (3, 2)])]
    [8, 9]
    """

    def __init__(self, workers: int = 1, scheduler: str | None = None) -> None:
        if workers < 1:
            raise OptionError(f"workers is {workers}; at least 1 is needed.")
        if scheduler is not None and workers > 1:
            raise OptionError("workers and scheduler both say who does the work; use one of them.")
        self.workers, self.scheduler = workers, scheduler
        self._idle: list[_Seat] = []
        self._client = None if scheduler is None else _connect(scheduler)

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        while self._idle:
            self._idle.pop().leave()
        if self._client is not None:
            self._client.close()

    def __str__(self) -> str:
        if self._client is not None:
            return f"by the workers of {self.scheduler}, {len(self._client.nthreads())} now"
        return "one after the other" if self.workers == 1 else f"by {self.workers} processes"

    def spread(
        self, function: Callable[..., T], tasks: Iterable[Task], stop: Callable[[], bool] = _never
    ) -> Iterator[tuple[int, Future[T]]]:
        """Call `function` with each of `tasks`; yield (number, future that is done) as they are ready.

        A future holds what the function returned or raised, RunError where workers died over it. Ends early, without what is not ready,
        once `stop()` is true.
        """
        if self._client is not None:
            return _spread_far(self._client, function, tasks, stop)
        return _spread_here(function, tasks, stop) if self.workers == 1 else self._spread(function, tasks, stop)

    def _spread(
        self, function: Callable[..., T], tasks: Iterable[Task], stop: Callable[[], bool]
    ) -> Iterator[tuple[int, Future[T]]]:
        """Spread over processes of this machine, each with a pool of its own, so that one that dies takes no other's work with it."""
        fresh, again, deaths = enumerate(tasks), deque[tuple[int, Task]](), Counter[int]()
        take = lambda: next(fresh, None) or (again.popleft() if again else None)  # noqa: E731
        running: dict[Future[bytes], tuple[int, Task, _Seat]] = {}
        ready: deque[tuple[int, Future[T]]] = deque()
        try:
            while not stop():
                while len(running) < self.workers and (one := take()):
                    work = pickle.dumps(partial(function, *one[1]))
                    seat = self._idle.pop() if self._idle else _Seat()
                    running[seat.submit(work)] = (*one, seat)
                if ready:
                    yield ready.popleft()
                    continue
                if not running:
                    return
                for future in wait(running, PULSE, FIRST_COMPLETED).done:
                    number, task, seat = running.pop(future)
                    if not isinstance(future.exception(), BrokenExecutor):
                        self._idle.append(seat)
                        ready.append((number, _settled(lambda: pickle.loads(future.result()))))  # noqa: B023
                        continue
                    seat.leave()
                    deaths[number] += 1
                    if deaths[number] < TRIES:
                        again.append((number, task))
                    else:
                        ready.append((number, _failed(_given_up("fewer workers at a time need less memory"))))
        finally:
            for _, _, seat in running.values():
                seat.leave()


def _spread_here(
    function: Callable[..., T], tasks: Iterable[Task], stop: Callable[[], bool]
) -> Iterator[tuple[int, Future[T]]]:
    for number, task in enumerate(tasks):
        yield number, _settled(partial(function, *task))
        if stop():
            return


def _settled(work: Callable[[], T]) -> Future[T]:
    """Return a future that is done: it holds what `work` returns or raises."""
    future: Future[T] = Future()
    try:
        future.set_result(work())
    except Exception as error:
        future.set_exception(error)
    return future


def _failed(error: Exception) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def _given_up(cure: str) -> RunError:
    return RunError(f"it was given up because every worker that took it up died, {TRIES} or more; {cure}.")


# On this machine


class _Seat:
    """One worker process; it ends at once when its leash is let go, or when this process ends, however that happens."""

    def __init__(self) -> None:
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        spawn = get_context("spawn")  # a fork of a process that has loaded torch may hang
        end, self._leash = spawn.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(1, spawn, initializer=_settle, initargs=(end,))
        self._pool.submit(int)  # the process starts and takes its end of the leash
        end.close()

    def submit(self, work: bytes) -> Future[bytes]:
        """Have pickled work done; its result comes pickled, too.

        Where the pool pickles, torch moves tensors to memory that processes share, under the hands of whoever else pickles them then.
        """
        try:
            return self._pool.submit(_perform, work)
        except BrokenExecutor as error:  # it died while it had nothing to do
            return _failed(error)

    def leave(self) -> None:
        self._leash.close()
        self._pool.shutdown(wait=True, cancel_futures=True)


def _perform(work: bytes) -> bytes:
    return pickle.dumps(pickle.loads(work)())


def _settle(leash: Connection) -> None:
    """Make a worker of this process: one thread, deaf to Ctrl-C, which is the business of whoever spreads the work."""
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(leash,), daemon=True).start()


def _end_with(leash: Connection) -> None:
    leash.poll(None)  # nothing is ever sent: this returns when the other end is gone
    os._exit(1)


# In this process


def cores() -> int:
    """Return how many processors this process may use: those that it was given, no more than OMP_NUM_THREADS."""
    given = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    return min(given, max(1, int(allowed))) if allowed.isdecimal() else given


def side_by_side(works: Sequence[Callable[[], T]], threads: int | None = None) -> Iterator[T]:
    """Yield what each of `works` returns, in their order; as many as there are threads, or cores, are done at a time.

    Compiled code and torch let go of the interpreter while they compute, so that large steps gain and small ones lose little. What is
    left when nobody takes the next result is not begun.

    >>> list(side_by_side([lambda: 2, lambda: 3], threads=2))
    [2, 3]
    """
    threads = min(threads or cores(), len(works))
    if threads < 2:
        yield from (work() for work in works)
        return
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(work) for work in works]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


# On a cluster


def _connect(address: str) -> Client:
    try:
        from distributed import Client
    except ImportError:
        raise OptionError("--scheduler needs Dask; install it with pip install 'eqdisc[cluster]'.") from None
    try:
        return Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(
            f"no Dask scheduler answers at {address} ({why}); start one with dask scheduler and name the address that it prints."
        ) from None


def _spread_far(
    client: Client, function: Callable[..., T], tasks: Iterable[Task], stop: Callable[[], bool]
) -> Iterator[tuple[int, Future[T]]]:
    from distributed import as_completed

    name = f"eqdisc-{uuid4().hex[:8]}"
    number = {
        client.submit(_work_alone, partial(function, *task), __version__, key=f"{name}-{k}", pure=False): k
        for k, task in enumerate(tasks)
    }
    completed = as_completed(list(number), loop=client.loop)
    try:
        while number and not stop():
            if not completed.has_ready():
                time.sleep(PULSE / 4)
                continue
            future = next(completed)
            if future.cancelled():
                raise RunError(
                    "the Dask scheduler was lost; what has ended is kept, and eqdisc resume goes on with the rest."
                )
            yield number.pop(future), _settled(partial(_gather, future))
    finally:
        client.cancel(list(number))


def _gather(future: Any) -> Any:
    """Fetch what a Dask future holds."""
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker:
        raise _given_up("workers with more memory may do it") from None
    except ModuleNotFoundError as error:
        raise RunError(f"a worker has no {error.name}; install eqdisc {__version__} on every machine.") from None


def _work_alone(work: Callable[[], T], version: str) -> T:
    """Do a task on a worker of Dask, one at a time in a process; raises RunError where it has another version of eqdisc."""
    if version != __version__:
        raise RunError(f"the worker on {socket.gethostname()} has eqdisc {__version__}; install {version} there.")
    with _ALONE:
        return work()
