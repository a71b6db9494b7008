"""Tables: what a table can support, what other methods make of it, and tables of known laws."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ..work.errors import OptionError, did_you_mean
from ..work.files import replacing
from .options import Output, Roles, Table, saved, sought

if TYPE_CHECKING:
    from ..peers.comparison import Comparison

PICTURES = (".png", ".svg", ".pdf")


def check(
    data: Table,
    /,
    *,
    out: Annotated[Path | None, saved(help="Picture of what was read (.png, .svg, .pdf).")] = None,
    roles: Roles = Roles(),
    output: Output = Output(),
) -> None:
    """Say what a table can support, each warning with its cure."""
    from ..data.check import diagnose

    if out is not None and out.suffix not in PICTURES:
        raise OptionError(f"--out {out}: the picture is {', '.join(PICTURES)}; name a file that ends so.")
    read = output.read(data, **asdict(roles))
    found = diagnose(read)
    output.answer("\n".join(found.lines()), asdict(found))
    if out is not None:
        from ..runs.plotting import plot_check, render

        with output.saving(out) as draft:
            draft.write_bytes(render(plot_check(read, found), out.suffix[1:]))


def compare(
    data: Table,
    /,
    *,
    roles: Roles = Roles(),
    seed: Annotated[int, sought(help="Seed of whatever is random.")] = 0,
    time_limit: Annotated[
        float | None, sought(help="Seconds for each method [default: 30 for those that never end].")
    ] = None,
    out: Annotated[Path | None, saved(help="Folder for comparison.csv and comparison.png [default: none].")] = None,
    output: Output = Output(),
) -> None:
    """Run other methods on the same split of a table, and say when a simple one suffices."""
    from ..work.progress import ShownJournal, open_progress

    if seed < 0:
        raise OptionError(f"--seed is {seed}; use a whole number from 0 on.")
    if time_limit is not None and not time_limit > 0:
        raise OptionError(f"--time-limit is {time_limit:g}; use seconds above 0.")
    table = output.read(data, **asdict(roles))
    with open_progress(output.quiet) as progress:
        progress.show("loading", None, None, "")
        from ..peers.comparison import compare  # torch is loaded here
        from ..runs.text import write_comparison

        found = compare(table, seed=seed, time_limit=time_limit, journal=ShownJournal(progress))
    output.answer(write_comparison(found), found.facts())
    if out is not None:
        _save_comparison(found, out)
        output.tell(f"saved in {out}")


def _save_comparison(found: Comparison, folder: Path) -> None:
    from ..runs.plotting import plot_comparison

    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "comparison.csv") as draft:
        found.write_csv(draft)
    with replacing(folder / "comparison.png") as draft:
        plot_comparison(found).savefig(draft, format="png")


def systems(
    name: Annotated[str | None, Parameter(help="A system of the catalogue [default: list them all].")] = None,
    /,
    *,
    out: Annotated[Path | None, saved(help="Simulate the system into this table.")] = None,
    noise: Annotated[float, Parameter(help="Noise of that table, a share of each state's standard deviation.")] = 0.0,
    seed: Annotated[int, Parameter(help="Seed of that noise.")] = 0,
    output: Output = Output(),
) -> None:
    """List known laws, describe one, or simulate one into a table."""
    from ..law.catalogue import catalogue

    known = catalogue()
    if name is None:
        _list_systems(list(known.values()), out is not None or noise != 0.0, output)
    elif name not in known:
        raise OptionError(f"the catalogue has no {name!r}.{did_you_mean(name, known)} eqdisc systems lists them all.")
    elif out is not None:
        _write_system(name, out, noise, seed, output)
    elif noise:
        raise OptionError("--noise needs --out: it is added to the table that is simulated.")
    else:
        output.answer(_describe(known[name]), asdict(known[name]))


def _list_systems(known: list[Any], one: bool, output: Output) -> None:
    if one:
        raise OptionError("--out and --noise need a system; name one, such as eqdisc systems fsir --out fsir.csv.")
    output.answer("\n".join(f"{s.name:28s}{s.title}" for s in known), [asdict(s) for s in known])


def _write_system(name: str, out: Path, noise: float, seed: int, output: Output) -> None:
    from ..data.tables import write_table
    from ..law.catalogue import simulate_system

    data = simulate_system(name, noise=noise, seed=seed)
    with output.saving(out) as draft:
        write_table(data, draft)


def _describe(system: Any) -> str:
    lines = [f"{system.name}: {system.title}", *(f"  d{s}/dt = {text}" for s, text in system.equations.items())]
    if system.parameters:
        lines.append("  " + ", ".join(f"{p} = {v:g} {system.units[p]}".rstrip() for p, v in system.parameters.items()))
    lines += [f"  from {', '.join(f'{v:g}' for v in x0)}" for x0 in system.x0]
    lines.append(f"  to t = {system.span:g} {system.time_unit}".rstrip() + f", {system.samples} samples")
    return "\n".join([*lines, f"  source: {system.source}"])
