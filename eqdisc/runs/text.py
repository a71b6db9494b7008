"""The answer as text: the law in a readable form and in LaTeX, the front as a table with the pick marked, the verdict.

Everything comes from the run folder, so that `eqdisc fit` and `eqdisc show` say the same.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import geometric_mean
from typing import TYPE_CHECKING, Any

from ..judge.card import latex_names
from ..work.markup import write_interval, write_number
from .run import Run

if TYPE_CHECKING:
    from rich.table import Table

    from ..work.journal import Timing
    from .design import Experiment

WIDTH = 120
PICK = "→"
LETTERS = "ABCDEFGHIJ"  # names of forms, the pick first
SHOWN = 6  # alternatives that are printed
COMPARED = {"fitted": "error fitted", "later": "error later", "new_start": "error new start"}
LEAST = 5e-324  # which stands for a number of zero in a geometric mean
ALIKE = 3.0  # nats below which a rival is not put aside


def write_answer(run: Run) -> str:
    """Return what `eqdisc fit` prints: law, front, verdict."""
    law = (write_law(run), write_names(run), write_groups(run), write_front(run))
    return "\n\n".join(filter(None, (*law, write_numbers(run), write_bootstrap(run), write_verdict(run))))


def write_timing(timing: Timing) -> str:
    """Return where the time of a fit went, by stage and by step, and the most memory that it held."""
    from ..work.memory import peak

    whole = sum(timing.stages.values())
    table = open_table("stage, and steps of the search", ">times", ">seconds", ">share")
    for name, seconds in timing.stages.items():
        table.add_row(name, "", f"{seconds:.2f}", f"{seconds / whole:.0%}")
    table.add_row("whole process", "", f"{whole:.2f}", "100%", end_section=True)
    for name, (times, seconds) in sorted(timing.steps.items(), key=lambda item: -item[1][1]):
        table.add_row(name, str(times), f"{seconds:.2f}", f"{seconds / whole:.0%}")
    return f"{render_table(table)}\nat most {peak():.2f} GB"


def write_law(run: Run) -> str:
    """Return each equation in a readable form with its LaTeX under it."""
    pairs = zip(write_equations(run, "unicode"), write_equations(run, "latex"), strict=True)
    return "\n".join(f"{readable}\n    {latex}" for readable, latex in pairs)


def write_equations(run: Run, form: str) -> list[str]:
    """Return the law's equations, one a line, as unicode, latex or sympy (plain arithmetic)."""
    if form == "unicode":
        return run.equations.readable()
    if form == "latex":
        rights = run.equations.latex().values()
        return [
            rf"\frac{{d {name}}}{{dt}} = {right}"
            for name, right in zip(latex_names(run.equations), rights, strict=True)
        ]
    return [
        f"d{symbol}/dt = {run.result['equations'][name]}" for name, symbol in zip(run.states, run.symbols, strict=True)
    ]


def write_names(run: Run) -> str:
    """Return which symbol stands for which name of the table, where they differ."""
    return "\n".join(
        f"{symbol} stands for {name!r}" for name, symbol in zip(run.states, run.symbols, strict=True) if symbol != name
    )


def write_groups(run: Run) -> str:
    """Return which coefficients differ between groups, or that none does; nothing where there are none."""
    if not run.groups:
        return f"no coefficient differs between the groups of {run.group!r}" if run.group else ""
    named = [(f"{p['name']} ({p.get('term', '')})", p) for p in run.result["parameters"]]
    differ = ", ".join(dict.fromkeys(name for name, p in named if p.get("group")))
    alike = ", ".join(name for name, p in named if name.startswith("k") and not p.get("group"))
    groups = f"between the {len(run.groups)} groups of {run.group!r}"
    if not differ:
        return f"no coefficient differs {groups}"
    same = f"; the same for all: {alike}" if alike else ""
    return f"differs {groups}, shown as their geometric mean: {differ}{same}"


def write_front(run: Run, equations: bool = False) -> str:
    """Return the front as a table by rising complexity, the pick marked; with each law's equations if asked for."""
    table = render_table(_tabulate(run))
    if not equations:
        return table
    lines = table.split("\n")
    laws = ([f"      {line}" for line in run.law(entry["equations"]).readable()] for entry in run.front)
    return "\n".join([*lines[:2], *(line for row, law in zip(lines[2:], laws, strict=True) for line in (row, *law))])


