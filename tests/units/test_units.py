"""Laws of the units: symbols and numbers agree, gradients are right, zeros and signs are as in mathematics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from torch import Tensor

from eqdisc.units import NALU, NAU, NMU, NPU, UNITS, Dense, NaiveNPU, PowerUnit, RealNPU, Unit, iNALU
from eqdisc.work.errors import OptionError

POWER_UNITS = (NPU, RealNPU, NaiveNPU)
NUMBERS = st.sampled_from([-2.0, -1.5, -1.0, -1 / 3, 0.0, 0.25, 0.5, 1.0, 2.0, 3.0])


def tensor(values: object) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


def real_npu(exponents: list[list[float]], gate: list[float] | None = None) -> RealNPU:
    w = tensor(exponents)
    unit = RealNPU(w.shape[1], w.shape[0])
    unit.exponents.data.copy_(w[None])
    if gate is not None:
        unit.gate.data.copy_(tensor(gate)[None])
    return unit


def filled(unit: Unit, draw: st.DataObject) -> Unit:
    """Fill a unit's parameters and supports from hypothesis; gates are closed, half open, open or beyond."""
    for name, p in unit.named_parameters():
        values = st.sampled_from([-0.5, 0.0, 0.3, 1.0, 1.7]) if name == "gate" else NUMBERS
        p.data.copy_(tensor(draw.draw(st.lists(values, min_size=p.numel(), max_size=p.numel()))).reshape(p.shape))
        support = draw.draw(st.lists(st.sampled_from([0.0, 1.0, 1.0]), min_size=p.numel(), max_size=p.numel()))
        getattr(unit, name + "_support").copy_(tensor(support).reshape(p.shape))
    return unit


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("name", UNITS)
@settings(max_examples=30, deadline=None)
@given(draw=st.data())
def test_symbols_and_numbers_agree(name: str, signed: bool, draw: st.DataObject) -> None:
    unit = filled(UNITS[name](3, 2, lanes=2), draw)
    values = st.floats(0.1, 3.0).map(lambda v: -v) | st.floats(0.1, 3.0) if signed else st.floats(0.1, 3.0)
    x = np.array(draw.draw(st.lists(values, min_size=3, max_size=3)))
    names = sp.symbols("a b c", real=True) if signed else sp.symbols("a b c", nonnegative=True)
    numbers = unit(tensor(x).expand(2, 1, 3)).detach()[:, 0]
    for lane in range(2):
        told = [complex(e.subs(dict(zip(names, x, strict=True)))) for e in unit.symbols(list(names), lane)]
        # atol: cos(pi / 2) is 6e-17 in floats and powers here reach 1e9
        assert_allclose(told, numbers[lane].numpy(), rtol=1e-9, atol=1e-7)


@settings(max_examples=60, deadline=None)
@given(
    w=st.lists(st.floats(-2, 2), min_size=3, max_size=3),
    v=st.lists(st.floats(-2, 2), min_size=3, max_size=3),
    x=st.lists(st.floats(0.1, 3) | st.floats(-3, -0.1), min_size=3, max_size=3),
)
def test_open_npu_is_the_real_part_of_a_product_of_complex_powers(
    w: list[float], v: list[float], x: list[float]
) -> None:
    unit = NPU(3, 1)
    unit.exponents.data.copy_(tensor([[w]]))
    unit.exponents_im.data.copy_(tensor([[v]]))
    truth = math.prod(complex(a) ** complex(b, c) for a, b, c in zip(x, w, v, strict=True))
    # atol: the real part may be a small difference of terms as large as the product itself
    assert_allclose(unit(tensor([[x]])).item(), truth.real, rtol=1e-9, atol=1e-12 * abs(truth))


