"""Hostile input: no file that eqdisc reads runs code, reads other files, hangs or exhausts memory; each ends in one sentence."""

from __future__ import annotations

import ast
import csv
import html.parser
import io
import json
import os
import random
import re
import resource
import shutil
import struct
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import libsbml
import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import tree_sitter
import tree_sitter_julia
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from stand_in import discovery_of, run_of

from eqdisc.benchmarks import fuzzing
from eqdisc.benchmarks.benchmark import FIELDS
from eqdisc.benchmarks.benchmark import read_rows as read_benchmark
from eqdisc.benchmarks.fuzzing import TARGETS, Count, Target, mutate_json, seed_equations, seed_tables
from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.data.dimensions import parse_unit
from eqdisc.data.scaling import Scaling
from eqdisc.data.tables import read_table
from eqdisc.law.equations import Equations
from eqdisc.law.simulation import simulate
from eqdisc.law.words import read_knowledge
from eqdisc.paper.experiment import read_rows as read_experiment
from eqdisc.paper.training import Keeper
from eqdisc.runs.export import export
from eqdisc.runs.folder import RunFolder, create_run
from eqdisc.runs.report import write_report
from eqdisc.runs.run import load, read_begun
from eqdisc.runs.text import write_answer, write_front
from eqdisc.units.chain import load_chain
from eqdisc.work.checkpoint import Checkpoint, count_steps
from eqdisc.work.config import FitConfig
from eqdisc.work.errors import LONGEST, DataError, EqdiscError, FormulaError, OptionError, RunError
from eqdisc.work.status import Status

PATIENCE = 2.0  # seconds of the processor; one is allowed, the first call of a library takes more
ROOM = 600 * 2**20  # bytes that a refusal may take


def assert_refused(work: Callable[[], Any], kind: type[EqdiscError], message: str, patience: float = PATIENCE) -> None:
    """Hold that the work ends in one short line that names the cause, soon, and without a great deal of memory."""
    begin, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(kind, match=message) as refused:
        work()
    assert time.process_time() - begin < patience
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < ROOM
    text = str(refused.value)
    assert len(text) <= LONGEST
    assert text.isprintable()


def within(seconds: float, work: Callable[[], Any]) -> None:
    """Fail where the work waits, as for a pipe that nobody writes to."""
    ended = threading.Event()

    def run() -> None:
        with pytest.raises(EqdiscError):
            work()
        ended.set()

    threading.Thread(target=run, daemon=True).start()
    assert ended.wait(seconds)


# ---------------------------------------------------------------- any input


def ends_in_a_sentence(name: str, data: bytes, folder: Path) -> None:
    begin, said = time.process_time(), "fine"
    try:
        TARGETS[name].read(data, folder)
    except EqdiscError as error:
        said = str(error)
    assert said.isprintable()
    assert 0 < len(said) <= LONGEST
    assert time.process_time() - begin < PATIENCE


MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TABLES, LAWS = seed_tables(), seed_equations()
RANDOM = st.randoms(use_true_random=False)


