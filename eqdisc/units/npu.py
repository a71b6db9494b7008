r"""Neural Power Unit: z_j = Re prod_i x_i**(w_ji + i v_ji), every input behind a relevance gate.

On inputs that are never negative, with v = 0 at the start, the gradient of v is exactly 0: the unit is the RealNPU.

The formula that this becomes in real numbers, and what is done at zero, stand in `power`.
"""

from __future__ import annotations

from .power import PowerUnit


class NPU(PowerUnit):
    """Neural Power Unit: complex powers of gated inputs (Heim et al. 2020, eqs. 14 and 15).

    >>> import torch
    >>> NPU(3, 2, lanes=7)(torch.ones(7, 5, 3, dtype=torch.float64)).shape
    torch.Size([7, 5, 2])
    """

    name = "npu"
    complex = True
    gated = True
