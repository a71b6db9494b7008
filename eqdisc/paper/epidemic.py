r"""The fractional SIR epidemic, Figs. 4 and 5: networks as right-hand sides, error against size, and what a RealNPU says in symbols.

One record of 40 samples without noise (`systems`: fsir); NPU(3, h) -> NAU(h, 3), RealNPU(3, h) -> NAU(h, 3) and a dense network, h in
{6, 9, 12, 15, 20}, L1 weight in {0, 0.01, 0.1, 1} on all parameters, five random starts of each: 100 lanes a model.

| | printed | coded |
|-|-|-|
| solver | not said; here Runge-Kutta of order 4, steps of 1 | Euler, steps of 1 |
| gradient | of the steps | of the ODE, by Euler's steps back |
| optimiser | Adam 0.005, 3,000 steps | RMSProp 0.005, 3,000 steps |
| init | Glorot | Glorot times 0.2; Dense Glorot |
| Dense | logistic | tanh |
| NAU | clipped to [-1, 1] | free |

Both end with up to 1,000 steps of L-BFGS. Numbers count where they are above 0.001, gates and imaginary exponents included. The gradient that the
authors' code took (`rollout`) is not quite that of its loss, and their L-BFGS (Optim.jl) ends at the first line search that fails; `NPU, exact
gradient` and so on are the models as coded but for that, with the gradient of the steps and one more start from the steepest descent.

With Euler's steps of 1 the true law itself has a mean squared error of 1.08 against data that were integrated well: a network that
reaches 0.02 has learned the solver's error with the law. So every run is also integrated well (`error of the ODE`): is it the law, or
the law's stand-in under Euler? `eqdisc` is the network search of this package on the same data (`eqdisc fit --search network`, seeds 0
to 99), `eqdisc, one start` the same from one random start each; they have recovered the law where every term is there, exponents within
0.05 and terms within 10 % (`experiments.scoring`).
"""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..law.catalogue import simulate_system
from ..units import NAU, NPU, Dense, RealNPU
from .experiment import Cell, Desk, Experiment, Row, groups, markdown
from .quasi_newton import minimise
from .rollout import Rollout, freeze
from .statistics import rate, short, spread, undominated
from .training import Network, load_vector, make_optimiser, resume, state_of, vector_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..law.equations import Equations

MODELS = ("NPU", "RealNPU", "Dense")
EXACT = tuple(f"{model}, exact gradient" for model in MODELS)
SEARCHES = {"eqdisc": (64, 120.0), "eqdisc, one start": (1, 30.0)}  # random starts, seconds of ten seeds
WIDTHS, BETAS, RATE = (6, 9, 12, 15, 20), (0.0, 0.01, 0.1, 1.0), 0.005
BUDGETS = {  # widths, random starts of each, steps, evaluations of L-BFGS: 1,000 of its steps take about 1,250
    "smoke": (WIDTHS[:1], 1, 6, 3),
    "full": (WIDTHS, 5, 3000, 1250),
}
PUBLISHED = {  # best, median of 100 (pareto_sir.tex)
    "NPU": ("0.0153", "0.11"),
    "RealNPU": ("0.0284", "2.16"),
    "Dense": ("0.0322", "0.252"),
}
FRONTS = {  # sizes and errors of the undominated points of the paper's 300 runs
    "NPU": (
        (18, 19, 20, 50, 57, 83, 84, 109, 136),
        (0.134, 0.113, 0.0864, 0.0392, 0.0275, 0.0254, 0.0219, 0.0167, 0.0153),
    ),
    "RealNPU": ((17,), (0.0284,)),
    "Dense": ((26, 29, 30, 70, 76), (0.511, 0.502, 0.389, 0.0446, 0.0322)),
}
THRESHOLD = 1e-3
METHODS = {"coded": ("euler", "rmsprop"), "printed": ("rk4", "adam")}  # solver, optimiser
FIELDS = ("seed", "width", "beta", "repeat", "error", "error of the ODE", "numbers", "recovered", "law", "seconds")
TASK = "fSIR"


