r"""Training: a chain of units becomes the right-hand side of a neural ODE.

First by matching, which needs no solver: the chain's last layer, a NAU, is linear, so its coefficients are
projected out of the integral form of the data (`regression`) and only the units' numbers are searched,

    loss_r = sum_e log RSS_e(units of lane r)  +  l1 * sum |exponents_r|,

all random starts side by side as lanes. Then through the ODE itself: every lane is integrated over segments of the
data (multiple shooting, starts estimated, kept non-negative where states are) and

    loss_r = log(mean squared residual)  +  l1 * sum |exponents_r|

is minimised, with the penalty first and then without it (Heim et al. 2020, section 4.1, eq. 18, where Adam followed the slope).

Both are least squares in a few dozen numbers a lane, so both take Levenberg and Marquardt's steps (`levenberg`), tens where Adam needs hundreds;
docs/engines.md has the curves. Coefficients are eliminated by variable projection in Kaufman's form (BIT 15, 1975); a segment's start, which
meets the other segments only through the parameters, by its Schur complement. A segment whose solution leaves the finite numbers pays for
every sample that it does not reach; what it shows before that, and the lane's other segments, move the lane on. The other lanes do not notice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..units import Unit
from ..units.chain import Chain
from ..work.journal import Journal
from ..work.status import Status
from .integration import Solver, linearise
from .levenberg import Follow, Limits, Normal, bounded, damp, minimise
from .regression import Regression

# 100 steps along one segment: a lane that needs more ends, and starts near the answer need tens
SOLVER = Solver(rtol=1e-5, atol=1e-7, bound=1e3, steps=100)
LOWEST = 1e-7  # of states that are never negative, in scaled units: powers are evaluated no nearer to zero
RIDGE = 1e-6  # of a feature's square: features that are nearly alike share what they explain, and do not answer noise by cancelling
LARGEST = 1e6  # of a feature: a negative power at zero is no larger, and has no slope
FLOOR = 1e-10  # mean squared residuals below it, in scaled units, are alike
LOST = 40.0  # that a sample adds to the loss where a segment ends before it: more than the logarithm of 1e3 squared over FLOOR
HELD = 1 << 24  # numbers that slopes may have at once


@dataclass(frozen=True, eq=False)
class Stretches:
    """Segments for multiple shooting in scaled units: times (K, n), values (K, n, d), mask (K, n, d), first guesses of starts (K, d)."""

    t: Float[Tensor, "K n"]
    x: Float[Tensor, "K n d"]
    mask: Float[Tensor, "K n d"]
    start: Float[Tensor, "K d"]

    def select(self, segments: Tensor) -> Stretches:
        """Return some of the segments."""
        return Stretches(self.t[segments], self.x[segments], self.mask[segments], self.start[segments])


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained chain, its estimated starts (R, K, d), each lane's mean squared residual, infinite where it ended early, and status."""

    chain: Chain
    starts: Float[Tensor, "R K d"]
    mse: Float[Tensor, "R"]
    status: Int[Tensor, "R"]


def match_chain(
    chain: Chain, regression: Regression, steps: int, l1: float, journal: Journal
) -> tuple[Chain, Float[Tensor, "R"]]:
    """Fit every lane of a chain of two units, the second a NAU, to the integral form.

    Returns the chain with its last layer solved for, and each lane's loss with its penalty.
    """
    unit, head = chain.units
    assert isinstance(unit, Unit)
    limits = limit([unit], l1)

    def tell(step: int) -> bool:
        if step % 10 == 0:
            journal.record("matching", step, steps)
        return journal.stop

    evaluate = lambda w, _: match(unit, w, regression)  # noqa: E731
    w, normal = minimise(evaluate, numbers_of(unit), limits, steps, tell)
    with torch.no_grad():
        for name, value in named(unit, w).items():
            unit.get_parameter(name).copy_(value)
        z = unit(regression.x.expand(chain.lanes, -1, -1))
        projected = [project(regression, z, e) for e in range(len(regression.targets))]
        head.get_parameter("coefficients").copy_(torch.stack([p.coefficients for p in projected], 1))
    final = normal.loss + limits.penalty(w)
    return chain, torch.where(torch.isfinite(final), final, torch.inf)


