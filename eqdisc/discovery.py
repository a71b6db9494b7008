r"""Discovery: the whole road from measured trajectories to a law, a front and a verdict.

    data -> scaled problem -> search (proposals, network, or both) -> dense chain, trained -> pruned -> snapped -> printed -> simulated again

Every law on the way is a RealNPU -> NAU chain lane that was fitted through the ODE. The description length decides
between them; whatever is reported belongs to the equations as printed.
"""

from __future__ import annotations

import math
import platform
import time
import warnings
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from . import __version__
from .data.dataset import Dataset
from .data.frames import tabulate_front, tabulate_parameters
from .data.inputs import join_inputs
from .data.noise import independent_share
from .data.tables import as_dataset
from .fit.solved import Solved
from .judge.bootstrap import Bootstrap, bootstrap
from .judge.card import write_finding
from .judge.intervals import LEVEL, name_loosest
from .judge.rounding import Printed, print_law
from .judge.selection import CONTESTS, FAR, select_front, select_pick, select_rivals, share_of
from .judge.validation import (
    METRIC,
    MOST,
    SCORE,
    Score,
    Stretch,
    leave_the_data,
    score,
    stretches_of_fit,
    stretches_unseen,
)
from .judge.verdict import Verdict, is_curve_fit, is_one_curve, judge, object_to
from .law.ensemble import fit_ensemble
from .law.equations import Equations, Parameter
from .law.knowledge import verify
from .law.law import complexity_of, without_padding
from .law.terms import loosen
from .search.groups import encode_groups, law_of_group
from .search.hidden import explain_hidden, search_hidden
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
from .work.errors import DataError, OptionError, SpeedWarning
from .work.journal import Finishing, Journal, TimedJournal
from .work.memory import refuse_little
from .work.status import Status
from .work.threads import one_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

SOUGHT = 2  # times that rivals are sought, where the first ones change the choice
COARSE = 2e-4  # of the scale: errors that count for nothing where no law meets exact data exactly
COMPLETED = 24  # laws found as if nothing were known that are completed by what is


@dataclass(frozen=True, eq=False)
class FrontEntry:
    """One law of the front, as printed: what it costs to write and how it errs."""

    equations: Equations
    complexity: int
    parameters: int
    train: float
    unseen: float | None
    description_length: float
    status: Status = Status.OK


@dataclass(frozen=True, eq=False)
class Discovery:
    """What was found: the front by rising complexity, the pick, the verdict, and everything needed to repeat it."""

    data: Dataset
    front: tuple[FrontEntry, ...]
    selected: int
    verdict: str
    reasons: tuple[str, ...]
    alternatives: tuple[Equations, ...]
    parameters: tuple[Parameter, ...]
    initial: tuple[dict[str, Any], ...]
    sigma: dict[str, float]
    errors: dict[str, Any]
    chain: Chain | None
    config: FitConfig
    device: str
    seconds: float
    versions: dict[str, str]
    bootstrap: Bootstrap | None = None
    flat: tuple[str, ...] = ()
    fitted: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.selected < len(self.front):
            raise DataError(f"the pick {self.selected} is not on the front of {len(self.front)} laws.")

    @property
    def equations(self) -> Equations:
        """The pick; with groups, that of the geometric mean of their coefficients."""
        return self._typical(self.front[self.selected].equations)

    def _typical(self, law: Equations) -> Equations:
        return law_of_group(law, self.data.groups, None) if len(self.data.groups) > 1 else law

    @property
    def groups(self) -> dict[str, Equations]:
        """The law of each group, where the data have groups."""
        law, names = self.front[self.selected].equations, self.data.groups
        return {g: law_of_group(law, names, g) for g in names} if len(names) > 1 else {}

    @property
    def seed(self) -> int:
        """The seed of the random starts."""
        return self.config.seed

    def _repr_html_(self) -> str:
        return str(write_finding(self.result(), self.equations, self.alternatives, self.data.formula_names))

    def front_table(self) -> pd.DataFrame:
        """Return the front as a DataFrame, one law a row: pick, complexity, errors, description length, equations."""
        return tabulate_front(self._entries(), self.selected)

    def _entries(self) -> list[dict[str, Any]]:
        return [_entry(replace(e, equations=self._typical(e.equations)), self.data.states) for e in self.front]

    def parameters_table(self) -> pd.DataFrame:
        """Return the numbers of the law as a DataFrame: name, value, the ends of its interval, unit, equations it stands in."""
        return tabulate_parameters([asdict(p) for p in self.parameters])

    def _by_group(self) -> dict[str, Any]:
        """Return what result.json says of groups."""
        sides = lambda texts: dict(zip(self.data.states, texts.values(), strict=True))  # noqa: E731
        groups = {g: {"equations": sides(law.strings()), "latex": sides(law.latex())} for g, law in self.groups.items()}
        return {"group": self.data.group, "groups": groups} if groups else {}

    def result(self) -> dict[str, Any]:
        """Return the contents of result.json."""
        names, law = self.data.formula_names, self.equations
        return (
            {
                "format": 1,
                "eqdisc": self.versions["eqdisc"],
                "states": list(self.data.states),
                "inputs": [f"{name}:hold" if name in self.data.held else name for name in self.data.inputs],
                "time": self.data.time,
                "symbols": dict(self.data.symbols),
                "equations": dict(zip(self.data.states, law.strings().values(), strict=True)),
                "latex": dict(zip(self.data.states, law.latex().values(), strict=True)),
                "verdict": self.verdict,
                "reasons": list(self.reasons),
                "alternatives": [
                    {"equations": dict(zip(self.data.states, self._typical(a).strings().values(), strict=True))}
                    for a in self.alternatives
                ],
                "parameters": [_number_of(p) for p in self.parameters],
                "fluxes": [{"rate": str(f.rate), "stoichiometry": dict(f.stoichiometry)} for f in law.fluxes()],
                "invariants": list(law.invariants()),
                "flat": list(self.flat),
                "initial": list(self.initial),
                "sigma": self.sigma,
                "errors": self.errors,
                "front": self._entries(),
                "selected": self.selected,
                "ci_level": LEVEL,
                "data": {
                    "file": self.data.file,
                    "rows": self.data.rows,
                    "trajectories": len(self.data.trajectories),
                    "fitted": self.fitted,
                },
                "config": asdict(self.config),
                "seed": self.seed,
                "device": self.device,
                "seconds": self.seconds,
                "versions": self.versions,
                "formula_names": list(names),
            }
            | self._by_group()
            | ({"hidden": list(self.data.hidden)} if self.data.hidden else {})
            | ({} if self.bootstrap is None else {"bootstrap": asdict(self.bootstrap)})
        )


