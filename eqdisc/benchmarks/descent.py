r"""Descent: what Levenberg and Marquardt's steps reach in the time that Adam's take, on the two losses of the network search.

    python -m eqdisc.benchmarks.descent [--noise 0 0.01] [--picture descent.png]
    python -m eqdisc.benchmarks.descent --recovery 6        what random starts find of six laws, of so many seeds

RealNPU(3, 9) -> NAU on the fractional SIR model's 40 samples (Heim et al. 2020, section 4.1). Matching: 16 random starts, Adam's rate
falling from 0.02 along a cosine over 400 steps. Through the ODE: the six best that were matched, in segments of ten samples, without a penalty;
Adam's rate is 0.002. A curve is the lowest loss of a lane so far against the processor's time, on one core; both methods work on all
lanes at once. A lane without a solution has none.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..data.dataset import Dataset
from ..discovery import discover
from ..fit.levenberg import Normal, minimise
from ..fit.regression import Regression
from ..fit.training import (
    FLOOR,
    Stretches,
    limit,
    match,
    match_chain,
    named,
    numbers_of,
    project,
    shoot,
)
from ..law.catalogue import catalogue, simulate_system
from ..search.network import MATCHING_STEPS, TRAINING_STEPS, stretches
from ..search.problem import Problem
from ..units import Unit
from ..units.chain import Chain
from ..work.config import FitConfig
from ..work.errors import EqdiscError
from ..work.journal import Journal
from ..work.status import Status
from ..work.threads import one_thread
from .scoring import middle_of, recovered

LANES, SURVIVORS, L1 = 16, 6, 0.05
SYSTEMS = ("fsir", "sirs_power", "power_predation", "two_tanks", "brusselator", "lotka_volterra")


@dataclass
class Curve:
    """The lowest loss of each lane so far, at each moment of the processor's time since the start."""

    begun: float = field(default_factory=time.process_time)
    seconds: list[float] = field(default_factory=list)
    losses: list[np.ndarray] = field(default_factory=list)

    def add(self, loss: Tensor) -> None:
        """Note the lanes' losses."""
        now = torch.where(loss.isnan(), torch.inf, loss).detach().numpy().copy()
        self.seconds.append(time.process_time() - self.begun)
        self.losses.append(np.minimum(now, self.losses[-1]) if self.losses else now)

    @property
    def median(self) -> np.ndarray:
        """Return the median over lanes, moment by moment."""
        return np.median(np.stack(self.losses), 1)

    def reach(self, loss: float) -> float:
        """Return the seconds until the median is as low as that, NaN where there is none.

        >>> curve = Curve(seconds=[1.0, 2.0], losses=[np.array([5.0]), np.array([3.0])])
        >>> curve.reach(4.0), curve.reach(1.0)
        (2.0, nan)
        """
        low = np.flatnonzero(self.median <= loss)
        return self.seconds[low[0]] if len(low) and np.isfinite(loss) else np.nan


def compare(noise: float, steps: int = 400) -> dict[tuple[str, str], Curve]:
    """Return the curves by stage and method, from a record with that share of a state's standard deviation as noise."""
    problem = Problem.of(_record(noise))
    regression = Regression(problem.data, problem.denoised.at, problem.denoised.positive)
    chain = Chain.from_specification("realnpu:9,nau", states=problem.data.d, lanes=LANES, seed=0)
    curves = {
        ("matching", "Levenberg-Marquardt"): match_by_squares(chain, regression),
        ("matching", "Adam"): match_by_slopes(chain, regression, steps),
    }
    chain, loss = match_chain(chain, regression, MATCHING_STEPS, L1, Journal())
    chain, given = chain.select(loss.argsort()[:SURVIVORS]), (stretches(problem), problem.engine.positive)
    return curves | {
        ("through the ODE", "Levenberg-Marquardt"): train_by_squares(copy.deepcopy(chain), *given),
        ("through the ODE", "Adam"): train_by_slopes(copy.deepcopy(chain), *given, steps),
    }


def match_by_squares(chain: Chain, regression: Regression) -> Curve:
    """Follow `minimise` as `training.match_chain` calls it."""
    unit = chain.units[0]
    assert isinstance(unit, Unit)
    limits, curve = limit([unit], L1), Curve()

    def evaluate(w: Tensor, _: Any) -> Normal:
        normal = match(unit, w, regression)
        curve.add(normal.loss + limits.penalty(w))
        return normal

    minimise(evaluate, numbers_of(unit), limits, MATCHING_STEPS, never)
    return curve


def match_by_slopes(chain: Chain, regression: Regression, steps: int) -> Curve:
    """Follow Adam on the same loss; the slope through the coefficients, which only the ridge keeps from vanishing, is left out there too."""
    unit = copy.deepcopy(chain.units[0])
    assert isinstance(unit, Unit)
    curve, w = Curve(), numbers_of(unit).requires_grad_()
    optimiser = torch.optim.Adam([w], lr=0.02)
    slower = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    weight = limit([unit], L1).weight
    for _ in range(steps):
        z = torch.func.functional_call(unit, named(unit, w), (regression.x.expand(len(w), -1, -1),))
        loss = w.abs() @ weight
        for e, y in enumerate(regression.targets):
            with torch.no_grad():
                a = project(regression, z, e).coefficients
            residual = y - (a[:, None] @ regression.cumulate(z.mT, e))[:, 0]
            loss = loss + (residual.square().mean(1) + FLOOR).log()
        curve.add(loss)
        optimiser.zero_grad()
        loss.nan_to_num(1e6, 1e6, 1e6).sum().backward()
        _step(optimiser)
        slower.step()
    return curve


