r"""The verdict: what the data carry, in one word and in sentences.

identified      one law explains the data down to the noise, and other structures have little weight
ambiguous       other structures explain them nearly as well, or its residuals are not quite noise; the rivals are listed
not identified  nothing found deserves to be called the law

The weight is that among the laws that were tried, and what was not tried has more room the fewer starts there are. The weights asked for
were chosen on the first noise seeds of known systems and tried on the next. Power laws of several records: nine laws between 0.85 and
0.92 that nothing else spoke against were all right, the first wrong one had 0.82. One record of several states: between 0.96 and
0.9 there are eleven right laws and three wrong ones, on the next seed twelve and two. One record of one state: 0.984 leaves out one
of five right laws and both wrong ones, on the next seed none of two and all four.
Of 1,580 fits of power laws, odebench, dysts and ten textbook systems without noise and with 1, 2 and 5 %, three seeds, 965 are claimed, 924
of them rightly, of 1,131 that found the law; a tenth of the fits are of an earlier state of the search, and exact data were fitted once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data.noise import LAG, lag_one, noise_of_differences
from ..data.scaling import FLOOR
from ..fit.fit import Fit
from ..law.equations import Equations
from ..search.problem import Problem
from ..work.status import Status
from .validation import Score

EXCESS = 1.6  # model residual over the noise that smoothing finds
COLORED = 0.5  # lag-one correlation of residuals beyond which something is left to explain
NOISY = 0.5  # residual over the spread of a state
LOST = 2.0  # error of the printed law, in units of the noise, beyond which it does not reproduce what was fitted
LARGE = 2.5  # standard errors of a standard deviation by which the residual may exceed the noise
FEWEST_PAIRS = 12
SHORTEST = 12  # samples of a record below which smoothing says too little of its noise
CONFIDENT = 0.85  # weight from which a law of several records is claimed,
CONFIDENT_ONCE = 0.9  # of one record, which shows the field along one path only,
CONFIDENT_ALONE = 0.984  # and of one record of one state, in which a curve has many laws
MANY = 8  # numbers from which a law of one record of one state is a curve fit
READABLE = 120  # characters of a formula in a sentence
WORTH = 12.0  # nats by which a law must beat "nothing changes but by noise"


@dataclass(frozen=True)
class Verdict:
    """One word and its reasons."""

    word: str
    reasons: tuple[str, ...]


def judge(
    problem: Problem,
    pick: Fit,
    rivals: list[Fit],
    share: float,
    printed: Score,
    left: list[tuple[str, float]],
) -> Verdict:
    """Judge the pick: whether it explains the data, also as printed and simulated again, and whether anything else does.

    `share` is the pick's weight among all laws that were fitted (`selection.share_of`), `left`
    are the records that it leaves on the way.
    """
    doubts = [*_unexplained(problem, pick), *_too_little(problem, pick), *_nothing_there(problem, pick)]
    doubts += _lost_in_print(problem, pick, printed)
    doubts += [
        f"Followed from its start, the law leaves trajectory {name} at {time:.4g}; it fits the record in pieces only."
        for name, time in left[:1]
    ]
    if doubts:
        return Verdict("not identified", tuple(doubts))
    cautions = [*_colored(problem, pick), *_unround(problem, pick)]
    if is_curve_fit(problem, pick):
        cautions.append(
            f"A law of {pick.size} numbers follows any smooth curve of one state; a second start would show whether it is more."
        )
    needed, room = _room(problem)
    if share < needed:
        near = f"; {len(rivals)} of them lie within 6 nats, see the alternatives" if rivals else ""
        cautions.append(f"Among the laws that were tried this one has a weight of {100 * share:.0f} %{near}.{room}")
    if cautions:
        return Verdict("ambiguous", tuple(cautions))
    reason = f"The law explains the data down to the noise, with a weight of {min(100 * share, 99.9):.3g} % among all that were tried."
    return Verdict("identified", (reason,))


def is_curve_fit(problem: Problem, pick: Fit) -> bool:
    """Tell whether a law has so many numbers that it would follow any smooth curve: those of one record of one state."""
    return is_one_curve(problem) and pick.size > MANY


def _room(problem: Problem) -> tuple[float, str]:
    """Return the weight from which a law is claimed, and what leaves room for laws that were not tried."""
    if len(problem.data.trajectories) > 1:
        return CONFIDENT, ""
    needed, what = (CONFIDENT_ALONE, "record of one state") if is_one_curve(problem) else (CONFIDENT_ONCE, "record")
    return needed, f" One {what} leaves room for others; a second start would decide."


def is_one_curve(problem: Problem) -> bool:
    """Tell whether the data are one record of one state."""
    return problem.d == 1 and len(problem.data.trajectories) == 1


def _noise(problem: Problem) -> np.ndarray:
    """Return the noise (d,) of the data, the larger of what smoothing and what differences say; the first alone may be too small."""
    weights = problem.weights or [np.ones_like(k.x) for k in problem.data.trajectories]
    pairs = [(k.t, k.x * w) for k, w in zip(problem.data.trajectories, weights, strict=True)]
    rough = [noise_of_differences([(t, y[:, e]) for t, y in pairs]) for e in problem.measured]
    noise = problem.denoised.sigma[: problem.d].copy()
    noise[problem.measured] = np.maximum(noise[problem.measured], rough)
    return np.maximum(noise, FLOOR)


@dataclass(frozen=True)
class _Left:
    """What a law leaves of a measured state, beside the state's noise and spread; how neighbours correlate, and in how many pairs."""

    name: str
    sigma: float
    noise: float
    spread: float
    lag: float
    pairs: int
    small: bool  # some thousandths of the spread


