r"""Simple arithmetic, Fig. 6 and Table A2: (x, y) -> (x + y, x y, x / y, sqrt x), learned on U(0.1, 2.1), asked on (-4.1, 3.9).

| | printed | coded |
|-|-|-|
| inputs | U(0.1, 2) | U(0.1, 2.1) |
| training | Adam 0.001 | Adam 0.005; NALU RMSProp 0.005, iNALU RMSProp 0.001 |
| Dense | 10 wide | 50 wide |
| iNALU | plain | from step 10,000 a penalty that drives numbers from 0 |
| NAU | clipped to [-1, 1] | free |

Both: NPU(2, 6) -> NAU(6, 4) (Table A3 prints the reverse order and two outputs), batches of 100 drawn anew at every step, 20,000 steps, no
L1, 20 seeds; the error is the mean absolute one on a grid, the square root's on its positive part. Table A2 prints mean and standard error
under the words median and MAD.

All training inputs are positive. With imaginary exponents that start at 0 the NPU is there the RealNPU, to the last bit: their difference in
Table A2 is the seeds'.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..units import NALU, NAU, NMU, NPU, Dense, RealNPU, iNALU
from .experiment import Cell, Desk, Experiment, Row, groups, markdown, select
from .statistics import rate, short, spread
from .training import Network, Recipe, squared_error, train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TASKS = ("+", "x", "/", "sqrt")
MODELS = ("NPU", "RealNPU", "NMU", "NALU", "iNALU", "Dense")
PUBLISHED = {  # Table A2: mean and standard error of 20 runs
    "+": ((0.2, 0.11), (0.08, 0.021), (0.2, 0.18), (2.69, 0.22), (2.18, 0.13), (2.103, 0.04)),
    "x": ((0.37, 0.23), (0.066, 0.026), (0.005, 0.004), (4.55, 0.2), (3.453, 0.065), (3.546, 0.035)),
    "/": ((0.23, 0.13), (0.085, 0.038), (11.399, 0.035), (3.33, 0.18), (2.54, 0.26), (14.16, 0.23)),
    "sqrt": ((0.031, 0.025), (0.004, 0.001), (0.16, 0.002), (0.034, 0.006), (0.049, 0.011), (0.084, 0.007)),
}
BATCH, HIDDEN = 100, 6
SUCCESS = 0.01  # of the error of predicting 0
GRID = torch.arange(-4.1, 3.91, 0.2, dtype=torch.float64)
ROOTS = torch.arange(0.1, 4.01, 0.1, dtype=torch.float64)
COST = {"NPU": 40.0, "RealNPU": 30.0, "NMU": 20.0, "NALU": 40.0, "iNALU": 50.0, "Dense": 60.0}  # seconds of a full cell
FIELDS = (
    "seed",
    "error +",
    "error x",
    "error /",
    "error sqrt",
    "positive +",
    "positive x",
    "positive /",
    "training",
    "numbers",
    "seconds",
)


def list_cells(variant: str, budget: str) -> list[Cell]:
    """Return a cell a model."""
    return [Cell(variant, budget, model, "all four", COST[model]) for model in MODELS]


POWER = {"gate_init": 0.5, "epsilon": "add", "clip": "plain"}
FIRST: dict[str, tuple[Any, dict[str, Any]]] = {  # units before sums, and their options
    "NPU": (NPU, POWER),
    "RealNPU": (RealNPU, POWER),
    "NMU": (NMU, {"init": "positive", "clip": "plain"}),
}


def build(model: str, variant: str, lanes: int, seed: int = 0) -> Network:
    """Return a model with random weights.

    >>> [unit.name for unit in build("NMU", "coded", lanes=2).list]
    ['nmu', 'nau']
    """
    kwargs: dict[str, Any] = {"lanes": lanes, "generator": torch.Generator().manual_seed(seed), "dtype": torch.float32}
    if model in FIRST:
        unit, options = FIRST[model]
        bound = 1.0 if variant == "printed" else None
        return Network([unit(2, HIDDEN, **options, **kwargs), NAU(HIDDEN, 4, bound=bound, **kwargs)])
    if model == "Dense":
        wide = 50 if variant == "coded" else 10
        bent = [Dense(n, wide, activation="sigmoid", **kwargs) for n in (2, wide)]
        return Network([*bent, Dense(wide, 4, activation="none", **kwargs)])
    kind = NALU if model == "NALU" else iNALU
    return Network([kind(2, HIDDEN, **kwargs), kind(HIDDEN, 4, **kwargs)])


def recipe_of(model: str, variant: str, steps: int) -> Recipe:
    """Return how a model is trained."""
    if variant == "printed":
        return Recipe(steps=steps, rate=1e-3)
    if model == "iNALU":
        return Recipe(steps=steps, rate=1e-3, optimiser="rmsprop", push=(steps // 2, 20.0))
    return Recipe(steps=steps, rate=5e-3, optimiser="rmsprop" if model == "NALU" else "adam")


def target(x: Tensor) -> Tensor:
    """Return sum, product, quotient and root.

    >>> target(torch.tensor([[[4.0, 2.0]]])).tolist()
    [[[6.0, 8.0, 2.0, 2.0]]]
    """
    a, b = x[..., 0], x[..., 1]
    return torch.stack([a + b, a * b, a / b, a.sqrt()], -1)


def measure(cell: Cell, desk: Desk) -> list[Row]:
    """Train all seeds of a model and ask for all four operations."""
    lanes, steps = (20, 20_000) if cell.budget == "full" else (3, 50)
    network = build(cell.model, cell.variant, lanes)
    width = 2.0 if cell.variant == "coded" else 1.9
    generator = torch.Generator()

    def batch(step: int) -> tuple[Tensor, Tensor]:
        generator.manual_seed(1_000_003 + step)
        x = width * torch.rand(lanes, BATCH, 2, generator=generator) + 0.1
        return x, target(x)

    begin = time.perf_counter()
    train(network, batch, recipe_of(cell.model, cell.variant, steps), tell=desk.tell, keeper=desk.keeper, every=50)
    seconds = time.perf_counter() - begin
    surfaces = errors_on_grid(network)
    np.save(desk.folder / f"{cell.file}.npy", surfaces[int(np.nanargmin(_means(surfaces).sum(1)))].astype(np.float32))
    x, y = batch(steps)
    with torch.no_grad():
        training = squared_error(network, x, y).tolist()
    numbers = network.count(1e-3).tolist()
    positive = [s[:3, 21:, 21:].mean((1, 2)) for s in surfaces]
    return [
        {
            "seed": seed,
            **{f"error {task}": float(e) for task, e in zip(TASKS, _means(surfaces)[seed], strict=True)},
            **{f"positive {task}": float(e) for task, e in zip(TASKS[:3], positive[seed], strict=True)},
            "training": training[seed],
            "numbers": numbers[seed],
            "seconds": seconds / lanes,
        }
        for seed in range(lanes)
    ]


@torch.no_grad()
def errors_on_grid(network: Network) -> np.ndarray:
    """Return absolute errors (R, 4, 41, 41), the root's, on (0.1, 4) and 40 wide, filled up with its own last line."""
    x, y = _grid(GRID), _grid(ROOTS)
    said, roots = network(x.float()).double(), network(y.float()).double()
    signed = (said - torch.stack([*target(x)[..., :3].unbind(-1), torch.zeros(1, x.shape[1])], -1)).abs()
    n, m = len(GRID), len(ROOTS)
    first = signed[..., :3].mT.reshape(-1, 3, n, n)
    root = (roots - target(y)).abs()[..., 3].reshape(-1, 1, m, m)
    padded = torch.full((len(root), 1, n, n), torch.nan, dtype=torch.float64)
    padded[:, :, :m, :m] = root
    return torch.cat([first, padded], 1).numpy()


