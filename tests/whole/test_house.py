"""The house: imports only go down, heavy libraries stay where they belong, what stands in two places is the same."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

import eqdisc

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "eqdisc"

ROOMS = {  # from the ground up: a room imports from itself and from those below, in functions too, and never in circles
    "work": "errors, configuration, files, processes, memory, the journal of finished steps",
    "data": "a table becomes a dataset: columns, units, scaling, noise, smooth curves, conserved sums",
    "units": "what laws are built of, one file a unit, and the chain of them",
    "law": "the noun: its terms, price, knowledge, formulas, equations, printers, simulation, the catalogue",
    "fit": "a law through its ODE: mesh, collocation, regression on integrals, integration",
    "search": "which law: library, matching, joint search, moves, rivals, rounds, random starts, pruning",
    "judge": "how sure, in which word: selection, verdict, validation, intervals, rounding",
    "discovery": "the function: the road read aloud",
    "runs": "a discovery that is kept: folder, job, batch, progress, text, report, pictures, export, next experiment",
    "estimator": "the class",
    "peers": "other methods, beside ours",
    "benchmarks": "where printed figures come from",
    "paper": "the paper reproduced",
    "commands": "what is typed: options, answers, the fence",
    "cli": "the command",
    "__main__": "the command, where no script is on the path",
}
ANNEXES = {"peers", "benchmarks", "paper"}  # which nothing below the command imports
LIVES_IN = {  # rooms and modules that may import a library that is slow to load or belongs to one kind of work
    "torch": {"units", "law", "fit", "search", "judge", "discovery", "work.threads", "benchmarks", "peers", "paper"},
    "numba": {"work.compiler", "fit.vectors"},
    "llvmlite": {"fit.vectors"},
    "sympy": {"units", "law", "judge.verdict", "runs.design", "runs.export", "runs.report", "peers", "benchmarks"},
    "scipy": {"data", "law", "fit", "search", "judge", "benchmarks", "paper", "peers", "runs.residuals"},
    "pandas": {"data", "benchmarks", "estimator", "runs.text", "runs.plotting"}
    | {"law.simulation", "judge.finding", "discovery", "runs.run"},  # for type checkers only
    "matplotlib": {"runs.panels", "runs.plotting", "runs.report", "paper", "benchmarks"},
    "rich": {"runs.text", "work.progress"},
    "cyclopts": {"cli", "commands"},
    "pint": {"data.dimensions"},
    "sklearn": {"estimator"},
    "distributed": {"work.crew"},
    "pysindy": {"peers"},
    "pyoperon": {"peers"},
    "pysr": {"peers"},
}
HEAVY = ("torch", "matplotlib", "sympy", "pandas", "scipy", "sklearn")


@cache
def modules() -> dict[str, ast.Module]:
    """The modules of the package, parsed, by name: `law.ties`, `cli`."""
    trees = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        trees[name] = ast.parse(path.read_text(encoding="utf-8"))
    del trees["__init__"]  # the public face names every room, lazily
    return trees


def room_of(name: str) -> str:
    return name.split(".")[0]


def imported(name: str, types: bool = False) -> tuple[set[str], set[str]]:
    """Modules of the package and libraries that a module imports anywhere, in functions too; for type checkers only if `types`."""
    tree, inside, outside = modules()[name], set(), set()
    package = ["eqdisc", *name.split(".")]
    package = package if (PACKAGE / name.replace(".", "/")).is_dir() else package[:-1]
    blocks = [n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)]
    typing = set() if types else {id(n) for block in blocks for n in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in typing:
            continue
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            there = ".".join(part for part in base[1:] if part)
            inside |= {f"{there}.{a.name}" if f"{there}.{a.name}" in modules() else there for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            outside.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.Import):
            outside |= {a.name.split(".")[0] for a in node.names}
    return inside - {""}, outside


def loaded_by(statement: str) -> set[str]:
    """Top-level packages that a fresh interpreter holds after a statement."""
    code = f"{statement}; import sys; print(*{{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_every_module_stands_in_a_room() -> None:
    assert {room_of(name) for name in modules()} == set(ROOMS), "give a new room its place in ROOMS"


def test_only_doors_stand_at_the_root() -> None:
    assert {p.stem for p in PACKAGE.glob("*.py")} == {"__init__", "__main__", "cli", "discovery", "estimator"}


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_only_go_down(name: str) -> None:
    order, (inside, _) = list(ROOMS), imported(name)
    assert {other for other in inside if order.index(room_of(other)) > order.index(room_of(name))} == set()


@pytest.mark.parametrize("name", sorted(modules()))
def test_nothing_below_the_command_imports_an_annex(name: str) -> None:
    if room_of(name) not in ANNEXES | {"commands"}:
        assert not {room_of(other) for other in imported(name)[0]} & ANNEXES


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {name: imported(name)[0] - {name} for name in modules()}
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("name", sorted(modules()))
def test_libraries_stay_where_they_belong(name: str) -> None:
    _, outside = imported(name, types=True)
    for library in outside & set(LIVES_IN):
        assert LIVES_IN[library] & {name, room_of(name)}, f"{name} imports {library}"


def test_tests_stand_in_the_same_rooms() -> None:
    rooms = {p.name for p in (ROOT / "tests").iterdir() if any(p.glob("test_*.py"))}
    assert rooms - {"whole"} <= set(ROOMS)


def test_there_is_no_drawer_for_odds_and_ends() -> None:
    assert not {"utils", "util", "helpers", "common", "misc"} & {name.split(".")[-1] for name in modules()}


def test_importing_eqdisc_loads_nothing_heavy() -> None:
    assert not loaded_by("import eqdisc") & set(HEAVY)


def test_the_command_loads_nothing_heavy_before_it_knows_what_to_do() -> None:
    assert not loaded_by("import eqdisc.cli") & {*HEAVY, "numpy"}


def test_reading_and_simulating_a_run_needs_no_torch() -> None:
    assert not loaded_by(
        "import eqdisc.runs.run, eqdisc.runs.text, eqdisc.runs.plotting, eqdisc.law.simulation, eqdisc.law.equations"
    ) & {"torch"}


def test_every_public_name_is_there_and_type_checkers_see_the_same() -> None:
    for name in eqdisc.__all__:
        assert getattr(eqdisc, name) is not None
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [n for n in tree.body if isinstance(n, ast.If)]
    seen = {a.asname or a.name for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assert seen | {"__version__"} == set(eqdisc.__all__) == set(dir(eqdisc))
    assert seen == set(eqdisc._HOME_OF) | {"plotting"}


def test_a_public_name_that_is_not_there_teaches() -> None:
    with pytest.raises(AttributeError, match="Did you mean 'discover'"):
        eqdisc.discovr  # noqa: B018


def test_readme_and_ci_run_the_same_two_commands() -> None:
    commands = (
        "pip install -c constraints.txt . && eqdisc fit data/fsir.csv",
        "pip install -c constraints.txt -e '.[test]' && pytest",
    )
    readme, ci = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", ".ci/run"))
    fenced = re.findall(r"^```\n(.*?)\n```$", readme, re.MULTILINE | re.DOTALL)
    assert tuple(f for f in fenced if "constraints.txt" in f) == commands
    assert all(f'step "{command}"' in ci for command in commands)


def test_every_dependency_has_a_tested_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(r for rs in project["optional-dependencies"].values() for r in rs)]
    names = {re.match(r"[A-Za-z0-9_-]+", r)[0] for r in wanted} - {"eqdisc"}  # type: ignore[index]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert names <= set(pinned)
    assert pinned["torch"] == "2.13.0"


def test_the_version_is_the_same_wherever_it_stands() -> None:
    assert f"version: {eqdisc.__version__}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## {eqdisc.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
