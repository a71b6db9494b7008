r"""Large-scale arithmetic, Fig. 7 and Table 1: operations on sums of two subsets of a hundred inputs.

    a = x_1 + ... + x_50,     b = x_39 + ... + x_88,     y = a + b,  a b,  1 / a,  sqrt a

| | printed | coded |
|-|-|-|
| init | Glorot, gates 1/2 | U(0, 0.1), gates 1 (NPU) and 1/2 (RealNPU) |
| optimiser | not said; here Adam | RMSProp |
| penalty | L1 | sum of the arrays' 2-norms |
| its weight for a b | 1e-5 to 1e-7, which cannot grow; here 1e-5 | 1e-5 to 1e-4 |
| asked on | (-4, 4) for sum and product, (-0.5, 0.5), where 1 / a has no bound, (0, 4) | (-2, 2), (-0.5, 0), (0, 4) |
| steps | 100,000 | 100,000; NMU 10,000 for the sum, 20,000 for the product |

Both: NAU(100, 100) -> unit(100, 1), NALU -> NALU; consecutive Sobol points, 128 a batch, from (-1, 1), (0, 0.5) or (0, 2); 10,000 Sobol points to
ask, in double precision: errors of 1e83 are beyond the single precision that all train in. Table 1 took the ten best by the error on those, of
ten to twenty runs and more, runs without a number left out; here all seeds count, ten and then ten more, and what that choice of ten makes of
them stands in a column of its own. The targets of 1/a and sqrt a hardly vary, so errors are also divided by the variance of the target: 1 is what
a constant reaches that knows the mean.

The points asked leave out the first, the middle of the range, as the authors' code does, which takes it for the sequence's zero. For sum and product
that middle is the origin, where products with negative exponents have no bound: with it that one point is all of the mean of NALU and NaiveNPU.

`ours` is NAU(100, h) -> RealNPU(h, 1) with open gates in double precision, the smallest h in {1, 2} that fits, fitted by least squares on 1,000
points of the training range: sums start at random, exponents at 1 and 1, 1 and -1, 1/2 and 1/2, and the start whose error in training is least is
kept. Where inputs are positive log y is fitted first; where they change sign exponents stay at 1 and four random starts of the sums compete.
Numbers that do not matter are then set to 0 and the rest fitted again.

`reference` tasks are those of Madsen & Johansen (ICLR 2020): subsets of 25 with 12 in common at a random place, trained on U(1, 2), asked on U(2, 6);
solved where the error is below that of a solution whose weights are off by 1e-5. Published, of 100 seeds: NAU 100 % (sum), NMU 98 % (product), every
unit 0 % (quotient), at most 7 % (root, NAC).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..units import NALU, NAU, NMU, NPU, NaiveNPU, RealNPU, Unit
from .experiment import Cell, Desk, Experiment, Row, markdown, select
from .least_squares import Residual, fit, logarithmic, proportional, relative
from .statistics import rate, short, spread
from .training import Network, Recipe, squared_error, train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODELS = ("NPU", "RealNPU", "NALU", "NMU", "NaiveNPU")
INPUTS, BATCH, SEEDS, TESTS = 100, 128, 10, 10_000
FIRST, SECOND = slice(0, 50), slice(38, 88)
MORE = ", ten more"  # after a task: seeds 10 to 19


@dataclass(frozen=True)
class Task:
    """What is asked: the operation on two sums, the range trained on, the ranges asked on (as printed, as coded), and how it is trained."""

    answer: Callable[[Tensor, Tensor], Tensor]
    span: tuple[float, float]
    unseen: dict[str, tuple[float, float]]
    rate: float
    beta: dict[str, tuple[float, float]]


TASKS = {
    "+": Task(
        lambda a, b: a + b,
        (-1, 1),
        {"printed": (-4, 4), "coded": (-2, 2)},
        1e-2,
        {"printed": (1e-5, 1e-4), "coded": (1e-5, 1e-4)},
    ),
    "x": Task(
        lambda a, b: a * b,
        (-1, 1),
        {"printed": (-4, 4), "coded": (-2, 2)},
        5e-3,
        {"printed": (1e-5, 1e-5), "coded": (1e-5, 1e-4)},
    ),
    "/": Task(
        lambda a, b: 1 / a,
        (0, 0.5),
        {"printed": (-0.5, 0.5), "coded": (-0.5, 0)},
        5e-3,
        {"printed": (1e-9, 1e-7), "coded": (1e-9, 1e-7)},
    ),
    "sqrt": Task(
        lambda a, b: a.sqrt(),
        (0, 2),
        {"printed": (0, 4), "coded": (0, 4)},
        5e-3,
        {"printed": (1e-6, 1e-4), "coded": (1e-6, 1e-4)},
    ),
}
NMU_RUNS = {"+": (10_000, (1e-7, 1e-4)), "x": (20_000, (1e-9, 1e-4))}  # steps and the penalty's weight, in the code
PUBLISHED = {  # Table 1: median and median absolute deviation
    "+": ((0.092, 0.031), (0.063, 0.014), (740.0, 330.0), (0.00602, 0.00019), (161.65, 0.11)),
    "x": ((4.28, 0.9), (3.09, 0.74), (2.9e83, 2.9e83), (1.7, 1.4), (3750.0, 870.0)),
    "/": ((1.0e-7, 1.0e-7), (1.4e-6, 4.0e-7), (530.0, 200.0), (1.622, 0.081), (5.4e17, 5.4e17)),
    "sqrt": ((0.054, 0.0078), (0.017, 0.011), (7300.0, 7200.0), (10.96, 0.89), (9.3e8, 9.3e8)),
}
NUMBERS = {  # medians of what the paper's runs have above 0.01 (Fig. 7)
    "+": (1088, 1068, None, 90, 9866),
    "x": (1941, 2473, None, 908, None),
    "/": (102, 102, None, 753, None),
    "sqrt": (103, 103, None, 6817, None),
}
REFERENCE = {"reference +": "+", "reference x": "x", "reference /": "/", "reference sqrt": "sqrt"}
REFERENCE_SEEDS, NEARLY = 30, 1e-5
STARTS = ((1.0, 1.0), (1.0, -1.0), (0.5, 0.5))
WHOLE_STARTS = 4  # of the sums, where exponents stay whole: from one start in ten a product of sums is not found
POINTS, STEPS, SOLVED = 1000, 80, 1e-18  # SOLVED: a mean squared residual in training that ends the search for a width
DRAWN = {"coded": 1e-2, "printed": 1e-3}  # numbers count above
FIELDS = ("seed", "error", "variance", "threshold", "training", "numbers", "width", "seconds")


def list_cells(variant: str, budget: str) -> list[Cell]:
    """Return a cell a model and task: ours first, then the paper's, what it says most about first."""
    cost = {"NPU": 450.0, "RealNPU": 400.0, "NaiveNPU": 400.0, "NMU": 400.0, "NALU": 1200.0}
    cells = [Cell(variant, budget, "ours", task, 30.0) for task in (TASKS if budget == "full" else ("/", "sqrt"))]
    if budget == "full":
        cells += [Cell(variant, budget, "ours", task, 80.0) for task in REFERENCE]
    short_runs = {"+": 0.1, "x": 0.2} if variant == "coded" else {}
    return cells + [
        Cell(variant, budget, model, task + more, cost[model] * (short_runs.get(task, 1.0) if model == "NMU" else 1.0))
        for more in (("", MORE) if budget == "full" else ("",))
        for models in (("RealNPU", "NPU", "NMU"), ("NaiveNPU", "NALU"))
        for task in (("/", "sqrt", "+", "x") if budget == "full" else ("sqrt",))
        for model in models
    ]


