r"""Joint structure: from proposals an equation to one law for all, judged by trajectories.

A law starts as one proposal for each equation, equal terms merged. From there its neighbours are fitted side by
side as lanes (`Collocation`) and the one of shortest description is kept: another proposal for one equation; an
equation that closes a conserved sum; local moves (drop, fix, free, add, swap, merge) and, where no single move helps,
exchanges of several terms, all foretold from the sensitivities at hand (`moves`). Moves that helped in different equations
are tried together. What came of a move is remembered, so that a second way to the same law costs nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from ..fit.fit import Fit
from ..law.law import LAWS, Law, join
from ..law.price import Judge
from ..law.terms import Terms
from ..law.ties import Coefficients, conserves, find_ties
from .library import LARGEST
from .moves import Neighbourhood
from .problem import Problem

OPTIONS = 40  # proposals that are exchanged in one pass, shared among the equations
BATCH = 24  # moves refitted side by side
PATCHES = 8  # moves of a law that is patched: what no sum or quotient explains would be mended without end
REACH, REACH_A_SAMPLE = (
    40.0,
    0.15,
)  # nats above the shortest up to which proposals are exchanged, and more for each sample
CLOSED = 96  # laws that close a sum, tried at once
LEAST = 1e-6  # nats by which a description must get shorter
EXACT = 1.5  # floors of sigma below which a law explains everything
MARGIN = 3.0  # nats by which a move may be foretold to lose and still be tried


class JointSearch:
    """Fits laws as lanes on one mesh and remembers the best of every structure it has seen."""

    def __init__(self, problem: Problem, x: Tensor | None = None, sigma: Tensor | None = None) -> None:
        """Fits start from the smooth states and the noise of the data, or from those that are given."""
        self.problem, self.engine, self.judge, self.journal = problem, problem.engine, problem.judge, problem.journal
        self.x = problem.engine.mesh.states(problem.denoised) if x is None else x
        self.sigma = torch.as_tensor(problem.start_sigma, device=self.x.device)[None] if sigma is None else sigma
        self.seen: dict[tuple, Fit] = {}
        self.failed: set[tuple] = set()  # moves whose fit did not end well
        self.tried: dict[tuple, Fit] = {}  # what came of each move, by its structure before the fit

    def solve(self, laws: Sequence[Law], near: Fit | None = None, steps: int = 20) -> list[Fit]:
        """Fit laws side by side, from the states of `near` or the denoised data; failed lanes are left out."""
        laws = self._completed(laws)
        if not laws:
            return []
        x, sigma = (self.x, self.sigma) if near is None else (near.x, near.sigma)
        return self.adopt(self.engine.fit(self.lanes(laws), x, sigma, steps=steps))

    def _completed(self, laws: Sequence[Law]) -> list[Law]:
        """Return laws with equal terms merged and what is known in them; those that it forbids are left out."""
        known = self.judge.knowledge
        laws = [law if known is None else known.complete(law) for law in laws]
        laws = [law.merge_equal() for law in laws if not law.empty]
        return laws if known is None else [law for law in laws if known.admits(law)]

    def lanes(self, laws: Sequence[Law]) -> Law:
        """Return laws as lanes that hold to what is known."""
        lanes = Law.stack(laws, self.x.device)
        return lanes if self.judge.knowledge is None else self.judge.knowledge.hold(lanes)

    def resume(self, solved: Sequence[Fit], steps: int) -> list[Fit]:
        """Go on fitting laws side by side, each from where it stands."""
        if not solved:
            return []
        x, sigma = torch.cat([s.x for s in solved]), torch.cat([s.sigma for s in solved])
        return self.adopt(self.engine.fit(self.lanes([s.law for s in solved]), x, sigma, steps=steps))

    def adopt(self, fit: Fit) -> list[Fit]:
        """Price the lanes of a fit that ended well and remember them."""
        solved = [self.price(fit.lane(k)) for k in fit.alive]
        known = self.judge.knowledge
        solved = solved if known is None else [s for s in solved if known.keeps(s.law)]
        for s in solved:
            self.remember(s)
        return solved

    def remember(self, solved: Fit) -> None:
        """Keep a law, if it says anything, unless one of the same structure was shorter."""
        known = self.judge.knowledge
        if solved.law.empty or (known is not None and not known.keeps(solved.law)):
            return
        if solved.key not in self.seen or solved.cost < self.seen[solved.key].cost:
            self.seen[solved.key] = solved

    def price(self, fit: Fit) -> Fit:
        """Return a fit of one lane with its description length."""
        return price_fit(fit, self.judge)

    def best(self, solved: Iterable[Fit], than: Fit | None = None) -> Fit | None:
        """Return the shortest description, `than` included."""
        pool = [*solved, *([than] if than is not None else [])]
        return min(pool, key=lambda s: s.cost, default=None)

    def coarsen(self, floor: float) -> None:
        """Price every law again as if errors below `floor` counted for nothing.

        Where no law meets exact data exactly, the truth is outside the class, and what mends the last digits is a curve fit: it
        takes more terms and goes astray sooner beyond the data.
        """
        counts = self.engine.mesh.counts.cpu().numpy()
        for key, s in self.seen.items():
            blurred = float((counts * np.log(np.hypot(s.noise**2, floor**2)) / 2).sum())
            self.seen[key] = replace(s, cost=s.cost - s.data_cost + blurred)

    @property
    def no_library(self) -> Terms:
        """An empty library: moves among a law's own terms only."""
        return Terms.none(self.engine.d)

    def exhausts(self, solved: Fit) -> bool:
        """Tell whether a law explains every state down to the integration error, so that no other can explain more."""
        return bool((solved.noise < EXACT * self.engine.floor).all())

    # From proposals

    def assemble(self, proposals: list[list[Law]], near: Fit | None = None) -> Fit | None:
        """Join one proposal an equation; exchange them, one equation at a time, while the description gets shorter."""
        d, options = len(proposals), self._options(proposals)
        choice, best, tried = [0] * d, None, set()
        for _ in range(3):
            wanted = [choice] + [[*choice[:e], i, *choice[e + 1 :]] for e in range(d) for i in options[e]]
            trials = [t for t in dict.fromkeys(map(tuple, wanted)) if t not in tried]
            tried.update(trials)
            laws = {t: join([proposals[e][i] for e, i in enumerate(t)]) for t in trials}
            solved = self._screen(list(laws.values()), best or near)
            winner = self.best(solved, best)
            if winner is None or winner is best:
                return best
            best = winner
            if self.journal.stop or self.exhausts(best):
                return best
            choice = list(next((t for t, m in laws.items() if _same_support(m, best.law)), tuple(choice)))
        return best

    def _options(self, proposals: list[list[Law]]) -> list[list[int]]:
        """Return which proposals of each equation are exchanged: those not far above the shortest; clean data are judged at several floors."""
        reach = math.inf if self.problem.denoised.clean else REACH + REACH_A_SAMPLE * self.judge.samples
        each = max(4, OPTIONS // self.engine.states)
        limits = [min(p.cost for p in ps) + reach for ps in proposals]
        return [[i for i, p in enumerate(ps) if p.cost < top][:each] for ps, top in zip(proposals, limits, strict=True)]

    def _screen(self, laws: list[Law], near: Fit | None) -> list[Fit]:
        """Fit the first law from the data, all others a few steps from the best so far, the promising ones to the end."""
        first = self.solve(laws[:1])
        near, laws = self.best(first, near), laws[1:]
        if near is not None and self.journal.stop:
            return first
        rough = self.solve(laws, near, steps=15 if near is None else 6) + first
        rough.sort(key=lambda s: s.cost)
        good = [s for s in rough[:12] if s.cost < rough[0].cost + 60]
        return self.resume(good, steps=15)

    def complete(self, proposals: list[list[Law]], near: Fit) -> Fit:
        """Let one equation close a conserved sum: the others' terms with the signs that the sum asks for."""
        laws = [law for c in self.judge.invariants for law in self._closed(proposals, near, c)]
        unique = {m.key: m for m in laws if not m.empty}
        return (
            self.best(self._screen([m for k, m in unique.items() if k not in self.seen][:CLOSED], near), near) or near
        )

    def _closed(self, proposals: list[list[Law]], near: Fit, c: np.ndarray) -> Iterator[Law]:
        """Yield laws that close one sum."""
        members = np.flatnonzero(c).tolist()
        if len(members) > 3 or conserves(c, near.law.coefficients, list(near.ties)):
            return
        own: list[Law | None] = [near.law.only(e) for e in range(len(proposals))]
        for e in members:
            others = [i for i in members if i != e]
            for combination in itertools.product(*[proposals[i][:5] for i in others]):
                sides = own.copy()
                sides[e] = None
                for i, proposal in zip(others, combination, strict=True):
                    sides[i] = proposal
                yield join(sides).close_sum(c, e, self.judge.factors)

    # Local moves

    def improve(self, solved: Fit, library: Terms, rounds: int = 40) -> Fit:
        """Take the best of the foretold moves as long as one shortens the description, but a patched law no more than so often."""
        patches = 0
        for _ in range(rounds):
            better = self._step(solved, library) if patches < PATCHES else None
            if better is None or better.cost >= solved.cost - LEAST or self.journal.stop:
                return solved
            solved = better
            patches += patched(solved)
        return solved

    def _step(self, solved: Fit, library: Terms) -> Fit | None:
        """Return the best law of the first batch of moves that shortens the description: single moves, then exchanges."""
        near = cache(lambda: Neighbourhood(self.problem, solved, library))
        given = self.engine.digest, self.judge, solved.law, solved.x, solved.sigma, library
        for name, moves in (("moves", self.moves), ("exchanges", Neighbourhood.exchanges)):
            laws = self.journal.recall(name, lambda: given, lambda: _likely(moves(near())), LAWS)  # noqa: B023
            better = self._best_of({law.key: law for law in laws}, solved)
            if better is not None and better.cost < solved.cost - LEAST:
                return better
        return None

    def _best_of(self, foretold: dict[tuple, Law], solved: Fit) -> Fit | None:
        """Return the best of some moves: what came of those that were tried, else a batch of the others."""
        better = self.best(self.tried[key] for key in foretold if key in self.tried)
        fresh = [key for key in foretold if key not in self.tried and key not in self.failed][:BATCH]
        for chunk in (fresh[: BATCH // 2], fresh[BATCH // 2 :]):
            if chunk and (better is None or better.cost >= solved.cost - LEAST) and not self.journal.stop:
                found = self.attempt([foretold[key] for key in chunk], solved)
                better = self.best([*found, *self.attempt(_together(solved, found), solved)], better)
        return better

    def attempt(self, laws: list[Law], near: Fit) -> list[Fit]:
        """Refit moves and remember what came of each."""
        if not laws:
            return []
        known = self.judge.knowledge
        merged = [(law if known is None else known.complete(law)).merge_equal() for law in laws]
        fit = self.engine.fit(self.lanes(merged), near.x, near.sigma, steps=12, rival=near.data_cost)
        alive = {k: self.price(fit.lane(k)) for k in fit.alive}
        good = {k: moved for k, moved in alive.items() if known is None or known.keeps(moved.law)}
        self.failed |= {law.key for k, law in enumerate(laws) if k not in good}
        for k, moved in good.items():
            self.tried[laws[k].key] = moved
            self.remember(moved)
        return list(good.values())

    def moves(self, near: Neighbourhood) -> list[tuple[float, Law]]:
        """Return the single moves around a law with the change in description length that is foretold, the best first."""
        return sorted(near, key=lambda m: m[0])


def price_fit(fit: Fit, judge: Judge) -> Fit:
    """Return a fit of one lane with its description length and the ties of its coefficients."""
    places = {(n.term, n.place): q for q, n in enumerate(fit.names) if n.part == "coefficient"}
    told = fit.law if judge.knowledge is None else judge.knowledge.told(fit.law)
    coefficients = Coefficients(told.coefficients, judge.factors, fit.covariance, places)
    back, ties = find_ties(coefficients, judge.log_n, judge.invariants)
    return replace(fit, cost=fit.data_cost + judge.price(fit.law) - back, ties=tuple(ties))


def patched(solved: Fit) -> bool:
    """Tell whether an equation has so many terms that one must be there to mend another: what fits is not yet the law."""
    return bool(solved.law.support.sum(0).max(initial=0) > LARGEST)


def _likely(moves: Iterable[tuple[float, Law]]) -> list[Law]:
    """Return the laws that are foretold to lose little or to win, each structure once."""
    likely: dict[tuple, Law] = {}
    for change, law in moves:
        if change < MARGIN and not law.empty:
            likely.setdefault(law.key, law)
    return list(likely.values())


def _together(solved: Fit, moved: list[Fit]) -> list[Law]:
    """Join the moves that shortened the description, where they changed different equations: for each the best that changed it."""
    better = sorted((m for m in moved if m.cost < solved.cost - LEAST), key=lambda m: m.cost)
    changed = [next((m for m in better if _differs(m.law, solved.law, e)), None) for e in range(solved.law.d)]
    if len({id(m) for m in changed if m is not None}) < 2:
        return []
    law = join([(solved if m is None else m).law.only(e) for e, m in enumerate(changed)])
    return [] if law.empty else [law]


def _differs(a: Law, b: Law, e: int) -> bool:
    return a.only(e).key != b.only(e).key


def _same_support(a: Law, b: Law) -> bool:
    """Tell whether two laws have terms in the same columns, in the same equations."""
    used = lambda law: (v[law.support.any(1)] for v in (law.terms.table() != 0, law.support))  # noqa: E731
    shape = lambda law: sorted((tuple(r.tolist()), tuple(s.tolist())) for r, s in zip(*used(law), strict=True))  # noqa: E731
    return shape(a) == shape(b)


__all__ = ["JointSearch", "patched", "price_fit"]
