r"""Integration: all segments of all lanes side by side, each with steps of its own, and with slopes where they are asked for.

A step of length h is Cash and Karp's of order five (ACM Trans. Math. Softw. 16, 1990),

    k_i = f(x + h sum_j a_ij k_j),     x' = x + h sum_i b_i k_i,     error = h sum_i e_i k_i,

and is taken where the error's root mean square, in units of atol + rtol max(|x|, |x'|), is at most 1; the next one is 0.9 error**(-1/5) times
as long. Segment k has its own times, and its steps divide what is left to the next sample in equal parts. A segment ends alone: where |x|
reaches the bound, where no step is short enough, where it has tried as many as it may. Its samples are NaN from there on; a lane's status is the
gravest of its segments'.

Slopes S in parameters p and start are those of the steps that were taken, to the last digits: once all are known, autograd differentiates them
side by side, as if each were a lane of its own, and then, one after the other,

    S' = (dx'/dx) S + dx'/dp.

A general solver for torch shares one step over all segments and lanes; docs/engines.md has what that takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..units.chain import Chain
from ..work.errors import OptionError
from ..work.status import Status

STAGES = (  # Cash and Karp's a, b, and e: b less that of the formula of order four
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (3 / 10, -9 / 10, 6 / 5),
    (-11 / 54, 5 / 2, -70 / 27, 35 / 27),
    (1631 / 55296, 175 / 512, 575 / 13824, 44275 / 110592, 253 / 4096),
)
WHOLE = (37 / 378, 0.0, 250 / 621, 125 / 594, 0.0, 512 / 1771)
ERROR = tuple(
    b - c for b, c in zip(WHOLE, (2825 / 27648, 0.0, 18575 / 48384, 13525 / 55296, 277 / 14336, 1 / 4), strict=True)
)
ORDER, SAFETY = 5, 0.9  # a step is this much shorter than the error would allow
SHORTER, LONGER = 0.1, 5.0  # the least and the most that a step changes at once
SMALLEST = 64  # machine epsilons of a segment's duration: below, steps are lost in rounding
AT_ONCE = 4096  # steps that are differentiated together

Field = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Solver:
    """How exact a solution is, and where it ends."""

    rtol: float = 1e-6
    """Share of |x| that one step may be wrong by."""

    atol: float = 1e-8
    """Amount that one step may be wrong by where x is near 0."""

    bound: float = 1e6
    """A segment whose |x| reaches this has diverged."""

    steps: int = 10_000
    """A segment that has tried so many ends with TIMEOUT."""

    def holds(self, x: Float[Tensor, "... d"]) -> Bool[Tensor, "..."]:
        """Tell which states are inside the bound; NaN is not."""
        return (x.abs() < self.bound).all(-1)

    def weigh(self, error: Float[Tensor, "... d"], x: Tensor, end: Tensor) -> Float[Tensor, "..."]:
        """Return errors in units of what a step from x to its end may be wrong by, infinite where they are no numbers."""
        allowed = self.atol + self.rtol * torch.maximum(x.abs(), end.abs())
        return (error / allowed).square().mean(-1).sqrt().nan_to_num(torch.inf)


DEFAULT = Solver()


class Step(NamedTuple):
    """One try of every segment: where it began, its length, whether it was taken, and the sample that it ended at, -1 for none."""

    x: Float[Tensor, "lanes K d"]
    h: Float[Tensor, "lanes K"]
    taken: Bool[Tensor, "lanes K"]
    sample: Int[Tensor, "lanes K"]


@dataclass(frozen=True, eq=False)
class Integration:
    """Solutions x (R, K, n, d), NaN where a segment had ended, and how each lane ended, integers of `Status` (R,)."""

    x: Float[Tensor, "lanes K n d"]
    status: Int[Tensor, "lanes"]


@dataclass(frozen=True, eq=False)
class Sensitivities:
    """An integration and the slopes of its samples, 0 past an end.

    by_parameters is (R, K, n, d, P) in the order of `Chain.parameter_vector`, by_starts (R, K, n, d, d) in the segment's own start.
    """

    run: Integration
    by_parameters: Float[Tensor, "lanes K n d P"]
    by_starts: Float[Tensor, "lanes K n d d"]


@torch.no_grad()
def integrate(
    field: Field,
    x0: Float[Tensor, "lanes K d"],
    t: Float[Tensor, "K n"],
    solver: Solver = DEFAULT,
    log: list[Step] | None = None,
) -> Integration:
    """Integrate dx/dt = field(x) from x0 over every segment's own times.

    Args:
        field: maps states (R, K, d) to derivatives (R, K, d); no lane and no segment may see another.
        x0: states at t[:, 0].
        t: sample times of each segment, rising.
        solver: tolerances and limits.
        log: where to write the steps that were tried, in their order.

    Raises:
        OptionError: shapes that do not fit, or times that do not rise.

    >>> decay = integrate(lambda x: -x, torch.ones(1, 1, 1).double(), torch.tensor([[0.0, 1.0]]))
    >>> round(decay.x[0, 0, -1, 0].item(), 5), decay.status
    (0.36788, tensor([0]))
    """
    gaps, x, last = _gaps(x0, t), x0, t.shape[1] - 1
    shortest = SMALLEST * torch.finfo(x0.dtype).eps * gaps[..., :-1].sum(2)
    samples = x0.new_full((*x0.shape[:2], t.shape[1], x0.shape[2]), torch.nan)
    alive = solver.holds(x0)
    samples[:, :, 0] = torch.where(alive[..., None], x0, torch.nan)
    status = torch.where(alive, int(Status.OK), int(Status.DIVERGED))
    reached, rest, length = torch.zeros_like(status), gaps[..., 0], gaps[..., 0]
    for _ in range(solver.steps):
        going = (status == Status.OK) & (reached < last)
        if not bool(going.any()):
            break
        parts = (rest / length).ceil()
        h = torch.where(going, rest / parts, 0.0)
        end, error = step(field, x, h[..., None])
        error = solver.weigh(error, x, end)
        taken = going & (error <= 1.0)
        inside = solver.holds(end)
        lands = taken & (parts == 1.0) & inside
        reached = reached + lands
        if log is not None:
            log.append(Step(x, h, taken, torch.where(lands, reached, -1)))
        x = torch.where(taken[..., None], end, x)
        samples[lands, reached[lands]] = x[lands]
        rest = torch.where(lands, gaps.gather(2, reached[..., None])[..., 0], torch.where(taken, rest - h, rest))
        length = torch.where(going, h * (SAFETY * error ** (-1 / ORDER)).clamp(SHORTER, LONGER), length)
        stuck = going & ~taken & (length < shortest)
        status = torch.where(taken & ~inside | stuck & error.isinf(), int(Status.DIVERGED), status)
        status = torch.where(stuck & ~error.isinf(), int(Status.STEP_UNDERFLOW), status)
    else:
        status = torch.where((status == Status.OK) & (reached < last), int(Status.TIMEOUT), status)
    return Integration(samples, status.amax(1))


def _gaps(x0: Tensor, t: Tensor) -> Float[Tensor, "lanes K n"]:
    """Return the distances of samples, and one more that no step fills."""
    if x0.dim() != 3 or t.dim() != 2 or x0.shape[1] != t.shape[0]:
        raise OptionError(f"States {tuple(x0.shape)} and times {tuple(t.shape)} must be (lanes, K, d) and (K, n).")
    gaps = t.diff(dim=1).to(x0)
    if not bool((gaps > 0).all()):
        raise OptionError("Times must rise along every segment.")
    return torch.cat([gaps, gaps.new_ones(len(t), 1)], 1).expand(len(x0), -1, -1)


def step(field: Field, x: Float[Tensor, "... d"], h: Float[Tensor, "... 1"]) -> tuple[Tensor, Tensor]:
    """Return the states one step later, and their errors.

    >>> end, error = step(lambda x: -x, torch.tensor([1.0]), torch.tensor([0.5]))
    >>> round(end.item(), 5), bool(error.abs() < 1e-4)  # exp(-1/2)
    (0.60653, True)
    """
    k = [field(x)]
    for row in STAGES[1:]:
        k.append(field(x + h * _mix(row, k)))
    return x + h * _mix(WHOLE, k), h * _mix(ERROR, k)


def _mix(weights: tuple[float, ...], k: list[Tensor]) -> Tensor:
    return torch.stack(k, -1) @ k[0].new_tensor(weights)


@torch.no_grad()
def linearise(
    chain: Chain,
    x0: Float[Tensor, "lanes K d"],
    t: Float[Tensor, "K n"],
    solver: Solver = DEFAULT,
    lowest: Float[Tensor, "d"] | float = -torch.inf,
) -> Sensitivities:
    """Integrate a chain, and the slopes of every sample in the lane's parameters and the segment's start.

    The arguments are those of `integrate`; below `lowest` the chain is evaluated at these states instead.

    Raises:
        OptionError: as `integrate`, and where the chain has not a lane for each start.

    >>> decay = Chain.from_terms(torch.tensor([[[1.0]]]), torch.tensor([[[-0.5]]])).double()
    >>> slopes = linearise(decay, torch.ones(1, 1, 1).double(), torch.tensor([[0.0, 2.0]]).double())
    >>> round(slopes.by_starts[0, 0, -1, 0, 0].item(), 4)  # exp(-1)
    0.3679
    """
    if chain.lanes != len(x0):
        raise OptionError(f"The chain has {chain.lanes} lanes, the starts {len(x0)}; slopes need a lane each.")
    log: list[Step] = []
    run = integrate(lambda x: chain(x.clamp(min=lowest)), x0, t, solver, log)
    d, width = x0.shape[-1], chain.free.shape[1]
    now = torch.cat([torch.eye(d).to(x0), x0.new_zeros(d, width)], 1).expand(*x0.shape, d + width).clone()
    slopes = now[:, :, None].repeat(1, 1, t.shape[1] + 1, 1, 1)  # the last place is for steps that end between samples
    for r, k, sample, by_start, by_parameters in _maps(chain, log, lowest):
        now[r, k] = by_start @ now[r, k]
        now[r, k, :, d:] += by_parameters
        slopes[r, k, sample] = now[r, k]
    slopes = torch.where(run.x.isnan()[..., None], 0.0, slopes[:, :, :-1])
    return Sensitivities(run, slopes[..., d:], slopes[..., :d])


def _maps(chain: Chain, log: list[Step], lowest: Tensor | float) -> Iterator[tuple[Tensor, ...]]:
    """Yield of all steps taken at a time lanes, segments, samples, and the slopes of their ends in beginnings and parameters."""
    if not log:
        return
    x, h, taken, sample = map(torch.stack, zip(*log, strict=True))
    at, counts = taken.nonzero(), taken.sum((1, 2)).tolist()
    steps = zip(at[:, 1].split(AT_ONCE), x[taken].split(AT_ONCE), h[taken].split(AT_ONCE), strict=True)
    slopes = map(torch.cat, zip(*(_differentiate(chain, *some, lowest) for some in steps), strict=True))
    yield from zip(*(v.split(counts) for v in (at[:, 1], at[:, 2], sample[taken], *slopes)), strict=True)


def _differentiate(
    chain: Chain, lanes: Int[Tensor, "N"], x: Float[Tensor, "N d"], h: Float[Tensor, "N"], lowest: Tensor | float
) -> tuple[Float[Tensor, "N d d"], Float[Tensor, "N d P"]]:
    """Return the slopes of steps in where they begin and in their lane's parameters.

    Every step has a copy of its own for each state, with a copy of the lane's numbers: one backward pass gives the slopes of all.
    """
    n, d = x.shape
    copies = lanes.repeat_interleave(d)
    each = {name: p.detach()[copies].requires_grad_() for name, p in chain.named_parameters()}
    fixed = {name: b[copies] for name, b in chain.named_buffers()}
    start = x.repeat_interleave(d, 0)[:, None].requires_grad_()
    field = lambda x: torch.func.functional_call(chain, {**each, **fixed}, (x.clamp(min=lowest),))  # noqa: E731
    with torch.enable_grad():
        end, _ = step(field, start, h.repeat_interleave(d)[:, None, None])
        own = end.view(n, d, d).diagonal(dim1=1, dim2=2)
        by_start, *by_numbers = torch.autograd.grad(own.sum(), [start, *each.values()])
    return by_start.view(n, d, d), torch.cat([v.flatten(1) for v in by_numbers], 1).unflatten(0, (n, d))


__all__ = ["Integration", "Sensitivities", "Solver", "integrate", "linearise"]
