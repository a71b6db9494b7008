r"""Integral regression: an equation judged against raw data without a solver.

Within a window the state obeys x_e(t_n) = c + sum_j a_j int_{t_0}^{t_n} m_j(x(s)) ds. The integral runs over
denoised states (Gauss-Legendre nodes between samples), the left side is the raw data, so the residual of the true
law is the measurement noise itself: independent, and comparable between laws by description length. The window's
constant c and the coefficients a are projected out in closed form (variable projection: Golub & Pereyra, SIAM J.
Numer. Anal. 10, 1973), so that only exponents are searched, by Levenberg-Marquardt with Kaufman's Jacobian (BIT 15,
1975), hundreds of lanes at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..data.dataset import Dataset
from ..law.law import Numbers
from ..law.terms import Terms
from ..units.monomial import LIMIT
from ..units.saturation import LOG_K
from ..work.compiler import is_compiler_here
from ..work.journal import ROOM, room_on
from .damping import HOPELESS, LONGEST, LOST_SUM, RIDGE, SETTLED
from .field import log_slope
from .matched import Matched
from .rule import SHORT, Rule, block_length, cut_windows, integration, lay_out, pad_nodes, rule_of

TINY = 1e-5  # scaled states are clamped here in features
ARRAYS = 4  # of the size of a lane's terms and slopes at the nodes that one step holds at a time

States = Callable[[int, np.ndarray], np.ndarray]


class Regression:
    """The data of one dataset prepared for integral regression, all equations.

    `weights` are those of every reading; `exact` asks for quadrature that is better than any noise.
    """

    def __init__(
        self,
        data: Dataset,
        states: States,
        positive: np.ndarray,
        device: str = "cpu",
        weights: list[np.ndarray] | None = None,
        exact: bool = True,
        room: float = ROOM,
    ) -> None:
        self.room = room_on(device, room)
        windows = cut_windows(data)
        longest = max(len(k.t) for k in data.trajectories)
        order = (4 if longest <= SHORT else 3 if longest <= 2 * SHORT else 2) if exact else 2
        nodes, quadrature, values, trust = lay_out(data, windows, order, weights)
        x = np.concatenate([states(k, t) for k, t in nodes])
        as_tensor = lambda v: torch.as_tensor(v, dtype=torch.float64, device=device)  # noqa: E731
        self.positive = torch.as_tensor(positive, device=device)
        self.d = data.d
        self.x = as_tensor(pad_nodes(x, windows, order))  # (w * (L - 1) * order, d), windows padded alike
        self.log_x = self.x.abs().clamp_min(TINY).log()
        self.sign = torch.where((self.x < 0) & ~self.positive, -1.0, 1.0).to(self.x)
        self.compiled = self.x.device.type == "cpu" and is_compiler_here()
        measured, integral = as_tensor(values), integration(as_tensor(quadrature))
        block = block_length(torch.isfinite(measured))
        self.operators: list[Tensor] = []  # (w, (L - 1) * order, L / block) an equation
        self.targets: list[Tensor] = []
        self.rows: list[float] = []
        self.rules: list[Rule] = []  # the same, without its zeros
        for e in range(data.d - data.driven):
            weight = torch.isfinite(measured[..., e]) * as_tensor(trust[..., e])
            rule, rows = rule_of(quadrature, weight.cpu().numpy(), block)
            project = as_tensor(rule.projection())
            self.operators.append(integral @ project)
            self.targets.append((torch.nan_to_num(measured[..., e])[:, None] @ project).flatten())
            self.rows.append(max(rows, 2.0))
            self.rules.append(rule)

    def cumulate(self, f: Float[Tensor, "... nodes"], e: int) -> Float[Tensor, "... n"]:
        """Integrate a function given at the nodes from each window's start, as equation e sees it."""
        operator = self.operators[e]
        windows, nodes, rows = operator.shape
        flat = f.reshape(f.shape[:-1].numel(), windows, nodes)
        pieces = torch.bmm(flat.transpose(0, 1), operator)  # (w, lanes, rows)
        return pieces.transpose(0, 1).reshape(*f.shape[:-1], windows * rows)

    def features(self, terms: Terms) -> Float[Tensor, "... nodes"]:
        """Evaluate terms (..., k) at the nodes."""
        flat = terms.map(lambda v: v.reshape(1, -1, *v.shape[terms.offsets.dim() :]))
        values = flat.evaluate(self.x[None], self.positive, TINY)[0][0]
        return values.T.reshape(*terms.offsets.shape, -1)

    def share(self, terms: Terms) -> Float[Tensor, "... nodes"] | None:
        """Return the saturations of terms (..., k) at the nodes, None where all are plain."""
        flat = terms.map(lambda v: v.reshape(1, -1, *v.shape[terms.offsets.dim() :]))
        share = flat.share(self.log_x[None])
        return None if share is None else share[0].T.reshape(*terms.offsets.shape, -1)

    def fit(self, lanes: Matched, e: int, steps: int = 12, bounds: tuple[float, float] = (-LIMIT, LIMIT)) -> Matched:
        """Fit coefficients in closed form and free numbers of terms by variable projection; lanes that converge leave the batch."""
        if self.compiled:
            return self._fit_compiled(lanes, e, steps, bounds)
        numbers = Numbers.among(lanes.law.free)
        slots = numbers.term.shape[1]
        at_once = max(1, int(self.room / (ARRAYS * 8 * len(self.x) * (lanes.width + slots))))
        if len(lanes) > at_once:
            starts = range(0, len(lanes), at_once)
            return Matched.cat([self.fit(lanes.select(slice(k, k + at_once)), e, steps, bounds) for k in starts])
        active = lanes.active
        best = now = self.solve(lanes.terms, active, e)
        run = torch.arange(len(lanes), device=active.device)
        damping = now.rss.new_full((len(lanes),), 1e-2)
        for _ in range(steps if slots else 0):
            trial = self.solve(self._step(now, numbers, damping, e, bounds), active, e)
            better = trial.rss < now.rss
            gain = torch.where(better, (now.rss - trial.rss) / now.rss.clamp_min(1e-300), 0.0)
            damping = torch.where(better, damping * 0.2, damping * 6.0)
            now = now.update(trial, better)
            best = best.put(run, now)
            go_on = ~((better & (gain < SETTLED)) | (damping > HOPELESS))
            if not bool(go_on.any()):
                break
            run, active, damping, now = run[go_on], active[go_on], damping[go_on], now.select(go_on)
            numbers = numbers.select(go_on)
        return lanes.fitted(best.terms, best.coefficients, best.rss)

    def _fit_compiled(self, lanes: Matched, e: int, steps: int, bounds: tuple[float, float]) -> Matched:
        from .points import names_of
        from .projections import fit_lanes

        names, nodes = names_of(Numbers.among(lanes.law.free), self.d), (self.log_x.numpy(), self.sign.numpy())
        given = lanes.terms.table().numpy(), lanes.active.numpy(), names, nodes
        table, a, rss = fit_lanes(*given, self.rules[e], self.targets[e].numpy(), bounds, steps)
        terms = Terms.from_table(torch.from_numpy(table), self.d)
        return lanes.fitted(terms, torch.from_numpy(a), torch.from_numpy(rss))

    def solve(self, terms: Terms, active: Bool[Tensor, "b k"], e: int) -> Projection:
        """Project the coefficients of equation e out of lanes of terms."""
        y = self.targets[e]
        values = self.features(terms) * active[..., None]
        columns = self.cumulate(values, e)
        norm = columns.norm(dim=-1) + 1e-12
        columns = columns / norm[..., None]
        gram = columns @ columns.mT + torch.diag_embed(torch.where(active, RIDGE, 1.0))
        bad = ~torch.isfinite(gram).all(-1).all(-1)
        gram = torch.where(bad[:, None, None], torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device), gram)
        a = torch.linalg.solve_ex(gram, torch.nan_to_num(columns @ y)[..., None])[0][..., 0]
        residual = y - (a[..., None] * columns).sum(-2)
        rss = residual.square().sum(-1) + RIDGE * a.square().sum(-1)
        rss = torch.where(bad | ~torch.isfinite(rss), torch.full_like(rss, LOST_SUM), rss)
        return Projection(terms, values, columns, gram, a, norm, residual, rss)

    def jacobian(self, now: Projection, numbers: Numbers, e: int) -> Float[Tensor, "b p n"]:
        """Derivatives of the fitted curve with respect to the free numbers of terms, coefficients held."""
        lane, share = torch.arange(len(numbers.term), device=now.rss.device)[:, None], self.share(now.terms)
        own = None if share is None else share[lane, numbers.term]
        slope = now.values[lane, numbers.term] * log_slope(self.log_x.T[numbers.place], own, numbers.part[..., None])
        scale = (now.a / now.norm).gather(1, numbers.term) * numbers.valid
        return self.cumulate(slope, e) * scale[..., None]

    def _step(self, now: Projection, numbers: Numbers, damping: Tensor, e: int, bounds: tuple[float, float]) -> Terms:
        """Return the terms after a damped step of the free numbers."""
        j = self.jacobian(now, numbers, e)
        j = j - torch.linalg.solve_ex(now.gram, now.columns @ j.mT)[0].mT @ now.columns  # Kaufman
        hessian, gradient = j @ j.mT, (j @ now.residual[..., None])[..., 0]
        diagonal = hessian.diagonal(dim1=-2, dim2=-1)
        lift = damping[:, None] * diagonal + 1e-9 * diagonal.amax(-1, keepdim=True).clamp_min(1e-30) + ~numbers.valid
        step = torch.linalg.solve_ex(hessian + torch.diag_embed(lift), gradient[..., None])[0][..., 0]
        step = torch.nan_to_num(step).clamp(-LONGEST, LONGEST) * numbers.valid
        lane = torch.arange(len(step), device=step.device)[:, None].expand_as(step)
        by = lambda part: step * (numbers.part == part)  # noqa: E731
        inside = lambda moved, v, limits: torch.where(moved != v, moved.clamp(*limits), v)  # noqa: E731
        w, u, k, parity = now.terms.arrays
        at = lane, numbers.term, numbers.place
        return Terms(
            inside(w.index_put(at, by(0), accumulate=True), w, bounds),
            inside(u.index_put(at, by(1), accumulate=True), u, bounds),
            inside(k.index_put(at[:2], by(2), accumulate=True), k, LOG_K),
            parity,
        )