def mutants(name: str, seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Return bytes of any kind, and true files with a change or two."""

    def change(seed: bytes, draw: random.Random, times: int) -> bytes:
        for _ in range(times):
            try:
                seed = TARGETS[name].mutate(seed, draw)
            except ValueError:  # no longer of the format
                break
        return seed

    return st.binary(max_size=200) | st.builds(change, st.sampled_from(seeds), RANDOM, st.integers(0, 3))


@MANY
@given(data=mutants("table", TABLES))
def test_any_bytes_are_a_table_or_a_sentence(tmp_path: Path, data: bytes) -> None:
    ends_in_a_sentence("table", data, tmp_path)


@MANY
@given(data=mutants("equations", LAWS))
def test_any_text_is_a_law_or_a_sentence(tmp_path: Path, data: bytes) -> None:
    ends_in_a_sentence("equations", data, tmp_path)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The files of a small run, JSON as values."""
    t = np.linspace(0.0, 4.0, 9)
    pieces = tuple(Trajectory(t, np.exp(-np.outer(t, [0.3, 0.2])) * [2.0, k], name=str(k)) for k in (1, 2))
    data = Dataset(pieces, ("S", "Western Urban"), time="year")
    folder = create_run(tmp_path_factory.mktemp("true") / "run", data, FitConfig())
    folder.write_discovery(discovery_of(data))
    read = lambda name: (folder.path / name).read_text(encoding="utf-8")  # noqa: E731
    return {
        "result.json": json.loads(read("result.json")),
        "config.json": json.loads(read("config.json")),
        "data.csv": read("data.csv"),
    }


def write_run(folder: Path, files: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text, encoding="utf-8", errors="surrogatepass")
    return folder


@settings(MANY, max_examples=60)
@given(draw=RANDOM, times=st.integers(0, 3))
def test_any_files_are_a_run_or_a_sentence(
    tmp_path: Path, files: dict[str, Any], draw: random.Random, times: int
) -> None:
    data = json.dumps(files).encode()
    for _ in range(times):
        try:
            data = mutate_json(data, draw)
        except ValueError:
            break
    ends_in_a_sentence("result", data, tmp_path)
    try:
        write_answer(run := load(tmp_path))
        write_front(run, equations=True)
    except EqdiscError:
        pass


def test_the_count_knows_what_is_wrong_and_what_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzing, "LIMIT", 0.1)

    def read(data: bytes, folder: Path) -> None:
        if data == b"refused":
            raise DataError("no.")
        if data == b"wrong":
            raise ValueError
        while data == b"endless":
            pass

    count = Count()
    for data in (b"fine", b"refused", b"wrong", b"endless"):
        count.take(Target(read, lambda data, draw: data, list), data, tmp_path)
    assert (count.inputs, count.refused, count.slow) == (4, 1, b"endless")
    assert sorted(count.findings.values()) == [b"endless", b"wrong"]


