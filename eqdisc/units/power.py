r"""The mathematics that the power units share (Heim, Pevný & Šmídl, NeurIPS 2020, arXiv:2006.01681).

With open gates, output j is the real part of a product of complex powers,

    z_j = Re prod_i x_i**(w_ji + i v_ji),

and with log x = log|x| + i pi [x < 0] this is

    z_j = exp(sum_i w_ji log r_i - v_ji k_i) * cos(sum_i w_ji k_i + v_ji log r_i),
    r_i = g_i |x_i| + (1 - g_i),     k_i = pi g_i [x_i < 0].

A gate g_i = 0 takes input i out of the product, 1 lets it in; in between the unit is not a monomial. The phase is
joint: the cosine of the sum, not the product of the cosines. r is clamped from below at the smallest normal number,
where the paper adds a machine epsilon to |x|, so that the unit is exact for every normal number, 0**0 is 1 and 0**w is
tiny for w > 0.

What later work found is there as options (Mistry, Farrahi & Hare, "Exploring the Learning Mechanisms of Neural Division
Modules", TMLR 2022, arXiv:2110.05177, for the division of two inputs): gates that are clipped in place after each step,
exponents kept in [-bound, bound], constrained initial values, and `indecision`, a penalty that drives gates to 0 or 1
and exponents to -1 or 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from . import monomial
from .unit import Drawing, Unit, choice, clip, draw, exact

if TYPE_CHECKING:
    import sympy as sp


class PowerUnit(Unit):
    """Products of powers; subclasses say whether the powers are complex and whether the inputs are gated.

    Parameters: `exponents` (R, out, in); `exponents_im` (R, out, in) if complex; `gate` (R, in) if gated, or
    (R, out, in) with per="output".
    """

    complex: ClassVar[bool]
    gated: ClassVar[bool]
    accepts = frozenset({"init", "gate_init", "im_scale", "per", "epsilon", "clip", "bound"})
    exponents: Tensor
    exponents_im: Tensor
    gate: Tensor
    gate_support: Tensor

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        gate_init: float = 1.0,
        im_scale: float = 0.0,
        per: str = "input",
        epsilon: str = "clamp",
        clip: str = "straight",
        bound: float | None = None,
        **drawing: Unpack[Drawing],
    ) -> None:
        """Draw exponents.

        Args:
            gate_init: where gates start; the paper starts at 0.5.
            im_scale: imaginary exponents are drawn from U(-im_scale, im_scale). At 0 they never move while inputs are
                nonnegative.
            per: "input" shares a gate between outputs, as in the paper; "output" gives each output gates of its own.
            epsilon: "clamp" |x| from below, or "add" the machine's epsilon to it, as in the paper.
            clip: how gates are clipped to [0, 1]: "plain", as in the paper, with no gradient outside; "straight" through;
                "in place", after each step.
            bound: exponents are clipped to [-bound, bound] after each step.
            drawing: where exponents are drawn from.
        """
        super().__init__(n_in, n_out)
        self.per, self.epsilon = choice("per", per, ("input", "output")), choice("epsilon", epsilon, ("clamp", "add"))
        self.clip, self.bound = choice("clip", clip, ("straight", "plain", "in place")), bound
        exponents = draw(n_out, n_in, **drawing)
        self._add("exponents", exponents)
        if self.complex:
            imaginary = torch.zeros_like(exponents)
            if im_scale:
                drawing |= {"init": "positive", "init_scale": 1.0}
                imaginary = im_scale * (2.0 * draw(n_out, n_in, **drawing) - 1.0)
            self._add("exponents_im", imaginary)
        if self.gated:
            like = exponents[:, 0] if per == "input" else exponents
            self._add("gate", torch.full_like(like, gate_init))

    def options(self) -> dict[str, Any]:
        """Return how gates and zeros are treated."""
        return {"per": self.per, "epsilon": self.epsilon, "clip": self.clip, "bound": self.bound}

    def open_gate(self) -> Tensor:
        """Return the gates clipped to [0, 1], pruned ones 0."""
        return clip(self.gate, 0.0, 1.0, "plain" if self.clip == "plain" else "straight") * self.gate_support

    @torch.no_grad()
    def constrain(self) -> None:
        """Clip gates and bounded exponents, in place."""
        if self.gated and self.clip == "in place":
            self.gate.clamp_(0.0, 1.0)
        if self.bound is not None:
            self.exponents.clamp_(-self.bound, self.bound)

    def indecision(self) -> Float[Tensor, "lanes"]:
        """Return the mean distance of gates from 0 and 1 plus that of exponents from -1 and 1, and of imaginary ones from 0."""
        w = self.effective("exponents").abs()
        far = (1.0 - w).abs().mean((1, 2))
        if self.complex:
            far = far + self.effective("exponents_im").abs().mean((1, 2))
        if self.gated:
            g = (self.gate * self.gate_support).flatten(1)
            far = far + torch.minimum(g.abs(), (1.0 - g).abs()).mean(1)
        return far

    def forward(self, x: Float[Tensor, "lanes batch in"]) -> Float[Tensor, "lanes batch out"]:
        """Return the products of powers at x; a lane axis of length 1 is shared by all lanes."""
        log_r, k = self._polar(x)
        w = self.effective("exponents")
        amplitude, phase = _mix(log_r, w), _mix(k, w)
        if self.complex:
            v = self.effective("exponents_im")
            amplitude, phase = amplitude - _mix(k, v), phase + _mix(log_r, v)
        return monomial.value(amplitude, phase, reach=torch.inf)

    def _polar(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return log r and k, (R, N, in) or, with a gate per output, (R, N, out, in)."""
        info = torch.finfo(x.dtype)
        r = x.abs() + info.eps if self.epsilon == "add" else x.abs()
        k = torch.pi * (x < 0).to(x.dtype)
        if self.gated:
            g = self.open_gate()[:, None]
            if self.per == "output":
                r, k = r[:, :, None], k[:, :, None]
            r, k = g * r + (1.0 - g), g * k
        # The clamp's backward is a mask: at zero neither input nor gate sees the slope 1 / tiny of the logarithm.
        return r.clamp_min(info.tiny).log(), k

    def symbols(self, inputs: list[sp.Expr], lane: int = 0) -> list[sp.Expr]:
        """Return the products as SymPy expressions.

        They are prod x_i**w_i for nonnegative inputs and for whole powers, else powers of Abs(x_i) and a joint cosine.

        >>> import sympy as sp
        >>> from eqdisc.units import RealNPU
        >>> unit, (x, y) = RealNPU(2, 1), sp.symbols("x y", positive=True)
        >>> _ = unit.exponents.data.copy_(torch.tensor([[[0.5, -1.0]]]))
        >>> unit.symbols([x, y])
        [sqrt(x)/y]
        """
        w = self.effective("exponents")[lane].tolist()
        v = self.effective("exponents_im")[lane].tolist() if self.complex else [[0.0] * self.n_in] * self.n_out
        g = [[1.0] * self.n_in] * self.n_out
        if self.gated:
            g = self.open_gate()[lane].expand(self.n_out, self.n_in).tolist()
        return [_product(inputs, *rows) for rows in zip(w, v, g, strict=True)]


