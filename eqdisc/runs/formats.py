"""Formats: what result.json and config.json hold, as types, and the check that a file holds it.

The types below are the format: msgspec reads strict JSON (no NaN, no half a character) and compares it with them, so that whoever reads a run
need not ask what a value is. Numbers that were not finite stand as null. What types cannot say, that laws, starts and symbols
are those of the states, is checked here too. Keys that are not listed are kept as they are.
"""

# no "from __future__ import annotations": texts would hide from TypedDict which keys are not required
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import msgspec

from ..data.dataset import stands
from ..work.errors import RunError
from ..work.files import read_file
from ..work.status import Status

LARGEST = 2**27  # bytes of a result.json: starts of a million trajectories
Number = float | None
Texts = dict[str, str]


class Law(TypedDict):
    """Right-hand sides by state."""

    equations: Texts


class Start(TypedDict):
    """Where a trajectory starts, and its noise where trajectories differ in it."""

    trajectory: str
    x0: dict[str, Number]
    sigma: NotRequired[dict[str, Number]]


class Facts(TypedDict):
    """A number of the law (see `Parameter`)."""

    name: str
    value: float
    ci: tuple[Number, Number] | None
    unit: str
    where: str
    term: NotRequired[str]
    chosen: NotRequired[bool]
    group: NotRequired[str]


class Entry(TypedDict):
    """A law of the front."""

    complexity: int
    parameters: int
    equations: Texts
    train: Number
    unseen: Number
    description_length: Number
    status: NotRequired[str]


class Inclusion(TypedDict):
    """What a bootstrap says of a term."""

    equation: str
    term: str
    inclusion: float
    coefficient: tuple[float, float, float] | None
    exponents: dict[str, tuple[float, float, float]]


class Bootstrap(TypedDict):
    """What a bootstrap says of a law."""

    count: int
    won: float
    level: float
    terms: list[Inclusion]


class Table(TypedDict):
    """The table that was fitted."""

    file: str
    sha256: NotRequired[str | None]
    notes: NotRequired[list[str]]


class Result(TypedDict):
    """The contents of result.json."""

    format: int
    eqdisc: str
    states: list[str]
    time: str
    equations: Texts
    verdict: Literal["identified", "ambiguous", "not identified"]
    reasons: list[str]
    alternatives: list[Law]
    parameters: list[Facts]
    initial: list[Start]
    sigma: dict[str, Number]
    errors: dict[str, float | str | None]
    front: list[Entry]
    selected: int
    ci_level: float
    data: Table
    config: dict[str, Any]
    inputs: NotRequired[list[str]]
    symbols: NotRequired[Texts]
    invariants: NotRequired[list[str]]
    flat: NotRequired[list[str]]
    hidden: NotRequired[list[str]]
    group: NotRequired[str]
    groups: NotRequired[dict[str, Law]]
    bootstrap: NotRequired[Bootstrap]


class Beginning(TypedDict):
    """The contents of config.json."""

    format: int
    states: list[str]
    time: str
    config: dict[str, Any]
    data: Table
    fitted: str
    validate: str | None
    inputs: NotRequired[list[str]]
    group: NotRequired[str]
    started: NotRequired[str]
    command: NotRequired[list[str]]
    versions: NotRequired[Texts]


def read_json(place: Path, what: str) -> dict[str, Any]:
    """Read a JSON object that has a format. Raises RunError: `what` it is not, or why the file cannot be read."""
    try:
        facts = msgspec.json.decode(read_file(place, LARGEST))
        _ = facts["format"]
    except OSError as error:
        raise RunError(f"{place} cannot be read ({error.strerror or error}).") from None
    except (ValueError, KeyError, TypeError, RecursionError):  # msgspec's errors are ValueErrors
        raise RunError(f"{place} is not {what} of eqdisc; run the fit again.") from None
    return facts


def check_result(place: Path, facts: dict[str, Any]) -> None:
    """Raise RunError, which names the file and the value, unless these are the contents of a result.json."""
    _check_types(place, facts, Result)
    states, symbols = facts["states"], facts.get("symbols", {})
    named = [symbols.get(name, name) for name in (*states, *_inputs_of(facts))]
    groups = facts.get("groups", {})
    laws = [facts, *facts["alternatives"], *facts["front"], *groups.values()]
    measured = set(states) - set(facts.get("hidden", ()))
    for wrong, cause in (
        (not measured or len(set(states)) < len(states), "states are not distinct names"),
        (any(not stands(s) for s in named[: len(states)]), "a state has no symbol that can stand in a formula"),
        (any(not (stands(s) or s == "t") for s in named), "an input has no symbol that can stand in a formula"),
        (len(set(named)) < len(named), "two columns have one symbol"),
        (not set(facts.get("hidden", ())) <= set(states), "a hidden state is none of the states"),
        (any(set(states) - set(law["equations"]) for law in laws), "a law lacks the equation of a state"),
        (any(set(states) - set(start["x0"]) for start in facts["initial"]), "a start lacks a state"),
        (
            any(e.get("status", "ok").upper() not in Status.__members__ for e in facts["front"]),
            "a law ended in no known way",
        ),
        (not 0 <= facts["selected"] < len(facts["front"]), "the law that was selected is not on the front"),
    ):
        if wrong:
            raise RunError(f"{place} is damaged: {cause}; run the fit again.")


def _inputs_of(facts: Mapping[str, Any]) -> list[str]:
    return [name.removesuffix(":hold") for name in facts.get("inputs", ())]


def check_beginning(place: Path, facts: dict[str, Any]) -> None:
    """Raise RunError, which names the file and the value, unless these are the contents of a config.json."""
    _check_types(place, facts, Beginning)


def _check_types(place: Path, facts: dict[str, Any], kind: Any) -> None:
    required = sorted(kind.__required_keys__, key=list(kind.__annotations__).index)
    missing = next((key for key in required if key not in facts), None)
    if missing:
        raise RunError(f"{place} lacks {missing!r}; run the fit again.")
    try:
        msgspec.convert(facts, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise RunError(f"{place} is damaged: {error}; run the fit again.") from None
