"""Ties: found where ratios are simple within all errors at once, priced as fits that hold to them are, and kept by what they conserve."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from rows import law_of

from eqdisc.judge.rounding import _impose_ties, print_law
from eqdisc.law.catalogue import simulate_system
from eqdisc.law.ties import Coefficients, conserves, find_ties, find_yields
from eqdisc.search.joint import JointSearch
from eqdisc.search.problem import Problem

LOG_N = 4.0
SUM = np.ones(3)


def independent(values: list[list[float]], error: float) -> Coefficients:
    """Coefficients whose errors are `error` of each."""
    a = np.array(values)
    places = {(int(j), int(e)): q for q, (j, e) in enumerate(np.argwhere(a != 0))}
    return Coefficients(a, np.ones(a.shape[1]), np.diag([(error * a[at]) ** 2 for at in places]), places)


def test_ties_and_invariants_are_found_in_coefficients() -> None:
    a = independent([[-0.060, 0.0601, 0.0], [0.0, -0.05, 0.05]], 0.02)
    back, ties = find_ties(a, LOG_N)
    assert {(t.term, t.ratio) for t in ties} == {(0, -1.0), (1, -1.0)}
    assert conserves(SUM, a.values, ties)
    assert not conserves(np.array([1.0, 2.0, 0.0]), a.values, ties)
    assert find_ties(a, LOG_N, [SUM])[0] == pytest.approx(back + 5.0)


def test_no_more_is_taken_from_the_likelihood_than_the_closest_law_that_is_tied_needs() -> None:
    """Least squares in closed form: of all (x, y) with x_t = -y_t the nearest to the estimate, by its covariance."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        mix = rng.normal(size=(6, 6))
        covariance = 4e-4 * mix @ mix.T
        ones = np.array([[-1.0, 1.0, 0.0], [0.0, -1.0, 1.0], [1.0, 0.0, -1.0]])
        values, places = np.zeros((3, 3)), {}
        values[ones != 0] = ones[ones != 0] + 0.5 * np.linalg.cholesky(covariance) @ rng.normal(size=6)
        places = {(int(j), int(e)): q for q, (j, e) in enumerate(np.argwhere(ones != 0))}
        back, ties = find_ties(Coefficients(values, np.ones(3), covariance, places), LOG_N)
        hold = np.zeros((len(ties), 6))
        for t, tie in enumerate(ties):
            hold[t, places[tie.term, tie.equation]], hold[t, places[tie.term, tie.reference]] = 1.0, -tie.ratio
        off = hold @ values[ones != 0]
        lost = off @ np.linalg.solve(hold @ covariance @ hold.T, off) / 2
        assert back == pytest.approx(sum(t.gain for t in ties) - lost, abs=0.5)


def test_an_error_that_ties_share_counts_once() -> None:
    """One state's scale is 6 % off in both terms: each tie alone would take as much as both take together."""
    values = np.array([[-1.0, 1.06], [2.0, -2.12]])
    places = {(0, 0): 0, (0, 1): 1, (1, 0): 2, (1, 1): 3}
    shared = np.array([0.0, 1.06, 0.0, -2.12])
    covariance = 0.03**2 * np.outer(shared, shared) + 1e-8 * np.eye(4)
    back, ties = find_ties(Coefficients(values, np.ones(2), covariance, places), LOG_N)
    assert len(ties) == 2
    assert back == pytest.approx(sum(t.gain for t in ties) - (math.log(1.06) / 0.03) ** 2 / 2, abs=0.01)


def test_a_ratio_far_from_simple_by_its_error_is_no_tie() -> None:
    assert find_ties(independent([[-1.0, 1.2, 0.0], [0.0, -1.0, 1.0]], 0.01), LOG_N)[1][0].term == 1
    assert find_ties(independent([[-1.0, 1.2]], 0.01), LOG_N) == (0.0, [])
    assert find_ties(independent([[-1.0, 0.49]], 0.01), LOG_N)[1][0].ratio == -0.5


def test_an_invariant_holds_a_tie_that_alone_would_not_pay() -> None:
    a = independent([[-1.0, 1.2]], 0.05)
    assert find_ties(a, LOG_N)[1] == []
    assert len(find_ties(a, LOG_N, [np.ones(2)])[1]) == 1


def test_a_number_that_nothing_depends_on_spoils_no_tie() -> None:
    a = independent([[-0.060, 0.0601, 0.0], [0.0, -0.05, 0.05]], 0.02)
    a.covariance[3, 3] = np.inf
    assert (0, -1.0) in {(t.term, t.ratio) for t in find_ties(a, LOG_N)[1]}


def test_a_covariance_that_rounding_spoilt_gives_nothing_back() -> None:
    """A loss below zero would make a law shorter the less the data say of it."""
    a = independent([[-0.060, 0.0601, 0.0], [0.0, -0.05, 0.05]], 0.02)
    random = np.random.default_rng(0)
    for _ in range(50):
        noise = random.normal(size=(4, 4))
        spoilt = Coefficients(a.values, a.factors, a.covariance * (noise + noise.T), a.places)
        back, ties = find_ties(spoilt, LOG_N)
        assert 0.0 <= back <= sum(t.gain for t in ties)


def test_units_of_states_change_no_tie() -> None:
    a, factors = independent([[-0.060, 0.0601, 0.0], [0.0, -0.05, 0.05]], 0.02), np.array([10.0, 0.1, 3.0])
    places = dict(a.places)
    unit = 1 / factors[[e for _, e in places]]
    scaled = Coefficients(a.values / factors, factors, a.covariance * np.outer(unit, unit), places)
    (back, ties), (same, again) = find_ties(a, LOG_N), find_ties(scaled, LOG_N)
    assert_allclose(back, same)
    assert ties == again


def test_equations_that_share_all_their_terms_in_one_ratio_are_tied() -> None:
    back, (first, second) = find_yields(independent([[-0.5, 0.1903], [0.2, -0.0761]], 0.002), LOG_N, ties=[])
    assert back > 0
    assert (first.reference, first.equation, first.ratio) == (0, 1, second.ratio)
    assert abs(first.ratio + 0.3805) < 0.001
    assert find_yields(independent([[-0.5, 0.1903], [0.2, -0.09]], 0.002), LOG_N, ties=[]) == (0.0, [])
    assert find_yields(independent([[0.0, 0.1903], [0.2, -0.0761]], 0.002), LOG_N, ties=[]) == (0.0, [])


@pytest.mark.parametrize("seed", range(3))
def test_ties_are_priced_as_a_fit_that_holds_to_them_and_printed_by_it(seed: int) -> None:
    problem = Problem.of(simulate_system("fsir", noise=0.05, seed=seed, starts=1))
    joint = JointSearch(problem)
    w = np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    a = np.array([[-1.0, 1.0, 0.0], [0.0, -1.0, 1.0], [1.0, 0.0, -1.0]])
    (solved,) = joint.solve([law_of(w, a)], steps=25)
    assert len(solved.ties) == 3
    given = sum(t.gain for t in solved.ties) + 5.0 * sum(
        conserves(c, solved.law.coefficients, solved.ties) for c in problem.judge.invariants
    )
    foretold = given - (solved.data_cost + problem.judge.price(solved.law) - solved.cost)
    held = _impose_ties(problem, solved)
    assert held.data_cost - solved.data_cost == pytest.approx(foretold, abs=0.5)
    printed = print_law(problem, solved).equations
    assert printed.invariants() == ("S + I + R",)
