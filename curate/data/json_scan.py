"""What a JSON text looks like from outside: how deep it nests, and whether a fast parser may be trusted with it."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from curate.types import IntArray

__all__ = ["TooDeep", "long_integers", "plain_rows"]

_BLOCK = 1 << 20  # bytes looked at together: what fits a cache
_QUOTE, _BACKSLASH, _NEWLINE, _RETURN, _OBJECT, _LIST = b'"\\\n\r{['
_SPACES = list(b" \t\r\n")
_BEFORE_NUMBERS = list(b"-:,[ \t\r\n")
_UNDERFLOW = re.compile(rb"[0-9][eE]-0*[1-9][0-9]{2}")
_ZEROS = b"0" * 300
_INTEGER = re.compile(rb"[0-9]{16,}(?=[\s,\]}]|\Z)")

Bytes = npt.NDArray[np.uint8]
Places = IntArray


class TooDeep(ValueError):
    """Lists and objects nest deeper than allowed, first at byte `place`."""

    def __init__(self, place: int) -> None:
        super().__init__(f"nests too deep at byte {place}")
        self.place = place


def plain_rows(data: Bytes, most_levels: int) -> int | None:
    """Number of rows, if every line that is not empty is one whole object and no list begins with null; else None.

    pyarrow's parser ends the process, or moves values to other rows, on some data where this is None.
    data: (n,) bytes of UTF-8. Raises TooDeep where lists and objects nest deeper than `most_levels`.
    """
    rows, level, in_string = 0, 0, False
    plain = _start_lines(data, np.zeros(1, np.int64))
    for low in range(0, len(data), _BLOCK):
        block = data[low : low + _BLOCK]
        quotes = _unescaped(data, np.flatnonzero(block == _QUOTE) + low)
        folded = block | 32  # the brackets of lists become those of objects
        marks = np.flatnonzero((folded == 123) | (folded == 125)) + low
        marks = marks[(np.searchsorted(quotes, marks) + in_string) % 2 == 0]
        opens = data[marks] & 2 == 2
        levels = np.concatenate([[level], level + np.cumsum(np.where(opens, 1, -1))])
        if levels.max() > most_levels:
            raise TooDeep(int(marks[np.argmax(levels[1:] > most_levels)]))
        if plain:
            newlines = np.flatnonzero(block == _NEWLINE) + low
            first = marks[opens & (levels[1:] == 1)]
            rows += len(first)
            plain = (
                not levels[np.searchsorted(marks, newlines)].any()
                and not ((np.searchsorted(quotes, newlines) + in_string) % 2).any()
                and _start_lines(data, newlines + 1)
                and bool((_at(data, first[first > 0] - 1) == _NEWLINE).all())
                and _end_lines(data, marks[~opens & (levels[1:] == 0)] + 1)
                and not _begin_with_null(data, marks[data[marks] == _LIST] + 1)
            )
        level, in_string = int(levels[-1]), bool((in_string + len(quotes)) % 2)
    return rows if plain and level == 0 and not in_string else None


def _at(data: Bytes, places: Places) -> Bytes:
    """(m,) the bytes at places, a newline behind the end."""
    found = np.full(len(places), _NEWLINE, np.uint8)
    inside = places < len(data)
    found[inside] = data[places[inside]]
    return found


def _start_lines(data: Bytes, places: Places) -> bool:
    """Whether at each place either an object begins or the line ends."""
    return bool((_at(data, places) == _OBJECT).all()) or _end_lines(data, places[_at(data, places) != _OBJECT])


def _end_lines(data: Bytes, places: Places) -> bool:
    found = _at(data, places)
    returns = found == _RETURN
    return bool((returns | (found == _NEWLINE)).all() and (_at(data, places[returns] + 1) == _NEWLINE).all())


def _begin_with_null(data: Bytes, places: Places) -> bool:
    """Whether the first value of a list is null, for the places behind the brackets; yes where that is hard to say."""
    for _ in range(16):
        found = _at(data, places)
        if (found == ord("n")).any():
            return True
        places = places[np.isin(found, _SPACES) & (places < len(data))] + 1
        if not len(places):
            return False
    return True


def _unescaped(data: Bytes, quotes: Places) -> Places:
    """The quotes that no backslash escapes: those with an even number of backslashes before them."""
    escaped = np.zeros(len(quotes), np.bool_)
    left = np.arange(len(quotes))  # those whose run of backslashes has not ended yet
    for length in range(1, 17):
        left = left[(quotes[left] >= length) & (data[quotes[left] - length] == _BACKSLASH)]
        if not len(left):
            break
        escaped[left] = length % 2 == 1
    for each in left.tolist():
        escaped[each] = _backslashes(data, int(quotes[each])) % 2 == 1
    return quotes[~escaped]


def _backslashes(data: Bytes, place: int) -> int:
    """Length of the run of backslashes that ends before `place`."""
    reach = 64
    while True:
        part = data[max(place - reach, 0) : place].tobytes()
        count = len(part) - len(part.rstrip(b"\\"))
        if count < len(part) or reach > place:
            return count
        reach *= 4


def long_integers(data: Bytes) -> int | None:
    """How many integers of the text lie beyond 2^53; None where a double may not hold a number for its exponent.

    A few strings may count as numbers.
    """
    count = 0
    for low in range(0, len(data), _BLOCK):
        block = data[max(low - 1, 0) : low + _BLOCK + 512]  # a number at the edge is seen whole
        digits = (block - 48) < 10
        small = digits[:-2] & (block[1:-1] | 32 == ord("e")) & (block[2:] == ord("-"))
        if small.any() and _UNDERFLOW.search(block.tobytes()):
            return None
        runs = digits
        for step in (1, 2, 4, 8):  # runs of 16 digits
            runs = runs[step:] & runs[:-step]
        begins = np.flatnonzero(runs[1:] & ~digits[: max(len(runs) - 1, 0)]) + 1
        begins = begins[begins <= _BLOCK - (low == 0)]
        before = block[begins - 1]
        integers = begins[np.isin(before, _BEFORE_NUMBERS)]
        fractions = begins[(before == ord(".")) & (block[begins] == ord("0"))]
        text = block.tobytes() if len(integers) or len(fractions) else b""
        if any(text.startswith(_ZEROS, begin) for begin in fractions.tolist()):
            return None
        found = [_INTEGER.match(text, begin) for begin in integers.tolist()]
        count += sum(len(match[0]) > 16 or int(match[0]) > 2**53 for match in found if match)
    return count
