r"""Statistics: what may be said of n random starts, all of them, not the best.

The median with the median absolute deviation, the mean with its standard error, the best, the share that succeeded with Wilson's 95 %
interval. A run that ended without a number counts as a failure, stands last in order, and leaves the mean without a value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """How n values lie."""

    n: int
    best: float
    median: float
    mad: float
    mean: float
    sem: float


def spread(values: Sequence[float] | np.ndarray) -> Spread:
    """Return where values lie.

    >>> spread([1.0, 2.0, 3.0])
    Spread(n=3, best=1.0, median=2.0, mad=1.0, mean=2.0, sem=0.5773502691896258)
    >>> spread([1.0, 2.0, float("nan")]).median
    2.0
    """
    x = np.asarray(values, float)
    x = np.where(np.isnan(x), np.inf, x)
    with np.errstate(invalid="ignore", over="ignore"):
        middle = float(np.median(x)) if len(x) else math.nan
        mad = float(np.median(np.abs(x - middle))) if np.isfinite(middle) else math.inf
        mean = float(x.mean()) if np.isfinite(x).all() else math.inf
        sem = float(x.std(ddof=1) / math.sqrt(len(x))) if np.isfinite(mean) and len(x) > 1 else math.inf
    return Spread(len(x), float(x.min(initial=math.inf)), middle, mad, mean, sem)


def wilson(count: int, of: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a rate.

    >>> [round(v, 2) for v in wilson(9, 10)]
    [0.6, 0.98]
    """
    from scipy.stats import binomtest

    interval = binomtest(count, of).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def undominated(size: Sequence[float] | np.ndarray, error: Sequence[float] | np.ndarray) -> list[int]:
    """Return the indices of points that no other point beats in both size and error, smallest first.

    >>> undominated([3, 1, 2, 2], [0.1, 0.5, 0.5, 0.3])
    [1, 3, 0]
    """
    best, front = math.inf, []
    for i in sorted(range(len(size)), key=lambda i: (size[i], error[i])):
        if error[i] < best:
            best = float(error[i])
            front.append(i)
    return front


def rate(count: int, of: int) -> str:
    """Return a rate with its counts and Wilson's 95 % interval.

    >>> rate(9, 10), rate(0, 0)
    ('9/10 (60 to 98 %)', '-')
    """
    if not of:
        return "-"
    low, high = wilson(count, of)
    return f"{count}/{of} ({100 * low:.0f} to {100 * high:.0f} %)"


def short(value: float) -> str:
    """Return a number with three digits.

    >>> short(0.012345), short(2.9e83), short(123.4), short(float("inf"))
    ('0.0123', '2.9e+83', '123', 'none')
    """
    return f"{value:.3g}" if math.isfinite(value) else "none"
