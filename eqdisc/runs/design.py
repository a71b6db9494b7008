r"""Design: the next record to measure, from which the forms that still stand would part.

A record from a start x0 at times t is predicted by every form. If the pick is the truth, another form falls behind it by

    D = min over delta, epsilon of 1/2 ( delta' H delta + | r - J delta - S epsilon |^2 )     nats,

r its difference from the pick in units of sigma, J and S its sensitivities to its numbers and to the start, H the curvature that the
data at hand give its numbers: what refitting on both could mend does not count (T-optimal design, linearised; Atkinson and Fedorov,
Biometrika 62, 1975). A rival's weight falls by exp(-D); the record that leaves the rivals the least weight is proposed: a form that contains
the pick stays whatever is measured, and does not decide. A repeat of the first record stands among the candidates, so that what more
data of the same kind would bring is known too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import sympy as sp
from jaxtyping import Float

from ..law.simulation import simulate
from ..work.errors import RunError
from ..work.status import Status

if TYPE_CHECKING:
    from ..law.equations import Equations
    from .run import Run

RIVALS = 5  # forms beside the pick
PROMISING = 6  # candidates whose sensitivities are worth their time
RECORDS = 6  # of the data, for the curvature
FACTORS = (1 / 3, 1.0, 3.0)  # of a start
BEYOND = 1.5  # times the largest value measured, where a start may lie too
NEAR = 0.3  # share by which starts differ at least
STEP = 1e-3  # of a number, for its sensitivity
LEAST = 1e-3  # of a state's spread: no measurement is counted as more precise
LOST = 10.0  # sigma that a form is off where it has no value


@dataclass(frozen=True, eq=False)
class Experiment:
    """A record: start x0 (d,), times t (n,), the nats (forms,) by which each rival would fall behind, and where they part most."""

    x0: Float[np.ndarray, "d"]
    t: Float[np.ndarray, "n"]
    nats: Float[np.ndarray, "forms"]
    state: int
    time: float
    repeat: bool

    @property
    def open(self) -> float:
        """Share of the rivals' weight that would be left."""
        return float(np.exp(-self.nats).mean())


def propose_experiments(run: Run) -> tuple[Experiment, ...]:
    """Return the records that would part the forms of a run, the best first; a repeat of the first record is the last.

    Raises RunError where no other form stands beside the pick.
    """
    forms = _forms_of(run)
    sigma = np.maximum(run.sigma, LEAST * np.nanstd(run.data.stacked(), axis=0))
    candidates = [c for c in _candidates(run) if simulate(forms[0], *c).status is Status.OK]
    if not candidates:
        raise RunError(f"{run.folder}: the law reaches the end of the data from no start; nothing can be proposed.")
    far = [np.median([(_apart(forms[0], f, *c, sigma) ** 2).sum() for f in forms[1:]]) for c in candidates]
    kept = [0, *[int(q) for q in np.argsort(far)[::-1] if q > 0][:PROMISING]]
    known = [_curvature(form, run, sigma) for form in forms[1:]]
    found = [_judge(forms, known, *candidates[q], sigma, repeat=q == 0) for q in kept]
    return (*sorted(found[1:], key=lambda e: e.open), found[0])


def _forms_of(run: Run) -> list[Equations]:
    """Return the pick and its rivals; raises RunError where nothing can be proposed for them."""
    if run.inputs:
        cure = "vary them and fit both records"
        raise RunError(f"{run.folder}: the law has inputs, for which no measurement is proposed yet; {cure}.")
    run.refuse_hidden("fit the law to two records and see which forms fail")
    rivals = run.alternatives[:RIVALS]
    if not rivals:
        raise RunError(
            f"{run.folder}: no other form stands beside the law, so that no measurement could separate them."
        )
    return [run.equations, *rivals]


def _judge(
    forms: list[Equations], known: list[np.ndarray], x0: np.ndarray, t: np.ndarray, sigma: np.ndarray, repeat: bool
) -> Experiment:
    apart = [_apart(forms[0], form, x0, t, sigma) for form in forms[1:]]
    nats = np.array([_behind(r, h, f, x0, t, sigma) for r, h, f in zip(apart, known, forms[1:], strict=True)])
    at, state = np.unravel_index(np.abs(apart[int(nats.argmin())]).argmax(), apart[0].shape)
    return Experiment(x0, t, nats, int(state), float(t[at]), repeat)


def _candidates(run: Run) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield starts and times: the first record's, then starts around it, each to the same end and to twice that."""
    first = run.data.trajectories[0]
    start, t = run.start_of(first.name), first.t
    yield start, t
    for x0 in _starts_around(start, run.data.stacked()):
        rounded = np.array([float(f"{v:.2g}") for v in x0])
        if not np.allclose(x0, start, rtol=0.1, atol=0.0):
            yield rounded, t[0] + 1.0 * (t - t[0])
        yield rounded, t[0] + 2.0 * (t - t[0])


