"""Files: what is written is there whole or not at all; what is read is a file of its own, and no larger than it may be.

A pipe or a device under the name of a table or a result could keep a reader waiting for ever, or never end; so could a folder of someone
else's that holds one. Every reader of eqdisc opens its files here, or asks here first.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import OptionError

LARGEST = 2**30  # bytes: a gigabyte of text is some hundred million numbers


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to; what was written there takes the place of `path` in one step, or nothing does.

    >>> import tempfile
    >>> place = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with replacing(place) as draft:
    ...     _ = draft.write_text("whole")
    >>> place.read_text(), [p.name for p in place.parent.iterdir()]
    ('whole', ['a.txt'])
    """
    draft = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a file by a text."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(path: Path, facts: Any) -> None:
    """Replace a file by facts as strict JSON."""
    write_text(path, json.dumps(as_json(facts), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def as_json(value: Any) -> Any:
    """Return plain values that JSON can hold: arrays as lists, numbers that are not finite as null.

    >>> import numpy as np
    >>> as_json({"a": np.float64("nan"), "b": (1, np.arange(2)), "c": Path("x")})
    {'a': None, 'b': [1, [0, 1]], 'c': 'x'}
    """
    match value.tolist() if hasattr(value, "tolist") else value:  # arrays and numbers of NumPy
        case None | bool() | str() as plain:
            return plain
        case int() as number:
            return int(number)
        case float() as number:
            return number if math.isfinite(number) else None
        case Mapping() as facts:
            return {str(key): as_json(v) for key, v in facts.items()}
        case Iterable() as values:
            return [as_json(v) for v in values]
    return str(value)


def refuse_strange(path: Path, most: int = LARGEST) -> None:
    """Raise OSError, which says why, unless the path is a file of at most so many bytes.

    >>> refuse_strange(Path("."))
    Traceback (most recent call last):
    IsADirectoryError: [Errno 21] it is a folder: '.'
    """
    facts = path.stat()
    if stat.S_ISDIR(facts.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device and no file", str(path))
    if facts.st_size > most:
        raise OSError(errno.EFBIG, f"it is larger than {most // 2**20:,} MB", str(path))


def read_file(path: Path, most: int = LARGEST) -> bytes:
    """Return what stands in a file. Raises OSError as `refuse_strange` does, also where more comes than was announced."""
    refuse_strange(path, most)
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most // 2**20:,} MB", str(path))
    return data


def read_rows(path: Path, fields: Sequence[str], numbers: Sequence[str] = ()) -> list[dict[str, str]]:
    """Return the rows of a CSV that eqdisc appends to, every value a text; none where there is no file.

    Raises OptionError for a file that lacks some of `fields` or a row that is not whole or whose `numbers` are none.
    """
    if not path.exists():
        return []
    another = "name another folder with --out, or remove the file"
    try:
        reader = csv.DictReader(io.StringIO(read_file(path).decode("utf-8"), newline=""))
        rows = list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise OptionError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}); {another}.") from None
    missing = [name for name in fields if name not in (reader.fieldnames or ())]
    if rows and missing:
        raise OptionError(f"{path} has no column {missing[0]!r}; {another}.")
    for line, row in enumerate(rows, 2):
        if None in row or None in row.values() or not all(_is_number(row[name]) for name in numbers):
            raise OptionError(f"{path}, line {line}: this is no row of results; {another}.")
    return rows


def _is_number(text: str) -> bool:
    try:
        return text == "" or float(text) == float(text)
    except ValueError:
        return False
