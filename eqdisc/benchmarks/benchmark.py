r"""Benchmark: what eqdisc recovers of laws that are known, by noise, samples and number of starts.

A fit is a row: a system of the catalogue, measured with noise as a share of each state's standard deviation, fitted, and compared
with its law. Recovered is the same structure with numbers within tolerance (`scoring`); it generalises where the found law, started
from a start that was not fitted, follows the true one,

    R2 = 1 - sum (x - x_true)**2 / sum (x_true - mean x_true)**2 > 0.99;

claimed is the verdict "identified". A claim is right where the law is recovered: a transcendental law that is claimed is always wrong. Rates
carry Wilson's 90 % interval (J. Am. Stat. Assoc. 22, 1927).
"""

from __future__ import annotations

import itertools
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy as sp

from ..law.catalogue import System, catalogue, simulate_system
from ..law.simulation import simulate
from ..work import files
from ..work.config import FitConfig
from ..work.crew import Crew
from ..work.errors import EqdiscError, OptionError, RunError, did_you_mean
from ..work.journal import TimedJournal
from ..work.status import Status
from .pages import as_table, keeping
from .scoring import middle_of, recovered

if TYPE_CHECKING:
    import pandas as pd

    from ..law.equations import Equations

KINDS = ("powers", "polynomials", "rational", "transcendental")
SMOKE = ("torricelli", "west", "logistic")  # a minute in all
SUITES = ("all", "smoke", *KINDS)
FOLLOWS = 0.99  # coefficient of determination
VARIED = ("samples", "starts")
MEASURED = ("kind", "status", "verdict", "recovered", "r2", "seconds", "equations", "message")
RATES = ("recovered", "generalises", "claimed", "claimed and right", "of recovered claimed")


@dataclass(frozen=True)
class Task:
    """One fit; its fields name its row."""

    system: str
    noise: float
    samples: int
    starts: int
    seed: int

    @property
    def key(self) -> tuple[str, ...]:
        return tuple(str(v) for v in asdict(self).values())


FIELDS = (*Task.__dataclass_fields__, *MEASURED)


def kind_of(system: System) -> str:
    """Tell whether a law is transcendental, a ratio, a polynomial, or a sum of other powers."""
    if system.transcendental:
        return "transcendental"
    terms = system.law.terms()
    if terms is None:
        return "rational" if _has_ratio(system.law) else "powers"
    w = terms[0]
    return "polynomials" if ((w >= 0) & (w == w.round())).all() else "powers"


def _has_ratio(law: Equations) -> bool:
    return any(p.base.is_Add and p.exp.is_negative for side in law.rhs for p in side.atoms(sp.Pow))


def choose_systems(suite: str) -> list[str]:
    """Return the systems of a suite, or those that it names with commas. Raises OptionError for a name that is not known."""
    known = catalogue()
    whole = {"all": list(known), "smoke": list(SMOKE)}
    if suite in whole:
        return whole[suite]
    if suite in KINDS:
        return [s.name for s in known.values() if kind_of(s) == suite]
    names = [name.strip() for name in suite.split(",")]
    for name in names:
        if name not in known:
            raise OptionError(
                f"there is no suite or system {name!r}.{did_you_mean(name, (*SUITES, *known))} Suites are {', '.join(SUITES)}."
            )
    return names


def list_tasks(
    suite: str, noise: Sequence[float], samples: Sequence[int], starts: Sequence[int], seeds: Sequence[int]
) -> list[Task]:
    """Return every combination that the catalogue has; without `samples`, each system's own."""
    known, names = catalogue(), choose_systems(suite)
    return [
        Task(name, level, n, k, seed)
        for level, k, seed, name in itertools.product(noise, starts, seeds, names)
        if k <= len(known[name].x0)
        for n in (samples or [known[name].samples])
    ]


def measure(task: Task, time_limit: float | None = None) -> dict[str, Any]:
    """Fit one task and return its row."""
    from ..discovery import discover

    system = catalogue()[task.system]
    data = simulate_system(task.system, noise=task.noise, seed=task.seed, samples=task.samples, starts=task.starts)
    row: dict[str, Any] = asdict(task) | {"kind": kind_of(system), "status": "ok"}
    begin = time.perf_counter()
    try:
        found = discover(data, FitConfig(seed=task.seed), journal=TimedJournal(time_limit))
    except EqdiscError as error:
        return row | {"status": "failed", "message": str(error), "seconds": round(time.perf_counter() - begin, 2)}
    law = found.equations
    return row | {
        "verdict": found.verdict,
        "recovered": int(not system.transcendental and recovered(law, system.law, middle_of(data))),
        "r2": _follow(law, system, task),
        "seconds": round(time.perf_counter() - begin, 2),
        "equations": "; ".join(law.readable()),
    }


def _follow(law: Equations, system: System, task: Task) -> float | str:
    """Return the coefficient of determination from the first start that was not fitted, or nothing where there is none."""
    if task.starts >= len(system.x0):
        return ""
    t = np.linspace(0.0, system.span, system.samples)
    x0 = np.array(system.x0[task.starts])
    want, got = simulate(system.law, x0, t), simulate(law, x0, t)
    if got.status is not Status.OK or want.status is not Status.OK:
        return float("-inf")
    total = ((want.x - want.x.mean(0)) ** 2).sum()
    return round(float(1.0 - ((got.x - want.x) ** 2).sum() / total), 6)


