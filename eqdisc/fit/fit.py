r"""Fit: laws fitted to the trajectories, what they leave of the data, what they cost, and how their numbers vary together.

An engine returns many lanes; one of them, priced and without padding, is what a search keeps, compares, prints and judges. Its numbers
are those of its law, from here to the print.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..law.law import Law, Numbers
from ..law.terms import Number, Terms
from ..law.ties import Tie
from ..work.journal import Packed

LEVEL, NORMAL = 0.9, 1.6448536269514722  # of intervals: what they hold, and half their width in standard errors
RIDGE = 1e-10  # of a scaled matrix: a number that nothing depends on varies without bound


@dataclass(frozen=True, eq=False)
class Fit:
    """R lanes of fitted laws: states on the grid, sigma (R, d), data term of the description length, defect, curvature.

    `hessian` (R, P, P) is the Gauss-Newton matrix over `numbers`, starts eliminated, in scaled units. Of one lane: `cost`, its description
    length, the ties of its coefficients, and whether it holds to them exactly.
    """

    lanes: Law
    x: Float[Tensor, "R K M1 d"]
    sigma: Float[Tensor, "R d"]
    nll: Float[Tensor, "R"]
    defect: Float[Tensor, "R"]
    hessian: Float[Tensor, "R P P"]
    numbers: Numbers
    status: Int[Tensor, "R"]
    cost: float = math.nan
    ties: tuple[Tie, ...] = ()
    tied: bool = False

    def __len__(self) -> int:
        return len(self.nll)

    def select(self, lanes: Tensor | slice) -> Fit:
        """Return those lanes."""
        return replace(
            self,
            lanes=self.lanes.select(lanes),
            x=self.x[lanes],
            sigma=self.sigma[lanes],
            nll=self.nll[lanes],
            defect=self.defect[lanes],
            hessian=self.hessian[lanes],
            numbers=self.numbers.select(lanes),
            status=self.status[lanes],
        )

    def lane(self, number: int) -> Fit:
        """Return one lane without its padding: terms that no equation uses, and numbers that are none."""
        one = self.select(slice(number, number + 1))
        used, there = one.lanes.support[0].any(-1), one.numbers.valid[0]
        law = one.lanes
        flux = None if law.flux is None else law.flux[:, used]
        law = Law(law.terms[:, used], law.coefficients[:, used], law.free[:, used], flux)
        order = used.long().cumsum(0) - 1
        own = Numbers(*(v[:, there] for v in vars(one.numbers).values()))
        numbers = replace(own, term=order[own.term])
        return replace(one, lanes=law, numbers=numbers, hessian=one.hessian[:, there][:, :, there])

    @property
    def alive(self) -> list[int]:
        """The lanes that ended well."""
        return torch.isfinite(self.nll).nonzero()[:, 0].tolist()

    # Of one lane

    @cached_property
    def law(self) -> Law:
        """The law of the first lane, in NumPy."""
        return self.lanes.lane(0)

    @cached_property
    def names(self) -> list[Number]:
        """Its numbers."""
        return self.numbers.names(0)

    @cached_property
    def noise(self) -> Float[np.ndarray, "d"]:
        """Its sigma."""
        return self.sigma[0].cpu().numpy()

    @cached_property
    def covariance(self) -> Float[np.ndarray, "P P"]:
        """The covariance of its numbers."""
        h = np.nan_to_num(self.hessian[0].cpu().numpy(), posinf=1e200, neginf=-1e200)
        return invert(h)

    @property
    def data_cost(self) -> float:
        """The part of the description length that the residuals make."""
        return float(self.nll[0])

    @property
    def key(self) -> tuple:
        """What names the structure of its law."""
        return self.law.key

    @property
    def size(self) -> int:
        """Numbers that were fitted or chosen: coefficients, tied ones once, and exponents other than 0 and 1."""
        return self.law.size - len(self.ties)

    # For the journal

    def pack(self) -> Packed:
        """Return every array under its name."""
        law = self.lanes
        flat: dict[str, Any] = {name: v for name, v in vars(self).items() if isinstance(v, Tensor)}
        flat |= {f"numbers.{name}": v for name, v in vars(self.numbers).items()}
        flat |= {f"terms.{k}": v for k, v in enumerate(law.terms.arrays)}
        flat |= {f"free.{k}": v for k, v in enumerate(law.free.arrays)}
        flat |= {"coefficients": law.coefficients} | ({} if law.flux is None else {"flux": law.flux})
        return {name: v.detach().cpu().numpy() for name, v in flat.items()}

    @classmethod
    def unpack(cls, packed: Packed, device: torch.device) -> Fit:
        """Return what was packed."""
        own: dict[str, Any] = {name: torch.tensor(v, device=device) for name, v in packed.items()}
        take = lambda part: {f.removeprefix(part): own.pop(f) for f in list(own) if f.startswith(part)}  # noqa: E731
        numbers, terms, free = take("numbers."), take("terms."), take("free.")
        in_order = lambda parts: Terms(*(parts[str(k)] for k in range(4)))  # noqa: E731
        law = Law(in_order(terms), own.pop("coefficients"), in_order(free), own.pop("flux", None))
        return cls(lanes=law, numbers=Numbers(**numbers), **own)


def invert(h: Float[np.ndarray, "P P"]) -> Float[np.ndarray, "P P"]:
    """Return the inverse of a Gauss-Newton matrix whose numbers differ by decades; a number that nothing depends on varies without bound.

    >>> invert(np.array([[4.0, 0.0], [0.0, 1e-8]])).round(2).tolist()
    [[0.25, 0.0], [0.0, 99999999.99]]
    """
    solved, size = scale(h)
    with np.errstate(over="ignore"):
        return solved / size[:, None] / size


def scale(h: Float[np.ndarray, "P P"]) -> tuple[Float[np.ndarray, "P P"], Float[np.ndarray, "P"]]:
    """Return the inverse of a matrix in which every number has a curvature of one, and the sizes that made it so."""
    size = np.sqrt(np.maximum(np.diag(h), 0)) + 1e-300
    unit = np.nan_to_num(h / size[:, None] / size, posinf=0.0, neginf=0.0) + RIDGE * np.eye(len(h))
    return np.linalg.pinv(unit, hermitian=True), size


__all__ = ["LEVEL", "NORMAL", "Fit", "invert", "scale"]