@pytest.mark.skipif(find_spec("atheris") is None, reason="no fuzzer: pip install eqdisc[fuzz]")
def test_the_fuzzer_counts_its_inputs(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "eqdisc.benchmarks.fuzzing", "equations", "--runs", "200", "--out", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", check=True)
    assert "equations: 200 inputs" in done.stdout
    assert "0 findings" in done.stdout


# ---------------------------------------------------------------- tables


def workbook(change: Callable[[str, str], str]) -> bytes:
    """Return a workbook whose parts were changed, by their names."""
    page, out, book = io.BytesIO(), io.BytesIO(), openpyxl.Workbook()
    for row in [("t", "S"), *((k, k * k + 0.5) for k in range(6))]:
        book.active.append(row)
    book.save(page)
    with zipfile.ZipFile(page) as parts, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as changed:
        for name in parts.namelist():
            changed.writestr(name, change(name, parts.read(name).decode()))
    return out.getvalue()


def in_sheet(old: str, new: str) -> bytes:
    def change(name: str, text: str) -> str:
        return text.replace(old, new, 1) if name.endswith("sheet1.xml") else text

    assert workbook(change) != workbook(lambda _, text: text)
    return workbook(change)


def entities(target: str = "") -> bytes:
    """Return a workbook with entities: one of a billion characters, or one that is another file."""
    inside = f'<!ENTITY e SYSTEM "{target}">' if target else '<!ENTITY a "' + "a" * 1000 + '">'
    inside += "" if target else "".join(f'<!ENTITY {b} "{f"&{a};" * 100}">' for a, b in zip("abc", "bce", strict=True))

    def change(name: str, text: str) -> str:
        if not name.endswith("sheet1.xml"):
            return text
        head, mark, rest = text.rpartition("?>")
        return f"{head}{mark}<!DOCTYPE worksheet [{inside}]>{rest.replace('<v>', '<v>&e;', 1)}"

    return workbook(change)


def bomb() -> bytes:
    page = io.BytesIO()
    with zipfile.ZipFile(page, "w", zipfile.ZIP_DEFLATED) as parts, parts.open("xl/worksheets/sheet1.xml", "w") as part:
        for _ in range(300):
            part.write(bytes(2**20))
    return page.getvalue()


def parquet(columns: dict[str, Any]) -> bytes:
    page = io.BytesIO()
    pq.write_table(pa.table(columns), page)
    return page.getvalue()


def wide_rows() -> bytes:
    rows = "".join(f'<row r="{k}"><c r="XFD{k}"><v>1</v></c></row>' for k in range(9, 4000))
    return in_sheet("</sheetData>", rows + "</sheetData>")


REFUSED_TABLES: dict[str, tuple[Callable[[], bytes], str]] = {
    "short rows under a long header": (lambda: b",".join(b"c%d" % k for k in range(5000)) + b"\n" + b"1\n" * 50_000, "cells"),
    "columns": (lambda: b",".join(b"c%d" % k for k in range(20_000)) + b"\n1\n2\n", "20,000 columns are more than 10,000"),
    "a row of separators": (lambda: b"t,S\n" + b"," * 100_000 + b"\n", "100001 cells for 2 columns"),
    "digits": (lambda: b"9" * 100_000 + b"x,S\n0,1\n", "longer than 1,000 characters; shorten it"),
    "one name often": (lambda: b",".join([b"c%d" % k for k in range(9_990)] + [b"c1"]) + b"\n" + b"1," * 9_990 + b"1\n", "'c1'"),
    "one line": (lambda: b"x" * 30_000_000, "header cannot be read|longer than"),
    "a long header": (lambda: b",".join(b"%d" % k + b"x" * 500 for k in range(4000)) + b"\n1,2\n", "the header is longer than"),
    "nothing but quotes": (lambda: b'"' * 3_000_001, "cannot be read|longer than|one column"),
    "NULs": (lambda: b"t,S\n0,1\n1,\x00\n", "is not a table"),
    "NULs in UTF-16": (lambda: "t,S\n0,1\n1,\x00\n".encode("utf-16"), "is not a table"),
    "UTF-32": (lambda: "t,S\n0,1\n".encode("utf-32"), "is not a table"),
    "a picture": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 50, "is not a table"),
    "a year before the first": (lambda: b"t,S\n0,1\n-1,2\nnoon,3\n2,4\n", "is neither a number nor an ISO date"),
    "half a workbook": (lambda: TABLES[-1][:2000], "cannot be read as an Excel file"),
    "a workbook that is none": (bomb, "unpacks to 300 MB, more than 256"),
    "a row far away": (lambda: in_sheet('<row r="5"', '<row r="999999999999"'), "row 5 and 10,000 after it are empty; delete"),
    "cells far away": (wide_rows, "20,000,000 cells"),
    "entities": (entities, "cannot be read as an Excel file"),
    "entities that are files": (lambda: entities("/etc/passwd"), "cannot be read as an Excel file"),
    "half a Parquet": (lambda: TABLES[-2][:300], "cannot be read as a Parquet file"),
    "many rows of nothing": (lambda: parquet({"t": pa.nulls(120_000_000)}), "cells; keep"),
    "one text for every row": (
        lambda: parquet({"t": pa.DictionaryArray.from_arrays(np.zeros(20_000, np.int32), ["x" * 100_000])}),
        r"its texts are larger than 1,024 MB",
    ),
    "lists": (lambda: parquet({"t": [1.0, 2.0], "S": [[1], [2]]}), "column 'S': its cells are neither numbers nor texts"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED_TABLES)
def test_a_table_that_would_take_memory_or_time_is_refused(case: str, tmp_path: Path) -> None:
    make, message = REFUSED_TABLES[case]
    (tmp_path / "table").write_bytes(make())
    assert_refused(lambda: read_table(tmp_path / "table"), DataError, message)


def test_no_external_entity_is_ever_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("42")
    (tmp_path / "table").write_bytes(entities(str(tmp_path / "secret")))
    with pytest.raises(DataError) as refused:
        read_table(tmp_path / "table")
    assert "42" not in str(refused.value)


def test_one_large_cell_does_not_make_all_cells_large(tmp_path: Path) -> None:
    rows = "".join(f"{'x' * 100_000 if k == 7 else 'ab'[k % 2]},{k // 2},{k}\n" for k in range(40_000))
    (tmp_path / "table.csv").write_text("trajectory,t,S\n" + rows)
    begin, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(read_table(tmp_path / "table.csv")) == 3
    assert time.process_time() - begin < PATIENCE
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < ROOM


def test_pipes_devices_and_folders_are_no_files(tmp_path: Path, files: dict[str, Any]) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    within(2.0, lambda: read_table(pipe))
    for path, message in (
        (pipe, "a pipe or a device"),
        (Path("/dev/zero"), "a pipe or a device"),
        (tmp_path, "is a folder"),
    ):
        assert_refused(lambda path=path: read_table(path), DataError, message)
    for name, read in (("result.json", load), ("config.json", read_begun), ("data.csv", lambda p: load(p).data)):
        folder = write_run(tmp_path / f"run with {name}", files)
        (folder / name).unlink()
        os.mkfifo(folder / name)
        within(2.0, lambda read=read, folder=folder: read(folder))
    within(2.0, lambda: load_chain(pipe))
    within(2.0, lambda: count_steps(pipe))
    within(2.0, lambda: Checkpoint(pipe, {}))
    within(2.0, lambda: read_benchmark(pipe))
    within(2.0, lambda: Keeper(pipe).load())


def test_a_file_of_gigabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate(2**40)
    assert_refused(lambda: read_table(tmp_path / "large.csv"), DataError, "larger than 1,024 MB", 0.2)


@pytest.mark.parametrize("name", ["x" * 5000, "no\x00ne", "a\nb\x1b[2J.csv"])
def test_a_path_that_is_none_is_refused(name: str) -> None:
    assert_refused(lambda: read_table(name), DataError, "there is no such file|cannot be read")


def test_units_are_read_at_once_whatever_they_are() -> None:
    begin = time.process_time()
    for text in (
        "a" + "      a" * 8 + "!",
        " ( a ( ) ) " * 5 + "?",
        "a" + " * " * 200 + "b",
        "m" + " " * 10_000 + "!",
        "(" * 60,
    ):
        parse_unit(text)
    assert time.process_time() - begin < PATIENCE


# ---------------------------------------------------------------- formulas


REFUSED_FORMULAS = {
    "x**(x**x)": "a power whose exponent is no number stands inside another one",
    "**".join(["(4*x**4.01)"] * 20): "a power whose exponent is no number stands inside another one",
    "+".join("x*y" for _ in range(5000)): "at most 3,000 numbers, names and operations|nested too deeply|not a formula",
    "9" * 100_000: "at most 20000 characters",
    "9" * 5000: "not a formula",
    "x\ud800": "not a formula",
    "__import__('os').system('touch pwned')": "not a formula",
    "x.__class__.__subclasses__()": "not a formula",
}


@pytest.mark.parametrize("text", REFUSED_FORMULAS)
def test_a_formula_that_would_take_long_is_refused(text: str) -> None:
    assert_refused(lambda: Equations.parse({"x": text}, ("x",), ("y",)), FormulaError, REFUSED_FORMULAS[text])


@pytest.mark.parametrize(
    "text", [r"\frac{", r"\frac{x}", r"\frac{x}x", r"\frac{x}{", "@9@", "@0@", r"\frac{" * 3000, 7, None, "x" * 10**6]
)
def test_latex_that_nobody_wrote_is_refused(text: Any) -> None:
    assert_refused(
        lambda: Equations.from_latex({"x": text}, ("x",)), FormulaError, "not LaTeX that eqdisc writes|not a formula"
    )
    assert_refused(lambda: Equations.from_latex({}, ("x",)), FormulaError, "no formula for x")


@pytest.mark.parametrize(
    "sides",
    [
        ("*".join(f"(x + y + {k})**9" for k in range(9)), "x"),
        ("((7.0e-77*102)**(x**0.3 - 10239)) + (7.0e-77*102)**(x**0.3 - 9)", "y"),
        ("-0.051e-320*x**0.1*y**1.65", "-0.25*x**0.1*y**1.65"),
        ("1e-320", "-0.2*y - 1e308"),
        ("(25*y)**2*(25*y - 1e300)*(25*y)**4", "0"),
        ("0.5*(2/x)**(2/3)*(4 - y)", "0"),
    ],
)
def test_what_is_computed_from_a_law_ends_soon(sides: tuple[str, str]) -> None:
    begin = time.process_time()
    law = Equations.parse(dict(zip("xy", sides, strict=True)), ("x", "y"))
    assert Equations.parse(law.strings(), ("x", "y")).states == ("x", "y")
    law.latex(), law.fluxes(), law.invariants(), law.terms()
    assert time.process_time() - begin < PATIENCE


def test_long_words_about_a_law_are_refused_at_once() -> None:
    t = np.linspace(0.0, 5.0, 12)
    data = Dataset((Trajectory(t, np.column_stack([np.exp(-t), 2 - np.exp(-t)])),), ("x", "y"))
    for option, text in (
        ("forbid", " in d" * 20_000),
        ("sign", "x -> " * 20_000 + "y: +"),
        ("known", "dx/dt = " + "(" * 5000),
    ):
        config = FitConfig(**{option: text})  # type: ignore[arg-type]
        assert_refused(lambda config=config: read_knowledge(config, data, Scaling.of(data)), OptionError, f"^{option} ")


@pytest.mark.parametrize("text", ["7.0**(t*111111/3)", "exp(exp(9*t))", "1/t**60", "log(t)"])
def test_a_law_that_overflows_in_time_ends_in_a_status(text: str) -> None:
    law = Equations.parse({"x": text}, ("x",))
    found = simulate(law, np.array([1.0]), np.linspace(0.0, 9.0, 30))
    assert found.status in (Status.DIVERGED, Status.LEFT_DOMAIN, Status.STEP_UNDERFLOW)


# ---------------------------------------------------------------- runs


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def set_in(place: str, value: Any) -> Callable[[Any], None]:
    """Return a change of one value of JSON, by its path with dots."""
    *path, last = [int(key) if key.isdecimal() else key for key in place.split(".")]

    def change(facts: Any) -> None:
        for key in path:
            facts = facts[key]
        facts[last] = value

    return change


REFUSED_RESULTS: dict[str, tuple[Callable[[Any], None], str]] = {
    "states": (set_in("states", "S"), r"Expected `array`, got `str` - at `\$.states`"),
    "no states": (set_in("states", []), "states are not distinct names"),
    "states twice": (set_in("states", ["S", "S"]), "states are not distinct names"),
    "a state that is no text": (set_in("states.0", 3), r"Expected `str`, got `int`"),
    "a symbol that is a program": (set_in("symbols.S", 'x); system("touch pwned");//'), "no symbol that can stand in a formula"),
    "a name that is a program": (set_in("symbols", {}), "no symbol that can stand in a formula"),
    "one symbol twice": (set_in("symbols.S", "Western_Urban"), "two columns have one symbol"),
    "an input that is a program": (set_in("inputs", ["import os:hold"]), "an input has no symbol"),
    "equations": (set_in("equations", {}), "a law lacks the equation of a state"),
    "an equation that is no text": (set_in("equations.S", ["x"]), "Expected `str`, got `array`"),
    "a front without laws": (set_in("front", []), "the law that was selected is not on the front"),
    "selected": (set_in("selected", -1), "the law that was selected is not on the front"),
    "an end": (set_in("front.0.status", "a\nb"), "a law ended in no known way"),
    "a front of one": (set_in("front.0", None), "Expected `object`, got `null`"),
    "verdict": (set_in("verdict", "yes"), "Invalid enum value 'yes'"),
    "a start without states": (set_in("initial.0.x0", {}), "a start lacks a state"),
    "a start that is a text": (set_in("initial.0.x0.S", "1"), "Expected `float \\| null`, got `str`"),
    "sigma": (set_in("sigma", [0.1]), "Expected `object`, got `array`"),
    "hidden": (set_in("hidden", ["none"]), "a hidden state is none of the states"),
    "depth": (set_in("data", nested(500)), "Expected `object`, got `array`"),
    "interval": (set_in("parameters", [{"name": "a", "value": 1, "ci": [1], "unit": "", "where": ""}]), "length 2"),
    "half a character": (set_in("time", "\ud800"), "is not a result of eqdisc"),
    "no number": (set_in("ci_level", float("nan")), "is not a result of eqdisc"),
    "format": (set_in("format", [9]), r"has format \[9\]"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED_RESULTS)
def test_a_result_that_is_damaged_is_refused(case: str, files: dict[str, Any], tmp_path: Path) -> None:
    change, message = REFUSED_RESULTS[case]
    facts = json.loads(json.dumps(files["result.json"]))
    change(facts)
    folder = write_run(tmp_path / "run", files | {"result.json": facts})
    assert_refused(lambda: load(folder), RunError, f"result.json .*{message}")


@pytest.mark.parametrize(
    "content", ["", "[", "[]", "7", '"x"', "[" * 200_000, '{"format":' * 5000, "{" + "9" * 100_000, "\x00", "{}"]
)
def test_what_is_no_result_is_refused(content: str, files: dict[str, Any], tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", files | {"result.json": content})
    assert_refused(lambda: load(folder), RunError, "is not a result of eqdisc; run the fit again")
    folder = write_run(tmp_path / "run", files | {"config.json": content})
    assert_refused(lambda: read_begun(folder), RunError, "is not a configuration of eqdisc; run the fit again")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_in("data.notes", 3), "config.json is damaged: Expected `array`"),
        (set_in("config", None), "config.json is damaged: Expected `object`"),
        (set_in("config", {"restart": 3}), "Did you mean 'restarts'"),
        (set_in("config", {"restarts": []}), "restarts is \\[\\]"),
        (set_in("states", {"S": 1}), "config.json is damaged: Expected `array`"),
        (set_in("command", ["a", 1]), "config.json is damaged: Expected `str`"),
        (set_in("format", 2), "has format 2"),
        (set_in("fitted", ""), "data.csv was changed after the run began"),
    ],
)
def test_a_configuration_that_is_damaged_is_refused(
    change: Callable[[Any], None], message: str, files: dict[str, Any], tmp_path: Path
) -> None:
    facts = json.loads(json.dumps(files["config.json"]))
    change(facts)
    folder = write_run(tmp_path / "run", files | {"config.json": facts})
    assert_refused(lambda: read_begun(folder), RunError, message)


