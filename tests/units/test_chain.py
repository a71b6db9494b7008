"""Laws of the chain: any form can be read as symbols, lanes are alone, what is saved comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
import sympy as sp
import torch
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.torch import save_file
from torch import Tensor

from eqdisc.law.extraction import law_of
from eqdisc.units import RealNPU
from eqdisc.units.chain import Chain, load_chain, parse_specification, save_chain
from eqdisc.work.errors import FormulaError, OptionError, RunError


def tensor(values: object) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


# fSIR: dS = -0.06 sqrt(S I) + 0.01 R, dI = 0.06 sqrt(S I) - 0.05 I, dR = 0.05 I - 0.01 R
EXPONENTS = tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
COEFFICIENTS = tensor([[-0.06, 0.06, 0.0], [0.0, -0.05, 0.05], [0.01, 0.0, -0.01]])


@pytest.fixture
def fsir() -> Chain:
    return Chain.from_terms(EXPONENTS[None], COEFFICIENTS[None])


def test_terms_make_the_field_that_they_say(fsir: Chain) -> None:
    x = tensor([[[64.0, 4.0, 10.0]]])
    assert_allclose(fsir(x).detach()[0, 0], [-0.06 * 16 + 0.1, 0.06 * 16 - 0.2, 0.2 - 0.1], rtol=1e-13)
    assert_array_equal(fsir.units[0].exponents_support[0], EXPONENTS != 0)
    assert_array_equal(fsir.units[1].coefficients_support[0], COEFFICIENTS.T != 0)


def test_terms_come_back(fsir: Chain) -> None:
    law = law_of(fsir)
    assert_array_equal(law.terms.exponents, EXPONENTS)
    assert_array_equal(law.coefficients, COEFFICIENTS)


def test_nonnegative_states_give_plain_monomials(fsir: Chain) -> None:
    S, I, R = sp.symbols("S I R", real=True)
    ds, di, dr = fsir.symbols(["S", "I", "R"], 0, (True, True, True))
    assert ds == -0.06 * sp.sqrt(S) * sp.sqrt(I) + 0.01 * R
    assert di == 0.06 * sp.sqrt(S) * sp.sqrt(I) - 0.05 * I
    assert dr == 0.05 * I - 0.01 * R


@pytest.mark.parametrize("nonnegative", [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("specification", ["realnpu:3,nau", "npu:2,nau", "naivenpu:2,nau:3,realnpu:2,nau", "nau"])
def test_symbols_equal_the_field_for_any_form(specification: str, nonnegative: tuple[bool, bool]) -> None:
    chain = Chain.from_specification(specification, states=2, lanes=2, seed=5, gate_init=0.7)
    generator = torch.Generator().manual_seed(1)
    for name, p in chain.named_parameters():
        if name.endswith("_im"):
            p.data.uniform_(-0.5, 0.5, generator=generator)
    names = sp.symbols("x y", real=True)
    points = torch.rand(5, 2, generator=generator, dtype=torch.float64) + 0.2
    points = torch.where(
        torch.tensor(nonnegative), points, points * tensor([[1, 1], [-1, 1], [1, -1], [-1, -1], [1, 1]])
    )
    numbers = chain(points.expand(2, -1, -1)).detach()
    for lane in range(2):
        told = chain.symbols(["x", "y"], lane, nonnegative)
        assert set().union(*(e.free_symbols for e in told)) <= set(names)
        for n, point in enumerate(points.tolist()):
            values = [complex(sp.N(e.subs(dict(zip(names, point, strict=True))))) for e in told]
            assert_allclose(values, numbers[lane, n].numpy(), rtol=1e-9, atol=1e-11)


DEEP = ["nau:4,realnpu:6,nau", "npu:9,nau"]


def deep(specification: str, generator: torch.Generator, per: str) -> Chain:
    chain = Chain.from_specification(specification, states=3, lanes=2, seed=1, gate_init=0.6, per=per)
    for name, p in chain.named_parameters():
        if name.endswith("_im"):
            p.data.uniform_(-0.5, 0.5, generator=generator)
    return chain


@pytest.mark.parametrize("per", ["input", "output"])
@pytest.mark.parametrize("specification", DEEP)
def test_deep_chains_pass_gradcheck_and_come_back_from_a_file(specification: str, per: str, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    chain = deep(specification, generator, per)
    x = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    names, values = zip(*((n, p.detach().requires_grad_()) for n, p in chain.named_parameters()), strict=True)
    call = lambda x, *p: torch.func.functional_call(chain, dict(zip(names, p, strict=True)), (x,))  # noqa: E731
    assert torch.autograd.gradcheck(call, (x, *values))
    save_chain(chain, tmp_path / "field.safetensors")
    again = load_chain(tmp_path / "field.safetensors")
    assert again.specification == specification
    assert torch.equal(again(x), chain(x))


@pytest.mark.parametrize("nonnegative", [True, False])
@pytest.mark.parametrize("specification", DEEP)
def test_deep_chains_say_in_symbols_what_they_compute(specification: str, nonnegative: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    chain = deep(specification, generator, "input")
    x = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    x = x.abs() if nonnegative else x
    numbers = chain(x).detach()
    for lane in range(2):
        told = sp.lambdify(sp.symbols("a b c", real=True), chain.symbols(list("abc"), lane, (nonnegative,) * 3))
        for n in range(4):
            assert_allclose(told(*x[lane, n].tolist()), numbers[lane, n], rtol=1e-9, atol=1e-12)


def test_closed_gates_are_read_as_missing_powers(fsir: Chain) -> None:
    fsir.units[0].gate.data[0, 1] = -0.1
    assert_array_equal(law_of(fsir).terms.exponents[0], [0.5, 0.0, 0.0])


def test_a_half_open_gate_is_no_monomial(fsir: Chain) -> None:
    fsir.units[0].gate.data[0, 1] = 0.5
    with pytest.raises(FormulaError, match="half open"):
        law_of(fsir)
    assert_array_equal(law_of(fsir, closing=True).terms.exponents[0], [0.5, 0.0, 0.0])


def test_only_a_sum_of_monomials_has_terms() -> None:
    with pytest.raises(FormulaError, match="'npu:2,nau' is not a sum"):
        law_of(Chain.from_specification("npu:2,nau", states=2))


def test_lanes_are_alone() -> None:
    chain = Chain.from_specification("realnpu:4,nau", states=3, lanes=5, seed=2)
    x = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    some = chain.select(torch.tensor([4, 1]))
    assert_allclose(some(x[[4, 1]]).detach(), chain(x).detach()[[4, 1]], rtol=1e-12)
    chain(x)[2].sum().backward()
    for p in chain.parameters():
        assert p.grad is not None
        assert torch.count_nonzero(p.grad[[0, 1, 3, 4]]) == 0


def test_selected_lanes_are_a_copy() -> None:
    chain = Chain.from_specification("realnpu:4,nau", states=3, lanes=5)
    mask = torch.tensor([True, False, True, False, False])
    some = chain.select(mask)
    assert some.lanes == 2
    assert chain.select(slice(1, 4)).lanes == 3
    assert chain.select([]).lanes == 0
    some.load_vector(torch.zeros_like(some.parameter_vector()))
    assert bool((chain.units[0].gate == 1.0).all())
    assert all(p.is_leaf and p.requires_grad for p in some.parameters())


def test_random_starts_are_glorots_and_repeat() -> None:
    one, two = (Chain.from_specification("realnpu:9,nau", states=3, lanes=200, seed=7) for _ in range(2))
    assert torch.equal(one.parameter_vector(), two.parameter_vector())
    w = one.units[0].exponents
    edge = (6 / (9 + 3)) ** 0.5  # Glorot & Bengio 2010: U(-a, a), a = sqrt(6 / (in + out))
    assert w.dtype == torch.float64
    assert 0.99 * edge < w.max() <= edge
    assert -edge <= w.min() < -0.99 * edge
    assert bool((one.units[0].gate == 1.0).all())
    small = Chain.from_specification("realnpu:9,nau", states=3, seed=7, init_scale=0.2, gate_init=0.5)
    assert small.units[0].exponents.abs().max() <= 0.2 * edge
    assert bool((small.units[0].gate == 0.5).all())


def test_vectors_go_out_and_come_back(fsir: Chain) -> None:
    vector = fsir.parameter_vector()
    assert vector.shape == fsir.support_vector().shape == fsir.free.shape == (1, 9 + 3 + 9)
    assert int(fsir.free.sum()) == 4 + 3 + 6  # the truth's exponents, gates and coefficients
    fsir.load_vector(2 * vector.detach())
    assert_array_equal(fsir.parameter_vector().detach(), 2 * vector.detach())
    with pytest.raises(OptionError, match=r"this chain holds \(1, 21\)"):
        fsir.load_vector(vector[:, 1:])


def test_a_saved_chain_comes_back(tmp_path: Path) -> None:
    chain = Chain.from_specification("npu:4,nau:2,realnpu:3,nau", states=3, lanes=2, per="output", epsilon="add")
    chain.units[0].exponents_support[1, 2, 0] = 0.0
    save_chain(chain, tmp_path / "field.safetensors")
    again = load_chain(tmp_path / "field.safetensors")
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert again.specification == chain.specification == "npu:4,nau:2,realnpu:3,nau"
    assert torch.equal(again(x), chain(x))
    assert torch.equal(again.support_vector(), chain.support_vector())


def test_a_file_without_a_chain_is_refused(tmp_path: Path) -> None:
    save_file({"w": torch.ones(1)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("no")
    for name in ("other", "text", "missing"):
        with pytest.raises(RunError, match=f"{name}.safetensors holds no chain"):
            load_chain(tmp_path / f"{name}.safetensors")


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        ("relnpu:9,nau", "no unit 'relnpu'. Did you mean 'realnpu'"),
        ("realnpu:9", "ends with 9 outputs, but there are 3 states; end it with 'nau', as in 'realnpu:9,nau'"),
        ("realnpu,nau", "'realnpu' needs a width, as in 'realnpu:9'"),
        ("realnpu:0,nau", "'realnpu:0' needs a width"),
        ("realnpu:many,nau", "'realnpu:many' needs a width"),
        ("", "no unit ''"),
    ],
)
def test_a_wrong_specification_teaches(specification: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Chain.from_specification(specification, states=3)


def test_specifications_may_have_spaces_and_a_last_width() -> None:
    assert parse_specification(" npu:4 , nau:3", states=3) == [("npu", 4), ("nau", 3)]


def test_widths_that_do_not_meet_are_refused() -> None:
    with pytest.raises(OptionError, match="realnpu gives 2 outputs in 1 lanes, but realnpu takes 3 inputs"):
        Chain([RealNPU(3, 2), RealNPU(3, 3)])
    with pytest.raises(OptionError, match="must be"):
        Chain.from_terms(torch.ones(1, 2, 3), torch.ones(1, 3, 3))


def test_names_must_be_as_many_as_states(fsir: Chain) -> None:
    with pytest.raises(OptionError, match="3 states"):
        fsir.symbols(["S", "I"])


def test_float_numbers_are_kept_to_the_last_bit() -> None:
    w, a = 0.4537112233445566, 1 / 7
    (rhs,) = Chain.from_terms(tensor([[[w]]]), tensor([[[a]]])).symbols(["x"], 0, (True,))
    assert sorted(float(v) for v in rhs.atoms(sp.Float)) == sorted([w, a])
