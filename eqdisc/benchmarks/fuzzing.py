"""Fuzzing: files that nobody would write, by the hundred thousand; only an EqdiscError may leave what reads them, within a second.

    pip install -c constraints.txt -e '.[fuzz,tables]'
    python -m eqdisc.benchmarks.fuzzing table|equations|result --runs 200000

Atheris mutates small true files and keeps what reaches new branches of eqdisc. Half of the mutations are of bytes, half of the format: cells
of a table and parts of a workbook, words of a formula, values of JSON. An input that ends in any other exception, or takes more than
a second of the processor, is a finding: it is kept in `--out`, and the command ends with 1.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..work.errors import EqdiscError
from .mutations import mutate_json, mutate_table, mutate_words

LIMIT = 1.0  # seconds of the processor for one input
STUCK = 60  # seconds after which an input is a hang, and the run is over
LARGEST = 30_000  # bytes of an input
MOST_FINDINGS = 30
REFUSED = "refused"
AFRESH = (
    *(
        "work.files",
        "work.config",
        "work.markup",
        "data.dataset",
        "data.inputs",
        "data.columns",
        "data.sheet",
        "data.tables",
    ),
    *("law.printers", "law.formulas", "law.equations", "runs.formats", "runs.folder", "runs.run", "runs.export"),
)


# What is fuzzed: each takes the bytes of an input and does what the command would do with them


def read_a_table(data: bytes, folder: Path) -> None:
    """Read the bytes as a table, with columns in roles that depend on them."""
    from ..data.tables import read_table

    path = folder / "table"
    path.write_bytes(data)
    number = zlib.crc32(data)
    words = data[:200].decode("latin-1").splitlines() or [""]
    last = words[0].replace(";", ",").replace("\t", ",").split(",")[-1].strip()
    roles: tuple[dict[str, Any], ...] = (
        *({"group": last}, {"inputs": f"{last}:hold"}, {"inputs": last}, {"trajectory": last}, {"states": last}),
        {"units": f"{last}=mg"},
    )
    read_table(path, **(roles[number % 12] if number % 12 < len(roles) else {}))


def read_equations(data: bytes, folder: Path) -> None:
    """Read the bytes as a law of x and y, plain and in LaTeX, and write it again in every notation."""
    from ..law.equations import Equations

    first, _, second = data.decode("utf-8", "surrogateescape").partition("\n")
    sides = {"x": first, "y": second or "0"}
    with suppress(EqdiscError):
        Equations.from_latex(sides, ("x", "y"), ("u",))
    law = Equations.parse(sides, ("x", "y"), ("u",))
    Equations.parse(law.strings(), law.states, law.inputs), Equations.from_latex(law.latex(), law.states, law.inputs)
    law.readable(), law.fluxes(), law.invariants(), law.terms(), law.complexity, law.rooted
    with np.errstate(all="ignore"):
        law.function(lambda t: np.ones(1))(1.0, np.array([0.5, 2.0]))


def load_a_result(data: bytes, folder: Path) -> None:
    """Read the bytes as the files of a run, or as its result.json, and do with it what the commands do, of the dear things one."""
    from ..runs.export import TARGETS, export
    from ..runs.run import load, read_begun

    for name, content in _files_of(data).items():
        (folder / name).write_bytes(content)
    run, turn = load(folder), zlib.crc32(data)
    whole = (run.hidden, run.sigma, run.reasons, run.alternatives, run.groups, run.config, repr(run))
    assert whole
    match turn % 4:
        case 0:
            read_begun(folder)
        case 1:
            run._repr_html_(), run.front_table(), run.parameters_table()
        case 2:
            for k in run.data.trajectories:
                run.start_of(k.name), run.law_of(k.group)
        case _:
            export(run, TARGETS[turn // 4 % len(TARGETS)])


RUN_FILES = ("result.json", "config.json", "data.csv")


def _files_of(data: bytes) -> dict[str, bytes]:
    """Return the files of a run: those that one JSON object holds by name, or the bytes as result.json alone."""
    try:
        bundle = json.loads(data)
        if not isinstance(bundle, dict) or not set(bundle) & set(RUN_FILES):
            raise TypeError
        return {name: _bytes_of(bundle.get(name, "")) for name in RUN_FILES}
    except (ValueError, TypeError, RecursionError):
        return {"result.json": data}


def _bytes_of(content: Any) -> bytes:
    text = content if isinstance(content, str) else json.dumps(content)
    return text.encode("utf-8", "surrogatepass")


# Seeds


def seed_tables() -> list[bytes]:
    """Return small tables of every kind that is read."""
    texts = [
        "t,S,I\n0,99,1\n1,98,2\n2,96.5,3.5\n3,90,\n4,88,9\n5,80,15\n",
        "time;S [mg];S_sigma\n0;10,5;0,1\n1;7,5;0,1\n2;;\n3;4,5;0,2\n4;3,5;0,1\n5;3,0;0,1\n",
        "trajectory,t,x,u\na,0,1,0\na,1,2,0\na,2,3.5,1\na,3,5,1\na,4,9,0\nb,0,2,0\nb,1,4,1\nb,2,7,1\nb,3,9,0\nb,4,11,0\n",
        "date\tcases\tmouse\n2014-05-18\t1\t1\n2014-05-19\t2\t1\n2014-05-20\t4\t1\n2014-05-18\t7\t2\n2014-05-19\t9\t2\n2014-05-20\t9.5\t2\n",
        '"t","a ""b"""\r\n0,1\r\n1,2\r\n2,4\r\n3,8\r\n4,16\r\n',
    ]
    found = [text.encode() for text in texts] + [
        texts[1].encode("utf-16"),
        "t;é\n0;1\n1;2\n2;3\n3;5\n".encode("cp1252"),
    ]
    try:
        import pandas as pd

        frame = pd.DataFrame({"t": [0.0, 1.0, 2.0, 3.0, 4.0], "S": [1, 2, 4, 8, 16], "name": list("aaaab")})
        for write in (frame.to_parquet, frame.to_excel):
            page = io.BytesIO()
            write(page, index=False)
            found.append(page.getvalue())
    except ImportError:  # neither pyarrow nor openpyxl
        pass
    return found


