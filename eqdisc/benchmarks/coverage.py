r"""Coverage: how often a nominal 90 % interval holds the number that made the data.

    python -m eqdisc.benchmarks.coverage [--noise 0.02] [--seeds 25] [--first 0] [--starts 2] [--out coverage.md] [--rows coverage.csv]

Laws of the catalogue are measured with noise and fitted; each number of the true law, a coefficient or an exponent, is looked up
among the parameters of the law that was found. Three rates, as they answer three questions:

    before snapping         exponents free (`snap=False`), fits whose terms are the true ones: are the intervals right?
    conditional on recovery as printed, fits that recovered the law: may a user who has the right law trust them?
    over all fits           as printed, a number of the true law that has no counterpart counts as missed

As printed, coefficients take chosen exponents (1, 1/2) as known, and the interval of a chosen exponent takes the others as known; whole
exponents of states that change sign have none. The numbers of one data set share their noise, so they miss together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..law.catalogue import catalogue, simulate_system
from ..law.equations import Equations, Parameter
from ..work.config import FitConfig
from .benchmark import wilson
from .pages import as_table, command
from .scoring import fit, middle_of, recovered

if TYPE_CHECKING:
    from ..judge.finding import Finding

SYSTEMS = (
    *("torricelli", "generalized_growth", "half_order", "two_tanks"),
    *("lotka_volterra", "van_der_pol", "sir", "fsir"),
)
QUESTIONS = ("before snapping", "conditional on recovery", "over all fits")
NEAR = 0.25  # exponents this far apart, of the same states, belong to the same term


@dataclass(frozen=True)
class Number:
    """One number of a true law and whether an interval held it; `question` is the rate it counts for."""

    system: str
    seed: int
    question: str
    kind: str
    equation: str
    value: float
    held: bool


def measure(system: str, seed: int, noise: float, starts: int) -> Iterator[Number]:
    """Fit one table twice, with and without snapping, and yield every number of its law."""
    truth = catalogue()[system].law
    data = simulate_system(system, noise=noise, seed=seed, starts=min(starts, len(catalogue()[system].x0)))
    for snap in (False, True):
        found = fit(data, FitConfig(seed=seed, snap=snap))
        for question in _answered(found, truth, middle_of(data), snap):
            for kind, equation, value, held in compare(truth, found.parameters if found else ()):
                if held is not None or question == QUESTIONS[2]:
                    yield Number(system, seed, question, kind, equation, value, bool(held))


def _answered(found: Finding | None, truth: Equations, middle: np.ndarray, snap: bool) -> list[str]:
    """Return the questions that a fit answers; over all fits, every number of one without a law is missed."""
    before, conditional, always = QUESTIONS
    if found is None or not found.parameters:
        return [always] if snap else []
    if not snap:
        return [before] if _same_terms(found.equations, truth) else []
    return [always, *([conditional] if recovered(found.equations, truth, middle) else [])]


def compare(truth: Equations, parameters: Sequence[Parameter]) -> Iterator[tuple[str, str, float, bool | None]]:
    """Yield (kind, equation, value, held) for each number of a law; None where no parameter stands for a coefficient.

    >>> law = Equations.parse({"x": "-0.5*x**0.7"}, ("x",))
    >>> k = Parameter("k1", -0.51, (-0.53, -0.49), "", "x", "x**0.71")
    >>> p = Parameter("p1", 0.71, (0.705, 0.715), "", "power of x in x", "x**0.71")
    >>> list(compare(law, [k, p]))
    [('coefficient', 'x', -0.5, True), ('exponent', 'x', 0.7, False)]
    """
    found = [(_read(p, truth.states), p) for p in parameters]
    table = truth.terms()
    assert table is not None
    for row, column in zip(*table, strict=True):
        alike = [p for w, p in found if _alike(w, row)]
        for e in np.flatnonzero(column):
            yield (
                "coefficient",
                truth.states[e],
                float(column[e]),
                _holds_coefficient(alike, truth.states[e], column[e]),
            )
        yield from _compare_exponents(alike, truth.states, row)


def _holds_coefficient(alike: list[Parameter], state: str, value: float) -> bool | None:
    own = next(
        (p for p in alike if p.name.startswith("k") and state in p.where.rpartition(" in ")[2].split(", ")), None
    )
    if own is None:
        return None
    return _holds(own, -value if own.value > 0 > value else value)  # one number stands for both signs


def _compare_exponents(
    alike: list[Parameter], states: Sequence[str], row: np.ndarray
) -> Iterator[tuple[str, str, float, bool | None]]:
    for i in np.flatnonzero(row).tolist():
        power = next((p for p in alike if p.where.startswith(f"power of {states[i]} in ")), None)
        if power is not None:
            yield "chosen exponent" if power.chosen else "exponent", states[i], float(row[i]), _holds(power, row[i])
        elif not alike:
            yield "exponent", states[i], float(row[i]), None


def _read(p: Parameter, states: Sequence[str]) -> np.ndarray:
    """Return a parameter's term as exponents."""
    table = Equations.parse({**dict.fromkeys(states, "0"), states[0]: p.term}, states).terms()
    return np.full(len(states), np.nan) if table is None else table[0][0]


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    return bool((np.abs(one - other) <= NEAR).all() and ((one == 0) == (other == 0)).all())


