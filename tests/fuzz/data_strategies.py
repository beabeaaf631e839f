"""Generated datasets of text files, JSON and CSV, with the value of each cell and the characters it was written as."""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

__all__ = ["MISSING", "WORDS", "Case", "Real", "csv_cases", "encoded", "json_cases", "marked", "texts"]


class _Missing:
    """A key that an object does not have."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()


@dataclass(frozen=True)
class Real:
    """A JSON number with a fraction or an exponent, by its characters; also NaN and the infinities of Python."""

    text: str

    @property
    def held(self) -> bool:
        """Whether a double is near: the number is in the range of doubles, or 0."""
        number = float(self.text)
        digits = self.text.lower().partition("e")[0]
        return (math.isfinite(number) and (number != 0 or not digits.strip("-.0"))) or self.text[-1].isalpha()


@dataclass(frozen=True)
class Case:
    """A dataset.

    kind: json, csv or arrow. files: {path below the folder: content}; what is read is the file, or the folder where
    there are several. rows: {column: cell} of each row, in the order of the files. key: column whose text holds a
    mark of its row, see `marked`. raw: {column: characters of its cells}. tables: what arrow files hold.
    """

    kind: str
    files: dict[str, bytes]
    rows: list[dict[str, Any]]
    key: str
    raw: dict[str, list[str]] = field(default_factory=dict)
    tables: Any = None

    def __repr__(self) -> str:
        if self.tables is not None:
            return f"{', '.join(self.files)} of {self.tables}"
        return f"{len(self.rows)} rows: { {name: content[:2000] for name, content in self.files.items()} }"

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(repr(self))  # as hypothesis shows an example


def marked(text: str, row: int) -> str:
    """The text, made unique: rows of the result are found by this mark, and by nothing that curation says."""
    return f"{text}§{row}§"


# --- text --------------------------------------------------------------------------------------------------------

# What readers have taken for something else, or stumbled over.
WORDS = (
    *("", " ", "a", "\n", "\r\n", "\r", "\t", "a\nb", '"', '""', "'", "\\", "\\n", ",", ";", "|", "a,b", ' "a", b'),
    *("null", "NULL", "None", "NA", "N/A", "n/a", "nan", "NaN", "-nan", "inf", "-Infinity", "true", "False", "TRUE"),
    *("0", "-0", "007", "00501", "1", "1.0", "1.50", "+1", "1e5", "1E400", ".5", "5.", "0x10", "1_000", "1,000", "١"),
    *("9007199254740993", "9223372036854775807", "9223372036854775808", "123456789012345678901234567890", "½"),
    *("2020-01-01", "2020-01-01T00:00:00", "2020-01-01 00:00:00.000", "2020-01-01T00:00:00Z", "12:30", "01/02/2003"),
    *("1970-01-01T00:00:00+01:00", "9999-12-31", "{}", "[]", "[1, 2]", '{"a": 1}', "=1+1", "@a", "#", "# a", "//"),
    *("\x00", "a\x00b", "\x1b[31m", "\x7f", "\x85", "\u2028", "\ufeff", "\ufeffa", "\uffff", "\ufffd", "\u202ea"),
    *("é", "e\u0301", "ß", "İ", "漢字", "\U0001f600", "\U0001f468\u200d\U0001f469", "\U0010ffff", "\U000e0041"),
    *("<b>", "</script>", "{{ a }}", "${a}", "%s", "{0}", "$1", "NaT", "x" * 70, " a", "a ", "\u00a0"),
)


def texts(**bounds: int) -> SearchStrategy[str]:
    """Strings of every plane, and those that readers take for something else."""
    least = bounds.get("min_size", 0)
    return st.sampled_from([word for word in WORDS if len(word) >= least]) | st.text(max_size=8, **bounds)


# --- JSON values -------------------------------------------------------------------------------------------------

_INT64 = st.integers(-9, 9) | st.sampled_from([2**31, -(2**31) - 1, 2**53 - 1, 2**53, -(2**53), 10**15])
_LONG = st.sampled_from([2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 2**60 + 1]) | st.integers(-(2**63), 2**63 - 1)
_HUGE = st.sampled_from([2**63, -(2**63) - 1, 2**64 - 1, 2**64, 10**30, -(10**40)])
_SPELLINGS = ("0.0", "-0.0", "1.0", "1.50", "1E5", "1e-7", "-1.5e+3", "0.1e1", "0.30000000000000004", "1e22", "1e23")
_SPELLINGS += ("5e-324", "2.2250738585072014e-308", "1.7976931348623157e308", "123456789012345678901234567890.5")
_SPELLINGS += ("9007199254740993.0", "0.12345678901234567", "1e-12", "100000000000000000000.0", "3.0e0")
_REALS = st.floats(allow_nan=False, allow_infinity=False).map(lambda value: Real(repr(value)))
_REALS |= st.sampled_from([Real(text) for text in _SPELLINGS])
_DATES = st.sampled_from([word for word in WORDS if word[4:5] == "-" or "01" in word[:2]])
_DIGITS = st.sampled_from([word for word in WORDS if word[:1].isdigit() and word.isascii()])
_KEYS = ("a", "b", "name", "role", "content", "", " ", "a.b", "0", "é", "ключ", "__proto__", "list", "item", "element")
_SCALARS: dict[str, SearchStrategy[Any]] = {
    "null": st.none(),
    "bool": st.booleans(),
    "small": _INT64,
    "long": _INT64 | _LONG,
    "huge": _INT64 | _LONG | _HUGE,
    "real": _REALS,
    "number": _INT64 | _REALS,
    "any number": _INT64 | _LONG | _HUGE | _REALS,
    "constant": st.sampled_from([Real("NaN"), Real("Infinity"), Real("-Infinity"), Real("1.5")]),
    "beyond": st.sampled_from([Real("1e400"), Real("-1E+999"), Real("1e-400"), Real("-0.0e-999"), Real("1.5")]),
    "text": texts(),
    "dates": _DATES,
    "digits": _DIGITS,
}
_NESTED = ("list", "list from null", "object", "sparse object", "empty object", "mixed", "deep")


def _mixed() -> SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | _SCALARS["long"] | _REALS | texts()
    keys = st.sampled_from(_KEYS)
    return st.recursive(
        leaves, lambda of: st.lists(of, max_size=3) | st.dictionaries(keys, of, max_size=3), max_leaves=6
    )


_MIXED = _mixed()


@st.composite
def _kinds(draw: Any, depth: int) -> SearchStrategy[Any]:
    """Draws a kind of cell; the cells of one column are of one."""
    kind = draw(st.sampled_from([*_SCALARS, *_NESTED] if depth else list(_SCALARS)))
    if kind in _SCALARS:
        return st.none() | _SCALARS[kind] if draw(st.booleans()) else _SCALARS[kind]
    if kind == "mixed":
        return _MIXED
    if kind == "empty object":
        return st.just({}) | st.none()
    if kind == "deep":
        inner = draw(_kinds(0))
        levels = draw(st.integers(2, 30))
        return inner.map(lambda value: _wrapped(value, levels))
    if kind.startswith("list"):
        start = [None] * kind.count("null")
        return st.none() | st.lists(draw(_kinds(depth - 1)), max_size=3).map(lambda values: [*start, *values])
    keys = draw(st.lists(st.sampled_from(_KEYS), min_size=1, max_size=3, unique=True))
    members = {key: draw(_kinds(depth - 1)) for key in keys}
    if kind == "sparse object":
        return st.fixed_dictionaries({}, optional=members)
    return st.none() | st.fixed_dictionaries(members)


def _wrapped(value: Any, levels: int) -> Any:
    for _ in range(levels):
        value = [value]
    return value


# --- columns that a model reads ----------------------------------------------------------------------------------

_PAIRS = (("prompt", "completion"), ("question", "answer"), ("instruction", "output"), ("text",))
_NAMES = (
    "x",
    "y",
    "meta",
    "tags",
    "a b",
    "a.b",
    "level",
    "é",
    " ",
    "",
    "0",
    "Prompt2",
    "漢字",
    "date",
    "n\nm",
    "x" * 99,
)
_SPEAKERS = (("role", "content", "user", "assistant"), ("from", "value", "human", "gpt"))


@st.composite
def content(draw: Any, rows: int, nested: bool = True, empty: bool = True) -> dict[str, list[Any]]:
    """{column: cells} of a valid shape; the first column holds the marks. nested: whether there may be conversations,
    empty: whether these may hold objects without keys."""
    if nested and draw(st.integers(0, 3)) == 0:
        name = draw(st.sampled_from(["messages", "conversations"]))
        return {name: draw(_conversations(rows, empty))}
    names = draw(st.sampled_from(_PAIRS))
    cells = [[draw(texts(min_size=1)) for _ in range(rows)] for _ in names]
    return {
        name: [marked(cell, row) if place == 0 else cell for row, cell in enumerate(column)]
        for place, (name, column) in enumerate(zip(names, cells, strict=True))
    }


@st.composite
def _conversations(draw: Any, rows: int, empty: bool) -> list[Any]:
    role, said, user, assistant = draw(st.sampled_from(_SPEAKERS))
    extras = [{}, {}, {"weight": st.sampled_from((0, 1))}, {"name": st.none() | texts()}]
    extra = draw(st.sampled_from([*extras, {"meta": st.just({})}] if empty else extras))
    sparse = draw(st.booleans())
    others = st.fixed_dictionaries({}, optional=extra) if sparse else st.fixed_dictionaries(extra)
    turns = st.lists(st.sampled_from([user, assistant, "system"]), max_size=3)
    cells = []
    for row in range(rows):
        speakers = [user, *draw(turns), assistant]
        spoken = [{role: who, said: draw(texts(min_size=1)), **draw(others)} for who in speakers]
        spoken[0][said] = marked(spoken[0][said], row)
        cells.append(spoken)
    return cells


@st.composite
def _columns(draw: Any, taken: Any, most: int) -> list[str]:
    """Names of further columns, `most` at most."""
    names = st.sampled_from([name for name in _NAMES if name not in taken])
    return draw(st.lists(names, min_size=most // 2, max_size=most, unique=True))


# --- JSON files --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Style:
    """How JSON is written: whether in ASCII, and what stands between."""

    ascii: bool
    comma: str
    colon: str


_STYLES = tuple(_Style(*each) for each in [(True, ", ", ": "), (False, ",", ":"), (False, " ,\t", " : ")])


def encoded(value: Any, style: _Style = _STYLES[0]) -> str:
    """JSON text of a value."""
    if isinstance(value, Real):
        return value.text
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=style.ascii)
    if isinstance(value, list):
        return f"[{style.comma.join(encoded(each, style) for each in value)}]"
    if isinstance(value, dict):
        members = (f"{encoded(str(key), style)}{style.colon}{encoded(each, style)}" for key, each in value.items())
        return f"{{{style.comma.join(members)}}}"
    return json.dumps(value)


@st.composite
def json_cases(draw: Any, parts: int = 1) -> Case:
    """JSON Lines or lists. parts: how many files there are at least; their columns are of kinds of their own."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=parts, max_size=max(1, 2 * (parts - 1))))
    sizes[0] += 1
    count = sum(sizes)
    columns = draw(content(count))
    key = next(iter(columns))
    for name in draw(_columns(columns, 4)):
        columns[name] = []
        for number, size in enumerate(sizes):
            if number == 0 or draw(st.booleans()):
                kind = draw(_kinds(2))
            cells = st.just(MISSING) | kind if draw(st.integers(0, 4)) == 0 else kind
            columns[name] += draw(st.lists(cells, min_size=size, max_size=size))
    columns = {name: cells for name, cells in columns.items() if any(cell is not MISSING for cell in cells)}
    rows = [{name: cells[row] for name, cells in columns.items()} for row in range(count)]
    style = draw(st.sampled_from(_STYLES))
    raw = {
        name: [encoded(cell, style) if cell is not MISSING else "" for cell in cells] for name, cells in columns.items()
    }
    suffix = draw(st.sampled_from([".jsonl", ".jsonl", ".json", ".ndjson", ".jsonl.gz"]))
    listed = suffix == ".json" and draw(st.booleans())
    files, start = {}, 0
    for number, size in enumerate(sizes):
        lines = [_line(row, style, turned=draw(st.booleans())) for row in rows[start : start + size]]
        files[f"part-{number}{suffix}"] = _file(draw, lines, listed, suffix)
        start += size
    return Case("json", files, rows, key, raw)


