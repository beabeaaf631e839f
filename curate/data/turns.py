"""Normalize messages of any common form to the turns that a chat template takes."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curate.data.message_parts import Parts
from curate.data.tool_calls import BadTurn, calls_of, looks_like_call, parsed
from curate.data.wording import short

# Keys of the speaker and of the content of a message.
ROLE_KEYS = ("role", "from", "speaker", "author", "sender")
CONTENT_KEYS = ("content", "value", "text", "utterance", "message", "parts")
# Keys of the question and of the answer in an object that holds a whole exchange instead of one message.
ASKS = ("human", "user", "input", "prompt", "question", "instruction", "query")
ANSWERS = ("assistant", "gpt", "bot", "chatbot", "model", "output", "response", "completion", "answer")
REASONING_KEYS = ("reasoning_content", "thinking", "reasoning", "tool_plan")
WEIGHT_KEYS = ("weight", "loss_weight", "train", "training", "loss", "output_with_loss")
_CALLS = ("tool_calls", "function_call")
RESULT_KEYS = ("tool_results", "output", "result")  # of what a tool answered, where it has no content
SYSTEM_KEY = "system_prompt"  # of what the system says, where its turn has no content (SWE-agent)
_ITEMS = ("function_call", "function_call_output", "reasoning")  # of OpenAI's Responses API, without a role
# Keys of a message, besides role and content, that change what a model reads or learns of it.
FURTHER_KEYS = frozenset([*REASONING_KEYS, *WEIGHT_KEYS, *_CALLS, *RESULT_KEYS, "name", "tool_call_id", SYSTEM_KEY])
# Keys of a message that say neither what a model reads nor what it learns.
_BESIDE = frozenset(
    [
        *("id", "uuid", "message_id", "parent_id", "index", "turn", "turn_id", "type", "status", "call_id"),
        *("timestamp", "created_at", "create_time", "time", "date", "lang", "language", "model", "tokens"),
    ]
)

CALL = "function_call"  # a turn whose content is a tool call, as ShareGPT data has it
_NAMES = {
    "user": ("human", "prompter", "customer"),
    "assistant": ("gpt", "model", "bot", "chatgpt", "chatbot", "ai", "agent", "llm", "claude", "bing", "gpt4", "gpt-4"),
    "tool": (
        *("function", "observation", "ipython", "tool_response", "function_response", "tool_result"),
        *("tool-response", "function-response", "tool_output", "environment", "tool response", "function response"),
    ),
    CALL: ("tool_call", "function-call", "tool-call", "tool_calls", "tool call", "function call"),
}
TARGETS = ("user", "assistant", "system", "developer", "tool", CALL)
_ROLES = {**{name: role for role, names in _NAMES.items() for name in names}, **{name: name for name in TARGETS}}

# A message as a chat template takes it: role and content (text, may be empty), optionally tool_calls, tool_call_id,
# name and reasoning_content. "train": False marks a turn that is not learned.
Turn = dict[str, Any]


@dataclass(frozen=True)
class MessageKeys:
    """Keys and speaker names of messages that do not have one of the usual forms.

    role, content: keys of a message. roles: {name in the data: one of TARGETS}.
    """

    role: str | None = None
    content: str | None = None
    roles: Mapping[str, str] = field(default_factory=dict)

    def canonical(self, name: str) -> str:
        """The name of a role in chat templates; unknown names are returned unchanged."""
        if name in self.roles:
            return self.roles[name]
        return _ROLES.get(name, _ROLES.get(name.strip().casefold(), name))

    def is_known(self, name: str) -> bool:
        """Whether a role exists in chat templates."""
        return self.canonical(name) in TARGETS


USUAL = MessageKeys()


def read_turns(messages: Sequence[Any], keys: MessageKeys = USUAL) -> list[Turn]:
    """The turns of a conversation. messages: values from `values_of`. Raises BadTurn for an invalid message."""
    return TurnReader(keys).read(messages)


@dataclass
class TurnReader:
    """Reads conversations.

    unseen: kinds of message parts that are not text, collected while reading. unread: keys of messages that have a
    value and are not read.
    """

    keys: MessageKeys
    unseen: set[str] = field(default_factory=set)
    unread: set[str] = field(default_factory=set)

    def read(self, messages: Sequence[Any]) -> list[Turn]:
        return [turn for message in messages for turn in self._turns(message)]

    def _turns(self, message: Any) -> Iterator[Turn]:
        """The turns of one message, which may hold a whole exchange. Raises BadTurn."""
        message = parsed(message)
        if not isinstance(message, dict):
            raise BadTurn("has a message without a role")
        role = _first(message, ROLE_KEYS if self.keys.role is None else (self.keys.role,))
        role = role.get("role") if isinstance(role, dict) else role
        if role is None and message.get("type") in _ITEMS:
            yield from self._item(message)
            return
        if role is None and (ask := _first(message, ASKS)) is not None:
            yield from self._exchange(message, ask)
            return
        if not isinstance(role, str):
            raise BadTurn("has a message without a role")
        content_keys = CONTENT_KEYS if self.keys.content is None else (self.keys.content,)
        if self.keys.canonical(role) == "system":
            content_keys = (*content_keys, SYSTEM_KEY)
        self.unread |= unread_keys(_with_value(message), self.keys)
        yield from self._turn(self.keys.canonical(role), _first(message, content_keys), message)

    def _item(self, item: dict[str, Any]) -> Iterator[Turn]:
        """The turn of an item of OpenAI's Responses API that has no role: a call, what a tool answered, reasoning."""
        if item["type"] == "function_call":
            call = {key: item.get(key) for key in ("name", "arguments")}
            yield from self._turn("assistant", None, {"tool_calls": [{**call, "id": item.get("call_id")}]})
        elif item["type"] == "function_call_output":
            yield from self._turn("tool", item.get("output"), {"tool_call_id": item.get("call_id")})
        else:
            self.unseen.add(item["type"])

    def _exchange(self, message: dict[str, Any], ask: Any) -> Iterator[Turn]:
        """The turns of an object that holds a question and its answer."""
        if isinstance(message.get("system"), str) and message["system"]:
            yield {"role": "system", "content": message["system"]}
        answer = _first(message, ANSWERS)
        if not isinstance(ask, str) or not isinstance(answer, str):
            raise BadTurn("has a message without content" if answer is None else "has a message without a role")
        used = {next(key for key in names if message.get(key) is not None) for names in (ASKS, ANSWERS)}
        self.unread |= _with_value(message) - {*used, "system"} - FURTHER_KEYS - _BESIDE
        yield {"role": "user", "content": ask}
        yield {"role": "assistant", "content": answer} | self._learned(message)

    def _turn(self, role: str, content: Any, message: dict[str, Any]) -> Iterator[Turn]:
        """The turn of a message, preceded by the tool results among its parts."""
        parts = Parts()
        if role == CALL:
            role = "assistant"
            if looks_like_call(content):
                parts.calls, content = calls_of(content), ""
        if role == "tool" and content is None:
            result = _first(message, RESULT_KEYS)
            content = json.dumps(result, ensure_ascii=False) if isinstance(result, list) else result
        if role == "tool" and not isinstance(content, str | list):
            content = "" if content is None else json.dumps(content, ensure_ascii=False)
        parts.add(content)
        yield from parts.results
        turn: Turn = {"role": role, "content": "".join(parts.texts)}
        empty = not parts.texts
        if role == "assistant":
            for key in _CALLS:
                if message.get(key):
                    parts.add_calls(message[key])
            reasoning = _first(message, REASONING_KEYS)
            if isinstance(reasoning, str) and reasoning:
                parts.reasoning.insert(0, reasoning)
            if parts.calls:
                turn["tool_calls"] = parts.calls
            if parts.reasoning:
                turn["reasoning_content"] = "".join(parts.reasoning)
            turn |= self._learned(message)
            empty &= not parts.calls and not parts.reasoning
        self.unseen |= parts.unseen
        empty &= not parts.unseen
        if empty and parts.results:
            return
        if empty and role != "tool":
            raise BadTurn("has a message without content")
        for key in ("name", "tool_call_id"):
            if isinstance(message.get(key), str) and message[key]:
                turn[key] = message[key]
        yield turn

    def _learned(self, message: dict[str, Any]) -> Turn:
        """{"train": False} for a turn whose weight is 0."""
        for key in WEIGHT_KEYS:
            value = message.get(key)
            if value is None or (key == "loss" and not isinstance(value, bool)):
                continue  # a numeric loss is a measurement, not a weight
            if not _weight(key, value):
                return {"train": False}
        return {}