class Sobol:
    """Consecutive Sobol points in a range, batch by batch.

    >>> points = Sobol((0.0, 2.0))
    >>> first = points.batch(0, 4)
    >>> points.batch(1, 4).shape, bool((points.batch(0, 4) == first).all())
    (torch.Size([1, 4, 100]), True)
    """

    def __init__(self, span: tuple[float, float], dtype: torch.dtype = torch.float32) -> None:
        self.low, self.width, self.dtype = span[0], span[1] - span[0], dtype
        self.engine = torch.quasirandom.SobolEngine(INPUTS)
        self.engine.fast_forward(1)  # the first point is a corner

    def batch(self, step: int, n: int) -> Tensor:
        """Return the points of a batch (1, n, 100)."""
        ahead = 1 + step * n - self.engine.num_generated
        if ahead < 0:
            self.engine.reset()
            ahead = 1 + step * n
        if ahead:
            self.engine.fast_forward(ahead)
        return (self.low + self.width * self.engine.draw(n, dtype=self.dtype))[None]


def draw_asked(task: str, variant: str) -> Tensor:
    """Return the points asked in double precision (1, 10000, 100); the middle of the range is not one of them.

    >>> x = draw_asked("+", "coded")
    >>> x.shape, bool((x == 0).all(-1).any())
    (torch.Size([1, 10000, 100]), False)
    """
    return Sobol(TASKS[task].unseen[variant], torch.float64).batch(0, 1 + TESTS)[:, 1:]


