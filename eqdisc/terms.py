r"""Terms in lanes: the parameters of a RealNPU -> NAU chain whose gates are binary.

    dx_e/dt = sum_j A[j, e] m_j(x),     m_j(x) = prod_i |x_i|**W[j, i] * s(x),

with s(x) = (-1)**(number of odd powers of negative states): states that change sign carry whole exponents, for
which the joint phase cos(pi sum_i w_i [x_i < 0]) of the RealNPU is that sign. Exponents W and coefficients A lead
with a lane axis; lanes with fewer terms are padded with terms that no equation uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .field import Chain


@dataclass(frozen=True, eq=False)
class Terms:
    """R lanes of m terms over d states; a coefficient that is exactly zero is not there.

    >>> decay = Terms.of([(np.array([[1.0]]), np.array([[-0.5]]), None)])
    >>> decay.exponents.shape, decay.lanes
    (torch.Size([1, 1, 1]), 1)
    """

    exponents: Float[Tensor, "lanes m d"]
    coefficients: Float[Tensor, "lanes m d"]
    free: Bool[Tensor, "lanes m d"]  # exponents that are estimated; the others stand at a chosen value
    flux: Float[Tensor, "lanes m d d"] | None = (
        None  # [j, e] is how all coefficients of term j move with that of equation e
    )

    @classmethod
    def of(cls, models: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray | None]], device: str = "cpu") -> Terms:
        """Stack models (exponents (m, d), coefficients (m, d), free (m, d) or None for none) as lanes, padded alike."""
        width, d = max(len(w) for w, _, _ in models), models[0][0].shape[1]
        w, a = np.zeros((2, len(models), width, d))
        free = np.zeros((len(models), width, d), bool)
        for lane, (exponents, coefficients, loose) in enumerate(models):
            m = len(exponents)
            w[lane, :m], a[lane, :m] = exponents, coefficients
            free[lane, :m] = False if loose is None else loose
        return cls(*(torch.as_tensor(v, device=device) for v in (w, a, free)))

    @property
    def lanes(self) -> int:
        return self.exponents.shape[0]

    @property
    def support(self) -> Bool[Tensor, "lanes m d"]:
        """Coefficients that are there."""
        return self.coefficients != 0

    def select(self, lanes: Tensor | slice) -> Terms:
        """Return those lanes."""
        flux = None if self.flux is None else self.flux[lanes]
        return Terms(self.exponents[lanes], self.coefficients[lanes], self.free[lanes], flux)

    @property
    def directions(self) -> Float[Tensor, "lanes m d d"]:
        """How the coefficients of a term move with each of them: alone, unless some are tied."""
        eye = torch.eye(self.exponents.shape[-1], dtype=self.exponents.dtype, device=self.exponents.device)
        return eye.expand(*self.exponents.shape, -1) if self.flux is None else self.flux

    def model(self, lane: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return one lane in NumPy without its padding: exponents (m, d), coefficients (m, d), free (m, d)."""
        used = self.support[lane].any(-1)
        w, a, free = (v[lane][used].cpu().numpy().copy() for v in (self.exponents, self.coefficients, self.free))
        return w, a, free

    def chain(self, lane: int) -> Chain:
        """Return one lane as the chain that it is: RealNPU units with open gates, read out by a NAU."""
        w, a, _ = self.model(lane)
        return Chain.from_terms(torch.as_tensor(w)[None], torch.as_tensor(a)[None])


def monomials(
    exponents: Float[Tensor, "lanes m d"], x: Float[Tensor, "lanes n d"], positive: Bool[Tensor, "d"], tiny: float
) -> tuple[Float[Tensor, "lanes n m"], Float[Tensor, "lanes n d"]]:
    """Return the terms at x and log|x|, with |x| clamped from below at `tiny` (zero to a power, as mathematics wants)."""
    log_x = x.abs().clamp_min(tiny).log()
    size = (log_x @ exponents.transpose(-1, -2)).clamp(-40.0, 40.0).exp()
    if not bool(positive.all()):
        whole = torch.where(positive, 0.0, exponents).round()
        odd = ((x < 0) & ~positive).to(x.dtype) @ whole.transpose(-1, -2)
        size = size * torch.cos(torch.pi * odd)  # the joint phase; exactly 1 or -1 at whole numbers
    return size, log_x
