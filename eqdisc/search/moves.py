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
from jaxtyping import Float, Int

from ..fit.fit import Fit, invert, scale
from ..law.law import Law, Numbers
from ..law.terms import Number, Terms
from .problem import Problem

MOST_OWN = 7  # terms of an equation beyond which none are exchanged
CANDIDATES = 8  # trial terms that gain most with each of the equation's terms left out
EXCHANGES = 10  # of each equation that are tried
PAIRS = 6  # of exponents, fixed together, that are tried; and single ones that are moved
VALLEY = 0.9  # correlation of two exponents from which one can make up for the other
LEFT = 0.3  # of the larger of two terms, what their sum must be for one to stand in their place
REACH = 0.7  # by which an exponent may move when two are fixed together, or a fixed one is moved
ADDITIONS = 6  # trial terms that are tried; four times as many enter swaps
LIKE = 0.03  # difference of exponents below which a trial term is one that is there
MERGED = 0.4  # and below which two terms of different equations may become one
NOTHING = 1e-7  # of a number's curvature: what is left of it once others follow says nothing
FREED, ALL_FREED = (
    2.5,
    2.9,
)  # nats that freeing an exponent, and freeing all, is foretold to lose at most: what is free may go further
SHARED = 2.0  # nats beside 0.5 log n of one more coefficient of a term that is there
CLOSING = -2.0  # nats that are foretold for what no quadratic form tells: sums that are closed, terms traded and merged

Move = tuple[float, Law]


