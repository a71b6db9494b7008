r"""The network search: the paper's own road, from random starts to a law, with no library and no proposals.

Chains of units start from random weights, one a lane (Heim et al. 2020, section 4.1). Matching trains all of them
at once; the best are trained through the ODE; gates go to 0 or 1; and every surviving lane is pruned number by
number down to its true size, where the error jumps. This reaches what no library holds, and it is the check on the
proposals, which see a chain's weights before it is trained.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..fit.fit import Fit
from ..fit.regression import Regression
from ..fit.training import Stretches, match_chain, train_chain
from ..law.extraction import law_of
from ..law.law import Law
from ..units import RealNPU
from ..units.chain import Chain
from ..work.config import FitConfig
from ..work.errors import OptionError
from ..work.journal import Form, Journal, Packed
from ..work.threads import one_thread
from .joint import JointSearch
from .problem import Problem
from .pruning import prune
from .remeshing import explains
from .rounds import entry_of
from .thinning import snap_path

MATCHING_STEPS = 40
TRAINING_STEPS = 40
SURVIVORS = 6  # lanes that are trained through the ODE and pruned together
MOST_SURVIVORS = 36  # after so many the search ends with what it has
PADDING = 1e-3  # of the last interval
STRETCH = 10  # samples a segment of multiple shooting
ARRAYS = 9  # of a lane's numbers at every node that a step of matching holds
LANES = 16  # that are matched in a row by one processor, as fast as all at once; a GPU takes what it has room for


def search_by_network(problem: Problem) -> tuple[JointSearch, Fit | None]:
    """Return the joint search with every law that was fitted, and the law of shortest description."""
    joint, journal, chain = JointSearch(problem), problem.journal, match_starts(problem)
    best: Fit | None = None
    for first in range(0, min(chain.lanes, MOST_SURVIVORS), SURVIVORS):
        together = 1 if journal.stop else SURVIVORS
        lanes = read_lanes(chain.select(range(first, min(first + together, chain.lanes))), problem.engine.positive)
        path = prune(problem.engine, lanes, joint.x, joint.sigma, steps=6, stop=lambda: journal.stop)
        best = snap_path(joint, path, best)
        front = [] if best is None else [entry_of(problem, best)]
        journal.record("pruning", min(first + SURVIVORS, chain.lanes), chain.lanes, front=front)
        if journal.stop or (best is not None and explains(problem, best)):
            break
    return joint, best


def match_starts(problem: Problem) -> Chain:
    """Match all random starts side by side; return them as a chain, the best lane first."""
    config = problem.config
    refuse_deep(config.chain)
    chain = Chain.from_specification(config.chain, states=problem.data.d, lanes=config.restarts, seed=config.seed).to(
        problem.device
    )
    chain, loss = _match(chain, problem.regression(exact=True), config, problem.journal)
    chain = chain.select(loss.argsort())
    # complex powers are beyond the engine of real ones
    return chain if isinstance(chain.units[0], RealNPU) else _train_survivors(problem, chain)


def _match(chain: Chain, regression: Regression, config: FitConfig, journal: Journal) -> tuple[Chain, Tensor]:
    """Match all lanes, some at a time, and return them with their losses; those that were not reached when told to stop are left out."""
    given = MATCHING_STEPS, config.l1
    numbers = sum(p[0].numel() for p in next(iter(chain.units)).parameters())
    room = int(regression.room / (8 * ARRAYS * numbers * len(regression.x)))
    width = max(1, min(room, LANES if regression.x.device.type == "cpu" else chain.lanes))
    lanes = [range(first, min(first + width, chain.lanes)) for first in range(0, chain.lanes, width)]
    tasks = [(chain.select(some), regression, *given, journal) for some in lanes]
    inputs = config.chain, chain.state_dict(), vars(regression), given, width
    found: dict[int, Packed] = {}
    for number, packed in journal.spread("matching chains", lambda: inputs, match_lanes, tasks, Form(dict, dict)):
        found[number] = packed
        journal.record("random starts", sum(len(lanes[k]) for k in found), chain.lanes)
    if not found:  # told to stop before any was ready
        found[0] = match_lanes(*tasks[0])
    done = sorted(found)
    joined = {name: np.concatenate([found[k][name] for k in done]) for name in found[done[0]]}
    return _unpack(chain.select([lane for k in done for lane in lanes[k]]), joined)


def match_lanes(chain: Chain, regression: Regression, steps: int, l1: float, journal: Journal) -> dict[str, np.ndarray]:
    """Match some lanes; return what they have become, and the loss of each, as arrays with a row a lane."""
    with one_thread():
        return _pack(match_chain(chain, regression, steps, l1, journal))


def _train_survivors(problem: Problem, chain: Chain) -> Chain:
    """Train the best lanes through the ODE, on the processor; they are few."""
    config, journal, device = problem.config, problem.journal, problem.device
    data, positive = stretches(problem), problem.engine.positive.cpu()
    chain = chain.select(range(min(SURVIVORS, chain.lanes))).to("cpu")
    given = TRAINING_STEPS, 0.1 * config.l1

    def train() -> tuple[Chain, Tensor]:
        trained = train_chain(chain, data, positive, *given, journal)
        best = trained.mse.argsort()
        return trained.chain.select(best), trained.mse[best]

    inputs = config.chain, chain.state_dict(), data, positive, given
    return journal.recall("training", lambda: inputs, train, Form(_pack, partial(_unpack, chain)))[0].to(device)


def _pack(matched: tuple[Chain, Tensor]) -> dict[str, np.ndarray]:
    chain, loss = matched
    return {name: v.detach().cpu().numpy() for name, v in {**chain.state_dict(), "loss": loss}.items()}


def _unpack(like: Chain, packed: Packed) -> tuple[Chain, Tensor]:
    """Return a chain of the form of another, and the loss of its lanes."""
    device = next(like.parameters()).device
    tensors = {name: torch.tensor(v, device=device) for name, v in packed.items()}
    loss = tensors.pop("loss")
    like.load_state_dict(tensors)
    return like, loss


def refuse_deep(specification: str) -> None:
    """Refuse chains whose laws cannot be read yet. Raises OptionError."""
    words = [word.partition(":")[0].strip() for word in specification.lower().split(",")]
    if len(words) != 2 or words[0] not in ("realnpu", "npu") or words[1] != "nau":
        raise OptionError(
            f"--chain {specification}: the network search prunes and reads chains of one power layer and sums; use realnpu:9,nau or npu:9,nau."
        )


def stretches(problem: Problem) -> Stretches:
    """Cut scaled data into segments for multiple shooting, starts from the smooth curves."""
    rows = []
    for k, trajectory in enumerate(problem.data.trajectories):
        n = len(trajectory.t)
        cuts = np.unique(np.linspace(0, n - 1, max(1, round((n - 1) / STRETCH)) + 1).round().astype(int))
        rows += [(k, trajectory.t[a : b + 1], trajectory.x[a : b + 1]) for a, b in pairwise(cuts)]
    longest = max(len(t) for _, t, _ in rows)
    # a segment that is shorter goes on for next to no time: what a law does after its record is nobody's loss
    t = np.stack([np.r_[t, t[-1] + PADDING * (t[-1] - t[-2]) * np.arange(1, longest - len(t) + 1)] for _, t, _ in rows])
    x = np.full((len(rows), longest, problem.data.d), np.nan)
    for q, (_, times, values) in enumerate(rows):
        x[q, : len(times)] = values
    start = np.stack([problem.denoised.at(k, times[:1])[0] for k, times, _ in rows])
    return Stretches(*map(torch.as_tensor, (t, np.nan_to_num(x), np.isfinite(x).astype(float), start)))


def read_lanes(chain: Chain, positive: Tensor) -> Law:
    """Read a RealNPU -> NAU chain with its gates closed or opened for good; whole exponents where states change sign."""
    law = Law.stack([law_of(chain, lane, closing=True) for lane in range(chain.lanes)], positive.device)
    w = torch.where(positive, law.terms.exponents, law.terms.exponents.round().clamp_min(0.0))
    loose = law.terms.nothing()
    free = replace(loose, exponents=torch.ones_like(w, dtype=torch.bool) & positive)
    return replace(law, terms=replace(law.terms, exponents=w), free=free)


__all__ = ["read_lanes", "search_by_network", "stretches"]
