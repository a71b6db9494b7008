r"""Subsets: all sets of one, two and three library terms, priced by what they leave of one equation's data.

With terms as unit columns m_j and y the data in integral form, a set's residual is that of y after projecting it on each term in turn
(Gram-Schmidt), which keeps apart near copies that a Gram matrix confuses once their difference is squared. The price of a set is the
description length with fixed exponents; what follows frees them.

K of a term that saturates cannot wait: off by half it leaves more than other terms do. Hence sets of two plain terms and
one that saturates have d(term)/d(log K) as one more column, a Gauss-Newton step of K within the projection.
"""

from __future__ import annotations

import math
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from ..fit.matched import Matched
from ..fit.regression import Regression
from ..law.price import Prior
from ..law.terms import Terms
from ..units import saturation

TRIPLED = 70
PLAIN = 60  # plain terms that are paired beside one that saturates
COLLINEAR = 1e-11  # square of the share of a term outside the span of others below which it says nothing new
LEVELS = 12  # sets that differ in K alone are one; so many more are looked at


class Subsets:
    """One library's columns `columns` (m, n) of unit length, which `norm` (m,) had before, of its `terms`, in one equation of a regression.

    With `ratios` the library has more than sums of powers.
    """

    def __init__(self, regression: Regression, e: int, terms: Terms, prior: Prior, ratios: bool = False) -> None:
        self.regression, self.e, self.ratios = regression, e, ratios
        self.y, self.rows = regression.targets[e], regression.rows[e]
        own = terms.torch(self.y.device)
        columns = regression.cumulate(regression.features(own), e)
        norm = columns.norm(dim=-1) + 1e-12
        good = torch.isfinite(columns).all(-1) & (norm > 1e-8)
        self.terms, self.norm = own[good], norm[good]
        self.columns = columns[good] / self.norm[:, None]
        self.gram, self.b = self.columns @ self.columns.T, self.columns @ self.y
        self._known: dict[tuple[int, ...], tuple[Tensor, ...]] = {}  # triples by the terms they are of
        fixed = self.terms.nothing()
        self.price = prior.term_cost(self.terms, fixed, math.log(self.rows)) + 0.5 * math.log(self.rows)

    def __len__(self) -> int:
        return len(self.terms)

    def exhaustive(self, floor: float, pairs: int, triples: int, singles: int = 0) -> Matched:
        """Return the best sets of one, two and three fixed library terms.

        Residuals are formed one term after the other: on exact data sets are told apart by what a Gram matrix loses to rounding.
        """
        one = self._cost(self.y @ self.y - self.b**2, floor) + self.price
        i, j, rss = self._pairs
        two = self._cost(rss, floor) + self.price[i] + self.price[j]
        parts = [self._sets(one, (torch.arange(len(self)),), singles), self._sets(two, (i, j), pairs)]
        useful = (
            torch.full_like(self.price, torch.inf).scatter_reduce(0, i, two, "amin").scatter_reduce(0, j, two, "amin")
        )
        top = useful.argsort()[: min(TRIPLED, len(useful))].sort().values
        if len(top) > 2 and triples:
            a, b, c, rss = self._triples(tuple(top.tolist()))
            cost = self._cost(rss, floor) + self.price[a] + self.price[b] + self.price[c]
            parts.append(self._sets(cost, (a, b, c), triples))
        return Matched.cat([p for p in parts if len(p)] or parts[:1])

    @cached_property
    def _pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """All sets of two and the residual sums that they leave."""
        i, j = torch.triu_indices(len(self), len(self), 1, device=self.y.device)
        rss = self._less(self._rest.square().sum(-1), self._rest @ self.columns.T, 1 - self.gram**2)
        return i, j, rss[i, j]

    @cached_property
    def _rest(self) -> Float[Tensor, "m n"]:
        """What each term alone leaves."""
        return _without(self.y, self.columns)

    def _triples(self, top: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Return all sets of three among `top` and the residual sums that they leave; once, as the same terms are asked for at every floor."""
        if top not in self._known:
            self._known[top] = self._find_triples(torch.as_tensor(top, device=self.y.device))
        return self._known[top]

    def _find_triples(self, top: Tensor) -> tuple[Tensor, ...]:
        columns, gram = self.columns[top], self.gram[top][:, top]
        i, j = torch.triu_indices(len(top), len(top), 1, device=top.device)
        second = _unit(_without(columns[j], columns[i]))
        left = _without(self._rest[top[i]], second)
        outside = 1 - gram[i].square() - (second @ columns.T).square()
        rss = self._less(left.square().sum(-1), left @ columns.T, outside)
        pair, k = (torch.arange(len(top), device=top.device) > j[:, None]).nonzero().T
        return top[i[pair]], top[j[pair]], top[k], rss[pair, k]

    def _less(self, rss: Tensor, along: Tensor, outside: Tensor) -> Tensor:
        """Return the residual sums (p,) after one term more each (p, m), of which `outside` is not in the span of the others."""
        fallen = rss[:, None] - along.square() / outside.clamp_min(COLLINEAR)
        return torch.where(outside < COLLINEAR, self.y @ self.y, fallen)

    def _cost(self, rss: Tensor, floor: float) -> Tensor:
        return 0.5 * self.rows * (rss.clamp_min(1e-30) / self.rows + floor**2).log()

    def one_bar(self, floor: float, count: int) -> Matched:
        """Return the best sets of two plain terms and one that saturates, whose K moves to first order beside it.

        A K that is off by half leaves more than sets of other terms do; with d(term)/d(log K) as one more column it does not.
        """
        barred = self.terms.saturates
        bars, plain = barred.nonzero()[:, 0], (~barred).nonzero()[:, 0]
        if not len(bars):
            return self._sets(self.price[:0], (bars,), 0)
        first = self.columns[bars]
        second = _unit(_without(self._slopes(barred), first))
        rest = _without(self.y, first, second)
        columns = self.columns[plain]
        outside = 1 - (first @ columns.T).square() - (second @ columns.T).square()
        alone = self._less(rest.square().sum(-1), rest @ columns.T, outside).amin(0)
        few = alone.argsort()[:PLAIN].sort().values
        plain, columns, outside = plain[few], columns[few], outside[:, few]
        found = []
        for i in range(len(columns) - 1):
            third = _unit(_without(columns[i], first, second))
            left = _without(rest, third)
            beyond = outside[:, i + 1 :] - (third @ columns[i + 1 :].T).square()
            found.append(self._less(left.square().sum(-1), left @ columns[i + 1 :].T, beyond))
        rss = torch.cat(found, 1)
        i, j = torch.triu_indices(len(columns), len(columns), 1, device=rss.device)
        cost = self._cost(rss, floor) + self.price[bars, None] + (self.price[plain[i]] + self.price[plain[j]])
        bar, pair = (v.flatten() for v in torch.meshgrid(bars, torch.arange(len(i)), indexing="ij"))
        return self._sets(cost.flatten(), (plain[i[pair]], plain[j[pair]], bar), count)

    def _slopes(self, which: Tensor) -> Float[Tensor, "m n"]:
        """Return d(term)/d(log K) of those terms, as the equation sees it, each of length one."""
        values, share = self.regression.features(self.terms[which]), self.regression.share(self.terms[which])
        assert share is not None
        columns = self.regression.cumulate(values * saturation.slopes(share, share)[1], self.e)
        return columns / columns.norm(dim=-1, keepdim=True).clamp_min(1e-12)

    def _sets(self, cost: Tensor, members: tuple[Tensor, ...], count: int) -> Matched:
        best = cost.topk(min(LEVELS * count if self.ratios else count, len(cost)), largest=False).indices
        lanes = Matched.of(self.terms[torch.stack([m[best] for m in members], 1)])
        return lanes.distinct(count, 2, powers=True) if self.ratios and len(lanes) else lanes


def _without(v: Tensor, *units: Tensor) -> Tensor:
    """Return vectors without what lies along others of length one, which are orthogonal to each other."""
    for unit in units:
        v = v - (v * unit).sum(-1, keepdim=True) * unit
    return v


def _unit(v: Tensor) -> Tensor:
    return v / v.norm(dim=-1, keepdim=True).clamp_min(COLLINEAR**0.5)
