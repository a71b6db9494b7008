"""Projections: compiled code and torch fit the same exponents to the same residuals; what is done side by side keeps its order."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from rows import terms_of

from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.fit.matched import Matched
from eqdisc.fit.regression import Regression
from eqdisc.law.terms import stack_terms
from eqdisc.work.crew import side_by_side


def draw_regression(gaps: bool) -> Regression:
    """Return the regression of two records of two states, the second of which changes sign; some cells are empty."""
    t = np.linspace(0, 3, 70)
    x = np.column_stack([1.5 + np.sin(t), np.cos(2 * t)])
    states = lambda k, s: np.column_stack([1.5 + np.sin(s), np.cos(2 * s)])  # noqa: E731
    noisy = x + 0.02 * np.random.default_rng(0).normal(size=x.shape)
    if gaps:
        noisy[5:9, 0] = np.nan
    records = (Trajectory(t, noisy), Trajectory(t[:31], noisy[:31], name="short"))
    weights = [np.full((70, 2), 1.0), np.full((31, 2), 0.5)]
    return Regression(Dataset(records, ("a", "b")), states, np.array([True, False]), weights=weights)


def draw_lanes(wide: bool) -> Matched:
    """Return lanes of three terms, some of them missing; wide ones saturate."""
    generator = np.random.default_rng(1)
    shape = (12, 3, 2)
    rows = np.where([True, False], generator.normal(size=shape), generator.integers(0, 3, shape))
    free = (rows != 0) & [True, False]
    if wide:
        u = np.where([True, False], 1.2, 0.0) * (generator.random((12, 3, 1)) < 0.5)
        k = generator.normal(size=(12, 3, 1)) * u.any(-1, keepdims=True)
        rows = np.concatenate([rows, u, k, np.zeros(shape)], -1)
        free = np.concatenate([free, u != 0, k != 0, np.zeros(shape, bool)], -1)
    active = generator.random((12, 3)) < 0.8
    active[:, 0] = True
    stack = lambda tables: stack_terms(terms_of(t, 2) for t in tables).torch()  # noqa: E731
    loose = stack(free.astype(float)).map(lambda v: v != 0)
    return Matched.of(stack(rows), loose, torch.as_tensor(active))


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("e", [0, 1])
def test_compiled_and_torch_fit_alike(e: int, wide: bool, gaps: bool) -> None:
    pytest.importorskip("numba")
    regression, lanes = draw_regression(gaps), draw_lanes(wide)
    one_step = []
    for compiled in (True, False):
        regression.compiled = compiled
        one_step.append(regression.fit(lanes, e, steps=3))
    assert_allclose(one_step[0].terms.exponents, one_step[1].terms.exponents, rtol=1e-5, atol=1e-6)
    assert_allclose(one_step[0].rss, one_step[1].rss, rtol=1e-7)
    assert_allclose(one_step[0].law.coefficients, one_step[1].law.coefficients, rtol=1e-4, atol=1e-6)
    moved = (one_step[0].terms.table() != lanes.terms.table()).any(-1).any(-1)
    assert moved.sum() > 6, "nothing was fitted"


def test_the_rule_of_an_equation_is_its_operator() -> None:
    regression = draw_regression(gaps=True)
    rule = regression.rules[0]
    f = np.random.default_rng(2).normal(size=rule.quadrature.shape)
    running = np.concatenate([np.zeros((len(f), 1)), (rule.quadrature * f).sum(-1).cumsum(-1)], 1)
    centred = rule.scale * (running - (rule.share * running).sum(-1, keepdims=True))
    blocks = np.add.reduceat(centred, np.arange(0, centred.shape[1], rule.block), axis=1)
    seen = regression.cumulate(torch.as_tensor(f).flatten()[None], 0)[0]
    assert_allclose(seen, blocks.ravel(), rtol=1e-9, atol=1e-12)


def test_what_ends_first_waits_for_its_turn() -> None:
    slow = lambda: time.sleep(0.05) or "slow"  # noqa: E731
    assert list(side_by_side([slow, lambda: "fast"], threads=2)) == ["slow", "fast"]


def test_what_went_wrong_side_by_side_is_raised() -> None:
    def fail() -> None:
        raise ValueError("why")

    with pytest.raises(ValueError, match="why"):
        list(side_by_side([fail, fail], threads=2))
