"""Tables: from a file or a DataFrame to a Dataset, every column in its role, or one sentence that says why not.

| role | found by |
|-|-|
| time | a column named `t` or `time`, else the first one; numbers, or ISO dates (days since the first) |
| trajectory | a column named `trajectory`; none: one trajectory |
| states | every other column of numbers |
| group | the one that is named: records of one group share their coefficients; without trajectories each group is one |
| standard errors | a column named after a state, `S_sigma`: that of each value of S |
| inputs | those that are named: `u`, linear between its samples, or `u:hold`; the time may be one |

Empty cells are values that were not measured. Rows may come in any order; trajectories come out in the natural order of
their names. Units may stand in the header, `S [persons]`. The smallest model has, beside a start for each trajectory,
one coefficient and one exponent, and wants one value to check them: a state is refused if it was measured fewer than 3
times plus once a trajectory.

Nothing is mended silently: what was, stands in `Dataset.notes`; what cannot be is a DataError that names file, row (the
header is row 1; in a DataFrame rows are counted from 0), column, cause and cure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from jaxtyping import Bool, Float, Int

from ..work.errors import DataError, OptionError, did_you_mean
from .dataset import Dataset, Trajectory
from .dimensions import read_units
from .frames import free_roles
from .inputs import InputCurve
from .sheet import Column, Sheet, one_kind_of_line, quote, read_dates, read_sheet, sheet_of

if TYPE_CHECKING:
    import pandas as pd

ERROR = "_sigma"  # behind a state's name: the column of its standard errors
SPARE = 3  # values beyond one start a trajectory: a coefficient, an exponent, and one to check them
_UNIT = re.compile(r"(.*\S)\s*\[(.*)\]")


def read_table(
    path: str | Path,
    *,
    time: str | None = None,
    trajectory: str | None = None,
    states: str | Sequence[str] | None = None,
    inputs: str | Sequence[str] | None = None,
    group: str | None = None,
    units: str | Mapping[str, str] | None = None,
) -> Dataset:
    """Read a table; options name the columns that the header does not give away.

    `states` and `inputs` are names, or one text with commas between them; an input with `:hold` behind it keeps its value until the
    next sample, others are linear between. `units` are those of columns, `S=persons,t=day`, beside those in the header.
    Raises DataError in one sentence when the table cannot be used.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "decay.csv")
    >>> _ = path.write_text("t;S [mg]\\n0;10,5\\n1;7,5\\n2;\\n3;4,5\\n4;3,5\\n")
    >>> data = read_table(path)
    >>> data.states, data.units, data.trajectories[0].x[:, 0]
    (('S',), {'S': 'mg'}, array([10.5,  7.5,  4.5,  3.5]))
    """
    return _with_units(_assign(read_sheet(path), time, trajectory, states, inputs, group), units)


def as_dataset(
    data: str | Path | pd.DataFrame | Dataset,
    *,
    time: str | None = None,
    trajectory: str | None = None,
    states: str | Sequence[str] | None = None,
    inputs: str | Sequence[str] | None = None,
    group: str | None = None,
    units: str | Mapping[str, str] | None = None,
) -> Dataset:
    """Return a path, a DataFrame or a Dataset as a Dataset; the options are those of `read_table`.

    Raises DataError when the table cannot be used, OptionError for anything else and for a Dataset that is given roles.
    """
    if isinstance(data, Dataset):
        if any(role is not None for role in (time, trajectory, states, inputs, group, units)):
            raise OptionError("a Dataset has its roles already; give time, trajectory, states and inputs with a table.")
        return data
    if isinstance(data, (str, Path)):
        return read_table(
            data, time=time, trajectory=trajectory, states=states, inputs=inputs, group=group, units=units
        )
    if type(data).__name__ == "DataFrame" and hasattr(data, "iloc"):  # pandas stays unloaded for those who do without
        return _with_units(_assign(sheet_of(data), time, trajectory, states, inputs, group), units)
    raise OptionError(f"cannot read a {type(data).__name__} as a table; give a path, a pandas DataFrame or a Dataset.")


def _with_units(data: Dataset, units: str | Mapping[str, str] | None) -> Dataset:
    return data if units is None else replace(data, units=data.units | read_units(units, data))


def write_table(data: Dataset, path: str | Path) -> None:
    """Write a dataset as CSV: trajectory, time, states, inputs, standard errors; `read_table(path, time=data.time)` gives it back exactly.

    The trajectory column is left out for one trajectory of the default name; a name that is taken gets underscores.
    """
    import csv

    alone = len(data) == 1 and data.trajectories[0].name == "0" and not data.group
    columns = (*data.states, *(name for name in data.inputs if name != data.time))
    own = [i for i, name in enumerate(data.inputs) if name != data.time]
    label, clock = free_roles(data.time, columns)
    names = [f"{name} [{data.units[name]}]" if name in data.units else name for name in (data.time, *columns)]
    names[0] = names[0].replace(data.time, clock, 1)
    weighed = np.array(
        [any(np.isfinite(k.sigma[:, i]).any() for k in data.trajectories if k.sigma.size) for i in range(data.d)]
    )
    names += [name + ERROR for name, known in zip(data.states, weighed, strict=True) if known]
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        head = [] if alone else [label, data.group] if data.group else [label]
        writer.writerow([*head, *names])
        for k in data.trajectories:
            sigma = (k.sigma if k.sigma.size else np.full_like(k.x, np.nan))[:, weighed]
            for t, x in zip(k.t.tolist(), np.column_stack([k.x, k.u[:, own], sigma]).tolist(), strict=True):
                cells = [repr(t), *("" if v != v else repr(v) for v in x)]
                writer.writerow([*[k.name, k.group][: len(head)], *cells])


def hash_file(path: str | Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class _Table:
    """A sheet whose header is read: columns by their name without unit, and the roles that are known so far."""

    sheet: Sheet
    columns: dict[str, Column]
    units: dict[str, str]
    time: str
    trajectory: str | None
    group: str | None = None
    inputs: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        return self.sheet.file

    def refuse(self, cause: str, cure: str, column: str | None = None, row: int | None = None) -> NoReturn:
        """Raise the DataError that names the place (row as an index into the sheet), the cause and the cure."""
        place = self.file
        if row is not None:
            place += f", row {self.sheet.rows[row]}"
        if column is not None:
            place += f", column {quote(column)}"
        raise DataError(f"{place}: {cause}; {cure}" + ("" if cure.endswith("?") else "."))

    def others(self) -> list[str]:
        """Names of the columns that have no other role yet."""
        return [
            name
            for name in self.columns
            if name not in (self.time, self.trajectory, self.group, *self.inputs, *self.errors)
        ]

    def without(self, *names: str, alone: str) -> str:
        """Say how to leave columns out, and others that cannot be states; `alone` if no column would be left."""
        usable = {name for name, column in self.columns.items() if not (column.wrong.any() or column.empty.all())}
        rest = [name for name in self.others() if name in usable and name not in names]
        if not rest:
            return alone
        return (
            f"leave it out with --states {_word(','.join(rest)) if len(rest) <= 8 else 'and the names of the others'}"
        )


def _assign(
    sheet: Sheet,
    time: str | None,
    trajectory: str | None,
    states: str | Sequence[str] | None,
    inputs: str | Sequence[str] | None = None,
    group: str | None = None,
) -> Dataset:
    """Give every column its role, refuse what cannot be used, and sort the rows into trajectories."""
    table = _read_header(sheet, time, trajectory, group)
    given, held = _named_inputs(table, inputs)
    table = replace(table, inputs=tuple(given))
    table = replace(table, errors=_find_errors(table, states))
    clock, first_date = _read_times(table)
    labels, names, group_of = _read_labels(table)
    identifiers = _find_identifiers(table, clock, labels)
    chosen = _choose_states(table, states, identifiers)
    x = np.stack([_read_state(table, name) for name in chosen], -1)
    sigma = _read_errors(table, chosen, x)
    u = np.stack([_read_input(table, name, clock) for name in given], -1) if given else np.zeros((len(clock), 0))
    kept = np.isfinite(x).any(1) | (np.isfinite(u).any(1) & bool(set(given) - {table.time}))
    order = np.lexsort((clock, labels))
    _refuse_repeated_times(table, clock, labels, order, names, identifiers)
    _refuse_too_little(table, chosen, x, labels)
    _refuse_constant(table, chosen, x, labels)
    notes = [*sheet.notes, *_notes(table, clock, labels, kept, first_date)]
    order = order[kept[order]]
    ends = np.flatnonzero(np.diff(labels[order])) + 1
    pieces = [piece for piece in np.split(order, ends) if len(piece)]
    trajectories = tuple(
        _trajectory(table, clock, x, u, sigma, piece, names, labels, group_of, held) for piece in pieces
    )
    units = {name: table.units[name] for name in (table.time, *chosen, *given) if name in table.units}
    if first_date:
        units[table.time] = "day"
    return Dataset(
        trajectories,
        tuple(chosen),
        time=table.time,
        file=sheet.file,
        notes=tuple(notes),
        units=units,
        inputs=tuple(given),
        held=tuple(held),
        group=table.group or "",
    )


def _trajectory(
    table: _Table,
    clock: np.ndarray,
    x: np.ndarray,
    u: np.ndarray,
    sigma: np.ndarray,
    rows: np.ndarray,
    names: list[str],
    labels: np.ndarray,
    group_of: list[str],
    held: list[str],
) -> Trajectory:
    at = labels[rows[0]]
    known = _fill(table, names[at], clock[rows], u[rows], held)
    return Trajectory(clock[rows], x[rows], name=names[at], u=known, group=group_of[at], sigma=sigma[rows])


# The header


def _read_header(sheet: Sheet, time: str | None, trajectory: str | None, group: str | None = None) -> _Table:
    columns: dict[str, Column] = {}
    units: dict[str, str] = {}
    for column in sheet.columns:
        match = _UNIT.fullmatch(column.name)
        name = match[1] if match else column.name
        if name in columns:
            raise DataError(f"{sheet.file}: two columns are named {quote(name)}; rename one of them.")
        columns[name] = column
        if match and match[2].strip():
            units[name] = match[2].strip()
    names = list(columns)
    if trajectory is not None:
        trajectory = _look_up(sheet.file, "--trajectory", trajectory, columns)
    if time is not None:
        time = _look_up(sheet.file, "--time", time, columns)
    if group is not None:
        group = _look_up(sheet.file, "--group", group, columns)
    if trajectory is None:
        trajectory = next((n for n in names if n.casefold() == "trajectory" and n not in (time, group)), None)
    if time is None:
        time = _find_time([n for n in names if n not in (trajectory, group)], columns)
    if time is None or len(names) < 2:
        raise DataError(f"{sheet.file} has one column only; it needs a time and a state.")
    if time == trajectory:
        raise DataError(f"{sheet.file}, column {quote(time)}: it cannot be both time and trajectory; name two columns.")
    if group is not None and group in (time, trajectory):
        raise DataError(
            f"{sheet.file}, column {quote(group)}: it cannot be the group and the {'time' if group == time else 'trajectory'} too; name two columns."
        )
    return _Table(sheet, columns, units, time, trajectory, group)


def _find_time(names: list[str], columns: dict[str, Column]) -> str | None:
    """Return the column named t or time, else the first; a column T beside a first column that rises is no time."""
    for wanted in ("t", "time"):
        if wanted in names:
            return wanted
    for name in names:
        if name.casefold() == "time":
            return name
    if "T" in names and not (np.diff(columns[names[0]].values) > 0).all():
        return "T"
    return names[0] if names else None


def _look_up(file: str, option: str, name: str, columns: dict[str, Column]) -> str:
    """Return the column that an option names, with or without its unit."""
    for known, column in columns.items():
        if name.strip() in (known, column.name):
            return known
    twin = next((known for known in columns if known.casefold() == name.strip().casefold()), None)
    hint = f" Did you mean {twin!r}?" if twin else did_you_mean(name, columns)
    some = ", ".join(list(columns)[:12]) + (", ..." if len(columns) > 12 else "")
    raise DataError(f"{file}: {option} names {quote(name)}, but the columns are {some}.{hint}")


def _choose_states(table: _Table, states: str | Sequence[str] | None, identifiers: list[str]) -> list[str]:
    """Return the state columns: those that were asked for, else all that hold numbers."""
    if states is not None:
        return _named_states(table, states)
    if not table.others():
        table.refuse("there is no state column beside the time", "add the measured states as columns of numbers")
    if identifiers:
        name = identifiers[0]
        what = "text" if table.columns[name].wrong.any() else "whole numbers"
        cause = f"this looks like an identifier ({what}, constant while time runs, time starting again)"
        table.refuse(cause, f"did you mean --trajectory {_word(name)}?", name)
    return table.others()


def _named_states(table: _Table, states: str | Sequence[str]) -> list[str]:
    if isinstance(states, str):
        states = [states] if states in table.columns else [name for name in states.split(",") if name.strip()]
    chosen = [_look_up(table.file, "--states", name, table.columns) for name in states]
    if not chosen:
        table.refuse("--states names no column", "name at least one")
    for i, name in enumerate(chosen):
        if name in chosen[:i]:
            table.refuse("--states names it twice", "name it once", name)
        if name in table.inputs:
            table.refuse("it cannot be both state and input", "leave it out of --states or of --inputs", name)
        if name in (table.time, table.trajectory):
            role = "time" if name == table.time else "trajectory"
            table.refuse(
                f"it is the {role} and cannot be a state too",
                f"leave it out of --states or name another --{role}",
                name,
            )
    return chosen


def _named_inputs(table: _Table, inputs: str | Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Return the input columns and those of them that are held."""
    if inputs is None:
        return [], []
    if isinstance(inputs, str):
        inputs = [inputs] if inputs in table.columns else [name for name in inputs.split(",") if name.strip()]
    given, held = [], []
    for text in inputs:
        word, colon, how = text.rpartition(":")
        if colon and text not in table.columns and how.strip() != "hold":
            raise OptionError(f"--inputs {text}: an input is linear between its samples, or held with {word}:hold.")
        held_here = bool(colon) and text not in table.columns
        name = _look_up(table.file, "--inputs", word if held_here else text, table.columns)
        if name in given:
            table.refuse("--inputs names it twice", "name it once", name)
        if name == table.trajectory:
            table.refuse("it is the trajectory and cannot be an input too", "leave it out of --inputs", name)
        given.append(name)
        held += [name] if held_here else []
    if not given:
        table.refuse("--inputs names no column", "name at least one")
    return given, held