def _number_of(parameter: Parameter) -> dict[str, Any]:
    facts = asdict(parameter)
    return facts if parameter.group else {key: value for key, value in facts.items() if key != "group"}


def _entry(entry: FrontEntry, states: Sequence[str]) -> dict[str, Any]:
    return {
        "complexity": entry.complexity,
        "parameters": entry.parameters,
        "equations": dict(zip(states, entry.equations.strings().values(), strict=True)),
        "train": _number(entry.train),
        "unseen": _number(entry.unseen),
        "description_length": _number(entry.description_length),
        "status": entry.status.name.lower(),
    }


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def discover(
    data: Any,
    config: FitConfig = FitConfig(),
    *,
    validate: Any = None,
    journal: Journal | None = None,
    crew: Crew | None = None,
) -> Discovery:
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


def _discover(data: Any, config: FitConfig, validate: Any, journal: Journal) -> Discovery:
    started = time.monotonic()
    table, whole, unseen = _read(data, config, validate)
    device = _device(config.device)
    everything, whole = whole, whole.sample()
    early, later = whole.split(config.held_out) if config.held_out else (whole, None)
    names = (*whole.formula_names, *whole.input_names)
    problem, joint, pick = _search(early, config, device, journal)
    if pick is None:
        cure = (
            f"{journal.cause} ended the search too soon; allow more" if journal.stop else "check them with eqdisc check"
        )
        raise DataError(f"{whole.file}: no equation could be fitted to the trajectories; {cure}.")
    problem, ended = problem.finishing(), journal.cause if journal.stop else None
    rivals = select_rivals(joint.seen.values(), pick)
    front = select_front(joint.seen.values(), pick)
    final = _final_problem(problem, whole, config, device, Finishing(journal))
    final, refitted = polish(*_refit(final, problem, pick, journal), journal)
    printed = print_law(final, refitted, names, journal, profile=True)
    journal.record("intervals", 1, 1)
    fitted = whole if later is not None else early
    pick_score = _score(journal, printed.equations, stretches_of_fit(final, fitted, printed.starts), printed.sigma)
    entries, at = _judge_front(problem, early, front, pick, (printed, pick_score), (later, unseen), journal)
    share = share_of(pick, joint.seen.values(), FAR if is_one_curve(problem) else CONTESTS)
    left = list(leave_the_data(printed.equations, fitted, _cut_starts(final, printed), printed.sigma))
    verdict = judge(problem, pick, rivals, share, names, pick_score, left)
    verdict = _doubt(verdict, name_loosest(final, printed.solved, names))
    if config.knows:
        verify(config, join_inputs(whole), printed.equations)
        verdict = _doubt(verdict, object_to(problem, joint, pick, config.knows, journal), first=True)
    if config.hidden:
        verdict = _doubt(verdict, explain_hidden(problem, printed.equations))
    if ended:
        verdict = replace(
            verdict, reasons=(*verdict.reasons, f"The search was ended by {ended} before it was through.")
        )
    entries, at = _undominated(entries, at)
    replicates = _bootstrap(problem, joint, pick, config, names, journal)
    errors = _errors(pick_score, entries[at].unseen if later is not None else None, printed, unseen, journal)
    initial = _initial(final, whole, printed)
    if len(whole) < len(everything):
        journal.record("starts of all records")
        initial, errors = _extend(everything, printed, errors)
    return Discovery(
        data=table,
        front=tuple(entries),
        selected=at,
        verdict=verdict.word,
        reasons=verdict.reasons,
        alternatives=tuple(print_law(problem, r, names, journal).equations for r in rivals),
        parameters=printed.parameters,
        initial=tuple(initial),
        fitted=whole.rows,
        sigma={whole.states[e]: float(printed.sigma[e]) for e in problem.measured},
        errors=errors,
        chain=_chain(final, printed),
        config=config,
        device=device,
        seconds=round(journal.spent + time.monotonic() - started, 3),
        versions=_versions(),
        bootstrap=replicates,
        flat=printed.flat,
    )


