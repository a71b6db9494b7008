r"""Intervals: how far each number of a law may move before the data notice.

For a number v of the law, all others and every start fitted again around it, the profile deviance is

    D(v) = 2 [min L(. | v) - min L],     L = sum_e n_e log sigma_e

(Venzon & Moolgavkar, Appl. Stat. 37, 1988; Raue et al., Bioinformatics 25, 2009). As sigma comes from the residuals of the same fit, the
90 % interval is where D < n log(1 + z**2 / (n - p)), z = 1.645, for n values and p fitted numbers. Its ends start where the curvature
(Gauss-Newton) puts them and move along sqrt(D), which is nearly straight, all of them side by side as lanes in which `pins` hold
one number each. Where a law is too large for that, or its data are exact, the curvature alone must do.

Exponents that stand at a chosen value, such as 1 or 1/2, are released one at a time: their interval says which other values would do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..fit.collocation import Fit
from ..fit.pins import Pins
from ..fit.solved import NORMAL, Solved, covariance_of
from ..law.equations import write_term
from ..law.terms import Terms, loosen
from ..search.problem import Problem
from ..work.journal import Journal

LEVEL = 0.9
LOOSE = 0.25  # 38 power laws at 5 % noise that were claimed and right had at most 0.02, two of three that were wrong 0.27 and 0.36
FLAT = 0.98  # correlation from which two numbers are known only together: together, one is known seven times better than apart
ROUNDS = 4  # of moving the ends
CLOSE = 0.03  # of sqrt(D), at which an end is found
STEPS = 15  # of Gauss-Newton for each
HEAVY = 50.0  # times better than the data a pin holds: it gives way by z / HEAVY**2 standard errors
LARGE = 4e6  # lanes x grid points x numbers from which the curvature must do
EXACT = 1.5  # floors of sigma below which data are exact
TIGHT = 0.01  # nats, about: how exactly each fit must end

Place = tuple[str, int, int]  # "entry" | "coefficient", term (among the used), column or equation


@dataclass(frozen=True)
class Interval:
    """The ends of one number in the units of the fit, its standard error there, and whether it stands at a chosen value."""

    low: float
    high: float
    error: float
    chosen: bool = False


def find_intervals(problem: Problem, solved: Solved, journal: Journal, profile: bool = True) -> dict[Place, Interval]:
    """Return the interval of every number: coefficients, exponents, K; in scaled units, but as the user's units have it (`pins`).

    `solved` has no padding. `profile=False` leaves it at the curvature, free numbers only.
    """
    base = _without_padding(solved.fit)
    exact = bool((base.sigma[0] < EXACT * problem.engine.floor).any())
    numbers = int(base.index.valid[0].sum()) + solved.law[0].size
    small = 2 * numbers * base.x[0].numel() * (numbers + 2) < LARGE * base.x.shape[-1]
    profile = profile and small and not exact and not journal.stop
    if profile:
        base = _release(problem, base)
    found = dict(_curvature(problem, base))
    return _profile(problem, base, found) if profile and found else {k: v for k, (_, v) in found.items()}


def _without_padding(fit: Fit) -> Fit:
    """Return a fit of one lane without the terms that no equation uses."""
    used = fit.terms.support[0].any(-1)
    w, a, free = (v[:, used] for v in (fit.terms.exponents, fit.terms.coefficients, fit.terms.free))
    flux = None if fit.terms.flux is None else fit.terms.flux[:, used]
    number = used.long().cumsum(0) - 1
    return replace(fit, terms=Terms(w, a, free, flux), index=replace(fit.index, term=number[fit.index.term]))


def _release(problem: Problem, fit: Fit) -> Fit:
    """Fit the law once more, tightly, and beside it a lane for each standing exponent in which that one is free."""
    free = fit.terms.free[0]
    standing = (loosen(fit.terms.exponents[0], problem.engine.positive) & ~free).nonzero()
    terms = fit.terms.select(torch.zeros(len(standing) + 1, dtype=torch.long))
    loose = terms.free.clone()
    loose[torch.arange(1, len(loose)), standing[:, 0], standing[:, 1]] = True
    return problem.engine.fit(replace(terms, free=loose), fit.x, fit.sigma, STEPS, _tolerance(problem))


def _tolerance(problem: Problem) -> float:
    return min(1e-4, TIGHT / float(problem.engine.mesh.counts.sum()))


def _curvature(problem: Problem, base: Fit) -> Iterator[tuple[Place, tuple[int, Interval]]]:
    """Yield each number with the lane that it is free in and the interval that the curvature gives it."""
    wider, free = _widening(problem, base), base.terms.free[0]
    for lane in range(base.terms.lanes):
        if not bool(torch.isfinite(base.nll[lane])):
            continue
        one = base.select(slice(lane, lane + 1))
        c, names = covariance_of(one)
        for kind, j, i in names:
            place: Place = ("entry" if kind == "exponent" else "coefficient", j, i)
            if lane and (kind == "coefficient" or bool(free[j, i])):
                continue
            pin = _pin(problem, one, [place])
            slope = pin.slope(one.terms, one.index)[0].cpu().numpy()[one.index.valid[0].cpu().numpy()]
            error = wider * math.sqrt(max(float(slope @ c @ slope), 0.0))
            value, half = float(pin.measure(one.terms)[0]), NORMAL * error
            yield place, (lane, Interval(value - half, value + half, error, chosen=lane > 0))


def _widening(problem: Problem, base: Fit) -> float:
    """Return by how much standard errors grow because sigma came from the residuals of the same fit: sqrt(n / (n - p))."""
    if problem.data.grouped:
        return 1.0  # there the values were counted so
    values = float(problem.engine.mesh.counts.sum())
    return math.sqrt(values / max(values - _fitted(problem, base), 1.0))


def _fitted(problem: Problem, base: Fit) -> int:
    return int(base.index.valid[0].sum()) + base.x.shape[1] * problem.d


def _pin(problem: Problem, at: Fit, places: list[Place]) -> Pins:
    """Return a pin, not yet heavy, on one number of each lane."""
    device, d = at.x.device, at.x.shape[-1]
    lane = torch.arange(len(places), device=device)
    term = torch.tensor([j for _, j, _ in places], device=device)
    rows = at.terms.exponents[lane, term]
    log_s = torch.as_tensor(np.log(problem.scaling.states), device=device)
    shift = torch.zeros_like(rows)
    for k, (kind, _, column) in enumerate(places):
        if kind == "coefficient":
            shift[k, :d] = -log_s
        if shift.shape[1] > d and (kind == "coefficient" or column == 2 * d):
            shift[k, d : 2 * d] = log_s
    zeros = rows.new_zeros(len(places))
    return Pins(
        term,
        torch.tensor([c for _, _, c in places], device=device),
        torch.tensor([kind == "entry" for kind, _, _ in places], device=device),
        rows,
        shift,
        zeros,
        zeros,
    )


def _profile(problem: Problem, base: Fit, found: Mapping[Place, tuple[int, Interval]]) -> dict[Place, Interval]:
    """Move both ends of every interval to where the deviance crosses its bound; an end that cannot be fitted stays."""
    places = [place for place in found for _ in range(2)]
    lanes = torch.tensor([lane for lane, _ in found.values() for _ in range(2)], device=base.x.device)
    side = np.tile([-1.0, 1.0], len(found))
    error = np.repeat([max(i.error, 1e-12) for _, i in found.values()], 2)
    n = float(problem.engine.mesh.counts.sum())
    wanted = math.sqrt(n * math.log1p(NORMAL**2 / max(n - _fitted(problem, base), 1.0)))
    start = base.select(lanes)
    pins = _pin(problem, start, places)
    center = pins.measure(start.terms).cpu().numpy()
    precision = torch.as_tensor((HEAVY / error) ** 2, device=base.x.device)
    away, ends = NORMAL * error, NORMAL * error
    open_ends = np.arange(len(places))
    for _ in range(ROUNDS):
        value = torch.as_tensor(center + side * away, device=base.x.device)
        part = replace(pins, value=value, precision=precision).select(torch.as_tensor(open_ends))
        at = start.select(torch.as_tensor(open_ends))
        fit = problem.engine.fit(at.terms, at.x, at.sigma, STEPS, _tolerance(problem), pins=part)
        root = (2 * (fit.nll - at.nll)).clamp_min(0.0).sqrt().cpu().numpy()
        fitted = np.isfinite(root)
        with np.errstate(divide="ignore"):
            away[open_ends] *= np.where(fitted, np.clip(wanted / root, 0.25, 4.0), 0.5)
        ends[open_ends[fitted]] = away[open_ends[fitted]]
        open_ends = open_ends[~(fitted & (np.abs(root - wanted) < CLOSE * wanted))]
        if not len(open_ends):
            break
    low, high = (center - ends)[::2], (center + ends)[1::2]
    return {
        place: replace(interval, low=float(low[k]), high=float(high[k]))
        for k, (place, (_, interval)) in enumerate(found.items())
    }


def name_flat_pairs(problem: Problem, solved: Solved, names: tuple[str, ...]) -> Iterator[str]:
    """Name every pair of numbers whose estimates are so correlated that the data hardly tell one from the other."""
    c, numbers = covariance_of(solved.fit)
    size = np.sqrt(np.maximum(np.diag(c), 1e-300))
    rows = problem.scaling.undo_rows(solved.fit.terms.exponents[0].cpu().numpy())
    marks = range(problem.data.d - problem.data.grouped, problem.data.d)
    words = [_name_number(kind, rows[j], i, names) for kind, j, i in numbers]
    for p, q in zip(*np.triu_indices(len(size), 1), strict=True):
        correlation = c[p, q] / size[p] / size[q]
        factor = any(kind == "exponent" and i in marks for kind, _, i in (numbers[p], numbers[q]))
        if abs(correlation) > FLAT and not factor:
            yield f"{words[p]} and {words[q]} move together (correlation {correlation:.3f})"


def name_loosest(problem: Problem, solved: Solved, names: tuple[str, ...]) -> str | None:
    """Say which coefficient the data hardly tell: NORMAL standard errors are LOOSE of it or more, in scaled units, every power held.

    `find_intervals` lets the powers move too, and so its intervals may be wider.
    """
    c, numbers = covariance_of(solved.fit)
    rows = problem.scaling.undo_rows(solved.fit.terms.exponents[0].cpu().numpy())
    a = solved.fit.terms.coefficients[0].cpu().numpy()
    sizes = {
        (j, e): NORMAL * math.sqrt(max(c[q, q], 0.0)) / abs(a[j, e])
        for q, (kind, j, e) in enumerate(numbers)
        if kind == "coefficient" and a[j, e] != 0
    }
    (j, e), loosest = max(sizes.items(), key=lambda item: item[1], default=((0, 0), 0.0))
    if loosest < LOOSE:
        return None
    number = _name_number("coefficient", rows[j], e, names)
    return f"The data hardly tell {number}: its error is {100 * loosest:.0f} % of it, even with every power held."


def _name_number(kind: str, row: np.ndarray, i: int, names: tuple[str, ...]) -> str:
    rough = row.copy()
    rough[: 2 * len(names)] = rough[: 2 * len(names)].round(2)
    term = write_term(rough, names)
    if kind == "coefficient":
        return f"the coefficient of {term} in d{names[i]}/dt"
    return f"the constant K of {term}" if i >= 2 * len(names) else f"the power of {names[i % len(names)]} in {term}"
