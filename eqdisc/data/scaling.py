r"""Scaling: every state to order one, the longest trajectory to length ten.

With x = s * x' (a factor for each state) and t = T * t', a power-law system

    dx_e/dt = sum_j A[j, e] prod_i x_i**W[j, i]

keeps its exponents and becomes dx'_e/dt' = sum_j A'[j, e] prod_i x'_i**W[j, i] with

    A'[j, e] = A[j, e] * T / s_e * prod_i s_i**W[j, i],

so undoing the scaling is algebra, not a fit. A term that saturates, x**w / (K + x**u), keeps w and u as well: its effective
exponents in the formula are w - u, and K = K' prod_i s_i**u_i (`units.saturation`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from ..work.errors import DataError
from .dataset import Dataset

SPAN = 10.0  # scaled length of the longest trajectory
FLOOR = 2e-5  # smallest sigma in scaled units: above the integration error, so that it cannot buy terms
EXACT = 2e-8  # the same in the last contest on exact data, where steps are shorter


@dataclass(frozen=True, eq=False)
class Scaling:
    """Factors s (d,) for states and T for time, all positive.

    >>> scaling = Scaling(np.array([100.0]), 20.0)
    >>> scaling.undo(np.array([[0.5]]), np.array([[2.0]]))  # 2 sqrt(x') in t'
    array([[1.]])
    """

    states: Float[np.ndarray, "d"]
    time: float

    def __post_init__(self) -> None:
        if not (np.all(np.isfinite(self.states)) and np.all(self.states > 0) and self.time > 0):
            raise DataError("a scaling factor is zero or not finite; leave out the state that is zero throughout.")

    @classmethod
    def of(cls, data: Dataset) -> Scaling:
        """Return the scaling that brings `data` to order one."""
        peak = np.nanmax([np.nanmax(np.abs(k.x), axis=0, initial=0.0) for k in data.trajectories], axis=0)
        peak = np.where(np.arange(data.d) < data.d - data.grouped, peak, 1.0)
        return cls(peak, max(k.t[-1] - k.t[0] for k in data.trajectories) / SPAN)

    def apply(self, data: Dataset) -> Dataset:
        """Return `data` in scaled units, each trajectory starting at time 0; inputs beside the states stay as they are."""
        scaled = tuple(
            replace(
                k,
                t=(k.t - k.t[0]) / self.time,
                x=k.x / self.states,
                sigma=k.sigma / self.states if k.sigma.size else k.sigma,
            )
            for k in data.trajectories
        )
        return replace(data, trajectories=scaled)

    def undo(self, powers: Float[np.ndarray, "m d"], coefficients: Float[np.ndarray, "m d"]) -> np.ndarray:
        """Return the coefficients (m, d) in the user's units of terms of those powers (`Terms.effective`)."""
        size = np.exp(-(powers @ np.log(self.states)))
        return coefficients * size[:, None] * self.states / self.time
