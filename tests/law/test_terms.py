"""Laws of terms that saturate: one mathematics in numbers, derivatives, symbols, prices and scaling."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from rows import law_of, terms_of

from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.data.scaling import Scaling
from eqdisc.data.smoothing import denoise
from eqdisc.discovery import discover
from eqdisc.fit.collocation import Collocation, move
from eqdisc.fit.matched import Matched
from eqdisc.fit.mesh import Mesh
from eqdisc.fit.regression import Regression
from eqdisc.law.catalogue import catalogue, simulate_system
from eqdisc.law.equations import Equations
from eqdisc.law.extraction import chain_of
from eqdisc.law.law import Law, Numbers
from eqdisc.law.price import Prior
from eqdisc.law.simulation import simulate
from eqdisc.search.library import ratios
from eqdisc.units import saturation
from eqdisc.units.chain import load_chain, save_chain

NAMES = ("x", "y")
# x y / (3 + x**2), a plain 2 sqrt(y), x**1.5 / (0.4 + x y**0.5)
ROWS = np.array([[1, 1, 2, 0, math.log(3.0), 0, 0], [0, 0.5, 0, 0, 0, 0, 0], [1.5, 0, 1, 0.5, math.log(0.4), 0, 0]])
COEFFICIENTS = np.array([[-1.0, 0.5], [2.0, 0.0], [0.0, 1.0]])
LAW = law_of(ROWS, COEFFICIENTS)
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
    values, _ = Law.stack([LAW]).terms.evaluate(torch.as_tensor(X)[None], POSITIVE, 1e-9)
    assert_allclose(values[0].numpy() @ COEFFICIENTS, by_hand(X), rtol=1e-12)
    law = Equations.of(LAW, NAMES)
    assert_allclose(law.function()(0.0, X), by_hand(X), rtol=1e-12)
    chain = chain_of(LAW)
    assert chain.specification == "realnpu:5,nau:4,realnpu:3,nau"
    assert_allclose(chain(torch.as_tensor(X)[None])[0].detach(), by_hand(X), rtol=1e-12)
    read = Equations(NAMES, tuple(chain.symbols(NAMES, nonnegative=(True, True))))
    assert_allclose(read.function()(0.0, X), by_hand(X), rtol=1e-12)


def test_the_deep_chain_is_saved_and_read(tmp_path) -> None:  # type: ignore[no-untyped-def]
    chain = chain_of(LAW)
    save_chain(chain, tmp_path / "chain.safetensors")
    again = load_chain(tmp_path / "chain.safetensors")
    assert_allclose(again(torch.as_tensor(X)[None])[0].detach(), by_hand(X), rtol=1e-12)


def test_written_ratios_read_back() -> None:
    law = Equations.of(LAW.choose(slice(2)), NAMES)
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
    terms = terms_of(rows, 2)
    law = Law.stack([Law.of(terms, COEFFICIENTS, terms.movable(positive))])
    numbers = Numbers.of(law, engine.positive)
    point = torch.as_tensor(x)[None]
    f, slopes = engine.field.linearise(law, numbers, point[None])
    dfdx, dfdp = slopes.by_state[0], slopes.by_parameter[0]
    assert_allclose(f[0], engine.field(law, point), rtol=1e-13)
    for i in range(2):
        step = torch.zeros_like(point)
        step[..., i] = 1e-6
        slope = (engine.field(law, point + step) - engine.field(law, point - step)) / 2e-6
        assert_allclose(dfdx[..., i], slope, rtol=1e-6, atol=1e-7)
    for q in range(int(numbers.valid.sum())):
        one = torch.zeros_like(numbers.term, dtype=torch.float64)
        one[0, q] = 1e-6
        up, down = move(law, numbers, one, engine.bounds), move(law, numbers, -one, engine.bounds)
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
    made = law_of(rows, a)
    values, _ = Law.stack([made]).terms.evaluate(torch.as_tensor(x)[None], ~POSITIVE, 1e-9)
    assert_allclose(values[0].numpy() @ a, by_hand, rtol=1e-11)
    law = Equations.of(made, NAMES)
    assert_allclose(law.function()(0.0, x), by_hand, rtol=1e-11)
    assert_allclose(Equations.parse(law.strings(), NAMES).function()(0.0, x), by_hand, rtol=1e-11)
    chain = chain_of(made)
    assert_allclose(chain(torch.as_tensor(x)[None])[0].detach(), by_hand, rtol=1e-11)


def test_saturation_is_the_share_of_the_power() -> None:
    log_x = torch.as_tensor(X).log()[None]
    shares = Law.stack([LAW]).terms.share(log_x)
    assert shares is not None
    share = shares[0].numpy()
    assert_allclose(share[:, 0], X[:, 0] ** 2 / (3 + X[:, 0] ** 2), rtol=1e-12)
    assert (share[:, 1] == 0).all()


def test_units_move_k_and_coefficients_but_not_the_field() -> None:
    scaling = Scaling(np.array([50.0, 0.02]), 7.0)
    user = Law.of(LAW.terms.in_units(scaling), scaling.undo(LAW.terms.effective, COEFFICIENTS))
    rates = Equations.of(user, NAMES).function()(0.0, X * scaling.states)
    assert_allclose(rates, by_hand(X) * scaling.states / scaling.time, rtol=1e-11)
    assert_allclose(user.terms.in_scale(scaling).table(), ROWS, atol=1e-12)


def test_a_denominator_costs_its_choice_its_k_and_its_exponents() -> None:
    prior, log_n = Prior(), math.log(100)
    three = terms_of([[2.0, 1, 0, 0, 0, 0, 0], [2.0, 1, 2, 0, -1.0, 0, 0], [2.0, 1, 3, 0, -1.0, 0, 0]], 2)
    plain, hill, other = three[[0]], three[[1]], three[[2]]
    price = lambda term: prior.term_price(term[0], None, log_n)  # noqa: E731
    more = [price(term) - price(plain) for term in (hill, other)]
    assert more[0] > saturation.PRICE + 0.5 * log_n
    assert more[1] > more[0], "a power that the numerator does not have is dearer"
    for term in (plain, hill, other):
        by_lanes = prior.term_cost(term.torch(), term.nothing().torch(), log_n)
        assert_allclose(by_lanes, price(term))
    assert price(plain) == price(terms_of([[2.0, 1.0]], 2))


def test_laws_are_compared_by_structure_not_by_k() -> None:
    a = np.array([[1.0]])
    one, near, far = (law_of([[1.0, 1.0, k, 0.0]], a) for k in (0.0, 0.2, 2.0))
    assert one.alike(near)
    assert not one.alike(far)
    narrow = law_of([[2.0]], a)
    both = law_of([[1.0, 1.0, 0.0, 0], [2.0, 0, 0, 0]], np.ones((2, 1)))
    assert both.contains(narrow)
    assert not both.contains(law_of([[1.0]], a))


def test_what_may_move_and_what_is_freed_first() -> None:
    positive = np.array([True, False])
    movable, loose = LAW.terms.movable(positive).table(), LAW.terms.loosen(positive).table()
    assert movable[0].tolist() == [True, False, True, False, True, False, False]
    assert loose[0].tolist() == [False, False, False, False, True, False, False]
    assert loose[1].tolist() == [False] * 7
    gone = ROWS.copy()
    gone[:, 2:4] = 0.0
    terms = terms_of(gone, 2)
    tidied, free = terms.tidy(terms.map(lambda v: v == v))
    assert (tidied.offsets == 0).all()
    assert not free.offsets.any()


def test_k_is_found_by_projection() -> None:
    law = catalogue()["michaelis_menten"].law
    data = simulate_system("michaelis_menten")
    exact = lambda k, t: simulate(law, data.trajectories[k].x[0], np.r_[0.0, t], rtol=1e-11).x[1:]  # noqa: E731
    regression = Regression(data, exact, np.array([True]))
    start = terms_of([[1.0, 1.0, math.log(5.0), 0.0]], 1)
    lanes = Matched.of(start.map(lambda v: v[None]).torch(), start.only_k().map(lambda v: v[None]).torch())
    fit = regression.fit(lanes, 0, steps=20)
    assert_allclose(math.exp(fit.terms.offsets[0, 0]), 2.0, rtol=1e-4)
    assert_allclose(fit.law.coefficients[0, 0], -1.0, rtol=1e-4)


def test_the_library_of_ratios_keeps_signs_and_bounds() -> None:
    values = np.abs(X)
    some = ratios(np.array([True, False]), values, Prior().admits)
    assert (some.inner[:, 1] == 0).all(), "a state that changes sign has no denominator"
    assert len(ratios(np.array([True]), values[:, :1], Prior(lower=0.0, upper=0.5).admits)) == 0


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
