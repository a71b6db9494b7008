r"""Export: the law of a run in other languages, to be simulated, fitted, printed or read there.

    python c julia      programs that print the simulation of every trajectory as CSV, as `eqdisc simulate` does
    stan sbml           the law for inference, and for the tools of systems biology
    latex sympy json    the law for a paper, for algebra, for other programs

Every target carries the law, the starts, the units that are known and the verdict with its reasons. Names of columns
may be any text: as identifiers stand only symbols that the language leaves free, and the text itself only in escaped
literals and in line comments, where it is one printable line.
"""

from __future__ import annotations

import csv
import io
import json
import string
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args
from xml.sax.saxutils import escape

import numpy as np

from .. import __version__
from ..judge.card import write_latex
from ..law import printers
from ..law.simulation import TIGHT_ATOL, TIGHT_RTOL
from ..work.errors import OptionError, RunError, did_you_mean
from ..work.files import as_json

if TYPE_CHECKING:
    import sympy as sp

    from ..data.dataset import Dataset
    from ..law.equations import Equations

Target = Literal["python", "julia", "c", "stan", "sbml", "latex", "sympy", "json"]
TARGETS: tuple[str, ...] = get_args(Target)
_RUNNING = ("python", "julia", "c", "stan", "sbml")  # what simulates by itself
WIDTH = 110
_FACTS = ("eqdisc", "verdict", "reasons", "time", "states", "symbols", "equations", "parameters", "initial")


class Exported(Protocol):
    """What an export needs of a `Run`, which can export itself."""

    @property
    def folder(self) -> Path: ...
    @property
    def result(self) -> Mapping[str, Any]: ...
    @property
    def states(self) -> tuple[str, ...]: ...
    @property
    def symbols(self) -> tuple[str, ...]: ...
    @property
    def equations(self) -> Equations: ...
    @property
    def data(self) -> Dataset: ...
    def start_of(self, trajectory: str) -> np.ndarray: ...


def export(run: Exported, to: str) -> str:
    """Return the law of a run as a text in the language `to`.

    Raises OptionError for a language that is not known, or whose library is missing, RunError for a run without a law.

    >>> from eqdisc.runs.run import Run
    >>> export(Run("runs/fsir", {}), "pyton")  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    eqdisc.work.errors.OptionError: there is no export to 'pyton'; ... Did you mean 'python'?
    """
    if to not in TARGETS:
        raise OptionError(f"there is no export to {to!r}; choose from {', '.join(TARGETS)}.{did_you_mean(to, TARGETS)}")
    law = run.result["equations"] or {}
    if not all(law.get(name) for name in run.states):
        raise RunError(f"{run.folder} holds no law to export; run the fit again.")
    for key, what in (("inputs", "laws without inputs"), ("groups", "one law for all records")):
        if to in _RUNNING and run.result.get(key):
            raise OptionError(f"{to} programs hold {what}; use latex, sympy or json, or eqdisc simulate {run.folder}.")
    return _WRITERS[to](run)


# What every target says


