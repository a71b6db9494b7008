r"""Projections: the variable projection of `regression` in compiled code, one lane after the other.

With the terms' integrals as unit columns C of an equation's rows y, J those of their slopes in the free exponents, times coefficients,

    a = (C^T C)^-1 C^T y,      r = y - C a,      J <- J - C (C^T C)^-1 C^T J,      (J^T J + damping) step = J^T r

(Golub & Pereyra, SIAM J. Numer. Anal. 10, 1973; Kaufman, BIT 15, 1975). An integral is a running sum that is centred over its window and
averaged in blocks, so that a column costs what its nodes do. A step that does not help leaves J as it was.

Terms at the nodes lie in `points`' work array, LANES nodes at a time; the slopes of free numbers follow the saturations.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from ..work.compiler import compiled
from .damping import HOPELESS, LONGEST, LOST_SUM, RIDGE, SETTLED
from .points import field_row, limits, shares_row, signs_row, values_row, write_named, write_term
from .rule import Rule
from .squares import eliminate
from .vectors import LANES, aligned_rows

Names = tuple[np.ndarray, ...]


def fit_lanes(
    rows: Float[np.ndarray, "b m c"],
    active: Bool[np.ndarray, "b m"],
    names: Names,
    nodes: tuple[Float[np.ndarray, "nodes d"], Float[np.ndarray, "nodes d"]],
    rule: Rule,
    y: Float[np.ndarray, "n"],
    bounds: tuple[float, float],
    steps: int,
) -> tuple[Float[np.ndarray, "b m c"], Float[np.ndarray, "b m"], Float[np.ndarray, "b"]]:
    """Fit the entries of a table of terms that `names` say (term, entry, is it one of the table, is there one; each (b, p)) to the rows y of
    one equation, exponents within bounds.

    Returns the table, coefficients and residual sums. `nodes` are log|x| and the signs of x there.

    >>> from eqdisc.fit.points import no_names
    >>> t = np.linspace(0.0, 1.0, 9)
    >>> rule = Rule(np.full((1, 8, 1), 1 / 8), np.full((1, 9), 1 / 9), np.ones((1, 9)), 1)
    >>> given = np.zeros((1, 1, 4)), np.ones((1, 1), bool), no_names(1), (np.zeros((8, 1)), np.ones((8, 1)))
    >>> fit_lanes(*given, rule, 3 * (t - 0.5), (-3.0, 3.0), steps=1)[1].round(6).tolist()
    [[3.0]]
    """
    n, d = nodes[0].shape
    chunks, width = -(-n // LANES), field_row.py_func(d, rows.shape[1]) + names[0].shape[1]
    w = aligned_rows(chunks * width, np.dtype(float)).reshape(chunks, width, LANES)
    for first, values in zip((0, signs_row.py_func(d)), nodes, strict=True):
        w[:, first : first + d] = np.pad(values, ((0, chunks * LANES - n), (0, 0))).reshape(chunks, LANES, d).mT
    flat, running, reach = np.empty(chunks * LANES), np.empty(rule.share.shape[1]), limits(bounds, d)
    sight = Sight(
        rule.quadrature, rule.share, rule.scale, rule.block, y, *reach, w.reshape(chunks, -1), d, flat, running
    )
    found = rows.copy(), np.zeros(active.shape), np.zeros(len(rows))
    counts = names[3].sum(1)
    for count in np.unique(
        counts
    ):  # lanes with as many free entries use the same arrays; those that are there come first
        lanes = np.flatnonzero(counts == count)
        _fit(lanes, *found, active, names, sight, Room.of(len(y), rows.shape[1], rows.shape[2], int(count)), steps)
    return found


class Sight(NamedTuple):
    """What an equation sees of terms at the nodes, and how."""

    quadrature: Float[np.ndarray, "w steps order"]
    share: Float[np.ndarray, "w samples"]
    scale: Float[np.ndarray, "w samples"]
    block: int
    y: Float[np.ndarray, "n"]
    low: Float[np.ndarray, "c"]
    high: Float[np.ndarray, "c"]
    w: Float[np.ndarray, "chunks rows"]
    d: int
    flat: Float[np.ndarray, "nodes"]
    running: Float[np.ndarray, "samples"]


class Room(NamedTuple):
    """Arrays that one lane is worked out in."""

    columns: Float[np.ndarray, "n m"]
    norm: Float[np.ndarray, "m"]
    a: Float[np.ndarray, "m 1"]
    residual: Float[np.ndarray, "n 1"]
    gram: Float[np.ndarray, "m m"]
    scratch: Float[np.ndarray, "m m"]
    slopes: Float[np.ndarray, "n p"]
    cross: Float[np.ndarray, "m p"]
    hessian: Float[np.ndarray, "p p"]
    lifted: Float[np.ndarray, "p p"]
    gradient: Float[np.ndarray, "p 1"]
    step: Float[np.ndarray, "p 1"]
    moved: Float[np.ndarray, "m c"]

    @classmethod
    def of(cls, n: int, m: int, c: int, p: int) -> Room:
        shapes = (n, m), (m,), (m, 1), (n, 1), (m, m), (m, m), (n, p), (m, p), (p, p), (p, p), (p, 1), (p, 1), (m, c)
        return cls._make(np.empty(shape) for shape in shapes)


@compiled
def _integrate(sight, row, out, place):
    """Write how the equation sees the function in one row of the work array to a column."""
    windows, steps, order = sight.quadrature.shape
    rows, running = len(out) // windows, sight.running
    for c in range(len(sight.w)):
        for l in range(LANES):
            sight.flat[c * LANES + l] = sight.w[c, row * LANES + l]
    for k in range(windows):
        first = k * steps * order
        running[0] = 0.0
        for n in range(steps):
            total = 0.0
            for o in range(order):
                total += sight.quadrature[k, n, o] * sight.flat[first + n * order + o]
            running[n + 1] = total
        mean = 0.0
        for n in range(steps):
            running[n + 1] += running[n]
            mean += sight.share[k, n + 1] * running[n + 1]
        for r in range(rows):
            total = 0.0
            for n in range(r * sight.block, min((r + 1) * sight.block, steps + 1)):
                total += sight.scale[k, n] * (running[n] - mean)
            out[k * rows + r, place] = total


@compiled
def _multiply(a, b, out):
    """Write a^T b."""
    for p in range(out.shape[0]):
        for q in range(out.shape[1]):
            out[p, q] = 0.0
    for n in range(a.shape[0]):
        for p in range(a.shape[1]):
            for q in range(b.shape[1]):
                out[p, q] += a[n, p] * b[n, q]


@compiled
def _copy(source, target):
    for p in range(source.shape[0]):
        for q in range(source.shape[1]):
            target[p, q] = source[p, q]


@compiled
def _subtract(columns, weights, out):
    """Take columns @ weights from `out`."""
    for n in range(len(out)):
        for j in range(len(weights)):
            for q in range(out.shape[1]):
                out[n, q] -= columns[n, j] * weights[j, q]


@compiled
def _write_terms(rows, active, w, d):
    """Write the terms that are there and their saturations at all nodes."""
    m = len(active)
    for k in range(len(w)):
        for j in range(m):
            if active[j]:
                write_term(rows[j], d, values_row(d) + j, shares_row(d, m) + j, w[k])


@compiled
def _write_slopes(names, w, d, m):
    """Write how the numbers move the terms at all nodes."""
    for k in range(len(w)):
        write_named(names, d, m, field_row(d, m), w[k])


@compiled
def _lay_columns(active, sight, room):
    """Write the terms' integrals as unit columns, and their lengths; zeros for terms that are not there."""
    n, m = room.columns.shape
    for j in range(m):
        total = 0.0
        if active[j]:
            _integrate(sight, values_row(sight.d) + j, room.columns, j)
            for r in range(n):
                total += room.columns[r, j] ** 2
        room.norm[j] = np.sqrt(total) + 1e-12 if active[j] else 1.0
        for r in range(n):
            room.columns[r, j] = room.columns[r, j] / room.norm[j] if active[j] else 0.0


