"""Recognize the roles of a table's columns by their names and types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa

from curate.data.column_names import (
    CONVERSATIONS,
    INPUT,
    LABEL_NAMES,
    OPTIONAL,
    OPTIONAL_CONTENT,
    PAIR_NAMES,
    PAIR_ROLES,
    PAIR_SHAPES,
    PAIRS,
    REQUIRED,
    ROLES,
    SHAPES,
    SURROUNDING,
    SURROUNDING_NAMES,
    UNREAD,
)
from curate.data.json_values import holds_json, is_json
from curate.data.turns import ANSWERS, ASKS, CONTENT_KEYS, FURTHER_KEYS, ROLE_KEYS, TARGETS, USUAL, MessageKeys
from curate.data.wording import listed, nearest, type_name
from curate.errors import InputError

ROLE_PREFIX = "role."  # "role.NAME" maps a speaker's name to a role of messages


def known_names() -> frozenset[str]:
    """Every column name that recognition looks for."""
    tables = (*REQUIRED.values(), SURROUNDING_NAMES, OPTIONAL)
    role_names = (name for table in tables for names in table.values() for name in names)
    pair_names = (name for pair in PAIRS for names in pair for name in names)
    return frozenset([*role_names, *pair_names, *INPUT, *CONVERSATIONS])


def parse_columns(text: str) -> dict[str, str]:
    """Parse `prompt=question,completion=answer` into {role: column name}; "" disables a role, as in `system=`.

    `role=from,content=value` names the keys of messages, `role.bot=assistant` maps a speaker's name to a role.
    Raises InputError for a piece that is not role=column, and for an unknown or repeated role.
    """
    columns: dict[str, str] = {}
    for piece in text.split(","):
        role, equals, column = (part.strip() for part in piece.partition("="))
        if not (role and equals and (column or role in {*OPTIONAL, *OPTIONAL_CONTENT, *PAIR_ROLES})):
            raise InputError(
                f"--columns {text!r}: {piece!r} is not ROLE=COLUMN; write e.g. prompt=question,completion=answer"
            )
        if role in columns:
            raise InputError(f"--columns {text!r}: role {role!r} is given twice; name one column for it")
        _check_role(role, column)
        columns[role] = column
    return columns


def parse_roles(pieces: Iterable[str]) -> dict[str, str]:
    """Parse pieces like `bot=assistant` or `bot=assistant,human=user` into {"role.bot": "assistant", ...}."""
    columns: dict[str, str] = {}
    for piece in (part for several in pieces for part in several.split(",")):
        name, equals, target = (part.strip() for part in piece.partition("="))
        if not (name and equals and target):
            raise InputError(f"--role {piece!r} is not NAME=ROLE; write e.g. bot=assistant")
        _check_role(ROLE_PREFIX + name, target)
        columns[ROLE_PREFIX + name] = target
    return columns


def _check_role(role: str, column: str = "") -> None:
    if role.startswith(ROLE_PREFIX) and len(role) > len(ROLE_PREFIX):
        if column not in TARGETS:
            raise InputError(
                f"--role {role[len(ROLE_PREFIX) :]}={column}: there is no role {column!r}{nearest(column, TARGETS)}; "
                f"roles of messages are {', '.join(TARGETS)}"
            )
    elif role not in ROLES:
        raise InputError(f"unknown role {role!r}{nearest(role, ROLES)}; roles are {', '.join(ROLES)}")


def may_be_pairs(names: Iterable[str], roles: Iterable[str], shape: str | None) -> bool:
    """Whether the names, roles or shape suggest preference pairs or labeled completions."""
    plain = {name.casefold() for name in names}
    return (
        shape in PAIR_SHAPES
        or not plain.isdisjoint(LABEL_NAMES)
        or any({*pair} <= plain for pair in PAIR_NAMES)
        or any(r in PAIR_ROLES for r in roles)
    )


def spoken_roles(shape: str, columns: Mapping[str, str]) -> tuple[str, ...]:
    """The roles that hold the prompt and completion of a row, in a fixed order; only those that have a column."""
    if shape == "messages":
        return ("messages",) if "messages" in columns else ("prompt", "completion")
    order = {"instruction": ("instruction", "input", "output"), "text": ("text",)}
    return tuple(role for role in order.get(shape, ("prompt", "completion")) if role in columns)


def content_roles(shape: str, columns: Mapping[str, str]) -> tuple[str, ...]:
    """The roles whose cells a model reads, in a fixed order; only those that have a column."""
    return (*spoken_roles(shape, columns), *(role for role in SURROUNDING if role in columns))


def recognize(
    schema: pa.Schema, columns: Mapping[str, str] | None = None, shape: str | None = None
) -> tuple[str, dict[str, str]]:
    """Recognize the shape of a dataset and its {role: column name}.

    columns: roles that the caller assigned; they take precedence, and "" disables one. shape: one of SHAPES; None = the
    first one whose required columns exist. Prompts and completions that are both lists of messages have shape messages.
    Raises InputError for unknown roles, columns and shapes, for a column in two content roles or of the wrong type,
    and if no shape fits.
    """
    explicit = dict(columns or {})
    for role, name in explicit.items():
        _check_role(role, name)
        if name and is_column_role(role) and name not in schema.names:
            raise InputError(
                f"--columns {role}={name}: there is no column {name!r}{nearest(name, schema.names)}; "
                f"columns are {listed(schema.names)}"
            )
    _check_repeats(explicit)
    if shape is not None and shape not in SHAPES:
        raise InputError(f"unknown shape {shape!r}{nearest(shape, SHAPES)}; shapes are {', '.join(SHAPES)}")
    wrong: list[str] = []
    keys = message_keys(explicit)
    for candidate, matched in _candidates(schema, explicit, shape):
        fault = _fault(schema, candidate, matched, keys)
        if fault is None:
            first = schema.field(next(iter(matched.values()))).type
            conversational = candidate != "messages" and is_messages(first, keys)
            final = "messages" if conversational else candidate
            matched |= _surrounding(schema, final, explicit, matched)
            further = {role: name for role, name in explicit.items() if not is_column_role(role)}
            return final, {**matched, **_optional(schema, explicit, matched), **further}
        wrong.append(fault)
    if wrong:
        raise InputError(wrong[0])
    raise InputError(_no_fit(schema, shape))


def _candidates(
    schema: pa.Schema, explicit: Mapping[str, str], shape: str | None
) -> Iterator[tuple[str, dict[str, str]]]:
    """(shape, {role: column}) of all shapes that fit by column names, most specific first."""
    fits = {candidate: _fit(schema, candidate, explicit) for candidate in (SHAPES if shape is None else (shape,))}
    if fits.get("instruction") and "prompt" not in explicit:
        # Beside an instruction with the same answer, a prompt is its wording for a model, at times with the answer.
        with_prompt, with_instruction = (
            fits.get(candidate) or {} for candidate in ("prompt_completion", "instruction")
        )
        if (
            with_prompt.get("completion") == with_instruction["output"]
            and _plain_name(with_instruction["output"]) != "completion"
        ):
            del fits["prompt_completion"]
    yield from ((candidate, matched) for candidate, matched in fits.items() if matched is not None)
    if shape in (None, "messages"):
        matched = _fit(schema, "messages", explicit, {"messages": CONVERSATIONS})
        if matched is not None and is_messages(schema.field(matched["messages"]).type, message_keys(explicit)):
            yield "messages", matched
    if shape in (None, "prompt_completion"):
        for prompts, completions in PAIRS:
            matched = _fit(schema, "prompt_completion", explicit, {"prompt": prompts, "completion": completions})
            if matched is not None:
                yield "prompt_completion", matched


def _check_repeats(explicit: Mapping[str, str]) -> None:
    """Raise InputError if a column has two content roles."""
    roles: dict[str, str] = {}
    for role, name in explicit.items():
        if role in OPTIONAL or not name or not is_column_role(role):
            continue  # what is trained on may be the final answer, and its source or id
        if name in roles:
            raise InputError(
                f"--columns {roles[name]}={name},{role}={name}: a column cannot be both {roles[name]} and {role}; "
                "name another one for either"
            )
        roles[name] = role


def _plain_name(name: str) -> str:
    """A column name in lower case with underscores and without spaces around it, for comparison."""
    return name.strip().casefold().replace(" ", "_").replace("-", "_")


def _column(schema: pa.Schema, names: tuple[str, ...], taken: Iterable[str] = ()) -> str | None:
    """The first of `names` that is a column, ignoring case, and not taken."""
    return next(iter(_all_columns(schema, names, taken)), None)


def _all_columns(schema: pa.Schema, names: tuple[str, ...], taken: Iterable[str] = ()) -> list[str]:
    free = [name for name in schema.names if name not in taken]
    plain = {_plain_name(name): name for name in reversed(free)}
    return [name if name in free else plain[name] for name in names if name in plain]


def _fit(
    schema: pa.Schema,
    shape: str,
    explicit: Mapping[str, str],
    names_of: Mapping[str, tuple[str, ...]] | None = None,
) -> dict[str, str] | None:
    """{role: column} of a shape by column names; None if it lacks a required role or `explicit` has a foreign one."""
    required = REQUIRED[shape] if names_of is None else names_of
    allowed = {*required, *OPTIONAL, *(["input"] if shape == "instruction" else [])}
    if shape != "text":
        allowed |= {*SURROUNDING}
    if shape == "messages" and "prompt" in explicit and "completion" in explicit and "messages" not in explicit:
        required, allowed = {"prompt": (), "completion": ()}, {"prompt", "completion", *SURROUNDING, *OPTIONAL}
    if not allowed >= {role for role, name in explicit.items() if name and is_column_role(role)}:
        return None
    assigned = [name for role, name in explicit.items() if role not in OPTIONAL and is_column_role(role)]
    matched = {role: explicit.get(role) or _column(schema, names, assigned) for role, names in required.items()}
    if shape == "instruction":
        matched["input"] = explicit["input"] if "input" in explicit else _column(schema, INPUT, assigned)
    complete = {role: name for role, name in matched.items() if name}
    return complete if set(complete) >= set(required) else None


def _fault(schema: pa.Schema, shape: str, matched: Mapping[str, str], keys: MessageKeys) -> str | None:
    """Message about a column of the wrong type for its role; None if all types fit the shape."""
    kinds = {role: schema.field(name).type for role, name in matched.items()}

    def conversations(kind: pa.DataType) -> bool:
        return is_messages(kind, keys)

    if shape == "messages" or (shape == "prompt_completion" and any(map(conversations, kinds.values()))):
        valid, expected = conversations, "a list of messages with role and content (or from and value)"
    else:
        valid, expected = is_text, "text"
    for role, kind in kinds.items():
        if not valid(kind):
            keyed = " or name its keys with --columns role=KEY,content=KEY," if _is_objects(kind) else ""
            return (
                f"column {matched[role]!r} holds {type_name(kind)}, not {expected}; convert it,{keyed} or name another "
                f"column with --columns {role}=COLUMN"
            )
    return None


def _is_objects(kind: pa.DataType) -> bool:
    return is_list(kind) and bool(pa.types.is_struct(kind.value_type))


def _surrounding(
    schema: pa.Schema, shape: str, explicit: Mapping[str, str], matched: Mapping[str, str]
) -> dict[str, str]:
    """{role: column} of the columns besides prompt and completion that a model sees."""
    if shape == "text":
        return {}
    columns: dict[str, str] = {}
    for role, names in SURROUNDING_NAMES.items():
        if role in explicit:
            name = explicit[role] or None
            if name is not None and not _can_be(role, schema.field(name).type):
                raise InputError(
                    f"column {name!r} holds {type_name(schema.field(name).type)}, which cannot be {role}; name another "
                    "column"
                )
        else:
            assigned = [*matched.values(), *columns.values(), *(column for column in explicit.values() if column)]
            fitting = (
                column for column in _all_columns(schema, names, assigned) if _can_be(role, schema.field(column).type)
            )
            name = next(fitting, None)
        if name is not None:
            columns[role] = name
    return columns


def _can_be(role: str, kind: pa.DataType) -> bool:
    """Whether a column of this type can be system, context, history or tools."""
    if pa.types.is_null(kind):
        return False  # nothing that a model could see
    if role in ("system", "context"):
        return is_text(kind) or (is_list(kind) and is_text(kind.value_type)) or (role == "system" and _is_said(kind))
    if role == "history":
        return holds_turns(kind)
    objects = pa.types.is_struct(kind) or is_json(kind)
    return objects or is_text(kind) or (is_list(kind) and (_can_be(role, kind.value_type) or holds_json(kind)))


def _is_said(kind: pa.DataType) -> bool:
    """Whether a column of this type holds messages, their content, or parts of it, such as Anthropic's system."""
    kind = kind.value_type if is_list(kind) else kind
    return pa.types.is_struct(kind) and any(
        field.name in ("text", "content", "parts") and _speaks(field.type, nested=True) for field in kind
    )


