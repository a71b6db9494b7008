"""Residuals: noise passes, what is left unexplained does not, and the tests keep their level."""

from __future__ import annotations

import numpy as np
import pytest
from stand_in import run_of

from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.law.equations import Equations
from eqdisc.law.simulation import simulate
from eqdisc.runs.residuals import residuals_of, test_residuals
from eqdisc.runs.run import Run

T = np.linspace(0.0, 8.0, 80)
GROWTH = "0.5*x - 0.05*x**2"


def a_run(extra: np.ndarray, law: str = GROWTH, sigma: float = 0.1) -> Run:
    """Logistic growth from two starts with what is added to it (2, n), and the run of a law that starts there."""
    truth = Equations.parse({"x": GROWTH}, ("x",))
    starts = (0.5, 14.0)
    records = tuple(
        Trajectory(T, simulate(truth, np.array([x0]), T).x + e[:, None], name=str(k))
        for k, (x0, e) in enumerate(zip(starts, extra, strict=True))
    )
    initial = [{"trajectory": str(k), "x0": {"x": x0}} for k, x0 in enumerate(starts)]
    return run_of({"x": law}, Dataset(records, ("x",)), initial=initial, sigma={"x": sigma})


def noise(seed: int) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).normal(size=(2, len(T)))


def test_the_level_of_both_tests_is_what_it_says() -> None:
    p = np.array([[t.whiteness, t.drift] for s in range(60) for t in test_residuals(a_run(noise(s)))])
    assert (abs((p < 0.1).mean(0) - 0.1) < 0.105).all()  # 2.7 standard errors of 60 draws


def test_a_slow_wave_and_a_drift_are_seen() -> None:
    (wave,) = test_residuals(a_run(noise(0) + 0.15 * np.sin(T)))
    assert wave.whiteness is not None
    assert wave.whiteness < 1e-6
    (drift,) = test_residuals(a_run(noise(0) + 0.03 * T))
    assert drift.drift is not None
    assert drift.drift < 1e-3
    assert any("drift over a record" in doubt for doubt in drift.doubts)


def test_residuals_count_in_the_noise_of_their_own_record() -> None:
    run = a_run(noise(0) * np.array([[1.0], [5.0]]))
    run.result["initial"][1]["sigma"] = {"x": 0.5}
    (first, second), _ = residuals_of(run)
    assert [first.r.std(), second.r.std()] == pytest.approx([1.0, 1.0], rel=0.3)


def test_exact_data_and_short_records_are_not_tested() -> None:
    (exact,) = test_residuals(a_run(1e-9 * noise(0)))
    assert (exact.whiteness, exact.drift) == (None, None)


def test_what_a_law_cannot_follow_is_named() -> None:
    run = a_run(noise(0), law="0.5*x - 0.03*x**2")
    found, astray = residuals_of(run)
    assert (found, astray) == ((), ("0", "1"))
    assert test_residuals(run) == ()


def test_residuals_count_in_units_of_the_noise() -> None:
    (first, _), _ = residuals_of(a_run(noise(3)))
    assert first.r[:, 0] == pytest.approx(noise(3)[0] / 0.1, abs=1e-5)
