"""Sweeps: compiled code and torch say the same of a rule's defects and of its solution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from rows import lanes_of

from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.data.smoothing import denoise
from eqdisc.fit.collocation import Collocation
from eqdisc.fit.mesh import Mesh
from eqdisc.law.law import Law, Numbers

pytest.importorskip("numba")
LANES, TERMS = 3, 4


def draw_engine(d: int, coupled: bool) -> tuple[Collocation, torch.Tensor]:
    """Return an engine on two records of d states, every other of which changes sign, and states of every lane beside a solution."""
    t = np.linspace(0, 3, 19)
    x = np.stack([np.sin(t + k) + 1.5 * (k % 2) for k in range(d)], 1)
    data = Dataset((Trajectory(t, x), Trajectory(t[:11], 1.1 * x[:11], name="short")), tuple("abcdef"[:d]))
    denoised = denoise(data)
    mesh = Mesh.of(data, denoised)
    generator = np.random.default_rng(d)
    coupling = torch.as_tensor(generator.normal(size=(d, d))) if coupled else None
    engine = Collocation(mesh, np.arange(d) % 2 == 1, coupling=coupling)
    states = mesh.states(denoised)
    return engine, states * torch.as_tensor(1 + 0.05 * generator.normal(size=(LANES, *states.shape[1:])))


def draw_laws(d: int, wide: bool) -> Law:
    """Return lanes of laws, some of which no equation uses; wide ones saturate or have signed powers."""
    generator = np.random.default_rng(10 + d)
    positive, shape = np.arange(d) % 2 == 1, (LANES, TERMS, d)
    rows = np.where(positive, generator.normal(size=shape), generator.integers(0, 4, shape)) * (
        generator.random(shape) < 0.7
    )
    coefficients = generator.normal(size=shape) * (generator.random(shape) < 0.6)
    if wide:
        u = np.where(positive, 1.3, 2.0) * (generator.random((LANES, TERMS, d)) < [[[0.6]], [[0.0]], [[0.6]]])
        k = generator.normal(size=(LANES, TERMS, 1)) * u.any(-1, keepdims=True)
        q = np.where(positive, 0, generator.integers(0, 3, shape)) * (rows != 0)
        rows = np.concatenate([rows, u, k, q], -1)
    return lanes_of(*[(w, a, np.ones(w.shape)) for w, a in zip(rows, coefficients, strict=True)])


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(("d", "coupled"), [(1, False), (2, True), (4, False)])
def test_compiled_and_torch_agree(d: int, coupled: bool, wide: bool) -> None:
    engine, x = draw_engine(d, coupled)
    law = draw_laws(d, wide)
    named = Numbers.of(law, engine.positive)
    for numbers, trials, starts in ((named, None, True), (None, None, False), (named, law.terms[0], True)):
        engine.compiled = True
        swept, missed = engine.propagate(law, numbers, x, trials, starts), engine.defects(law, x)
        engine.compiled = False
        condensed = engine.propagate(law, numbers, x, trials, starts)
        assert_allclose(swept, condensed, rtol=1e-9, atol=1e-10 * float(condensed.abs().max()))
        assert_allclose(missed, engine.defects(law, x), rtol=1e-9, atol=1e-12)


def test_a_state_that_is_no_number_makes_its_lane_none_and_no_other() -> None:
    engine, x = draw_engine(2, coupled=False)
    law = draw_laws(2, wide=False)
    x[1, 0, 5] = torch.nan
    columns = engine.propagate(law, None, x)
    assert columns[1, 0, -1].isnan().any()
    assert columns[[0, 2]].isfinite().all()
