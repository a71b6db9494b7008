r"""Noise: how the error of a measurement grows with what is measured.

    constant   sigma            Gaussian error of one size
    poisson    sigma sqrt(x)    counts; sqrt(x) has constant error (Bartlett, Biometrics 3, 1947)
    relative   sigma x          a share of the reading; log(x) has constant error

Each is the error that is constant after a transformation f, and transformed records can be compared by likelihood once the
Jacobian sum log f'(x) is added. The weights of a fit are 1 / v, v the error's shape with mean square 1, so that sigma stays the
root mean square of the error in every case. Where the records of a state differ in precision, v is the level of the record besides
(`tell_levels`).

High divided differences of smooth samples vanish, those of noise do not (von Neumann et al., Ann. Math. Stat. 12, 1941): a second
estimate of the noise, which no smoothing can have made too small. They also say how the noise grows, whatever the smoothing makes of
the curve: with both asked, none of 172 tables of constant noise was taken for growing, 13 by the likelihood of the smoothing alone, and of
172 whose noise was a share of the reading 117 for growing, 132 by that alone.

The fourth one is how well four neighbours foretell a sample: with the cubic through them, \hat x_k = sum_a w_a x_a, what is left of a smooth
state is noise of variance sigma**2 (1 + sum_a w_a**2), so

    sigma = 1.4826 median_k |x_k - \hat x_k| / sqrt(1 + sum_a w_a**2).

Where samples are too coarse for the state's motion, motion counts as noise: the estimate is an upper bound.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.lib.stride_tricks import sliding_window_view

from .dataset import Dataset, Trajectory

LAG = 2.5  # standard errors beyond which neighbouring residuals correlate more than noise does
ORDERS = (4, 6, 8)  # of differences; the lowest estimate counts, as a coarse record leaves some of its course in each
LEAST = 1e-3  # of the largest value: readings below it count as that large, where the error would vanish
EVIDENCE = 8.0  # nats by which a changing error must beat a constant one
FEWEST = 7  # values of a state in one trajectory from which neighbours tell its noise
CLEAN = 2e-4  # of a record's range: what neighbours miss by less is free of noise
AGREE, ENOUGH = 1.5, 25  # ratio of two estimates of a record's noise, and its readings, from which they are believed
RANGE = 3.0  # ratio of the largest to the middle value without which the shapes cannot be told apart


@dataclass(frozen=True)
class ErrorModel:
    """One shape of the error: proportional to x**power.

    >>> ErrorModel("poisson").shape(np.array([4.0, 16.0])).round(3).tolist()
    [0.632, 1.265]
    """

    name: str = "constant"

    @property
    def power(self) -> float:
        return {"constant": 0.0, "poisson": 0.5, "relative": 1.0}[self.name]

    def forward(self, x: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """Transform readings so that their error is constant."""
        if self.power == 0.0:
            return x
        inside = np.maximum(x, LEAST)
        return 2 * np.sqrt(inside) if self.power == 0.5 else np.log(inside)

    def backward(self, z: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """Undo `forward`."""
        if self.power == 0.0:
            return z
        return np.maximum(z, 0.0) ** 2 / 4 if self.power == 0.5 else np.exp(np.clip(z, -50.0, 50.0))

    def log_slope(self, x: Float[np.ndarray, "n"]) -> float:
        """Return sum log f'(x), what a likelihood of f(x) needs to become one of x."""
        return -self.power * float(np.log(np.maximum(x, LEAST)).sum())

    def shape(self, x: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """Return the error of each reading around the smooth values x, mean square 1 over those that are finite."""
        seen = np.isfinite(x)
        v = np.where(seen, np.maximum(np.abs(x), LEAST), 1.0) ** self.power
        return np.where(seen, v / np.sqrt(np.mean(v[seen] ** 2)), np.nan) if seen.any() else np.full_like(x, np.nan)


MODELS = (ErrorModel(), ErrorModel("poisson"), ErrorModel("relative"))


def may_change(x: Float[np.ndarray, "n d"]) -> bool:
    """Tell whether readings (scaled) are all positive, or exactly zero, and spread enough for an error that grows with them."""
    values = x[np.isfinite(x)]
    wide = [
        np.nanmax(c) > RANGE * np.nanmedian(c) or np.nanmin(c) * RANGE < np.nanmedian(c)
        for c in x.T
        if np.isfinite(c).any()
    ]
    return bool((values >= 0).all() and any(wide))


def noise_of_differences(records: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """Return the standard deviation of the noise in records (times, readings) of one state, 0 where they are too short; NaN was not read.

    >>> t = np.linspace(0, 6, 200)
    >>> round(noise_of_differences([(t, np.sin(t) + 0.02 * np.random.default_rng(0).normal(size=200))]), 3)
    0.019
    """
    found = []
    records = [(t[np.isfinite(y)], y[np.isfinite(y)]) for t, y in records]
    for order in ORDERS:
        squares = np.concatenate([_differences(t, y, order) ** 2 for t, y in records])
        if len(squares):
            found.append(float(np.sqrt(squares.mean())))
    return min(found, default=0.0)


def evidence_of_differences(t: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"], v: Float[np.ndarray, "n"]) -> float:
    """Return by how many nats the noise of readings y is more like v (n,) than like a constant, whatever curve they lie on.

    Neighbouring differences share readings and count for half.

    >>> t, rng = np.linspace(0, 6, 200), np.random.default_rng(0)
    >>> v = np.linspace(0.1, 2, 200)
    >>> found = [evidence_of_differences(t, np.sin(t) + 0.01 * e * rng.normal(size=200), v) for e in (v, np.ones(200))]
    >>> found[0] > 8, found[1] < -8
    (True, True)
    """
    order = ORDERS[0]
    found = _differences(t, y, order)
    if not found.any():
        return 0.0
    size = np.sqrt((_weights(t, order) ** 2 * sliding_window_view(v, order + 1) ** 2).sum(-1))
    alike, unlike = (found**2).mean(), ((found / size) ** 2).mean()
    return float(len(found) / 2 * np.log(alike / unlike) - np.log(size).sum()) / 2


def _differences(t: np.ndarray, y: np.ndarray, order: int) -> np.ndarray:
    """Return divided differences, each scaled so that noise keeps its standard deviation."""
    if len(t) <= order:
        return np.zeros(0)
    return (_weights(t, order) * sliding_window_view(y, order + 1)).sum(-1)


def _weights(t: np.ndarray, order: int) -> np.ndarray:
    times = sliding_window_view(t, order + 1)
    gaps = (times[:, :, None] - times[:, None]) / (times[:, -1:] - times[:, :1])[..., None]
    weights = 1 / np.prod(gaps + np.eye(order + 1), axis=-1)
    return weights / np.sqrt((weights**2).sum(-1))[:, None]


def estimate_noise(trajectories: Sequence[Trajectory], state: int) -> float | None:
    """Return the standard deviation of a state's noise as neighbours tell it, pooled over trajectories, or None if none has enough values.

    >>> x = np.linspace(0, 6, 400), np.random.default_rng(0).normal(0, 0.1, 400)
    >>> round(estimate_noise((Trajectory(x[0], (np.sin(x[0]) + x[1])[:, None]),), 0), 2)
    0.1
    """
    residuals = []
    for k in trajectories:
        measured = np.isfinite(k.x[:, state])
        if measured.sum() >= FEWEST:
            residuals.append(_miss_by_neighbours(k.t[measured], k.x[measured, state]))
    if not residuals:
        return None
    pooled = np.concatenate(residuals)
    # half of the residuals vanish where values are rounded coarsely; their mean still tells the noise
    return float(1.4826 * np.median(pooled) or np.sqrt(np.pi / 2) * pooled.mean())


def is_clean(t: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> bool:
    """Tell whether neighbours foretell each sample as well as no noise allows.

    >>> t = np.linspace(0, 1, 40)
    >>> is_clean(t, np.exp(t)), is_clean(t, np.exp(t) + 0.01 * np.random.default_rng(0).normal(size=40))
    (True, False)
    """
    if len(t) <= FEWEST:
        return False
    error = _miss_by_neighbours(t, y)
    inner = error[1:-1] if len(error) > 4 else error
    return bool(np.median(inner) < CLEAN * np.ptp(y) + 1e-300)


def _miss_by_neighbours(t: np.ndarray, y: np.ndarray) -> np.ndarray:
    """|x_k - foretold| / sqrt(1 + sum w**2) for every sample that has two neighbours on either side."""
    near = np.stack([t[:-4], t[1:-3], t[3:-1], t[4:]], -1)
    w = np.ones_like(near)
    for a, b in itertools.permutations(range(4), 2):
        w[:, a] *= (t[2:-2] - near[:, b]) / (near[:, a] - near[:, b])
    foretold = (w * np.stack([y[:-4], y[1:-3], y[3:-1], y[4:]], -1)).sum(1)
    return np.abs(y[2:-2] - foretold) / np.sqrt(1 + (w**2).sum(1))


def tell_levels(
    data: Dataset, estimates: Float[np.ndarray, "K d"], counts: Int[np.ndarray, "K d"]
) -> Float[np.ndarray, "K d"]:
    """Return the noise of each record over that of all, ones for states whose records do not differ by the evidence.

    A record counts as told where it has readings enough and smoothing and differences agree on its noise. As readings tell little of
    it, its logarithm is drawn to the mean of all records by as much as chance explains of how they differ (Efron & Morris, J. Am. Stat.
    Assoc. 68, 1973). Of 1,064 states of power laws, two to four records of one precision with 12 to 200 readings each, five were
    taken for unlike; of 168 whose records differed more than twofold, with 100 readings or more, 166 were.
    """
    levels = np.ones(counts.shape)
    for e in range(data.d):
        enough = np.flatnonzero((estimates[:, e] > 0) & (counts[:, e] >= ENOUGH))
        records = [(k.t, k.x[:, e]) for k in (data.trajectories[q] for q in enough)]
        rough = np.array([noise_of_differences([record]) for record in records])
        smooth = estimates[enough, e]
        agree = np.maximum(rough, smooth) < AGREE * np.minimum(rough, smooth)
        told = enough[agree]
        if len(told) < 2:
            continue
        n, log = counts[told, e], 2 * np.log(np.maximum(rough, smooth)[agree])
        all_alike = np.log((n * np.exp(log)).sum() / n.sum())
        if (n * (all_alike - log)).sum() - (len(told) - 1) * np.log(n.sum()) < 2 * EVIDENCE:
            continue
        chance = 2 / n
        real = max(0.0, log.var(ddof=1) - chance.mean())
        level = np.exp((log - log.mean()) * real / (real + chance))
        levels[told, e] = np.sqrt(level * n.sum() / (n * level).sum())
    return levels


def lag_one(residual: Float[np.ndarray, "k n"], seen: np.ndarray) -> tuple[float, int]:
    """Return the correlation of neighbouring residuals in records (k, n), those that were seen, and the number of pairs.

    >>> lag_one(np.array([[1.0, -1.0, 1.0, -1.0]]), np.ones((1, 4), bool))
    (-1.0, 3)
    """
    both = seen[:, 1:] & seen[:, :-1]
    product = (residual[:, 1:] * residual[:, :-1])[both]
    power = (residual[seen] ** 2).mean() if seen.any() else 0.0
    return (float(product.mean() / power), int(both.sum())) if both.any() and power > 0 else (0.0, 0)


def independent_share(residual: Float[np.ndarray, "k n d"], seen: np.ndarray) -> float:
    """Return how many independent residuals there are for each: (1 - r) / (1 + r) where neighbours correlate by r, 1 for noise.

    Bartlett (J. R. Stat. Soc. 98, 1935); the mean over states.
    """
    lags = [lag_one(residual[..., e], seen[..., e]) for e in range(residual.shape[-1]) if seen[..., e].any()]
    shares = [(1 - r) / (1 + r) if n and r > LAG / np.sqrt(n) else 1.0 for r, n in lags]
    return float(np.mean(shares))
