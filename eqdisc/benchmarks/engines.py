r"""Engines: the price of one gradient through the ODE, here and in torchdiffeq, torchode and diffrax.

    python -m eqdisc.benchmarks.engines [--lanes 256] [--repeats 7] [--json] [--scaling engines.png]        pip install 'eqdisc[bench]'
    python -m eqdisc.benchmarks.engines --collocation        the collocation's rule, compiled and in torch; needs no extra

RealNPU(3, 9) -> NAU(9, 3) on fSIR's 40 points (Heim et al. 2020, section 4.1; R starts at 0.01), one lane the truth, the others near it:
the mean squared error and its gradient in all weights, forwards and backwards, to rtol 5e-7 and atol 1e-8, on one core. The engines take
turns, of 50 ms at least, and share model, data and tolerance; the figure is the median of the processor's time. Peers have the batched form
that suits them best and spare the cosine, which states that are never negative do not need. Memory is the peak of a process of its own over
what its libraries and one lane took.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from ..data.dataset import Dataset, Trajectory
from ..data.smoothing import denoise
from ..fit.collocation import Collocation
from ..fit.integration import integrate, linearise
from ..fit.mesh import Mesh
from ..law.terms import Parameters, Terms
from ..units.chain import Chain
from ..work.threads import one_thread

RTOL, ATOL = 5e-7, 1e-8  # for errors of 2e-6
T = np.linspace(0.0, 200.0, 40)
START = np.array([100.0, 0.01, 0.01])  # from R = 0, as in the paper, the slopes of R's exponents have no end: log R
TURN = 0.05  # seconds: a call after another engine's finds cold caches
TINY = 1e-30  # below which peers take no logarithm; single precision holds it
PLAIN = 100  # sizes up to which an axis says each that was measured
ENGINES = ("eqdisc", "diffrax", "diffrax without vmap", "torchdiffeq", "torchode")
Gradient = Callable[[], tuple[Any, ...]]  # returns loss (R,), dL/dW (R, 9, 3), dL/dA (R, 3, 9)


def weights(lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return exponents (R, 9, 3) and coefficients (R, 3, 9) of fSIR in lane 0, 1 % from it in the others; six terms are spare.

    >>> [v.shape for v in weights(2)]
    [(2, 9, 3), (2, 3, 9)]
    """
    rng = np.random.default_rng(0)
    w, a = np.zeros((lanes, 9, 3)), np.zeros((lanes, 3, 9))
    w[:, :3] = [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    w[:, 3:6] = w[:, 6:] = np.eye(3)
    a[:, :, :3] = np.transpose([[-0.06, 0.06, 0.0], [0.0, -0.05, 0.05], [0.01, 0.0, -0.01]])
    others = np.arange(lanes)[:, None, None] > 0
    w *= 1.0 + 0.01 * others * rng.normal(size=w.shape)
    a *= 1.0 + 0.01 * others * rng.normal(size=a.shape)
    a[:, :, 3:] = 1e-5 * others * rng.normal(size=(lanes, 3, 6))
    return w, a


def solution() -> np.ndarray:
    """Return fSIR's states at the samples, to 1e-12."""

    def slope(_: float, x: np.ndarray) -> np.ndarray:
        flow = 0.06 * np.sqrt(x[0] * x[1])
        return np.array([0.01 * x[2] - flow, flow - 0.05 * x[1], 0.05 * x[1] - 0.01 * x[2]])

    return solve_ivp(slope, (T[0], T[-1]), START, "DOP853", T, rtol=1e-12, atol=1e-12).y.T


def target() -> np.ndarray:
    """Return the data: away from the solution, where gradients are more than rounding."""
    return 1.05 * solution()


def prepare(engine: str, lanes: int, dtype: str) -> tuple[Gradient, Callable[[], np.ndarray]]:
    """Return what an engine computes: loss and gradients, and the samples of lane 0. ImportError where it is not installed."""
    make = {"torchdiffeq": _torchdiffeq, "torchode": _torchode, "eqdisc": _eqdisc}
    return make[engine](lanes, dtype) if engine in make else _diffrax(lanes, dtype, engine == "diffrax")


def _torch_model(lanes: int, dtype: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    kind = getattr(torch, dtype)
    w, a = (torch.tensor(v, dtype=kind).requires_grad_() for v in weights(lanes))
    return w, a, torch.tensor(START, dtype=kind).expand(lanes, 3), torch.tensor(target(), dtype=kind)


def _through_torch(solve: Callable[[], Tensor], leaves: Sequence[Tensor], data: Tensor) -> tuple[Gradient, Any]:
    """Return gradients of samples (R, n, 3) that torch differentiates."""

    def gradient() -> tuple[Any, ...]:
        loss = (solve() - data).square().mean((1, 2))
        return (loss.detach(), *torch.autograd.grad(loss.sum(), leaves))

    return gradient, lambda: solve()[0].detach().numpy()


def _eqdisc(lanes: int, dtype: str) -> tuple[Gradient, Any]:
    w, a, start, data = _torch_model(lanes, dtype)
    chain = Chain.from_specification("realnpu:9,nau", states=3, lanes=lanes, dtype=w.dtype)
    leaves = [chain.units[0].get_parameter("exponents"), chain.units[1].get_parameter("coefficients")]
    for leaf, value in zip(leaves, (w, a), strict=True):
        leaf.data.copy_(value)
    t = torch.tensor(T)[None]
    run = lambda: integrate(chain, start[:, None], t, rtol=RTOL, atol=ATOL, method="tsit5").x[:, 0]  # noqa: E731
    return _through_torch(run, leaves, data)


def _power_field(w: Tensor, a: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.einsum("rej,rj->re", a, torch.einsum("rji,ri->rj", w, x.clamp_min(TINY).log()).exp())


def _torchdiffeq(lanes: int, dtype: str) -> tuple[Gradient, Any]:
    import torchdiffeq

    w, a, start, data = _torch_model(lanes, dtype)
    field, t = _power_field(w, a), torch.tensor(T, dtype=w.dtype)
    run = lambda: torchdiffeq.odeint(lambda _, x: field(x), start, t, rtol=RTOL, atol=ATOL).transpose(0, 1)  # noqa: E731
    return _through_torch(run, [w, a], data)


def _torchode(lanes: int, dtype: str) -> tuple[Gradient, Any]:
    import torchode

    w, a, start, data = _torch_model(lanes, dtype)
    field = _power_field(w, a)
    term = torchode.ODETerm(lambda _, x: field(x))
    solver = torchode.AutoDiffAdjoint(
        torchode.Dopri5(term=term), torchode.IntegralController(atol=ATOL, rtol=RTOL, term=term)
    )
    problem = torchode.InitialValueProblem(start, t_eval=torch.tensor(T, dtype=w.dtype).expand(lanes, -1))
    return _through_torch(lambda: solver.solve(problem).ys, [w, a], data)


def _diffrax(lanes: int, dtype: str, batched: bool) -> tuple[Gradient, Any]:
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    import diffrax
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    w, a, data, t, start = (jnp.asarray(v, dtype) for v in (*weights(lanes), target(), T, START))

    def samples(w: Any, a: Any) -> Any:
        field = lambda _, x, __: a @ jnp.exp(w @ jnp.log(jnp.maximum(x, TINY)))  # noqa: E731
        control = diffrax.PIDController(rtol=RTOL, atol=ATOL)
        times = {"t0": t[0], "t1": t[-1], "dt0": None, "saveat": diffrax.SaveAt(ts=t)}
        solved = diffrax.diffeqsolve(
            diffrax.ODETerm(field), diffrax.Tsit5(), y0=start, stepsize_controller=control, max_steps=256, **times
        )
        return solved.ys

    loss = jax.value_and_grad(lambda w, a: jnp.mean((samples(w, a) - data) ** 2), (0, 1))
    if batched:
        compiled = jax.jit(jax.vmap(loss))
        run = lambda: compiled(w, a)  # noqa: E731
    else:
        single = jax.jit(loss)
        run = lambda: jax.tree.map(lambda *v: jnp.stack(v), *[single(w[r], a[r]) for r in range(lanes)])  # noqa: E731

    def gradient() -> tuple[Any, ...]:
        value, slopes = jax.block_until_ready(run())
        return (value, *slopes)

    return gradient, lambda: np.asarray(samples(w[0], a[0]))


def compare(lanes: int, dtype: str, repeats: int, engines: tuple[str, ...] = ENGINES) -> list[dict[str, Any]]:
    """Time the engines that are installed, in turns: microseconds a lane, error of lane 0, distance of gradients from ours."""
    ready: dict[str, Any] = {}
    for engine in engines:
        try:
            ready[engine] = prepare(engine, 1 if engine == "diffrax without vmap" else lanes, dtype)
        except ImportError as error:
            print(f"{engine} is left out: {error}", file=sys.stderr)
    slopes = {engine: [np.asarray(v) for v in gradient()] for engine, (gradient, _) in ready.items()}  # compiles
    spent: dict[str, list[float]] = {engine: [] for engine in ready}
    for _ in range(repeats):
        for engine, (gradient, _) in ready.items():
            begun, calls = time.process_time(), 0
            while calls == 0 or time.process_time() - begun < TURN:
                gradient()
                calls += 1
            spent[engine].append((time.process_time() - begun) / calls)
    rows = []
    for engine, (_, samples) in ready.items():
        count, wanted = (
            (1, [v[:1] for v in slopes["eqdisc"]]) if engine == "diffrax without vmap" else (lanes, slopes["eqdisc"])
        )
        apart = [np.abs(v - u).max() / np.abs(u).max() for v, u in zip(slopes[engine][1:], wanted[1:], strict=True)]
        off = np.abs(samples() - solution())[1:] / solution()[1:]
        micro = 1e6 * float(np.median(spent[engine])) / count
        rows.append(
            {"engine": engine, "dtype": dtype, "lanes": count, "us": micro, "error": off.max(), "apart": max(apart)}
        )
    return rows


def measure_memory(engine: str, lanes: int, dtype: str) -> float:
    """Return the peak memory of one gradient in a process of its own, over what its libraries took, in MiB."""
    command = [sys.executable, "-m", __spec__.name, "--memory", engine, "--lanes", str(lanes), "--dtype", dtype]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def _print_memory(engine: str, lanes: int, dtype: str) -> None:
    prepare(engine, 1, dtype)[0]()
    before = _peak()
    prepare(engine, lanes, dtype)[0]()
    print(_peak() - before)


def _peak() -> float:
    """Return the most memory that this process has held, in MiB; NaN where there is no /proc."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), float("nan"))


def scale(repeats: int) -> dict[str, list[tuple[int, float]]]:
    """Return what one gradient costs in milliseconds, in double precision.

    Against lanes, of fSIR as above, and there also the slopes of all samples in all numbers; against states (64 lanes, 9 terms) and terms (64
    lanes, 3 states) of slow sums of powers at 40 samples; against samples for one lane of Lotka and Volterra's law, four samples a unit of time.
    """
    t = 0.25 * torch.arange(10**6, dtype=torch.float64)[None]
    lanes, states, terms = (1, 4, 16, 64, 256, 1024, 4096, 16384), (1, 2, 3, 5, 10, 20), (2, 4, 9, 16, 32, 64)
    exponents = torch.tensor([[[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]]).double()
    prey = Chain.from_terms(exponents, torch.tensor([[[1.0, 0.0], [-1.0, 1.0], [0.0, -1.0]]]).double())
    start = torch.tensor([[[1.5, 1.0]]]).double()
    return {
        "lanes": [(n, _cost(_gradient, *_epidemic(n), repeats)) for n in lanes],
        "lanes, slopes of samples": [(n, _cost(_slopes, *_epidemic(n), repeats)) for n in lanes if n <= 4096],
        "states": [(n, _cost(_gradient, *_random_model(n, 9), t[:, :40], repeats)) for n in states],
        "terms": [(n, _cost(_gradient, *_random_model(3, n), t[:, :40], repeats)) for n in terms],
        "samples": [
            (n, _cost(_gradient, prey, start, t[:, :n], repeats)) for n in (40, 100, 1000, 10_000, 100_000, 1_000_000)
        ],
    }


def _epidemic(lanes: int) -> tuple[Chain, Tensor, Tensor]:
    """Return fSIR's chain, starts and times."""
    w, a = (torch.tensor(v) for v in weights(lanes))
    chain = Chain.from_specification("realnpu:9,nau", states=3, lanes=lanes)
    chain.load_vector(torch.cat([w.flatten(1), torch.ones(lanes, 3).double(), a.flatten(1)], 1))
    return chain, torch.tensor(START).expand(lanes, 1, 3), torch.tensor(T)[None]


def _random_model(states: int, terms: int) -> tuple[Chain, Tensor]:
    """Return 64 slow sums of powers and starts between 1 and 2."""
    rng = np.random.default_rng(0)
    exponents = rng.uniform(0.0, 1.0 / states, (64, terms, states))
    coefficients = rng.normal(size=(64, terms, states)) / (10 * terms)
    start = torch.tensor(rng.uniform(1.0, 2.0, (64, 1, states)))
    return Chain.from_terms(torch.tensor(exponents), torch.tensor(coefficients)), start


def _gradient(chain: Chain, start: Tensor, t: Tensor) -> None:
    integrate(chain, start, t, rtol=RTOL, atol=ATOL, method="tsit5").x.square().mean().backward()


def _slopes(chain: Chain, start: Tensor, t: Tensor) -> None:
    linearise(chain, start, t, rtol=RTOL, atol=ATOL, method="tsit5")


def _cost(work: Callable[[Chain, Tensor, Tensor], None], chain: Chain, start: Tensor, t: Tensor, repeats: int) -> float:
    """Return the median time of the work, in milliseconds, after a first that is not counted."""
    spent = []
    for _ in range(repeats + 1):
        begun = time.process_time()
        work(chain, start, t)
        spent.append(time.process_time() - begun)
    return 1e3 * float(np.median(spent[1:]))


def draw(rows: dict[str, list[tuple[int, float]]], path: Path) -> None:
    """Draw the curves of `scale`, time against size, both logarithmic, what begins alike in one panel; dotted, what is proportional to the size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 2.8), layout="constrained")
    panels = list(dict.fromkeys(name.partition(", ")[0] for name in rows))
    axes = dict(zip(panels, figure.subplots(1, len(panels), sharey=True), strict=True))
    for name, curve in rows.items():
        panel, _, what = name.partition(", ")
        n, cost = zip(*curve, strict=True)
        axes[panel].loglog(n, cost, "o-", label=what or "gradient")
        axes[panel].loglog(n, [cost[-1] * k / n[-1] for k in n], ":", color="grey")
        axes[panel].set_xlabel(panel)
        if n[-1] <= PLAIN:
            axes[panel].set_xticks(n, [str(k) for k in n])
            axes[panel].set_xticks([], minor=True)
    axes[panels[0]].set_ylabel("ms")
    axes[panels[0]].legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=150)


SHAPES = (
    (1, 1, 40, 1, 2),
    (1, 1, 40, 3, 4),
    (1, 4, 150, 3, 4),
    (64, 4, 100, 1, 2),
    (64, 4, 100, 3, 6),
    (64, 4, 100, 5, 12),
)


def compare_collocation(repeats: int, shapes: Sequence[tuple[int, ...]] = SHAPES) -> list[dict[str, Any]]:
    """Time defects and columns of the collocation rule for (lanes, records, samples, states, terms), compiled and in torch: ns a step of a lane.

    >>> [row["lanes"] for row in compare_collocation(1, [(1, 2, 5, 1, 1)])]
    [1]
    """
    rows = []
    for shape in shapes:
        engine, terms, x = _random_fit(*shape)
        index = Parameters.of(terms, engine.positive)
        tasks: dict[str, Callable[[], Tensor]] = {
            "defects": partial(engine.defects, terms, x),
            "columns": partial(engine.propagate, terms, index, x),
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


def _random_fit(lanes: int, records: int, samples: int, states: int, count: int) -> tuple[Collocation, Terms, Tensor]:
    """Return an engine on records of waves, terms with free exponents of two states each, and states on the grid."""
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
    terms = Terms.of([(w, a, np.ones(w.shape, bool)) for w, a in zip(rows, coefficients, strict=True)])
    return Collocation(mesh, np.full(states, True)), terms, mesh.states(denoised).expand(lanes, -1, -1, -1)


def to_markdown(rows: list[dict[str, Any]], memory: dict[tuple[str, str], float]) -> str:
    """Return the comparison as a table."""
    lines = [
        "| engine | precision | lanes | us a lane | error | gradient's distance from ours | peak MiB |",
        "|-|-|-|-|-|-|-|",
    ]
    for row in rows:
        peak = memory.get((row["engine"], row["dtype"]), float("nan"))
        lines.append(
            "| {engine} | {dtype} | {lanes} | {us:.1f} | {error:.1e} | {apart:.1e} | ".format(**row) + f"{peak:.0f} |"
        )
    return "\n".join(lines)


def ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return ours over theirs, from rows of `compare` at one number of lanes."""
    cost = {(row["engine"], row["dtype"]): row["us"] for row in rows}
    pairs = [(engine, dtype) for engine in ("diffrax", "torchdiffeq", "torchode") for dtype in ("float32", "float64")]
    return {
        f"ratio_{engine}_f{dtype[-2:]}": round(cost["eqdisc", dtype] / cost[engine, dtype], 4)
        for engine, dtype in pairs
        if (engine, dtype) in cost
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--lanes", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print the ratios alone, ours over theirs")
    parser.add_argument("--scaling", type=Path, help="measure cost against size too, and draw it here")
    parser.add_argument(
        "--collocation", action="store_true", help="the collocation's rule instead: ns a step of a lane"
    )
    parser.add_argument("--dtype", default="float64", help=argparse.SUPPRESS)
    parser.add_argument("--memory", choices=ENGINES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with one_thread():
        if given.memory:
            return _print_memory(given.memory, given.lanes, given.dtype)
        if given.collocation:
            return print(pd.DataFrame(compare_collocation(given.repeats)).round().to_string(index=False))
        sizes = [given.lanes] if given.json else sorted({1, given.lanes})
        rows = [
            row for lanes in sizes for dtype in ("float32", "float64") for row in compare(lanes, dtype, given.repeats)
        ]
        if given.json:
            return print(json.dumps(ratios(rows)))
        kept = {(row["engine"], row["dtype"]) for row in rows if row["lanes"] == given.lanes}
        print(to_markdown(rows, {key: measure_memory(key[0], given.lanes, key[1]) for key in kept}))
        print(json.dumps(ratios([row for row in rows if row["lanes"] == given.lanes])))
        if given.scaling:
            measured = scale(given.repeats)
            draw(measured, given.scaling)
            print(json.dumps(measured))


if __name__ == "__main__":
    main()
