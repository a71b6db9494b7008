r"""Naive Neural Power Unit: an NPU without gates, z = exp(A log|x| - B k) cos(A k + B log|x|) (Heim et al. 2020, eq. 8)."""

from __future__ import annotations

from typing import Any

from .npu import NPU


class NaiveNPU(NPU):
    """The NPU before gates; its gradient vanishes where an input is near zero, which the gates mend.

    >>> import torch
    >>> sorted(name for name, _ in NaiveNPU(2, 1, generator=torch.Generator()).named_parameters())
    ['exponents', 'exponents_im']
    """

    def __init__(self, inputs: int, outputs: int, lanes: int = 1, **options: Any) -> None:
        super().__init__(inputs, outputs, lanes, **(options | {"gates": "none"}))
