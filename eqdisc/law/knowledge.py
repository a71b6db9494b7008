r"""Knowledge: what the scientist already knows of a law, kept by construction.

    known      a right-hand side, or a part of it: these terms stand in the law, their coefficients never move
    conserved  c . x rests: one state's equation is minus the others', weighted: a_f = - sum_{e != f} c_e a_e / c_f
    forbidden  state i stands in no term of equation e
    dimensions every coefficient is a rate (see `dimensions`); exponents are those of the proposals
    signs      every term of equation e with state i raises (+) or lowers (-) x_e as x_i grows

A search keeps to it in three ways: forbidden terms are in no library; a law that is to be fitted is first completed (known terms put in,
conserved sums closed), and its dependent coefficients move with the others in every step (`couple`); a fit whose signs came out
wrong is dropped. What is known costs no description.

All numbers here are in scaled units.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..data.dimensions import Dimensions
from ..work.errors import OptionError
from .law import Law
from .terms import Terms

SAME = 1e-6  # of a row's entries
ZERO = 1e-9  # of a term's largest coefficient: what is left of a sum that cancels


class Known(NamedTuple):
    """A term that stands in an equation with a coefficient that never moves."""

    term: Terms  # one
    equation: int
    value: float


@dataclass(frozen=True, eq=False)
class Knowledge:
    """What is known of a law over D columns, states and inputs; empty unless something was said."""

    forbidden: Bool[np.ndarray, "D D"]  # [column, equation]
    signs: Int[np.ndarray, "D D"]  # [column, equation]: 1, -1, or 0
    known: tuple[Known, ...] = ()
    whole: frozenset[int] = frozenset()  # equations of which nothing else is to be found
    conserved: tuple[tuple[np.ndarray, int], ...] = ()  # weights (D,) and the equation that follows from the others
    dimensions: Dimensions | None = None
    starts: dict[int, list[Law]] = field(default_factory=dict)  # sides to start from, coefficients for their signs

    @classmethod
    def nothing(cls, columns: int) -> Knowledge:
        """Return no knowledge of laws over so many columns."""
        return cls(np.zeros((columns, columns), bool), np.zeros((columns, columns), int))

    @property
    def empty(self) -> bool:
        return not (self.forbidden.any() or self.signs.any() or self._fixes or self.dimensions)

    @property
    def _fixes(self) -> bool:
        """Whether coefficients are known, or follow from others."""
        return bool(self.known or self.whole or self.conserved)

    def rests(self, weights: Float[np.ndarray, "D"]) -> bool:
        """Tell whether a sum follows from those that are conserved."""
        table = [c for c, _ in self.conserved]
        return bool(table) and np.linalg.matrix_rank(np.array([*table, weights]), tol=1e-6) == len(table)

    @property
    def saturates(self) -> bool:
        """Whether a law to start from has a term that saturates."""
        return any(law.terms.bent.any() for law in itertools.chain(*self.starts.values()))

    def refuse_poles(self, positive: Bool[np.ndarray, "D"], names: tuple[str, ...]) -> None:
        """Raise OptionError where a law to start from divides by K + x and x changes its sign."""
        for law in itertools.chain(*self.starts.values()):
            for i in np.flatnonzero((law.terms.inner != 0).any(0) & ~positive):
                raise OptionError(
                    f"start_from divides by a sum with {names[i]}, which is negative at times; only what never is may stand there."
                )

    @property
    def settled(self) -> frozenset[int]:
        """Equations that no proposal is asked for: known whole, or following from the others."""
        return self.whole | {f for _, f in self.conserved}

    def allowed(self, terms: Terms, e: int) -> Bool[np.ndarray, "m"]:
        """Tell which terms may stand in equation e."""
        inside = (terms.exponents != 0) | (terms.inner != 0)
        right = ~(inside & self.forbidden[:, e]).any(1)
        return right if self.dimensions is None or not len(terms) else right & self.dimensions.agree(terms.effective, e)

    def settle(self, terms: Terms, e: int) -> Terms:
        """Return terms with the nearest exponents that may stand in equation e."""
        if self.dimensions is None:
            return terms
        return replace(terms, exponents=terms.exponents - self.dimensions.miss(terms.effective, e))

    def admits(self, law: Law) -> bool:
        """Tell whether a law holds no forbidden term."""
        return all(self.allowed(law.terms[on], e).all() for e, on in enumerate(law.support.T))

    def keeps(self, law: Law) -> bool:
        """Tell whether a law that was fitted holds no forbidden term and every sign is right."""
        return self.admits(law) and all(self.signs_right(law, e) for e in range(law.d))

    def signs_right(self, law: Law, e: int) -> bool:
        """Tell whether the terms of equation e move it as was said."""
        own = law.only(e)
        a = np.sign(own.coefficients[:, e])
        high, low = own.terms.exponents, own.terms.effective  # far below K, and far above
        wanted = [(i, self.signs[i, e] * a) for i in np.flatnonzero(self.signs[:, e])]
        return all((np.minimum(high[:, i] * way, low[:, i] * way) >= 0).all() for i, way in wanted)

    def complete(self, law: Law) -> Law:
        """Return the law with the known terms in it and the conserved sums closed."""
        if self.empty:
            return law
        law = replace(law, terms=law.terms.copy(), free=law.free.copy(), coefficients=law.coefficients.copy())
        if self.dimensions is not None:
            law = self._settled(law)
        law.coefficients[:, sorted(self.whole)] = 0.0
        for known in self.known:
            law = _with_known(law, known)
        a = law.coefficients
        for c, f in self.conserved:
            others = np.where(np.arange(len(c)) == f, 0.0, c)
            a[:, f] = -(a @ others) / c[f]
            size = np.abs(a * c).max(1, initial=0.0)
            a[np.abs(a[:, f] * c[f]) < ZERO * size, f] = 0.0
        return law

    def _settled(self, law: Law) -> Law:
        """Return the law with every exponent at the nearest value that its first equation allows, none free."""
        rows = [
            self.settle(law.terms[[j]], int(np.flatnonzero(a)[0])) if a.any() else law.terms[[j]]
            for j, a in enumerate(law.coefficients)
        ]
        terms = rows[0].join(*rows[1:]) if rows else law.terms
        return replace(law, terms=terms, free=law.terms.nothing())

    def hold(self, law: Law) -> Law:
        """Return lanes in which known coefficients stand still and dependent ones follow the others (torch)."""
        if not self._fixes:
            return law
        lanes, m, d = law.coefficients.shape
        flux = self.couple(law.coefficients).expand(lanes, m, d, d).clone()
        table = law.terms.table()
        for known in self.known:
            wanted = known.term.torch(table.device).table()[0]
            flux[:, :, known.equation] *= ((table - wanted).abs().amax(-1) >= SAME)[..., None]
        return replace(law, flux=flux)

    def couple(self, like: Tensor) -> Float[Tensor, "D D"]:
        """Return [e, f]: how the coefficient of a term in equation f moves with that in equation e."""
        flux = torch.eye(len(self.forbidden), dtype=like.dtype, device=like.device)
        flux[sorted(self.whole)] = 0.0
        for c, f in self.conserved:
            flux[:, f] = torch.as_tensor(-c / c[f], dtype=like.dtype, device=like.device)
            flux[f] = 0.0
        return flux

    def told(self, law: Law) -> Law:
        """Return the law with the coefficients that the data had to tell, zero where they are known or follow from others."""
        if not self._fixes:
            return law
        a = law.coefficients.copy()
        a[:, sorted(self.settled)] = 0.0
        for known in self.known:
            a[law.terms.gaps(known.term)[:, 0] < SAME, known.equation] = 0.0
        return law.with_coefficients(a)


def _with_known(law: Law, known: Known) -> Law:
    """Return the law with a known term, whose numbers stand; what was near enough is that term."""
    same = np.flatnonzero(law.terms.gaps(known.term)[:, 0] < SAME)
    if not len(same):
        law = law.add(known.term, np.zeros((1, law.d)))
        same = np.array([len(law) - 1])
    j = int(same[0])
    for own, free, value in zip(law.terms.arrays, law.free.arrays, known.term.arrays, strict=True):
        own[j], free[j] = value[0], False
    law.coefficients[j, known.equation] = known.value
    return law


__all__ = ["Knowledge", "Known"]
