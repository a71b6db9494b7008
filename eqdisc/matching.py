r"""Matching: structures that fit the integral form of the data, proposed without a solver.

For each equation on its own: a library of simple powers searched exhaustively (all pairs, and triples of the most
useful terms, in closed form from the Gram matrix), a beam that adds one library term at a time and then frees all
exponents, small chains from random real exponents, and a simplification that drops terms and fixes exponents while the
description length falls. Each move is foretold by the optimal brain surgeon's formula dRSS = p**2 / (H^-1)_pp (Hassibi &
Stork, NeurIPS 1992) and only the best foretold are fitted. What comes out are proposals: supports and exponents that a
chain starts its training from.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .denoising import Denoised
from .description import FLOOR, Prior
from .regression import Lanes, Regression, slots_of
from .terms import loosen, saturating

HILLS = (1, 2)  # powers of a denominator; of one state alone also the steep ones
STEEP = (3, 4, 5)
SIGNED = ((1.0, 2.0), (2.0, 1.0), (0.5, 1.0), (1.5, 1.0), (1.5, 2.0), (3.0, 2.0))  # powers and q: 1 odd, 2 even
QUANTILES = (0.1, 0.5, 0.9)  # of a state, where a denominator's K starts; and this far beyond the last:
BEYOND = 3.0
LEVELS = 12  # sets that differ in K alone are one; so many more are looked at
RATIOS = 256  # sets of two and of three, shared among the states, whose K is fitted
CLEAN_FLOORS = (3e-3, 1e-2)  # shares of a state's spread: interpolation error must not buy terms on clean data
BEAM = 16
LARGEST = 5  # terms in one equation
STARTS = 24  # random chains of each size
KEEP = 12  # proposals an equation, and half as many more for each further error floor
PER_SIZE = {1: 2, 2: 5, 3: 5}  # beam members of each size that are simplified; 3 of the larger ones


@dataclass(frozen=True, eq=False)
class Proposal:
    """One equation's structure: exponents (k, d), coefficients (k,), free (k, d), and its description length."""

    exponents: np.ndarray
    coefficients: np.ndarray
    free: np.ndarray
    cost: float


def library(positive: np.ndarray, prior: Prior) -> Float[np.ndarray, "terms d"]:
    """Return the exponents of simple terms: a constant, powers of one state, products of two or three.

    >>> library(np.array([True]), Prior())[:3].ravel().tolist()
    [0.0, -3.0, -2.5]
    """
    d = len(positive)
    if d == 1:
        powers = [-3, -2.5, -2, -1.5, -1, -0.75, -0.5, -0.25, 0.25, 0.5, 2 / 3, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4]
        menu = [powers if positive[0] else [1, 2, 3, 4, 5]]
    else:
        real, whole = ([-1, -0.5, 0.5, 1, 2], [1, 2]) if d >= 5 else ([-2, -1, -0.5, 0.5, 1, 2], [1, 2, 3])
        menu = [list(real if p else whole) for p in positive]
    rows = [np.zeros(d)]
    rows += [_term(d, {i: e}) for i in range(d) for e in menu[i]]
    for i, j in itertools.combinations(range(d), 2):
        rows += [_term(d, {i: a, j: b}) for a in menu[i] for b in menu[j] if _worth(a, b, positive[i] and positive[j])]
    for triple in itertools.combinations(range(d), 3):
        for three in itertools.product(*[[-1, 0.5, 1] if positive[i] else [1] for i in triple]):
            if sum(p < 0 for p in three) <= 1 and (d <= 3 or 0.5 not in three):
                rows.append(_term(d, dict(zip(triple, three, strict=True))))
    table = np.array(rows)
    return table[((table == 0) | ((table >= prior.lower) & (table <= prior.upper))).all(1)]


