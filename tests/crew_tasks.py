"""Tasks for crews in tests, in a module that is fast to load: every worker process does so."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from eqdisc.work.errors import OptionError


def die_once(place: Path, number: int) -> int:
    """Leave a mark and die, or find the mark and answer."""
    try:
        (place / str(number)).touch(exist_ok=False)
    except FileExistsError:
        return number
    os.kill(os.getpid(), signal.SIGKILL)
    return -1


def die_over(place: Path, doomed: int, number: int) -> int:
    """Count the calls, and die over one number."""
    with (place / str(number)).open("a", encoding="utf-8") as file:
        file.write("x")
    if number == doomed:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuse(number: int) -> int:
    """Raise what a user would be told, over one number."""
    if number == 1:
        raise OptionError("one is refused.")
    return number