# The cells


def _read_times(table: _Table) -> tuple[Float[np.ndarray, "n"], str]:
    """Return the times, and the first date if they are dates."""
    column = table.columns[table.time]
    if column.empty.any():
        row = int(np.argmax(column.empty))
        table.refuse("the time is missing", "fill it in or delete the row", table.time, row)
    values, first, wrong = column.values, "", column.wrong
    if wrong.any():
        days, date = read_dates(column)
        if np.isnan(days).sum() < wrong.sum():
            values, first, wrong = days, date, np.isnan(days)
    if wrong.any():
        row = int(np.argmax(wrong))
        cause = f"{quote(column.cell(row))} is neither a number nor an ISO date such as 2014-05-18"
        table.refuse(cause, "correct the cell or name another column with --time", table.time, row)
    _refuse_infinite(table, table.time, values)
    return values, first


def _read_labels(table: _Table) -> tuple[Int[np.ndarray, "n"], list[str], list[str]]:
    """Return the number of the trajectory of each row, and the trajectories' names in natural order and their groups."""
    if table.group is None:
        labels, names = _read_names(table, table.trajectory, "trajectory")
        return labels, names, [""] * len(names)
    own, groups = _read_names(table, table.group, "group")
    if table.trajectory is None:
        return own, groups, groups
    inner, names = _read_names(table, table.trajectory, "trajectory")
    pairs, labels = np.unique(np.column_stack([inner, own]), axis=0, return_inverse=True)
    repeated = len(pairs) > len(names)  # one name in several groups
    together = [f"{groups[g]}/{names[k]}" if repeated else names[k] for k, g in pairs]
    return labels.ravel(), together, [groups[g] for _, g in pairs]


