"""Laws of the law itself: what is printed reads back as the same doubles, and nothing hostile is run."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest
import sympy as sp
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from rows import law_of

from eqdisc.data.dataset import symbols_of
from eqdisc.law.equations import Equations
from eqdisc.law.formulas import LONGEST_TEXT, parse_formula
from eqdisc.law.printers import number_text
from eqdisc.work.errors import FormulaError

STATES = ("S", "x_1", "lambda_")
PATIENCE = 2.0  # seconds for any text to be refused or read; it takes a tenth of it on an idle machine

coefficients = st.floats(-1e12, 1e12, allow_subnormal=False).filter(lambda v: v == 0 or abs(v) > 1e-200)
exponents = st.one_of(
    st.sampled_from([0.0, 1.0, 2.0, 3.0, -1.0, -2.0, 0.5, 1.5, -0.5, 1 / 3, 2 / 3, 0.25, 0.75, 1.25]),
    st.floats(-3.0, 3.0).filter(lambda w: abs(w) > 1e-3).map(lambda w: round(w, 9)),
)


@st.composite
def laws(draw: st.DrawFn) -> Equations:
    """Draw a sum of distinct monomials over STATES."""
    m, d = draw(st.integers(1, 4)), len(STATES)
    w = draw(st.lists(st.tuples(*[exponents] * d), min_size=m, max_size=m, unique=True))
    a = draw(st.lists(st.tuples(*[coefficients] * d), min_size=m, max_size=m))
    return Equations.of(law_of(w, a), STATES)


def terms_of(law: Equations) -> tuple[np.ndarray, np.ndarray]:
    """Exponents (m, d) and coefficients (m, d) of a law that has them."""
    found = law.terms()
    assert found is not None
    return found[0], found[1].reshape(-1, len(law.states))


def numbers_of(law: Equations) -> list[dict[tuple[float, ...], float]]:
    """Exponents and coefficients of each equation, as doubles."""
    w, a = (array.tolist() for array in terms_of(law))
    return [{tuple(powers): row[e] for powers, row in zip(w, a, strict=True) if row[e]} for e in range(len(law.states))]


def digits(text: str) -> int:
    """Significant digits of a number's text."""
    return len(text.partition("e")[0].lstrip("-").replace(".", "").strip("0"))


# ---------------------------------------------------------------- writing and reading


@settings(deadline=None, max_examples=60)  # SymPy fills its caches on the first laws
@given(law=laws())
def test_plain_formulas_read_back_as_the_same_doubles(law: Equations) -> None:
    assert numbers_of(Equations.parse(law.strings(), STATES)) == numbers_of(law)


@settings(deadline=None, max_examples=60)  # SymPy fills its caches on the first laws
@given(law=laws())
def test_latex_reads_back_as_the_same_doubles(law: Equations) -> None:
    assert numbers_of(Equations.from_latex(law.latex(), STATES)) == numbers_of(law)


@settings(deadline=None, max_examples=60)  # SymPy fills its caches on the first laws
@given(law=laws())
def test_what_was_read_back_is_written_the_same_again(law: Equations) -> None:
    again = Equations.parse(law.strings(), STATES)
    assert again.strings() == Equations.parse(again.strings(), STATES).strings()
    assert again.latex() == Equations.from_latex(again.latex(), STATES).latex()


@settings(deadline=None, max_examples=60)  # SymPy fills its caches on the first laws
@given(law=laws(), x=st.tuples(*[st.floats(0.1, 10.0)] * 3))
def test_a_law_evaluates_as_the_sum_of_its_monomials(law: Equations, x: tuple[float, ...]) -> None:
    w, a = terms_of(law)
    terms = np.prod(np.array(x) ** w, axis=1)[:, None] * a
    # atol: terms may cancel; what is left is rounding of the largest
    assert_allclose(
        law.function()(0.0, np.array(x)), terms.sum(0), rtol=1e-9, atol=1e-12 * np.abs(terms).sum() + 1e-300
    )


