r"""Pins: one number of each lane held where it is put, while all others are fitted around it.

A pin draws a number v of its lane to a value by one more squared residual, so heavy that v does not notice the data:

    chi**2 + (value - v)**2 * precision

v is an exponent, a log K or a coefficient. All are meant in the user's units, and the fit works in scaled ones, where x = s x': a
coefficient a' of the user's is a prod_i s_i**-(w_i - u_i) times a constant, a log K of the user's is log K + sum_i u_i log s_i (`scaling`).
Hence, with dw and du the moves of the term's exponents from where they were when the pin was made, and shifts p and q of plus or minus log s,

    v = a exp(p . dw + q . du)   (coefficient),     v = v' + q . du   (log K).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..law.law import PARTS, Law, Numbers
from ..law.terms import Number


@dataclass(frozen=True, eq=False)
class Pins:
    """R pins, one a lane; where `precision` is zero, nothing is held. `part`, `term` and `place` name the number."""

    part: Int[Tensor, "R"]
    term: Int[Tensor, "R"]
    place: Int[Tensor, "R"]
    exponents: Float[Tensor, "R d"]  # of the term, and
    inner: Float[Tensor, "R d"]  # when the pin was made
    by_exponents: Float[Tensor, "R d"]
    by_inner: Float[Tensor, "R d"]
    value: Float[Tensor, "R"]
    precision: Float[Tensor, "R"]

    @classmethod
    def on(cls, numbers: Sequence[Number], law: Law, log_s: Float[Tensor, "d"]) -> Pins:
        """Return a pin, not yet heavy, on one number of each lane of a law."""
        names = [(PARTS.index(n.part), n.term, n.place) for n in numbers]
        part, term, place = torch.tensor(names, device=log_s.device).T
        lane = torch.arange(len(names), device=log_s.device)
        w, u = law.terms.exponents[lane, term], law.terms.inner[lane, term]
        shift = lambda parts: torch.where(torch.isin(part, part.new_tensor(parts))[:, None], log_s, 0.0)  # noqa: E731
        zero = w.new_zeros(len(names))
        return cls(part, term, place, w, u, -shift([3]), shift([2, 3]), zero, zero)

    def map(self, change: Callable[[Tensor], Tensor]) -> Pins:
        """Apply `change` to every tensor, which all lead with the lanes."""
        return Pins(*map(change, vars(self).values()))

    def select(self, lanes: Tensor | slice) -> Pins:
        """Return those lanes."""
        return self.map(lambda v: v[lanes])

    @property
    def is_coefficient(self) -> Bool[Tensor, "R"]:
        return self.part == 3

    def _shift(self, law: Law) -> Float[Tensor, "R"]:
        """Return p . dw + q . du."""
        lane = torch.arange(law.lanes, device=self.value.device)
        dw, du = law.terms.exponents[lane, self.term] - self.exponents, law.terms.inner[lane, self.term] - self.inner
        return (dw * self.by_exponents).sum(-1) + (du * self.by_inner).sum(-1)

    def _own(self, law: Law) -> Float[Tensor, "R"]:
        """Return each lane's number in the fit's units."""
        at = torch.arange(law.lanes, device=self.value.device), self.term
        tables = [law.terms.exponents, law.terms.inner, law.terms.offsets[..., None], law.coefficients]
        rows = [t[at].gather(1, self.place.clamp_max(t.shape[-1] - 1)[:, None])[:, 0] for t in tables]
        return torch.stack(rows).gather(0, self.part[None])[0]

    def measure(self, law: Law) -> Float[Tensor, "R"]:
        """Return v of each lane."""
        own, shift = self._own(law), self._shift(law)
        return torch.where(self.is_coefficient, own * shift.exp(), own + shift)

    def slope(self, law: Law, numbers: Numbers) -> Float[Tensor, "R P"]:
        """Return dv/dtheta over those numbers."""
        size = self._shift(law).exp()
        v = torch.where(self.is_coefficient, self._own(law) * size, 1.0)[:, None]
        mine = numbers.valid & (numbers.term == self.term[:, None])
        itself = mine & (numbers.part == self.part[:, None]) & (numbers.place == self.place[:, None])
        by_w, by_u = self.by_exponents.gather(1, numbers.place), self.by_inner.gather(1, numbers.place)
        beside = (by_w * (numbers.part == 0) + by_u * (numbers.part == 1)) * mine
        return itself * torch.where(self.is_coefficient, size, 1.0)[:, None] + beside * v

    def cost(self, law: Law) -> Float[Tensor, "R"]:
        """Return what the pins add to chi-square."""
        return self.precision * (self.value - self.measure(law)).square()

    def weigh(self, law: Law, numbers: Numbers, h: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """Return the normal equations H (R, P, P) and g (R, P) with the pins in them."""
        slope = self.slope(law, numbers)
        pull = (self.precision * (self.value - self.measure(law)))[:, None] * slope
        return h + self.precision[:, None, None] * slope[:, :, None] * slope[:, None], g + pull
