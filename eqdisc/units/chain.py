r"""The chain: units in sequence, R lanes of them side by side, as the right-hand side of an ODE.

    dx/dt = u_L(... u_2(u_1(x))),     x (R, N, d) -> dx/dt (R, N, d)

The chain of interest is RealNPU -> NAU, a sum of monomials: dx_e/dt = sum_j a_ej prod_i x_i**w_ji (Heim et al.
2020, section 4.1). Any chain can be written as symbols, by pushing the states' symbols through its units; a half-open
gate then shows as it is, g x + 1 - g.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..units import NAU, UNITS, RealNPU, Unit
from ..work.errors import OptionError, RunError, did_you_mean
from ..work.files import refuse_strange

if TYPE_CHECKING:
    import sympy as sp


class Chain(nn.Module):
    """Units whose widths meet, in R lanes; d states in, d derivatives out.

    >>> chain = Chain.from_specification("realnpu:9,nau", states=3, lanes=16, seed=0)
    >>> chain.specification, chain.lanes, chain(torch.ones(16, 5, 3, dtype=torch.float64)).shape
    ('realnpu:9,nau', 16, torch.Size([16, 5, 3]))
    """

    def __init__(self, units: Sequence[Unit]) -> None:
        super().__init__()
        if not units or units[0].n_in != units[-1].n_out:
            raise OptionError("A chain needs units that start and end with as many numbers as there are states.")
        for first, second in itertools.pairwise(units):
            if first.n_out != second.n_in or first.lanes != second.lanes:
                raise OptionError(
                    f"{first.name} gives {first.n_out} outputs in {first.lanes} lanes, but {second.name} takes "
                    f"{second.n_in} inputs in {second.lanes} lanes."
                )
        self.units = nn.ModuleList(units)

    @classmethod
    def from_specification(
        cls,
        specification: str,
        *,
        states: int,
        lanes: int = 1,
        seed: int | torch.Generator = 0,
        init_scale: float = 1.0,
        dtype: torch.dtype = torch.float64,
        **options: Any,
    ) -> Chain:
        """Build a chain from a text such as "realnpu:9,nau".

        Weights come from U(-a, a), a = init_scale * sqrt(6 / (in + out)).

        `options` go to every unit that has them: for power units gate_init=1.0 (the paper starts at 0.5), per="input" or
        "output" (whether the outputs share a gate), epsilon="clamp" or "add" (what is done at zero); see `units`.

        Raises:
            OptionError: a unit, a width or an option is not known, or the last unit's width is not the number of states.
        """
        parsed = parse_specification(specification, states)
        known = sorted({key for unit in UNITS.values() for key in unit.accepts})
        for key in options.keys() - set(known):
            raise OptionError(f"No unit has an option {key!r}.{did_you_mean(key, known)}")
        generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
        units: list[Unit] = []
        n_in = states
        for name, n_out in parsed:
            own = {key: value for key, value in options.items() if key in UNITS[name].accepts}
            units.append(
                UNITS[name](n_in, n_out, lanes=lanes, generator=generator, init_scale=init_scale, dtype=dtype, **own)
            )
            n_in = n_out
        return cls(units)

    @classmethod
    def from_terms(cls, exponents: Float[Tensor, "lanes m d"], coefficients: Float[Tensor, "lanes m d"]) -> Chain:
        """Build the RealNPU -> NAU chain of sums of monomials; coefficients[r, j, e] is that of term j in equation e.

        Gates are open; the supports are the entries that are not zero. A law with quantities is a deeper chain (`law.extraction`).

        >>> decay = Chain.from_terms(torch.tensor([[[1.0]]]), torch.tensor([[[-0.5]]]))
        >>> decay(torch.tensor([[[4.0]]])).item()
        -2.0
        """
        w, a = (v if v.is_floating_point() else v.double() for v in map(torch.as_tensor, (exponents, coefficients)))
        if w.dim() != 3 or w.shape != a.shape:
            raise OptionError(f"Exponents {tuple(w.shape)} and coefficients {tuple(a.shape)} must be (lanes, m, d).")
        return cls([power_layer(w), sum_layer(a.mT)])

    def forward(self, x: Float[Tensor, "lanes batch d"]) -> Float[Tensor, "lanes batch d"]:
        """Return dx/dt at x."""
        for unit in self.units:
            x = unit(x)
        return x

    @property
    def lanes(self) -> int:
        """Number of lanes R."""
        return self._list()[0].lanes

    @property
    def states(self) -> int:
        """Number of states d."""
        return self._list()[0].n_in

    @property
    def specification(self) -> str:
        """The text from which a chain of this form is built."""
        *body, last = self._list()
        return ",".join([*(f"{unit.name}:{unit.n_out}" for unit in body), last.name])

    def select(self, indices: Tensor | Sequence[int] | slice) -> Chain:
        """Return a copy that holds those lanes, in that order; `indices` may be numbers, a mask (R,) or a slice.

        >>> Chain.from_specification("realnpu:2,nau", states=1, lanes=4).select([2, 0]).lanes
        2
        """
        if not isinstance(indices, slice):
            indices = torch.as_tensor(indices, device=next(self.parameters()).device)
            indices = indices if indices.dtype == torch.bool else indices.long().reshape(-1)
        return Chain([copy.deepcopy(unit).keep(indices) for unit in self._list()])

    def symbols(self, names: Sequence[str], lane: int = 0, nonnegative: Sequence[bool] | None = None) -> list[sp.Expr]:
        """Return one lane's right-hand sides in the real symbols `names`, some states declared nonnegative.

        >>> decay = Chain.from_terms(torch.tensor([[[0.5]]]), torch.tensor([[[-2.0]]]))
        >>> decay.symbols(["x"], nonnegative=(True,)), decay.symbols(["x"])
        ([-2*sqrt(x)], [-2*cos(pi*Max(0, -sign(x))/2)*sqrt(Abs(x))])
        """
        import sympy as sp

        signs = nonnegative or (False,) * len(names)
        if len(names) != self.states or len(signs) != self.states:
            raise OptionError(f"This chain has {self.states} states; names {list(names)}, nonnegative {list(signs)}.")
        # symbols that know their sign go through the units and are then replaced by plain real ones
        inside = [sp.Dummy(name, real=True, nonnegative=s or None) for name, s in zip(names, signs, strict=True)]
        expressions: list[sp.Expr] = list(inside)
        for unit in self._list():
            expressions = unit.symbols(expressions, lane)
        plain = dict(zip(inside, (sp.Symbol(name, real=True) for name in names), strict=True))
        return [sp.sympify(e).xreplace(plain) for e in expressions]

    def parameter_vector(self) -> Float[Tensor, "lanes P"]:
        """Return all parameters of each lane in a row, units in order; gradients flow."""
        return torch.cat([p.flatten(1) for p, _ in self._supported()], 1)

    def support_vector(self) -> Float[Tensor, "lanes P"]:
        """Return all supports in the order of `parameter_vector`."""
        return torch.cat([s.flatten(1) for _, s in self._supported()], 1)

    @property
    def free(self) -> Bool[Tensor, "lanes P"]:
        """The entries of `parameter_vector` that are there and are trained."""
        parts = [(s != 0).flatten(1) & p.requires_grad for p, s in self._supported()]
        return torch.cat(parts, 1)

    @torch.no_grad()
    def load_vector(self, vector: Float[Tensor, "lanes P"]) -> None:
        """Write a `parameter_vector` back into the units."""
        pieces = [p for p, _ in self._supported()]
        widths = [p[0].numel() for p in pieces]
        if vector.shape != (self.lanes, sum(widths)):
            raise OptionError(f"The vector is {tuple(vector.shape)}; this chain holds {(self.lanes, sum(widths))}.")
        for p, part in zip(pieces, vector.split(widths, 1), strict=True):
            p.copy_(part.reshape(p.shape))

    def _list(self) -> list[Unit]:
        return list(self.units)  # type: ignore[arg-type]  # a ModuleList hides what it holds

    def _supported(self) -> list[tuple[Tensor, Tensor]]:
        return [pair for unit in self._list() for pair in unit.supported()]


def power_layer(exponents: Float[Tensor, "lanes out in"]) -> RealNPU:
    """Return a power unit with those exponents and open gates."""
    return _filled(
        RealNPU(*exponents.shape[:0:-1], lanes=len(exponents), dtype=exponents.dtype), "exponents", exponents
    )


def sum_layer(coefficients: Float[Tensor, "lanes out in"]) -> NAU:
    """Return an addition unit with those coefficients."""
    return _filled(
        NAU(*coefficients.shape[:0:-1], lanes=len(coefficients), dtype=coefficients.dtype), "coefficients", coefficients
    )


def _filled(unit: Any, name: str, value: Tensor) -> Any:
    unit = unit.to(value.device)
    with torch.no_grad():
        getattr(unit, name).copy_(value)
        getattr(unit, name + "_support").copy_(value != 0)
    return unit


def parse_specification(specification: str, states: int) -> list[tuple[str, int]]:
    """Return the units' names and widths; the last width is the number of states and need not be written.

    >>> parse_specification("realnpu:9,nau", states=3)
    [('realnpu', 9), ('nau', 3)]
    """
    *body, last = [part.strip() for part in specification.split(",")]
    parsed = [_parse_unit(part, specification, None) for part in body] + [_parse_unit(last, specification, states)]
    width = parsed[-1][1]
    if width != states:
        raise OptionError(
            f"Chain {specification!r} ends with {width} outputs, but there are {states} states; end it with 'nau', "
            f"as in '{last},nau'."
        )
    return parsed


def _parse_unit(part: str, specification: str, default: int | None) -> tuple[str, int]:
    name, colon, width = (piece.strip() for piece in part.partition(":"))
    if name not in UNITS:
        hint = did_you_mean(name, UNITS)
        raise OptionError(f"Chain {specification!r}: there is no unit {name!r}.{hint} Units are {', '.join(UNITS)}.")
    if not colon and default is not None:
        return name, default
    if not re.fullmatch(r"[0-9]{1,4}", width) or int(width) == 0:
        raise OptionError(f"Chain {specification!r}: {part!r} needs a width, as in '{name}:9'.")
    return name, int(width)


def save_chain(chain: Chain, path: str | Path) -> None:
    """Write a chain's parameters and supports as safetensors, its form in the metadata."""
    from safetensors.torch import save

    form = {
        "specification": chain.specification,
        "states": chain.states,
        "lanes": chain.lanes,
        "dtype": str(next(chain.parameters()).dtype).removeprefix("torch."),
        "options": [unit.options() for unit in chain._list()],
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in chain.state_dict().items()}
    Path(path).write_bytes(save(tensors, metadata={"eqdisc.chain": json.dumps(form)}))


