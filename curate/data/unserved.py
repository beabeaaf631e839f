"""Explain data that curation does not support, and JSON files that are not lists of rows."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.data.columns import is_messages, is_text
from curate.data.encodings import COMPRESSED
from curate.data.json_as_text import json_texts
from curate.data.json_values import is_json
from curate.data.messages import UNANSWERED
from curate.data.wording import listed, type_name
from curate.errors import InputError

_ASKS = ("prompt", "instruction", "question", "problem", "query", "input", "messages", "conversations")
_REPLIES = ("replies", "children", "comments", "responses_tree")
_SEVERAL = (
    "completions",
    "responses",
    "answers",
    "solutions",
    "choices",
    "candidates",
    "generations",
    "outputs",
    "samples",
    "options",
)
_CHOICES, _RIGHT = ("choices", "options"), ("answer", "label", "answerkey", "answer_key", "answer_index", "correct")
_ANSWERS = frozenset(
    ["completion", "response", "output", "answer", "solution", "target", "generation", "summary", "chosen", "rejected"]
)
_NO_ANSWERS = frozenset([*_ASKS, "id", "uuid", "source", "data_source", "system", "system_prompt", "tools"])
# Parts of the names of columns with answers, and of columns with answers that are compared.
_LIKELY = ("answer", "reference", "solution", "response", "reply", "completion", "output", "target", "truth", "label")
_BARE = ("final", "expected", "reference", "truth", "gold", "target", "label")  # of columns with results alone
_NO_TEXTS = ("_id", "uuid", "_hash", "_model", "_type", "_length", "_tokens", "_score", "_name", "_source", "_language")
_COMPARED = (
    "response",
    "answer",
    "completion",
    "conversation",
    "output",
    "human_ref",
    "summary",
    "generation",
    "reply",
)
_BOTH = (("0", "1"), ("1", "2"), ("a", "b"))
_TEXTS = ("text", "content", "body", "message")
_UNPACK = {"gzip": "gzip -dc", "bz2": "bzip2 -dc", "xz": "xz -dc", "zstd": "zstd -dc", "lz4": "lz4 -dc"}
_MOST_CHARACTERS = 290  # of a message with a command


def unserved(schema: pa.Schema) -> str | None:
    """Message about an unsupported kind of data with a remedy, judged by its columns; None if they do not tell."""
    kinds = (_tree, _token_ids, _segments, _steps, _unreadable_pairs, _several, _compared, _translations, _prompts)
    for explain in kinds:
        explanation = explain(_fields(schema))
        if explanation is not None:
            return explanation
    return None


def check_answered(name: str, faults: Mapping[int, str], schema: pa.Schema) -> None:
    """Raise InputError if all conversations of a column are prompts only. faults: {row: reason} of all rows."""
    if set(faults.values()) == {UNANSWERED}:
        answers = [field.name for field in schema if field.name.casefold() in _ANSWERS and is_text(field.type)]
        other = f", or take column {answers[0]!r}: {_roles(name, answers[0])}" if answers else ""
        raise InputError(
            f"column {name!r} holds conversations without assistant messages: prompt-only data, from which "
            f'nothing can be learned; add the answers as messages of the role "assistant"{other}'
        )


def _roles(prompt: str, completion: str) -> str:
    """The option that names both columns, as it is typed."""
    return f"--columns {shlex.quote(f'prompt={prompt},completion={completion}')}"


def is_tree(schema: pa.Schema) -> bool:
    """Whether rows are messages of conversation trees, which could be mistaken for texts."""
    return _tree(_fields(schema)) is not None


def _fields(schema: pa.Schema) -> dict[str, pa.Field]:
    """Columns by their names in lower case."""
    fields: dict[str, pa.Field] = {}
    for field in schema:
        fields.setdefault(field.name.casefold(), field)
    return fields


def _tree(fields: dict[str, pa.Field]) -> str | None:
    """Message about conversation trees; None if the columns are not those of one."""
    nested = [
        name
        for name in _REPLIES
        if name in fields and _is_list(fields[name].type) and not _is_text_list(fields[name].type)
    ]
    roots = [
        name for name, field in fields.items() if pa.types.is_struct(field.type) and {*_REPLIES} & {*field.type.names}
    ]
    linked = [name for name in ("parent_id", "parent_message_id", "parent") if name in fields]
    texts = [name for name in _TEXTS if name in fields and is_text(fields[name].type)]
    if nested and texts:
        column = nested[0]
    elif roots:
        column = roots[0]
    elif linked and texts and {"message_id", "id", "message_tree_id", "role"} & fields.keys():
        column = linked[0]
    elif "mapping" in fields and _is_object(fields["mapping"].type):
        column = "mapping"
    else:
        return None
    alone = f", or take every message as a separate text with --columns text={fields[texts[0]].name}" if texts else ""
    return (
        f"column {fields[column].name!r} makes these trees of messages, which have many answers to one question; write "
        f"one row with a list `messages` for each path from a root to a leaf{alone}"
    )


def _token_ids(fields: dict[str, pa.Field]) -> str | None:
    """Message about token ids in place of text; None if there are none."""
    id_lists = [
        name for name, field in fields.items() if _is_list(field.type) and pa.types.is_integer(field.type.value_type)
    ]
    token_columns = [
        name for name in id_lists if name.endswith(("input_ids", "token_ids", "_ids")) or name in ("ids", "tokens")
    ]
    if not token_columns:
        return None
    name = fields[token_columns[0]].name
    return (
        f"column {name!r} holds token ids, and curation reads text; give the data as it was before tokenization, or "
        f"write tokenizer.decode(row[{name!r}]) as a column `text`"
    )


def _steps(fields: dict[str, pa.Field]) -> str | None:
    """Message about ratings of single steps; None if there are none."""
    steps = next(
        (name for name in ("completions", "steps") if name in fields and _is_text_list(fields[name].type)), None
    )
    labels = [name for name in ("labels", "ratings", "label", "scores", "rewards") if name in fields]
    rated = [name for name in labels if _is_list(fields[name].type) and _is_label(fields[name].type.value_type)]
    inside = [name for name in labels if pa.types.is_struct(fields[name].type) and "steps" in fields[name].type.names]
    if not (steps and rated) and not inside:
        return None
    name = fields[(rated or inside)[0]].name
    return (
        f"column {name!r} rates the single steps of an answer: stepwise rewards, for reward "
        "models; to curate the solutions, write the joined steps of the right ones as a column `completion`"
    )


def _several(fields: dict[str, pa.Field]) -> str | None:
    """Message about several answers per prompt, or multiple choice; None if there are none."""
    asks = [name for name in _ASKS if name in fields]
    several = next((name for name in _SEVERAL if name in fields and _holds_several(fields[name].type)), None)
    if not asks or several is None:
        return None
    name, right = (
        fields[several].name,
        next((fields[candidate].name for candidate in _RIGHT if candidate in fields), None),
    )
    if several in _CHOICES and right is not None:
        return (
            f"column {name!r} holds choices, of which column {right!r} names the right one: multiple choice; write "
            "the question with its choices as `prompt`, and the right one as `completion`"
        )
    return (
        f"column {name!r} holds several answers to each {asks[0]}; write one row for each answer, as `prompt` and "
        "`completion`, or pairs of a better and a worse one, as `prompt`, `chosen` and `rejected`"
    )


def _compared(fields: dict[str, pa.Field]) -> str | None:
    """Two answers by number or letter, or answers to a request that is an object."""
    for name, field in fields.items():
        if _holds_messages(field.type):
            return (
                f"column {field.name!r} holds requests with their `messages` inside; write these as a column `prompt`, "
                "beside `chosen` and `rejected` answers where two are compared, else beside a `completion`"
            )
        for first, second in _BOTH:
            partner = name[: -len(first)] + second
            if name.endswith(first) and partner in fields and any(word in name for word in _COMPARED):
                return (
                    f"columns {field.name!r} and {fields[partner].name!r} hold two answers that are compared; write "
                    "the better one of each row as `chosen` and the other as `rejected`, beside the `prompt`"
                )
    return None


def _translations(fields: dict[str, pa.Field]) -> str | None:
    """Message about one text in several languages; None if there is none."""
    kind = fields["translation"].type if "translation" in fields else pa.null()
    if not pa.types.is_struct(kind) or len(kind) < 2 or not all(is_text(language.type) for language in kind):
        return None
    source, target = (kind.field(k).name for k in (0, 1))
    return (
        f"column {fields['translation'].name!r} holds texts by language; write these as columns, such as `prompt` "
        f"({source!r}) and `completion` ({target!r})"
    )


def _unreadable_pairs(fields: dict[str, pa.Field]) -> str | None:
    """Message about chosen and rejected answers that are neither texts nor messages; None if there are none."""
    pair = [fields[name].type for name in ("chosen", "rejected") if name in fields]
    if len(pair) < 2 or all(map(is_text, pair)) or all(map(is_messages, pair)):
        return None  # something else is at fault, and the error says what
    kinds = " and ".join(f"{name!r} {type_name(fields[name].type)}" for name in ("chosen", "rejected"))
    return (
        f"chosen and rejected answers must both be texts or messages, but columns hold {kinds}; convert them, "
        "one answer of each kind to a row"
    )


def _prompts(fields: dict[str, pa.Field]) -> str | None:
    """Message about prompts without answers; None if there are answers, or no prompts."""
    asks = next((name for name in _ASKS if name in fields), None)
    if asks is None or not _ANSWERS.isdisjoint(fields):
        return None
    if asks in ("messages", "conversations"):  # other types have their own message
        return _no_messages(fields[asks].name) if is_text(fields[asks].type) else None
    text_columns = [name for name, field in fields.items() if name not in _NO_ANSWERS and is_text(field.type)]
    name = ""
    if text_columns and is_text(fields[asks].type):
        name = f", or name the column that has them: {_roles(fields[asks].name, _likely(fields, text_columns))}"
    return (
        f"column {fields[asks].name!r} holds prompts, and no column is known as their answers: prompt-only data, of "
        f"which nothing can be learned; add a column `completion` with answers{name}"
    )


def _likely(fields: dict[str, pa.Field], text_columns: list[str]) -> str:
    """The column among `text_columns` that most likely has the answers, or COLUMN: worked ones before bare results."""
    possible = [
        name
        for name in text_columns
        if any(word in name for word in _LIKELY)
        and not name.endswith(_NO_TEXTS)
        and name not in _SEVERAL
        and not name.startswith("input")
    ]
    worked = [name for name in possible if not any(word in name for word in _BARE)]
    return next((fields[name].name for name in (*worked, *possible)), "COLUMN")


def _no_messages(name: str) -> str:
    return (
        f"column {name!r} holds text that is no JSON list of messages; write it with json.dumps, as "
        '[{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]'
    )


def _segments(fields: dict[str, pa.Field]) -> str | None:
    """Message about axolotl's input_output format; None if the columns are not of it."""
    kind = fields["segments"].type if "segments" in fields else pa.null()
    item = kind.value_type if _is_list(kind) else pa.null()
    if not pa.types.is_struct(item) or not {"label", "text"} <= {*item.names}:
        return None
    return (
        f"column {fields['segments'].name!r} holds segments of text with labels (axolotl's input_output), which "
        "contain a chat template already; write the turns as `messages`, with train: false if a label is false, or the "
        "text before the labeled segment as `prompt` and that segment as `completion`"
    )


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _holds_several(kind: pa.DataType) -> bool:
    """Whether cells are lists, or objects of lists, as `datasets` once wrote lists of objects."""
    return _is_list(kind) or (pa.types.is_struct(kind) and any(_is_list(field.type) for field in kind))


