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
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from ..fit.collocation import Collocation, Fit
from ..fit.solved import Solved, covariance_of
from ..law.law import LAWS, Law, Proposal, close_sum, join, merge_equal, structure_key
from ..law.price import Judge
from ..law.terms import Terms
from ..law.ties import Coefficients, conserves, find_ties
from ..work.journal import Journal
from .matching import LARGEST
from .moves import Neighbourhood

OPTIONS = 40  # proposals that are exchanged in one pass, shared among the equations
BATCH = 24  # moves refitted side by side
PATCHES = 8  # moves of a law that is patched: what no sum or quotient explains would be mended without end
MARGIN = 3.0  # nats by which a move may be foretold to lose and still be tried


class JointSearch:
    """Fits laws as lanes on one mesh and remembers the best of every structure it has seen."""

    def __init__(
        self, engine: Collocation, judge: Judge, x: Tensor, sigma: np.ndarray, journal: Journal, clean: bool = False
    ) -> None:
        self.clean = clean
        self.engine, self.judge, self.journal = engine, judge, journal
        self.x, self.sigma = x, torch.as_tensor(sigma, device=x.device)[None]
        self.seen: dict[tuple, Solved] = {}
        self.failed: set[tuple] = set()  # moves whose fit did not end well
        self.tried: dict[tuple, Solved] = {}  # what came of each move, by its structure before the fit

    def solve(self, laws: Sequence[Law], near: Solved | None = None, steps: int = 20) -> list[Solved]:
        """Fit laws side by side, from the states of `near` or the denoised data; failed lanes are left out."""
        laws = self._completed(laws)
        if not laws:
            return []
        x, sigma = (self.x, self.sigma) if near is None else (near.fit.x, near.fit.sigma)
        fit = self.engine.fit(self._lanes(laws), x, sigma, steps=steps)
        return self.adopt(fit)

    def _completed(self, laws: Sequence[Law]) -> list[Law]:
        """Return laws with equal terms merged and what is known in them; those that it forbids are left out."""
        known = self.judge.knowledge
        laws = [law if known is None else known.complete(law) for law in laws]
        laws = [merge_equal(law) for law in laws if (law[1] != 0).any()]
        return laws if known is None else [law for law in laws if known.admits(law)]

    def _lanes(self, laws: Sequence[Law]) -> Terms:
        terms = Terms.of(laws, device=str(self.x.device))
        return terms if self.judge.knowledge is None else self.judge.knowledge.hold(terms)

    def resume(self, solved: Sequence[Solved], steps: int) -> list[Solved]:
        """Go on fitting laws side by side, each from where it stands."""
        if not solved:
            return []
        x, sigma = torch.cat([s.fit.x for s in solved]), torch.cat([s.fit.sigma for s in solved])
        return self.adopt(self.engine.fit(self._lanes([s.law for s in solved]), x, sigma, steps=steps))

    def adopt(self, fit: Fit) -> list[Solved]:
        """Price the lanes of a fit that ended well and remember them."""
        solved = [self.price(fit, lane) for lane in range(fit.terms.lanes) if bool(torch.isfinite(fit.nll[lane]))]
        known = self.judge.knowledge
        solved = solved if known is None else [s for s in solved if known.keeps(s.law)]
        for s in solved:
            self.remember(s)
        return solved

    def remember(self, solved: Solved) -> None:
        """Keep a law, if it says anything, unless one of the same structure was shorter."""
        known = self.judge.knowledge
        if known is not None and not known.keeps(solved.law):
            return
        if (solved.law[1] != 0).any() and (solved.key not in self.seen or solved.cost < self.seen[solved.key].cost):
            self.seen[solved.key] = solved

    def price(self, fit: Fit, lane: int) -> Solved:
        """Return one lane of a fit with its description length."""
        one = fit.select(slice(lane, lane + 1))
        w, a, free = (v[0].cpu().numpy() for v in (one.terms.exponents, one.terms.coefficients, one.terms.free))
        c, names = covariance_of(one)
        places = {(j, e): q for q, (kind, j, e) in enumerate(names) if kind == "coefficient"}
        known = self.judge.knowledge
        coefficients = Coefficients(a if known is None else known.told(w, a), self.judge.factors, c, places)
        back, ties = find_ties(coefficients, self.judge.log_n, self.judge.invariants)
        cost = float(one.nll[0]) + self.judge.price(w, a, free) - back
        return Solved(one, (w, a, free), cost, tuple(ties))

    def best(self, solved: Iterable[Solved], than: Solved | None = None) -> Solved | None:
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
            sigma = s.fit.sigma[0].cpu().numpy()
            blurred = float((counts * np.log(np.hypot(sigma**2, floor**2)) / 2).sum())
            self.seen[key] = replace(s, cost=s.cost - s.data_cost + blurred)

    @property
    def no_library(self) -> np.ndarray:
        """An empty library (0, d): moves among a law's own terms only."""
        return np.zeros((0, self.engine.d))

    def exhausts(self, solved: Solved) -> bool:
        """Tell whether a law explains every state down to the integration error, so that no other can explain more."""
        return bool((solved.fit.sigma[0] < 1.5 * self.engine.floor).all())

    # ---------------------------------------------------------------- from proposals

    def assemble(self, proposals: list[list[Proposal]], near: Solved | None = None) -> Solved | None:
        """Join one proposal an equation; exchange them, one equation at a time, while the description gets shorter."""
        d = len(proposals)
        reach = math.inf if self.clean else 40 + 0.15 * self.judge.samples  # clean data: judged at several error floors
        limits = [min(p.cost for p in ps) + reach for ps in proposals]
        options = [[i for i, p in enumerate(ps) if p.cost < top] for ps, top in zip(proposals, limits, strict=True)]
        options = [o[: max(4, OPTIONS // (d - self.engine.mesh.driven))] for o in options]  # inputs have no equation
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

    def _screen(self, laws: list[Law], near: Solved | None) -> list[Solved]:
        """Fit the first law from the data, all others a few steps from the best so far, the promising ones to the end."""
        first = self.solve(laws[:1])
        near, laws = self.best(first, near), laws[1:]
        if near is not None and self.journal.stop:
            return first
        rough = self.solve(laws, near, steps=15 if near is None else 6) + first
        rough.sort(key=lambda s: s.cost)
        good = [s for s in rough[:12] if s.cost < rough[0].cost + 60]
        return self.resume(good, steps=15)

    def complete(self, proposals: list[list[Proposal]], near: Solved) -> Solved:
        """Let one equation close a conserved sum: the others' terms with the signs that the sum asks for."""
        laws = []
        for c in self.judge.invariants:
            members = np.flatnonzero(c)
            if len(members) > 3 or conserves(c, near.law[1], list(near.ties)):
                continue
            for e in map(int, members):
                others = [i for i in members if i != e]
                for combination in itertools.product(*[proposals[i][:5] for i in others]):
                    rows = [Proposal(*_equation(near.law, i), 0.0) for i in range(len(proposals))]
                    for i, proposal in zip(others, combination, strict=True):
                        rows[i] = proposal
                    laws.append(
                        close_sum(join([r if i != e else None for i, r in enumerate(rows)]), c, e, self.judge.factors)
                    )
        unique = {structure_key(m): m for m in laws if (m[1] != 0).any()}
        return self.best(self._screen([m for k, m in unique.items() if k not in self.seen][:96], near), near) or near

    # ---------------------------------------------------------------- local moves

    def improve(self, solved: Solved, library: np.ndarray, rounds: int = 40) -> Solved:
        """Take the best of the foretold moves as long as one shortens the description, but a patched law no more than so often."""
        patches = 0
        for _ in range(rounds):
            better = self._step(solved, library) if patches < PATCHES else None
            if better is None or better.cost >= solved.cost - 1e-6 or self.journal.stop:
                return solved
            solved = better
            patches += patched(solved)
        return solved

    def _step(self, solved: Solved, library: np.ndarray) -> Solved | None:
        """Return the best law of the first batch of moves that shortens the description: single moves, then exchanges."""
        near = cache(lambda: Neighbourhood(self.engine, self.judge, solved, library))
        for name, moves in (("moves", self.moves), ("exchanges", Neighbourhood.exchanges)):
            given = self.engine.digest, self.judge, solved.law, solved.fit.x, solved.fit.sigma, library
            laws = self.journal.recall(name, lambda: given, lambda: _likely(moves(near())), LAWS)  # noqa: B023
            foretold = {structure_key(law): law for law in laws}
            better = self.best(self.tried[key] for key in foretold if key in self.tried)
            fresh = [key for key in foretold if key not in self.tried and key not in self.failed][:BATCH]
            for chunk in (fresh[: BATCH // 2], fresh[BATCH // 2 :]):
                if chunk and (better is None or better.cost >= solved.cost - 1e-6) and not self.journal.stop:
                    found = self.attempt([foretold[key] for key in chunk], solved)
                    better = self.best([*found, *self.attempt(_together(solved, found), solved)], better)
            if better is not None and better.cost < solved.cost - 1e-6:
                return better
        return None

    def attempt(self, laws: list[Law], near: Solved) -> list[Solved]:
        """Refit moves and remember what came of each."""
        if not laws:
            return []
        known = self.judge.knowledge
        merged = [merge_equal(law if known is None else known.complete(law)) for law in laws]
        fit = self.engine.fit(self._lanes(merged), near.fit.x, near.fit.sigma, steps=12, rival=near.data_cost)
        found = []
        for lane, law in enumerate(laws):
            moved = self.price(fit, lane) if bool(torch.isfinite(fit.nll[lane])) else None
            if moved is not None and (known is None or known.keeps(moved.law)):
                found.append(moved)
                self.tried[structure_key(law)] = found[-1]
                self.remember(found[-1])
            else:
                self.failed.add(structure_key(law))
        return found

    def moves(self, near: Neighbourhood) -> list[tuple[float, Law]]:
        """Return the single moves around a law with the change in description length that is foretold, the best first."""
        return sorted(near, key=lambda m: m[0])


def patched(solved: Solved) -> bool:
    """Tell whether an equation has so many terms that one must be there to mend another: what fits is not yet the law."""
    return bool((solved.law[1] != 0).sum(0).max() > LARGEST)


def _likely(moves: Iterable[tuple[float, Law]]) -> list[Law]:
    """Return the laws that are foretold to lose little or to win, each structure once."""
    likely: dict[tuple, Law] = {}
    for change, law in moves:
        if change < MARGIN and (law[1] != 0).any():
            likely.setdefault(structure_key(law), law)
    return list(likely.values())


def _equation(law: Law, e: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    w, a, free = law
    on = a[:, e] != 0
    return w[on], a[on, e], free[on]


def _together(solved: Solved, moved: list[Solved]) -> list[Law]:
    """Join the moves that shortened the description, where they changed different equations: for each the best that changed it."""
    better = sorted((m for m in moved if m.cost < solved.cost - 1e-6), key=lambda m: m.cost)
    d = solved.law[1].shape[1]
    changed = [next((m for m in better if _differs(m.law, solved.law, e)), None) for e in range(d)]
    if len({id(m) for m in changed if m is not None}) < 2:
        return []
    parts = [Proposal(*_equation((solved if m is None else m).law, e), 0.0) for e, m in enumerate(changed)]
    law = join(parts)
    return [law] if (law[1] != 0).any() else []


def _differs(a: Law, b: Law, e: int) -> bool:
    shape = lambda law: sorted((*map(float, w.round(2)), *f) for w, _, f in zip(*_equation(law, e), strict=True))  # noqa: E731
    return shape(a) != shape(b)


def _same_support(a: Law, b: Law) -> bool:
    shape = lambda m: sorted((tuple(r != 0), tuple(s != 0)) for r, s in zip(m[0], m[1], strict=True) if (s != 0).any())  # noqa: E731
    return shape(a) == shape(b)
