r"""Newton: the steps of `collocation` in compiled code, one lane after the other until it has settled.

With the columns dx = P + Q dtheta + R dx0 of `sweeps`, residuals r and columns at the samples weighed by 1 / sigma, and every segment's
starts eliminated (S is R at its samples, B = [r - P, Q]),

    dx0 = (S^T S)^-1 S^T B [1, -dtheta],      [g, H] from B^T (1 - S (S^T S)^-1 S^T) B,      (H + damping diag H) dtheta = g.

A step is taken where chi-square with a penalty on the defects falls; else damping rises. What is here says the same as the torch code in
`collocation`, which serves a GPU, fits with pins, and machines without a compiler.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..law.law import Law, Numbers
from ..law.terms import Terms
from ..work.compiler import compiled
from ..work.crew import cores, side_by_side
from .damping import TRIES
from .mesh import Mesh
from .points import arrays, limits, names_of, no_names, work_rows
from .squares import data_term, judge, normal, spread, step
from .state import State
from .sweeps import sweep

ALONE = 5_000  # points of all lanes below which threads cost more than they gain


class Data(NamedTuple):
    """What a mesh and its engine say of every lane; `low` and `high` bound the entries of a row."""

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


class Fixed(NamedTuple):
    """What does not move of a lane's law, and the numbers that do: entry `entry` of the row of `term`, or its coefficient there."""

    free: Bool[np.ndarray, "m c"]
    support: Bool[np.ndarray, "m d"]
    directions: Float[np.ndarray, "m d d"]
    term: Int[np.ndarray, "1 p"]
    entry: Int[np.ndarray, "1 p"]
    is_entry: Bool[np.ndarray, "1 p"]
    valid: Bool[np.ndarray, "1 p"]


class Place(NamedTuple):
    """Where a lane stands, or might: states, rows of terms, coefficients, and the defects of these."""

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
    no_names: tuple[np.ndarray, ...]
    no_rows: Float[np.ndarray, "0 c"]
    nowhere: Float[np.ndarray, "1 s 0"]
    no_columns: Float[np.ndarray, "0 0 0 0 0"]

    @classmethod
    def of(cls, place: Place, numbers: int) -> Room:
        (_, m, c), (segments, points, d), s = place.rows.shape, place.x.shape[1:], place.defects.shape[-1]
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
            work_rows(d, m, s, numbers),
            no_names(1),
            np.zeros((0, c)),
            np.zeros((1, s, 0)),
            np.zeros((0, 0, 0, 0, 0)),
        )


@dataclass(frozen=True, eq=False)
class Setting:
    """What a descent needs of its engine: the mesh, signs, bounds of exponents, and the least |x|, state and sigma that count."""

    mesh: Mesh
    positive: Tensor
    bounds: tuple[float, float]
    tiny: float
    lowest: float
    floor: float

    def data(self) -> Data:
        """Return it in NumPy."""
        mesh = self.mesh
        shared = arrays(mesh.step, mesh.sample, mesh.x, mesh.weight, mesh.counts, self.positive)
        low_high = limits(self.bounds, mesh.x.shape[-1])
        return Data._make((*shared, *low_high, self.tiny, self.lowest, self.floor))


def descend(
    setting: Setting,
    state: State,
    numbers: Numbers,
    hessian: Tensor,
    alive: Tensor,
    steps: tuple[int, int],
    tolerance: float,
    rival: tuple[int, float],
) -> State:
    """Take the steps from the first of `steps` up to the second in every lane that is alive, and return where lanes stand.

    All but the terms is written in place; lanes that have ended are not alive.

    `hessian` (R, P, P) becomes that of each lane's last step. A lane whose data term is not below that of a
    `rival` after so many steps ends.
    """
    law: Law = state.law
    data, states = setting.data(), setting.mesh.x.shape[-1] - setting.mesh.driven
    fixed, names = arrays(law.free.table(), law.support, law.directions), names_of(numbers, law.d)
    table = law.terms.table().contiguous()
    x, sigma, penalty, damping = (_shared(v) for v in (state.x, state.sigma, state.penalty, state.damping))
    rows, a, curvature, goes_on = (_shared(v) for v in (table, law.coefficients, hessian, alive))
    lanes, points = len(x), state.x[..., 0].numel()
    threads = min(cores(), lanes) if points > ALONE else 1

    def work(first: int) -> None:
        for r in range(first, lanes, threads):
            if goes_on[r]:
                own, on = slice(r, r + 1), names[3][r]
                still = Fixed(*(v[r] for v in fixed), *(np.ascontiguousarray(v[own, on]) for v in names))
                place = Place(x[own], rows[own], a[own], np.empty((1, *data.step.shape, states)))
                room = Room.of(place, still.term.shape[1])
                trial, closed = (Place(*(v.copy() for v in place)) for _ in range(2))
                knobs = float(penalty[r]), float(damping[r]), tolerance, *rival
                goes_on[r], penalty[r], damping[r] = _descend(
                    still, data, place, trial, closed, room, sigma[r], curvature[r], steps, *knobs
                )

    list(side_by_side([partial(work, k) for k in range(threads)], threads))
    return replace(state, law=replace(law, terms=Terms.from_table(table, law.d)))


