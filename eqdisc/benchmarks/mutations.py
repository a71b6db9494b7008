"""Mutations: small true files changed as nobody would write them, each in its own format: cells of a table and parts of a workbook, words of a
formula, values of JSON. What is no such format raises whatever it may, and is mutated byte by byte.
"""

from __future__ import annotations

import io
import json
import random
import re
import zipfile
from typing import Any

NASTY: tuple[Any, ...] = (
    None, True, -1, 0, 7, 10**30, 1e308, -1e-320, float("nan"), float("inf"), 0.5, "", "x", "t", " ", "nan", "1e999", "lambda", "S",
    'x); system("touch pwned");//', "</script><script>", "\\input{/etc/passwd}", "'''\nimport os", "*/", "a\nb", "\x1b[2J", "\ud800", "\x00",
    "__class__", "9**9**9**9", "S*I", "sqrt(-1)", "2014-05-18", "1,5", "é", "x" * 2000, "9" * 5000, [], {}, [[]], [None], {"": None},
    ["x", "x"], {"S": "S"}, {"S": None}, {"S": 1.0}, {"x0": {}},
)  # fmt: skip
CONNECTIVES = ("+", "-", "*", "/", "**", ",", "")
# fmt: off
ATOMS = (
    "x", "y", "u", "t", "0", "1", "2", "-1", "0.5", "(2/3)", "60", "1e308", "1e-320", "1e300", "0.1",
    "(x+y)", "sqrt(x*y)", "Abs(x)", "Max(x,y)", "exp(x)", "x**y", "x**0.3",
)
WORDS = (
    *ATOMS, "z", "+", "-", "*", "/", "**", "(", ")", ",", ".", ";", ":", "=", "1j", "True", "sqrt(", "exp(", "log(", "sin(", "Abs(", "sign(",
    "Max(", "Min(", "x.__class__", "__import__('os')", "lambda", "[", "]", "{", "}", "==", "<", "if", "else", r"\frac{", r"\sqrt{", "^{",
    r"\cdot 10^{", r"\left(", r"\right)", "é", "\ud800", "\x00", "9" * 400, "(" * 40, "-" * 40, "\n",
)
# fmt: on


def mutate_table(data: bytes, draw: random.Random) -> bytes:
    """Change a part of a workbook, or some cells, rows or columns of a text."""
    if data[:2] == b"PK":
        return _mutate_parts(data, draw)
    separator = max((",", ";", "\t"), key=lambda mark: data[:100].count(mark.encode()))
    rows = [line.split(separator) for line in data.decode("utf-8", "replace").split("\n")]
    for _ in range(draw.randint(1, 2)):
        rows = _change_rows(rows, draw) or [[""]]
    mark = draw.choice([",", ";", "\t"]) if draw.random() < 0.05 else separator
    return "\n".join(mark.join(row) for row in rows).encode("utf-8", "surrogatepass")


def _change_rows(rows: list[list[str]], draw: random.Random) -> list[list[str]]:
    """Double or remove a row, or change a column or a cell."""
    row = draw.choice(rows)
    match draw.randrange(7):
        case 1:
            rows.insert(draw.randrange(len(rows)), list(draw.choice(rows)))
        case 2:
            rows.remove(row)
        case 5:
            return _overwrite(rows[:200], draw.randrange(len(row)), str(draw.choice(NASTY)))
        case 6:
            return [[*r, str(n % 3)] for n, r in enumerate(rows[:200])]
        case number:
            _change_cell(row, rows, number, draw)
    return rows


def _overwrite(rows: list[list[str]], k: int, value: str) -> list[list[str]]:
    return [[*r[:k], value, *r[k + 1 :]] for r in rows]


def _change_cell(row: list[str], rows: list[list[str]], number: int, draw: random.Random) -> None:
    match number:
        case 0:
            row[draw.randrange(len(row))] = str(draw.choice(NASTY))
        case 3:
            row[draw.randrange(len(row))] = draw.choice(draw.choice(rows))
        case _:
            row.append(str(draw.choice(NASTY)))


def _mutate_parts(data: bytes, draw: random.Random) -> bytes:
    """Change some bytes of one part of a zip, and write its checksum anew."""
    page = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as parts, zipfile.ZipFile(page, "w", zipfile.ZIP_DEFLATED) as changed:
        names = parts.namelist()
        chosen = draw.choice(names)
        for name in names:
            part = bytearray(parts.read(name))
            if name == chosen:
                at, length = draw.randrange(len(part) + 1), draw.randrange(1, 12)
                other = part[draw.randrange(len(part) + 1) :][:length]
                part[at : at + draw.choice([0, length])] = draw.choice(
                    [other, b"", b"999999999", b"-1", b"ZZZ9", b"&lt;"]
                )
            changed.writestr(name, bytes(part))
    return page.getvalue()


def mutate_words(data: bytes, draw: random.Random) -> bytes:
    """Put in, leave out, double or exchange words of a formula."""
    text = data.decode("utf-8", "surrogateescape")
    for _ in range(draw.randint(1, 3)):
        a, b = sorted(draw.randrange(len(text) + 1) for _ in range(2))
        text = draw.choice(
            [
                text[:a] + draw.choice(WORDS) + text[a:],
                text[:a] + draw.choice(WORDS) + text[a:b] + ")" + text[b:],
                text[:a] + text[min(b, a + 5) :],
                text[:a] + text[a:b] * draw.randint(2, 4) + text[b:],
                f"({text}){draw.choice(CONNECTIVES)}({text})",
                f"{text[:a]}{draw.choice(ATOMS)}{draw.choice(CONNECTIVES)}{text[a:]}",
                f"{text[:a]}({text[a:b]}){draw.choice(CONNECTIVES)}{draw.choice(ATOMS)}{text[b:]}",
                re.sub(r"[xyut]|[0-9.]+", lambda m: draw.choice(ATOMS) if draw.random() < 0.1 else m[0], text),
            ]
        )
    return text.encode("utf-8", "surrogateescape")


def mutate_json(data: bytes, draw: random.Random) -> bytes:
    """Replace, remove, double or exchange values of JSON."""
    value = json.loads(data)
    for _ in range(draw.randint(1, 3)):
        places = list(_places(value))
        if not places:
            return json.dumps(draw.choice(NASTY)).encode()
        (holder, key), (other, theirs) = draw.choice(places), draw.choice(places)
        match draw.randrange(7):
            case 0:
                del holder[key]
            case 2 if isinstance(holder, list):
                holder.append(_copy(holder[key]))
            case 3 if isinstance(holder, dict):
                holder[str(draw.choice(NASTY))[:3000]] = holder.pop(key)
            case number:
                holder[key] = _change_value(number, holder[key], other[theirs], draw)
    return json.dumps(value).encode()


def _change_value(number: int, value: Any, other: Any, draw: random.Random) -> Any:
    match number:
        case 1:
            return _copy(other)
        case 4 if isinstance(value, str):
            return mutate_words(value.encode("utf-8", "surrogatepass"), draw).decode("utf-8", "replace")
        case 5:
            return json.loads("[" * 900 + "]" * 900) if draw.random() < 0.05 else [value]
    return _copy(draw.choice(NASTY))


def _copy(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _places(value: Any, depth: int = 0) -> Any:
    """Yield every (holder, key) in JSON; those near the top come as often as all below them."""
    if depth > 6:
        return
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in list(items):
        yield value, key
        yield from _places(part, depth + 1)
