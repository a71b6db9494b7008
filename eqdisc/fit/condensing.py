r"""Condensing: the linearised Hermite-Simpson rule solved forward, one step after the other (Bock, 1983).

With the field's slopes J = df/dx and G = df/dtheta at both ends of a step h and, primed, at its middle, the rule's differential is

    L dx_n + R dx_{n+1} = -c_n + B dtheta,
    L = -I - h/6 (J_n + 4 J' (I/2 + h/8 J_n)),        R = I - h/6 (J_{n+1} + 4 J' (I/2 - h/8 J_{n+1})),
    B = h/6 (G_n + 4 (G' + h/8 J' (G_n - G_{n+1})) + G_{n+1}),

and one recursion dx_{n+1} = R^-1 (B dtheta - c_n - L dx_n) gives dx = P + Q dtheta + R dx0 on the whole grid. All numbers of a term move
the equations alike along the whole trajectory: G[e, p] = g_p(t) D[e, p], so that only g is kept a point.

Here in torch, for a GPU and for machines without Numba, a dozen calls a step; `sweeps` has the same in compiled code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Slopes:
    """The slopes of R lanes' fields at N points of K segments: J, g, and D, the same at every point."""

    by_state: Float[Tensor, "R K N s s"]
    by_number: Float[Tensor, "R K N P"]
    directions: Float[Tensor, "R s P"]

    @property
    def by_parameter(self) -> Float[Tensor, "R K N s P"]:
        """Return G, written out."""
        return self.by_number[..., None, :] * self.directions[:, None, None]


def condense(
    h: Float[Tensor, "K M"], defects: Float[Tensor, "R K M s"], nodes: Slopes, middles: Slopes, starts: bool = True
) -> Float[Tensor, "R K M1 s c"]:
    """Return the columns [P, Q, R] of dx = P + Q dtheta + R dx0 on the grid, those of dx0 only if `starts` may move.

    >>> rest = Slopes(torch.zeros(1, 1, 3, 1, 1), torch.ones(1, 1, 3, 1), torch.ones(1, 1, 1))  # dx/dt = theta
    >>> middles = Slopes(rest.by_state[:, :, 1:], rest.by_number[:, :, 1:], rest.directions)
    >>> condense(torch.tensor([[0.5, 0.25]]), torch.zeros(1, 1, 2, 1), rest, middles)[0, 0, :, 0].tolist()
    [[0.0, 0.0, 1.0], [0.0, 0.5, 1.0], [0.0, 0.75, 1.0]]
    """
    return _recur(*_solve(h, defects, nodes, middles), starts)


def _solve(h: Tensor, defects: Tensor, nodes: Slopes, middles: Slopes) -> tuple[Tensor, Tensor]:
    """Return T and F of dx_{n+1} = T dx_n + F [1, dtheta]."""
    h = h[..., None, None]
    j0, j1, jm = nodes.by_state[:, :, :-1], nodes.by_state[:, :, 1:], middles.by_state
    g0, g1, gm = nodes.by_parameter[:, :, :-1], nodes.by_parameter[:, :, 1:], middles.by_parameter
    eye = torch.eye(j0.shape[-1], dtype=j0.dtype, device=j0.device)
    left = -eye - h / 6 * (j0 + 4 * jm @ (eye / 2 + h / 8 * j0))
    right = eye - h / 6 * (j1 + 4 * jm @ (eye / 2 - h / 8 * j1))
    b = h / 6 * (g0 + 4 * (gm + h / 8 * (jm @ (g0 - g1))) + g1)
    forced = eliminate(right, torch.cat([-left, -defects[..., None], b], -1))
    return forced[..., : len(eye)], forced[..., len(eye) :]


def _recur(transfer: Tensor, forcing: Tensor, starts: bool) -> Tensor:
    r, k, m, s, width = forcing.shape
    columns = width + s * starts
    transfer = transfer.permute(2, 0, 1, 3, 4).reshape(m, r * k, s, s).contiguous()
    forcing = torch.nn.functional.pad(forcing, (0, columns - width)).permute(2, 0, 1, 3, 4)
    forcing = forcing.reshape(m, r * k, s, columns).contiguous()
    state = forcing.new_zeros(r * k, s, columns)
    if starts:
        state[..., width:] = torch.eye(s, dtype=state.dtype, device=state.device)
    out = [state]
    for n in range(m):
        state = torch.baddbmm(forcing[n], transfer[n], state)
        out.append(state)
    return torch.stack(out).view(m + 1, r, k, s, columns).permute(1, 2, 0, 3, 4)


def eliminate(a: Float[Tensor, "... d d"], b: Float[Tensor, "... d c"]) -> Float[Tensor, "... d c"]:
    """Solve a x = b for millions of small systems at once: Gauss-Jordan written out over d, near-identity a needs no pivots.

    >>> eliminate(torch.eye(2) * 2, torch.ones(2, 1)).ravel().tolist()
    [0.5, 0.5]
    """
    d = a.shape[-1]
    rows = [torch.cat([a[..., i, :], b[..., i, :]], -1) for i in range(d)]
    for i in range(d):
        pivot = rows[i][..., i : i + 1]
        rows[i] = rows[i] / torch.where(pivot.abs() < 1e-300, 1e-300, pivot)
        for j in range(d):
            if j != i:
                rows[j] = torch.addcmul(rows[j], rows[j][..., i : i + 1], rows[i], value=-1.0)
    return torch.stack([row[..., d:] for row in rows], -2)


__all__ = ["Slopes", "condense", "eliminate"]
