r"""Hidden states: what moves with the states and was not measured.

A hidden state h is known by what it does to the others, and any function of itself and of them would do as well. A law has to settle on
one (a gauge): here h enters the equation through which it is seen with coefficient one,

    dx_e/dt = g(x) + s m(x) h,      s = 1 or -1,  m a product of states: 1, x_e, or x_e x_i,

so that h = s (dx_e/dt - g) / m follows from the smoothed data once g is chosen. For candidates of g (nothing, or one term of any size) h is
taken for measured and its own equation looked for among sums of few library terms, by integral regression:

    h(t) - h(0) = sum_j a_j int_0^t m_j(x, h) ds.

Where that succeeds best the search begins. From there on nothing of h is measured: its readings have weight zero, its start is fitted as every
start is, and laws are judged by what they say of the states that were seen.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Float
from scipy.integrate import cumulative_trapezoid
from scipy.interpolate import PchipInterpolator

from ..data.dataset import Dataset
from ..data.dimensions import Dimensions
from ..data.scaling import Scaling
from ..data.smoothing import Curve, Denoised
from ..fit.fit import Fit
from ..law.knowledge import Knowledge, Known
from ..law.terms import Terms
from ..law.words import read_knowledge
from ..work.config import FitConfig
from ..work.journal import Form, Journal, Packed
from .joint import JointSearch
from .library import sums
from .problem import Problem
from .remeshing import fitted_states
from .rounds import search_by_proposals, search_sums

POWERS = (0.5, 1.0, 2.0)  # of the state, in g
SIZES = tuple(np.geomspace(0.1, 10.0, 49))  # of g, as shares of the rate it stands beside
CLOSER = (0.08, 0.02, 0.005)  # relative widths within which the best sizes are looked for again,
ERRORS = (0.05, 0.02, 0.005, 1e-3)  # errors that a course may have meanwhile, as shares of its size
NEAR_ZERO = 1e-3  # share of a product's size below which nothing can be divided by it
FINE = 4  # points between two samples at which a course is laid
ENOUGH = 300  # samples of a record by which ways to enter are compared
CROSSED = 0.02  # share of a course's size by which it may cross zero and still count as positive
TRIED = 6  # gauges from which a search begins
QUIET, LOUD = 1e-3, 0.05  # error of a course that was read from exact and from noisy data, as a share of its size
TERMS = 4  # of the sums by which gauges are compared,
PAIRS = 8  # with which these sums begin
KEPT = 60  # gauges that are looked at closer
BIN = 0.3  # logarithm of the sizes of g within which only the best is kept
WORTH = 4.0  # nats that one more term has to gain there


@dataclass(frozen=True, eq=False)
class Gauge:
    """How h enters equation `e`: times the product of powers `factor` (D,), beside `size` times the product `own` (D,)."""

    e: int
    factor: Float[np.ndarray, "D"]
    own: Float[np.ndarray, "D"]
    size: float
    cost: float = np.inf


def _pack(gauges: list[Gauge]) -> Packed:
    numbers = ("e", "size", "cost")
    return {f: np.array([getattr(g, f) for g in gauges]) for f in (*numbers, "factor", "own")}


def _unpack(packed: Packed) -> list[Gauge]:
    columns = (packed[f] for f in ("e", "factor", "own", "size", "cost"))
    return [Gauge(int(e), f, o, float(s), float(c)) for e, f, o, s, c in zip(*columns, strict=True)]


GAUGES: Form[list[Gauge]] = Form(_pack, _unpack)


_Found = tuple[Problem, JointSearch, Fit, Gauge]


def search_hidden(data: Dataset, config: FitConfig, journal: Journal) -> tuple[Problem, JointSearch, Fit | None]:
    """Search for a law of the states and one hidden state, of which `data` has nothing (`Dataset.with_hidden`)."""
    base = Problem.of(data.without_hidden(), config, journal)
    best = _search_gauges(base, QUIET if base.denoised.clean else LOUD, None)
    if best is None:
        return base, JointSearch(base), None
    if not base.denoised.clean and not journal.stop:
        best = _search_gauges(_along(base, best), QUIET, best)
        assert best is not None
    problem, joint, found, gauge = best
    if not journal.stop:
        at, h = fitted_states(problem, found), base.d
        course = (partial(_column, at, k, h) for k in range(len(base.data)))
        again = _lay(base, gauge, [partial(_signed, c, gauge_of(problem).value) for c in course])
        other, pick = search_by_proposals(again)
        if pick is not None and pick.cost < found.cost:
            problem, joint, found = replace(again, engine=other.engine), other, pick
    return problem, joint, found


def _search_gauges(base: Problem, error: float, best: _Found | None) -> _Found | None:
    """Search from the likeliest gauges and return the shortest law with its problem, `best` if none is shorter."""
    journal = base.journal
    courses = [base.denoised.at(k, _fine(r.t)) for k, r in enumerate(base.data.trajectories)]
    given = error, base.data, base.denoised.positive, base.judge.prior, courses
    likeliest = journal.recall("gauges", lambda: given, lambda: _compare(base, error)[:TRIED], GAUGES)
    for gauge in likeliest:
        problem, joint, found = search_sums(_lay(base, gauge, _course(base, gauge)))
        if found is not None and (best is None or found.cost < best[2].cost):
            best = problem, joint, found, gauge
        if journal.stop and best is not None:
            break
    return best


def _along(base: Problem, best: _Found) -> Problem:
    """Return the problem with the fitted course of the states, whose rates have no noise, in the place of the smoothed one."""
    problem, _, found, _ = best
    at, smooth = fitted_states(problem, found), base.denoised
    columns: list[list[Curve]] = [[partial(_column, at, k, i) for i in range(base.d)] for k in range(len(base.data))]
    curves = tuple((*own, *given[base.d :]) for own, given in zip(columns, smooth.curves, strict=True))
    return replace(base, denoised=replace(smooth, curves=curves))


def gauge_of(problem: Problem) -> Known:
    """Return the term through which the hidden state is seen, with its equation and its coefficient, 1 or -1."""
    known = problem.judge.knowledge
    assert known is not None
    return known.known[-1]


def _column(states: Callable, k: int, i: int, t: np.ndarray) -> np.ndarray:
    return states(k, t)[:, i]


def _signed(course: Curve, sign: float, t: np.ndarray) -> np.ndarray:
    return sign * course(t)


def _candidates(base: Problem) -> Iterator[Gauge]:
    """Yield ways in which h may enter the equations, and terms of several sizes beside it."""
    columns, positive = base.data.d, base.denoised.positive
    unit, nothing = np.eye(columns), np.zeros(columns)
    for e in range(base.d):
        factors = [nothing, unit[e]] if positive[e] else [nothing]
        factors += [unit[e] + unit[i] for i in range(base.d) if i != e and positive[e] and positive[i]]
        own = [p * unit[e] for p in POWERS if positive[e] or p == 1.0]
        own += [unit[i] for i in range(columns) if i != e]
        for factor in (f for f in factors if _divides(base, f)):
            yield Gauge(e, factor, nothing, 0.0)
            for row, size, sign in itertools.product(own, SIZES, (-1.0, 1.0)):
                yield Gauge(e, factor, row, sign * size)


def _divides(base: Problem, factor: np.ndarray) -> bool:
    """Tell whether a product of states stays away from zero."""
    size = np.concatenate([_values(base.denoised.at(k, r.t), factor) for k, r in enumerate(base.data.trajectories)])
    return bool(size.min() > NEAR_ZERO * size.max())


def _fine(t: np.ndarray, most: int | None = None) -> np.ndarray:
    """Return times between those of the samples as well, or of `most` of them."""
    t = t if most is None else t[:: max(1, round(len(t) / most))]
    inner = np.linspace(t[:-1], t[1:], FINE, endpoint=False).T.ravel()
    return np.r_[inner, t[-1]]


def _values(x: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Return a product of powers (n,) of states (n, D); those of states that change sign are whole."""
    return _products(x, row[None])[:, 0]


