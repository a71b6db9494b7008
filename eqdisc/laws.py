r"""Laws: one structure for all equations, before and after it is fitted to the trajectories.

A law is the content of one RealNPU -> NAU lane in NumPy: exponents W (m, d), coefficients A (m, d), and which
exponents are free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from .collocation import Fit
from .description import Tie
from .matching import Proposal
from .terms import Terms

Law = tuple[np.ndarray, np.ndarray, np.ndarray]  # exponents (m, d), coefficients (m, d), free (m, d)


@dataclass(frozen=True, eq=False)
class Solved:
    """One law fitted to the trajectories, with its description length."""

    fit: Fit  # one lane
    law: Law
    cost: float
    ties: tuple[Tie, ...] = ()

    @property
    def data_cost(self) -> float:
        """The part of the description length that the residuals make."""
        return float(self.fit.nll[0])

    @property
    def key(self) -> tuple:
        return structure_key(self.law)

    @property
    def size(self) -> int:
        """Numbers that were fitted or chosen: coefficients, and exponents other than 0 and 1."""
        w, a, _ = self.law
        used = (a != 0).any(1)
        return int((a != 0).sum() + ((w[used] != 0) & (w[used] != 1)).sum())


def structure_key(law: Law) -> tuple:
    """Name a structure: rounded exponents and which equations use each term."""
    w, a, free = law
    used = (a != 0).any(1)
    rows = zip(w[used].round(2) + 0.0, a[used] != 0, free[used], strict=True)
    return tuple(sorted((tuple(r), tuple(s), tuple(f)) for r, s, f in rows))


def covariance_of(fit: Fit, lane: int = 0) -> tuple[np.ndarray, list[tuple[str, int, int]]]:
    """Return the covariance of a lane's numbers and their names ("exponent" | "coefficient", term, state)."""
    index = fit.index.select(slice(lane, lane + 1))
    on = index.valid[0].cpu().numpy()
    h = np.nan_to_num(fit.hessian[lane].cpu().numpy()[np.ix_(on, on)], posinf=1e200, neginf=-1e200)
    size = np.sqrt(np.maximum(np.diag(h), 0)) + 1e-300
    unit = np.nan_to_num(h / size[:, None] / size, posinf=0.0, neginf=0.0) + 1e-10 * np.eye(len(h))
    c = np.linalg.pinv(unit, hermitian=True) / size[:, None] / size
    kinds = zip(index.is_exponent[0], index.term[0], index.state[0], on, strict=True)
    return c, [("exponent" if k else "coefficient", int(j), int(i)) for k, j, i, v in kinds if v]


def join(equations: Sequence[Proposal | None]) -> Law:
    """Join one proposal an equation (None: empty), merging terms that are equal or close enough to be one.

    >>> x = Proposal(np.array([[1.0, 0.0]]), np.array([-2.0]), np.zeros((1, 2), bool), 0.0)
    >>> join([x, x])[1]
    array([[-2., -2.]])
    """
    d = len(equations)
    w: list[np.ndarray] = []
    a: list[np.ndarray] = []
    free: list[np.ndarray] = []
    for e, proposal in enumerate(equations):
        if proposal is None:
            continue
        for row, value, loose in zip(proposal.exponents, proposal.coefficients, proposal.free, strict=True):
            q = next((q for q in range(len(w)) if a[q][e] == 0 and _mergeable(w[q], free[q], row, loose)), None)
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
        return np.zeros((0, d)), np.zeros((0, d)), np.zeros((0, d), bool)
    return np.array(w), np.array(a), np.array(free)


def _mergeable(w: np.ndarray, free: np.ndarray, other: np.ndarray, other_free: np.ndarray) -> bool:
    near = np.where(~free & ~other_free, 1e-6, 0.2)
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
    """Leave out terms that no equation uses."""
    w, a, free = law
    used = (a != 0).any(1)
    return w[used].copy(), a[used].copy(), free[used].copy()


def release(terms: Terms, positive: Tensor) -> Terms:
    """Free every exponent that is not zero on states that carry real ones."""
    return replace(terms, free=(terms.exponents != 0) & positive & terms.support.any(-1, keepdim=True))


def contains(rich: Law, law: Law, exponent: float = 0.05) -> bool:
    """Tell whether `rich` has every term of `law` in every equation, exponents within `exponent`, and more."""
    (w, a, _), (v, b, _) = merge_equal(rich), merge_equal(law)
    near = (np.abs(w[:, None] - v).max(-1, initial=0.0) <= exponent).astype(int)  # (rich terms, terms)
    return bool((near.T @ (a != 0) >= (b != 0)).all() and (a != 0).sum() > (b != 0).sum())


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


def alike(one: Law, other: Law, exponent: float = 0.05) -> bool:
    """Tell whether two laws have the same terms in every equation, exponents within `exponent`."""
    (w, a, _), (v, b, _) = merge_equal(one), merge_equal(other)
    for e in range(a.shape[1]):
        left, right = w[a[:, e] != 0], v[b[:, e] != 0]
        if len(left) != len(right):
            return False
        free = list(range(len(right)))
        for row in left:
            fits = [
                q for q in free if (np.abs(right[q] - row) <= exponent).all() and ((right[q] == 0) == (row == 0)).all()
            ]
            if not fits:
                return False
            free.remove(fits[0])
    return True
