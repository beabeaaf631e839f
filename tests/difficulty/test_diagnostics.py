"""Diagnostics: each number against its definition, each warning on data made to deserve it and data that does not."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import silhouette_score

from curate.clusterers import HDBSCAN, KMeans, Quantile
from curate.difficulty.diagnose import diagnose
from curate.difficulty.diagnostics import (
    Diagnostics,
    agreement,
    divergence,
    noise_suspects,
    rank_correlation,
    silhouette,
)
from curate.difficulty.scores import Scores, Split, as_scores
from curate.difficulty.split import make_split
from curate.difficulty.split_warnings import Truncated
from curate.errors import InputError


def names(n: int) -> pa.Array:
    return pa.array([f"row-{i}" for i in range(n)])


def curves(n: int, seed: int = 0, late: float = 0.2, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(losses (n, 6), late (n,), wrong (n,)): easy rows fall early, late ones only at the end, wrong ones never."""
    rng = np.random.default_rng(seed)
    kind = rng.random(n)
    is_late, is_wrong = kind < late, kind > 1 - noise
    x = np.linspace(0, 1, 6)
    easy = 0.5 + 2.0 * np.exp(-4 * x)
    hard = 2.9 - 1.3 / (1 + np.exp(-10 * (x - 0.75)))
    flat = np.full(6, 2.9)
    mean = np.where(is_wrong[:, None], flat, np.where(is_late[:, None], hard, easy))
    losses = mean * np.exp(rng.normal(0, 0.15, (n, 1))) * np.exp(rng.normal(0, 0.03, (n, 6)))
    return losses.astype(np.float32), is_late, is_wrong


def scored(losses: np.ndarray, **more: Any) -> Scores:
    n, k = losses.shape
    losses = losses.astype(np.float32)
    tokens = np.random.default_rng(9).integers(8, 200, n).astype(np.int32)
    values = {"tokens": tokens, "ids": names(n), **more}
    return Scores(losses, losses.mean(axis=1), np.ones(n, bool), losses, np.arange(k), **values)


def diagnosed(scores: Scores, clusterer: Any = None, sources: Any = None, **more: Any) -> tuple[Diagnostics, Split]:
    clusterer = clusterer or KMeans()
    split = make_split(scores, clusterer, ids=scores.ids, sources=sources)
    return diagnose(scores, split, clusterer=clusterer, **more), split


def codes(found: Diagnostics) -> set[str]:
    return {warning.code for warning in found.warnings}


def with_hard(split: Split, hard: np.ndarray) -> Split:
    return replace(split, hard=hard, cluster=hard.astype(np.int32))


# -- a good split ----------------------------------------------------------------------------------------------


def test_a_good_split_has_no_warnings_and_every_number() -> None:
    scores = scored(curves(2000)[0])
    again = [make_split(scored(curves(2000)[0] * 1.1), KMeans(), ids=names(2000))]
    found, split = diagnosed(scores, sources=["a", "b"] * 1000, others=again)
    assert found.warnings == ()
    record = found.to_json()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert set(record) == {
        "silhouette",
        "silhouette_rows",
        "seed_agreement",
        "feature_agreement",
        "hard_share",
        "hard_share_by_source",
        "length_correlation",
        "diverged",
        "noise",
    }
    assert all(value is not None for value in record.values())
    assert record["hard_share"] == split.hard.mean()
    assert record["seed_agreement"] == {"seeds": 2, "jaccard": 1.0, "jaccard_min": 1.0, "ari": 1.0}
    for place, name in enumerate("ab"):
        own = split.hard[place::2]
        expected = {"rows": 1000, "hard": int(own.sum()), "share": own.mean()}
        assert record["hard_share_by_source"][name] == expected


def test_numbers_do_not_depend_on_the_order_of_the_scores() -> None:
    scores = scored(curves(500)[0])
    split = make_split(scores, KMeans(), ids=scores.ids)
    order = np.random.default_rng(0).permutation(500)
    straight = diagnose(scores, split, clusterer=KMeans())
    mixed = diagnose(scores.take(order), split, clusterer=KMeans())
    assert straight.to_json() == mixed.to_json()
    assert np.array_equal(straight.noise_suspect, mixed.noise_suspect)


