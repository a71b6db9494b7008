r"""Equations: a law as SymPy expressions, and every way it is written and read.

    dx_e/dt = rhs_e(x)        fluxes: distinct terms v with stoichiometry N, dx/dt = N v

What is printed is the law: each writer (`strings`, `latex`, `readable`) gives every number in the shortest decimal
form that reads back as the same double, and each has a reader. Text is parsed against a whitelist of arithmetic and
a few functions; nothing that was only read is ever executed.
"""

from __future__ import annotations

import ast
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np
import sympy as sp
from jaxtyping import Float
from sympy.core.function import Application
from sympy.printing.str import StrPrinter

from .errors import FormulaError, OptionError

LONGEST_TEXT = 20_000
LARGEST_POWER = 60
_MOST_NODES = 3000  # numbers, names and operations of a formula
_CALLS: dict[str, Callable] = {
    "sqrt": sp.sqrt, "exp": sp.exp, "log": sp.log, "sin": sp.sin, "cos": sp.cos,
    "Abs": sp.Abs, "abs": sp.Abs, "sign": sp.sign,
    "Max": lambda *a: _extreme(sp.Max, a), "Min": lambda *a: _extreme(sp.Min, a),
}  # fmt: skip
_OF_MANY = {"Max": 8, "Min": 8}  # functions of several arguments, and how many at most
_LONGEST_POWER = 9  # a sum to a higher power is not written out as monomials
_MOST_TERMS = 2000  # nor is what has more terms when it is multiplied out
_SIMPLE = 12  # largest denominator of an exponent that is printed as a fraction


@dataclass(frozen=True)
class Parameter:
    """One number of a law: its value, its interval, its unit, the equations it stands in and the term that it belongs to.

    A `chosen` one, an exponent of 1 say, was not estimated: its interval tells which other values would have done. A coefficient
    that differs between groups is one parameter for each `group`.
    """

    name: str
    value: float
    ci: tuple[float, float] | None = None
    unit: str = ""
    where: str = ""
    term: str = ""
    chosen: bool = False
    group: str = ""


@dataclass(frozen=True)
class Flux:
    """One process: its rate, positive by sign, and how much of each state it makes (+) or takes (-)."""

    rate: sp.Expr
    stoichiometry: dict[str, float]


