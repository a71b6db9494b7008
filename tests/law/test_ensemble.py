"""Ensembles: records simulated side by side are those simulated one by one, and their starts are found."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from eqdisc.cli import FOUND, main
from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.law.ensemble import fit_ensemble, simulate_ensemble
from eqdisc.law.equations import Equations
from eqdisc.law.simulation import simulate
from eqdisc.runs.run import load

CYCLE = Equations.parse({"x": "x - 0.1*x*y", "y": "0.075*x*y - 1.5*y"}, ("x", "y"))


def records(count: int, noise: float) -> tuple[Dataset, np.ndarray, np.ndarray]:
    """Return records of uneven lengths and times with gaps, their starts, and the noise."""
    rng = np.random.default_rng(0)
    starts, sigma = rng.uniform(5, 12, (count, 2)), noise * np.array([10.0, 5.0])
    made = []
    for k, x0 in enumerate(starts):
        t = np.sort(np.r_[0.0, rng.uniform(0, 8, 20 + k % 5)])
        x = simulate(CYCLE, x0, t, rtol=1e-11).x + sigma * rng.normal(size=(len(t), 2))
        x[rng.random(x.shape) < 0.1] = np.nan
        made.append(Trajectory(t, x, name=str(k)))
    return Dataset(tuple(made), ("x", "y")), starts, sigma


def test_records_side_by_side_are_those_one_by_one() -> None:
    x0, t = np.array([[10.0, 5.0], [5.0, 8.0]]), np.array([np.linspace(0, 8, 9), np.linspace(0, 4, 9) ** 1.5])
    together = simulate_ensemble(CYCLE, x0, t, 200)
    for k in range(2):
        # rtol: a step of 0.005 errs by its fourth power, over some six hundred of them
        assert_allclose(together[k], simulate(CYCLE, x0[k], t[k], rtol=1e-11).x, rtol=1e-7)


def test_starts_are_found_to_the_noise_and_the_error_is_that_of_their_fit() -> None:
    data, starts, sigma = records(60, 0.02)
    found = fit_ensemble(CYCLE, data, sigma)
    values = sum(int(np.isfinite(k.x).sum()) for k in data.trajectories)
    assert found.lost == ()
    # each record spends two values on its start; three standard errors of a standard deviation
    assert found.error == pytest.approx(np.sqrt(1 - 120 / values), abs=3 / np.sqrt(2 * values))
    assert np.sqrt((((found.starts - starts) / sigma) ** 2).mean()) < 1.0


def test_a_record_that_the_law_cannot_follow_is_left_alone() -> None:
    t = np.linspace(0, 2, 12)
    explosion = Equations.parse({"x": "x**2"}, ("x",))
    tame, wild = Trajectory(t, (0.2 / (1 - 0.2 * t))[:, None], name="a"), Trajectory(t, 50 + t[:, None], name="b")
    found = fit_ensemble(explosion, Dataset((tame, wild), ("x",)), np.array([0.01]))
    assert found.lost == (1,)
    assert found.error < 0.1


@pytest.mark.slow
def test_of_many_records_some_are_fitted_and_all_are_judged(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    data, _, _ = records(900, 0.02)
    frames = [pd.DataFrame({"trajectory": k.name, "t": k.t, "x": k.x[:, 0], "y": k.x[:, 1]}) for k in data.trajectories]
    pd.concat(frames).to_csv(tmp_path / "many.csv", index=False)
    assert main(["fit", str(tmp_path / "many.csv"), "--out", str(tmp_path / "run")]) == FOUND
    assert "of 900 trajectories, evenly chosen" in capsys.readouterr().err
    run = load(tmp_path / "run")
    assert len(run.result["initial"]) == 900
    assert run.result["data"]["fitted"] < run.result["data"]["rows"] == data.rows
    assert 0.9 < run.result["errors"]["train"] < 1.1
