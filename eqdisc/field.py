r"""Fields: a chain of units as the right-hand side of a differential equation, dx/dt = chain(x), in R lanes.

A specification names units and widths from input to output; the last width is the number of states: `realnpu:9,nau` is the paper's
model of section 4.1, nine products read out by sums. A chain from terms is the same chain with its weights given: exponents W, gates open,
coefficients A; its supports mark what is there.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .errors import OptionError, did_you_mean
from .units import NAU, UNITS, RealNPU, Unit

if TYPE_CHECKING:
    import numpy as np
    import sympy as sp


class Chain(nn.Module):
    """Units in sequence, all with the same lanes. Raises OptionError for widths that do not meet.

    >>> chain = Chain.from_specification("realnpu:9,nau", states=3, lanes=4)
    >>> chain(torch.ones(4, 5, 3, dtype=torch.float64)).shape
    torch.Size([4, 5, 3])
    """

    def __init__(self, units: Sequence[Unit]) -> None:
        super().__init__()
        for left, right in zip(units[:-1], units[1:], strict=True):
            if left.outputs != right.inputs or left.lanes != right.lanes:
                raise OptionError(f"a unit of {left.outputs} outputs cannot feed one of {right.inputs} inputs.")
        self.units = nn.ModuleList(units)

    @classmethod
    def from_specification(
        cls, specification: str, *, states: int, lanes: int = 1, seed: int = 0, scale: float = 1.0, dtype: torch.dtype = torch.float64
    ) -> Chain:
        """Build a chain such as nau:4,realnpu:6,nau from random weights. Raises OptionError for a word that is no unit."""
        generator = torch.Generator().manual_seed(seed)
        units, width = [], states
        words = [word.strip().partition(":") for word in specification.split(",")]
        for place, (name, _, size) in enumerate(words):
            last = place == len(words) - 1
            if name not in UNITS:
                raise OptionError(f"--chain {specification}: {name!r} is no unit.{did_you_mean(name, UNITS)}")
            if not (size.isdigit() and int(size) > 0) and not (last and not size):
                raise OptionError(f"--chain {specification}: give {name} a width, as in {name}:9.")
            if last and size and int(size) != states:
                raise OptionError(f"--chain {specification}: the last width is the number of states, {states}; leave it out.")
            outputs = states if last else int(size)
            units.append(UNITS[name](width, outputs, lanes, generator=generator, scale=scale, dtype=dtype))
            width = outputs
        return cls(units)

    @classmethod
    def from_terms(cls, exponents: Float[Tensor, "lanes m d"], coefficients: Float[Tensor, "lanes m d"]) -> Chain:
        """Build the RealNPU -> NAU chain of given terms; coefficients[r, j, e] multiplies term j in equation e."""
        lanes, m, d = exponents.shape
        generator = torch.Generator()
        power, head = RealNPU(d, m, lanes, generator=generator), NAU(m, d, lanes, generator=generator)
        for unit, name, values in ((power, "exponents", exponents), (head, "coefficients", coefficients.mT)):
            getattr(unit, name).data.copy_(values)
            getattr(unit, f"{name}_support").copy_((values != 0).to(values.dtype))
        return cls([power, head])

    @property
    def lanes(self) -> int:
        return self.units[0].lanes

    @property
    def specification(self) -> str:
        names = {unit: name for name, unit in UNITS.items()}
        words = [f"{names[type(unit)]}:{unit.outputs}" for unit in self.units]
        return ",".join([*words[:-1], words[-1].partition(":")[0]])

    def forward(self, x: Float[Tensor, "lanes n d"]) -> Float[Tensor, "lanes n d"]:
        for unit in self.units:
            x = unit(x)
        return x

    def select(self, lanes: Tensor | Sequence[int]) -> Chain:
        """Return a copy with those lanes."""
        index = torch.as_tensor(lanes)
        part = copy.deepcopy(self)
        for unit in part.units:
            for name, value in (*unit.named_parameters(), *unit.named_buffers()):
                picked = value.detach()[index.to(value.device)].clone()
                setattr(unit, name, nn.Parameter(picked) if isinstance(value, nn.Parameter) else picked)
            unit.lanes = len(index)
        return part

    def terms(self, lane: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Return exponents (m, d) and coefficients (m, d) of a RealNPU -> NAU lane. Raises OptionError unless every gate is 0 or 1."""
        power, head = self.units[0], self.units[-1]
        if len(self.units) != 2 or not isinstance(power, RealNPU) or not isinstance(head, NAU):
            raise OptionError(f"a chain {self.specification} is no sum of terms; extract it by symbols.")
        gate = power.effective("gate")[lane].detach()
        if not bool(((gate <= 0) | (gate >= 1)).all()):
            raise OptionError("a gate stands between 0 and 1; prune the chain before it is read.")
        w = power.effective("exponents")[lane].detach() * (gate >= 1)
        return w.cpu().numpy().copy(), head.effective("coefficients")[lane].detach().mT.cpu().numpy().copy()

    def symbols(self, names: Sequence[str], lane: int = 0, nonnegative: Sequence[bool] | None = None) -> list[sp.Expr]:
        """Push state symbols through the chain: the right-hand sides of one lane as SymPy expressions."""
        import sympy as sp

        signs = nonnegative if nonnegative is not None else [False] * len(names)
        x = [sp.Symbol(n, nonnegative=True) if s else sp.Symbol(n, real=True) for n, s in zip(names, signs, strict=True)]
        for unit in self.units:
            x = unit.symbols(x, lane)
        plain = {s: sp.Symbol(s.name, real=True) for e in x for s in e.free_symbols}
        return [e.subs(plain) for e in x]


def save_chain(chain: Chain, path: str | Path) -> None:
    """Write weights and supports as safetensors, the specification in the header."""
    from safetensors.torch import save_file

    tensors = {k: v.contiguous() for k, v in chain.state_dict().items()}
    states = chain.units[-1].outputs
    save_file(tensors, str(path), {"specification": chain.specification, "states": str(states), "lanes": str(chain.lanes)})


def load_chain(path: str | Path) -> Chain:
    """Read what `save_chain` wrote. Raises OptionError if the header names no chain."""
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(str(path), "pt") as file:
        header = file.metadata() or {}
    if not {"specification", "states", "lanes"} <= header.keys():
        raise OptionError(f"{path}: no chain of eqdisc is stored here.")
    chain = Chain.from_specification(header["specification"], states=int(header["states"]), lanes=int(header["lanes"]))
    chain.load_state_dict(load_file(str(path)))
    return chain
