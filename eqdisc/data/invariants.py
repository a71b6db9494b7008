r"""Linear invariants: sums c . x that rest, c != 0 for two states or more.

In a law, A[j, e] what its j-th term makes of state e, a sum rests where A c = 0: c is in the null space of the table. In data a sum rests
where it moves less than the noise allows, and there the space is not exact: small whole weights come first, in the user's units (S + I + R);
what they leave of it is taken from the singular vectors of the centred states, so that a change of units hides nothing. Of sums that rest,
those are kept that do not follow from the ones before them.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from .dataset import Dataset
from .inputs import part_inputs
from .scaling import FLOOR
from .sums import WHOLE, Weights, choose_independent, is_independent, whole_sums, write_sum

if TYPE_CHECKING:
    from .smoothing import Denoised

FEW, LARGEST_DIMENSION = 5, 6  # states of which all small weights are tried, or singular vectors
WORST = 1.6  # root mean square of the raw sum, in units of its noise
QUIET = 0.1  # variance of a constant sum over that of its quietest member, at most


def find_invariants(data: Dataset, denoised: Denoised, factors: np.ndarray) -> list[Weights]:
    """Return weights c (d,), in the user's units, of the independent sums that scaled `data` conserve."""
    d = data.d - data.driven
    found = _find(part_inputs(data), denoised, factors[:d]) if 2 <= d <= LARGEST_DIMENSION else []
    return [np.r_[c, np.zeros(data.driven)] for c in found]


def _find(data: Dataset, denoised: Denoised, factors: np.ndarray) -> list[Weights]:
    d, (raw, smooth) = data.d, _centred(data, denoised, factors)
    noise, spread = np.maximum(denoised.sigma[:d], FLOOR) * factors, denoised.spread[:d] * factors
    rests = partial(_is_conserved, raw=raw, smooth=smooth, noise=noise, spread=spread)
    whole = whole_sums(d) if d <= FEW else []
    found = choose_independent(sorted(whole, key=lambda c: (np.abs(c).sum(), np.abs(c).max())), rests)
    # all d singular vectors, but no more of the samples
    _, _, directions = np.linalg.svd(smooth / spread, full_matrices=len(smooth) < d)
    for direction in directions[::-1]:
        c = _remainder(direction, found, spread)
        if (c != 0).sum() > 1 and is_independent(found, c) and rests(c):
            found.append(c / c[np.flatnonzero(c)[0]])
    return found


def _centred(data: Dataset, denoised: Denoised, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    raw, smooth = [], []
    for k, trajectory in enumerate(data.trajectories):
        x = trajectory.x * factors
        curve = np.stack([c(trajectory.t) for c in denoised.curves[k][: data.d]], -1) * factors
        whole = np.isfinite(x).all(1)
        if whole.sum() > 2:
            raw.append(x[whole] - x[whole].mean(0))
            smooth.append(curve - curve.mean(0))
    if not raw:
        return np.zeros((1, data.d)), np.ones((1, data.d))
    return np.concatenate(raw), np.concatenate(smooth)


def _is_conserved(c: Weights, raw: np.ndarray, smooth: np.ndarray, noise: np.ndarray, spread: np.ndarray) -> bool:
    expected, scale = ((c * noise) ** 2).sum(), ((c * spread) ** 2).sum()
    quiet = ((smooth @ c) ** 2).mean() < 0.5 * expected + 1e-6 * scale
    return bool(quiet and ((raw @ c) ** 2).mean() < WORST**2 * max(expected, 1e-6 * scale) + 1e-7 * scale)


def _remainder(direction: np.ndarray, found: list[Weights], spread: np.ndarray) -> Weights:
    """Return what sums that were found leave of a direction of the scaled states, the largest weight 1, small ones 0."""
    c = direction / spread
    if found:
        q, _ = np.linalg.qr(np.array(found).T)
        c = c - q @ (q.T @ c)
    if np.abs(c * spread).max() < 1e-6:
        return np.zeros_like(c)
    c = c / np.abs(c).max()
    c[np.abs(c * spread) < 0.02 * np.abs(c * spread).max()] = 0.0
    return c


# Of the table as it is, for a first look


def find_sums(data: Dataset, noise: Weights) -> tuple[str, ...]:
    """Return independent sums of states with small whole weights that stay constant within `noise`, simplest first.

    A sum is constant when it moves, in every trajectory about its own mean, no more than its noise explains, and far
    less than each of its members does.
    """
    moves = [k.x[np.isfinite(k.x).all(1)] for k in data.trajectories]
    moves = [x - x.mean(0) for x in moves if len(x) > 2]
    if data.d < 2 or sum(len(x) - 1 for x in moves) < data.d * 3:
        return ()
    x = np.concatenate(moves)
    size = np.maximum(np.abs(x).max(0), 1e-300)
    covariance = (x / size).T @ (x / size) / len(x)

    def rests(c: Weights) -> bool:
        weights = c * size
        alone = (weights**2 * np.diag(covariance))[c != 0]
        allowed = 1.5**2 * ((c * noise) ** 2).sum() + 1e-10 * alone.max()
        return bool(weights @ covariance @ weights <= min(allowed, QUIET * alone.min()))

    sums = sorted(_few_sums(data.d), key=lambda c: (np.abs(c).sum(), (c < 0).sum()))
    return tuple(write_sum(c, data.states) for c in choose_independent(sums, rests))


def _few_sums(d: int) -> list[Weights]:
    """Sums worth trying: weights up to 2 for five states, 0 or 1 for ten, else pairs and the total."""
    if d <= 10:
        return whole_sums(d, WHOLE if d <= FEW else (0, 1))
    unit = np.eye(d)
    pairs = [unit[a] + sign * unit[b] for a, b in itertools.combinations(range(d), 2) for sign in (1, -1)]
    return [*pairs, np.ones(d)]
