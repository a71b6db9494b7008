r"""Printers: the right-hand sides of a law as people read them, and in the languages that it is exported to.

    a sqrt(S) I - b I**0.3     0.5·√S·I - 0.1·I^0.3     0.5 \sqrt{S} I - 0.1 I^{0.3}     0.5*sqrt(S)*I - 0.1*I**0.3

Each printer here is one of SymPy's, with three things changed: numbers read back as the same double, states have the names
that are safe in that language, and roots and extremes mean what `Equations.function` means by them.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Protocol

import sympy as sp
from sympy.core.function import Application
from sympy.printing.c import C99CodePrinter
from sympy.printing.julia import JuliaCodePrinter
from sympy.printing.mathml import MathMLPresentationPrinter
from sympy.printing.numpy import NumPyPrinter
from sympy.printing.printer import Printer
from sympy.printing.pycode import SymPyPrinter
from sympy.printing.str import StrPrinter

if TYPE_CHECKING:
    from markupsafe import Markup

_WORDS = tomllib.loads(files(__package__).joinpath("words.toml").read_text(encoding="utf-8"))
TAKEN = {language: frozenset(words.split()) for language, words in _WORDS.items()}
TAKEN["sympy"] = TAKEN["python"]
_MACRO = re.compile(r"(FLT|DBL|LDBL|DEC\d*|FP|SEEK|EXIT|MATH|HUGE|RAND|MB|M|L|P|RENAME|CHAR|INT|LONG|SHRT)_\w+")


def number_text(value: float) -> str:
    """Return the shortest decimal text that reads back as the same double.

    >>> number_text(0.1), number_text(1e-9), number_text(2e10)
    ('0.1', '1e-09', '2e+10')
    """
    value = float(value)
    if abs(value) < 1e6:
        return repr(value).removesuffix(".0")
    return next(text for digits in range(1, 18) if float(text := f"{value:.{digits}g}") == value)


class PlainPrinter(StrPrinter):
    """SymPy's own printer, with numbers that read back."""

    def _print_Float(self, expr: sp.Float) -> str:
        return number_text(float(expr))


_GREEK_LETTERS = """
alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi omega
Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega
"""
_GREEK = frozenset(_GREEK_LETTERS.split())


class ReadablePrinter(Printer):
    """A line of Unicode, terms in reading order; what `LatexPrinter` writes otherwise stands in methods of their own."""

    times = "·"

    def write(self, expr: sp.Expr) -> str:
        """Write a sum, or a single term, without brackets around it."""
        out = ""
        for term in sorted(sp.Add.make_args(expr), key=reading_order):
            number, rest = term.as_coeff_Mul()
            sign = "-" if number < 0 else "+"
            out += f" {sign} " if out else sign.strip("+")
            out += self._write_product(abs(number), rest)
        return out

    def _write_product(self, number: sp.Number, rest: sp.Expr) -> str:
        parts = [f for f in sorted(sp.Mul.make_args(rest), key=str) if f != 1]
        below = list(filter(_stands_below, parts))
        factors = [self._print(f) for f in parts if f not in below]
        if number != 1 or not factors:
            factors.insert(0, self._print(number))
        above = self.times.join(factors)
        return self._fraction(above, self.write(sp.Mul(*[1 / f for f in below]))) if below else above

    def emptyPrinter(self, expr: sp.Expr) -> str:
        return self._write_product(*expr.as_coeff_Mul())

    def _print_Symbol(self, expr: sp.Symbol) -> str:
        return self.name(expr.name)

    def _print_Add(self, expr: sp.Add) -> str:
        return self._group(self.write(expr))

    def _print_Pow(self, expr: sp.Pow) -> str:
        base, power = expr.args
        inner = self.write(base)
        if power == sp.Rational(1, 2):
            return self._root(inner)
        return self._power(inner if isinstance(base, sp.Symbol) else self._group(inner), self.write(power))

    def _print_Application(self, expr: Application) -> str:  # Max and Min are no Function
        return self._call(expr.func.__name__, ", ".join(map(self.write, expr.args)))

    def name(self, name: str) -> str:
        return name

    def _print_Rational(self, expr: sp.Rational) -> str:
        return str(expr)

    def _print_Float(self, expr: sp.Float) -> str:
        mantissa, e, exponent = number_text(float(expr)).partition("e")
        return f"{mantissa}e{int(exponent)}" if e else mantissa

    def _fraction(self, above: str, below: str) -> str:
        return f"{above}/({below})"

    def _root(self, inner: str) -> str:
        return f"√({inner})" if len(inner) > 1 else f"√{inner}"

    def _power(self, base: str, power: str) -> str:
        return f"{base}^{power}" if re.fullmatch(r"\d+(\.\d+)?", power) else f"{base}^({power})"

    def _group(self, inner: str) -> str:
        return f"({inner})"

    def _call(self, name: str, inner: str) -> str:
        return f"{name}({inner})"


