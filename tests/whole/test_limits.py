"""Limits: time and memory are kept, the search ends with the best it has, and a lane that dies dies alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rows import lanes_of
from whole.test_discovery import west

from eqdisc.data.tables import as_dataset
from eqdisc.discovery import discover
from eqdisc.fit.collocation import HURRIED, Collocation
from eqdisc.fit.matched import Matched
from eqdisc.fit.regression import Regression
from eqdisc.law.catalogue import simulate_system
from eqdisc.search.problem import Problem
from eqdisc.work.config import FitConfig
from eqdisc.work.errors import DataError, OptionError
from eqdisc.work.journal import Journal
from eqdisc.work.memory import refuse_large


class Stopped(Journal):
    """Asks every search to stop from the start."""

    stop = True  # type: ignore[assignment]


@pytest.mark.parametrize("compiled", [False, True])
def test_a_fit_is_cut_short_once_the_search_should_stop_and_ended_when_it_must_be(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    newton = pytest.importorskip("eqdisc.fit.newton")
    problem = Problem.of(as_dataset(west(noise=0.01)))
    steps: list[int] = []
    iterate, descend = Collocation._iterate, newton.descend
    monkeypatch.setattr(
        Collocation,
        "_iterate",
        lambda self, state, index, step, tolerance: (steps.append(step), iterate(self, state, index, step, 0.0))[1],
    )
    monkeypatch.setattr(
        newton,
        "descend",
        lambda *given: (steps.extend(range(*given[5])), descend(*given[:6], 0.0, given[7]))[1],
    )
    lanes = lanes_of(([[0.75], [1.0]], np.array([[1.0], [-0.5]]), np.ones((2, 1))))
    x, sigma = problem.engine.mesh.states(problem.denoised), torch.as_tensor(problem.start_sigma)[None]
    hurried = problem.engine.on(problem.engine.mesh, journal=Stopped())
    hurried.compiled = compiled
    hurried.fit(lanes, x, sigma)
    assert len(steps) == HURRIED
    steps.clear()
    ended = replace(problem, engine=hurried).finishing().engine
    ended.compiled = compiled
    ended.fit(lanes, x, sigma)
    assert len(steps) > HURRIED


def test_laws_beside_the_pick_are_left_out_when_the_time_is_spent() -> None:
    class Late(Journal):
        late = True  # type: ignore[assignment]

    data = west(noise=0.01)
    whole, cut = discover(data), discover(data, journal=Late())
    assert len(cut.front) == 1 < len(whole.front)
    assert cut.equations.strings() == whole.equations.strings()


def test_what_ended_the_search_is_a_reason() -> None:
    found = discover(west(noise=0.01), FitConfig(time_limit=1e-3))
    assert found.reasons[-1] == "The search was ended by the time allowed before it was through."


def test_a_search_that_holds_too_much_ends_with_the_best_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eqdisc.work.journal.resident", lambda: 1.9)
    found = discover(west(noise=0.01), FitConfig(memory=2.0))
    assert found.reasons[-1] == "The search was ended by the memory allowed before it was through."


def test_memory_that_is_spent_before_the_search_is_refused() -> None:
    with pytest.raises(OptionError, match=r"--memory allows 0.01 GB, but eqdisc and the table take \d.\d GB"):
        discover(west(), FitConfig(memory=0.01))


def test_a_table_that_is_too_large_for_the_memory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    table = tmp_path / "large.csv"
    with table.open("wb") as file:
        file.truncate(10**9)
    with pytest.raises(
        DataError, match=r"large.csv has 1000 MB, and reading it takes at least 1\d.\d GB; --memory allows 4"
    ):
        refuse_large(table, 4.0)
    refuse_large(table, 40.0)


def test_lanes_and_segments_in_turn_are_those_side_by_side() -> None:
    class Narrow(Journal):
        room = 1.0

    data = simulate_system("lotka_volterra", samples=260, noise=0.02, seed=1)
    whole = Problem.of(data)
    narrow = replace(whole, engine=whole.engine.on(whole.engine.mesh, journal=Narrow()))
    w, a = np.array([[1.0, 0], [1, 1], [0, 1]]), np.array([[1.0, 0], [-1, 1], [0, -1]])
    free = np.zeros((3, 2), bool)
    laws = [(w, a, free), (w[:2], a[:2], np.ones((2, 2), bool)), (w[1:], a[1:], free[1:])]
    x, sigma = whole.engine.mesh.states(whole.denoised), torch.as_tensor(whole.start_sigma)[None]
    one, other = (p.engine.fit(lanes_of(*laws), x, sigma, steps=8) for p in (whole, narrow))
    torch.testing.assert_close(one.nll, other.nll)
    torch.testing.assert_close(one.lanes.coefficients, other.lanes.coefficients)
    first = one.select(slice(0, 1))
    extra = whole.library[:20].torch()
    gauges = [p.engine.gauge(first.lanes, first.numbers, first.x, first.sigma, extra) for p in (whole, narrow)]
    for together, in_turn in zip(*gauges, strict=True):
        torch.testing.assert_close(together, in_turn)
    regressions = [Regression(whole.data, whole.denoised.at, whole.denoised.positive, room=room) for room in (1e9, 1.0)]
    terms = whole.library[np.arange(12)[:, None]]
    free = terms.movable(whole.denoised.positive)
    lanes = [r.fit(Matched.of(terms.torch(), free.torch()), 0) for r in regressions]
    torch.testing.assert_close(lanes[0].rss, lanes[1].rss)


@pytest.mark.parametrize("poison", [np.nan, 1e200, -1e5])
def test_a_lane_that_dies_dies_alone(poison: float) -> None:
    problem = Problem.of(simulate_system("lotka_volterra", samples=40, noise=0.02, seed=1))
    w, a = np.array([[1.0, 0], [1, 1], [0, 1]]), np.array([[1.0, 0], [-1, 1], [0, -1]])
    free = np.zeros((3, 2), bool)
    x, sigma = problem.engine.mesh.states(problem.denoised), torch.as_tensor(problem.start_sigma)[None]
    alone = problem.engine.fit(lanes_of(*[(w, a, free)] * 2), x, sigma, steps=8)
    among = problem.engine.fit(lanes_of((w, a, free), (w, poison * a, free), (w, a, free)), x, sigma, steps=8)
    for lane in (0, 2):
        torch.testing.assert_close(among.nll[lane], alone.nll[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(among.x[lane], alone.x[0], rtol=1e-9, atol=1e-12)  # another batch rounds otherwise
    assert not torch.isnan(among.nll).any()
