"""Cost of arms, and settings in which runs differ beside the data."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from curate.comparison.compare import Comparison, compare
from tests.fixtures.studies import row_of, write_run


def test_cost_counts_the_curation_once_and_gives_gain_per_compute(compared: Comparison) -> None:
    arms = {each["arm"]: each for each in compared.record["arms"]}
    assert arms["original"]["flops_ratio"] == 1
    extra = 6 * 70_000_000 * 400_000
    assert arms["hard"]["flops_total"] == pytest.approx(1.1e15 + extra)
    assert arms["hard"]["seconds_total"] == pytest.approx(901 + 120)
    gain = row_of(compared, "hard")["difference"]
    assert arms["hard"]["gain_per_1e15_flops"] == pytest.approx(gain / (1.1 + extra / 1e15))
    assert arms["original"]["gain_per_hour"] is None


def test_other_settings_than_the_data_are_told(small: list[Path]) -> None:
    base = {"use": "AdamW", "eps": 1e-8}
    changed = {"optimizer": {"use": "SAM", "rho": 0.05, "base": base}, "batch_size": 8}
    other = write_run(small[0].parent / "sam", "sam", 0, settings=changed)
    shutil.copytree(small[0] / "evaluation", other / "evaluation")
    found = compare([*small, other])
    assert any(
        note == "Arm sam differs from original in more than the data: batch_size, optimizer."
        for note in found.record["notes"]
    )