def _holds_messages(kind: pa.DataType) -> bool:
    return bool(pa.types.is_struct(kind)) and any(field.name == "messages" for field in kind)


def _is_object(kind: pa.DataType) -> bool:
    return bool(pa.types.is_struct(kind) or is_json(kind))


def _is_text_list(kind: pa.DataType) -> bool:
    return _is_list(kind) and is_text(kind.value_type)


def _is_label(kind: pa.DataType) -> bool:
    return bool(pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind))


# --- JSON files that are one object --------------------------------------------------------------------------------


def wrapped(table: pa.Table, path: Path) -> str | None:
    """Message about a JSON file of one object, with a command that converts it to rows; None if it may be a row."""
    if table.num_rows != 1:
        return None
    row = {name: json.loads(json_texts(table[name].combine_chunks())[0] or "null") for name in table.column_names}
    values = list(row.values())
    if len(values) > 1 and all(isinstance(value, dict) and value for value in values):
        if all(key.isdecimal() for value in values for key in value):
            return _command(
                path, "an object of columns", "[dict(zip(d, r)) for r in zip(*(c.values() for c in d.values()))]"
            )
        return _command(path, f"an object of {len(values):,} rows by id", "[{'id': k, **r} for k, r in d.items()]")
    if isinstance(row.get("columns"), list) and isinstance(row.get("data"), list):
        return _command(path, "an object of column names and cells", "[dict(zip(d['columns'], r)) for r in d['data']]")
    object_columns = [name for name, value in row.items() if _are_objects(value)]
    if object_columns:
        return _command(
            path,
            f"an object with its rows in {listed([repr(name) for name in object_columns])}",
            f"d[{object_columns[0]!r}]",
        )
    lists = [value for value in values if isinstance(value, list)]
    if len(lists) == len(values) > 1 and len({len(value) for value in lists}) == 1 and len(lists[0]) > 0:
        return _command(path, "an object of columns", "[dict(zip(d, r)) for r in zip(*d.values())]")
    return None


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(isinstance(item, dict) for item in value)


def _command(path: Path, kind: str, rows: str) -> str:
    """Message that says what a file is, with the shell command that converts it to a list of rows."""
    script = f"import json, sys; d = json.load(sys.stdin); json.dump({rows}, sys.stdout)"
    codec = COMPRESSED.get(path.suffix.lower())

    def line(name: str) -> str:
        before, after = (f"{_UNPACK[codec]} {name} | ", "") if codec else ("", f" < {name}")
        return f'{kind}, not a list of rows; make it one: {before}python -c "{script}"{after} > rows.json'

    names = (shlex.quote(str(path)), shlex.quote(path.name))
    return line(next((name for name in names if len(path.name) + len(line(name)) <= _MOST_CHARACTERS), "FILE"))
