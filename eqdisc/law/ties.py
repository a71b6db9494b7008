r"""Ties: coefficients of one term in several equations that are exact multiples of each other, as one flux leaves a state and enters another.

A tie says a_je = r a_jq in the user's units, with r = +-1, 2, 3, 1/2 or 1/3, or with one r for all terms of two equations (a yield). It
gives back what the number a_je costs, 0.5 log n + 2 nats, less the choice of r. What ties take from the likelihood is that of all of them
at once, by the covariance C of the coefficients:

    loss = delta^T V^-1 delta / 2,    delta_t = log |a_je / (r a_jq)|,    V = G C G^T,    G = d delta / d a.

This is within half a nat of fits that hold to the ties; the sum of what each tie alone would take, delta_t^2 / 2 V_tt, counts an error
that several share once for each: it was up to 4.5 nats too much for the true law of fractional SIR (5 % noise), which lost to others by it.
From all ties that may be, the one whose loss is the largest for what it gives back goes first; the best set on the way is taken.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

SIMPLE = {1.0: 0.7, 2.0: 2.5, 0.5: 2.5, 3.0: 2.5, 1 / 3: 2.5}  # ratios and what it costs to say which
YIELD = 2.5  # the same for one ratio of two whole equations
FAR = 0.3  # of the logarithm of a ratio: no error of measurement
SURE = 1e-8  # variance of the logarithm of a ratio below which it is as exact as integration
EXACT = 1e-16  # the same of a yield, which is estimated
UNKNOWN = 1e100  # covariance of a number that nothing depends on: it has no bound
CONSERVED = 5.0  # nats that a law gives back where it keeps by structure a sum that the data conserve


@dataclass(frozen=True)
class Tie:
    """Coefficient of `term` in `equation` = `ratio` times the one in `reference`, in the user's units."""

    term: int
    equation: int
    reference: int
    ratio: float
    gain: float  # nats that it gives back, its loss in likelihood left out

    @property
    def place(self) -> tuple[int, int, int]:
        """Term, equation and reference."""
        return self.term, self.equation, self.reference


@dataclass(frozen=True, eq=False)
class Coefficients:
    """Coefficients a (m, d) of a law, `factors` (d,) that undo their scaling, and the covariance (p, p) of those at `places`."""

    values: Float[np.ndarray, "m d"]
    factors: Float[np.ndarray, "d"]
    covariance: Float[np.ndarray, "p p"]
    places: Mapping[tuple[int, int], int]

    def ratio(self, j: int, e: int, r: int) -> float:
        """Return a_je / a_jr in the user's units."""
        return float(self.values[j, e] * self.factors[e] / (self.values[j, r] * self.factors[r]))

    def weigh(self, ties: Sequence[tuple[int, int, int]], floor: float) -> Float[np.ndarray, "t t"]:
        """Return the inverse covariance of log |a_je / a_jr| for all (j, e, r), `floor` added to each variance."""
        slope = np.zeros((len(ties), len(self.covariance)))
        for t, (j, e, r) in enumerate(ties):
            slope[t, self.places[j, e]] = 1 / self.values[j, e]
            slope[t, self.places[j, r]] = -1 / self.values[j, r]
        spread = slope @ np.clip(np.nan_to_num(self.covariance), -UNKNOWN, UNKNOWN) @ slope.T
        variance = np.maximum(np.diag(spread), 0.0) + floor
        size = np.sqrt(variance)
        correlation = np.clip(spread / size[:, None] / size, -1.0, 1.0)
        np.fill_diagonal(correlation, 1.0)
        values, vectors = np.linalg.eigh(correlation)  # rounding leaves some below zero: a loss is never a gain
        return (vectors / np.maximum(values, 1e-10)) @ vectors.T / size[:, None] / size


def find_ties(
    a: Coefficients, log_n: float, invariants: Sequence[Float[np.ndarray, "d"]] = ()
) -> tuple[float, list[Tie]]:
    """Return the nats that ties give back, what keeps an invariant by them included, and the ties: simple ratios first, then yields.

    >>> places = {(0, 0): 0, (0, 1): 1}
    >>> back, (tie,) = find_ties(Coefficients(np.array([[-0.06, 0.0601]]), np.ones(2), 1e-6 * np.eye(2), places), log_n=4.0)
    >>> tie.equation, tie.reference, tie.ratio, round(back, 1)
    (1, 0, -1.0, 3.3)
    """
    back, ties = _find_simple(a, log_n, invariants)
    more, yields = find_yields(a, log_n, ties)
    kept = CONSERVED * sum(conserves(c, a.values, ties + yields) - conserves(c, a.values, ties) for c in invariants)
    return back + more + kept, ties + yields


