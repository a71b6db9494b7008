"""In a notebook: HTML that names cannot hurt, and DataFrames that read back what was put in."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest
from stand_in import RATE, run_of

import eqdisc as eq
from eqdisc import Discovery, FrontEntry

EVIL = "<script>alert(1)</script>"
T = np.linspace(0.0, 4.0, 30)
DATA = eq.Dataset(
    tuple(
        eq.Trajectory(T, a * np.exp(-np.outer(T, [RATE, RATE])), name=name) for name, a in (("m1", 1.0), (EVIL, 2.0))
    ),
    ("S", EVIL),
    time="day",
    file=f"{EVIL}.csv",
    units={"S": "<mg>"},
)
LAW = {"S": "-0.3*S", EVIL: f"-0.3*{DATA.formula_names[1]}"}


def _run() -> eq.Run:
    numbers = [{"name": "k1", "value": 0.3, "ci": [0.29, 0.31], "unit": "", "where": "S"}]
    numbers.append({"name": "k2", "value": 0.5, "ci": None, "unit": "", "where": EVIL})
    return run_of(LAW, DATA, parameters=numbers, reasons=[f"{EVIL}: a reason."], alternatives=[{"equations": LAW}])


def _discovery() -> Discovery:
    law = eq.Equations.parse(dict(zip(DATA.formula_names, LAW.values(), strict=True)), DATA.formula_names)
    rough = FrontEntry(law, 1, 1, np.inf, None, -3.0, eq.Status.DIVERGED)
    found: dict[str, Any] = {
        "reasons": (f"{EVIL}: a reason.",),
        "alternatives": (law,),
        "initial": (),
        "sigma": {},
        "errors": {},
    }
    entry = FrontEntry(law, 3, 1, 1.0, None, -9.5)
    parameters = (eq.Parameter("k1", 0.3, (0.29, 0.31)), eq.Parameter("k2", 0.5))
    rest = {"chain": None, "config": eq.FitConfig(), "device": "cpu", "seconds": 0.1, "versions": {"eqdisc": "0"}}
    return Discovery(DATA, (rough, entry), 1, "ambiguous", parameters=parameters, **found, **rest)


class _Balance(HTMLParser):
    """Fails where an element is closed that was not the last to be opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize(
    "shown", [_run(), _discovery(), DATA, eq.diagnose(DATA)], ids=["Run", "Discovery", "Dataset", "Diagnosis"]
)
def test_names_are_text_in_whatever_a_notebook_shows(shown: Any) -> None:
    html = shown._repr_html_()
    assert type(html) is str
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    balance = _Balance()
    balance.feed(html)
    assert balance.open == []


@pytest.mark.parametrize("found", [_run(), _discovery()], ids=["Run", "Discovery"])
def test_a_finding_shows_law_verdict_reasons_front_and_rivals(found: Any) -> None:
    html = found._repr_html_()
    assert html.count("<math") == 4
    for words in (found.verdict, "a reason.", "alternatives: 1", "<td>→</td>", "stands for", "diverged"):
        assert words in html


def test_a_long_dataset_shows_its_head_and_says_so() -> None:
    html = DATA._repr_html_()
    assert html.count("<tr>") == 1 + 12
    assert "48 more rows" in html
    assert "S [&lt;mg&gt;]" in html


@pytest.mark.parametrize("found", [_run(), _discovery()], ids=["Run", "Discovery"])
def test_front_and_numbers_come_out_as_tables(found: Any) -> None:
    front = found.front_table()
    assert list(front["pick"]) == [False, True]
    assert list(front["complexity"]) == [1, 3]
    assert front["unseen"].isna().all()
    assert f"d{EVIL}/dt" in front
    numbers = found.parameters_table()
    assert numbers["low"][0] == 0.29
    assert np.isnan(numbers["high"][1])


def test_a_dataset_comes_back_from_its_table() -> None:
    frame = DATA.to_frame()
    assert list(frame) == ["trajectory", "day", *DATA.states]
    again = eq.as_dataset(frame, time="day")
    for name in ("m1", EVIL):
        (one,), (other,) = ([k for k in d.trajectories if k.name == name] for d in (DATA, again))
        np.testing.assert_array_equal(one.x, other.x)
    taken = eq.Dataset((eq.Trajectory([0, 1], [[1.0, 2.0], [3.0, 4.0]]),), ("t", "trajectory")).to_frame()
    assert list(taken) == ["trajectory_", "t_", "t", "trajectory"]


def test_simulations_come_out_as_one_table() -> None:
    run = _run()
    table = run.simulate_table()
    assert list(table) == ["trajectory", "day", *DATA.states]
    assert table.groupby("trajectory").size().to_dict() == {"m1": 30, EVIL: 30}
    curve = run.simulate()["m1"]
    pd.testing.assert_frame_equal(
        curve.to_frame(run.states, "day"),
        table[table["trajectory"] == "m1"].drop(columns="trajectory").reset_index(drop=True),
    )


def test_a_time_limit_ends_a_search_from_python_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from eqdisc import discovery

    def seen(data: Any, config: eq.FitConfig, validate: Any, journal: eq.Journal) -> bool:
        return journal.stop

    monkeypatch.setattr(discovery, "_discover", seen)
    assert discovery.discover(DATA, eq.FitConfig(time_limit=1e-9))
    assert not discovery.discover(DATA)
