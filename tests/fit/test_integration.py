"""Laws of integration: closed forms, own clocks, a lane that dies alone, and slopes that are those of the steps."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.integrate import solve_ivp
from torch import Tensor

from eqdisc.fit import integration
from eqdisc.fit.integration import Solver, integrate, linearise
from eqdisc.units import NAU
from eqdisc.units.chain import Chain
from eqdisc.work.errors import OptionError
from eqdisc.work.status import Status

EXACT = Solver(rtol=1e-11, atol=1e-11)


def tensor(values: object) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


def ones(*shape: int) -> Tensor:
    return torch.ones(*shape, dtype=torch.float64)


def linear(a: Tensor) -> Chain:
    """dx/dt = A x, A (R, d, d)."""
    unit = NAU(a.shape[2], a.shape[1], lanes=len(a))
    unit.coefficients.data.copy_(a)
    return Chain([unit])


def powers(c: object) -> Chain:
    """dx/dt = c x**2: ends at 1 / (c x0) in a pole for c > 0, lives for c < 0."""
    return Chain.from_terms(torch.full((len(tensor(c)), 1, 1), 2.0).double(), tensor(c)[:, None, None])


def test_a_step_is_of_order_five_and_its_error_of_order_four() -> None:
    off, told = [], []
    for h in (0.2, 0.1):
        end, error = integration.step(lambda x: -x, ones(1), tensor([h]))
        off.append(float((end - np.exp(-h)).abs()))
        told.append(float(error.abs()))
    assert off[0] / off[1] > 2**5.5, "an error of h**6 a step"
    assert 2**4.5 < told[0] / told[1] < 2**6, "the other formula's is h**5"
    assert_allclose([sum(row) for row in integration.STAGES], [0, 1 / 5, 3 / 10, 3 / 5, 1, 7 / 8], atol=1e-15)


ROTATION = tensor([[[-0.1, 1.0], [-1.0, -0.1]], [[-0.5, 0.2], [0.1, -0.3]]])
EVEN = torch.linspace(0, 6, 7, dtype=torch.float64).expand(2, -1)
CLOCKS = tensor([[0.0, 0.1, 0.15, 2.0, 3.0, 3.5, 9.0], [5.0, 6.0, 7.0, 7.5, 7.6, 7.7, 20.0]])


@pytest.mark.parametrize("t", [EVEN, CLOCKS], ids=["even", "own clocks"])
def test_linear_laws_end_in_the_matrix_exponential(t: Tensor) -> None:
    x0 = torch.randn(2, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    flow = torch.linalg.matrix_exp(ROTATION[:, None, None] * (t - t[:, :1])[None, :, :, None, None])
    slopes = linearise(linear(ROTATION), x0, t, Solver(rtol=1e-9, atol=1e-9))
    assert slopes.run.status.tolist() == [Status.OK, Status.OK]
    # 1e-7: errors of single steps add up over three turns
    assert_allclose(slopes.run.x, (flow @ x0[:, :, None, :, None])[..., 0], atol=1e-7)
    assert_allclose(slopes.by_starts, flow, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_chain_is_solved_as_by_scipy(dtype: torch.dtype) -> None:
    chain, x0 = chain_of("realnpu:4,nau:3,realnpu:5,nau", dtype=dtype), starts().to(dtype)
    run = integrate(chain, x0, CLOCK, Solver(rtol=1e-5, atol=1e-6) if dtype == torch.float32 else EXACT)
    assert run.x.dtype == dtype
    for r in range(2):
        one = chain_of("realnpu:4,nau:3,realnpu:5,nau").select([r])
        field = lambda _, x, one=one: one(tensor(x)[None, None])[0, 0].detach()  # noqa: E731
        exact = solve_ivp(field, (0, 0.6), x0[r, 0].numpy(), "DOP853", CLOCK[0].numpy(), rtol=1e-11, atol=1e-11).y.T
        assert_allclose(run.x[r, 0], exact, rtol=1e-4 if dtype == torch.float32 else 1e-8)


def test_lanes_that_explode_leave_the_others_as_if_alone() -> None:
    c = [-0.5] * 11 + [0.5, 1.0, 3.0, 10.0, 1e4]
    x0 = torch.linspace(0.5, 2.0, 16, dtype=torch.float64)[:, None, None].expand(-1, 2, 1)
    t = torch.linspace(0, 10, 21, dtype=torch.float64).expand(2, -1)
    together, alone = linearise(powers(c), x0, t), linearise(powers(c[:11]), x0[:11], t)
    assert together.run.status.tolist() == [Status.OK] * 11 + [Status.DIVERGED] * 5
    assert_allclose(together.run.x[:11], alone.run.x, rtol=1e-12)
    assert_allclose(together.by_parameters[:11], alone.by_parameters, rtol=1e-9, atol=1e-12)
    truth = x0[:11, :, None] / (1 + 0.5 * x0[:11, :, None] * t[None, :, :, None])
    assert_allclose(together.run.x[:11], truth, atol=1e-5)
    assert bool(torch.isfinite(together.by_parameters).all())


def test_a_segment_lives_until_its_pole_and_its_neighbours_after_it() -> None:
    t = torch.linspace(0, 2, 21, dtype=torch.float64).expand(2, -1)
    run = integrate(powers([1.0]), tensor([[[1.0], [0.1]]]), t, Solver(rtol=1e-9))
    before = t[0] < 0.999  # dx/dt = x**2 from 1 ends at t = 1, from 0.1 at t = 10
    assert_allclose(run.x[0, 0, before, 0], 1 / (1 - t[0, before]), rtol=1e-6)
    assert bool(run.x[0, 0, t[0] > 1.001].isnan().all())
    assert_allclose(run.x[0, 1, :, 0], 1 / (10 - t[1]), rtol=1e-6)
    assert run.status.tolist() == [Status.DIVERGED]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 1e9])
def test_a_start_outside_ends_before_its_first_sample(bad: float) -> None:
    slopes = linearise(powers([-1.0, -1.0]), tensor([[[bad]], [[1.0]]]), tensor([[0.0, 1.0, 2.0]]))
    assert slopes.run.status.tolist() == [Status.DIVERGED, Status.OK]
    assert bool(slopes.run.x[0].isnan().all())
    assert bool((slopes.by_parameters[0] == 0).all())
    assert_allclose(slopes.run.x[1, 0, :, 0], [1, 1 / 2, 1 / 3], rtol=1e-5)


def test_a_field_that_is_not_finite_ends_its_lane() -> None:
    # sqrt(x) of a state that falls through zero; the other lane lives on
    field = lambda x: torch.stack([-torch.ones_like(x[0]) + 0 * torch.sqrt(x[0]), -x[1]])  # noqa: E731
    run = integrate(field, tensor([[[1.5]], [[1.0]]]), tensor([[0.0, 1.0, 2.0]]))
    assert run.status.tolist() == [Status.DIVERGED, Status.OK]
    assert_allclose(run.x[0, 0, :, 0], [1.5, 0.5, torch.nan], rtol=1e-6)
    assert_allclose(run.x[1, 0, :, 0], torch.exp(-tensor([0.0, 1.0, 2.0])), rtol=1e-5)
    assert integrate(torch.log, -torch.ones(1, 1, 1), tensor([[0.0, 1.0]])).status.tolist() == [Status.DIVERGED]


@pytest.mark.parametrize(("least", "status"), [(1e-8, Status.TIMEOUT), (1e-16, Status.STEP_UNDERFLOW)])
def test_a_derivative_that_jumps_ends_alone(least: float, status: Status) -> None:
    # dx/dt = -sign(x - 0.3) slides along 0.3, at errors as large as a step
    c = tensor([1.0, 0.0])[:, None, None]
    field = lambda x: -c * torch.sign(x - 0.3)  # noqa: E731
    run = integrate(field, ones(2, 1, 1), tensor([[0.0, 1.0, 2.0]]), Solver(rtol=0.0, atol=least, steps=500))
    assert run.status.tolist() == [status, Status.OK]
    assert run.x[1, 0, :, 0].tolist() == [1.0, 1.0, 1.0]


def test_a_stiff_lane_runs_out_of_steps_alone() -> None:
    t, begun = tensor([[0.0, 1.0, 2.0]]), time.perf_counter()
    run = integrate(linear(tensor([[[-1e6]], [[-1.0]]])), ones(2, 1, 1), t, Solver(steps=300))
    assert run.status.tolist() == [Status.TIMEOUT, Status.OK]
    assert_allclose(run.x[1, 0, :, 0], torch.exp(-t[0]), rtol=1e-5)
    assert time.perf_counter() - begun < 20.0  # the stiff lane alone would take 600 000 steps


def test_all_lanes_may_end() -> None:
    t = torch.linspace(0, 900, 400, dtype=torch.float64).square()[None]
    assert integrate(powers([1.0, 2.0]), ones(2, 1, 1), t).status.tolist() == [Status.DIVERGED] * 2


def test_rest_stays_at_rest_over_many_samples() -> None:
    t = torch.linspace(0, 900, 400, dtype=torch.float64)[None]
    assert bool((integrate(lambda x: 0 * x, ones(1, 1, 1), t).x == 1.0).all())


def test_one_sample_is_the_start() -> None:
    slopes = linearise(linear(ROTATION[:1]), tensor([[[1.0, 2.0]]]), tensor([[3.0]]))
    assert slopes.run.x.tolist() == [[[[1.0, 2.0]]]]
    assert slopes.by_starts.tolist() == [[[[[1.0, 0.0], [0.0, 1.0]]]]]


def test_single_precision_keeps_time_over_many_samples() -> None:
    t = torch.linspace(0, 300, 3001, dtype=torch.float64)[None]
    turn = lambda x: 0.1 * torch.stack([x[..., 1], -x[..., 0]], -1)  # noqa: E731
    run = integrate(turn, torch.tensor([[[1.0, 0.0]]]), t, Solver(rtol=1e-6, atol=1e-7))
    assert_allclose(run.x[0, 0, :, 0], torch.cos(0.1 * t[0]), atol=1e-3)


def test_a_chain_is_a_field() -> None:
    # The fSIR data of Heim et al. 2020; values of a fine Runge-Kutta solution, computed independently
    exponents = tensor([[[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    coefficients = tensor([[[-0.06, 0.06, 0.0], [0.0, -0.05, 0.05], [0.01, 0.0, -0.01]]])
    t = torch.linspace(0, 200, 40, dtype=torch.float64)[None]
    run = integrate(Chain.from_terms(exponents, coefficients), tensor([[[100.0, 0.01, 0.0]]]), t, Solver(rtol=1e-8))
    wanted = {1: (97.467213, 2.326002, 0.216785), 10: (15.984367, 34.814610, 49.211022)}
    for sample, x in wanted.items():
        assert_allclose(run.x[0, 0, sample], x, atol=5e-3)  # the fixtures carry their solver's error of 2.6e-3


CLOCK = tensor([[0.0, 0.05, 0.11, 0.4, 0.42, 0.6]])
# gates are half open: clipped straight through they have slopes where differences have none
CHAINS: dict[str, tuple[str, dict[str, object]]] = {
    "realnpu": ("realnpu:4,nau", {"gate_init": 0.6}),
    "epsilon added": ("realnpu:4,nau", {"gate_init": 0.6, "epsilon": "add"}),
    "npu": ("npu:4,nau", {"gate_init": 0.6, "im_scale": 0.2}),
    "gates per output": ("npu:4,nau", {"gate_init": 0.6, "im_scale": 0.2, "per": "output"}),
    "tanh": ("dense:4,nau", {}),
    "nmu": ("nmu:4,nau", {}),
    "inalu, free gate": ("inalu:4,nalu", {"gate": "free"}),
    "deep": ("realnpu:4,nau:3,realnpu:5,nau", {"gate_init": 0.6}),
}


def chain_of(specification: str, dtype: torch.dtype = torch.float64, **options: object) -> Chain:
    """A tame chain of two lanes whose every parameter is away from its special values."""
    chain = Chain.from_specification(specification, states=3, lanes=2, init_scale=0.3, **options)
    generator = torch.Generator().manual_seed(7)
    for parameter in chain.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return chain.to(dtype)


def starts() -> Tensor:
    return 1.0 + torch.rand(2, 1, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def differences(run: Callable[[Tensor], Tensor], at: Tensor, h: float = 1e-5) -> Tensor:
    """Return the slopes of samples (R, K, n, d) in the last axis of `at`, by central differences."""
    steps = h * torch.eye(at.shape[-1], dtype=at.dtype)
    return torch.stack([(run(at + step) - run(at - step)) / (2 * h) for step in steps], -1)


@pytest.mark.parametrize("name", CHAINS)
def test_slopes_are_those_of_differences(name: str) -> None:
    specification, options = CHAINS[name]
    chain, x0 = chain_of(specification, **options), starts()
    slopes, w = linearise(chain, x0, CLOCK, EXACT), chain.parameter_vector().detach()

    def moved(w: Tensor) -> Tensor:
        chain.load_vector(w)
        return integrate(chain, x0, CLOCK, EXACT).x

    for got, wanted in (
        (slopes.by_starts, differences(lambda x: integrate(chain, x, CLOCK, EXACT).x, x0)),
        (slopes.by_parameters, differences(moved, w)),
    ):
        assert_allclose(got, wanted, rtol=1e-5, atol=1e-6 * float(wanted.abs().max()))


def test_slopes_of_a_power_law_are_those_of_its_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    t = torch.linspace(0, 4, 40, dtype=torch.float64)[None]
    chain = Chain.from_terms(tensor([[[0.5]]]), tensor([[[-0.3]]]))
    root = 1 - 0.15 * t[0]  # x = (sqrt x0 + a t / 2)**2
    for at_once in (4096, 7):
        monkeypatch.setattr(integration, "AT_ONCE", at_once)
        slopes = linearise(chain, ones(1, 1, 1), t, EXACT)
        assert_allclose(slopes.by_starts[0, 0, :, 0, 0], root, rtol=1e-7)
        assert_allclose(slopes.by_parameters[0, 0, :, 0, -1], t[0] * root, rtol=1e-7)


def test_slopes_end_where_their_segment_does_and_pass_no_floor() -> None:
    t = torch.linspace(0, 2, 21, dtype=torch.float64)[None]
    slopes = linearise(powers([1.0, -1.0]), ones(2, 1, 1), t, EXACT)
    assert slopes.run.status.tolist() == [Status.DIVERGED, Status.OK]
    lost = slopes.run.x[0, 0, :, 0].isnan()
    assert bool((slopes.by_parameters[0, 0, lost] == 0).all())
    assert not bool((slopes.by_parameters[0, 0, ~lost][1:] == 0).all())
    assert_allclose(slopes.by_starts[1, 0, :, 0, 0], 1 / (1 + t[0]) ** 2, rtol=1e-7)  # x = x0 / (1 + x0 t)
    held = linearise(powers([-1.0]), ones(1, 1, 1), t, lowest=tensor([2.0]))
    assert_allclose(held.by_starts[0, 0, :, 0, 0], 1.0)  # the field is that of the floor
    assert_allclose(held.run.x[0, 0, :, 0], 1.0 - 4.0 * t[0], rtol=1e-6, atol=1e-9)


def test_wrong_calls_teach() -> None:
    x0, t = torch.ones(1, 1, 1), torch.tensor([[0.0, 1.0]])
    with pytest.raises(OptionError, match="must rise"):
        integrate(lambda x: x, x0, t.flip(1))
    with pytest.raises(OptionError, match=r"must be \(lanes, K, d\)"):
        integrate(lambda x: x, x0[0], t)
    with pytest.raises(OptionError, match="2 lanes, the starts 1"):
        linearise(linear(ROTATION), tensor([[[1.0, 2.0]]]), t)


def test_a_stretch_of_no_steps_has_no_slopes() -> None:
    slopes = linearise(linear(tensor([[[-1e9]]])), ones(1, 1, 1), tensor([[0.0, 1.0]]), Solver(steps=3))
    assert slopes.run.status.tolist() == [Status.TIMEOUT]
    assert slopes.by_parameters.shape == (1, 1, 2, 1, 1)
    assert np.isfinite(slopes.by_parameters.numpy()).all()
