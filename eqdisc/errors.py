"""The exceptions that leave eqdisc, all of them one family.

    EqdiscError
    ├── DataError      the table cannot be used: names file, row, column, cause and cure; a ValueError too, as
    │                  scikit-learn wants it
    ├── OptionError    an option or a configuration value cannot be used
    ├── FormulaError   a text is not a formula over the given names
    └── RunError       a run folder is missing, incomplete or of another format

Inside a sweep, failure is not an exception but a `Status` of one lane.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EqdiscError(Exception):
    """Whatever eqdisc refuses, in one sentence that a user can act on."""


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


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the known word nearest to `word`, or nothing.

    >>> did_you_mean("epoch", ["epochs", "lanes"])
    " Did you mean 'epochs'?"
    """
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
