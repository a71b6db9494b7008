"""Memory: how much this process holds, and the refusal of what is sure to take more than it may."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import DataError, OptionError

TABLE = (
    10  # bytes of memory for a byte of text, at least: 1e6 rows of 4 columns took 11 with 17 digits a number, 15 with 4
)


@contextmanager
def loading() -> Iterator[None]:
    """Look for no garbage while libraries are loaded."""
    looked = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looked:
            gc.enable()


def resident() -> float:
    """Return the gigabytes that this process holds."""
    import psutil

    return float(psutil.Process().memory_info().rss) / 1e9


def peak() -> float:
    """Return the most gigabytes that this process has held; what it holds where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return resident()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1e9 if sys.platform == "darwin" else 1e6)  # bytes there, kilobytes on Linux


def refuse_large(table: Path, memory: float | None) -> None:
    """Raise DataError where reading a table is sure to take more than `memory` gigabytes."""
    if memory is None or not table.is_file():
        return
    size = table.stat().st_size / 1e9
    if resident() + TABLE * size > memory:
        raise DataError(
            f"{table} has {1e3 * size:.0f} MB, and reading it takes at least {resident() + TABLE * size:.1f} GB; --memory allows "
            f"{memory:g}: allow more, or fit fewer rows."
        )


def refuse_little(memory: float | None) -> None:
    """Raise OptionError where this process holds more than `memory` gigabytes before it has begun to search."""
    if memory is not None and resident() > memory:
        raise OptionError(
            f"--memory allows {memory:g} GB, but eqdisc and the table take {resident():.1f} GB before the search begins; allow more."
        )
