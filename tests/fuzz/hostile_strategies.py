"""Generated files that are damaged, or that no format allows, beside good rows."""

from __future__ import annotations

import gzip
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.arrow_strategies import arrow_cases
from tests.fuzz.data_strategies import Case, csv_cases, json_cases

__all__ = ["damaged_cases", "forbidden_files"]

_GOOD = b'{"prompt": "a", "completion": "b", "x": 1}'
_DEPTHS = st.sampled_from([2_000, 100_000, 1_000_000])


def _of_line(line: bytes) -> Any:
    """A JSON Lines file with this line among good ones."""
    return st.integers(0, 2).map(lambda before: b"\n".join([*[_GOOD] * before, line, _GOOD, b""]))


def _with_value(value: bytes) -> bytes:
    return b'{"prompt": "a", "completion": "b", "x": ' + value + b"}"


_VALUES = (
    *(b"nan", b"undefined", b"None", b"True", b"01", b"-", b"+1", b".5", b"1."),
    *(b"1e", b"'a'", b'"a', b'"\xff"', b'"\xc3"', b'"\xed\xa0\x80"', b'"\n"', b'"\x01"', b'"\\x"', b'"\\u12"'),
    *(b"[1,]", b"[,1]", b'{"a": 1,}', b'{"a" 1}', b"{a: 1}", b'{"a": 1, "a": 2}', b'[{"b": {"a": 1, "a": 1}}]'),
    *(b"[1", b"1]", b"0x1", b"/**/ 1", b"1 // a", b"\xef\xbb\xbf1", b"\x00", b"1 2", b""),
)
_ROWS = b'[{"prompt": "a", "completion": "b"}]'
_LINES = (
    *(b"null", b"true", b"1", b'"a"', b"[]", _ROWS, b"{}, {}", b"[", b"{", b"}", b"a,b", b"\x00", b"---", b"{}"),
    *(b'{"prompt": "a", "completion": "b", "prompt": "c"}', b'{"prompt": "a", "completion": "b"} null'),
    *(b'{"prompt": "\\ud800", "completion": "b"}', b'{"prompt": 1, "completion": "b"}', b'{"prompt": null}'),
    *(b'{"prompt": {}, "completion": []}', b'{"prompt": [null], "completion": "b"}', b"\xff\xfe{\x00}\x00"),
    *(b'{"prompt": "a", "completion": "b", "\\ud800": 1}', b'{"prompt": "a", "completion": "b", "origin": 1}'),
)
_CSV = (
    *(b"", b"\n", b"\xef\xbb\xbf", b"prompt", b"prompt,completion", b"prompt,completion\n", b"prompt,prompt\na,b\n"),
    *(b"prompt,completion,x,x\na,b,1,2\n", b"prompt,completion\na\n", b"prompt,completion\na,b,c\n"),
    *(b'prompt,completion\na,b\nc,"d\n', b'prompt,completion\n"a"b"",c\nd,e\n"', b"prompt,completion\na,\xff\n"),
    *(b"prompt,completion\r\na,b\r\nc\r\n", b"\xff\xfep\x00,\x00q\x00", b"\x00\x00\x00"),
)


@st.composite
def _deep(draw: Any) -> bytes:
    depth = draw(_DEPTHS)
    opened, closed = draw(st.sampled_from([(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")]))
    ends = draw(st.booleans())
    return _with_value(opened * depth + b"1" + (closed * depth if ends else b""))


@st.composite
def forbidden_files(draw: Any) -> dict[str, bytes]:
    """{name: content} of a file that holds no dataset, or none without an unusable row."""
    if draw(st.integers(0, 3)) == 0:
        return {"part-0.csv": draw(st.sampled_from(_CSV))}
    lines = st.sampled_from([*_LINES, *map(_with_value, _VALUES)])
    line = draw(st.one_of(lines, lines, lines, _deep()))
    if draw(st.integers(0, 3)) == 0 and line != _ROWS:
        content = b"[" + b",".join([_GOOD] * draw(st.integers(0, 1)) + [line]) + b"]"
        return {"part-0.json": content}
    content = draw(_of_line(line))
    return {"part-0.jsonl.gz": gzip.compress(content, mtime=0)} if draw(st.booleans()) else {"part-0.jsonl": content}


@st.composite
def damaged_cases(draw: Any) -> tuple[str, Case]:
    """A valid dataset of one file, whose bytes were damaged in the way that is named."""
    case = draw(json_cases() | csv_cases() | arrow_cases() | arrow_cases())
    ((name, content),) = case.files.items()
    how = draw(st.sampled_from(["cut", "changed", "added"]))
    place = draw(st.integers(1, len(content) - 1))
    if how == "cut":
        content = content[:place]
    elif how == "added":
        content = content[:place] + draw(st.binary(min_size=1, max_size=9)) + content[place:]
    else:
        numbers = st.sampled_from([b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\x00\x94\x35\x77", b"\x00" * 8, b"\x01"])
        new = draw(numbers | st.binary(min_size=1, max_size=9))
        content = content[:place] + new + content[place + len(new) :]
    return how, replace(case, files={name: content})
