"""Read evaluation sets as questions with final answers and reference completions."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.data.columns import is_list, parse_columns, parse_roles, recognize
from curate.data.examples import Examples, hash_columns
from curate.data.json_as_text import with_conversations_opened
from curate.data.json_columns import described
from curate.data.preferences import as_learned
from curate.data.readers import Loaded, read
from curate.data.sources import Opened, TextOptions, open_data
from curate.data.turns import Turn, last_learned
from curate.data.wording import nearest, type_name
from curate.dataset_reference import in_braces
from curate.errors import DataWarning, InputError
from curate.evaluation.config import Evaluation, EvaluationSet
from curate.evaluation.grading import graded_by
from curate.graders import Math
from curate.tokenization.default_template import spoken

_ANSWERS = ("answer", "final_answer", "solution", "completion", "response", "output")


@dataclass(frozen=True)
class Questions:
    """The n rows of an evaluation set.

    examples: in the form that a training template takes; their completion is the worked solution, or the final answer
    of a row that has none. texts: (n,) questions. answers: (n,) references for grading, None if there is none.
    completions: (n,) texts to score. answer_only: number of rows whose completion is their final answer.
    sources, levels: (n,) labels, None if a row has none. left_out: number of rows without a question or an answer.
    rows: (n,) position of each in the set as read. refused: records of rows that a model's template refuses.
    grader: None if only losses are measured; loss_only: why.
    """

    name: str
    description: str
    examples: Examples
    texts: list[str]
    answers: list[str | None]
    completions: list[str]
    answer_only: int
    sources: list[str | None]
    levels: list[str | None]
    left_out: int
    rows: list[int] = field(default_factory=list)
    refused: tuple[dict[str, Any], ...] = ()
    grader: Any = None
    loss_only: str | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def without(self, refused: Mapping[int, str]) -> Questions:
        """The questions without some, given as position -> reason for leaving it out."""
        kept_rows = [k for k in range(len(self)) if k not in refused]
        names = ("texts", "answers", "completions", "sources", "levels", "rows")
        lists: dict[str, Any] = {name: [getattr(self, name)[k] for k in kept_rows] for name in names}
        ids = self.examples.ids
        left_out = [{"row": self.rows[k], "example_id": ids[k].as_py(), "reason": refused[k]} for k in sorted(refused)]
        examples = self.examples.take(np.array(kept_rows, np.int64))
        only = _answers_only(self.grader, lists["answers"], lists["completions"])
        return replace(self, examples=examples, answer_only=only, refused=tuple(left_out), **lists)

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits of ids, questions, answers and completions, and of what is read of their rows."""
        columns = {"question": self.texts, "answer": self.answers, "completion": self.completions}
        cells = [(name, pa.array(column, pa.large_string())) for name, column in columns.items()]
        content = [(role, self.examples.column(role)) for role in self.examples.content_roles]
        return hash_columns([("id", self.examples.ids), *cells, *content, *self.examples.interpreted()])

    @cached_property
    def cells(self) -> list[dict[str, Any]]:
        """(n,) column values of each row as Python objects, by name."""
        rows: list[dict[str, Any]] = self.examples.table.to_pylist()
        return rows

    def record(self) -> dict[str, Any]:
        """Description of the set for summary.json."""
        return {"description": self.description, "fingerprint": self.fingerprint, "rows": len(self)}


def as_sets(sets: Any) -> list[EvaluationSet]:
    """Evaluation sets in the form of a list of EvaluationSet. InputError for none, and for duplicate names."""
    if isinstance(sets, Mapping):
        pairs = sets.items()
        evaluation_sets = [
            data.model_copy(update={"name": name}) if isinstance(data, EvaluationSet) else _named(data, name)
            for name, data in pairs
        ]
    else:
        several = [sets] if isinstance(sets, EvaluationSet | str | Path) else sets
        evaluation_sets = [item if isinstance(item, EvaluationSet) else EvaluationSet(data=item) for item in several]
    names = [evaluation_set.title for evaluation_set in evaluation_sets]
    if not names:
        raise InputError("there is no evaluation set; name at least one with --data DATA")
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise InputError(f"two evaluation sets are named {repeated}; give them different names, as in NAME=DATA")
    return evaluation_sets


