r"""Kernels: Tsitouras' pair of orders 5 and 4 and its exact adjoint, for chains of units, one trajectory a slot of a vector.

A slot takes its own steps with its own control, and a new trajectory as soon as its own has ended. With k_i = f(X_i), X_i = x + h sum_j a_ij k_j,

    x_{n+1} = x_n + h sum_i b_i k_i,        x(t_n + theta h) = x_n + h sum_i b_i(theta) k_i  at samples,
    h <- h min(5, max(1/5, 0.9 e**(-1/5))),    e = rms (h sum_i e_i k_i / (atol + rtol max |x|)),    accepted where e <= 1

(Tsitouras, Computers & Mathematics with Applications 62 (2011) 770). The adjoint l = dL/dx goes back over the accepted steps, which are
held fixed, with g_s = dL/dx(t_s) at the samples in a step:

    kbar_i = h b_i l + h sum_s b_i(theta_s) g_s + h sum_{j>i} a_ji Xbar_j,     Xbar_i = f'(X_i)^T kbar_i,     l <- l + sum_s g_s + sum_i Xbar_i

so that gradients are those of the numbers that were computed. Only x_n and h of a step are kept, in one log with links backwards; the
stages are computed anew. The seventh stage of a step is the first of the next; its share of kbar goes there.

Times are kept as distances to the next sample and to the end, which single precision holds to its last bit.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ..work.compiler import compiled, inlined
from .layers import evaluate, pull
from .vectors import LANES, absolute, choose, exp, load, log, splat, store

A = np.zeros((7, 7))
A[1, :1] = 161 / 1000
A[2, :2] = -0.008480655492356989, 0.335480655492357
A[3, :3] = 2.897153057105493, -6.359448489975075, 4.362295432869582
A[4, :4] = 5.325864828439257, -11.748883564062828, 7.495539342889836, -0.09249506636175525
A[5, :5] = 5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383
A[6, :6] = (
    0.09646076681806523,
    0.01,
    0.4798896504144996,
    1.379008574103742,
    -3.290069515436081,
    2.324710524099774,
)
E = np.array(
    [
        0.09646076681806523 - 0.09468075576583945,
        0.01 - 0.009183565540343254,
        0.4798896504144996 - 0.4877705284247616,
        1.379008574103742 - 1.234297566930479,
        -3.290069515436081 + 2.7077123499835256,
        2.324710524099774 - 1.8666284181705870,
        -1 / 66,
    ]
)
B = np.zeros((7, 4))  # b_i(theta) = theta sum_p B[i, p] theta**p


def _interpolant() -> None:
    """Multiply the factors of the published b_i(theta) out, lowest power first, the power 0 left out."""
    from numpy.polynomial import Polynomial as P

    t = P([0.0, 1.0])
    factors = (
        -1.0530884977290216 * t * (t - 1.3299890189751412) * (t**2 - 1.4364028541716351 * t + 0.7139816917074209),
        0.1017 * t**2 * (t**2 - 2.1966568338249754 * t + 1.2949852507374631),
        2.490627285651252793 * t**2 * (t**2 - 2.38535645472061657 * t + 1.57803468208092486),
        -16.54810288924490272 * (t - 1.21712927295533244) * (t - 0.61620406037800089) * t**2,
        47.37952196281928122 * (t - 1.203071208372362603) * (t - 0.658047292653547382) * t**2,
        -34.87065786149660974 * (t - 1.2) * (t - 0.666666666666666667) * t**2,
        2.5 * (t - 1.0) * (t - 0.6) * t**2,
    )
    for i, b in enumerate(factors):
        B[i] = b.coef[1:]


_interpolant()

OK, DIVERGED, UNDERFLOW, TIMEOUT = range(4)  # as in `status`


@inlined
def _sample_weights(theta, b, w, at):
    """Write the seven b_i(theta)."""
    for i in range(7):
        y = splat(b[i, 3], theta)
        for p in range(2, -1, -1):
            y = y * theta + b[i, p]
        store(w, at + i, y * theta)


@njit
def _grown(rows):
    """Return a copy of twice the length."""
    wider = np.empty((2 * len(rows), rows.shape[1]), rows.dtype)
    wider[: len(rows)] = rows
    return wider


@compiled
def integrate(program, limits, tables, bounds, steps, parameters, x0, gaps, tails, x, ended, v, c, w, flags):
    """Fill x (Q, n, d) and ended (Q, 3): status, samples reached, attempts; return the log of steps for `pull_back`.

    Trajectory q = r K + k runs lane r over segment k. parameters (R, P) begin with the d floors; gaps (K, n - 1) are distances between samples,
    tails (K, n) what is left at each. bounds: rtol, atol, largest |x|, smallest share of a duration, overflow. v, c, w: rows for work.
    """
    a, b, e = tables
    stages = len(a)  # a number that the compiler does not know keeps it from writing every stage out
    rtol, atol, bound, smallest, huge = bounds[0], bounds[1], bounds[2], bounds[3], bounds[4]
    count, n, d = x.shape
    segments, width, rows = len(gaps), parameters.shape[1], len(v) // (7 * LANES)
    outputs = rows - d
    STEP, SCALED, ERROR, SOUND, THETA, VALUE = d, d + 1, d + 2, d + 3, d + 4, d + 5
    WEIGHT = VALUE + d
    log_rows = np.empty((64 + 8 * count, d + 2), x.dtype)
    links = np.empty((64 + 8 * count, 3), np.int64)
    used = 0
    last = np.full(count, -1)
    lane, part = np.full(LANES, -1), np.zeros(LANES, np.int64)
    sample, first, row_of = np.zeros(LANES, np.int64), np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
    fresh, accepted, final = np.zeros(LANES, np.bool_), np.zeros(LANES, np.bool_), np.zeros(LANES, np.bool_)
    delta = np.zeros(LANES, x.dtype)
    wish = np.zeros(LANES, x.dtype)
    following, living = 0, 0
    for i in range(len(w)):
        w[i] = 0.0
    for i in range(d * LANES):
        w[i] = 1.0
    while True:
        for l in range(LANES):
            while lane[l] < 0 and following < count:
                q = following
                following += 1
                ended[q, 0], ended[q, 1], ended[q, 2] = OK, 0, 0
                inside = True
                for i in range(d):
                    inside = inside and abs(x0[q, i]) < bound
                if not inside:
                    ended[q, 0] = DIVERGED
                    continue
                ended[q, 1] = 1
                for i in range(d):
                    x[q, 0, i] = x0[q, i]
                    w[i * LANES + l] = x0[q, i]
                for p in range(width):
                    c[p * LANES + l] = parameters[q // segments, p]
                lane[l], part[l], sample[l], fresh[l], living = q, q % segments, 1, True, living + 1
                delta[l] = gaps[q % segments, 0]
                wish[l] = 0.0
        if living == 0:
            break
        for l in range(LANES):
            w[STEP * LANES + l] = 0.0
            final[l] = False
            if lane[l] >= 0 and not fresh[l]:
                rest = delta[l] + tails[part[l], sample[l]]
                final[l] = wish[l] >= rest
                w[STEP * LANES + l] = rest if final[l] else wish[l]
        h = load(w, STEP)
        for stage in range(1, stages):
            base = stage * rows
            for i in range(d):
                k = splat(0.0, v)
                for j in range(stage):
                    k = k + a[stage, j] * load(v, j * rows + outputs + i)
                store(v, base + i, load(w, i) + h * k)
            evaluate(program, limits, c, v, flags, base, stage, d)
        total = splat(0.0, v)
        sound = h >= 0.0
        for i in range(d):
            k = splat(0.0, v)
            for j in range(7):
                k = k + e[j] * load(v, j * rows + outputs + i)
            old, new = absolute(load(w, i)), absolute(load(v, 6 * rows + i))
            ratio = h * k / (atol + rtol * choose(old > new, old, new))
            total = total + ratio * ratio
            sound = sound & (new < huge) & (absolute(load(v, 6 * rows + outputs + i)) < huge)
        error = total / d  # squared
        sound = sound & (error < huge)
        good = sound & (error <= 1.0)
        safe = choose(error > 1e-20, error, splat(1e-20, v))
        factor = 0.9 * exp(-0.1 * log(choose(sound, safe, splat(1e20, v))))
        factor = choose(factor > 10.0, splat(10.0, v), factor)
        factor = choose(factor < 0.2, splat(0.2, v), factor)
        store(w, SCALED, h * factor)
        store(w, SOUND, choose(sound, splat(1.0, v), splat(0.0, v)))
        store(w, ERROR, choose(good, splat(1.0, v), splat(0.0, v)))
        for l in range(LANES):
            accepted[l] = lane[l] >= 0 and not fresh[l] and w[ERROR * LANES + l] > 0.5
            if not accepted[l]:
                continue
            if used == len(log_rows):
                log_rows, links = _grown(log_rows), _grown(links)
            q = lane[l]
            for i in range(d):
                log_rows[used, i] = w[i * LANES + l]
            log_rows[used, d], log_rows[used, d + 1] = w[STEP * LANES + l], delta[l]
            links[used, 0], links[used, 1] = last[q], sample[l]
            row_of[l], first[l] = used, sample[l]
            last[q] = used
            used += 1
        while True:
            some_sample = False
            for l in range(LANES):
                step = w[STEP * LANES + l]
                w[THETA * LANES + l] = -1.0
                if accepted[l] and sample[l] < n and (final[l] or delta[l] <= step):
                    some_sample = True
                    w[THETA * LANES + l] = min(delta[l] / step, 1.0)
            if not some_sample:
                break
            _sample_weights(load(w, THETA), b, w, WEIGHT)
            for i in range(d):
                y = splat(0.0, v)
                for j in range(7):
                    y = y + load(w, WEIGHT + j) * load(v, j * rows + outputs + i)
                store(w, VALUE + i, load(w, i) + h * y)
            for l in range(LANES):
                if w[THETA * LANES + l] >= 0.0:
                    q = lane[l]
                    for i in range(d):
                        x[q, sample[l], i] = w[(VALUE + i) * LANES + l]
                    if sample[l] < n - 1:
                        delta[l] += gaps[part[l], sample[l]]
                    sample[l] += 1
        mask = load(w, ERROR) > 0.5
        for i in range(d):
            store(w, i, choose(mask, load(v, 6 * rows + i), load(w, i)))
            store(v, outputs + i, choose(mask, load(v, 6 * rows + outputs + i), load(v, outputs + i)))
        for l in range(LANES):
            q = lane[l]
            if q < 0:
                continue
            ended[q, 2] += 1
            status, over = OK, False
            unsound = w[SOUND * LANES + l] < 0.5
            span = tails[part[l], 0]
            if fresh[l]:
                fresh[l] = False
                over, status = unsound, DIVERGED if unsound else OK
                size, slope = x.dtype.type(0.0), x.dtype.type(0.0)
                for i in range(d):
                    scale = atol + rtol * abs(w[i * LANES + l])
                    size = max(size, abs(w[i * LANES + l]) / scale)
                    slope = max(slope, abs(v[(outputs + i) * LANES + l]) / scale)
                wish[l] = span if slope <= 1e-5 * size else min(span, 0.01 * size / slope)
                if size < 1e-5:
                    wish[l] = 1e-6 * span
                wish[l] = max(wish[l], 10.0 * smallest * span)
            else:
                wish[l] = w[SCALED * LANES + l]
                if accepted[l]:
                    delta[l] -= w[STEP * LANES + l]
                    links[row_of[l], 2] = sample[l] - first[l]
                    over = sample[l] >= n
                    for i in range(d):
                        if not abs(w[i * LANES + l]) < bound:
                            over, status = True, DIVERGED
                elif wish[l] < smallest * span:
                    over, status = True, DIVERGED if unsound else UNDERFLOW
                if not over and ended[q, 2] > steps and wish[l] < span / steps:
                    over, status = True, TIMEOUT
            if over:
                ended[q, 0], ended[q, 1] = status, sample[l]
                if used == len(log_rows):
                    log_rows, links = _grown(log_rows), _grown(links)
                for i in range(d):
                    log_rows[used, i] = w[i * LANES + l]
                    w[i * LANES + l] = 1.0
                log_rows[used, d], log_rows[used, d + 1] = 0.0, 0.0
                links[used, 0], links[used, 1], links[used, 2] = last[q], sample[l], 0
                last[q] = used
                used += 1
                lane[l], living = -1, living - 1
    return log_rows[:used], links[:used], last


@compiled
def pull_back(program, limits, tables, parameters, gaps, gx, gx0, gp, log_rows, links, last, v, c, w, flags, adj, gc):
    """Bring gx = dL/dx (Q, n, d) back to gx0 (Q, d) and, added, to gp (R, P)."""
    a, b, _ = tables
    stages = len(a)
    count, n, d = gx.shape
    segments, width, rows = len(gaps), parameters.shape[1], len(v) // (7 * LANES)
    outputs = rows - d
    STEP, BEFORE, THETA, STATE, GIVEN, SHARE, PULL, KBAR = (
        d,
        d + 1,
        d + 2,
        d + 3,
        2 * d + 3,
        3 * d + 3,
        4 * d + 3,
        5 * d + 3,
    )
    XBAR, WEIGHT = KBAR + 7 * d, KBAR + 14 * d
    lane, part, row_of = np.full(LANES, -1), np.zeros(LANES, np.int64), np.full(LANES, -1)
    sample, stop = np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
    delta = np.zeros(LANES, gx.dtype)
    following, living = 0, 0
    for i in range(len(w)):
        w[i] = 0.0
    for i in range(d * LANES):
        w[i] = 1.0
    while True:
        for l in range(LANES):
            while lane[l] < 0 and following < count:
                q = following
                following += 1
                for i in range(d):
                    gx0[q, i] = gx[q, 0, i]
                if last[q] < 0:
                    continue
                lane[l], part[l], row_of[l], living = q, q % segments, last[q], living + 1
                for p in range(width):
                    c[p * LANES + l] = parameters[q // segments, p]
                    gc[p * LANES + l] = 0.0
                for row in range(STATE, WEIGHT):
                    w[row * LANES + l] = 0.0
                for i in range(d):
                    w[i * LANES + l] = log_rows[row_of[l], i]
                w[STEP * LANES + l] = log_rows[row_of[l], d]
        if living == 0:
            break
        h = load(w, STEP)
        for stage in range(stages - 1):
            base = stage * rows
            for i in range(d):
                k = splat(0.0, v)
                for j in range(stage):
                    k = k + a[stage, j] * load(v, j * rows + outputs + i)
                store(v, base + i, load(w, i) + h * k)
            evaluate(program, limits, c, v, flags, base, stage, d)
        for i in range(d):  # the new adjoint gathers in SHARE
            store(w, SHARE + i, load(w, STATE + i) + load(w, GIVEN + i))
        for stage in range(stages - 2, -1, -1):
            for i in range(d):
                k = a[6, stage] * load(w, STATE + i)
                for j in range(stage + 1, 6):
                    k = k + a[j, stage] * load(w, XBAR + j * d + i)
                store(w, PULL + i, h * k + load(w, KBAR + stage * d + i))
            if stage == 0:
                for row in range(KBAR, KBAR + 7 * d):
                    store(w, row, splat(0.0, w))
                for i in range(d):
                    store(w, GIVEN + i, splat(0.0, w))
                for l in range(LANES):
                    w[BEFORE * LANES + l] = 0.0
                    sample[l] = stop[l] = 0
                    if lane[l] >= 0 and links[row_of[l], 0] >= 0:
                        before = links[row_of[l], 0]
                        w[BEFORE * LANES + l], delta[l] = log_rows[before, d], log_rows[before, d + 1]
                        sample[l] = links[before, 1]
                        stop[l] = sample[l] + links[before, 2]
                earlier = load(w, BEFORE)
                while True:
                    some_sample = False
                    for l in range(LANES):
                        w[THETA * LANES + l] = 0.0
                        if sample[l] < stop[l]:
                            some_sample = True
                            q = lane[l]
                            w[THETA * LANES + l] = min(delta[l] / w[BEFORE * LANES + l], 1.0)
                            for i in range(d):
                                w[(WEIGHT + 7 + i) * LANES + l] = gx[q, sample[l], i]
                            if sample[l] < n - 1:
                                delta[l] += gaps[part[l], sample[l]]
                            sample[l] += 1
                        else:
                            for i in range(d):
                                w[(WEIGHT + 7 + i) * LANES + l] = 0.0
                    if not some_sample:
                        break
                    _sample_weights(load(w, THETA), b, w, WEIGHT)
                    for i in range(d):
                        g = load(w, WEIGHT + 7 + i)
                        store(w, GIVEN + i, load(w, GIVEN + i) + g)
                        g = earlier * g
                        for j in range(7):
                            row = KBAR + j * d + i
                            store(w, row, load(w, row) + load(w, WEIGHT + j) * g)
                for i in range(d):
                    store(w, PULL + i, load(w, PULL + i) + load(w, KBAR + 6 * d + i))
            for i in range(d):
                store(adj, outputs + i, load(w, PULL + i))
            pull(program, limits, c, gc, v, adj, flags, stage * rows, stage, d, rows)
            for i in range(d):
                xbar = load(adj, d + i)
                store(w, XBAR + stage * d + i, xbar)
                store(w, SHARE + i, load(w, SHARE + i) + xbar)
        for i in range(d):
            store(w, STATE + i, load(w, SHARE + i))
        for l in range(LANES):
            q = lane[l]
            if q < 0:
                continue
            row_of[l] = links[row_of[l], 0]
            if row_of[l] >= 0:
                for i in range(d):
                    w[i * LANES + l] = log_rows[row_of[l], i]
                w[STEP * LANES + l] = log_rows[row_of[l], d]
                continue
            for i in range(d):
                gx0[q, i] += w[(STATE + i) * LANES + l]
                w[i * LANES + l] = 1.0
            for p in range(width):
                gp[q // segments, p] += gc[p * LANES + l]
            for row in range(STEP, WEIGHT):
                w[row * LANES + l] = 0.0
            lane[l], living = -1, living - 1


@compiled
def linearise(
    program, limits, tables, parameters, gaps, slopes, log_rows, links, last, v, c, w, flags, adj, gc, tangents
):
    """Fill slopes (Q, n, d, P) with the slopes of samples in starts and parameters; the first d columns, the floors', are the starts'."""
    a, b, _ = tables
    stages = len(a)
    count, n, d, width = slopes.shape
    segments, rows = len(gaps), len(v) // (7 * LANES)
    outputs, area = rows - d, d * width
    STEP, THETA, WEIGHT, POINT, JACOBIAN = d, d + 1, d + 2, d + 9, 2 * d + 9
    NOW, END, VALUE, K = 0, area, 2 * area, 3 * area
    lane, part, row_of = np.full(LANES, -1), np.zeros(LANES, np.int64), np.full(LANES, -1)
    sample, stop = np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
    fresh, due = np.zeros(LANES, np.bool_), np.zeros(LANES, np.bool_)
    delta = np.zeros(LANES, slopes.dtype)
    after, begin = _turned(links, last)
    following, living = 0, 0
    for i in range(len(w)):
        w[i] = 0.0
    for i in range(d * LANES):
        w[i] = 1.0
    while True:
        for l in range(LANES):
            while lane[l] < 0 and following < count:
                q = following
                following += 1
                if begin[q] < 0:
                    continue
                for i in range(d):
                    slopes[q, 0, i, i] = 1.0
                if after[begin[q]] < 0:
                    continue
                lane[l], part[l], row_of[l], fresh[l], living = q, q % segments, begin[q], True, living + 1
                for p in range(width):
                    c[p * LANES + l] = parameters[q // segments, p]
                for row in range(area):
                    tangents[(NOW + row) * LANES + l] = 0.0
                    tangents[(K + row) * LANES + l] = 0.0
                for i in range(d):
                    tangents[(NOW + i * width + i) * LANES + l] = 1.0
                    v[(outputs + i) * LANES + l] = 0.0
                    w[i * LANES + l] = log_rows[begin[q], i]
                w[STEP * LANES + l] = 0.0  # a step of no length computes the first stage of the next
        if living == 0:
            break
        h = load(w, STEP)
        for stage in range(1, stages):
            base = stage * rows
            for i in range(d):
                k = splat(0.0, v)
                for j in range(stage):
                    k = k + a[stage, j] * load(v, j * rows + outputs + i)
                store(v, base + i, load(w, i) + h * k)
            evaluate(program, limits, c, v, flags, base, stage, d)
            for e in range(d):
                for p in range(width):
                    store(gc, p, splat(0.0, gc))
                for i in range(d):
                    store(adj, outputs + i, splat(1.0 if i == e else 0.0, adj))
                pull(program, limits, c, gc, v, adj, flags, base, stage, d, rows)
                for i in range(d):
                    store(w, JACOBIAN + e * d + i, load(adj, d + i))
                for p in range(width):
                    store(tangents, K + (stage * d + e) * width + p, splat(0.0, v) if p < d else load(gc, p))
            for p in range(width):
                for i in range(d):
                    k = splat(0.0, v)
                    for j in range(stage):
                        k = k + a[stage, j] * load(tangents, K + (j * d + i) * width + p)
                    point = load(tangents, NOW + i * width + p) + h * k
                    store(w, POINT + i, point)
                    store(tangents, END + i * width + p, point)
                for e in range(d):
                    row = K + (stage * d + e) * width + p
                    k = load(tangents, row)
                    for i in range(d):
                        k = k + load(w, JACOBIAN + e * d + i) * load(w, POINT + i)
                    store(tangents, row, k)
        for l in range(LANES):
            sample[l] = stop[l] = 0
            if lane[l] >= 0 and not fresh[l]:
                sample[l], delta[l] = links[row_of[l], 1], log_rows[row_of[l], d + 1]
                stop[l] = sample[l] + links[row_of[l], 2]
        while True:
            some_sample = False
            for l in range(LANES):
                due[l] = sample[l] < stop[l]
                some_sample = some_sample or due[l]
                w[THETA * LANES + l] = min(delta[l] / w[STEP * LANES + l], 1.0) if due[l] else 0.0
            if not some_sample:
                break
            _sample_weights(load(w, THETA), b, w, WEIGHT)
            for row in range(area):
                y = splat(0.0, v)
                for j in range(7):
                    y = y + load(w, WEIGHT + j) * load(tangents, K + j * area + row)
                store(tangents, VALUE + row, load(tangents, NOW + row) + h * y)
            for l in range(LANES):
                if due[l]:
                    q = lane[l]
                    for i in range(d):
                        for p in range(width):
                            slopes[q, sample[l], i, p] = tangents[(VALUE + i * width + p) * LANES + l]
                    if sample[l] < n - 1:
                        delta[l] += gaps[part[l], sample[l]]
                    sample[l] += 1
        for row in range(area):
            store(tangents, NOW + row, load(tangents, END + row))
            store(tangents, K + row, load(tangents, K + 6 * area + row))
        for i in range(d):
            store(v, outputs + i, load(v, 6 * rows + outputs + i))
        for l in range(LANES):
            if lane[l] < 0:
                continue
            if not fresh[l]:
                row_of[l] = after[row_of[l]]
            fresh[l] = False
            ended = after[row_of[l]] < 0  # the last row of a trajectory is where it ended
            if ended:
                lane[l], living = -1, living - 1
            for i in range(d):
                w[i * LANES + l] = 1.0 if ended else log_rows[row_of[l], i]
            w[STEP * LANES + l] = 0.0 if ended else log_rows[row_of[l], d]


@njit
def _turned(links, last):
    """Return the row after each row of the log, and the first of each trajectory; -1 where there is none."""
    after, begin = np.full(len(links), -1), last.copy()
    for q in range(len(last)):
        row = last[q]
        while row >= 0:
            begin[q] = row
            before = links[row, 0]
            if before >= 0:
                after[before] = row
            row = before
    return after, begin
