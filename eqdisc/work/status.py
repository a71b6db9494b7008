"""How a lane, a solve or a simulation ended: a value with advice, never an exception."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """The end of one lane; an integer, so that a tensor can hold one per lane.

    >>> Status.DIVERGED.advice
    'The state left the finite numbers; try shorter segments or a larger l1 penalty.'
    """

    OK = 0
    DIVERGED = 1
    STEP_UNDERFLOW = 2
    TIMEOUT = 3
    SINGULAR = 4
    LEFT_DOMAIN = 5

    @property
    def advice(self) -> str:
        """One sentence that says what happened and what to try."""
        return _ADVICE[self]


_ADVICE = {
    Status.OK: "Ended as asked.",
    Status.DIVERGED: "The state left the finite numbers; try shorter segments or a larger l1 penalty.",
    Status.STEP_UNDERFLOW: "The step size fell below rounding; the law is stiff or singular here.",
    Status.TIMEOUT: "The time allowed was spent; allow more or shorten the horizon.",
    Status.SINGULAR: "The parameters cannot be told apart by these data; use fewer terms.",
    Status.LEFT_DOMAIN: "A state reached a value where the law is not defined.",
}