def match(unit: Unit, w: Float[Tensor, "R P"], regression: Regression) -> Normal:
    """Return sum_e log RSS_e / n with its slopes in the unit's numbers, the last layer's coefficients projected out.

    The slopes are those without the ridge: near enough for a step, which is taken only if the loss falls.
    """
    each = PerSample(unit, w, regression.x)
    loss, slope, curvature = w.new_zeros(len(w)), torch.zeros_like(w), w.new_zeros(*w.shape, w.shape[1])
    for e, y in enumerate(regression.targets):
        it = project(regression, each.z, e)
        residual = y - (it.scaled[:, None] @ it.columns)[:, 0]
        square = residual.square().sum(-1) + FLOOR * len(y)
        model = regression.cumulate(each.slopes(it.coefficients), e)  # (R, P, n)
        model = model - (model @ it.columns.mT) @ torch.cholesky_solve(it.columns, it.factor)
        loss = loss + (square / len(y)).log()
        slope = slope - (model @ residual[..., None])[..., 0] / square[:, None]
        curvature = curvature + model @ model.mT / square[:, None, None]
    return Normal(torch.where(loss.isnan(), torch.inf, loss), bounded(slope), bounded(curvature))


@dataclass(frozen=True, eq=False)
class _Projection:
    """The integrals of features as one equation sees them, each of length 1, the Cholesky factor of their products, and coefficients."""

    columns: Float[Tensor, "R h n"]
    factor: Float[Tensor, "R h h"]
    scaled: Float[Tensor, "R h"]
    coefficients: Float[Tensor, "R h"]


def project(regression: Regression, z: Float[Tensor, "R nodes h"], e: int) -> _Projection:
    """Solve for the coefficients of equation e."""
    columns = regression.cumulate(z.mT.clamp(-LARGEST, LARGEST).nan_to_num(0.0), e)
    norm = columns.norm(dim=-1, keepdim=True) + 1e-9
    columns = columns / norm
    eye = torch.eye(columns.shape[1], dtype=z.dtype, device=z.device)
    factor = torch.linalg.cholesky_ex(columns @ columns.mT + RIDGE * eye)[0]
    scaled = torch.cholesky_solve((columns @ regression.targets[e])[..., None], factor)[..., 0]
    return _Projection(columns, factor, scaled, scaled / norm[..., 0])


def numbers_of(unit: Unit) -> Float[Tensor, "R P"]:
    """Return a unit's parameters, a row of numbers a lane."""
    return torch.cat([p.detach().flatten(1) for p in unit.parameters()], 1)


def named(unit: Unit, w: Float[Tensor, "R P"]) -> dict[str, Tensor]:
    """Return a unit's parameters from a row of numbers a lane, in the unit's order."""
    widths = [p[0].numel() for p in unit.parameters()]
    pairs = zip(unit.named_parameters(), w.split(widths, 1), strict=True)
    return {name: part.reshape(p.shape) for (name, p), part in pairs}


class PerSample:
    """A unit at x with its own copy of a lane's numbers for every sample: one backward pass gives the slopes of all samples."""

    def __init__(self, unit: Unit, w: Float[Tensor, "R P"], x: Float[Tensor, "N in"]) -> None:
        self.shape = len(w), len(x)
        each = {name: v.repeat_interleave(len(x), 0) for name, v in (*named(unit, w).items(), *unit.named_buffers())}
        self.numbers = [each[name].requires_grad_() for name, _ in unit.named_parameters()]
        with torch.enable_grad():
            outputs = torch.func.functional_call(unit, each, (x.repeat(len(w), 1)[:, None],))[:, 0]
            self.outputs = outputs.clamp(-LARGEST, LARGEST)

    @property
    def z(self) -> Float[Tensor, "R N out"]:
        """The unit's outputs."""
        return self.outputs.detach().view(*self.shape, -1)

    def slopes(self, a: Float[Tensor, "R out"]) -> Float[Tensor, "R P N"]:
        """Return the slopes of sum_j a_j z_j in the unit's numbers."""
        total = (self.outputs * a.repeat_interleave(self.shape[1], 0)).sum()
        slopes = torch.autograd.grad(total, self.numbers, retain_graph=True)
        return bounded(torch.cat([v.reshape(*self.shape, -1) for v in slopes], 2).mT)


def limit(shrunk: Sequence[Unit], l1: float, free: Sequence[Unit] = ()) -> Limits:
    """Return the limits of the numbers of all units: gates in [0, 1], the penalty on every other number of those to be shrunk."""
    rows = []
    for unit in (*shrunk, *free):
        for name, p in unit.named_parameters():
            low, high, weight = (0.0, 1.0, 0.0) if name == "gate" else (-torch.inf, torch.inf, l1 * (unit in shrunk))
            rows.append([torch.full_like(p.detach()[0], value).flatten() for value in (low, high, weight)])
    return Limits(*(torch.cat(column) for column in zip(*rows, strict=True)))


