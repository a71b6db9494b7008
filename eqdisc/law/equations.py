r"""Equations: a law as SymPy expressions, one right-hand side a state, and what can be read off it.

dx_e/dt = rhs_e(x)        fluxes: distinct terms v with stoichiometry N, dx/dt = N v
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import sympy as sp
from jaxtyping import Float

from ..data.sums import choose_independent, null_space, whole_sums, write_sum
from ..work.errors import FormulaError, OptionError
from .formulas import (
    TIME,
    as_number,
    latex_name,
    parse_formula,
    parse_latex,
    symbols_of,
    write_latex,
    write_plain,
    write_readable,
)

if TYPE_CHECKING:
    from .law import Law
    from .terms import Terms

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
    def of(cls, law: Law, names: Sequence[str], inputs: int = 0) -> Equations:
        """Read a law: the symbols of the columns `names` pushed through its units, its coefficients before them.

        The last `inputs` names, which may be t, are inputs: terms contain them, and they have no equation.

        >>> from eqdisc.law.law import Law
        >>> from eqdisc.law.terms import Terms
        >>> print(Equations.of(Law.of(Terms.of([[1 / 3], [1.0]]), [[2.0], [-1.0]]), ("x",)))
        dx/dt = -x + 2·x^(1/3)
        >>> print(Equations.of(Law.of(Terms.of([[1.0]], [[1.0]], [np.log(4.0)]), [[-3.0]]), ("x",)))
        dx/dt = -3·x/(x + 4)
        """
        terms = law.terms.symbols(list(symbols_of(names).values()))
        rhs = [
            sp.Add(*[sp.Mul(as_number(a), term) for a, term in zip(column, terms, strict=True) if a != 0])
            for column in law.coefficients.T[: len(names) - inputs].tolist()
        ]
        own, given = tuple(names[: len(rhs)]), tuple(name for name in names[len(rhs) :] if name != "t")
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

    def rates(self, columns: Mapping[str, Float[np.ndarray, "n"]]) -> Float[np.ndarray, "n e"]:
        """Return the right-hand sides where states and inputs have these values, and t, if it is among them."""
        names = ("t", *self.states, *self.inputs)
        size = len(next(iter(columns.values())))
        values = self._compiled(*(columns.get(name, np.zeros(size)) for name in names))
        return np.stack([np.broadcast_to(v, (size,)) for v in values], -1).astype(float)

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

    def side(self, e: int, words: Sequence[str] = ()) -> Law | None:
        """Return equation e as a law, the inverse of `of`; None where it is no sum of such terms.

        `words` are the last states, no states but numbers that are not known: they are left out, and log K is NaN where K is one.

        >>> side = Equations.parse({"x": "-V*x/(4 + x)", "V": "0"}, ("x", "V")).side(0, ("V",))
        >>> side.terms.inner.tolist(), side.terms.offsets.round(2).tolist(), side.coefficients.tolist()
        ([[1.0]], [1.39], [[-1.0]])
        """
        from .law import Law
        from .terms import Terms

        if self.inputs or not self._spreads:
            return None
        d, side = len(self.states) - len(words), sp.expand(self.rhs[e])
        found = [_split(t, self.symbols, len(words)) for t in (sp.Add.make_args(side) if side != 0 else ())]
        split = [f for f in found if f is not None]
        if len(split) < len(found):
            return None
        a, above, below, log_k = zip(*split, strict=True) if split else ((),) * 4
        table = lambda rows: np.array(rows, float).reshape(-1, d)  # noqa: E731
        return Law.equation(Terms.of(table(above), table(below), np.array(log_k, float)), np.array(a), e)

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
            return tuple(write_sum(c, self.states, "*") for c in self._resting())

    def _resting(self) -> list[np.ndarray]:
        table = (self.terms() or (None, self._stoichiometry()))[1]
        still = np.array([r == 0 for r in self.rhs])  # a state at rest says nothing about the others
        whole = whole_sums(len(self.states), (1, 0, -1, 2, -2))
        whole = sorted(whole, key=lambda c: (np.abs(c).sum(), -np.sign(c).sum()))
        exact = [c for c in null_space(table) if (c != 0).sum() > 1 and np.isfinite(c).all()]

        def rests(c: np.ndarray) -> bool:
            return not (c[still] != 0).any() and not (np.abs(table @ c) > 1e-12 * (np.abs(table) @ np.abs(c))).any()

        return choose_independent([*whole, *exact], rests)

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


def law_of_group(equations: Equations, groups: tuple[str, ...], group: str | None) -> Equations:
    """Return the law of one group, or for None that of their geometric mean, from one whose last inputs tell groups apart."""
    marks = equations.inputs[len(equations.inputs) - (len(groups) - 1) :]
    mean = math.exp(1 / len(groups))
    values = [mean if group is None else math.e if name == group else 1.0 for name in groups[1:]]
    return equations.at(dict(zip(marks, values, strict=True)), digits=4 if group is None else 12)


def write_term(term: Terms, names: Sequence[str]) -> str:
    """Return one term as plain text.

    >>> from eqdisc.law.terms import Terms
    >>> write_term(Terms.of([[0.5, 1.0]]), ("S", "I"))
    'I*sqrt(S)'
    """
    from .law import Law

    return Equations.of(Law.equation(term, np.ones(1), 0), names).strings()[names[0]]


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


_Powers = tuple[float, ...]


def _split(term: sp.Expr, symbols: tuple[sp.Symbol, ...], words: int) -> tuple[float, _Powers, _Powers, float] | None:
    """Return coefficient, powers above, powers below and log K of x**w or x**w / (K + x**u); see `Equations.side`."""
    d = len(symbols) - words
    powers = sp.factor_terms(term).as_powers_dict()
    below = next((base for base in powers if isinstance(base, sp.Add)), None)
    if below is None:
        plain = _monomial(term, symbols)
        return plain and (plain[0], plain[1][:d], (0.0,) * d, 0.0)
    moving, constant = below.as_independent(*symbols[:d])[::-1]
    top = _monomial(sp.Mul(*[base**power for base, power in powers.items() if base != below]), symbols)
    inner = _monomial(moving, symbols)
    if powers[below] != -1 or top is None or inner is None or not any(inner[1][:d]) or constant == 0:
        return None
    unknown = below.free_symbols - set(symbols[:d])
    k = math.nan if unknown else float(constant) / inner[0]
    if k <= 0 or not unknown <= set(symbols[d:]):  # t is no number
        return None
    return top[0] / inner[0], top[1][:d], inner[1][:d], math.log(k)


def _whole(value: float) -> float:
    if not math.isfinite(value):
        return value
    return float(round(value)) if abs(value - round(value)) < 1e-12 * abs(value) else value
