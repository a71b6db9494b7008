"""A search that is interrupted goes on: its steps are kept, found again to the last bit, and no two processes share a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import law_of
from stand_in import discovery_of

from eqdisc.cli import FOUND, INTERRUPTED, UNUSABLE, main
from eqdisc.data.tables import read_table, write_table
from eqdisc.discovery import discover
from eqdisc.fit.fit import Fit
from eqdisc.law.catalogue import simulate_system
from eqdisc.law.law import Law, pack_laws, unpack_laws
from eqdisc.runs.folder import RunFolder, create_run, holding
from eqdisc.runs.job import Job, RunJournal, repeat, resume, start
from eqdisc.runs.run import differ, load, read_begun
from eqdisc.search.problem import Problem
from eqdisc.work.checkpoint import Checkpoint, count_steps
from eqdisc.work.config import FitConfig
from eqdisc.work.errors import RunError
from eqdisc.work.files import as_json
from eqdisc.work.journal import Form, digest
from eqdisc.work.progress import Progress

ABOUT = {"eqdisc": "test"}
NUMBER: Form[float] = Form(lambda v: {"v": np.array(v)}, lambda packed: float(packed["v"]))


class Killed(BaseException):
    """What kill -9 looks like from inside: nothing is caught, nothing is cleaned up."""


class Killing(RunJournal):
    """A journal in whose process the lights go out after so many steps were kept."""

    def __init__(self, *given: Any, after: int) -> None:
        super().__init__(*given)
        self.left = after

    def recall(self, step: str, inputs: Any, work: Any, form: Any) -> Any:
        found = super().recall(step, inputs, work, form)
        self.left -= 1
        if self.left < 0:
            raise Killed
        return found


@pytest.fixture(autouse=True)
def _closing_every_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close what a test leaves open, as the end of a process does."""
    logs: list[Checkpoint] = []
    opened = Checkpoint._open
    monkeypatch.setattr(Checkpoint, "_open", lambda self, head: (logs.append(self), opened(self, head))[1])
    yield
    for log in logs:
        log.close()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "decay.csv"
    t = np.linspace(0, 5, 14)
    path.write_text("t,x\n" + "\n".join(f"{a},{2 * np.exp(-0.5 * a)}" for a in t.tolist()) + "\n")
    return path


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    found = discover(simulate_system("lotka_volterra", samples=30, noise=0.02, seed=1)).result()
    return {key: v for key, v in as_json(found).items() if key != "seconds"}


def journal(folder: Path, kind: Any = RunJournal, **more: Any) -> Any:
    folder.mkdir(exist_ok=True)
    run = RunFolder(folder)
    return kind(run, Progress(), Checkpoint(run.steps, ABOUT), **more)


@pytest.mark.parametrize("after", [3, 60])
def test_a_search_that_is_killed_ends_the_same_to_the_last_bit(after: int, whole: Any, tmp_path: Path) -> None:
    data = simulate_system("lotka_volterra", samples=30, noise=0.02, seed=1)
    with pytest.raises(Killed):
        discover(data, journal=journal(tmp_path / "run", Killing, after=after))
    kept = count_steps(tmp_path / "run/checkpoint/steps")
    assert kept >= min(after, 3)
    again = journal(tmp_path / "run")
    found = as_json(discover(data, journal=again).result())
    assert list(differ({key: v for key, v in found.items() if key != "seconds"}, whole)) == []
    assert len(again.checkpoint) > kept


def test_every_finished_step_is_found_again_and_none_is_done_twice(tmp_path: Path) -> None:
    data = simulate_system("lotka_volterra", samples=30, noise=0.02, seed=1)
    first = journal(tmp_path / "run")
    discover(data, journal=first)
    steps = len(first.checkpoint)
    first.checkpoint.close()
    second = journal(tmp_path / "run")
    done = []
    put = second.checkpoint.put
    second.checkpoint.put = lambda key, arrays: (done.append(key), put(key, arrays))
    discover(data, journal=second)
    assert (done, len(second.checkpoint)) == ([], steps)


