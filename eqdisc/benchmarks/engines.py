r"""Engines: the collocation's rule, its defects and its columns, compiled and in torch.

    python -m eqdisc.benchmarks.engines [--repeats 7]

Nanoseconds a step of one lane, on one core, medians of so many turns after a first that is not counted; both engines take turns on the same
random terms, two states each, and the same records of waves.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from ..data.dataset import Dataset, Trajectory
from ..data.smoothing import denoise
from ..fit.collocation import Collocation
from ..fit.mesh import Mesh
from ..law.law import Law, Numbers
from ..law.terms import Terms
from ..work.threads import one_thread

SHAPES = (  # lanes, records, samples, states, terms
    (1, 1, 40, 1, 2),
    (1, 1, 40, 3, 4),
    (1, 4, 150, 3, 4),
    (64, 4, 100, 1, 2),
    (64, 4, 100, 3, 6),
    (64, 4, 100, 5, 12),
)


def compare(repeats: int, shapes: Sequence[tuple[int, ...]] = SHAPES) -> list[dict[str, Any]]:
    """Time defects and columns of the collocation rule for (lanes, records, samples, states, terms), compiled and in torch: ns a step of a lane.

    >>> [row["lanes"] for row in compare(1, [(1, 2, 5, 1, 1)])]
    [1]
    """
    rows = []
    for shape in shapes:
        engine, law, x = _random_fit(*shape)
        numbers = Numbers.of(law, engine.positive)
        tasks: dict[str, Callable[[], Tensor]] = {
            "defects": partial(engine.defects, law, x),
            "columns": partial(engine.propagate, law, numbers, x),
        }
        spent: dict[str, list[float]] = {}
        for _ in range(repeats + 1):
            for road, (name, task) in itertools.product(("compiled", "torch"), tasks.items()):
                engine.compiled = road == "compiled"
                begun = time.perf_counter()
                task()
                spent.setdefault(f"{name} {road}", []).append(time.perf_counter() - begun)
        ns = {name: 1e9 * float(np.median(times[1:])) / x[..., 1:, 0].numel() for name, times in spent.items()}
        rows.append(dict(zip(("lanes", "records", "samples", "states", "terms"), shape, strict=True)) | ns)
    return rows


def _random_fit(lanes: int, records: int, samples: int, states: int, count: int) -> tuple[Collocation, Law, Tensor]:
    """Return an engine on records of waves, laws with free exponents of two states each, and states on the grid."""
    generator = np.random.default_rng(0)
    t = np.linspace(0.0, 6.0, samples)
    waves = [1.5 + np.sin(t[:, None] + k + np.arange(states)) for k in range(records)]
    data = Dataset(
        tuple(Trajectory(t, x, name=str(k)) for k, x in enumerate(waves)), tuple(f"x{i}" for i in range(states))
    )
    denoised = denoise(data)
    mesh = Mesh.of(data, denoised)
    rows = generator.normal(size=(lanes, count, states)) * (np.arange(states) < 2)
    coefficients = generator.normal(size=(lanes, count, states)) * (generator.random((lanes, count, states)) < 0.5)
    laws = [Law.of(Terms.of(w), a, Terms.of(w).map(lambda v: v == v)) for w, a in zip(rows, coefficients, strict=True)]
    return Collocation(mesh, np.full(states, True)), Law.stack(laws), mesh.states(denoised).expand(lanes, -1, -1, -1)


def main() -> None:
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with one_thread():
        print(pd.DataFrame(compare(given.repeats)).round().to_string(index=False))


if __name__ == "__main__":
    main()
