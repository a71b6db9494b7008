r"""Thinning: one dense chain around the best laws, trained through the ODE and pruned to the law that is printed.

The terms of the laws that came nearest are gathered as the units of one RealNPU -> NAU chain, every exponent free.
It is trained on the trajectories and pruned number by number (`pruning`); the sparse end of the path is snapped and
compared with what the search had found. If the search was right, the path leads back to it, as a witness that did
not know; if not, it is corrected here.
"""

from __future__ import annotations

import numpy as np

from ..fit.fit import Fit
from ..law.law import Law
from ..law.terms import Terms
from .joint import JointSearch
from .problem import Problem
from .pruning import Step, prune

UNITS = 9  # the width of the default chain
NEAR = 30.0  # nats: laws whose terms join the dense chain
CANDIDATES = 4  # points of the path that are snapped
BACK = 0.15  # exponents as near as this to the pick's, with the same terms, are the pick


def thin_dense_chain(joint: JointSearch, pick: Fit, problem: Problem) -> Fit:
    """Train and prune the dense chain; return the shortest description, the former pick included."""
    dense = Law.stack([gather_dense(joint, pick, problem.denoised.positive)], pick.x.device)
    stop, grouped = lambda: problem.journal.stop, problem.data.grouped
    path = prune(joint.engine, dense, pick.x, pick.sigma, stop=stop, grouped=grouped)
    problem.journal.record("pruning", len(path), len(path))
    return snap_path(joint, path, pick) or pick


def gather_dense(joint: JointSearch, pick: Fit, positive: np.ndarray) -> Law:
    """Gather the terms of the pick and of its nearest rivals, new ones with small coefficients."""
    law = pick.law.without_padding()
    scale = np.abs(law.coefficients).max(0, initial=1e-3)
    for rival in sorted(joint.seen.values(), key=lambda s: s.cost):
        if rival.cost > pick.cost + NEAR or len(law) >= UNITS:
            break
        other = rival.law.without_padding()
        fresh = np.where(other.support, 1e-3 * np.sign(other.coefficients) * scale, 0.0)
        for j in range(len(other)):
            law = _with_term(law, other.terms[[j]], fresh[[j]])
    return Law.of(law.terms, law.coefficients, law.terms.loosen(positive))


def _with_term(law: Law, term: Terms, fresh: np.ndarray) -> Law:
    """Return the law with one more term, which may be one of those that it has, unless it has enough."""
    same = np.flatnonzero(law.terms.gaps(term)[:, 0] < BACK)
    if len(same):
        a = law.coefficients.copy()
        a[same[0]] = np.where(a[same[0]] == 0, fresh[0], a[same[0]])
        return law.with_coefficients(a)
    return law.add(term, fresh) if len(law) < UNITS else law


def snap_path(joint: JointSearch, path: list[Step], pick: Fit | None) -> Fit | None:
    """Snap the most promising points of a pruning path; return the shortest description, `pick` included."""
    points = [s for step in path for s in joint.adopt(step.fit)]
    points.sort(key=lambda s: s.cost)
    limit = NEAR + (points[0] if pick is None else pick).cost if points else 0.0
    for near in [s for s in points[:CANDIDATES] if s.cost < limit]:
        if pick is not None and near.law.alike(pick.law, BACK):
            continue  # the path led back to the pick
        found = joint.best(joint.solve([near.law], near, steps=10))
        if found is not None:
            pick = joint.best([joint.improve(found, joint.no_library)], pick)
        if joint.journal.stop:
            break
    return pick
