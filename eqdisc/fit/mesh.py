r"""The mesh: data in segments, each on a grid that is finer where the data bend.

A trajectory is one segment, or several with starts of their own where it is long (multiple shooting: Bock, 1983), since a chaotic
or very long record cannot be followed from its start. Segments are padded alike, so that all lanes of a fit share one batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..data.dataset import Dataset
from ..data.scaling import FLOOR
from ..data.smoothing import Denoised

LONG = 200  # samples from which a trajectory is cut into segments with starts of their own
SEGMENT = 60
FEWEST_STEPS = 40  # a trajectory
LEAST_LEFT = 0.25  # of the values, however many starts and groups there are


@dataclass(frozen=True, eq=False)
class Mesh:
    """Segments of data on a fine grid: K segments, M steps, n samples, all padded alike (steps of length zero)."""

    t: Float[np.ndarray, "K M1"]
    step: Float[Tensor, "K M"]
    sample: Int[Tensor, "K n"]  # grid index of each sample
    x: Float[Tensor, "K n d"]  # measured values, zero where there is none
    mask: Float[Tensor, "K n d"]  # 1 where there is a value
    weight: Float[Tensor, "K n d"]  # 1 / v, v how the value's error compares with sigma; 0 where there is no value
    trajectory: tuple[int, ...]
    counts: Float[Tensor, "d"]  # measured values a state; with groups, less what their starts and coefficients take
    driven: int = 0  # last columns of x that are inputs, known everywhere
    refine: int = 1  # pieces into which every step of the coarsest mesh is cut

    @property
    def samples(self) -> int:
        """Sample times in all."""
        return int((self.mask.amax(-1) > 0).sum())

    @classmethod
    def of(
        cls, data: Dataset, denoised: Denoised, segment: int | None = None, refine: int = 1, device: str = "cpu"
    ) -> Mesh:
        """Lay a grid over scaled data: each interval cut into as many steps as the denoised data bend in it, times `refine`."""
        grids, weights, states = [], denoised.weights(data), data.d - data.driven
        held = not set(data.states[states:]).isdisjoint(data.held)
        measured = (np.arange(data.d) < states) & ~np.isin(data.states, data.hidden)
        for k, trajectory in enumerate(data.trajectories):
            n = len(trajectory.t)
            length = segment or (SEGMENT if n >= LONG else n)
            cuts = np.unique(np.linspace(0, n - 1, max(1, round((n - 1) / length)) + 1).round().astype(int))
            steps = refine * count_steps(denoised, k, trajectory.t, states)
            for a, b in pairwise(cuts):
                last = b == n - 1
                grid = _grid(trajectory.t[a : b + 1], steps[a:b], jumps=held)
                x = np.where(measured, trajectory.x[a : b + 1], np.nan)
                grids.append((k, *grid, x, np.where(np.isfinite(x), weights[k][a : b + 1], 0.0), last))
        mesh = replace(cls._stack(grids, data.d, device), driven=data.driven, refine=refine)
        return replace(mesh, counts=mesh.counts * _share_left(data)) if data.grouped else mesh

    @classmethod
    def _stack(cls, grids: list, d: int, device: str) -> Mesh:
        most, widest = max(len(g[1]) for g in grids), max(len(g[2]) for g in grids)
        t = np.zeros((len(grids), most))
        sample = np.zeros((len(grids), widest), int)
        x, weight = np.full((len(grids), widest, d), np.nan), np.zeros((len(grids), widest, d))
        for q, (_, grid, index, values, values_weight, last) in enumerate(grids):
            t[q, : len(grid)], t[q, len(grid) :] = grid, grid[-1]
            sample[q, : len(index)] = index
            kept = len(index) if last else len(index) - 1  # the next segment's first sample belongs to it
            x[q, :kept], weight[q, :kept] = values[:kept], values_weight[:kept]
        mask = torch.as_tensor(np.isfinite(x).astype(float), device=device)
        return cls(
            t=t,
            step=torch.as_tensor(np.diff(t, axis=1), device=device),
            sample=torch.as_tensor(sample, device=device),
            x=torch.as_tensor(np.nan_to_num(x), device=device),
            mask=mask,
            weight=torch.as_tensor(weight, device=device),
            trajectory=tuple(g[0] for g in grids),
            counts=mask.sum((0, 1)),
        )

    def select(self, segments: Tensor) -> Mesh:
        """Return the mesh of those segments."""
        index = segments.cpu().numpy()
        per_segment = ("t", "step", "sample", "x", "mask", "weight")
        parts = {f: getattr(self, f)[index if f == "t" else segments] for f in per_segment}
        return replace(self, trajectory=tuple(self.trajectory[k] for k in index), **parts)

    def at_samples(self, x: Float[Tensor, "... K M1 d"]) -> Float[Tensor, "... K n d"]:
        """Return states on the grid where samples lie."""
        segment = torch.arange(len(self.trajectory), device=x.device)[:, None]
        return x[..., segment, self.sample, :]

    def residuals(self, x: Float[Tensor, "K M1 d"]) -> tuple[Float[np.ndarray, "K n d"], np.ndarray]:
        """Return by how much states on the grid miss the samples, zero where nothing was measured, and what was."""
        return ((self.x - self.at_samples(x)) * self.mask).cpu().numpy(), self.mask.cpu().numpy() > 0

    def states(self, denoised: Denoised) -> Float[Tensor, "1 K M1 d"]:
        """Return denoised states on the grid, where every fit starts."""
        x = np.stack([denoised.at(k, t) for k, t in zip(self.trajectory, self.t, strict=True)])
        return torch.as_tensor(x, device=self.x.device)[None]


def count_steps(
    denoised: Denoised, trajectory: int, t: Float[np.ndarray, "n"], states: int | None = None
) -> Int[np.ndarray, "n1"]:
    """Return into how many steps each interval is cut, from how much the denoised curves of the first `states` bend there.

    The cubic between two samples misses the curve by delta^4 / 384, delta^4 = h^4 x'''' its fourth difference; m steps make that
    m^4 times less, and it may be a tenth of sigma. A solution of the Hermite-Simpson rule is several times nearer.
    """
    if len(t) < 2:
        return np.ones(0, int)
    h = np.minimum(np.diff(t), (t[-1] - t[0]) / 4)
    middle = np.clip((t[:-1] + t[1:]) / 2, t[0] + 2 * h, t[-1] - 2 * h)
    x = denoised.at(trajectory, (middle[:, None] + h[:, None] * np.arange(-2, 3)).ravel()).reshape(len(h), 5, -1)
    bend = np.abs(x[:, 0] - 4 * x[:, 1] + 6 * x[:, 2] - 4 * x[:, 3] + x[:, 4]) * (np.diff(t) / h)[:, None] ** 4
    miss = (bend / 384 / (0.1 * np.maximum(denoised.sigma_of(trajectory), FLOOR)))[:, :states].max(-1)
    fewest = max(1, math.ceil(FEWEST_STEPS / (len(t) - 1)))
    return np.clip(np.ceil(miss**0.25), fewest, 4 * max(fewest, 2)).astype(int)


def _share_left(data: Dataset) -> float:
    """Return the share of the values that tell of what all groups share: each record's start and one coefficient of its group are its own.

    With few values a record the likelihood of the rest would count too much (Neyman & Scott, Econometrica 16, 1948).
    """
    states = data.d - data.driven
    values = sum(int(np.isfinite(k.x[:, :states]).sum()) for k in data.trajectories)
    return max(LEAST_LEFT, 1 - states * (len(data) + data.grouped + 1) / values)


def _grid(t: np.ndarray, steps: np.ndarray, jumps: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return grid times and the index of each sample; where inputs jump, each sample has a point just before it as well."""
    pieces = [a + (b - a) * np.arange(m) / m for a, b, m in zip(t[:-1], t[1:], steps, strict=True)]
    if jumps:
        pieces = [np.r_[p, np.nextafter(b, -np.inf)] for p, b in zip(pieces, t[1:], strict=True)]
    return np.r_[np.concatenate(pieces), t[-1]], np.r_[0, np.cumsum([len(p) for p in pieces])]
