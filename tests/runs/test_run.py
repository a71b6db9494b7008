"""Run folders: complete at every moment, read again to the last digit, and never written over."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stand_in import RATE, discovery_of

from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.runs.folder import FILES, create_run, default_folder, refuse_taken
from eqdisc.runs.run import Run, load
from eqdisc.work.config import FitConfig
from eqdisc.work.errors import FormulaError, OptionError, RunError
from eqdisc.work.files import as_json, replacing
from eqdisc.work.status import Status


@pytest.fixture
def data() -> Dataset:
    t = np.array([0.0, 0.5, 2.0, 3.5])
    x = np.exp(-np.outer(t, [RATE, RATE])) * [3.0, 1.0]
    x[1, 1] = np.nan
    pieces = (Trajectory(t, x, name="a"), Trajectory(t + 1, 2 * x, name="b"))
    return Dataset(pieces, ("S", "Western Urban"), time="year", units={"S": "mg"})


@pytest.fixture
def run(data: Dataset, tmp_path: Path) -> Run:
    folder = create_run(tmp_path / "run", data, FitConfig(seed=4))
    folder.write_discovery(discovery_of(data))
    return load(tmp_path / "run")


def test_config_and_data_are_there_before_the_search(data: Dataset, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("t,S\n0,1\n")
    create_run(tmp_path / "run", data, FitConfig(seed=4), source=table, words=["eqdisc", "fit", "table.csv"])
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["config.json", "data.csv"]
    about = json.loads((tmp_path / "run/config.json").read_text())
    assert about["config"]["seed"] == 4
    assert about["command"][1] == "fit"
    assert len(about["data"]["sha256"]) == 64
    assert about["versions"]["torch"]


def test_a_finished_folder_holds_what_the_contract_lists(run: Run) -> None:
    names = {p.name for p in run.folder.iterdir()}
    assert names == {"config.json", "data.csv", "result.json", "equations.tex", "front.csv", "fit.png"}
    assert names <= set(FILES)


def test_what_was_fitted_is_read_again_to_the_last_bit(run: Run, data: Dataset) -> None:
    assert run.data.states == data.states
    assert run.data.time == "year"
    for mine, theirs in zip(run.data.trajectories, data.trajectories, strict=True):
        assert mine.name == theirs.name
        np.testing.assert_array_equal(mine.t, theirs.t)
        np.testing.assert_array_equal(mine.x, theirs.x)


def test_the_law_is_read_again_to_the_last_digit_under_its_symbols(run: Run) -> None:
    assert run.equations.strings()["Western_Urban"] == f"-{RATE!r}*Western_Urban"
    assert run.symbols == ("S", "Western_Urban")


def test_every_trajectory_is_simulated_from_its_start_at_its_times(run: Run, data: Dataset) -> None:
    curves = run.simulate()
    assert list(curves) == ["a", "b"]
    np.testing.assert_array_equal(curves["b"].t, data.trajectories[1].t)
    exact = 6 * np.exp(-RATE * (curves["b"].t - 1))
    np.testing.assert_allclose(curves["b"].x[:, 0], exact, rtol=1e-6)  # the solver runs at 1e-8
    assert curves["a"].status == Status.OK


def test_a_record_that_was_fitted_starts_where_the_fit_did_and_any_other_does_not(run: Run, data: Dataset) -> None:
    t, x = data.trajectories[1].t, data.trajectories[1].x
    for record in (Trajectory(t, x, "b"), Trajectory([*t, 9.0], [*x, [1.0, 1.0]], "b")):
        np.testing.assert_array_equal(run.start_fitted(record), run.start_of("b"))
    moved = x + np.eye(4, 2) * 1e-9
    for record in (Trajectory(t, moved, "b"), Trajectory(t, x, "c"), Trajectory(t[:-1], x[:-1], "b")):
        assert run.start_fitted(record) is None


def test_a_simulation_from_elsewhere_keeps_the_starts_it_is_not_given(run: Run) -> None:
    curve = run.simulate({"S": 8.0}, t_end=10.0)["0"]
    np.testing.assert_allclose(curve.x[0], [8.0, 1.0])
    assert (curve.t[0], curve.t[-1]) == (0.0, 10.0)
    with pytest.raises(OptionError, match=r"--x0 names 's', but the states are S, Western Urban.*"):
        run.simulate({"s": 8.0})
    with pytest.raises(OptionError, match="does not lie after the first time, 0"):
        run.simulate(t_end=-1.0)


def test_the_front_is_a_table_with_the_pick_marked(run: Run) -> None:
    with (run.folder / "front.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["pick"] for row in rows] == ["0", "1"]
    assert rows[0]["train"] == ""  # it broke off: there is no error
    assert rows[1]["dS/dt"] == f"-{RATE!r}*S"


def test_latex_is_an_align_environment_with_all_digits(run: Run) -> None:
    text = (run.folder / "equations.tex").read_text()
    assert text.count(r"\frac{d ") == 2
    assert repr(RATE) in text
    assert text.rstrip().endswith(r"\end{align}")


def test_result_json_is_strict_json_with_the_hash_of_the_table(run: Run) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    result = json.loads((run.folder / "result.json").read_text(), parse_constant=refuse)
    assert len(result["data"]["sha256"]) == 64
    assert result["front"][0]["train"] is None


def test_a_result_can_be_configured_again(run: Run) -> None:
    assert run.config == FitConfig()


def test_a_folder_with_a_run_is_refused_and_an_empty_or_other_one_is_not(
    run: Run, data: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=r"holds a run already; name another folder with --out or remove it"):
        create_run(run.folder, data, FitConfig())
    (tmp_path / "empty").mkdir()
    refuse_taken(tmp_path / "empty")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/notes.txt").write_text("mine")
    refuse_taken(tmp_path / "notes")
    (tmp_path / "notes/data.csv").write_text("mine")
    with pytest.raises(OptionError, match=r"holds a data\.csv that the run would overwrite"):
        refuse_taken(tmp_path / "notes")
    with pytest.raises(OptionError, match="is a file; name a folder"):
        refuse_taken(tmp_path / "notes/notes.txt")


def test_an_unfinished_run_is_refused_too(data: Dataset, tmp_path: Path) -> None:
    create_run(tmp_path / "run", data, FitConfig())
    with pytest.raises(OptionError, match="holds a run without a result"):
        refuse_taken(tmp_path / "run")


def test_a_refusal_leaves_no_folder_but_keeps_what_was_there(data: Dataset, tmp_path: Path) -> None:
    create_run(tmp_path / "run", data, FitConfig()).discard()
    assert not (tmp_path / "run").exists()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/notes.txt").write_text("mine")
    create_run(tmp_path / "notes", data, FitConfig()).discard()
    assert [p.name for p in (tmp_path / "notes").iterdir()] == ["notes.txt"]


def test_default_folders_never_collide(tmp_path: Path) -> None:
    first = default_folder("data/fsir.csv", tmp_path)
    first.mkdir()
    assert first.name.startswith("fsir-")
    assert default_folder("data/fsir.csv", tmp_path) != first


def test_a_write_that_fails_leaves_the_former_file(tmp_path: Path) -> None:
    place = tmp_path / "a.txt"
    place.write_text("former")

    def fail() -> None:
        with replacing(place) as draft:
            draft.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.txt", "former")]


def test_the_checkpoint_goes_with_a_finished_search_and_stays_with_an_interrupted_one(
    data: Dataset, tmp_path: Path
) -> None:
    for keep in (False, True):
        folder = create_run(tmp_path / str(keep), data, FitConfig())
        folder.steps.parent.mkdir()
        folder.steps.write_text("steps")
        folder.write_discovery(discovery_of(data), keep_checkpoint=keep)
        assert (folder.path / "checkpoint").exists() == keep


def test_folders_that_are_no_finished_runs_are_refused_in_a_sentence(run: Run, data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there is no folder .*rum\. Did you mean '.*run'"):
        load(tmp_path / "rum")
    create_run(tmp_path / "going", data, FitConfig())
    with pytest.raises(RunError, match=r"has no result yet; its fit still runs, or eqdisc resume .* goes on with it"):
        load(tmp_path / "going")
    (tmp_path / "other").mkdir()
    with pytest.raises(RunError, match="is not a run of eqdisc"):
        load(tmp_path / "other")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 9}, "has format 9; eqdisc .* reads format 1"),
        ({"verdict": None}, "lacks 'verdict'"),
        (None, "is not a result of eqdisc"),
    ],
)
def test_results_that_cannot_be_read_are_refused_in_a_sentence(
    run: Run, change: dict[str, Any] | None, message: str
) -> None:
    place = run.folder / "result.json"
    result = json.loads(place.read_text())
    for key, value in (change or {}).items():
        if value is None:
            del result[key]
        else:
            result[key] = value
    place.write_text("{" if change is None else json.dumps(result))
    with pytest.raises(RunError, match=message):
        load(run.folder)


def test_a_formula_in_a_result_is_parsed_and_never_executed(run: Run, tmp_path: Path) -> None:
    place = run.folder / "result.json"
    result = json.loads(place.read_text())
    result["equations"]["S"] = f"open({str(tmp_path / 'owned')!r}, 'w')"
    place.write_text(json.dumps(result))
    with pytest.raises(FormulaError):
        load(run.folder).equations  # noqa: B018
    assert not (tmp_path / "owned").exists()


def test_json_has_no_numbers_that_are_not_numbers() -> None:
    assert as_json({"a": [float("inf"), np.int64(3), np.bool_(True), {1}]}) == {"a": [None, 3, True, [1]]}


def test_the_chain_that_the_law_was_read_from_is_kept(data: Dataset, tmp_path: Path) -> None:
    import torch

    from eqdisc.units.chain import Chain, load_chain

    terms = torch.eye(2, dtype=torch.float64)[None], -RATE * torch.eye(2, dtype=torch.float64)[None]
    found = discovery_of(data)
    found.chain = Chain.from_terms(*terms)
    create_run(tmp_path / "run", data, FitConfig()).write_discovery(found)
    x = torch.rand(1, 5, 2, dtype=torch.float64)
    torch.testing.assert_close(load_chain(tmp_path / "run/field.safetensors")(x), found.chain(x), rtol=0, atol=0)