@dataclass(frozen=True, eq=False)
class Projection:
    """One evaluation of variable projection for B lanes; `a` are the normalised coefficients."""

    terms: Terms
    values: Tensor
    columns: Tensor
    gram: Tensor
    a: Tensor
    norm: Tensor
    residual: Tensor
    rss: Tensor

    @property
    def coefficients(self) -> Tensor:
        return self.a / self.norm

    def _map(self, change: Callable[..., Tensor], *others: Projection) -> Projection:
        """Apply `change` to every tensor, and to those of others beside it."""
        pairs = zip(self.terms.arrays, *(o.terms.arrays for o in others), strict=True)
        terms = Terms(*(change(*v) for v in pairs))
        rest = [f.name for f in fields(self) if f.name != "terms"]
        return Projection(terms, *(change(getattr(self, f), *(getattr(o, f) for o in others)) for f in rest))

    def select(self, lanes: Tensor) -> Projection:
        return self._map(lambda v: v[lanes])

    def update(self, other: Projection, where: Tensor) -> Projection:
        """Take the lanes `where` from another evaluation of all lanes."""
        return self._map(lambda v, new: torch.where(where.reshape(-1, *[1] * (v.dim() - 1)), new, v), other)

    def put(self, lanes: Tensor, part: Projection) -> Projection:
        """Write the lanes of `part` at the indices `lanes`."""
        return self._map(lambda v, new: v.index_put((lanes,), new), part)


__all__ = ["Projection", "Regression"]
