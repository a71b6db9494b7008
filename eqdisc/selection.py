r"""Selection: the front of all laws that were fitted, the pick, and its rivals.

The front keeps a law where none that is as simple fits better. The pick is the law of shortest description; its rivals are laws of another
structure whose description is at most six nats longer, odds of 1 to 400 (Kass & Raftery, J. Am. Stat. Assoc. 90, 1995: "strong" begins near 3).
"""

from __future__ import annotations

from collections.abc import Iterable

from .laws import Solved, alike, complexity_of

RIVAL = 6.0  # nats
LONGEST = 12  # laws on the front
MOST_RIVALS = 20


def select_front(seen: Iterable[Solved], pick: Solved) -> list[Solved]:
    """Return the non-dominated laws by rising complexity, the pick among them."""
    best: dict[int, Solved] = {}
    for s in seen:
        size = complexity_of(s.law)
        if size not in best or s.data_cost < best[size].data_cost:
            best[size] = s
    best[complexity_of(pick.law)] = pick
    front: list[Solved] = []
    for size in sorted(best):
        s = best[size]
        if s is pick or not front or s.data_cost < min(f.data_cost for f in front) - 0.5:
            front.append(s)
    at = front.index(pick)
    while len(front) > LONGEST:  # thin the far end first: overfitted laws beyond the pick, then the crudest
        if len(front) - 1 - at > LONGEST // 3:
            front.pop()
        else:
            front.pop(0)
            at -= 1
    return front


def select_rivals(seen: Iterable[Solved], pick: Solved, within: float = RIVAL) -> list[Solved]:
    """Return laws of another structure within `within` nats of the pick, the shortest first."""
    rivals: list[Solved] = []
    for s in sorted(seen, key=lambda s: s.cost):
        if s.cost > pick.cost + within or len(rivals) >= MOST_RIVALS:
            break
        if not any(alike(s.law, other.law) for other in (pick, *rivals)):
            rivals.append(s)
    return rivals
