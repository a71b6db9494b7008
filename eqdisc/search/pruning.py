r"""Pruning: gates to 0 or 1, then a path from a dense chain to a sparse one.

At each step the number whose loss costs least is set to zero and the rest are fitted again through the ODE. The
cost of losing p, foretold with the others re-optimised, is p**2 / 2 (H^-1)_pp (optimal brain surgeon; Hassibi &
Stork, NeurIPS 1992). Along the path the error hardly moves until the true size and jumps below it: the path is a
Pareto front, and the true size shows as a jump.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..fit.collocation import Collocation, Fit
from ..fit.solved import covariance_of
from ..law.law import release
from ..law.terms import Terms

SHARE = 0.15  # of the numbers that may go at once while many are left
MANY = 12


@dataclass(frozen=True, eq=False)
class Step:
    """One point of the path: the fitted lanes and how many numbers each still has."""

    fit: Fit
    sizes: tuple[int, ...]


def prune(
    engine: Collocation,
    terms: Terms,
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
    terms = release(terms, engine.positive)
    while bool(terms.support.any()) and not (path and stop()):
        fit = engine.fit(terms, x, sigma, steps=steps)
        x = torch.where(torch.isfinite(fit.nll).view(-1, 1, 1, 1), fit.x, x.expand_as(fit.x))
        path.append(Step(fit, tuple(int(n) for n in fit.index.valid.sum(-1))))
        terms = _thin(fit, engine.positive, grouped)
    return path


def _thin(fit: Fit, positive: Tensor, grouped: int = 0) -> Terms:
    """Set the numbers of least saliency to zero, lane by lane."""
    w, a = fit.terms.exponents.clone(), fit.terms.coefficients.clone()
    for lane in range(fit.terms.lanes):
        c, names = covariance_of(fit, lane)
        values = np.array([float((w if kind == "exponent" else a)[lane, j, i]) for kind, j, i in names])
        with np.errstate(over="ignore"):  # a number of which nothing is known
            saliency = values**2 / np.maximum(np.diag(c), 1e-300) / 2
        d = len(positive)
        kept = [kind == "exponent" and (i == 2 * d or d - grouped <= i < d) for kind, _, i in names]
        may_go = np.flatnonzero(~np.array(kept, bool))  # log K = 0 is no loss
        order = may_go[np.argsort(np.nan_to_num(saliency[may_go], nan=0.0, posinf=1e300))]
        cheap = max(1, int(SHARE * (len(names) - MANY)))
        gone = order[:cheap] if cheap == 1 else [q for q in order[:cheap] if saliency[q] < 1.0] or order[:1]
        for q in gone:
            kind, j, i = names[q]
            (w if kind == "exponent" else a)[lane, j, i] = 0.0
    return release(Terms(w, a, fit.terms.free), positive)
