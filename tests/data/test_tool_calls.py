"""Tools of every usual form are the same tools."""

from __future__ import annotations

import json
from typing import Any

import pytest

from curate.data.tool_calls import BadTurn, looks_like_call, parsed, tools_of

PARAMETERS = {"type": "object", "properties": {"a": {"type": "integer"}}}
FUNCTION = {"name": "add", "description": "Adds.", "parameters": PARAMETERS}
TOOL = {"type": "function", "function": FUNCTION}


@pytest.mark.parametrize(
    "value",
    [
        [TOOL],
        TOOL,
        [FUNCTION],
        FUNCTION,
        json.dumps([TOOL]),
        json.dumps(json.dumps([TOOL])),
        [json.dumps(TOOL)],
        [{"type": "function", "function": json.dumps(FUNCTION)}],
        [None, TOOL],
        [{"name": "add", "description": "Adds.", "input_schema": PARAMETERS}],
        [{"name": "add", "description": "Adds.", "parameters": json.dumps(PARAMETERS)}],
        {"add": {"description": "Adds.", "parameters": PARAMETERS}},
        [{"functionDeclarations": [FUNCTION]}],
        {"tools": [{"toolSpec": {"name": "add", "description": "Adds.", "inputSchema": {"json": PARAMETERS}}}]},
    ],
)
def test_tools_of_every_usual_form_are_the_same_tools(value: Any) -> None:
    assert tools_of(value) == [TOOL]


@pytest.mark.parametrize("value", [None, "", "[]", [], {}, "null", [None]])
def test_no_tools(value: Any) -> None:
    assert tools_of(value) is None


@pytest.mark.parametrize("value", ["hammer, saw", ["hammer"], [{"title": "hammer"}], 7, [{"function": {}}]])
def test_what_is_no_tool(value: Any) -> None:
    with pytest.raises(BadTurn, match="a tool without a name"):
        tools_of(value)


def test_json_text_of_objects_alone_is_opened() -> None:
    assert parsed('{"a": 1}') == {"a": 1}
    assert parsed("7") == "7"
    assert parsed("[broken") == "[broken"
    assert looks_like_call('{"name": "add", "arguments": {}}')
    assert not looks_like_call('{"value": 1}')
    assert not looks_like_call("[]")
