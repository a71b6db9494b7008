r"""Moves: every small change of a law, each with the change in description length that its sensitivities foretell.

With H the Gauss-Newton matrix over the law's own numbers p and over trial numbers q (fixed exponents, coefficients
that are not there) and g the gradient, a trial number gains g~**2 / 2 S with S = H_qq - H_qp C H_pq, C = H_pp^-1,
g~ = g_q - H_qp C g_p, and a number of the law that is moved by delta costs delta**2 / 2 C_pp.

Several terms at once: with every other number eliminated, chi-square / 2 is b R b / 2 - s b in the coefficients b of one equation,
those that are there (at their values) and those that might be (at zero). Each subset is a small linear system, so all exchanges of up to
two terms for two, and all sets of up to three, are ranked in milliseconds: proposals judged by a step of the trajectory fit.

What no such form foretells is one term of new exponents in the place of two; it starts where it has their sum and slope, and is tried.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from ..fit.collocation import Collocation
from ..fit.solved import Solved
from ..law.law import Law, close_sum, without_padding
from ..law.price import Judge
from ..law.terms import Parameters, Terms, loosen, movable, only_k, saturating, widen

MOST_OWN = 7  # terms of an equation beyond which none are exchanged
CANDIDATES = 8  # trial terms that gain most with each of the equation's terms left out
EXCHANGES = 10  # of each equation that are tried
PAIRS = 6  # of exponents, fixed together, that are tried; and single ones that are moved
VALLEY = 0.9  # correlation of two exponents from which one can make up for the other
LEFT = 0.3  # of the larger of two terms, what their sum must be for one to stand in their place
REACH = 0.7  # by which an exponent may move when two are fixed together, or a fixed one is moved
ADDITIONS = 6  # trial terms that are tried; four times as many enter swaps


class Neighbourhood:
    """The moves around one solved law."""

    def __init__(
        self, engine: Collocation, judge: Judge, solved: Solved, library: np.ndarray, crossed: bool = False
    ) -> None:
        self.judge, self.prior, self.ln = judge, judge.prior, 0.5 * judge.log_n
        w, self.a, free = without_padding(solved.law)
        self.d, columns = self.a.shape[1], max(w.shape[1], library.shape[1])
        self.w, self.free = widen(w, columns), widen(free, columns)
        self.positive = engine.positive.cpu().numpy()
        self.trial_w = np.vstack([self.w, widen(library, columns)])
        self.x = solved.fit.x[0].cpu().numpy().reshape(-1, self.d)
        device = solved.fit.x.device
        terms = Terms.of([(self.w, self.a, self.free)], device=str(device))
        terms = terms if judge.knowledge is None else judge.knowledge.hold(terms)
        released = replace(terms, free=movable(terms.exponents, engine.positive))
        index = Parameters.of(released, engine.positive)
        extra = torch.as_tensor(self.trial_w, device=device)
        h, g = engine.gauge(terms, index, solved.fit.x, solved.fit.sigma, extra, crossed)
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
        self.p, self.f, self.t = p, f, t
        self.c = invert(h[np.ix_(p, p)])
        self.fixed_gain, _ = self._gains(f)
        self.trial_gain, self.trial_value = self._gains(t)
        self.open = np.ones((len(t) // len(self.trial_w), len(self.trial_w)), bool)  # (equations, trial terms)
        if self.judge.knowledge is not None:
            self.open = np.stack([self.judge.knowledge.allowed(self.trial_w, e) for e in range(len(self.open))])
            self.trial_gain = np.where(self.open.ravel(), self.trial_gain, 0.0)

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
        yield from sorted(self._fix_pairs(), key=lambda m: m[0])[:PAIRS]
        yield from sorted(self._shift(), key=lambda m: m[0])[:PAIRS]
        yield from self._drop()
        yield from self._merge()
        yield from self._blend()
        yield from self._add_and_swap()
        yield from self._without_bar()
        yield from self._close()
        yield from self._substitute()

    def price(self, w: np.ndarray, free: np.ndarray) -> float:
        return self.prior.term_price(w, free, self.judge.log_n)

    def _free(self) -> Iterator[tuple[float, Law]]:
        for q, (j, i) in enumerate(self.fixed):
            free = self.free.copy()
            free[j, i] = True
            if self.fixed_gain[q] > 0.5:
                change = self.price(self.w[j], free[j]) - self.price(self.w[j], self.free[j]) - self.fixed_gain[q]
                yield min(change, 2.5), (self.w, self.a, free)
        if self.fixed:
            yield 2.9, (self.w, self.a, self.free | loosen(self.w, self.positive))

    def _fix(self) -> Iterator[tuple[float, Law]]:
        eager: dict[tuple[int, int], tuple[float, float]] = {}
        for q, (is_exponent, j, i) in enumerate(self.numbers):
            if not is_exponent or i == 2 * self.d or self.d - self.prior.grouped <= i < self.d:
                continue
            for z in self.prior.nearest(self.w[j, i]):
                w, free = self.w.copy(), self.free.copy()
                w[j, i], free[j, i] = z, False
                cost = _cost(self.w[j, i] - z, self.c[q, q])
                change = cost + self.price(w[j], free[j]) - self.price(self.w[j], self.free[j])
                if change < eager.get((j, i), (0.0, 0.0))[0]:
                    eager[j, i] = (change, z)
                yield change, (w, self.a, free)
        if len(eager) > 1:
            w, free = self.w.copy(), self.free.copy()
            for (j, i), (_, z) in eager.items():
                w[j, i], free[j, i] = z, False
            yield sum(c for c, _ in eager.values()), (w, self.a, free)

    def _fix_pairs(self) -> Iterator[tuple[float, Law]]:
        """Fix two exponents of one equation at once, where one can make up for the other: rounded alone, each would lose."""
        places = {(j, i): self.p[q] for q, (is_exponent, j, i) in enumerate(self.numbers) if is_exponent}
        places |= dict(zip(self.fixed, self.f, strict=True))
        menus = {
            (j, i): [z for z in self.prior.menu if z != 0 and abs(z - self.w[j, i]) < REACH]
            for j, i in places
            if i < self.d - self.prior.grouped and self.positive[i]
        }
        price = {q: np.array([self.prior.price(z, False, self.judge.log_n) for z in menus[q]]) for q in menus}
        price_now = {q: self.prior.price(self.w[q], bool(self.free[q]), self.judge.log_n) for q in menus}
        shared = (self.a != 0).astype(int) @ (self.a != 0).T > 0  # terms that stand in one equation
        for one, other in itertools.combinations(menus, 2):
            if not shared[one[0], other[0]]:
                continue
            pair = np.array([places[one], places[other]])
            r, slope = self.eliminate(np.setdiff1d(self.p, pair), pair)
            if r[0, 1] ** 2 < VALLEY**2 * r[0, 0] * r[1, 1]:
                continue
            z = np.array(list(itertools.product(menus[one], menus[other]))).reshape(-1, 2)
            step = z - [self.w[one], self.w[other]]
            prices = np.add.outer(price[one], price[other]).ravel() - price_now[one] - price_now[other]
            change = 0.5 * np.einsum("kp,pq,kq->k", step, r, step) - step @ slope + prices
            for k in np.argsort(change)[:PAIRS]:
                if (z[k] != [self.w[one], self.w[other]]).all():
                    w, free = self.w.copy(), self.free.copy()
                    w[one], w[other] = z[k]
                    free[one] = free[other] = False
                    yield float(change[k]), (w, self.a, free)

    def _shift(self) -> Iterator[tuple[float, Law]]:
        """Move one exponent from its simple value to another; all other numbers follow."""
        for (j, i), q in zip(self.fixed, self.f, strict=True):
            if i >= self.d - self.prior.grouped or not self.positive[i]:
                continue
            r, slope = self.eliminate(self.p, np.array([q]))
            now = self.prior.price(self.w[j, i], False, self.judge.log_n)
            for z in self.prior.menu:
                step = z - self.w[j, i]
                if z != 0 and 1e-9 < abs(step) < REACH:
                    w = self.w.copy()
                    w[j, i] = z
                    change = 0.5 * float(r[0, 0]) * step**2 - float(slope[0]) * step
                    yield change + self.prior.price(z, False, self.judge.log_n) - now, (w, self.a, self.free)

    def _drop(self) -> Iterator[tuple[float, Law]]:
        for q, (is_exponent, j, e) in enumerate(self.numbers):
            if not is_exponent:
                a = self.a.copy()
                a[j, e] = 0.0
                yield _cost(self.a[j, e], self.c[q, q]) - self._saved(j), (self.w, a, self.free)

    def _without_bar(self) -> Iterator[tuple[float, Law]]:
        """Make a term that saturates plain: what it is far below K, and far above."""
        for j in np.flatnonzero(saturating(self.w, self.d)):
            for above in (self.w[j, : self.d], self.w[j, : self.d] - self.w[j, self.d : 2 * self.d]):
                w, free = self.w.copy(), self.free.copy()
                w[j], free[j] = 0.0, False
                w[j, : self.d] = above
                yield self.price(w[j], free[j]) - self.price(self.w[j], self.free[j]), (w, self.a, free)

    def _saved(self, j: int) -> float:
        """Nats saved by dropping one coefficient of term j."""
        last = (self.a[j] != 0).sum() == 1
        return self.ln + 0.5 + (self.price(self.w[j], self.free[j]) if last else 1.5)

    def _merge(self) -> Iterator[tuple[float, Law]]:
        for j in range(len(self.w)):
            for k in range(len(self.w)):
                apart = not ((self.a[j] != 0) & (self.a[k] != 0)).any()
                if j != k and apart and np.abs(self.w[j] - self.w[k]).max() < 0.4:
                    a = self.a.copy()
                    a[k] += a[j]
                    a[j] = 0.0
                    yield -2.0 - 0.7 * self.price(self.w[j], self.free[j]), (self.w, a, self.free)

    def _blend(self) -> Iterator[tuple[float, Law]]:
        """Put one term of free exponents in the place of two of one equation: it has their sum, and its slope, at the middle of the data."""
        middle = np.log(np.maximum(np.abs(self.x), 1e-6)).mean(0)
        fitted = self.positive[: self.d] & (np.arange(self.d) < self.d - self.prior.grouped)
        plain = (self.w[:, self.d :] == 0).all(1)
        for e in range(self.d):
            for j, k in itertools.combinations(np.flatnonzero((self.a[:, e] != 0) & plain), 2):
                w = self.w[[j, k], : self.d]
                value, apart = self.a[[j, k], e] * np.exp(w @ middle), w[0] != w[1]
                if (apart & ~fitted).any() or abs(value.sum()) < LEFT * np.abs(value).max():
                    continue
                row = value @ w / value.sum()
                if np.abs(w - row).max(1).min() > REACH:
                    continue
                a = np.vstack([self.a, np.zeros(self.d)])
                a[[j, k], e] = 0.0
                a[-1, e] = value.sum() / np.exp(row @ middle)
                rows, free = (widen(v[None], self.w.shape[1]) for v in (row, apart))
                yield 0.0, (np.vstack([self.w, rows]), a, np.vstack([self.free, free]))

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
        free = np.vstack([self.free, loosen(row[None], self.positive)])
        return (np.vstack([self.w, row]), a, free), self.ln + 0.5 + self.price(row, np.zeros_like(row, bool))

    def _swaps(self, o: int, e: int, law: Law, cost: float) -> Iterator[tuple[float, Law]]:
        """Add trial coefficient o, drop another of the same equation."""
        if self.trial_gain[o] <= 0:
            return
        index = np.r_[self.p, self.t[o]]
        c = invert(self.h[np.ix_(index, index)])
        move = c @ self.g[index]
        for q, (is_exponent, j, equation) in enumerate(self.numbers):
            if is_exponent or equation != e:
                continue
            lost = _cost(self.a[j, e] + move[q], c[q, q])
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
            rows = widen(np.eye(self.d), law[0].shape[1])
            linear = {i: int(np.flatnonzero((law[0] == row).all(1))[0]) for i, row in enumerate(rows) if c[i]}
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

    # ---------------------------------------------------------------- several at once

    def exchanges(self) -> list[tuple[float, Law]]:
        """Foretell exchanges of several terms of one equation for others, the best first.

        With all other numbers eliminated the likelihood is a quadratic form in the coefficients of one equation, those that are
        there and those that might be; every subset is one small linear system.
        """
        found = [exchange for e in range(self.d) for exchange in self._exchanges_in(e)]
        return sorted(found, key=lambda m: m[0])

    def _exchanges_in(self, e: int) -> Iterator[tuple[float, Law]]:
        own = [q for q, (is_exponent, _, equation) in enumerate(self.numbers) if not is_exponent and equation == e]
        if not own or len(own) > MOST_OWN:
            return
        terms = [self.numbers[q][1] for q in own]
        places = self._candidates(e, terms)
        here = np.r_[self.p[own], self.t[e * len(self.trial_w) + places]]
        r, slope = self.eliminate(np.delete(self.p, own), here)
        b = np.r_[self.a[terms, e], np.zeros(len(places))]
        slope = slope + r @ b
        now = 0.5 * b @ r @ b - slope @ b
        added = [self._with(self.trial_w[q], e, 1.0, self._same(q)) for q in places]
        price = np.r_[[self._saved(j) for j in terms], [cost for _, cost in added]]
        options = []
        k = len(own)
        for kept, fresh in _subsets(k, len(places)):
            on = np.c_[np.repeat(kept, len(fresh), 0), np.tile(fresh, (len(kept), 1))]
            if not on.shape[1]:
                continue
            value = np.linalg.solve(
                r[on[:, :, None], on[:, None]] + 1e-9 * np.eye(on.shape[1]) * r[on, on][..., None], slope[on][..., None]
            )[..., 0]
            change = -0.5 * (slope[on] * value).sum(1) - now
            change += price[on[:, kept.shape[1] :]].sum(1) - price[:k].sum() + price[on[:, : kept.shape[1]]].sum(1)
            best = np.argsort(change)[:EXCHANGES]
            options += [(float(change[q]), on[q], value[q]) for q in best if np.isfinite(change[q])]
        for change, on, value in sorted(options, key=lambda o: o[0])[:EXCHANGES]:
            yield change, self._exchanged(e, terms, places, on, value)

    def _candidates(self, e: int, terms: list[int]) -> np.ndarray:
        """Return the trial terms of equation e that gain most, alone or in the place of one that is there."""
        count, used = len(self.trial_w), self.a[:, e] != 0
        new = np.array([not any(np.abs(self.w[j] - row).max() < 0.03 for j in terms) for row in self.trial_w])
        new[: len(self.w)] &= ~used
        new &= self.open[e]
        at = self.t[e * count : (e + 1) * count]
        gains = [self.trial_gain[e * count : (e + 1) * count]]
        own = [q for q, (is_exponent, _, equation) in enumerate(self.numbers) if not is_exponent and equation == e]
        for gone in [*([q] for q in own), own] if len(own) > 1 else [own]:
            r, slope = self.eliminate(np.delete(self.p, gone), np.r_[self.p[gone], at])
            k = len(gone)
            slope = slope[k:] + r[k:, :k] @ self.a[[self.numbers[q][1] for q in gone], e]
            size = np.diag(r)[k:]
            ok = size > 1e-7 * np.diag(self.h)[at]
            gains.append(np.where(ok, 0.5 * slope**2 / np.where(ok, size, 1.0), 0.0))
        best = np.argsort(-np.where(new, np.array(gains), -1.0), axis=1)[:, :CANDIDATES]
        return np.array([q for q in np.unique(best) if new[q]], int)

    def eliminate(self, gone: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return H and g over `kept` with the numbers `gone` re-optimised."""
        size = np.sqrt(np.maximum(np.diag(self.h)[gone], 0)) + 1e-300
        unit = self.h[np.ix_(gone, gone)] / size[:, None] / size + 1e-10 * np.eye(len(gone))
        cross = self.h[np.ix_(gone, kept)] / size[:, None]
        solved = np.linalg.pinv(np.nan_to_num(unit), hermitian=True) @ np.c_[cross, self.g[gone] / size]
        return self.h[np.ix_(kept, kept)] - cross.T @ solved[:, :-1], self.g[kept] - cross.T @ solved[:, -1]

    def _same(self, place: int) -> int | None:
        """Return the law's own term that trial term `place` is, if it is one."""
        near = (j for j in range(len(self.w)) if np.abs(self.w[j] - self.trial_w[place]).max() < 0.03)
        return place if place < len(self.w) else next(near, None)

    def _exchanged(self, e: int, terms: list[int], places: np.ndarray, on: np.ndarray, value: np.ndarray) -> Law:
        w, a, free = self.w, self.a.copy(), self.free
        a[terms, e] = 0.0
        for q, number in zip(on, value, strict=True):
            if q < len(terms):
                a[terms[q], e] = number
                continue
            place = int(places[q - len(terms)])
            if (same := self._same(place)) is not None:
                a[same, e] = number
            else:
                row = self.trial_w[place]
                w, free = np.vstack([w, row]), np.vstack([free, only_k(row[None], self.d)])
                a = np.vstack([a, np.where(np.arange(self.d) == e, number, 0.0)])
        return w, a, free


