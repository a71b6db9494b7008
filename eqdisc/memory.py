"""Memory: how much this process holds, and the refusal of what is sure to take more than it may."""

from __future__ import annotations

from pathlib import Path

from .errors import DataError, OptionError

TABLE = 22  # bytes of memory for a byte of a table of text: 1e6 rows of 4 columns, 29 MB, took 620 MB


def resident() -> float:
    """Return the gigabytes that this process holds."""
    import psutil

    return float(psutil.Process().memory_info().rss) / 1e9


def refuse_large(table: Path, memory: float | None) -> None:
    """Raise DataError where reading a table is sure to take more than `memory` gigabytes."""
    if memory is None or not table.is_file():
        return
    size = table.stat().st_size / 1e9
    if resident() + TABLE * size > memory:
        raise DataError(
            f"{table} has {1e3 * size:.0f} MB, and reading it takes about {resident() + TABLE * size:.1f} GB; --memory allows "
            f"{memory:g}: allow more, or fit fewer rows."
        )


def refuse_little(memory: float | None) -> None:
    """Raise OptionError where this process holds more than `memory` gigabytes before it has begun to search."""
    if memory is not None and resident() > memory:
        raise OptionError(
            f"--memory allows {memory:g} GB, but eqdisc and the table take {resident():.1f} GB before the search begins; allow more."
        )
