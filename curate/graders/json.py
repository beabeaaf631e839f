"""Grade tool calls and other JSON by value."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from curate.component import Component
from curate.graders.final_words import final_words
from curate.verify.verdict import Verdict

_ARGUMENTS = ("arguments", "parameters", "input", "args")
_OF_CALLS = frozenset([*_ARGUMENTS, "name", "id", "type", "index", "function"])
_FENCE = re.compile(r"\A```(?:\w{0,12})[ \t]*\n(.*?)\n?[ \t]*```\Z", re.DOTALL)
_TAGS = (("<tool_call>", "</tool_call>"), ("[TOOL_CALLS]", ""))
_FUNCTION = re.compile(r"<function=([^<>\s]{1,200})>")
_BETWEEN = re.compile(r"[\s;,]*")
_BLANKS = re.compile(r"\s*")


class Unreadable(ValueError):
    """A text that may hold JSON, in an unknown form."""


class JSON(Component):
    """Right where the tool calls of a completion are those of the reference, or its JSON is the same value.

    Names are compared by their characters, arguments as JSON values: keys in any order, numbers by their exact value
    (1 is 1.0, and 0.1 is not 0.10000000000000001), text by its characters; true is not 1, and null is not a missing
    key. Several calls are compared in any order, each as often as it occurs. They are read as `<tool_call>` JSON
    `</tool_call>`, `<function=NAME>` JSON `</function>`, `[TOOL_CALLS]` JSON, or JSON alone, as one object, a list, or
    objects one after the other, with `arguments` or `parameters`, also as JSON text. Words beside tagged calls do not
    count. No JSON where a call is expected is wrong; JSON among other words, broken JSON, repeated keys and numbers
    that differ by less than a double holds are undecided, and so is what was cut off.
    """

    def reference(self, question: str, completion: str, final_answer: str | None, row: Mapping[str, Any]) -> str | None:
        """See `curate.protocols.Grader`: a completion of calls or of one JSON object or list, else the final answer."""
        for text in (completion, final_answer):
            if text and _expected(text) is not None:
                return text
        return None

    def grade(self, completion: str, reference: str, row: Mapping[str, Any]) -> Verdict:
        """See `curate.protocols.Grader`."""
        expected = _expected(reference)
        answer_text = final_words(completion)
        if expected is None or answer_text is None:
            return Verdict.undecided
        expected_values, are_calls = expected
        try:
            values = calls_in(answer_text) if are_calls else [_value(answer_text)]
        except Unreadable:
            return Verdict.undecided
        if _counted(values, Decimal) == _counted(expected_values, Decimal):
            return Verdict.right
        return Verdict.undecided if _counted(values, float) == _counted(expected_values, float) else Verdict.wrong

    def extract(self, completion: str, cut_off: bool) -> str | None:
        """The calls as a JSON list, or the value; None if there are none."""
        answer_text = final_words(completion)
        if cut_off or answer_text is None:
            return None
        try:
            values: Any = calls_in(answer_text)
        except Unreadable:
            try:
                values = _value(answer_text)
            except Unreadable:
                return None
        return json.dumps(values, ensure_ascii=False, default=_plain) if values != [] else None


def calls_in(text: str) -> list[dict[str, Any]]:
    """The tool calls of a text, each {"name", "arguments"}; empty if it holds no JSON. Raises Unreadable."""
    for opening, closing in _TAGS:
        if opening in text:
            return [_call(block) for block in _tagged(text, opening, closing)]
    if _FUNCTION.search(text):
        return list(_functions(text))
    if "{" not in text:
        if "[" in text or "<" in text:  # calls in some other form
            raise Unreadable
        return []
    return [_call(call) for call in _sequence(_unfenced(text))]


def _tagged(text: str, opening: str, closing: str) -> Iterator[Any]:
    """The JSON values after each opening tag, with lists flattened."""
    place = text.find(opening)
    if "{" in text[:place]:
        raise Unreadable  # JSON before the first tag
    while place >= 0:
        value, end = _decoded(text, _skip(text, place + len(opening)))
        yield from value if isinstance(value, list) else [value]
        end = _skip(text, end)
        if closing and text.startswith(closing, end):
            end += len(closing)
        elif end < len(text):
            raise Unreadable
        place = text.find(opening, end)
        if "{" in text[end : place if place >= 0 else None]:
            raise Unreadable


def _functions(text: str) -> Iterator[dict[str, Any]]:
    end = 0
    while (match := _FUNCTION.search(text, end)) is not None:
        if "{" in text[end : match.start()]:
            raise Unreadable
        arguments, end = _decoded(text, _skip(text, match.end()))
        yield {"name": match[1], "arguments": arguments}
        end = _skip(text, end)
        if not text.startswith("</function>", end):
            raise Unreadable
        end += len("</function>")
    if "{" in text[end:]:
        raise Unreadable


def _sequence(text: str) -> Iterator[Any]:
    """JSON values one after the other and nothing else, with lists flattened."""
    place = 0
    while place < len(text):
        value, place = _decoded(text, place)
        yield from value if isinstance(value, list) else [value]
        match = _BETWEEN.match(text, place)
        assert match is not None  # it also matches the empty string
        place = match.end()


def _call(value: Any, *, needs_arguments: bool = False) -> dict[str, Any]:
    """A call in canonical form. needs_arguments: whether arguments are required, to tell calls from other objects."""
    if not isinstance(value, dict) or not set(value) <= _OF_CALLS:
        raise Unreadable
    function = value.get("function")
    if isinstance(function, dict) and {"name", *_ARGUMENTS} & set(value):
        raise Unreadable  # two calls in one
    call_fields = (
        {**value, "name": function} if isinstance(function, str) else function if function is not None else value
    )
    if (
        not isinstance(call_fields, dict)
        or not isinstance(call_fields.get("name"), str)
        or not set(call_fields) <= _OF_CALLS
    ):
        raise Unreadable
    argument_values = [call_fields[key] for key in _ARGUMENTS if key in call_fields]
    if len(argument_values) > 1 or (needs_arguments and not argument_values):
        raise Unreadable
    arguments = argument_values[0] if argument_values else {}
    if isinstance(arguments, str):
        arguments = _loads(arguments) if arguments.strip() else {}
    return {"name": call_fields["name"], "arguments": {} if arguments is None else arguments}


def _expected(text: str) -> tuple[list[Any], bool] | None:
    """The values of a reference, and whether they are calls; None if it is neither a call nor an object or list."""
    answer_text = final_words(text) or ""
    if not any(mark in answer_text for mark in "{["):
        return None
    try:
        if "<tool_call>" in answer_text or "[TOOL_CALLS]" in answer_text or _FUNCTION.search(answer_text):
            return calls_in(answer_text), True
        values = list(_sequence(_unfenced(answer_text)))
        if not values:
            return None
        try:
            return [_call(value, needs_arguments=True) for value in values], True
        except Unreadable:
            value = _value(answer_text)
    except Unreadable:
        return None
    return ([value], False) if isinstance(value, dict | list) else None


def _value(text: str) -> Any:
    """The single JSON value that makes up a text."""
    return _loads(_unfenced(text))


def _unfenced(text: str) -> str:
    match = _FENCE.match(text.strip())
    return (match[1] if match else text).strip()


def _skip(text: str, place: int) -> int:
    match = _BLANKS.match(text, place)
    assert match is not None  # it also matches the empty string
    return match.end()


def _loads(text: str) -> Any:
    value, end = _decoded(text, _skip(text, 0))
    if _skip(text, end) < len(text):
        raise Unreadable
    return value


def _decoded(text: str, place: int) -> tuple[Any, int]:
    """Decode a JSON value with exact numbers; returns it and its end position."""
    try:
        return _DECODER.raw_decode(text, place)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise Unreadable from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise Unreadable  # readers disagree on which value counts
    return fields


def _no_number(name: str) -> Any:
    raise Unreadable


_DECODER = json.JSONDecoder(
    parse_float=Decimal, parse_int=Decimal, parse_constant=_no_number, object_pairs_hook=_object
)


def _counted(values: list[Any], number: Callable[[Decimal], Any]) -> Counter[Any]:
    return Counter(_hashable(value, number) for value in values)


def _hashable(value: Any, number: Callable[[Decimal], Any]) -> Any:
    """A hashable value, equal to another one if and only if their JSON values are equal."""
    if isinstance(value, dict):
        return "object", frozenset((key, _hashable(item, number)) for key, item in value.items())
    if isinstance(value, list):
        return "list", tuple(_hashable(item, number) for item in value)
    if isinstance(value, Decimal):
        return "number", number(value)
    return type(value).__name__, value


def _plain(value: Decimal) -> Any:
    """A number for json.dumps, for people to read; as text where a double does not reach."""
    if value.adjusted() < 15 and value == value.to_integral_value():
        return int(value)
    return float(value) if abs(value.adjusted()) < 300 else str(value)
