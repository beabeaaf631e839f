"""What a model reads in a table: the columns with a role, by their names and types, and the turns of conversations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.data.json_text import encodable, loads
from curate.data.json_values import is_json
from curate.data.wording import listed, nearest, type_name
from curate.errors import InputError
from curate.types import IntArray

# Required roles of each shape and the column names they go by, most specific first: where a worked solution and
# a bare answer stand side by side, the solution is what a model is trained on.
_REQUIRED: dict[str, dict[str, tuple[str, ...]]] = {
    "messages": {"messages": ("messages", "conversations", "conversation")},
    "prompt_completion": {"prompt": ("prompt",), "completion": ("completion", "response")},
    "instruction": {"instruction": ("instruction",), "output": ("output", "response")},
    "question_answer": {
        "prompt": ("question", "problem", "query"),
        "completion": ("solution", "answer", "response"),
    },
    "text": {"text": ("text", "content")},
}
_INPUT = ("input", "context")
_AS_LIST = 'python -c "import json, sys; json.dump(list(json.load(sys.stdin).values()), sys.stdout)" < FILE > rows.json'
_OPTIONAL = {
    "id": ("id", "uuid"),
    "source": ("source", "data_source"),
    "final_answer": ("final_answer", "answer"),
}

SHAPES = tuple(_REQUIRED)
# Roles of preference pairs and labeled completions, see `curate.data.preferences`.
PAIR_ROLES = ("chosen", "rejected", "label")
PAIR_SHAPES = ("preference", "kto")
PAIR_NAMES = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("response_chosen", "response_rejected"),
    ("preferred", "dispreferred"),
    ("response_j", "response_k"),
)
LABEL_NAMES = ("label", "kto_tag")
ROLES = (
    "prompt",
    "completion",
    "instruction",
    "input",
    "output",
    "messages",
    "text",
    "id",
    "source",
    "final_answer",
    *PAIR_ROLES,
)
# Names of the columns that curation adds (what is left in a finished run's data folder).
RESERVED = (
    *("example_id", "source_id", "origin", "copy", "difficulty", "cluster", "hard"),
    *("generator", "request", "pass_count", "verified", "rescored_hard"),
)


def known_names() -> frozenset[str]:
    """Every column name that recognition looks for."""
    required = (name for roles in _REQUIRED.values() for names in roles.values() for name in names)
    return frozenset([*required, *_INPUT, *(name for names in _OPTIONAL.values() for name in names)])


def parse_columns(text: str) -> dict[str, str]:
    """`prompt=question,completion=answer` as {role: column name}.

    Raises InputError for a piece that is not role=column, an unknown role or one given twice.
    """
    columns: dict[str, str] = {}
    for piece in text.split(","):
        role, equals, column = (part.strip() for part in piece.partition("="))
        if not (role and equals and column):
            raise InputError(
                f"--columns {text!r}: {piece!r} is not ROLE=COLUMN; write e.g. prompt=question,completion=answer"
            )
        if role in columns:
            raise InputError(f"--columns {text!r}: role {role!r} is given twice; name one column for it")
        _check_role(role)
        columns[role] = column
    return columns


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise InputError(f"unknown role {role!r}{nearest(role, ROLES)}; roles are {', '.join(ROLES)}")


def may_be_pairs(names: Iterable[str], roles: Iterable[str], shape: str | None) -> bool:
    """Whether names, roles or shape give reason to look for preference pairs or labeled completions."""
    known = {*LABEL_NAMES, *(chosen for chosen, _ in PAIR_NAMES)}
    return shape in PAIR_SHAPES or not known.isdisjoint(map(str.casefold, names)) or any(r in PAIR_ROLES for r in roles)


def content_roles(shape: str, columns: Mapping[str, str]) -> tuple[str, ...]:
    """The roles whose cells a model reads, in a fixed order; only those that have a column."""
    if shape == "messages":
        return ("messages",) if "messages" in columns else ("prompt", "completion")
    order = {"instruction": ("instruction", "input", "output"), "text": ("text",)}
    return tuple(role for role in order.get(shape, ("prompt", "completion")) if role in columns)


def recognize(
    schema: pa.Schema, columns: Mapping[str, str] | None = None, shape: str | None = None
) -> tuple[str, dict[str, str]]:
    """Shape of the dataset, and {role: column name}.

    columns: roles the caller names; they win. shape: one of SHAPES, else the first whose required columns are
    there. Prompts and completions that are both lists of messages are of shape messages.
    Raises InputError for unknown roles, columns and shapes, for a column in two content roles or of the wrong type,
    and where no shape fits.
    """
    given = dict(columns or {})
    for role, name in given.items():
        _check_role(role)
        if name not in schema.names:
            raise InputError(
                f"--columns {role}={name}: there is no column {name!r}{nearest(name, schema.names)}; "
                f"columns are {listed(schema.names)}"
            )
    _check_repeats(given)
    if shape is not None and shape not in SHAPES:
        raise InputError(f"unknown shape {shape!r}{nearest(shape, SHAPES)}; shapes are {', '.join(SHAPES)}")
    wrong: list[str] = []
    for candidate in SHAPES if shape is None else (shape,):
        by_role = _fit(schema, candidate, given)
        if by_role is None:
            continue
        fault = _fault(schema, candidate, by_role)
        if fault is None:
            conversational = candidate != "messages" and is_messages(schema.field(next(iter(by_role.values()))).type)
            return "messages" if conversational else candidate, {**by_role, **_optional(schema, given, by_role)}
        wrong.append(fault)
    if wrong:
        raise InputError(wrong[0])
    raise InputError(_no_fit(schema, shape))


def _check_repeats(given: Mapping[str, str]) -> None:
    """InputError where one column is named for two roles whose text is rendered."""
    roles: dict[str, str] = {}
    for role, name in given.items():
        if role in _OPTIONAL:
            continue  # what is trained on may be the final answer, and its source or id
        if name in roles:
            raise InputError(
                f"--columns {roles[name]}={name},{role}={name}: a column cannot be both {roles[name]} and {role}; "
                "name another one for either"
            )
        roles[name] = role


def _column(schema: pa.Schema, names: tuple[str, ...], taken: Iterable[str] = ()) -> str | None:
    """The first of `names` that is a column, whatever its capitals, and not taken."""
    free = [name for name in schema.names if name not in taken]
    lowered = {name.casefold(): name for name in reversed(free)}
    return next((name if name in free else lowered[name] for name in names if name in lowered), None)


def _fit(schema: pa.Schema, shape: str, given: Mapping[str, str]) -> dict[str, str] | None:
    required = _REQUIRED[shape]
    allowed = {*required, *_OPTIONAL, *(["input"] if shape == "instruction" else [])}
    if shape == "messages" and "prompt" in given and "completion" in given and "messages" not in given:
        required, allowed = {"prompt": (), "completion": ()}, {"prompt", "completion", *_OPTIONAL}
    if not allowed >= set(given):
        return None
    taken = [name for role, name in given.items() if role not in _OPTIONAL]
    by_role = {role: given.get(role) or _column(schema, names, taken) for role, names in required.items()}
    if shape == "instruction":
        by_role["input"] = given.get("input") or _column(schema, _INPUT, taken)
    complete = {role: name for role, name in by_role.items() if name is not None}
    return complete if set(complete) >= set(required) else None


def _fault(schema: pa.Schema, shape: str, by_role: Mapping[str, str]) -> str | None:
    kinds = {role: schema.field(name).type for role, name in by_role.items()}
    if shape == "messages" or (shape == "prompt_completion" and any(is_messages(kind) for kind in kinds.values())):
        valid, expected = is_messages, "a list of messages with text in role and content (or from and value)"
    else:
        valid, expected = is_text, "text"
    for role, kind in kinds.items():
        if not valid(kind):
            return (
                f"column {by_role[role]!r} holds {type_name(kind)}, not {expected}; convert it, or name another column "
                f"with --columns {role}=COLUMN"
            )
    return None


def _optional(schema: pa.Schema, given: Mapping[str, str], by_role: Mapping[str, str]) -> dict[str, str]:
    columns = {}
    for role, names in _OPTIONAL.items():
        name = given.get(role) or _column(schema, names)
        if role == "final_answer" and name not in (given.get(role), "final_answer") and name in by_role.values():
            continue  # an `answer` that is already the completion is a worked answer
        if name is None:
            continue
        kind = schema.field(name).type
        if is_text(kind) or pa.types.is_integer(kind) or (role != "id" and _is_written(kind)):
            columns[role] = name
        elif role in given:
            raise InputError(
                f"column {name!r} holds {type_name(kind)}, which cannot be {role}; name a column of text or numbers"
            )
    return columns


def _is_written(kind: pa.DataType) -> bool:
    """Whether Arrow writes cells of a type as text: numbers and times, unless of a time zone that it does not know."""
    if not pa.types.is_primitive(kind):
        return False
    try:
        pa.Array.from_buffers(kind, 1, [None, pa.py_buffer(bytes(64))]).cast(pa.string())  # one cell of zeros
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return True


def _no_fit(schema: pa.Schema, shape: str | None) -> str:
    names = listed(schema.names)
    if all(pa.types.is_struct(kind) or is_json(kind) for kind in schema.types):
        return f"columns {names} hold objects, as in an object of rows by id; make it a list: {_AS_LIST}"
    if shape is None:
        return (
            f"columns {names} match no known shape ({', '.join(SHAPES)}); name them, e.g. "
            "--columns prompt=COLUMN,completion=COLUMN"
        )
    roles = ",".join(f"{role}=COLUMN" for role in _REQUIRED[shape])
    return (
        f"columns {names} do not have what shape {shape} needs; name them with --columns {roles}, or leave out --shape"
    )


# --- conversations: lists of structs or of JSON objects -----------------------------------------------------------

KEYS = (("role", "content"), ("from", "value"))  # who speaks, and what is said
_ROLES = {"human": "user", "gpt": "assistant", "model": "assistant"}

# (n + 1,) int64 offsets of the rows, then role and content of every turn as large_string arrays.
Turns = tuple[IntArray, pa.Array, pa.Array]


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds strings (an all-null column does: its rows are the fault)."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind in (pa.string_view(), pa.null())


def is_messages(kind: pa.DataType) -> bool:
    """Whether a column of this type holds conversations of text; the rows of a list of JSON may be at fault."""
    return _is_list(kind) and (_keys(kind.value_type) is not None or is_json(kind.value_type))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _keys(kind: pa.DataType) -> tuple[str, str] | None:
    """Names of the role and the content in a struct of this type."""
    fields = {field.name: field.type for field in kind} if pa.types.is_struct(kind) else {}
    return next((keys for keys in KEYS if all(key in fields and is_text(fields[key]) for key in keys)), None)


def turns(array: pa.Array) -> Turns:
    """Turns of n conversations (no chunks); a null conversation has none. Role names are OpenAI's."""
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    flat = pc.list_flatten(array)
    roles, contents = _spoken(flat) if pa.types.is_struct(flat.type) else _spoken_json(flat)
    encoded = roles.dictionary_encode()
    names = [_ROLES.get(name, name) for name in decoded(encoded.dictionary)]
    roles = pa.array(names, pa.large_string()).take(encoded.indices)
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), roles, contents