def _shared(tensor: Tensor) -> Any:
    """Return an array that shares its numbers with a tensor."""
    assert tensor.is_contiguous(), "what is written in place must not be a copy"
    return tensor.detach().numpy()


@compiled
def _copy(source, target):
    for i in range(source.size):
        target.flat[i] = source.flat[i]


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
            directions[0, e, p] = place.coefficients[0, j, e] if law.is_entry[0, p] else law.directions[j, i, e]


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
    normal(room.columns, place.x, sigma, data, room.held, room.onto, room.total, room.starts)
    step(room.total, damping, room.step)
    some = False
    for k in range(segments):
        for i in range(s):
            start = place.x[0, k, 0, i]
            room.onto[k, i] = max(0.1 * start, data.lowest) - start
            room.held[k, i] = data.positive[i] and _start_step(room, k, i) < room.onto[k, i]
            some = some or room.held[k, i]
    if some:
        normal(room.columns, place.x, sigma, data, room.held, room.onto, room.total, room.starts)
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
    step(room.total, damping, room.step)
    reach = 0.5
    for p in range(len(room.step)):
        if law.is_entry[0, p]:
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
def _reweigh(place, data, room, sigma, number, gain, miss, tolerance):
    """Estimate sigma again every third step or when a lane slows down; tell whether it has settled."""
    slow = gain < tolerance
    spread(place, data, room.spread)
    if not (slow or number % 3 == 2) or not miss < 1e-2:
        return gain < 0.01 * tolerance
    change, least = 0.0, np.inf
    for e in range(len(sigma)):
        change = max(change, abs(np.log(room.spread[e] / sigma[e])))
        sigma[e] = min(max(room.spread[e], sigma[e] / 5), sigma[e] * 5)
        least = min(least, sigma[e])
    return slow and change < 0.02 and miss < 0.05 * least


@compiled
def _move_terms(law, data, place, step, shrink, moved):
    """Write rows and coefficients after a share of a step."""
    rows, coefficients = moved.rows[0], moved.coefficients[0]
    _copy(place.rows, moved.rows)
    _copy(place.coefficients, moved.coefficients)
    for p in range(len(step)):
        j, i, by = law.term[0, p], law.entry[0, p], step[p, 0] * shrink
        if law.is_entry[0, p]:
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
def _take(found, place):
    """Go to another place."""
    _copy(found.x, place.x)
    _copy(found.rows, place.rows)
    _copy(found.coefficients, place.coefficients)
    _copy(found.defects, place.defects)


@compiled
def _descend(law, data, place, trial, closed, room, sigma, hessian, steps, penalty, damping, tolerance, check, enough):
    """Take steps in one lane; return whether it goes on, its penalty and its damping."""
    names, grid = (law.term, law.entry, law.is_entry, law.valid), (data.step, data.positive, data.tiny, room.w)
    still, none = (room.no_names, room.no_rows, room.nowhere), room.no_columns
    sweep(place.rows, place.coefficients, *still, place.x, *grid, place.defects, none)
    merit, miss = judge(place, data, sigma, penalty)
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
            new, left = judge(trial, data, sigma, penalty)
            if not new < merit:
                sweep(trial.rows, trial.coefficients, *still, trial.x, *grid, trial.defects, room.way)
                _take(trial, closed)
                _close(trial, room.way, data, closed)
                sweep(closed.rows, closed.coefficients, *still, closed.x, *grid, closed.defects, none)
                other, nearer = judge(closed, data, sigma, penalty)
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
        merit, miss = judge(place, data, sigma, penalty)
        if not taken or settled:
            return False, penalty, damping
        if number == check - 1 and not data_term(data, room.spread) < enough:
            return False, penalty, damping
    return True, penalty, damping


__all__ = ["Setting", "descend"]
