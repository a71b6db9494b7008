"""Endurance: fits that are killed at random moments and gone on with, fits by the thousand in one process, and many tables whose
workers are killed.

python -m eqdisc.benchmarks.endurance kills data/fsir.csv --count 50
python -m eqdisc.benchmarks.endurance late data/fsir.csv --share 0.8
python -m eqdisc.benchmarks.endurance limits data/fsir.csv --limit 10
python -m eqdisc.benchmarks.endurance soak --count 1000
python -m eqdisc.benchmarks.endurance crew --count 200
python -m eqdisc.benchmarks.endurance pace --count 100 --repeats 3
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from ..runs.run import differ
from ..work.checkpoint import count_steps
from ..work.memory import resident

COMMAND = (sys.executable, "-m", "eqdisc")
PATIENCE = 600.0  # seconds for one fit
TIMES = np.linspace(0.0, 5.0, 12)  # of a small table


def begin_fit(table: Path, run: Path, options: Sequence[str]) -> subprocess.Popen[bytes]:
    """Begin a fit in a process of its own."""
    words = [*COMMAND, "fit", str(table), "--out", str(run), "--quiet", *options]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL)


def fit_until(table: Path, run: Path, share: float, seconds: float, options: Sequence[str] = ()) -> float:
    """Begin a fit and kill it `share` of `seconds` after config.json stands; return the seconds until that stood."""
    begin, process = time.monotonic(), begin_fit(table, run, options)
    while not (run / "config.json").exists() and process.poll() is None:
        time.sleep(0.002)
    stood = time.monotonic() - begin
    try:
        process.wait(share * seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return stood


def run_whole(words: Sequence[str]) -> float:
    """Run a command to its end and return how long it took; raises RuntimeError where it ends with 1 or 2."""
    begin = time.monotonic()
    done = subprocess.run([*COMMAND, *words, "--quiet"], capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode not in (0, 3):
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr}")
    return time.monotonic() - begin


def compare_runs(one: Path, other: Path) -> list[str]:
    """Return where the results of two runs differ, but for the time they took."""
    facts = [json.loads((run / "result.json").read_text(encoding="utf-8")) for run in (one, other)]
    return [place for place, _ in differ(*facts) if place not in ("seconds", "data.file")]


def kill(table: Path, count: int, seed: int, options: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Kill `count` fits at random moments, go on with each, and yield what came of it."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        whole = Path(place) / "whole"
        stood = fit_until(table, whole, 1.0, PATIENCE, options)
        seconds = run_whole(["fit", str(table), "--out", f"{place}/again", *options])
        searching = seconds - stood
        for number in range(count):
            run, share = Path(place) / str(number), rng.random()
            stood = fit_until(table, run, share, searching, options)
            kept, ended = count_steps(run / "checkpoint" / "steps"), (run / "result.json").exists()
            took = run_whole(["resume", str(run)])
            yield {
                "share": round(share, 3),
                "stood": round(stood, 2),
                "steps": kept,
                "had ended": ended,
                "resume": round(took / seconds, 2),
                "differences": compare_runs(whole, run),
            }


def count_kills(table: Path, count: int, seed: int, options: Sequence[str]) -> Iterator[str]:
    """Yield what came of each kill, then how many fits ended in the same result."""
    same = 0
    for row in kill(table, count, seed, options):
        same += not row["differences"]
        yield str(row)
    yield f"{same} of {count} the same to the last bit"


def soak(count: int) -> Iterator[str]:
    """Fit `count` small tables in this process; yield the number done and the megabytes held, every fifty."""
    from ..data.dataset import Dataset, Trajectory
    from ..discovery import discover
    from ..work.config import FitConfig

    for number in range(1, count + 1):
        x = 2.0 * np.exp(-rate_of(number) * TIMES)[:, None]
        discover(Dataset((Trajectory(TIMES, x),), ("x",)), FitConfig(seed=number))
        if number % 50 == 0:
            gc.collect()
            yield f"{number} fits, {1e3 * resident():.1f} MB"


def rate_of(number: int) -> float:
    """Return at what rate the state of a small table decays."""
    return 0.2 + 0.6 * (number % 50) / 50


def write_tables(folder: Path, count: int) -> None:
    """Write `count` small tables."""
    for number in range(count):
        rows = [f"{t!r},{2.0 * float(np.exp(-rate_of(number) * t))!r}" for t in TIMES.tolist()]
        (folder / f"{number:04d}.csv").write_text("\n".join(["t,x", *rows]) + "\n", encoding="utf-8")


def fit_many(folder: Path, out: str, options: Sequence[str]) -> subprocess.Popen[str]:
    """Begin to fit the tables of a folder; a line of standard output is an answer."""
    words = [*COMMAND, "fit", str(folder / "*.csv"), "--out", str(folder / out), "--quiet", "--json", *options]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


@contextmanager
def cluster_of(workers: int, folder: Path) -> Iterator[tuple[str, list[int]]]:
    """Start a Dask scheduler and workers that nobody starts again; give the address and their process numbers."""
    place = folder / "scheduler.json"
    own = ["--scheduler-file", str(place), "--no-dashboard"]
    alone = [*own, "--nthreads", "1", "--no-nanny", "--local-directory", str(folder / "dask")]
    words = [["scheduler", *own, "--host", "127.0.0.1", "--port", "0"], *[["worker", *alone]] * workers]
    started = [
        subprocess.Popen([sys.executable, "-m", "dask", *some], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for some in words
    ]
    try:
        while not place.exists():
            time.sleep(0.1)
        yield json.loads(place.read_text(encoding="utf-8"))["address"], [process.pid for process in started[1:]]
    finally:
        for process in started:
            process.kill()
            process.wait()


def kill_workers(process: subprocess.Popen[str], count: int, workers: list[int], kills: int, seed: int) -> list[Any]:
    """Kill `kills` of the workers, each after a random number of answers; return the answers."""
    rng = random.Random(seed)
    moments = sorted(rng.sample(range(1, max(2, int(0.8 * count))), kills))
    answers: list[Any] = []
    assert process.stdout is not None
    for line in process.stdout:
        answers.append(json.loads(line))
        if moments and len(answers) >= moments[0]:
            del moments[0]
            here = [p.pid for p in psutil.Process(process.pid).children() if "spawn_main" in " ".join(p.cmdline())]
            victim = rng.choice(workers or here)
            if workers:
                workers.remove(victim)
            time.sleep(rng.random())
            os.kill(victim, signal.SIGKILL)
    process.wait()
    return answers


def lose_workers(count: int, kills: int, seed: int) -> Iterator[str]:
    """Fit `count` tables by one process, then by four here and four of a Dask cluster of which `kills` are killed; yield how they compare."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_tables(folder, count)
        begin = time.monotonic()
        assert fit_many(folder, "whole", ()).communicate()
        yield f"one process: {count} tables, {time.monotonic() - begin:.0f} s"
        with cluster_of(4, folder) as (address, workers):
            roads: tuple[tuple[str, list[int], list[str]], ...] = (
                ("processes", [], ["--workers", "4"]),
                ("cluster", workers, ["--scheduler", address]),
            )
            for name, some, options in roads:
                begin = time.monotonic()
                process = fit_many(folder, name, options)
                answers = kill_workers(process, count, some, kills, seed)
                tables = {answer["data"]["file"] for answer in answers}
                runs = filter(Path.is_dir, (folder / "whole").iterdir())
                same = sum(not compare_runs(run, folder / name / run.name) for run in runs)
                yield (
                    f"{name}, {kills} of 4 killed: status {process.returncode}, {len(answers)} answers for {len(tables)} tables, "
                    f"{same} of {count} runs equal to the last bit, {time.monotonic() - begin:.0f} s"
                )