def seed_equations() -> list[bytes]:
    """Return laws as the catalogue has them, and as eqdisc writes them in LaTeX."""
    import sympy as sp

    from ..law.catalogue import catalogue
    from ..law.equations import Equations

    x, y = sp.symbols("x y", real=True)
    laws = []
    for law in (system.law for system in catalogue().values() if len(system.equations) <= 2):
        rhs = [side.xreplace(dict(zip(law.symbols, (x, y), strict=False))) for side in law.rhs]
        laws.append(Equations(("x", "y"), (*rhs, sp.S.Zero)[:2]))
    texts = ["\n".join(sides) for law in laws for sides in (law.strings().values(), law.latex().values())]
    more = (
        "Max(x, y, 0.5)*u - sign(x)*Abs(y)**1.5\nsqrt(x*y)/(0.4 + x**2)",
        "sin(t)*exp(-x)\nlog(1+y**2)",
        r"-0.06 \sqrt{x y} + 1.5 \cdot 10^{-7} x^{0.3}",
        r"\operatorname{Max}\left(x, u\right)",
    )
    return [text.encode() for text in (*texts, *more)]


def seed_results() -> list[bytes]:
    """Return the files of runs that were fitted here: plain, with a front and rivals, with groups."""
    from ..data.tables import as_dataset
    from ..discovery import discover
    from ..runs.folder import RunFolder, create_run
    from ..work.config import FitConfig

    t = np.linspace(0.0, 6.0, 15)
    x = 2 * np.exp(-0.5 * t) + 0.01 * np.random.default_rng(0).normal(size=15)
    import pandas as pd

    plain = pd.DataFrame({"t": t, "x": x, "S": 3 - x})
    grouped = pd.concat([plain[["t", "x"]].assign(m="a"), plain[["t", "x"]].assign(m="b", x=2 * np.exp(-0.8 * t))])
    found = []
    for frame, group, bootstrap in ((plain, None, 0), (plain[["t", "x"]], None, 2), (grouped, "m", 0)):
        with tempfile.TemporaryDirectory() as place:
            data = as_dataset(frame, group=group)
            config = FitConfig(bootstrap=bootstrap)
            folder = create_run(Path(place) / "run", data, config)
            RunFolder(folder.path).write_discovery(discover(data, config))
            files = {name: (folder.path / name).read_text(encoding="utf-8") for name in RUN_FILES}
        bundle: dict[str, Any] = {
            name: json.loads(text) if name.endswith("json") else text for name, text in files.items()
        }
        bundle["result.json"]["alternatives"] = bundle["result.json"]["alternatives"][:2]
        found.append(json.dumps(bundle).encode())
    return found


@dataclass(frozen=True)
class Target:
    """What is fuzzed, how a format is mutated, and what to start from."""

    read: Callable[[bytes, Path], None]
    mutate: Callable[[bytes, random.Random], bytes]
    seeds: Callable[[], list[bytes]]


TARGETS = {
    "table": Target(read_a_table, mutate_table, seed_tables),
    "equations": Target(read_equations, mutate_words, seed_equations),
    "result": Target(load_a_result, mutate_json, seed_results),
}


class Stuck(BaseException):
    """An input takes too long."""


def _give_up(*_: Any) -> None:
    raise Stuck