VARIANTS: list[tuple[str, dict[str, object]]] = [
    *((name, {"gate_init": 0.6} if name in ("npu", "realnpu") else {}) for name in UNITS),
    *((kind.name, {"gate_init": 0.6, "per": "output"}) for kind in (NPU, RealNPU)),
    *((kind.name, {"gate_init": 0.6, "epsilon": "add", "clip": "plain"}) for kind in (NPU, RealNPU)),
    ("nmu", {"clip": "plain"}),
    ("inalu", {"gate": "free"}),
    ("dense", {"activation": "sigmoid"}),
    ("dense", {"activation": "none"}),
]


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_gradients_pass_gradcheck(name: str, options: dict[str, object]) -> None:
    generator = torch.Generator().manual_seed(1)
    unit = UNITS[name](3, 2, lanes=2, generator=generator, **options)  # type: ignore[arg-type]
    if isinstance(unit, PowerUnit) and unit.complex:
        unit.exponents_im.data.uniform_(-1, 1, generator=generator)
    check_gradients(unit, torch.randn(2, 4, 3, generator=generator, dtype=torch.float64))


def check_gradients(unit: Unit, x: Tensor) -> None:
    names, values = zip(*((n, p.detach().requires_grad_()) for n, p in unit.named_parameters()), strict=True)
    call = lambda x, *p: torch.func.functional_call(unit, dict(zip(names, p, strict=True)), (x,))  # noqa: E731
    assert torch.autograd.gradcheck(call, (x.requires_grad_(), *values))


def test_zero_to_a_power_is_what_mathematics_says() -> None:
    z = real_npu([[2.0], [0.5], [0.0], [1.0]])(tensor([[[0.0], [-0.0]]]))
    assert_allclose(z.detach()[0], [[0, 0, 1, 0]] * 2, atol=1e-150)


@pytest.mark.parametrize("x", [0.0, -0.0, 1e-300, -1e-300, 5e-324])
@pytest.mark.parametrize("kind", POWER_UNITS)
def test_gradients_at_zero_and_beside_it_are_finite(kind: type[PowerUnit], x: float) -> None:
    unit = kind(2, 1)
    unit.exponents.data.copy_(tensor([[[0.001, 1.0]]]))  # steep at zero, while the other input is large
    point = tensor([[[x, 1e5]]]).requires_grad_()
    unit(point).sum().backward()
    assert all(bool(torch.isfinite(g).all()) for g in (point.grad, *(p.grad for p in unit.parameters())))


def test_tiny_and_large_inputs_lose_no_digit() -> None:
    x = tensor([[[1e-200, 4e-100, 1e150]]])
    assert_allclose(real_npu([[0.5, 0.5, 1.0]])(x).item(), 2e-150 * 1e150, rtol=1e-12)


def test_the_phase_is_joint() -> None:
    # Half powers of two negative numbers: cos(pi/2 + pi/2) = -1, where a product of cosines would be 0
    assert_allclose(real_npu([[0.5, 0.5]])(tensor([[[-2.0, -8.0]]])).item(), -4.0)
    x, y = sp.symbols("x y", real=True)
    (told,) = real_npu([[0.5, 0.5]]).symbols([x, y])
    assert_allclose(float(told.subs({x: -2.0, y: -8.0})), -4.0)


def test_whole_powers_of_signed_inputs_are_plain_powers() -> None:
    x, y = sp.symbols("x y", real=True)
    assert real_npu([[3.0, -2.0]]).symbols([x, y]) == [x**3 / y**2]


def test_closed_gates_take_an_input_out() -> None:
    unit = real_npu([[2.0, 3.0]], gate=[1.0, 0.0])
    assert unit(tensor([[[3.0, -0.7]]])).item() == pytest.approx(9.0)
    x, y = sp.symbols("x y", real=True)
    assert unit.symbols([x, y]) == [x**2]


@pytest.mark.parametrize(("gate", "clipped"), [(-0.3, 0.0), (1.3, 1.0), (0.4, 0.4)])
def test_gates_are_clipped_exactly_and_pass_their_gradient(gate: float, clipped: float) -> None:
    unit = real_npu([[1.0]], gate=[gate])
    opened = unit.open_gate()
    opened.sum().backward()
    assert opened.item() == clipped
    assert unit.gate.grad is not None
    assert unit.gate.grad.item() == 1.0


