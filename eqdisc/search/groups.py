r"""Groups: one law for all records, with coefficients that may differ from group to group.

    dx_e/dt = sum_j a_je c_jg m_j(x)          in group g, c_j1 = 1

A structure, its exponents and its stoichiometry are shared; a term whose rate differs between groups (subjects, sites, batches) has
a factor c_jg for each, which moves all equations that the term stands in alike. In a search the factor is a product of powers like
all else: beside the states stand inputs z_2, ..., z_G, e in the records of their group and 1 elsewhere, so that

    c_jg = prod_h z_h**w_jh = exp(w_jg).

The description length decides which terms have factors: each costs what a coefficient costs, told by its group's samples alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..data.dataset import Dataset
from ..data.scaling import FLOOR
from ..fit.fit import NORMAL, Fit
from ..fit.regression import Regression
from ..fit.rule import cut_windows
from ..law.equations import Parameter
from ..law.formulas import round_to
from ..law.law import Law, join
from ..law.terms import Number, Terms
from ..work.errors import DataError
from .joint import JointSearch
from .problem import Problem
from .subsets import Subsets

SETS = 24  # library sets an equation that are tried with factors
TRIPLED = 36  # library terms that sets of three are made of
FURTHEST = 3.0  # logarithm of the factor that a fit starts from at most
SEED = 1e-2  # where the factors' logarithms start: zero would mean that there is none
EACH = 3  # laws of each complexity that are tried with factors
MOST = 24  # laws that are fitted side by side
ALIVE = 4  # of them whose factors are thinned
STEPS = 30
ROUNDS = 3
HUGE = 300.0  # logarithm beyond which an end says nothing
LEAST = 1e-6  # nats by which a description must get shorter
DIGITS = 0.1  # rounding error of a group's coefficient, in its standard errors


def encode_groups(data: Dataset, groups: tuple[str, ...] | None = None) -> Dataset:
    """Return the data with an input for each group but the first; `groups` are those of the law, if they are known.

    Raises DataError for a group that is not among them.
    """
    names = data.groups if groups is None else groups
    if len(names) < 2:
        return data
    for k in data.trajectories:
        if k.group not in names:
            raise DataError(
                f"{data.file}: trajectory {k.name!r} is of group {k.group!r}, for which the law has no coefficients."
            )
    marked = tuple(
        replace(
            k, u=np.column_stack([k.u, np.where(np.array(names[1:]) == k.group, math.e, 1.0) + np.zeros((len(k), 1))])
        )
        for k in data.trajectories
    )
    inputs = (*data.inputs, *(f"{data.group}={name}" for name in names[1:]))
    return replace(data, trajectories=marked, inputs=inputs, grouped=len(names) - 1)


def search_groups(problem: Problem, joint: JointSearch, best: Fit) -> Fit:
    """Return the law of shortest description with the factors that the data ask for, from the laws found without any."""
    marks = problem.marks
    laws = [_with_factors(s.law, marks) for s in _candidates([best, *joint.seen.values()])]
    fresh = list({_structure(law): law for law in [*propose_with_factors(problem), *laws]}.values())
    solved = [s for at in range(0, len(fresh), MOST) for s in joint.solve(fresh[at : at + MOST], steps=STEPS)]
    first = sorted(solved, key=lambda s: s.cost)[:ALIVE]
    found = joint.best([_thin(joint, s, marks) for s in first], best) or best
    for _ in range(ROUNDS):
        former = found
        found = _thin(joint, joint.improve(found, problem.library), marks)
        more = [_with_factors(found.law, marks, [j]) for j in _without_factors(found.law, marks)]
        found = joint.best(joint.solve(more, found, steps=STEPS), found) or found
        if joint.journal.stop or found.cost > former.cost - LEAST:
            break
    return found


def propose_with_factors(problem: Problem) -> list[Law]:
    """Return laws of one to three library terms an equation whose coefficients each group chooses for itself, the best set of each
    equation first and then other sets of one equation at a time.
    """
    regression = problem.regression()
    group = {k: trajectory.group for k, trajectory in enumerate(problem.data.trajectories)}
    names = list(dict.fromkeys(group.values()))
    windows = torch.tensor([names.index(group[k]) for k, _, _ in cut_windows(problem.data)], device=problem.device)
    sets = [_best_sets(regression, problem, e, windows, len(names)) for e in range(problem.d)]
    choices = [[0] * len(sets)] + [
        [i if f == e else 0 for f in range(len(sets))] for e, some in enumerate(sets) for i in range(1, len(some))
    ]
    return [_join([sets[e][i] for e, i in enumerate(choice)], problem) for choice in choices]


@dataclass(frozen=True, eq=False)
class _Set:
    """One equation's terms (k), each group's coefficients (G, k), and what they cost."""

    terms: Terms
    coefficients: np.ndarray
    cost: float

    @property
    def start(self) -> Float[np.ndarray, "k"]:
        """The coefficients of the first group, or the median where that one's sign is not the usual one."""
        middle, first = np.median(self.coefficients, axis=0), self.coefficients[0]
        return np.where(first * middle > 0, first, np.where(middle == 0, 1e-6, middle))

    def factors(self, term: int) -> np.ndarray:
        """Return the logarithms (G - 1,) of a term's factors, as far as they can be told."""
        ratio = self.coefficients[1:, term] / self.start[term]
        logs = np.clip(np.log(np.where(ratio > 0, ratio, 1.0)), -FURTHEST, FURTHEST)
        return np.where(np.abs(logs) < SEED, SEED, logs)


