"""Normalize tools and tool calls to the form that chat templates take."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

_ARGUMENTS = ("arguments", "parameters", "input", "args")
_SCHEMAS = ("parameters", "input_schema", "inputSchema", "arguments")
_DECLARED = ("functionDeclarations", "function_declarations")  # of several tools in one object (Gemini)
_NOTHING = ("", "null")  # texts that mean no tools
_LEVELS = 4  # of JSON text within JSON text, from tools that were dumped twice


class BadTurn(ValueError):
    """A message that cannot be read; the text is the reason, and continues "column 'x'"."""


def parsed(value: Any) -> Any:
    """Parse JSON text of an object or list; other values are returned unchanged."""
    for _ in range(_LEVELS):
        if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "[", '"'):
            break
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            break
    return value


def calls_of(value: Any) -> list[dict[str, Any]]:
    """Tool calls as `{"type": "function", "function": {"name", "arguments"}}`, with the `id` where there is one.

    value: one call or several, objects or JSON text. Arguments that are JSON text of an object become that object.
    Raises BadTurn for a call without a name.
    """
    value = parsed(value)
    calls = value if isinstance(value, list) else [value]
    return [_call(parsed(call)) for call in calls if call is not None]


def _call(call: Any) -> dict[str, Any]:
    """Normalize one tool call. Raises BadTurn without the name of a tool."""
    function = parsed(call.get("function")) if isinstance(call, dict) else None
    body = function if isinstance(function, dict) else call
    if isinstance(function, str):  # {"function": "add", "arguments": ...}
        body = {**call, "name": function}
    if not isinstance(body, dict) or not isinstance(body.get("name"), str):
        raise BadTurn("has a tool call without the name of a tool")
    arguments: Any = next((body[key] for key in _ARGUMENTS if body.get(key) is not None), {})
    value = parsed(arguments)
    arguments = value if isinstance(value, dict) else {} if arguments == "" else arguments
    result: dict[str, Any] = {"type": "function", "function": {"name": body["name"], "arguments": arguments}}
    if isinstance(call.get("id"), str):
        result["id"] = call["id"]
    return result


def looks_like_call(value: Any) -> bool:
    """Whether a text or object is a tool call or a list of them."""
    value = parsed(value)
    calls = value if isinstance(value, list) else [value]
    try:
        return bool(calls) and all(isinstance(call, dict) and bool(_call(call)) for call in calls)
    except BadTurn:
        return False


def tools_of(value: Any) -> list[dict[str, Any]] | None:
    """Tools as `{"type": "function", "function": {"name", "description", "parameters"}}`; None if there are none.

    value: a list of tools, a mapping of names to tools, Bedrock's toolConfig, or JSON text of these; tools are objects
    or JSON text, with or without "function" around them, or Gemini's lists of functionDeclarations. Null keys are
    ignored. Raises BadTurn for anything else.
    """
    value = parsed(value)
    if isinstance(value, dict) and isinstance(value.get("tools"), list):  # Bedrock
        value = value["tools"]
    if isinstance(value, dict) and "name" not in value and "function" not in value:
        values = list(value.values())
        if values and all(isinstance(tool, dict) for tool in values):
            value = [tool if "name" in tool or "function" in tool else {"name": k, **tool} for k, tool in value.items()]
    if value in (None, {}, []) or (isinstance(value, str) and value.strip() in _NOTHING):
        return None
    tools = list(_tools(value if isinstance(value, list) else [value]))
    return tools or None


def _first(value: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((value[name] for name in names if value.get(name) is not None), None)


def _tools(items: list[Any]) -> Iterator[dict[str, Any]]:
    """Normalize a list of tools. Raises BadTurn for one without a name."""
    for item in map(parsed, items):
        if item is None:
            continue
        declared = _first(item, _DECLARED) if isinstance(item, dict) else None
        if isinstance(declared, list):
            yield from _tools(declared)
            continue
        function = parsed(item.get("function")) if isinstance(item, dict) else None
        body = function if isinstance(function, dict) else item
        if isinstance(body, dict) and isinstance(body.get("toolSpec"), dict):
            body = body["toolSpec"]
        if not isinstance(body, dict) or not isinstance(body.get("name"), str):
            raise BadTurn("holds a tool without a name")
        if isinstance(function, dict):
            further = {
                key: value for key, value in item.items() if key not in ("type", "function") and value is not None
            }
            yield {"type": item.get("type") or "function", "function": function, **further}
            continue
        schema = parsed(_first(body, _SCHEMAS))
        if isinstance(schema, dict) and schema.keys() == {"json"}:  # Bedrock
            schema = schema["json"]
        own = {key: value for key, value in body.items() if key not in (*_SCHEMAS, "type") and value is not None}
        if schema is not None:
            own["parameters"] = schema
        yield {"type": "function", "function": own}
