"""Comparison: one split, one sigma and one simulation for all; a method that fails is a row; a simple one that suffices is named."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from stand_in import RATE, discovery_of

from eqdisc.cli import FOUND, UNUSABLE, main
from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.data.tables import write_table
from eqdisc.judge.validation import Score, Stretch
from eqdisc.law.catalogue import catalogue, simulate_system
from eqdisc.law.equations import Equations
from eqdisc.law.simulation import RightHandSide
from eqdisc.peers import PEERS, Peer, comparison, list_missing
from eqdisc.peers.comparison import Contender, compare, conclude, count_numbers, split
from eqdisc.peers.courses import cut, settle
from eqdisc.runs.plotting import plot_comparison
from eqdisc.runs.text import write_comparison
from eqdisc.work.errors import DataError
from eqdisc.work.status import Status

T = np.linspace(0.0, 4.0, 40)
NOISE = 0.01


def decays(*starts: float, noise: float = NOISE) -> Dataset:
    """Records of decay at the rate that the stand-in for eqdisc's search finds."""
    rng = np.random.default_rng(0)
    records = [x0 * np.exp(-RATE * T) + noise * rng.normal(size=len(T)) for x0 in starts]
    return Dataset(tuple(Trajectory(T, x[:, None], name=f"r{k}") for k, x in enumerate(records)), ("x",))


def law(text: str) -> Equations:
    return Equations.parse({"x": text}, ("x",))


def peer(name: str, found: RightHandSide | Exception, seen: list[Dataset] | None = None) -> Peer:
    """A method that finds what it is told to."""

    def run(data: Dataset, seed: int, seconds: float) -> RightHandSide:
        if seen is not None:
            seen.append(data)
        if isinstance(found, Exception):
            raise found
        return found

    return Peer(name, name, "numpy", run)


def contender(name: str, error: float, size: int) -> Contender:
    scored = Score(error, 1.0, Status.OK)
    return Contender(name, law("-0.3*x"), scored, scored, None, size, 1.0, "")


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> list[Dataset]:
    """Replace eqdisc's search by one that finds decay at once, and keep what it was given."""
    seen: list[Dataset] = []

    def discover(data: Dataset, config: Any, **_: Any) -> Any:
        seen.append(data)
        return discovery_of(data)

    module = ModuleType("eqdisc.discovery")
    module.discover = discover  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "eqdisc.discovery", module)
    return seen


# The split and the judging


def test_all_methods_see_the_same_and_not_what_is_held_out(search: list[Dataset]) -> None:
    data, seen = decays(2.0, 1.0, 3.0), []
    found = compare(data, peers=[peer("a", law("-0.3*x"), seen), peer("b", law("-0.3*x"), seen)])
    assert seen[0] is seen[1] is search[0] is found.split.train
    assert search[0].sizes == (30, 30)
    assert found.split.later is not None
    assert found.split.new_start is not None
    assert found.split.later.sizes == (10, 10)
    assert [k.name for k in found.split.new_start.trajectories] == ["r2"]


def test_one_record_has_no_new_start_and_a_short_one_is_refused() -> None:
    assert split(decays(2.0)).new_start is None
    short = Dataset((decays(2.0).trajectories[0].cut(0, 8),), ("x",))
    with pytest.raises(DataError, match="8 samples are too few"):
        split(short)


def test_the_true_law_errs_by_the_noise_and_a_wrong_one_by_more(search: list[Dataset]) -> None:
    found = compare(decays(2.0, 1.0, 3.0), peers=[peer("wrong", law("-0.36*x"))])
    true, wrong = found.contenders
    # 120 samples tell a standard deviation to 6 %, smoothing takes a few per cent more
    assert found.sigma == pytest.approx([NOISE], rel=0.25)
    for part in (true.fitted, true.later, true.new_start):
        assert part is not None
        assert part.error == pytest.approx(NOISE / found.sigma[0], rel=0.35)
    assert wrong.unseen > 2 * true.unseen


def test_settle_finds_the_start_that_fits_best() -> None:
    x = (2.0 * np.exp(-0.5 * T))[:, None]
    found = settle(law("-0.5*x"), Stretch(np.array([1.5]), T, x), np.array([0.01]))
    assert_allclose(found, [2.0], rtol=1e-6)


