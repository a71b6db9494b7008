"""Check: every finding on data that have it, none on data that do not, and a noise that is the noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eqdisc.data.check import Diagnosis, Finding, diagnose
from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.data.noise import estimate_noise


def dataset(t: np.ndarray, *states: np.ndarray, starts: int = 2) -> Dataset:
    """The same course from several starts, so that a single trajectory is no finding."""
    x = np.stack(states, -1)
    names = ("S", "I", "R", "Q", "P", "O", "N", "M", "L", "K", "J")[: len(states)]
    return Dataset(tuple(Trajectory(t, x * (1 + k), name=str(k)) for k in range(starts)), names, file="data.csv")


def messages(report: Diagnosis, level: str | None = None) -> str:
    return "\n".join(str(f) for f in report.findings if level in (None, f.level))


T = np.linspace(0, 5, 60)
DECAY = np.exp(-0.5 * T)
GROWTH = T**1.5


def test_a_good_table_gives_no_warning() -> None:
    report = diagnose(dataset(T, DECAY, GROWTH + 0.1))
    assert report.findings == ()
    assert (report.rows, report.trajectories, report.span, report.sampling) == (120, 2, 5.0, "even")
    assert report.lines() == [
        "data.csv: 120 rows, 2 trajectories, 2 states; t from 0 to 5 in even steps of 0.08475.",
        "S: 0.08208 to 2, no noise to be seen.",
        "I: 0.1 to 22.56, no noise to be seen.",
    ]


@pytest.mark.parametrize("sigma", [1e-3, 0.03, 0.3])
@pytest.mark.parametrize("even", [True, False])
def test_the_noise_is_found_whatever_the_curve_below(sigma: float, even: bool) -> None:
    random = np.random.default_rng(1)
    t = np.linspace(0, 5, 800) if even else np.cumsum(random.uniform(0.002, 0.01, 800))
    trajectories = tuple(
        Trajectory(t, (np.sin(2 * t + k) + random.normal(0, sigma, 800))[:, None], name=str(k)) for k in range(2)
    )
    # the median of 1592 correlated residuals scatters by about 4%
    assert estimate_noise(trajectories, 0) == pytest.approx(sigma, rel=0.12)


def test_a_few_outliers_do_not_count_as_noise() -> None:
    x = DECAY + np.random.default_rng(0).normal(0, 0.01, 60)
    x[[20, 40]] += 5
    assert estimate_noise((Trajectory(T, x[:, None]),), 0) < 0.03


def test_coarsely_rounded_values_have_the_noise_of_rounding() -> None:
    x = np.round(20 + 0.3 * np.sin(T) + np.random.default_rng(0).normal(0, 0.02, 60), 1)
    # a rounding to 0.1 has standard deviation 0.1 / sqrt(12), and the noise adds to it
    assert estimate_noise((Trajectory(T, x[:, None]),), 0) == pytest.approx(np.hypot(0.1 / 12**0.5, 0.02), rel=0.5)


def test_too_few_values_have_no_noise() -> None:
    report = diagnose(dataset(T[:6], DECAY[:6]))
    assert report.states[0].noise is None
    assert report.states[0].loudness is None
    assert "too few values for an estimate of noise" in report.lines()[1]


def test_loud_noise_is_a_warning() -> None:
    random = np.random.default_rng(0)
    report = diagnose(dataset(T, DECAY + random.normal(0, 0.15, 60), GROWTH + random.normal(0, 0.1, 60)))
    assert "warning: the noise of S is " in messages(report)
    assert "average repeated measurements" in messages(report)
    assert "the noise of I" not in messages(report)


@pytest.mark.parametrize(("n", "d", "level"), [(4, 1, "warning"), (7, 1, "note"), (7, 2, "warning"), (17, 2, "note")])
def test_few_values_support_few_terms(n: int, d: int, level: str) -> None:
    t = np.linspace(0, 2, n)
    report = diagnose(dataset(t, *(np.exp(-t * (k + 1)) for k in range(d))))
    (size,) = (f for f in report.findings if "the values measured" in f.message)
    assert size.level == level
    assert "measure more often or from more starts" in size.cure


def test_one_trajectory_asks_for_a_second_start() -> None:
    assert "note: one trajectory shows the law along one path only; a second start" in messages(
        diagnose(dataset(T, DECAY, starts=1))
    )


def test_uneven_steps_are_noted() -> None:
    report = diagnose(dataset(np.r_[T[:30], T[30:] + 1], DECAY))
    assert report.sampling == "uneven"
    assert "note: steps of time are uneven, from 0.08475 to 1.085." in messages(report)
    assert "in uneven steps, 0.08475 in the middle" in report.lines()[0]


def test_short_trajectories_are_a_warning() -> None:
    data = dataset(T, DECAY)
    short = Trajectory([0, 1], [[1], [2]], name="short")
    report = diagnose(Dataset((*data.trajectories, short), data.states))
    assert "warning: 1 trajectory of 3 with fewer than 3 rows" in messages(report)


@pytest.mark.parametrize(("every", "level", "share"), [(5, "note", "20%"), (1, "warning", "98%")])
def test_missing_values_are_told(every: int, level: str, share: str) -> None:
    x = DECAY.copy()
    x[::every] = np.nan
    x[0] = 1.0 if every == 1 else np.nan
    data = dataset(T, x, GROWTH)
    assert f"{level}: S is missing in {share} of the rows" in messages(diagnose(data))


def test_scales_far_apart_are_noted() -> None:
    assert "note: I is about 1e+07 times as large as S" in messages(diagnose(dataset(T, DECAY, 1e6 * GROWTH + 1)))


def test_a_change_of_sign_is_noted() -> None:
    assert "note: S changes sign, so its exponents will be whole" in messages(diagnose(dataset(T, np.cos(T))))


def test_a_dip_within_the_noise_is_no_change_of_sign() -> None:
    random = np.random.default_rng(0)
    report = diagnose(dataset(T, np.exp(-T) + random.normal(0, 0.02, 60)))
    assert "note: S is measured as slightly negative, within its noise; that is no change of sign." in messages(report)


@pytest.mark.parametrize("sigma", [0.0, 0.02])
def test_rest_is_a_warning(sigma: float) -> None:
    t = np.linspace(0, 40, 100)
    random = np.random.default_rng(0)
    resting = dataset(t, np.exp(-t) + random.normal(0, sigma, 100), 1 - np.exp(-t) + random.normal(0, sigma, 100))
    assert "2 trajectories of 2 stay at rest through the last half of the time" in messages(
        diagnose(resting), "warning"
    )
    moving = dataset(t, np.exp(-t) + random.normal(0, sigma, 100), np.exp(-t / 30) + random.normal(0, sigma, 100))
    assert "rest" not in messages(diagnose(moving))


def test_coarse_swings_are_a_warning() -> None:
    t = np.arange(40.0)
    assert "warning: S is sampled about 5 times a swing; sample at least 10 times a swing" in messages(
        diagnose(dataset(t, 2 + np.sin(2 * np.pi * t / 5)))
    )
    assert "swing" not in messages(diagnose(dataset(t, 2 + np.sin(2 * np.pi * t / 15))))


def test_a_jump_between_two_samples_is_a_warning() -> None:
    t = np.arange(30.0)
    report = diagnose(dataset(t, 1 / (1 + np.exp(-4 * (t - 10.5))) + 0.01 * t))
    assert "warning: S covers 60% of its range between t = 10 and 11; sample more densely there." in messages(report)


@pytest.mark.parametrize("sigma", [0.0, 0.01])
def test_conserved_sums_are_found(sigma: float) -> None:
    random = np.random.default_rng(0)
    s = 100 * np.exp(-0.5 * T) + 5
    i = 60 * T * np.exp(-0.8 * T)
    states = [s, i, 105 - s - i]
    report = diagnose(dataset(T, *(x + random.normal(0, sigma * x.std(), 60) for x in states)))
    assert report.invariants == ("S + I + R",)
    assert "note: S + I + R stays constant within the noise; one of these states follows" in messages(report)


def test_weights_of_a_conserved_sum_are_found() -> None:
    assert diagnose(dataset(T, 3 - 2 * GROWTH, GROWTH)).invariants == ("S + 2 I",)
    assert diagnose(dataset(T, 3 + GROWTH, GROWTH)).invariants == ("S - I",)


def test_every_start_may_have_a_sum_of_its_own() -> None:
    data = dataset(T, DECAY, 2 - DECAY)
    other = Trajectory(T, np.stack([DECAY, 7 - DECAY], -1), name="other")
    assert diagnose(Dataset((*data.trajectories, other), data.states)).invariants == ("S + I",)


def test_states_that_only_move_alike_conserve_nothing() -> None:
    random = np.random.default_rng(0)
    assert diagnose(dataset(T, DECAY, 1.2 - DECAY**1.1)).invariants == ()
    assert diagnose(dataset(T, *random.normal(0, 1, (3, 60)))).invariants == ()


def test_many_states_are_looked_at_too() -> None:
    parts = np.random.default_rng(0).uniform(0.5, 1.5, 10)[:, None] * np.sin(np.outer(np.arange(1, 11), T / 3))
    assert diagnose(dataset(T, *parts, 20 - parts.sum(0))).invariants == ("S + I + R + Q + P + O + N + M + L + K + J",)


def test_warnings_come_first() -> None:
    levels = [f.level for f in diagnose(dataset(np.arange(9.0), np.cos(2 * np.arange(9.0)), starts=1)).findings]
    assert levels == sorted(levels, reverse=True)
    assert set(levels) == {"note", "warning"}


def test_a_finding_reads_as_a_sentence() -> None:
    assert str(Finding("warning", "S is loud", "average")) == "warning: S is loud; average."


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=3),
    st.integers(1, 3),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1e-200, 1.0, 1e150]),
)
def test_whatever_can_be_built_can_be_diagnosed(sizes: list[int], d: int, seed: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    trajectories = []
    for k, n in enumerate(sizes):
        x = scale * random.normal(0, 1, (n, d)).round(1)
        x[random.random((n, d)) < 0.2] = np.nan
        trajectories.append(Trajectory(np.cumsum(random.uniform(0.1, 1, n)), x, name=str(k)))
    lines = diagnose(Dataset(tuple(trajectories), ("S", "I", "R")[:d])).lines()
    assert all(line.endswith(".") and "\n" not in line for line in lines)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(3)), st.floats(1e-3, 1e3))
def test_units_and_order_of_states_change_no_finding(order: list[int], factor: float) -> None:
    random = np.random.default_rng(3)
    x = np.stack([DECAY, GROWTH, 2 - DECAY], -1) + random.normal(0, 0.01, (60, 3))
    names = np.array(["S", "I", "R"])
    plain = diagnose(Dataset((Trajectory(T, x),), tuple(names)))
    other = diagnose(Dataset((Trajectory(factor * T, factor * x[:, order]),), tuple(names[order])))
    loudness = {s.name: s.loudness for s in other.states}
    for state in plain.states:
        assert loudness[state.name] == pytest.approx(state.loudness, rel=1e-6)
    assert sorted(f.level for f in plain.findings) == sorted(f.level for f in other.findings)
    assert {frozenset(text.split(" + ")) for text in plain.invariants} == {
        frozenset(text.split(" + ")) for text in other.invariants
    }


def test_a_stretch_without_values_is_named() -> None:
    holed = np.where((T > 1.0) & (T < 3.0), np.nan, DECAY)
    report = messages(diagnose(dataset(T, holed, GROWTH)))
    assert "S is not measured from t = 0.932203 to 3.05085; the law bridges it" in report
    assert "I is not measured" not in report


def test_an_input_that_never_changes_is_no_input() -> None:
    u = np.column_stack([np.ones_like(T), T])
    record = Trajectory(T, DECAY[:, None], u=u)
    report = messages(diagnose(Dataset((record,), ("S",), inputs=("pump", "heat"))), "warning")
    assert "the input pump never changes; leave it out, or add a record in which it does." in report
    assert "heat" not in report
