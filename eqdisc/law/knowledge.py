r"""Knowledge: what the scientist already knows of a law, kept by construction.

    known      a right-hand side, or a part of it: these terms stand in the law, their coefficients never move
    conserved  c . x rests: one state's equation is minus the others', weighted: a_f = - sum_{e != f} c_e a_e / c_f
    forbidden  state i stands in no term of equation e
    dimensions every coefficient is a rate (see `dimensions`); exponents are those of the proposals
    signs      every term of equation e with state i raises (+) or lowers (-) x_e as x_i grows

A search keeps to it in three ways: forbidden terms are in no library; a law that is to be fitted is first completed (known terms put in,
conserved sums closed), and its dependent coefficients move with the others in every step (`couple`); a fit whose signs came out
wrong is dropped. What is known costs no description.

All numbers here are in scaled units; rows are terms (see `terms`).
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field, replace

import numpy as np
import sympy as sp
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..data.dataset import FUNCTIONS, Dataset
from ..data.dimensions import Dimensions
from ..data.scaling import Scaling
from ..work.config import FitConfig
from ..work.errors import FormulaError, OptionError, did_you_mean
from .equations import Equations
from .formulas import parse_formula, symbols_of
from .terms import Terms, widen

IN = r"(.+?)\s+in\s+d(.+?)/d\w+"
LONGEST = 2500  # characters of two names
SAME = 1e-6  # of a row's entries
ZERO = 1e-9  # of a term's largest coefficient: what is left of a sum that cancels

Law = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Knowledge:
    """What is known of a law over D columns, states and inputs; empty unless something was said."""

    forbidden: Bool[np.ndarray, "D D"]  # [column, equation]
    signs: Int[np.ndarray, "D D"]  # [column, equation]: 1, -1, or 0
    known: tuple[tuple[np.ndarray, int, float], ...] = ()  # row, equation, coefficient
    whole: frozenset[int] = frozenset()  # equations of which nothing else is to be found
    conserved: tuple[tuple[np.ndarray, int], ...] = ()  # weights (D,) and the equation that follows from the others
    dimensions: Dimensions | None = None
    starts: dict[int, list[tuple[np.ndarray, np.ndarray]]] = field(
        default_factory=dict
    )  # rows (m, D or 3 D + 1) and signs, by equation

    @classmethod
    def nothing(cls, columns: int) -> Knowledge:
        """Return no knowledge of laws over so many columns."""
        return cls(np.zeros((columns, columns), bool), np.zeros((columns, columns), int))

    @property
    def empty(self) -> bool:
        said = self.known or self.whole or self.conserved or self.dimensions
        return not (self.forbidden.any() or self.signs.any() or said)

    def rests(self, weights: Float[np.ndarray, "D"]) -> bool:
        """Tell whether a sum follows from those that are conserved."""
        table = [c for c, _ in self.conserved]
        return bool(table) and np.linalg.matrix_rank(np.array([*table, weights]), tol=1e-6) == len(table)

    @property
    def saturates(self) -> bool:
        """Whether a law to start from has a term that saturates."""
        return any(rows.shape[1] > len(self.forbidden) for pairs in self.starts.values() for rows, _ in pairs)

    def refuse_poles(self, positive: Bool[np.ndarray, "D"], names: tuple[str, ...]) -> None:
        """Raise OptionError where a law to start from divides by K + x and x changes its sign."""
        d = len(positive)
        for rows, _ in itertools.chain(*self.starts.values()):
            for i in np.flatnonzero((rows[:, d : 2 * d] != 0).any(0) & ~positive[: rows.shape[1] - d]):
                raise OptionError(
                    f"start_from divides by a sum with {names[i]}, which is negative at times; only what never is may stand there."
                )

    @property
    def settled(self) -> frozenset[int]:
        """Equations that no proposal is asked for: known whole, or following from the others."""
        return self.whole | {f for _, f in self.conserved}

    def allowed(self, rows: Float[np.ndarray, "m c"], e: int) -> Bool[np.ndarray, "m"]:
        """Tell which terms may stand in equation e."""
        d = len(self.forbidden)
        inside = rows[:, :d] != 0
        if rows.shape[1] > d:
            inside = inside | (rows[:, d : 2 * d] != 0)
        right = ~(inside & self.forbidden[:, e]).any(1)
        return right if self.dimensions is None or not len(rows) else right & self.dimensions.agree(rows, e)

    def settle(self, rows: Float[np.ndarray, "m c"], e: int) -> Float[np.ndarray, "m c"]:
        """Return terms with the nearest exponents that may stand in equation e."""
        return rows if self.dimensions is None else self.dimensions.settle(rows, e)

    def admits(self, law: Law) -> bool:
        """Tell whether a law holds no forbidden term."""
        w, a, _ = law
        return all(self.allowed(w[a[:, e] != 0], e).all() for e in range(a.shape[1]))

    def keeps(self, law: Law) -> bool:
        """Tell whether a law that was fitted holds no forbidden term and every sign is right."""
        w, a, _ = law
        used = [(e, a[:, e] != 0) for e in range(a.shape[1])]
        return self.admits(law) and all(self.signs_right(w[on], a[on, e], e) for e, on in used)

    def signs_right(self, rows: Float[np.ndarray, "k c"], a: Float[np.ndarray, "k"], e: int) -> bool:
        """Tell whether terms of equation e with coefficients a move it as was said."""
        d = len(self.signs)
        high = rows[:, :d]
        low = high - rows[:, d : 2 * d] if rows.shape[1] > d else high  # far above K
        for i in np.flatnonzero(self.signs[:, e]):
            wanted = self.signs[i, e] * np.sign(a)
            if (np.minimum(high[:, i] * wanted, low[:, i] * wanted) < 0).any():
                return False
        return True

    def complete(self, law: Law) -> Law:
        """Return the law with the known terms in it and the conserved sums closed."""
        if self.empty:
            return law
        w, a, free = (v.copy() for v in law)
        if self.dimensions is not None:
            free[:] = False
            for j in np.flatnonzero((a != 0).any(1)).tolist():
                w[j] = self.settle(w[j : j + 1], int(np.flatnonzero(a[j])[0]))[0]
        for e in self.whole:
            a[:, e] = 0.0
        for row, e, value in self.known:
            row = widen(row[None], w.shape[1])[0]
            same = np.flatnonzero(np.abs(w - row).max(1, initial=0.0) < SAME)
            if not len(same):
                w, a = np.vstack([w, row]), np.vstack([a, np.zeros(a.shape[1])])
                free, same = np.vstack([free, np.zeros(w.shape[1], bool)]), np.array([len(w) - 1])
            j = int(same[0])
            w[j], free[j], a[j, e] = row, False, value
        for c, f in self.conserved:
            others = np.where(np.arange(len(c)) == f, 0.0, c)
            a[:, f] = -(a @ others) / c[f]
            size = np.abs(a * c).max(1, initial=0.0)
            a[np.abs(a[:, f] * c[f]) < ZERO * size, f] = 0.0
        return w, a, free

    def hold(self, terms: Terms) -> Terms:
        """Return lanes in which known coefficients stand still and dependent ones follow the others."""
        if not (self.known or self.whole or self.conserved):
            return terms
        lanes, m, d = terms.coefficients.shape
        flux = self.couple(terms.coefficients).expand(lanes, m, d, d).clone()
        rows = terms.exponents
        for row, e, _ in self.known:
            wanted = rows.new_tensor(widen(row[None], rows.shape[-1])[0])
            flux[:, :, e] *= ((rows - wanted).abs().amax(-1) >= SAME)[..., None]
        return replace(terms, flux=flux)

    def couple(self, like: Tensor) -> Float[Tensor, "D D"]:
        """Return [e, f]: how the coefficient of a term in equation f moves with that in equation e."""
        flux = torch.eye(len(self.forbidden), dtype=like.dtype, device=like.device)
        flux[sorted(self.whole)] = 0.0
        for c, f in self.conserved:
            flux[:, f] = torch.as_tensor(-c / c[f], dtype=like.dtype, device=like.device)
            flux[f] = 0.0
        return flux

    def told(self, w: Float[np.ndarray, "m c"], a: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m d"]:
        """Return the coefficients that the data had to tell, zero where they are known or follow from others."""
        if not (self.known or self.whole or self.conserved):
            return a
        a = a.copy()
        a[:, sorted(self.settled)] = 0.0
        for row, e, _ in self.known:
            a[np.abs(w - widen(row[None], w.shape[1])).max(1, initial=0.0) < SAME, e] = 0.0
        return a


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
        e, rows, values, _ = reader.read_side(text, "start_from")
        rows = np.nan_to_num(scaling.redo_rows(rows), nan=0.0)  # a K that is to be found is the scale of its state
        knowledge.starts.setdefault(e, []).append((rows, values))
    for text in config.sign:
        body, colon, sign = text.rpartition(":")
        if not colon or sign.strip() not in ("+", "-"):
            raise OptionError(f'sign is {text!r}; write it as "R -> S: +" (R raises S) or "R -> S: -".')
        i, e = reader.read_pair("sign", body, r"(.+?)\s*->\s*(.+)", '"R -> S: +"')
        knowledge.signs[i, e] = 1 if sign.strip() == "+" else -1
    known: list[tuple[np.ndarray, int, float]] = []
    whole: set[int] = set()
    for text in config.known:
        e, rows, values, complete = reader.read_side(text)
        for said, agrees in (
            ("forbid", knowledge.allowed(rows, e).all()),
            ("sign", knowledge.signs_right(rows, values, e)),
        ):
            if not agrees:
                raise OptionError(f"known is {text!r}, which {said} rules out; leave out one of the options.")
        unit = scaling.undo(rows, np.ones((len(rows), d)))[:, e]
        known += [(row, e, float(v / u)) for row, v, u in zip(rows, values, unit, strict=True)]
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

    def read_side(self, text: str, option: str = "known") -> tuple[int, np.ndarray, np.ndarray, bool]:
        """Return the equation, rows (m, D), coefficients (m,) and whether nothing is left open.

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
        table = law.rows(e, names[len(self.symbols) :])
        if table is None or (option == "known" and table[0].shape[1] > len(self.symbols)):
            may = ", which may saturate as x/(K + x) does" if option == "start_from" else ""
            raise OptionError(f"{option} {text!r} is no sum of products of powers{may}.")
        return e, *table, match[3] is None

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
        e, rows, values, complete = reader.read_side(text)
        part = Equations.from_terms(data.formula_names, rows, np.outer(values, np.eye(data.d)[e])).rhs[e]
        rest = sp.expand(sides[e] - part)
        left = {term for term, v in rest.as_coefficients_dict().items() if abs(float(v)) > 1e-9 * abs(values).max()}
        own = set(sp.expand(part).as_coefficients_dict())
        _insist(not (left if complete else left & own), text)


def _insist(holds: bool, text: str) -> None:
    if not holds:
        raise FormulaError(f"the printed law does not keep to {text!r}, though it was found so; please report this.")