def answer(task: str, x: Tensor) -> Tensor:
    """Return the target at x (..., 100) -> (..., 1)."""
    return TASKS[task].answer(x[..., FIRST].sum(-1, keepdim=True), x[..., SECOND].sum(-1, keepdim=True))


def build(model: str, task: str, variant: str, lanes: int, seed: int = 0) -> tuple[Network, Recipe]:
    """Return a model with random weights, and how it is trained.

    >>> network, recipe = build("RealNPU", "/", "coded", lanes=2)
    >>> sum(p[0].numel() for p in network.parameters()), recipe.optimiser
    (10200, 'rmsprop')
    """
    coded = variant == "coded"
    kwargs: dict[str, Any] = {"lanes": lanes, "generator": torch.Generator().manual_seed(seed), "dtype": torch.float32}
    kwargs |= {"init": "positive", "init_scale": 0.1} if coded else {}
    sums: Unit = NAU(INPUTS, INPUTS, bound=None if coded else 1.0, **kwargs)
    unit: Unit
    if model == "NALU":
        sums, unit = NALU(INPUTS, INPUTS, **kwargs), NALU(INPUTS, 1, **kwargs)
    elif model == "NMU":
        unit = NMU(INPUTS, 1, clip="plain", **kwargs)
    elif model == "NaiveNPU":
        unit = NaiveNPU(INPUTS, 1, epsilon="add", **kwargs)
    else:
        gate = 1.0 if coded and model == "NPU" else 0.5
        unit = (NPU if model == "NPU" else RealNPU)(INPUTS, 1, gate_init=gate, epsilon="add", clip="plain", **kwargs)
    recipe = Recipe(steps=100_000, rate=TASKS[task].rate, beta=TASKS[task].beta[variant])
    if coded:
        recipe = replace(recipe, optimiser="rmsprop", penalty="norms")
        if model == "NMU" and task in NMU_RUNS:
            steps, beta = NMU_RUNS[task]
            recipe = replace(recipe, steps=steps, beta=beta)
    return Network([sums, unit]), recipe


def measure(cell: Cell, desk: Desk) -> list[Row]:
    """Train all seeds of a model on a task and ask them outside its range."""
    smoke = cell.budget == "smoke"
    if cell.model == "ours":
        return measure_ours(cell, 2 if smoke else SEEDS if cell.task in TASKS else REFERENCE_SEEDS, desk)
    lanes = 2 if smoke else SEEDS
    task, first = cell.task.removesuffix(MORE), SEEDS * cell.task.endswith(MORE)
    network, recipe = build(cell.model, task, cell.variant, lanes, seed=first)
    if smoke:
        recipe = replace(recipe, steps=10)
    points = Sobol(TASKS[task].span)

    def batch(step: int) -> tuple[Tensor, Tensor]:
        x = points.batch(step, BATCH)
        return x, answer(task, x)

    begin = time.perf_counter()
    train(network, batch, recipe, tell=desk.tell, keeper=desk.keeper, every=100)
    seconds = (time.perf_counter() - begin) / lanes
    with torch.no_grad():
        training = squared_error(network, *batch(recipe.steps))
    numbers = network.count(DRAWN[cell.variant])
    x = draw_asked(task, cell.variant)
    y = answer(task, x)
    with torch.no_grad():
        error = squared_error(network.double(), x, y)
    return [
        {
            "seed": first + i,
            "error": float(error[i]),
            "variance": float(y.double().var()),
            "training": float(training[i]),
            "numbers": int(numbers[i]),
            "width": INPUTS,
            "seconds": seconds,
        }
        for i in range(lanes)
    ]


# Ours


@dataclass(frozen=True, eq=False)
class Problem:
    """Points trained on and asked on, x (1, N, 100), y (N,); `whole` where exponents must stay whole; the error that counts as solved."""

    x: Tensor
    y: Tensor
    unseen_x: Tensor
    unseen_y: Tensor
    whole: bool
    threshold: float


