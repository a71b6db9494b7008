r"""Matching: structures that fit the integral form of the data, proposed without a solver.

For each equation on its own: a library of simple powers searched exhaustively (`subsets`: all pairs, and triples of the most
useful terms), a beam that adds one library term at a time and then frees all
exponents, small chains from random real exponents, dense rate laws that are pruned (`kinetics`), and a simplification that drops terms and
fixes exponents while the description length falls. Each move is foretold by the optimal brain surgeon's formula dRSS = p**2 / (H^-1)_pp (Hassibi &
Stork, NeurIPS 1992) and only the best foretold are fitted. What comes out are proposals: supports and exponents that a
chain starts its training from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from ..data.scaling import FLOOR
from ..data.smoothing import Denoised
from ..fit.regression import Lanes, Regression, slots_of
from ..law.law import Proposal
from ..law.price import Prior
from ..law.terms import loosen, saturating
from ..work.journal import Form, Packed
from .kinetics import prune_rates
from .subsets import Subsets

RATIOS = 256  # sets of two and of three, shared among the states, whose K is fitted
CLEAN_FLOORS = (3e-3, 1e-2)  # shares of a state's spread: interpolation error must not buy terms on clean data
BEAM = 16
LARGEST = 5  # terms in one equation
STARTS = 24  # random chains of each size
KEEP = 12  # proposals an equation, and half as many more for each further error floor
PER_SIZE = {1: 2, 2: 5, 3: 5}  # beam members of each size that are simplified; 3 of the larger ones


Hurry = Callable[[], bool]


def _pack(proposals: list[Proposal]) -> Packed:
    """Return proposals of one equation as arrays, their rows end to end."""
    widths = {p.exponents.shape[1] for p in proposals}
    assert len(widths) <= 1, "proposals of one library have rows alike wide"
    rows = lambda name: np.concatenate([getattr(p, name) for p in proposals]) if proposals else np.zeros(0)  # noqa: E731
    lengths = np.array([len(p.exponents) for p in proposals], np.int64)
    cost = np.array([p.cost for p in proposals])
    return {name: rows(name) for name in ("exponents", "coefficients", "free")} | {"lengths": lengths, "cost": cost}


def _unpack(packed: Packed) -> list[Proposal]:
    cuts = np.cumsum(packed["lengths"])[:-1]
    parts = [np.split(packed[name], cuts) for name in ("exponents", "coefficients", "free")]
    cost = packed["cost"].tolist()
    return [Proposal(w.copy(), a.copy(), f.copy(), c) for w, a, f, c in zip(*parts, cost, strict=True)] if cost else []


PROPOSALS: Form[list[Proposal]] = Form(_pack, _unpack)


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
    hurry: Hurry = lambda: False,
) -> list[Proposal]:
    """Propose structures for equation e, the shortest description first; `former` proposals join the race, and random chains do.

    Once `hurry()` is true it ends with what it has.
    """
    noise = max(0.5 * sigma[e], least)
    spread = denoised.spread[e]
    more = (
        [share * spread for share in CLEAN_FLOORS if share * spread > 1.7 * noise]
        if denoised.clean
        else [max(3e-3 * spread, 2.5 * noise)]
    )
    search = _Search(regression, e, terms, prior, hurry)
    if search.ratios:
        beam = search.grow_ratios(noise)
        beam += prune_rates(regression, e, search.subsets.w, prior, hurry) if denoised.clean else []
    else:
        beam = search.beam(noise, seeds=search.subsets.exhaustive(0.3 * noise, pairs=2, triples=16))
        beam += search.random_starts(seed)
    found: dict[tuple, Proposal] = {}
    for floor in (noise, *more):
        if found and hurry():
            break
        count = KEEP if floor == noise else max(2, KEEP // 2)
        for proposal in search.round(beam, floor, former or [], count):
            found.setdefault(_signature(proposal), proposal)
    return list(found.values())


def _signature(proposal: Proposal) -> tuple:
    return tuple(sorted(map(tuple, proposal.exponents.round(2) + 0.0)))


class _Search:
    """The proposals of one equation, around one library."""

    def __init__(self, regression: Regression, e: int, terms: np.ndarray, prior: Prior, hurry: Hurry) -> None:
        self.regression, self.e, self.prior, self.hurry = regression, e, prior, hurry
        self.subsets = Subsets(regression, e, terms, prior)
        self.ratios, self.y, self.rows = self.subsets.ratios, self.subsets.y, self.subsets.rows

    def release(self, lanes: Lanes) -> Lanes:
        """Free every exponent of a state that may carry a real one; where terms may saturate, K alone."""
        free = loosen(lanes.exponents, self.regression.positive)
        free[..., : 2 * self.regression.d] &= not self.ratios
        return Lanes.of(lanes.exponents, free, lanes.active)

    def beam(self, floor: float, seeds: Lanes) -> list[Lanes]:
        """Grow equations term by term with all exponents free; return the members of each size."""
        candidates = Lanes.of(
            self.subsets.w[(-self.subsets.b.abs()).argsort()[:10]][:, None],
            torch.zeros(10, 1, self.subsets.w.shape[1], dtype=torch.bool)[: len(self.subsets.w)],
        )
        members, best, best_size = [], math.inf, 0
        wide = seeds.select(seeds.active.sum(-1) == 3)
        pairs = self.subsets.exhaustive(0.0, pairs=24, triples=0)
        for size in range(1, LARGEST + 1):
            extra = [pairs] if size == 2 else [wide] if size == 3 and len(wide) else []
            lanes = self.regression.fit(self.release(Lanes.cat([candidates, *extra])), self.e, prior=self.prior)
            lanes = lanes.select(lanes.rss.argsort()).distinct(BEAM)
            lanes = lanes.select(lanes.rss < 1e8)
            if not len(lanes):
                break
            members.append(lanes)
            cost = float(lanes.cost(self.prior, self.rows, floor).min())
            if cost < best:
                best, best_size = cost, size
            if size >= best_size + 2 or float(lanes.rss[0]) / self.rows < 0.02 * floor**2 or self.hurry():
                break
            candidates = self._grow(lanes)
        return members

    def grow_ratios(self, floor: float) -> list[Lanes]:
        """Fit the K of the best library sets, and of the best of them with one term and two terms more."""
        many = RATIOS // self.regression.d
        sets = self.subsets.exhaustive(0.3 * floor, pairs=many, triples=many, singles=5)
        lanes = self.release(Lanes.cat([sets, self.subsets.one_bar(0.3 * floor, many)]))
        members: list[Lanes] = []
        for _ in range(LARGEST - 2):
            lanes = self.regression.fit(lanes, self.e, prior=self.prior)
            lanes = lanes.select(lanes.cost(self.prior, self.rows, floor).argsort())
            lanes = lanes.select(lanes.rss < 1e8).distinct(BEAM, 2)
            shortest = lanes.cost(self.prior, self.rows, floor).amin() if len(lanes) else torch.inf
            if not shortest < min((m.cost(self.prior, self.rows, floor).amin() for m in members), default=torch.inf):
                break
            members.append(lanes)
            if self.hurry():
                break
            lanes = self.release(self._grow(lanes.select(slice(0, BEAM // 2))))
        return members

    def random_starts(self, seed: int) -> list[Lanes]:
        """Fit small chains from random real exponents: what no library holds (Heim et al. 2020 start all their chains so)."""
        if not bool(self.regression.positive.any()) or self.ratios or self.hurry():
            return []
        generator, d = torch.Generator().manual_seed(seed), self.subsets.w.shape[1]
        found = []
        for size in (2, 3):
            shape = (STARTS, size, d)
            w = 4.0 * torch.rand(shape, generator=generator, dtype=self.subsets.w.dtype) - 1.5
            w = torch.where(
                self.regression.positive.cpu(), w.clamp(self.prior.lower, self.prior.upper), w.round().clamp_min(0)
            )
            w = torch.where(torch.rand(shape, generator=generator) < 1.0 / min(d, 2), w, 0.0).to(self.subsets.w.device)
            w[..., d - self.prior.grouped :] = 0.0
            lanes = self.regression.fit(
                self.release(Lanes.of(w, torch.zeros_like(w, dtype=torch.bool))), self.e, prior=self.prior
            )
            found.append(lanes.select(lanes.rss.argsort()[: 2 * KEEP]).distinct(PER_SIZE[size]))
        return found

    def _grow(self, lanes: Lanes, top: int = 4) -> Lanes:
        """Add to each lane the library terms that explain most of its residual."""
        now = self.regression._solve(lanes.exponents, lanes.active, self.y, self.e)
        q = torch.linalg.qr(now.columns.mT)[0]
        residual = self.y - (q @ (q.mT @ self.y)[..., None])[..., 0]
        inside = self.subsets.columns @ q
        outside = 1 - inside.square().sum(-1)
        gain = (self.subsets.columns @ residual.T).T.square() / outside.clamp_min(1e-12)
        gain = torch.where(outside < 1e-3, 0.0, gain)
        chosen = gain.argsort(-1, descending=True)[:, :top]
        old = lanes.exponents[:, None].expand(-1, chosen.shape[1], -1, -1)
        w = torch.cat([old, self.subsets.w[chosen][:, :, None]], 2).flatten(0, 1)
        return Lanes.of(w, torch.zeros_like(w, dtype=torch.bool))

    def round(self, beam: list[Lanes], floor: float, former: list[Proposal], count: int) -> list[Proposal]:
        """Simplify the beam's best of every size and the best library sets; return the shortest descriptions."""
        picks = []
        for lanes in beam:
            order = lanes.cost(self.prior, self.rows, floor).argsort()
            most = KEEP if self.ratios else PER_SIZE.get(lanes.exponents.shape[1], 3)
            picks.append(lanes.select(order[:most]))
        sets = self.subsets.exhaustive(floor, pairs=16, triples=16, singles=5)
        sets = self.regression.fit(self.release(sets) if self.ratios else sets, self.e)
        order = sets.cost(self.prior, self.rows, floor).argsort()
        picks.append(self.release(sets.select(order[:6])))
        picks += [_as_lanes(p, self.y) for p in former[:4]]
        simple = self.simplify(Lanes.cat(picks).distinct(64), floor)
        lanes = Lanes.cat([simple, sets])
        cost = lanes.cost(self.prior, self.rows, floor)
        lanes = lanes.select(cost.argsort()).distinct(count, 2)
        return _as_proposals(lanes, lanes.cost(self.prior, self.rows, floor))

    def simplify(self, lanes: Lanes, floor: float, tries: int = 5) -> Lanes:
        """Drop terms and fix exponents, greedily, as long as the description length falls."""
        lanes = self.regression.fit(lanes, self.e, steps=8, prior=self.prior)
        done: list[Lanes] = []
        while len(lanes) and not self.hurry():
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
            lanes = trials.select(torch.as_tensor(winners, dtype=torch.long)).distinct(len(winners), 2)
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
        for j, i, variance in [slot for slot in slots if slot[1] % d < d - self.prior.grouped and slot[1] < 2 * d]:
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
