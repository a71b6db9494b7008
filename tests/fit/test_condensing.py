"""Condensing: the recursion's columns are the sensitivities of a solution in closed form."""

from __future__ import annotations

import torch
from numpy.testing import assert_allclose

from eqdisc.fit.condensing import Slopes, condense


def test_growth_has_the_sensitivities_of_its_exponential() -> None:
    rate, steps = -0.7, 40
    t = torch.linspace(0, 2, 2 * steps + 1, dtype=torch.float64)
    x = (rate * t).exp()
    slopes = lambda part: Slopes(  # noqa: E731
        torch.full((1, 1, len(part), 1, 1), rate, dtype=torch.float64), part[None, None, :, None], x.new_ones(1, 1, 1)
    )
    h = (t[2] - t[0]).expand(1, steps)
    columns = condense(h, x.new_zeros(1, 1, steps, 1), slopes(x[::2]), slopes(x[1::2]))[0, 0, :, 0]
    by_rate = t[::2] * x[::2]  # d exp(a t) / da
    assert_allclose(columns[:, 0], 0, atol=0)
    assert_allclose(columns[:, 1], by_rate, rtol=0, atol=1e-8)  # (rate h)^4 / 720 a step
    assert_allclose(columns[:, 2], x[::2], rtol=1e-8)


def test_a_defect_is_closed_in_one_step() -> None:
    rest = Slopes(torch.zeros(1, 1, 3, 1, 1), torch.zeros(1, 1, 3, 0), torch.zeros(1, 1, 0))
    middles = Slopes(rest.by_state[:, :, 1:], rest.by_number[:, :, 1:], rest.directions)
    columns = condense(torch.ones(1, 2), torch.tensor([0.3, -0.1]).view(1, 1, 2, 1), rest, middles, starts=False)
    assert_allclose(columns.ravel(), [0.0, -0.3, -0.2], rtol=1e-6)
