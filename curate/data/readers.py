"""Datasets in: files, folders, the hub and objects in memory, all as Examples."""

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
from curate.data.invalid_rows import without_bad_rows
from curate.data.json_as_text import with_conversations_opened
from curate.data.json_columns import described, with_json_opened
from curate.data.json_values import holds_json
from curate.data.messages import Survey, survey
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
from curate.data.row_filter import matching_rows, warn_of_splits
from curate.data.row_store import rows_of
from curate.data.sources import Kind, Opened, TextOptions, format_of, of_other_columns, open_data
from curate.data.surroundings import checked_surroundings, overruled
from curate.data.taken_names import other_names, renamed_columns, renaming_note, roles_here
from curate.data.unserved import check_answered, is_tree, unserved, wrapped
from curate.data.written_form import WriteAs
from curate.errors import ExternalError, InputError
from curate.seeds import derive_seed
from curate.storage.places import expanded
from curate.storage.remote import without_secrets
from curate.types import IntArray

# Columns that conversation trees have; whether they are such trees is a question of types.
_TREES = frozenset(["replies", "children", "comments", "parent_id", "parent_message_id", "parent", "mapping"])
Nested = Literal["json", "text"]

# Arguments of `read` as messages call them.
_OPTION = re.compile(r"--(columns|role|shape|where|split|config|limit|on-bad-row|encoding|delimiter)\b")


