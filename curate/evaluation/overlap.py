"""Overlap between evaluation sets and the training data of a fine-tuned run."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from curate.data.examples import Examples, whole
from curate.errors import DataWarning, ExternalError, InputError
from curate.evaluation.sets import Questions
from curate.finetuning.data import training_data
from curate.gate.compared_text import compared_texts
from curate.gate.gate import Gate
from curate.storage.places import expanded, is_url

# Runs of 8 words are common phrases in competition problems; runs of 13 are copies.
_NGRAM = 13


class Overlap:
    """Per evaluation set, what its rows share with the training rows; or why this is unknown.

    counts: {set: {rule: {"training_rows", "evaluation_rows"}}}; evaluation_rows is a lower bound, since only one of the
    evaluation rows that a training row matches is named.
    """

    def __init__(self, counts: dict[str, dict[str, dict[str, int]]], unknown: str | None = None) -> None:
        self.counts, self.unknown = counts, unknown

    def record(self, name: str) -> dict[str, Any]:
        """The overlap as a value of summary.json."""
        return {"unknown": self.unknown} if self.unknown else {"rules": self.counts.get(name, {})}


def overlap(run: dict[str, Any], sets: Sequence[Questions]) -> Overlap:
    """What evaluation sets share with the training data of a run.json, which is read again from its original place."""
    rows = _training_rows(run)
    if isinstance(rows, str):
        return Overlap({}, rows)
    evaluation = []
    for questions in sets:
        table = pa.table({"id": questions.examples.ids, "question": pa.array(questions.texts, pa.large_string())})
        evaluation.append({"data": table, "name": questions.name, "columns": {"text": "question", "id": "id"}})
    index = Gate(evaluation=tuple(evaluation), near_duplicate=None, ngrams=(_NGRAM,)).open()
    texts = [text for text in whole(compared_texts(rows.readable, rows.shape, rows.columns)).to_pylist() if text]
    copies = Counter(texts)  # copies of a row are checked once and counted as often as they occur
    training: dict[tuple[str, str], int] = defaultdict(int)
    question_rows: dict[tuple[str, str], set[str]] = defaultdict(set)
    for text, hits in zip(copies, index.check(list(copies)), strict=True):
        for hit in hits:
            key = (hit.dataset, hit.kind.removeprefix("evaluation "))
            training[key] += copies[text]
            question_rows[key].add(hit.id)
    counts: dict[str, dict[str, dict[str, int]]] = {evaluation_set.name: {} for evaluation_set in sets}
    for name, rule in sorted(training):
        key = (name, rule)
        counts[name][rule] = {"training_rows": training[key], "evaluation_rows": len(question_rows[key])}
    return Overlap(counts)


def _training_rows(run: dict[str, Any]) -> Examples | str:
    """The training rows of a run, or why they are not available."""
    described = run["data"]
    data = described.get("description")
    if not isinstance(data, str) or not (is_url(data) or expanded(data).exists()):
        return f"the training data ({data}) is no longer there"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            examples = training_data(data, described.get("reading") or {}).examples
    except (InputError, ExternalError) as error:
        return f"the training data cannot be read again ({error})"
    if examples.fingerprint() != described.get("fingerprint"):
        return f"the training data ({data}) is no longer what the run was trained on"
    return examples


def warn_of_overlap(shared: Overlap, sets: Sequence[Questions]) -> None:
    """Warn of each evaluation set that shares text with the training data, with counts, and of sets for which this is
    unknown."""
    if shared.unknown:
        message = f"whether the training data has rows of the evaluation sets is unknown: {shared.unknown}"
        warnings.warn(message, DataWarning, stacklevel=2)
    for questions in sets:
        rules = shared.counts.get(questions.name)
        if not rules:
            continue
        listing = ", ".join(f"{count['training_rows']:,} {rule}" for rule, count in rules.items())
        rows = max(count["evaluation_rows"] for count in rules.values())
        warnings.warn(
            f"evaluation set {questions.name}: training rows share text with at least {rows:,} of its "
            f"{len(questions):,} questions ({listing}); scores on them flatter the run, and "
            "`curate gate --clean` removes such rows",
            DataWarning,
            stacklevel=2,
        )
