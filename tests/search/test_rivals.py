"""Rivals: what is foretold of them is what a fit finds, and the law that made the data is among them where these cannot tell."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from rows import law_of, terms_of
from scipy.integrate import solve_ivp

from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.fit.collocation import Collocation
from eqdisc.fit.fit import Fit
from eqdisc.judge.selection import RIVAL
from eqdisc.law.catalogue import simulate_system
from eqdisc.search.joint import JointSearch
from eqdisc.search.moves import Neighbourhood
from eqdisc.search.problem import Problem
from eqdisc.search.rivals import foretell_rivals, seek_rivals, vary


def search(data: Dataset) -> tuple[Problem, JointSearch]:
    problem = Problem.of(data)
    return problem, JointSearch(problem)


@pytest.fixture(scope="module")
def predators() -> tuple[Problem, JointSearch, Fit]:
    problem, joint = search(simulate_system("lotka_volterra", noise=0.1, seed=1, starts=1))
    right = law_of([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, -1.0], [-2.0, 2.0]])
    return problem, joint, joint.solve([right], steps=25)[0]


def test_a_fit_finds_what_was_foretold(predators: tuple[Problem, JointSearch, Fit]) -> None:
    problem, joint, pick = predators
    foretold = foretell_rivals(problem, pick, within=40.0)
    joint.attempt([law for _, law in foretold], pick)
    found = [(change, joint.tried[law.key]) for change, law in foretold]
    plain = [(change, s.cost - pick.cost) for change, s in found if not s.ties and (s.law.support.sum(1) < 2).sum() > 2]
    assert len(plain) > 5
    assert_allclose(*zip(*plain, strict=True), rtol=0.02, atol=0.2)


def test_a_law_that_the_data_tell_has_no_rival(predators: tuple[Problem, JointSearch, Fit]) -> None:
    problem, joint, pick = predators
    assert foretell_rivals(problem, pick) == []
    seen = dict(joint.seen)
    seek_rivals(joint, pick)
    assert joint.seen == seen
    assert joint.best(joint.seen.values(), pick) is pick


def test_a_variant_of_which_the_data_say_nothing_changes_nothing_else(
    predators: tuple[Problem, JointSearch, Fit], monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, _, pick = predators
    eliminate = Neighbourhood.eliminate

    def eliminate_flat(self: Neighbourhood, stay: np.ndarray, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        h, g = (v.copy() for v in eliminate(self, stay, rest))
        h[-1], h[:, -1], h[-1, -1], g[-1] = 0.0, 0.0, 0.0, 1e-6  # as rounding leaves it
        return h, g

    def foretell() -> dict[tuple, float]:
        rivals = foretell_rivals(problem, pick, within=40.0)
        return {law.key: change for change, law in rivals}

    told = foretell()
    monkeypatch.setattr(Neighbourhood, "eliminate", eliminate_flat)
    flat = foretell()
    assert flat
    assert all(change == pytest.approx(told[key]) for key, change in flat.items() if key in told)
    assert min(flat.values()) >= min(told.values()) - 1e-6


def test_laws_far_from_the_pick_are_reached_where_the_data_cannot_tell() -> None:
    """Near the level at which x rests, 6 x^(2/3) - 0.06 x^(4/3) is as good as 12.7 x^(1/2) - 0.0127 x^(3/2): both exponents move."""
    t, random = np.linspace(0, 30, 40), np.random.default_rng(1)
    rate = lambda _, x: 6 * x ** (2 / 3) - 0.06 * x ** (4 / 3)  # noqa: E731
    records = []
    for start in (600.0, 800.0, 1300.0, 1700.0):
        x = solve_ivp(rate, (0, 30), [start], t_eval=t, rtol=1e-9).y.T
        records.append(Trajectory(t, x + 0.01 * x.std() * random.normal(size=x.shape), str(start)))
    _, joint = search(Dataset(records, ("x",)))
    pick = joint.solve([law_of([[0.5], [1.5]], [[1.0], [-1.0]])], steps=25)[0]
    seek_rivals(joint, pick)
    true = law_of([[2 / 3], [4 / 3]], [[1.0], [-1.0]])
    assert any(s.law.alike(true, 0.01) for s in joint.seen.values() if s.cost < pick.cost + RIVAL)


def test_variants_are_what_the_menu_and_the_bounds_allow(predators: tuple[Problem, JointSearch, Fit]) -> None:
    problem, _, _ = predators

    def vary_in(row: list[float], *positive: bool) -> np.ndarray:
        engine = Collocation(problem.engine.mesh, np.array(positive))
        return vary(terms_of([row], 2), replace(problem, engine=engine)).exponents

    rows = vary_in([1.0, 1.0], True, False)
    assert (rows[:, 1] == 1.0).all()  # a state that changes sign keeps its whole exponent
    assert set(rows[:, 0]) <= set(problem.judge.prior.menu) - {1.0}
    assert len(vary_in([0.0, 0.0], True, False)) == 0  # a constant
    both = vary_in([0.794, 1.322], True, True)
    assert [0.8, 1.3] in both[:16].tolist()  # neighbours come first, dear as they are
    assert (vary_in([1.0, 0.0], True, True) != 0).any(1).all()