class Neighbourhood:
    """The moves around one solved law."""

    def __init__(self, problem: Problem, solved: Fit, library: Terms, crossed: bool = False) -> None:
        self.judge, engine = problem.judge, problem.engine
        self.prior, self.ln = self.judge.prior, 0.5 * self.judge.log_n
        self.law, self.d = solved.law.without_padding(), solved.law.d
        self.plain = self.d - self.prior.grouped  # columns before those that tell groups apart
        self.positive = engine.positive.cpu().numpy()
        self.trials = self.law.terms.join(library)
        self.x = solved.x[0].cpu().numpy().reshape(-1, self.d)
        lanes = Law.stack([self.law], solved.x.device)
        lanes = lanes if self.judge.knowledge is None else self.judge.knowledge.hold(lanes)
        lanes = replace(lanes, free=lanes.terms.movable(engine.positive))
        numbers = Numbers.of(lanes, engine.positive)
        h, g = engine.gauge(lanes, numbers, solved.x, solved.sigma, self.trials.torch(solved.x.device), crossed)
        self._split(h[0].cpu().numpy(), g[0].cpu().numpy(), numbers)

    def _split(self, h: np.ndarray, g: np.ndarray, numbers: Numbers) -> None:
        """Sort the numbers into the law's own, its fixed exponents, and trial coefficients."""
        names = numbers.names()
        own = np.array([self.law.is_free(n) for n in names], bool)
        self.numbers = [n for n, mine in zip(names, own, strict=True) if mine]
        self.fixed = [n for n, mine in zip(names, own, strict=True) if not mine]
        count = numbers.term.shape[1]
        p, f, t = np.flatnonzero(own), np.flatnonzero(~own), np.arange(count, len(g))
        self.h, self.g = h, g
        self.p, self.f, self.t = p, f, t
        self.c = invert(h[np.ix_(p, p)])
        self.fixed_gain, _ = self._gains(f)
        self.trial_gain, self.trial_value = self._gains(t)
        self.open = np.ones((len(t) // len(self.trials), len(self.trials)), bool)  # (equations, trial terms)
        if self.judge.knowledge is not None:
            self.open = np.stack([self.judge.knowledge.allowed(self.trials, e) for e in range(len(self.open))])
            self.trial_gain = np.where(self.open.ravel(), self.trial_gain, 0.0)
        near = self.law.terms.gaps(self.trials) < LIKE
        self.same = np.where(near.any(0), near.argmax(0), -1)  # the law's own term that each trial is, or -1
        self.same[: len(self.law)] = np.arange(len(self.law))

    def _gains(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return half the fall in chi-square from each trial number alone, and its value."""
        cross = self.h[np.ix_(self.p, q)]
        schur = np.diag(self.h)[q] - np.einsum("pq,pr,rq->q", cross, self.c, cross)
        slope = self.g[q] - cross.T @ (self.c @ self.g[self.p])
        ok = schur > NOTHING * np.diag(self.h)[q]
        schur = np.where(ok, schur, 1.0)
        return np.where(ok, 0.5 * slope**2 / schur, 0.0), np.where(ok, slope / schur, 0.0)

    def __iter__(self) -> Iterator[Move]:
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

    # What numbers and terms cost

    def price(self, law: Law, j: int) -> float:
        """Price term j of a law."""
        return self.prior.term_price(law.terms[j], law.free[j], self.judge.log_n)

    def price_new(self, term: Terms) -> float:
        """Price one term whose numbers stand."""
        return self.prior.term_price(term, None, self.judge.log_n)

    def _price_exponent(self, value: float, free: bool = False) -> float:
        return self.prior.price(value, free, self.judge.log_n)

    def _change(self, law: Law, j: int) -> float:
        """Return by how much term j costs more in a law than it does now."""
        return self.price(law, j) - self.price(self.law, j)

    def _saved(self, j: int) -> float:
        """Nats saved by dropping one coefficient of term j."""
        last = self.law.support[j].sum() == 1
        return self.ln + 0.5 + (self.price(self.law, j) if last else 1.5)

    def coefficients_of(self, e: int) -> list[int]:
        """Return which of the law's own numbers are coefficients of equation e."""
        return [q for q, n in enumerate(self.numbers) if n.part == "coefficient" and n.place == e]

    # Exponents

    def _free(self) -> Iterator[Move]:
        for gain, number in zip(self.fixed_gain, self.fixed, strict=True):
            if gain > 0.5:
                law = self.law.release(number)
                yield min(self._change(law, number.term) - gain, FREED), law
        if self.fixed:
            loose = self.law.terms.loosen(self.positive)
            pairs = zip(self.law.free.arrays, loose.arrays, strict=True)
            yield ALL_FREED, replace(self.law, free=Terms(*(free | more for free, more in pairs)))

    def _fix(self) -> Iterator[Move]:
        eager: dict[Number, Move] = {}
        values: dict[Number, float] = {}
        for q, number in enumerate(self.numbers):
            if number.part in ("coefficient", "offset") or number.place >= self.plain:
                continue
            now = self.law[number]
            for z in self.prior.nearest(now):
                law = self.law.put({number: z})
                change = _cost(now - z, self.c[q, q]) + self._change(law, number.term)
                if change < eager.get(number, (0.0, self.law))[0]:
                    eager[number], values[number] = (change, law), z
                yield change, law
        if len(eager) > 1:
            yield sum(change for change, _ in eager.values()), self.law.put(values)

    def _menus(self) -> dict[Number, list[float]]:
        """Return the simple values near each exponent of a positive state."""
        places = [n for n in self.numbers if n.part == "exponent"] + [n for n in self.fixed if n.part == "exponent"]
        near = lambda n: [z for z in self.prior.menu if z != 0 and abs(z - self.law[n]) < REACH]  # noqa: E731
        return {n: near(n) for n in places if n.place < self.plain and self.positive[n.place]}

    def _fix_pairs(self) -> Iterator[Move]:
        """Fix two exponents of one equation at once, where one can make up for the other: rounded alone, each would lose."""
        places = {n: self.p[q] for q, n in enumerate(self.numbers)} | dict(zip(self.fixed, self.f, strict=True))
        menus = self._menus()
        more = {
            n: np.array([self._price_exponent(z) for z in menu])
            - self._price_exponent(self.law[n], self.law.is_free(n))
            for n, menu in menus.items()
        }
        shared = self.law.support.astype(int) @ self.law.support.T > 0  # terms that stand in one equation
        for one, other in itertools.combinations(menus, 2):
            if not shared[one.term, other.term]:
                continue
            pair, now = np.array([places[one], places[other]]), np.array([self.law[one], self.law[other]])
            r, slope = self.eliminate(np.setdiff1d(self.p, pair), pair)
            if r[0, 1] ** 2 < VALLEY**2 * r[0, 0] * r[1, 1]:
                continue
            z = np.array(list(itertools.product(menus[one], menus[other]))).reshape(-1, 2)
            step, prices = z - now, np.add.outer(more[one], more[other]).ravel()
            change = 0.5 * np.einsum("kp,pq,kq->k", step, r, step) - step @ slope + prices
            for k in np.argsort(change)[:PAIRS]:
                if (z[k] != now).all():
                    yield float(change[k]), self.law.put(dict(zip((one, other), z[k].tolist(), strict=True)))

    def _shift(self) -> Iterator[Move]:
        """Move one exponent from its simple value to another; all other numbers follow."""
        for number, q in zip(self.fixed, self.f, strict=True):
            if number.part != "exponent" or number.place >= self.plain or not self.positive[number.place]:
                continue
            r, slope = self.eliminate(self.p, np.array([q]))
            now = self.law[number]
            for z in self.prior.menu:
                step = z - now
                if z != 0 and 1e-9 < abs(step) < REACH:
                    change = 0.5 * float(r[0, 0]) * step**2 - float(slope[0]) * step
                    change += self._price_exponent(z) - self._price_exponent(now)
                    yield change, self.law.put({number: z}, free=None)

    # Terms

    def _drop(self) -> Iterator[Move]:
        for q, number in enumerate(self.numbers):
            if number.part == "coefficient":
                lost = _cost(self.law[number], self.c[q, q])
                yield lost - self._saved(number.term), self.law.put({number: 0.0})

    def _without_bar(self) -> Iterator[Move]:
        """Make a term that saturates plain: what it is far below K, and far above."""
        for j in np.flatnonzero(self.law.terms.saturates).tolist():
            for plain in self.law.terms[[j]].plain():
                law = self.law.replace_term(j, plain)
                yield self._change(law, j), law

    def _merge(self) -> Iterator[Move]:
        gaps, there = self.law.terms.gaps(self.law.terms), self.law.support
        for j, k in itertools.permutations(range(len(self.law)), 2):
            if gaps[j, k] < MERGED and not (there[j] & there[k]).any():
                a = self.law.coefficients.copy()
                a[k] += a[j]
                a[j] = 0.0
                yield CLOSING - 0.7 * self.price(self.law, j), self.law.with_coefficients(a)

    def _blend(self) -> Iterator[Move]:
        """Put one term of free exponents in the place of two of one equation: it has their sum, and its slope, at the middle of the data."""
        middle = np.log(np.maximum(np.abs(self.x), 1e-6)).mean(0)
        plain = ~self.law.terms.bent
        for e, there in enumerate(self.law.support.T):
            for pair in itertools.combinations(np.flatnonzero(there & plain), 2):
                row = self._middle([int(j) for j in pair], e, middle)
                if row is not None:
                    yield 0.0, row

    def _middle(self, pair: list[int], e: int, middle: Float[np.ndarray, "d"]) -> Law | None:
        fitted = self.positive & (np.arange(self.d) < self.plain)
        w, a = self.law.terms.exponents[pair], self.law.coefficients
        value, apart = a[pair, e] * np.exp(w @ middle), w[0] != w[1]
        if (apart & ~fitted).any() or abs(value.sum()) < LEFT * np.abs(value).max():
            return None
        row = value @ w / value.sum()
        if np.abs(w - row).max(1).min() > REACH:
            return None
        a = a.copy()
        a[pair, e] = 0.0
        new = np.where(np.arange(self.d) == e, value.sum() / np.exp(row @ middle), 0.0)
        term = Terms.of(row[None])
        return self.law.with_coefficients(a).add(term, new[None], replace(term.nothing(), exponents=apart[None]))

    def _add_and_swap(self) -> Iterator[Move]:
        added = 0
        for o in np.argsort(-self.trial_gain)[: 4 * ADDITIONS]:
            e, place = divmod(int(o), len(self.trials))
            same = self.same[place]
            if same >= 0 and self.law.support[same, e]:
                continue
            law, cost = self._with(place, e, self.trial_value[o])
            change = cost - self.trial_gain[o]
            if change < 0 and added < ADDITIONS:
                added += 1
                yield 0.5 * change, law
            yield from self._swaps(o, e, law, cost)

    def _with(self, place: int, e: int, value: float) -> tuple[Law, float]:
        """Return the law with one more coefficient, that of a trial term in equation e, and what that costs."""
        term, same = self.trials[[place]], int(self.same[place])
        if same >= 0:
            return self.law.put({Number("coefficient", same, e): value}), self._price_trial(place)
        a = np.where(np.arange(self.d) == e, value, 0.0)[None]
        return self.law.add(term, a, term.loosen(self.positive)), self._price_trial(place)

    def _price_trial(self, place: int) -> float:
        """Price one more coefficient, that of a trial term."""
        return self.ln + (SHARED if self.same[place] >= 0 else 0.5 + self.price_new(self.trials[place]))

    def _swaps(self, o: int, e: int, law: Law, cost: float) -> Iterator[Move]:
        """Add trial coefficient o, drop another of the same equation."""
        if self.trial_gain[o] <= 0:
            return
        index = np.r_[self.p, self.t[o]]
        c = invert(self.h[np.ix_(index, index)])
        step = c @ self.g[index]
        for q in self.coefficients_of(e):
            number = self.numbers[q]
            lost = _cost(self.law[number] + step[q], c[q, q])
            change = cost - self.trial_gain[o] + lost - self._saved(number.term)
            if change < 2.0:
                yield change, law.put({number: 0.0})

    # Conserved sums

    def _substitute(self) -> Iterator[Move]:
        """Use a conserved sum c . x = C to trade one linear or constant term of an equation for the others."""
        for c in self.judge.invariants:
            weights = c * self.judge.factors
            total = float((self.x @ weights).mean())
            law, linear, constant = _with_linear_terms(self.law)
            shares = {linear[i]: weights[i] for i in np.flatnonzero(c).tolist()} | {constant: -total}
            for e, (j, share) in itertools.product(range(self.d), shares.items()):
                if law.support[j, e]:
                    yield CLOSING, _traded(law, shares, j, e, law.coefficients[j, e] / share)

    def _close(self) -> Iterator[Move]:
        for c in self.judge.invariants:
            for e in map(int, np.flatnonzero(c)):
                closed = self.law.close_sum(c, e, self.judge.factors)
                there = closed.support[:, e]
                if there.any() and (there != self.law.support[:, e]).any():
                    yield CLOSING, closed

    # Several at once

    def exchanges(self) -> list[Move]:
        """Foretell exchanges of several terms of one equation for others, the best first.

        With all other numbers eliminated the likelihood is a quadratic form in the coefficients of one equation, those that are
        there and those that might be; every subset is one small linear system.
        """
        found = [exchange for e in range(self.d) for exchange in self._exchanges_in(e)]
        return sorted(found, key=lambda m: m[0])

    def _exchanges_in(self, e: int) -> Iterator[Move]:
        own = self.coefficients_of(e)
        if not own or len(own) > MOST_OWN:
            return
        terms = [self.numbers[q].term for q in own]
        places = self._candidates(e, terms)
        here = np.r_[self.p[own], self.t[e * len(self.trials) + places]]
        r, slope = self.eliminate(np.delete(self.p, own), here)
        b = np.r_[self.law.coefficients[terms, e], np.zeros(len(places))]
        slope = slope + r @ b
        now = 0.5 * b @ r @ b - slope @ b
        price = np.r_[[self._saved(j) for j in terms], [self._price_trial(int(q)) for q in places]]
        options = []
        k = len(own)
        for kept, fresh in _subsets(k, len(places)):
            on = np.c_[np.repeat(kept, len(fresh), 0), np.tile(fresh, (len(kept), 1))]
            if on.shape[1]:
                changes, values = _least(r, slope, on)
                changes += price[on].sum(1) - price[:k].sum() - now
                best = np.argsort(changes)[:EXCHANGES]
                options += [(float(changes[q]), on[q], values[q]) for q in best if np.isfinite(changes[q])]
        for change, on, value in sorted(options, key=lambda o: o[0])[:EXCHANGES]:
            yield change, self._exchanged(e, terms, places, on, value)

    def _candidates(self, e: int, terms: list[int]) -> Int[np.ndarray, "k"]:
        """Return the trial terms of equation e that gain most, alone or in the place of one that is there."""
        count, used = len(self.trials), self.law.support[:, e]
        new: np.ndarray = np.logical_not((self.law.terms[terms].gaps(self.trials) < LIKE).any(0))
        new[: len(self.law)] &= ~used
        new &= self.open[e]
        at = self.t[e * count : (e + 1) * count]
        gains = [self.trial_gain[e * count : (e + 1) * count]]
        own = self.coefficients_of(e)
        for gone in [*([q] for q in own), own] if len(own) > 1 else [own]:
            r, slope = self.eliminate(np.delete(self.p, gone), np.r_[self.p[gone], at])
            k = len(gone)
            left = self.law.coefficients[[self.numbers[q].term for q in gone], e]
            slope, size = slope[k:] + r[k:, :k] @ left, np.diag(r)[k:]
            ok = size > NOTHING * np.diag(self.h)[at]
            gains.append(np.where(ok, 0.5 * slope**2 / np.where(ok, size, 1.0), 0.0))
        best = np.argsort(-np.where(new, np.array(gains), -1.0), axis=1)[:, :CANDIDATES]
        return np.array([q for q in np.unique(best) if new[q]], int)

    def eliminate(self, gone: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return H and g over `kept` with the numbers `gone` re-optimised."""
        inverse, size = scale(self.h[np.ix_(gone, gone)])
        cross = self.h[np.ix_(gone, kept)] / size[:, None]
        solved = inverse @ np.c_[cross, self.g[gone] / size]
        return self.h[np.ix_(kept, kept)] - cross.T @ solved[:, :-1], self.g[kept] - cross.T @ solved[:, -1]

    def _exchanged(self, e: int, terms: list[int], places: np.ndarray, on: np.ndarray, value: np.ndarray) -> Law:
        """Return the law with some terms of equation e, and trial terms, at those values."""
        kept = {terms[q]: v for q, v in zip(on.tolist(), value.tolist(), strict=True) if q < len(terms)}
        law = self.law.put({Number("coefficient", j, e): kept.get(j, 0.0) for j in terms})
        for q, v in zip(on.tolist(), value.tolist(), strict=True):
            if q < len(terms):
                continue
            place = int(places[q - len(terms)])
            if (same := int(self.same[place])) >= 0:
                law = law.put({Number("coefficient", same, e): v})
            else:
                term = self.trials[[place]]
                law = law.add(term, np.where(np.arange(self.d) == e, v, 0.0)[None], term.only_k())
        return law


def _least(
    r: Float[np.ndarray, "k k"], slope: Float[np.ndarray, "k"], on: Int[np.ndarray, "s n"]
) -> tuple[Float[np.ndarray, "s"], Float[np.ndarray, "s n"]]:
    """Return the least of b R b / 2 - s b over each set of coefficients, and where it is."""
    system = r[on[:, :, None], on[:, None]] + 1e-9 * np.eye(on.shape[1]) * r[on, on][..., None]
    value = np.linalg.solve(system, slope[on][..., None])[..., 0]
    return -0.5 * (slope[on] * value).sum(1), value


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


def _with_linear_terms(law: Law) -> tuple[Law, list[int], int]:
    """Return the law with a term for every state alone and one for a constant, used or not, and which these are."""
    simple = Terms.of(np.vstack([np.eye(law.d), np.zeros(law.d)]))
    missing = simple[(law.terms.gaps(simple) != 0).all(0)]
    law = law.add(missing, np.zeros((len(missing), law.d)))
    at = (law.terms.gaps(simple) == 0).argmax(0).tolist()
    return law, at[:-1], at[-1]


def _traded(law: Law, shares: dict[int, float], gone: int, e: int, amount: float) -> Law:
    """Take `amount` times (c . x - C) from equation e, so that term `gone` vanishes; what nearly cancels goes with it."""
    a = law.coefficients.copy()
    for j, share in shares.items():
        a[j, e] -= amount * share
        if j == gone or abs(a[j, e]) < 0.1 * abs(amount * share):
            a[j, e] = 0.0
    return law.with_coefficients(a)


__all__ = ["Move", "Neighbourhood"]
