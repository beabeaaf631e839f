"""The whole: a dataset goes in, the rows that are learned late come back more often, and nothing else changes."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from sklearn.cluster import AgglomerativeClustering, Birch
from sklearn.mixture import GaussianMixture

import curate
from augmenters import Duplicate, Replay, Subset, Synthesize
from curate import InputError, Pipeline, Run
from curate.clusterers import HDBSCAN, KMeans, Quantile
from curate.curated import Curated
from curate.difficulty.reducible import Gains
from curate.difficulty.score_files import read_scores, write_scores
from curate.generators import Transformers
from curate.mixture.plan import fold, identity
from curate.proxy.budget import ForecastSettings
from scorers import FinalLoss, LossTrajectory, RankAverage, SAMSharpness
from tests.fixtures.pipelines import (
    TINY,
    Known,
    KnownTrajectory,
    _contract_table,
    _ids,
    _known,
    _planted,
    _random_text,
    _replay_file,
    _with_known,
)

pytestmark = pytest.mark.usefixtures("tiny_scratch")


# -- the right rows -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planted")


@pytest.mark.slow
def test_the_planted_half_is_found_and_shown_twice(planted_cache: Path) -> None:
    table, hard = _planted()
    curated = Pipeline(proxy=TINY, scorer=LossTrajectory(), clusterer=KMeans(), augmenters=[Duplicate(times=2)]).run(
        table, cache=planted_cache
    )
    assert _ids(curated, hard=True) == hard
    assert _ids(curated, origin="duplicate") == hard
    assert len(curated) == 120 + 2 * 60
    assert curated.scores.trajectory is not None
    assert curated.scores.trajectory.shape == (120, 3)


def test_rows_of_interleaved_sources_are_mapped_back_to_the_right_ids() -> None:
    """Positions inside a source are never taken for positions in the dataset."""
    rng = np.random.default_rng(1)
    sources = rng.choice(["big", "small"], 400, p=[0.8, 0.2])
    hard = rng.random(400) < 0.25
    # What is easy in one source is harder than the hard rows of the other: only a split per source is right.
    known = np.where(sources == "small", 10, 0) + np.where(hard, 2, 1) + rng.normal(0, 0.02, 400)
    table = _known(known, source=sources)
    curated = _with_known(clusterer=KMeans(per="source")).run(table)
    wanted = {f"r{i}" for i in np.flatnonzero(hard)}
    assert _ids(curated, origin="duplicate") == _ids(curated, hard=True) == wanted
    together = _with_known().run(table)
    assert _ids(together, hard=True) == {f"r{i}" for i in np.flatnonzero(sources == "small")}


@pytest.mark.slow
def test_rows_of_interleaved_sources_with_planted_text(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    sources = np.array(["a", "b", "b"])[np.arange(150) % 3]
    hard = rng.random(150) < 0.4
    easy = {"a": "yes yes yes yes", "b": "no no no no"}
    completions = [_random_text(rng, 16) if h else easy[s] for h, s in zip(hard, sources, strict=True)]
    table = pa.table({"prompt": [f"{i}?" for i in range(150)], "completion": completions, "source": sources})
    curated = Pipeline(
        proxy=TINY, scorer=LossTrajectory(), clusterer=KMeans(per="source"), augmenters=[Duplicate()], order="keep"
    ).run(table, cache=tmp_path)
    copied = curated.columns().filter(pc.equal(curated.columns()["origin"], "duplicate"))["source_id"].to_pylist()
    ids = curated.loaded.examples.ids.to_pylist()
    assert copied == [ids[i] for i in np.flatnonzero(hard)]


def _codes_with_shuffled_answers(seed: int = 0) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    """Codes to learn by heart: 3 keys seen often, 25 seen rarely; one answer in ten belongs to another row.

    Returns the table, (600,) rows of a rare key, and (600,) rows with a wrong answer.
    """
    rng = np.random.default_rng(seed)
    codes = ["".join(rng.choice(list("abcdefghij"), 6)) for _ in range(28)]
    rare = rng.random(600) < 0.4
    keys = np.where(rare, rng.integers(3, 28, 600), rng.integers(0, 3, 600))
    answers = np.array([codes[key] for key in keys])
    chosen = np.flatnonzero(rng.random(600) < 0.1)
    shuffled = answers.copy()
    shuffled[chosen] = np.roll(answers[chosen], 1)
    table = pa.table(
        {
            "id": [str(i) for i in range(600)],
            "prompt": [f"{'lab' if r else 'shop'} {k} ?" for k, r in zip(keys, rare, strict=True)],
            "completion": shuffled,
        }
    )
    return table, rare, shuffled != answers


@pytest.mark.slow
def test_shuffled_answers_are_called_noise_and_can_be_kept_from_being_copied(tmp_path: Path) -> None:
    table, rare, wrong = _codes_with_shuffled_answers()
    pipeline = Pipeline(
        proxy=TINY.model_copy(update={"steps": 100, "horizon": 300, "checkpoints": 4, "batch_size": 32}),
        scorer=LossTrajectory(),
        clusterer=KMeans(),
        augmenters=[Duplicate()],
    )
    curated = pipeline.run(table, cache=tmp_path)
    assert "likely_noise" in [warning.code for warning in curated.diagnostics.warnings]
    suspect = curated.diagnostics.noise_suspect
    assert (suspect & wrong).sum() / wrong.sum() >= 0.5  # recall
    assert (suspect & wrong).sum() / suspect.sum() >= 0.9  # precision

    # Every wrong answer is hard, so without a guard it is copied; with one, most are not, and good rows still are.
    assert (curated.plan.counts[wrong] > 1).mean() >= 0.8
    guarded = Duplicate(noise_guard=0.3).plan(identity(600), curated.split, 0)
    assert (guarded.counts[wrong] > 1).mean() <= 0.3
    late = rare & ~wrong
    assert (guarded.counts[late] > 1).mean() >= 0.7 * (curated.plan.counts[late] > 1).mean() > 0.5


def test_replay_of_a_table_in_memory_is_told_apart_by_its_content(tmp_path: Path) -> None:
    old = pq.read_table(_replay_file(tmp_path))
    outs = []
    for number, data in enumerate((old, old.slice(1), old.slice(1).to_pandas())):
        pipeline = _with_known(augmenters=[Replay(data=data, share=0.2)])
        curated = pipeline.run(_contract_table(), out=tmp_path / f"out-{number}")
        assert len(_ids(curated, origin="replay")) == round(0.2 * len(curated))
        outs.append(json.loads((tmp_path / f"out-{number}" / "run.json").read_text())["inputs"])
    assert len(set(outs)) == 3


# -- by hand --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_six_lines_by_hand_are_the_pipeline(planted_cache: Path, tmp_path: Path) -> None:
    table, _ = _planted()
    pq.write_table(table, tmp_path / "train.parquet")

    data = curate.read(tmp_path / "train.parquet")
    run = Run(TINY, planted_cache)
    scores = LossTrajectory().score(data, run)
    split = curate.make_split(scores, KMeans())
    plan = curate.fold([Duplicate(times=2)], split)
    dataset = curate.rebuild(data, split, plan, run)

    pipeline = Pipeline(proxy=TINY, scorer=LossTrajectory(), clusterer=KMeans(), augmenters=[Duplicate(times=2)])
    whole = pipeline.run(tmp_path / "train.parquet", cache=planted_cache)
    assert dataset.to_list() == whole.dataset.to_list()
    assert np.array_equal(scores.features, whole.scores.features)
    assert np.array_equal(plan.counts, whole.plan.counts)


@pytest.mark.parametrize("seed", [0, 5])
@pytest.mark.parametrize("clusterer", [KMeans(n_clusters=4, per="source"), GaussianMixture(3)])
def test_by_hand_with_sources_replay_and_a_seed(clusterer: Any, seed: int, tmp_path: Path) -> None:
    """Derived seeds are the same by hand: clusterer, augmenters and order."""
    rng = np.random.default_rng(seed)
    table = _known(rng.random(200), source=rng.choice(["a", "b"], 200))
    augmenters = [Duplicate(cap=0.1), Replay(data=_replay_file(tmp_path), share=0.2)]
    data = curate.read(table)
    scores = curate.difficulty.scores.as_scores(Known().score(data.examples, None), 200)
    split = curate.make_split(scores, clusterer, ids=data.examples.ids, sources=data.examples.sources(), seed=seed)
    plan = fold(augmenters, split, seed)
    by_hand = curate.rebuild(data, split, plan, Run(seed=seed))
    whole = _with_known(clusterer=clusterer, augmenters=augmenters, seed=seed).run(table)
    assert np.array_equal(split.cluster, whole.split.cluster)
    assert by_hand.equals(whole.dataset)


def test_scores_without_ids_cannot_be_split_without_ids() -> None:
    with pytest.raises(InputError, match=r"ids=examples\.ids"):
        curate.make_split(curate.difficulty.scores.as_scores(np.arange(4), 4), KMeans())


@pytest.mark.slow
@pytest.mark.parametrize(
    "scorer", [LossTrajectory(), FinalLoss(), SAMSharpness(), RankAverage(scorers=(FinalLoss(), Known()))]
)
def test_every_scorer_works_alone(scorer: Any, tmp_path: Path) -> None:
    table, _ = _planted(24)
    table = table.append_column("known", pa.array(np.arange(24.0)))
    run = Run(TINY.model_copy(update={"steps": 3, "horizon": 9}), cache=tmp_path)
    of_table, of_frame = scorer.score(table, run), scorer.score(table.to_pandas(), run)
    assert len(of_table) == 24
    assert of_table.valid.all()
    assert np.array_equal(of_table.difficulty, of_frame.difficulty)
    assert of_table.ids.to_pylist() == table["id"].to_pylist()


@pytest.mark.parametrize("clusterer", [KMeans(), HDBSCAN(min_cluster_size=10), Quantile()])
def test_every_clusterer_works_alone(clusterer: Any) -> None:
    features = np.random.default_rng(0).normal(size=(100, 3)) + np.repeat([[0], [9]], 50, axis=0)
    assert clusterer.fit_predict(features).shape == (100,)


@pytest.mark.parametrize("augmenter", [Duplicate(), Subset(size=0.5)])
def test_every_augmenter_works_alone(augmenter: Any) -> None:
    split = _with_known().run(_contract_table()).split
    assert len(augmenter.plan(identity(90), split, 0)) == 90


class Length:
    def score(self, examples, run):
        return [len(text) for text in examples.texts("completion", 0, len(examples))]


def test_a_scorer_is_a_class_of_three_lines() -> None:
    table = pa.table({"prompt": ["p"] * 30, "completion": ["ab"] * 20 + ["a much longer answer"] * 10})
    curated = Pipeline(scorer=Length(), clusterer=KMeans(), augmenters=[Duplicate()]).run(table)
    assert curated.split.difficulty.tolist() == [2] * 20 + [20] * 10
    assert len(curated) == 40


@pytest.mark.parametrize(
    "clusterer",
    [AgglomerativeClustering(2), GaussianMixture(2), Birch(n_clusters=2), KMeans(), HDBSCAN(min_cluster_size=8)],
    ids=lambda clusterer: type(clusterer).__name__,
)
def test_any_clusterer_finds_two_far_groups_and_none_is_fitted(clusterer: Any) -> None:
    before = vars(clusterer).copy()
    curated = _with_known(clusterer=clusterer).run(_contract_table())
    known = _contract_table()["known"].to_numpy()
    assert np.array_equal(curated.split.hard, known > 2.5)
    assert vars(clusterer) == before


@pytest.mark.slow
def test_stability_repeats_the_split_under_other_proxy_seeds(planted_cache: Path) -> None:
    table, hard = _planted()
    pipeline = Pipeline(
        proxy=TINY, scorer=LossTrajectory(), clusterer=KMeans(), augmenters=[Duplicate(times=2)], stability=3
    )
    curated = pipeline.run(table, cache=planted_cache)
    agreement = curated.diagnostics.seed_agreement
    assert agreement is not None
    assert agreement["seeds"] == 3
    assert agreement["jaccard"] == agreement["ari"] == 1.0
    assert _ids(curated, hard=True) == hard
    assert len(list((planted_cache / "proxies").iterdir())) >= 3
    once = pipeline.model_copy(update={"stability": 1}).run(table, cache=planted_cache)
    assert once.dataset.equals(curated.dataset)
    assert once.diagnostics.seed_agreement is None


@pytest.mark.slow
def test_rows_that_cannot_be_scored_are_kept_once_and_marked(tmp_path: Path) -> None:
    table, hard = _planted(60)
    completions = table["completion"].to_pylist()
    completions[4] = completions[9] = ""
    table = table.set_column(2, "completion", [completions])
    curated = Pipeline(proxy=TINY, scorer=LossTrajectory(), clusterer=KMeans(), augmenters=[Duplicate()]).run(
        table, cache=tmp_path
    )
    rows = {row["example_id"]: row for row in curated.columns().to_pylist()}
    for name in ("row-4", "row-9"):
        assert rows[name] == {
            "example_id": name,
            "source_id": name,
            "origin": "original",
            "copy": 0,
            "difficulty": None,
            "cluster": None,
            "hard": False,
        }
        assert f"{name}#1" not in rows
    assert curated.rejected.num_rows == 0
    assert _ids(curated, hard=True) == hard - {"row-4", "row-9"}


# -- what is degenerate ---------------------------------------------------------------------------------------------


def _codes(curated: Curated) -> list[str]:
    return [warning.code for warning in curated.diagnostics.warnings]


@pytest.mark.parametrize(
    "clusterer", [KMeans(), KMeans(n_clusters=3), HDBSCAN(), Quantile(), GaussianMixture(2)], ids=repr
)
def test_equal_rows_are_all_easy(clusterer: Any, tmp_path: Path) -> None:
    curated = _with_known(clusterer=clusterer, scorer=KnownTrajectory()).run(
        _known(np.full(50, 2.0)), out=tmp_path / "out"
    )
    assert not curated.split.hard.any()
    assert len(curated) == 50
    assert "one_cluster" in _codes(curated)


def test_many_rows_of_the_highest_difficulty_are_named_as_what_hides_the_hard_ones() -> None:
    curated = _with_known(clusterer=Quantile(q=0.2)).run(_known(np.r_[np.ones(30), np.full(20, 2.0)]))
    (warning,) = (each for each in curated.diagnostics.warnings if each.code == "one_cluster")
    assert "40% of the rows share the highest difficulty" in str(warning)


def test_one_row() -> None:
    with pytest.raises(InputError, match="1 rows cannot make 2 clusters"):
        _with_known().run(_known([1.0]))
    curated = _with_known(clusterer=Quantile()).run(_known([1.0]))
    assert curated.columns().to_pylist()[0]["hard"] is False
    assert _codes(curated) == ["one_cluster"]


def test_fewer_rows_than_clusters_is_an_error_that_says_so() -> None:
    with pytest.raises(InputError, match="5 rows cannot make 8 clusters; lower n_clusters"):
        _with_known(clusterer=KMeans(n_clusters=8)).run(_known(np.arange(5.0)))


def test_a_source_too_small_to_cluster_is_easy() -> None:
    known = [1.0] * 20 + [9.0] * 10 + [50.0]
    curated = _with_known(clusterer=KMeans(per="source")).run(_known(known, source=["a"] * 30 + ["b"]))
    assert np.flatnonzero(curated.split.hard).tolist() == list(range(20, 30))


def test_one_source_alone_is_as_no_source() -> None:
    table = _contract_table()
    with_source = table.append_column("source", pa.array(["only"] * 90))
    one = _with_known(clusterer=KMeans(per="source")).run(with_source)
    other = _with_known().run(table)
    assert np.array_equal(one.split.hard, other.split.hard)
    assert "hard_is_one_source" not in _codes(one)


def test_clustering_by_source_without_sources_says_what_to_do() -> None:
    with pytest.raises(InputError, match="per source but the rows have none: name a column"):
        _with_known(clusterer=KMeans(per="source")).run(_contract_table())


def test_a_constant_feature_changes_nothing() -> None:
    """KnownTrajectory's first checkpoint is the same for all rows."""
    for clusterer in (KMeans(), KMeans(standardize=True), GaussianMixture(2)):
        curated = _with_known(scorer=KnownTrajectory(), clusterer=clusterer).run(_contract_table())
        assert np.array_equal(curated.split.hard, _contract_table()["known"].to_numpy() > 2.5)


