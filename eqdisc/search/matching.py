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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..data.scaling import FLOOR
from ..data.smoothing import Denoised
from ..fit.matched import Matched
from ..fit.regression import Regression
from ..law.law import LAWS, Law, Numbers
from ..law.price import Prior
from ..law.terms import Number, Terms
from .kinetics import prune_rates
from .library import LARGEST
from .subsets import Subsets

RATIOS = 256  # sets of two and of three, shared among the states, whose K is fitted
CLEAN_FLOORS = (3e-3, 1e-2)  # shares of a state's spread: interpolation error must not buy terms on clean data
BEAM = 16
STARTS = 24  # random chains of each size
CLOSE = 0.4  # an exponent is fixed at most so far from where it was fitted
SPARED = 0.8  # nats beside its price that an exponent of zero saves: a factor less to read
KEEP = 12  # proposals an equation, and half as many more for each further error floor
PER_SIZE = {1: 2, 2: 5, 3: 5}  # beam members of each size that are simplified; 3 of the larger ones


Hurry = Callable[[], bool]

PROPOSALS = LAWS


def match(
    regression: Regression,
    denoised: Denoised,
    sigma: np.ndarray,
    e: int,
    library: Terms,
    ratios: bool,
    prior: Prior,
    former: list[Law] | None = None,
    seed: int = 0,
    least: float = FLOOR,
    hurry: Hurry = lambda: False,
) -> list[Law]:
    """Propose laws of equation e, the shortest description first; `former` proposals join the race, and random chains do.

    Where the library has `ratios`, K alone is freed. Once `hurry()` is true it ends with what it has.
    """
    noise = max(0.5 * sigma[e], least)
    spread = denoised.spread[e]
    more = (
        [share * spread for share in CLEAN_FLOORS if share * spread > 1.7 * noise]
        if denoised.clean
        else [max(3e-3 * spread, 2.5 * noise)]
    )
    search = _Search(regression, e, library, ratios, prior, hurry)
    if ratios:
        beam = search.grow_ratios(noise)
        beam += prune_rates(regression, e, search.subsets.terms, prior, hurry) if denoised.clean else []
    else:
        beam = search.beam(noise, seeds=search.subsets.exhaustive(0.3 * noise, pairs=2, triples=16))
        beam += search.random_starts(seed)
    found: dict[tuple, Law] = {}
    for floor in (noise, *more):
        if found and hurry():
            break
        count = KEEP if floor == noise else max(2, KEEP // 2)
        for proposal in search.round(beam, floor, former or [], count):
            found.setdefault(_signature(proposal), proposal)
    return list(found.values())


def _signature(proposal: Law) -> tuple:
    return tuple(sorted(map(tuple, (proposal.terms.table().round(2) + 0.0).tolist())))


class _Search:
    """The proposals of one equation, around one library."""

    def __init__(
        self, regression: Regression, e: int, library: Terms, ratios: bool, prior: Prior, hurry: Hurry
    ) -> None:
        self.regression, self.e, self.ratios, self.prior, self.hurry = regression, e, ratios, prior, hurry
        self.subsets = Subsets(regression, e, library, prior, ratios)
        self.y, self.rows = self.subsets.y, self.subsets.rows

    def release(self, lanes: Matched) -> Matched:
        """Free every exponent of a state that may carry a real one; where terms may saturate, K alone."""
        terms = lanes.terms
        return lanes.freed(terms.only_k() if self.ratios else terms.loosen(self.regression.positive))

    def fit(self, lanes: Matched, steps: int = 12) -> Matched:
        """Fit lanes to the equation."""
        return self.regression.fit(lanes, self.e, steps=steps, bounds=self.prior.bounds)

    def cost(self, lanes: Matched, floor: float) -> Tensor:
        """Price lanes, with an error floor under the residual."""
        return lanes.cost(self.prior, self.rows, floor)

    def beam(self, floor: float, seeds: Matched) -> list[Matched]:
        """Grow equations term by term with all exponents free; return the members of each size."""
        candidates = Matched.of(self.subsets.terms[(-self.subsets.b.abs()).argsort()[:10, None]])
        members, best, best_size = [], math.inf, 0
        wide = seeds.select(seeds.active.sum(-1) == 3)
        pairs = self.subsets.exhaustive(0.0, pairs=24, triples=0)
        for size in range(1, LARGEST + 1):
            extra = [pairs] if size == 2 else [wide] if size == 3 and len(wide) else []
            lanes = self.fit(self.release(Matched.cat([candidates, *extra])))
            lanes = lanes.select(lanes.rss.argsort()).distinct(BEAM)
            lanes = lanes.select(lanes.rss < 1e8)
            if not len(lanes):
                break
            members.append(lanes)
            cost = float(self.cost(lanes, floor).min())
            if cost < best:
                best, best_size = cost, size
            if size >= best_size + 2 or float(lanes.rss[0]) / self.rows < 0.02 * floor**2 or self.hurry():
                break
            candidates = self._grow(lanes)
        return members

    def grow_ratios(self, floor: float) -> list[Matched]:
        """Fit the K of the best library sets, and of the best of them with one term and two terms more."""
        many = RATIOS // self.regression.d
        sets = self.subsets.exhaustive(0.3 * floor, pairs=many, triples=many, singles=5)
        lanes = self.release(Matched.cat([sets, self.subsets.one_bar(0.3 * floor, many)]))
        members: list[Matched] = []
        for _ in range(LARGEST - 2):
            lanes = self.fit(lanes)
            lanes = lanes.select(self.cost(lanes, floor).argsort())
            lanes = lanes.select(lanes.rss < 1e8).distinct(BEAM, 2)
            shortest = self.cost(lanes, floor).amin() if len(lanes) else torch.inf
            if not shortest < min((self.cost(m, floor).amin() for m in members), default=torch.inf):
                break
            members.append(lanes)
            if self.hurry():
                break
            lanes = self.release(self._grow(lanes.select(slice(0, BEAM // 2))))
        return members

    def random_starts(self, seed: int) -> list[Matched]:
        """Fit small chains from random real exponents: what no library holds (Heim et al. 2020 start all their chains so)."""
        if not bool(self.regression.positive.any()) or self.ratios or self.hurry():
            return []
        generator, d = torch.Generator().manual_seed(seed), self.regression.d
        positive, plain, found = self.regression.positive.cpu(), d - self.prior.grouped, []
        for size in (2, 3):
            shape = (STARTS, size, d)
            w = 4.0 * torch.rand(shape, generator=generator, dtype=self.y.dtype) - 1.5
            w = torch.where(positive, w.clamp(*self.prior.bounds), w.round().clamp_min(0))
            w = torch.where(torch.rand(shape, generator=generator) < 1.0 / min(d, 2), w, 0.0)
            w[..., plain:] = 0.0
            none = torch.zeros_like(w)
            terms = Terms(w, none, none[..., 0], none).map(lambda v: v.to(self.y.device))
            lanes = self.fit(self.release(Matched.of(terms)))
            found.append(lanes.select(lanes.rss.argsort()[: 2 * KEEP]).distinct(PER_SIZE[size]))
        return found

    def _grow(self, lanes: Matched, top: int = 4) -> Matched:
        """Add to each lane the library terms that explain most of its residual."""
        now = self.regression.solve(lanes.terms, lanes.active, self.e)
        q = torch.linalg.qr(now.columns.mT)[0]
        residual = self.y - (q @ (q.mT @ self.y)[..., None])[..., 0]
        inside = self.subsets.columns @ q
        outside = 1 - inside.square().sum(-1)
        gain = (self.subsets.columns @ residual.T).T.square() / outside.clamp_min(1e-12)
        gain = torch.where(outside < 1e-3, 0.0, gain)
        chosen = gain.argsort(-1, descending=True)[:, :top]
        old = lanes.terms.map(lambda v: v[:, None].expand(-1, chosen.shape[1], *v.shape[1:]))
        grown = old.join(self.subsets.terms[chosen[..., None]], axis=2)
        return Matched.of(grown.map(lambda v: v.flatten(0, 1)))

    def round(self, beam: list[Matched], floor: float, former: list[Law], count: int) -> list[Law]:
        """Simplify the beam's best of every size and the best library sets; return the shortest descriptions."""
        picks = []
        for lanes in beam:
            order = self.cost(lanes, floor).argsort()
            most = KEEP if self.ratios else PER_SIZE.get(lanes.width, 3)
            picks.append(lanes.select(order[:most]))
        sets = self.subsets.exhaustive(floor, pairs=16, triples=16, singles=5)
        sets = self.regression.fit(self.release(sets) if self.ratios else sets, self.e)
        order = self.cost(sets, floor).argsort()
        picks.append(self.release(sets.select(order[:6])))
        picks += [self._as_lanes(p) for p in former[:4]]
        simple = self.simplify(Matched.cat(picks).distinct(64), floor)
        lanes = Matched.cat([simple, sets])
        cost = self.cost(lanes, floor)
        lanes = lanes.select(cost.argsort()).distinct(count, 2)
        return self._as_proposals(lanes, self.cost(lanes, floor))

    def simplify(self, lanes: Matched, floor: float, tries: int = 5) -> Matched:
        """Drop terms and fix exponents, greedily, as long as the description length falls."""
        lanes = self.fit(lanes, steps=8)
        done: list[Matched] = []
        while len(lanes) and not self.hurry():
            cost = self.cost(lanes, floor)
            trials, origin = self._moves(lanes, cost, floor, tries)
            if not len(trials):
                break
            trials = self.fit(trials, steps=5)
            trial_cost = self.cost(trials, floor)
            best = torch.full_like(cost, torch.inf).scatter_reduce(0, origin, trial_cost, "amin")
            better = best < cost - 1e-9  # every round shortens a description, so the loop ends
            done.append(lanes.select(~better))
            winners = [
                int(torch.where(origin == lane, trial_cost, torch.inf).argmin()) for lane in better.nonzero()[:, 0]
            ]
            lanes = trials.select(torch.as_tensor(winners, dtype=torch.long)).distinct(len(winners), 2)
        return Matched.cat([*done, lanes])

    def _moves(self, lanes: Matched, cost: Tensor, floor: float, tries: int) -> tuple[Matched, Tensor]:
        """Return the moves foretold best for each lane, and the lane each comes from."""
        inverse, a, numbers = self._curvature(lanes)
        variance = inverse.diagonal(dim1=-2, dim2=-1).clamp_min(1e-300).cpu().numpy()
        lost = (a.square().cpu().numpy()) / variance[:, : a.shape[1]]
        parts: list[tuple[Law, int]] = []
        for q, law in enumerate(_split(lanes)):
            moves = _Moves(self, law, floor, float(lanes.rss[q]))
            slots = [(n, float(v)) for n, v in zip(numbers.names(q), variance[q, a.shape[1] :], strict=False)]
            options = sorted([*moves.drop(lost[q]), *moves.fix(slots), *moves.always()], key=lambda o: o.change)
            chosen = options[:tries] + [o for o in options[tries:] if o.change == -math.inf]
            parts += [(o.make(), q) for o in chosen]
            eager = [o for o in options if o.change < 0 and o.number is not None]
            if len(eager) > 1:
                parts.append((law.put({o.number: o.value for o in reversed(eager) if o.number is not None}), q))
        if not parts:
            return lanes.select(slice(0, 0)), torch.zeros(0, dtype=torch.long)
        laws, origin = zip(*parts, strict=True)
        return _as_matched(laws, self.y.device), torch.as_tensor(origin, device=self.y.device)

    def _curvature(self, lanes: Matched) -> tuple[Tensor, Tensor, Numbers]:
        """Return the inverse Gauss-Newton matrix over normalised coefficients and free numbers of each lane."""
        numbers = Numbers.among(lanes.law.free)
        now = self.regression.solve(lanes.terms, lanes.active, self.e)
        columns = torch.cat([now.columns, self.regression.jacobian(now, numbers, self.e)], 1)
        on = torch.cat([lanes.active, numbers.valid], 1)
        hessian = columns @ columns.mT
        size = hessian.diagonal(dim1=-2, dim2=-1).sqrt().clamp_min(1e-150)
        unit = hessian / size[:, None] / size[..., None]
        unit = torch.where(on[:, None] & on[..., None], torch.nan_to_num(unit), 0.0)
        unit = unit + torch.diag_embed(torch.where(on, 1e-9, 1.0))
        eye = torch.eye(unit.shape[-1], dtype=unit.dtype, device=unit.device)
        inverse = torch.linalg.solve_ex(unit, eye)[0] / size[:, None] / size[..., None]
        return inverse, now.a, numbers

    def _as_lanes(self, proposal: Law) -> Matched:
        return _as_matched([proposal], self.y.device)

    def _as_proposals(self, lanes: Matched, cost: Tensor) -> list[Law]:
        priced = zip(_split(lanes), cost.tolist(), strict=True)
        found = [(law.choose(law.support[:, 0]), c) for law, c in priced if math.isfinite(c) and law.support.any()]
        least = torch.finfo(self.y.dtype).tiny  # what came out as zero
        rounded = [
            (law, np.where(np.abs(law.coefficients[:, 0]) <= least, 0.0, law.coefficients[:, 0]), c) for law, c in found
        ]
        return [Law.equation(law.terms, a, self.e, law.free, cost=c) for law, a, c in rounded]


@dataclass(frozen=True, eq=False)
class _Option:
    """One move: the change in nats that is foretold, how the law is made, and the number that is fixed, with its value."""

    change: float
    make: Callable[[], Law]
    number: Number | None = None
    value: float = 0.0


@dataclass(frozen=True, eq=False)
class _Moves:
    """The moves of one lane, which has its padding and leaves a residual sum `rss`."""

    search: _Search
    law: Law
    floor: float
    rss: float

    def _rise(self, more: float) -> float:
        """Return the nats lost where the residual sum grows."""
        rows, floor = self.search.rows, self.floor**2
        return 0.5 * rows * (math.log((self.rss + more) / rows + floor) - math.log(self.rss / rows + floor))

    @property
    def _there(self) -> list[int]:
        return np.flatnonzero(self.law.support[:, 0]).tolist()

    def drop(self, lost: Float[np.ndarray, "k"]) -> Iterator[_Option]:
        """Leave out a term; `lost` is the rise of the residual sum."""
        log_n, prior, there = math.log(self.search.rows), self.search.prior, self._there
        for j in there if len(there) > 1 else ():
            price = prior.term_price(self.law.terms[j], self.law.free[j], log_n) + 0.5 * log_n
            yield _Option(self._rise(lost[j]) - price, partial(_without, self.law, j))

    def fix(self, slots: Sequence[tuple[Number, float]]) -> Iterator[_Option]:
        """Fix an exponent at a simple value near by; `slots` are the free numbers with their variances."""
        prior, log_n, plain = self.search.prior, math.log(self.search.rows), self.law.d - self.search.prior.grouped
        for number, variance in slots:
            if number.part == "offset" or number.place >= plain:
                continue
            w = self.law[number]
            for z in prior.nearest(w):
                if abs(z - w) < CLOSE:
                    change = prior.price(z, False, log_n) - prior.price(w, True, log_n) - SPARED * (z == 0)
                    change += self._rise((w - z) ** 2 / variance)
                    yield _Option(change, partial(self.law.put, {number: z}), number, z)

    def always(self) -> Iterator[_Option]:
        """Yield what is tried whatever is foretold: whole powers one less, and terms without their denominator."""
        changes_sign = ~self.search.regression.positive.cpu().numpy()
        for j in self._there:
            for i in np.flatnonzero(changes_sign & (self.law.terms.exponents[j] > 0)).tolist():
                number = Number("exponent", j, i)
                less = {number: self.law[number] - 1}
                yield _Option(-math.inf, partial(self.law.put, less, free=None))
            if self.law.terms[[j]].saturates.any():
                for plain in self.law.terms[[j]].plain():
                    yield _Option(-math.inf, partial(self.law.replace_term, j, plain))


def _without(law: Law, j: int) -> Law:
    return law.with_coefficients(law.coefficients * (np.arange(len(law)) != j)[:, None])


def _split(lanes: Matched) -> list[Law]:
    """Return lanes one by one in NumPy, with their padding."""
    terms, free = lanes.terms.numpy(), lanes.law.free.numpy()
    a = lanes.law.coefficients.cpu().numpy()
    return [Law(terms[q], a[q], free[q]) for q in range(len(lanes))]


def _as_matched(laws: Sequence[Law], device: torch.device) -> Matched:
    """Return laws of one equation, alike wide, as lanes; their terms are there where a coefficient is."""
    stack = lambda part: Terms(*(torch.as_tensor(np.stack(v), device=device) for v in zip(*part, strict=True)))  # noqa: E731
    there = torch.as_tensor(np.stack([w.support.any(1) for w in laws]), device=device)
    return Matched.of(stack([w.terms.arrays for w in laws]), stack([w.free.arrays for w in laws]), there)


def shared_terms(proposals: list[list[Law]], most: int = 14) -> list[Terms]:
    """For each equation, the terms that good proposals of the other equations use, the most wanted first."""
    d = len(proposals)
    out = []
    for e in range(d):
        votes: dict[tuple, float] = {}
        terms: dict[tuple, Terms] = {}
        for other in range(d):
            if other == e or not proposals[other]:
                continue
            best = min(p.cost for p in proposals[other])
            for p in proposals[other]:
                own = rounded(p.terms)
                for j, row in enumerate(map(tuple, own.table().tolist())):
                    votes[row] = votes.get(row, 0.0) + math.exp(-0.3 * (p.cost - best))
                    terms.setdefault(row, own[[j]])
        wanted = [terms[row] for row in sorted(votes, key=lambda r: -votes[r])[:most]]
        out.append(wanted[0].join(*wanted[1:]) if wanted else Terms.none(d))
    return out


def rounded(terms: Terms) -> Terms:
    """Round exponents to three digits and log K to one, so that equal terms are equal."""
    return terms.rounded(3, 1)


__all__ = ["PROPOSALS", "match", "rounded", "shared_terms"]