@given(value=st.floats(allow_nan=False, allow_infinity=False))
@example(value=0.1 + 0.2)
@example(value=5e-324)
@example(value=1.7976931348623157e308)
def test_a_number_is_written_as_the_shortest_text_of_its_double(value: float) -> None:
    assert float(number_text(value)) == value
    assert digits(number_text(value)) <= digits(repr(value))


@pytest.mark.parametrize(
    "text",
    [
        "1.2*x/(1 + 0.8*x)",
        "-0.06*sqrt(x*y) + 0.01*y",
        "exp(-0.3*x)*sin(2*y) - log(1 + y)",
        "Max(x - 0.5, 0)*Min(x, y, 3)",
        "Abs(x)**1.7*sign(x)",
        "x**(1/3)*y**(-0.7)",
        "x**x",
        "sqrt(2)*x + exp(1)*y + 2/3",
        "1e-9*x - 3e20*y + 1e300",
        "10**50*x + 123456789123456789*y",
        "cos(t)*x",
        "0",
    ],
)
def test_laws_beyond_monomials_read_back_the_same(text: str) -> None:
    law = Equations.parse({"x": text, "y": "x"}, ("x", "y"))
    assert Equations.parse(law.strings(), law.states) == law
    assert Equations.from_latex(law.latex(), law.states) == law


@pytest.mark.parametrize(
    "names",
    [
        ("x", "x_1", "x_1_2", "xx"),
        ("alpha", "alpha_beta", "a", "b"),
        ("lambda_", "l", "da", "m"),
        ("sqrt_", "frac", "left", "right"),
        ("e", "E", "I", "S"),
        ("mathrm", "m", "cdot", "_"),
        ("maximum", "numpy", "exp10", "array"),
        ("x0", "x1", "x2", "x3"),
        ("pi", "N", "Q", "O"),
    ],
)
def test_any_formula_name_survives_every_notation(names: tuple[str, ...]) -> None:
    a, b, c, d = names
    law = Equations.parse(
        {
            a: f"-2.5*{a}*{b} + sqrt({b}*{c})",
            b: f"{a}**2*{d}**0.7 - {c}",
            c: f"exp({d})*{a}*{b} + Max({a}, 3)",
            d: f"1e-7*{d}",
        },
        names,
    )
    assert Equations.parse(law.strings(), names) == law
    assert Equations.from_latex(law.latex(), names) == law
    x = np.array([2.0, 3.0, 5.0, 0.7])
    expected = [-15 + math.sqrt(15), 4 * 0.7**0.7 - 5, math.exp(0.7) * 6 + 3, 0.7e-7]
    assert_allclose(law.function()(0.0, x), expected, rtol=1e-12)


def test_users_names_are_renamed_to_symbols_that_read_back() -> None:
    names = ["Western Urban", "lambda", "β", "I"]
    renamed = tuple(symbols_of(names).get(n, n) for n in names)
    formulas = {s: f"-0.1*{s} + sqrt(I*{s})" for s in renamed}
    law = Equations.parse(formulas, renamed)
    assert renamed == ("Western_Urban", "lambda_", "beta", "I")
    assert law.latex()["lambda_"] == r"\sqrt{I \lambda} - 0.1 \lambda"
    assert Equations.from_latex(law.latex(), renamed) == law


def test_a_nonzero_coefficient_is_never_written_as_zero() -> None:
    law = Equations.of(law_of([[1.0], [2.0]], [[1e-200], [-3e-7]]), ("x",))
    assert law.strings() == {"x": "-3e-07*x**2 + 1e-200*x"}
    assert law.latex() == {"x": r"1 \cdot 10^{-200} x - 3 \cdot 10^{-7} x^{2}"}
    assert law.readable() == ["dx/dt = 1e-200·x - 3e-7·x^2"]


