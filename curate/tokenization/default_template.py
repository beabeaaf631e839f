"""Default template for tokenizers without a chat template: role headings, with tools, calls and reasoning."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from curate.data.turns import Turn
from curate.errors import InputError
from curate.tokenization.dialect import Tools
from curate.tokenization.layouts import Part, Piece

# Key in tokenizer_config.json of a model that was trained with its tokenizer's chat template.
HAD_TEMPLATE = "trained_with_chat_template"


def check_chat_template(settings: Mapping[str, Any], name: str) -> None:
    """Raise InputError if a tokenizer lacks the chat template that its model was trained with.

    The default template would replace it, which the model has never seen.
    """
    if settings.get(HAD_TEMPLATE):
        raise InputError(
            f"{name} was fine-tuned with a chat template that is missing (chat_template.jinja, beside its "
            "tokenizer); put the file back, or rerun its `curate finetune` command with --fresh"
        )


def role_headings(turns: Sequence[Turn], parts: Sequence[Part], tools: Tools = None) -> list[Piece]:
    """Render turns with the default template, `### Role:` headings, up to the last learned turn.

    Tools come first, one JSON object per line under `### Tools:`. A turn with reasoning and calls is `<think>`, its
    reasoning, `</think>`, its content, and for each call `<tool_call>`, a JSON object of name and arguments,
    `</tool_call>`, on separate lines. The name of a speaker or tool is part of its heading.
    """
    pieces: list[Piece] = []
    if tools:
        tool_lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
        pieces += [("### Tools:\n", "frame"), (tool_lines, "system"), ("\n\n", "frame")]
    learned = [k for k, part in enumerate(parts) if part == "completion"]
    last = max(learned, default=max((k for k, turn in enumerate(turns) if turn["role"] == "assistant"), default=-1))
    called: dict[str, str] = {}
    for turn, part in zip(turns[: last + 1] if last >= 0 else turns, parts, strict=False):
        called |= {call["id"]: call["function"]["name"] for call in turn.get("tool_calls", ()) if "id" in call}
        name = turn.get("name") or called.get(turn.get("tool_call_id", ""))
        heading = f"### {turn['role'].capitalize()}{f' ({name})' if name else ''}:\n"
        pieces += [(heading, "frame"), (spoken(turn), part), ("\n\n", "frame")]
    return pieces[:-1]


def spoken(turn: Turn) -> str:
    """Reasoning, content and calls of a turn as the default template renders them."""
    calls = [
        f"<tool_call>\n{json.dumps(call['function'], ensure_ascii=False)}\n</tool_call>"
        for call in turn.get("tool_calls", ())
    ]
    content = "\n".join([turn["content"], *calls] if turn["content"] else calls)
    thought = turn.get("reasoning_content")
    return f"<think>\n{thought}\n</think>\n\n{content}" if thought else content
