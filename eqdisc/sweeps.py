r"""Sweeps: the forward recursion of `condensing` in compiled code, one step of one lane's segment after the other.

The letters are those of `condensing`; a step's system stands in one small array [R | -L, -c, B], solved by Gauss-Jordan without pivots, since R is
near the identity wherever steps are short enough to be of use. Columns lie one beside the other, so that the compiler works on several at once.
"""

from __future__ import annotations

import numpy as np

from .kernels import compiled, inlined


@inlined
def _add(factor, row, to):
    for c in range(len(to)):
        to[c] += factor * row[c]


@inlined
def _write_system(h, defect, j0, j1, jm, bend, total, directions, system):
    s, numbers = directions.shape
    for i in range(s):
        for j in range(s):
            before = after = 0.0
            for q in range(s):
                before += jm[i, q] * j0[q, j]
                after += jm[i, q] * j1[q, j]
            one = 1.0 if i == j else 0.0
            system[i, j] = one - h / 6 * (j1[i, j] + 2 * jm[i, j] - h / 2 * after)
            system[i, s + j] = one + h / 6 * (j0[i, j] + 2 * jm[i, j] + h / 2 * before)
        system[i, 2 * s] = -defect[i]
        forced, along = system[i, 2 * s + 1 :], directions[i]
        for p in range(numbers):
            forced[p] = total[p] * along[p]
        for q in range(s):
            slope, along = jm[i, q], directions[q]
            for p in range(numbers):
                forced[p] += slope * (bend[p] * along[p])


@inlined
def _eliminate(system, s):
    for i in range(s):
        pivot = system[i, i]
        inverse = 1.0 / (1e-300 if abs(pivot) < 1e-300 else pivot)
        row = system[i, i + 1 :]
        for c in range(len(row)):
            row[c] *= inverse
        for j in range(s):
            if j != i:
                _add(-system[j, i], row, system[j, i + 1 :])


@compiled
def sweep(h, defects, j, jm, g, gm, directions, out):
    """Fill `out` (R, K, M1, s, c) as `condensing.condense` says, from arrays shaped as its tensors."""
    lanes, segments, points, s, columns = out.shape
    numbers = g.shape[-1]
    forced = 1 + numbers
    system, bend, total = np.empty((s, 2 * s + forced)), np.empty(numbers), np.empty(numbers)
    for r in range(lanes):
        for k in range(segments):
            out[r, k, 0] = 0.0
            for i in range(columns - forced):
                out[r, k, 0, i, forced + i] = 1.0
            for n in range(points - 1):
                step, before, after, between = h[k, n], g[r, k, n], g[r, k, n + 1], gm[r, k, n]
                for p in range(numbers):
                    bend[p] = step * step / 12 * (before[p] - after[p])
                    total[p] = step / 6 * (before[p] + 4 * between[p] + after[p])
                slopes = j[r, k, n], j[r, k, n + 1], jm[r, k, n]
                _write_system(step, defects[r, k, n], *slopes, bend, total, directions[r], system)
                _eliminate(system, s)
                former, now = out[r, k, n], out[r, k, n + 1]
                for i in range(s):
                    now[i, :forced] = system[i, 2 * s :]
                    now[i, forced:] = 0.0
                    for q in range(s):
                        _add(system[i, s + q], former[q], now[i])


__all__ = ["sweep"]
