"""Crews: the same results from every one, in whatever order; a worker that dies costs its task a second start and nobody else anything."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crew_tasks import die_once, die_over, refuse
from stand_in import discovery_of

from eqdisc.benchmarks.endurance import cluster_of, compare_runs, fit_many, write_tables
from eqdisc.cli import FOUND, UNUSABLE, main
from eqdisc.data.tables import read_table
from eqdisc.discovery import discover
from eqdisc.law.catalogue import simulate_system
from eqdisc.runs.batch import LIST, SUMMARY, Batch, expand, fit_one
from eqdisc.runs.folder import create_run
from eqdisc.runs.job import Job, start, take_up
from eqdisc.runs.run import load
from eqdisc.work.config import FitConfig
from eqdisc.work.crew import TRIES, Crew
from eqdisc.work.errors import OptionError, RunError
from eqdisc.work.progress import Progress

PATIENCE = 60.0


@pytest.fixture
def three(tmp_path: Path) -> Path:
    write_tables(tmp_path, 3)
    return tmp_path


def words_for(folder: Path, out: str, *more: str) -> list[str]:
    return ["fit", str(folder / "*.csv"), "--out", str(folder / out), "--quiet", "--json", *more]


# Processes of this machine


def test_what_a_dead_worker_was_doing_is_done_again(tmp_path: Path) -> None:
    with Crew(2) as crew:
        found = {number: future.result() for number, future in crew.spread(die_once, [(tmp_path, k) for k in range(3)])}
    assert found == {0: 0, 1: 1, 2: 2}


def test_a_task_over_which_every_worker_dies_fails_alone(tmp_path: Path) -> None:
    with Crew(2) as crew:
        found = dict(crew.spread(die_over, [(tmp_path, 1, k) for k in range(5)]))
    with pytest.raises(RunError, match=f"given up because every worker that took it up died, {TRIES}"):
        found.pop(1).result()
    assert {number: future.result() for number, future in found.items()} == {0: 0, 2: 2, 3: 3, 4: 4}
    calls = {path.name: len(path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()}
    assert calls == {"0": 1, "1": TRIES, "2": 1, "3": 1, "4": 1}, "a death costs nobody else anything"


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_task_raises_is_its_own(workers: int) -> None:
    with Crew(workers) as crew:
        found = dict(crew.spread(refuse, [(k,) for k in range(3)]))
    assert (found[0].result(), found[2].result()) == (0, 2)
    with pytest.raises(OptionError, match="one is refused"):
        found[1].result()


def test_workers_end_with_whoever_started_them() -> None:
    code = (
        "import os, time\nfrom eqdisc.work.crew import Crew\n"
        "if __name__ == '__main__':\n"
        "    with Crew(2) as crew:\n"
        "        print(*(f.result() for _, f in crew.spread(os.getpid, [(), ()])), flush=True)\n"
        "        list(crew.spread(time.sleep, [(60,), (60,)]))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        workers = [int(word) for word in process.stdout.readline().split()]
        assert workers
        process.kill()
    deadline = time.monotonic() + PATIENCE
    while any(is_alive(worker) for worker in workers):
        assert time.monotonic() < deadline, "a worker lives on after its parent was killed"
        time.sleep(0.05)


def is_alive(number: int) -> bool:
    """Tell whether a process runs; one that has ended and waits to be seen off does not."""
    import psutil

    return bool(psutil.pid_exists(number)) and psutil.Process(number).status() != psutil.STATUS_ZOMBIE


def test_told_to_stop_a_crew_does_not_wait_for_what_it_does() -> None:
    begin = time.monotonic()
    with Crew(2) as crew:
        assert list(crew.spread(time.sleep, [(PATIENCE,)] * 2, stop=lambda: time.monotonic() > begin + 0.3)) == []
    assert time.monotonic() - begin < PATIENCE / 2


def test_a_crew_that_cannot_be_is_refused() -> None:
    with pytest.raises(OptionError, match="workers is 0"):
        Crew(0)
    with pytest.raises(OptionError, match="both say who does the work"):
        Crew(2, "tcp://127.0.0.1:1")


# Bootstraps and random starts


def test_replicates_and_random_starts_are_the_same_from_two_workers(tmp_path: Path) -> None:
    data = simulate_system("logistic", samples=24, noise=0.02, seed=1)
    config = FitConfig(search="network", restarts=20, chain="realnpu:3,nau", bootstrap=12)
    alone = discover(data, config).result()
    with Crew(2) as crew:
        shared = discover(data, config, crew=crew).result()
    assert shared.pop("seconds") != alone.pop("seconds")
    assert shared == alone
    assert alone["bootstrap"]["count"] == 12


# Many tables


def test_a_pattern_stands_for_its_files_once(three: Path) -> None:
    (three / "folder.csv").mkdir()
    assert [path.name for path in expand([three / "*.csv", three / "0001.csv"])] == ["0000.csv", "0001.csv", "0002.csv"]
    with pytest.raises(OptionError, match=r"no file matches .*none\*\.csv"):
        expand([three / "none*.csv"])


def test_many_tables_end_alike_from_two_workers_and_are_taken_up_where_they_were_left(
    three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (three / "bad.csv").write_text("t,x\n0,a\n1,b\n", encoding="utf-8")
    assert main(words_for(three, "one")) == UNUSABLE
    assert "bad.csv" in capsys.readouterr().err
    whole = json.loads((three / "one" / LIST).read_text(encoding="utf-8"))
    (three / "bad.csv").unlink()
    # The second batch was interrupted: one run is finished, one begun, one half made, one not there
    batch = Batch.of(expand([three / "*.csv"]), Job(three, three / "two"))
    batch.begin()
    start(batch.jobs[0], Progress(), print)
    create_run(three / "two" / "0001", read_table(three / "0001.csv"), FitConfig(), source=three / "0001.csv")
    (three / "two" / "0002").mkdir()
    (three / "two" / "0002" / "data.csv").write_text("t,x\n", encoding="utf-8")
    before = (three / "two" / "0000" / "result.json").stat().st_mtime_ns
    assert main(["resume", str(three / "two"), "--workers", "2", "--json", "--quiet"]) == FOUND
    assert len(capsys.readouterr().out.splitlines()) == 2, "what had ended is not said twice"
    assert (three / "two" / "0000" / "result.json").stat().st_mtime_ns == before
    for number in ("0000", "0001", "0002"):
        assert compare_runs(three / "one" / number, three / "two" / number) == []
    with (three / "one" / SUMMARY).open(encoding="utf-8") as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    assert list(rows) == [one["run"] for one in whole["tables"]] == ["0000", "0001", "0002", "bad"]
    assert (rows["bad"]["verdict"], rows["0000"]["verdict"]) == ("failed", "identified")
    assert "bad.csv" in rows["bad"]["message"]
    assert rows["0001"]["equations"] == "dx/dt = -0.212*x"


def test_a_folder_that_holds_a_batch_is_not_overwritten(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Batch.of(expand([three / "*.csv"]), Job(three, three / "all")).begin()
    assert main(words_for(three, "all")) == UNUSABLE
    assert "holds a batch of tables already; eqdisc resume" in capsys.readouterr().err
    (three / "all" / LIST).write_text("{}", encoding="utf-8")
    assert main(["resume", str(three / "all")]) == UNUSABLE
    assert "is no list of tables" in capsys.readouterr().err


def test_what_a_list_says_is_read_again(three: Path) -> None:
    roles = {"time": "t", "states": None}
    config = FitConfig(seed=3, sign=("x -> x: -",))
    job = Job(three, three / "all", config, roles, three / "0000.csv", ("eqdisc", "fit"))
    batch = Batch.of(expand([three / "*.csv"]), job)
    batch.begin()
    assert Batch.read(three / "all") == batch
    text = (three / "all" / LIST).read_text(encoding="utf-8")
    (three / "all" / LIST).write_text(text.replace('"run": "0001"', '"run": ".."'), encoding="utf-8")
    with pytest.raises(RunError, match="a run is not in the folder"):
        Batch.read(three / "all")


def test_a_fit_that_was_finished_is_not_begun_again(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(
        "eqdisc.discovery.discover", lambda data, *_, **__: calls.append(data.file) or discovery_of(data)
    )
    job = Job(three / "0000.csv", three / "run")
    assert [take_up(job, Progress(), print, 0.0).interrupted for _ in range(2)] == [False, False]
    assert len(calls) == 1


def test_a_worker_that_does_not_see_the_files_says_so(three: Path) -> None:
    with pytest.raises(RunError, match=r"does not see .*gone\.csv; put tables and run folders on a file system"):
        fit_one(Job(three / "gone.csv", three / "run"), [three / "gone.csv"], Progress())


def test_too_few_workers_are_refused(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words_for(three, "all", "--workers", "0")) == UNUSABLE
    assert "--workers is 0" in capsys.readouterr().err
    assert main(words_for(three, "all", "--workers", "2", "--scheduler", "tcp://127.0.0.1:1")) == UNUSABLE
    assert "use one of them" in capsys.readouterr().err


# A cluster


def test_a_cluster_that_loses_a_worker_finds_everything_once(three: Path) -> None:
    with cluster_of(2, three) as (address, workers), fit_many(three, "far", ["--scheduler", address]) as process:
        assert process.stdout is not None
        answers = [process.stdout.readline()]
        os.kill(workers[0], signal.SIGKILL)
        answers += process.stdout.readlines()
        assert process.wait(PATIENCE) == FOUND
    files = [Path(json.loads(answer)["data"]["file"]).name for answer in answers]
    assert sorted(files) == ["0000.csv", "0001.csv", "0002.csv"]
    start(Job(three / "0002.csv", three / "here"), Progress(), print)
    assert compare_runs(three / "here", three / "far" / "0002") == []
    np.testing.assert_allclose(
        [float(load(three / "far" / f"000{k}").equations.strings()["x"].split("*")[0]) for k in range(3)],
        [-0.2, -0.212, -0.224],
        rtol=1e-6,
    )


def test_a_scheduler_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("eqdisc.work.crew.PATIENCE", 0.5)
    for address in ("tcp://127.0.0.1:1", "nonsense://x"):
        with pytest.raises(RunError, match="no Dask scheduler answers at"):
            Crew(scheduler=address)
