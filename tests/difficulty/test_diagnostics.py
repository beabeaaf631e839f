"""The numbers about a split, each against its definition."""

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

from curate.clusterers import KMeans, Quantile
from curate.difficulty.diagnostics import divergence, noise_suspects, rank_correlation, silhouette
from curate.difficulty.scores import as_scores
from curate.difficulty.split import agreement, make_split
from curate.difficulty.split_warnings import diagnose
from curate.errors import InputError
from tests.fixtures.splits import codes, curves, diagnosed, names, scored, with_hard

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


@pytest.mark.slow
def test_a_million_rows_in_seconds() -> None:
    losses, _, _ = curves(1_000_000)
    scores = scored(losses)
    split = make_split(scores, KMeans(), ids=scores.ids, sources=np.resize(["a", "b", "c"], 1_000_000))
    start = time.process_time()
    diagnose(scores, split, clusterer=KMeans(), others=[split])
    assert time.process_time() - start < 40
