"""Laws of the catalogue: each entry can be simulated, is what its source says, and is measured as asked."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from eqdisc.data.dataset import Dataset, stands
from eqdisc.law.catalogue import System, catalogue, simulate_system
from eqdisc.law.equations import Equations
from eqdisc.law.simulation import simulate
from eqdisc.work.errors import OptionError
from eqdisc.work.status import Status

NAMES = tuple(catalogue())
KNOWN = """fsir sir seir lotka_volterra logistic west torricelli two_tanks stefan_boltzmann newton_cooling lorenz roessler
generalized_growth van_der_pol fitzhugh_nagumo brusselator robertson second_order half_order quadratic_drag monod allee
michaelis_menten holling duffing blast_wave solow"""
RATIOS = """holling beddington_deangelis plankton hastings_powell budworm monod haldane hydrogen_bromide lengyel_epstein
michaelis_menten reversible_enzyme toggle_switch"""
FUNCTIONS = "pendulum drag_spring kuramoto gompertz thermal_explosion"


@cache
def measured(name: str) -> Dataset:
    """A system from each of its starts, without noise."""
    return simulate_system(name, starts=len(catalogue()[name].x0))


def rates(name: str, state: tuple[float, ...]) -> np.ndarray:
    return catalogue()[name].law.function()(0.0, np.array(state, float))


def test_the_catalogue_holds_the_laws_that_people_ask_for() -> None:
    assert len(NAMES) >= 70
    assert set(KNOWN.split()) <= set(NAMES)


def test_the_catalogue_loads_no_torch() -> None:
    code = "import eqdisc.law.catalogue as s, sys; s.catalogue(); assert not {'torch', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_is_complete(name: str) -> None:
    system = catalogue()[name]
    assert system.name == name
    assert system.title
    assert any(c.isdigit() for c in system.source) or "ch." in system.source, "a source can be looked up"
    assert system.span > 0
    assert system.samples >= 20
    assert len(system.x0) >= 2
    assert len(set(system.x0)) == len(system.x0)
    assert {len(x0) for x0 in system.x0} == {len(system.equations)}
    assert all(stands(s) for s in (*system.equations, *system.parameters))
    assert not set(system.equations) & set(system.parameters)
    assert set(system.signed) <= set(system.equations)
    used = " ".join(system.equations.values())
    assert all(p in used for p in system.parameters), "no parameter is left over"


@pytest.mark.parametrize("name", NAMES)
def test_a_system_can_be_simulated_from_each_start(name: str) -> None:
    system = catalogue()[name]
    data = measured(name)
    assert len(data) == len(system.x0)
    assert data.states == tuple(system.equations)
    assert (data.time, data.file) == ("t", name)
    for k, x0 in zip(data.trajectories, system.x0, strict=True):
        assert np.isfinite(k.x).all()
        assert_array_equal(k.x[0], x0)
        assert k.t[0] == 0.0
        assert k.t[-1] == system.span
        assert len(k) == system.samples
        assert (k.x.std(0) > 0).all(), "each state moves"


@pytest.mark.parametrize("name", NAMES)
def test_a_system_is_still_on_its_way_after_a_fifth_of_its_span(name: str) -> None:
    def longest(x: np.ndarray) -> float:  # until when a state is a twentieth of its range away from its end
        away = np.abs(x - x[-1]) > 0.05 * np.ptp(x, 0)
        return np.flatnonzero(away.any(1))[-1] / len(x)

    assert max(longest(k.x) for k in measured(name).trajectories) > 0.2


@pytest.mark.parametrize("name", NAMES)
def test_states_change_sign_exactly_where_it_is_said(name: str) -> None:
    system = catalogue()[name]
    x = measured(name).stacked()
    # -1e-6 of the largest value: what an integrator may overshoot zero by
    below = {s for s, low, high in zip(system.equations, x.min(0), np.abs(x).max(0), strict=True) if low < -1e-6 * high}
    assert below == set(system.signed)


@pytest.mark.parametrize("name", NAMES)
def test_only_ratios_and_functions_are_no_sums_of_powers(name: str) -> None:
    system = catalogue()[name]
    assert (system.law.terms() is None) == (name in f"{RATIOS} {FUNCTIONS}".split())
    assert system.transcendental == any(f in str(system.equations) for f in ("sin(", "exp(", "log("))


def test_the_formulas_hold_the_parameters_by_value() -> None:
    law = Equations.parse(
        {"S": "-0.06*sqrt(I*S) + 0.01*R", "I": "0.06*sqrt(I*S) - 0.05*I", "R": "0.05*I - 0.01*R"}, ("S", "I", "R")
    )
    assert catalogue()["fsir"].law == law


# ---------------------------------------------------------------- units


def unit(text: str) -> dict[str, float]:
    """Read "mol^0.5/(L^0.5*min)" as powers of its words; anything but words, *, / and powers is no unit."""

    def read(node: ast.expr) -> dict[str, float]:
        match node:
            case ast.Name(word):
                return {word: 1.0}
            case ast.Constant(1):
                return {}
            case ast.BinOp(left, ast.Pow(), power):
                p = float(eval(ast.unparse(power), {}))  # a number, or a ratio of two
                return {word: p * q for word, q in read(left).items()}
            case ast.BinOp(left, ast.Mult() | ast.Div() as op, right):
                a, b, sign = read(left), read(right), 1 if isinstance(op, ast.Mult) else -1
                return {word: a.get(word, 0.0) + sign * b.get(word, 0.0) for word in {*a, *b}}
        raise AssertionError(f"{text!r} is no unit")

    return read(ast.parse(text.replace("^", "**") or "1", mode="eval").body)


def differences(system: System, words: list[str]) -> np.ndarray:
    """What has to be a plain number for all sums to add like to like: rows of powers of the states, then of the words."""
    names = list(system.equations)
    size, rows = len(names) + len(words), []

    def known(text: str) -> np.ndarray:
        powers = unit(text)
        return np.array([0.0] * len(names) + [powers.get(w, 0.0) for w in words])

    def walk(node: ast.expr) -> np.ndarray:
        match node:
            case ast.Constant():
                return np.zeros(size)
            case ast.Name(name):
                return np.eye(size)[names.index(name)] if name in names else known(system.units[name])
            case ast.UnaryOp(_, inner) | ast.Call(ast.Name("Abs"), [inner]):
                return walk(inner)
            case ast.Call(ast.Name("sqrt"), [inner]):
                return walk(inner) / 2
            case ast.Call(_, [inner]):
                rows.append(walk(inner))
                return np.zeros(size)
            case ast.BinOp(left, ast.Pow(), power):
                rows.append(walk(power))
                return walk(left) * eval(ast.unparse(power), {}, dict(system.parameters))
            case ast.BinOp(left, ast.Mult(), right):
                return walk(left) + walk(right)
            case ast.BinOp(left, ast.Div(), right):
                return walk(left) - walk(right)
            case ast.BinOp(left, _, right):
                rows.append(walk(left) - walk(right))
                return walk(left)
        raise AssertionError(ast.dump(node))

    for name, text in system.equations.items():
        rows.append(walk(ast.parse(text, mode="eval").body) + known(system.time_unit) - np.eye(size)[names.index(name)])
    return np.array(rows)


def fits(system: System) -> bool:
    """Tell whether the states have units, whole powers of the words, with which all sums add like to like."""
    words = sorted({w for text in (*system.units.values(), system.time_unit) for w in unit(text)})
    rows, d = differences(system, words), len(system.equations)
    found = np.linalg.lstsq(rows[:, :d], -rows[:, d:], rcond=None)[0]
    told = np.isclose(np.diag(np.linalg.pinv(rows[:, :d]) @ rows[:, :d]), 1)  # the law may leave a state's unit open
    return np.allclose(rows[:, :d] @ found, -rows[:, d:]) and np.allclose(found[told], found[told].round())


@pytest.mark.parametrize("name", NAMES)
def test_the_units_fit_the_law(name: str) -> None:
    system = catalogue()[name]
    assert list(system.units) == list(system.parameters)
    assert fits(system)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("bertalanffy", {"a": "kg^0.25/year"}),
        ("generalized_growth", {"r": "case/day"}),
        ("monod", {"K": "1/h"}),
        ("duffing", {"a": "1/s"}),
    ],
)
def test_a_unit_that_does_not_fit_is_seen(name: str, wrong: dict[str, str]) -> None:
    system = catalogue()[name]
    assert not fits(replace(system, units={**system.units, **wrong}))


@pytest.mark.parametrize("text", ["per day", "2*m", "m+s", "log(m)", "1/(m", "m**s"])
def test_what_is_no_unit_is_not_read_as_one(text: str) -> None:
    with pytest.raises((AssertionError, SyntaxError, NameError)):
        unit(text)


# ---------------------------------------------------------------- what the literature says


def end_of(name: str, span: float, start: int = 0, samples: int = 4001) -> np.ndarray:
    """Last samples of a long run, as many as the last tenth of it."""
    system = catalogue()[name]
    run = simulate(system.law, np.array(system.x0[start]), np.linspace(0.0, span, samples), rtol=1e-10)
    assert run.status is Status.OK
    return run.x[-samples // 10 :]


def test_fsir_is_the_experiment_of_the_paper() -> None:
    system = catalogue()["fsir"]
    assert (system.x0[0], system.span, system.samples) == ((100.0, 0.01, 0.0), 200.0, 40)
    data = simulate_system("fsir")
    assert data.states == ("S", "I", "R")
    assert_allclose(data.stacked().sum(1), 100.01, rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "sums"),
    [
        ("fsir", ("S + I + R",)), ("sir", ("S + I + R",)), ("seir", ("S + E + I + R",)), ("robertson", ("A + B + C",)),
        ("second_order", ("A + C", "B + C")), ("consecutive", ("A + B + C",)), ("lorenz", ()), ("freundlich", ("q + c",)),
        ("dissolution", ("m + 2*c",)),
    ],
)  # fmt: skip
def test_closed_systems_conserve_their_sums(name: str, sums: tuple[str, ...]) -> None:
    assert catalogue()[name].law.invariants() == sums


def test_lotka_and_volterra_have_a_constant_of_motion() -> None:
    p = catalogue()["lotka_volterra"].parameters
    x, y = simulate_system("lotka_volterra").stacked().T
    v = p["d"] * x - p["c"] * np.log(x) + p["b"] * y - p["a"] * np.log(y)
    assert_allclose(v, v[0], rtol=1e-6)


def test_an_epidemic_ends_at_the_final_size() -> None:
    p, (s0, i0, _) = catalogue()["sir"].parameters, catalogue()["sir"].x0[0]
    s_end = end_of("sir", 2000.0)[-1, 0]
    assert np.log(s0 / s_end) == pytest.approx(p["b"] / p["g"] * (s0 + i0 - s_end), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "span", "rest"),
    [
        ("logistic", 60, 10.0), ("allee", 40, 6.0), ("newton_cooling", 400, 20.0), ("west", 800, 3.0**4), ("bertalanffy", 150, 4.0**3),
        ("stefan_boltzmann", 20, 3.0), ("quadratic_drag", 20, (9.81 / 0.2) ** 0.5), ("solow", 500, (0.3 / 0.08) ** (1 / 0.65)),
        ("overland_flow", 150, (0.5 / 0.02) ** 0.6), ("generalized_richards", 300, 5000.0), ("gompertz", 250, 2000.0),
    ],
)  # fmt: skip
def test_a_law_with_a_resting_point_comes_to_rest_there(name: str, span: float, rest: float) -> None:
    for start in (0, 1):
        assert end_of(name, span, start)[-1, 0] == pytest.approx(rest, rel=1e-4)


def test_two_tanks_rest_where_outflow_is_inflow() -> None:
    assert end_of("two_tanks", 300)[-1] == pytest.approx([(0.5 / 0.4) ** 2, (0.5 / 0.3) ** 2], rel=1e-4)


def test_a_blast_wave_grows_as_time_to_the_two_fifths() -> None:
    system = catalogue()["blast_wave"]
    t = np.linspace(0.0, system.span, system.samples)
    r0, c = system.x0[0][0], system.parameters["c"]
    assert_allclose(simulate_system("blast_wave").stacked()[:, 0], (r0**2.5 + 2.5 * c * t) ** 0.4, rtol=1e-6)


def test_the_van_der_pol_oscillator_swings_to_two() -> None:
    assert np.abs(end_of("van_der_pol", 200)[:, 0]).max() == pytest.approx(2.0, abs=0.03)


def test_the_brusselator_oscillates_beyond_one_plus_a_squared() -> None:
    p = catalogue()["brusselator"].parameters
    assert p["b"] > 1 + p["a"] ** 2
    assert np.ptp(end_of("brusselator", 200)[:, 0]) > 1.0


def test_lorenz_visits_both_wings_and_stays_bounded() -> None:
    x = end_of("lorenz", 60, samples=6001)
    assert np.abs(x).max() < 60
    x = simulate_system("lorenz", samples=4000).stacked()[:, 0]
    assert x.min() < -5 < 5 < x.max()


def test_chaos_and_friction_lose_volume_at_the_rate_of_their_source() -> None:
    p = catalogue()["lorenz"].parameters
    f, x, h = catalogue()["lorenz"].law.function(), np.array([1.0, 2.0, 20.0]), 1e-5
    divergence = sum((f(0, x + h * e) - f(0, x - h * e))[i] / (2 * h) for i, e in enumerate(np.eye(3)))
    assert divergence == pytest.approx(-(p["s"] + 1 + p["b"]), rel=1e-6)


def test_robertson_is_where_the_references_put_it() -> None:
    # Hairer & Wanner, Solving ODEs II (1996): the values at t = 40
    assert simulate_system("robertson").stacked()[-1] == pytest.approx([0.7158, 9.185e-6, 0.2842], rel=1e-3)


# rates worked out by hand, at a state that makes them round
BY_HAND = [
    ("sir_demography", (0.5, 0.01), (0.02 - 0.65 - 0.01, 0.65 - 0.26 - 0.0002)),
    ("generalized_richards", (5000 * 2 ** (-1 / 0.6),), (0.6 * 5000**0.8 * 2 ** (-4 / 3) / 2,)),
    ("hassell_varley", (20, 2**20), (6 - 1228.8, 368.64 - 2**18)),  # 2**20 to the 0.45 is 512
    ("beddington_deangelis", (4, 10), (2.4 - 9, -4 + 4.5)),
    ("plankton", (5.7, 2), (1.71 * (1 - 5.7 / 108) - 0.7, 0.035 - 0.024)),  # at P = a grazing is half of its most
    ("hastings_powell", (1, 0.5, 8), (-0.625, 0.625 - 0.2 - 0.2, 0.2 - 0.08)),
    ("gilpin_ayala", (1300, 800), (-840, -526.5)),
    ("gilpin_ayala", (1300 / 2**20, 0), (1.5 * 1300 / 2**20 * (1 - 1 / 128), 0)),
    ("gilpin_ayala", (0, 800 / 2**25), (0, 4.5 * 800 / 2**25 * (1 - 1 / 8))),
    ("may_leonard", (1, 2, 3), (-5.5, -9.4, -16.2)),
    ("budworm", (3,), (1.05 - 0.9,)),
    ("haldane", (1, 2), (1.2 / 3.5 - 0.15, 0.6 - 2.4 / 3.5)),
    ("overland_flow", (8,), (0.5 - 0.64,)),
    ("drag_spring", (1, 2), (2, -4 - 1.2)),
    ("drag_spring", (1, -2), (-2, -4 + 1.2)),
    ("landau_stuart", (1, 2), (0.4 - 4 - 2.5, 2 + 0.8 - 5)),
    ("kuramoto", (1, 1 + np.pi / 2), (1.5, 1.8)),
    ("sprott_b", (2, 3, 4), (12, -1, -5)),
    ("hydrogen_bromide", (2, 4, 10), (-1.28, -1.28, 2.56)),
    ("propane", (1024, 1), (-0.1, -0.5)),
    ("propane", (1, 2**20), (-0.05 * 2**33, -0.25 * 2**33)),
    ("dissolution", (8, 1), (-0.6, 0.3)),
    ("freundlich", (5, 1), (6, -6)),
    ("freundlich", (0, 2**50), (8 * 2**21, -8 * 2**21)),
    ("thermal_explosion", (1e-6, 800), (-1e4 * np.exp(-10), 6e5 * np.exp(-10) - 100)),
    ("oregonator", (0.5, 2, 0.25), (-0.7484 / 0.04, -0.7516 / 0.0004, 0.25)),
    ("lengyel_epstein", (1, 3), (3, -1)),
    ("reversible_enzyme", (1.5, 3), (-0.8 / 3, 0.8 / 3)),
    ("selkov", (2, 3), (10.24, 0.6 - 12.24)),
    ("toggle_switch", (4, 4), (156.25 / 33 - 4, 3.12 - 4)),
    ("s_system", (4, 16, 1024, 32), (12 / 256 - 20, 16 - 24, 24 - 320, 4 - 96)),
    ("five_genes", (1, 2, 3, 1, 2), (-2.5, -30, -40, 26, -30)),
    ("two_capitals", (2, 2), (0.25 * 2**0.59 - 0.12, 0.15 * 2**0.59 - 0.12)),
]
# solutions in closed form, as functions of time and start
IN_CLOSED_FORM: dict[str, Callable] = {
    "doomsday": lambda t, n: 179 / ((179 / n) ** (1 / 0.99) - t) ** 0.99,  # N = K / (end - t)**p
    "gompertz": lambda t, v: 2000 * np.exp(np.log(v / 2000) * np.exp(-0.08 * t)),
    "film_drainage": lambda t, h: np.sqrt(0.1e6 / (9810 * (t + 0.1e6 / (9810 * h**2)))),  # h = sqrt(nu z / (g t))
    "droplet": lambda t, d: np.sqrt(d**2 - 0.8 * t),
    "dulong_petit": lambda t, y: (y**-0.233 + 0.00233 * t) ** (-1 / 0.233),
    "aftershocks": lambda t, n: (n ** (-1 / 1.1) + 0.0142 / 1.1 * t) ** -1.1,  # Omori: K / (t + c)**p
    "chirp": lambda t, f: (f ** (-8 / 3) - 8 / 3 * 7.7e-7 * t) ** (-3 / 8),
}  # fmt: skip


def test_each_law_by_hand_or_in_closed_form_is_there() -> None:
    assert {name for name, _, _ in BY_HAND} | set(IN_CLOSED_FORM) <= set(NAMES)


@pytest.mark.parametrize(("name", "state", "by_hand"), BY_HAND)
def test_a_law_says_what_is_worked_out_by_hand(name: str, state: tuple[float, ...], by_hand: tuple[float, ...]) -> None:
    assert_allclose(rates(name, state), by_hand, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", IN_CLOSED_FORM)
def test_a_law_runs_along_its_closed_form(name: str) -> None:
    for k in measured(name).trajectories:
        assert_allclose(k.x[:, 0], IN_CLOSED_FORM[name](k.t, k.x[0, 0]), rtol=1e-6)


def test_particles_coagulate_as_smoluchowski_says() -> None:
    for k in measured("coagulation").trajectories:
        (n, n1, n2), tau = k.x[0], 0.006 * k.x[0, 0] * k.t
        all_, one = n / (1 + tau), n1 / (1 + tau) ** 2
        two = (n2 + n1**2 / n * tau / (1 + tau)) / (1 + tau) ** 2
        assert_allclose(k.x, np.stack([all_, one, two], 1), rtol=1e-6)


def test_a_drug_leaves_blood_in_two_exponentials() -> None:
    k = measured("two_compartments").trajectories[0]
    fast, slow = (
        (1.05 + np.sqrt(1.05**2 - 0.3)) / 2,
        (1.05 - np.sqrt(1.05**2 - 0.3)) / 2,
    )  # k + a + b = 1.05, k b = 0.075
    e, f = np.exp(-fast * k.t), np.exp(-slow * k.t)
    blood, tissue = 100 * ((fast - 0.25) * e + (0.25 - slow) * f) / (fast - slow), 50 * (f - e) / (fast - slow)
    assert_allclose(k.x, np.stack([blood, tissue], 1), rtol=1e-6, atol=1e-6)


def test_an_oscillation_that_sets_in_turns_evenly_and_grows_as_a_logistic() -> None:
    for k in measured("landau_stuart").trajectories:
        z = k.x[:, 0] + 1j * k.x[:, 1]
        size = 0.8 / (1 + (0.8 / np.abs(z[0]) ** 2 - 1) * np.exp(-0.8 * k.t))  # of |z|**2, at rest at m / b
        assert_allclose(z, np.sqrt(size) * np.exp(1j * (np.angle(z[0]) + 2 * k.t)), rtol=1e-6)


def test_two_oscillators_keep_their_mean_pace() -> None:
    for k in measured("kuramoto").trajectories:
        assert_allclose(k.x.sum(1), k.x[0].sum() + 3.3 * k.t, rtol=1e-8)


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("sir_demography", (26.02 / 130, 0.02 / 26.02 - 0.02 / 130)), ("may_leonard", (1 / 3.1,) * 3), ("budworm", (2.0,)),
        ("plankton", (5.7 * np.sqrt(0.012 / 0.023), 0.3 * (1 - 5.7 * np.sqrt(0.012 / 0.023) / 108) * 5.7 * np.sqrt(0.012 / 0.023) * 0.05 / 0.012)),
        ("oregonator", ((r := (-8e-4 + np.sqrt(64e-8 + 64e-4)) / 2), r / (r + 8e-4), r)), ("sprott_b", (1, 1, 0)), ("sprott_b", (-1, -1, 0)),
        ("lengyel_epstein", (2, 5)), ("selkov", (0.6, 0.6 / 0.44)), ("drag_spring", (0, 0)), ("landau_stuart", (0, 0)),
        ("five_genes", ((0.5 / 0.8 ** (1 / 3)) ** 0.5,) * 2 + (1.0,) + (0.8 ** (1 / 3),) * 2),
    ],
)  # fmt: skip
def test_a_law_rests_where_its_equations_are_solved(name: str, rest: tuple[float, ...]) -> None:
    assert_allclose(rates(name, rest), 0, atol=1e-9)


def test_budworms_die_back_or_break_out_around_two() -> None:
    assert [end_of("budworm", 100, k)[-1, 0] for k in (0, 1)] == pytest.approx([4 + 11**0.5, 4 - 11**0.5], rel=1e-6)


def test_two_capitals_rest_where_their_paper_says() -> None:
    s, r, a, b, d = 0.25, 0.15, 0.31, 0.28, 0.06
    k, h = (s ** (1 - b) * r**b / d) ** (1 / (1 - a - b)), (s**a * r ** (1 - a) / d) ** (1 / (1 - a - b))
    assert end_of("two_capitals", 600)[-1] == pytest.approx([k, h], rel=1e-4)


def test_an_enzyme_comes_to_rest_at_haldanes_ratio() -> None:
    assert end_of("reversible_enzyme", 200)[-1] == pytest.approx([8 / 7, 48 / 7], rel=1e-6)


def test_three_competitors_turn_around_a_rest_that_repels() -> None:
    f, rest, h = catalogue()["may_leonard"].law.function(), np.full(3, 1 / 3.1), 1e-6
    jacobian = np.stack([(f(0, rest + h * e) - f(0, rest - h * e)) / (2 * h) for e in np.eye(3)], 1)
    wave = (-1 + 2.1 / 2 + 1j * np.sqrt(3) / 2 * 0.5) / 3.1  # a + b = 2.1, b - a = 0.5
    values = sorted(np.linalg.eigvals(jacobian), key=lambda v: v.imag)
    assert_allclose(values, [wave.conjugate(), -1, wave], rtol=1e-6)


def test_a_spring_with_drag_loses_energy_to_the_drag_alone() -> None:
    # between turning points v**2 = A exp(2 c x) + a line in x: each swing ends where (1 + 2 c x) exp(-2 c x) is what it was
    x, v = simulate_system("drag_spring", samples=4001).stacked().T
    down = slice(0, np.flatnonzero(v[1:] > 0)[0] + 1)
    law = np.exp(-0.6 * x[down]) * (v[down] ** 2 - 4 / 0.3 * (x[down] + 1 / 0.6))
    assert_allclose(law, law[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "state"), [("selkov", 0), ("lengyel_epstein", 0), ("oregonator", 0), ("hastings_powell", 0)]
)
def test_an_oscillator_keeps_swinging(name: str, state: int) -> None:
    x = measured(name).trajectories[0].x[:, state]
    assert np.ptp(x[len(x) // 2 :]) > 0.3 * np.ptp(x)


def test_a_rotor_in_a_polymer_solution_follows_its_closed_form() -> None:
    t = np.linspace(0, 7, 50)
    assert_allclose(
        measured("shear_thinning").trajectories[0].x[:, 0], (20**0.456 - 0.456 * 0.6 * t) ** (1 / 0.456), rtol=1e-7
    )


def test_a_city_follows_its_closed_form() -> None:
    t = np.linspace(0, 100, 51)
    wanted = (1 + (50**-0.15 - 1) * np.exp(0.15 * 0.01 * t)) ** (-1 / 0.15)
    assert_allclose(measured("city_growth").trajectories[0].x[:, 0], wanted, rtol=1e-7)


# ---------------------------------------------------------------- measuring


def test_noise_is_a_share_of_each_states_standard_deviation() -> None:
    clean, noisy = (simulate_system("fsir", samples=4000, noise=s, seed=3).stacked() for s in (0.0, 0.05))
    # 4000 samples tell a standard deviation to about 1 %
    assert_allclose((noisy - clean).std(0), 0.05 * clean.std(0), rtol=0.05)


def test_a_seed_names_one_noise() -> None:
    a, b, c = (simulate_system("sir", noise=0.1, seed=s, starts=2) for s in (1, 1, 2))
    assert_array_equal(a.stacked(), b.stacked())
    assert (a.stacked() != c.stacked()).all()


def test_samples_and_starts_are_as_asked() -> None:
    assert simulate_system("logistic", samples=7).sizes == (7,)
    assert simulate_system("logistic", samples=7, starts=2).sizes == (7, 7)
    assert simulate_system("logistic").sizes == (catalogue()["logistic"].samples,)


def test_a_name_that_is_not_there_teaches() -> None:
    with pytest.raises(OptionError, match=r"the catalogue has no 'lotka_voltera'. Did you mean 'lotka_volterra'\?"):
        simulate_system("lotka_voltera")


@pytest.mark.parametrize(
    "options", [{"samples": 1}, {"samples": 0}, {"starts": 0}, {"starts": 99}, {"noise": -0.1}, {"noise": float("nan")}]
)
def test_options_that_make_no_table_are_refused(options: dict) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        simulate_system("logistic", **options)
