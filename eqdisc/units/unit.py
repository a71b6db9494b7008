r"""What every unit shares: lanes, parameters with supports, and two ways to say its mathematics.

A unit maps (R, N, in) to (R, N, out) with parameters (R, out, in): R lanes side by side, none of which sees another. A
parameter p comes with a buffer `p_support` of zeros and ones; the unit computes with p * p_support, so that a pruned
entry is exactly 0 and gets no gradient.

Many units choose: a gate is open or closed, a weight is 0 or 1. `constrain` keeps such numbers in their interval after
a step of the optimiser, and `indecision`, added to a loss, drives them to its ends (Madsen & Johansen, ICLR 2020).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..work.errors import OptionError

if TYPE_CHECKING:
    import sympy as sp

SUPPORT = "_support"


class Unit(nn.Module, ABC):
    """One layer of a chain in R lanes, `n_in` inputs and `n_out` outputs wide."""

    name: ClassVar[str]
    accepts: ClassVar[frozenset[str]] = frozenset()  # names of the options that this kind of unit has

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

    @torch.no_grad()
    def constrain(self) -> None:
        """Bring parameters back to where they may lie, in place; called after each step of an optimiser."""

    def indecision(self) -> Float[Tensor, "lanes"]:
        """Return how far each lane is from parameters that are all or nothing; 0 where a unit has no such choice."""
        some = next(self.parameters())
        return some.new_zeros(some.shape[0])

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


class Drawing(TypedDict, total=False):
    """How the weights of a unit are drawn, see `draw`: keyword arguments that every unit takes."""

    lanes: int
    init: str
    init_scale: float
    generator: torch.Generator | None
    dtype: torch.dtype


def draw(
    n_out: int,
    n_in: int,
    *,
    lanes: int = 1,
    init: str = "glorot",
    init_scale: float = 1.0,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float64,
) -> Float[Tensor, "lanes out in"]:
    """Draw random weights, times `init_scale`.

    | init | from |
    |-|-|
    | glorot | U(-a, a), a = sqrt(6 / (in + out)) (Glorot & Bengio, AISTATS 2010) |
    | constrained | the same, a at most 1/2 (Madsen & Johansen, ICLR 2020) |
    | positive | U(0, 1); times 0.1 in the large-scale experiments of Heim et al. |
    | centred | U(1/4, 3/4) (Madsen & Johansen, for the NMU) |

    >>> bool(draw(3, 3, lanes=2).abs().max() <= 1), bool(draw(3, 3, init="constrained").abs().max() <= 0.5)
    (True, True)
    """
    uniform = torch.rand(lanes, n_out, n_in, generator=generator, dtype=dtype)
    a = (6.0 / (n_in + n_out)) ** 0.5
    low, high = {
        "glorot": (-a, a),
        "constrained": (-min(a, 0.5), min(a, 0.5)),
        "positive": (0.0, 1.0),
        "centred": (0.25, 0.75),
    }[choice("init", init, ("glorot", "constrained", "positive", "centred"))]
    return init_scale * (low + (high - low) * uniform)


def choice(option: str, value: str, known: tuple[str, ...]) -> str:
    """Return the value of an option if it is one of those that are known. Raises OptionError."""
    if value not in known:
        raise OptionError(f"{option}={value!r}: {option} is one of {', '.join(map(repr, known))}.")
    return value


def clip(value: Tensor, low: float, high: float, how: str) -> Tensor:
    """Clip; "plain" has no gradient outside the interval, "straight" passes it through everywhere.

    >>> gate = torch.tensor([1.5], requires_grad=True)
    >>> [torch.autograd.grad(clip(gate, 0.0, 1.0, how).sum(), gate)[0].item() for how in ("plain", "straight")]
    [0.0, 1.0]
    """
    if how == "plain":
        return value.clamp(low, high)
    return value.detach().clamp(low, high) + (value - value.detach())  # exactly the clipped value, with slope 1


def weighted(weights: list[float], inputs: list[sp.Expr]) -> sp.Expr:
    """Return sum_i weights_i inputs_i; a weight of exactly 0 is not there.

    >>> import sympy as sp
    >>> weighted([0.75, -1.0, 0.0], list(sp.symbols("x y z")))
    0.75*x - y
    """
    import sympy as sp

    return sp.Add(*(number(w) * z for w, z in zip(weights, inputs, strict=True) if w != 0.0))


def number(value: float) -> sp.Expr:
    """Return a float as the integer that it is, else as a SymPy float.

    >>> number(2.0), number(0.5)
    (2, 0.500000000000000)
    """
    import sympy as sp

    return sp.Integer(int(value)) if value.is_integer() else sp.Float(value)


def exact(value: float) -> sp.Expr:
    """Return a float as the integer, half, third or quarter that it is to the last bit, else as a SymPy float.

    >>> exact(0.5), exact(-2.0), exact(0.3)
    (1/2, -2, 0.300000000000000)
    """
    from fractions import Fraction

    import sympy as sp

    near = Fraction(value).limit_denominator(4)
    return sp.Rational(near.numerator, near.denominator) if float(near) == value else sp.Float(value)
