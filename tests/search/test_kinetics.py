"""Kinetics: what is left of a dense rate law is the rate law that made the data."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import solve_ivp

from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.fit.regression import Regression
from eqdisc.law.price import Prior
from eqdisc.law.terms import Terms
from eqdisc.search.kinetics import SIZES, choose_rates, prune_rates
from eqdisc.search.library import ratios, sums

BOTH = np.array([True, True])


@pytest.fixture(scope="module")
def dosed() -> tuple[Regression, Terms]:
    """Return a drug x that is cleared by two enzymes, one with the help of y: x' = 0.9 y - 0.5 x/(0.05 + x) - 0.8 x y/(1.5 + x)."""
    rate = lambda _, s: [0.9 * s[1] - 0.5 * s[0] / (0.05 + s[0]) - 0.8 * s[0] * s[1] / (1.5 + s[0]), -0.3 * s[1]]  # noqa: E731
    run = solve_ivp(rate, (0, 10), [0.02, 1.0], rtol=1e-12, atol=1e-12, dense_output=True)
    t = np.linspace(0, 10, 100)
    data = Dataset((Trajectory(t, run.sol(t).T),), states=("x", "y"))
    terms = sums(BOTH, Prior().admits).join(ratios(BOTH, run.sol(t).T, Prior().admits))
    return Regression(data, lambda _, s: run.sol(s).T, BOTH), terms.torch()


def test_what_is_left_are_the_rates_that_made_the_data(dosed: tuple[Regression, Terms]) -> None:
    regression, terms = dosed
    left = prune_rates(regression, 0, terms, Prior())
    assert [lanes.width for lanes in left] == list(SIZES)[::-1]
    nearest = left[-1].terms[0]
    assert float(left[-1].rss[0]) < 1e-9
    assert sorted(map(tuple, nearest.table()[:, :4].int().tolist())) == [(0, 1, 0, 0), (1, 0, 1, 0), (1, 1, 1, 0)]
    assert_allclose(nearest.offsets.exp().sort().values, [0.05, 1.0, 1.5], rtol=1e-2)  # K; that of the plain term is 1


def test_data_fewer_than_the_rates_are_left_alone(dosed: tuple[Regression, Terms]) -> None:
    terms = dosed[1]
    few = Dataset((Trajectory(np.linspace(0, 1, 8), np.ones((8, 2))),), states=("x", "y"))
    assert prune_rates(Regression(few, lambda _, s: np.ones((len(s), 2)), BOTH), 0, terms, Prior()) == []


def test_rates_are_products_of_two_states_at_most(dosed: tuple[Regression, Terms]) -> None:
    terms = dosed[1].numpy()
    chosen = terms[choose_rates(terms)]
    assert (chosen.exponents.sum(1) <= 2).all()
    assert (chosen.inner.sum(1) <= 1).all()
    assert (
        len({tuple(r) for r in chosen.table()}) == len(chosen) == 6 + 2 * 4
    )  # plain ones, and at two K each those that saturate
