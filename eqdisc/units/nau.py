r"""Neural Addition Unit: y_e = sum_j a_ej x_j, without a bias (Madsen & Johansen, ICLR 2020).

The definition clips a to [-1, 1] (Heim et al. 2020, eq. 5); here, as in the code of Heim et al., it is free: rate
constants are not confined to an interval.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from .unit import Unit, glorot

if TYPE_CHECKING:
    import sympy as sp


class NAU(Unit):
    """Sums of inputs with free coefficients (R, out, in).

    >>> NAU(9, 3, lanes=7)(torch.ones(7, 5, 9, dtype=torch.float64)).shape
    torch.Size([7, 5, 3])
    """

    name = "nau"
    coefficients: Tensor

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        lanes: int = 1,
        generator: torch.Generator | None = None,
        init_scale: float = 1.0,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(n_in, n_out)
        self._add("coefficients", glorot(lanes, n_out, n_in, scale=init_scale, generator=generator, dtype=dtype))

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
        import sympy as sp

        rows = self.effective("coefficients")[lane].tolist()
        return [sp.Add(*(_number(a) * z for a, z in zip(row, inputs, strict=True) if a != 0.0)) for row in rows]


def _number(value: float) -> sp.Expr:
    import sympy as sp

    return sp.Integer(int(value)) if value.is_integer() else sp.Float(value)
