r"""What every unit shares: lanes, parameters with supports, and two ways to say its mathematics.

A unit maps (R, N, in) to (R, N, out) with parameters (R, out, in): R lanes side by side, none of which sees another. A
parameter p comes with a buffer `p_support` of zeros and ones; the unit computes with p * p_support, so that a pruned
entry is exactly 0 and gets no gradient.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

if TYPE_CHECKING:
    import sympy as sp

SUPPORT = "_support"


class Unit(nn.Module, ABC):
    """One layer of a chain in R lanes, `n_in` inputs and `n_out` outputs wide."""

    name: ClassVar[str]

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.n_in, self.n_out = n_in, n_out

    @abstractmethod
    def forward(self, x: Float[Tensor, "lanes batch in"]) -> Float[Tensor, "lanes batch out"]:
        """Return the unit's outputs."""

    @abstractmethod
    def symbols(self, inputs: list[sp.Expr], lane: int = 0) -> list[sp.Expr]:
        """Return one lane's outputs as SymPy expressions of its inputs; what is known of an input's sign is used."""

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments that, beside widths and parameters, make this unit."""
        return {}

    @property
    def lanes(self) -> int:
        """Length of the leading axis that all parameters share."""
        return next(self.parameters()).shape[0]

    def effective(self, name: str) -> Tensor:
        """Return a parameter times its support: what the unit computes with."""
        return getattr(self, name) * getattr(self, name + SUPPORT)

    def supported(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every parameter with its support, in the order in which they were made."""
        for name, parameter in self.named_parameters(recurse=False):
            yield parameter, getattr(self, name + SUPPORT)

    def keep(self, indices: Any) -> Self:
        """Keep those lanes, in place; gradients are forgotten."""
        for name, parameter in list(self.named_parameters(recurse=False)):
            chosen = parameter.detach()[indices].clone()
            setattr(self, name, nn.Parameter(chosen, requires_grad=parameter.requires_grad))
            setattr(self, name + SUPPORT, getattr(self, name + SUPPORT)[indices].clone())
        return self

    def _add(self, name: str, value: Tensor) -> None:
        """Register a parameter and its support of ones."""
        self.register_parameter(name, nn.Parameter(value))
        self.register_buffer(name + SUPPORT, torch.ones_like(value))


def glorot(
    lanes: int, n_out: int, n_in: int, *, scale: float, generator: torch.Generator | None, dtype: torch.dtype
) -> Float[Tensor, "lanes out in"]:
    """Draw from U(-a, a), a = scale * sqrt(6 / (in + out)) (Glorot & Bengio, AISTATS 2010).

    >>> bool(glorot(2, 3, 3, scale=1.0, generator=None, dtype=torch.float64).abs().max() <= 1)
    True
    """
    uniform = torch.rand(lanes, n_out, n_in, generator=generator, dtype=dtype)
    return scale * (6.0 / (n_in + n_out)) ** 0.5 * (2.0 * uniform - 1.0)


def exact(value: float) -> sp.Expr:
    """Return a float as the integer, half, third or quarter that it is to the last bit, else as a SymPy float.

    >>> exact(0.5), exact(-2.0), exact(0.3)
    (1/2, -2, 0.300000000000000)
    """
    from fractions import Fraction

    import sympy as sp

    near = Fraction(value).limit_denominator(4)
    return sp.Rational(near.numerator, near.denominator) if float(near) == value else sp.Float(value)