def test_all_rows_invalid_is_an_error() -> None:
    with pytest.raises(InputError, match="no row is valid"):
        _with_known().run(_known(pa.nulls(10, pa.float32())))


AUTO, PLANNED = Duplicate(times="auto"), ForecastSettings(steps=9)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"scorer": Known}, "Known is a class; give an object"),
        ({"scorer": object()}, "a scorer has a method score"),
        ({"clusterer": Duplicate()}, "a clusterer has a method fit_predict"),
        ({"augmenters": [KMeans()]}, "an augmenter has a method plan"),
        ({"hard": 0}, "hard"),
        ({"stability": 0}, "stability"),
        ({"augmenters": (AUTO, Duplicate()), "forecast": PLANNED}, r"augmenters\.1 copies them too"),
        ({"augmenters": (Duplicate(), AUTO), "forecast": PLANNED}, r"augmenters\.0 copies them too"),
        ({"augmenters": (AUTO, AUTO), "forecast": PLANNED}, r"augmenters\.1 copies them too"),
    ],
)
def test_a_part_that_does_not_fit_is_refused_at_once(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        _with_known(**changes)


def test_a_forecast_number_of_copies_stands_beside_what_copies_no_hard_rows() -> None:
    for other in (Duplicate(of="random"), Synthesize(generator=Transformers(model="none")), Subset(size=0.5)):
        assert _with_known(augmenters=(AUTO, other), forecast=PLANNED).augmenters[1] == other


# -- reducible rows ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gaining:
    """As KnownTrajectory, of rows that gain what is in a column; null rows gain nothing."""

    def score(self, examples, run):
        scores = KnownTrajectory().score(examples, run)
        gained, null = examples.table["gained"].to_numpy(), np.zeros(100)
        return replace(scores, gains=Gains(gained, null, scores.difficulty, null + 9, (8, 8), (4, 4)))


def test_only_reducible_hard_rows_are_copied_also_by_scores_of_a_file(tmp_path: Path) -> None:
    hard = np.arange(200) % 2 == 0
    right = np.arange(200) % 5 > 0
    table = _known(np.where(hard, 9.0, 1.0), gained=np.where(right, 1.0, 0.0))
    pipeline = Pipeline(scorer=Gaining(), clusterer=KMeans(), augmenters=[Duplicate(only="reducible")])
    curated = pipeline.run(table, out=tmp_path / "out", cache=tmp_path)
    assert (curated.plan.counts > 1).tolist() == (hard & right).tolist()
    record = json.loads((tmp_path / "out" / "run.json").read_text())["diagnostics"]["reducible"]
    assert record["verdict"] == "estimated"
    assert record["interval"][0] < record["wrong_share"] == pytest.approx(0.2)
    split = pq.read_table(tmp_path / "out" / "tables" / "split.parquet")
    assert split["reducible"].to_pylist() == right.tolist()
    write_scores(curated.scores, curated.loaded.examples.ids, tmp_path / "scores.parquet")
    for path in (tmp_path / "scores.parquet", tmp_path / "out" / "tables" / "scores.parquet"):
        again = pipeline.run(table, scores=read_scores(path), cache=tmp_path)
        assert again.plan.counts.tolist() == curated.plan.counts.tolist()
        assert again.diagnostics.reducible == curated.diagnostics.reducible
    bare = replace(curated.scores, gains=None)
    with pytest.raises(InputError, match="scores do not include them"):
        pipeline.run(table, scores=bare, cache=tmp_path)
    named = pipeline.run(table, scores=replace(bare, reducible=~right), cache=tmp_path)
    assert (named.plan.counts > 1).tolist() == (hard & ~right).tolist()


def test_where_reducible_rows_cannot_be_told_one_line_says_that_nothing_is_filtered(tmp_path: Path) -> None:
    table = _known(np.where(np.arange(200) % 2, 9.0, 1.0), gained=np.zeros(200))
    augmenters = [Subset(drop="irreducible"), Duplicate(only="reducible")]
    curated = Pipeline(scorer=Gaining(), clusterer=KMeans(), augmenters=augmenters).run(table, cache=tmp_path)
    assert curated.plan.counts.sum() == 300
    (line,) = (each for each in curated.warnings if each.code == "reducible_unknown")
    assert "leave no row out" in line.message


def test_an_interrupted_call_says_so_in_few_lines(tmp_path: Path) -> None:
    class Interrupted:
        def score(self, examples: Any, run: Any) -> Any:
            raise KeyboardInterrupt

    pipeline = _with_known(scorer=Interrupted(), augmenters=[Duplicate()])
    with pytest.raises(KeyboardInterrupt, match="the same call resumes") as caught:
        pipeline.run(_contract_table(), cache=tmp_path, progress=False)
    assert len(caught.traceback) == 2  # this test, and what it called