def _mix(values: Tensor, weights: Float[Tensor, "lanes out in"]) -> Float[Tensor, "lanes batch out"]:
    """Return sum_i weights_ji values_i, values (R, N, in) or (R, N, out, in)."""
    return monomial.log_size(values, weights) if values.dim() == 3 else torch.einsum("rnoi,roi->rno", values, weights)


def _product(inputs: list[sp.Expr], w: list[float], v: list[float], g: list[float]) -> sp.Expr:
    """Return one output; whole powers of signed inputs leave the cosine, because cos(a + n pi) = (-1)**n cos(a)."""
    import sympy as sp

    amplitude, growth, phase = sp.Integer(1), sp.Integer(0), sp.Integer(0)
    for x, re, im, gate in zip(inputs, w, v, g, strict=True):
        if gate == 0.0 or (re == 0.0 and im == 0.0):
            continue
        positive = x.is_nonnegative
        if gate == 1.0 and im == 0.0 and (positive or re.is_integer()):
            amplitude *= x ** exact(re)
            continue
        opening = exact(gate)
        r = opening * (x if positive else sp.Abs(x)) + (1 - opening)
        below = 0 if positive else opening * sp.Max(0, -sp.sign(x))  # gate * [x < 0]
        amplitude *= r ** exact(re)
        growth -= sp.pi * exact(im) * below
        phase += sp.pi * exact(re) * below + (exact(im) * sp.log(r) if im else 0)
    return amplitude * sp.exp(growth) * sp.cos(phase)
