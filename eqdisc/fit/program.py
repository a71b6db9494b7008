r"""Programs: a chain of units as the layers that `kernels` reads, and what the layers compute with.

Rows of values stand one behind the other: states, states above their floors, then what each layer leaves, extra rows before outputs, the chain's own
outputs last. A unit is one layer or a few:

    power, gates per input    POWER or COMPLEX
    power, gates per output   the same, one output each
    NALU                      DENSE (the gate), SUM, POWER without signs, then MIX: g a + (1 - g) m
    iNALU                     DENSE, SUM, POWER without signs, SIGN and PRODUCT (the sign s), then MIX: g a + (1 - g) m s
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..units import NALU, NAU, NMU, Dense, PowerUnit, Unit, iNALU
from ..units.chain import Chain
from ..units.inalu import LARGEST as LARGEST_LOG
from ..units.inalu import SMALLEST
from ..units.nalu import EPSILON

SUM, DENSE, POWER, COMPLEX, PRODUCT, SIGN, MIX = range(7)  # kinds of layers
KIND, N_IN, N_OUT, WEIGHTS, INPUT, EXTRA, OUTPUT, FLAG = range(8)  # columns of a program
LINEAR, TANH, SIGMOID = range(3)  # flags of DENSE
SIGNED, UNSIGNED = range(2)  # flags of POWER, whether |x| alone counts, and of MIX, whether there are signs
ADDED, LEAST, LARGEST = range(3)  # columns of limits: added to |x|, its least value, the largest logarithm of a product
ACTIVATIONS = {"none": LINEAR, "tanh": TANH, "sigmoid": SIGMOID}
PLAIN = (0.0, 0.0, np.inf)  # added to |x|, the least it may be, the largest logarithm of a product


@dataclass(frozen=True, eq=False)
class Program:
    """Layers (layers, 8), limits (layers, 3), rows of values a stage takes, and the weights (lanes, P), through which gradients flow."""

    layers: Int[np.ndarray, "layers 8"]
    limits: Float[np.ndarray, "layers 3"]
    rows: int
    weights: Float[Tensor, "lanes P"]


def translate(chain: Chain, floors: Float[Tensor, "d"], lanes: int) -> Program:
    """Write a chain as a program; a lane axis of length 1 is shared by all lanes, `floors` are the lowest states."""
    assembly = _Assembly(chain.states, floors.dtype, [floors.expand(lanes, -1)])
    source = chain.states  # states above their floors
    for unit in chain.units:
        assemble = next(write for kind, write in _ASSEMBLE if isinstance(unit, kind))
        source = assemble(assembly, unit, source)
    weights = torch.cat([w.flatten(1).expand(lanes, -1).to(floors.dtype) for w in assembly.weights], 1)
    dtype = np.dtype(str(floors.dtype).removeprefix("torch."))
    return Program(np.array(assembly.layers), np.array(assembly.limits, dtype), assembly.rows, weights)


def is_known(unit: torch.nn.Module) -> bool:
    """Tell whether a unit can be written as layers."""
    return any(isinstance(unit, kind) for kind, _ in _ASSEMBLE)


@dataclass(eq=False)
class _Assembly:
    """Layers, limits and weights so far, and how many rows of values they take."""

    states: int
    dtype: torch.dtype
    weights: list[Tensor]
    layers: list[list[int]] = field(default_factory=list)
    limits: list[tuple[float, float, float]] = field(default_factory=list)
    rows: int = 0
    width: int = 0

    def __post_init__(self) -> None:
        self.rows, self.width = 2 * self.states, self.states

    def room(self, rows: int) -> int:
        """Return the first of so many new rows."""
        first, self.rows = self.rows, self.rows + rows
        return first

    def add(
        self,
        kind: int,
        widths: tuple[int, int],
        source: int,
        out: int,
        *weights: Tensor,
        extra: int = 0,
        flag: int = 0,
        limits: tuple[float, float, float] = PLAIN,
    ) -> None:
        """Add a layer that reads rows from `source` on and writes to `out`."""
        self.layers.append([kind, *widths, self.width, source, extra, out, flag])
        self.limits.append(limits)
        self.weights += weights
        self.width += sum(w[0].numel() for w in weights)

    def add_unit(self, kind: int, unit: Unit, source: int, *weights: Tensor, flag: int = 0) -> int:
        """Add a unit that is one layer; return where its outputs stand."""
        out = self.room(unit.n_out)
        self.add(kind, (unit.n_in, unit.n_out), source, out, *weights, flag=flag)
        return out

    def add_powers(
        self, widths: tuple[int, int], source: int, out: int, *weights: Tensor, extra: int, limits: tuple, signed: bool
    ) -> None:
        """Add a layer of powers from gates, exponents and, if there are any, imaginary exponents."""
        kind = COMPLEX if len(weights) > 2 else POWER
        flag = SIGNED if signed else UNSIGNED
        self.add(kind, widths, source, out, *weights, extra=extra, flag=flag, limits=limits)


def _powers(assembly: _Assembly, unit: PowerUnit, source: int) -> int:
    info, n_in, n_out = torch.finfo(assembly.dtype), unit.n_in, unit.n_out
    limits = (info.eps if unit.epsilon == "add" else 0.0, info.tiny, np.inf)
    w = unit.effective("exponents")
    gates = unit.open_gate() if unit.gated else torch.ones_like(w[:, 0])
    parts = [w, unit.effective("exponents_im")] if unit.complex else [w]
    apart = gates.dim() == 3
    groups = [slice(j, j + 1) for j in range(n_out)] if apart else [slice(0, n_out)]
    extras = [assembly.room(2 * n_in + j.stop - j.start) for j in groups]
    out = assembly.room(n_out)
    for j, extra in zip(groups, extras, strict=True):
        own = [gates[:, j.start] if apart else gates, *(part[:, j] for part in parts)]
        widths = n_in, j.stop - j.start
        assembly.add_powers(widths, source, out + j.start, *own, extra=extra, limits=limits, signed=True)
    return out


def _sums(assembly: _Assembly, unit: NAU, source: int) -> int:
    return assembly.add_unit(SUM, unit, source, unit.effective("coefficients"))


def _dense(assembly: _Assembly, unit: Dense, source: int) -> int:
    weights = unit.effective("weights"), unit.effective("bias")
    return assembly.add_unit(DENSE, unit, source, *weights, flag=ACTIVATIONS[unit.activation])


def _products(assembly: _Assembly, unit: NMU, source: int) -> int:
    return assembly.add_unit(PRODUCT, unit, source, unit.chosen())


def _gated(assembly: _Assembly, unit: NALU, source: int) -> int:
    w = unit.mixed()
    gate = unit.effective("gain"), unit.effective("bias")
    return _mix(assembly, unit, source, gate, (w, w), (EPSILON, 0.0, np.inf))


def _gated_with_signs(assembly: _Assembly, unit: iNALU, source: int) -> int:
    product, gain = unit.mixed("product"), unit.effective("gain")
    gate = (gain, torch.zeros_like(gain[..., 0]))
    if unit.gate == "free":
        gate = (torch.zeros_like(product), gain[..., 0])
    signs = assembly.room(unit.n_in)
    assembly.add(SIGN, (unit.n_in, unit.n_in), source, signs)
    return _mix(assembly, unit, source, gate, (unit.mixed("sum"), product), (0.0, SMALLEST, LARGEST_LOG), signs)


def _mix(
    assembly: _Assembly,
    unit: Unit,
    source: int,
    gate: tuple[Tensor, Tensor],
    paths: tuple[Tensor, Tensor],
    limits: tuple[float, float, float],
    signs: int | None = None,
) -> int:
    """Add gate, sum, product and, where rows of signs are given, the product's sign, each n_out rows, then what mixes them."""
    n, widths = unit.n_out, (unit.n_in, unit.n_out)
    extra = assembly.room(2 * unit.n_in + n)
    mixed = assembly.room(n * (3 if signs is None else 4))
    assembly.add(DENSE, widths, source, mixed, *gate, flag=SIGMOID)
    assembly.add(SUM, widths, source, mixed + n, paths[0])
    ones = torch.ones_like(paths[1][:, 0])
    assembly.add_powers(widths, source, mixed + 2 * n, ones, paths[1], extra=extra, limits=limits, signed=False)
    if signs is not None:
        assembly.add(PRODUCT, widths, signs, mixed + 3 * n, paths[1].abs())
    out = assembly.room(n)
    assembly.add(MIX, (n, n), mixed, out, flag=UNSIGNED if signs is None else SIGNED)
    return out


_ASSEMBLE: tuple[tuple[type[Unit], Callable[[_Assembly, Any, int], int]], ...] = (
    (PowerUnit, _powers),
    (NAU, _sums),
    (Dense, _dense),
    (NMU, _products),
    (NALU, _gated),
    (iNALU, _gated_with_signs),
)

__all__ = ["Program", "is_known", "translate"]
