r"""Plots: measured data as dots, the simulated law as lines; the front of laws as error against size.

Figures for a paper: one panel a state over a shared time axis, units on the axes, colours that keep apart in grey
print. Functions take axes and return them, so that they compose; without axes they open a figure of their own.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from ..data.check import WIDER
from ..data.dataset import Dataset

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from ..data.check import Diagnosis
    from ..law.equations import Equations
    from ..law.simulation import Simulation
    from ..peers.comparison import Comparison
    from .design import Experiment
    from .residuals import Residual
    from .run import Run

INK, DOTS, MARK = "#1b3a5c", "#8a8f98", "#c1440e"
COLUMN = 4  # states that fit under each other; more stand in two columns
MOST_DRAWN = 12  # trajectories of a table that is looked at before a fit
FEW = 5  # trajectories that are told apart by colour
NINE_OF_TEN = 1.645  # standard deviations of a normal variable
LONGEST_TITLE = 62  # characters of a law that fits over its panel


def new_figure(states: int) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes (states,), one panel a state over a shared time axis; no display is needed."""
    columns = 1 if states <= COLUMN else 2
    rows = -(-states // columns)
    figure = Figure(figsize=(5.2 if columns == 1 else 7.5, 0.6 + 1.45 * rows), dpi=200, layout="constrained")
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
    axes = _open_axes(data.d) if axes is None else np.asarray(axes)
    colours = _colours(len(data))
    for i, ax in enumerate(axes):
        for k, (line, dots) in zip(data.trajectories, colours, strict=True):
            ax.plot(k.t, k.x[:, i], "o", ms=2.6, mfc="none", mec=dots, mew=0.7, zorder=2, label="measured")
            if k.name in simulations:
                run = simulations[k.name]
                ax.plot(run.t, run.x[:, i], color=line, lw=1.1, zorder=3, label="law")
        _keep_to_data(ax, np.concatenate([k.x[:, i] for k in data.trajectories]))
        ax.set_ylabel(label(data.states[i], data.units.get(data.states[i])), fontsize=9)
        _finish(ax)
    _label_times(axes, label(data.time, data.units.get(data.time)))
    if equations is not None:
        _write_laws(axes, equations)
    _write_legend(axes[0])
    return axes


def plot_check(data: Dataset, diagnosis: Diagnosis) -> Figure:
    """Draw what was read, a panel for each state and input: values joined where they follow each other, twice the noise about them.

    Where a state was not measured its line breaks and the stretch is shaded.
    """
    figure, axes = new_figure(data.d + len(data.inputs))
    shown = data.trajectories[:MOST_DRAWN]
    for i, ax in enumerate(axes[: data.d]):
        noise = diagnosis.states[i].noise or 0.0
        for k, (line, dots) in zip(shown, _colours(len(shown)), strict=True):
            x = k.x[:, i]
            ax.fill_between(k.t, x - 2 * noise, x + 2 * noise, color=line, alpha=0.15, lw=0)
            ax.plot(k.t, x, "-", color=line, lw=0.8, zorder=2)
            ax.plot(k.t, x, "o", ms=2.6, mfc="none", mec=dots, mew=0.7, zorder=3)
            for a, b in _unmeasured(x) if len(shown) == 1 else ():
                ax.axvspan(k.t[a], k.t[b], color=DOTS, alpha=0.15, lw=0)
        ax.set_ylabel(label(data.states[i], data.units.get(data.states[i])), fontsize=9)
        _finish(ax)
    for i, ax in enumerate(axes[data.d :]):
        how = "steps-post" if data.inputs[i] in data.held else "default"
        for k, (line, _) in zip(shown, _colours(len(shown)), strict=True):
            ax.plot(k.t, k.u[:, i], color=line, lw=1.0, drawstyle=how)
        ax.set_ylabel(label(data.inputs[i], data.units.get(data.inputs[i])), fontsize=9)
        _finish(ax)
    _label_times(axes, label(data.time, data.units.get(data.time)))
    more = f", {MOST_DRAWN} of {len(data)} trajectories" if len(data) > MOST_DRAWN else ""
    figure.suptitle(f"{Path(diagnosis.file).name}: {diagnosis.rows} rows{more}; bands are twice the noise", fontsize=9)
    return figure


def _unmeasured(x: np.ndarray) -> list[tuple[int, int]]:
    """Return the neighbouring measured samples between which far more values are missing than elsewhere."""
    seen = np.flatnonzero(np.isfinite(x))
    usual = np.median(np.diff(seen)) if len(seen) > 1 else 1
    return [(int(a), int(b)) for a, b in itertools.pairwise(seen) if b - a > WIDER * usual]


def plot_front(front: Sequence[Mapping[str, Any]], selected: int, *, ax: Axes | None = None) -> Axes:
    """Draw error against complexity for the laws of a front (as in result.json), the pick ringed, and return the axes.

    A law whose simulation broke off has no error and stands as a cross below the upper edge.
    """
    ax = _open_axes(1)[0] if ax is None else ax
    size = np.array([e["complexity"] for e in front], float)
    for key, colour, marker in (("train", INK, "o"), ("unseen", MARK, "s")):
        error = np.array([np.nan if e.get(key) is None else e[key] for e in front], float)
        if np.isfinite(error).any():
            name, there = "fitted" if key == "train" else "unseen", np.isfinite(error)
            ax.plot(
                size[there], error[there], f"-{marker}", color=colour, ms=3.5, lw=0.9, mfc="white", mew=0.9, label=name
            )
            ax.plot(size[selected], error[selected], marker, color=colour, ms=8, mfc="none", mew=1.1)
    broken = np.array([e.get("status", "ok") != "ok" for e in front])
    if broken.any():
        ax.plot(
            size[broken],
            np.full(broken.sum(), 0.97),
            "x",
            color=DOTS,
            ms=5,
            transform=ax.get_xaxis_transform(),
            label="breaks off",
        )
    ax.set_yscale("log")
    ax.set_xlabel("complexity", fontsize=9)
    ax.set_ylabel("rms error / noise", fontsize=9)
    ax.legend(frameon=False, fontsize=8)
    _finish(ax)
    return ax


def plot_residuals(
    found: Sequence[Residual],
    states: Sequence[str],
    *,
    time: str = "t",
    axes: Sequence[Axes] | np.ndarray | None = None,
) -> np.ndarray:
    """Draw the residuals of each state over time, in units of the noise, with the band that holds nine of ten, and return the axes (d,)."""
    axes = _open_axes(len(states)) if axes is None else np.asarray(axes)
    colours = _colours(len(found))
    for i, ax in enumerate(axes):
        ax.axhspan(-NINE_OF_TEN, NINE_OF_TEN, color=INK, alpha=0.1, lw=0)
        ax.axhline(0.0, color=INK, lw=0.8)
        for k, (colour, _) in zip(found, colours, strict=True):
            ax.plot(k.t, k.r[:, i], "o", ms=2.2, mfc="none", mec=colour, mew=0.7)
        ax.set_ylabel(label(states[i]), fontsize=9)
        _finish(ax)
    _label_times(axes, label(time))
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
    axes = _open_axes(len(pairs) or 1) if axes is None else np.asarray(axes)
    x = data.stacked()
    if not pairs:
        name = label(data.states[0], data.units.get(data.states[0]))
        if equations.autonomous:
            _draw_rate(axes[0], equations, x[:, 0], name)
        else:
            _draw_rates_followed(axes[0], simulations, name)
    for ax, (a, b) in zip(axes, pairs, strict=False):
        ax.plot(x[:, a], x[:, b], "o", ms=2.2, mfc="none", mec=DOTS, mew=0.6, zorder=2)
        limits = ax.get_xlim(), ax.get_ylim()
        if data.d == 2 and equations.autonomous:
            _draw_field(ax, equations)
        for curve in simulations.values():
            ax.plot(curve.x[:, a], curve.x[:, b], color=INK, lw=1.0, zorder=3)
        ax.set_xlim(*limits[0])
        ax.set_ylim(*limits[1])
        ax.set_xlabel(label(data.states[a], data.units.get(data.states[a])), fontsize=9)
        ax.set_ylabel(label(data.states[b], data.units.get(data.states[b])), fontsize=9)
        _finish(ax)
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
    axes = _open_axes(data.d) if axes is None else np.asarray(axes)
    first = data.trajectories[0]
    for i, ax in enumerate(axes):
        ax.axvspan(first.t[0], first.t[-1], color=DOTS, alpha=0.12, lw=0)
        for q, (name, t, x) in enumerate(curves):
            ax.plot(t, x[:, i], color=INK if q == 0 else f"C{q}", lw=1.4 if q == 0 else 0.9, label=name)
        ax.set_ylabel(label(data.states[i], data.units.get(data.states[i])), fontsize=9)
        _finish(ax)
    _label_times(axes, label(data.time, data.units.get(data.time)))
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].figure.legend(handles, labels, frameon=False, fontsize=7, loc="outside upper left", ncols=1)
    return axes


