"""What users of other tools complained about, answered point by point: one test each, named by project and issue in docs/endurance.md."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from eqdisc import Discovery, discover
from eqdisc.cli import UNUSABLE, main
from eqdisc.data.tables import read_table, write_table
from eqdisc.judge.validation import score, stretches_unseen
from eqdisc.law.catalogue import simulate_system
from eqdisc.law.equations import Equations
from eqdisc.law.simulation import simulate
from eqdisc.runs.run import load
from eqdisc.work.config import FitConfig
from eqdisc.work.errors import DataError
from eqdisc.work.status import Status


@pytest.fixture(scope="module")
def epidemic() -> Discovery:
    return discover(simulate_system("sir", noise=0.02, seed=3))


def test_a_law_that_blows_up_ends_at_a_time_and_not_in_nan() -> None:
    law = Equations.parse({"x": "x**2", "y": "-y"}, ("x", "y"))
    run = simulate(law, np.array([1.0, 1.0]), np.linspace(0, 3, 31))
    assert run.status is Status.DIVERGED
    assert run.end == pytest.approx(1.0, abs=1e-3)
    assert np.isfinite(run.x).all()


def test_a_simulation_never_hangs() -> None:
    law = Equations.parse({"x": "sin(1e7*t) * 1e7 - 1e9*x"}, ("x",))
    begun = time.perf_counter()
    run = simulate(law, np.array([1.0]), np.linspace(0, 1e3, 5), time_limit=0.5)
    assert run.status is not Status.OK
    assert time.perf_counter() - begun < 5.0


def test_a_record_too_short_for_a_window_is_used_or_refused_and_never_waited_for() -> None:
    t = np.linspace(0, 5, 12)
    long = pd.DataFrame({"trajectory": 0, "t": t, "x": 2 * np.exp(-t / 2)})
    short = pd.DataFrame({"trajectory": 1, "t": [0.0, 3.7], "x": [1.0, np.exp(-3.7 / 2)]})
    found = discover(pd.concat([long, short]))
    assert found.equations.strings() == {"x": "-0.5*x"}
    assert [entry["trajectory"] for entry in found.initial] == ["0", "1"]
    with pytest.raises(DataError, match="2 measured values where the smallest model needs 4"):
        discover(short)


def test_the_printed_law_is_the_one_that_was_scored(epidemic: Discovery, tmp_path: Path) -> None:
    facts = epidemic.result()
    law = Equations.parse(facts["equations"], tuple(facts["states"]))
    data = epidemic.data
    starts = np.array([[entry["x0"][s] for s in data.states] for entry in facts["initial"]])
    sigma = np.array([facts["sigma"][s] for s in data.states])
    stretches = [s._replace(start=x0) for s, x0 in zip(stretches_unseen(data), starts, strict=True)]
    assert score(law, stretches, sigma).error == pytest.approx(facts["errors"]["train"], rel=1e-6)


def test_no_coefficient_is_printed_as_zero() -> None:
    t = np.linspace(0, 4e6, 60)
    found = discover(pd.DataFrame({"t": t, "x": 3e-7 * np.exp(-1e-6 * t)}))
    assert found.equations.strings() == {"x": "-1e-06*x"}
    assert "10^{-6}" in found.equations.latex()["x"]


def test_an_epidemic_has_two_fluxes_and_not_eleven_terms(epidemic: Discovery) -> None:
    assert len(epidemic.equations.fluxes()) == 2  # infection and recovery
    assert np.count_nonzero(epidemic.equations.terms()[1]) == 4  # each leaves one state and enters another


def test_records_of_other_spans_and_uneven_times_are_one_law() -> None:
    rng = np.random.default_rng(1)
    records = []
    for k, (end, n) in enumerate([(3.0, 15), (8.0, 40), (1.0, 9)]):
        t = np.sort(rng.uniform(0, end, n))
        records.append(pd.DataFrame({"trajectory": k, "t": t, "x": (1 + k) * np.exp(-t / 2)}))
    assert discover(pd.concat(records)).equations.strings() == {"x": "-0.5*x"}


def test_time_in_other_units_is_the_same_law() -> None:
    data = simulate_system("logistic", noise=0.01, seed=2)
    t, x = data.trajectories[0].t, data.trajectories[0].x[:, 0]
    laws = [discover(pd.DataFrame({"t": unit * t, "x": x})).equations for unit in (1.0, 3600.0)]
    assert_allclose(laws[0].terms()[0], laws[1].terms()[0], atol=1e-6)
    assert_allclose(laws[0].terms()[1], 3600 * laws[1].terms()[1], rtol=2e-2)  # each rounded to its own digits


def test_a_law_of_noisy_data_does_not_run_away(epidemic: Discovery) -> None:
    facts = epidemic.result()
    assert np.isfinite(facts["errors"]["train"])
    for entry in facts["initial"]:
        x0 = np.array([entry["x0"][s] for s in facts["states"]])
        run = simulate(epidemic.equations, x0, np.linspace(0, 2 * epidemic.data.trajectories[0].t[-1], 50))
        assert run.status is Status.OK
        assert np.abs(run.x).max() < 10 * np.nanmax(np.abs(epidemic.data.trajectories[0].x))


def test_what_is_saved_is_read_without_the_program_that_fitted_it(tmp_path: Path) -> None:
    table = tmp_path / "decay.csv"
    t = np.linspace(0, 5, 14)
    pd.DataFrame({"t": t, "x": 2 * np.exp(-t / 2)}).to_csv(table, index=False)
    assert main(["fit", str(table), "--out", str(tmp_path / "run"), "--quiet"]) == 0
    run = load(tmp_path / "run")
    assert run.equations.strings() == {"x": "-0.5*x"}
    assert json.loads((tmp_path / "run/result.json").read_text())["equations"] == {"x": "-0.5*x"}


def test_rounding_does_not_break_the_fit(epidemic: Discovery) -> None:
    entry = epidemic.front[epidemic.selected]
    assert entry.equations.strings() == epidemic.equations.strings()
    assert entry.train < 1.2  # in units of the noise, after rounding


def test_the_same_seed_is_the_same_answer() -> None:
    data = simulate_system("logistic", noise=0.05, seed=4)
    one, other = (discover(data, FitConfig(seed=7)).result() for _ in range(2))
    timeless = lambda facts: {key: v for key, v in facts.items() if key != "seconds"}  # noqa: E731
    assert timeless(one) == timeless(other)


def test_a_column_that_explodes_is_named_with_its_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "blown.csv"
    table.write_text("t,x\n0,1\n1,2\n2,inf\n3,4\n")
    assert main(["fit", str(table)]) == UNUSABLE
    said = capsys.readouterr().err
    assert "blown.csv" in said
    assert "row 4" in said or "line 4" in said, said


def test_a_table_that_is_written_is_the_table_that_is_read(tmp_path: Path) -> None:
    data = simulate_system("lotka_volterra", noise=0.1, seed=5)
    write_table(data, tmp_path / "again.csv")
    assert_allclose(read_table(tmp_path / "again.csv").trajectories[0].x, data.trajectories[0].x, rtol=0)