def _spoken(flat: pa.Array) -> tuple[pa.Array, pa.Array]:
    keys = _keys(flat.type)
    assert keys is not None, flat.type
    roles, contents = (pc.struct_field(flat, key).cast(pa.large_string()) for key in keys)
    return roles, contents


def _spoken_json(flat: pa.Array) -> tuple[pa.Array, pa.Array]:
    spoken = [_turn(text) for text in flat.cast(pa.large_string()).to_pylist()]
    valid = ([part if isinstance(part, str) and encodable([part]) else None for part in pair] for pair in spoken)
    roles, contents = zip(*valid, strict=True) if spoken else ((), ())
    return pa.array(roles, pa.large_string()), pa.array(contents, pa.large_string())


def _turn(text: str | None) -> tuple[Any, Any]:
    """Role and content of the JSON text of a message, None for what it lacks."""
    try:
        turn = loads(text or "null")
    except (ValueError, RecursionError):  # a row at fault, which is found for that elsewhere
        turn = None
    keys = next((keys for keys in KEYS if isinstance(turn, dict) and keys[1] in turn), None)
    return (None, None) if keys is None else (turn.get(keys[0]), turn[keys[1]])


def are_whole(array: pa.Array, answered: bool) -> bool:
    """Whether every one of n conversations (no chunks, none null) has turns, and every turn a role and content.

    answered: and an assistant's turn among them. `curate.data.invalid_rows` says what is missing where.
    """
    offsets, roles, contents = turns(array)
    if roles.null_count or contents.null_count or not np.diff(offsets).all():
        return False
    spoken = np.concatenate([[0], np.cumsum(pc.equal(roles, "assistant").to_numpy(zero_copy_only=False))])
    return not answered or bool((np.diff(spoken[offsets]) > 0).all())


