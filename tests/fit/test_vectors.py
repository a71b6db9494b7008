"""Vectors for the compiler: the functions are right to the last bits."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

numba = pytest.importorskip("numba")
from eqdisc.fit import vectors  # noqa: E402


@numba.njit
def _map(x, out):
    for row in range(len(x) // vectors.LANES):
        v = vectors.load(x, row)
        vectors.store(out[0], row, vectors.exp(v))
        vectors.store(out[1], row, vectors.log(vectors.absolute(v)))


def test_functions_are_right_to_two_units_in_the_last_place() -> None:
    rng = np.random.default_rng(0)
    x, *out = (vectors.aligned_rows(500, np.dtype(float)) for _ in range(3))
    x[:] = rng.normal(size=len(x)) * np.exp(rng.uniform(-8, 3, len(x)))
    _map(x, tuple(out))
    exact, ulp = x.astype(np.longdouble), np.finfo(float).eps
    assert_allclose(out[0], np.exp(exact).astype(float), rtol=2 * ulp)
    assert_allclose(out[1], np.log(np.abs(exact)).astype(float), rtol=2 * ulp, atol=ulp)  # near 1 the logarithm is 0
