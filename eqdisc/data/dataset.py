r"""Trajectories: what was measured, and the names it goes by.

A trajectory holds samples x(t_k) of d states at rising times t_0 < t_1 < ...; a state that was not measured at a time
is NaN there. Inputs u(t_k), what was set or measured and is not to be explained, stand beside them. A dataset holds
trajectories of one law, each with its own times and its own start.

Any text may name a state, but a formula needs symbols: ASCII names that are no Python keyword, no function of the
formula language and not `t`, which is the time in every formula. `symbols_of` gives each other name a symbol that is.
"""

from __future__ import annotations

import itertools
import keyword
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from jaxtyping import Float, Int

from ..work.errors import DataError, OptionError

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 10_000  # that a search fits, where they are of several records
FUNCTIONS = ("sqrt", "exp", "log", "sin", "cos", "Abs", "abs", "sign", "Max", "Min")  # the words of a formula
TAKEN = frozenset((*keyword.kwlist, *FUNCTIONS, "t"))
_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_GREEK = re.compile(r"GREEK (SMALL|CAPITAL) LETTER (?:FINAL )?([A-Z]+)$")
_LIGATURES = {"ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"}


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One measured series: times t (n,), states x (n, d) with NaN where nothing was measured, a name, inputs u (n, q), and a group.

    `sigma` (n, d) holds the standard error of each value where it is known, NaN columns for states of which it is not, or is empty.
    The arrays are copied and cannot be written to. Raises DataError unless t is finite and rising, x is finite or NaN, u is
    finite, known errors are positive, and the shapes meet.

    >>> Trajectory([0, 1, 2], [[1.0], [np.nan], [0.5]]).x.shape
    (3, 1)
    >>> Trajectory([0, 1, 1], [[1.0], [2.0], [3.0]])
    Traceback (most recent call last):
    eqdisc.work.errors.DataError: trajectory '0', sample 3: time 1 stands twice; add a trajectory column or average ...
    """

    t: Float[np.ndarray, "n"]
    x: Float[np.ndarray, "n d"]
    name: str = "0"
    u: Float[np.ndarray, "n q"] = field(default_factory=lambda: np.zeros((0, 0)))
    group: str = ""
    sigma: Float[np.ndarray, "n d"] = field(default_factory=lambda: np.zeros((0, 0)))

    def __post_init__(self) -> None:
        t, x = np.array(self.t, float), np.array(self.x, float)
        u = np.array(self.u, float) if np.size(self.u) else np.zeros((len(t), 0))
        _check_shapes(self.name, t, x, u)
        _check_values(self.name, t, x, u)
        sigma = _check_errors(self.name, x, np.array(self.sigma, float))
        for place, array in (("t", t), ("x", x), ("u", u), ("sigma", sigma)):
            array.flags.writeable = False
            object.__setattr__(self, place, array)
        object.__setattr__(self, "name", str(self.name))

    def __len__(self) -> int:
        return len(self.t)

    def __repr__(self) -> str:
        return f"Trajectory({self.name!r}, t={self.t[0]:g}..{self.t[-1]:g}, x={self.x.shape})"

    @property
    def span(self) -> float:
        """Duration from the first sample to the last."""
        return float(self.t[-1] - self.t[0])

    def cut(self, start: int, end: int | None = None) -> Trajectory:
        """Return samples start..end (as a slice counts them) under the same name."""
        return replace(self, t=self.t[start:end], x=self.x[start:end], u=self.u[start:end], sigma=self.sigma[start:end])


def _check_shapes(name: str, t: np.ndarray, x: np.ndarray, u: np.ndarray) -> None:
    if t.ndim != 1 or x.ndim != 2 or len(t) != len(x):
        raise DataError(f"trajectory {name!r}: t has shape {t.shape} and x {x.shape}; they must be (n,) and (n, d).")
    if u.ndim != 2 or len(u) != len(t):
        raise DataError(f"trajectory {name!r}: t has shape {t.shape} and u {u.shape}; they must be (n,) and (n, q).")
    if x.size == 0:
        raise DataError(f"trajectory {name!r} holds no samples; leave it out.")


def _check_values(name: str, t: np.ndarray, x: np.ndarray, u: np.ndarray) -> None:
    for k in np.flatnonzero(~np.isfinite(t)).tolist():
        _refuse(name, k, f"the time is {t[k]}; every sample needs a finite time.")
    for k, i in np.argwhere(np.isinf(x)).tolist():
        _refuse(name, k, "the value is infinite; use NaN for not measured.", f"state {i + 1}")
    for k, i in np.argwhere(~np.isfinite(u)).tolist():
        _refuse(name, k, f"it is {u[k, i]}; an input is known at all times.", f"input {i + 1}")
    for k in np.flatnonzero(np.diff(t) <= 0).tolist():
        cause = f"time falls from {t[k]:g} to {t[k + 1]:g}; sort the samples or add a trajectory column."
        if t[k + 1] == t[k]:
            cause = f"time {t[k]:g} stands twice; add a trajectory column or average repeated times."
        _refuse(name, k + 1, cause)


def _check_errors(name: str, x: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Return the standard errors; none known is an empty array."""
    if not sigma.size or np.isnan(sigma).all():
        return np.zeros((0, 0))
    if sigma.shape != x.shape:
        raise DataError(f"trajectory {name!r}: x has shape {x.shape} and sigma {sigma.shape}; they must be alike.")
    wrong = np.isfinite(x) & np.isfinite(sigma).any(0) & ~((sigma > 0) & (sigma < np.inf))
    for k, i in np.argwhere(wrong).tolist():
        _refuse(name, k, f"its standard error is {sigma[k, i]:g}; give one above 0.", f"state {i + 1}")
    return sigma


