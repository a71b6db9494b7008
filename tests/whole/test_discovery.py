"""The whole road on small tables: the law, its transformations, what is unseen, what stops."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.integrate import solve_ivp

from eqdisc import Discovery, discover
from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.law.catalogue import simulate_system
from eqdisc.law.equations import Equations
from eqdisc.law.extraction import disagreement
from eqdisc.law.simulation import simulate
from eqdisc.search.joint import JointSearch
from eqdisc.search.problem import Problem
from eqdisc.search.rounds import linear_laws
from eqdisc.work.config import FitConfig
from eqdisc.work.errors import DataError, OptionError, SpeedWarning
from eqdisc.work.journal import Journal

FSIR = Path(__file__).parents[2] / "data" / "fsir.csv"


def west(noise: float = 0.0, seed: int = 0, start: float = 0.05) -> pd.DataFrame:
    """m' = 1.2 m**0.75 - 1.2 m in closed form."""
    t = np.linspace(0, 10, 60)
    m = (1 - (1 - start**0.25) * np.exp(-0.3 * t)) ** 4
    return pd.DataFrame({"t": t, "m": m + noise * m.std() * np.random.default_rng(seed).normal(size=60)})


@pytest.fixture(scope="module")
def fsir() -> Discovery:
    return discover(FSIR)


def test_the_fractional_epidemic_is_found_exactly(fsir: Discovery) -> None:
    want = Equations.parse(
        {"S": "-0.06*sqrt(I*S) + 0.01*R", "I": "0.06*sqrt(I*S) - 0.05*I", "R": "0.05*I - 0.01*R"}, ("S", "I", "R")
    )
    exponents, coefficients = fsir.equations.terms()
    truth = dict(zip(map(tuple, want.terms()[0]), want.terms()[1], strict=True))
    assert set(map(tuple, exponents)) == set(truth)
    for row, values in zip(exponents, coefficients, strict=True):
        assert_allclose(values, truth[tuple(row)], rtol=1e-3)
    assert fsir.verdict == "identified"


def test_the_front_jumps_at_the_true_size(fsir: Discovery) -> None:
    pick = fsir.front[fsir.selected]
    simpler = [e.train for e in fsir.front if e.complexity < pick.complexity]
    assert min(simpler) > 100 * pick.train
    assert "np." not in repr(fsir.front)


def test_errors_belong_to_the_equations_as_printed(fsir: Discovery) -> None:
    result = fsir.result()
    law = Equations.parse(result["equations"], tuple(result["states"]))
    table = pd.read_csv(FSIR)
    run = simulate(law, np.array(list(result["initial"][0]["x0"].values())), table["t"].to_numpy())
    sigma = np.array([result["sigma"][s] for s in result["states"]])
    rms = np.sqrt((((table[result["states"]].to_numpy() - run.x) / sigma) ** 2).mean())
    assert_allclose(rms, result["errors"]["train"], rtol=1e-3)  # both integrate to 1e-8 of the state, 4e-4 of sigma


def test_the_kept_chain_is_the_printed_law(fsir: Discovery) -> None:
    x = pd.read_csv(FSIR)[["S", "I", "R"]].to_numpy()
    gap = disagreement(fsir.equations, fsir.chain, ("S", "I", "R"), x[1:])
    assert gap < 1e-4  # rounding to the digits that the data support


def test_the_symbols_are_the_chain_that_was_fitted(fsir: Discovery) -> None:
    assert 0.0 <= fsir.result()["extraction"] < 1e-9


def test_the_chain_integrated_is_the_collocated_solution(fsir: Discovery) -> None:
    from eqdisc.fit.integration import Solver, integrate

    table = pd.read_csv(FSIR)
    start = torch.tensor([[list(fsir.initial[0]["x0"].values())]], dtype=torch.float64)
    t = torch.tensor(table["t"].tolist(), dtype=torch.float64)[None]
    run = integrate(fsir.chain, start.clamp_min(0.0), t, Solver(rtol=1e-9, atol=1e-9))
    assert_allclose(run.x[0, 0].detach(), table[["S", "I", "R"]], atol=1e-4)


@pytest.mark.parametrize(("state_unit", "time_unit"), [(1e3, 1e-3), (1e-3, 40.0)])
def test_other_units_give_the_same_law_transformed(state_unit: float, time_unit: float) -> None:
    table = west()
    found = discover(pd.DataFrame({"seconds": table["t"] * time_unit, "mass": table["m"] * state_unit}))
    exponents, coefficients = found.equations.terms()
    order = np.argsort(exponents[:, 0])
    assert_allclose(exponents[order, 0], [0.75, 1.0])
    want = np.array([1.2 * state_unit**0.25, -1.2]) / time_unit
    assert_allclose(coefficients[order, 0], want, rtol=1e-3)


def test_what_was_held_out_was_not_seen() -> None:
    found = discover(west(noise=0.005), FitConfig(held_out=0.25))
    pick = found.front[found.selected]
    assert pick.unseen is not None
    assert found.errors["later"] == pytest.approx(pick.unseen)


