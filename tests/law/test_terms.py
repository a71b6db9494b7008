"""Laws of terms that saturate: one mathematics in numbers, derivatives, symbols, prices and scaling."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.data.scaling import Scaling
from eqdisc.data.smoothing import denoise
from eqdisc.discovery import discover
from eqdisc.fit.collocation import Collocation
from eqdisc.fit.mesh import Mesh
from eqdisc.fit.regression import Lanes, Regression
from eqdisc.law.catalogue import catalogue, simulate_system
from eqdisc.law.equations import Equations
from eqdisc.law.law import alike, contains
from eqdisc.law.price import SATURATES, Prior
from eqdisc.law.simulation import simulate
from eqdisc.law.terms import Parameters, Terms, loosen, monomials, movable, saturation, tidy
from eqdisc.search.library import saturating_library
from eqdisc.units.chain import Chain, load_chain, save_chain

NAMES = ("x", "y")
# x y / (3 + x**2), a plain 2 sqrt(y), x**1.5 / (0.4 + x y**0.5)
ROWS = np.array([[1, 1, 2, 0, math.log(3.0), 0, 0], [0, 0.5, 0, 0, 0, 0, 0], [1.5, 0, 1, 0.5, math.log(0.4), 0, 0]])
COEFFICIENTS = np.array([[-1.0, 0.5], [2.0, 0.0], [0.0, 1.0]])
X = np.random.default_rng(0).uniform(0.2, 3.0, (20, 2))
POSITIVE = torch.tensor([True, True])


def by_hand(x: np.ndarray) -> np.ndarray:
    first, second, third = (
        x[:, 0] * x[:, 1] / (3 + x[:, 0] ** 2),
        np.sqrt(x[:, 1]),
        x[:, 0] ** 1.5 / (0.4 + x[:, 0] * np.sqrt(x[:, 1])),
    )
    return np.stack([-first + 2 * second, 0.5 * first + third], 1)


def test_numbers_symbols_and_chain_are_one_law() -> None:
    values, _ = monomials(torch.as_tensor(ROWS)[None], torch.as_tensor(X)[None], POSITIVE, 1e-9)
    assert_allclose(values[0].numpy() @ COEFFICIENTS, by_hand(X), rtol=1e-12)
    law = Equations.from_terms(NAMES, ROWS, COEFFICIENTS)
    assert_allclose(law.function()(0.0, X), by_hand(X), rtol=1e-12)
    chain = Chain.from_terms(torch.as_tensor(ROWS)[None], torch.as_tensor(COEFFICIENTS)[None])
    assert chain.specification == "realnpu:6,nau:5,realnpu:3,nau"
    assert_allclose(chain(torch.as_tensor(X)[None])[0].detach(), by_hand(X), rtol=1e-12)
    read = Equations(NAMES, tuple(chain.symbols(NAMES, nonnegative=(True, True))))
    assert_allclose(read.function()(0.0, X), by_hand(X), rtol=1e-12)


def test_the_deep_chain_is_saved_and_read(tmp_path) -> None:  # type: ignore[no-untyped-def]
    chain = Chain.from_terms(torch.as_tensor(ROWS)[None], torch.as_tensor(COEFFICIENTS)[None])
    save_chain(chain, tmp_path / "chain.safetensors")
    again = load_chain(tmp_path / "chain.safetensors")
    assert_allclose(again(torch.as_tensor(X)[None])[0].detach(), by_hand(X), rtol=1e-12)


def test_written_ratios_read_back() -> None:
    law = Equations.from_terms(NAMES, ROWS[:2], COEFFICIENTS[:2])
    assert law.readable()[0] == "dx/dt = -x·y/(x^2 + 3) + 2·√y"
    for again in (Equations.parse(law.strings(), NAMES), Equations.from_latex(law.latex(), NAMES)):
        assert_allclose(again.function()(0.0, X), law.function()(0.0, X), rtol=1e-14)


@pytest.mark.parametrize("signed", [False, True])
def test_derivatives_are_those_of_the_field(signed: bool) -> None:
    t = np.linspace(0, 1, 20)
    x = X.copy()
    rows = ROWS.copy()
    if signed:  # y changes sign: whole powers above, none below
        x[:, 1] *= np.where(np.arange(20) % 2, 1.0, -1.0)
        rows[1, 1], rows[2, 3] = 2.0, 0.0
    data = Dataset((Trajectory(t, x),), states=NAMES)
    positive = np.array([True, not signed])
    engine = Collocation(Mesh.of(data, denoise(data)), positive)
    terms = Terms.of([(rows, COEFFICIENTS, movable(rows, positive))])
    index = Parameters.of(terms, engine.positive)
    point = torch.as_tensor(x)[None]
    f, slopes = engine.linearise(terms, index, point[None])
    dfdx, dfdp = slopes.by_state[0], slopes.by_parameter[0]
    assert_allclose(f[0], engine.field(terms, point), rtol=1e-13)
    for i in range(2):
        step = torch.zeros_like(point)
        step[..., i] = 1e-6
        slope = (engine.field(terms, point + step) - engine.field(terms, point - step)) / 2e-6
        assert_allclose(dfdx[..., i], slope, rtol=1e-6, atol=1e-7)
    for q in range(int(index.valid.sum())):
        one = torch.zeros_like(index.term, dtype=torch.float64)
        one[0, q] = 1e-6
        up, down = engine._move(terms, index, one), engine._move(terms, index, -one)
        slope = (engine.field(up, point) - engine.field(down, point)) / 2e-6
        assert_allclose(dfdp[..., q], slope, rtol=1e-6, atol=1e-7)


def test_signed_powers_are_one_law() -> None:
    x = np.random.default_rng(1).normal(size=(30, 2))
    rows = np.array([[2.0, 0, 0, 0, 0, 1, 0], [1.5, 1, 0, 0, 0, 2, 0], [0, 0.5, 0, 0, 0, 0, 1], [1, 3, 0, 0, 0, 0, 0]])
    a = np.array([[-1.0, 0.0], [0.0, 2.0], [0.5, 0.0], [0.0, -0.3]])
    by_hand = np.stack(
        [
            -x[:, 0] * np.abs(x[:, 0]) + 0.5 * np.sign(x[:, 1]) * np.sqrt(np.abs(x[:, 1])),
            2 * np.abs(x[:, 0]) ** 1.5 * x[:, 1] - 0.3 * x[:, 0] * x[:, 1] ** 3,
        ],
        1,
    )
    values, _ = monomials(torch.as_tensor(rows)[None], torch.as_tensor(x)[None], ~POSITIVE, 1e-9)
    assert_allclose(values[0].numpy() @ a, by_hand, rtol=1e-11)
    law = Equations.from_terms(NAMES, rows, a)
    assert_allclose(law.function()(0.0, x), by_hand, rtol=1e-11)
    assert_allclose(Equations.parse(law.strings(), NAMES).function()(0.0, x), by_hand, rtol=1e-11)
    chain = Chain.from_terms(torch.as_tensor(rows)[None], torch.as_tensor(a)[None])
    assert_allclose(chain(torch.as_tensor(x)[None])[0].detach(), by_hand, rtol=1e-11)


def test_saturation_is_the_share_of_the_power() -> None:
    log_x = torch.as_tensor(X).log()[None]
    share = saturation(torch.as_tensor(ROWS)[None], log_x)[0].numpy()
    assert_allclose(share[:, 0], X[:, 0] ** 2 / (3 + X[:, 0] ** 2), rtol=1e-12)
    assert (share[:, 1] == 0).all()


def test_units_move_k_and_coefficients_but_not_the_field() -> None:
    scaling = Scaling(np.array([50.0, 0.02]), 7.0)
    user = Equations.from_terms(NAMES, scaling.undo_rows(ROWS), scaling.undo(ROWS, COEFFICIENTS))
    assert_allclose(user.function()(0.0, X * scaling.states), by_hand(X) * scaling.states / scaling.time, rtol=1e-11)
    assert_allclose(scaling.redo_rows(scaling.undo_rows(ROWS)), ROWS, atol=1e-12)


def test_a_denominator_costs_its_choice_its_k_and_its_exponents() -> None:
    prior, log_n, fixed = Prior(states=2), math.log(100), np.zeros(7, bool)
    plain, hill = np.array([2.0, 1, 0, 0, 0, 0, 0]), np.array([2.0, 1, 2, 0, -1.0, 0, 0])
    other = np.array([2.0, 1, 3, 0, -1.0, 0, 0])
    more = [prior.term_price(row, fixed, log_n) - prior.term_price(plain, fixed, log_n) for row in (hill, other)]
    assert more[0] > SATURATES + 0.5 * log_n
    assert more[1] > more[0], "a power that the numerator does not have is dearer"
    for row in (plain, hill, other):
        by_lanes = prior.term_cost(torch.as_tensor(row)[None], torch.as_tensor(fixed)[None], log_n)
        assert_allclose(by_lanes, prior.term_price(row, fixed, log_n))
    assert prior.term_price(plain, fixed, log_n) == prior.term_price(plain[:2], fixed[:2], log_n)


def test_laws_are_compared_by_structure_not_by_k() -> None:
    a, free = np.array([[1.0]]), np.zeros((1, 4), bool)
    one, near, far = (np.array([[1.0, 1.0, k, 0.0]]) for k in (0.0, 0.2, 2.0))
    assert alike((one, a, free), (near, a, free))
    assert not alike((one, a, free), (far, a, free))
    narrow = (np.array([[2.0]]), a, np.zeros((1, 1), bool))
    both = (np.array([[1.0, 1.0, 0.0, 0], [2.0, 0, 0, 0]]), np.ones((2, 1)), np.zeros((2, 4), bool))
    assert contains(both, narrow)
    assert not contains(both, (np.array([[1.0]]), a, np.zeros((1, 1), bool)))


def test_what_may_move_and_what_is_freed_first() -> None:
    positive = np.array([True, False])
    assert movable(ROWS, positive)[0].tolist() == [True, False, True, False, True, False, False]
    assert loosen(ROWS, positive)[0].tolist() == [False, False, False, False, True, False, False]
    assert loosen(ROWS, positive)[1].tolist() == [False] * 7
    gone = ROWS.copy()
    gone[:, 2:4] = 0.0
    rows, free = tidy(gone, np.ones_like(gone, bool), 2)
    assert (rows[:, 4] == 0).all()
    assert not free[:, 4].any()


def test_k_is_found_by_projection() -> None:
    law = catalogue()["michaelis_menten"].law
    data = simulate_system("michaelis_menten")
    exact = lambda k, t: simulate(law, data.trajectories[k].x[0], np.r_[0.0, t], rtol=1e-11).x[1:]  # noqa: E731
    regression = Regression(data, exact, np.array([True]))
    start = torch.tensor([[[1.0, 1.0, math.log(5.0), 0.0]]], dtype=torch.float64)
    free = torch.tensor([[[False, False, True, False]]])
    fit = regression.fit(Lanes.of(start, free), 0, steps=20, prior=Prior(states=1))
    assert_allclose(math.exp(fit.exponents[0, 0, 2]), 2.0, rtol=1e-4)
    assert_allclose(fit.coefficients[0, 0], -1.0, rtol=1e-4)


def test_the_library_of_ratios_keeps_signs_and_bounds() -> None:
    values = np.abs(X)
    rows = saturating_library(np.array([True, False]), values, Prior(states=2))
    assert (rows[:, 3] == 0).all(), "a state that changes sign has no denominator"
    assert len(saturating_library(np.array([True]), values[:, :1], Prior(lower=0.0, upper=0.5, states=1))) == 0


@pytest.mark.parametrize(("noise", "tolerance"), [(0.0, 1e-4), (0.01, 0.1)])
def test_an_enzyme_is_found_as_textbooks_write_it(noise: float, tolerance: float) -> None:
    found = discover(simulate_system("michaelis_menten", noise=noise))
    (rate,) = found.equations.rhs
    (x,) = found.equations.symbols
    top, bottom = (-rate).as_numer_denom()
    scale = float(bottom.coeff(x, 1))
    assert_allclose([float(top.coeff(x, 1)) / scale, float(bottom.subs(x, 0)) / scale], [1.0, 2.0], rtol=tolerance)
    assert found.chain is not None
    assert found.chain.specification.count("realnpu") == 2
    assert {p.name for p in found.parameters} == {"k1", "K1"}
