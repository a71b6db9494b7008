r"""Rollouts: a network as the right-hand side of an ODE, in steps of fixed length, with the exact gradient of the steps.

    x_{n+1} = phi(x_n),     L = sum_k |x(t_k) - data_k|**2 / (samples d),     x(t_k) between its neighbours on a straight line

The states come one after the other, but once they are known all steps can be differentiated at once: J_n = dphi/dx at all x_n is one
batch, the adjoint l_n = J_n' l_{n+1} + dL/dx_n a recursion of small products, and the parameters' gradient sum_n l_{n+1}' dphi(x_n)/dp
one more batch. That is the gradient which backpropagation through the steps would give.

The authors' gradient was another one (`gradient="adjoint"`): that of the ODE, dl/dt = -J' l, integrated backwards by Euler's steps, which end
at every sample. It takes J where a step back begins, so it is not the gradient of the loss that is written down, by some per cent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..units import NAU, Dense, PowerUnit
from .training import Network

Field = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Rollout:
    """Data x (n, d) at times t (n,), and steps of length `step` from x[0]; solver is euler or rk4, gradient exact or adjoint.

    >>> t = torch.linspace(0, 2, 3).double()
    >>> run = Rollout(t, torch.ones(3, 1).double(), step=1.0)
    >>> run.weights.tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """

    t: Float[Tensor, "n"]
    x: Float[Tensor, "n d"]
    step: float = 1.0
    solver: str = "euler"
    gradient: str = "exact"

    @property
    def steps(self) -> int:
        """Number of steps."""
        return round(float((self.t[-1] - self.t[0]) / self.step))

    @property
    def weights(self) -> Float[Tensor, "n grid"]:
        """What interpolates on straight lines: states at the data's times as sums of states on the grid."""
        return self.interpolate(self.t)

    def interpolate(self, times: Float[Tensor, "m"]) -> Float[Tensor, "m grid"]:
        """Return what makes states at any times of states on the grid."""
        place = (times - self.t[0]) / self.step
        left = place.floor().long().clamp(max=self.steps - 1)
        weights = torch.zeros(len(times), self.steps + 1, dtype=self.x.dtype)
        rows = torch.arange(len(times))
        weights[rows, left] = 1.0 - (place - left)
        weights[rows, left + 1] += place - left
        return weights

    def advance(self, field: Field, x: Tensor) -> Tensor:
        """Return the states one step later; not by `integration`, for the errors of the paper's fixed steps are part of its figures."""
        h = self.step
        if self.solver == "euler":
            return x + h * field(x)
        k1 = field(x)
        k2 = field(x + 0.5 * h * k1)
        k3 = field(x + 0.5 * h * k2)
        return x + h / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + field(x + h * k3))

    @torch.no_grad()
    def states(self, field: Field, lanes: int) -> Float[Tensor, "lanes grid d"]:
        """Return the states on the grid, lane by lane."""
        x = self.x[:1].expand(lanes, 1, -1)
        path = [x]
        for _ in range(self.steps):
            x = self.advance(field, x)
            path.append(x)
        return torch.cat(path, 1)

    def errors(self, states: Float[Tensor, "lanes grid d"]) -> Float[Tensor, "lanes"]:
        """Return mean squared errors of states on the grid (R,)."""
        return (self.weights @ states - self.x).square().mean((1, 2))

    def backward(self, network: Network) -> Float[Tensor, "lanes"]:
        """Return mean squared errors (R,) and add their gradients to the parameters', lane by lane.

        >>> from eqdisc.units import NAU
        >>> run = Rollout(torch.tensor([0.0, 1.0]).double(), torch.tensor([[1.0], [3.0]]).double())
        >>> network = Network([NAU(1, 1)])
        >>> _ = network.list[0].coefficients.data.fill_(1.0)
        >>> run.backward(network), network.list[0].coefficients.grad  # x_1 = 1 + a, the loss (x_1 - 3)**2 / 2
        (tensor([0.5000], dtype=torch.float64), tensor([[[-1.]]], dtype=torch.float64))
        """
        path = self.states(freeze(network), network.lanes)
        weights = self.weights
        residual = weights @ path - self.x
        error = residual.square().mean((1, 2))
        if self.gradient == "adjoint":
            self._backward_by_ode(network, path, residual * (2.0 / self.x.numel()))
            return error
        pull = weights.T @ (residual * (2.0 / self.x.numel()))  # dL/dx on the grid
        before = path[:, :-1].detach().requires_grad_()
        after = self.advance(network, before)
        slopes = [torch.autograd.grad(a.sum(), before, retain_graph=True)[0] for a in after.unbind(-1)]
        pulls = _propagate(torch.stack(slopes, 2), pull)
        after.backward(pulls.nan_to_num(0.0, 0.0, 0.0))
        return error

    def _backward_by_ode(self, network: Network, path: Tensor, jumps: Float[Tensor, "lanes n d"]) -> None:
        """Add the gradients of the adjoint ODE, which jumps by dL/dx at every sample."""
        times, at_sample = self.way_back()
        before = (self.interpolate(times) @ path).detach().requires_grad_()
        slope = network(before)
        slopes = [torch.autograd.grad(a.sum(), before, retain_graph=True)[0] for a in slope.unbind(-1)]
        lengths = -times.diff()
        with torch.no_grad():
            maps = torch.stack(slopes, 2)[:, :-1] * lengths[:, None, None]
            at, pulls = jumps[:, -1:], []
            for n, sample in enumerate(at_sample[1:]):
                pulls.append(at * lengths[n])
                at = torch.baddbmm(at, at, maps[:, n])
                at = at + jumps[:, sample : sample + 1] if sample >= 0 else at
            pulls.append(torch.zeros_like(at))
        slope.backward(torch.cat(pulls, 1).nan_to_num(0.0, 0.0, 0.0))

    def way_back(self) -> tuple[Float[Tensor, "m"], list[int]]:
        """Return where steps back begin and end, and which sample that is, -1 for none.

        >>> run = Rollout(torch.tensor([0.0, 1.5, 3.0]).double(), torch.ones(3, 1).double())
        >>> times, samples = run.way_back()
        >>> times.tolist(), samples
        ([3.0, 2.0, 1.5, 0.5, 0.0], [2, -1, 1, -1, 0])
        """
        times, samples = [], []
        stops = self.t.tolist()
        for k in range(len(stops) - 1, 0, -1):
            count = math.ceil((stops[k] - stops[k - 1]) / self.step - 1e-9)
            times += [stops[k] - i * self.step for i in range(count)]
            samples += [k] + [-1] * (count - 1)
        return torch.tensor([*times, stops[0]], dtype=self.x.dtype), [*samples, 0]


