"""Tables: every role, every refusal by its message, and that the order of rows and columns does not matter."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.data.tables import as_dataset, hash_file, read_table, write_table
from eqdisc.work.errors import DataError, OptionError

Table = Callable[..., Path]
DATA = Path(__file__).parents[2] / "data"
ROWS = "0,1\n1,2\n2,3\n3,5\n"


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Write a table and return its path."""

    def write(content: str | bytes, name: str = "data.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def series(**columns: list[float]) -> str:
    return pd.DataFrame(columns).to_csv(index=False)


def values(data: Dataset) -> list[list[float]]:
    return [list(row) for row in data.stacked()]


MICE = series(t=[0, 1, 2, 3, 0, 1, 2, 3], mouse=[1, 1, 1, 1, 2, 2, 2, 2], V=[5, 6, 7, 9, 4, 5, 7, 8])
SPECIES = MICE.replace(",1,", ",yeast,").replace(",2,", ",mould,")


# What is read


@pytest.mark.parametrize(
    "text",
    [
        "t,S\n0,1.5\n1,2\n2,3\n3,5\n",
        "t;S\n0;1.5\n1;2\n2;3\n3;5\n",
        "t\tS\n0\t1.5\n1\t2\n2\t3\n3\t5\n",
        "t;S\n0;1,5\n1;2,0\n2;3\n3;5e0\n",
        "t\tS\r\n0\t1,5\r\n1\t2\r\n2\t3\r\n3\t5\r\n",
        't, S\n0, 1.5\n"1", "2"\n2,\t3\n3,5',
        "\n\nt,S\n\n0,1.5\n1,2\n\n2,3\n3,5\n\n",
        "t,S,\n0,1.5,\n1,2,\n2,3,\n3,5,\n",
        "t,S\n0,1.5,\n1,2,\n2,3,\n3,5,\n",
        "S,Time\n1.5,0\n2,1\n3,2\n5,3\n",
        ",t,S\n0,0,1.5\n1,1,2\n2,2,3\n3,3,5\n",
        "trajectory,t,S\n0,0,1.5\n0,1,2\n0,2,3\n0,3,5\n",
    ],
)
def test_the_same_numbers_are_found_in_any_dress(table: Table, text: str) -> None:
    data = read_table(table(text))
    assert data.states == ("S",)
    np.testing.assert_array_equal(data.trajectories[0].t, [0, 1, 2, 3])
    np.testing.assert_array_equal(data.trajectories[0].x[:, 0], [1.5, 2, 3, 5])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings_are_found(table: Table, encoding: str) -> None:
    data = read_table(table(f"t,Größe\n{ROWS}".encode(encoding)))
    assert data.states == ("Größe",)
    assert [("Windows-1252" in note) for note in data.notes] == ([True] if encoding == "cp1252" else [])


@pytest.mark.parametrize("kind", ["parquet", "xlsx", "DataFrame", "index"])
def test_other_kinds_of_tables_say_the_same(tmp_path: Path, kind: str) -> None:
    frame = pd.DataFrame({"t": [0.0, 1.0, 2.0, 3.0, 4.0], "S": [1, 2, 3, 5, 8], "I": [9.5, None, 7.5, 6.5, 6]})
    source: object = frame
    if kind == "parquet":
        frame.to_parquet(source := tmp_path / "a.parquet")
    elif kind == "xlsx":
        frame.to_excel(source := tmp_path / "a.xlsx", index=False)
    elif kind == "index":
        source = frame.set_index("t")
    data = as_dataset(source)
    assert data.states == ("S", "I")
    np.testing.assert_array_equal(data.trajectories[0].x, [[1, 9.5], [2, np.nan], [3, 7.5], [5, 6.5], [8, 6]])


def test_what_a_file_is_is_read_from_its_bytes(tmp_path: Path) -> None:
    pd.DataFrame({"t": range(4), "S": [1, 2, 3, 5]}).to_parquet(tmp_path / "a.csv")
    assert read_table(tmp_path / "a.csv").states == ("S",)


def test_a_workbook_of_several_sheets_gives_its_first(tmp_path: Path) -> None:
    with pd.ExcelWriter(tmp_path / "a.xlsx") as book:
        pd.DataFrame({"t": range(4), "S": [1, 2, 3, 5]}).to_excel(book, sheet_name="first", index=False, startrow=2)
        pd.DataFrame({"b": [1]}).to_excel(book, sheet_name="second")
    data = read_table(tmp_path / "a.xlsx")
    assert data.states == ("S",)
    assert "read sheet 'first', the first of 2" in data.notes[0]


def test_cells_that_a_workbook_has_coloured_but_not_filled_are_no_columns(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in [("t", "S"), (0, 1), (1, 2), (2, 3), (3, 5)]:
        book.active.append(row)
    book.active.cell(2, 12_000).fill = openpyxl.styles.PatternFill("solid", fgColor="FFFF00")
    book.save(tmp_path / "a.xlsx")
    assert read_table(tmp_path / "a.xlsx").states == ("S",)


def test_units_stand_in_the_header(table: Table) -> None:
    data = read_table(table("t [day],S [persons],I []\n0,1,2\n1,2,3\n2,3,5\n3,5,6\n"))
    assert (data.time, data.states, data.units) == ("t", ("S", "I"), {"t": "day", "S": "persons"})
    assert read_table(table("t,S [persons]\n" + ROWS), states=["S [persons]"]).states == ("S",)


def test_dates_become_days(table: Table) -> None:
    text = "date,S\n2014-05-18,1\n2014-05-19T12:00,2\n2014-05-21,3\n2014-06-18,5\n"
    data = read_table(table(text))
    np.testing.assert_array_equal(data.trajectories[0].t, [0, 1.5, 3, 31])
    assert data.units == {"date": "day"}
    assert "counted in days since 2014-05-18" in data.notes[0]
    frame = pd.read_csv(io.StringIO(text))
    frame["date"] = pd.to_datetime(frame["date"], format="ISO8601")
    np.testing.assert_array_equal(as_dataset(frame).trajectories[0].t, data.trajectories[0].t)


def test_empty_cells_are_missing_values(table: Table) -> None:
    data = read_table(table("t,S,I\n0,1,\n1,,2\n2,3,NA\n3,4,3\n4,5,7\n5,,8\n6,,\n"))
    np.testing.assert_array_equal(data.stacked(), [[1, np.nan], [np.nan, 2], [3, np.nan], [4, 3], [5, 7], [np.nan, 8]])
    assert data.notes == (f"{data.file}: 1 row without any measured state left out.",)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("t,T", ("t", "T")),
        ("minutes,T", ("minutes", "T")),
        ("TIME,S", ("TIME", "S")),
        ("day,S", ("day", "S")),
    ],
)
def test_time_is_found(table: Table, header: str, found: tuple[str, str]) -> None:
    data = read_table(table(f"{header}\n{ROWS}"))
    assert (data.time, *data.states) == found


