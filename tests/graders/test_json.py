"""Tool calls and JSON by value: equal values are right in every form, other ones never."""

import json
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from curate.graders import JSON
from curate.verify import Verdict

NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.text("abc_", min_size=1, max_size=4),
            "arguments": st.dictionaries(st.text(max_size=4), VALUES, max_size=3),
        }
    ),
    min_size=1,
    max_size=3,
)
FORMS: dict[str, Callable[[list[Any]], str]] = {
    "tags": lambda calls: "\n".join(f"<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in calls),
    "words": lambda calls: "Let me look.\n" + FORMS["tags"](calls) + "<|im_end|>",
    "functions": lambda calls: "".join(f"<function={x['name']}>{json.dumps(x['arguments'])}</function>" for x in calls),
    "mistral": lambda calls: "[TOOL_CALLS]" + json.dumps(calls),
    "list": json.dumps,
    "lines": lambda calls: "\n".join(map(json.dumps, calls)),
    "llama": lambda calls: "<|python_tag|>" + "; ".join(_renamed(call) for call in calls) + "<|eom_id|>",
    "openai": lambda calls: json.dumps(
        [{"id": "x1", "type": "function", "function": _as_text(call)} for call in calls]
    ),
    "fence": lambda calls: "```json\n" + json.dumps(calls, indent=2) + "\n```",
    "thought": lambda calls: "<think>{hm}</think>\n" + FORMS["tags"](calls),
}


def _renamed(call: dict[str, Any]) -> str:
    return json.dumps({"name": call["name"], "parameters": call["arguments"]})


def _as_text(call: dict[str, Any]) -> dict[str, Any]:
    return {"name": call["name"], "arguments": json.dumps(call["arguments"])}


def _plain(value: Any) -> Any:
    """Something that compares as JSON values do: exact numbers apart from truth values."""
    if isinstance(value, dict):
        return {"object": {key: _plain(item) for key, item in value.items()}}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bool):
        return f"the value {value}"
    return ("number", Decimal(repr(value))) if isinstance(value, int | float) else (type(value), value)


def _same(one: list[Any], other: list[Any]) -> bool:
    left = [_plain(each) for each in other]
    for each in map(_plain, one):
        if each not in left:
            return False
        left.remove(each)
    return not left


@given(form=st.sampled_from(list(FORMS)), calls=CALLS, seed=st.integers(0, 5))
def test_the_same_calls_are_right_in_every_form_and_order(form: str, calls: list[Any], seed: int) -> None:
    reference = JSON().reference("", FORMS["tags"](calls), None, {})
    assert reference is not None
    shuffled = random.Random(seed).sample(calls, len(calls))
    turned = [{**call, "arguments": dict(reversed(call["arguments"].items()))} for call in shuffled]
    assert JSON().grade(FORMS[form](turned), reference, {}) is Verdict.right


@given(form=st.sampled_from(list(FORMS)), one=CALLS, other=CALLS)
def test_other_calls_are_never_right(form: str, one: list[Any], other: list[Any]) -> None:
    assume(not _same(one, other))
    assert JSON().grade(FORMS[form](one), FORMS["tags"](other), {}) is not Verdict.right


@given(calls=CALLS, data=st.data())
def test_calls_that_stop_in_the_middle_are_never_right(calls: list[Any], data: st.DataObject) -> None:
    text = FORMS["list"](calls)
    cut = data.draw(st.integers(0, len(text) - 1))
    assert JSON().grade(text[:cut], FORMS["tags"](calls), {}) is not Verdict.right


@given(one=VALUES, other=VALUES)
def test_objects_that_are_no_calls_are_compared_as_values(one: Any, other: Any) -> None:
    reference = JSON().reference("", json.dumps({"value": other}), None, {})
    assert reference is not None
    verdict = JSON().grade(json.dumps({"value": one}), reference, {})
    assert (verdict is Verdict.right) == _same([one], [other])


CALL = '<tool_call>{"name": "f", "arguments": {"x": %s}}</tool_call>'


@pytest.mark.parametrize(
    ("said", "expected", "verdict"),
    [
        ("1", "1.0", "right"),
        ("1e2", "100", "right"),
        ("1", "true", "wrong"),
        ("null", "{}", "wrong"),
        ('"1"', "1", "wrong"),
        ("[1, 2]", "[2, 1]", "wrong"),
        ("9007199254740993", "9007199254740992", "undecided"),  # one number for a reader of doubles
        ("0.1", "0.10000000000000000001", "undecided"),
        ('{"a": 1, "a": 2}', '{"a": 2}', "undecided"),
        ("NaN", "1", "undecided"),
        ("1e99999999999999999999", "1", "undecided"),
    ],
)
def test_values_of_arguments(said: str, expected: str, verdict: str) -> None:
    assert JSON().grade(CALL % said, CALL % expected, {}) == verdict


def test_no_call_is_wrong_and_what_may_be_one_in_another_form_is_undecided() -> None:
    reference = CALL % "1"
    assert JSON().grade("I cannot do that.", reference, {}) is Verdict.wrong
    both = f"{reference} {reference}"
    assert JSON().grade(both, reference, {}) is Verdict.wrong
    for said in ('I call {"name": "f", "arguments": {"x": 1}} now', "[f(x=1)]", "<f x=1>", CALL[:-14] % "1" + " {}"):
        assert JSON().grade(said, reference, {}) is Verdict.undecided, said


def test_an_object_that_names_two_calls_is_undecided() -> None:
    two = '{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}, "name": "g"}'
    assert JSON().grade(two, CALL % "1", {}) is Verdict.undecided


@pytest.mark.parametrize("number", ["1e999999999", "-1e400", "1e-999999999", "1e20", "0.0", "123456789012345678"])
def test_numbers_of_any_size_can_be_shown(number: str) -> None:
    shown = JSON().extract(CALL % number, False)
    assert shown is not None
    assert float(json.loads(shown)[0]["arguments"]["x"]) == float(number)


def test_an_object_with_a_name_is_no_call() -> None:
    person = {"name": "Ann", "age": 3}
    assert JSON().grade(json.dumps({**person, "age": 4}), json.dumps(person), {}) is Verdict.wrong
    assert JSON().reference("", "It is 4.", None, {}) is None
    assert JSON().reference("", "4", None, {}) is None
