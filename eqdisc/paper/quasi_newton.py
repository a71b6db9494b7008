r"""L-BFGS in lanes: every lane has its own memory, its own step length and its own end (Nocedal & Wright, Numerical Optimization, ch. 7.2).

One evaluation serves one trial of every lane: a lane whose trial lowers its loss enough (Armijo) takes it, the others try again with a shorter step,
and none waits for the rest.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

MEMORY = 10
ENOUGH = 1e-4  # of the decrease that the slope promises
SHORTEST = 1e-10  # a lane whose step is below it has failed: it forgets its memory and begins anew, or ends

Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]  # theta (R, P) -> losses (R,), gradients (R, P)


def minimise(
    evaluate: Evaluate, theta: Float[Tensor, "lanes P"], steps: int, failures: int = 2
) -> Float[Tensor, "lanes P"]:
    """Return where each lane's loss is lowest after at most `steps` evaluations; a lane ends after so many failures in turn.

    >>> centre = torch.tensor([[1.0, 2.0], [-3.0, 0.5]]).double()
    >>> bowl = lambda p: (((p - centre) ** 2 * torch.tensor([1.0, 30.0])).sum(1), 2 * (p - centre) * torch.tensor([1.0, 30.0]))
    >>> bool(torch.allclose(minimise(bowl, torch.zeros(2, 2).double(), 40), centre))
    True
    """
    lanes, width = theta.shape
    loss, slope = evaluate(theta)
    loss = loss.nan_to_num(torch.inf, torch.inf)
    moves, changes = theta.new_zeros(lanes, MEMORY, width), theta.new_zeros(lanes, MEMORY, width)
    direction, length = -slope, (1.0 / slope.abs().sum(1).clamp_min(1e-12)).clamp_max(1.0)
    tired = torch.zeros(lanes, dtype=torch.long)
    for _ in range(steps):
        trial = theta + length[:, None] * direction
        its_loss, its_slope = evaluate(trial)
        promised = ENOUGH * length * (slope * direction).sum(1)
        taken = torch.isfinite(its_slope).all(1) & (its_loss <= loss + promised) & (tired < failures)
        moves, changes = _remember(moves, changes, taken, trial - theta, its_slope - slope)
        theta, slope = torch.where(taken[:, None], trial, theta), torch.where(taken[:, None], its_slope, slope)
        loss = torch.where(taken, its_loss, loss)
        length = torch.where(taken, 1.0, 0.4 * length)
        lost = ~taken & (length < SHORTEST)
        tired = torch.where(taken, 0, tired + lost.long())
        moves, changes = (torch.where(lost[:, None, None], 0.0, m) for m in (moves, changes))
        direction = torch.where((taken | lost)[:, None], _direct(slope, moves, changes), direction)
        length = torch.where(lost, (1.0 / slope.abs().sum(1).clamp_min(1e-12)).clamp_max(1.0), length)
        if bool((tired >= failures).all()):
            break
    return theta


def _remember(moves: Tensor, changes: Tensor, taken: Tensor, move: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """Push the last move and change of slope of the lanes that moved, unless they say that the loss curves downwards."""
    curved = (move * change).sum(1) > 1e-10 * move.norm(dim=1) * change.norm(dim=1)
    keep = (taken & curved)[:, None, None]
    pushed = (torch.cat([old[:, 1:], new[:, None]], 1) for old, new in ((moves, move), (changes, change)))
    return tuple(torch.where(keep, new, old) for new, old in zip(pushed, (moves, changes), strict=True))  # type: ignore[return-value]


def _direct(slope: Tensor, moves: Tensor, changes: Tensor) -> Tensor:
    """Return the directions of descent by the two loops; empty places of the memory change nothing."""
    curvature = (moves * changes).sum(2)  # (R, MEMORY)
    rho = torch.where(curvature > 0, 1.0 / curvature.clamp_min(1e-300), 0.0)
    q, shares = slope, []
    for i in range(MEMORY - 1, -1, -1):
        share = rho[:, i] * (moves[:, i] * q).sum(1)
        q = q - share[:, None] * changes[:, i]
        shares.append(share)
    last = changes[:, -1].square().sum(1)
    q = torch.where(last > 0, curvature[:, -1] / last.clamp_min(1e-300), 1.0)[:, None] * q
    for i, share in zip(range(MEMORY), reversed(shares), strict=True):
        q = q + (share - rho[:, i] * (changes[:, i] * q).sum(1))[:, None] * moves[:, i]
    return -q
