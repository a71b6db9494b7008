r"""Comparison: eqdisc and its peers on one split of one table, every law simulated again in the same way.

The last quarter of each record is held out, and with two records or more the last one as a whole: `later` asks a law to go on, `new start`
to begin elsewhere. Each method sees the training part alone, and its law is followed along all parts in the same way (`courses`). Errors are

    sqrt(mean(((x(t_k; x0) - x_k) / sigma)**2))

in units of one sigma for all, the larger of what smoothing leaves of the data and what their differences say, and no less than a
thousandth of a state's spread.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sympy as sp
from jaxtyping import Float

from ..data.dataset import Dataset
from ..data.noise import noise_of_differences
from ..data.scaling import Scaling
from ..data.smoothing import denoise
from ..data.tables import as_dataset
from ..judge.validation import METRIC, Score
from ..law.equations import Equations
from ..law.simulation import RightHandSide, Simulation
from ..peers import PEERS, Peer, list_missing
from ..work.config import FitConfig
from ..work.errors import DataError, EqdiscError, OptionError
from ..work.journal import Journal, TimedJournal
from .courses import Courses

HELD_OUT = 0.25
SHORTEST = 12  # samples of a record whose end is held out
LEAST = 1e-3  # of a state's spread: no measurement is counted as more precise
WHOLE = 0.9  # of the longest record: a fit that followed as much at once was not cut
LARGE = 2.5  # standard errors of a standard deviation within which two errors are alike
PEER_SECONDS = 30.0  # of a method that would go on for ever
OURS = "eqdisc"


@dataclass(frozen=True, eq=False)
class Split:
    """What every method sees, the later part of the same records (of each, or None), and a record of its own (or None)."""

    train: Dataset
    later: Dataset | None
    new_start: Dataset | None

    @property
    def unseen_values(self) -> int:
        """Count the values that no method saw."""
        return sum(int(np.isfinite(part.stacked()).sum()) for part in (self.later, self.new_start) if part is not None)


def split(data: Dataset) -> Split:
    """Hold out the last quarter of each record, and the last of several records. Raises DataError where nothing can be spared.

    >>> from eqdisc.data.dataset import Trajectory
    >>> record = lambda name, n: Trajectory(np.arange(n), np.ones((n, 1)), name=name)
    >>> parts = split(Dataset((record("a", 20), record("b", 9)), ("x",)))
    >>> parts.train.sizes, parts.later.sizes, parts.new_start.trajectories[0].name
    ((15,), (5,), 'b')
    """
    several = len(data) > 1
    known = data.subset(range(len(data) - 1)) if several else data
    new_start = data.subset([len(data) - 1]) if several else None
    if max(known.sizes) >= SHORTEST:
        train, later = known.split(HELD_OUT)
        return Split(train, later, new_start)
    if new_start is None:
        raise DataError(
            f"{data.file}: {data.rows} samples are too few to hold any out; a comparison needs {SHORTEST}, or a second record."
        )
    return Split(known, None, new_start)


@dataclass(frozen=True, eq=False)
class Contender:
    """A method and what became of it: its law, errors (None where it has none), the numbers in its law, seconds, and a note."""

    name: str
    law: RightHandSide | None
    fitted: Score | None
    later: Score | None
    new_start: Score | None
    size: int | None
    seconds: float
    note: str
    curves: tuple[tuple[str, Simulation], ...] = ()  # by record

    @property
    def equations(self) -> list[str]:
        """The law in a readable form, a line a state; nothing for a network."""
        return self.law.readable() if isinstance(self.law, Equations) else []

    @property
    def numbers(self) -> int:
        """How many numbers the law has, 0 where that is not known."""
        return self.size or 0

    @property
    def unseen(self) -> float:
        """The root mean square of the errors on what was not seen, infinite where the law broke off or is missing."""
        errors = [s.error for s in (self.later, self.new_start) if s is not None]
        return math.sqrt(sum(e * e for e in errors) / len(errors)) if errors else math.inf


@dataclass(frozen=True, eq=False)
class Comparison:
    """One table of methods, eqdisc first."""

    data: Dataset
    split: Split
    sigma: Float[np.ndarray, "d"]
    contenders: tuple[Contender, ...]
    missing: tuple[str, ...]
    conclusion: str

    def facts(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "metric": METRIC,
            "sigma": dict(zip(self.data.states, self.sigma.tolist(), strict=True)),
            "split": {
                "fitted": self.split.train.rows,
                "later": None if self.split.later is None else self.split.later.rows,
                "new_start": None if self.split.new_start is None else self.split.new_start.trajectories[0].name,
            },
            "methods": [_row(c) for c in self.contenders],
            "missing": list(self.missing),
            "conclusion": self.conclusion,
        }

    def write_csv(self, path: Path) -> None:
        """Write a row a method."""
        rows = [{**row, "equations": "; ".join(row["equations"])} for row in map(_row, self.contenders)]
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def _row(c: Contender) -> dict[str, Any]:
    return {
        "method": c.name,
        "fitted": _error(c.fitted),
        "later": _error(c.later),
        "new_start": _error(c.new_start),
        "size": c.size,
        "seconds": round(c.seconds, 2),
        "note": c.note,
        "equations": c.equations,
    }


def _error(found: Score | None) -> float | None:
    return found.error if found is not None and math.isfinite(found.error) else None


def compare(
    data: Any,
    *,
    seed: int = 0,
    time_limit: float | None = None,
    peers: Sequence[Peer] | None = None,
    journal: Journal | None = None,
) -> Comparison:
    """Run eqdisc and every peer that is installed on the same split of `data` (a table, a DataFrame or a Dataset).

    `time_limit` holds for each method; without it eqdisc takes what it needs, and methods that would go on for ever half a minute.
    Raises DataError where the table is too short to be split.
    """
    journal, peers = journal or Journal(), PEERS if peers is None else peers
    table = as_dataset(data)
    if table.inputs:
        raise OptionError("the methods are compared on tables without inputs; leave out --inputs.")
    parts, sigma = split(table), estimate_sigma(table)
    running = [p for p in peers if p.installed]
    journal.record(OURS, 0, 1 + len(running))
    ours, horizon = _run_ours(parts.train, seed, time_limit, journal)
    courses = Courses.of(parts.train, parts.later, parts.new_start, sigma, horizon)
    contenders = [_contend(ours, courses)]
    for done, peer in enumerate(running, 1):
        journal.record(peer.name, done, 1 + len(running))
        contenders.append(_contend(_run_peer(peer, parts.train, seed, time_limit or PEER_SECONDS), courses))
    journal.record("compared", 1 + len(running), 1 + len(running))
    conclusion = conclude(contenders, parts.unseen_values)
    return Comparison(table, parts, sigma, tuple(contenders), tuple(list_missing(peers)), conclusion)


def estimate_sigma(data: Dataset) -> Float[np.ndarray, "d"]:
    """Return the noise in the user's units, the larger of what smoothing leaves and what differences say; it belongs to no method."""
    scaling = Scaling.of(data)
    scaled = scaling.apply(data)
    found = denoise(scaled)
    rough = [noise_of_differences([(k.t, k.x[:, e]) for k in scaled.trajectories]) for e in range(data.d)]
    return np.maximum(np.maximum(found.sigma, np.array(rough)), LEAST * found.spread) * scaling.states


