"""New rows by the measure of the originals: same checkpoints, same clusters, nothing trained and nothing twice."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import curate.proxy.trace as trace_module
from curate.clusterers import KMeans
from curate.component import Component
from curate.console.progress import Progress
from curate.data.examples import Examples
from curate.data.readers import read
from curate.difficulty.scores import Scores, Split, as_scores
from curate.difficulty.split import make_split
from curate.errors import InputError
from curate.mixture.rescoring import Rescored, behind, rescore
from curate.proxy.measures import MeanLoss
from curate.proxy.proxy import Proxy
from curate.proxy.trace import cached_state
from curate.run import Run
from scorers import (
    EarlyOutput,
    FinalLoss,
    InstructionFollowingDifficulty,
    LossTrajectory,
    RankAverage,
    SAMSharpness,
)
from scorers import Length as CompletionLength

PROXY = Proxy(model="scratch", steps=6, checkpoints=2, batch_size=8, max_length=48, precision="float32")
INVALID_ROW = 5
N = 40


def examples_of(
    rows: range, prefix: str = "old", columns: tuple[str, ...] = (), invalid: int | None = None
) -> Examples:
    table = {
        "id": [f"{prefix}-{i}" for i in rows],
        "prompt": [f"What is {i} plus {i % 7}?" for i in rows],
        "completion": ["" if i == invalid else f"{i} + {i % 7} = " + "so " * (i % 5) + f"{i + i % 7}" for i in rows],
        "source": [("sums", "more", None)[i % 3] for i in rows],
        **{name: [0] * len(rows) for name in columns},
    }
    return read(pa.table(table)).examples


@pytest.fixture(scope="module", autouse=True)
def _small_shards() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace_module, "SHARD_ROWS", 16)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the proxy run and the losses of the originals."""
    cache = tmp_path_factory.mktemp("trained")
    Run(PROXY, cache).trace(ORIGINALS, [MeanLoss()])
    return cache


@pytest.fixture
def cache(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "cache"))


ORIGINALS = examples_of(range(N), invalid=INVALID_ROW)
COPIES = examples_of(range(N), "copy", invalid=INVALID_ROW)
FRESH = examples_of(range(100, 110), "new", invalid=104)


class Length(Component):
    """Characters of the completion, no model: a bare array."""

    def score(self, examples: Examples, run: Run) -> np.ndarray:
        return np.array([len(text) for text in examples.texts("completion", 0, len(examples))], np.float32)


def split_of(scorer: Any, clusterer: Any, run: Run, examples: Examples = ORIGINALS) -> tuple[Scores, Split]:
    scores = as_scores(scorer.score(examples, run), len(examples)).with_ids(examples.ids)
    return scores, make_split(scores, clusterer, sources=examples.sources())


def again(new: Examples, split: Split, cache: Path, scorer: Any = None, clusterer: Any = None) -> tuple[Rescored, Any]:
    """Rescored with a Run that remembers nothing, and the stages it went through."""
    run = Run(PROXY, cache, progress=Progress("none"))
    scorer, clusterer = scorer or LossTrajectory(), clusterer or KMeans()
    found = rescore(new, ORIGINALS, split, scorer=scorer, clusterer=clusterer, run=run)
    return found, [cost.name for cost in run.progress.costs]


# -- measuring ------------------------------------------------------------------------------------------------------


def test_copies_of_the_originals_get_their_trajectories_and_clusters_and_nothing_is_trained(cache: Path) -> None:
    scores, split = split_of(LossTrajectory(), KMeans(), Run(PROXY, cache))
    found, stages = again(COPIES, split, cache)
    assert stages == ["tokenize", "measure"]  # of the new rows alone
    assert scores.trajectory is not None
    assert found.scores.trajectory is not None
    assert np.allclose(found.scores.trajectory, scores.trajectory, atol=1e-5, equal_nan=True)
    assert np.allclose(found.difficulty, scores.difficulty, atol=1e-5, equal_nan=True)
    assert found.scores.ids.equals(COPIES.ids)
    assert np.array_equal(found.cluster, split.cluster)
    assert np.array_equal(found.hard, split.hard)
    assert 0 < found.hard.sum() < N
    assert found.hard_rate == split.hard.mean()


def test_the_second_time_nothing_is_tokenized_or_measured(cache: Path) -> None:
    _, split = split_of(LossTrajectory(), KMeans(), Run(PROXY, cache))
    first, stages = again(FRESH, split, cache)
    assert stages == ["tokenize", "measure"]
    entries = {path: path.stat().st_mtime_ns for path in cache.rglob("*.npy")}
    second, stages = again(FRESH, split, cache)
    assert stages == []
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.npy")} == entries
    assert np.array_equal(first.scores.features, second.scores.features)
    assert np.array_equal(first.cluster, second.cluster)


def test_other_rows_are_measured_for_themselves(cache: Path) -> None:
    _, split = split_of(LossTrajectory(), KMeans(), Run(PROXY, cache))
    first, _ = again(FRESH, split, cache)
    other, stages = again(examples_of(range(200, 210), "new"), split, cache)
    assert "measure" in stages
    assert not np.allclose(first.difficulty, other.difficulty, equal_nan=True)


