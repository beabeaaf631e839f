"""Length of the proxy: splits along training, rules stop where they say, and a stopped study goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.when import proxy_length
from benchmarks.when.proxy_length import FROM, RULES, cells, grid, jaccard, main, points_of, summary
from benchmarks.when.symbols import Symbols


def test_grid_is_geometric_around_the_length() -> None:
    assert grid(100) == [25, 35, 50, 71, 100, 141, 200, 283, 400]
    assert grid(2) == [1, 2, 3, 4, 6, 8]


def test_jaccard() -> None:
    first, second = np.array([True, True, False, False]), np.array([True, False, True, False])
    assert jaccard(first, second) == pytest.approx(1 / 3)
    assert jaccard(first, first) == 1
    assert jaccard(first & ~first, first & ~first) == 1


def test_points_tell_when_the_rare_rows_come_apart() -> None:
    """Losses of all rows fall alike at first; then those of the frequent rows alone, which are 4 of 5."""
    rng = np.random.default_rng(0)
    rare, held_out = np.arange(400) % 5 == 0, np.arange(400) % 4 == 0
    means = np.where(rare[:, None], [[3, 2, 2, 2]], [[3, 2, 1, 0.5]])
    found = points_of((means + rng.normal(0, 0.05, (400, 4))).astype(np.float32), [1, 2, 3, 4], held_out, rare)
    assert found[1]["hard_share"] == pytest.approx(0.5, abs=0.15)
    assert [found[k]["f1"] for k in (2, 3)] == [1, 1]
    assert found[3]["hard_share"] == pytest.approx(0.2, abs=0.01)
    assert found[3]["jaccard"] == 1
    assert found[2]["jaccard"] < 0.5
    assert found[3]["easy_loss"] == pytest.approx(0.5, abs=0.05)
    assert found[3]["fell"] == pytest.approx(0.5, abs=0.05)


def _points(jaccards: list[float], fell: list[float]) -> list[dict[str, Any]]:
    steps = grid(100)
    return [
        {"step": steps[k], "f1": 0.1 * k, "jaccard": jaccards[k] if k else None, "fell": fell[k] if k else None}
        for k in range(len(steps))
    ]


def test_rules_stop_where_they_say() -> None:
    points = _points([0, 0.9, 0.7, 0.9, 0.8, 0.9, 0.9, 0.9, 0.9], [0, 0.2, 0.04, 0.2, 0.2, 0.2, 0.04, 0, 0])
    stops = {name: points[rule(points)]["step"] for name, rule in RULES.items()}
    assert stops == {
        "agreement and easy loss": 200,
        "agreement": 100,
        "easy loss": 50,
        "half the length": 50,
        "the length of the map": 100,
        "twice the length": 200,
        "four times the length": 400,
    }
    assert points[0]["step"] == FROM * 100


def test_rules_that_never_hold_go_to_the_end() -> None:
    points = _points([0.5] * 9, [0.5] * 9)
    assert {points[RULES[name](points)]["step"] for name in ("agreement and easy loss", "agreement", "easy loss")} == {
        400
    }


def test_summary_holds_a_rule_against_the_best_of_the_grid() -> None:
    stops = {name: {"step": 100, "f1": 0.6} for name in RULES}
    cell = {"family": "one", "best_f1": 0.8, "proxy_steps": 50, "stops": stops}
    other = cell | {"family": "two", "best_f1": 0.6, "proxy_steps": 200}
    rows = {(row["family"], row["rule"]): row for row in summary([cell, other])}
    assert rows["one", "agreement"]["lost"] == pytest.approx(0.2)
    assert rows["all", "agreement"] | {"lost": 0.1} == rows["all", "agreement"] | {"length": 1, "most_lost": 0.2}


def test_cells_are_clean_ones_and_a_noisy_one() -> None:
    chosen = cells(Symbols())
    assert [(each.knows, each.noise > 0) for each in chosen] == [
        ("nothing", False),
        ("frequent", False),
        ("frequent", True),
    ]
    assert {each.share for each in chosen} == {0.1}


def test_a_stopped_study_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def few(family: Any) -> list[Any]:
        setting = Symbols().settings()[0]
        return [replace(setting, rows=400, noise=noise) for noise in (0, 0.2)]

    monkeypatch.setattr(proxy_length, "cells", few)
    monkeypatch.setattr("benchmarks.when.symbols.SymbolsTask.proxy_steps", 16)
    files = [f"--record={tmp_path / 'record'}", f"--page={tmp_path / 'page'}", f"--figure={tmp_path / 'figure.svg'}"]
    arguments = ["--out", str(tmp_path / "out"), "--families", "symbols", "--seeds", "100", *files]
    assert main([*arguments, "--time-limit", "0"]) == 3
    assert not (tmp_path / "record").exists()
    assert main(arguments) == 0
    first = json.loads((tmp_path / "record").read_text())
    assert [cell["seed"] for cell in first["cells"]] == [100, 100]
    monkeypatch.setattr(proxy_length, "one", lambda *_: pytest.fail("done again"))
    assert main(arguments) == 0
    assert json.loads((tmp_path / "record").read_text())["cells"] == first["cells"]
    assert "symbols" in (tmp_path / "page").read_text()
    assert (tmp_path / "figure.svg").stat().st_size > 1000


def test_unknown_families_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), "--families", "symbol"])
    assert "symbol not among symbols" in capsys.readouterr().err
