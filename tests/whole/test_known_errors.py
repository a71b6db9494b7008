"""Known errors: a column S_sigma weighs every value of S, and what is known better counts for more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from eqdisc.data.scaling import Scaling
from eqdisc.data.smoothing import denoise, smooth_reml
from eqdisc.data.tables import as_dataset, read_table, write_table
from eqdisc.discovery import discover
from eqdisc.work.errors import DataError


def decay(seed: int = 0) -> pd.DataFrame:
    """Return 2 exp(-t/2) on 40 times, a third of the readings thirty times as uncertain as the others."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 6, 40)
    sigma = np.where(rng.random(40) < 1 / 3, 0.3, 0.01)
    return pd.DataFrame({"t": t, "x": 2 * np.exp(-t / 2) + sigma * rng.normal(size=40), "x_sigma": sigma})


def test_a_column_of_errors_is_no_state(tmp_path: Path) -> None:
    data = as_dataset(decay())
    assert data.states == ("x",)
    assert data.trajectories[0].sigma[:, 0].tolist() == decay().x_sigma.tolist()
    write_table(data, tmp_path / "again.csv")
    assert np.array_equal(read_table(tmp_path / "again.csv").trajectories[0].sigma, data.trajectories[0].sigma)
    assert as_dataset(decay(), states="x,x_sigma").states == ("x", "x_sigma")


@pytest.mark.parametrize(("value", "cause"), [(0.0, "a standard error is above 0"), (np.nan, "is missing")])
def test_an_error_that_is_none_is_refused(value: float, cause: str) -> None:
    table = decay()
    table.loc[3, "x_sigma"] = value
    with pytest.raises(
        DataError, match=rf"row 3, column 'x_sigma': .*{cause}; correct the cell or empty the value of x"
    ):
        as_dataset(table)


def test_smoothing_trusts_what_is_known_better() -> None:
    t = np.linspace(0, 6, 200)
    v = np.where(np.arange(200) % 3 == 0, 3.0, 0.3)
    y = np.sin(t) + 0.05 * v * np.random.default_rng(1).normal(size=200)
    weighed, _, sigma = smooth_reml(t, y, v)
    assert np.abs(weighed - np.sin(t)).std() < 0.5 * np.abs(smooth_reml(t, y)[0] - np.sin(t)).std()
    assert sigma == pytest.approx(0.05, rel=0.15)


def test_what_is_known_takes_the_place_of_the_estimate() -> None:
    data = as_dataset(decay())
    scaled = Scaling.of(data).apply(data)
    known = denoise(scaled)
    assert known.sigma[0] == pytest.approx(np.sqrt((scaled.trajectories[0].sigma ** 2).mean()))
    weights = known.weights(scaled)[0][:, 0]
    assert weights * scaled.trajectories[0].sigma[:, 0] == pytest.approx(known.sigma[0])


def test_known_errors_narrow_the_interval() -> None:
    with_errors, without = discover(decay()), discover(decay().drop(columns="x_sigma"))
    assert with_errors.equations.strings()["x"].endswith("*x")
    rate = with_errors.parameters[0]
    assert rate.ci is not None
    assert rate.ci[0] < -0.5 < rate.ci[1]
    other = without.parameters[0].ci
    assert other is not None
    assert rate.ci[1] - rate.ci[0] < 0.3 * (other[1] - other[0])
