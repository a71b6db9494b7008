r"""Thinning: one dense chain around the best laws, trained through the ODE and pruned to the law that is printed.

The terms of the laws that came nearest are gathered as the units of one RealNPU -> NAU chain, every exponent free.
It is trained on the trajectories and pruned number by number (`pruning`); the sparse end of the path is snapped and
compared with what the search had found. If the search was right, the path leads back to it, as a witness that did
not know; if not, it is corrected here.
"""

from __future__ import annotations

import numpy as np

from ..fit.solved import Solved
from ..law.law import Law, alike, without_padding
from ..law.terms import Terms, loosen, widen
from ..work.journal import Journal
from .joint import JointSearch
from .problem import Problem
from .pruning import Step, prune

UNITS = 9  # the width of the default chain
NEAR = 30.0  # nats: laws whose terms join the dense chain
CANDIDATES = 4  # points of the path that are snapped
BACK = 0.15  # exponents as near as this to the pick's, with the same terms, are the pick


def thin_dense_chain(joint: JointSearch, pick: Solved, problem: Problem, journal: Journal) -> Solved:
    """Train and prune the dense chain; return the shortest description, the former pick included."""
    dense = gather_dense(joint, pick, problem.denoised.positive)
    terms = Terms.of([dense], device=str(pick.fit.x.device))
    path = prune(
        joint.engine, terms, pick.fit.x, pick.fit.sigma, stop=lambda: journal.stop, grouped=problem.data.grouped
    )
    journal.record("pruning", len(path), len(path))
    return snap_path(joint, path, pick, journal) or pick


def gather_dense(joint: JointSearch, pick: Solved, positive: np.ndarray) -> Law:
    """Gather the terms of the pick and of its nearest rivals, new ones with small coefficients."""
    w, a, _ = without_padding(pick.law)
    rows, coefficients = list(w), list(a)
    scale = np.abs(a).max(0, initial=1e-3)
    for rival in sorted(joint.seen.values(), key=lambda s: s.cost):
        if rival.cost > pick.cost + NEAR or len(rows) >= UNITS:
            break
        v, b, _ = without_padding(rival.law)
        columns = max(v.shape[1], len(rows[0]))
        rows = list(widen(np.array(rows), columns))
        for row, value in zip(widen(v, columns), b, strict=True):
            same = next((q for q, r in enumerate(rows) if np.abs(r - row).max() < 0.15), None)
            fresh = np.where(value != 0, 1e-3 * np.sign(value) * scale, 0.0)
            if same is not None:
                coefficients[same] = np.where(coefficients[same] == 0, fresh, coefficients[same])
            elif len(rows) < UNITS:
                rows.append(row)
                coefficients.append(fresh)
    dense, heads = np.array(rows), np.array(coefficients)
    return dense, heads, loosen(dense, positive)


def snap_path(joint: JointSearch, path: list[Step], pick: Solved | None, journal: Journal) -> Solved | None:
    """Snap the most promising points of a pruning path; return the shortest description, `pick` included."""
    points = [s for step in path for s in joint.adopt(step.fit)]
    points.sort(key=lambda s: s.cost)
    limit = NEAR + (points[0] if pick is None else pick).cost if points else 0.0
    for near in [s for s in points[:CANDIDATES] if s.cost < limit]:
        if pick is not None and alike(near.law, pick.law, BACK):
            continue  # the path led back to the pick
        found = joint.best(joint.solve([near.law], near, steps=10))
        if found is not None:
            pick = joint.best([joint.improve(found, joint.no_library)], pick)
        if journal.stop:
            break
    return pick
