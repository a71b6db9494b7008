"""Units: the layers that chains are made of, one file each, under the names by which a specification calls them."""

from .naive_npu import NaiveNPU
from .nau import NAU
from .npu import NPU
from .real_npu import RealNPU
from .unit import Unit

UNITS: dict[str, type[Unit]] = {"npu": NPU, "realnpu": RealNPU, "naivenpu": NaiveNPU, "nau": NAU}

__all__ = ["NAU", "NPU", "UNITS", "NaiveNPU", "RealNPU", "Unit"]
