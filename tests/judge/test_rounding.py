"""Refinement: what is printed is rounded where the likelihood does not notice, and simulates as scored."""

import pytest

from eqdisc.judge.intervals import Interval
from eqdisc.judge.rounding import _follow
from eqdisc.law.formulas import round_to
from eqdisc.law.terms import Number, Terms


@pytest.mark.parametrize(
    ("value", "error", "short"), [(0.0599997, 1e-5, 0.06), (-3.14159, 0.01, -3.14), (1.23456e-9, 1e-12, 1.235e-9)]
)
def test_numbers_keep_the_digits_that_data_support(value: float, error: float, short: float) -> None:
    assert round_to(value, error) == short


@pytest.mark.parametrize("value", [1e-12, -7.0, 0.30000000000000004])
def test_no_number_is_rounded_to_nothing(value: float) -> None:
    assert round_to(value, 1e9) != 0
    assert round_to(value, 0.0) == value


def test_intervals_follow_terms_that_rounding_merged() -> None:
    before, after = Terms.of([[0.5, 1.0], [0.501, 1.0], [2.0, 0.0]]), Terms.of([[0.5, 1.0], [2.0, 0.0]])
    known = {Number("exponent", j, 0): Interval(-0.1 * k, 0.1 * k, 0.06 * k) for j, k in ((0, 1), (1, 2), (2, 3))}
    followed = _follow(known, before, after)
    assert set(followed) == {Number("exponent", 0, 0), Number("exponent", 1, 0)}
    assert followed[Number("exponent", 1, 0)] == known[Number("exponent", 2, 0)]