@settings(deadline=None)  # a busy disk
@given(st.binary(max_size=60), st.integers(0, 400))
def test_half_a_record_and_what_follows_it_are_cut_off(tmp_path_factory: Any, junk: bytes, cut: int) -> None:
    path = tmp_path_factory.mktemp("log") / "checkpoint" / "steps"
    log = Checkpoint(path, ABOUT)
    for k in range(3):
        log.put(digest(k), {"v": np.full(4, float(k))})
    log.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - cut] + junk)
    again = Checkpoint(path, ABOUT)
    for k in range(len(again)):
        packed = again.get(digest(k))
        assert packed is not None
        np.testing.assert_array_equal(packed["v"], np.full(4, float(k)))
    again.put(digest("new"), {"v": np.ones(1)})
    again.close()
    final = Checkpoint(path, ABOUT)
    assert final.get(digest("new")) is not None
    assert len(final) == len(again)
    final.close()


def test_steps_of_another_version_are_not_taken(tmp_path: Path) -> None:
    log = Checkpoint(tmp_path / "checkpoint/steps", ABOUT)
    log.put(digest(1), {"v": np.ones(1)})
    log.close()
    assert len(Checkpoint(tmp_path / "checkpoint/steps", {"eqdisc": "other"})) == 0


def test_the_seconds_before_an_interruption_count(tmp_path: Path) -> None:
    log = Checkpoint(tmp_path / "checkpoint/steps", ABOUT)
    log._started -= 100.0
    log.put(digest(1), {"v": np.ones(1)})
    log.close()
    again = Checkpoint(tmp_path / "checkpoint/steps", ABOUT)
    assert 100.0 < again.spent < 110.0
    assert RunJournal(RunFolder(tmp_path), Progress(), again, FitConfig(time_limit=90.0)).stop
    assert not RunJournal(RunFolder(tmp_path), Progress(), again, FitConfig(time_limit=200.0)).stop


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_ends_in_a_sentence_and_leaves_what_was_kept(tmp_path: Path) -> None:
    log = Checkpoint(tmp_path / "run/checkpoint/steps", ABOUT)
    log.put(digest(1), {"v": np.ones(1)})
    code = (
        "import resource, signal, numpy as np; from pathlib import Path; from eqdisc.work.checkpoint import Checkpoint\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        f"log = Checkpoint(Path({str(tmp_path / 'run/checkpoint/steps')!r}), {ABOUT!r})\n"
        "log.put(b'2' * 16, {'v': np.ones(4000)})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "RunError" in done.stderr
    assert "go on with eqdisc resume" in done.stderr
    assert len(Checkpoint(tmp_path / "run/checkpoint/steps", ABOUT)) == 1


def test_fits_and_laws_come_back_to_the_last_bit() -> None:
    problem = Problem.of(simulate_system("lotka_volterra", samples=20, noise=0.02, seed=1))
    law = law_of([[1.0, 0.0], [1.0, 1.0]], np.array([[1.0, 0.0], [-0.1, 0.1]]))
    fit = problem.engine.fit(Law.stack([law]), problem.engine.mesh.states(problem.denoised), torch.ones(1, 2).double())
    again = Fit.unpack(fit.pack(), fit.x.device)
    assert digest(again) == digest(fit)
    assert digest(unpack_laws(pack_laws([law, law]))) == digest([law, law])


def test_a_run_belongs_to_one_process(table: Path, tmp_path: Path) -> None:
    create_run(tmp_path / "run", read_table(table), FitConfig())
    code = (
        "import sys; from pathlib import Path; from eqdisc.runs.folder import holding\n"
        f"with holding(Path({str(tmp_path / 'run')!r})):\n    print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match="is being written by another process"):
            resume(tmp_path / "run", Progress())
        other.kill()
    with holding(tmp_path / "run"):  # a lock dies with its process
        pass


def test_resume_takes_up_a_run_and_leaves_a_finished_one(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create_run(tmp_path / "run", read_table(table), FitConfig(), source=table)
    assert main(["resume", str(tmp_path / "run"), "--quiet"]) == FOUND
    assert "dx/dt = -0.5·x" in capsys.readouterr().out
    assert not (tmp_path / "run/checkpoint").exists()
    before = (tmp_path / "run/result.json").stat().st_mtime_ns
    assert main(["resume", str(tmp_path / "run"), "--quiet"]) == FOUND
    assert (tmp_path / "run/result.json").stat().st_mtime_ns == before
    assert main(["rerun", str(tmp_path / "run"), "--quiet", "--json"]) == FOUND
    assert json.loads(capsys.readouterr().out.split("saved")[-1].split("}\n")[-1] or "{}") is not None


def test_a_repetition_names_what_differs(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start(Job(table, tmp_path / "run"), Progress(), print)
    assert repeat(tmp_path / "run", Progress()).sentence == "the same result, to the last bit"
    place = tmp_path / "run/result.json"
    result = json.loads(place.read_text())
    result["parameters"][0]["value"] *= 1 + 1e-9
    place.write_text(json.dumps(result))
    found = repeat(tmp_path / "run", Progress())
    assert found.same
    assert "parameters[0].value" in found.sentence
    result["equations"]["x"] = "-0.6*x"
    place.write_text(json.dumps(result))
    capsys.readouterr()
    assert main(["rerun", str(tmp_path / "run"), "--quiet"]) == UNUSABLE
    assert "another result: equations.x" in capsys.readouterr().out


def test_before_config_json_stands_nothing_was_started(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(RunError, match="nothing was started there; run eqdisc fit"):
        resume(tmp_path / "run", Progress())


def test_data_that_were_changed_are_not_gone_on_with(table: Path, tmp_path: Path) -> None:
    create_run(tmp_path / "run", read_table(table), FitConfig())
    with (tmp_path / "run/data.csv").open("a") as file:
        file.write("9,9\n")
    with pytest.raises(RunError, match=r"data\.csv was changed after the run began"):
        resume(tmp_path / "run", Progress())


@pytest.mark.parametrize("name", ["fsir", "two_compartments"])
def test_what_a_run_began_with_is_read_again_to_the_last_bit(name: str, tmp_path: Path) -> None:
    write_table(simulate_system(name, noise=0.02, seed=1, starts=1), tmp_path / "some.csv")
    data = read_table(tmp_path / "some.csv", units={})
    config = FitConfig(conserve=("a + b",), held_out=0.2, seed=3)
    create_run(tmp_path / "run", data, config, unseen=data)
    begun = read_begun(tmp_path / "run")
    assert begun.config == config
    assert begun.unseen is not None
    for again in (begun.data, begun.unseen):
        assert digest([(k.t, k.x, k.name) for k in again.trajectories]) == digest(
            [(k.t, k.x, k.name) for k in data.trajectories]
        )
        assert (again.file, again.states, again.units, again.time) == (data.file, data.states, data.units, data.time)


@pytest.mark.slow
def test_fits_that_are_killed_go_on_to_the_same_law(tmp_path: Path) -> None:
    from eqdisc.benchmarks.endurance import kill

    table = Path(__file__).parents[2] / "data/fsir.csv"
    rows = list(kill(table, count=4, seed=1))
    assert [row["differences"] for row in rows] == [[]] * 4


def test_a_search_that_ctrl_c_ended_goes_on(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    def interrupted(data: Any, config: Any, *, validate: Any = None, journal: Any = None) -> Any:
        journal.recall("step", lambda: 1, lambda: 2.0, NUMBER)
        os.kill(os.getpid(), signal.SIGINT)
        while not journal.stop:
            pass
        journal.recall("step", lambda: 2, lambda: 3.0, NUMBER)  # told to stop: not kept
        return discovery_of(data)

    monkeypatch.setattr("eqdisc.discovery.discover", interrupted)
    assert main(["fit", str(table), "--out", str(tmp_path / "run"), "--quiet"]) == INTERRUPTED
    assert count_steps(tmp_path / "run/checkpoint/steps") == 1
    monkeypatch.undo()
    assert main(["resume", str(tmp_path / "run"), "--quiet"]) == FOUND
    assert load(tmp_path / "run").result["equations"] == {"x": "-0.5*x"}
    assert not (tmp_path / "run/checkpoint").exists()