def _read(data: Any, config: FitConfig, validate: Any) -> tuple[Dataset, Dataset, Dataset | None]:
    """Return the table, the same with its groups as inputs, and so what is simulated only; refuse what does not go together."""
    table, unseen = as_dataset(data).with_hidden(config.hidden), None if validate is None else as_dataset(validate)
    whole = encode_groups(table)
    unseen = None if unseen is None else encode_groups(unseen, table.groups)
    _refuse_together(config, whole, unseen)
    if unseen is not None and unseen.states != whole.states:
        raise DataError(
            f"{unseen.file} has the states {', '.join(unseen.states)}; {whole.file} has {', '.join(whole.states)}."
        )
    return table, whole, unseen


def _doubt(verdict: Verdict, reason: str | None, first: bool = False) -> Verdict:
    """Add a reason, if there is one, for which a law cannot be identified."""
    if reason is None:
        return verdict
    word = "ambiguous" if verdict.word == "identified" else verdict.word
    return Verdict(word, (reason, *verdict.reasons) if first else (*verdict.reasons, reason))


def _device(wanted: str) -> str:
    if wanted == "auto":
        return "cpu"  # one table is too little work for a GPU; ask for it with --device cuda
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        warnings.warn(f"--device {wanted}: torch finds no GPU here; the CPU does the work.", SpeedWarning, stacklevel=2)
        return "cpu"
    return wanted


def _refuse_together(config: FitConfig, whole: Dataset, unseen: Dataset | None) -> None:
    """Refuse options that do not go together."""
    if config.search != "proposals":
        option = "--group" if whole.grouped else "--inputs" if whole.inputs else "--hidden" if config.hidden else ""
        if config.knows:
            raise OptionError(
                f"--search {config.search} fits laws of which nothing is known; leave it out, or what you know."
            )
        if option:
            raise OptionError(
                f"--search {config.search} fits laws without inputs, groups and hidden states; leave it out, or leave out {option}."
            )
    if config.hidden:
        if config.held_out or unseen is not None:
            raise OptionError(
                "--hidden leaves nothing to validate on: where the hidden state starts is known only of what was fitted; "
                "leave out --validate and --held-out."
            )
        if whole.grouped:
            raise OptionError("--hidden and --group are both asked for; one of them at a time can be fitted.")
        if config.knows:
            raise OptionError("--hidden finds laws of which nothing is known; leave it out, or what you know.")


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


def _bootstrap(
    problem: Problem, joint: JointSearch, pick: Solved, config: FitConfig, names: tuple[str, ...], journal: Journal
) -> Bootstrap | None:
    if not config.bootstrap:
        return None
    return bootstrap(problem, pick, joint.seen.values(), names, config.bootstrap, config.seed, journal)


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


def _score(
    journal: Journal, law: Equations, stretches: list[Stretch], sigma: np.ndarray, most: int | None = None
) -> Score:
    """Score a printed law once: a simulation may be ended by the clock, which is not the same twice."""
    given = law.strings(), stretches, sigma, most
    return journal.recall("score", lambda: given, lambda: score(law, stretches, sigma, most), SCORE)


