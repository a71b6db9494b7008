"""Plain: what a result is outside of Python, values that JSON can hold and equations for LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..law.equations import Equations


def write_latex(result: Mapping[str, Any], equations: Equations) -> str:
    r"""Return equations.tex: an align environment with one equation a state, numbers in full."""
    sides = zip(latex_names(equations), equations.latex().values(), strict=True)
    rows = [rf"  \frac{{d {left}}}{{dt}} &= {right}" for left, right in sides]
    head = f"% eqdisc {result['eqdisc']}, verdict: {result['verdict']}; \\usepackage{{amsmath}}\n"
    return head + "\\begin{align}\n" + " \\\\\n".join(rows) + "\n\\end{align}\n"


def latex_names(equations: Equations) -> list[str]:
    """Return the states as they stand in LaTeX: the right-hand sides of dx/dt = x."""
    return list(replace(equations, rhs=equations.symbols).latex().values())


def as_json(value: Any) -> Any:
    """Return plain values that JSON can hold: arrays as lists, numbers that are not finite as null.

    >>> from pathlib import Path
    >>> as_json({"a": np.float64("nan"), "b": (1, np.arange(2)), "c": Path("x")})
    {'a': None, 'b': [1, [0, 1]], 'c': 'x'}
    """
    match value:
        case None | bool() | str():
            return value
        case np.bool_():
            return bool(value)
        case int() | np.integer():
            return int(value)
        case float() | np.floating():
            return float(value) if np.isfinite(value) else None
        case Mapping():
            return {str(key): as_json(v) for key, v in value.items()}
        case np.ndarray():
            return as_json(value.tolist())
        case Iterable():
            return [as_json(v) for v in value]
    return str(value)


__all__ = ["as_json", "latex_names", "write_latex"]