def test_a_row_counts_the_same_whatever_stands_beside_it(cache: Path) -> None:
    _, split = split_of(LossTrajectory(), KMeans(), Run(PROXY, cache))
    together, _ = again(FRESH, split, cache)
    alone, _ = again(FRESH.take(np.array([7])), split, cache)
    assert np.allclose(alone.difficulty, together.difficulty[7], atol=1e-4)
    assert alone.cluster[0] == together.cluster[7]


def test_new_rows_leave_the_originals_as_they_are(cache: Path) -> None:
    run = Run(PROXY, cache)
    before = run.trace(ORIGINALS, [MeanLoss()])
    values, n = before.of(MeanLoss()).copy(), len(before.valid)
    both = behind(ORIGINALS, FRESH)
    extended = replace(run, trained_on=ORIGINALS).trace(both, [MeanLoss()])
    assert np.array_equal(extended.of(MeanLoss())[:N], values, equal_nan=True)
    after = run.trace(ORIGINALS, [MeanLoss()])
    assert len(after.valid) == n
    assert np.array_equal(after.of(MeanLoss()), values, equal_nan=True)
    assert extended.proxy_key == after.proxy_key


def test_a_vanished_checkpoint_is_trained_again(cache: Path) -> None:
    scores, split = split_of(LossTrajectory(), KMeans(), Run(PROXY, cache))
    (proxy_training,) = [path for path in (cache / "proxies").iterdir() if path.is_dir()]
    shutil.rmtree(proxy_training / "step-000003")
    assert not cached_state(ORIGINALS, PROXY, [MeanLoss()], Run(PROXY, cache)).trained
    found, stages = again(COPIES, split, cache)
    assert "train the proxy" in stages
    assert cached_state(ORIGINALS, PROXY, [MeanLoss()], Run(PROXY, cache)).trained
    assert np.allclose(found.difficulty, scores.difficulty, atol=1e-5, equal_nan=True)


def test_rows_without_completion_text_are_marked_and_never_hard(cache: Path) -> None:
    _, split = split_of(LossTrajectory(), KMeans(), Run(PROXY, cache))
    found, _ = again(FRESH, split, cache)
    marked = np.arange(100, 110) == 104
    assert np.array_equal(found.cluster == -2, marked)
    assert np.array_equal(np.isnan(found.difficulty), marked)
    assert not found.hard[marked].any()
    alone, stages = again(FRESH.take(np.array([4])), split, cache, scorer=SAMSharpness(ascent="batch"))
    assert alone.cluster.tolist() == [-2]
    assert alone.hard_rate == 0
    assert stages.count("measure") == 1  # the originals' sharpness


def test_no_rows_at_all(cache: Path) -> None:
    _, split = split_of(LossTrajectory(), KMeans(), Run(PROXY, cache))
    found, _ = again(FRESH.take(np.array([], np.int64)), split, cache)
    assert len(found) == len(found.hard) == len(found.scores) == 0
    assert found.hard_rate is None


# -- any scorer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scorer",
    [
        FinalLoss(),
        Length(),
        SAMSharpness(rho=0.5, rows=16),
        SAMSharpness(rho=0.5, ascent="example"),
        EarlyOutput(within=1),
        InstructionFollowingDifficulty(),
        CompletionLength(unit="tokens"),
        RankAverage(scorers=(LossTrajectory(), Length(), SAMSharpness(rows=16))),
    ],
    ids=lambda scorer: type(scorer).__name__,
)
def test_copies_get_the_clusters_of_their_originals_under_any_scorer(cache: Path, scorer: Any) -> None:
    scores, split = split_of(scorer, KMeans(), Run(PROXY, cache))
    found, stages = again(COPIES, split, cache, scorer=scorer)
    assert "train the proxy" not in stages
    assert np.array_equal(found.cluster, split.cluster)
    assert 0 < found.hard.sum() < N
    if isinstance(scorer, RankAverage):
        # Beside its copy a row shares two places: the scaled ranks move by less than one place of the originals.
        valid = scores.valid
        assert np.allclose(found.difficulty[valid], scores.difficulty[valid], atol=1 / (N - 2))
    else:
        assert np.allclose(found.difficulty, scores.difficulty, atol=1e-5, equal_nan=True)


def test_a_scorer_without_a_model_needs_no_proxy(tmp_path: Path) -> None:
    _, split = split_of(Length(), KMeans(), Run(PROXY, tmp_path))
    found, stages = again(FRESH, split, tmp_path, scorer=Length())
    assert stages == []
    assert np.array_equal(found.difficulty, Length().score(FRESH, Run()))
    assert not list(tmp_path.iterdir())


def test_the_ascent_direction_is_that_of_the_originals(cache: Path) -> None:
    """One new row by itself has the sharpness it has among others; its own gradient would be another direction."""
    scorer = SAMSharpness(rho=0.5, rows=16)
    scores, split = split_of(scorer, KMeans(), Run(PROXY, cache))
    found, _ = again(COPIES.take(np.array([9])), split, cache, scorer=scorer)
    assert np.allclose(found.difficulty, scores.difficulty[9], atol=1e-4)


