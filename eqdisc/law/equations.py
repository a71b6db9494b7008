r"""Equations: a law as SymPy expressions, one right-hand side a state, and what can be read off it.

dx_e/dt = rhs_e(x)        fluxes: distinct terms v with stoichiometry N, dx/dt = N v
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import sympy as sp
from jaxtyping import Float

from ..work.errors import FormulaError, OptionError
from .formulas import (
    TIME,
    as_number,
    as_power,
    latex_name,
    parse_formula,
    parse_latex,
    symbols_of,
    write_latex,
    write_plain,
    write_readable,
)

_LONGEST_POWER = 9  # a sum to a higher power is not written out as monomials
_MOST_TERMS = 2000  # nor is what has more terms when it is multiplied out


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
        allowed = {*symbols_of((*self.states, *self.inputs)).values(), TIME}
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
        sides = (parse_latex(formulas[s], names) for s in states)
        return cls(tuple(states), tuple(sides), tuple(inputs))

    # ---------------------------------------------------------------- writing

    def strings(self) -> dict[str, str]:
        """Return each right-hand side as plain arithmetic."""
        return {s: write_plain(r) for s, r in zip(self.states, self.rhs, strict=True)}

    def latex(self) -> dict[str, str]:
        """Return each right-hand side in LaTeX."""
        return {s: write_latex(r) for s, r in zip(self.states, self.rhs, strict=True)}

    def readable(self) -> list[str]:
        """Return one line of plain text for each equation."""
        return [f"d{s}/dt = {write_readable(r)}" for s, r in zip(self.states, self.rhs, strict=True)]

    def __str__(self) -> str:
        return "\n".join(self.readable())

    def _repr_latex_(self) -> str:
        lines = [rf"\frac{{d {latex_name(s)}}}{{dt}} &= {r}" for s, r in self.latex().items()]
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
            [TIME, *self.symbols, *self.input_symbols], list(self.rhs), modules="numpy", cse=True, dummify=True
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
            now = np.float64(t)  # Python's own numbers raise where these are infinite
            if x.ndim == 1:
                return np.array(compiled(now, *x, *u), float)
            values = compiled(now, *np.moveaxis(x, -1, 0), *u)
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
                number, rest = term.as_independent(*self.symbols, *self.input_symbols, TIME, as_Add=False)
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
        return not any(r.free_symbols & {*self.input_symbols, TIME} for r in self.rhs)

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


def write_term(row: Float[np.ndarray, "c"], states: Sequence[str]) -> str:
    """Return one row of exponents as plain text.

    >>> write_term(np.array([0.5, 1.0]), ("S", "I"))
    'I*sqrt(S)'
    """
    unit = np.eye(1, len(states))
    return Equations.from_terms(states, np.asarray(row, float)[None], unit).strings()[states[0]]


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