def test_unseen_starts_are_simulated_and_not_fitted() -> None:
    found = discover(west(), validate=west(start=0.5))
    assert found.errors["new_start"] < 3.0
    assert len(found.initial) == 1


def test_gaps_leave_the_law() -> None:
    table = west()
    table.loc[10:30:3, "m"] = np.nan
    assert_allclose(sorted(discover(table).equations.terms()[0].ravel()), [0.75, 1.0])


def test_a_state_that_nearly_vanishes_is_followed_on_a_finer_mesh() -> None:
    law = Equations.parse({"x": "3/y**2 - sqrt(x)*y", "y": "sqrt(x)*y - sqrt(y)"}, ("x", "y"))
    t = np.linspace(0, 10, 60)
    runs = [simulate(law, np.array(start), t, rtol=1e-10) for start in ((3.0, 1.0), (6.0, 3.0))]
    rows = [pd.DataFrame({"trajectory": k, "t": t, "x": r.x[:, 0], "y": r.x[:, 1]}) for k, r in enumerate(runs)]
    found = discover(pd.concat(rows))
    assert {"x", "y"} == set(found.equations.states)
    assert all(np.isfinite(e.description_length) for e in found.front)


@pytest.mark.parametrize("seed", [2, 7])
def test_pure_noise_is_not_claimed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {"t": np.arange(40.0), "x": 5 * (seed % 2) + rng.normal(size=40), "y": 3 + rng.normal(size=40)}
    )
    found = discover(table)
    assert found.verdict == "not identified"
    assert found.reasons


def test_what_imitates_an_exponential_is_not_claimed() -> None:
    t = np.linspace(0, 20, 100)
    x = -np.log1p(np.expm1(-0.2) * np.exp(-0.2 * t))  # x' = 0.2 (1 - exp(x)), in closed form
    found = discover(pd.DataFrame({"t": t, "x": x}))
    assert found.verdict != "identified"
    assert any("round number" in reason or "approximation" in reason for reason in found.reasons), found.reasons


def test_a_stopped_search_keeps_the_best_so_far() -> None:
    class Impatient(Journal):
        def __init__(self) -> None:
            self.heard = 0

        @property
        def stop(self) -> bool:
            return self.heard > 0

        def record(
            self, stage: str, done: int | None = None, total: int | None = None, message: str = "", **facts
        ) -> None:
            self.heard += stage == "matching"

    assert discover(west(noise=0.01), journal=Impatient()).equations.states == ("m",)


def test_without_snapping_exponents_stay_real() -> None:
    found = discover(west(noise=0.003), FitConfig(snap=False))
    assert any(p.name.startswith("p") for p in found.parameters)


def test_bounds_on_exponents_are_kept() -> None:
    found = discover(west(noise=0.01), FitConfig(exponents="0..0.9"))
    assert found.equations.terms()[0].max() <= 0.9


def test_names_that_no_formula_can_hold_are_mapped() -> None:
    table = west().rename(columns={"m": "lambda"})
    result = discover(table).result()
    assert result["symbols"] == {"lambda": "lambda_"}
    assert "lambda_" in result["equations"]["lambda"]


def test_other_states_in_the_second_table_are_refused() -> None:
    with pytest.raises(DataError, match="has the states"):
        discover(west(), validate=west().rename(columns={"m": "n"}))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_is_said_in_one_sentence() -> None:
    with pytest.warns(SpeedWarning, match="--device cuda: torch finds no GPU here; the CPU does the work"):
        found = discover(west(), FitConfig(device="cuda"))
    assert found.device == "cpu"


def test_deep_chains_are_refused_until_they_can_be_read() -> None:
    with pytest.raises(OptionError, match="one power layer"):
        discover(west(), FitConfig(search="network", chain="nau:4,realnpu:6,nau"))


def test_the_network_finds_a_law_without_a_library() -> None:
    t = np.linspace(0, 16, 40)
    found = discover(
        pd.DataFrame({"t": t, "c": (2 - 0.1 * t) ** 2}), FitConfig(search="network", chain="realnpu:3,nau", restarts=16)
    )
    assert found.equations.strings() == {"c": "-0.2*sqrt(c)"}


@pytest.mark.parametrize(
    ("seed", "restarts"), [(0, 4), *(pytest.param(seed, 64, marks=pytest.mark.slow) for seed in range(10))]
)
def test_the_network_finds_the_fractional_epidemic(seed: int, restarts: int) -> None:
    found = discover(FSIR, FitConfig(search="network", seed=seed, restarts=restarts))
    exponents, _ = found.equations.terms()
    assert set(map(tuple, exponents)) == {(0.5, 0.5, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)}


