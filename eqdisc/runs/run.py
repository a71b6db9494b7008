"""Runs: the folder of one fit (`folder`), read again without torch.

Nothing that is read is executed: formulas go through the parser of `Equations`, weights and checkpoints are safetensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from .. import __version__
from ..data.dataset import Dataset, Trajectory
from ..data.frames import tabulate_curves, tabulate_front, tabulate_parameters
from ..data.inputs import curve_of
from ..data.tables import hash_file, read_table
from ..judge.card import write_finding
from ..work.config import FitConfig
from ..work.errors import OptionError, RunError, did_you_mean
from ..work.files import as_json
from .formats import read_beginning, read_result

if TYPE_CHECKING:
    import pandas as pd

    from ..judge.finding import Finding
    from ..law.equations import Equations
    from ..law.simulation import Simulation

MANY, SHOWN = 100, 12  # of more records than these, so many stand in pictures and in tests of residuals
SAMPLES = 201  # times of a simulation whose end was asked for


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and result.json; equations and data are read when they are asked for."""

    folder: Path
    result: Mapping[str, Any]

    @classmethod
    def of(cls, found: Finding, folder: Path, table: Mapping[str, Any]) -> Run:
        """Return what is kept of a finding, `table` what else is known of its table: nothing of it is read or parsed again."""
        result = as_json(found.result())
        run = cls(folder, result | {"data": {**table, **result["data"]}})
        vars(run).update(equations=found.equations, groups=found.groups, data=found.data)
        return run

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {self.verdict}, states={self.states})"

    @property
    def states(self) -> tuple[str, ...]:
        """The states under the names that the table gave them."""
        return tuple(self.result["states"])

    @property
    def hidden(self) -> tuple[str, ...]:
        """The states that were not measured."""
        return tuple(self.result.get("hidden", ()))

    @property
    def measured(self) -> tuple[str, ...]:
        """The states that were measured."""
        return tuple(name for name in self.states if name not in self.hidden)

    @property
    def sigma(self) -> Float[np.ndarray, "d"]:
        """The noise of each state; infinite where it was not measured."""
        known = (self.result["sigma"].get(name) for name in self.states)
        return np.array([np.inf if v is None else v for v in known], float)

    def sigma_of(self, trajectory: str) -> Float[np.ndarray, "d"]:
        """Return the noise of each state in one trajectory: its own where trajectories differ in precision."""
        own = self._starts.get(trajectory, {}).get("sigma", {})
        return np.array([own.get(name, sigma) for name, sigma in zip(self.states, self.sigma, strict=True)])

    def refuse_hidden(self, what: str) -> None:
        """Raise RunError where a state was not measured, whose start nobody can say for `what`."""
        if self.hidden:
            raise RunError(
                f"{self.folder}: {', '.join(self.hidden)} was not measured, and where it starts is known only of the records "
                f"that were fitted; {what}."
            )

    @property
    def verdict(self) -> str:
        """identified, ambiguous or not identified."""
        return str(self.result["verdict"])

    @property
    def reasons(self) -> tuple[str, ...]:
        """The sentences behind the verdict."""
        return tuple(self.result["reasons"])

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbol of each state in formulas."""
        return tuple(self.result.get("symbols", {}).get(name, name) for name in self.states)

    @cached_property
    def equations(self) -> Equations:
        """The law that was picked."""
        return self.law(self.result["equations"])

    @property
    def front(self) -> tuple[Mapping[str, Any], ...]:
        """The laws of the front by rising complexity, as result.json has them."""
        return tuple(self.result["front"])

    @property
    def alternatives(self) -> tuple[Equations, ...]:
        """The rivals of the law that was picked."""
        return tuple(self.law(a["equations"]) for a in self.result["alternatives"])

    @property
    def inputs(self) -> tuple[str, ...]:
        """The inputs as --inputs names them."""
        return tuple(self.result.get("inputs", ()))

    @property
    def group(self) -> str:
        """The column of groups, if the table has any."""
        return str(self.result.get("group", ""))

    @cached_property
    def groups(self) -> dict[str, Equations]:
        """The law of each group."""
        return {name: self.law(facts["equations"]) for name, facts in self.result.get("groups", {}).items()}

    def law_of(self, group: str) -> Equations:
        """Return the law of a group, the picked one where there are none; raises RunError for a group that it does not know."""
        if self.groups and group not in self.groups:
            raise RunError(
                f"{self.folder}: the law has no coefficients for group {group!r}; it has them for {', '.join(self.groups)}."
            )
        return self.groups.get(group, self.equations)

    def law(self, texts: Mapping[str, str]) -> Equations:
        """Return equations, given as texts by state name, as Equations over the run's symbols; raises FormulaError."""
        from ..law.equations import Equations

        return Equations.parse(
            {s: texts[name] for name, s in zip(self.states, self.symbols, strict=True)}, self.symbols, self._given
        )

    @property
    def _given(self) -> tuple[str, ...]:
        """The symbol of each input; the time is no input in a formula."""
        names = (name.removesuffix(":hold") for name in self.inputs)
        symbols = (self.result.get("symbols", {}).get(name, name) for name in names)
        return tuple(symbol for symbol in symbols if symbol != "t")

    @cached_property
    def data(self) -> Dataset:
        """What was fitted."""
        about = {**self.result, "states": list(self.measured)}
        return read_fitted(self.folder / "data.csv", about).with_hidden(len(self.hidden))

    @property
    def shown(self) -> Dataset:
        """What pictures and tests of residuals show: all records, or the first of very many."""
        return self.data if len(self.data) <= MANY else self.data.subset(range(SHOWN))

    @property
    def config(self) -> FitConfig:
        """How it was fitted."""
        return FitConfig(**self.result["config"])

    def start_of(self, trajectory: str) -> Float[np.ndarray, "d"]:
        """Return the estimated initial state (d,) of one trajectory; raises RunError where there is none."""
        if trajectory not in self._starts:
            raise RunError(f"{self.folder}: result.json has no initial state for trajectory {trajectory!r}.")
        return np.array([self._starts[trajectory]["x0"][name] for name in self.states], float)

    def start_fitted(self, record: Trajectory) -> Float[np.ndarray, "d"] | None:
        """Return the estimated start (d,) of a record that was fitted, or goes on from one; None for any other.

        Its first reading has noise, which the law would carry on.
        """
        known = self._fitted.get(record.name) if record.name in self._starts else None
        if known is None:
            return None
        n = len(known.t)
        same = np.array_equal(known.t, record.t[:n]) and np.array_equal(known.x, record.x[:n], equal_nan=True)
        return self.start_of(record.name) if same else None

    @cached_property
    def _fitted(self) -> dict[str, Trajectory]:
        return {k.name: k for k in self.data.trajectories}

    @cached_property
    def _starts(self) -> dict[str, Mapping[str, Any]]:
        return {entry["trajectory"]: entry for entry in self.result["initial"]}

    def simulate(
        self,
        x0: Mapping[str, float] | None = None,
        *,
        t_end: float | None = None,
        smooth: bool = False,
        most: int | None = None,
    ) -> dict[str, Simulation]:
        """Simulate the law: every trajectory of the data from its estimated start, or one from `x0`.

        Times are the data's (those of the first trajectory for `x0`); with `t_end` or `smooth`, even ones up to `t_end`
        or the data's last. States that `x0` leaves out start where the first trajectory does. Returns
        simulations by the trajectory's name, the first `most` of them, each up to its last valid time. Raises OptionError for a state that is not
        there or an end before the start.
        """
        from ..law.simulation import TIGHT_ATOL, TIGHT_RTOL, simulate

        pieces = self.data.trajectories[: most if x0 is None else 1]
        found = {}
        for number, k in enumerate(pieces):
            start = self.start_of(k.name) if x0 is None else self._start(x0)
            t = k.t if t_end is None and not smooth else _even_times(k.t, t_end, 2 * SAMPLES - 1 if smooth else SAMPLES)
            small = TIGHT_ATOL * max(float(np.abs(start).max()), 1e-12)
            u = curve_of(self.data, number)
            found[k.name if x0 is None else "0"] = simulate(
                self.law_of(k.group), start, t, inputs=u, rtol=TIGHT_RTOL, atol=small
            )
        return found

    def _repr_html_(self) -> str:
        return str(write_finding(self.result, self.equations, self.alternatives, self.symbols))

    def simulate_table(
        self, x0: Mapping[str, float] | None = None, *, t_end: float | None = None, smooth: bool = False
    ) -> pd.DataFrame:
        """Return what `simulate` returns as one DataFrame: trajectory, time, states."""
        curves = self.simulate(x0, t_end=t_end, smooth=smooth).items()
        return tabulate_curves(((name, k.t, k.x) for name, k in curves), self.result["time"], self.states)

    def front_table(self) -> pd.DataFrame:
        """Return the front as a DataFrame, one law a row: pick, complexity, errors, description length, equations."""
        return tabulate_front(self.front, self.result["selected"])

    def parameters_table(self) -> pd.DataFrame:
        """Return the numbers of the law as a DataFrame: name, value, the ends of its interval, unit, equations it stands in."""
        return tabulate_parameters(self.result.get("parameters", []))

    def export(self, to: str) -> str:
        """Return the law as a text in another language: python, julia, c, stan, sbml, latex, sympy or json."""
        from .export import export

        return export(self, to)

    def _start(self, x0: Mapping[str, float]) -> Float[np.ndarray, "d"]:
        for name in x0:
            if name not in self.states:
                known = f"the states are {', '.join(self.states)}"
                raise OptionError(f"--x0 names {name!r}, but {known}.{did_you_mean(name, self.states)}")
        start = self.start_of(self.data.trajectories[0].name)
        return np.array([x0.get(name, value) for name, value in zip(self.states, start, strict=True)], float)


