"""The benchmark: rows are never measured twice, rates are counts, ratios are judged over one bar, the command ends with a picture."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eqdisc.benchmarks import benchmark
from eqdisc.benchmarks.benchmark import (
    Task,
    as_markdown,
    choose_systems,
    kind_of,
    list_tasks,
    run_benchmark,
    summarise,
)
from eqdisc.benchmarks.scoring import recovered
from eqdisc.cli import main
from eqdisc.law.catalogue import catalogue
from eqdisc.law.equations import Equations
from eqdisc.work.crew import Crew
from eqdisc.work.errors import DataError, OptionError

TASKS = [Task("west", 0.0, 60, 1, 0), Task("torricelli", 0.0, 50, 1, 0)]


def a_row(task: Task, **facts: Any) -> dict[str, Any]:
    measured = {"kind": "powers", "status": "ok", "verdict": "identified", "recovered": 1, "r2": 1.0, "seconds": 2.0}
    return {**vars(task), **measured, **facts}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """Every task that is really measured, none of which takes time."""
    calls: list[Task] = []
    monkeypatch.setattr(benchmark, "measure", lambda task, limit: calls.append(task) or a_row(task))
    return calls


def test_what_is_there_is_not_measured_again(tmp_path: Path, measured: list[Task]) -> None:
    assert [done for done, _ in run_benchmark(TASKS[:1], tmp_path, Crew())] == [1]
    assert [done for done, _ in run_benchmark(TASKS, tmp_path, Crew())] == [2]
    assert list(run_benchmark(TASKS, tmp_path, Crew())) == []
    assert measured == TASKS
    with (tmp_path / "rows.csv").open(encoding="utf-8") as file:
        assert [row["system"] for row in csv.DictReader(file)] == ["west", "torricelli"]


def test_an_interruption_leaves_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(task: Task, limit: float | None) -> dict[str, Any]:
        if task.system == "torricelli":
            raise KeyboardInterrupt
        return a_row(task)

    monkeypatch.setattr(benchmark, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(run_benchmark(TASKS, tmp_path, Crew()))
    assert len(benchmark.read_rows(tmp_path / "rows.csv")) == 1


def test_a_fit_that_fails_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise DataError("no equation could be fitted.")

    monkeypatch.setattr("eqdisc.discovery.discover", fails)
    row = benchmark.measure(TASKS[0])
    assert (row["status"], row["message"]) == ("failed", "no equation could be fitted.")


def test_rates_are_counts() -> None:
    rows = [
        a_row(Task("a", 0.0, 9, 1, 0)),
        a_row(Task("b", 0.0, 9, 1, 0), recovered=0),  # claimed and wrong
        a_row(Task("c", 0.0, 9, 1, 0), verdict="ambiguous", r2=0.5),
        a_row(Task("d", 0.0, 9, 1, 0), status="failed", verdict="", recovered="", r2="", seconds=8.0),
        a_row(Task("e", 0.0, 9, 1, 0), kind="transcendental", recovered=0),
        a_row(Task("f", 0.1, 9, 1, 0)),
    ]
    clean = summarise(rows).iloc[0]
    assert (clean["kind"], clean["noise"], clean["fits"]) == ("all", 0.0, 5)
    assert (clean["recovered"], clean["recovered of"]) == (2, 4), "what nobody could recover does not count"
    assert (clean["generalises"], clean["generalises of"]) == (3, 4)
    assert (clean["claimed and right"], clean["claimed and right of"]) == (1, 3), "a transcendental claim is wrong"
    assert (clean["of recovered claimed"], clean["of recovered claimed of"]) == (1, 2)
    assert clean["median s"] == 2.0
    assert "| all | 0 | 5 | 50 % (2/4) | 75 % (3/4) | 60 % (3/5) | 33 % (1/3) | 50 % (1/2) | 2.0 |" in as_markdown(
        summarise(rows)
    )


def test_what_was_varied_has_its_own_lines(tmp_path: Path) -> None:
    tasks = [Task(system, 0.0, n, k, 0) for system in ("a", "b") for n in (9, 18) for k in (1, 2)]
    summary = benchmark.write_summary([a_row(task, recovered=int(task.samples > 9)) for task in tasks], tmp_path)
    assert "samples" not in summarise([a_row(Task("a", 0.0, 9, 1, 0)), a_row(Task("b", 0.0, 18, 1, 0))])
    assert summary[summary["kind"] == "all"][["samples", "starts", "recovered"]].to_numpy().tolist() == [
        [9, 1, 0],
        [9, 2, 0],
        [18, 1, 2],
        [18, 2, 2],
    ]
    assert (tmp_path / "recovery.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("found", "right"),
    [
        ("-s/(2 + s)", True),
        ("-0.5*s/(1 + 0.5*s)", True),
        ("-1.03*s/(2.05 + s)", True),
        ("-1.3*s/(2 + s)", False),
        ("-s**1.2/(2 + s)", False),
        ("-0.42*s**0.5", False),
        ("-s/(2 + s) - 0.01", False),
    ],
)
def test_ratios_are_judged_over_one_bar(found: str, right: bool) -> None:
    law, truth = (Equations.parse({"s": text}, ("s",)) for text in (found, "-s/(2 + s)"))
    assert recovered(law, truth, np.array([3.0])) is right


def test_sizes_without_sign_are_judged_too() -> None:
    truth = Equations.parse({"v": "-0.3*v*Abs(v) - 9.81"}, ("v",))
    for text, right in (
        ("-0.3*v*Abs(v) - 9.8", True),
        ("-0.3*v**2 - 9.8", False),
        ("-0.3*sign(v)*Abs(v)**2 - 9.8", True),
    ):
        assert recovered(Equations.parse({"v": text}, ("v",)), truth, np.array([4.0])) is right, text


def test_kinds_are_told_from_the_laws() -> None:
    kinds = {name: kind_of(catalogue()[name]) for name in ("west", "lorenz", "monod", "pendulum", "drag_spring")}
    assert kinds == {
        "west": "powers",
        "lorenz": "polynomials",
        "monod": "rational",
        "pendulum": "transcendental",
        "drag_spring": "powers",
    }
    assert sum(len(choose_systems(kind)) for kind in benchmark.KINDS) == len(choose_systems("all")) >= 60


def test_a_suite_that_is_not_there_teaches() -> None:
    with pytest.raises(OptionError, match=r"no suite or system 'ratonal'\. Did you mean 'rational'"):
        choose_systems("ratonal")


def test_a_task_needs_the_starts_that_a_system_has() -> None:
    assert list_tasks("west", [0.0], [], [2], [0]) == [Task("west", 0.0, 60, 2, 0)]
    assert list_tasks("west", [0.0], [], [9], [0]) == []


def test_the_command_measures_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["benchmark", "torricelli,logistic", "--noise", "0", "--out", str(tmp_path), "--json", "--quiet"]
    assert main(words) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts[0]["kind"], facts[0]["fits"], facts[0]["recovered"]) == ("all", 2, 2)
    assert {"rows.csv", "summary.csv", "summary.md", "recovery.png"} <= {path.name for path in tmp_path.iterdir()}
    assert main([*words[:-2]]) == 0
    out = capsys.readouterr().out
    assert "of recovered claimed" in out
    assert "100 % (2/2)" in out
