"""Screening of new rows: none that collides enters, and what is measured is recorded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from augmenters import Synthesize
from curate import InputError, Run, read
from curate.gate.gate import Gate
from curate.generators.requests import Completion, Request
from tests.fixtures.synthesis_pipelines import COLUMNS, Writer, pipeline, rows, run, synthetic


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("proxies")


def test_rows_that_hit_an_evaluation_set_never_get_through(cache: Path, tmp_path: Path) -> None:
    free = synthetic(run(cache, Synthesize(generator=Writer())))
    held_out = tmp_path / "test.parquet"
    pq.write_table(pa.table({"question": [free[0]["question"]], "answer": ["1"]}), held_out)
    curated = run(cache, Synthesize(generator=Writer()), gate=Gate(evaluation=(str(held_out),)))
    assert free[0]["question"] not in {row["question"] for row in synthetic(curated)}
    hits = [row for row in curated.realized[0].summary.attempts.to_pylist() if "evaluation" in row["outcome"]]
    assert hits
    assert all("test.parquet" in row["detail"] for row in hits)


def test_a_third_partys_rows_pass_the_same_gate(cache: Path, tmp_path: Path) -> None:
    """Even where an augmenter looks at no gate at all."""
    from augmenters import Replay

    other = rows(20).slice(0, 20)
    questions = ["Which of the seven seas is the saltiest of all, by weight of salt per litre of water?"] * 20
    other = other.set_column(0, "question", pa.array([f"{text} Try {k}." for k, text in enumerate(questions)]))
    pq.write_table(other, tmp_path / "other.parquet")
    pq.write_table(other.slice(0, 20), tmp_path / "test.parquet")
    gate = Gate(evaluation=(str(tmp_path / "test.parquet"),))
    replay = Replay(data=str(tmp_path / "other.parquet"), share=0.1, columns=COLUMNS)
    assert len(run(cache, replay).realized[0].rows) == 7
    curated = run(cache, replay, gate=gate)
    assert len(curated.realized[0].rows) == 0
    assert [row["stage"] for row in curated.realized[0].rejected] == ["gate"] * 7


def test_only_those_still_hard_are_kept_if_asked_for(cache: Path) -> None:
    @dataclass(frozen=True)
    class Length:
        """Long solutions are hard."""

        def score(self, examples: Any, run: Run) -> Any:
            return np.array([float(len(text)) for text in examples.texts("completion", 0, len(examples))])

    @dataclass(frozen=True)
    class Wordy(Writer):
        name: str = "wordy"

        def complete(self, request: Request) -> Completion:
            found = super().complete(request)
            return found if request.seed % 2 else Completion("Let me think. " * 9 + found.text, "stop", 80, 20)

    fields: dict[str, Any] = {"scorer": Length()}
    every = run(cache, Synthesize(generator=Wordy(), noise_guard=0), **fields)
    only = run(cache, Synthesize(generator=Wordy(), noise_guard=0, keep="hard"), **fields)
    expected = [row["example_id"] for row in synthetic(every) if row["rescored_hard"]]
    assert sorted(row["example_id"] for row in synthetic(only)) == sorted(expected)
    assert 0 < len(expected) < len(synthetic(every))
    assert only.realized[0].summary.record["outcomes"]["not hard when measured"] == len(synthetic(every)) - len(
        expected
    )
    assert only.realized[0].summary.record["rescored"] == every.realized[0].summary.record["rescored"]


def test_with_given_scores_new_rows_are_not_measured_and_it_says_so(cache: Path) -> None:
    difficulty = np.arange(60, dtype=np.float32)
    data = read(rows(), columns=COLUMNS)
    synthesize = Synthesize(generator=Writer(), noise_guard=0)
    curated = pipeline(synthesize).run(data, scores=difficulty, cache=cache)
    assert all(row["hard"] is None and row["difficulty"] is None for row in synthetic(curated))
    assert "new_rows_not_measured" in {warning.code for warning in curated.warnings}
    only = synthesize.model_copy(update={"keep": "hard", "generator": Writer(name="unasked")})
    with pytest.raises(InputError, match="not measured"):
        pipeline(only).run(data, scores=difficulty, cache=cache)
