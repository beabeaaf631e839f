"""How messages reach a model: through its chat template, or as plain text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from curate.generators.requests import Prompt
from curate.models.loading import load_tokenizer
from curate.storage.places import expanded
from curate.tokenization.chat_template import check_not_lost

__all__ = ["Mode", "Template", "as_text", "resolve_mode"]

Mode = Literal["chat", "plain"]
Template = Literal["auto", "chat", "plain"]


def as_text(prompt: Prompt) -> str:
    """A prompt as plain text: the contents of messages with a blank line between."""
    return prompt if isinstance(prompt, str) else "\n\n".join(message["content"] for message in prompt)


def resolve_mode(model: str, template: Template) -> Mode:
    """What "auto" stands for: "plain" exactly for a local model that has no chat template."""
    if template != "auto":
        return template
    path = expanded(model)
    if path.is_dir() and (path / "config.json").exists():
        if _has_chat_template(path):
            return "chat"
        check_not_lost(_content(path / "tokenizer_config.json"), model)
        return "plain"
    if path.is_dir() or path.is_file():
        return "chat" if load_tokenizer(model).chat_template else "plain"
    return "chat"


def _has_chat_template(folder: Path) -> bool:
    """By its files, so that nothing needs to be loaded."""
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
