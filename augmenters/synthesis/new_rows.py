"""From kept variants to rows of the input's shape, and to the table of everything that was tried."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from augmenters.synthesis.variants import KEPT, Family, Variant
from curate.data.columns import is_text
from curate.data.examples import Examples
from curate.data.json_columns import with_json_as
from curate.data.json_text import dumps, loads
from curate.data.json_values import is_json
from curate.errors import InputError
from curate.generators.requests import Sampling, prompt_digest
from curate.mixture.plan import NewRows
from curate.verify import Verdict

__all__ = ["attempts_table", "check_schema", "kept_variants", "new_id", "new_rows"]

ORIGIN = "synthetic"
_SPEAKERS = {"user": "human", "assistant": "gpt"}  # as data of the from/value kind calls them


def new_id(family: Family, variant: Variant) -> str:
    """Id of the row that a variant becomes."""
    demand = "" if family.demand == 0 else f"{family.demand + 1}."
    return f"{family.parent.example_id}~{demand}{variant.number + 1}"


def check_schema(examples: Examples) -> None:
    """Raise InputError where a column would be null in new rows that is declared as never null."""
    columns = examples.columns
    roles = [*examples.content_roles, "source", "final_answer"]
    given = {columns[role] for role in roles if role in columns}
    if "id" in columns and is_text(examples.column("id").type):
        given.add(columns["id"])
    for column in examples.table.schema:
        if column.name not in given and not column.nullable:
            raise InputError(
                f"Synthesize: new rows have no value for column {column.name!r}, which is declared as never null; "
                "store the input with a nullable column (pandas does), or leave the column out"
            )


def kept_variants(families: Sequence[Family]) -> list[tuple[Family, Variant]]:
    """The variants that become rows, each with its family, in order."""
    return [(family, variant) for family in families for variant in family.variants if variant.outcome == KEPT]


def new_rows(families: Sequence[Family], examples: Examples, model: str, name: str) -> NewRows:
    """The kept variants as rows: problem and solution in the input's columns, the parent's source and final answer.

    model: identity of the generator, part of the keys of requests; name: as the rows call it.
    Every other column of the input is null: what it says of the parent need not hold for its variant.
    """
    kept = kept_variants(families)
    parents = examples.take(np.array(sorted({family.parent.row for family, _ in kept}), np.int64))
    place = {example_id: row for row, example_id in enumerate(parents.ids.to_pylist())}
    rows = [place[family.parent.example_id] for family, _ in kept]
    ids = [new_id(family, variant) for family, variant in kept]
    cells = _cells(kept, parents, rows, ids)
    columns = []
    for column in examples.table.schema:
        values = cells.get(column.name)
        columns.append(_array(values, column, len(kept), examples.table[column.name]))
    drawn = [variant.solution for _, variant in kept]
    return NewRows(
        table=pa.table(columns, schema=examples.table.schema),
        ids=ids,
        source_ids=[family.parent.example_id for family, _ in kept],
        origin=ORIGIN,
        extra={
            "generator": [name] * len(kept),
            "request": [each.request.key(model) for each in drawn if each],
            "pass_count": [variant.count(Verdict.right) for _, variant in kept],
            "verified": [True] * len(kept),
        },
    )


def _cells(
    kept: list[tuple[Family, Variant]], parents: Examples, rows: list[int], ids: list[str]
) -> dict[str, list[Any]]:
    """Column name -> (m,) values."""
    columns, n = parents.columns, len(parents)
    problems = [variant.problem for _, variant in kept]
    solutions = [variant.solution.completion.text.strip() for _, variant in kept if variant.solution]
    cells: dict[str, list[Any]] = {}
    for role in ("source", "final_answer"):
        if role in columns:
            values = parents.column(role).to_pylist()
            cells[columns[role]] = [values[row] for row in rows]
    if "id" in columns and is_text(parents.column("id").type):
        cells[columns["id"]] = list(ids)
    if parents.shape == "messages":
        systems = [[turn for turn in turns if turn["role"] == "system"] for turns in parents.texts("messages", 0, n)]
        asked = [[*systems[row], {"role": "user", "content": text}] for row, text in zip(rows, problems, strict=True)]
        said = [[{"role": "assistant", "content": text}] for text in solutions]
        if "messages" in columns:
            cells[columns["messages"]] = [first + second for first, second in zip(asked, said, strict=True)]
        else:
            cells[columns["prompt"]], cells[columns["completion"]] = asked, said
        return cells
    asking, answering = ("instruction", "output") if parents.shape == "instruction" else ("prompt", "completion")
    if "input" in parents.content_roles:
        cells[columns["input"]] = [""] * len(kept)
    cells[columns[asking]], cells[columns[answering]] = problems, solutions
    return cells


def _array(values: list[Any] | None, column: pa.Field, count: int, given: pa.ChunkedArray) -> pa.Array:
    """given: the column of the input, whose messages say how those of new rows are written."""
    if values is None:
        return pa.nulls(count, column.type)
    if pa.types.is_dictionary(column.type):
        return pa.array(values, column.type.value_type).cast(column.type)
    if _is_from_value(given):
        values = [
            [{"from": _SPEAKERS.get(turn["role"], turn["role"]), "value": turn["content"]} for turn in turns]
            for turns in values
        ]
    if pa.types.is_list(column.type) and is_json(column.type.value_type):
        values = [[dumps(turn) for turn in turns] for turns in values]
    plain = with_json_as(column.type, pa.string())
    return pa.array(values, plain).cast(column.type) if plain != column.type else pa.array(values, plain)


def _is_from_value(given: pa.ChunkedArray) -> bool:
    """Whether the conversations of a column say from/value rather than role/content."""
    if not (pa.types.is_list(given.type) or pa.types.is_large_list(given.type)):
        return False
    kind = given.type.value_type
    if is_json(kind):
        return "value" in loads(given[0].as_py()[0])
    return pa.types.is_struct(kind) and kind.get_field_index("value") >= 0


_ATTEMPTS = pa.schema(
    [
        ("example_id", pa.string()),  # of the new row; null where there is none
        ("source_id", pa.string()),
        ("variant", pa.int32()),
        ("outcome", pa.string()),
        ("detail", pa.string()),
        ("parent_problem", pa.string()),
        ("problem", pa.string()),
        ("solution", pa.string()),
        ("answer", pa.string()),
        ("drawn", pa.int32()),
        ("right", pa.int32()),
        ("wrong", pa.int32()),
        ("undecided", pa.int32()),
        ("verdicts", pa.list_(pa.string())),
        ("completion_tokens", pa.int64()),
        ("generator", pa.string()),
        ("prompt_digest", pa.string()),
        ("sampling", pa.string()),
        ("seed", pa.int64()),
        ("proposal_request", pa.string()),
        ("solution_prompt_digest", pa.string()),
        ("solution_sampling", pa.string()),
        ("solution_seed", pa.int64()),
        ("solution_requests", pa.list_(pa.string())),
        ("rescored_hard", pa.bool_()),
        ("difficulty", pa.float32()),
    ]
)


def attempts_table(families: Sequence[Family], model: str, name: str) -> pa.Table:
    """One row per variant, kept or not, with where it came from and what became of it."""
    return pa.Table.from_pylist([_attempt(f, v, model, name) for f in families for v in f.variants], _ATTEMPTS)


def _attempt(family: Family, variant: Variant, model: str, name: str) -> dict[str, Any]:
    kept, solution = variant.outcome == KEPT, variant.solution
    asked = variant.drawn[0].request if variant.drawn else None
    return {
        "example_id": new_id(family, variant) if kept else None,
        "source_id": family.parent.example_id,
        "variant": variant.number,
        "outcome": variant.outcome,
        "detail": variant.detail,
        "parent_problem": family.parent.problem,
        "problem": variant.problem,
        "solution": solution.completion.text.strip() if solution else None,
        "answer": family.parent.answer,
        "drawn": len(variant.drawn),
        **{str(verdict): variant.count(verdict) for verdict in Verdict},
        "verdicts": [str(each.verdict) for each in variant.drawn],
        "completion_tokens": variant.completion_tokens,
        "generator": name,
        "prompt_digest": prompt_digest(variant.request.prompt),
        "sampling": _written(variant.request.sampling),
        "seed": variant.request.seed,
        "proposal_request": variant.request.key(model),
        "solution_prompt_digest": asked and prompt_digest(asked.prompt),
        "solution_sampling": asked and _written(asked.sampling),
        "solution_seed": asked and asked.seed,
        "solution_requests": [each.request.key(model) for each in variant.drawn],
    }


def _written(sampling: Sampling) -> str:
    return json.dumps(sampling.model_dump(), sort_keys=True)