def _products(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return products of powers (n, m), one for each of the rows (m, D), of states (n, D)."""
    size = np.exp(np.log(np.maximum(np.abs(x), 1e-9)) @ rows.T)
    odd = (x < 0).astype(float) @ (np.round(rows) % 2 == 1).T
    return np.where(odd % 2 == 1, -size, size)


def _rates(base: Problem, k: int, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the smooth states (n, D) and their rates."""
    step = 0.05 * np.median(np.diff(t))
    low, high = np.clip(t - step, t[0], t[-1]), np.clip(t + step, t[0], t[-1])
    rate = (base.denoised.at(k, high) - base.denoised.at(k, low)) / (high - low)[:, None]
    return base.denoised.at(k, t), rate


def _course(base: Problem, gauge: Gauge) -> list[Curve]:
    """Return h (before its sign) of every trajectory as a function of time."""
    return [PchipInterpolator(t, h) for t, _, h in _courses(base, [gauge])[0]]


def _courses(
    base: Problem, gauges: list[Gauge], most: int | None = None
) -> list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """Return times, states and h of every trajectory for each gauge."""
    times = [_fine(k.t, most) for k in base.data.trajectories]
    records = [(t, *_rates(base, k, t)) for k, t in enumerate(times)]
    out = []
    for gauge in gauges:
        scale = _scale(records, gauge)
        below = lambda rate, x: rate[:, gauge.e] - scale * _values(x, gauge.own)  # noqa: B023, E731
        out.append([(t, x, below(rate, x) / _values(x, gauge.factor)) for t, x, rate in records])
    return out


def _scale(records: list, gauge: Gauge) -> float:
    """Return the coefficient of the term beside h."""
    rate = np.concatenate([r[:, gauge.e] for _, _, r in records])
    term = np.concatenate([_values(x, gauge.own) for _, x, _ in records])
    return gauge.size * float(np.sqrt((rate**2).mean() / (term**2).mean()))


def _compare(base: Problem, least: float) -> list[Gauge]:
    """Return the ways in which h may enter, each with the best size of the term beside it, the cheapest course first.

    A course errs by a share `least` of its size.
    """
    best = _distinct(_judge(base, list(_candidates(base)), max(ERRORS[0], least)))
    for number, (width, error) in enumerate(zip(CLOSER, ERRORS[1:], strict=True)):
        if base.journal.stop:
            break
        base.journal.record("hidden state", number + 1, len(ERRORS))
        steps = np.geomspace(1 / (1 + width), 1 + width, 9)
        closer = [replace(g, size=g.size * f) for g in best[:KEPT] for f in (steps if g.size else (1.0,))]
        best = _distinct(_judge(base, closer, max(error, least)))
    return _distinct(best, by_size=False)


def _judge(base: Problem, gauges: list[Gauge], error: float) -> Iterator[Gauge]:
    """Yield the gauges with what the course of h, which errs by a share of its size, costs when sums of few terms explain it."""
    plain = [replace(gauge, size=0.0) for gauge in _distinct(gauges)]
    sizes = {
        (g.e, *g.factor): _spread(g, course) for g, course in zip(plain, _courses(base, plain, ENOUGH), strict=True)
    }
    for gauge, course in zip(gauges, _courses(base, gauges, ENOUGH), strict=True):
        h = np.concatenate([c for _, _, c in course])
        if not np.isfinite(h).all() or np.ptp(h) < 1e-9:
            continue
        positive = np.r_[base.denoised.positive, _one_sign(h)]
        rows = sums(positive, base.judge.prior.admits).exponents
        rises, integrals = [], []
        for t, x, c in course:
            both = np.column_stack([x, c if not positive[-1] else np.abs(c)])
            both = np.where(positive, np.maximum(both, 1e-3 * np.abs(both).max(0)), both)
            table = _products(both, rows)
            trust = np.abs(_values(x, gauge.factor))[::FINE]  # h was divided by it, and so was its error
            rises.append(trust * (both[::FINE, -1] - both[0, -1]))
            integrals.append(trust[:, None] * cumulative_trapezoid(table, t, axis=0, initial=0.0)[::FINE])
        size = sizes[gauge.e, *gauge.factor]
        yield replace(gauge, cost=_shortest(np.concatenate(integrals), np.concatenate(rises), error * size))


def _spread(gauge: Gauge, course: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> float:
    """Return the spread of what h adds to the rate of its equation."""
    return float(np.std(np.concatenate([h * _values(x, gauge.factor) for _, x, h in course])))


def _shortest(table: np.ndarray, y: np.ndarray, error: float) -> float:
    """Return the least cost of explaining y by sums of few columns: the best pairs, and what is best added to each."""
    n = len(y)
    size = np.linalg.norm(table, axis=0)
    keep = np.isfinite(size) & (size > 1e-9 * np.nanmax(size[np.isfinite(size)], initial=1e-9))
    unit = table[:, keep] / size[keep]
    gram, b, total = unit.T @ unit, unit.T @ y, float(y @ y)
    first = total - b**2
    det = np.maximum(1 - gram**2, 1e-9)
    pair = total - (b[:, None] ** 2 - 2 * b[:, None] * b * gram + b**2) / det
    pair = np.where(np.triu(det > 1e-6, 1), pair, np.inf)
    i, j = np.unravel_index(np.argsort(pair, axis=None)[:PAIRS], pair.shape)
    best = min(_cost(float(first.min()), n, error, 1), _cost(float(pair.min()), n, error, 2))
    for chosen in zip(i.tolist(), j.tolist(), strict=True):
        columns = list(chosen)
        for count in range(3, TERMS + 1):
            basis, _ = np.linalg.qr(unit[:, columns])
            rest = y - basis @ (basis.T @ y)
            left = unit - basis @ (basis.T @ unit)
            norm = np.linalg.norm(left, axis=0)
            gain = np.where(norm > 1e-3, (left.T @ rest) ** 2 / np.maximum(norm, 1e-9) ** 2, 0.0)
            columns.append(int(np.argmax(gain)))
            best = min(best, _cost(float(rest @ rest - gain.max()), n, error, count))
    return best


def _cost(rss: float, n: int, error: float, count: int) -> float:
    return n / 2 * float(np.log(max(rss, 0.0) / n / error**2 + 1.0)) + WORTH * count


def _one_sign(h: np.ndarray) -> bool:
    return bool(min((h > 0).mean(), (h < 0).mean()) == 0 or min(-h.min(), h.max()) < CROSSED * np.abs(h).max())


def _distinct(gauges: Iterable[Gauge], by_size: bool = True) -> list[Gauge]:
    """Return the best of each way to enter, and of terms beside it of about one size, the cheapest first."""
    found: dict[tuple, Gauge] = {}
    for gauge in sorted(gauges, key=lambda g: g.cost):
        size = round(np.log(abs(gauge.size)) / BIN) if gauge.size and by_size else 0
        found.setdefault((gauge.e, *gauge.factor, *gauge.own, np.sign(gauge.size), size), gauge)
    return list(found.values())


def _lay(base: Problem, gauge: Gauge, course: list[Curve]) -> Problem:
    """Return the problem of the states and h, whose course stands for readings in proposals, and in fits for nothing."""
    d, data = base.d, base.data
    values = [h(k.t) for h, k in zip(course, data.trajectories, strict=True)]
    everything = np.concatenate(values)
    sign = -1.0 if np.median(everything) < 0 and _one_sign(everything) else 1.0
    put = lambda a, column: np.insert(a, d, column, axis=-1)  # noqa: E731
    records = tuple(
        replace(k, x=put(k.x, sign * h), sigma=put(k.sigma, np.nan) if k.sigma.size else k.sigma)
        for k, h in zip(data.trajectories, values, strict=True)
    )
    names = data.with_hidden(1).hidden
    states = (*data.states[:d], *names, *data.states[d:])
    row = put(gauge.factor, 1.0)
    size = base.scaling.states[gauge.e] / base.scaling.time / np.prod(base.scaling.states**gauge.factor)
    unit = Dimensions.of(data).of_coefficient(gauge.factor, gauge.e)
    units = data.units | ({names[0]: unit} if unit else {})
    scaled = replace(data, trajectories=records, states=states, hidden=names, units=units)
    scaling = Scaling(put(base.scaling.states, size), base.scaling.time)
    config = base.config
    known = read_knowledge(config, scaled, scaling) if config.knows else Knowledge.nothing(scaled.d)
    known = replace(known, known=(*known.known, Known(Terms.of(row[None]), gauge.e, sign)))
    denoised = _denoised(base, course, sign * everything, sign)
    return Problem.lay(scaled, scaling, denoised, config, known, base.journal)


def _denoised(base: Problem, course: list[Curve], values: np.ndarray, sign: float) -> Denoised:
    d, smooth = base.d, base.denoised
    put = lambda a, v: np.insert(a, d, v)  # noqa: E731
    spread = max(float(values.std()), 1e-12)
    positive = _one_sign(values)
    curves: tuple[tuple[Curve, ...], ...] = tuple(
        (*own[:d], partial(_signed, h, sign), *own[d:]) for own, h in zip(smooth.curves, course, strict=True)
    )
    return replace(
        smooth,
        curves=curves,
        sigma=put(smooth.sigma, (QUIET if smooth.clean else LOUD) * spread),
        spread=put(smooth.spread, spread),
        positive=put(smooth.positive, positive),
        near_zero=put(smooth.near_zero, positive and float(values.min()) < 0.02 * float(values.max())),
        levels=np.insert(smooth.levels, d, 1.0, axis=1),
    )