def test_a_coefficient_of_zero_is_no_term() -> None:
    law = Equations.of(law_of([[1.0, 0.0], [0.5, 0.5]], [[0.0, 2.0], [-1.0, 0.0]]), ("x", "y"))
    assert law.strings() == {"x": "-sqrt(x*y)", "y": "2*x"}


def test_fractions_are_written_as_roots_and_other_powers_in_full() -> None:
    law = Equations.of(law_of([[0.5], [1 / 3], [0.7123456789]], np.ones((3, 1))), ("x",))
    assert {str(t) for t in sp.Add.make_args(law.rhs[0])} >= {"sqrt(x)", "x**(1/3)"}
    assert "x**0.7123456789" in law.strings()["x"]


def test_latex_of_strangers_is_refused() -> None:
    for text in (r"\int x", r"\frac{x}{y}", r"x \times y", r"\write18{rm}"):
        with pytest.raises(FormulaError):
            Equations.from_latex({"x": text}, ("x",))


# ---------------------------------------------------------------- hostile text


def nested(name: str, inner: str, depth: int) -> str:
    return f"{name}(" * depth + inner + ")" * depth


HOSTILE = {
    "nothing": ["", "   ", "#", "\n"],
    "nesting": [nested("", "x", 90) + ")", nested("", "x", 5000), nested("exp", "x", 300), "-" * 5000 + "x"]
    + ["+".join(["x"] * 9000), "x*" * 1500 + "x", "[" * 5000, "x" + "**x" * 400],
    "length": ["x" * (LONGEST_TEXT + 1), "x + " * 6000 + "x", "1" * 25_000],
    "powers": ["9**9**9", "(((9**60)**60)**60)**60", "x**61", "x**-61", "x**1e9", "(x**60)**60", "((x + 1)**60)**60"]
    + ["x**exp(exp(10))", "x**50*x**50", "2**(10**6)", "x**(9**9)"],
    "attributes": ["x.__class__", "x.real", "().__class__.__bases__", "x.__init__.__globals__['os']"],
    "calls": ["__import__('os')", "exec('1')", "eval('x')", "open('f')", "x()", "x(2)", "print(x)", "Lambda(x, x)"]
    + ["sqrt()", "sqrt(x, x)", "exp(x, x)", "log(x, 2)", "sin(x=1)", "Max(*x)", "Max()", "exp(exp)", "(exp)(exp)"],
    "logic": ["True", "False*x", "x < 1", "x and x", "not x", "x if x else 1", "x == x", "None", "..."],
    "syntax": [
        "x x",
        "x;x",
        "import os",
        "x = 1",
        "(x := 1)",
        "lambda: x",
        "[x]",
        "{x}",
        "(x, x)",
        "x[0]",
        "'x'",
        "b'x'",
    ]
    + [
        "f'{x}'",
        "[x for x in x]",
        "x // 2",
        "x % 2",
        "x @ x",
        "~x",
        "x | x",
        "x << 9",
        "await x",
        "yield",
        "x\x00",
        "\\",
    ],
    "infinite": ["1/0", "0/0", "x/0", "0**-1", "1e999", "-1e999*x", "1e308*1e308", "x*1e308*10", "log(0)", "exp(1000)"]
    + ["inf", "nan", "exp(1e30)*x", "Max(1/0, 1)", "1/(sin(1)**2 + cos(1)**2 - 1)"],
    "complex": ["1j", "1j*x", "sqrt(-1)", "(-1)**0.5", "(-8)**(1/3)", "log(-1)", "sqrt(-x**2)", "x**sqrt(-1)"],
    "slow": ["Max(exp(exp(exp(100))), 1)", "sign(sin(exp(exp(100))))", nested("exp", "1", 150)]
    + ["Max(" + ",".join(f"x*{k}" for k in range(300)) + ")", "((10**60)**60)**60*x"],
    "strangers": ["y", "E", "pi", "I", "S", "é", "x1", "_", "zoo", "oo"],
}