@dataclass
class Count:
    """What a run has seen so far."""

    inputs: int = 0
    refused: int = 0
    slowest: float = 0.0
    slow: bytes = b""
    findings: dict[str, bytes] = field(default_factory=dict)

    def take(self, target: Target, data: bytes, folder: Path) -> None:
        """Read one input and take note of how it ended and how long it took."""
        begin, end = time.process_time(), _end_of(target, data, folder)
        taken = time.process_time() - begin
        self.inputs += 1
        self.refused += end == REFUSED
        if taken > self.slowest:
            self.slowest, self.slow = taken, data
        wrong = "" if end == REFUSED else end
        if taken > LIMIT:
            wrong = wrong or f"{taken:.1f} s"
        if wrong and wrong not in self.findings:
            print(f"finding: {wrong}: {data[:200]!r}", flush=True)
            self.findings[wrong] = data


def _end_of(target: Target, data: bytes, folder: Path) -> str:
    """Return how reading an input ended: in nothing, refused, or where in eqdisc something else was raised."""
    signal.signal(signal.SIGVTALRM, _give_up)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, 2 * LIMIT)
        target.read(data, folder)
    except EqdiscError:
        return REFUSED
    except (Exception, Stuck) as error:
        where = traceback.extract_tb(error.__traceback__)
        place = next((f for f in reversed(where) if f"{os.sep}eqdisc{os.sep}" in f.filename), where[-1])
        return f"{type(error).__name__} in {Path(place.filename).name}, line {place.lineno}"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
    return ""


def fuzz(name: str, runs: int, out: Path, seed: int, seconds: float) -> None:
    """Fuzz one target with so many inputs, or for so long; ends the process, with 1 where something was found."""
    import atheris

    target, count, begin = TARGETS[name], Count(), time.monotonic()
    seeds, corpus = target.seeds(), out / name
    corpus.mkdir(parents=True, exist_ok=True)
    for k, content in enumerate(seeds):
        (corpus / f"seed-{k}").write_bytes(content)
    with atheris.instrument_imports(include=["eqdisc", "json", "csv"]):
        _import_afresh()
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))

    def take(data: bytes) -> None:
        count.take(target, data, folder)
        over = count.inputs >= runs or time.monotonic() - begin > seconds or len(count.findings) >= MOST_FINDINGS
        if count.inputs % 20_000 == 0 or over:
            _report(name, count, time.monotonic() - begin, out)
        if over:
            sys.stdout.flush()
            os._exit(bool(count.findings))

    limits = [f"-max_len={LARGEST}", f"-timeout={STUCK}", f"-seed={seed}", "-rss_limit_mb=4096"]
    options = [sys.argv[0], *limits, "-verbosity=0", "-len_control=0", f"-artifact_prefix={out}/{name}-", str(corpus)]
    atheris.Setup(options, take, custom_mutator=partial(_mutate, target, seeds))
    atheris.Fuzz()


def _mutate(target: Target, seeds: list[bytes], data: bytes, size: int, number: int) -> bytes:
    """Change an input in its format, or in its bytes where it is no longer of that format; most mutants of mutants are refused at once."""
    import atheris

    draw = random.Random(number)
    data = draw.choice(seeds) if draw.random() < 0.5 else data
    if draw.random() < 0.5:
        with suppress(Exception):
            return target.mutate(data, draw)[:size]
    return atheris.Mutate(data, size)


def _import_afresh() -> None:
    """Import again, under instrumentation, the modules that read and write; what computes stays as it is."""
    from importlib import import_module

    package = __package__.partition(".")[0]
    for name in AFRESH:
        sys.modules.pop(f"{package}.{name}", None)
    for name in AFRESH:
        import_module(f"{package}.{name}")


def _report(name: str, count: Count, seconds: float, out: Path) -> None:
    """Print how far a run is, and keep its slowest input and its findings."""
    print(
        f"{name}: {count.inputs:,} inputs in {seconds:.0f} s, {count.refused:,} refused, {len(count.findings)} findings, "
        f"slowest {count.slowest:.3f} s: {count.slow[:120]!r}",
        flush=True,
    )
    (out / f"{name}-slowest").write_bytes(count.slow)
    for k, data in enumerate(count.findings.values()):
        (out / f"{name}-finding-{k}").write_bytes(data)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--runs", type=int, default=200_000, help="inputs")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after so long")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/fuzzing"), help="folder of the corpus and of findings")
    options = parser.parse_args(arguments)
    if find_spec("atheris") is None:
        parser.error("atheris is missing; install it with pip install 'eqdisc[fuzz]'.")
    fuzz(options.target, options.runs, options.out, options.seed, options.seconds)


if __name__ == "__main__":
    main()
