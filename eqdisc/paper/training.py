r"""Training by gradients: all seeds of a model side by side as lanes, each with its own loss.

    loss_r = mean squared error of lane r  +  beta * penalty_r  +  ramp * indecision_r

No lane sees another: losses are summed, parameters have a leading lane axis, and Adam and RMSProp work number by number. Batches are
functions of the step, so that a training that was interrupted goes on from its checkpoint as if nothing had happened.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..units import Unit
from ..work.errors import OptionError
from ..work.files import refuse_strange

Batch = tuple[Tensor, Tensor]  # x (R or 1, N, in), y (R or 1, N, out)
PAUSE = 30.0  # seconds between two checkpoints


class Network(nn.Module):
    """Units in sequence, as a function from (R, N, in) to (R, N, out); a chain need not end as wide as it began.

    >>> from eqdisc.units import NAU, RealNPU
    >>> Network([RealNPU(2, 6, lanes=3), NAU(6, 4, lanes=3)])(torch.ones(3, 5, 2, dtype=torch.float64)).shape
    torch.Size([3, 5, 4])
    """

    def __init__(self, units: Sequence[Unit]) -> None:
        super().__init__()
        self.list = tuple(units)
        self.units = nn.ModuleList(units)

    def forward(self, x: Float[Tensor, "lanes batch in"]) -> Float[Tensor, "lanes batch out"]:
        """Return the outputs at x."""
        for unit in self.list:
            x = unit(x)
        return x

    def constrain(self) -> None:
        """Bring parameters back to where they may lie, in place."""
        for unit in self.list:
            unit.constrain()

    def indecision(self) -> Float[Tensor, "lanes"]:
        """Return how far each lane is from parameters that are all or nothing."""
        return torch.stack([unit.indecision() for unit in self.list]).sum(0)

    @property
    def lanes(self) -> int:
        """Number of lanes R."""
        return self.list[0].lanes

    @torch.no_grad()
    def count(self, threshold: float) -> Tensor:
        """Return how many numbers of each lane are larger than a threshold, gates and imaginary parts included (R,).

        >>> from eqdisc.units import RealNPU
        >>> Network([RealNPU(2, 1, lanes=3)]).count(1e9)
        tensor([0, 0, 0])
        """
        return torch.stack([(p.abs() > threshold).flatten(1).sum(1) for p in self.parameters()]).sum(0)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is trained."""

    steps: int
    rate: float
    optimiser: str = "adam"
    """adam, or rmsprop as in Flux: its square average forgets with 0.9, and its epsilon stands outside the root."""

    penalty: str = "l1"
    """l1: the sum of absolute values; norms: the sum over the arrays of their 2-norms."""

    beta: tuple[float, float] = (0.0, 0.0)
    """The penalty's weight at the start and at most; it grows tenfold every `grow` steps."""

    grow: int = 10_000
    ramp: tuple[int, int] | None = None
    """Steps between which the weight of `indecision` rises from 0 to `weight`."""

    weight: float = 1.0

    clip: float | None = None
    """Gradients are clipped to [-clip, clip], number by number."""

    push: tuple[int, float] | None = None
    """From a step on, 1e-5 * sum max(t - |p|, 0) / t drives numbers away from 0 (Schlör et al. 2020)."""


def penalty_at(recipe: Recipe, step: int) -> float:
    """Return the penalty's weight at a step.

    >>> recipe = Recipe(steps=1, rate=1.0, beta=(1e-9, 1e-7))
    >>> [penalty_at(recipe, step) for step in (0, 9_999, 10_000, 90_000)]
    [1e-09, 1e-09, 1e-08, 1e-07]
    """
    start, most = recipe.beta
    return min(most, float(f"{start * 10.0 ** (step // recipe.grow):.6g}"))


