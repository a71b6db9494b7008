"""The documentation: it builds without a warning, the guide to verdicts is in it, and the guide says what the code says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import eqdisc

ROOT = Path(__file__).parent.parent


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
    assert (pages / "eqdisc" / "plotting.html").exists()


def test_the_guide_to_verdicts_is_a_page(pages: Path) -> None:
    page = (pages / "eqdisc" / "verdict.html").read_text(encoding="utf-8")
    for words in ("How to read a verdict", "not identified", 'id="judge"'):
        assert words in page
    assert "eqdisc/verdict.html" in (pages / "eqdisc.html").read_text(encoding="utf-8")


def test_the_guide_explains_every_reason_that_the_code_gives() -> None:
    """The longest run of plain words in each sentence of the code stands in the guide too."""
    code = (ROOT / "eqdisc" / "verdict.py").read_text(encoding="utf-8").partition("def judge")[2]
    guide = " ".join((ROOT / "docs" / "verdict.md").read_text(encoding="utf-8").split())
    sentences = [s for s in re.findall(r'f?"([^"\n]+)"', code) if len(s.split()) > 5]
    plain = [max(re.split(r"\{[^}]*\}", s), key=len).strip(" .;,(:") for s in sentences]
    assert len(plain) > 12
    assert [p for p in plain if p not in guide] == []
