"""Examples: an Arrow table with row ids, a shape and column roles, and their content hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.console.presentation import Facts, Presented
from curate.data.column_names import PAIR_ROLES, SHAPES, SURROUNDING
from curate.data.columns import content_roles, is_column_role, message_keys, spoken_roles
from curate.data.messages import concatenated_turns, conversations, is_plain, turns
from curate.data.row_store import row_store
from curate.data.surroundings import NOTHING, Surroundings, are_texts, question_with, surrounded, surroundings_of
from curate.data.turns import Turn, as_context
from curate.data.wording import type_name
from curate.errors import InputError
from curate.storage.id_lookup import first_repeat, with_numbered_repeats
from curate.storage.mapped import release
from curate.types import IntArray

_HASHED_ROWS = 65_536  # at a time; bounds memory while hashing, without effect on the result
_INTERPRETED_ROWS = 4_096  # the same, where rows become Python objects


@dataclass(frozen=True, repr=False)
class Examples(Presented):
    """n rows of training data.

    table: the input's columns, unchanged. ids: (n,) unique strings.
    shape: prompt_completion, instruction, question_answer, messages or text.
    columns: {role: column name}. Content roles by shape: prompt and completion (also of question_answer, and of
    messages given in two columns); instruction, output and optionally input; messages; text. Optional roles that a
    model sees too: system, history, context and tools. Others: id, source, final_answer, label, and the form of
    messages, see `curate.data.columns.message_keys`. In preference pairs the completion or output is the chosen
    answer; chosen and rejected are the columns of the input, see `curate.data.preferences`.
    made: (n,) columns derived from the table that roles may refer to; they are not part of results.
    """

    table: pa.Table
    ids: pa.Array
    shape: str
    columns: Mapping[str, str] = field(default_factory=dict)
    made: pa.Table | None = None

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise InputError(f"unknown shape {self.shape!r}; shapes are {', '.join(SHAPES)}")
        if len(self.ids) != self.table.num_rows:
            raise InputError(f"there are {len(self.ids)} ids for {self.table.num_rows} rows; give one per row")
        for role, name in self.columns.items():
            if is_column_role(role) and name not in self.readable.column_names:
                raise InputError(f"role {role!r} names column {name!r}, which the table does not have")

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def summary(self) -> Facts:
        """Rows, shape, roles and columns, in a few lines, as printed and in notebooks."""
        return Facts(f"Examples: {len(self):,} rows", self.facts())

    def facts(self) -> tuple[tuple[str, str], ...]:
        """Facts about the rows for a summary, pairs of a label and a text."""
        roles = ", ".join(f"{role}={name}" for role, name in self.columns.items() if is_column_role(role))
        return (
            ("shape", f"{self.shape}: {roles}" if roles else self.shape),
            ("columns", ", ".join(self.table.column_names)),
            ("see", ".table .ids .take(rows)"),
        )

    @property
    def content_roles(self) -> tuple[str, ...]:
        """Roles whose cells a model reads."""
        return content_roles(self.shape, self.columns)

    @property
    def readable(self) -> pa.Table:
        """The table with the derived columns appended: every column that a role refers to."""
        table, made = self.table, self.made
        if made is not None:
            for name in made.column_names:
                table = table.append_column(name, made[name])
        return table

    @property
    def reading(self) -> dict[str, Any]:
        """Arguments with which `curate.read` reads a file of the table as these examples, except for ids."""
        if not self.paired:
            return {"columns": dict(self.columns), "shape": self.shape}
        made = () if self.made is None else self.made.column_names
        answers = ("completion", "output")
        columns = {role: name for role, name in self.columns.items() if role not in answers and name not in made}
        return {"columns": columns, "shape": "preference"}

    @property
    def paired(self) -> bool:
        """Whether the rows are preference pairs, each with an answer that was rejected."""
        return "rejected" in self.columns

    def rejected(self) -> Examples:
        """The same rows, not paired, with the rejected answers as completions. Raises InputError if there are none."""
        if not self.paired:
            raise InputError("the rows have no rejected answers; name their column with --columns rejected=COLUMN")
        name = self.columns["rejected"]
        made = () if self.made is None else self.made.column_names
        answer = next((made_name for made_name in made if made_name.startswith(f"{name} (")), name)
        role = "output" if "output" in self.columns else "completion"
        columns = {own_role: column for own_role, column in self.columns.items() if own_role not in PAIR_ROLES}
        return replace(self, columns={**columns, role: answer})

    def take(self, rows: IntArray) -> Examples:
        """The rows at the given positions (m,), in that order, without repeats, since ids are unique."""
        ids = self.ids.take(pa.array(rows, pa.int64()))
        table, made = (None if part is None else _taken(part, rows) for part in (self.table, self.made))
        return replace(self, table=table, ids=ids, made=made)

    def slice(self, low: int, high: int) -> Examples:
        """Rows low..high-1, without copying a cell."""
        table, made = (None if part is None else part.slice(low, high - low) for part in (self.table, self.made))
        return replace(self, table=table, ids=self.ids.slice(low, high - low), made=made)

    def content(self) -> Examples:
        """The same rows with only the columns that a model reads."""
        unread = {role for role in self.columns if is_column_role(role)} - set(self.content_roles)
        roles = {role: name for role, name in self.columns.items() if role not in unread}
        names = dict.fromkeys(roles[role] for role in self.content_roles)
        return replace(self, table=self.readable.select(list(names)), columns=roles, made=None)

    def column(self, role: str) -> pa.ChunkedArray:
        """(n,) cells of a role, in the input's type. Raises InputError if no column has that role."""
        if role not in self.columns:
            had = next((other for other, name in self.columns.items() if name == role), None)
            known = (
                f"the column {role!r} has the role {had!r}" if had else f"the roles here are {', '.join(self.columns)}"
            )
            raise InputError(f"no column has the role {role!r} ({known}); name one with --columns {role}=COLUMN")
        name = self.columns[role]
        if self.made is not None and name in self.made.column_names:
            return self.made[name]
        return self.table[name]

    def sources(self) -> npt.NDArray[np.object_] | None:
        """(n,) source labels as strings, None for null cells; None instead of an array if there is no source column."""
        if "source" not in self.columns:
            return None
        encoded = whole(self.column("source").cast(pa.large_string())).dictionary_encode()
        labels = np.array([*encoded.dictionary.to_pylist(), None], dtype=object)  # (distinct sources + 1,)
        return labels[pc.fill_null(encoded.indices, len(labels) - 1).to_numpy(zero_copy_only=False)]

    def texts(self, role: str, low: int, high: int) -> list[Any]:
        """Cells of rows low..high-1 as Python values; a conversation is a list of turns, see `curate.data.turns.Turn`.

        For shape messages, "messages" is the whole conversation including system, history and context, even if prompt
        and completion hold its halves. Values of the role "tools" are a list of tools or None, of "history" a list of
        turns, of "context" and "system" a text or None.
        """
        if role in SURROUNDING:
            return [getattr(surrounding, role) or None for surrounding in self.surroundings(low, high)]
        if self.shape != "messages" or role not in ("messages", *spoken_roles(self.shape, self.columns)):
            return self._cells(role, low, high)
        if role == "messages":
            return self.conversations(low, high)
        return self._turns(role, low, high)

    def surroundings(self, low: int, high: int) -> list[Surroundings]:
        """System, history, context and tools of rows low..high-1."""
        columns = {role: self.column(role).slice(low, high - low) for role in SURROUNDING if role in self.columns}
        return surroundings_of(columns, message_keys(self.columns)) if columns else [NOTHING] * (high - low)

    def conversations(self, low: int, high: int) -> list[list[Turn]]:
        """Rows low..high-1 as conversations that include system, history and context; not for shape text.

        For messages in two columns only the completion is learned, as trainers do; the prompt is context.
        """
        extras = self.surroundings(low, high)
        if self.shape != "messages":
            texts = zip(self.questions(low, high), self.answers(low, high), strict=True)
            conversations = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in texts]
            extras = [Surroundings(extra.system, extra.history, "", extra.tools) for extra in extras]
        else:
            *before, last = (self._turns(role, low, high) for role in spoken_roles(self.shape, self.columns))
            conversations = [
                [turn for half in prompt_halves for turn in as_context(half)] + completion
                for *prompt_halves, completion in zip(*before, last, strict=True)
            ]
        return [surrounded(turns, extra) for turns, extra in zip(conversations, extras, strict=True)]

    def questions(self, low: int, high: int) -> list[str]:
        """Prompts of rows low..high-1 with their context or input; not for shapes messages and text."""
        role = "instruction" if self.shape == "instruction" else "prompt"
        questions = self._cells(role, low, high)
        if "input" in self.columns:
            inputs = self._cells("input", low, high)
            questions = [f"{text}\n{more}" if more else text for text, more in zip(questions, inputs, strict=True)]
        extras = self.surroundings(low, high)
        return [question_with(extra.context, text) for extra, text in zip(extras, questions, strict=True)]

    def answers(self, low: int, high: int) -> list[str]:
        """Completions of rows low..high-1; not for shapes messages and text."""
        return self._cells("output" if self.shape == "instruction" else "completion", low, high)

    def _turns(self, role: str, low: int, high: int) -> list[list[Turn]]:
        cells = self.column(role).slice(low, high - low)
        keys = message_keys(self.columns)
        return [turns or [] for chunk in cells.chunks for turns in conversations(chunk, keys)]

    def _cells(self, role: str, low: int, high: int) -> list[Any]:
        cells: list[Any] = self.column(role).slice(low, high - low).to_pylist()
        return cells

    def fingerprint(self) -> str:
        """32 hex digits, a hash of ids, content and what is read of it, in row order: what a proxy run depends on.

        Independent of chunks and of the storage of strings. Source and final answer are not part of it.
        """
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        columns = [(role, self.column(role)) for role in self.content_roles]
        return hash_columns([(self.shape, pa.array([], pa.string())), ("id", self.ids), *columns, *self.interpreted()])

    def interpreted(self) -> list[tuple[str, pa.Array]]:
        """What the model is shown of the rows, as a column to hash beside their cells.

        Cached work is thus never used for cells that are read in another way than when it was done. Nothing for plain
        prompts and plain conversations, where the model is shown what the cells say.
        """
        if self._shown_as_they_are():
            return []
        digest = hashlib.blake2b(digest_size=16)
        for low in range(0, len(self), _INTERPRETED_ROWS):
            high = min(low + _INTERPRETED_ROWS, len(self))
            shown: list[Any] = self.surroundings(low, high)
            if self.shape == "messages":
                shown = [[row.tools for row in shown], self.conversations(low, high)]
            digest.update(json.dumps(shown, default=repr).encode())
            release()
        return [("interpreted", pa.array([digest.hexdigest()]))]

    def _shown_as_they_are(self) -> bool:
        """Whether the model is shown what the cells say: texts, and messages of a role and a text."""
        if not are_texts({role: self.column(role).type for role in SURROUNDING if role in self.columns}):
            return False
        if self.shape != "messages":
            return True
        if self._answers_in_prompt() or not all(map(is_column_role, self.columns)):
            return False
        keys = message_keys(self.columns)
        return all(is_plain(self.column(role), keys) for role in spoken_roles(self.shape, self.columns))

    def _answers_in_prompt(self) -> bool:
        """Whether messages are in two columns and the prompt, which is not learned, has assistant turns."""
        if self.shape != "messages" or "prompt" not in spoken_roles(self.shape, self.columns):
            return False
        keys = message_keys(self.columns)
        names = (turns(chunk, keys)[1] for chunk in self.column("prompt").chunks)
        return any(pc.any(pc.equal(name, "assistant")).as_py() for name in names)

    def labels_fingerprint(self) -> str:
        """32 hex digits, a hash of the columns with other roles, such as source and final answer."""
        roles = sorted(role for role in self.columns.keys() - {*self.content_roles, "id"} if is_column_role(role))
        return hash_columns([(role, self.column(role)) for role in roles])

    def table_fingerprint(self) -> str:
        """32 hex digits, a hash of every column, its name, type and role: what the result of a run depends on."""
        return self._table_fingerprint

    @cached_property
    def _table_fingerprint(self) -> str:
        kinds = [f"{column.name}: {column.type}" for column in self.table.schema]
        roles = [f"{role}={self.columns[role]}" for role in sorted(self.columns)]
        head = pa.array([self.shape, *kinds, *roles], pa.string())
        all_columns = [(name, self.table[name]) for name in self.table.column_names]
        return hash_columns([("", head), ("", self.ids), *all_columns])


