"""A stand-in for what a search returns, so that tests of folders and commands need no search."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from eqdisc.data.dataset import Dataset
from eqdisc.law.equations import Equations
from eqdisc.runs.run import Run
from eqdisc.work.config import FitConfig

RATE = 0.1 + 0.2  # 0.30000000000000004: a number that short printing would lose


def discovery_of(data: Dataset, verdict: str = "identified") -> Any:
    """Make a record with the face of a Discovery: every state decays at RATE."""
    result = _result_of(data, verdict)
    law = {n: result["equations"][s] for s, n in zip(data.states, data.formula_names, strict=True)}
    equations = Equations.parse(law, data.formula_names)
    return SimpleNamespace(
        result=lambda: result, equations=equations, groups={}, data=data, chain=None, verdict=verdict
    )


def _result_of(data: Dataset, verdict: str = "identified") -> dict[str, Any]:
    """What a discovery of linear decay says, as contract.md's result.json."""
    names = data.formula_names
    law = {s: f"-{RATE!r}*{n}" for s, n in zip(data.states, names, strict=True)}
    entry = {
        "complexity": 3,
        "parameters": 1,
        "equations": law,
        "train": 1.0,
        "unseen": None,
        "description_length": -9.5,
        "status": "ok",
    }
    rough = {**entry, "complexity": 1, "train": float("inf"), "status": "diverged"}
    starts = [
        {"trajectory": k.name, "x0": dict(zip(data.states, k.x[0].tolist(), strict=True))} for k in data.trajectories
    ]
    return {
        "format": 1,
        "eqdisc": "0.1.0",
        "states": list(data.states),
        "inputs": [],
        "time": data.time,
        "symbols": dict(data.symbols),
        "equations": law,
        "latex": {s: f"-{RATE!r} {n}" for s, n in zip(data.states, names, strict=True)},
        "verdict": verdict,
        "reasons": ["A reason."],
        "alternatives": [],
        "parameters": [],
        "fluxes": [],
        "invariants": [],
        "initial": starts,
        "sigma": dict.fromkeys(data.states, 0.1),
        "errors": {"metric": "rms", "train": np.float64(1.0), "later": None, "new_start": None, "horizon": 1.0},
        "front": [rough, entry],
        "selected": 1,
        "ci_level": 0.9,
        "data": {"file": data.file, "rows": data.rows, "trajectories": len(data)},
        "config": FitConfig().as_dict(),
        "seed": 0,
        "device": "cpu",
        "seconds": 0.1,
    }


def run_of(law: dict[str, str], data: Dataset, **facts: Any) -> Run:
    """Make a run in memory: a law by state name, the data it was fitted to, and facts of result.json that differ."""
    run = Run(Path("runs/stand-in"), {**_result_of(data), "equations": law, **facts})
    run.__dict__["data"] = data
    return run