def _line(row: dict[str, Any], style: _Style, turned: bool) -> str:
    there = {name: cell for name, cell in row.items() if cell is not MISSING}
    return encoded(dict(reversed(there.items())) if turned else there, style)


def _file(draw: Any, lines: list[str], listed: bool, suffix: str) -> bytes:
    if listed:
        text = "[" + draw(st.sampled_from([",", ", ", ",\n  ", "\r\n,"])).join(lines) + "]\n"
    else:
        text = draw(st.sampled_from(["\n", "\r\n", "\n\n", "\n \n"])).join(lines) + draw(st.sampled_from(["", "\n"]))
    data = text.encode()
    if draw(st.integers(0, 5)) == 0:
        data = b"\xef\xbb\xbf" + data
    return gzip.compress(data, mtime=0) if suffix.endswith(".gz") else data


# --- CSV files ---------------------------------------------------------------------------------------------------

_CSV_KINDS: dict[str, SearchStrategy[str]] = {
    "small": st.integers(-9, 999).map(str),
    "long": (_INT64 | _LONG).map(str),
    "huge": (_INT64 | _LONG | _HUGE).map(str),
    "real": _REALS.map(lambda value: value.text),
    "number": (_INT64 | _REALS).map(lambda value: value.text if isinstance(value, Real) else str(value)),
    "any number": (_LONG | _REALS).map(lambda value: value.text if isinstance(value, Real) else str(value)),
    "digits": st.text("0123456789", min_size=1, max_size=6),
    "bool": st.sampled_from(["true", "false"]),
    "Bool": st.sampled_from(["True", "False"]),
    "yes": st.sampled_from(["yes", "no", "T", "F", "TRUE", "0", "1"]),
    "date": _DATES,
    "gaps": st.sampled_from(["", "1", "2.5", "-3"]),
    "missing": st.sampled_from(["NA", "null", "NaN", "None", "N/A", "", "1"]),
    "spaced": st.sampled_from([" 1", "2 ", "3", " x"]),
    "empty": st.just(""),
    "text": texts(),
    "special": st.sampled_from(["inf", "-inf", "1.5", "Infinity", "nan"]),
}


