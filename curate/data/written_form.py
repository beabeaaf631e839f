"""Describe the form of a written dataset's rows for trainers: columns, messages and answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

from curate.data.columns import is_messages, is_text, message_keys
from curate.data.examples import Examples
from curate.data.json_values import holds_json
from curate.data.messages import survey, values_of
from curate.data.tool_calls import parsed
from curate.data.turns import WEIGHT_KEYS, MessageKeys

WriteAs = Literal["input", "messages", "prompt_completion", "alpaca", "sharegpt"]
FORMS: tuple[WriteAs, ...] = get_args(WriteAs)
Row = dict[str, Any]
Conversation = list[dict[str, Any]]

_LOOKED_AT = 1_000  # conversations that tell who speaks in them
_SURROUNDINGS = ("system", "history", "context")


@dataclass(frozen=True)
class WrittenForm:
    """The form of the rows of a written dataset.

    kind: kind of training. shape, columns: as in `Examples`, for the written columns. keys: keys of speaker and content
    in a message, None without messages. speakers: their names in order of first occurrence. calls: whether messages
    have tool calls. tools: whether the column of tools holds JSON "text" or "values". answers: whether the answers of
    pairs or conversations are "texts", "messages", one "message" each or whole "conversations"; "" if they are part of
    the messages. prompt: "text" or "messages"; "" if there is none. named: {speaker: name in chat templates} where that
    differs. weight: the key of messages that marks assistant turns as not learned; "" if all are learned. json: whether
    a column has the type JSON. joined: whether system or context is a list or object whose texts a model sees joined.
    bare_tools: whether tools are other than `{"type": "function", "function": {...}}`, such as JSON text or without
    "function" around them. unseen: whether messages have parts that no text form holds, such as images.
    irregular: how many of the first 1,000 conversations do not alternate between user or
    tool and assistant, ending with the assistant.
    """

    kind: Literal["sft", "preference", "kto"]
    shape: str
    columns: Mapping[str, str]
    keys: tuple[str, str] | None = None
    speakers: tuple[str, ...] = ()
    calls: bool = False
    tools: str = ""
    answers: str = ""
    prompt: str = ""
    named: Mapping[str, str] = field(default_factory=dict)
    written_as: str = "input"
    weight: str = ""
    json: bool = False
    irregular: int = 0
    joined: bool = False
    bare_tools: bool = False
    unseen: bool = False

    @property
    def surroundings(self) -> list[str]:
        """Roles of columns besides prompt and answer that a model sees, without tools."""
        return [role for role in _SURROUNDINGS if role in self.columns]


def written_form(examples: Examples, table: pa.Table, form: WriteAs = "input") -> WrittenForm:
    """The form of the rows of `table`, which `in_form` returned for these examples."""
    kind: Any = "preference" if examples.paired else "kto" if "label" in examples.columns else "sft"
    shape, columns = examples.shape, dict(examples.reading["columns"])
    answers = _answers(examples) if examples.paired else ""
    if form != "input":
        shape, columns, answers = _columns_of(examples, form)
    columns = {role: name for role, name in columns.items() if name in table.column_names}
    if shape == "messages" and not answers and "completion" in columns and is_text(table[columns["completion"]].type):
        answers = "texts"
    spoken_columns = [
        columns[role] for role in ("messages", "prompt", "completion", "chosen", "rejected") if role in columns
    ]
    turns = [turn for name in spoken_columns for turn in _messages(table[name].slice(0, _LOOKED_AT))]
    keys = next((keys for turn in turns for keys in _KEYS if set(keys) <= turn.keys()), None)
    calls = any(turn.get("tool_calls") for turn in turns)
    parts = keys is not None and any(not isinstance(turn.get(keys[1]), str | None) for turn in turns)
    if parts or any(turn.get("function_call") for turn in turns) or (calls and not _are_plain_calls(keys, turns)):
        keys = None  # trainers cannot read these messages directly
    role = None if keys is None else keys[0]
    speakers = dict.fromkeys(turn[role] for turn in turns if isinstance(turn.get(role), str)) if role else {}
    kinds = {role: "text" if is_text(table[name].type) else "values" for role, name in columns.items()}
    prompt = {"text": "text", "values": "messages"}.get(kinds.get("prompt", kinds.get("instruction", "")), "")
    speaker_keys = message_keys(examples.columns)
    named = {name: speaker_keys.canonical(name) for name in speakers if speaker_keys.canonical(name) != name}
    tools = kinds.get("tools", "")
    nested = any(holds_json(kind) for kind in table.schema.types)
    learned = [table[columns[role]] for role in ("messages", "completion") if role in columns]
    weight = next(
        (key for key in WEIGHT_KEYS for column in learned if role and _has_weights(column, key, role, speaker_keys)), ""
    )
    conversations = table[columns["messages"]].slice(0, _LOOKED_AT) if role and "messages" in columns else None
    irregular = (
        sum(not _alternates(turns, role, speaker_keys) for turns in _conversations(conversations))
        if role and conversations is not None
        else 0
    )
    return WrittenForm(
        *(kind, shape, columns, keys, (*speakers,), calls, tools, answers, prompt, named, form),
        *(weight, nested, irregular, "values" in (kinds.get("system"), kinds.get("context"))),
        bare_tools="tools" in columns and _are_bare(table[columns["tools"]].slice(0, _LOOKED_AT)),
        unseen=any(
            survey(table[name].slice(0, _LOOKED_AT), speaker_keys, answered=False).unseen
            for name in spoken_columns
            if is_messages(table[name].type, speaker_keys)
        ),
    )


def _are_plain_calls(keys: tuple[str, str] | None, turns: Conversation) -> bool:
    """Whether calls have the form that trainers read: OpenAI's, in messages of role and content."""
    calls = [turn.get("tool_calls") or [] for turn in turns]
    return keys == _KEYS[0] and all(
        isinstance(several, list)
        and all(isinstance(call, dict) and isinstance(call.get("function"), dict) for call in several)
        for several in calls
    )


