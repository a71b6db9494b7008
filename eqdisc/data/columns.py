r"""Columns: the cells of a table one by one and together, what each must be in its role, and where one stands that is not.

A column is n numbers, NaN where a cell is empty or holds something else, and n texts if any cell does. Times are numbers or ISO dates,
counted in days since the first. Names of trajectories and groups come in natural order, m2 before m10. With a label k for each row, the
trajectory that it belongs to,

    no time stands twice under one k,      sum_k (n_ki - 1) >= 3,      max_k (max x_i - min x_i) > 0

for the n_ki values of state i in trajectory k: the smallest model has, beside a start for each trajectory, one coefficient and one exponent,
and wants one value to check them. Whatever breaks a rule is refused with its file, row, column, cause and cure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from jaxtyping import Bool, Float, Int

from ..work.errors import DataError
from .inputs import InputCurve

if TYPE_CHECKING:
    import pandas as pd

ERROR = "_sigma"  # behind a state's name: the column of its standard errors
SPARE = 3  # values beyond one start a trajectory: a coefficient, an exponent, and one to check them


@dataclass(frozen=True, eq=False)
class Column:
    """One column: numbers (n,) with NaN where a cell is empty or holds something else, and text (n,) if any cell does.

    `text` is None for a column of numbers; otherwise it holds every cell as it stands, None where empty.
    """

    name: str
    values: Float[np.ndarray, "n"]
    text: np.ndarray | None = None

    @property
    def empty(self) -> Bool[np.ndarray, "n"]:
        """Cells that hold nothing."""
        return np.isnan(self.values) if self.text is None else self.text == np.array(None)

    @property
    def wrong(self) -> Bool[np.ndarray, "n"]:
        """Cells that hold something, but no number."""
        return np.isnan(self.values) & ~self.empty

    @property
    def counts_rows(self) -> bool:
        """Whether the cells are 0, 1, 2, ... or 1, 2, 3, ..."""
        v = self.values
        return self.text is None and v[0] in (0.0, 1.0) and bool((np.diff(v) == 1).all())

    @property
    def may_name(self) -> bool:
        """Whether every cell is a text or a whole number."""
        v = self.values
        return not self.empty.any() and (self.text is not None or bool((np.isfinite(v) & (v == np.round(v))).all()))

    def cell(self, row: int) -> str:
        """Return what stands in a cell."""
        return f"{self.values[row]:.10g}" if self.text is None else str(self.text[row])

    def codes(self) -> tuple[np.ndarray, Int[np.ndarray, "n"]]:
        """Return the distinct cells and, for each row, which of them it holds; empty cells are alike."""
        if self.text is None:
            return np.unique(self.values, return_inverse=True)
        import pandas as pd

        labels, found = pd.factorize(np.where(self.empty, "", self.text), sort=True)
        return found, labels

    def dates(self) -> tuple[Float[np.ndarray, "n"], str]:
        """Return ISO dates as days since the first of them (NaN where a cell is none), and that first date."""
        import pandas as pd

        stamps = pd.to_datetime(pd.Series(self.text, dtype=object), format="ISO8601", errors="coerce", utc=True)
        stamps = stamps.where(stamps.dt.year.between(1, 9999))  # -1 is no year
        if stamps.isna().all():
            return np.full(len(self.values), np.nan), ""
        first = stamps.min()
        days = ((stamps - first) / pd.Timedelta(days=1)).to_numpy(float)
        return days, (f"{first:%Y-%m-%d}" if first == first.normalize() else f"{first:%Y-%m-%dT%H:%M:%S}")


def column_of(series: pd.Series, name: str, decimal: str = ".") -> Column:
    """Take a pandas column apart into numbers and text."""
    import pandas as pd

    kind, types = series.dtype, pd.api.types
    if types.is_numeric_dtype(kind) and not types.is_bool_dtype(kind) and not types.is_complex_dtype(kind):
        return Column(name, series.to_numpy(float, na_value=np.nan))
    if types.is_timedelta64_dtype(kind):
        return Column(name, (series.dt.total_seconds() / 86400).to_numpy(float))
    text = series.astype(str).str.strip().to_numpy(object, copy=True)
    empty = series.isna().to_numpy() | (text == "")
    text[empty] = None
    values = pd.to_numeric(pd.Series(text).str.replace(decimal, ".", regex=False), errors="coerce").to_numpy(float)
    whole = not (np.isnan(values) & ~empty).any()
    return Column(name, values, None if whole else text)


def one_kind_of_line(text: str) -> str:
    """Return a text whose lines end alike, as csv.writer quotes them."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def quote(text: str) -> str:
    """Return a text of a user in quotation marks, cut if it is long."""
    return repr(text if len(text) <= 40 else text[:37] + "...")


