"""Panels: figures for a paper, one panel a state over a shared time axis, units on the axes, colours that keep apart in grey print."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from ..data.dataset import Dataset

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..law.equations import Equations

INK, DOTS, MARK = "#1b3a5c", "#8a8f98", "#c1440e"
COLUMN = 4  # states that fit under each other; more stand in two columns
FEW = 5  # trajectories that are told apart by colour
LONGEST_TITLE = 62  # characters of a law that fits over its panel


def new_figure(states: int) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes (states,), one panel a state over a shared time axis; no display is needed."""
    rows, columns, size = _lay_out(states)
    figure = Figure(figsize=size, dpi=200, layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False).T.ravel()
    for ax in grid[states:]:
        ax.set_visible(False)
        grid[states - 1].tick_params(labelbottom=True)
    return figure, grid[:states]


def new_row(panels: int) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes (panels,) side by side, each with its own scales; no display is needed."""
    figure = Figure(figsize=(4.6 if panels == 1 else 3.1 * panels, 3.0), dpi=200, layout="constrained")
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def render(figure: Figure, form: str) -> bytes:
    """Return a figure as svg or png on a clear ground; the same figure gives the same bytes."""
    page = io.BytesIO()
    with rc_context({"svg.hashsalt": "eqdisc"}):
        figure.savefig(page, format=form, transparent=True, metadata={"Date": None} if form == "svg" else None)
    return page.getvalue()


def open_axes(count: int) -> np.ndarray:
    """Open a figure where pyplot shows it, as a notebook expects."""
    import matplotlib.pyplot as plt

    rows, columns, size = _lay_out(count)
    size = size if count > 1 else (4.6, 3.0)
    _, grid = plt.subplots(rows, columns, sharex=True, squeeze=False, figsize=size, layout="constrained")
    return grid.T.ravel()[:count]


def _lay_out(panels: int) -> tuple[int, int, tuple[float, float]]:
    """Return rows, columns and size in inches."""
    columns = 1 if panels <= COLUMN else 2
    rows = -(-panels // columns)
    return rows, columns, (5.2 if columns == 1 else 7.5, 0.6 + 1.45 * rows)


def colours(count: int) -> list[tuple[Any, Any]]:
    """Return the colours of line and dots for each trajectory: ink and grey, or a ramp from dark to light."""
    if count == 1:
        return [(INK, DOTS)]
    from matplotlib import colormaps

    ramp = colormaps["viridis"](np.linspace(0.0, 0.8, min(count, FEW)))
    return [(ramp[k % len(ramp)], ramp[k % len(ramp)]) for k in range(count)]


def label(name: str, unit: str | None = None) -> str:
    """Return an axis label; a dollar sign in a name stays a dollar sign.

    >>> label("cost [$]", "k$")
    'cost [\\\\$] [k\\\\$]'
    """
    return (name + (f" [{unit}]" if unit else "")).replace("$", r"\$")


def name_of(data: Dataset, column: str) -> str:
    return label(column, data.units.get(column))


def name_times(axes: np.ndarray, words: str) -> None:
    for ax in axes:
        if ax.get_subplotspec() is None or ax.get_subplotspec().is_last_row() or ax is axes[-1]:
            ax.set_xlabel(words, fontsize=9)
    axes[0].figure.align_ylabels(axes)


def keep_to_data(ax: Axes, values: np.ndarray) -> None:
    """Keep the axis to about the data: a law that runs away leaves the panel and does not flatten the data."""
    low, high = np.nanmin(values), np.nanmax(values)
    room = 0.35 * (high - low) or 1.0
    bottom, top = ax.get_ylim()
    ax.set_ylim(max(bottom, low - room), min(top, high + room))


def finish(ax: Axes, x: str | None = None, y: str | None = None) -> None:
    """Name the axes, and draw them as in a paper."""
    if x is not None:
        ax.set_xlabel(x, fontsize=9)
    if y is not None:
        ax.set_ylabel(y, fontsize=9)
    ax.tick_params(direction="out", length=3, width=0.6, labelsize=8)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for spine in ax.spines.values():
        spine.set_linewidth(0.6)


def write_laws(axes: np.ndarray, equations: Equations) -> None:
    """Write each law over its panel, all of them or none: a law without its sisters misleads."""
    lefts = replace(equations, rhs=equations.symbols).latex().values()  # dx/dt = x: the names as LaTeX has them
    laws = [_round_numbers(left, right) for left, right in zip(lefts, equations.latex().values(), strict=True)]
    seen = (re.sub(r"\\([a-z]+|,)|[{}$^_ ]", "", law) for law in laws)  # about
    if all(len(law) <= LONGEST_TITLE for law in seen):
        for ax, law in zip(axes, laws, strict=True):
            ax.set_title(law, loc="left", fontsize=9, pad=4)


def _round_numbers(name: str, right: str) -> str:
    r"""Return an equation as mathtext, numbers to four digits; where digits are lost the equation is only approximate.

    >>> print(_round_numbers("S", r"-0.0600001 \sqrt{I S} + 0.01 R"))
    $d S/dt \approx {-}0.06\,\sqrt{I\,S} + 0.01\,R$
    """
    short = re.sub(r"(?<!\d)\d{1,4}\.\d+", lambda number: format(float(number[0]), ".4g"), right)
    sign = "=" if short == right else r"\approx"
    spaced = re.sub(r"(?<![+-]) (?![+-])", r"\\,", re.sub(r"^-", "{-}", short))
    return rf"$d {name}/dt {sign} {spaced}$"
