r"""Refinement: from a solved law in scaled units to the equation that is printed.

The numbers are fitted once more on a mesh so fine that halving its steps moves the residuals by less than a tenth
of the noise, and coefficients that are tied (one flux that leaves one state and enters another) as exact multiples of
each other: one number moves them all. Then every free exponent is rounded to the digits that its standard error supports,
the coefficients are refitted around it, and each is rounded where the likelihood does not notice: an error delta in one
number costs delta**2 H_qq / 2 nats. What is simulated, scored and stored is what is printed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from .equations import Equations, Parameter, write_term
from .journal import Journal
from .laws import Law, Solved, covariance_of, without_padding
from .problem import Problem
from .remeshing import STEP_ERROR, halve
from .structure import JointSearch
from .terms import Terms

HALVINGS = 3
HUGE = 700.0  # log of what a double can hold
DIGITS = 0.3  # rounding error allowed, in standard errors of the number given all others
CI_LEVEL = 0.9
FLAT = 0.98  # correlation from which two numbers are known only together: together, one is known seven times better than apart
NORMAL = 1.6448536269514722  # half-width of the 90 % interval in standard errors


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


def polish(problem: Problem, solved: Solved, journal: Journal, longest: float = math.inf) -> tuple[Problem, Solved]:
    """Fit a law again on finer and finer meshes, of at most `longest` points, until the step error is below a tenth of the noise."""
    for _ in range(HALVINGS):
        if 2 * problem.engine.mesh.t.size > longest:
            break
        halved = halve(problem, solved, journal)
        if halved is None:
            break
        problem, solved, moved = halved
        if moved < STEP_ERROR or journal.stop:
            break
    return problem, solved


def impose_ties(problem: Problem, solved: Solved) -> Solved:
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
    terms = Terms.of([(w, a, free)], device=str(solved.fit.x.device))
    terms = replace(terms, flux=torch.as_tensor(flux, device=solved.fit.x.device)[None])
    return _refit(problem, replace(solved, ties=ties), terms) or solved


def _refit(problem: Problem, solved: Solved, terms: Terms) -> Solved | None:
    fit = problem.engine.fit(terms, solved.fit.x, solved.fit.sigma, steps=15)
    if not bool(torch.isfinite(fit.nll[0])):
        return None
    w, a, free = (v[0].cpu().numpy() for v in (fit.terms.exponents, fit.terms.coefficients, fit.terms.free))
    return replace(solved, fit=fit, law=(w, a, free), cost=solved.cost + float(fit.nll[0] - solved.fit.nll[0]))


def print_law(
    problem: Problem, solved: Solved, names: tuple[str, ...], journal: Journal, round_numbers: bool = True
) -> Printed:
    """Round a solved law to the digits that the data support and put it in the user's units."""
    solved = replace(solved, law=without_padding(solved.law))
    free_ci, errors = _exponent_errors(problem, solved), _coefficient_errors(problem, solved)
    flat = tuple(name_flat_pairs(problem, solved, names))
    before = solved.law[0]
    if round_numbers and solved.law[2].any():
        solved = _fix_exponents(problem, solved, free_ci, journal)
    w, a, _ = without_padding(solved.law)
    free_ci, errors = _follow(free_ci, before, w), _follow(errors, before, w)
    coefficients, standard = _coefficients(problem, solved, w, a, errors, round_numbers)
    scaling = problem.scaling
    texts = [write_term(row, names) for row in scaling.undo_rows(w)]
    parameters = (
        *_coefficient_parameters(coefficients, standard, names, texts),
        *_row_parameters(scaling.undo_rows(w), coefficients, free_ci, names, texts),
    )
    return Printed(
        equations=Equations.from_terms(names, scaling.undo_rows(w), coefficients),
        exponents=w,
        coefficients=coefficients,
        parameters=parameters,
        starts=solved.fit.x[0, :, 0].cpu().numpy() * scaling.states,
        sigma=solved.fit.sigma[0].cpu().numpy() * scaling.states,
        solved=solved,
        flat=flat,
    )


