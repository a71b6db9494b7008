r"""Pins: one number of each lane held where it is put, while all others are fitted around it.

A pin draws a number v of its lane to a value by one more squared residual, so heavy that v does not notice the data:

    chi**2 + (value - v)**2 * precision

v is an entry of a term's row, or a coefficient. Both are meant in the user's units, and the fit works in scaled ones, where
x = s x': a coefficient a' of the user's is a prod_i s_i**-(w_i - u_i) times a constant, a log K of the user's is log K + sum_i u_i log s_i
(`scaling`). Hence, with D the move of the term's row from `row`, where the pin was made,

    v = a exp(shift . D)   (coefficient),     v = w_c + shift . D   (entry of the row).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..law.terms import Parameters, Terms


@dataclass(frozen=True, eq=False)
class Pins:
    """R pins, one a lane; where `precision` is zero, nothing is held.

    `term` and `column` name the number: entry `column` of the row of `term`, or its coefficient in equation `column`.
    """

    term: Int[Tensor, "R"]
    column: Int[Tensor, "R"]
    is_entry: Bool[Tensor, "R"]
    row: Float[Tensor, "R c"]
    shift: Float[Tensor, "R c"]
    value: Float[Tensor, "R"]
    precision: Float[Tensor, "R"]

    def map(self, change: Callable[[Tensor, str], Tensor]) -> Pins:
        """Apply `change` to every tensor, which all lead with the lanes."""
        return Pins(*(change(v, name) for name, v in vars(self).items()))

    def select(self, lanes: Tensor | slice) -> Pins:
        """Return those lanes."""
        return self.map(lambda v, _: v[lanes])

    def measure(self, terms: Terms) -> Float[Tensor, "R"]:
        """Return v of each lane."""
        lane = torch.arange(terms.lanes, device=terms.exponents.device)
        rows = terms.exponents[lane, self.term]
        moved = ((rows - self.row) * self.shift).sum(-1)
        entry = rows.gather(1, self._entry[:, None])[:, 0] + moved
        return torch.where(self.is_entry, entry, terms.coefficients[lane, self.term, self._equation] * moved.exp())

    def slope(self, terms: Terms, index: Parameters) -> Float[Tensor, "R P"]:
        """Return dv/dtheta over the numbers that `index` names."""
        lane = torch.arange(terms.lanes, device=terms.exponents.device)
        size = ((terms.exponents[lane, self.term] - self.row) * self.shift).sum(-1).exp()
        v = terms.coefficients[lane, self.term, self._equation] * size
        mine = index.valid & (index.term == self.term[:, None])
        itself = mine & (index.is_exponent == self.is_entry[:, None]) & (index.state == self.column[:, None])
        beside = self.shift.gather(1, index.state) * (mine & index.is_exponent)
        scale = torch.where(self.is_entry, 1.0, size)[:, None]
        return itself * scale + beside * torch.where(self.is_entry, 1.0, v)[:, None]

    def cost(self, terms: Terms) -> Float[Tensor, "R"]:
        """Return what the pins add to chi-square."""
        return self.precision * (self.value - self.measure(terms)).square()

    def weigh(self, terms: Terms, index: Parameters, h: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """Return the normal equations H (R, P, P) and g (R, P) with the pins in them."""
        slope = self.slope(terms, index)
        pull = (self.precision * (self.value - self.measure(terms)))[:, None] * slope
        return h + self.precision[:, None, None] * slope[:, :, None] * slope[:, None], g + pull

    @property
    def _entry(self) -> Tensor:
        return torch.where(self.is_entry, self.column, 0)

    @property
    def _equation(self) -> Tensor:
        return torch.where(self.is_entry, 0, self.column)
