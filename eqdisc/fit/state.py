"""State: where each lane's fit stands, between two of its steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..law.law import Law
from ..law.terms import Terms
from .pins import Pins

PENALTY, DAMPING = 30.0, 1e-3  # where a fit begins
MOVING = ("x", "sigma", "penalty", "damping", "merit", "residual", "miss")


@dataclass(frozen=True, eq=False)
class State:
    """Laws, states on the grid and sigma of all lanes, the penalty on their defects, and their merit: chi-square with that penalty."""

    law: Law
    x: Tensor
    sigma: Tensor
    penalty: Tensor
    damping: Tensor
    merit: Tensor
    residual: Tensor
    miss: Tensor
    pins: Pins | None = None

    @classmethod
    def of(cls, law: Law, x: Tensor, sigma: Tensor, pins: Pins | None) -> State:
        """Return where a fit begins, not yet judged."""
        one = x.new_ones(len(x))
        return cls(law, x, sigma, PENALTY * one, DAMPING * one, one, one, one, pins)

    def _map(self, change: Callable[..., Tensor], *others: State) -> State:
        """Apply `change` to every tensor that moves, and to those of other states beside it; all lead with the lanes."""
        parts = zip(self.law.terms.arrays, *(o.law.terms.arrays for o in others), strict=True)
        coefficients = change(self.law.coefficients, *(o.law.coefficients for o in others))
        law = replace(self.law, terms=Terms(*(change(*v) for v in parts)), coefficients=coefficients)
        moved: dict[str, Any] = {f: change(getattr(self, f), *(getattr(o, f) for o in others)) for f in MOVING}
        return replace(self, law=law, **moved)

    def select(self, lanes: Tensor) -> State:
        """Return those lanes."""
        moved, pins = self._map(lambda v: v[lanes]), None if self.pins is None else self.pins.select(lanes)
        flux = None if self.law.flux is None else self.law.flux[lanes]
        return replace(moved, law=replace(moved.law, free=self.law.free[lanes], flux=flux), pins=pins)

    def update(self, other: State, where: Tensor) -> State:
        """Take the lanes `where` from another state of all lanes."""
        return self._map(lambda v, new: torch.where(where.view(-1, *[1] * (v.dim() - 1)), new, v), other)

    def put(self, lanes: Tensor, part: State) -> State:
        """Write the lanes of `part` at the indices `lanes`."""
        return self._map(lambda v, new: v.index_put((lanes,), new), part)

    def put_where(self, where: Tensor, part: State) -> State:
        """Write `part`, which has the lanes `where`, if its merit is lower or its defect is smaller."""
        lanes = where.nonzero()[:, 0]
        good = (part.merit < self.merit[lanes]) | (part.miss < self.miss[lanes])
        return self.put(lanes[good], part.select(good))

    def spread(self, lanes: int) -> tuple[State, ...]:
        """Return the state in parts of at most so many lanes."""
        return tuple(self.select(part) for part in torch.arange(len(self.x), device=self.x.device).split(lanes))

    def gather(self, parts: Sequence[State]) -> State:
        """Return this state with its lanes as the parts have them."""
        return parts[0]._map(lambda *v: torch.cat(v), *parts[1:])._as(self)

    def _as(self, whole: State) -> State:
        law = replace(self.law, free=whole.law.free, flux=whole.law.flux)
        return replace(self, law=law, pins=whole.pins)


__all__ = ["State"]
