"""Simulation: a printed law, integrated by SciPy, as far as it goes.

    dx/dt = f(x, u(t)),     x(t_0) = x_0

Whatever goes wrong is a value: the trajectory up to its last valid time and a `Status`. A blow-up is a time, not an
exception, and nothing runs longer than it may.
"""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from jaxtyping import Float
from scipy.integrate import LSODA

from ..work.status import Status

if TYPE_CHECKING:
    import pandas as pd

    from ..data.inputs import InputCurve

LARGEST = 1e300  # rate that a solver is given: it must not meet an infinite one
HUGE = 1e9  # times the largest start; a state beyond this has blown up
TIGHT_RTOL, TIGHT_ATOL = 1e-12, 1e-16  # relative to the state, to the largest start: eight digits after many periods
PATIENCE, CRAWL = 500, 1e-12  # steps that together cover less than this share of the way will never arrive


class RightHandSide(Protocol):
    """What can be simulated: `Equations`, or a network that has none."""

    def function(
        self, inputs: Callable[[float], np.ndarray] | None = None
    ) -> Callable[[float, np.ndarray], np.ndarray]:
        """Return f(t, x) for x (d,) or (n, d), with inputs u (q,) as a function of time."""
        ...


@dataclass(frozen=True, eq=False)
class Simulation:
    """Times t (k,), states x (k, d), how it ended and the last valid time; full length exactly if the status is OK."""

    t: Float[np.ndarray, "k"]
    x: Float[np.ndarray, "k d"]
    status: Status
    end: float

    def to_frame(self, states: Sequence[str], time: str = "t") -> pd.DataFrame:
        """Return a DataFrame: time, then one column a state, which are named here.

        >>> from eqdisc.law.equations import Equations
        >>> law = Equations.parse({"x": "-x"}, ("x",))
        >>> simulate(law, np.array([1.0]), np.array([0.0, 1.0])).to_frame(["x"]).round(3).to_dict("list")
        {'t': [0.0, 1.0], 'x': [1.0, 0.368]}
        """
        from ..data.frames import tabulate_curves

        return tabulate_curves([("0", self.t, self.x)], time, states).iloc[:, 1:]


def simulate(
    equations: RightHandSide,
    x0: Float[np.ndarray, "d"],
    t: Float[np.ndarray, "n"],
    *,
    inputs: InputCurve | None = None,
    rtol: float = 1e-8,
    atol: float | None = None,
    time_limit: float = 10.0,
) -> Simulation:
    """Integrate from x0 at t[0] through the times t, with LSODA (stiff or not), anew wherever an input jumps or bends.

    >>> from eqdisc.law.equations import Equations
    >>> law = Equations.parse({"x": "x**2"}, ("x",))
    >>> run = simulate(law, np.array([1.0]), np.linspace(0.0, 2.0, 201))
    >>> run.status.name, round(run.end, 2)
    ('DIVERGED', 1.0)
    """
    t, x0 = np.asarray(t, float), np.asarray(x0, float)
    f, deadline = equations.function() if inputs is None else equations.function(inputs), time.monotonic() + time_limit

    def field(now: float, x: np.ndarray) -> np.ndarray:
        if time.monotonic() > deadline:
            raise _Deadline
        return np.minimum(np.maximum(f(now, x), -LARGEST), LARGEST)  # NaN stays what it is

    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LSODA warns where it fails; here that is a status
        if not np.isfinite(f(t[0], x0)).all():
            return Simulation(t[:1], x0[None], Status.LEFT_DOMAIN, float(t[0]))
        small = atol if atol is not None else 1e-10 * max(float(np.abs(x0).max()), 1e-12)
        if inputs is None:
            return _walk(field, x0, t, rtol, small)
        inside = inputs.breaks[(inputs.breaks > t[0]) & (inputs.breaks < t[-1])]
        return _walk_pieces(field, x0, t, inside, rtol, small)


class _Deadline(Exception):
    """The time allowed is spent."""


def _walk_pieces(
    field: Callable, x0: np.ndarray, t: np.ndarray, breaks: np.ndarray, rtol: float, atol: float
) -> Simulation:
    """Walk from break to break, the field never looking past the end of its piece."""
    times, states, start = [t[:1]], [x0[None]], x0
    for a, b in itertools.pairwise(np.r_[t[0], breaks, t[-1]]):
        inside = t[(t > a) & (t <= b)]
        stops = np.r_[a, inside] if len(inside) and inside[-1] == b else np.r_[a, inside, b]
        last = np.nextafter(b, -np.inf)
        piece = _walk(lambda now, x, last=last: field(min(now, last), x), start, stops, rtol, atol)
        reached = min(len(piece.t), len(inside) + 1)
        times.append(piece.t[1:reached])
        states.append(piece.x[1:reached])
        if piece.status is not Status.OK:
            return Simulation(np.concatenate(times), np.concatenate(states), piece.status, piece.end)
        start = piece.x[-1]
    return Simulation(np.concatenate(times), np.concatenate(states), Status.OK, float(t[-1]))


def _walk(field: Callable, x0: np.ndarray, t: np.ndarray, rtol: float, atol: float) -> Simulation:
    """Step from t[0] to t[-1] and read the state at each time that was passed."""
    rows, done, status = [x0[None]], 1, Status.OK
    watch = _Watch(HUGE * max(1.0, float(np.abs(x0).max())), CRAWL * (t[-1] - t[0]), float(t[0]), float(t[0]))
    try:
        solver = LSODA(field, t[0], x0, t[-1], rtol=rtol, atol=atol)
        while done < len(t) and status is Status.OK:
            solver.step()
            status = watch.judge(solver)
            passed = int(np.searchsorted(t, watch.end, side="right")) if status is Status.OK else done
            if passed > done:
                rows.append(solver.dense_output()(t[done:passed]).T)
                done = passed
    except _Deadline:
        status = Status.TIMEOUT
    x = np.concatenate(rows)
    valid = int(np.append(np.isfinite(x).all(1), False).argmin())
    return Simulation(t[:valid], x[:valid], status, watch.end)


@dataclass
class _Watch:
    """Tells after each step whether a solution goes on; `end` is the last time at which it did, or blew up."""

    bound: float
    least: float  # way of so many steps
    mark: float
    end: float
    steps: int = 0

    def judge(self, solver: LSODA) -> Status:
        self.steps += 1
        if solver.status == "failed":
            return Status.STEP_UNDERFLOW
        if not np.abs(solver.y).max() < self.bound:  # NaN is not below either
            self.end = float(solver.t) if np.isfinite(solver.y).all() else self.end
            return Status.DIVERGED
        if self.steps % PATIENCE == 0:
            way, self.mark = solver.t - self.mark, float(solver.t)
            if way <= self.least:
                return Status.STEP_UNDERFLOW
        self.end = float(solver.t)
        return Status.OK