def remarks(schema: pa.Schema, shape: str, matched: Mapping[str, str], explicit: Mapping[str, str]) -> list[str]:
    """Notes about columns that could be read in another way, each with the option that does so."""
    lines = []
    used = {*matched.values(), *explicit.values()}
    names = REQUIRED[shape]
    if shape == "prompt_completion" and _plain_name(matched.get("prompt", "")) not in names["prompt"]:
        pairs = (pair for pair in PAIRS if _plain_name(matched.get("prompt", "")) in pair[0])
        names = next(({"prompt": asks, "completion": answers} for asks, answers in pairs), names)
    other = _column(schema, ("prompt",), used) if shape == "instruction" else None
    if other is not None and is_text(schema.field(other).type):
        option = f"--columns prompt={other},completion={matched['output']}"
        lines.append(f"instruction is column {matched['instruction']!r}; {option} takes column {other!r} in its place")
    for role, candidates in names.items():
        others = _all_columns(schema, candidates, used) if role in matched and role not in explicit else []
        others = [name for name in others if is_text(schema.field(name).type) and role not in ("text", "messages")]
        if others:
            lines.append(
                f"{role} is column {matched[role]!r}; {listed([repr(name) for name in others])} may be it too: "
                f"--columns {role}={others[0]} takes that one"
            )
    if shape == "text":
        answers = _all_columns(schema, tuple(dict.fromkeys(name for _, names in PAIRS for name in names)), used)
        texts = [name for name in answers if is_text(schema.field(name).type)]
        if texts:
            lines.append(
                f"column {matched['text']!r} is all that a model reads; if {texts[0]!r} is what it is to answer, pass "
                f"--columns prompt={matched['text']},completion={texts[0]}"
            )
        return lines
    for usual, reason in UNREAD:
        if usual[0] == "reasoning_content" and shape == "messages":
            continue  # reasoning beside whole conversations is part of them, or about them
        unread = (name for name in _all_columns(schema, usual, used) if not pa.types.is_null(schema.field(name).type))
        lines += [f"column {name!r} {reason}" for name in unread]
    for role, usual in SURROUNDING_NAMES.items():
        if role in matched or role in explicit:
            continue
        for name in _all_columns(schema, usual, used):
            kind = schema.field(name).type
            if not _can_be(role, kind) and not pa.types.is_null(kind):
                lines.append(f"column {name!r} holds {type_name(kind)}, which is not read as {role}: no model sees it")
    return lines


