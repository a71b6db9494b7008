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
their names. Units may stand in the header, `S [persons]`. A state is refused if it was measured fewer than 3 times plus once a trajectory.

Nothing is mended silently: what was, stands in `Dataset.notes`; what cannot be is a DataError that names file, row (the
header is row 1; in a DataFrame rows are counted from 0), column, cause and cure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..work.errors import DataError, OptionError, did_you_mean
from .columns import ERROR, Column, Table, as_word, quote, refuse_repeated_names
from .dataset import Dataset, Trajectory
from .dimensions import read_units
from .sheet import Sheet, read_sheet, sheet_of

if TYPE_CHECKING:
    import pandas as pd

_UNIT = re.compile(r"(.*\S)\s*\[(.*)\]")


@dataclass(frozen=True)
class _Roles:
    """What was said about columns; None where nothing was."""

    time: str | None
    trajectory: str | None
    states: str | Sequence[str] | None
    inputs: str | Sequence[str] | None
    group: str | None
    units: str | Mapping[str, str] | None


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
    return _assign(read_sheet(path), _Roles(time, trajectory, states, inputs, group, units))


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
    roles = _Roles(time, trajectory, states, inputs, group, units)
    if isinstance(data, Dataset):
        if any(role is not None for role in vars(roles).values()):
            raise OptionError("a Dataset has its roles already; give time, trajectory, states and inputs with a table.")
        return data
    if isinstance(data, (str, Path)):
        return _assign(read_sheet(data), roles)
    if type(data).__name__ == "DataFrame" and hasattr(data, "iloc"):  # pandas stays unloaded for those who do without
        return _assign(sheet_of(data), roles)
    raise OptionError(f"cannot read a {type(data).__name__} as a table; give a path, a pandas DataFrame or a Dataset.")


def write_table(data: Dataset, path: str | Path) -> None:
    """Write a dataset as CSV: trajectory, time, states, inputs, standard errors; `read_table(path, time=data.time)` gives it back exactly.

    The trajectory column is left out for one trajectory of the default name; a name that is taken gets underscores.
    """
    import pandas as pd

    frame, unit = data.to_frame(), {name: f" [{text}]" for name, text in data.units.items()}
    label, clock, *columns = frame.columns
    frame.columns = [label, clock + unit.get(data.time, ""), *(name + unit.get(name, "") for name in columns)]
    known = np.isfinite(data.errors).any(0)
    names = np.array(data.states, object)[known] + ERROR
    frame = pd.concat([frame, pd.DataFrame(data.errors[:, known], columns=names)], axis=1)
    if data.group:
        frame.insert(1, data.group, np.repeat([k.group for k in data.trajectories], data.sizes), allow_duplicates=True)
    elif len(data) == 1 and data.trajectories[0].name == "0":
        frame = frame.iloc[:, 1:]
    frame.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")


