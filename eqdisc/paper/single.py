r"""The single-module arithmetic task: one unit learns y = a b or y = a / b of two inputs, over nine ranges (Mistry, Farrahi & Hare, JMLR 2022).

Two inputs, 50,000 steps; or ten of which eight do not matter, 100,000 steps. Batches of 128 drawn anew at every step; a lane ends where
its error on other points of its own range is lowest; what counts is the error on a range that it never saw. Ten seeds a range, all side by
side. Units train as published there: Adam at 0.001, the power units at 0.005 with L1 that grows from 1e-9 to 1e-7 (products 1e-7 to 1e-5) and
the paper's gates; NMU and NAU clipped in place and driven to whole choices; iNALU's gradients clipped at 0.1, without starting anew.

`RealNPU modified` is that of Mistry et al. (TMLR 2022): exponents in [-1, 1], gates in [0, 1], constrained initial values, and a penalty
that drives them to the ends. `ours` is a RealNPU with open gates, in double precision, from 32 random starts side by side (16 for ten
inputs): L-BFGS lowers the mean squared error on 400 points of the training range, and the start where that ends lowest is kept. Exponents
need not be whole, and nothing of the task is used but that its data have no noise. `least squares` is the benchmark's own yardstick:
log|y| is linear in the exponents of log|x|, so one step of regression on 1,000 points solves it, and a second fit to y over x takes the signs.

As `coded` a run has solved the task below a mean squared error of 1e-5, as the code for division has it; as `printed`, below the error of a solution
whose numbers are off by 1e-4 (JMLR 2022).
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..units import NALU, NAU, NMU, NPU, Dense, NaiveNPU, PowerUnit, RealNPU, iNALU
from .experiment import Cell, Desk, Experiment, Row, groups, markdown, select
from .least_squares import fit, logarithmic, relative
from .quasi_newton import minimise
from .statistics import rate, short
from .training import Network, Recipe, squared_error, train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RANGES = (  # trained on, asked on
    ((-20.0, -10.0), (-40.0, -20.0)),
    ((-2.0, -1.0), (-6.0, -2.0)),
    ((-1.2, -1.1), (-6.1, -1.2)),
    ((-0.2, -0.1), (-2.0, -0.2)),
    ((-2.0, 2.0), (2.0, 6.0)),  # and the same below zero
    ((0.1, 0.2), (0.2, 2.0)),
    ((1.0, 2.0), (2.0, 6.0)),
    ((1.1, 1.2), (1.2, 6.0)),
    ((10.0, 20.0), (20.0, 40.0)),
)
NAMES = tuple(f"[{low:g}, {high:g}]" for (low, high), _ in RANGES)
MIXED = 4  # the range that holds both signs
MODELS = (
    *("ours", "least squares", "RealNPU", "RealNPU modified", "NPU", "NMU", "NaiveNPU"),
    *("NALU", "iNALU", "NAU", "Dense"),
)
TASKS = ("/, 2 inputs", "x, 2 inputs", "/, 10 inputs", "x, 10 inputs")
FLAT, NEARLY = 1e-5, 1e-4
BATCH, SEEDS, POINTS, TESTS = 128, 10, 1000, 10_000
STARTS = {2: 32, 10: 16}  # random starts of ours, by the number of inputs
FEW, TRIALS = 400, 300  # points and evaluations of L-BFGS
EXACT = 1e-20  # of the mean square of y: a start that found the product
SHARES = {
    "/, 10 inputs": {"RealNPU": 0.70, "RealNPU modified": 0.853}
}  # published, 225 runs; NMRU, the best published, 91.6 %
NMRU = 0.916
FIELDS = ("range", "seed", "error", "threshold", "inside", "indecision", "seconds", "starts")


def list_cells(variant: str, budget: str) -> list[Cell]:
    """Return a cell a model and task, what is quick first."""
    cost = {"NPU": 1.4, "NMU": 0.6, "NAU": 0.3, "Dense": 0.4, "iNALU": 1.8, "ours": 0.5, "least squares": 0.02}
    few, many = ([(task, model) for model in MODELS for task in tasks] for tasks in (TASKS[:2], TASKS[2:]))
    return [
        Cell(variant, budget, model, task, cost.get(model, 1.0) * (60.0 if "2 inputs" in task else 250.0))
        for task, model in (few + many if budget == "full" else few)
    ]


def parse(task: str) -> tuple[bool, int]:
    """Return whether a task divides, and its number of inputs.

    >>> parse("/, 10 inputs")
    (True, 10)
    """
    operation, inputs = task.split(", ")
    return operation == "/", int(inputs.split()[0])


class Numbers:
    """Draws inputs and answers, lanes in the order of ranges and seeds."""

    def __init__(self, task: str, seeds: int, dtype: torch.dtype = torch.float32) -> None:
        self.divides, self.inputs = parse(task)
        self.seeds, self.dtype, self.generator = seeds, dtype, torch.Generator()
        ranges = torch.tensor(RANGES, dtype=dtype).repeat_interleave(seeds, 0)  # (R, 2, 2)
        self.low, self.span = ranges[:, :, 0], ranges.diff(dim=2)[..., 0]
        self.mixed = torch.arange(len(ranges)) // seeds == MIXED

    def draw(self, n: int, number: int, unseen: bool = False) -> tuple[Tensor, Tensor]:
        """Return the batch of that number, x (R, n, in) and y (R, n, 1), from the ranges trained on or those asked on.

        >>> x, y = Numbers("/, 2 inputs", seeds=1).draw(5, 0)
        >>> x.shape, bool((y[..., 0] == x[..., 0] / x[..., 1]).all())
        (torch.Size([9, 5, 2]), True)
        """
        self.generator.manual_seed(number)
        u = torch.rand(len(self.low), n, self.inputs, generator=self.generator, dtype=self.dtype)
        part = int(unseen)
        x = self.low[:, part, None, None] + self.span[:, part, None, None] * u
        if unseen:
            below = torch.rand(x.shape, generator=self.generator) < 0.5
            x = torch.where(self.mixed[:, None, None] & below, -x, x)
        x = torch.where(x == 0, 1e-3, x)
        a, b = x[..., :1], x[..., 1:2]
        return x, a / b if self.divides else a * b


UNITS: dict[str, tuple[Any, dict[str, Any]]] = {  # and their options
    "RealNPU": (RealNPU, {"gate_init": 0.5, "epsilon": "add", "clip": "plain"}),
    "RealNPU modified": (
        RealNPU,
        {"gate_init": 0.5, "epsilon": "add", "clip": "in place", "bound": 1.0, "init": "constrained"},
    ),
    "NPU": (NPU, {"gate_init": 0.5, "epsilon": "add", "clip": "plain"}),
    "NMU": (NMU, {}),
    "NaiveNPU": (NaiveNPU, {"epsilon": "add"}),
    "NALU": (NALU, {}),
    "iNALU": (iNALU, {}),
    "NAU": (NAU, {"bound": 1.0, "init": "constrained"}),
    "Dense": (Dense, {"activation": "none"}),
}
CHANGES: dict[str, dict[str, Any]] = {  # of the recipe
    "RealNPU modified": {"ramp": {2: (40_000, 50_000), 10: (50_000, 75_000)}},
    "NMU": {"weight": 10.0, "ramp": {2: (20_000, 35_000), 10: (40_000, 70_000)}},
    "NAU": {"weight": 0.01, "ramp": {2: (20_000, 35_000), 10: (40_000, 70_000)}},
    "iNALU": {"clip": 0.1},
}


def build(model: str, inputs: int, lanes: int, divides: bool) -> tuple[Network, Recipe]:
    """Return a unit in so many lanes, and how it is trained.

    >>> build("NMU", 2, 9, divides=False)[0].list[0].name
    'nmu'
    """
    unit, options = UNITS[model]
    recipe = Recipe(steps=50_000 if inputs == 2 else 100_000, rate=1e-3)
    if issubclass(unit, PowerUnit):
        recipe = replace(recipe, rate=5e-3, beta=(1e-9, 1e-7) if divides else (1e-7, 1e-5))
    changes = dict(CHANGES.get(model, {}))
    if "ramp" in changes:
        changes["ramp"] = changes["ramp"][inputs]
    drawing = {"lanes": lanes, "generator": torch.Generator().manual_seed(0), "dtype": torch.float32}
    return Network([unit(inputs, 1, **options, **drawing)]), replace(recipe, **changes)


def measure(cell: Cell, desk: Desk) -> list[Row]:
    """Train a unit for all ranges and seeds, and ask it on ranges that it never saw."""
    inputs, smoke = parse(cell.task)[1], cell.budget == "smoke"
    numbers = Numbers(cell.task, 2 if smoke else SEEDS, torch.float32 if cell.model in UNITS else torch.float64)
    begin = time.perf_counter()
    starts: list[float] | list[str] = [""] * len(numbers.low)
    if cell.model == "ours":
        network, starts = fit_ours(numbers, 8 if smoke else STARTS[inputs])
    elif cell.model == "least squares":
        network = fit_logarithms(numbers)
    else:
        network = _train(cell.model, numbers, smoke, desk)
    rows = _rows(network, numbers, (time.perf_counter() - begin) / network.lanes)
    return [row | {"starts": share} for row, share in zip(rows, starts, strict=True)]


def _train(model: str, numbers: Numbers, smoke: bool, desk: Desk) -> Network:
    """Train a unit in all lanes, each to where it is best on other points of its own range."""
    network, recipe = build(model, numbers.inputs, len(numbers.low), numbers.divides)
    other = numbers.draw(POINTS, 1)
    train(
        network,
        lambda step: numbers.draw(BATCH, 1000 + step),
        replace(recipe, steps=30) if smoke else recipe,
        measure=lambda net: squared_error(net, *other),
        every=1000,
        tell=desk.tell,
        keeper=desk.keeper,
    )
    return network


def fit_ours(numbers: Numbers, starts: int) -> tuple[Network, list[float]]:
    """Return RealNPUs with open gates, the best of many random starts for each lane, and the share of starts that found the product.

    >>> network, found = fit_ours(Numbers("/, 2 inputs", seeds=1), starts=16)
    >>> network.list[0].get_parameter("exponents")[6].detach().round(decimals=3).tolist()
    [[1.0, -1.0]]
    """
    lanes, generator = len(numbers.low), torch.Generator().manual_seed(0)
    unit = RealNPU(numbers.inputs, 1, lanes=lanes * starts, generator=generator)
    network = Network([unit])
    x, y = (v.double().repeat_interleave(starts, 0) for v in numbers.draw(FEW, 1))
    size = y.square().mean((1, 2))

    def evaluate(theta: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            unit.exponents.copy_(theta[:, None])
        network.zero_grad()
        error = squared_error(network, x, y) / size
        error.sum().backward()
        assert unit.exponents.grad is not None
        return error.detach(), unit.exponents.grad[:, 0]

    error, _ = evaluate(minimise(evaluate, unit.exponents.detach()[:, 0].clone(), TRIALS))
    error = error.nan_to_num(torch.inf).reshape(lanes, starts)
    best = torch.arange(lanes) * starts + error.argmin(1)
    return Network([unit.keep(best)]), (error < EXACT).double().mean(1).tolist()


def fit_logarithms(numbers: Numbers) -> Network:
    """Return RealNPUs with open gates whose exponents were fitted to log|y| over |x|, then to y over x."""
    lanes = len(numbers.low)
    generator = torch.Generator().manual_seed(0)
    network = Network([RealNPU(numbers.inputs, 1, lanes=lanes, generator=generator, init="constrained")])
    x, y = numbers.draw(POINTS, 1)
    fit(network, x.abs(), y[..., 0], logarithmic, 20, ["units.0.exponents"])
    fit(network, x, y[..., 0], relative, 20, ["units.0.exponents"])
    return network


@torch.no_grad()
def _rows(network: Network, numbers: Numbers, seconds: float) -> list[Row]:
    x, y = numbers.draw(TESTS, 2, unseen=True)
    error = squared_error(network, x, y).tolist()
    off = (1 - NEARLY) / (1 + NEARLY) if numbers.divides else (1 - NEARLY) ** 2
    threshold = (y * (1 - off)).square().mean((1, 2)).tolist()
    inside = squared_error(network, *numbers.draw(TESTS, 3)).tolist()
    far = network.indecision().tolist()
    names = [name for name in NAMES for _ in range(numbers.seeds)]
    return [
        dict(
            zip(
                FIELDS[:-1],
                (names[i], i % numbers.seeds, error[i], threshold[i], inside[i], far[i], seconds),
                strict=True,
            )
        )
        for i in range(network.lanes)
    ]


def solved(row: Row) -> bool:
    """Return whether a run has solved its task, by its variant's criterion."""
    return row["error"] < (FLAT if row["variant"] == "coded" else row["threshold"])


