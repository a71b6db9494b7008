"""Finding: what `discover` returns, and what result.json, tables and a notebook say of it."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .. import __version__
from ..data.dataset import Dataset
from ..data.frames import tabulate_front, tabulate_parameters
from ..fit.fit import LEVEL
from ..law.equations import Equations, Parameter, law_of_group
from ..units.chain import Chain
from ..work.config import FitConfig
from ..work.errors import DataError
from ..work.status import Status
from .card import write_finding

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TermUncertainty:
    """One term of one equation: how often it was included and, if it is the pick's, its numbers with their intervals.

    `coefficient` is (value, low, high) in the user's units, `exponents` the same for each state whose power is free.
    """

    equation: str
    term: str
    inclusion: float
    coefficient: tuple[float, float, float] | None
    exponents: dict[str, tuple[float, float, float]]


@dataclass(frozen=True)
class Bootstrap:
    """What `count` replicates say: the share in which the pick's own structure won, and every term."""

    count: int
    level: float
    won: float
    terms: tuple[TermUncertainty, ...]


@dataclass(frozen=True, eq=False)
class FrontEntry:
    """One law of the front, as printed: what it costs to write and how it errs."""

    equations: Equations
    complexity: int
    parameters: int
    train: float
    unseen: float | None
    description_length: float
    status: Status = Status.OK


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    return {"eqdisc": __version__} | versions


@dataclass(frozen=True, eq=False)
class Finding:
    """What was found: the front by rising complexity, the pick, the verdict, and everything needed to repeat it."""

    data: Dataset
    front: tuple[FrontEntry, ...]
    selected: int
    verdict: str
    reasons: tuple[str, ...]
    alternatives: tuple[Equations, ...]
    parameters: tuple[Parameter, ...]
    initial: tuple[dict[str, Any], ...]
    sigma: dict[str, float]
    errors: dict[str, Any]
    chain: Chain | None
    config: FitConfig
    device: str
    seconds: float
    versions: dict[str, str] = field(default_factory=_versions)
    bootstrap: Bootstrap | None = None
    flat: tuple[str, ...] = ()
    fitted: int = 0
    extraction: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.selected < len(self.front):
            raise DataError(f"the pick {self.selected} is not on the front of {len(self.front)} laws.")

    @property
    def equations(self) -> Equations:
        """The pick; with groups, that of the geometric mean of their coefficients."""
        return self._typical(self.front[self.selected].equations)

    def _typical(self, law: Equations) -> Equations:
        return law_of_group(law, self.data.groups, None) if len(self.data.groups) > 1 else law

    @property
    def groups(self) -> dict[str, Equations]:
        """The law of each group, where the data have groups."""
        law, names = self.front[self.selected].equations, self.data.groups
        return {g: law_of_group(law, names, g) for g in names} if len(names) > 1 else {}

    @property
    def seed(self) -> int:
        """The seed of the random starts."""
        return self.config.seed

    def _repr_html_(self) -> str:
        return str(write_finding(self.result(), self.equations, self.alternatives, self.data.formula_names))

    def front_table(self) -> pd.DataFrame:
        """Return the front as a DataFrame, one law a row: pick, complexity, errors, description length, equations."""
        return tabulate_front(self._entries(), self.selected)

    def parameters_table(self) -> pd.DataFrame:
        """Return the numbers of the law as a DataFrame: name, value, the ends of its interval, unit, equations it stands in."""
        return tabulate_parameters([asdict(p) for p in self.parameters])

    def result(self) -> dict[str, Any]:
        """Return the contents of result.json."""
        data, law = self.data, self.equations
        return {
            "format": 1,
            "eqdisc": self.versions["eqdisc"],
            "states": list(data.states),
            "inputs": [f"{name}:hold" if name in data.held else name for name in data.inputs],
            "time": data.time,
            "symbols": dict(data.symbols),
            **self._texts(law),
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "alternatives": [{"equations": self._sides(self._typical(a).strings())} for a in self.alternatives],
            "extraction": self.extraction,
            "parameters": self._numbers(),
            "fluxes": [{"rate": str(f.rate), "stoichiometry": dict(f.stoichiometry)} for f in law.fluxes()],
            "invariants": list(law.invariants()),
            "flat": list(self.flat),
            "initial": list(self.initial),
            "sigma": self.sigma,
            "errors": self.errors,
            "front": self._entries(),
            "selected": self.selected,
            "ci_level": LEVEL,
            "data": {
                "file": data.file,
                "rows": data.rows,
                "trajectories": len(data.trajectories),
                "fitted": self.fitted,
            },
            "config": asdict(self.config),
            "seed": self.seed,
            "device": self.device,
            "seconds": self.seconds,
            "versions": self.versions,
            "formula_names": list(data.formula_names),
        } | self._more()

    def _more(self) -> dict[str, Any]:
        """Return what only some results have: groups, hidden states, a bootstrap."""
        groups = {g: self._texts(of) for g, of in self.groups.items()}
        return (
            ({"group": self.data.group, "groups": groups} if groups else {})
            | ({"hidden": list(self.data.hidden)} if self.data.hidden else {})
            | ({} if self.bootstrap is None else {"bootstrap": asdict(self.bootstrap)})
        )

    def _numbers(self) -> list[dict[str, Any]]:
        return [{key: v for key, v in asdict(p).items() if key != "group" or v} for p in self.parameters]

    def _entries(self) -> list[dict[str, Any]]:
        return [
            {
                "complexity": entry.complexity,
                "parameters": entry.parameters,
                "equations": self._sides(self._typical(entry.equations).strings()),
                "train": finite(entry.train),
                "unseen": finite(entry.unseen),
                "description_length": finite(entry.description_length),
                "status": entry.status.name.lower(),
            }
            for entry in self.front
        ]

    def _texts(self, law: Equations) -> dict[str, dict[str, str]]:
        return {"equations": self._sides(law.strings()), "latex": self._sides(law.latex())}

    def _sides(self, texts: Mapping[str, str]) -> dict[str, str]:
        """Name right-hand sides by state, not by symbol."""
        return dict(zip(self.data.states, texts.values(), strict=True))


def finite(value: float | None) -> float | None:
    """Return a number for JSON, None where it is not finite."""
    return value if value is not None and math.isfinite(value) else None
