r"""Training: a chain of units becomes the right-hand side of a neural ODE.

First by matching, which needs no solver: the chain's last layer, a NAU, is linear, so its coefficients are
projected out of the integral form of the data (`regression`) and Adam moves only what lies before it,

    loss_r = sum_e log RSS_e(units of lane r)  +  l1 * sum |exponents_r|,

all random starts side by side as lanes. Then through the ODE itself: every lane is integrated over segments of the
data (multiple shooting, starts estimated, kept non-negative where states are) and the mean squared residual is
minimised by Adam and, lane by lane, L-BFGS, with an L1 penalty that rises to its full weight and is lifted at the
end (Heim et al. 2020, section 4.1, eq. 18). A lane whose solution leaves the finite numbers is frozen and counts no
more.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .field import Chain
from .integration import integrate
from .journal import Journal
from .regression import RIDGE, Regression
from .status import Status

MOST_STEPS = (
    300  # solver steps along one segment; a lane that needs more is frozen, and starts near the answer need tens
)
LOWEST = 1e-7  # of states that are never negative, in scaled units: powers are evaluated no nearer to zero


@dataclass(frozen=True, eq=False)
class Stretches:
    """Segments for multiple shooting in scaled units: times (K, n), values (K, n, d), mask (K, n, d), first guesses of starts (K, d)."""

    t: Float[Tensor, "K n"]
    x: Float[Tensor, "K n d"]
    mask: Float[Tensor, "K n d"]
    start: Float[Tensor, "K d"]


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained chain, its estimated starts (R, K, d), each lane's mean squared residual and status."""

    chain: Chain
    starts: Float[Tensor, "R K d"]
    mse: Float[Tensor, "R"]
    status: Int[Tensor, "R"]


def match_chain(
    chain: Chain, regression: Regression, steps: int, l1: float, lr: float, journal: Journal
) -> tuple[Chain, Tensor]:
    """Fit every lane to the integral form; return the chain with its last layer solved for, and each lane's loss with its penalty (R,)."""
    body = [p for unit in chain.units[:-1] for p in unit.parameters()]
    optimiser = torch.optim.Adam(body, lr=lr)
    # The logarithm of a loss near zero is all slopes: steps of one size never come to rest there.
    slower = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
    loss = torch.zeros(chain.lanes)
    for step in range(steps):
        optimiser.zero_grad()
        loss = _matching_loss(chain, regression) + l1 * sum(p.abs().flatten(1).sum(1) for p in _powers(chain))
        loss.nan_to_num(1e6, 1e6, 1e6).sum().backward()
        for p in body:
            if p.grad is not None:
                p.grad.nan_to_num_(0.0, 0.0, 0.0)
        optimiser.step()
        slower.step()
        if step % 50 == 0:
            journal.record("matching", step, steps)
        if journal.stop:
            break
    with torch.no_grad():
        final = _matching_loss(chain, regression, store=True) + l1 * sum(
            p.abs().flatten(1).sum(1) for p in _powers(chain)
        )
    return chain, torch.where(torch.isfinite(final), final, torch.inf)


def _powers(chain: Chain) -> list[Tensor]:
    """Return the weights that the penalty shrinks: every exponent, and every layer but the last."""
    return [p for unit in chain.units[:-1] for name, p in unit.named_parameters() if "gate" not in name]


def _matching_loss(chain: Chain, regression: Regression, store: bool = False) -> Float[Tensor, "R"]:
    """Return sum_e log RSS_e a lane, the last layer's coefficients projected out (and written into the chain on demand)."""
    z = regression.x.expand(chain.lanes, -1, -1)
    for unit in chain.units[:-1]:
        z = unit(z)
    features = z.mT.clamp(-1e6, 1e6)  # (R, h, nodes)
    total, solved = torch.zeros(chain.lanes, dtype=z.dtype, device=z.device), []
    for e, y in enumerate(regression.targets):
        columns = regression.cumulate(features, e)
        norm = columns.detach().norm(dim=-1) + 1e-9
        unit_columns = columns / norm[..., None]
        with torch.no_grad():
            gram = unit_columns @ unit_columns.mT
            gram = gram + max(RIDGE, 1e-9) * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
            a = torch.linalg.solve_ex(gram.nan_to_num(0.0), (unit_columns @ y)[..., None].nan_to_num(0.0))[0][..., 0]
        residual = y - (a[:, None] @ unit_columns)[:, 0]  # at the optimum the gradient through a vanishes
        total = total + (residual.square().sum(-1) / len(y) + 1e-10).log()
        solved.append(a / norm)
    if store:
        chain.units[-1].get_parameter("coefficients").data.copy_(torch.stack(solved, 1))
    return total


