"""Loss and answers, mixture and balanced, in one row: in the record, on the terminal and on the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.cli.compare import print_comparison
from curate.comparison.compare import Comparison, compare
from curate.comparison.side_by_side import cells
from tests.fixtures.studies import row_of, write_study


def test_the_four_numbers_are_those_of_the_differences(
    compared: Comparison, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = compared.record["side_by_side"]
    (hard,) = (each for each in rows if each["arm"] == "hard" and each["baseline"] == "original")
    for metric, name in (("nll", "loss"), ("accuracy", "answers")):
        for whole, called in (("pooled", "mixture"), ("mean of groups", "balanced")):
            found = row_of(compared, "hard", whole, metric)
            assert hard[name][called] == {key: found[key] for key in hard[name][called]}
    controls = {each["baseline"] for each in compared.record["against_controls"]}
    assert controls == {each["baseline"] for each in rows} - {"original"} != set()
    print_comparison(compared.record)
    compared.write(tmp_path / "page.html")
    for text in (capsys.readouterr().out, (tmp_path / "page.html").read_text()):
        assert "side by side" in text.lower()
    page = (tmp_path / "page.html").read_text()
    assert all(cell in page for cell in cells(hard))


def test_what_was_not_measured_is_not_made_up(tmp_path: Path) -> None:
    study = write_study(tmp_path, {"original": 0.0, "hard": 0.5}, seeds=2, sets={"gsm8k": 4})
    (row,) = compare(study).record["side_by_side"]
    assert row["loss"]["mixture"] is not None
    assert row["loss"]["balanced"] is None  # fewer than five questions of a source
    assert cells(row)[1] == "–"
