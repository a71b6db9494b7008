r"""Blanks: tables in which there is no law, and what is said of them.

    python -m eqdisc.benchmarks.blanks [--noise 100] [--constants 20] [--walks 20] [--out blanks.md]

As a chemist runs a sample without the substance: pure noise about a level, a constant plus noise (each record at its own values, with
noise from a tenth of a per mille to a tenth of them), and random walks. One to three states, one or two records of 30 to 200 samples.
Whatever is called identified is a false claim.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.dataset import Dataset, Trajectory
from ..work.config import FitConfig
from ..work.errors import EqdiscError

KINDS = ("noise", "constant", "walk")
REFUSED = "refused"


@dataclass(frozen=True)
class Blank:
    """What was said of one table: a word, its first reason, and the seconds it took."""

    kind: str
    seed: int
    word: str
    reason: str
    seconds: float


def draw(kind: str, seed: int) -> Dataset:
    """Draw a table without a law.

    >>> data = draw("walk", 3)
    >>> data.d, len(data.trajectories) in (1, 2)
    (1, True)
    """
    rng = np.random.default_rng([KINDS.index(kind), seed])
    d, n = 1 + seed % 3, int(rng.choice([30, 60, 100, 200]))
    records = tuple(_record(kind, n, d, rng) for _ in range(1 + seed % 2))
    t = np.linspace(0.0, 10.0, n)
    return Dataset(
        tuple(Trajectory(t, x, str(k)) for k, x in enumerate(records)), states=tuple("xyz"[:d]), file=f"{kind} {seed}"
    )


def _record(kind: str, n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    if kind == "noise":
        return rng.choice([0.0, 3.0, 10.0]) + rng.normal(size=(n, d))
    if kind == "constant":
        level = np.exp(rng.uniform(-3.0, 5.0, d))
        return level * (1 + np.exp(rng.uniform(np.log(1e-4), np.log(0.1))) * rng.normal(size=(n, d)))
    return rng.choice([0.0, 20.0]) + rng.normal(size=(n, d)).cumsum(0)


def measure(kind: str, seed: int) -> Blank:
    """Fit one table and keep what is said of it."""
    from ..discovery import discover

    began = time.perf_counter()
    try:
        found = discover(draw(kind, seed), FitConfig(seed=seed))
        word, reason = found.verdict, found.reasons[0]
    except EqdiscError as error:
        word, reason = REFUSED, str(error)
    return Blank(kind, seed, word, reason, time.perf_counter() - began)


def write_table(blanks: list[Blank]) -> str:
    """Return the counts in Markdown, then every claim, then one reason of each kind of table."""
    words = ("identified", "ambiguous", "not identified", REFUSED)
    lines = [f"| | tables | {' | '.join(words)} | median s |", "|-|-|-|-|-|-|-|"]
    for kind in dict.fromkeys(b.kind for b in blanks):
        of = [b for b in blanks if b.kind == kind]
        counts = Counter(b.word for b in of)
        median = np.median([b.seconds for b in of])
        lines.append(f"| {kind} | {len(of)} | {' | '.join(str(counts[w]) for w in words)} | {median:.1f} |")
    lines += [""] + [f"- claimed: {b.kind} {b.seed}: {b.reason}" for b in blanks if b.word == words[0]]
    return "\n".join(lines + [f"- {b.kind}, {b.word}: {b.reason}" for b in _first(blanks) if b.word != words[0]])


def _first(blanks: list[Blank]) -> Iterator[Blank]:
    seen = set()
    for b in blanks:
        if (b.kind, b.word) not in seen:
            seen.add((b.kind, b.word))
            yield b


def main() -> None:
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=(__doc__ or "").split("\n\n")[0])
    for option, count in (("--noise", 100), ("--constants", 20), ("--walks", 20)):
        parser.add_argument(option, type=int, default=count)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    blanks = []
    for kind, count in zip(KINDS, (given.noise, given.constants, given.walks), strict=True):
        for seed in range(count):
            blanks.append(measure(kind, seed))
            print(kind, seed, blanks[-1].word, f"{blanks[-1].seconds:.1f} s", blanks[-1].reason, flush=True)
    table = write_table(blanks)
    print(table)
    if given.out:
        given.out.write_text(table + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
