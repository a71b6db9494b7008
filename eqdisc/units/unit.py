"""What every unit is: a layer whose parameters lead with a lane axis, and which knows its mathematics twice, in torch and in SymPy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

if TYPE_CHECKING:
    import sympy as sp


class Unit(nn.Module):
    """A layer from `inputs` to `outputs` numbers in R lanes.

    Each parameter p has a buffer p_support of zeros and ones by which it is multiplied: pruning writes there.
    """

    def __init__(self, inputs: int, outputs: int, lanes: int = 1, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.inputs, self.outputs, self.lanes, self.dtype = inputs, outputs, lanes, dtype

    def add(self, name: str, values: Tensor) -> None:
        """Register a parameter with leading lanes and its support."""
        self.register_parameter(name, nn.Parameter(values.to(self.dtype)))
        self.register_buffer(f"{name}_support", torch.ones_like(values, dtype=self.dtype))

    def effective(self, name: str) -> Tensor:
        """Return a parameter times its support."""
        return getattr(self, name) * getattr(self, f"{name}_support")

    def glorot(self, generator: torch.Generator, scale: float = 1.0) -> Float[Tensor, "lanes outputs inputs"]:
        """Draw uniform weights of Glorot & Bengio (AISTATS 2010)."""
        bound = scale * math.sqrt(6.0 / (self.inputs + self.outputs))
        return bound * (2 * torch.rand(self.lanes, self.outputs, self.inputs, generator=generator, dtype=self.dtype) - 1)

    def symbols(self, inputs: list[sp.Expr], lane: int) -> list[sp.Expr]:
        """Push SymPy expressions through one lane."""
        raise NotImplementedError  # abstract: every unit says it

    def numbers(self, name: str, lane: int) -> list:
        """Return one lane of an effective parameter as nested lists of floats."""
        return self.effective(name)[lane].detach().cpu().tolist()


def clip_straight(g: Tensor) -> Tensor:
    """Clip to [0, 1]; the gradient passes as if nothing had been clipped, so that a gate can come back."""
    return g + (g.clamp(0.0, 1.0) - g).detach()