class LatexPrinter(ReadablePrinter):
    times = " "

    def name(self, name: str) -> str:
        head, *rest = [part or r"\_" for part in {"lambda_": "lambda"}.get(name, name).split("_")]
        word = rf"\{head}" if head in _GREEK else head if len(head) == 1 else rf"\mathrm{{{head}}}"
        tail = r"\_".join(rest)
        return word + (f"_{{{tail}}}" if rest else "")

    def _print_Rational(self, expr: sp.Rational) -> str:
        return str(expr) if expr.q == 1 else self._fraction(expr.p, expr.q)

    def _print_Float(self, expr: sp.Float) -> str:
        mantissa, e, exponent = number_text(float(expr)).partition("e")
        return rf"{mantissa} \cdot 10^{{{int(exponent)}}}" if e else mantissa

    def _fraction(self, above: object, below: object) -> str:
        return rf"\frac{{{above}}}{{{below}}}"

    def _root(self, inner: str) -> str:
        return rf"\sqrt{{{inner}}}"

    def _power(self, base: str, power: str) -> str:
        return f"{base}^{{{power}}}"

    def _group(self, inner: str) -> str:
        return rf"\left({inner}\right)"

    def _call(self, name: str, inner: str) -> str:
        return rf"\operatorname{{{name}}}" + self._group(inner)


def _stands_below(factor: sp.Expr) -> bool:
    """Tell whether a factor is one over a power of a sum."""
    return isinstance(factor, sp.Pow) and isinstance(factor.base, sp.Add) and factor.exp.could_extract_minus_sign()


def reading_order(term: sp.Expr) -> tuple:
    """Products of many states first, constants last, then by name."""
    return -len(term.free_symbols), str(term.as_coeff_Mul()[1])


def latex_name(name: str) -> str:
    r"""Return the name of a state in LaTeX.

    >>> latex_name("beta_1")
    '\\beta_{1}'
    """
    return LatexPrinter().name(name)


def safe_names(symbols: Sequence[str], taken: Collection[str]) -> dict[str, str]:
    """Return an identifier for each symbol: the symbol itself unless a language, or a macro of C, has taken it.

    >>> safe_names(("S", "double", "double_", "_x", "FLT_MAX"), TAKEN["c"])
    {'S': 'S', 'double': 'double_2', 'double_': 'double_', '_x': 'x_', 'FLT_MAX': 'FLT_MAX_'}
    """
    names = {s: s for s in symbols if _is_free(s, taken)}
    used = set(names)
    for symbol in symbols:
        if symbol not in names:
            names[symbol] = _invent(symbol, used, taken)
            used.add(names[symbol])
    return {s: names[s] for s in symbols}


def _invent(symbol: str, used: Collection[str], taken: Collection[str]) -> str:
    """Return a free name as near to a symbol as may be."""
    base = symbol.strip("_") or "x"
    base = base if base[0].isalpha() else f"x{base}"
    first = base if _is_free(base, taken) else f"{base}_"
    names = itertools.chain([first], (f"{base}_{count}" for count in itertools.count(2)))
    return next(name for name in names if name not in used and name not in taken)


def _is_free(name: str, taken: Collection[str]) -> bool:
    plain = not name.startswith("_") and not name.endswith("__")  # both belong to compilers
    return plain and name not in taken and not (taken is TAKEN["c"] and _MACRO.fullmatch(name))


class _Named:
    """Names from a table, numbers in the shortest form that reads back as the same double."""

    def __init__(self, names: Mapping[str, str], settings: Mapping[str, Any] | None = None) -> None:
        super().__init__(dict(settings or {}))  # type: ignore[call-arg]
        self._names = names

    def _print_Symbol(self, expr: sp.Symbol) -> str:
        return self._names.get(expr.name, expr.name)

    def _print_Float(self, expr: sp.Float) -> str:
        return repr(float(expr))

    def _call(self, name: str, arguments: Sequence[sp.Expr]) -> str:
        return f"{name}({', '.join(map(self._print, arguments))})"  # type: ignore[attr-defined]


class PythonPrinter(_Named, NumPyPrinter):
    """Python with NumPy, whose functions answer NaN where others raise."""

    def _print_Max(self, expr: sp.Max) -> str:
        return f"numpy.max([{', '.join(map(self._print, expr.args))}])"

    def _print_Min(self, expr: sp.Min) -> str:
        return f"numpy.min([{', '.join(map(self._print, expr.args))}])"


