"""Front: the pick as it is reported and the laws beside it, printed and scored; the verdict on the pick, its errors and starts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.dataset import Dataset
from ..data.inputs import join_inputs
from ..fit.fit import Fit
from ..law.ensemble import fit_ensemble
from ..law.equations import Equations
from ..law.extraction import chain_of, disagreement
from ..law.law import Law
from ..law.words import verify
from ..search.joint import JointSearch
from ..search.problem import Problem
from ..search.remeshing import explains
from ..search.rounds import search_sums
from ..units.chain import Chain
from ..work.status import Status
from .finding import FrontEntry, finite
from .intervals import name_loosest
from .rounding import Printed, print_law
from .selection import CONTESTS, FAR, RIVAL, share_of
from .validation import METRIC, MOST, SCORE, Score, Stretch, leave_the_data, score, stretches_of_fit, stretches_unseen
from .verdict import Verdict, explain_hidden, is_one_curve, judge

OBJECTIONS = 4  # moves that a law may take once it is free of what was said


def score_once(
    problem: Problem, law: Equations, stretches: list[Stretch], sigma: np.ndarray, most: int | None = None
) -> Score:
    """Score a printed law once: a simulation may be ended by the clock, which is not the same twice."""
    given = law.strings(), stretches, sigma, most
    return problem.journal.recall("score", lambda: given, lambda: score(law, stretches, sigma, most), SCORE)


@dataclass(frozen=True, eq=False)
class Reported:
    """The pick as it is reported: fitted to every row of `data` in `problem`, printed, and scored along its own starts."""

    problem: Problem
    data: Dataset
    printed: Printed
    score: Score

    @classmethod
    def of(cls, final: Problem, pick: Fit, data: Dataset) -> Reported:
        """Print the pick, fitted to all of `data` in `final`, and score it."""
        printed = print_law(final, pick, profile=True)
        final.journal.record("intervals", 1, 1)
        stretches = stretches_of_fit(final, data, printed.starts)
        return cls(final, data, printed, score_once(final, printed.equations, stretches, printed.sigma))

    @property
    def chain(self) -> Chain:
        """The pruned chain in the user's units, its coefficients not rounded."""
        return chain_of(self._law)

    @property
    def _law(self) -> Law:
        return self.problem.in_units(self.printed.fit.law)

    def extraction(self) -> float:
        """Return how far the symbols of the law are from its chain on the fitted states, relative to the largest rate of each."""
        law = Equations.of(self._law, self.problem.names, inputs=self.problem.data.driven)
        x = self.problem.engine.mesh.at_samples(self.printed.fit.x[0]).flatten(0, 1).cpu().numpy()
        return disagreement(law, self.chain, self.problem.names, x * self.problem.scaling.states)

    @property
    def sigma(self) -> dict[str, float]:
        """The noise of each state that was measured."""
        return {self.data.states[e]: float(self.printed.sigma[e]) for e in self.problem.measured}

    @property
    def cut_starts(self) -> dict[int, np.ndarray]:
        """The estimated starts of trajectories that were fitted in pieces, by number."""
        of = self.problem.engine.mesh.trajectory
        return {k: self.printed.starts[of.index(k)] for k in set(of) if of.count(k) > 1}

    def initial(self) -> list[dict[str, Any]]:
        """Return the estimated start of every trajectory, that of its first segment, and its noise where trajectories differ in it."""
        mesh, levels, sigma = self.problem.engine.mesh, self.problem.denoised.levels, self.printed.sigma
        first = {k: self.printed.starts[mesh.trajectory.index(k)] for k in mesh.trajectory}
        starts = _name_starts(first, self.data)
        if (levels != 1.0).any():
            for start, level in zip(starts, levels, strict=True):
                start["sigma"] = {self.data.states[e]: float(sigma[e] * level[e]) for e in self.problem.measured}
        return starts

    def errors(self, later: float | None, unseen: Dataset | None) -> dict[str, Any]:
        """Return result.json's `errors`; `later` is that on the part held out, `unseen` are trajectories that were not fitted."""
        law, sigma = self.printed.equations, self.printed.sigma
        new = None if unseen is None else score_once(self.problem, law, stretches_unseen(unseen), sigma)
        errors: dict[str, Any] = {"metric": METRIC, "train": finite(self.score.error), "later": finite(later)}
        errors |= {"new_start": None if new is None else finite(new.error), "horizon": self.score.horizon}
        ends = [s.end for s in (self.score, new) if s is not None and s.end is not None]
        return errors | ({"blow_up": min(ends)} if ends else {})