# Running the methods

Ran = tuple[str, RightHandSide | None, float, str]  # method, law, seconds, note


def _run_ours(train: Dataset, seed: int, time_limit: float | None, journal: Journal) -> tuple[Ran, float]:
    """Return eqdisc's law, its verdict as the note, and the length that its fit followed at once, infinite if that was everything."""
    from ..discovery import discover  # torch

    started = time.monotonic()
    inner = _Deadline(journal, time_limit)
    try:
        found = discover(train, FitConfig(seed=seed), journal=inner)
    except EqdiscError as error:
        return (OURS, None, time.monotonic() - started, f"failed: {error}"), math.inf
    horizon = found.result()["errors"]["horizon"] or math.inf
    whole = horizon > WHOLE * train.span
    return (OURS, found.equations, time.monotonic() - started, found.verdict), math.inf if whole else horizon


class _Deadline(TimedJournal):
    """A journal that stops a search in time, or when the one it stands for asks for it."""

    def __init__(self, journal: Journal, seconds: float | None) -> None:
        super().__init__(seconds)
        self.journal = journal

    @property
    def stop(self) -> bool:
        return self.journal.stop or super().stop


def _run_peer(peer: Peer, train: Dataset, seed: int, seconds: float) -> Ran:
    started = time.monotonic()
    try:
        law = peer.fit(train, seed, seconds)
    except Exception as error:  # another's code: whatever it raises is a row
        first = (str(error).strip() or "no message").splitlines()[0]
        return peer.name, None, time.monotonic() - started, f"failed: {type(error).__name__}: {first}"
    return peer.name, law, time.monotonic() - started, ""