def pose(task: str, variant: str, seed: int) -> Problem:
    """Return a task's points for one seed."""
    generator = torch.Generator().manual_seed(seed)
    if task in REFERENCE:
        return _pose_reference(REFERENCE[task], generator)
    low, high = TASKS[task].span
    x = low + (high - low) * torch.rand(1, POINTS, INPUTS, generator=generator, dtype=torch.float64)
    unseen = draw_asked(task, variant)
    return Problem(x, answer(task, x)[0, :, 0], unseen, answer(task, unseen)[0, :, 0], low < 0, 0.0)


def _pose_reference(operation: str, generator: torch.Generator) -> Problem:
    """Return the task of Madsen & Johansen; the threshold is the error of weights that are off by 1e-5 in the worst direction."""
    size, common = INPUTS // 4, INPUTS // 8
    place = int(torch.randint(0, INPUTS - 2 * size + common + 1, (1,), generator=generator))
    a, b = torch.zeros(2, INPUTS, dtype=torch.float64)
    a[place : place + size] = 1.0
    b[place + size - common : place + 2 * size - common] = 1.0
    x = 1.0 + torch.rand(1, POINTS, INPUTS, generator=generator, dtype=torch.float64)
    unseen = 2.0 + 4.0 * torch.rand(1, TESTS, INPUTS, generator=generator, dtype=torch.float64)
    says = lambda x, a, b: TWO_SUMS[operation]((x @ a)[0], (x @ b)[0])  # noqa: E731
    second = -NEARLY if operation == "/" else NEARLY
    off = [a + NEARLY * (1.0 - 2.0 * a), b + second * (1.0 - 2.0 * b)]
    y = says(unseen, a, b)
    return Problem(x, says(x, a, b), unseen, y, False, float((says(unseen, *off) - y).square().mean()))


TWO_SUMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "+": lambda a, b: a + b,
    "x": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "sqrt": lambda a, b: a.sqrt(),
}
ALL = ("units.0.coefficients", "units.1.exponents")


def measure_ours(cell: Cell, seeds: int, desk: Desk) -> list[Row]:
    """Solve a task for each seed by least squares."""
    rows: list[Row] = []
    for seed in range(seeds):
        begin = time.perf_counter()
        problem = pose(cell.task, cell.variant, seed)
        network, training = solve(problem, seed)
        with torch.no_grad():
            error = float((network(problem.unseen_x)[0, :, 0] - problem.unseen_y).square().mean())
        rows.append(
            {
                "seed": seed,
                "error": error,
                "variance": float(problem.unseen_y.var()),
                "threshold": problem.threshold,
                "training": training,
                "numbers": int(network.count(DRAWN[cell.variant])[0]),
                "width": network.list[0].n_out,
                "seconds": time.perf_counter() - begin,
            }
        )
        desk.tell(seed + 1, seeds)
    return rows


def solve(problem: Problem, seed: int) -> tuple[Network, float]:
    """Return the narrowest network that fits the points, one lane, and its mean squared relative residual there."""
    best: tuple[Network, float] | None = None
    for width in (1, 2):
        network = _start(problem, width, seed)
        y = problem.y.expand(network.lanes, -1)
        loss = _fit(network, problem, y)
        chosen = _keep_lane(network, int(loss.nan_to_num(torch.inf).argmin()))
        found = chosen, float(loss.min())
        if best is None or found[1] < 1e-3 * best[1]:
            best = found
        if best[1] < SOLVED:
            break
    assert best is not None
    return _thin(*best, problem)


def _start(problem: Problem, width: int, seed: int) -> Network:
    """Return networks of one width with random sums, one lane for each start of the exponents."""
    exponents = [STARTS[0][:width]] * WHOLE_STARTS if problem.whole else sorted({start[:width] for start in STARTS})
    starts = torch.tensor(exponents, dtype=torch.float64)
    kwargs: dict[str, Any] = {"lanes": len(starts), "generator": torch.Generator().manual_seed(seed)}
    init, scale = ("constrained", 0.3) if problem.whole else ("positive", 0.1)
    network = Network([NAU(INPUTS, width, init=init, init_scale=scale, **kwargs), RealNPU(width, 1, **kwargs)])
    network.list[1].get_parameter("exponents").data.copy_(starts[:, None])
    return network


def _fit(network: Network, problem: Problem, y: Tensor) -> Tensor:
    """Fit all lanes and return their losses; positive sums come from logarithms, with signs that are chosen afterwards."""
    if problem.whole:
        return fit(network, problem.x, y, proportional, STEPS, ALL[:1])
    fit(network, problem.x, y, logarithmic, STEPS, ALL)
    with torch.no_grad():
        sums = network.list[0].get_parameter("coefficients")
        sums.mul_(torch.where((problem.x @ sums.mT).mean(1) < 0, -1.0, 1.0)[..., None])
    return fit(network, problem.x, y, relative, STEPS, ALL)