def _taken(table: pa.Table, rows: IntArray) -> pa.Table:
    return row_store([table]).take(np.asarray(rows, np.int64)).replace_schema_metadata(table.schema.metadata)


def example_ids(table: pa.Table, shape: str, columns: Mapping[str, str], named: bool) -> tuple[pa.Array, str | None]:
    """Ids (n,) as strings, and a note if there is an `id` column that could not be used.

    The id column if it is unique and has no nulls, else `content_ids`. named: the caller chose the column, so repeats
    and nulls raise InputError instead.
    """
    if "id" not in columns:
        return content_ids(table, shape, columns), None
    name = columns["id"]
    ids, problem = whole(table[name].cast(pa.large_string())), None
    if ids.null_count:
        row = pc.index(pc.is_null(ids), True).as_py()
        problem = f"id column {name!r} is null in row {row}"
    else:
        repeat = first_repeat(ids)
        if repeat is not None:
            problem = f"id column {name!r} has {ids[repeat[0]].as_py()!r} in rows {repeat[0]} and {repeat[1]}"
    if problem is None:
        return _strings([ids]), None
    if named:
        raise InputError(f"{problem}; make it unique, or leave out --columns id={name} to get ids from the content")
    return content_ids(table, shape, columns), f"{problem}, so ids are content hashes"


