"""Tests run side by side, one a core; threads of their own would wait for each other."""

import os

for library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")
