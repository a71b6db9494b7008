r"""Courses: records that a law is followed along, each from the start at which it fits best,

    x0 = argmin sum_k ((x(t_k; x0) - x_k) / sigma)**2,

found by a few Gauss-Newton steps from the smooth curve's first point; on a record's later part a law goes on from the start that its earlier
part gave. Long records that eqdisc fitted in stretches are followed in stretches of that length, as no law can follow a chaotic one from its
start.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ..data.dataset import Dataset, Trajectory
from ..data.scaling import Scaling
from ..data.smoothing import denoise
from ..judge.validation import Score, Stretch, score
from ..law.simulation import RightHandSide, Simulation, simulate
from ..work.status import Status

MOST = 16  # records that the errors are taken over, and stretches of each
PATIENCE = 2.0  # seconds of one simulation
STEPS, STEP, SETTLED = 6, 0.1, 1e-3  # of Gauss-Newton: how many, in sigma, least gain

Residual = Callable[[np.ndarray], Float[np.ndarray, "k"]]


class Followed(NamedTuple):
    """Errors of a law on what was fitted, its later part and a new start (None where there is none), where it broke off, and its curves."""

    fitted: Score | None
    later: Score | None
    new_start: Score | None
    broken: str
    curves: tuple[tuple[str, Simulation], ...]  # by record


@dataclass(frozen=True, eq=False)
class Course:
    """One record: stretches with first guesses of their starts, and what comes after them unseen."""

    name: str
    stretches: tuple[Stretch, ...]
    later: Trajectory | None = None

    def settle(self, law: RightHandSide, sigma: Float[np.ndarray, "d"]) -> list[Stretch]:
        """Return the stretches, each from the start at which the law fits it best."""
        return [s._replace(start=settle(law, s, sigma)) for s in self.stretches]

    def go_on(self, start: np.ndarray, horizon: float) -> Stretch:
        """Return the last stretch, from `start`, carried on into the later part, where what was fitted counts no more."""
        last = self.stretches[-1]
        if self.later is None:
            return last._replace(start=start)
        t, x = last.t, last.x
        near = self.later.t <= max(t[-1] + horizon, self.later.t[0])
        nothing = np.full_like(x, np.nan)
        return Stretch(start, np.r_[t, self.later.t[near]], np.concatenate([nothing, self.later.x[near]]))


@dataclass(frozen=True, eq=False)
class Courses:
    """What was fitted and what was not, one sigma, and the longest stretch that is followed at once."""

    known: tuple[Course, ...]
    new: tuple[Course, ...]
    sigma: Float[np.ndarray, "d"]
    horizon: float

    @classmethod
    def of(
        cls, train: Dataset, later: Dataset | None, new_start: Dataset | None, sigma: np.ndarray, horizon: float
    ) -> Courses:
        """Lay courses through the first records."""
        scaling = Scaling.of(train)
        new = () if new_start is None else _lay_courses(new_start, None, scaling, horizon)
        return cls(_lay_courses(train, later, scaling, horizon), new, sigma, horizon)

    def follow(self, law: RightHandSide) -> Followed:
        """Simulate a law along everything."""
        known, new = ([c.settle(law, self.sigma) for c in courses] for courses in (self.known, self.new))
        going = [c.go_on(some[-1].start, self.horizon) for c, some in zip(self.known, known, strict=True)]
        unseen = [s for c, s in zip(self.known, going, strict=True) if c.later is not None]
        scores = self._score(law, chain(*known)), self._score(law, unseen), self._score(law, chain(*new))
        drawn = [(self.known[0], [*known[0][:-1], going[0]]), *zip(self.new, new, strict=True)]
        curves = ((c.name, simulate(law, s.start, _fine(s.t), time_limit=PATIENCE)) for c, some in drawn for s in some)
        return Followed(*scores, _break_of(scores), tuple(curves))

    def _score(self, law: RightHandSide, stretches: Iterable[Stretch]) -> Score | None:
        some = list(stretches)
        return score(law, some, self.sigma, time_limit=PATIENCE) if some else None


def _lay_courses(data: Dataset, later: Dataset | None, scaling: Scaling, horizon: float) -> tuple[Course, ...]:
    """Return the courses of the first records, their starts guessed from smooth curves."""
    smooth = denoise(scaling.apply(data))
    rest = {} if later is None else {k.name: k for k in later.trajectories}
    out = []
    for k, record in enumerate(data.trajectories[:MOST]):
        pieces = []
        for piece in cut(record, horizon)[-MOST:]:
            start = smooth.at(k, (piece.t[:1] - record.t[0]) / scaling.time)[0] * scaling.states
            pieces.append(Stretch(start, piece.t, piece.x))
        out.append(Course(record.name, tuple(pieces), rest.get(record.name)))
    return tuple(out)


def _break_of(scores: Iterable[Score | None]) -> str:
    """Say where a law broke off first, if it did."""
    broken = next((s for s in scores if s is not None and s.status is not Status.OK), None)
    return "" if broken is None else f"{broken.status.name.lower().replace('_', ' ')} at {broken.end:.4g}"


def _fine(t: np.ndarray) -> np.ndarray:
    return np.union1d(t, np.linspace(t[0], t[-1], 300))


def cut(record: Trajectory, horizon: float) -> list[Trajectory]:
    """Cut a record into stretches of about the same number of samples, none much longer than `horizon`.

    >>> [len(k) for k in cut(Trajectory(np.arange(101.0), np.ones((101, 1))), 50.0)]
    [50, 51]
    """
    count = max(1, math.ceil(record.span / horizon - 0.1)) if horizon > 0 else 1
    edges = np.linspace(0, len(record), min(count, max(1, len(record) // 3)) + 1).round().astype(int)
    return [record.cut(int(a), int(b)) for a, b in pairwise(edges)]


def settle(law: RightHandSide, stretch: Stretch, sigma: Float[np.ndarray, "d"]) -> Float[np.ndarray, "d"]:
    """Return the start from which `law` follows a stretch best, by Gauss-Newton; where that fails, the start that was given."""
    start, t, x, _ = stretch
    low = np.where(start >= 0, 0.0, -np.inf) if np.nanmin(x) >= 0 else np.full(len(start), -np.inf)
    residual = _residual_of(law, t, x, sigma)
    r = residual(start)
    for _ in range(STEPS):
        better = _improve(residual, start, r, sigma, low) if np.isfinite(r).all() else None
        if better is None:
            break
        gain = 1 - float(better[1] @ better[1]) / max(float(r @ r), 1e-300)
        start, r = better
        if gain < SETTLED:
            break
    return start


def _residual_of(law: RightHandSide, t: np.ndarray, x: np.ndarray, sigma: np.ndarray) -> Residual:
    """Return the residuals of the values that were measured as a function of the start, infinite where the law ends early."""
    seen = np.isfinite(x)

    def residual(start: np.ndarray) -> np.ndarray:
        run = simulate(law, start, t, time_limit=PATIENCE)
        if run.status is not Status.OK:
            return np.full(int(seen.sum()), np.inf)
        return ((run.x - x) / sigma)[seen]

    return residual


def _improve(
    residual: Residual, start: np.ndarray, r: np.ndarray, sigma: np.ndarray, low: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return a better start and its residuals: a step, halved until it lowers the cost; None where it does not."""
    slopes = np.stack([(residual(start + row) - r) / STEP for row in np.diag(STEP * sigma)], -1)
    if not np.isfinite(slopes).all():
        return None
    move = -np.linalg.lstsq(slopes, r, rcond=1e-8)[0] * sigma
    for share in (1.0, 0.5, 0.25, 0.125):
        there = np.maximum(start + share * move, low)
        left = residual(there)
        if np.isfinite(left).all() and float(left @ left) < float(r @ r):
            return there, left
    return None