def run_benchmark(
    tasks: Sequence[Task], folder: Path, crew: Crew, time_limit: float | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Fit what is not yet in rows.csv, append each row as it is ready, and yield (how many are done, row)."""
    path = folder / "rows.csv"
    there = {tuple(row[f] for f in Task.__dataclass_fields__) for row in read_rows(path)}
    wanted = [task for task in tasks if task.key not in there]
    done = itertools.count(len(tasks) - len(wanted) + 1)
    with keeping(path, FIELDS) as keep:
        for number, future in crew.spread(measure, [(task, time_limit) for task in wanted]):
            lost = future.exception()
            row = future.result() if not isinstance(lost, RunError) else _lose(wanted[number], lost)
            keep([row])
            yield next(done), row


def _lose(task: Task, error: RunError) -> dict[str, Any]:
    """Return the row of a fit whose workers died."""
    return asdict(task) | {"kind": kind_of(catalogue()[task.system]), "status": "failed", "message": str(error)}


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows that are there, every value a text. Raises OptionError for a file that holds something else."""
    return files.read_rows(path, FIELDS, ("noise", "samples", "starts", "seed", "r2", "seconds"))


def summarise(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return rates and counts by kind, noise and whatever else was varied, and over all kinds, one line each."""
    import pandas as pd

    table = pd.DataFrame([{k: str(v) for k, v in row.items()} for row in rows])
    table["noise"] = table["noise"].astype(float)
    for name in VARIED:
        table[name] = table[name].astype(int)
    by = ["noise", *(name for name in VARIED if table.groupby("system")[name].nunique().max() > 1)]
    lines = []
    for kind, part in (("all", table), *table.groupby("kind")):
        lines += [{"kind": kind, **dict(zip(by, at, strict=True)), **_rates(some)} for at, some in part.groupby(by)]
    return pd.DataFrame(lines)


def varied_in(summary: pd.DataFrame) -> list[str]:
    """Return what was varied beside kind and noise."""
    return [name for name in VARIED if name in summary]


def headings(summary: pd.DataFrame) -> list[str]:
    """Return what stands above the columns of the summary."""
    return ["laws", "noise", *varied_in(summary), "fits", *RATES, "median s"]


def _rates(part: pd.DataFrame) -> dict[str, Any]:
    right, claimed = part["recovered"] == "1", part["verdict"] == "identified"
    follows = part["r2"][part["r2"] != ""].astype(float) > FOLLOWS
    seconds = part["seconds"][part["seconds"] != ""].astype(float)
    judged = part["kind"] != "transcendental"  # which no sum or ratio of powers can recover
    shares = (right[judged], follows, claimed, right[claimed], claimed[right])
    out: dict[str, Any] = {"fits": len(part)}
    for name, share in zip(RATES, shares, strict=True):
        out |= {name: int(share.sum()), f"{name} of": len(share)}
    return out | {"median s": float(seconds.median()) if len(seconds) else float("nan")}


def wilson(count: int, of: int) -> tuple[float, float]:
    """Return Wilson's 90 % interval of a rate.

    >>> [round(v, 2) for v in wilson(9, 10)]
    [0.65, 0.98]
    """
    from scipy.stats import binomtest

    interval = binomtest(count, of).proportion_ci(0.9, method="wilson")
    return float(interval.low), float(interval.high)


def write_summary(rows: Sequence[dict[str, Any]], folder: Path) -> pd.DataFrame:
    """Write summary.csv, summary.md and recovery.png, and return the summary."""
    from ..runs.plotting import plot_recovery

    summary = summarise(rows)
    summary.to_csv(folder / "summary.csv", index=False)
    (folder / "summary.md").write_text(as_markdown(summary), encoding="utf-8")
    plot_recovery(summary, wilson).savefig(folder / "recovery.png")
    return summary


def as_markdown(summary: pd.DataFrame) -> str:
    """Return the summary as a page: date, versions, and a table whose rates stand with their counts."""
    import torch

    from .. import __version__

    head = f"eqdisc {__version__}, PyTorch {torch.__version__}, NumPy {np.__version__}, Python {platform.python_version()}, {date.today()}"
    table = as_table(headings(summary), (cells_of(row, varied_in(summary)) for _, row in summary.iterrows()))
    note = f"Generalises: R2 above {FOLLOWS:g} from a start that was not fitted. Claimed: the verdict is 'identified'."
    return "\n".join(["# Recovery on the catalogue", "", head, "", *table, "", note, ""])


def cells_of(row: pd.Series, varied: Sequence[str]) -> list[str]:
    """Return the texts of a line of the summary: kind, noise, what was varied, fits, rates, time."""
    rates = [rate_text(int(row[name]), int(row[f"{name} of"])) for name in RATES]
    varying = [str(row[name]) for name in varied]
    return [str(row["kind"]), f"{row['noise']:g}", *varying, str(row["fits"]), *rates, f"{row['median s']:.1f}"]


def write_benchmark(summary: pd.DataFrame) -> str:
    """Return the rates of a benchmark as a table, a line a kind of law and noise."""
    from ..runs.text import open_table, render_table

    table = open_table()
    for heading in headings(summary):
        table.add_column(heading, justify="left" if heading == "laws" else "right")
    for _, row in summary.iterrows():
        table.add_row(*cells_of(row, varied_in(summary)))
    return render_table(table, 150)


def rate_text(count: int, of: int) -> str:
    """Return a rate with its counts.

    >>> rate_text(9, 10), rate_text(0, 0)
    ('90 % (9/10)', '-')
    """
    return f"{100 * count / of:.0f} % ({count}/{of})" if of else "-"
