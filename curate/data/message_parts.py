"""Sort the parts of a message's content by kind: text, reasoning, tool calls and results of tools."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from curate.data.tool_calls import BadTurn, calls_of
from curate.data.wording import short


@dataclass
class Parts:
    """The parts of a message's content, sorted by kind."""

    texts: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    unseen: set[str] = field(default_factory=set)

    def add(self, content: Any) -> None:
        """Add content: text, a part, or a list of parts. Raises BadTurn for anything else."""
        if isinstance(content, str):
            self.texts.append(content)
        elif isinstance(content, list):
            self.texts += [""] if not content else []
            for part in content:
                self._add_part(part)
        elif isinstance(content, dict) and isinstance(content.get("parts"), list):
            self.add(content["parts"])
        elif isinstance(content, dict) and isinstance(content.get("text"), str):
            self._add_part(content)
        elif content is not None:
            kind = (
                "true or false"
                if isinstance(content, bool)
                else "an object"
                if isinstance(content, dict)
                else "a number"
            )
            raise BadTurn(
                f"has a message that holds {kind}, {short(json.dumps(content, ensure_ascii=False))}, not text"
            )

    def add_calls(self, value: Any) -> None:
        try:
            self.calls += calls_of(value)
        except BadTurn:
            self.unseen.add("tool calls without a name")

    def _add_part(self, part: Any) -> None:
        """Add one part of a message's content by its type; unknown types are recorded as unseen."""
        if isinstance(part, str) or part is None:
            self.texts += [part] if part else []
            return
        kind = part.get("type") if isinstance(part, dict) else None
        kind = kind if isinstance(kind, str) else ""
        if not isinstance(part, dict):
            self.unseen.add(type(part).__name__)
        elif kind in ("thinking", "reasoning"):
            self.reasoning += [
                text for key in ("thinking", "reasoning", "text") if isinstance(text := part.get(key), str)
            ]
        elif part.get("thought") is True and isinstance(text := part.get("text"), str):  # Gemini
            self.reasoning.append(text)
        elif isinstance(thought := part.get("reasoningContent"), dict):  # Bedrock
            inner = thought.get("reasoningText")
            self.reasoning += [text] if isinstance(inner, dict) and isinstance(text := inner.get("text"), str) else []
        elif kind in ("tool_use", "tool_call"):
            self.add_calls(part)
        elif isinstance(called := part.get("functionCall") or part.get("function_call"), dict):  # Gemini
            self.add_calls(called)
        elif isinstance(answered := part.get("functionResponse") or part.get("function_response"), dict):
            response_text = json.dumps(answered.get("response"), ensure_ascii=False)
            self.results.append({"role": "tool", "content": response_text, "name": str(answered.get("name", ""))})
        elif isinstance(used := part.get("toolUse"), dict):  # Bedrock
            self.add_calls({**used, "id": used.get("toolUseId")})
        elif isinstance(result := part.get("toolResult"), dict):
            self._add_result(result.get("content"), result.get("toolUseId"))
        elif kind == "tool_result":
            self._add_result(part.get("content"), part.get("tool_use_id"))
        elif isinstance(text := next((part[key] for key in ("text", "refusal") if key in part), None), str):
            self.texts.append(text)
        elif "json" in part and not kind:
            self.texts.append(json.dumps(part["json"], ensure_ascii=False))
        else:
            self.unseen.add(kind or next((str(key) for key, value in part.items() if value is not None), "object"))

    def _add_result(self, content: Any, call: Any) -> None:
        """Add what a tool answered. call: the id of the call, if it is a text."""
        inner = Parts()
        inner.add(content)
        self.unseen |= inner.unseen
        turn: dict[str, Any] = {"role": "tool", "content": "".join(inner.texts)}
        self.results.append(turn | ({"tool_call_id": call} if isinstance(call, str) else {}))
