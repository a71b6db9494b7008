r"""Refinement: from a solved law in scaled units to the equation that is printed.

The numbers are fitted once more on a mesh so fine that halving its steps moves the residuals by less than a tenth
of the noise, and coefficients that are tied (one flux that leaves one state and enters another) as exact multiples of
each other: one number moves them all. Then every free exponent is rounded to the digits that its standard error supports,
the coefficients are refitted around it, and each is rounded where the likelihood does not notice: an error delta in one
number costs delta**2 H_qq / 2 nats. What is simulated, scored and stored is what is printed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..data.dimensions import Dimensions
from ..fit.fit import NORMAL, Fit
from ..law.equations import Equations, Parameter, write_term
from ..law.formulas import round_to
from ..law.law import Law
from ..law.terms import Number, Terms
from ..search.groups import log_errors, part_by_group, round_factors
from ..search.joint import JointSearch
from ..search.problem import Problem
from .intervals import Interval, find_intervals, name_flat_pairs

HUGE = 700.0  # log of what a double can hold
DIGITS = 0.3  # rounding error allowed, in standard errors of the number given all others


Intervals = Mapping[Number, Interval]


@dataclass(frozen=True, eq=False)
class Printed:
    """A law as printed, in the user's units, and where each trajectory and segment starts.

    `starts` (K, d) are those of the mesh's segments, `sigma` (d,) the noise, `fit` the law as it was fitted before its coefficients were
    rounded; `flat` names the pairs of numbers that only move together.
    """

    equations: Equations
    parameters: tuple[Parameter, ...]
    starts: np.ndarray
    sigma: np.ndarray
    fit: Fit
    flat: tuple[str, ...] = ()


def print_law(problem: Problem, solved: Fit, profile: bool = False) -> Printed:
    """Impose a law's ties, round it to the digits that the data support, put it in the user's units; `profile` as in `find_intervals`."""
    solved = _impose_ties(problem, solved)
    intervals = find_intervals(problem, solved, profile)
    errors = log_errors(problem, solved) if problem.data.grouped else {}
    flat = tuple(name_flat_pairs(problem, solved))
    before = solved.law
    if any(v.any() for v in before.free.arrays):
        solved = _fix_exponents(problem, solved, intervals)
    in_units = dict(_in_units(problem, before, intervals))
    intervals = _follow(in_units, before.terms, solved.law.terms)
    law, intervals = _round_coefficients(problem, solved, intervals)
    if problem.data.grouped:
        law = round_factors(law, errors, problem.marks)
        intervals = {n: v for n, v in intervals.items() if n.part != "exponent" or n.place < problem.marks.start}
    return Printed(
        equations=Equations.of(law, problem.names, inputs=problem.data.driven),
        parameters=_list_parameters(problem, law, intervals, errors),
        starts=(solved.x[0, :, 0].cpu().numpy() * problem.scaling.states)[:, : problem.d],
        sigma=(solved.noise * problem.scaling.states)[: problem.d],
        fit=solved,
        flat=flat,
    )


# Ties


def _impose_ties(problem: Problem, solved: Fit) -> Fit:
    """Fit a law once more with every tied coefficient an exact multiple of its reference, so that what the data conserve the law does."""
    if not solved.ties:
        return solved
    law = replace(solved.law, coefficients=solved.law.coefficients.copy())
    a, flux = law.coefficients, np.tile(np.eye(law.d), (len(law), 1, 1))
    for tie in solved.ties:
        ratio = tie.ratio * problem.judge.factors[tie.reference] / problem.judge.factors[tie.equation]
        a[tie.term, tie.equation] = ratio * a[tie.term, tie.reference]
        flux[tie.term, tie.reference, tie.equation] = ratio
        flux[tie.term, tie.equation] = 0.0
    tied, known = torch.as_tensor(flux, device=problem.device)[None], problem.judge.knowledge
    lanes = Law.stack([law if known is None else known.complete(law)], problem.device)
    if known is not None:
        held = known.hold(lanes).flux
        tied = tied if held is None else tied @ held
    return _refit(problem, replace(solved, tied=True), replace(lanes, flux=tied)) or solved


def _refit(problem: Problem, solved: Fit, lanes: Law) -> Fit | None:
    """Fit a law once more from where it stands; its description length follows the data term."""
    fit = problem.engine.fit(lanes, solved.x, solved.sigma, steps=15)
    if not fit.alive:
        return None
    cost = solved.cost + float(fit.nll[0] - solved.nll[0])
    return replace(fit.lane(0), cost=cost, ties=solved.ties, tied=solved.tied)


# Rounding


def _fix_exponents(problem: Problem, solved: Fit, intervals: Intervals) -> Fit:
    """Round every free exponent, and every K in the user's units, and refit the coefficients around them."""
    law, errors = solved.law, {n: v.error for n, v in intervals.items() if n.part != "coefficient" and not v.chosen}
    fixed = {
        n: round_to(law[n], 0.1 * error)
        for n, error in errors.items()
        if n.part != "offset" and (n.part == "inner" or n.place < problem.marks.start)
    }
    law = law.put(fixed)
    law = _with_round_k(problem, law, {n: error for n, error in errors.items() if n.part == "offset"})
    law = replace(law, free=law.terms.nothing())
    if solved.tied:
        return _refit(problem, solved, replace(Law.stack([law], problem.device), flux=solved.lanes.flux)) or solved
    joint = JointSearch(problem, solved.x, solved.sigma)
    return joint.best(joint.solve([law], steps=10)) or solved