def _named(data: Any, name: str) -> EvaluationSet:
    options = dict(data) if isinstance(data, dict) else {"data": data}
    return EvaluationSet(**{**options, "name": name})


def read_set(spec: EvaluationSet, settings: Evaluation | None = None, *, generates: bool = True) -> Questions:
    """Read an evaluation set. Raises InputError if it cannot be one, ExternalError if the hub is not reachable.

    settings: of the evaluation. generates: whether its questions are asked; False for a pool of solved examples.
    """
    roles = _named_roles(spec)
    try:
        opened = open_data(spec.data, roles, spec.split, spec.config, TextOptions(spec.encoding, spec.delimiter))
    except InputError as error:
        raise InputError(f"evaluation set {spec.title}: {in_braces(str(error))}") from error
    if generates and spec.split is None and opened.split == "train" and _is_one_of_several(opened):
        warnings.warn(
            f"evaluation set {spec.title} is read from its split train, on which models are trained; {{split: test}} "
            "takes another",
            DataWarning,
            stacklevel=2,
        )
    table, _ = with_conversations_opened(_numbers_as_text(opened.table, roles))
    place = f"evaluation set {spec.title} ({opened.description})"
    try:
        table, learned, asked_shape = as_learned(table, roles, spec.shape)
        shape, columns = _recognized(table, learned, asked_shape)
        loaded = _read(_filled(table, shape, columns), shape, columns, spec)
    except InputError as error:
        raise InputError(f"{place}: {in_braces(str(error))}") from error
    examples = loaded.examples
    texts, completions = questions_and_answers(examples)
    finals = _strings(examples, "final_answer")
    grader, answers, loss_only = graded_by(
        spec.grader, settings if generates else None, place, (texts, completions, finals, examples.table.to_pylist())
    )
    answer_only = _answers_only(grader, answers, completions)
    return Questions(
        spec.title,
        opened.description,
        examples,
        texts,
        answers,
        completions,
        answer_only,
        _strings(examples, "source"),
        _levels(examples.table, spec.level, place),
        len(loaded.rejected),
        loaded.rows.tolist(),
        grader=grader,
        loss_only=loss_only,
    )


def _answers_only(grader: Any, answers: list[str | None], completions: list[str]) -> int:
    """Use the final answer as the completion of rows without a worked solution."""
    if not isinstance(grader, Math):
        return 0
    return sum(answer == text.strip() for answer, text in zip(answers, completions, strict=True))


def _is_one_of_several(opened: Opened) -> bool:
    """Whether the dataset may have other splits than the one that was read."""
    return opened.kind == "hub" or f"split {opened.split} of" in (opened.note or "")


def _numbers_as_text(table: pa.Table, roles: Mapping[str, str]) -> pa.Table:
    """The table with numeric answer columns converted to text."""
    chosen = {name for role, name in roles.items() if role in ("completion", "output", "final_answer")}
    for k, column in enumerate(table.schema):
        kind = column.type
        if (column.name in chosen or column.name.casefold() in _ANSWERS) and (
            pa.types.is_integer(kind) or pa.types.is_floating(kind)
        ):
            table = table.set_column(k, column.name, table.column(k).cast(pa.large_string()))
    return table


def _recognized(table: pa.Table, roles: Mapping[str, str], shape: str | None) -> tuple[str, dict[str, str]]:
    """Detect shape and roles; a table of bare final answers counts as questions and answers too."""
    # JSON columns that hold lists count as lists.
    pairs = zip(table.schema, described(table), strict=True)
    schema = pa.schema([as_read if is_list(as_read.type) else field for field, as_read in pairs])
    try:
        shape_and_roles = recognize(schema, roles, shape)
    except InputError:
        by_name = (name for name in table.column_names if name.casefold() == "final_answer")
        final = roles.get("final_answer") or next(by_name, None)
        if final is None or "completion" in roles:
            raise
        shape_and_roles = recognize(schema, {**roles, "completion": final}, shape)
    if shape_and_roles[0] == "text":
        raise InputError("rows of text alone have no question; name the columns: columns prompt=...,completion=...")
    return shape_and_roles


