r"""Check: what a table can support, before anything is fitted.

With N_i the values of state i and K_i the trajectories in which it was measured, an equation can have about

    min_i (N_i - K_i) / 8

terms. The noise of a state is told from how well four neighbours foretell each sample, sums that rest from small whole weights (see `noise`
and `invariants`). Nothing is refused here. Every finding says what was seen and what would help.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from .dataset import Dataset, Trajectory
from .invariants import find_sums
from .noise import FEWEST, estimate_noise

Level: TypeAlias = Literal["note", "warning"]

EVEN = 0.01  # steps that differ by less than this share count as even
LOUD = 0.2  # noise over standard deviation beyond which exponents are hard to tell apart
REST = 0.02  # motion over range below which a clean state counts as at rest
FAR_APART = 1e4  # ratio of magnitudes that deserves a look at the units
VALUES_PER_TERM = 8  # a term is a coefficient and about two exponents, a number wants two or three values
ROOMY = 5  # terms an equation from which the number of values is no worry
SAMPLES_PER_SWING = 8  # fewer, and a swing's shape is a matter of interpolation
GAP = 0.15  # share of the span without a value that is worth a word
WIDER = 4.0  # and how much longer than the others it is
JUMP = 0.4  # share of the range covered between two neighbouring samples that leaves the course between them open


@dataclass(frozen=True)
class Finding:
    """What was seen: `level` "note" or "warning", a `message`, and a `cure` that says what would help (may be empty).

    >>> print(Finding("note", "times are uneven"))
    note: times are uneven.
    """

    level: Level
    message: str
    cure: str = ""

    def __str__(self) -> str:
        return f"{self.level}: {self.message}" + (f"; {self.cure}." if self.cure else ".")


@dataclass(frozen=True)
class StateDiagnosis:
    """One state: its range, the share of rows in which it was measured, its noise (None: too few values) and spread.

    `noise` is a standard deviation in the state's own unit, `spread` that of all its values; their ratio is `loudness`.
    """

    name: str
    low: float
    high: float
    measured: float
    noise: float | None
    spread: float

    @property
    def loudness(self) -> float | None:
        """Noise over standard deviation."""
        return None if self.noise is None else self.noise / self.spread if self.spread > 0 else 0.0


@dataclass(frozen=True)
class Diagnosis:
    """What a dataset can support: its extent, each state, the kind of sampling, and the findings, warnings first.

    `step` is the median step of time, `terms` about how many terms an equation may have, `invariants` the sums that
    stay constant.
    """

    file: str
    rows: int
    trajectories: int
    time: str
    start: float
    end: float
    span: float
    step: float
    sampling: Literal["even", "uneven"]
    states: tuple[StateDiagnosis, ...]
    terms: int
    invariants: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that ask for a look."""
        return tuple(f for f in self.findings if f.level == "warning")

    def _repr_html_(self) -> str:
        from ..work.markup import write_grid, write_heading, write_list

        head = ["state", "lowest", "highest", "measured", "noise", "noise over spread"]
        rows = ([s.name, s.low, s.high, s.measured, s.noise, s.loudness] for s in self.states)
        extent = self.lines()[0].removeprefix(f"{self.file}: ")
        return str(write_heading(self.file, extent) + write_grid(head, rows) + write_list(map(str, self.findings)))

    def lines(self) -> list[str]:
        """Return the diagnosis in plain sentences, one a line, for the terminal."""
        series = _count(self.trajectories, "trajectory", "trajectories")
        even = self.sampling == "even"
        steps = f"even steps of {self.step:.4g}" if even else f"uneven steps, {self.step:.4g} in the middle"
        size = f"{_count(self.rows, 'row')}, {series}, {_count(len(self.states), 'state')}"
        extent = f"{self.file}: {size}; {self.time} from {self.start:.6g} to {self.end:.6g} in {steps}."
        return [extent, *map(_describe, self.states), *map(str, self.findings)]


