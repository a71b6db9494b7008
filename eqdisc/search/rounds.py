r"""The search by proposals: match, join, improve, and again with the fitted trajectory as the denoised data.

A fitted law smooths the data better than any spline, so the integral regression of the next round has less bias,
and the terms that good proposals of one equation use are offered to the others. In the first round several joint
laws are improved beside each other, as the best start is not always the one that leads furthest. Where halving the steps of
the mesh moves a found law by more than a tenth of the noise, or makes another one the shortest, the search goes on with half
the steps. Rounds end when the description gets no shorter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ..data.scaling import EXACT
from ..fit.fit import Fit
from ..fit.regression import Regression
from ..law.knowledge import Knowledge
from ..law.law import Law
from ..law.terms import Terms
from .groups import search_groups
from .joint import JointSearch, patched
from .matching import PROPOSALS, match, rounded, shared_terms
from .problem import Problem
from .remeshing import STEP_ERROR, explains, fitted_states, halve, polish, solve_on

ROUNDS = 3
FINEST = 2  # as fine as the search goes for the found law's sake; the printed law goes further
FINER = 8  # and where finer steps make another law the shortest
TAKEN = 8  # laws that a finer mesh takes over
ALIVE = 3  # joint laws that are improved beside each other
CONVERGED = 15  # steps after which a law that explains exact data has reached its best
HOPELESS = 10.0  # floors that a law of exact data misses after a contest: another will not make it exact
CONTESTED = 4  # moves in one contest: what no sum explains exactly would be mended without end
LONGEST = 12_000  # points of the mesh of a contest
FAR = 40.0  # nats by which they may be longer than the best
OVERTAKING = 20.0  # nats by which a law may be longer than the found one and be tried with half the steps
LIKE = 0.5  # difference of exponents below which two laws of the same terms are one start
SEEDS_A_ROUND = 1000
WORTH = 0.5  # nats by which a round must shorten the description for another to follow


def search_by_proposals(problem: Problem) -> tuple[JointSearch, Fit | None]:
    """Return the joint search, which remembers every law it fitted, and the law of shortest description."""
    problem, joint, best = search_sums(problem)
    journal = problem.journal
    if problem.data.grouped and best is not None and not journal.stop:
        best = search_groups(problem, joint, best)
    if best is None:
        return joint, None
    if joint.exhausts(best) and not patched(best):
        problem, joint, best = _contest(problem, joint, best)
    if not journal.stop and _wants_ratios(problem, joint, best):
        problem, joint, best = _search_ratios(problem, joint, best)
        problem, joint, best, _ = _refine_steps(problem, joint, best, None)
        best = joint.best(joint.seen.values(), best) or best
        if joint.exhausts(best) and joint.engine.floor > EXACT:
            problem, joint, best = _contest(problem, joint, best)
    return joint, best


def _wants_ratios(problem: Problem, joint: JointSearch, best: Fit) -> bool:
    """Tell whether more than sums of powers is to be tried: where no sum exhausts the data, or it is a mimic, or the user names some."""
    if problem.data.grouped and explains(problem, best):
        return False
    return not joint.exhausts(best) or patched(best) or _imitates(problem, best) or _asks_for_ratios(problem)


def _imitates(problem: Problem, solved: Fit) -> bool:
    """Tell whether a law of exact data has an exponent that is no round number: a sum of powers in the place of another form."""
    return problem.denoised.clean and bool(solved.law.unround(problem.data.grouped))


def _asks_for_ratios(problem: Problem) -> bool:
    known = problem.judge.knowledge
    return known is not None and known.saturates


def search_sums(problem: Problem) -> tuple[Problem, JointSearch, Fit | None]:
    """Search among sums of powers."""
    joint, journal, former, shared = JointSearch(problem), problem.journal, None, None
    best: Fit | None = None
    states: Callable = problem.denoised.at
    sigma = problem.denoised.sigma
    for number in range(ROUNDS):
        if journal.stop and best is not None:
            break
        proposals = _match_all(problem, states, sigma, former, shared, number)
        if any(not p for p in proposals) or (journal.stop and best is not None):
            break
        found = joint.assemble(proposals, best)
        if found is None and best is None:
            problem, joint, found, best = _start_anew(problem, proposals)
        if found is None:
            break
        found = found if journal.stop else joint.complete(proposals, found)
        found = _improve_several(joint, found, problem.library, ALIVE if number == 0 else 1)
        journal.record("search", number + 1, ROUNDS, front=[entry_of(problem, found)])
        problem, joint, found, best = _refine_steps(problem, joint, found, best)
        settled = best is not None and found.cost > best.cost - WORTH
        best = found if best is None or found.cost < best.cost else best
        if settled or (joint.exhausts(best) and not patched(best)) or journal.stop:
            break
        sigma, states, shared = best.noise, fitted_states(problem, best), shared_terms(proposals)
        former = [[best.law.only(e), *p] for e, p in enumerate(proposals)]
        former = [[p for p in ps if len(p)] for ps in former]
    return problem, joint, best


def _start_anew(problem: Problem, proposals: list[list[Law]]) -> tuple[Problem, JointSearch, Fit | None, Fit | None]:
    """Start on shorter segments where no proposal could be fitted, and from linear laws where none can be there either.

    Returns the problem, the search, the law found, which goes on, and else the law that it ends with.
    """
    problem = problem.remesh(segment=_short(problem), refine=3)
    joint = JointSearch(problem)
    found = joint.assemble(proposals)
    if found is not None:
        return problem, joint, found, None
    linear = joint.best(joint.solve(linear_laws(problem)))
    return problem, joint, None, linear and joint.improve(linear, problem.library, CONTESTED)


def linear_laws(problem: Problem) -> list[Law]:
    """Return laws that any data can be compared with where no proposal has a solution near them.

    Rates that are linear in all states, and rates of each state in itself alone, which keep positive what is positive.
    """
    plain = problem.data.d - problem.data.grouped
    terms = Terms.of(np.vstack([np.eye(plain), np.zeros(plain)])).widen(problem.data.d)  # and a constant
    a = np.zeros((plain + 1, problem.data.d))
    a[:, : problem.d] = 1e-3
    own = np.where(np.eye(*a.shape, dtype=bool), a, 0.0)
    return [Law.of(terms, a), Law.of(terms[:-1], own[:-1])]


def _search_ratios(problem: Problem, joint: JointSearch, best: Fit) -> tuple[Problem, JointSearch, Fit]:
    """Search again with terms that saturate in the library, from the best sum of powers; the description length decides."""
    wider, shared = problem.with_ratios(), None
    if wider is None:
        return problem, joint, best
    for number in range(ROUNDS):
        states = fitted_states(problem, best) if explains(problem, best) else problem.denoised.at
        sigma = np.minimum(best.noise, problem.denoised.sigma)
        former = [[best.law.only(e)] for e in range(problem.data.d)]
        proposals = _match_all(wider, states, sigma, former, shared, number)
        every = [rounded(p.terms) for ps in proposals for p in ps]
        found = joint.assemble(proposals, best)
        if found is None or problem.journal.stop:
            break
        found = joint.complete(proposals, found)
        near = every[0].join(*every[1:]).distinct()
        found = joint.improve(found, problem.library.join(near[near.bent]))
        problem.journal.record("search", number + 1, ROUNDS, front=[entry_of(problem, found)])
        if found.cost > best.cost - WORTH:
            break
        best, shared = found, shared_terms(proposals)
    return wider, joint, best


def _contest(problem: Problem, joint: JointSearch, best: Fit) -> tuple[Problem, JointSearch, Fit]:
    """Contest once more where the data are exact, with steps so short that a hundredth of the error counts: mimics fall behind."""
    problem = problem.sharpen(EXACT)
    for _ in range(ROUNDS):
        sharp, first = polish(problem, best, LONGEST)
        again = JointSearch(sharp)
        for solved in (first, *(solve_on(sharp, problem, s) for s in _shortest(joint, best))):
            if solved is not None:
                again.remember(solved)
        found = again.best(again.seen.values()) or first
        if not again.exhausts(found):
            found = again.improve(found, problem.library, CONTESTED)
        found = again.best(again.resume(_shortest(again, found), steps=CONVERGED), found) or found  # each to its end
        far = bool((found.noise > HOPELESS * again.engine.floor).any())
        settled = far or again.exhausts(found) or found.cost > first.cost - WORTH or problem.journal.stop
        problem, joint, best = sharp, again, found
        if settled:
            break
    return problem, joint, best


def _shortest(joint: JointSearch, best: Fit) -> list[Fit]:
    """Return the laws nearest to the best."""
    return sorted((s for s in joint.seen.values() if s.cost < best.cost + FAR), key=lambda s: s.cost)[:TAKEN]


def _improve_several(joint: JointSearch, first: Fit, library: Terms, alive: int) -> Fit:
    """Improve the best law, and beside it the nearest ones that are simpler or of other terms: one may lead further."""
    starts = _nearest(joint, first, alive, FAR)
    return min(
        (joint.improve(s, library) for s in starts if not joint.journal.stop), key=lambda s: s.cost, default=first
    )


def _refine_steps(
    problem: Problem, joint: JointSearch, found: Fit, best: Fit | None
) -> tuple[Problem, JointSearch, Fit, Fit | None]:
    """Take the search to a mesh of half the steps where these are too long; the best laws come along.

    They are where halving them moves the found law, or makes another the shortest: one that is steep where no sample lies would lose to
    a smoother one for its steps' sake. Exact data have a contest with shorter steps to come.
    """
    finest = FINEST if problem.denoised.clean else FINER
    while problem.engine.mesh.refine < finest and not problem.journal.stop and (halved := halve(problem, found)):
        finer, again, moved_by = halved
        too_long = moved_by > STEP_ERROR and problem.engine.mesh.refine < FINEST
        if not too_long and not _overtaken(problem, joint, found, finer, again):
            break
        former, joint = joint, JointSearch(finer)
        moved = [solve_on(finer, problem, s) for s in sorted(former.seen.values(), key=lambda s: s.cost)[:TAKEN]]
        for solved in (again, *[m for m in moved if m is not None]):
            joint.remember(solved)
        best = None if best is None else joint.best(joint.seen.values())
        problem, found = finer, again
    return problem, joint, found, best


def _nearest(joint: JointSearch, first: Fit, most: int, within: float) -> list[Fit]:
    """Return a law and the shortest of those that are simpler or of other terms, up to so many, within so many nats of it."""
    found = [first]
    for law in sorted(joint.seen.values(), key=lambda s: s.cost):
        if len(found) >= most or law.cost > first.cost + within:
            break
        if not any(law.law.alike(s.law, LIKE) for s in found):
            found.append(law)
    return found


def _overtaken(problem: Problem, joint: JointSearch, found: Fit, finer: Problem, again: Fit) -> bool:
    """Tell whether a law of other terms that is nearly as short as the found one is shorter on a finer mesh."""
    others = (solve_on(finer, problem, s) for s in _nearest(joint, found, 1 + TAKEN, OVERTAKING)[1:])
    return any(other is not None and other.cost < again.cost - WORTH for other in others)


def entry_of(problem: Problem, solved: Fit) -> dict[str, Any]:
    """Return a law as an entry of the front, before it is printed: what can be read while the search goes on."""
    law = problem.equations(solved.law.without_padding())
    return {
        "complexity": solved.law.complexity,
        "parameters": solved.size,
        "equations": dict(zip(problem.data.states[: problem.d], law.strings().values(), strict=True)),
        "description_length": solved.cost,
        "status": "searching",
    }


def _short(problem: Problem) -> int:
    return max(8, min(30, max(len(k.t) for k in problem.data.trajectories) // 4))


def _match_all(
    problem: Problem,
    states: Callable,
    sigma: np.ndarray,
    former: list[list[Law]] | None,
    shared: list[Terms] | None,
    number: int,
) -> list[list[Law]]:
    """Return the proposals of every equation in one round: what moves an input, as far as a law says, is nothing."""
    regression, known, journal = problem.regression(states), problem.judge.knowledge, problem.journal
    wanted = [e for e in range(problem.d) if known is None or e not in known.settled]
    seed = problem.config.seed + SEEDS_A_ROUND * number
    inputs, works = [], []
    for e in wanted:
        library = problem.library if shared is None else problem.library.join(shared[e])
        own = former[e] if former else None
        if known is not None:
            library = library[known.allowed(library, e)]
            own = [*_given(problem, known, e), *(own or [])]
        given = sigma, e, library, problem.ratios, problem.judge.prior, own, seed + e, problem.engine.floor
        inputs.append(partial(_inputs_of_matching, regression, problem, given))
        works.append(partial(match, regression, problem.denoised, *given, hurry=lambda: journal.stop))
    nothing = [replace(Law.none(problem.data.d), cost=0.0)]
    out = [nothing] * problem.data.d
    matched = journal.recall_each("matching", inputs, works, PROPOSALS)
    for done, (e, found) in enumerate(zip(wanted, matched, strict=True), 1):
        found = found if known is None else _obeying(known, e, found) or nothing
        out[e] = sorted(found, key=lambda p: p.cost)
        journal.record("matching", done, len(wanted))
    return out


def _inputs_of_matching(regression: Regression, problem: Problem, given: tuple) -> tuple:
    return vars(regression), problem.denoised.clean, problem.denoised.spread, given


def _obeying(known: Knowledge, e: int, found: list[Law]) -> list[Law]:
    """Return the proposals of equation e that agree with what is known."""
    settled = [replace(p, terms=known.settle(p.terms, e)) for p in found]
    return [p for p in settled if known.allowed(p.terms, e).all() and known.signs_right(p, e)]


def _given(problem: Problem, known: Knowledge, e: int) -> list[Law]:
    """Return the laws that the user would start from, as proposals of equation e; those that saturate wait for a library that does."""
    starts = known.starts.get(e, [])
    return [replace(law, cost=0.0) for law in starts if problem.ratios or not law.terms.bent.any()]
