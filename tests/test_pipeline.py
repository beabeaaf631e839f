"""The whole: a dataset goes in, the rows that are learned late come back more often, and nothing else changes."""

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from sklearn.cluster import AgglomerativeClustering, Birch
from sklearn.mixture import GaussianMixture

import curate
import curate.models
from augmenters import Duplicate, Replay, Subset
from curate import InputError, Pipeline, Proxy, Run
from curate.clusterers import HDBSCAN, KMeans, Quantile
from curate.curated import Curated
from curate.difficulty.score_files import read_scores, write_scores
from curate.difficulty.scores import Scores
from curate.mixture.plan import fold, identity
from scorers import FinalLoss, LossTrajectory, RankAverage, SAMSharpness

ADDED = ["example_id", "source_id", "origin", "copy", "difficulty", "cluster", "hard"]
TINY = Proxy(model="scratch", steps=24, horizon=72, checkpoints=3, batch_size=16, max_length=48, learning_rate=5e-3)


@pytest.fixture(scope="module", autouse=True)
def _tiny_scratch() -> Iterator[None]:
    """The scratch proxy at a size that learns what is planted here in seconds."""
    shape = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curate.models.scratch, "_SCRATCH_SHAPE", shape)
        patch.setattr(curate.models.scratch, "_SCRATCH_VOCABULARY", 400)
        yield


@dataclass(frozen=True)
class Known:
    """A plug-in whose difficulties stand in a column; null = cannot be scored."""

    column: str = "known"

    def score(self, examples, run):
        return examples.table[self.column].cast(pa.float64()).to_numpy()


@dataclass(frozen=True)
class KnownTrajectory:
    """As Known, with a loss trajectory that falls from 5 to the known value."""

    def score(self, examples, run):
        known = examples.table["known"].to_numpy().astype(np.float32)
        trajectory = np.stack([np.full_like(known, 5), (known + 5) / 2, known], axis=1)
        steps, tokens = np.array([1, 2, 3]), np.full(len(known), 7, np.int32)
        return Scores(trajectory, known, np.isfinite(known), trajectory, steps, tokens)


def _random_text(rng: np.random.Generator, length: int = 20) -> str:
    return "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz0123456789"), length))


def _planted(n: int = 120, seed: int = 0) -> tuple[pa.Table, set[str]]:
    """Every other row (in a random order) has a random string as its completion, the rest one constant text."""
    rng = np.random.default_rng(seed)
    hard = rng.permutation(np.arange(n) % 2 == 0)
    completions = [_random_text(rng) if each else "the answer is always the same" for each in hard]
    ids = [f"row-{i}" for i in range(n)]
    table = pa.table({"id": ids, "prompt": [f"code of {i}?" for i in range(n)], "completion": completions})
    return table, {ids[i] for i in np.flatnonzero(hard)}


def _known(known: Any, **columns: Any) -> pa.Table:
    n = len(known)
    base = {
        "id": [f"r{i}" for i in range(n)],
        "prompt": [f"p{i}" for i in range(n)],
        "completion": [f"c{i}" for i in range(n)],
        "known": pa.array(known, pa.float32()),
    }
    return pa.table({**base, **columns})


def _with_known(**changes: Any) -> Pipeline:
    return Pipeline(**{"scorer": Known(), "clusterer": KMeans(), "augmenters": [Duplicate()], **changes})


def _ids(curated: Curated, **wanted: Any) -> set[str]:
    """source_id of the result's rows with these values."""
    rows = curated.columns().to_pylist()
    return {row["source_id"] for row in rows if all(row[name] == value for name, value in wanted.items())}


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


# -- the output contract --------------------------------------------------------------------------------------------


def _contract_table() -> pa.Table:
    rng = np.random.default_rng(3)
    known = np.concatenate([rng.normal(1, 0.1, 60), rng.normal(4, 0.1, 30)]).astype(np.float32)
    order = rng.permutation(90)
    return _known(
        pa.array(known[order], mask=np.isin(np.arange(90), [5, 17])),
        score=pa.array(np.arange(90), pa.int8()),
        tags=pa.array([["x"] * (i % 3) for i in range(90)]),
        kind=pa.array([f"k{i % 4}" for i in range(90)]).dictionary_encode(),
        maybe=pa.array([None if i % 5 == 0 else float(i) for i in range(90)]),
        nothing=pa.nulls(90),
    )


