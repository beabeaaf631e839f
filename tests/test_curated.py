"""The result in memory and in a folder: the rows of the plan, in the form of the input, the same every time."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from augmenters import Duplicate, Replay, Subset
from curate import InputError, Pipeline
from curate.clusterers import KMeans
from curate.curated import Curated, inputs_fingerprint, recipe_text
from curate.data.readers import read
from curate.difficulty.score_files import read_scores, write_scores
from curate.difficulty.split import given_scores
from curate.gate.gate import Gate
from scorers import LossTrajectory
from tests.fixtures.pipelines import (
    TINY,
    FromColumn,
    KnownTrajectory,
    _contract_table,
    _ids,
    _planted,
    _replay_file,
    _with_known,
    pipeline_by_column,
    rows_of_known_difficulty,
)

pytestmark = pytest.mark.usefixtures("tiny_scratch")

ADDED = ["example_id", "source_id", "origin", "copy", "difficulty", "cluster", "hard"]


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
    assert {path.name for path in folder.iterdir()} == {
        "data",
        "tables",
        "README.md",
        "dataset_info.json",
        "report.html",
        "run.json",
    }
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


def test_the_forecast_is_of_the_rows_that_are_written(written: tuple[Curated, Path]) -> None:
    curated, folder = written
    record = json.loads((folder / "run.json").read_text())["forecast"]
    assert record == curated.forecast().to_json()
    rows = pq.read_table(folder / "data")
    hard = pc.sum(pc.equal(rows["hard"], True)).as_py()
    assert record["rows_after"] == rows.num_rows
    assert record["hard"]["rows_after"] == hard
    assert record["hard"]["steps"] == pytest.approx(hard / rows.num_rows / (hard / 3 / 90))
    assert [(each["name"], each["new"]) for each in record["clusters"] if each["new"]] == [
        ("replay", rows.num_rows - 90 - hard * 2 // 3)
    ]
    assert record["fitted_steps"] == [2, 3]
    mean = {each["name"]: each["loss"] for each in (record["hard"], record["easy"])}
    for name, known in (("hard", 4), ("not hard", 1)):
        assert mean[name] == pytest.approx(known, abs=0.1)


def test_load_dataset_reads_the_folder(written: tuple[Curated, Path], tmp_path: Path) -> None:
    import datasets

    curated, folder = written
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path))
    assert list(loaded) == ["train"]
    assert len(loaded["train"]) == len(curated)
    assert loaded["train"]["example_id"] == curated.columns()["example_id"].to_pylist()


def test_reading_a_result_again_needs_consent(written: tuple[Curated, Path]) -> None:
    with pytest.raises(InputError, match="are copies; leave them out with"):
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


def test_a_changed_replay_file_is_another_input(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    loaded = read(rows_of_known_difficulty())
    pipeline = pipeline_by_column(augmenters=[Replay(data=str(path), share=0.2)])
    prints = []
    for n in (20, 21):
        pq.write_table(rows_of_known_difficulty(n).select(["prompt", "completion"]), path)
        prints.append(inputs_fingerprint(pipeline, loaded, None))
    assert prints[0] != prints[1]


def test_what_decides_the_result_decides_the_fingerprint(tmp_path: Path) -> None:
    loaded, held_out = read(rows_of_known_difficulty()), tmp_path / "held_out.parquet"
    pq.write_table(rows_of_known_difficulty(3), held_out)
    gated = pipeline_by_column(gate=Gate(evaluation=(str(held_out),)))
    prints = [
        inputs_fingerprint(pipeline_by_column(), loaded, None),
        inputs_fingerprint(pipeline_by_column(seed=1), loaded, None),
        inputs_fingerprint(pipeline_by_column(), read(rows_of_known_difficulty(29)), None),
        inputs_fingerprint(pipeline_by_column(), loaded, given_scores(np.arange(30), loaded.examples.ids)),
        inputs_fingerprint(gated, loaded, None),
    ]
    pq.write_table(rows_of_known_difficulty(4), held_out)
    prints.append(inputs_fingerprint(gated, loaded, None))
    assert len(set(prints)) == len(prints)
    assert inputs_fingerprint(pipeline_by_column(), read(rows_of_known_difficulty()), None) == prints[0]


def test_a_recipe_that_cannot_be_written_down_is_a_comment_that_says_why() -> None:
    class Local(FromColumn):
        pass

    assert recipe_text(pipeline_by_column(scorer=Local())).startswith("# ")
    assert recipe_text(pipeline_by_column()).startswith("scorer:")
