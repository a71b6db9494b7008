"""The estimator: scikit-learn's own checks, the law that a search without it would find, and refusals in one sentence."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.model_selection import LeaveOneGroupOut, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from eqdisc import EqdiscError, EquationDiscovery, FitConfig
from eqdisc.work.status import Status

BRIEF = 0.1  # seconds; noise is no law, and most checks fit noise
CHEAP = {  # checks that fit nothing
    "check_estimator_cloneable",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_estimator_repr",
    "check_no_attributes_set_in_init",
    "check_estimators_unfitted",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_mixin_order",
    "check_complex_data",
    "check_estimators_empty_data_messages",
    "check_estimator_sparse_tag",
    "check_estimator_sparse_array",
    "check_estimator_sparse_matrix",
    "check_parameters_default_constructible",
    "check_fit2d_1sample",
    "check_get_params_invariance",
    "check_set_params",
    "check_fit1d",
}
SAME_AGAIN = {  # checks that need two fits, or two orders of rows, to agree exactly; scikit-learn leaves them out under a time limit
    "check_fit_idempotent",
    "check_pipeline_consistency",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
}

T = np.linspace(0.0, 6.0, 40)
DECAY = np.stack([3.0 * np.exp(-0.5 * T), 3.0 - 3.0 * np.exp(-0.5 * T)], -1)


def _checks(chosen: Callable[[str], bool], time_limit: float | None = BRIEF) -> Any:
    """Return a decorator that runs scikit-learn's checks, those whose names are chosen; all hold, none is expected to fail."""
    every = parametrize_with_checks([EquationDiscovery(time_limit=time_limit)])
    return pytest.mark.parametrize(
        every.args[0], [p for p in every.args[1] if chosen(_name_of(p[1]))], ids=every.kwargs["ids"]
    )


def _name_of(check: Any) -> str:
    return _name_of(check.func) if isinstance(check, partial) else check.__name__


@_checks(lambda name: name in CHEAP)
def test_it_passes_the_checks_that_fit_nothing(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of what the checks try
@_checks(lambda name: name not in CHEAP | SAME_AGAIN)
def test_it_passes_the_checks_that_fit(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@_checks(lambda name: name in SAME_AGAIN, time_limit=None)
def test_it_passes_the_checks_that_want_the_same_again(estimator: Any, check: Any) -> None:
    check(estimator)


def test_the_checks_are_those_that_scikit_learn_has() -> None:
    tests = test_it_passes_the_checks_that_fit_nothing, test_it_passes_the_checks_that_want_the_same_again
    for test, names in zip(tests, (CHEAP, SAME_AGAIN), strict=True):
        (mark,) = (m for m in test.pytestmark if m.name == "parametrize")
        assert {_name_of(check) for _, check in mark.args[1]} == names


@pytest.fixture(scope="module")
def model() -> EquationDiscovery:
    return EquationDiscovery().fit(pd.DataFrame(DECAY, columns=["A", "B"]), t=T)


def test_it_finds_what_a_search_finds(model: EquationDiscovery) -> None:
    assert model.equations_.strings()["A"] == "-0.5*A"
    assert model.equations_ is model.discovery_.equations
    assert model.verdict_ == model.discovery_.verdict == "identified"
    assert model.n_features_in_ == 2
    assert list(model.feature_names_in_) == ["A", "B"]


def test_it_predicts_the_derivative_row_by_row(model: EquationDiscovery) -> None:
    x = pd.DataFrame({"A": [2.0, 0.0, np.nan], "B": [1.0, 1.0, 1.0]})
    np.testing.assert_allclose(model.predict(x)[:2], [[-1.0, 1.0], [0.0, 0.0]], atol=1e-12)
    assert np.isnan(model.predict(x)[2]).all()


def test_it_simulates_and_scores_records_that_it_never_saw(model: EquationDiscovery) -> None:
    curve = model.simulate([2.0, 1.0], [0.0, 2.0])
    assert curve.status is Status.OK
    assert curve.x[-1] == pytest.approx([2 * np.exp(-1), 3 - 2 * np.exp(-1)], rel=1e-6)  # rtol of `simulate`, 1e-8
    two = pd.DataFrame(np.concatenate([0.5 * DECAY, DECAY]), columns=["A", "B"])
    assert model.score(two, t=np.tile(T, 2), trajectory=np.repeat(["a", "b"], len(T))) > 0.999
    grows = pd.DataFrame(DECAY[::-1].copy(), columns=["A", "B"])
    assert model.score(grows, t=T) < 0.0


@pytest.mark.slow
def test_it_is_cross_validated_with_times_and_trajectories() -> None:
    rows, times, labels = np.concatenate([DECAY, 0.5 * DECAY, 2.0 * DECAY]), np.tile(T, 3), np.repeat([0, 1, 2], len(T))
    with config_context(enable_metadata_routing=True):
        model = EquationDiscovery().set_fit_request(t=True, trajectory=True).set_score_request(t=True, trajectory=True)
        roles = {"t": times, "trajectory": labels, "groups": labels}
        scores = cross_val_score(model, rows, cv=LeaveOneGroupOut(), params=roles, error_score="raise")
    assert scores == pytest.approx(1.0, abs=1e-6)  # exact data, an exact law


def test_a_fitted_one_can_be_pickled_after_it_was_used(model: EquationDiscovery) -> None:
    x = pd.DataFrame(DECAY, columns=["A", "B"])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(x), model.predict(x))


def test_its_parameters_are_those_of_the_configuration() -> None:
    known = {f.name: f.default for f in fields(FitConfig)}
    params = EquationDiscovery().get_params()
    assert params == {name: known[name] for name in params}


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"t": T[:-1]}, "t has shape .39,. for 40 rows"),
        ({"t": np.zeros(40)}, "time 0 stands twice"),
        ({"trajectory": np.zeros((40, 2))}, "trajectory has shape .40, 2. for 40 rows"),
        ({"X": pd.DataFrame({"t": T, "A": DECAY[:, 0]})}, r"fit\(X.drop\(columns='t'\), t=X\['t'\]\)"),
        ({"X": DECAY[:, 0]}, "Expected 2D array"),
        ({"X": DECAY[:3]}, "minimum of 4 is required"),
        ({"X": np.where(DECAY > 2.9, np.inf, DECAY)}, "infinity"),
        ({"X": np.ones((40, 1))}, "it never changes"),
    ],
)
def test_what_cannot_be_fitted_is_refused_as_scikit_learn_does(how: dict[str, Any], words: str) -> None:
    with pytest.raises(EqdiscError, match=words) as refusal:
        EquationDiscovery().fit(**{"X": DECAY} | how)
    assert isinstance(refusal.value, ValueError)


def test_a_wrong_parameter_is_refused_when_it_is_used() -> None:
    with pytest.raises(EqdiscError, match="search is 'propose'; use"):
        EquationDiscovery(search="propose").fit(DECAY)


def test_without_scikit_learn_the_name_says_what_to_install() -> None:
    code = "import sys; sys.modules['sklearn'] = None; import eqdisc; eqdisc.EquationDiscovery"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "EquationDiscovery needs scikit-learn; pip install 'eqdisc[sklearn]'." in done.stderr.splitlines()[-1]
