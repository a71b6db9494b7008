"""Simulation: a printed law, integrated by SciPy, as far as it goes.

Whatever goes wrong is a value: the trajectory up to its last valid time and a `Status`. A blow-up is a time, not an
exception, and nothing runs longer than it may.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.integrate import solve_ivp

from .equations import Equations
from .status import Status

HUGE = 1e9  # times the largest start; a state beyond this has blown up


@dataclass(frozen=True, eq=False)
class Simulation:
    """Times t (k,), states x (k, d), how it ended and the last valid time; full length exactly if the status is OK."""

    t: Float[np.ndarray, "k"]
    x: Float[np.ndarray, "k d"]
    status: Status
    end: float


class _Deadline(Exception):
    """The time allowed is spent."""


def simulate(
    equations: Equations,
    x0: Float[np.ndarray, "d"],
    t: Float[np.ndarray, "n"],
    *,
    rtol: float = 1e-8,
    atol: float | None = None,
    time_limit: float = 10.0,
) -> Simulation:
    """Integrate from x0 at t[0] through the times t, with LSODA (stiff or not).

    >>> law = Equations.parse({"x": "x**2"}, ("x",))
    >>> run = simulate(law, np.array([1.0]), np.linspace(0.0, 2.0, 201))
    >>> run.status.name, round(run.end, 2)
    ('DIVERGED', 1.0)
    """
    t, x0 = np.asarray(t, float), np.asarray(x0, float)
    f, bound = equations.function(), HUGE * max(1.0, float(np.abs(x0).max()))
    deadline = time.monotonic() + time_limit

    def field(now: float, x: np.ndarray) -> np.ndarray:
        if time.monotonic() > deadline:
            raise _Deadline
        return np.nan_to_num(f(now, x), nan=np.nan, posinf=1e300, neginf=-1e300)

    def escape(now: float, x: np.ndarray) -> float:
        return bound - float(np.abs(x).max())

    escape.terminal = True  # type: ignore[attr-defined]  # SciPy's way to mark an event
    small = atol if atol is not None else 1e-10 * max(float(np.abs(x0).max()), 1e-12)
    seen = _Last(t[0])
    try:
        with np.errstate(all="ignore"):
            run = solve_ivp(
                seen.of(field), (t[0], t[-1]), x0, t_eval=t, method="LSODA", rtol=rtol, atol=small, events=escape
            )
    except _Deadline:
        return Simulation(t[:1], x0[None], Status.TIMEOUT, float(seen.t))
    except (ValueError, FloatingPointError, OverflowError, ZeroDivisionError):
        return Simulation(t[:1], x0[None], Status.LEFT_DOMAIN, float(t[0]))
    x = run.y.T if run.y.size else x0[None]
    valid = int(np.isfinite(x).all(1).argmin()) if not np.isfinite(x).all() else len(x)
    if valid == len(t) and run.success and not run.t_events[0].size:
        return Simulation(t, np.vstack([x0, x[1:]]), Status.OK, float(t[-1]))
    end = (
        float(run.t_events[0][0])
        if run.t_events[0].size
        else float(seen.t)
        if valid == len(x)
        else float(t[max(valid - 1, 0)])
    )
    return Simulation(t[:valid], x[:valid], Status.DIVERGED, min(end, float(t[-1])))


class _Last:
    """Remembers the latest time at which the field was finite."""

    def __init__(self, t: float) -> None:
        self.t = t

    def of(self, field: Callable[[float, np.ndarray], np.ndarray]) -> Callable[[float, np.ndarray], np.ndarray]:
        def watched(now: float, x: np.ndarray) -> np.ndarray:
            dxdt = field(now, x)
            if np.isfinite(dxdt).all():
                self.t = max(self.t, now)
            return dxdt

        return watched
