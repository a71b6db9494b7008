"""Selection and pruning: fronts are non-dominated, rivals are of another structure, terms have to be earned."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from rows import lanes_of, law_of

from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.data.smoothing import denoise
from eqdisc.fit.collocation import Collocation
from eqdisc.fit.fit import Fit
from eqdisc.fit.mesh import Mesh
from eqdisc.judge.selection import select_front, select_pick, select_rivals, share_of
from eqdisc.law.law import Law
from eqdisc.law.price import Prior
from eqdisc.search import pruning
from eqdisc.search.pruning import prune
from eqdisc.units import monomial

DECAY = law_of([[1.0]], [[-0.5]])
SQUARE = law_of([[2.0]], [[-0.5]])
ROOT = law_of([[0.5]], [[-0.5]])
BOTH = law_of([[1.0], [0.5]], [[-0.5], [0.1]])


def solved(law: Law, cost: float, data_cost: float = 0.0) -> Fit:
    none = torch.zeros(1, dtype=torch.float64)
    nll = none + data_cost
    return Fit(Law.stack([law]), none, none, nll, none, none, None, none, cost)  # type: ignore[arg-type]  # no fit is needed to choose


def test_the_front_is_not_dominated_and_holds_the_pick() -> None:
    pick = solved(BOTH, -20.0, -30.0)
    worse = solved(law_of([[2.0], [1.0]], BOTH.coefficients), 0.0, -5.0)
    front = select_front([solved(DECAY, -10.0, -12.0), worse, pick], pick)
    assert pick in front
    costs = [s.data_cost for s in front]
    assert costs == sorted(costs, reverse=True)


def test_a_term_has_to_be_earned_by_three_nats() -> None:
    shortest = solved(BOTH, -20.0)
    simpler = solved(DECAY, -18.0)
    assert select_pick([simpler, shortest], shortest) is simpler
    assert select_pick([solved(DECAY, -16.0), shortest], shortest) is shortest


def test_data_count_for_less_where_residuals_correlate() -> None:
    simple, shortest = solved(ROOT, -20.0, -30.0), solved(BOTH, -25.0, -50.0)
    assert select_pick([simple, shortest], shortest) is shortest
    assert select_pick([simple, shortest], shortest, independent=0.5) is simple


def test_the_share_counts_each_structure_once_and_richer_laws_where_they_are_as_short() -> None:
    pick, rival = solved(DECAY, -20.0), solved(ROOT, -20.0)
    assert share_of(pick, [pick]) == 1.0
    assert share_of(pick, [pick, rival, rival]) == pytest.approx(0.5)
    assert share_of(pick, [pick, rival, solved(SQUARE, -20.0)]) == pytest.approx(1 / 3)
    richer = [solved(law_of([[1.0], [p]], BOTH.coefficients), -20.0) for p in (0.5, 2.0, 3.0)]
    assert share_of(pick, [pick, *richer]) == pytest.approx(0.5)
    longer = solved(BOTH, -18.0)
    assert share_of(pick, [pick, longer]) == 1.0
    assert share_of(pick, [pick, longer], richer=12.0) == pytest.approx(1 / (1 + np.exp(-2.0)))


def test_rivals_are_other_structures() -> None:
    pick = solved(DECAY, -20.0)
    close = solved(law_of([[1.02]], [[-0.5]], [[True]]), -19.0)
    other, far = solved(ROOT, -16.0), solved(BOTH, -10.0)
    assert select_rivals([pick, close, other, far], pick) == [other]


def test_a_simple_exponent_is_a_rival_of_a_fitted_one_near_it_and_not_the_other_way_round() -> None:
    power = lambda p, fitted, cost: solved(law_of([[p]], [[-0.5]], [[fitted]]), cost)  # noqa: E731
    kleiber, tenths, fitted = power(0.75, False, -18.0), power(0.8, False, -17.0), power(0.77, True, -19.0)
    assert select_rivals([fitted, kleiber, tenths], fitted) == [kleiber, tenths]
    assert select_rivals([fitted, kleiber, tenths], kleiber) == [tenths]


def test_laws_are_compared_by_their_terms() -> None:
    doubled = law_of([[1.0], [1.0]], [[-0.2], [-0.3]])
    assert doubled.alike(DECAY)
    assert_allclose(doubled.merge_equal().coefficients, [[-0.5]])
    assert BOTH.contains(DECAY)
    assert not DECAY.contains(BOTH)
    assert BOTH.complexity > DECAY.complexity


def test_pruning_jumps_below_the_true_size() -> None:
    t = np.linspace(0, 10, 50)
    data = Dataset((Trajectory(t, np.exp(-0.5 * t)[:, None]),), states=("x",))
    denoised = denoise(data)
    engine = Collocation(Mesh.of(data, denoised), denoised.positive)
    dense = ([[1.2], [0.4], [2.0]], [[-0.4], [-0.05], [0.02]], np.ones((3, 1)))
    sigma = torch.full((1, 1), 1e-2, dtype=torch.float64)
    path = prune(engine, lanes_of(dense), engine.mesh.states(denoised), sigma, steps=15)
    sizes = [step.sizes[0] for step in path]
    costs = [float(step.fit.nll[0]) for step in path]
    assert sizes == sorted(sizes, reverse=True)
    best = min(n for n, c in zip(sizes, costs, strict=True) if c < costs[0] + 5)
    assert best == 2  # one coefficient and one exponent


@pytest.mark.parametrize("terms", range(1, 7))
def test_pruning_takes_a_number_a_step_where_nothing_is_known_of_them(
    terms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every term saturates: log K is never what goes, or the step would be repeated for ever."""

    monkeypatch.setattr(pruning, "invert", np.zeros_like)
    t = np.linspace(0, 10, 50)
    data = Dataset((Trajectory(t, np.exp(-0.5 * t)[:, None]),), states=("x",))
    denoised = denoise(data)
    engine = Collocation(Mesh.of(data, denoised), denoised.positive)
    rows = np.array([[1.0, 1.0, 0.3 + 0.2 * k, 0.0] for k in range(terms)])
    dense = (rows, np.full((terms, 1), -4.0), np.ones((terms, 4)))  # large beside a variance of next to nothing
    sigma, rounds = torch.full((1, 1), 1e-2, dtype=torch.float64), iter(range(12))
    start = engine.mesh.states(denoised)
    path = prune(engine, lanes_of(dense), start, sigma, steps=0, stop=lambda: next(rounds) == 11)
    sizes = [step.sizes[0] for step in path]
    assert sizes == list(range(2 * terms, 0, -2))  # a coefficient, and its K with it


def test_an_equation_is_closed_by_the_others() -> None:
    law = law_of(np.eye(2), [[-2.0, 0.0], [0.0, 0.0]])
    closed = law.close_sum(np.array([1.0, 1.0]), 1, np.array([1.0, 4.0]))
    assert_allclose(closed.coefficients, [[-2.0, 0.5], [0.0, 0.0]])


@pytest.mark.parametrize(("value", "price"), [(0.0, 0.0), (1.0, 0.4), (0.5, 2.7), (0.75, 4.0), (0.7, 5.5), (3.0, 4.7)])
def test_simple_exponents_cost_less(value: float, price: float) -> None:
    prior = Prior.of("menu")
    assert prior.price(value, False, 4.0) == pytest.approx(price)
    w = torch.tensor([[value]], dtype=torch.float64)
    assert float(monomial.prices(w, torch.zeros_like(w, dtype=torch.bool), 4.0)) == pytest.approx(price)