def list_cells(variant: str, budget: str) -> list[Cell]:
    """Return a cell a model, and ten seeds a cell of the network search; the exact gradient, where the code's is another."""
    planned = [(model, TASK, {"coded": 400.0, "printed": 1600.0}[variant]) for model in MODELS]
    if budget == "full":
        planned += [(model, TASK, 300.0) for model in EXACT if variant == "coded"]
        tens = [f"{TASK}, seeds {first} to {first + 9}" for first in range(0, 100, 10)]
        planned += [(model, task, SEARCHES[model][1]) for model, task in itertools.product(SEARCHES, tens)]
    return [Cell(variant, budget, *cell) for cell in planned]


def build(model: str, variant: str, widths: list[int], seed: int = 0) -> Network:
    """Return a model whose lanes have those widths: all are as wide as the widest, what is too much is cut off.

    >>> network = build("RealNPU", "coded", [6, 9])
    >>> network.count(0.0).tolist()  # 3 h exponents, 3 gates, 3 h coefficients
    [39, 57]
    """
    most, coded = max(widths), variant == "coded"
    kwargs: dict[str, Any] = {"lanes": len(widths), "generator": torch.Generator().manual_seed(seed)}
    if model == "Dense":
        bend = "tanh" if coded else "sigmoid"
        bent = [Dense(n, most, activation=bend, **kwargs) for n in (3, most)]
        network = Network([*bent, Dense(most, 3, activation="none", **kwargs)])
    else:
        unit, kwargs["init_scale"] = NPU if model == "NPU" else RealNPU, 0.2 if coded else 1.0
        powers = unit(3, most, gate_init=0.5, epsilon="add", clip="plain", **kwargs)
        network = Network([powers, NAU(most, 3, bound=None if coded else 1.0, **kwargs)])
    _cut(network, torch.tensor(widths))
    return network


@torch.no_grad()
def _cut(network: Network, widths: Tensor) -> None:
    """Cut each lane to its own width, and let its weights be drawn as for that width (Glorot)."""
    first, last = network.list[0], network.list[-1]
    for unit in network.list:
        n_in = torch.full_like(widths, unit.n_in) if unit is first else widths
        n_out = torch.full_like(widths, unit.n_out) if unit is last else widths
        into, out = torch.arange(unit.n_in) < n_in[:, None], torch.arange(unit.n_out) < n_out[:, None]
        masks = {"bias": out, "gate": into}
        for name, p in unit.named_parameters():
            if p.dim() == 3:
                p.mul_(((unit.n_in + unit.n_out) / (n_in + n_out)).double().sqrt()[:, None, None])
            mask = masks.get(name, out[:, :, None] & into[:, None]).to(p).expand_as(p)
            p.mul_(mask)
            unit.get_buffer(f"{name}_support").copy_(mask)


def record() -> tuple[Tensor, Tensor]:
    """Return the data: times (40,) and states (40, 3)."""
    one = simulate_system("fsir").trajectories[0]
    return torch.tensor(one.t), torch.tensor(one.x)


def measure(cell: Cell, desk: Desk) -> list[Row]:
    """Train one model's grid of widths, penalties and starts; or search with eqdisc."""
    if cell.model in SEARCHES:
        return _search(cell, desk)
    widths, repeats, steps, polishing = BUDGETS[cell.budget]
    grid = list(itertools.product(widths, BETAS, range(repeats)))
    network = build(cell.model.split(",")[0], cell.variant, [h for h, _, _ in grid])
    adjoint = cell.variant == "coded" and cell.model not in EXACT
    solver, kind = METHODS[cell.variant]
    run = Rollout(*record(), solver=solver, gradient="adjoint" if adjoint else "exact")
    beta = torch.tensor([b for _, b, _ in grid], dtype=torch.float64)
    begin = time.perf_counter()
    descend(network, run, beta, steps, kind, desk)
    polish(network, run, beta, polishing, failures=1 if adjoint else 2)
    seconds = (time.perf_counter() - begin) / len(grid)
    return _rows(network, run, grid, seconds, desk.folder / f"{cell.file}.json")


