r"""Magnitude: the quantity |x| of a state that changes sign, so that it may have any real power.

    parity 0: x**w      parity 1, odd: sign(x) |x|**w = x |x|**(w - 1)      parity 2, even: |x|**w

In a chain |x| is the power 1/2 of a square: x (x**2)**((w - 1) / 2) and (x**2)**(w / 2) are products of real powers behind a power unit
that squares. Slopes are those of a power, d log|m| / d log|x| = w; other units of x change the coefficient alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .monomial import alone_and_beside

if TYPE_CHECKING:
    import sympy as sp

ODD, EVEN = 1, 2
PRICE = 2.3  # nats: the choice of sign(x)|x|**w or |x|**w
SEEDS = ((1.0, EVEN), (2.0, ODD), (0.5, ODD), (1.5, ODD), (1.5, EVEN), (3.0, EVEN))  # powers, where a search starts


def turns(
    exponents: Float[Tensor, "... d"], parity: Float[Tensor, "... d"], positive: Bool[Tensor, "d"]
) -> Float[Tensor, "... d"]:
    """Return by how many half turns a negative state turns the term's phase: its whole power, or the parity of its size.

    >>> turns(torch.tensor([3.0, 1.5, 0.5]), torch.tensor([0.0, 2.0, 0.0]), torch.tensor([False, False, True])).tolist()
    [3.0, 2.0, 0.0]
    """
    return torch.where(parity != 0, parity, torch.where(positive, 0.0, exponents).round())


def split(exponents: Tensor, parity: Tensor) -> tuple[Tensor, Tensor]:
    """Return the powers of x and those of x**2 that make a term."""
    odd = (parity == ODD).to(exponents)
    return torch.where(parity != 0, odd, exponents), torch.where(parity != 0, (exponents - odd) / 2, 0.0)


def join(alone: Any, squared: Any) -> tuple[Any, Any]:
    """Return exponents and parity from the powers of x and of x**2, the inverse of `split` (NumPy).

    >>> [part.tolist() for part in join(np.array([1.0, 0.0, 2.0]), np.array([0.25, 0.75, 0.0]))]
    [[1.5, 1.5, 2.0], [1.0, 2.0, 0.0]]
    """
    return alone + 2 * squared, np.where(squared == 0, 0.0, np.where(alone == 1, ODD, EVEN))


def symbols(x: sp.Expr, w: float, parity: float, power: Any) -> sp.Expr:
    """Return one factor as SymPy has it; `power` makes a number of an exponent.

    >>> import sympy as sp
    >>> symbols(sp.symbols("x", real=True), 2.0, ODD, sp.Integer)
    x*Abs(x)
    """
    import sympy as sp

    size = sp.Abs(x)
    return size ** power(w) if parity == EVEN else x * size ** power(w - 1.0)


def seeds(positive: Bool[np.ndarray, "d"]) -> Iterator[tuple[dict[int, float], dict[int, float]]]:
    """Yield exponents and parities of signed powers that are no whole ones, alone and times another state."""
    d = len(positive)
    for i in map(int, np.flatnonzero(~positive)):
        for w, parity in SEEDS:
            for others in alone_and_beside(i, d):
                yield {i: w, **others}, {i: float(parity)}
