"""A run folder that version 0.1.0 wrote is kept here, and whatever can be done with a run can be done with it for good."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from eqdisc.cli import FOUND, main
from eqdisc.runs.job import resume
from eqdisc.runs.run import load
from eqdisc.units.chain import load_chain
from eqdisc.work.checkpoint import Checkpoint
from eqdisc.work.progress import Progress

GROWTH = Path(__file__).parents[1] / "kept" / "growth"
RATE = 0.503
LATER = ("memory",)  # options that came after 0.1.0: a run of that version may lack them


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GROWTH, tmp_path / "growth"))


def test_law_starts_and_intervals_are_read_as_they_were_written(old: Path) -> None:
    run = load(old)
    assert run.equations.strings() == {"S": f"-{RATE}*S", "I": f"{RATE}*S"}
    assert (run.verdict, len(run.alternatives), run.front[run.result["selected"]]["complexity"]) == (
        "identified",
        10,
        4,
    )
    curve = run.simulate()["0"]
    S0, I0 = run.start_of("0")
    np.testing.assert_allclose(curve.x[:, 0], S0 * np.exp(-RATE * curve.t), rtol=1e-7)
    np.testing.assert_allclose(curve.x.sum(1), S0 + I0, rtol=1e-7)
    low, high = run.parameters_table().set_index("name").loc["k1", ["low", "high"]]
    assert low < RATE < high


def test_the_chain_is_the_law(old: Path) -> None:
    chain, x = load_chain(old / "field.safetensors"), load(old).data.trajectories[0].x
    rate = chain(torch.tensor(x)[None])[0].detach().numpy()
    np.testing.assert_allclose(rate[:, 0], -RATE * x[:, 0], rtol=2e-3)  # before its numbers were rounded


@pytest.mark.parametrize(
    "words",
    [
        "show {run}",
        "show {run} --front",
        "show {run} --to latex",
        "simulate {run} --x0 S=3",
        "validate {run} {run}/data.csv",
        "report {run}",
        *(f"export {{run}} --to {to}" for to in ("python", "julia", "c", "stan", "latex", "sympy", "json")),
        "next {run}",
        "resume {run}",
    ],
)
def test_every_command_takes_it(words: str, old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([w.format(run=old) for w in words.split()] + ["--quiet"]) == FOUND
    assert capsys.readouterr().out.strip()


def test_an_unfinished_run_goes_on_without_the_steps_of_its_version(old: Path) -> None:
    for name in ("result.json", "equations.tex", "field.safetensors"):
        (old / name).unlink()
    steps = Checkpoint(old / "checkpoint/steps", {"eqdisc": "0.0.9"})
    steps.put(bytes(16), {"v": np.ones(1)})
    steps.close()
    assert not resume(old, Progress()).interrupted
    assert load(old).equations.strings() == load(GROWTH).equations.strings()


def test_what_a_later_version_asks_for_may_be_missing(old: Path) -> None:
    facts = json.loads((old / "result.json").read_text())
    facts["config"] = {key: value for key, value in facts["config"].items() if key not in LATER}
    (old / "result.json").write_text(json.dumps(facts))
    assert load(old).config == load(GROWTH).config
