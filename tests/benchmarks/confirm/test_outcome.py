"""What a confirmatory study says of its blocks, by numbers that can be checked by hand."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from benchmarks.confirm import flakes, outcome
from benchmarks.confirm.__main__ import blocks_of, of_forecasts, report, run
from benchmarks.confirm.pretrained import chosen
from benchmarks.confirm.study import SCHEMA, read_facts, record_path, write_record
from curate.errors import InputError

ARMS = ("original", "hard", "random", "source-balanced")


def _block(nats: Mapping[str, float], right: Mapping[str, float] | None = None, seeds: int = 2) -> pa.Table:
    """Rows of a block: four questions a set, of 1 and 3 tokens, the longer ones with `nats`, the others with none."""
    rows = []
    for arm, seed, name in itertools.product(nats, range(seeds), ("mixture", "balanced")):
        share = (right or {}).get(arm, 0.5)
        for i in range(4):
            tokens = 3 if i % 2 else 1
            loss = nats[arm] * 4 / 3 if i % 2 else 0.0  # so that the mean over tokens is `nats`
            rows.append((arm, seed, name, f"q{i}", "g", loss, tokens, i < 4 * share))
    columns = [list(column) for column in zip(*rows, strict=True)]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


def _study(hard: list[float], balanced: list[float]) -> dict[str, pa.Table]:
    values = zip(hard, balanced, strict=True)
    return {
        str(k): _block({"original": 1.0 + k / 100, "hard": h, "random": 1.01 + k / 100, "source-balanced": s})
        for k, (h, s) in enumerate(values)
    }


def test_nats_are_pooled_over_tokens_and_paired_over_blocks() -> None:
    hard = [0.9, 0.95, 0.85, 0.88]
    found = outcome.judged(_study(hard, [0.9, 0.9, 0.9, 0.9]))
    row = next(each for each in found["comparisons"] if (each["arm"], each["against"]) == ("hard", "original"))
    differences = np.array(hard) - (1 + np.arange(4) / 100)
    expected = stats.ttest_1samp(differences, 0)
    assert (row["set"], row["measure"]) == ("mixture", "nats")
    assert row["difference"] == pytest.approx(differences.mean(), abs=1e-6)
    assert row["p"] == pytest.approx(expected.pvalue, rel=1e-4)
    assert (row["low"], row["high"]) == pytest.approx(tuple(expected.confidence_interval(0.95)), abs=1e-5)
    assert found["success"]


@pytest.mark.parametrize(
    ("hard", "balanced", "better", "success"),
    [
        ([0.8, 0.81, 0.79, 0.8], [0.8, 0.8, 0.81, 0.8], True, True),
        ([0.8, 0.81, 0.79, 0.8], [0.7, 0.7, 0.7, 0.7], True, False),  # the sources alone do better
        ([1.2, 1.21, 1.19, 1.2], [1.3, 1.3, 1.3, 1.3], False, False),  # told apart, but worse
        ([0.5, 1.4, 0.9, 1.1], [1.5, 1.5, 1.5, 1.5], False, False),
    ],
)
def test_success_is_better_than_both_and_not_worse_than_even_sources(
    hard: list[float], balanced: list[float], *, better: bool, success: bool
) -> None:
    found = outcome.judged(_study(hard, balanced))
    assert (found["better"], found["success"]) == (better, success)


def test_one_block_is_no_verdict() -> None:
    found = outcome.judged(_study([0.8], [0.8]))
    assert found["success"] is None
    assert found["comparisons"][0]["p"] is None


def test_studies_that_did_not_run_count_in_the_correction(tmp_path: Path) -> None:
    for block, table in _study([0.8, 0.81, 0.79, 0.8], [0.8, 0.8, 0.81, 0.8]).items():
        write_record(table, {"cpu_seconds": 1}, record_path("control", block, tmp_path))
    found = report(tmp_path)["studies"]
    assert list(found) == ["control"]
    assert found["control"]["p_holm"] == pytest.approx(3 * found["control"]["p"])


def test_a_block_with_a_record_is_not_run_again_and_one_that_fails_is_left(tmp_path: Path) -> None:
    table, asked = _block(dict.fromkeys(ARMS, 1.0)), list[str]()

    class Given:
        name, blocks = "control", ("1", "2", "3")

        def run(self, block: str, out: Path) -> tuple[pa.Table, dict[str, Any]]:
            asked.append(block)
            if block == "2":
                raise InputError("no budget")
            return table, {"block": block}

    assert run(Given(), ["1", "2", "3"], tmp_path / "out", tmp_path / "records", None) == ["2"]
    assert run(Given(), ["1", "2", "3"], tmp_path / "out", tmp_path / "records", None) == ["2"]
    assert asked == ["1", "2", "3", "2"]
    kept = blocks_of("control", tmp_path / "records")
    assert kept["3"].cast(SCHEMA).equals(table)
    assert read_facts(kept["3"])["block"] == "3"


def test_flakes_are_counted_by_pairs_of_seeds() -> None:
    nats = dict.fromkeys(ARMS[:3], 1.0)
    good = _block(nats, {"original": 0.5, "hard": 0.75, "random": 0.5}, seeds=8)
    bad = _block(nats, {"original": 0.5, "hard": 0.75, "random": 0.75}, seeds=2)
    found = flakes.rates({"1": good, "2": bad})
    assert (found["pairs"], found["failed"]) == (5, 5)  # equal nats are counted as a failure
    over = found["criteria"]["balanced answers, hard over random"]
    assert (over["failed"], over["least"]) == (1, 0.0)
    margins = np.array([0.25] * 4 + [0.0])
    likelihood = stats.t.cdf(-margins.mean() / (margins.std(ddof=1) * np.sqrt(1.2)), 4)
    assert over["likelihood"] == pytest.approx(likelihood)


def test_the_settings_of_the_pretrained_study_follow_the_forecasts() -> None:
    changes = {"a": -0.01, "b": -0.05, "c": 0.02, "d": -0.2, "e": -0.04}
    forecasts = {name: {"foretold": change, "yes": change <= -0.03} for name, change in changes.items()}
    assert chosen(forecasts) == ["b", "d", "a", "c"]
    few = {name: {"foretold": change, "yes": name == "d"} for name, change in changes.items()}
    assert chosen(few) == ["d", "b", "a", "c"]


def test_forecasts_stand_beside_what_came_of_them() -> None:
    def facts(name: str, *, yes: bool) -> dict[str, Any]:
        return {"setting": {"name": name}, "forecast": {"yes": yes}}

    helped, not_helped = _study([0.8, 0.82, 0.79], [0.8] * 3), _study([1.2, 1.2, 1.21], [0.8] * 3)
    blocks = {f"rare-{k}": (facts("rare", yes=True), table) for k, table in helped.items()}
    blocks |= {f"noise-{k}": (facts("noise", yes=False), table) for k, table in not_helped.items()}
    found = of_forecasts(blocks)
    assert found["forecast_and_outcome"] == {
        "yes, helped": 1,
        "yes, did not help": 0,
        "no, helped": 0,
        "no, did not help": 1,
    }
    assert found["success"]  # judged on what was forecast to be helped
    assert found["blocks"] == ["rare-0", "rare-1", "rare-2"]