@compiled
def _solve(rows, active, sight, room):
    """Write columns, coefficients, what these leave, and C^T C of a lane's terms; return the residual sum."""
    _write_terms(rows, active, sight.w, sight.d)
    _lay_columns(active, sight, room)
    _multiply(room.columns, room.columns, room.gram)
    for j in range(len(active)):
        room.gram[j, j] += RIDGE if active[j] else 1.0
    for r in range(len(sight.y)):
        room.residual[r, 0] = sight.y[r]
    _multiply(room.columns, room.residual, room.a)
    _copy(room.gram, room.scratch)
    eliminate(room.scratch, room.a)
    _subtract(room.columns, room.a, room.residual)
    rss = 0.0
    for r in range(len(sight.y)):
        rss += room.residual[r, 0] ** 2
    for j in range(len(active)):
        rss += RIDGE * room.a[j, 0] ** 2
    return rss if np.isfinite(rss) else LOST_SUM


@compiled
def _linearise(names, sight, room):
    """Write J^T J and J^T r of a lane's free numbers from the terms that `_solve` left."""
    m, numbers = room.cross.shape
    _write_slopes(names, sight.w, sight.d, m)
    for p in range(numbers):
        _integrate(sight, field_row(sight.d, m) + p, room.slopes, p)
        scale = room.a[names[0][p], 0] / room.norm[names[0][p]]
        for r in range(len(room.slopes)):
            room.slopes[r, p] *= scale
    _multiply(room.columns, room.slopes, room.cross)
    _copy(room.gram, room.scratch)
    eliminate(room.scratch, room.cross)
    _subtract(room.columns, room.cross, room.slopes)
    _multiply(room.slopes, room.slopes, room.hessian)
    _multiply(room.slopes, room.residual, room.gradient)


