"""Units: the layers that a chain is made of, each of which says its mathematics twice, in torch and in SymPy."""

from __future__ import annotations

from .dense import Dense
from .inalu import iNALU
from .naive_npu import NaiveNPU
from .nalu import NALU
from .nau import NAU
from .nmu import NMU
from .npu import NPU
from .power import PowerUnit
from .real_npu import RealNPU
from .unit import Unit

Kind = type[NPU] | type[RealNPU] | type[NaiveNPU] | type[NAU] | type[NMU] | type[NALU] | type[iNALU] | type[Dense]
UNITS: dict[str, Kind] = {unit.name: unit for unit in (NPU, RealNPU, NaiveNPU, NAU, NMU, NALU, iNALU, Dense)}

__all__ = ["NALU", "NAU", "NMU", "NPU", "UNITS", "Dense", "NaiveNPU", "PowerUnit", "RealNPU", "Unit", "iNALU"]
