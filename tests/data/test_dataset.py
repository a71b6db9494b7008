"""Trajectories and datasets: what cannot be built, and names that become symbols."""

from __future__ import annotations

import keyword

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqdisc.data.dataset import FUNCTIONS, Dataset, Trajectory, stands, symbols_of
from eqdisc.work.errors import DataError, OptionError


def dataset(*sizes: int, states: tuple[str, ...] = ("S", "I")) -> Dataset:
    trajectories = tuple(
        Trajectory(np.arange(n), np.arange(n * len(states)).reshape(n, -1), name=str(k)) for k, n in enumerate(sizes)
    )
    return Dataset(trajectories, states)


@pytest.mark.parametrize(
    ("t", "x", "message"),
    [
        ([0, 1, 1], [[1], [2], [3]], r"sample 3: time 1 stands twice; add a trajectory column or average"),
        ([0, 2, 1], [[1], [2], [3]], r"sample 3: time falls from 2 to 1; sort the samples"),
        ([0, np.nan], [[1], [2]], r"sample 2: the time is nan; every sample needs a finite time"),
        ([0, 1], [[1], [np.inf]], r"sample 2, state 1: the value is infinite; use NaN"),
        ([0, 1], [1, 2], r"shape \(2,\) and x \(2,\); they must be \(n,\) and \(n, d\)"),
        ([0, 1, 2], [[1], [2]], r"shape \(3,\) and x \(2, 1\)"),
        ([], np.zeros((0, 2)), r"holds no samples"),
    ],
)
def test_illegal_trajectories_cannot_be_built(t: list, x: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Trajectory(t, x, name="m1")


def test_a_trajectory_keeps_its_own_copy_that_nobody_can_change() -> None:
    t, x = np.arange(3.0), np.ones((3, 1))
    trajectory = Trajectory(t, x)
    t[0], x[0] = -5, 7
    assert trajectory.t[0] == 0
    assert trajectory.x[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        trajectory.x[0] = 2


def test_missing_values_are_no_error() -> None:
    assert np.isnan(Trajectory([0, 1], [[np.nan, 1], [2, np.nan]]).x).sum() == 2


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Dataset((), ("S",)), "holds no trajectory"),
        (lambda: dataset(3, states=()), "holds no samples"),
        (lambda: Dataset((Trajectory([0], [[1]]),), ()), "holds no state"),
        (lambda: dataset(3, states=("S", "S")), "'S' stands for more than one state"),
        (lambda: Dataset((Trajectory([0], [[1]]),) * 2, ("S",)), "'0' stands for more than one trajectory"),
        (lambda: Dataset((Trajectory([0], [[1]]),), ("S", "I")), "has 1 columns for 2 states"),
    ],
)
def test_illegal_datasets_cannot_be_built(build: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        build()


def test_a_dataset_counts_what_it_holds() -> None:
    data = dataset(5, 3, 4)
    assert (len(data), data.d, data.rows, data.sizes, data.span) == (3, 2, 12, (5, 3, 4), 4.0)
    assert data.stacked().shape == (12, 2)
    assert [k.name for k in data.subset([2, 0]).trajectories] == ["2", "0"]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.floats(0.01, 0.99))
def test_a_split_gives_every_sample_to_one_part(sizes: list[int], fraction: float) -> None:
    data = dataset(*sizes)
    try:
        earlier, later = data.split(fraction)
    except DataError:
        assert all(n <= 2 or round(n * fraction) == 0 for n in sizes)
        return
    assert earlier.rows + later.rows == data.rows
    tails = {k.name: k for k in later.trajectories}
    for whole, head in zip(data.trajectories, earlier.trajectories, strict=True):
        pieces = [head, tails[whole.name]] if whole.name in tails else [head]
        np.testing.assert_array_equal(np.concatenate([k.t for k in pieces]), whole.t)
        assert len(head) >= min(2, len(whole))


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, np.nan])
def test_a_split_needs_a_share(fraction: float) -> None:
    with pytest.raises(OptionError, match=r"use a share between 0 and 1"):
        dataset(10).split(fraction)


def test_a_split_of_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="no trajectory is long enough"):
        dataset(2, 2).split(0.25)


def test_names_that_stand_are_left_alone() -> None:
    assert symbols_of(["S", "I", "E", "N", "beta", "pi", "x_1", "T", "Q", "oo"]) == {}


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("lambda", "lambda_"),
        ("None", "None_"),
        ("sqrt", "sqrt_"),
        ("t", "t_"),
        ("Western Urban", "Western_Urban"),
        ("β", "beta"),
        ("Ω", "Omega"),
        ("λ", "lambda_"),
        ("Größe", "Grosse"),
        ("x₁", "x1"),
        ("2nd", "x2nd"),
        ("数量", "x"),
        ("", "x"),
        ("S+I", "S_I"),
        ("__import__('os')", "import_os"),
    ],
)
def test_a_name_that_cannot_stand_gets_a_symbol(name: str, symbol: str) -> None:
    assert symbols_of([name]) == {name: symbol}


def test_symbols_never_collide() -> None:
    assert symbols_of(["a-b", "a b", "a_b"]) == {"a-b": "a_b_3", "a b": "a_b_2"}


NAMES = st.lists(
    st.text(max_size=8) | st.sampled_from(["a b", "a_b", "a_b_2", "t", "t_", "λ", "lambda", "lambda_", *FUNCTIONS]),
    min_size=1,
    max_size=8,
    unique=True,
)


@given(NAMES, st.randoms())
def test_any_names_get_distinct_symbols_in_any_order(names: list[str], random: object) -> None:
    symbols = symbols_of(names)
    used = [symbols.get(name, name) for name in names]
    assert all(stands(symbol) and symbol.isascii() and not keyword.iskeyword(symbol) for symbol in used)
    assert len(set(used)) == len(names)
    shuffled = list(names)
    random.shuffle(shuffled)
    assert symbols_of(shuffled) == symbols
