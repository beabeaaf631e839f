"""Difficulty against levels: correlations are what they say, and a finished set is not measured again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.when import levels
from benchmarks.when.levels import correlations, main, page, rows_of, within
from curate.errors import InputError


def _found(difficulty: np.ndarray, level: np.ndarray, length: np.ndarray, reducible: np.ndarray | None = None) -> dict:
    n = len(level)
    return correlations(difficulty, level, length, np.array(["a"] * n, object), np.ones(n, bool), reducible, 0)


def test_what_only_goes_with_length_is_nothing_within_length() -> None:
    rng = np.random.default_rng(0)
    level = rng.integers(1, 5, 800)
    length = level * 100 + rng.integers(0, 40, 800)
    found = _found(length + rng.normal(0, 400, 800), level, length)
    assert found["plain"]["rho"] > 0.15
    assert abs(found["within length"]["rho"]) < found["plain"]["rho"] / 2
    assert found["completion tokens"]["rho"] > 0.9
    assert found["within length"]["low"] < 0 < found["within length"]["high"]


def test_what_goes_with_the_level_stays_within_length() -> None:
    rng = np.random.default_rng(0)
    level, length = rng.integers(1, 5, 800), rng.integers(10, 200, 800)
    found = _found(level + rng.normal(0, 0.5, 800), level, length)
    for kind in ("plain", "within length"):
        assert found[kind]["low"] > 0.7
        assert found[kind]["low"] < found[kind]["rho"] < found[kind]["high"]


def test_reducible_rows_alone_are_looked_at() -> None:
    rng = np.random.default_rng(0)
    level = rng.integers(1, 5, 400)
    kept = np.arange(400) < 300
    difficulty = np.where(kept, level, 10 - 5 * level) + rng.normal(0, 0.1, 400)
    found = _found(difficulty, level, rng.integers(1, 9, 400), kept)
    assert found["reducible"]["rows"] == 300
    assert found["reducible"]["rho"] > 0.9 > found["plain"]["rho"]
    none = _found(difficulty, level, rng.integers(1, 9, 400), np.zeros(400, bool))
    assert none["reducible"] == {"rho": None, "low": None, "high": None, "rows": 0}


def test_correlation_is_spearmans_and_groups_are_kept_apart() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    values, level = rng.normal(size=60), rng.integers(1, 4, 60)
    one, two = np.array(["a"] * 60), np.array(["a"] * 20 + ["b"] * 40)
    assert within(values, level, one) == pytest.approx(spearmanr(values, level).statistic)
    parts = [spearmanr(values[rows], level[rows]).statistic for rows in (slice(0, 20), slice(20, 60))]
    assert within(values, level, two) == pytest.approx((20 * parts[0] + 40 * parts[1]) / 60)
    assert np.isnan(within(values, np.ones(60), one))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = [
        {
            "id": f"r{i}",
            "question": f"add {' '.join(str(x) for x in rng.integers(1, 9, 1 + i % 4))}",
            "answer": None,
            "final_answer": str(i % 7) * (1 + i % 4),
            "source": "reasoning_gym",
            "split": "test" if i % 10 == 9 else "train",
            "level": "?" if i % 50 == 0 else str(1 + i % 4),
            "subject": "sums" if i % 2 else "others",
        }
        for i in range(200)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "reasoning_gym_math.parquet")
    return tmp_path


def test_rows_have_levels_and_are_of_the_training_split(data: Path) -> None:
    table = rows_of("reasoning_gym", data, 150, 0)
    assert set(table["level"].to_pylist()) == {1, 2, 3, 4}
    assert set(table["source"].to_pylist()) == {"sums", "others"}
    assert not {f"r{i}" for i in (0, 9, 19, 50)} & set(table["id"].to_pylist())
    with pytest.raises(InputError, match="rows that fit, and 190 are wanted; lower --rows"):
        rows_of("reasoning_gym", data, 190, 0)


def test_a_set_is_measured_once_and_stands_on_the_page(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = data / "out"
    arguments = ["--out", str(out), "--proxy", "scratch", "--sets", "reasoning_gym", "--rows", "120", "--steps", "4"]
    arguments += [
        "--checkpoints",
        "2",
        "--data",
        str(data),
        "--record",
        str(data / "r.json"),
        "--page",
        str(data / "p"),
    ]
    assert main(arguments) == 0
    (found,) = json.loads((data / "r.json").read_text())["sets"]
    assert found["rows"] == 120 == sum(found["rows_by_level"].values())
    assert set(found["correlations"]) == {"plain", "within length", "reducible", "completion tokens"}
    assert found["correlations"]["completion tokens"]["rho"] > 0.5
    assert found["reducible"]["verdict"] in ("estimated", "cannot tell")
    assert "| reasoning_gym | scratch, 4 x 16 | 120 |" in (data / "p").read_text()
    monkeypatch.setattr(levels, "one", lambda *_: pytest.fail("measured again"))
    assert main(arguments) == 0


def test_what_was_not_run_or_has_too_few_rows_is_said() -> None:
    none = {"rho": None, "low": None, "high": None, "rows": 3}
    found = {"plain": {"rho": 0.1, "low": 0.0, "high": 0.2, "rows": 50}, "within length": none}
    result = {"set": "math", "proxy": "p", "steps": 1, "batch_size": 2, "rows": 50, "hard_share": 0.5}
    text = page([result | {"correlations": found, "with_length": 0.1}])
    assert "+0.10 (+0.00 .. +0.20), 50 rows | too few rows (3) | not run | not run" in text


def test_a_missing_file_and_an_unknown_set_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for sets, said in (("gsm8k", "gsm8k.parquet is missing"), ("gsm", "gsm not among gsm8k, math")):
        with pytest.raises(SystemExit) as ended:
            main(["--out", str(tmp_path), "--proxy", "scratch", "--sets", sets, "--data", str(tmp_path)])
        assert ended.value.code == 2
        assert said in capsys.readouterr().err
