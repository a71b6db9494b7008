r"""Pruning: gates to 0 or 1, then a path from a dense chain to a sparse one.

At each step the number whose loss costs least is set to zero and the rest are fitted again through the ODE. The
cost of losing p, foretold with the others re-optimised, is p**2 / 2 (H^-1)_pp (optimal brain surgeon; Hassibi &
Stork, NeurIPS 1992). Along the path the error hardly moves until the true size and jumps below it: the path is a
Pareto front, and the true size shows as a jump.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..fit.collocation import Collocation
from ..fit.fit import Fit, invert
from ..law.law import PARTS, Law
from ..law.terms import Number

SHARE = 0.15  # of the numbers that may go at once while many are left
MANY = 12


@dataclass(frozen=True, eq=False)
class Step:
    """One point of the path: the fitted lanes and how many numbers each still has."""

    fit: Fit
    sizes: tuple[int, ...]


def prune(
    engine: Collocation,
    law: Law,
    x: Float[Tensor, "R K M1 d"],
    sigma: Float[Tensor, "R d"],
    steps: int = 8,
    stop: Callable[[], bool] = lambda: False,
    grouped: int = 0,
) -> list[Step]:
    """Return the path of every lane from dense to a single number, each point refitted; all exponents are free on it.

    Once `stop()` is true it ends where it is, after its first point.

    The factors of groups, in the last `grouped` columns of the exponents, go with their term.
    """
    path: list[Step] = []
    law = law.freed(engine.positive)
    while bool(law.support.any()) and not (path and stop()):
        fit = engine.fit(law, x, sigma, steps=steps)
        x = torch.where(torch.isfinite(fit.nll).view(-1, 1, 1, 1), fit.x, x.expand_as(fit.x))
        path.append(Step(fit, tuple(int(n) for n in fit.numbers.valid.sum(-1))))
        law = _thin(fit, grouped).freed(engine.positive)
    return path


def _thin(fit: Fit, grouped: int = 0) -> Law:
    """Set the numbers of least saliency to zero, lane by lane."""
    gone = torch.zeros_like(fit.numbers.valid)
    for number in range(len(fit)):
        gone[number, _least_salient(fit, number, grouped)] = True
    lane, place = gone.nonzero(as_tuple=True)
    part, term, column = (v[lane, place] for v in (fit.numbers.part, fit.numbers.term, fit.numbers.place))
    law, terms = fit.lanes, fit.lanes.terms
    cleared = lambda v, which: v.index_put((lane[which], term[which], column[which]), v.new_zeros(()))  # noqa: E731
    w, u = cleared(terms.exponents, part == 0), cleared(terms.inner, part == 1)
    return replace(
        law, terms=replace(terms, exponents=w, inner=u), coefficients=cleared(law.coefficients, part == 3), flux=None
    )


def _least_salient(fit: Fit, number: int, grouped: int) -> list[int]:
    """Return which numbers of a lane may go: the one whose loss costs least, or several while many are left."""
    one = fit.select(slice(number, number + 1))
    on = np.flatnonzero(one.numbers.valid[0].cpu().numpy())
    names = one.numbers.names()
    values = np.array([_value(one.lanes, n) for n in names])
    variance = np.diag(invert(np.nan_to_num(one.hessian[0].cpu().numpy()[np.ix_(on, on)], posinf=1e200, neginf=-1e200)))
    with np.errstate(over="ignore"):  # a number of which nothing is known
        saliency = values**2 / np.maximum(variance, 1e-300) / 2
    plain = fit.lanes.d - grouped
    stays = [n.part == "offset" or (n.part == "exponent" and n.place >= plain) for n in names]  # log K = 0 is no loss
    may_go = np.flatnonzero(~np.array(stays, bool))
    order = may_go[np.argsort(np.nan_to_num(saliency[may_go], nan=0.0, posinf=1e300))]
    cheap = max(1, int(SHARE * (len(names) - MANY)))
    gone = order[:cheap] if cheap == 1 else [q for q in order[:cheap] if saliency[q] < 1.0] or order[:1]
    return on[gone].tolist()


def _value(law: Law, number: Number) -> float:
    """Return a number of a law's only lane (torch)."""
    if number.part == "coefficient":
        return float(law.coefficients[0, number.term, number.place])
    table = law.terms.arrays[PARTS.index(number.part)][0, number.term]
    return float(table if number.part == "offset" else table[number.place])