def _with_round_k(problem: Problem, law: Law, errors: Mapping[Number, float]) -> Law:
    """Round each K in the user's units; its relative standard error is that of log K."""
    terms = law.terms.in_units(problem.scaling)
    offsets = terms.offsets.copy()
    for number, error in errors.items():
        k = math.exp(offsets[number.term])
        offsets[number.term] = math.log(round_to(k, 0.1 * error * k))
    return replace(law, terms=replace(terms, offsets=offsets).in_scale(problem.scaling))


def _round_coefficients(problem: Problem, solved: Fit, intervals: Intervals) -> tuple[Law, dict[Number, Interval]]:
    """Return the law in the user's units, coefficients rounded where the likelihood does not notice, and the intervals with those of tied ones."""
    curvature = solved.hessian[0].diagonal().cpu().numpy()
    law, unit, found = problem.in_units(solved.law), _unit(problem, solved.law), dict(intervals)
    values = law.coefficients
    for number, h in zip(solved.names, curvature, strict=True):
        if number.part == "coefficient":
            at = number.term, number.place
            values[at] = round_to(values[at], DIGITS * unit[at] / math.sqrt(max(h, 1e-300)))
    for tie in solved.ties if solved.tied else ():
        values[tie.term, tie.equation] = float(f"{tie.ratio * values[tie.term, tie.reference]:.14g}")
        own = intervals.get(Number("coefficient", tie.term, tie.reference))
        if own is not None:
            low, high = sorted((tie.ratio * own.low, tie.ratio * own.high))
            scaled = replace(own, low=low, high=high, error=abs(tie.ratio) * own.error)
            found[Number("coefficient", tie.term, tie.equation)] = scaled
    known = problem.judge.knowledge
    if known is not None:
        kept = known.complete(solved.law.with_coefficients(values / unit)).coefficients
        law = law.with_coefficients(np.vectorize(lambda v: float(f"{v:.14g}"))(unit * kept))
    return law, found


def _unit(problem: Problem, law: Law) -> np.ndarray:
    """Return what a coefficient of 1 in scaled units is in the user's."""
    return problem.scaling.undo(law.terms.effective, np.ones_like(law.coefficients))


# Intervals in the user's units


def _in_units(problem: Problem, law: Law, intervals: Intervals) -> Iterator[tuple[Number, Interval]]:
    """Yield every interval of a law's numbers in the user's units; that of a K stays a logarithm."""
    unit, shift = _unit(problem, law), law.terms.in_units(problem.scaling).offsets - law.terms.offsets
    for number, interval in intervals.items():
        low, high, error = interval.low, interval.high, interval.error
        if number.part == "coefficient":
            size = float(unit[number.term, number.place])
            yield number, replace(interval, low=size * low, high=size * high, error=size * error)
        else:
            more = float(shift[number.term]) if number.part == "offset" else 0.0
            yield number, replace(interval, low=low + more, high=high + more)


