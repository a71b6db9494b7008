r"""Residuals: whether what a law leaves over is noise, by two tests for each state.

    whiteness   Ljung-Box over all records, Q = sum_k n_k (n_k + 2) sum_h r_kh**2 / (n_k - h), chi**2 with K * LAGS degrees
                of freedom (Ljung & Box, Biometrika 65, 1978): neighbours that err alike say that something is not explained
    drift       the slope of the residuals over each record's time from 0 to 1, by least squares: a mean that wanders

The residuals are the measured states minus the printed law's simulation from each record's estimated start, in units of
the noise. A record that the law cannot be followed along (chaos, a blow-up) is left out and named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from ..work.status import Status

if TYPE_CHECKING:
    from .run import Run

LAGS = 5  # neighbours on each side that are compared
FEWEST = 4 * LAGS  # values of a record from which its neighbours are compared
EXACT = 0.5  # rms in units of the noise below which the data are exact and what is left is the computation's own error
ASTRAY = 10.0  # rms in units of the noise beyond which a record is not followed at all
DOUBTFUL = 0.01  # p-value below which a test speaks


@dataclass(frozen=True)
class Residual:
    """One record's residuals: its name, times t (n,) and r (n, d) in units of the noise, NaN where nothing was measured."""

    trajectory: str
    t: Float[np.ndarray, "n"]
    r: Float[np.ndarray, "n d"]


@dataclass(frozen=True)
class ResidualTest:
    """What the residuals of one state say: their rms and two p-values, None where records are too short or data exact."""

    state: str
    rms: float
    whiteness: float | None
    drift: float | None

    @property
    def doubts(self) -> tuple[str, ...]:
        """What speaks against pure noise.

        >>> ResidualTest("S", 1.0, 0.5, 0.0001).doubts
        ('the residuals of S drift over a record (p = 0.0001)',)
        """
        found = (
            (self.whiteness, f"neighbouring residuals of {self.state} err alike"),
            (self.drift, f"the residuals of {self.state} drift over a record"),
        )
        return tuple(f"{words} (p = {p:.1g})" for p, words in found if p is not None and p < DOUBTFUL)


def residuals_of(run: Run) -> tuple[tuple[Residual, ...], tuple[str, ...]]:
    """Return the residuals of what was measured in each record shown that the law follows, and the names of those that it does not."""
    found, astray = [], []
    seen = np.isin(run.states, run.measured)
    for k, curve in zip(run.shown.trajectories, run.simulate(most=len(run.shown)).values(), strict=True):
        sigma = run.sigma_of(k.name)
        whole = curve.status is Status.OK
        r = ((k.x - curve.x) / np.where(sigma > 0, sigma, 1.0))[:, seen] if whole else None
        if r is None or np.sqrt(np.nanmean(r**2)) > ASTRAY:
            astray.append(k.name)
        else:
            found.append(Residual(k.name, k.t, r))
    return tuple(found), tuple(astray)


def test_residuals(run: Run) -> tuple[ResidualTest, ...]:
    """Test the residuals of every state; an empty tuple where no record can be followed."""
    found, _ = residuals_of(run)
    if not found:
        return ()
    return tuple(_test(name, i, found) for i, name in enumerate(run.measured))


test_residuals.__test__ = False  # type: ignore[attr-defined]  # the field's word, not one of pytest's


def _test(name: str, i: int, found: tuple[Residual, ...]) -> ResidualTest:
    seen = [np.isfinite(k.r[:, i]) for k in found]
    values = [k.r[s, i] for k, s in zip(found, seen, strict=True)]
    times = [(k.t[s] - k.t[0]) / (k.t[-1] - k.t[0]) for k, s in zip(found, seen, strict=True)]
    rms = float(np.sqrt(np.mean(np.concatenate(values) ** 2)))
    if rms < EXACT:
        return ResidualTest(name, rms, None, None)
    return ResidualTest(name, rms, _test_whiteness(values), _test_drift(np.concatenate(times), np.concatenate(values)))


def _test_whiteness(values: list[np.ndarray]) -> float | None:
    from scipy.stats import chi2
    from statsmodels.stats.diagnostic import acorr_ljungbox

    long = [v for v in values if len(v) >= FEWEST and np.ptp(v) > 0]
    if not long:
        return None
    total = sum(float(acorr_ljungbox(v, lags=[LAGS])["lb_stat"].iloc[0]) for v in long)
    return float(chi2.sf(total, LAGS * len(long)))


def _test_drift(t: np.ndarray, r: np.ndarray) -> float | None:
    from statsmodels.api import OLS, add_constant

    if len(r) < FEWEST or not np.ptp(t) or not np.ptp(r):
        return None
    return float(OLS(r, add_constant(t)).fit().pvalues[1])