def _even_times(t: Float[np.ndarray, "n"], end: float | None, samples: int) -> Float[np.ndarray, "k"]:
    last = float(t[-1]) if end is None else end
    if not t[0] < last < np.inf:
        raise OptionError(f"--t-end {last:g} does not lie after the first time, {t[0]:g}.")
    return np.linspace(t[0], last, samples)


def read_fitted(place: Path, facts: Mapping[str, Any]) -> Dataset:
    """Read data.csv or validate.csv of a run in the roles that config.json or result.json name."""
    roles = {"time": facts["time"], "group": facts.get("group") or None}
    return read_table(place, states=list(facts["states"]), inputs=list(facts.get("inputs", ())) or None, **roles)


def differ(one: Any, other: Any, place: str = "") -> Iterator[tuple[str, float]]:
    """Yield each place at which two results differ, and by how much: infinitely, where it is no number that differs.

    >>> list(differ({"a": [1.0, "x"]}, {"a": [1.5, "y"]}))
    [('a[0]', 0.333...), ('a[1]', inf)]
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in sorted({*one, *other}):
            yield from differ(one.get(key), other.get(key), f"{place}.{key}" if place else key)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for k, (a, b) in enumerate(zip(one, other, strict=True)):
            yield from differ(a, b, f"{place}[{k}]")
    elif one != other:
        both = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (one, other))
        yield place, abs(one - other) / max(abs(one), abs(other)) if both else math.inf


@dataclass(frozen=True)
class Begun:
    """What a run began with: everything that is needed to go on with it, or to do it again."""

    data: Dataset
    unseen: Dataset | None
    config: FitConfig
    sha256: str | None  # of the table that data.csv was made from


def read_begun(folder: Path) -> Begun:
    """Read config.json, data.csv and validate.csv.

    Raises RunError when the folder is missing, when nothing was started in it, and when its data are not those that were fitted.
    """
    place = _find(folder, "config.json", "has no config.json: nothing was started there; run eqdisc fit")
    about = read_beginning(place)
    facts, unseen, table = about["data"], about["validate"], folder / "data.csv"
    try:
        config = FitConfig(**about["config"])
    except OptionError as error:
        raise RunError(f"{place} is not that of a run of eqdisc {__version__} ({error}).") from None
    data = replace(read_fitted(table, about), file=facts["file"], notes=tuple(facts.get("notes", ())))
    other = None if unseen is None else replace(read_fitted(folder / "validate.csv", about), file=unseen)
    if hash_file(table) != about["fitted"]:
        raise RunError(f"{table} was changed after the run began; run eqdisc fit on it instead.")
    return Begun(data, other, config, facts.get("sha256"))


def load(folder: str | Path) -> Run:
    """Read a finished run; torch is not needed.

    Raises RunError when the folder is missing, has no result yet, or was written in a format that is not known here.
    """
    folder = Path(folder)
    going = f"has no result yet; its fit still runs, or eqdisc resume {folder} goes on with it"
    what = going if (folder / "config.json").exists() else "is not a run of eqdisc"
    return Run(folder, read_result(_find(folder, "result.json", what)))


def _find(folder: Path, name: str, what: str) -> Path:
    """Return the path of a file of a run; raises RunError where the folder is not there, or `what` it is without the file."""
    if not folder.is_dir():
        siblings = [str(p) for p in folder.parent.iterdir() if p.is_dir()] if folder.parent.is_dir() else []
        raise RunError(f"there is no folder {folder}.{did_you_mean(str(folder), siblings)}")
    if not (folder / name).exists():
        raise RunError(f"{folder} {what}.")
    return folder / name
