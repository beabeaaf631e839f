"""Choose training rows and evaluation questions before any arm is made."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.console.progress import Progress
from curate.data.examples import Examples
from curate.data.preferences import without_pair_roles
from curate.data.readers import Loaded
from curate.engine.protocol import Engine
from curate.errors import InputError
from curate.evaluation.config import Evaluation, EvaluationSet
from curate.evaluation.sets import Questions, read_set
from curate.gate.compared_text import compared_texts
from curate.gate.gate import Gate
from curate.seeds import derive_seed
from curate.storage.atomic import publishing
from curate.storage.places import arrow_path
from curate.types import BoolArray
from curate.validation.config import Validation

HELD_OUT = "held-out"
_MOST_HELD_OUT = 1000
_LARGEST_SHARE = 0.3  # maximum share of rows held out if the requested share is too small
_FEWEST = 20  # minimum number of evaluation rows; with fewer, intervals are useless
_BLOCK = 16_384


@dataclass(frozen=True)
class Prepared:
    """loaded: rows to curate and train on. sets: evaluation sets. evaluation: its settings. gate: the recipe's,
    with the questions of all sets. questions: fingerprint of each set's questions, by name. facts: JSON for run.json.
    warnings: lines for the user."""

    loaded: Loaded
    sets: tuple[EvaluationSet, ...]
    evaluation: Evaluation
    gate: Gate
    questions: dict[str, str]
    facts: dict[str, Any]
    warnings: tuple[str, ...]

    def moved(self, source: Path, out: Path) -> Prepared:
        """The same with paths of files in `source` replaced by `out`."""

        def moved_path(data: Any) -> Any:
            inside = isinstance(data, str) and Path(data).is_relative_to(source)
            return str(out / Path(data).relative_to(source)) if inside else data

        for folder in source.iterdir():
            with publishing(out / folder.name) as copy:
                shutil.copytree(folder, copy, dirs_exist_ok=True)
        sets = tuple(
            evaluation_set.model_copy(update={"data": moved_path(evaluation_set.data)}) for evaluation_set in self.sets
        )
        gate_sets = tuple(
            {**entry, "data": moved_path(entry["data"])} if isinstance(entry, dict) else entry
            for entry in self.gate.evaluation
        )
        return replace(self, sets=sets, gate=self.gate.model_copy(update={"evaluation": gate_sets}))


def prepare(
    loaded: Loaded, settings: Validation, out: Path, progress: Progress, engine: Engine | None = None
) -> Prepared:
    """Hold out rows if no evaluation set is given, else find rows that share text with one.

    engine: its workers compare the rows; None = this process.
    Raises InputError for sets that cannot be read, and if too few rows are left.
    """
    if not settings.sets:
        return _hold_out(loaded, settings, out, progress, engine)
    with progress.stage("read evaluation sets"):
        sets_read = [read_set(evaluation_set, settings.evaluation) for evaluation_set in settings.sets]
    for questions in sets_read:
        _check_comparable(questions, settings.evaluation)
    gate = _with_questions(settings.pipeline.gate, sets_read, out)
    hits = _hits(loaded, gate.model_copy(update={"near_duplicate": None}), progress, engine)
    facts, warnings = _contamination(hits, sets_read, len(loaded.examples))
    hit = np.array([bool(hit) for hit in hits], np.bool_)  # (n,)
    if settings.drop_contaminated and hit.any():
        loaded = _without(loaded, hit, "shares text with an evaluation set")
        warnings = tuple(f"{line} They are left out." for line in warnings)
    else:
        warnings = tuple(f"{line} --drop-contaminated leaves them out." for line in warnings)
    if settings.evaluation.generate:
        loss_only = [questions for questions in sets_read if questions.loss_only]
        warnings += tuple(f"{questions.name}: loss only: {questions.loss_only}." for questions in loss_only)
    sets = {questions.name: {"rows": len(questions), "description": questions.description} for questions in sets_read}
    facts = {"sets": sets, "contaminated": facts, "dropped": int(hit.sum()) if settings.drop_contaminated else 0}
    return Prepared(loaded, settings.sets, settings.evaluation, gate, _fingerprints(sets_read), facts, warnings)


def _fingerprints(questions: Sequence[Questions]) -> dict[str, str]:
    return {question.name: question.fingerprint for question in questions}


# -- evaluation sets that are given -----------------------------------------------------------------------------


def _check_comparable(questions: Questions, evaluation: Evaluation) -> None:
    """Raise InputError for a set with too few rows for one of the metrics, which the comparison would reject."""
    answered = sum(answer is not None for answer in questions.answers) if evaluation.generate else 0
    scored = sum(bool(text) for text in questions.completions) if evaluation.nll else 0
    if 1 in (answered, scored) or not answered + scored:
        raise InputError(
            f"evaluation set {questions.name} has {answered} rows with a final answer to compare and {scored} with a "
            "completion to score; give at least 2 of one, and not 1 of the other"
        )


def _with_questions(gate: Gate, sets: Sequence[Questions], out: Path) -> Gate:
    """The gate with the evaluation questions, written as files so that a recipe can name them."""
    gate_sets: list[str | dict[str, Any]] = list(gate.evaluation)
    place = out / "questions"

    with publishing(place) as folder:
        for questions in sets:
            table = pa.table({"id": questions.examples.ids, "text": pa.array(questions.texts, pa.large_string())})
            pq.write_table(table, arrow_path(folder / f"{questions.name}.parquet"), compression="zstd")
    gate_sets += [{"data": str(place / f"{questions.name}.parquet"), "name": questions.name} for questions in sets]
    return gate.model_copy(update={"evaluation": tuple(gate_sets)})


def _hits(loaded: Loaded, gate: Gate, progress: Progress, engine: Engine | None) -> list[list[Any]]:
    """Matches of each row's prompt in the gate's index."""
    examples = loaded.examples
    texts = compared_texts(examples.readable, examples.shape, examples.columns, gate.part)
    hits: list[list[Any]] = []
    with progress.stage("compare with evaluation sets", len(examples)) as stage:
        index = gate.open()
        size = _BLOCK if engine is None else max(len(texts), 1)  # workers get all at once, in parts
        for low in range(0, len(texts), size):
            block = [text or "" for text in texts[low : low + size].to_pylist()]
            hits += index.check(block, engine)
            stage.advance(len(block))
    return hits


def _contamination(
    hits: list[list[Any]], sets: Sequence[Questions], rows: int
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Per evaluation set: number of rows of the data that match it, by kind, and number of its questions matched."""
    facts: dict[str, Any] = {}
    lines = []
    for questions in sets:
        set_hits = [[hit for hit in row if hit.dataset == questions.name] for row in hits]
        count = sum(bool(row) for row in set_hits)
        kinds = sorted({hit.kind for row in set_hits for hit in row})
        by_kind = {kind: sum(any(hit.kind == kind for hit in row) for row in set_hits) for kind in kinds}
        questions_hit = len({hit.id for row in set_hits for hit in row})
        facts[questions.name] = {"rows": count, "by_kind": by_kind, "questions_hit": questions_hit}
        if count:
            counts = ", ".join(f"{kind.removeprefix('evaluation ')} {number:,}" for kind, number in by_kind.items())
            lines.append(f"{count:,} of {rows:,} rows share text with evaluation set {questions.name} ({counts}).")
    return facts, tuple(lines)