def name_flat_pairs(problem: Problem, solved: Solved, names: tuple[str, ...]) -> Iterator[str]:
    """Name every pair of numbers whose estimates are so correlated that the data hardly tell one from the other."""
    c, numbers = covariance_of(solved.fit)
    size = np.sqrt(np.maximum(np.diag(c), 1e-300))
    rows = problem.scaling.undo_rows(solved.fit.terms.exponents[0].cpu().numpy())
    words = [_name_number(kind, rows[j], i, names) for kind, j, i in numbers]
    for p, q in zip(*np.triu_indices(len(size), 1), strict=True):
        correlation = c[p, q] / size[p] / size[q]
        if abs(correlation) > FLAT:
            yield f"{words[p]} and {words[q]} move together (correlation {correlation:.3f})"


def _name_number(kind: str, row: np.ndarray, i: int, names: tuple[str, ...]) -> str:
    rough = row.copy()
    rough[: 2 * len(names)] = rough[: 2 * len(names)].round(2)
    term = write_term(rough, names)
    if kind == "coefficient":
        return f"the coefficient of {term} in d{names[i]}/dt"
    return f"the constant K of {term}" if i >= 2 * len(names) else f"the power of {names[i % len(names)]} in {term}"


def _used_rows(solved: Solved) -> list[int]:
    return np.flatnonzero((solved.fit.terms.coefficients[0].cpu().numpy() != 0).any(1)).tolist()


def _widening(problem: Problem, solved: Solved) -> float:
    """Return by how much standard errors grow because sigma came from the residuals of the same fit: sqrt(n / (n - p))."""
    values = float(problem.engine.mesh.counts.sum())
    fitted = int(solved.fit.index.valid[0].sum()) + solved.fit.x.shape[1] * solved.fit.x.shape[3]
    return math.sqrt(values / max(values - fitted, 1.0))


def _exponent_errors(problem: Problem, solved: Solved) -> dict[tuple[int, int], float]:
    """Return the standard error of each free exponent (term counted among the used ones)."""
    c, names = covariance_of(solved.fit)
    used, wider = _used_rows(solved), _widening(problem, solved)
    return {
        (used.index(j), i): wider * float(np.sqrt(max(c[q, q], 0.0)))
        for q, (kind, j, i) in enumerate(names)
        if kind == "exponent"
    }


def _coefficient_errors(problem: Problem, solved: Solved) -> dict[tuple[int, int], float]:
    """Return the standard error of each coefficient in the user's units, the free exponents of its term uncertain as well.

    With a' = a prod_i s_i**-w_i s_e / T, the relative error of a' is that of log a - sum_i w_i log s_i.
    """
    c, names = covariance_of(solved.fit)
    used, wider, d = _used_rows(solved), _widening(problem, solved), problem.data.d
    w, a, _ = without_padding(solved.law)
    unit, log_s = problem.scaling.undo(w, np.ones_like(a)), np.log(problem.scaling.states)
    out = {}
    for q, (kind, j, e) in enumerate(names):
        if kind == "coefficient":
            row = used.index(j)
            slope = np.zeros(len(names))
            slope[q] = 1.0
            for p, (other, k, i) in enumerate(names):
                if other == "exponent" and k == j and i < 2 * d:
                    slope[p] = a[row, e] * log_s[i % d] * (-1.0 if i < d else 1.0)
            out[row, e] = wider * math.sqrt(max(float(slope @ c @ slope), 0.0)) * abs(unit[row, e])
    return out


def _follow(
    errors: dict[tuple[int, int], float], before: np.ndarray, after: np.ndarray
) -> dict[tuple[int, int], float]:
    """Renumber terms that rounding made equal and that were merged: each is followed to the row nearest to it."""
    if not len(after):
        return {}
    nearest = np.abs(before[:, None] - after).max(-1).argmin(1)
    return {(int(nearest[j]), i): error for (j, i), error in errors.items()}


