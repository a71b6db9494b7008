r"""Points: a law's terms, their slopes and its field in compiled code, LANES points at a time: what `Terms.evaluate` says in torch.

Where the rows of vectors of one work array lie, for d columns, m terms, s states and `numbers` that move the field:

    log|x| (d), d log|x| / dx (d), sign x (d; 1 where whole powers have none), terms (m), saturations (m), f (s), J (s s), g (numbers)

Compiled code has the terms of a lane as one table (m, c), the parts side by side as `Terms.table` lays them: exponents (d), inner exponents (d),
log K, parities (d); a number of a term is an entry of its row. Only this module knows where they lie. The mathematics is that of the units
(`units.monomial`, `units.saturation`, `units.magnitude`), to which a test holds it.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..law.law import Numbers
from ..units.monomial import REACH
from ..units.saturation import LOG_K
from ..work.compiler import inlined
from .vectors import LANES, absolute, aligned_rows, choose, exp, load, log, splat, store


def work_rows(d: int, m: int, s: int, numbers: int) -> Float[np.ndarray, "numbers"]:
    """Return the work array; nobody reads its last row."""
    return aligned_rows(_first_number(d, m, s) + numbers + 1, np.dtype(float))


def _first_number(d: int, m: int, s: int) -> int:
    return 3 * d + 2 * m + s + s * s


@inlined
def signs_row(d):
    """Return the row of the first column's sign."""
    return 2 * d


@inlined
def values_row(d):
    """Return the row of the first term."""
    return 3 * d


@inlined
def shares_row(d, m):
    """Return the row of the first saturation."""
    return 3 * d + m


@inlined
def field_row(d, m):
    """Return the row of the first state's rate; without a field, that of the first number."""
    return 3 * d + 2 * m


@inlined
def slopes_row(d, m, s):
    """Return the row of J."""
    return 3 * d + 2 * m + s


numbers_row = inlined(_first_number)


@inlined
def write_logs(x, start, positive, tiny, w):
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
        store(w, signs_row(d) + i, sign)


@inlined
def write_term(row, d, value, share, w):
    """Write a term and its saturation, zero where it is plain, to those rows."""
    size, sign = splat(0.0, w), splat(1.0, w)
    saturates = False
    for i in range(d):
        if row[i] != 0:
            size = size + row[i] * load(w, i)
            parity = row[2 * d + 1 + i]
            turns = np.rint(row[i]) if parity == 0 else parity
            if abs(turns) % 2 == 1:
                sign = sign * load(w, signs_row(d) + i)
        saturates = saturates or row[d + i] != 0
    store(w, share, splat(0.0, w))
    if saturates:
        log_k = row[2 * d]
        gap = splat(log_k, w)
        for i in range(d):
            gap = gap - row[d + i] * load(w, i)
        far = exp(gap)
        size = size - (log_k + log(1.0 + 1.0 / far))  # log(K + x**u)
        store(w, share, 1.0 / (1.0 + far))
    size = choose(size < -REACH, splat(-REACH, w), size)
    size = choose(size > REACH, splat(REACH, w), size)
    store(w, value, sign * exp(size))


@inlined
def write_field(rows, coefficients, d, w):
    """Write the terms that are used, their saturations and the field; return its row."""
    m, s = coefficients.shape
    values, shares, f = values_row(d), shares_row(d, m), field_row(d, m)
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
def write_slopes(rows, coefficients, d, w):
    """Write J; return its row."""
    m, s = coefficients.shape
    values, shares, jacobian = values_row(d), shares_row(d, m), slopes_row(d, m, s)
    for q in range(s * s):
        store(w, jacobian + q, splat(0.0, w))
    for j in range(m):
        for i in range(s):
            lost = rows[j, d + i]
            if rows[j, i] != 0 or lost != 0:
                slope = (rows[j, i] - lost * load(w, shares + j)) * load(w, values + j) * load(w, d + i)
                for e in range(s):
                    if coefficients[j, e] != 0:
                        at = jacobian + e * s + i
                        store(w, at, load(w, at) + coefficients[j, e] * slope)
    return jacobian


@inlined
def write_named(names, d, m, first, w):
    """Write how the numbers (term, entry, is it one of the table, is it there) move the field, from row `first` on."""
    term, entry, is_entry, valid = names
    values, shares = values_row(d), shares_row(d, m)
    for p in range(len(term)):
        g = splat(0.0, w)
        if valid[p]:
            g = load(w, values + term[p])
            column = entry[p]
            if is_entry[p]:
                if column < d:
                    g = g * load(w, column)
                elif column < 2 * d:
                    g = g * load(w, shares + term[p]) * (0.0 - load(w, column - d))
                else:
                    g = g * (load(w, shares + term[p]) - 1.0)
        store(w, first + p, g)


@inlined
def write_numbers(names, trials, d, m, s, w):
    """Write how the numbers and the trial terms' coefficients move the field; return the row."""
    numbers = numbers_row(d, m, s)
    write_named(names, d, m, numbers, w)
    for l in range(len(trials)):
        write_term(trials[l], d, numbers + len(names[0]) + l, len(w) // LANES - 1, w)
    return numbers


def names_of(numbers: Numbers, d: int) -> tuple[np.ndarray, ...]:
    """Return term and entry of the numbers, an equation for a coefficient, whether each is an entry of the table, and whether it is there."""
    entry = torch.where(numbers.is_coefficient, numbers.place, numbers.part * d + numbers.place)
    return arrays(numbers.term, entry, ~numbers.is_coefficient, numbers.valid)


def no_names(lanes: int) -> tuple[np.ndarray, ...]:
    """Return no numbers."""
    whole, truth = np.zeros((lanes, 0), np.int64), np.zeros((lanes, 0), bool)
    return whole, whole, truth, truth


def limits(bounds: tuple[float, float], d: int) -> tuple[Float[np.ndarray, "c"], Float[np.ndarray, "c"]]:
    """Return the lowest and the highest value of each entry of a row."""
    low, high = zip(*[*[bounds] * (2 * d), LOG_K, *[(0.0, 2.0)] * d], strict=True)
    return np.array(low), np.array(high)


def arrays(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    """Return tensors as arrays that lie in one piece, without copies where they do."""
    return tuple(v.detach().contiguous().numpy() for v in tensors)


__all__ = [
    "arrays", "field_row", "limits", "names_of", "no_names", "shares_row", "signs_row", "values_row", "work_rows", "write_field", "write_logs",
    "write_named", "write_numbers", "write_slopes", "write_term",
]  # fmt: skip
