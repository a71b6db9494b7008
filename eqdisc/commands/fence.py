"""Fence: whatever a command raises becomes one sentence and an exit status.

0    a law was found (identified or ambiguous), or the command did what it was asked
1    the data or the options cannot be used: one sentence
2    the command line is wrong, with "did you mean"
3    the search ended and nothing deserves to be called the law
130  interrupted; the best so far is saved
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from cyclopts import CycloptsError

from .. import __version__
from ..work.errors import EqdiscError

FOUND, UNUSABLE, MISTYPED, NOTHING, INTERRUPTED = 0, 1, 2, 3, 130


def fenced(work: Callable[[], int | None], folder: Path | None = None) -> int:
    """Do the work and return its status; a failure that is nobody's fault is written down in `folder`, the run."""
    try:
        return work() or FOUND
    except CycloptsError as error:
        say(f"{error} See eqdisc --help.")
        return MISTYPED
    except EqdiscError as error:
        say(str(error))
    except KeyboardInterrupt:
        say("interrupted.")
        return INTERRUPTED
    except OSError as error:
        say(f"{error.filename or 'a file'}: {error.strerror or error}.")
    except MemoryError:
        say("the memory is not enough for this table; use fewer rows or fewer --restarts.")
    except Exception as error:
        kind, log = type(error).__name__, _write_log(folder)
        say(f"something went wrong that should not ({kind}); please report it with {log}.")
    return UNUSABLE


def say(sentence: str) -> None:
    """Write a sentence of the command's own to standard error."""
    print(f"eqdisc: {sentence}", file=sys.stderr, flush=True)


def _write_log(folder: Path | None) -> Path:
    """Write the exception at hand to RUN/error.log, or to the temporary folder where there is no run."""
    import tempfile
    import traceback

    place = (folder if folder is not None and folder.is_dir() else Path(tempfile.gettempdir())) / "error.log"
    place.write_text(f"eqdisc {__version__}\n{sys.argv}\n{traceback.format_exc()}", encoding="utf-8")
    return place
