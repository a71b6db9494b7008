"""Laws of the catalogue: each entry can be simulated, is what its source says, and is measured as asked."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from eqdisc.equations import Equations
from eqdisc.errors import OptionError
from eqdisc.simulation import simulate
from eqdisc.status import Status
from eqdisc.systems import catalogue, simulate_system
from eqdisc.trajectory import stands

NAMES = tuple(catalogue())
KNOWN = """fsir sir seir lotka_volterra logistic west torricelli two_tanks stefan_boltzmann newton_cooling lorenz roessler
generalized_growth van_der_pol fitzhugh_nagumo brusselator robertson second_order half_order quadratic_drag monod allee
michaelis_menten holling duffing blast_wave solow"""


def test_the_catalogue_holds_the_laws_that_people_ask_for() -> None:
    assert len(NAMES) >= 28
    assert set(KNOWN.split()) <= set(NAMES)


def test_the_catalogue_loads_no_torch() -> None:
    code = "import eqdisc.systems as s, sys; s.catalogue(); assert not {'torch', 'matplotlib'} & set(sys.modules)"
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
    data = simulate_system(name, starts=len(system.x0))
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
def test_states_change_sign_exactly_where_it_is_said(name: str) -> None:
    system = catalogue()[name]
    x = simulate_system(name, starts=len(system.x0), samples=500).stacked()
    # -1e-6 of the largest value: what an integrator may overshoot zero by
    below = {s for s, low, high in zip(system.equations, x.min(0), np.abs(x).max(0), strict=True) if low < -1e-6 * high}
    assert below == set(system.signed)


@pytest.mark.parametrize("name", NAMES)
def test_only_ratios_and_functions_are_no_sums_of_powers(name: str) -> None:
    system = catalogue()[name]
    beyond = "sin" in str(system.equations) or name in {"holling", "michaelis_menten", "monod"}
    assert (system.law.terms() is None) == beyond


def test_the_formulas_hold_the_parameters_by_value() -> None:
    law = Equations.parse(
        {"S": "-0.06*sqrt(I*S) + 0.01*R", "I": "0.06*sqrt(I*S) - 0.05*I", "R": "0.05*I - 0.01*R"}, ("S", "I", "R")
    )
    assert catalogue()["fsir"].law == law


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
        ("second_order", ("A + C", "B + C")), ("consecutive", ("A + B + C",)), ("lorenz", ()),
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
