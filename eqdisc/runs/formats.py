"""Formats: what result.json and config.json hold, as types, and the check that a file holds it.

The types below are the format: msgspec reads strict JSON (no NaN, no half a character) and compares it with them, so that whoever reads a run
need not ask what a value is. Numbers that were not finite stand as null. What types cannot say, that laws, starts and symbols
are those of the states, is checked here too. Keys that are not listed are kept as they are.
"""

# no "from __future__ import annotations": texts would hide from TypedDict which keys are not required
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import msgspec

from .. import __version__
from ..data.dataset import stands
from ..work.errors import RunError
from ..work.files import read_file
from ..work.status import Status

FORMAT = 1
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


def read_result(place: Path) -> dict[str, Any]:
    """Read a result.json. Raises RunError, which names the file and the value, where it is not one of this format."""
    facts = _read(place, "a result", Result)
    states, symbols, hidden = facts["states"], facts.get("symbols", {}), set(facts.get("hidden", ()))
    inputs = [name.removesuffix(":hold") for name in facts.get("inputs", ())]
    named = [symbols.get(name, name) for name in (*states, *inputs)]
    laws = [facts, *facts["alternatives"], *facts["front"], *facts.get("groups", {}).values()]
    ends = {entry.get("status", "ok").upper() for entry in facts["front"]}
    damages = {
        "states are not distinct names": not set(states) - hidden or len(set(states)) < len(states),
        "a state has no symbol that can stand in a formula": not all(map(stands, named[: len(states)])),
        "an input has no symbol that can stand in a formula": not all(stands(s) or s == "t" for s in named),
        "two columns have one symbol": len(set(named)) < len(named),
        "a hidden state is none of the states": not hidden <= set(states),
        "a law lacks the equation of a state": any(set(states) - set(law["equations"]) for law in laws),
        "a start lacks a state": any(set(states) - set(start["x0"]) for start in facts["initial"]),
        "a law ended in no known way": not ends <= set(Status.__members__),
        "the law that was selected is not on the front": not 0 <= facts["selected"] < len(facts["front"]),
    }
    for damage in (words for words, there in damages.items() if there):
        raise RunError(f"{place} is damaged: {damage}; run the fit again.")
    return facts


def read_beginning(place: Path) -> dict[str, Any]:
    """Read a config.json. Raises RunError, which names the file and the value, where it is not one of this format."""
    return _read(place, "a configuration", Beginning)


def _read(place: Path, what: str, kind: Any) -> dict[str, Any]:
    try:
        facts = msgspec.json.decode(read_file(place, LARGEST))
        known = facts["format"] == FORMAT
    except OSError as error:
        raise RunError(f"{place} cannot be read ({error.strerror or error}).") from None
    except (ValueError, KeyError, TypeError, RecursionError):  # msgspec's errors are ValueErrors
        raise RunError(f"{place} is not {what} of eqdisc; run the fit again.") from None
    if not known:
        raise RunError(f"{place} has format {facts['format']!r}; eqdisc {__version__} reads format {FORMAT}.")
    missing = next((key for key in kind.__annotations__ if key in kind.__required_keys__ and key not in facts), None)
    if missing:
        raise RunError(f"{place} lacks {missing!r}; run the fit again.")
    try:
        msgspec.convert(facts, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise RunError(f"{place} is damaged: {error}; run the fit again.") from None
    return facts
