"""Scoring: is a found law the one that made the data?"""

from __future__ import annotations

import numpy as np

from ..equations import Equations

EXPONENT = 0.05
COEFFICIENT = 0.1


def recovered(found: Equations, truth: Equations, middle: np.ndarray) -> bool:
    """Tell whether a law has the truth's terms in every equation, exponents within 0.05 and sizes within 10 %.

    Zero exponents must be zero. A term's size is taken at `middle` (d,), the geometric mean of the data, so that units do not matter.

    >>> half, near = (Equations.parse({"x": f"-0.3*x**{p}"}, ("x",)) for p in (0.5, 0.52))
    >>> recovered(near, half, np.array([1.0])), recovered(near, half, np.array([100.0]))
    (True, True)
    >>> recovered(Equations.parse({"x": "-0.3*x**0.5 + 0.01"}, ("x",)), half, np.array([1.0]))
    False
    """
    left, right = found.terms(), truth.terms()
    if left is None or right is None:
        return False
    sizes = [(w, a * np.prod(middle**w, axis=1)[:, None]) for w, a in (left, right)]
    return all(_same_equation(*[(w[a[:, e] != 0], a[a[:, e] != 0, e]) for w, a in sizes]) for e in range(len(middle)))


def _same_equation(found: tuple[np.ndarray, np.ndarray], truth: tuple[np.ndarray, np.ndarray]) -> bool:
    if len(found[0]) != len(truth[0]):
        return False
    free = list(range(len(found[0])))
    for row, size in zip(*truth, strict=True):
        fits = [
            q
            for q in free
            if (np.abs(found[0][q] - row) <= EXPONENT).all()
            and ((found[0][q] == 0) == (row == 0)).all()
            and abs(found[1][q] - size) <= COEFFICIENT * abs(size)
        ]
        if not fits:
            return False
        free.remove(fits[0])
    return True
