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
from ..fit.regression import Regression
from ..fit.solved import Solved
from ..law.equations import Equations
from ..law.knowledge import Knowledge
from ..law.law import Law, Proposal, alike, complexity_of, unround_exponents, without_padding
from ..law.terms import widen
from ..work.journal import Journal
from .groups import search_groups
from .joint import JointSearch, patched
from .library import lay_rows, saturating_library, signed_library
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
WORTH = 0.5  # nats by which a round must shorten the description for another to follow


def search_by_proposals(problem: Problem, journal: Journal, seed: int = 0) -> tuple[JointSearch, Solved | None]:
    """Return the joint search, which remembers every law it fitted, and the law of shortest description."""
    problem, joint, best = search_sums(problem, journal, seed)
    if problem.data.grouped and best is not None and not journal.stop:
        best = search_groups(problem, joint, best)
    if best is not None and joint.exhausts(best) and not patched(best):
        problem, joint, best = _contest(problem, joint, best, journal)
    if (
        best is not None
        and not journal.stop
        and (not joint.exhausts(best) or patched(best) or _imitates(problem, best) or _asks_for_ratios(problem))
        and not (problem.data.grouped and explains(problem, best))
    ):
        problem, joint, best = _search_ratios(problem, joint, best, journal, seed)
        problem, joint, best, _ = _refine_steps(problem, joint, best, None, journal)
        best = joint.best(joint.seen.values(), best) or best
        if joint.exhausts(best) and joint.engine.floor > EXACT:
            problem, joint, best = _contest(problem, joint, best, journal)
    return joint, best


def _imitates(problem: Problem, solved: Solved) -> bool:
    """Tell whether a law of exact data has an exponent that is no round number: a sum of powers in the place of another form."""
    return problem.denoised.clean and bool(unround_exponents(solved.law, problem.data.grouped))


def _asks_for_ratios(problem: Problem) -> bool:
    known = problem.judge.knowledge
    return known is not None and known.saturates


def search_sums(problem: Problem, journal: Journal, seed: int = 0) -> tuple[Problem, JointSearch, Solved | None]:
    """Search among sums of powers."""
    joint = _joint(problem, journal)
    states: Callable = problem.denoised.at
    sigma, best, former, shared = problem.denoised.sigma, None, None, None
    for number in range(ROUNDS):
        if journal.stop and best is not None:
            break
        proposals = _match_all(problem, states, sigma, former, shared, journal, seed + 1000 * number)
        if any(not p for p in proposals) or (journal.stop and best is not None):
            break
        found = joint.assemble(proposals, best)
        if found is None and best is None:
            joint = _joint(problem := problem.remesh(segment=_short(problem), refine=3), journal)
            found = joint.assemble(proposals)
        if found is None and best is None:
            found = joint.best(joint.solve(linear_laws(problem)))
            best = found and joint.improve(found, problem.library, CONTESTED)
            break
        if found is None:
            break
        found = found if journal.stop else joint.complete(proposals, found)
        found = _improve_several(joint, found, problem.library, ALIVE if number == 0 else 1)
        journal.record("search", number + 1, ROUNDS, front=[entry_of(problem, found)])
        problem, joint, found, best = _refine_steps(problem, joint, found, best, journal)
        settled = best is not None and found.cost > best.cost - WORTH
        best = found if best is None or found.cost < best.cost else best
        if settled:
            break
        sigma = best.fit.sigma[0].cpu().numpy()
        if (joint.exhausts(best) and not patched(best)) or journal.stop:
            break
        states, shared = fitted_states(problem, best), shared_terms(proposals)
        former = [[_equation_proposal(best, e), *p] for e, p in enumerate(proposals)]
        former = [[p for p in ps if len(p.exponents)] for ps in former]
    return problem, joint, best


def linear_laws(problem: Problem) -> list[Law]:
    """Return laws that any data can be compared with where no proposal has a solution near them.

    Rates that are linear in all states, and rates of each state in itself alone, which keep positive what is positive.
    """
    d = problem.data.d - problem.data.grouped
    w = np.pad(np.eye(d, problem.data.d), ((0, 1), (0, 0)))  # and a constant
    a = np.zeros((d + 1, problem.data.d))
    a[:, : problem.d] = 1e-3
    own = np.where(np.eye(*a.shape, dtype=bool), a, 0.0)
    return [(w, a, np.zeros_like(w, bool)), (w[:-1], own[:-1], np.zeros_like(w[:-1], bool))]


