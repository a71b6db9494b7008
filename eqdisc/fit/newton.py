r"""Newton: the steps of `collocation` in compiled code, one lane after the other until it has settled.

With the columns dx = P + Q dtheta + R dx0 of `sweeps`, residuals r and columns at the samples weighed by 1 / sigma, and every segment's
starts eliminated (S is R at its samples, B = [r - P, Q]),

    dx0 = (S^T S)^-1 S^T B [1, -dtheta],      [g, H] from B^T (1 - S (S^T S)^-1 S^T) B,      (H + damping diag H) dtheta = g.

A step is taken where chi-square with a penalty on the defects falls; else damping rises. What is here says the same as the torch code in
`collocation`, which serves a GPU, fits with pins, and machines without a compiler.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..law.price import limits
from ..law.terms import Parameters
from ..work.compiler import compiled
from ..work.crew import cores, side_by_side
from .damping import LOST, TRIES
from .projections import eliminate
from .sweeps import arrays, sweep
from .vectors import aligned_rows

if TYPE_CHECKING:
    from .collocation import Collocation, State

ALONE = 5_000  # points of all lanes below which threads cost more than they gain


class Data(NamedTuple):
    """What a mesh and its engine say of every lane."""

    step: Float[np.ndarray, "K M"]
    sample: Int[np.ndarray, "K n"]
    values: Float[np.ndarray, "K n d"]
    weight: Float[np.ndarray, "K n d"]
    counts: Float[np.ndarray, "d"]
    positive: Bool[np.ndarray, "d"]
    low: Float[np.ndarray, "c"]
    high: Float[np.ndarray, "c"]
    tiny: float
    lowest: float
    floor: float


class Law(NamedTuple):
    """What does not move of a lane's terms, and the numbers that do: entry `entry` of the row of `term`, or its coefficient there."""

    free: Bool[np.ndarray, "m c"]
    support: Bool[np.ndarray, "m d"]
    directions: Float[np.ndarray, "m d d"]
    term: Int[np.ndarray, "1 p"]
    entry: Int[np.ndarray, "1 p"]
    is_exponent: Bool[np.ndarray, "1 p"]
    valid: Bool[np.ndarray, "1 p"]


class Place(NamedTuple):
    """Where a lane stands, or might: states, rows, coefficients, and the defects of these."""

    x: Float[np.ndarray, "1 K M1 d"]
    rows: Float[np.ndarray, "1 m c"]
    coefficients: Float[np.ndarray, "1 m d"]
    defects: Float[np.ndarray, "1 K M s"]


class Room(NamedTuple):
    """Arrays that one lane's step is worked out in."""

    columns: Float[np.ndarray, "1 K M1 s c"]
    way: Float[np.ndarray, "1 K M1 s 1"]
    directions: Float[np.ndarray, "1 s p"]
    total: Float[np.ndarray, "1+p 1+p"]
    starts: Float[np.ndarray, "K s 1+p"]
    step: Float[np.ndarray, "p 1"]
    held: Bool[np.ndarray, "K s"]
    onto: Float[np.ndarray, "K s"]
    spread: Float[np.ndarray, "d"]
    w: Float[np.ndarray, "rows"]
    no_index: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
    no_rows: Float[np.ndarray, "0 c"]
    nowhere: Float[np.ndarray, "1 s 0"]
    no_columns: Float[np.ndarray, "0 0 0 0 0"]

    @classmethod
    def of(cls, place: Place, numbers: int) -> Room:
        (_, m, c), (segments, points, d), s = place.rows.shape, place.x.shape[1:], place.defects.shape[-1]
        whole, truth = np.zeros((1, 0), np.int64), np.zeros((1, 0), bool)
        return cls(
            np.empty((1, segments, points, s, 1 + numbers + s)),
            np.empty((1, segments, points, s, 1)),
            np.empty((1, s, numbers)),
            np.empty((1 + numbers, 1 + numbers)),
            np.empty((segments, s, 1 + numbers)),
            np.empty((numbers, 1)),
            np.zeros((segments, s), bool),
            np.zeros((segments, s)),
            np.empty(d),
            aligned_rows(3 * d + 2 * m + s + s * s + numbers + 1, np.dtype(float)),
            (whole, whole, truth, truth),
            np.zeros((0, c)),
            np.zeros((1, s, 0)),
            np.zeros((0, 0, 0, 0, 0)),
        )


