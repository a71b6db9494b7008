"""The exceptions that leave eqdisc, all of them one family.

    EqdiscError
    ├── DataError      the table cannot be used: names file, row, column, cause and cure; a ValueError too, as
    │                  scikit-learn wants it
    ├── OptionError    an option or a configuration value cannot be used
    ├── FormulaError   a text is not a formula over the given names
    └── RunError       a run folder is missing, incomplete or of another format

Inside a sweep, failure is not an exception but a `Status` of one lane.

Messages quote what stands in files: names, cells, paths. Whatever these hold, a message is one line of printable characters
and of a bounded length: no name moves the cursor of a terminal or fills its screen.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable

LONGEST = 1000  # characters of a message


def printable(text: str) -> str:
    r"""Return a text on one line, whatever cannot be printed as a space.

    >>> printable("a\nb\x1b[2J")
    'a b [2J'
    """
    return "".join(c if c.isprintable() else " " for c in text)


class EqdiscError(Exception):
    """Whatever eqdisc refuses, in one sentence that a user can act on.

    >>> len(str(EqdiscError("x" * 10**6))) <= LONGEST
    True
    """

    def __init__(self, sentence: str = "") -> None:
        text = str(sentence)
        half = (LONGEST - 5) // 2
        super().__init__(printable(text if len(text) <= LONGEST else f"{text[:half]} ... {text[-half:]}"))


class DataError(EqdiscError, ValueError):
    """The table cannot be used."""


class OptionError(EqdiscError):
    """An option or a configuration value cannot be used."""


class FormulaError(EqdiscError):
    """A text is not a formula over the given names."""


class RunError(EqdiscError):
    """A run folder is missing, incomplete or of another format."""


class DataWarning(UserWarning):
    """Something in the table was mended or deserves a look."""


class SpeedWarning(UserWarning):
    """A slower way is taken for want of a library."""


_LONG, _MANY = 80, 1000  # of names, beyond which nobody has mistyped one: comparing is slow


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the known word nearest to `word`, or nothing.

    >>> did_you_mean("epoch", ["epochs", "lanes"])
    " Did you mean 'epochs'?"
    """
    near = difflib.get_close_matches(word[:_LONG], [k for k in itertools.islice(known, _MANY) if len(k) <= _LONG], n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
