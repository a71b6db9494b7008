"""The symbols are the network: what is read off a law is what its chain computes, and a chain is read as the law that it is."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from rows import law_of as make

from eqdisc.data.scaling import Scaling
from eqdisc.law.equations import Equations
from eqdisc.law.extraction import chain_of, disagreement, law_of
from eqdisc.law.law import Law
from eqdisc.law.terms import Terms
from eqdisc.units.chain import Chain, load_chain, save_chain
from eqdisc.work.errors import FormulaError

SCALING = Scaling(np.array([100.0, 0.02]), 7.0)
NAMES = ("x", "y")
TINY = 1e-300


def draw(seed: int, size: float = 1.0) -> tuple[Law, np.ndarray]:
    """Return a law of plain, saturating and signed terms, x positive and y of both signs, and points."""
    rng, m = np.random.default_rng(seed), 5
    w = np.column_stack([rng.uniform(-2, 2, m), rng.integers(0, 4, m)]) * (rng.random((m, 2)) < 0.7)
    parity = np.column_stack([np.zeros(m), rng.integers(0, 3, m) * (w[:, 1] != 0)])
    w[:, 1] += np.where(parity[:, 1] != 0, 0.3, 0.0)
    inner = np.column_stack([rng.uniform(0.5, 2, m) * (rng.random(m) < 0.5), np.zeros(m)])
    offsets = rng.normal(size=m) * (inner[:, 0] != 0)
    a = rng.normal(size=(m, 2)) * (rng.random((m, 2)) < 0.7) * size
    x = np.column_stack([rng.uniform(0.1, 1.0, 30), rng.normal(size=30)])
    return Law.of(Terms.of(w, inner, offsets, parity), a), x


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(-3, 3))
def test_numbers_symbols_and_chain_are_one_law(seed: int, shift: float) -> None:
    law, x = draw(seed, 10.0**shift)
    values, _ = (
        law.terms.map(lambda v: v[None]).torch().evaluate(torch.as_tensor(x)[None], torch.tensor([True, False]), TINY)
    )
    by_numbers = values[0].numpy() @ law.coefficients
    chain = chain_of(law)
    assert_allclose(chain(torch.as_tensor(x)[None])[0].detach(), by_numbers, rtol=1e-9, atol=1e-11 * 10.0**shift)
    assert disagreement(Equations.of(law, NAMES), chain, NAMES, x) < 1e-9


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_a_law_becomes_a_chain_and_comes_back(seed: int) -> None:
    law, x = draw(seed)
    chain = chain_of(law)
    again = law_of(chain)
    assert again.alike(law, 1e-9)
    assert_allclose(
        chain_of(again)(torch.as_tensor(x)[None]).detach(), chain(torch.as_tensor(x)[None]).detach(), rtol=1e-9
    )


def test_lanes_become_lanes() -> None:
    laws = [draw(seed)[0] for seed in (1, 2, 3)]
    chain = chain_of(Law.stack(laws))
    assert chain.lanes == 3
    assert all(law_of(chain, k).alike(law, 1e-9) for k, law in enumerate(laws))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_a_law_in_other_units_is_the_same_law(seed: int) -> None:
    law, x = draw(seed)
    user = Law.of(law.terms.in_units(SCALING), SCALING.undo(law.terms.effective, law.coefficients))
    assert_allclose(user.terms.in_scale(SCALING).table(), law.terms.table(), atol=1e-12)
    rates, scaled = (
        chain_of(w)(torch.as_tensor(z)[None])[0].detach().numpy() for w, z in ((user, x * SCALING.states), (law, x))
    )
    assert_allclose(rates, scaled * SCALING.states / SCALING.time, rtol=1e-8, atol=1e-9)


def test_the_chain_of_a_law_is_saved_and_read(tmp_path) -> None:  # type: ignore[no-untyped-def]
    law, x = draw(7)
    save_chain(chain_of(law), tmp_path / "chain.safetensors")
    again = load_chain(tmp_path / "chain.safetensors")
    assert torch.equal(again(torch.as_tensor(x)[None]), chain_of(law)(torch.as_tensor(x)[None]))
    assert law_of(again).alike(law, 1e-9)


def test_lanes_are_read_with_their_gates_closed() -> None:
    chain = Chain.from_specification("realnpu:3,nau", states=2, lanes=2, seed=4, gate_init=0.7)
    with pytest.raises(FormulaError, match="half open"):
        law_of(chain, 1)
    law = law_of(chain, 1, closing=True)
    assert (law.terms.exponents != 0).all()
    assert_allclose(law.coefficients, chain.units[1].get_parameter("coefficients").detach()[1].T)


def test_a_chain_that_is_no_law_is_refused() -> None:
    law = chain_of(make([[1.0, 1.0, 0.0, 0.0]], np.array([[1.0]])))
    law.units[1].get_parameter("coefficients").data[0, 0, 0] = 2.0
    law.units[1].get_parameter("coefficients").data[0, 0, 1] = 1.0
    law.units[1].get_buffer("coefficients_support").data[0, 0, 1] = 1.0
    with pytest.raises(FormulaError, match="cannot be read"):
        law_of(law)