@dataclass(frozen=True)
class Equations:
    r"""A system of differential equations over `states`, whose right-hand sides use no other symbol than these, `inputs` and t.

    >>> law = Equations.parse({"S": "-0.06*sqrt(I*S) + 0.01*R", "I": "0.06*sqrt(I*S)", "R": "-0.01*R"}, ("S", "I", "R"))
    >>> print(law)
    dS/dt = -0.06·√(I·S) + 0.01·R
    dI/dt = 0.06·√(I·S)
    dR/dt = -0.01·R
    >>> law.latex()["S"], law.invariants()
    ('-0.06 \\sqrt{I S} + 0.01 R', ('S + I + R',))
    """

    states: tuple[str, ...]
    rhs: tuple[sp.Expr, ...]
    inputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.states) != len(self.rhs):
            raise FormulaError(f"{len(self.rhs)} right-hand sides for {len(self.states)} states; give one for each.")
        allowed = {*symbols_of((*self.states, *self.inputs)).values(), _TIME}
        strange = sorted(str(s) for r in self.rhs for s in r.free_symbols - allowed)
        if strange:
            known = f"the states are {', '.join(self.states)}"
            known += f", the inputs {', '.join(self.inputs)}" if self.inputs else ""
            raise FormulaError(f"the law uses {', '.join(strange)}, which is no state; {known}.")

    # ---------------------------------------------------------------- building

    @classmethod
    def from_terms(
        cls,
        states: Sequence[str],
        exponents: Float[np.ndarray, "m c"],
        coefficients: Float[np.ndarray, "m d"],
        inputs: int = 0,
    ) -> Equations:
        """Build dx_e/dt = sum_j A[j, e] prod_i x_i**W[j, i]; a coefficient that is exactly zero is not there.

        The last `inputs` names, which may be t, are inputs: terms contain them, and they have no equation.
        Rows of 3 d + 1 numbers, [w, u, log K, q], are terms x**w / (K + x**u) where u is not zero, with sign(x)|x|**w where q is 1
        and |x|**w where q is 2.

        >>> print(Equations.from_terms(("x",), np.array([[1 / 3], [1.0]]), np.array([[2.0], [-1.0]])))
        dx/dt = -x + 2·x^(1/3)
        >>> print(Equations.from_terms(("x",), np.array([[1.0, 1.0, np.log(4.0), 0.0]]), np.array([[-3.0]])))
        dx/dt = -3·x/(x + 4)
        """
        x = list(symbols_of(states).values())
        terms = [_term(x, np.asarray(row, float)) for row in exponents]
        rhs = [
            sp.Add(
                *[sp.Mul(as_number(float(a)), term) for a, term in zip(column, terms, strict=True) if a != 0],
                evaluate=True,
            )
            for column in np.asarray(coefficients).T[: len(states) - inputs]
        ]
        own, given = tuple(states[: len(rhs)]), tuple(name for name in states[len(rhs) :] if name != "t")
        return cls(own, tuple(sp.Add(*[_plain(t) for t in sp.Add.make_args(r)]) for r in rhs), given)

    @classmethod
    def parse(cls, formulas: Mapping[str, str], states: Sequence[str], inputs: Sequence[str] = ()) -> Equations:
        """Read plain formulas, one for each state. Raises FormulaError for anything but arithmetic over states, inputs and t."""
        _refuse_missing(formulas, states)
        names = (*states, *inputs)
        return cls(tuple(states), tuple(parse_formula(formulas[s], names) for s in states), tuple(inputs))

    @classmethod
    def from_latex(cls, formulas: Mapping[str, str], states: Sequence[str], inputs: Sequence[str] = ()) -> Equations:
        """Read back what `latex` wrote; the numbers are the same doubles. Raises FormulaError for any other LaTeX."""
        _refuse_missing(formulas, states)
        names = (*states, *inputs)
        sides = (parse_formula(_unlatex(formulas[s], names), names) for s in states)
        return cls(tuple(states), tuple(sides), tuple(inputs))

    # ---------------------------------------------------------------- writing

    def strings(self) -> dict[str, str]:
        """Return each right-hand side as plain arithmetic."""
        return {s: _Plain().doprint(r) for s, r in zip(self.states, self.rhs, strict=True)}

    def latex(self) -> dict[str, str]:
        """Return each right-hand side in LaTeX."""
        return {s: _write(r, _LATEX) for s, r in zip(self.states, self.rhs, strict=True)}

    def readable(self) -> list[str]:
        """Return one line of plain text for each equation."""
        return [f"d{s}/dt = {_write(r, _UNICODE)}" for s, r in zip(self.states, self.rhs, strict=True)]

    def __str__(self) -> str:
        return "\n".join(self.readable())

    def _repr_latex_(self) -> str:
        lines = [rf"\frac{{d {_LATEX.name(s)}}}{{dt}} &= {r}" for s, r in self.latex().items()]
        return r"$\begin{aligned}" + r" \\ ".join(lines) + r"\end{aligned}$"

    def __getstate__(self) -> dict[str, object]:
        return {"states": self.states, "rhs": self.rhs, "inputs": self.inputs}  # what was compiled cannot be pickled

    # ---------------------------------------------------------------- reading

    @property
    def symbols(self) -> tuple[sp.Symbol, ...]:
        return tuple(symbols_of(self.states).values())

    @property
    def input_symbols(self) -> tuple[sp.Symbol, ...]:
        return tuple(symbols_of(self.inputs).values())

    @cached_property
    def _compiled(self) -> Callable:
        # dummify: a state may be named like a function of NumPy
        return sp.lambdify(
            [_TIME, *self.symbols, *self.input_symbols], list(self.rhs), modules="numpy", cse=True, dummify=True
        )

    def _powers(self) -> list[sp.Pow]:
        return [p for r in self.rhs for p in r.atoms(sp.Pow)]

    @cached_property
    def rooted(self) -> tuple[bool, ...]:
        """Tell which states stand under a power that is not whole, and so are kept from falling below zero."""
        powers = [p for p in self._powers() if not p.exp.is_integer]
        return tuple(any(x in p.base.free_symbols and not p.base.has(sp.Abs) for p in powers) for x in self.symbols)

    def function(
        self, inputs: Callable[[float], np.ndarray] | None = None
    ) -> Callable[[float, np.ndarray], np.ndarray]:
        """Return f(t, x) for x (d,) or (n, d); states under a root are clamped at zero, so that an undershoot is not NaN.

        `inputs` returns the inputs u (q,) at a time. Raises OptionError for a law that has inputs and is given none.
        """
        if self.inputs and inputs is None:
            raise OptionError(
                f"the law has the inputs {', '.join(self.inputs)}; say what they are in the course of time."
            )
        compiled, low = self._compiled, np.where(self.rooted, 0.0, -np.inf)

        def f(t: float, x: np.ndarray) -> np.ndarray:
            x = np.maximum(np.asarray(x, float), low)
            u = inputs(t) if inputs is not None and self.inputs else ()
            values = compiled(
                np.float64(t), *np.moveaxis(x, -1, 0), *u
            )  # Python's own numbers raise where these are infinite
            return np.stack([np.broadcast_to(v, x.shape[:-1]) for v in values], -1).astype(float)

        return f

    def at(self, values: Mapping[str, float], digits: int = 12) -> Equations:
        """Return the law with these inputs at fixed values, its numbers to so many significant digits."""
        fixed = {symbol: sp.Float(values[name]) for name, symbol in symbols_of(self.inputs).items() if name in values}
        rest = tuple(name for name in self.inputs if name not in values)
        return replace(self, rhs=tuple(_shorten(r.xreplace(fixed), digits) for r in self.rhs), inputs=rest)

    def terms(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return exponents (m, d) and coefficients (m, d) where the law is a sum of monomials, else None."""
        if self.inputs:
            return None
        found: dict[tuple[float, ...], np.ndarray] = {}
        if not self._spreads:
            return None
        for e, r in enumerate(self.rhs):
            for term in sp.Add.make_args(sp.expand(r)) if r != 0 else ():
                split = _monomial(term, self.symbols)
                if split is None:
                    return None
                coefficient, powers = split
                if coefficient:
                    found.setdefault(powers, np.zeros(len(self.states)))[e] += coefficient
        d = len(self.states)
        return np.array(list(found)).reshape(-1, d), np.array(list(found.values())).reshape(-1, d)

    def rows(self, e: int, words: Sequence[str] = ()) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the terms of equation e as `from_terms` reads them, rows (m, d) or, where some saturate, (m, 3 d + 1), and coefficients (m,).

        None where it is no sum of such terms. `words` are the last states, no states but numbers that are not known: they are left out,
        and log K is NaN where K is one.

        >>> law = Equations.parse({"x": "-V*x/(4 + x)", "V": "0"}, ("x", "V"))
        >>> [part.round(2).tolist() for part in law.rows(0, ("V",))]
        [[[1.0, 1.0, 1.39, 0.0]], [-1.0]]
        """
        if self.inputs or not self._spreads:
            return None
        d, side = len(self.states) - len(words), sp.expand(self.rhs[e])
        table, values = [], []
        for term in sp.Add.make_args(side) if side != 0 else ():
            split = _saturating(term, self.symbols, len(words))
            if split is None:
                return None
            values.append(split[0])
            table.append(split[1])
        rows = np.array(table).reshape(-1, 3 * d + 1)
        return rows if (rows[:, d:] != 0).any() else rows[:, :d], np.array(values)

    @cached_property
    def _spreads(self) -> bool:
        """Tell whether the law can be multiplied out in a reasonable time."""
        powers = self._powers()
        high = any(isinstance(p.base, sp.Add) and p.exp.is_Integer and p.exp > _LONGEST_POWER for p in powers)
        return (
            not high and all(p.exp.is_number for p in powers) and sum(_count_terms(r) for r in self.rhs) <= _MOST_TERMS
        )

    def fluxes(self) -> tuple[Flux, ...]:
        """Return the distinct terms as processes: one rate, and what it makes or takes of each state."""
        rates: dict[sp.Expr, dict[str, float]] = {}
        for s, r in zip(self.states, self.rhs, strict=True):
            for term in sp.Add.make_args(r) if r != 0 else ():
                number, rest = term.as_independent(*self.symbols, *self.input_symbols, _TIME, as_Add=False)
                row = rates.setdefault(rest, {})
                row[s] = row.get(s, 0.0) + float(number)
        out = []
        for rest, row in rates.items():
            unit = min(abs(v) for v in row.values()) or 1.0
            stoichiometry = {s: _whole(v / unit) for s, v in row.items()}
            out.append(Flux(sp.Float(unit) * rest if unit != 1.0 else rest, stoichiometry))
        return tuple(out)

    def invariants(self) -> tuple[str, ...]:
        """Return the sums of states that the law conserves to the last digit: small whole numbers times each first, then others.

        >>> Equations.parse({"S": "-2.5*S + X", "X": "1.3*S - 0.52*X"}, ("S", "X")).invariants()
        ('S + 1.92307692308*X',)
        """
        d = len(self.states)
        if not 2 <= d <= 6 or not self._spreads:
            return ()
        with np.errstate(all="ignore"):
            return tuple(_write_sum(c, self.states) for c in self._resting())

    def _resting(self) -> list[np.ndarray]:
        d = len(self.states)
        table = (self.terms() or (None, self._stoichiometry()))[1]
        still = [r == 0 for r in self.rhs]  # a state at rest says nothing about the others
        found: list[np.ndarray] = []
        rest = [c for c in _left_null_space(table) if (c != 0).sum() > 1 and np.isfinite(c).all()]
        for c in [*sorted(_whole_sums(d), key=lambda c: (np.abs(c).sum(), -np.sign(c).sum())), *rest]:
            if (c[still] != 0).any():
                continue
            drift = np.abs(table @ c) > 1e-12 * (np.abs(table) @ np.abs(c))
            if not drift.any() and np.linalg.matrix_rank(np.array([*found, c])) == len(found) + 1:
                found.append(c)
        return found

    def _stoichiometry(self) -> np.ndarray:
        """Return what each process makes of each state (m, d), for laws that are no sums of monomials."""
        law = replace(self, rhs=tuple(sp.expand(r) for r in self.rhs))
        parts = [(f, float(f.rate.as_coeff_Mul()[0])) for f in law.fluxes()]
        return np.array([[f.stoichiometry.get(s, 0.0) * k for s in self.states] for f, k in parts]).reshape(
            -1, len(self.states)
        )

    @property
    def autonomous(self) -> bool:
        """Whether the rates follow from the states alone: no input, no time."""
        return not any(r.free_symbols & {*self.input_symbols, _TIME} for r in self.rhs)

    @property
    def complexity(self) -> int:
        """Count the nodes of all right-hand sides."""
        return sum(1 for r in self.rhs for _ in sp.preorder_traversal(r))

    @property
    def parameter_count(self) -> int:
        """Count the numbers that are not whole exponents: coefficients, and powers with a fraction."""
        return sum(
            1
            for r in self.rhs
            for n in sp.preorder_traversal(r)
            if isinstance(n, sp.Number) and not isinstance(n, sp.Integer)
        )


_TIME = sp.Symbol("t", real=True)


def _count_terms(expr: sp.Expr) -> float:
    """Return how many terms an expression has at most, inside its functions too, when it is multiplied out."""
    inner = [_count_terms(a) for a in expr.args]
    if isinstance(expr, sp.Mul):
        return math.prod(inner)
    if isinstance(expr, sp.Pow) and expr.exp.is_Integer:
        n, terms = abs(int(expr.exp)), inner[0]
        return terms if n == 1 else terms**n
    return sum(inner) or 1.0


def _refuse_missing(formulas: Mapping[str, str], states: Sequence[str]) -> None:
    missing = [s for s in states if s not in formulas]
    if missing:
        raise FormulaError(f"there is no formula for {', '.join(missing)}.")


def _shorten(expr: sp.Expr, digits: int) -> sp.Expr:
    """Return a sum with the number before each term to so many digits."""
    parts = []
    for term in sp.Add.make_args(expr):
        number, rest = term.as_coeff_Mul()
        parts.append(sp.Mul(as_number(float(f"{float(number):.{digits}g}")), rest) if number != 1 else rest)
    return sp.Add(*parts)


def _signed_power(x: sp.Symbol, w: float, parity: float) -> sp.Expr:
    """Return x |x|**(w - 1), which is sign(x)|x|**w, or |x|**w."""
    size = sp.Abs(x)
    return size ** as_power(w) if parity == 2 else x * size ** as_power(w - 1.0)


def _term(x: list[sp.Symbol], row: np.ndarray) -> sp.Expr:
    """Return x**w, or x**w / (K + x**u) with the powers that both have cancelled."""
    d = len(x)
    above, below, parity = row[:d], row[d : 2 * d], row[2 * d + 1 :]
    product = lambda powers: sp.Mul(*[xi ** as_power(float(p)) for xi, p in zip(x, powers, strict=True)])  # noqa: E731
    if parity.any():
        signed = [_signed_power(xi, *pair) for xi, *pair in zip(x, above, parity, strict=True) if pair[1]]
        rest = np.r_[np.where(parity != 0, 0.0, above), row[d : 2 * d + 1], np.zeros(d)]
        return sp.Mul(*signed, _term(x, rest))
    if not below.any():
        return product(above)
    down = np.minimum(below, 0.0)  # 1 / (K + 1/x) is x / (K x + 1)
    return product(above - down) / (
        as_number(float(f"{math.exp(row[2 * d]):.14g}")) * product(-down) + product(below - down)
    )


def symbols_of(states: Sequence[str]) -> dict[str, sp.Symbol]:
    """Return the real SymPy symbol of each state."""
    return {s: sp.Symbol(s, real=True) for s in states}


def write_term(row: Float[np.ndarray, "c"], states: Sequence[str]) -> str:
    """Return one row of exponents as plain text.

    >>> write_term(np.array([0.5, 1.0]), ("S", "I"))
    'I*sqrt(S)'
    """
    unit = np.eye(1, len(states))
    return Equations.from_terms(states, np.asarray(row, float)[None], unit).strings()[states[0]]


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


def _plain(term: sp.Expr) -> sp.Expr:
    """Gather equal fractional powers under one root: sqrt(I)*sqrt(S) is sqrt(I*S) for states that are never negative."""
    number, rest = term.as_independent(*term.free_symbols, as_Add=False) if term.free_symbols else (term, sp.S.One)
    groups: dict[sp.Expr, list[sp.Expr]] = {}
    for base, power in rest.as_powers_dict().items():
        groups.setdefault(power, []).append(base)
    factors = []
    for power, bases in groups.items():
        together = isinstance(power, sp.Rational) and not power.is_integer and len(bases) > 1
        factors.append(
            sp.Pow(sp.Mul(*bases), power, evaluate=False) if together else sp.Mul(*[b**power for b in bases])
        )
    factors = [f for f in factors if f != 1]
    return sp.Mul(number, *factors, evaluate=False) if number != 1 and factors else sp.Mul(number, *factors)


def _monomial(term: sp.Expr, symbols: tuple[sp.Symbol, ...]) -> tuple[float, tuple[float, ...]] | None:
    number, rest = term.as_independent(*symbols, as_Add=False)
    if not number.is_number or not number.is_real:
        return None
    powers = dict.fromkeys(symbols, 0.0)
    for base, power in rest.as_powers_dict().items():
        for factor in sp.Mul.make_args(base):
            inner, outer = factor.as_base_exp()
            total = sp.Mul(power, outer)
            if inner == 1:
                continue
            if inner not in powers or not total.is_number or not total.is_real:
                return None
            powers[inner] += float(total)
    return float(number), tuple(round(p, 12) for p in powers.values())


def _saturating(term: sp.Expr, symbols: tuple[sp.Symbol, ...], words: int) -> tuple[float, tuple[float, ...]] | None:
    """Return coefficient and row [w, u, log K, 0] of x**w or x**w / (K + x**u), the inverse of `_term`; see `Equations.rows`."""
    d = len(symbols) - words
    powers = sp.factor_terms(term).as_powers_dict()
    below = next((base for base in powers if isinstance(base, sp.Add)), None)
    if below is None:
        plain = _monomial(term, symbols)
        return plain and (plain[0], (*plain[1][:d], *(0.0,) * (2 * d + 1)))
    moving, constant = below.as_independent(*symbols[:d])[::-1]
    top = _monomial(sp.Mul(*[base**power for base, power in powers.items() if base != below]), symbols)
    split = _monomial(moving, symbols)
    if powers[below] != -1 or top is None or split is None or not any(split[1][:d]) or constant == 0:
        return None
    unknown = below.free_symbols - set(symbols[:d])
    k = math.nan if unknown else float(constant) / split[0]
    if k <= 0 or not unknown <= set(symbols[d:]):  # t is no number
        return None
    return top[0] / split[0], (*top[1][:d], *split[1][:d], math.log(k), *(0.0,) * d)


def _whole(value: float) -> float:
    if not math.isfinite(value):
        return value
    return float(round(value)) if abs(value - round(value)) < 1e-12 * abs(value) else value


def _whole_sums(d: int) -> list[np.ndarray]:
    sums = (np.array(c, float) for c in itertools.product((1, 0, -1, 2, -2), repeat=d))
    return [
        c for c in sums if (c != 0).sum() >= 2 and c[np.flatnonzero(c)[0]] > 0 and np.gcd.reduce(c.astype(int)) == 1
    ]


def _left_null_space(table: np.ndarray) -> list[np.ndarray]:
    """Return sums c (d,) with table (m, d) @ c = 0, each with a first weight of 1, from the reduced rows of the table."""
    rows = table / np.maximum(np.abs(table).max(1, keepdims=True, initial=0.0), 1e-300)
    d, pivots = rows.shape[1], list[int]()
    for column in reversed(range(d)):
        place = len(pivots) + int(np.abs(rows[len(pivots) :, column]).argmax()) if len(pivots) < len(rows) else None
        if place is None or abs(rows[place, column]) < 1e-11:
            continue
        rows[[len(pivots), place]] = rows[[place, len(pivots)]]
        rows[len(pivots)] /= rows[len(pivots), column]
        others = np.arange(len(rows)) != len(pivots)
        rows[others] -= rows[others, column, None] * rows[len(pivots)]
        pivots.append(column)
    out = []
    for column in (q for q in range(d) if q not in pivots):
        c = np.zeros(d)
        c[column], c[pivots] = 1.0, -rows[: len(pivots), column]
        c[np.abs(c) < 1e-11] = 0.0
        out.append(c / c[np.flatnonzero(c)[0]])
    return out


def _write_sum(c: np.ndarray, states: Sequence[str]) -> str:
    parts = [
        f"{'-' if v < 0 else '+'} {'' if abs(v) == 1 else f'{abs(v):.12g}*'}{s}"
        for v, s in zip(c, states, strict=True)
        if v
    ]
    return " ".join(parts).removeprefix("+ ")


def number_text(value: float) -> str:
    """Return the shortest decimal text that reads back as the same double.

    >>> number_text(0.1), number_text(1e-9), number_text(2e10)
    ('0.1', '1e-09', '2e+10')
    """
    value = float(value)
    if abs(value) < 1e6:
        return repr(value).removesuffix(".0")
    return next(text for digits in range(1, 18) if float(text := f"{value:.{digits}g}") == value)


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


class _Plain(StrPrinter):
    """SymPy's own printer, with numbers that read back."""

    def _print_Float(self, expr: sp.Float) -> str:
        return number_text(float(expr))


@dataclass(frozen=True)
class _Style:
    """How one notation writes products, powers, roots and names."""

    times: str
    latex: bool

    def name(self, name: str) -> str:
        if not self.latex:
            return name
        head, *rest = [part or r"\_" for part in ("lambda" if name == "lambda_" else name).split("_")]
        word = rf"\{head}" if head in _GREEK else head if len(head) == 1 else rf"\mathrm{{{head}}}"
        tail = r"\_".join(rest)
        return word + (f"_{{{tail}}}" if rest else "")

    def fraction(self, above: str, below: str) -> str:
        return rf"\frac{{{above}}}{{{below}}}" if self.latex else f"{above}/({below})"

    def number(self, value: sp.Number) -> str:
        if isinstance(value, sp.Rational):
            return str(value) if not self.latex or value.q == 1 else rf"\frac{{{value.p}}}{{{value.q}}}"
        text = number_text(float(value))
        mantissa, e, exponent = text.partition("e")
        if not e:
            return text
        return rf"{mantissa} \cdot 10^{{{int(exponent)}}}" if self.latex else f"{mantissa}e{int(exponent)}"

    def root(self, inner: str) -> str:
        return rf"\sqrt{{{inner}}}" if self.latex else f"√({inner})" if len(inner) > 1 else f"√{inner}"

    def power(self, base: str, power: str) -> str:
        if self.latex:
            return f"{base}^{{{power}}}"
        return f"{base}^{power}" if re.fullmatch(r"\d+(\.\d+)?", power) else f"{base}^({power})"

    def group(self, inner: str) -> str:
        return rf"\left({inner}\right)" if self.latex else f"({inner})"


_GREEK_LETTERS = """
alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi omega
Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega
"""
_GREEK = frozenset(_GREEK_LETTERS.split())
_LATEX = _Style(times=" ", latex=True)
_UNICODE = _Style(times="·", latex=False)


def _write(expr: sp.Expr, style: _Style) -> str:
    terms = sorted(sp.Add.make_args(expr), key=reading_order)
    out = ""
    for term in terms:
        number, rest = term.as_coeff_Mul()
        sign = "-" if number < 0 else "+"
        body = _write_product(abs(number), rest, style)
        out += f" {sign} {body}" if out else f"{'-' if sign == '-' else ''}{body}"
    return out


def reading_order(term: sp.Expr) -> tuple:
    """Products of many states first, constants last, then by name."""
    return -len(term.free_symbols), str(term.as_coeff_Mul()[1])


def _write_product(number: sp.Number, rest: sp.Expr, style: _Style) -> str:
    parts = [f for f in sorted(sp.Mul.make_args(rest), key=str) if f != 1]
    below = [
        f for f in parts if isinstance(f, sp.Pow) and isinstance(f.base, sp.Add) and f.exp.could_extract_minus_sign()
    ]
    factors = [_write_factor(f, style) for f in parts if f not in below]
    if number != 1 or not factors:
        factors.insert(0, style.number(number))
    above = style.times.join(factors)
    return style.fraction(above, _write(sp.Mul(*[1 / f for f in below]), style)) if below else above


def _write_factor(factor: sp.Expr, style: _Style) -> str:
    if isinstance(factor, sp.Symbol):
        return style.name(factor.name)
    if isinstance(factor, sp.Number):
        return style.number(factor)
    if isinstance(factor, sp.Pow):
        base, power = factor.args
        if power == sp.Rational(1, 2):
            return style.root(_write(base, style))
        inner = _write(base, style)
        return style.power(inner if isinstance(base, sp.Symbol) else style.group(inner), _write(power, style))
    if isinstance(factor, sp.Add):
        return style.group(_write(factor, style))
    if isinstance(factor, Application):  # Max and Min are no Function
        name = factor.func.__name__
        inner = ", ".join(_write(a, style) for a in factor.args)
        return rf"\operatorname{{{name}}}\left({inner}\right)" if style.latex else f"{name}({inner})"
    number, rest = factor.as_coeff_Mul()
    return _write_product(number, rest, style)


# ---------------------------------------------------------------- reading text


def parse_formula(text: str, states: Sequence[str]) -> sp.Expr:
    """Read a formula over `states` and t. Raises FormulaError for anything but arithmetic and the functions of formulas.

    >>> parse_formula("2*x**0.5 - __import__('os')", ["x"])
    Traceback (most recent call last):
    eqdisc.errors.FormulaError: not a formula: __import__('os')
    """
    if not isinstance(text, str) or len(text) > LONGEST_TEXT:
        raise FormulaError(f"a formula is a text of at most {LONGEST_TEXT} characters.")
    try:
        tree = ast.parse(text.strip(), mode="eval")
        if sum(1 for _ in ast.walk(tree)) > 2 * _MOST_NODES:  # a name has a context, an operation its kind
            raise FormulaError(f"a formula has at most {_MOST_NODES:,} numbers, names and operations.")
        return _in_doubles(_build(tree.body, symbols_of(states) | {"t": _TIME}, 0))
    except FormulaError:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError, TypeError, ZeroDivisionError) as error:
        raise FormulaError(f"not a formula: {text[:60]!r} ({type(error).__name__}).") from None


