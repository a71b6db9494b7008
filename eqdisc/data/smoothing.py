r"""Smoothing: splines whose stiffness is chosen by restricted likelihood.

A natural cubic smoothing spline with knots at the samples is a linear smoother with eigenbasis U and eigenvalues mu
(Demmler & Reinsch, Numer. Math. 24, 1975): the coefficient of the k-th basis curve shrinks by 1 / (1 + lambda
mu_k). The spline is also the mean of a Gaussian process, so lambda and sigma follow from the restricted likelihood
(REML; Wahba, Spline Models for Observational Data, 1990, section 4.8), which profiles to

    (n - 2) log sum_k w_k z_k**2  -  sum_k log w_k,      z = U^T y,  w_k = lambda mu_k / (1 + lambda mu_k).

REML is calibrated where cross-validation is not, but one lambda cannot serve a record that starts sharply and then
rests: a second pass smooths in the time tau = integral of (v + 0.15 mean v), v the common speed of all states, and
each state keeps the better of the two.

Nor can one spectrum: the spline expects the more of a curve the longer its waves, power mu**-1, while an oscillation has little
below its own frequency and a smooth curve less above it. On records of either kind REML went through the noise: at 1 % it told less than
four fifths of the noise of 38 in 266 states of known systems. So the power of a curve falls as (mu_0 + mu)**-p, as of a process of Matern's
kind (Lindgren, Rue & Lindstrom, J. R. Stat. Soc. B 73, 2011), flat up to the corner mu_0 and steeper the smoother it is;
w_k = lambda (mu_0 + mu_k)**p / (1 + lambda (mu_0 + mu_k)**p), the eigenbasis stays, and p and mu_0 follow from the same likelihood. Then
it is two states of 266, and the curves are nearer to the truth, by a fifth where they oscillate. No corner lies beyond a fifth of the
basis: a record that fills all of it is sampled too coarsely for its noise to be told.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline, PchipInterpolator, make_interp_spline

from ..work.config import read_noise
from ..work.journal import Form, Journal
from .dataset import Dataset
from .inputs import curve_of, part_inputs
from .noise import EVIDENCE, LEAST, MODELS, ErrorModel, evidence_of_differences, is_clean, may_change, tell_levels

Curve = Callable[[np.ndarray], np.ndarray]
Record = tuple[np.ndarray, np.ndarray, np.ndarray]  # times, readings and their errors, each up to a factor

CHUNK = 300  # samples smoothed at once; longer records go in overlapping chunks
DEGREES = (3, 5, 7)  # of the splines through exact data
FEWEST = 8  # samples that a smoothing spline needs; fewer are interpolated
POWERS = (1, 2, 3)  # p, the fall of a curve's power; 1 is the cubic spline
CORNERS = (0.0, 0.02, 0.05, 0.1, 0.2)  # mu_0, the eigenvalue at this share of the basis; 0 is the spline, flat nowhere
UNLIKE = 2.0  # by which -2 log likelihood must fall for each of the two that is not the spline's
STIFFNESS = np.linspace(-8.0, 14.0, 56)  # log lambda, for the middle eigenvalue 1

_SMOOTHED: Form[tuple[np.ndarray, float, float]] = Form(
    lambda found: {"smooth": found[0], "told": np.array(found[1:])},
    lambda packed: (packed["smooth"], *map(float, packed["told"])),  # type: ignore[arg-type, return-value]
)


@dataclass(frozen=True, eq=False)
class Denoised:
    """Smooth curves through scaled data, and what they say about noise and sign.

    `sigma` (d,) estimated noise, `spread` (d,) standard deviation of the data, `positive` (d,) states that carry real exponents,
    `near_zero` (d,) positive states that come near zero, `clean` whether the noise is negligible, `error` how it grows with a state,
    `levels` (K, d) the noise of each record over `sigma`.
    """

    curves: tuple[tuple[Curve, ...], ...]
    sigma: Float[np.ndarray, "d"]
    spread: Float[np.ndarray, "d"]
    positive: np.ndarray
    near_zero: np.ndarray
    clean: bool
    error: ErrorModel
    levels: Float[np.ndarray, "K d"]

    @property
    def changing(self) -> bool:
        """Whether some readings are more precise than others."""
        return self.error.power != 0.0 or bool((self.levels != 1.0).any())

    def sigma_of(self, trajectory: int) -> Float[np.ndarray, "d"]:
        """Return the noise (d,) of one trajectory."""
        return self.sigma * self.levels[trajectory]

    def weights(self, data: Dataset) -> list[Float[np.ndarray, "n d"]]:
        """Return the weight 1 / v of every reading of every trajectory, v the error's shape with mean square 1 a state."""
        smooth = [self.at(k, trajectory.t) for k, trajectory in enumerate(data.trajectories)]
        seen = [np.where(np.isfinite(k.x), s, np.nan) for k, s in zip(data.trajectories, smooth, strict=True)]
        v = np.stack([self.error.shape(column) for column in np.concatenate(seen).T], -1)
        v *= np.repeat(self.levels, data.sizes, axis=0)
        v = np.where(np.isfinite(known := _known_errors(data)[0]), known, v)
        return [np.nan_to_num(w) for w in np.split(1 / v, np.cumsum(data.sizes)[:-1])]

    def at(self, trajectory: int, t: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n d"]:
        """Return the smooth states (n, d) of one trajectory at times t, positive states kept above zero."""
        x = np.stack([curve(t) for curve in self.curves[trajectory]], -1)
        return np.where(self.positive, np.maximum(x, np.maximum(1e-5, 0.3 * self.sigma_of(trajectory))), x)


def denoise(data: Dataset, noise: str = "auto", journal: Journal | None = None) -> Denoised:
    """Smooth every state of every trajectory of a scaled dataset, each from its own measured samples.

    `noise` is constant, poisson, relative, or auto: the constant one unless another is eight nats likelier. A known size (0.02 of each
    state's standard deviation, relative:0.05 of each reading, or the standard errors in the data) takes the place of the estimate.
    Each smoothing is asked of the journal.
    """
    if data.driven:
        parted = part_inputs(data)
        return _with_inputs(denoise(parted, noise, journal), parted)
    journal, (word, size) = journal or Journal(), read_noise(noise)
    asked = word != "auto" or data.weighed
    error, (curves, estimates, _) = _choose_error(data, word, asked, journal)
    x, spread, sigma = data.stacked(), np.nanstd(data.stacked(), axis=0), _pool_noise(data, estimates, error, size)
    low = _lowest(data, curves)
    relative = float(np.max(np.minimum(sigma / np.maximum(spread, 1e-300), 0.3)))
    positive = _judge_positive(np.nanmin(x, axis=0), low, np.maximum(sigma, relative * spread))
    return Denoised(
        curves=tuple(curves),
        sigma=np.maximum(sigma, 1e-6),
        spread=np.maximum(spread, 1e-12),
        positive=positive,
        near_zero=positive & (low < 0.02),
        clean=relative < 1e-3,
        error=error,
        levels=np.ones(estimates.shape) if asked else tell_levels(data, estimates, data.counts),
    )


def _lowest(data: Dataset, curves: list[tuple[Curve, ...]]) -> Float[np.ndarray, "d"]:
    return np.min([[c(k.t).min() for c in own] for own, k in zip(curves, data.trajectories, strict=True)], axis=0)


def _pool_noise(data: Dataset, estimates: np.ndarray, error: ErrorModel, size: float | None) -> Float[np.ndarray, "d"]:
    """Return the noise of each state: as the data have it, else of the size that was given, else that of all records together."""
    x, known, counts = data.stacked(), _known_errors(data)[1], data.counts
    sigma = np.sqrt((estimates**2 * counts).sum(0) / np.maximum(counts.sum(0), 1))
    if size is not None:
        sigma = size * (np.nanstd(x, axis=0) if error.power == 0.0 else np.sqrt(np.nanmean(x**2, axis=0)))
    return np.where(np.isfinite(known), known, sigma)


def _known_errors(data: Dataset) -> tuple[Float[np.ndarray, "rows d"], Float[np.ndarray, "d"]]:
    """Return the standard errors of all values, as shares of their root mean square, and that (d,); NaN where unknown."""
    sigma = np.where(np.isfinite(data.stacked()), data.errors, np.nan)
    size = np.array([np.sqrt(np.mean(s[np.isfinite(s)] ** 2)) if np.isfinite(s).any() else np.nan for s in sigma.T])
    return sigma / size, size


def _with_inputs(denoised: Denoised, data: Dataset) -> Denoised:
    """Append the inputs, which carry no noise, as columns whose curves are known."""
    curves: list[tuple[Curve, ...]] = []
    for k, own in enumerate(denoised.curves):
        known = curve_of(data, k)
        assert known is not None
        curves.append((*own, *(partial(_column, known, i) for i in range(len(data.inputs)))))
    u = np.concatenate([k.u for k in data.trajectories])
    low, q = u.min(0), len(data.inputs)
    return replace(
        denoised,
        curves=tuple(curves),
        sigma=np.r_[denoised.sigma, np.full(q, 1e-6)],
        spread=np.r_[denoised.spread, np.maximum(u.std(0), 1e-12)],
        positive=np.r_[denoised.positive, low >= 0],
        near_zero=np.r_[denoised.near_zero, (low >= 0) & (low < 0.02)],
        levels=np.column_stack([denoised.levels, np.ones((len(denoised.levels), q))]),
    )


def _column(curve: Curve, i: int, t: np.ndarray) -> np.ndarray:
    return curve(t)[:, i]


Smooth = tuple[list[tuple[Curve, ...]], np.ndarray, float]  # curves of every record, noise (K, d), -2 log likelihood


def _choose_error(data: Dataset, word: str, asked: bool, journal: Journal) -> tuple[ErrorModel, Smooth]:
    """Return the shape of the error that was asked for or that the data tell, the constant one in doubt, and what smoothing with it gives."""
    error = next((m for m in MODELS if m.name == word), MODELS[0])
    smooth = _denoise_all(data, error, journal)
    if asked or not may_change(data.stacked()) or not (smooth[1] > 1e-3).any():
        return error, smooth
    least = smooth[2] - 2 * EVIDENCE  # what another shape has to beat
    for model in MODELS[1:]:
        found = _denoise_all(data, model, journal)
        if found[2] < least and _evidence(data, found[0], model) > EVIDENCE:
            error, smooth, least = model, found, found[2]
    return error, smooth


def _evidence(data: Dataset, curves: list, error: ErrorModel) -> float:
    """Return by how many nats the noise of all records is more like this shape of the error than like a constant one.

    Restricted likelihoods alone also compare how smooth a curve is in either shape's transformation.
    """
    gain = 0.0
    for trajectory, own in zip(data.trajectories, curves, strict=True):
        for x, curve in zip(trajectory.x.T, own, strict=True):
            t, y = (k[np.isfinite(x)] for k in (trajectory.t, x))
            if len(t) >= FEWEST and not is_clean(t, y):
                gain += evidence_of_differences(t, y, error.shape(curve(t)))
    return gain


def _denoise_all(data: Dataset, error: ErrorModel, journal: Journal) -> Smooth:
    """Smooth every trajectory; the likelihood is that of this shape of the error."""
    parts = np.split(np.nan_to_num(_known_errors(data)[0], nan=1.0), np.cumsum(data.sizes)[:-1])
    found = [_denoise_trajectory(k.t, k.x, v, error, journal) for k, v in zip(data.trajectories, parts, strict=True)]
    return [f[0] for f in found], np.array([f[1] for f in found]), sum(f[2] for f in found)


def _judge_positive(lowest: np.ndarray, smooth_lowest: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """Tell states that never change sign; forgiving, since one state misjudged loses every fractional exponent."""
    return (lowest > -4.5 * tolerance - 1e-9) & (smooth_lowest > -6 * tolerance - 1e-3) & (lowest > -0.25)


def _denoise_trajectory(
    t: np.ndarray, x: np.ndarray, v: np.ndarray, error: ErrorModel, journal: Journal
) -> tuple[tuple[Curve, ...], np.ndarray, float]:
    """Smooth the states of one record; what is free of noise, or has too few samples, is interpolated."""
    records = [(t[m], y[m], w[m]) for y, w, m in zip(x.T, v.T, np.isfinite(x).T, strict=True)]
    clean = [is_clean(tau, y) for tau, y, _ in records]
    curves = [_interpolate(tau, y, exact) for (tau, y, _), exact in zip(records, clean, strict=True)]
    noisy = {i: r for i, r in enumerate(records) if len(r[0]) >= FEWEST and not clean[i]}
    return _smooth_noisy(t, curves, noisy, error, journal)


def _smooth_noisy(
    t: np.ndarray, curves: list[Curve], noisy: dict[int, Record], error: ErrorModel, journal: Journal
) -> tuple[tuple[Curve, ...], np.ndarray, float]:
    """Smooth the noisy states in the record's own time, then twice in one in which all states move evenly; keep each state's best."""
    sigma, evidence = np.zeros(len(curves)), dict.fromkeys(noisy, np.inf)
    clock: Curve | None = None
    for _ in range(3 if noisy else 0):
        for i, record in noisy.items():
            curve, noise, score = _smooth_record(*record, clock, error, journal)
            if score < evidence[i] - 1:
                evidence[i], sigma[i], curves[i] = score, noise, curve
        clock = _warp(t, np.stack([c(t) for c in curves], -1))
    return tuple(curves), sigma, float(sum(evidence.values()))


def _smooth_record(
    t: np.ndarray, y: np.ndarray, v: np.ndarray, clock: Curve | None, error: ErrorModel, journal: Journal
) -> tuple[Curve, float, float]:
    """Smooth one state in the time of a clock; return its curve, its noise and -2 log likelihood."""
    given = t if clock is None else clock(t), error.forward(y), v
    smooth, score, noise = journal.recall("smoothing", lambda: given, lambda: smooth_reml(*given), _SMOOTHED)
    rate = np.maximum(error.backward(smooth), LEAST) ** error.power
    curve = _warped(CubicSpline(given[0], smooth, bc_type="natural"), clock, error)
    return curve, noise * np.sqrt(np.mean(rate**2)), score - 2 * error.log_slope(y)


def _interpolate(t: np.ndarray, y: np.ndarray, clean: bool) -> Curve:
    if len(t) == 0:
        return lambda q: np.full(np.shape(q), 0.5)  # nothing measured here: mid-scale until the law says more
    if len(t) == 1:
        return lambda q: np.full(np.shape(q), y[0])
    if len(t) < 4 or not clean:
        inner = PchipInterpolator(t, y)
        return lambda q: inner(np.clip(q, t[0], t[-1]))
    return interpolate_exact(t, y)


def interpolate_exact(t: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> Curve:
    """Return the interpolating spline of third, fifth or seventh degree that best foretells each second sample from the others.

    >>> t = np.linspace(0, 3, 40)
    >>> bool(np.abs(interpolate_exact(t, np.sin(t))(t + 0.03) - np.sin(t + 0.03))[:-1].max() < 1e-8)
    True
    """
    errors = {}
    for degree in DEGREES:
        if len(t[::2]) > 2 * degree:
            foretold = make_interp_spline(t[::2], y[::2], k=degree)(t[1::2])
            errors[degree] = float(np.abs(foretold - y[1::2])[: len(t[::2]) - 1].max())
    return make_interp_spline(t, y, k=min(errors, key=lambda k: errors[k], default=DEGREES[0]))


def _warped(spline: Curve, clock: Curve | None, error: ErrorModel) -> Curve:
    return lambda q: error.backward(spline(q if clock is None else clock(q)))


def _warp(t: np.ndarray, x: np.ndarray) -> Curve:
    """Return the time in which all states together move at an even pace."""
    speed = np.sqrt(((np.diff(x, axis=0) / (x.std(0) + 1e-12)) ** 2).sum(1)) / np.diff(t)
    kernel = np.array([1.0, 2.0, 3.0, 2.0, 1.0]) / 9.0
    speed = np.convolve(np.pad(speed, 2, mode="edge"), kernel, "valid")
    speed = speed + 0.15 * speed.mean() + 1e-12
    tau = np.r_[0.0, np.cumsum(speed * np.diff(t))]
    return PchipInterpolator(t, tau * (t[-1] - t[0]) / tau[-1], extrapolate=True)


def smooth_reml(
    t: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"], v: Float[np.ndarray, "n"] | None = None
) -> tuple[np.ndarray, float, float]:
    """Return the smoothed samples (n,), the restricted likelihood (-2 log, up to a constant) and sigma.

    The errors are sigma v where v (n,) is given, else sigma. Long records are smoothed in overlapping chunks that fade into each other.
    """
    n = len(t)
    v = np.ones(n) if v is None else v
    if n <= 4 * CHUNK // 3:
        return _smooth_chunk(t, y, v)
    overlap = CHUNK // 5
    total, weight, score, variance = np.zeros(n), np.zeros(n), 0.0, 0.0
    starts = np.linspace(0, n - CHUNK, int(np.ceil((n - overlap) / (CHUNK - overlap)))).round().astype(int)
    fade = np.minimum(np.minimum(np.arange(1, CHUNK + 1), np.arange(CHUNK, 0, -1)) / overlap, 1.0)
    for a in starts:
        smooth, s, sigma = _smooth_chunk(*(k[a : a + CHUNK] for k in (t, y, v)))
        total[a : a + CHUNK] += fade * smooth
        weight[a : a + CHUNK] += fade
        score, variance = score + s, variance + sigma**2 / len(starts)
    return total / weight, score, float(np.sqrt(variance))


def _smooth_chunk(t: np.ndarray, y: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, float, float]:
    n = len(t)
    unit = np.round((t - t[0]) / (t[-1] - t[0]), 12)
    mu, basis = _basis(unit.tobytes(), v.tobytes())
    z = basis.T @ (y / v)
    power, (w, log_w, price) = z[2:] ** 2, _shares(mu[2:].tobytes(), POWERS, CORNERS)
    score = (n - 2) * np.log(w @ power + 1e-300) - log_w + price
    best = int(np.argmin(score))
    smooth = y - v * (basis[:, 2:] @ (w[best] * z[2:]))
    return smooth, float(score[best]), float(np.sqrt((power * w[best]).sum() / (n - 2)))


@lru_cache(maxsize=8)
def _shares(
    eigenvalues: bytes, powers: tuple[int, ...], corners: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what w (m, n - 2) each of m spectra leaves of the basis curves, its sum of logarithms and its price (m,)."""
    mu = np.frombuffer(eigenvalues)
    mu = mu / np.median(mu)
    parts, prices = [], []
    for p, corner in itertools.product(powers, corners):
        low = mu[int(corner * (len(mu) - 1))] if corner else 0.0
        scaled = np.exp(p * STIFFNESS)[:, None] * (low + mu) ** p
        parts.append(scaled / (1 + scaled))
        prices.append(np.full(len(STIFFNESS), UNLIKE * ((p != 1) + (corner != 0))))
    w = np.maximum(np.concatenate(parts), 1e-300)
    return w, np.log(w).sum(1), np.concatenate(prices)


@lru_cache(maxsize=64)
def _basis(times: bytes, errors: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Demmler-Reinsch eigenvalues (n,) and basis (n, n) for samples at `times` in [0, 1], divided by their errors."""
    t, v = np.frombuffer(times), np.frombuffer(errors)
    n, h = len(t), np.diff(t)
    j = np.arange(n - 2)
    second, gram = np.zeros((n, n - 2)), np.zeros((n - 2, n - 2))
    second[j, j], second[j + 1, j], second[j + 2, j] = 1 / h[:-1], -1 / h[:-1] - 1 / h[1:], 1 / h[1:]
    gram[j, j] = (h[:-1] + h[1:]) / 3
    gram[j[:-1], j[:-1] + 1] = gram[j[:-1] + 1, j[:-1]] = h[1:-1] / 6
    second *= v[:, None]
    penalty = second @ np.linalg.solve(gram, second.T)
    mu, basis = np.linalg.eigh((penalty + penalty.T) / 2)
    mu[:2] = 0.0
    return np.maximum(mu, 0.0), basis
