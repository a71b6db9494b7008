r"""Collocation: terms fitted to trajectories by a lifted Gauss-Newton method, many lanes at once.

All states on a fine grid are unknowns, tied by the Hermite-Simpson rule (4th order, implicit, so stiff laws are safe):

    c_n = x_{n+1} - x_n - h/6 (f_n + 4 f_m + f_{n+1}) = 0,     x_m = (x_n + x_{n+1})/2 + h/8 (f_n - f_{n+1}).

Linearised about the current states, one forward recursion gives dx = P + Q dtheta + R dx0 for parameters theta and
each segment's own start x0; what is left is a small least-squares problem in theta, x0 being eliminated segment by
segment. Unlike single shooting it starts from the data, so a wrong guess costs nothing (Bock, 1983; Tjoa & Biegler,
Ind. Eng. Chem. Res. 30, 1991). Sensitivities, and with them the covariance of every number, come out of the same
matrices. Residuals are weighed by the shape of the error (`noise`). A lane that fails keeps its last finite state and a
status; no other lane notices.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..data.scaling import FLOOR
from ..law.price import EXPONENT_LIMIT, limits
from ..law.terms import Parameters, Terms, log_slope, log_table, monomials, saturation
from ..work.compiler import is_compiler_here
from ..work.journal import Form, Journal, Packed, digest, room_on
from ..work.status import Status
from .condensing import Slopes, condense
from .damping import LOST, TRIES
from .mesh import Mesh
from .pins import Pins

TINY = 1e-5  # scaled states are clamped here in features: a square root is too steep below for the steps
LOWEST = 1e-7  # positive states are kept above this
TRIAL_STEPS = 4  # after which a lane must be near its rival
ARRAYS = 10  # of the size of a lane's columns that one step holds at a time
CLOSED = 1e-6  # of sigma: defects below cannot grow into an error that counts
HURRIED = 6  # steps of a fit once the search was asked to stop


@dataclass(frozen=True, eq=False)
class Fit:
    """R lanes of fitted terms: states on the grid, sigma (R, d), data term of the description length, defect, curvature.

    `hessian` (R, P, P) is the Gauss-Newton matrix over the parameters that `index` names, x0 eliminated, in scaled units.
    """

    terms: Terms
    x: Float[Tensor, "R K M1 d"]
    sigma: Float[Tensor, "R d"]
    nll: Float[Tensor, "R"]
    defect: Float[Tensor, "R"]
    hessian: Float[Tensor, "R P P"]
    index: Parameters
    status: Int[Tensor, "R"]

    def select(self, lanes: Tensor | slice) -> Fit:
        """Return those lanes."""
        return Fit(
            self.terms.select(lanes),
            self.x[lanes],
            self.sigma[lanes],
            self.nll[lanes],
            self.defect[lanes],
            self.hessian[lanes],
            self.index.select(lanes),
            self.status[lanes],
        )

    def pack(self) -> Packed:
        """Return every array under its name, those of `terms` and `index` behind a dot."""
        flat = {
            **vars(self),
            **{f"{part}.{f}": v for part in ("terms", "index") for f, v in vars(getattr(self, part)).items()},
        }
        return {name: v.detach().cpu().numpy() for name, v in flat.items() if isinstance(v, Tensor)}

    @classmethod
    def unpack(cls, packed: Packed, device: torch.device) -> Fit:
        """Return what was packed."""
        own: dict[str, Any] = {name: torch.tensor(v, device=device) for name, v in packed.items()}
        parts = {
            part: {f.removeprefix(f"{part}."): own.pop(f) for f in list(own) if f.startswith(f"{part}.")}
            for part in ("terms", "index")
        }
        return cls(terms=Terms(**parts["terms"]), index=Parameters(**parts["index"]), **own)


class Collocation:
    """The engine: a mesh, which states carry real exponents, how far these may go, and the least sigma that counts."""

    def __init__(
        self,
        mesh: Mesh,
        positive: np.ndarray,
        bounds: tuple[float, float] = (-EXPONENT_LIMIT, EXPONENT_LIMIT),
        floor: float = FLOOR,
        coupling: Float[Tensor, "d d"] | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.mesh, self.bounds, self.floor, self.journal = mesh, bounds, floor, journal or Journal()
        self.coupling = coupling  # [e, f]: how a trial coefficient in equation f moves with that in equation e
        self.positive = torch.as_tensor(positive, device=mesh.x.device)
        self.d = mesh.x.shape[-1]  # columns: states, then inputs, which are known and never move
        self.states = self.d - mesh.driven
        exact = min(1.0, floor / FLOOR)  # where less is noise, less is zero
        self.tiny, self.lowest = exact * TINY, exact * LOWEST
        self._lane = torch.arange(len(mesh.trajectory), device=mesh.x.device)[:, None]
        self.compiled = mesh.x.device.type == "cpu" and is_compiler_here()

    @cached_property
    def digest(self) -> bytes:
        """What tells this engine from others that fit the same terms."""
        return digest(self.mesh, self.bounds, self.floor, self.coupling, self.positive)

    def on(self, mesh: Mesh, floor: float | None = None, journal: Journal | None = None) -> Collocation:
        """Return this engine on another mesh, with another least sigma or another journal, where one is given."""
        positive, floor = self.positive.cpu().numpy(), self.floor if floor is None else floor
        return Collocation(mesh, positive, self.bounds, floor, self.coupling, journal or self.journal)

    def _places(self, segments: int, columns: int) -> int:
        """Return for how many lanes of so many segments there is room, with so many columns beside those of the states."""
        points = segments * self.mesh.t.shape[1]
        room = room_on(self.mesh.x.device.type, self.journal.room)
        return int(room / (ARRAYS * 8 * points * self.states * (columns + 1 + 2 * self.states)))

    # ---------------------------------------------------------------- the field and its derivatives

    def _flat(self, x: Tensor) -> Tensor:
        return x.flatten(1, -2)

    def field(self, terms: Terms, x: Float[Tensor, "R ... d"]) -> Float[Tensor, "R ... d"]:
        """Evaluate the right-hand side of every lane on its own states."""
        values, _ = monomials(terms.exponents, self._flat(x), self.positive, self.tiny)
        return (values @ terms.coefficients).view(x.shape)

    def linearise(
        self, terms: Terms, index: Parameters | None, x: Float[Tensor, "R K N d"], extra: Tensor | None = None
    ) -> tuple[Float[Tensor, "R K N d"], Slopes]:
        """Return f and its slopes in the s states and in the numbers; `extra` (L, c) rows append s * L trial columns."""
        s = self.states
        flat = self._flat(x)
        values, log_x = monomials(terms.exponents, flat, self.positive, self.tiny)
        f = values @ terms.coefficients
        size = flat.abs().clamp_min(self.tiny)
        inverse = torch.where(self.positive, 1.0, torch.where(flat < 0, -1.0, 1.0)) / torch.where(
            self.positive, size, size.clamp_min(1e-9)
        )
        rows, share = terms.exponents, None
        weights = (terms.coefficients[:, :, :s, None] * rows[:, :, None, :s]).flatten(2)  # (R, m, e * i)
        dfdx = values @ weights
        if rows.shape[-1] > self.d:
            share = saturation(rows, log_x)
            lost = (terms.coefficients[:, :, :s, None] * rows[:, :, None, self.d : self.d + s]).flatten(2)
            dfdx = dfdx - (values * share) @ lost
        dfdx = dfdx.unflatten(-1, (s, s)) * inverse[..., None, :s]
        columns = [flat.new_zeros(*flat.shape[:-1], 0)]
        if index is not None:
            columns.append(self._parameter_columns(terms, index, values, log_x, share))
        if extra is not None:
            trial, _ = monomials(extra.expand(len(x), -1, -1), flat, self.positive, self.tiny)
            columns.append(trial.repeat(1, 1, s))
        shape = x.shape[:-1]
        numbers = torch.cat(columns, -1).view(*shape, -1)
        slopes = Slopes(dfdx.reshape(*shape, s, s), numbers, self._directions(terms, index, extra))
        return f.view(*shape, -1), slopes

    def _parameter_columns(
        self, terms: Terms, index: Parameters, values: Tensor, log_x: Tensor, share: Tensor | None
    ) -> Float[Tensor, "R n P"]:
        wide = lambda i: i[:, None].expand(-1, values.shape[1], -1)  # noqa: E731
        logs = log_table(log_x, terms.exponents.shape[-1]).gather(-1, wide(index.state))
        if share is not None:
            logs = log_slope(logs, share.gather(-1, wide(index.term)), index.state[:, None], self.d)
        logs = torch.where(index.is_exponent[:, None], logs, 1.0)
        return values.gather(-1, wide(index.term)) * logs * index.valid[:, None]

    def _directions(self, terms: Terms, index: Parameters | None, extra: Tensor | None) -> Float[Tensor, "R s P+s*L"]:
        """Return along which equations each number moves the field."""
        s, a = self.states, terms.coefficients
        along = [a.new_zeros(len(a), s, 0)]
        if index is not None:
            lane = torch.arange(terms.lanes, device=index.term.device)[:, None]
            own = terms.directions[lane, index.term, index.state.clamp_max(self.d - 1)]
            own = torch.where(index.is_exponent[..., None], a[lane, index.term], own)
            along.append(own[..., :s].mT)
        if extra is not None:
            eye = torch.eye(s, dtype=a.dtype, device=a.device) if self.coupling is None else self.coupling[:s, :s].mT
            along.append(eye.repeat_interleave(len(extra), 1).expand(len(a), -1, -1))
        return torch.cat(along, -1)

    # ---------------------------------------------------------------- constraints and their solution

    def defects(self, terms: Terms, x: Tensor) -> Float[Tensor, "R K M s"]:
        """Return c, by which the states miss the Hermite-Simpson rule."""
        if self.compiled:
            from .sweeps import find_defects

            return find_defects(terms, x, self.states, self.mesh.step, self.positive, self.tiny)
        h = self.mesh.step[..., None]
        f, x0, x1 = self.field(terms, x), x[:, :, :-1], x[:, :, 1:]
        f0, f1 = f[:, :, :-1], f[:, :, 1:]
        fm = self.field(terms, (x0 + x1) / 2 + h / 8 * (f0 - f1))
        return (x1 - x0 - h / 6 * (f0 + 4 * fm + f1))[..., : self.states]

    def propagate(
        self, terms: Terms, index: Parameters | None, x: Tensor, extra: Tensor | None = None, starts: bool = True
    ) -> Float[Tensor, "R K M1 s c"]:
        """Return the columns [P, Q, R] of dx = P + Q dtheta + R dx0 on the grid, for the states; R only where `starts` may move."""
        if self.compiled:
            from .sweeps import propagate

            directions = self._directions(terms, index, extra)
            return propagate(terms, index, extra, directions, x, self.mesh.step, self.positive, self.tiny, starts)
        h = self.mesh.step[..., None]
        f, nodes = self.linearise(terms, index, x, extra)
        x0, x1, f0, f1 = x[:, :, :-1], x[:, :, 1:], f[:, :, :-1], f[:, :, 1:]
        fm, middles = self.linearise(terms, index, (x0 + x1) / 2 + h / 8 * (f0 - f1), extra)
        c = (x1 - x0 - h / 6 * (f0 + 4 * fm + f1))[..., : self.states]
        return condense(self.mesh.step, c, nodes, middles, starts)

    def normal(
        self, columns: Tensor, x: Tensor, sigma: Tensor, held: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return H (R, P, P), g (R, P) with every x0 eliminated, and back (R, K, s, 1 + P): dx0 = back [1, -dtheta].

        `held` are starts (R, K, s) that are not free, and the step that each of them takes.
        """
        projected = self._project(columns, x, sigma, held)
        total = projected.gram(slice(None), slice(None))
        return total[:, 1:, 1:], total[:, 1:, 0], projected.starts

    def _project(self, columns: Tensor, x: Tensor, sigma: Tensor, held: tuple[Tensor, Tensor] | None) -> _Projected:
        """Weigh residuals and columns at the samples and eliminate the starts, segment by segment."""
        k, s = self._lane, self.states
        seen = columns[:, k, self.mesh.sample]  # (R, K, n, s, c)
        weight = (self.mesh.weight / sigma[:, None, None])[..., :s]
        residual = (self.mesh.x - x[:, k, self.mesh.sample])[..., :s] * weight
        seen = (seen * weight[..., None]).flatten(2, 3)
        residual = residual.flatten(2)[..., None] - seen[..., :1]
        p = seen.shape[-1] - 1 - s
        starts = seen[..., 1 + p :]
        if held is not None:
            fixed, step = held
            residual = residual - starts @ torch.where(fixed, step, 0.0)[..., None]
            starts = torch.where(fixed[:, :, None], 0.0, starts)
        rest = torch.cat([residual, seen[..., 1 : 1 + p]], -1)
        size = starts.norm(dim=-2, keepdim=True).clamp_min(1e-150)
        starts = starts / size
        gram = starts.mT @ starts + 1e-11 * torch.eye(s, dtype=x.dtype, device=x.device)
        cross = starts.mT @ rest
        back = torch.linalg.solve_ex(gram, cross)[0]
        moved = back / size.mT
        if held is not None:
            moved[..., 0] = torch.where(held[0], held[1], moved[..., 0])
        return _Projected(rest.flatten(1, 2), cross.flatten(1, 2), back.flatten(1, 2), moved)

    def gauge(
        self,
        terms: Terms,
        index: Parameters,
        x: Tensor,
        sigma: Tensor,
        extra: Float[Tensor, "L c"],
        crossed: bool = False,
    ) -> tuple[Float[Tensor, "R P P"], Float[Tensor, "R P"]]:
        """Return `normal`'s H and g with trial columns, starts at their bound held there; as many segments at a time as there is room for.

        Between trial columns of different equations H is left at zero unless `crossed` asks for it.
        """
        own, width = 1 + index.term.shape[1], 1 + index.term.shape[1] + self.states * len(extra)
        trials = [slice(k, k + len(extra)) for k in range(own, width, max(1, len(extra)))]  # an equation each
        segments = torch.arange(len(self.mesh.trajectory), device=x.device)
        total = x.new_zeros(len(x), width, width)
        for part in segments.split(max(1, self._places(1, width) // len(x))):
            engine = self if len(part) == len(segments) else self.on(self.mesh.select(part))
            columns = torch.nan_to_num(engine.propagate(terms, index, x[:, part], extra))
            x0 = x[:, part, 0, : self.states]
            held = self.positive[: self.states] & (x0 < 2 * self.lowest), torch.zeros_like(x0)
            projected = engine._project(columns, x[:, part], sigma, held)
            total[:, :own] += projected.gram(slice(own), slice(None))
            for trial in [slice(own, width)] if crossed else trials:
                total[:, trial, trial] += projected.gram(trial, trial)
        total[:, own:, :own] = total[:, :own, own:].mT
        return total[:, 1:, 1:], total[:, 1:, 0]

    # ---------------------------------------------------------------- the fit

    def fit(
        self,
        terms: Terms,
        x: Float[Tensor, "R K M1 d"],
        sigma: Float[Tensor, "R d"],
        steps: int = 25,
        tolerance: float = 1e-4,
        rival: float = math.inf,
        pins: Pins | None = None,
    ) -> Fit:
        """Fit every lane's coefficients, free exponents and starts; sigma is re-estimated on the way (profile likelihood).

        A lane that after four steps is far above the data term of a `rival` is given up: Gauss-Newton is near by then, or lost. `pins`
        hold one number of each lane. The journal is asked for the fit first. Raises ValueError where x is on another mesh.
        """
        given = (terms, x, sigma, steps, tolerance, rival, pins)
        form = Form(Fit.pack, partial(Fit.unpack, device=x.device))
        return self.journal.recall("fit", lambda: (self.digest, given), lambda: self._fit(*given), form)

    def _fit(
        self, terms: Terms, x: Tensor, sigma: Tensor, steps: int, tolerance: float, rival: float, pins: Pins | None
    ) -> Fit:
        if x.shape[1:3] != self.mesh.t.shape:
            raise ValueError(f"states on {tuple(x.shape[1:3])} points, not on the {self.mesh.t.shape} of the mesh")
        index = Parameters.of(terms, self.positive)
        x, sigma = _own(x.expand(terms.lanes, -1, -1, -1)), _own(sigma.expand(terms.lanes, -1))
        hessian = x.new_zeros(terms.lanes, index.term.shape[1], index.term.shape[1])
        enough = rival + max(60.0, 0.05 * float(self.mesh.counts.sum()))
        state = State.of(terms, x, sigma, pins)
        descend = self._descend_compiled if self.compiled and pins is None else self._descend
        return self._finish(descend(state, index, hessian, steps, tolerance, enough), index, hessian)

    def _descend_compiled(
        self, state: State, index: Parameters, hessian: Tensor, steps: int, tolerance: float, enough: float
    ) -> State:
        from .newton import descend

        rows, coefficients = _own(state.terms.exponents), _own(state.terms.coefficients)
        terms = replace(state.terms, exponents=rows, coefficients=coefficients)
        state, alive = replace(state, terms=terms), torch.ones(len(state.x), dtype=torch.bool)
        for first, last in ((0, min(HURRIED, steps)), (HURRIED, steps)):
            if bool(alive.any()) and not (first and self.journal.stop):
                descend(self, state, index, hessian, alive, (first, last), tolerance, (TRIAL_STEPS, enough))
        return state.judged(self)

    def _descend(
        self, state: State, index: Parameters, hessian: Tensor, steps: int, tolerance: float, enough: float
    ) -> State:
        run, everything = torch.arange(len(state.x), device=state.x.device), (state := state.judged(self))
        for step in range(steps):
            state, curvature, alive = self._iterate_in_turn(state, index.select(run), step, tolerance)
            hessian[run] = curvature
            everything = everything.put(run, state)
            if step == TRIAL_STEPS - 1 and enough < math.inf:
                alive = alive & (self._data_term(state) < enough)
            if not bool(alive.all()):
                run, state = run[alive], state.select(alive)
            if not len(run) or (step + 1 >= HURRIED and self.journal.stop):
                break
        return everything

    def _iterate_in_turn(
        self, state: State, index: Parameters, step: int, tolerance: float
    ) -> tuple[State, Tensor, Tensor]:
        """Iterate as many lanes at a time as there is room for."""
        at_once = max(1, self._places(len(self.mesh.trajectory), index.term.shape[1]))
        parts = torch.arange(len(state.x), device=state.x.device).split(at_once)
        if len(parts) == 1:
            return self._iterate(state, index, step, tolerance)
        done = [self._iterate(state.select(part), index.select(part), step, tolerance) for part in parts]
        states = [one for one, _, _ in done]
        joined = states[0]._map(lambda _, name: torch.cat([one.get(name) for one in states]))
        return joined, torch.cat([h for _, h, _ in done]), torch.cat([alive for _, _, alive in done])

    def _iterate(self, state: State, index: Parameters, step: int, tolerance: float) -> tuple[State, Tensor, Tensor]:
        """One accepted step a lane (or none): linearise, then try with rising damping."""
        columns = self.propagate(state.terms, index, state.x)
        finite = torch.isfinite(columns[:, :, -1]).flatten(1).all(1)  # what is not stays so to the end
        if not bool(finite.all()):
            columns = torch.where(finite.view(-1, 1, 1, 1, 1), columns, 0.0)
        h, g, back = self._solve(state, columns, index)
        before, pending = state.merit, finite.clone()
        damping = state.damping
        for _ in range(TRIES):
            trial = self._try(state, columns, h, g, back, index, damping)
            good = pending & (
                (trial.merit < state.merit)
                | ((trial.miss < 0.3 * state.miss) & (state.miss > 1e-3) & (trial.merit < 1e12))
            )
            state = state.update(trial, good)
            damping = torch.where(pending & ~good, (damping * 10).clamp_min(1e-3), damping)
            pending = pending & ~good
            if not bool(pending.any()):
                break
        moved = finite & ~pending
        state = replace(state, damping=torch.where(moved, damping * 0.1, damping).clamp_min(1e-9))
        gain = (before - state.merit) / before.clamp_min(1e-12)
        state, settled = self._reweigh(state, gain, step, tolerance)
        return state, h, moved & ~settled

    def _solve(self, state: State, columns: Tensor, index: Parameters) -> tuple[Tensor, Tensor, Tensor]:
        """Return `normal` with the pins in it; starts that would become negative go to their bound and stay out of it.

        A step that were cut off there, its other numbers as for the whole of it, could lead nowhere (Bertsekas, SIAM J. Control
        Optim. 20, 1982).
        """
        weigh = state.pins.weigh if state.pins is not None else lambda terms, index, h, g: (h, g)
        h, g, back = self.normal(columns, state.x, state.sigma)
        h, g = weigh(state.terms, index, h, g)
        x0 = state.x[:, :, 0, : self.states]
        to_bound = (0.1 * x0).clamp_min(self.lowest) - x0
        step = back[..., 0] - (back[..., 1:] @ self._step(h, g, index, state.damping)[:, None, :, None])[..., 0]
        out = self.positive[: self.states] & (step < to_bound)
        if bool(out.any()):
            h, g, back = self.normal(columns, state.x, state.sigma, (out, to_bound))
            h, g = weigh(state.terms, index, h, g)
        return h, g, back

    @staticmethod
    def _step(h: Tensor, g: Tensor, index: Parameters, damping: Tensor) -> Float[Tensor, "R P"]:
        """Return the damped step of the numbers."""
        size = h.diagonal(dim1=-2, dim2=-1).clamp_min(1e-12).sqrt()
        scaled = h / size[:, None] / size[..., None]
        lift = torch.where(index.valid, damping[:, None] + 1e-11, 1.0)
        step = torch.linalg.solve_ex(scaled + torch.diag_embed(lift), (g / size)[..., None])[0][..., 0] / size
        return torch.nan_to_num(step) * index.valid

    def _try(
        self, state: State, columns: Tensor, h: Tensor, g: Tensor, back: Tensor, index: Parameters, damping: Tensor
    ) -> State:
        step = self._step(h, g, index, damping)
        reach = torch.where(index.is_exponent, step.abs(), 0.0).amax(-1).clamp_min(0.5)
        shrink = 0.5 / reach
        start = back[..., 0] - (back[..., 1:] @ step[:, None, :, None])[..., 0]
        vector = torch.cat([torch.ones_like(start[..., :1]), step[:, None].expand(-1, start.shape[1], -1), start], -1)
        dx = (columns.flatten(2, 3) @ vector[..., None]).view_as(state.x[..., : self.states])
        terms = self._move(state.terms, index, step * shrink[:, None])
        x = self._inside(state.x, dx * shrink.view(-1, 1, 1, 1))
        trial = replace(state, terms=terms, x=x).judged(self)
        worse = ~(trial.merit < state.merit)
        if bool(worse.any()):
            trial = trial.put_where(worse, self.make_feasible(trial, worse))
        return trial

    def make_feasible(self, state: State, where: Tensor) -> State:
        """One Newton step on the defects alone, parameters and starts held."""
        part = state.select(where)
        return self._moved(part, self.propagate(part.terms, None, part.x, starts=False)[..., 0])

    def _moved(self, state: State, step: Float[Tensor, "R K M1 s"]) -> State:
        return replace(state, x=self._inside(state.x, torch.where(torch.isfinite(step), step, 0.0))).judged(self)

    def _ways(self, state: State) -> tuple[Float[Tensor, "R K M1 s"], Float[Tensor, "R"]]:
        """Return each lane's way from its states to the solution that starts where they do, to first order, and the largest step on it.

        Defects grow along a record: small ones alone say little.
        """
        way, stray = torch.zeros_like(state.x[..., : self.states]), state.miss.clone()
        suspect = ((stray >= CLOSED * state.sigma.amin(-1)) & torch.isfinite(stray)).nonzero()[:, 0]
        if len(suspect):
            part = state.select(suspect)
            way[suspect] = self.propagate(part.terms, None, part.x, starts=False)[..., 0]
            stray[suspect] = torch.nan_to_num(way[suspect].abs().amax((1, 2, 3)), nan=torch.inf)
        return way, stray

    def _inside(self, x: Tensor, step: Float[Tensor, "R K M1 s"]) -> Tensor:
        """Move the states and keep positive ones positive: a step takes at most nine tenths of the way to zero."""
        former = x[..., : self.states]
        moved = former + step
        least = (0.1 * former).clamp_min(self.lowest)
        moved = torch.where(self.positive[: self.states], torch.maximum(moved, least), moved)
        return torch.cat([moved, x[..., self.states :]], -1)

    def _move(self, terms: Terms, index: Parameters, step: Tensor) -> Terms:
        lane = torch.arange(len(step), device=step.device)[:, None].expand_as(step)
        w = terms.exponents.index_put((lane, index.term, index.state), step * index.is_exponent, accumulate=True)
        along = terms.directions[lane, index.term, index.state.clamp_max(self.d - 1)]
        along = along * (step * ~index.is_exponent)[..., None]
        a = terms.coefficients.index_put((lane, index.term), along, accumulate=True)
        a = torch.where(terms.support & (a == 0), 1e-12, a)  # a coefficient on its way through zero is still there
        low, high = limits(self.bounds, w, self.d)
        return replace(terms, exponents=torch.where(terms.free, w.clamp(low, high), w), coefficients=a)

    def _reweigh(self, state: State, gain: Tensor, step: int, tolerance: float) -> tuple[State, Tensor]:
        """Re-estimate sigma every third step or when a lane slows down; tell which lanes have settled."""
        slow = gain < tolerance
        due = (slow | (step % 3 == 2)) & (state.miss < 1e-2)
        fresh = self._spread(state.residual)
        change = (fresh / state.sigma).log().abs().amax(-1)
        sigma = torch.where(
            due[:, None], torch.minimum(torch.maximum(fresh, state.sigma / 5), state.sigma * 5), state.sigma
        )
        settled = due & slow & (change < 0.02) & (state.miss < 0.05 * sigma.amin(-1))
        settled = settled | (~due & (gain < 0.01 * tolerance))
        state = replace(state, sigma=sigma, penalty=(state.penalty * 1.5).clamp_max(1e4))
        return state.judged(self), settled

    def _spread(self, residual: Tensor) -> Tensor:
        mean = residual.square().sum((1, 2)) / self.mesh.counts.clamp_min(1.0)
        mean = torch.where(self.mesh.counts > 0, mean, mean.amax(-1, keepdim=True))  # nobody looks at an input's
        return (
            (mean.square() + self.floor**4).sqrt().sqrt()
        )  # what lies well below the floor is the computation's own error

    def _data_term(self, state: State) -> Tensor:
        return (self.mesh.counts * self._spread(state.residual).log()).sum(-1)

    def _finish(self, state: State, index: Parameters, hessian: Tensor) -> Fit:
        """Close the defects, so that the data term belongs to a solution of the equations."""
        way, stray = self._ways(state)
        for _ in range(6):
            loose = (stray >= 0.02 * state.sigma.amin(-1)) & torch.isfinite(state.miss)
            if not bool(loose.any()):
                break
            state = state.put_where(loose, self._moved(state.select(loose), way[loose]))
            way, stray = self._ways(state)
        sigma = self._spread(state.residual)
        nll = (self.mesh.counts * sigma.log()).sum(-1)
        solved = (stray < (0.3 * sigma.amin(-1)).clamp_min(min(1e-4, 10 * self.floor))) & torch.isfinite(nll)
        status = torch.where(solved, int(Status.OK), int(Status.DIVERGED))
        nll = torch.where(solved, nll, torch.inf)
        return Fit(state.terms, state.x, sigma, nll, state.miss, hessian, index, status)


def _own(tensor: Tensor) -> Tensor:
    """Return a copy that may be written to."""
    return tensor.clone(memory_format=torch.contiguous_format)


@dataclass(frozen=True, eq=False)
class _Projected:
    """Residuals and columns B at the samples of all segments, end to end; S^T B, (S^T S)^-1 S^T B and the steps of the starts S."""

    columns: Float[Tensor, "R n c"]
    cross: Float[Tensor, "R Ks c"]
    solved: Float[Tensor, "R Ks c"]
    starts: Float[Tensor, "R K s c"]

    def gram(self, rows: slice, columns: slice) -> Float[Tensor, "R r c"]:
        """Return a block of B^T (1 - S (S^T S)^-1 S^T) B."""
        return (
            self.columns[..., rows].mT @ self.columns[..., columns]
            - self.cross[..., rows].mT @ self.solved[..., columns]
        )


@dataclass(frozen=True, eq=False)
class State:
    """Where each lane's fit stands."""

    terms: Terms
    x: Tensor
    sigma: Tensor
    penalty: Tensor
    damping: Tensor
    merit: Tensor
    residual: Tensor
    miss: Tensor
    pins: Pins | None = None

    @classmethod
    def of(cls, terms: Terms, x: Tensor, sigma: Tensor, pins: Pins | None) -> State:
        """Return where a fit begins, not yet judged."""
        one = x.new_ones(len(x))
        return cls(terms, x, sigma, 30 * one, 1e-3 * one, one, one, one, pins)

    def judged(self, engine: Collocation) -> State:
        """Return the state with its merit: chi-square plus an exact penalty on the defects."""
        mesh = engine.mesh
        defects = engine.defects(self.terms, self.x)
        residual = (mesh.x - self.x[:, engine._lane, mesh.sample]) * mesh.weight
        sigma = self.sigma[:, None, None]
        off = (defects / sigma[..., : engine.states]).abs().clamp_max(1e6).sum((1, 2, 3))
        merit = (residual / sigma).square().sum((1, 2, 3)) + self.penalty * off
        merit = merit if self.pins is None else merit + self.pins.cost(self.terms)
        merit = torch.where(torch.isfinite(merit), merit, LOST)
        miss = torch.nan_to_num(defects.abs().amax((1, 2, 3)), nan=torch.inf)
        return replace(self, merit=merit, residual=residual, miss=miss)

    def _map(self, change: Callable[[Tensor, str], Tensor]) -> State:
        terms = replace(
            self.terms,
            **{f: change(v, f"terms.{f}") for f, v in vars(self.terms).items() if v is not None},
        )
        pins = None if self.pins is None else self.pins.map(lambda v, f: change(v, f"pins.{f}"))
        rest = ("x", "sigma", "penalty", "damping", "merit", "residual", "miss")
        return replace(self, terms=terms, pins=pins, **{f: change(getattr(self, f), f) for f in rest})

    def get(self, name: str) -> Tensor:
        part, _, field = name.rpartition(".")
        return getattr(getattr(self, part) if part else self, field)

    def select(self, lanes: Tensor) -> State:
        return self._map(lambda v, _: v[lanes])

    def update(self, other: State, where: Tensor) -> State:
        """Take the lanes `where` from another state of all lanes."""
        return self._map(lambda v, name: torch.where(where.view(-1, *[1] * (v.dim() - 1)), other.get(name), v))

    def put(self, lanes: Tensor, part: State) -> State:
        """Write the lanes of `part` at the indices `lanes`."""
        return self._map(lambda v, name: v.index_put((lanes,), part.get(name)))

    def put_where(self, where: Tensor, part: State) -> State:
        """Write `part`, which has the lanes `where`, if its merit is lower or its defect is smaller."""
        lanes = where.nonzero()[:, 0]
        good = (part.merit < self.merit[lanes]) | (part.miss < self.miss[lanes])
        return self.put(lanes[good], part.select(good))
