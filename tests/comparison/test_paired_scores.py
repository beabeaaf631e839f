"""Scores of all runs on the examples that they share."""

from __future__ import annotations

import shutil
from pathlib import Path

from curate.comparison.compare import compare
from tests.fixtures.studies import write_evaluation


def test_examples_not_measured_everywhere_are_left_out_and_told(small: list[Path]) -> None:
    place = small[0] / "evaluation" / "gsm8k"
    shutil.rmtree(place)
    write_evaluation(small[0], "gsm8k", [1.0, 0.0] * 9, [1.0, 2.0] * 9)
    found = compare(small)
    assert found.primary[0]["examples"] == 18
    assert "2 examples of gsm8k are left out of accuracy: not every run has them." in found.record["notes"]
