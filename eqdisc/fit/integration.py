r"""Integration: all segments of all lanes as one batch, in which a lane dies alone.

Segment k has its own times t[k, 0] < ... < t[k, n-1]. In the variable s that counts samples, t = t[k, j] at s = j and

    dx/ds = rate_k(s) f(x),     rate_k(s) = t[k, j+1] - t[k, j]  for  j <= s < j+1,

so one adaptive solver serves every segment at once, and where the rate jumps it stops and starts anew.

Chains whose units the compiled engine knows are solved there, in time itself, each trajectory with steps of its own and gradients that are
exactly those of the steps (`engine`). What follows is the road for any other field, and the reference beside the engine.

Its solver is torchdiffeq's (Chen et al. 2018, arXiv:1806.07366), which shares one step over the batch and reports
trouble as AssertionError. Here the error of a step is the largest over lanes of each living lane's own root mean
square, and a lane that leaves |x| < bound, whose derivative is not finite, or which asks for steps below the smallest
one is frozen: its derivative is 0 from then on, its solution NaN, and the others go on as if alone.

Patience is each lane's own too. With error e of order p, a lane alone would have made the step 0.9 e**(-1/p) times as
long, so that the step costs it the share e**(1/p) / 0.9 of one of its own; what the others ask for costs it nothing. The account
agrees with that of the lane alone to some per cent, so only a lane on the very edge of its patience can tell.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torchdiffeq
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..units.chain import Chain
from ..work import compiler
from ..work.errors import OptionError, SpeedWarning, did_you_mean
from ..work.status import Status
from . import engine

ORDERS = {"dopri5": 5, "adaptive_heun": 2}  # others interpolate with 100 to 2400 times the error asked for
COMPILED = "tsit5"  # the engine's method
METHODS = (COMPILED, *ORDERS)
SAFETY = 0.9  # torchdiffeq's: a step is this much shorter than the error would allow
SMALLEST_STEP = 64 * torch.finfo(torch.float64).eps  # times 1 + s: below, steps are lost in rounding
REJECTED = 1e6  # error norm of a step that left the numbers: the solver shrinks it as far as it may at once
AT_ONCE = 256  # samples that are differentiated together
EVEN = 1e-9  # relative; sample distances that differ by less are the same


@dataclass(frozen=True, eq=False)
class Integration:
    """Solutions x (R, K, n, d), NaN where a lane had ended, and how each lane ended, integers of `Status` (R,)."""

    x: Float[Tensor, "lanes K n d"]
    status: Int[Tensor, "lanes"]


def integrate(
    field: Callable[[Tensor], Tensor],
    x0: Float[Tensor, "lanes K d"],
    t: Float[Tensor, "K n"],
    *,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    method: str | None = None,
    adjoint: bool = False,
    bound: float = 1e6,
    steps: int | None = None,
    lowest: Float[Tensor, "d"] | None = None,
) -> Integration:
    """Integrate dx/dt = field(x) from x0 over every segment's own times, differentiably.

    Args:
        field: maps states (R, K, d) to derivatives (R, K, d); no lane may see another.
        x0: states at t[:, 0].
        t: sample times of each segment, rising.
        rtol: share of |x| that one step may be wrong by.
        atol: amount that one step may be wrong by where x is near 0.
        method: tsit5, compiled, for chains that `engine.knows`, or one of torchdiffeq's adaptive methods, dopri5 or adaptive_heun;
            by default the first that will do.
        adjoint: with torchdiffeq, gradients by integrating backwards, with little memory, instead of through the solver's steps;
            `field` must then be a module. The engine's gradients take little memory as they are.
        bound: a lane whose |x| reaches this has diverged.
        steps: a lane that has spent so many steps of its own and still asks for small ones ends with TIMEOUT; by
            default `patience`.
        lowest: states below which the field is evaluated at these instead, -inf for states that are free.

    Raises:
        OptionError: shapes that do not fit, times that do not rise, a method that is not known or not for this field.

    >>> x0, t = torch.ones(1, 1, 1, dtype=torch.float64), torch.tensor([[0.0, 1.0]])
    >>> decay = integrate(lambda x: -x, x0, t)
    >>> round(decay.x[0, 0, -1, 0].item(), 5), decay.status
    (0.36788, tensor([0]))
    """
    _check(field, x0, t, method, adjoint)
    method = method or _choose_method(field, x0, adjoint)
    steps = steps or patience(t.shape[1], rtol)
    if t.shape[1] > 1 and method == COMPILED:
        assert isinstance(field, Chain)
        x, ended = engine.solve(field, x0, t, rtol=rtol, atol=atol, bound=bound, steps=steps, lowest=lowest)
        return _finish(x, *_first_end(ended), bound)
    fence = _Fence(field, x0.detach(), t.to(x0), bound, steps, ORDERS.get(method, 5), lowest)
    start = torch.where(fence.alive[:, None, None], x0, fence.shelter)
    if t.shape[1] == 1:
        return _finish(start[:, :, None], fence.status, fence.death, bound)
    s = torch.arange(t.shape[1], dtype=x0.dtype, device=x0.device)
    solve = torchdiffeq.odeint_adjoint if adjoint else torchdiffeq.odeint
    options = {"norm": fence.norm, "max_step": float(t.shape[1])}
    if not fence.even:
        options["jump_t"] = s[1:-1]
    try:
        fence.running = True
        x = solve(fence, start, s, rtol=rtol, atol=atol, method=method, options=options).permute(1, 2, 0, 3)
    except AssertionError:  # torchdiffeq's way to report what the fence did not foresee; no lane's solution is known
        fence.end(fence.alive, torch.zeros((), device=s.device), Status.STEP_UNDERFLOW)
        x = start[:, :, None].expand(-1, -1, len(s), -1)
    finally:
        fence.running = False  # the adjoint uses the field and the norm again, backwards
    return _finish(x, fence.status, fence.death, bound)


@dataclass(frozen=True, eq=False)
class Sensitivities:
    """An integration and the slopes of its samples, 0 past an end; in compiled code each segment of a lane ends for itself.

    by_parameters is (R, K, n, d, P) in the order of `Chain.parameter_vector`, by_starts (R, K, n, d, d) in the segment's own start.
    """

    run: Integration
    by_parameters: Float[Tensor, "lanes K n d P"]
    by_starts: Float[Tensor, "lanes K n d d"]


def linearise(
    chain: Chain,
    x0: Float[Tensor, "lanes K d"],
    t: Float[Tensor, "K n"],
    *,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    method: str | None = None,
    bound: float = 1e6,
    steps: int | None = None,
    lowest: Float[Tensor, "d"] | None = None,
) -> Sensitivities:
    """Integrate a chain and, forwards, the slopes of every sample in the lane's parameters and starts, as second-order methods need them.

    The arguments are those of `integrate`. The engine carries the slopes through the steps that it has taken, dx/dt = f(x, p) and
    dS/dt = f_x S + f_p in one, so that they are the samples' own to the last digits; elsewhere the solution is differentiated backwards, sample
    by sample.

    Raises:
        OptionError: as `integrate`, and where the chain has fewer lanes than the starts.

    >>> decay = Chain.from_terms(torch.tensor([[[1.0]]]), torch.tensor([[[-0.5]]])).double()
    >>> slopes = linearise(decay, torch.ones(1, 1, 1).double(), torch.tensor([[0.0, 2.0]]).double())
    >>> round(slopes.by_starts[0, 0, -1, 0, 0].item(), 4)  # exp(-1)
    0.3679
    """
    _check(chain, x0, t, method, adjoint=False)
    if chain.lanes != len(x0):
        raise OptionError(f"The chain has {chain.lanes} lanes, the starts {len(x0)}; slopes need a lane each.")
    method, steps = method or _choose_method(chain, x0, adjoint=False), steps or patience(t.shape[1], rtol)
    if t.shape[1] > 1 and method == COMPILED:
        limits = {"rtol": rtol, "atol": atol, "bound": bound, "steps": steps}
        x, ended, *slopes = engine.linearise(chain, x0, t, limits, lowest)
        run = _finish_each(x, _first_end(ended)[0], bound)
    else:
        start = x0.detach().requires_grad_()
        run = integrate(chain, start, t, rtol=rtol, atol=atol, method=method, bound=bound, steps=steps, lowest=lowest)
        slopes = _differentiate(run.x, chain, start)
        run = Integration(run.x.detach(), run.status)
    lost = run.x.isnan()[..., None]
    return Sensitivities(run, *(torch.where(lost, 0.0, v) for v in slopes))


def _differentiate(x: Tensor, chain: Chain, start: Tensor) -> list[Tensor]:
    """Return slopes of samples in parameters and in their segment's start, backwards, many samples at once."""
    _, segments, n, d = x.shape
    by_parameters = torch.cat(
        [v.flatten(2) for v in _pull_back(x.sum(0), list(chain.parameters()))], 2
    )  # no lane sees another
    (by_starts,) = _pull_back(x.sum((0, 1)), [start])  # nor a segment another's start
    by_parameters = by_parameters.view(segments, n, d, len(start), -1).permute(3, 0, 1, 2, 4)
    return [by_parameters, by_starts.view(n, d, *start.shape).permute(2, 3, 0, 1, 4)]


