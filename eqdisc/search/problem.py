"""The problem that a search solves: one dataset in scaled units and everything that is derived from it once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..data.dataset import Dataset
from ..data.inputs import join_inputs
from ..data.invariants import find_invariants
from ..data.scaling import Scaling
from ..data.smoothing import Denoised, denoise
from ..fit.collocation import Collocation
from ..fit.mesh import Mesh
from ..law.knowledge import Knowledge, read_knowledge
from ..law.price import Judge, Prior
from ..work.config import FitConfig
from ..work.journal import Finishing, Journal
from .library import lay_rows, library


@dataclass(frozen=True, eq=False)
class Problem:
    """Scaled data, smooth curves through them, the engine that fits laws to them and the judge that prices laws."""

    data: Dataset  # scaled
    scaling: Scaling
    denoised: Denoised
    judge: Judge
    engine: Collocation
    library: np.ndarray
    weights: list[np.ndarray] | None = None  # of every reading, where some are more precise than others

    @classmethod
    def of(
        cls,
        data: Dataset,
        exponents: str = "menu",
        device: str = "cpu",
        noise: str = "auto",
        config: FitConfig | None = None,
        journal: Journal | None = None,
    ) -> Problem:
        """Scale and denoise `data`, inputs as columns beside the states; dear steps are asked of the journal."""
        data = join_inputs(data)
        scaling = Scaling.of(data)
        scaled = scaling.apply(data)
        known = read_knowledge(config, data, scaling) if config is not None and config.knows else None
        return cls.lay(scaled, scaling, denoise(scaled, noise, journal), exponents, device, known, journal)

    @classmethod
    def lay(
        cls,
        scaled: Dataset,
        scaling: Scaling,
        denoised: Denoised,
        exponents: str,
        device: str,
        known: Knowledge | None,
        journal: Journal | None = None,
    ) -> Problem:
        """Lay the mesh for scaled and denoised data, and make ready what else a search needs."""
        plain = scaled.d - scaled.grouped
        prior = Prior.of(exponents, scaled.d, scaled.grouped)
        mesh = Mesh.of(scaled, denoised, device=device)
        invariants = () if scaled.hidden else tuple(find_invariants(scaled, denoised, scaling.states))
        if known is not None:
            known.refuse_poles(denoised.positive, scaled.states)
            invariants = tuple(c for c in invariants if not known.rests(c * scaling.states))
        judge = Judge(prior, mesh.samples, scaling.states, denoised.near_zero, invariants, known)
        coupling = None if known is None else known.couple(mesh.x)
        engine = Collocation(mesh, denoised.positive, (prior.lower, prior.upper), coupling=coupling, journal=journal)
        weights = denoised.weights(scaled) if denoised.changing or scaled.weighed else None
        terms = lay_rows(library(denoised.positive[:plain], prior), plain, scaled.d)
        return cls(scaled, scaling, denoised, judge, engine, terms, weights)

    def without_knowledge(self) -> Problem:
        """Return the problem as if nothing had been said beforehand."""
        known = self.engine
        engine = Collocation(known.mesh, self.denoised.positive, known.bounds, known.floor, journal=known.journal)
        invariants = tuple(find_invariants(self.data, self.denoised, self.scaling.states))
        return replace(self, engine=engine, judge=replace(self.judge, knowledge=None, invariants=invariants))

    def finishing(self) -> Problem:
        """Return the problem with an engine that ends every fit, whether or not the search was asked to stop."""
        return replace(self, engine=self.engine.on(self.engine.mesh, journal=Finishing(self.engine.journal)))

    @property
    def d(self) -> int:
        """Number of states; the data's further columns are inputs."""
        return self.data.d - self.data.driven

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
        device = str(self.engine.mesh.x.device)
        mesh = Mesh.of(self.data, self.denoised, segment=segment, refine=refine, device=device)
        return replace(self, engine=self.engine.on(mesh))

    def sharpen(self, floor: float) -> Problem:
        """Return the problem with another least sigma."""
        return replace(self, engine=self.engine.on(self.engine.mesh, floor))