def write_numbers(run: Run) -> str:
    """Return every number of the law with its interval, which term it belongs to and whether it was estimated."""
    from rich.text import Text

    numbers = run.result.get("parameters")
    if not numbers:
        return ""
    table = open_table("number", ">value", f"{run.result['ci_level']:.0%} interval")
    for heading in ("term", "of", ""):
        table.add_column(heading, overflow="fold")
    for p in (*_by_name(numbers), *(p for p in numbers if not p.get("group"))):
        cells = [
            p["name"],
            f"{write_number(p['value'], 6)} {p['unit']}".strip(),
            p.get("span") or write_interval(p["ci"]),
        ]
        table.add_row(*map(Text, (*cells, p.get("term", ""), p["where"], "chosen" if p.get("chosen") else "")))
    return render_table(table)


def _by_name(numbers: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield each number that differs between groups once, from the least group to the largest; result.json has them all."""
    names = dict.fromkeys(p["name"] for p in numbers if p.get("group"))
    for name in names:
        some = sorted((p for p in numbers if p["name"] == name), key=lambda p: p["value"])
        mean = math.copysign(geometric_mean(abs(p["value"]) or LEAST for p in some), some[0]["value"])
        span = f"groups from {write_number(some[0]['value'], 4)} to {write_number(some[-1]['value'], 4)}"
        yield dict(some[0]) | {"value": float(f"{mean:.4g}"), "ci": None, "span": span}


def write_verdict(run: Run) -> str:
    """Return the verdict, its reasons, and the rivals where there are any."""
    flat = (f"  flat: {words}." for words in run.result.get("flat", ()))
    return "\n".join([f"verdict: {run.verdict}", *(f"  {reason}" for reason in run.reasons), *flat, *_rivals(run)])


def write_bootstrap(run: Run) -> str:
    """Return what a bootstrap said of each term, or nothing where there was none."""
    from rich.text import Text

    found = run.result.get("bootstrap")
    if not found:
        return ""
    table = open_table("equation", "term", ">included", ">coefficient", f">{found['level']:.0%} interval", ">powers")
    for row in found["terms"]:
        value = row["coefficient"]
        numbers = [f"{value[0]:.4g}", f"{value[1]:.4g} to {value[2]:.4g}"] if value else ["-", "-"]
        powers = ", ".join(f"{s} {low:.3g} to {high:.3g}" for s, (_, low, high) in row["exponents"].items())
        cells = [f"d{row['equation']}/dt", row["term"], f"{row['inclusion']:.0%}", *numbers, powers]
        table.add_row(*map(Text, cells))
    head = f"bootstrap: {found['count']} replicates, in {found['won']:.0%} of which the law won in this form"
    return f"{head}\n{render_table(table)}"


def write_validation(facts: Mapping[str, Any], fitted: float | None) -> str:
    """Return the errors of a law on trajectories, one a line, those that were fitted marked, then all of them beside the error fitted."""
    lines = [f"{'trajectory':16s}{'error':>14s}  ended"]
    for row in facts["trajectories"]:
        ended = row["status"].replace("_", " ") + ("" if row["end"] is None else f" at {row['end']:g}")
        seen = ", was fitted" if row["fitted"] else ""
        lines.append(f"{row['trajectory']:16s}{_number(row, 'error', '.3g'):>14s}  {ended}{seen}")
    whole = f"{'all':16s}{_number(facts, 'error', '.3g'):>14s}"
    return "\n".join([*lines, whole + ("" if fitted is None else f"  (fitted: {fitted:.3g})")])


def write_experiments(run: Run, experiments: Sequence[Experiment]) -> str:
    """Return the measurement that is proposed, what it would do to each rival, and what others would."""
    best, time = experiments[0], run.result["time"]
    forms = [run.equations, *run.alternatives[: len(best.nats)]]
    lines = [f"{letter}  {line}" for letter, law in zip(LETTERS, forms, strict=False) for line in law.readable()]
    apart = f"they part most at {time} = {best.time:.4g}, in {run.states[best.state]}"
    record = f"{len(best.t)} samples from {time} = {best.t[0]:.4g} to {best.t[-1]:.4g}"
    lines += ["", f"measure next: start at {_start(run, best)}, {record}, as precisely as before; {apart}.", ""]
    lines.append("nats by which each form would fall behind A (six nats are odds of 400 to 1):")
    lines.append(_tabulate_experiments(run, experiments, LETTERS[1 : len(forms)]))
    alike = [letter for letter, v in zip(LETTERS[1:], best.nats, strict=False) if v < ALIKE]
    if alike:
        why = "too much like A to be told apart by one record of this precision"
        lines += ["", f"{' and '.join(alike)} would stay: {why}."]
    name = str(run.result["data"]["file"]).rpartition("/")[2]
    how = "below the old rows, told apart by a column 'trajectory', and fit again"
    return "\n".join([*lines, "", f"Put the new rows into {name} {how}."])


def _tabulate_experiments(run: Run, experiments: Sequence[Experiment], rivals: str) -> str:
    table = open_table("start", f">last {run.result['time']}", *(f">{letter}" for letter in rivals))
    for e in experiments:
        again = " (a repeat)" if e.repeat else ""
        table.add_row(_start(run, e) + again, f"{e.t[-1]:.4g}", *(f"{v:.1f}" for v in e.nats))
    return render_table(table)


def write_comparison(found: Any) -> str:
    """Return every method's law, then the table of errors, sizes and seconds, what is not installed, and the conclusion."""
    from rich.text import Text

    facts = found.facts()
    width = max((len(row["method"]) for row in facts["methods"] if row["equations"]), default=0)
    unseen = {key: head for key, head in COMPARED.items() if facts["split"][key] is not None}
    table = open_table("method", *(f">{head}" for head in unseen.values()), ">numbers", ">seconds")
    table.add_column("", overflow="fold")
    lines = []
    for row in facts["methods"]:
        names = itertools.chain([row["method"]], itertools.repeat(""))  # beside the first equation
        lines += [f"{name:{width}s}  {line}" for name, line in zip(names, row["equations"], strict=False)]
        errors, size = (_number(row, key, ".3g") for key in unseen), _number(row, "size", "d")
        table.add_row(*map(Text, (row["method"], *errors, size, f"{row['seconds']:.1f}", row["note"])))
    return "\n".join([*lines, "", render_table(table), *found.missing, "", found.conclusion])


def _start(run: Run, e: Experiment) -> str:
    return ", ".join(f"{name} = {v:.3g}" for name, v in zip(run.states, e.x0, strict=True))


def _rivals(run: Run) -> Iterator[str]:
    for number, rival in enumerate(run.alternatives[:SHOWN], 1):
        yield f"  alternative {number}:"
        yield from (f"    {line}" for line in rival.readable())
    more = len(run.alternatives) - SHOWN
    if more > 0:
        yield f"  and {more} more, in result.json and in eqdisc report"


def _tabulate(run: Run) -> Table:
    from rich.text import Text

    table = open_table("")
    for heading in ("complexity", "parameters", "error fitted", "error unseen", "description length"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("ended", no_wrap=True)
    forms = {"train": ".3g", "unseen": ".3g", "description_length": ".1f"}
    for k, entry in enumerate(run.front):
        numbers = (_number(entry, key, form) for key, form in forms.items())
        cells = [PICK if k == run.result["selected"] else "", str(entry["complexity"]), str(entry["parameters"])]
        table.add_row(*map(Text, (*cells, *numbers, entry.get("status", "ok").replace("_", " "))))
    return table


def _number(entry: Mapping[str, Any], key: str, form: str) -> str:
    value = entry.get(key)
    return "-" if value is None or not math.isfinite(value) else format(value, form)


def open_table(*headings: str) -> Table:
    """Return an empty table without a frame; what stands under a heading that begins with > is flush right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style=None)
    for heading in headings:
        table.add_column(heading.removeprefix(">"), justify="right" if heading.startswith(">") else "left")
    return table


def render_table(table: Table, width: int = WIDTH) -> str:
    """Return a table as text without colours."""
    from rich.console import Console

    page = io.StringIO()
    Console(file=page, width=width, color_system=None, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in page.getvalue().rstrip("\n").split("\n"))