@pytest.mark.parametrize("content", ["", "t,S\n0,1\n", "\x00", "trajectory,year,S\n" + "1,0,1\n" * 9])
def test_data_that_were_changed_end_in_a_sentence(content: str, files: dict[str, Any], tmp_path: Path) -> None:
    run = load(write_run(tmp_path / "run", files | {"data.csv": content}))
    assert_refused(lambda: export(run, "c"), DataError, "data.csv")
    assert_refused(lambda: write_report(run), DataError, "data.csv")


def test_numbers_of_zero_in_groups_still_have_a_mean(files: dict[str, Any], tmp_path: Path) -> None:
    rows = [
        {"name": "a", "value": v, "ci": [None, 1.0], "unit": "", "where": "S", "group": g}
        for v, g in ((0.0, "1"), (1e308, "2"))
    ]
    rows.append({"name": "", "value": 1.0, "ci": None, "unit": "", "where": "S"})
    groups = {"1": {"equations": files["result.json"]["equations"]}}
    result = files["result.json"] | {"parameters": rows, "sigma": {"S": None}, "groups": groups}
    run = load(write_run(tmp_path / "run", files | {"result.json": result}))
    assert "groups from 0 to 1e+308" in write_answer(run)
    assert run.sigma.tolist() == [np.inf, np.inf]


