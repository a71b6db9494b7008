r"""Plots: measured data as dots, the simulated law as lines; the front of laws as error against size.

Functions take axes and return them, so that they compose; without axes they open a figure of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from ..data.check import WIDER
from ..data.dataset import Dataset, Trajectory
from .panels import (
    DOTS,
    INK,
    MARK,
    colours,
    finish,
    keep_to_data,
    label,
    name_of,
    name_times,
    new_figure,
    new_row,
    open_axes,
    render,
    write_laws,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from ..data.check import Diagnosis
    from ..law.equations import Equations
    from ..law.simulation import Simulation
    from .design import Experiment
    from .residuals import Residual
    from .run import Run

MOST_DRAWN = 12  # trajectories of a table that is looked at before a fit
NINE_OF_TEN = 1.645  # standard deviations of a normal variable


def plot_fit(
    data: Dataset,
    simulations: Mapping[str, Simulation],
    *,
    equations: Equations | None = None,
    axes: Sequence[Axes] | np.ndarray | None = None,
) -> np.ndarray:
    """Draw each state's data as dots and its simulated law as lines, and return the axes (d,).

    `simulations` are named by trajectory, as `Run.simulate` returns them; each ends where its law ends. The law stands
    over its panel where it is short.
    """
    axes = open_axes(data.d) if axes is None else np.asarray(axes)
    for i, ax in enumerate(axes):
        for k, (line, dots) in zip(data.trajectories, colours(len(data)), strict=True):
            ax.plot(k.t, k.x[:, i], "o", ms=2.6, mfc="none", mec=dots, mew=0.7, zorder=2, label="measured")
            if k.name in simulations:
                run = simulations[k.name]
                ax.plot(run.t, run.x[:, i], color=line, lw=1.1, zorder=3, label="law")
        keep_to_data(ax, np.concatenate([k.x[:, i] for k in data.trajectories]))
        finish(ax, y=name_of(data, data.states[i]))
    name_times(axes, name_of(data, data.time))
    if equations is not None:
        write_laws(axes, equations)
    _write_legend(axes[0])
    return axes


def plot_check(data: Dataset, diagnosis: Diagnosis) -> Figure:
    """Draw what was read, a panel for each state and input: values joined where they follow each other, twice the noise about them.

    Where a state was not measured its line breaks and the stretch is shaded.
    """
    figure, axes = new_figure(data.d + len(data.inputs))
    shown = data.trajectories[:MOST_DRAWN]
    for i, ax in enumerate(axes[: data.d]):
        _draw_measured(ax, shown, i, diagnosis.states[i].noise or 0.0)
        finish(ax, y=name_of(data, data.states[i]))
    for i, ax in enumerate(axes[data.d :]):
        how = "steps-post" if data.inputs[i] in data.held else "default"
        for k, (line, _) in zip(shown, colours(len(shown)), strict=True):
            ax.plot(k.t, k.u[:, i], color=line, lw=1.0, drawstyle=how)
        finish(ax, y=name_of(data, data.inputs[i]))
    name_times(axes, name_of(data, data.time))
    more = f", {MOST_DRAWN} of {len(data)} trajectories" if len(data) > MOST_DRAWN else ""
    figure.suptitle(f"{Path(diagnosis.file).name}: {diagnosis.rows} rows{more}; bands are twice the noise", fontsize=9)
    return figure


def _draw_measured(ax: Axes, shown: Sequence[Trajectory], state: int, noise: float) -> None:
    for k, (line, dots) in zip(shown, colours(len(shown)), strict=True):
        x = k.x[:, state]
        ax.fill_between(k.t, x - 2 * noise, x + 2 * noise, color=line, alpha=0.15, lw=0)
        ax.plot(k.t, x, "-", color=line, lw=0.8, zorder=2)
        ax.plot(k.t, x, "o", ms=2.6, mfc="none", mec=dots, mew=0.7, zorder=3)
        for a, b in _unmeasured(x) if len(shown) == 1 else ():
            ax.axvspan(k.t[a], k.t[b], color=DOTS, alpha=0.15, lw=0)


def _unmeasured(x: np.ndarray) -> list[tuple[int, int]]:
    """Return the neighbouring measured samples between which far more values are missing than elsewhere."""
    seen = np.flatnonzero(np.isfinite(x))
    usual = np.median(np.diff(seen)) if len(seen) > 1 else 1
    return [(int(a), int(b)) for a, b in itertools.pairwise(seen) if b - a > WIDER * usual]


def plot_front(front: Sequence[Mapping[str, Any]], selected: int, *, ax: Axes | None = None) -> Axes:
    """Draw error against complexity for the laws of a front (as in result.json), the pick ringed, and return the axes.

    A law whose simulation broke off has no error and stands as a cross below the upper edge.
    """
    ax = open_axes(1)[0] if ax is None else ax
    size = np.array([e["complexity"] for e in front], float)
    for key, name, colour, marker in (("train", "fitted", INK, "o"), ("unseen", "unseen", MARK, "s")):
        error = np.array([e.get(key) for e in front], float)
        there = np.isfinite(error)
        if there.any():
            style: dict[str, Any] = {"color": colour, "mfc": "white", "label": name}
            ax.plot(size[there], error[there], f"-{marker}", ms=3.5, lw=0.9, mew=0.9, **style)
            ax.plot(size[selected], error[selected], marker, color=colour, ms=8, mfc="none", mew=1.1)
    broken = size[[e.get("status", "ok") != "ok" for e in front]]
    if len(broken):
        upper, line = ax.get_xaxis_transform(), np.full(len(broken), 0.97)
        ax.plot(broken, line, "x", color=DOTS, ms=5, transform=upper, label="breaks off")
    ax.set_yscale("log")
    ax.legend(frameon=False, fontsize=8)
    finish(ax, "complexity", "rms error / noise")
    return ax


def plot_residuals(
    found: Sequence[Residual],
    states: Sequence[str],
    *,
    time: str = "t",
    axes: Sequence[Axes] | np.ndarray | None = None,
) -> np.ndarray:
    """Draw the residuals of each state over time, in units of the noise, with the band that holds nine of ten, and return the axes (d,)."""
    axes = open_axes(len(states)) if axes is None else np.asarray(axes)
    for i, ax in enumerate(axes):
        ax.axhspan(-NINE_OF_TEN, NINE_OF_TEN, color=INK, alpha=0.1, lw=0)
        ax.axhline(0.0, color=INK, lw=0.8)
        for k, (colour, _) in zip(found, colours(len(found)), strict=True):
            ax.plot(k.t, k.r[:, i], "o", ms=2.2, mfc="none", mec=colour, mew=0.7)
        finish(ax, y=label(states[i]))
    name_times(axes, label(time))
    return axes


def plot_phase(
    equations: Equations,
    simulations: Mapping[str, Simulation],
    data: Dataset,
    *,
    axes: Sequence[Axes] | np.ndarray | None = None,
) -> np.ndarray:
    """Draw where the law drives the states, and return the axes.

    One state: its rate over its values. Two: the field as streamlines. More: the records in the planes of the first three states.
    """
    pairs = phase_planes(data.d)
    axes = open_axes(len(pairs) or 1) if axes is None else np.asarray(axes)
    if not pairs:
        _draw_rates_over_state(axes[0], equations, simulations, data)
    for ax, pair in zip(axes, pairs, strict=False):
        _draw_plane(ax, pair, simulations, data, equations if data.d == 2 and equations.autonomous else None)
    return axes


def phase_planes(states: int) -> list[tuple[int, int]]:
    """Return the planes of a phase portrait.

    >>> phase_planes(1), phase_planes(2), phase_planes(5)
    ([], [(0, 1)], [(0, 1), (0, 2), (1, 2)])
    """
    return list(itertools.combinations(range(min(states, 3)), 2))


def plot_curves(
    curves: Sequence[tuple[str, np.ndarray, np.ndarray]],
    data: Dataset,
    *,
    axes: Sequence[Axes] | np.ndarray | None = None,
) -> np.ndarray:
    """Draw simulations (name, times (n,), states (n, d)) from several starts, the data's span shaded, and return the axes (d,)."""
    axes = open_axes(data.d) if axes is None else np.asarray(axes)
    first = data.trajectories[0]
    for i, ax in enumerate(axes):
        ax.axvspan(first.t[0], first.t[-1], color=DOTS, alpha=0.12, lw=0)
        for q, (name, t, x) in enumerate(curves):
            ax.plot(t, x[:, i], color=INK if q == 0 else f"C{q}", lw=1.4 if q == 0 else 0.9, label=name)
        finish(ax, y=name_of(data, data.states[i]))
    name_times(axes, name_of(data, data.time))
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].figure.legend(handles, labels, frameon=False, fontsize=7, loc="outside upper left", ncols=1)
    return axes