def _join(sets: list[_Set], problem: Problem) -> Law:
    """Join one set an equation; a term's factors are those of the first equation that it stands in."""
    sides = [Law.equation(some.terms, some.start, e) for e, some in enumerate(sets)]
    law = join([*sides, *[None] * problem.data.driven])
    for j in range(len(law)):
        e = int(np.flatnonzero(law.coefficients[j])[0])
        term = int(sets[e].terms.gaps(law.terms[[j]])[:, 0].argmin())
        law.terms.exponents[j, problem.marks], law.free.exponents[j, problem.marks] = sets[e].factors(term), True
    return law


def _best_sets(regression: Regression, problem: Problem, e: int, windows: Int[Tensor, "w"], groups: int) -> list[_Set]:
    """Return the library sets of shortest description in equation e where every group has coefficients of its own."""
    subsets = Subsets(regression, e, problem.library, problem.judge.prior)
    per_window = regression.operators[e].shape[-1]
    owner = torch.nn.functional.one_hot(windows.repeat_interleave(per_window), groups).to(subsets.y.dtype)  # (n, G)
    gram = torch.einsum("in,ng,jn->gij", subsets.columns, owner, subsets.columns)
    slope, power = (subsets.columns * subsets.y) @ owner, subsets.y.square() @ owner  # (m, G), (G,)
    rows, floor = subsets.rows, max(0.5 * float(problem.denoised.sigma[e]), FLOOR)
    each = 0.5 * math.log(rows / groups) + 0.5
    found: list[_Set] = []
    useful = torch.arange(len(subsets), device=slope.device)
    for size in (1, 2, 3):
        members = torch.combinations(useful, size)
        if not len(members):
            break
        a, left = _solve_groups(gram, slope, members)
        rss = (power[:, None] - left).clamp_min(0.0).sum(0)
        cost = 0.5 * rows * (rss / rows + floor**2).log() + subsets.price[members].sum(-1) + size * (groups - 1) * each
        order = cost.argsort()
        a = a / subsets.norm[members]
        found += [
            _Set(subsets.terms[members[q]].numpy(), a[:, q].cpu().numpy(), float(cost[q]))
            for q in order[:SETS].tolist()
        ]
        if size == 2:
            useful = members[order].flatten().unique_consecutive()
            useful = torch.tensor(list(dict.fromkeys(useful.tolist()))[:TRIPLED], device=slope.device)
    return sorted(found, key=lambda some: some.cost)[:SETS]


def _solve_groups(gram: Tensor, slope: Tensor, members: Int[Tensor, "s k"]) -> tuple[Tensor, Tensor]:
    """Return each group's coefficients (G, s, k) of each set, and by how much they lower its sum of squares (G, s)."""
    inner = gram[:, members[:, :, None], members[:, None, :]]
    right = slope.T[:, members]
    lift = 1e-10 * inner.diagonal(dim1=-2, dim2=-1).amax(-1).clamp_min(1e-300)
    eye = torch.eye(members.shape[1], dtype=gram.dtype, device=gram.device)
    a = torch.linalg.solve_ex(inner + lift[..., None, None] * eye, right[..., None])[0][..., 0]
    return torch.nan_to_num(a), torch.nan_to_num((a * right).sum(-1))


def _structure(law: Law) -> tuple:
    """Name a law's structure, whatever its factors are."""
    pairs = zip(law.terms.arrays, law.free.arrays, strict=True)
    return replace(law, terms=Terms(*(np.where(free, 1.0, own) for own, free in pairs))).key


def _candidates(laws: Iterable[Fit]) -> list[Fit]:
    """Return the shortest laws of each complexity, the shortest first: where factors are missing, all misfit."""
    count: dict[int, int] = {}
    kept = []
    for s in sorted({s.key: s for s in laws}.values(), key=lambda s: s.cost):
        size = s.law.complexity
        count[size] = count.get(size, 0) + 1
        if count[size] <= EACH:
            kept.append(s)
    return kept[:MOST]


