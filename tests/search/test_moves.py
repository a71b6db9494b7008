"""Moves: what they foretell is what a refit finds, and exchanges lead out of a wrong law."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from rows import law_of
from scipy.integrate import solve_ivp

from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.fit.fit import Fit
from eqdisc.law.catalogue import simulate_system
from eqdisc.law.law import Law
from eqdisc.law.price import TWINS, Judge, Prior
from eqdisc.search.joint import PATCHES, JointSearch
from eqdisc.search.library import LARGEST
from eqdisc.search.moves import Neighbourhood
from eqdisc.search.problem import Problem


@pytest.fixture(scope="module")
def joint() -> tuple[Problem, JointSearch]:
    problem = Problem.of(simulate_system("lotka_volterra", noise=0.02, seed=1, starts=1))
    return problem, JointSearch(problem)


def solve(joint: JointSearch, w: list, a: list) -> Fit:
    found = joint.solve([law_of(w, a)], steps=25)
    assert found
    return found[0]


# The right terms are x, y and x y; coefficients are in scaled units, so only their signs are given here.
RIGHT = ([[1, 0], [0, 1], [1, 1]], [[1.0, 0.0], [0.0, -1.0], [-2.0, 2.0]])


def test_a_drop_costs_what_was_foretold(joint: tuple[Problem, JointSearch]) -> None:
    """A term that the data do not ask for: removing it changes the likelihood by p^2 / 2 C_pp to second order."""
    _, search = joint
    w, a = [*RIGHT[0], [2, 0]], [*RIGHT[1], [0.0, 1e-3]]
    rich, right = solve(search, w, a), solve(search, *RIGHT)
    foretold = list(Neighbourhood(search.problem, rich, search.no_library)._drop())
    change = next(c for c, law in foretold if law.merge_equal().alike(right.law))
    saved = search.judge.price(rich.law) - search.judge.price(right.law)
    assert change + saved == pytest.approx(right.data_cost - rich.data_cost, abs=0.3)


def test_exchanges_lead_from_a_wrong_term_to_the_right_law(joint: tuple[Problem, JointSearch]) -> None:
    problem, search = joint
    right = solve(search, *RIGHT)
    wrong = solve(search, [[1, 0], [0, 1], [2, 0], [0, 2]], [[1.0, 0.0], [0.0, -1.0], [0.0, 1.0], [-1.0, 0.0]])
    assert wrong.cost > right.cost + 50
    assert search.improve(wrong, problem.library).law.alike(right.law)


def test_a_foretold_exchange_is_the_least_squares_of_its_subset(joint: tuple[Problem, JointSearch]) -> None:
    """Keeping all terms of an equation and adding one under the quadratic form gives the gain of that one addition."""
    problem, search = joint
    near = Neighbourhood(search.problem, solve(search, *RIGHT), problem.library)
    e, count = 0, len(near.trials)
    place = int(np.argmax(near.trial_gain[:count]))
    own = near.coefficients_of(e)
    r, slope = near.eliminate(np.delete(near.p, own), np.r_[near.p[own], near.t[place]])
    b = np.r_[near.law.coefficients[[near.numbers[q].term for q in own], e], 0.0]
    slope = slope + r @ b
    best = np.linalg.solve(r, slope)
    gain = 0.5 * slope @ best - (slope @ b - 0.5 * b @ r @ b)
    assert gain == pytest.approx(near.trial_gain[place], rel=1e-5)


def test_the_judge_prices_terms_by_their_share_among_known_laws() -> None:
    judge = Judge(Prior(), 100, np.ones(2), np.zeros(2, bool))
    one = np.ones((1, 2))
    linear, product, odd = ([[1.0, 0.0]], [[1.0, 1.0]], [[0.7, 0.0]])
    prices = [judge.price(law_of(w, one * [1.0, 0.0])) for w in (linear, product, odd)]
    assert prices[0] < prices[1] < prices[2]
    assert torch.isfinite(torch.tensor(prices)).all()


def test_twins_cost_more_than_terms_that_differ() -> None:
    judge = Judge(Prior(), 100, np.ones(2), np.zeros(2, bool))
    together, apart = np.array([[2.0, 0.0], [-1.0, 0.0]]), np.array([[2.0, 0.0], [0.0, -1.0]])
    price = lambda w, a: judge.price(law_of(w, a))  # noqa: E731
    twins, other = [[1.0, 0.5], [1.0, 0.6]], [[1.0, 0.5], [1.0, 0.9]]
    assert price(twins, together) - price(twins, apart) == pytest.approx(TWINS)
    assert price(other, together) == price(other, apart)
    assert price(twins[::-1], together) == price(twins, together)


def test_trial_columns_of_one_equation_are_those_of_the_whole_matrix(joint: tuple[Problem, JointSearch]) -> None:
    problem, search = joint
    fit = solve(search, *RIGHT)
    extra = problem.library[:7].torch()
    h, g = search.engine.gauge(fit.lanes, fit.numbers, fit.x, fit.sigma, extra)
    columns = search.engine.propagate(fit.lanes, fit.numbers, fit.x, extra)
    full, slope, _ = search.engine.normal(columns, fit.x, fit.sigma)
    own = fit.numbers.term.shape[1]
    close = {"rtol": 1e-9, "atol": 1e-9 * float(full.abs().max())}
    assert_allclose(g, slope, **close)
    assert_allclose(h[:, :own], full[:, :own], **close)
    for k in (own, own + 7):
        assert_allclose(h[:, k : k + 7, k : k + 7], full[:, k : k + 7, k : k + 7], **close)
    assert (h[:, own : own + 7, own + 7 :] == 0).all()


@pytest.fixture(scope="module")
def growth() -> tuple[Problem, JointSearch]:
    """Von Bertalanffy's growth, 3 x^(2/3) - x^(4/3), from two starts, with noise."""
    t = np.linspace(0, 3, 80)
    starts = [
        solve_ivp(lambda _, x: 3 * x ** (2 / 3) - x ** (4 / 3), (0, 3), [x0], t_eval=t, rtol=1e-9).y.T
        for x0 in (0.1, 9.0)
    ]
    rng = np.random.default_rng(0)
    data = Dataset(
        tuple(Trajectory(t, x + 0.01 * rng.normal(size=x.shape), name=str(k)) for k, x in enumerate(starts)),
        states=("x",),
    )
    problem = Problem.of(data)
    return problem, JointSearch(problem)


