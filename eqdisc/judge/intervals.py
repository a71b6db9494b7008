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

from ..fit.fit import NORMAL, Fit
from ..fit.pins import Pins
from ..law.equations import write_term
from ..law.law import Law
from ..law.terms import Number
from ..search.problem import Problem

LOOSE = 0.25  # 38 power laws at 5 % noise that were claimed and right had at most 0.02, two of three that were wrong 0.27 and 0.36
FLAT = 0.98  # correlation from which two numbers are known only together: together, one is known seven times better than apart
ROUNDS = 4  # of moving the ends
CLOSE = 0.03  # of sqrt(D), at which an end is found
STEPS = 15  # of Gauss-Newton for each
HEAVY = 50.0  # times better than the data a pin holds: it gives way by z / HEAVY**2 standard errors
LARGE = 4e6  # lanes x grid points x numbers from which the curvature must do
EXACT = 1.5  # floors of sigma below which data are exact
TIGHT = 0.01  # nats, about: how exactly each fit must end


@dataclass(frozen=True)
class Interval:
    """The ends of one number in the units of the fit, its standard error there, and whether it stands at a chosen value."""

    low: float
    high: float
    error: float
    chosen: bool = False


def find_intervals(problem: Problem, solved: Fit, profile: bool = True) -> dict[Number, Interval]:
    """Return the interval of every number: coefficients, exponents, K; in scaled units, but as the user's units have it (`pins`).

    `profile=False` leaves it at the curvature, free numbers only.
    """
    exact = bool((solved.noise < EXACT * problem.engine.floor).any())
    terms = solved.law.terms
    numbers = len(solved.names) + (terms.table() if terms.bent.any() else terms.exponents).size  # lanes, at most
    small = 2 * numbers * solved.x[0].numel() * (numbers + 2) < LARGE * solved.x.shape[-1]
    profile = profile and small and not exact and not problem.journal.stop
    base = _release(problem, solved) if profile else solved
    found = dict(_curvature(problem, base))
    return _profile(problem, base, found) if profile and found else {k: v for k, (_, v) in found.items()}


def _release(problem: Problem, fit: Fit) -> Fit:
    """Fit the law once more, tightly, and beside it a lane for each standing number in which that one is free."""
    loose = fit.law.terms.loosen(problem.engine.positive.cpu().numpy())
    standing = [number for number in loose.names() if not fit.law.is_free(number)]
    laws = [fit.law, *(fit.law.release(number) for number in standing)]
    lanes = Law.stack(laws, fit.x.device)
    flux = None if fit.lanes.flux is None else fit.lanes.flux.expand(len(laws), -1, -1, -1)
    return problem.engine.fit(replace(lanes, flux=flux), fit.x, fit.sigma, STEPS, _tolerance(problem))


def _tolerance(problem: Problem) -> float:
    return min(1e-4, TIGHT / float(problem.engine.mesh.counts.sum()))


def _curvature(problem: Problem, base: Fit) -> Iterator[tuple[Number, tuple[int, Interval]]]:
    """Yield each number with the lane that it is free in and the interval that the curvature gives it."""
    wider = _widening(problem, base)
    for lane in base.alive:
        one = base.lane(lane)
        for number in one.names:
            if lane and base.law.is_free(number):
                continue
            pin = _pin(problem, one.lanes, [number])
            slope = pin.slope(one.lanes, one.numbers)[0].cpu().numpy()
            error = wider * math.sqrt(max(float(slope @ one.covariance @ slope), 0.0))
            value, half = float(pin.measure(one.lanes)[0]), NORMAL * error
            yield number, (lane, Interval(value - half, value + half, error, chosen=lane > 0))


def _widening(problem: Problem, base: Fit) -> float:
    """Return by how much standard errors grow because sigma came from the residuals of the same fit: sqrt(n / (n - p))."""
    if problem.data.grouped:
        return 1.0  # there the values were counted so
    values = float(problem.engine.mesh.counts.sum())
    return math.sqrt(values / max(values - _fitted(problem, base), 1.0))


