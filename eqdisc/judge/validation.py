r"""Validation: printed equations simulated again, against the data they were fitted to and against data they never saw.

A residual counts in units of the noise sigma, so 1 is as good as it gets: rms = sqrt(mean(((x - x_simulated) /
sigma)**2)). Long or chaotic records are simulated in the stretches that the fit used, each from its own estimated
start, and the horizon says how long these are. A simulation that ends early leaves its error infinite and its end
is a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ..data.dataset import Dataset
from ..data.inputs import InputCurve, curve_of
from ..data.scaling import Scaling
from ..law.simulation import RightHandSide, simulate
from ..search.problem import Problem
from ..work.journal import Form, Packed
from ..work.status import Status

METRIC = "rms over sigma-scaled residuals"
LEFT = 0.5  # of a state's spread: a simulation this far off has left the data
APART = 3.0  # times what the noise of one state's start has grown into: a law's numbers and other states err too
MOST = 64  # stretches that a law on the front is judged by; the pick is judged by all


@dataclass(frozen=True)
class Score:
    """The error of one law on one set of stretches; `end` is the earliest time at which a simulation broke off, if any did."""

    error: float
    horizon: float
    status: Status
    end: float | None = None


def _unpack(packed: Packed) -> Score:
    error, horizon, status, end = packed["score"].tolist()
    return Score(error, horizon, Status(int(status)), None if math.isnan(end) else end)


SCORE = Form(
    lambda s: {"score": np.array([s.error, s.horizon, s.status, math.nan if s.end is None else s.end])}, _unpack
)


class Stretch(NamedTuple):
    """A piece of a record that is simulated on its own: start (d,), times (n,), measured states (n, d) with NaN, inputs."""

    start: Float[np.ndarray, "d"]
    t: Float[np.ndarray, "n"]
    x: Float[np.ndarray, "n d"]
    inputs: InputCurve | None = None


def stretches_of_fit(problem: Problem, data: Dataset, starts: np.ndarray) -> list[Stretch]:
    """Return the stretches that the fit used, in the user's units, each from its estimated start."""
    mesh, scaling = problem.engine.mesh, problem.scaling
    mask, x = mesh.mask.cpu().numpy() > 0, mesh.x.cpu().numpy()
    out = []
    for q, k in enumerate(mesh.trajectory):
        index = mesh.sample[q].cpu().numpy()
        count = int(np.argmax(index)) + 1
        t = mesh.t[q, index[:count]] * scaling.time + data.trajectories[k].t[0]
        values = np.where(mask[q, :count], x[q, :count] * scaling.states, np.nan)[:, : problem.d]
        out.append(Stretch(starts[q], t, values, curve_of(data, k)))
    return out


def stretches_unseen(data: Dataset) -> list[Stretch]:
    """Return whole trajectories that were not fitted, each from the smooth curve's first point."""
    return list(_from_smooth_starts(data))


def _from_smooth_starts(data: Dataset) -> Iterator[Stretch]:
    from ..data.smoothing import denoise

    scaling = Scaling.of(data)
    denoised = denoise(scaling.apply(data))
    for k, trajectory in enumerate(data.trajectories):
        start = np.array([curve(np.zeros(1))[0] for curve in denoised.curves[k]])
        start = np.where(denoised.positive, np.maximum(start, 0.0), start)
        yield Stretch(start * scaling.states, trajectory.t, trajectory.x, curve_of(data, k))


def leave_the_data(
    equations: RightHandSide, data: Dataset, starts: dict[int, np.ndarray], sigma: Float[np.ndarray, "d"]
) -> Iterator[tuple[str, float]]:
    """Yield (name, time) of each trajectory that the law leaves on its way from its start, though its start is known well enough.

    `starts` are estimated initial states (d,) by the number of the trajectory, `sigma` the noise. A record is left where the simulation is
    off by half a state's spread, and by more than the noise of a start has grown into by then: a chaotic record says nothing there.
    """
    for k, x0 in starts.items():
        trajectory, u = data.trajectories[k], curve_of(data, k)
        spread = np.ma.masked_invalid(trajectory.x).std(0).filled(0.0)  # 0 where a state was not measured
        run = simulate(equations, x0, trajectory.t, inputs=u).x
        grown = np.zeros_like(run)
        for shift in np.diag(sigma):
            moved = simulate(equations, x0 + shift, trajectory.t, inputs=u).x
            n = min(len(run), len(moved))
            grown[:n] = np.maximum(grown[:n], np.abs(moved[:n] - run[:n]))
            grown[n:] = np.inf
        apart = APART * np.maximum.accumulate(grown)
        off = np.abs(run - trajectory.x[: len(run)]) > LEFT * spread + apart
        broken = len(run) < len(trajectory.t) and (apart[-1] <= LEFT * spread)[spread > 0].all()
        if off.any() or broken:
            yield trajectory.name, float(trajectory.t[int(off.any(1).argmax()) if off.any() else len(run)])


def score(
    equations: RightHandSide,
    stretches: list[Stretch],
    sigma: np.ndarray,
    most: int | None = None,
    time_limit: float = 10.0,
) -> Score:
    """Simulate `equations` along every stretch, or `most` of them, and compare; each may take so many seconds."""
    if most is not None and len(stretches) > most:
        stretches = [stretches[i] for i in np.linspace(0, len(stretches) - 1, most).round().astype(int)]
    total, count, status, ends = 0.0, 0, Status.OK, []
    for stretch in stretches:
        run = simulate(equations, stretch.start, stretch.t, inputs=stretch.inputs, time_limit=time_limit)
        x, seen = stretch.x, np.isfinite(stretch.x)
        count += int(seen.sum())
        if run.status is not Status.OK:
            status = run.status
            ends.append(run.end)
            total = np.inf
            continue
        total += float((((run.x - x) / sigma)[seen] ** 2).sum())
    horizon = max(float(s.t[-1] - s.t[0]) for s in stretches)
    return Score(float(np.sqrt(total / max(count, 1))), horizon, status, min(ends, default=None))
