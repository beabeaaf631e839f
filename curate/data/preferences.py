"""Recognize preference pairs and labeled completions."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.data.column_names import LABEL_NAMES, PAIR_NAMES, PAIR_ROLES, PAIR_SHAPES
from curate.data.columns import is_messages, is_text
from curate.data.json_columns import described, opened
from curate.data.json_values import is_json
from curate.data.shared_prompts import (
    as_conversations,
    as_messages,
    divided_texts,
    part_of_messages,
    shared_messages,
)
from curate.data.wording import listed, type_name
from curate.errors import InputError

PREFERENCE, KTO = PAIR_SHAPES
_PROMPTS = ("prompt", "instruction", "question", "query", "problem", "input")
_NO_PROMPTS = ("id", "source", "model", "dataset", "language", "lang", "category", "subset", "split", "type", "hash")
_CONVERSATIONS = ("messages", "conversations", "conversation")


@dataclass(frozen=True)
class Pairs:
    """Preference pairs of a table.

    chosen, rejected: columns of the input. roles: {role: column} of prompt and chosen answer, in the table or in
    `made`. made: derived columns, empty if prompt and answers can be read from the table directly. answer: the column
    of the rejected answer as it is read, in the table or in `made`.
    """

    chosen: str
    rejected: str
    answer: str
    roles: dict[str, str]
    made: dict[str, pa.ChunkedArray] = field(default_factory=dict)

    @property
    def columns(self) -> dict[str, str]:
        """Roles of a pair in addition to `roles`."""
        return {"chosen": self.chosen, "rejected": self.rejected}

    @property
    def read(self) -> tuple[str, str, str]:
        """The input columns of both answers, and the column that rejected answers are read from."""
        return self.chosen, self.rejected, self.answer

    @property
    def learned(self) -> str:
        """The column that chosen answers are read from."""
        return self.roles["output" if "output" in self.roles else "completion"]

    def added_to(self, table: pa.Table) -> pa.Table:
        """The table with the derived columns appended."""
        for name, column in self.made.items():
            table = table.append_column(name, column)
        return table

    def taken_from(self, table: pa.Table) -> tuple[pa.Table, pa.Table | None]:
        """Split a table into the input's columns and the derived ones, None if there are none."""
        made = list(self.made)
        return (table.drop_columns(made), table.select(made)) if made else (table, None)

    def notes(self, shape: str, roles: Mapping[str, str]) -> list[str]:
        """Notes on how the pairs were read: shape, roles, and the use of the rejected answer."""
        displayed = {role: name for role, name in roles.items() if role not in ("completion", "output")}
        if displayed.get("prompt") in self.made and "(prompt)" in displayed["prompt"]:
            displayed["prompt"] = "what both begin with"
        assigned = ", ".join(f"{role}={name}" for role, name in displayed.items())
        return [
            f"shape preference ({shape}): {assigned}",
            f"column {self.chosen!r} is learned and scored; {self.rejected!r} is kept beside it, and the scorer "
            "PreferenceMargin compares the two",
        ]


def without_pair_roles(roles: Mapping[str, str]) -> dict[str, str]:
    """The roles without chosen, rejected and label."""
    return {role: name for role, name in roles.items() if role not in PAIR_ROLES}


def find_pairs(table: pa.Table, roles: Mapping[str, str], shape: str | None) -> Pairs | None:
    """The preference pairs of a table; None if it has none, or the caller asks for something else.

    A pair is read as its prompt and its chosen answer, with the rejected one in another column. If it has no prompt
    column (both answers are whole conversations or texts), or answers are single messages, prompt and answers are
    derived here as additional columns, which results do not contain: the columns of the input are unchanged.

    roles: {role: column} that the caller assigned. shape: the shape that the caller asked for. Raises InputError if the
    caller asks for pairs and there are none.
    """
    if "" in (roles.get("chosen"), roles.get("rejected")):
        return None
    requested = shape == PREFERENCE or "chosen" in roles or "rejected" in roles
    learned = {"completion", "output", "messages", "text"} & roles.keys()
    if not requested and (shape is not None or learned):
        return None
    names = _pair_of(table.column_names, roles)
    if names is None or not _fit(described(table.select(names)), names):
        if requested:
            raise InputError(_no_pairs(table.schema, names))
        return None
    chosen, rejected = names
    explicit = without_pair_roles(roles)
    if is_text(described(table.select([chosen])).field(chosen).type):
        return _of_texts(table, chosen, rejected, explicit)
    return _of_messages(table, chosen, rejected, explicit)


