r"""PySINDy: sparse regression of slopes on a library (Brunton, Proctor & Kutz, PNAS 113, 2016; de Silva et al., JOSS 5, 2020).

    dx_e/dt = sum_j A[j, e] prod_i x_i**E[j, i],      A sparse

In the weak form (Reinbold, Gurevich & Grigoriev, Phys. Rev. E 101, 2020) both sides are integrated against bumps, so that noise is not
differentiated. Here the weak form at two widths and the slopes of smoothing splines each give the laws along the paths of PySINDy's
optimisers (thresholded least squares, stepwise reduction, forward selection). One threshold suits no two tables, so the law is chosen by the
BIC of short forecasts; then each equation may change to another of its own along the paths where that lowers the BIC. On ten
textbook systems no single threshold, form or optimiser found as many laws.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ..data.dataset import Dataset
from ..law.ensemble import step
from ..law.equations import Equations
from ..law.law import Law
from ..law.terms import Terms
from .smoothed import Record, Smoothed

POWERS = (-1.0, -0.5, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
DEGREE, MANY_STATES = 3, 4  # from so many states on, one degree less
WIDTHS = (20, 8)  # bumps to a record's length
LEAST_BUMP = 4.0  # distances between samples that a bump spans at least
LONGEST = 12  # terms of an equation
AHEAD, STARTS, SUBSTEPS = 10, 40, 4  # samples that are foretold, from how many places, Runge-Kutta steps to a sample
EQUAL = 1e-6  # errors below this share of the variance are equal
TINY = 1e-9  # a state that never changes sign is kept above it (scaled)
DIGITS = 7

Fit = tuple[int, Float[np.ndarray, "d m"]]  # which regression, coefficients


def fit_powers(data: Dataset, seed: int, seconds: float) -> Equations:
    """Fit with real powers of each state and products of two, integer powers where a state changes sign."""
    smoothed = Smoothed.of(data)
    return _fit(data, smoothed, power_library(smoothed), seed, seconds)


def fit_polynomials(data: Dataset, seed: int, seconds: float) -> Equations:
    """Fit with polynomials to degree three, two from four states on."""
    smoothed = Smoothed.of(data)
    return _fit(data, smoothed, polynomial_library(smoothed.d), seed, seconds)


def power_library(smoothed: Smoothed) -> Float[np.ndarray, "m d"]:
    """Return exponents: a constant, powers of a state, products of two states' roots and first powers."""
    d, unit = smoothed.d, np.eye(smoothed.d)
    rows = [np.zeros(d)]
    for i in range(d):
        rows += [p * unit[i] for p in _powers_of(smoothed.positive[i], smoothed.near_zero[i])]
    for i, j in itertools.combinations(range(d), 2):
        choices = ((0.5, 1.0) if smoothed.positive[k] else (1.0, 2.0) for k in (i, j))
        rows += [p * unit[i] + q * unit[j] for p, q in itertools.product(*choices)]
    return np.array(rows)


def _powers_of(positive: bool, near_zero: bool) -> list[float]:
    """Return the powers of a state that may be taken: whole ones where it changes sign, none below zero where it comes near it."""
    wanted = POWERS if positive else (1.0, 2.0, 3.0, 4.0)
    return [p for p in wanted if p > 0 or not near_zero]


def polynomial_library(d: int) -> Float[np.ndarray, "m d"]:
    """Return the exponents of all monomials up to the degree.

    >>> polynomial_library(1).ravel()
    array([0., 1., 2., 3.])
    """
    degree = DEGREE if d < MANY_STATES else DEGREE - 1
    chosen = itertools.chain(*(itertools.combinations_with_replacement(range(d), k) for k in range(degree + 1)))
    return np.array([np.bincount(np.array(c, int), minlength=d) for c in chosen], float)


