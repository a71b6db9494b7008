"""Uncertainty: replicates keep what correlates together, their intervals agree with the likelihood's, doubtful terms show."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqdisc import Discovery, discover
from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.judge.bootstrap import MANY, draw_blocks
from eqdisc.work.config import FitConfig

T = np.linspace(0.0, 4.0, 60)


def decays(rates: list[float], noise: float = 0.02, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    records = [
        Trajectory(T, (2.0 * np.exp(-k * T) + noise * rng.normal(size=len(T)))[:, None], name=str(q))
        for q, k in enumerate(rates)
    ]
    return Dataset(tuple(records), ("x",))


@given(st.integers(1, 200), st.integers(0, 10))
def test_blocks_are_neighbours_and_nothing_is_made_up(n: int, seed: int) -> None:
    drawn = draw_blocks(np.arange(float(n)), np.random.default_rng(seed))
    assert len(drawn) == n
    assert set(drawn) <= set(np.arange(float(n)))
    length = max(1, round(n ** (1 / 3)))
    steps = np.diff(drawn) % n
    assert (steps == 1 % n).sum() >= (n - 1) - (n - 1) // length


@pytest.fixture(scope="module")
def decay() -> Discovery:
    return discover(decays([0.5]), FitConfig(bootstrap=60))


def test_intervals_agree_with_the_curvature_of_the_likelihood(decay: Discovery) -> None:
    assert decay.bootstrap is not None
    (term,) = [t for t in decay.bootstrap.terms if t.coefficient is not None]
    low, high = decay.parameters[0].ci or (0.0, 0.0)
    assert term.coefficient is not None
    assert term.coefficient[1] < decay.parameters[0].value < term.coefficient[2]
    # 60 replicates know the width of a 90 % interval to about a fifth
    assert 0.55 < (term.coefficient[2] - term.coefficient[1]) / (high - low) < 1.6


def test_a_plain_term_is_always_included_and_the_result_can_be_written(decay: Discovery) -> None:
    assert decay.bootstrap is not None
    assert (decay.bootstrap.count, decay.bootstrap.terms[0].inclusion) == (60, 1.0)
    assert decay.result()["bootstrap"]["terms"][0]["term"] == "x"


@pytest.mark.slow
def test_trajectories_that_differ_widen_the_interval_when_whole_ones_are_drawn() -> None:
    rates = [0.5 + 0.05 * (-1) ** q for q in range(MANY)]
    alike, apart = (discover(decays(r, seed=1), FitConfig(bootstrap=40)).bootstrap for r in ([0.5] * MANY, rates))
    assert alike is not None
    assert apart is not None
    width = [b.terms[0].coefficient[2] - b.terms[0].coefficient[1] for b in (alike, apart)]  # type: ignore[index]
    assert width[1] > 2 * width[0]


def test_numbers_that_only_move_together_are_named() -> None:
    x = 10.0 + 0.5 * np.exp(-T) + 1e-3 * np.random.default_rng(0).normal(size=len(T))
    found = discover(Dataset((Trajectory(T, x[:, None]),), ("x",)))
    assert any("move together (correlation" in words for words in found.flat), found.equations


def test_numbers_that_the_data_tell_apart_are_not(decay: Discovery) -> None:
    assert decay.flat == ()