# ---------------------------------------------------------------- chains, logs, rows


@pytest.mark.parametrize(
    "form",
    [
        {"specification": "realnpu:900000,nau:900000", "states": 900_000, "lanes": 64, "dtype": "float64", "options": [{}, {}]},
        {"specification": "realnpu:" + "9" * 5000 + ",nau", "states": 1, "lanes": 1, "dtype": "float64", "options": [{}, {}]},
        {"specification": "nau", "states": 1, "lanes": 10**12, "dtype": "float64", "options": [{}]},
        {"specification": "nau", "states": 1, "lanes": 1, "dtype": "load", "options": [{}]},
        {"specification": "nau", "states": 1, "lanes": 1, "dtype": "float64", "options": [{"generator": 1, "x": 2}]},
        {"specification": ["nau"], "states": "1", "lanes": None, "dtype": 3, "options": {}},
        nested(900),
        7,
    ],
)  # fmt: skip
def test_a_chain_that_says_more_than_it_holds_is_refused(form: Any, tmp_path: Path) -> None:
    save_file({"w": torch.ones(2)}, tmp_path / "field.safetensors", {"eqdisc.chain": json.dumps(form)})
    assert_refused(lambda: load_chain(tmp_path / "field.safetensors"), RunError, "holds no chain that can be read")


