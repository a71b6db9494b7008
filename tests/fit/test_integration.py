"""Laws of integration: closed forms, own clocks, and a lane that dies alone."""

from __future__ import annotations

import time

import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor, nn

from eqdisc.fit.integration import METHODS, integrate
from eqdisc.units import NAU
from eqdisc.units.chain import Chain
from eqdisc.work.errors import OptionError
from eqdisc.work.status import Status


def tensor(values: object) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


class Linear(nn.Module):
    """dx/dt = A x, A (R, d, d)."""

    def __init__(self, a: Tensor) -> None:
        super().__init__()
        self.a = nn.Parameter(a.clone())

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.a.mT


def linear(a: Tensor) -> Chain:
    """The same as a chain of one sum, which the engine knows."""
    unit = NAU(a.shape[2], a.shape[1], lanes=len(a))
    unit.coefficients.data.copy_(a)
    return Chain([unit])


class Powers(nn.Module):
    """dx/dt = c x**2: ends at 1 / (c x0) in a pole for c > 0, lives for c < 0."""

    def __init__(self, c: Tensor) -> None:
        super().__init__()
        self.c = nn.Parameter(c.clone())

    def forward(self, x: Tensor) -> Tensor:
        return self.c[:, None, None] * x**2


@pytest.fixture
def rotation() -> Linear:
    return Linear(tensor([[[-0.1, 1.0], [-1.0, -0.1]], [[-0.5, 0.2], [0.1, -0.3]]]))


def solution(field: Linear, x0: Tensor, t: Tensor) -> Tensor:
    """expm(A t) x0, (R, K, n, d)."""
    flow = torch.linalg.matrix_exp(field.a[:, None, None] * (t - t[:, :1])[None, :, :, None, None])
    return (flow @ x0[:, :, None, :, None])[..., 0]


EVEN = torch.linspace(0, 6, 7, dtype=torch.float64).expand(2, -1)
CLOCKS = tensor([[0.0, 0.1, 0.15, 2.0, 3.0, 3.5, 9.0], [5.0, 6.0, 7.0, 7.5, 7.6, 7.7, 20.0]])


@pytest.mark.parametrize("t", [EVEN, CLOCKS], ids=["even", "own clocks"])
@pytest.mark.parametrize("method", METHODS)
def test_linear_laws_end_in_the_matrix_exponential(rotation: Linear, method: str, t: Tensor) -> None:
    x0 = torch.randn(2, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tolerance = 1e-5 if method == "adaptive_heun" else 1e-9
    field = linear(rotation.a.detach()) if method == "tsit5" else rotation
    run = integrate(field, x0, t, rtol=tolerance, atol=tolerance, method=method, steps=10_000)
    assert run.x.shape == (2, 2, 7, 2)
    assert run.status.tolist() == [Status.OK, Status.OK]
    # 100: errors of single steps add up over three turns
    assert_allclose(run.x.detach(), solution(rotation, x0, t).detach(), atol=100 * tolerance)


@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.parametrize("t", [EVEN, CLOCKS], ids=["even", "own clocks"])
def test_gradients_are_those_of_the_matrix_exponential(rotation: Linear, t: Tensor, adjoint: bool) -> None:
    x0 = torch.randn(2, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    wanted = torch.autograd.grad(solution(rotation, x0, t).square().sum(), (x0, rotation.a))
    run = integrate(rotation, x0, t, rtol=1e-10, atol=1e-10, adjoint=adjoint)
    got = torch.autograd.grad(run.x.square().sum(), (x0, rotation.a))
    for one, two in zip(got, wanted, strict=True):
        assert_allclose(one, two, rtol=1e-6, atol=1e-7)


def test_lanes_that_explode_leave_the_others_as_if_alone() -> None:
    c = tensor([-0.5] * 11 + [0.5, 1.0, 3.0, 10.0, 1e4])
    x0 = torch.linspace(0.5, 2.0, 16, dtype=torch.float64)[:, None, None].expand(-1, 2, 1)
    t = torch.linspace(0, 10, 21, dtype=torch.float64).expand(2, -1)
    together = integrate(Powers(c), x0, t)
    alone = integrate(Powers(c[:11]), x0[:11], t)
    assert together.status.tolist() == [Status.OK] * 11 + [Status.DIVERGED] * 5
    assert_allclose(together.x[:11].detach(), alone.x.detach(), atol=1e-6)
    truth = x0[:11, :, None] / (1 + 0.5 * x0[:11, :, None] * t[None, :, :, None])
    assert_allclose(together.x[:11].detach(), truth, atol=1e-5)


def test_a_lane_lives_until_its_pole() -> None:
    t = torch.linspace(0, 2, 21, dtype=torch.float64)[None]
    run = integrate(Powers(tensor([1.0])), torch.ones(1, 1, 1, dtype=torch.float64), t, rtol=1e-9)
    before = t[0] < 0.999  # dx/dt = x**2 from 1 ends at t = 1
    assert_allclose(run.x[0, 0, before, 0].detach(), 1 / (1 - t[0, before]), rtol=1e-6)
    assert bool(run.x[0, 0, t[0] > 1.001].isnan().all())
    assert run.status.tolist() == [Status.DIVERGED]


@pytest.mark.parametrize("adjoint", [False, True])
def test_gradients_of_living_lanes_are_as_if_alone(adjoint: bool) -> None:
    c, t = tensor([-0.5, 5.0]), torch.linspace(0, 3, 7, dtype=torch.float64)[None]
    x0 = torch.ones(2, 1, 1, dtype=torch.float64).requires_grad_()
    field, only = Powers(c), Powers(c[:1])
    run = integrate(field, x0, t, rtol=1e-9, atol=1e-9, adjoint=adjoint)
    loss = torch.where(run.status == Status.OK, run.x.nan_to_num().square().sum((1, 2, 3)), 0.0).sum()
    loss.backward()
    integrate(only, x0[:1].detach(), t, rtol=1e-9, atol=1e-9).x.square().sum().backward()
    assert field.c.grad is not None
    assert only.c.grad is not None
    assert x0.grad is not None
    assert_allclose(field.c.grad[0], only.c.grad[0], rtol=1e-6)
    assert torch.isfinite(field.c.grad).all()
    assert torch.isfinite(x0.grad).all()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 1e9])
