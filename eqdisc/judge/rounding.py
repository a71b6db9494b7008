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
from ..fit.solved import Solved, covariance_of
from ..law.equations import Equations, Parameter, write_term
from ..law.formulas import round_to
from ..law.law import Law, without_padding
from ..law.terms import Terms
from ..search.groups import log_errors, part_by_group, round_factors
from ..search.joint import JointSearch
from ..search.problem import Problem
from ..work.journal import Journal
from .intervals import NORMAL, Interval, Place, find_intervals, name_flat_pairs

HUGE = 700.0  # log of what a double can hold
DIGITS = 0.3  # rounding error allowed, in standard errors of the number given all others


@dataclass(frozen=True, eq=False)
class Printed:
    """A law as printed, in the user's units, and where each trajectory and segment starts.

    `exponents` (m, d), `coefficients` (m, d), `starts` (K, d) one a segment of the mesh, `sigma` (d,); `flat` names the pairs of numbers
    that only move together.
    """

    equations: Equations
    exponents: np.ndarray
    coefficients: np.ndarray
    parameters: tuple[Parameter, ...]
    starts: np.ndarray
    sigma: np.ndarray
    solved: Solved
    flat: tuple[str, ...] = ()


def _impose_ties(problem: Problem, solved: Solved) -> Solved:
    """Fit a law once more with every tied coefficient an exact multiple of its reference, so that what the data conserve the law does."""
    used = np.flatnonzero((solved.law[1] != 0).any(1)).tolist()
    w, a, free = without_padding(solved.law)
    ties = tuple(replace(t, term=used.index(t.term)) for t in solved.ties if t.term in used)
    if not ties:
        return solved
    flux = np.tile(np.eye(a.shape[1]), (len(w), 1, 1))
    for tie in ties:
        ratio = tie.ratio * problem.judge.factors[tie.reference] / problem.judge.factors[tie.equation]
        a[tie.term, tie.equation] = ratio * a[tie.term, tie.reference]
        flux[tie.term, tie.reference, tie.equation] = ratio
        flux[tie.term, tie.equation] = 0.0
    known = problem.judge.knowledge
    if known is not None:
        w, a, free = known.complete((w, a, free))
    terms = Terms.of([(w, a, free)], device=str(solved.fit.x.device))
    tied = torch.as_tensor(flux, device=solved.fit.x.device)[None]
    if known is not None:
        held = known.hold(terms).flux
        tied = tied if held is None else tied @ held
    terms = replace(terms, flux=tied)
    return _refit(problem, replace(solved, ties=ties, tied=True), terms) or solved


def _refit(problem: Problem, solved: Solved, terms: Terms) -> Solved | None:
    fit = problem.engine.fit(terms, solved.fit.x, solved.fit.sigma, steps=15)
    if not bool(torch.isfinite(fit.nll[0])):
        return None
    w, a, free = (v[0].cpu().numpy() for v in (fit.terms.exponents, fit.terms.coefficients, fit.terms.free))
    return replace(solved, fit=fit, law=(w, a, free), cost=solved.cost + float(fit.nll[0] - solved.fit.nll[0]))


def print_law(
    problem: Problem, solved: Solved, names: tuple[str, ...], journal: Journal, profile: bool = False
) -> Printed:
    """Impose a law's ties, round it to the digits that the data support, put it in the user's units; `profile` as in `find_intervals`."""
    solved = _impose_ties(problem, solved)
    solved = replace(solved, law=without_padding(solved.law))
    marks = slice(problem.data.d - problem.data.grouped, problem.data.d)
    intervals = find_intervals(problem, solved, journal, profile)
    errors = log_errors(problem, solved) if problem.data.grouped else {}
    flat = tuple(name_flat_pairs(problem, solved, names))
    before, unit = solved.law[0], problem.scaling.undo(solved.law[0], np.ones_like(solved.law[1]))
    if solved.law[2].any():
        solved = _fix_exponents(problem, solved, intervals, journal)
    w, a, _ = without_padding(solved.law)
    rows = problem.scaling.undo_rows(w)
    intervals = _follow(dict(_in_units(problem, before, unit, intervals)), before, w)
    coefficients, intervals = _coefficients(problem, solved, w, a, intervals)
    if problem.data.grouped:
        rows = round_factors(rows, coefficients, errors, marks)
        intervals = {
            (kind, j, i): v
            for (kind, j, i), v in intervals.items()
            if kind == "coefficient" or i < marks.start or i >= marks.stop
        }
    texts = [write_term(_unmarked(row, marks), names) for row in rows]
    dimensions = Dimensions.of(problem.data)
    own: Iterable[Parameter] = _coefficient_parameters(coefficients, rows, intervals, names, texts, dimensions)
    if problem.data.grouped:
        own = part_by_group(own, texts, rows, errors, problem.groups, marks)
    parameters = (*own, *_row_parameters(rows, coefficients, intervals, names, texts, dimensions))
    return Printed(
        equations=Equations.from_terms(names, rows, coefficients, inputs=problem.data.driven),
        exponents=w,
        coefficients=coefficients,
        parameters=parameters,
        starts=(solved.fit.x[0, :, 0].cpu().numpy() * problem.scaling.states)[:, : problem.d],
        sigma=(solved.fit.sigma[0].cpu().numpy() * problem.scaling.states)[: problem.d],
        solved=solved,
        flat=flat,
    )


