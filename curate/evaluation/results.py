"""Results of an evaluation: write and read a summary and a table with one row per question."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import InputError
from curate.evaluation.answers import Answer
from curate.evaluation.nll import Scored
from curate.evaluation.sets import Questions
from curate.storage.atomic import publishing
from curate.storage.places import arrow_path
from curate.storage.records import check_files, file_checksums, read_record, record_text
from curate.verify import Verdict

_SCHEMA = pa.schema(
    [
        ("example_id", pa.string()),
        ("source", pa.string()),
        ("level", pa.string()),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("accuracy", pa.float64()),
        ("verdicts", pa.list_(pa.string())),
        ("extracted", pa.list_(pa.string())),
        ("completions", pa.list_(pa.string())),
        ("nll", pa.float64()),
        ("nll_tokens", pa.int32()),
    ]
)
_FROM_ANSWERS = ("accuracy", "verdicts", "extracted", "completions")
_FROM_SCORES = ("nll", "nll_tokens")


@dataclass(frozen=True)
class EvaluationResult:
    """summary: content of summary.json. rows: one per question.

    Columns: example_id, source, level, question, answer, accuracy (share of right samples, null where none was drawn),
    verdicts ("right", "wrong", "undecided", or "refused" if the prompt fills the context), extracted and completions
    (one per sample), nll (nats per token of the reference completion, null where none was scored), nll_tokens.
    """

    summary: dict[str, Any]
    rows: pa.Table


def rows_table(
    questions: Questions,
    answers: Sequence[Sequence[Answer]] | None,
    scored: Scored | None,
    known: pa.Table | None = None,
) -> pa.Table:
    """The table of rows; columns not computed now are taken from `known`, an earlier result of the same protocol."""
    columns: dict[str, Any] = {
        "example_id": questions.examples.ids,
        "source": questions.sources,
        "level": questions.levels,
        "question": questions.texts,
        "answer": questions.answers,
    }
    if answers is not None:
        columns["accuracy"] = [
            sum(answer.verdict == Verdict.right for answer in row) / len(row) if row else None for row in answers
        ]
        columns["verdicts"] = [[_verdict(answer) for answer in row] for row in answers]
        columns["extracted"] = [[answer.extracted for answer in row] for row in answers]
        columns["completions"] = [[answer.completion.text for answer in row] for row in answers]
    if scored is not None:
        columns["nll"] = [None if math.isnan(loss) else loss for loss in scored.losses.tolist()]
        counts = zip(scored.counts.tolist(), columns["nll"], strict=True)
        columns["nll_tokens"] = [None if loss is None else count for count, loss in counts]
    n = len(questions)
    for name in (*_FROM_ANSWERS, *_FROM_SCORES):
        if name not in columns:
            columns[name] = known[name].combine_chunks() if known is not None else [None] * n
    arrays = [
        column.cast(field.type) if isinstance(column, pa.Array) else pa.array(column, field.type)
        for field, column in ((field, columns[field.name]) for field in _SCHEMA)
    ]
    return pa.Table.from_arrays(arrays, schema=_SCHEMA)


def _verdict(answer: Answer) -> str:
    return "refused" if answer.completion.finish_reason == "refused" else str(answer.verdict.value)


def totals(rows: pa.Table) -> dict[str, Any]:
    """rows, accuracy (mean over graded rows), undecided (share of samples), nll (nats per token over all tokens),
    nll_rows (mean over rows of their nll); null if there is nothing to average."""
    graded = [value for value in rows["accuracy"].to_pylist() if value is not None]
    verdicts = [verdict for row in rows["verdicts"].to_pylist() for verdict in row or []]
    scored = [pair for pair in zip(rows["nll"].to_pylist(), rows["nll_tokens"].to_pylist(), strict=True) if pair[1]]
    tokens = sum(count for _, count in scored)
    return {
        "rows": rows.num_rows,
        "graded": len(graded),
        "accuracy": math.fsum(graded) / len(graded) if graded else None,
        "undecided": verdicts.count(Verdict.undecided.value) / len(verdicts) if verdicts else None,
        "nll": math.fsum(loss * count for loss, count in scored) / tokens if scored else None,
        "nll_rows": math.fsum(loss for loss, _ in scored) / len(scored) if scored else None,
    }


def grouped(rows: pa.Table, column: str) -> list[dict[str, Any]]:
    """`totals` by label of a column; empty if no row has a label."""
    labels = rows[column].to_pylist()
    groups = sorted({label for label in labels if label is not None}, key=_natural)
    return [{column: group, **totals(rows.filter(pa.array([label == group for label in labels])))} for group in groups]


def _natural(label: str) -> tuple[Any, ...]:
    """Sort key: level 10 comes after level 9."""
    digits = "".join(mark for mark in label if mark.isdigit())
    return (int(digits[:9] or 0), label)


def write_result(result: EvaluationResult, place: Path) -> None:
    """Write both files atomically, replacing an earlier result."""

    with publishing(place) as folder:
        pq.write_table(result.rows, arrow_path(folder / "rows.parquet"), compression="zstd")
        summary = {**result.summary, "files": file_checksums(folder, ["rows.parquet"])}
        (folder / "summary.json").write_text(record_text(summary), encoding="utf-8")


def read_result(place: Path) -> EvaluationResult:
    """Read one evaluation. Raises InputError if there is none."""
    remedy = f"remove {place} and evaluate again"
    summary = read_record(place / "summary.json", remedy, "evaluation")
    check_files(place, summary, remedy)
    del summary["files"]
    return EvaluationResult(summary, pq.read_table(arrow_path(place / "rows.parquet")))


def read_evaluations(directory: Path | str) -> dict[str, EvaluationResult]:
    """All evaluations of a fine-tuned run, or those in a folder written by `curate evaluate --out`, by name.

    Raises InputError if there is none, or if one cannot be read.
    """
    directory = Path(directory)
    place = directory / "evaluation" if (directory / "evaluation").is_dir() else directory
    folders = sorted(path.parent for path in place.glob("*/summary.json"))
    if not folders:
        word = shlex.quote(str(directory))
        raise InputError(f"{directory} holds no evaluation; run `curate evaluate {word} --data DATA` first")
    return {path.name: read_result(path) for path in folders}
