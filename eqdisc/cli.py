"""The command: words in, the answer on standard output, progress and warnings on standard error, an exit status.

    0    a law was found (identified or ambiguous), or the command did what it was asked
    1    the data or the options cannot be used: one sentence
    2    the command line is wrong, with "did you mean"
    3    the search ended and nothing deserves to be called the law
    130  interrupted; the best so far is saved

Whatever is slow to load (torch, SymPy, pandas, matplotlib) is loaded by the command that needs it.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Group, Parameter

from . import __version__
from .work.config import FitConfig
from .work.errors import DataWarning, EqdiscError, OptionError, SpeedWarning, printable

if TYPE_CHECKING:
    from .data.dataset import Dataset
    from .peers.comparison import Comparison
    from .runs.batch import Batch
    from .runs.job import Ending, Job
    from .runs.run import Run
    from .work.crew import Crew

FOUND, UNUSABLE, MISTYPED, NOTHING, INTERRUPTED = 0, 1, 2, 3, 130
STATUS_OF = {"identified": FOUND, "ambiguous": FOUND, "not identified": NOTHING}

PICTURES = (".png", ".svg", ".pdf")
TARGETS = "fig3; fig4 or fig5 (epidemic); fig6 or tableA2 (simple arithmetic); fig7 or table1 (large-scale); nalm (one unit, nine ranges)."
TABLE, SEARCH, WORK = Group("Table", sort_key=1), Group("Search", sort_key=2), Group("Work", sort_key=3)
OUTPUT = Group("Output", sort_key=4)

app = App(
    name="eqdisc",
    help="From a table of measurements over time to the differential equation behind it.",
    help_epilogue="example:  eqdisc fit data/fsir.csv",
    help_format="plaintext",
    default_parameter=Parameter(
        negative_iterable=(),
        show_default=lambda value: None if value is None or value is False or value == () else str(value),
    ),
    version=__version__,
    version_flags=["--version"],
)


@Parameter(name="*", group=OUTPUT)
@dataclass(frozen=True, kw_only=True)
class Output:
    """What a command says."""

    json: Annotated[bool, Parameter(negative="")] = False
    """Print the answer as JSON."""

    quiet: Annotated[bool, Parameter(negative="")] = False
    """Neither progress nor warnings on standard error."""

    def tell(self, text: str) -> None:
        """Write a line to standard error."""
        if not self.quiet:
            print(printable(text), file=sys.stderr, flush=True)

    def answer(self, text: str, facts: Any, *, one_of_many: bool = False) -> None:
        """Write the answer to standard output: the text, or the facts as JSON, on one line if others follow."""
        if self.json:
            from .work.files import as_json

            text = json.dumps(as_json(facts), indent=None if one_of_many else 2, ensure_ascii=False)
        if sys.stdout.isatty():  # no name moves the cursor
            text = "\n".join(printable(line) for line in text.split("\n"))
        try:
            print(text, flush=True)
        except BrokenPipeError:  # whoever reads has enough (head); the status still counts
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@Parameter(name="*", group=WORK)
@dataclass(frozen=True, kw_only=True)
class Work:
    """Who does what can be done side by side: tables, replicates of a bootstrap, random starts. The result is the same."""

    workers: int | None = None
    """Processes on this machine [default: 1]."""

    scheduler: str | None = None
    """Dask scheduler whose workers do it, tcp://host:8786; they must see the same files."""

    def crew(self) -> Crew:
        """Return them."""
        from .work.crew import Crew

        if self.workers is not None and self.scheduler is not None:
            raise OptionError("--workers and --scheduler both say who does the work; use one of them.")
        if self.workers is not None and self.workers < 1:
            raise OptionError(f"--workers is {self.workers}; it must be 1 at least.")
        return Crew(self.workers or 1, self.scheduler)


@Parameter(name="*", group=TABLE)
@dataclass(frozen=True, kw_only=True)
class Roles:
    """Which columns of a table are what."""

    time: str | None = None
    """Column of times [found by: t or time, else the first]."""

    trajectory: str | None = None
    """Column that tells trajectories apart [found by: trajectory]."""

    states: str | None = None
    """Columns that the law is about, with commas [found by: every other column of numbers]."""

    inputs: str | None = None
    """Columns that are known and not explained, with commas: u is linear between samples, u:hold keeps its last value."""

    group: str | None = None
    """Column of groups, which share a law but not every coefficient; without trajectories each group is one."""

    units: str | None = None
    """Units of columns, S=persons,t=day, beside those in the header, S [persons]."""

    def read(self, path: Path, output: Output) -> Dataset:
        """Read a table in these roles."""
        return _read(path, output, **asdict(self))


