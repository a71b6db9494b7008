r"""Markup: what a notebook shows for an object, as small pieces of HTML.

Every text is escaped by markupsafe; a formula is MathML, made from symbols and numbers only. Nothing is loaded, there
is no style sheet: a notebook's own look, light or dark, is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup, escape

MOST_ROWS = 12  # rows of a table that is only a glance


def write_heading(text: str, note: str = "") -> Markup:
    """Return a line in bold and a note behind it.

    >>> write_heading("x < y", "a note")
    Markup('<p><b>x &lt; y</b> a note</p>')
    """
    return Markup("<p><b>{}</b>{}</p>").format(text, f" {note}" if note else "")


def write_list(lines: Iterable[str]) -> Markup:
    """Return lines as a list, nothing for none."""
    items = Markup("").join(Markup("<li>{}</li>").format(line) for line in lines)
    return Markup("<ul>{}</ul>").format(items) if items else Markup("")


def write_grid(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Markup:
    """Return a table: numbers in four digits, what is missing or not finite as a dash, the rest as it is.

    >>> write_grid(["x", "<y>"], [[1 / 3, None]])
    Markup('<table><thead><tr><th>x</th><th>&lt;y&gt;</th></tr></thead><tbody><tr><td>0.3333</td><td>–</td></tr></tbody></table>')
    """
    line = Markup("<tr>{}</tr>")
    top = line.format(Markup("").join(Markup("<th>{}</th>").format(cell) for cell in head))
    body = Markup("").join(
        line.format(Markup("").join(Markup("<td>{}</td>").format(_cell(c)) for c in row)) for row in rows
    )
    return Markup("<table><thead>{}</thead><tbody>{}</tbody></table>").format(top, body)


def _cell(value: Any) -> Markup:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return Markup("–")
    return escape(f"{value:.4g}" if isinstance(value, float) else value)


def write_number(value: float | None, digits: int = 4) -> str:
    """Write a number for a table; what is missing or not finite is a dash.

    >>> write_number(0.012345678), write_number(None), write_number(3e-9, 2)
    ('0.01235', '–', '3e-09')
    """
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}g}"


def write_interval(ends: Sequence[float | None] | None) -> str:
    """Write an interval with as many digits as its ends need to differ.

    >>> write_interval([0.43671, 0.45129]), write_interval([0.0599999891, 0.0600000109]), write_interval(None)
    ('0.4367 to 0.4513', '0.05999999 to 0.06000001', '–')
    """
    if not ends or any(v is None or not math.isfinite(v) for v in ends):
        return "–"
    low, high = (float(v) for v in ends if v is not None)
    texts = ((f"{low:.{n}g}", f"{high:.{n}g}") for n in range(4, 18))
    return " to ".join(next((pair for pair in texts if pair[0] != pair[1]), (repr(low), repr(high))))
