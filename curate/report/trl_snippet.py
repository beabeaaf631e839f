"""TRL training code that fits the columns of a written dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from curate.data.written_form import WrittenForm

FOLDER = "path/to/this/folder"
# Roles in chat templates.
KNOWN = frozenset(["system", "developer", "user", "assistant", "tool"])
_TRAINERS = {"sft": ("SFT", "SFTConfig"), "preference": ("DPO", "DPOConfig"), "kto": ("KTO", "KTOConfig")}


def trl_snippet(form: WrittenForm, *, ordered: bool = False, weights: str | None = None) -> str:
    """Python code that trains on the folder with TRL, with a placeholder MODEL; "" if no mapping is known.

    ordered: whether the order of the rows matters. weights: source of the reweighter for the column `weight`, which
    SFTTrainer takes.
    """
    if not _is_mappable(form):
        return ""
    trainer, config = _TRAINERS[form.kind]
    body, columns = _mapping(form)
    imports = ["import json\n"] if "json." in body else []
    weights = weights if form.kind == "sft" else None
    lines = [*imports, "from datasets import load_dataset", f"from trl import {config}, {trainer}Trainer", ""]
    if weights:
        lines += ["from curate.reweighters import GivenWeights", "from curate.reweighters.trainers import reweight", ""]
    lines.append(f'rows = load_dataset("{FOLDER}", split="train")')
    if body:
        others = 'sorted({*rows.column_names} - {"weight"})' if weights else "rows.column_names"
        lines += ["", "", body.rstrip(), "", "", f"rows = rows.map(to_trl, remove_columns={others})"]
    else:
        lines.append(f"rows = rows.select_columns({json.dumps([*columns, *(['weight'] if weights else [])])})")
    field = form.columns.get("text")
    more = f', dataset_text_field="{field}"' if field not in (None, "text") else ""
    more += ', num_train_epochs=1, train_sampling_strategy="sequential"' if ordered else ""
    lines.append(f'args = {config}(output_dir="out"{more})')
    lines.append(f'trainer = {trainer}Trainer(model="MODEL", args=args, train_dataset=rows)')
    lines += [f"reweight(trainer, {weights})"] if weights else []
    lines.append("trainer.train()")
    return "\n".join(lines) + "\n"


def _is_mappable(form: WrittenForm) -> bool:
    """Whether a short mapping gives TRL everything that a model should see of a row."""
    of_messages = form.shape == "messages" or form.answers not in ("", "texts")
    if form.joined or "history" in form.columns or (of_messages and "context" in form.columns):
        return False
    if of_messages:
        return form.keys is not None and not form.unseen and (not form.calls or _is_plain(form))
    return "tools" not in form.columns


def _mapping(form: WrittenForm) -> tuple[str, Sequence[str]]:
    """(source of the function `to_trl`, columns); the source is "" if TRL takes the columns without mapping."""
    if form.kind == "preference":
        return _pair_mapping(form)
    columns = form.columns
    tools = ["tools"] if "tools" in columns else []
    if form.shape == "text":
        return "", [columns["text"]]
    if "messages" in columns and form.kind == "kto":
        whole = f"turns(row[{columns['messages']!r}])"
        values = {"prompt": f"{whole}[:-1]", "completion": f"{whole}[-1:]"}
        return _function(form, _with_system(form, values, "prompt"), turns=True), ()
    if "messages" in columns:
        plain = columns["messages"] == "messages" and _is_plain(form) and not form.surroundings
        if plain and _has_plain_tools(form):
            return "", ["messages", *tools]
        values = {"messages": f"turns(row[{columns['messages']!r}])"}
        return _function(form, _with_system(form, values), turns=True), ()
    if form.shape == "messages":
        label = ["label"] if form.kind == "kto" else []
        straight = columns["prompt"] == "prompt" and columns["completion"] == "completion" and _is_plain(form)
        straight &= form.answers != "texts"
        others = columns.get("label", "label") == "label" and _has_plain_tools(form)
        if straight and others and not form.surroundings:
            return "", ["prompt", "completion", *tools, *label]
        values = {role: f"turns(row[{columns[role]!r}])" for role in ("prompt", "completion")}
        if form.answers == "texts":
            values["completion"] = f'[{{"role": "assistant", "content": row[{columns["completion"]!r}]}}]'
        return _function(form, _with_system(form, values, "prompt"), turns=True), ()
    return _text_mapping(form)


def _text_mapping(form: WrittenForm) -> tuple[str, Sequence[str]]:
    """`_mapping` for shapes whose prompt and answer are texts."""
    columns = form.columns
    answer = columns["output" if form.shape == "instruction" else "completion"]
    straight = form.shape == "prompt_completion" and columns["prompt"] == "prompt" and answer == "completion"
    if straight and not form.surroundings and columns.get("label", "label") == "label":
        return "", ["prompt", "completion", *(["label"] if form.kind == "kto" else [])]
    values = {"prompt": _prompt(form), "completion": f"row[{answer!r}]"}
    return _function(form, values), ()


def _prompt(form: WrittenForm) -> str:
    """Expression for the prompt as one text: everything that a model sees before the answer, in separate lines."""
    order = ("system", "context", "instruction", "prompt", "input")
    names = [form.columns[role] for role in order if role in form.columns]
    if len(names) == 1:
        return f'row[{names[0]!r}] + "\\n"'
    texts = ", ".join(f"row[{name!r}]" for name in names)
    return f'"\\n".join(text for text in ({texts}) if text) + "\\n"'


def _pair_mapping(form: WrittenForm) -> tuple[str, Sequence[str]]:
    """`_mapping` for preference pairs."""
    columns = form.columns
    chosen, rejected, prompt = columns["chosen"], columns["rejected"], columns.get("prompt")
    straight = (chosen, rejected) == ("chosen", "rejected") and not form.surroundings and _is_plain(form)
    straight &= _has_plain_tools(form)
    tools = ["tools"] if "tools" in columns else []
    if form.answers == "texts" and prompt is None and "instruction" not in columns:
        return ("", ["chosen", "rejected"]) if straight else (_function(form, _both(form, "row[{!r}]")), ())
    if form.answers == "conversations":
        return (
            ("", ["chosen", "rejected", *tools])
            if straight
            else (_function(form, _both(form, "turns(row[{!r}])"), turns=True), ())
        )
    texts = form.answers == "texts"
    if (
        straight
        and prompt == "prompt"
        and form.prompt == ("text" if texts else "messages")
        and form.answers != "message"
    ):
        return "", ["prompt", "chosen", "rejected", *tools]
    if texts and form.prompt == "text":
        return _function(form, {"prompt": _prompt(form), **_both(form, "row[{!r}]")}), ()
    answer = {"message": "turns([row[{!r}]])", "messages": "turns(row[{!r}])"}.get(
        form.answers, '[{{"role": "assistant", "content": row[{!r}]}}]'
    )
    prompt_expression = (
        f"turns(row[{prompt!r}])" if form.prompt == "messages" else f'[{{"role": "user", "content": row[{prompt!r}]}}]'
    )
    values = _with_system(form, {"prompt": prompt_expression, **_both(form, answer)}, "prompt")
    return _function(form, values, turns="turns(" in prompt_expression + answer), ()


def _both(form: WrittenForm, expression: str) -> dict[str, str]:
    return {role: expression.format(form.columns[role]) for role in ("chosen", "rejected")}


def _with_system(form: WrittenForm, values: Mapping[str, str], role: str = "messages") -> dict[str, str]:
    system = form.columns.get("system")
    if system is None:
        return dict(values)
    before = f'[{{"role": "system", "content": row[{system!r}]}}] * bool(row[{system!r}])'
    return {**values, role: f"{before} + {values[role]}"}


def _function(form: WrittenForm, values: Mapping[str, str], turns: bool = False) -> str:
    """Source of `to_trl`, which returns {name: expression} of a row. turns: whether to define the helper `turns`."""
    values = dict(values)
    if form.kind == "kto":
        values["label"] = f"row[{form.columns['label']!r}]"
    tools = form.columns.get("tools")
    if tools is not None:
        values["tools"] = f"json.loads(row[{tools!r}] or '[]')" if form.tools == "text" else f"row[{tools!r}]"
        if form.bare_tools:
            values["tools"] = f"tools(row[{tools!r}])"
    lines = [*(_turns_function(form) if turns else []), *(_TOOLS_FUNCTION if form.bare_tools else [])]
    lines.append("def to_trl(row):")
    if len(values) <= 2 and sum(map(len, values.values())) < 60:
        return "\n".join([*lines, f"    return {{{', '.join(f'{json.dumps(k)}: {v}' for k, v in values.items())}}}"])
    lines.append("    return {")
    lines += [f"        {json.dumps(name)}: {value}," for name, value in values.items()]
    return "\n".join([*lines, "    }"])


def _turns_function(form: WrittenForm) -> list[str]:
    """Source of `turns`, which converts messages to role and content, with tool calls if there are any."""
    role, content = form.keys or ("role", "content")
    names = {name: target for name, target in form.named.items() if target != "function_call"}
    call = [name for name in form.speakers if name == "function_call"]
    who = f"{json.dumps(names)}.get(turn[{role!r}], turn[{role!r}])" if names else f"turn[{role!r}]"
    plain = f'{{"role": {who}, "content": turn[{content!r}]}}'
    if not call:
        return ["def turns(messages):", f"    return [{plain} for turn in messages]", "", ""]
    return [
        "def calls(text):",
        "    found = json.loads(text)",
        "    found = found if isinstance(found, list) else [found]",
        '    named = [(call["name"], json.dumps(call["arguments"])) for call in found]',
        '    return [{"type": "function", "function": {"name": name, "arguments": text}} for name, text in named]',
        "",
        "",
        "def turns(messages):",
        "    return [",
        f'        {{"role": "assistant", "content": "", "tool_calls": calls(turn[{content!r}])}}',
        f'        if turn[{role!r}] == "function_call"',
        f"        else {plain}",
        "        for turn in messages",
        "    ]",
        "",
        "",
    ]


# Source of `tools`, which gives tools as chat templates take them.
_TOOLS_FUNCTION = (
    "def tools(cell):",
    "    found = json.loads(cell) if isinstance(cell, str) else cell or []",
    "    found = [json.loads(tool) if isinstance(tool, str) else tool for tool in found]",
    '    return [tool if "function" in tool else {"type": "function", "function": tool} for tool in found]',
    "",
    "",
)


def _has_plain_tools(form: WrittenForm) -> bool:
    """Whether TRL takes the column of tools as it is, or there is none."""
    return form.columns.get("tools", "tools") == "tools" and not form.bare_tools


def _is_plain(form: WrittenForm) -> bool:
    """Whether messages have the form that TRL takes, or there are none."""
    return form.keys in (None, ("role", "content")) and KNOWN.issuperset(form.speakers)