def _are_bare(column: pa.ChunkedArray) -> bool:
    """Whether some cell of a column of tools is not a list, or JSON text of one, of objects with "function"."""
    for cell in (cell for chunk in column.chunks for cell in values_of(chunk)):
        tools = parsed(cell)
        if tools and not (
            isinstance(tools, list) and all(isinstance(tool, dict) and "function" in tool for tool in tools)
        ):
            return True
    return False


def _alternates(turns: Conversation, role: str, keys: MessageKeys) -> bool:
    """Whether user and assistant alternate; consecutive tool results count as one turn."""
    roles = [keys.canonical(str(turn.get(role))) for turn in turns]
    roles = roles[1:] if roles[:1] == ["system"] else roles
    sides = [name in ("assistant", "function_call") for name in roles]
    turn_starts = [k for k, name in enumerate(roles) if not (name == "tool" and k and roles[k - 1] == "tool")]
    sides = [sides[k] for k in turn_starts]
    return len(sides) % 2 == 0 and sides == [bool(k % 2) for k in range(len(sides))]


def _has_weights(column: pa.ChunkedArray, key: str, role: str, keys: MessageKeys) -> bool:
    """Whether `key` marks some assistant turns, by 0 or false, as not learned; in JSON columns, judged by a sample."""
    kind = getattr(column.type, "value_type", None)
    if kind is None or not pa.types.is_struct(kind):
        return any(
            isinstance(turn.get(key), (bool, int, float)[: 1 if key == "loss" else 3])  # a numeric loss is not a weight
            and not turn[key]
            and keys.canonical(str(turn.get(role))) == "assistant"
            for turn in _messages(column.slice(0, _LOOKED_AT))
        )
    if kind.get_field_index(key) < 0:
        return False
    flat = pc.list_flatten(column)
    roles, cells = (pc.struct_field(flat, name) for name in (role, key))
    number = pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type)
    if not pa.types.is_boolean(cells.type) and (not number or key == "loss"):
        return False
    names = [name for name in pc.unique(roles).to_pylist() if name and keys.canonical(name) == "assistant"]
    by_assistant = pc.is_in(roles, pa.array(names, roles.type))
    return bool(pc.any(pc.and_(by_assistant, pc.equal(cells.cast(pa.float64()), 0))).as_py())


def _columns_of(examples: Examples, form: WriteAs) -> tuple[str, dict[str, str], str]:
    """Shape, {role: column} and `WrittenForm.answers` of rows in a form."""
    label = {"label": "label"} if "label" in examples.columns else {}
    further = {"system": "system", "history": "history", "tools": "tools", **label}
    pair = {"chosen": "chosen", "rejected": "rejected"} if examples.paired else {}
    if form == "alpaca":
        answers = pair or {"output": "output"}
        return (
            "instruction",
            {"instruction": "instruction", "input": "input", **answers, **further},
            "texts" if pair else "",
        )
    if form == "sharegpt":
        return (
            "messages",
            {"prompt" if pair else "messages": "conversations", **pair, **further},
            "message" if pair else "",
        )
    if form == "messages" and not pair and not label:
        return "messages", {"messages": "messages", **further}, ""
    texts = form == "prompt_completion" and is_text_form(examples)
    columns = {"prompt": "prompt", **(pair or {"completion": "completion"}), **further}
    return "prompt_completion" if texts else "messages", columns, ("texts" if texts else "messages") if pair else ""


_KEYS = (("role", "content"), ("from", "value"), ("role", "value"), ("from", "content"))


def _answers(examples: Examples) -> str:
    """`WrittenForm.answers` of preference pairs in the columns of the input."""
    kind = examples.table.schema.field(examples.columns["chosen"]).type
    if is_text(kind):
        return "texts"
    if not is_messages(kind):
        return "message"
    return "conversations" if examples.columns["completion"].endswith("(answer)") else "messages"


def _messages(column: pa.ChunkedArray) -> Iterator[dict[str, Any]]:
    """The messages in the cells of a column, unchanged."""
    for conversation in _conversations(column):
        yield from conversation


def _conversations(column: pa.ChunkedArray) -> Iterator[Conversation]:
    """The messages of each cell of a column, unchanged."""
    if is_text(column.type):
        return
    for cell in (cell for chunk in column.chunks for cell in values_of(chunk)):
        yield [item for item in (cell if isinstance(cell, list) else [cell]) if isinstance(item, dict)]


def is_text_form(examples: Examples) -> bool:
    """Whether prompts and answers are texts, with nothing beside them but text."""
    return examples.shape != "messages" and not {"history", "tools"} & examples.columns.keys()
