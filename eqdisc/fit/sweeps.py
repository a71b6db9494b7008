r"""Sweeps: what `collocation` needs of its rule in compiled code, LANES points of one lane's segment at a time.

A lane's terms (`terms`) and their slopes come as vectors over points, then the defects and the linearised rule (`condensing`, whose letters
these are) step by step, so that nothing of a point is kept but what the next step needs. A step's system stands in one small array
[R | -L, -c, B], solved by Gauss-Jordan without pivots, since R is near the identity wherever steps are short enough to be of use.

Rows of the work array w, s states of d columns, m terms, `numbers` that move the field:
log|x| (d), d log|x| / dx (d), sign x (d; 1 where whole powers have none), terms (m), saturations (m), f (s), J (s s), g (numbers).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ..law.terms import Parameters, Terms
from ..work.compiler import compiled, inlined
from .vectors import LANES, absolute, aligned_rows, choose, exp, load, log, splat, store


def find_defects(
    terms: Terms, x: Float[Tensor, "R K M1 d"], states: int, h: Float[Tensor, "K M"], positive: Tensor, tiny: float
) -> Float[Tensor, "R K M s"]:
    """Return c, by which states on the grid miss the Hermite-Simpson rule with steps h; the first columns of x are states.

    >>> import torch
    >>> decay = Terms.of([(np.array([[1.0]]), np.array([[-1.0]]), None)])
    >>> x = torch.exp(-torch.arange(3.0, dtype=torch.float64)).view(1, 1, 3, 1)
    >>> find_defects(decay, x, 1, torch.ones(1, 2, dtype=torch.float64), torch.tensor([True]), 1e-5).round(decimals=4).ravel().tolist()
    [-0.0009, -0.0003]
    """
    nothing = x.new_zeros(len(x), states, 0)
    return _call(terms, None, None, nothing, x, h, positive, tiny, x.new_empty(0, 0, 0, 0, 0))


def propagate(
    terms: Terms,
    index: Parameters | None,
    trials: Float[Tensor, "L c"] | None,
    directions: Float[Tensor, "R s P+s*L"],
    x: Float[Tensor, "R K M1 d"],
    h: Float[Tensor, "K M"],
    positive: Tensor,
    tiny: float,
    starts: bool,
) -> Float[Tensor, "R K M1 s c"]:
    """Return the columns of `condensing.condense` for the numbers that `index` names, then each trial row's coefficients, equation by equation."""
    s, numbers = directions.shape[1:]
    columns = x.new_empty(*x.shape[:3], s, 1 + numbers + s * starts)
    _call(terms, index, trials, directions, x, h, positive, tiny, columns)
    return columns


def _call(
    terms: Terms,
    index: Parameters | None,
    trials: Tensor | None,
    directions: Tensor,
    x: Tensor,
    h: Tensor,
    positive: Tensor,
    tiny: float,
    columns: Tensor,
) -> Tensor:
    """Call the kernel and return the defects."""
    s, m = directions.shape[1], terms.exponents.shape[1]
    nothing = x.new_zeros(len(x), 0)
    places, truths = nothing.long(), nothing.bool()
    named = (index.term, index.state, index.is_exponent, index.valid) if index else (places, places, truths, truths)
    trials = terms.exponents.new_zeros(0, terms.exponents.shape[-1]) if trials is None else trials
    numbers = named[0].shape[1] + len(trials)
    w = aligned_rows(3 * x.shape[-1] + 2 * m + s + s * s + numbers + 1, np.dtype(float))  # the last row nobody reads
    defects = x.new_empty(*x.shape[:2], x.shape[2] - 1, s)
    law, points = arrays(terms.exponents, terms.coefficients), arrays(x, h, positive)
    sweep(*law, arrays(*named), *arrays(trials, directions), *points, tiny, w, *arrays(defects, columns))
    return defects


