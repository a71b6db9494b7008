"""Inputs: known courses beside the states, in the table, the search, the simulation and the command."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import solve_ivp

from eqdisc import Discovery, discover
from eqdisc.cli import FOUND, MISTYPED, UNUSABLE, main
from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.data.inputs import InputCurve, curve_of, join_inputs, part_inputs
from eqdisc.data.tables import as_dataset, read_table, write_table
from eqdisc.law.equations import Equations
from eqdisc.law.simulation import simulate
from eqdisc.work.errors import DataError, OptionError

T = np.linspace(0.0, 20.0, 81)
LEVELS = np.repeat(np.random.default_rng(3).uniform(0.5, 3.0, 9), 10)[:81]


def tank(held: bool, noise: float = 0.0, scale: float = 1.0, power: float = 1.0) -> pd.DataFrame:
    """Return a tank that is filled by u and runs out: dx/dt = 0.5 u**power - 0.6 sqrt(x), integrated piece by piece."""
    curve = InputCurve(T, LEVELS[:, None], np.array([held]))
    x = [2.0]
    for a, b in itertools.pairwise(T):
        rate = lambda t, y, b=b: 0.5 * curve(min(t, np.nextafter(b, -1)))[0] ** power - 0.6 * np.sqrt(y)  # noqa: E731
        x.append(solve_ivp(rate, (a, b), [x[-1]], rtol=1e-11, atol=1e-12).y[0, -1])
    x = np.array(x) + noise * np.std(x) * np.random.default_rng(0).normal(size=len(T))
    return pd.DataFrame({"t": T, "level": x, "u": scale * LEVELS})


def found_in(table: pd.DataFrame, inputs: str) -> Discovery:
    return discover(as_dataset(table, inputs=inputs))


# What an input is


def test_an_input_bends_at_samples_and_jumps_where_it_is_held() -> None:
    t, u = np.arange(5.0), np.array([[0.0], [1.0], [2.0], [2.0], [0.0]])
    assert InputCurve(t, u, np.array([False])).breaks.tolist() == [2.0, 3.0]  # straight from 0 to 2
    assert InputCurve(t, u, np.array([True])).breaks.tolist() == [1.0, 2.0, 4.0]


def test_joining_inputs_to_the_states_can_be_undone() -> None:
    data = Dataset(
        (Trajectory([0, 1], [[1.0], [2.0]], u=[[5.0, 7.0], [6.0, 8.0]]),), ("x",), inputs=("u", "v"), held=("v",)
    )
    back = part_inputs(join_inputs(data))
    assert (back.states, back.inputs, back.held, back.driven) == (data.states, data.inputs, data.held, 0)
    assert_allclose(back.trajectories[0].u, data.trajectories[0].u)


def test_a_held_input_is_simulated_as_in_closed_form() -> None:
    law = Equations.parse({"x": "u - x"}, ("x",), ("u",))
    t = np.linspace(0, 3, 31)
    pulse = InputCurve(np.array([0.0, 1.0, 1.001]), np.array([[0.0], [1000.0], [0.0]]), np.array([True]))
    run = simulate(law, np.array([2.0]), t, inputs=pulse, rtol=1e-10)
    dose = 1000 * (1 - np.exp(-0.001))  # what is left of the pulse at its end; a step of the solver could pass over it
    assert_allclose(run.x[:, 0], 2 * np.exp(-t) + np.where(t > 1, dose * np.exp(-(t - 1.001)), 0.0), rtol=1e-8)


def test_a_law_with_inputs_asks_for_them() -> None:
    law = Equations.parse({"x": "u - x"}, ("x",), ("u",))
    with pytest.raises(OptionError, match="the law has the inputs u"):
        law.function()


# The table


def test_a_table_with_inputs_reads_back_exactly(tmp_path: Path) -> None:
    table = tank(held=True).assign(v=np.where(np.arange(81) % 3, np.nan, 1.0 * np.arange(81)))
    data = as_dataset(table, inputs="u:hold,v")
    assert (data.states, data.inputs, data.held) == (("level",), ("u", "v"), ("u",))
    assert_allclose(data.trajectories[0].u[:79, 1], np.arange(79.0))  # linear between the samples it has
    write_table(data, tmp_path / "a.csv")
    again = read_table(tmp_path / "a.csv", inputs="u:hold,v")
    assert_allclose(again.trajectories[0].u, data.trajectories[0].u, rtol=0)
    assert_allclose(data.to_frame()["u"], table["u"])


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ("w", DataError, "--inputs names 'w', but the columns are t, level, u"),
        ("u:held", OptionError, "--inputs u:held: an input is linear between its samples, or held with u:hold"),
        ("u,u", DataError, "--inputs names it twice"),
        ("level,u", DataError, "there is no state column"),
    ],
)
def test_inputs_that_cannot_be_used_are_refused(inputs: str, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        as_dataset(tank(held=True), inputs=inputs)


def test_a_column_cannot_be_state_and_input() -> None:
    with pytest.raises(DataError, match="cannot be both state and input"):
        as_dataset(tank(held=True), states="level,u", inputs="u")


def test_an_input_without_a_value_in_a_trajectory_is_refused() -> None:
    table = pd.concat([tank(held=True).assign(trajectory="a"), tank(held=True).assign(trajectory="b", u=np.nan)])
    with pytest.raises(DataError, match="column 'u': trajectory 'b' has no value of this input"):
        as_dataset(table, inputs="u")


# The law


def test_a_held_input_stands_in_the_law_and_its_unit_changes_only_the_coefficient() -> None:
    found = found_in(tank(held=True), "u:hold")
    assert found.equations.readable() == ["dlevel/dt = -0.6·√(level) + 0.5·u"]
    assert found.result()["inputs"] == ["u:hold"]
    scaled = found_in(tank(held=True, scale=1000.0), "u:hold")
    assert scaled.equations.readable() == ["dlevel/dt = -0.6·√(level) + 0.0005·u"]


def test_an_input_has_an_exponent_of_its_own() -> None:
    found = found_in(tank(held=False, noise=0.01, power=0.5), "u")
    assert found.result()["equations"]["level"].count("sqrt") == 2
    assert_allclose(sorted(abs(p.value) for p in found.parameters if p.name[0] == "k"), [0.5, 0.6], rtol=0.05)
    assert found.verdict != "not identified"


def test_the_time_can_be_an_input() -> None:
    t = np.linspace(1, 9, 61)
    x = solve_ivp(lambda t, y: 1.5 * np.sqrt(t) - 0.7 * y, (1, 9), [4.0], t_eval=t, rtol=1e-11, atol=1e-12).y[0]
    found = found_in(pd.DataFrame({"year": t, "x": x}), "year")
    assert found.equations.readable() == ["dx/dt = 1.5·√t - 0.7·x"]
    assert not found.equations.autonomous


def test_inputs_take_part_in_the_network_search_not_yet() -> None:
    from eqdisc.work.config import FitConfig

    with pytest.raises(OptionError, match="--search network fits laws without inputs"):
        discover(as_dataset(tank(held=True), inputs="u"), FitConfig(search="network"))


def test_the_command_follows_inputs_from_the_table_to_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, run = tmp_path / "tank.csv", tmp_path / "run"
    tank(held=True, noise=0.01).to_csv(table, index=False)
    assert main(["fit", str(table), "--inputs", "u:hold", "--out", str(run), "--quiet"]) == FOUND
    result = json.loads((run / "result.json").read_text())
    assert "u" in result["equations"]["level"]
    capsys.readouterr()
    assert main(["validate", str(run), str(table), "--json"]) == FOUND
    assert json.loads(capsys.readouterr().out)["error"] < 1.5
    assert main(["simulate", str(run), "--x0", "level=3"]) == FOUND
    assert main(["report", str(run)]) == FOUND
    capsys.readouterr()
    assert main(["export", str(run), "--to", "c"]) == UNUSABLE
    assert "c programs hold laws without inputs" in capsys.readouterr().err
    assert main(["fit", str(table), "--input", "u"]) == MISTYPED


def test_the_curve_of_a_dataset_without_inputs_is_none() -> None:
    assert curve_of(Dataset((Trajectory([0, 1], [[1.0], [2.0]]),), ("x",)), 0) is None


def test_a_frame_has_the_inputs_beside_the_time_in_their_own_columns() -> None:
    u = [[0.0, 5.0], [1.0, 6.0]]
    data = Dataset((Trajectory([0, 1], [[1.0], [2.0]], u=u),), ("x",), inputs=("t", "v"))
    assert data.to_frame().to_dict("list") == {
        "trajectory": ["0", "0"],
        "t": [0.0, 1.0],
        "x": [1.0, 2.0],
        "v": [5.0, 6.0],
    }