def test_settle_keeps_its_guess_where_the_law_breaks_off() -> None:
    found = settle(law("x**2"), Stretch(np.array([1.0]), T, np.ones((len(T), 1))), np.array([0.01]))
    assert_allclose(found, [1.0])


def test_cut_loses_no_sample() -> None:
    record = decays(2.0).trajectories[0]
    for horizon in (0.5, 1.3, 4.0, math.inf):
        assert_allclose(np.concatenate([k.t for k in cut(record, horizon)]), record.t)


def test_numbers_are_coefficients_and_what_else_was_adjusted() -> None:
    assert count_numbers(law("x - 2*x**2 + sqrt(x)")) == 3
    assert count_numbers(law("0.4*x**0.71/(x**2 + 3.5)")) == 3


# Methods that fail


def test_a_method_that_fails_or_diverges_is_a_row(search: list[Dataset]) -> None:
    peers = [peer("broken", ValueError("no convergence\nat all")), peer("wild", law("x**2"))]
    found = compare(decays(2.0, 1.0), peers=peers)
    _, broken, wild = found.contenders
    assert broken.note == "failed: ValueError: no convergence"
    assert wild.unseen == math.inf
    assert wild.note.startswith(("diverged at", "step underflow at"))
    text = write_comparison(found)
    assert "no convergence" in text
    assert found.conclusion == "No other method followed what was held out."
    json.dumps(found.facts(), allow_nan=False)


