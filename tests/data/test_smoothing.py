"""Smoothing: calibrated noise, signs judged with forgiveness, missing cells passed over."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from eqdisc.data.dataset import Dataset, Trajectory
from eqdisc.data.smoothing import denoise, smooth_reml


def dataset(x: np.ndarray, t: np.ndarray) -> Dataset:
    return Dataset((Trajectory(t, x),), states=tuple(f"x{i}" for i in range(x.shape[1])))


@pytest.mark.parametrize("n", [60, 200, 900])
def test_reml_estimates_the_noise_within_a_quarter(n: int) -> None:
    t = np.linspace(0, 10, n)
    noise = 0.03
    estimates = [smooth_reml(t, np.sin(t) + noise * np.random.default_rng(k).normal(size=n))[2] for k in range(8)]
    assert np.median(estimates) == pytest.approx(noise, rel=0.25)


@pytest.mark.parametrize(("cycles", "noise"), [(5, 0.01), (10, 0.01), (15, 0.03)])
def test_noise_on_a_quick_oscillation_is_told_and_some_of_it_taken_away(cycles: int, noise: float) -> None:
    t = np.linspace(0, 1, 200)
    truth = np.exp(np.sin(2 * np.pi * cycles * t))
    found = [smooth_reml(t, truth + noise * np.random.default_rng(k).normal(size=200)) for k in range(8)]
    assert np.median([sigma for _, _, sigma in found]) == pytest.approx(noise, rel=0.2)
    assert np.median([(smooth - truth).std() for smooth, _, _ in found]) < 0.75 * noise


def test_smoothing_does_not_depend_on_units() -> None:
    t = np.linspace(0, 1, 120)
    x = np.exp(np.sin(30 * t)) + 0.02 * np.random.default_rng(1).normal(size=120)
    smooth, _, sigma = smooth_reml(t, x)
    scaled, _, larger = smooth_reml(60 * t + 7, 1e4 * x)
    assert_allclose(scaled, 1e4 * smooth, rtol=1e-6)
    assert larger == pytest.approx(1e4 * sigma, rel=1e-6)


def test_a_straight_line_is_smoothed_to_itself() -> None:
    t = np.linspace(0, 1, 30)
    assert_allclose(smooth_reml(t, 2 * t - 1)[0], 2 * t - 1, atol=1e-9)


def test_exact_data_are_clean_and_interpolated() -> None:
    t = np.linspace(0, 5, 50)
    found = denoise(dataset(np.exp(-t)[:, None], t))
    assert found.clean
    middle = (t[:-1] + t[1:]) / 2
    assert_allclose(
        found.at(0, middle)[:, 0], np.exp(-middle), atol=2e-5
    )  # cubic splines: h^4 / 384 and twice that at the ends


def test_noise_below_zero_is_no_sign_change() -> None:
    t = np.linspace(0, 10, 80)
    x = np.exp(-t) + 0.02 * np.random.default_rng(0).normal(size=80)
    assert x.min() < 0
    assert denoise(dataset(x[:, None], t)).positive.all()
    assert not denoise(dataset(np.cos(t)[:, None], t)).positive.any()


def test_each_state_is_smoothed_from_its_own_samples() -> None:
    t = np.linspace(0, 6, 90)
    x = np.stack([np.sin(t) + 2, np.cos(t) + 2], -1)
    gaps = x.copy()
    gaps[::3, 0] = np.nan
    gaps[1::3, 1] = np.nan
    found = denoise(dataset(gaps / 3, t))
    assert_allclose(found.at(0, t) * 3, x, atol=1e-3)
