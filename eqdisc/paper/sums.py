r"""Operations on sums of two subsets of a hundred inputs: what is asked of the networks of `large`.

    a = x_1 + ... + x_50,     b = x_39 + ... + x_88,     y = a + b,  a b,  1 / a,  sqrt a

`reference` tasks are those of Madsen & Johansen (ICLR 2020): subsets of 25 with 12 in common at a random place, trained on U(1, 2), asked on U(2, 6);
solved where the error is below that of a solution whose weights are off by 1e-5. Published, of 100 seeds: NAU 100 % (sum), NMU 98 % (product), every
unit 0 % (quotient), at most 7 % (root, NAC).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

INPUTS, TESTS, POINTS = 100, 10_000, 1000  # POINTS: that ours is fitted to
FIRST, SECOND = slice(0, 50), slice(38, 88)
NEARLY = 1e-5  # how far the weights of a solution may be off


@dataclass(frozen=True)
class Task:
    """What is asked: the operation on two sums, the range trained on, and how it is trained; pairs are as printed and as coded."""

    answer: Callable[[Tensor, Tensor], Tensor]
    span: tuple[float, float]
    unseen: tuple[tuple[float, float], tuple[float, float]]
    rate: float
    beta: tuple[tuple[float, float], tuple[float, float]]


TASKS = {
    "+": Task(lambda a, b: a + b, (-1, 1), ((-4, 4), (-2, 2)), 1e-2, ((1e-5, 1e-4), (1e-5, 1e-4))),
    "x": Task(lambda a, b: a * b, (-1, 1), ((-4, 4), (-2, 2)), 5e-3, ((1e-5, 1e-5), (1e-5, 1e-4))),
    "/": Task(lambda a, b: 1 / a, (0, 0.5), ((-0.5, 0.5), (-0.5, 0)), 5e-3, ((1e-9, 1e-7), (1e-9, 1e-7))),
    "sqrt": Task(lambda a, b: a.sqrt(), (0, 2), ((0, 4), (0, 4)), 5e-3, ((1e-6, 1e-4), (1e-6, 1e-4))),
}
REFERENCE = {"reference +": "+", "reference x": "x", "reference /": "/", "reference sqrt": "sqrt"}
TWO_SUMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "+": lambda a, b: a + b,
    "x": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "sqrt": lambda a, b: a.sqrt(),
}


class Sobol:
    """Consecutive Sobol points in a range, batch by batch.

    >>> points = Sobol((0.0, 2.0))
    >>> first = points.batch(0, 4)
    >>> points.batch(1, 4).shape, bool((points.batch(0, 4) == first).all())
    (torch.Size([1, 4, 100]), True)
    """

    def __init__(self, span: tuple[float, float], dtype: torch.dtype = torch.float32) -> None:
        self.low, self.width, self.dtype = span[0], span[1] - span[0], dtype
        self.engine = torch.quasirandom.SobolEngine(INPUTS)
        self.engine.fast_forward(1)  # the first point is a corner

    def batch(self, step: int, n: int) -> Tensor:
        """Return the points of a batch (1, n, 100)."""
        ahead = 1 + step * n - self.engine.num_generated
        if ahead < 0:
            self.engine.reset()
            ahead = 1 + step * n
        if ahead:
            self.engine.fast_forward(ahead)
        return (self.low + self.width * self.engine.draw(n, dtype=self.dtype))[None]


def draw_asked(task: str, variant: str) -> Tensor:
    """Return the points asked in double precision (1, 10000, 100); the middle of the range is not one of them.

    >>> x = draw_asked("+", "coded")
    >>> x.shape, bool((x == 0).all(-1).any())
    (torch.Size([1, 10000, 100]), False)
    """
    return Sobol(TASKS[task].unseen[variant == "coded"], torch.float64).batch(0, 1 + TESTS)[:, 1:]


def answer(task: str, x: Tensor) -> Tensor:
    """Return the target at x (..., 100) -> (..., 1)."""
    return TASKS[task].answer(x[..., FIRST].sum(-1, keepdim=True), x[..., SECOND].sum(-1, keepdim=True))


@dataclass(frozen=True, eq=False)
class Problem:
    """Points trained on and asked on, x (1, N, 100), y (N,); `whole` where exponents must stay whole; the error that counts as solved."""

    x: Tensor
    y: Tensor
    unseen_x: Tensor
    unseen_y: Tensor
    whole: bool
    threshold: float


def pose(task: str, variant: str, seed: int) -> Problem:
    """Return a task's points for one seed."""
    generator = torch.Generator().manual_seed(seed)
    if task in REFERENCE:
        return _pose_reference(REFERENCE[task], generator)
    low, high = TASKS[task].span
    x = low + (high - low) * torch.rand(1, POINTS, INPUTS, generator=generator, dtype=torch.float64)
    unseen = draw_asked(task, variant)
    return Problem(x, answer(task, x)[0, :, 0], unseen, answer(task, unseen)[0, :, 0], low < 0, 0.0)


def _pose_reference(operation: str, generator: torch.Generator) -> Problem:
    """Return the task of Madsen & Johansen; the threshold is the error of weights that are off by 1e-5 in the worst direction."""
    size, common = INPUTS // 4, INPUTS // 8
    place = int(torch.randint(0, INPUTS - 2 * size + common + 1, (1,), generator=generator))
    a, b = torch.zeros(2, INPUTS, dtype=torch.float64)
    a[place : place + size] = 1.0
    b[place + size - common : place + 2 * size - common] = 1.0
    x = 1.0 + torch.rand(1, POINTS, INPUTS, generator=generator, dtype=torch.float64)
    unseen = 2.0 + 4.0 * torch.rand(1, TESTS, INPUTS, generator=generator, dtype=torch.float64)
    says = lambda x, a, b: TWO_SUMS[operation]((x @ a)[0], (x @ b)[0])  # noqa: E731
    second = -NEARLY if operation == "/" else NEARLY
    off = [a + NEARLY * (1.0 - 2.0 * a), b + second * (1.0 - 2.0 * b)]
    y = says(unseen, a, b)
    return Problem(x, says(x, a, b), unseen, y, False, float((says(unseen, *off) - y).square().mean()))