def _fix_exponents(problem: Problem, solved: Solved, errors: dict, journal: Journal) -> Solved:
    w, a, free = solved.law
    w = w.copy()
    for (j, i), error in errors.items():
        if i < 2 * a.shape[1]:
            w[j, i] = round_to(w[j, i], 0.1 * error)
    w = _with_round_k(problem, w, errors, a.shape[1])
    if solved.fit.terms.flux is not None:
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
    problem: Problem, solved: Solved, w: np.ndarray, a: np.ndarray, known: dict[tuple[int, int], float], rounded: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return coefficients in the user's units, rounded where the likelihood does not notice, and their standard errors as an array."""
    _, names = covariance_of(solved.fit)
    h = solved.fit.hessian[0].diagonal().cpu().numpy()[: len(names)]
    used, unit = _used_rows(solved), problem.scaling.undo(w, np.ones_like(a))
    values, errors = problem.scaling.undo(w, a), np.zeros_like(a)
    for place, error in known.items():
        errors[place] = error
    for q, (kind, j, e) in enumerate(names):
        if kind == "coefficient" and rounded:
            row = used.index(j)
            values[row, e] = round_to(values[row, e], DIGITS * unit[row, e] / math.sqrt(max(h[q], 1e-300)))
    for tie in solved.ties if solved.fit.terms.flux is not None else ():
        values[tie.term, tie.equation] = float(f"{tie.ratio * values[tie.term, tie.reference]:.14g}")
        errors[tie.term, tie.equation] = abs(tie.ratio) * errors[tie.term, tie.reference]
    return values, errors


def round_to(value: float, error: float) -> float:
    """Round to the fewest significant digits (at least two) that stay within `error`.

    >>> round_to(0.0599997, 1e-5), round_to(1234.56, 30.0), round_to(0.7312, 0.0)
    (0.06, 1230.0, 0.7312)
    """
    for digits in range(2, 17):
        short = float(f"{value:.{digits - 1}e}")
        if abs(short - value) <= error and short != 0:
            return short
    return value


def _coefficient_parameters(
    values: np.ndarray, errors: np.ndarray, names: tuple[str, ...], texts: list[str]
) -> list[Parameter]:
    """Name the coefficients k1, k2, ...; equal sizes of one term in several equations are one parameter."""
    out: list[Parameter] = []
    for j, row in enumerate(values):
        done: list[int] = []
        for e in np.flatnonzero(row):
            if e in done:
                continue
            same = [
                int(f) for f in np.flatnonzero(row) if f >= e and abs(abs(row[f]) - abs(row[e])) <= 1e-12 * abs(row[e])
            ]
            done += same
            error = float(min(errors[j, f] for f in same))
            value = float(abs(row[e]) if len(same) > 1 else row[e])
            ci = (value - NORMAL * error, value + NORMAL * error)
            where = ", ".join(names[f] for f in same)
            out.append(Parameter(f"k{len(out) + 1}", value, ci, "", where, texts[j]))
    return out


def _row_parameters(
    rows: np.ndarray, a: np.ndarray, errors: dict, names: tuple[str, ...], texts: list[str]
) -> list[Parameter]:
    """Name the real exponents p1, p2, ... and the constants of denominators K1, K2, ..."""
    out: list[Parameter] = []
    d = len(names)
    for (j, i), error in errors.items():
        value, half = float(rows[j, i]), NORMAL * error
        where = ", ".join(names[e] for e in np.flatnonzero(a[j]))
        letter, what = ("K", "denominator in") if i == 2 * d else ("p", f"power of {names[i % d]} in")
        ends = value - half, value + half
        if i == 2 * d:
            ends = math.exp(max(value - half, -HUGE)), math.exp(min(value + half, HUGE))
        name = f"{letter}{sum(p.name[0] == letter for p in out) + 1}"
        shown = math.exp(value) if i == 2 * d else value
        out.append(Parameter(name, shown, ends, "", f"{what} {where}", texts[j]))
    return out


__all__ = ["Printed", "impose_ties", "polish", "print_law", "round_to"]
