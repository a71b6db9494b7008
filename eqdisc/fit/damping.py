"""Damping: what all damped steps of a fit share."""

from __future__ import annotations

TRIES = 4  # dampings in one step
LOST = 1e30  # merit of states that are no numbers
