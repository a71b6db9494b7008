"""Options: whatever is said of a law, all at once, ends in a law that keeps to it or in one clear sentence."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.discovery import discover
from eqdisc.law.catalogue import simulate_system
from eqdisc.work.config import FitConfig
from eqdisc.work.errors import DataError, OptionError


def sine(noise: float) -> Dataset:
    """Return a record of dx/dt = -sin x, which is outside the class."""
    t = np.linspace(0, 10, 25)
    x = 2 * np.arctan(np.tan(0.5) * np.exp(-t)) + noise * np.random.default_rng(1).normal(size=25)
    return Dataset((Trajectory(t, x[:, None]),), states=("x",))


DATA = [
    *(sine(noise) for noise in (0.0, 0.01)),
    *(simulate_system(name, noise=noise, seed=1) for name in ("fsir", "monod", "torricelli") for noise in (0.0, 0.02)),
]


@st.composite
def said(draw: st.DrawFn, states: tuple[str, ...]) -> FitConfig:
    """Draw what is said of a law of these states, true or not."""
    x, y = (draw(st.sampled_from(states)) for _ in range(2))
    words = {
        "known": (f"d{x}/dt = {draw(st.sampled_from(['0.1', '-2', '0']))}*{y}{draw(st.sampled_from(['', ' + ...']))}",),
        "start_from": (f"d{x}/dt = a*{y} - b*{x}*{y}/({y} + K)" if draw(st.booleans()) else f"d{x}/dt = -r*{x}",),
        "sign": (f"{x} -> {y}: {draw(st.sampled_from('+-'))}",),
        "forbid": (f"{x} in d{y}/dt",),
        "conserve": (f"{x} + 2*{y}",),
        "exponents": draw(st.sampled_from(["real", "0..2", "-1..1"])),
        "noise": draw(st.sampled_from(["poisson", "0.02", "relative"])),
        "held_out": draw(st.sampled_from([0.2, 0.8])),
        "snap": False,
    }
    chosen = draw(st.lists(st.sampled_from(sorted(words)), min_size=1, max_size=3, unique=True))
    return FitConfig(**{name: words[name] for name in chosen}, time_limit=3.0)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_whatever_is_said_ends_in_a_law_that_keeps_to_it_or_in_a_sentence(drawn: st.DataObject) -> None:
    data = drawn.draw(st.sampled_from(DATA))
    config = drawn.draw(said(data.states))
    with suppress(OptionError, DataError):
        assert discover(data, config).result()["verdict"]
