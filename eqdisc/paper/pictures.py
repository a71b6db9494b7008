"""Pictures of the experiments, in the style of `plotting`; each says what it shows, and the page beside it where the numbers are from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from ..runs.plotting import DOTS, INK, MARK
from .statistics import undominated

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OPERATIONS = ("x + y", "x y", "x / y", "√x")
CLIP = (-4.0, 2.0)  # of the logarithm of errors, as in Fig. 6
BRIGHTEST = 2.5  # of gradient norms, as in Fig. 3


def draw_norms(norms: Mapping[str, np.ndarray], w1: np.ndarray, w2: np.ndarray) -> Figure:
    """Draw gradient norms over two exponents, a panel a unit; what is beyond the scale is black."""
    figure = Figure(figsize=(9.0, 3.0), dpi=120, layout="constrained")
    axes = figure.subplots(1, len(norms), sharey=True)
    image = None
    for ax, (name, norm) in zip(axes, norms.items(), strict=True):
        image = ax.contourf(
            w1, w2, np.clip(norm.T, 0, BRIGHTEST), levels=np.linspace(0, BRIGHTEST, 15), cmap="inferno_r"
        )
        ax.plot(1.0, 0.0, "+", color=INK, ms=9, mew=1.5)
        ax.set_title(name, fontsize=9)
        ax.set_xlabel("w₁", fontsize=9)
        ax.tick_params(labelsize=8)
    axes[0].set_ylabel("w₂", fontsize=9)
    if image is not None:
        bar = figure.colorbar(image, ax=axes, ticks=(0, 0.5, 1, 1.5, 2, 2.5))
        bar.set_label("gradient norm", fontsize=9)
        bar.ax.tick_params(labelsize=8)
    return figure


def draw_surfaces(errors: Mapping[str, np.ndarray], grid: np.ndarray, roots: np.ndarray) -> Figure:
    """Draw log10 of absolute errors (4, n, n) over both inputs, an operation a row, a model a column."""
    figure = Figure(figsize=(1.35 * len(errors) + 1.0, 5.8), dpi=120, layout="constrained")
    axes = figure.subplots(4, len(errors), squeeze=False)
    image = None
    for column, (model, error) in zip(axes.T, errors.items(), strict=True):
        column[0].set_title(model, fontsize=9)
        for i, ax in enumerate(column):
            at = roots if i == 3 else grid
            with np.errstate(divide="ignore"):
                shown = np.clip(np.log10(error[i, : len(at), : len(at)]), *CLIP)
            image = ax.pcolormesh(at, at, shown.T, vmin=CLIP[0], vmax=CLIP[1], cmap="inferno_r", rasterized=True)
            ax.set_aspect("equal")
            ax.tick_params(labelsize=6)
    for ax, name in zip(axes[:, 0], OPERATIONS, strict=True):
        ax.set_ylabel(f"{name}\n\ny", fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("x", fontsize=8)
    if image is not None:
        bar = figure.colorbar(image, ax=axes, shrink=0.6)
        bar.set_label("log₁₀ |error|", fontsize=8)
        bar.ax.tick_params(labelsize=7)
    return figure


def scatter(
    ax: Axes, size: Sequence[float], error: Sequence[float], colour: str, name: str, front: Sequence[int] = ()
) -> None:
    """Draw runs as dots of error over size on two logarithmic axes, and the front of those that none beats as a line."""
    ax.plot(size, error, "o", ms=3, mfc="none", mec=colour, mew=0.7, alpha=0.6)
    if front:
        ax.plot([size[i] for i in front], [error[i] for i in front], "-o", color=colour, ms=3.5, lw=1.0, label=name)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.tick_params(labelsize=8)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


COLOURS = (INK, MARK, DOTS, "#3d8b5f", "#8e5aa8", "#c9a227", "#4aa3b5")


def draw_shares(shares: Mapping[str, Mapping[str, Sequence[float]]], names: Sequence[str]) -> Figure:
    """Draw the share of seeds that solved each range (columns) by each unit (lines), a panel a task."""
    most = max(len(lines) for lines in shares.values())
    figure = Figure(figsize=(4.3 * len(shares) + 0.8, 1.5 + 0.28 * most), dpi=120, layout="constrained")
    axes = figure.subplots(1, len(shares), squeeze=False)[0]
    image = None
    for ax, (task, lines) in zip(axes, shares.items(), strict=True):
        table = np.array(list(lines.values()))
        image = ax.imshow(table, vmin=0.0, vmax=1.0, cmap="Blues", aspect="auto")
        for (i, j), share in np.ndenumerate(table):
            ax.text(
                j, i, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color="white" if share > 0.6 else INK
            )
        ax.set_title(task, fontsize=9)
        ax.set_xticks(range(len(names)), names, fontsize=7, rotation=45, ha="right")
        ax.set_yticks(range(len(lines)), list(lines), fontsize=8)
        ax.set_xlabel("range trained on", fontsize=8)
    if image is not None:
        figure.colorbar(image, ax=axes).set_label("share solved", fontsize=8)
    return figure


def draw_epidemic(
    points: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    fronts: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    best: Mapping[str, Any] | None,
) -> Figure:
    """Draw error against size of all runs, the undominated joined, the paper's dashed; beside it the best RealNPU's numbers."""
    figure = Figure(figsize=(10.5, 3.9), dpi=120, layout="constrained")
    axes = figure.subplots(1, 4 if best else 1, width_ratios=[2.2, 1.3, 0.35, 0.9] if best else [1], squeeze=False)[0]
    ax = axes[0]
    for (model, (size, error)), colour in zip(points.items(), COLOURS, strict=False):
        scatter(ax, size, error, colour, model, undominated(size, error))
        if model in fronts:
            ax.plot(*fronts[model], ":s", color=colour, ms=2.5, lw=1.0, mfc="white", label=f"{model}, paper")
    ax.set_xlabel("numbers above 0.001", fontsize=9)
    ax.set_ylabel("mean squared error", fontsize=9)
    ax.set_ylim(top=3e3)
    ax.xaxis.set_major_locator(FixedLocator([10, 20, 50, 100, 200, 500]))
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.legend(frameon=False, fontsize=7, ncols=2)
    if best:
        powers = np.array(best["realnpu.exponents"])
        there = np.abs(powers).max(1) > 1e-3
        _draw_matrix(axes[1], powers[there], "exponents", ("S", "I", "R"))
        _draw_matrix(axes[2], np.array(best["realnpu.gate"])[:, None], "gates", ("g",), ("S", "I", "R"))
        _draw_matrix(axes[3], np.array(best["nau.coefficients"])[:, there].T, "coefficients", ("dS", "dI", "dR"))
        axes[1].set_ylabel(f"hidden units of the best RealNPU, error {best['error']:.3g}", fontsize=8)
    return figure


def _draw_matrix(ax: Axes, values: np.ndarray, title: str, columns: Sequence[str], rows: Sequence[str] = ()) -> None:
    most = max(float(np.abs(values).max(initial=0.0)), 1e-9)
    ax.imshow(values, vmin=-most, vmax=most, cmap="RdBu_r", aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        text = f"{value:.2f}" if abs(value) > 1e-3 else "0"
        ax.text(j, i, text, ha="center", va="center", fontsize=7, color="white" if abs(value) > 0.7 * most else "black")
    ax.set_title(title, fontsize=9)
    ax.set_xticks(range(values.shape[1]), columns, fontsize=8)
    ax.set_yticks(range(len(rows)), rows, fontsize=8)


def draw_sizes(
    points: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]],
    paper: Mapping[str, Sequence[tuple[float, float]]],
) -> Figure:
    """Draw error against size of all runs, a panel a task, with the medians that the paper prints as crosses."""
    figure = Figure(figsize=(3.0 * len(points) + 0.5, 3.2), dpi=120, layout="constrained")
    axes = figure.subplots(1, len(points), squeeze=False)[0]
    colours = dict(zip(("NPU", "RealNPU", "NALU", "NMU", "NaiveNPU", "ours"), COLOURS, strict=False))
    for ax, (task, lines) in zip(axes, points.items(), strict=True):
        for model, (size, error) in lines.items():
            scatter(ax, size, np.clip(error, 1e-34, 1e20).tolist(), colours[model], model)
        ax.plot(*zip(*paper[task], strict=True), "x", color="black", ms=5)
        ax.set_title(task, fontsize=9)
        ax.set_xlabel("numbers", fontsize=9)
    axes[0].set_ylabel("mean squared error", fontsize=9)
    seen = dict.fromkeys(model for lines in points.values() for model in lines)
    marks = [Line2D([], [], marker="o", ls="", ms=4, color=colours[model], label=model) for model in seen]
    marks.append(Line2D([], [], marker="x", ls="", ms=5, color="black", label="paper, medians"))
    figure.legend(handles=marks, loc="outside right upper", frameon=False, fontsize=7)
    return figure