@compiled
def _move(names, rows, damping, sight, room):
    """Write the rows after a damped step, inside their limits."""
    numbers, most = len(room.hessian), 1e-30
    for p in range(numbers):
        most = max(most, room.hessian[p, p])
    _copy(room.hessian, room.lifted)
    for p in range(numbers):
        room.lifted[p, p] += damping * room.hessian[p, p] + 1e-9 * most
    _copy(room.gradient, room.step)
    eliminate(room.lifted, room.step)
    _copy(rows, room.moved)
    for p in range(numbers):
        j, i, by = names[0][p], names[1][p], room.step[p, 0]
        if by == by and by != 0.0:
            to = rows[j, i] + min(max(by, -LONGEST), LONGEST)
            room.moved[j, i] = min(max(to, sight.low[i]), sight.high[i])


@compiled
def _take(room, coefficients):
    for j in range(len(coefficients)):
        coefficients[j] = room.a[j, 0] / room.norm[j]


@compiled
def _fit(lanes, rows, coefficients, rss, active, names, sight, room, steps):
    """Fit the rows of lanes in place, with their coefficients and residual sums."""
    numbers = len(room.hessian)
    for lane in lanes:
        real = names[3][lane, :numbers]
        own = names[0][lane, :numbers], names[1][lane, :numbers], real, real
        now = _solve(rows[lane], active[lane], sight, room)
        _take(room, coefficients[lane])
        damping, fresh = 1e-2, True
        for _ in range(steps if numbers else 0):
            if fresh:
                _linearise(own, sight, room)
            _move(own, rows[lane], damping, sight, room)
            trial = _solve(room.moved, active[lane], sight, room)
            fresh = trial < now
            damping *= 0.2 if fresh else 6.0
            gain = (now - trial) / max(now, 1e-300) if fresh else 1.0
            if fresh:
                now = trial
                _copy(room.moved, rows[lane])
                _take(room, coefficients[lane])
            if gain < SETTLED or damping > HOPELESS:
                break
        rss[lane] = now


__all__ = ["fit_lanes"]
