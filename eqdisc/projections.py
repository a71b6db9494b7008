r"""Projections: the variable projection of `regression` in compiled code, one lane after the other.

With the terms' integrals as unit columns C of an equation's rows y, J those of their slopes in the free exponents, times coefficients,

    a = (C^T C)^-1 C^T y,      r = y - C a,      J <- J - C (C^T C)^-1 C^T J,      (J^T J + damping) step = J^T r

(Golub & Pereyra, SIAM J. Numer. Anal. 10, 1973; Kaufman, BIT 15, 1975). An integral is a running sum that is centred over its window and
averaged in blocks, so that a column costs what its nodes do. A step that does not help leaves J as it was.

Rows of the work array, LANES nodes at a time, for d states, m terms and p free exponents: log|x| (d), nothing (d), sign x (d), terms (m),
saturations (m), slopes (p).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from .compiler import compiled
from .sweeps import _write_named, _write_term
from .vectors import LANES, aligned_rows

if TYPE_CHECKING:
    from .regression import Rule

RIDGE = 1e-15
LOST = 1e9  # the residual sum of a lane that has no solution
SETTLED, HOPELESS = 1e-5, 1e3  # relative gain, and damping, at which a lane ends
LONGEST = 0.5  # step of an exponent


def fit_lanes(
    rows: Float[np.ndarray, "b m c"],
    active: Bool[np.ndarray, "b m"],
    index: tuple[Int[np.ndarray, "b p"], Int[np.ndarray, "b p"], Bool[np.ndarray, "b p"]],
    nodes: tuple[Float[np.ndarray, "nodes d"], Float[np.ndarray, "nodes d"]],
    rule: Rule,
    y: Float[np.ndarray, "n"],
    limits: tuple[Float[np.ndarray, "c"], Float[np.ndarray, "c"]],
    steps: int,
) -> tuple[Float[np.ndarray, "b m c"], Float[np.ndarray, "b m"], Float[np.ndarray, "b"]]:
    """Fit the entries of rows that `index` names (term, column, is there one), within limits, to the rows y of one equation.

    Returns rows, coefficients and residual sums. `nodes` are log|x| and the signs of x there.

    >>> from eqdisc.regression import Rule
    >>> t = np.linspace(0.0, 1.0, 9)
    >>> rule = Rule(np.full((1, 8, 1), 1 / 8), np.full((1, 9), 1 / 9), np.ones((1, 9)), 1)
    >>> nothing = np.zeros((1, 0), int), np.zeros((1, 0), int), np.zeros((1, 0), bool)
    >>> nodes, limits = (np.zeros((8, 1)), np.ones((8, 1))), (np.array([-3.0]), np.array([3.0]))
    >>> given = np.zeros((1, 1, 1)), np.ones((1, 1), bool), nothing, nodes
    >>> fit_lanes(*given, rule, 3 * (t - 0.5), limits, steps=1)[1].round(6).tolist()
    [[3.0]]
    """
    n, d = nodes[0].shape
    chunks, width = -(-n // LANES), 3 * d + 2 * rows.shape[1] + index[0].shape[1]
    w = aligned_rows(chunks * width, np.dtype(float)).reshape(chunks, width, LANES)
    for first, values in zip((0, 2 * d), nodes, strict=True):
        w[:, first : first + d] = np.pad(values, ((0, chunks * LANES - n), (0, 0))).reshape(chunks, LANES, d).mT
    found = rows.copy(), np.zeros(active.shape), np.zeros(len(rows))
    seen = rule.quadrature, rule.share, rule.scale, rule.block
    _fit(*found, active, *index, *seen, y, *limits, steps, w.reshape(chunks, -1), d)
    return found


@compiled
def _integrate(w, row, quadrature, share, scale, block, flat, running, out, place):
    """Write how an equation sees the function in one row of the work array to a column."""
    windows, steps, order = quadrature.shape
    rows = len(out) // windows
    for c in range(len(w)):
        for l in range(LANES):
            flat[c * LANES + l] = w[c, row * LANES + l]
    for k in range(windows):
        first = k * steps * order
        running[0] = 0.0
        for n in range(steps):
            total = 0.0
            for o in range(order):
                total += quadrature[k, n, o] * flat[first + n * order + o]
            running[n + 1] = total
        mean = 0.0
        for n in range(steps):
            running[n + 1] += running[n]
            mean += share[k, n + 1] * running[n + 1]
        for r in range(rows):
            total = 0.0
            for n in range(r * block, min((r + 1) * block, steps + 1)):
                total += scale[k, n] * (running[n] - mean)
            out[k * rows + r, place] = total


@compiled
def _multiply(a, b, out):
    """Write a^T b."""
    out[:] = 0.0
    for n in range(a.shape[0]):
        for p in range(a.shape[1]):
            for q in range(b.shape[1]):
                out[p, q] += a[n, p] * b[n, q]


@compiled
def _eliminate(matrix, right):
    """Solve matrix x = right in place, by elimination with the largest pivot of each column."""
    size = len(matrix)
    for i in range(size):
        best = i
        for j in range(i + 1, size):
            if abs(matrix[j, i]) > abs(matrix[best, i]):
                best = j
        if best != i:
            for c in range(size):
                matrix[i, c], matrix[best, c] = matrix[best, c], matrix[i, c]
            for c in range(right.shape[1]):
                right[i, c], right[best, c] = right[best, c], right[i, c]
        inverse = 1.0 / matrix[i, i]
        for c in range(i, size):
            matrix[i, c] *= inverse
        for c in range(right.shape[1]):
            right[i, c] *= inverse
        for j in range(size):
            factor = matrix[j, i]
            if j != i and factor != 0.0:
                for c in range(i, size):
                    matrix[j, c] -= factor * matrix[i, c]
                for c in range(right.shape[1]):
                    right[j, c] -= factor * right[i, c]


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
    m = len(rows)
    for k in range(len(w)):
        for j in range(m):
            if active[j]:
                _write_term(rows[j], d, 3 * d + j, 3 * d + m + j, w[k])


@compiled
def _write_slopes(index, w, d, m):
    """Write how the entries that `index` names move the terms at all nodes."""
    for k in range(len(w)):
        _write_named(index, d, 3 * d, 3 * d + m, 3 * d + 2 * m, w[k])


@compiled
def _solve(rows, active, rule, y, w, d, columns, norm, a, residual, gram, scratch):
    """Write the columns of a lane's terms, their lengths and coefficients, what these leave, and C^T C; return the residual sum."""
    m = len(rows)
    _write_terms(rows, active, w, d)
    for j in range(m):
        norm[j] = 1.0
        columns[:, j] = 0.0
        if active[j]:
            _integrate(w, 3 * d + j, *rule, columns, j)
            norm[j] = np.sqrt(np.sum(columns[:, j] ** 2)) + 1e-12
            columns[:, j] /= norm[j]
    _multiply(columns, columns, gram)
    for j in range(m):
        gram[j, j] += RIDGE if active[j] else 1.0
    residual[:, 0] = y
    _multiply(columns, residual, a)
    scratch[:] = gram
    _eliminate(scratch, a)
    _subtract(columns, a, residual)
    rss = np.sum(residual**2) + RIDGE * np.sum(a**2)
    return rss if np.isfinite(rss) else LOST


