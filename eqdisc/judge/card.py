"""Card: what a notebook shows for a finding, live or read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    parts.append(write_grid(head, (_front_row(k, e, result["selected"]) for k, e in enumerate(result["front"]))))
    if rivals:
        parts.append(Markup("<details><summary>alternatives: {}</summary>").format(len(rivals)))
        for rival in rivals:
            parts.append(Markup("<div>{}</div>").format(Markup("").join(write_math(rival))))
        parts.append(Markup("</details>"))
    return Markup("").join(parts)


def _front_row(k: int, entry: Mapping[str, Any], selected: int) -> list[Any]:
    errors = [entry.get(key) for key in ("train", "unseen", "description_length")]
    ended = entry.get("status", "ok").replace("_", " ")
    return [PICK if k == selected else "", entry["complexity"], entry["parameters"], *errors, ended]


__all__ = ["write_finding"]