def _optional(schema: pa.Schema, explicit: Mapping[str, str], matched: Mapping[str, str]) -> dict[str, str]:
    """{role: column} of id, source and final answer. Raises InputError for an explicit one of a wrong type."""
    columns = {}
    for role, names in OPTIONAL.items():
        name = explicit[role] or None if role in explicit else _column(schema, names)
        if role != "id" and name not in (explicit.get(role), "final_answer") and name in matched.values():
            continue  # an `answer` that is already the completion is a worked answer, a `source` may be the prompt
        if name is None:
            continue
        kind = schema.field(name).type
        if is_text(kind) or pa.types.is_integer(kind) or (role != "id" and _is_written(kind)):
            columns[role] = name
        elif role in explicit:
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
    """Message for columns that match no shape, or not the requested one."""
    names = listed(schema.names)
    if shape is None:
        return (
            f"columns {names} match no known shape ({', '.join(SHAPES)}); name them, e.g. "
            "--columns prompt=COLUMN,completion=COLUMN"
        )
    roles = ",".join(f"{role}=COLUMN" for role in REQUIRED[shape])
    return (
        f"columns {names} do not have what shape {shape} needs; name them with --columns {roles}, or leave out --shape"
    )


# --- forms of messages ---


def message_keys(columns: Mapping[str, str]) -> MessageKeys:
    """Keys and roles of messages from {role: column}: `role` and `content` name keys, `role.NAME` maps NAME."""
    roles = {name[len(ROLE_PREFIX) :]: target for name, target in columns.items() if name.startswith(ROLE_PREFIX)}
    if not roles and "role" not in columns and "content" not in columns:
        return USUAL
    return MessageKeys(columns.get("role"), columns.get("content"), roles)