def as_learned(
    table: pa.Table, roles: Mapping[str, str], shape: str | None
) -> tuple[pa.Table, dict[str, str], str | None]:
    """Table, roles and shape for `curate.data.columns.recognize`: for pairs, those of prompt and chosen answer."""
    pairs = find_pairs(table, roles, shape)
    if pairs is not None:
        return pairs.added_to(table), pairs.roles, None
    return table, without_pair_roles(roles), None if shape in PAIR_SHAPES else shape


def label_column(schema: pa.Schema, roles: Mapping[str, str], shape: str | None) -> str | None:
    """The boolean column that marks desirable completions; None if there is none, or another shape is asked for."""
    requested = roles.get("label")
    if requested == "" or (requested is None and shape not in (None, KTO)):
        return None
    names = [requested] if requested else [name for name in LABEL_NAMES if name in schema.names]
    label = next((name for name in names if pa.types.is_boolean(schema.field(name).type)), None)
    if label is None and (requested or shape == KTO):
        location = (
            f"column {requested!r} holds {type_name(schema.field(requested).type)}"
            if requested
            else "there is no column"
        )
        raise InputError(
            f"shape kto takes a column of true and false that says which completions are desirable, but {location}; "
            "name one with --columns label=COLUMN"
        )
    return label


def labels_note(column: pa.ChunkedArray, name: str) -> str:
    """Note on labeled completions: all of them are scored."""
    desirable = int(pc.sum(column).as_py() or 0)
    undesirable = len(column) - desirable
    if not undesirable:
        return f"kind kto: all {desirable:,} completions have {name}=true"
    return (
        f"kind kto: completions of both labels are scored and learned, {desirable:,} with {name}=true and "
        f"{undesirable:,} without; --where {name}=true keeps those that are desirable"
    )


def numbers_note(table: pa.Table, roles: Mapping[str, str]) -> list[str]:
    """A note if there is a column of labels 0 and 1, or true and false as text, which may be KTO data."""
    for name in LABEL_NAMES if "label" not in roles else ():
        if name in table.column_names and is_text(table.schema.field(name).type):
            texts = pc.unique(table[name].cast(pa.large_string()).drop_null()).to_pylist()
            if len(texts) == 2 and {text.strip().casefold() for text in texts} == {"true", "false"}:
                desirable = next(text for text in texts if text.strip().casefold() == "true")
                return [
                    f"column {name!r} holds {listed(sorted(map(repr, texts)))} as text, and all rows are scored and "
                    f"learned; where it says whether a completion is desirable, --where {name}={desirable} keeps those "
                    "that are"
                ]
        kind = table.schema.field(name).type if name in table.column_names else pa.null()
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            column = table[name]
            if {*pc.unique(column.drop_null()).to_pylist()} == {0, 1}:
                desirable = pc.sum(pc.equal(column, 1)).as_py()
                return [
                    f"column {name!r} holds 1 in {desirable:,} rows and 0 in others, and all are scored and learned; "
                    f"where it says whether a completion is desirable, --where {name}=1 keeps those that are"
                ]
    return []


def unpaired(pairs: Pairs, table: pa.Table) -> dict[int, str]:
    """{row: reason} of rows without a rejected answer; reasons continue "column 'chosen'"."""
    column = table[pairs.answer]
    missing = pc.is_null(column).to_numpy()  # (n,)
    if is_messages(column.type):
        missing |= pc.fill_null(pc.equal(pc.list_value_length(column), 0), True).to_numpy()
    reason = f"has no rejected answer beside it in column {pairs.rejected!r}"
    return dict.fromkeys(np.flatnonzero(missing).tolist(), reason)