def saturating_library(
    positive: np.ndarray, values: Float[np.ndarray, "n d"], prior: Prior
) -> Float[np.ndarray, "terms c"]:
    """Return terms x_i**p / (K + x_i**h), alone and times another state, with K where the data `values` are low, usual and high.

    >>> saturating_library(np.array([True]), np.array([[0.2], [0.4], [0.8]]), Prior())[1].round(2).tolist()  # x / (0.4 + x)
    [0.0, 1.0, -0.92, 0.0]
    """
    d = len(positive)
    rows = []
    for i in np.flatnonzero(positive):
        levels = np.log(np.maximum(np.quantile(values[:, i], QUANTILES), 1e-4))
        levels = [*levels, levels[-1] + math.log(BEYOND)]
        for h in HILLS if d > 1 else (*HILLS, *STEEP):
            for p in range(h + 1):
                for others in [{}, *({j: 1.0} for j in range(d) if j != i)]:
                    for level in levels:
                        above, below = _term(d, {int(i): float(p), **others}), _term(d, {int(i): float(h)})
                        rows.append(np.r_[above, below, h * level, np.zeros(d)])
    table = np.array(rows).reshape(-1, 3 * d + 1)
    powers = table[:, : 2 * d]
    return table[((powers == 0) | ((powers >= prior.lower) & (powers <= prior.upper))).all(1)]


def signed_library(positive: np.ndarray, prior: Prior) -> Float[np.ndarray, "terms c"]:
    """Return terms sign(x_i)|x_i|**p and |x_i|**p that are no whole powers, alone and times another state, of states that change sign.

    >>> signed_library(np.array([False]), Prior())[:2].tolist()  # |x| and x |x|
    [[1.0, 0.0, 0.0, 2.0], [2.0, 0.0, 0.0, 1.0]]
    """
    d = len(positive)
    rows = [
        np.r_[_term(d, {i: power, **others}), np.zeros(d + 1), _term(d, {i: parity})]
        for i in map(int, np.flatnonzero(~positive))
        for power, parity in SIGNED
        for others in [{}, *({j: 1.0} for j in range(d) if j != i)]
        if prior.lower <= power <= prior.upper
    ]
    return np.array(rows).reshape(-1, 3 * d + 1)


def _term(d: int, powers: dict[int, float]) -> np.ndarray:
    row = np.zeros(d)
    for i, power in powers.items():
        row[i] = power
    return row


def _worth(a: float, b: float, both_positive: bool) -> bool:
    return not (a < 0 and b < 0) and (both_positive or abs(a) + abs(b) <= 3)


