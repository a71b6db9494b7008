r"""Extraction: a law as the chain of units that it is, a chain read as a law, and how far its symbols are from it.

    z = RealNPU(x): x, x**2, x**u, 1      y = NAU(z): x, x**2, K + x**u      m = RealNPU(y)      dx/dt = NAU(m)

Without quantities, K + x**u and |x| = (x**2)**(1/2), it is RealNPU and NAU alone, the chain of Heim et al. (2020, section 4.1). A law becomes a
chain with open gates and comes back as it was; a chain whose gates are half open is closed first, where it is nearer to (`closing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from ..units import NAU, RealNPU, magnitude
from ..units.chain import Chain, power_layer, sum_layer
from ..work.errors import FormulaError
from .equations import Equations
from .law import Law
from .terms import Terms


def chain_of(law: Law) -> Chain:
    """Return a law as a chain with open gates, of one lane or, in torch, of as many as it has.

    >>> decay = Law.of(Terms.of([[1.0]]), [[-0.5]])
    >>> chain_of(decay)(torch.tensor([[[4.0]]]).double()).item()
    -2.0
    >>> enzyme = chain_of(Law.of(Terms.of([[1.0]], [[1.0]], [0.0]), [[-2.0]]))  # -2 x / (1 + x)
    >>> enzyme.specification, round(enzyme(torch.tensor([[[3.0]]]).double()).item(), 6)
    ('realnpu:3,nau:2,realnpu:1,nau', -1.5)
    """
    law = Law.stack([law]) if isinstance(law.coefficients, np.ndarray) else law
    terms, a = law.terms, law.coefficients
    if not bool(terms.bent.any()):
        return Chain.from_terms(terms.exponents, a)
    w, d = terms.exponents, law.d
    lanes, m = terms.offsets.shape
    eye = torch.eye(d, dtype=w.dtype, device=w.device).expand(lanes, d, d)
    squares = eye[:, : d if bool((terms.parity != 0).any()) else 0]
    passed = d + squares.shape[1]
    divided = terms.saturates.any(0).nonzero()[:, 0]  # in some lane
    q, there = len(divided), terms.saturates[:, divided]
    raised = torch.cat(
        [eye, 2 * squares, terms.inner[:, divided], w.new_zeros(lanes, 1, d)], 1
    )  # the last is the constant
    shares = torch.eye(passed + q, passed + q + 1, dtype=w.dtype, device=w.device).repeat(lanes, 1, 1)
    shares[:, passed:, -1] = torch.where(there, terms.offsets[:, divided].exp(), 0.0)
    alone, squared = magnitude.split(w, terms.parity)
    below = w.new_zeros(lanes, m, q)
    below[:, divided, torch.arange(q)] = -there.to(w)
    powers = torch.cat([alone, squared[..., : squares.shape[1]], below], -1)
    return Chain([power_layer(raised), sum_layer(shares), power_layer(powers), sum_layer(a.mT)])


def law_of(chain: Chain, lane: int = 0, closing: bool = False) -> Law:
    """Read one lane of a chain as a law.

    Raises:
        FormulaError: the chain has other units than `chain_of` makes, or a gate is half open and not to be closed.

    >>> enzyme = Law.of(Terms.of([[1.0]], [[1.0]], [0.5]), [[-2.0]])
    >>> law_of(chain_of(enzyme)).alike(enzyme)
    True
    """
    units: list[Any] = list(chain.units)
    if [type(unit) for unit in units] not in ([RealNPU, NAU], [RealNPU, NAU] * 2):
        raise FormulaError(f"A chain {chain.specification!r} is not a sum of monomials; 'realnpu:m,nau' is.")
    tables = [_close(unit, lane, closing) if isinstance(unit, RealNPU) else _weights(unit, lane) for unit in units]
    if len(tables) == 2:
        return Law.of(Terms.of(tables[0]), tables[1].T)
    raised, shares, powers, a = tables
    return _read_quantities(raised, shares, powers, a.T)


def _close(unit: RealNPU, lane: int, closing: bool) -> Float[np.ndarray, "out in"]:
    """Return a power unit's exponents behind gates that are open or closed."""
    gate = unit.open_gate().detach()[lane]
    if closing:
        gate = (unit.gate.detach()[lane] > 0.5).to(gate)
    elif not bool(((gate == 0) | (gate == 1)).all()):
        raise FormulaError("A gate is half open, so its unit is not a monomial; prune until gates are 0 or 1.")
    return (unit.effective("exponents").detach()[lane] * gate).cpu().numpy().copy()


def _weights(unit: NAU, lane: int) -> Float[np.ndarray, "out in"]:
    return unit.effective("coefficients").detach()[lane].cpu().numpy().copy()


def _read_quantities(
    raised: Float[np.ndarray, "p d"],
    shares: Float[np.ndarray, "q p"],
    powers: Float[np.ndarray, "m q"],
    a: Float[np.ndarray, "m e"],
) -> Law:
    """Return the law whose terms are products of the quantities sum_p shares[q, p] prod_i x_i**raised[p, i]."""
    m, d = len(powers), raised.shape[1]
    alone, squared, inner, offsets = np.zeros((m, d)), np.zeros((m, d)), np.zeros((m, d)), np.zeros(m)
    for weights, power in zip(shares, powers.T, strict=True):
        constant = float(weights[(raised == 0).all(1)].sum())
        moving = np.flatnonzero(weights * (raised != 0).any(1))
        if not power.any() or not len(moving):
            continue
        u, users = raised[moving[0]], np.flatnonzero(power)
        one, factor = np.flatnonzero(u), float(weights[moving[0]])
        if len(moving) == 1 and not constant and factor == 1 and len(one) == 1 and u[one[0]] in (1.0, 2.0):
            (alone if u[one[0]] == 1 else squared)[:, one[0]] += power
        elif len(moving) == 1 and constant > 0 and (power[users] == -1).all() and not inner[users].any():
            inner[users], offsets[users] = u, np.log(constant / factor)
            a[users] /= factor
        else:
            raise FormulaError(
                "A quantity of this chain is neither a state, nor its size, nor K + x**u; it cannot be read."
            )
    exponents, parity = magnitude.join(alone, squared)
    return Law.of(Terms.of(exponents, inner, offsets, parity), a)


def disagreement(
    law: Equations, chain: Chain, names: Sequence[str], x: Float[np.ndarray, "n d"], lane: int = 0
) -> float:
    """Return the largest difference of equations and chain at x, relative to the largest rate of each state; `names` are those of x's columns.

    >>> decay = Law.of(Terms.of([[1.0]]), [[-0.5]])
    >>> disagreement(Equations.of(decay, ("x",)), chain_of(decay), ("x",), np.ones((3, 1)))
    0.0
    """
    with torch.no_grad():
        by_chain = chain.select([lane])(torch.as_tensor(x)[None])[0].numpy()[:, : len(law.states)]
    apart = np.abs(law.rates(dict(zip(names, x.T, strict=True))) - by_chain)
    return float((apart / np.maximum(np.abs(by_chain).max(0), 1e-300)).max(initial=0.0))


__all__ = ["chain_of", "disagreement", "law_of"]
