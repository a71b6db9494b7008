"""eqdisc: from a table of measurements over time to the differential equation behind it.

    import eqdisc as eq

    data = eq.read_table("data/fsir.csv")
    found = eq.discover(data)
    found.equations.readable()

What the word behind `found.verdict` means, and what to do about each reason: see `eqdisc.judge.verdict`.

Every name here is loaded when it is first used: `import eqdisc` alone loads neither torch nor SymPy nor matplotlib.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .data.check import Diagnosis, diagnose
    from .data.dataset import Dataset, Trajectory
    from .data.tables import as_dataset, read_table
    from .discovery import discover
    from .estimator import EquationDiscovery
    from .judge.finding import Finding as Discovery
    from .judge.finding import FrontEntry
    from .law.catalogue import catalogue, simulate_system
    from .law.equations import Equations, Parameter
    from .law.simulation import Simulation, simulate
    from .peers.comparison import Comparison, compare
    from .runs import plotting
    from .runs.design import Experiment, propose_experiments
    from .runs.run import Run, load
    from .units.chain import Chain
    from .work.config import FitConfig
    from .work.crew import Crew
    from .work.errors import DataError, DataWarning, EqdiscError, FormulaError, OptionError, RunError
    from .work.journal import Journal
    from .work.status import Status

_HOMES = {
    "work.crew": ("Crew",),
    "peers.comparison": ("Comparison", "compare"),
    "work.config": ("FitConfig",),
    "runs.design": ("Experiment", "propose_experiments"),
    "data.check": ("Diagnosis", "diagnose"),
    "discovery": ("discover",),
    "judge.finding": ("Discovery", "FrontEntry"),
    "law.equations": ("Equations", "Parameter"),
    "work.errors": ("DataError", "DataWarning", "EqdiscError", "FormulaError", "OptionError", "RunError"),
    "estimator": ("EquationDiscovery",),
    "units.chain": ("Chain",),
    "work.journal": ("Journal",),
    "runs.run": ("Run", "load"),
    "law.simulation": ("Simulation", "simulate"),
    "work.status": ("Status",),
    "law.catalogue": ("catalogue", "simulate_system"),
    "data.tables": ("as_dataset", "read_table"),
    "data.dataset": ("Dataset", "Trajectory"),
}
_CALLED = {"Discovery": "Finding"}  # in its home, what has another name there
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Chain", "Comparison", "Crew", "DataError", "DataWarning", "Dataset", "Diagnosis", "Discovery",
    "EqdiscError", "EquationDiscovery", "Equations", "Experiment", "FitConfig", "FormulaError", "FrontEntry",
    "Journal", "OptionError", "Parameter", "Run", "RunError", "Simulation", "Status", "Trajectory",
    "__version__", "as_dataset", "catalogue", "compare", "diagnose", "discover", "load", "plotting",
    "propose_experiments", "read_table", "simulate", "simulate_system",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load a public name from its module when it is first used."""
    if name in _HOME_OF:
        value = getattr(import_module(f".{_HOME_OF[name]}", __name__), _CALLED.get(name, name))
    elif name == "plotting":
        value = import_module(".runs.plotting", __name__)
    else:
        from .work.errors import did_you_mean

        raise AttributeError(f"module 'eqdisc' has no attribute {name!r}.{did_you_mean(name, __all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
