"""Parse JSON texts exactly, split them into the texts of their members, and check what `datasets` would change."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from curate.data.wording import short

_BLANKS = re.compile(r"[ \t\r\n]*")
_NOT_ZERO = re.compile(r"[^eE]*[1-9]")
_JOINED = 16_384  # strings checked together


class RepeatedKey(ValueError):
    """An object has one key twice."""


class Unheld:
    """A number that is kept as text: beyond the range of doubles, or of thousands of digits."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


# --- texts -----------------------------------------------------------------------------------------------------


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        keys = [key for key, _ in pairs]
        raise RepeatedKey(f"key {next(key for key in keys if keys.count(key) > 1)!r} appears twice")
    return members


def _float(text: str) -> float | Unheld:
    number = float(text)
    lost = math.isinf(number) or (number == 0 and _NOT_ZERO.match(text))
    return Unheld(text) if lost else number


def _int(text: str) -> int | Unheld:
    return int(text) if len(text) < 4000 else Unheld(text)  # Python converts no more than 4,300 digits


_DECODER = json.JSONDecoder(parse_float=_float, parse_int=_int, object_pairs_hook=_object)
_SKIPPER = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)


def loads(text: str) -> Any:
    """The value of a JSON text. Raises RepeatedKey, RecursionError (1,000 levels), and ValueError for other texts."""
    return _DECODER.decode(text)


def value_of(text: str) -> Any:
    """The value of a JSON text; None if it is not valid."""
    try:
        return loads(text)
    except (ValueError, RecursionError):
        return None


def loads_from(text: str, place: int) -> tuple[Any, int]:
    """The value that begins at `place` and the position of the next one, skipping blanks; raises as `loads`."""
    value, place = _DECODER.raw_decode(text, _skip(text, place))
    return value, _skip(text, place)


def _skip(text: str, place: int) -> int:
    match = _BLANKS.match(text, place)
    return match.end() if match else place


def members_of(text: str) -> dict[str, str]:
    """Split the text of an object into {key: text of the value}."""
    members = {}
    place = _skip(text, text.index("{") + 1)
    while text[place] != "}":
        key, place = _SKIPPER.raw_decode(text, place)
        start = _skip(text, _skip(text, place) + 1)  # after the colon
        _, place = _SKIPPER.raw_decode(text, start)
        members[key] = text[start:place]
        place = _skip(text, place)
        place = _skip(text, place + 1) if text[place] == "," else place
    return members


def items_of(text: str) -> list[str]:
    """Split the text of a list into the texts of its values."""
    items = []
    place = _skip(text, text.index("[") + 1)
    while text[place] != "]":
        _, end = _SKIPPER.raw_decode(text, place)
        items.append(text[place:end])
        place = _skip(text, end)
        place = _skip(text, place + 1) if text[place] == "," else place
    return items


def dumps(value: Any) -> str:
    """JSON text of a Python value. Raises TypeError for values without a JSON type."""
    text = json.dumps(value, ensure_ascii=False)
    return text if encodable([text]) else json.dumps(value)  # half a surrogate pair can only be an escape


def encodable(texts: Sequence[str]) -> bool:
    """Whether all texts can be encoded as UTF-8: none holds a lone surrogate."""
    try:
        for low in range(0, len(texts), _JOINED):
            "".join(texts[low : low + _JOINED]).encode()
    except UnicodeEncodeError:
        return False
    return True


# --- values that `datasets` cannot load ------------------------------------------------------------------------


class _Fault(ValueError):
    pass


def _refuse_constant(text: str) -> Any:
    raise _Fault(f"holds {text}, which JSON has not")


def _check_int(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        raise _Fault(f"holds {short(text)}, which does not fit 64 bits")
    return 0


def _check_float(text: str) -> float:
    if isinstance(_float(text), Unheld):
        raise _Fault(f"holds {short(text)}, which is beyond the range of floating-point numbers")
    return 0.0


def _check_digits(text: str) -> float:
    if not _keeps(text):
        raise _Fault(f"holds {short(text)}, whose last digits `datasets` would change")
    return _check_float(text)


@lru_cache(maxsize=1 << 16)
def _keeps(text: str) -> bool:
    """Whether the JSON parser of `datasets` reads a number like Python's."""
    from datasets import Json

    return bool(Json().decode_example(text) == float(text))


_CHECKERS = {
    strict: json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_check_int, parse_float=check)
    for strict, check in ((True, _check_digits), (False, _check_float))
}


def fault_of(text: str, digits: bool = True) -> str | None:
    """Why `datasets` would not load a JSON text as its value; None if it does.

    digits: whether the last digits of floating-point numbers matter.
    """
    try:
        value = _CHECKERS[digits].decode(text)
        if "\\u" in text or not text.isascii():
            json.dumps(value, ensure_ascii=False).encode()
    except _Fault as fault:
        return str(fault)
    except UnicodeEncodeError:
        return "is not valid UTF-8"
    except RecursionError:
        return "nests too deep"
    except ValueError as error:
        return f"is not JSON ({error})"
    return None
