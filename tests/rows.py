"""Laws of tests from tables: rows of exponents, or of exponents, inner exponents, log K and parities side by side."""

from __future__ import annotations

from typing import Any

import numpy as np

from eqdisc.law.law import Law
from eqdisc.law.terms import Terms


def terms_of(rows: Any, d: int) -> Terms:
    """Return the terms of rows of d numbers, or of 3 d + 1."""
    rows = np.asarray(rows, float)
    rows = rows.reshape(len(rows), -1 if rows.size else d)
    if rows.shape[1] == d:
        return Terms.of(rows)
    w, u, k, q = np.split(rows, np.cumsum([d, d, 1]), axis=1)
    return Terms.of(w, u, k[:, 0], q)


def law_of(rows: Any, a: Any, free: Any = None) -> Law:
    """Return the law of such rows, coefficients (m, d), and which entries are free."""
    d = np.asarray(a).shape[1]
    loose = None if free is None else terms_of(np.asarray(free, float), d).map(lambda v: v != 0)
    return Law.of(terms_of(rows, d), a, loose)


def lanes_of(*laws: tuple) -> Law:
    """Return such laws side by side in torch."""
    return Law.stack([law_of(*law) for law in laws])
