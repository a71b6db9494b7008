"""Configuration of a fit: small, frozen, by keyword only; a wrong key or value is refused in one sentence that teaches.

The command builds its options from this class: a field here is an option there, and the text under it is its help.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, fields
from dataclasses import replace as replace_fields
from typing import Any, Literal

from .errors import OptionError, did_you_mean

SEARCHES = ("proposals", "network", "both")
MOST = 100_000  # restarts, or replicates
NOISES = ("auto", "constant", "poisson", "relative")
_CHAIN = re.compile(r"[a-z]\w*:[1-9]\d*(,[a-z]\w*:[1-9]\d*)*,[a-z]\w*(:[1-9]\d*)?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How a law is searched for.

    Raises OptionError for a key that is not one (with the nearest that is) and for a value out of range.

    >>> FitConfig(restarts=8).replace(seed=3).seed
    3
    >>> FitConfig(restart=8)
    Traceback (most recent call last):
    eqdisc.work.errors.OptionError: FitConfig has no 'restart'. Did you mean 'restarts'?
    """

    search: Literal["proposals", "network", "both"] = "proposals"
    """Where chains start: structures proposed by a library, or random weights."""

    chain: str = "realnpu:9,nau"
    """Units of the network search, input to output: realnpu:9,nau or npu:9,nau."""

    restarts: int = 64
    """Random starts of the network search."""

    l1: float = 0.05
    """Penalty on the exponents of the network search; larger is sparser."""

    device: str = "auto"
    """Where chains are trained: auto, cpu, cuda or cuda:N."""

    exponents: str = "menu"
    """What an exponent may be: menu (simple values cost less), real, or bounds such as 0..2."""

    noise: str = "auto"
    """The measurement error: auto (from the data), constant, poisson, relative, or known: 0.02 (of each state's deviation), relative:0.05."""

    conserve: tuple[str, ...] = ()
    """Sums of states that rest, exactly: "S + I + R"."""

    known: tuple[str, ...] = ()
    """Right-hand sides that are known, exactly: "dx/dt = v", or in part, "dv/dt = -9.81 + ..."."""

    sign: tuple[str, ...] = ()
    """Influences of known sign: "R -> S: +", every term of dS/dt with R raises S as R grows."""

    forbid: tuple[str, ...] = ()
    """States or inputs that stand in no term of an equation: "R in dI/dt"."""

    dimensional: bool = False
    """Only terms that may be added: every coefficient is a rate, its unit one of time alone; needs the unit of every column."""

    start_from: tuple[str, ...] = ()
    """Right-hand sides that the search tries first, any other word a number to fit: "dS/dt = -b*S*I"."""

    hidden: int = 0
    """States that were not measured: 1 looks for one, h1, beside those that were."""

    snap: bool = True
    """Fix an exponent at a simple value where the data do not object."""

    held_out: float = 0.0
    """Share of each trajectory's end that the law is chosen without."""

    bootstrap: int = 0
    """Replicates of the data from which intervals and the inclusion of each term are read; 100 or more."""

    seed: int = 0
    """Seed of whatever is random."""

    time_limit: float | None = None
    """Seconds after which the search ends with the best it has."""

    memory: float | None = None
    """Gigabytes of memory that the fit may take: it works in smaller pieces, and ends with the best it has where these are too large."""

    def __new__(cls, **options: Any) -> FitConfig:
        """Refuse keys that are no fields, before the generated constructor does so without advice."""
        _refuse_unknown(options, [f.name for f in fields(cls)])
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for f in fields(self):
            kind, what = _KINDS.get(str(f.type), _KINDS["str"])
            value = getattr(self, f.name)
            if kind == (tuple,) and isinstance(value, (str, list)):
                value = (value,) if isinstance(value, str) else tuple(value)
                object.__setattr__(self, f.name, value)
            if not isinstance(value, kind) or (isinstance(value, bool) and bool not in kind):
                raise OptionError(f"{f.name} is {value!r}; it must be {_WHAT.get(f.name, what)}.")
        self._check_words()
        self._check_ranges()

    def _check_words(self) -> None:
        near, like = did_you_mean(self.search, SEARCHES), did_you_mean(self.device, ["auto", "cpu", "cuda"])
        cure = "write units with their widths, the last without, such as realnpu:9,nau"
        known = re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device)
        _refuse(
            {
                f"search is {self.search!r}; use {_either(SEARCHES)}.{near}": self.search not in SEARCHES,
                f"chain is {self.chain!r}; {cure}.": not _CHAIN.fullmatch(self.chain),
                f"device is {self.device!r}; use auto, cpu, cuda or cuda:N.{like}": not known,
            }
        )
        read_noise(self.noise)
        if self.exponents not in ("menu", "real"):
            read_bounds(self.exponents)

    def _check_ranges(self) -> None:
        time_limit, memory = (math.inf if v is None else v for v in (self.time_limit, self.memory))
        one = "one state that was not measured can be looked for, so use 0 or 1"
        none = "use 0 for none, or 2 replicates and more, such as 200"
        share, most = "use a share from 0 (nothing) to below 1, such as 0.25", max(self.restarts, self.bootstrap)
        _refuse(
            {
                f"restarts is {self.restarts}; at least 1 is needed.": self.restarts < 1,
                f"l1 is {self.l1:g}; a penalty is 0 or more.": not 0.0 <= self.l1 < math.inf,
                f"held_out is {self.held_out:g}; {share}.": not 0.0 <= self.held_out < 1.0,
                f"hidden is {self.hidden}; {one}.": self.hidden not in (0, 1),
                f"bootstrap is {self.bootstrap}; {none}.": self.bootstrap < 0 or self.bootstrap == 1,
                f"restarts is {self.restarts} and bootstrap {self.bootstrap}; use {MOST:,} at most.": most > MOST,
                f"seed is {self.seed}; use a whole number from 0 on.": not 0 <= self.seed < 2**63,
                f"time_limit is {time_limit:g}; use seconds above 0.": not time_limit > 0.0,
                f"memory is {memory:g}; use gigabytes above 0, such as 2.": not memory > 0.0,
            }
        )

    def refuse_together(self, grouped: bool, inputs: bool, unseen: bool) -> None:
        """Raise OptionError where options do not go together, or not with data that have groups, inputs or records to validate on."""
        if self.search != "proposals":
            option = "--group" if grouped else "--inputs" if inputs else "--hidden" if self.hidden else ""
            refused = "laws without inputs, groups and hidden states; leave it out, or leave out"
            known = "laws of which nothing is known; leave it out, or what you know"
            _refuse({f"--search {self.search} fits {known}.": bool(self.knows)})
            _refuse({f"--search {self.search} fits {refused} {option}.": bool(option)})
        if self.hidden:
            only = "where the hidden state starts is known only of what was fitted; leave out --validate and --held-out"
            _refuse(
                {
                    f"--hidden leaves nothing to validate on: {only}.": bool(self.held_out) or unseen,
                    "--hidden and --group are both asked for; one of them at a time can be fitted.": grouped,
                    "--hidden finds laws of which nothing is known; leave it out, or what you know.": bool(self.knows),
                }
            )

    @property
    def knows(self) -> tuple[str, ...]:
        """What is said of the law beforehand."""
        alike = ("dimensional",) if self.dimensional else ()
        return (*self.conserve, *self.known, *self.sign, *self.forbid, *self.start_from, *alike)

    def replace(self, **changes: Any) -> FitConfig:
        """Return a copy with other values; raises OptionError as the constructor does."""
        _refuse_unknown(changes, [f.name for f in fields(self)])
        return replace_fields(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values; `FitConfig(**config.as_dict()) == config`."""
        return asdict(self)


def read_bounds(exponents: str) -> tuple[float, float]:
    """Read the bounds of `exponents`.

    Raises OptionError unless the text is two rising numbers, with `..` between them.

    >>> read_bounds("-1..2")
    (-1.0, 2.0)
    """
    lower, dots, upper = exponents.partition("..")
    try:
        bounds = float(lower), float(upper)
    except ValueError:
        bounds = math.nan, math.nan
    if not dots or not all(map(math.isfinite, bounds)):
        near = did_you_mean(exponents, ["menu", "real"])
        raise OptionError(f"exponents is {exponents!r}; use menu, real, or bounds such as 0..2.{near}")
    if not bounds[0] < bounds[1]:
        raise OptionError(f"exponents is {exponents!r}; the lower bound comes first and is below the upper one.")
    return bounds


def read_noise(noise: str) -> tuple[str, float | None]:
    """Return the shape of the error and its size, where one is given. Raises OptionError.

    >>> read_noise("relative:0.05"), read_noise("0.02"), read_noise("auto")
    (('relative', 0.05), ('constant', 0.02), ('auto', None))
    """
    word, _, size = noise.partition(":")
    if word in NOISES and not size:
        return word, None
    try:
        share = float(size if word in ("constant", "relative") else noise)
    except ValueError:
        share = math.nan
    if not 0.0 < share < 1.0:
        near = did_you_mean(word, NOISES)
        raise OptionError(
            f"noise is {noise!r}; use {_either(NOISES)}, a share of each state's standard deviation such as 0.02, or relative:0.05.{near}"
        )
    return (word if word == "relative" else "constant"), share


_KINDS: dict[str, tuple[tuple[type, ...], str]] = {  # what a field of this annotation takes
    "str": ((str,), "a text"),
    "bool": ((bool,), "True or False"),
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "float | None": ((int, float, type(None)), "a number or None"),
    "tuple[str, ...]": ((tuple,), "a text or several"),
}
_WHAT = {  # where more can be said
    **dict.fromkeys(("search", "device", "noise"), "a word"),
    "time_limit": "a number of seconds or None",
    "memory": "a number of gigabytes or None",
}


def _refuse(faults: dict[str, bool]) -> None:
    """Raise OptionError with the first sentence that holds."""
    for sentence, holds in faults.items():
        if holds:
            raise OptionError(sentence)


def _either(words: tuple[str, ...]) -> str:
    return ", ".join(words[:-1]) + f" or {words[-1]}"


def _refuse_unknown(options: dict[str, Any], known: list[str]) -> None:
    for name in options:
        if name not in known:
            raise OptionError(f"FitConfig has no {name!r}.{did_you_mean(name, known)}")