def _draw_rate(ax: Axes, equations: Equations, x: np.ndarray, name: str) -> None:
    low, high = float(np.nanmin(x)), float(np.nanmax(x))
    room = 0.15 * (high - low)
    start = 0.0 if 0.0 <= low < 2 * room else low - room  # a state that is never negative begins at zero
    grid = np.linspace(start, high + room, 300)
    with np.errstate(all="ignore"):
        rate = equations.function()(0.0, grid[:, None])[:, 0]
    ax.axhline(0.0, color=DOTS, lw=0.7)
    ax.axvspan(low, high, color=DOTS, alpha=0.12, lw=0)
    ax.plot(grid, np.where(np.isfinite(rate), rate, np.nan), color=INK, lw=1.3)
    ax.set_xlabel(name, fontsize=9)
    ax.set_ylabel("rate of change", fontsize=9)
    _finish(ax)


def _draw_rates_followed(ax: Axes, simulations: Mapping[str, Simulation], name: str) -> None:
    """Draw the rate over the state on the way that was taken: where inputs or time drive it, no curve tells it for all states."""
    for curve in simulations.values():
        if len(curve.t) > 2:
            ax.plot(curve.x[:, 0], np.gradient(curve.x[:, 0], curve.t), color=INK, lw=1.0)
    ax.axhline(0.0, color=DOTS, lw=0.7)
    ax.set_xlabel(name, fontsize=9)
    ax.set_ylabel("rate of change", fontsize=9)
    _finish(ax)


