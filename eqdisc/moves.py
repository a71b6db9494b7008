r"""Moves: every small change of a law, each with the change in description length that its sensitivities foretell.

With H the Gauss-Newton matrix over the law's own numbers p and over trial numbers q (fixed exponents, coefficients
that are not there) and g the gradient, a trial number gains g~**2 / 2 S with S = H_qq - H_qp C H_pq, C = H_pp^-1,
g~ = g_q - H_qp C g_p, and a number of the law that is moved by delta costs delta**2 / 2 C_pp.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from .collocation import Collocation, Parameters
from .description import Judge
from .laws import Law, Solved, close_sum, release, without_padding
from .terms import Terms

ADDITIONS = 6  # trial terms that are tried; four times as many enter swaps


class Neighbourhood:
    """The moves around one solved law."""

    def __init__(self, engine: Collocation, judge: Judge, solved: Solved, library: np.ndarray) -> None:
        self.judge, self.prior, self.ln = judge, judge.prior, 0.5 * judge.log_n
        self.w, self.a, self.free = without_padding(solved.law)
        self.d = self.a.shape[1]
        self.positive = engine.positive.cpu().numpy()
        self.trial_w = np.vstack([self.w, library])
        self.x = solved.fit.x[0].cpu().numpy().reshape(-1, self.d)
        device = solved.fit.x.device
        terms = Terms.of([(self.w, self.a, self.free)], device=str(device))
        released = release(terms, engine.positive)
        index = Parameters.of(released, engine.positive)
        extra = torch.as_tensor(self.trial_w, device=device)
        columns = engine.propagate(terms, index, solved.fit.x, extra)
        h, g, _ = engine.normal(torch.nan_to_num(columns), solved.fit.x, solved.fit.sigma)
        self._split(h[0].cpu().numpy(), g[0].cpu().numpy(), index)

    def _split(self, h: np.ndarray, g: np.ndarray, index: Parameters) -> None:
        """Sort the numbers into the law's own, its fixed exponents, and trial coefficients."""
        kind, term, state = (v[0].cpu().numpy() for v in (index.is_exponent, index.term, index.state))
        count = len(kind)
        own = np.array([not kind[q] or self.free[term[q], state[q]] for q in range(count)], bool)
        self.numbers = [(bool(kind[q]), int(term[q]), int(state[q])) for q in range(count) if own[q]]
        self.fixed = [(int(term[q]), int(state[q])) for q in range(count) if not own[q]]
        p, f, t = np.flatnonzero(own), np.flatnonzero(~own), np.arange(count, len(g))
        self.h, self.g = h, g
        self.p, self.t = p, t
        size = np.sqrt(np.maximum(np.diag(h)[p], 0)) + 1e-300
        unit = h[np.ix_(p, p)] / size[:, None] / size + 1e-10 * np.eye(len(p))
        self.c = np.linalg.pinv(np.nan_to_num(unit), hermitian=True) / size[:, None] / size
        self.fixed_gain, _ = self._gains(f)
        self.trial_gain, self.trial_value = self._gains(t)

    def _gains(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return half the fall in chi-square from each trial number alone, and its value."""
        cross = self.h[np.ix_(self.p, q)]
        schur = np.diag(self.h)[q] - np.einsum("pq,pr,rq->q", cross, self.c, cross)
        slope = self.g[q] - cross.T @ (self.c @ self.g[self.p])
        ok = schur > 1e-7 * np.diag(self.h)[q]
        schur = np.where(ok, schur, 1.0)
        return np.where(ok, 0.5 * slope**2 / schur, 0.0), np.where(ok, slope / schur, 0.0)

    def __iter__(self) -> Iterator[tuple[float, Law]]:
        yield from self._free()
        yield from self._fix()
        yield from self._drop()
        yield from self._merge()
        yield from self._add_and_swap()
        yield from self._close()
        yield from self._substitute()

    def _price(self, w: np.ndarray, free: np.ndarray) -> float:
        return self.prior.term_price(w, free, self.judge.log_n)

    def _free(self) -> Iterator[tuple[float, Law]]:
        for q, (j, i) in enumerate(self.fixed):
            free = self.free.copy()
            free[j, i] = True
            if self.fixed_gain[q] > 0.5:
                change = self._price(self.w[j], free[j]) - self._price(self.w[j], self.free[j]) - self.fixed_gain[q]
                yield min(change, 2.5), (self.w, self.a, free)
        if self.fixed:
            yield 2.9, (self.w, self.a, self.free | ((self.w != 0) & self.positive))

    def _fix(self) -> Iterator[tuple[float, Law]]:
        eager: dict[tuple[int, int], tuple[float, float]] = {}
        for q, (is_exponent, j, i) in enumerate(self.numbers):
            if not is_exponent:
                continue
            for z in self.prior.nearest(self.w[j, i]):
                w, free = self.w.copy(), self.free.copy()
                w[j, i], free[j, i] = z, False
                cost = 0.5 * (self.w[j, i] - z) ** 2 / max(self.c[q, q], 1e-300)
                change = cost + self._price(w[j], free[j]) - self._price(self.w[j], self.free[j])
                if change < eager.get((j, i), (0.0, 0.0))[0]:
                    eager[j, i] = (change, z)
                yield change, (w, self.a, free)
        if len(eager) > 1:
            w, free = self.w.copy(), self.free.copy()
            for (j, i), (_, z) in eager.items():
                w[j, i], free[j, i] = z, False
            yield sum(c for c, _ in eager.values()), (w, self.a, free)

    def _drop(self) -> Iterator[tuple[float, Law]]:
        for q, (is_exponent, j, e) in enumerate(self.numbers):
            if not is_exponent:
                a = self.a.copy()
                a[j, e] = 0.0
                yield 0.5 * self.a[j, e] ** 2 / max(self.c[q, q], 1e-300) - self._saved(j), (self.w, a, self.free)

    def _saved(self, j: int) -> float:
        """Nats saved by dropping one coefficient of term j."""
        last = (self.a[j] != 0).sum() == 1
        return self.ln + 0.5 + (self._price(self.w[j], self.free[j]) if last else 1.5)

    def _merge(self) -> Iterator[tuple[float, Law]]:
        for j in range(len(self.w)):
            for k in range(len(self.w)):
                apart = not ((self.a[j] != 0) & (self.a[k] != 0)).any()
                if j != k and apart and np.abs(self.w[j] - self.w[k]).max() < 0.4:
                    a = self.a.copy()
                    a[k] += a[j]
                    a[j] = 0.0
                    yield -2.0 - 0.7 * self._price(self.w[j], self.free[j]), (self.w, a, self.free)

    def _add_and_swap(self) -> Iterator[tuple[float, Law]]:
        count, added = len(self.trial_w), 0
        own = len(self.w)
        for o in np.argsort(-self.trial_gain)[: 4 * ADDITIONS]:
            e, place = divmod(int(o), count)
            row = self.trial_w[place]
            same = place if place < own else next((j for j in range(own) if np.abs(self.w[j] - row).max() < 0.03), None)
            if same is not None and self.a[same, e] != 0:
                continue
            law, cost = self._with(row, e, self.trial_value[o], same)
            change = cost - self.trial_gain[o]
            if change < 0 and added < ADDITIONS:
                added += 1
                yield 0.5 * change, law
            yield from self._swaps(o, e, law, cost)

    def _with(self, row: np.ndarray, e: int, value: float, same: int | None) -> tuple[Law, float]:
        """Return the law with one more coefficient, and what that costs."""
        if same is not None:
            a = self.a.copy()
            a[same, e] = value
            return (self.w, a, self.free), self.ln + 2.0
        a = np.vstack([self.a, np.where(np.arange(self.d) == e, value, 0.0)])
        free = np.vstack([self.free, (row != 0) & self.positive])
        return (np.vstack([self.w, row]), a, free), self.ln + 0.5 + self._price(row, np.zeros_like(row, bool))

    def _swaps(self, o: int, e: int, law: Law, cost: float) -> Iterator[tuple[float, Law]]:
        """Add trial coefficient o, drop another of the same equation."""
        if self.trial_gain[o] <= 0:
            return
        index = np.r_[self.p, self.t[o]]
        size = np.sqrt(np.maximum(np.diag(self.h)[index], 0)) + 1e-300
        unit = self.h[np.ix_(index, index)] / size[:, None] / size + 1e-10 * np.eye(len(index))
        c = np.linalg.pinv(np.nan_to_num(unit), hermitian=True) / size[:, None] / size
        move = c @ self.g[index]
        for q, (is_exponent, j, equation) in enumerate(self.numbers):
            if is_exponent or equation != e:
                continue
            lost = 0.5 * (self.a[j, e] + move[q]) ** 2 / max(c[q, q], 1e-300)
            change = cost - self.trial_gain[o] + lost - self._saved(j)
            if change < 2.0:
                a = law[1].copy()
                a[j, e] = 0.0
                yield change, (law[0], a, law[2])

    def _substitute(self) -> Iterator[tuple[float, Law]]:
        """Use a conserved sum c . x = C to trade one linear or constant term of an equation for the others."""
        for c in self.judge.invariants:
            weights = c * self.judge.factors
            total = float((self.x @ weights).mean())
            law = _with_linear_terms(self.w, self.a, self.free)
            linear = {i: int(np.flatnonzero((law[0] == row).all(1))[0]) for i, row in enumerate(np.eye(self.d)) if c[i]}
            constant = int(np.flatnonzero((law[0] == 0).all(1))[0])
            shares = {j: weights[i] for i, j in linear.items()} | {constant: -total}
            for e in range(self.d):
                for j, share in shares.items():
                    if law[1][j, e] != 0:
                        yield -2.0, _traded(law, shares, j, e, law[1][j, e] / share)

    def _close(self) -> Iterator[tuple[float, Law]]:
        for c in self.judge.invariants:
            for e in map(int, np.flatnonzero(c)):
                closed = close_sum((self.w, self.a, self.free), c, e, self.judge.factors)
                if (closed[1][:, e] != 0).any() and ((closed[1][:, e] != 0) != (self.a[:, e] != 0)).any():
                    yield -2.0, closed


def _with_linear_terms(w: np.ndarray, a: np.ndarray, free: np.ndarray) -> Law:
    """Return the law with a row for every state alone and one for a constant, used or not."""
    d = a.shape[1]
    missing = np.array([row for row in (*np.eye(d), np.zeros(d)) if not (w == row).all(1).any()]).reshape(-1, d)
    none = np.zeros_like(missing)
    return np.vstack([w, missing]), np.vstack([a, none]), np.vstack([free, none.astype(bool)])


def _traded(law: Law, shares: dict[int, float], gone: int, e: int, amount: float) -> Law:
    """Take `amount` times (c . x - C) from equation e, so that term `gone` vanishes; what nearly cancels goes with it."""
    w, a, free = law
    a = a.copy()
    for j, share in shares.items():
        a[j, e] -= amount * share
        if j == gone or abs(a[j, e]) < 0.1 * abs(amount * share):
            a[j, e] = 0.0
    return w, a, free