def one_line(text: str) -> str:
    r"""Return a text that can stand in a line comment of any language: printable, on one line, not continued on the next.

    >>> one_line("a\n*/ b\\")
    'a */ b\\.'
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return f"{line}." if line.endswith(("\\", "??/")) else line  # in C, these would swallow the end of the line


def write_facts(run: Exported, names: Mapping[str, str]) -> list[str]:
    """Return the verdict with its reasons, what each identifier stands for and its unit, one line each."""
    units, time = run.data.units, run.result["time"]
    facts = [f"eqdisc {run.result.get('eqdisc', __version__)}, verdict: {run.result['verdict']}"]
    facts += run.result["reasons"]
    for name, symbol in zip(run.states, run.symbols, strict=True):
        if names[symbol] != name:
            facts.append(f"{names[symbol]} stands for {json.dumps(name, ensure_ascii=False)}")
        if name in units:
            facts.append(f"unit of {names[symbol]}: {units[name]}")
    if time != "t" or time in units:
        facts.append(f"t is {json.dumps(time, ensure_ascii=False)}" + (f" in {units[time]}" if time in units else ""))
    return [one_line(fact) for fact in facts]


@dataclass(frozen=True)
class _Start:
    """A trajectory: its name, its estimated start and its times."""

    name: str
    x0: list[float]
    t: list[float]


def _starts(run: Exported) -> list[_Start]:
    found = [_Start(k.name, run.start_of(k.name).tolist(), k.t.tolist()) for k in run.data.trajectories]
    for start in found:
        if not np.isfinite(start.x0).all():
            raise RunError(f"{run.folder}: the start of trajectory {start.name!r} is not known; run the fit again.")
    return found


@dataclass(frozen=True)
class _Source:
    """The law of a run in the words of one language."""

    run: Exported
    language: str
    comment: str
    printer: Callable[[Mapping[str, str]], Any]
    first: int = 0  # place of the first element of an array

    @cached_property
    def names(self) -> dict[str, str]:
        """Identifier of each state by its symbol."""
        return printers.safe_names(self.run.symbols, printers.TAKEN[self.language])

    @cached_property
    def rights(self) -> list[str]:
        """Right-hand sides."""
        printer = self.printer(self.names)
        return [printer.doprint(side) for side in self.run.equations.rhs]

    def unpack(self, line: str, clamp: str) -> str:
        """Write `line`, of a name and its value, for each state that the law uses; `clamp` keeps a value from falling below zero."""
        law = self.run.equations
        used: set[sp.Symbol] = set().union(*(side.free_symbols for side in law.rhs))
        states = enumerate(zip(law.symbols, law.rooted, strict=True), self.first)
        values = ((k, symbol, clamp if rooted else "{}") for k, (symbol, rooted) in states if symbol in used)
        return _lines((line.format(self.names[symbol.name], form.format(f"x[{k}]")) for k, symbol, form in values), 4)

    def sides(self, line: str) -> str:
        """Write `line`, of a place and a right-hand side, for each state."""
        return _lines((line.format(k, side) for k, side in enumerate(self.rights, self.first)), 4)

    def fill(self, **parts: Any) -> str:
        """Fill the template of the language."""
        text = files(__package__).joinpath("templates", f"{self.language}.txt").read_text(encoding="utf-8")
        header = "\n".join(f"{self.comment} {fact}" for fact in write_facts(self.run, self.names))
        return string.Template(text).substitute(
            header=header, rtol=repr(TIGHT_RTOL), atol=repr(TIGHT_ATOL), count=len(self.run.states), **parts
        )


def _columns(run: Exported) -> list[str]:
    return ["trajectory", run.result["time"], *run.states]


def _cells(cells: Sequence[str]) -> str:
    page = io.StringIO()
    csv.writer(page).writerow(cells)  # which quotes a line break only where it ends lines with one
    return page.getvalue().removesuffix("\r\n")


def _numbers(values: Iterable[float], indent: int = 0) -> str:
    """Return numbers with commas, broken into lines."""
    text = ", ".join(map(repr, values))
    lines = textwrap.wrap(text, WIDTH - indent, break_long_words=False, break_on_hyphens=False)
    return f"\n{' ' * indent}".join(lines)


def _lines(lines: Iterable[str], indent: int) -> str:
    return "\n".join(" " * indent + line for line in lines)


# Programs


def _write_python(run: Exported) -> str:
    source = _Source(run, "python", "#", printers.PythonPrinter)
    rooted = ["0.0" if root else "-numpy.inf" for root in run.equations.rooted]
    return source.fill(
        columns=ascii(_columns(run)),
        units=ascii(dict(run.data.units)),
        lowest=f"[{', '.join(rooted)}]",
        unpack=f"[{', '.join(source.names.values())}]",
        rhs=_lines((f"{side}," for side in source.rights), 12),
        trajectories="\n".join(
            f"    (\n        {k.name!a},\n        [{_numbers(k.x0, 9)}],\n        [{_numbers(k.t, 9)}],\n    ),"
            for k in _starts(run)
        ),
    )


def _write_sympy(run: Exported) -> str:
    source = _Source(run, "sympy", "#", printers.SymbolicPrinter)
    names = source.names
    rows = zip(names.values(), source.rights, strict=True)
    return source.fill(
        symbols="\n".join(f"{name} = sympy.Symbol({symbol!a}, real=True)" for symbol, name in names.items()),
        rhs=_lines((f"{name}: {side}," for name, side in rows), 4),
        starts=_lines(
            (f"{k.name!a}: {{{', '.join(map('{}: {!r}'.format, names.values(), k.x0))}}}," for k in _starts(run)), 4
        ),
        units=ascii(dict(run.data.units)),
    )


def quote_c(text: str) -> str:
    r"""Return a string literal of C, its bytes in UTF-8.

    >>> print(quote_c('50 % "β"\n??/'))
    "50 % \042\316\262\042\012\077\077/"
    """
    plain = set(range(32, 127)) - set(b'"\\?')
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in text.encode("utf-8", "replace")) + '"'


def _write_c(run: Exported) -> str:
    source = _Source(run, "c", "//", printers.CPrinter)
    starts = _starts(run)
    arrays = [
        f"static const double START_{n}[] = {{{_numbers(k.x0, 4)}}};\n"
        f"static const double TIMES_{n}[] = {{\n    {_numbers(k.t, 4)}}};"
        for n, k in enumerate(starts)
    ]
    cells = [quote_c(_cells([k.name, "0"]).removesuffix(",0")) for k in starts]
    return source.fill(
        columns=quote_c(_cells(_columns(run))),
        unpack=source.unpack("double {} = {};", "fmax({}, 0)"),
        rhs=source.sides("dx[{}] = {};"),
        trajectories="\n".join(arrays),
        list=_lines((f"{{{cell}, START_{n}, TIMES_{n}, {len(starts[n].t)}}}," for n, cell in enumerate(cells)), 4),
    )


def quote_julia(text: str) -> str:
    r"""Return a string literal of Julia.

    >>> print(quote_julia('$x "β"'))
    "\U00000024x \U00000022\U000003b2\U00000022"
    """
    plain = set(range(32, 127)) - set(b'"\\$')
    return '"' + "".join(c if ord(c) in plain else f"\\U{ord(c):08x}" for c in text) + '"'


def _write_julia(run: Exported) -> str:
    source = _Source(run, "julia", "#", printers.JuliaPrinter, first=1)
    units = ", ".join(f"{quote_julia(name)} => {quote_julia(unit)}" for name, unit in run.data.units.items())
    return source.fill(
        columns=f"[{', '.join(map(quote_julia, _columns(run)))}]",
        units=f"Dict{{String, String}}({units})",
        unpack=source.unpack("{} = {}", "max({}, 0.0)"),
        rhs=source.sides("dx[{}] = {}"),
        trajectories=_lines(
            (f"({quote_julia(k.name)}, [{_numbers(k.x0, 8)}], [{_numbers(k.t, 8)}])," for k in _starts(run)), 4
        ),
    )


def _write_stan(run: Exported) -> str:
    source = _Source(run, "stan", "//", printers.StanPrinter, first=1)
    data, simulations = [], []
    for n, k in enumerate(_starts(run), 1):
        data += [f"// trajectory {one_line(json.dumps(k.name, ensure_ascii=False))}, from t = {k.t[0]!r}"]
        data += [f"vector[{len(k.x0)}] start_{n} = [{_numbers(k.x0, 4)}]';"]
        later = len(k.t) - 1
        if later:
            small = TIGHT_ATOL * max(max(map(abs, k.x0)), 1e-12)
            data += [f"array[{later}] real times_{n} = {{{_numbers(k.t[1:], 4)}}};"]
            solve = f"ode_bdf_tol(law, start_{n}, {k.t[0]!r}, times_{n}, {TIGHT_RTOL!r}, {small!r}, 1000000)"
            simulations += [f"array[{later}] vector[{len(k.x0)}] states_{n} = {solve};"]
    return source.fill(
        unpack=source.unpack("real {} = {};", "fmax({}, 0)"),
        rhs=source.sides("dx[{}] = {};"),
        data=_lines(data, 2),
        simulations=_lines(simulations, 2),
    )


# Texts


def _write_latex(run: Exported) -> str:
    facts = write_facts(run, {symbol: symbol for symbol in run.symbols})
    lines = [f"start of trajectory {k.name}: " + _pairs(run, k) for k in _starts(run)]
    head = "".join(f"% {one_line(line)}\n" for line in [*facts, *lines])
    return head + write_latex(
        {**run.result, "eqdisc": __version__, "verdict": one_line(run.result["verdict"])}, run.equations
    )


def _pairs(run: Exported, start: _Start) -> str:
    return ", ".join(f"{symbol} = {value!r}" for symbol, value in zip(run.symbols, start.x0, strict=True))


def _write_json(run: Exported) -> str:
    facts = {key: run.result[key] for key in _FACTS if key in run.result} | {"units": dict(run.data.units)}
    return json.dumps(as_json(facts), indent=2, allow_nan=False) + "\n"


def _write_sbml(run: Exported) -> str:
    """Write SBML Level 3: every state a parameter with a rate rule, from the start of the first trajectory."""
    try:
        import libsbml
    except ModuleNotFoundError:
        raise OptionError("the export to sbml needs python-libsbml; pip install 'eqdisc[sbml]'.") from None
    source = _Source(run, "sbml", "", lambda names: printers.SbmlPrinter(_clamped(run, names)))
    starts = _starts(run)
    document = libsbml.SBMLDocument(3, 1)
    model = document.createModel()
    model.setId("law")
    notes = [*write_facts(run, source.names), *(f"start of trajectory {k.name}: {_pairs(run, k)}" for k in starts)]
    body = "".join(f"<p>{escape(one_line(note))}</p>" for note in notes)
    model.setNotes(f'<body xmlns="http://www.w3.org/1999/xhtml">{body}</body>')
    for name, symbol, value in zip(run.states, run.symbols, starts[0].x0, strict=True):
        state = model.createParameter()
        state.setId(source.names[symbol])
        state.setName(one_line(name))
        state.setConstant(False)
        state.setValue(value)
    words = libsbml.L3ParserSettings()
    words.setModel(model)
    words.setParseLog(libsbml.L3P_PARSE_LOG_AS_LN)
    words.setComparisonCaseSensitivity(libsbml.L3P_COMPARE_BUILTINS_CASE_SENSITIVE)
    for symbol, side in zip(run.symbols, source.rights, strict=True):
        rule = model.createRateRule()
        rule.setVariable(source.names[symbol])
        rule.setMath(libsbml.parseL3FormulaWithSettings(side, words))
    return libsbml.writeSBMLToString(document)


def _clamped(run: Exported, names: Mapping[str, str]) -> dict[str, str]:
    """Return what stands in a formula of SBML for each symbol: a state under a root never falls below zero."""
    roots = zip(run.symbols, run.equations.rooted, strict=True)
    return {s: f"piecewise({names[s]}, {names[s]} > 0, 0)" if root else names[s] for s, root in roots} | {"t": "time"}


_WRITERS: dict[str, Callable[[Exported], str]] = {
    "python": _write_python,
    "julia": _write_julia,
    "c": _write_c,
    "stan": _write_stan,
    "sbml": _write_sbml,
    "latex": _write_latex,
    "sympy": _write_sympy,
    "json": _write_json,
}