def _fit(data: Dataset, smoothed: Smoothed, exponents: np.ndarray, seed: int, seconds: float) -> Equations:
    deadline = time.monotonic() + seconds
    library = _Library(exponents, smoothed.positive)
    with _restoring_the_generator():
        fits = [
            (form, a)
            for form, (features, targets) in enumerate(_regressions(library, smoothed, seed))
            for a in _paths(features, targets, smoothed.clean)
            if np.count_nonzero(a) > 0 and (np.count_nonzero(a, axis=1) <= LONGEST).all()
        ]
    forecast = _Forecast.of(library, smoothed)
    a = _exchange(*_choose(fits, forecast, deadline), fits, forecast, deadline)
    coefficients = smoothed.scaling.undo(exponents, a.T)
    shortened = np.array([[float(f"{v:.{DIGITS}g}") for v in row] for row in coefficients])
    return Equations.of(Law.of(Terms.of(exponents), shortened), data.formula_names)


@dataclass(frozen=True, eq=False)
class _Library:
    exponents: Float[np.ndarray, "m d"]
    positive: np.ndarray

    def __call__(self, x: Float[np.ndarray, "n d"], used: Any = slice(None)) -> Float[np.ndarray, "n m"]:
        x = np.where(self.positive, np.maximum(x, TINY), x)
        powers = self.exponents[used]
        return np.exp(np.log(x) @ powers.T) if self.positive.all() else np.prod(x[:, None, :] ** powers, axis=-1)


# Regressions and the paths along them