def _pull_back(samples: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    """Return the slopes of all samples in each leaf, with one leading axis for the samples."""
    samples, pulled = samples.flatten(), []
    for some in torch.arange(len(samples), device=samples.device).split(AT_ONCE):
        chosen = torch.nn.functional.one_hot(some, len(samples)).to(samples)
        options = {"retain_graph": True, "materialize_grads": True, "is_grads_batched": True}
        pulled.append(torch.autograd.grad(samples, leaves, chosen, **options))
    return [torch.cat(column) for column in zip(*pulled, strict=True)]


def _first_end(ended: Int[Tensor, "lanes K 3"]) -> tuple[Tensor, Tensor]:
    """Return each lane's status and last sample: those of the segment that ended first."""
    reached, first = ended[..., 1].min(1)
    return ended[:, :, 0].gather(1, first[:, None])[:, 0], reached - 1


def patience(samples: int, rtol: float) -> int:
    """Return how many steps a lane may ask for: some for a sharp start, some a sample, more as rtol falls, at order 5.

    >>> patience(10, rtol=1e-6), patience(10, rtol=1e-11)
    (500, 5000)
    """
    return round((250 + 25 * samples) * max(1.0, (1e-6 / rtol) ** 0.2))


def _choose_method(field: Callable[[Tensor], Tensor], x0: Tensor, adjoint: bool) -> str:
    if adjoint or x0.device.type != "cpu" or not engine.knows(field):
        return "dopri5"
    if compiler.is_compiler_here():
        return COMPILED
    _warn_of_no_compiler()
    return "dopri5"


@lru_cache(maxsize=1)  # once a process
def _warn_of_no_compiler() -> None:
    warnings.warn(
        "Numba is not installed, so that ODEs are solved some 30 times slower; pip install numba.",
        SpeedWarning,
        stacklevel=4,
    )


def _check(field: Callable[[Tensor], Tensor], x0: Tensor, t: Tensor, method: str | None, adjoint: bool) -> None:
    if x0.dim() != 3 or t.dim() != 2 or x0.shape[1] != t.shape[0]:
        raise OptionError(f"States {tuple(x0.shape)} and times {tuple(t.shape)} must be (lanes, K, d) and (K, n).")
    if not bool((t.diff(dim=1) > 0).all()):
        raise OptionError("Times must rise along every segment.")
    if method is not None and method not in METHODS:
        hint = did_you_mean(method, METHODS)
        raise OptionError(f"There is no method {method!r}.{hint} Methods are {', '.join(METHODS)}.")
    if method == COMPILED and not (
        engine.knows(field) and x0.device.type == "cpu" and compiler.is_compiler_here() and not adjoint
    ):
        raise OptionError(
            "Method 'tsit5' is compiled, by Numba, for chains of units on the processor; "
            "without method= the solver is chosen that will do."
        )
    if adjoint and not isinstance(field, nn.Module):
        raise OptionError("adjoint=True needs a field that is a torch module, so that its parameters are known.")


def _finish(
    x: Float[Tensor, "lanes K n d"], status: Tensor, death: Float[Tensor, "lanes"], bound: float
) -> Integration:
    """Write NaN past the sample at which a lane had ended; a lane whose samples reach the bound ends there."""
    size = x.detach().abs()
    if bool((status == Status.OK).all()) and bool(size.max() < bound):  # NaN is not below it
        return Integration(x, status)
    sample = torch.arange(x.shape[2], device=x.device)
    inside = (size.amax((1, 3)) < bound).cummin(1).values  # (R, n)
    valid = inside & (sample <= death[:, None])
    status = torch.where((status == Status.OK) & ~valid.all(1), int(Status.DIVERGED), status)
    return Integration(torch.where(valid[:, None, :, None], x, torch.nan), status)


def _finish_each(x: Float[Tensor, "lanes K n d"], status: Tensor, bound: float) -> Integration:
    """Write NaN from the sample on that reaches the bound, segment by segment; a lane's status is that of the segment that ended first."""
    inside = (x.abs() < bound).all(-1).cummin(2).values  # NaN is not inside
    status = torch.where((status == Status.OK) & ~inside.all((1, 2)), int(Status.DIVERGED), status)
    return Integration(torch.where(inside[..., None], x, torch.nan), status)


class _Fence(nn.Module):
    """The batch's right-hand side in s, and who is still alive; the solver calls `callback_step` and `norm`.

    A lane's end is a place in s: the right-hand side is a function of s and x alone, so that the adjoint meets the same
    one on its way back.
    """

    def __init__(
        self,
        field: Callable[[Tensor], Tensor],
        x0: Tensor,
        t: Tensor,
        bound: float,
        steps: int,
        order: int,
        lowest: Tensor | None,
    ) -> None:
        super().__init__()
        self.field, self.lowest = field, lowest
        rate = t.diff(dim=1)
        self.even = bool((rate - rate[:, :1]).abs().le(EVEN * rate[:, :1]).all())
        self.rate = (t[:, -1:] - t[:, :1]) / max(1, rate.shape[1]) if self.even else rate
        self.bound, self.steps, self.small, self.order = bound, steps, t.shape[1] / steps, order
        self.huge = torch.finfo(x0.dtype).max ** 0.25  # beyond it a derivative is not finite: no step can overflow
        self.shelter = torch.ones_like(x0)  # where the field is evaluated for lanes that have ended
        self.status = torch.zeros(len(x0), dtype=torch.long, device=x0.device)
        self.death = torch.full((len(x0),), torch.inf, dtype=torch.float64, device=x0.device)
        self.spent = torch.zeros_like(self.death)  # steps of its own that each lane has asked for
        self.running, self.started = False, False
        self.step = self.now = torch.zeros((), dtype=torch.float64, device=x0.device)
        self.sick = torch.zeros_like(self.status, dtype=torch.bool)
        self._check_start(x0)

    @torch.no_grad()
    def _check_start(self, x0: Tensor) -> None:
        """End lanes that start outside the bound, before sample 0, or where the field is not finite, at sample 0."""
        self.end(~self._inside(x0), torch.tensor(-1.0), Status.DIVERGED)
        self.forward(torch.zeros((), device=x0.device), x0)
        self.end(self.sick & self.alive, torch.tensor(0.0), Status.DIVERGED)

    @property
    def alive(self) -> Bool[Tensor, "lanes"]:
        return torch.isinf(self.death)

    def end(self, lanes: Bool[Tensor, "lanes"], s: Tensor, status: Status) -> None:
        """Let lanes end at s."""
        self.death = torch.where(lanes, s.to(self.death), self.death)
        self.status = torch.where(lanes, int(status), self.status)

    def forward(self, s: Tensor, x: Float[Tensor, "lanes K d"]) -> Float[Tensor, "lanes K d"]:
        """Return dx/ds; 0 for lanes that have ended, which the field does not see."""
        living = (s < self.death)[:, None, None]
        rate = self.rate[:, 0] if self.even else self.rate[:, s.detach().long().clamp(0, self.rate.shape[1] - 1)]
        x = torch.where(living, x, self.shelter)
        dxds = rate[:, None] * self.field(x if self.lowest is None else x.clamp(min=self.lowest))
        sound = dxds.detach().abs() < self.huge
        if self.running or not self.started:
            self.sick = self.sick | ~sound.all(-1).all(-1)
        return torch.where(living & sound, dxds, 0.0)

    @torch.no_grad()
    def callback_step(self, s: Tensor, x: Tensor, step: Tensor) -> None:
        """Before a step is tried from x at s: end lanes that have left the bound."""
        self.now, self.step, self.started = s, step, True
        self.sick = torch.zeros_like(self.sick)
        self.end(self.alive & ~self._inside(x), s, Status.DIVERGED)

    @torch.no_grad()
    def norm(self, error: Float[Tensor, "lanes K d"]) -> Tensor:
        """Return the largest root mean square of a living lane; end lanes that ask for too small a step."""
        own = error.square().mean((1, 2)).sqrt().nan_to_num(REJECTED, REJECTED).clamp_max(REJECTED)
        if not (self.running and self.started):  # choosing the first step, or on the adjoint's way back
            return torch.where(self.alive, own, 0.0).max()
        own = torch.where(self.alive, torch.where(self.sick, REJECTED, own), 0.0)
        tiny, weary = self._stuck(own)
        stuck = tiny | weary
        if not bool(stuck.any()):
            return own.max()
        self.end(stuck & self.sick, self.now, Status.DIVERGED)
        self.end(tiny & ~self.sick, self.now, Status.STEP_UNDERFLOW)
        self.end(weary & ~tiny & ~self.sick, self.now, Status.TIMEOUT)
        return torch.where(stuck, 0.0, own).max().clamp_min(1.5)  # above 1: the step is tried anew, without them

    def _stuck(self, own: Float[Tensor, "lanes"]) -> tuple[Bool[Tensor, "lanes"], Bool[Tensor, "lanes"]]:
        """Charge the lanes for this attempt; return which ask for less than the smallest step, which are out of steps."""
        share = (own ** (1 / self.order) / SAFETY).clamp_max(1.0)
        rejected_for_others = (own <= 1.0) & (own.max() > 1.0)
        self.spent = self.spent + torch.where(rejected_for_others, 0.0, share)
        tiny = (own > 1.0) & (self.step <= SMALLEST_STEP * (1.0 + self.now))
        return tiny, (self.spent > self.steps) & (self.step < self.small * share)  # step / share: what it asks for

    def _inside(self, x: Tensor) -> Bool[Tensor, "lanes"]:
        return (x.abs() < self.bound).all(-1).all(-1)  # NaN is not inside


__all__ = ["Integration", "Sensitivities", "integrate", "linearise"]
