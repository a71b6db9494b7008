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

from .compiler import compiled, inlined
from .program import (
    ADDED,
    COMPLEX,
    DENSE,
    EXTRA,
    FLAG,
    INPUT,
    KIND,
    LARGEST,
    LEAST,
    MIX,
    N_IN,
    N_OUT,
    OUTPUT,
    PRODUCT,
    SIGMOID,
    SIGN,
    SIGNED,
    TANH,
    WEIGHTS,
)
from .vectors import LANES, absolute, choose, cos_sin, exp, load, log, some, splat, store

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
def _sum(program, q, c, v, base):
    n_in, n_out, at = program[q, N_IN], program[q, N_OUT], program[q, WEIGHTS]
    source, out = base + program[q, INPUT], base + program[q, OUTPUT]
    for e in range(n_out):
        y = splat(0.0, v)
        if program[q, KIND] == DENSE:
            y = load(c, at + n_out * n_in + e)
        row = at + e * n_in
        for j in range(n_in):
            y = y + load(c, row + j) * load(v, source + j)
        if program[q, FLAG] == TANH:
            y = 1.0 - 2.0 / (exp(2.0 * y) + 1.0)
        elif program[q, FLAG] == SIGMOID:
            y = 1.0 / (exp(-1.0 * y) + 1.0)
        store(v, out + e, y)


@inlined
def _pull_sum(program, q, c, gc, v, a, base):
    n_in, n_out, at = program[q, N_IN], program[q, N_OUT], program[q, WEIGHTS]
    source, out = base + program[q, INPUT], base + program[q, OUTPUT]
    pulled, pull = program[q, INPUT], program[q, OUTPUT]
    if program[q, KIND] == DENSE:
        for e in range(n_out):
            y, p = load(v, out + e), load(a, pull + e)
            if program[q, FLAG] == TANH:
                p = p * (1.0 - y * y)
            elif program[q, FLAG] == SIGMOID:
                p = p * (y - y * y)
            store(a, pull + e, p)
            row = at + n_out * n_in + e
            store(gc, row, load(gc, row) + p)
    for j in range(n_in):
        z, total = load(v, source + j), splat(0.0, v)
        row = at + j
        for e in range(n_out):
            p = load(a, pull + e)
            total = total + load(c, row) * p
            store(gc, row, load(gc, row) + p * z)
            row += n_in
        store(a, pulled + j, load(a, pulled + j) + total)


@inlined
def _power(program, q, c, v, flags, base, limits, place):
    """Extra rows: log r, 1 / r (0 where clamped), z tan(phase)."""
    epsilon, least, largest = limits[q, ADDED], limits[q, LEAST], limits[q, LARGEST]
    n_in, n_out, at = program[q, N_IN], program[q, N_OUT], program[q, WEIGHTS]
    source, logs, out = base + program[q, INPUT], base + program[q, EXTRA], base + program[q, OUTPUT]
    inverses, turned = logs + n_in, logs + 2 * n_in
    weights = at + n_in
    negative = False
    for i in range(n_in):
        x, gate = load(v, source + i), load(c, at + i)
        negative = negative or some(x < 0.0)
        r = gate * (absolute(x) + epsilon) + (1.0 - gate)
        clamped = r < least
        r = choose(clamped, splat(least, v), r)
        store(v, inverses + i, choose(clamped, splat(0.0, v), 1.0 / r))
        store(v, logs + i, log(r))
    phased = (negative and program[q, FLAG] == SIGNED) or program[q, KIND] == COMPLEX
    flags[place] = phased
    for j in range(n_out):
        row = weights + j * n_in
        s = splat(0.0, v)
        for i in range(n_in):
            s = s + load(c, row + i) * load(v, logs + i)
        if not phased:
            store(v, out + j, exp(choose(s > largest, splat(largest, v), s)))
            continue
        u = splat(0.0, v)
        imaginary = row + n_out * n_in
        for i in range(n_in):
            x = load(v, source + i)
            below = choose(x < 0.0, load(c, at + i), splat(0.0, v))
            u = u + load(c, row + i) * below
            if program[q, KIND] == COMPLEX:
                s = s - np.pi * load(c, imaginary + i) * below
                u = u + (1.0 / np.pi) * load(c, imaginary + i) * load(v, logs + i)
        size = exp(s)
        cosine, sine = cos_sin(u)
        store(v, out + j, size * cosine)
        store(v, turned + j, size * sine)