def _read(path: Path, output: Output, **roles: Any) -> Dataset:
    """Read a table and pass on what was mended."""
    from .data.tables import read_table

    data = read_table(path, **roles)
    for note in data.notes:
        output.tell(f"warning: {note}")
    return data


Tables = Annotated[
    tuple[Path, ...],
    Parameter(help="Tables (.csv, .parquet, .xlsx) or patterns such as 'data/*.csv', each table a fit of its own."),
]
Table = Annotated[Path, Parameter(help="A table (.csv, .parquet, .xlsx).")]
Folder = Annotated[Path, Parameter(help="Folder of a finished fit.")]


@app.command(help_epilogue="example:  eqdisc fit data/fsir.csv --out runs/fsir")
def fit(
    data: Tables,
    /,
    *,
    out: Annotated[
        Path | None,
        Parameter(group=OUTPUT, help="Run folder, or folder of runs for several tables [default: runs/NAME-TIME]."),
    ] = None,
    roles: Roles = Roles(),
    validate: Annotated[Path | None, Parameter(group=SEARCH, help="Table that is simulated and never fitted.")] = None,
    config: Annotated[FitConfig, Parameter(name="*", group=SEARCH)] = FitConfig(),
    work: Work = Work(),
    output: Output = Output(),
    profile: Annotated[
        bool,
        Parameter(group=OUTPUT, negative="", help="Say on standard error where the time went and how much memory."),
    ] = False,
) -> int:
    """Find the law behind a table."""
    from .runs.batch import Batch, expand
    from .runs.folder import default_folder, refuse_taken
    from .runs.job import Job

    if validate is not None and config.held_out:
        raise OptionError("--validate and --held-out both say what is unseen; use one of them.")
    tables, words = expand(data), tuple(sys.argv)
    if not tables:
        raise OptionError("there is no table to fit; name one.")
    if profile and len(tables) > 1:
        raise OptionError("--profile is of one table; leave it out, or name one.")
    with work.crew() as crew:
        if len(tables) > 1:
            batch = Batch.of(tables, out, config, asdict(roles), validate, words)
            batch.begin()
            return _fit_all(batch, crew, output)
        folder = out or default_folder(tables[0])
        refuse_taken(folder)
        job = Job(tables[0], folder, config, asdict(roles), validate, words)
        return _fenced(partial(_fit, job, crew, output, profile), folder)


def _fit(job: Job, crew: Crew, output: Output, profiled: bool) -> int:
    """Do one job and answer; return the exit status."""
    from .runs.job import start
    from .runs.progress import open_progress
    from .work.timing import Timing

    timing = Timing.of_process()
    with open_progress(output.quiet) as progress:
        ending = start(job, progress, output.tell, crew, timing)
    status = _answer(ending, output)
    if profiled:
        from .runs.text import write_timing

        timing.end("printing")
        print(write_timing(timing), file=sys.stderr)
    return status


def _answer(ending: Ending, output: Output, title: str = "") -> int:
    """Print what a fit has found; return the exit status."""
    from .runs.text import write_answer

    run = ending.run
    text = "" if output.json else write_answer(run)
    output.answer(f"{title}\n\n{text}\n" if title else text, run.result, one_of_many=bool(title))
    output.tell(f"saved in {run.folder}")
    return INTERRUPTED if ending.interrupted else STATUS_OF[run.verdict]


