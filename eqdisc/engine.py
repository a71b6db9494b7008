r"""The engine: a chain of units as the right-hand side of an ODE, solved and differentiated in compiled code (`kernels`).

torch's price for a field this small is dispatch: a step of Runge-Kutta is some hundred calls on a handful of numbers. Here a chain becomes a
program, its layers in a row, and a table of what its units compute with, a row a lane; the compiler has both. Autograd takes over at
that table: a gate's clip, a support, whatever a unit does to its parameters, is torch's.

Numba compiles at the first call and keeps the result beside the code or in its own cache folder; where neither can be written, it
compiles in every process.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from .field import Chain
from .program import N_OUT, Program, is_known, translate

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
    lanes, _, d = x0.shape
    floors = x0.new_full((d,), -torch.inf) if lowest is None else lowest.to(x0)
    program = translate(chain, floors, lanes)
    limits = {"rtol": rtol, "atol": atol, "bound": bound, "steps": steps}
    x, ended = _Solve.apply(program.weights, x0, t, program, limits)
    return x, ended


class _Solve(torch.autograd.Function):
    """The kernels, forwards and backwards."""

    @staticmethod
    def forward(
        ctx: Any, weights: Tensor, x0: Tensor, t: Tensor, program: Program, limits: dict
    ) -> tuple[Tensor, Tensor]:
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
        ctx.work, ctx.logged = work, logged
        shaped = torch.from_numpy(ended).view(lanes, segments, 3)
        ctx.mark_non_differentiable(shaped)
        return torch.from_numpy(x).view(lanes, segments, -1, d), shaped

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, pull: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        from . import kernels

        lanes, segments, n, d = pull.shape
        work = ctx.work
        gx = np.ascontiguousarray(pull.numpy().reshape(-1, n, d), work.dtype)
        gx0, gp = np.zeros((len(gx), d), work.dtype), np.zeros_like(work.weights)
        kernels.pull_back(*work.program, work.weights, work.times[0], gx, gx0, gp, *ctx.logged, *work.rows, *work.back)
        return torch.from_numpy(gp), torch.from_numpy(gx0).view(lanes, segments, d), None, None, None


class _Work:
    """The arrays that both directions use."""

    def __init__(self, program: Program, weights: Tensor, t: Tensor) -> None:
        from . import kernels

        self.weights = np.ascontiguousarray(weights.detach().numpy())
        self.dtype = self.weights.dtype
        times = t.detach().double().numpy()
        self.times = np.diff(times).astype(self.dtype), (times[:, -1:] - times).astype(self.dtype)
        tables = tuple(table.astype(self.dtype) for table in (kernels.A, kernels.B, kernels.E))
        self.program = program.layers, program.limits, tables
        d = int(program.layers[-1, N_OUT])
        rows = lambda count: aligned_rows(count, self.dtype)  # noqa: E731
        flags = np.zeros(7 * len(program.layers), np.bool_)
        self.rows = rows(7 * program.rows), rows(self.weights.shape[1]), rows(20 * d + 20), flags
        self.back = rows(program.rows), rows(self.weights.shape[1])

    def limits(self) -> tuple[float, float]:
        """Return the smallest share of a segment's duration for a step, and where states overflow."""
        info = np.finfo(self.dtype)
        return SMALLEST_STEP * float(info.eps) / self.times[1].shape[1], float(info.max) ** 0.25


def aligned_rows(count: int, dtype: np.dtype) -> Float[np.ndarray, "numbers"]:
    """Return zeros for so many vectors, the first at a multiple of 64 bytes.

    >>> aligned_rows(3, np.dtype(float)).ctypes.data % 64
    0
    """
    from .vectors import LANES

    size = count * LANES * dtype.itemsize
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype)


__all__ = ["knows", "solve"]
