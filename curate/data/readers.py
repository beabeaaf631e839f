"""Read datasets as Examples: files, folders, the hub and objects in memory."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from curate.console.presentation import Facts, Presented
from curate.data.column_names import OPTIONAL_CONTENT, PAIR_SHAPES, RESERVED
from curate.data.columns import (
    content_roles,
    is_column_role,
    may_be_pairs,
    may_hold_bare_turns,
    may_hold_conversations,
    message_keys,
    parse_columns,
    parse_roles,
    recognize,
    remarks,
    spoken_roles,
)
from curate.data.examples import Examples, example_ids
from curate.data.formats import JSON
from curate.data.invalid_rows import without_bad_rows
from curate.data.json_as_text import with_conversations_opened
from curate.data.json_columns import described, with_json_opened
from curate.data.json_values import holds_json
from curate.data.messages import NO_MESSAGES, Survey, survey
from curate.data.plain_turns import with_turns_made
from curate.data.preferences import (
    Pairs,
    find_pairs,
    label_column,
    labels_note,
    numbers_note,
    unpaired,
    without_pair_roles,
)
from curate.data.question_checks import CHOICES, check_questions
from curate.data.row_filter import matching_rows, warn_of_splits
from curate.data.row_store import rows_of
from curate.data.sources import Kind, Opened, TextOptions, format_of, of_other_columns, open_data
from curate.data.surroundings import checked_surroundings, overruled
from curate.data.taken_names import check_no_copies, holds_ids, other_names, renamed_columns, renaming_note, roles_here
from curate.data.unserved import check_answered, is_tree, unserved, wrapped
from curate.data.written_form import WriteAs
from curate.errors import ExternalError, InputError
from curate.seeds import derive_seed
from curate.storage.places import expanded, without_secrets
from curate.types import IntArray

# Columns of conversation trees; whether data is one is decided by types.
_TREES = frozenset(["replies", "children", "comments", "parent_id", "parent_message_id", "parent", "mapping"])
Nested = Literal["json", "text"]

# Options as messages name them, for arguments of `read`.
_OPTION = re.compile(r"--(columns|role|shape|where|split|config|limit|on-bad-row|encoding|delimiter)\b")


@dataclass(frozen=True, repr=False)
class Loaded(Presented):
    """Result of `read`.

    examples: the n rows to curate. rejected: one record {row, example_id, stage, reason, content} per unusable row that
    was left out. notes: lines to show to the user. description: what was read. rows_read: rows before any filter.
    rows: (n,) int64 position of each example in the input as read. kind, original, split: type of the input, the object
    itself (None for files and the hub) and the split that was read, so that the result can be returned in the same
    type. on_bad_row: policy for rows that turn out unusable later. as_read: the original result of `read`, if such
    rows were dropped. nested: whether JSON columns are written as JSON or as text. as_came: {name: (rows_read,)
    original cells} of text columns with conversations, which are lists of messages in the examples. card: license and
    similar metadata of the input, see `curate.data.repositories.carried_over`. write_as: the form of the rows in a
    folder, see `curate.data.trainer_forms`. renamed: {column of the input: its name in the examples} for reserved
    names. place, arguments: absolute path or id of the data (None for an object in memory) and the other arguments of
    `read` that were given, with which it can be read again.
    """

    examples: Examples
    rejected: list[dict[str, Any]]
    notes: list[str]
    description: str
    rows_read: int
    rows: IntArray
    kind: Kind
    original: Any = None
    split: str | None = None
    on_bad_row: Literal["error", "drop"] = "error"
    as_read: Loaded | None = None
    nested: Nested = "json"
    as_came: Mapping[str, pa.ChunkedArray] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)
    write_as: WriteAs = "input"
    renamed: Mapping[str, str] = field(default_factory=dict)
    place: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def summary(self) -> Facts:
        """What was read, in a few lines, as printed and in notebooks."""
        left_out = (("left out", f"{len(self.rejected):,} rows that cannot be used"),) if self.rejected else ()
        *facts, _ = self.examples.facts()
        return Facts(
            f"Loaded: {len(self.examples):,} of {self.rows_read:,} rows of {self.description}",
            (*facts, *left_out, ("see", ".examples .rejected .notes")),
        )


def read(
    data: Any,
    *,
    columns: Mapping[str, str] | str | None = None,
    role: Mapping[str, str] | Sequence[str] | str | None = None,
    shape: str | None = None,
    where: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    on_bad_row: Literal["error", "drop"] = "error",
    split: str | None = None,
    config: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    nested: Nested = "json",
    allow_curated: bool = False,
) -> Loaded:
    """Read a dataset as Examples.

    data: path of a Parquet, JSON Lines, JSON, CSV, Arrow or text file, or of a folder of them (also one written by
        `datasets.save_to_disk` or by curation), a glob of such files, a Hugging Face dataset id, a pandas.DataFrame,
        pyarrow.Table, datasets.Dataset or datasets.DatasetDict (one split is read: train, or `split`), anything with
        `__arrow_c_stream__`, a list of dicts or a dict of lists. Values are read exactly: a column that no type holds,
        or that `load_dataset` would change, is text or JSON, and a note says so.
    columns: {role: column}, or the same as text; "" disables a role. shape: see `curate.data.columns.recognize`, or
        preference or kto, see `curate.data.preferences`. For messages with unusual keys, the roles `role` and `content`
        name the keys.
    role: {speaker's name in messages: role}, or the same as text: `bot=assistant`. Roles are user, assistant, system,
        developer, tool and function_call (messages that are tool calls).
    where: conditions on columns, `split=train,level!=5`; all must hold. Values are compared as text; a null cell
        satisfies every != and no =.
    limit: sample this many usable rows without replacement, seeded by `seed`, in the input's order.
    on_bad_row: whether an unusable row is an error, or is left out and recorded.
    split, config: of a hub dataset or a folder, as `load_dataset` resolves them; split also of a DatasetDict. Defaults:
        the default config, else the first; train, the only split, or the first whose name begins with train.
    encoding: Python's name for the encoding of JSON, CSV and text files; None = by the byte order mark, else UTF-8.
    delimiter: the character between the cells of CSV files; None = detected.
    nested: write JSON columns as "json" (arrow.json, supported by `datasets` since 4.7) or as JSON "text". Applies to
        folders, Arrow tables and datasets; frames, lists and dicts keep their own values.
    allow_curated: accept the columns that curation adds, with example_id as the id. Otherwise columns with
        reserved names are kept as input_NAME, and curated data is refused while it has copies.
    Raises InputError for unusable input and ExternalError if the hub cannot be reached. Rows are numbered from 0 in the
    input as read.
    """
    _check_choices(on_bad_row, limit, nested)
    options = {"columns": columns, "role": role, "shape": shape, "where": where, "limit": limit, "split": split}
    options |= {"config": config, "encoding": encoding, "delimiter": delimiter}
    arguments = {name: value for name, value in options.items() if value not in (None, ())}
    arguments |= {"on_bad_row": on_bad_row} if on_bad_row != "error" else {}
    roles = parse_columns(columns) if isinstance(columns, str) else dict(columns or {})
    roles |= _speakers(role)
    source = open_data(data, roles, split, config, TextOptions(encoding, delimiter))
    _check_columns(source.table, source.description)
    names = source.table.column_names
    roles = roles_here(roles, names) if roles else roles
    names_reserved = not {*RESERVED}.isdisjoint(names)
    named = "id" in roles or (allow_curated and "example_id" in names)
    if named or (names_reserved and holds_ids(source.table)):
        roles.setdefault("id", "example_id")
    table, rows = _selected(source, where)
    if names_reserved and not allow_curated:
        check_no_copies(table, source.description, where)
    interpreted, plain = _interpreted(table, roles, shape, source)
    if not plain:
        interpreted = _with_json(interpreted, rows, source.column_notes)
    try:
        usable, rows, rejected = _usable(interpreted, rows, plain, on_bad_row)
    except InputError as error:
        raise InputError(f"{error}{of_other_columns(source.files)}") from error
    notes = [*([source.note] if source.note else []), *usable.notes, *_checked_questions(usable, roles)]
    examples, id_notes = _identified(usable, named=named)
    if limit is not None and limit < len(examples):
        id_notes.append(f"limit: a sample of {limit:,} of {len(examples):,} rows")
        chosen = _sample(len(examples), limit, seed)
        examples, rows = examples.take(chosen), rows[chosen]
    renamed = other_names(names) if names_reserved and not allow_curated else {}
    if renamed:
        examples = renamed_columns(examples, renamed)
        id_notes.append(renaming_note(renamed))
    source_facts = source.description, source.table.num_rows, rows, source.kind, source.original, source.split
    as_came = {renamed.get(name, name): source.table[name] for name in usable.came}
    extra: dict[str, Any] = {"on_bad_row": on_bad_row, "nested": nested, "card": source.card, "renamed": renamed}
    extra |= {"place": _place(data), "arguments": arguments}
    return Loaded(examples, rejected, [*notes, *id_notes], *source_facts, as_came=as_came, **extra)


def _place(data: Any) -> str | None:
    """Absolute path, URL or id of the data, to read it again later; None for an object in memory."""
    if not isinstance(data, str | Path):
        return None
    path = expanded(data)
    local = path.exists() or ("://" not in str(data) and any(mark in str(data) for mark in "*?["))
    return str(path.absolute()) if local else without_secrets(str(data))


@dataclass(frozen=True)
class _Interpreted:
    """A table, its shape and the roles of its columns.

    pairs: how its preference pairs are read, if any. odd: {column: {row: fault}}. notes: lines to show to the user.
    came: {name: original column} of text columns that were converted to conversations.
    """

    table: pa.Table
    shape: str
    columns: dict[str, str]
    pairs: Pairs | None
    odd: dict[str, dict[int, str]]
    notes: list[str]
    came: Mapping[str, pa.ChunkedArray]

    @property
    def content(self) -> set[str]:
        """Columns whose cells a model reads."""
        roles = content_roles(self.shape, self.columns)
        return {*(self.columns[role] for role in roles), *(self.pairs.read if self.pairs else ())}


def _selected(source: Opened, where: str | None) -> tuple[pa.Table, IntArray]:
    """The rows that satisfy all conditions, and (n,) their positions in the input."""
    table, rows = source.table, np.arange(source.table.num_rows)
    if where is not None:
        rows = matching_rows(table, where, source.description)
        table = rows_of(table, rows)
    if "split" in table.column_names:
        warn_of_splits(table, where)
    return table, rows


def _interpreted(
    table: pa.Table, roles: Mapping[str, str], shape: str | None, source: Opened
) -> tuple[_Interpreted, bool]:
    """Recognize shape, roles and pairs; also returns whether the table is plain, see `curate.data.sources.Opened`."""
    table, originals = with_conversations_opened(table) if may_hold_conversations(table) else (table, {})
    table, converted, turn_lines = (
        with_turns_made(table, roles) if may_hold_bare_turns(table, roles) else (table, {}, [])
    )
    originals |= converted
    plain = source.plain and not originals
    table, pairs, (shape, columns), lines = _served(table, roles, shape, source, plain)
    columns, odd, lines = _surrounded(table, columns, roles, lines)
    lines += turn_lines if converted.keys() & set(columns.values()) else []
    interpreted = _Interpreted(table, shape, columns, pairs, odd, lines, originals)
    if originals:
        table, originals = _only_content(table, originals, interpreted.content)
        interpreted = replace(interpreted, table=table, came=originals)
    if plain:
        interpreted = replace(interpreted, notes=[*lines, *(line for _, line in source.column_notes)])
    return interpreted, plain


def _with_json(interpreted: _Interpreted, rows: IntArray, column_notes: Sequence[tuple[str, str]]) -> _Interpreted:
    """Convert the JSON columns that a model reads. column_notes: those so far, as (column, note)."""
    columns = interpreted.columns
    opened = interpreted.content - {columns.get("history"), columns.get("tools")}
    table, strange, column_notes = with_json_opened(interpreted.table, rows, sorted(opened), column_notes)
    notes = [*interpreted.notes, *(line for _, line in column_notes)]
    return replace(interpreted, table=table, odd=interpreted.odd | strange, notes=notes)


def _usable(
    interpreted: _Interpreted, rows: IntArray, plain: bool, on_bad_row: Literal["error", "drop"]
) -> tuple[_Interpreted, IntArray, list[dict[str, Any]]]:
    """Remove or report unusable rows; returns the rest, its positions in the input, and records of dropped rows."""
    table, shape, columns, pairs = interpreted.table, interpreted.shape, interpreted.columns, interpreted.pairs
    odd, rejected = dict(interpreted.odd), list[dict[str, Any]]()
    notes = [*interpreted.notes, *_check_conversations(table, shape, columns, odd)]
    if pairs and (alone := unpaired(pairs, table)):
        odd[pairs.learned] = alone | odd.get(pairs.learned, {})
    if pairs and (prompt := pairs.roles.get("prompt")) in pairs.made and prompt in odd:
        odd[prompt] = {
            row: "is empty: the two answers have no first message in common" if why == NO_MESSAGES else why
            for row, why in odd[prompt].items()
        }
    if not (plain and _all_usable(table, shape, columns, odd)):
        table, rows, rejected = without_bad_rows(table, rows, shape, columns, odd, on_bad_row)
    return replace(interpreted, table=table, odd=odd, notes=notes), rows, rejected


def _identified(interpreted: _Interpreted, named: bool) -> tuple[Examples, list[str]]:
    """The rows with ids as Examples, and notes. named: whether the caller chose the id column."""
    table, shape, columns, pairs = interpreted.table, interpreted.shape, interpreted.columns, interpreted.pairs
    notes: list[str] = []
    if shape == "messages" and "system" in columns:
        name = columns["messages" if "messages" in columns else "prompt"]
        notes += overruled(table, name, columns["system"], message_keys(columns))
    ids, note = example_ids(table, shape, columns, named=named)
    notes += [note] if note else []
    table, made = pairs.taken_from(table) if pairs else (table, None)
    return Examples(table, ids, shape, columns, made), notes


def read_for(owner: str, role: str, data: Any, /, **reading: Any) -> Loaded:
    """Like `read`, for the dataset in the field `role` of the component `owner`.

    Messages refer to the fields of the owner instead of command-line options, which are about the input.
    """
    try:
        return read(data, **reading)
    except (InputError, ExternalError) as error:
        text = _OPTION.sub(lambda match: f"{owner}." + match[1].replace("-", "_"), str(error))
        raise type(error)(f"{owner} {role} {name_of(data)}: {text}") from error


def with_conversations(table: pa.Table) -> pa.Table:
    """The table with text columns of JSON conversations converted to lists of messages."""
    table, came = with_conversations_opened(table)
    return with_json_opened(table, np.arange(len(table)), sorted(came), [])[0] if came else table


def _check_choices(on_bad_row: str, limit: int | None, nested: str) -> None:
    if on_bad_row not in ("error", "drop"):
        raise InputError(f"on_bad_row is {on_bad_row!r}; choose error or drop")
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; give a number of rows of at least 1")
    if nested not in ("json", "text"):
        raise InputError(f"nested is {nested!r}; choose json or text")


def _sample(n: int, limit: int, seed: int) -> IntArray:
    """(limit,) ascending positions, drawn without replacement."""
    chosen = np.random.default_rng(derive_seed(seed, "limit")).choice(n, limit, replace=False)
    return np.sort(chosen).astype(np.int64)


def name_of(data: Any) -> str:
    """What to call a dataset in a message: its path or id, or the class of an object in memory."""
    return without_secrets(str(data)) if isinstance(data, str | Path) else type(data).__qualname__


_Understood = tuple[pa.Table, Pairs | None, tuple[str, dict[str, str]], list[str]]


def _served(table: pa.Table, roles: Mapping[str, str], shape: str | None, source: Opened, plain: bool) -> _Understood:
    """Like `_understood`, with a specific message for unsupported kinds of data."""
    explicit = bool(roles) or shape is not None
    if not explicit and not _TREES.isdisjoint(table.column_names) and is_tree(table.schema):
        raise InputError(f"{source.description}: {unserved(table.schema)}")
    try:
        return _understood(table, roles, shape, plain)
    except InputError as error:
        path = Path(source.description)
        why = None if explicit else unserved(table.schema)
        if why is None and source.kind == "file" and path.is_file() and format_of(path) == JSON:
            why = wrapped(table, path)
        if why is None:
            raise
        name = path.name if source.kind == "file" else source.description
        raise InputError(f"{name}: {why}") from error


def _understood(table: pa.Table, roles: Mapping[str, str], shape: str | None, plain: bool) -> _Understood:
    """The table with derived columns of pairs, the pairs, (shape, roles), and notes on how rows are read."""
    if not may_be_pairs(table.column_names, roles, shape):
        shape, columns = recognize(table.schema, roles, shape) if plain else _recognized(table, roles, shape)
        lines = [_as_read(shape, columns), *remarks(table.schema if plain else described(table), shape, columns, roles)]
        return table, None, (shape, columns), lines
    pairs = find_pairs(table, roles, shape)
    label = None if pairs else label_column(table.schema, roles, shape)
    if pairs:
        table = pairs.added_to(table)
    learned = pairs.roles if pairs else without_pair_roles(roles)
    shape = None if shape in PAIR_SHAPES else shape
    shape, columns = recognize(table.schema, learned, shape) if plain else _recognized(table, learned, shape)
    if pairs:
        columns |= pairs.columns
        lines = pairs.notes(shape, columns)
    else:
        lines = [_as_read(shape, columns), *remarks(table.schema if plain else described(table), shape, columns, roles)]
    if label is not None and shape != "text":
        columns["label"] = label
        lines.append(labels_note(table[label], label))
    elif pairs is None and shape != "text":
        lines += numbers_note(table, roles)
    return table, pairs, (shape, columns), lines


def _as_read(shape: str, columns: Mapping[str, str]) -> str:
    return f"shape {shape}: {', '.join(f'{role}={name}' for role, name in columns.items())}"


def _speakers(role: Mapping[str, str] | Sequence[str] | str | None) -> dict[str, str]:
    """The argument `role` as entries of `columns`: {"role.NAME": role}."""
    if isinstance(role, Mapping):
        role = [f"{name}={target}" for name, target in role.items()]
    return parse_roles([role] if isinstance(role, str) else role or [])


def _recognized(table: pa.Table, roles: Mapping[str, str], shape: str | None) -> tuple[str, dict[str, str]]:
    """Like `recognize`; JSON counts as text or messages by its content, but an id or label cannot be JSON."""
    shape, columns = recognize(described(table), roles, shape)
    labels = [role for role in columns.keys() - {*content_roles(shape, columns)} if is_column_role(role)]
    for role in sorted(role for role in labels if holds_json(table.schema.field(columns[role]).type)):
        if role in roles:
            raise InputError(
                f"column {columns[role]!r} holds values of several kinds, so it cannot be {role}; make them one kind, "
                "or name another column"
            )
        del columns[role]
    return shape, columns


def _surrounded(
    table: pa.Table, columns: dict[str, str], roles: Mapping[str, str], lines: list[str]
) -> tuple[dict[str, str], dict[str, dict[int, str]], list[str]]:
    """{role: column} without invalid columns of history and tools, {column: {row: fault}}, and notes."""
    if "history" not in columns and "tools" not in columns:
        return columns, {}, lines
    checked, odd, remarked = checked_surroundings(table, columns, roles)
    first = lines[0]
    for role in columns.keys() - checked.keys():
        first = first.replace(f", {role}={columns[role]}", "")
    return checked, odd, [first, *lines[1:], *remarked]


def _check_conversations(
    table: pa.Table, shape: str, columns: Mapping[str, str], odd: dict[str, dict[int, str]]
) -> list[str]:
    """Add the faults of conversations to `odd`, {column: {row: fault}}; returns notes on them."""
    notes: list[str] = []
    for name, result in _surveys(table, shape, columns).items():
        if len(result.faults) == len(table):
            check_answered(name, result.faults, table.schema)
        odd[name] = odd.get(name, {}) | result.faults
        notes += result.notes(name)
    return notes


def _checked_questions(usable: _Interpreted, roles: Mapping[str, str]) -> list[str]:
    """What `check_questions` says, if there are choices or the first question and its answer hold one another."""
    table, shape = usable.table, usable.shape
    if shape in ("messages", "text"):
        return []
    first = [str(table[usable.columns[role]][0]).strip() for role in spoken_roles(shape, usable.columns)]
    choices = not CHOICES.isdisjoint(name.casefold() for name in table.column_names)
    one_in_other = any(question.endswith(first[-1]) or first[-1].startswith(question) for question in first[:-1])
    if not choices and not one_in_other:
        return []
    return check_questions(table, shape, usable.columns, roles)


def _only_content(
    table: pa.Table, came: Mapping[str, pa.ChunkedArray], content: set[str]
) -> tuple[pa.Table, dict[str, pa.ChunkedArray]]:
    """The table with converted columns restored unless they are content, and {name: original column} of the others."""
    for name in came.keys() - content:
        k = table.column_names.index(name)
        table = table.set_column(k, table.schema.field(k).with_type(came[name].type), came[name])
    return table, {name: column for name, column in came.items() if name in content}


def _surveys(table: pa.Table, shape: str, columns: Mapping[str, str]) -> dict[str, Survey]:
    """{column: result of checking its conversations}."""
    keys = message_keys(columns)
    names = {columns[role]: role for role in spoken_roles(shape, columns)} if shape == "messages" else {}
    return {name: survey(table[name], keys, answered=role != "prompt") for name, role in names.items()}


def _all_usable(table: pa.Table, shape: str, columns: Mapping[str, str], odd: Mapping[str, Mapping[int, str]]) -> bool:
    """Whether a plain table has no unusable rows, which spares the full check of `without_bad_rows`."""
    needed = [role for role in content_roles(shape, columns) if role not in OPTIONAL_CONTENT]
    return not any(odd.values()) and not any(table[columns[role]].null_count for role in needed)


def _check_columns(table: pa.Table, description: str) -> None:
    """Raise InputError for no rows and repeated column names."""
    names = table.column_names
    if table.num_rows == 0 or not names:
        raise InputError(f"{description} has no rows; give a dataset with at least one row")
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{description} has two columns {name!r}; rename or remove one of them")