def test_a_start_outside_ends_before_its_first_sample(bad: float) -> None:
    run = integrate(Powers(tensor([-1.0, -1.0])), tensor([[[bad]], [[1.0]]]), tensor([[0.0, 1.0, 2.0]]))
    assert run.status.tolist() == [Status.DIVERGED, Status.OK]
    assert bool(run.x[0].isnan().all())
    assert_allclose(run.x[1, 0, :, 0].detach(), [1, 1 / 2, 1 / 3], rtol=1e-5)


def test_a_field_that_is_not_finite_ends_its_lane() -> None:
    # sqrt(x) of a state that falls through zero; the other lane lives on
    field = lambda x: torch.stack([-torch.ones_like(x[0]) + 0 * torch.sqrt(x[0]), -x[1]])  # noqa: E731
    run = integrate(field, tensor([[[1.5]], [[1.0]]]), tensor([[0.0, 1.0, 2.0]]))
    assert run.status.tolist() == [Status.DIVERGED, Status.OK]
    assert_allclose(run.x[0, 0, :, 0], [1.5, 0.5, torch.nan], rtol=1e-6)
    assert_allclose(run.x[1, 0, :, 0], torch.exp(-tensor([0.0, 1.0, 2.0])), rtol=1e-5)
    assert integrate(torch.log, -torch.ones(1, 1, 1), tensor([[0.0, 1.0]])).status.tolist() == [Status.DIVERGED]


def test_a_derivative_that_jumps_underflows_alone() -> None:
    # dx/dt = -sign(x) * 1e4 slides along zero, where no step is small enough
    c = tensor([1e4, 0.0])[:, None, None]
    field = lambda x: torch.where(c > 0, -c * torch.sign(x - 0.3) * 10, -x)  # noqa: E731
    x0, t = torch.ones(2, 1, 1, dtype=torch.float64), tensor([[0.0, 1.0, 2.0]])
    run = integrate(field, x0, t, steps=500, atol=1e-12, rtol=1e-10)
    assert int(run.status[0]) in (Status.STEP_UNDERFLOW, Status.TIMEOUT)
    assert int(run.status[1]) == Status.OK
    assert_allclose(run.x[1, 0, :, 0], torch.exp(-t[0]), rtol=1e-8)


def test_a_stiff_lane_loses_patience_alone() -> None:
    field = Linear(tensor([[[-1e6]], [[-1.0]]]))
    x0, t = torch.ones(2, 1, 1, dtype=torch.float64), tensor([[0.0, 1.0, 2.0]])
    begun = time.perf_counter()
    run = integrate(field, x0, t, steps=300)
    assert run.status.tolist() == [Status.TIMEOUT, Status.OK]
    assert_allclose(run.x[1, 0, :, 0].detach(), torch.exp(-t[0]), rtol=1e-5)
    assert time.perf_counter() - begun < 20.0  # the stiff lane alone would take 600 000 steps