def _rows(network: Network, run: Rollout, grid: list[tuple[int, float, int]], seconds: float, best: Path) -> list[Row]:
    """Return a row a lane, and write down the best RealNPU's, or whichever model's, numbers."""
    fine, numbers = Rollout(run.t, run.x, step=0.25, solver="rk4"), network.count(THRESHOLD)
    error, own = (r.errors(r.states(freeze(network), len(grid))) for r in (run, fine))
    _keep_best(network, error, numbers, best)
    return [
        {"seed": i, "width": h, "beta": b, "repeat": k, "seconds": seconds}
        | {"error": float(error[i]), "error of the ODE": float(own[i]), "numbers": int(numbers[i])}
        for i, (h, b, k) in enumerate(grid)
    ]


def descend(network: Network, run: Rollout, beta: Tensor, steps: int, kind: str, desk: Desk) -> None:
    """Minimise error + beta |p|_1 by RMSProp or Adam; a lane whose gradient is no number stays where it is."""
    parameters, optimiser = list(network.parameters()), make_optimiser(network, kind, RATE)
    first, _ = resume(optimiser, desk.keeper)
    for step in range(first, steps):
        optimiser.zero_grad()
        run.backward(network)
        for p in parameters:
            assert p.grad is not None
            p.grad.nan_to_num_(0.0, 1e30, -1e30).add_(p.detach().sign() * beta.view(-1, *[1] * (p.dim() - 1)))
        optimiser.step()
        network.constrain()
        if step % 20 == 19:
            desk.tell(step + 1, steps)
            desk.keeper.save(step + 1, state_of(optimiser))
    desk.keeper.save(steps, {}, finished=True)


def polish(network: Network, run: Rollout, beta: Tensor, steps: int, failures: int) -> None:
    """Minimise the same loss by L-BFGS."""
    parameters = list(network.parameters())

    def evaluate(theta: Tensor) -> tuple[Tensor, Tensor]:
        load_vector(parameters, theta)
        network.zero_grad()
        error = run.backward(network)
        slope = torch.cat([p.grad.flatten(1) for p in parameters if p.grad is not None], 1)
        return error + beta * theta.abs().sum(1), slope + beta[:, None] * theta.sign()

    load_vector(parameters, minimise(evaluate, vector_of(parameters), steps, failures))
    network.constrain()


def _keep_best(network: Network, error: Tensor, numbers: Tensor, path: Path) -> None:
    """Write the numbers of the smallest network among those that foretell best: within twice the least error."""
    error = error.nan_to_num(torch.inf)
    near = torch.where(error <= 2.0 * error.min(), numbers, numbers.max() + 1)
    lane = int(near.argmin())
    values = {f"{unit.name}.{name}": p[lane].tolist() for unit in network.list for name, p in unit.named_parameters()}
    path.write_text(
        json.dumps({"lane": lane, "error": float(error[lane]), "numbers": int(numbers[lane]), **values}),
        encoding="utf-8",
    )


def _search(cell: Cell, desk: Desk) -> list[Row]:
    """Run eqdisc's own network search for ten seeds."""
    from ..benchmarks.scoring import recovered
    from ..discovery import discover
    from ..law.catalogue import catalogue
    from ..work.config import FitConfig
    from ..work.errors import EqdiscError

    data, system = simulate_system("fsir"), catalogue()["fsir"]
    middle = np.exp(np.log(np.maximum(data.stacked(), 1e-4)).mean(0))
    first = int(cell.task.split()[2])
    rows: list[Row] = []
    for seed in range(first, first + 10):
        begin = time.perf_counter()
        row: Row = {"seed": seed, "recovered": 0}
        try:
            law = discover(data, FitConfig(search="network", seed=seed, restarts=SEARCHES[cell.model][0])).equations
            error = _error_of(law)
            row |= {"recovered": int(recovered(law, system.law, middle)), "law": "; ".join(law.readable())}
            row |= {"error": error, "error of the ODE": error, "numbers": _count_numbers(law)}
        except EqdiscError as refused:
            row["law"] = str(refused)
        rows.append(row | {"seconds": time.perf_counter() - begin})
        desk.tell(len(rows), 10)
    return rows


