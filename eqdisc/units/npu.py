r"""Neural Power Unit: with open gates z_j = Re prod_i x_i**w_ji, w complex (Heim, Pevný & Šmídl, NeurIPS 2020, arXiv:2006.01681).

For a real x = r e^{i k} with k = pi [x < 0], x**w = exp(w (log r + i k)), and with w = a + i b the real part of the product is

    z_j = exp(sum_i a_ji log r_i - b_ji k_i) * cos(sum_i a_ji k_i + b_ji log r_i)        (eqs. 5 to 8)

A gate g_i in [0, 1] takes an input out of the product by moving it towards one: r_i = g_i |x_i| + 1 - g_i, k_i = g_i pi [x_i < 0] (eqs. 9 and 10). A gate
strictly between is no monomial, so pruning makes gates binary before anything is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from .unit import Unit, clip_straight

if TYPE_CHECKING:
    import sympy as sp

Gates = Literal["input", "output", "none"]


class NPU(Unit):
    """Products of complex powers: `exponents` and `exponents_im` (R, outputs, inputs), `gate` (R, inputs) or (R, outputs, inputs).

    `gates`: one an input (the paper), one an (output, input) pair, or none. `epsilon`: |x| is clamped at the smallest normal number, or
    shifted by the machine epsilon as in the paper's code.

    >>> NPU(3, 2, lanes=7, generator=torch.Generator()).forward(torch.ones(7, 5, 3, dtype=torch.float64)).shape
    torch.Size([7, 5, 2])
    """

    complex = True

    def __init__(
        self,
        inputs: int,
        outputs: int,
        lanes: int = 1,
        *,
        generator: torch.Generator,
        scale: float = 1.0,
        gates: Gates = "input",
        gate_start: float = 1.0,
        epsilon: Literal["clamp", "add"] = "clamp",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(inputs, outputs, lanes, dtype)
        self.gates, self.epsilon = gates, epsilon
        self.add("exponents", self.glorot(generator, scale))
        if self.complex:
            self.add("exponents_im", torch.zeros(lanes, outputs, inputs, dtype=dtype))
        if gates != "none":
            shape = (lanes, inputs) if gates == "input" else (lanes, outputs, inputs)
            self.add("gate", torch.full(shape, gate_start, dtype=dtype))

    def forward(self, x: Float[Tensor, "lanes n inputs"]) -> Float[Tensor, "lanes n outputs"]:
        size, phase = self._gated(x)
        log_r = self._log(size)
        re = self.effective("exponents")
        amplitude, angle = _contract(log_r, re), _contract(phase, re)
        if self.complex:
            im = self.effective("exponents_im")
            amplitude, angle = amplitude - _contract(phase, im), angle + _contract(log_r, im)
        # Joint phase: cos(a + b), not cos(a) cos(b); states that change sign depend on it.
        return amplitude.exp() * angle.cos()

    def _gated(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return r and k: (lanes, n, inputs), or (lanes, n, outputs, inputs) with a gate for each pair."""
        phase = torch.pi * (x < 0).to(x.dtype)
        if self.gates == "none":
            return x.abs(), phase
        g = clip_straight(self.effective("gate")).unsqueeze(1)
        if self.gates == "output":
            x, phase = x.unsqueeze(2), phase.unsqueeze(2)
        return g * x.abs() + (1 - g), g * phase

    def _log(self, r: Tensor) -> Tensor:
        if self.epsilon == "add":
            return (r + torch.finfo(r.dtype).eps).log()
        return r.clamp_min(torch.finfo(r.dtype).tiny).log()

    def symbols(self, inputs: list[sp.Expr], lane: int) -> list[sp.Expr]:
        re = self.numbers("exponents", lane)
        im = self.numbers("exponents_im", lane) if self.complex else [[0.0] * self.inputs] * self.outputs
        gate = self._gate_rows(lane)
        return [_product(inputs, *rows) for rows in zip(re, im, gate, strict=True)]

    def _gate_rows(self, lane: int) -> list[list[float]]:
        if self.gates == "none":
            return [[1.0] * self.inputs] * self.outputs
        g = self.effective("gate")[lane].detach().clamp(0.0, 1.0).cpu().tolist()
        return g if self.gates == "output" else [g] * self.outputs


def _contract(v: Tensor, weights: Float[Tensor, "lanes outputs inputs"]) -> Float[Tensor, "lanes n outputs"]:
    return v @ weights.mT if v.dim() == 3 else (v * weights[:, None]).sum(-1)


def _product(inputs: list[sp.Expr], re: list[float], im: list[float], gate: list[float]) -> sp.Expr:
    """Say one output of the unit in SymPy; an input that is never negative leaves no phase behind."""
    import sympy as sp

    amplitude, angle = sp.S.One, sp.S.Zero
    for x, a, b, g in zip(inputs, re, im, gate, strict=True):
        if (a == 0 and b == 0) or g == 0:
            continue
        negative = sp.S.Zero if x.is_nonnegative else sp.S.One if x.is_negative else (1 - sp.sign(x)) / 2
        size = sp.Abs(x) if g == 1 else g * sp.Abs(x) + (1 - g)
        whole = a == int(a) and b == 0 and g == 1 and negative != 0
        amplitude *= x ** int(a) if whole else size ** sp.Float(a)
        if b and negative != 0:
            amplitude *= sp.exp(-b * g * sp.pi * negative)
        angle += (0 if whole else sp.Float(a) * g * sp.pi * negative) + (sp.Float(b) * sp.log(size) if b else 0)
    return amplitude if angle == 0 else amplitude * sp.cos(angle)