def test_random_starts_find_prey_and_predators_in_noise() -> None:
    data = simulate_system("lotka_volterra", noise=0.01, seed=0)
    exponents, _ = discover(data, FitConfig(search="network", restarts=16)).equations.terms()
    assert set(map(tuple, exponents)) == {(1.0, 0.0), (1.0, 1.0), (0.0, 1.0)}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_the_law_is_the_same_under_names_orders_and_units(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = pd.read_csv(FSIR)
    units = 10.0 ** rng.uniform(-3, 3, 3)
    clock = 10.0 ** rng.uniform(-3, 3)
    names = list(rng.permutation(["alpha", "B", "x1"]))
    columns = {n: table[s] * u for n, s, u in zip(names, ("S", "I", "R"), units, strict=True)}
    order = list(rng.permutation(names))
    found = discover(pd.DataFrame({"t": table["t"] * clock} | {n: columns[n] for n in order}))
    place = [order.index(n) for n in names]
    exponents, coefficients = found.equations.terms()
    got = {tuple(w[place]): a[place] for w, a in zip(exponents, coefficients, strict=True)}
    s, i, r = units
    want = {
        (0.5, 0.5, 0.0): 0.06 / np.sqrt(s * i) * np.array([-s, i, 0]),
        (0.0, 1.0, 0.0): 0.05 / i * np.array([0, -i, r]),
        (0.0, 0.0, 1.0): 0.01 / r * np.array([s, 0, -r]),
    }
    assert set(got) == set(want)
    for key, values in want.items():
        assert_allclose(got[key], values / clock, rtol=1e-3)


@pytest.mark.slow
def test_a_yield_is_conserved_as_printed() -> None:
    t = np.linspace(0, 12, 60)
    truth = Equations.parse({"S": "-0.5*S + 0.2*X**2", "X": "0.19*S - 0.076*X**2"}, ("S", "X"))
    x = simulate(truth, np.array([10.0, 0.5]), t).x
    x = x + 0.01 * x.std(0) * np.random.default_rng(0).normal(size=x.shape)
    law = discover(pd.DataFrame({"t": t, "S": x[:, 0], "X": x[:, 1]})).equations
    (conserved,) = law.invariants()
    weight = float(conserved.removeprefix("S + ").removesuffix("*X"))
    assert abs(weight - 1 / 0.38) < 0.03


def test_where_no_proposal_has_a_solution_the_linear_law_is_where_the_search_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(JointSearch, "assemble", lambda *_: None)
    t = np.linspace(0, 6, 40)
    found = discover(pd.DataFrame({"t": t, "x": 2 * np.exp(-0.5 * t), "y": 1 + np.exp(-0.2 * t)}))
    assert found.equations.strings() == {"x": "-0.5*x", "y": "0.2 - 0.2*y"}


def test_spikes_above_zero_that_no_linear_law_has_are_begun_with_by_rates_of_each_state_alone() -> None:
    # hyperchaos of Roessler (Phys. Lett. A 71, 1979), whose z rests near zero between its spikes
    slope = lambda _, s: (-s[1] - s[2], s[0] + 0.25 * s[1] + s[3], 3 + s[0] * s[2], 0.05 * s[3] - 0.5 * s[2])  # noqa: E731
    t = np.linspace(0, 56, 500)
    x = solve_ivp(slope, (0, 56), [-20, 0, 0.1, 15], t_eval=t, method="LSODA", rtol=1e-8).y
    x = x + 0.01 * x.std(1, keepdims=True) * np.random.default_rng(3).normal(size=x.shape)
    problem = Problem.of(Dataset((Trajectory(t, x.T),), states=tuple("xyzw")))
    joint = JointSearch(problem)
    assert [len(joint.solve([law])) for law in linear_laws(problem)] == [0, 1]


def test_real_exponents_are_fitted_and_ones_are_left() -> None:
    data = west(noise=0.005, seed=1)
    chosen, fitted = (
        {p.term: p for p in discover(data, FitConfig(exponents=kind)).parameters if p.name.startswith("p")}
        for kind in ("menu", "real")
    )
    assert {term: p.chosen for term, p in chosen.items()} == {"m": True, "m**(3/4)": True}
    (term,) = fitted.keys() - {"m"}
    assert fitted["m"].chosen
    assert not fitted[term].chosen
    assert fitted[term].value == pytest.approx(0.75, abs=0.05)
    assert len(f"{fitted[term].value:.12g}") < 8  # as many digits as the data support


def test_a_law_that_is_steep_where_no_sample_lies_is_not_taken_for_a_smoother_one() -> None:
    """h' = 0.0062 / h, h**2 = h0**2 + 0.0124 t: from 0.02 to 0.12 in one interval, where steps that suit the smoothed data are too long."""
    t, generator = np.linspace(0, 120, 100), np.random.default_rng(3)
    records = [
        pd.DataFrame({"trajectory": k, "t": t, "h": np.sqrt(h0**2 + 0.0124 * t) + 0.003 * generator.normal(size=100)})
        for k, h0 in enumerate((0.02, 0.1))
    ]
    assert discover(pd.concat(records)).equations.strings()["h"].endswith("/h")