def _search_ratios(
    problem: Problem, joint: JointSearch, best: Solved, journal: Journal, seed: int
) -> tuple[Problem, JointSearch, Solved]:
    """Search again with terms that saturate in the library, from the best sum of powers; the description length decides."""
    mesh, positive = problem.engine.mesh, problem.denoised.positive
    values = mesh.states(problem.denoised)[0].flatten(0, 1).cpu().numpy()
    prior = problem.judge.prior
    plain = problem.data.d - problem.data.grouped
    more = np.vstack(
        [saturating_library(positive[:plain], values[:, :plain], prior), signed_library(positive[:plain], prior)]
    )
    more = lay_rows(more, plain, problem.data.d)
    if not len(more):
        return problem, joint, best
    library, shared = np.vstack([widen(problem.library, more.shape[1]), more]), None
    for number in range(ROUNDS):
        states = fitted_states(problem, best) if explains(problem, best) else problem.denoised.at
        sigma = np.minimum(best.fit.sigma[0].cpu().numpy(), problem.denoised.sigma)
        former = [[_widened(_equation_proposal(best, e), library.shape[1])] for e in range(problem.data.d)]
        proposals = _match_all(
            replace(problem, library=library), states, sigma, former, shared, journal, seed + 1000 * number
        )
        rows = np.unique(np.vstack([rounded(p.exponents, problem.data.d) for ps in proposals for p in ps]), axis=0)
        found = joint.assemble(proposals, best)
        if found is None or journal.stop:
            break
        found = joint.complete(proposals, found)
        near = rows[(rows[:, problem.data.d :] != 0).any(1)]
        found = joint.improve(found, np.vstack([widen(problem.library, library.shape[1]), near]))
        journal.record("search", number + 1, ROUNDS, front=[entry_of(problem, found)])
        if found.cost > best.cost - WORTH:
            break
        best, shared = found, shared_terms(proposals)
    return replace(problem, library=library), joint, best


def _contest(
    problem: Problem, joint: JointSearch, best: Solved, journal: Journal
) -> tuple[Problem, JointSearch, Solved]:
    """Contest once more where the data are exact, with steps so short that a hundredth of the error counts: mimics fall behind."""
    problem = problem.sharpen(EXACT)
    for _ in range(ROUNDS):
        sharp, first = polish(problem, best, journal, LONGEST)
        again = _joint(sharp, journal)
        near = sorted((s for s in joint.seen.values() if s.cost < best.cost + FAR), key=lambda s: s.cost)[:TAKEN]
        for solved in (first, *(solve_on(sharp, problem, s, journal) for s in near)):
            if solved is not None:
                again.remember(solved)
        found = again.best(again.seen.values()) or first
        if not again.exhausts(found):
            found = again.improve(found, problem.library, CONTESTED)
        found = _converge(again, found)
        far = bool((found.fit.sigma[0] > HOPELESS * again.engine.floor).any())
        settled = far or again.exhausts(found) or found.cost > first.cost - WORTH or journal.stop
        problem, joint, best = sharp, again, found
        if settled:
            break
    return problem, joint, best


def _converge(joint: JointSearch, best: Solved) -> Solved:
    """Fit the nearest laws to the end, so that none is ahead because another stopped early; return the shortest."""
    near = sorted((s for s in joint.seen.values() if s.cost < best.cost + FAR), key=lambda s: s.cost)[:TAKEN]
    return joint.best(joint.resume(near, steps=CONVERGED), best) or best


def _widened(proposal: Proposal, columns: int) -> Proposal:
    return replace(proposal, exponents=widen(proposal.exponents, columns), free=widen(proposal.free, columns))


def _improve_several(joint: JointSearch, first: Solved, library: np.ndarray, alive: int) -> Solved:
    """Improve the best law, and beside it the nearest ones that are simpler or of other terms: one may lead further."""
    starts = _nearest(joint, first, alive, FAR)
    return min(
        (joint.improve(s, library) for s in starts if not joint.journal.stop), key=lambda s: s.cost, default=first
    )


def _refine_steps(
    problem: Problem, joint: JointSearch, found: Solved, best: Solved | None, journal: Journal
) -> tuple[Problem, JointSearch, Solved, Solved | None]:
    """Take the search to a mesh of half the steps where these are too long; the best laws come along.

    They are where halving them moves the found law, or makes another the shortest: one that is steep where no sample lies would lose to
    a smoother one for its steps' sake. Exact data have a contest with shorter steps to come.
    """
    finest = FINEST if problem.denoised.clean else FINER
    while problem.engine.mesh.refine < finest and not journal.stop and (halved := halve(problem, found, journal)):
        finer, again, moved_by = halved
        too_long = moved_by > STEP_ERROR and problem.engine.mesh.refine < FINEST
        if not too_long and not _overtaken(problem, joint, found, finer, again, journal):
            break
        former, joint = joint, _joint(finer, journal)
        moved = [
            solve_on(finer, problem, s, journal) for s in sorted(former.seen.values(), key=lambda s: s.cost)[:TAKEN]
        ]
        for solved in (again, *[m for m in moved if m is not None]):
            joint.remember(solved)
        best = None if best is None else joint.best(joint.seen.values())
        problem, found = finer, again
    return problem, joint, found, best


