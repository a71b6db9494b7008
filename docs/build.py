"""Build the documentation: the API as pages, with the guide "How to read a verdict" at the head of `eqdisc.judge.verdict`.

    pip install -c constraints.txt -e '.[docs]' && python docs/build.py

writes docs/api/ (or the folder that is named as an argument); open docs/api/index.html. A warning ends the build.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pdoc
import pdoc.render

import eqdisc
from eqdisc.judge import verdict

DOCS = Path(__file__).parent
MODULES = ("eqdisc", "eqdisc.judge.verdict", "eqdisc.judge.selection", "eqdisc.runs.plotting")


def build(folder: Path) -> None:
    """Write the pages into `folder`; ends the program with the warnings if there are any."""
    for name in eqdisc.__all__:
        getattr(eqdisc, name)  # public names are loaded when they are first used, and pdoc wants them loaded
    verdict.__doc__ = _read_guide()
    pdoc.render.configure(
        template_directory=DOCS / "templates",
        docformat="markdown",
        math=True,
        footer_text=f"eqdisc {eqdisc.__version__}",
    )
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        pdoc.pdoc(*MODULES, output_directory=folder)
    if found:
        raise SystemExit("\n".join(str(w.message) for w in found))


def _read_guide() -> str:
    """Return the guide, as the head of the page of the module that judges."""
    return (DOCS / "verdict.md").read_text(encoding="utf-8")


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "api")
