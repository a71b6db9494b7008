"""Records as they come: what missing cells, uneven times and unequal records cost, and what is gained by what is known.

    python -m eqdisc.benchmarks.records [--systems fsir ...] [--conditions complete ...] [--noise 0 0.01] [--seeds 5] [--out records.md]

Laws of the catalogue are measured in one of these ways and fitted; the share of laws that come back stands beside that of complete, even data.

    complete    one record, every state at every time
    missing     the same with 30 % of the cells removed at random
    uneven      as many samples at random times
    unequal     five records from starts of their own, of a full length, 0.8, 0.6, 0.5 and 0.4 of it
    conserved   complete, and it is said that the sum of the states rests (of systems where it does)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..data.dataset import Dataset, Trajectory
from ..law.catalogue import System, catalogue
from ..law.simulation import TIGHT_ATOL, TIGHT_RTOL, simulate
from ..work.config import FitConfig
from .pages import as_table, command
from .scoring import fit, middle_of, recovered

SYSTEMS = ("fsir", "lotka_volterra", "power_predation", "holling")
MISSING = 0.3
STARTS = (1.0, 0.8, 1.2, 0.6, 1.5)  # times the first start of the catalogue
LENGTHS = (1.0, 0.8, 0.6, 0.5, 0.4)

Sampler = Callable[[System, np.random.Generator], Iterator[tuple[np.ndarray, np.ndarray]]]


def sample_evenly(system: System, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the start and the times of each record."""
    yield np.array(system.x0[0]), np.linspace(0.0, system.span, system.samples)


def sample_at_random(system: System, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the start and the times, both ends among them."""
    inner = np.sort(rng.uniform(0.0, system.span, system.samples - 2))
    yield np.array(system.x0[0]), np.r_[0.0, inner, system.span]


def sample_unequally(system: System, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield starts and times of five records."""
    for factor, length in zip(STARTS, LENGTHS, strict=True):
        t = np.linspace(0.0, system.span, system.samples)
        yield factor * np.array(system.x0[0]), t[: max(8, round(length * len(t)))]


SAMPLERS: dict[str, Sampler] = {"uneven": sample_at_random, "unequal": sample_unequally}
CONDITIONS = ("complete", "missing", "uneven", "unequal", "conserved")


@dataclass(frozen=True)
class Row:
    """One fit: whether the law came back, and whether it was claimed."""

    system: str
    condition: str
    noise: float
    seed: int
    recovered: bool
    verdict: str


def measure(system: System, condition: str, noise: float, seed: int) -> Dataset:
    """Return the records of a system under a condition.

    >>> data = measure(catalogue()["lotka_volterra"], "missing", 0.0, 0)
    >>> bool(0.25 < np.isnan(data.trajectories[0].x).mean() < 0.35)
    True
    """
    rng, records = np.random.default_rng(seed), []
    for k, (x0, t) in enumerate(SAMPLERS.get(condition, sample_evenly)(system, rng)):
        small = TIGHT_ATOL * max(float(np.abs(x0).max()), 1e-12)
        x = simulate(system.law, x0, t, rtol=TIGHT_RTOL, atol=small).x
        x = x + noise * x.std(0) * rng.standard_normal(x.shape)
        gone = rng.random(x.shape) < (MISSING if condition == "missing" else 0.0)
        records.append(Trajectory(t, np.where(gone, np.nan, x), name=str(k)))
    return Dataset(tuple(records), states=tuple(system.equations), file=system.name)


def judge(name: str, condition: str, noise: float, seed: int) -> Row:
    """Measure a system once and fit it."""
    system = catalogue()[name]
    data = measure(system, condition, noise, seed)
    known = (" + ".join(data.states),) if condition == "conserved" else ()
    found = fit(data, FitConfig(seed=seed, conserve=known))
    right = found is not None and recovered(found.equations, system.law, middle_of(data))
    return Row(name, condition, noise, seed, right, "none" if found is None else found.verdict)


def write_table(rows: Sequence[Row]) -> str:
    """Return the shares of laws recovered in Markdown, a line for each system and noise."""
    table = pd.DataFrame(rows)
    conditions = list(table["condition"].unique())
    lines = []
    whole = pd.concat([table, table.assign(system="all")])
    for system, noise in itertools.product(whole["system"].unique(), whole["noise"].unique()):
        part = whole[(whole["system"] == system) & (whole["noise"] == noise)]
        cells = [part.loc[part["condition"] == c, "recovered"] for c in conditions]
        shares = [f"{c.sum()} of {len(c)}" if len(c) else "-" for c in cells]
        lines.append([system, f"{100 * noise:g} %", *shares])
    return "\n".join(as_table(["", "noise", *conditions], lines)) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the table."""
    parser = command("eqdisc.benchmarks.records", __doc__)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS))
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=list(CONDITIONS[:-1]))
    parser.add_argument("--noise", nargs="+", type=float, default=[0.0, 0.01])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None, help="file for the table; rows go to a CSV beside it")
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    for system, noise, seed in itertools.product(options.systems, options.noise, range(options.seeds)):
        rows += [judge(system, condition, noise, seed) for condition in options.conditions]
        print(*map(str, rows[-len(options.conditions) :]), sep="\n", flush=True)
        if options.out:
            options.out.write_text(write_table(rows), encoding="utf-8")
            pd.DataFrame(rows).to_csv(options.out.with_suffix(".csv"), index=False)
    print(write_table(rows))


if __name__ == "__main__":
    main()