def descend(
    engine: Collocation,
    state: State,
    index: Parameters,
    hessian: Tensor,
    alive: Tensor,
    steps: tuple[int, int],
    tolerance: float,
    rival: tuple[int, float],
) -> None:
    """Take the steps from the first of `steps` up to the second in every lane that is alive, in place; lanes that have ended are not alive.

    `hessian` (R, P, P) becomes that of each lane's last step. A lane whose data term is not below that of a
    `rival` after so many steps ends.
    """
    mesh, terms = engine.mesh, state.terms
    bounds = limits(engine.bounds, terms.exponents, state.x.shape[-1])
    shared = arrays(mesh.step, mesh.sample, mesh.x, mesh.weight, mesh.counts, engine.positive, *bounds)
    data = Data._make((*shared, engine.tiny, engine.lowest, engine.floor))
    fixed = arrays(terms.free, terms.support, terms.directions)
    names = arrays(index.term, index.state, index.is_exponent, index.valid)
    x, sigma, penalty, damping = (_shared(v) for v in (state.x, state.sigma, state.penalty, state.damping))
    rows, a, curvature, goes_on = (_shared(v) for v in (terms.exponents, terms.coefficients, hessian, alive))
    lanes, points = len(x), state.x[..., 0].numel()
    threads = min(cores(), lanes) if points > ALONE else 1

    def work(first: int) -> None:
        for r in range(first, lanes, threads):
            if goes_on[r]:
                own, on = slice(r, r + 1), names[3][r]
                law = Law(*(v[r] for v in fixed), *(np.ascontiguousarray(v[own, on]) for v in names))
                place = Place(x[own], rows[own], a[own], np.empty((1, *mesh.step.shape, engine.states)))
                room = Room.of(place, law.term.shape[1])
                trial, closed = (Place(*(v.copy() for v in place)) for _ in range(2))
                knobs = float(penalty[r]), float(damping[r]), tolerance, *rival
                goes_on[r], penalty[r], damping[r] = _descend(
                    law, data, place, trial, closed, room, sigma[r], curvature[r], steps, *knobs
                )

    list(side_by_side([partial(work, k) for k in range(threads)], threads))


def _shared(tensor: Tensor) -> Any:
    """Return an array that shares its numbers with a tensor."""
    assert tensor.is_contiguous(), "what is written in place must not be a copy"
    return tensor.detach().numpy()


@compiled
def _copy(source, target):
    for i in range(source.size):
        target.flat[i] = source.flat[i]


@compiled
def _judge(place, data, sigma, penalty):
    """Return the merit of a place, chi-square plus a penalty on the defects, and the largest defect."""
    off = miss = chi = 0.0
    _, segments, steps, s = place.defects.shape
    for k in range(segments):
        for n in range(steps):
            for e in range(s):
                defect = abs(place.defects[0, k, n, e])
                miss = defect if not defect <= miss else miss
                share = defect / sigma[e]
                off += 1e6 if share > 1e6 else share
        for n in range(data.sample.shape[1]):
            for e in range(len(sigma)):
                residual = (data.values[k, n, e] - place.x[0, k, data.sample[k, n], e]) * data.weight[k, n, e]
                chi += (residual / sigma[e]) ** 2
    merit = chi + penalty * off
    return merit if np.isfinite(merit) else LOST, miss if miss == miss else np.inf


@compiled
def _spread(place, data, spread):
    """Write each state's sigma by maximum likelihood, the least sigma that counts added."""
    most = 0.0
    for e in range(len(spread)):
        total = 0.0
        for k in range(len(data.sample)):
            for n in range(data.sample.shape[1]):
                residual = (data.values[k, n, e] - place.x[0, k, data.sample[k, n], e]) * data.weight[k, n, e]
                total += residual**2
        spread[e] = total / max(data.counts[e], 1.0)
        most = max(most, spread[e])
    for e in range(len(spread)):
        mean = spread[e] if data.counts[e] > 0 else most
        spread[e] = np.sqrt(np.sqrt(mean**2 + data.floor**4))


@compiled
def _normal(columns, x, sigma, data, held, onto, total, starts):
    """Write [. g; g H] and the steps of the starts; those that are `held` take the step `onto`."""
    segments, s = starts.shape[:2]
    own = starts.shape[2]  # the residual, then the numbers
    b, size = np.empty(own + s), np.empty(s)
    gram, cross, solved = np.empty((s, s)), np.empty((s, own)), np.empty((s, own))
    total[:, :] = 0.0
    for k in range(segments):
        gram[:, :] = 0.0
        cross[:, :] = 0.0
        for n in range(data.sample.shape[1]):
            at = data.sample[k, n]
            for e in range(s):
                scale = data.weight[k, n, e] / sigma[e]
                if scale != 0.0:
                    for c in range(own + s):
                        b[c] = columns[0, k, at, e, c] * scale
                    b[0] = (data.values[k, n, e] - x[0, k, at, e]) * scale - b[0]
                    for i in range(s):
                        if held[k, i]:
                            b[0] -= b[own + i] * onto[k, i]
                            b[own + i] = 0.0
                    _add_squares(b, own, total, cross, gram)
        for i in range(s):
            size[i] = max(np.sqrt(gram[i, i]), 1e-150)
        for i in range(s):
            for j in range(s):
                gram[i, j] = gram[i, j] / size[i] / size[j] + (1e-11 if i == j else 0.0)
            for p in range(own):
                cross[i, p] /= size[i]
                solved[i, p] = cross[i, p]
        eliminate(gram, solved)
        for i in range(s):
            for p in range(own):
                for q in range(own):
                    total[p, q] -= cross[i, p] * solved[i, q]
                starts[k, i, p] = solved[i, p] / size[i]
            if held[k, i]:
                starts[k, i, 0] = onto[k, i]


