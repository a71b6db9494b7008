r"""Extraction: a pruned chain read as equations, symbol by symbol.

State symbols are pushed through the units, each of which says itself in SymPy, and the scaling is undone by substitution: with
x = s x' and t = T t',

    dx_e/dt = (s_e / T) chain_e(x_1 / s_1, ..., x_d / s_d).

On the data, the expressions and the chain agree to 1e-9 (`disagreement`); gates must be binary, because a half-open gate is no
monomial.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import sympy as sp
import torch
from jaxtyping import Float

from ..data.scaling import Scaling
from ..units.chain import Chain
from .equations import Equations


def extract(
    chain: Chain, lane: int, names: Sequence[str], scaling: Scaling, nonnegative: Sequence[bool] | None = None
) -> Equations:
    """Return one lane of a chain that was trained in scaled units as equations in the user's units.

    >>> chain = Chain.from_terms(torch.tensor([[[0.5]]]), torch.tensor([[[2.0]]]))
    >>> print(extract(chain, 0, ("x",), Scaling(np.array([4.0]), 1.0), (True,)))
    dx/dt = 4·√x
    """
    scaled = chain.symbols(list(names), lane, nonnegative=tuple(nonnegative or [False] * len(names)))
    x = [sp.Symbol(n, real=True) for n in names]
    inside = {xi: xi / sp.Float(s) for xi, s in zip(x, scaling.states, strict=True)}
    rhs = []
    for expression, size in zip(scaled, scaling.states, strict=True):
        outside = sp.Float(size / scaling.time) * expression.subs(inside, simultaneous=True)
        rhs.append(_tidy(outside, x))
    return Equations(tuple(names), tuple(rhs))


def _tidy(expression: sp.Expr, x: list[sp.Symbol]) -> sp.Expr:
    """Gather numbers that the scaling left inside powers; expressions that are no sums of powers stay as they are."""
    positive = [sp.Symbol(s.name, positive=True) for s in x]
    plain = expression.subs(dict(zip(x, positive, strict=True)))
    if plain.has(sp.sign, sp.cos, sp.Abs):
        return expression
    plain = sp.expand(sp.expand_power_base(plain, force=True))
    return plain.subs(dict(zip(positive, x, strict=True)))


def disagreement(equations: Equations, chain: Chain, lane: int, scaling: Scaling, x: Float[np.ndarray, "n d"]) -> float:
    """Return the largest difference of equations and chain on states x, relative to the chain's largest value in each state."""
    scaled = torch.as_tensor(x / scaling.states, dtype=torch.float64)
    with torch.no_grad():
        by_chain = chain.select([lane])(scaled[None])[0].numpy() * scaling.states / scaling.time
    by_symbols = equations.function()(0.0, x)
    return float((np.abs(by_symbols - by_chain) / np.maximum(np.abs(by_chain).max(0), 1e-300)).max())
