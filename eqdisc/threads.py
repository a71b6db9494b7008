"""Threads: how many torch and the linear algebra of NumPy and SciPy may use while a table is fitted, and what is done side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from threadpoolctl import threadpool_limits

T = TypeVar("T")


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread: several cost more than such small matrices gain, and where cores are shared they wait for each other.

    Eigenvectors of 98 samples took 270 ms with two threads on two busy cores, 2 ms with one.
    """
    import torch  # late: journals are read where nothing is fitted

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


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