def as_word(name: str) -> str:
    """Return a name as a shell takes it."""
    return name if re.fullmatch(r"[\w.,-]+", name) else f'"{name}"'


def refuse_repeated_names(file: str, names: Sequence[str]) -> None:
    """Raise DataError where two columns have one name."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{file}: two columns are named {quote(name)}; rename one of them.")
        seen.add(name)


@dataclass(frozen=True, eq=False)
class Table:
    """Columns by their name without unit, the row of the file that each cell stands in, and the roles that are known so far."""

    file: str
    columns: dict[str, Column]
    rows: Int[np.ndarray, "n"]
    time: str
    trajectory: str | None = None
    group: str | None = None
    inputs: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

    def refuse(self, cause: str, cure: str, column: str | None = None, row: int | None = None) -> NoReturn:
        """Raise the DataError that names the place (row as an index into the table), the cause and the cure."""
        place = self.file
        if row is not None:
            place += f", row {self.rows[row]}"
        if column is not None:
            place += f", column {quote(column)}"
        raise DataError(f"{place}: {cause}; {cure}" + ("" if cure.endswith("?") else "."))

    def refuse_where(self, wrong: Bool[np.ndarray, "n"], cause: str, cure: str, column: str) -> None:
        """Refuse the first row in which something is wrong, if any."""
        if wrong.any():
            self.refuse(cause, cure, column, int(np.argmax(wrong)))

    def others(self) -> list[str]:
        """Names of the columns that have no other role yet."""
        taken = {self.time, self.trajectory, self.group, *self.inputs, *self.errors}
        return [name for name in self.columns if name not in taken]

    def without(self, *names: str, alone: str) -> str:
        """Say how to leave columns out, and others that cannot be states; `alone` if no column would be left."""
        usable = {name for name, column in self.columns.items() if not (column.wrong.any() or column.empty.all())}
        rest = [name for name in self.others() if name in usable and name not in names]
        if not rest:
            return alone
        words = as_word(",".join(rest)) if len(rest) <= 8 else "and the names of the others"
        return f"leave it out with --states {words}"

    def read_times(self) -> tuple[Float[np.ndarray, "n"], str]:
        """Return the times, and the first date if they are dates."""
        column = self.columns[self.time]
        self.refuse_where(column.empty, "the time is missing", "fill it in or delete the row", self.time)
        values, first, wrong = column.values, "", column.wrong
        if wrong.any():
            days, date = column.dates()
            if np.isnan(days).sum() < wrong.sum():
                values, first, wrong = days, date, np.isnan(days)
            cell = quote(column.cell(int(np.argmax(wrong))))
            cause = f"{cell} is neither a number nor an ISO date such as 2014-05-18"
            self.refuse_where(wrong, cause, "correct the cell or name another column with --time", self.time)
        self._refuse_infinite(self.time, values)
        return values, first

    def read_labels(self) -> tuple[Int[np.ndarray, "n"], list[str], list[str]]:
        """Return the number of the trajectory of each row, and the trajectories' names in natural order and their groups."""
        if self.group is None:
            labels, names = self._read_names(self.trajectory, "trajectory")
            return labels, names, [""] * len(names)
        own, groups = self._read_names(self.group, "group")
        if self.trajectory is None:
            return own, groups, groups
        inner, names = self._read_names(self.trajectory, "trajectory")
        pairs, labels = np.unique(np.column_stack([inner, own]), axis=0, return_inverse=True)
        repeated = len(pairs) > len(names)  # one name in several groups
        together = [f"{groups[g]}/{names[k]}" if repeated else names[k] for k, g in pairs]
        return labels.ravel(), together, [groups[g] for _, g in pairs]

    def _read_names(self, name: str | None, role: str) -> tuple[Int[np.ndarray, "n"], list[str]]:
        """Return which of the names in a column each row has, and the names in natural order; without a column all rows are alike."""
        if name is None:
            return np.zeros(len(self.rows), int), ["0"]
        column = self.columns[name]
        self.refuse_where(column.empty, f"the {role} is missing", "fill it in or delete the row", name)
        found, labels = column.codes()
        names = [one_kind_of_line(v) if isinstance(v, str) else _number_name(v) for v in found.tolist()]
        order = sorted(range(len(names)), key=lambda i: _natural(names[i]))
        return np.argsort(order)[labels], [names[i] for i in order]

    def read_state(self, name: str) -> Float[np.ndarray, "n"]:
        """Return the numbers of a column, NaN where nothing was measured."""
        column = self.columns[name]
        if column.wrong.any():
            row = int(np.argmax(column.wrong))
            self.refuse(f"{quote(column.cell(row))} is not a number", self._cure_text(name, row), name, row)
        if column.empty.all():
            self.refuse("it holds no values", self.without(name, alone="a state needs numbers"), name)
        self._refuse_infinite(name, column.values)
        return column.values

    def _cure_text(self, name: str, row: int) -> str:
        """Say what to do about a text among numbers."""
        column, leave = self.columns[name], self.without(name, alone="a state needs numbers")
        if re.fullmatch(r"[+-]?\d+,\d+", column.cell(row)):
            return "write it with a decimal point and without thousands separators"
        if column.wrong.sum() == (~column.empty).sum():
            return leave
        return "correct the cell or empty it" + (f", or {leave}" if "--states" in leave else "")

    def read_errors(self, states: list[str], x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """Return the standard error of every value, NaN where there is no column of it."""
        sigma = np.full_like(x, np.nan)
        for i, name in enumerate(states):
            if name + ERROR not in self.errors:
                continue
            sigma[:, i] = self.read_state(name + ERROR)
            wrong = np.isfinite(x[:, i]) & ~(sigma[:, i] > 0)
            missing = np.isnan(sigma[np.argmax(wrong), i])
            cause = "a standard error is missing" if missing else "a standard error is above 0"
            self.refuse_where(wrong, cause, f"correct the cell or empty the value of {name}", name + ERROR)
        return sigma

    def fill_inputs(
        self, name: str, t: Float[np.ndarray, "n"], u: Float[np.ndarray, "n q"], held: Sequence[str]
    ) -> Float[np.ndarray, "n q"]:
        """Return the inputs of one trajectory at all of its times, from those at which they were measured."""
        filled = np.empty_like(u)
        for i, column in enumerate(self.inputs):
            seen = np.isfinite(u[:, i])
            if not seen.any():
                self.refuse(f"trajectory {quote(name)} has no value of this input", "fill one in at its start", column)
            curve = InputCurve(t[seen], u[seen, i : i + 1], np.array([column in held]))
            filled[:, i] = curve(t)[:, 0]
        return filled

    def _refuse_infinite(self, name: str, values: np.ndarray) -> None:
        self.refuse_where(np.isinf(values), "the value is infinite", "correct the cell or empty it", name)

    # columns together

    def find_identifiers(self, clock: Float[np.ndarray, "n"]) -> list[str]:
        """Return columns that tell several series apart, the one that leaves the fewest repeated times first."""
        restarts = clock[1:] <= clock[:-1]
        if self.trajectory is not None or self.group is not None or len(clock) < 4 or not restarts.any():
            return []
        found: dict[str, int] = {}
        for name in self.others():
            if not self.columns[name].may_name:
                continue
            distinct, codes = self.columns[name].codes()
            if 1 < len(distinct) <= len(clock) / 2 and _tells_series_apart(clock, codes, restarts):
                found[name] = _count_repeats(clock, codes)
        return sorted(found, key=found.__getitem__)

    def refuse_repeated_times(
        self, clock: np.ndarray, labels: np.ndarray, order: np.ndarray, names: list[str], identifiers: list[str]
    ) -> None:
        """Refuse a time that stands twice in one trajectory; what looks like an identifier may be the column that is missing."""
        twice = _repeats(clock, labels, order)
        if not twice.any():
            return
        later = order[1:][twice]
        k = int(np.argmin(later))  # the first row of the file that repeats a time
        row, before = int(later[k]), int(order[:-1][twice][k])
        series, cure = "", "add a trajectory column or average repeated times"
        if self.trajectory is not None:
            series, cure = f" in trajectory {quote(names[labels[row]])}", "average repeated times"
        elif identifiers:
            cure = f"did you mean --trajectory {as_word(identifiers[0])}?"
        where = f"in row {self.rows[before]} and again here"
        self.refuse(f"time {self.columns[self.time].cell(row)} stands twice{series}, {where}", cure, self.time, row)

    def refuse_too_little(self, states: list[str], x: Float[np.ndarray, "n d"], labels: Int[np.ndarray, "n"]) -> None:
        """Refuse a state whose measured values cannot settle the smallest model."""
        for i, name in enumerate(states):
            measured = np.isfinite(x[:, i])
            count, starts = int(measured.sum()), len(np.unique(labels[measured]))
            if count - starts >= SPARE:
                continue
            what = "1 measured value" if count == 1 else f"{count} measured values"
            series = "" if starts == 1 else f" in {starts} trajectories"
            cure = "measure more" if self.trajectory is None else "measure more or name another --trajectory"
            if len(states) > 1:
                cure += f", or {self.without(name, alone='leave it out')}"
            self.refuse(f"{what}{series} where the smallest model needs {starts + SPARE}", cure, name)

    def refuse_constant(self, states: list[str], x: Float[np.ndarray, "n d"], labels: Int[np.ndarray, "n"]) -> None:
        """Refuse states that change in no trajectory."""
        extents = (_extent(column, labels) for column in x.T)
        constant = [i for i, (low, high) in enumerate(extents) if (high <= low).all()]
        if not constant:
            return
        values = x[np.isfinite(x[:, constant[0]]), constant[0]]
        cause = "it never changes while time runs, only from one trajectory to another"
        if np.ptp(values) == 0:
            cause = f"it never changes (always {values[0]:.6g})"
        cure = self.without(*(states[i] for i in constant), alone="measure a state that does")
        self.refuse(cause, cure, states[constant[0]])


def _number_name(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(value)


def _natural(name: str) -> list[tuple[int, float, str]]:
    """Sort key that puts m2 before m10.

    >>> sorted(["m10", "m2", "-1", "2.5", "10"], key=_natural)
    ['-1', '2.5', '10', 'm2', 'm10']
    """
    try:
        return [(0, float(name), name)]
    except ValueError:
        parts = re.split(r"(\d+)", name)
        return [(1, float(p), p) if p.isdecimal() else (2, 0.0, p) for p in parts if p] + [(3, 0.0, name)]


def _tells_series_apart(clock: np.ndarray, codes: np.ndarray, restarts: Bool[np.ndarray, "n-1"]) -> bool:
    """Tell an identifier from a state that happens to be whole.

    Either it changes only where time starts again (rows in blocks), or, whatever the order of rows, each of its values
    comes several times, spread over the whole time, and no time comes twice under one value. A state takes the same
    value at times that are near each other.
    """
    changes = codes[1:] != codes[:-1]
    if changes.any() and not (changes & ~restarts).any():
        return True
    if _count_repeats(clock, np.zeros_like(codes)) == 0 or _count_repeats(clock, codes) > 0:
        return False
    low, high = _extent(clock, codes)
    return bool(np.bincount(codes).min() >= 3 and np.median(high - low) >= 0.5 * np.ptp(clock))


def _extent(values: np.ndarray, codes: Int[np.ndarray, "n"]) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest of the finite values under each code."""
    seen = np.isfinite(values)
    low, high = np.full(codes.max() + 1, np.inf), np.full(codes.max() + 1, -np.inf)
    np.minimum.at(low, codes[seen], values[seen])
    np.maximum.at(high, codes[seen], values[seen])
    return low, high


def _count_repeats(clock: np.ndarray, codes: np.ndarray) -> int:
    return int(_repeats(clock, codes, np.lexsort((clock, codes))).sum())


def _repeats(clock: np.ndarray, codes: np.ndarray, order: np.ndarray) -> Bool[np.ndarray, "n-1"]:
    return (np.diff(codes[order]) == 0) & (np.diff(clock[order]) == 0)