def test_a_log_with_absurd_lengths_is_cut_where_they_stand(tmp_path: Path) -> None:
    log = Checkpoint(tmp_path / "steps", {})
    log.put(b"k" * 16, {"x": np.ones(3)})
    log.close()
    whole = (tmp_path / "steps").read_bytes()
    for length in (2**64 - 1, 2**63, 2**40, 1):
        (tmp_path / "steps").write_bytes(
            whole + struct.pack("<16s16sdQ", b"l" * 16, b"s" * 16, float("nan"), length) + b"xx"
        )
        assert count_steps(tmp_path / "steps") == 1 + (length == 1)  # which counts, and does not look inside
        again = Checkpoint(tmp_path / "steps", {})
        assert len(again) == 1
        again.close()
        assert (tmp_path / "steps").read_bytes() == whole


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00", "cannot be read"),
        (b"a,b\n1,2\n", "has no column"),
        (",".join(FIELDS).encode() + b"\n1,2\n", "line 2: this is no row of results"),
        (",".join(FIELDS).encode() + b"\n" + b"," * (len(FIELDS) + 3) + b"\n", "line 2: this is no row of results"),
        (",".join(FIELDS).encode() + b"\nwest,x,,,,,,,,,,,\n", "line 2: this is no row of results"),
        (b"a" * 200_000 + b",b\n1,2\n", "cannot be read"),
    ],
)
def test_rows_that_are_no_results_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(content)
    assert_refused(lambda: read_benchmark(tmp_path / "rows.csv"), OptionError, f"rows.csv.*{message}.*--out")
    if "column" in message or "read" in message:
        assert_refused(lambda: read_experiment(tmp_path / "rows.csv"), OptionError, message)