def test_invalid_rows_count_nowhere() -> None:
    losses = curves(500)[0]
    scores = scored(losses)
    valid = np.arange(500) >= 100
    dirty = np.where(valid[:, None], losses, np.nan).astype(np.float32)
    partly = replace(
        scores, features=dirty, trajectory=dirty, difficulty=np.where(valid, scores.difficulty, np.nan), valid=valid
    )
    sources = np.array(["a", "b"] * 250, object)
    whole, _ = diagnosed(partly, sources=sources)
    rest, _ = diagnosed(scores.take(np.arange(100, 500)), sources=sources[100:])
    assert whole.to_json() == rest.to_json()
    assert not whole.noise_suspect[:100].any()


def test_what_cannot_be_measured_is_none() -> None:
    found, _ = diagnosed(as_scores(np.arange(50.0), 50).with_ids(names(50)), Quantile())
    record = found.to_json()
    for key in (
        "seed_agreement",
        "feature_agreement",
        "hard_share_by_source",
        "length_correlation",
        "diverged",
        "noise",
    ):
        assert record[key] is None, key
    assert not found.noise_suspect.any()
    one = scored(curves(50)[0][:, :1])
    assert diagnosed(one)[0].diverged is None


def test_a_trajectory_that_is_not_finite_names_its_row() -> None:
    scores = scored(curves(60)[0])
    split = make_split(scores, KMeans(), ids=scores.ids)
    broken = curves(60)[0]
    broken[7, 2] = np.nan
    with pytest.raises(InputError, match=r"row 7 \(example id row-7\) is not finite"):
        diagnose(replace(scores, trajectory=broken), split)


# -- silhouette ------------------------------------------------------------------------------------------------


def test_silhouette_is_scikit_learns() -> None:
    scores = scored(curves(300)[0])
    split = make_split(scores, KMeans(), ids=scores.ids)
    value, rows = silhouette(scores.features, split)
    assert rows == 300
    assert value == pytest.approx(silhouette_score(scores.features, split.cluster))
    noisy = replace(split, cluster=np.where(np.arange(300) < 50, -1, split.cluster).astype(np.int32))
    value, rows = silhouette(scores.features, noisy)
    assert rows == 250
    assert value == pytest.approx(silhouette_score(scores.features[50:], split.cluster[50:]))


def test_silhouette_samples_with_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.difficulty.diagnostics.SILHOUETTE_ROWS", 200)
    scores = scored(curves(3000)[0])
    split = make_split(scores, KMeans(), ids=scores.ids)
    values = [silhouette(scores.features, split, seed) for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]
    assert values[0][1] == 200
    assert values[0][0] == pytest.approx(silhouette_score(scores.features, split.cluster), abs=0.1)


def test_silhouette_of_sources_compares_within_each() -> None:
    losses = curves(400)[0]
    sources = np.array(["a", "b"] * 200, object)
    level = np.where(sources == "b", 0.5, 0)[:, None]  # the hard rows of "a" lie near the easy ones of "b"
    scores = scored(losses + level)
    split = make_split(scores, KMeans(per="source"), ids=scores.ids, sources=sources)
    value, rows = silhouette(scores.features, split)
    parts = [silhouette_score(losses[sources == name], split.hard[sources == name]) for name in "ab"]
    assert value == pytest.approx(np.mean(parts), abs=1e-5)
    assert rows == 400


def test_silhouette_of_one_cluster_is_none() -> None:
    scores = scored(np.full((60, 3), 0.5))
    split = make_split(scores, KMeans(), ids=scores.ids)
    assert silhouette(scores.features, split) == (None, 0)


# -- agreement -------------------------------------------------------------------------------------------------


def test_agreement_by_hand() -> None:
    base = make_split(as_scores(np.arange(8.0), 8), Quantile(q=0.5), ids=names(8))
    other = with_hard(base, np.array([0, 0, 0, 1, 0, 1, 1, 1], bool))
    assert base.hard.tolist() == [False] * 4 + [True] * 4
    assert agreement(base, base) == {"jaccard": 1.0, "ari": 1.0}
    assert agreement(base, other)["jaccard"] == pytest.approx(3 / 5)
    opposite = agreement(base, with_hard(base, ~base.hard))
    assert opposite == {"jaccard": 0.0, "ari": 1.0}  # the same clusters, the other one hard
    none = with_hard(base, np.zeros(8, bool))
    assert agreement(none, none)["jaccard"] is None
    with pytest.raises(InputError, match="different rows"):
        agreement(base, replace(base, ids=names(8).take(pa.array(range(7, -1, -1)))))


