r"""Ablation: every ingredient of the search left out in turn, on a fixed set of known laws.

    python -m eqdisc.benchmarks.ablation [--noise 0.05] [--seeds 0 1] [--out ablation.md] [--only NAME ...]

The laws are in eqdisc's own catalogue, measured from one start each, with noise as a share of each state's standard deviation.
An ingredient is left out by putting a stand-in for it, so the table says what the rest does without it. Counts differ by chance:
with n fits at a rate p one standard deviation is sqrt(n p (1 - p)).
"""

from __future__ import annotations

import importlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..law.catalogue import catalogue, simulate_system
from ..work.config import FitConfig
from .pages import as_row, as_table, command
from .scoring import fit, middle_of, recovered

SYSTEMS = ("fsir", "sirs_power", "power_predation", "two_tanks", "brusselator")


@dataclass(frozen=True)
class Ingredient:
    """What is left out: the place "module:attribute" and what stands in for it, made from what was there."""

    title: str
    places: tuple[str, ...] = ()
    stand_in: Callable[[Any], Any] = lambda there: there


def _nothing(there: Any) -> Callable:
    return lambda *_, **__: []


def _one_price(there: Any) -> Any:
    """All exponents on the menu cost what the dearest do."""
    return {} if isinstance(there, dict) else there[-1:] if isinstance(there, tuple) else 5.5


# fmt: off
INGREDIENTS = (
    Ingredient("nothing (the whole search)"),
    Ingredient("the time warp of the smoothing", ("data.smoothing:_warp",), lambda _: lambda t, x: lambda q: q),
    Ingredient("curves whose power falls otherwise than a spline's", ("data.smoothing:POWERS", "data.smoothing:CORNERS"), lambda there: there[:1]),
    Ingredient("the search for an error that grows with the state", ("data.smoothing:may_change",), lambda _: lambda x: False),
    Ingredient("records of unlike precision", ("data.smoothing:tell_levels",), lambda _: lambda data, found, counts: counts**0.0),
    Ingredient("windows of integration", ("fit.rule:WINDOW", "fit.rule:SHORT", "fit.regression:SHORT"), lambda _: 10**9),
    Ingredient("library sets of three", ("search.subsets:TRIPLED",), lambda _: 2),
    Ingredient("the beam beyond two terms", ("search.matching:LARGEST",), lambda _: 2),
    Ingredient("random starts", ("search.matching:_Search.random_starts",), _nothing),
    Ingredient("further error floors", ("search.matching:CLEAN_FLOORS",), lambda _: ()),
    Ingredient("terms shared between equations", ("search.rounds:shared_terms",), lambda _: lambda p: [np.zeros((0, len(p)))] * len(p)),
    Ingredient("rounds with the fitted trajectory", ("search.rounds:ROUNDS",), lambda _: 1),
    Ingredient("several joint laws alive", ("search.rounds:ALIVE",), lambda _: 1),
    Ingredient("single moves", ("search.joint:JointSearch.moves",), _nothing),
    Ingredient("one term in the place of two", ("search.moves:Neighbourhood._blend",), _nothing),
    Ingredient("two exponents fixed together", ("search.moves:Neighbourhood._fix_pairs",), _nothing),
    Ingredient("exchanges of several terms", ("search.moves:Neighbourhood.exchanges",), _nothing),
    Ingredient("conserved sums", ("search.problem:find_invariants",), _nothing),
    Ingredient("ties", ("search.joint:find_ties",), lambda _: lambda *_: (0.0, [])),
    Ingredient("prices of exponents", ("units.monomial:_PRICE_OF", "units.monomial:PRICES", "units.monomial:ONE"), _one_price),
    Ingredient("the price of twins", ("law.price:TWINS", "search.rivals:TWINS"), lambda _: 0.0),
    Ingredient("steps where the data bend", ("fit.mesh:count_steps",), lambda _: lambda d, k, t, *_: np.ones(len(t) - 1, int)),
    Ingredient("the check by halving the steps", ("search.rounds:STEP_ERROR",), lambda _: np.inf),
    Ingredient("nearly as short laws with half the steps", ("search.rounds:OVERTAKING",), lambda _: -np.inf),
    Ingredient("thinning of the dense chain", ("discovery:thin_dense_chain",), lambda _: lambda joint, pick, *_: pick),
    Ingredient("rivals that are sought", ("discovery:seek_rivals",), _nothing),
    Ingredient("three nats for one more term", ("discovery:select_pick",), lambda _: lambda seen, pick, *_: pick),
)
# fmt: on


@contextmanager
def without(ingredient: Ingredient) -> Iterator[None]:
    """Leave an ingredient out for a while."""
    undo = []
    try:
        for place in ingredient.places:
            module, _, path = place.partition(":")
            *owners, name = path.split(".")
            holder = importlib.import_module(f"eqdisc.{module}")
            for owner in owners:
                holder = getattr(holder, owner)
            there = getattr(holder, name)
            undo.append((holder, name, there))
            setattr(holder, name, ingredient.stand_in(there))
        yield
    finally:
        for holder, name, there in reversed(undo):
            setattr(holder, name, there)


def count_recovered(systems: Sequence[str], noises: Sequence[float], seeds: Sequence[int]) -> tuple[int, int, float]:
    """Return how many fits recovered the law, how many there were, and the median seconds of one."""
    hits, seconds = 0, []
    for name, noise, seed in itertools.product(systems, noises, seeds):
        data, middle = simulate_system(name, noise=noise, seed=seed), middle_of(simulate_system(name))
        start = time.perf_counter()
        found = fit(data, FitConfig(seed=seed))
        hits += found is not None and recovered(found.equations, catalogue()[name].law, middle)
        seconds.append(time.perf_counter() - start)
    return hits, len(seconds), float(np.median(seconds))


def run_ablation(
    systems: Sequence[str], noises: Sequence[float], seeds: Sequence[int], only: Sequence[str] = ()
) -> str:
    """Return the table, an ingredient a line, in Markdown."""
    lines = as_table(["left out", "recovered", "of", "median s"], [])
    for ingredient in INGREDIENTS:
        if not only or any(word in ingredient.title for word in only):
            with without(ingredient):
                hits, fits, seconds = count_recovered(systems, noises, seeds)
            lines.append(as_row([ingredient.title, str(hits), str(fits), f"{seconds:.1f}"]))
            print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the ablation and write its table."""
    parser = command("eqdisc.benchmarks.ablation", __doc__)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS))
    parser.add_argument("--noise", nargs="+", type=float, default=[0.05])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--only", nargs="+", default=[], help="ingredients whose title holds one of these words")
    parser.add_argument("--out", type=Path, default=None, help="file for the table")
    options = parser.parse_args(arguments)
    table = run_ablation(options.systems, options.noise, options.seeds, options.only)
    if options.out:
        options.out.write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
