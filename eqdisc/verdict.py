r"""The verdict: what the data carry, in one word and in sentences.

identified      one law explains the data down to the noise and no other structure comes near
ambiguous       other structures explain them nearly as well; they are listed
not identified  nothing found deserves to be called the law
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .description import FLOOR
from .laws import Solved, contains
from .problem import Problem
from .status import Status
from .validation import Score

EXCESS = 1.6  # model residual over the noise that smoothing finds
COLORED = 0.5  # lag-one correlation of residuals beyond which something is left to explain
NOISY = 0.5  # residual over the spread of a state
LOST = 2.0  # error of the printed law, in units of the noise, beyond which it does not reproduce what was fitted
WORTH = 12.0  # nats by which a law must beat "nothing changes but by noise"


@dataclass(frozen=True)
class Verdict:
    """One word and its reasons."""

    word: str
    reasons: tuple[str, ...]


def judge(problem: Problem, pick: Solved, rivals: list[Solved], names: tuple[str, ...], printed: Score) -> Verdict:
    """Judge the pick: whether it explains the data, also as printed and simulated again, and whether anything else does."""
    doubts = [*_unexplained(problem, pick, names), *_too_little(problem, pick), *_nothing_there(problem, pick, names)]
    doubts += _lost_in_print(problem, pick, printed)
    if doubts:
        return Verdict("not identified", tuple(doubts))
    rivals = [
        r for r in rivals if not contains(r.law, pick.law)
    ]  # the same law and a term that does not pay is no rival
    if rivals:
        gap = max(rivals[0].cost - pick.cost, 0.0)
        many = f"{len(rivals)} other structures explain" if len(rivals) > 1 else "Another structure explains"
        return Verdict("ambiguous", (f"{many} the data within {gap:.1f} nats or a little more; see the alternatives.",))
    return Verdict("identified", ("The law explains the data down to the noise, and no other structure comes near.",))


def _residuals(problem: Problem, pick: Solved) -> tuple[np.ndarray, np.ndarray]:
    mesh = problem.engine.mesh
    x = pick.fit.x[0][problem.engine._lane, mesh.sample]
    return ((mesh.x - x) * mesh.mask).cpu().numpy(), mesh.mask.cpu().numpy() > 0


def _unexplained(problem: Problem, pick: Solved, names: tuple[str, ...]) -> list[str]:
    sigma, noise = pick.fit.sigma[0].cpu().numpy(), np.maximum(problem.denoised.sigma, FLOOR)
    spread = problem.denoised.spread
    residual, seen = _residuals(problem, pick)
    doubts = []
    for e, name in enumerate(names):
        lag, samples = _lag_one(residual[..., e], seen[..., e])
        small = sigma[e] < (1e-3 if problem.denoised.clean else 3e-3) * spread[e]
        if not small and sigma[e] > EXCESS * noise[e] and lag > 0.3:
            doubts.append(
                f"{name}: the law misses the data by {sigma[e] / noise[e]:.1f} times the noise; "
                "the truth is outside this class or a state is missing."
            )
        elif not small and samples >= 12 and lag > max(COLORED, 2 / np.sqrt(samples)):
            doubts.append(
                f"{name}: what the law leaves over is no noise (neighbouring residuals correlate by {lag:.2f})."
            )
        if sigma[e] > NOISY * spread[e]:
            doubts.append(
                f"{name}: the noise is {100 * sigma[e] / spread[e]:.0f} % of the state's spread; more precise or more data are needed."
            )
    return doubts


def _lag_one(residual: np.ndarray, seen: np.ndarray) -> tuple[float, int]:
    """Return the correlation of neighbouring residuals and the number of pairs."""
    both = seen[:, 1:] & seen[:, :-1]
    product = (residual[:, 1:] * residual[:, :-1])[both]
    power = (residual[seen] ** 2).mean() if seen.any() else 0.0
    return (float(product.mean() / power), int(both.sum())) if both.any() and power > 0 else (0.0, 0)


def _lost_in_print(problem: Problem, pick: Solved, printed: Score) -> list[str]:
    """The law as printed must reproduce the data from its estimated starts."""
    if printed.status is not Status.OK:
        return [f"Simulated again from its estimated start, the law ends at {printed.end:g}. {printed.status.advice}"]
    share = printed.error * float((pick.fit.sigma[0].cpu().numpy() / problem.denoised.spread).max())
    if printed.error > LOST and share > 1e-3:
        return [
            f"Simulated again from its estimated start, the law misses the data by {printed.error:.1f} times the noise."
        ]
    return []


def _too_little(problem: Problem, pick: Solved) -> list[str]:
    values = float(problem.engine.mesh.counts.sum())
    starts = pick.fit.x.shape[1] * pick.fit.x.shape[3]
    if values < 1.5 * (pick.size + starts):
        return [
            f"{values:.0f} values for {pick.size} numbers and {starts} starts are too few to tell a law from a curve fit; measure more."
        ]
    return []


def _nothing_there(problem: Problem, pick: Solved, names: tuple[str, ...]) -> list[str]:
    """The law must be shorter than the data described as a constant plus noise."""
    mesh = problem.engine.mesh
    counts = mesh.counts.cpu().numpy()
    x, seen = mesh.x.cpu().numpy(), mesh.mask.cpu().numpy() > 0
    doubts = []
    gain = 0.0
    for e in range(len(names)):
        parts = [row[on] - row[on].mean() for row, on in zip(x[..., e], seen[..., e], strict=True) if on.any()]
        rest = np.sqrt((np.concatenate(parts) ** 2).mean() + FLOOR**2)
        gain += counts[e] * float(np.log(rest / pick.fit.sigma[0, e].item()))
    price = pick.cost - pick.data_cost
    if gain - price < WORTH:
        doubts.append("The data are described as well by constants plus noise as by any law; nothing changes enough.")
    return doubts
