r"""Neural Arithmetic Logic Unit: y = g a + (1 - g) m, a gate between sums and products (Trask et al., NeurIPS 2018).

    W = tanh(V) sigmoid(M),     a = W x,     m = exp(W log(|x| + 1e-8)),     g = sigmoid(G x + b)

One W serves both paths, and the logarithm loses the signs. Heim et al. 2020, eqs. 1 to 3, write no bias b; their code has one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from .unit import Drawing, Unit, draw, number, weighted

if TYPE_CHECKING:
    import sympy as sp

EPSILON = 1e-8  # added to |x| in the code of Heim et al.


class NALU(Unit):
    """Sums and products of powers, gated by the inputs.

    >>> NALU(3, 2, lanes=7)(torch.ones(7, 5, 3, dtype=torch.float64)).shape
    torch.Size([7, 5, 2])
    """

    name = "nalu"
    accepts = frozenset({"init"})
    weights: Tensor
    bias: Tensor

    def __init__(self, n_in: int, n_out: int, **drawing: Unpack[Drawing]) -> None:
        super().__init__(n_in, n_out)
        for name in ("weights", "masks", "gain"):
            self._add(name, draw(n_out, n_in, **drawing))
        drawn = drawing.get("init", "glorot") == "glorot"  # 0 in the large-scale experiments of Heim et al.
        self._add("bias", draw(n_out, 1, **drawing)[..., 0] if drawn else torch.zeros_like(self.weights.data[..., 0]))

    def mixed(self) -> Float[Tensor, "lanes out in"]:
        """Return W, between -1 and 1."""
        return mix(self.effective("weights"), self.effective("masks"))

    def forward(self, x: Float[Tensor, "lanes batch in"]) -> Float[Tensor, "lanes batch out"]:
        """Return the gated sums and products at x; a lane axis of length 1 is shared by all lanes."""
        w = self.mixed().mT
        gate = torch.sigmoid(x @ self.effective("gain").mT + self.effective("bias")[:, None])
        return gate * (x @ w) + (1.0 - gate) * ((x.abs() + EPSILON).log() @ w).exp()

    def symbols(self, inputs: list[sp.Expr], lane: int = 0) -> list[sp.Expr]:
        """Return gate, sum and product as one SymPy expression an output."""
        import sympy as sp

        w, gain, bias = (v[lane].tolist() for v in (self.mixed(), self.effective("gain"), self.effective("bias")))
        logs = [sp.log(sp.Abs(x) + number(EPSILON)) for x in inputs]
        gates = [logistic(weighted(row, inputs) + number(b)) for row, b in zip(gain, bias, strict=True)]
        return [
            g * weighted(row, inputs) + (1 - g) * sp.exp(weighted(row, logs)) for g, row in zip(gates, w, strict=True)
        ]


def mix(weights: Tensor, masks: Tensor) -> Tensor:
    """Return tanh(weights) sigmoid(masks), which is flat around -1, 0 and 1."""
    return weights.tanh() * masks.sigmoid()


def logistic(x: sp.Expr) -> sp.Expr:
    """Return 1 / (1 + exp(-x)) in symbols.

    >>> logistic(0)
    1/2
    """
    import sympy as sp

    return 1 / (1 + sp.exp(-x))
