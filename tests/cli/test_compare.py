"""`curate compare`: one object, one page, and a table that fits the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curate.cli.main import main
from tests.fixtures.studies import write_study


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
