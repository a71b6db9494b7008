r"""Collocation: laws fitted to trajectories by a lifted Gauss-Newton method, many lanes at once.

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
from dataclasses import replace
from functools import cached_property, partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..data.scaling import FLOOR
from ..law.law import Law, Numbers
from ..law.terms import Terms
from ..units.monomial import LIMIT
from ..units.saturation import LOG_K
from ..work.compiler import is_compiler_here
from ..work.journal import Form, Journal, digest, room_on
from ..work.status import Status
from .condensing import condense
from .damping import LOST, TRIES
from .field import Field
from .fit import Fit
from .mesh import Mesh
from .normal import Projected, project
from .pins import Pins
from .state import State

TINY = 1e-5  # scaled states are clamped here in features: a square root is too steep below for the steps
LOWEST = 1e-7  # positive states are kept above this
TRIAL_STEPS = 4  # after which a lane must be near its rival
ARRAYS = 10  # of the size of a lane's columns that one step holds at a time
CLOSED = 1e-6  # of sigma: defects below cannot grow into an error that counts
HURRIED = 6  # steps of a fit once the search was asked to stop


class Collocation:
    """The engine: a mesh, which states carry real exponents, how far these may go, and the least sigma that counts."""

    def __init__(
        self,
        mesh: Mesh,
        positive: np.ndarray,
        bounds: tuple[float, float] = (-LIMIT, LIMIT),
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
        self.field = Field(self.states, self.positive, self.tiny, coupling)
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

    # Constraints and their solution

    def defects(self, law: Law, x: Tensor) -> Float[Tensor, "R K M s"]:
        """Return c, by which the states miss the Hermite-Simpson rule."""
        if self.compiled:
            from .sweeps import find_defects

            return find_defects(law, x, self.states, self.mesh.step, self.positive, self.tiny)
        h = self.mesh.step[..., None]
        f, x0, x1 = self.field(law, x), x[:, :, :-1], x[:, :, 1:]
        f0, f1 = f[:, :, :-1], f[:, :, 1:]
        fm = self.field(law, (x0 + x1) / 2 + h / 8 * (f0 - f1))
        return (x1 - x0 - h / 6 * (f0 + 4 * fm + f1))[..., : self.states]

    def propagate(
        self, law: Law, numbers: Numbers | None, x: Tensor, trials: Terms | None = None, starts: bool = True
    ) -> Float[Tensor, "R K M1 s c"]:
        """Return the columns [P, Q, R] of dx = P + Q dtheta + R dx0 on the grid, for the states; R only where `starts` may move."""
        if self.compiled:
            from .sweeps import propagate

            directions = self.field.directions(law, numbers, trials)
            return propagate(law, numbers, trials, directions, x, self.mesh.step, self.positive, self.tiny, starts)
        h = self.mesh.step[..., None]
        f, nodes = self.field.linearise(law, numbers, x, trials)
        x0, x1, f0, f1 = x[:, :, :-1], x[:, :, 1:], f[:, :, :-1], f[:, :, 1:]
        fm, middles = self.field.linearise(law, numbers, (x0 + x1) / 2 + h / 8 * (f0 - f1), trials)
        c = (x1 - x0 - h / 6 * (f0 + 4 * fm + f1))[..., : self.states]
        return condense(self.mesh.step, c, nodes, middles, starts)

    def normal(
        self, columns: Tensor, x: Tensor, sigma: Tensor, held: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return H (R, P, P), g (R, P) with every x0 eliminated, and back (R, K, s, 1 + P): dx0 = back [1, -dtheta]."""
        projected: Projected = project(self.mesh, columns, x, sigma, held)
        total = projected.gram(slice(None), slice(None))
        return total[:, 1:, 1:], total[:, 1:, 0], projected.starts

    def gauge(
        self, law: Law, numbers: Numbers, x: Tensor, sigma: Tensor, trials: Terms, crossed: bool = False
    ) -> tuple[Float[Tensor, "R P P"], Float[Tensor, "R P"]]:
        """Return `normal`'s H and g with L trial terms, starts at their bound held there; as many segments at a time as there is room for.

        Between trial columns of different equations H is left at zero unless `crossed` asks for it.
        """
        own, width = 1 + numbers.term.shape[1], 1 + numbers.term.shape[1] + self.states * len(trials)
        blocks = [slice(k, k + len(trials)) for k in range(own, width, max(1, len(trials)))]  # an equation each
        segments = torch.arange(len(self.mesh.trajectory), device=x.device)
        total = x.new_zeros(len(x), width, width)
        for part in segments.split(max(1, self._places(1, width) // len(x))):
            engine = self if len(part) == len(segments) else self.on(self.mesh.select(part))
            columns = torch.nan_to_num(engine.propagate(law, numbers, x[:, part], trials))
            x0 = x[:, part, 0, : self.states]
            held = self.positive[: self.states] & (x0 < 2 * self.lowest), torch.zeros_like(x0)
            projected = project(engine.mesh, columns, x[:, part], sigma, held)
            total[:, :own] += projected.gram(slice(own), slice(None))
            for block in [slice(own, width)] if crossed else blocks:
                total[:, block, block] += projected.gram(block, block)
        total[:, own:, :own] = total[:, :own, own:].mT
        return total[:, 1:, 1:], total[:, 1:, 0]

    # The fit

    def fit(
        self,
        law: Law,
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
        given = (law, x, sigma, steps, tolerance, rival, pins)
        form = Form(Fit.pack, partial(Fit.unpack, device=x.device))
        return self.journal.recall("fit", lambda: (self.digest, given), lambda: self._fit(*given), form)

    def _fit(
        self, law: Law, x: Tensor, sigma: Tensor, steps: int, tolerance: float, rival: float, pins: Pins | None
    ) -> Fit:
        if x.shape[1:3] != self.mesh.t.shape:
            raise ValueError(f"states on {tuple(x.shape[1:3])} points, not on the {self.mesh.t.shape} of the mesh")
        numbers = Numbers.of(law, self.positive)
        x, sigma = _own(x.expand(law.lanes, -1, -1, -1)), _own(sigma.expand(law.lanes, -1))
        hessian = x.new_zeros(law.lanes, numbers.term.shape[1], numbers.term.shape[1])
        enough = rival + max(60.0, 0.05 * float(self.mesh.counts.sum()))
        state = State.of(law, x, sigma, pins)
        descend = self._descend_compiled if self.compiled and pins is None else self._descend
        return self._finish(descend(state, numbers, hessian, steps, tolerance, enough), numbers, hessian)

    def _descend_compiled(
        self, state: State, numbers: Numbers, hessian: Tensor, steps: int, tolerance: float, enough: float
    ) -> State:
        from .newton import Setting, descend

        law = replace(state.law, coefficients=_own(state.law.coefficients))
        state, alive = replace(state, law=law), torch.ones(len(state.x), dtype=torch.bool)
        setting = Setting(self.mesh, self.positive, self.bounds, self.tiny, self.lowest, self.floor)
        for first, last in ((0, min(HURRIED, steps)), (HURRIED, steps)):
            if bool(alive.any()) and not (first and self.journal.stop):
                state = descend(
                    setting, state, numbers, hessian, alive, (first, last), tolerance, (TRIAL_STEPS, enough)
                )
        return self._judged(state)

    def _descend(
        self, state: State, numbers: Numbers, hessian: Tensor, steps: int, tolerance: float, enough: float
    ) -> State:
        run, everything = torch.arange(len(state.x), device=state.x.device), (state := self._judged(state))
        for step in range(steps):
            state, curvature, alive = self._iterate_in_turn(state, numbers.select(run), step, tolerance)
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
        self, state: State, numbers: Numbers, step: int, tolerance: float
    ) -> tuple[State, Tensor, Tensor]:
        """Iterate as many lanes at a time as there is room for."""
        at_once = max(1, self._places(len(self.mesh.trajectory), numbers.term.shape[1]))
        if len(state.x) <= at_once:
            return self._iterate(state, numbers, step, tolerance)
        lanes = torch.arange(len(state.x), device=state.x.device).split(at_once)
        parts = zip(state.spread(at_once), lanes, strict=True)
        done = [self._iterate(part, numbers.select(some), step, tolerance) for part, some in parts]
        states, curvature, alive = zip(*done, strict=True)
        return state.gather(states), torch.cat(curvature), torch.cat(alive)

    def _iterate(self, state: State, numbers: Numbers, step: int, tolerance: float) -> tuple[State, Tensor, Tensor]:
        """One accepted step a lane (or none): linearise, then try with rising damping."""
        columns = self.propagate(state.law, numbers, state.x)
        finite = torch.isfinite(columns[:, :, -1]).flatten(1).all(1)  # what is not stays so to the end
        if not bool(finite.all()):
            columns = torch.where(finite.view(-1, 1, 1, 1, 1), columns, 0.0)
        h, g, back = self._solve(state, columns, numbers)
        before, pending = state.merit, finite.clone()
        damping = state.damping
        for _ in range(TRIES):
            trial = self._try(state, columns, h, g, back, numbers, damping)
            nearer = (trial.miss < 0.3 * state.miss) & (state.miss > 1e-3) & (trial.merit < 1e12)
            good = pending & ((trial.merit < state.merit) | nearer)
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

    def _solve(self, state: State, columns: Tensor, numbers: Numbers) -> tuple[Tensor, Tensor, Tensor]:
        """Return `normal` with the pins in it; starts that would become negative go to their bound and stay out of it.

        A step that were cut off there, its other numbers as for the whole of it, could lead nowhere (Bertsekas, SIAM J. Control
        Optim. 20, 1982).
        """
        weigh = state.pins.weigh if state.pins is not None else lambda law, numbers, h, g: (h, g)
        h, g, back = self.normal(columns, state.x, state.sigma)
        h, g = weigh(state.law, numbers, h, g)
        x0 = state.x[:, :, 0, : self.states]
        to_bound = (0.1 * x0).clamp_min(self.lowest) - x0
        step = back[..., 0] - (back[..., 1:] @ self._step(h, g, numbers, state.damping)[:, None, :, None])[..., 0]
        out = self.positive[: self.states] & (step < to_bound)
        if bool(out.any()):
            h, g, back = self.normal(columns, state.x, state.sigma, (out, to_bound))
            h, g = weigh(state.law, numbers, h, g)
        return h, g, back

    @staticmethod
    def _step(h: Tensor, g: Tensor, numbers: Numbers, damping: Tensor) -> Float[Tensor, "R P"]:
        """Return the damped step of the numbers."""
        size = h.diagonal(dim1=-2, dim2=-1).clamp_min(1e-12).sqrt()
        scaled = h / size[:, None] / size[..., None]
        lift = torch.where(numbers.valid, damping[:, None] + 1e-11, 1.0)
        step = torch.linalg.solve_ex(scaled + torch.diag_embed(lift), (g / size)[..., None])[0][..., 0] / size
        return torch.nan_to_num(step) * numbers.valid

    def _try(
        self, state: State, columns: Tensor, h: Tensor, g: Tensor, back: Tensor, numbers: Numbers, damping: Tensor
    ) -> State:
        step = self._step(h, g, numbers, damping)
        reach = torch.where(numbers.is_coefficient, 0.0, step.abs()).amax(-1).clamp_min(0.5)
        shrink = 0.5 / reach
        start = back[..., 0] - (back[..., 1:] @ step[:, None, :, None])[..., 0]
        vector = torch.cat([torch.ones_like(start[..., :1]), step[:, None].expand(-1, start.shape[1], -1), start], -1)
        dx = (columns.flatten(2, 3) @ vector[..., None]).view_as(state.x[..., : self.states])
        law = move(state.law, numbers, step * shrink[:, None], self.bounds)
        x = self._inside(state.x, dx * shrink.view(-1, 1, 1, 1))
        trial = self._judged(replace(state, law=law, x=x))
        worse = ~(trial.merit < state.merit)
        if bool(worse.any()):
            trial = trial.put_where(worse, self.make_feasible(trial, worse))
        return trial

    def make_feasible(self, state: State, where: Tensor) -> State:
        """One Newton step on the defects alone, numbers and starts held."""
        part = state.select(where)
        return self._moved(part, self.propagate(part.law, None, part.x, starts=False)[..., 0])

    def _moved(self, state: State, step: Float[Tensor, "R K M1 s"]) -> State:
        return self._judged(replace(state, x=self._inside(state.x, torch.where(torch.isfinite(step), step, 0.0))))

    def _judged(self, state: State) -> State:
        """Return the state with its merit: chi-square plus an exact penalty on the defects."""
        mesh, defects = self.mesh, self.defects(state.law, state.x)
        residual = (mesh.x - mesh.at_samples(state.x)) * mesh.weight
        sigma = state.sigma[:, None, None]
        off = (defects / sigma[..., : self.states]).abs().clamp_max(1e6).sum((1, 2, 3))
        merit = (residual / sigma).square().sum((1, 2, 3)) + state.penalty * off
        merit = merit if state.pins is None else merit + state.pins.cost(state.law)
        merit = torch.where(torch.isfinite(merit), merit, LOST)
        miss = torch.nan_to_num(defects.abs().amax((1, 2, 3)), nan=torch.inf)
        return replace(state, merit=merit, residual=residual, miss=miss)

    def _ways(self, state: State) -> tuple[Float[Tensor, "R K M1 s"], Float[Tensor, "R"]]:
        """Return each lane's way from its states to the solution that starts where they do, to first order, and the largest step on it.

        Defects grow along a record: small ones alone say little.
        """
        way, stray = torch.zeros_like(state.x[..., : self.states]), state.miss.clone()
        suspect = ((stray >= CLOSED * state.sigma.amin(-1)) & torch.isfinite(stray)).nonzero()[:, 0]
        if len(suspect):
            part = state.select(suspect)
            way[suspect] = self.propagate(part.law, None, part.x, starts=False)[..., 0]
            stray[suspect] = torch.nan_to_num(way[suspect].abs().amax((1, 2, 3)), nan=torch.inf)
        return way, stray

    def _inside(self, x: Tensor, step: Float[Tensor, "R K M1 s"]) -> Tensor:
        """Move the states and keep positive ones positive: a step takes at most nine tenths of the way to zero."""
        former = x[..., : self.states]
        moved = former + step
        least = (0.1 * former).clamp_min(self.lowest)
        moved = torch.where(self.positive[: self.states], torch.maximum(moved, least), moved)
        return torch.cat([moved, x[..., self.states :]], -1)

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
        return self._judged(state), settled

    def _spread(self, residual: Tensor) -> Tensor:
        """Return each state's sigma; what lies well below the floor is the computation's own error."""
        mean = residual.square().sum((1, 2)) / self.mesh.counts.clamp_min(1.0)
        mean = torch.where(self.mesh.counts > 0, mean, mean.amax(-1, keepdim=True))  # nobody looks at an input's
        return (mean.square() + self.floor**4).sqrt().sqrt()

    def _data_term(self, state: State) -> Tensor:
        return (self.mesh.counts * self._spread(state.residual).log()).sum(-1)

    def _finish(self, state: State, numbers: Numbers, hessian: Tensor) -> Fit:
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
        return Fit(state.law, state.x, sigma, nll, state.miss, hessian, numbers, status)


def move(law: Law, numbers: Numbers, step: Float[Tensor, "R P"], bounds: tuple[float, float]) -> Law:
    """Return lanes whose numbers have moved, free ones within their bounds."""
    lane = torch.arange(len(step), device=step.device)[:, None].expand_as(step)
    by = lambda part: step * (numbers.part == part)  # noqa: E731
    at = lane, numbers.term, numbers.place
    terms, free = law.terms, law.free
    w = terms.exponents.index_put(at, by(0), accumulate=True)
    u = terms.inner.index_put(at, by(1), accumulate=True)
    k = terms.offsets.index_put(at[:2], by(2), accumulate=True)
    along = law.directions[at] * by(3)[..., None]
    a = law.coefficients.index_put(at[:2], along, accumulate=True)
    a = torch.where(law.support & (a == 0), 1e-12, a)  # a coefficient on its way through zero is still there
    inside = lambda v, free, limits: torch.where(free, v.clamp(*limits), v)  # noqa: E731
    moved = Terms(
        inside(w, free.exponents, bounds), inside(u, free.inner, bounds), inside(k, free.offsets, LOG_K), terms.parity
    )
    return replace(law, terms=moved, coefficients=a)


def _own(tensor: Tensor) -> Tensor:
    """Return a copy that may be written to."""
    return tensor.clone(memory_format=torch.contiguous_format)


__all__ = ["Collocation", "move"]