@dataclass(frozen=True, repr=False)
class Loaded(Presented):
    """What `read` found.

    examples: the n rows to curate. rejected: one record per unusable row left out {row, example_id, stage, reason,
    content}. notes: lines to show to the user. description: what was read. rows_read: rows before any filter.
    rows: (n,) int64 position of each example in the input as read. kind, original, split: what came in, the object
    itself (None for files and the hub) and the name of its split that was read, so that the result can be handed back
    in kind. on_bad_row: what is to become of rows that turn out unusable later. as_read: what `read` had returned,
    where such rows are left out. nested: whether columns of JSON leave as such or as JSON text. as_came: (rows_read,)
    cells of every column of text that holds conversations, which are lists of messages in the examples. card: license
    and the like of the input, see `curate.data.repositories.carried_over`. write_as: the form of the rows in a folder,
    see `curate.data.trainer_forms`. renamed: {column of the input: its name in the examples}, where results have a
    column of that name. arguments: of `read` but for the data, those that were given; `place`: the data's
    path, absolute, or its id, None for an object in memory: by these it is read again.
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
    """The rows of `data` as Examples.

    data: path of a Parquet, JSON Lines, JSON, CSV, Arrow or text file, or of a folder of them (also one written by
        `datasets.save_to_disk` or by curation), a glob of such files, a Hugging Face dataset id, a pandas.DataFrame,
        pyarrow.Table, datasets.Dataset or datasets.DatasetDict (one split is read: train, or `split`), anything with
        `__arrow_c_stream__`, a list of dicts or a dict of lists. Values are read exactly: a column that no type holds,
        or that `load_dataset` would change, is text or JSON, and a note says so.
    columns: {role: column}, or the same as text, "" for a role that no column is to have; shape: see
        `curate.data.columns.recognize`, or preference or kto, see `curate.data.preferences`. Where messages are written
        in no usual way, the roles `role` and `content` name their keys.
    role: {name of a speaker in messages: what it is}, or the same as text: `bot=assistant`. One of user, assistant,
        system, developer, tool and function_call, whose messages are calls.
    where: conditions on columns, `split=train,level!=5`; all must hold. Values are compared as text; a null cell
        fulfills every != and no =.
    limit: a sample of that many usable rows without replacement, drawn with `seed`, in the input's order.
    on_bad_row: whether an unusable row is an error or is left out and recorded.
    split, config: of a hub dataset or a folder, as `load_dataset` resolves them; split also of a DatasetDict. Where
        they are not named: the default config, else the first; train, the only split, or the first named train_...
    encoding: of JSON, CSV and text files that are neither UTF-8 nor begin with a byte order mark, as Python names it.
    delimiter: one character between the cells of CSV files; None = found.
    nested: columns of JSON are written as such (arrow.json, which `datasets` has since 4.7), or as JSON "text". That is
        so in folders, Arrow tables and datasets; frames, lists and dicts have no such type and keep their own values.
    allow_curated: accept the columns that curation adds, with example_id as the id. Else one called example_id is
        refused, and others of these names are kept as input_NAME.
    Raises InputError for anything that cannot be used and ExternalError where the hub cannot be reached. Rows are
    numbered from 0 in the input as read.
    """
    _check_choices(on_bad_row, limit, nested)
    options = {"columns": columns, "role": role, "shape": shape, "where": where, "limit": limit, "split": split}
    options |= {"config": config, "encoding": encoding, "delimiter": delimiter}
    given = {name: value for name, value in options.items() if value not in (None, ())}
    given |= {"on_bad_row": on_bad_row} if on_bad_row != "error" else {}
    roles = parse_columns(columns) if isinstance(columns, str) else dict(columns or {})
    roles |= _speakers(role)
    source = open_data(data, roles, split, config, TextOptions(encoding, delimiter))
    _check_columns(source.table, source.description, allow_curated)
    names = source.table.column_names
    roles = roles_here(roles, names) if roles else roles
    if allow_curated and "example_id" in source.table.column_names:
        roles.setdefault("id", "example_id")
    table, rows = _selected(source, where)
    interpreted, plain = _interpreted(table, roles, shape, source)
    if not plain:
        interpreted = _with_json(interpreted, rows, source.column_notes)
    try:
        usable, rows, rejected = _usable(interpreted, rows, plain, on_bad_row)
    except InputError as error:
        raise InputError(f"{error}{of_other_columns(source.files)}") from error
    notes = [*([source.note] if source.note else []), *usable.notes]
    examples, more = _identified(usable, named="id" in roles)
    if limit is not None and limit < len(examples):
        more.append(f"limit: a sample of {limit:,} of {len(examples):,} rows")
        chosen = _sample(len(examples), limit, seed)
        examples, rows = examples.take(chosen), rows[chosen]
    renamed = {} if allow_curated or {*RESERVED}.isdisjoint(names) else other_names(names)
    if renamed:
        examples = renamed_columns(examples, renamed)
        more.append(renaming_note(renamed))
    about = source.description, source.table.num_rows, rows, source.kind, source.original, source.split
    came = {renamed.get(name, name): source.table[name] for name in usable.came}
    further: dict[str, Any] = {"on_bad_row": on_bad_row, "nested": nested, "card": source.card, "renamed": renamed}
    further |= {"place": _place(data), "arguments": given}
    return Loaded(examples, rejected, [*notes, *more], *about, as_came=came, **further)


def _place(data: Any) -> str | None:
    """What names the data again from any folder; None for an object in memory."""
    if not isinstance(data, str | Path):
        return None
    path = expanded(data)
    local = path.exists() or ("://" not in str(data) and any(mark in str(data) for mark in "*?["))
    return str(path.absolute()) if local else without_secrets(str(data))


@dataclass(frozen=True)
class _Interpreted:
    """A table, its shape and the roles of its columns.

    pairs: how its preference pairs are read. odd: {column: {row: fault}}. notes: lines to show to the user. came: the
    columns of conversations that came as text, as they came.
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
    """The rows that fulfill all conditions, and (n,) their positions in the input."""
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
    """What the columns are; whether the table is plain, see `curate.data.sources.Opened`."""
    table, came = with_conversations_opened(table) if may_hold_conversations(table) else (table, {})
    table, made, said = with_turns_made(table, roles) if may_hold_bare_turns(table, roles) else (table, {}, [])
    came |= made
    plain = source.plain and not came
    table, pairs, (shape, found), lines = _served(table, roles, shape, source, plain)
    found, odd, lines = _surrounded(table, found, roles, lines)
    lines += said if made.keys() & set(found.values()) else []
    read_so = _Interpreted(table, shape, found, pairs, odd, lines, came)
    if came:
        table, came = _only_content(table, came, read_so.content)
        read_so = replace(read_so, table=table, came=came)
    if plain:
        read_so = replace(read_so, notes=[*lines, *(line for _, line in source.column_notes)])
    return read_so, plain


def _with_json(read_so: _Interpreted, rows: IntArray, said: Sequence[tuple[str, str]]) -> _Interpreted:
    """With columns of JSON that a model reads opened. said: what is to be said of columns in any case."""
    columns = read_so.columns
    opened = read_so.content - {columns.get("history"), columns.get("tools")}
    table, strange, said = with_json_opened(read_so.table, rows, sorted(opened), said)
    notes = [*read_so.notes, *(line for _, line in said)]
    return replace(read_so, table=table, odd=read_so.odd | strange, notes=notes)


