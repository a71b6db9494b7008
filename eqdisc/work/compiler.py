"""The compiler: Numba, and what is kept of its work between processes.

What is kept belongs to the file of a function: whoever changes one that kernels of other files call removes `__pycache__/*.nb*`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=1)
def is_compiler_here() -> bool:
    """Tell whether Numba is installed."""
    return importlib.util.find_spec("numba") is not None


@contextmanager
def announcing(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` when something has to be compiled that was not kept: the first fit on a machine waits for it."""
    if not is_compiler_here():
        yield
        return
    from numba.core import event

    class Once(event.Listener):
        told = False

        def on_start(self, _: Any) -> None:
            if not self.told:
                self.told = True
                tell()

        def on_end(self, _: Any) -> None:
            pass

    with event.install_listener("numba:compile", Once()):
        yield


def compiled(function: Callable) -> Callable:
    """Compile, and keep what was compiled where a folder for it can be written; others may run beside it."""
    from numba import njit

    try:
        return njit(function, cache=True, nogil=True, error_model="numpy")
    except RuntimeError:  # Numba's way to say that there is none
        return njit(function, nogil=True, error_model="numpy")


def inlined(function: Callable) -> Any:
    """Compile into whatever compiled function calls this one."""
    from numba import njit

    return njit(function, forceinline=True, error_model="numpy")
