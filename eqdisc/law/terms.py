r"""Terms in lanes: the parameters of a RealNPU -> NAU chain whose gates are binary, and of the deeper chain where terms saturate.

    dx_e/dt = sum_j A[j, e] m_j(x),     m_j(x) = prod_i |x_i|**W[j, i] * s(x) / (K_j + prod_i |x_i|**U[j, i]),

with s(x) = (-1)**(number of odd powers of negative states): states that change sign carry whole exponents, for
which the joint phase cos(pi sum_i w_i [x_i < 0]) of the RealNPU is that sign. The denominator is there only where a term
saturates, that is where U[j] is not zero (Michaelis-Menten, Holling, Hill); it is positive everywhere, so no law has a pole.
Exponents W and coefficients A lead with a lane axis; lanes with fewer terms are padded with terms that no equation uses.

A term is a row: of d numbers, w, or of 3 d + 1, [w, u, log K, q], zeros beyond w in plain terms. Where q_i is not zero, state i may
change sign and w_i be any real number: q_i = 1 makes it sign(x)|x|**w, q_i = 2 makes it |x|**w (x (x**2)**((w - 1) / 2) and (x**2)**(w / 2),
products of real powers behind a square).
With the saturation s = x**u / (K + x**u), between 0 and 1,

    d log m / d log x = w - s u,     d log m / d u = -s log x,     d log m / d log K = -(1 - s).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..units.chain import Chain


@dataclass(frozen=True, eq=False)
class Terms:
    """R lanes of m terms over d states; a coefficient that is exactly zero is not there.

    >>> decay = Terms.of([(np.array([[1.0]]), np.array([[-0.5]]), None)])
    >>> decay.exponents.shape, decay.lanes
    (torch.Size([1, 1, 1]), 1)
    """

    exponents: Float[Tensor, "lanes m c"]  # c columns: d, or 3 d + 1
    coefficients: Float[Tensor, "lanes m d"]
    free: Bool[Tensor, "lanes m c"]  # exponents that are estimated; the others stand at a chosen value
    flux: Float[Tensor, "lanes m d d"] | None = (
        None  # [j, e] is how all coefficients of term j move with that of equation e
    )

    @classmethod
    def of(cls, models: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray | None]], device: str = "cpu") -> Terms:
        """Stack models (exponents (m, c), coefficients (m, d), free (m, c) or None for none) as lanes, padded alike."""
        width, d = max(len(w) for w, _, _ in models), models[0][1].shape[1]
        columns = max(w.shape[1] for w, _, _ in models)
        w, a = np.zeros((len(models), width, columns)), np.zeros((len(models), width, d))
        free = np.zeros((len(models), width, columns), bool)
        for lane, (exponents, coefficients, loose) in enumerate(models):
            m, c = exponents.shape
            w[lane, :m, :c], a[lane, :m] = exponents, coefficients
            free[lane, :m, :c] = False if loose is None else loose
        return cls(*(torch.as_tensor(v, device=device) for v in (w, a, free)))

    @property
    def lanes(self) -> int:
        return self.exponents.shape[0]

    @property
    def support(self) -> Bool[Tensor, "lanes m d"]:
        """Coefficients that are there."""
        return self.coefficients != 0

    def select(self, lanes: Tensor | slice) -> Terms:
        """Return those lanes."""
        flux = None if self.flux is None else self.flux[lanes]
        return Terms(self.exponents[lanes], self.coefficients[lanes], self.free[lanes], flux)

    @property
    def directions(self) -> Float[Tensor, "lanes m d d"]:
        """How the coefficients of a term move with each of them: alone, unless some are tied."""
        a = self.coefficients
        eye = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
        return eye.expand(*a.shape, -1) if self.flux is None else self.flux

    def model(self, lane: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return one lane in NumPy without its padding: exponents (m, c), coefficients (m, d), free (m, c)."""
        used = self.support[lane].any(-1)
        w, a, free = (v[lane][used].cpu().numpy().copy() for v in (self.exponents, self.coefficients, self.free))
        return w, a, free

    def chain(self, lane: int) -> Chain:
        """Return one lane as the chain that it is: RealNPU units with open gates and NAUs."""
        w, a, _ = self.model(lane)
        return Chain.from_terms(torch.as_tensor(w)[None], torch.as_tensor(a)[None])