@torch.no_grad()
def _propagate(slopes: Float[Tensor, "lanes steps d d"], pull: Float[Tensor, "lanes grid d"]) -> Tensor:
    """Return dL/dx_{n+1} through all that follows, for every step n; slopes hold dphi_k/dx_i at [.., k, i]."""
    at = pull[:, -1:]
    pulls = [at]
    maps = slopes.unbind(1)
    for n in range(len(maps) - 1, 0, -1):
        at = torch.baddbmm(pull[:, n : n + 1], at, maps[n])
        pulls.append(at)
    return torch.cat(pulls[::-1], 1)


@torch.no_grad()
def freeze(network: Network) -> Field:
    """Return a network as a function of x (R, N, in) alone, with everything that only depends on parameters done beforehand."""
    parts = [_freeze_unit(unit) for unit in network.list]

    def field(x: Tensor) -> Tensor:
        for part in parts:
            x = part(x)
        return x

    return field


def _freeze_unit(unit: torch.nn.Module) -> Field:
    if isinstance(unit, NAU):
        sums = unit.effective("coefficients").mT.contiguous()
        return lambda x: x @ sums
    if isinstance(unit, Dense):
        weights, bias = unit.effective("weights").mT.contiguous(), unit.effective("bias")[:, None]
        bend: Field = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "none": lambda z: z}[unit.activation]
        return lambda x: bend(torch.baddbmm(bias, x, weights))
    if isinstance(unit, PowerUnit) and unit.gated and unit.per == "input":
        return _freeze_powers(unit)
    return unit


def _freeze_powers(unit: PowerUnit) -> Field:
    """Return products of powers, logarithms and phases mixed in one product."""
    info = torch.finfo(unit.exponents.dtype)
    g = unit.open_gate()[:, None]
    shift = 1.0 - g + (g * info.eps if unit.epsilon == "add" else 0.0)
    phase = -torch.pi * g
    w = unit.effective("exponents")
    v = unit.effective("exponents_im") if unit.complex else torch.zeros_like(w)
    mix = torch.cat([torch.cat([w, -v], 2), torch.cat([v, w], 2)], 1).mT.contiguous()  # (R, 2 in, 2 out)
    out = unit.n_out

    def powers(x: Tensor) -> Tensor:
        r = torch.addcmul(shift, g, x.abs()).clamp_min(info.tiny)
        mixed = torch.cat([r.log(), x.sign().clamp_max(0.0) * phase], 2) @ mix
        return mixed[..., :out].exp() * mixed[..., out:].cos()

    return powers
