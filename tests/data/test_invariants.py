"""Invariants: what is in the null space of a table rests, whatever the rows and their order; what noise allows rests in data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.data.invariants import find_invariants, find_sums
from eqdisc.data.scaling import Scaling
from eqdisc.data.smoothing import denoise
from eqdisc.data.sums import choose_independent, null_space, whole_sums, write_sum

TABLES = arrays(float, st.tuples(st.integers(1, 5), st.integers(2, 5)), elements=st.integers(-3, 3).map(float))
T = np.linspace(0.0, 6.0, 80)


@given(TABLES)
def test_the_null_space_is_as_large_as_the_rank_leaves_and_rests(table: np.ndarray) -> None:
    sums = null_space(table)
    assert len(sums) == table.shape[1] - np.linalg.matrix_rank(table)
    for c in sums:
        assert_allclose(table @ c, 0.0, atol=1e-9)  # integers of one digit, eliminated in doubles
        assert c[np.flatnonzero(c)[0]] == 1.0


@given(TABLES, st.randoms(use_true_random=False))
def test_the_null_space_does_not_depend_on_the_order_and_the_size_of_rows(table: np.ndarray, draw: object) -> None:
    order = np.argsort([draw.random() for _ in table])  # type: ignore[attr-defined]
    for one, other in zip(null_space(table), null_space(7.0 * table[order]), strict=True):
        assert_allclose(one, other, atol=1e-9)


def test_no_whole_sum_is_a_multiple_of_another() -> None:
    sums = np.array(whole_sums(3))
    directions = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    assert len(np.unique(directions.round(12), axis=0)) == len(sums)


def test_sums_that_follow_from_others_are_left_out() -> None:
    found = choose_independent(whole_sums(3, (0, 1)), lambda c: True)
    assert np.linalg.matrix_rank(found) == len(found) == 3


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_a_sum_of_the_data_is_found_in_the_units_of_the_user(noise: float) -> None:
    x = np.column_stack([3 * np.exp(-0.5 * T), 200 - 6 * np.exp(-0.5 * T), np.sin(T)])  # 2 S + R rests
    x = x + noise * x.std(0) * np.random.default_rng(0).normal(size=x.shape)
    data = Dataset((Trajectory(T, x),), ("S", "R", "Q"))
    scaling = Scaling.of(data)
    scaled = scaling.apply(data)
    (found,) = find_invariants(scaled, denoise(scaled), scaling.states)
    assert write_sum(found, data.states) == "2 S + R"
    assert find_sums(data, noise * x.std(0)) == ("2 S + R",)