def _unmarked(row: np.ndarray, marks: slice) -> np.ndarray:
    """Return a term without its factors for groups."""
    plain = row.copy()
    plain[marks] = 0.0
    return plain


def _in_units(
    problem: Problem, rows: np.ndarray, unit: np.ndarray, intervals: Mapping[Place, Interval]
) -> Iterator[tuple[Place, Interval]]:
    """Yield every interval in the user's units, of coefficients at these rows; that of a K stays a logarithm."""
    d, shift = problem.data.d, problem.scaling.undo_rows(rows) - rows
    for place, interval in intervals.items():
        kind, j, i = place
        if kind == "coefficient":
            size = float(unit[j, i])
            yield (
                place,
                replace(interval, low=size * interval.low, high=size * interval.high, error=size * interval.error),
            )
        else:
            more = float(shift[j, i]) if i == 2 * d else 0.0
            yield place, replace(interval, low=interval.low + more, high=interval.high + more)


def _follow(intervals: Mapping[Place, Interval], before: np.ndarray, after: np.ndarray) -> dict[Place, Interval]:
    """Renumber terms that rounding made equal and that were merged: each is followed to the row nearest to it."""
    if not len(after):
        return {}
    nearest = np.abs(before[:, None] - after).max(-1).argmin(1)
    return {(kind, int(nearest[j]), i): interval for (kind, j, i), interval in intervals.items()}


def _fix_exponents(problem: Problem, solved: Solved, intervals: Mapping[Place, Interval], journal: Journal) -> Solved:
    w, a, free = solved.law
    w = w.copy()
    errors = {(j, i): v.error for (kind, j, i), v in intervals.items() if kind == "entry" and not v.chosen}
    for (j, i), error in errors.items():
        if i < 2 * a.shape[1] and not problem.data.d - problem.data.grouped <= i < problem.data.d:
            w[j, i] = round_to(w[j, i], 0.1 * error)
    w = _with_round_k(problem, w, errors, a.shape[1])
    if solved.tied:
        fixed = replace(solved.fit.terms, exponents=torch.as_tensor(w)[None].to(solved.fit.x.device))
        return _refit(problem, solved, replace(fixed, free=torch.zeros_like(fixed.free))) or solved
    law: Law = (w, a, np.zeros_like(free))
    joint = JointSearch(problem.engine, problem.judge, solved.fit.x, solved.fit.sigma[0].cpu().numpy(), journal)
    return joint.best(joint.solve([law], steps=10)) or solved


def _with_round_k(problem: Problem, w: np.ndarray, errors: dict, d: int) -> np.ndarray:
    """Round each K in the user's units; its relative standard error is that of log K."""
    rows = problem.scaling.undo_rows(w)
    for j, error in ((j, error) for (j, i), error in errors.items() if i == 2 * d):
        k = math.exp(rows[j, 2 * d])
        rows[j, 2 * d] = math.log(round_to(k, 0.1 * error * k))
    return problem.scaling.redo_rows(rows)


