r"""Library: the simple terms that a search starts from, as the units seed them (`units.monomial`, `units.saturation`, `units.magnitude`).

Exponents are freed later; a library only has to come near.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from ..law.terms import Terms
from ..units import magnitude, monomial, saturation

LARGEST = 5  # terms in one equation


def sums(positive: Bool[np.ndarray, "d"], admits: Callable[[np.ndarray], np.ndarray]) -> Terms:
    """Return products of powers whose exponents are admitted.

    >>> sums(np.array([True]), lambda w: w[:, 0] < 0).exponents[:2].ravel().tolist()
    [-3.0, -2.5]
    """
    terms = Terms.seeded(len(positive), list(monomial.seeds(positive)))
    return terms[admits(terms.exponents)]


def ratios(
    positive: Bool[np.ndarray, "d"], values: Float[np.ndarray, "n d"], admits: Callable[[np.ndarray], np.ndarray]
) -> Terms:
    """Return terms that saturate, K where the data `values` are low, usual and high, and signed powers of states that change sign.

    >>> some = ratios(np.array([True]), np.array([[0.2], [0.4], [0.8]]), lambda w: w[:, 0] >= 0)
    >>> some.exponents[9].tolist(), some.inner[9].tolist(), some.offsets[9].round(2)  # x / (0.4 + x)
    ([1.0], [1.0], np.float64(-0.92))
    """
    d = len(positive)
    above, below, offsets = zip(*saturation.seeds(positive, values), strict=True) if positive.any() else ((),) * 3
    bars = Terms.seeded(d, above, inner=below, offsets=offsets)
    powers, parities = zip(*magnitude.seeds(positive), strict=True) if not positive.all() else ((),) * 2
    signed = Terms.seeded(d, powers, parity=parities)
    changing = ~positive & (signed.parity != 0)
    signed = signed[admits(np.where(changing, signed.exponents, 0.0))]
    return bars[admits(bars.exponents) & admits(bars.inner)].join(signed)


__all__ = ["ratios", "sums"]