def decoded(names: pa.Array) -> list[str]:
    """Strings as Python has them; bytes that are not UTF-8 become U+FFFD, since the row check reports them."""
    return [raw.decode(errors="replace") for raw in names.cast(pa.large_binary()).to_pylist()]


def concatenated_turns(first: Turns, second: Turns) -> Turns:
    """Row by row, the turns of `first` followed by those of `second`."""
    offsets = first[0] + second[0]
    starts = np.concatenate([first[0][:-1], second[0][:-1] + first[0][-1]])
    lengths = np.concatenate([np.diff(first[0]), np.diff(second[0])])
    n = len(offsets) - 1
    pairs = np.arange(2 * n).reshape(2, n).T.reshape(-1)  # row 0 of first, row 0 of second, row 1 of first, ...
    begins = np.concatenate([[0], np.cumsum(lengths[pairs])])
    index = pa.array(np.repeat(starts[pairs] - begins[:-1], lengths[pairs]) + np.arange(begins[-1]))
    roles, contents = (pa.concat_arrays([first[k], second[k]]).take(index) for k in (1, 2))
    return offsets, roles, contents


def message_dicts(conversation: list[Any]) -> list[dict[str, str]]:
    """One conversation as `{"role": ..., "content": ...}` turns; other fields of a turn are left out.

    conversation: of dicts, or of their JSON texts where the column is a list of JSON.
    """
    turns = []
    for turn in conversation:
        if isinstance(turn, str):
            role, content = _turn(turn)
        else:
            role, content = (turn["role"], turn["content"]) if "content" in turn else (turn["from"], turn["value"])
        turns.append({"role": _ROLES.get(role, role), "content": content})
    return turns
