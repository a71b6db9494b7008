"""Export: programs repeat eqdisc's simulation, texts read back as the law, names from a table stay names."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import libsbml
import numpy as np
import pytest
import sympy as sp
import tree_sitter
import tree_sitter_julia
from numpy.testing import assert_allclose
from stand_in import discovery_of, run_of

from eqdisc.cli import main
from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.runs.export import TARGETS, export
from eqdisc.runs.folder import create_run
from eqdisc.runs.run import Run
from eqdisc.work.config import FitConfig
from eqdisc.work.errors import OptionError, RunError

DIGITS = 1e-8  # relative to the size of the state
EVIL = 'x); system("touch hurt"); // */ ??/\n"""; import os; os.remove("$HOME")'

LAWS = {
    "fractional": ({"S": "-0.06*sqrt(I*S) + 0.01*R", "I": "0.06*sqrt(I*S)", "R": "-0.01*R"}, [[99.0, 1.0, 3.0]], 40.0),
    "two starts": ({"x": "0.5*x - 0.05*x**2"}, [[0.5], [14.0]], 8.0),
    "drag": ({"x": "v", "v": "-x - 0.2*v*Abs(v) + 0.1*sign(v)*Abs(v)**1.5"}, [[1.0, 0.0]], 20.0),
    "saturating": ({"s": "-1.7*s**1.3/(0.4 + s**1.3) + 0.1*Max(0.2, s) - Min(0.1, s, 0.3)"}, [[3.0]], 6.0),
    "transcendental": ({"x": "sin(2*x) + exp(-x)*cos(t)/3", "y": "log(1 + x**2) - y"}, [[0.1, -1.0]], 9.0),
    "stiff": ({"a": "-0.04*a + 1e4*b*c", "b": "0.04*a - 1e4*b*c - 3e7*b**2", "c": "3e7*b**2"}, [[1.0, 0.0, 0.0]], 40.0),
    "chaotic": ({"x": "10*(y - x)", "y": "x*(28 - z) - y", "z": "x*y - 8/3*z"}, [[1.0, 1.0, 20.0]], 3.0),
    "extinct": ({"h": "-0.3*sqrt(h)"}, [[1.0]], 12.0),
    "blows up": ({"x": "x**2"}, [[1.0]], 2.0),
    "hostile names": (
        {EVIL: "-0.5*s1*double", "double": "0.5*s1*double - lambda_", "lambda": "t/9"},
        [[2.0, 1.0, 0.0]],
        3.0,
    ),
}


def a_run(name: str) -> Run:
    law, starts, end = LAWS[name]
    t = np.linspace(0.0, end, 25)
    data = Dataset(
        tuple(
            Trajectory(t, np.array(x0) + np.linspace(0.0, 1.0, 25)[:, None], name=f'no. {k}, "{name}"')
            for k, x0 in enumerate(starts)
        ),
        tuple(law),
    )
    law = {s: text.replace("s1", data.formula_names[0]) for s, text in law.items()}
    initial = [
        {"trajectory": k.name, "x0": dict(zip(data.states, x0, strict=True))}
        for k, x0 in zip(data.trajectories, starts, strict=True)
    ]
    return run_of(law, data, initial=initial)


def check_simulation(run: Run, printed: str) -> None:
    header, *rows = csv.reader(io.StringIO(printed))
    assert header == ["trajectory", "t", *run.states]
    for name, curve in run.simulate().items():
        mine = np.array([[float(v) for v in row[1:]] for row in rows if row[0] == name])
        k = min(len(mine), len(curve.t))
        assert abs(len(mine) - len(curve.t)) <= 1  # just before a blow-up
        assert_allclose(mine[:k, 0], curve.t[:k], rtol=1e-15)
        size = np.abs(curve.x[:k]).max(0)
        near = curve.x[:k].max(1) < 10 * abs(curve.x[0]).max() if run.equations.states == ("x",) else slice(None)
        assert_allclose(mine[:k, 1:][near] / size, curve.x[:k][near] / size, atol=DIGITS)


