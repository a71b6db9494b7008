r"""Terms: products of powers, with what they are divided by; what a law sums.

    m_j(x) = prod_i p(x_i; W[j, i], S[j, i]) / q_j(x),     q_j = K_j + prod_i x_i**U[j, i] where U[j] is not zero, else 1,

p = x**w, or sign(x)|x|**w or |x|**w of a state that changes sign. Each part has its unit, which says its values, slopes, symbols, scaling,
price and where a search starts it: `units.monomial` (W), `units.saturation` (U, K), `units.magnitude` (S). In a chain a term is an output
of the last power unit, over states and quantities.

The arrays are NumPy's or torch's, with any leading axes before those of terms and columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..units import magnitude, monomial, saturation
from .formulas import as_number, as_power

if TYPE_CHECKING:
    import sympy as sp


class Scales(Protocol):
    """What states are divided by (`data.scaling.Scaling`)."""

    @property
    def states(self) -> Float[np.ndarray, "d"]: ...


class Number(NamedTuple):
    """One number of a law: "exponent" or "inner" (of the state `place`), "offset" (place 0) or "coefficient" (in equation `place`) of a term."""

    part: str
    term: int
    place: int


@dataclass(frozen=True, eq=False)
class Terms:
    """Terms over d columns, states and then inputs: exponents W, inner exponents U, offsets log K, parities S.

    >>> decay = Terms.of([[1.0]])
    >>> decay.exponents.shape, len(decay), decay.saturates.tolist()
    ((1, 1), 1, [False])
    """

    exponents: Any  # (..., m, d)
    inner: Any  # (..., m, d)
    offsets: Any  # (..., m)
    parity: Any  # (..., m, d)

    @classmethod
    def of(cls, exponents: Any, inner: Any = None, offsets: Any = None, parity: Any = None) -> Terms:
        """Return terms in NumPy; what is not given is not there."""
        w = np.asarray(exponents, float)
        none = lambda v, shape: np.zeros(shape) if v is None else np.asarray(v, float)  # noqa: E731
        return cls(w, none(inner, w.shape), none(offsets, w.shape[:-1]), none(parity, w.shape))

    @classmethod
    def none(cls, d: int) -> Terms:
        """Return no terms over d columns."""
        return cls.of(np.zeros((0, d)))

    @classmethod
    def seeded(cls, d: int, above: Sequence[Mapping[int, float]], **parts: Any) -> Terms:
        """Return terms from powers by column; `inner` and `parity` likewise, `offsets` as numbers."""
        lay = lambda rows: np.array([[row.get(i, 0.0) for i in range(d)] for row in rows], float).reshape(-1, d)  # noqa: E731
        return cls.of(lay(above), **{k: np.array(v, float) if k == "offsets" else lay(v) for k, v in parts.items()})

    # Shape

    @property
    def arrays(self) -> tuple[Any, Any, Any, Any]:
        """The parts, in the order of `table`."""
        return self.exponents, self.inner, self.offsets, self.parity

    @property
    def d(self) -> int:
        """Number of columns."""
        return self.exponents.shape[-1]

    def __len__(self) -> int:
        return len(self.offsets)

    def map(self, change: Callable[[Any], Any]) -> Terms:
        """Apply `change` to every part."""
        return Terms(*map(change, self.arrays))

    def __getitem__(self, at: Any) -> Terms:
        """Return some terms, or lanes of them; `at` indexes the axes before the columns."""
        return self.map(lambda v: v[at])

    def copy(self) -> Terms:
        """Return terms that may be written to."""
        return self.map(lambda v: v.copy() if isinstance(v, np.ndarray) else v.clone())

    def join(self, *others: Terms, axis: int = 0) -> Terms:
        """Return these terms and others, end to end along an axis."""
        cat = np.concatenate if isinstance(self.offsets, np.ndarray) else torch.cat
        return Terms(*(cat(parts, axis) for parts in zip(self.arrays, *(o.arrays for o in others), strict=True)))

    def widen(self, d: int) -> Terms:
        """Return terms over d columns, the last of which none contains."""
        more = d - self.d
        if not more:
            return self
        wide = lambda v: np.pad(v, ((0, 0), (0, more)))  # noqa: E731
        return Terms(wide(self.exponents), wide(self.inner), self.offsets, wide(self.parity))

    def nothing(self) -> Terms:
        """Return falsehoods of the same shape: no number is free."""
        return self.map(lambda v: v != v)

    def torch(self, device: str | torch.device = "cpu") -> Terms:
        """Return the terms in torch."""
        return self.map(lambda v: torch.as_tensor(v, device=device))

    def numpy(self) -> Terms:
        """Return the terms in NumPy."""
        return self.map(lambda v: v.detach().cpu().numpy().copy())

    # What they are

    @property
    def saturates(self) -> Any:
        """Which terms have a denominator (..., m)."""
        return (self.inner != 0).any(-1)

    @property
    def bent(self) -> Any:
        """Which terms are no plain products of powers (..., m)."""
        return self.saturates | (self.parity != 0).any(-1)

    @property
    def effective(self) -> Any:
        """Powers (..., m, d) of a term's unit, and of the term itself far above K."""
        return self.exponents - self.inner

    def table(self) -> Any:
        """Return all parts side by side (..., m, c), for comparisons."""
        parts = self.exponents, self.inner, self.offsets[..., None], self.parity
        return np.concatenate(parts, -1) if isinstance(self.offsets, np.ndarray) else torch.cat(parts, -1)

    @classmethod
    def from_table(cls, table: Tensor, d: int) -> Terms:
        """Return the terms of a table in torch: views of its columns."""
        w, u, k, q = table.split([d, d, 1, d], -1)
        return cls(w, u, k[..., 0], q)

    def differences(self, other: Terms, offset: float = 1.0) -> Float[np.ndarray, "m n c"]:
        """Return by how much each of m terms differs from each of n others in every part, in log K times `offset`."""
        weighted = lambda terms: replace(terms, offsets=terms.offsets * offset).table()  # noqa: E731
        return np.abs(weighted(self)[:, None] - weighted(other))

    def gaps(self, other: Terms, offset: float = 1.0) -> Float[np.ndarray, "m n"]:
        """Return the largest of these differences."""
        return self.differences(other, offset).max(-1, initial=0.0)

    def like(self, other: Terms) -> np.ndarray:
        """Tell which of m terms have powers of the same columns as which of n others (m, n)."""
        pairs = zip((self.exponents, self.inner), (other.exponents, other.inner), strict=True)
        return np.logical_and.reduce([((one == 0)[:, None] == (two == 0)).all(-1) for one, two in pairs])

    def rounded(self, powers: int, offsets: int) -> Terms:
        """Return terms with powers, and log K, of so many decimals: what is alike becomes equal."""
        w, u, k, q = self.arrays
        return Terms(w.round(powers) + 0.0, u.round(powers) + 0.0, k.round(offsets) + 0.0, q)

    def distinct(self) -> Terms:
        """Return every term once, in a fixed order."""
        return self[np.unique(self.table(), axis=0, return_index=True)[1]]

    def plain(self) -> list[Terms]:
        """Return the terms without denominators as they are far below K, and far above it."""
        return [Terms.of(powers, parity=self.parity * 0) for powers in (self.exponents, self.effective)]

    def names(self) -> list[Number]:
        """Return the numbers that are not zero, or true, term by term; parities are none."""
        found: list[Number] = []
        for j, (w, u, k) in enumerate(zip(self.exponents, self.inner, self.offsets, strict=True)):
            found += [Number("exponent", j, int(i)) for i in np.flatnonzero(w)]
            found += [Number("inner", j, int(i)) for i in np.flatnonzero(u)]
            found += [Number("offset", j, 0)] if k else []
        return found

    # Which of their numbers may move

    def movable(self, positive: Any) -> Terms:
        """Tell which numbers may be real: exponents that are not zero, of positive states or of a size; every K."""
        w = (self.exponents != 0) & (positive | (self.parity != 0))
        return Terms(w, (self.inner != 0) & positive, self.saturates, self.parity != self.parity)

    def loosen(self, positive: Any) -> Terms:
        """Tell which numbers a search frees first: every exponent of a plain term, but only K where a term saturates."""
        loose, plain = self.movable(positive), ~self.saturates[..., None]
        return replace(loose, exponents=loose.exponents & plain, inner=loose.inner & plain)

    def only_k(self) -> Terms:
        """Tell which numbers are a K."""
        return replace(self.nothing(), offsets=self.saturates)

    def tidy(self, free: Terms) -> tuple[Terms, Terms]:
        """Clear log K where nothing is left of a denominator, and the parity where nothing is left of its power."""
        there = self.saturates
        parity = self.parity * (self.exponents != 0)
        terms = replace(self, offsets=np.where(there, self.offsets, 0.0), parity=parity)
        return terms, replace(free, offsets=free.offsets & there)

    # What they say of a point

    def evaluate(
        self, x: Float[Tensor, "lanes n d"], positive: Tensor, tiny: float
    ) -> tuple[Float[Tensor, "lanes n m"], Float[Tensor, "lanes n d"]]:
        """Return the terms at x and log|x|, with |x| clamped from below at `tiny`."""
        log_x = monomial.log_of(x, tiny)
        size = monomial.log_size(log_x, self.exponents)
        lane, term = self.saturates.nonzero(as_tuple=True)  # few do, and theirs is the dearest logarithm
        if len(lane):
            logs = log_x.expand(len(self), -1, -1)[lane]
            size.mT[lane, term] -= saturation.log_value(logs, self.inner[lane, term], self.offsets[lane, term])
        if bool(positive.all()):
            return monomial.value(size), log_x
        negative = ((x < 0) & ~positive).to(x.dtype)
        turns = magnitude.turns(self.exponents, self.parity, positive)
        return monomial.value(size, monomial.phase(negative, turns)), log_x

    def share(self, log_x: Float[Tensor, "lanes n d"]) -> Float[Tensor, "lanes n m"] | None:
        """Return s = x**u / (K + x**u) of each term, zero where it is plain; None where all are."""
        return saturation.share(log_x, self.inner, self.offsets) if bool(self.saturates.any()) else None

    # What they are in other units, and as symbols

    def in_units(self, scaling: Scales) -> Terms:
        """Return terms of scaled states as those of states in the user's units: powers stay, log K moves."""
        return self._rescale(np.log(scaling.states))

    def in_scale(self, scaling: Scales) -> Terms:
        """Return terms of states in the user's units as those of scaled states."""
        return self._rescale(-np.log(scaling.states))

    def _rescale(self, log_c: Float[np.ndarray, "d"]) -> Terms:
        return replace(self, offsets=saturation.rescale(self.inner, self.offsets, log_c))

    def symbols(self, x: Sequence[sp.Symbol]) -> list[sp.Expr]:
        """Return each term in the symbols x of the columns: the same units, asked for symbols."""
        return [_write(x, *row) for row in zip(*self.arrays, strict=True)]


def _write(x: Sequence[sp.Symbol], w: Any, u: Any, log_k: float, parity: Any) -> sp.Expr:
    """Return one term as a SymPy expression."""
    import sympy as sp

    factors = zip(x, w.tolist(), parity.tolist(), strict=True)
    sizes = [magnitude.symbols(xi, power, kind, as_power) for xi, power, kind in factors if kind]
    w = np.where(parity != 0, 0.0, w)
    if not u.any():
        return sp.Mul(*sizes, monomial.symbols(x, w, as_power))
    k = as_number(float(f"{np.exp(log_k):.14g}"))
    return sp.Mul(*sizes, saturation.symbols(x, w.tolist(), u.tolist(), k, as_power))


def stack_terms(many: Iterable[Terms]) -> Terms:
    """Return terms in lanes, padded alike with terms that are nothing (NumPy)."""
    many = list(many)
    width = max(len(t) for t in many)
    pad = lambda v: np.pad(v, ((0, width - len(v)), *[(0, 0)] * (v.ndim - 1)))  # noqa: E731
    return Terms(*(np.stack([pad(v) for v in parts]) for parts in zip(*(t.arrays for t in many), strict=True)))


__all__ = ["Number", "Terms", "stack_terms"]
