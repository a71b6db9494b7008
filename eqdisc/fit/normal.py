r"""Normal equations: what is left of the linearised fit once every segment's start is eliminated.

With residuals r and the columns dx = P + Q dtheta + R dx0 at the samples, all weighed by 1 / sigma, B = [r - P, Q] and S = R,

    dx0 = (S^T S)^-1 S^T B [1, -dtheta],      [., g; g, H] = B^T (1 - S (S^T S)^-1 S^T) B.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .mesh import Mesh

RIDGE = 1e-11  # of the starts' scaled matrix


@dataclass(frozen=True, eq=False)
class Projected:
    """Residuals and columns B at the samples of all segments, end to end; S^T B, (S^T S)^-1 S^T B and the steps of the starts S."""

    columns: Float[Tensor, "R n c"]
    cross: Float[Tensor, "R Ks c"]
    solved: Float[Tensor, "R Ks c"]
    starts: Float[Tensor, "R K s c"]

    def gram(self, rows: slice, columns: slice) -> Float[Tensor, "R r c"]:
        """Return a block of B^T (1 - S (S^T S)^-1 S^T) B."""
        return (
            self.columns[..., rows].mT @ self.columns[..., columns]
            - self.cross[..., rows].mT @ self.solved[..., columns]
        )


def project(
    mesh: Mesh,
    columns: Float[Tensor, "R K M1 s c"],
    x: Float[Tensor, "R K M1 d"],
    sigma: Float[Tensor, "R d"],
    held: tuple[Tensor, Tensor] | None = None,
) -> Projected:
    """Weigh residuals and columns at the samples and eliminate the starts, segment by segment.

    `held` are starts (R, K, s) that are not free, and the step that each of them takes.
    """
    s = columns.shape[3]
    segment = torch.arange(len(mesh.trajectory), device=x.device)[:, None]
    seen = columns[:, segment, mesh.sample]  # (R, K, n, s, c)
    weight = (mesh.weight / sigma[:, None, None])[..., :s]
    residual = (mesh.x - x[:, segment, mesh.sample])[..., :s] * weight
    seen = (seen * weight[..., None]).flatten(2, 3)
    residual = residual.flatten(2)[..., None] - seen[..., :1]
    p = seen.shape[-1] - 1 - s
    starts = seen[..., 1 + p :]
    if held is not None:
        fixed, step = held
        residual = residual - starts @ torch.where(fixed, step, 0.0)[..., None]
        starts = torch.where(fixed[:, :, None], 0.0, starts)
    rest = torch.cat([residual, seen[..., 1 : 1 + p]], -1)
    size = starts.norm(dim=-2, keepdim=True).clamp_min(1e-150)
    starts = starts / size
    gram = starts.mT @ starts + RIDGE * torch.eye(s, dtype=x.dtype, device=x.device)
    cross = starts.mT @ rest
    back = torch.linalg.solve_ex(gram, cross)[0]
    moved = back / size.mT
    if held is not None:
        moved[..., 0] = torch.where(held[0], held[1], moved[..., 0])
    return Projected(rest.flatten(1, 2), cross.flatten(1, 2), back.flatten(1, 2), moved)


__all__ = ["Projected", "project"]