def test_a_column_called_capital_t_is_time_when_the_first_column_cannot_be(table: Table) -> None:
    assert read_table(table("S,T\n9,0\n8,1\n8,2\n7,3\n")).time == "T"


def test_options_name_the_roles(table: Table) -> None:
    path = table("day,group,S,I,R\n" + "".join(f"{d},{g},{d + 1},{d * d},{7 - d}\n" for g in "ab" for d in range(4)))
    data = read_table(path, time="day", trajectory="group", states="R, S")
    assert (data.time, data.states, [k.name for k in data.trajectories]) == ("day", ("R", "S"), ["a", "b"])


def test_trajectories_stand_in_natural_order(table: Table) -> None:
    rows = "".join(f"{name},{t},{t * t}\n" for name in ("m10", "m2", "7") for t in range(3))
    assert [k.name for k in read_table(table("trajectory,t,S\n" + rows)).trajectories] == ["7", "m2", "m10"]
    data = read_table(table(MICE), trajectory="mouse")
    assert [k.name for k in data.trajectories] == ["1", "2"]
    assert data.notes == ()


def test_unordered_rows_are_sorted_with_one_note(table: Table) -> None:
    data = read_table(table("trajectory,t,S\nb,1,1\na,2,2\nb,0,3\na,0,4\na,1,7\nb,2,8\n"))
    np.testing.assert_array_equal(data.trajectories[0].x[:, 0], [4, 7, 2])
    assert len(data.notes) == 1
    assert "sorted within their trajectory" in data.notes[0]


