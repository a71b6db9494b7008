"""The compiler: Numba, and what is kept of its work between processes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from numba import njit

inlined = partial(njit, forceinline=True, error_model="numpy")


def compiled(function: Callable) -> Callable:
    """Compile, and keep what was compiled where a folder for it can be written."""
    try:
        return njit(function, cache=True, error_model="numpy")
    except RuntimeError:  # Numba's way to say that there is none
        return njit(function, error_model="numpy")


__all__ = ["compiled", "inlined"]
