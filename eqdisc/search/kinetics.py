r"""Kinetics: an equation of all the rates that kinetics write down, which loses one after the other.

Sums of terms that saturate go astray where they grow term by term: x / (0.1 + x) and x / (2 + x) are alike, and what two explain
together neither begins to. Exact data allow the other way: one dense equation first, of every product of one state or two, plain and
saturated in one of them with a small and a middle K, as a chain is dense before it is pruned. Its coefficients are those of least squares,
every K moves by variable projection, and the term whose loss costs least,

    a_j**2 / (G^-1)_jj,        G the Gram matrix of the terms as unit columns,

goes. Several ways down stay alive side by side: where a sum of states rests, different terms make the same equation.

Noise leaves of this nothing: a dense equation explains it too.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..fit.regression import Lanes, Regression
from ..law.price import Prior
from ..law.terms import only_k, saturating

NARROW = 14  # terms from which on several ways down are kept,
WAYS = 16  # so many,
FORKS = 6  # each from so many of the terms that cost least
STEPS = 8  # of variable projection at each size
SIZES = range(3, 7)  # that are proposed


def choose_rates(rows: Float[np.ndarray, "m c"], d: int) -> Int[np.ndarray, "k"]:
    """Return which rows of a library over d columns are plain rates, squares, or rates that saturate, those at two K each.

    >>> rows = np.array([[1.0, 0, 0, 0], [0.5, 0, 0, 0], *([1.0, 1, k, 0] for k in (-2.0, -1.0, 0.0))])
    >>> choose_rates(rows, 1).tolist()
    [0, 2, 3]
    """
    above, below, parity = rows[:, :d], rows[:, d : 2 * d], rows[:, 2 * d + 1 :]
    product = np.isin(above, (0, 1)).all(1) & (above.sum(1) <= 2) & (parity == 0).all(1)
    square = (above.sum(1) == 2) & (above.max(1) == 2) & (parity == 0).all(1)
    once = (below.max(1) == 1) & (below.sum(1) == 1) & (below <= above).all(1)
    chosen = list(np.flatnonzero((product | square) & ~saturating(rows, d)))
    bars = np.flatnonzero(product & once)
    kinds = rows[bars, : 2 * d]
    for kind in np.unique(kinds, axis=0):
        own = bars[(kinds == kind).all(1)]
        own = own[rows[own, 2 * d].argsort()]
        chosen += list(dict.fromkeys((own[0], own[len(own) // 2])))
    return np.array(chosen, int)


def prune_rates(
    regression: Regression, e: int, rows: Float[Tensor, "m c"], prior: Prior, hurry: Callable[[], bool] = lambda: False
) -> list[Lanes]:
    """Return equations e of three to six rates that are left of all among the library's rows, several of each size, the nearest first.

    Nothing, where the data are fewer than the rates.
    """
    w = rows[torch.as_tensor(choose_rates(rows.cpu().numpy(), regression.d), device=rows.device)][None]
    found: list[Lanes] = []
    if not SIZES[-1] < w.shape[1] < regression.rows[e]:
        return found
    while w.shape[1] >= SIZES[0] and not hurry():
        lanes = regression.fit(_with_k_free(w, regression.d), e, steps=STEPS, prior=prior)
        lanes = lanes.select(lanes.rss.argsort()[:WAYS])
        if w.shape[1] in SIZES:
            found.append(lanes)
        w = _less(lanes, regression, e)
    return found


def _with_k_free(w: Float[Tensor, "b k c"], d: int) -> Lanes:
    """Return lanes of those terms in which K alone is free, each structure once."""
    lanes = Lanes.of(w, torch.as_tensor(only_k(w.cpu().numpy(), d), device=w.device))
    distinct = lanes.distinct(len(lanes))
    return distinct if len(distinct) else lanes


def _less(lanes: Lanes, regression: Regression, e: int) -> Float[Tensor, "b k c"]:
    """Return the terms of the lanes without one of those that cost least, for several of them; while many are left, without a part."""
    terms = lanes.exponents.shape[1]
    now = regression._solve(lanes.exponents, lanes.active, regression.targets[e], e)
    loss = now.a.square() / torch.linalg.inv(now.gram).diagonal(dim1=-2, dim2=-1).clamp_min(1e-300)
    order = loss.argsort(-1)
    if terms > NARROW:
        kept = order[:1, (terms - NARROW + 2) // 3 :].sort(-1).values
        return lanes.exponents[:1].gather(1, kept[..., None].expand(-1, -1, lanes.exponents.shape[-1]))
    kept = [[j for j in range(terms) if j != gone] for gone in range(terms)]
    rest = lanes.exponents[:, torch.tensor(kept)]  # (lanes, term that goes, terms that stay, c)
    lane = torch.arange(len(lanes))[:, None]
    return rest[lane, order[:, :FORKS]].flatten(0, 1)