def is_column_role(role: str) -> bool:
    """Whether a role names a column, and not a key or a role of messages."""
    return role not in ("role", "content") and not role.startswith(ROLE_PREFIX)


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds strings; an all-null column counts, since its rows are reported instead."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind in (pa.string_view(), pa.null())


def may_hold_conversations(table: pa.Table) -> bool:
    """Whether a text column may hold JSON, judged by 64 cells, or there are lists of texts or of fixed size."""
    for name in table.column_names:
        column = table[name].slice(0, 64)
        if is_list(column.type) and is_text(column.type.value_type):
            return True
        if pa.types.is_fixed_size_list(column.type):
            return True
        if is_text(column.type):
            cells = column.cast(pa.large_string()).cast(pa.large_binary()).to_pylist()
            if next((cell for cell in cells if cell), b"").lstrip()[:1] == b"[":
                return True
    return False


def may_hold_bare_turns(table: pa.Table, roles: Mapping[str, str]) -> bool:
    """Whether a column may be one that `curate.data.plain_turns` converts, by names and types.

    These are lists of texts, prompts that are lists, and texts under a name of conversations.
    """
    usual = {name for names, _ in PAIRS for name in names} | {"prompt"}
    prompts = {roles["prompt"]} if "prompt" in roles else usual
    names = {roles.get("messages"), *REQUIRED["messages"]["messages"], *CONVERSATIONS}
    return any(
        (is_list(field.type) and (field.name in prompts or is_text(field.type.value_type)))
        or (field.name in names and is_text(field.type))
        for field in table.schema
    )