def _draw_rates_over_state(
    ax: Axes, equations: Equations, simulations: Mapping[str, Simulation], data: Dataset
) -> None:
    """Draw the rate of a state over its values; only on the ways that were taken where inputs or time drive it."""
    if equations.autonomous:
        _draw_rate(ax, equations, data.stacked()[:, 0])
    else:
        for curve in (k for k in simulations.values() if len(k.t) > 2):
            ax.plot(curve.x[:, 0], np.gradient(curve.x[:, 0], curve.t), color=INK, lw=1.0)
        ax.axhline(0.0, color=DOTS, lw=0.7)
    finish(ax, name_of(data, data.states[0]), "rate of change")


def _draw_rate(ax: Axes, equations: Equations, x: np.ndarray) -> None:
    low, high = float(np.nanmin(x)), float(np.nanmax(x))
    room = 0.15 * (high - low)
    start = 0.0 if 0.0 <= low < 2 * room else low - room  # a state that is never negative begins at zero
    grid = np.linspace(start, high + room, 300)
    with np.errstate(all="ignore"):
        rate = equations.function()(0.0, grid[:, None])[:, 0]
    ax.axhline(0.0, color=DOTS, lw=0.7)
    ax.axvspan(low, high, color=DOTS, alpha=0.12, lw=0)
    ax.plot(grid, np.where(np.isfinite(rate), rate, np.nan), color=INK, lw=1.3)