def pace(count: int, repeats: int) -> Iterator[str]:
    """Fit `count` tables by one process and by two, in turn; yield how long they took, and tables a minute once all had started."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(repeats):
        for workers in rates:
            with tempfile.TemporaryDirectory() as place:
                write_tables(Path(place), count)
                begin, times = time.monotonic(), []
                process = fit_many(Path(place), "all", ["--workers", str(workers)])
                assert process.stdout is not None
                for _line in process.stdout:
                    times.append(time.monotonic() - begin)
                process.wait()
            warm = times[4 * workers - 1 :]
            rates[workers].append(60 * (len(warm) - 1) / (warm[-1] - warm[0]))
            yield f"{workers} at a time: {time.monotonic() - begin:.1f} s, {rates[workers][-1]:.1f} tables a minute"
    ratios = [two / one for one, two in zip(rates[1], rates[2], strict=True)]
    yield f"two to one: {', '.join(f'{r:.2f}' for r in ratios)}, median {np.median(ratios):.2f}"


def kill_late(table: Path, share: float, options: Sequence[str]) -> Iterator[str]:
    """Kill a fit after a share of the processor time of a whole one, which does not depend on what else the machine does."""
    with tempfile.TemporaryDirectory() as place:
        whole, run = Path(place) / "whole", Path(place) / "run"
        begin = processor_time()
        run_whole(["fit", str(table), "--out", str(whole), *options])
        seconds = processor_time() - begin
        process = begin_fit(table, run, options)
        watched = psutil.Process(process.pid)
        while process.poll() is None and sum(watched.cpu_times()[:2]) < share * seconds:
            time.sleep(0.02)
        process.kill()
        process.wait()
        size, begin = (run / "checkpoint" / "steps").stat().st_size / 1e6, processor_time()
        run_whole(["resume", str(run)])
        took = processor_time() - begin
        yield f"whole {seconds:.1f} s, resumed after {100 * share:.0f} %: {took:.1f} s = {100 * took / seconds:.0f} %"
        yield f"checkpoint {size:.1f} MB, differences {compare_runs(whole, run)}"


def limit(table: Path, seconds: float, options: Sequence[str]) -> Iterator[str]:
    """Fit within a time limit, and interrupt another fit at that time; yield when both ended."""
    with tempfile.TemporaryDirectory() as place:
        took = run_whole(["fit", str(table), "--out", f"{place}/limited", "--time-limit", f"{seconds:g}", *options])
        held = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        yield f"--time-limit {seconds:g}: ended after {took:.1f} s, the whole process, and held {held:.2f} GB at most"
        process = begin_fit(table, Path(place) / "interrupted", options)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            begin = time.monotonic()
            process.send_signal(signal.SIGINT)
            process.wait()
            yield f"Ctrl-C after {seconds:g} s: ended {time.monotonic() - begin:.1f} s later with {process.returncode}"


def processor_time() -> float:
    """Return the processor seconds of all commands that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