def _starts_around(start: np.ndarray, x: np.ndarray) -> list[tuple[float, ...]]:
    """Return every combination of the options of two states; of more, one state changed and all of them at once."""
    facts = zip(start, np.nanmin(x, axis=0), np.nanmax(x, axis=0), np.nanstd(x, axis=0), strict=True)
    options = [_options(*of) for of in facts]
    if len(start) <= 2:
        return list(itertools.product(*options))
    alone = [(*start[:e], v, *start[e + 1 :]) for e, some in enumerate(options) for v in some]
    return [*alone, *zip(*options, strict=False)]


def _options(start: float, low: float, high: float, spread: float) -> list[float]:
    """Return starts of one state: factors of its own and beyond what was measured, or steps of its spread where it changes sign."""
    if low < -spread / 2:
        return [start - spread, start, start + spread]
    wanted = [start * f for f in FACTORS] if start > 0.01 * spread else [start, spread / 3]
    return [*wanted, *(v for v in [BEYOND * high] if all(abs(v - w) > NEAR * v for w in wanted))]


def _apart(pick: Equations, form: Equations, x0: np.ndarray, t: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Return how far two forms are apart (n, d), in sigma."""
    a, b = (_predict(law, x0, t) for law in (pick, form))
    return np.nan_to_num(np.clip((a - b) / sigma, -1e6, 1e6), nan=LOST)


def _predict(law: Equations, x0: np.ndarray, t: np.ndarray) -> Float[np.ndarray, "n d"]:
    """Simulate, with NaN where the law has ended."""
    out = np.full((len(t), len(x0)), np.nan)
    found = simulate(law, x0, t)
    out[: len(found.x)] = found.x
    return out


# Sensitivities


def _behind(r: np.ndarray, h: np.ndarray, form: Equations, x0: np.ndarray, t: np.ndarray, sigma: np.ndarray) -> float:
    """Return D, the nats by which `form` stays behind when its numbers and the start are fitted again."""
    j, s = _sensitivities(form, x0, t, sigma)
    r = r.ravel()
    r, j = r - s @ np.linalg.lstsq(s, r, rcond=None)[0], j - s @ np.linalg.lstsq(s, j, rcond=None)[0]
    normal, pull = h + j.T @ j, j.T @ r
    return 0.5 * max(float(r @ r - pull @ np.linalg.pinv(normal, hermitian=True) @ pull), 0.0)


def _curvature(form: Equations, run: Run, sigma: np.ndarray) -> np.ndarray:
    """Return what the data at hand know of a form's numbers (p, p), the starts of the records fitted beside them."""
    records = run.data.trajectories[:RECORDS]
    total = 0.0
    for k in records:
        j, s = _sensitivities(form, run.start_of(k.name), k.t, sigma)
        seen = np.isfinite(k.x).ravel()
        j, s = j[seen], s[seen]
        j = j - s @ np.linalg.lstsq(s, j, rcond=None)[0]
        total = total + j.T @ j
    return np.asarray(total) * len(run.data) / len(records)


def _sensitivities(
    form: Equations, x0: np.ndarray, t: np.ndarray, sigma: np.ndarray
) -> tuple[Float[np.ndarray, "nd p"], Float[np.ndarray, "nd d"]]:
    """Return by how many sigma the record moves with the logarithm of each number, and with each start."""
    slope = lambda a, b, step: np.nan_to_num((a - b) / (2 * step * sigma)).ravel()  # noqa: E731
    laws = [
        (_predict(up, x0, t), _predict(down, x0, t))
        for up, down in zip(_vary(form, 1 + STEP), _vary(form, 1 - STEP), strict=True)
    ]
    j = [slope(a, b, STEP) for a, b in laws]
    moves = np.diag(STEP * np.maximum(np.abs(x0), sigma))
    s = [slope(_predict(form, x0 + m, t), _predict(form, x0 - m, t), 1.0) for m in moves]
    return np.array(j).reshape(len(j), -1).T, np.array(s).T


def _vary(law: Equations, factor: float) -> Iterator[Equations]:
    """Yield the law with one of its numbers multiplied: coefficients, real exponents, constants beside a state."""
    from ..law.equations import Equations

    for e, right in enumerate(law.rhs):
        terms = sp.Add.make_args(right) if right != 0 else ()
        for q, term in enumerate(terms):
            for changed in (term * factor, *_vary_inside(term, lambda v: v * factor)):
                rhs = sp.Add(*terms[:q], changed, *terms[q + 1 :])
                yield Equations(law.states, (*law.rhs[:e], rhs, *law.rhs[e + 1 :]))


def _vary_inside(term: sp.Expr, change: Callable[[sp.Number], sp.Expr]) -> Iterator[sp.Expr]:
    """Yield the term with one real exponent, or one constant of a sum in it, changed."""
    for power in sorted(term.atoms(sp.Pow), key=sp.default_sort_key):
        if isinstance(power.exp, sp.Float):
            yield term.xreplace({power: sp.Pow(power.base, change(power.exp))})
    for total in sorted(term.atoms(sp.Add), key=sp.default_sort_key):
        number, rest = total.as_coeff_Add()
        if number != 0:
            yield term.xreplace({total: change(number) + rest})