def test_interleaved_trajectories_in_order_of_time_need_no_note(table: Table) -> None:
    assert read_table(table("trajectory,t,S\nb,0,1\na,0,2\nb,1,3\na,1,4\na,2,7\nb,2,8\n")).notes == ()


def test_any_text_names_a_column(table: Table) -> None:
    data = read_table(table('t,lambda,"Western Urban, total",E\n0,1,2,3\n1,2,1,2\n2,3,3,4\n3,1,2,5\n'))
    assert data.states == ("lambda", "Western Urban, total", "E")
    assert data.symbols == {"lambda": "lambda_", "Western Urban, total": "Western_Urban_total"}


def test_slightly_negative_values_are_data(table: Table) -> None:
    assert read_table(table("t,S\n0,1\n1,0.1\n2,-0.01\n3,0.02\n")).stacked().min() == -0.01


@pytest.mark.parametrize("path", sorted(DATA.glob("*.csv")), ids=lambda path: path.stem)
def test_the_tables_that_come_along_are_read_without_a_word(path: Path) -> None:
    data = read_table(path)
    assert data.notes == ()
    assert data.rows >= 14


def test_a_million_rows_are_read_in_seconds(tmp_path: Path) -> None:
    n = 1_000_000
    frame = pd.DataFrame({"trajectory": np.arange(n) // 1000, "t": np.arange(n) % 1000, "S": np.arange(n) % 977})
    frame.to_csv(tmp_path / "large.csv", index=False)
    start = time.perf_counter()
    assert len(read_table(tmp_path / "large.csv")) == 1000
    assert time.perf_counter() - start < 20  # about 2 s on one core; a loop over rows takes minutes


# What is refused: the file


def refusal(path: Path | str, **roles: object) -> str:
    with pytest.raises(DataError) as caught:
        read_table(path, **roles)
    message = str(caught.value)
    assert "\n" not in message
    assert message[-1] in ".?"
    return message


def test_no_such_file(table: Table, tmp_path: Path) -> None:
    table("t,S\n" + ROWS)
    assert "there is no such file. Did you mean 'data.csv'?" in refusal(tmp_path / "dato.csv")
    assert refusal("/nowhere/at/all.csv") == "/nowhere/at/all.csv: there is no such file."
    assert "there is no such file" in refusal(tmp_path / "data.csv" / "below")


def test_a_folder(tmp_path: Path) -> None:
    assert "is a folder; name the table in it" in refusal(tmp_path)


def test_a_path_that_is_none() -> None:
    assert "cannot be read" in refusal("a\0b")


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_file(table: Table, content: bytes) -> None:
    assert "is empty; it needs a header" in refusal(table(content))


@pytest.mark.parametrize("content", ["t,S\n", "t,S", "t,S\n,\n,\n"])
def test_a_header_alone(table: Table, content: str) -> None:
    assert "a header and no rows" in refusal(table(content))


def test_no_header(table: Table) -> None:
    assert "row 1: there is no header, the row holds '0'; put the column names there" in refusal(table(ROWS))
    assert "row 1: there is no header, the row holds '2014-05-18'" in refusal(table("2014-05-18,1\n2014-05-19,2\n"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bytes(range(256)), "is not a table (neither text, Parquet nor Excel .xlsx); save it as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 old Excel", "is not a table"),
        (b"PK\x03\x04 nothing", "cannot be read as an Excel file"),
        (b"PAR1 nothing", "cannot be read as a Parquet file"),
    ],
)
def test_binary_rubbish(table: Table, content: bytes, message: str) -> None:
    assert message in refusal(table(content))


@pytest.mark.parametrize("content", ["t\n0\n1\n", "t S\n0 1\n1 2\n"])
def test_one_column(table: Table, content: str) -> None:
    assert "one column only" in refusal(table(content))
    assert "separated by comma, semicolon or tab" in refusal(table(content))


def test_only_time_and_trajectory(table: Table) -> None:
    assert "no state column beside the time" in refusal(table("trajectory,t\n1,0\n1,1\n"))


@pytest.mark.parametrize("header", ["t,S,S", "t,S [a],S [b]", "t, S,S "])
def test_a_column_name_twice(table: Table, header: str) -> None:
    assert "two columns are named 'S'; rename one of them" in refusal(table(f"{header}\n0,1,2\n1,2,3\n"))


def test_a_column_without_a_name(table: Table) -> None:
    assert "column 2 has no name; name it in the header" in refusal(table("t,,S\n0,7,1\n1,3,2\n"))


@pytest.mark.parametrize(
    ("content", "row"), [("t,S\n0,1,5\n1,2,5\n", 2), ("t,S\n0,1\n1,2\n\n2,3,5\n", 5), ("\nt,S\n0,1\n1,2,3\n", 4)]
)
def test_more_cells_than_columns(table: Table, content: str, row: int) -> None:
    message = refusal(table(content))
    assert f"row {row}: 3 cells for 2 columns" in message
    assert "semicolons where the decimal mark is a comma" in message


def test_an_open_quotation_mark(table: Table) -> None:
    assert "row 3: a quotation mark is opened and never closed" in refusal(table('t,S\n0,1\n1,"2\n2,3\n'))


# What is refused: the cells


def test_text_in_a_number(table: Table) -> None:
    message = refusal(table("t,S,I\n0,1,1\n\n1,two,2\n2,3,3\n3,5,5\n"))
    assert "row 4, column 'S': 'two' is not a number; " in message
    assert "correct the cell or empty it, or leave it out with --states I." in message
    message = refusal(table("t;S\n0;1,5\n1;x\n2;3,5\n"))
    assert "row 3, column 'S': 'x' is not a number; correct the cell or empty it." in message


def test_thousands_separators(table: Table) -> None:
    message = refusal(table('t,S\n0,"1,234"\n1,2\n2,3\n3,3\n'))
    assert "'1,234' is not a number; write it with a decimal point and without thousands separators" in message


def test_text_columns_that_nobody_asked_for(table: Table) -> None:
    text = "t,S,label\n0,1,a\n1,2,b\n2,3,c\n3,5,d\n"
    assert "row 2, column 'label': 'a' is not a number; leave it out with --states S." in refusal(table(text))
    assert read_table(table(text), states=["S"]).states == ("S",)


def test_truth_values_are_text(table: Table) -> None:
    assert "'True' is not a number" in refusal(table("t,S\n0,True\n1,False\n2,True\n3,True\n"))


def test_rows_of_a_data_frame_are_counted_from_zero() -> None:
    with pytest.raises(DataError, match=r"^DataFrame, row 2, column 'S': 'x' is not a number"):
        as_dataset(pd.DataFrame({"t": range(4), "S": ["1", "2", "x", "4"]}))


def test_rows_of_a_workbook_are_counted_as_it_does(tmp_path: Path) -> None:
    pd.DataFrame({"t": range(4), "S": [1, 2, "x", 4]}).to_excel(tmp_path / "a.xlsx", index=False)
    assert "row 4, column 'S': 'x' is not a number" in refusal(tmp_path / "a.xlsx")


@pytest.mark.parametrize("cell", ["inf", "-inf", "1e999"])
def test_an_infinite_value(table: Table, cell: str) -> None:
    message = refusal(table(f"t,S\n0,1\n1,{cell}\n2,3\n3,5\n"))
    assert "row 3, column 'S': the value is infinite; correct the cell or empty it" in message
    assert "row 3, column 't': the value is infinite" in refusal(table(f"t,S\n0,1\n{cell},2\n2,3\n3,5\n"))


def test_a_missing_time(table: Table) -> None:
    assert "row 3, column 't': the time is missing; fill it in" in refusal(table("t,S\n0,1\n,2\n2,3\n3,5\n"))


def test_a_missing_trajectory(table: Table) -> None:
    message = refusal(table("trajectory,t,S\na,0,1\n,1,2\n"))
    assert "row 3, column 'trajectory': the trajectory is missing" in message


@pytest.mark.parametrize(("cell", "row"), [("18.05.2014", 2), ("noon", 2)])
def test_a_time_that_is_neither_number_nor_date(table: Table, cell: str, row: int) -> None:
    message = refusal(table(f"when,S\n{cell},1\n1,2\n2,3\n"))
    assert f"row {row}, column 'when': '{cell}' is neither a number nor an ISO date such as 2014-05-18" in message


def test_one_bad_date_among_good_ones(table: Table) -> None:
    message = refusal(table("day,S\n2014-01-01,1\n2014-13-01,2\n2014-01-03,1\n"))
    assert "row 3, column 'day': '2014-13-01' is neither a number nor an ISO date" in message


def test_a_time_twice(table: Table) -> None:
    message = refusal(table("t,S\n0,1\n1,2\n2,3\n1,2.5\n3,5\n"))
    assert "row 5, column 't': time 1 stands twice, in row 3 and again here; " in message
    assert "add a trajectory column or average repeated times." in message


def test_a_time_twice_in_one_trajectory(table: Table) -> None:
    message = refusal(table("trajectory,t,S\na,0,1\nb,0,2\nb,1,5\nb,1,7\na,1,3\n"))
    assert "row 5, column 't': time 1 stands twice in trajectory 'b', in row 4 and again here; average" in message


def test_a_date_twice_is_told_as_a_date(table: Table) -> None:
    message = refusal(table("day,S\n2014-05-18,1\n2014-05-18,2\n2014-05-19,3\n2014-05-20,5\n"))
    assert "time 2014-05-18 stands twice" in message


# What is refused: the columns together


def test_too_few_rows(table: Table) -> None:
    message = refusal(table("t,S\n0,1\n1,2\n2,3\n"))
    assert "column 'S': 3 measured values where the smallest model needs 4; measure more." in message
    message = refusal(table("t,S,I\n0,1,\n1,2,4\n2,3,\n3,5,\n"))
    assert "column 'I': 1 measured value where the smallest model needs 4; " in message
    assert "measure more, or leave it out with --states S." in message


def test_every_trajectory_needs_its_start(table: Table) -> None:
    rows = [f"{k},{t},{k + t * t}\n" for k in range(3) for t in range(2)]
    assert len(read_table(table("trajectory,t,S\n" + "".join(rows)))) == 3
    message = refusal(table("trajectory,t,S\n" + "".join(rows[:-1])))
    assert "5 measured values in 3 trajectories where the smallest model needs 6; " in message
    assert "measure more or name another --trajectory." in message


def test_a_state_that_never_changes(table: Table) -> None:
    message = refusal(table("t,S,R,Q\n0,1,3,8\n1,2,3,8\n2,3,3,8\n3,5,3,8\n"))
    assert "column 'R': it never changes (always 3); leave it out with --states S." in message
    assert "measure a state that does" in refusal(table("t,R\n0,3\n1,3\n2,3\n3,3\n"))


def test_a_state_that_changes_only_between_trajectories(table: Table) -> None:
    text = "trajectory,t,S,dose\n" + "".join(f"{k},{t},{t * t},{k + 0.5}\n" for k in range(2) for t in range(3))
    message = refusal(table(text))
    assert "column 'dose': it never changes while time runs, only from one trajectory to another" in message
    assert "--states S." in message


def test_a_state_without_values(table: Table) -> None:
    message = refusal(table("t,S,R\n0,1,\n1,2,\n2,3,\n3,5,\n"))
    assert "column 'R': it holds no values; leave it out with --states S." in message


def test_names_with_spaces_come_quoted(table: Table) -> None:
    assert '--states "Port Loko,Bo"' in refusal(table("t,Port Loko,Bo,R\n0,1,2,\n1,2,3,\n2,3,5,\n3,5,6,\n"))


@pytest.mark.parametrize(("text", "what"), [(MICE, "whole numbers"), (SPECIES, "text")])
def test_a_column_that_looks_like_an_identifier(table: Table, text: str, what: str) -> None:
    message = refusal(table(text))
    seen = f"{what}, constant while time runs, time starting again"
    assert f"column 'mouse': this looks like an identifier ({seen}); " in message
    assert message.endswith("did you mean --trajectory mouse?")
    assert len(read_table(table(text), trajectory="mouse")) == 2


def test_an_identifier_is_found_in_any_order_of_rows(table: Table) -> None:
    lines = MICE.splitlines()
    shuffled = [lines[0], *(lines[i] for i in (3, 6, 1, 8, 5, 2, 7, 4))]
    assert "did you mean --trajectory mouse?" in refusal(table("\n".join(shuffled)))


def test_of_two_identifiers_the_one_that_settles_the_times_is_named(table: Table) -> None:
    text = series(t=[0, 1, 2] * 4, diet=[1] * 6 + [2] * 6, mouse=[1] * 3 + [2] * 3 + [3] * 3 + [4] * 3, V=range(12))
    assert "did you mean --trajectory mouse?" in refusal(table(text))


def test_mice_with_times_of_their_own_are_told_apart(table: Table) -> None:
    text = series(t=[0, 1, 2, 0.5, 1.5, 2.5], mouse=[1, 1, 1, 2, 2, 2], V=[5, 6, 7, 4, 5, 7])
    assert "did you mean --trajectory mouse?" in refusal(table(text))


def test_an_identifier_that_is_not_asked_for_still_gives_the_cure(table: Table) -> None:
    message = refusal(table(MICE), states="V")
    assert "row 6, column 't': time 0 stands twice, in row 2 and again here; " in message
    assert "did you mean --trajectory mouse?" in message


@pytest.mark.parametrize(
    "counts",
    [[1, 1, 1, 2, 2, 2, 3, 3], [0, 0, 1, 0, 0, 1, 1, 0], [8, 8, 8, 8, 4, 4, 4, 4]],
    ids=["stairs", "on and off", "one step"],
)
def test_whole_numbers_in_one_series_are_a_state(table: Table, counts: list[int]) -> None:
    assert read_table(table(series(t=list(range(8)), n=counts))).states == ("n",)


def test_replicates_of_a_count_are_no_identifier(table: Table) -> None:
    text = series(t=[0, 0, 1, 1, 2, 2, 3, 3, 4, 4], n=[9, 8, 7, 7, 5, 6, 3, 4, 2, 2])
    assert "add a trajectory column or average repeated times" in refusal(table(text))


# What is refused: the options


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"time": "hours"}, "--time names 'hours', but the columns are hour, Susceptible, I. Did you mean 'hour'?"),
        ({"states": "Suceptible,I"}, "--states names 'Suceptible', but the columns are"),
        ({"states": "Suceptible,I"}, "Did you mean 'Susceptible'?"),
        ({"trajectory": "i"}, "--trajectory names 'i', but the columns are hour, Susceptible, I. Did you mean 'I'?"),
        ({"states": ["I", "I"]}, "column 'I': --states names it twice; name it once"),
        ({"states": "hour"}, "column 'hour': it is the time and cannot be a state too"),
        ({"trajectory": "I", "states": "I"}, "column 'I': it is the trajectory and cannot be a state too"),
        ({"time": "I", "trajectory": "I"}, "column 'I': it cannot be both time and trajectory"),
        ({"states": " , "}, "--states names no column; name at least one"),
    ],
)
def test_roles_that_do_not_fit(table: Table, roles: dict, message: str) -> None:
    assert message in refusal(table("hour,Susceptible,I\n0,1,2\n1,2,3\n2,4,5\n3,6,6\n"), **roles)