def diagnose(data: Dataset) -> Diagnosis:
    """Look at a dataset of any size and say what it can support.

    >>> t = np.linspace(0, 4, 41)
    >>> data = Dataset((Trajectory(t, np.exp(-t)[:, None] * [2.0, -2.0] + [0, 5]),), states=("S", "R"))
    >>> report = diagnose(data)
    >>> report.sampling, report.terms, report.invariants
    ('even', 5, ('S + R',))
    """
    states = tuple(_diagnose_state(data, i) for i in range(data.d))
    steps, step = _steps(data)
    sampling: Literal["even", "uneven"] = "even" if (np.abs(steps - step) <= EVEN * step).all() else "uneven"
    invariants = find_sums(data, np.array([state.noise or 0.0 for state in states]))
    terms = int((data.counts.sum(0) - (data.counts > 0).sum(0)).min() // VALUES_PER_TERM)
    findings = [
        *_on_size(data, terms),
        *_on_sampling(data, sampling, steps),
        *_on_states(states),
        *_on_gaps(data),
        *_on_inputs(data),
        *_on_scales(states),
        *_on_coarseness(data, states),
        *_on_rest(data, states),
        *_on_invariants(invariants),
    ]
    return Diagnosis(
        file=data.file,
        rows=data.rows,
        trajectories=len(data),
        time=data.time,
        start=min(float(k.t[0]) for k in data.trajectories),
        end=max(float(k.t[-1]) for k in data.trajectories),
        span=data.span,
        step=step,
        sampling=sampling,
        states=states,
        terms=terms,
        invariants=invariants,
        findings=tuple(sorted(findings, key=lambda f: f.level != "warning")),
    )


def _count(n: int, one: str, many: str = "") -> str:
    return f"{n} {one}" if n == 1 else f"{n} {many or one + 's'}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g}%" if share < 0.0995 else f"{100 * share:.0f}%"


def _describe(state: StateDiagnosis) -> str:
    if state.loudness is None:
        noise = "too few values for an estimate of noise"
    elif state.loudness < 1e-4:
        noise = "no noise to be seen"
    else:
        noise = f"noise about {_percent(state.loudness)} of its standard deviation"
    return f"{state.name}: {state.low:.4g} to {state.high:.4g}, {noise}."


def _diagnose_state(data: Dataset, i: int) -> StateDiagnosis:
    values = np.concatenate([k.x[:, i] for k in data.trajectories])
    seen = values[np.isfinite(values)]
    if len(seen) == 0:
        return StateDiagnosis(data.states[i], np.nan, np.nan, 0.0, None, 0.0)
    noise = estimate_noise(data.trajectories, i)
    if noise is not None and noise < 1e-12 * np.abs(seen).max():
        noise = 0.0  # rounding
    low, high = float(seen.min()), float(seen.max())
    return StateDiagnosis(data.states[i], low, high, len(seen) / len(values), noise, float(seen.std()))


def _steps(data: Dataset) -> tuple[np.ndarray, float]:
    """Return all steps of time and their median."""
    steps = np.concatenate([np.diff(k.t) for k in data.trajectories])
    return steps, float(np.median(steps)) if len(steps) else 0.0


# What was seen, each kind by itself


def _on_size(data: Dataset, terms: int) -> Iterator[Finding]:
    if terms < ROOMY:
        support = "hardly support one term" if terms == 0 else f"support about {_count(terms, 'term')}"
        few = terms < 1 or (terms < 2 and data.d > 1)
        cure = "measure more often or from more starts before trusting a longer law"
        yield Finding("warning" if few else "note", f"the values measured {support} an equation", cure)
    if len(data) == 1:
        cure = "a second start tells more laws apart than more samples"
        yield Finding("note", "one trajectory shows the law along one path only", cure)


def _on_sampling(data: Dataset, sampling: str, steps: np.ndarray) -> Iterator[Finding]:
    short = sum(n < 3 for n in data.sizes)
    if short:
        text = f"{_count(short, 'trajectory', 'trajectories')} of {len(data)} with fewer than 3 rows"
        yield Finding("warning", text, "check --trajectory, or leave them out: they say little about the law")
    if sampling == "uneven":
        yield Finding("note", f"steps of time are uneven, from {steps.min():.4g} to {steps.max():.4g}")


def _on_states(states: tuple[StateDiagnosis, ...]) -> Iterator[Finding]:
    for s in states:
        if s.measured < 1:
            text = f"{s.name} is missing in {_percent(1 - s.measured)} of the rows"
            cure = "what is missing is left open, not filled in" if s.measured >= 0.5 else "measure it more often"
            yield Finding("note" if s.measured >= 0.5 else "warning", text, cure)
        yield from _on_noise(s)


def _on_noise(s: StateDiagnosis) -> Iterator[Finding]:
    """Find noise that is loud, and signs that change, or only seem to."""
    if s.loudness is not None and s.loudness > LOUD:
        noise = f"the noise of {s.name} is {_percent(s.loudness)} of its standard deviation"
        cure = "average repeated measurements or sample more densely"
        yield Finding("warning", f"{noise}, or its samples are too coarse", cure)
    side, depth = ("negative", -s.low) if -s.low < s.high else ("positive", s.high)
    if 0 < depth <= 4.5 * (s.noise or 0.0):
        yield Finding("note", f"{s.name} is measured as slightly {side}, within its noise; that is no change of sign")
    elif s.low < 0 < s.high:
        text = f"{s.name} changes sign, so its exponents will be whole"
        yield Finding("note", text, "shift it if its zero is arbitrary")


def _on_gaps(data: Dataset) -> Iterator[Finding]:
    for i, name in enumerate(data.states):
        share, start, end = max(_longest_gap(k.t, k.x[:, i]) for k in data.trajectories)
        if share > GAP:
            text = f"{name} is not measured from {data.time} = {start:.6g} to {end:.6g}"
            yield Finding("note", text, "the law bridges it; one value inside would check that it does so rightly")


def _longest_gap(t: np.ndarray, x: np.ndarray) -> tuple[float, float, float]:
    """Return the share of the span, the start and the end of the longest stretch without a value; no share if others are as long."""
    ends = np.unique(np.r_[t[0], t[np.isfinite(x)], t[-1]])
    gaps = np.diff(ends)
    if not len(gaps) or gaps.max() < WIDER * np.median(gaps):
        return 0.0, 0.0, 0.0
    at = int(np.argmax(gaps))
    return float(gaps[at] / (t[-1] - t[0])), float(ends[at]), float(ends[at + 1])


def _on_inputs(data: Dataset) -> Iterator[Finding]:
    """Find inputs that never change and so cannot be told from a constant."""
    for i, name in enumerate(data.inputs):
        if np.ptp(np.concatenate([k.u[:, i] for k in data.trajectories])) == 0:
            yield Finding(
                "warning", f"the input {name} never changes", "leave it out, or add a record in which it does"
            )


def _on_scales(states: tuple[StateDiagnosis, ...]) -> Iterator[Finding]:
    sizes = {s.name: max(abs(s.low), abs(s.high)) for s in states if s.spread > 0}
    large, small = (choose(sizes, key=sizes.__getitem__, default="") for choose in (max, min))
    if len(sizes) > 1 and sizes[large] >= FAR_APART * sizes[small]:
        text = f"{large} is about {sizes[large] / sizes[small]:.0e} times as large as {small}"
        yield Finding("note", text, "check that their units are meant; scaling takes care of the rest")


def _on_coarseness(data: Dataset, states: tuple[StateDiagnosis, ...]) -> Iterator[Finding]:
    for i, s in enumerate(states):
        samples = _samples_per_swing(data, i)
        jumps = [j for k in data.trajectories if (j := _largest_jump(k, i, s.noise or 0.0)) is not None]
        share, before, after = max(jumps, default=(0.0, 0.0, 0.0))
        if samples < SAMPLES_PER_SWING:
            text = f"{s.name} is sampled about {samples:.2g} times a swing"
            yield Finding("warning", text, "sample at least 10 times a swing, or average if the swings are noise")
        elif share > JUMP:
            text = f"{s.name} covers {_percent(share)} of its range between {data.time} = {before:.6g} and {after:.6g}"
            yield Finding("warning", text, "sample more densely there")


def _samples_per_swing(data: Dataset, i: int) -> float:
    """The median of how many samples records have in one period of a state, infinite where none swings."""
    counts = [n for k in data.trajectories if (n := _period(k.x[np.isfinite(k.x[:, i]), i])) is not None]
    return float(np.median(counts)) if counts else np.inf


def _period(x: np.ndarray) -> float | None:
    """Samples in one period of readings that swing at least three half periods through the middle half of their range."""
    if len(x) < 4 or np.ptp(x) == 0:
        return None
    level = (x - x.min()) / np.ptp(x)
    outside = np.flatnonzero((level < 0.25) | (level > 0.75))
    sides = level[outside] > 0.5
    switches = outside[1:][sides[1:] != sides[:-1]]
    return 2 * float(switches[-1] - switches[0]) / (len(switches) - 1) if len(switches) >= 3 else None


def _largest_jump(k: Trajectory, i: int, noise: float) -> tuple[float, float, float] | None:
    """The largest share of a state's range between two neighbouring samples, and the times of both."""
    measured = np.isfinite(k.x[:, i])
    t, x = k.t[measured], k.x[measured, i]
    if len(x) < FEWEST or np.ptp(x) < 10 * noise:
        return None
    steps = np.abs(np.diff(x)) / np.ptp(x)
    at = int(np.argmax(steps))
    return float(steps[at]), float(t[at]), float(t[at + 1])


def _on_rest(data: Dataset, states: tuple[StateDiagnosis, ...]) -> Iterator[Finding]:
    resting = sum(_rests(k, states) for k in data.trajectories)
    whose = "the trajectory" if len(data) == 1 else f"{_count(resting, 'trajectory', 'trajectories')} of {len(data)}"
    if resting:
        text = f"{whose} {'stays' if resting == 1 else 'stay'} at rest through the last half of the time"
        cure = "what rests says nothing new; sample the motion more densely or start elsewhere"
        yield Finding("warning" if resting > len(data) / 2 else "note", text, cure)


def _rests(k: Trajectory, states: tuple[StateDiagnosis, ...]) -> bool:
    """Tell whether no state moves, beyond its noise, in the last half of the time."""
    late = k.x[k.t >= (k.t[0] + k.t[-1]) / 2]
    return all(_is_still(x[np.isfinite(x)], s) for x, s in zip(late.T, states, strict=True))


def _is_still(x: np.ndarray, s: StateDiagnosis) -> bool:
    if len(x) < 4 or s.high == s.low:
        return False
    noise, motion = min(s.noise or 0.0, LOUD * s.spread), REST * (s.high - s.low)
    thirds = np.array([part.mean() for part in np.array_split(x, 3 if len(x) >= 6 else 2)])
    error = noise / np.sqrt(len(x) / len(thirds))
    return bool(np.ptp(thirds) <= max(motion, 3.5 * error) and x.std() <= 1.5 * noise + motion)


def _on_invariants(sums: tuple[str, ...]) -> Iterator[Finding]:
    cure = "one of these states follows from the others, so the law has one equation less to find"
    return (Finding("note", f"{text} stays constant within the noise", cure) for text in sums)