def _pair_of(names: list[str], roles: Mapping[str, str]) -> tuple[str, str] | None:
    lowered = {name.casefold(): name for name in reversed(names)}
    for chosen, rejected in PAIR_NAMES:
        pair = roles.get("chosen") or lowered.get(chosen), roles.get("rejected") or lowered.get(rejected)
        if pair[0] in names and pair[1] in names:
            return str(pair[0]), str(pair[1])
    return None


def _fit(schema: pa.Schema, names: tuple[str, str]) -> bool:
    """Whether both columns hold text, or both hold conversations or single messages."""
    first, second = (schema.field(name).type for name in names)
    return (is_text(first) and is_text(second)) or (_are_messages(first) and _are_messages(second))


def _are_messages(kind: pa.DataType) -> bool:
    """Whether a column of this type holds conversations, or one message per cell."""
    single = is_json(kind) or (pa.types.is_struct(kind) and is_messages(pa.list_(kind)))
    return bool(single or is_messages(kind))


def _no_pairs(schema: pa.Schema, names: tuple[str, str] | None) -> str:
    if names is None:
        return (
            "there are no columns of chosen and rejected answers; name them with --columns "
            "chosen=COLUMN,rejected=COLUMN"
        )
    kinds = " and ".join(f"{name!r} {type_name(schema.field(name).type)}" for name in names)
    return f"chosen and rejected answers must both be texts or messages, but columns hold {kinds}; convert them"


# --- texts -------------------------------------------------------------------------------------------------------


def _of_texts(table: pa.Table, chosen: str, rejected: str, explicit: dict[str, str]) -> Pairs:
    """Pairs whose answers are texts, after a prompt of text or messages, or without one."""
    schema = described(table)
    prompt = explicit.get("prompt") or explicit.get("instruction") or _first(schema, _PROMPTS, _is_asked)
    prompt = prompt or _first(schema, _CONVERSATIONS, is_messages)
    if prompt is None:
        _check_no_prompt(schema)
        return _texts_without_prompt(table, chosen, rejected, explicit)
    if is_messages(schema.field(prompt).type):
        return _texts_behind_messages(table, chosen, rejected, {**explicit, "prompt": prompt})
    if "prompt" not in explicit and ("instruction" in explicit or prompt == _name(schema, "instruction")):
        return Pairs(chosen, rejected, rejected, {**explicit, "instruction": prompt, "output": chosen})
    return Pairs(chosen, rejected, rejected, {**explicit, "prompt": prompt, "completion": chosen})


def _is_asked(kind: pa.DataType) -> bool:
    return is_text(kind) or is_messages(kind)


def _check_no_prompt(schema: pa.Schema) -> None:
    """Raise InputError if a column is called a prompt but holds neither text nor messages."""
    name = _first(schema, _PROMPTS[:-1], lambda kind: True)  # "input" may be anything
    if name is not None:
        raise InputError(
            f"column {name!r} holds {type_name(schema.field(name).type)}, not a prompt of text or messages; convert "
            "it, name another column with --columns prompt=COLUMN, or rename it where the answers contain their prompts"
        )


def _texts_behind_messages(table: pa.Table, chosen: str, rejected: str, explicit: dict[str, str]) -> Pairs:
    made = {f"{name} (message)": as_messages(table[name], "assistant") for name in (chosen, rejected)}
    answer, rejected_answer = made
    return Pairs(chosen, rejected, rejected_answer, {**explicit, "completion": answer}, made)


