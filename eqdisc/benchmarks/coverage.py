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

import argparse
import csv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..law.catalogue import catalogue, simulate_system
from ..law.equations import Equations, Parameter
from ..work.config import FitConfig
from ..work.errors import EqdiscError
from .scoring import middle_of, recovered

SYSTEMS = (
    "torricelli",
    "generalized_growth",
    "half_order",
    "two_tanks",
    "lotka_volterra",
    "van_der_pol",
    "sir",
    "fsir",
)
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
    from ..discovery import discover

    truth = catalogue()[system].law
    data = simulate_system(system, noise=noise, seed=seed, starts=min(starts, len(catalogue()[system].x0)))
    middle = middle_of(data)
    for snap in (False, True):
        try:
            found = discover(data, FitConfig(seed=seed, snap=snap))
            law, parameters = found.equations, found.parameters
        except EqdiscError:  # no law at all: every number is missed
            law, parameters = truth, ()
        numbers = list(compare(truth, parameters))
        same = parameters and _same_terms(law, truth)
        right = parameters and recovered(law, truth, middle)
        questions = [*(["over all fits"] if snap else []), *(["conditional on recovery"] if snap and right else [])]
        questions += ["before snapping"] if not snap and same else []
        for question in questions:
            for kind, equation, value, held in numbers:
                if held is None and question != "over all fits":
                    continue
                yield Number(system, seed, question, kind, equation, value, bool(held))


def compare(truth: Equations, parameters: Sequence[Parameter]) -> Iterator[tuple[str, str, float, bool | None]]:
    """Yield (kind, equation, value, held) for each number of a law; None where no parameter stands for a coefficient.

    >>> law = Equations.parse({"x": "-0.5*x**0.7"}, ("x",))
    >>> k = Parameter("k1", -0.51, (-0.53, -0.49), "", "x", "x**0.71")
    >>> p = Parameter("p1", 0.71, (0.705, 0.715), "", "power of x in x", "x**0.71")
    >>> list(compare(law, [k, p]))
    [('coefficient', 'x', -0.5, True), ('exponent', 'x', 0.7, False)]
    """
    found = [(p, *_read(p, truth.states)) for p in parameters]
    table = truth.terms()
    assert table is not None
    for row, column in zip(*table, strict=True):
        for e in np.flatnonzero(column):
            name, near = truth.states[e], [f for f in found if truth.states[e] in f[2] and _alike(f[1], row)]
            value = float(column[e])
            own = next((p for p, _, _ in near if p.name.startswith("k")), None)
            shared = own is not None and own.value > 0 > value
            yield "coefficient", name, value, None if own is None else _holds(own, -value if shared else value)
        for i in np.flatnonzero(row):
            words = f"power of {truth.states[i]} in "
            power = next((p for p, w, _ in found if p.where.startswith(words) and _alike(w, row)), None)
            if power is not None:
                kind = "chosen exponent" if power.chosen else "exponent"
                yield kind, truth.states[i], float(row[i]), _holds(power, float(row[i]))
            elif not any(_alike(w, row) for _, w, _ in found):
                yield "exponent", truth.states[i], float(row[i]), None


def _read(p: Parameter, states: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return a parameter's term as exponents and the equations it stands in."""
    zeros = dict.fromkeys(states, "0")
    table = Equations.parse({**zeros, states[0]: p.term}, states).terms()
    row = np.full(len(states), np.nan) if table is None else table[0][0]
    return row, tuple(p.where.rpartition(" in ")[2].split(", "))


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    return bool((np.abs(one - other) <= NEAR).all() and ((one == 0) == (other == 0)).all())


def _holds(p: Parameter, value: float) -> bool:
    return p.ci is not None and p.ci[0] <= value <= p.ci[1]


def _same_terms(law: Equations, truth: Equations) -> bool:
    """Tell whether every equation has the true terms and no other, exponents within 0.25."""
    mine, true = law.terms(), truth.terms()
    if mine is None or true is None:
        return False
    for e in range(len(truth.states)):
        rows, wanted = ([w[j] for j in np.flatnonzero(a[:, e])] for w, a in (mine, true))
        if len(rows) != len(wanted) or any(not any(_alike(r, w) for r in rows) for w in wanted):
            return False
    return True


def write_table(numbers: Sequence[Number]) -> str:
    """Return the three rates in Markdown, by system and in all, with Wilson's 90 % interval and how many numbers count."""
    from .benchmark import wilson

    questions = ("before snapping", "conditional on recovery", "over all fits")
    lines = [f"| | {' | '.join(questions)} |", "|-|-|-|-|"]
    kinds = [k for k in ("coefficient", "exponent", "chosen exponent") if any(n.kind == k for n in numbers)]
    for label in (*dict.fromkeys(n.system for n in numbers), *kinds, "all"):
        cells = []
        for question in questions:
            held = [n.held for n in numbers if n.question == question and label in (n.system, n.kind, "all")]
            low, high = wilson(sum(held), len(held)) if held else (0.0, 1.0)
            rate = f"{100 * np.mean(held):.0f} % ({100 * low:.0f} to {100 * high:.0f}) of {len(held)}" if held else "-"
            cells.append(rate)
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the coverage and write table and rows."""
    parser = argparse.ArgumentParser(
        prog="python -m eqdisc.benchmarks.coverage", description=(__doc__ or "").split("\n")[0]
    )
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
            with options.rows.open("w", newline="", encoding="utf-8") as file:
                rows = csv.DictWriter(file, asdict(numbers[0]), lineterminator="\n")
                rows.writeheader()
                rows.writerows(asdict(n) for n in numbers)


if __name__ == "__main__":
    main()