def _filled(table: pa.Table, shape: str, columns: Mapping[str, str]) -> pa.Table:
    """The table with the final answer in place of each missing worked solution."""
    if shape == "messages" or "final_answer" not in columns:
        return table
    name = columns["output" if shape == "instruction" else "completion"]
    solutions = table[name].cast(pa.large_string())
    blank = pc.equal(pc.utf8_trim_whitespace(pc.fill_null(solutions, "")), "")
    finals = table[columns["final_answer"]].cast(pa.large_string())
    return table.set_column(table.column_names.index(name), name, pc.if_else(blank, finals, solutions))


def _read(table: pa.Table, shape: str, columns: Mapping[str, str], spec: EvaluationSet) -> Loaded:
    if "id" in columns and "id" not in _named_roles(spec):
        # An id column recognized by name only: if it cannot be the id, ids are made from the content.
        columns = {role: name for role, name in columns.items() if role != "id"}
    columns = {**columns, **{role: "" for role, name in _named_roles(spec).items() if not name}}  # stays switched off
    chosen: dict[str, Any] = {"where": spec.where, "limit": spec.limit, "seed": spec.seed}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # it would recommend the rows of the training split
        loaded = read(table, columns=columns, shape=shape, on_bad_row="drop", allow_curated=True, **chosen)
    _warn_of_splits(loaded.examples.table, spec)
    return loaded


def _named_roles(spec: EvaluationSet) -> dict[str, str]:
    columns = parse_columns(spec.columns) if isinstance(spec.columns, str) else dict(spec.columns or {})
    return columns | parse_roles(spec.role)


def _warn_of_splits(table: pa.Table, spec: EvaluationSet) -> None:
    if "split" not in table.column_names or "split" in (spec.where or "") or pa.types.is_nested(table["split"].type):
        return
    counts = Counter(table["split"].cast(pa.large_string()).to_pylist())
    counts.pop(None, None)
    if len(counts) > 1:
        best = next((name for name in ("test", "validation") if name in counts), min(counts, key=lambda n: counts[n]))
        splits = ", ".join(f"{name} {count:,}" for name, count in counts.most_common(6))
        warnings.warn(
            f"evaluation set {spec.title}: column 'split' has several values ({splits}) and all rows are used; "
            f"{{where: split={best}}} takes one",
            DataWarning,
            stacklevel=2,
        )


def questions_and_answers(examples: Examples) -> tuple[list[str], list[str]]:
    """(n,) questions and (n,) reference completions; of a conversation its last learned answer, calls as text."""
    n = len(examples)
    if examples.shape == "messages":
        pairs = [_last_exchange(turns) for turns in examples.conversations(0, n)]
        return [question for question, _ in pairs], [answer for _, answer in pairs]
    return examples.questions(0, n), examples.answers(0, n)


def _last_exchange(turns: list[Turn]) -> tuple[str, str]:
    last = last_learned(turns)
    user_turns = [turn["content"] for turn in turns[:last] if turn["role"] == "user"]
    answer, question = turns[last], user_turns[-1] if user_turns else ""
    if answer.get("tool_calls"):
        return question, spoken({"content": answer["content"], "tool_calls": answer["tool_calls"]})
    return question, answer["content"]


def _strings(examples: Examples, role: str) -> list[str | None]:
    if role not in examples.columns:
        return [None] * len(examples)
    cells = examples.column(role).cast(pa.large_string()).to_pylist()
    return [cell.strip() or None if cell is not None else None for cell in cells]


def _levels(table: pa.Table, column: str | None, place: str) -> list[str | None]:
    name = column or next((name for name in table.column_names if name.casefold() == "level"), None)
    if name is None:
        return [None] * table.num_rows
    if name not in table.column_names:
        raise InputError(f"{place}: there is no column {name!r} for the level{nearest(name, table.column_names)}")
    if pa.types.is_nested(table[name].type):
        if column is None:
            return [None] * table.num_rows
        raise InputError(
            f"{place}: column {name!r} holds {type_name(table[name].type)}, which is not a level; name another one"
        )
    return [None if cell is None else str(cell) for cell in table[name].to_pylist()]
