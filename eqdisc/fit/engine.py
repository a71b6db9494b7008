r"""The engine: a chain of units as the right-hand side of an ODE, solved and differentiated in compiled code (`kernels`).

torch's price for a field this small is dispatch: a step of Runge-Kutta is some hundred calls on a handful of numbers. Here a chain becomes a
program, its layers in a row, and a table of what its units compute with, a row a lane; the compiler has both. Autograd takes over at
that table: a gate's clip, a support, whatever a unit does to its parameters, is torch's.

Numba compiles at the first call and keeps the result beside the code or in its own cache folder; where neither can be written, it
compiles in every process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..units.chain import Chain
from .program import N_OUT, Program, is_known, translate

_Log = tuple[
    np.ndarray, np.ndarray, np.ndarray
]  # rows of the steps taken, their links, the last row of each trajectory
SMALLEST_STEP = 64  # times the machine's epsilon and the mean distance of samples: below, steps are lost in rounding


def knows(field: object) -> bool:
    """Tell whether a field is a chain whose units the kernels know, on the processor.

    >>> knows(Chain.from_specification("realnpu:4,nmu:3,inalu:2,nau", states=3)), knows(torch.sin)
    (True, False)
    """
    return isinstance(field, Chain) and all(_is_here(unit) and is_known(unit) for unit in field.units)


def _is_here(unit: torch.nn.Module) -> bool:
    return all(p.device.type == "cpu" and p.dtype in (torch.float32, torch.float64) for p in unit.parameters())


def solve(
    chain: Chain,
    x0: Float[Tensor, "lanes K d"],
    t: Float[Tensor, "K n"],
    *,
    rtol: float,
    atol: float,
    bound: float,
    steps: int,
    lowest: Float[Tensor, "d"] | None = None,
) -> tuple[Float[Tensor, "lanes K n d"], Int[Tensor, "lanes K 3"]]:
    """Integrate a chain that the kernels know over every segment, differentiably.

    Returns states, NaN where a trajectory had ended, and of each trajectory its status, how many samples it has reached, and how many steps
    it has tried. The arguments are those of `integration.integrate`.
    """
    program = _program(chain, x0, lowest)
    limits = {"rtol": rtol, "atol": atol, "bound": bound, "steps": steps}
    x, ended = _Solve.apply(program.weights, x0, t, program, limits)
    return x, ended


def linearise(
    chain: Chain,
    x0: Float[Tensor, "lanes K d"],
    t: Float[Tensor, "K n"],
    limits: dict[str, Any],
    lowest: Float[Tensor, "d"] | None,
) -> tuple[Tensor, Tensor, Float[Tensor, "lanes K n d P"], Float[Tensor, "lanes K n d d"]]:
    """Return what `solve` does and the slopes of samples, 0 past a trajectory's end, in the parameters of their lane and in their own start.

    Parameters stand in the order of `Chain.parameter_vector`; the slopes are those of the steps that were taken, as gradients are.
    """
    lanes, d = len(x0), x0.shape[-1]
    with torch.enable_grad():
        program = _program(chain, x0, lowest)
    x, ended, work, logged = _integrate(program, program.weights, x0, t, limits)
    by_weights = torch.from_numpy(work.linearise(logged, x.shape)).view(lanes, -1, program.weights.shape[1])
    starts = by_weights[..., :d].reshape(*x.shape, d)
    parameters = list(chain.parameters())
    slopes: tuple[Tensor, ...] = torch.autograd.grad(
        program.weights, parameters, by_weights.transpose(0, 1), is_grads_batched=True, materialize_grads=True
    )
    by_parameters = torch.cat([v.flatten(2) for v in slopes], 2).transpose(0, 1)
    return x, ended, by_parameters.reshape(*x.shape, -1), starts


def _program(chain: Chain, x0: Tensor, lowest: Tensor | None) -> Program:
    floors = x0.new_full((x0.shape[-1],), -torch.inf) if lowest is None else lowest.to(x0)
    return translate(chain, floors, len(x0))


def _integrate(
    program: Program, weights: Tensor, x0: Tensor, t: Tensor, limits: dict[str, Any]
) -> tuple[Tensor, Tensor, _Work, _Log]:
    """Return samples, how each trajectory ended, and what the slopes of these steps are made from."""
    from . import kernels

    lanes, segments, d = x0.shape
    work = _Work(program, weights, t)
    start = np.ascontiguousarray(x0.detach().numpy().reshape(-1, d))
    x = np.full((len(start), t.shape[1], d), np.nan, work.dtype)
    ended = np.zeros((len(start), 3), np.int64)
    bounds = np.array([limits["rtol"], limits["atol"], limits["bound"], *work.limits()], work.dtype)
    logged = kernels.integrate(
        *work.program, bounds, limits["steps"], work.weights, start, *work.times, x, ended, *work.rows
    )
    shaped = torch.from_numpy(ended).view(lanes, segments, 3)
    return torch.from_numpy(x).view(lanes, segments, -1, d), shaped, work, logged


class _Solve(torch.autograd.Function):
    """The kernels, forwards and backwards."""

    @staticmethod
    def forward(
        ctx: Any, weights: Tensor, x0: Tensor, t: Tensor, program: Program, limits: dict
    ) -> tuple[Tensor, Tensor]:
        x, ended, ctx.work, ctx.logged = _integrate(program, weights, x0, t, limits)
        ctx.mark_non_differentiable(ended)
        return x, ended

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, pull: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        gp, gx0 = ctx.work.pull_back(ctx.logged, pull.numpy())
        return torch.from_numpy(gp), torch.from_numpy(gx0), None, None, None


class _Work:
    """The arrays that the kernels share."""

    def __init__(self, program: Program, weights: Tensor, t: Tensor) -> None:
        from . import kernels
        from .vectors import aligned_rows

        self.weights = np.ascontiguousarray(weights.detach().numpy())
        self.dtype = self.weights.dtype
        times = t.detach().double().numpy()
        self.times = np.diff(times).astype(self.dtype), (times[:, -1:] - times).astype(self.dtype)
        tables = tuple(table.astype(self.dtype) for table in (kernels.A, kernels.B, kernels.E))
        self.program = program.layers, program.limits, tables
        d = int(program.layers[-1, N_OUT])
        rows = lambda count: aligned_rows(count, self.dtype)  # noqa: E731
        flags = np.zeros(7 * len(program.layers), np.bool_)
        self.rows = rows(7 * program.rows), rows(self.weights.shape[1]), rows(d * d + 20 * d + 20), flags
        self.back = rows(program.rows), rows(self.weights.shape[1])

    def pull_back(self, logged: _Log, pull: Float[np.ndarray, "lanes K n d"]) -> tuple[np.ndarray, np.ndarray]:
        """Return gradients in weights (lanes, P) and starts (lanes, K, d) from those in samples."""
        from . import kernels

        lanes, segments, n, d = pull.shape
        gx = np.ascontiguousarray(pull.reshape(-1, n, d), self.dtype)
        gx0, gp = np.zeros((len(gx), d), self.dtype), np.zeros_like(self.weights)
        kernels.pull_back(*self.program, self.weights, self.times[0], gx, gx0, gp, *logged, *self.rows, *self.back)
        return gp, gx0.reshape(lanes, segments, d)

    def linearise(self, logged: _Log, shape: Sequence[int]) -> Float[np.ndarray, "trajectories n d P"]:
        """Return the slopes of samples of that shape, (lanes, K, n, d), in starts and weights, starts in place of the floors."""
        from . import kernels
        from .vectors import aligned_rows

        lanes, segments, n, d = shape
        width = self.weights.shape[1]
        slopes = np.zeros((lanes * segments, n, d, width), self.dtype)
        tangents = aligned_rows(10 * d * width, self.dtype)  # now, at the step's end, at a sample, and of seven stages
        kernels.linearise(*self.program, self.weights, self.times[0], slopes, *logged, *self.rows, *self.back, tangents)
        return slopes

    def limits(self) -> tuple[float, float]:
        """Return the smallest share of a segment's duration for a step, and where states overflow."""
        info = np.finfo(self.dtype)
        return SMALLEST_STEP * float(info.eps) / self.times[1].shape[1], float(info.max) ** 0.25


__all__ = ["knows", "linearise", "solve"]
