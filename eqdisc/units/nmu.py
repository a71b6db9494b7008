r"""Neural Multiplication Unit: y_j = prod_i (m_ji x_i + 1 - m_ji), m clipped to [0, 1] (Madsen & Johansen, ICLR 2020).

m = 1 lets an input into the product, 0 leaves it out; division and roots are beyond it. The definition drives m to 0 or
1 by the penalty min(|m|, |1 - m|), `indecision`, and clips m itself after each step, `clip="in place"`. The experiments of Heim
et al. clip in the forward pass alone, without penalty, from U(0, 1): `clip="plain", init="positive"`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from .unit import Drawing, Unit, choice, clip, draw, number

if TYPE_CHECKING:
    import sympy as sp


class NMU(Unit):
    """Products of chosen inputs (R, out, in) (Heim et al. 2020, eq. 4).

    >>> NMU(3, 2, lanes=7)(torch.ones(7, 5, 3, dtype=torch.float64)).shape
    torch.Size([7, 5, 2])
    """

    name = "nmu"
    accepts = frozenset({"init", "clip"})
    choices: Tensor
    choices_support: Tensor

    def __init__(self, n_in: int, n_out: int, *, clip: str = "in place", **drawing: Unpack[Drawing]) -> None:
        super().__init__(n_in, n_out)
        self.clip = choice("clip", clip, ("straight", "plain", "in place"))
        drawing.setdefault("init", "centred")
        self._add("choices", draw(n_out, n_in, **drawing))

    def options(self) -> dict[str, Any]:
        """Return how choices are clipped."""
        return {"clip": self.clip}

    def chosen(self) -> Float[Tensor, "lanes out in"]:
        """Return the choices clipped to [0, 1], pruned ones 0."""
        return clip(self.choices, 0.0, 1.0, "plain" if self.clip == "plain" else "straight") * self.choices_support

    def forward(self, x: Float[Tensor, "lanes batch in"]) -> Float[Tensor, "lanes batch out"]:
        """Return the products at x; a lane axis of length 1 is shared by all lanes."""
        m = self.chosen()[:, None]
        return (m * (x[:, :, None] - 1.0) + 1.0).prod(-1)

    @torch.no_grad()
    def constrain(self) -> None:
        """Clip choices to [0, 1], in place."""
        if self.clip == "in place":
            self.choices.clamp_(0.0, 1.0)

    def indecision(self) -> Float[Tensor, "lanes"]:
        """Return the mean distance of choices from 0 and 1."""
        m = self.effective("choices")
        return torch.minimum(m.abs(), (1.0 - m).abs()).mean((1, 2))

    def symbols(self, inputs: list[sp.Expr], lane: int = 0) -> list[sp.Expr]:
        """Return the products as SymPy expressions.

        >>> import sympy as sp
        >>> unit = NMU(3, 1)
        >>> _ = unit.choices.data.copy_(torch.tensor([[[1.0, 0.0, 0.5]]]))
        >>> unit.symbols(list(sp.symbols("x y z")))
        [x*(0.5*z + 0.5)]
        """
        import sympy as sp

        rows = self.chosen()[lane].tolist()
        return [
            sp.Mul(*(number(m) * x + number(1.0 - m) for m, x in zip(row, inputs, strict=True) if m != 0.0))
            for row in rows
        ]
