r"""Rule: how an equation sees a function of time, its integral from each window's start, centred, weighed, averaged in blocks.

Windows are records or pieces of them, each with a constant of integration of its own. Between samples an integral is Gauss and Legendre's,
from values at nodes; it is a running sum over the steps, and blocks of samples are long enough to leave about ROWS rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..data.dataset import Dataset

WINDOW = 25  # samples; long records have their constant of integration freed this often
SHORT = 60  # a record up to this length is one window
ROWS = 240  # samples are averaged in blocks down to about this many rows
FINE = 8  # rows that a window keeps at least
MOST = 6000  # samples used at most; beyond it, evenly chosen windows


@dataclass(frozen=True, eq=False)
class Rule:
    """How an equation sees a function of time: its integral from each window's start, centred, weighed, added up in blocks of samples."""

    quadrature: Float[np.ndarray, "w steps order"]
    share: Float[np.ndarray, "w L"]  # of each sample in its window's mean
    scale: Float[np.ndarray, "w L"]  # of each sample in its block's sum
    block: int

    def projection(self) -> Float[np.ndarray, "w L n"]:
        """Return the matrix that does with values at the samples what comes after the integral."""
        member = np.eye(-(-self.share.shape[1] // self.block)).repeat(self.block, 0)[: self.share.shape[1]]
        return (np.eye(len(member)) - self.share[..., None]) * self.scale[:, None] @ member


def block_length(measured: Bool[Tensor, "w L d"]) -> int:
    """Return how many samples to average: about ROWS rows an equation, but no fewer than FINE a window."""
    rows = float(measured.sum()) / measured.shape[-1]
    return max(1, min(round(rows / ROWS), measured.shape[1] // FINE))


def integration(weights: Float[Tensor, "w L1 order"]) -> Float[Tensor, "w nodes L"]:
    """Return the matrix that takes values at the nodes to the integral from the window's start to each sample."""
    steps = weights.shape[1]
    before = torch.ones(steps, steps + 1, dtype=weights.dtype, device=weights.device).triu(1)
    return (weights[..., None] * before[:, None]).flatten(1, 2)


def rule_of(quadrature: np.ndarray, weight: Float[np.ndarray, "w L"], block: int) -> tuple[Rule, float]:
    """Return how an equation with these weights, zero where nothing was measured, sees an integral: blocks in which noise stays alike.

    The second value counts the rows that carry information: those with a sample, less one a window for its constant.
    """
    measured = weight > 0
    total = np.square(weight).sum(-1, keepdims=True).clip(1e-300)
    owner = np.arange(weight.shape[1]) // block
    size = np.add.reduceat(measured, np.arange(0, weight.shape[1], block), axis=1, dtype=float)
    rows = float((size > 0).sum() - measured.any(-1).sum())
    return Rule(quadrature, np.square(weight) / total, weight / np.sqrt(size.clip(1.0))[:, owner], block), rows


def cut_windows(data: Dataset) -> list[tuple[int, int, int]]:
    """Return (trajectory, first, end) of each window; every trajectory of one sample is passed over."""
    windows = []
    for k, trajectory in enumerate(data.trajectories):
        n = len(trajectory.t)
        pieces = 1 if n <= SHORT else max(1, round(n / WINDOW))
        windows += [(k, int(c[0]), int(c[-1]) + 1) for c in np.array_split(np.arange(n), pieces) if len(c) > 1]
    rows = sum(b - a for _, a, b in windows)
    keep = np.unique(
        np.linspace(0, len(windows) - 1, max(1, int(len(windows) * min(1.0, MOST / rows)))).round().astype(int)
    )
    return [windows[i] for i in keep]


def lay_out(
    data: Dataset, windows: list[tuple[int, int, int]], order: int, weights: list[np.ndarray] | None
) -> tuple[list, np.ndarray, np.ndarray, np.ndarray]:
    """Return node times a window, quadrature weights (w, L - 1, order), raw values (w, L, d), NaN where not measured, and their weights."""
    roots, gauss = np.polynomial.legendre.leggauss(order)
    longest = max(b - a for _, a, b in windows)
    quadrature = np.zeros((len(windows), longest - 1, order))
    values = np.full((len(windows), longest, data.d), np.nan)
    trust = np.ones_like(values)
    nodes = []
    for w, (k, a, b) in enumerate(windows):
        t = data.trajectories[k].t[a:b]
        step = np.diff(t)[:, None]
        nodes.append((k, (t[:-1, None] + step * (roots + 1) / 2).ravel()))
        quadrature[w, : b - a - 1] = step * gauss / 2
        values[w, : b - a] = data.trajectories[k].x[a:b]
        if weights is not None:
            trust[w, : b - a] = weights[k][a:b]
    return nodes, quadrature, values, trust


def pad_nodes(x: np.ndarray, windows: list[tuple[int, int, int]], order: int) -> np.ndarray:
    """Return values at the nodes of windows, end to end, with windows padded alike."""
    longest = max(b - a for _, a, b in windows)
    padded = np.ones((len(windows), (longest - 1) * order, x.shape[1]))
    start = 0
    for w, (_, a, b) in enumerate(windows):
        count = (b - a - 1) * order
        padded[w, :count] = x[start : start + count]
        start += count
    return padded.reshape(-1, x.shape[1])


__all__ = ["Rule", "block_length", "cut_windows", "integration", "lay_out", "pad_nodes", "rule_of"]