def _leave(problem: Problem, pick: Fit) -> list[_Left]:
    sigma, noise, spread = pick.noise, _noise(problem), problem.denoised.spread
    residual, seen = problem.engine.mesh.residuals(pick.x[0])
    lags = {e: lag_one(residual[..., e], seen[..., e]) for e in problem.measured}
    small = sigma < (1e-3 if problem.denoised.clean else 3e-3) * spread[: len(sigma)]
    return [_Left(problem.names[e], sigma[e], noise[e], spread[e], *lags[e], small[e]) for e in problem.measured]


def _unexplained(problem: Problem, pick: Fit) -> list[str]:
    doubts = []
    for s in _leave(problem, pick):
        if not s.small and s.sigma > EXCESS * s.noise and s.lag > 0.3:
            doubts.append(
                f"{s.name}: the law misses the data by {s.sigma / s.noise:.1f} times the noise; "
                "the truth is outside this class or a state is missing."
            )
        elif not s.small and s.pairs >= FEWEST_PAIRS and s.lag > max(COLORED, 2 / np.sqrt(s.pairs)):
            doubts.append(
                f"{s.name}: what the law leaves over is no noise (neighbouring residuals correlate by {s.lag:.2f})."
            )
        if s.sigma > NOISY * s.spread:
            doubts.append(
                f"{s.name}: the noise is {100 * s.sigma / s.spread:.0f} % of the state's spread; more precise or more data are needed."
            )
    return doubts


def _colored(problem: Problem, pick: Fit) -> list[str]:
    """The law's residuals must be as small and as independent as noise is; exact data must be met exactly."""
    left = [s for s in _leave(problem, pick) if s.pairs >= FEWEST_PAIRS]
    if problem.denoised.clean:
        return _approximate(left, problem.engine.floor)
    cautions = []
    for s in left:
        excess = s.sigma / s.noise
        if s.lag > LAG / np.sqrt(s.pairs):
            cautions.append(
                f"{s.name}: neighbouring residuals of the law correlate by {s.lag:.2f}, more than noise does."
            )
        elif max(problem.data.sizes) >= SHORTEST and excess > 1 + LARGE / np.sqrt(2 * s.pairs):
            cautions.append(
                f"{s.name}: the law misses the data by {excess:.2f} times the noise, more than chance does."
            )
    return cautions


def _approximate(left: list[_Left], floor: float) -> list[str]:
    return [
        f"{s.name}: the law misses these precise data by {s.sigma / s.spread:.1g} of the state's spread, smoothly: it is an approximation, "
        "or the data have a smooth error of that size, as from a loose simulation."
        for s in left
        if s.sigma > 1.5 * floor and s.lag > COLORED
    ]


