"""Threads: how many torch and the linear algebra of NumPy and SciPy may use while a table is fitted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread: several cost more than such small matrices gain, and where cores are shared they wait for each other.

    Eigenvectors of 98 samples took 270 ms with two threads on two busy cores, 2 ms with one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)
