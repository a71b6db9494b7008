r"""Discovery: the whole road from measured trajectories to a law, a front and a verdict.

    data -> scaled problem -> search (proposals, network, or both) -> dense chain, fitted and pruned -> snapped -> printed -> simulated again

Every law on the way is a chain of units with closed or open gates (`law.law`), fitted through the ODE. The description length decides
between them. The symbols of the law that was fitted, pushed through its units, are held against its chain on the data (`extraction`);
whatever is reported belongs to the equations as printed.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from typing import Any

import torch

from .data.dataset import Dataset
from .data.noise import independent_share
from .data.tables import as_dataset
from .fit.fit import Fit
from .judge.bootstrap import bootstrap
from .judge.finding import Finding
from .judge.front import Reported, account, conclude, judge_front, undominated
from .judge.rounding import print_law
from .judge.selection import select_front, select_pick, select_rivals
from .judge.verdict import is_curve_fit
from .law.law import Law
from .law.terms import Terms
from .search.groups import encode_groups
from .search.hidden import search_hidden
from .search.joint import JointSearch
from .search.network import search_by_network
from .search.problem import Problem
from .search.remeshing import polish
from .search.rivals import seek_rivals
from .search.rounds import search_by_proposals
from .search.thinning import thin_dense_chain
from .work.config import FitConfig
from .work.crew import Crew
from .work.errors import DataError, SpeedWarning
from .work.journal import Journal, TimedJournal
from .work.memory import refuse_little
from .work.threads import one_thread

SOUGHT = 2  # times that rivals are sought, where the first ones change the choice
COARSE = 2e-4  # of the scale: errors that count for nothing where no law meets exact data exactly
COMPLETED = 24  # laws found as if nothing were known that are completed by what is


def discover(
    data: Any,
    config: FitConfig = FitConfig(),
    *,
    validate: Any = None,
    journal: Journal | None = None,
    crew: Crew | None = None,
) -> Finding:
    """Find the differential equation behind `data` (a table, a DataFrame or a Dataset).

    `validate` holds trajectories that are simulated from their starts and never fitted. Raises DataError or OptionError in one sentence;
    a search that is stopped, by `config.time_limit` or through a journal of your own, returns the best so far. A `crew` does side by side
    what can be: replicates of the bootstrap and random starts, to the same result.

    >>> import numpy as np, pandas as pd
    >>> t = np.linspace(0, 5, 20)
    >>> found = discover(pd.DataFrame({"t": t, "x": 2 * np.exp(-0.5 * t)}))
    >>> found.equations.strings()
    {'x': '-0.5*x'}
    """
    journal = journal or TimedJournal(config.time_limit, memory=config.memory)
    journal.crew = crew or journal.crew
    with one_thread():
        refuse_little(config.memory)
        return _discover(data, config, validate, journal)


def _discover(data: Any, config: FitConfig, validate: Any, journal: Journal) -> Finding:
    started = time.monotonic()
    table, everything, unseen = _read(data, config, validate)
    device, whole = _device(config.device), everything.sample()
    early, later = whole.split(config.held_out) if config.held_out else (whole, None)
    there = replace(config, device=device)
    problem, joint, pick = _search(early, there, journal)
    if pick is None:
        raise DataError(f"{whole.file}: no equation could be fitted to the trajectories; {_cure(journal)}.")
    problem, ended = problem.finishing(), journal.cause if journal.stop else None
    seen, fresh = joint.seen.values(), (later, unseen)
    rivals, front = select_rivals(seen, pick), select_front(seen, pick)
    final = Problem.of(whole, there, journal).finishing() if config.held_out else problem
    reported = Reported.of(*polish(*_refit(final, problem, pick)), whole)
    entries, at = judge_front(problem, early, front, pick, reported, fresh)
    verdict = conclude(problem, joint, pick, rivals, reported)
    stopped = (f"The search was ended by {ended} before it was through.",) if ended else ()
    entries, at = undominated(entries, at)
    replicates = bootstrap(problem, pick, seen, config.bootstrap) if config.bootstrap else None
    initial, errors = account(reported, everything, entries[at], fresh)
    return Finding(
        data=table,
        front=tuple(entries),
        selected=at,
        verdict=verdict.word,
        reasons=(*verdict.reasons, *stopped),
        alternatives=tuple(print_law(problem, r).equations for r in rivals),
        parameters=reported.printed.parameters,
        initial=tuple(initial),
        fitted=whole.rows,
        sigma=reported.sigma,
        errors=errors,
        chain=reported.chain,
        extraction=reported.extraction(),
        config=config,
        device=device,
        seconds=round(journal.spent + time.monotonic() - started, 3),
        bootstrap=replicates,
        flat=reported.printed.flat,
    )


def _cure(journal: Journal) -> str:
    return f"{journal.cause} ended the search too soon; allow more" if journal.stop else "check them with eqdisc check"


def _read(data: Any, config: FitConfig, validate: Any) -> tuple[Dataset, Dataset, Dataset | None]:
    """Return the table, the same with its groups as inputs, and so what is simulated only; refuse what does not go together."""
    table, unseen = as_dataset(data).with_hidden(config.hidden), None if validate is None else as_dataset(validate)
    whole = encode_groups(table)
    unseen = None if unseen is None else encode_groups(unseen, table.groups)
    config.refuse_together(bool(whole.grouped), bool(whole.inputs), unseen is not None)
    if unseen is not None and unseen.states != whole.states:
        raise DataError(
            f"{unseen.file} has the states {', '.join(unseen.states)}; {whole.file} has {', '.join(whole.states)}."
        )
    return table, whole, unseen


def _device(wanted: str) -> str:
    if wanted == "auto":
        return "cpu"  # one table is too little work for a GPU; ask for it with --device cuda
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        warnings.warn(f"--device {wanted}: torch finds no GPU here; the CPU does the work.", SpeedWarning, stacklevel=2)
        return "cpu"
    return wanted


def _search(data: Dataset, config: FitConfig, journal: Journal) -> tuple[Problem, JointSearch, Fit | None]:
    """Run the searches that were asked for; a dense chain around the best laws is trained and pruned in the end.

    The problem that comes back has the mesh that the search chose.
    """
    if config.hidden:
        problem, joint, pick = search_hidden(data, config, journal)
    else:
        problem = Problem.of(data, config, journal)
        journal.record("smoothing", 1, 1)
        search = search_by_network if config.search == "network" else search_by_proposals
        joint, pick = search(problem)
    problem = replace(problem, engine=joint.engine)
    if config.search == "both" and not journal.stop:
        other, found = search_by_network(problem)
        for solved in other.seen.values():
            joint.remember(solved)
        pick = joint.best([found] if found else [], pick)
    if pick is not None and not journal.stop:
        pick = _settle(problem, joint, pick)
    if pick is not None and not (config.snap and problem.judge.prior.snaps):
        law = _unsnapped(pick.law, problem)
        pick = joint.best(joint.solve([law], pick)) or pick
    return problem, joint, pick


def _unsnapped(law: Law, problem: Problem) -> Law:
    """Return the law with every exponent free that may be, those of 1 too unless such are to be kept."""
    law = law.without_padding()
    loose = law.terms.loosen(problem.denoised.positive)
    kept = law.terms.map(lambda v: (v == 1.0) & problem.config.snap)
    rows = zip(law.free.arrays, loose.arrays, kept.arrays, strict=True)
    return replace(law, free=Terms(*(free | (more & ~stays) for free, more, stays in rows)))


def _settle(problem: Problem, joint: JointSearch, pick: Fit) -> Fit | None:
    """Prune a dense chain around the best laws and choose among all that were fitted."""
    if problem.judge.knowledge is None:
        pick = thin_dense_chain(joint, pick, problem)
    elif not problem.data.hidden:
        pick = _complete_found(problem, joint, pick)
    if not problem.denoised.clean:
        return _choose(problem, joint, pick)
    chosen = select_pick(joint.seen.values(), pick)
    if not joint.exhausts(chosen) or is_curve_fit(problem, chosen):
        joint.coarsen(COARSE)
        return joint.best(joint.seen.values())
    return chosen


def _choose(problem: Problem, joint: JointSearch, pick: Fit) -> Fit:
    """Choose the law that noisy data earn; its rivals are sought and stand for choice too, and one that is shorter leads on."""
    share = independent_share(*joint.engine.mesh.residuals(pick.x[0]))
    pick = _lead_on(problem, joint, pick)
    chosen = select_pick(joint.seen.values(), pick, share)
    for _ in range(SOUGHT):
        if problem.journal.stop:
            break
        seek_rivals(joint, chosen)
        pick, former = _lead_on(problem, joint, pick), chosen
        chosen = select_pick(joint.seen.values(), pick, share)
        if chosen is former:
            break
    return chosen


def _lead_on(problem: Problem, joint: JointSearch, pick: Fit) -> Fit:
    """Return the shortest of all laws that were fitted; where that is not the pick, what moves make of it."""
    shortest = joint.best(joint.seen.values(), pick)
    return joint.improve(shortest, problem.library) if shortest and shortest.cost < pick.cost - 1e-6 else pick


def _complete_found(problem: Problem, joint: JointSearch, pick: Fit) -> Fit:
    """Complete by what is known the laws that are found, and left when a dense chain is pruned, as if nothing were known.

    Moves that keep a sum are few, and pruning would take what is known: another way leads further.
    """
    without = problem.without_knowledge()
    other, found = search_by_proposals(without)
    if found is not None and not problem.journal.stop:
        thin_dense_chain(other, found, without)
    shortest = sorted(other.seen.values(), key=lambda s: s.cost)[:COMPLETED]
    laws = [s.law.without_padding() for s in shortest]
    best = joint.best([*joint.solve(laws, pick), *joint.solve(laws)], pick) or pick
    return pick if best is pick else joint.improve(best, problem.library)


def _refit(final: Problem, problem: Problem, pick: Fit) -> tuple[Problem, Fit]:
    """Refit the pick's numbers on all rows where some were held out."""
    if final is problem:
        return problem, pick
    joint = JointSearch(final)
    law = final.in_scale(problem.in_units(pick.law.without_padding()))
    again = joint.best(joint.solve([law], steps=25))
    return (final, again) if again is not None else (problem, pick)
