r"""Words: what a scientist says of a law (`conserve`, `known`, `sign`, `forbid`, `start_from`), read as knowledge and held against the print.

Right-hand sides are parsed as formulas are, against a whitelist, and split into terms (`Equations.side`); numbers go into scaled units.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import sympy as sp
from jaxtyping import Float

from ..data.dataset import FUNCTIONS, Dataset
from ..data.dimensions import Dimensions
from ..data.scaling import Scaling
from ..work.config import FitConfig
from ..work.errors import FormulaError, OptionError, did_you_mean
from .equations import Equations
from .formulas import parse_formula, symbols_of
from .knowledge import Knowledge, Known
from .law import Law

IN = r"(.+?)\s+in\s+d(.+?)/d\w+"
LONGEST = 2500  # characters of two names


def read_knowledge(config: FitConfig, data: Dataset, scaling: Scaling) -> Knowledge:
    """Read what was said in words (`conserve`, `known`, `sign`, `forbid`) about laws of joined data (see `inputs`).

    Raises OptionError where the words do not fit the columns or each other.
    """
    d = data.d
    knowledge = Knowledge.nothing(d)
    reader = _Reader(data)
    for text in config.forbid:
        i, e = reader.read_pair("forbid", text, IN, '"R in dI/dt"')
        knowledge.forbidden[i, e] = True
    for text in config.start_from:
        e, side, _ = reader.read_side(text, "start_from")
        terms = side.terms.in_scale(scaling)
        terms = replace(
            terms, offsets=np.nan_to_num(terms.offsets, nan=0.0)
        )  # a K that is to be found is the scale of its state
        knowledge.starts.setdefault(e, []).append(replace(side, terms=terms))
    for text in config.sign:
        body, colon, sign = text.rpartition(":")
        if not colon or sign.strip() not in ("+", "-"):
            raise OptionError(f'sign is {text!r}; write it as "R -> S: +" (R raises S) or "R -> S: -".')
        i, e = reader.read_pair("sign", body, r"(.+?)\s*->\s*(.+)", '"R -> S: +"')
        knowledge.signs[i, e] = 1 if sign.strip() == "+" else -1
    known: list[Known] = []
    whole: set[int] = set()
    for text in config.known:
        e, side, complete = reader.read_side(text)
        for said, agrees in (
            ("forbid", knowledge.allowed(side.terms, e).all()),
            ("sign", knowledge.signs_right(side, e)),
        ):
            if not agrees:
                raise OptionError(f"known is {text!r}, which {said} rules out; leave out one of the options.")
        unit = scaling.undo(side.terms.effective, np.ones((len(side), d)))[:, e]
        terms, values = side.terms.in_scale(scaling), side.coefficients[:, e] / unit
        known += [Known(terms[[j]], e, float(v)) for j, v in enumerate(values)]
        whole |= {e} if complete else set()
    dimensions = Dimensions.of(data) if config.dimensional else None
    if dimensions is not None and (dimensions.time is None or None in dimensions.units):
        names = [data.time, *data.states[: len(dimensions.units)]]
        units = [dimensions.time, *dimensions.units]
        missing = ", ".join(name for name, unit in zip(names, units, strict=True) if unit is None)
        raise OptionError(f"dimensional needs the unit of every column; give that of {missing} with --units.")
    conserved: list[tuple[np.ndarray, int]] = []
    for text in config.conserve:
        c = reader.read_sum(text) * scaling.states
        taken = whole | {f for _, f in conserved}
        free = [f for f in np.flatnonzero(c) if f not in taken]
        if not free:
            raise OptionError(f"conserve is {text!r}, but nothing of it is left to find; leave out one of the options.")
        conserved.append((c, int(free[-1])))
    return replace(
        knowledge, known=tuple(known), whole=frozenset(whole), conserved=tuple(conserved), dimensions=dimensions
    )


class _Reader:
    """Reads words about the columns of a dataset."""

    def __init__(self, data: Dataset) -> None:
        self.symbols = data.formula_names
        self.named = {name: i for i, name in enumerate(data.states)} | {s: i for i, s in enumerate(self.symbols)}
        self.states = data.d - data.driven

    def find(self, option: str, text: str, name: str, equation: bool = False) -> int:
        at = self.named.get(name.strip())
        if at is None:
            near = did_you_mean(name.strip(), [*self.named])
            raise OptionError(f"{option} {text!r} names {name.strip()!r}, which is no column of the law.{near}")
        if equation and at >= self.states:
            raise OptionError(f"{option} {text!r}: {name.strip()} is an input and has no equation.")
        return at

    def read_pair(self, option: str, text: str, pattern: str, example: str) -> tuple[int, int]:
        match = re.fullmatch(pattern, text.strip()) if len(text) <= LONGEST else None
        if match is None:
            raise OptionError(f"{option} is {text!r}; write it as {example}.")
        return self.find(option, text, match[1]), self.find(option, text, match[2], equation=True)

    def read_side(self, text: str, option: str = "known") -> tuple[int, Law, bool]:
        """Return the equation, its side as a law, and whether nothing is left open.

        In a law to start from, words that name no column stand for numbers to be fitted.
        """
        match = re.fullmatch(r"d(.+?)/d\w+\s*=\s*(.*?)(\+\s*\.\.\.)?", text.strip())
        if match is None or not match[2].strip():
            raise OptionError(f'{option} is {text!r}; write it as "dx/dt = v", or "dx/dt = v + ..." for a part.')
        e = self.find(option, text, match[1], equation=True)
        words = set(re.findall(r"[A-Za-z_]\w*", match[2])) - {*self.symbols, *FUNCTIONS, "t"}
        names = (*self.symbols, *(sorted(words) if option == "start_from" else ()))
        try:
            law = Equations.parse({n: match[2] if i == e else "0" for i, n in enumerate(names)}, names)
        except FormulaError as error:
            raise OptionError(f"{option} {text!r}: {error}") from None
        side = law.side(e, names[len(self.symbols) :])
        if side is None or (option == "known" and side.terms.bent.any()):
            may = ", which may saturate as x/(K + x) does" if option == "start_from" else ""
            raise OptionError(f"{option} {text!r} is no sum of products of powers{may}.")
        return e, side, match[3] is None

    def read_sum(self, text: str) -> Float[np.ndarray, "D"]:
        """Return the weights of a sum of states."""
        symbols = list(symbols_of(self.symbols).values())
        try:
            side = parse_formula(text, self.symbols)
            weights = [float(side.diff(s)) for s in symbols]
        except (FormulaError, TypeError):
            weights = [0.0]
        if sum(v != 0 for v in weights) < 2 or any(weights[self.states :]):
            raise OptionError(f'conserve is {text!r}; write a sum of states, such as "S + I + R" or "A + 2*B".')
        return np.array(weights)


def verify(config: FitConfig, data: Dataset, equations: Equations) -> None:
    """Raise FormulaError unless the printed law is as was said; `data` are joined."""
    reader = _Reader(data)
    sides = dict(enumerate(equations.rhs))
    symbols = list(symbols_of(data.formula_names).values())
    for text in config.forbid:
        i, e = reader.read_pair("forbid", text, IN, "")
        _insist(symbols[i] not in sides[e].free_symbols, text)
    for text in config.conserve:
        c = reader.read_sum(text)
        total = sum((sp.Float(v) * sides[e] for e, v in enumerate(c[: reader.states]) if v), sp.S.Zero)
        size = max(abs(float(n)) for side in sides.values() for n in side.atoms(sp.Number)) if total != 0 else 1.0
        rest = sp.expand(total).as_coefficients_dict().values()
        _insist(all(abs(float(v)) < 1e-9 * size for v in rest), text)
    for text in config.known:
        e, side, complete = reader.read_side(text)
        part, most = Equations.of(side, data.formula_names).rhs[e], np.abs(side.coefficients).max()
        rest = sp.expand(sides[e] - part)
        left = {term for term, v in rest.as_coefficients_dict().items() if abs(float(v)) > 1e-9 * most}
        own = set(sp.expand(part).as_coefficients_dict())
        _insist(not (left if complete else left & own), text)


def _insist(holds: bool, text: str) -> None:
    if not holds:
        raise FormulaError(f"the printed law does not keep to {text!r}, though it was found so; please report this.")


__all__ = ["read_knowledge", "verify"]