def _draw_plane(
    ax: Axes, pair: tuple[int, int], simulations: Mapping[str, Simulation], data: Dataset, field: Equations | None
) -> None:
    """Draw the records in the plane of two states, over the law's field there if it is given."""
    a, b = pair
    x = data.stacked()
    ax.plot(x[:, a], x[:, b], "o", ms=2.2, mfc="none", mec=DOTS, mew=0.6, zorder=2)
    limits = ax.get_xlim(), ax.get_ylim()
    if field is not None:
        _draw_field(ax, field)
    for curve in simulations.values():
        ax.plot(curve.x[:, a], curve.x[:, b], color=INK, lw=1.0, zorder=3)
    ax.set_xlim(*limits[0])
    ax.set_ylim(*limits[1])
    finish(ax, name_of(data, data.states[a]), name_of(data, data.states[b]))


def _draw_field(ax: Axes, equations: Equations) -> None:
    x, y = (np.linspace(*limit, 24) for limit in (ax.get_xlim(), ax.get_ylim()))
    mesh = np.stack(np.meshgrid(x, y), -1)
    with np.errstate(all="ignore"):
        speed = equations.function()(0.0, mesh.reshape(-1, 2)).reshape(mesh.shape)
    if np.isfinite(speed).all() and np.abs(speed).max() > 0:
        ax.streamplot(x, y, speed[..., 0], speed[..., 1], color="#9aa7b5", linewidth=0.5, arrowsize=0.7, density=0.9)


def plot_experiment(run: Run, experiment: Experiment) -> Figure:
    """Draw what each form foretells for a proposed record, with the scatter of a measurement around the law that was picked."""
    from ..law.simulation import simulate

    figure, axes = new_figure(len(run.states))
    forms = [run.equations, *run.alternatives[: len(experiment.nats)]]
    t = np.linspace(experiment.t[0], experiment.t[-1], 400)
    for q, law in enumerate(forms):
        found = simulate(law, experiment.x0, t)
        style = {"color": f"C{q}", "lw": 0.9} if q else {"color": INK, "lw": 1.6, "zorder": 3}
        for i, ax in enumerate(axes):
            ax.plot(found.t, found.x[:, i], label=chr(ord("A") + q), **style)
            if q == 0:
                low, high = (found.x[:, i] + error for error in (-2 * run.sigma[i], 2 * run.sigma[i]))
                ax.fill_between(found.t, low, high, color=INK, alpha=0.15, lw=0)
    for i, ax in enumerate(axes):
        keep_to_data(ax, simulate(forms[0], experiment.x0, t).x[:, i])
        ax.axvline(experiment.time, color=DOTS, lw=0.6, ls=":")
        finish(ax, y=name_of(run.data, run.states[i]))
    axes[-1].set_xlabel(name_of(run.data, run.data.time), fontsize=9)
    start = ", ".join(f"{name} = {v:.3g}" for name, v in zip(run.states, experiment.x0, strict=True))
    axes[0].set_title(label(f"foretold from {start}"), loc="left", fontsize=9)
    axes[0].legend(frameon=False, fontsize=8, ncols=3)
    return figure


def plot_comparison(found: Any) -> Figure:
    """Draw the first record and the one that no method saw, what was held out shaded, with every method's curve, eqdisc's broad."""
    split, data = found.split, found.data
    new = () if split.new_start is None else split.new_start.trajectories
    shown = [split.train.trajectories[0], *new]
    held_out = [*(() if split.later is None else split.later.trajectories[:1]), *new]
    figure = Figure(figsize=(0.8 + 4.0 * len(shown), 0.8 + 1.6 * data.d), dpi=200, layout="constrained")
    axes = figure.subplots(data.d, len(shown), squeeze=False, sharex="col", sharey="row")
    for column, name in zip(axes.T, [k.name for k in shown], strict=True):
        _draw_record(column, found, name, [k for k in held_out if k.name == name])
        if len(shown) > 1:
            column[0].set_title(label(f"{data.file.rpartition('/')[2]}, record {name}"), loc="left", fontsize=9)
        finish(column[-1], name_of(data, data.time))
    for i, ax in enumerate(axes[:, 0]):
        keep_to_data(ax, np.concatenate([k.x[:, i] for k in data.trajectories]))  # once a row, which shares its axis
        finish(ax, y=name_of(data, data.states[i]))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside upper left", ncols=3)
    return figure


