"""Fits: a search begun, gone on with, and done again."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ..work.config import FitConfig
from ..work.errors import OptionError
from .fence import FOUND, INTERRUPTED, NOTHING, UNUSABLE, fenced, say
from .options import Folder, Output, Roles, Work, saved, sought

if TYPE_CHECKING:
    from ..runs.batch import Batch
    from ..runs.job import Ending, Job
    from ..work.crew import Crew

STATUS_OF = {"identified": FOUND, "ambiguous": FOUND, "not identified": NOTHING}


def fit(
    data: Annotated[
        tuple[Path, ...],
        Parameter(help="Tables (.csv, .parquet, .xlsx) or patterns such as 'data/*.csv', each table a fit of its own."),
    ],
    /,
    *,
    out: Annotated[
        Path | None,
        saved(help="Run folder, or folder of runs for several tables [default: runs/NAME-TIME]."),
    ] = None,
    roles: Roles = Roles(),
    validate: Annotated[Path | None, sought(help="Table that is simulated and never fitted.")] = None,
    config: Annotated[FitConfig, sought(name="*")] = FitConfig(),
    work: Work = Work(),
    output: Output = Output(),
    profile: Annotated[
        bool,
        saved(negative="", help="Say on standard error where the time went and how much memory."),
    ] = False,
) -> int:
    """Find the law behind a table."""
    from ..runs.batch import Batch
    from ..runs.folder import default_folder, refuse_taken
    from ..runs.job import Job

    if validate is not None and config.held_out:
        raise OptionError("--validate and --held-out both say what is unseen; use one of them.")
    tables = _expand(data, profile)
    many = len(tables) > 1
    with work.crew() as crew:
        folder = out or default_folder("tables" if many else tables[0])
        job = Job(tables[0], folder, config, asdict(roles), validate, tuple(sys.argv))
        if many:
            batch = Batch.of(tables, job)
            batch.begin()
            return _fit_all(batch, crew, output)
        refuse_taken(folder)
        return fenced(partial(_fit, job, crew, output, profile), folder)


def _expand(data: tuple[Path, ...], profile: bool) -> list[Path]:
    """Return the tables that are meant; refuse none, and several where one is profiled."""
    from ..runs.batch import expand

    tables = expand(data)
    if not tables:
        raise OptionError("there is no table to fit; name one.")
    if profile and len(tables) > 1:
        raise OptionError("--profile is of one table; leave it out, or name one.")
    return tables


def _fit(job: Job, crew: Crew, output: Output, profiled: bool) -> int:
    """Do one job and answer; return the exit status."""
    from ..runs.job import start
    from ..work.journal import Timing
    from ..work.progress import open_progress

    timing = Timing.of_process()
    with open_progress(output.quiet) as progress:
        ending = start(job, progress, output.tell, crew, timing)
    status = _answer(ending, output)
    if profiled:
        from ..runs.text import write_timing

        timing.end("printing")
        print(write_timing(timing), file=sys.stderr)
    return status


def _answer(ending: Ending, output: Output, title: str = "") -> int:
    """Print what a fit has found; return the exit status."""
    from ..runs.text import write_answer

    run = ending.run
    text = "" if output.json else write_answer(run)
    output.answer(f"{title}\n\n{text}\n" if title else text, run.result, one_of_many=bool(title))
    output.tell(f"saved in {run.folder}")
    return INTERRUPTED if ending.interrupted else STATUS_OF[run.verdict]


def _fit_all(batch: Batch, crew: Crew, output: Output) -> int:
    """Do what is left of a batch and answer table by table as they end; return the exit status."""
    from ..work.progress import open_progress

    if len(batch.left) < len(batch.jobs):
        output.tell(f"{len(batch.jobs) - len(batch.left)} of {len(batch.jobs)} tables had ended before.")
    statuses = [FOUND]
    try:
        with open_progress(output.quiet) as progress:
            for job, future in batch.fit(crew, progress):
                with progress.hidden():
                    statuses.append(fenced(lambda: _answer_one(job, future.result(), output), job.folder))  # noqa: B023
                if statuses[-1] == INTERRUPTED:
                    raise KeyboardInterrupt
    except KeyboardInterrupt:
        say(f"interrupted; eqdisc resume {batch.folder} goes on with what is left.")
        return INTERRUPTED
    output.tell(f"saved in {batch.folder}")
    return max(status for status in statuses if status != NOTHING)


def _answer_one(job: Job, ending: Ending, output: Output) -> int:
    """Print what was found in one table of many; return its status."""
    for note in ending.notes:
        output.tell(note)
    return _answer(ending, output, os.path.relpath(job.table))


def resume(
    run: Annotated[Path, Parameter(help="Folder of a fit, or of the fits of several tables.")],
    /,
    *,
    work: Work = Work(),
    output: Output = Output(),
) -> int:
    """Go on with a fit that was interrupted or killed, to the same law as if it had not been; the front so far is in RUN/front.csv."""
    from ..runs.batch import LIST, Batch

    with work.crew() as crew:
        if (run / LIST).exists():
            return _fit_all(Batch.read(run), crew, output)
        return fenced(partial(_go_on, run, crew, output), run)


def _go_on(folder: Path, crew: Crew, output: Output) -> int:
    """Go on with one fit and answer; return the exit status."""
    from ..runs.job import resume
    from ..work.progress import open_progress

    with open_progress(output.quiet) as progress:
        ending = resume(folder, progress, crew)
    return _answer(ending, output)


def rerun(run: Folder, /, *, output: Output = Output()) -> int:
    """Fit the data of a run again, as it was fitted, and compare with its result."""
    from ..runs.job import repeat
    from ..work.progress import open_progress

    with open_progress(output.quiet) as progress:
        found = repeat(run, progress)
    output.answer(f"{run}: {found.sentence}.", {"same": found.same, **asdict(found)})
    return FOUND if found.same else UNUSABLE
