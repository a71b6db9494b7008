"""Sheets: a table as it stands in its file, before any column has a role.

A sheet is a header and cells, from CSV text (separator and decimal mark found), Parquet, Excel or a DataFrame; the kind of file is read from
its first bytes, not from its name. Every cell keeps the row it stands in, so that whoever refuses it can point at it. pandas is loaded only
when a sheet is read.

A small file can hold a large table: short rows under a long header, a zip of zeros, one text that a million rows refer to. What a table
takes in memory is therefore counted before it is made: cells, unpacked bytes, characters.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from ..work.errors import DataError, did_you_mean
from ..work.files import LARGEST, read_file
from .columns import Column, column_of, one_kind_of_line, quote, refuse_repeated_names

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = (",", ";", "\t")
SAMPLE = 50  # rows that vote on the separator
MOST_CELLS, MOST_COLUMNS, LONGEST_NAME = 100_000_000, 10_000, 1000
LONGEST_HEAD = 1_000_000  # characters in which the header of a text ends
MOST_EXCEL_CELLS, MOST_EXCEL_ROWS = 20_000_000, 2**20  # each cell is an object here; what a sheet of Excel can hold
MOST_EMPTY_ROWS = 10_000  # in succession: a cell far below makes as many rows as there are above it
TEXTS = ("string", "large_string", "binary", "large_binary")  # as pyarrow writes them
LARGEST_BOOK = 2**28  # bytes of a workbook that is unpacked
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_NUMBER = r"[+-]?\d*{mark}\d+(?:[eE][+-]?\d+)?"


@dataclass(frozen=True, eq=False)
class Sheet:
    """Columns in the order of the file, the number of each row in it, and what reading had to settle."""

    file: str
    columns: tuple[Column, ...]
    rows: Int[np.ndarray, "n"]
    notes: tuple[str, ...] = ()


def read_sheet(path: str | Path) -> Sheet:
    """Read a CSV, Parquet or Excel file; the header is its first row that is not blank.

    Raises DataError, which names the file and the cure, when there is no such file or no table with a header in it.
    """
    file, data = str(path), _read_bytes(Path(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas and openpyxl remark on styles and types; what matters is refused below
        if data[:4] == b"PK\x03\x04":
            return _read_excel(file, data)
        if data[:4] == b"PAR1":
            return _read_parquet(file, data)
        return _read_text(file, data)


def sheet_of(frame: pd.DataFrame, file: str = "DataFrame") -> Sheet:
    """Return a DataFrame as a sheet; its rows are counted from 0, as `iloc` does, and a named index is a column."""
    if any(name is not None and name not in frame.columns for name in frame.index.names):
        frame = frame.reset_index()
    names = [str(name).strip() for name in frame.columns]
    _refuse_wide(file, names)
    return _sheet(file, names, frame, np.arange(len(frame)))


def _sheet(
    file: str, names: list[str], frame: pd.DataFrame, rows: np.ndarray, notes: tuple[str, ...] = (), decimal: str = "."
) -> Sheet:
    filled = frame.notna().any(axis=1).to_numpy()
    frame, rows = frame[filled], rows[filled]
    if len(rows) == 0:
        raise DataError(f"{file} has a header and no rows; it needs one row for each time.")
    columns, dropped = [], []
    for i, name in enumerate(map(one_kind_of_line, names)):
        column = column_of(frame.iloc[:, i], name, decimal)
        if name:
            columns.append(column)
        elif column.counts_rows:
            dropped.append(f"{file}: column {i + 1} has no name and counts the rows; it is left out.")
        elif not column.empty.all():
            raise DataError(f"{file}: column {i + 1} has no name; name it in the header.")
    refuse_repeated_names(file, [column.name for column in columns])
    return Sheet(file, tuple(columns), rows, (*notes, *dropped))


def _read_bytes(path: Path) -> bytes:
    try:
        data = read_file(path)
    except (FileNotFoundError, NotADirectoryError):
        near = (p.name for p in path.parent.glob("*"))
        raise DataError(f"{path}: there is no such file.{did_you_mean(path.name, near)}") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder; name the table in it.") from None
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read ({cause}); check its name and permissions.") from None
    if not data.strip():
        raise DataError(f"{path} is empty; it needs a header and one row for each time.")
    return data


def _load(file: str, kind: str, module: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        needs = f'{module.partition(".")[0]}; install "eqdisc[tables]" or save the table as CSV'
        raise DataError(f"{file} is {kind} file, which needs {needs}.") from None


@contextmanager
def _refusing(sentence: str) -> Iterator[None]:
    """Say so in one sentence where a foreign reader fails: openpyxl has no family of errors, pyarrow's is not that of pandas."""
    try:
        yield
    except DataError:
        raise
    except Exception:
        raise DataError(sentence) from None


