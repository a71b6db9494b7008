r"""Neural Addition Unit: y_e = sum_j a_ej x_j, without a bias (Madsen & Johansen, ICLR 2020).

The definition clips a to [-1, 1] (Heim et al. 2020, eq. 5) and drives it to -1, 0 or 1 by min(|a|, |1 - |a||). Here, as
in the code of Heim et al., it is free unless `bound` is given: rate constants are not confined to an interval.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from .unit import Drawing, Unit, draw, weighted

if TYPE_CHECKING:
    import sympy as sp


class NAU(Unit):
    """Sums of inputs with free coefficients (R, out, in).

    >>> NAU(9, 3, lanes=7)(torch.ones(7, 5, 9, dtype=torch.float64)).shape
    torch.Size([7, 5, 3])
    """

    name = "nau"
    accepts = frozenset({"init", "bound"})
    coefficients: Tensor

    def __init__(self, n_in: int, n_out: int, *, bound: float | None = None, **drawing: Unpack[Drawing]) -> None:
        super().__init__(n_in, n_out)
        self.bound = bound
        self._add("coefficients", draw(n_out, n_in, **drawing))

    def options(self) -> dict[str, Any]:
        """Return the interval of the coefficients, if there is one."""
        return {} if self.bound is None else {"bound": self.bound}

    @torch.no_grad()
    def constrain(self) -> None:
        """Clip coefficients to [-bound, bound], in place."""
        if self.bound is not None:
            self.coefficients.clamp_(-self.bound, self.bound)

    def indecision(self) -> Float[Tensor, "lanes"]:
        """Return the mean distance of coefficients from -1, 0 and 1."""
        a = self.effective("coefficients").abs()
        return torch.minimum(a, (1.0 - a).abs()).mean((1, 2))

    def forward(self, x: Float[Tensor, "lanes batch in"]) -> Float[Tensor, "lanes batch out"]:
        """Return the sums at x; a lane axis of length 1 is shared by all lanes."""
        return x @ self.effective("coefficients").mT

    def symbols(self, inputs: list[sp.Expr], lane: int = 0) -> list[sp.Expr]:
        """Return the sums as SymPy expressions; a coefficient of exactly 0 is not there.

        >>> import sympy as sp
        >>> unit = NAU(2, 1)
        >>> _ = unit.coefficients.data.copy_(torch.tensor([[[0.75, -1.0]]]))
        >>> unit.symbols(list(sp.symbols("x y")))
        [0.75*x - y]
        """
        rows = self.effective("coefficients")[lane].tolist()
        return [weighted(row, inputs) for row in rows]
