r"""Formulas: one right-hand side as a SymPy expression, how it is read, and how it is written.

    sum of terms,   term = number * factors / sums,   factor = state**power, root, exp, log, sin, cos, |.|, sign, max, min

Each writer (`write_plain`, `write_latex`, `write_readable`) gives every number in the shortest decimal form that reads back as the same
double, and the first two have a reader. Text is parsed against a whitelist of arithmetic and a few functions; nothing that was only read
is ever executed.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

import sympy as sp

from ..work.errors import FormulaError
from .printers import LatexPrinter, PlainPrinter, ReadablePrinter, latex_name

TIME = sp.Symbol("t", real=True)
LONGEST_TEXT = 20_000
LARGEST_POWER = 60
_MOST_NODES = 3000  # numbers, names and operations of a formula
_CALLS: dict[str, Callable] = {
    "sqrt": sp.sqrt, "exp": sp.exp, "log": sp.log, "sin": sp.sin, "cos": sp.cos,
    "Abs": sp.Abs, "abs": sp.Abs, "sign": sp.sign,
    "Max": lambda *a: _extreme(sp.Max, a), "Min": lambda *a: _extreme(sp.Min, a),
}  # fmt: skip
_OF_MANY = {"Max": 8, "Min": 8}  # functions of several arguments, and how many at most
_SIMPLE = 12  # largest denominator of an exponent that is printed as a fraction


def symbols_of(states: Sequence[str]) -> dict[str, sp.Symbol]:
    """Return the real SymPy symbol of each state."""
    return {s: sp.Symbol(s, real=True) for s in states}


def as_power(w: float) -> sp.Number:
    """Return a whole number or simple fraction exactly, any other exponent as it is.

    >>> as_power(0.5), as_power(2.0), as_power(0.7)
    (1/2, 2, 0.700000000000000)
    """
    fraction = Fraction(w).limit_denominator(_SIMPLE)
    simple = fraction.denominator in (1, 2, 3, 4)
    return (
        sp.Rational(fraction.numerator, fraction.denominator)
        if simple and abs(float(fraction) - w) < 1e-12
        else sp.Float(w)
    )


def as_number(value: float) -> sp.Number:
    """Return a whole number below a million as an integer, any other as it is."""
    return sp.Integer(int(value)) if value == int(value) and abs(value) < 10**6 else sp.Float(value)


def round_to(value: float, error: float) -> float:
    """Round to the fewest significant digits (at least two) that stay within `error`.

    >>> round_to(0.0599997, 1e-5), round_to(1234.56, 30.0), round_to(0.7312, 0.0)
    (0.06, 1230.0, 0.7312)
    """
    for digits in range(2, 17):
        short = float(f"{value:.{digits - 1}e}")
        if abs(short - value) <= error and short != 0:
            return short
    return value


def write_plain(expr: sp.Expr) -> str:
    """Return a formula as plain arithmetic, which `parse_formula` reads."""
    return PlainPrinter().doprint(expr)


def write_latex(expr: sp.Expr) -> str:
    r"""Return a formula in LaTeX, which `parse_latex` reads.

    >>> write_latex(parse_formula("0.5*sqrt(x)*y", ["x", "y"]))
    '0.5 \\sqrt{x} y'
    """
    return LatexPrinter().write(expr)


def write_readable(expr: sp.Expr) -> str:
    """Return a formula as a line of Unicode to be read by people.

    >>> write_readable(parse_formula("0.5*sqrt(x) - y**2", ["x", "y"]))
    '0.5·√x - y^2'
    """
    return ReadablePrinter().write(expr)


# ---------------------------------------------------------------- reading text


def parse_formula(text: str, states: Sequence[str]) -> sp.Expr:
    """Read a formula over `states` and t. Raises FormulaError for anything but arithmetic and the functions of formulas.

    >>> parse_formula("2*x**0.5 - __import__('os')", ["x"])
    Traceback (most recent call last):
    eqdisc.work.errors.FormulaError: not a formula: __import__('os')
    """
    if not isinstance(text, str) or len(text) > LONGEST_TEXT:
        raise FormulaError(f"a formula is a text of at most {LONGEST_TEXT} characters.")
    try:
        tree = ast.parse(text.strip(), mode="eval")
        if sum(1 for _ in ast.walk(tree)) > 2 * _MOST_NODES:  # a name has a context, an operation its kind
            raise FormulaError(f"a formula has at most {_MOST_NODES:,} numbers, names and operations.")
        return _in_doubles(_build(tree.body, symbols_of(states) | {"t": TIME}, 0))
    except FormulaError:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError, TypeError, ZeroDivisionError) as error:
        raise FormulaError(f"not a formula: {text[:60]!r} ({type(error).__name__}).") from None


def parse_latex(text: str, states: Sequence[str]) -> sp.Expr:
    """Read back what `write_latex` wrote. Raises FormulaError for any other LaTeX."""
    return parse_formula(_unlatex(text, states), states)


_OPERATIONS: dict[type, Callable] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: _checked_power(a, b),
    ast.USub: lambda a: -a,
    ast.UAdd: lambda a: a,
}
_DEEPEST = 200


def _build(node: ast.AST, names: Mapping[str, sp.Symbol], depth: int) -> sp.Expr:
    if depth > _DEEPEST:
        raise FormulaError("a formula is nested too deeply.")
    operation, parts = _take_apart(node)
    value = _read_leaf(node, names) if operation is None else None
    if operation is not None:
        value = _finite(operation(*[_build(part, names, depth + 1) for part in parts]))
    if value is None:
        raise FormulaError(f"not a formula: {ast.unparse(node)[:60]}")
    return value


def _read_leaf(node: ast.AST, names: Mapping[str, sp.Symbol]) -> sp.Expr | None:
    """Return a number or a symbol, None for anything else."""
    match node:
        case ast.Constant(value=bool()):
            return None
        case ast.Constant(value=int() as v) if abs(v) < 10**6:
            return sp.Integer(v)
        case ast.Constant(value=int() | float() as v) if math.isfinite(v):
            return as_number(float(v))
        case ast.Name(id=name):
            return names.get(name)
    return None


def _take_apart(node: ast.AST) -> tuple[Callable | None, Sequence[ast.expr]]:
    """Return an operation or function of formulas and what it is of; None for anything else."""
    match node:
        case ast.UnaryOp(op=op, operand=x):
            return _OPERATIONS.get(type(op)), [x]
        case ast.BinOp(left=a, op=op, right=b):
            return _OPERATIONS.get(type(op)), [a, b]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if _fits(name, len(args)):
            return _CALLS.get(name), args
    return None, ()


def _checked_power(base: sp.Expr, power: sp.Expr) -> sp.Expr:
    _refuse_power(base, power)
    power = as_power(float(power)) if isinstance(power, sp.Float) else power
    is_root = isinstance(power, sp.Rational) and not power.is_integer
    return sp.Pow(base, power, evaluate=not (is_root and isinstance(base, sp.Mul)))


def _refuse_power(base: sp.Expr, power: sp.Expr) -> None:
    if power.is_number:
        if abs(float(power)) > LARGEST_POWER:
            raise FormulaError(f"an exponent beyond {LARGEST_POWER} is no formula.")
    elif not all(p.exp.is_number for p in base.atoms(sp.Pow) | power.atoms(sp.Pow)):
        raise FormulaError("a power whose exponent is no number stands inside another one.")


def _fits(name: str, count: int) -> bool:
    return 1 <= count <= _OF_MANY.get(name, 1)  # SymPy reads a second argument of sqrt as an option


def _extreme(kind: Callable, values: Sequence[sp.Expr]) -> sp.Expr:
    """Return Max or Min; SymPy compares every pair of arguments, which can take forever, unless told not to."""
    distinct = set(values)
    if len(distinct) == 1:
        return distinct.pop()
    return kind(*values, evaluate=all(v.is_Number for v in values))


def _finite(value: sp.Expr) -> sp.Expr:
    """Return the value, a constant as a number, so that constants never grow. Raises FormulaError unless it is real."""
    if value.has(sp.nan, sp.zoo, sp.oo, -sp.oo, sp.I):
        raise FormulaError("a formula has a value that is not a real number.")
    if any(p.exp.is_number and abs(p.exp) > LARGEST_POWER for p in value.atoms(sp.Pow)):
        raise FormulaError(f"an exponent beyond {LARGEST_POWER} is no formula.")
    return _double(value) if value.is_number else value


def _double(number: sp.Expr) -> sp.Number:
    """Return a whole number or fraction below a million exactly, any other number as the nearest double."""
    if isinstance(number, sp.Rational) and max(abs(number.p), number.q) < 10**6:
        return number
    try:
        value = float(number)
    except (TypeError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise FormulaError("a formula has a value that is not a real number.")
    return as_number(value)


def _in_doubles(expr: sp.Expr) -> sp.Expr:
    """Return the formula with each number as it is printed: SymPy's own reach beyond the doubles, either way, and it keeps 2**(2/3)."""
    numbers = expr.atoms(sp.Number) | {p for p in expr.atoms(sp.Pow) if p.is_number}
    changed = {n: d for n in numbers if (d := _double(n)) != n or type(d) is not type(n)}
    return expr.xreplace(changed) if changed else expr