def test_an_unstable_split_is_reported() -> None:
    scores = scored(curves(600)[0])
    split = make_split(scores, KMeans(), ids=scores.ids)
    rng = np.random.default_rng(5)
    others = [with_hard(split, rng.random(600) < 0.2) for _ in range(2)]
    found = diagnose(scores, split, others=others)
    assert found.seed_agreement is not None
    assert found.seed_agreement["seeds"] == 3
    assert found.seed_agreement["jaccard"] == pytest.approx(0.12, abs=0.06)
    assert "split_unstable" in codes(found)
    assert "split_unstable" not in codes(diagnose(scores, split, others=[split]))


def test_feature_agreement_compares_with_the_final_loss() -> None:
    losses, late, _ = curves(1000)
    recovered = losses.copy()
    recovered[late, -1] = 0.5  # late rows are as good as easy ones in the end
    high_at_last = np.random.default_rng(0).random(1000) < 0.2
    recovered[high_at_last, -1] = 3.0
    same = diagnosed(scored(losses))[0].feature_agreement
    other = diagnosed(scored(recovered))[0].feature_agreement
    assert same is not None
    assert other is not None
    assert same["jaccard"] == 1
    expected = (late & high_at_last).sum() / (late | high_at_last).sum()
    assert other["jaccard"] == pytest.approx(expected, abs=0.05)
    final_only = replace(scored(losses), features=losses[:, -1:])
    assert diagnosed(final_only)[0].feature_agreement is None


# -- length, sources, sizes ------------------------------------------------------------------------------------


def test_rank_correlation() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 500), rng.random(500)
    assert rank_correlation(a, a * 2 + b) == pytest.approx(spearmanr(a, a * 2 + b).statistic)
    assert rank_correlation(a, np.ones(500)) is None
    assert rank_correlation(a[:2], b[:2]) is None


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


# -- did the trajectories diverge ------------------------------------------------------------------------------


def judged(losses: np.ndarray) -> dict[str, Any]:
    found, _ = diagnosed(scored(losses))
    assert found.diverged is not None
    assert ("not_diverged" in codes(found)) == (not found.diverged["ok"])
    return found.diverged


def test_diverged_by_hand() -> None:
    losses = np.array([[2, 1], [4, 2], [6, 6], [8, 7]], float)
    split = make_split(scored(losses), KMeans(), ids=names(4))
    assert split.hard.tolist() == [False, False, True, True]
    found = divergence(losses, split)
    assert found is not None
    assert found["fall"] == pytest.approx(np.mean([1, 2, 0, 1]) / np.std([2, 4, 6, 8]))
    assert found["speed_spread"] == pytest.approx(np.std([1, 2, 0, 1]) / np.std([1, 2, 6, 7]))
    within = np.sqrt((4 * 1 + 4 * 0.25) / 4)  # each row is 1 and 0.5 from its centroid
    assert found["separation"] == pytest.approx(np.hypot(4, 5) / within)


def test_trajectories_that_learned_diverged() -> None:
    assert judged(curves(1000)[0])["ok"]


@pytest.mark.parametrize("seed", range(3))
def test_trajectories_that_did_not_diverge(seed: int) -> None:
    rng = np.random.default_rng(seed)
    level = rng.gamma(4, 0.5, (1000, 1))
    untrained = level + rng.normal(0, 0.01, (1000, 6))
    assert judged(untrained)["fall"] < 0.1
    parallel = 6 + level - np.linspace(0, 2, 6) + rng.normal(0, 0.01, (1000, 6))
    found = judged(parallel)
    assert found["fall"] > 0.1
    assert found["speed_spread"] < 0.1
    assert not found["ok"]
    structureless = 4 - np.linspace(0, 2, 6) + rng.normal(0, 0.3, (1000, 6))
    found = judged(structureless)
    assert found["separation"] == pytest.approx(0.7, abs=0.15)
    assert not found["ok"]