def _fit_all(batch: Batch, crew: Crew, output: Output) -> int:
    """Do what is left of a batch and answer table by table as they end; return the exit status."""
    from .runs.progress import open_progress

    if len(batch.left) < len(batch.jobs):
        output.tell(f"{len(batch.jobs) - len(batch.left)} of {len(batch.jobs)} tables had ended before.")
    statuses = [FOUND]
    try:
        with open_progress(output.quiet) as progress:
            for job, future in batch.fit(crew, progress):
                with progress.hidden():
                    statuses.append(_fenced(lambda: _answer_one(job, future.result(), output), job.folder))  # noqa: B023
                if statuses[-1] == INTERRUPTED:
                    raise KeyboardInterrupt
    except KeyboardInterrupt:
        _say(f"interrupted; eqdisc resume {batch.folder} goes on with what is left.")
        return INTERRUPTED
    output.tell(f"saved in {batch.folder}")
    return max(status for status in statuses if status != NOTHING)


def _answer_one(job: Job, ending: Ending, output: Output) -> int:
    """Print what was found in one table of many; return its status."""
    for note in ending.notes:
        output.tell(note)
    return _answer(ending, output, os.path.relpath(job.table))


@app.command(help_epilogue="example:  eqdisc check data/fsir.csv")
def check(
    data: Table,
    /,
    *,
    out: Annotated[Path | None, Parameter(group=OUTPUT, help="Picture of what was read (.png, .svg, .pdf).")] = None,
    roles: Roles = Roles(),
    output: Output = Output(),
) -> int:
    """Say what a table can support, each warning with its cure."""
    from dataclasses import asdict

    from .data.check import diagnose

    if out is not None and out.suffix not in PICTURES:
        raise OptionError(f"--out {out}: the picture is {', '.join(PICTURES)}; name a file that ends so.")
    read = roles.read(data, output)
    found = diagnose(read)
    output.answer("\n".join(found.lines()), asdict(found))
    if out is not None:
        from .runs.plotting import plot_check, render
        from .work.files import replacing

        with replacing(out) as draft:
            draft.write_bytes(render(plot_check(read, found), out.suffix[1:]))
        output.tell(f"saved in {out}")
    return FOUND


@app.command(help_epilogue="example:  eqdisc show runs/fsir --to latex")
def show(
    run: Folder,
    /,
    *,
    front: Annotated[bool, Parameter(negative="", help="Every law on the front, with its equations.")] = False,
    to: Annotated[
        Literal["unicode", "latex", "sympy"] | None, Parameter(help="The equations alone, in this form.")
    ] = None,
    output: Output = Output(),
) -> int:
    """Show the law, the front and the verdict of a run."""
    from .runs.text import write_answer, write_equations, write_front

    if front and to is not None:
        raise OptionError("--front shows every law in its readable form; leave out --to.")
    found = _load(run, output)
    if to is not None:
        lines = write_equations(found, to)
        output.answer("\n".join(lines), dict(zip(found.states, lines, strict=True)))
    elif front:
        output.answer(write_front(found, equations=True), found.front)
    else:
        output.answer(write_answer(found), found.result)
    return FOUND


@app.command(help_epilogue="example:  eqdisc simulate runs/fsir --x0 S=99,I=1,R=0 --t-end 200 --out sim.csv")
def simulate(
    run: Folder,
    /,
    *,
    x0: Annotated[str | None, Parameter(help="Initial state, S=99,I=1; states left out start as in the data.")] = None,
    t_end: Annotated[float | None, Parameter(help="Last time [default: the data's times].")] = None,
    out: Annotated[Path | None, Parameter(group=OUTPUT, help="CSV file [default: standard output].")] = None,
    output: Output = Output(),
) -> int:
    """Simulate the law of a run: every trajectory from its estimated start, or one from --x0."""
    from .work.files import replacing
    from .work.status import Status

    found = _load(run, output)
    curves = found.simulate(None if x0 is None else _read_x0(x0), t_end=t_end)
    for name, curve in curves.items():
        if curve.status is not Status.OK:
            output.tell(
                f"warning: trajectory {name} ends at {found.result['time']} = {curve.end:g}. {curve.status.advice}"
            )
    rows = [[name, *row] for name, curve in curves.items() for row in _rows(curve.t, curve.x)]
    header = ["trajectory", found.result["time"], *found.states]
    facts = [dict(zip(header, row, strict=True)) for row in rows]
    if out is None:
        output.answer(_csv([header, *rows]).rstrip("\n"), facts)
        return FOUND
    with replacing(out) as draft:
        draft.write_text(json.dumps(facts, indent=2) if output.json else _csv([header, *rows]), encoding="utf-8")
    output.tell(f"saved in {out}")
    return FOUND


