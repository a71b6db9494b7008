r"""Monomial: prod_i x_i**w_i, what a power unit with real powers computes where its gates are open (Heim et al. 2020, section 3.2).

    m = exp(sum_i w_i log|x_i|) cos(pi sum_i w_i [x_i < 0]),     d log|m| / d w_i = log|x_i|,     d log|m| / d log|x_i| = w_i

States that change sign have whole powers, for which the joint phase is 1 or -1. With x = c x' the powers stay and the term is
prod_i c_i**w_i times what it was.

The prices are shares in a half of 104 known power-law and polynomial systems (54 of them, chosen by a hash of their names: 205 terms, 243
exponents), rounded; `law.price` says how they were tested. Terms in no, one, two, three states: 10, 64, 24, 2 %, and 2.2 terms an equation
(0.6 nats to go on). Exponents: 1 68 %, 2 11 %, 1/2 7 %, then 3, 3/4, 3/2, 2/3, -1 at 1 to 2 %, -1/2, -2, 1/3, 1/4 below, tenths 6 %
together.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

if TYPE_CHECKING:
    import sympy as sp

REACH = 40.0  # of the logarithm of a term: beyond, no coefficient makes anything of it
PRICES = (
    (2.2, (2.0,)),
    (2.7, (0.5,)),
    (4.0, (3.0, 1.5, 0.75, 2 / 3, -1.0)),
    (4.6, (-0.5, -2.0, 1 / 3, 0.25)),
    (5.5, (*(k / 10 for k in range(-20, 21)), 1.25, 4 / 3, 5 / 3, -4 / 3, 2.5, -2.5, 4.0, -4.0, 5.0, -7.0, -9.0)),
)
ONE = 0.4  # price of the exponent 1
REAL = 3.5  # price of an exponent that is any real number, beside 0.5 log n
FAR = 0.7  # price of each unit by which an exponent lies beyond 2
GO_ON = 0.6  # price of one more term
VARIABLES = (2.3, 0.45, 1.4, 3.9, 6.0)  # price of a term in no, one, two, three, more states
LIMIT = 9.5  # of an exponent
ZERO = 1e-9  # exponents nearer to a value than this are that value

_PRICE_OF = {round(v, 9): price for price, group in reversed(PRICES) for v in group} | {1.0: ONE, 0.0: 0.0}


# Values and slopes


def log_of(x: Tensor, tiny: float) -> Tensor:
    """Return log|x|, |x| clamped from below at `tiny`: zero to a power is as mathematics wants it."""
    return x.abs().clamp_min(tiny).log()


def log_size(log_x: Float[Tensor, "... n d"], exponents: Float[Tensor, "... m d"]) -> Float[Tensor, "... n m"]:
    """Return sum_i w_i log|x_i|."""
    return log_x @ exponents.mT


def phase(negative: Float[Tensor, "... n d"], turns: Float[Tensor, "... m d"]) -> Float[Tensor, "... n m"]:
    """Return the angle of each product, pi sum_i w_i [x_i < 0]; its cosine is exactly 1 or -1 at whole numbers."""
    return torch.pi * (negative @ turns.mT)


def value(log_size: Tensor, phase: Tensor | None = None, reach: float = REACH) -> Tensor:
    """Return exp(log size) cos(phase), the logarithm within `reach`.

    >>> value(torch.tensor([2.0]).log(), torch.tensor([torch.pi])).round().item()
    -2.0
    """
    size = log_size.clamp(-reach, reach).exp()
    return size if phase is None else size * phase.cos()


# Symbols


def symbols(x: Sequence[sp.Expr], exponents: Sequence[float], power: Any) -> sp.Expr:
    """Return the product as SymPy has it; `power` makes a number of an exponent.

    >>> import sympy as sp
    >>> symbols(sp.symbols("x y", positive=True), [0.5, 1.0], sp.Rational)
    sqrt(x)*y
    """
    import sympy as sp

    return sp.Mul(*[xi ** power(float(w)) for xi, w in zip(x, exponents, strict=True)])


# Scaling


def rescale(exponents: Float[np.ndarray, "m d"], log_c: Float[np.ndarray, "d"]) -> Float[np.ndarray, "m"]:
    """Return by how much log|m| changes where x = c x': sum_i w_i log c_i."""
    return exponents @ log_c


