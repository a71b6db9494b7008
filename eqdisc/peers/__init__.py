"""Peers: other methods that learn dynamics from the same records, each in its strongest configuration that is known.

Each is a function from a dataset to a right-hand side that `simulate` can follow; its library is loaded when it runs. What a
method raises, it raises: `comparison` turns it into a row of the table.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec

from ..data.dataset import Dataset
from ..law.simulation import RightHandSide
from .dense import fit_dense
from .genetic import fit_operon, fit_pysr
from .sindy import fit_polynomials, fit_powers


@dataclass(frozen=True)
class Peer:
    """A method: what it is called, the library it needs and the module that library is loaded by, and how it is run."""

    name: str
    library: str
    module: str
    run: Callable[[Dataset, int, float], RightHandSide]
    cure: str = "pip install 'eqdisc[compare]'"

    @property
    def installed(self) -> bool:
        return find_spec(self.module) is not None

    def fit(self, data: Dataset, seed: int, seconds: float) -> RightHandSide:
        """Learn from `data` within about so many seconds; the library's warnings are its own affair."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.run(data, seed, seconds)


PEERS = (
    Peer("PySINDy, powers", "PySINDy", "pysindy", fit_powers),
    Peer("PySINDy, polynomials", "PySINDy", "pysindy", fit_polynomials),
    Peer("neural ODE", "PyTorch", "torch", fit_dense),
    Peer("Operon", "Operon", "pyoperon", fit_operon, "pip install pyoperon"),
    Peer("PySR", "PySR", "pysr", fit_pysr, "pip install pysr (it brings Julia)"),
)


def list_missing(peers: Iterable[Peer] = PEERS) -> list[str]:
    """Return one line for each library that is not installed, with what installs it."""
    lines = [f"{p.library} is not installed; {p.cure}" for p in peers if not p.installed]
    return list(dict.fromkeys(lines))