@inlined
def _pull_power(program, q, c, gc, v, a, flags, base, limits, place):
    epsilon, highest = limits[q, ADDED], np.exp(limits[q, LARGEST])
    n_in, n_out, at = program[q, N_IN], program[q, N_OUT], program[q, WEIGHTS]
    source, logs, out = base + program[q, INPUT], base + program[q, EXTRA], base + program[q, OUTPUT]
    inverses, turned = logs + n_in, logs + 2 * n_in
    pulled, pull, swung = (
        program[q, INPUT],
        program[q, OUTPUT],
        program[q, EXTRA],
    )  # ds in place of pull, du in the extra rows
    weights = at + n_in
    phased = flags[place]
    for j in range(n_out):
        p, y = load(a, pull + j), load(v, out + j)
        store(a, pull + j, choose(y < highest, p * y, splat(0.0, v)))
        if phased:
            store(a, swung + j, -np.pi * p * load(v, turned + j))
    for i in range(n_in):
        x, gate, slope, inverse = load(v, source + i), load(c, at + i), load(v, logs + i), load(v, inverses + i)
        total, turn = splat(0.0, v), splat(0.0, v)
        row = weights + i
        if not phased:
            for _ in range(n_out):
                ds = load(a, pull + _)
                total = total + ds * load(c, row)
                store(gc, row, load(gc, row) + ds * slope)
                row += n_in
        else:
            below = choose(x < 0.0, gate, splat(0.0, v))
            for j in range(n_out):
                ds, du = load(a, pull + j), load(a, swung + j)
                w = load(c, row)
                total = total + ds * w
                turn = turn + du * w
                store(gc, row, load(gc, row) + ds * slope + du * below)
                if program[q, KIND] == COMPLEX:
                    other = row + n_out * n_in
                    w = load(c, other)
                    total = total + (1.0 / np.pi) * du * w
                    turn = turn - np.pi * ds * w
                    store(gc, other, load(gc, other) + (1.0 / np.pi) * du * slope - np.pi * ds * below)
                row += n_in
        dr = total * inverse
        sign = choose(x < 0.0, splat(-1.0, v), choose(x > 0.0, splat(1.0, v), splat(0.0, v)))
        store(a, pulled + i, load(a, pulled + i) + gate * sign * dr)
        turn = choose(x < 0.0, turn, splat(0.0, v))
        store(gc, at + i, load(gc, at + i) + dr * (absolute(x) + epsilon - 1.0) + turn)


@inlined
def _product(program, q, c, v, base):
    n_in, at = program[q, N_IN], program[q, WEIGHTS]
    source, out = base + program[q, INPUT], base + program[q, OUTPUT]
    for j in range(program[q, N_OUT]):
        y = splat(1.0, v)
        for i in range(n_in):
            m = load(c, at + j * n_in + i)
            y = y * (m * load(v, source + i) + (1.0 - m))
        store(v, out + j, y)


@inlined
def _pull_product(program, q, c, gc, v, a, base):
    n_in, at = program[q, N_IN], program[q, WEIGHTS]
    source, pulled, pull = base + program[q, INPUT], program[q, INPUT], program[q, OUTPUT]
    for j in range(program[q, N_OUT]):
        row = at + j * n_in
        for i in range(n_in):
            rest = load(a, pull + j)
            for k in range(n_in):
                if k != i:
                    m = load(c, row + k)
                    rest = rest * (m * load(v, source + k) + (1.0 - m))
            store(a, pulled + i, load(a, pulled + i) + rest * load(c, row + i))
            store(gc, row + i, load(gc, row + i) + rest * (load(v, source + i) - 1.0))


