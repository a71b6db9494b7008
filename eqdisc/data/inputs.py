r"""Inputs: what was measured or set and is not to be explained, u(t), entering the law beside the states.

    dx/dt = f(x, u(t))

Between its samples an input is linear, or keeps the value of the last one (`hold`: a pump that was switched, a dose). Before the
first sample and after the last it keeps theirs. The time itself can be an input.

Inside a search an input is a column like a state, whose course is known and which no equation moves (`join_inputs`); so terms
may contain it with exponents of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float

from .dataset import Dataset


@dataclass(frozen=True, eq=False)
class InputCurve:
    """Inputs as functions of time: samples t (n,), u (n, q), and which are held (q,).

    >>> curve = InputCurve(np.array([0.0, 2.0]), np.array([[0.0, 5.0], [4.0, 7.0]]), np.array([False, True]))
    >>> curve(np.array([1.0, 2.0, 9.0])).tolist()
    [[2.0, 5.0], [4.0, 7.0], [4.0, 7.0]]
    """

    t: Float[np.ndarray, "n"]
    u: Float[np.ndarray, "n q"]
    held: Bool[np.ndarray, "q"]

    def __call__(self, t: Float[np.ndarray, "k"] | float) -> Float[np.ndarray, "k q"]:
        last = np.clip(np.searchsorted(self.t, t, side="right") - 1, 0, len(self.t) - 1)
        columns = [self.u[last, i] if held else np.interp(t, self.t, self.u[:, i]) for i, held in enumerate(self.held)]
        return np.stack(columns, -1) if columns else np.zeros((*np.shape(t), 0))

    @cached_property
    def breaks(self) -> Float[np.ndarray, "k"]:
        """Times inside the record at which an input jumps or bends, where an integration starts anew."""
        if len(self.t) < 3 and not self.held.any():
            return np.zeros(0)
        jumps = np.r_[False, (np.diff(self.u[:, self.held], axis=0) != 0).any(1)]
        slope = np.diff(self.u[:, ~self.held], axis=0) / np.diff(self.t)[:, None]
        tolerance = 1e-9 * np.abs(slope).max(0, initial=0.0)
        bends = np.r_[False, (np.abs(np.diff(slope, axis=0)) > tolerance).any(1), False]
        return self.t[1:][(jumps | bends)[1:]]


def curve_of(data: Dataset, trajectory: int) -> InputCurve | None:
    """Return the inputs of one trajectory as functions of time, None where the data have none."""
    k = data.trajectories[trajectory]
    return InputCurve(k.t, k.u, np.isin(data.inputs, data.held)) if data.inputs else None


def join_inputs(data: Dataset) -> Dataset:
    """Return the data with each input as one more column of x, the last `driven` ones.

    >>> from eqdisc.data.dataset import Trajectory
    >>> data = Dataset((Trajectory([0, 1], [[1.0], [2.0]], u=[[5.0], [6.0]]),), states=("x",), inputs=("u",))
    >>> join_inputs(data).states, join_inputs(data).driven
    (('x', 'u'), 1)
    """
    if not data.inputs:
        return data
    joined = []
    for k in data.trajectories:
        sigma = np.column_stack([k.sigma, np.full(k.u.shape, np.nan)]) if k.sigma.size else k.sigma
        joined.append(replace(k, x=np.column_stack([k.x, k.u]), u=np.zeros((0, 0)), sigma=sigma))
    states = (*data.states, *data.inputs)
    return replace(data, trajectories=tuple(joined), states=states, inputs=(), driven=len(data.inputs))


def part_inputs(data: Dataset) -> Dataset:
    """Undo `join_inputs`."""
    if not data.driven:
        return data
    d = data.d - data.driven
    parted = tuple(replace(k, x=k.x[:, :d], u=k.x[:, d:], sigma=k.sigma[:, :d]) for k in data.trajectories)
    return replace(data, trajectories=parted, states=data.states[:d], inputs=data.states[d:], driven=0)