def train_chain(chain: Chain, data: Stretches, positive: Tensor, steps: int, l1: float, journal: Journal) -> Trained:
    """Train every lane through the ODE, at most `steps` steps with the penalty and as many without it."""
    units = [unit for unit in chain.units if isinstance(unit, Unit)]
    w, now = chain.parameter_vector().detach(), None

    def evaluate(w: Float[Tensor, "R P"], starts: Tensor | None) -> _Shot:
        chain.load_vector(w)
        return shoot(chain, data.start.expand(chain.lanes, -1, -1) if starts is None else starts, data, positive)

    for before, weight in ((0, l1), (steps, 0.0)):

        def tell(step: int, before: int = before) -> bool:
            journal.record("training", before + step, 2 * steps)
            return journal.stop

        w, now = minimise(evaluate, w, limit(units[:-1], weight, units[-1:]), steps, tell, now)
    assert now is not None
    chain.load_vector(w)
    mse = torch.where(now.status == Status.OK, now.loss.exp() - FLOOR, torch.inf)
    return Trained(chain, now.starts, mse, now.status)


@dataclass(frozen=True, eq=False)
class _Shot(Normal):
    """All lanes integrated from `starts` (R, K, d); beside the parameters, half of curvature and slope in each segment's own start."""

    starts: Float[Tensor, "R K d"]
    status: Int[Tensor, "R"]
    mixed: Float[Tensor, "R K d P"]
    start_curvature: Float[Tensor, "R K d d"]
    start_slope: Float[Tensor, "R K d"]

    def reduce(self, damping: Float[Tensor, "R"]) -> tuple[Tensor, Tensor, Follow]:
        """Eliminate the starts, segment by segment; the starts after a step follow from it."""
        both = torch.cat([self.mixed, self.start_slope[..., None]], -1)
        solved = bounded(torch.linalg.solve_ex(damp(self.start_curvature, damping[:, None]), both)[0])
        by_w, alone = solved[..., :-1], solved[..., -1]
        curvature = damp(self.curvature, damping) - torch.einsum("rkep,rkeq->rpq", self.mixed, by_w)
        slope = self.slope - torch.einsum("rkep,rke->rp", self.mixed, alone)
        return slope, curvature, lambda step: self.starts - alone - torch.einsum("rkep,rp->rke", by_w, step)


def shoot(chain: Chain, starts: Tensor, data: Stretches, positive: Tensor) -> _Shot:
    """Integrate all segments of all lanes, so many at a time as there is room for their slopes."""
    lowest = torch.where(positive, LOWEST, -torch.inf).to(starts)
    starts = starts.clamp(min=lowest)
    lanes, _, d = starts.shape
    width = max(1, HELD // (lanes * data.x.shape[1] * d * (chain.free.shape[-1] + d)))
    parts = [
        _shoot_some(chain, starts[:, some], data.select(some), lowest)
        for some in torch.arange(len(data.t), device=starts.device).split(width)
    ]
    status, *sums = zip(*parts, strict=True)
    lost, square, slope, curvature = (torch.stack(v).sum(0) for v in sums[:4])
    reached = data.mask.sum() - lost
    square = square + FLOOR * reached.clamp_min(1.0)
    loss = (square / reached.clamp_min(1.0)).log() + LOST * lost
    over = lambda v: v / square.view(-1, *[1] * (v.dim() - 1))  # noqa: E731
    in_starts = [over(torch.cat(v, 1)) for v in sums[4:]]
    return _Shot(loss, over(slope), over(curvature), starts, torch.stack(status).amax(0), *in_starts)


def _shoot_some(chain: Chain, starts: Tensor, data: Stretches, lowest: Tensor) -> list[Tensor]:
    """Return how lanes ended, samples that were not reached, r'r, and products of r and its slopes in parameters p and starts s."""
    slopes = linearise(chain, starts, data.t, SOLVER, lowest)
    r = torch.where(data.mask > 0, slopes.run.x - data.x, 0.0)
    lost, r = r.isnan().sum((1, 2, 3)).to(r), r.nan_to_num(0.0)
    p = slopes.by_parameters * chain.free[:, None, None, None] * data.mask[..., None]
    s = slopes.by_starts * data.mask[..., None]
    products = ("rknd,rknd->r", r, r), ("rkndp,rknd->rp", p, r), ("rkndp,rkndq->rpq", p, p)
    in_starts = ("rknde,rkndp->rkep", s, p), ("rknde,rkndf->rkef", s, s), ("rknde,rknd->rke", s, r)
    return [slopes.run.status, lost, *(torch.einsum(*given) for given in (*products, *in_starts))]