def _without(loaded: Loaded, left_out: BoolArray, reason: str) -> Loaded:
    """The rows that are not in `left_out` (n,); the others are recorded as rejected."""
    remaining = np.flatnonzero(~left_out)  # (rows kept,)
    if len(remaining) < 1:
        raise InputError(f"no row is left: every one {reason}; look at them with `curate gate`")
    ids, rows = loaded.examples.ids, loaded.rows
    records = [
        {"row": int(rows[k]), "example_id": ids[k].as_py(), "stage": "validation", "reason": reason, "content": None}
        for k in np.flatnonzero(left_out).tolist()
    ]
    return replace(
        loaded, examples=loaded.examples.take(remaining), rows=rows[remaining], rejected=[*loaded.rejected, *records]
    )


# -- rows held out ------------------------------------------------------------------------------------------------


def _hold_out(loaded: Loaded, settings: Validation, out: Path, progress: Progress, engine: Engine | None) -> Prepared:
    """Hold out a seeded sample of rows, not near-duplicates of other rows, before anything else reads them."""
    examples, gate = loaded.examples, settings.pipeline.gate
    if examples.shape == "text":
        raise InputError("rows of text alone have no question to hold out; name evaluation sets with --evaluation")
    n = len(examples)
    requested = count = min(round(settings.held_out * n), _MOST_HELD_OUT)
    most = max(count, min(int(_LARGEST_SHARE * n), _MOST_HELD_OUT))
    chosen, near = _drawn(examples, count, settings, progress, engine)
    while (lacking := _FEWEST - int((chosen & ~near).sum())) > 0 and count < most:
        count = min(max(count + lacking, round(1.25 * count)), most)
        chosen, near = _drawn(examples, count, settings, progress, engine)
    clean = np.flatnonzero(chosen & ~near)  # (rows held out,)
    if len(clean) < _FEWEST:
        reason, remedies = "", ["name evaluation sets with --evaluation"]
        if near.any():
            reason = f" ({int(near.sum()):,} of the {count:,} drawn are near to rows that stay)"
        if n >= 2 * _FEWEST:
            remedies.append("hold out more with --held-out")
        if near.any() and gate.near_duplicate is not None:
            remedies.append("allow near-duplicates with --set gate.near_duplicate=null")
        raise InputError(
            f"{len(clean)} of {n:,} rows can be held out{reason}, too few to compare (at least {_FEWEST}); "
            + " or ".join(remedies)
        )
    sample = examples.take(clean)
    with publishing(out / HELD_OUT) as folder:
        pq.write_table(sample.readable, arrow_path(folder / "rows.parquet"), compression="zstd")
    path = str(out / HELD_OUT / "rows.parquet")
    held_out_set = EvaluationSet(
        data=path, name=HELD_OUT, columns=without_pair_roles(examples.columns), shape=examples.shape
    )
    questions = read_set(held_out_set, settings.evaluation)
    gate = _with_questions(gate, [questions], out)
    loaded = _without(loaded, chosen, "held out for evaluation")
    evaluation, warnings = settings.evaluation, []
    if count > requested:
        warnings.append(
            f"{count:,} of {n:,} rows are held out, more than the share of {settings.held_out:g}, because fewer than "
            f"{_FEWEST} questions are too few; name evaluation sets with --evaluation to train on all rows"
        )
    if evaluation.generate and sum(answer is not None for answer in questions.answers) < len(questions) / 2:
        evaluation = evaluation.model_copy(update={"generate": False, "nll": True})
        reason = questions.loss_only or "most rows have no final answer, or nothing else to grade by"
        warnings.append(f"{HELD_OUT}: loss only: {reason}")
    facts = {"held_out": {"rows": len(clean), "near_to_others": int(near.sum()), "share": settings.held_out}}
    return Prepared(loaded, (held_out_set,), evaluation, gate, _fingerprints([questions]), facts, tuple(warnings))


def _drawn(
    examples: Examples, count: int, settings: Validation, progress: Progress, engine: Engine | None
) -> tuple[BoolArray, BoolArray]:
    """(n,) bool each: `count` rows drawn at random, and which of those are near-duplicates of a remaining row."""
    gate, chosen, near = settings.pipeline.gate, np.zeros(len(examples), np.bool_), np.zeros(len(examples), np.bool_)
    random = np.random.default_rng(derive_seed(settings.pipeline.seed, "held out"))
    chosen[random.choice(len(examples), count, replace=False)] = True
    remaining, drawn = np.flatnonzero(~chosen), np.flatnonzero(chosen)  # (n - count,), (count,)
    texts = compared_texts(examples.readable, examples.shape, examples.columns, gate.part)
    held_texts = texts.take(pa.array(drawn)).to_pylist()
    with progress.stage("hold rows out", count):
        index = gate.model_copy(update={"evaluation": ()}).open(examples.take(remaining), engine=engine)
        hits = index.check([text or "" for text in held_texts])
    remaining_texts = set(texts.take(pa.array(remaining)).to_pylist())
    near[drawn] = [bool(row) or text in remaining_texts for row, text in zip(hits, held_texts, strict=True)]
    return chosen, near
