"""Report: a run as one page of HTML that works offline in any browser, on paper, on a phone, light and dark.

Everything on the page comes from the run folder; text is escaped by jinja2, formulas are MathML, pictures stand in the
page. The page may load nothing: it says so itself, in its content security policy.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..data.check import diagnose
from ..data.inputs import curve_of
from ..law.printers import MathPrinter, write_math
from ..law.simulation import HUGE, simulate
from ..work.markup import write_interval, write_number
from ..work.status import Status
from .formats import read_beginning
from .residuals import Residual, residuals_of, test_residuals
from .run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MANY_DOTS = 4000  # values from which a picture is stored as pixels
FACTORS = (0.5, 1.5)  # starts that were not measured, as shares of the first record's
STRETCH = 2.0  # how far the law is foretold, in spans of the data
CAPTIONS = {  # what each picture shows, and the words under it
    "fit": (
        "measured {} as dots, the simulated law as lines",
        "Measured values and the printed law, simulated from the estimated start of every record.",
    ),
    "residuals": (
        "residuals of {} over time",
        "Measured minus simulated, in units of the noise; nine of ten values of pure noise lie in the band.",
    ),
    "front": (
        "error against complexity of the laws on the front, with {} as states",
        "Error against complexity; the pick is ringed.",
    ),
    "phase": ("phase portrait of {}", ""),
    "foretold": (
        "{} foretold by the law",
        "What the law foretells: over twice the span of the data, which is shaded, and from starts that were not measured.",
    ),
}
PORTRAITS = {  # captions by the number of states
    1: "How fast the state changes at each of its values; those that were measured are shaded.",
    2: "Where the law drives the states: streamlines of its field, the simulated records, the measured values as dots.",
    3: "The simulated records in the planes of the first three states, the measured values as dots.",
}
CITATION = (
    "The eqdisc authors: eqdisc: from a table of measurements over time to the differential equation behind it, version {}.",
    "N. Heim, T. Pevný, V. Šmídl: Neural Power Units. Advances in Neural Information Processing Systems 33 (NeurIPS 2020), "
    "arXiv:2006.01681.",
)


@dataclass(frozen=True)
class Picture:
    """A figure as it stands in a page: a data URI, what it shows, and the words under it."""

    uri: str
    alt: str
    caption: str


def write_report(run: Run) -> str:
    """Return the report of a run as one HTML page. Raises RunError when the run's data or starts are not there."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    rooms = Environment(
        loader=PackageLoader("eqdisc.runs"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    rooms.filters |= {"number": write_number, "interval": write_interval}
    return rooms.get_template("report.html").render(**_facts(run))


def _facts(run: Run) -> dict[str, Any]:
    result = run.result
    (found, astray), foretold = residuals_of(run), list(_foretell(run))
    title = str(result["data"]["file"]).rpartition("/")[2] or str(run.folder)
    return {
        "result": result,
        "run": run,
        "version": result.get("eqdisc", __version__),
        "title": title,
        "law": write_math(run.equations),
        "alternatives": [write_math(law) for law in run.alternatives],
        "latex": [rf"\frac{{d {left}}}{{dt}} = {right}" for left, right in run.equations.latex().items()],
        "renamed": [(s, name) for s, name in zip(run.symbols, run.states, strict=True) if s != name],
        "level": f"{100 * result['ci_level']:.0f} %",
        "fluxes": list(_fluxes(run)),
        "front": list(_front(run)),
        "bootstrap": result.get("bootstrap"),
        "tests": test_residuals(run),
        "astray": astray,
        "pictures": {name: _picture(run, name, figure) for name, figure in _draw(run, found, foretold)},
        "check": diagnose(replace(run.data, file=title)),
        "foretold": foretold,
        "citation": [line.format(result.get("eqdisc", __version__)) for line in CITATION],
        "origin": _read_origin(run),
    }


def _fluxes(run: Run) -> Iterator[dict[str, Any]]:
    from markupsafe import Markup

    printer = MathPrinter()
    for flux in run.equations.fluxes():
        made = [flux.stoichiometry.get(symbol, 0.0) for symbol in run.symbols]
        yield {"rate": Markup(f"<math>{printer.doprint(flux.rate)}</math>"), "made": made}


def _front(run: Run) -> Iterator[dict[str, Any]]:
    for k, entry in enumerate(run.front):
        lines = run.law(entry["equations"]).readable()
        yield {**entry, "lines": lines, "pick": k == run.result["selected"], "ended": entry.get("status", "ok")}


def _read_origin(run: Run) -> dict[str, Any]:
    """Return when, with what and by which command the run was made, as far as config.json says."""
    place = run.folder / "config.json"
    about = read_beginning(place) if place.exists() else {}
    words = about.get("command", [])
    return {
        "line": shlex.join(["eqdisc", *words[1:]]) if words else "",
        "started": about.get("started", ""),
        "versions": about.get("versions", {}),
        "sha256": run.result["data"].get("sha256", "unknown"),
    }


# Pictures


def _draw(run: Run, found: tuple[Residual, ...], foretold: list[Foretold]) -> Iterator[tuple[str, Figure]]:
    """Yield every figure of a run by its name; residuals only where a record can be followed."""
    from . import plotting as draw

    d, curves = len(run.states), run.simulate(smooth=True, most=len(run.shown))
    figure, axes = draw.new_figure(d)
    draw.plot_fit(run.shown, curves, axes=axes)
    yield "fit", figure
    if found:
        figure, axes = draw.new_figure(len(run.measured))
        draw.plot_residuals(found, run.measured, time=run.data.time, axes=axes)
        yield "residuals", figure
    figure, axes = draw.new_row(1)
    draw.plot_front(run.front, run.result["selected"], ax=axes[0])
    yield "front", figure
    figure, axes = draw.new_row(len(draw.phase_planes(d)) or 1)
    draw.plot_phase(run.equations, curves, run.shown, axes=axes)
    yield "phase", figure
    figure, axes = draw.new_figure(d)
    draw.plot_curves([(f"from {k.start}", k.t, k.x) for k in foretold], run.data, axes=axes)
    yield "foretold", figure


def _picture(run: Run, name: str, figure: Figure) -> Picture:
    from .plotting import render

    alt, caption = CAPTIONS[name]
    dots = sum(np.size(line.get_xdata()) for ax in figure.axes for line in ax.lines)
    form, kind = ("svg", "svg+xml") if dots < MANY_DOTS else ("png", "png")
    uri = f"data:image/{kind};base64,{base64.b64encode(render(figure, form)).decode()}"
    return Picture(uri, alt.format(", ".join(run.states)), caption or PORTRAITS[min(len(run.states), 3)])


@dataclass(frozen=True)
class Foretold:
    """A simulation where nothing was measured: from where, how it ended, when, and the curve."""

    start: str
    ended: str
    end: float
    t: np.ndarray
    x: np.ndarray


def _foretell(run: Run) -> Iterator[Foretold]:
    """Simulate twice the span, from the first record's start and from shares of it."""
    first = run.data.trajectories[0]
    x0 = run.start_of(first.name)
    t = np.linspace(first.t[0], first.t[0] + STRETCH * (first.t[-1] - first.t[0]), 401)
    for factor in (1.0, *FACTORS):
        curve = simulate(run.equations, factor * x0, t, inputs=curve_of(run.data, 0))
        start = ", ".join(f"{name} = {write_number(v, 3)}" for name, v in zip(run.states, factor * x0, strict=True))
        words = (
            "follows the law to the end" if curve.status is Status.OK else curve.status.name.lower().replace("_", " ")
        )
        x = np.where(np.abs(curve.x) < HUGE, curve.x, np.nan)
        yield Foretold(start, words, curve.end, curve.t, x)
