"""The problem that a search solves: one dataset in scaled units and everything that is derived from it once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from ..data.dataset import Dataset
from ..data.inputs import join_inputs
from ..data.invariants import find_invariants
from ..data.scaling import Scaling
from ..data.smoothing import Denoised, denoise
from ..fit.collocation import Collocation
from ..fit.mesh import Mesh
from ..fit.regression import Regression
from ..law.equations import Equations
from ..law.knowledge import Knowledge
from ..law.law import Law
from ..law.price import Judge, Prior
from ..law.terms import Terms
from ..law.words import read_knowledge
from ..work.config import FitConfig
from ..work.journal import Finishing, Journal
from .library import ratios, sums


@dataclass(frozen=True, eq=False)
class Problem:
    """Scaled data, smooth curves through them, the engine that fits laws to them, the judge that prices laws, and what is asked of the work.

    The journal remembers finished steps, says when to stop, and holds the crew that does side by side what can be.
    """

    data: Dataset  # scaled
    scaling: Scaling
    denoised: Denoised
    judge: Judge
    engine: Collocation
    library: Terms
    config: FitConfig = FitConfig()
    journal: Journal = field(default_factory=Journal)
    ratios: bool = False  # whether the library has more than sums of powers
    weights: list[np.ndarray] | None = None  # of every reading, where some are more precise than others

    @classmethod
    def of(cls, data: Dataset, config: FitConfig = FitConfig(), journal: Journal | None = None) -> Problem:
        """Scale and denoise `data`, inputs as columns beside the states; dear steps are asked of the journal."""
        data = join_inputs(data)
        scaling = Scaling.of(data)
        scaled = scaling.apply(data)
        known = read_knowledge(config, data, scaling) if config.knows else None
        return cls.lay(scaled, scaling, denoise(scaled, config.noise, journal), config, known, journal)

    @classmethod
    def lay(
        cls,
        scaled: Dataset,
        scaling: Scaling,
        denoised: Denoised,
        config: FitConfig,
        known: Knowledge | None,
        journal: Journal | None = None,
    ) -> Problem:
        """Lay the mesh for scaled and denoised data, and make ready what else a search needs."""
        prior = Prior.of(config.exponents, scaled.grouped)
        mesh = Mesh.of(scaled, denoised, device="cpu" if config.device == "auto" else config.device)
        invariants = () if scaled.hidden else tuple(find_invariants(scaled, denoised, scaling.states))
        if known is not None:
            known.refuse_poles(denoised.positive, scaled.states)
            invariants = tuple(c for c in invariants if not known.rests(c * scaling.states))
        judge = Judge(prior, mesh.samples, scaling.states, denoised.near_zero, invariants, known)
        coupling = None if known is None else known.couple(mesh.x)
        engine = Collocation(mesh, denoised.positive, prior.bounds, coupling=coupling, journal=journal)
        weights = denoised.weights(scaled) if denoised.changing or scaled.weighed else None
        library = sums(denoised.positive[: scaled.d - scaled.grouped], prior.admits).widen(scaled.d)
        return cls(scaled, scaling, denoised, judge, engine, library, config, journal or Journal(), weights=weights)

    def without_knowledge(self) -> Problem:
        """Return the problem as if nothing had been said beforehand."""
        known = self.engine
        engine = Collocation(known.mesh, self.denoised.positive, known.bounds, known.floor, journal=known.journal)
        invariants = tuple(find_invariants(self.data, self.denoised, self.scaling.states))
        return replace(self, engine=engine, judge=replace(self.judge, knowledge=None, invariants=invariants))

    def with_ratios(self) -> Problem | None:
        """Return the problem with terms that saturate, and signed powers, in its library; None where there are none."""
        plain = self.data.d - self.data.grouped
        values = self.engine.mesh.states(self.denoised)[0].flatten(0, 1).cpu().numpy()
        more = ratios(self.denoised.positive[:plain], values[:, :plain], self.judge.prior.admits).widen(self.data.d)
        return replace(self, library=self.library.join(more), ratios=True) if len(more) else None

    def finishing(self) -> Problem:
        """Return the problem with an engine that ends every fit, whether or not the search was asked to stop."""
        return replace(self, engine=self.engine.on(self.engine.mesh, journal=Finishing(self.engine.journal)))

    @property
    def d(self) -> int:
        """Number of states; the data's further columns are inputs."""
        return self.data.d - self.data.driven

    @property
    def names(self) -> tuple[str, ...]:
        """The symbols of all columns."""
        return self.data.formula_names

    @property
    def marks(self) -> slice:
        """The columns that tell groups apart."""
        return slice(self.data.d - self.data.grouped, self.data.d)

    @property
    def device(self) -> torch.device:
        """Where laws are fitted."""
        return self.engine.mesh.x.device

    def regression(self, states: Callable | None = None, exact: bool | None = None) -> Regression:
        """Return the integral regression along the smooth states, or along others."""
        exact = self.denoised.clean if exact is None else exact
        along = self.denoised.at if states is None else states
        given = self.data, along, self.denoised.positive, str(self.device), self.weights
        return Regression(*given, exact=exact, room=self.journal.room)

    def in_units(self, law: Law) -> Law:
        """Return a law of the scaled problem in the user's units."""
        a = self.scaling.undo(law.terms.effective, law.coefficients)
        return replace(law, terms=law.terms.in_units(self.scaling), coefficients=a)

    def in_scale(self, law: Law) -> Law:
        """Return a law in the user's units as one of the scaled problem."""
        terms = law.terms.effective
        a = law.coefficients / self.scaling.undo(terms, np.ones_like(law.coefficients))
        return replace(law, terms=law.terms.in_scale(self.scaling), coefficients=a)

    def equations(self, law: Law) -> Equations:
        """Return a law of the scaled problem as equations in the user's units."""
        return Equations.of(self.in_units(law), self.names, inputs=self.data.driven)

    @property
    def measured(self) -> list[int]:
        """The states of which there are readings."""
        return [e for e in range(self.d) if self.data.states[e] not in self.data.hidden]

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups whose coefficients may differ."""
        return self.data.groups if self.data.grouped else ()

    @property
    def start_sigma(self) -> np.ndarray:
        """Noise (d,) that the first fits assume: never so small that they cannot move."""
        return np.maximum(self.denoised.sigma, 2e-3 * self.denoised.spread)

    def remesh(self, segment: int | None = None, refine: int = 1) -> Problem:
        """Return the problem on another mesh: shorter segments, or every step cut into `refine` pieces."""
        mesh = Mesh.of(self.data, self.denoised, segment=segment, refine=refine, device=str(self.device))
        return replace(self, engine=self.engine.on(mesh))

    def sharpen(self, floor: float) -> Problem:
        """Return the problem with another least sigma."""
        return replace(self, engine=self.engine.on(self.engine.mesh, floor))