def _usable(
    read_so: _Interpreted, rows: IntArray, plain: bool, on_bad_row: Literal["error", "drop"]
) -> tuple[_Interpreted, IntArray, list[dict[str, Any]]]:
    """Without rows at fault: their positions, and records of those left out."""
    table, shape, columns, pairs = read_so.table, read_so.shape, read_so.columns, read_so.pairs
    odd, rejected = dict(read_so.odd), list[dict[str, Any]]()
    notes = [*read_so.notes, *_check_conversations(table, shape, columns, odd)]
    if pairs and (alone := unpaired(pairs, table)):
        odd[pairs.learned] = alone | odd.get(pairs.learned, {})
    if not (plain and _all_usable(table, shape, columns, odd)):
        table, rows, rejected = without_bad_rows(table, rows, shape, columns, odd, on_bad_row)
    return replace(read_so, table=table, odd=odd, notes=notes), rows, rejected


def _identified(read_so: _Interpreted, named: bool) -> tuple[Examples, list[str]]:
    """The rows with their ids, and what to say of them. named: a column of ids was chosen."""
    table, shape, columns, pairs = read_so.table, read_so.shape, read_so.columns, read_so.pairs
    notes: list[str] = []
    if shape == "messages" and "system" in columns:
        name = columns["messages" if "messages" in columns else "prompt"]
        notes += overruled(table, name, columns["system"], message_keys(columns))
    ids, note = example_ids(table, shape, columns, named=named)
    notes += [note] if note else []
    table, made = pairs.taken_from(table) if pairs else (table, None)
    return Examples(table, ids, shape, columns, made), notes


def read_for(owner: str, role: str, data: Any, /, **reading: Any) -> Loaded:
    """As `read`, for the dataset that the component `owner` names in its field `role`.

    Its errors name that, and the fields of the owner in place of the options of a command, which are about the input.
    """
    try:
        return read(data, **reading)
    except (InputError, ExternalError) as error:
        text = _OPTION.sub(lambda found: f"{owner}." + found[1].replace("-", "_"), str(error))
        raise type(error)(f"{owner} {role} {name_of(data)}: {text}") from error


def with_conversations(table: pa.Table) -> pa.Table:
    """The table with lists of messages in place of text that holds conversations."""
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
    """As `_understood`; data of a kind that is not served, or that is no rows, is called what it is."""
    asked = bool(roles) or shape is not None
    if not asked and not _TREES.isdisjoint(table.column_names) and is_tree(table.schema):
        raise InputError(f"{source.description}: {unserved(table.schema)}")
    try:
        return _understood(table, roles, shape, plain)
    except InputError as error:
        path = Path(source.description)
        why = None if asked else unserved(table.schema)
        if why is None and source.kind == "file" and path.is_file() and format_of(path) == "json":
            why = wrapped(table, path)
        if why is None:
            raise
        name = path.name if source.kind == "file" else source.description
        raise InputError(f"{name}: {why}") from error


def _understood(table: pa.Table, roles: Mapping[str, str], shape: str | None, plain: bool) -> _Understood:
    """The table with the columns that pairs need, pairs, shape and roles, and lines that say how rows are read."""
    if not may_be_pairs(table.column_names, roles, shape):
        shape, found = recognize(table.schema, roles, shape) if plain else _recognized(table, roles, shape)
        lines = [_as_read(shape, found), *remarks(table.schema if plain else described(table), shape, found, roles)]
        return table, None, (shape, found), lines
    pairs = find_pairs(table, roles, shape)
    label = None if pairs else label_column(table.schema, roles, shape)
    if pairs:
        table = pairs.added_to(table)
    learned = pairs.roles if pairs else without_pair_roles(roles)
    shape = None if shape in PAIR_SHAPES else shape
    shape, found = recognize(table.schema, learned, shape) if plain else _recognized(table, learned, shape)
    if pairs:
        found |= pairs.columns
        lines = pairs.notes(shape, found)
    else:
        lines = [_as_read(shape, found), *remarks(table.schema if plain else described(table), shape, found, roles)]
    if label is not None and shape != "text":
        found["label"] = label
        lines.append(labels_note(table[label], label))
    elif pairs is None and shape != "text":
        lines += numbers_note(table, roles)
    return table, pairs, (shape, found), lines