EXPERIMENTS: dict[str, Callable[[argparse.Namespace], Iterator[str]]] = {
    "kills": lambda given: count_kills(given.table, given.count, given.seed, given.options.split()),
    "late": lambda given: kill_late(given.table, given.share, given.options.split()),
    "limits": lambda given: limit(given.table, given.limit, given.options.split()),
    "soak": lambda given: soak(given.count),
    "crew": lambda given: lose_workers(given.count, given.kills, given.seed),
    "pace": lambda given: pace(given.count, given.repeats),
}
COUNTS = {"kills": 50, "late": 1, "limits": 1, "soak": 1000, "crew": 200, "pace": 100}


def main(words: Sequence[str] | None = None) -> None:
    """Run one of the experiments and print a line for each step."""
    parser = argparse.ArgumentParser(prog="python -m eqdisc.benchmarks.endurance")
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind, count in COUNTS.items():
        one = kinds.add_parser(kind)
        if kind in ("kills", "late", "limits"):
            one.add_argument("table", type=Path)
            one.add_argument("--options", default="", help="options of eqdisc fit, in one text")
        one.add_argument("--count", type=int, default=count)
        one.add_argument("--seed", type=int, default=0)
        for option, kind_of, default in (
            ("share", float, 0.8),
            ("limit", float, 10.0),
            ("kills", int, 3),
            ("repeats", int, 3),
        ):
            one.add_argument(f"--{option}", type=kind_of, default=default)
    given = parser.parse_args(words)
    for line in EXPERIMENTS[given.kind](given):
        print(line, flush=True)


if __name__ == "__main__":
    main()