@compiled
def _add_squares(b, own, total, cross, gram):
    """Add a row's products with itself: of B, of S with B, of S."""
    for p in range(own):
        for q in range(own):
            total[p, q] += b[p] * b[q]
    for i in range(len(gram)):
        for p in range(own):
            cross[i, p] += b[own + i] * b[p]
        for j in range(len(gram)):
            gram[i, j] += b[own + i] * b[own + j]


@compiled
def _step(total, damping, step):
    """Write the damped step of the numbers."""
    numbers = len(step)
    matrix, size = np.empty((numbers, numbers)), np.empty(numbers)
    for p in range(numbers):
        size[p] = np.sqrt(max(total[1 + p, 1 + p], 1e-12))
    for p in range(numbers):
        for q in range(numbers):
            matrix[p, q] = total[1 + p, 1 + q] / size[p] / size[q]
        matrix[p, p] += damping + 1e-11
        step[p, 0] = total[1 + p, 0] / size[p]
    eliminate(matrix, step)
    for p in range(numbers):
        step[p, 0] /= size[p]
        if not np.isfinite(step[p, 0]):
            step[p, 0] = 0.0


@compiled
def _start_step(room, k, i):
    """Return by how much a start moves with the step."""
    by = room.starts[k, i, 0]
    for p in range(len(room.step)):
        by -= room.starts[k, i, 1 + p] * room.step[p, 0]
    return by


@compiled
def _aim(law, place, directions):
    """Write along which equations each number moves the field."""
    for p in range(law.term.shape[1]):
        for e in range(directions.shape[1]):
            j, i = law.term[0, p], law.entry[0, p]
            directions[0, e, p] = place.coefficients[0, j, e] if law.is_exponent[0, p] else law.directions[j, i, e]


@compiled
def _prepare(data, place, room, sigma, damping, hessian):
    """Write normal equations from columns; starts that the step would make negative go to their bound. False where columns are no numbers."""
    _, segments, points, s, width = room.columns.shape
    for k in range(segments):
        for e in range(s):
            room.held[k, e] = False
            for c in range(width):
                if not np.isfinite(room.columns[0, k, points - 1, e, c]):
                    hessian[:, :] = 0.0
                    return False
    _normal(room.columns, place.x, sigma, data, room.held, room.onto, room.total, room.starts)
    _step(room.total, damping, room.step)
    some = False
    for k in range(segments):
        for i in range(s):
            start = place.x[0, k, 0, i]
            room.onto[k, i] = max(0.1 * start, data.lowest) - start
            room.held[k, i] = data.positive[i] and _start_step(room, k, i) < room.onto[k, i]
            some = some or room.held[k, i]
    if some:
        _normal(room.columns, place.x, sigma, data, room.held, room.onto, room.total, room.starts)
    for p in range(len(room.step)):
        for q in range(len(room.step)):
            hessian[p, q] = room.total[1 + p, 1 + q]
    return True


@compiled
def _inside(former, by, positive, lowest):
    """Return a state after a step; a positive one goes at most nine tenths of the way to zero."""
    least = max(0.1 * former, lowest)
    return least if positive and former + by < least else former + by


@compiled
def _move(law, data, place, room, damping, moved):
    """Write the place that a damped step leads to, all but its defects."""
    _step(room.total, damping, room.step)
    reach = 0.5
    for p in range(len(room.step)):
        if law.is_exponent[0, p]:
            reach = max(reach, abs(room.step[p, 0]))
    shrink = 0.5 / reach
    _move_terms(law, data, place, room.step, shrink, moved)
    segments, points, s = room.columns.shape[1:4]
    numbers, start = len(room.step), np.empty(s)
    for k in range(segments):
        for i in range(s):
            start[i] = _start_step(room, k, i)
        for n in range(points):
            for e in range(s):
                by = room.columns[0, k, n, e, 0]
                for p in range(numbers):
                    by += room.columns[0, k, n, e, 1 + p] * room.step[p, 0]
                for i in range(s):
                    by += room.columns[0, k, n, e, 1 + numbers + i] * start[i]
                moved.x[0, k, n, e] = _inside(place.x[0, k, n, e], by * shrink, data.positive[e], data.lowest)