def _as_read(shape: str, found: Mapping[str, str]) -> str:
    return f"shape {shape}: {', '.join(f'{role}={name}' for role, name in found.items())}"


def _speakers(role: Mapping[str, str] | Sequence[str] | str | None) -> dict[str, str]:
    """What `role` says, as roles of `columns`."""
    if isinstance(role, Mapping):
        role = [f"{name}={target}" for name, target in role.items()]
    return parse_roles([role] if isinstance(role, str) else role or [])


def _recognized(table: pa.Table, roles: Mapping[str, str], shape: str | None) -> tuple[str, dict[str, str]]:
    """As `recognize`; JSON counts as text or messages by what it holds, but an id or label cannot be JSON."""
    shape, found = recognize(described(table), roles, shape)
    labels = [role for role in found.keys() - {*content_roles(shape, found)} if is_column_role(role)]
    for role in sorted(role for role in labels if holds_json(table.schema.field(found[role]).type)):
        if role in roles:
            raise InputError(
                f"column {found[role]!r} holds values of several kinds, so it cannot be {role}; make them one kind, or "
                "name another column"
            )
        del found[role]
    return shape, found


def _surrounded(
    table: pa.Table, found: dict[str, str], roles: Mapping[str, str], lines: list[str]
) -> tuple[dict[str, str], dict[str, dict[int, str]], list[str]]:
    """{role: column} without columns of history or tools that are none, faults by column and row, and what to say."""
    if "history" not in found and "tools" not in found:
        return found, {}, lines
    checked, odd, remarked = checked_surroundings(table, found, roles)
    first = lines[0]
    for each in found.keys() - checked.keys():
        first = first.replace(f", {each}={found[each]}", "")
    return checked, odd, [first, *lines[1:], *remarked]


def _check_conversations(
    table: pa.Table, shape: str, found: Mapping[str, str], odd: dict[str, dict[int, str]]
) -> list[str]:
    """Add the faults of conversations to `odd`, by column and row; returns what to say of them."""
    notes: list[str] = []
    for name, seen in _surveys(table, shape, found).items():
        if len(seen.faults) == len(table):
            check_answered(name, seen.faults, len(table))
        odd[name] = odd.get(name, {}) | seen.faults
        notes += seen.notes(name)
    return notes


def _only_content(
    table: pa.Table, came: Mapping[str, pa.ChunkedArray], content: set[str]
) -> tuple[pa.Table, dict[str, pa.ChunkedArray]]:
    """The table with those columns of conversations as they came that no model reads, and the others as they came."""
    for name in came.keys() - content:
        k = table.column_names.index(name)
        table = table.set_column(k, table.schema.field(k).with_type(came[name].type), came[name])
    return table, {name: column for name, column in came.items() if name in content}


def _surveys(table: pa.Table, shape: str, columns: Mapping[str, str]) -> dict[str, Survey]:
    """What is found in each column of conversations."""
    keys = message_keys(columns)
    names = {columns[role]: role for role in spoken_roles(shape, columns)} if shape == "messages" else {}
    return {name: survey(table[name], keys, answered=role != "prompt") for name, role in names.items()}


def _all_usable(table: pa.Table, shape: str, columns: Mapping[str, str], odd: Mapping[str, Mapping[int, str]]) -> bool:
    """Whether `without_bad_rows` would find nothing in a plain table."""
    needed = [role for role in content_roles(shape, columns) if role not in OPTIONAL_CONTENT]
    return not any(odd.values()) and not any(table[columns[role]].null_count for role in needed)


def _check_columns(table: pa.Table, description: str, allow_curated: bool) -> None:
    names = table.column_names
    if table.num_rows == 0 or not names:
        raise InputError(f"{description} has no rows; give a dataset with at least one row")
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{description} has two columns {name!r}; rename or remove one of them")
    taken = [name for name in names if name in RESERVED]
    if not allow_curated and "example_id" in taken:
        raise InputError(
            f"column 'example_id' has a name that curation gives to a column of its own; rename or remove it "
            f"({'data curated before' if len(taken) > 3 else 'reserved'}: {', '.join(taken)})"
        )
