r"""Vectors for the compiler: LANES numbers side by side, and what kernels need of exp and log.

Numba leaves it to LLVM to find vectors in loops; here they are said aloud. A Vector is LLVM's `<LANES x double>`, which any processor
serves with the registers that it has. The functions have no branches; their polynomials are Chebyshev's, of the degree at which the error
of the cut is below half a unit in the last place:

    exp x = 2**n exp r,              n = round(x / log 2),       |r| <= log(2) / 2
    log x = e log 2 + 2 atanh s,     x = 2**e m,                 s = (m - 1) / (m + 1),  1/sqrt(2) <= m < sqrt(2)

An integer comes by adding 3 * 2**51, which leaves it in a float's last bits.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

LANES = 16
CONTRACT = ("contract", "nsz")  # a * b + c in one; nothing that would lose the rounding by which integers come
FRACTION, MAGIC = 52, 1.5 * 2.0**52  # bits of a double's fraction, and what leaves an integer in them
LOG_2 = (6.93147180369123816490e-01, 1.90821492927058770002e-10)  # in two parts, the first with zeros at its end
WIDEST = (-708.0, 709.0)  # arguments of exp are clipped to this
EXP = (  # (exp r - 1 - r) / r**2, lowest power first
    0.5,
    0.16666666666666666,
    0.04166666666662413,
    0.008333333333330062,
    0.0013888888917213717,
    0.00019841269863053618,
    2.4801521295954376e-05,
    2.7557268459997064e-06,
    2.7620088445409746e-07,
    2.510038549551032e-08,
)
LOG = (  # (2 atanh s - 2 s) / s**3, in s**2
    0.666666666666667,
    0.39999999999899505,
    0.28571428625975487,
    0.2222221113479508,
    0.18182889125261723,
    0.15331721600556042,
    0.14616449685043406,
)
FLOATS, INTEGERS = ir.VectorType(ir.DoubleType(), LANES), ir.VectorType(ir.IntType(64), LANES)


def aligned_rows(count: int, dtype: np.dtype) -> Float[np.ndarray, "numbers"]:
    """Return zeros for so many vectors, the first at a multiple of 64 bytes.

    >>> aligned_rows(3, np.dtype(float)).ctypes.data % 64
    0
    """
    size = count * LANES * dtype.itemsize
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype)


class Vector(types.Type):
    """LANES floats."""


class Mask(types.Type):
    """LANES truth values."""


VECTOR, MASK = Vector("Vector"), Mask("Mask")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, FLOATS)


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Mask) -> None:
        super().__init__(manager, kind, ir.VectorType(ir.IntType(1), LANES))


def _number(value: float) -> ir.Constant:
    return ir.Constant(FLOATS, [value] * LANES)


def _integer(value: int) -> ir.Constant:
    return ir.Constant(INTEGERS, [value] * LANES)


@dataclass(frozen=True)
class Value:
    """A vector in the making: LLVM's value with arithmetic, so that a function's code reads as its formula."""

    builder: ir.IRBuilder
    of: Any

    def _with(self, make: Callable, other: Value | float) -> Value:
        right = other.of if isinstance(other, Value) else _number(other)
        return replace(self, of=make(self.of, right, flags=CONTRACT))

    def __add__(self, other: Value | float) -> Value:
        return self._with(self.builder.fadd, other)

    def __sub__(self, other: Value | float) -> Value:
        return self._with(self.builder.fsub, other)

    def __mul__(self, other: Value | float) -> Value:
        return self._with(self.builder.fmul, other)

    def __truediv__(self, other: Value | float) -> Value:
        return self._with(self.builder.fdiv, other)

    def clip(self, sign: str, end: float) -> Value:
        """Return the end where this is beyond it."""
        beyond = self.builder.fcmp_ordered(sign, self.of, _number(end))
        return replace(self, of=self.builder.select(beyond, _number(end), self.of))

    def as_bits(self) -> Any:
        return self.builder.bitcast(self.of, INTEGERS)

    def from_bits(self, bits: Any) -> Value:
        return replace(self, of=self.builder.bitcast(bits, FLOATS))

    def absolute(self) -> Value:
        return self.from_bits(self.builder.and_(self.as_bits(), _integer((1 << 63) - 1)))

    def horner(self, coefficients: tuple[float, ...]) -> Value:
        value = replace(self, of=_number(coefficients[-1]))
        for c in coefficients[-2::-1]:
            value = value * self + c
        return value


def _exp(x: Value) -> Value:
    x = x.clip("<", WIDEST[0]).clip(">", WIDEST[1])
    shifted = x * (1.0 / np.log(2.0)) + MAGIC
    n = shifted - MAGIC
    r = (x - n * LOG_2[0]) - n * LOG_2[1]
    value = r * r * r.horner(EXP) + r + 1.0
    power = x.builder.shl(shifted.as_bits(), _integer(FRACTION))
    return value.from_bits(x.builder.add(value.as_bits(), power))


def _log(x: Value) -> Value:
    b = x.builder
    root = b.bitcast(_number(np.sqrt(0.5)), INTEGERS)
    e = b.ashr(b.sub(x.as_bits(), root), _integer(FRACTION))
    m = x.from_bits(b.sub(x.as_bits(), b.shl(e, _integer(FRACTION))))
    exponent = x.from_bits(b.add(e, b.bitcast(_number(MAGIC), INTEGERS))) - MAGIC
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    return exponent * LOG_2[0] + (exponent * LOG_2[1] + (s * z * z.horner(LOG) + s * 2.0))


def _elementwise(name: str, make: Callable[[Value], Value]) -> Any:
    """Return an intrinsic that maps a Vector to a Vector."""

    def of(typing: Any, x: Any) -> Any:
        if x != VECTOR:
            return None
        return x(x), lambda context, builder, signature, args: make(Value(builder, args[0])).of

    of.__name__ = of.__qualname__ = name
    return intrinsic(of)


exp = _elementwise("exp", _exp)
log = _elementwise("log", _log)
absolute = _elementwise("absolute", Value.absolute)


def _pointer(context: Any, builder: Any, kind: Any, array: Any, row: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    at = builder.gep(data, [builder.mul(row, ir.Constant(row.type, LANES))])
    return builder.bitcast(at, FLOATS.as_pointer())


@intrinsic
def load(typing: Any, array: Any, row: Any) -> Any:
    """Return row `row` of an array (rows * LANES,) of doubles that starts at a multiple of 64 bytes."""

    def make(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_pointer(context, builder, signature.args[0], *args), align=LANES * 4)

    return VECTOR(array, types.intp), make


@intrinsic
def store(typing: Any, array: Any, row: Any, value: Any) -> Any:
    """Write a row."""

    def make(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _pointer(context, builder, signature.args[0], *args[:2]), align=LANES * 4)
        return context.get_dummy_value()

    return types.void(array, types.intp, VECTOR), make


def _as_operand(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """Return a vector as it is, and a number LANES times."""
    if kind == VECTOR:
        return value
    number, first = context.cast(builder, value, kind, types.float64), ir.Constant(ir.IntType(32), 0)
    one = builder.insert_element(ir.Constant(FLOATS, ir.Undefined), number, first)
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(FLOATS, ir.Undefined), zeros)


@intrinsic
def splat(typing: Any, number: Any, like: Any) -> Any:
    """Return a vector of one number; `like` is any array of doubles."""
    return VECTOR(number, like), lambda context, builder, signature, args: _as_operand(
        context, builder, number, args[0]
    )


@intrinsic
def choose(typing: Any, mask: Any, yes: Any, no: Any) -> Any:
    """Return `yes` where the mask holds, else `no`."""
    return yes(mask, yes, yes), lambda context, builder, signature, args: builder.select(*args)


def _define(symbol: Any, result: types.Type, make: Callable) -> None:
    """Teach the compiler one operator between vectors, or a vector and a number."""

    @type_callable(symbol)
    def type_of(context: Any) -> Any:
        def typer(a: Any, b: Any) -> Any:
            known = [k == VECTOR or isinstance(k, types.Float | types.Integer) for k in (a, b)]
            return result if all(known) and VECTOR in (a, b) else None

        return typer

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return make(builder, *(_as_operand(context, builder, *pair) for pair in zip(signature.args, args, strict=True)))

    for kinds in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(symbol, *kinds)(lower)


for _symbol, _name in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define(_symbol, VECTOR, lambda builder, a, b, name=_name: getattr(builder, name)(a, b, flags=CONTRACT))
for _symbol, _sign in ((operator.lt, "<"), (operator.gt, ">")):
    _define(_symbol, MASK, lambda builder, a, b, sign=_sign: builder.fcmp_ordered(sign, a, b))


__all__ = ["LANES", "absolute", "aligned_rows", "choose", "exp", "load", "log", "splat", "store"]