def _nearest(joint: JointSearch, first: Solved, most: int, within: float) -> list[Solved]:
    """Return a law and the shortest of those that are simpler or of other terms, up to so many, within so many nats of it."""
    found = [first]
    for law in sorted(joint.seen.values(), key=lambda s: s.cost):
        if len(found) >= most or law.cost > first.cost + within:
            break
        if not any(alike(law.law, s.law, 0.5) for s in found):
            found.append(law)
    return found


def _overtaken(
    problem: Problem, joint: JointSearch, found: Solved, finer: Problem, again: Solved, journal: Journal
) -> bool:
    """Tell whether a law of other terms that is nearly as short as the found one is shorter on a finer mesh."""
    others = (solve_on(finer, problem, s, journal) for s in _nearest(joint, found, 1 + TAKEN, OVERTAKING)[1:])
    return any(other is not None and other.cost < again.cost - WORTH for other in others)


def entry_of(problem: Problem, solved: Solved) -> dict[str, Any]:
    """Return a law as an entry of the front, before it is printed: what can be read while the search goes on."""
    w, a, _ = without_padding(solved.law)
    rows = problem.scaling.undo_rows(w)
    law = Equations.from_terms(problem.data.formula_names, rows, problem.scaling.undo(w, a), inputs=problem.data.driven)
    return {
        "complexity": complexity_of(solved.law),
        "parameters": solved.size,
        "equations": dict(zip(problem.data.states[: problem.d], law.strings().values(), strict=True)),
        "description_length": solved.cost,
        "status": "searching",
    }


def _joint(problem: Problem, journal: Journal) -> JointSearch:
    x = problem.engine.mesh.states(problem.denoised)
    return JointSearch(problem.engine, problem.judge, x, problem.start_sigma, journal, clean=problem.denoised.clean)


def _short(problem: Problem) -> int:
    return max(8, min(30, max(len(k.t) for k in problem.data.trajectories) // 4))


def _match_all(
    problem: Problem,
    states: Callable,
    sigma: np.ndarray,
    former: list | None,
    shared: list | None,
    journal: Journal,
    seed: int,
) -> list[list[Proposal]]:
    device = str(problem.engine.mesh.x.device)
    regression = Regression(
        problem.data,
        states,
        problem.denoised.positive,
        device,
        problem.weights,
        exact=problem.denoised.clean,
        room=journal.room,
    )
    known = problem.judge.knowledge
    wanted = [e for e in range(problem.d) if known is None or e not in known.settled]
    inputs, works = [], []
    for e in wanted:
        terms = problem.library if shared is None else np.vstack([problem.library, shared[e]])
        own = former[e] if former else None
        if known is not None:
            terms = terms[known.allowed(terms, e)]
            own = [*_given(known, e, terms.shape[1]), *(own or [])]
        given = sigma, e, terms, problem.judge.prior, own, seed + e, problem.engine.floor
        inputs.append(partial(_inputs_of_matching, regression, problem, given))
        works.append(partial(match, regression, problem.denoised, *given, hurry=lambda: journal.stop))
    nothing = [_nothing(problem.library.shape[1])]
    out = [nothing] * problem.data.d  # also what moves an input, as far as a law says
    matched = journal.recall_each("matching", inputs, works, PROPOSALS)
    for done, (e, found) in enumerate(zip(wanted, matched, strict=True), 1):
        found = found if known is None else _obeying(known, e, found) or nothing
        out[e] = sorted(found, key=lambda p: p.cost)
        journal.record("matching", done, len(wanted))
    return out


def _inputs_of_matching(regression: Regression, problem: Problem, given: tuple) -> tuple:
    return vars(regression), problem.denoised.clean, problem.denoised.spread, given


def _obeying(known: Knowledge, e: int, found: list[Proposal]) -> list[Proposal]:
    """Return the proposals of equation e that agree with what is known."""
    settled = [replace(p, exponents=known.settle(p.exponents, e)) for p in found]
    right = [p for p in settled if known.allowed(p.exponents, e).all()]
    return [p for p in right if known.signs_right(p.exponents, p.coefficients, e)]


def _given(known: Knowledge, e: int, columns: int) -> list[Proposal]:
    """Return the laws that the user would start from, as proposals of equation e; those that saturate wait for a library that does."""
    found = [(widen(rows, columns), signs) for rows, signs in known.starts.get(e, []) if rows.shape[1] <= columns]
    return [Proposal(rows, signs.copy(), np.zeros(rows.shape, bool), 0.0) for rows, signs in found]


def _nothing(columns: int) -> Proposal:
    """What moves an input, as far as a law says."""
    return Proposal(np.zeros((0, columns)), np.zeros(0), np.zeros((0, columns), bool), 0.0)


def _equation_proposal(solved: Solved, e: int) -> Proposal:
    w, a, free = solved.law
    on = a[:, e] != 0
    return Proposal(w[on], a[on, e], free[on], 0.0)
