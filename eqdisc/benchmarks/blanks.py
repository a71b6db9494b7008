r"""Blanks: tables in which there is no law, and what is said of them.

    python -m eqdisc.benchmarks.blanks [--noise 100] [--constants 20] [--walks 20] [--out blanks.md]

As a chemist runs a sample without the substance: pure noise about a level, a constant plus noise (each record at its own values, with
noise from a tenth of a per mille to a tenth of them), and random walks. One to three states, one or two records of 30 to 200 samples.
Whatever is called identified is a false claim.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.dataset import Dataset, Trajectory
from ..work.config import FitConfig
from ..work.errors import EqdiscError
from .pages import as_table, command

KINDS = ("noise", "constant", "walk")
REFUSED = "refused"
WORDS = ("identified", "ambiguous", "not identified", REFUSED)


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
    kinds = dict.fromkeys(b.kind for b in blanks)
    lines = as_table(["", "tables", *WORDS, "median s"], (_count(kind, blanks) for kind in kinds))
    lines += [""] + [f"- claimed: {b.kind} {b.seed}: {b.reason}" for b in blanks if b.word == WORDS[0]]
    first = {(b.kind, b.word): b for b in reversed(blanks) if b.word != WORDS[0]}
    others = sorted(first.values(), key=blanks.index)
    return "\n".join(lines + [f"- {b.kind}, {b.word}: {b.reason}" for b in others])


def _count(kind: str, blanks: list[Blank]) -> list[str]:
    words, seconds = zip(*((b.word, b.seconds) for b in blanks if b.kind == kind), strict=True)
    return [kind, str(len(words)), *(str(words.count(word)) for word in WORDS), f"{np.median(seconds):.1f}"]


def main() -> None:
    parser = command(__spec__.name, __doc__)
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
