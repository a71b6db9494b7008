r"""Layers: what each layer of a program computes from rows of vectors, and how an adjoint goes back through it; inlined into `kernels`."""

from __future__ import annotations

import numpy as np

from ..work.compiler import inlined
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
from .vectors import absolute, choose, cos_sin, exp, load, log, some, splat, store


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
def evaluate(program, limits, c, v, flags, base, stage, d):
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
def pull(program, limits, c, gc, v, a, flags, base, stage, d, rows):
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


__all__ = ["evaluate", "pull"]