def test_the_whole_dataset_is_tokenized_only_for_a_measure_that_asks(cache: Path) -> None:
    scorer = SAMSharpness(rows=16)
    _, split = split_of(scorer, KMeans(), Run(PROXY, cache))
    _, stages = again(FRESH, split, cache, scorer=scorer)
    assert stages.count("tokenize") == 2  # the new rows, and the originals for the gradient
    _, stages = again(COPIES, split, cache)
    assert stages.count("tokenize") == 1


def test_a_scorer_that_asks_for_the_values_of_other_examples_is_refused(cache: Path) -> None:
    class Half(Component):
        def score(self, examples: Examples, run: Run) -> np.ndarray:
            half = examples.take(np.arange(0, len(examples), 2))
            return np.repeat(run.trace(half, [MeanLoss()]).of(MeanLoss())[:, -1, 0], 2)[: len(examples)]

    _, split = split_of(LossTrajectory(), KMeans(), Run(PROXY, cache))
    with pytest.raises(InputError, match="let the scorer pass on the examples"):
        again(FRESH, split, cache, scorer=Half())


# -- clusters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("small_sources", ["cluster", "all_hard"])
def test_per_source_a_row_joins_a_cluster_of_its_own_source(cache: Path, small_sources: Any) -> None:
    clusterer = KMeans(per="source", small_sources=small_sources)
    _, split = split_of(LossTrajectory(), clusterer, Run(PROXY, cache))
    found, _ = again(FRESH, split, cache, clusterer=clusterer)
    old, new = ORIGINALS.sources(), FRESH.sources()
    assert old is not None
    assert new is not None
    for row in np.flatnonzero(found.scores.valid):
        alike = split.cluster == found.cluster[row]
        assert {old[k] for k in np.flatnonzero(alike)} == {new[row]}
        assert found.hard[row] == split.hard[alike].all() == split.hard[alike].any()
    assert (small_sources == "all_hard") == bool(found.hard[found.scores.valid].all())
    run = Run(PROXY, cache)
    told = rescore(
        FRESH, ORIGINALS, split, scorer=LossTrajectory(), clusterer=clusterer, run=run, sources=["sums"] * 10
    )
    assert {old[k] for k in np.flatnonzero(np.isin(split.cluster, told.cluster) & split.valid)} == {"sums"}


# -- what is refused ------------------------------------------------------------------------------------------------


def test_rows_of_another_schema_are_refused() -> None:
    with pytest.raises(InputError, match=r"new rows have the columns .*extra"):
        behind(ORIGINALS, examples_of(range(3), "new", ("extra",)))
    table = FRESH.table.set_column(0, "id", FRESH.table["id"].cast(pa.large_string()))
    with pytest.raises(InputError, match="column 'id' of the new rows is large_string, not string"):
        behind(ORIGINALS, replace(FRESH, table=table))
    with pytest.raises(InputError, match="with roles"):
        behind(ORIGINALS, replace(FRESH, columns={"prompt": "completion", "completion": "prompt"}))


def test_schemas_that_differ_in_notes_alone_fit() -> None:
    fields = [field.with_nullable(False) for field in FRESH.table.schema]
    noted = pa.Table.from_arrays(FRESH.table.columns, schema=pa.schema(fields, {"made": "elsewhere"}))
    both = behind(ORIGINALS, replace(FRESH, table=noted))
    assert both.table.schema.equals(ORIGINALS.table.schema, check_metadata=True)
    assert both.slice(0, N).fingerprint() == ORIGINALS.fingerprint()
    assert both.slice(N, N + 10).fingerprint() == FRESH.fingerprint()
    assert both.ids.to_pylist() == ORIGINALS.ids.to_pylist() + FRESH.ids.to_pylist()


def test_an_id_that_is_there_already_is_refused() -> None:
    with pytest.raises(InputError, match="example id 'old-3' names two rows"):
        behind(ORIGINALS, examples_of(range(3, 4)))


def test_a_split_of_other_rows_is_refused(tmp_path: Path) -> None:
    _, split = split_of(Length(), KMeans(), Run(PROXY, tmp_path))
    with pytest.raises(InputError, match="is not of these 10 examples"):
        rescore(ORIGINALS, FRESH, split, scorer=Length(), clusterer=KMeans(), run=Run(PROXY, tmp_path))


def test_per_source_without_sources_is_refused(tmp_path: Path) -> None:
    clusterer = KMeans(per="source")
    plain = {role: name for role, name in ORIGINALS.columns.items() if role != "source"}
    old, new = replace(ORIGINALS, columns=plain), replace(FRESH, columns=plain)
    scores = as_scores(Length().score(old, Run()), N)
    split = make_split(scores, clusterer, ids=old.ids, sources=ORIGINALS.sources())
    for sources, message in ((None, "the new rows have none"), (["sums"], r"shape \(1,\) for 10 new rows")):
        with pytest.raises(InputError, match=message):
            rescore(new, old, split, scorer=Length(), clusterer=clusterer, run=Run(PROXY, tmp_path), sources=sources)