@dataclass(frozen=True, eq=False)
class Parameters:
    """The free numbers of each lane: entry `state` of the row of `term`, or coefficient of `term` in equation `state`."""

    term: Int[Tensor, "R P"]
    state: Int[Tensor, "R P"]
    is_exponent: Bool[Tensor, "R P"]
    valid: Bool[Tensor, "R P"]

    @classmethod
    def of(cls, terms: Terms, positive: Tensor) -> Parameters:
        """Name the free exponents of terms that are used, then the coefficients that are there."""
        used = terms.support.any(-1, keepdim=True)
        leads = terms.directions.diagonal(dim1=-2, dim2=-1) != 0  # the others follow another equation's coefficient
        rows = (terms.free & used & movable(terms.exponents, positive)).flatten(1)
        flat = torch.cat([rows, (terms.support & leads).flatten(1)], 1)
        most = max(int(flat.sum(1).max()), 1)
        order = (~flat).to(torch.int8).argsort(dim=-1, stable=True)[:, :most]
        is_exponent = order < rows.shape[1]
        place = torch.where(is_exponent, order, order - rows.shape[1])
        width = torch.where(is_exponent, terms.exponents.shape[-1], terms.coefficients.shape[-1])
        return cls(place // width, place % width, is_exponent, flat.gather(1, order))

    def select(self, lanes: Tensor | slice) -> Parameters:
        """Return those lanes."""
        return Parameters(self.term[lanes], self.state[lanes], self.is_exponent[lanes], self.valid[lanes])


def monomials(
    exponents: Float[Tensor, "lanes m c"], x: Float[Tensor, "lanes n d"], positive: Bool[Tensor, "d"], tiny: float
) -> tuple[Float[Tensor, "lanes n m"], Float[Tensor, "lanes n d"]]:
    """Return the terms at x and log|x|, with |x| clamped from below at `tiny` (zero to a power, as mathematics wants)."""
    d = x.shape[-1]
    log_x = x.abs().clamp_min(tiny).log()
    log_size = log_x @ exponents[..., :d].mT
    if exponents.shape[-1] > d:
        lane, term = saturating(exponents, d).nonzero(as_tuple=True)  # few are, and theirs is the dearest logarithm
        rows, logs = exponents[lane, term, None], log_x.expand(len(exponents), -1, -1)[lane]
        log_size.mT[lane, term] -= torch.logaddexp(rows[..., 2 * d], (logs @ rows[..., d : 2 * d].mT)[..., 0])
    size = log_size.clamp(-40.0, 40.0).exp()
    if not bool(positive.all()):
        whole = torch.where(positive, 0.0, exponents[..., :d]).round()
        if exponents.shape[-1] > d:
            parity = exponents[..., 2 * d + 1 :]
            whole = torch.where(parity != 0, parity, whole)
        odd = ((x < 0) & ~positive).to(x.dtype) @ whole.mT
        size = size * torch.cos(torch.pi * odd)  # the joint phase; exactly 1 or -1 at whole numbers
    return size, log_x


def saturating(rows: Any, d: int) -> Any:
    """Tell which terms, rows (..., c), have a denominator (NumPy or torch)."""
    return (rows[..., d : 2 * d] != 0).any(-1)


def saturation(rows: Float[Tensor, "lanes m c"], log_x: Float[Tensor, "lanes n d"]) -> Float[Tensor, "lanes n m"]:
    """Return s = x**u / (K + x**u) of each term, zero where it is plain."""
    d = log_x.shape[-1]
    share = torch.sigmoid(log_x @ rows[..., d : 2 * d].mT - rows[..., None, :, 2 * d])
    return torch.where(saturating(rows, d)[..., None, :], share, 0.0)


def log_slope(logs: Tensor, share: Tensor, column: Tensor, d: int) -> Tensor:
    """Return d log m / d (row entry in `column`) from log x of its state, or -log x, or -1 (`log_table`), and the term's saturation."""
    return logs * torch.where(column < d, 1.0, torch.where(column < 2 * d, share, 1.0 - share))


def log_table(log_x: Float[Tensor, "... n d"], columns: int) -> Float[Tensor, "... n c"]:
    """Return what `log_slope` takes for each column of a row."""
    if columns == log_x.shape[-1]:
        return log_x
    return torch.cat([log_x, -log_x, -torch.ones_like(log_x[..., :1]), torch.zeros_like(log_x)], -1)


def movable(rows: Any, positive: Any) -> Any:
    """Tell which entries of rows (..., c) may be real numbers (NumPy or torch).

    Exponents that are not zero, of positive states or beside a q; and every K.
    """
    d = len(positive)
    loose = rows != 0
    if rows.shape[-1] == d:
        return loose & positive
    loose[..., :d] &= positive | (rows[..., 2 * d + 1 :] != 0)
    loose[..., d : 2 * d] &= positive
    loose[..., 2 * d] = saturating(rows, d)
    loose[..., 2 * d + 1 :] = False
    return loose


def loosen(rows: Any, positive: Any) -> Any:
    """Tell which entries a search frees first: every exponent of a plain term, but only K where a term saturates (NumPy or torch)."""
    d = len(positive)
    loose = movable(rows, positive)
    if rows.shape[-1] > d:
        loose[..., : 2 * d] &= ~saturating(rows, d)[..., None]
    return loose


def only_k(rows: np.ndarray, d: int) -> np.ndarray:
    """Tell which entries are a K."""
    loose = np.zeros_like(rows, bool)
    if rows.shape[-1] > d:
        loose[..., 2 * d] = saturating(rows, d)
    return loose


def widen(rows: np.ndarray, columns: int) -> np.ndarray:
    """Append zeros to rows (m, c) up to that many columns: plain terms among saturating ones."""
    return np.pad(rows, ((0, 0), (0, max(0, columns - rows.shape[1]))))


def tidy(rows: np.ndarray, free: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Clear log K where nothing is left of a denominator, and q where nothing is left of its power."""
    if rows.shape[1] > d:
        rows, free, plain = rows.copy(), free.copy(), ~saturating(rows, d)
        rows[plain, 2 * d], free[plain, 2 * d] = 0.0, False
        rows[:, 2 * d + 1 :] *= rows[:, :d] != 0
    return rows, free
