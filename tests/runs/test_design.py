"""Design: nats follow from differences and precision, forms that are the same cannot be parted, measuring what is proposed does part them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from stand_in import discovery_of, run_of

from eqdisc.cli import main
from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.discovery import discover
from eqdisc.law.catalogue import catalogue
from eqdisc.law.simulation import simulate
from eqdisc.runs.design import propose_experiments
from eqdisc.runs.folder import create_run
from eqdisc.runs.run import Run, load
from eqdisc.work.config import FitConfig
from eqdisc.work.errors import RunError

T = np.linspace(0.0, 4.0, 30)
GROWTH = "0.5*x - 0.05*x**2"


def a_run(*alternatives: str, sigma: float = 0.05) -> Run:
    """A run in memory: logistic growth from 0.5, and its alternatives."""
    from eqdisc.law.equations import Equations

    x = simulate(Equations.parse({"x": GROWTH}, ("x",)), np.array([0.5]), T).x
    data = Dataset((Trajectory(T, x, name="0"),), ("x",))
    rivals = [{"equations": {"x": a}} for a in alternatives]
    return run_of({"x": GROWTH}, data, alternatives=rivals, sigma={"x": sigma})


def test_the_same_form_written_differently_cannot_be_parted() -> None:
    best = propose_experiments(a_run("0.05*x*(10 - x)", "0.55*x - 0.18*x**1.5"))[0]
    assert best.nats[0] < 1e-4
    assert best.nats[1] > 6


def test_twice_the_precision_is_four_times_the_nats() -> None:
    rough, sharp = (propose_experiments(a_run("0.55*x - 0.18*x**1.5", sigma=s)) for s in (0.1, 0.05))
    assert_allclose([e.nats[0] for e in sharp], [4 * e.nats[0] for e in rough], rtol=1e-3)


def test_saturation_is_proposed_where_growth_alone_was_seen() -> None:
    *proposed, repeat = propose_experiments(a_run("0.55*x - 0.18*x**1.5"))
    assert repeat.repeat
    assert not any(e.repeat for e in proposed)
    assert proposed[0].open <= min(e.open for e in proposed)
    assert proposed[0].nats[0] > 3 * repeat.nats[0]
    assert proposed[0].x0[0] > 1.2 or proposed[0].t[-1] > T[-1]


def test_a_form_that_runs_away_is_put_aside() -> None:
    best = propose_experiments(a_run("0.5*x - 0.05*x**2 + 0.0002*x**6"))[0]
    assert np.isfinite(best.nats).all()


def test_without_alternatives_nothing_is_proposed() -> None:
    with pytest.raises(RunError, match="no other form stands beside the law"):
        propose_experiments(a_run())


def test_the_command_prints_the_start_and_draws_what_each_form_foretells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = a_run("0.55*x - 0.18*x**1.5")
    found: Any = discovery_of(run.data, verdict="ambiguous")
    found.result().update(run.result)
    folder = create_run(tmp_path / "run", run.data, FitConfig())
    folder.write_discovery(found, None)
    assert main(["next", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "measure next: start at x = " in out
    assert "(a repeat)" in out
    assert (tmp_path / "run" / "next.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["logistic", "west", "torricelli"])
def test_data_from_the_proposed_start_part_the_forms(name: str, tmp_path: Path) -> None:
    system, rng = catalogue()[name], np.random.default_rng(0)
    t = np.linspace(0.0, system.span, system.samples)

    def measure(x0: np.ndarray, times: np.ndarray, sigma: np.ndarray | None, label: str) -> pd.DataFrame:
        x = simulate(system.law, x0, times).x
        error = 0.02 * x.std(0) if sigma is None else sigma
        noisy = x + error * rng.normal(size=x.shape)
        return pd.DataFrame(noisy, columns=list(system.law.states)).assign(t=times, trajectory=label)

    first = measure(np.array(system.x0[0]), t, None, "first")
    found = discover(first)
    folder = create_run(tmp_path / "run", found.data, FitConfig())
    folder.write_discovery(found, None)
    best, *_, repeat = propose_experiments(load(tmp_path / "run"))
    sigma = np.array(list(found.sigma.values()))
    left = []
    for e in (best, repeat):
        both = discover(pd.concat([first, measure(e.x0, e.t, sigma, "second")]))
        left.append(len(both.alternatives))
    assert left[0] < len(found.alternatives), left
    assert left[0] <= left[1], left