# Excel


def _read_excel(file: str, data: bytes) -> Sheet:
    openpyxl = _load(file, "an Excel", "openpyxl")
    with _refusing(f"{file} cannot be read as an Excel file; save the table as CSV."):
        _refuse_swollen_book(file, data)
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
        sheets = book.worksheets
        cells = _parse_cells(_cells_of(file, sheets[0]))
    filled = np.flatnonzero(cells.notna().any(axis=1).to_numpy())
    if len(filled) == 0:
        raise DataError(f"{file}: sheet {quote(sheets[0].title)} is empty; put the table on the first sheet.")
    top, head = int(filled[0]), cells.iloc[filled[0]]
    names = ["" if missing else str(v).strip() for v, missing in zip(head, head.isna(), strict=True)]
    _refuse_wide(file, names)
    _refuse_numbers_for_names(file, names, top + 1)
    body, count = cells.iloc[top + 1 :].infer_objects(), len(book.sheetnames)
    notes = (f"{file}: read sheet {quote(sheets[0].title)}, the first of {count}.",) if count > 1 else ()
    return _sheet(file, names, body, np.arange(len(body)) + top + 2, notes)


def _refuse_swollen_book(file: str, data: bytes) -> None:
    """Refuse a workbook whose parts say that they are too large; zipfile reads no more of a part than it says."""
    with zipfile.ZipFile(io.BytesIO(data)) as parts:
        size = sum(part.file_size for part in parts.infolist())
    if size > LARGEST_BOOK:
        cause = f"the workbook unpacks to {size / 2**20:,.0f} MB"
        raise DataError(f"{file}: {cause}, more than {LARGEST_BOOK // 2**20}; save the table as CSV.")


def _cells_of(file: str, sheet: Any) -> list[list[Any]]:
    """Return the rows of an Excel sheet, all of one width; rows and cells that are not there are empty."""
    sheet.reset_dimensions()  # which the file may get wrong
    rows: list[list[Any]] = []
    width = last = 0
    for row in sheet.iter_rows():
        rows.append(_values_of(row))
        if rows[-1]:
            width, last = max(width, len(rows[-1])), len(rows)
        _refuse_endless(file, len(rows), width, last)
    return [row + [""] * (width - len(row)) for row in rows[:last]]


def _values_of(row: Iterable[Any]) -> list[Any]:
    """Return what stands in a row up to its last cell that holds something."""
    values = [_value_of(cell) for cell in row]
    while values and values[-1] == "":
        values.pop()
    return values


def _value_of(cell: Any) -> Any:
    if cell.value is None:
        return ""
    if cell.data_type == "e":
        return float("nan")  # what a formula could not compute
    return int(cell.value) if isinstance(cell.value, float) and cell.value.is_integer() else cell.value


def _refuse_endless(file: str, rows: int, width: int, last: int) -> None:
    """Refuse many empty rows after the `last` that is not, and more rows or cells than a sheet holds."""
    if rows - last > MOST_EMPTY_ROWS:
        where = f"row {last + 1} and {MOST_EMPTY_ROWS:,} after it are empty"
        raise DataError(f"{file}: {where}; delete what is far below the table.")
    if rows > MOST_EXCEL_ROWS or rows * width > MOST_EXCEL_CELLS:
        cause = f"more than {MOST_EXCEL_ROWS:,} rows or {MOST_EXCEL_CELLS:,} cells"
        raise DataError(f"{file}: the sheet has {cause}; save the columns that matter as CSV.")


def _parse_cells(rows: list[list[Any]]) -> pd.DataFrame:
    """Return cells as pandas reads them from a text: columns of numbers as numbers, "NA" and its kind as missing."""
    import pandas as pd
    from pandas.io.parsers import TextParser  # type: ignore[attr-defined]  # which the stubs lack

    return TextParser(rows, header=None).read() if rows else pd.DataFrame()


# Parquet


