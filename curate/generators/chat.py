"""Prompt formatting: turns as messages for servers, messages through a chat template, or as plain text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from curate.data.tool_calls import parsed
from curate.data.turns import Turn, argument_text
from curate.errors import InputError
from curate.generators.requests import Prompt
from curate.models.loading import load_tokenizer
from curate.storage.places import expanded
from curate.tokenization.default_template import check_chat_template, spoken
from curate.tokenization.dialect import Dialect
from curate.tokenization.layouts import RefusedRow

Mode = Literal["chat", "plain"]
Template = Literal["auto", "chat", "plain"]


def as_messages(turns: Sequence[Turn]) -> tuple[dict[str, Any], ...]:
    """Turns in the format of servers: arguments of calls as text, without fields that only training needs, and with
    an id for each call, which its result repeats (nine letters and digits, as Mistral's templates require)."""
    messages = []
    open_ids: list[str] = []  # of calls without a result so far
    made = 0
    for turn in turns:
        message = {key: value for key, value in turn.items() if key != "train"}
        if "tool_calls" in turn:
            calls = []
            for call in turn["tool_calls"]:
                name = call.get("id") or f"call{made:05d}"
                made += 1
                open_ids.append(name)
                calls.append({**call, "id": name, "function": {**call["function"], "arguments": argument_text(call)}})
            message["tool_calls"] = calls
        if turn["role"] == "tool" and open_ids:
            answered = message.setdefault("tool_call_id", open_ids[0])
            open_ids = [name for name in open_ids if name != answered]
        messages.append(message)
    return tuple(messages)


def as_text(prompt: Prompt, tools: Sequence[Mapping[str, Any]] = ()) -> str:
    """A prompt as plain text: tools as lines of JSON, then the contents and calls of its messages, separated by
    blank lines."""
    if isinstance(prompt, str):
        return prompt
    described = ["\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)] if tools else []
    parts = [
        spoken({key: value for key, value in turn.items() if key != "reasoning_content"}) for turn in _turns(prompt)
    ]
    return "\n\n".join([*described, *parts])


def model_mode(model: str, template: Template) -> Mode:
    """The template that "auto" resolves to: "plain" if and only if a local model has no chat template."""
    if template != "auto":
        return template
    path = expanded(model)
    if path.is_dir() and (path / "config.json").exists():
        if _has_chat_template(path):
            return "chat"
        check_chat_template(_content(path / "tokenizer_config.json"), model)
        return "plain"
    if path.is_dir() or path.is_file():
        return "chat" if load_tokenizer(model).chat_template else "plain"
    return "chat"


def tokenizer_mode(tokenizer: Any, template: Template) -> Mode:
    """The template that "auto" resolves to; InputError for "chat" without a chat template."""
    has = bool(tokenizer.chat_template)
    if not has and template != "plain":
        check_chat_template(getattr(tokenizer, "init_kwargs", {}), tokenizer.name_or_path)
    if template == "chat" and not has:
        raise InputError("the tokenizer has no chat template; set template: plain")
    return template if template != "auto" else ("chat" if has else "plain")


def encode_prompt(
    tokenizer: Any,
    prompt: Prompt,
    mode: Mode,
    tools: Sequence[Mapping[str, Any]] = (),
    dialect: Dialect | None = None,
) -> list[int]:
    """Token ids of a prompt. Text that already begins with a beginning-of-sequence token gets no second one.

    dialect: of the tokenizer; pass it when there are many prompts, so that the template is probed once.
    """
    if mode == "chat" and not isinstance(prompt, str):
        dialect = dialect or Dialect(tokenizer)
        tool_list = [dict(tool) for tool in tools]
        try:
            text = dialect.render(dialect.adapted(_turns(prompt), tool_list), tool_list, add_generation_prompt=True)
        except RefusedRow as error:
            raise InputError(f"{error}; change the roles of its messages") from error
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    text = as_text(prompt, tools)
    has_bos = bool(tokenizer.bos_token) and text.startswith(str(tokenizer.bos_token))
    return list(tokenizer(text, add_special_tokens=not has_bos)["input_ids"])


def _turns(messages: Sequence[Mapping[str, Any]]) -> list[Turn]:
    """Messages as turns, whose calls have their arguments as objects."""
    turns = []
    for message in messages:
        turn = dict(message)
        if calls := turn.get("tool_calls"):
            turn["tool_calls"] = [
                {**call, "function": {**call["function"], "arguments": parsed(call["function"]["arguments"])}}
                for call in calls
            ]
        turns.append(turn)
    return turns


def _has_chat_template(folder: Path) -> bool:
    """Whether the files of a model folder hold a chat template, without loading the tokenizer."""
    if (folder / "chat_template.jinja").exists() or (folder / "additional_chat_templates").is_dir():
        return True
    return any(
        bool(_content(folder / name).get("chat_template")) for name in ("tokenizer_config.json", "chat_template.json")
    )


def _content(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
