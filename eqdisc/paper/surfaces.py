r"""Gradient norms on the identity task, Fig. 3: the loss of one power unit that should answer its first input, over its two exponents.

    loss = mean or sum of |x_1**w_1 x_2**w_2 - x_1|**p,     x_1 ~ U(0, 2),     x_2 next to 0

| | printed | coded |
|-|-|-|
| loss | sum of absolute errors | mean of squared errors |
| x_2 | U(0, 0.05) | U(-0.05, 0.05) |
| gates at 1/2 | gradient in real exponents | in real and imaginary ones |

The claim: without gates the gradient vanishes where w_2 is large, with gates it does not. A row is one panel for one batch of 32: the
median norm and the share of points where it is flat, below 0.05 (times 32 for a sum), over the whole panel and where w_2 > 0.75. Each
point of the surface is a lane.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..units import NPU, NaiveNPU, PowerUnit, RealNPU
from .experiment import Cell, Desk, Experiment, Row, groups, markdown, select
from .statistics import short, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = ("NaiveNPU", "NPU, g = (0.5, 0.5)", "NPU, g = (1, 0)")
GATES = {PANELS[1]: (0.5, 0.5), PANELS[2]: (1.0, 0.0)}
BATCH, FAR, FLAT = 32, 0.75, 0.05
FIELDS = ("seed", "norm far", "norm all", "flat far", "flat all")


def list_cells(variant: str, budget: str) -> list[Cell]:
    """Return a cell a panel."""
    return [Cell(variant, budget, panel, "identity") for panel in PANELS]


def axes(budget: str) -> tuple[Tensor, Tensor]:
    """Return the exponents w_1 and w_2 at which gradients are taken."""
    full = torch.arange(-1.0, 2.51, 0.05).double(), torch.arange(-0.2, 1.01, 0.02).double()
    return full if budget == "full" else (full[0][::5], full[1][::5])


def measure(cell: Cell, desk: Desk) -> list[Row]:
    """Take gradients over the surface, for several batches."""
    w1, w2 = axes(cell.budget)
    rows = []
    for seed in range(20 if cell.budget == "full" else 2):
        norm = gradient_norms(cell.model, cell.variant, w1, w2, seed)
        if seed == 0:
            np.save(desk.folder / f"{cell.file}.npy", norm.astype(np.float32))
        far = norm[:, w2.numpy() > FAR]
        level = FLAT if cell.variant == "coded" else FLAT * BATCH
        flat = [float((part < level).mean()) for part in (far, norm)]
        rows.append(
            {"seed": seed, "norm far": float(np.median(far)), "norm all": float(np.median(norm))}
            | dict(zip(FIELDS[3:], flat, strict=True))
        )
    return rows


def gradient_norms(panel: str, variant: str, w1: Tensor, w2: Tensor, seed: int) -> np.ndarray:
    """Return the norm of the loss's gradient at every pair of exponents (w1, w2).

    >>> norm = gradient_norms("NaiveNPU", "printed", torch.tensor([1.0]), torch.tensor([0.0]), seed=0)
    >>> norm.shape
    (1, 1)
    """
    points = torch.cartesian_prod(w1, w2).double()
    unit = _unit(panel, variant, len(points))
    unit.exponents.data.copy_(points[:, None])
    if panel in GATES:
        unit.gate.data.copy_(torch.tensor(GATES[panel]).expand(len(points), 2))
    x = torch.rand(1, BATCH, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    low = -0.05 if variant == "coded" else 0.0
    x = torch.stack([2.0 * x[..., 0], low + (0.05 - low) * x[..., 1]], -1)
    error = unit(x)[..., 0] - x[..., 0]
    loss = error.square().mean(1) if variant == "coded" else error.abs().sum(1)
    loss.sum().backward()
    weights = [unit.exponents, *([unit.exponents_im] if unit.complex and variant == "coded" else [])]
    norm = torch.cat([w.grad.flatten(1) for w in weights if w.grad is not None], 1).norm(dim=1)
    return norm.reshape(len(w1), len(w2)).numpy()


def _unit(panel: str, variant: str, lanes: int) -> PowerUnit:
    """Return the panel's unit; the code takes real ones where it has no imaginary gradients."""
    if panel == PANELS[0]:
        naive = NaiveNPU(2, 1, lanes=lanes, epsilon="add")
        naive.exponents_im.requires_grad_(False)
        return naive
    gated = NPU if panel == PANELS[1] else RealNPU
    return gated(2, 1, lanes=lanes, epsilon="add")


def write(rows: list[Row], folder: Path) -> str:
    """Return the page: how flat each panel is."""
    lines = []
    for (panel,), some in groups(rows, model=PANELS):
        values = [spread([row[name] for row in some]) for name in FIELDS[1:]]
        lines.append([panel, *(f"{short(v.median)} ± {short(v.mad)}" for v in values)])
    head = ["panel", f"norm at w2 > {FAR:g}", "norm", f"flat share at w2 > {FAR:g}", "flat share"]
    return markdown(head, lines) + f"\n\nMedian ± MAD over {len(select(rows, model=PANELS[0]))} batches of {BATCH}.\n"


def draw(rows: list[Row], folder: Path) -> Figure:
    """Return Fig. 3: three surfaces."""
    from .pictures import draw_norms

    variant, budget = rows[0]["variant"], rows[0]["budget"]
    files = {c.model: folder / f"{c.file}.npy" for c in list_cells(variant, budget)}
    return draw_norms({panel: np.load(file) for panel, file in files.items()}, *(w.numpy() for w in axes(budget)))


EXPERIMENT = Experiment("Gradient norms on the identity task (Fig. 3)", list_cells, measure, write, draw, FIELDS)