def _replay_file(folder: Path, rows: int = 200) -> Path:
    table = pa.table({"prompt": [f"old {i}" for i in range(rows)], "completion": [f"answer {i}" for i in range(rows)]})
    pq.write_table(table, folder / "replay.parquet")
    return folder / "replay.parquet"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Curated, Path]:
    folder = tmp_path_factory.mktemp("written")
    replay = Replay(data=str(_replay_file(folder)), share=0.1)
    pipeline = _with_known(scorer=KnownTrajectory(), augmenters=[Duplicate(times=2), replay])
    return pipeline.run(_contract_table(), out=folder / "out"), folder / "out"


def _assert_keeps_the_contract(rows: pa.Table, source: pa.Table) -> None:
    """Every promise about the columns that holds for a result of `written`'s pipeline, in memory or on disk."""
    assert rows.column_names == source.column_names + ADDED
    assert rows.select(source.column_names).schema.equals(source.schema)
    assert [str(rows.schema.field(name).type) for name in ADDED] == [
        *("string", "string", "string", "int32", "float", "int32", "bool")
    ]
    by_id = {row["id"]: row for row in source.to_pylist()}
    found = rows.to_pylist()
    assert len({row["example_id"] for row in found}) == len(found)
    for row in found:
        added = {name: row.pop(name) for name in ADDED}
        if added["origin"] == "replay":
            assert added["example_id"] == added["source_id"]
            assert [added[name] for name in ("copy", "difficulty", "cluster", "hard")] == [0, None, None, None]
            assert row["id"] is None
            assert row["prompt"].removeprefix("old ") == row["completion"].removeprefix("answer ")
            continue
        parent = by_id[added["source_id"]]
        assert row == parent
        copy = added["copy"]
        assert added["origin"] == ("duplicate" if copy else "original")
        assert added["example_id"] == added["source_id"] + (f"#{copy}" if copy else "")
        assert added["difficulty"] == parent["known"]
        assert added["hard"] == (parent["known"] is not None and parent["known"] > 2.5)
        assert added["cluster"] == (None if parent["known"] is None else int(added["hard"]))
    copies = [row["example_id"] for row in rows.to_pylist()]
    for row in by_id.values():
        expected = 3 if row["known"] is not None and row["known"] > 2.5 else 1
        assert sum(1 for each in copies if each == row["id"] or each.startswith(f"{row['id']}#")) == expected


def test_the_result_in_memory_keeps_the_contract(written: tuple[Curated, Path]) -> None:
    _assert_keeps_the_contract(written[0].dataset, _contract_table())


def test_the_written_rows_are_those_of_the_result(written: tuple[Curated, Path]) -> None:
    curated, folder = written
    rows = pq.read_table(folder / "data")
    _assert_keeps_the_contract(rows, _contract_table())
    assert rows.equals(curated.dataset)


def test_the_folder_holds_what_is_promised_and_nothing_else(written: tuple[Curated, Path]) -> None:
    folder = written[1]
    assert {path.name for path in folder.iterdir()} == {"data", "tables", "README.md", "report.html", "run.json"}
    assert [path.name for path in (folder / "data").iterdir()] == ["train-00000-of-00001.parquet"]
    assert {path.stem for path in (folder / "tables").iterdir()} == {
        *("trajectories", "scores", "split", "plan", "rejected")
    }
    assert "configs:" in (folder / "README.md").read_text()
    head = (folder / "report.html").read_text().partition("</head>")[0]
    assert re.search(r"Content-Security-Policy[^>]*default-src (&#39;|')none", head)  # the page can reach no network


