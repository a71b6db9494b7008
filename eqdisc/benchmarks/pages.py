"""Pages: tables in Markdown, rows that are kept in a CSV as they come, and how the command of a benchmark begins."""

from __future__ import annotations

import csv
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def as_row(cells: Iterable[str]) -> str:
    """Return a line of a table.

    >>> as_row(["", "noise", "1 %"])
    '| | noise | 1 % |'
    """
    return f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in cells)}|"


def as_table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Return the lines of a table."""
    return [as_row(head), "|-" * len(head) + "|", *map(as_row, rows)]


@contextmanager
def keeping(path: Path, fields: Sequence[str]) -> Iterator[Callable[[Iterable[Mapping[str, Any]]], None]]:
    """Give a function that appends rows to a CSV, where they stand whatever comes after."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields)
        if not file.tell():
            writer.writeheader()

        def keep(rows: Iterable[Mapping[str, Any]]) -> None:
            writer.writerows(rows)
            file.flush()

        yield keep


def command(name: str, doc: str | None) -> ArgumentParser:
    """Return the parser of a benchmark's command; the first line of its module says what it measures."""
    return ArgumentParser(prog=f"python -m {name}", description=(doc or "").split("\n")[0])
