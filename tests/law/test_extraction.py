"""The symbols are the network: what is read off a chain is what the chain computes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eqdisc.data.scaling import Scaling
from eqdisc.law.extraction import disagreement, extract
from eqdisc.units.chain import Chain

SCALING = Scaling(np.array([100.0, 0.02]), 7.0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(-3, 3))
def test_extract_equals_chain_for_positive_states(seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    w = rng.uniform(-2, 2, (1, 4, 2)) * (rng.random((1, 4, 2)) < 0.7)
    a = rng.normal(size=(1, 4, 2)) * (rng.random((1, 4, 2)) < 0.7) * 10.0**shift
    chain = Chain.from_terms(torch.as_tensor(w), torch.as_tensor(a))
    x = rng.uniform(0.1, 1.0, (30, 2)) * SCALING.states
    law = extract(chain, 0, ("x", "y"), SCALING, (True, True))
    assert disagreement(law, chain, 0, SCALING, x) < 1e-9


def test_extract_equals_chain_for_signed_states() -> None:
    w = torch.tensor([[[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]]], dtype=torch.float64)
    a = torch.tensor([[[1.0, -2.0], [0.5, 0.0], [0.0, 3.0]]], dtype=torch.float64)
    chain = Chain.from_terms(w, a)
    x = np.random.default_rng(0).normal(size=(50, 2)) * SCALING.states
    law = extract(chain, 0, ("x", "y"), SCALING)
    assert disagreement(law, chain, 0, SCALING, x) < 1e-9


@pytest.mark.parametrize("specification", ["realnpu:3,nau", "npu:3,nau", "nau:2,realnpu:3,nau"])
def test_any_chain_with_open_gates_is_extracted(specification: str) -> None:
    chain = Chain.from_specification(specification, states=2, lanes=3, seed=4)
    for name, value in chain.named_parameters():
        if "gate" in name:
            value.data.fill_(1.0)
    x = np.random.default_rng(1).uniform(0.2, 1.0, (20, 2)) * SCALING.states
    law = extract(chain, 2, ("x", "y"), SCALING)
    assert disagreement(law, chain, 2, SCALING, x) < 1e-9
