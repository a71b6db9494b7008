r"""A dense neural ODE: the right-hand side is a multilayer perceptron (Chen et al., NeurIPS 2018, arXiv:1806.07366).

    dx/dt = W_3 tanh(W_2 tanh(W_1 x + b_1) + b_2) + b_3          in scaled units

First the network follows the slopes of smoothing splines, then it is trained through the solver on stretches of the records, short ones
before longer ones (multiple shooting), each from its smooth state; in the end on whole records where these are not long. It can follow
any curve, explains nothing, and says how much of an error comes from the data alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data.dataset import Dataset
from ..data.scaling import Scaling
from ..law.ensemble import step
from ..work.threads import one_thread
from .smoothed import Smoothed

WIDTH = 32
DECAY = 1e-5  # of the weights; a tenth of it follows the noise
MATCHING, RATE = 600, 5e-3  # steps of Adam
LENGTHS = (5, 15, 40)  # samples of a stretch
SUBSTEPS = 2  # to a sample
ROUNDS, CONVERGED = 50, 1e-3  # of twenty steps of L-BFGS; least gain of a round
MOST = 64  # stretches


@dataclass(frozen=True, eq=False)
class Dense:
    """A trained network in the user's units: layers of (weights (out, in), biases (out,))."""

    layers: tuple[tuple[Float[np.ndarray, "out in"], Float[np.ndarray, "out"]], ...]
    scaling: Scaling

    @property
    def size(self) -> int:
        """Count the weights and biases."""
        return sum(w.size + b.size for w, b in self.layers)

    def function(
        self, inputs: Callable[[float], np.ndarray] | None = None
    ) -> Callable[[float, np.ndarray], np.ndarray]:
        """Return f(t, x) for x (d,) or (n, d); a network of the states alone has no inputs."""

        def f(t: float, x: np.ndarray) -> np.ndarray:
            z = np.asarray(x, float) / self.scaling.states
            for w, b in self.layers[:-1]:
                z = np.tanh(z @ w.T + b)
            w, b = self.layers[-1]
            return (z @ w.T + b) * self.scaling.states / self.scaling.time

        return f


def fit_dense(data: Dataset, seed: int, seconds: float) -> Dense:
    """Train a network on `data`."""
    smoothed = Smoothed.of(data)
    network = _new_network(smoothed.d, torch.Generator().manual_seed(seed))
    with one_thread():
        _train(network, smoothed, time.monotonic() + seconds)
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    layers = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in linear]
    return Dense(tuple(layers), smoothed.scaling)


def _train(network: nn.Sequential, smoothed: Smoothed, deadline: float) -> None:
    """Match slopes, then shoot over longer and longer stretches, each with its share of the time."""
    _match(network, smoothed)
    started, longest = time.monotonic(), max(len(r.t) for r in smoothed.records)
    lengths = [n for n in LENGTHS if n < longest] + [longest] * (longest <= LENGTHS[-1])
    for done, length in enumerate(lengths, 1):
        _shoot(network, smoothed, length, started + (deadline - started) * done / len(lengths))


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
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    for _ in range(MATCHING):
        optimiser.zero_grad()
        (((network(x) - slope) / unit).square().mean() + _penalty(network)).backward()
        optimiser.step()


def _penalty(network: nn.Sequential) -> Tensor:
    """Return the price of large weights, for which a curve bends between the data."""
    return DECAY * sum((p.square().sum() for p in network.parameters()), torch.zeros((), dtype=torch.float64))


def _shoot(network: nn.Sequential, smoothed: Smoothed, length: int, deadline: float) -> None:
    """Train through the solver on stretches of so many samples by L-BFGS, until it has converged or the time is over."""
    t, start, x = _cut(smoothed, length)
    spread = torch.as_tensor(smoothed.spread)
    optimiser = torch.optim.LBFGS(network.parameters(), max_iter=20, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        misfit = ((_follow(network, start, t) - x) / spread).square().mean() + _penalty(network)
        misfit.backward()
        return misfit

    last, kept = math.inf, _copy(network)
    for _ in range(ROUNDS):
        now = float(optimiser.step(loss))
        if not now < (1 - CONVERGED) * last or time.monotonic() > deadline:
            break
        last, kept = now, _copy(network)
    network.load_state_dict(kept)


def _copy(network: nn.Sequential) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def _follow(network: nn.Sequential, start: Float[Tensor, "K d"], t: Float[Tensor, "K n"]) -> Float[Tensor, "K n d"]:
    """Integrate by the Runge-Kutta rule of fourth order, some steps to a sample."""
    states = [start]
    for h in (t.diff(dim=1) / SUBSTEPS).T[..., None]:
        x = states[-1]
        for _ in range(SUBSTEPS):
            x = step(network, x, h)
        states.append(x)
    return torch.stack(states, 1)


def _cut(smoothed: Smoothed, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return times (K, n), smooth starts (K, d) and readings (K, n, d) of stretches that cover every record."""
    length = min(length, *(len(r.t) for r in smoothed.records))
    parts = []
    for r in smoothed.records:
        most = max(1, MOST // len(smoothed.records))
        count = min(most, -(-(len(r.t) - 1) // max(1, length - 1)) + 1)
        first = np.unique(np.linspace(0, len(r.t) - length, count).round().astype(int))
        at = first[:, None] + np.arange(length)
        parts.append((r.t[at], r.smooth[first], r.x[at]))
    t, start, x = (torch.as_tensor(np.concatenate(p)) for p in zip(*parts, strict=True))
    return t, start, x
