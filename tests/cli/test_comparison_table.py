"""A comparison in the terminal: it fits the width, and what matters most comes first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curate.cli.comparison_table import print_comparison
from curate.comparison import Comparison, compare
from tests.fixtures.studies import ARMS, write_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_study(tmp_path_factory.mktemp("study"), ARMS, sets={"gsm8k": 90, "math": 60})


@pytest.fixture(scope="module")
def compared(study: list[Path]) -> Comparison:
    return compare(study)


@pytest.mark.parametrize("width", [60, 150])
def test_the_table_fits_the_terminal(
    compared: Comparison, monkeypatch: pytest.MonkeyPatch, capsys: Any, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_comparison(compared.record)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    assert any("better" in line for line in lines)


@pytest.mark.parametrize("metric", ["accuracy", "nll"])
def test_the_primary_outcome_comes_first(compared: Comparison, capsys: Any, metric: str) -> None:
    print_comparison({**compared.record, "primary": {**compared.record["primary"], "metric": metric}})
    titles = [line for line in capsys.readouterr().out.splitlines() if " against original (" in line]
    assert [title.split()[0] for title in titles] == [metric, "nll" if metric == "accuracy" else "accuracy"]


def test_a_lone_evaluation_set_has_one_row_in_the_table(tmp_path: Path, capsys: Any) -> None:
    runs = write_study(tmp_path, {"original": 0.0, "hard": 0.5}, seeds=2, sets={"math": 60}, generated=False)
    print_comparison(compare(runs).record)
    shown = capsys.readouterr().out
    assert "pooled" in shown
    assert "math" not in shown


def test_rows_that_are_cut_off_are_counted(compared: Comparison, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setattr("curate.cli.comparison_table._MOST_ROWS", 5)
    print_comparison(compared.record)
    assert "and 3 more: --json and the page" in capsys.readouterr().out