def test_tables_are_joined_by_example_id(written: tuple[Curated, Path]) -> None:
    folder = written[1]
    tables = {path.stem: pq.read_table(path) for path in (folder / "tables").iterdir()}
    ids = _contract_table()["id"].to_pylist()
    for name in ("trajectories", "scores", "split", "plan"):
        assert tables[name]["example_id"].to_pylist() == ids
    data = pq.read_table(folder / "data")
    first = {row["source_id"]: row for row in data.to_pylist()}
    for row in tables["split"].to_pylist():
        assert first[row["example_id"]]["hard"] == row["hard"]
        assert first[row["example_id"]]["difficulty"] == row["difficulty"]
    appearances = pc.value_counts(data["source_id"]).to_pylist()
    counted = {each["values"]: each["counts"] for each in appearances}
    assert {row["example_id"]: row["count"] for row in tables["plan"].to_pylist()} == {
        name: counted[name] for name in ids
    }
    assert tables["trajectories"].column_names == ["example_id", "tokens", "loss_1", "loss_2", "loss_3"]
    assert tables["scores"]["difficulty"].null_count == tables["trajectories"]["loss_3"].null_count == 2
    assert tables["rejected"].num_rows == 0  # invalid rows are in the result


def test_every_row_that_is_left_out_is_recorded_with_its_place_in_the_input(tmp_path: Path) -> None:
    table = _contract_table()
    prompts = [None if i == 3 else cell for i, cell in enumerate(table["prompt"].to_pylist())]
    table = table.set_column(1, "prompt", pa.array(prompts))
    pipeline = _with_known(augmenters=[Subset(size=20)])
    curated = pipeline.run(table, out=tmp_path / "out", on_bad_row="drop", where="kind!=k1")
    rejected = pq.read_table(tmp_path / "out" / "tables" / "rejected.parquet").to_pylist()
    assert (rejected[0]["row"], rejected[0]["stage"]) == (3, "read")
    assert {row["stage"] for row in rejected[1:]} == {"plan"}
    assert all(row["example_id"] == f"r{row['row']}" for row in rejected[1:])
    kept, gone = set(_ids(curated)), {row["example_id"] for row in rejected[1:]}
    assert len(kept) == 20
    assert not kept & gone
    assert kept | gone | {"r3"} == {f"r{i}" for i in range(90) if i % 4 != 1}


def test_counts_are_those_of_the_data(written: tuple[Curated, Path]) -> None:
    curated, folder = written
    record = json.loads((folder / "run.json").read_text())
    data = pq.read_table(folder / "data")
    known = _contract_table()["known"].to_numpy()
    hard = int((known > 2.5).sum())
    counts = record["counts"]
    assert counts["input"] == 90
    assert (counts["valid"], counts["invalid"], counts["rejected"]) == (88, 2, 0)
    assert (counts["hard"], counts["easy"], counts["noise"]) == (hard, 88 - hard, 0)
    assert counts["output"] == data.num_rows == len(curated)
    assert counts["original"] == 90
    assert counts["duplicate"] == 2 * hard
    assert counts["replay"] == round(0.1 * data.num_rows)
    assert counts["tokens_before"] == 7 * 90
    assert counts["tokens_after"] == 7 * (90 + 2 * hard)
    origins = {each["values"]: each["counts"] for each in pc.value_counts(data["origin"]).to_pylist()}
    assert {name: counts[name] for name in origins} == origins
    assert record["seed"] == 0
    assert Pipeline.from_yaml(record["recipe_yaml"], allow_plugins=[__name__.split(".")[0]]) == curated.pipeline


def test_load_dataset_reads_the_folder(written: tuple[Curated, Path], tmp_path: Path) -> None:
    import datasets

    curated, folder = written
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path))
    assert list(loaded) == ["train"]
    assert len(loaded["train"]) == len(curated)
    assert loaded["train"]["example_id"] == curated.columns()["example_id"].to_pylist()


def test_reading_a_result_again_needs_consent(written: tuple[Curated, Path]) -> None:
    with pytest.raises(InputError, match="example_id"):
        _with_known().run(str(written[1]))


class Forbidden:
    def score(self, examples, run):
        raise AssertionError("nothing needs to be scored")


def test_a_folder_of_other_files_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        _with_known(scorer=Forbidden()).run(_contract_table(), out=tmp_path)
    assert (tmp_path / "data" / "precious.txt").read_text() == "mine"


