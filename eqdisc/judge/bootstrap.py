r"""Uncertainty: what the numbers and the terms of a law would have been, had the noise fallen otherwise.

A replicate keeps the fitted trajectories and draws the noise anew: residuals in blocks of about n**(1/3) neighbours, so that what
correlates stays together (Künsch, Ann. Stat. 17, 1989), or, from ten trajectories on, whole trajectories with replacement. Every replicate is
fitted by the pick and by all laws that have weight beside it, side by side as lanes from where they stand, and the shortest description
wins, as it did in the search. A replicate is drawn by its number and the seed alone, so that it is the same wherever it is fitted; a crew
fits some side by side.

    interval    the middle 90 % of a number over the replicates, fitted with the pick's own structure
    inclusion   the share of replicates whose winner holds the term in that equation

Only laws that the search has seen can win: the inclusion of a term that no rival lacks is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..fit.collocation import Collocation
from ..fit.fit import LEVEL, Fit
from ..fit.mesh import Mesh
from ..law.equations import write_term
from ..law.law import CLOSE_K, Law, pack_laws, unpack_laws
from ..law.price import Judge
from ..law.terms import Terms
from ..search.joint import price_fit
from ..search.problem import Problem
from ..work.journal import Form, Journal, Packed
from ..work.threads import one_thread
from .finding import Bootstrap, TermUncertainty
from .selection import FAR, select_rivals

MANY = 10  # trajectories from which whole ones are drawn
TOGETHER = 5  # replicates that one worker fits in a row: a quarter of a second and more
STEPS = 12  # of Gauss-Newton, from where each law stands
SAME = 0.15  # exponents of one term may differ by this between replicates
RARE = 0.05  # inclusion below which a term that the pick lacks is not worth a line


def bootstrap(problem: Problem, pick: Fit, seen: Iterable[Fit], count: int) -> Bootstrap | None:
    """Fit `count` replicates with the pick and its rivals; None where not one could be fitted, or the journal says stop at once.

    `seen` are the laws that the search fitted.
    """
    journal, seed = problem.journal, problem.config.seed
    laws = [pick, *select_rivals(seen, pick, FAR)]
    given = problem.engine, problem.judge, laws, seed
    tasks = [(*given, range(first, min(first + TOGETHER, count)), journal) for first in range(0, count, TOGETHER)]
    inputs = problem.engine.digest, [(s.law, s.pack()) for s in laws], seed, count
    found: dict[int, list[Replicate]] = {}
    for number, some in journal.spread("bootstrap", lambda: inputs, fit_replicates, tasks, REPLICATES):
        found[number] = some
        journal.record("bootstrap", done=min(len(found) * TOGETHER, count), total=count)
    outcomes = [replicate for number in sorted(found) for replicate in found[number]]
    if not outcomes:
        return None
    won = float(np.mean([r.winner == 0 for r in outcomes]))
    return Bootstrap(len(outcomes), LEVEL, won, tuple(_summarise(problem, pick, outcomes)))


# Replicates


@dataclass(frozen=True, eq=False)
class Replicate:
    """What came of one replicate: the number of the law that won, that law as it was fitted, and the pick, unless that failed."""

    winner: int
    law: Law
    own: Law | None


def _pack(replicates: Sequence[Replicate]) -> Packed:
    laws = [law for r in replicates for law in (r.law, r.own) if law is not None]
    about = np.array([(r.winner, r.own is not None) for r in replicates], np.int64).reshape(-1, 2)
    return {**pack_laws(laws), "about": about}


def _unpack(packed: Packed) -> list[Replicate]:
    laws = iter(unpack_laws(packed))
    return [Replicate(int(winner), next(laws), next(laws) if own else None) for winner, own in packed["about"]]


REPLICATES = Form(_pack, _unpack)


def fit_replicates(
    engine: Collocation, judge: Judge, laws: Sequence[Fit], seed: int, numbers: range, journal: Journal
) -> list[Replicate]:
    """Draw the replicates of these numbers and fit every law to each; those to which none could be fitted are left out."""
    found = []
    with one_thread():
        for b in numbers:
            if journal.stop:
                break
            fits = _fit(engine, judge, laws, *_draw(engine.mesh, laws[0], np.random.default_rng((seed, b))), journal)
            costs = [np.inf if s is None else s.cost for s in fits]
            winner = int(np.argmin(costs))
            if (best := fits[winner]) is not None:
                found.append(Replicate(winner, best.law, None if fits[0] is None else fits[0].law))
    return found


def _draw(mesh: Mesh, pick: Fit, rng: np.random.Generator) -> tuple[Mesh, Int[np.ndarray, "K"]]:
    """Return a replicate's mesh and which segments of the original it is made of."""
    k = len(set(mesh.trajectory))
    if k >= MANY:
        members = [[q for q, of in enumerate(mesh.trajectory) if of == j] for j in sorted(set(mesh.trajectory))]
        index = np.concatenate([members[j] for j in rng.integers(0, k, k)])
        return _take(mesh, index), index
    residual, seen = mesh.residuals(pick.x[0])
    weight = mesh.weight.cpu().numpy()
    standard = residual * weight
    fresh = np.zeros_like(residual)
    for e in range(residual.shape[-1]):
        values, there = standard[..., e][seen[..., e]], seen[..., e]
        if not len(values):
            continue
        values = (values - values.mean()) * np.sqrt(len(values) / max(len(values) - _numbers(pick, e), 1))
        fresh[..., e][there] = draw_blocks(values, rng) / weight[..., e][there]
    x = mesh.x + torch.as_tensor(fresh - residual, device=mesh.x.device)
    return replace(mesh, x=x * mesh.mask), np.arange(len(mesh.trajectory))


