"""Frames: what is shown as a pandas DataFrame, curves, fronts and parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


def free_roles(time: str, states: Sequence[str]) -> tuple[str, str]:
    """Return names for the columns of trajectory and time that no state has.

    >>> free_roles("t", ["x", "t"])
    ('trajectory', 't_')
    """
    label, clock = "trajectory", time
    while label in states:
        label += "_"
    while clock in states or clock == label:
        clock += "_"
    return label, clock


def tabulate_curves(
    curves: Iterable[tuple[str, np.ndarray, np.ndarray]], time: str, states: Sequence[str]
) -> pd.DataFrame:
    """Return curves, each a name, times (n,) and states (n, d), as one DataFrame: trajectory, time, states.

    >>> tabulate_curves([("a", np.array([0.0]), np.array([[1.0, 2.0]]))], "t", ["S", "I"]).to_dict("list")
    {'trajectory': ['a'], 't': [0.0], 'S': [1.0], 'I': [2.0]}
    """
    import pandas as pd

    label, clock = free_roles(time, states)
    pieces = list(curves)
    names = np.repeat(np.array([name for name, _, _ in pieces], object), [len(t) for _, t, _ in pieces])
    t, x = np.concatenate([t for _, t, _ in pieces]), np.concatenate([x for _, _, x in pieces])
    columns = {label: names, clock: t} | {name: x[:, i] for i, name in enumerate(states)}
    return pd.DataFrame(columns)


def tabulate_front(entries: Sequence[Mapping[str, Any]], selected: int) -> pd.DataFrame:
    """Return the front, entries as in result.json, as a DataFrame: one law a row, as front.csv has it, `pick` true for one."""
    import pandas as pd

    keys = ("complexity", "parameters", "train", "unseen", "description_length", "status")
    rows = []
    for k, entry in enumerate(entries):
        sides = {f"d{name}/dt": side for name, side in entry["equations"].items()}
        rows.append({"pick": k == selected} | {key: entry.get(key) for key in keys} | sides)
    table = pd.DataFrame(rows)
    return table.astype(dict.fromkeys(("train", "unseen", "description_length"), float))


def tabulate_parameters(parameters: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the numbers of a law, as in result.json, as a DataFrame: name, value, low, high, unit, where, term, chosen, group if any."""
    import pandas as pd

    rows = []
    for p in parameters:
        low, high = p["ci"] or (np.nan, np.nan)
        words = (p["unit"], p["where"], p.get("term", ""), p.get("chosen", False), p.get("group", ""))
        rows.append((p["name"], p["value"], low, high, *words))
    table = pd.DataFrame(rows, columns=["name", "value", "low", "high", "unit", "where", "term", "chosen", "group"])
    table = table if table["group"].any() else table.drop(columns="group")
    return table.astype(dict.fromkeys(("value", "low", "high"), float))
