"""Smoothed records: scaled data without gaps, smooth curves through them and their slopes, which every peer starts from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ..data.dataset import Dataset
from ..data.scaling import Scaling
from ..data.smoothing import Curve, denoise

NEAR = 1e-3  # of the distance between samples, over which a slope is taken


@dataclass(frozen=True, eq=False)
class Record:
    """One scaled record: times t (n,), readings x, smooth states and slopes (n, d); a gap is filled with the smooth state."""

    t: Float[np.ndarray, "n"]
    x: Float[np.ndarray, "n d"]
    smooth: Float[np.ndarray, "n d"]
    slope: Float[np.ndarray, "n d"]


@dataclass(frozen=True, eq=False)
class Smoothed:
    """Scaled records, their spread (d,), which states never change sign, which of these come near zero, whether noise is negligible."""

    scaling: Scaling
    records: tuple[Record, ...]
    spread: Float[np.ndarray, "d"]
    positive: np.ndarray
    near_zero: np.ndarray
    clean: bool

    @classmethod
    def of(cls, data: Dataset) -> Smoothed:
        """Scale and smooth `data`."""
        scaling = Scaling.of(data)
        scaled = scaling.apply(data)
        found = denoise(scaled)
        records = []
        for k, trajectory in enumerate(scaled.trajectories):
            if len(trajectory) < 2:
                continue
            smooth = found.at(k, trajectory.t)
            slope = np.stack([slope_of(curve, trajectory.t) for curve in found.curves[k]], -1)
            x = np.where(np.isfinite(trajectory.x), trajectory.x, smooth)
            records.append(Record(trajectory.t, x, smooth, slope))
        return cls(scaling, tuple(records), found.spread, found.positive, found.near_zero, found.clean)

    @property
    def d(self) -> int:
        """Number of states."""
        return len(self.spread)

    def stacked(self, name: str) -> Float[np.ndarray, "rows d"]:
        """Return `x`, `smooth` or `slope` of all records, one under the other."""
        return np.concatenate([getattr(r, name) for r in self.records])


def slope_of(curve: Curve, t: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Return the slope of a curve at times t, one-sided at both ends.

    >>> slope_of(lambda t: t**2, np.array([0.0, 1.0, 2.0])).round(3).tolist()
    [0.001, 2.0, 3.999]
    """
    h = NEAR * float(np.diff(t).min(initial=np.inf)) if len(t) > 1 else 1.0
    a, b = np.maximum(t - h, t[0]), np.minimum(t + h, t[-1])
    return (curve(b) - curve(a)) / np.maximum(b - a, 1e-300)