def account(
    reported: Reported,
    everything: Dataset,
    entry: FrontEntry,
    fresh: tuple[Dataset | None, Dataset | None],
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return result.json's `initial` and `errors`, where a part was fitted those of all records; `entry` is the pick's on the front."""
    later, unseen = fresh
    errors = reported.errors(None if later is None else entry.unseen, unseen)
    if len(reported.data) == len(everything):
        return reported.initial(), errors
    reported.problem.journal.record("starts of all records")
    found = fit_ensemble(reported.printed.equations, everything, reported.printed.sigma)
    lost = {"lost": [everything.trajectories[k].name for k in found.lost]} if found.lost else {}
    return _name_starts(dict(enumerate(found.starts)), everything), errors | {"train": finite(found.error)} | lost


def _name_starts(starts: dict[int, np.ndarray], data: Dataset) -> list[dict[str, Any]]:
    return [
        {"trajectory": data.trajectories[k].name, "x0": {s: float(v) for s, v in zip(data.states, x0, strict=True)}}
        for k, x0 in sorted(starts.items())
    ]


def judge_front(
    problem: Problem,
    data: Dataset,
    front: list[Fit],
    pick: Fit,
    reported: Reported,
    fresh: tuple[Dataset | None, Dataset | None],
) -> tuple[list[FrontEntry], int]:
    """Return the entries of the front and the pick's place, laws beside it as far as time allows.

    `fresh` is what was not fitted: the later part of the records, or other ones.
    """
    later = fresh[0]
    sigma = (pick.noise * problem.scaling.states)[: problem.d]
    unfitted = next((stretches_unseen(d) for d in fresh if d is not None), None)
    entries: list[FrontEntry] = []
    at = 0
    for solved in front:
        if solved is pick:
            at, printed, train = len(entries), reported.printed, reported.score
            law = printed.equations if later is None else print_law(problem, pick).equations
        elif problem.journal.late:
            continue
        else:
            printed = print_law(problem, solved)
            law = printed.equations
            train = score_once(problem, law, stretches_of_fit(problem, data, printed.starts), sigma, MOST)
        unseen = None if unfitted is None else score_once(problem, law, unfitted, sigma, MOST).error
        entries.append(
            FrontEntry(
                equations=printed.equations,
                complexity=solved.law.complexity,
                parameters=solved.size,
                train=train.error,
                unseen=unseen,
                description_length=solved.cost,
                status=train.status,
            )
        )
    return entries, at


def undominated(entries: list[FrontEntry], at: int) -> tuple[list[FrontEntry], int]:
    """Leave out laws that a simpler one fits as well as, now that all are printed; the pick stays."""
    pick, kept, lowest = entries[at], [], math.inf
    for entry in entries:
        if entry is pick or (entry.train < 0.999 * lowest and entry.status is Status.OK):
            kept.append(entry)
            lowest = min(lowest, entry.train)
    return kept, kept.index(pick)


def conclude(
    problem: Problem,
    joint: JointSearch,
    pick: Fit,
    rivals: list[Fit],
    reported: Reported,
) -> Verdict:
    """Return the verdict on the pick, with what else speaks against it: numbers that are loose, data that object to what was said."""
    printed, whole, config = reported.printed, reported.data, problem.config
    share = share_of(pick, joint.seen.values(), FAR if is_one_curve(problem) else CONTESTS)
    left = list(leave_the_data(printed.equations, whole, reported.cut_starts, printed.sigma))
    verdict = judge(problem, pick, rivals, share, reported.score, left)
    verdict = _doubt(verdict, name_loosest(reported.problem, printed.fit))
    if config.knows:
        verify(config, join_inputs(whole), printed.equations)
        verdict = _doubt(verdict, object_to(problem, joint, pick), first=True)
    return _doubt(verdict, explain_hidden(problem, printed.equations)) if config.hidden else verdict


def object_to(problem: Problem, joint: JointSearch, pick: Fit) -> str | None:
    """Return what the data object to knowledge: by how much a law without it describes them better.

    It is looked for near the pick and, where the pick leaves more of the data than noise, anew.
    """
    without = problem.without_knowledge()
    free = JointSearch(without, joint.x, pick.sigma)
    start = free.best(free.solve([pick.law.without_padding()], pick))
    if start is None:
        return None
    better = free.improve(start, problem.library, OBJECTIONS)
    if not explains(problem, pick) and not problem.journal.stop:
        anew = search_sums(without)[2]
        better = better if anew is None else free.best([anew], better) or better
    released = (start.cost - start.data_cost) - (pick.cost - pick.data_cost)  # what the numbers cost that were known
    gain = max(0.0, pick.data_cost - start.data_cost - released) + start.cost - better.cost
    if gain < RIVAL:
        return None
    words = ", ".join(map(repr, problem.config.knows))
    return f"The data object to what was said beforehand ({words}): a law without it is {gain:.0f} nats shorter."


def _doubt(verdict: Verdict, reason: str | None, first: bool = False) -> Verdict:
    """Add a reason, if there is one, for which a law cannot be identified."""
    if reason is None:
        return verdict
    word = "ambiguous" if verdict.word == "identified" else verdict.word
    return Verdict(word, (reason, *verdict.reasons) if first else (*verdict.reasons, reason))