def train_by_squares(chain: Chain, data: Stretches, positive: Tensor) -> Curve:
    """Follow `minimise` as `training.train_chain` calls it, without a penalty."""
    curve = Curve()

    def evaluate(w: Tensor, starts: Tensor | None) -> Normal:
        chain.load_vector(w)
        shot = shoot(chain, data.start.expand(chain.lanes, -1, -1) if starts is None else starts, data, positive)
        curve.add(torch.where(shot.status == Status.OK, shot.loss, torch.inf))
        return shot

    units = [unit for unit in chain.units if isinstance(unit, Unit)]
    minimise(evaluate, chain.parameter_vector().detach(), limit(units, 0.0), TRAINING_STEPS, never)
    return curve


def train_by_slopes(chain: Chain, data: Stretches, positive: Tensor, steps: int) -> Curve:
    """Follow Adam on the same loss, with the same slopes; lanes that have no solution are left where they are."""
    curve, w = Curve(), torch.nn.Parameter(chain.parameter_vector().detach())
    starts = torch.nn.Parameter(data.start.expand(chain.lanes, -1, -1).clone())
    optimiser = torch.optim.Adam([w, starts], lr=0.002)
    for _ in range(steps):
        chain.load_vector(w.detach())
        shot = shoot(chain, starts.detach(), data, positive)
        solved = shot.status == Status.OK
        curve.add(torch.where(solved, shot.loss, torch.inf))
        w.grad = torch.where(solved[:, None], 2.0 * shot.slope, 0.0)
        starts.grad = torch.where(solved[:, None, None], 2.0 * shot.start_slope, 0.0)
        _step(optimiser)
    return curve


def _step(optimiser: torch.optim.Optimizer) -> None:
    """Take a step along slopes that are numbers, and not huge."""
    for group in optimiser.param_groups:
        for p in group["params"]:
            p.grad.nan_to_num_(0.0, 0.0, 0.0).clamp_(-1e3, 1e3)
    optimiser.step()


def never(step: int) -> bool:
    """Say that there is no reason to stop."""
    return False


def recover(name: str, noise: float, starts: int, seeds: int) -> dict[str, Any]:
    """Search a system's record by the network road alone, seed by seed; return how often its law was found."""
    middle, found, seconds = middle_of(simulate_system(name)), 0, []
    for seed in range(seeds):
        begun, config = time.process_time(), FitConfig(search="network", seed=seed, restarts=starts)
        try:
            found += recovered(discover(_record(noise, name, seed), config).equations, catalogue()[name].law, middle)
        except EqdiscError as refused:
            print(f"{name}, seed {seed}: {refused}", file=sys.stderr)
        seconds.append(time.process_time() - begun)
    cell = {"system": name, "noise": noise, "random starts": starts, "found": found, "of": seeds}
    return cell | {"median s": float(np.median(seconds))}


def recover_all(seeds: int) -> pd.DataFrame:
    """Search every system, exact from one random start and with 1 % noise from 16."""
    return pd.DataFrame([recover(name, *cell, seeds) for name in SYSTEMS for cell in ((0.0, 1), (0.01, 16))])


def tabulate(noise: float, curves: dict[tuple[str, str], Curve]) -> pd.DataFrame:
    """Return what each method reaches, in which time, in how many lanes, and when it had what Adam's median lane ends with."""
    rows = []
    for (stage, method), curve in curves.items():
        last, adam = curve.losses[-1], float(curves[stage, "Adam"].median[-1])
        row = {"noise": noise, "stage": stage, "method": method, "s": curve.seconds[-1], "lanes": len(last)}
        row |= {"with a solution": int(np.isfinite(last).sum()), "best": last.min(), "median": np.median(last)}
        rows.append(row | {"s to Adam's median": curve.reach(adam)})
    return pd.DataFrame(rows)


def draw(all_curves: dict[float, dict[tuple[str, str], Curve]], path: Path) -> None:
    """Draw a row a noise level, a column a stage, a line a lane."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.0 * len(all_curves)), layout="constrained")
    axes = figure.subplots(len(all_curves), 2, squeeze=False)
    for row, (noise, curves) in zip(axes, all_curves.items(), strict=True):
        for (stage, method), curve in curves.items():
            ax, color = row[0 if stage == "matching" else 1], "C0" if method == "Adam" else "C1"
            losses = np.stack(curve.losses)
            for k, lane in enumerate(np.where(np.isfinite(losses), losses, np.nan).T):
                ax.plot(curve.seconds, lane, color=color, alpha=0.6, label=None if k else method)
            ax.set(title=f"{stage}, {100 * noise:g} % noise", xscale="log", xlabel="seconds")
        row[0].set_ylabel("loss (logarithms)")
    axes[0, 0].legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--noise", type=float, nargs="+", default=[0.0, 0.01], help="shares of a state's standard deviation"
    )
    parser.add_argument("--picture", type=Path, help="draw the curves here")
    parser.add_argument(
        "--recovery", type=int, metavar="SEEDS", help="search laws of the catalogue from random starts instead"
    )
    given = parser.parse_args()
    if given.recovery:
        return print(recover_all(given.recovery).to_string(index=False, float_format="{:.3g}".format))
    with one_thread():
        compare(given.noise[0], steps=2)  # the first call of much that torch has is slow
        curves = {noise: compare(noise) for noise in given.noise}
    table = pd.concat([tabulate(noise, some) for noise, some in curves.items()])
    print(table.to_string(index=False, float_format="{:.3g}".format))
    if given.picture:
        draw(curves, given.picture)


def _record(noise: float, name: str = "fsir", seed: int = 0) -> Dataset:
    """Return a system's record with noise; what cannot be negative is not."""
    data = simulate_system(name, noise=noise, seed=seed)
    return replace(data, trajectories=tuple(replace(r, x=np.maximum(r.x, 0.0)) for r in data.trajectories))


if __name__ == "__main__":
    main()