def _with_factors(law: Law, marks: slice, terms: list[int] | None = None) -> Law:
    """Return the law with a factor for each group on these terms, or on all."""
    law = law.without_padding()
    w, free = law.terms.exponents.copy(), law.free.exponents.copy()
    chosen = np.arange(len(law)) if terms is None else np.array(terms)
    bare = chosen[(w[chosen, marks] == 0).all(1)]
    w[bare, marks], free[chosen, marks] = SEED, True
    return replace(law, terms=replace(law.terms, exponents=w), free=replace(law.free, exponents=free))


def _without_factors(law: Law, marks: slice) -> list[int]:
    return np.flatnonzero((law.without_padding().terms.exponents[:, marks] == 0).all(1)).tolist()


def _without_factor(law: Law, marks: slice, j: int) -> Law:
    """Return the law in which all groups have the mean of their coefficients of term j."""
    columns = range(*marks.indices(law.d))
    logs = law.terms.exponents[j, marks]
    law = law.put({Number("exponent", j, i): 0.0 for i in columns})
    a = law.coefficients.copy()
    a[j] *= np.exp(logs.sum() / (logs.size + 1))
    return law.with_coefficients(a)


def _thin(joint: JointSearch, found: Fit, marks: slice) -> Fit:
    """Take factors off one term after the other while the description gets shorter."""
    while True:
        law = found.law.without_padding()
        marked = np.flatnonzero((law.terms.exponents[:, marks] != 0).any(1)).tolist()
        fresh = {bare.key: bare for bare in (_without_factor(law, marks, j) for j in marked)}
        better = joint.best(joint.solve(list(fresh.values()), found, steps=STEPS))
        if better is None or better.cost >= found.cost - LEAST or joint.journal.stop:
            return found
        found = better


def log_errors(problem: Problem, solved: Fit) -> dict[int, Float[np.ndarray, "G"]]:
    """Return the standard error of the logarithm of each group's coefficient, by term, in the user's units."""
    found: dict[int, np.ndarray] = {}
    for number in solved.names:
        if number.part == "coefficient" and number.term not in found:
            slope = _log_slopes(problem, solved, number)
            variance = np.einsum("gp,pq,gq->g", slope, solved.covariance, slope)
            found[number.term] = np.sqrt(np.maximum(variance, 0.0))
    return found


def _log_slopes(problem: Problem, solved: Fit, number: Number) -> Float[np.ndarray, "G P"]:
    """Return how the logarithm of each group's coefficient moves with the numbers of the law."""
    log_s, first = np.log(problem.scaling.states), problem.marks.start
    slope = np.zeros((problem.data.grouped + 1, len(solved.names)))
    for p, other in enumerate(solved.names):
        if other == number:
            slope[:, p] = 1 / solved.law[number]
        elif other.part == "exponent" and other.term == number.term and other.place < first:
            slope[:, p] = -log_s[other.place]
        elif other.part == "exponent" and other.term == number.term:
            slope[other.place - first + 1, p] = 1.0
    return slope


def round_factors(law: Law, errors: dict[int, np.ndarray], marks: slice) -> Law:
    """Return a law with factors that leave every group's first coefficient of a term with the digits that its error supports."""
    w = law.terms.exponents.copy()
    for j in np.flatnonzero((w[:, marks] != 0).any(1)).tolist():
        a = law.coefficients[j][law.support[j]][0]
        values = a * np.exp(w[j, marks])
        short = [round_to(v, DIGITS * abs(v) * error) for v, error in zip(values, errors[j][1:], strict=True)]
        w[j, marks] = np.log(np.array(short) / a)
    return replace(law, terms=replace(law.terms, exponents=w))


def part_by_group(
    parameters: Iterable[Parameter],
    texts: list[str],
    law: Law,
    errors: dict[int, np.ndarray],
    groups: tuple[str, ...],
    marks: slice,
) -> Iterator[Parameter]:
    """Yield each coefficient of a term that differs between groups as one parameter a group, with intervals of the logarithm."""
    for p in parameters:
        j = texts.index(p.term)
        logs = law.terms.exponents[j, marks]
        if not (logs != 0).any():
            yield p
            continue
        factors = np.exp(np.r_[0.0, logs])
        for name, factor, error in zip(groups, factors, errors[j], strict=True):
            value = float(f"{p.value * factor:.12g}")
            ends = sorted(value * math.exp(side * min(NORMAL * error, HUGE)) for side in (-1, 1))
            yield replace(p, value=value, ci=(ends[0], ends[1]), group=name)