def _read_names(table: _Table, name: str | None, role: str) -> tuple[Int[np.ndarray, "n"], list[str]]:
    """Return which of the names in a column each row has, and the names in natural order; without a column all rows are alike."""
    if name is None:
        return np.zeros(len(table.sheet.rows), int), ["0"]
    column = table.columns[name]
    if column.empty.any():
        row = int(np.argmax(column.empty))
        table.refuse(f"the {role} is missing", "fill it in or delete the row", name, row)
    found, labels = _codes(column)
    names = [one_kind_of_line(v) if isinstance(v, str) else _number_name(v) for v in found.tolist()]
    rank = np.argsort(sorted(range(len(names)), key=lambda i: _natural(names[i])))
    return rank[labels], sorted(names, key=_natural)


def _codes(column: Column) -> tuple[np.ndarray, Int[np.ndarray, "n"]]:
    """Return the distinct cells of a column and, for each row, which of them it holds; empty cells are alike."""
    if column.text is None:
        return np.unique(column.values, return_inverse=True)
    import pandas as pd

    labels, found = pd.factorize(np.where(column.empty, "", column.text), sort=True)
    return found, labels


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


def _read_state(table: _Table, name: str) -> Float[np.ndarray, "n"]:
    column = table.columns[name]
    if column.wrong.any():
        row = int(np.argmax(column.wrong))
        text = column.cell(row)
        cure = table.without(name, alone="a state needs numbers")
        if re.fullmatch(r"[+-]?\d+,\d+", text):
            cure = "write it with a decimal point and without thousands separators"
        elif column.wrong.sum() < (~column.empty).sum():
            cure = f"correct the cell or empty it, or {cure}" if "--states" in cure else "correct the cell or empty it"
        table.refuse(f"{quote(text)} is not a number", cure, name, row)
    if column.empty.all():
        table.refuse("it holds no values", table.without(name, alone="a state needs numbers"), name)
    _refuse_infinite(table, name, column.values)
    return column.values


