"""The engine against closed forms: solutions, sensitivities, lanes that fail alone, gaps and uneven times."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from rows import lanes_of
from scipy.linalg import expm

from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.data.scaling import FLOOR
from eqdisc.data.smoothing import denoise
from eqdisc.fit.collocation import Collocation
from eqdisc.fit.condensing import eliminate
from eqdisc.fit.integration import Solver, integrate
from eqdisc.fit.mesh import Mesh, count_steps
from eqdisc.law.catalogue import catalogue, simulate_system
from eqdisc.law.extraction import chain_of
from eqdisc.search.problem import Problem
from eqdisc.search.remeshing import halve
from eqdisc.search.rounds import search_by_proposals
from eqdisc.work.status import Status

A = np.array([[-0.4, 0.3], [0.2, -0.5]])
T = np.linspace(0, 10, 41)


def linear(t: np.ndarray = T, noise: float = 0.0, seed: int = 0) -> Dataset:
    x = np.stack([expm(A * s) @ [1.0, 0.3] for s in t])
    x = x + noise * np.random.default_rng(seed).normal(size=x.shape)
    return Dataset((Trajectory(t, x),), states=("x", "y"))


def engine_of(data: Dataset) -> tuple[Collocation, torch.Tensor]:
    denoised = denoise(data)
    mesh = Mesh.of(data, denoised)
    return Collocation(mesh, denoised.positive), mesh.states(denoised)


LINEAR = (np.eye(2), A.T + 0.05, None)  # terms x and y, coefficients a little off
SIGMA = torch.full((1, 2), 1e-2, dtype=torch.float64)


def test_coefficients_of_a_linear_system_come_back() -> None:
    engine, x = engine_of(linear())
    fit = engine.fit(lanes_of(LINEAR), x, SIGMA)
    assert fit.status[0] == Status.OK
    assert_allclose(fit.lanes.coefficients[0].T, A, atol=1e-5)
    assert_allclose(fit.sigma[0], FLOOR, rtol=0.05)


def test_states_of_another_mesh_are_refused() -> None:
    engine, x = engine_of(linear())
    with pytest.raises(ValueError, match="not on the"):
        engine.fit(lanes_of(LINEAR), torch.cat([x, x[:, :, -1:]], 2), SIGMA)


def test_uneven_times_and_gaps_change_nothing() -> None:
    t = np.sort(np.random.default_rng(1).uniform(0, 10, 60))
    data = linear(t)
    x = data.trajectories[0].x.copy()
    x[::4, 0] = np.nan
    x[1::5, 1] = np.nan
    engine, start = engine_of(Dataset((Trajectory(t, x),), states=("x", "y")))
    fit = engine.fit(lanes_of(LINEAR), start, SIGMA)
    assert_allclose(fit.lanes.coefficients[0].T, A, atol=1e-4)


def test_standard_errors_are_those_of_repeated_experiments() -> None:
    found, claimed = [], []
    for seed in range(40):
        engine, x = engine_of(linear(noise=0.01, seed=seed))
        fit = engine.fit(lanes_of(LINEAR), x, SIGMA)
        found.append(fit.lanes.coefficients[0].flatten().numpy())
        claimed.append(torch.linalg.inv(fit.hessian[0]).diagonal().sqrt().numpy())
    # 40 experiments fix a standard deviation to 11 %; twice that, and the order of the numbers is (term, state)
    assert_allclose(np.mean(claimed, 0), np.std(found, 0), rtol=0.25)


def test_an_exploding_lane_dies_alone() -> None:
    engine, x = engine_of(linear())
    good = lanes_of(*[LINEAR] * 3)
    bad = (np.array([[2.0, 1.0], [-3.0, 2.0]]), np.array([[50.0, -80.0], [900.0, 40.0]]), np.ones((2, 2), bool))
    alone = engine.fit(good, x, SIGMA)
    mixed = engine.fit(lanes_of(LINEAR, bad, LINEAR, bad, LINEAR), x, SIGMA)
    assert_allclose(mixed.lanes.coefficients[[0, 2, 4]], alone.lanes.coefficients, atol=1e-9)
    assert (mixed.status[[0, 2, 4]] == Status.OK).all()


def test_a_root_that_empties_a_tank_is_followed() -> None:
    t = np.linspace(0, 9.5, 40)
    x = (1 - t / 10) ** 2  # x' = -0.2 sqrt(x)
    data = Dataset((Trajectory(t, x[:, None]),), states=("x",))
    engine, start = engine_of(data)
    fit = engine.fit(lanes_of((np.array([[0.7]]), np.array([[-0.15]]), np.array([[True]]))), start, SIGMA[:, :1])
    assert_allclose(float(fit.lanes.terms.exponents[0]), 0.5, atol=1e-3)
    assert_allclose(float(fit.lanes.coefficients[0]), -0.2, atol=1e-4)


def test_a_start_at_its_bound_leaves_the_other_numbers_at_their_best() -> None:
    x = 0.3 * (T - 1.0) + 0.05 * np.random.default_rng(2).normal(size=T.size)  # a line that begins below zero
    engine, start = engine_of(Dataset((Trajectory(T, x[:, None]),), states=("x",)))
    engine = Collocation(engine.mesh, np.array([True]))
    terms = lanes_of((np.zeros((1, 1)), np.array([[0.1]]), None))
    fit = engine.fit(terms, start.clamp_min(1e-3), torch.ones(1, 1, dtype=torch.float64), steps=40)
    assert_allclose(float(fit.lanes.coefficients[0, 0, 0]), T @ x / (T @ T), rtol=1e-3)  # the best line through zero


def test_a_stiff_decay_does_not_explode() -> None:
    t = np.linspace(0, 10, 30)
    x = 0.5 + 0.5 * np.exp(-2000 * t)
    data = Dataset((Trajectory(t, x[:, None]),), states=("x",))
    engine, start = engine_of(data)
    fit = engine.fit(lanes_of((np.array([[0.0], [1.0]]), np.array([[900.0], [-1900.0]]), None)), start, SIGMA[:, :1])
    ratio = -fit.lanes.coefficients[0, 0, 0] / fit.lanes.coefficients[0, 1, 0]
    assert_allclose(float(ratio), 0.5, atol=1e-2)


def test_long_records_are_cut_into_segments_that_count_each_sample_once() -> None:
    t = np.linspace(0, 10, 300)
    data = Dataset((Trajectory(t, np.cos(t)[:, None]),), states=("x",))
    mesh = Mesh.of(data, denoise(data))
    assert len(mesh.trajectory) == 5
    assert float(mesh.counts[0]) == 300


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_elimination_solves(d: int) -> None:
    generator = torch.Generator().manual_seed(d)
    a = torch.eye(d, dtype=torch.float64) + 0.2 * torch.randn(7, d, d, generator=generator, dtype=torch.float64)
    b = torch.randn(7, d, 4, generator=generator, dtype=torch.float64)
    assert_allclose(eliminate(a, b), torch.linalg.solve(a, b), atol=1e-10)


@pytest.mark.parametrize("name", ["fsir", "lotka_volterra", "west"])
def test_the_engine_and_the_chain_integrated_agree(name: str) -> None:
    """From the same start the collocation's states and the adaptive solver's differ by less than 1e-6 of each state's scale."""
    system = catalogue()[name]
    problem = Problem.of(simulate_system(name, samples=60)).remesh(refine=4)
    exponents, coefficients = system.law.terms()
    w, a = np.asarray(exponents, float), np.asarray(coefficients, float)
    terms = lanes_of((w, a / problem.scaling.undo(w, np.ones_like(a)), None))
    mesh = problem.engine.mesh
    found = problem.engine.fit(
        terms, mesh.states(problem.denoised), torch.full((1, w.shape[1]), 1e-9, dtype=torch.float64), steps=0
    )
    t = torch.tensor(problem.data.trajectories[0].t.copy())[None]
    exact = integrate(chain_of(found.lanes), found.x[:, :, 0], t, Solver(rtol=1e-10, atol=1e-12))
    assert_allclose(found.x[0, 0, mesh.sample[0]], exact.x[0, 0].detach(), atol=1e-6)