def test_only_tables_are_tables() -> None:
    with pytest.raises(OptionError, match="cannot read a list as a table; give a path, a pandas DataFrame"):
        as_dataset([1, 2, 3])
    data = Dataset((Trajectory([0, 1], [[1], [2]]),), ("S",))
    assert as_dataset(data) is data
    with pytest.raises(OptionError, match="has its roles already"):
        as_dataset(data, states=["S"])


# Laws


FINITE = st.floats(-1e300, 1e300)
STATES = ["S", "I", "lambda", "Port Loko", "t", "β", 'a,"b"']
NAMES = ["0", "1", "m2", "m10", "x y"]  # in natural order


@st.composite
def datasets(draw: st.DrawFn) -> Dataset:
    states = draw(st.lists(st.sampled_from(STATES), min_size=1, unique=True))
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    trajectories = []
    for name in sorted(names, key=NAMES.index):
        n = draw(st.integers(5, 9))
        t = np.cumsum(draw(arrays(float, n, elements=st.floats(0.01, 10))))
        x = draw(arrays(float, (n, len(states)), elements=FINITE))
        x[0], x[1] = 0.0, 1.0  # every state changes
        trajectories.append(Trajectory(t, x, name=name))
    return Dataset(tuple(trajectories), tuple(states), time="time", units={"time": "day"})