def _refuse(name: str, sample: int, cause: str, column: str = "") -> NoReturn:
    """Refuse the first sample that is wrong."""
    place = ", ".join(filter(None, (f"trajectory {name!r}", f"sample {sample + 1}", column)))
    raise DataError(f"{place}: {cause}")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Trajectories of one law and the user's names: states, inputs, time, file, units; `notes` says what reading mended.

    Inputs are linear between samples but for those named in `held`; one named as the time is the time itself. In a search the last
    `driven` columns of x are inputs (see `inputs`), of which the last `grouped` say to which group a record belongs (see `groups`);
    `group` names the column that does. States in `hidden` were not measured.
    Raises DataError when there is no trajectory, no state, a name twice, or a trajectory of another width.

    >>> data = Dataset((Trajectory([0, 1], [[9.0, 1.0], [8.0, 2.0]]),), states=("lambda", "Western Urban"))
    >>> data.symbols
    {'lambda': 'lambda_', 'Western Urban': 'Western_Urban'}
    >>> data.formula_names, data.d, data.rows, data.sizes
    (('lambda_', 'Western_Urban'), 2, 2, (2,))
    """

    trajectories: tuple[Trajectory, ...]
    states: tuple[str, ...]
    time: str = "t"
    file: str = "data"
    notes: tuple[str, ...] = ()
    units: dict[str, str] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    driven: int = 0
    group: str = ""
    grouped: int = 0
    hidden: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("trajectories", "states", "notes", "inputs", "held", "hidden"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.trajectories:
            raise DataError(f"{self.file} holds no trajectory; give at least one.")
        if not self.states:
            raise DataError(f"{self.file} holds no state; name at least one numeric column.")
        _refuse_twice(self.file, "state", self.states)
        _refuse_twice(self.file, "column", (*self.states, *self.inputs))
        _refuse_twice(self.file, "trajectory", [k.name for k in self.trajectories])
        for k in self.trajectories:
            self._refuse_width(k.name, "state", k.x, self.states)
            self._refuse_width(k.name, "input", k.u, self.inputs)

    def _refuse_width(self, name: str, what: str, table: np.ndarray, columns: Sequence[str]) -> None:
        if table.shape[1] != len(columns):
            cause = f"trajectory {name!r} has {table.shape[1]} columns for {len(columns)} {what}s"
            raise DataError(f"{self.file}: {cause}; give each {what} one.")

    def __len__(self) -> int:
        return len(self.trajectories)

    def __repr__(self) -> str:
        return f"Dataset({self.file!r}, states={self.states}, trajectories={len(self)}, rows={self.rows})"

    def _repr_html_(self) -> str:
        from ..work.markup import MOST_ROWS, write_grid, write_heading, write_list

        extent = f"{self.rows} rows, {len(self)} {'trajectory' if len(self) == 1 else 'trajectories'}"
        units = [f"{name} [{self.units[name]}]" if name in self.units else name for name in (self.time, *self.states)]
        samples = ((k.name, t, *x) for k in self.trajectories for t, x in zip(k.t.tolist(), k.x.tolist(), strict=True))
        grid = write_grid(["trajectory", *units], itertools.islice(samples, MOST_ROWS))
        rest = [f"{self.rows - MOST_ROWS} more rows"] if self.rows > MOST_ROWS else []
        return str(write_heading(self.file, extent) + grid + write_list([*rest, *self.notes]))

    @property
    def d(self) -> int:
        """Number of states."""
        return len(self.states)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of samples of each trajectory."""
        return tuple(len(k) for k in self.trajectories)

    @property
    def rows(self) -> int:
        """Number of samples over all trajectories."""
        return sum(self.sizes)

    @property
    def span(self) -> float:
        """Duration of the longest trajectory."""
        return max(k.span for k in self.trajectories)

    @cached_property
    def symbols(self) -> dict[str, str]:
        """Symbol of each state and input whose name cannot stand in a formula; the time is t."""
        named = symbols_of([name for name in (*self.states, *self.inputs) if not self._is_time(name)])
        return named | {name: "t" for name in (*self.states, *self.inputs) if self._is_time(name) and name != "t"}

    def _is_time(self, name: str) -> bool:
        """Tell whether an input is the time itself."""
        return name == self.time and name not in self.states[: self.d - self.driven]

    @property
    def formula_names(self) -> tuple[str, ...]:
        """Symbol of each state."""
        return tuple(self.symbols.get(name, name) for name in self.states)

    @property
    def weighed(self) -> bool:
        """Tell whether the standard error of some values is known."""
        return any(k.sigma.size for k in self.trajectories)

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that the trajectories belong to, in order of appearance."""
        return tuple(dict.fromkeys(k.group for k in self.trajectories if k.group))

    @property
    def input_names(self) -> tuple[str, ...]:
        """Symbol of each input."""
        return tuple(self.symbols.get(name, name) for name in self.inputs)

    @property
    def counts(self) -> Int[np.ndarray, "K d"]:
        """Number of values of each state that were measured in each trajectory."""
        return np.array([np.isfinite(k.x).sum(0) for k in self.trajectories])

    def stacked(self) -> Float[np.ndarray, "rows d"]:
        """Return the samples of all trajectories, one under the other."""
        return np.concatenate([k.x for k in self.trajectories])

    @property
    def errors(self) -> Float[np.ndarray, "rows d"]:
        """The standard error of each sample, one trajectory under the other; NaN where it is not known."""
        return np.concatenate([k.sigma if k.sigma.size else np.full_like(k.x, np.nan) for k in self.trajectories])

    def to_frame(self) -> pd.DataFrame:
        """Return a DataFrame: trajectory, time, states, one row a sample; `as_dataset(data.to_frame(), time=data.time)` reads it back."""
        from .frames import tabulate_curves

        own = [name != self.time for name in self.inputs]
        curves = ((k.name, k.t, np.column_stack([k.x, k.u[:, own]])) for k in self.trajectories)
        return tabulate_curves(curves, self.time, (*self.states, *itertools.compress(self.inputs, own)))

    def subset(self, indices: Iterable[int]) -> Dataset:
        """Return those trajectories."""
        return replace(self, trajectories=tuple(self.trajectories[i] for i in indices))

    def sample(self, rows: int = MOST_ROWS) -> Dataset:
        """Return as many trajectories, evenly chosen, as have about `rows` rows together; all of them where they have no more.

        With groups or inputs nothing is left out: each record may say what no other does.

        >>> Dataset(tuple(Trajectory(np.arange(5), np.ones((5, 1)), name=str(k)) for k in range(9)), ("x",)).sample(15).sizes
        (5, 5, 5)
        """
        count = max(1, round(rows / self.rows * len(self)))
        if count >= len(self) or self.group or self.inputs or self.hidden:
            return self
        return self.subset(np.unique(np.linspace(0, len(self) - 1, count).round().astype(int)).tolist())

    def with_hidden(self, number: int) -> Dataset:
        """Return the data with states of which nothing was measured: h1, h2, ... (with underscores where a column has that name).

        >>> Dataset((Trajectory([0, 1], [[1.0], [2.0]]),), states=("x",)).with_hidden(1).states
        ('x', 'h1')
        """
        names: list[str] = []
        for k in range(1, number + 1):
            name = f"h{k}"
            while name in (*self.states, *self.inputs, self.time, self.group):
                name += "_"
            names.append(name)
        nothing = lambda a: np.column_stack([a, np.full((len(a), number), np.nan)]) if a.size else a  # noqa: E731
        wider = tuple(replace(k, x=nothing(k.x), sigma=nothing(k.sigma)) for k in self.trajectories)
        return replace(self, trajectories=wider, states=(*self.states, *names), hidden=tuple(names))

    def without_hidden(self) -> Dataset:
        """Return what was measured."""
        if not self.hidden:
            return self
        seen = ~np.isin(self.states, self.hidden)
        narrower = tuple(
            replace(k, x=k.x[:, seen], sigma=k.sigma[:, seen] if k.sigma.size else k.sigma) for k in self.trajectories
        )
        states = tuple(s for s in self.states if s not in self.hidden)
        return replace(self, trajectories=narrower, states=states, hidden=())

    def split(self, fraction: float) -> tuple[Dataset, Dataset]:
        """Return what comes earlier and the last `fraction` of each trajectory's samples.

        A trajectory of n samples gives its last round(n * fraction), but keeps two at least; one that gives none is
        whole in the first part only. Raises OptionError unless 0 < fraction < 1, DataError when no trajectory can give.

        >>> earlier, later = Dataset((Trajectory(np.arange(8), np.ones((8, 1))),), states=("x",)).split(0.25)
        >>> earlier.sizes, later.trajectories[0].t
        ((6,), array([6., 7.]))
        """
        if not 0.0 < fraction < 1.0:
            raise OptionError(f"cannot hold out {fraction:g} of the data; use a share between 0 and 1, such as 0.25.")
        cuts = [n - min(round(n * fraction), max(n - 2, 0)) for n in self.sizes]
        if all(cut == n for cut, n in zip(cuts, self.sizes, strict=True)):
            cause = f"no trajectory is long enough to hold out {fraction:g} of it"
            raise DataError(f"{self.file}: {cause}; hold out more or nothing.")
        pairs = list(zip(self.trajectories, cuts, strict=True))
        earlier = tuple(k.cut(0, cut) for k, cut in pairs)
        later = tuple(k.cut(cut) for k, cut in pairs if cut < len(k))
        return replace(self, trajectories=earlier), replace(self, trajectories=later)


def _refuse_twice(file: str, what: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{file}: the name {name!r} stands for more than one {what}; rename one of them.")
        seen.add(name)


def stands(name: str) -> bool:
    """Tell whether `name` can stand in a formula as it is.

    >>> [stands(name) for name in ("S", "E", "beta", "x_1", "lambda", "sqrt", "t", "2x", "Port Loko")]
    [True, True, True, True, False, False, False, False, False]
    """
    return bool(_SYMBOL.fullmatch(name)) and name not in TAKEN


def symbols_of(names: Sequence[str]) -> dict[str, str]:
    """Return a symbol for each name that cannot stand in a formula; no two alike, and the same in any order of names.

    >>> symbols_of(["a b", "a_b", "sqrt", "β", "CO₂ (ppm)", "2nd", "S"])
    {'a b': 'a_b_2', 'sqrt': 'sqrt_', 'β': 'beta', 'CO₂ (ppm)': 'CO2_ppm', '2nd': 'x2nd'}
    """
    used = {name for name in names if stands(name)}
    found: dict[str, str] = {}
    counts: dict[str, int] = {}  # of names that are spelt alike
    for name in sorted(set(names) - used):
        base = symbol = _spell(name)
        count = counts.get(base, 1)
        while symbol in used or symbol in TAKEN:
            count += 1
            symbol = f"{base}_{count}"
        used.add(symbol)
        counts[base] = count
        found[name] = symbol
    return {name: found[name] for name in names if name in found}


def _spell(name: str) -> str:
    """Spell a name in ASCII: Greek letters by name, accents dropped, other characters as underscores."""
    plain = "".join(_spell_character(c) for c in name)
    word = re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_")
    if not word or word[0].isdigit():
        word = "x" + word
    return word + "_" if word in TAKEN else word


def _spell_character(c: str) -> str:
    plain = _LIGATURES.get(c) or "".join(p for p in unicodedata.normalize("NFKD", c) if not unicodedata.combining(p))
    return _spell_greek(plain) or "".join(p if p.isascii() else "_" for p in plain)


def _spell_greek(c: str) -> str:
    greek = _GREEK.match(unicodedata.name(c, "")) if len(c) == 1 else None
    if not greek:
        return ""
    letter = greek[2].replace("LAMDA", "LAMBDA").lower()  # Unicode's spelling
    return letter.capitalize() if greek[1] == "CAPITAL" else letter