def _rows(t: Any, x: Any) -> list[list[float]]:
    return [[time, *state] for time, state in zip(t.tolist(), x.tolist(), strict=True)]


def _csv(rows: list[list[Any]]) -> str:
    import csv
    import io

    page = io.StringIO()
    csv.writer(page, lineterminator="\n").writerows(rows)
    return page.getvalue()


def _read_x0(text: str) -> dict[str, float]:
    """Read S=99,I=1; a name may hold an equals sign, but no comma."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not equals or not abs(number) < float("inf"):
            raise OptionError(f"--x0 holds {part!r}; write each state with its value, such as S=99,I=1.")
        if name.strip() in found:
            raise OptionError(f"--x0 names {name.strip()!r} twice.")
        found[name.strip()] = number
    return found


@app.command(help_epilogue="example:  eqdisc report runs/fsir --out fsir.html")
def report(
    run: Folder,
    /,
    *,
    out: Annotated[Path | None, Parameter(group=OUTPUT, help="HTML file [default: RUN/report.html].")] = None,
    output: Output = Output(),
) -> int:
    """Write a run as one page of HTML that needs nothing else."""
    from .runs.report import write_report
    from .work.files import replacing

    place = run / "report.html" if out is None else out
    page = write_report(_load(run, output))
    with replacing(place) as draft:
        draft.write_text(page, encoding="utf-8")
    output.answer(f"saved in {place}", {"report": str(place)})
    return FOUND


@app.command(help_epilogue="example:  eqdisc export runs/fsir --to python --out fsir.py")
def export(
    run: Folder,
    /,
    *,
    to: Annotated[
        Literal["python", "julia", "c", "stan", "sbml", "latex", "sympy", "json"],
        Parameter(help="Programs (python, julia, c), models (stan, sbml), formulas (latex, sympy, json)."),
    ],
    out: Annotated[Path | None, Parameter(group=OUTPUT, help="File [default: standard output].")] = None,
    output: Output = Output(),
) -> int:
    """Write the law of a run in another language."""
    from .work.files import replacing

    text = _load(run, output).export(to)
    if out is None:
        output.answer(text.rstrip("\n"), {"to": to, "text": text})
        return FOUND
    with replacing(out) as draft:
        draft.write_text(text, encoding="utf-8")
    output.tell(f"saved in {out}")
    return FOUND


@app.command(help_epilogue="example:  eqdisc validate runs/fsir more.csv")
def validate(
    run: Folder,
    data: Annotated[Path, Parameter(help="A table with the same states that was not fitted.")],
    /,
    *,
    time: Annotated[str | None, Parameter(help="Column of times [default: that of the run].")] = None,
    trajectory: Annotated[str | None, Parameter(help="Column that tells trajectories apart.")] = None,
    output: Output = Output(),
) -> int:
    """Simulate the law of a run along trajectories it never saw, each from its own start; one that was fitted, from the fitted start."""
    from .runs.text import write_validation

    found = _load(run, output)
    found.refuse_hidden("fit both tables together to see whether one law holds for both")
    roles = {"states": list(found.states), "inputs": list(found.inputs) or None, "group": found.group or None}
    unseen = _read(data, output, time=time or found.result["time"], trajectory=trajectory, **roles)
    facts = _validate(found, unseen)
    output.answer(write_validation(facts, found.result["errors"].get("train")), facts)
    return FOUND


def _validate(run: Run, data: Dataset) -> dict[str, Any]:
    import numpy as np

    from .judge.validation import METRIC, score, stretches_unseen

    stretches = stretches_unseen(data)
    rows, squares, counts = [], [], []
    for k, stretch in zip(data.trajectories, stretches, strict=True):
        fitted = run.start_fitted(k)
        stretch = stretch if fitted is None else stretch._replace(start=fitted)
        one = score(run.law_of(k.group), [stretch], run.sigma)
        row = {"trajectory": k.name, "error": one.error, "status": one.status.name.lower(), "end": one.end}
        rows.append(row | {"fitted": fitted is not None})
        counts.append(np.isfinite(stretch.x).sum())
        squares.append(one.error**2 * counts[-1])
    horizon = max(float(s.t[-1] - s.t[0]) for s in stretches)
    error = float(np.sqrt(sum(squares) / sum(counts)))
    return {"metric": METRIC, "error": error, "horizon": horizon, "trajectories": rows}


@app.command(name="next", help_epilogue="example:  eqdisc next runs/west")
def propose(run: Folder, /, *, output: Output = Output()) -> int:
    """Propose the measurement that would separate the forms still standing; RUN/next.png shows what each foretells."""
    from .runs.design import propose_experiments
    from .runs.plotting import plot_experiment
    from .runs.text import write_experiments
    from .work.files import replacing

    found = _load(run, output)
    experiments = propose_experiments(found)
    with replacing(run / "next.png") as draft:
        plot_experiment(found, experiments[0]).savefig(draft, format="png")
    facts = [{**asdict(e), "x0": dict(zip(found.states, e.x0, strict=True))} for e in experiments]
    output.answer(write_experiments(found, experiments), facts)
    output.tell(f"saved in {run / 'next.png'}")
    return FOUND


@app.command(help_epilogue="example:  eqdisc resume runs/fsir")
def resume(
    run: Annotated[Path, Parameter(help="Folder of a fit, or of the fits of several tables.")],
    /,
    *,
    work: Work = Work(),
    output: Output = Output(),
) -> int:
    """Go on with a fit that was interrupted or killed, to the same law as if it had not been; the front so far is in RUN/front.csv."""
    from .runs.batch import LIST, Batch

    with work.crew() as crew:
        if (run / LIST).exists():
            return _fit_all(Batch.read(run), crew, output)
        return _fenced(partial(_go_on, run, crew, output), run)


def _go_on(folder: Path, crew: Crew, output: Output) -> int:
    """Go on with one fit and answer; return the exit status."""
    from .runs.job import resume
    from .runs.progress import open_progress

    with open_progress(output.quiet) as progress:
        ending = resume(folder, progress, crew)
    return _answer(ending, output)


@app.command(help_epilogue="example:  eqdisc rerun runs/fsir")
def rerun(run: Folder, /, *, output: Output = Output()) -> int:
    """Fit the data of a run again, as it was fitted, and compare with its result."""
    from .runs.job import repeat
    from .runs.progress import open_progress

    with open_progress(output.quiet) as progress:
        found = repeat(run, progress)
    output.answer(f"{run}: {found.sentence}.", {"same": found.same, **asdict(found)})
    return FOUND if found.same else UNUSABLE


@app.command(help_epilogue="example:  eqdisc compare data/fsir.csv --out runs/compared")
def compare(
    data: Table,
    /,
    *,
    roles: Roles = Roles(),
    seed: Annotated[int, Parameter(group=SEARCH, help="Seed of whatever is random.")] = 0,
    time_limit: Annotated[
        float | None, Parameter(group=SEARCH, help="Seconds for each method [default: 30 for those that never end].")
    ] = None,
    out: Annotated[
        Path | None, Parameter(group=OUTPUT, help="Folder for comparison.csv and comparison.png [default: none].")
    ] = None,
    output: Output = Output(),
) -> int:
    """Run other methods on the same split of a table, and say when a simple one suffices."""
    from .runs.progress import ShownJournal, open_progress

    if seed < 0:
        raise OptionError(f"--seed is {seed}; use a whole number from 0 on.")
    if time_limit is not None and not time_limit > 0:
        raise OptionError(f"--time-limit is {time_limit:g}; use seconds above 0.")
    table = roles.read(data, output)
    with open_progress(output.quiet) as progress:
        progress.show("loading", None, None, "")
        from .peers.comparison import compare  # torch is loaded here
        from .runs.text import write_comparison

        found = compare(table, seed=seed, time_limit=time_limit, journal=ShownJournal(progress))
    output.answer(write_comparison(found), found.facts())
    if out is not None:
        _save_comparison(found, out)
        output.tell(f"saved in {out}")
    return FOUND


def _save_comparison(found: Comparison, folder: Path) -> None:
    from .runs.plotting import plot_comparison
    from .work.files import replacing

    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "comparison.csv") as draft:
        found.write_csv(draft)
    with replacing(folder / "comparison.png") as draft:
        plot_comparison(found).savefig(draft, format="png")


@app.command(help_epilogue="example:  eqdisc systems fsir --out fsir.csv --noise 0.02")
def systems(
    name: Annotated[str | None, Parameter(help="A system of the catalogue [default: list them all].")] = None,
    /,
    *,
    out: Annotated[Path | None, Parameter(group=OUTPUT, help="Simulate the system into this table.")] = None,
    noise: Annotated[float, Parameter(help="Noise of that table, a share of each state's standard deviation.")] = 0.0,
    seed: Annotated[int, Parameter(help="Seed of that noise.")] = 0,
    output: Output = Output(),
) -> int:
    """List known laws, describe one, or simulate one into a table."""
    from dataclasses import asdict

    from .law.catalogue import catalogue

    known = catalogue()
    if name is None:
        if out is not None or noise:
            raise OptionError("--out and --noise need a system; name one, such as eqdisc systems fsir --out fsir.csv.")
        lines = [f"{s.name:28s}{s.title}" for s in known.values()]
        output.answer("\n".join(lines), [asdict(s) for s in known.values()])
        return FOUND
    from .work.errors import did_you_mean

    if name not in known:
        raise OptionError(f"the catalogue has no {name!r}.{did_you_mean(name, known)} eqdisc systems lists them all.")
    if out is not None:
        _write_system(name, out, noise, seed)
        output.tell(f"saved in {out}")
        return FOUND
    if noise:
        raise OptionError("--noise needs --out: it is added to the table that is simulated.")
    output.answer(_describe(known[name]), asdict(known[name]))
    return FOUND


def _write_system(name: str, out: Path, noise: float, seed: int) -> None:
    from .data.tables import write_table
    from .law.catalogue import simulate_system
    from .work.files import replacing

    data = simulate_system(name, noise=noise, seed=seed)
    with replacing(out) as draft:
        write_table(data, draft)


def _describe(system: Any) -> str:
    lines = [f"{system.name}: {system.title}", *(f"  d{s}/dt = {text}" for s, text in system.equations.items())]
    if system.parameters:
        lines.append("  " + ", ".join(f"{p} = {v:g} {system.units[p]}".rstrip() for p, v in system.parameters.items()))
    lines += [f"  from {', '.join(f'{v:g}' for v in x0)}" for x0 in system.x0]
    lines.append(f"  to t = {system.span:g} {system.time_unit}".rstrip() + f", {system.samples} samples")
    return "\n".join([*lines, f"  source: {system.source}"])


@app.command(help_epilogue="example:  eqdisc benchmark smoke --out runs/smoke")
def benchmark(
    suite: Annotated[
        str, Parameter(help="all, smoke, powers, polynomials, rational, transcendental, or names with commas.")
    ] = "all",
    /,
    *,
    out: Annotated[
        Path, Parameter(group=OUTPUT, help="Folder of rows, summary and picture; what is there is not run again.")
    ] = Path("runs/benchmark"),
    noise: Annotated[tuple[float, ...], Parameter(consume_multiple=True, help="Shares of the standard deviation.")] = (
        0.0,
        0.01,
        0.02,
        0.05,
    ),
    samples: Annotated[
        tuple[int, ...], Parameter(consume_multiple=True, help="Samples a record [default: each system's own].")
    ] = (),
    starts: Annotated[tuple[int, ...], Parameter(consume_multiple=True, help="Records of each system.")] = (1,),
    seeds: Annotated[tuple[int, ...], Parameter(consume_multiple=True, help="Seeds of noise and search.")] = (0,),
    time_limit: Annotated[float | None, Parameter(help="Seconds after which one fit ends with what it has.")] = None,
    work: Work = Work(),
    output: Output = Output(),
) -> int:
    """Measure what is recovered of the catalogue's laws."""
    from .benchmarks.benchmark import list_tasks, read_rows, run_benchmark, write_benchmark, write_summary
    from .runs.progress import open_progress

    tasks = list_tasks(suite, noise, samples, starts, seeds)
    if not tasks:
        raise OptionError("nothing is to be measured: no system has so many starts.")
    with work.crew() as crew, open_progress(output.quiet) as progress:
        progress.show("fits", 0, len(tasks), "")
        for done, row in run_benchmark(tasks, out, crew, time_limit):
            progress.show("fits", done, len(tasks), f"{row['system']}, noise {row['noise']:g}")
    wanted = {task.key for task in tasks}
    rows = [row for row in read_rows(out / "rows.csv") if tuple(row.values())[: len(tasks[0].key)] in wanted]
    summary = write_summary(rows, out)
    output.answer(write_benchmark(summary), summary.to_dict("records"))
    output.tell(f"saved in {out}")
    return FOUND


