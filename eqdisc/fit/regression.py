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
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..data.dataset import Dataset
from ..law.price import Prior, limits
from ..law.terms import log_slope, log_table, monomials, saturation
from ..work.compiler import is_compiler_here
from ..work.journal import ROOM, room_on
from .projections import HOPELESS, LONGEST, LOST, RIDGE, SETTLED, Rule

WINDOW = 25  # samples; long records have their constant of integration freed this often
SHORT = 60  # a record up to this length is one window
ROWS = 240  # samples are averaged in blocks down to about this many rows
FINE = 8  # rows that a window keeps at least
MOST = 6000  # samples used at most; beyond it, evenly chosen windows
TINY = 1e-5  # scaled states are clamped here in features
ARRAYS = 4  # of the size of a lane's terms and slopes at the nodes that one step holds at a time

States = Callable[[int, np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Lanes:
    """Structures of one equation side by side: exponents (B, k, d), which are free, and which terms are there (B, k)."""

    exponents: Float[Tensor, "b k d"]
    free: Bool[Tensor, "b k d"]
    active: Bool[Tensor, "b k"]
    coefficients: Float[Tensor, "b k"]
    rss: Float[Tensor, "b"]

    @classmethod
    def of(cls, exponents: Tensor, free: Tensor, active: Tensor | None = None) -> Lanes:
        """Build lanes that have not been fitted yet."""
        b, k, _ = exponents.shape
        active = torch.ones(b, k, dtype=torch.bool, device=exponents.device) if active is None else active
        free = free & active[..., None]
        return cls(
            torch.where(active[..., None], exponents, 0.0),
            free,
            active,
            exponents.new_zeros(b, k),
            exponents.new_full((b,), torch.inf),
        )

    def __len__(self) -> int:
        return len(self.rss)

    def select(self, lanes: Tensor | slice) -> Lanes:
        return Lanes(
            self.exponents[lanes], self.free[lanes], self.active[lanes], self.coefficients[lanes], self.rss[lanes]
        )

    @staticmethod
    def cat(parts: list[Lanes]) -> Lanes:
        """Join lanes of different widths, padded alike."""
        width = max(p.exponents.shape[1] for p in parts)
        padded = [p if p.exponents.shape[1] == width else p.pad(width) for p in parts]
        return Lanes(
            *(
                torch.cat([getattr(p, f) for p in padded])
                for f in ("exponents", "free", "active", "coefficients", "rss")
            )
        )

    def pad(self, width: int) -> Lanes:
        more = width - self.exponents.shape[1]
        last = torch.nn.functional.pad
        return Lanes(
            last(self.exponents, (0, 0, 0, more)),
            last(self.free, (0, 0, 0, more)),
            last(self.active, (0, more)),
            last(self.coefficients, (0, more)),
            self.rss,
        )

    def cost(self, prior: Prior, rows: float, floor: float) -> Float[Tensor, "b"]:
        """Description length of each lane, with an error floor (scaled units) under the residual."""
        log_n = float(np.log(rows))
        terms = prior.term_cost(self.exponents, self.free, log_n) + 0.5 * log_n
        return 0.5 * rows * (self.rss / rows + floor**2).log() + (terms * self.active).sum(-1)

    def signatures(self, digits: int, columns: int | None = None) -> list[tuple]:
        """A hashable name of each lane's structure, exponents rounded, from the first `columns` of its rows."""
        w, active = self.exponents[..., :columns].cpu().numpy().round(digits) + 0.0, self.active.cpu().numpy()
        return [tuple(sorted(map(tuple, row[on]))) for row, on in zip(w, active, strict=True)]

    def distinct(self, most: int, digits: int = 1, columns: int | None = None) -> Lanes:
        """Keep the first lane of each structure, in the order given; only the first `columns` of a row tell structures apart."""
        seen: set[tuple] = set()
        keep = []
        for q, name in enumerate(self.signatures(digits, columns)):
            if name not in seen and len(set(name)) == len(name):
                seen.add(name)
                keep.append(q)
        return self.select(torch.as_tensor(keep[:most], dtype=torch.long, device=self.rss.device))


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
        nodes, quadrature, values, trust = _lay_out(data, windows, order, weights)
        x = np.concatenate([states(k, t) for k, t in nodes])
        as_tensor = lambda v: torch.as_tensor(v, dtype=torch.float64, device=device)  # noqa: E731
        self.positive = torch.as_tensor(positive, device=device)
        self.d = data.d
        self.x = as_tensor(_pad_nodes(x, windows, order))  # (w * (L - 1) * order, d), windows padded alike
        self.log_x = self.x.abs().clamp_min(TINY).log()
        self.sign = torch.where((self.x < 0) & ~self.positive, -1.0, 1.0).to(self.x)
        self.compiled = self.x.device.type == "cpu" and is_compiler_here()
        measured, integration = as_tensor(values), _integration(as_tensor(quadrature))
        block = _block_length(torch.isfinite(measured))
        self.operators: list[Tensor] = []  # (w, (L - 1) * order, L / block) an equation
        self.targets: list[Tensor] = []
        self.rows: list[float] = []
        self.rules: list[Rule] = []  # the same, without its zeros
        for e in range(data.d - data.driven):
            weight = torch.isfinite(measured[..., e]) * as_tensor(trust[..., e])
            rule, rows = _rule(quadrature, weight.cpu().numpy(), block)
            project = as_tensor(rule.projection())
            self.operators.append(integration @ project)
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

    def features(self, exponents: Float[Tensor, "b k d"]) -> Float[Tensor, "b k nodes"]:
        """Evaluate terms at the nodes."""
        flat = exponents.reshape(1, -1, exponents.shape[-1])
        return monomials(flat, self.x[None], self.positive, TINY)[0][0].T.reshape(*exponents.shape[:-1], -1)

    def fit(self, lanes: Lanes, e: int, steps: int = 12, prior: Prior | None = None) -> Lanes:
        """Fit coefficients in closed form and free exponents by variable projection; lanes that converge leave the batch."""
        prior = prior or Prior()
        if self.compiled:
            return self._fit_compiled(lanes, e, steps, prior)
        terms, slots = lanes.exponents.shape[1], int(lanes.free.flatten(1).sum(1).max()) if len(lanes) else 0
        at_once = max(1, int(self.room / (ARRAYS * 8 * len(self.x) * (terms + slots))))
        if len(lanes) > at_once:
            starts = range(0, len(lanes), at_once)
            return Lanes.cat([self.fit(lanes.select(slice(k, k + at_once)), e, steps, prior) for k in starts])
        y = self.targets[e]
        out = [v.clone() for v in (lanes.exponents, lanes.coefficients, lanes.rss)]
        index, slots, valid = slots_of(lanes.free)
        now = self._solve(lanes.exponents, lanes.active, y, e)
        run = torch.arange(len(lanes), device=y.device)
        damping = y.new_full((len(lanes),), 1e-2)
        w, active = lanes.exponents, lanes.active
        for step in range(steps + 1):
            for target, value in zip(out, (w, now.coefficients, now.rss), strict=True):
                target[run] = value
            if slots == 0 or step == steps or len(run) == 0:
                break
            trial_w = self._step(w, now, index, valid, damping, e, prior)
            trial = self._solve(trial_w, active, y, e)
            better = trial.rss < now.rss
            gain = torch.where(better, (now.rss - trial.rss) / now.rss.clamp_min(1e-300), 0.0)
            damping = torch.where(better, damping * 0.2, damping * 6.0)
            w = torch.where(better[:, None, None], trial_w, w)
            now = now.update(trial, better)
            go_on = ~((better & (gain < SETTLED)) | (damping > HOPELESS))
            if not bool(go_on.all()):
                for target, value in zip(out, (w, now.coefficients, now.rss), strict=True):
                    target[run] = value
                run, w, active, damping, now = run[go_on], w[go_on], active[go_on], damping[go_on], now.select(go_on)
                index, valid = (index[0][go_on], index[1][go_on]), valid[go_on]
        return replace(lanes, exponents=out[0], coefficients=out[1], rss=out[2])

    def _fit_compiled(self, lanes: Lanes, e: int, steps: int, prior: Prior) -> Lanes:
        from .projections import fit_lanes

        (term, column), _, valid = slots_of(lanes.free)
        low, high = limits((prior.lower, prior.upper), lanes.exponents, self.d)
        w, a, rss = fit_lanes(
            lanes.exponents.numpy(),
            lanes.active.numpy(),
            (term.numpy(), column.numpy(), valid.numpy()),
            (self.log_x.numpy(), self.sign.numpy()),
            self.rules[e],
            self.targets[e].numpy(),
            (low.numpy(), high.numpy()),
            steps,
        )
        return replace(
            lanes, exponents=torch.from_numpy(w), coefficients=torch.from_numpy(a), rss=torch.from_numpy(rss)
        )

    def _solve(self, w: Tensor, active: Tensor, y: Tensor, e: int) -> _Projection:
        values = self.features(w) * active[..., None]
        columns = self.cumulate(values, e)
        norm = columns.norm(dim=-1) + 1e-12
        columns = columns / norm[..., None]
        gram = columns @ columns.mT + torch.diag_embed(torch.where(active, RIDGE, 1.0))
        bad = ~torch.isfinite(gram).all(-1).all(-1)
        gram = torch.where(bad[:, None, None], torch.eye(w.shape[1], dtype=w.dtype, device=w.device), gram)
        a = torch.linalg.solve_ex(gram, torch.nan_to_num(columns @ y)[..., None])[0][..., 0]
        residual = y - (a[..., None] * columns).sum(-2)
        rss = residual.square().sum(-1) + RIDGE * a.square().sum(-1)
        rss = torch.where(bad | ~torch.isfinite(rss), torch.full_like(rss, LOST), rss)
        return _Projection(w, values, columns, gram, a, norm, residual, rss)

    def jacobian(self, now: _Projection, index: tuple[Tensor, Tensor], valid: Tensor, e: int) -> Float[Tensor, "b p n"]:
        """Derivatives of the fitted curve with respect to the free exponents, coefficients held."""
        term, state = index
        lane = torch.arange(len(term), device=term.device)[:, None]
        slope = now.values[lane, term] * self._log_slopes(now.exponents, term, state)
        scale = (now.a / now.norm).gather(1, term) * valid
        return self.cumulate(slope, e) * scale[..., None]

    def _log_slopes(self, rows: Tensor, term: Tensor, column: Tensor) -> Float[Tensor, "b p nodes"]:
        """Return d log m of `term` with respect to entry `column` of its row at the nodes."""
        if rows.shape[-1] == self.d:
            return self.log_x.T[column]
        lane = torch.arange(len(rows), device=rows.device)[:, None]
        share = saturation(rows.reshape(1, -1, rows.shape[-1]), self.log_x[None])[0].T.reshape(*rows.shape[:-1], -1)
        logs = log_table(self.log_x, rows.shape[-1]).T[column]
        return log_slope(logs, share[lane, term], column[..., None], self.d)

    def _step(
        self, w: Tensor, now: _Projection, index: tuple, valid: Tensor, damping: Tensor, e: int, prior: Prior
    ) -> Tensor:
        j = self.jacobian(now, index, valid, e)
        j = j - torch.linalg.solve_ex(now.gram, now.columns @ j.mT)[0].mT @ now.columns  # Kaufman
        hessian, gradient = j @ j.mT, (j @ now.residual[..., None])[..., 0]
        diagonal = hessian.diagonal(dim1=-2, dim2=-1)
        lift = damping[:, None] * diagonal + 1e-9 * diagonal.amax(-1, keepdim=True).clamp_min(1e-30) + ~valid
        step = torch.linalg.solve_ex(hessian + torch.diag_embed(lift), gradient[..., None])[0][..., 0]
        step = torch.nan_to_num(step).clamp(-LONGEST, LONGEST) * valid
        moved = w.clone()
        lane = torch.arange(len(w), device=w.device)[:, None].expand_as(index[0])
        moved.index_put_((lane, *index), step, accumulate=True)
        return torch.where(moved != w, moved.clamp(*limits((prior.lower, prior.upper), w, self.d)), w)


@dataclass(frozen=True, eq=False)
class _Projection:
    """One evaluation of variable projection for B lanes; `a` are the normalised coefficients."""

    exponents: Tensor
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

    def _fields(self) -> tuple[Tensor, ...]:
        return self.exponents, self.values, self.columns, self.gram, self.a, self.norm, self.residual, self.rss

    def select(self, lanes: Tensor) -> _Projection:
        return _Projection(*(v[lanes] for v in self._fields()))

    def update(self, other: _Projection, where: Tensor) -> _Projection:
        pairs = zip(self._fields(), other._fields(), strict=True)
        return _Projection(*(torch.where(where.reshape(-1, *[1] * (a.dim() - 1)), b, a) for a, b in pairs))


def slots_of(free: Bool[Tensor, "b k d"]) -> tuple[tuple[Tensor, Tensor], int, Tensor]:
    """Return (term, state) of each lane's free exponents, padded to the most any lane has, and which slots are real."""
    flat = free.flatten(1)
    most = int(flat.sum(-1).max()) if len(flat) else 0
    order = (~flat).to(torch.int8).argsort(dim=-1, stable=True)[:, :most]
    d = free.shape[-1]
    return (order // d, order % d), most, flat.gather(1, order)


def _block_length(measured: Bool[Tensor, "w L d"]) -> int:
    """Return how many samples to average: about ROWS rows an equation, but no fewer than FINE a window."""
    rows = float(measured.sum()) / measured.shape[-1]
    return max(1, min(round(rows / ROWS), measured.shape[1] // FINE))


def _integration(weights: Float[Tensor, "w L1 order"]) -> Float[Tensor, "w nodes L"]:
    """Return the matrix that takes values at the nodes to the integral from the window's start to each sample."""
    steps = weights.shape[1]
    before = torch.ones(steps, steps + 1, dtype=weights.dtype, device=weights.device).triu(1)
    return (weights[..., None] * before[:, None]).flatten(1, 2)


def _rule(quadrature: np.ndarray, weight: Float[np.ndarray, "w L"], block: int) -> tuple[Rule, float]:
    """Return how an equation with these weights, zero where nothing was measured, sees an integral: blocks in which noise stays alike.

    The second value counts the rows that carry information: those with a sample, less one a window for its constant.
    """
    measured = weight > 0
    total = np.square(weight).sum(-1, keepdims=True).clip(1e-300)
    owner = np.arange(weight.shape[1]) // block
    size = np.add.reduceat(measured, np.arange(0, weight.shape[1], block), axis=1, dtype=float)
    rows = float((size > 0).sum() - measured.any(-1).sum())
    return Rule(quadrature, np.square(weight) / total, weight / np.sqrt(size.clip(1.0))[:, owner], block), rows


def cut_windows(data: Dataset) -> list[tuple[int, int, int]]:
    """Return (trajectory, first, end) of each window; every trajectory of one sample is passed over."""
    windows = []
    for k, trajectory in enumerate(data.trajectories):
        n = len(trajectory.t)
        pieces = 1 if n <= SHORT else max(1, round(n / WINDOW))
        windows += [(k, int(c[0]), int(c[-1]) + 1) for c in np.array_split(np.arange(n), pieces) if len(c) > 1]
    rows = sum(b - a for _, a, b in windows)
    keep = np.unique(
        np.linspace(0, len(windows) - 1, max(1, int(len(windows) * min(1.0, MOST / rows)))).round().astype(int)
    )
    return [windows[i] for i in keep]


def _lay_out(
    data: Dataset, windows: list[tuple[int, int, int]], order: int, weights: list[np.ndarray] | None
) -> tuple[list, np.ndarray, np.ndarray, np.ndarray]:
    """Return node times a window, quadrature weights (w, L - 1, order), raw values (w, L, d), NaN where not measured, and their weights."""
    roots, gauss = np.polynomial.legendre.leggauss(order)
    longest = max(b - a for _, a, b in windows)
    quadrature = np.zeros((len(windows), longest - 1, order))
    values = np.full((len(windows), longest, data.d), np.nan)
    trust = np.ones_like(values)
    nodes = []
    for w, (k, a, b) in enumerate(windows):
        t = data.trajectories[k].t[a:b]
        step = np.diff(t)[:, None]
        nodes.append((k, (t[:-1, None] + step * (roots + 1) / 2).ravel()))
        quadrature[w, : b - a - 1] = step * gauss / 2
        values[w, : b - a] = data.trajectories[k].x[a:b]
        if weights is not None:
            trust[w, : b - a] = weights[k][a:b]
    return nodes, quadrature, values, trust


def _pad_nodes(x: np.ndarray, windows: list[tuple[int, int, int]], order: int) -> np.ndarray:
    longest = max(b - a for _, a, b in windows)
    padded = np.ones((len(windows), (longest - 1) * order, x.shape[1]))
    start = 0
    for w, (_, a, b) in enumerate(windows):
        count = (b - a - 1) * order
        padded[w, :count] = x[start : start + count]
        start += count
    return padded.reshape(-1, x.shape[1])