def _texts_without_prompt(table: pa.Table, chosen: str, rejected: str, explicit: dict[str, str]) -> Pairs:
    """Pairs of texts whose common beginning is the prompt."""
    names = [f"{chosen} (prompt)", f"{chosen} (answer)", f"{rejected} (answer)"]
    chunks: list[list[pa.Array]] = [[], [], []]
    for batch in table.select([chosen, rejected]).to_batches():
        rows = [divided_texts(*row) for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)]
        for parts, cells in zip(chunks, zip(*rows, strict=True), strict=True):
            parts.append(pa.array(cells, pa.large_string()))
    _check_shared(table, chunks[0], (chosen, rejected))
    made = {name: pa.chunked_array(parts, pa.large_string()) for name, parts in zip(names, chunks, strict=True)}
    return Pairs(chosen, rejected, names[2], {**explicit, "prompt": names[0], "completion": names[1]}, made)


def _check_shared(table: pa.Table, prompts: list[pa.Array], answers: tuple[str, str]) -> None:
    """Raise InputError if most answers have no beginning in common and another column may be their prompt."""
    empty = sum(int(pc.sum(pc.equal(array, "")).as_py() or 0) for array in prompts)
    texts = [field.name for field in described(table) if is_text(field.type) and field.name not in answers]
    likely = [name for name in texts if not name.casefold().endswith(_NO_PROMPTS)]
    likely = [name for name in likely if table[name].null_count < len(table)]
    if 2 * empty > len(table) and likely:
        raise InputError(
            f"no column is known as the prompt of {answers[0]!r} and {answers[1]!r}, and they have no beginning in "
            f"common; name it, e.g. --columns {shlex.quote(f'prompt={likely[0]}')}"
        )


# --- messages ----------------------------------------------------------------------------------------------------


def _of_messages(table: pa.Table, chosen: str, rejected: str, explicit: dict[str, str]) -> Pairs:
    """Pairs whose answers are messages or conversations; a shared beginning becomes the prompt."""
    schema = described(table)
    answers = [as_conversations(table[name]) for name in (chosen, rejected)]
    usual = [name for name in ("prompt", *_CONVERSATIONS) if name not in (chosen, rejected)]
    prompt = explicit.get("prompt") or _first(schema, usual, is_messages)
    prompt = prompt or _first(schema, _PROMPTS, is_text)
    batches = pa.table(answers, names=["chosen", "rejected"]).to_batches()
    shared = [shared_messages(*batch.columns) for batch in batches]  # per batch (rows,) number of shared messages
    if prompt is None or all((lengths > 0).all() for lengths in shared):
        names = [f"{chosen} (prompt)", f"{chosen} (answer)", f"{rejected} (answer)"]
        pieces: list[list[pa.Array]] = [[], [], []]
        for batch, lengths in zip(batches, shared, strict=True):
            first, second = batch.columns
            pieces[0].append(part_of_messages(first, lengths, begin=True))
            pieces[1].append(part_of_messages(first, lengths, begin=False))
            pieces[2].append(part_of_messages(second, lengths, begin=False))
        made = {name: pa.chunked_array(parts) for name, parts in zip(names, pieces, strict=True)}
        return Pairs(chosen, rejected, names[2], {**explicit, "prompt": names[0], "completion": names[1]}, made)
    made, names = {}, [chosen, rejected]
    if any(answer.type != table[name].type for answer, name in zip(answers, names, strict=True)):
        names = [f"{name} (message)" for name in names]
        made = dict(zip(names, answers, strict=True))
    if is_text(schema.field(prompt).type):
        made[f"{prompt} (message)"] = as_messages(opened(table[prompt])[0], "user")
        prompt = f"{prompt} (message)"
    return Pairs(chosen, rejected, names[1], {**explicit, "prompt": prompt, "completion": names[0]}, made)


def _name(schema: pa.Schema, name: str) -> str | None:
    return next((column for column in schema.names if column.casefold() == name), None)


def _first(schema: pa.Schema, names: Iterable[str], fits: Any) -> str | None:
    """The first of these columns whose type fits."""
    columns = (_name(schema, name) for name in names)
    return next((name for name in columns if name is not None and fits(schema.field(name).type)), None)
