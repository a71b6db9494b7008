"""Damping: what the damped steps of fits share, in torch and in compiled code."""

from __future__ import annotations

TRIES = 4  # dampings in one step of a fit to trajectories
LOST = 1e30  # merit of states that are no numbers

RIDGE = 1e-15  # of unit columns, in a projection
LOST_SUM = 1e9  # the residual sum of a lane that has no solution
SETTLED, HOPELESS = 1e-5, 1e3  # relative gain, and damping, at which a lane ends
LONGEST = 0.5  # step of an exponent