_LATEX_WORDS = (
    (r"\\left\(|\\right\)", lambda m: "(" if "left" in m[0] else ")"),
    (r"\\operatorname\{(\w+)\}", lambda m: m[1]),
    (r"\\cdot 10\^\{(-?\d+)\}", lambda m: f"e{m[1]}"),
)


def _unfraction(text: str) -> str:
    r"""Turn \frac{a}{b} into ((a)/(b)).

    >>> _unfraction(r"2 \frac{x}{\frac{1}{y}} x^{2}")
    '2 ((x)/(((1)/(y)))) x^{2}'
    """
    parts: list[str] = []
    closing: list[str] = []  # what ends each bracket that is open
    words = iter(re.split(r"(\\frac\{|[{}])", text))
    for word in words:
        if word == r"\frac{":
            parts.append("((")
            closing.append(")/(")
        elif word == "{":
            parts.append(word)
            closing.append("}")
        elif word == "}" and closing:
            parts.append(closing.pop())
            if parts[-1] == ")/(":
                _refuse_unless_bracket(next(words, ""), next(words, ""), text)
                closing.append("))")
        else:
            parts.append(word)
    return "".join(parts)


def _refuse_unless_bracket(between: str, word: str, text: str) -> None:
    if (between, word) != ("", "{"):
        raise FormulaError(f"not LaTeX that eqdisc writes: {text[:60]!r}.")


def _unlatex(text: str, states: Sequence[str]) -> str:
    """Turn the LaTeX that `write_latex` writes into plain arithmetic."""
    if not isinstance(text, str) or len(text) > LONGEST_TEXT or "@" in text:  # which marks the states below
        raise FormulaError(f"not LaTeX that eqdisc writes: {str(text)[:60]!r}.")
    for k, name in sorted(enumerate(states), key=lambda p: -len(latex_name(p[1]))):
        text = re.sub(rf"(?<![A-Za-z\\]){re.escape(latex_name(name))}(?![A-Za-z_])", f"@{k}@", text)
    for pattern, repl in _LATEX_WORDS:
        text = re.sub(pattern, repl, text)
    text = _unfraction(text)
    text = re.sub(r"(\d) e(-?\d)", r"\1e\2", text).replace(r"\sqrt{", "sqrt{").replace("^{", "**{")
    text = text.replace("{", "(").replace("}", ")")
    if "\\" in text:
        raise FormulaError(f"not LaTeX that eqdisc writes: {text[:60]!r}.")
    text = re.sub(r"(?<=[\w)@.]) (?=[\w(@])", "*", text)
    return re.sub(r"@(\d+)@", lambda m: states[int(m[1])], text)