def _judge_front(
    problem: Problem,
    data: Dataset,
    front: list[Solved],
    pick: Solved,
    found: tuple[Printed, Score],
    fresh: tuple[Dataset | None, Dataset | None],
    journal: Journal,
) -> tuple[list[FrontEntry], int]:
    """Return the entries of the front and the pick's place, laws beside it as far as time allows.

    `found` is the pick as printed with its score, `fresh` what was not fitted: the later part of the records, or other ones.
    """
    names, later = (*data.formula_names, *data.input_names), fresh[0]
    sigma = (pick.fit.sigma[0].cpu().numpy() * problem.scaling.states)[: problem.d]
    unfitted = next((stretches_unseen(d) for d in fresh if d is not None), None)
    entries: list[FrontEntry] = []
    at = 0
    for solved in front:
        if solved is pick:
            at, (printed, train) = len(entries), found
            law = printed.equations if later is None else print_law(problem, pick, names, journal).equations
        elif journal.late:
            continue
        else:
            printed = print_law(problem, solved, names, journal)
            law = printed.equations
            train = _score(journal, law, stretches_of_fit(problem, data, printed.starts), sigma, MOST)
        unseen = None if unfitted is None else _score(journal, law, unfitted, sigma, MOST).error
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


def _undominated(entries: list[FrontEntry], at: int) -> tuple[list[FrontEntry], int]:
    """Leave out laws that a simpler one fits as well as, now that all are printed; the pick stays."""
    pick, kept, lowest = entries[at], [], math.inf
    for entry in entries:
        if entry is pick or (entry.train < 0.999 * lowest and entry.status is Status.OK):
            kept.append(entry)
            lowest = min(lowest, entry.train)
    return kept, kept.index(pick)


def _errors(
    fit: Score, later: float | None, printed: Printed, unseen: Dataset | None, journal: Journal
) -> dict[str, Any]:
    new = None if unseen is None else _score(journal, printed.equations, stretches_unseen(unseen), printed.sigma)
    errors: dict[str, Any] = {"metric": METRIC, "train": _number(fit.error), "later": _number(later)}
    errors["new_start"] = None if new is None else _number(new.error)
    errors["horizon"] = fit.horizon
    ends = [s.end for s in (fit, new) if s is not None and s.end is not None]
    return errors | ({"blow_up": min(ends)} if ends else {})


def _cut_starts(problem: Problem, printed: Printed) -> dict[int, np.ndarray]:
    """Return the estimated starts of trajectories that were fitted in pieces, by number."""
    of = problem.engine.mesh.trajectory
    return {k: printed.starts[of.index(k)] for k in set(of) if of.count(k) > 1}


def _extend(data: Dataset, printed: Printed, errors: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the starts of all records and the error over all their readings, of which a part was fitted."""
    found = fit_ensemble(printed.equations, data, printed.sigma)
    lost = {"lost": [data.trajectories[k].name for k in found.lost]} if found.lost else {}
    return _name_starts(dict(enumerate(found.starts)), data), errors | {"train": _number(found.error)} | lost


def _initial(problem: Problem, data: Dataset, printed: Printed) -> list[dict[str, Any]]:
    """Return the estimated start of every trajectory, that of its first segment, and its noise where trajectories differ in it."""
    first: dict[int, np.ndarray] = {}
    for q, k in enumerate(problem.engine.mesh.trajectory):
        first.setdefault(k, printed.starts[q])
    starts, levels = _name_starts(first, data), problem.denoised.levels
    if (levels != 1.0).any():
        for start, level in zip(starts, levels, strict=True):
            start["sigma"] = {data.states[e]: float(printed.sigma[e] * level[e]) for e in problem.measured}
    return starts


def _name_starts(starts: dict[int, np.ndarray], data: Dataset) -> list[dict[str, Any]]:
    return [
        {"trajectory": data.trajectories[k].name, "x0": {s: float(v) for s, v in zip(data.states, x0, strict=True)}}
        for k, x0 in sorted(starts.items())
    ]


def _chain(problem: Problem, printed: Printed) -> Chain:
    """Return the pruned chain in the user's units, its coefficients not rounded."""
    w, a, _ = without_padding(printed.solved.law)
    rows, coefficients = problem.scaling.undo_rows(w), problem.scaling.undo(w, a)
    return Chain.from_terms(torch.as_tensor(rows)[None], torch.as_tensor(coefficients)[None])


def _versions() -> dict[str, str]:
    return {
        "eqdisc": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


__all__ = ["Discovery", "FrontEntry", "discover"]
