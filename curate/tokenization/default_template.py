"""The template of tokenizers that have none, with tools, calls and reasoning written out, and when it may be used."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from curate.data.turns import Turn
from curate.errors import InputError
from curate.tokenization.dialect import Tools
from curate.tokenization.layouts import Part, Piece

# In tokenizer_config.json of a model that was trained with its tokenizer's chat template, and not with role headings.
HAD_TEMPLATE = "trained_with_chat_template"


def check_chat_template(settings: Mapping[str, Any], name: str) -> None:
    """InputError where a tokenizer without a chat template had one when its model was trained.

    Role headings, or no turns at all, would take its place, which the model has never seen.
    """
    if settings.get(HAD_TEMPLATE):
        raise InputError(
            f"{name} was fine-tuned with a chat template that is missing (chat_template.jinja, beside its "
            "tokenizer); put the file back, or rerun its `curate finetune` command with --fresh"
        )


def role_headings(turns: Sequence[Turn], parts: Sequence[Part], tools: Tools = None) -> list[Piece]:
    """The default template, of tokenizers without one: `### Role:` headings, up to the last turn that is learned.

    Before the turns stand the tools, one JSON object to a line under `### Tools:`. A turn of reasoning and calls reads
    `<think>`, its reasoning, `</think>`, its content, and for each call `<tool_call>`, a JSON object of name and
    arguments, `</tool_call>`, each on lines of their own. The name of a speaker or tool stands in its heading.
    """
    pieces: list[Piece] = []
    if tools:
        described = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
        pieces += [("### Tools:\n", "frame"), (described, "system"), ("\n\n", "frame")]
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
    """All that is said in a turn, as the default template writes it."""
    calls = [
        f"<tool_call>\n{json.dumps(call['function'], ensure_ascii=False)}\n</tool_call>"
        for call in turn.get("tool_calls", ())
    ]
    said = "\n".join([turn["content"], *calls] if turn["content"] else calls)
    thought = turn.get("reasoning_content")
    return f"<think>\n{thought}\n</think>\n\n{said}" if thought else said
