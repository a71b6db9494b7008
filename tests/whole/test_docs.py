"""The documentation: it builds without a warning, the guide to verdicts is in it, and the guide says what the code says."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import eqdisc

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api")
    subprocess.run([sys.executable, "docs/build.py", str(folder)], cwd=ROOT, check=True, timeout=300)
    return folder


def test_every_public_name_has_its_place(pages: Path) -> None:
    assert (pages / "index.html").exists()
    page = (pages / "eqdisc.html").read_text(encoding="utf-8")
    assert [
        name for name in eqdisc.__all__ if f'id="{name}"' not in page and name not in ("__version__", "plotting")
    ] == []
    assert (pages / "eqdisc" / "runs" / "plotting.html").exists()
    assert "set_fit_request" not in page.partition('<section id="EquationDiscovery">')[2].partition("</section>")[0]


def test_the_guide_to_verdicts_is_a_page(pages: Path) -> None:
    page = (pages / "eqdisc" / "judge" / "verdict.html").read_text(encoding="utf-8")
    for words in ("How to read a verdict", "not identified", 'id="judge"'):
        assert words in page
    assert "eqdisc/judge/verdict.html" in (pages / "eqdisc.html").read_text(encoding="utf-8")


def test_the_guide_explains_every_reason_that_the_code_gives() -> None:
    """Runs of words between the numbers of a sentence stand in the guide too."""
    trees = [
        ast.parse((ROOT / "eqdisc" / "judge" / f"{name}.py").read_text(encoding="utf-8"))
        for name in ("verdict", "front")
    ]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    sentences = [part for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values]
    plain = [str(part.value).strip(" .;,(:") for part in sentences if isinstance(part, ast.Constant)]
    plain += [n.value.strip() for n in nodes if isinstance(n, ast.Constant) and str(n.value).startswith(" One")]
    long = [words for words in plain if len(words.split()) > 3]
    text = (ROOT / "docs" / "verdict.md").read_text(encoding="utf-8")
    guide = " ".join(text.replace("\n> ", " ").split())
    assert len(long) > 15
    assert [words for words in long if words not in guide] == []
