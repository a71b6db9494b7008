r"""Integration: a neural field along all segments of all lanes, through torchdiffeq.

torchdiffeq knows one time and one step for everything. Here every segment runs on a clock of its own, s, on which its j-th sample is s = j,

    dx/ds = f(x) (t_{j+1} - t_j)    for j <= s < j + 1,

so that uneven times, own spans and many trajectories are one batch. The step size answers to the worst lane, each lane judged by its own norm. A
lane that leaves the finite numbers is frozen where it stands: its field becomes zero, its status DIVERGED, its states NaN from there on; the
others end as if it had not been there, up to the tolerance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchdiffeq import odeint

from .status import Status

Field = Callable[[Tensor], Tensor]
MOST_CALLS = 20_000  # field evaluations a solve may take before its stiffest lane is frozen


@dataclass(frozen=True, eq=False)
class Integration:
    """States x (R, K, n, d), NaN from where a lane died, and each lane's `Status` (R,)."""

    x: Float[Tensor, "R K n d"]
    status: Int[Tensor, "R"]


def integrate(
    field: Field,
    x0: Float[Tensor, "R K d"],
    t: Float[Tensor, "K n"],
    *,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    method: str = "dopri5",
    bound: float = 1e6,
) -> Integration:
    """Integrate dx/dt = field(x) from x0 through each segment's times; gradients flow to x0 and to the field's parameters.

    >>> decay = integrate(lambda x: -x, torch.ones(1, 1, 1), torch.tensor([[0.0, 1.0, 3.0]]))
    >>> [round(v, 4) for v in decay.x.flatten().tolist()]
    [1.0, 0.3679, 0.0498]
    """
    guard = _Guard(field, t, len(x0), bound)
    s = torch.arange(t.shape[1], dtype=x0.dtype, device=x0.device)
    options = {"norm": guard.norm(x0.shape), "jump_t": s[1:-1]} if t.shape[1] > 2 and _uneven(t) else {"norm": guard.norm(x0.shape)}
    for _ in range(len(x0) + 1):
        guard.calls = 0
        try:
            x = odeint(guard, x0, s, rtol=rtol, atol=atol, method=method, options=options if method == "dopri5" else None)
            break
        except (AssertionError, _TooManyCalls):  # torchdiffeq reports step underflow as an AssertionError
            guard.freeze_stiffest()
    else:
        x = x0.detach().expand(len(s), *x0.shape)
    x = x.permute(1, 2, 0, 3)
    gone = guard.status != Status.OK
    if bool(gone.any()):
        late = s >= guard.died[:, None].floor() + 1
        x = torch.where((gone[:, None] & late)[:, None, :, None], torch.nan, x)
    return Integration(x, guard.status.clone())


def _uneven(t: Tensor) -> bool:
    gaps = t.diff(dim=1)
    return bool((gaps - gaps[:, :1]).abs().max() > 1e-9 * gaps.abs().max())


class _TooManyCalls(Exception):
    """A solve takes too long; some lane is stiff."""


class _Guard(torch.nn.Module):
    """The field on the common clock, with dead lanes frozen."""

    def __init__(self, field: Field, t: Tensor, lanes: int, bound: float) -> None:
        super().__init__()
        self.field, self.gaps, self.bound = field, t.diff(dim=1), bound
        self.status = torch.full((lanes,), int(Status.OK), device=t.device)
        self.died = torch.full((lanes,), torch.inf, dtype=t.dtype, device=t.device)
        self.speed = torch.zeros(lanes, dtype=t.dtype, device=t.device)
        self.calls = 0

    def forward(self, s: Tensor, x: Float[Tensor, "R K d"]) -> Float[Tensor, "R K d"]:
        self.calls += 1
        if self.calls > MOST_CALLS:
            raise _TooManyCalls
        index = min(max(int(s), 0), self.gaps.shape[1] - 1)
        dead = self.status != Status.OK
        safe = torch.where(dead[:, None, None] | ~torch.isfinite(x) | (x.abs() > self.bound), 1.0, x)
        dxds = self.field(safe) * self.gaps[:, index, None].to(x.dtype)
        with torch.no_grad():
            lost = (~torch.isfinite(x) | (x.abs() > self.bound) | ~torch.isfinite(dxds)).flatten(1).any(1) & ~dead
            if bool(lost.any()):
                self._bury(lost, float(s), Status.DIVERGED)
            self.speed = dxds.detach().flatten(1).norm(dim=1)
        return torch.where((self.status != Status.OK)[:, None, None], 0.0, dxds)

    def _bury(self, lanes: Tensor, s: float, status: Status) -> None:
        self.status = torch.where(lanes, int(status), self.status)
        self.died = torch.where(lanes, s, self.died)

    def freeze_stiffest(self) -> None:
        """Give up the lane that moves fastest, so that the others can go on."""
        speed = torch.where(self.status == Status.OK, self.speed.nan_to_num(torch.inf), -1.0)
        lane = torch.zeros_like(self.status, dtype=torch.bool)
        lane[int(speed.argmax())] = True
        self._bury(lane, 0.0, Status.STEP_UNDERFLOW)

    def norm(self, shape: torch.Size) -> Callable[[Tensor], Tensor]:
        """Return the largest of the living lanes' own root mean squares."""

        def norm(error: Tensor) -> Tensor:
            each = error.reshape(shape).square().mean((1, 2)).sqrt()
            return torch.where((self.status == Status.OK) & torch.isfinite(each), each, 0.0).max()

        return norm
