r"""Sums c . x of states that rest, as algebra: A c = 0 for A[j, e], what the j-th term of a law makes of state e.

Small whole weights come first, then the null space of the table by elimination; of sums that rest those are kept that do not follow from
the ones before them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Float

WHOLE = (0, 1, -1, 2, -2)
TINY = 1e-11  # of the largest entry in a row of a table: what elimination leaves of nothing

Weights = Float[np.ndarray, "d"]


def whole_sums(d: int, weights: Sequence[int] = WHOLE) -> list[Weights]:
    """Return sums of two states or more with small whole weights, the first of them positive, none a multiple of another.

    >>> [c.astype(int).tolist() for c in whole_sums(2, (0, 1, -1))]
    [[1, 1], [1, -1]]
    """
    sums = (np.array(c, float) for c in itertools.product(weights, repeat=d))
    return [c for c in sums if (c != 0).sum() > 1 and c[np.flatnonzero(c)[0]] > 0 and np.abs(c[c != 0]).min() == 1]


def choose_independent(sums: Iterable[Weights], rests: Callable[[Weights], bool]) -> list[Weights]:
    """Return the sums that rest and do not follow from those before them."""
    found: list[Weights] = []
    for c in sums:
        if rests(c) and is_independent(found, c):
            found.append(c)
    return found


def is_independent(found: list[Weights], c: Weights) -> bool:
    """Tell whether a sum does not follow from those before it."""
    return bool(np.linalg.matrix_rank(np.array([*found, c])) == len(found) + 1)


def null_space(table: Float[np.ndarray, "m d"]) -> list[Weights]:
    """Return sums c (d,) with table @ c = 0, each with a first weight of 1, from the reduced rows of the table.

    >>> null_space(np.array([[-2.0, 2.0, 0.0], [0.0, -3.0, 3.0]]))
    [array([1., 1., 1.])]
    """
    rows = table / np.maximum(np.abs(table).max(1, keepdims=True, initial=0.0), 1e-300)
    pivots = _reduce(rows)
    sums = []
    for column in sorted({*range(rows.shape[1])} - {*pivots}):
        c = np.zeros(rows.shape[1])
        c[column], c[pivots] = 1.0, -rows[: len(pivots), column]
        c[np.abs(c) < TINY] = 0.0
        sums.append(c / c[np.flatnonzero(c)[0]])
    return sums


def _reduce(rows: Float[np.ndarray, "m d"]) -> list[int]:
    """Reduce rows in place, from the last column to the first, and return the columns of their pivots."""
    pivots: list[int] = []
    for column in reversed(range(rows.shape[1])):
        rank = len(pivots)
        place = rank + int(np.abs(rows[rank:, column]).argmax()) if rank < len(rows) else None
        if place is None or abs(rows[place, column]) < TINY:
            continue
        rows[[rank, place]] = rows[[place, rank]]
        rows[rank] /= rows[rank, column]
        others = np.arange(len(rows)) != rank
        rows[others] -= rows[others, column, None] * rows[rank]
        pivots.append(column)
    return pivots


def write_sum(c: Weights, names: Sequence[str], times: str = " ") -> str:
    """Write a sum as text.

    >>> write_sum(np.array([1.0, 2.0, -1.0]), ("S", "I", "R"))
    'S + 2 I - R'
    """
    parts = [
        f"{'-' if v < 0 else '+'} {'' if abs(v) == 1 else f'{abs(v):.12g}{times}'}{name}"
        for v, name in zip(c, names, strict=True)
        if v
    ]
    return " ".join(parts).removeprefix("+ ")


# Of smoothed data, for the search


__all__ = ["WHOLE", "Weights", "choose_independent", "is_independent", "null_space", "whole_sums", "write_sum"]