@pytest.mark.parametrize("text", [pytest.param(t, id=f"{k}-{i}") for k, v in HOSTILE.items() for i, t in enumerate(v)])
def test_a_hostile_text_is_refused_in_a_sentence_and_at_once(text: str) -> None:
    start = time.perf_counter()
    with pytest.raises(FormulaError) as refused:
        parse_formula(text, ["x"])
    assert time.perf_counter() - start < PATIENCE
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 200


@settings(deadline=None)
@given(text=st.text(alphabet="xy0123456789.e+-*/() ,sqrtMaxlogexpAbssign", max_size=40))
def test_any_text_is_a_formula_or_a_formula_error(text: str) -> None:
    try:
        expr = parse_formula(text, ["x", "y"])
    except FormulaError:
        return
    law = Equations(("x", "y"), (expr, sp.S.Zero))
    assert Equations.parse(law.strings(), law.states).strings() == law.strings()


def test_text_that_is_no_text_is_refused() -> None:
    for value in (None, 3, b"x", ["x"]):
        with pytest.raises(FormulaError, match="a formula is a text"):
            parse_formula(value, ["x"])  # type: ignore[arg-type]


def test_nothing_that_was_read_is_executed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for text in (f"open({str(mark)!r}, 'w')", f"__import__('pathlib').Path({str(mark)!r}).touch()"):
        with pytest.raises(FormulaError):
            parse_formula(text, ["x"])
    assert not mark.exists()


def test_a_law_without_a_formula_or_with_a_stranger_is_refused() -> None:
    with pytest.raises(FormulaError, match="no formula for y"):
        Equations.parse({"x": "x"}, ("x", "y"))
    with pytest.raises(FormulaError, match="uses q, which is no state; the states are x"):
        Equations(("x",), (sp.Symbol("q", real=True),))
    with pytest.raises(FormulaError, match="2 right-hand sides for 1 states"):
        Equations(("x",), (sp.S.One, sp.S.One))


def test_the_limits_leave_room_for_real_laws() -> None:
    text = " + ".join(f"{k + 0.5}*x**{k % 7}*y**0.{k % 9 + 1}" for k in range(100))
    assert Equations.parse({"x": text, "y": "x**60"}, ("x", "y")).parameter_count > 50


# ---------------------------------------------------------------- evaluating


def test_one_point_and_many_points_give_the_same_values() -> None:
    law = Equations.parse({"x": "Max(x, 0.5) - sqrt(y)", "y": "3"}, ("x", "y"))
    x = np.array([[0.1, 4.0], [2.0, 9.0], [0.7, 0.0]])
    f = law.function()
    assert_allclose(f(0.0, x), [f(0.0, row) for row in x])
    assert_allclose(f(0.0, x), [[-1.5, 3.0], [-1.0, 3.0], [0.7, 3.0]])


def test_a_state_under_a_root_is_held_at_zero_and_others_are_not() -> None:
    law = Equations.parse({"x": "-sqrt(x) + y", "y": "y"}, ("x", "y"))
    assert law.rooted == (True, False)
    assert_allclose(law.function()(0.0, np.array([-1e-12, -2.0])), [-2.0, -2.0])


def test_time_may_stand_in_a_law() -> None:
    law = Equations.parse({"x": "cos(t) + x"}, ("x",))
    assert_allclose(law.function()(math.pi, np.array([3.0])), [2.0])


# ---------------------------------------------------------------- structure


def test_shared_terms_are_one_flux_with_its_stoichiometry() -> None:
    law = Equations.parse({"A": "-0.5*A*B", "B": "-0.5*A*B", "C": "1.0*A*B - 0.3*C"}, ("A", "B", "C"))
    found = {str(f.rate): f.stoichiometry for f in law.fluxes()}
    assert found == {"0.5*A*B": {"A": -1.0, "B": -1.0, "C": 2.0}, "0.3*C": {"C": -1.0}}