def _keep_lane(network: Network, lane: int) -> Network:
    return Network([unit.keep([lane]) for unit in network.list])


def _thin(network: Network, loss: float, problem: Problem) -> tuple[Network, float]:
    """Set sums' weights below a thousandth of the largest to 0 and fit again; keep that where it fits as well."""
    import copy

    thin = copy.deepcopy(network)
    sums = thin.list[0]
    weights, support = sums.get_parameter("coefficients").detach(), sums.get_buffer("coefficients_support")
    support.copy_((weights.abs() > 1e-3 * weights.abs().amax(2, keepdim=True)).to(weights.dtype))
    weights.mul_(support)
    residual: Residual = proportional if problem.whole else relative
    again = float(fit(thin, problem.x, problem.y[None], residual, STEPS, ALL[:1] if problem.whole else ALL))
    return (thin, again) if again <= max(loss, SOLVED) else (network, loss)


# What is written


def write(rows: list[Row], folder: Path) -> str:
    """Return the page: errors beside the paper's, divided by the variance, and numbers."""
    lines = []
    for task in TASKS:
        for model in (*MODELS, "ours"):
            some = _select_all(rows, task, model)
            if some:
                i = MODELS.index(model) if model in MODELS else None
                paper = "" if i is None else "{:g} ± {:g}".format(*PUBLISHED[task][i])
                count = "" if i is None else NUMBERS[task][i] or ""
                s, size = spread([row["error"] for row in some]), spread([row["numbers"] for row in some])
                best = spread(keep_best([row["error"] for row in some]))
                told = [f"{short(v.median)} ± {short(v.mad)}" if v.n else "" for v in (s, best)]
                told += [short(s.best), short(s.median / some[0]["variance"])]
                seconds = f"{some[0]['seconds']:.1f}"
                lines.append([task, model, paper, str(s.n), *told, str(count), f"{size.median:.0f}", seconds])
    head = [
        "task",
        "model",
        "paper, median ± MAD",
        "seeds",
        "median ± MAD",
        "ten best of them",
        "best",
        "median / variance",
        "paper, numbers",
        "numbers",
        "s a run",
    ]
    parts = [markdown(head, lines), _write_reference(rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _select_all(rows: list[Row], task: str, model: str) -> list[Row]:
    """Return a model's rows of a task, whichever cell they are from."""
    return select(rows, task=task, model=model) + select(rows, task=task + MORE, model=model)


def keep_best(errors: Sequence[float], count: int = SEEDS) -> list[float]:
    """Return the smallest errors as Table 1 has them, runs without a number left out.

    >>> keep_best([3.0, float("nan"), 1.0, 2.0], count=2)
    [1.0, 2.0]
    """
    return sorted(e for e in errors if not math.isnan(e))[:count]


def _write_reference(rows: list[Row]) -> str:
    published = {
        "reference +": "100 % (NAU)",
        "reference x": "98 % (NMU)",
        "reference /": "0 %",
        "reference sqrt": "7 % (NAC)",
    }
    lines = []
    for task, best in published.items():
        some = select(rows, task=task, model="ours")
        if some:
            s, good = spread([row["error"] for row in some]), sum(row["error"] < row["threshold"] for row in some)
            numbers = spread([row["numbers"] for row in some]).median
            lines.append(
                [task, best, rate(good, len(some)), short(s.median), f"{numbers:.0f}", f"{some[0]['seconds']:.1f}"]
            )
    head = ["task", "published best of 100 seeds", "ours, solved", "median error", "numbers", "s a run"]
    return markdown(head, lines) if lines else ""


def draw(rows: list[Row], folder: Path) -> Figure:
    """Return Fig. 7: error against size of all runs, a panel a task."""
    from .pictures import draw_sizes

    points: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for task in TASKS:
        for model in (*MODELS, "ours"):
            some = _select_all(rows, task, model)
            if some:
                points.setdefault(task, {})[model] = [row["numbers"] for row in some], [row["error"] for row in some]
    paper = {
        task: [(n, e[0]) for n, e in zip(NUMBERS[task], PUBLISHED[task], strict=True) if n is not None]
        for task in TASKS
    }
    return draw_sizes(points, paper)


EXPERIMENT = Experiment("Large-scale arithmetic (Fig. 7, Table 1)", list_cells, measure, write, draw, FIELDS)
