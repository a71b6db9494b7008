r"""Discovery: the whole road from measured trajectories to a law, a front and a verdict.

    data -> scaled problem -> search (proposals, network, or both) -> dense chain, trained -> pruned -> snapped -> printed -> simulated again

Every law on the way is a RealNPU -> NAU chain lane that was fitted through the ODE. The description length decides
between them; whatever is reported belongs to the equations as printed.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from .data.dataset import Dataset
from .data.noise import independent_share
from .data.tables import as_dataset
from .fit.solved import Solved
from .judge.bootstrap import bootstrap
from .judge.finding import Finding
from .judge.front import Reported, account, conclude, judge_front, undominated
from .judge.rounding import Printed, print_law
from .judge.selection import select_front, select_pick, select_rivals
from .judge.verdict import is_curve_fit
from .law.law import without_padding
from .law.terms import loosen
from .search.groups import encode_groups
from .search.hidden import search_hidden
from .search.joint import JointSearch
from .search.network import search_by_network
from .search.problem import Problem
from .search.remeshing import polish
from .search.rivals import seek_rivals
from .search.rounds import search_by_proposals
from .search.thinning import thin_dense_chain
from .units.chain import Chain
from .work.config import FitConfig
from .work.crew import Crew
from .work.errors import DataError, SpeedWarning
from .work.journal import Finishing, Journal, TimedJournal
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

    >>> t = np.linspace(0, 5, 20)
    >>> import pandas as pd
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
    problem, joint, pick = _search(early, config, device, journal)
    if pick is None:
        raise DataError(f"{whole.file}: no equation could be fitted to the trajectories; {_cure(journal)}.")
    problem, ended = problem.finishing(), journal.cause if journal.stop else None
    names, seen, fresh = (*whole.formula_names, *whole.input_names), joint.seen.values(), (later, unseen)
    rivals, front = select_rivals(seen, pick), select_front(seen, pick)
    final = _final_problem(problem, whole, config, device, Finishing(journal))
    reported = Reported.of(*polish(*_refit(final, problem, pick, journal), journal), whole, journal)
    entries, at = judge_front(problem, early, front, pick, reported, fresh, journal)
    verdict = conclude(problem, joint, pick, rivals, reported, config, journal)
    if ended:
        stopped = f"The search was ended by {ended} before it was through."
        verdict = replace(verdict, reasons=(*verdict.reasons, stopped))
    entries, at = undominated(entries, at)
    count = config.bootstrap
    replicates = bootstrap(problem, pick, seen, names, count, config.seed, journal) if count else None
    initial, errors = account(reported, everything, entries[at], fresh, journal)
    return Finding(
        data=table,
        front=tuple(entries),
        selected=at,
        verdict=verdict.word,
        reasons=verdict.reasons,
        alternatives=tuple(print_law(problem, r, names, journal).equations for r in rivals),
        parameters=reported.printed.parameters,
        initial=tuple(initial),
        fitted=whole.rows,
        sigma=reported.sigma,
        errors=errors,
        chain=_chain(reported.problem, reported.printed),
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


def _search(
    data: Dataset, config: FitConfig, device: str, journal: Journal
) -> tuple[Problem, JointSearch, Solved | None]:
    """Run the searches that were asked for; a dense chain around the best laws is trained and pruned in the end.

    The problem that comes back has the mesh that the search chose.
    """
    if config.hidden:
        problem, joint, pick = search_hidden(data, config, device, journal)
    else:
        problem = Problem.of(data, config.exponents, device, config.noise, config, journal)
        journal.record("smoothing", 1, 1)
        by_network = config.search == "network"
        joint, pick = (
            search_by_network(problem, config, journal)
            if by_network
            else search_by_proposals(problem, journal, config.seed)
        )
    problem = replace(problem, engine=joint.engine)
    if config.search == "both" and not journal.stop:
        other, found = search_by_network(problem, config, journal)
        for solved in other.seen.values():
            joint.remember(solved)
        pick = joint.best([found] if found else [], pick)
    if pick is not None and not journal.stop:
        pick = _settle(problem, joint, pick, journal)
    if pick is not None and not (config.snap and problem.judge.prior.snaps):
        w, a, free = without_padding(pick.law)
        loose = loosen(w, problem.denoised.positive) & ((w != 1.0) | (not config.snap))
        pick = joint.best(joint.solve([(w, a, free | loose)], pick)) or pick
    return problem, joint, pick


def _settle(problem: Problem, joint: JointSearch, pick: Solved, journal: Journal) -> Solved | None:
    """Prune a dense chain around the best laws and choose among all that were fitted."""
    if problem.judge.knowledge is None:
        pick = thin_dense_chain(joint, pick, problem, journal)
    elif not problem.data.hidden:
        pick = _complete_found(problem, joint, pick, journal)
    if not problem.denoised.clean:
        return _choose(problem, joint, pick, journal)
    chosen = select_pick(joint.seen.values(), pick)
    if not joint.exhausts(chosen) or is_curve_fit(problem, chosen):
        joint.coarsen(COARSE)
        return joint.best(joint.seen.values())
    return chosen


def _choose(problem: Problem, joint: JointSearch, pick: Solved, journal: Journal) -> Solved:
    """Choose the law that noisy data earn; its rivals are sought and stand for choice too, and one that is shorter leads on."""
    residual, seen = joint.engine.mesh.residuals(pick.fit.x[0])
    share = independent_share(residual, seen)
    pick = _lead_on(problem, joint, pick)
    chosen = select_pick(joint.seen.values(), pick, share)
    for _ in range(SOUGHT):
        if journal.stop:
            break
        seek_rivals(joint, chosen)
        pick, former = _lead_on(problem, joint, pick), chosen
        chosen = select_pick(joint.seen.values(), pick, share)
        if chosen is former:
            break
    return chosen


def _lead_on(problem: Problem, joint: JointSearch, pick: Solved) -> Solved:
    """Return the shortest of all laws that were fitted; where that is not the pick, what moves make of it."""
    shortest = joint.best(joint.seen.values(), pick)
    return joint.improve(shortest, problem.library) if shortest and shortest.cost < pick.cost - 1e-6 else pick


def _complete_found(problem: Problem, joint: JointSearch, pick: Solved, journal: Journal) -> Solved:
    """Complete by what is known the laws that are found, and left when a dense chain is pruned, as if nothing were known.

    Moves that keep a sum are few, and pruning would take what is known: another way leads further.
    """
    without = problem.without_knowledge()
    other, found = search_by_proposals(without, journal)
    if found is not None and not journal.stop:
        thin_dense_chain(other, found, without, journal)
    laws = [without_padding(s.law) for s in sorted(other.seen.values(), key=lambda s: s.cost)[:COMPLETED]]
    best = joint.best([*joint.solve(laws, pick), *joint.solve(laws)], pick) or pick
    return pick if best is pick else joint.improve(best, problem.library)


def _final_problem(problem: Problem, whole: Dataset, config: FitConfig, device: str, journal: Journal) -> Problem:
    return Problem.of(whole, config.exponents, device, config.noise, config, journal) if config.held_out else problem


def _refit(final: Problem, problem: Problem, pick: Solved, journal: Journal) -> tuple[Problem, Solved]:
    """Refit the pick's numbers on all rows where some were held out."""
    if final is problem:
        return problem, pick
    w, a, free = without_padding(pick.law)
    a = a * (problem.scaling.undo(w, np.ones_like(a)) / final.scaling.undo(w, np.ones_like(a)))
    w = final.scaling.redo_rows(problem.scaling.undo_rows(w))
    x = final.engine.mesh.states(final.denoised)
    joint = JointSearch(final.engine, final.judge, x, final.start_sigma, journal)
    again = joint.best(joint.solve([(w, a, free)], steps=25))
    return (final, again) if again is not None else (problem, pick)


def _chain(problem: Problem, printed: Printed) -> Chain:
    """Return the pruned chain in the user's units, its coefficients not rounded."""
    w, a, _ = without_padding(printed.solved.law)
    rows, coefficients = problem.scaling.undo_rows(w), problem.scaling.undo(w, a)
    return Chain.from_terms(torch.as_tensor(rows)[None], torch.as_tensor(coefficients)[None])