_OPERATIONS: dict[type, Callable] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: _checked_power(a, b),
}
_DEEPEST = 200


def _build(node: ast.AST, names: Mapping[str, sp.Symbol], depth: int) -> sp.Expr:
    if depth > _DEEPEST:
        raise FormulaError("a formula is nested too deeply.")
    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int() as v) if abs(v) < 10**6:
            return sp.Integer(v)
        case ast.Constant(value=int() | float() as v) if math.isfinite(v):
            return as_number(float(v))
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.UnaryOp(op=ast.USub(), operand=x):
            return -_build(x, names, depth + 1)
        case ast.UnaryOp(op=ast.UAdd(), operand=x):
            return _build(x, names, depth + 1)
        case ast.BinOp(left=a, op=op, right=b) if type(op) in _OPERATIONS:
            return _finite(_OPERATIONS[type(op)](_build(a, names, depth + 1), _build(b, names, depth + 1)))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _CALLS and _fits(name, len(args)):
            return _finite(_CALLS[name](*[_build(a, names, depth + 1) for a in args]))
    raise FormulaError(f"not a formula: {ast.unparse(node)[:60]}")


def _checked_power(base: sp.Expr, power: sp.Expr) -> sp.Expr:
    if power.is_number and abs(float(power)) > LARGEST_POWER:
        raise FormulaError(f"an exponent beyond {LARGEST_POWER} is no formula.")
    if not power.is_number and any(not p.exp.is_number for side in (base, power) for p in side.atoms(sp.Pow)):
        raise FormulaError("a power whose exponent is no number stands inside another one.")
    if isinstance(power, sp.Float):
        power = as_power(float(power))
    if isinstance(base, sp.Mul) and isinstance(power, sp.Rational) and not power.is_integer:
        return sp.Pow(base, power, evaluate=False)
    return base**power


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
                if (next(words, ""), next(words, "")) != ("", "{"):
                    raise FormulaError(f"not LaTeX that eqdisc writes: {text[:60]!r}.")
                closing.append("))")
        else:
            parts.append(word)
    return "".join(parts)


def _unlatex(text: str, states: Sequence[str]) -> str:
    """Turn the LaTeX that `latex` writes into plain arithmetic."""
    if not isinstance(text, str) or len(text) > LONGEST_TEXT or "@" in text:  # which marks the states below
        raise FormulaError(f"not LaTeX that eqdisc writes: {str(text)[:60]!r}.")
    for k, name in sorted(enumerate(states), key=lambda p: -len(_LATEX.name(p[1]))):
        text = re.sub(rf"(?<![A-Za-z\\]){re.escape(_LATEX.name(name))}(?![A-Za-z_])", f"@{k}@", text)
    for pattern, repl in _LATEX_WORDS:
        text = re.sub(pattern, repl, text)
    text = _unfraction(text)
    text = re.sub(r"(\d) e(-?\d)", r"\1e\2", text).replace(r"\sqrt{", "sqrt{").replace("^{", "**{")
    text = text.replace("{", "(").replace("}", ")")
    if "\\" in text:
        raise FormulaError(f"not LaTeX that eqdisc writes: {text[:60]!r}.")
    text = re.sub(r"(?<=[\w)@.]) (?=[\w(@])", "*", text)
    return re.sub(r"@(\d+)@", lambda m: states[int(m[1])], text)