class Relaxation(nn.Module):
    """Van der Pol's x'' = m (1 - x**2) x' - x: slow along two branches, m times faster between them."""

    def __init__(self, m: Tensor) -> None:
        super().__init__()
        self.m = m

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x[..., 1], self.m[:, None] * (1 - x[..., 0] ** 2) * x[..., 1] - x[..., 0]], -1)


def test_a_lane_pays_for_no_steps_but_its_own() -> None:
    m = tensor([5.0, 1e4, 8.0, 3e3])  # stiff and hopeless between lanes that need few steps in all, at times small
    x0 = tensor([2.0, 0.0]).expand(4, 1, 2)
    t = torch.linspace(0, 20, 5, dtype=torch.float64)[None]
    together = integrate(Relaxation(m), x0, t, steps=600)
    alone = [integrate(Relaxation(m[r : r + 1]), x0[r : r + 1], t, steps=600) for r in range(4)]
    assert together.status.tolist() == [int(run.status) for run in alone]
    assert together.status.tolist() == [Status.OK, Status.TIMEOUT] * 2
    for r in (0, 2):
        assert_allclose(together.x[r], alone[r].x[0], atol=1e-4)  # rtol 1e-6 over jumps that are 12 times faster


def test_all_lanes_may_end() -> None:
    t = torch.linspace(0, 900, 400, dtype=torch.float64).square()[None]  # more jumps than a double has decades
    run = integrate(Powers(tensor([1.0, 2.0])), torch.ones(2, 1, 1, dtype=torch.float64), t)
    assert run.status.tolist() == [Status.DIVERGED] * 2


def test_rest_stays_at_rest_over_many_samples() -> None:
    t = torch.linspace(0, 900, 400, dtype=torch.float64)[None]
    run = integrate(lambda x: 0 * x, torch.ones(1, 1, 1, dtype=torch.float64), t)
    assert bool((run.x == 1.0).all())


def test_one_sample_is_the_start() -> None:
    x0 = tensor([[[1.0, 2.0]]])
    assert torch.equal(integrate(lambda x: -x, x0, tensor([[3.0]])).x, x0[:, :, None])


def test_single_precision_stays_single() -> None:
    run = integrate(lambda x: -x, torch.ones(1, 1, 1), torch.tensor([[0.0, 0.5, 1.5]]), rtol=1e-4, atol=1e-5)
    assert run.x.dtype == torch.float32
    assert_allclose(run.x[0, 0, :, 0], torch.exp(-torch.tensor([0.0, 0.5, 1.5])), rtol=1e-3)


def test_a_chain_is_a_field() -> None:
    # The fSIR data of Heim et al. 2020; values of a fine Runge-Kutta solution, computed independently
    exponents = tensor([[[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    coefficients = tensor([[[-0.06, 0.06, 0.0], [0.0, -0.05, 0.05], [0.01, 0.0, -0.01]]])
    t = torch.linspace(0, 200, 40, dtype=torch.float64)[None]
    run = integrate(Chain.from_terms(exponents, coefficients), tensor([[[100.0, 0.01, 0.0]]]), t, rtol=1e-8)
    wanted = {1: (97.467213, 2.326002, 0.216785), 10: (15.984367, 34.814610, 49.211022)}
    for sample, x in wanted.items():
        assert_allclose(run.x[0, 0, sample].detach(), x, atol=5e-3)  # the fixtures carry their solver's error of 2.6e-3


def test_wrong_calls_teach() -> None:
    x0, t = torch.ones(1, 1, 1), torch.tensor([[0.0, 1.0]])
    with pytest.raises(OptionError, match="Did you mean 'dopri5'"):
        integrate(lambda x: x, x0, t, method="dopri55")
    with pytest.raises(OptionError, match="must rise"):
        integrate(lambda x: x, x0, t.flip(1))
    with pytest.raises(OptionError, match=r"must be \(lanes, K, d\)"):
        integrate(lambda x: x, x0[0], t)
    with pytest.raises(OptionError, match="torch module"):
        integrate(lambda x: x, x0, t, adjoint=True)
    with pytest.raises(OptionError, match="without method= the solver is chosen"):
        integrate(lambda x: x, x0, t, method="tsit5")