def _holds(p: Parameter, value: float) -> bool:
    return p.ci is not None and bool(p.ci[0] <= value <= p.ci[1])


def _same_terms(law: Equations, truth: Equations) -> bool:
    """Tell whether every equation has the true terms and no other, exponents within 0.25."""
    mine, true = law.terms(), truth.terms()
    if mine is None or true is None:
        return False
    return all(_same_rows(*(w[a[:, e] != 0] for w, a in (mine, true))) for e in range(len(truth.states)))


def _same_rows(rows: np.ndarray, wanted: np.ndarray) -> bool:
    return len(rows) == len(wanted) and all(any(_alike(r, w) for r in rows) for w in wanted)


def write_table(numbers: Sequence[Number]) -> str:
    """Return the three rates in Markdown, by system and in all, with Wilson's 90 % interval and how many numbers count."""
    there = {n.kind for n in numbers}
    kinds = [k for k in ("coefficient", "exponent", "chosen exponent") if k in there]
    labels = (*dict.fromkeys(n.system for n in numbers), *kinds, "all")
    rates = ([_rate(numbers, question, label) for question in QUESTIONS] for label in labels)
    rows = ([label, *some] for label, some in zip(labels, rates, strict=True))
    return "\n".join(as_table(["", *QUESTIONS], rows)) + "\n"


def _rate(numbers: Sequence[Number], question: str, label: str) -> str:
    held = [n.held for n in numbers if n.question == question and label in (n.system, n.kind, "all")]
    if not held:
        return "-"
    low, high = wilson(sum(held), len(held))
    return f"{100 * np.mean(held):.0f} % ({100 * low:.0f} to {100 * high:.0f}) of {len(held)}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the coverage and write table and rows."""
    parser = command("eqdisc.benchmarks.coverage", __doc__)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS))
    parser.add_argument("--noise", type=float, default=0.02)
    parser.add_argument("--seeds", type=int, default=25)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--starts", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None, help="file for the table")
    parser.add_argument("--rows", type=Path, default=None, help="file for the numbers")
    options = parser.parse_args(arguments)
    numbers: list[Number] = []
    for seed in range(options.first, options.first + options.seeds):
        for system in options.systems:
            numbers += measure(system, seed, options.noise, options.starts)
        print(f"{seed + 1 - options.first} of {options.seeds} seeds\n{write_table(numbers)}", flush=True)
        if options.out:
            options.out.write_text(write_table(numbers), encoding="utf-8")
        if options.rows and numbers:
            pd.DataFrame(numbers).to_csv(options.rows, index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