def test_a_search_that_finds_nothing_is_a_row_too(search: list[Dataset], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(data: Dataset, config: Any, **_: Any) -> Any:
        raise DataError("no equation could be fitted.")

    monkeypatch.setattr(sys.modules["eqdisc.discovery"], "discover", refuse)
    found = compare(decays(2.0), peers=[peer("a", law("-0.3*x"))])
    assert found.contenders[0].note == "failed: no equation could be fitted."
    assert found.conclusion.startswith("eqdisc's law does not follow what was held out; a comes nearest")


def test_what_is_not_installed_is_said_once_and_the_others_run(search: list[Dataset]) -> None:
    absent = replace(PEERS[0], module="no_such_library")
    found = compare(decays(2.0), peers=[absent, replace(absent, name="again"), peer("a", law("-0.3*x"))])
    assert found.missing == ("PySINDy is not installed; pip install 'eqdisc[compare]'",)
    assert [c.name for c in found.contenders] == ["eqdisc", "a"]
    assert found.missing[0] in write_comparison(found)


def test_every_peer_says_what_installs_it() -> None:
    lines = list_missing([replace(p, module="no_such_library") for p in PEERS])
    assert len(lines) == 4
    assert all("pip install" in line for line in lines)


# The sentence


@pytest.mark.parametrize(
    ("error", "size", "sentence"),
    [
        (
            1.02,
            4,
            "a suffices here: it follows what was held out about as well as eqdisc (error 1.02 to 1, 4 numbers to 4).",
        ),
        (
            1.02,
            9,
            "a follows what was held out about as well as eqdisc, but not as simply (error 1.02 to 1, 9 numbers to 4).",
        ),
        (
            1.9,
            3,
            "No other method follows what was held out as well as eqdisc; a comes nearest (error 1.9 to 1, 3 numbers to 4).",
        ),
    ],
)
def test_the_sentence_weighs_error_and_size(error: float, size: int, sentence: str) -> None:
    assert conclude([contender("eqdisc", 1.0, 4), contender("a", error, size)], 200) == sentence


def test_a_better_method_is_named_even_if_it_is_larger() -> None:
    said = conclude([contender("eqdisc", 3.0, 4), contender("a", 1.0, 900)], 200)
    assert said == "a follows what was held out better than eqdisc (error 1 to 3, 900 numbers to 4)."


def test_below_the_noise_no_error_is_better_than_another() -> None:
    said = conclude([contender("eqdisc", 1e-6, 4), contender("a", 0.3, 4)], 200)
    assert said.startswith("a suffices here")


# The peers


@pytest.mark.parametrize("name", ["PySINDy, powers", "PySINDy, polynomials"])
def test_pysindy_recovers_a_predator_and_its_prey(name: str) -> None:
    pytest.importorskip("sklearn")
    data = simulate_system("lotka_volterra")
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    found = next(p for p in PEERS if p.name == name).fit(data, 0, 10.0)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    truth = catalogue()["lotka_volterra"].law
    x = data.stacked()
    assert count_numbers(found) == 4
    assert_allclose(found.function()(0.0, x), truth.function()(0.0, x), rtol=1e-3, atol=1e-3)


def test_a_network_follows_decay(search: list[Dataset]) -> None:
    found = next(p for p in PEERS if p.name == "neural ODE").fit(decays(2.0), 0, 5.0)
    x = np.array([[0.8], [1.5]])
    assert_allclose(found.function()(0.0, x), -RATE * x, rtol=0.1)  # 1 % noise on forty samples
    assert count_numbers(found) == 2 * 32 + 32 * 33 + 33


def test_pysr_is_asked_for_one_formula_a_state(monkeypatch: pytest.MonkeyPatch) -> None:
    class Regressor:
        def __init__(self, **options: Any) -> None:
            self.options = options

        def fit(self, x: np.ndarray, y: np.ndarray, variable_names: list[str]) -> Any:
            self.slope = float((x[:, 0] @ y) / (x[:, 0] @ x[:, 0]))
            assert variable_names == ["x0"]
            return self

        def get_best(self) -> dict[str, str]:
            return {"equation": f"({self.slope!r} * x0) + 0.0 * (x0 ^ 0.5)".replace("np.float64", "")}

    module = ModuleType("pysr")
    module.PySRRegressor = Regressor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pysr", module)
    found = next(p for p in PEERS if p.name == "PySR").fit(decays(2.0, noise=0.0), 0, 5.0)
    assert_allclose(found.function()(0.0, np.array([1.5])), [-RATE * 1.5], rtol=1e-3)


@pytest.mark.slow
def test_operon_finds_a_law_of_decay() -> None:
    pytest.importorskip("pyoperon")
    found = next(p for p in PEERS if p.name == "Operon").fit(decays(2.0, noise=0.0), 0, 6.0)
    x = np.array([[0.8], [1.5]])
    assert_allclose(found.function()(0.0, x), -RATE * x, rtol=0.01)


# The command


def test_the_command_prints_a_table_and_saves_it(
    search: list[Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(comparison, "PEERS", (peer("a", law("-0.3*x")), peer("b", ValueError("no"))))
    table, out = tmp_path / "decay.csv", tmp_path / "out"
    write_table(decays(2.0, 1.0), table)
    assert main(["compare", str(table), "--out", str(out), "--json"]) == FOUND
    printed, told = capsys.readouterr()
    facts = json.loads(printed)
    assert [row["method"] for row in facts["methods"]] == ["eqdisc", "a", "b"]
    assert facts["methods"][0]["note"] == "identified"
    assert facts["methods"][1]["equations"] == ["dx/dt = -0.3·x"]
    assert facts["split"] == {"fitted": 30, "later": 10, "new_start": "r1"}
    assert facts["conclusion"].startswith("a suffices here")
    assert "a 1/3" in told
    assert (out / "comparison.csv").read_text(encoding="utf-8").startswith("method,fitted,later,new_start,size")
    assert (out / "comparison.png").stat().st_size > 10_000


def test_the_picture_has_a_column_a_record_and_a_line_a_method(search: list[Dataset]) -> None:
    found = compare(decays(2.0, 1.0), peers=[peer("a", law("-0.3*x"))])
    figure = plot_comparison(found)
    assert len(figure.axes) == 2
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["eqdisc", "a"]
    assert all(ax.patches for ax in figure.axes)  # what was held out is shaded


def test_what_cannot_be_compared_is_refused_in_one_sentence(
    search: list[Dataset], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "decay.csv"
    write_table(decays(2.0), table)
    assert main(["compare", str(table), "--time-limit", "0"]) == UNUSABLE
    assert "--time-limit is 0" in capsys.readouterr().err
    assert main(["compare", str(table), "--seed", "-1"]) == UNUSABLE
    assert "--seed is -1" in capsys.readouterr().err


@pytest.mark.slow
def test_on_a_predator_and_its_prey_pysindy_suffices() -> None:
    pytest.importorskip("pysindy")
    found = compare(simulate_system("lotka_volterra"), peers=PEERS[:2])
    assert "suffices here" in found.conclusion
    assert [c.size for c in found.contenders] == [4, 4, 4]