def _read_parquet(file: str, data: bytes) -> Sheet:
    parquet = _load(file, "a Parquet", "pyarrow.parquet")
    with _refusing(f"{file} cannot be read as a Parquet file; write it again or save the table as CSV."):
        schema = parquet.read_schema(io.BytesIO(data))
        texts = [f.name for f in schema if str(f.type) in TEXTS]
        source = parquet.ParquetFile(io.BytesIO(data), read_dictionary=texts)
        _refuse_swollen_columns(file, source)
        table = source.read()
        _refuse_swollen_texts(file, table)
        frame = table.to_pandas()
    sheet = sheet_of(frame, file)
    return replace(sheet, rows=sheet.rows + 2)


def _refuse_swollen_columns(file: str, source: Any) -> None:
    """Refuse columns that are no columns of numbers or texts, and more cells than memory should hold."""
    from pyarrow import types

    facts, schema = source.metadata, source.schema_arrow
    rows = max(facts.num_rows, sum(facts.row_group(k).num_rows for k in range(facts.num_row_groups)))
    _refuse_wide(file, schema.names)
    _refuse_large(file, rows, len(schema))
    for f in schema:
        if types.is_nested(f.type) or types.is_fixed_size_binary(f.type) or hasattr(f.type, "extension_name"):
            cause = "its cells are neither numbers nor texts"
            raise DataError(f"{file}, column {quote(f.name)}: {cause}; write the table without it.")


def _refuse_swollen_texts(file: str, table: Any) -> None:
    """Refuse texts that would be too large with each cell's own; in the file and in `table` each stands once."""
    from pyarrow import compute, types

    size = 0
    for column in table.columns:
        if types.is_dictionary(column.type) and str(column.type.value_type) in TEXTS:
            for chunk in column.chunks:
                lengths = compute.binary_length(chunk.dictionary)
                size += compute.sum(lengths.take(chunk.indices)).as_py() or 0
    if size > LARGEST:
        raise DataError(f"{file}: its texts are larger than {LARGEST // 2**20:,} MB; write the table without them.")


# Text


def _read_text(file: str, data: bytes) -> Sheet:
    text, notes = _decode(file, data)
    blank = len(text) - len(text.lstrip("\r\n"))
    top, text = text[:blank].count("\n") + 1, text[blank:]  # the row of the header, and what begins there
    separator = _find_separator(text)
    stream = io.StringIO(text[:LONGEST_HEAD], newline="")
    reader = csv.reader(stream, delimiter=separator, skipinitialspace=True)
    names = [name.strip() for name in _next(file, reader, top)]
    if stream.tell() == LONGEST_HEAD:
        raise DataError(f"{file}, row {top}: the header is longer than {LONGEST_HEAD:,} characters; shorten its names.")
    _refuse_wide(file, names)
    _refuse_numbers_for_names(file, names, top)
    if len(names) == 1:
        cause = f"has one column only, {quote(names[0])}"
        raise DataError(f"{file} {cause}; it needs a time and a state, separated by comma, semicolon or tab.")
    body = text[stream.tell() :]
    if not body.strip():
        raise DataError(f"{file} has a header and no rows; it needs one row for each time.")
    _refuse_large(file, max(body.count("\n"), body.count("\r")), len(names))
    decimal, above = _find_decimal(body, separator), top + reader.line_num
    _name_further_cells(file, names, body, separator, above)
    frame = _parse(file, names, body, separator, decimal, above)
    return _sheet(file, names, frame, np.arange(len(frame)) + above, notes, decimal)


def _decode(file: str, data: bytes) -> tuple[str, tuple[str, ...]]:
    """Return the text, and what had to be settled about its letters."""
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = data.decode("utf-16", errors="replace") if wide else ""
    if _CONTROL.search(text.encode() if wide else data):
        raise DataError(f"{file} is not a table (neither text, Parquet nor Excel .xlsx); save it as CSV.")
    if wide:
        return text, ()
    try:
        return data.decode("utf-8-sig"), ()
    except UnicodeDecodeError:
        note = f"{file} is not UTF-8; it is read as Windows-1252: check names with accents."
        return data.decode("cp1252", errors="replace"), (note,)


def _find_separator(text: str) -> str:
    """Return the separator that cuts the header, and most rows just as the header."""
    first = list(itertools.islice(io.StringIO(text[:100_000]), SAMPLE))
    votes = {}
    for separator in SEPARATORS:
        try:
            widths = [len(row) for row in csv.reader(first, delimiter=separator, skipinitialspace=True) if row]
        except csv.Error:
            continue
        votes[separator] = (widths[0] > 1, sum(w == widths[0] for w in widths), widths[0]) if widths else (False, 0, 0)
    return max(votes, key=votes.__getitem__, default=",")