class SymbolicPrinter(_Named, SymPyPrinter):
    """Python that builds the same SymPy expressions, fractions as fractions."""

    def _print_Rational(self, expr: sp.Rational) -> str:
        return f"sympy.Rational({expr.p}, {expr.q})"

    def _print_Half(self, expr: sp.Rational) -> str:
        return self._print_Rational(expr)

    def _print_Function(self, expr: sp.Expr) -> str:
        return self._call(f"sympy.{expr.func.__name__}", expr.args)

    _print_Abs = _print_sign = _print_exp = _print_log = _print_sin = _print_cos = _print_Function

    def _print_Max(self, expr: sp.Expr) -> str:
        return self._print_Function(expr)[:-1] + ", evaluate=False)"  # SymPy would compare the arguments

    _print_Min = _print_Max


class CPrinter(_Named, C99CodePrinter):
    """C99; a cube root is a power, which is not a number below zero."""

    def _print_Pow(self, expr: sp.Pow) -> str:
        if expr.exp == sp.Rational(1, 3):
            return self._call("pow", expr.args)
        return super()._print_Pow(expr)


class StanPrinter(CPrinter):
    """Stan, which shares the arithmetic of C but for the name of the absolute value."""

    def _print_Abs(self, expr: sp.Abs) -> str:
        return self._call("abs", expr.args)


class SbmlPrinter(StanPrinter):
    """The formulas of SBML Level 3, with choices where the level has no function."""

    def _print_sign(self, expr: sp.Expr) -> str:
        inner = self._print(expr.args[0])
        return f"piecewise(1, {inner} > 0, -1, {inner} < 0, 0)"

    def _print_Max(self, expr: sp.Expr) -> str:
        return self._choose(">=", [self._print(a) for a in expr.args])

    def _print_Min(self, expr: sp.Expr) -> str:
        return self._choose("<=", [self._print(a) for a in expr.args])

    def _choose(self, relation: str, values: list[str]) -> str:
        """Write each value where it is the extreme one: the length grows as the square of their number."""
        picks = [f"{v}, {' && '.join(f'({v} {relation} {w})' for w in values if w is not v)}" for v in values[:-1]]
        return f"piecewise({', '.join([*picks, values[-1]])})"


class JuliaPrinter(_Named, JuliaCodePrinter):
    """Julia."""

    def _print_Max(self, expr: sp.Max) -> str:
        return self._call("max", expr.args)

    def _print_Min(self, expr: sp.Min) -> str:
        return self._call("min", expr.args)


class MathPrinter(MathMLPresentationPrinter):
    """Presentation MathML in the reading order of `Equations`, numbers as short as they read back.

    >>> MathPrinter().doprint(0.5 * sp.Symbol("x"))
    '<mrow><mn>0.5</mn><mo>&InvisibleTimes;</mo><mi>x</mi></mrow>'
    """

    def _as_ordered_terms(self, expr: sp.Add, order: str | None = None) -> list[sp.Expr]:
        return sorted(sp.Add.make_args(expr), key=reading_order)

    def _print_Float(self, expr: sp.Float) -> Any:
        digits, _, power = number_text(float(expr)).partition("e")
        leaf = self._leaf("mn", digits)
        if not power:
            return leaf
        row, raised = self.dom.createElement("mrow"), self.dom.createElement("msup")
        for part in (self._leaf("mn", "10"), self._leaf("mn", str(int(power)))):
            raised.appendChild(part)
        for part in (leaf, self._leaf("mo", "·"), raised):
            row.appendChild(part)
        return row

    def _leaf(self, tag: str, text: str) -> Any:
        leaf = self.dom.createElement(tag)
        leaf.appendChild(self.dom.createTextNode(text))
        return leaf


class Written(Protocol):
    """A law that can be written: its states and their rates."""

    @property
    def rhs(self) -> tuple[sp.Expr, ...]: ...

    @property
    def symbols(self) -> tuple[sp.Symbol, ...]: ...


def write_math(law: Written) -> list[Markup]:
    """Return each equation as MathML, in block form; only symbols and numbers of the law stand in it.

    >>> from eqdisc.law.equations import Equations
    >>> write_math(Equations.parse({"x": "2"}, ("x",)))[0].partition("<mo>=</mo>")[2]
    Markup('<mrow><mn>2</mn></mrow></math>')
    """
    from markupsafe import Markup

    printer = MathPrinter()
    rows = []
    for symbol, right in zip(law.symbols, law.rhs, strict=True):
        left = f"<mfrac><mrow><mi>d</mi>{printer.doprint(symbol)}</mrow><mrow><mi>d</mi><mi>t</mi></mrow></mfrac>"
        rows.append(Markup(f'<math display="block">{left}<mo>=</mo><mrow>{printer.doprint(right)}</mrow></math>'))
    return rows