@pytest.mark.parametrize("name", LAWS)
def test_the_program_in_python_prints_the_simulation(name: str, tmp_path: Path) -> None:
    run = a_run(name)
    (tmp_path / "law.py").write_text(export(run, "python"), encoding="utf-8")
    done = subprocess.run([sys.executable, "law.py"], cwd=tmp_path, capture_output=True, encoding="utf-8", check=True)
    check_simulation(run, done.stdout)
    assert list(tmp_path.iterdir()) == [tmp_path / "law.py"]


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize("name", LAWS)
def test_the_program_in_c_prints_the_simulation(name: str, tmp_path: Path) -> None:
    run = a_run(name)
    (tmp_path / "law.c").write_text(export(run, "c"), encoding="utf-8")
    build = ["cc", "-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "law.c", "-o", "law", "-lm"]
    subprocess.run(build, cwd=tmp_path, check=True)
    done = subprocess.run(["./law"], cwd=tmp_path, capture_output=True, encoding="utf-8", check=True)
    check_simulation(run, done.stdout)
    assert {p.name for p in tmp_path.iterdir()} == {"law.c", "law"}


@pytest.mark.parametrize("name", LAWS)
def test_the_export_to_sympy_builds_the_same_law(name: str) -> None:
    run = a_run(name)
    found: dict[str, Any] = {}
    exec(compile(export(run, "sympy"), "law", "exec"), found)
    law = found["law"]
    x = np.random.default_rng(0).uniform(0.5, 2.0, len(run.states))
    mine = sp.lambdify([found["t"], *law], list(law.values()), "numpy")(0.3, *x)
    assert_allclose(mine, run.equations.function()(0.3, x), rtol=1e-13)
    assert list(found["starts"].values()) == [
        dict(zip(law, k["x0"].values(), strict=True)) for k in run.result["initial"]
    ]


@pytest.mark.parametrize("name", LAWS)
def test_sbml_is_valid_and_its_rates_are_the_law(name: str) -> None:
    run = a_run(name)
    document = libsbml.readSBMLFromString(export(run, "sbml"))
    assert document.checkConsistency() == 0 or all(
        document.getError(k).getSeverity() < libsbml.LIBSBML_SEV_ERROR for k in range(document.getNumErrors())
    )
    model = document.getModel()
    rules = {model.getRule(k).getVariable(): model.getRule(k).getMath() for k in range(model.getNumRules())}
    states = [model.getParameter(k).getId() for k in range(model.getNumParameters())]
    assert list(rules) == states
    x = np.random.default_rng(1).uniform(0.5, 2.0, len(states))
    mine = [evaluate(rules[s], dict(zip(states, x, strict=True)), 0.3) for s in states]
    assert_allclose(mine, run.equations.function()(0.3, x), rtol=1e-13)
    start = run.result["initial"][0]["x0"]
    assert [model.getParameter(k).getValue() for k in range(len(states))] == [start[s] for s in run.states]


def evaluate(node: libsbml.ASTNode, x: dict[str, float], t: float) -> float:
    """Evaluate a formula of SBML, as a reader of the standard would."""
    args = [evaluate(node.getChild(k), x, t) for k in range(node.getNumChildren())]
    kind = node.getType()
    if node.isNumber():
        return node.getValue()
    if kind == libsbml.AST_NAME_TIME:
        return t
    if kind == libsbml.AST_NAME:
        return x[node.getName()]
    plain = {
        libsbml.AST_PLUS: lambda *a: sum(a),
        libsbml.AST_MINUS: lambda *a: -a[0] if len(a) == 1 else a[0] - a[1],
        libsbml.AST_TIMES: lambda *a: np.prod(a),
        libsbml.AST_DIVIDE: lambda a, b: a / b,
        libsbml.AST_POWER: lambda a, b: a**b,
        libsbml.AST_FUNCTION_POWER: lambda a, b: a**b,
        libsbml.AST_FUNCTION_ROOT: lambda n, a: a ** (1 / n),
        libsbml.AST_FUNCTION_ABS: abs,
        libsbml.AST_FUNCTION_EXP: np.exp,
        libsbml.AST_FUNCTION_LN: np.log,
        libsbml.AST_FUNCTION_SIN: np.sin,
        libsbml.AST_FUNCTION_COS: np.cos,
        libsbml.AST_RELATIONAL_GT: lambda a, b: a > b,
        libsbml.AST_RELATIONAL_LT: lambda a, b: a < b,
        libsbml.AST_RELATIONAL_GEQ: lambda a, b: a >= b,
        libsbml.AST_RELATIONAL_LEQ: lambda a, b: a <= b,
        libsbml.AST_LOGICAL_AND: lambda *a: all(a),
        libsbml.AST_FUNCTION_PIECEWISE: lambda *a: next((v for v, c in zip(a[::2], a[1::2], strict=False) if c), a[-1]),
    }
    return plain[kind](*args)


@pytest.mark.parametrize("name", LAWS)
def test_texts_hold_the_law_and_stay_in_their_comments(name: str) -> None:
    run = a_run(name)
    facts = json.loads(export(run, "json"))
    assert facts["equations"] == run.result["equations"]
    assert facts["verdict"] == run.verdict
    for to, mark in (("stan", "//"), ("julia", "#"), ("latex", "%")):
        code = [line for line in export(run, to).splitlines() if not line.lstrip().startswith(mark)]
        assert not [line for line in code if 'system("' in line or "$HOME" in line]  # quotes and dollars are escaped


@pytest.mark.parametrize("name", LAWS)
def test_stan_has_its_blocks_and_declares_what_it_uses(name: str) -> None:
    text = export(a_run(name), "stan")
    code = "\n".join(line.partition("//")[0] for line in text.splitlines())
    assert code.count("{") == code.count("}")
    assert [w for w in ("functions {", "transformed data {", "generated quantities {") if w in code] == [
        "functions {",
        "transformed data {",
        "generated quantities {",
    ]
    assert "ode_bdf_tol(law, start_1, 0.0, times_1" in code


@pytest.mark.parametrize("name", LAWS)
def test_stan_compiles(name: str, tmp_path: Path) -> None:
    compiler = Path(find_spec("httpstan").origin).with_name("stanc")  # type: ignore[union-attr, arg-type]
    (tmp_path / "law.stan").write_text(export(a_run(name), "stan"), encoding="utf-8")
    subprocess.run([compiler, "law.stan", "--o", "law.hpp"], cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.parametrize("name", LAWS)
def test_julia_parses(name: str) -> None:
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_julia.language()))
    text = export(a_run(name), "julia")
    assert not parser.parse(text.encode()).root_node.has_error
    assert parser.parse(text.replace("end", "", 1).encode()).root_node.has_error


def test_an_unknown_language_and_a_run_without_a_law_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match=r"no export to 'pyton'.*Did you mean 'python'"):
        export(a_run("drag"), "pyton")
    lawless = SimpleNamespace(result={"equations": {}}, folder="runs/x", states=("x",))
    with pytest.raises(RunError, match="holds no law to export"):
        export(lawless, "c")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "libsbml", None)
    with pytest.raises(OptionError, match=r"pip install 'eqdisc\[sbml\]'"):
        export(a_run("drag"), "sbml")


def test_the_command_writes_a_file_or_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = a_run("two starts").data
    folder = create_run(tmp_path / "run", data, FitConfig())
    folder.write_discovery(discovery_of(data), None)
    assert main(["export", str(tmp_path / "run"), "--to", "python", "--out", str(tmp_path / "law.py")]) == 0
    assert "saved in" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "run"), "--to", "python"]) == 0
    assert capsys.readouterr().out == (tmp_path / "law.py").read_text(encoding="utf-8")
    for to in TARGETS:
        assert main(["export", str(tmp_path / "run"), "--to", to, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["to"] == to
    assert main(["export", str(tmp_path / "run"), "--to", "fortran"]) == 2
