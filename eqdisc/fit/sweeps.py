r"""Sweeps: what `collocation` needs of its rule in compiled code, LANES points of one lane's segment at a time.

A law's terms and their slopes come as vectors over points (`points`), then the defects and the linearised rule (`condensing`, whose letters
these are) step by step, so that nothing of a point is kept but what the next step needs. A step's system stands in one small array
[R | -L, -c, B], solved by Gauss-Jordan without pivots, since R is near the identity wherever steps are short enough to be of use.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ..law.law import Law, Numbers
from ..law.terms import Terms
from ..work.compiler import compiled, inlined
from .points import arrays, names_of, no_names, work_rows, write_field, write_logs, write_numbers, write_slopes
from .vectors import LANES


def find_defects(
    law: Law, x: Float[Tensor, "R K M1 d"], states: int, h: Float[Tensor, "K M"], positive: Tensor, tiny: float
) -> Float[Tensor, "R K M s"]:
    """Return c, by which states on the grid miss the Hermite-Simpson rule with steps h; the first columns of x are states.

    >>> import torch
    >>> decay = Law.stack([Law.of(Terms.of([[1.0]]), [[-1.0]])])
    >>> x = torch.exp(-torch.arange(3.0, dtype=torch.float64)).view(1, 1, 3, 1)
    >>> find_defects(decay, x, 1, torch.ones(1, 2, dtype=torch.float64), torch.tensor([True]), 1e-5).round(decimals=4).ravel().tolist()
    [-0.0009, -0.0003]
    """
    nothing = x.new_zeros(len(x), states, 0)
    return _call(law, None, None, nothing, x, h, positive, tiny, x.new_empty(0, 0, 0, 0, 0))


def propagate(
    law: Law,
    numbers: Numbers | None,
    trials: Terms | None,
    directions: Float[Tensor, "R s P+s*L"],
    x: Float[Tensor, "R K M1 d"],
    h: Float[Tensor, "K M"],
    positive: Tensor,
    tiny: float,
    starts: bool,
) -> Float[Tensor, "R K M1 s c"]:
    """Return the columns of `condensing.condense` for the numbers, then each trial term's coefficients, equation by equation."""
    s, moved = directions.shape[1:]
    columns = x.new_empty(*x.shape[:3], s, 1 + moved + s * starts)
    _call(law, numbers, trials, directions, x, h, positive, tiny, columns)
    return columns


def _call(
    law: Law,
    numbers: Numbers | None,
    trials: Terms | None,
    directions: Tensor,
    x: Tensor,
    h: Tensor,
    positive: Tensor,
    tiny: float,
    columns: Tensor,
) -> Tensor:
    """Call the kernel and return the defects."""
    s, (m, d) = directions.shape[1], law.terms.exponents.shape[1:]
    names = no_names(len(x)) if numbers is None else names_of(numbers, d)
    extra = (law.terms[0][:0] if trials is None else trials).table()
    w = work_rows(d, m, s, names[0].shape[1] + len(extra))
    defects = x.new_empty(*x.shape[:2], x.shape[2] - 1, s)
    own, points = arrays(law.terms.table(), law.coefficients), arrays(x, h, positive)
    sweep(*own, names, *arrays(extra, directions), *points, tiny, w, *arrays(defects, columns))
    return defects


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
def sweep(rows, coefficients, names, trials, directions, x, h, positive, tiny, w, defects, columns):
    """Fill `defects` (R, K, M, s) of states x (R, K, M1, d) and, unless it is empty, `columns` (R, K, M1, s, c) as `condensing.condense` says.

    Rows (R, m, c) are the table of terms; numbers are `names` (term, entry, is it one of the table, is it there; each (R, P)), then
    coefficients of the trial rows (L, c), an equation after the other; `directions` (R, s, P + s L).
    """
    lanes, segments, points, d = x.shape
    s, moved, named, linear = defects.shape[3], directions.shape[2], names[0].shape[1], columns.size > 0
    m, extra = coefficients.shape[1], named + len(trials)
    place = np.zeros((2 * LANES + 1, d))  # the last node before, LANES nodes, the middles of the steps to them
    f, j, g = np.zeros((2 * LANES + 1, s)), np.zeros((2 * LANES + 1, s * s)), np.zeros((2 * LANES + 1, extra))
    system, bend, total = np.empty((s, 2 * s + 1 + moved)), np.empty(moved), np.empty(moved)
    for r in range(lanes):
        law = rows[r], coefficients[r, :, :s], d, w
        numbers = (names[0][r], names[1][r], names[2][r], names[3][r]), trials, d, m, s, w
        for k in range(segments):
            if linear:
                _begin(columns[r, k, 0], 1 + moved)
            for first in range(0, points, LANES):
                count = min(LANES, points - first)
                _write_nodes(x[r, k], first, count, place)
                for start in (1, LANES + 1):
                    if start > 1:
                        _write_middles(h[k], first, count, place, f)
                    write_logs(place, start, positive, tiny, w)
                    _spread(w, write_field(*law), f, start)
                    if linear:
                        _spread(w, write_slopes(*law), j, start)
                        _spread(w, write_numbers(*numbers), g, start)
                for l in range(1 if first == 0 else 0, count):
                    n, middle = first + l, LANES + 1 + l
                    step, defect = h[k, n - 1], defects[r, k, n - 1]
                    _write_defect(step, place[l], place[l + 1], f[l], f[l + 1], f[middle], defect)
                    if linear:
                        _write_forcing(step, g[l], g[l + 1], g[middle], named, bend, total)
                        _write_system(step, defect, j[l], j[l + 1], j[middle], bend, total, directions[r], system)
                        _eliminate(system, s)
                        _advance(system, columns[r, k, n - 1], columns[r, k, n], 1 + moved)
                place[0], f[0], j[0], g[0] = place[LANES], f[LANES], j[LANES], g[LANES]


__all__ = ["find_defects", "propagate", "sweep"]
