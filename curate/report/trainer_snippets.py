"""How to train on a written dataset: code for TRL, settings for axolotl and LLaMA-Factory, for its very columns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from curate.data.written_form import WrittenForm
from curate.report.trl_snippet import FOLDER, KNOWN, trl_snippet


def form_of(record: Mapping[str, Any]) -> WrittenForm:
    """The form that a run.json names."""
    named = dict(record["form"])
    keys = named["keys"]
    return WrittenForm(**{**named, "keys": None if keys is None else tuple(keys), "speakers": tuple(named["speakers"])})


def training_section(form: WrittenForm) -> str:
    """The section of a card on how to train."""
    trl, axolotl, entry = trl_snippet(form), axolotl_settings(form), llama_factory_entry(form)
    parts = ["## Train on it", *([f"TRL:\n\n```python\n{trl}```"] if trl else [])]
    if axolotl:
        parts.append(f"axolotl:\n\n```yaml\n{axolotl}```")
    if entry:
        stage = {"sft": "sft", "preference": "dpo", "kto": "kto"}[form.kind]
        stage = "pt" if form.shape == "text" else stage
        parts.append(
            "LLaMA-Factory, by the `dataset_info.json` of this folder:\n\n```yaml\n"
            f"stage: {stage}\ndataset_dir: {FOLDER}\ndataset: curated\n```"
        )
    missing = [name for name, there in (("TRL", trl), ("axolotl", axolotl), ("LLaMA-Factory", entry)) if not there]
    if missing:
        parts.append(
            f"{' and '.join(missing)} cannot read these columns as they are; `--write-as messages --fresh` (for "
            "LLaMA-Factory `--write-as sharegpt --fresh`) writes a form that can be read."
        )
    parts.append('`rows.filter(lambda row: row["copy"] == 0)` undoes the copies.')
    return "\n\n".join(parts) + "\n"


# --- axolotl -----------------------------------------------------------------------------------------------------


def axolotl_settings(form: WrittenForm) -> str:
    """The part of axolotl's settings that names the folder; "" where it has none for such columns."""
    columns = form.columns
    algorithm = {"preference": ["rl: dpo"], "kto": ["rl: kto"]}.get(form.kind, [])
    lines = [*algorithm, "datasets:", f"  - path: {FOLDER}"]
    if form.shape == "text":
        return _yaml([*lines, "    type: completion", f"    field: {columns['text']}"])
    if form.kind == "sft" and "messages" in columns:
        lines += ["    type: chat_template", f"    field_messages: {columns['messages']}"]
        if "tools" in columns:
            lines.append(f"    field_tools: {columns['tools']}")
        if "system" in columns:
            lines.append(f"    field_system: {columns['system']}")
        role, content = form.keys or ("role", "content")
        lines += ["    message_property_mappings:", f"      role: {role}", f"      content: {content}"]
        others = {name: form.named.get(name) for name in form.speakers if name not in KNOWN}
        if any(others.values()):
            lines.append("    roles:")
            for target in sorted({target for target in others.values() if target}):
                lines.append(f"      {target}: {json.dumps([target, *(n for n, t in others.items() if t == target)])}")
        return _yaml(lines)
    if form.shape == "messages" or form.answers not in ("", "texts") or "history" in columns:
        return _axolotl_chat_pairs(form, lines)
    if form.kind == "preference" and "prompt" not in columns and "instruction" not in columns:
        return ""
    answer = columns.get("output") or columns.get("completion", "")
    asked = columns.get("instruction") or columns["prompt"]
    if form.kind == "sft":
        lines += ["    type:", f"      field_instruction: {asked}", f"      field_output: {answer}"]
        further = columns.get("input") or columns.get("context")
        lines += [f"      field_input: {further}"] if further else []
        lines += [f"      field_system: {columns['system']}"] if "system" in columns else []
        lines += ['      format: "{instruction}\\n{input}\\n"', '      no_input_format: "{instruction}\\n"']
        return _yaml(lines)
    lines += ["    type:", f"      field_prompt: {asked}", '      prompt_format: "{prompt}\\n"']
    fields = ("chosen", "rejected") if form.kind == "preference" else ("completion", "label")
    lines += [f"      field_{role}: {columns.get(role, answer)}" for role in fields]
    lines += [f'      {role}_format: "{{{role}}}"' for role in fields if role != "label"]
    return _yaml(lines)


def _axolotl_chat_pairs(form: WrittenForm, lines: list[str]) -> str:
    columns = form.columns
    if form.kind != "preference" or form.prompt != "messages" or form.answers != "message":
        return ""
    role, content = form.keys or ("role", "content")
    lines += ["    type: chat_template.default", f"    field_messages: {columns['prompt']}"]
    lines += [f"    field_chosen: {columns['chosen']}", f"    field_rejected: {columns['rejected']}"]
    return _yaml([*lines, f"    message_field_role: {role}", f"    message_field_content: {content}"])


def _yaml(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"


# --- LLaMA-Factory -----------------------------------------------------------------------------------------------


def llama_factory_entry(form: WrittenForm) -> dict[str, Any]:
    """What dataset_info.json says of the folder; {} where LLaMA-Factory has no form of such columns."""
    columns = form.columns
    entry: dict[str, Any] = {"file_name": "data"}
    further = {role: columns[role] for role in ("system", "tools") if role in columns}
    if form.kind == "preference":
        entry["ranking"] = True
        further |= {"chosen": columns["chosen"], "rejected": columns["rejected"]}
    if form.kind == "kto":
        further["kto_tag"] = columns["label"]
    if form.shape == "text":
        return {**entry, "columns": {"prompt": columns["text"]}}
    if "messages" in columns or (form.kind == "preference" and form.answers == "message" and form.prompt == "messages"):
        role, content = form.keys or ("role", "content")
        if form.tools == "values" or "history" in columns or "context" in columns:
            return {}
        names = dict.fromkeys(form.speakers)
        tags = {"role_tag": role, "content_tag": content}
        for tag, known in _TAGS.items():
            tags[tag] = next((name for name in known if name in names), known[1 if role == "role" else 0])
        formatting = "openai" if form.calls else "sharegpt"
        messages = columns.get("messages") or columns["prompt"]
        return {**entry, "formatting": formatting, "columns": {"messages": messages, **further}, "tags": tags}
    if form.shape == "messages" or form.answers not in ("", "texts") or "context" in columns:
        return {}
    asked = columns.get("instruction") or columns.get("prompt")
    if asked is None:
        return {}
    named = {"prompt": asked}
    named |= {"query": columns["input"]} if "input" in columns else {}
    if form.kind != "preference":
        named["response"] = columns.get("output") or columns["completion"]
    named |= {"history": columns["history"]} if "history" in columns else {}
    return {**entry, "columns": {**named, **further}}


_TAGS = {
    "user_tag": ("human", "user"),
    "assistant_tag": ("gpt", "assistant"),
    "observation_tag": ("observation", "tool", "function"),
    "function_tag": ("function_call", "tool_calls"),
    "system_tag": ("system", "system"),
}


def dataset_info(form: WrittenForm) -> str:
    """dataset_info.json of the folder."""
    entry = llama_factory_entry(form)
    return json.dumps({"curated": entry} if entry else {}, indent=2) + "\n"