def _fitted(problem: Problem, base: Fit) -> int:
    return len(base.names) + base.x.shape[1] * problem.d


def _pin(problem: Problem, lanes: Law, numbers: list[Number]) -> Pins:
    """Return a pin, not yet heavy, on one number of each lane."""
    return Pins.on(numbers, lanes, torch.as_tensor(np.log(problem.scaling.states), device=problem.device))


def _profile(problem: Problem, base: Fit, found: Mapping[Number, tuple[int, Interval]]) -> dict[Number, Interval]:
    """Move both ends of every interval to where the deviance crosses its bound; an end that cannot be fitted stays."""
    places = [place for place in found for _ in range(2)]
    lanes = torch.tensor([lane for lane, _ in found.values() for _ in range(2)], device=base.x.device)
    side = np.tile([-1.0, 1.0], len(found))
    error = np.repeat([max(i.error, 1e-12) for _, i in found.values()], 2)
    n = float(problem.engine.mesh.counts.sum())
    wanted = math.sqrt(n * math.log1p(NORMAL**2 / max(n - _fitted(problem, base), 1.0)))
    start = base.select(lanes)
    pins = _pin(problem, start.lanes, places)
    center = pins.measure(start.lanes).cpu().numpy()
    precision = torch.as_tensor((HEAVY / error) ** 2, device=base.x.device)
    away, ends = NORMAL * error, NORMAL * error
    open_ends = np.arange(len(places))
    for _ in range(ROUNDS):
        value = torch.as_tensor(center + side * away, device=base.x.device)
        part = replace(pins, value=value, precision=precision).select(torch.as_tensor(open_ends))
        at = start.select(torch.as_tensor(open_ends))
        fit = problem.engine.fit(at.lanes, at.x, at.sigma, STEPS, _tolerance(problem), pins=part)
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


def name_flat_pairs(problem: Problem, solved: Fit) -> Iterator[str]:
    """Name every pair of numbers whose estimates are so correlated that the data hardly tell one from the other."""
    size = np.sqrt(np.maximum(np.diag(solved.covariance), 1e-300))
    correlation = solved.covariance / size[:, None] / size
    factor = [n.part == "exponent" and n.place >= problem.marks.start for n in solved.names]
    words = [_name_number(problem, solved.law, number) for number in solved.names]
    for p, q in zip(*np.triu_indices(len(size), 1), strict=True):
        if abs(correlation[p, q]) > FLAT and not factor[p] and not factor[q]:
            yield f"{words[p]} and {words[q]} move together (correlation {correlation[p, q]:.3f})"


def name_loosest(problem: Problem, solved: Fit) -> str | None:
    """Say which coefficient the data hardly tell: NORMAL standard errors are LOOSE of it or more, in scaled units, every power held.

    `find_intervals` lets the powers move too, and so its intervals may be wider.
    """
    variances = zip(solved.names, np.diag(solved.covariance), strict=True)
    sizes = {
        number: NORMAL * math.sqrt(max(variance, 0.0)) / abs(solved.law[number])
        for number, variance in variances
        if number.part == "coefficient" and solved.law[number] != 0
    }
    number = max(sizes, key=lambda n: sizes[n], default=None)
    if number is None or sizes[number] < LOOSE:
        return None
    name = _name_number(problem, solved.law, number)
    return f"The data hardly tell {name}: its error is {100 * sizes[number]:.0f} % of it, even with every power held."


def _name_number(problem: Problem, law: Law, number: Number) -> str:
    term = law.terms[[number.term]].in_units(problem.scaling)
    w, u = term.exponents.round(2), term.inner.round(2)
    text, state = write_term(replace(term, exponents=w, inner=u), problem.names), problem.names[number.place]
    if number.part == "coefficient":
        return f"the coefficient of {text} in d{state}/dt"
    return f"the constant K of {text}" if number.part == "offset" else f"the power of {state} in {text}"