def _error_of(law: Equations) -> float:
    """Return the mean squared error of a law from the data's start; infinite where its solution breaks off."""
    from ..law.simulation import simulate
    from ..work.status import Status

    t, x = record()
    got = simulate(law, x[0].numpy(), t.numpy())
    return float(((got.x - x.numpy()) ** 2).mean()) if got.status is Status.OK else float("inf")


def _count_numbers(law: Equations) -> int:
    """Count what a network of this law would hold that is not 0: exponents, coefficients, and a gate for each state that matters."""
    table = law.terms()
    if table is None:
        return 0
    w, a = table
    return int(np.count_nonzero(w) + np.count_nonzero(a) + np.count_nonzero((w != 0).any(0)))


def write(rows: list[Row], folder: Path) -> str:
    """Return the page: errors of all runs, the paper's beside them, and how often the law itself came back."""
    known = [(model, some) for (model,), some in groups(rows, model=(*MODELS, *EXACT, *SEARCHES))]
    head = ["model", "paper, median", "median ± MAD", "paper, best", "best", "< 0.05", "< 0.1", "< 1"]
    head += ["ODE median", "ODE best", "law recovered", "s a run"]
    table = markdown(head, [_write_line(model, some) for model, some in known])
    fronts = "\n".join(_write_front(model, some) for model, some in known)
    parts = [table, f"Undominated runs (numbers above {THRESHOLD:g}, error):\n\n{fronts}", _remarks(rows, folder)]
    return "\n\n".join(parts) + "\n"


def _write_line(model: str, rows: list[Row]) -> list[str]:
    error, own = (_numbers(rows, name) for name in ("error", "error of the ODE"))
    s, right = spread(error), ""
    best, median = PUBLISHED.get(model, ("", ""))
    if model in SEARCHES:
        right = rate(sum(row["recovered"] == 1 for row in rows), len(rows))
    shares = [f"{100 * np.mean(np.array(error) < level):.0f} %" for level in (0.05, 0.1, 1.0)]
    told = [median, f"{short(s.median)} ± {short(s.mad)}", best, short(s.best), *shares]
    seconds = f"{np.mean([row['seconds'] for row in rows]):.1f}"
    return [model, *told, short(spread(own).median), short(spread(own).best), right, seconds]


def _write_front(model: str, rows: list[Row]) -> str:
    size, error = _numbers(rows, "numbers"), _numbers(rows, "error")
    ours = ", ".join(f"({size[i]:.0f}, {short(error[i])})" for i in undominated(size, error))
    if model not in FRONTS:
        return f"- {model}: {ours}"
    return f"- {model}: {ours} (paper: " + ", ".join(f"({n}, {e:g})" for n, e in zip(*FRONTS[model], strict=True)) + ")"


def _numbers(rows: list[Row], name: str) -> list[float]:
    """Return a column, what is not there infinite."""
    return [float(row[name]) if row[name] != "" else float("inf") for row in rows]


