"""Laws of the engine: the functions, the tables of the method, gradients, and lanes that know nothing of each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor

from eqdisc.fit import engine, integration
from eqdisc.fit.integration import integrate, linearise
from eqdisc.units.chain import Chain
from eqdisc.work.errors import OptionError, SpeedWarning
from eqdisc.work.status import Status

numba = pytest.importorskip("numba")
from eqdisc.fit import kernels, vectors  # noqa: E402
from eqdisc.work import compiler  # noqa: E402

STEPS = {"rtol": 1e-11, "atol": 1e-11}


def chain_of(
    specification: str, lanes: int = 5, states: int = 3, dtype: torch.dtype = torch.float64, **options: object
) -> Chain:
    """A tame chain whose every parameter is away from its special values."""
    chain = Chain.from_specification(specification, states=states, lanes=lanes, init_scale=0.3, dtype=dtype, **options)
    generator = torch.Generator().manual_seed(7)
    for parameter in chain.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator, dtype=dtype)
    return chain


def starts(lanes: int = 5, segments: int = 2, states: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return (1.0 + torch.rand(lanes, segments, states, generator=generator, dtype=dtype)).requires_grad_()


CLOCKS = torch.tensor([[0.0, 0.05, 0.11, 0.4, 0.42, 0.6], [3.0, 3.1, 3.2, 3.25, 3.3, 3.9]], dtype=torch.float64)


@numba.njit
def _map(x, out):
    for row in range(len(x) // vectors.LANES):
        v = vectors.load(x, row)
        cosine, sine = vectors.cos_sin(v)
        vectors.store(out[0], row, vectors.exp(v))
        vectors.store(out[1], row, vectors.log(vectors.absolute(v)))
        vectors.store(out[2], row, cosine)
        vectors.store(out[3], row, sine)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_functions_are_right_to_two_units_in_the_last_place(dtype: type) -> None:
    rows, rng = 500, np.random.default_rng(0)
    x, *out = (vectors.aligned_rows(rows, np.dtype(dtype)) for _ in range(5))
    x[:] = rng.normal(size=len(x)) * np.exp(rng.uniform(-8, 3, len(x)))
    _map(x, tuple(out))
    exact = x.astype(np.longdouble)
    turned = np.remainder(exact, 2) * np.longdouble("3.14159265358979323846")
    ulp = np.finfo(dtype).eps
    assert_allclose(out[0], np.exp(exact).astype(dtype), rtol=2 * ulp)
    assert_allclose(out[1], np.log(np.abs(exact)).astype(dtype), rtol=2 * ulp, atol=ulp)  # near 1 the logarithm is 0
    assert_allclose(out[2], np.cos(turned).astype(dtype), atol=2 * ulp)
    assert_allclose(out[3], np.sin(turned).astype(dtype), atol=2 * ulp)


def test_whole_and_half_turns_are_exact() -> None:
    x, *out = (vectors.aligned_rows(1, np.dtype(float)) for _ in range(5))
    x[:7] = [0.0, 0.5, 1.0, 1.5, 2.0, -1.0, -0.5]
    _map(x, tuple(out))
    assert out[2][:7].tolist() == [1.0, 0.0, -1.0, 0.0, 1.0, -1.0, 0.0]
    assert out[3][:7].tolist() == [0.0, 1.0, 0.0, -1.0, 0.0, 0.0, -1.0]


def test_the_method_is_of_order_five_and_its_samples_of_order_four() -> None:
    c = kernels.A.sum(1)
    weights = lambda theta: kernels.B @ theta ** np.arange(1, 5)  # noqa: E731
    assert_allclose(weights(1.0), kernels.A[6], atol=1e-14)  # the last stage is the step's end
    assert_allclose([weights(1.0) @ c**k for k in range(5)], 1 / np.arange(1, 6), atol=1e-13)
    assert_allclose([kernels.E @ c**k for k in range(4)], 0, atol=1e-14)
    for theta in (0.2, 0.7):
        assert_allclose([weights(theta) @ c**k for k in range(4)], [theta**k / k for k in range(1, 5)], atol=1e-13)
    assert_allclose(weights(1.0) @ kernels.A @ kernels.A @ kernels.A @ c, 1 / 120, atol=1e-13)


CHAINS = {
    "realnpu": ("realnpu:4,nau", {}),
    "half-open gates": ("realnpu:4,nau", {"gate_init": 0.6}),
    "epsilon added": ("realnpu:4,nau", {"gate_init": 0.6, "epsilon": "add"}),
    "npu": ("npu:4,nau", {"im_scale": 0.2}),
    "naive npu": ("naivenpu:4,nau", {"im_scale": 0.2}),
    "tanh": ("dense:4,nau", {}),
    "logistic": ("dense:4,nau", {"activation": "sigmoid"}),
    "nmu": ("nmu:4,nau", {}),
    "gates per output": ("npu:4,nau", {"gate_init": 0.6, "im_scale": 0.2, "per": "output"}),
    "nalu": ("nalu:4,nau", {}),
    "inalu": ("inalu:4,nau", {}),
    "inalu, free gate": ("inalu:4,nalu", {"gate": "free"}),
    "deep": ("realnpu:4,nau:3,realnpu:5,nau", {}),
}


@pytest.mark.parametrize(
    ("name", "sign"), [(name, sign) for name in CHAINS for sign in (1.0, -1.0) if (name, sign) != ("deep", -1.0)]
)  # the deep chain's inner states pass zero there, where its powers jump
def test_solutions_and_gradients_are_those_of_torchdiffeq(name: str, sign: float) -> None:
    specification, options = CHAINS[name]
    chain, x0 = chain_of(specification, **options), starts()
    x0 = (x0.detach() * torch.tensor([1.0, sign, 1.0])).requires_grad_()
    parts = [*chain.parameters(), x0]
    compiled = integrate(chain, x0, CLOCKS, method="tsit5", **STEPS)
    plain = integrate(chain, x0, CLOCKS, method="dopri5", **STEPS)
    assert compiled.status.tolist() == plain.status.tolist() == [Status.OK] * 5
    assert_allclose(compiled.x.detach(), plain.x.detach(), rtol=1e-7)
    weights = torch.linspace(-1, 1, compiled.x.numel(), dtype=torch.float64).view_as(compiled.x)
    got, wanted = (torch.autograd.grad((run.x * weights).sum(), parts) for run in (compiled, plain))
    for one, two in zip(got, wanted, strict=True):
        assert_allclose(one, two, rtol=1e-6, atol=1e-6 * float(two.abs().max()))


@pytest.mark.parametrize("name", CHAINS)
def test_slopes_carried_forwards_are_the_gradients_brought_back(name: str) -> None:
    specification, options = CHAINS[name]
    chain, x0 = chain_of(specification, **options), starts()
    run = integrate(chain, x0, CLOCKS, method="tsit5")
    weights = torch.linspace(-1, 1, run.x.numel(), dtype=torch.float64).view_as(run.x)
    wanted = torch.autograd.grad((run.x * weights).sum(), [*chain.parameters(), x0])
    slopes = linearise(chain, x0, CLOCKS, method="tsit5")
    assert torch.equal(slopes.run.x, run.x)
    by_parameters = torch.cat([v.flatten(1) for v in wanted[:-1]], 1)
    assert_allclose(torch.einsum("rknd,rkndp->rp", weights, slopes.by_parameters), by_parameters, rtol=1e-9, atol=1e-12)
    assert_allclose(torch.einsum("rknd,rkndi->rki", weights, slopes.by_starts), wanted[-1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["realnpu", "npu"])
def test_slopes_are_those_of_torchdiffeq(name: str) -> None:
    specification, options = CHAINS[name]
    chain, x0 = chain_of(specification, lanes=2, **options), starts(2)
    compiled, plain = (linearise(chain, x0, CLOCKS, method=method, **STEPS) for method in ("tsit5", "dopri5"))
    for one, two in ((compiled.by_parameters, plain.by_parameters), (compiled.by_starts, plain.by_starts)):
        assert_allclose(one, two, rtol=1e-6, atol=1e-6 * float(two.abs().max()))


def test_slopes_of_a_power_law_are_those_of_its_closed_form() -> None:
    t = torch.linspace(0, 4, 40, dtype=torch.float64)[None]
    chain = Chain.from_terms(torch.tensor([[[0.5]]]).double(), torch.tensor([[[-0.3]]]).double())
    slopes = linearise(chain, torch.ones(1, 1, 1, dtype=torch.float64), t, **STEPS)
    root = 1 - 0.15 * t[0]  # x = (sqrt x0 + a t / 2)**2
    assert_allclose(slopes.by_starts[0, 0, :, 0, 0], root, rtol=1e-7)
    assert_allclose(slopes.by_parameters[0, 0, :, 0, -1], t[0] * root, rtol=1e-7)


def test_slopes_end_where_their_lane_does_and_pass_no_floor() -> None:
    t = torch.linspace(0, 2, 21, dtype=torch.float64)[None]
    growth = Chain.from_terms(torch.full((2, 1, 1), 2.0).double(), torch.tensor([[[1.0]], [[-1.0]]]).double())
    slopes = linearise(growth, torch.ones(2, 1, 1, dtype=torch.float64), t, **STEPS)
    assert slopes.run.status.tolist() == [Status.DIVERGED, Status.OK]
    lost = slopes.run.x[0, 0, :, 0].isnan()
    assert bool((slopes.by_parameters[0, 0, lost] == 0).all())
    assert not bool((slopes.by_parameters[0, 0, ~lost][1:] == 0).all())
    assert_allclose(slopes.by_starts[1, 0, :, 0, 0], 1 / (1 + t[0]) ** 2, rtol=1e-7)  # x = x0 / (1 + x0 t)
    floor = torch.tensor([2.0], dtype=torch.float64)
    held = linearise(growth.select([1]), torch.ones(1, 1, 1, dtype=torch.float64), t, lowest=floor)
    assert_allclose(held.by_starts[0, 0, :, 0, 0], 1.0)  # the field is that of the floor


def test_slopes_need_a_lane_each() -> None:
    with pytest.raises(OptionError, match="1 lanes, the starts 5"):
        linearise(chain_of("realnpu:4,nau", lanes=1), starts(), CLOCKS)


def replay(chain: Chain, logged: tuple[np.ndarray, ...], x0: Tensor, t: Tensor, q: int) -> Tensor:
    """Take the logged steps of trajectory q again, in torch; return its samples."""
    steps, links, last = logged
    rows, row = [], last[q]
    while row >= 0:
        rows.append(row)
        row = links[row, 0]
    x, samples, at = x0, [x0], t[0]
    for row in reversed(rows):
        h, k = float(steps[row, -2]), []
        for stage in range(7):
            k.append(
                chain((x + h * sum((a * v for a, v in zip(kernels.A[stage], k, strict=False)), 0 * x))[None, None])[
                    0, 0
                ]
            )
        for s in range(links[row, 1], links[row, 1] + links[row, 2]):
            weights = kernels.B @ min(1.0, float((t[s] - at) / h)) ** np.arange(1, 5)
            samples.append(x + h * sum(b * v for b, v in zip(weights, k, strict=True)))
        x, at = x + h * sum(a * v for a, v in zip(kernels.A[6], k, strict=True)), at + h
    return torch.stack(samples)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-6])
def test_gradients_are_exactly_those_of_the_steps_taken(tolerance: float) -> None:
    chain, x0 = chain_of("realnpu:4,nau", lanes=1, gate_init=0.8), starts(1, 2)
    x, _ = engine.solve(chain, x0, CLOCKS * 4, rtol=tolerance, atol=tolerance, bound=1e6, steps=1000)
    again = [replay(chain, x.grad_fn.logged, x0[0, q], CLOCKS[q] * 4, q) for q in range(2)]
    assert_allclose(x[0].detach(), torch.stack(again).detach(), rtol=1e-12)
    parts = [*chain.parameters(), x0]
    got = torch.autograd.grad(x.square().sum(), parts)
    wanted = torch.autograd.grad(sum(samples.square().sum() for samples in again), parts)
    for one, two in zip(got, wanted, strict=True):
        assert_allclose(one, two, rtol=1e-10, atol=1e-12)


def test_a_power_law_ends_in_its_closed_form() -> None:
    t = torch.linspace(0, 4, 40, dtype=torch.float64)[None]
    w, a = torch.tensor([[[0.5]]], dtype=torch.float64), torch.tensor([[[-0.3]]], dtype=torch.float64)
    chain, x0 = Chain.from_terms(w, a), torch.ones(1, 1, 1, dtype=torch.float64, requires_grad=True)
    run = integrate(chain, x0, t, method="tsit5", **STEPS)
    assert_allclose(run.x[0, 0, :, 0].detach(), (1 - 0.15 * t[0]) ** 2, rtol=1e-7)
    slope = torch.autograd.grad(run.x[0, 0, -1, 0], [x0, chain.units[1].coefficients])
    assert_allclose(slope[0].item(), 0.4, rtol=1e-7)  # x = (sqrt x0 + a t / 2)**2
    assert_allclose(slope[1].item(), 4 * 0.4, rtol=1e-7)


def test_lanes_are_the_same_to_the_last_bit_whoever_is_beside_them() -> None:
    c = torch.tensor([-0.5] * 19 + [0.5, 30.0, 1e4], dtype=torch.float64)
    order = torch.randperm(len(c), generator=torch.Generator().manual_seed(3))
    x0 = torch.linspace(0.5, 2.0, len(c), dtype=torch.float64)[:, None, None].requires_grad_()
    t = torch.linspace(0, 10, 21, dtype=torch.float64)[None]
    quadratic = lambda c: Chain.from_terms(torch.full((len(c), 1, 1), 2.0).double(), c[:, None, None])  # noqa: E731
    beside, alone = quadratic(c[order]), quadratic(c[:19])
    together, only = integrate(beside, x0[order], t), integrate(alone, x0[:19], t)
    place = order.argsort()
    assert together.status[place].tolist() == [Status.OK] * 19 + [Status.DIVERGED] * 3
    assert torch.equal(together.x[place[:19]], only.x)
    lane_loss = lambda run: torch.where(run.status == Status.OK, run.x.nan_to_num().square().sum((1, 2, 3)), 0.0).sum()  # noqa: E731
    got = torch.autograd.grad(lane_loss(together), [beside.units[1].coefficients, x0])
    wanted = torch.autograd.grad(lane_loss(only), [alone.units[1].coefficients, x0])
    assert torch.equal(got[0][place[:19]], wanted[0])
    assert torch.equal(got[1], wanted[1])
    assert bool((got[0][place[19:]] == 0).all())


def test_a_lane_lives_until_its_pole_and_all_its_segments_end_with_it() -> None:
    t = torch.linspace(0, 2, 21, dtype=torch.float64).expand(2, -1)
    chain = Chain.from_terms(torch.full((1, 1, 1), 2.0).double(), torch.ones(1, 1, 1).double())
    run = integrate(chain, torch.tensor([[[1.0], [0.1]]], dtype=torch.float64), t, **STEPS)
    assert run.status.tolist() == [Status.DIVERGED]
    before = t[0] < 0.999  # dx/dt = x**2 from 1 ends at t = 1
    assert_allclose(run.x[0, 0, before, 0].detach(), 1 / (1 - t[0, before]), rtol=1e-6)
    assert bool(run.x[0, :, t[0] > 1.001].isnan().all())


def test_a_stiff_lane_loses_patience_alone() -> None:
    decay = Chain.from_terms(torch.ones(2, 1, 1).double(), torch.tensor([[[-1e6]], [[-1.0]]], dtype=torch.float64))
    t = torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64)
    run = integrate(decay, torch.ones(2, 1, 1, dtype=torch.float64), t, steps=300)
    assert run.status.tolist() == [Status.TIMEOUT, Status.OK]
    assert_allclose(run.x[1, 0, :, 0].detach(), torch.exp(-t[0]), rtol=1e-5)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 1e9])
def test_a_start_outside_ends_before_its_first_sample(bad: float) -> None:
    decay = Chain.from_terms(torch.ones(2, 1, 1).double(), -torch.ones(2, 1, 1).double())
    x0 = torch.tensor([[[bad]], [[1.0]]], dtype=torch.float64, requires_grad=True)
    run = integrate(decay, x0, torch.tensor([[0.0, 1.0]], dtype=torch.float64))
    assert run.status.tolist() == [Status.DIVERGED, Status.OK]
    assert bool(run.x[0].isnan().all())
    run.x.nan_to_num().sum().backward()
    assert bool(torch.isfinite(x0.grad).all())


def test_floors_hold_the_field_up_and_pass_no_gradient() -> None:
    t, lowest = torch.linspace(0, 3, 7, dtype=torch.float64)[None], torch.tensor([0.5], dtype=torch.float64)
    runs = []
    for method in ("tsit5", "dopri5"):
        decay = Chain.from_terms(torch.ones(1, 1, 1).double(), -torch.ones(1, 1, 1).double())
        x0 = torch.ones(1, 1, 1, dtype=torch.float64, requires_grad=True)
        x = integrate(decay, x0, t, rtol=1e-10, atol=1e-10, method=method, lowest=lowest).x
        runs.append((x, *torch.autograd.grad(x[0, 0, -1, 0], [x0, decay.units[1].coefficients])))
    exact = torch.where(t[0] < np.log(2), torch.exp(-t[0]), 0.5 - 0.5 * (t[0] - np.log(2)))
    assert_allclose(runs[0][0][0, 0, :, 0].detach(), exact, atol=1e-7)
    for one, two in zip(*runs, strict=True):
        assert_allclose(one.detach(), two.detach(), rtol=1e-3)  # the steps differ where the slope has its edge


@pytest.mark.parametrize("name", ["realnpu", "npu", "deep"])
def test_single_precision_follows_double(name: str) -> None:
    specification, options = CHAINS[name]
    results = []
    for dtype in (torch.float32, torch.float64):
        chain, x0 = chain_of(specification, dtype=dtype, **options), starts(dtype=dtype)
        chain.load_vector(chain_of(specification, **options).parameter_vector().to(dtype))
        x0 = starts().detach().to(dtype).requires_grad_()
        run = integrate(chain, x0, CLOCKS, rtol=1e-5, atol=1e-6)
        assert run.x.dtype == dtype
        results.append([run.x, *torch.autograd.grad(run.x.square().sum(), [*chain.parameters(), x0])])
    for one, two in zip(*results, strict=True):
        assert_allclose(one.detach(), two.detach(), rtol=1e-3, atol=1e-4 * float(two.detach().abs().max()))


def test_single_precision_keeps_time_over_many_samples() -> None:
    t = torch.linspace(0, 3000, 30_001, dtype=torch.float64)[None]
    turn = Chain.from_specification("nau", states=2, dtype=torch.float32)
    turn.units[0].coefficients.data.copy_(torch.tensor([[[0.0, 0.01], [-0.01, 0.0]]]))
    run = integrate(turn, torch.tensor([[[1.0, 0.0]]]), t, rtol=1e-6, atol=1e-7)
    assert_allclose(run.x[0, 0, :, 0].detach(), torch.cos(0.01 * t[0]), atol=1e-3)


def test_without_the_compiler_the_plain_road_is_taken_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "is_compiler_here", lambda: False)
    integration._warn_of_no_compiler.cache_clear()
    chain, x0 = chain_of("realnpu:2,nau"), starts()
    with pytest.warns(SpeedWarning, match="pip install numba") as said:
        first, second = (integrate(chain, x0, CLOCKS) for _ in range(2))
    assert len(said) == 1
    assert torch.equal(first.x, integrate(chain, x0, CLOCKS, method="dopri5").x)
    assert torch.equal(first.x, second.x)


def test_where_no_cache_can_be_written_kernels_are_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(function: object, *, cache: bool = False, **options: object) -> object:
        if cache:
            raise RuntimeError("no locator available")
        return njit(function, **options)

    njit = numba.njit
    monkeypatch.setattr(numba, "njit", refuse)
    assert compiler.compiled(lambda x: x + 1)(1) == 2


def test_a_wait_for_the_compiler_is_announced_once() -> None:
    numba, told = pytest.importorskip("numba"), []
    fresh = numba.njit(lambda x: x + 2)
    with compiler.announcing(lambda: told.append("wait")):
        assert (fresh(1), fresh(1.0), fresh(1)) == (3, 3.0, 3)
    fresh(1j)
    assert told == ["wait"]
