r"""Description length: one number, in nats, for the whole search.

    L = sum_e n_e log sigma_e                                     residuals of the simulated states (profile likelihood)
      + per distinct term    -log p(v) + log C(d, v) + 0.6, v of the d states being in it; then its exponents
      + per exponent         -log of its share among the exponents of known laws, or 0.5 log n + 3.5 if it is any real number
      + per |x| or sign(x)   2.3, where a state that changes sign has other than a whole power
      + per denominator      2.3 + log d + 0.5 log n + 0.5 for its K, and its exponents; one that repeats the numerator's is 0.4
      + per coefficient      0.5 log n + 0.5, and 1.5 for every further equation that uses the same term
      + per pair of twins    3.5: two plain terms of one equation in the same states, all exponents within 0.11
      - what `ties` give back: one number for several coefficients, and 5 per sum that the data conserve and the law keeps by them

The profile form needs no noise level, so clean and noisy data run through the same code. Exponents are priced
because data alone cannot tell 0.7 from 2/3 in short records (Rissanen, Automatica 14, 1978).

What a unit costs it says itself (`units.monomial`, `units.saturation`, `units.magnitude`): its share in one half of the known systems. Tested
on pools of laws fitted to noisy records, 2 % and 5 %, of all systems, truth included: with these prices the true law is the pick in
126 of 156 records, with prices set by hand (0.7, 1.6, 2.6, 3.4, real 0.5 log n + 2, 2 a term) in 120; on the half that was not
counted in 55 against 51 of 72. Pricing each coefficient by its own standard error instead gained 2 on power laws and lost 7 on
polynomials. On 439 later records (1, 2, 5 %) of 95 systems, among what the search had seen, the truth was picked 352 times; with all
prices times 0.8, 0.9, 1.1, 1.2 or 1.4 it was 347, 349, 352, 352 and 351, with a price on terms that cancel 344 to 352, with the
degrees of freedom counted 352, by the weight of all laws alike no more: the prices are as good as any, the rest is in the data.

Twins imitate x**w log x: of 37 pairs of terms of one equation in the same states, in known laws, none is nearer than n and n**1.15, of 22
in the catalogue none nearer than N and N**1.12, odds of 1 in 40 or more; of 20 laws found in 1277 records, of seven systems, that had a
nearer pair none was right (five could not be: of three systems that are no such sums).
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..units import magnitude, monomial, saturation
from ..units.monomial import LIMIT
from ..work.config import read_bounds
from .knowledge import Knowledge
from .law import Law
from .terms import Terms

TWINS = 3.5  # price of two terms that are nearly the same
NEAR = 0.11  # exponents nearer than this are nearly the same
AGAIN = 1.5  # price of each further equation that uses a term, and of a negative power of a state that comes near zero
SIMPLE = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)  # exponents that are tried whatever was fitted


@dataclass(frozen=True)
class Prior:
    """What an exponent may be and what it costs: `menu` values with a price each, bounds, and whether real ones are allowed.

    The last `grouped` columns of a term say by how much a coefficient differs in a group; each is one more coefficient.

    >>> Prior.of("menu").nearest(0.497)[0]
    0.5
    >>> Prior.of("0..2").upper
    2.0
    """

    lower: float = -LIMIT
    upper: float = LIMIT
    snaps: bool = True
    grouped: int = 0

    @classmethod
    def of(cls, exponents: str, grouped: int = 0) -> Prior:
        """Read the option `--exponents`: menu, real, or bounds such as 0..2."""
        if exponents in ("menu", "real"):
            return cls(snaps=exponents == "menu", grouped=grouped)
        lower, upper = read_bounds(exponents)
        return cls(max(lower, -LIMIT), min(upper, LIMIT), grouped=grouped)

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest exponent."""
        return self.lower, self.upper

    @cached_property
    def menu(self) -> tuple[float, ...]:
        """The values on which an exponent may be fixed, rising."""
        allowed = monomial.menu() if self.snaps else {0.0}
        return tuple(sorted(v for v in allowed if self.lower <= v <= self.upper or v == 0.0))

    def nearest(self, value: float) -> list[float]:
        """Return the values worth trying for an exponent that was fitted as `value`: two neighbours and the simplest near."""
        at = bisect.bisect(self.menu, value)
        near = sorted(self.menu[max(at - 2, 0) : at + 2], key=lambda v: abs(v - value))[:2]
        simple = min((v for v in SIMPLE if v in self.menu), key=lambda v: abs(v - value))
        return list(dict.fromkeys([*near, simple] + ([0.0] if abs(value) < 0.5 else [])))

    def admits(self, powers: Float[np.ndarray, "... d"]) -> np.ndarray:
        """Tell which products have powers within the bounds."""
        return ((powers == 0) | ((powers >= self.lower) & (powers <= self.upper))).all(-1)

    def _price_groups(self, log_n: float) -> float:
        """Price the coefficient of one group: the samples that tell it are its own."""
        return 0.5 * (log_n - math.log(self.grouped + 1)) + 0.5

    def price(self, value: float, free: bool, log_n: float) -> float:
        """Price one exponent."""
        return monomial.price(value, free, log_n)

    def term_price(self, term: Terms, free: Terms | None, log_n: float) -> float:
        """Price one term, which has no axis but the columns', as `term_cost` does; without `free` every exponent is chosen."""
        d, n = term.d, term.d - self.grouped
        free = term.nothing() if free is None else free
        w, u = term.exponents.tolist(), term.inner.tolist()
        loose, inner_loose = free.exponents.tolist(), free.inner.tolist()
        cost = monomial.place_price(sum(abs(v) > monomial.ZERO for v in w[:n]), n)
        cost += self._price_groups(log_n) * sum(v != 0 for v in w[n:])
        cost += sum(monomial.price(v, f, log_n) for v, f in zip(w[:n], loose[:n], strict=True))
        cost += magnitude.PRICE * int((term.parity != 0).sum())
        if not any(u):
            return cost
        for above, below, g, f in zip(w, u, loose, inner_loose, strict=True):
            repeated = below == above != 0 and not (f or g)
            cost += saturation.REPEATED if repeated else monomial.price(below, f, log_n)
        return saturation.price(cost, d, log_n)

    def term_cost(self, terms: Terms, free: Terms, log_n: float) -> Float[Tensor, "... m"]:
        """Price each term: its place in the library, its exponents, its sizes, its denominator."""
        d, n = terms.d, terms.d - self.grouped
        w, loose = terms.exponents, free.exponents
        head = w.new_tensor([monomial.place_price(v, n) for v in range(n + 1)])
        cost = head[(w[..., :n].abs() > monomial.ZERO).sum(-1)]
        cost = cost + monomial.prices(w[..., :n], loose[..., :n], log_n).sum(-1)
        cost = cost + self._price_groups(log_n) * (w[..., n:] != 0).sum(-1)
        if not bool(terms.bent.any()):
            return cost
        cost = cost + magnitude.PRICE * (terms.parity != 0).sum(-1)
        repeated = (terms.inner == w) & (terms.inner != 0) & ~free.inner & ~loose
        below = monomial.prices(terms.inner, free.inner, log_n)
        below = torch.where(repeated, saturation.REPEATED, below).sum(-1)
        return torch.where(terms.saturates, saturation.price(cost + below, d, log_n), cost)


