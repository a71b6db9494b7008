r"""Library: the simple terms that a search starts from.

Sums of powers: a constant, powers of one state, products of two or three. Terms that saturate, x**p / (K + x**h), with K where the data
are low, usual and high. Signed powers of states that change sign. Exponents are freed later; a library only has to come near.
"""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Float

from ..law.price import Prior

HILLS = (1, 2)  # powers of a denominator; of one state alone also the steep ones
STEEP = (3, 4, 5)
SIGNED = ((1.0, 2.0), (2.0, 1.0), (0.5, 1.0), (1.5, 1.0), (1.5, 2.0), (3.0, 2.0))  # powers and q: 1 odd, 2 even
QUANTILES = (0.1, 0.5, 0.9)  # of a state, where a denominator's K starts;
SHARES = (0.25, 0.5, 0.75)  # of its range, as well: a state at rest has all its quantiles there;
BEYOND = 3.0  # and so far below the first quantile and beyond the last


def library(positive: np.ndarray, prior: Prior) -> Float[np.ndarray, "terms d"]:
    """Return the exponents of simple terms: a constant, powers of one state, products of two or three.

    >>> library(np.array([True]), Prior())[:3].ravel().tolist()
    [0.0, -3.0, -2.5]
    """
    d = len(positive)
    if d == 1:
        powers = [-3, -2.5, -2, -1.5, -1, -0.75, -0.5, -0.25, 0.25, 0.5, 2 / 3, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4]
        menu = [powers if positive[0] else [1, 2, 3, 4, 5]]
    else:
        real, whole = ([-1, -0.5, 0.5, 1, 2], [1, 2]) if d >= 5 else ([-2, -1, -0.5, 0.5, 1, 2], [1, 2, 3])
        menu = [list(real if p else whole) for p in positive]
    rows = [np.zeros(d)]
    rows += [_term(d, {i: e}) for i in range(d) for e in menu[i]]
    for i, j in itertools.combinations(range(d), 2):
        rows += [_term(d, {i: a, j: b}) for a in menu[i] for b in menu[j] if _worth(a, b, positive[i] and positive[j])]
    for triple in itertools.combinations(range(d), 3):
        for three in itertools.product(*[[-1, 0.5, 1] if positive[i] else [1] for i in triple]):
            if sum(p < 0 for p in three) <= 1 and (d <= 3 or 0.5 not in three):
                rows.append(_term(d, dict(zip(triple, three, strict=True))))
    table = np.array(rows)
    return table[((table == 0) | ((table >= prior.lower) & (table <= prior.upper))).all(1)]


def saturating_library(
    positive: np.ndarray, values: Float[np.ndarray, "n d"], prior: Prior
) -> Float[np.ndarray, "terms c"]:
    """Return terms x_i**p / (K + x_i**h), alone and times another state, with K where the data `values` are low, usual and high.

    >>> saturating_library(np.array([True]), np.array([[0.2], [0.4], [0.8]]), Prior())[1].round(2).tolist()  # x / (0.4 + x)
    [0.0, 1.0, -0.92, 0.0]
    """
    d = len(positive)
    rows = []
    for i in np.flatnonzero(positive):
        x = values[:, i]
        usual = np.quantile(x, QUANTILES)
        levels = np.r_[usual, x.min() + np.ptp(x) * np.array(SHARES), usual[0] / BEYOND, usual[-1] * BEYOND]
        levels = np.log(np.maximum(levels, 1e-4))
        for h in HILLS if d > 1 else (*HILLS, *STEEP):
            for p in range(h + 1):
                for others in [{}, *({j: 1.0} for j in range(d) if j != i)]:
                    for level in levels:
                        above, below = _term(d, {int(i): float(p), **others}), _term(d, {int(i): float(h)})
                        rows.append(np.r_[above, below, h * level, np.zeros(d)])
    table = np.array(rows).reshape(-1, 3 * d + 1)
    powers = table[:, : 2 * d]
    return table[((powers == 0) | ((powers >= prior.lower) & (powers <= prior.upper))).all(1)]


def signed_library(positive: np.ndarray, prior: Prior) -> Float[np.ndarray, "terms c"]:
    """Return terms sign(x_i)|x_i|**p and |x_i|**p that are no whole powers, alone and times another state, of states that change sign.

    >>> signed_library(np.array([False]), Prior())[:2].tolist()  # |x| and x |x|
    [[1.0, 0.0, 0.0, 2.0], [2.0, 0.0, 0.0, 1.0]]
    """
    d = len(positive)
    rows = [
        np.r_[_term(d, {i: power, **others}), np.zeros(d + 1), _term(d, {i: parity})]
        for i in map(int, np.flatnonzero(~positive))
        for power, parity in SIGNED
        for others in [{}, *({j: 1.0} for j in range(d) if j != i)]
        if prior.lower <= power <= prior.upper
    ]
    return np.array(rows).reshape(-1, 3 * d + 1)


def lay_rows(rows: Float[np.ndarray, "terms c"], narrow: int, d: int) -> Float[np.ndarray, "terms c"]:
    """Lay rows over `narrow` columns out over d, the last of which no term contains.

    >>> lay_rows(np.array([[1.0, 2.0, 3.0, 4.0]]), 1, 2).tolist()  # [w, u, log K, q]
    [[1.0, 0.0, 2.0, 0.0, 3.0, 4.0, 0.0]]
    """
    if narrow == d:
        return rows
    wide = lambda part: np.pad(part, ((0, 0), (0, d - narrow)))  # noqa: E731
    parts = [wide(rows[:, :narrow])]
    if rows.shape[1] > narrow:
        parts += [
            wide(rows[:, narrow : 2 * narrow]),
            rows[:, 2 * narrow : 2 * narrow + 1],
            wide(rows[:, 2 * narrow + 1 :]),
        ]
    return np.hstack(parts)


def _term(d: int, powers: dict[int, float]) -> np.ndarray:
    row = np.zeros(d)
    for i, power in powers.items():
        row[i] = power
    return row


def _worth(a: float, b: float, both_positive: bool) -> bool:
    return not (a < 0 and b < 0) and (both_positive or abs(a) + abs(b) <= 3)
