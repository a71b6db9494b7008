r"""Vectors for the compiler: LANES numbers side by side, and what kernels need of exp, log, cos and sin.

Numba leaves it to LLVM to find vectors in loops; here they are said aloud. A Vector is LLVM's `<LANES x element>`, which any processor
serves with the registers that it has. The functions have no branches; their polynomials are Chebyshev's, of the degree at which the error
of the cut is below half a unit in the last place:

    exp x = 2**n exp r,              n = round(x / log 2),       |r| <= log(2) / 2
    log x = e log 2 + 2 atanh s,     x = 2**e m,                 s = (m - 1) / (m + 1),  1/sqrt(2) <= m < sqrt(2)
    cos pi u, sin pi u               u = 2 k + q / 2 + w,        |w| <= 1/4,  q in {-2, ..., 2}

An integer comes by adding 3 * 2**(bits - 1), which leaves it in a float's last bits.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

LANES = 16
CONTRACT = ("contract", "nsz")  # a * b + c in one; nothing that would lose the rounding by which integers come


@dataclass(frozen=True)
class Precision:
    """What the functions need to know of a format: bits of its fraction, of the whole, and polynomials, lowest power first."""

    fraction: int
    bits: int
    log2: tuple[float, float]  # log 2 in two parts, the first with zeros at its end
    widest: tuple[float, float]  # exp's arguments are clipped to this
    exp: tuple[float, ...]  # (exp r - 1 - r) / r**2
    log: tuple[float, ...]  # (2 atanh s - 2 s) / s**3, in s**2
    sin: tuple[float, ...]  # sin(pi w) / w, in w**2
    cos: tuple[float, ...]  # (cos(pi w) - 1) / w**2, in w**2


SINGLE = Precision(
    23,
    32,
    (0.693359375, -2.12194440e-4),
    (-87.0, 88.0),
    (0.5, 0.16666576989698776, 0.041666554617204574, 0.0083631790527225774, 0.0013926183587713495),
    (0.66666685039575855, 0.39988780566021982, 0.29579949391972785),
    (3.1415926439064734, -5.1677078213184944, 2.5497669647281732, -0.58907509924021452),
    (-4.9348021974968774, 4.058710565713736, -1.335137813900798, 0.23212541399123623),
)
DOUBLE = Precision(
    52,
    64,
    (6.93147180369123816490e-01, 1.90821492927058770002e-10),
    (-708.0, 709.0),
    (
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
    ),
    (
        0.666666666666667,
        0.39999999999899505,
        0.28571428625975487,
        0.2222221113479508,
        0.18182889125261723,
        0.15331721600556042,
        0.14616449685043406,
    ),
    (
        3.141592653589793,
        -5.167712780049954,
        2.5501640398733763,
        -0.5992645289396449,
        0.08214586918000175,
        -0.007370021586907771,
        0.000461531855383581,
    ),
    (
        -4.934802200544679,
        4.058712126416765,
        -1.3352627688538095,
        0.23533063028399223,
        -0.025806887964701875,
        0.001929493874894941,
        -0.00010370082971594627,
    ),
)


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

    def __init__(self, element: types.Float) -> None:
        self.element = element
        super().__init__(name=f"Vector({element})")


class Mask(types.Type):
    """LANES truth values."""

    def __init__(self) -> None:
        super().__init__(name="Mask")


FLOATS = {32: Vector(types.float32), 64: Vector(types.float64)}
MASK = Mask()


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, ir.VectorType(_element(kind), LANES))


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Mask) -> None:
        super().__init__(manager, kind, ir.VectorType(ir.IntType(1), LANES))


def _element(kind: Vector) -> ir.Type:
    return ir.FloatType() if kind.element.bitwidth == 32 else ir.DoubleType()


@dataclass(frozen=True)
class Value:
    """A vector in the making: LLVM's value with arithmetic, so that a function's code reads as its formula."""

    builder: ir.IRBuilder
    of: Any

    @property
    def precision(self) -> Precision:
        return SINGLE if isinstance(self.of.type.element, ir.FloatType) else DOUBLE

    def number(self, value: float) -> Value:
        if isinstance(self.of.type.element, ir.FloatType):
            value = float(np.float32(value))
        return replace(self, of=ir.Constant(self.of.type, [value] * LANES))

    def integer(self, value: int) -> ir.Constant:
        bits = self.precision.bits
        value = (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))
        return ir.Constant(ir.VectorType(ir.IntType(bits), LANES), [value] * LANES)

    def _with(self, make: Callable, other: Value | float) -> Value:
        right = other if isinstance(other, Value) else self.number(other)
        return replace(self, of=make(self.of, right.of, flags=CONTRACT))

    def __add__(self, other: Value | float) -> Value:
        return self._with(self.builder.fadd, other)

    def __sub__(self, other: Value | float) -> Value:
        return self._with(self.builder.fsub, other)

    def __mul__(self, other: Value | float) -> Value:
        return self._with(self.builder.fmul, other)

    def __truediv__(self, other: Value | float) -> Value:
        return self._with(self.builder.fdiv, other)

    def __neg__(self) -> Value:
        return self.number(-0.0) - self

    def compare(self, sign: str, other: Value | float) -> Any:
        right = other if isinstance(other, Value) else self.number(other)
        return self.builder.fcmp_ordered(sign, self.of, right.of)

    def choose(self, mask: Any, other: Value | float) -> Value:
        """Return this where the mask holds, else the other."""
        right = other if isinstance(other, Value) else self.number(other)
        return replace(self, of=self.builder.select(mask, self.of, right.of))

    def magic(self) -> float:
        return 1.5 * 2.0**self.precision.fraction

    def as_bits(self) -> Any:
        return self.builder.bitcast(self.of, ir.VectorType(ir.IntType(self.precision.bits), LANES))

    def from_bits(self, bits: Any) -> Value:
        return replace(self, of=self.builder.bitcast(bits, self.of.type))

    def rounded(self) -> Value:
        return (self + self.magic()) - self.magic()

    def absolute(self) -> Value:
        mask = self.integer((1 << (self.precision.bits - 1)) - 1)
        return self.from_bits(self.builder.and_(self.as_bits(), mask))

    def horner(self, coefficients: tuple[float, ...]) -> Value:
        value = self.number(coefficients[-1])
        for c in coefficients[-2::-1]:
            value = value * self + c
        return value


def _exp(x: Value) -> Value:
    p = x.precision
    low, high = p.widest
    x = x.number(low).choose(x.compare("<", low), x)
    x = x.number(high).choose(x.compare(">", high), x)
    shifted = x * (1.0 / np.log(2.0)) + x.magic()
    n = shifted - x.magic()
    r = (x - n * p.log2[0]) - n * p.log2[1]
    value = r * r * r.horner(p.exp) + r + 1.0
    power = x.builder.shl(shifted.as_bits(), x.integer(p.fraction))
    return value.from_bits(x.builder.add(value.as_bits(), power))


def _log(x: Value) -> Value:
    p, b = x.precision, x.builder
    root = x.number(np.sqrt(0.5)).as_bits()
    e = b.ashr(b.sub(x.as_bits(), root), x.integer(p.fraction))
    m = x.from_bits(b.sub(x.as_bits(), b.shl(e, x.integer(p.fraction))))
    exponent = x.from_bits(b.add(e, x.number(x.magic()).as_bits())) - x.magic()
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    return exponent * p.log2[0] + (exponent * p.log2[1] + (s * z * z.horner(p.log) + s * 2.0))


def _cos_sin(u: Value) -> tuple[Value, Value]:
    p = u.precision
    v = u - (u * 0.5).rounded() * 2.0
    q = (v * 2.0).rounded()
    w = v - q * 0.5
    z = w * w
    s, c = w * z.horner(p.sin), z * z.horner(p.cos) + 1.0
    size = q.absolute()
    odd = size.compare("==", 1.0)
    sign = u.number(1.0) - size
    return (-q * s).choose(odd, sign * c), (q * c).choose(odd, sign * s)


def _is_vector(kind: Any) -> bool:
    return isinstance(kind, Vector)


def _elementwise(name: str, make: Callable[[Value], Value]) -> Any:
    """Return an intrinsic that maps a Vector to a Vector."""

    def of(typing: Any, x: Any) -> Any:
        if not _is_vector(x):
            return None
        return x(x), lambda context, builder, signature, args: make(Value(builder, args[0])).of

    of.__name__ = of.__qualname__ = name
    return intrinsic(of)


exp = _elementwise("exp", _exp)
log = _elementwise("log", _log)
absolute = _elementwise("absolute", Value.absolute)


@intrinsic
def cos_sin(typing: Any, u: Any) -> Any:
    """Return (cos pi u, sin pi u)."""
    pair = types.UniTuple(u, 2)

    def make(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return cgutils.pack_array(builder, [v.of for v in _cos_sin(Value(builder, args[0]))])

    return pair(u), make


def _pointer(context: Any, builder: Any, kind: Any, array: Any, row: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    at = builder.gep(data, [builder.mul(row, ir.Constant(row.type, LANES))])
    vector = ir.VectorType(_element(FLOATS[kind.dtype.bitwidth]), LANES)
    return builder.bitcast(at, vector.as_pointer())


@intrinsic
def load(typing: Any, array: Any, row: Any) -> Any:
    """Return row `row` of an array (rows * LANES,) that starts at a multiple of 64 bytes."""
    vector = FLOATS[array.dtype.bitwidth]

    def make(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_pointer(context, builder, signature.args[0], *args), align=LANES * 4)

    return vector(array, types.intp), make


@intrinsic
def store(typing: Any, array: Any, row: Any, value: Any) -> Any:
    """Write a row."""

    def make(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _pointer(context, builder, signature.args[0], *args[:2]), align=LANES * 4)
        return context.get_dummy_value()

    return types.void(array, types.intp, FLOATS[array.dtype.bitwidth]), make


def _splat(builder: Any, number: Any, vector: ir.VectorType) -> Any:
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)


@intrinsic
def splat(typing: Any, number: Any, like: Any) -> Any:
    """Return a vector of one number, of the format of `like`, a vector or an array."""
    vector = like if _is_vector(like) else FLOATS[like.dtype.bitwidth]

    def make(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _as_operand(context, builder, number, args[0], ir.VectorType(_element(vector), LANES))

    return vector(number, like), make


@intrinsic
def choose(typing: Any, mask: Any, yes: Any, no: Any) -> Any:
    """Return `yes` where the mask holds, else `no`."""
    return yes(mask, yes, yes), lambda context, builder, signature, args: builder.select(*args)


@intrinsic
def some(typing: Any, mask: Any) -> Any:
    """Tell whether a mask holds anywhere."""

    def make(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], ir.IntType(LANES))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(mask), make


def _is_number(kind: Any) -> bool:
    return isinstance(kind, types.Float | types.Integer)


def _as_operand(context: Any, builder: Any, kind: Any, value: Any, vector: ir.VectorType) -> Any:
    if _is_vector(kind):
        return value
    to = types.float32 if isinstance(vector.element, ir.FloatType) else types.float64
    return _splat(builder, context.cast(builder, value, kind, to), vector)


def _define(symbol: Any, result: Callable[[Vector], Any], make: Callable) -> None:
    """Teach the compiler one operator between vectors, or a vector and a number."""

    @type_callable(symbol)
    def type_of(context: Any) -> Any:
        def typer(a: Any, b: Any) -> Any:
            vector = a if _is_vector(a) else b
            if _is_vector(vector) and all(k == vector or _is_number(k) for k in (a, b)):
                return result(vector)
            return None

        return typer

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = next(k for k in signature.args if _is_vector(k))
        shape = ir.VectorType(_element(vector), LANES)
        return make(
            builder, *(_as_operand(context, builder, k, v, shape) for k, v in zip(signature.args, args, strict=True))
        )

    for kinds in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(symbol, *kinds)(lower)


for _symbol, _name in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define(_symbol, lambda v: v, lambda builder, a, b, name=_name: getattr(builder, name)(a, b, flags=CONTRACT))
for _symbol, _sign in ((operator.lt, "<"), (operator.le, "<="), (operator.gt, ">"), (operator.ge, ">=")):
    _define(_symbol, lambda v: MASK, lambda builder, a, b, sign=_sign: builder.fcmp_ordered(sign, a, b))


def _define_on_masks(symbol: Any, count: int, make: Callable) -> None:
    @type_callable(symbol)
    def type_of(context: Any) -> Any:
        return lambda *kinds: MASK if len(kinds) == count and all(isinstance(k, Mask) for k in kinds) else None

    lower_builtin(symbol, *[Mask] * count)(lambda context, builder, signature, args: make(builder, *args))


_define_on_masks(operator.and_, 2, lambda builder, a, b: builder.and_(a, b))
_define_on_masks(operator.or_, 2, lambda builder, a, b: builder.or_(a, b))
_define_on_masks(operator.invert, 1, lambda builder, a: builder.not_(a))