def count_twins(law: Law) -> int:
    """Count the pairs of plain terms of one equation in the same states that have nearly the same exponents.

    >>> count_twins(Law.of(Terms.of([[1.0], [0.95], [0.75]]), [[2.0], [-1.9], [0.1]]))
    1
    """
    terms, there = law.terms, law.support
    plain = ~terms.bent
    used = terms.exponents != 0
    near = (terms.gaps(terms) < NEAR) & (used[:, None] == used).all(-1)
    together = (there[:, None] & there).any(-1) & plain[:, None] & plain
    return int(np.triu(near & together, 1).sum())


@dataclass(frozen=True, eq=False)
class Judge:
    """Prices whole laws: the prior, the samples, the scaling of states, what the data conserve, and what is known beforehand."""

    prior: Prior
    samples: int
    factors: Float[np.ndarray, "d"]
    near_zero: np.ndarray
    invariants: tuple[np.ndarray, ...] = ()
    knowledge: Knowledge | None = None

    @property
    def log_n(self) -> float:
        return math.log(self.samples)

    @property
    def per_number(self) -> float:
        """Price of a coefficient."""
        return 0.5 * self.log_n + 0.5

    def price(self, law: Law) -> float:
        """Return the nats that the numbers and the structure of one law cost, before ties."""
        if self.knowledge is not None:
            law = self.knowledge.told(law)
        law = law.choose(law.support.any(1))
        count = law.support.sum(1)
        terms = self.prior.term_cost(law.terms.torch(), law.free.torch(), self.log_n)
        singular = ((law.terms.exponents < -1e-9) & self.near_zero).sum()
        numbers, shared = int(count.sum()), int((count - 1).sum())
        cost = float(terms.sum()) + self.per_number * numbers + AGAIN * shared + AGAIN * int(singular)
        return cost + TWINS * count_twins(law)
