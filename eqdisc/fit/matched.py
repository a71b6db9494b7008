"""Matched: laws of one equation, fitted to the integral form of the data side by side."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..law.law import Law
from ..law.terms import Terms


class Prices(Protocol):
    """What prices terms (`law.price.Prior`)."""

    def term_cost(self, terms: Terms, free: Terms, log_n: float) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Matched:
    """Laws of one equation side by side, in torch, and the residual sums that they leave; a coefficient that is not zero is there.

    Before they are fitted, coefficients are 1 and residual sums infinite.
    """

    law: Law  # lanes of k terms, coefficients (B, k, 1)
    rss: Float[Tensor, "b"]

    @classmethod
    def of(cls, terms: Terms, free: Terms | None = None, active: Bool[Tensor, "b k"] | None = None) -> Matched:
        """Return laws that have not been fitted yet; no number is free without `free`, every term there without `active`."""
        free = terms.nothing() if free is None else free
        if active is None:
            active = torch.ones_like(terms.offsets, dtype=torch.bool)
        else:
            on = lambda v: active if v.dim() == active.dim() else active[..., None]  # noqa: E731
            terms = terms.map(lambda v: torch.where(on(v), v, 0.0))
            free = free.map(lambda v: v & on(v))
        law = Law(terms, active.to(terms.offsets)[..., None], free)
        return cls(law, terms.offsets.new_full((len(terms),), torch.inf))

    def __len__(self) -> int:
        return len(self.rss)

    @property
    def terms(self) -> Terms:
        return self.law.terms

    @property
    def active(self) -> Bool[Tensor, "b k"]:
        """Which terms are there."""
        return self.law.coefficients[..., 0] != 0

    @property
    def width(self) -> int:
        """Terms that each lane has room for."""
        return self.law.coefficients.shape[1]

    def select(self, lanes: Tensor | slice) -> Matched:
        return Matched(self.law.select(lanes), self.rss[lanes])

    def fitted(self, terms: Terms, coefficients: Float[Tensor, "b k"], rss: Float[Tensor, "b"]) -> Matched:
        """Return the same laws with other numbers; a coefficient that came out as zero is still there."""
        least = torch.finfo(coefficients.dtype).tiny
        a = torch.where(self.active, torch.where(coefficients == 0, least, coefficients), 0.0)
        return Matched(replace(self.law, terms=terms, coefficients=a[..., None]), rss)

    def freed(self, free: Terms) -> Matched:
        """Return the same terms, not fitted, with those numbers free."""
        return Matched.of(self.terms, free, self.active)

    @staticmethod
    def cat(parts: list[Matched]) -> Matched:
        """Join lanes of different widths, padded alike."""
        width = max(p.width for p in parts)
        first, *rest = [p._pad(width - p.width) for p in parts]
        return Matched(first.law.beside(*(p.law for p in rest)), torch.cat([first.rss, *(p.rss for p in rest)]))

    def _pad(self, more: int) -> Matched:
        if not more:
            return self
        pad = lambda v: torch.nn.functional.pad(v, (*[0] * (2 * (v.dim() - 2)), 0, more))  # noqa: E731
        law = Law(self.law.terms.map(pad), pad(self.law.coefficients), self.law.free.map(pad))
        return Matched(law, self.rss)

    def cost(self, prior: Prices, rows: float, floor: float) -> Float[Tensor, "b"]:
        """Description length of each lane, with an error floor (scaled units) under the residual."""
        log_n = float(np.log(rows))
        terms = prior.term_cost(self.terms, self.law.free, log_n) + 0.5 * log_n
        return 0.5 * rows * (self.rss / rows + floor**2).log() + (terms * self.active).sum(-1)

    def _signatures(self, digits: int, powers: bool) -> list[tuple]:
        """A hashable name of each lane's structure, its numbers rounded, or its `powers` alone."""
        terms = self.terms
        both = torch.cat([terms.exponents, terms.inner], -1) if powers else terms.table()
        table = both if bool(terms.bent.any()) else terms.exponents
        w, active = table.cpu().numpy().round(digits) + 0.0, self.active.cpu().numpy()
        return [tuple(sorted(map(tuple, row[on]))) for row, on in zip(w, active, strict=True)]

    def distinct(self, most: int, digits: int = 1, powers: bool = False) -> Matched:
        """Keep the first lane of each structure, in the order given; with `powers` no K tells structures apart."""
        seen: set[tuple] = set()
        keep = []
        for q, name in enumerate(self._signatures(digits, powers)):
            if name not in seen and len(set(name)) == len(name):
                seen.add(name)
                keep.append(q)
        return self.select(torch.as_tensor(keep[:most], dtype=torch.long, device=self.rss.device))


__all__ = ["Matched"]
