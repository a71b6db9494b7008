"""The compiler: Numba, and what is kept of its work between processes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import lru_cache


@lru_cache(maxsize=1)
def is_compiler_here() -> bool:
    """Tell whether Numba is installed."""
    return importlib.util.find_spec("numba") is not None


def compiled(function: Callable) -> Callable:
    """Compile, and keep what was compiled where a folder for it can be written; others may run beside it."""
    from numba import njit

    try:
        return njit(function, cache=True, nogil=True, error_model="numpy")
    except RuntimeError:  # Numba's way to say that there is none
        return njit(function, nogil=True, error_model="numpy")


def inlined(function: Callable) -> Callable:
    """Compile into whatever compiled function calls this one."""
    from numba import njit

    return njit(function, forceinline=True, error_model="numpy")


__all__ = ["compiled", "inlined", "is_compiler_here"]
