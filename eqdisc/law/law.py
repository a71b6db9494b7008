r"""Laws: one structure for all equations, before and after it is fitted to the trajectories.

A law is the content of one RealNPU -> NAU lane in NumPy: rows of exponents W (m, c), as `terms` says, coefficients A (m, d),
and which exponents are free. Two terms that saturate are alike where the ratio of their K is below exp(1/2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from ..work.journal import Form, Packed
from .terms import Terms, loosen, tidy, widen

Law = tuple[np.ndarray, np.ndarray, np.ndarray]  # exponents (m, c), coefficients (m, d), free (m, c)
ROUND = 1e-4  # by which an exponent may miss two decimals
CLOSE_K = 0.1  # log K counts so much in the distance of two rows
SAME = 1e-6  # chosen exponents that differ by less are equal


@dataclass(frozen=True, eq=False)
class Proposal:
    """One equation's structure: exponents (k, d), coefficients (k,), free (k, d), and its description length."""

    exponents: np.ndarray
    coefficients: np.ndarray
    free: np.ndarray
    cost: float


def pack_laws(laws: Sequence[Law]) -> Packed:
    """Return the arrays of many laws end to end, with their shapes.

    >>> law = np.eye(2), -np.eye(2), np.zeros((2, 2), bool)
    >>> [[part.tolist() for part in again] for again in unpack_laws(pack_laws([law]))] == [[part.tolist() for part in law]]
    True
    """
    parts = list(zip(*laws, strict=True)) or [(), (), ()]
    flat = [np.concatenate([np.ravel(v) for v in vs]) if vs else np.zeros(0) for vs in parts]
    shapes = np.array([(*w.shape, a.shape[1]) for w, a, _ in laws], np.int64).reshape(-1, 3)
    return {"exponents": flat[0], "coefficients": flat[1], "free": flat[2].astype(bool), "shapes": shapes}


def unpack_laws(packed: Packed) -> list[Law]:
    """Return the laws that were packed."""
    shapes = packed["shapes"]
    sizes = shapes[:, :1] * shapes[:, [1, 2, 1]]
    ends = np.vstack([np.zeros(3, np.int64), np.cumsum(sizes, 0)])
    names = ("exponents", "coefficients", "free")
    out = []
    for (m, c, d), start, end in zip(shapes.tolist(), ends[:-1], ends[1:], strict=True):
        w, a, free = (packed[name][i:j].copy() for name, i, j in zip(names, start, end, strict=True))
        out.append((w.reshape(m, c), a.reshape(m, d), free.reshape(m, c)))
    return out


LAWS: Form[list[Law]] = Form(pack_laws, unpack_laws)


def structure_key(law: Law) -> tuple:
    """Name a structure: rounded exponents and which equations use each term."""
    w, a, free = law
    used, d = (a != 0).any(1), a.shape[1]
    if not (w[used, d:] != 0).any():
        w, free = w[:, :d], free[:, :d]
    rows = zip(w[used].round(2) + 0.0, a[used] != 0, free[used], strict=True)
    return tuple(sorted((tuple(r), tuple(s), tuple(f)) for r, s, f in rows))


def unround_exponents(law: Law, grouped: int = 0) -> list[tuple[int, int]]:
    """Return where (term, column, padding left out) an estimated exponent of a state or input is no number of two decimals."""
    w, a, free = without_padding(law)
    d = a.shape[1]
    places = [(int(j), int(i)) for j, i in np.argwhere(free[:, : 2 * d]) if i % d < d - grouped]
    return [(j, i) for j, i in places if abs(w[j, i] - round(w[j, i], 2)) > ROUND]


def join(equations: Sequence[Proposal | None]) -> Law:
    """Join one proposal an equation (None: empty), merging terms that are equal or close enough to be one.

    >>> x = Proposal(np.array([[1.0, 0.0]]), np.array([-2.0]), np.zeros((1, 2), bool), 0.0)
    >>> join([x, x])[1]
    array([[-2., -2.]])
    """
    d, columns = len(equations), max((p.exponents.shape[1] for p in equations if p is not None), default=len(equations))
    w: list[np.ndarray] = []
    a: list[np.ndarray] = []
    free: list[np.ndarray] = []
    for e, proposal in enumerate(equations):
        if proposal is None:
            continue
        rows, may = (widen(v, columns) for v in (proposal.exponents, proposal.free))
        for row, value, loose in zip(rows, proposal.coefficients, may, strict=True):
            q = next((q for q in range(len(w)) if a[q][e] == 0 and _mergeable(w[q], free[q], row, loose, d)), None)
            if q is None:
                w.append(row.copy())
                free.append(loose.copy())
                a.append(np.zeros(d))
                q = len(w) - 1
            else:
                settled = free[q] & ~loose
                w[q][settled], free[q][settled] = row[settled], False
            a[q][e] = value
    if not w:
        return np.zeros((0, columns)), np.zeros((0, d)), np.zeros((0, columns), bool)
    return np.array(w), np.array(a), np.array(free)