# ---------------------------------------------------------------- names


NAMES = (
    'x); system("touch pwned");//',
    "</script><script>document.title=1</script>",
    "\\input{/etc/passwd}",
    "'''\nimport os\nos.system('touch pwned')",
    '"""; open("pwned", "w")',
    "*/ int evil = system(0); /*",
    "a\r\nb\u2028c\x85d",
    "#{run(`touch pwned`)} $(run(`touch pwned`))",
    "%n%n%s ??/",
    "]]><evil/><![CDATA[",
    "{{ 7*7 }}{% raw %}",
    "\u202etxe\x1b[2J",
)


@pytest.fixture(scope="module")
def hostile() -> Any:
    """A run whose states, trajectories, time, units, file and reasons are all programs."""
    t = np.linspace(0.0, 3.0, 25)
    states = NAMES
    x = np.exp(-0.5 * t)[:, None] * np.arange(1.0, len(states) + 1)
    pieces = tuple(Trajectory(t, x * k, name=name) for k, name in enumerate(NAMES[:4], 1))
    data = Dataset(
        pieces, states, time=NAMES[0] + "\n", file=NAMES[1], units=dict.fromkeys((*states, NAMES[0] + "\n"), NAMES[3])
    )
    law = {name: f"-0.5*{symbol}" for name, symbol in zip(states, data.formula_names, strict=True)}
    return run_of(law, data, reasons=list(NAMES), verdict="identified", eqdisc=NAMES[3], invariants=list(NAMES))


