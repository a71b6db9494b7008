"""Laws of simulation: closed forms hold, a blow-up is a time, and nothing runs longer than it may."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from rows import law_of
from scipy.linalg import expm

from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.judge.validation import leave_the_data
from eqdisc.law.equations import Equations
from eqdisc.law.simulation import simulate
from eqdisc.work.status import Status


def law(**formulas: str) -> Equations:
    return Equations.parse(formulas, tuple(formulas))


@settings(deadline=None, max_examples=30)
@given(
    a=arrays(float, (3, 3), elements=st.floats(-1.0, 1.0)), x0=arrays(float, 3, elements=st.floats(-2.0, 2.0)),
)  # fmt: skip
def test_a_linear_law_ends_at_the_matrix_exponential(a: np.ndarray, x0: np.ndarray) -> None:
    names = ("x", "y", "z")
    linear = Equations.of(law_of(np.eye(3), a.T), names)
    t = np.array([0.0, 0.4, 1.0, 3.0])
    flows = [expm(a * s) for s in t]
    expected = np.array([flow @ x0 for flow in flows])
    # rtol 1e-8 of a step adds up to a few times 1e-7 of what any start as large could have become: where x0 holds next to nothing of the
    # growing mode, what the steps add of it grows all the same, so that the error falls below 1e-6 of the solution itself only with rtol
    largest = max(np.linalg.norm(flow, 2) for flow in flows) * np.linalg.norm(x0)
    for rtol, scale in ((1e-8, largest), (1e-10, np.abs(expected).max())):
        run = simulate(linear, x0, t, rtol=rtol)
        assert run.status is Status.OK
        assert_allclose(run.x, expected, atol=1e-6 * max(scale, 1e-9))


def test_logistic_growth_follows_its_closed_form() -> None:
    r, k, n0 = 0.7, 10.0, 0.2
    t = np.linspace(0.0, 20.0, 41)
    run = simulate(law(N=f"{r}*N - {r / k}*N**2"), np.array([n0]), t)
    assert_allclose(run.x[:, 0], k / (1 + (k / n0 - 1) * np.exp(-r * t)), rtol=1e-6)


def test_a_draining_tank_is_empty_at_its_time_and_stays_empty() -> None:
    t = np.linspace(0.0, 40.0, 81)
    run = simulate(law(h="-0.1*sqrt(h)"), np.array([1.0]), t)  # empty at t = 2 sqrt(h0) / k = 20
    assert run.status is Status.OK
    assert_allclose(run.x[:, 0], np.maximum(1 - 0.05 * t, 0.0) ** 2, atol=1e-6)


def test_uneven_times_are_met_exactly() -> None:
    t = np.array([1.0, 1.001, 1.5, 7.0, 7.3])
    run = simulate(law(x="-x"), np.array([2.0]), t)
    assert_array_equal(run.t, t)
    assert_allclose(run.x[:, 0], 2 * np.exp(1 - t), rtol=1e-6)


def test_the_first_sample_is_the_start_to_the_last_digit() -> None:
    x0 = np.array([0.1 + 0.2, 1 / 3])
    assert_array_equal(simulate(law(x="y", y="-x"), x0, np.linspace(0, 1, 5)).x[0], x0)


def test_time_in_a_law_is_the_time_of_the_samples() -> None:
    t = np.linspace(2.0, 5.0, 7)
    assert_allclose(simulate(law(x="cos(t)"), np.array([0.0]), t).x[:, 0], np.sin(t) - np.sin(2.0), atol=1e-7)


@pytest.mark.parametrize("x0", [0.5, 1.0, 4.0])
def test_the_square_law_blows_up_at_one_over_its_start(x0: float) -> None:
    t = np.linspace(0.0, 10.0, 1001)
    run = simulate(law(x="x**2"), np.array([x0]), t)
    assert run.status is Status.DIVERGED
    assert run.end == pytest.approx(1 / x0, abs=1e-3)


def test_what_came_before_a_blow_up_is_kept() -> None:
    t = np.linspace(0.0, 2.0, 201)
    run = simulate(law(x="x**2"), np.array([1.0]), t)
    assert 95 <= len(run.t) == len(run.x) <= 101
    assert run.t[-1] <= run.end
    assert_allclose(run.x[:90, 0], 1 / (1 - t[:90]), rtol=1e-5)


@pytest.mark.parametrize("text", ["x**2", "exp(x)", "x**3 - x", "1/(1 - x)**2 + x**2", "exp(exp(x))"])
def test_a_run_has_full_length_exactly_if_it_ended_well(text: str) -> None:
    for horizon in (0.01, 5.0):
        t = np.linspace(0.0, horizon, 50)
        run = simulate(law(x=text), np.array([1.5]), t, time_limit=1.0)
        assert (len(run.t) == len(t)) == (run.status is Status.OK)
        assert len(run.t) == len(run.x) >= 1
        assert np.isfinite(run.x).all()
        assert run.t[-1] <= max(run.end, 0.0) + 1e-12 <= horizon + 2e-12


@pytest.mark.parametrize(
    ("text", "x0"), [("log(x)", -1.0), ("1/x", 0.0), ("sqrt(x - 5)", 1.0), ("x**(-0.5)", 0.0), ("-1/x", 1.0)]
)
def test_leaving_the_domain_is_a_status_and_no_exception(text: str, x0: float) -> None:
    run = simulate(law(x=text), np.array([x0]), np.linspace(0.0, 2.0, 21), time_limit=1.0)
    assert run.status is not Status.OK
    assert np.isfinite(run.x).all()
    assert run.end <= 2.0


def test_a_stiff_law_is_no_trouble() -> None:
    formulas = {
        "A": "-0.04*A + 10000*B*C",
        "B": "0.04*A - 10000*B*C - 30000000*B**2",
        "C": "30000000*B**2",
    }
    start = time.perf_counter()
    run = simulate(law(**formulas), np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.4, 40.0, 4000.0]))
    assert run.status is Status.OK
    assert time.perf_counter() - start < 5.0
    # Hairer & Wanner, Solving ODEs II (1996), sec. IV.10: reference values of ROBER
    assert run.x[2] == pytest.approx([0.7158, 9.185e-6, 0.2842], rel=1e-3)
    assert_allclose(run.x.sum(1), 1.0, atol=1e-6)


def test_a_deadline_is_kept_and_says_timeout() -> None:
    start = time.perf_counter()
    run = simulate(law(x="y", y="-1e12*x"), np.array([1.0, 0.0]), np.linspace(0.0, 1e3, 11), time_limit=0.3)
    assert run.status is Status.TIMEOUT
    assert time.perf_counter() - start < 3.0
    assert 0.0 <= run.end < 1e3
    assert len(run.t) == len(run.x) < 11


def test_a_state_that_stays_at_zero_stays_there() -> None:
    run = simulate(law(S="-sqrt(S*I)", I="sqrt(S*I)"), np.array([5.0, 0.0]), np.linspace(0, 10, 5))
    assert_array_equal(run.x, np.tile([5.0, 0.0], (5, 1)))


def test_small_and_large_scales_are_simulated_alike() -> None:
    t = np.linspace(0.0, 10.0, 21)
    for scale in (1e-9, 1.0, 1e9):
        run = simulate(law(N=f"0.5*N - {0.05 / scale!r}*N**2"), np.array([scale]), t)
        assert_allclose(run.x[:, 0] / scale, 10 / (1 + 9 * np.exp(-0.5 * t)), rtol=1e-6)


def test_the_same_call_gives_the_same_bits() -> None:
    chaos = law(x="10*(y - x)", y="x*(28 - z) - y", z="x*y - 2.5*z")
    x0, t = np.array([1.0, 1.0, 1.0]), np.linspace(0, 20, 201)
    assert_array_equal(simulate(chaos, x0, t).x, simulate(chaos, x0, t).x)


LORENZ = law(x="10*(y - x)", y="x*(28 - z) - y", z="x*y - 2.6666666666667*z")


def record_of(equations: Equations, x0: list[float], end: float) -> Dataset:
    t = np.linspace(0.0, end, 400)
    return Dataset((Trajectory(t, simulate(equations, np.array(x0), t).x, "one"),), states=equations.states)


def test_a_chaotic_record_is_not_left_by_its_own_law_from_a_start_within_the_noise() -> None:
    data, sigma = record_of(LORENZ, [1.0, 1.0, 20.0], 20.0), np.full(3, 0.05)
    starts = {0: np.array([1.05, 1.0, 20.0])}
    apart = np.abs(simulate(LORENZ, starts[0], data.trajectories[0].t).x - data.trajectories[0].x)
    assert apart.max() > 10.0  # followed from there it ends elsewhere
    assert list(leave_the_data(LORENZ, data, starts, sigma)) == []


def test_a_record_is_left_by_a_law_whose_start_is_known() -> None:
    oscillator, faster = law(x="y", y="-x"), law(x="y", y="-1.2*x")
    data, starts = record_of(oscillator, [1.0, 0.0], 40.0), {0: np.array([1.0, 0.0])}
    assert list(leave_the_data(oscillator, data, starts, np.full(2, 0.01))) == []
    ((name, time),) = leave_the_data(faster, data, starts, np.full(2, 0.01))
    assert name == "one"
    assert 3.0 < time < 12.0  # where a phase of 0.095 t makes half the spread
    pole = law(x="x**2")  # 1 / (1 - t)
    t = np.linspace(0.0, 2.0, 200)
    ends = Dataset((Trajectory(t, np.where(t < 0.9, 1 / (1 - t), np.nan)[:, None], "one"),), states=("x",))
    ((_, time),) = leave_the_data(pole, ends, {0: np.array([1.0])}, np.full(1, 1e-9))
    assert time == pytest.approx(1.0, abs=0.02)  # where the law ends, though nothing was measured there
    blown_up = law(x="y", y="x**3")
    ((_, time),) = leave_the_data(blown_up, data, starts, np.full(2, 1e-9))
    assert time < 5.0
