"""Benchmarks: scoring is strict, an ingredient that is left out comes back, the command writes its table."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from eqdisc import Equations, Parameter, catalogue
from eqdisc.benchmarks import blanks, descent, engines, fuzzing
from eqdisc.benchmarks.ablation import INGREDIENTS, Ingredient, main, without
from eqdisc.benchmarks.comparison import main as compare_peers
from eqdisc.benchmarks.coverage import Number, compare, write_table
from eqdisc.benchmarks.scoring import recovered
from eqdisc.peers import Peer, comparison
from eqdisc.search import rounds

TRUTH = Equations.parse({"S": "-0.06*S**0.5*I**0.5", "I": "0.06*S**0.5*I**0.5 - 0.05*I"}, ("S", "I"))
MIDDLE = np.array([20.0, 5.0])


@pytest.mark.parametrize(
    ("s", "i", "right"),
    [
        ("-0.06*S**0.5*I**0.5", "0.06*S**0.5*I**0.5 - 0.05*I", True),
        ("-0.0603*S**0.52*I**0.48", "0.06*S**0.5*I**0.5 - 0.052*I", True),
        ("-0.07*S**0.5*I**0.5", "0.06*S**0.5*I**0.5 - 0.05*I", False),
        ("-0.06*S**0.5*I**0.5", "0.06*S**0.5*I**0.5 - 0.05*I + 0.001*S", False),
        ("-0.06*S**0.6*I**0.4", "0.06*S**0.5*I**0.5 - 0.05*I", False),
        ("-0.06*S**0.5*I**0.5/(1 + S)", "0.06*S**0.5*I**0.5 - 0.05*I", False),
    ],
)
def test_a_law_is_recovered_when_every_term_is(s: str, i: str, right: bool) -> None:
    assert recovered(Equations.parse({"S": s, "I": i}, ("S", "I")), TRUTH, MIDDLE) is right


@pytest.mark.parametrize("ingredient", INGREDIENTS, ids=lambda i: i.title)
def test_every_ingredient_can_be_left_out_and_comes_back(ingredient: Ingredient) -> None:
    before = rounds.ROUNDS, rounds.ALIVE, rounds.shared_terms
    with without(ingredient):
        pass
    assert (rounds.ROUNDS, rounds.ALIVE, rounds.shared_terms) == before


def test_the_command_writes_a_table(tmp_path: Path) -> None:
    out = tmp_path / "table.md"
    main(["--systems", "west", "--noise", "0", "--seeds", "0", "--only", "nothing", "rounds", "--out", str(out)])
    lines = out.read_text().splitlines()
    assert lines[0].startswith("| left out")
    assert "| nothing (the whole search) | 1 | 1 |" in lines[2]
    assert len(lines) == 4


def test_a_number_without_a_counterpart_counts_as_missed_only_over_all_fits() -> None:
    law = Equations.parse({"x": "-0.5*x", "y": "0.5*x - 0.1*y"}, ("x", "y"))
    shared = Parameter("k1", 0.51, (0.49, 0.53), "", "x, y", "x")
    assert list(compare(law, [shared])) == [
        ("coefficient", "x", -0.5, True),
        ("coefficient", "y", 0.5, True),
        ("coefficient", "y", -0.1, None),
        ("exponent", "y", 1.0, None),
    ]
    chosen = Parameter("p1", 1.0, (0.9, 1.2), "", "power of x in x, y", "x", chosen=True)
    assert ("chosen exponent", "x", 1.0, True) in list(compare(law, [shared, chosen]))


def test_the_coverage_table_counts_each_question_apart() -> None:
    rows = [Number("west", s, q, "coefficient", "m", 1.0, s < 9) for s in range(10) for q in ("before snapping",)]
    rows += [Number("west", s, "over all fits", "coefficient", "m", 1.0, s < 5) for s in range(10)]
    table = write_table(rows)
    assert "| all | 90 % (" in table
    assert "| - | 50 % (" in table


def test_the_comparison_with_peers_writes_its_table_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = Peer("true", "true", "numpy", lambda data, seed, seconds: catalogue()["west"].law)
    monkeypatch.setattr(comparison, "PEERS", (true,))
    words = ["--systems", "west", "--noise", "0.01", "--out", str(tmp_path)]
    compare_peers(words)
    rows = (tmp_path / "rows.csv").read_text().splitlines()
    assert [row.split(",")[:5] for row in rows[1:]][1] == ["west", "0.01", "true", "1", "1"]
    lines = (tmp_path / "summary.md").read_text().splitlines()
    assert lines[6].startswith("| 0.01 | eqdisc | ")
    assert lines[7].startswith("| 0.01 | true | 100 % (1/1) | 100 % (1/1) | ")
    compare_peers(words)
    assert (tmp_path / "rows.csv").read_text().splitlines() == rows


def test_steps_of_second_order_end_lower_than_as_many_of_adam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descent, "LANES", 4)
    curves = descent.compare(0.0, steps=40)
    table = descent.tabulate(0.0, curves).set_index(["stage", "method"])["median"]
    for stage in ("matching", "through the ODE"):
        assert table[stage, "Levenberg-Marquardt"] < table[stage, "Adam"] - 2.0
    descent.draw({0.0: curves}, tmp_path / "descent.png")
    assert (tmp_path / "descent.png").stat().st_size > 10_000


def test_the_rule_is_timed_in_both_forms() -> None:
    (row,) = engines.compare(1, [(2, 1, 9, 2, 3)])
    assert min(row[f"{what} {road}"] for what in ("defects", "columns") for road in ("compiled", "torch")) > 0


@pytest.mark.parametrize("name", fuzzing.AFRESH)
def test_what_is_read_anew_under_instrumentation_is_there(name: str) -> None:
    assert find_spec(f"eqdisc.{name}") is not None


def test_a_blank_is_not_claimed_and_the_table_counts_it() -> None:
    found = blanks.measure("noise", 0)
    claim = blanks.Blank("walk", 1, "identified", "it fits", 1.0)
    table = blanks.write_table([found, claim])
    assert found.word == "not identified"
    assert "| noise | 1 | 0 | 0 | 1 | 0 |" in table
    assert "- claimed: walk 1: it fits" in table


@pytest.mark.parametrize("kind", blanks.KINDS)
def test_blanks_differ_by_seed_and_are_the_same_again(kind: str) -> None:
    one, again, other = (blanks.draw(kind, seed).trajectories[0].x for seed in (4, 4, 5))
    assert_array_equal(one, again)
    assert one.shape != other.shape or (one != other).all()