def is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def is_messages(kind: pa.DataType, keys: MessageKeys = USUAL) -> bool:
    """Whether a column of this type holds conversations; lists of JSON count, their rows are checked later."""
    if not is_list(kind):
        return False
    item = kind.value_type
    return is_json(item) or (pa.types.is_struct(item) and (_keys(item, keys) is not None or _is_exchange(item)))


def holds_turns(kind: pa.DataType) -> bool:
    """Whether a column of this type can be a history: messages, or pairs of a question and its answer."""
    if is_messages(kind) or is_text(kind) or holds_json(kind):
        return True
    item = kind.value_type if is_list(kind) else pa.int8()
    return is_text(item) or (is_list(item) and is_text(item.value_type))


def _keys(kind: pa.StructType, keys: MessageKeys) -> tuple[str, str] | None:
    """Names of the role and the content in a struct of this type."""
    fields = {field.name: field.type for field in kind}
    role_keys = ROLE_KEYS if keys.role is None else (keys.role,)
    content_keys = CONTENT_KEYS if keys.content is None else (keys.content,)
    role = next((key for key in role_keys if key in fields and _speaks(fields[key])), None)
    content = next((key for key in content_keys if key in fields and _speaks(fields[key], nested=True)), None)
    return None if role is None or content is None else (role, content)


def _speaks(kind: pa.DataType, nested: bool = False) -> bool:
    return is_text(kind) or is_json(kind) or (nested and (is_list(kind) or pa.types.is_struct(kind)))


def _is_exchange(kind: pa.StructType) -> bool:
    texts = {field.name for field in kind if is_text(field.type)}
    return not texts.isdisjoint(ASKS) and not texts.isdisjoint(ANSWERS)


def plain_keys(kind: pa.DataType, keys: MessageKeys) -> tuple[str, str] | None:
    """Keys of role and content if messages have nothing else to read; None if each must be parsed by itself."""
    own_keys = _keys(kind, keys) if pa.types.is_struct(kind) else None
    if own_keys is None or not all(is_text(kind.field(key).type) for key in own_keys):
        return None
    names = {field.name for field in kind if not pa.types.is_null(field.type)}
    return None if names & (FURTHER_KEYS | {*ROLE_KEYS, *CONTENT_KEYS} - set(own_keys)) else own_keys
