r"""Remeshing: a solved law taken to another mesh, and the error of the steps, checked by halving them.

The Hermite-Simpson rule is of fourth order: halving every step leaves a sixteenth of its error, so what moves between the two
solutions is the error of the coarser one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.interpolate import CubicHermiteSpline

from ..data.scaling import FLOOR
from ..fit.fit import Fit
from .joint import JointSearch
from .problem import Problem

EXCESS = 1.6  # residual over noise up to which a law explains the data
HALVINGS = 3
STEP_ERROR = 0.1  # of the noise: the most that halving all steps may move a fitted state


def halve(problem: Problem, solved: Fit) -> tuple[Problem, Fit, float] | None:
    """Cut every step in two and fit the law again: the finer problem, the law on it, and by how many sigma its states moved."""
    finer = problem.remesh(segment=_segment(problem), refine=2 * problem.engine.mesh.refine)
    again = solve_on(finer, problem, solved)
    return None if again is None else (finer, again, _disagreement(problem, solved, finer, again))


def solve_on(target: Problem, source: Problem, solved: Fit) -> Fit | None:
    """Fit the law on another problem's mesh, starting from its states on this one."""
    states, mesh = fitted_states(source, solved), target.engine.mesh
    x = np.stack([states(k, t) for k, t in zip(mesh.trajectory, mesh.t, strict=True)])
    joint = JointSearch(target, torch.as_tensor(x, device=mesh.x.device)[None], solved.sigma)
    return joint.best(joint.solve([solved.law.without_padding()], steps=15))


def explains(problem: Problem, solved: Fit) -> bool:
    """Tell whether a law leaves no more of the data than noise."""
    noise = np.maximum(problem.denoised.sigma, FLOOR)
    return bool((solved.noise < EXCESS * noise).all())


def _segment(problem: Problem) -> int | None:
    mesh = problem.engine.mesh
    cut = len(mesh.trajectory) > len(problem.data.trajectories)
    return int(mesh.sample.shape[1] - 1) if cut else None


def _disagreement(a: Problem, solved: Fit, b: Problem, again: Fit) -> float:
    """Return how far the fitted states at the samples moved, in units of sigma."""
    at = lambda p, s: p.engine.mesh.weight * p.engine.mesh.at_samples(s.x[0])  # noqa: E731
    if a.engine.mesh.sample.shape != b.engine.mesh.sample.shape:
        return math.inf
    return float(((at(a, solved) - at(b, again)).abs() / again.sigma[0]).max())


def fitted_states(problem: Problem, solved: Fit) -> Callable[[int, np.ndarray], np.ndarray]:
    """Return the fitted trajectory as a function of (trajectory, times): cubic Hermite pieces through the grid."""
    x = solved.x[0].cpu().numpy()
    slope = problem.engine.field(solved.lanes, solved.x)[0].cpu().numpy()
    mesh, positive, d = problem.engine.mesh, problem.denoised.positive, problem.d
    pieces: dict[int, list] = {}
    for q, k in enumerate(mesh.trajectory):
        end = int(mesh.sample[q].max()) + 1
        pieces.setdefault(k, []).append(
            (mesh.t[q, 0], mesh.t[q, end - 1], CubicHermiteSpline(mesh.t[q, :end], x[q, :end], slope[q, :end]))
        )

    def states(k: int, t: np.ndarray) -> np.ndarray:
        out = np.zeros((len(t), x.shape[-1]))
        for first, last, curve in pieces[k]:
            inside = (t >= first) & (t <= last)
            out[inside] = curve(t[inside])
        out = np.where(positive, np.maximum(out, 10 * problem.engine.lowest), out)
        return out if d == out.shape[1] else np.column_stack([out[:, :d], problem.denoised.at(k, t)[:, d:]])

    return states


def polish(problem: Problem, solved: Fit, longest: float = math.inf) -> tuple[Problem, Fit]:
    """Fit a law again on finer and finer meshes, of at most `longest` points, until the step error is below a tenth of the noise."""
    for _ in range(HALVINGS):
        if 2 * problem.engine.mesh.t.size > longest:
            break
        halved = halve(problem, solved)
        if halved is None:
            break
        problem, solved, moved = halved
        if moved < STEP_ERROR or problem.journal.stop:
            break
    return problem, solved