def test_order_is_a_seeded_shuffle_or_the_input_with_copies_behind_their_row(tmp_path: Path) -> None:
    table = _contract_table()
    replay = Replay(data=_replay_file(tmp_path), share=0.1)
    recipe = {"augmenters": [Duplicate(times=2), replay]}
    kept = _with_known(**recipe, order="keep").run(table).columns()["example_id"].to_pylist()
    old = [name for name in kept if not name.startswith("replay:")]
    assert kept[: len(old)] == old
    assert list(dict.fromkeys(name.split("#")[0] for name in old)) == table["id"].to_pylist()
    assert all(
        later == f"{name.split('#')[0]}#{int(name.partition('#')[2] or 0) + 1}"
        for name, later in itertools.pairwise(old)
        if "#" in later
    )
    one, again = (_with_known(**recipe).run(table).columns()["example_id"].to_pylist() for _ in range(2))
    other = _with_known(**recipe, seed=1).run(table).columns()["example_id"].to_pylist()
    assert one == again
    assert sorted(one) == sorted(kept)
    assert one != kept != other != one
    first, second = (_with_known(seed=seed).run(table).columns()["example_id"].to_pylist() for seed in (0, 1))
    assert first != second
    assert sorted(first) == sorted(second)
    late = [place for place, name in enumerate(one) if "#" in name]
    assert 0.35 < np.mean(late) / len(one) < 0.65  # copies are everywhere, not last


@pytest.mark.slow
def test_the_same_inputs_and_seed_give_the_same_bytes(tmp_path: Path) -> None:
    table, _ = _planted(60)
    proxy = TINY.model_copy(update={"steps": 6, "horizon": 18})

    def run(name: str, seed: int = 0) -> dict[str, bytes]:
        pipeline = Pipeline(
            proxy=proxy, scorer=LossTrajectory(), clusterer=KMeans(), augmenters=[Duplicate()], seed=seed
        )
        out = tmp_path / name
        pipeline.run(table, out=out, cache=tmp_path / f"cache of {name}")
        files = [*(out / "data").iterdir(), *(out / "tables").iterdir()]
        return {path.name: path.read_bytes() for path in files}

    one = run("one")
    assert len(one) == 6
    assert one == run("two")
    other = run("other", seed=1)
    assert one["train-00000-of-00001.parquet"] != other["train-00000-of-00001.parquet"]
    assert one["trajectories.parquet"] != other["trajectories.parquet"]


def test_given_scores_give_what_measuring_gives(tmp_path: Path) -> None:
    table = _contract_table()
    pipeline = _with_known(scorer=KnownTrajectory())
    direct = pipeline.run(table, out=tmp_path / "direct")
    write_scores(direct.scores, direct.loaded.examples.ids, tmp_path / "scores.parquet")
    shuffled = pq.read_table(tmp_path / "scores.parquet").take(np.random.default_rng(0).permutation(90))
    pq.write_table(shuffled, tmp_path / "scores.parquet")

    given = _with_known(scorer=Forbidden()).run(
        table, out=tmp_path / "given", scores=read_scores(tmp_path / "scores.parquet")
    )
    assert given.dataset.equals(direct.dataset)
    for path in (*(tmp_path / "direct" / "data").iterdir(), *(tmp_path / "direct" / "tables").iterdir()):
        assert (tmp_path / "given" / path.parent.name / path.name).read_bytes() == path.read_bytes(), path.name
    assert given.proxy_facts is None
    assert given.diagnostics.to_json() == direct.diagnostics.to_json()


# -- in kind --------------------------------------------------------------------------------------------------------


def test_a_frame_comes_back_as_a_frame() -> None:
    frame = pd.DataFrame(
        {
            "prompt": [f"p{i}" for i in range(40)],
            "completion": [f"c{i}" for i in range(40)],
            "known": np.r_[np.ones(30), np.full(10, 9.0)],
            "label": pd.Categorical(["u", "v"] * 20),
            "count": pd.array([None, 1] * 20, dtype="Int16"),
        },
        index=pd.Index([f"label-{i}" for i in range(40)], name="key"),
    )
    before = frame.copy(deep=True)
    result = _with_known().run(frame).dataset
    assert isinstance(result, pd.DataFrame)
    assert list(result.columns) == [*frame.columns, *ADDED]
    assert result.dtypes[: len(frame.columns)].equals(frame.dtypes)
    assert result.index.name == "key"
    pd.testing.assert_frame_equal(result[frame.columns], frame.loc[result.index])
    assert sorted(result.index[result["copy"] == 1]) == sorted(frame.index[30:])
    pd.testing.assert_frame_equal(frame, before)


