r"""A dense neural ODE: the right-hand side is a multilayer perceptron (Chen et al., NeurIPS 2018, arXiv:1806.07366).

    dx/dt = W_3 tanh(W_2 tanh(W_1 x + b_1) + b_2) + b_3          in scaled units

First the network follows the slopes of smoothing splines, then it is trained through the solver on stretches of the records, short ones
before longer ones (multiple shooting), each from its smooth state. It can follow any curve, explains nothing, and says how much of an
error comes from the data alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..integration import integrate
from ..scaling import Scaling
from ..status import Status
from ..trajectory import Dataset
from .smoothed import Smoothed

WIDTH = 32
DECAY = 1e-5  # of the weights
MATCHING, SHOOTING = 1000, 150  # steps; of shooting, for each length
LENGTHS = (5, 15, 40)  # samples of a stretch
MOST = 64  # stretches
RATE = 3e-3
RTOL, ATOL = 1e-4, 1e-6  # below the noise of any table that needs a network


@dataclass(frozen=True, eq=False)
class Dense:
    """A trained network in the user's units: layers of (weights (out, in), biases (out,))."""

    layers: tuple[tuple[Float[np.ndarray, "out in"], Float[np.ndarray, "out"]], ...]
    scaling: Scaling

    @property
    def size(self) -> int:
        """Count the weights and biases."""
        return sum(w.size + b.size for w, b in self.layers)

    def function(self) -> Callable[[float, np.ndarray], np.ndarray]:
        """Return f(t, x) for x (d,) or (n, d)."""

        def f(t: float, x: np.ndarray) -> np.ndarray:
            z = np.asarray(x, float) / self.scaling.states
            for w, b in self.layers[:-1]:
                z = np.tanh(z @ w.T + b)
            w, b = self.layers[-1]
            return (z @ w.T + b) * self.scaling.states / self.scaling.time

        return f


def fit_dense(data: Dataset, seed: int, seconds: float) -> Dense:
    """Train a network on `data`."""
    deadline = time.monotonic() + seconds
    smoothed = Smoothed.of(data)
    network = _new_network(smoothed.d, torch.Generator().manual_seed(seed))
    _match(network, smoothed)
    for length in LENGTHS:
        if not _shoot(network, smoothed, length, deadline):
            break
    layers = [
        (layer.weight.detach().numpy(), layer.bias.detach().numpy())
        for layer in network
        if isinstance(layer, nn.Linear)
    ]
    return Dense(tuple(layers), smoothed.scaling)


def _new_network(d: int, generator: torch.Generator) -> nn.Sequential:
    layers = [nn.Linear(a, b, dtype=torch.float64) for a, b in ((d, WIDTH), (WIDTH, WIDTH), (WIDTH, d))]
    for layer in layers:
        nn.init.xavier_normal_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])


def _match(network: nn.Sequential, smoothed: Smoothed) -> None:
    """Fit the network to slopes."""
    x, slope = (torch.as_tensor(smoothed.stacked(name)) for name in ("smooth", "slope"))
    unit = slope.std(0, correction=0).clamp_min(1e-6)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, MATCHING)
    for _ in range(MATCHING):
        optimiser.zero_grad()
        ((network(x) - slope) / unit).square().mean().backward()
        optimiser.step()
        schedule.step()


def _shoot(network: nn.Sequential, smoothed: Smoothed, length: int, deadline: float) -> bool:
    """Train through the solver on stretches of so many samples; return whether there was time and need for longer ones."""
    t, start, x = _cut(smoothed, length)
    spread = torch.as_tensor(smoothed.spread)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE / 3, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, SHOOTING)
    for _ in range(SHOOTING):
        if time.monotonic() > deadline:
            return False
        optimiser.zero_grad()
        found = integrate(network, start[None], t, rtol=RTOL, atol=ATOL)
        if int(found.status[0]) != Status.OK:
            return False
        ((found.x[0] - x) / spread).square().mean().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return length < max(len(r.t) for r in smoothed.records)


def _cut(smoothed: Smoothed, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return times (K, n), smooth starts (K, d) and readings (K, n, d) of stretches that cover every record."""
    length = min(length, *(len(r.t) for r in smoothed.records)) if smoothed.records else length
    parts = []
    for r in smoothed.records:
        most = max(1, MOST // len(smoothed.records))
        count = min(most, -(-(len(r.t) - 1) // max(1, length - 1)) + 1)
        first = np.unique(np.linspace(0, len(r.t) - length, count).round().astype(int))
        at = first[:, None] + np.arange(length)
        parts.append((r.t[at], r.smooth[first], r.x[at]))
    t, start, x = (torch.as_tensor(np.concatenate(p)) for p in zip(*parts, strict=True))
    return t, start, x
