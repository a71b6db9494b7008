"""Intervals: closed forms, the deviance at both ends, the same interval in every unit."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from rows import lanes_of, law_of
from scipy.optimize import least_squares

from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.discovery import discover
from eqdisc.fit.pins import Pins
from eqdisc.judge.intervals import NORMAL, name_loosest
from eqdisc.law.equations import Parameter
from eqdisc.law.law import PARTS, Numbers
from eqdisc.law.terms import Number
from eqdisc.search.joint import JointSearch
from eqdisc.search.problem import Problem

N = 60


def _one_state(x: np.ndarray, t: np.ndarray) -> Dataset:
    return Dataset((Trajectory(t, x[:, None]),), ("x",))


def _numbers(x: np.ndarray, t: np.ndarray) -> dict[str, Parameter]:
    return {p.name: p for p in discover(_one_state(x, t)).parameters}


def test_a_constant_rate_has_the_interval_of_a_straight_line() -> None:
    t = np.linspace(0, 4, N)
    x = 3 + 0.7 * t + 0.05 * np.random.default_rng(1).standard_normal(N)
    fit = np.polyfit(t, x, 1)
    rest = x - np.polyval(fit, t)
    bound = N * math.log1p(NORMAL**2 / (N - 2))  # of the deviance n log(1 + (slope - v)**2 Sxx / SSR)
    half = math.sqrt((math.exp(bound / N) - 1) * rest @ rest / ((t - t.mean()) @ (t - t.mean())))
    rate = _numbers(x, t)["k1"]
    assert rate.ci is not None
    assert_allclose(rate.ci, (fit[0] - half, fit[0] + half), rtol=2e-4)


@pytest.fixture(scope="module")
def decay() -> tuple[np.ndarray, np.ndarray]:
    t = np.linspace(0, 6, N)
    return t, 2 * np.exp(-0.8 * t) + 0.06 * np.random.default_rng(4).standard_normal(N)


def _deviance(t: np.ndarray, x: np.ndarray, start: list[float], model, held) -> float:
    whole = least_squares(lambda q: model(q) - x, start).cost
    rest = least_squares(lambda q: held(q) - x, start[1:]).cost
    return N * math.log(rest / whole)


def test_the_deviance_at_both_ends_is_its_bound(decay: tuple[np.ndarray, np.ndarray]) -> None:
    t, x = decay
    numbers = _numbers(x, t)
    bound = N * math.log1p(NORMAL**2 / (N - 2))
    ends = numbers["k1"].ci
    assert ends is not None
    for end in ends:
        d = _deviance(t, x, [-0.8, 2.0], lambda q: q[1] * np.exp(q[0] * t), lambda q, end=end: q[0] * np.exp(end * t))
        assert_allclose(d, bound, rtol=0.05)


def test_a_chosen_exponent_says_which_others_would_do(decay: tuple[np.ndarray, np.ndarray]) -> None:
    t, x = decay
    power = _numbers(x, t)["p1"]
    assert power.chosen
    assert power.value == 1
    assert power.ci is not None
    solved = lambda w, k, x0: np.maximum(x0 ** (1 - w) - k * (1 - w) * t, 1e-9) ** (1 / (1 - w))  # noqa: E731
    bound = N * math.log1p(NORMAL**2 / (N - 3))
    for end in power.ci:
        d = _deviance(t, x, [1.001, 0.8, 2.0], lambda q: solved(*q), lambda q, end=end: solved(end, *q))
        assert_allclose(d, bound, rtol=0.1)


def test_the_interval_is_the_same_in_every_unit(decay: tuple[np.ndarray, np.ndarray]) -> None:
    t, x = decay
    here, there = _numbers(np.abs(x) ** 0.5, t), _numbers(1e4 * np.abs(x) ** 0.5, 100 * t)
    assert here.keys() == there.keys()
    for name in here:
        one, other = np.array(here[name].ci), np.array(there[name].ci)
        scale = there[name].value / here[name].value
        assert_allclose(one * (scale if name[0] == "k" else 1.0), other, rtol=1e-2)


@pytest.mark.parametrize(
    "number", [Number("exponent", 0, 0), Number("exponent", 0, 1), Number("coefficient", 0, 1), Number("offset", 0, 0)]
)
def test_the_slope_of_a_pin_is_its_derivative(number: Number) -> None:
    rng = np.random.default_rng(0)
    row, free = [[0.7, 1.2, 1.0, 0.0, 0.3, 0.0, 0.0]], [[True, True, True, False, True, False, False]]
    lanes = lanes_of((row, [[0.5, -2.0]], free))
    numbers = Numbers.of(lanes, torch.tensor([True, True]))
    pins = Pins.on([number], lanes, torch.as_tensor(rng.normal(size=2)))
    near = lambda v: v + 0.1 * torch.as_tensor(rng.normal(size=v.shape))  # noqa: E731
    pins = replace(pins, exponents=near(pins.exponents), inner=near(pins.inner))
    slope, law = pins.slope(lanes, numbers)[0], lanes.lane()
    for name, foretold in zip(numbers.names(), slope.tolist(), strict=True):
        moved = [law.put({name: law[name] + step}, free=None) for step in (1e-6, -1e-6)]
        up, down = (float(pins.measure(type(law).stack([m]))[0]) for m in moved)
        assert_allclose((up - down) / 2e-6, foretold, atol=1e-7)
    assert {PARTS.index(n.part) for n in numbers.names()} == {0, 1, 2, 3}


@pytest.mark.parametrize("unit", [1.0, 1e3])
def test_a_coefficient_is_named_that_another_can_replace(unit: float) -> None:
    """Where y is nearly twice x, x' = a x + b y says little of a and b; x' = a x says a."""
    t = np.linspace(0, 3, N)
    noise = 0.01 * np.random.default_rng(2).standard_normal((N, 2))
    x = np.c_[np.exp(-t), 2 * np.exp(-t) + 0.01 * np.exp(-3 * t)] + noise
    problem = Problem.of(Dataset((Trajectory(t, x * [unit, 1.0]),), ("x", "y")))
    joint = JointSearch(problem)
    both, alone = (joint.solve([law_of(np.eye(2), [[-1.0, 0.0], [other, -1.0]])], steps=20)[0] for other in (0.1, 0.0))
    words = name_loosest(problem, both)
    assert words is not None
    assert words.startswith("The data hardly tell the coefficient of y in dx/dt: its error is ")
    assert name_loosest(problem, alone) is None
