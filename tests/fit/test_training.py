"""Training: matching and the neural ODE lower the residual, lanes that explode leave the others alone."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.fit import training
from eqdisc.fit.integration import integrate
from eqdisc.fit.levenberg import Limits, Normal, damp, minimise
from eqdisc.fit.regression import Regression
from eqdisc.fit.training import PerSample, Stretches, match, match_chain, named, shoot, train_chain
from eqdisc.law.extraction import law_of
from eqdisc.search.network import stretches
from eqdisc.search.problem import Problem
from eqdisc.units import NPU, RealNPU, Unit
from eqdisc.units.chain import Chain
from eqdisc.work.journal import Journal
from eqdisc.work.status import Status

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
    trained = train_chain(roots((0.6, -0.25)), data, POSITIVE, steps=8, l1=0.0, journal=Journal())
    assert trained.status[0] == Status.OK
    assert float(trained.mse[0].detach()) < 0.1 * before


def test_a_lane_without_a_solution_leaves_the_others_alone(data: Stretches) -> None:
    options = {"steps": 2, "l1": 0.01, "journal": Journal()}
    alone = train_chain(roots((0.6, -0.25)), data, POSITIVE, **options)
    beside = train_chain(roots((3.0, 1e200), (0.6, -0.25)), data, POSITIVE, **options)
    assert beside.status.tolist() == [Status.DIVERGED, Status.OK]
    assert beside.mse[0] == torch.inf
    assert float(beside.mse[1]) == pytest.approx(float(alone.mse[0]), rel=1e-6)


def test_a_lane_that_explodes_is_brought_back_by_what_it_shows_before(data: Stretches) -> None:
    exploding = roots((2.0, 0.3))  # at t = 10 / 3, after six samples
    assert shoot(exploding, data.start[None], data, POSITIVE).status[0] == Status.DIVERGED
    trained = train_chain(exploding, data, POSITIVE, steps=20, l1=0.0, journal=Journal())
    assert trained.status[0] == Status.OK
    assert float(trained.mse[0]) < 1e-3


def test_matching_projects_the_last_layer_out() -> None:
    t = np.linspace(0, 4, 40)
    exact = lambda k, s: ((1 - 0.15 * s) ** 2)[:, None]  # noqa: E731
    regression = Regression(Dataset((Trajectory(t, exact(0, t)),), states=("x",)), exact, np.array([True]))
    chain, loss = match_chain(roots((0.8, 1.0), (0.2, 5.0)), regression, steps=30, l1=0.0, journal=Journal())
    assert np.isfinite(loss.numpy()).all()
    best = int(loss.argmin())
    law = law_of(chain, best)
    assert law.terms.exponents[0, 0] == pytest.approx(0.5, abs=0.02)
    assert law.coefficients[0, 0] == pytest.approx(-0.3, abs=0.01)


@pytest.mark.parametrize(
    "unit", [RealNPU(2, 3, lanes=2), NPU(2, 3, lanes=2, im_scale=0.3), RealNPU(2, 3, lanes=2, per="output")]
)
def test_one_backward_pass_gives_the_slopes_of_every_sample(unit: Unit) -> None:
    generator = torch.Generator().manual_seed(0)
    x, a = (torch.rand(n, k, generator=generator, dtype=torch.float64) for n, k in ((5, 2), (2, 3)))
    w = torch.rand(2, sum(p[0].numel() for p in unit.parameters()), generator=generator, dtype=torch.float64)
    model = lambda w: (torch.func.functional_call(unit, named(unit, w), (x[None],)) * a[:, None]).sum(-1)  # noqa: E731
    wanted = torch.func.jacrev(lambda w: model(w).sum(0))(w)  # no lane sees another
    assert torch.allclose(PerSample(unit, w, x).slopes(a), wanted.permute(1, 2, 0), atol=1e-12)


def test_starts_are_eliminated_as_if_all_had_been_solved_at_once(data: Stretches) -> None:
    halves = Stretches(*(torch.cat([v[:, :5], v[:, 4:]]) for v in (data.t, data.x, data.mask)), data.x[0, [0, 4]])
    shot = shoot(roots((0.6, -0.25)), halves.start[None], halves, POSITIVE)
    damping = torch.tensor([0.1], dtype=torch.float64)
    slope, curvature, follow = shot.reduce(damping)
    step = -torch.linalg.solve(curvature, slope)
    mixed = shot.mixed[0].flatten(0, 1)
    blocks = torch.block_diag(*shot.start_curvature[0])
    whole = torch.cat([torch.cat([shot.curvature[0], mixed.mT], 1), torch.cat([mixed, blocks], 1)])
    wanted = -torch.linalg.solve(damp(whole, damping[0]), torch.cat([shot.slope[0], shot.start_slope[0].flatten()]))
    assert torch.allclose(torch.cat([step[0], (follow(step) - shot.starts)[0].flatten()]), wanted, rtol=1e-6)


def slopes_by_differences(loss: Callable[[torch.Tensor], torch.Tensor], at: torch.Tensor, h: float) -> torch.Tensor:
    """Return half the slope of a one-lane loss in each number."""
    steps = h * torch.eye(at.shape[1], dtype=at.dtype)
    return torch.stack([(loss(at + step) - loss(at - step))[0] / (4 * h) for step in steps])


def test_slopes_of_shooting_are_those_of_differences(data: Stretches, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = data.mask.clone()
    mask[0, 6] = 0.0  # not measured
    halves = Stretches(*(torch.cat([v[:, :5], v[:, 4:]]) for v in (data.t, data.x, mask)), data.x[0, [0, 4]])
    chain = roots((0.6, -0.25))
    chain.load_vector(torch.tensor([[0.6, 0.9, -0.25]], dtype=torch.float64))
    w, starts = chain.parameter_vector().detach(), halves.start[None]

    def loss(w: torch.Tensor, starts: torch.Tensor = starts) -> torch.Tensor:
        chain.load_vector(w)
        return shoot(chain, starts, halves, POSITIVE).loss

    wanted = slopes_by_differences(loss, w, 1e-4)
    in_starts = slopes_by_differences(lambda s: loss(w, s.view(1, 2, 1)), starts.flatten(1), 1e-4)
    chain.load_vector(w)
    for held in (1 << 24, 1):  # all segments at once, one at a time
        monkeypatch.setattr(training, "HELD", held)
        shot = shoot(chain, starts, halves, POSITIVE)
        assert torch.allclose(shot.slope[0], wanted, rtol=1e-3)
        assert torch.allclose(shot.start_slope.flatten(), in_starts, rtol=1e-3)


def test_slopes_of_matching_are_those_of_differences_where_the_ridge_is_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training, "RIDGE", 1e-13)
    t = np.linspace(0, 4, 40)
    exact = lambda k, s: ((1 - 0.15 * s) ** 2)[:, None]  # noqa: E731
    regression = Regression(Dataset((Trajectory(t, exact(0, t)),), states=("x",)), exact, np.array([True]))
    unit, w = RealNPU(1, 2), torch.tensor([[0.3, 1.4, 0.7]], dtype=torch.float64)
    wanted = slopes_by_differences(lambda w: match(unit, w, regression).loss, w, 1e-5)
    assert torch.allclose(match(unit, w, regression).slope[0], wanted, rtol=1e-4)


def test_a_negative_power_at_zero_hides_no_other_sample() -> None:
    x = torch.tensor([[0.0], [0.5], [2.0]], dtype=torch.float64)
    w = torch.tensor([[-1.5, 1.0]], dtype=torch.float64)
    slopes = PerSample(RealNPU(1, 1), w, x).slopes(torch.ones(1, 1, dtype=torch.float64))
    wanted = (x[1:, 0] ** -1.5) * x[1:, 0].log()
    assert torch.allclose(slopes[0, 0], torch.cat([torch.zeros(1, dtype=torch.float64), wanted]))


def test_a_segment_that_explodes_keeps_the_others_samples() -> None:
    # x' = x^2 from 1 is at infinity at t = 1, from 1/10 at t = 10
    t = torch.linspace(0.0, 2.0, 5, dtype=torch.float64).expand(2, 5)
    x = torch.stack([torch.ones(5), 0.1 / (1 - 0.1 * t[1])])[..., None].double()
    shot = shoot(roots((2.0, 1.0)), x[None, :, 0], Stretches(t, x, torch.ones_like(x), x[:, 0]), POSITIVE)
    alone = shoot(
        roots((2.0, 1.0)), x[None, :1, 0], Stretches(t[:1], x[:1], torch.ones_like(x[:1]), x[:1, 0]), POSITIVE
    )
    assert shot.status[0] == Status.DIVERGED
    lost = 40.0 * 3  # of the first segment: two samples are reached
    assert float(alone.loss[0]) - lost > float(shot.loss[0]) - lost > -3.0
    assert float(shot.start_curvature[0, 1, 0, 0]) > 0.0


def test_a_law_may_end_after_its_record() -> None:
    # x' = x^2 from 1 is at infinity at t = 1, a tenth after its record, which is padded to the other's length
    times = np.linspace(0.0, 0.9, 6), np.linspace(0.0, 0.9, 11)
    starts = {"short": 1.0, "long": 0.5}.items()
    records = tuple(Trajectory(t, (1 / (1 / s - t))[:, None], name) for t, (name, s) in zip(times, starts, strict=True))
    problem = Problem.of(Dataset(records, states=("x",)))
    law = roots((2.0, float(problem.scaling.states[0] * problem.scaling.time)))
    data = stretches(problem)
    shot = shoot(law, data.start[None], data, POSITIVE)
    assert data.x.shape[1] == 11
    assert shot.status[0] == Status.OK
    assert float(shot.loss[0]) < -12.0


def test_penalty_and_bounds_end_where_they_should() -> None:
    # log(1 + (w_0 - 3)^2) + (|w_0| + |w_1|) / 2 is least where 4 u = u^2 + 1 with u = 3 - w_0, so at w_0 = 1 + sqrt(3), and w_1 = 0
    def evaluate(w: torch.Tensor, _: None) -> Normal:
        off = w - torch.tensor([3.0, 0.0], dtype=w.dtype)
        square = 1.0 + off[:, 0] ** 2
        only = torch.tensor([1.0, 0.0], dtype=w.dtype)
        return Normal(square.log(), off * only / square[:, None], torch.diag_embed(only / square[:, None]))

    starts = torch.tensor([[1.0, 0.8], [4.0, -0.8]], dtype=torch.float64)
    for high, ends in ((torch.inf, 1 + 3**0.5), (1.5, 1.5)):
        low, high_of = torch.tensor([0.0, -torch.inf]), torch.tensor([high, torch.inf])
        limits = Limits(low.double(), high_of.double(), torch.full((2,), 0.5, dtype=torch.float64))
        w, normal = minimise(evaluate, starts, limits, 200, lambda k: False)
        assert torch.allclose(w[:, 0], torch.full((2,), ends, dtype=torch.float64), atol=0.05)
        assert float(w[:, 1].abs().max()) < 1e-3
        assert torch.allclose(normal.loss, evaluate(w, None).loss)


def test_a_lane_is_told_to_stop() -> None:
    steps: list[int] = []
    evaluate = lambda w, _: Normal(w[:, 0] ** 2, w, torch.ones(1, 1, 1, dtype=w.dtype))  # noqa: E731
    nowhere = Limits(*(torch.tensor([v], dtype=torch.float64) for v in (-torch.inf, torch.inf, 0.0)))
    minimise(evaluate, torch.ones(1, 1, dtype=torch.float64), nowhere, 9, lambda k: steps.append(k) or k == 2)
    assert steps == [1, 2]
