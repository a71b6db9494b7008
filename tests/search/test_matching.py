"""Matching: the integral form in closed form, exponents by variable projection, the truth among the proposals."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.integrate import solve_ivp

from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.data.smoothing import denoise
from eqdisc.fit.matched import Matched
from eqdisc.fit.regression import Regression
from eqdisc.law.price import Prior
from eqdisc.law.terms import Terms
from eqdisc.search.library import ratios, sums
from eqdisc.search.matching import match
from eqdisc.search.subsets import Subsets


def west(n: int = 60, noise: float = 0.0, seed: int = 0) -> Dataset:
    """x' = 0.3 x**0.75 - 0.3 x from 0.05, whose x**(1/4) relaxes exponentially."""
    t = np.linspace(0, 40, n)
    root = 1 - (1 - 0.05**0.25) * np.exp(-0.3 * t / 4)
    x = root**4 + noise * np.random.default_rng(seed).normal(size=n)
    return Dataset((Trajectory(t / 4, x[:, None]),), states=("x",))


def matched(w: torch.Tensor, free: bool = False) -> Matched:
    """Lanes of terms of one state, all exponents free or none."""
    terms = Terms.of(w.numpy())
    loose = terms.nothing() if not free else replace(terms.nothing(), exponents=np.ones(w.shape, bool))
    return Matched.of(terms.torch(), loose.torch())


@pytest.fixture
def exact() -> Regression:
    data = west()
    return Regression(data, lambda k, t: ((1 - (1 - 0.05**0.25) * np.exp(-0.3 * t)) ** 4)[:, None], np.array([True]))


def test_true_exponents_leave_no_residual(exact: Regression) -> None:
    true = torch.tensor([[[0.75], [1.0]]], dtype=torch.float64)
    lanes = exact.fit(matched(true), 0)
    assert_allclose(lanes.law.coefficients[0, :, 0].numpy(), [1.2, -1.2], rtol=1e-6)  # time runs four times faster
    assert lanes.rss[0] < 1e-11  # what the ridge leaves, on normalised coefficients of about 20


def test_free_exponents_are_found_by_projection(exact: Regression) -> None:
    start = torch.tensor([[[0.5], [1.4]], [[0.5], [1.4]]], dtype=torch.float64)
    lanes = exact.fit(matched(start, free=True), 0, steps=60)
    assert_allclose(lanes.terms.exponents[0, :, 0].numpy(), [0.75, 1.0], atol=5e-3)


def test_sets_of_near_copies_are_priced_as_least_squares_would(exact: Regression) -> None:
    subsets = Subsets(exact, 0, sums(np.array([True]), Prior().admits), Prior())
    *sets, rss = subsets._triples(tuple(range(len(subsets))))
    cost = subsets._cost(rss, 0.0)
    for q in range(0, len(cost), 97):
        x = subsets.columns[[int(members[q]) for members in sets]].numpy().T
        left = subsets.y.numpy() - x @ np.linalg.lstsq(x, subsets.y.numpy())[0]
        assert_allclose(float(cost[q]), 0.5 * subsets.rows * np.log(left @ left / subsets.rows), atol=0.05)


def test_a_steep_denominator_is_proposed_from_a_grid_that_misses_its_k() -> None:
    t = np.linspace(0, 10, 150)
    rate = lambda _, x: 1.4 - 0.89 * x + 0.4 * x**5 / (123 + x**5)  # noqa: E731
    x = solve_ivp(rate, (0, 10), [3.1], rtol=1e-12, atol=1e-12, t_eval=t).y.T / 3.1
    data = Dataset((Trajectory(t, x),), states=("x",))
    states = denoise(data)
    positive, admits = np.array([True]), Prior().admits
    terms = sums(positive, admits).join(ratios(positive, x, admits))
    regression = Regression(data, states.at, np.array([True]))
    sets = Subsets(regression, 0, terms, Prior(), ratios=True).one_bar(1e-7, 256)
    sets = regression.fit(sets.freed(sets.terms.only_k()), 0)
    best = sets.select(sets.rss.argsort()[:1])
    powers = sorted(
        best.terms.table()[0, :, :2].tolist()
    )  # 1 / (K + x^5) beside a constant is x^5 / (K + x^5) beside another
    assert powers in ([[0, 0], [1, 0], [5, 5]], [[0, 0], [0, 5], [1, 0]])
    assert_allclose(float(best.terms.offsets[0].sum().exp()), 123 / 3.1**5, rtol=1e-3)  # K, beside two zeros


def test_padded_terms_change_nothing(exact: Regression) -> None:
    w = torch.tensor([[[0.75], [1.0]]], dtype=torch.float64)
    alone = exact.fit(matched(w), 0)
    padded = exact.fit(matched(w)._pad(2), 0)
    assert_allclose(padded.rss, alone.rss)
    assert_allclose(padded.law.coefficients[:, :2], alone.law.coefficients)


def test_lanes_are_fitted_as_if_alone(exact: Regression) -> None:
    starts = torch.tensor([[[0.5], [1.4]], [[-9.0], [9.0]], [[0.3], [2.0]]], dtype=torch.float64)
    together = exact.fit(matched(starts, free=True), 0)
    for q in range(3):
        alone = exact.fit(matched(starts[q : q + 1], free=True), 0)
        assert_allclose(together.terms.exponents[q], alone.terms.exponents[0], atol=1e-9)


def test_missing_cells_leave_the_coefficients() -> None:
    data = west()
    x = data.trajectories[0].x.copy()
    x[5:20:2] = np.nan
    gaps = Dataset((Trajectory(data.trajectories[0].t, x),), states=("x",))
    states = lambda k, t: ((1 - (1 - 0.05**0.25) * np.exp(-0.3 * t)) ** 4)[:, None]  # noqa: E731
    w = torch.tensor([[[0.75], [1.0]]], dtype=torch.float64)
    lanes = Regression(gaps, states, np.array([True])).fit(matched(w), 0)
    assert_allclose(lanes.law.coefficients[0, :, 0].numpy(), [1.2, -1.2], rtol=1e-6)


@pytest.mark.parametrize("noise", [0.0, 0.005])
def test_the_truth_is_among_the_proposals(noise: float) -> None:
    data = west(noise=noise)
    denoised = denoise(data)
    regression = Regression(data, denoised.at, denoised.positive)
    prior = Prior.of("menu")
    proposals = match(regression, denoised, denoised.sigma, 0, sums(denoised.positive, prior.admits), False, prior)
    pairs = [np.sort(p.terms.exponents.ravel()) for p in proposals if len(p) == 2]
    assert any(np.allclose(pair, [0.75, 1.0], atol=0.06) for pair in pairs)


def test_library_respects_bounds_and_signs() -> None:
    bounded = sums(np.array([True, True]), Prior.of("0..2").admits).exponents
    assert bounded.min() == 0
    assert bounded.max() <= 2
    signed = sums(np.array([False, False]), Prior.of("menu").admits).exponents
    assert_allclose(signed, signed.round())
