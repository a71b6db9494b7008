"""Neural Addition Unit: y = A x (Madsen & Johansen, ICLR 2020, arXiv:2001.05016; without clipping, as in Heim et al. 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from .unit import Unit

if TYPE_CHECKING:
    import sympy as sp


class NAU(Unit):
    """Sums: `coefficients` (R, outputs, inputs).

    >>> NAU(3, 2, lanes=7, generator=torch.Generator()).forward(torch.ones(7, 5, 3, dtype=torch.float64)).shape
    torch.Size([7, 5, 2])
    """

    def __init__(
        self, inputs: int, outputs: int, lanes: int = 1, *, generator: torch.Generator, scale: float = 1.0, dtype: torch.dtype = torch.float64
    ) -> None:
        super().__init__(inputs, outputs, lanes, dtype)
        self.add("coefficients", self.glorot(generator, scale))

    def forward(self, x: Float[Tensor, "lanes n inputs"]) -> Float[Tensor, "lanes n outputs"]:
        return x @ self.effective("coefficients").mT

    def symbols(self, inputs: list[sp.Expr], lane: int) -> list[sp.Expr]:
        from sympy import Add, Float, Mul

        rows = self.numbers("coefficients", lane)
        return [Add(*[Mul(Float(a), x) for a, x in zip(row, inputs, strict=True) if a != 0]) for row in rows]