@pytest.mark.parametrize("name", UNITS)
def test_pruned_entries_are_zero_and_get_no_gradient(name: str) -> None:
    unit = UNITS[name](2, 2)
    p, support = next(unit.supported())
    support[0, 1, 0] = 0.0
    x = tensor([[[2.0, 3.0]]])
    before = unit(x).detach()
    unit(x).sum().backward()
    assert p.grad is not None
    assert p.grad[0, 1, 0] == 0.0
    p.data[0, 1, 0] = 7.0
    assert torch.equal(unit(x), before)


def test_without_negative_inputs_the_npu_is_the_real_npu() -> None:
    complex_unit, unit = (kind(3, 4, generator=torch.Generator().manual_seed(3)) for kind in (NPU, RealNPU))
    x = torch.rand(1, 9, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    assert torch.equal(complex_unit(x), unit(x))
    complex_unit(x).sum().backward()
    assert torch.count_nonzero(complex_unit.exponents_im.grad) == 0


def test_the_papers_epsilon_is_added() -> None:
    unit = RealNPU(1, 1, epsilon="add")
    unit.exponents.data.fill_(0.5)
    assert unit(tensor([[[0.0]]])).item() == pytest.approx(math.sqrt(np.finfo(float).eps))


def test_parameter_counts_are_the_papers() -> None:
    # NeuralArithmetic.jl, test/npu.jl: NPU(2, 3) has 14 parameters, RealNPU(2, 3) has 8
    assert [sum(p.numel() for p in kind(2, 3).parameters()) for kind in (NPU, RealNPU, NaiveNPU)] == [14, 8, 12]


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(OptionError, match="'clamp', 'add'"):
        RealNPU(1, 1, epsilon="none")


SHUT, OPEN, FULL = -40.0, 40.0, 20.0  # a logistic gate's argument that is 0 or 1 to the last bit; tanh(20) is 1
PRODUCTS: dict[type[Unit], dict[str, float]] = {  # units that hold products of powers: what makes all exponents 1
    NPU: {"exponents": 1.0, "gate": 1.0},
    RealNPU: {"exponents": 1.0, "gate": 1.0},
    NaiveNPU: {"exponents": 1.0},
    NMU: {"choices": 1.0},
    NALU: {"weights": FULL, "masks": OPEN, "gain": 0.0, "bias": SHUT},
    iNALU: {"product_weights": FULL, "product_masks": OPEN, "gain": SHUT},
}


@pytest.mark.parametrize("kind", PRODUCTS)
def test_open_gates_give_the_product_and_closed_gates_give_1(kind: type[Unit]) -> None:
    options: dict[str, object] = {"gate": "free"} if kind is iNALU else {}
    unit = UNITS[kind.name](3, 2, **options)  # type: ignore[arg-type]
    for name, value in PRODUCTS[kind].items():
        getattr(unit, name).data.fill_(value)
    x = tensor([[[0.5, 2.0, 3.0], [1.5, 0.1, 7.0]]])
    # atol, rtol: NALU adds 1e-8 to |x|
    assert_allclose(unit(x).detach()[..., 0], x.prod(-1), rtol=2e-7)
    for shut in ("gate", "choices", "weights", "product_weights", "exponents"):
        if isinstance(getattr(unit, shut, None), Tensor):
            getattr(unit, shut).data.zero_()
            break
    assert_allclose(unit(-x).detach(), torch.ones(1, 2, 2), rtol=1e-12)


@pytest.mark.parametrize("kind", [NPU, RealNPU, NaiveNPU, NMU, iNALU])
def test_signs_of_factors_multiply(kind: type[Unit]) -> None:
    options: dict[str, object] = {"gate": "free"} if kind is iNALU else {}
    unit = UNITS[kind.name](2, 1, **options)  # type: ignore[arg-type]
    for name, value in PRODUCTS[kind].items():
        getattr(unit, name).data.fill_(value)
    x = tensor([[[-0.5, 2.0], [-1.5, -4.0]]])
    assert_allclose(unit(x).detach()[..., 0], x.prod(-1), rtol=1e-9)


@pytest.mark.parametrize("name", UNITS)
def test_constraining_brings_numbers_into_their_interval_and_no_further(name: str) -> None:
    options = {key: value for key, value in {"clip": "in place", "bound": 1.0}.items() if key in UNITS[name].accepts}
    unit = UNITS[name](3, 2, lanes=2, **options)  # type: ignore[arg-type]
    before = [p.detach().clone() for p in unit.parameters()]
    for p in unit.parameters():
        p.data.mul_(10.0)
    unit.constrain()
    for key, p in unit.named_parameters():
        free = key not in ("choices", "gate") and not (key in ("exponents", "coefficients") and options)
        assert free or float(p.detach().abs().max()) <= 1.0
    for p, q in zip(unit.parameters(), before, strict=True):
        p.data.copy_(q.clamp(0.0, 1.0))
    inside = [p.detach().clone() for p in unit.parameters()]
    unit.constrain()
    assert all(torch.equal(p, q) for p, q in zip(unit.parameters(), inside, strict=True))


def test_all_or_nothing_is_no_indecision_and_halves_are_the_most() -> None:
    unit = real_npu([[1.0, -1.0]], gate=[1.0, 0.0])
    assert unit.indecision().item() == 0.0
    unit.gate.data.fill_(0.5)
    assert unit.indecision().item() == 0.5
    products = NMU(2, 1)
    products.choices.data.copy_(tensor([[[1.0, 0.0]]]))
    sums = NAU(3, 1)
    sums.coefficients.data.copy_(tensor([[[1.0, 0.0, -1.0]]]))
    assert [u.indecision().item() for u in (products, sums, Dense(2, 1))] == [0.0, 0.0, 0.0]


def test_initial_values_lie_where_they_should() -> None:
    options = {"lanes": 50, "generator": torch.Generator().manual_seed(0)}
    spans = {"constrained": (-0.5, 0.5), "glorot": (-(2**0.5), 2**0.5), "positive": (0.0, 1.0), "centred": (0.25, 0.75)}
    for init, (low, high) in spans.items():
        w = RealNPU(2, 1, init=init, **options).exponents.detach()  # type: ignore[arg-type]
        assert_allclose([w.min(), w.max()], [low, high], atol=0.05 * (high - low))
    imaginary = NPU(2, 1, im_scale=0.01, **options).exponents_im.detach()  # type: ignore[arg-type]
    assert 0.009 < float(imaginary.abs().max()) <= 0.01


@pytest.mark.parametrize("clip", ["plain", "straight", "in place"])
def test_a_gate_beyond_its_interval_is_lost_unless_the_gradient_passes(clip: str) -> None:
    unit = RealNPU(1, 1, clip=clip)
    unit.exponents.data.fill_(1.0)
    unit.gate.data.fill_(1.2)
    unit.constrain()
    unit(tensor([[[0.5]]])).sum().backward()
    assert (unit.gate.grad.item() == 0.0) == (clip == "plain")


@pytest.mark.parametrize("kind", POWER_UNITS)
def test_training_finds_the_one_input_that_matters(kind: type[PowerUnit]) -> None:
    # NeuralArithmetic.jl, test/npu.jl: target x_1, RMSProp; exponents of x_1 become 1, the gate of x_2 closes, within 1e-3
    generator = torch.Generator().manual_seed(0)
    options: dict[str, object] = {"gate_init": 0.5, "clip": "plain"} if kind.gated else {}
    unit = kind(2, 3, lanes=5, generator=generator, **options)  # type: ignore[arg-type]
    x = torch.rand(1, 10, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for rate, steps in ((2e-3, 3500), (5e-4, 500)):
        optimiser = torch.optim.RMSprop(unit.parameters(), lr=rate, alpha=0.9)
        for _ in range(steps):
            optimiser.zero_grad()
            (unit(x) - x[..., :1]).square().sum().backward()
            optimiser.step()
    assert_allclose(unit.exponents[..., 0].detach(), torch.ones(5, 3), atol=1e-3)
    nothing = unit.open_gate()[:, 1] if unit.gated else unit.exponents[..., 1]
    assert_allclose(nothing.detach(), torch.zeros_like(nothing), atol=1e-3)