def _grid(values: Tensor) -> Tensor:
    return torch.cartesian_prod(values, values)[None]


def _means(surfaces: np.ndarray) -> np.ndarray:
    """Return mean absolute errors (R, 4)."""
    return np.nanmean(surfaces, (2, 3))


def yardsticks() -> dict[str, list[float]]:
    """Return the errors of answers that know nothing: 0 (for the root its training mean), and the operation without signs.

    >>> [round(v, 2) for v in yardsticks()["0"]]
    [2.74, 4.21, 2.49, 0.5]
    """
    x, y = target(_grid(GRID))[..., :3], target(_grid(ROOTS))[..., 3]
    blind = target(_grid(GRID).abs())[..., :3]
    mean = float(torch.linspace(0.1, 2.1, 2001).sqrt().mean())
    zero = [*x.abs().mean((0, 1)).tolist(), float((y - mean).abs().mean())]
    return {"0": zero, "no signs": [*(x - blind).abs().mean((0, 1)).tolist(), 0.0]}


def write(rows: list[Row], folder: Path) -> str:
    """Return the page: the paper's numbers beside these, all seeds."""
    known = yardsticks()
    lines = []
    for i, task in enumerate(TASKS):
        for (model,), some in groups(rows, model=MODELS):
            s, paper = spread([row[f"error {task}"] for row in some]), PUBLISHED[task][MODELS.index(model)]
            good = sum(row[f"error {task}"] < SUCCESS * known["0"][i] for row in some)
            told = [f"{short(s.mean)} ± {short(s.sem)}", f"{short(s.median)} ± {short(s.mad)}", short(s.best)]
            share = [short(s.median / known["0"][i]), rate(good, s.n)]
            lines.append([task, model, f"{paper[0]:g} ± {paper[1]:g}", *told, *share])
        lines += [[task, f"*{name}*", "", short(errors[i]), "", "", "", ""] for name, errors in known.items()]
    head = [
        "task",
        "model",
        "paper, mean ± SEM",
        "mean ± SEM",
        "median ± MAD",
        "best",
        "median / error of 0",
        f"below {SUCCESS:g} of it",
    ]
    return markdown(head, lines) + "\n\n" + "\n\n".join(remarks(rows)) + "\n"


