"""Code for TRL and settings for axolotl and LLaMA-Factory that fit the columns of a written dataset."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from curate.data.written_form import WrittenForm
from curate.report.trl_snippet import FOLDER, trl_snippet


def form_of(record: Mapping[str, Any]) -> WrittenForm:
    """The written form in a run.json."""
    fields = dict(record["form"])
    keys = fields["keys"]
    return WrittenForm(
        **{**fields, "keys": None if keys is None else tuple(keys), "speakers": tuple(fields["speakers"])}
    )


def training_section(
    form: WrittenForm, curated: bool = True, *, parts: Mapping[str, int] | None = None, weights: str | None = None
) -> str:
    """The card's section on training.

    curated: whether a command wrote it that makes copies and has other forms. parts: those of ordered rows, see
    `curate.curated.Curated.parts`. weights: source of the reweighter for the column `weight`; None = no such column.
    """
    ordered = parts is not None
    trl = trl_snippet(form, ordered=ordered, weights=weights)
    axolotl, entry = axolotl_settings(form, ordered=ordered), llama_factory_entry(form)
    sections = ["## Train on it", *([f"TRL:\n\n```python\n{trl}```"] if trl else [])]
    whole = form.kind == "sft" and "messages" in form.columns
    if trl and whole:
        unlearned = f" It takes no notice of `{form.weight}`{_LAST if curated else ''}." if form.weight else ""
        sections.append(_WHOLE + unlearned)
    if axolotl:
        sections.append(f"axolotl:\n\n```yaml\n{axolotl}```")
    if entry:
        stage = {"sft": "sft", "preference": "dpo", "kto": "kto"}[form.kind]
        stage = "pt" if form.shape == "text" else stage
        lines = [f"stage: {stage}", f"dataset_dir: {FOLDER}", "dataset: curated"]
        # Without it LLaMA-Factory learns the answers in a history.
        lines += ["mask_history: true"] if stage == "sft" and "history" in form.columns else []
        lines += ["num_train_epochs: 1.0", "disable_shuffling: true"] if ordered else []
        sections.append(
            "LLaMA-Factory, by the `dataset_info.json` of this folder:\n\n```yaml\n" + "\n".join(lines) + "\n```"
        )
        if whole and form.weight:
            sections.append(_MASKED.format(key=form.weight))
        if whole and form.irregular:
            sections.append(_SKIPPED.format(rows=form.irregular))
    missing = [name for name, support in (("TRL", trl), ("axolotl", axolotl), ("LLaMA-Factory", entry)) if not support]
    if missing:
        remedy = _IMAGES if form.unseen else _OTHERS if curated else ""
        sections.append(f"{_listed(missing)} cannot read these columns as they are{remedy}.")
    if form.json:
        # As text, messages would be no messages any more.
        as_sharegpt = form.shape == "messages" and form.written_as == "input" and not form.unseen
        form_too = "--write-as sharegpt " if as_sharegpt else ""
        sections.append(_JSON.format(options=f"{form_too}--nested text --fresh"))
    if weights and (axolotl or entry or form.kind != "sft"):
        sections.append(_UNWEIGHTED + (_COPIED if curated else "."))
    if curated and not weights and (parts is None or "first" in parts):
        sections.append('`rows.filter(lambda row: row["copy"] == 0)` undoes the copies.')
    return "\n\n".join(sections) + "\n"


def _listed(names: Sequence[str]) -> str:
    """Names as an English list: a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


_WHOLE = (
    "TRL learns whole conversations, questions too; with `assistant_only_loss=True` in SFTConfig, which takes a chat "
    "template that marks them by `{% generation %}`, the answers alone."
)
_LAST = ": `--write-as prompt_completion --fresh` writes rows of which TRL learns the last answer alone"
_OTHERS = (
    "; `--write-as messages --fresh` (for LLaMA-Factory `--write-as sharegpt --fresh`) writes a form that can be read"
)
_IMAGES = ": messages have parts other than text, which only trainers of models that see them take"
_MASKED = "LLaMA-Factory takes no notice of `{key}`; with `mask_history: true` it learns the last answer alone."
_SKIPPED = (
    "LLaMA-Factory leaves out rows whose turns do not alternate between user and assistant, with a warning: {rows:,} "
    "of the first 1,000 rows."
)
_UNWEIGHTED = "Only SFTTrainer of these takes the column `weight`; to the others all rows are alike"
_COPIED = ": `--set copies=rows --fresh` writes copies for them."
_JSON = (
    "Columns of the type JSON take `datasets` 4.7 or newer, which LLaMA-Factory does not use yet; "
    "`{options}` writes text in their place."
)


