"""Catalogue: known laws from textbooks and papers, each with its source, to practise on and to measure with.

The laws stand in `catalogue.toml`. The search never looks here. A system's formulas are over its states and named parameters; `simulate_system` makes
the table that someone who measured it would have.
"""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import dataclass
from functools import cache, cached_property, partial
from importlib.resources import files
from typing import Any

import numpy as np

from ..data.dataset import Dataset, Trajectory
from ..work.errors import OptionError, did_you_mean
from ..work.status import Status
from .equations import Equations
from .printers import number_text
from .simulation import TIGHT_ATOL, TIGHT_RTOL, simulate


@dataclass(frozen=True)
class System:
    """A known law: formulas over states and parameters, starts, span and samples of a usual experiment, and where it is from.

    `units` has the unit of each parameter, as in "case^0.3/day", and `time_unit` that of time; "" is a plain number. `signed` names
    the states that change sign; a `transcendental` law is none that sums and ratios of powers can say.
    """

    name: str
    title: str
    equations: dict[str, str]
    parameters: dict[str, float]
    units: dict[str, str]
    x0: tuple[tuple[float, ...], ...]
    span: float
    time_unit: str
    samples: int
    source: str
    signed: tuple[str, ...] = ()
    transcendental: bool = False

    @cached_property
    def law(self) -> Equations:
        """The law with its numbers in place."""
        numbers = {name: f"({number_text(value)})" for name, value in self.parameters.items()}
        fill = partial(re.sub, r"\b[A-Za-z_]\w*", lambda word: numbers.get(word[0], word[0]))
        return Equations.parse({s: fill(text) for s, text in self.equations.items()}, tuple(self.equations))


@cache
def catalogue() -> dict[str, System]:
    """Return all systems by name.

    >>> catalogue()["fsir"].law.readable()[0]
    'dS/dt = -0.06·√(I·S) + 0.01·R'
    """
    text = files(__package__).joinpath("catalogue.toml").read_text(encoding="utf-8")
    return {name: _system(name, facts) for name, facts in tomllib.loads(text).items()}


def _system(name: str, facts: dict[str, Any]) -> System:
    starts = tuple(tuple(map(float, x0)) for x0 in facts.pop("x0"))
    return System(name, x0=starts, signed=tuple(facts.pop("signed", ())), **facts)


def simulate_system(
    name: str, *, noise: float = 0.0, seed: int = 0, samples: int | None = None, starts: int = 1
) -> Dataset:
    """Measure a system: trajectories from its first `starts` starts, with noise as a share of each state's standard deviation.

    Raises OptionError for a name that is not in the catalogue, and for noise, samples or starts that make no table.

    >>> simulate_system("fsir").trajectories[0].x[-1].round(2).tolist()
    [10.45, 14.91, 74.64]
    """
    if name not in catalogue():
        raise OptionError(f"the catalogue has no {name!r}.{did_you_mean(name, catalogue())}")
    system = catalogue()[name]
    samples = system.samples if samples is None else samples
    _check(system, noise, samples, starts)
    rng, law = np.random.default_rng(seed), system.law
    t = np.linspace(0.0, system.span, samples)
    trajectories = []
    for k, x0 in enumerate(system.x0[:starts]):
        small = TIGHT_ATOL * max(np.abs(x0).max(), 1e-12)
        run = simulate(law, np.array(x0), t, rtol=TIGHT_RTOL, atol=small)
        if run.status is not Status.OK:
            raise OptionError(f"{name} cannot be simulated to t = {system.span:g}: it ends at {run.end:g}.")
        x = run.x + noise * run.x.std(0) * rng.standard_normal(run.x.shape) if noise else run.x
        trajectories.append(Trajectory(t, x, name=str(k)))
    return Dataset(tuple(trajectories), states=tuple(system.equations), file=name)


def _check(system: System, noise: float, samples: int, starts: int) -> None:
    if not 0.0 <= noise < math.inf:
        raise OptionError(f"noise is {noise}; give a share of the standard deviation, such as 0.02.")
    if samples < 2:
        raise OptionError(f"samples is {samples}; a trajectory needs two at least.")
    if not 1 <= starts <= len(system.x0):
        raise OptionError(f"starts is {starts}; {system.name} has 1 to {len(system.x0)}.")