def arrays(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    """Return tensors as arrays that lie in one piece, without copies where they do."""
    return tuple(v.detach().contiguous().numpy() for v in tensors)


@inlined
def _write_logs(x, start, positive, tiny, w):
    """Write log|x|, its slope and signs at LANES points from `start` on."""
    d = x.shape[1]
    for i in range(d):
        for l in range(LANES):
            w[i * LANES + l] = x[start + l, i]
        signed = load(w, i)
        size = absolute(signed)
        size = choose(size < tiny, splat(tiny, w), size)
        store(w, i, log(size))
        sign = splat(1.0, w)
        if not positive[i]:
            sign = choose(signed < 0.0, splat(-1.0, w), sign)
            size = choose(size < 1e-9, splat(1e-9, w), size)
        store(w, d + i, sign / size)
        store(w, 2 * d + i, sign)


@inlined
def write_term(row, d, value, share, w):
    """Write a term and its saturation, zero where it is plain, to those rows."""
    size, sign = splat(0.0, w), splat(1.0, w)
    saturates = False
    for i in range(d):
        if row[i] != 0:
            size = size + row[i] * load(w, i)
            whole = np.rint(row[i]) if len(row) == d or row[2 * d + 1 + i] == 0 else row[2 * d + 1 + i]
            if abs(whole) % 2 == 1:
                sign = sign * load(w, 2 * d + i)
        saturates = saturates or (len(row) > d and row[d + i] != 0)
    store(w, share, splat(0.0, w))
    if saturates:
        gap = splat(row[2 * d], w)
        for i in range(d):
            gap = gap - row[d + i] * load(w, i)
        far = exp(gap)
        size = size - (row[2 * d] + log(1.0 + 1.0 / far))  # log(K + x**u)
        store(w, share, 1.0 / (1.0 + far))
    size = choose(size < -40.0, splat(-40.0, w), size)
    size = choose(size > 40.0, splat(40.0, w), size)
    store(w, value, sign * exp(size))


@inlined
def _write_field(rows, coefficients, d, w):
    """Write the terms that are used, their saturations and the field; return its row."""
    m, s = len(rows), coefficients.shape[1]
    values, shares, f = 3 * d, 3 * d + m, 3 * d + 2 * m
    for e in range(s):
        store(w, f + e, splat(0.0, w))
    for j in range(m):
        used = False
        for e in range(s):
            used = used or coefficients[j, e] != 0
        if used:
            write_term(rows[j], d, values + j, shares + j, w)
            for e in range(s):
                if coefficients[j, e] != 0:
                    store(w, f + e, load(w, f + e) + coefficients[j, e] * load(w, values + j))
    return f


@inlined
def _write_slopes(rows, coefficients, d, w):
    """Write J; return its row."""
    m, s = len(rows), coefficients.shape[1]
    values, shares, jacobian = 3 * d, 3 * d + m, 3 * d + 2 * m + s
    for q in range(s * s):
        store(w, jacobian + q, splat(0.0, w))
    for j in range(m):
        for i in range(s):
            lost = rows[j, d + i] if rows.shape[1] > d else 0.0
            if rows[j, i] != 0 or lost != 0:
                slope = (rows[j, i] - lost * load(w, shares + j)) * load(w, values + j) * load(w, d + i)
                for e in range(s):
                    if coefficients[j, e] != 0:
                        at = jacobian + e * s + i
                        store(w, at, load(w, at) + coefficients[j, e] * slope)
    return jacobian


@inlined
def write_named(index, d, values, shares, first, w):
    """Write how the numbers that `index` names move the field, from terms and saturations that are there, from row `first` on."""
    term, entry, is_exponent, valid = index
    for p in range(len(term)):
        g = splat(0.0, w)
        if valid[p]:
            g = load(w, values + term[p])
            column = entry[p]
            if is_exponent[p]:
                if column < d:
                    g = g * load(w, column)
                elif column < 2 * d:
                    g = g * load(w, shares + term[p]) * (0.0 - load(w, column - d))
                else:
                    g = g * (load(w, shares + term[p]) - 1.0)
        store(w, first + p, g)


@inlined
def _write_numbers(rows, s, index, trials, d, w):
    """Write how the numbers that `index` names and the trial terms' coefficients move the field; return the row."""
    m = len(rows)
    numbers = 3 * d + 2 * m + s + s * s
    write_named(index, d, 3 * d, 3 * d + m, numbers, w)
    for l in range(len(trials)):
        at = numbers + len(index[0]) + l
        write_term(trials[l], d, at, len(w) // LANES - 1, w)
    return numbers


@inlined
def _spread(w, row, out, start):
    """Write rows of vectors, the first of them `row`, point by point from `start` on."""
    for p in range(out.shape[1]):
        for l in range(LANES):
            out[start + l, p] = w[(row + p) * LANES + l]


@inlined
def _write_nodes(x, first, count, points):
    """Write LANES points from the first on behind the one that is there; the last again where there are fewer."""
    for l in range(LANES):
        for i in range(x.shape[1]):
            points[l + 1, i] = x[first + min(l, count - 1), i]


@inlined
def _write_middles(h, first, count, points, f):
    """Write x_m of the steps that end at the nodes behind these."""
    s = f.shape[1]
    for l in range(LANES):
        step = h[first + l - 1] if l < count and first + l > 0 else 0.0
        for i in range(points.shape[1]):
            points[LANES + l + 1, i] = (points[l, i] + points[l + 1, i]) / 2
            if i < s:
                points[LANES + l + 1, i] += step / 8 * (f[l, i] - f[l + 1, i])


@inlined
def _write_defect(h, x0, x1, f0, f1, fm, defect):
    for e in range(len(f0)):
        defect[e] = x1[e] - x0[e] - h / 6 * (f0[e] + 4 * fm[e] + f1[e])


@inlined
def _write_forcing(h, g0, g1, gm, named, bend, total):
    """Write what a number adds to a step, through its middle's slopes and without; a trial term has a number in every equation."""
    trials = len(g0) - named
    for q in range(len(g0)):
        through = h * h / 12 * (g0[q] - g1[q])
        without = h / 6 * (g0[q] + 4 * gm[q] + g1[q])
        for p in range(q, q + 1 if q < named else len(bend), max(trials, 1)):
            bend[p], total[p] = through, without


@inlined
def _write_system(h, defect, j0, j1, jm, bend, total, directions, system):
    s, numbers = directions.shape
    forced = 2 * s + 1
    for i in range(s):
        for j in range(s):
            before = after = 0.0
            for q in range(s):
                before += jm[i * s + q] * j0[q * s + j]
                after += jm[i * s + q] * j1[q * s + j]
            one = 1.0 if i == j else 0.0
            system[i, j] = one - h / 6 * (j1[i * s + j] + 2 * jm[i * s + j] - h / 2 * after)
            system[i, s + j] = one + h / 6 * (j0[i * s + j] + 2 * jm[i * s + j] + h / 2 * before)
        system[i, 2 * s] = -defect[i]
        for p in range(numbers):
            system[i, forced + p] = total[p] * directions[i, p]
        for q in range(s):
            slope = jm[i * s + q]
            for p in range(numbers):
                system[i, forced + p] += slope * (bend[p] * directions[q, p])


@inlined
def _eliminate(system, s):
    width = system.shape[1]
    for i in range(s):
        pivot = system[i, i]
        inverse = 1.0 / (1e-300 if abs(pivot) < 1e-300 else pivot)
        for c in range(i + 1, width):
            system[i, c] *= inverse
        for j in range(s):
            if j != i:
                factor = system[j, i]
                for c in range(i + 1, width):
                    system[j, c] -= factor * system[i, c]


@inlined
def _begin(out, forced):
    """Write the columns at a segment's start, which moves as itself."""
    for i in range(out.shape[0]):
        for c in range(out.shape[1]):
            out[i, c] = 1.0 if c == forced + i else 0.0


@inlined
def _advance(system, before, after, forced):
    """Write the columns after a step from those before it."""
    s, columns = after.shape
    for i in range(s):
        for c in range(columns):
            after[i, c] = system[i, 2 * s + c] if c < forced else 0.0
        for q in range(s):
            factor = system[i, s + q]
            for c in range(columns):
                after[i, c] += factor * before[q, c]


@compiled
def sweep(rows, coefficients, index, trials, directions, x, h, positive, tiny, w, defects, columns):
    """Fill `defects` (R, K, M, s) of states x (R, K, M1, d) and, unless it is empty, `columns` (R, K, M1, s, c) as `condensing.condense` says.

    Numbers are those that `index` names (term, entry, is it an exponent, does it count; each (R, P)), then coefficients of the trial
    rows (L, c), an equation after the other; `directions` (R, s, P + s L).
    """
    lanes, segments, points, d = x.shape
    s, numbers, named, linear = defects.shape[3], directions.shape[2], index[0].shape[1], columns.size > 0
    place = np.zeros((2 * LANES + 1, d))  # the last node before, LANES nodes, the middles of the steps to them
    f, j, g = (
        np.zeros((2 * LANES + 1, s)),
        np.zeros((2 * LANES + 1, s * s)),
        np.zeros((2 * LANES + 1, named + len(trials))),
    )
    system, bend, total = np.empty((s, 2 * s + 1 + numbers)), np.empty(numbers), np.empty(numbers)
    for r in range(lanes):
        law = rows[r], coefficients[r, :, :s], d, w
        moved = rows[r], s, (index[0][r], index[1][r], index[2][r], index[3][r]), trials, d, w
        for k in range(segments):
            if linear:
                _begin(columns[r, k, 0], 1 + numbers)
            for first in range(0, points, LANES):
                count = min(LANES, points - first)
                _write_nodes(x[r, k], first, count, place)
                for start in (1, LANES + 1):
                    if start > 1:
                        _write_middles(h[k], first, count, place, f)
                    _write_logs(place, start, positive, tiny, w)
                    _spread(w, _write_field(*law), f, start)
                    if linear:
                        _spread(w, _write_slopes(*law), j, start)
                        _spread(w, _write_numbers(*moved), g, start)
                for l in range(1 if first == 0 else 0, count):
                    n, m = first + l, LANES + 1 + l
                    step, defect = h[k, n - 1], defects[r, k, n - 1]
                    _write_defect(step, place[l], place[l + 1], f[l], f[l + 1], f[m], defect)
                    if linear:
                        _write_forcing(step, g[l], g[l + 1], g[m], named, bend, total)
                        _write_system(step, defect, j[l], j[l + 1], j[m], bend, total, directions[r], system)
                        _eliminate(system, s)
                        _advance(system, columns[r, k, n - 1], columns[r, k, n], 1 + numbers)
                place[0], f[0], j[0], g[0] = place[LANES], f[LANES], j[LANES], g[LANES]


__all__ = ["arrays", "find_defects", "propagate", "sweep", "write_named", "write_term"]