def train_chain(
    chain: Chain, data: Stretches, positive: Tensor, steps: int, l1: float, lr: float, polish: int, journal: Journal
) -> Trained:
    """Train every lane through the ODE: Adam with a rising L1 penalty, then L-BFGS on each lane alone."""
    starts = torch.nn.Parameter(data.start.expand(chain.lanes, -1, -1).clone())
    optimiser = torch.optim.Adam([*chain.parameters(), starts], lr=lr)
    mse, status = torch.zeros(0), torch.zeros(0)
    best = _Best()
    for step in range(steps):
        optimiser.zero_grad()
        mse, status = _shoot(chain, starts, data, positive)
        best.keep(chain, starts, mse.detach(), status)
        weight = l1 * min(1.0, 2.0 * step / max(steps, 1)) * (step < 0.9 * steps)
        penalty = sum(p.abs().flatten(1).sum(1) for p in _powers(chain))
        loss = torch.where(status == Status.OK, (mse + 1e-10).log() + weight * penalty, 0.0)
        loss.sum().backward()
        for p in (*chain.parameters(), starts):
            if p.grad is not None:
                p.grad.nan_to_num_(0.0, 0.0, 0.0).clamp_(-1e3, 1e3)
        optimiser.step()
        journal.record("training", step + 1, steps)
        if journal.stop:
            break
    best.restore(chain, starts)
    for lane in range(chain.lanes if polish else 0):
        if journal.stop:
            break
        _polish_lane(chain, starts, lane, data, positive, polish)
    with torch.no_grad():
        mse, status = _shoot(chain, starts, data, positive)
    return Trained(chain, starts.detach(), mse.detach(), status)


class _Best:
    """Keeps each lane at its lowest residual."""

    def __init__(self) -> None:
        self.mse: Tensor | None = None
        self.kept: list[Tensor] = []

    def keep(self, chain: Chain, starts: Tensor, mse: Tensor, status: Tensor) -> None:
        mse = torch.where(status == Status.OK, mse, torch.inf)
        now = [p.detach().clone() for p in (*chain.parameters(), starts)]
        if self.mse is None:
            self.mse, self.kept = mse, now
            return
        better = mse < self.mse
        self.mse = torch.where(better, mse, self.mse)
        self.kept = [
            torch.where(better.view(-1, *[1] * (p.dim() - 1)), p, q) for p, q in zip(now, self.kept, strict=True)
        ]

    def restore(self, chain: Chain, starts: Tensor) -> None:
        for p, q in zip((*chain.parameters(), starts), self.kept, strict=False):
            p.data.copy_(q)


def _shoot(chain: Chain, starts: Tensor, data: Stretches, positive: Tensor) -> tuple[Tensor, Tensor]:
    """Integrate all segments of all lanes; return mean squared residuals (R,) and statuses (R,)."""
    lowest = torch.where(positive, LOWEST, -torch.inf).to(starts)
    inside = starts.clamp(min=lowest)
    run = integrate(chain, inside, data.t, rtol=1e-5, atol=1e-7, bound=1e3, steps=MOST_STEPS, lowest=lowest)
    residual = torch.nan_to_num(run.x - data.x) * data.mask
    return residual.square().sum((1, 2, 3)) / data.mask.sum(), run.status


def _polish_lane(chain: Chain, starts: Tensor, lane: int, data: Stretches, positive: Tensor, steps: int) -> None:
    """Run L-BFGS on one lane; a failure leaves the lane as it was."""
    one = chain.select(torch.tensor([lane]))
    start = torch.nn.Parameter(starts[lane : lane + 1].detach().clone())
    optimiser = torch.optim.LBFGS([*one.parameters(), start], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        mse, status = _shoot(one, start, data, positive)
        loss = (mse + 1e-10).log().sum() if int(status[0]) == Status.OK else (mse * 0 + 1e3).sum()
        loss.backward()
        return loss

    before = closure().item()
    optimiser.step(closure)
    if closure().item() < before:
        for p, q in zip(chain.parameters(), one.parameters(), strict=True):
            p.data[lane] = q.data[0]
        starts.data[lane] = start.data[0]
