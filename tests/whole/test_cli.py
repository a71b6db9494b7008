"""The door: what a user types, what stands on standard output and standard error, and the exit status.

The search itself is replaced by one that answers at once, so that these tests are about the door.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from stand_in import discovery_of

from eqdisc.cli import FOUND, INTERRUPTED, MISTYPED, NOTHING, UNUSABLE, app, main
from eqdisc.data.dataset import Dataset
from eqdisc.work.config import FitConfig
from eqdisc.work.errors import DataError
from eqdisc.work.journal import Form, Journal

COMMANDS = ("fit", "check", "show", "simulate", "validate", "compare", "systems")
Search = Callable[..., Any]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> Callable[[Search], None]:
    """Replace the search; the module that holds it, and torch with it, is then never loaded."""

    def replace(discover: Search) -> None:
        module = ModuleType("eqdisc.discovery")
        module.discover = discover  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "eqdisc.discovery", module)

    replace(lambda data, config, *, validate=None, journal=None: discovery_of(data))
    return replace


@pytest.fixture
def table() -> Path:
    return write_table(Path("decay.csv"))


@pytest.fixture
def run(search: Any, table: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["fit", str(table), "--out", "runs/decay"]) == FOUND
    capsys.readouterr()
    return Path("runs/decay")


def write_table(path: Path, header: str = "t,S,I") -> Path:
    t = np.linspace(0, 4, 9)
    rows = [f"{a!r},{np.exp(-0.3 * a)!r},{2 * np.exp(-0.3 * a)!r}" for a in t.tolist()]
    path.write_text("\n".join([header, *rows]).replace("np.float64(", "").replace(")", "") + "\n")
    return path


def runs_in(folder: str) -> list[str]:
    return sorted(p.name for p in Path(folder).iterdir() if p.is_dir())


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error of a command that refused."""
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    (line,) = [line for line in err.splitlines() if line.startswith("eqdisc: ")]
    return line


# Fit