@compiled
def _linearise(rows, index, rule, w, d, columns, norm, a, residual, gram, scratch, slopes, cross, hessian, gradient):
    """Write J^T J and J^T r of a lane's free exponents from the terms that `_solve` left."""
    m, numbers = len(rows), len(index[0])
    _write_slopes(index, w, d, m)
    for p in range(numbers):
        _integrate(w, 3 * d + 2 * m + p, *rule, slopes, p)
        slopes[:, p] *= a[index[0][p], 0] / norm[index[0][p]]
    _multiply(columns, slopes, cross)
    scratch[:] = gram
    _eliminate(scratch, cross)
    _subtract(columns, cross, slopes)
    _multiply(slopes, slopes, hessian)
    _multiply(slopes, residual, gradient)


@compiled
def _move(hessian, gradient, index, damping, low, high, rows, lifted, step, moved):
    """Write the rows after a damped step, inside their limits."""
    numbers, most = len(hessian), 1e-30
    for p in range(numbers):
        most = max(most, hessian[p, p])
    lifted[:] = hessian
    for p in range(numbers):
        lifted[p, p] += damping * hessian[p, p] + 1e-9 * most
    step[:] = gradient
    _eliminate(lifted, step)
    moved[:] = rows
    for p in range(numbers):
        j, i = index[0][p], index[1][p]
        by = step[p, 0]
        if by == by and by != 0.0:
            moved[j, i] = min(max(rows[j, i] + min(max(by, -LONGEST), LONGEST), low[i]), high[i])


@compiled
def _fit(
    rows, coefficients, rss, active, term, column, valid, quadrature, share, scale, block, y, low, high, steps, w, d
):
    """Fit the rows of every lane in place, with their coefficients and residual sums."""
    lanes, m, c = rows.shape
    n, samples = len(y), share.shape[1]
    running = np.empty(samples)
    columns, norm, a, residual = np.empty((n, m)), np.empty(m), np.empty((m, 1)), np.empty((n, 1))
    gram, scratch, moved = np.empty((m, m)), np.empty((m, m)), np.empty((m, c))
    rule = quadrature, share, scale, block, np.empty(w.shape[0] * LANES), running
    for lane in range(lanes):
        on = valid[lane]
        own = term[lane][on], column[lane][on], on[on], on[on]
        numbers = len(own[0])
        slopes, cross, gradient, step = (
            np.empty((n, numbers)),
            np.empty((m, numbers)),
            np.empty((numbers, 1)),
            np.empty((numbers, 1)),
        )
        hessian, lifted = np.empty((numbers, numbers)), np.empty((numbers, numbers))
        now = _solve(rows[lane], active[lane], rule, y, w, d, columns, norm, a, residual, gram, scratch)
        coefficients[lane] = a[:, 0] / norm
        damping, fresh = 1e-2, True
        for _ in range(steps if numbers else 0):
            if fresh:
                _linearise(
                    rows[lane],
                    own,
                    rule,
                    w,
                    d,
                    columns,
                    norm,
                    a,
                    residual,
                    gram,
                    scratch,
                    slopes,
                    cross,
                    hessian,
                    gradient,
                )
            _move(hessian, gradient, own, damping, low, high, rows[lane], lifted, step, moved)
            trial = _solve(moved, active[lane], rule, y, w, d, columns, norm, a, residual, gram, scratch)
            fresh = trial < now
            damping *= 0.2 if fresh else 6.0
            gain = (now - trial) / max(now, 1e-300) if fresh else 1.0
            if fresh:
                now = trial
                rows[lane] = moved
                coefficients[lane] = a[:, 0] / norm
            if gain < SETTLED or damping > HOPELESS:
                break
        rss[lane] = now


__all__ = ["Rule", "fit_lanes"]