def match(
    regression: Regression,
    denoised: Denoised,
    sigma: np.ndarray,
    e: int,
    terms: np.ndarray,
    prior: Prior,
    former: list[Proposal] | None = None,
    seed: int = 0,
    least: float = FLOOR,
) -> list[Proposal]:
    """Propose structures for equation e, the shortest description first; `former` proposals join the race, and random chains do."""
    noise = max(0.5 * sigma[e], least)
    spread = denoised.spread[e]
    more = (
        [share * spread for share in CLEAN_FLOORS if share * spread > 1.7 * noise]
        if denoised.clean
        else [max(3e-3 * spread, 2.5 * noise)]
    )
    search = _Search(regression, e, terms, prior)
    if search.ratios:
        beam = search.grow_ratios(noise)
    else:
        beam = search.beam(noise, seeds=search.exhaustive(0.3 * noise, pairs=2, triples=16))
        beam += search.random_starts(seed)
    found: dict[tuple, Proposal] = {}
    for floor in (noise, *more):
        count = KEEP if floor == noise else max(2, KEEP // 2)
        for proposal in search.round(beam, floor, former or [], count):
            found.setdefault(_signature(proposal), proposal)
    return list(found.values())


def _signature(proposal: Proposal) -> tuple:
    return tuple(sorted(map(tuple, proposal.exponents.round(2) + 0.0)))


@lru_cache(maxsize=8)
def _triples_of(count: int) -> Tensor:
    return torch.combinations(torch.arange(count), 3)


class _Search:
    """The proposals of one equation, around one library."""

    def __init__(self, regression: Regression, e: int, terms: np.ndarray, prior: Prior) -> None:
        self.regression, self.e, self.prior = regression, e, prior
        self.ratios = terms.shape[1] > regression.d
        self.y, self.rows = regression.targets[e], regression.rows[e]
        w = torch.as_tensor(terms, dtype=self.y.dtype, device=self.y.device)
        columns = regression.cumulate(regression.features(w[:, None])[:, 0], e)
        norm = columns.norm(dim=-1) + 1e-12
        good = torch.isfinite(columns).all(-1) & (norm > 1e-8)
        self.w, self.columns = w[good], columns[good] / norm[good][:, None]
        self.gram, self.b = self.columns @ self.columns.T, self.columns @ self.y
        fixed = torch.zeros_like(self.w, dtype=torch.bool)
        self.price = prior.term_cost(self.w[:, None], fixed[:, None], math.log(self.rows))[:, 0] + 0.5 * math.log(
            self.rows
        )

    def exhaustive(self, floor: float, pairs: int, triples: int, singles: int = 0) -> Lanes:
        """Return the best sets of one, two and three fixed library terms, from the Gram matrix alone."""
        one = self._cost(self.y @ self.y - self.b**2, floor) + self.price
        i, j = torch.triu_indices(len(self.w), len(self.w), 1, device=self.w.device)
        g = self.gram[i, j]
        det = 1 - g**2
        rss = self.y @ self.y - (self.b[i] ** 2 + self.b[j] ** 2 - 2 * g * self.b[i] * self.b[j]) / det.clamp_min(1e-9)
        two = self._cost(torch.where(det < 1e-5, self.y @ self.y, rss), floor) + self.price[i] + self.price[j]
        parts = [self._sets(one, (torch.arange(len(self.w)),), singles), self._sets(two, (i, j), pairs)]
        useful = (
            torch.full_like(self.price, torch.inf).scatter_reduce(0, i, two, "amin").scatter_reduce(0, j, two, "amin")
        )
        top = useful.argsort()[: min(70, len(useful))].sort().values
        triple = _triples_of(len(top))
        if len(triple):
            a, b, c = top[triple].T
            parts.append(self._sets(self._triples(a, b, c, floor), (a, b, c), triples))
        return Lanes.cat([p for p in parts if len(p)])

    def _triples(self, i: Tensor, j: Tensor, k: Tensor, floor: float) -> Tensor:
        a, b, c = self.gram[i, j], self.gram[i, k], self.gram[j, k]
        u, v, w = self.b[i], self.b[j], self.b[k]
        det = 1 + 2 * a * b * c - a * a - b * b - c * c
        explained = u * u * (1 - c * c) + v * v * (1 - b * b) + w * w * (1 - a * a)
        explained = explained + 2 * (u * v * (b * c - a) + u * w * (a * c - b) + v * w * (a * b - c))
        rss = self.y @ self.y - explained / det.clamp_min(1e-12)
        rss = torch.where(det < 1e-6, self.y @ self.y, rss)
        return self._cost(rss, floor) + self.price[i] + self.price[j] + self.price[k]

    def _cost(self, rss: Tensor, floor: float) -> Tensor:
        return 0.5 * self.rows * (rss.clamp_min(1e-30) / self.rows + floor**2).log()

    def _sets(self, cost: Tensor, members: tuple[Tensor, ...], count: int) -> Lanes:
        best = cost.argsort()[: LEVELS * count if self.ratios else count]
        w = torch.stack([self.w[m[best]] for m in members], 1)
        lanes = Lanes.of(w, torch.zeros_like(w, dtype=torch.bool))
        return _distinct(lanes, count, 2, 2 * self.regression.d) if self.ratios and len(lanes) else lanes

    def release(self, lanes: Lanes) -> Lanes:
        """Free every exponent of a state that may carry a real one; where terms may saturate, K alone."""
        free = loosen(lanes.exponents, self.regression.positive)
        free[..., : 2 * self.regression.d] &= not self.ratios
        return Lanes.of(lanes.exponents, free, lanes.active)

    def beam(self, floor: float, seeds: Lanes) -> list[Lanes]:
        """Grow equations term by term with all exponents free; return the members of each size."""
        candidates = Lanes.of(
            self.w[(-self.b.abs()).argsort()[:10]][:, None],
            torch.zeros(10, 1, self.w.shape[1], dtype=torch.bool)[: len(self.w)],
        )
        members, best, best_size = [], math.inf, 0
        wide = seeds.select(seeds.active.sum(-1) == 3)
        pairs = self.exhaustive(0.0, pairs=24, triples=0)
        for size in range(1, LARGEST + 1):
            extra = [pairs] if size == 2 else [wide] if size == 3 and len(wide) else []
            lanes = self.regression.fit(self.release(Lanes.cat([candidates, *extra])), self.e, prior=self.prior)
            lanes = _distinct(lanes.select(lanes.rss.argsort()), BEAM)
            lanes = lanes.select(lanes.rss < 1e8)
            if not len(lanes):
                break
            members.append(lanes)
            cost = float(lanes.cost(self.prior, self.rows, floor).min())
            if cost < best:
                best, best_size = cost, size
            if size >= best_size + 2 or float(lanes.rss[0]) / self.rows < 0.02 * floor**2:
                break
            candidates = self._grow(lanes)
        return members

    def grow_ratios(self, floor: float) -> list[Lanes]:
        """Fit the K of the best library sets, and of the best of them with one term and two terms more."""
        many = RATIOS // self.regression.d
        lanes = self.release(self.exhaustive(0.3 * floor, pairs=many, triples=many, singles=5))
        members: list[Lanes] = []
        for _ in range(LARGEST - 2):
            lanes = self.regression.fit(lanes, self.e, prior=self.prior)
            lanes = lanes.select(lanes.cost(self.prior, self.rows, floor).argsort())
            lanes = _distinct(lanes.select(lanes.rss < 1e8), BEAM, 2)
            shortest = lanes.cost(self.prior, self.rows, floor).amin() if len(lanes) else torch.inf
            if not shortest < min((m.cost(self.prior, self.rows, floor).amin() for m in members), default=torch.inf):
                break
            members.append(lanes)
            lanes = self.release(self._grow(lanes.select(slice(0, BEAM // 2))))
        return members

    def random_starts(self, seed: int) -> list[Lanes]:
        """Fit small chains from random real exponents: what no library holds (Heim et al. 2020 start all their chains so)."""
        if not bool(self.regression.positive.any()) or self.ratios:
            return []
        generator, d = torch.Generator().manual_seed(seed), self.w.shape[1]
        found = []
        for size in (2, 3):
            shape = (STARTS, size, d)
            w = 4.0 * torch.rand(shape, generator=generator, dtype=self.w.dtype) - 1.5
            w = torch.where(
                self.regression.positive.cpu(), w.clamp(self.prior.lower, self.prior.upper), w.round().clamp_min(0)
            )
            w = torch.where(torch.rand(shape, generator=generator) < 1.0 / min(d, 2), w, 0.0).to(self.w.device)
            lanes = self.regression.fit(
                self.release(Lanes.of(w, torch.zeros_like(w, dtype=torch.bool))), self.e, prior=self.prior
            )
            found.append(_distinct(lanes.select(lanes.rss.argsort()[: 2 * KEEP]), PER_SIZE[size]))
        return found

    def _grow(self, lanes: Lanes, top: int = 4) -> Lanes:
        """Add to each lane the library terms that explain most of its residual."""
        now = self.regression._solve(lanes.exponents, lanes.active, self.y, self.e)
        q = torch.linalg.qr(now.columns.mT)[0]
        residual = self.y - (q @ (q.mT @ self.y)[..., None])[..., 0]
        inside = self.columns @ q
        outside = 1 - inside.square().sum(-1)
        gain = (self.columns @ residual.T).T.square() / outside.clamp_min(1e-12)
        gain = torch.where(outside < 1e-3, 0.0, gain)
        chosen = gain.argsort(-1, descending=True)[:, :top]
        old = lanes.exponents[:, None].expand(-1, top, -1, -1)
        w = torch.cat([old, self.w[chosen][:, :, None]], 2).flatten(0, 1)
        return Lanes.of(w, torch.zeros_like(w, dtype=torch.bool))

    def round(self, beam: list[Lanes], floor: float, former: list[Proposal], count: int) -> list[Proposal]:
        """Simplify the beam's best of every size and the best library sets; return the shortest descriptions."""
        picks = []
        for lanes in beam:
            order = lanes.cost(self.prior, self.rows, floor).argsort()
            most = KEEP if self.ratios else PER_SIZE.get(lanes.exponents.shape[1], 3)
            picks.append(lanes.select(order[:most]))
        sets = self.exhaustive(floor, pairs=16, triples=16, singles=5)
        sets = self.regression.fit(self.release(sets) if self.ratios else sets, self.e)
        order = sets.cost(self.prior, self.rows, floor).argsort()
        picks.append(self.release(sets.select(order[:6])))
        picks += [_as_lanes(p, self.y) for p in former[:4]]
        simple = self.simplify(_distinct(Lanes.cat(picks), 64, 1), floor)
        lanes = Lanes.cat([simple, sets])
        cost = lanes.cost(self.prior, self.rows, floor)
        lanes = _distinct(lanes.select(cost.argsort()), count, 2)
        return _as_proposals(lanes, lanes.cost(self.prior, self.rows, floor))

    def simplify(self, lanes: Lanes, floor: float, tries: int = 5) -> Lanes:
        """Drop terms and fix exponents, greedily, as long as the description length falls."""
        lanes = self.regression.fit(lanes, self.e, steps=8, prior=self.prior)
        done: list[Lanes] = []
        while len(lanes):
            cost = lanes.cost(self.prior, self.rows, floor)
            trials, origin = self._moves(lanes, cost, floor, tries)
            if not len(trials):
                break
            trials = self.regression.fit(trials, self.e, steps=5, prior=self.prior)
            trial_cost = trials.cost(self.prior, self.rows, floor)
            best = torch.full_like(cost, torch.inf).scatter_reduce(0, origin, trial_cost, "amin")
            better = best < cost - 1e-9  # every round shortens a description, so the loop ends
            done.append(lanes.select(~better))
            winners = [
                int(torch.where(origin == lane, trial_cost, torch.inf).argmin()) for lane in better.nonzero()[:, 0]
            ]
            lanes = _distinct(trials.select(torch.as_tensor(winners, dtype=torch.long)), len(winners), 2)
        return Lanes.cat([*done, lanes])

    def _moves(self, lanes: Lanes, cost: Tensor, floor: float, tries: int) -> tuple[Lanes, Tensor]:
        """Return the moves foretold best for each lane, and the lane each comes from."""
        inverse, a, index, valid = self._curvature(lanes)
        spread = inverse.diagonal(dim1=-2, dim2=-1).clamp_min(1e-300).cpu().numpy()
        term, state = (i.cpu().numpy() for i in index)
        sized, real, w, free, active, rss = (
            v.cpu().numpy() for v in (a, valid, lanes.exponents, lanes.free, lanes.active, lanes.rss)
        )
        parts, origin = [], []
        for q in range(len(lanes)):
            slots = [
                (int(term[q, s]), int(state[q, s]), spread[q, len(active[q]) + s]) for s in np.flatnonzero(real[q])
            ]
            options = self._options(
                (w[q], free[q], active[q]), sized[q] ** 2 / spread[q, : len(sized[q])], slots, float(rss[q]), floor
            )
            options.sort(key=lambda o: o[0])
            chosen = [o[1] for o in options[:tries]] + [o[1] for o in options[tries:] if o[0] == -math.inf]
            eager = [o[2] for o in options if o[0] < 0 and o[2] is not None]
            if len(eager) > 1:
                chosen.append(_fix_all((w[q], free[q], active[q]), eager))
            parts += chosen
            origin += [q] * len(chosen)
        if not parts:
            return lanes.select(slice(0, 0)), torch.zeros(0, dtype=torch.long)
        stacked = (torch.as_tensor(np.stack(v), device=self.y.device) for v in zip(*parts, strict=True))
        return Lanes.of(*stacked), torch.as_tensor(origin, device=self.y.device)

    def _curvature(self, lanes: Lanes) -> tuple[Tensor, Tensor, tuple, Tensor]:
        """Return the inverse Gauss-Newton matrix over normalised coefficients and free exponents of each lane."""
        index, _, valid = slots_of(lanes.free)
        now = self.regression._solve(lanes.exponents, lanes.active, self.y, self.e)
        columns = torch.cat([now.columns, self.regression.jacobian(now, index, valid, self.e)], 1)
        on = torch.cat([lanes.active, valid], 1)
        hessian = columns @ columns.mT
        size = hessian.diagonal(dim1=-2, dim2=-1).sqrt().clamp_min(1e-150)
        unit = hessian / size[:, None] / size[..., None]
        unit = torch.where(on[:, None] & on[..., None], torch.nan_to_num(unit), 0.0) + torch.diag_embed(
            torch.where(on, 1e-9, 1.0)
        )
        inverse = (
            torch.linalg.solve_ex(unit, torch.eye(unit.shape[-1], dtype=unit.dtype))[0]
            / size[:, None]
            / size[..., None]
        )
        return inverse, now.a, index, valid

    def _options(self, structure: Structure, lost: np.ndarray, slots: list, rss: float, floor: float) -> list:
        """List (foretold change in nats, structure, the fixed exponent or None) for every move of one lane.

        `lost` (k,) is the rise in RSS from dropping each term, `slots` hold (term, state, variance) of each free exponent.
        """
        w, free, active = structure
        log_n, d = math.log(self.rows), self.regression.d
        base = math.log(rss / self.rows + floor**2)
        rise = lambda d: 0.5 * self.rows * (math.log((rss + d) / self.rows + floor**2) - base)  # noqa: E731
        options: list = []
        terms = np.flatnonzero(active)
        for j in terms if len(terms) > 1 else ():
            on = active.copy()
            on[j] = False
            options.append((rise(lost[j]) - self._price_term(w[j], free[j]), (w, free, on), None))
        for j, i, variance in [slot for slot in slots if slot[1] < 2 * d]:
            for z in self.prior.nearest(float(w[j, i])):
                if abs(z - w[j, i]) < 0.4:
                    change = self.prior.price(z, False, log_n) - self.prior.price(w[j, i], True, log_n) - 0.8 * (z == 0)
                    options.append(
                        (rise((w[j, i] - z) ** 2 / variance) + change, _fix_all(structure, [(j, i, z)]), (j, i, z))
                    )
        for j in terms:
            for i in np.flatnonzero(~self.regression.positive.cpu().numpy() & (w[j, :d] > 0)):
                lower = w.copy()
                lower[j, i] -= 1
                options.append((-math.inf, (lower, free, active), None))
            options += [(-math.inf, (rows, loose, active), None) for rows, loose in _without_bar(w, free, int(j), d)]
        return options

    def _price_term(self, w: np.ndarray, free: np.ndarray) -> float:
        log_n = math.log(self.rows)
        return self.prior.term_price(w, free, log_n) + 0.5 * log_n


Structure = tuple[np.ndarray, np.ndarray, np.ndarray]  # exponents (k, d), free (k, d), active (k,)


def _fix_all(structure: Structure, values: list[tuple[int, int, float]]) -> Structure:
    """Fix exponents (term, state) at values; of several for one exponent the first counts."""
    w, free = structure[0].copy(), structure[1].copy()
    for j, i, z in reversed(values):
        w[j, i], free[j, i] = z, False
    return w, free, structure[2]


def _without_bar(w: np.ndarray, free: np.ndarray, j: int, d: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield what term j is far below K and far above it: plain terms."""
    if saturating(w[j], d):
        for above in (w[j, :d], w[j, :d] - w[j, d : 2 * d]):
            rows, loose = w.copy(), free.copy()
            rows[j], loose[j] = 0.0, False
            rows[j, :d] = above
            yield rows, loose


def _as_lanes(proposal: Proposal, like: Tensor) -> Lanes:
    w = torch.as_tensor(proposal.exponents, dtype=like.dtype, device=like.device)[None]
    return Lanes.of(w, torch.as_tensor(proposal.free, device=like.device)[None])


def _as_proposals(lanes: Lanes, cost: Tensor) -> list[Proposal]:
    w, a, free, active = (v.cpu().numpy() for v in (lanes.exponents, lanes.coefficients, lanes.free, lanes.active))
    return [
        Proposal(w[q][on], a[q][on], free[q][on], float(cost[q]))
        for q, on in enumerate(active)
        if np.isfinite(float(cost[q])) and on.any()
    ]


def _distinct(lanes: Lanes, most: int, digits: int = 1, columns: int | None = None) -> Lanes:
    """Keep the first lane of each structure, in the order given; only the first `columns` of a row tell structures apart."""
    seen: set[tuple] = set()
    keep = []
    for q, name in enumerate(lanes.signatures(digits, columns)):
        if name not in seen and len(set(name)) == len(name):
            seen.add(name)
            keep.append(q)
    return lanes.select(torch.as_tensor(keep[:most], dtype=torch.long, device=lanes.rss.device))


def shared_terms(proposals: list[list[Proposal]], most: int = 14) -> list[np.ndarray]:
    """For each equation, the terms that good proposals of the other equations use, the most wanted first."""
    d = len(proposals)
    out = []
    for e in range(d):
        votes: dict[tuple, float] = {}
        for other in range(d):
            if other == e or not proposals[other]:
                continue
            best = min(p.cost for p in proposals[other])
            for p in proposals[other]:
                for row in rounded(p.exponents, d):
                    votes[tuple(row)] = votes.get(tuple(row), 0.0) + math.exp(-0.3 * (p.cost - best))
        columns = max((p.exponents.shape[1] for ps in proposals for p in ps), default=d)
        out.append(np.array(sorted(votes, key=lambda r: -votes[r])[:most]).reshape(-1, columns))
    return out


def rounded(rows: np.ndarray, d: int) -> np.ndarray:
    """Round exponents to three digits and log K to one, so that equal terms are equal."""
    return np.column_stack([rows[:, : 2 * d].round(3), rows[:, 2 * d :].round(1)]) + 0.0
