r"""Diagnosis: what a table can support, before anything is fitted.

The noise of a state is read from how well four neighbours foretell each sample. With the cubic through the neighbours,
\hat x_k = sum_a w_a x_a, the residual of a smooth state is noise alone and has variance sigma**2 (1 + sum_a w_a**2), so

    sigma = 1.4826 median_k |x_k - \hat x_k| / sqrt(1 + sum_a w_a**2);

for even steps this is the fourth difference over sqrt(70) (on differences: von Neumann, Ann. Math. Stat. 12, 1941).
Where samples are too coarse for the state's motion, motion counts as noise: the estimate is an upper bound.

Nothing is refused here. Every finding says what was seen and what would help.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float

from .dataset import Dataset, Trajectory

Level: TypeAlias = Literal["note", "warning"]

FEWEST = 7  # values of a state in one trajectory from which its noise is estimated
EVEN = 0.01  # steps that differ by less than this share count as even
LOUD = 0.2  # noise over standard deviation beyond which exponents are hard to tell apart
REST = 0.02  # motion over range below which a clean state counts as at rest
QUIET = 0.1  # variance of a constant sum over that of its quietest member, at most
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
        extent = f"{self.file}: {_count(self.rows, 'row')}, {series}"
        steps = f"even steps of {self.step:.4g}"
        if self.sampling == "uneven":
            steps = f"uneven steps, {self.step:.4g} in the middle"
        extent += (
            f", {_count(len(self.states), 'state')}; {self.time} from {self.start:.6g} to {self.end:.6g} in {steps}."
        )
        return [extent, *(_describe(state) for state in self.states), *(str(finding) for finding in self.findings)]


def diagnose(data: Dataset) -> Diagnosis:
    """Look at a dataset of any size and say what it can support.

    >>> t = np.linspace(0, 4, 41)
    >>> data = Dataset((Trajectory(t, np.exp(-t)[:, None] * [2.0, -2.0] + [0, 5]),), states=("S", "R"))
    >>> report = diagnose(data)
    >>> report.sampling, report.terms, report.invariants
    ('even', 5, ('S + R',))
    """
    states = tuple(_diagnose_state(data, i) for i in range(data.d))
    sampling, step = _sampling(data)
    invariants = find_sums(data, np.array([state.noise or 0.0 for state in states]))
    terms = _terms(data)
    findings = [
        *_on_size(data, terms),
        *_on_sampling(data, sampling),
        *_on_states(states),
        *_on_gaps(data),
        *_on_inputs(data),
        *_on_scales(states),
        *_on_coarseness(data, states),
        *_on_rest(data, states),
        *(_on_invariant(text) for text in invariants),
    ]
    findings.sort(key=lambda f: f.level != "warning")
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
        findings=tuple(findings),
    )


def estimate_noise(trajectories: tuple[Trajectory, ...], state: int) -> float | None:
    """Return the standard deviation of a state's noise, pooled over trajectories, or None if none has enough values.

    >>> x = np.linspace(0, 6, 400), np.random.default_rng(0).normal(0, 0.1, 400)
    >>> round(estimate_noise((Trajectory(x[0], (np.sin(x[0]) + x[1])[:, None]),), 0), 2)
    0.1
    """
    residuals: list[np.ndarray] = []
    for k in trajectories:
        measured = np.isfinite(k.x[:, state])
        if measured.sum() >= FEWEST:
            residuals.append(_residuals(k.t[measured], k.x[measured, state]))
    if not residuals:
        return None
    pooled = np.concatenate(residuals)
    # half of the residuals vanish where values are rounded coarsely; their mean still tells the noise
    return float(1.4826 * np.median(pooled) or np.sqrt(np.pi / 2) * pooled.mean())


def find_sums(data: Dataset, noise: Float[np.ndarray, "d"]) -> tuple[str, ...]:
    """Return independent sums of states with small whole weights that stay constant within `noise`, simplest first.

    A sum is constant when it moves, in every trajectory about its own mean, no more than its noise explains, and far
    less than each of its members does.
    """
    moves = [k.x[np.isfinite(k.x).all(1)] for k in data.trajectories]
    moves = [x - x.mean(0) for x in moves if len(x) > 2]
    if data.d < 2 or sum(len(x) - 1 for x in moves) < 3 * data.d:
        return ()
    x = np.concatenate(moves)
    size = np.maximum(np.abs(x).max(0), 1e-300)
    covariance = (x / size).T @ (x / size) / len(x)
    found: list[np.ndarray] = []
    for c in _weights(data.d):
        weights = c * size
        moved = weights @ covariance @ weights
        alone = (weights**2 * np.diag(covariance))[c != 0]
        allowed = 1.5**2 * ((c * noise) ** 2).sum() + 1e-10 * alone.max()
        if moved <= min(allowed, QUIET * alone.min()) and np.linalg.matrix_rank([*found, c]) > len(found):
            found.append(c)
    return tuple(_write_sum(c, data.states) for c in found)


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


def _residuals(t: np.ndarray, y: np.ndarray) -> np.ndarray:
    """|x_k - foretold| / sqrt(1 + sum w**2) for every sample that has two neighbours on either side."""
    near = np.stack([t[:-4], t[1:-3], t[3:-1], t[4:]], -1)
    w = np.ones_like(near)
    for a, b in itertools.permutations(range(4), 2):
        w[:, a] *= (t[2:-2] - near[:, b]) / (near[:, a] - near[:, b])
    foretold = (w * np.stack([y[:-4], y[1:-3], y[3:-1], y[4:]], -1)).sum(1)
    return np.abs(y[2:-2] - foretold) / np.sqrt(1 + (w**2).sum(1))


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


def _sampling(data: Dataset) -> tuple[Literal["even", "uneven"], float]:
    steps = np.concatenate([np.diff(k.t) for k in data.trajectories])
    if len(steps) == 0:
        return "even", 0.0
    step = float(np.median(steps))
    return ("even" if np.abs(steps - step).max() <= EVEN * step else "uneven"), step


def _terms(data: Dataset) -> int:
    """About how many terms an equation may have: values beyond one start a trajectory, for the state measured least."""
    counts = np.array([np.isfinite(k.x).sum(0) for k in data.trajectories])
    return int((counts.sum(0) - (counts > 0).sum(0)).min() // VALUES_PER_TERM)


def _on_size(data: Dataset, terms: int) -> list[Finding]:
    support = "hardly support one term" if terms == 0 else f"support about {_count(terms, 'term')}"
    few = terms < 1 or (terms < 2 and data.d > 1)
    found = []
    if terms < ROOMY:
        cure = "measure more often or from more starts before trusting a longer law"
        found.append(Finding("warning" if few else "note", f"the values measured {support} an equation", cure))
    if len(data) == 1:
        cure = "a second start tells more laws apart than more samples"
        found.append(Finding("note", "one trajectory shows the law along one path only", cure))
    return found


def _on_sampling(data: Dataset, sampling: str) -> list[Finding]:
    found = []
    short = sum(n < 3 for n in data.sizes)
    if short:
        text = f"{_count(short, 'trajectory', 'trajectories')} of {len(data)} with fewer than 3 rows"
        found.append(Finding("warning", text, "check --trajectory, or leave them out: they say little about the law"))
    if sampling == "uneven":
        steps = np.concatenate([np.diff(k.t) for k in data.trajectories])
        found.append(Finding("note", f"steps of time are uneven, from {steps.min():.4g} to {steps.max():.4g}"))
    return found


def _on_states(states: tuple[StateDiagnosis, ...]) -> list[Finding]:
    found = []
    for s in states:
        if s.measured < 1:
            text = f"{s.name} is missing in {_percent(1 - s.measured)} of the rows"
            cure = "what is missing is left open, not filled in" if s.measured >= 0.5 else "measure it more often"
            found.append(Finding("note" if s.measured >= 0.5 else "warning", text, cure))
        if s.loudness is not None and s.loudness > LOUD:
            noise = f"the noise of {s.name} is {_percent(s.loudness)} of its standard deviation"
            text = f"{noise}, or its samples are too coarse"
            found.append(Finding("warning", text, "average repeated measurements or sample more densely"))
        found += _on_sign(s)
    return found


def _on_gaps(data: Dataset) -> list[Finding]:
    """Find the longest stretch of each state without a value."""
    found = []
    for i, name in enumerate(data.states):
        longest = max((_longest_gap(k.t, k.x[:, i]) for k in data.trajectories), default=(0.0, 0.0, 0.0))
        share, start, end = longest
        if share > GAP:
            text = f"{name} is not measured from {data.time} = {start:.6g} to {end:.6g}"
            found.append(
                Finding("note", text, "the law bridges it; one value inside would check that it does so rightly")
            )
    return found


def _longest_gap(t: np.ndarray, x: np.ndarray) -> tuple[float, float, float]:
    """Return the share of the span, the start and the end of the longest stretch without a value; no share if others are as long."""
    ends = np.unique(np.r_[t[0], t[np.isfinite(x)], t[-1]])
    gaps = np.diff(ends)
    if not len(gaps) or gaps.max() < WIDER * np.median(gaps):
        return 0.0, 0.0, 0.0
    at = int(np.argmax(gaps))
    return float(gaps[at] / (t[-1] - t[0])), float(ends[at]), float(ends[at + 1])


def _on_inputs(data: Dataset) -> list[Finding]:
    """Find inputs that never change and so cannot be told from a constant."""
    if not data.inputs:
        return []
    u = np.concatenate([k.u for k in data.trajectories])
    still = [name for name, column in zip(data.inputs, u.T, strict=True) if np.ptp(column) == 0]
    return [
        Finding("warning", f"the input {n} never changes", "leave it out, or add a record in which it does")
        for n in still
    ]


def _on_sign(s: StateDiagnosis) -> list[Finding]:
    if not s.low < 0 < s.high:
        return []
    depth = min(-s.low, s.high)
    side = "negative" if -s.low < s.high else "positive"
    if depth <= 4.5 * (s.noise or 0.0):
        return [
            Finding("note", f"{s.name} is measured as slightly {side}, within its noise; that is no change of sign")
        ]
    return [
        Finding("note", f"{s.name} changes sign, so its exponents will be whole", "shift it if its zero is arbitrary")
    ]


def _on_scales(states: tuple[StateDiagnosis, ...]) -> list[Finding]:
    sizes = {s.name: max(abs(s.low), abs(s.high)) for s in states if s.spread > 0}
    if len(sizes) < 2:
        return []
    large, small = max(sizes, key=sizes.__getitem__), min(sizes, key=sizes.__getitem__)
    if sizes[large] < FAR_APART * sizes[small]:
        return []
    text = f"{large} is about {sizes[large] / sizes[small]:.0e} times as large as {small}"
    return [Finding("note", text, "check that their units are meant; scaling takes care of the rest")]


def _on_coarseness(data: Dataset, states: tuple[StateDiagnosis, ...]) -> list[Finding]:
    found = []
    for i, s in enumerate(states):
        samples = [n for n in (_samples_per_swing(k.x[:, i]) for k in data.trajectories) if n is not None]
        jumps = [jump for jump in (_largest_jump(k, i, s.noise or 0.0) for k in data.trajectories) if jump is not None]
        if samples and np.median(samples) < SAMPLES_PER_SWING:
            text = f"{s.name} is sampled about {np.median(samples):.2g} times a swing"
            found.append(
                Finding("warning", text, "sample at least 10 times a swing, or average if the swings are noise")
            )
        elif jumps and max(jumps)[0] > JUMP:
            share, before, after = max(jumps)
            text = f"{s.name} covers {_percent(share)} of its range between {data.time} = {before:.6g} and {after:.6g}"
            found.append(Finding("warning", text, "sample more densely there"))
    return found


def _samples_per_swing(x: np.ndarray) -> float | None:
    """Samples in one period of a state that swings at least three half periods through the middle half of its range."""
    x = x[np.isfinite(x)]
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


def _on_rest(data: Dataset, states: tuple[StateDiagnosis, ...]) -> list[Finding]:
    resting = sum(_rests(k, states) for k in data.trajectories)
    if not resting:
        return []
    whose = "the trajectory" if len(data) == 1 else f"{_count(resting, 'trajectory', 'trajectories')} of {len(data)}"
    text = f"{whose} {'stays' if resting == 1 else 'stay'} at rest through the last half of the time"
    level: Level = "warning" if resting > len(data) / 2 else "note"
    return [Finding(level, text, "what rests says nothing new; sample the motion more densely or start elsewhere")]


def _rests(k: Trajectory, states: tuple[StateDiagnosis, ...]) -> bool:
    """Tell whether no state moves, beyond its noise, in the last half of the time."""
    late = k.x[k.t >= (k.t[0] + k.t[-1]) / 2]
    for i, s in enumerate(states):
        x = late[np.isfinite(late[:, i]), i]
        if len(x) < 4 or s.high == s.low:
            return False
        noise = min(s.noise or 0.0, LOUD * s.spread)
        thirds = np.array([part.mean() for part in np.array_split(x, 3 if len(x) >= 6 else 2)])
        error = noise / np.sqrt(len(x) / len(thirds))
        if np.ptp(thirds) > max(REST * (s.high - s.low), 3.5 * error) or x.std() > 1.5 * noise + REST * (
            s.high - s.low
        ):
            return False
    return True


def _on_invariant(text: str) -> Finding:
    cure = "one of these states follows from the others, so the law has one equation less to find"
    return Finding("note", f"{text} stays constant within the noise", cure)


def _weights(d: int) -> list[np.ndarray]:
    """Whole weights worth trying, simplest first: up to 2 for five states, 0 or 1 for ten, else pairs and the total."""
    choices: Iterable[tuple[int, ...]]
    if d <= 5:
        choices = itertools.product((0, 1, -1, 2, -2), repeat=d)
    elif d <= 10:
        choices = itertools.product((0, 1), repeat=d)
    else:
        choices = itertools.chain(_pairs(d), [(1,) * d])
    weights = [np.array(c, float) for c in choices]
    weights = [
        c for c in weights if (c != 0).sum() > 1 and c[np.flatnonzero(c)[0]] > 0 and np.abs(c[c != 0]).min() == 1
    ]
    return sorted(weights, key=lambda c: (np.abs(c).sum(), (c < 0).sum()))


def _pairs(d: int) -> itertools.chain:
    unit = np.eye(d, dtype=int)
    return itertools.chain.from_iterable(
        (tuple(unit[a] + unit[b]), tuple(unit[a] - unit[b])) for a, b in itertools.combinations(range(d), 2)
    )


def _write_sum(c: np.ndarray, names: tuple[str, ...]) -> str:
    """Write whole weights as text: S + 2 I - R."""
    text = ""
    for weight, name in zip(c.astype(int), names, strict=True):
        if weight:
            sign = "-" if weight < 0 else "+"
            text += f" {sign} " if text else ("-" if weight < 0 else "")
            text += name if abs(weight) == 1 else f"{abs(weight)} {name}"
    return text