@st.composite
def csv_cases(draw: Any, parts: int = 1) -> Case:
    """CSV or TSV files; cells are the text between the separators."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=parts, max_size=max(1, 2 * (parts - 1))))
    sizes[0] += 1
    columns = draw(content(sum(sizes), nested=False))
    key = next(iter(columns))
    for name in draw(_columns(columns, 6)):
        columns[name] = []
        for number, size in enumerate(sizes):
            if number == 0 or draw(st.booleans()):
                kind = _CSV_KINDS[draw(st.sampled_from(list(_CSV_KINDS)))]
            columns[name] += draw(st.lists(kind, min_size=size, max_size=size))
    rows = [{name: cells[row] for name, cells in columns.items()} for row in range(sum(sizes))]
    suffix, comma = draw(st.sampled_from([(".csv", ","), (".csv", ","), (".tsv", "\t"), (".csv.gz", ",")]))
    end, quoting = draw(st.sampled_from(["\n", "\r\n"])), draw(st.sampled_from(["needed", "all", "some"]))
    files, start = {}, 0
    for number, size in enumerate(sizes):
        lines = [list(columns), *(list(row.values()) for row in rows[start : start + size])]
        text = end.join(comma.join(_quoted(draw, cell, comma, quoting) for cell in line) for line in lines)
        data = (text + draw(st.sampled_from(["", end]))).encode()
        data = b"\xef\xbb\xbf" + data if draw(st.integers(0, 5)) == 0 else data
        files[f"part-{number}{suffix}"] = gzip.compress(data, mtime=0) if suffix.endswith(".gz") else data
        start += size
    return Case("csv", files, rows, key)


def _quoted(draw: Any, cell: str, comma: str, quoting: str) -> str:
    needed = any(mark in cell for mark in (comma, '"', "\n", "\r"))
    if needed or quoting == "all" or (quoting == "some" and draw(st.booleans())):
        return '"' + cell.replace('"', '""') + '"'
    return cell