def unread_keys(names: Collection[str], keys: MessageKeys) -> set[str]:
    """Which keys of a message with a role are not read, though they may change what a model reads or learns."""
    role = keys.role or next((key for key in ROLE_KEYS if key in names), None)
    content = keys.content or next((key for key in CONTENT_KEYS if key in names), None)
    return {name for name in names if name not in (role, content)} - FURTHER_KEYS - _BESIDE


def _with_value(message: Mapping[str, Any]) -> set[str]:
    return {key for key, value in message.items() if value not in (None, "", [], {})}


_WORDS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}


def _weight(key: str, value: Any) -> float:
    """The weight of a message, 0 or 1. Raises BadTurn for any other value."""
    text = str(value).strip().casefold()
    try:
        number = _WORDS[text] if text in _WORDS else float(text)
    except ValueError:
        number = math.nan
    if number not in (0, 1):
        raise BadTurn(
            f"has a message whose {key} is {short(str(value))}; a turn is learned or not: write 1 or 0, true or false"
        )
    return number


def _first(message: dict[str, Any], names: Sequence[str]) -> Any:
    """The value of the first of these keys that has one."""
    return next((message[name] for name in names if message.get(name) is not None), None)


def is_learned(turn: Turn) -> bool:
    """Whether a turn is an assistant turn that is not marked with weight 0."""
    return turn["role"] == "assistant" and bool(turn.get("train", True))