def draw_blocks(values: Float[np.ndarray, "n"], rng: np.random.Generator) -> Float[np.ndarray, "n"]:
    """String blocks of neighbours together, each from a random place (a circle, so that every value is as likely).

    >>> draw_blocks(np.arange(8.0), np.random.default_rng(0))
    array([6., 7., 5., 6., 4., 5., 2., 3.])
    """
    n = len(values)
    length = max(1, round(n ** (1 / 3)))
    starts = rng.integers(0, n, -(-n // length))
    return values[(starts[:, None] + np.arange(length)).ravel()[:n] % n]


def _numbers(pick: Fit, e: int) -> float:
    """Return how many fitted numbers one state answers for, about: its coefficients, their free exponents, its start."""
    there = pick.law.support
    users = np.maximum(there.sum(1), 1)
    return float(there[:, e].sum() + (pick.law.free.table().sum(1) * there[:, e] / users).sum() + 1)


def _take(mesh: Mesh, index: Int[np.ndarray, "K"]) -> Mesh:
    at = torch.as_tensor(index, device=mesh.x.device)
    mask = mesh.mask[at]
    return replace(
        mesh,
        t=mesh.t[index],
        step=mesh.step[at],
        sample=mesh.sample[at],
        x=mesh.x[at],
        mask=mask,
        weight=mesh.weight[at],
        trajectory=tuple(mesh.trajectory[q] for q in index),
        counts=mask.sum((0, 1)),
    )


def _fit(
    base: Collocation, judge: Judge, laws: Sequence[Fit], mesh: Mesh, index: np.ndarray, journal: Journal
) -> list[Fit | None]:
    """Fit every law to a replicate, from where it stands; None for a lane that did not end well."""
    engine = base.on(mesh, journal=journal)
    at: Tensor = torch.as_tensor(index, device=mesh.x.device)
    x, sigma = torch.cat([s.x[:, at] for s in laws]), torch.cat([s.sigma for s in laws])
    lanes = Law.stack([s.law for s in laws], x.device)
    fit = engine.fit(lanes if judge.knowledge is None else judge.knowledge.hold(lanes), x, sigma, steps=STEPS)
    alive = set(fit.alive)
    return [price_fit(fit.lane(q), judge) if q in alive else None for q in range(len(laws))]


# What they say


@dataclass
class _Tally:
    """One term of one equation over the replicates, in scaled units, and how often the winner held it."""

    equation: int
    term: Terms
    held: int


def _summarise(problem: Problem, pick: Fit, outcomes: Sequence[Replicate]) -> Iterator[TermUncertainty]:
    """Yield the pick's terms with their intervals, then what others held."""
    law, names = pick.law, problem.names
    places = [(int(j), int(e)) for j, e in np.argwhere(law.support)]
    own = [_Tally(e, law.terms[[j]], 0) for j, e in places]
    tallies = list(own)
    for replicate in outcomes:
        _count(tallies, replicate.law)
    fitted = [r.own for r in outcomes if r.own is not None]
    values = _in_units(problem, fitted, len(law))
    powers = np.array([f.terms.exponents[: len(law)] for f in fitted]).reshape(-1, *law.terms.exponents.shape)
    here = _in_units(problem, [law], len(law))
    for tally, (j, e) in zip(own, places, strict=True):
        free = np.flatnonzero(law.free.exponents[j])
        ends = {names[i]: _middle(law.terms.exponents[j, i], powers[:, j, i]) for i in free}
        middle = _middle(here[0, j, e], values[:, j, e])
        text = _write(problem, tally.term)
        yield TermUncertainty(names[e], text, tally.held / len(outcomes), middle, ends)
    for tally in sorted(tallies[len(own) :], key=lambda k: -k.held):
        if tally.held / len(outcomes) >= RARE:
            text = _write(problem, tally.term)
            yield TermUncertainty(names[tally.equation], text, tally.held / len(outcomes), None, {})


def _count(tallies: list[_Tally], law: Law) -> None:
    """Count each term of a winner once, where it is known, or open a line for it."""
    for j, e in np.argwhere(law.support):
        term = law.terms[[j]]
        known = next((k for k in tallies if k.equation == e and _same(k.term, term)), None)
        if known is None:
            tallies.append(_Tally(int(e), term, 1))
        else:
            known.held += 1


def _same(one: Terms, other: Terms) -> bool:
    return bool(one.gaps(other, CLOSE_K)[0, 0] <= SAME and one.like(other)[0, 0])


def _in_units(problem: Problem, laws: Sequence[Law], terms: int) -> Float[np.ndarray, "n m d"]:
    """Return coefficients in the user's units."""
    found = [problem.in_units(law.choose(slice(terms))).coefficients for law in laws]
    return np.array(found) if found else np.full((1, terms, problem.data.d), np.nan)


def _middle(value: float, values: np.ndarray) -> tuple[float, float, float]:
    low, high = np.nanquantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(values) else (np.nan, np.nan)
    return float(value), float(low), float(high)


def _write(problem: Problem, term: Terms) -> str:
    """Return a term in the user's units as plain text, exponents to two decimals."""
    term = term.in_units(problem.scaling)
    k = np.log([float(f"{v:.2g}") for v in np.exp(term.offsets)])
    return write_term(replace(term.rounded(2, 12), offsets=np.where(term.saturates, k, 0.0)), problem.names)
