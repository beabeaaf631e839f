"""Prompt formatting: messages through a chat template, or as plain text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from curate.errors import InputError
from curate.generators.requests import Prompt
from curate.models.loading import load_tokenizer
from curate.storage.places import expanded
from curate.tokenization.default_template import check_chat_template

Mode = Literal["chat", "plain"]
Template = Literal["auto", "chat", "plain"]


def as_text(prompt: Prompt) -> str:
    """A prompt as plain text: the contents of its messages, separated by blank lines."""
    return prompt if isinstance(prompt, str) else "\n\n".join(message["content"] for message in prompt)


def model_mode(model: str, template: Template) -> Mode:
    """The template that "auto" stands for: "plain" if and only if a local model has no chat template."""
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
    """The template that "auto" stands for; InputError for "chat" without a chat template."""
    has = bool(tokenizer.chat_template)
    if not has and template != "plain":
        check_chat_template(getattr(tokenizer, "init_kwargs", {}), tokenizer.name_or_path)
    if template == "chat" and not has:
        raise InputError("the tokenizer has no chat template; set template: plain")
    return template if template != "auto" else ("chat" if has else "plain")


def encode_prompt(tokenizer: Any, prompt: Prompt, mode: Mode) -> list[int]:
    """Token ids of a prompt. Text that already begins with a beginning-of-sequence token gets no second one."""
    if mode == "chat" and not isinstance(prompt, str):
        messages = [dict(message) for message in prompt]
        try:
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # Jinja raises whatever the template's author chose
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"the chat template refused the messages ({reason}); change their roles") from error
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    text = as_text(prompt)
    begun = bool(tokenizer.bos_token) and text.startswith(str(tokenizer.bos_token))
    return list(tokenizer(text, add_special_tokens=not begun)["input_ids"])


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