def _read_input(table: _Table, name: str, clock: np.ndarray) -> Float[np.ndarray, "n"]:
    return clock if name == table.time else _read_state(table, name)


def _find_errors(table: _Table, states: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the columns that are standard errors: those of another's name and `_sigma`, unless they were asked for as states."""
    asked = states.split(",") if isinstance(states, str) else (states or ())
    wanted = {name.strip() for name in asked}
    return tuple(
        name
        for name in table.others()
        if name.endswith(ERROR) and name.removesuffix(ERROR) in table.others() and name not in wanted
    )


def _read_errors(table: _Table, chosen: list[str], x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Return the standard error of every value, NaN where there is no column of it."""
    sigma = np.full_like(x, np.nan)
    for i, name in enumerate(chosen):
        if name + ERROR not in table.errors:
            continue
        sigma[:, i] = _read_state(table, name + ERROR)
        wrong = np.isfinite(x[:, i]) & ~(sigma[:, i] > 0)
        if wrong.any():
            row = int(np.argmax(wrong))
            cause = "a standard error is missing" if np.isnan(sigma[row, i]) else "a standard error is above 0"
            table.refuse(cause, f"correct the cell or empty the value of {name}", name + ERROR, row)
    return sigma


def _fill(
    table: _Table, name: str, t: np.ndarray, u: Float[np.ndarray, "n q"], held: Sequence[str]
) -> Float[np.ndarray, "n q"]:
    """Return the inputs of one trajectory at all of its times, from those at which they were measured."""
    filled = np.empty_like(u)
    for i, column in enumerate(table.inputs):
        seen = np.isfinite(u[:, i])
        if not seen.any():
            table.refuse(f"trajectory {quote(name)} has no value of this input", "fill one in at its start", column)
        curve = InputCurve(t[seen], u[seen, i : i + 1], np.array([column in held]))
        filled[:, i] = curve(t)[:, 0]
    return filled


def _refuse_infinite(table: _Table, name: str, values: np.ndarray) -> None:
    if np.isinf(values).any():
        row = int(np.argmax(np.isinf(values)))
        table.refuse("the value is infinite", "correct the cell or empty it", name, row)


# The columns together


def _find_identifiers(table: _Table, clock: np.ndarray, labels: np.ndarray) -> list[str]:
    """Return columns that tell several series apart, the one that leaves the fewest repeated times first."""
    if table.trajectory is not None or table.group is not None or len(clock) < 4:
        return []
    restarts = clock[1:] <= clock[:-1]
    if not restarts.any():
        return []
    found = []
    for place, name in enumerate(table.others()):
        column = table.columns[name]
        if column.empty.any() or not (column.text is not None or _is_whole(column.values)):
            continue
        distinct, codes = _codes(column)
        if 1 < len(distinct) <= len(clock) / 2 and _tells_series_apart(clock, codes, restarts):
            found.append((_count_repeats(clock, codes), place, name))
    return [name for _, _, name in sorted(found)]


def _is_whole(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).all() and (values == np.round(values)).all())


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
    sizes = np.bincount(codes)
    first, last = np.full(len(sizes), np.inf), np.full(len(sizes), -np.inf)
    np.minimum.at(first, codes, clock)
    np.maximum.at(last, codes, clock)
    return bool(sizes.min() >= 3 and np.median(last - first) >= 0.5 * np.ptp(clock))


def _count_repeats(clock: np.ndarray, codes: np.ndarray) -> int:
    order = np.lexsort((clock, codes))
    return int(_repeats(clock, codes, order).sum())


def _repeats(clock: np.ndarray, codes: np.ndarray, order: np.ndarray) -> Bool[np.ndarray, "n-1"]:
    return (np.diff(codes[order]) == 0) & (np.diff(clock[order]) == 0)


def _refuse_repeated_times(
    table: _Table, clock: np.ndarray, labels: np.ndarray, order: np.ndarray, names: list[str], identifiers: list[str]
) -> None:
    twice = _repeats(clock, labels, order)
    if not twice.any():
        return
    later = order[1:][twice]
    k = int(np.argmin(later))  # the first row of the file that repeats a time
    row, before = int(later[k]), int(order[:-1][twice][k])
    time = table.columns[table.time].cell(row)
    where = f"row {table.sheet.rows[before]} and again here"
    if table.trajectory is not None:
        cause, cure = (
            f"time {time} stands twice in trajectory {quote(names[labels[row]])}, in {where}",
            "average repeated times",
        )
    elif identifiers:
        cause, cure = f"time {time} stands twice, in {where}", f"did you mean --trajectory {_word(identifiers[0])}?"
    else:
        cause, cure = f"time {time} stands twice, in {where}", "add a trajectory column or average repeated times"
    table.refuse(cause, cure, table.time, row)


def _refuse_too_little(table: _Table, chosen: list[str], x: np.ndarray, labels: np.ndarray) -> None:
    """Refuse a state whose measured values cannot settle the smallest model; see the head of this module."""
    for i, name in enumerate(chosen):
        measured = np.isfinite(x[:, i])
        count, starts = int(measured.sum()), len(np.unique(labels[measured]))
        if count - starts < SPARE:
            what = "1 measured value" if count == 1 else f"{count} measured values"
            series = "" if starts == 1 else f" in {starts} trajectories"
            cause = f"{what}{series} where the smallest model needs {starts + SPARE}"
            cure = "measure more" if table.trajectory is None else "measure more or name another --trajectory"
            if len(chosen) > 1:
                cure += f", or {table.without(name, alone='leave it out')}"
            table.refuse(cause, cure, name)


def _refuse_constant(table: _Table, chosen: list[str], x: np.ndarray, labels: np.ndarray) -> None:
    constant = [i for i in range(len(chosen)) if _is_constant_within(x[:, i], labels)]
    if not constant:
        return
    values = x[np.isfinite(x[:, constant[0]]), constant[0]]
    cause = "it never changes while time runs, only from one trajectory to another"
    if np.ptp(values) == 0:
        cause = f"it never changes (always {values[0]:.6g})"
    cure = table.without(*(chosen[i] for i in constant), alone="measure a state that does")
    table.refuse(cause, cure, chosen[constant[0]])


def _is_constant_within(values: np.ndarray, labels: np.ndarray) -> bool:
    measured = np.isfinite(values)
    low, high = np.full(labels.max() + 1, np.inf), np.full(labels.max() + 1, -np.inf)
    np.minimum.at(low, labels[measured], values[measured])
    np.maximum.at(high, labels[measured], values[measured])
    return bool((high <= low).all())


# The notes


def _notes(table: _Table, clock: np.ndarray, labels: np.ndarray, kept: np.ndarray, first_date: str) -> list[str]:
    notes = []
    if first_date:
        notes.append(f"{table.file}: times are dates; they are counted in days since {first_date}.")
    by_label = np.argsort(labels, kind="stable")
    if (np.diff(clock[by_label])[np.diff(labels[by_label]) == 0] < 0).any():
        notes.append(f"{table.file}: rows do not stand in the order of time; they are sorted within their trajectory.")
    if not kept.all():
        count = int((~kept).sum())
        notes.append(f"{table.file}: {count} row{'s' * (count > 1)} without any measured state left out.")
    return notes


def _word(name: str) -> str:
    """Return a name as a shell takes it."""
    return name if re.fullmatch(r"[\w.,-]+", name) else f'"{name}"'