def _remarks(rows: list[Row], folder: Path) -> str:
    solver = "Euler's steps of 1" if rows[0]["variant"] == "coded" else "Runge-Kutta steps of 1"
    known = truth_errors(rows[0]["variant"])
    lines = [
        f"Yardsticks: each state's mean has an error of {short(known['mean'])}; the true law with its true numbers "
        f"{short(known['truth'])} under {solver}; the equation as printed beside Fig. 5 "
        f"{short(known['figure 5'])}. ODE: "
        "the same network integrated well, by Runge-Kutta steps of 1/4."
    ]
    best = _best_of(rows, folder)
    if best is not None:
        errors = read_out(best, rows[0]["variant"])
        lines.append(
            f"The best RealNPU as Fig. 5 is read: its error is {short(errors['trained'])}; with exponents and coefficients to two digits "
            f"{short(errors['two digits'])}; with its gates opened or closed, as a monomial has them, {short(errors['gates decided'])}."
        )
    return "\n\n".join(lines)


def _best_of(rows: list[Row], folder: Path) -> dict[str, Any] | None:
    """Return the numbers of the RealNPU that is drawn, if they are there."""
    path = folder / f"{Cell(rows[0]['variant'], rows[0]['budget'], 'RealNPU', TASK).file}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def read_out(best: dict[str, Any], variant: str) -> dict[str, float]:
    """Return the errors of a RealNPU as it was trained, with two digits of its numbers, and with its gates at 0 or 1."""
    t, x = record()
    run = Rollout(t, x, solver=METHODS[variant][0])
    powers, gate, sums = (
        torch.tensor(best[name], dtype=torch.float64)[None]
        for name in ("realnpu.exponents", "realnpu.gate", "nau.coefficients")
    )

    def error(digits: int, decided: bool) -> float:
        unit, head = RealNPU(3, powers.shape[1], epsilon="add"), NAU(powers.shape[1], 3)
        unit.exponents.data.copy_(powers.round(decimals=digits))
        unit.gate.data.copy_((gate > 0.5).double() if decided else gate)
        head.coefficients.data.copy_(sums.round(decimals=digits))
        return float(run.errors(run.states(freeze(Network([unit, head])), 1))[0])

    return {"trained": error(12, False), "two digits": error(2, False), "gates decided": error(12, True)}


def truth_errors(variant: str) -> dict[str, float]:
    """Return the errors of the states' means, of the true law in the model's steps, and of the law that is printed beside Fig. 5.

    >>> errors = truth_errors("coded")
    >>> round(errors["mean"]), round(errors["truth"], 2)
    (503, 1.08)
    """
    t, x = record()
    run = Rollout(t, x, solver=METHODS[variant][0])

    def law(a: float, b: float, e: float, g: float, k: float, powers: float = 1.0) -> Any:
        def field(x: Tensor) -> Tensor:
            s, i, r = x.clamp_min(0.0).unbind(-1)
            flow, back = b * i**g * s**k, e * r**powers
            return torch.stack([back - flow, flow - a * i, a * i - back], -1)

        return field

    error = lambda field: float(run.errors(run.states(field, 1))[0])  # noqa: E731
    return {
        "mean": float((x - x.mean(0)).square().mean()),
        "truth": error(law(0.05, 0.06, 0.01, 0.5, 0.5)),
        "figure 5": error(_figure_5),
    }


def _figure_5(x: Tensor) -> Tensor:
    """Return what the text reads out of Fig. 5: r = I**0.62 S**0.57, R**0.64, and the coefficients of the figure."""
    s, i, r = x.clamp_min(0.0).unbind(-1)
    flow, power = i**0.62 * s**0.57, r**0.64
    return torch.stack([-0.12 * flow + 0.13 * power, 0.11 * flow - 0.1 * i, 0.09 * i - 0.15 * power], -1)


def draw(rows: list[Row], folder: Path) -> Figure:
    """Return Fig. 4, error against size of all runs with the paper's fronts, beside Fig. 5, the best RealNPU's numbers."""
    from .pictures import draw_epidemic

    points = {m: (_numbers(r, "numbers"), _numbers(r, "error")) for (m,), r in groups(rows, model=(*MODELS, "eqdisc"))}
    return draw_epidemic(points, FRONTS, _best_of(rows, folder))


EXPERIMENT = Experiment("The fractional SIR epidemic (Figs. 4 and 5)", list_cells, measure, write, draw, FIELDS)
