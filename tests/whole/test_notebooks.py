"""The notebooks run from the first cell to the last, and say what they promise."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
PROMISED = {
    "01_fsir": "identified",
    "02_paper": "the exact law in 100 of 100",
    "03_your_data": "not identified",
    "04_uncertainty": "ambiguous",
    "05_compare": "held out",
    "06_power_laws_in_nature": "ambiguous",
}


LONG = ("04_uncertainty", "05_compare", "06_power_laws_in_nature")
RUNS = [pytest.param(p, marks=[pytest.mark.slow] if p.stem in LONG else [], id=p.stem) for p in NOTEBOOKS]


@pytest.mark.parametrize("path", RUNS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_notebook_runs_from_first_to_last(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    said = "".join(o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", []))
    assert PROMISED[path.stem] in said