@settings(deadline=None, max_examples=60)  # SymPy fills its caches on the first laws
@given(law=laws(), x=st.tuples(*[st.floats(0.5, 2.0)] * 3))
@example(
    law=Equations.parse({"S": "264867749344.0 - 535670093095.0*x_1", "x_1": "0", "lambda_": "16*x_1"}, STATES),
    x=(1.0, 0.5, 1.0),
)
def test_the_fluxes_add_up_to_the_law(law: Equations, x: tuple[float, ...]) -> None:
    point = dict(zip(law.symbols, x, strict=True))
    parts = np.zeros((0, 3))
    for flux in law.fluxes():
        assert float(flux.rate.subs(point)) > 0
        row = [float(flux.rate.subs(point)) * flux.stoichiometry.get(s, 0.0) for s in STATES]
        parts = np.vstack([parts, row])
    assert_allclose(
        parts.sum(0), law.function()(0.0, np.array(x)), rtol=1e-9, atol=1e-12 * np.abs(parts).sum() + 1e-300
    )


@pytest.mark.parametrize(
    ("formulas", "sums"),
    [
        ({"S": "-0.3*I*S", "I": "0.3*I*S - 0.1*I", "R": "0.1*I"}, ("S + I + R",)),
        ({"A": "-2*A*B", "B": "-2*A*B", "C": "2*A*B"}, ("A + C", "B + C")),
        ({"A": "-0.2*A**2", "B": "0.1*A**2"}, ("A + 2*B",)),
        ({"x": "y", "y": "-x"}, ()),
        ({"S": "-0.3*I*S", "I": "0.3*I*S - 0.1*I", "R": "0.125*I"}, ("S + I + 0.8*R",)),
        ({"S": "-2.5*S + X", "X": "1.3*S - 0.52*X"}, ("S + 1.92307692308*X",)),
        ({"S": "-2.5*S + X", "X": "1.3*S - 0.5201*X"}, ()),
        ({"x": "exp(y)", "y": "-exp(y)"}, ("x + y",)),
        ({"x": "-2*x*y/(3 + x)", "y": "2*x*y/(3 + x) - y"}, ()),
        ({"x": "-2*x*y/(3 + x)", "y": "4*x*y/(3 + x)"}, ("2*x + y",)),
        ({"x": "-x"}, ()),
    ],
)
def test_conserved_sums_are_those_that_cancel_to_the_last_digit(
    formulas: dict[str, str], sums: tuple[str, ...]
) -> None:
    assert Equations.parse(formulas, tuple(formulas)).invariants() == sums


def test_a_state_that_does_not_change_is_no_obstacle() -> None:
    law = Equations.parse({"x": "-0.1*x*k", "y": "0.1*x*k", "k": "0"}, ("x", "y", "k"))
    assert law.terms() is not None
    assert law.invariants() == ("x + y",)
    assert law.strings()["k"] == law.latex()["k"] == "0"


def test_a_law_of_other_functions_has_no_table_of_terms() -> None:
    for text in ("sin(x)", "x/(1 + x)", "Abs(x)", "x**x", "(1 + x)**60"):
        assert Equations.parse({"x": text}, ("x",)).terms() is None


@settings(deadline=None, max_examples=60)  # SymPy fills its caches on the first laws
@given(law=laws())
def test_terms_build_the_law_again(law: Equations) -> None:
    w, a = terms_of(law)
    assert numbers_of(Equations.of(law_of(w, a), STATES)) == numbers_of(law)


def test_more_terms_are_more_complex_and_whole_numbers_are_no_parameters() -> None:
    small = Equations.parse({"x": "-0.5*x"}, ("x",))
    large = Equations.parse({"x": "-0.5*x + 0.1*x**2"}, ("x",))
    assert small.complexity < large.complexity
    assert (small.parameter_count, large.parameter_count) == (1, 2)
    assert Equations.parse({"x": "2*x**2"}, ("x",)).parameter_count == 0
