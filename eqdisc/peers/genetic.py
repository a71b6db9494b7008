r"""Genetic programming on slopes: Operon (Burlacu, Kronberger & Kommenda, GECCO 2020) and PySR (Cranmer, arXiv:2305.01582).

Each equation is searched for by itself, as a formula for the slopes of smoothing splines, x_e' = f(x), from sums, products, ratios
and powers. Operon is run at three lengths and the BIC chooses; PySR chooses from its own front.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import sympy as sp

from ..data.dataset import Dataset
from ..law.equations import Equations
from .smoothed import Smoothed

LENGTHS = ((7, 0.25), (12, 0.35), (20, 0.4))  # nodes, share of the time
EQUAL = 1e-6  # errors below this share of the variance are equal
LEAST = 1e-6  # a state that never changes sign is kept above it (scaled)
DIGITS = 7


def fit_operon(data: Dataset, seed: int, seconds: float) -> Equations:
    """Search each equation with Operon: + - * / and powers of sizes; squares where a state changes sign."""
    smoothed = Smoothed.of(data)
    x, slopes = _samples(smoothed)
    names = data.formula_names
    formulas = {}
    for e, name in enumerate(names):
        found = min(_run_operon(x, slopes[:, e], smoothed, names, seed, seconds / len(names)))
        formulas[name] = found[1]
    return _unscale(formulas, data, smoothed)


def _run_operon(
    x: np.ndarray, y: np.ndarray, smoothed: Smoothed, names: tuple[str, ...], seed: int, seconds: float
) -> list[tuple[float, str]]:
    """Return (BIC, formula) for each length, also without the offset that Operon always adds."""
    from pyoperon.sklearn import SymbolicRegressor

    symbols = "add,sub,mul,div,powabs,constant,variable" + ("" if smoothed.positive.all() else ",square")
    options = {"allowed_symbols": symbols, "optimizer_iterations": 5, "n_threads": 1, "random_state": seed + 1}
    found = []
    for length, share in LENGTHS:
        model = SymbolicRegressor(max_length=length, max_time=max(1, round(seconds * share)), **options).fit(x, y)
        formula = model.get_model_string(model.model_, DIGITS, list(names)).replace("^", "**")
        value, size = model.predict(x), model.stats_["model_length"]
        found.append((_bic(value, y, size), formula))
        offset = re.fullmatch(r"\(\(?(-?[\d.]+)\)? \+ (.*)\)", formula)
        if offset:
            found.append((_bic(value - float(offset[1]), y, size - 1), offset[2]))
    return found


def _bic(value: np.ndarray, y: np.ndarray, size: int) -> float:
    share = float(np.mean((value - y) ** 2) / (np.var(y) or 1.0))
    return len(y) * float(np.log(max(share, EQUAL) if share == share else np.inf)) + size * float(np.log(len(y)))


def fit_pysr(data: Dataset, seed: int, seconds: float) -> Equations:
    """Search each equation with PySR: + - * / and powers."""
    from pysr import PySRRegressor

    smoothed = Smoothed.of(data)
    x, slopes = _samples(smoothed)
    names = data.formula_names
    letters = [f"x{i}" for i in range(len(names))]  # PySR refuses names that SymPy knows, such as S and I
    formulas = {}
    for e, name in enumerate(names):
        model = PySRRegressor(
            binary_operators=["+", "-", "*", "/", "^"],
            constraints={"^": (-1, 1)},
            maxsize=25,
            timeout_in_seconds=seconds / len(names),
            niterations=10_000,  # the time ends it
            deterministic=True,
            parallelism="serial",
            random_state=seed,
            progress=False,
            verbosity=0,
            temp_equation_file=True,
        )
        formulas[name] = _rename(_best_of(model.fit(x, slopes[:, e], variable_names=letters)), letters, names)
    return _unscale(formulas, data, smoothed)


def _best_of(model: Any) -> str:
    return str(model.get_best()["equation"]).replace("^", "**")


def _rename(formula: str, letters: list[str], names: tuple[str, ...]) -> str:
    of = dict(zip(letters, names, strict=True))
    return re.sub(r"\bx\d+\b", lambda word: of.get(word[0], word[0]), formula)


def _samples(smoothed: Smoothed) -> tuple[np.ndarray, np.ndarray]:
    """Return smooth states and slopes (rows, d); a state that never changes sign stays above zero."""
    x = smoothed.stacked("smooth")
    return np.where(smoothed.positive, np.maximum(x, LEAST), x), smoothed.stacked("slope")


def _unscale(formulas: dict[str, str], data: Dataset, smoothed: Smoothed) -> Equations:
    """Return the law in the user's units: x = s x', t = T t'."""
    names, scaling = data.formula_names, smoothed.scaling
    inside = {name: f"({name}/{float(s)!r})" for name, s in zip(names, scaling.states, strict=True)}
    word = re.compile(r"\b(" + "|".join(map(re.escape, names)) + r")\b")
    whole = {
        name: f"{float(s / scaling.time)!r}*({word.sub(lambda w: inside[w[0]], formulas[name])})"
        for name, s in zip(names, scaling.states, strict=True)
    }
    law = Equations.parse(whole, names)
    numbers = {n for r in law.rhs for n in r.atoms(sp.Float)}
    short = {n: sp.Float(float(f"{float(n):.{DIGITS}g}")) for n in numbers}
    return Equations(names, tuple(r.xreplace(short) for r in law.rhs))