def _mergeable(w: np.ndarray, free: np.ndarray, other: np.ndarray, other_free: np.ndarray, d: int) -> bool:
    near = np.where(~free & ~other_free, 1e-6, 0.2)
    near[2 * d : 2 * d + 1] = 1.5  # two estimates of one K
    return bool((np.abs(w - other) < near).all() and ((w != 0) == (other != 0)).all())


def close_sum(law: Law, c: np.ndarray, e: int, factors: np.ndarray) -> Law:
    """Set equation e so that sum_i c_i dx_i/dt = 0 (c in the user's units)."""
    w, a, free = law
    a = a.copy()
    others = np.where(np.arange(len(c)) == e, 0.0, c)
    total = -(a * factors) @ others / c[e]
    total[np.abs(total) < 0.15 * np.abs(a * factors).max(1, initial=0.0)] = 0.0
    a[:, e] = total / factors[e]
    return w, a, free


def without_padding(law: Law) -> Law:
    """Leave out terms that no equation uses, and what is left of denominators that are gone."""
    w, a, free = law
    used = (a != 0).any(1)
    w, free = tidy(w[used].copy(), free[used].copy(), a.shape[1])
    return w, a[used].copy(), free


def release(terms: Terms, positive: Tensor) -> Terms:
    """Free every exponent of plain terms that is not zero on states that carry real ones, and every K."""
    return replace(terms, free=loosen(terms.exponents, positive) & terms.support.any(-1, keepdim=True))


def contains(rich: Law, law: Law, exponent: float = 0.05) -> bool:
    """Tell whether `rich` has every term of `law` in every equation, exponents within `exponent`, and more."""
    (w, a), (v, b) = _comparable(rich, law)
    near = (np.abs(w[:, None] - v).max(-1, initial=0.0) <= exponent).astype(int)  # (rich terms, terms)
    return bool((near.T @ (a != 0) >= (b != 0)).all() and (a != 0).sum() > (b != 0).sum())


def _comparable(one: Law, other: Law) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return rows and coefficients of two laws, in rows alike wide in which log K counts little."""
    (w, a, _), (v, b, _) = merge_equal(one), merge_equal(other)
    columns, d = max(w.shape[1], v.shape[1]), a.shape[1]
    weight = np.where(np.arange(columns) == 2 * d, CLOSE_K, 1.0)
    return [(widen(w, columns) * weight, a), (widen(v, columns) * weight, b)]


def merge_equal(law: Law, near: float = 1e-3) -> Law:
    """Add up terms whose exponents agree within `near`, and leave out what nothing uses."""
    w, a, free = without_padding(law)
    keep: list[int] = []
    for q in range(len(w)):
        same = next((k for k in keep if np.abs(w[k] - w[q]).max(initial=0.0) < near), None)
        if same is None:
            keep.append(q)
        else:
            a[same] += a[q]
    return without_padding((w[keep], a[keep], free[keep]))


def complexity_of(law: Law) -> int:
    """Count what a reader sees: each coefficient, each factor, each power that is not one.

    >>> complexity_of((np.array([[0.5, 1.0]]), np.array([[2.0, 0.0]]), np.zeros((1, 2), bool)))
    4
    """
    w, a, _ = law
    factors = (w != 0).sum(1) + ((w != 0) & (w != 1)).sum(1)
    return int(((a != 0) * (1 + factors)[:, None]).sum())


def alike(one: Law, other: Law, exponent: float = 0.05, chosen: bool = False) -> bool:
    """Tell whether two laws have the same terms in every equation, exponents within `exponent`.

    With `chosen` every exponent that `other` has chosen, rather than fitted, must be that of `one`: x**0.75 says something else than
    x**0.8 or a fitted x**0.77 does, a fitted x**0.77 nothing else than x**0.75.
    """
    (w, a), (v, b) = _comparable(one, other)
    free = widen(merge_equal(other)[2].astype(float), v.shape[1]) != 0
    for e in range(a.shape[1]):
        left, right, loose = w[a[:, e] != 0], v[b[:, e] != 0], free[b[:, e] != 0]
        if len(left) != len(right):
            return False
        open_to = list(range(len(right)))
        for row in left:
            gap, same_states = np.abs(right - row), ((right == 0) == (row == 0))[:, : 2 * a.shape[1]].all(1)
            near = (gap <= exponent).all(1) & same_states
            near &= not chosen or (loose | (gap < SAME)).all(1)
            fits = [q for q in open_to if near[q]]
            if not fits:
                return False
            open_to.remove(fits[0])
    return True
