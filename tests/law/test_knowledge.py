"""Knowledge: what is said of a law beforehand holds exactly in what is printed, and the data may object."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import sympy as sp
from scipy.integrate import solve_ivp

from eqdisc import Discovery, discover
from eqdisc.cli import NOTHING, UNUSABLE, main
from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.data.scaling import Scaling
from eqdisc.data.tables import write_table
from eqdisc.law.catalogue import simulate_system
from eqdisc.law.equations import Equations
from eqdisc.law.words import read_knowledge, verify
from eqdisc.work.config import FitConfig
from eqdisc.work.errors import FormulaError, OptionError


def spring(noise: float = 0.02) -> Dataset:
    """Return a damped spring that hangs under its weight: dx/dt = v, dv/dt = -9.81 - 4 x - 0.3 v."""
    t = np.linspace(0, 8, 80)
    x = solve_ivp(lambda _, y: [y[1], -9.81 - 4 * y[0] - 0.3 * y[1]], (0, 8), [1.0, 0.0], t_eval=t, rtol=1e-10).y.T
    x = x + noise * x.std(0) * np.random.default_rng(2).normal(size=x.shape)
    return Dataset((Trajectory(t, x),), states=("x", "v"))


def found_with(data: Dataset, **said: str | tuple[str, ...]) -> Discovery:
    return discover(data, FitConfig(**said))


def test_a_conserved_sum_rests_to_the_last_digit() -> None:
    found = found_with(simulate_system("fsir", noise=0.05, seed=1), conserve="S + I + R")
    names = {s: sp.Symbol(s) for s in "SIR"}
    printed = [sp.sympify(s, locals=names, rational=True) for s in found.equations.strings().values()]  # decimals
    assert sp.expand(sum(printed)) == 0
    assert "S + I + R" in found.equations.invariants()


def test_a_known_side_and_a_known_part_stand_as_they_were_said() -> None:
    found = found_with(spring(), known=("dx/dt = v", "dv/dt = -9.81 + ..."))
    assert found.equations.strings()["x"] == "v"
    numbers = found.equations.rhs[1].as_coefficients_dict()
    assert float(numbers[sp.S.One]) == -9.81
    assert {str(term) for term in numbers if term != 1} == {"x", "v"}
    known = [p for p in found.parameters if p.ci is None and p.name[0] == "k"]
    assert sorted(p.value for p in known) == [-9.81, 1.0]


def test_a_forbidden_state_stands_in_no_term_and_the_data_may_object() -> None:
    found = found_with(spring(), forbid="x in dv/dt")
    assert sp.Symbol("x", real=True) not in found.equations.rhs[1].free_symbols
    assert found.verdict != "identified"
    assert any(reason.startswith("The data object to what was said beforehand") for reason in found.reasons)


@pytest.mark.slow
def test_a_sign_is_kept_and_one_that_is_right_changes_nothing() -> None:
    data = simulate_system("lotka_volterra", noise=0.02, seed=1)
    right = found_with(data, sign=("y -> x: -", "x -> y: +"))
    assert right.equations.strings() == discover(data).equations.strings()
    wrong = found_with(data, sign="y -> x: +")
    y = sp.Symbol("y", real=True)
    assert all(
        float(c) > 0 for term, c in wrong.equations.rhs[0].as_coefficients_dict().items() if y in term.free_symbols
    )
    assert wrong.verdict != "identified"
    assert any(reason.startswith("The data object to what was said beforehand") for reason in wrong.reasons)


def test_where_every_state_is_forbidden_a_rate_is_left() -> None:
    t = np.linspace(0, 5, 30)
    x = 2 * np.exp(-0.5 * t) + 0.01 * np.random.default_rng(0).normal(size=30)
    found = found_with(Dataset((Trajectory(t, x[:, None]),), states=("x",)), forbid="x in dx/dt")
    assert not found.equations.rhs[0].free_symbols
    assert found.verdict == "not identified"


def test_a_law_to_start_from_is_found_with_its_numbers() -> None:
    found = found_with(spring(), start_from="dv/dt = -g - k*x - c*v")
    assert {str(t) for t in found.equations.rhs[1].as_coefficients_dict()} == {"1", "x", "v"}


def test_a_law_to_start_from_may_saturate() -> None:
    data = simulate_system("monod", noise=0.01, seed=1)
    said = FitConfig(start_from=("dX/dt = m*S*X/(K + S) - D*X", "dS/dt = D*8 - D*S - m*S*X/(2 + S)"))
    scaling = Scaling.of(data)
    known = read_knowledge(said, data, scaling)
    assert known.saturates
    starts = [known.starts[e][0].terms for e in (0, 1)]
    half = np.concatenate([terms.offsets[terms.saturates] for terms in starts]).tolist()
    assert half == pytest.approx([0.0, np.log(2 / scaling.states[1])])  # K is to be found, or was said
    found = discover(data, said)
    assert all("/(S +" in side for side in found.equations.strings().values())


def test_a_start_is_led_on_where_exact_data_are_outside_the_class() -> None:
    """The law is sought on finer meshes, with the start and without, and each is fitted on its own."""
    t = np.linspace(0, 10, 25)
    x = 2 * np.arctan(np.tan(0.5) * np.exp(-t))  # dx/dt = -sin x
    found = found_with(Dataset((Trajectory(t, x[:, None]),), states=("x",)), start_from="dx/dt = -r*x")
    assert found.verdict != "identified"
    assert float(found.equations.rhs[0].subs(sp.Symbol("x", real=True), 0.5)) == pytest.approx(-np.sin(0.5), rel=1e-3)


@pytest.mark.parametrize(
    ("side", "other"),
    [
        ("-3*x*y/(4 + 2*x)", "-1.5*x*y/(x + 2)"),
        ("0.5*x**2/(1 + x**2) - 0.1*sqrt(x)", "-0.1*sqrt(x) + 0.5*x**2/(x**2 + 1)"),
        ("x**(-1/2)/(2 + x*y)", "1/(sqrt(x)*(x*y + 2))"),
    ],
)
def test_terms_that_saturate_are_read_as_they_are_written(side: str, other: str) -> None:
    read = Equations.parse({"x": side, "y": "0"}, ("x", "y")).side(0)
    assert read is not None
    again = Equations.of(read, ("x", "y"))
    assert again.strings() == {"x": other, "y": "0"}


@pytest.mark.parametrize("side", ["x/(x + y)", "x/(x - 1)", "x/(1 + x)**2", "x/(1 + x)/(1 + y)", "x/(t + x)", "sin(x)"])
def test_what_is_no_sum_of_terms_is_not_read(side: str) -> None:
    assert Equations.parse({"x": side, "y": "0"}, ("x", "y")).side(0) is None


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"start_from": "dv/dt = -x/(1 + x)"}, "divides by a sum with x, which is negative at times"),
        ({"start_from": "dv/dt = 1/(t + v)"}, "is no sum of products of powers"),
        ({"start_from": "dv/dt = sin(v)"}, r"which may saturate as x/\(K \+ x\) does"),
        ({"forbid": "x of dv/dt"}, 'write it as "R in dI/dt"'),
        ({"forbid": "z in dv/dt"}, "names 'z', which is no column of the law"),
        ({"sign": "x -> v: up"}, 'write it as "R -> S: \\+"'),
        ({"conserve": "x*v"}, 'write a sum of states, such as "S \\+ I \\+ R"'),
        ({"conserve": "x"}, "write a sum of states"),
        ({"known": "x = v"}, 'write it as "dx/dt = v"'),
        ({"known": "dx/dt = sin(v)"}, "is no sum of products of powers"),
        ({"known": ("dx/dt = v", "dv/dt = -x"), "conserve": "x + v"}, "nothing of it is left to find"),
        ({"known": "dv/dt = -4*x + ...", "forbid": "x in dv/dt"}, "which forbid rules out"),
        ({"known": "dv/dt = -4*x", "sign": "x -> v: +"}, "which sign rules out"),
        ({"known": "dx/dt = v", "search": "network"}, "--search network fits laws of which nothing is known"),
    ],
)
def test_words_that_do_not_fit_are_refused(said: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        found_with(spring(), **said)


@pytest.mark.parametrize("said", [{"forbid": "x in dv/dt"}, {"conserve": "x + v"}, {"known": "dx/dt = 2*v"}])
def test_a_law_that_does_not_keep_to_what_was_said_is_never_printed(said: dict) -> None:
    law = Equations.parse({"x": "v", "v": "-4*x"}, ("x", "v"))
    with pytest.raises(FormulaError, match="does not keep to"):
        verify(FitConfig(**said), spring(), law)


def test_the_command_takes_several_words_and_keeps_them_in_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, run = tmp_path / "spring.csv", tmp_path / "run"
    write_table(spring(), table)
    words = ["--known", "dx/dt = v", "--known", "dv/dt = -9.81 + ...", "--forbid", "v in dv/dt"]
    assert main(["fit", str(table), *words, "--out", str(run), "--quiet"]) == NOTHING
    config = json.loads((run / "config.json").read_text())["config"]
    assert (config["known"], config["forbid"]) == (["dx/dt = v", "dv/dt = -9.81 + ..."], ["v in dv/dt"])
    assert "The data object" in capsys.readouterr().out
    assert main(["fit", str(table), "--known", "dx = v", "--out", str(tmp_path / "other")]) == UNUSABLE