def write(rows: list[Row], folder: Path) -> str:
    """Return the page: how many seeds solved each range."""
    parts = [_write_task(task, some) for (task,), some in groups(rows, task=TASKS)]
    best = f"Published: 225 runs; the best published unit for 10 inputs, NMRU, solves {100 * NMRU:g} % (TMLR 2022)."
    return "\n\n".join([*parts, best]) + "\n"


def _write_task(task: str, rows: list[Row]) -> str:
    """Return a task's table, a unit a line."""
    lines, seeds = [], 0
    for (model,), some in groups(rows, model=MODELS):
        seeds = seeds or len(select(some, range=NAMES[0]))
        published = SHARES.get(task, {}).get(model)
        shares = [row["starts"] for row in some if row["starts"] != ""]
        counts = [str(sum(map(solved, select(some, range=name)))) for name in NAMES]
        told = [rate(sum(map(solved, some)), len(some)), f"{100 * published:g} %" if published else ""]
        found = f"{100 * sum(shares) / len(shares):.0f} %" if shares else ""
        lines.append([model, *counts, *told, short(1000 * some[0]["seconds"]), found])
    head = ["unit", *NAMES, "all", "published", "ms a run", "starts that found it"]
    return f"## {task}: seeds of {seeds} that solved it\n\n" + markdown(head, lines)


def draw(rows: list[Row], folder: Path) -> Figure:
    """Return a picture of the shares that are solved, a panel a task."""
    from .pictures import draw_shares

    shares: dict[str, dict[str, list[float]]] = {}
    for (task, model), some in groups(rows, task=TASKS, model=MODELS):
        each = [select(some, range=name) for name in NAMES]
        shares.setdefault(task, {})[model] = [sum(map(solved, part)) / len(part) for part in each]
    return draw_shares(shares, NAMES)


EXPERIMENT = Experiment("One unit, one operation, nine ranges", list_cells, measure, write, draw, FIELDS)
