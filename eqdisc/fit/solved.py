"""Solved: one law fitted to the trajectories, what it costs, and how its numbers vary together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..law.law import Law, structure_key
from ..law.ties import Tie
from .collocation import Fit

NORMAL = 1.6448536269514722  # half-width of the 90 % interval in standard errors


@dataclass(frozen=True, eq=False)
class Solved:
    """One law fitted to the trajectories, with its description length."""

    fit: Fit  # one lane
    law: Law
    cost: float
    ties: tuple[Tie, ...] = ()
    tied: bool = False  # whether the fit holds to the ties exactly

    @property
    def data_cost(self) -> float:
        """The part of the description length that the residuals make."""
        return float(self.fit.nll[0])

    @property
    def key(self) -> tuple:
        return structure_key(self.law)

    @property
    def size(self) -> int:
        """Numbers that were fitted or chosen: coefficients, tied ones once, and exponents other than 0 and 1."""
        w, a, _ = self.law
        used = (a != 0).any(1)
        return int((a != 0).sum() + ((w[used] != 0) & (w[used] != 1)).sum()) - len(self.ties)


def covariance_of(fit: Fit, lane: int = 0) -> tuple[np.ndarray, list[tuple[str, int, int]]]:
    """Return the covariance of a lane's numbers and their names ("exponent" | "coefficient", term, state)."""
    index = fit.index.select(slice(lane, lane + 1))
    on = index.valid[0].cpu().numpy()
    h = np.nan_to_num(fit.hessian[lane].cpu().numpy()[np.ix_(on, on)], posinf=1e200, neginf=-1e200)
    size = np.sqrt(np.maximum(np.diag(h), 0)) + 1e-300
    unit = np.nan_to_num(h / size[:, None] / size, posinf=0.0, neginf=0.0) + 1e-10 * np.eye(len(h))
    with np.errstate(over="ignore"):  # a number that nothing depends on has no bound
        c = np.linalg.pinv(unit, hermitian=True) / size[:, None] / size
    kinds = zip(index.is_exponent[0], index.term[0], index.state[0], on, strict=True)
    return c, [("exponent" if k else "coefficient", int(j), int(i)) for k, j, i, v in kinds if v]