def content_ids(table: pa.Table, shape: str, columns: Mapping[str, str]) -> pa.Array:
    """Ids (n,) computed from what a model reads: 32 hex digits of BLAKE2b over the content cells.

    Column names, column order and other columns do not matter. Among rows with equal content the first gets the bare
    hash and the k-th, in row order, the suffix `-k` (k = 2, 3, ...).
    """
    roles = ("instruction", "input", "output") if shape == "instruction" else spoken_roles(shape, columns)
    keys = message_keys(columns)
    parts = []
    for low in range(0, table.num_rows, _HASHED_ROWS):
        piece = table.slice(low, _HASHED_ROWS)
        cells = {role: whole(piece[columns[role]]) for role in roles if role in columns}
        if shape == "messages":
            offsets, names, contents = _joined_turns([turns(cells[role], keys) for role in roles])
            hashed = _row_digests([_framed(names), _framed(contents)], offsets)
        else:
            # A missing input column counts as null inputs, so that adding an empty one changes no id.
            absent = pa.nulls(len(piece), pa.large_string())
            hashed = _row_digests([_framed(cells.get(role, absent)) for role in roles])
        extra_cells = {role: piece[columns[role]] for role in SURROUNDING if role in columns}
        parts.append(_with_surroundings(hashed, surroundings_of(extra_cells, keys)) if extra_cells else hashed)
        release()
    return with_numbered_repeats(_strings(parts))


