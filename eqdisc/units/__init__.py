"""Units: the layers that a chain is made of, each of which says its mathematics twice, in torch and in SymPy."""

from __future__ import annotations

from .naive_npu import NaiveNPU
from .nau import NAU
from .npu import NPU
from .power import PowerUnit
from .real_npu import RealNPU
from .unit import Unit

UNITS: dict[str, type[NPU] | type[RealNPU] | type[NaiveNPU] | type[NAU]] = {
    unit.name: unit for unit in (NPU, RealNPU, NaiveNPU, NAU)
}

__all__ = ["NAU", "NPU", "UNITS", "NaiveNPU", "PowerUnit", "RealNPU", "Unit"]