@app.command(help_epilogue="example:  eqdisc reproduce tableA2 --budget smoke --out runs/tableA2")
def reproduce(
    target: Annotated[str, Parameter(help=TARGETS)],
    /,
    *,
    variant: Annotated[
        Literal["coded", "printed"],
        Parameter(name="--as", help="What the paper's code does, or what its text says."),
    ] = "coded",
    budget: Annotated[
        Literal["smoke", "full"], Parameter(help="smoke: seconds, to see that it runs; full: as long as the paper.")
    ] = "smoke",
    out: Annotated[
        Path | None,
        Parameter(
            group=OUTPUT,
            help="Folder of rows, table and picture; what is there is not run again [default: runs/reproduce/TARGET].",
        ),
    ] = None,
    output: Output = Output(),
) -> int:
    """Train a figure or table of the Neural Power Units paper anew, with its numbers beside ours."""
    from .paper.experiment import find, read_rows, run, write_results
    from .runs.progress import open_progress

    experiment = find(target)
    folder = out or Path("runs/reproduce") / target
    with open_progress(output.quiet) as progress:

        def tell(share: float, text: str) -> None:
            progress.show(target, round(100 * share), 100, text)

        for _ in run(experiment, variant, budget, folder, tell):
            pass
    chosen = [r for r in read_rows(folder / "rows.csv") if (r["variant"], r["budget"]) == (variant, budget)]
    output.answer(write_results(experiment, chosen, folder), chosen)
    output.tell(f"saved in {folder}")
    return FOUND