def hash_file(path: str | Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _assign(sheet: Sheet, roles: _Roles) -> Dataset:
    """Give every column its role, refuse what cannot be used, and sort the rows into trajectories."""
    table, units = _read_header(sheet, roles)
    given, held = _named_inputs(table, roles.inputs)
    table = replace(table, inputs=tuple(given))
    table = replace(table, errors=_find_errors(table, roles.states))
    clock, first_date = table.read_times()
    labels, names, groups = table.read_labels()
    identifiers = table.find_identifiers(clock)
    chosen = _choose_states(table, roles.states, identifiers)
    x = np.stack([table.read_state(name) for name in chosen], -1)
    sigma = table.read_errors(chosen, x)
    u = np.column_stack([np.zeros((len(clock), 0)), *(_read_input(table, name, clock) for name in given)])
    kept = np.isfinite(x).any(1) | (np.isfinite(u).any(1) & bool(set(given) - {table.time}))
    order = np.lexsort((clock, labels))
    table.refuse_repeated_times(clock, labels, order, names, identifiers)
    table.refuse_too_little(chosen, x, labels)
    table.refuse_constant(chosen, x, labels)

    def record(rows: np.ndarray) -> Trajectory:
        t, name, group = clock[rows], names[labels[rows[0]]], groups[labels[rows[0]]]
        known = table.fill_inputs(name, t, u[rows], held)
        return Trajectory(t, x[rows], name=name, u=known, group=group, sigma=sigma[rows])

    notes = [*sheet.notes, *_notes(table, clock, labels, kept, first_date)]
    order = order[kept[order]]
    pieces = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    units = {name: units[name] for name in (table.time, *chosen, *given) if name in units}
    data = Dataset(
        tuple(map(record, pieces)),
        tuple(chosen),
        time=table.time,
        file=table.file,
        notes=tuple(notes),
        units=units | ({table.time: "day"} if first_date else {}),
        inputs=tuple(given),
        held=tuple(held),
        group=table.group or "",
    )
    return data if roles.units is None else replace(data, units=data.units | read_units(roles.units, data))


def _read_input(table: Table, name: str, clock: np.ndarray) -> np.ndarray:
    return clock if name == table.time else table.read_state(name)


def _notes(table: Table, clock: np.ndarray, labels: np.ndarray, kept: np.ndarray, first_date: str) -> list[str]:
    """Say what reading had to settle."""
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


# Roles


def _read_header(sheet: Sheet, roles: _Roles) -> tuple[Table, dict[str, str]]:
    """Return the table with time, trajectory and group in their roles, and the units in the header."""
    columns, units = _name_columns(sheet)
    wanted = {"trajectory": roles.trajectory, "time": roles.time, "group": roles.group}
    said = {role: _look_up(sheet.file, f"--{role}", name, columns) for role, name in wanted.items() if name is not None}
    (time, trajectory), group = _find_clock_and_labels(columns, said), said.get("group")
    if time is None or len(columns) < 2:
        raise DataError(f"{sheet.file} has one column only; it needs a time and a state.")
    table = Table(sheet.file, columns, sheet.rows, time, trajectory, group)
    if time == trajectory:
        table.refuse("it cannot be both time and trajectory", "name two columns", time)
    if group in {time, trajectory} - {None}:
        role = "time" if group == time else "trajectory"
        table.refuse(f"it cannot be the group and the {role} too", "name two columns", group)
    return table, units


def _name_columns(sheet: Sheet) -> tuple[dict[str, Column], dict[str, str]]:
    """Return the columns by their name without unit, and the units that the header has."""
    parts = [_UNIT.fullmatch(column.name) for column in sheet.columns]
    names = [match[1] if match else column.name for match, column in zip(parts, sheet.columns, strict=True)]
    refuse_repeated_names(sheet.file, names)
    units = {match[1]: match[2].strip() for match in parts if match and match[2].strip()}
    return dict(zip(names, sheet.columns, strict=True)), units


def _find_clock_and_labels(columns: dict[str, Column], said: dict[str, str]) -> tuple[str | None, str | None]:
    """Return the columns of time and trajectory: those that were named, or look as if."""
    labels = (name for name in columns if name.casefold() == "trajectory" and name not in said.values())
    trajectory = said["trajectory"] if "trajectory" in said else next(labels, None)
    if "time" in said:
        return said["time"], trajectory
    return _find_time([name for name in columns if name not in (trajectory, said.get("group"))], columns), trajectory


def _find_time(names: list[str], columns: dict[str, Column]) -> str | None:
    """Return the column named t or time, else the first; a column T beside a first column that rises is no time."""
    named = [name for name in names if name.casefold() == "time"]
    named = [name for name in ("t", "time") if name in names] + named
    if not named and "T" in names and not (np.diff(columns[names[0]].values) > 0).all():
        return "T"
    return next(iter(named + names), None)


def _look_up(file: str, option: str, name: str, columns: dict[str, Column]) -> str:
    """Return the column that an option names, with or without its unit."""
    for known, column in columns.items():
        if name.strip() in (known, column.name):
            return known
    twin = next((known for known in columns if known.casefold() == name.strip().casefold()), None)
    hint = f" Did you mean {twin!r}?" if twin else did_you_mean(name, columns)
    some = ", ".join(list(columns)[:12]) + (", ..." if len(columns) > 12 else "")
    raise DataError(f"{file}: {option} names {quote(name)}, but the columns are {some}.{hint}")


def _choose_states(table: Table, states: str | Sequence[str] | None, identifiers: list[str]) -> list[str]:
    """Return the state columns: those that were asked for, else all that hold numbers."""
    if states is not None:
        return _named_states(table, states)
    if not table.others():
        table.refuse("there is no state column beside the time", "add the measured states as columns of numbers")
    if identifiers:
        name = identifiers[0]
        what = "text" if table.columns[name].wrong.any() else "whole numbers"
        cause = f"this looks like an identifier ({what}, constant while time runs, time starting again)"
        table.refuse(cause, f"did you mean --trajectory {as_word(name)}?", name)
    return table.others()


def _split(table: Table, names: str | Sequence[str]) -> Sequence[str]:
    """Return names that may stand in one text, with commas between them."""
    if not isinstance(names, str):
        return names
    return [names] if names in table.columns else [name for name in names.split(",") if name.strip()]


def _named_states(table: Table, states: str | Sequence[str]) -> list[str]:
    chosen = [_look_up(table.file, "--states", name, table.columns) for name in _split(table, states)]
    if not chosen:
        table.refuse("--states names no column", "name at least one")
    other = {table.trajectory: "trajectory", table.time: "time"}
    for i, name in enumerate(chosen):
        if name in chosen[:i]:
            table.refuse("--states names it twice", "name it once", name)
        if name in table.inputs:
            table.refuse("it cannot be both state and input", "leave it out of --states or of --inputs", name)
        if name in other:
            cure = f"leave it out of --states or name another --{other[name]}"
            table.refuse(f"it is the {other[name]} and cannot be a state too", cure, name)
    return chosen


def _named_inputs(table: Table, inputs: str | Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Return the input columns and those of them that are held."""
    if inputs is None:
        return [], []
    given, held = [], []
    for text in _split(table, inputs):
        name, is_held = _named_input(table, text)
        if name in given:
            table.refuse("--inputs names it twice", "name it once", name)
        if name == table.trajectory:
            table.refuse("it is the trajectory and cannot be an input too", "leave it out of --inputs", name)
        given.append(name)
        held += [name] if is_held else []
    if not given:
        table.refuse("--inputs names no column", "name at least one")
    return given, held


def _named_input(table: Table, text: str) -> tuple[str, bool]:
    """Return the column that a text names, and whether `:hold` stands behind it."""
    word, colon, how = text.rpartition(":")
    if not colon or text in table.columns:
        return _look_up(table.file, "--inputs", text, table.columns), False
    if how.strip() != "hold":
        raise OptionError(f"--inputs {text}: an input is linear between its samples, or held with {word}:hold.")
    return _look_up(table.file, "--inputs", word, table.columns), True


def _find_errors(table: Table, states: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the columns that are standard errors: those of another's name and `_sigma`, unless they were asked for as states."""
    asked = {name.strip() for name in (states.split(",") if isinstance(states, str) else states or ())}
    named, others = {name + ERROR for name in table.others()}, table.others()
    return tuple(name for name in others if name in named and name not in asked)
