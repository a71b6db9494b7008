"""Noise: the shape of the error is told from the data, and fits weigh readings by it."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from eqdisc import FitConfig, discover
from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.data.noise import MODELS, ErrorModel, independent_share, may_change, noise_of_differences
from eqdisc.data.smoothing import denoise
from eqdisc.work.errors import OptionError

T = np.linspace(0, 10, 80)
DECAY = np.exp(-0.4 * T)


def measured(kind: str, seed: int, size: float = 0.04) -> Dataset:
    noise = np.random.default_rng(seed).normal(size=len(T))
    error = {"constant": size, "poisson": size * np.sqrt(DECAY), "relative": size * DECAY}[kind]
    return Dataset((Trajectory(T, np.abs(DECAY + error * noise)[:, None]),), states=("x",))


@pytest.mark.parametrize("model", MODELS)
def test_the_transformation_is_undone(model: ErrorModel) -> None:
    x = np.array([0.01, 0.3, 1.0])
    assert_allclose(model.backward(model.forward(x)), x)


@pytest.mark.parametrize("model", MODELS)
def test_a_transformed_error_is_constant(model: ErrorModel) -> None:
    x = np.array([0.05, 0.4, 0.9])
    step = 1e-6 * model.shape(x)
    moved = model.forward(x + step) - model.forward(x)
    assert_allclose(moved / moved[0], 1.0, rtol=1e-4)


def test_differences_show_the_noise_of_uneven_records() -> None:
    rng = np.random.default_rng(3)
    t = np.sort(rng.uniform(0, 10, 300))
    for size in (0.0, 0.01, 0.1):
        found = noise_of_differences([(t, np.sin(t) + size * rng.normal(size=300)), (t[:3], t[:3])])
        assert found == pytest.approx(size, rel=0.2, abs=1e-3)


def test_correlated_residuals_are_fewer_than_they_seem() -> None:
    rng = np.random.default_rng(0)
    white = rng.normal(size=(1, 2000, 1))
    smooth = np.zeros_like(white)
    for n in range(1, 2000):
        smooth[:, n] = 0.6 * smooth[:, n - 1] + white[:, n]
    seen = np.ones_like(white, bool)
    assert independent_share(white, seen) == 1.0
    assert independent_share(smooth, seen) == pytest.approx((1 - 0.6) / (1 + 0.6), rel=0.1)


def test_the_shape_has_mean_square_one_and_passes_over_gaps() -> None:
    v = ErrorModel("relative").shape(np.array([0.2, np.nan, 0.8]))
    assert np.isnan(v[1])
    assert np.nanmean(v**2) == pytest.approx(1.0)
    assert v[2] / v[0] == pytest.approx(4.0)


@pytest.mark.parametrize(("kind", "least"), [("constant", 8), ("relative", 8)])
def test_the_kind_of_error_is_told_from_the_data(kind: str, least: int) -> None:
    told = [denoise(measured(kind, seed)).error.name for seed in range(8)]
    assert told.count(kind) >= least


def test_an_error_that_vanishes_at_zero_is_asked_only_of_states_that_are_not_negative() -> None:
    assert may_change(DECAY[:, None])
    assert not may_change(np.cos(T)[:, None])
    assert not may_change(np.full((80, 1), 0.5))


def test_weights_make_a_relative_error_cheap_to_fit() -> None:
    """The rate of a decay over four units of log, 4 % of each reading: weighing by the reading is several times as precise."""
    rates: dict[str, list[float]] = {"constant": [], "relative": []}
    for seed in range(2):
        for kind, found in rates.items():
            law = discover(measured("relative", seed), FitConfig(noise=kind)).equations
            terms = law.terms()
            assert terms is not None
            found.append(float(terms[1].sum()) if terms[0].tolist() == [[1.0]] else np.nan)
    error = {k: np.sqrt(np.nanmean((np.array(v) + 0.4) ** 2)) for k, v in rates.items()}
    assert error["relative"] < 0.7 * error["constant"]


def records(sizes: tuple[float, ...], samples: int = 80, seed: int = 0) -> Dataset:
    """Decays from starts between 0.5 and 1, each measured with an error of its own."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 10, samples)
    curves = [np.linspace(0.5, 1, len(sizes))[k] * np.exp(-0.4 * t) for k in range(len(sizes))]
    x = [(c + size * rng.normal(size=samples))[:, None] for c, size in zip(curves, sizes, strict=True)]
    return Dataset(tuple(Trajectory(t, v, str(k)) for k, v in enumerate(x)), states=("x",))


def test_records_of_unlike_precision_are_told_apart() -> None:
    for seed in range(4):
        found = denoise(records((0.003, 0.03), seed=seed))
        assert_allclose([found.sigma_of(k)[0] for k in range(2)], [0.003, 0.03], rtol=0.3)
        weights = np.concatenate(found.weights(records((0.003, 0.03), seed=seed)))
        assert (weights**-2.0).mean() == pytest.approx(1.0)


@pytest.mark.parametrize(("count", "samples"), [(2, 80), (4, 40), (60, 10)])
def test_records_of_one_precision_are_weighed_alike(count: int, samples: int) -> None:
    for seed in range(6):
        assert (denoise(records(count * (0.02,), samples, seed)).levels == 1.0).all()


def test_whoever_says_that_the_error_is_constant_means_all_records() -> None:
    data = records((0.003, 0.03))
    assert (denoise(data, "constant").levels == 1.0).all()
    assert (denoise(data, "0.02").levels == 1.0).all()


def test_a_precise_record_beside_a_poor_one_counts_for_more() -> None:
    """The rate of two decays, one measured with ten times the error of the other: its own weight makes it several times as precise."""
    rates: dict[str, list[float]] = {"constant": [], "auto": []}
    for seed in range(2):
        for kind, found in rates.items():
            answer = discover(records((0.003, 0.03), seed=seed), FitConfig(noise=kind))
            own = [start.get("sigma", answer.sigma)["x"] for start in answer.initial]
            assert own[1] / own[0] == pytest.approx(10.0 if kind == "auto" else 1.0, rel=0.4)
            terms = answer.equations.terms()
            assert terms is not None
            found.append(float(terms[1].sum()) if terms[0].tolist() == [[1.0]] else np.nan)
    error = {k: np.sqrt(np.nanmean((np.array(v) + 0.4) ** 2)) for k, v in rates.items()}
    assert error["auto"] < 0.7 * error["constant"]


def test_a_known_error_takes_the_place_of_the_estimate() -> None:
    data = measured("constant", 0)
    assert denoise(data, "0.1").sigma[0] == pytest.approx(0.1 * data.trajectories[0].x.std())
    assert denoise(data, "relative:0.05").sigma[0] == pytest.approx(
        0.05 * np.sqrt((data.trajectories[0].x ** 2).mean())
    )


@pytest.mark.parametrize("wrong", ["poison", "relative:2", "-0.1", "constant:a", "nan"])
def test_a_wrong_noise_is_refused_with_what_would_be_right(wrong: str) -> None:
    with pytest.raises(OptionError, match=r"use auto, constant, poisson or relative.*relative:0\.05"):
        FitConfig(noise=wrong)