@inlined
def _sign(program, q, v, base):
    source, out = base + program[q, INPUT], base + program[q, OUTPUT]
    for i in range(program[q, N_IN]):
        x = load(v, source + i)
        store(v, out + i, choose(x < 0.0, splat(-1.0, v), choose(x > 0.0, splat(1.0, v), splat(0.0, v))))


@inlined
def _mix(program, q, v, base):
    """g a + (1 - g) m, or m times its sign: rows g, a, m and signs one behind the other."""
    n, source, out = program[q, N_OUT], base + program[q, INPUT], base + program[q, OUTPUT]
    for j in range(n):
        g, m = load(v, source + j), load(v, source + 2 * n + j)
        if program[q, FLAG] == SIGNED:
            m = m * load(v, source + 3 * n + j)
        store(v, out + j, g * load(v, source + n + j) + (1.0 - g) * m)


@inlined
def _pull_mix(program, q, v, a, base):
    n, source, pulled, pull = program[q, N_OUT], base + program[q, INPUT], program[q, INPUT], program[q, OUTPUT]
    for j in range(n):
        p, g, m = load(a, pull + j), load(v, source + j), load(v, source + 2 * n + j)
        rest = p * (1.0 - g)
        if program[q, FLAG] == SIGNED:
            sign = load(v, source + 3 * n + j)
            store(a, pulled + 3 * n + j, rest * m)
            m, rest = m * sign, rest * sign
        store(a, pulled + j, p * (load(v, source + n + j) - m))
        store(a, pulled + n + j, p * g)
        store(a, pulled + 2 * n + j, rest)


@inlined
def _evaluate(program, limits, c, v, flags, base, stage, d):
    """Compute the chain at a stage whose states stand in its first d rows; derivatives are its last d rows."""
    for i in range(d):
        x, lowest = load(v, base + i), load(c, i)
        store(v, base + d + i, choose(x < lowest, lowest, x))
    for q in range(len(program)):
        if program[q, KIND] <= DENSE:
            _sum(program, q, c, v, base)
        elif program[q, KIND] <= COMPLEX:
            _power(program, q, c, v, flags, base, limits, stage * len(program) + q)
        elif program[q, KIND] == PRODUCT:
            _product(program, q, c, v, base)
        elif program[q, KIND] == SIGN:
            _sign(program, q, v, base)
        else:
            _mix(program, q, v, base)


@inlined
def _pull(program, limits, c, gc, v, a, flags, base, stage, d, rows):
    """Bring the adjoint of the derivatives, the last d rows of a, to that of the states, rows d to 2 d."""
    for row in range(d, rows - d):
        store(a, row, splat(0.0, a))
    for q in range(len(program) - 1, -1, -1):
        if program[q, KIND] <= DENSE:
            _pull_sum(program, q, c, gc, v, a, base)
        elif program[q, KIND] <= COMPLEX:
            _pull_power(program, q, c, gc, v, a, flags, base, limits, stage * len(program) + q)
        elif program[q, KIND] == PRODUCT:
            _pull_product(program, q, c, gc, v, a, base)
        elif program[q, KIND] == MIX:
            _pull_mix(program, q, v, a, base)
    for i in range(d):
        below = load(v, base + i) < load(c, i)
        store(a, d + i, choose(below, splat(0.0, a), load(a, d + i)))


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
            _evaluate(program, limits, c, v, flags, base, stage, d)
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
            _evaluate(program, limits, c, v, flags, base, stage, d)
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
            _pull(program, limits, c, gc, v, adj, flags, stage * rows, stage, d, rows)
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
