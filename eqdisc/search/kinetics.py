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
from jaxtyping import Int

from ..fit.matched import Matched
from ..fit.regression import Regression
from ..law.price import Prior
from ..law.terms import Terms

NARROW = 14  # terms from which on several ways down are kept,
WAYS = 16  # so many,
FORKS = 6  # each from so many of the terms that cost least
STEPS = 8  # of variable projection at each size
SIZES = range(3, 7)  # that are proposed


def choose_rates(terms: Terms) -> Int[np.ndarray, "k"]:
    """Return which terms of a library are plain rates, squares, or rates that saturate, those at two K each.

    >>> some = Terms.of([[1.0], [0.5], [1.0], [1.0], [1.0]], [[0.0], [0.0], [1.0], [1.0], [1.0]], [0.0, 0.0, -2.0, -1.0, 0.0])
    >>> choose_rates(some).tolist()
    [0, 2, 3]
    """
    above, below, whole = terms.exponents, terms.inner, (terms.parity == 0).all(1)
    product = np.isin(above, (0, 1)).all(1) & (above.sum(1) <= 2) & whole
    square = (above.sum(1) == 2) & (above.max(1) == 2) & whole
    once = (below.max(1) == 1) & (below.sum(1) == 1) & (below <= above).all(1)
    chosen = list(np.flatnonzero((product | square) & ~terms.saturates))
    bars = np.flatnonzero(product & once)
    kinds = np.hstack([above, below])[bars]
    for kind in np.unique(kinds, axis=0):
        own = bars[(kinds == kind).all(1)]
        own = own[terms.offsets[own].argsort()]
        chosen += list(dict.fromkeys((own[0], own[len(own) // 2])))
    return np.array(chosen, int)


def prune_rates(
    regression: Regression, e: int, terms: Terms, prior: Prior, hurry: Callable[[], bool] = lambda: False
) -> list[Matched]:
    """Return equations e of three to six rates that are left of all in a library (torch), several of each size, the nearest first.

    Nothing, where the data are fewer than the rates.
    """
    left = terms[torch.as_tensor(choose_rates(terms.numpy()), device=terms.offsets.device)[None]]
    found: list[Matched] = []
    width = lambda: left.offsets.shape[1]  # noqa: E731
    if not SIZES[-1] < width() < regression.rows[e]:
        return found
    while width() >= SIZES[0] and not hurry():
        lanes = regression.fit(_with_k_free(left), e, steps=STEPS, bounds=prior.bounds)
        lanes = lanes.select(lanes.rss.argsort()[:WAYS])
        if width() in SIZES:
            found.append(lanes)
        left = _less(lanes, regression, e)
    return found


def _with_k_free(terms: Terms) -> Matched:
    """Return lanes of those terms in which K alone is free, each structure once."""
    lanes = Matched.of(terms, terms.only_k())
    distinct = lanes.distinct(len(lanes))
    return distinct if len(distinct) else lanes


def _less(lanes: Matched, regression: Regression, e: int) -> Terms:
    """Return the terms of the lanes without one of those that cost least, for several of them; while many are left, without a part."""
    width = lanes.width
    now = regression.solve(lanes.terms, lanes.active, e)
    loss = now.a.square() / torch.linalg.inv(now.gram).diagonal(dim1=-2, dim2=-1).clamp_min(1e-300)
    order = loss.argsort(-1)
    if width > NARROW:
        return lanes.terms[0][order[:1, (width - NARROW + 2) // 3 :].sort(-1).values]
    kept = torch.tensor([[j for j in range(width) if j != gone] for gone in range(width)])
    lane, forks = torch.arange(len(lanes))[:, None], order[:, :FORKS]  # (lanes, terms that go)
    return lanes.terms[lane[..., None], kept[forks]].map(lambda v: v.flatten(0, 1))