def _find_simple(a: Coefficients, log_n: float, invariants: Sequence[np.ndarray]) -> tuple[float, list[Tie]]:
    ties, best = _possible_ties(a, log_n), (0.0, list[Tie]())
    while ties and best[0] < sum(t.gain for t in ties) + CONSERVED * len(invariants):
        loss, taken = _losses(a, ties)
        best = max(best, (float(_given_back(ties, a.values, invariants) - loss), ties), key=lambda found: found[0])
        without = [ties[:t] + ties[t + 1 :] for t in range(len(ties))]
        left = [taken[t] + _given_back(rest, a.values, invariants) for t, rest in enumerate(without)]
        ties = without[int(np.argmax(left))]
    return best


def _losses(a: Coefficients, ties: Sequence[Tie]) -> tuple[float, Float[np.ndarray, "t"]]:
    """Return what all ties together take from the likelihood, and what each does, given all others."""
    delta = np.array([math.log(abs(a.ratio(*t.place) / t.ratio)) for t in ties])
    inverse = a.weigh([t.place for t in ties], SURE)
    return delta @ inverse @ delta / 2, (inverse @ delta) ** 2 / np.diag(inverse) / 2


def _possible_ties(a: Coefficients, log_n: float) -> list[Tie]:
    """Return the ties near a simple ratio, those of each term to the equation in which most of it is tied."""
    found: list[Tie] = []
    for j, row in enumerate(a.values):
        users = [int(e) for e in np.flatnonzero(row)]
        options = [_ties_to(j, r, users, a, log_n) for r in users] if len(users) > 1 else []
        found += max(options, key=lambda ties: sum(t.gain for t in ties), default=[])
    return found


def _ties_to(j: int, r: int, users: Sequence[int], a: Coefficients, log_n: float) -> list[Tie]:
    ties = []
    for e in users:
        ratio = a.ratio(j, e, r)
        simple = min(SIMPLE, key=lambda v: abs(math.log(abs(ratio) / v)))
        if e != r and abs(math.log(abs(ratio) / simple)) < FAR:
            ties.append(Tie(j, e, r, math.copysign(simple, ratio), 0.5 * log_n + 2.0 - SIMPLE[simple]))
    return ties


def _given_back(ties: Sequence[Tie], values: np.ndarray, invariants: Sequence[np.ndarray]) -> float:
    return sum(t.gain for t in ties) + CONSERVED * sum(conserves(c, values, ties) for c in invariants)


def find_yields(a: Coefficients, log_n: float, ties: Sequence[Tie]) -> tuple[float, list[Tie]]:
    """Return what pairs of equations give back that share all terms in one ratio, whatever it is (a yield): x_r - x_e / ratio rests.

    The ratio is the mean of the terms' own, weighted by the inverse of their covariance; it must cost less than the numbers that it saves.
    """
    total, found = 0.0, list[Tie]()
    used, tied = a.values != 0, {(t.term, e) for t in ties for e in (t.equation, t.reference)}
    for r, e in itertools.combinations(range(a.values.shape[1]), 2):
        terms = np.flatnonzero(used[:, r]).tolist()
        free = tied.isdisjoint(itertools.product(terms, (r, e)))
        if len(terms) > 1 and (used[:, r] == used[:, e]).all() and free:
            back, some = _yield_of([(j, e, r) for j in terms], a, log_n)
            total, found = total + back, found + some
    return total, found


def _yield_of(places: Sequence[tuple[int, int, int]], a: Coefficients, log_n: float) -> tuple[float, list[Tie]]:
    ratio = np.array([a.ratio(*place) for place in places])
    inverse, logs = a.weigh(places, EXACT), np.log(np.abs(ratio))
    mean = (inverse @ logs).sum() / inverse.sum()
    gain = (0.5 * log_n + 2.0) * (len(places) - 1) - YIELD
    back = gain - (logs - mean) @ inverse @ (logs - mean) / 2
    if back <= 0 or np.abs(logs - mean).max() >= FAR or len(set(np.sign(ratio))) > 1:
        return 0.0, []
    value = float(f"{math.copysign(math.exp(mean), ratio[0]):.{_digits(1 / math.sqrt(inverse.sum()))}g}")
    return back, [Tie(*place, value, gain / len(places)) for place in places]


def _digits(relative: float) -> int:
    """Significant digits that a relative error leaves, and one more."""
    return int(np.clip(math.ceil(-math.log10(max(relative, 1e-12))) + 1, 2, 12))


def conserves(invariant: np.ndarray, coefficients: np.ndarray, ties: Sequence[Tie]) -> bool:
    """Tell whether the law keeps sum_e invariant[e] x_e constant by its tied coefficients alone (user's units)."""
    ratios = np.full(coefficients.shape, np.nan)  # to the reference of each term
    for tie in ties:
        if np.isnan(ratios[tie.term]).all():
            ratios[tie.term, tie.reference] = 1.0
        ratios[tie.term, tie.equation] = tie.ratio
    moved = np.where((coefficients != 0) & (invariant != 0), invariant * ratios, 0.0).sum(1)
    return bool((np.abs(moved) <= 1e-6).all())
