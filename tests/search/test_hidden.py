"""Hidden states: what was not measured is found up to what nobody could know of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sympy as sp

from eqdisc.cli import FOUND, UNUSABLE, main
from eqdisc.data.dataset import Dataset
from eqdisc.data.tables import as_dataset, write_table
from eqdisc.discovery import discover
from eqdisc.law.catalogue import simulate_system
from eqdisc.work.config import FitConfig
from eqdisc.work.errors import OptionError

HIDDEN = FitConfig(hidden=1)


def prey(noise: float = 0.0) -> Dataset:
    """Return the prey of predators that nobody counted."""
    data = simulate_system("lotka_volterra", noise=noise, seed=0)
    return replace(data, trajectories=tuple(replace(k, x=k.x[:, :1]) for k in data.trajectories), states=("x",))


def second_derivative(rhs: dict[str, str]) -> sp.Expr:
    """Return x'' by x and x', which is the same for every choice of h1."""
    x, h, v = sp.symbols("x h1 v")
    f, g = (sp.nsimplify(sp.sympify(rhs[s], locals={"x": x, "h1": h}), rational=True) for s in ("x", "h1"))
    (solved,) = sp.solve(sp.Eq(v, f), h)
    return sp.simplify((sp.diff(f, x) * v + sp.diff(f, h) * g).subs(h, solved))


@pytest.mark.slow
def test_predators_that_nobody_counted_are_found_up_to_their_scale() -> None:
    found = discover(prey(), HIDDEN)
    truth = second_derivative({"x": "x - 0.1*x*h1", "h1": "0.075*x*h1 - 1.5*h1"})
    x, v = sp.symbols("x v")
    apart = sp.lambdify((x, v), (second_derivative(found.equations.strings()) - truth) / truth)
    # rtol: coefficients of exact data are printed to four digits and more
    assert np.abs(apart(np.array([12.0, 20.0, 31.0]), np.array([3.0, -2.0, 5.0]))).max() < 1e-3
    assert found.data.states == ("x", "h1")
    assert found.verdict == "ambiguous"
    assert any("h1 was not measured: any function of it" in r and "x'' = " in r for r in found.reasons)
    assert set(found.sigma) == {"x"}


@pytest.mark.slow
def test_a_hidden_state_that_nothing_asks_for_is_said_to_be_needless() -> None:
    t = np.linspace(0, 8, 60)
    found = discover(pd.DataFrame({"t": t, "x": 3.0 * np.exp(-0.5 * t) + 1.0}), HIDDEN)
    assert found.equations.strings()["h1"] == "0"
    assert any("leave out --hidden" in reason for reason in found.reasons)


def test_the_name_of_a_hidden_state_gives_way_to_a_column() -> None:
    data = as_dataset(pd.DataFrame({"t": [0.0, 1.0, 2.0, 3.0], "h1": [1.0, 2.0, 3.0, 5.0]})).with_hidden(1)
    assert data.states == ("h1", "h1_")
    assert np.isnan(data.trajectories[0].x[:, 1]).all()
    assert data.without_hidden().states == ("h1",)


def test_the_command_carries_a_hidden_state_from_the_table_to_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(prey(0.01), tmp_path / "prey.csv")
    run, table = str(tmp_path / "run"), str(tmp_path / "prey.csv")
    assert main(["fit", table, "--hidden", "1", "--out", run, "--quiet", "--time-limit", "10"]) in (FOUND, 3)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["hidden"], result["states"]) == (["h1"], ["x", "h1"])
    assert set(result["initial"][0]["x0"]) == {"x", "h1"}
    assert main(["report", run]) == FOUND
    assert main(["export", run, "--to", "python"]) == FOUND
    capsys.readouterr()
    assert main(["simulate", run]) == FOUND
    assert capsys.readouterr().out.startswith("trajectory,t,x,h1\n")
    assert main(["validate", run, table]) == UNUSABLE
    assert "h1 was not measured, and where it starts is known only of the records" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 2}, "one state that was not measured can be looked for"),
        ({"hidden": 1, "held_out": 0.25}, "nothing to validate on"),
        ({"hidden": 1, "search": "network"}, "leave out --hidden"),
        ({"hidden": 1, "sign": ("x -> x: +",)}, "laws of which nothing is known"),
    ],
)
def test_what_does_not_go_with_a_hidden_state_is_refused(options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        discover(prey(), FitConfig(**options))


def test_groups_and_a_hidden_state_are_not_fitted_at_once() -> None:
    t = np.tile(np.linspace(0, 1, 12), 2)
    frame = pd.DataFrame({"t": t, "x": np.exp(-t), "who": np.repeat(["a", "b"], 12)})
    with pytest.raises(OptionError, match="one of them at a time"):
        discover(as_dataset(frame, group="who"), HIDDEN)