def invert(h: np.ndarray) -> np.ndarray:
    """Return the inverse of a Gauss-Newton matrix (P, P) whose numbers differ by decades; a number that nothing depends on varies without bound.

    >>> invert(np.array([[4.0, 0.0], [0.0, 1e-8]])).round(2).tolist()
    [[0.25, 0.0], [0.0, 99999999.99]]
    """
    size = np.sqrt(np.maximum(np.diag(h), 0)) + 1e-300
    unit = h / size[:, None] / size + 1e-10 * np.eye(len(h))
    return np.linalg.pinv(np.nan_to_num(unit), hermitian=True) / size[:, None] / size


def _subsets(own: int, fresh: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield index sets (kept of `own`, added of `fresh`, which are numbered after own), every combination of the two.

    All ways to exchange up to two terms for up to two others, and all sets of up to three terms, as if nothing had been there.
    """
    for kept in range(own + 1):
        for more in range(min(3, fresh) + 1):
            single = (own - kept, more) in ((0, 0), (1, 0), (0, 1), (1, 1))  # those are single moves
            if not single and (1 <= kept + more <= 3 or (own - kept <= 2 and more <= 2)):
                yield _choices(range(own), kept), _choices(range(own, own + fresh), more)


def _cost(change: float, variance: float) -> float:
    """Return the nats lost by moving a number whose variance is known; infinite where its variance is next to nothing."""
    change = float(change)
    return 0.5 * change * change / max(float(variance), 1e-300)


def _choices(of: range, count: int) -> np.ndarray:
    found = list(itertools.combinations(of, count))
    return np.array(found, int).reshape(len(found), count)


def _with_linear_terms(w: np.ndarray, a: np.ndarray, free: np.ndarray) -> Law:
    """Return the law with a row for every state alone and one for a constant, used or not."""
    d = a.shape[1]
    rows = widen(np.vstack([np.eye(d), np.zeros(d)]), w.shape[1])
    missing = np.array([row for row in rows if not (w == row).all(1).any()]).reshape(-1, w.shape[1])
    none = np.zeros((len(missing), d))
    return np.vstack([w, missing]), np.vstack([a, none]), np.vstack([free, np.zeros_like(missing, bool)])


def _traded(law: Law, shares: dict[int, float], gone: int, e: int, amount: float) -> Law:
    """Take `amount` times (c . x - C) from equation e, so that term `gone` vanishes; what nearly cancels goes with it."""
    w, a, free = law
    a = a.copy()
    for j, share in shares.items():
        a[j, e] -= amount * share
        if j == gone or abs(a[j, e]) < 0.1 * abs(amount * share):
            a[j, e] = 0.0
    return w, a, free