@compiled
def _move_terms(law, data, place, step, shrink, moved):
    """Write rows and coefficients after a share of a step."""
    rows, coefficients = moved.rows[0], moved.coefficients[0]
    _copy(place.rows, moved.rows)
    _copy(place.coefficients, moved.coefficients)
    for p in range(len(step)):
        j, i, by = law.term[0, p], law.entry[0, p], step[p, 0] * shrink
        if law.is_exponent[0, p]:
            rows[j, i] += by
        else:
            for e in range(coefficients.shape[1]):
                coefficients[j, e] += law.directions[j, i, e] * by
    for j in range(len(rows)):
        for e in range(coefficients.shape[1]):
            if law.support[j, e] and coefficients[j, e] == 0.0:
                coefficients[j, e] = 1e-12  # a coefficient on its way through zero is still there
        for c in range(rows.shape[1]):
            if law.free[j, c]:
                rows[j, c] = min(max(rows[j, c], data.low[c]), data.high[c])


@compiled
def _close(trial, way, data, closed):
    """Write the states after one Newton step on the defects alone."""
    _, segments, points, s, _ = way.shape
    for k in range(segments):
        for n in range(points):
            for e in range(s):
                by = way[0, k, n, e, 0]
                by = by if np.isfinite(by) else 0.0
                closed.x[0, k, n, e] = _inside(trial.x[0, k, n, e], by, data.positive[e], data.lowest)


@compiled
def _take(found, place):
    """Go to another place."""
    _copy(found.x, place.x)
    _copy(found.rows, place.rows)
    _copy(found.coefficients, place.coefficients)
    _copy(found.defects, place.defects)


@compiled
def _reweigh(place, data, room, sigma, number, gain, miss, tolerance):
    """Estimate sigma again every third step or when a lane slows down; tell whether it has settled."""
    slow = gain < tolerance
    _spread(place, data, room.spread)
    if not (slow or number % 3 == 2) or not miss < 1e-2:
        return gain < 0.01 * tolerance
    change, least = 0.0, np.inf
    for e in range(len(sigma)):
        change = max(change, abs(np.log(room.spread[e] / sigma[e])))
        sigma[e] = min(max(room.spread[e], sigma[e] / 5), sigma[e] * 5)
        least = min(least, sigma[e])
    return slow and change < 0.02 and miss < 0.05 * least


@compiled
def _descend(law, data, place, trial, closed, room, sigma, hessian, steps, penalty, damping, tolerance, check, enough):
    """Take steps in one lane; return whether it goes on, its penalty and its damping."""
    names, grid = (law.term, law.entry, law.is_exponent, law.valid), (data.step, data.positive, data.tiny, room.w)
    still, none = (room.no_index, room.no_rows, room.nowhere), room.no_columns
    sweep(place.rows, place.coefficients, *still, place.x, *grid, place.defects, none)
    merit, miss = _judge(place, data, sigma, penalty)
    for number in range(steps[0], steps[1]):
        _aim(law, place, room.directions)
        moving = names, room.no_rows, room.directions
        sweep(place.rows, place.coefficients, *moving, place.x, *grid, place.defects, room.columns)
        if not _prepare(data, place, room, sigma, damping, hessian):
            return False, penalty, damping
        before, taken = merit, False
        for _ in range(TRIES):
            _move(law, data, place, room, damping, trial)
            sweep(trial.rows, trial.coefficients, *still, trial.x, *grid, trial.defects, none)
            new, left = _judge(trial, data, sigma, penalty)
            if not new < merit:
                sweep(trial.rows, trial.coefficients, *still, trial.x, *grid, trial.defects, room.way)
                _take(trial, closed)
                _close(trial, room.way, data, closed)
                sweep(closed.rows, closed.coefficients, *still, closed.x, *grid, closed.defects, none)
                other, nearer = _judge(closed, data, sigma, penalty)
                if other < new or nearer < left:
                    new, left = other, nearer
                    _take(closed, trial)
            if new < merit or (left < 0.3 * miss and miss > 1e-3 and new < 1e12):
                merit, miss, taken = new, left, True
                _take(trial, place)
                break
            damping = max(damping * 10, 1e-3)
        damping = max(damping * (0.1 if taken else 1.0), 1e-9)
        settled = _reweigh(place, data, room, sigma, number, (before - merit) / max(before, 1e-12), miss, tolerance)
        penalty = min(penalty * 1.5, 1e4)
        merit, miss = _judge(place, data, sigma, penalty)
        if not taken or settled:
            return False, penalty, damping
        if number == check - 1 and not _data_term(data, room.spread) < enough:
            return False, penalty, damping
    return True, penalty, damping


@compiled
def _data_term(data, spread):
    total = 0.0
    for e in range(len(spread)):
        total += data.counts[e] * np.log(spread[e])
    return total


__all__ = ["descend"]
