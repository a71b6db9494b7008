"""Card: what is shown of a finding, live or read again: its card in a notebook, its equations for LaTeX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ..work.markup import write_grid, write_heading, write_list

if TYPE_CHECKING:
    from ..law.equations import Equations

PICK = "→"


def write_finding(
    result: Mapping[str, Any], law: Equations, rivals: Sequence[Equations], symbols: Sequence[str]
) -> Markup:
    """Return what a search found, `result` as in result.json: law, verdict, reasons, front, rivals."""
    from ..law.printers import write_math

    renamed = [f"{s} stands for {name}" for name, s in zip(result["states"], symbols, strict=True) if s != name]
    parts = [write_heading(result["verdict"]), *write_math(law), write_list(renamed), write_list(result["reasons"])]
    head = ["", "complexity", "parameters", "error fitted", "error unseen", "description length", "ended"]
    rows = []
    for k, entry in enumerate(result["front"]):
        errors = [entry.get(key) for key in ("train", "unseen", "description_length")]
        size, ended = [entry["complexity"], entry["parameters"]], entry.get("status", "ok").replace("_", " ")
        rows.append([PICK if k == result["selected"] else "", *size, *errors, ended])
    parts.append(write_grid(head, rows))
    if rivals:
        parts.append(Markup("<details><summary>alternatives: {}</summary>").format(len(rivals)))
        for rival in rivals:
            parts.append(Markup("<div>{}</div>").format(Markup("").join(write_math(rival))))
        parts.append(Markup("</details>"))
    return Markup("").join(parts)


def write_latex(result: Mapping[str, Any], law: Equations) -> str:
    """Return equations.tex: an align environment with one equation a state, numbers in full."""
    sides = zip(latex_names(law), law.latex().values(), strict=True)
    rows = [rf"  \frac{{d {left}}}{{dt}} &= {right}" for left, right in sides]
    head = f"% eqdisc {result['eqdisc']}, verdict: {result['verdict']}; \\usepackage{{amsmath}}\n"
    return head + "\\begin{align}\n" + " \\\\\n".join(rows) + "\n\\end{align}\n"


def latex_names(law: Equations) -> list[str]:
    """Return the states as they stand in LaTeX: the right-hand sides of dx/dt = x."""
    return list(replace(law, rhs=law.symbols).latex().values())