def _draw_field(ax: Axes, equations: Equations) -> None:
    x, y = (np.linspace(*limit, 24) for limit in (ax.get_xlim(), ax.get_ylim()))
    mesh = np.stack(np.meshgrid(x, y), -1)
    with np.errstate(all="ignore"):
        speed = equations.function()(0.0, mesh.reshape(-1, 2)).reshape(mesh.shape)
    if np.isfinite(speed).all() and np.abs(speed).max() > 0:
        ax.streamplot(x, y, speed[..., 0], speed[..., 1], color="#9aa7b5", linewidth=0.5, arrowsize=0.7, density=0.9)


def _label_times(axes: np.ndarray, words: str) -> None:
    for ax in axes:
        if ax.get_subplotspec() is None or ax.get_subplotspec().is_last_row() or ax is axes[-1]:
            ax.set_xlabel(words, fontsize=9)
    axes[0].figure.align_ylabels(axes)


def label(name: str, unit: str | None = None) -> str:
    """Return an axis label; a dollar sign in a name stays a dollar sign.

    >>> label("cost [$]", "k$")
    'cost [\\\\$] [k\\\\$]'
    """
    return (name + (f" [{unit}]" if unit else "")).replace("$", r"\$")


def _open_axes(count: int) -> np.ndarray:
    """Open a figure where pyplot shows it, as a notebook expects."""
    import matplotlib.pyplot as plt

    columns = 1 if count <= COLUMN else 2
    rows = -(-count // columns)
    size = (5.2 if columns == 1 else 7.5, 0.6 + 1.45 * rows) if count > 1 else (4.6, 3.0)
    _, grid = plt.subplots(rows, columns, sharex=True, squeeze=False, figsize=size, layout="constrained")
    return grid.T.ravel()[:count]


def _colours(count: int) -> list[tuple[Any, Any]]:
    """Return the colours of line and dots for each trajectory: ink and grey, or a ramp from dark to light."""
    if count == 1:
        return [(INK, DOTS)]
    from matplotlib import colormaps

    ramp = colormaps["viridis"](np.linspace(0.0, 0.8, min(count, FEW)))
    return [(ramp[k % len(ramp)], ramp[k % len(ramp)]) for k in range(count)]


def _keep_to_data(ax: Axes, values: np.ndarray) -> None:
    """Keep the axis to about the data: a law that runs away leaves the panel and does not flatten the data."""
    low, high = np.nanmin(values), np.nanmax(values)
    room = 0.35 * (high - low) or 1.0
    bottom, top = ax.get_ylim()
    ax.set_ylim(max(bottom, low - room), min(top, high + room))


def plot_experiment(run: Run, experiment: Experiment) -> Figure:
    """Draw what each form foretells for a proposed record, with the scatter of a measurement around the law that was picked."""
    from ..law.simulation import simulate

    figure, axes = new_figure(len(run.states))
    forms = [run.equations, *run.alternatives[: len(experiment.nats)]]
    t = np.linspace(experiment.t[0], experiment.t[-1], 400)
    for q, law in enumerate(forms):
        found = simulate(law, experiment.x0, t)
        for i, ax in enumerate(axes):
            style = {"color": INK, "lw": 1.6, "zorder": 3} if q == 0 else {"color": f"C{q}", "lw": 0.9}
            ax.plot(found.t, found.x[:, i], label=f"{chr(ord('A') + q)}", **style)
            if q == 0:
                error = 2 * run.sigma[i]
                ax.fill_between(found.t, found.x[:, i] - error, found.x[:, i] + error, color=INK, alpha=0.15, lw=0)
    for i, ax in enumerate(axes):
        _keep_to_data(ax, simulate(forms[0], experiment.x0, t).x[:, i])
        ax.set_ylabel(label(run.states[i], run.data.units.get(run.states[i])), fontsize=9)
        ax.axvline(experiment.time, color=DOTS, lw=0.6, ls=":")
        _finish(ax)
    axes[-1].set_xlabel(label(run.data.time, run.data.units.get(run.data.time)), fontsize=9)
    start = ", ".join(f"{name} = {v:.3g}" for name, v in zip(run.states, experiment.x0, strict=True))
    axes[0].set_title(f"foretold from {start}".replace("$", r"\$"), loc="left", fontsize=9)
    axes[0].legend(frameon=False, fontsize=8, ncols=3)
    return figure


def plot_comparison(found: Comparison) -> Figure:
    """Draw the first record and the one that no method saw, what was held out shaded, with every method's curve, eqdisc's broad."""
    split, states = found.split, found.data.states
    shown = [split.train.trajectories[0], *(split.new_start.trajectories if split.new_start is not None else ())]
    held_out = [*(split.later.trajectories[:1] if split.later is not None else ()), *shown[1:]]
    figure = Figure(figsize=(0.8 + 4.0 * len(shown), 0.8 + 1.6 * len(states)), dpi=200, layout="constrained")
    axes = figure.subplots(len(states), len(shown), squeeze=False, sharex="col", sharey="row")
    for column, name in zip(axes.T, [k.name for k in shown], strict=True):
        record = next(k for k in found.data.trajectories if k.name == name)
        for i, ax in enumerate(column):
            for part in (k for k in held_out if k.name == name):
                ax.axvspan(part.t[0], part.t[-1], color=DOTS, alpha=0.12, lw=0)
            ax.plot(record.t, record.x[:, i], "o", ms=2.6, mfc="white", mec=DOTS, mew=0.7, zorder=2.7)
            _draw_methods(ax, found, name, i)
            _finish(ax)
        if len(shown) > 1:
            column[0].set_title(label(f"{found.data.file.rpartition('/')[2]}, record {name}"), loc="left", fontsize=9)
        column[-1].set_xlabel(label(found.data.time, found.data.units.get(found.data.time)), fontsize=9)
    for i, (ax, state) in enumerate(zip(axes[:, 0], states, strict=True)):
        _keep_to_data(
            ax, np.concatenate([k.x[:, i] for k in found.data.trajectories])
        )  # once a row, which shares its axis
        ax.set_ylabel(label(state, found.data.units.get(state)), fontsize=9)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside upper left", ncols=3)
    return figure


def _draw_methods(ax: Axes, found: Comparison, record: str, state: int) -> None:
    """Draw each method's stretches in one colour, named once."""
    for q, c in enumerate(found.contenders):
        style: dict[str, Any] = (
            {"color": f"C{q}", "lw": 0.9, "zorder": 3} if q else {"color": INK, "lw": 1.8, "zorder": 2.5}
        )
        runs = [run for name, run in c.curves if name == record]
        for first, run in enumerate(runs):
            ax.plot(run.t, run.x[:, state], label=c.name if first == 0 else None, **style)


def plot_recovery(summary: pd.DataFrame, interval: Callable[[int, int], tuple[float, float]]) -> Figure:
    """Draw the share of laws recovered, of claims that are right and of recovered laws that are claimed against the noise.

    `summary` has counts, as `eqdisc benchmark` writes it: a line of the picture is a kind of law, a row of panels a number of
    samples and starts, where these were varied; `interval` gives the bars.
    """
    varied = [name for name in ("samples", "starts") if name in summary]
    rows = list(summary.groupby(varied)) if varied else [((), summary)]
    kinds = list(summary["kind"].unique())
    figure = Figure(figsize=(8.0, 0.5 + 2.3 * len(rows)), dpi=200, layout="constrained")
    axes = figure.subplots(len(rows), 3, sharey=True, sharex=True, squeeze=False)
    for panels, (at, part) in zip(axes, rows, strict=True):
        for ax, name in zip(panels, ("recovered", "claimed and right", "of recovered claimed"), strict=True):
            for q, kind in enumerate(kinds):
                _draw_rates(ax, part[part["kind"] == kind], name, q, len(kinds), interval)
            ax.set_title(name, loc="left", fontsize=9)
            ax.set_ylim(-2.0, 102.0)
            _finish(ax)
        place = ", ".join(f"{value} {name}" for name, value in zip(varied, at, strict=True))
        panels[0].set_ylabel("% of fits" + (f", {place}" if place else ""), fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("noise, % of each state's std", fontsize=8)
    # a kind that is never recovered may yet be claimed
    lines = {label: line for ax in axes.flat for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(lines.values(), lines, frameon=False, fontsize=8, loc="outside upper center", ncols=len(kinds))
    return figure


def _draw_rates(
    ax: Axes, part: pd.DataFrame, name: str, q: int, kinds: int, interval: Callable[[int, int], tuple[float, float]]
) -> None:
    """Draw one kind's rates, their bars a little beside those of the other kinds."""
    part = part[part[f"{name} of"] > 0]
    ends = [interval(int(n), int(of)) for n, of in zip(part[name], part[f"{name} of"], strict=True)]
    share = 100 * (part[name] / part[f"{name} of"]).to_numpy(float)
    bars = np.array([[s - 100 * low, 100 * high - s] for s, (low, high) in zip(share, ends, strict=True)]).reshape(
        -1, 2
    )
    x = 100 * part["noise"].to_numpy(float) + 0.09 * (q - (kinds - 1) / 2)
    kind, colour, width = ("all", INK, 1.8) if q == 0 else (part["kind"].iloc[0] if len(part) else None, f"C{q}", 0.9)
    ax.errorbar(x, share, np.maximum(bars.T, 0.0), marker="o", ms=3, capsize=2, label=kind, color=colour, lw=width)


def _finish(ax: Axes) -> None:
    ax.tick_params(direction="out", length=3, width=0.6, labelsize=8)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for spine in ax.spines.values():
        spine.set_linewidth(0.6)


def _write_laws(axes: np.ndarray, equations: Equations) -> None:
    """Write each law over its panel, all of them or none: a law without its sisters misleads."""
    lefts = replace(equations, rhs=equations.symbols).latex().values()  # dx/dt = x: the names as LaTeX has them
    laws = [_round_numbers(left, right) for left, right in zip(lefts, equations.latex().values(), strict=True)]
    if all(_width(law) <= LONGEST_TITLE for law in laws):
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


def _width(law: str) -> int:
    """Count what is seen of a law, about."""
    return len(re.sub(r"\\([a-z]+|,)|[{}$^_ ]", "", law))


def _write_legend(ax: Axes) -> None:
    handles, labels = ax.get_legend_handles_labels()
    first = {name: handle for handle, name in reversed(list(zip(handles, labels, strict=True)))}
    names = [name for name in ("measured", "law") if name in first]
    ax.legend([first[name] for name in names], names, frameon=False, fontsize=8)
