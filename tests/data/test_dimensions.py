"""Dimensions: the unit of every coefficient by algebra, and which terms may be added."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from eqdisc.cli import FOUND, main
from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.data.dimensions import Dimensions, parse_unit, read_units, write_unit
from eqdisc.data.tables import as_dataset, read_table, write_table
from eqdisc.discovery import discover
from eqdisc.law.catalogue import simulate_system
from eqdisc.law.terms import Terms
from eqdisc.work.config import FitConfig
from eqdisc.work.errors import OptionError

PERSONS = {"S": "persons", "I": "persons", "R": "persons", "t": "day"}


def dimensions(*units: str, time: str = "day") -> Dimensions:
    return Dimensions(tuple(map(parse_unit, units)), parse_unit(time))


@pytest.mark.parametrize(
    ("row", "unit"),
    [
        ([1.0, 0.0], "1/d"),
        ([0.5, 0.5], "1/d"),
        ([1.0, 1.0], "1/d/persons"),
        ([0.0, 0.0], "persons/d"),
        ([0.41, 0.0], "persons^0.59/d"),
        (Terms.of([[1.0, 0.0]], [[1.0, 0.0]], [0.3]).effective[0], "persons/d"),  # S / (K + S)
    ],
)
def test_a_coefficient_has_the_unit_that_the_term_leaves(row: list[float], unit: str) -> None:
    assert dimensions("persons", "persons").of_coefficient(np.array(row), 0) == unit


def test_a_coefficient_beside_a_column_without_unit_has_none() -> None:
    some = Dimensions((parse_unit("g"), None), parse_unit("h"))
    assert some.of_coefficient(np.array([1.0, 0.0]), 0) == "1/h"
    assert some.of_coefficient(np.array([1.0, 1.0]), 0) == ""


@pytest.mark.parametrize("text", ["mg/L", "m s-1", "m s^-1", "kg m / s^2", "µg", "hares", "1/day", "°C", "umol/m^2/s"])
def test_what_scientists_write_is_read(text: str) -> None:
    unit = parse_unit(text)
    assert parse_unit(write_unit(unit)) == unit
    assert "(" not in write_unit(unit)


@pytest.mark.parametrize("text", ["9**9**9**9", "10^3 ha", "__import__('os')", "m" * 500, "x; y", "(((("])
def test_what_is_no_unit_is_one_of_its_own(text: str) -> None:
    assert write_unit(parse_unit(text)) == text
    assert parse_unit(text).dimensionality != parse_unit("m").dimensionality


def test_terms_may_be_added_whose_coefficients_are_rates() -> None:
    two = dimensions("m", "m/s", time="s")
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0], [0.5, 0.5], [0.0, 0.0]])
    assert two.agree(rows, 1).tolist() == [True, True, False, True, False]
    near = np.array([[0.9, 0.0], [0.45, 0.61]])
    settled = near - two.miss(near, 0)
    assert two.agree(settled, 0).all()
    assert np.abs(settled - [[0.95, 0.05], [0.42, 0.58]]).max() < 1e-9


def test_units_come_from_the_header_and_from_words(tmp_path: Path) -> None:
    path = tmp_path / "fsir.csv"
    write_table(simulate_system("fsir"), path)
    data = read_table(path, units="S=persons,I=persons")
    assert data.units == {"S": "persons", "I": "persons"}
    with pytest.raises(OptionError, match="--units names 'Q', but the columns are t, S, I, R"):
        read_units("Q=m", data)
    with pytest.raises(OptionError, match="write each column with its unit, such as S=persons,t=day"):
        read_table(path, units="S")
    with pytest.raises(OptionError, match="dimensional needs the unit of every column; give that of t, R with --units"):
        discover(data, FitConfig(dimensional=True))


def test_the_command_prints_coefficients_with_their_units(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    t = np.linspace(0, 5, 30)
    path, run = tmp_path / "decay.csv", tmp_path / "run"
    write_table(Dataset((Trajectory(t, 3 / (1 + 1.5 * t)[:, None]),), states=("A",), units={"A": "mol/L"}), path)
    assert main(["fit", str(path), "--units", "t=min", "--out", str(run), "--quiet"]) == FOUND
    assert "-0.5 l/min/mol" in capsys.readouterr().out
    assert json.loads((run / "result.json").read_text())["parameters"][0]["unit"] == "l/min/mol"


def test_a_dimensional_law_has_rates_alone() -> None:
    data = as_dataset(simulate_system("fsir", noise=0.02, seed=1).to_frame(), units=PERSONS)
    found = discover(data, FitConfig(dimensional=True))
    assert {p.unit for p in found.parameters if p.name[0] == "k"} == {"1/d"}
    assert "sqrt(I*S)" in found.equations.strings()["S"]