def _coefficients(
    problem: Problem, solved: Solved, w: np.ndarray, a: np.ndarray, intervals: dict[Place, Interval]
) -> tuple[np.ndarray, dict[Place, Interval]]:
    """Return coefficients in the user's units, rounded where the likelihood does not notice, and the intervals with those of tied ones."""
    _, names = covariance_of(solved.fit)
    h = solved.fit.hessian[0].diagonal().cpu().numpy()[: len(names)]
    used = np.flatnonzero((solved.fit.terms.coefficients[0].cpu().numpy() != 0).any(1)).tolist()
    unit, values, intervals = problem.scaling.undo(w, np.ones_like(a)), problem.scaling.undo(w, a), dict(intervals)
    for q, (kind, j, e) in enumerate(names):
        if kind == "coefficient":
            row = used.index(j)
            values[row, e] = round_to(values[row, e], DIGITS * unit[row, e] / math.sqrt(max(h[q], 1e-300)))
    for tie in solved.ties if solved.tied else ():
        values[tie.term, tie.equation] = float(f"{tie.ratio * values[tie.term, tie.reference]:.14g}")
        own = intervals.get(("coefficient", tie.term, tie.reference))
        if own is not None:
            low, high = sorted((tie.ratio * own.low, tie.ratio * own.high))
            intervals["coefficient", tie.term, tie.equation] = replace(
                own, low=low, high=high, error=abs(tie.ratio) * own.error
            )
    known = problem.judge.knowledge
    if known is not None:
        kept = known.complete((w, values / unit, np.zeros(w.shape, bool)))[1]
        values = np.vectorize(lambda v: float(f"{v:.14g}"))(unit * kept)
    return values, intervals


def _coefficient_parameters(
    values: np.ndarray,
    rows: np.ndarray,
    intervals: Mapping[Place, Interval],
    names: tuple[str, ...],
    texts: list[str],
    dimensions: Dimensions,
) -> list[Parameter]:
    """Name the coefficients k1, k2, ...; equal sizes of one term in several equations are one parameter."""
    out: list[Parameter] = []
    for j, row in enumerate(values):
        done: list[int] = []
        for e in map(int, np.flatnonzero(row)):
            if e in done:
                continue
            same = [
                f
                for f in map(int, np.flatnonzero(row))
                if f >= e and math.isclose(abs(row[f]), abs(row[e]), rel_tol=1e-12)
            ]
            done += same
            known = [(f, intervals["coefficient", j, f]) for f in same if ("coefficient", j, f) in intervals]
            value = float(abs(row[e]) if len(same) > 1 else row[e])
            ci = None
            if known:
                f, interval = min(known, key=lambda k: k[1].error)
                ci = _around(value, interval, flip=row[f] * value < 0)
            where = ", ".join(names[f] for f in same)
            units = {dimensions.of_coefficient(rows[j], f) for f in same}
            unit = units.pop() if len(units) == 1 else ""
            out.append(Parameter(f"k{len(out) + 1}", value, ci, unit, where, texts[j]))
    return out


def _around(value: float, interval: Interval, flip: bool = False) -> tuple[float, float]:
    """Return the ends of an interval; where terms were merged and an estimated value lies outside, as wide about that."""
    low, high = (-interval.high, -interval.low) if flip else (interval.low, interval.high)
    half = NORMAL * interval.error
    return (low, high) if low <= value <= high or interval.chosen else (value - half, value + half)


def _row_parameters(
    rows: np.ndarray,
    a: np.ndarray,
    intervals: Mapping[Place, Interval],
    names: tuple[str, ...],
    texts: list[str],
    dimensions: Dimensions,
) -> list[Parameter]:
    """Name the exponents p1, p2, ... and the constants of denominators K1, K2, ..., the estimated ones first."""
    out: list[Parameter] = []
    d = len(names)
    entries = [(j, i, v) for (kind, j, i), v in intervals.items() if kind == "entry"]
    for j, i, interval in sorted(entries, key=lambda entry: entry[2].chosen):
        value, ends = float(rows[j, i]), _around(float(rows[j, i]), interval)
        where = ", ".join(names[e] for e in np.flatnonzero(a[j]))
        letter, what = ("K", "denominator in") if i == 2 * d else ("p", f"power of {names[i % d]} in")
        if i == 2 * d:
            value, ends = math.exp(value), (math.exp(max(ends[0], -HUGE)), math.exp(min(ends[1], HUGE)))
        name = f"{letter}{sum(p.name[0] == letter for p in out) + 1}"
        unit = dimensions.of_denominator(rows[j]) if i == 2 * d else ""
        out.append(Parameter(name, value, ends, unit, f"{what} {where}", texts[j], interval.chosen))
    return out


__all__ = ["Printed", "print_law"]
