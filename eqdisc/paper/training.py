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
    """adam or rmsprop, see `make_optimiser`."""

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


def ramp_at(recipe: Recipe, step: int) -> float:
    """Return the weight of `indecision` at a step.

    >>> [ramp_at(Recipe(steps=1, rate=1.0, ramp=(10, 20), weight=3.0), step) for step in (9, 15, 30)]
    [0.0, 1.5, 3.0]
    """
    if recipe.ramp is None:
        return 0.0
    low, high = recipe.ramp
    return recipe.weight * min(1.0, max(0, step - low) / (high - low))


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

    @property
    def state(self) -> dict[str, Tensor]:
        """What is kept, by name."""
        return {"error": self.error} | {f"best.{name}": value for name, value in self.kept.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from what was kept, if anything was."""
        self.error = state.get("error", self.error)
        self.kept = {name: state.get(f"best.{name}", value) for name, value in self.kept.items()}

    @torch.no_grad()
    def write(self) -> None:
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
    optimiser, best = make_optimiser(network, recipe.optimiser, recipe.rate), Best(network, measure)
    first, found = resume(optimiser, keeper)
    best.restore(found)
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
            keeper.save(done, state_of(optimiser) | best.state)
    best.look()
    best.write()
    keeper.save(recipe.steps, {}, finished=True)
    return errors.detach()


def vector_of(parameters: Sequence[Tensor]) -> Float[Tensor, "lanes P"]:
    """Return parameters as a row of numbers a lane."""
    return torch.cat([p.detach().flatten(1) for p in parameters], 1)


@torch.no_grad()
def load_vector(parameters: Sequence[Tensor], vector: Float[Tensor, "lanes P"]) -> None:
    """Write a `vector_of` back into the parameters."""
    for p, part in zip(parameters, vector.split([p[0].numel() for p in parameters], 1), strict=True):
        p.copy_(part.reshape(p.shape))


def squared_error(network: nn.Module, x: Tensor, y: Tensor) -> Float[Tensor, "lanes"]:
    """Return each lane's mean squared error (R,)."""
    return (network(x) - y).square().mean((1, 2))


def _penalty(network: Network, recipe: Recipe, step: int) -> Tensor | float:
    """Return what is added to the sum of errors at a step."""
    total: Tensor | float = 0.0
    beta, ramp = penalty_at(recipe, step), ramp_at(recipe, step)
    if beta:
        total = total + beta * sum(PENALTIES[recipe.penalty](p) for p in network.parameters())
    if ramp:
        total = total + ramp * network.indecision().sum()
    if recipe.push is not None and step >= recipe.push[0]:
        t = recipe.push[1]
        total = total + 1e-5 * sum((t - p.abs()).clamp_min(0.0).sum() for p in network.parameters()) / t
    return total


PENALTIES: dict[str, Callable[[Tensor], Tensor]] = {
    "l1": lambda p: p.abs().sum(),
    "norms": lambda p: p.flatten(1).norm(dim=1).sum(),
}


def make_optimiser(network: nn.Module, kind: str, rate: float) -> torch.optim.Optimizer:
    """Return Adam, or RMSProp as in Flux: its square average forgets with 0.9, and its epsilon stands outside the root."""
    if kind == "rmsprop":
        return torch.optim.RMSprop(network.parameters(), lr=rate, alpha=0.9, eps=1e-8, foreach=True)
    return torch.optim.Adam(network.parameters(), lr=rate, foreach=True)


def state_of(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimiser's parameters and what it remembers of each, by number and name."""
    own = enumerate(optimiser.param_groups[0]["params"])
    return {f"o.{i}.{key}": value for i, p in own for key, value in {"p": p, **optimiser.state[p]}.items()}


@torch.no_grad()
def resume(optimiser: torch.optim.Optimizer, keeper: Keeper) -> tuple[int, dict[str, Tensor]]:
    """Write what `state_of` said back, where there is a checkpoint, and return the step to go on from and the checkpoint."""
    step, state = keeper.load() or (0, {})
    for i, p in enumerate(optimiser.param_groups[0]["params"]):
        own = {name.rpartition(".")[2]: value for name, value in state.items() if name.startswith(f"o.{i}.")}
        p.copy_(own.pop("p", p))
        optimiser.state[p].update(own)
    return step, state
