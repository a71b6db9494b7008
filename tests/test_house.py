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

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "eqdisc"

FLOORS = {  # from the ground up; a module imports from its own floor or below, and never in circles
    "words": {"errors", "files", "status", "config", "cluster", "memory", "journal"},
    "nouns": {
        "trajectory",
        "inputs",
        "dimensions",
        "formats",
        "sheet",
        "tables",
        "diagnosis",
        "formulas",
        "equations",
        "printers",
        "markup",
    },
    "mechanism": {
        "units",
        "field",
        "compiler",
        "vectors",
        "program",
        "layers",
        "kernels",
        "sweeps",
        "projections",
        "newton",
        "engine",
        "condensing",
        "integration",
        "scaling",
        "knowledge",
        "noise",
        "denoising",
        "description",
        "invariants",
        "terms",
        "ties",
    }
    | {"regression", "mesh", "pins", "collocation", "threads", "levenberg"},
    "stages": {
        "library",
        "subsets",
        "kinetics",
        "matching",
        "laws",
        "moves",
        "structure",
        "rivals",
        "problem",
        "remeshing",
        "hidden",
        "groups",
        "proposals",
        "training",
        "network",
        "pruning",
        "thinning",
        "extraction",
    }
    | {"intervals", "refinement", "simulation", "ensemble", "systems", "literature", "peers"},
    "judgement": {"selection", "uncertainty", "validation", "verdict"},
    "road": {"discovery"},
    "paper": {
        "runs",
        "checkpoint",
        "plotting",
        "experiments",
        "reproduction",
        "design",
        "export",
        "residuals",
        "report",
        "comparison",
    },
    "door": {"answer", "progress", "timing", "job", "batch", "estimator", "cli", "__main__"},
}
LIVES_IN = {  # floors and modules that may import a library that is slow to load or belongs to one kind of work
    "torch": {"mechanism", "stages", "uncertainty", "road", "experiments", "reproduction"},
    "torchdiffeq": {"integration", "experiments"},
    "torchode": {"experiments"},
    "diffrax": {"experiments"},
    "jax": {"experiments"},
    "numba": {"compiler", "vectors", "kernels"},
    "llvmlite": {"vectors"},
    "sympy": {
        "hidden",
        "knowledge",
        "formulas",
        "equations",
        "extraction",
        "units",
        "field",
        "systems",
        "experiments",
        "design",
        "export",
        "printers",
        "report",
        "comparison",
        "peers",
    },
    "scipy": {"mechanism", "stages", "experiments", "reproduction", "residuals"},
    "pandas": {"sheet", "tables", "experiments", "answer", "plotting", "estimator"}
    | {"simulation", "discovery", "runs", "trajectory"},  # for type checkers only
    "matplotlib": {"plotting", "report", "reproduction", "experiments"},
    "rich": {"answer", "progress"},
    "cyclopts": {"cli"},
    "pint": {"dimensions"},
    "sklearn": {"estimator"},
    "distributed": {"cluster"},
    "pysindy": {"peers"},
    "pyoperon": {"peers"},
    "pysr": {"peers"},
}
FLOOR_OF = {module: floor for floor, modules in FLOORS.items() for module in modules}
HEAVY = ("torch", "matplotlib", "sympy", "pandas", "scipy", "torchdiffeq", "sklearn")


@cache
def modules() -> dict[str, ast.Module]:
    """The modules of the package, parsed, by name; a folder of units counts as one."""
    trees: dict[str, ast.Module] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).with_suffix("").parts[0]
        body = ast.parse(path.read_text(encoding="utf-8")).body
        trees.setdefault(name, ast.Module([], [])).body.extend(body)
    del trees["__init__"]  # the public face names every floor, lazily
    return trees


def imported(tree: ast.Module) -> tuple[set[str], set[str]]:
    """Modules of the package and libraries that a module imports anywhere, in functions and for type checkers too."""
    inside, outside = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            inside |= {(node.module or a.name).split(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            outside.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.Import):
            outside |= {a.name.split(".")[0] for a in node.names}
    return inside & set(FLOOR_OF), outside


def loaded_by(statement: str) -> set[str]:
    """Top-level packages that a fresh interpreter holds after a statement."""
    code = f"{statement}; import sys; print(*{{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_every_module_has_its_floor() -> None:
    assert set(modules()) - set(FLOOR_OF) == set(), "give a new module its floor in FLOORS"


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_only_go_down(name: str) -> None:
    floors = list(FLOORS)
    inside, _ = imported(modules()[name])
    up = {other for other in inside if floors.index(FLOOR_OF[other]) > floors.index(FLOOR_OF[name])}
    assert up == set()


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {}
    for name, tree in modules().items():
        at_import = ast.Module([n for n in tree.body if isinstance(n, ast.ImportFrom | ast.Import)], [])
        graph[name] = imported(at_import)[0] - {name}
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("name", sorted(modules()))
def test_libraries_stay_where_they_belong(name: str) -> None:
    _, outside = imported(modules()[name])
    for library in outside & set(LIVES_IN):
        assert LIVES_IN[library] & {name, FLOOR_OF[name]}, f"{name} imports {library}"


def test_there_is_no_drawer_for_odds_and_ends() -> None:
    assert not {"utils", "util", "helpers", "common", "misc"} & set(modules())


def test_importing_eqdisc_loads_nothing_heavy() -> None:
    assert not loaded_by("import eqdisc") & set(HEAVY)


def test_the_command_loads_nothing_heavy_before_it_knows_what_to_do() -> None:
    assert not loaded_by("import eqdisc.cli") & {*HEAVY, "numpy"}


def test_reading_and_simulating_a_run_needs_no_torch() -> None:
    assert not loaded_by("import eqdisc.runs, eqdisc.answer, eqdisc.plotting, eqdisc.simulation, eqdisc.equations") & {
        "torch"
    }


def test_every_public_name_is_there_and_type_checkers_see_the_same() -> None:
    for name in eqdisc.__all__:
        assert getattr(eqdisc, name) is not None
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [n for n in tree.body if isinstance(n, ast.If)]
    seen = {a.name for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names}
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
