r"""Saturation: the quantity q = K + prod_i x_i**u_i that a term is divided by (Michaelis & Menten 1913, Holling 1959, Hill 1910).

In a chain it is a power unit (u), an addition unit with a constant (K) and the power -1 of the next power unit. Numbers: the powers u, those
of positive states alone, so that q is positive and no law has a pole, and log K. With s = x**u / (K + x**u), between 0 and 1,

    d log(1/q) / d log x = -s u,     d log(1/q) / d u = -s log x,     d log(1/q) / d log K = -(1 - s).

With x = c x' in other units u stays, and log K = log K' + sum_i u_i log c_i.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .monomial import alone_and_beside

if TYPE_CHECKING:
    import sympy as sp

PRICE = 2.3  # nats: one term in ten of the rational laws and the others together has a denominator
REPEATED = 0.4  # of a power that the numerator has as well: x**2 / (K + x**2)
LOG_K = (-14.0, 5.0)  # of scaled states: beyond, a term is plain within any noise
POWERS = (1, 2)  # of a denominator, where a search starts; of one state alone also the steep ones
STEEP = (3, 4, 5)
QUANTILES = (0.1, 0.5, 0.9)  # of a state, where K starts;
SHARES = (0.25, 0.5, 0.75)  # of its range, as well: a state at rest has all its quantiles there;
BEYOND = 3.0  # and so far below the first quantile and beyond the last


def log_value(
    log_x: Float[Tensor, "... n d"], inner: Float[Tensor, "... d"], offset: Float[Tensor, "..."]
) -> Float[Tensor, "... n"]:
    """Return log q of one quantity a lane, from log|x|, its powers and log K.

    >>> log_value(torch.tensor([[0.0]]), torch.tensor([2.0]), torch.tensor(3.0).log()).exp().round().item()
    4.0
    """
    return torch.logaddexp(offset[..., None], (log_x @ inner[..., None])[..., 0])


def share(
    log_x: Float[Tensor, "... n d"], inner: Float[Tensor, "... m d"], offsets: Float[Tensor, "... m"]
) -> Float[Tensor, "... n m"]:
    """Return s of each quantity, zero where there is none."""
    s = torch.sigmoid(log_x @ inner.mT - offsets[..., None, :])
    return torch.where((inner != 0).any(-1)[..., None, :], s, 0.0)


def slopes(log_x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Return d log(1/q) / du of the power of a state, from log|x| of that state, and d log(1/q) / d log K."""
    return -log_x * s, s - 1.0


def rescale(inner: Any, offsets: Any, log_c: Any) -> Any:
    """Return log K where states are measured in units that are 1/c as large (NumPy or torch): x = c x'."""
    return (offsets + inner @ log_c) * (inner != 0).any(-1)


def symbols(
    x: Sequence[sp.Expr], powers: Sequence[sp.Number], inner: Sequence[float], k: sp.Number, power: Any
) -> sp.Expr:
    """Return x**w / (K + x**u) as SymPy has it, powers that both have cancelled; `power` makes a number of an exponent.

    >>> import sympy as sp
    >>> x = sp.symbols("x", positive=True)
    >>> symbols([x], [1.0], [-1.0], sp.Integer(4), sp.Integer)  # x / (4 + 1/x)
    x**2/(4*x + 1)
    """
    import sympy as sp

    down = [min(u, 0.0) for u in inner]
    product = lambda values: sp.Mul(*[xi ** power(v) for xi, v in zip(x, values, strict=True)])  # noqa: E731
    above = product([w - v for w, v in zip(powers, down, strict=True)])
    return above / (k * product([-v for v in down]) + product([u - v for u, v in zip(inner, down, strict=True)]))


def seeds(
    positive: Bool[np.ndarray, "d"], values: Float[np.ndarray, "n d"]
) -> Iterator[tuple[dict[int, float], dict[int, float], float]]:
    """Yield powers above, powers below and log K of x_i**p / (K + x_i**h), alone and times another state.

    K is where the data `values` are low, usual and high.
    """
    d = len(positive)
    for i in map(int, np.flatnonzero(positive)):
        levels = _levels(values[:, i])
        for h in POWERS if d > 1 else (*POWERS, *STEEP):
            for p in range(h + 1):
                for others in alone_and_beside(i, d):
                    yield from (({i: float(p), **others}, {i: float(h)}, h * level) for level in levels)


def _levels(x: Float[np.ndarray, "n"]) -> Float[np.ndarray, "l"]:
    """Return logarithms of K at which a search starts."""
    usual = np.quantile(x, QUANTILES)
    levels = np.r_[usual, x.min() + np.ptp(x) * np.array(SHARES), usual[0] / BEYOND, usual[-1] * BEYOND]
    return np.log(np.maximum(levels, 1e-4))


def price(exponents: float, states: int, log_n: float) -> float:
    """Return the nats of one denominator: that there is one, of which states, its powers (their price is given) and its K."""
    return exponents + PRICE + math.log(states) + 0.5 * log_n + 0.5