def _find_decimal(body: str, separator: str) -> str:
    if separator == "," or "," not in body:
        return "."
    cell = r"(?:^|{s})[ \"]*{n}[ \"]*(?={s}|\r?$)"
    patterns = (cell.format(s=re.escape(separator), n=_NUMBER.format(mark=mark)) for mark in (",", r"\."))
    comma, point = (re.search(pattern, body, re.MULTILINE) for pattern in patterns)
    return "," if comma and not point else "."


def _next(file: str, reader: Iterator[list[str]], row: int) -> list[str]:
    try:
        return next(reader)
    except (csv.Error, StopIteration) as error:
        raise DataError(f"{file}, row {row}: the header cannot be read ({error}); check its quotation marks.") from None


def _name_further_cells(file: str, names: list[str], body: str, separator: str, above: int) -> None:
    """Let `names` grow by empty ones where rows end with separators. Raises DataError where something stands behind the last name."""
    start = csv.reader(io.StringIO(body, newline=""), delimiter=separator, skipinitialspace=True)
    first = next((row for row in start if row), [])
    further = first[len(names) :]
    if further and (len(first) > MOST_COLUMNS or any(cell.strip() for cell in further)):
        raise _too_many_cells(file, above + start.line_num - 1, len(first), len(names))
    names.extend([""] * len(further))


def _parse(file: str, names: list[str], body: str, separator: str, decimal: str, above: int) -> pd.DataFrame:
    """Read the rows below the header with pandas' C parser."""
    import pandas as pd

    # pandas reads floats to the last bit from 3.1 on, and was told to before
    exact = {"float_precision": "round_trip"} if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1) else {}
    try:
        return pd.read_csv(  # type: ignore[call-overload]  # the stubs know no options in a dictionary
            io.BytesIO(body.encode()), sep=separator, decimal=decimal, header=None, names=list(range(len(names))), index_col=False,
            skipinitialspace=True, skip_blank_lines=False, low_memory=False, **exact,
        )  # fmt: skip
    except pd.errors.ParserError as error:
        raise _explain(file, str(error), above - 1) from None


def _explain(file: str, message: str, above: int) -> DataError:
    """Return what pandas' parser says in one sentence, rows counted as in the file."""
    ragged = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", message)
    if ragged:
        return _too_many_cells(file, above + int(ragged[2]), int(ragged[3]), int(ragged[1]))
    opened = re.search(r"EOF inside string starting at row (\d+)", message)
    where = f", row {above + int(opened[1]) + 1}" if opened else ""
    return DataError(f"{file}{where}: a quotation mark is opened and never closed; close it or delete it.")


def _too_many_cells(file: str, row: int, cells: int, columns: int) -> DataError:
    cure = "name every column, and separate columns by semicolons where the decimal mark is a comma"
    return DataError(f"{file}, row {row}: {cells} cells for {columns} columns; {cure}.")


# Headers


def _refuse_large(file: str, rows: int, columns: int) -> None:
    if rows * columns > MOST_CELLS:
        cause = f"{rows:,} rows of {columns:,} columns are more than {MOST_CELLS:,} cells"
        raise DataError(f"{file}: {cause}; keep the columns that matter, or every so many rows.")


def _refuse_wide(file: str, names: list[str]) -> None:
    """Refuse too many columns, and names that are no names."""
    if len(names) > MOST_COLUMNS:
        cause = f"{len(names):,} columns are more than {MOST_COLUMNS:,}"
        raise DataError(f"{file}: {cause}; keep those that matter.")
    for name in names:
        if len(name) > LONGEST_NAME:
            cause = f"the column name {quote(name)} is longer than {LONGEST_NAME:,} characters"
            raise DataError(f"{file}: {cause}; shorten it.")


def _refuse_numbers_for_names(file: str, names: list[str], row: int) -> None:
    filled = [name for name in names if name]
    if filled and all(_is_value(name) for name in filled):
        cause = f"there is no header, the row holds {quote(filled[0])}"
        raise DataError(f"{file}, row {row}: {cause}; put the column names there.")


def _is_value(name: str) -> bool:
    return bool(re.fullmatch(_NUMBER.format(mark="[.,]?") + r"|\d{4}-\d\d-\d\d.*|[+-]?(inf|nan)", name, re.IGNORECASE))
