r"""Dimensions: which unit a coefficient has, and which terms may be added.

In dx_e/dt = ... + a prod_i x_i**w_i + ... every term has the unit of the left side, so

    [a] = [x_e] / [t] / prod_i [x_i]**w_i.

A law is dimensional if its coefficients are rates, [a] = 1 / [t]**k: then nothing but the states' own dimensions makes terms alike, and
sqrt(S I), S I / N may be added to S, but S I may not. With b_i the exponents of all base dimensions but time in [x_i], that is sum_i w_i b_i =
b_e, a linear condition on exponents, and a term that misses it is moved to the nearest that does not.

Units are read by pint; a word that it does not know (persons, hares) is a dimension of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from ..work.errors import OptionError, did_you_mean
from .dataset import Dataset

if TYPE_CHECKING:
    import pint

TIME = "[time]"
SAME = 1e-6
_FACTOR = r"\(*\s*(?:1|[^\W\d]\w*|%|°\w*)\s*(?:(?:\*\*|\^)\s*[-+]?\d{1,2}(?:\.\d{1,2})?)?\s*\)*"
_UNIT = re.compile(rf"{_FACTOR}(?:\s*[*/·\s]\s*{_FACTOR}){{0,9}}")
_LONGEST = 60
_OWN = r"unit_((?:[0-9a-f]{2})+)"


def read_units(text: str | Mapping[str, str], data: Dataset) -> dict[str, str]:
    """Return the units of columns from `S=persons,t=day`. Raises OptionError for a name that is no column.

    >>> from eqdisc.data.dataset import Trajectory
    >>> read_units("S=mg/L, t=day", Dataset((Trajectory([0, 1], [[1.0], [2.0]]),), states=("S",)))
    {'S': 'mg/L', 't': 'day'}
    """
    columns = (data.time, *data.states, *data.inputs)
    if isinstance(text, str):
        pairs = [part.partition("=") for part in text.split(",") if part.strip()]
        wrong = next((name for name, equals, unit in pairs if not equals or not unit.strip()), None)
        if wrong is not None:
            raise OptionError(f"--units holds {wrong!r}; write each column with its unit, such as S=persons,t=day.")
        text = {name.strip(): unit.strip() for name, _, unit in pairs}
    for name in text:
        if name not in columns:
            raise OptionError(
                f"--units names {name!r}, but the columns are {', '.join(columns)}.{did_you_mean(name, columns)}"
            )
    return dict(text)


@dataclass(frozen=True, eq=False)
class Dimensions:
    """Units of the columns of joined data (see `inputs`), None where unknown, and of time.

    >>> dimensions = Dimensions((parse_unit("persons"), parse_unit("persons")), parse_unit("day"))
    >>> dimensions.of_coefficient(np.array([0.5, 0.5]), 0), dimensions.of_coefficient(np.array([1.0, 1.0]), 0)
    ('1/d', '1/d/persons')
    """

    units: tuple[pint.Unit | None, ...]
    time: pint.Unit | None

    @classmethod
    def of(cls, data: Dataset) -> Dimensions:
        """Read the units that the data name."""
        plain = data.d - data.grouped
        read = lambda name: parse_unit(data.units[name]) if name in data.units else None  # noqa: E731
        return cls(tuple(read(name) for name in data.states[:plain]), read(data.time))

    def of_coefficient(self, powers: Float[np.ndarray, "c"], e: int) -> str:
        """Return the unit of the coefficient of a term of those powers in equation e, empty where that of a column is unknown."""
        left = self.units[e]
        if left is None or self.time is None:
            return ""
        below = self.of_product(powers)
        return "" if below is None else write_unit(left / self.time / below)

    def of_denominator(self, powers: Float[np.ndarray, "c"]) -> str:
        """Return the unit of K in K + prod_i x_i**u_i, from the powers u."""
        product = self.of_product(powers) if any(self.units) else None
        return "" if product is None else write_unit(product)

    def agree(self, powers: Float[np.ndarray, "m c"], e: int) -> Bool[np.ndarray, "m"]:
        """Tell which terms, of those powers, may stand in equation e with a coefficient that is a rate."""
        return (np.abs(self._misfit(powers, e)) < SAME).all(1)

    def miss(self, powers: Float[np.ndarray, "m c"], e: int) -> Float[np.ndarray, "m c"]:
        """Return what has to be taken from the powers of terms, at least, so that they may stand in equation e."""
        off = self._misfit(powers, e) @ np.linalg.pinv(self._base)
        return np.pad(off, ((0, 0), (0, powers.shape[1] - off.shape[1])))

    def _misfit(self, powers: np.ndarray, e: int) -> np.ndarray:
        return powers[:, : len(self.units)] @ self._base - self._base[e]

    @cached_property
    def _base(self) -> Float[np.ndarray, "n b"]:
        """Exponents of the base dimensions, but time, in every column's unit."""
        found = [{} if u is None else dict(u.dimensionality) for u in self.units]
        names = sorted({name for unit in found for name in unit} - {TIME})
        return np.array([[float(str(unit.get(name, 0.0))) for name in names] for unit in found]).reshape(len(found), -1)

    def of_product(self, exponents: np.ndarray) -> Any:
        """Return the unit of a product of powers of the columns, None where one is unknown."""
        product = parse_unit("")
        for unit, exponent in zip(self.units, exponents, strict=False):
            if exponent != 0 and unit is None:
                return None
            if exponent != 0 and unit is not None:
                product = product * unit ** round(float(exponent), 10)
        return product


def parse_unit(text: str) -> pint.Unit:
    """Return the unit that a text names; what pint cannot read is a unit of its own.

    >>> write_unit(parse_unit("mg/L") ** -1), write_unit(parse_unit("10^3 ha"))
    ('l/mg', '10^3 ha')
    """
    registry, text = _registry(), text.strip()
    if not text:
        return registry.Unit("")
    plain = re.sub(r"([^\W\d_])(-\d)", r"\1^\2", text)  # m s-1
    plain = re.sub(r"\s*(\*\*|[*/^])\s*", r"\1", " ".join(plain.split()))  # one way to read each, for _UNIT
    if len(plain) <= _LONGEST and _UNIT.fullmatch(plain):
        for name in re.findall(r"[^\W\d]\w*", plain):
            if name not in registry:
                registry.define(f"{name} = [{name}]")
        plain = plain.replace("^", "**")
        try:
            return registry.Unit(re.sub(r"[·\s]+", "*", plain))
        except Exception:  # whatever pint's tokenizer, parser and arithmetic raise
            pass
    name = "unit_" + text.encode().hex()  # see _OWN
    if name not in registry:
        registry.define(f"{name} = [{name}]")
    return registry.Unit(name)


def write_unit(unit: pint.Unit) -> str:
    """Write a unit in one line of ASCII where its parts are: 1/d/persons^0.5."""
    text = f"{unit:~C}".replace("**", "^")
    own = lambda found: bytes.fromhex(found[1]).decode()  # noqa: E731
    alone = re.fullmatch(_OWN, text)
    return own(alone) if alone else re.sub(_OWN, lambda found: f"({own(found)})", text)


@lru_cache(maxsize=1)
def _registry() -> Any:
    import pint

    return pint.UnitRegistry()