def _contend(ran: Ran, courses: Courses) -> Contender:
    """Follow the law of one method along everything."""
    name, law, seconds, note = ran
    if law is None:
        return Contender(name, None, None, None, None, None, seconds, note)
    found = courses.follow(law)
    note = "; ".join(filter(None, (note, found.broken)))
    scores = found.fitted, found.later, found.new_start
    return Contender(name, law, *scores, count_numbers(law), seconds, note, found.curves)


def count_numbers(law: RightHandSide) -> int:
    """Count what a law adjusts: a coefficient for each term, each exponent that is no simple fraction, each constant in a sum.

    >>> count_numbers(Equations.parse({"x": "2*x - x**0.73/(x + 4)"}, ("x",)))
    4
    """
    if not isinstance(law, Equations):
        return int(getattr(law, "size", 0))
    terms = [term for r in law.rhs for term in sp.Add.make_args(r) if term != 0]
    return sum(1 + _count_inside(term.as_coeff_Mul()[1]) for term in terms)


def _count_inside(term: sp.Expr) -> int:
    nodes = list(sp.preorder_traversal(term))
    loose = sum(isinstance(n, sp.Float) for n in nodes)
    return loose + sum(isinstance(a, sp.Integer) for n in nodes if isinstance(n, sp.Add) for a in n.args)


# What it says


def conclude(contenders: Sequence[Contender], values: int) -> str:
    """Say in one sentence whether a simpler method suffices; errors are alike within what chance makes of so many values."""
    ours, others = contenders[0], [c for c in contenders[1:] if math.isfinite(c.unseen)]
    if not others:
        return "No other method followed what was held out."
    nearest = min(others, key=lambda c: c.unseen)
    if not math.isfinite(ours.unseen):
        return f"eqdisc's law does not follow what was held out; {nearest.name} comes nearest (error {nearest.unseen:.3g})."
    best, words = _weigh(ours, others, nearest, 1 + LARGE / math.sqrt(2 * max(values, 1)))
    numbers = f"error {best.unseen:.3g} to {ours.unseen:.3g}, {best.size} numbers to {ours.size}"
    return f"{words.format(best.name)} ({numbers})."


def _weigh(ours: Contender, others: list[Contender], nearest: Contender, slack: float) -> tuple[Contender, str]:
    """Return which of the others matters most, and what is to be said of it."""
    alike = [c for c in others if c.unseen <= slack * max(ours.unseen, 1.0)]
    simple = [c for c in alike if c.numbers <= ours.numbers]
    if simple:
        best = min(simple, key=lambda c: (c.numbers, c.seconds))
        return best, "{} suffices here: it follows what was held out about as well as eqdisc"
    if nearest.unseen * slack < ours.unseen and ours.unseen > slack:
        return nearest, "{} follows what was held out better than eqdisc"
    if alike:
        best = min(alike, key=lambda c: (c.numbers, c.unseen))
        return best, "{} follows what was held out about as well as eqdisc, but not as simply"
    return nearest, "No other method follows what was held out as well as eqdisc; {} comes nearest"


__all__ = ["Comparison", "Contender", "Split", "compare"]