def test_separation_is_measured_within_sources() -> None:
    losses = curves(1000)[0]
    sources = np.array(["a", "b"] * 500, object)
    apart = scored(losses + np.where(sources == "b", 8, 0)[:, None])
    split = make_split(apart, KMeans(per="source"), ids=apart.ids, sources=sources)
    assert apart.trajectory is not None
    within, across = divergence(apart.trajectory, split), divergence(apart.trajectory, replace(split, per_source=False))
    assert within is not None
    assert across is not None
    assert across["separation"] < 1 < 2 < within["separation"]


# -- noise suspects --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_planted_wrong_answers_are_found_and_late_rows_are_not(seed: int) -> None:
    losses, late, wrong = curves(2000, seed, late=0.2, noise=0.1)
    found = noise_suspects(losses)
    assert found[wrong].mean() > 0.95
    assert found[late].mean() < 0.02
    assert found[~wrong].mean() < 0.01


def test_clean_data_has_no_suspects() -> None:
    assert noise_suspects(curves(2000, noise=0)[0]).mean() < 0.001


def test_a_row_known_from_the_start_is_no_suspect() -> None:
    losses, _, _ = curves(1000)
    losses[:100] = 0.1
    assert not noise_suspects(losses)[:100].any()


def test_a_row_that_fell_in_between_is_no_suspect() -> None:
    losses, _, wrong = curves(1000, noise=0.1)
    assert noise_suspects(losses)[wrong].all()
    losses[wrong, 3] = 0.4
    assert not noise_suspects(losses)[wrong].any()


def test_suspects_need_something_to_compare_with() -> None:
    losses, _, wrong = curves(1000, noise=0.1)
    assert noise_suspects(losses)[wrong].all()
    assert not noise_suspects(losses[:, :1]).any()
    assert not noise_suspects(losses[:40]).any()
    assert not noise_suspects(np.where(np.arange(1000)[:, None] < 100, 3.0, 1.0) * np.ones(6)).any()
    valid = ~wrong
    assert not noise_suspects(losses, valid)[wrong].any()


def test_likely_noise_is_reported_with_its_share() -> None:
    losses, _, wrong = curves(2000, noise=0.1)
    found, split = diagnosed(scored(losses))
    assert found.noise is not None
    assert found.noise["suspects"] == found.noise_suspect.sum()
    assert found.noise["share"] == pytest.approx(wrong.mean(), abs=0.01)
    assert found.noise["share_of_hard"] == pytest.approx(wrong[split.hard].mean(), abs=0.02)
    assert codes(found) == {"likely_noise"}


def test_right_rows_of_rare_skills_are_marked_as_wrong_ones_are_so_nobody_is_told_to_drop_any() -> None:
    """Nothing here is wrong: a tenth of the rows is of a skill that begins to be learned when the proxy stops."""
    rng = np.random.default_rng(0)
    rare = np.arange(2000) < 200
    speed = np.where(rare, 0.02, 0.5) * rng.lognormal(0, 0.2, 2000)
    losses = 2 * np.exp(-speed[:, None] * np.arange(6)) + rng.normal(0, 0.02, (2000, 6))
    found, split = diagnosed(scored(losses))
    assert split.hard[rare].all()
    assert found.noise_suspect[rare].mean() > 0.6
    (warning,) = found.warnings
    assert warning.code == "likely_noise"
    said = f"{warning.message} {warning.remedy}"
    assert not re.search(r"\b(repair|fix|drop|remove|delete|exclude|clean|mislabel\w*|noise)\b", said)
    assert "cannot tell" in said
    assert "report.html" in said


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


@pytest.mark.slow
def test_a_million_rows_in_seconds() -> None:
    losses, _, _ = curves(1_000_000)
    scores = scored(losses)
    split = make_split(scores, KMeans(), ids=scores.ids, sources=np.resize(["a", "b", "c"], 1_000_000))
    start = time.process_time()
    diagnose(scores, split, clusterer=KMeans(), others=[split])
    assert time.process_time() - start < 40
