r"""Linear invariants: sums c . x that the data conserve.

A sum counts as conserved where its smoothed course moves less than the noise allows. Small whole-number weights are
tried first, in the user's units (S + I + R); what they leave of the conserved space is taken from the singular
vectors of the centred states, so that a change of units hides nothing.
"""

from __future__ import annotations

import itertools

import numpy as np

from .dataset import Dataset
from .inputs import part_inputs
from .scaling import FLOOR
from .smoothing import Denoised

LARGEST_DIMENSION = 6
WORST = 1.6  # root mean square of the raw sum, in units of its noise


def find_invariants(data: Dataset, denoised: Denoised, factors: np.ndarray) -> list[np.ndarray]:
    """Return weights c (d,), in the user's units, of the independent sums that scaled `data` conserve."""
    d = data.d - data.driven
    if data.driven:
        return [np.r_[c, np.zeros(data.driven)] for c in find_invariants(part_inputs(data), denoised, factors[:d])]
    if not 2 <= d <= LARGEST_DIMENSION:
        return []
    raw, smooth = _centred(data, denoised, factors)
    noise = np.maximum(denoised.sigma[:d], FLOOR) * factors
    spread = denoised.spread[:d] * factors
    found: list[np.ndarray] = []
    for c in sorted(_whole_weights(d), key=lambda c: (np.abs(c).sum(), np.abs(c).max())):
        if _independent(found, c) and _is_conserved(c, raw, smooth, noise, spread):
            found.append(c)
    _, _, directions = np.linalg.svd(
        smooth / spread, full_matrices=len(smooth) < d
    )  # all d of them, no more of the samples
    for direction in directions[::-1]:
        c = direction / spread
        c = _without(c, found)
        if np.abs(c * spread).max() < 1e-6:
            continue
        c = c / np.abs(c).max()
        c[np.abs(c * spread) < 0.02 * np.abs(c * spread).max()] = 0.0
        if (c != 0).sum() > 1 and _independent(found, c) and _is_conserved(c, raw, smooth, noise, spread):
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


def _whole_weights(d: int) -> list[np.ndarray]:
    weights = [np.array(c, float) for c in itertools.product((0, 1, -1, 2, -2), repeat=d)] if d <= 5 else []
    return [
        c
        for c in weights
        if (c != 0).sum() >= 2 and c[np.flatnonzero(c)[0]] > 0 and (np.abs(c).max() < 2 or (np.abs(c) == 1).any())
    ]


def _is_conserved(c: np.ndarray, raw: np.ndarray, smooth: np.ndarray, noise: np.ndarray, spread: np.ndarray) -> bool:
    expected, scale = ((c * noise) ** 2).sum(), ((c * spread) ** 2).sum()
    quiet = ((smooth @ c) ** 2).mean() < 0.5 * expected + 1e-6 * scale
    return bool(quiet and ((raw @ c) ** 2).mean() < WORST**2 * max(expected, 1e-6 * scale) + 1e-7 * scale)


def _independent(found: list[np.ndarray], c: np.ndarray) -> bool:
    return np.linalg.matrix_rank(np.array([*found, c])) == len(found) + 1


def _without(c: np.ndarray, found: list[np.ndarray]) -> np.ndarray:
    if not found:
        return c
    q, _ = np.linalg.qr(np.array(found).T)
    return c - q @ (q.T @ c)