def _lost_in_print(problem: Problem, pick: Fit, printed: Score) -> list[str]:
    """The law as printed must reproduce the data from its estimated starts."""
    if printed.status is not Status.OK:
        return [f"Simulated again from its estimated start, the law ends at {printed.end:g}. {printed.status.advice}"]
    share = printed.error * float((pick.noise / problem.denoised.spread)[problem.measured].max())
    if printed.error > LOST and share > 1e-3:
        return [
            f"Simulated again from its estimated start, the law misses the data by {printed.error:.1f} times the noise."
        ]
    return []


def _unround(problem: Problem, pick: Fit) -> list[str]:
    """Exact data come from a simulation, whose exponents are round numbers; one that is not belongs to a mimic."""
    if not problem.denoised.clean:
        return []
    law = pick.law.without_padding()
    odd = [(law[n], problem.names[n.place]) for n in law.unround(problem.data.grouped)]
    return [
        f"{name}: the exponent {value:.5g} is no round number, though the data are exact; the law may imitate another."
        for value, name in odd[:1]
    ]


def _too_little(problem: Problem, pick: Fit) -> list[str]:
    values = float(problem.engine.mesh.mask.sum())
    starts = pick.x.shape[1] * problem.d
    if values < 1.5 * (pick.size + starts):
        return [
            f"{values:.0f} values for {pick.size} numbers and {starts} starts are too few to tell a law from a curve fit; measure more."
        ]
    return []


def _nothing_there(problem: Problem, pick: Fit) -> list[str]:
    """The law must be shorter than the data described as a constant plus noise."""
    mesh = problem.engine.mesh
    counts = mesh.counts.cpu().numpy()
    x, seen = mesh.x.cpu().numpy(), mesh.mask.cpu().numpy() > 0
    doubts = []
    gain = 0.0
    for e in problem.measured:
        parts = [row[on] - row[on].mean() for row, on in zip(x[..., e], seen[..., e], strict=True) if on.any()]
        rest = np.sqrt((np.concatenate(parts) ** 2).mean() + FLOOR**2)
        gain += counts[e] * float(np.log(rest / pick.noise[e]))
    price = pick.cost - pick.data_cost
    if gain - price < WORTH:
        doubts.append("The data are described as well by constants plus noise as by any law; nothing changes enough.")
    return doubts


def explain_hidden(problem: Problem, law: Equations) -> str:
    """Say what can and what cannot be known of a hidden state: the law without it holds whatever it is taken for."""
    known = problem.judge.knowledge
    assert known is not None
    e = known.known[-1].equation  # the term through which it is seen
    seen, hidden = law.states[e], law.states[problem.d - 1]
    if law.rhs[problem.d - 1] == 0:
        return f"{hidden} does not move in this law: the measured states explain each other without it; leave out --hidden."
    said = (
        f"{hidden} was not measured: any function of it and of the other states would do as well. Here it has the coefficient 1 in "
        f"d{seen}/dt, which gives it scale and sign"
    )
    rest = _eliminate(law, e, problem.d - 1)
    if rest is None:
        return f"{said}; the data speak for the other states alone."
    return f"{said}; what the data speak for is {seen}'' = {rest}."


def _eliminate(law: Equations, e: int, h: int) -> str | None:
    """Return the second derivative of state e by the states and its first derivative, where that is short enough to read."""
    import sympy as sp

    x, rate = [sp.Symbol(s) for s in law.states], sp.Symbol(f"{law.states[e]}'")
    plain = [side.xreplace({s: sp.Symbol(s.name) for s in side.free_symbols}) for side in law.rhs]
    if sp.Symbol("t") in plain[e].free_symbols | plain[h].free_symbols or law.inputs:
        return None
    solved = sp.solve(sp.Eq(rate, plain[e]), x[h])
    if len(solved) != 1:
        return None
    second = sum(sp.diff(plain[e], x[i]) * (rate if i == e else plain[i]) for i in range(len(x)))
    text = str(sp.expand(second.subs(x[h], solved[0])).evalf(4))
    return text if len(text) <= READABLE else None
