"""Front: the pick as it is reported and the laws beside it, printed and scored; the verdict on the pick, its errors and starts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.dataset import Dataset
from ..data.inputs import join_inputs
from ..fit.solved import Solved
from ..law.ensemble import fit_ensemble
from ..law.equations import Equations
from ..law.knowledge import verify
from ..law.law import complexity_of
from ..search.hidden import explain_hidden
from ..search.joint import JointSearch
from ..search.problem import Problem
from ..work.config import FitConfig
from ..work.journal import Journal
from ..work.status import Status
from .finding import FrontEntry, finite
from .intervals import name_loosest
from .rounding import Printed, print_law
from .selection import CONTESTS, FAR, share_of
from .validation import METRIC, MOST, SCORE, Score, Stretch, leave_the_data, score, stretches_of_fit, stretches_unseen
from .verdict import Verdict, is_one_curve, judge, object_to


def score_once(
    journal: Journal, law: Equations, stretches: list[Stretch], sigma: np.ndarray, most: int | None = None
) -> Score:
    """Score a printed law once: a simulation may be ended by the clock, which is not the same twice."""
    given = law.strings(), stretches, sigma, most
    return journal.recall("score", lambda: given, lambda: score(law, stretches, sigma, most), SCORE)


@dataclass(frozen=True, eq=False)
class Reported:
    """The pick as it is reported: fitted to every row of `data` in `problem`, printed, and scored along its own starts."""

    problem: Problem
    data: Dataset
    printed: Printed
    score: Score

    @classmethod
    def of(cls, final: Problem, pick: Solved, data: Dataset, journal: Journal) -> Reported:
        """Print the pick, fitted to all of `data` in `final`, and score it."""
        printed = print_law(final, pick, (*data.formula_names, *data.input_names), journal, profile=True)
        journal.record("intervals", 1, 1)
        stretches = stretches_of_fit(final, data, printed.starts)
        return cls(final, data, printed, score_once(journal, printed.equations, stretches, printed.sigma))

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

    def errors(self, later: float | None, unseen: Dataset | None, journal: Journal) -> dict[str, Any]:
        """Return result.json's `errors`; `later` is that on the part held out, `unseen` are trajectories that were not fitted."""
        law, sigma = self.printed.equations, self.printed.sigma
        new = None if unseen is None else score_once(journal, law, stretches_unseen(unseen), sigma)
        errors: dict[str, Any] = {"metric": METRIC, "train": finite(self.score.error), "later": finite(later)}
        errors |= {"new_start": None if new is None else finite(new.error), "horizon": self.score.horizon}
        ends = [s.end for s in (self.score, new) if s is not None and s.end is not None]
        return errors | ({"blow_up": min(ends)} if ends else {})


def account(
    reported: Reported,
    everything: Dataset,
    entry: FrontEntry,
    fresh: tuple[Dataset | None, Dataset | None],
    journal: Journal,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return result.json's `initial` and `errors`, where a part was fitted those of all records; `entry` is the pick's on the front."""
    later, unseen = fresh
    errors = reported.errors(None if later is None else entry.unseen, unseen, journal)
    if len(reported.data) == len(everything):
        return reported.initial(), errors
    journal.record("starts of all records")
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
    front: list[Solved],
    pick: Solved,
    reported: Reported,
    fresh: tuple[Dataset | None, Dataset | None],
    journal: Journal,
) -> tuple[list[FrontEntry], int]:
    """Return the entries of the front and the pick's place, laws beside it as far as time allows.

    `fresh` is what was not fitted: the later part of the records, or other ones.
    """
    names, later = (*data.formula_names, *data.input_names), fresh[0]
    sigma = (pick.fit.sigma[0].cpu().numpy() * problem.scaling.states)[: problem.d]
    unfitted = next((stretches_unseen(d) for d in fresh if d is not None), None)
    entries: list[FrontEntry] = []
    at = 0
    for solved in front:
        if solved is pick:
            at, printed, train = len(entries), reported.printed, reported.score
            law = printed.equations if later is None else print_law(problem, pick, names, journal).equations
        elif journal.late:
            continue
        else:
            printed = print_law(problem, solved, names, journal)
            law = printed.equations
            train = score_once(journal, law, stretches_of_fit(problem, data, printed.starts), sigma, MOST)
        unseen = None if unfitted is None else score_once(journal, law, unfitted, sigma, MOST).error
        entries.append(
            FrontEntry(
                equations=printed.equations,
                complexity=complexity_of(solved.law),
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
    pick: Solved,
    rivals: list[Solved],
    reported: Reported,
    config: FitConfig,
    journal: Journal,
) -> Verdict:
    """Return the verdict on the pick, with what else speaks against it: numbers that are loose, data that object to what was said."""
    printed, whole = reported.printed, reported.data
    names = (*whole.formula_names, *whole.input_names)
    share = share_of(pick, joint.seen.values(), FAR if is_one_curve(problem) else CONTESTS)
    left = list(leave_the_data(printed.equations, whole, reported.cut_starts, printed.sigma))
    verdict = judge(problem, pick, rivals, share, names, reported.score, left)
    verdict = _doubt(verdict, name_loosest(reported.problem, printed.solved, names))
    if config.knows:
        verify(config, join_inputs(whole), printed.equations)
        verdict = _doubt(verdict, object_to(problem, joint, pick, config.knows, journal), first=True)
    return _doubt(verdict, explain_hidden(problem, printed.equations)) if config.hidden else verdict


def _doubt(verdict: Verdict, reason: str | None, first: bool = False) -> Verdict:
    """Add a reason, if there is one, for which a law cannot be identified."""
    if reason is None:
        return verdict
    word = "ambiguous" if verdict.word == "identified" else verdict.word
    return Verdict(word, (reason, *verdict.reasons) if first else (*verdict.reasons, reason))