# --- axolotl -----------------------------------------------------------------------------------------------------


def axolotl_settings(form: WrittenForm, *, ordered: bool = False) -> str:
    """axolotl's settings for the folder; "" if it does not support such columns. ordered: whether the order matters."""
    settings = _axolotl_settings(form)
    return settings + _AXOLOTL_IN_ORDER if settings and ordered else settings


_AXOLOTL_IN_ORDER = "shuffle_merged_datasets: false\ncurriculum_sampling: true  # in order\nnum_epochs: 1\n"


def _axolotl_settings(form: WrittenForm) -> str:
    columns = form.columns
    if _leaves_out(form):
        return ""
    algorithm = {"preference": ["rl: dpo"], "kto": ["rl: kto"]}.get(form.kind, [])
    lines = [*algorithm, "datasets:", f"  - path: {FOLDER}"]
    if form.shape == "text":
        return _yaml([*lines, "    type: completion", f"    field: {columns['text']}"])
    if form.kind == "sft" and "messages" in columns:
        if form.keys is None or "function_call" in map(_canonical(form), form.speakers):
            return ""
        lines += ["    type: chat_template", f"    field_messages: {columns['messages']}"]
        if "tools" in columns:
            lines.append(f"    field_tools: {columns['tools']}")
        role, content = form.keys
        lines += ["    message_property_mappings:", f"      role: {role}", f"      content: {content}"]
        if form.weight:
            lines.append(f"    message_field_training: {form.weight}")
        return _yaml([*lines, *_roles(form, {})])
    if form.shape == "messages" or form.answers not in ("", "texts"):
        return _axolotl_chat_pairs(form, lines)
    if form.kind == "preference" and "prompt" not in columns and "instruction" not in columns:
        return ""
    answer = columns.get("output") or columns.get("completion", "")
    question = columns.get("instruction") or columns["prompt"]
    if form.kind == "sft":
        lines += ["    type:", f"      field_instruction: {question}", f"      field_output: {answer}"]
        further = columns.get("input") or columns.get("context")
        lines += [f"      field_input: {further}"] if further else []
        lines += [f"      field_system: {columns['system']}"] if "system" in columns else []
        lines += ['      format: "{instruction}\\n{input}\\n"', '      no_input_format: "{instruction}\\n"']
        return _yaml(lines)
    lines += ["    type:", f"      field_prompt: {question}", '      prompt_format: "{prompt}\\n"']
    fields = ("chosen", "rejected") if form.kind == "preference" else ("completion", "label")
    lines += [f"      field_{role}: {columns.get(role, answer)}" for role in fields]
    lines += [f'      {role}_format: "{{{role}}}"' for role in fields if role != "label"]
    return _yaml(lines)


def _leaves_out(form: WrittenForm) -> bool:
    """Whether axolotl would ignore a column that a model should see."""
    seen = {"system", "history", "context", "tools", "input"} & form.columns.keys()
    if form.joined or form.kind != "sft":
        return bool(seen)
    if form.shape == "messages":
        # Its schema supports a system column only under this name.
        return not seen <= {"system", "tools"} or form.columns.get("system", "system") != "system"
    return not seen <= {"system", "context", "input"} or {"context", "input"} <= seen


