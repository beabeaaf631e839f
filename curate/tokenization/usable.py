"""Check that tokenized rows can be trained on: rendered by the template, with completion text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from curate.data.examples import Examples
from curate.data.readers import Loaded
from curate.errors import InputError
from curate.tokenization.cached import RowValidity
from curate.types import BoolArray, IntArray

# A few rows without an answer are expected; above this share, a setting or a column is probably wrong.
MAX_INVALID = 0.05
_ROUND = 64  # tokens; a suggested max_length is rounded up to a multiple of this


@dataclass(frozen=True)
class Rules:
    """Policy for unusable rows.

    drop: leave out rows that the template refuses, and accept any share of rows without completion text.
    max_length: tokens per row. option: the option that sets it, with N for the number.
    """

    drop: bool
    max_length: int
    option: str = "--set proxy.max_length=N"


def check_usable(rows: RowValidity, examples: Examples, numbers: IntArray, rules: Rules) -> None:
    """Raise InputError for a row that the template refuses, or too many without completion text, unless dropped.

    rows: of the n tokenized examples; numbers: (n,) position of each in the input as read.
    """
    if rows.refused and (not rules.drop or len(rows.refused) == len(rows.valid)):
        first = min(rows.refused)
        remark = f" ({len(rows.refused) - 1:,} more such rows)" if len(rows.refused) > 1 else ""
        remedy = "choose a model whose template accepts it"
        if not rules.drop:
            remedy = f"leave such rows out with --on-bad-row drop, or {remedy}"
        row = f"row {numbers[first]} (counted from 0 in the input)"
        raise InputError(f"{row}: {rows.refused[first]}{remark}; change the row, {remedy}")
    invalid = ~rows.valid
    invalid[list(rows.refused)] = False
    count, usable = int(invalid.sum()), len(rows.valid) - len(rows.refused)
    if count == usable or (count > MAX_INVALID * usable and not rules.drop):
        _refuse_invalid(rows, examples, numbers, invalid, usable, rules)


def _refuse_invalid(
    rows: RowValidity,
    examples: Examples,
    numbers: IntArray,
    invalid: BoolArray,
    usable: int,
    rules: Rules,
) -> None:
    """Raise InputError about rows without completion text. invalid: (n,) mask. usable: rows not refused."""
    count = int(invalid.sum())
    cut = invalid & (rows.completion_cut > 0)
    by_length = 2 * int(cut.sum()) > count
    row = int(np.flatnonzero(cut if by_length else invalid)[0])
    summary = f"{'all ' if count == usable else ''}{count:,} of {usable:,} rows are invalid"
    summary += f" (more than {MAX_INVALID:.0%})" if count < usable else ""
    example = f"row {numbers[row]} (counted from 0 in the input, id {examples.ids[row].as_py()})"
    proceed = "" if count == usable else "; --on-bad-row drop continues without them"
    if by_length:
        untruncated = rows.lengths + rows.prompt_cut + rows.completion_cut
        needed = -(-int(untruncated[cut].max()) // _ROUND) * _ROUND
        raise InputError(
            f"{summary}: no completion text survives max_length = {rules.max_length}, e.g. in {example}; raise it with "
            f"{rules.option.replace('N', str(needed))}{proceed}"
        )
    column = _answer_column(examples)
    raise InputError(
        f"{summary}: they have no completion text, e.g. {example} in column {column!r}; check --columns, or fill or "
        f"remove such rows{proceed}"
    )


def _answer_column(examples: Examples) -> str:
    roles = ("completion", "output", "messages", "text")
    return next(examples.columns[role] for role in roles if role in examples.columns)


def refused_records(refused: Mapping[int, str], examples: Examples, numbers: IntArray) -> list[dict[str, Any]]:
    """Records of rows that a template refuses; see `curate.curated.rejected_table`."""
    ids = examples.ids
    return [
        {"row": int(numbers[k]), "example_id": ids[k].as_py(), "stage": "template", "reason": reason, "content": None}
        for k, reason in sorted(refused.items())
    ]


def without_refused(loaded: Loaded, refused: Mapping[int, str]) -> Loaded:
    """The rows that the template renders; the others are recorded as rejected."""
    if not refused:
        return loaded
    accepted = np.setdiff1d(np.arange(len(loaded.examples)), list(refused))  # (accepted rows,)
    records = refused_records(refused, loaded.examples, loaded.rows)
    return replace(
        loaded,
        examples=loaded.examples.take(accepted),
        rows=loaded.rows[accepted],
        rejected=[*loaded.rejected, *records],
        as_read=loaded.as_read or loaded,
    )
