r"""Levenberg and Marquardt's method for many lanes at once, each with a damping of its own, an L1 penalty and bounds.

A lane's loss is log(sum of squares) or a sum of such logarithms, which has no scale, plus weight * |w| of its exponents. With residuals r and
their slopes J in the parameters w, half of the loss's slope, and half the curvature of the parabola that touches the logarithm from above
(a logarithm is concave, so that r'r over what it is now does), are

    slope = J'r / r'r,     curvature = J'J / r'r,

the penalty adds those of the parabola that touches it at w, weight w**2 / (2 |w|) (Fan & Li, J. Am. Stat. Assoc. 96, 2001, eq. 3.7), and a step
solves

    (curvature + damping diag(curvature)) step = -slope.

Parameters that stand at a bound and would leave it stay there. A step that lowers the lane's loss is taken and its damping falls fivefold,
otherwise the damping rises fourfold (Levenberg 1944; Marquardt, J. SIAM 11, 1963). A lane rests when a step gains next to nothing; when all do, it
is over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Self, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

DAMPING = 1e-2  # to begin with
SMALL = 1e-4  # a gain in the logarithm of the loss at which a lane rests
STIFF = 1e6  # damping at which it rests too
NEAR_ZERO = 1e-3  # an exponent smaller than this is pulled to zero no harder

N = TypeVar("N", bound="Normal")
Follow = Callable[[Tensor], Any]


@dataclass(frozen=True, eq=False)
class Normal:
    """Each lane's loss, and half its slope and curvature in the parameters; fields have a lane axis first."""

    loss: Float[Tensor, "R"]
    slope: Float[Tensor, "R P"]
    curvature: Float[Tensor, "R P P"]

    def reduce(self, damping: Float[Tensor, "R"]) -> tuple[Float[Tensor, "R P"], Float[Tensor, "R P P"], Follow]:
        """Return slope and damped curvature in the parameters, all else eliminated, and what follows from a step in them."""
        return self.slope, damp(self.curvature, damping), lambda step: None

    def choose(self, better: Bool[Tensor, "R"], other: Self) -> Self:
        """Return `other` in the lanes that are better and this in the rest."""
        pairs = [(getattr(other, f.name), getattr(self, f.name)) for f in fields(self)]
        return type(self)(*(torch.where(better.view(-1, *[1] * (a.dim() - 1)), a, b) for a, b in pairs))


@dataclass(frozen=True, eq=False)
class Limits:
    """The least and largest value of each parameter, and the weight of its absolute value in the loss."""

    low: Float[Tensor, "P"]
    high: Float[Tensor, "P"]
    weight: Float[Tensor, "P"]

    def penalty(self, w: Float[Tensor, "R P"]) -> Float[Tensor, "R"]:
        """Return what is added to the loss."""
        return w.abs() @ self.weight

    def solve(
        self, w: Float[Tensor, "R P"], slope: Float[Tensor, "R P"], curvature: Float[Tensor, "R P P"]
    ) -> Float[Tensor, "R P"]:
        """Return the step from w with the penalty's slope and curvature, 0 in the parameters that a bound holds."""
        steep = 0.5 * self.weight / (w.abs() + NEAR_ZERO)
        slope = slope + steep * w
        free = ~(((w <= self.low) & (slope > 0)) | ((w >= self.high) & (slope < 0)))
        curvature = (curvature + torch.diag_embed(steep)) * free[:, None] * free[..., None]
        step = -torch.linalg.solve_ex(curvature + torch.diag_embed((~free).to(w)), (slope * free)[..., None])[0]
        return bounded(step[..., 0])


def minimise(
    evaluate: Callable[[Float[Tensor, "R P"], Any], N],
    w: Float[Tensor, "R P"],
    limits: Limits,
    steps: int,
    tell: Callable[[int], bool],
    now: N | None = None,
) -> tuple[Float[Tensor, "R P"], N]:
    """Lower every lane's loss by at most so many steps; return the parameters and the normal equations there.

    `evaluate(w, beside)` returns the normal equations at w, `beside` being what `Normal.reduce` says to follow from the step, None at first; `now`
    are those at the w that is given, if they are known. `tell(k)` is called after the k-th step and says whether to stop.

    >>> from torch import tensor
    >>> line = lambda w, _: Normal((w[:, 0] - 3).square(), w - 3, torch.ones(len(w), 1, 1))
    >>> found, _ = minimise(line, tensor([[0.0], [9.0]]), Limits(tensor([-5.0]), tensor([5.0]), tensor([0.0])), 30, lambda k: False)
    >>> found.round(decimals=3).tolist()
    [[3.0], [3.0]]
    """
    w = w.clamp(limits.low, limits.high)
    now = evaluate(w, None) if now is None else now
    damping, resting = torch.full_like(now.loss, DAMPING), torch.zeros_like(now.loss, dtype=torch.bool)
    for k in range(steps):
        if bool(resting.all()):
            break
        slope, curvature, follow = now.reduce(damping)
        trial_w = (w + limits.solve(w, slope, curvature)).clamp(limits.low, limits.high)
        trial = evaluate(trial_w, follow(trial_w - w))
        gain = now.loss + limits.penalty(w) - trial.loss - limits.penalty(trial_w)
        better = gain > 0  # not where it is NaN
        w, now = torch.where(better[:, None], trial_w, w), now.choose(better, trial)
        damping = torch.where(better, damping / 5.0, damping * 4.0).clamp_min(1e-12)
        resting = torch.where(better, gain < SMALL, resting | (damping > STIFF))
        if tell(k + 1):
            break
    return w, now


def damp(curvature: Float[Tensor, "... P P"], damping: Float[Tensor, "..."]) -> Float[Tensor, "... P P"]:
    """Return the matrix with its diagonal raised, so that rows of zeros can be solved too."""
    diagonal = curvature.diagonal(dim1=-2, dim2=-1)
    return curvature + torch.diag_embed(damping[..., None] * diagonal + 1e-12 * diagonal.amax(-1, keepdim=True) + 1e-30)


def bounded(step: Tensor) -> Tensor:
    """Return the step with 0 where it is not a number."""
    return step.nan_to_num(0.0, 0.0, 0.0)


__all__ = ["Follow", "Limits", "Normal", "bounded", "damp", "minimise"]
