"""`curate compare`: one object, one page, and a table that fits the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curate.cli.compare import print_comparison
from curate.cli.main import main
from curate.comparison.compare import Comparison, compare
from tests.fixtures.studies import ARMS, write_study


@pytest.fixture
def small(tmp_path: Path) -> list[Path]:
    return write_study(tmp_path, {"original": 0.0, "hard": 0.5}, seeds=2, sets={"gsm8k": 20})


# -- the command and the terminal -------------------------------------------------------------------------------------


def test_the_command_prints_one_object_and_writes_the_page(small: list[Path], capsys: Any) -> None:
    out = small[0].parent / "new" / "report.html"
    assert main(["compare", *map(str, small), "--out", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    written = json.loads((out.parent / "comparison.json").read_text())
    assert {key: value for key, value in printed.items() if key != "report"} == written
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert main(["compare", *map(str, small), "--baseline", "hard"]) == 0
    assert "No evidence that original differs from hard" in capsys.readouterr().out


def test_errors_of_the_command_have_status_2(small: list[Path], capsys: Any) -> None:
    assert main(["compare", str(small[0])]) == 2
    assert main(["compare", *map(str, small), "--out", "report.txt"]) == 2
    assert "give a name that ends in .html" in capsys.readouterr().err


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_study(tmp_path_factory.mktemp("study"), ARMS, sets={"gsm8k": 90, "math": 60})


@pytest.fixture(scope="module")
def compared(study: list[Path]) -> Comparison:
    return compare(study)


@pytest.mark.parametrize("width", [60, 110, 150])
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
    monkeypatch.setattr("curate.cli.compare._MOST_ROWS", 5)
    print_comparison(compared.record)
    out = capsys.readouterr().out
    assert "and 5 more: --json and the page" in out