# Price


def place_price(states: int, of: int) -> float:
    """Price the choice of a term's states: how many, and which of all.

    >>> place_price(2, 3) > place_price(1, 3) > place_price(1, 1)
    True
    """
    return GO_ON + VARIABLES[min(states, 4)] + math.log(math.comb(of, states))


def price(w: float, free: bool, log_n: float) -> float:
    """Price one exponent: by its share among known laws if it is chosen, as any real number if it is free."""
    far = FAR * max(0.0, abs(w) - 2.0)
    return far + (0.5 * log_n + REAL if free else _PRICE_OF.get(round(w, 9), PRICES[-1][0]))


def prices(w: Float[Tensor, "..."], free: Bool[Tensor, "..."], log_n: float) -> Float[Tensor, "..."]:
    """Price many exponents, each as `price` does."""
    cost = torch.full_like(w, PRICES[-1][0])
    for share, group in reversed(PRICES[:-1]):
        cost = torch.where(_among(w, group), share, cost)
    cost = torch.where((w - 1.0).abs() < ZERO, ONE, cost)
    cost = torch.where(w.abs() < ZERO, 0.0, cost)
    cost = torch.where(free, 0.5 * log_n + REAL, cost)
    return cost + FAR * (w.abs() - 2.0).clamp_min(0.0)


def _among(w: Tensor, values: tuple[float, ...]) -> Tensor:
    return torch.isclose(w[..., None], w.new_tensor(values), rtol=0.0, atol=ZERO).any(-1)


def menu() -> set[float]:
    """Return the values that have a price of their own."""
    return {0.0, 1.0} | {round(v, 12) for _, group in PRICES for v in group}


# Seeds


def seeds(positive: Bool[np.ndarray, "d"]) -> Iterator[dict[int, float]]:
    """Yield the exponents of simple terms: a constant, powers of one state, products of two or three.

    >>> list(seeds(np.array([True])))[:3]
    [{}, {0: -3}, {0: -2.5}]
    """
    d = len(positive)
    menu = _menu(positive)
    yield {}
    yield from ({i: w} for i in range(d) for w in menu[i])
    for i, j in itertools.combinations(range(d), 2):
        both = bool(positive[i] and positive[j])
        yield from ({i: a, j: b} for a in menu[i] for b in menu[j] if _worth(a, b, both))
    for triple in itertools.combinations(range(d), 3):
        for three in itertools.product(*[[-1, 0.5, 1] if positive[i] else [1] for i in triple]):
            if sum(w < 0 for w in three) <= 1 and (d <= 3 or 0.5 not in three):
                yield dict(zip(triple, three, strict=True))


def alone_and_beside(i: int, d: int) -> list[dict[int, float]]:
    """Return the factors beside a state with which a search starts: none, or another state.

    >>> alone_and_beside(0, 2)
    [{}, {1: 1.0}]
    """
    return [{}, *({j: 1.0} for j in range(d) if j != i)]


def _menu(positive: Bool[np.ndarray, "d"]) -> list[list[float]]:
    """Return the powers of each state that a search starts from."""
    d = len(positive)
    if d == 1:
        powers = [-3, -2.5, -2, -1.5, -1, -0.75, -0.5, -0.25, 0.25, 0.5, 2 / 3, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4]
        return [powers if positive[0] else [1, 2, 3, 4, 5]]
    real, whole = ([-1, -0.5, 0.5, 1, 2], [1, 2]) if d >= 5 else ([-2, -1, -0.5, 0.5, 1, 2], [1, 2, 3])
    return [list(real if p else whole) for p in positive]


def _worth(a: float, b: float, both_positive: bool) -> bool:
    return not (a < 0 and b < 0) and (both_positive or abs(a) + abs(b) <= 3)
