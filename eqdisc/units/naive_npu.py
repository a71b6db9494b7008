r"""Naive Neural Power Unit: z_j = Re prod_i x_i**(w_ji + i v_ji) without gates.

The formula that this becomes in real numbers, and what is done at zero, stand in `power`.
"""

from __future__ import annotations

from .power import PowerUnit


class NaiveNPU(PowerUnit):
    """Complex powers of all inputs, without gates (Heim et al. 2020, eq. 11).

    >>> import torch
    >>> NaiveNPU(3, 2, lanes=7)(torch.ones(7, 5, 3, dtype=torch.float64)).shape
    torch.Size([7, 5, 2])
    """

    name = "naivenpu"
    complex = True
    gated = False
