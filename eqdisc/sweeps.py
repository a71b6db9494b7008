r"""Sweeps: the forward recursion of `condensing` in compiled code, one step of one lane's segment after the other.

The letters are those of `condensing`; a step's system stands in one small array [R | -L, -c, B], solved by Gauss-Jordan without pivots, since R is
near the identity wherever steps are short enough to be of use. Columns lie one beside the other, so that the compiler works on several at once.
"""

from __future__ import annotations

import numpy as np

from .compiler import compiled, inlined


@inlined
def _write_system(h, defect, j0, j1, jm, bend, total, directions, system):
    s, numbers = directions.shape
    forced = 2 * s + 1
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
        for p in range(numbers):
            system[i, forced + p] = total[p] * directions[i, p]
        for q in range(s):
            slope = jm[i, q]
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


@compiled
def sweep(h, defects, j, jm, g, gm, directions, out):
    """Fill `out` (R, K, M1, s, c) as `condensing.condense` says, from arrays shaped as its tensors."""
    lanes, segments, points, s, columns = out.shape
    numbers = g.shape[-1]
    forced = 1 + numbers
    system, bend, total = np.empty((s, 2 * s + forced)), np.empty(numbers), np.empty(numbers)
    for r in range(lanes):
        for k in range(segments):
            for i in range(s):
                for c in range(columns):
                    out[r, k, 0, i, c] = 1.0 if c == forced + i else 0.0
            for n in range(points - 1):
                step = h[k, n]
                for p in range(numbers):
                    bend[p] = step * step / 12 * (g[r, k, n, p] - g[r, k, n + 1, p])
                    total[p] = step / 6 * (g[r, k, n, p] + 4 * gm[r, k, n, p] + g[r, k, n + 1, p])
                slopes = j[r, k, n], j[r, k, n + 1], jm[r, k, n]
                _write_system(step, defects[r, k, n], *slopes, bend, total, directions[r], system)
                _eliminate(system, s)
                for i in range(s):
                    for c in range(columns):
                        out[r, k, n + 1, i, c] = system[i, 2 * s + c] if c < forced else 0.0
                    for q in range(s):
                        factor = system[i, s + q]
                        for c in range(columns):
                            out[r, k, n + 1, i, c] += factor * out[r, k, n, q, c]


__all__ = ["sweep"]