class Keeper:
    """Writes a training's state to a file now and then, and reads it again; without a file it keeps nothing."""

    def __init__(self, path: Path | None = None) -> None:
        self.path, self.last = path, time.monotonic()

    def save(self, step: int, tensors: dict[str, Tensor], finished: bool = False) -> None:
        """Write the state if enough time has passed since the last time; a training that is finished has none."""
        if self.path is None:
            return
        if finished:
            self.path.unlink(missing_ok=True)
        elif time.monotonic() - self.last > PAUSE:
            from safetensors.torch import save_file

            part = self.path.with_suffix(".part")
            save_file({k: v.detach().contiguous() for k, v in tensors.items()}, str(part), {"step": json.dumps(step)})
            part.replace(self.path)
            self.last = time.monotonic()

    def load(self) -> tuple[int, dict[str, Tensor]] | None:
        """Return step and tensors, or None where there are none."""
        if self.path is None or not self.path.exists():
            return None
        from safetensors import SafetensorError, safe_open

        try:
            refuse_strange(self.path)
            with safe_open(str(self.path), framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
                return int((file.metadata() or {})["step"]), tensors
        except (OSError, SafetensorError, LookupError, ValueError) as error:
            raise OptionError(f"{self.path} is no checkpoint of a training ({error}); remove it.") from None


class Best:
    """Each lane's parameters where its error on other points was lowest."""

    def __init__(self, network: Network, measure: Callable[[Network], Float[Tensor, "lanes"]] | None) -> None:
        self.network, self.measure = network, measure
        self.error = torch.full((network.lanes,), torch.inf, dtype=torch.float64)
        self.kept = {name: p.detach().clone() for name, p in network.named_parameters()}

    @torch.no_grad()
    def look(self) -> None:
        """Measure, and keep the lanes that are better than before."""
        if self.measure is None:
            return
        error = self.measure(self.network).double()
        better = error < self.error
        self.error = torch.where(better, error, self.error)
        for name, p in self.network.named_parameters():
            self.kept[name][better] = p.detach()[better]

    @torch.no_grad()
    def restore(self) -> None:
        """Write the best parameters into the network."""
        if self.measure is not None:
            for name, p in self.network.named_parameters():
                p.copy_(self.kept[name])


def train(
    network: Network,
    batch: Callable[[int], Batch],
    recipe: Recipe,
    *,
    measure: Callable[[Network], Float[Tensor, "lanes"]] | None = None,
    every: int = 1000,
    tell: Callable[[int, int], None] = lambda done, total: None,
    keeper: Keeper | None = None,
) -> Float[Tensor, "lanes"]:
    """Train all lanes in place and return the mean squared errors of the last batch (R,).

    With `measure`, an error on points that are not trained on, each lane ends where that was lowest, looked at `every` steps.

    >>> from eqdisc.units import NAU
    >>> x = torch.randn(1, 50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> sums = Network([NAU(2, 1, lanes=2)])
    >>> mse = train(sums, lambda step: (x, x.sum(-1, keepdim=True)), Recipe(steps=500, rate=0.02))
    >>> bool((mse < 1e-3).all())
    True
    """
    keeper = keeper or Keeper()
    optimiser, best = _optimiser(network, recipe), Best(network, measure)
    first = _resume(network, optimiser, best, keeper)
    errors = torch.full((network.lanes,), torch.nan)
    for step in range(first, recipe.steps):
        optimiser.zero_grad()
        errors = squared_error(network, *batch(step))
        (errors.sum() + _penalty(network, recipe, step)).backward()
        if recipe.clip is not None:
            torch.nn.utils.clip_grad_value_(network.parameters(), recipe.clip)
        optimiser.step()
        network.constrain()
        done = step + 1
        if done % every == 0:
            best.look()
            tell(done, recipe.steps)
            keeper.save(done, _state(network, optimiser, best))
    best.look()
    best.restore()
    keeper.save(recipe.steps, {}, finished=True)
    return errors.detach()


def squared_error(network: nn.Module, x: Tensor, y: Tensor) -> Float[Tensor, "lanes"]:
    """Return each lane's mean squared error (R,)."""
    return (network(x) - y).square().mean((1, 2))


def _penalty(network: Network, recipe: Recipe, step: int) -> Tensor | float:
    """Return what is added to the sum of errors at a step."""
    total: Tensor | float = 0.0
    beta = penalty_at(recipe, step)
    if beta and recipe.penalty == "l1":
        total = total + beta * sum(p.abs().sum() for p in network.parameters())
    elif beta:
        total = total + beta * sum(p.flatten(1).norm(dim=1).sum() for p in network.parameters())
    if recipe.ramp is not None and step >= recipe.ramp[0]:
        low, high = recipe.ramp
        total = total + recipe.weight * min(1.0, (step - low) / (high - low)) * network.indecision().sum()
    if recipe.push is not None and step >= recipe.push[0]:
        t = recipe.push[1]
        total = total + 1e-5 * sum((t - p.abs()).clamp_min(0.0).sum() for p in network.parameters()) / t
    return total


def _optimiser(network: Network, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimiser == "rmsprop":
        return torch.optim.RMSprop(network.parameters(), lr=recipe.rate, alpha=0.9, eps=1e-8, foreach=True)
    return torch.optim.Adam(network.parameters(), lr=recipe.rate, foreach=True)


def _state(network: Network, optimiser: torch.optim.Optimizer, best: Best) -> dict[str, Tensor]:
    """Return all that the rest of a training depends on, by name."""
    state: dict[str, Tensor] = {f"p.{name}": p for name, p in network.named_parameters()}
    for i, values in optimiser.state_dict()["state"].items():
        state |= {f"o.{i}.{key}": torch.as_tensor(value) for key, value in values.items()}
    return state | {f"b.{name}": p for name, p in best.kept.items()} | {"e": best.error}


@torch.no_grad()
def _resume(network: Network, optimiser: torch.optim.Optimizer, best: Best, keeper: Keeper) -> int:
    """Write a checkpoint back, if there is one, and return the step to go on from."""
    found = keeper.load()
    if found is None:
        return 0
    step, state = found
    inner: dict[int, dict[str, Any]] = {}
    for name, value in state.items():
        kind, _, rest = name.partition(".")
        if kind == "p":
            network.get_parameter(rest).copy_(value)
        elif kind == "b":
            best.kept[rest] = value
        elif kind == "o":
            i, _, key = rest.partition(".")
            inner.setdefault(int(i), {})[key] = value
    best.error = state["e"]
    optimiser.load_state_dict(optimiser.state_dict() | {"state": inner})
    return step
