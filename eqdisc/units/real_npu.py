r"""Real Neural Power Unit: z_j = prod_i |x_i|**w_ji * cos(pi sum_i w_ji [x_i < 0]), inputs behind gates.

The formula that this becomes in real numbers, and what is done at zero, stand in `power`.
"""

from __future__ import annotations

from .power import PowerUnit


class RealNPU(PowerUnit):
    """Neural Power Unit with real powers: a monomial a unit wherever gates are 0 or 1 (Heim et al. 2020, section 3.2).

    >>> import torch
    >>> RealNPU(3, 2, lanes=7)(torch.ones(7, 5, 3, dtype=torch.float64)).shape
    torch.Size([7, 5, 2])
    """

    name = "realnpu"
    complex = False
    gated = True