def _load(folder: Path, output: Output) -> Run:
    from .runs.run import load

    run = load(folder)
    written = run.result.get("eqdisc", __version__)
    if written != __version__:
        output.tell(f"warning: {folder} was written by eqdisc {written}; this is {__version__}.")
    return run


# The fence around every command


def run() -> None:
    """Run the command line as a process of its own and end it with the exit status.

    Python's collector of cycles has little to find among half a million objects that loading made: looking there less often saves 0.3 s
    of a fit, not looking at them once more at the end 0.7 s.
    """
    gc.set_threshold(10_000)
    status = main()
    gc.freeze()
    sys.exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status; no exception leaves but what ends Python itself."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that has no sqrt sign gets a question mark
    words = list(sys.argv[1:] if arguments is None else arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", DataWarning)
        warnings.simplefilter("default", SpeedWarning)
        warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
        return _fenced(lambda: app(words, exit_on_error=False, print_error=False, result_action="return_value"), None)


def _fenced(work: Callable[[], int | None], folder: Path | None) -> int:
    """Do the work and turn whatever is raised into one sentence and a status."""
    try:
        return work() or FOUND
    except CycloptsError as error:
        _say(f"{error} See eqdisc --help.")
        return MISTYPED
    except EqdiscError as error:
        _say(str(error))
        return UNUSABLE
    except KeyboardInterrupt:
        _say("interrupted.")
        return INTERRUPTED
    except OSError as error:
        _say(f"{error.filename or 'a file'}: {error.strerror or error}.")
        return UNUSABLE
    except MemoryError:
        _say("the memory is not enough for this table; use fewer rows or fewer --restarts.")
        return UNUSABLE
    except Exception as error:
        kind, log = type(error).__name__, _write_log(folder)
        _say(f"something went wrong that should not ({kind}); please report it with {log}.")
        return UNUSABLE


def _say(sentence: str) -> None:
    print(f"eqdisc: {sentence}", file=sys.stderr, flush=True)


def _write_log(folder: Path | None) -> Path:
    """Write the exception at hand to RUN/error.log, or to the temporary folder where there is no run."""
    import tempfile
    import traceback

    place = (folder if folder is not None and folder.is_dir() else Path(tempfile.gettempdir())) / "error.log"
    place.write_text(f"eqdisc {__version__}\n{sys.argv}\n{traceback.format_exc()}", encoding="utf-8")
    return place
