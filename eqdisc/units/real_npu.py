r"""Real Neural Power Unit: z_j = prod_i |x_i|**w_ji * cos(pi sum_i w_ji [x_i < 0]), w real (Heim et al. 2020, section 3)."""

from __future__ import annotations

from .npu import NPU


class RealNPU(NPU):
    """An NPU whose exponents are real; on inputs that are never negative the two are one function.

    >>> import torch
    >>> unit = RealNPU(2, 1, generator=torch.Generator())
    >>> unit.exponents.data[:] = torch.tensor([0.5, -1.0])
    >>> unit(torch.tensor([[[4.0, 2.0]]], dtype=torch.float64)).item()
    1.0
    """

    complex = False
