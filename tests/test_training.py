"""Training: matching and the neural ODE lower the residual, lanes that explode leave the others alone."""

import numpy as np
import pytest
import torch

from eqdisc.field import Chain
from eqdisc.integration import integrate
from eqdisc.journal import Journal
from eqdisc.regression import Regression
from eqdisc.status import Status
from eqdisc.training import Stretches, match_chain, train_chain
from eqdisc.trajectory import Dataset, Trajectory

POSITIVE = torch.tensor([True])
T = torch.linspace(0, 4, 9, dtype=torch.float64)[None]


def roots(*starts: tuple[float, float]) -> Chain:
    """Lanes of x' = a x**w."""
    w = torch.tensor([[[w]] for w, _ in starts], dtype=torch.float64)
    a = torch.tensor([[[a]] for _, a in starts], dtype=torch.float64)
    return Chain.from_terms(w, a)


@pytest.fixture
def data() -> Stretches:
    """x' = -0.3 sqrt(x) from 1, solved."""
    x = ((1 - 0.15 * T) ** 2)[..., None]
    return Stretches(T, x, torch.ones_like(x), x[:, 0])


def test_training_through_the_ode_lowers_the_residual(data: Stretches) -> None:
    start = integrate(roots((0.6, -0.25)), data.start[None], T)
    before = float((start.x[0].detach() - data.x).square().mean())
    trained = train_chain(roots((0.6, -0.25)), data, POSITIVE, steps=8, l1=0.0, lr=0.01, polish=8, journal=Journal())
    assert trained.status[0] == Status.OK
    assert float(trained.mse[0].detach()) < 0.1 * before


def test_a_lane_that_explodes_leaves_the_others_alone(data: Stretches) -> None:
    options = {"steps": 2, "l1": 0.01, "lr": 0.01, "polish": 0, "journal": Journal()}
    alone = train_chain(roots((0.6, -0.25)), data, POSITIVE, **options)
    beside = train_chain(roots((3.0, 50.0), (0.6, -0.25)), data, POSITIVE, **options)
    assert beside.status.tolist() == [Status.DIVERGED, Status.OK]
    assert float(beside.mse[1]) == pytest.approx(float(alone.mse[0]), rel=1e-3)


def test_a_step_of_training_starts_at_the_solution_itself(data: Stretches) -> None:
    run = integrate(roots((0.5, -0.3)), data.start[None], T, rtol=1e-9, atol=1e-10)
    assert torch.allclose(run.x[0], data.x, atol=1e-8)


def test_matching_projects_the_last_layer_out() -> None:
    t = np.linspace(0, 4, 40)
    exact = lambda k, s: ((1 - 0.15 * s) ** 2)[:, None]  # noqa: E731
    regression = Regression(Dataset((Trajectory(t, exact(0, t)),), states=("x",)), exact, np.array([True]))
    chain, loss = match_chain(roots((0.8, 1.0), (0.2, 5.0)), regression, steps=300, l1=0.0, lr=0.02, journal=Journal())
    assert np.isfinite(loss.numpy()).all()
    best = int(loss.argmin())
    assert float(chain.terms(best)[0][0, 0]) == pytest.approx(0.5, abs=0.02)
    assert float(chain.terms(best)[1][0, 0]) == pytest.approx(-0.3, abs=0.01)
