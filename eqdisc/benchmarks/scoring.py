r"""Scoring: is a found law the one that made the data?

    |w - w'| <= 0.05,   (w = 0) = (w' = 0),   |a m**w - a' m**w'| <= 0.1 |a' m**w'|

for the exponents w and the coefficient a of each term and those of the true one, m the middle of the data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import sympy as sp

from ..data.dataset import Dataset
from ..law.equations import Equations
from ..work.config import FitConfig
from ..work.errors import EqdiscError

if TYPE_CHECKING:
    from ..judge.finding import Finding

EXPONENT = 0.05
COEFFICIENT = 0.1


def fit(data: Dataset, config: FitConfig) -> Finding | None:
    """Return what is discovered, None where no law can be fitted."""
    from ..discovery import discover

    try:
        return discover(data, config)
    except EqdiscError:
        return None


def recovered(found: Equations, truth: Equations, middle: np.ndarray) -> bool:
    """Tell whether a law has the truth's terms in every equation, exponents within 0.05 and sizes within 10 %.

    Zero exponents must be zero; laws with ratios are compared over one bar.
    A term's size is taken at `middle` (d,), the geometric mean of the data, so that units do not matter.

    >>> half, near = (Equations.parse({"x": f"-0.3*x**{p}"}, ("x",)) for p in (0.5, 0.52))
    >>> recovered(near, half, np.array([1.0])), recovered(near, half, np.array([100.0]))
    (True, True)
    >>> recovered(Equations.parse({"x": "-0.3*x**0.5 + 0.01"}, ("x",)), half, np.array([1.0]))
    False
    """
    if truth.terms() is None:
        return _same_quotients(found, truth, middle)
    left, right = found.terms(), truth.terms()
    if left is None or right is None:
        return False
    sizes = [(w, a * np.prod(middle**w, axis=1)[:, None]) for w, a in (left, right)]
    return all(_same_equation(*[(w[a[:, e] != 0], a[a[:, e] != 0, e]) for w, a in sizes]) for e in range(len(middle)))


def middle_of(data: Dataset) -> np.ndarray:
    """Return the geometric mean (d,) of the sizes of each state's readings, those near zero at a millionth of the largest."""
    x = np.abs(data.stacked())
    return np.exp(np.nanmean(np.log(np.maximum(x, 1e-6 * np.nanmax(x, axis=0))), axis=0))


def _same_quotients(found: Equations, truth: Equations, middle: np.ndarray) -> bool:
    """Compare laws of ratios: numerators and denominators over one bar, the denominator's largest size one."""
    signed = any(r.has(sp.Abs, sp.sign) for r in truth.rhs)
    pairs = [[_quotient(law, e, middle, signed) for law in (found, truth)] for e in range(len(truth.states))]
    return all(
        one is not None and other is not None and all(_same_equation(f, t) for f, t in zip(one, other, strict=True))
        for one, other in pairs
    )


def _quotient(law: Equations, e: int, middle: np.ndarray, signed: bool) -> list[tuple[np.ndarray, np.ndarray]] | None:
    """Return (exponents, sizes at `middle`) of numerator and denominator without common powers, or None beyond ratios of powers."""
    plain, names = _without_signs(law, e)
    above, below = (_monomials(part, names, signed) for part in sp.fraction(sp.together(plain)))
    if above is None or below is None:
        return None
    common, where = np.minimum(above[0].min(0), below[0].min(0)), np.r_[middle, middle]
    sized = [(w - common, a * np.prod(where ** (w - common), axis=1)) for w, a in (above, below)]
    unit = max(sized[1][1], key=abs)
    return [(w, a / unit) for w, a in sized]


def _without_signs(law: Equations, e: int) -> tuple[sp.Expr, tuple[str, ...]]:
    """Return a right-hand side in which |x| counts as a state of its own, and the names of all states."""
    sizes = {x: sp.Symbol(f"abs_{x.name}", real=True) for x in law.symbols}
    plain = law.rhs[e].replace(sp.Abs, lambda x: sizes.get(x, sp.Abs(x)))
    plain = plain.replace(sp.sign, lambda x: x / sizes[x] if x in sizes else sp.sign(x))
    return plain, (*law.states, *(s.name for s in sizes.values()))


def _monomials(part: sp.Expr, names: tuple[str, ...], signed: bool) -> tuple[np.ndarray, np.ndarray] | None:
    """Return exponents and coefficients of a sum of powers, None for nothing and anything else."""
    table = Equations(names, (part, *[sp.S.Zero] * (len(names) - 1))).terms()
    if table is None or not len(table[0]):
        return None
    return _even_powers_to_sizes(table[0]) if signed else table[0], table[1][:, 0]


def _even_powers_to_sizes(w: np.ndarray) -> np.ndarray:
    """Write x**3 as x |x|**2, so that one term has one form."""
    d = w.shape[1] // 2
    odd = np.where(w[:, :d] == w[:, :d].round(), w[:, :d] % 2, w[:, :d])
    return np.hstack([odd, w[:, d:] + w[:, :d] - odd])


def _same_equation(found: tuple[np.ndarray, np.ndarray], truth: tuple[np.ndarray, np.ndarray]) -> bool:
    if len(found[0]) != len(truth[0]):
        return False
    free = np.ones(len(found[0]), bool)
    for row, size in zip(*truth, strict=True):
        near = (np.abs(found[0] - row) <= EXPONENT).all(1) & ((found[0] == 0) == (row == 0)).all(1)
        fits = np.flatnonzero(free & near & (np.abs(found[1] - size) <= COEFFICIENT * abs(size)))
        if not len(fits):
            return False
        free[fits[0]] = False
    return True