def test_the_python_program_is_harmless(hostile: Any, tmp_path: Path) -> None:
    (tmp_path / "law.py").write_text(export(hostile, "python"), encoding="utf-8")
    done = subprocess.run([sys.executable, "law.py"], cwd=tmp_path, capture_output=True, check=True)
    assert next(csv.reader(io.StringIO(done.stdout.decode(), newline="")))[2:] == list(NAMES)
    names = {n.names[0].name for n in ast.walk(ast.parse(export(hostile, "sympy"))) if isinstance(n, ast.Import)}
    assert names == {"sympy"}
    exec(export(hostile, "sympy"), {})
    assert [p.name for p in tmp_path.iterdir()] == ["law.py"]


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_c_program_is_harmless(hostile: Any, tmp_path: Path) -> None:
    (tmp_path / "law.c").write_text(export(hostile, "c"), encoding="utf-8")
    build = ["cc", "-std=c99", "-trigraphs", "-Wall", "-Wextra", "-Werror", "law.c", "-o", "law", "-lm"]
    subprocess.run(build, cwd=tmp_path, check=True)
    done = subprocess.run(["./law"], cwd=tmp_path, capture_output=True, check=True)
    rows = csv.reader(io.StringIO(done.stdout.decode("utf-8"), newline=""))
    assert next(rows)[2:] == list(NAMES)
    assert {row[0] for row in rows} == set(NAMES[:4])
    assert {p.name for p in tmp_path.iterdir()} == {"law", "law.c"}


def test_julia_stan_and_sbml_stay_what_they_are(hostile: Any, tmp_path: Path) -> None:
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_julia.language()))
    root = parser.parse(export(hostile, "julia").encode()).root_node
    assert not root.has_error
    kinds = [node.type for node in walk(root)]
    assert "command_literal" not in kinds  # `...` runs a command
    assert "string_interpolation" not in kinds
    compiler = Path(find_spec("httpstan").origin).with_name("stanc")  # type: ignore[union-attr, arg-type]
    (tmp_path / "law.stan").write_text(export(hostile, "stan"), encoding="utf-8")
    subprocess.run([compiler, "law.stan", "--o", "law.hpp"], cwd=tmp_path, check=True, capture_output=True)
    document = libsbml.readSBMLFromString(export(hostile, "sbml"))
    assert document.getNumErrors(libsbml.LIBSBML_SEV_ERROR) == 0
    assert document.getModel().getNumRules() == len(NAMES)


def walk(node: tree_sitter.Node) -> Iterator[tree_sitter.Node]:
    yield node
    for child in node.children:
        yield from walk(child)


def test_latex_inputs_no_file(hostile: Any) -> None:
    code = [line for line in export(hostile, "latex").splitlines() if not line.startswith("%")]
    commands = set(re.findall(r"\\([A-Za-z]+)", "\n".join(code)))
    assert commands <= {"begin", "end", "frac", "mathrm", "cdot", "left", "right", "sqrt"}
    assert "passwd" not in commands


class Tags(html.parser.HTMLParser):
    """The elements and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_pages_hold_names_as_text(hostile: Any) -> None:
    small = run_of({n: hostile.result["equations"][n] for n in NAMES[:2]}, named(hostile.data, 2), reasons=list(NAMES))
    for page in (write_report(small), hostile._repr_html_()):
        found = Tags(page)
        assert not found.tags & {"script", "iframe", "object", "evil", "embed", "form"}
        assert not [name for name in found.attributes if name.startswith("on")]
        assert "&lt;script&gt;" in page


def named(data: Dataset, count: int) -> Dataset:
    """Return the data with the first states only."""
    pieces = tuple(Trajectory(k.t, k.x[:, :count], name=k.name) for k in data.trajectories)
    return Dataset(pieces, data.states[:count], time=data.time, file=data.file)


def test_a_message_is_one_line_whatever_it_quotes() -> None:
    for name in NAMES:
        text = str(DataError(f"{name}: {name * 1000} is wrong; mend it."))
        assert text.isprintable()
        assert len(text) <= LONGEST
        assert text.endswith("mend it.")


def test_a_table_with_hostile_names_goes_through_a_folder(tmp_path: Path) -> None:
    t = np.linspace(0.0, 4.0, 12)
    frame = pd.DataFrame({"t": t} | {name: np.exp(-0.3 * t) * k for k, name in enumerate(NAMES[:4], 1)})
    frame.to_csv(tmp_path / "table.csv", index=False)
    data = read_table(tmp_path / "table.csv")
    assert data.states == NAMES[:4]
    folder = create_run(tmp_path / "run", data, FitConfig())
    RunFolder(folder.path).write_discovery(discovery_of(data))
    run = load(folder.path)
    assert run.states == NAMES[:4]
    assert run.data.states == NAMES[:4]
    assert write_answer(run).replace("\n", "").isprintable()