def _axolotl_chat_pairs(form: WrittenForm, lines: list[str]) -> str:
    """Settings for preference pairs of messages; "" if axolotl does not support them."""
    columns = form.columns
    spoken = map(_canonical(form), form.speakers)
    if form.kind != "preference" or form.prompt != "messages" or form.answers != "message":
        return ""
    if form.keys is None or form.calls or not _AXOLOTL.keys() >= set(spoken):
        return ""
    lines += ["    type: chat_template.default", f"    field_messages: {columns['prompt']}"]
    fields = [f"    field_{role}: {columns[role]}" for role in ("chosen", "rejected") if columns[role] != role]
    mappings: list[str] = []
    if form.keys != ("role", "content"):
        mappings = [
            "    message_property_mappings:",
            *(f"      {n}: {k}" for n, k in zip(_MAPPED, form.keys, strict=True)),
        ]
    mappings += _roles(form, _AXOLOTL)
    # Its dataset schema does not allow both.
    return "" if fields and mappings else _yaml([*lines, *fields, *mappings])


_MAPPED = ("role", "content")
# Speakers that axolotl knows in pairs; elsewhere it also knows those of ShareGPT.
_AXOLOTL = {name: [name] for name in ("user", "assistant", "system", "tool")}


def _canonical(form: WrittenForm) -> Callable[[str], str]:
    return lambda name: form.named.get(name, name)


def _roles(form: WrittenForm, all_of: Mapping[str, Sequence[str]]) -> list[str]:
    """The setting `roles` for speakers that axolotl does not know. all_of: roles to list in addition."""
    renamed = {name: form.named[name] for name in form.speakers if name in form.named}
    if renamed.keys() <= (set() if all_of else {"human", "gpt"}):
        return []
    # This replaces axolotl's own list of roles.
    targets = dict.fromkeys([*all_of, *sorted(set(renamed.values()))])
    return [
        "    roles:",
        *(f"      {role}: {json.dumps([role, *(n for n, t in renamed.items() if t == role)])}" for role in targets),
    ]


def _yaml(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"


# --- LLaMA-Factory -----------------------------------------------------------------------------------------------


def llama_factory_entry(form: WrittenForm) -> dict[str, Any]:
    """Entry of the folder in dataset_info.json; {} if LLaMA-Factory does not support such columns."""
    columns = form.columns
    if form.joined:
        return {}
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
        tags = _tags(form)
        if not tags or form.tools == "values" or "history" in columns or "context" in columns:
            return {}
        if form.calls:  # arguments that are JSON text are quoted once more by its FunctionFormatter (0.9.5)
            return {}
        messages = columns.get("messages") or columns["prompt"]
        return {**entry, "formatting": "sharegpt", "columns": {"messages": messages, **further}, "tags": tags}
    if form.shape == "messages" or form.answers not in ("", "texts") or "context" in columns:
        return {}
    question = columns.get("instruction") or columns.get("prompt")
    if question is None:
        return {}
    prompts = {"prompt": question}
    prompts |= {"query": columns["input"]} if "input" in columns else {}
    if form.kind != "preference":
        prompts["response"] = columns.get("output") or columns["completion"]
    prompts |= {"history": columns["history"]} if "history" in columns else {}
    return {**entry, "columns": {**prompts, **further}}


def _tags(form: WrittenForm) -> dict[str, str]:
    """LLaMA-Factory's tags for keys and speakers; {} for two names of one role or unknown roles, which it lacks."""
    if form.keys is None:
        return {}
    role, content = form.keys
    names_of_target: dict[str, list[str]] = {target: [] for target in _TAGS}
    for name in form.speakers:
        target = form.named.get(name, name)
        if target not in names_of_target or names_of_target[target]:
            return {}
        names_of_target[target].append(name)
    tags = {"role_tag": role, "content_tag": content}
    for target, (tag, usual) in _TAGS.items():
        tags[tag] = (names_of_target[target] or [usual[role == "role"]])[0]
    return tags


# {role: (tag, (name in ShareGPT messages, name in OpenAI messages))}.
_TAGS = {
    "user": ("user_tag", ("human", "user")),
    "assistant": ("assistant_tag", ("gpt", "assistant")),
    "tool": ("observation_tag", ("observation", "tool")),
    "function_call": ("function_tag", ("function_call", "function_call")),
    "system": ("system_tag", ("system", "system")),
}


def dataset_info(form: WrittenForm) -> str:
    """The content of dataset_info.json."""
    entry = llama_factory_entry(form)
    return json.dumps({"curated": entry} if entry else {}, indent=2) + "\n"