def _draw_record(column: np.ndarray, found: Any, name: str, held_out: Sequence[Trajectory]) -> None:
    """Draw a record, a panel a state, and what every method makes of it."""
    record = next(k for k in found.data.trajectories if k.name == name)
    for i, ax in enumerate(column):
        for part in held_out:
            ax.axvspan(part.t[0], part.t[-1], color=DOTS, alpha=0.12, lw=0)
        ax.plot(record.t, record.x[:, i], "o", ms=2.6, mfc="white", mec=DOTS, mew=0.7, zorder=2.7)
        for q, c in enumerate(found.contenders):
            style: dict[str, Any] = {"color": f"C{q}", "lw": 0.9, "zorder": 3}
            style = style if q else {"color": INK, "lw": 1.8, "zorder": 2.5}
            for first, run in enumerate(run for of, run in c.curves if of == name):
                ax.plot(run.t, run.x[:, i], label=None if first else c.name, **style)
        finish(ax)


def plot_recovery(summary: pd.DataFrame, interval: Callable[[int, int], tuple[float, float]]) -> Figure:
    """Draw the share of laws recovered, of claims that are right and of recovered laws that are claimed against the noise.

    `summary` has counts, as `eqdisc benchmark` writes it: a line of the picture is a kind of law, a row of panels a number of
    samples and starts, where these were varied; `interval` gives the bars.
    """
    varied = [name for name in ("samples", "starts") if name in summary]
    rows = list(summary.groupby(varied)) if varied else [((), summary)]
    figure = Figure(figsize=(8.0, 0.5 + 2.3 * len(rows)), dpi=200, layout="constrained")
    axes = figure.subplots(len(rows), 3, sharey=True, sharex=True, squeeze=False)
    for panels, (at, part) in zip(axes, rows, strict=True):
        for ax, name in zip(panels, ("recovered", "claimed and right", "of recovered claimed"), strict=True):
            _draw_rates(ax, part, name, list(summary["kind"].unique()), interval)
        place = ", ".join(f"{value} {name}" for name, value in zip(varied, at, strict=True))
        panels[0].set_ylabel("% of fits" + (f", {place}" if place else ""), fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("noise, % of each state's std", fontsize=8)
    # a kind that is never recovered may yet be claimed
    lines = {label: line for ax in axes.flat for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(
        lines.values(), lines, frameon=False, fontsize=8, loc="outside upper center", ncols=summary["kind"].nunique()
    )
    return figure


def _draw_rates(
    ax: Axes, part: pd.DataFrame, name: str, kinds: Sequence[str], interval: Callable[[int, int], tuple[float, float]]
) -> None:
    """Draw the rates of each kind, the bars a little beside each other."""
    for q, kind in enumerate(kinds):
        some = part[(part["kind"] == kind) & (part[f"{name} of"] > 0)]
        share = 100 * (some[name] / some[f"{name} of"]).to_numpy(float)
        ends = [interval(int(n), int(of)) for n, of in zip(some[name], some[f"{name} of"], strict=True)]
        low, high = 100 * np.array(ends).reshape(-1, 2).T
        x = 100 * some["noise"].to_numpy(float) + 0.09 * (q - (len(kinds) - 1) / 2)
        style: dict[str, Any] = {"label": kind if len(some) else None, "color": f"C{q}", "lw": 0.9}
        style = style if q else {"label": "all", "color": INK, "lw": 1.8}
        ax.errorbar(x, share, np.maximum([share - low, high - share], 0.0), marker="o", ms=3, capsize=2, **style)
    ax.set_title(name, loc="left", fontsize=9)
    ax.set_ylim(-2.0, 102.0)
    finish(ax)


def _write_legend(ax: Axes) -> None:
    handles, labels = ax.get_legend_handles_labels()
    first = {name: handle for handle, name in reversed(list(zip(handles, labels, strict=True)))}
    names = [name for name in ("measured", "law") if name in first]
    ax.legend([first[name] for name in names], names, frameon=False, fontsize=8)


__all__ = [
    "label", "new_figure", "new_row", "phase_planes", "plot_check", "plot_comparison", "plot_curves",
    "plot_experiment", "plot_fit", "plot_front", "plot_phase", "plot_recovery", "plot_residuals", "render",
]  # fmt: skip
