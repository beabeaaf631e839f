"""Will copies help: exposures of any plan are those of counted draws, and what is not known is said."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from augmenters import Duplicate, Subset
from curate.clusterers import KMeans, PerSource
from curate.difficulty.exposures import of_copied
from curate.difficulty.scores import Scores, Split
from curate.difficulty.split import make_split
from curate.mixture.forecast import Exposure, Forecast, exposures_plot, forecast
from curate.mixture.forecast_words import lines
from curate.mixture.plan import Measured, NewRows, Plan, Realized, fold, identity
from tests.fixtures.splits import curves, scored

STEPS = np.array([10, 20, 30, 40, 50, 60])


def _made(n: int = 400, late: float = 0.2, sources: Any = None) -> tuple[Scores, Split]:
    scores = scored(curves(n, late=late)[0])
    scores = replace(scores, steps=STEPS)
    clusterer = KMeans() if sources is None else PerSource(clusterer=KMeans())
    return scores, make_split(scores, clusterer, ids=scores.ids, sources=sources)


def _new(m: int, origin: str = "synthetic", measured: Measured | None = None) -> Realized:
    names = [f"{origin}-{i}" for i in range(m)]
    return Realized(NewRows(pa.table({"x": names}), names, names, origin, measured=measured))


def _measured(cluster: list[int], hard: list[bool]) -> Measured:
    difficulty = np.where(np.array(cluster) < -1, np.nan, 1).astype(np.float32)
    return Measured(difficulty, np.array(cluster, np.int32), np.array(hard))


def _conserved(found: Forecast) -> None:
    """Exposures times rows, and what new rows without a cluster take, are the steps times the batch."""
    for name in ("rows", "rows_after"):
        assert sum(getattr(each, name) for each in found.clusters) == pytest.approx(getattr(found, name))
    assert sum(each.share_after for each in found.clusters) == pytest.approx(1)
    known = sum(each.rows * each.steps for each in found.clusters if each.steps is not None)
    apart = sum(each.share_after * found.rows for each in found.clusters if each.steps is None)
    assert known + apart == pytest.approx(found.rows)


def test_duplicates_are_the_formula() -> None:
    scores, split = _made()
    found = forecast(split, fold([Duplicate(times=2)], split, 0), scores=scores)
    _conserved(found)
    share = float(split.hard.mean())
    assert found.hard_share == pytest.approx(share)
    assert (found.hard.steps, found.easy.steps) == pytest.approx(of_copied(share, 3))
    assert (found.hard.epochs, found.easy.epochs) == pytest.approx((3, 1))
    assert [(each.hard, each.rows) for each in found.clusters] == [(False, found.easy.rows), (True, found.hard.rows)]
    counts = np.where(split.hard, 3, 1)
    assert found.effective_rows == pytest.approx(counts.sum() ** 2 / (counts**2).sum())
    assert found.effective_share == pytest.approx(found.effective_rows / 400)
    assert found.verdict.verdict == "not forecast"
    assert found.cautions == found.missing == ()


def test_without_copies_nothing_changes() -> None:
    scores, split = _made()
    found = forecast(split, identity(400), scores=scores)
    assert {each.steps for each in found.clusters} == {each.epochs for each in found.clusters} == {1.0}
    assert found.effective_share == 1


@pytest.mark.parametrize("copies", ["rows", "weights"])
@pytest.mark.parametrize("order", ["shuffle", "front"])
def test_any_chain_is_what_counting_draws_gives(copies: Any, order: Any) -> None:
    """Rows left out, copies and new rows of every kind, drawn as the result has them over some epochs."""
    scores, split = _made()
    plan = fold([Subset(size=0.7, choose="random"), Duplicate(times=3)], split, 1)
    realized = [
        _new(3, measured=_measured([0, 1, -2], [False, True, False])),
        _new(50, "replay"),
        _new(20, "synthetic"),
    ]
    found = forecast(split, plan, realized, scores, order=order, copies=copies)
    _conserved(found)
    weight = np.concatenate([plan.counts, np.ones(73)]).astype(float)
    cluster = np.concatenate([split.cluster, [0, 1, -2], np.full(70, -9)])
    rows, steps, rng = np.flatnonzero(weight), 40_000, np.random.default_rng(0)
    if copies == "rows":
        rows = np.repeat(np.arange(len(weight)), weight.astype(int))
        weight = np.ones(len(weight))
    drawn = np.concatenate([rng.permutation(rows) for _ in range(steps // len(rows) + 1)])[:steps]
    mean = weight[rows].mean()
    value = weight[drawn] / mean  # GivenWeights keeps the size of the updates
    if copies == "weights" and order == "front":
        value[steps // 2 :] = 1
    for each in found.clusters:
        if each.cluster is not None:
            assert each.rows
            counted = value[cluster[drawn] == each.cluster].sum() / (each.rows * steps / 400)
            assert each.steps == pytest.approx(counted, rel=0.03)
            assert each.epochs == pytest.approx(counted * len(rows) / 400, rel=0.03)
    by_name = {each.name: each for each in found.clusters}
    assert (by_name["replay"].new, by_name["replay"].rows, by_name["replay"].steps) == (50, 0, None)
    assert by_name["synthetic, not measured"].new == 20
    assert (by_name["not scored"].new, by_name["cluster 1"].new, found.hard.new, found.easy.new) == (1, 1, 1, 1)
    assert any("70 new rows were not measured" in note for note in found.missing)
    assert any("whole passes" in note for note in found.missing) == (order == "front")
    assert found.distinct_rows == 280 + 73


def test_the_fall_is_that_of_the_mean_loss_over_the_last_e_fold() -> None:
    scores, split = _made()
    found = forecast(split, identity(400), scores=scores)
    assert found.fitted_steps == (30, 40, 50, 60)  # from 60 / e on
    assert scores.trajectory is not None
    for each in (found.hard, found.easy):
        mean = scores.trajectory[split.hard == each.hard].mean(axis=0, dtype=float)
        assert each.loss == pytest.approx(mean[-1])
        assert each.fall == pytest.approx(-np.polyfit(np.log(STEPS[2:]), mean[2:], 1)[0])
    assert (found.hard.fall or 0) > (found.easy.fall or 0) > 0  # late rows fall at the end, see `curves`


def test_rows_drawn_anew_for_every_epoch_are_counted_per_epoch() -> None:
    scores, split = _made()
    plan = fold([Subset(size=0.5, choose="random", epochs=4, pool=0.8)], split, 0)
    found = forecast(split, plan, scores=scores)
    _conserved(found)
    assert found.rows_after == plan.counts.sum() == 4 * 200
    for each in (found.hard, found.easy):
        seen = plan.counts[split.hard == each.hard].sum()
        assert each.epochs == pytest.approx(seen / 4 / each.rows)
        assert each.steps == pytest.approx(seen / 2 / each.rows)


def test_it_says_whether_losses_are_in_sample() -> None:
    scores, split = _made()
    for known in (True, False, None):
        found = forecast(split, identity(400), scores=scores, in_sample=known)
        assert found.in_sample is known
        assert ("in-sample" in repr(found)) == (known is True)


def test_scores_are_joined_by_id() -> None:
    scores, split = _made()
    shuffled = scores.take(np.random.default_rng(0).permutation(400))
    assert forecast(split, identity(400), scores=shuffled) == forecast(split, identity(400), scores=scores)


@pytest.mark.parametrize(
    ("steps", "fitted"), [([0, 50, 100], (50, 100)), ([1, 100], (1, 100)), ([0, 100], (100,)), ([100], (100,))]
)
def test_few_checkpoints_tell_less(steps: list[int], fitted: tuple[int, ...]) -> None:
    scores, split = _made()
    assert scores.trajectory is not None
    fewer = replace(scores, trajectory=scores.trajectory[:, : len(steps)], steps=np.array(steps))
    found = forecast(split, identity(400), scores=fewer)
    assert found.fitted_steps == fitted
    assert (found.hard.fall is None) == (len(fitted) < 2) == any("proxy.checkpoints" in note for note in found.missing)
    assert found.hard.loss is not None


def test_scores_without_losses_say_what_is_missing() -> None:
    scores, split = _made()
    for given in (None, replace(scores, trajectory=None, steps=None)):
        found = forecast(split, fold([Duplicate()], split, 0), scores=given)
        assert found.hard.loss is found.hard.fall is None
        assert any("LossTrajectory" in note for note in found.missing)
        assert found.hard.steps == pytest.approx(of_copied(found.hard.share, 2)[0])


def test_clusters_per_source_are_told_apart() -> None:
    sources = np.array(["a", "b"] * 200, dtype=object)
    scores, split = _made(sources=sources)
    found = forecast(split, fold([Duplicate()], split, 0), scores=scores)
    _conserved(found)
    assert [(each.source, each.hard) for each in found.clusters] == [
        *(("a", False), ("a", True), ("b", False), ("b", True))
    ]
    assert found.clusters[3].name == "cluster 3 of b"
    mine = (sources == "b") & split.hard
    assert found.clusters[3].rows == mine.sum()
    assert scores.trajectory is not None
    assert found.clusters[3].loss == pytest.approx(scores.trajectory[mine, -1].mean(dtype=float))


def test_no_hard_rows_and_rows_that_could_not_be_scored() -> None:
    scores, split = _made()
    valid = np.arange(400) >= 8
    cluster = np.where(valid, 0, -2).astype(np.int32)
    nothing = replace(split, hard=np.zeros(400, bool), cluster=cluster, valid=valid)
    found = forecast(nothing, identity(400), scores=scores, suspects=None)
    _conserved(found)
    assert (found.hard.rows, found.hard.steps, found.hard_share, found.needed) == (0, None, 0, None)
    assert found.easy.rows == 392
    assert [each.name for each in found.clusters] == ["cluster 0", "not scored"]
    assert any("No row is hard" in note for note in found.missing)
    assert "no row is hard" in repr(found)


def _with_hard_share(share: float, suspects: float | None = None, plan: Plan | None = None) -> Forecast:
    scores, split = _made()
    hard = np.arange(400) < share * 400
    split = replace(split, hard=hard, cluster=hard.astype(np.int32))
    return forecast(split, plan or identity(400), scores=scores, suspects=suspects)


def test_the_factor_that_is_needed() -> None:
    found = _with_hard_share(0.1).needed
    assert found is not None
    assert (found.times, found.extra_rows) == (3, 80)  # 2 * 0.9 / 0.8 = 2.25
    assert (found.hard, found.easy) == pytest.approx(of_copied(0.1, 3))
    assert found.effective_share == pytest.approx(1.2**2 / 1.8)
    half = _with_hard_share(0.5)
    assert half.needed is None
    assert "no number of copies" in repr(half)
    assert "at equal steps: they are 50.0 % of all rows, so it stays below 2 times" in repr(half)


def test_it_is_plain_in_json_and_short_in_print() -> None:
    _, split = _made(n=800, sources=np.array([f"s{i % 8}\x1b[2J" for i in range(800)], dtype=object))
    found = forecast(split, fold([Duplicate()], split, 0), scores=None, suspects=0.5, order="front")
    record = found.to_json()
    assert json.loads(json.dumps(record)) == record
    assert set(record["clusters"][0]) == set(Exposure.__dataclass_fields__)
    assert lines(record) == repr(found).splitlines()
    assert len(lines(record)) <= 15
    assert "10 more in run.json" in repr(found)
    assert repr(found).startswith("Will copies help? not forecast: ")
    assert "\x1b" not in repr(found)


def test_bars_are_the_exposures() -> None:
    plot = exposures_plot([("hard", 1.5, 3.0), ("new <b>", None, None), ("not hard", 0.75, 1.0)])
    assert [trace["y"] for trace in plot["data"]] == [[1.5, 0.75], [3.0, 1.0]]
    assert plot["layout"]["xaxis"]["ticktext"] == ["hard", "not hard"]
    assert "<b>" not in str(exposures_plot([("new <b>", 1.0, 1.0)]))