def test_steps_are_cut_where_the_data_bend() -> None:
    t = np.linspace(0, 10, 60)
    sharp = np.exp(-4 * t)[:, None] + 0.5
    steps = count_steps(denoise(Dataset((Trajectory(t, sharp),), states=("x",))), 0, t)
    assert steps[:5].min() > steps[-20:].max()


def test_halving_the_steps_moves_the_fit_by_less_than_a_tenth_of_sigma() -> None:
    problem = Problem.of(simulate_system("fsir", noise=0.01, seed=3))
    joint, best = search_by_proposals(problem)
    assert best is not None
    halved = halve(replace(problem, engine=joint.engine), best)
    assert halved is not None
    assert halved[2] < 0.1


def test_tied_coefficients_move_as_one() -> None:
    """A decay that feeds the other state, its rate tied: one number is fitted for both, and its error is that of one number."""
    t = np.linspace(0, 6, 50)
    x = np.stack([np.exp(-0.5 * t), 2 * (1 - np.exp(-0.5 * t)) + 0.1], -1)
    x += 0.01 * np.random.default_rng(0).normal(size=x.shape)
    engine, start = engine_of(Dataset((Trajectory(t, x),), states=("x", "y")))
    w, a = np.array([[1.0, 0.0]]), np.array([[-0.4, 0.8]])
    flux = torch.tensor([[[[1.0, -2.0], [0.0, 0.0]]]], dtype=torch.float64)
    tied = engine.fit(replace(lanes_of((w, a)), flux=flux), start, SIGMA)
    loose = engine.fit(lanes_of((w, a, None)), start, SIGMA)
    first, second = tied.lanes.coefficients[0, 0].tolist()
    assert second == pytest.approx(-2 * first, rel=1e-12)
    assert first == pytest.approx(-0.5, abs=0.01)
    assert int(tied.numbers.valid.sum()) == 1
    assert int(loose.numbers.valid.sum()) == 2
    assert tied.hessian[0, 0, 0] > loose.hessian[0].diagonal().max()