def _follow(intervals: Intervals, before: Terms, after: Terms) -> dict[Number, Interval]:
    """Renumber terms that rounding made equal and that were merged: each is followed to the one nearest to it."""
    if not len(after):
        return {}
    nearest = before.gaps(after).argmin(1).tolist()
    return {n._replace(term=nearest[n.term]): interval for n, interval in intervals.items()}


# Parameters


def _list_parameters(
    problem: Problem, law: Law, intervals: Intervals, errors: dict[int, np.ndarray]
) -> tuple[Parameter, ...]:
    """Return every number of a printed law with its interval: coefficients, estimated exponents and K, then chosen exponents."""
    plain = law.terms.exponents.copy()
    plain[:, problem.marks] = 0.0
    unmarked = replace(law.terms, exponents=plain)
    texts = [write_term(unmarked[[j]], problem.names) for j in range(len(law))]
    dimensions = Dimensions.of(problem.data)
    own: Iterable[Parameter] = _name_coefficients(problem, law, intervals, texts, dimensions)
    if problem.data.grouped:
        own = part_by_group(own, texts, law, errors, problem.groups, problem.marks)
    return (*own, *_name_powers(problem, law, intervals, texts, dimensions))


def _name_coefficients(
    problem: Problem, law: Law, intervals: Intervals, texts: list[str], dimensions: Dimensions
) -> list[Parameter]:
    """Name the coefficients k1, k2, ...; equal sizes of one term in several equations are one parameter."""
    out: list[Parameter] = []
    for j, row in enumerate(law.coefficients):
        for same in _equal_sizes(row):
            value = float(abs(row[same[0]]) if len(same) > 1 else row[same[0]])
            units = {dimensions.of_coefficient(law.terms.effective[j], e) for e in same}
            where = ", ".join(problem.names[e] for e in same)
            known = [(e, intervals.get(Number("coefficient", j, e))) for e in same]
            given = [(e, interval) for e, interval in known if interval is not None]
            ci = None
            if given:
                e, interval = min(given, key=lambda k: k[1].error)
                ci = _around(value, interval, flip=row[e] * value < 0)
            name, unit = f"k{len(out) + 1}", units.pop() if len(units) == 1 else ""
            out.append(Parameter(name, value, ci, unit, where, texts[j]))
    return out


def _equal_sizes(row: np.ndarray) -> list[list[int]]:
    """Return the equations that a term stands in, those together in which its coefficients differ in sign alone."""
    found: list[list[int]] = []
    for e in map(int, np.flatnonzero(row)):
        own = next((same for same in found if math.isclose(abs(row[e]), abs(row[same[0]]), rel_tol=1e-12)), None)
        if own is None:
            found.append([e])
        else:
            own.append(e)
    return found


def _around(value: float, interval: Interval, flip: bool = False) -> tuple[float, float]:
    """Return the ends of an interval; where terms were merged and an estimated value lies outside, as wide about that."""
    low, high = (-interval.high, -interval.low) if flip else (interval.low, interval.high)
    half = NORMAL * interval.error
    return (low, high) if low <= value <= high or interval.chosen else (value - half, value + half)


def _name_powers(
    problem: Problem, law: Law, intervals: Intervals, texts: list[str], dimensions: Dimensions
) -> list[Parameter]:
    """Name the exponents p1, p2, ... and the constants of denominators K1, K2, ..., the estimated ones first."""
    out: list[Parameter] = []
    entries = [(n, interval) for n, interval in intervals.items() if n.part != "coefficient"]
    for number, interval in sorted(entries, key=lambda entry: entry[1].chosen):
        j, value = number.term, law[number]
        ends, letter, unit = _around(value, interval), "p", ""
        what = f"power of {problem.names[number.place]} in"
        if number.part == "offset":
            value, ends = math.exp(value), (math.exp(max(ends[0], -HUGE)), math.exp(min(ends[1], HUGE)))
            letter, what, unit = "K", "denominator in", dimensions.of_denominator(law.terms.inner[j])
        name = f"{letter}{sum(p.name[0] == letter for p in out) + 1}"
        where = ", ".join(problem.names[e] for e in np.flatnonzero(law.coefficients[j]))
        out.append(Parameter(name, value, ends, unit, f"{what} {where}", texts[j], interval.chosen))
    return out


__all__ = ["Printed", "print_law"]