def _regressions(library: _Library, smoothed: Smoothed, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (features (k, m), targets (k, d)): the weak form at each width where the records are dense enough, then slopes."""
    features = _as_pysindy(library)
    for width in WIDTHS:
        if all(r.t[-1] / width > LEAST_BUMP / 2 * np.diff(r.t).max() for r in smoothed.records):
            parts = [_weaken(features, r, width, len(smoothed.records), seed) for r in smoothed.records]
            yield np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    yield library(smoothed.stacked("smooth")), smoothed.stacked("slope")


def _weaken(features: Any, record: Record, width: int, records: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Integrate the library and the rates of one record against bumps of half-width span / width."""
    import pysindy as ps

    n = len(record.t)
    bumps = max(100, 2 * n if n < 300 else 200) // records + 20
    np.random.seed(seed)  # noqa: NPY002  PySINDy draws the places of its bumps from NumPy's global generator
    weak = ps.WeakPDELibrary(features, spatiotemporal_grid=record.t, K=bumps, H_xt=record.t[-1] / width)
    left = np.asarray(weak.fit([record.x]).transform([record.x])[0])
    return left, np.asarray(weak.convert_u_dot_integral(record.x))


@contextmanager
def _restoring_the_generator() -> Iterator[None]:
    """Leave NumPy's global generator as it was; loading PySINDy may already draw from it."""
    former = np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(former)  # noqa: NPY002


def _as_pysindy(library: _Library) -> Any:
    """Return the library as PySINDy's own kind of library."""
    import pysindy as ps

    class Monomials(ps.feature_library.base.BaseFeatureLibrary):
        def fit(self, x: Any, y: Any = None) -> Any:
            self.n_features_in_, self.n_output_features_ = library.exponents.shape[1], len(library.exponents)
            return self

        def transform(self, x: Any) -> Any:
            return ps.AxesArray(library(np.asarray(x)), {"ax_time": 0, "ax_coord": 1})

        def get_feature_names(self, input_features: Any = None) -> list[str]:
            return [str(tuple(row)) for row in library.exponents]

    return Monomials()


def _paths(features: np.ndarray, targets: np.ndarray, clean: bool) -> Iterator[Float[np.ndarray, "d m"]]:
    """Yield the coefficients along the path of every optimiser."""
    import pysindy as ps

    norm = np.linalg.norm(targets, axis=0)
    norm = np.where(norm > 0, norm, 1.0)
    for optimiser, scaled in _optimisers(features.shape[1], 1e-6 if clean else 1e-3):
        unit = norm if scaled else np.ones_like(norm)
        try:
            optimiser.fit(features, targets / unit)
        except (ValueError, np.linalg.LinAlgError):
            continue  # every term fell below the threshold, or columns are alike
        many = [optimiser.coef_] if isinstance(optimiser, ps.STLSQ) else optimiser.history_
        yield from (np.reshape(a, (len(norm), -1)) * unit[:, None] for a in many)


def _optimisers(terms: int, alpha: float) -> Iterator[tuple[Any, bool]]:
    """Yield PySINDy's optimisers and whether their targets are scaled."""
    import pysindy as ps

    common = {"alpha": alpha, "max_iter": 20}
    yield from ((ps.STLSQ(threshold=v, **common), False) for v in np.logspace(-4, 1, 14))
    yield from ((ps.STLSQ(threshold=v, normalize_columns=True, **common), True) for v in np.logspace(-3, 0.7, 14))
    yield ps.SSR(alpha=1e-8, max_iter=terms - 1, normalize_columns=True), True
    yield ps.FROLS(max_iter=min(8, terms), alpha=1e-10, normalize_columns=True), True


# Choosing by forecasts


@dataclass(frozen=True, eq=False)
class _Forecast:
    """The BIC of foretelling the next samples from smooth states: starts (k, d), steps (k, j), what was read there (k, j, d)."""

    library: _Library
    start: Float[np.ndarray, "k d"]
    steps: Float[np.ndarray, "k j"]
    wanted: Float[np.ndarray, "k j d"]
    spread: Float[np.ndarray, "d"]
    values: int

    @classmethod
    def of(cls, library: _Library, smoothed: Smoothed) -> _Forecast:
        length = max(1, min(AHEAD, min(len(r.t) for r in smoothed.records) // 4))
        parts = []
        for r in smoothed.records:
            places = np.linspace(0, len(r.t) - 1 - length, max(8, STARTS // len(smoothed.records)))
            first = np.unique(places.astype(int))
            ahead = first[:, None] + np.arange(length + 1)
            parts.append((r.smooth[first], np.diff(r.t[ahead]), r.x[ahead[:, 1:]]))
        start, steps, wanted = (np.concatenate(p) for p in zip(*parts, strict=True))
        return cls(library, start, steps, wanted, smoothed.spread, smoothed.stacked("x").size)

    def __call__(self, a: Float[np.ndarray, "d m"]) -> tuple[float, float]:
        """Return (BIC, error), so that where errors count as equal the smaller one comes first."""
        error = self._error(a)
        price = np.count_nonzero(a) * np.log(self.values)
        return self.values * float(np.log(max(error, EQUAL))) + price, error

    def _error(self, a: np.ndarray) -> float:
        used = np.flatnonzero((a != 0).any(0))
        field = lambda x: self.library(x, used) @ a[:, used].T  # noqa: E731
        x, error = self.start, 0.0
        with np.errstate(all="ignore"):
            for j in range(self.steps.shape[1]):
                for _ in range(SUBSTEPS):
                    x = step(field, x, self.steps[:, j, None] / SUBSTEPS)
                error += float(np.mean(((x - self.wanted[:, j]) / self.spread) ** 2)) / self.steps.shape[1]
                if not error < 1e6:  # NaN too
                    return np.inf
        return error


def _choose(fits: list[Fit], forecast: _Forecast, deadline: float) -> tuple[tuple[float, float], np.ndarray]:
    """Return the fit of least BIC, one of each structure tried, with its BIC."""
    once = {(form, (a != 0).tobytes()): a for form, a in reversed(fits)}
    rest = np.zeros((len(forecast.spread), len(forecast.library.exponents)))
    best, chosen = forecast(rest), rest
    share = time.monotonic() + 0.6 * (deadline - time.monotonic())
    for a in sorted(once.values(), key=np.count_nonzero):
        if time.monotonic() > share:
            break
        value = forecast(a)
        if value < best:
            best, chosen = value, a
    return best, chosen


def _exchange(
    best: tuple[float, float], chosen: np.ndarray, fits: list[Fit], forecast: _Forecast, deadline: float
) -> np.ndarray:
    """Let each equation change to another of its own along the paths, twice over, and return the law of least BIC."""
    for e in [*range(len(chosen)), *range(len(chosen))]:
        rows = {(form, (a[e] != 0).tobytes()): a[e] for form, a in reversed(fits)}
        for row in rows.values():
            if time.monotonic() > deadline:
                return chosen
            other = chosen.copy()
            other[e] = row
            value = forecast(other)
            if value < best:
                best, chosen = value, other
    return chosen