def remarks(rows: list[Row]) -> list[str]:
    """Return what the rows say about the paper's claims."""
    npu, real = (
        np.array([[row[f"error {t}"] for t in TASKS] for row in select(rows, model=model)]) for model in MODELS[:2]
    )
    said = []
    if len(npu) == len(real) > 0:
        apart = float(np.abs(npu / real - 1.0).max())
        said.append(
            f"NPU and RealNPU from the same seeds: their errors differ by at most {apart:.2g} of their size. On positive inputs they are the same "
            "function with the same gradient, so a gap between their rows in Table A2 is a gap between seeds."
        )
    if len(npu):
        most = np.delete(npu, int(npu.sum(1).argmax()), 0).mean(0)
        said.append(
            "Without the worst of its runs the NPU's means are "
            + ", ".join(f"{short(v)} ({t})" for v, t in zip(most, TASKS, strict=True))
            + "; the paper prints 0.08, 0.066, 0.085 and 0.004 for the RealNPU."
        )
    said.append(
        "Errors are the mean absolute ones on the grid. *0* answers 0 (for the root the mean of its training targets), *no signs* the operation "
        "on absolute values: what a model that is right on positive inputs alone can reach."
    )
    return said


def draw(rows: list[Row], folder: Path) -> Figure:
    """Return Fig. 6: the error of each model's best seed over both inputs."""
    from .pictures import draw_surfaces

    files = {cell.model: folder / f"{cell.file}.npy" for cell in list_cells(rows[0]["variant"], rows[0]["budget"])}
    there = {model: np.load(file) for model, file in files.items() if file.exists()}
    return draw_surfaces(there, GRID.numpy(), ROOTS.numpy())


EXPERIMENT = Experiment("Simple arithmetic (Fig. 6, Table A2)", list_cells, measure, write, draw, FIELDS)
