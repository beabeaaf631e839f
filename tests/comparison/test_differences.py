"""Rows of differences: verdicts, limits, pooling, levels."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.comparison.compare import Comparison, compare
from curate.comparison.text import headline
from tests.fixtures.studies import row_of, write_evaluation, write_run


def test_less_nll_is_better(compared: Comparison) -> None:
    row = row_of(compared, "hard", metric="nll")
    assert row["difference"] < 0
    assert row["verdict"] == "better"
    turned = compare([place for arm in compared.record["arms"] for place in arm["runs"]], "hard")
    assert row_of(turned, "original", metric="nll")["verdict"] == "worse"
    assert headline(turned.record)[0].startswith("original is worse than hard by ")


def test_no_number_is_more_than_there_can_be(tmp_path: Path) -> None:
    """Two seeds that differ as much as can be: an interval of thousands of points, and nothing that can be detected."""
    runs = []
    for arm in ("original", "hard"):
        for seed in (0, 1):
            runs.append(write_run(tmp_path / f"{arm}{seed}", arm, seed))
            write_evaluation(runs[-1], "a", [float(seed == (arm == "hard"))] * 20)
    found = compare(runs)
    row = found.primary[0]
    assert (row["low"], row["high"], row["detectable"]) == (-1, 1, None)
    assert "could not have detected any difference" in headline(found.record)[1][0]


def test_pooled_weighs_sets_by_their_examples(compared: Comparison) -> None:
    for metric in ("accuracy", "nll"):
        pooled, gsm8k, math = (
            row_of(compared, "hard", name, metric)["difference"] for name in ("pooled", "gsm8k", "math")
        )
        assert pooled == pytest.approx((90 * gsm8k + 60 * math) / 150)
        assert row_of(compared, "hard", "mean of sets", metric)["difference"] == pytest.approx((gsm8k + math) / 2)
    weights = {(each["set"], each["metric"]): each["weight"] for each in compared.record["sets"]}
    assert weights["gsm8k", "nll"] == pytest.approx(0.6)


def test_levels_and_sources_come_by_set_in_natural_order(compared: Comparison) -> None:
    levels = compared.record["levels"]
    assert {each["set"] for each in levels} == {"math"}
    hard = [each for each in levels if each["arm"] == "hard" and each["metric"] == "accuracy"]
    names = [each["level"] for each in hard]
    assert names == sorted(names)
    assert sum(each["examples"] for each in hard) <= 60
    assert {each["set"] for each in compared.record["sources"]} == {"gsm8k", "math"}


def test_balanced_is_the_mean_over_levels_else_sources_whatever_their_sizes(compared: Comparison) -> None:
    for metric in ("accuracy", "nll"):
        found = row_of(compared, "hard", "mean of groups", metric)
        rows = [each for each in compared.record["levels"] if each["set"] == "math"]
        rows += [each for each in compared.record["sources"] if each["set"] == "gsm8k"]
        own = [each for each in rows if each["arm"] == "hard" and each["metric"] == metric]
        budgets = {each["budget"] for each in own}
        own = [each for each in own if each["budget"] == found["budget"]]
        assert len(own) > 2
        assert budgets
        assert found["difference"] == pytest.approx(sum(each["difference"] for each in own) / len(own))
        scores = [
            each["mean"]
            for each in compared.record["scores"]
            if (each["arm"], each["set"], each["metric"]) == ("hard", "mean of groups", metric)
        ]
        assert scores[0] == pytest.approx(found["arm_mean"])
