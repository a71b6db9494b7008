r"""Law: one structure for all equations, from the first proposal to the printed formula.

    dx_e/dt = sum_j A[j, e] m_j(x)

with terms m_j (`terms`), coefficients A, one that is exactly zero not being there, and which numbers are free. It is a chain of units whose
gates are closed or open: power units and addition units below give the quantities, a power unit the terms, an addition unit A. Lanes of
laws, in torch, are laws of one padded shape with an axis more; one lane comes back in NumPy, without what no equation uses. Its numbers are
named (part, term, place) from the proposal to the print.

Two terms that saturate are alike where the ratio of their K is below exp(1/2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..work.journal import Form, Packed
from .terms import Number, Terms, stack_terms

ROUND = 1e-4  # by which an exponent may miss two decimals
CLOSE_K = 0.1  # log K counts so much in the distance of two terms
SAME = 1e-6  # chosen exponents that differ by less are equal
EQUAL = 1e-3  # and fitted ones
NEAR = 0.2  # proposals of two equations that differ by less are one term, if an exponent is free,
NEAR_K = 1.5  # and their log K by less
CANCELS = 0.15  # of the largest contribution to a sum, what is left of those that cancel
PARTS = ("exponent", "inner", "offset", "coefficient")


@dataclass(frozen=True, eq=False)
class Law:
    """m terms over d columns, their coefficients (..., m, d), and which numbers of terms are estimated; the others stand at a chosen value.

    >>> decay = Law.of(Terms.of([[1.0]]), [[-0.5]])
    >>> len(decay), decay.complexity
    (1, 2)
    """

    terms: Terms
    coefficients: Any  # (..., m, d): of each term in the equation of each column
    free: Terms
    flux: Float[Tensor, "lanes m d d"] | None = (
        None  # [j, e] is how all coefficients of term j move with that of equation e
    )
    cost: float = math.nan  # nats, where it was priced

    @classmethod
    def of(cls, terms: Terms, coefficients: Any, free: Terms | None = None, cost: float = math.nan) -> Law:
        """Return one law in NumPy; without `free` every number of its terms stands."""
        return cls(terms, np.asarray(coefficients, float), terms.nothing() if free is None else free, cost=cost)

    @classmethod
    def equation(cls, terms: Terms, a: Float[np.ndarray, "m"], e: int, free: Terms | None = None, **facts: Any) -> Law:
        """Return a law of one equation, that of column e."""
        return cls.of(terms, np.outer(a, np.eye(terms.d)[e]), free, **facts)

    @classmethod
    def none(cls, d: int) -> Law:
        """Return the law by which nothing moves."""
        return cls.of(Terms.none(d), np.zeros((0, d)))

    @classmethod
    def stack(cls, laws: Sequence[Law], device: str | torch.device = "cpu") -> Law:
        """Return laws side by side as lanes in torch, padded alike."""
        terms, free = (stack_terms(getattr(law, part) for law in laws).torch(device) for part in ("terms", "free"))
        a = np.zeros((*terms.offsets.shape, laws[0].coefficients.shape[-1]))
        for lane, law in enumerate(laws):
            a[lane, : len(law)] = law.coefficients
        return cls(terms, torch.as_tensor(a, device=device), free.map(lambda v: v != 0))

    def lane(self, number: int = 0) -> Law:
        """Return one lane in NumPy, without its padding."""
        used = self.support[number].any(-1)
        some = lambda terms: terms[number][used].numpy()  # noqa: E731
        return Law(some(self.terms), self.coefficients[number][used].detach().cpu().numpy().copy(), some(self.free))

    def __len__(self) -> int:
        return len(self.terms)

    @property
    def d(self) -> int:
        """Number of columns: states, then inputs."""
        return self.terms.d

    @property
    def lanes(self) -> int:
        """Number of lanes, in torch."""
        return self.coefficients.shape[0]

    @property
    def support(self) -> Any:
        """Coefficients that are there (..., m, d)."""
        return self.coefficients != 0

    @property
    def empty(self) -> bool:
        """Whether the law says nothing."""
        return not bool(self.support.any())

    @property
    def directions(self) -> Float[Tensor, "lanes m d d"]:
        """How the coefficients of a term move with each of them: alone, unless some are tied."""
        a = self.coefficients
        eye = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
        return eye.expand(*a.shape, -1) if self.flux is None else self.flux

    def select(self, lanes: Tensor | slice) -> Law:
        """Return those lanes."""
        flux = None if self.flux is None else self.flux[lanes]
        return Law(self.terms[lanes], self.coefficients[lanes], self.free[lanes], flux)

    def beside(self, *others: Law) -> Law:
        """Return lanes of laws end to end (torch), alike wide."""
        terms, free = self.terms.join(*(o.terms for o in others)), self.free.join(*(o.free for o in others))
        return Law(terms, torch.cat([self.coefficients, *(o.coefficients for o in others)]), free)

    def choose(self, terms: Any) -> Law:
        """Return the law of some of the terms (NumPy)."""
        return replace(self, terms=self.terms[terms], coefficients=self.coefficients[terms], free=self.free[terms])

    def only(self, e: int) -> Law:
        """Return equation e alone."""
        on = self.support[:, e]
        return replace(self.choose(on), coefficients=self.coefficients[on] * (np.arange(self.d) == e))

    def add(self, terms: Terms, coefficients: Any, free: Terms | None = None) -> Law:
        """Return the law with more terms."""
        more = Law.of(terms, coefficients, free)
        a = np.vstack([self.coefficients, more.coefficients])
        return replace(self, terms=self.terms.join(more.terms), coefficients=a, free=self.free.join(more.free))

    def with_coefficients(self, a: Any) -> Law:
        """Return the same terms with other coefficients."""
        return replace(self, coefficients=a)

    def replace_term(self, j: int, term: Terms) -> Law:
        """Return the law with another term, whose numbers stand, in the place of term j."""
        law = replace(self, terms=self.terms.copy(), free=self.free.copy())
        for own, free, value in zip(law.terms.arrays, law.free.arrays, term.arrays, strict=True):
            own[j], free[j] = value[0], False
        return law

    # Numbers

    def __getitem__(self, number: Number) -> float:
        """Return one number."""
        return float(self._array(number.part)[number[1:] if number.part != "offset" else number.term])

    def put(self, values: dict[Number, float], free: bool | None = False) -> Law:
        """Return the law with these numbers, which stand if `free` is False, are estimated if True, and stay as they are if None."""
        law = replace(self, terms=self.terms.copy(), coefficients=self.coefficients.copy(), free=self.free.copy())
        for number, value in values.items():
            at: Any = number[1:] if number.part != "offset" else number.term
            law._array(number.part)[at] = value
            if number.part != "coefficient" and free is not None:
                law._array(number.part, law.free)[at] = free
        return law

    def release(self, number: Number) -> Law:
        """Return the law with one number more that is estimated."""
        return self.put({number: self[number]}, free=True)

    def is_free(self, number: Number) -> bool:
        """Tell whether a number is estimated; a coefficient is."""
        at: Any = number[1:] if number.part != "offset" else number.term
        return number.part == "coefficient" or bool(self._array(number.part, self.free)[at])

    def _array(self, part: str, of: Terms | None = None) -> Any:
        of = self.terms if of is None else of
        return self.coefficients if part == "coefficient" else of.arrays[PARTS.index(part)]

    # Comparison

    @cached_property
    def key(self) -> tuple:
        """What names the structure: rounded powers, which equations use each term, which numbers are free."""
        used = self.support.any(1)
        parts = self.terms.table()[used].round(2) + 0.0, self.support[used], self.free.table()[used]
        return tuple(sorted(tuple(tuple(v.tolist()) for v in row) for row in zip(*parts, strict=True)))

    def without_padding(self) -> Law:
        """Leave out terms that no equation uses, and what is left of denominators that are gone."""
        used = self.support.any(1)
        terms, free = self.terms[used].copy().tidy(self.free[used])
        return replace(self, terms=terms, free=free, coefficients=self.coefficients[used].copy())

    def merge_equal(self, near: float = EQUAL) -> Law:
        """Add up terms whose numbers agree within `near`, and leave out what nothing uses."""
        law = self.without_padding()
        a, gaps, keep = law.coefficients, law.terms.gaps(law.terms), list[int]()
        for q in range(len(law)):
            same = next((k for k in keep if gaps[k, q] < near), None)
            if same is None:
                keep.append(q)
            else:
                a[same] += a[q]
        return law.choose(keep).without_padding()

    @cached_property
    def complexity(self) -> int:
        """What a reader sees: each coefficient, each factor, each power that is not one.

        >>> Law.of(Terms.of([[0.5, 1.0]]), [[2.0, 0.0]]).complexity
        4
        """
        table = self.terms.table()
        factors = (table != 0).sum(1) + ((table != 0) & (table != 1)).sum(1)
        return int((self.support * (1 + factors)[:, None]).sum())

    @property
    def size(self) -> int:
        """Numbers that were fitted or chosen: coefficients, and exponents other than 0 and 1."""
        table = self.terms.table()[self.support.any(1)]
        return int(self.support.sum() + ((table != 0) & (table != 1)).sum())

    def contains(self, law: Law, exponent: float = 0.05) -> bool:
        """Tell whether this law has every term of `law` in every equation, exponents within `exponent`, and more."""
        rich, law = self.merge_equal(), law.merge_equal()
        near = (rich.terms.gaps(law.terms, CLOSE_K) <= exponent).astype(int)
        held = near.T @ rich.support >= law.support
        return bool(held.all() and rich.support.sum() > law.support.sum())

    def alike(self, other: Law, exponent: float = 0.05, chosen: bool = False) -> bool:
        """Tell whether two laws have the same terms in every equation, exponents within `exponent`.

        With `chosen` every exponent that `other` has chosen, rather than fitted, must be that of this law: x**0.75 says something else
        than x**0.8 or a fitted x**0.77 does, a fitted x**0.77 nothing else than x**0.75.
        """
        one, other = self.merge_equal(), other.merge_equal()
        apart = one.terms.differences(other.terms, CLOSE_K)
        near = (apart <= exponent).all(-1) & one.terms.like(other.terms)
        if chosen:
            near &= (other.free.table() | (apart < SAME)).all(-1)
        return all(_pair_up(near[np.ix_(*used)]) for used in zip(one.support.T, other.support.T, strict=True))

    def unround(self, grouped: int = 0) -> list[Number]:
        """Return the estimated exponents of states and inputs that are no numbers of two decimals, padding left out."""
        law, found = self.without_padding(), list[Number]()
        for j in range(len(law)):
            for part, free in (("exponent", law.free.exponents[j]), ("inner", law.free.inner[j])):
                found += [Number(part, j, int(i)) for i in np.flatnonzero(free[: law.d - grouped])]
        return [n for n in found if abs(law[n] - round(law[n], 2)) > ROUND]

    # Change

    def close_sum(self, c: Float[np.ndarray, "d"], e: int, factors: Float[np.ndarray, "d"]) -> Law:
        """Set equation e so that sum_i c_i dx_i/dt = 0 (c in the user's units, which `factors` make of scaled ones)."""
        a = self.coefficients.copy()
        others = np.where(np.arange(len(c)) == e, 0.0, c)
        total = -(a * factors) @ others / c[e]
        total[np.abs(total) < CANCELS * np.abs(a * factors).max(1, initial=0.0)] = 0.0
        a[:, e] = total / factors[e]
        return self.with_coefficients(a)

    def freed(self, positive: Tensor) -> Law:
        """Free every exponent of plain terms that is not zero on states that carry real ones, and every K (torch)."""
        used = self.support.any(-1)
        loose = self.terms.loosen(positive)
        on = lambda v: v & (used if v.dim() == used.dim() else used[..., None])  # noqa: E731
        return replace(self, free=loose.map(on))


def _pair_up(near: Bool[np.ndarray, "n m"]) -> bool:
    """Tell whether each of one law's terms finds one of the other's that is near, and none is left."""
    if near.shape[0] != near.shape[1]:
        return False
    open_to = list(range(near.shape[1]))
    for row in near:
        fits = [q for q in open_to if row[q]]
        if not fits:
            return False
        open_to.remove(fits[0])
    return True


def join(equations: Sequence[Law | None]) -> Law:
    """Join one law an equation (None: empty), merging terms that are equal or close enough to be one.

    >>> x = Terms.of([[1.0, 0.0]])
    >>> join([Law.equation(x, np.array([-2.0]), 0), Law.equation(x, np.array([-2.0]), 1)]).coefficients
    array([[-2., -2.]])
    """
    law = Law.none(len(equations))
    for e, proposal in enumerate(equations):
        for j in range(0 if proposal is None else len(proposal)):
            assert proposal is not None
            law = _merged(law, proposal.choose([j]), e)
    return law


def _merged(law: Law, one: Law, e: int) -> Law:
    """Return the law with one more term in equation e, which may be one of those that it has."""
    near = (law.coefficients[:, e] == 0) & _mergeable(law, one)
    if not near.any():
        return law.add(one.terms, one.coefficients, one.free)
    q = int(np.flatnonzero(near)[0])
    law = replace(law, terms=law.terms.copy(), free=law.free.copy(), coefficients=law.coefficients.copy())
    pairs = zip(law.terms.arrays, law.free.arrays, one.terms.arrays, one.free.arrays, strict=True)
    for own, free, other, loose in pairs:
        settled = free[q] & ~loose[0]
        own[q] = np.where(settled, other[0], own[q])
        free[q] = free[q] & ~settled
    law.coefficients[q, e] = one.coefficients[0, e]
    return law


def _mergeable(law: Law, one: Law) -> Bool[np.ndarray, "m"]:
    """Tell which terms of a law may be this one: chosen numbers equal, estimates near."""
    table, other = law.terms.table(), one.terms.table()
    near = np.where(law.free.table() | one.free.table(), NEAR, SAME)
    is_k = replace(law.terms.nothing(), offsets=np.ones(len(law), bool))
    near = np.where(is_k.table(), NEAR_K, near)  # two estimates of one K
    return ((np.abs(table - other) < near) & ((table != 0) == (other != 0))).all(1)


# Numbers of lanes


@dataclass(frozen=True, eq=False)
class Numbers:
    """The numbers of each lane that are fitted: which part of the law (0 exponent, 1 inner, 2 offset, 3 coefficient), term and place."""

    part: Int[Tensor, "R P"]
    term: Int[Tensor, "R P"]
    place: Int[Tensor, "R P"]
    valid: Bool[Tensor, "R P"]

    @classmethod
    def of(cls, law: Law, positive: Tensor) -> Numbers:
        """Name the free numbers of terms that are used, term by term, then the coefficients that are there."""
        used = law.support.any(-1)
        leads = law.directions.diagonal(dim1=-2, dim2=-1) != 0  # the others follow another equation's coefficient
        own = [v & w for v, w in zip(law.free.arrays, law.terms.movable(positive).arrays, strict=True)]
        own = [v & (used if v.dim() == used.dim() else used[..., None]) for v in own]
        return cls.among(Terms(*own), law.support & leads, least=1)

    @classmethod
    def among(cls, free: Terms, coefficients: Bool[Tensor, "R m e"] | None = None, least: int = 0) -> Numbers:
        """Name numbers of terms, term by term, then coefficients; every lane has as many places as the one with most, but `least`."""
        rows = torch.cat([free.exponents, free.inner, free.offsets[..., None]], -1)
        (lanes, m, width), d = rows.shape, free.d
        none = rows.new_zeros(lanes, m, 1)
        flat = torch.cat([rows.flatten(1), (none if coefficients is None else coefficients).flatten(1)], 1)
        equations = 1 if coefficients is None else coefficients.shape[-1]
        most = max(int(flat.sum(1).max()) if lanes else 0, least)
        order = (~flat).to(torch.int8).argsort(dim=-1, stable=True)[:, :most]
        columns = torch.arange(d, device=flat.device)
        parts = torch.cat([0 * columns, 0 * columns + 1, columns[:1] + 2])
        places = torch.cat([columns, columns, columns[:1]])
        inside, at = order < m * width, order - m * width
        part = torch.where(inside, parts[order % width], 3)
        term = torch.where(inside, order // width, at // equations)
        return cls(part, term, torch.where(inside, places[order % width], at % equations), flat.gather(1, order))

    @property
    def is_coefficient(self) -> Bool[Tensor, "R P"]:
        """Which are coefficients."""
        return self.part == 3

    def select(self, lanes: Tensor | slice) -> Numbers:
        """Return those lanes."""
        return Numbers(self.part[lanes], self.term[lanes], self.place[lanes], self.valid[lanes])

    def names(self, lane: int = 0) -> list[Number]:
        """Return the numbers of one lane."""
        rows = zip(*(v[lane].tolist() for v in (self.part, self.term, self.place, self.valid)), strict=True)
        return [Number(PARTS[part], term, place) for part, term, place, there in rows if there]


# Laws end to end, for the journal


def pack_laws(laws: Sequence[Law]) -> Packed:
    """Return the arrays of many laws end to end, with their shapes and costs.

    >>> law = Law.of(Terms.of(np.eye(2)), -np.eye(2))
    >>> unpack_laws(pack_laws([law]))[0].key == law.key
    True
    """
    shapes = np.array([law.coefficients.shape for law in laws], np.int64).reshape(-1, 2)
    packed = {"coefficients": _flat([law.coefficients for law in laws]), "shapes": shapes}
    for k in range(4):
        packed[f"terms.{k}"] = _flat([law.terms.arrays[k] for law in laws])
        packed[f"free.{k}"] = _flat([law.free.arrays[k] for law in laws])
    return packed | {"cost": np.array([law.cost for law in laws])}


def _flat(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.ravel(v) for v in arrays]) if arrays else np.zeros(0)


def unpack_laws(packed: Packed) -> list[Law]:
    """Return the laws that were packed."""
    shapes, out = packed["shapes"], list[Law]()
    narrow = np.r_[0, np.cumsum(shapes[:, 0])]
    wide = np.r_[0, np.cumsum(shapes.prod(1))]
    for n, (m, d) in enumerate(shapes.tolist()):
        long, short = slice(*wide[n : n + 2]), slice(*narrow[n : n + 2])
        cut = lambda name: packed[name][long].reshape(m, d).copy()  # noqa: B023, E731
        parts = {
            name: Terms(cut(f"{name}.0"), cut(f"{name}.1"), packed[f"{name}.2"][short].copy(), cut(f"{name}.3"))
            for name in ("terms", "free")
        }
        free = parts["free"].map(lambda v: v.astype(bool))
        out.append(Law(parts["terms"], cut("coefficients"), free, cost=float(packed["cost"][n])))
    return out


LAWS: Form[list[Law]] = Form(pack_laws, unpack_laws)

__all__ = ["LAWS", "Law", "Number", "Numbers", "join", "pack_laws", "unpack_laws"]
