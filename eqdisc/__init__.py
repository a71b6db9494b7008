"""eqdisc: from a table of measurements over time to the differential equation behind it.

    import eqdisc as eq

    data = eq.read_table("data/fsir.csv")
    found = eq.discover(data)
    found.equations.readable()

What the word behind `found.verdict` means, and what to do about each reason: see `eqdisc.verdict`.

Every name here is loaded when it is first used: `import eqdisc` alone loads neither torch nor SymPy nor matplotlib.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import plotting
    from .cluster import Crew
    from .comparison import Comparison, compare
    from .config import FitConfig
    from .design import Experiment, propose_experiments
    from .diagnosis import Diagnosis, diagnose
    from .discovery import Discovery, FrontEntry, discover
    from .equations import Equations, Parameter
    from .errors import DataError, DataWarning, EqdiscError, FormulaError, OptionError, RunError
    from .estimator import EquationDiscovery
    from .field import Chain
    from .journal import Journal
    from .runs import Run, load
    from .simulation import Simulation, simulate
    from .status import Status
    from .systems import catalogue, simulate_system
    from .tables import as_dataset, read_table
    from .trajectory import Dataset, Trajectory

_HOMES = {
    "cluster": ("Crew",),
    "comparison": ("Comparison", "compare"),
    "config": ("FitConfig",),
    "design": ("Experiment", "propose_experiments"),
    "diagnosis": ("Diagnosis", "diagnose"),
    "discovery": ("Discovery", "FrontEntry", "discover"),
    "equations": ("Equations", "Parameter"),
    "errors": ("DataError", "DataWarning", "EqdiscError", "FormulaError", "OptionError", "RunError"),
    "estimator": ("EquationDiscovery",),
    "field": ("Chain",),
    "journal": ("Journal",),
    "runs": ("Run", "load"),
    "simulation": ("Simulation", "simulate"),
    "status": ("Status",),
    "systems": ("catalogue", "simulate_system"),
    "tables": ("as_dataset", "read_table"),
    "trajectory": ("Dataset", "Trajectory"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Chain",
    "Comparison",
    "Crew",
    "DataError",
    "DataWarning",
    "Dataset",
    "Diagnosis",
    "Discovery",
    "EqdiscError",
    "EquationDiscovery",
    "Equations",
    "Experiment",
    "FitConfig",
    "FormulaError",
    "FrontEntry",
    "Journal",
    "OptionError",
    "Parameter",
    "Run",
    "RunError",
    "Simulation",
    "Status",
    "Trajectory",
    "__version__",
    "as_dataset",
    "catalogue",
    "compare",
    "diagnose",
    "discover",
    "load",
    "plotting",
    "propose_experiments",
    "read_table",
    "simulate",
    "simulate_system",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module when it is first used."""
    if name in _HOME_OF:
        value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    elif name == "plotting":
        value = import_module(".plotting", __name__)
    else:
        from .errors import did_you_mean

        raise AttributeError(f"module 'eqdisc' has no attribute {name!r}.{did_you_mean(name, __all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