class _Form(msgspec.Struct):
    """What `save_chain` says of a chain beside its tensors."""

    specification: str
    states: int
    lanes: int
    dtype: Literal["float32", "float64"]
    options: list[dict[str, Any]]


def load_chain(path: str | Path) -> Chain:
    """Read what `save_chain` wrote.

    Raises:
        RunError: the file is not there or holds no chain.
    """
    from safetensors import SafetensorError, safe_open

    try:
        refuse_strange(Path(path))
        with safe_open(str(path), framework="pt") as file:
            form = msgspec.json.decode((file.metadata() or {})["eqdisc.chain"], type=_Form)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        widths = parse_specification(form.specification, form.states)
        n_in, units, size = form.states, [], sum(value.numel() for value in tensors.values())
        for (name, n_out), options in zip(widths, form.options, strict=True):
            if form.lanes * n_in * n_out > size:
                raise ValueError(f"a unit of {n_in} inputs and {n_out} outputs has more numbers than the file")
            units.append(UNITS[name](n_in, n_out, lanes=form.lanes, dtype=getattr(torch, form.dtype), **options))
            n_in = n_out
        chain = Chain(units)
        chain.load_state_dict(tensors)
    except (OSError, SafetensorError, LookupError, ValueError, TypeError, RuntimeError, OptionError) as error:
        raise RunError(f"{path} holds no chain that can be read: {error}") from error
    return chain


__all__ = ["Chain", "load_chain", "parse_specification", "power_layer", "save_chain", "sum_layer"]
