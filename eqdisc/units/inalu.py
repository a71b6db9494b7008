r"""Improved Neural Arithmetic Logic Unit: both paths have weights of their own, and signs survive (Schlör et al. 2020, arXiv:2003.07629).

    a = W_a x,     m = exp(min(W_m log max(|x|, 1e-7), 20)),     s_j = prod_i (sign(x_i) |W_ji| + 1 - |W_ji|),
    y = g a + (1 - g) m s,     W = tanh(V) sigmoid(M) on either path, the sign's is W_m

The gate g is sigmoid(G x), as in the code of Heim et al. (`gate="input"`), or, as published, the sigmoid of a number that no input
moves (`gate="free"`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from .nalu import logistic, mix
from .unit import Drawing, Unit, choice, draw, number, weighted

if TYPE_CHECKING:
    import sympy as sp

SMALLEST, LARGEST = 1e-7, 20.0  # of |x| and of the exponent, in the code of Heim et al.


class iNALU(Unit):
    """Sums and signed products of powers, gated.

    >>> iNALU(3, 2, lanes=7)(torch.ones(7, 5, 3, dtype=torch.float64)).shape
    torch.Size([7, 5, 2])
    """

    name = "inalu"
    accepts = frozenset({"init", "gate"})

    def __init__(self, n_in: int, n_out: int, *, gate: str = "input", **drawing: Unpack[Drawing]) -> None:
        super().__init__(n_in, n_out)
        self.gate = choice("gate", gate, ("input", "free"))
        for name in ("sum_weights", "sum_masks", "product_weights", "product_masks"):
            self._add(name, draw(n_out, n_in, **drawing))
        self._add("gain", draw(n_out, n_in if gate == "input" else 1, **drawing))

    def options(self) -> dict[str, Any]:
        """Return what moves the gate."""
        return {"gate": self.gate}

    def mixed(self, path: str) -> Float[Tensor, "lanes out in"]:
        """Return W of the path "sum" or "product"."""
        return mix(self.effective(f"{path}_weights"), self.effective(f"{path}_masks"))

    def forward(self, x: Float[Tensor, "lanes batch in"]) -> Float[Tensor, "lanes batch out"]:
        """Return the gated sums and products at x; a lane axis of length 1 is shared by all lanes."""
        w = self.mixed("product")
        product = (x.abs().clamp_min(SMALLEST).log() @ w.mT).clamp_max(LARGEST).exp()
        share = w.abs()[:, None]
        sign = (x.sign()[:, :, None] * share + 1.0 - share).prod(-1)
        moved = x if self.gate == "input" else torch.ones_like(x[..., :1])
        gate = torch.sigmoid(moved @ self.effective("gain").mT)
        return gate * (x @ self.mixed("sum").mT) + (1.0 - gate) * product * sign

    def symbols(self, inputs: list[sp.Expr], lane: int = 0) -> list[sp.Expr]:
        """Return gate, sum and signed product as one SymPy expression an output."""
        import sympy as sp

        logs = [sp.log(sp.Max(sp.Abs(x), number(SMALLEST))) for x in inputs]
        gain, sums, products = (
            v[lane].tolist() for v in (self.effective("gain"), self.mixed("sum"), self.mixed("product"))
        )
        moved = inputs if self.gate == "input" else [sp.Integer(1)]
        told = []
        for g, a, w in zip(gain, sums, products, strict=True):
            gate = logistic(weighted(g, moved))
            size = sp.exp(sp.Min(weighted(w, logs), number(LARGEST)))
            signs = (sp.sign(x) * number(abs(v)) + number(1.0 - abs(v)) for v, x in zip(w, inputs, strict=True))
            told.append(gate * weighted(a, inputs) + (1 - gate) * size * sp.Mul(*signs))
        return told
