"""Warnings about a split: on data made to deserve them, and not on other data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from curate.clusterers import HDBSCAN, KMeans, Quantile
from curate.difficulty.split import make_split
from curate.difficulty.split_warnings import Truncated, diagnose
from tests.fixtures.splits import codes, curves, diagnosed, scored, with_hard


@pytest.mark.parametrize(("sign", "which"), [(1, "long"), (-1, "short")])
def test_a_split_by_length_is_reported(sign: int, which: str) -> None:
    scores = scored(curves(500)[0])
    tokens = (1000 + sign * 300 * scores.difficulty).astype(np.int32)
    found, _ = diagnosed(replace(scores, tokens=tokens))
    assert found.length_correlation == pytest.approx(sign, abs=0.01)
    [warning] = found.warnings
    assert warning.code == "hard_is_length"
    assert f"{which} completions" in warning.message
    given = diagnose(scores, make_split(scores, KMeans(), ids=scores.ids), tokens=tokens)
    assert given.length_correlation == found.length_correlation


def test_hard_rows_of_one_source_are_reported() -> None:
    losses, late, _ = curves(1000)
    found, _ = diagnosed(scored(losses), sources=np.where(late, "olympiad", "school"))
    [warning] = found.warnings
    assert warning.code == "hard_is_one_source"
    assert "'olympiad'" in warning.message
    assert "100%" in warning.message
    dominant = np.where(np.arange(1000) < 950, "school", "olympiad")  # all rows are one source's, hard ones too
    assert "hard_is_one_source" not in codes(diagnosed(scored(losses), sources=dominant)[0])
    assert "hard_is_one_source" not in codes(diagnosed(scored(losses), sources=["only"] * 1000)[0])


def test_rows_without_a_source_have_a_line_of_their_own() -> None:
    found, _ = diagnosed(scored(curves(100)[0]), sources=["a", None] * 50)
    assert found.hard_share_by_source is not None
    assert {name: entry["rows"] for name, entry in found.hard_share_by_source.items()} == {"a": 50, "": 50}


@pytest.mark.parametrize(
    ("q", "copies", "reported"), [(0.3, 1, False), (0.4, 1, True), (0.3, 3, True), (0.4, 0, False)]
)
def test_a_hard_set_that_would_fill_the_batches_is_reported(q: float, copies: int, reported: bool) -> None:
    scores = scored(curves(500)[0])
    split = make_split(scores, Quantile(q=q), ids=scores.ids)
    counts = 1 + copies * split.hard
    found = diagnose(scores, split, counts=counts)
    assert ("hard_too_large" in codes(found)) == reported
    assert "hard_too_large" not in codes(diagnose(scores, split))


def test_a_large_hard_set_is_told_with_the_numbers_of_the_plan() -> None:
    scores = scored(curves(500)[0])
    split = make_split(scores, Quantile(q=0.4), ids=scores.ids)

    def told(counts: np.ndarray) -> str:
        [warning] = [w for w in diagnose(scores, split, counts=counts).warnings if w.code == "hard_too_large"]
        return warning.message

    assert told(1 + split.hard) == "40% of the rows are hard; with 1 extra copy each they fill 57% of every batch."
    assert "with 2 extra copies each they fill 67%" in told(1 + 2 * split.hard)
    some = 1 + 3 * (split.hard & (np.cumsum(split.hard) <= 100))
    assert "with 300 extra copies in all they fill 62%" in told(some)
    left_out = (1 + 2 * split.hard) * (np.arange(500) % 2)  # half of the rows are not in the mixture
    assert "with 2 extra copies each they fill" in told(left_out)
    only_hard = split.hard.astype(int)  # a subset, not copies: however large the share, no copy is to blame
    assert "hard_too_large" not in codes(diagnose(scores, split, counts=only_hard))


@pytest.mark.parametrize(("count", "reported"), [(0, False), (5, False), (6, True)])
def test_invalid_and_truncated_rows_are_reported_above_one_in_a_hundred(count: int, reported: bool) -> None:
    scores = scored(curves(500)[0])
    valid = np.arange(500) >= count
    partly = replace(scores, difficulty=np.where(valid, scores.difficulty, np.nan), valid=valid)
    found = diagnosed(partly)[0]
    assert codes(found) == ({"rows_invalid"} if reported else set())
    cut = diagnosed(scores, truncated=Truncated(count, count, 0))[0]
    assert codes(cut) == ({"rows_truncated"} if reported else set())
    if reported:
        assert all("6 of 500 rows (1.2%)" in each.warnings[0].message for each in (found, cut))


def test_sources_too_small_for_the_clusters_are_reported() -> None:
    scores = scored(curves(400)[0])
    sources = np.array(["big"] * 360 + ["s0"] * 20 + [None] * 17 + ["s1"] * 3, object)
    clusterer = KMeans(n_clusters=18, per="source")
    found, split = diagnosed(scores, clusterer, sources)
    [warning] = [warning for warning in found.warnings if warning.code == "source_too_small"]
    assert warning.message.startswith("Source 's1' has 3 rows for 18 clusters (too small as well: 1 more)")
    collapsed = np.isin(sources, ["s1", None])
    assert not split.hard[collapsed].any()
    assert len(np.unique(split.cluster[sources == "s1"])) == 1
    fits = diagnosed(scores, KMeans(n_clusters=3, per="source"), sources)[0]
    assert "source_too_small" not in codes(fits)
    valid = np.arange(400) != 370  # one of the 20 rows of s0
    partly = replace(scores, difficulty=np.where(valid, scores.difficulty, np.nan), valid=valid)
    counted = diagnosed(partly, KMeans(n_clusters=20, per="source"), ["big"] * 360 + ["s0"] * 40)[0]
    assert "source_too_small" not in codes(counted)
    counted = diagnosed(partly, KMeans(n_clusters=20, per="source"), ["big"] * 360 + ["s0"] * 20 + ["big"] * 20)[0]
    [warning] = [warning for warning in counted.warnings if warning.code == "source_too_small"]
    assert warning.message.startswith("Source 's0' has 19 rows for 20 clusters: ")
    rule = KMeans(n_clusters=18, per="source", small_sources="all_hard")
    assert "source_too_small" not in codes(diagnosed(scores, rule, sources)[0])
    dense = diagnosed(scores, HDBSCAN(min_cluster_size=18, per="source"), sources)[0]
    [warning] = [warning for warning in dense.warnings if warning.code == "source_too_small"]
    assert "3 rows and the clusterer needs 18" in warning.message


def test_that_nothing_is_hard_is_reported_only_where_it_matters() -> None:
    scores = scored(np.full((60, 3), 0.5))
    assert "one_cluster" in codes(diagnosed(scores)[0])
    assert "one_cluster" not in codes(diagnosed(scores, uses_hard=False)[0])


def test_no_hard_row_is_reported() -> None:
    equal, _ = diagnosed(scored(np.full((60, 3), 0.5)))
    assert "one_cluster" in codes(equal)
    assert equal.hard_share == 0
    uniform = np.random.default_rng(0).random((300, 6))
    noise, split = diagnosed(scored(uniform), HDBSCAN(min_cluster_size=0.2))
    assert (split.cluster == -1).all()
    [warning] = [warning for warning in noise.warnings if warning.code == "one_cluster"]
    assert "100% noise" in warning.message


# -- all warnings, and scale -----------------------------------------------------------------------------------


def test_every_warning_says_what_to_do() -> None:
    scores = scored(np.random.default_rng(0).random((200, 6)))
    split = make_split(scores, KMeans(), ids=scores.ids, sources=["a"] * 100 + ["b"] * 100)
    bad = with_hard(split, np.arange(200) < 95)
    tokens = np.argsort(np.argsort(scores.difficulty))
    counts = 1 + bad.hard
    found = diagnose(
        scores, bad, others=[with_hard(split, ~bad.hard)], tokens=tokens, counts=counts, truncated=Truncated(9, 9, 0)
    )
    small = diagnosed(scores, KMeans(n_clusters=9, per="source"), ["a"] * 198 + ["b"] * 2)[0]
    unscored = diagnosed(replace(scores, valid=np.arange(200) > 9))[0]
    none = diagnose(scores, with_hard(split, np.zeros(200, bool)))
    noisy = diagnosed(scored(curves(500, noise=0.1)[0]))[0]
    warnings = [*found.warnings, *none.warnings, *noisy.warnings, *small.warnings, *unscored.warnings]
    assert {warning.code for warning in warnings} == {
        "split_unstable",
        "not_diverged",
        "hard_is_one_source",
        "hard_is_length",
        "hard_too_large",
        "likely_noise",
        "one_cluster",
        "rows_invalid",
        "rows_truncated",
        "source_too_small",
    }
    for warning in warnings:
        assert any(character.isdigit() for character in warning.message)
        assert warning.remedy.endswith(".")
        assert "\n" not in warning.message + warning.remedy


def test_a_proxy_that_never_settled_is_reported_with_its_steps() -> None:
    scores = scored(curves(500)[0])
    split = make_split(scores, KMeans(), ids=scores.ids)
    (warning,) = (
        each
        for each in diagnose(scores, split, capped=(1200, "rows still change")).warnings
        if each.code == "not_settled"
    )
    assert "(1,200 steps)" in warning.message
    assert "not_settled" not in codes(diagnose(scores, split))
