"""Convert kept variants to rows of the input's shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from augmenters.synthesis.call_messages import call_messages
from augmenters.synthesis.variant_group import VariantGroup
from augmenters.synthesis.variants import KEPT, Variant
from curate.data.columns import is_messages, is_text, message_keys
from curate.data.examples import Examples
from curate.data.json_columns import with_json_as
from curate.data.message_style import AsGiven, written_like
from curate.data.surroundings import PREAMBLE
from curate.data.turns import MessageKeys
from curate.errors import InputError
from curate.mixture.plan import NewRows
from curate.verify import Verdict

ORIGIN = "synthetic"


def new_id(group: VariantGroup, variant: Variant) -> str:
    """Id of the row made from a variant."""
    demand = "" if group.demand == 0 else f"{group.demand + 1}."
    return f"{group.source.example_id}~{demand}{variant.number + 1}"


def check_schema(examples: Examples, copied: Sequence[str] = ()) -> None:
    """Raise InputError if a non-nullable column would be null in new rows. copied: as in `new_rows`."""
    columns = examples.columns
    roles = [*examples.content_roles, "source", "final_answer"]
    written_columns = {columns[role] for role in roles if role in columns} | set(copied)
    if "id" in columns and is_text(examples.column("id").type):
        written_columns.add(columns["id"])
    for column in examples.table.schema:
        if column.name not in written_columns and not column.nullable:
            raise InputError(
                f"Synthesize: new rows have no value for column {column.name!r}, which is declared as never null; "
                "store the input with a nullable column (pandas does), or leave the column out"
            )


def kept_variants(groups: Sequence[VariantGroup]) -> list[tuple[VariantGroup, Variant]]:
    """The variants that become rows, each with its group, in order."""
    return [(group, variant) for group in groups for variant in group.variants if variant.outcome == KEPT]


def new_rows(
    groups: Sequence[VariantGroup], examples: Examples, model: str, name: str, copied: Sequence[str] = ()
) -> NewRows:
    """The kept variants as rows of the input's columns.

    Problem and solution are new; source and final answer are those of the parent row. Where the parent's solution is
    calls in a field of its message, they are taken over in that form: a right solution has the same calls.
    model: identity of the generator, part of the keys of requests; name: the generator's name in rows.
    copied: columns whose values are also copied from the parent. All other input columns are null: values of the
    parent need not hold for its variant.
    """
    kept_pairs = kept_variants(groups)
    sources = examples.take(np.array(sorted({group.source.row for group, _ in kept_pairs}), np.int64))
    place = {example_id: row for row, example_id in enumerate(sources.ids.to_pylist())}
    rows = [place[group.source.example_id] for group, _ in kept_pairs]
    ids = [new_id(group, variant) for group, variant in kept_pairs]
    cells = {column: [sources.table[column][row].as_py() for row in rows] for column in copied}
    cells |= _cells(kept_pairs, sources, rows, ids)
    columns = []
    for column in examples.table.schema:
        values = cells.get(column.name)
        columns.append(
            _array(values, column, len(kept_pairs), examples.table[column.name], message_keys(examples.columns))
        )
    solutions = [variant.solution for _, variant in kept_pairs]
    return NewRows(
        table=pa.table(columns, schema=examples.table.schema),
        ids=ids,
        source_ids=[group.source.example_id for group, _ in kept_pairs],
        origin=ORIGIN,
        extra={
            "generator": [name] * len(kept_pairs),
            "request": [solution.request.key(model) for solution in solutions if solution],
            "pass_count": [variant.count(Verdict.right) for _, variant in kept_pairs],
            "verified": [True] * len(kept_pairs),
        },
    )


def _cells(
    kept: list[tuple[VariantGroup, Variant]], sources: Examples, rows: list[int], ids: list[str]
) -> dict[str, list[Any]]:
    """Column name -> (m,) values."""
    columns, n = sources.columns, len(sources)
    problems = [variant.problem for _, variant in kept]
    solutions = [variant.solution.completion.text.strip() for _, variant in kept if variant.solution]
    cells: dict[str, list[Any]] = {}
    for role in ("source", "final_answer"):
        if role in columns:
            values = sources.column(role).to_pylist()
            cells[columns[role]] = [values[row] for row in rows]
    if "id" in columns and is_text(sources.column("id").type):
        cells[columns["id"]] = list(ids)
    surroundings = sources.surroundings(0, n)
    if "system" in columns:
        cells[columns["system"]] = [surroundings[row].system or None for row in rows]
    if sources.shape == "messages":
        systems = [
            [turn for turn in turns if turn["role"] in PREAMBLE and turn["content"] != parent.system]
            for turns, parent in zip(sources.conversations(0, n), surroundings, strict=True)
        ]
        user_turns = [
            [*systems[row], {"role": "user", "content": text}] for row, text in zip(rows, problems, strict=True)
        ]
        calls = call_messages(sources)
        answer_turns = [
            [{"role": "assistant", "content": text} if (call := calls[row]) is None else AsGiven(call)]
            for row, text in zip(rows, solutions, strict=True)
        ]
        if "messages" in columns:
            cells[columns["messages"]] = [
                first + second for first, second in zip(user_turns, answer_turns, strict=True)
            ]
        else:
            cells[columns["prompt"]], cells[columns["completion"]] = user_turns, answer_turns
        return cells
    asking, answering = ("instruction", "output") if sources.shape == "instruction" else ("prompt", "completion")
    if "input" in sources.content_roles:
        cells[columns["input"]] = [""] * len(kept)
    cells[columns[asking]], cells[columns[answering]] = problems, solutions
    return cells


def _array(
    values: list[Any] | None, column: pa.Field, count: int, like: pa.ChunkedArray, keys: MessageKeys
) -> pa.Array:
    """One column of new rows. like: the column of the input, whose messages define the format of new ones."""
    if values is None:
        return pa.nulls(count, column.type)
    if pa.types.is_dictionary(column.type):
        return pa.array(values, column.type.value_type).cast(column.type)
    if is_messages(column.type, keys):
        return written_like(values, like, keys)
    plain = with_json_as(column.type, pa.string())
    return pa.array(values, plain).cast(column.type) if plain != column.type else pa.array(values, plain)
