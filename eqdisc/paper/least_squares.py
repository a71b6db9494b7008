r"""Least squares for small networks with one output, by Levenberg and Marquardt's method (`levenberg`) on the logarithm of the mean of

    r_n**2,      r_n = (z_n - y_n) / s_n   or   r_n = log|z_n| - log|y_n|

In logarithms a product of powers is linear in its exponents, so that one step solves it from anywhere; signs come after. J is exact: a
sample is a lane of its own with its own copy of the parameters, so one backward pass gives every sample's gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..fit.levenberg import Limits, Normal, minimise
from .training import Network, load_vector, vector_of

FLOOR = 1e-32  # of mean squared residuals: rounding
Residual = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # z, y (R, N) -> r and dr/dz


def relative(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return (z - y) / |y| and its slope; where y is next to nothing, a hundredth of its mean stands for it.

    >>> relative(torch.tensor([[2.0]]), torch.tensor([[4.0]]))
    (tensor([[-0.5000]]), tensor([[0.2500]]))
    """
    size = torch.maximum(y.abs(), 0.01 * y.abs().mean(1, keepdim=True))
    return (z - y) / size, 1.0 / size


def proportional(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return (z - y) over the root mean square of y, and its slope.

    >>> proportional(torch.tensor([[2.0]]), torch.tensor([[4.0]]))
    (tensor([[-0.5000]]), tensor([[0.2500]]))
    """
    size = y.square().mean(1, keepdim=True).sqrt().expand_as(y)
    return (z - y) / size, 1.0 / size


def logarithmic(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return log |z / y| and its slope, which know nothing of signs.

    >>> [v.item() for v in logarithmic(torch.tensor([[-4.0]]), torch.tensor([[4.0]]))]
    [0.0, -0.25]
    """
    tiny = torch.finfo(z.dtype).tiny ** 0.5
    size = torch.where(z.abs() < tiny, tiny, z)
    return size.abs().log() - y.abs().clamp_min(tiny).log(), 1.0 / size


def jacobian(
    network: Network, x: Float[Tensor, "lanes batch in"], free: Sequence[str]
) -> tuple[Float[Tensor, "lanes batch"], Float[Tensor, "lanes batch P"]]:
    """Return the outputs and their derivatives by the parameters named, in that order.

    >>> from eqdisc.units import NAU
    >>> jacobian(Network([NAU(2, 1)]), torch.tensor([[[3.0, 4.0]]]).double(), ["units.0.coefficients"])[1].tolist()
    [[[3.0, 4.0]]]
    """
    lanes, n = network.lanes, x.shape[1]
    one_each = {
        name: value.detach().repeat_interleave(n, 0)
        for name, value in (*network.named_parameters(), *network.named_buffers())
    }
    wanted = [one_each[name].requires_grad_() for name in free]
    z = torch.func.functional_call(network, one_each, (x.expand(lanes, -1, -1).reshape(lanes * n, 1, -1),))
    slopes = torch.autograd.grad(z.sum(), wanted)
    return z.detach().reshape(lanes, n), torch.cat([s.reshape(lanes, n, -1) for s in slopes], 2)


@torch.no_grad()
def fit(
    network: Network,
    x: Float[Tensor, "lanes batch in"],
    y: Float[Tensor, "lanes batch"],
    residual: Residual,
    steps: int,
    free: Sequence[str],
) -> Float[Tensor, "lanes"]:
    """Move the parameters named, in place, and return each lane's mean squared residual (R,).

    >>> from eqdisc.units import RealNPU
    >>> x = 1 + torch.rand(1, 50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> power = Network([RealNPU(2, 1)])
    >>> bool(fit(power, x, x[..., 0] / x[..., 1], logarithmic, 5, ["units.0.exponents"]) < 1e-20)
    True
    """
    parameters = [network.get_parameter(name) for name in free]

    def evaluate(w: Tensor, _: None) -> Normal:
        load_vector(parameters, w)
        with torch.enable_grad():
            z, j = jacobian(network, x, free)
        r, bend = residual(z, y)
        j = j * bend[..., None]
        sound = torch.isfinite(r).all(1) & torch.isfinite(j).all((1, 2))
        r, j = torch.where(sound[:, None], r, 0.0), torch.where(sound[:, None, None], j, 0.0)
        square = r.square().sum(1) + FLOOR * r.shape[1]
        loss = torch.where(sound, (square / r.shape[1]).log(), torch.inf)
        return Normal(loss, (j.mT @ r[..., None])[..., 0] / square[:, None], j.mT @ j / square[:, None, None])

    start = vector_of(parameters)
    anywhere = Limits(*(start.new_full(start.shape[1:], v) for v in (-torch.inf, torch.inf, 0.0)))
    w, normal = minimise(evaluate, start, anywhere, steps, lambda step: False)
    load_vector(parameters, w)
    return normal.loss.exp()