def _with_surroundings(hashes: pa.Array, extras: Sequence[Surroundings]) -> pa.Array:
    """The hashes (n,), rehashed with system, history, context and tools for rows that have any."""
    digests = [
        hashlib.blake2b(f"{text}{json.dumps(extra)}".encode(), digest_size=16).hexdigest() if any(extra) else text
        for text, extra in zip(hashes.to_pylist(), extras, strict=True)
    ]
    return pa.array(digests, pa.string())


def _joined_turns(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else concatenated_turns(parts[0], parts[1])


def _strings(parts: Sequence[pa.Array]) -> pa.Array:
    """Concatenate arrays of strings, with 64-bit offsets only if they hold 2 GiB or more."""
    kind = pa.string() if sum(part.nbytes for part in parts) < 1 << 31 else pa.large_string()
    strings = pa.concat_arrays([part.cast(kind) for part in parts]) if parts else pa.array([], kind)
    pa.default_memory_pool().release_unused()
    return strings


# --- hashes of columns, by their values only (not chunks, string width, dictionaries or views) ---------------------


def whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The column as one array. Strings and bytes get 64-bit offsets, so they may exceed 2 GiB."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string(kind) or kind == pa.string_view():
        kind = pa.large_string()
    elif pa.types.is_binary(kind) or kind == pa.binary_view():
        kind = pa.large_binary()
    column = column if kind == column.type else column.cast(kind)
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], kind)])
    return column


def _large_binary(offsets: IntArray, data: Any) -> pa.Array:
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets, np.int64)), pa.py_buffer(data)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)


def _lengths(array: pa.Array) -> IntArray:
    """(n,) int64 bytes of each value, -1 where null."""
    return pc.fill_null(pc.binary_length(array), -1).to_numpy(zero_copy_only=False).astype("<i8")


def _framed(array: pa.Array) -> pa.Array:
    """(n,) large_binary: 8 bytes of length (-1 for null), then the value, so that concatenation stays unambiguous."""
    values = array.cast(pa.large_binary())
    heads = _large_binary(np.arange(len(values) + 1) * 8, _lengths(values).tobytes())
    empty = pa.scalar(b"", pa.large_binary())
    return pc.binary_join_element_wise(heads, values, empty, null_handling="replace", null_replacement=b"")


