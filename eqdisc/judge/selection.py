r"""Selection: the front of all laws that were fitted, the pick, and its rivals.

The front keeps a law where none that is as simple fits better. The pick starts from the law of shortest description; where that one
contains a simpler law and is shorter by less than three nats, the simpler one is picked: a term has to be earned by strong
evidence, odds of 20 to 1 (Kass & Raftery, J. Am. Stat. Assoc. 90, 1995), as real residuals are never quite independent. On 156
noisy records of 96 known systems the true law was picked 127 times with three nats, 126 with six, 126 with none.
Where residuals correlate, the data count only as many times as there are independent ones.
Rivals are laws of another structure within six nats, and laws that have chosen another simple number for an exponent. The pick's share is
its weight among the laws that were fitted, exp(-L) each, one for each structure: what is left of certainty when every other law that was
seen may be the true one. A law that is the pick and something more contests none of its terms, and that the data do not ask for more was
decided when it was picked: it counts only where it is about as short; for one record of one state, which it may follow closer whatever it
says, always. On 548 noisy records of 121 known systems the pick was right 387 times; of 317 picks that this rule claims 297 are right,
77 % of those 387. With richer laws always counted it is 283 and 267, 69 %, never counted 330 and 303, 78 %.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import exp, inf

from ..fit.fit import Fit

RIVAL = 6.0  # nats
EARNED = 3.0  # nats by which a law must beat a simpler one that it contains
NESTED = 0.15  # exponents may move by this much when a term is left out
LONGEST = 12  # laws on the front
MOST_RIVALS = 20
FAR = 12.0  # nats beyond which a law has no weight
MOST_COUNTED = 60
CONTESTS = 1.0  # nats by which a law that is the pick and something more may be longer and still speak against it


def select_front(seen: Iterable[Fit], pick: Fit) -> list[Fit]:
    """Return the non-dominated laws by rising complexity, the pick among them."""
    best: dict[int, Fit] = {}
    for s in seen:
        size = s.law.complexity
        best[size] = min(best.get(size, s), s, key=lambda s: s.data_cost)
    best[pick.law.complexity] = pick
    front: list[Fit] = []
    for size in sorted(best):
        s = best[size]
        if s is pick or not front or s.data_cost < min(f.data_cost for f in front) - 0.5:
            front.append(s)
    # the far end is thinned first: overfitted laws beyond the pick, then the crudest
    return front[: max(front.index(pick) + 1 + LONGEST // 3, LONGEST)][-LONGEST:]


def select_pick(seen: Iterable[Fit], shortest: Fit, independent: float = 1.0) -> Fit:
    """Return the simplest law that the shortest description contains and does not beat by strong evidence.

    Where residuals are not independent, the data count for less (`noise.independent_share`), and another law may be the shortest.
    """
    seen = list(seen)
    if independent < 1.0:
        shortest = min(seen, key=lambda s: s.cost - (1.0 - independent) * s.data_cost)
    near = [s for s in seen if s.cost < shortest.cost + EARNED and shortest.law.contains(s.law, NESTED)]
    return min(near, key=lambda s: (int(s.law.support.sum()), s.cost), default=shortest)


def select_rivals(seen: Iterable[Fit], pick: Fit, within: float = RIVAL) -> list[Fit]:
    """Return laws that say something else within `within` nats of the pick, the shortest first."""
    rivals: list[Fit] = []
    for s in sorted(seen, key=lambda s: s.cost):
        if s.cost > pick.cost + within or len(rivals) >= MOST_RIVALS:
            break
        if not any(other.law.alike(s.law, chosen=True) for other in (pick, *rivals)):
            rivals.append(s)
    return rivals


def share_of(pick: Fit, seen: Iterable[Fit], richer: float = CONTESTS) -> float:
    """Return the weight of the pick among the laws that were fitted.

    Each structure counts once, by its shortest description. Of those that are the pick and something more only the shortest counts, as
    how many of them were fitted says nothing about the data, and only where it is less than `richer` nats longer.
    """
    near = sorted((s for s in seen if s.cost <= pick.cost + FAR), key=lambda s: s.cost)
    return 1.0 / sum(exp(min(pick.cost - s.cost, FAR)) for s in _tell_apart(pick, near, pick.cost + richer))


def _tell_apart(pick: Fit, near: Iterable[Fit], limit: float) -> list[Fit]:
    """Return the pick and the first law of each other structure, one that is the pick and something more only below a limit."""
    distinct = [pick]
    for s in near:
        if len(distinct) > MOST_COUNTED or any(s.law.alike(other.law) for other in distinct):
            continue
        if not s.law.contains(pick.law):
            distinct.append(s)
            continue
        if s.cost < limit:
            distinct.append(s)
        limit = -inf
    return distinct
