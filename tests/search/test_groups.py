"""Groups: one law, and which of its coefficients differ from group to group."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from rows import law_of
from scipy.integrate import solve_ivp

from eqdisc import Discovery, discover
from eqdisc.cli import FOUND, UNUSABLE, main
from eqdisc.data.tables import as_dataset, read_table, write_table
from eqdisc.law.equations import Equations, law_of_group
from eqdisc.search.groups import encode_groups
from eqdisc.work.errors import DataError

RATES = (0.5, 0.8, 1.1, 0.65, 0.9, 0.7)


def growth(rates: tuple[float, ...], losses: tuple[float, ...], points: int, noise: float = 0.2) -> pd.DataFrame:
    """Return a table of logistic growth, dV/dt = r V - l V^2, of one subject for each rate."""
    rng, rows = np.random.default_rng(0), []
    t = np.linspace(0, 10, points)
    for name, (r, loss) in enumerate(zip(rates, losses, strict=True)):
        start = rng.uniform(0.3, 2)
        x = solve_ivp(lambda _, y, r=r, c=loss: r * y - c * y * y, (0, 10), [start], t_eval=t, rtol=1e-10).y[0]
        rows += [(f"m{name + 1}", a, b) for a, b in zip(t, x + noise * rng.normal(size=points), strict=True)]
    return pd.DataFrame(rows, columns=["subject", "t", "V"])


def powers_of(found: Discovery) -> list[str]:
    return sorted({p.term for p in found.parameters})


# The table


def test_groups_without_trajectories_are_one_record_each(tmp_path: Path) -> None:
    data = as_dataset(growth(RATES, (0.05,) * 6, 5), group="subject")
    assert data.groups == ("m1", "m2", "m3", "m4", "m5", "m6")
    assert [k.name for k in data.trajectories] == [k.group for k in data.trajectories]
    write_table(data, tmp_path / "a.csv")
    again = read_table(tmp_path / "a.csv", group="subject")
    assert again.groups == data.groups
    assert_allclose(again.stacked(), data.stacked(), rtol=0)


def test_records_of_one_name_in_several_groups_are_told_apart() -> None:
    table = growth(RATES[:2], (0.05,) * 2, 5)
    both = pd.concat([table.assign(trajectory=1), table.assign(trajectory=2)])
    data = as_dataset(both, group="subject")
    assert [(k.name, k.group) for k in data.trajectories] == [
        ("m1/1", "m1"),
        ("m2/1", "m2"),
        ("m1/2", "m1"),
        ("m2/2", "m2"),
    ]


def test_a_group_is_a_column_that_is_there_and_has_no_other_role() -> None:
    table = growth(RATES[:2], (0.05,) * 2, 5)
    with pytest.raises(DataError, match="--group names 'mouse'"):
        as_dataset(table, group="mouse")
    with pytest.raises(DataError, match="cannot be the group and the time too"):
        as_dataset(table, time="t", group="t")


def test_one_group_is_no_group() -> None:
    data = as_dataset(growth(RATES[:1], (0.05,), 5), group="subject")
    assert encode_groups(data) is data


# The law


def test_the_law_of_a_group_has_its_coefficients_and_the_typical_one_their_geometric_mean() -> None:
    marked = Equations.of(law_of([[1.0, math.log(4.0)]], [[-0.5, 0.0]]), ("x", "g=b"), inputs=1)
    laws = [law_of_group(marked, ("a", "b"), g).strings()["x"] for g in ("a", "b", None)]
    assert laws == ["-0.5*x", "-2*x", "-1*x"] or laws == ["-0.5*x", "-2*x", "-x"]


def test_a_coefficient_that_differs_is_marked_and_one_that_does_not_is_shared() -> None:
    found = discover(as_dataset(growth(RATES, (0.05,) * 6, 12), group="subject"))
    assert powers_of(found) == ["V", "V**2"]
    own = {p.group: p for p in found.parameters if p.term == "V" and p.name[0] == "k"}
    assert list(own) == [f"m{k}" for k in range(1, 7)]
    assert_allclose([own[g].value for g in own], RATES, rtol=0.05)
    shared = [p for p in found.parameters if p.term == "V**2" and p.name[0] == "k"]
    assert [p.group for p in shared] == [""]
    assert_allclose(shared[0].value, -0.05, rtol=0.05)


def test_where_no_coefficient_differs_none_is_marked_and_the_command_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, run = tmp_path / "growth.csv", tmp_path / "run"
    growth((0.8,) * 4, (0.05,) * 4, 12).to_csv(table, index=False)
    assert main(["fit", str(table), "--group", "subject", "--out", str(run), "--quiet"]) == FOUND
    assert "no coefficient differs between the 4 groups of 'subject'" in capsys.readouterr().out
    result = json.loads((run / "result.json").read_text())
    assert result["group"] == "subject"
    assert len({facts["equations"]["V"] for facts in result["groups"].values()}) == 1
    assert not any("group" in p for p in result["parameters"])


@pytest.mark.slow
def test_a_run_of_twenty_groups_of_eight_marks_both_coefficients_and_is_read_by_every_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(5)
    rates, losses = (tuple(c * np.exp(0.4 * rng.normal(size=20))) for c in (0.8, 0.05))
    table, run = tmp_path / "growth.csv", tmp_path / "run"
    growth(rates, losses, 8, noise=0.1).to_csv(table, index=False)
    assert main(["fit", str(table), "--group", "subject", "--out", str(run), "--quiet"]) == FOUND
    assert "differs between the 20 groups" in capsys.readouterr().out
    result = json.loads((run / "result.json").read_text())
    for term, truth in (("V", np.array(rates)), ("V**2", -np.array(losses))):
        own = [p for p in result["parameters"] if p["term"] == term]
        assert [p["group"] for p in own] == [f"m{k}" for k in range(1, 21)]
        assert np.median(np.abs(np.array([p["value"] for p in own]) / truth - 1)) < 0.1
    assert main(["validate", str(run), str(table), "--json"]) == FOUND
    assert json.loads(capsys.readouterr().out)["error"] < 3
    assert main(["report", str(run)]) == FOUND
    assert main(["export", str(run), "--to", "python"]) == UNUSABLE
    other = tmp_path / "other.csv"
    growth((0.5,), (0.05,), 8).assign(subject="m99").to_csv(other, index=False)
    assert main(["validate", str(run), str(other)]) == UNUSABLE
    assert "has no coefficients for group 'm99'" in capsys.readouterr().err
