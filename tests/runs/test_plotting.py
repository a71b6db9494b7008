"""Figures: what is drawn is what was measured and what was simulated, on the axes that were given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.law.equations import Equations
from eqdisc.runs.panels import COLUMN, new_figure
from eqdisc.runs.plotting import plot_fit, plot_front

FRONT = [
    {"complexity": 3, "train": 40.0, "unseen": None, "status": "ok"},
    {"complexity": 6, "train": None, "unseen": None, "status": "diverged"},
    {"complexity": 9, "train": 1.01, "unseen": 1.1, "status": "ok"},
]


@dataclass
class Curve:
    """What a plot needs of a simulation."""

    t: np.ndarray
    x: np.ndarray


def decay(states: tuple[str, ...], trajectories: int = 1) -> tuple[Dataset, dict[str, Curve]]:
    t = np.linspace(0, 5, 12)
    x = [np.exp(-np.outer(t, np.arange(1, len(states) + 1))) * (k + 1) for k in range(trajectories)]
    data = Dataset(
        tuple(Trajectory(t, v, name=str(k)) for k, v in enumerate(x)), states, units={"t": "day", states[0]: "mg"}
    )
    return data, {str(k): Curve(t, v) for k, v in enumerate(x)}


def test_dots_are_the_data_and_lines_the_simulation() -> None:
    data, curves = decay(("S", "I"))
    _, axes = new_figure(2)
    assert plot_fit(data, curves, axes=axes) is axes
    dots, line = axes[1].get_lines()
    np.testing.assert_array_equal(dots.get_xydata(), np.c_[data.trajectories[0].t, data.trajectories[0].x[:, 1]])
    np.testing.assert_array_equal(line.get_xydata(), np.c_[curves["0"].t, curves["0"].x[:, 1]])


def test_axes_carry_names_and_units() -> None:
    data, curves = decay(("S", "cost $"))
    axes = plot_fit(data, curves, axes=new_figure(2)[1])
    assert axes[0].get_ylabel() == "S [mg]"
    assert axes[1].get_ylabel() == r"cost \$"
    assert axes[1].get_xlabel() == "t [day]"
    assert axes[0].get_xlabel() == ""


def test_a_short_law_stands_over_its_panel_and_a_long_one_does_not() -> None:
    data, curves = decay(("S", "I"))
    law = Equations.parse({"S": "-0.06*sqrt(I*S)", "I": "0.06*sqrt(I*S) - 0.05*I"}, ("S", "I"))
    titles = [ax.get_title(loc="left") for ax in plot_fit(data, curves, equations=law, axes=new_figure(2)[1])]
    assert all(title.startswith("$d ") for title in titles)
    assert "0.06" in titles[0]
    long = " + ".join(f"0.1{k}*S**{k}*I" for k in range(2, 12))
    law = Equations.parse({"S": long, "I": "-I"}, ("S", "I"))
    axes = plot_fit(data, curves, equations=law, axes=new_figure(2)[1])
    assert [ax.get_title(loc="left") for ax in axes] == ["", ""]


def test_a_law_that_runs_away_leaves_the_panel_and_does_not_flatten_the_data() -> None:
    data, curves = decay(("S",))
    curves["0"].x[-1] = 1e9
    (ax,) = plot_fit(data, curves, axes=new_figure(1)[1])
    assert ax.get_ylim()[1] < 2


def test_a_figure_is_written_without_a_display_and_for_any_number_of_states(tmp_path: Path) -> None:
    for d in (1, COLUMN, COLUMN + 1):
        data, curves = decay(tuple(f"x{i}" for i in range(d)), trajectories=2)
        figure, axes = new_figure(d)
        plot_fit(data, curves, axes=axes)
        figure.savefig(tmp_path / f"{d}.png")
        assert (tmp_path / f"{d}.png").stat().st_size > 5000


def test_names_that_mean_something_to_tex_are_drawn_as_they_are(tmp_path: Path) -> None:
    data, curves = decay(("a_b^c", r"\frac $ %"))
    figure, axes = new_figure(2)
    law = Equations.parse(dict.fromkeys(data.formula_names, "1"), data.formula_names)
    plot_fit(data, curves, equations=law, axes=axes)
    figure.savefig(tmp_path / "names.png")


def test_missing_values_leave_gaps_between_dots() -> None:
    data = Dataset((Trajectory([0, 1, 2], [[1.0], [np.nan], [3.0]]),), ("x",))
    (ax,) = plot_fit(data, {}, axes=new_figure(1)[1])
    assert np.isnan(ax.get_lines()[0].get_ydata()[1])


def test_the_front_shows_errors_the_pick_and_what_broke_off() -> None:
    ax = Figure().subplots()
    assert plot_front(FRONT, 2, ax=ax) is ax
    by_label = {line.get_label(): line for line in ax.get_lines()}
    np.testing.assert_array_equal(by_label["fitted"].get_xydata(), [[3, 40.0], [9, 1.01]])
    np.testing.assert_array_equal(by_label["breaks off"].get_xdata(), [6])
    assert ax.get_yscale() == "log"


def test_without_axes_a_figure_of_their_own_is_opened() -> None:
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    data, curves = decay(("S", "I"))
    assert len(plot_fit(data, curves)) == 2
    assert plot_front(FRONT, 2).figure in map(plt.figure, plt.get_fignums())
    plt.close("all")