def test_an_arrow_table_comes_back_with_its_types() -> None:
    turn = pa.struct([("role", pa.string()), ("content", pa.large_string())])
    table = pa.table(
        {
            "messages": pa.array(
                [[{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": "a"}] for i in range(20)],
                pa.large_list(turn),
            ),
            "source": pa.array(["s", "t"] * 10).dictionary_encode(),
            "note": pa.array([None, "n"] * 10, pa.large_string()),
            "known": np.r_[np.ones(15), np.full(5, 9.0)],
        }
    )
    result = _with_known(order="keep").run(table).dataset
    assert isinstance(result, pa.Table)
    assert result.select(table.column_names).schema.equals(table.schema)
    rows = [*range(15), *np.repeat(range(15, 20), 2)]
    assert result.select(table.column_names).to_pylist() == table.take(rows).to_pylist()


def test_a_dataset_comes_back_with_its_features_and_a_dict_with_its_test_split() -> None:
    import datasets

    features = datasets.Features(
        {
            "prompt": datasets.Value("string"),
            "completion": datasets.Value("string"),
            "known": datasets.Value("float32"),
            "label": datasets.ClassLabel(names=["no", "yes"]),
        }
    )
    columns = {
        "prompt": [f"p{i}" for i in range(30)],
        "completion": [f"c{i}" for i in range(30)],
        "known": [1.0] * 20 + [9.0] * 10,
        "label": [0, 1] * 15,
    }
    train = datasets.Dataset.from_dict(columns, features=features)
    result = _with_known().run(train).dataset
    assert isinstance(result, datasets.Dataset)
    assert {name: result.features[name] for name in features} == dict(features)
    assert len(result) == 40
    held_out = train.select(range(5))
    both = _with_known().run(datasets.DatasetDict({"train": train, "test": held_out})).dataset
    assert isinstance(both, datasets.DatasetDict)
    assert both["test"] is held_out
    assert both["train"]["example_id"] == result["example_id"]


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


def test_the_union_of_measures_is_traced_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import curate.proxy.trace as trace_module

    asked = []
    real = trace_module.trace

    def spy(examples: Any, proxy: Any, measures: Any, run: Any) -> Any:
        asked.append([type(measure).__name__ for measure in measures])
        return real(examples, proxy, measures, run)

    monkeypatch.setattr(trace_module, "trace", spy)
    table, _ = _planted(16)
    proxy = TINY.model_copy(update={"steps": 3, "horizon": 9})
    scorer = RankAverage(scorers=(FinalLoss(), LossTrajectory(), SAMSharpness(rows=8)))
    curated = Pipeline(proxy=proxy, scorer=scorer, clusterer=KMeans()).run(table, cache=tmp_path)
    assert len(asked) == 1
    assert set(asked[0]) == {"MeanLoss", "SAMSharpness"}
    assert curated.scores.features.shape == (16, 3)


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


def test_a_copy_that_takes_another_rows_id_is_an_error() -> None:
    table = _known([1.0, 1.0, 9.0, 1.0]).set_column(0, "id", [["a", "b", "c", "c#1"]])
    with pytest.raises(InputError, match="'c#1' stands for two rows"):
        _ = _with_known().run(table).dataset


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"scorer": Known}, "Known is a class; give an object"),
        ({"scorer": object()}, "a scorer has a method score"),
        ({"clusterer": Duplicate()}, "a clusterer has a method fit_predict"),
        ({"augmenters": [KMeans()]}, "an augmenter has a method plan"),
        ({"hard": 0}, "hard"),
        ({"stability": 0}, "stability"),
    ],
)
def test_a_part_that_does_not_fit_is_refused_at_once(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        _with_known(**changes)


def test_an_empty_plan_names_the_augmenter() -> None:
    class Nothing:
        def plan(self, plan, split, seed):
            return plan.leave_out(plan.planned, "none is wanted")

    with pytest.raises(InputError, match=r"after augmenter 1 \(Nothing\) the plan holds no rows"):
        _with_known(augmenters=[Duplicate(), Nothing()]).run(_contract_table())
