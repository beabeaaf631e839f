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

# `role_headings` as a chat template, saved with models that were trained with it, for other libraries. It ends the last
# answer with EOS, as training does, and marks answers for TRL's assistant_only_loss.
JINJA = (
    "{% if tools %}{{ '### Tools:\\n' }}{% for tool in tools %}{{ tool | tojson + '\\n' }}{% endfor %}"
    "{{ '\\n' }}{% endif %}"
    "{% for turn in messages %}{% set heading = namespace(name=turn.name or '') %}"
    "{% if turn.tool_call_id and not heading.name %}"
    "{% for earlier in messages %}{% for call in earlier.tool_calls or [] %}"
    "{% if call.id == turn.tool_call_id %}{% set heading.name = call.function.name %}{% endif %}"
    "{% endfor %}{% endfor %}{% endif %}"
    "{{ '### ' + turn.role | capitalize + (' (' + heading.name + ')' if heading.name else '') + ':\\n' }}"
    "{% if turn.role == 'assistant' %}{% generation %}"
    "{% if turn.reasoning_content %}{{ '<think>\\n' + turn.reasoning_content + '\\n</think>\\n\\n' }}{% endif %}"
    "{{ turn.content or '' }}"
    "{% for call in turn.tool_calls or [] %}{{ '\\n' if turn.content or not loop.first else '' }}"
    "{{ '<tool_call>\\n' + call.function | tojson + '\\n</tool_call>' }}{% endfor %}"
    "{% if loop.last %}{{ eos_token or '' }}{% endif %}{% endgeneration %}"
    "{% else %}{{ turn.content or '' }}{% endif %}"
    "{% if not loop.last %}{{ '\\n\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n\\n### Assistant:\\n' }}{% endif %}"
)


def check_chat_template(settings: Mapping[str, Any], name: str) -> None:
    """Raise InputError if a tokenizer lacks the chat template that its model was trained with.

    The default template would replace it, which the model has never seen.
    """
    if settings.get(HAD_TEMPLATE):
        raise InputError(
            f"{name} was fine-tuned with a chat template that is missing (chat_template.jinja, beside its "
            "tokenizer); put the file back, or rerun its `curate finetune` command with --fresh"
        )


def own_template(tokenizer: Any) -> str | None:
    """The chat template of a tokenizer; None if it has none, or the default one."""
    return None if tokenizer.chat_template in (None, "", JINJA) else tokenizer.chat_template


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
