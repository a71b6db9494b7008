r"""Dense layer: y = s(W x + b), the baseline that knows no arithmetic; s is tanh, the logistic function, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from .nalu import logistic
from .unit import Drawing, Unit, choice, draw, number, weighted

if TYPE_CHECKING:
    import sympy as sp


class Dense(Unit):
    """Weighted sums with a bias, bent by an activation; biases start at 0.

    >>> Dense(3, 2, lanes=7)(torch.ones(7, 5, 3, dtype=torch.float64)).shape
    torch.Size([7, 5, 2])
    """

    name = "dense"
    accepts = frozenset({"init", "activation"})

    def __init__(self, n_in: int, n_out: int, *, activation: str = "tanh", **drawing: Unpack[Drawing]) -> None:
        super().__init__(n_in, n_out)
        self.activation = choice("activation", activation, ("tanh", "sigmoid", "none"))
        weights = draw(n_out, n_in, **drawing)
        self._add("weights", weights)
        self._add("bias", torch.zeros_like(weights[..., 0]))

    def options(self) -> dict[str, Any]:
        """Return the activation."""
        return {"activation": self.activation}

    def forward(self, x: Float[Tensor, "lanes batch in"]) -> Float[Tensor, "lanes batch out"]:
        """Return the layer's outputs at x; a lane axis of length 1 is shared by all lanes."""
        z = x @ self.effective("weights").mT + self.effective("bias")[:, None]
        return z if self.activation == "none" else torch.tanh(z) if self.activation == "tanh" else torch.sigmoid(z)

    def symbols(self, inputs: list[sp.Expr], lane: int = 0) -> list[sp.Expr]:
        """Return the layer's outputs as SymPy expressions."""
        import sympy as sp

        rows, bias = (self.effective(name)[lane].tolist() for name in ("weights", "bias"))
        sums = [weighted(row, inputs) + number(b) for row, b in zip(rows, bias, strict=True)]
        bend = {"none": lambda z: z, "tanh": sp.tanh, "sigmoid": logistic}[self.activation]
        return [bend(z) for z in sums]
