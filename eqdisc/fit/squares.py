r"""Squares: what a lane's residuals say, in compiled code: merit, sigma, and normal equations with every segment's start eliminated.

With columns dx = P + Q dtheta + R dx0, residuals r and columns at the samples weighed by 1 / sigma (S is R there, B = [r - P, Q]),

    dx0 = (S^T S)^-1 S^T B [1, -dtheta],      [g, H] from B^T (1 - S (S^T S)^-1 S^T) B,      (H + damping diag H) dtheta = g.

`normal` says the same in torch.
"""

from __future__ import annotations

import numpy as np

from ..work.compiler import compiled
from .damping import LOST


@compiled
def eliminate(matrix, right):
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
def judge(place, data, sigma, penalty):
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
def spread(place, data, spread):
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
def normal(columns, x, sigma, data, held, onto, total, starts):
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
                    add_squares(b, own, total, cross, gram)
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
def add_squares(b, own, total, cross, gram):
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
def step(total, damping, step):
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
def data_term(data, spread):
    total = 0.0
    for e in range(len(spread)):
        total += data.counts[e] * np.log(spread[e])
    return total


__all__ = ["add_squares", "data_term", "eliminate", "judge", "normal", "spread", "step"]