SLOW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def assert_same(a: Dataset, b: Dataset) -> None:
    assert (a.states, a.time, a.units) == (b.states, b.time, b.units)
    assert [k.name for k in a.trajectories] == [k.name for k in b.trajectories]
    for k, other in zip(a.trajectories, b.trajectories, strict=True):
        np.testing.assert_array_equal(k.t, other.t)
        np.testing.assert_array_equal(k.x, other.x)


@SLOW
@given(data=datasets())
def test_what_is_written_is_read_back_to_the_last_bit(tmp_path: Path, data: Dataset) -> None:
    write_table(data, tmp_path / "data.csv")
    assert_same(read_table(tmp_path / "data.csv", time="time"), data)


@SLOW
@given(data=datasets(), random=st.randoms())
def test_the_order_of_rows_and_columns_does_not_matter(tmp_path: Path, data: Dataset, random: object) -> None:
    write_table(data, tmp_path / "data.csv")
    frame = pd.read_csv(tmp_path / "data.csv")
    rows, columns = list(range(len(frame))), list(frame.columns)
    random.shuffle(rows)
    random.shuffle(columns)
    assert_same(
        as_dataset(frame.iloc[rows][columns], time="time", states=list(data.states)),
        as_dataset(frame, time="time", states=list(data.states)),
    )


def test_missing_values_survive_writing(tmp_path: Path) -> None:
    x = [[1, np.nan], [2, 3], [np.nan, 4], [3, 7], [5, 8], [8, 9.5]]
    data = Dataset((Trajectory(range(6), x, name="a"),), ("S", "trajectory"))
    write_table(data, tmp_path / "data.csv")
    assert_same(read_table(tmp_path / "data.csv", trajectory="trajectory_"), data)


def test_a_file_has_its_hash(table: Table) -> None:
    assert hash_file(table(b"abc")) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-4
