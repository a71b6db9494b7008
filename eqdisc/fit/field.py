r"""Field: lanes of laws and their slopes at many points, in torch.

    f_e = sum_j A[j, e] m_j(x),     df_e/dx_i = sum_j A[j, e] m_j (W[j, i] - s_j U[j, i]) / x_i,     df/d(number of term j) = m_j A[j] d log m_j

with s the terms' saturations. All numbers of one term move the field along one direction, which is the same at every point.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..law.law import Law, Numbers
from ..law.terms import Terms
from ..units import saturation
from .condensing import Slopes

NEAREST = 1e-9  # to zero, of a state that changes sign: its slope d log|x| / dx is no larger


@dataclass(frozen=True, eq=False)
class Field:
    """What it takes to evaluate laws: how many columns are states, which columns are positive, where |x| is clamped, how trials are coupled."""

    states: int
    positive: Tensor
    tiny: float
    coupling: Float[Tensor, "d d"] | None = None

    def __call__(self, law: Law, x: Float[Tensor, "R ... d"]) -> Float[Tensor, "R ... d"]:
        """Evaluate the right-hand side of every lane on its own states."""
        values, _ = law.terms.evaluate(x.flatten(1, -2), self.positive, self.tiny)
        return (values @ law.coefficients).view(x.shape)

    def linearise(
        self, law: Law, numbers: Numbers | None, x: Float[Tensor, "R K N d"], trials: Terms | None = None
    ) -> tuple[Float[Tensor, "R K N d"], Slopes]:
        """Return f and its slopes in the s states and in the numbers; L trial terms append s * L columns."""
        flat, s = x.flatten(1, -2), self.states
        values, log_x = law.terms.evaluate(flat, self.positive, self.tiny)
        share = law.terms.share(log_x)
        by_state = self._by_state(law, flat, values, share)
        columns = [flat.new_zeros(*flat.shape[:-1], 0)]
        if numbers is not None:
            columns.append(self._by_number(numbers, values, log_x, share))
        if trials is not None:
            lanes = trials.map(lambda v: v.expand(len(x), *v.shape))
            columns.append(lanes.evaluate(flat, self.positive, self.tiny)[0].repeat(1, 1, s))
        shape = x.shape[:-1]
        by_number = torch.cat(columns, -1).view(*shape, -1)
        slopes = Slopes(by_state.reshape(*shape, s, s), by_number, self.directions(law, numbers, trials))
        return (values @ law.coefficients).view(*shape, -1), slopes

    def _by_state(self, law: Law, x: Tensor, values: Tensor, share: Tensor | None) -> Float[Tensor, "R n s s"]:
        size, s = x.abs().clamp_min(self.tiny), self.states
        sign = torch.where(self.positive, 1.0, torch.where(x < 0, -1.0, 1.0))
        inverse = sign / torch.where(self.positive, size, size.clamp_min(NEAREST))
        weights = lambda powers: (law.coefficients[:, :, :s, None] * powers[:, :, None, :s]).flatten(2)  # noqa: E731
        slope = values @ weights(law.terms.exponents)  # (R, n, e * i)
        if share is not None:
            slope = slope - (values * share) @ weights(law.terms.inner)
        return slope.unflatten(-1, (s, s)) * inverse[..., None, :s]

    def _by_number(
        self, numbers: Numbers, values: Tensor, log_x: Tensor, share: Tensor | None
    ) -> Float[Tensor, "R n P"]:
        wide = lambda i: i[:, None].expand(-1, values.shape[1], -1)  # noqa: E731
        own = log_x.expand(len(numbers.term), -1, -1).gather(-1, wide(numbers.place))
        slope = log_slope(own, None if share is None else share.gather(-1, wide(numbers.term)), numbers.part[:, None])
        return values.gather(-1, wide(numbers.term)) * slope * numbers.valid[:, None]

    def directions(self, law: Law, numbers: Numbers | None, trials: Terms | None) -> Float[Tensor, "R s P+s*L"]:
        """Return along which equations each number moves the field."""
        s, a = self.states, law.coefficients
        along = [a.new_zeros(len(a), s, 0)]
        if numbers is not None:
            lane = torch.arange(law.lanes, device=a.device)[:, None]
            own = law.directions[lane, numbers.term, numbers.place]
            own = torch.where(numbers.is_coefficient[..., None], own, a[lane, numbers.term])
            along.append(own[..., :s].mT)
        if trials is not None:
            eye = torch.eye(s, dtype=a.dtype, device=a.device) if self.coupling is None else self.coupling[:s, :s].mT
            along.append(eye.repeat_interleave(len(trials), 1).expand(len(a), -1, -1))
        return torch.cat(along, -1)


def log_slope(log_x: Tensor, share: Tensor | None, part: Tensor) -> Tensor:
    """Return d log m / d number from log|x| of its column and its term's saturation, by its part; 1 for a coefficient, as a m / a."""
    if share is None:
        return torch.where(part == 3, 1.0, log_x)
    by_power, by_offset = saturation.slopes(log_x, share)
    return torch.where(part == 0, log_x, torch.where(part == 1, by_power, torch.where(part == 2, by_offset, 1.0)))


__all__ = ["Field", "log_slope"]