def test_fit_prints_the_law_the_front_and_the_verdict(
    search: Any, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", str(table), "--out", "run"]) == FOUND
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("dS/dt = ")
    assert lines[1].startswith(r"    \frac{d S}{dt} = ")
    assert any(line.startswith("→") for line in lines)
    assert "verdict: identified" in lines
    assert "A reason." in out
    assert "saved in run" in err
    assert Path("run/result.json").exists()


def test_fit_alone_makes_a_folder_named_after_the_data(search: Any, table: Path) -> None:
    assert main(["fit", str(table)]) == FOUND
    (folder,) = Path("runs").iterdir()
    assert folder.name.startswith("decay-")


def test_config_and_data_are_there_before_the_search_begins(search: Any, table: Path) -> None:
    seen: list[str] = []

    def discover(data: Dataset, config: FitConfig, **_: Any) -> Any:
        seen.extend(sorted(p.name for p in Path("run").iterdir()))
        assert config.seed == 7
        return discovery_of(data)

    search(discover)
    assert main(["fit", str(table), "--out", "run", "--seed", "7"]) == FOUND
    assert seen == ["checkpoint", "config.json", "data.csv"]


def test_every_option_of_the_search_arrives(search: Any, table: Path) -> None:
    seen: list[FitConfig] = []

    def discover(data: Dataset, config: FitConfig, **_: Any) -> Any:
        seen.append(config)
        return discovery_of(data)

    search(discover)
    words = "--search both --chain npu:4,nau --restarts 3 --l1 0.1 --device cpu --exponents 0..2 --no-snap"
    wanted = FitConfig(search="both", chain="npu:4,nau", restarts=3, l1=0.1, device="cpu", exponents="0..2", snap=False)
    words, wanted = f"{words} --held-out 0.25 --time-limit 9", wanted.replace(held_out=0.25, time_limit=9.0)
    assert main(["fit", str(table), *words.split()]) == FOUND
    assert seen == [wanted]


def test_validate_hands_over_what_is_never_fitted(search: Any, table: Path) -> None:
    seen: list[Dataset] = []

    def discover(data: Dataset, config: FitConfig, *, validate: Dataset, **_: Any) -> Any:
        seen.append(validate)
        return discovery_of(data)

    search(discover)
    assert main(["fit", str(table), "--validate", str(write_table(Path("more.csv")))]) == FOUND
    assert "more.csv" in seen[0].file


def test_roles_choose_columns(search: Any, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_table(Path("odd.csv"), header="S,clock,I")
    assert main(["fit", str(table), "--time", "S", "--states", "I", "--out", "run", "--quiet"]) == FOUND
    out, err = capsys.readouterr()
    assert out.startswith("dI/dt = ")
    assert err == ""


def test_nothing_found_ends_with_three_and_still_answers(
    search: Any, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search(lambda data, config, **_: discovery_of(data, "not identified"))
    assert main(["fit", str(table), "--out", "run"]) == NOTHING
    assert "verdict: not identified" in capsys.readouterr().out
    assert Path("run/result.json").exists()


def test_an_ambiguous_law_is_a_law(search: Any, table: Path) -> None:
    search(lambda data, config, **_: discovery_of(data, "ambiguous"))
    assert main(["fit", str(table)]) == FOUND


def test_json_is_result_json_and_nothing_else(search: Any, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", str(table), "--out", "run", "--json"]) == FOUND
    assert json.loads(capsys.readouterr().out) == json.loads(Path("run/result.json").read_text())


def test_quiet_leaves_standard_error_empty(search: Any, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", str(table), "--quiet"]) == FOUND
    assert capsys.readouterr().err == ""


def test_several_tables_are_several_runs(search: Any, capsys: pytest.CaptureFixture[str]) -> None:
    Path("other").mkdir()
    tables = [write_table(Path("a.csv")), write_table(Path("b.csv")), write_table(Path("other/a.csv"))]
    search(lambda data, config, **_: discovery_of(data, "not identified" if "b.csv" in data.file else "identified"))
    assert main(["fit", *map(str, tables), "--out", "all"]) == FOUND  # three is an end, too
    assert runs_in("all") == ["a", "a-2", "b"]
    assert capsys.readouterr().out.count("verdict: ") == 3
    assert main(["fit", *map(str, tables), "--out", "again", "--json"]) == FOUND
    verdicts = [json.loads(line)["verdict"] for line in capsys.readouterr().out.splitlines()]
    assert verdicts == ["identified", "not identified", "identified"]


def test_a_table_that_cannot_be_used_does_not_stop_the_others(search: Any, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.csv").write_text("t,S\n0,x\n1,2\n2,3\n3,4\n4,5\n5,6\n")
    assert main(["fit", "bad.csv", str(write_table(Path("good.csv"))), "--out", "all"]) == UNUSABLE
    assert "bad.csv" in capsys.readouterr().err
    assert runs_in("all") == ["good"]


# Refusals


def test_a_refused_table_leaves_no_folder(search: Any, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def discover(data: Dataset, config: FitConfig, **_: Any) -> Any:
        raise DataError("decay.csv: no.")

    search(discover)
    assert main(["fit", str(table), "--out", "run", "--quiet"]) == UNUSABLE
    assert sentence(capsys) == "eqdisc: decay.csv: no."
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("fit gone.csv", "gone.csv"),
        ("fit decay.csv --seed -1", "seed is -1; use a whole number from 0 on"),
        ("fit decay.csv --exponents none", "exponents is 'none'; use menu, real, or bounds"),
        ("fit decay.csv --device gpu", "Did you mean 'cpu'?"),
        ("fit decay.csv --held-out 0.2 --validate decay.csv", "use one of them"),
        ("fit decay.csv --states S,J", "--states"),
        ("fit decay.csv --out decay.csv", "is a file; name a folder"),
        ("fit decay.csv --out .", None),
        ("show gone", "there is no folder gone"),
        ("show . ", "is not a run of eqdisc"),
        ("check gone.csv", "gone.csv"),
        ("systems fsri", "Did you mean 'fsir'?"),
        ("systems --noise 0.1", "need a system"),
        ("systems fsir --noise 0.1", "--noise needs --out"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(
    words: str, message: str | None, search: Any, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main([*words.split(), "--quiet"])
    if message is None:
        assert status == FOUND  # a folder that holds other files is no run
        return
    assert status == UNUSABLE
    assert message in sentence(capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("fti decay.csv", 'Did you mean "fit"?'),
        ("fit decay.csv --sede 3", "Did you mean --seed?"),
        ("fit decay.csv --search netwrk", 'Did you mean "network"?'),
        ("fit decay.csv --seed three", "--seed"),
        ("fit decay.csv --out", "requires an argument"),
        ("fit", "DATA"),
        ("show", "requires an argument"),
        ("show runs/decay --to word", '"latex"'),
        ("show a b", "b"),
    ],
)
def test_a_wrong_command_line_ends_with_two(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == MISTYPED
    assert message in sentence(capsys)


def test_an_unexpected_exception_is_one_sentence_and_a_log(
    search: Any, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def discover(data: Dataset, config: FitConfig, **_: Any) -> Any:
        raise ZeroDivisionError("inner")

    search(discover)
    assert main(["fit", str(table), "--out", "run", "--quiet"]) == UNUSABLE
    assert "please report" in (said := sentence(capsys))
    assert str(Path("run/error.log")) in said
    assert "ZeroDivisionError: inner" in Path("run/error.log").read_text()


def test_a_folder_that_cannot_be_written_is_one_sentence(
    search: Any, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_text("")
    assert main(["fit", str(table), "--out", "file/run", "--quiet"]) == UNUSABLE
    assert "file" in sentence(capsys)


# Interruption


def interrupted_search(data: Dataset, config: FitConfig, *, validate: Any = None, journal: Journal) -> Any:
    """A search that is interrupted by Ctrl-C and obeys its journal."""
    assert not journal.stop
    journal.recall("step", lambda: 1, lambda: np.ones(1), Form(lambda v: {"v": v}, lambda packed: packed["v"]))
    os.kill(os.getpid(), signal.SIGINT)
    deadline = time.monotonic() + 5
    while not journal.stop:
        assert time.monotonic() < deadline
    return discovery_of(data)


def test_ctrl_c_saves_the_best_so_far(search: Any, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search(interrupted_search)
    assert main(["fit", str(table), "--out", "run"]) == INTERRUPTED
    out, err = capsys.readouterr()
    assert "verdict" in out
    assert "the best so far will be saved" in err
    assert Path("run/result.json").exists()
    assert Path("run/checkpoint").exists()


def test_a_second_ctrl_c_ends_at_once(search: Any, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def discover(data: Dataset, config: FitConfig, *, journal: Journal, **_: Any) -> Any:
        interrupted_search(data, config, journal=journal)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
        raise AssertionError

    search(discover)
    before = signal.getsignal(signal.SIGINT)
    assert main(["fit", str(table), "--out", "run"]) == INTERRUPTED
    assert not Path("run/result.json").exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_ends_the_tables_that_have_not_begun(search: Any) -> None:
    search(interrupted_search)
    assert (
        main(["fit", str(write_table(Path("a.csv"))), str(write_table(Path("b.csv"))), "--out", "all"]) == INTERRUPTED
    )
    assert runs_in("all") == ["a"]


def test_the_time_limit_asks_to_stop_and_is_no_interruption(search: Any, table: Path) -> None:
    def discover(data: Dataset, config: FitConfig, *, journal: Journal, **_: Any) -> Any:
        deadline = time.monotonic() + 5
        while not journal.stop:
            assert time.monotonic() < deadline
        return discovery_of(data)

    search(discover)
    assert main(["fit", str(table), "--time-limit", "0.05"]) == FOUND


def test_progress_in_a_log_is_plain_lines_and_the_front_is_there_while_it_runs(
    search: Any, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def discover(data: Dataset, config: FitConfig, *, journal: Journal, **_: Any) -> Any:
        found = discovery_of(data)
        for k in range(100):
            journal.record("matching", k + 1, 100)
        journal.record("search", 1, 3, message="a law", front=found.result()["front"])
        assert Path("run/front.csv").exists()
        return found

    search(discover)
    assert main(["fit", str(table), "--out", "run"]) == FOUND
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert err.count("matching") == 2  # when it begins and when it has ended
    assert "search 1/3  a law" in err


# The other commands


def test_check_draws_what_was_read(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "check.svg"
    assert main(["check", str(table), "--out", str(picture)]) == FOUND
    assert picture.read_text(encoding="utf-8").count('<g id="axes_') == 2
    assert main(["check", str(table), "--out", "check.txt"]) == UNUSABLE
    assert "the picture is .png, .svg, .pdf" in capsys.readouterr().err


def test_check_says_what_a_table_can_support(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(table)]) == FOUND
    assert "decay.csv" in capsys.readouterr().out
    assert main(["check", str(table), "--json"]) == FOUND
    assert json.loads(capsys.readouterr().out)["rows"] == 9


def test_what_was_mended_is_a_warning_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    Path("rows.csv").write_text("t,S\n1,2\n0,1\n2,4\n3,7\n4,9\n5,12\n")
    assert main(["check", "rows.csv"]) == FOUND
    assert "warning: " in capsys.readouterr().err
    assert main(["check", "rows.csv", "--quiet"]) == FOUND
    assert capsys.readouterr().err == ""


def test_show_says_what_fit_said(search: Any, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["fit", str(table), "--out", "run"])
    said = capsys.readouterr().out
    assert main(["show", "run"]) == FOUND
    assert capsys.readouterr().out == said


def test_show_gives_the_equations_alone_and_the_whole_front(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from eqdisc.runs.run import load

    for form, begins in (("latex", r"\frac{d S}{dt} = "), ("unicode", "dS/dt = "), ("sympy", "dS/dt = ")):
        assert main(["show", str(run), "--to", form]) == FOUND
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 2
        assert lines[0].startswith(begins)
    assert lines[0] == f"dS/dt = {load(run).result['equations']['S']}"
    assert main(["show", str(run), "--front"]) == FOUND
    out = capsys.readouterr().out
    assert out.count("dS/dt") == 2
    assert "diverged" in out
    assert main(["show", str(run), "--front", "--json"]) == FOUND
    assert len(json.loads(capsys.readouterr().out)) == 2


def test_simulate_prints_every_trajectory_as_csv(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", str(run)]) == FOUND
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "trajectory,t,S,I"
    assert len(lines) == 10
    assert [float(v) for v in lines[1].split(",")] == pytest.approx([0, 0, 1, 2])


def test_simulate_from_elsewhere_into_a_file(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", str(run), "--x0", "S=5, I=1", "--t-end", "8", "--out", "sim.csv"]) == FOUND
    assert capsys.readouterr().out == ""
    rows = [[float(v) for v in line.split(",")] for line in Path("sim.csv").read_text().splitlines()[1:]]
    assert rows[0] == pytest.approx([0, 0, 5, 1])
    assert rows[-1][1] == 8
    np.testing.assert_allclose(rows[-1][2], 5 * np.exp(-0.3 * 8), rtol=1e-6)  # the solver runs at 1e-8
    assert main(["simulate", str(run), "--x0", "S=5", "--json"]) == FOUND
    first = json.loads(capsys.readouterr().out)[0]
    assert first == pytest.approx({"trajectory": "0", "t": 0.0, "S": 5.0, "I": 2.0})


@pytest.mark.parametrize("x0", ["S", "S=", "S=five", "S=1,S=2", "=3", "S=inf", "Z=1"])
def test_a_start_that_is_none_is_refused(x0: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", str(run), "--x0", x0]) == UNUSABLE
    assert "--x0" in sentence(capsys)


def test_validate_compares_the_law_with_what_it_never_saw(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = write_table(Path("more.csv"))
    assert main(["validate", str(run), str(more)]) == FOUND
    assert "trajectory" in capsys.readouterr().out
    assert main(["validate", str(run), str(more), "--json"]) == FOUND
    facts = json.loads(capsys.readouterr().out)
    assert facts["error"] < 0.1  # the data are the law
    assert [row["status"] for row in facts["trajectories"]] == ["ok"]


def test_validate_says_which_records_were_fitted(run: Path, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = Path("other.csv")
    other.write_text(table.read_text().replace("2.0,", "2.1,"))
    for data, fitted in ((table, True), (other, False)):
        assert main(["validate", str(run), str(data)]) == FOUND
        assert ("ok, was fitted" in capsys.readouterr().out) == fitted
        assert main(["validate", str(run), str(data), "--json"]) == FOUND
        assert json.loads(capsys.readouterr().out)["trajectories"][0]["fitted"] is fitted


def test_systems_lists_describes_and_simulates(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["systems"]) == FOUND
    assert "fsir" in capsys.readouterr().out
    assert main(["systems", "fsir"]) == FOUND
    shown = capsys.readouterr().out
    assert "a = 0.05 1/day, b = 0.06 1/day" in shown
    assert "to t = 200 day, 40 samples" in shown
    assert "source: Heim" in shown
    assert main(["systems", "fsir", "--out", "fsir.csv", "--noise", "0.02", "--seed", "1"]) == FOUND
    assert Path("fsir.csv").read_text().splitlines()[0] == "t,S,I,R"
    assert main(["systems", "--json"]) == FOUND
    assert any(s["name"] == "fsir" for s in json.loads(capsys.readouterr().out))


# The command itself


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_help_ends_with_a_line_to_paste(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"]) == FOUND
    lines = capsys.readouterr().out.rstrip().splitlines()
    assert lines[-1].startswith(f"example:  eqdisc {command}")
    words = lines[-1].removeprefix("example:  eqdisc ").split()
    app.parse_args(words, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_json_and_quiet_are_on_every_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == FOUND
    text = capsys.readouterr().out
    assert "--json" in text
    assert "--quiet" in text
    assert "--no-json" not in text


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    import eqdisc

    assert main(["--version"]) == FOUND
    assert capsys.readouterr().out.strip() == eqdisc.__version__


@pytest.fixture
def command() -> list[str]:
    return [sys.executable, "-m", "eqdisc"]


def test_a_reader_that_has_enough_is_no_error(run: Path, command: list[str]) -> None:
    shell = f"{' '.join(command)} simulate {run} --t-end 1e3 | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["trajectory,t,S,I", "0"]
    assert done.stderr == ""


def test_a_terminal_without_unicode_is_no_error(run: Path, command: list[str]) -> None:
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([*command, "show", str(run)], capture_output=True, env=ascii_only, check=False)
    assert done.returncode == FOUND
    assert b"verdict" in done.stdout


def test_help_is_fast(command: list[str]) -> None:
    seconds = []
    for _ in range(3):
        start = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*command, "--help"], capture_output=True, check=True)
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime)
    assert min(seconds) < 0.6  # of the processor: 0.25 s where measured; waiting for others does not count


def test_a_profile_says_where_the_time_went(search: Any, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", str(table), "--profile", "--quiet", "--out", "run"]) == FOUND
    lines = capsys.readouterr().err.splitlines()
    seconds = {line.split("  ")[0]: float(line.split()[-2]) for line in lines if line.endswith("%")}
    assert {"starting", "reading", "loading", "saving", "printing"} <= set(seconds)
    whole = seconds.pop("whole process")
    assert sum(seconds.values()) == pytest.approx(whole, abs=0.1)  # each is rounded to a hundredth
    assert lines[-1].endswith(" GB")


def test_a_profile_is_of_one_table(search: Any, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_table(Path("other.csv"))
    assert main(["fit", str(table), str(other), "--profile"]) == UNUSABLE
    assert "--profile is of one table" in sentence(capsys)
