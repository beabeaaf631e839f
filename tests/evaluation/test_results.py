"""Results: rows, their totals and the summary."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import pytest

from curate.evaluation.config import Evaluation, EvaluationSet
from curate.evaluation.evaluate import evaluate
from tests.fixtures.evaluation import LOCAL, Said, table


def test_accuracy_is_the_share_of_right_samples_and_undecided_is_not_right() -> None:
    said = {
        "12 plus": ["#### 42", "The answer is 42.0", "#### 41", "I wonder about all of it"],
        "pears": ["#### 7"] * 4,
    }

    def answers(prompt: str, k: int) -> str:
        return next((texts[k] for key, texts in said.items() if key in prompt), "no idea")

    result = evaluate(
        Said(answers), EvaluationSet(data=table(), name="q"), Evaluation(samples=4, temperature=0.7, nll=False)
    )["q"]
    assert result.rows["accuracy"].to_pylist() == [0.5, 1.0, 0.0]
    assert result.rows["verdicts"].to_pylist()[0] == ["right", "right", "wrong", "undecided"]
    assert result.rows["extracted"].to_pylist()[0] == ["42", "42.0", "41", None]
    assert result.rows["nll"].to_pylist() == [None] * 3
    found = result.summary
    assert found["accuracy"] == pytest.approx(0.5)
    assert found["undecided"] == pytest.approx(5 / 12)
    assert found["nll"] is found["nll_rows"] is None
    assert [(each["level"], each["rows"], each["accuracy"]) for each in found["levels"]] == [
        ("1", 1, 0.5),
        ("2", 1, 1.0),
        ("10", 1, 0.0),
    ]
    assert [(each["source"], each["rows"], each["accuracy"]) for each in found["sources"]] == [
        ("a", 2, 0.25),
        ("b", 1, 1.0),
    ]


def test_numbers_of_a_summary_are_json_and_nothing_is_invented(folder: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(folder, {"q": table()}, Evaluation(**LOCAL), out=tmp_path, device="cpu")
    found = json.loads((tmp_path / "q" / "summary.json").read_text())
    needed = {"kind", "name", "data", "protocol", "settings", "rows", "accuracy", "undecided", "nll", "nll_rows"}
    assert needed | {"cut_off", "generator", "tokens", "seconds", "versions"} <= set(found)
    assert set(found["tokens"]) == {"prompt", "generated", "scored"}
    assert len(found["protocol"]) == 32
    assert all(math.isfinite(found[name]) for name in ("nll", "nll_rows", "accuracy", "undecided", "cut_off"))
