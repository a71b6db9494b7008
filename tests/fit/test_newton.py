"""Newton: compiled code and torch fit alike, whatever a lane does: settle, lose to a rival, reach zero, leave the numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from rows import lanes_of
from scipy.integrate import solve_ivp

from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.data.smoothing import denoise
from eqdisc.fit.collocation import Collocation
from eqdisc.fit.fit import Fit
from eqdisc.fit.mesh import Mesh
from eqdisc.law.law import Law
from eqdisc.work.status import Status

pytest.importorskip("numba")


def draw_engine(segment: int | None = None) -> tuple[Collocation, torch.Tensor, torch.Tensor]:
    """Return an engine on two noisy records of x' = -0.8 x**0.6 y, y' = x - 0.5 y, y of which may change sign, states and sigma."""
    records = []
    for k, start in enumerate(([2.0, 0.5], [1.2, -0.6])):
        t = np.linspace(0, 4, 45 - 10 * k)
        rate = lambda _, z: [-0.8 * max(z[0], 0.0) ** 0.6 * z[1], z[0] - 0.5 * z[1]]  # noqa: E731
        x = solve_ivp(rate, (0, 4), start, t_eval=t, rtol=1e-9, atol=1e-9).y.T
        records.append(Trajectory(t, x + 0.02 * np.random.default_rng(k).normal(size=x.shape), name=str(k)))
    data = Dataset(tuple(records), ("x", "y"))
    denoised = denoise(data)
    mesh = Mesh.of(data, denoised, segment=segment)
    engine = Collocation(mesh, np.array([True, False]))
    return engine, mesh.states(denoised), torch.as_tensor(denoised.sigma)[None]


def draw_laws(coupled: bool) -> Law:
    """Return the truth and laws beside it, with free exponents, one too many term, a term that saturates, and one that explodes."""
    truth = np.array([[0.6, 1.0], [1.0, 0.0], [0.0, 1.0]]), np.array([[-0.8, 0.0], [0.0, 1.0], [0.0, -0.5]])
    free = np.array([[True, False], [True, False], [False, False]])
    laws: list[tuple] = [(*truth, free), (truth[0] + free * 0.4, truth[1], free)]
    laws.append(
        (np.vstack([truth[0], [[2.0, 1.0]]]), np.vstack([truth[1], [[0.1, 0.1]]]), np.vstack([free, [[True, False]]]))
    )
    laws.append(
        (np.array([[3.0, 2.0], [1.0, 0.0]]), np.array([[40.0, 0.0], [0.0, 9.0]]), np.ones((2, 2), bool) & [True, False])
    )
    wide = np.zeros((3, 7))
    wide[:, :2], wide[1, 2] = truth[0], 1.0
    laws.append(
        (wide, truth[1], np.pad(free, ((0, 0), (0, 5))) | (np.arange(7) == 4) * np.array([[0], [1], [0]], bool))
    )
    lanes = lanes_of(*laws)
    if not coupled:
        return lanes
    flux = torch.eye(2, dtype=torch.float64).repeat(lanes.lanes, lanes.coefficients.shape[1], 1, 1)
    flux[0, 0] = torch.tensor([[1.0, -1.0], [0.0, 0.0]])  # what one equation loses the other gains
    coefficients = lanes.coefficients.clone()
    coefficients[0, 0, 1] = 0.8
    return replace(lanes, coefficients=coefficients, flux=flux)


@pytest.mark.parametrize("segment", [None, 15])
@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize("rival", [np.inf, -400.0])
def test_compiled_and_torch_fit_alike(rival: float, coupled: bool, segment: int | None) -> None:
    engine, x, sigma = draw_engine(segment)
    x = x.mT.contiguous().mT  # however it lies in memory
    lanes = draw_laws(coupled)
    before = lanes.terms.exponents.clone()
    fits: list[Fit] = []
    for compiled in (True, False):
        engine.compiled = compiled
        fits.append(engine.fit(lanes, x, sigma, steps=9, rival=rival))
    assert torch.equal(lanes.terms.exponents, before), "what was given is left alone"
    assert fits[0].status.tolist() == fits[1].status.tolist()
    assert int(Status.OK) in fits[0].status.tolist()
    well = fits[0].status == int(Status.OK)
    for name in ("nll", "sigma", "hessian", "x"):
        one, other = (getattr(fit, name)[well] for fit in fits)
        assert_allclose(one, other, rtol=1e-5, atol=1e-6 * float(other.abs().max()), err_msg=name)
    assert_allclose(fits[0].lanes.terms.exponents[well], fits[1].lanes.terms.exponents[well], atol=1e-5)
    assert_allclose(fits[0].lanes.coefficients[well], fits[1].lanes.coefficients[well], rtol=1e-4, atol=1e-6)


def test_lanes_in_threads_are_those_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, x, sigma = draw_engine()
    lanes, fits = draw_laws(coupled=False), []
    for alone in (10**9, 0):
        monkeypatch.setattr("eqdisc.fit.newton.ALONE", alone)
        monkeypatch.setattr("eqdisc.fit.newton.cores", lambda: 2)
        fits.append(engine.fit(lanes, x, sigma, steps=9))
    assert torch.equal(fits[0].nll, fits[1].nll)
    assert torch.equal(fits[0].x, fits[1].x)


def test_starts_that_would_become_negative_stay_at_their_bound() -> None:
    t = np.linspace(0, 3, 30)
    x = np.maximum(0.02 + 0.5 * t, 0)[:, None] + 0.05 * np.random.default_rng(1).normal(size=(30, 1))
    data = Dataset((Trajectory(t, x - 0.1),), ("x",))
    denoised = denoise(data)
    engine = Collocation(Mesh.of(data, denoised), np.array([True]))
    states = engine.mesh.states(denoised).clamp_min(1e-6)
    growth = lanes_of(([[0.0]], np.array([[0.5]])))
    fits = []
    for compiled in (True, False):
        engine.compiled = compiled
        fits.append(engine.fit(growth, states, torch.tensor([[0.05]], dtype=torch.float64)))
    assert_allclose(fits[0].x, fits[1].x, rtol=1e-6, atol=1e-9)
    assert (fits[0].x[..., 0, 0] > 0).all()
