r"""Ensembles: thousands of records simulated side by side, and the start of each.

    k_1 = f(x), k_2 = f(x + h k_1 / 2), k_3 = f(x + h k_2 / 2), k_4 = f(x + h k_3),   x <- x + h (k_1 + 2 k_2 + 2 k_3 + k_4) / 6

All records take their steps together, each between its own samples, with steps so short that halving them moves no reading by a tenth of
its noise (Kutta 1901). The start of a record follows from its own readings by Gauss-Newton,

    x0 <- x0 + (J' J)^-1 J' r,   r = (x - x_simulated) / sigma,   J = d(x_simulated / sigma) / dx0,

J from starts that are moved a little. A record that the law cannot follow is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from ..data.dataset import Dataset
from .equations import Equations

TOGETHER = 500  # records whose states stay in the processor's cache
HALVED = 0.1  # of the noise, by which halving the steps may move a reading
TRIED = 50  # records on which that is tried
SHORTEST = 64  # steps between two samples at most
ROUNDS = 8  # of Gauss-Newton
NUDGE = 1e-6  # of a state's size, by which starts are moved
SETTLED = 1e-3  # of the squared error: a round that gains less is the last

Field = Callable[[float, np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Starts (N, d) of all records and their error, rms over sigma-scaled residuals, over all readings of those that were followed."""

    starts: Float[np.ndarray, "N d"]
    error: float
    lost: tuple[int, ...]


def simulate_ensemble(
    law: Equations, x0: Float[np.ndarray, "N d"], t: Float[np.ndarray, "N n"], steps: int
) -> Float[np.ndarray, "N n d"]:
    """Return the states at the times of each record, in so many steps between two of them; NaN behind the end of a solution.

    >>> decay = Equations.parse({"x": "-x"}, ("x",))
    >>> simulate_ensemble(decay, np.array([[1.0], [2.0]]), np.array([[0.0, 1.0], [0.0, 2.0]]), 50)[:, -1, 0].round(6)
    array([0.367879, 0.270671])
    """
    with np.errstate(all="ignore"):
        return _follow(law.function(), x0, t, steps)


def _follow(f: Field, x: np.ndarray, t: np.ndarray, steps: int) -> np.ndarray:
    path, rate = [x], partial(f, 0.0)
    for gap in np.diff(t, axis=1).T[..., None] / steps:
        for _ in range(steps):
            x = step(rate, x, gap)
        path.append(x)
    return np.stack(path, 1)


def step(f: Callable[[Any], Any], x: Any, h: Any) -> Any:
    """Take one step of Kutta's rule, in NumPy or torch.

    >>> step(lambda x: -x, 1.0, 0.1)  # exp(-0.1) is 0.9048374
    0.9048375
    """
    k1 = f(x)
    k2 = f(x + h / 2 * k1)
    k3 = f(x + h / 2 * k2)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + f(x + h * k3))


def fit_ensemble(law: Equations, data: Dataset, sigma: Float[np.ndarray, "d"]) -> Ensemble:
    """Find the start of every record under a law without inputs, and the error over all readings; `sigma` is their noise."""
    f = law.function()
    starts, total, count, lost = np.zeros((len(data), data.d)), 0.0, 0, []
    steps = _choose_steps(f, data, sigma)
    for first, t, x in _parts(data):
        x0, left = _fit_starts(f, t, x, sigma, steps)
        followed = np.isfinite(left)
        starts[first : first + len(t)] = x0
        total += float(left[followed].sum())
        count += int(np.isfinite(x[followed]).sum())
        lost += (first + np.flatnonzero(~followed)).tolist()
    return Ensemble(starts, float(np.sqrt(total / max(count, 1))), tuple(lost))


def _parts(data: Dataset) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield the number of the first record, times (N, n) and readings (N, n, d), the shorter ones filled up with nothing."""
    for first in range(0, len(data), TOGETHER):
        records = data.trajectories[first : first + TOGETHER]
        n = max(len(k.t) for k in records)
        t = np.stack([np.r_[k.t, np.full(n - len(k.t), k.t[-1])] for k in records])
        x = np.stack([np.vstack([k.x, np.full((n - len(k.t), data.d), np.nan)]) for k in records])
        yield first, t, x


def _guess(x: np.ndarray) -> np.ndarray:
    """Return the first reading of each state of each record."""
    first = np.isfinite(x).argmax(1)
    return np.nan_to_num(np.take_along_axis(x, first[:, None], 1)[:, 0])


def _choose_steps(f: Field, data: Dataset, sigma: np.ndarray) -> int:
    """Return a number of steps between samples, from which halving makes no difference to the readings."""
    chosen = np.unique(np.linspace(0, len(data) - 1, TRIED).astype(int))
    _, t, x = next(_parts(data.subset(chosen)))
    steps, x0 = 1, _guess(x)
    with np.errstate(all="ignore"):
        path = _follow(f, x0, t, steps)
        while steps < SHORTEST:
            finer = _follow(f, x0, t, 2 * steps)
            moved = np.abs(finer - path) / sigma
            if np.nanmax(moved, initial=0.0) < HALVED and np.isfinite(path).all():
                break
            steps, path = 2 * steps, finer
    return steps


def _fit_starts(
    f: Field, t: np.ndarray, x: np.ndarray, sigma: np.ndarray, steps: int
) -> tuple[Float[np.ndarray, "N d"], Float[np.ndarray, "N"]]:
    """Return starts and sums of squared residuals, infinite where the law leaves the numbers."""
    (records, _, d), seen = x.shape, np.isfinite(x)
    size = np.nanmax(np.abs(x), axis=(0, 1)) + 1e-300

    def residuals(x0: np.ndarray) -> np.ndarray:
        path = _follow(f, x0.reshape(-1, d), np.tile(t, (x0.size // d // records, 1)), steps)
        return np.where(seen, (x - path.reshape(-1, *x.shape)) / sigma, 0.0).reshape(-1, records, x[0].size)

    with np.errstate(all="ignore"):
        x0, best, step = _guess(x), np.full(records, np.inf), np.zeros((records, d))
        for _ in range(ROUNDS):
            moved = (x0 + step)[None] + np.vstack([np.zeros(d), np.diag(NUDGE * size)])[:, None]
            r = residuals(moved)
            left = np.where(np.isfinite(r[0]).all(1), (r[0] ** 2).sum(1), np.inf)
            better = left < best
            gain = np.where(better & np.isfinite(best), best - left, np.where(better, np.inf, 0.0))
            x0, best = np.where(better[:, None], x0 + step, x0), np.where(better, left, best)
            slope = np.nan_to_num((r[0] - r[1:]) / (NUDGE * size)[:, None, None])  # of the path, in sigma
            normal = np.einsum("ark,brk->rab", slope, slope)
            normal += 1e-12 * np.eye(d) * (np.trace(normal, axis1=1, axis2=2)[:, None, None] + 1e-300)
            fresh = np.linalg.solve(normal, np.einsum("ark,rk->ra", slope, np.nan_to_num(r[0]))[..., None])[..., 0]
            step = np.where(better[:, None], fresh, step / 4)  # a step that made it worse is shortened
            if not (gain > SETTLED * best).any():
                break
    return x0, best