def test_two_exponents_are_fixed_together_where_one_makes_up_for_the_other(growth: tuple[Problem, JointSearch]) -> None:
    """Neither of 0.7 and 1.3 can be rounded to a third alone."""
    problem, search = growth
    near = solve_alone(search, [[0.7], [1.3]])
    moves = sorted(Neighbourhood(search.problem, near, problem.library)._fix_pairs(), key=lambda m: m[0])
    foretold, law = next(m for m in moves if np.allclose(np.sort(m[1].terms.exponents.ravel()), [2 / 3, 4 / 3]))
    right = solve_alone(search, law.terms.exponents.tolist())
    assert foretold == pytest.approx(right.cost - near.cost, abs=1.0)
    alone = [solve_alone(search, w) for w in ([[2 / 3], [1.3]], [[0.7], [4 / 3]])]
    assert right.data_cost < min(s.data_cost for s in alone) - 2


def test_an_exponent_is_moved_to_another_simple_value_and_the_change_is_foretold(
    growth: tuple[Problem, JointSearch],
) -> None:
    problem, search = growth
    near = solve_alone(search, [[2 / 3], [1.3]])
    moves = list(Neighbourhood(search.problem, near, problem.library)._shift())
    found = {tuple(np.sort(law.terms.exponents.ravel()).round(6)): (change, law) for change, law in moves}
    for pair in ((2 / 3, 4 / 3), (0.7, 1.3)):
        foretold, law = found[tuple(np.round(pair, 6))]
        assert foretold == pytest.approx(
            solve_alone(search, law.terms.exponents.tolist()).cost - near.cost, rel=0.2, abs=1.0
        )
    assert all((law.terms.exponents != 0).all() for _, law in moves)


def test_a_term_in_the_place_of_two_has_their_sum_and_slope_at_the_middle_of_the_data(
    growth: tuple[Problem, JointSearch],
) -> None:
    problem, search = growth
    law = law_of([[0.5], [0.85], [4 / 3]], [[1.0], [1.0], [-1.0]])
    near = search.solve([law], steps=40)[0]
    around = Neighbourhood(search.problem, near, problem.library)
    middle = float(np.exp(np.log(np.abs(around.x)).mean()))
    rate = lambda law, x: float((law.coefficients[:, 0] * x ** law.terms.exponents[:, 0]).sum())  # noqa: E731
    blends = [law for _, law in around._blend()]
    assert blends
    for blend in blends:
        assert blend.free.exponents[-1, 0]
        assert blend.coefficients[-1, 0] != 0
        assert blend.support.sum() == 2
        for x in (middle, middle * 1.0001):
            assert rate(blend, x) == pytest.approx(rate(around.law, x), rel=1e-6)
    fitted = search.best(search.solve(blends, near))
    assert fitted is not None
    assert fitted.cost < near.cost
    assert sorted(fitted.law.only(0).terms.exponents[:, 0]) == pytest.approx([2 / 3, 4 / 3], abs=0.06)


def solve_alone(search: JointSearch, w: list) -> Fit:
    return search.solve([law_of(w, [[1.0], [-1.0]])], steps=40)[0]


@pytest.mark.parametrize(("terms", "most"), [(LARGEST, 40), (LARGEST + 1, PATCHES)])
def test_a_law_of_very_many_terms_is_mended_only_so_often(
    joint: tuple[Problem, JointSearch], monkeypatch: pytest.MonkeyPatch, terms: int, most: int
) -> None:
    """Every move shortens the description by a nat, as those of a curve fit do."""
    _, search = joint
    start = solve(search, *RIGHT)
    rows = np.arange(2.0 * terms).reshape(terms, 2)
    lanes = Law.stack([law_of(rows, np.ones((terms, 2)))])
    monkeypatch.setattr(search, "_step", lambda solved, _: replace(solved, lanes=lanes, cost=solved.cost - 1))
    assert start.cost - search.improve(start, search.no_library).cost == pytest.approx(most)