def _row_digests(columns: Sequence[pa.Array], row_offsets: IntArray | None = None) -> pa.Array:
    """String array (n,) of 32 hex digits: BLAKE2b over each row's framed large_binary values, in order.

    row_offsets: (n + 1,) where a row covers several consecutive values of the columns (turns of a conversation).
    """
    empty = pa.scalar(b"", pa.large_binary())
    joined = columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, empty)
    buffer = joined.buffers()
    offsets = np.frombuffer(buffer[1], np.int64)[joined.offset : joined.offset + len(joined) + 1]
    if row_offsets is not None:
        offsets = offsets[row_offsets]
    bounds = offsets.tolist()
    data = memoryview(buffer[2]) if buffer[2] is not None else memoryview(b"")
    blake = hashlib.blake2b
    digests = b"".join([blake(data[low:high], digest_size=16).digest() for low, high in pairwise(bounds)])
    n = len(bounds) - 1
    ends = pa.py_buffer(np.arange(n + 1, dtype=np.int32) * 32)
    return pa.StringArray.from_buffers(n, ends, pa.py_buffer(digests.hex().encode()))


def hash_columns(columns: Sequence[tuple[str, pa.ChunkedArray | pa.Array]]) -> str:
    """32 hex digits, a hash of named columns in the given order. Raises InputError for an unsupported type."""
    total = hashlib.blake2b(digest_size=16)
    for name, column in columns:
        total.update(f"{len(name)}:{name}:".encode())
        streams: dict[str, Any] = {}
        for part in _slices(column):
            _feed(part, streams, "", name)
            release()
        for path in sorted(streams):
            total.update(f"{path}:".encode() + streams[path].digest())
    return total.hexdigest()


def _slices(column: pa.ChunkedArray | pa.Array) -> Iterator[pa.Array]:
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        for low in range(0, len(chunk), _HASHED_ROWS):
            yield chunk.slice(low, _HASHED_ROWS)


def _feed(array: pa.Array, streams: dict[str, Any], path: str, column: str) -> None:
    """Update the hashes of a column with an array of its values.

    streams: {path: hash}, one per nesting path and kind of buffer, so that the result does not depend on chunks.
    """

    def put(kind: str, data: Any) -> None:
        if kind not in streams:
            streams[kind] = hashlib.blake2b(digest_size=16)
        streams[kind].update(data)

    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    array = whole(array)
    kind = array.type
    if pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
        put(f"{path}/lengths", _lengths(array.cast(pa.large_binary())).tobytes())
        array = array.drop_null()
        if len(array):
            _, ends, data = array.buffers()
            bounds = np.frombuffer(ends, np.int64)[array.offset : array.offset + len(array) + 1]
            put(f"{path}/bytes", memoryview(data)[bounds[0] : bounds[-1]] if data is not None else b"")
    elif pa.types.is_nested(kind) and not pa.types.is_struct(kind) and not pa.types.is_union(kind):
        if pa.types.is_map(kind):
            array = array.cast(pa.list_(pa.struct([kind.key_field, kind.item_field])))
        lengths = pc.fill_null(pc.list_value_length(array), -1).to_numpy(zero_copy_only=False)
        put(f"{path}/lengths", lengths.astype("<i8").tobytes())
        _feed(pc.list_flatten(array), streams, f"{path}/items", column)
    else:
        put(f"{path}/valid", array.is_valid().cast(pa.uint8()).to_numpy(zero_copy_only=False).tobytes())
        if pa.types.is_struct(kind):
            for field, child in zip(kind, array.flatten(), strict=True):
                _feed(child, streams, f"{path}/{field.name}", column)
        elif not pa.types.is_null(kind):
            put(f"{path}/{kind}", _numbers(array.drop_null(), column))


def _numbers(array: pa.Array, column: str) -> Any:
    """Bytes of an array of fixed width and without nulls."""
    kind = array.type
    if pa.types.is_boolean(kind):
        return array.cast(pa.uint8()).to_numpy().tobytes()
    if not (pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_fixed_size_binary(kind)):
        raise InputError(
            f"column {column!r} holds {type_name(kind)}, which is not supported; convert or remove the column"
        )
    width = kind.bit_width // 8
    data = array.buffers()[1]
    if data is None:
        return b""
    return memoryview(data)[array.offset * width : (array.offset + len(array)) * width]