def argument_text(call: dict[str, Any]) -> str:
    """The arguments of a call as JSON text."""
    arguments = call["function"]["arguments"]
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def said_characters(turn: Turn) -> int:
    """Characters of the content, reasoning and calls of a turn."""
    calls = (call["function"]["name"] + argument_text(call) for call in turn.get("tool_calls", ()))
    return len(turn["content"]) + len(turn.get("reasoning_content", "")) + sum(map(len, calls))


def last_learned(turns: Sequence[Turn]) -> int:
    """Index of the last learned assistant turn, else of the last assistant turn."""
    assistant_turns = [k for k, turn in enumerate(turns) if turn["role"] == "assistant"]
    return max((k for k in assistant_turns if is_learned(turns[k])), default=assistant_turns[-1])


def history_of(value: Any, keys: MessageKeys = USUAL) -> list[Turn]:
    """Earlier turns of a conversation, none of which is learned. Raises BadTurn for an invalid history.

    value: messages, pairs of question and answer, alternating texts of user and assistant, or JSON text of these.
    """
    value = parsed(value)
    if value in (None, [], {}) or (isinstance(value, str) and value.strip() in ("", "null")):
        return []
    items = value if isinstance(value, list) else [value]
    if not isinstance(value, list) or (all(isinstance(item, str) for item in items) and len(items) % 2):
        raise BadTurn("holds a history that is neither messages nor pairs of a question and its answer")
    if all(isinstance(item, str) for item in items):
        items = [items[k : k + 2] for k in range(0, len(items), 2)]
    turns: list[Turn] = []
    for item in items:
        if isinstance(item, list):
            if len(item) != 2 or not all(part is None or isinstance(part, str) for part in item):
                raise BadTurn("holds a history with a pair that is not a question and its answer")
            speakers_and_texts = zip(("user", "assistant"), item, strict=True)
            turns += [{"role": role, "content": text} for role, text in speakers_and_texts if text]
        elif item is not None:
            turns += read_turns([item], keys)
    return as_context(turns)


def as_context(turns: Sequence[Turn]) -> list[Turn]:
    """The turns with assistant turns marked as not learned."""
    return [{**turn, "train": False} if turn["role"] == "assistant" else turn for turn in turns]
