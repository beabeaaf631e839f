"""Weights that runs gave, as a column: joined by id, averaged over runs, and trained on as they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate
import curate.models.scratch
from augmenters import Duplicate
from curate.cli.main import main
from curate.clusterers import KMeans
from curate.errors import DataWarning, InputError
from curate.finetuning.config import Finetuning
from curate.finetuning.data import training_data
from curate.finetuning.finetune import finetune
from curate.finetuning.run_folder import read_run
from curate.finetuning.weights import read_weights
from curate.pipeline import Pipeline
from curate.reweighters import IRDRO, DynamicLoss, GivenWeights
from tests.fixtures.weights import Call, N, drawn, json_call, table, weights_file


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    return json_call(capsys)


# -- which weight a row gets -------------------------------------------------------------------------------------------


def test_rows_are_joined_by_id_and_stay_in_order(tmp_path: Path) -> None:
    weights = drawn(0)
    weighed = curate.add_weights(table(), weights_file(tmp_path / "w.parquet", weights))
    result = weighed.dataset
    assert result.drop_columns(["example_id", "weight"]).equals(table())
    assert result["example_id"].to_pylist() == table()["id"].to_pylist()
    assert result["weight"].to_pylist() == [weights[f"r{i}"] for i in range(N)]
    assert result.schema.field("weight").type == pa.float32()


def test_of_several_runs_the_mean(tmp_path: Path) -> None:
    given = [drawn(seed) for seed in range(3)]
    files = [weights_file(tmp_path / f"{k}.parquet", each) for k, each in enumerate(given)]
    expected = [np.mean([each[f"r{i}"] for each in given]) for i in range(N)]
    assert np.allclose(curate.add_weights(table(), files).weights, expected, rtol=1e-6)
    assert np.allclose(curate.add_weights(table(), files[::-1]).weights, expected, rtol=1e-6)
    normal = curate.add_weights(table(), files, normalize=True).weights
    assert normal.mean() == pytest.approx(1)
    assert np.allclose(normal / normal[0], np.array(expected) / expected[0], rtol=1e-5)
    with pytest.warns(DataWarning, match="called normalize now"):
        assert np.array_equal(curate.add_weights(table(), files, normalise=True).weights, normal)


def test_a_row_that_was_not_drawn_counts_as_an_average_one(tmp_path: Path) -> None:
    """Whether its run never came to it (null) or did not have it (absent); and whatever the scale of other runs."""
    first: dict[str, float | None] = {f"r{i}": 1.0 + i % 3 for i in range(N)} | {"r4": None, "r5": None}
    second: dict[str, float | None] = {f"r{i}": 10.0 * (1 + i % 3) for i in range(N)} | {"r4": 50.0}
    del second["r5"]
    del second["r6"]
    files = [weights_file(tmp_path / f"{k}.parquet", each) for k, each in enumerate((first, second))]
    alone = curate.add_weights(table(), files[0])
    mean = np.mean([value for value in first.values() if value is not None])
    assert alone.weights[[4, 5]] == pytest.approx([mean, mean])
    assert alone.counts | {"output_weighted": 0} == {
        "input": N,
        "output": N,
        "rejected": 0,
        "output_weighted": 0,
        "drawn": N - 2,
        "drawn_by_some": 0,
        "not_drawn": 2,
    }
    both = curate.add_weights(table(), files)
    other = np.mean([value for value in second.values() if value is not None])
    assert both.weights[[4, 5, 6]] == pytest.approx([(mean + 50) / 2, (mean + other) / 2, (1 + other) / 2])
    assert (both.counts["drawn"], both.counts["drawn_by_some"], both.counts["not_drawn"]) == (N - 3, 2, 1)
    assert both.runs[1].record()["rows_absent"] == 2


@pytest.mark.parametrize("kind", ["pandas", "dataset"])
def test_the_kind_that_came_in_comes_back(kind: str, tmp_path: Path) -> None:
    import datasets

    data: Any = {"pandas": table().to_pandas(), "dataset": datasets.Dataset(table())}[kind]
    result = curate.add_weights(data, weights_file(tmp_path / "w.parquet", drawn(1))).dataset
    assert type(result) is type(data)
    assert [float(each) for each in result["weight"]] == [drawn(1)[f"r{i}"] for i in range(N)]


@pytest.mark.parametrize(
    ("changed", "data", "message"),
    [
        ({"elsewhere": 1.0}, {}, r"1 of the 31 ids .* 'elsewhere'; name the data that the run was trained on"),
        ({"r3": -0.5}, {}, r"'r3' is -0.5; a weight is a number of at least 0"),
        ({"r3": float("inf")}, {}, r"'r3' is inf"),
        ({f"r{i}": None for i in range(N)}, {}, "no row was drawn"),
        ({f"r{i}": 0.0 for i in range(N)}, {}, "all weights are 0"),
        ({}, {"weight": [1] * N}, r"column 'weight'.*rename or remove"),
    ],
)
def test_what_cannot_be_a_weight_is_named(
    changed: dict[str, float | None], data: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = weights_file(tmp_path / "w.parquet", drawn(0) | changed)
    with pytest.raises(InputError, match=message):
        curate.add_weights(table(**data), path)


def test_files_that_hold_no_weights_are_named(tmp_path: Path) -> None:
    twice = weights_file(tmp_path / "twice.parquet", {"r1": 1.0})
    pq.write_table(pa.concat_tables([pq.read_table(twice)] * 2), twice)
    pq.write_table(table(), tmp_path / "rows.parquet")
    (tmp_path / "text.parquet").write_text("weights")
    rows = {"example_id": ["r1"], "weight": ["heavy"], "times": [1]}
    pq.write_table(pa.table(rows), tmp_path / "words.parquet")
    pq.write_table(pa.table(rows | {"example_id": [["r1"]], "weight": [1.0]}), tmp_path / "lists.parquet")
    for name, message in (
        ("twice.parquet", "has an id twice"),
        ("rows.parquet", "not a table of weights"),
        ("text.parquet", "not a table of weights"),
        ("words.parquet", "not a table of weights"),
        ("lists.parquet", "not a table of weights"),
        ("nowhere", "holds no weights"),
    ):
        with pytest.raises(InputError, match=message):
            curate.add_weights(table(), tmp_path / name)
    with pytest.raises(InputError, match="there are no weights"):
        curate.add_weights(table(), [])
    loaded = curate.read(table())
    with pytest.raises(InputError, match=r"where=\.\.\. has no effect"):
        curate.add_weights(loaded, weights_file(tmp_path / "w.parquet", drawn(0)), where="id=r1")


def test_copies_of_a_curated_folder_have_weights_of_their_own(tmp_path: Path) -> None:
    class Known:
        def score(self, examples: Any, run: Any) -> Any:
            return np.arange(len(examples)) >= N - 5

    Pipeline(scorer=Known(), clusterer=KMeans(), augmenters=(Duplicate(),)).run(table(), out=tmp_path / "curated")
    ids = training_data(tmp_path / "curated", {}).examples.ids.to_pylist()
    assert len(ids) == N + 5
    weights = {name: float(number) for number, name in enumerate(ids, start=1)}
    weighed = curate.add_weights(
        tmp_path / "curated", weights_file(tmp_path / "w.parquet", weights), out=tmp_path / "out"
    )
    rows = pq.read_table(tmp_path / "out" / "data")
    assert rows.column_names == [*pq.read_table(tmp_path / "curated" / "data").column_names, "weight"]
    assert {row["example_id"]: row["weight"] for row in rows.to_pylist()} == weights
    assert len(weighed) == N + 5


# -- the folder --------------------------------------------------------------------------------------------------------


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, Path]:
    """(data, weights) as files."""
    pq.write_table(table(), tmp_path / "data.parquet")
    return tmp_path / "data.parquet", weights_file(tmp_path / "w.parquet", drawn(0) | {"r7": None})


# -- from one run to the next ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def _tiny_scratch() -> Any:
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    shape |= {"num_attention_heads": 2, "num_key_value_heads": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curate.models.scratch, "_SCRATCH_SHAPE", shape)
        patch.setattr(curate.models.scratch, "_SCRATCH_VOCABULARY", 300)
        yield


def settings(**changes: Any) -> Finetuning:
    return Finetuning(model="scratch", batch_size=10, max_length=48, precision="float32", **changes)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Two runs over all rows, and one that stopped after a third of them."""
    folder = tmp_path_factory.mktemp("runs")
    for name, steps, seed in (("a", 6, 0), ("b", 6, 1), ("short", 1, 0)):
        finetune(table(), settings(steps=steps, seed=seed, reweighter=DynamicLoss(r=0.5)), folder / name)
    return tuple(folder / name for name in ("a", "b", "short"))


def test_weights_of_runs_are_those_the_next_run_trains_with(runs: tuple[Path, ...], tmp_path: Path, call: Call) -> None:
    pq.write_table(table(), tmp_path / "data.parquet")
    out = tmp_path / "weighed"
    status, found = call("weigh", tmp_path / "data.parquet", "--weights", *runs[:2], "--out", out)
    assert status == 0
    assert found["warnings"] == []
    assert [each["reweighter"]["use"].rpartition(".")[2] for each in found["runs"]] == ["DynamicLoss"] * 2
    ours = dict(zip(*(pq.read_table(out / "data")[name].to_pylist() for name in ("example_id", "weight")), strict=True))
    for k in (0, 17):
        means = [dict(zip(ids.to_pylist(), w, strict=True))[f"r{k}"] for ids, w, _ in map(read_weights, runs[:2])]
        assert ours[f"r{k}"] == pytest.approx(np.mean(means))
    assert len({round(weight, 4) for weight in ours.values()}) > 3

    arguments = ["finetune", out, "--model", "scratch", "--reweighter", "GivenWeights", "--steps", "3"]
    arguments += ["--batch-size", "10", "--max-length", "48", "--out", tmp_path / "run"]
    assert call(*arguments)[0] == 0
    ids, used, times = read_weights(tmp_path / "run")
    assert times.tolist() == [1] * N  # three steps of ten rows
    ratio = used / np.array([ours[name] for name in ids.to_pylist()])
    assert np.allclose(ratio, ratio[0], rtol=1e-5)
    # What it took to know the weights is part of what that run cost.
    curation = read_run(tmp_path / "run")["curation"]
    trained = [read_run(run) for run in runs[:2]]
    assert curation["tokens"] == sum(each["training"]["tokens"] for each in trained)
    assert curation["proxy_parameters"] == trained[0]["model"]["parameters"]


def test_weights_of_a_method_that_averages_rows_are_trained_on_as_such(
    runs: tuple[Path, ...], tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is stored is the method's own weight, of mean 1 over the rows of a step, and the way to use it says so."""
    pq.write_table(table(completion=["word " * (1 + 4 * (i % 5)) for i in range(N)]), tmp_path / "data.parquet")
    run, out = tmp_path / "rows", tmp_path / "weighed"
    record = finetune(tmp_path / "data.parquet", settings(steps=6, reweighter=IRDRO()), run)
    _, weights, times = read_weights(run)
    assert (weights @ times) / times.sum() == pytest.approx(1, abs=1e-5)
    assert (record["training"]["weights"]["averages"], read_run(runs[0])["training"]["weights"]["averages"]) == (
        "rows",
        "tokens",
    )
    assert main(["weigh", str(tmp_path / "data.parquet"), "--weights", str(run), "--out", str(out)]) == 0
    (remedy,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next: curate ")]
    assert "--reweighter GivenWeights --set reweighter.averages=rows" in remedy
    assert "--set reweighter.averages=rows" in (out / "README.md").read_text()
    words = remedy.removeprefix("next: curate ").replace("MODEL", "scratch").replace("RUN", str(tmp_path / "again"))
    status, again = call(*words.split(), "--steps", "3", "--batch-size", "10", "--max-length", "48")
    assert status == 0
    assert again["settings"]["reweighter"]["averages"] == "rows"
    assert again["training"]["weights"]["mean"] == pytest.approx(1, abs=1e-5)
    mixed = curate.add_weights(tmp_path / "data.parquet", [run, runs[0]])
    assert "averages" in [each["code"] for each in mixed.warnings]
    assert mixed.averages == "tokens"


def test_rows_that_a_short_run_did_not_come_to_are_told(runs: tuple[Path, ...]) -> None:
    weighed = curate.add_weights(table(), runs[2])
    assert weighed.counts["not_drawn"] == N - 10
    (warning,) = weighed.warnings
    assert (warning["code"], "66.7%" in warning["message"]) == ("not_drawn", True)
    assert len(set(weighed.weights[~weighed.runs[0].drawn].tolist())) == 1


def test_other_text_under_the_same_ids_is_told(runs: tuple[Path, ...]) -> None:
    weighed = curate.add_weights(table(completion=["4"] * N), runs[0])
    assert [each["code"] for each in weighed.warnings] == ["other_text"]


def test_rows_in_another_order_or_beside_others_are_the_same_text(runs: tuple[Path, ...]) -> None:
    backwards = table().take(np.arange(N)[::-1])
    more = pa.concat_tables([table(N + 1).slice(N), backwards])
    for data in (backwards, more):
        weighed = curate.add_weights(data, runs[0])
        assert weighed.warnings == []
        assert weighed.runs[0].absent == len(data) - N
    assert np.array_equal(
        curate.add_weights(backwards, runs[0]).weights[::-1], curate.add_weights(table(), runs[0]).weights
    )


def test_other_weights_are_another_run(tmp_path: Path) -> None:
    """Ids and text are the same, and nothing else of the data decided a run that has no reweighter."""
    for number, weight in enumerate((1.0, 2.0)):
        rows = table(weight=[weight] * 5 + [1.0] * (N - 5))
        if number == 0:
            finetune(rows, settings(steps=1, reweighter=GivenWeights()), tmp_path / "run")
            continue
        with pytest.raises(InputError, match="other data or settings"):
            finetune(rows, settings(steps=1, reweighter=GivenWeights()), tmp_path / "run")
    finetune(table(weight=[1.0] * N), settings(steps=1), tmp_path / "plain")
    finetune(table(weight=[3.0] * N), settings(steps=1), tmp_path / "plain")


def test_weighing_loads_no_torch(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    code = (
        "import sys, curate.cli.main\n"
        f"status = curate.cli.main.main(['weigh', {str(inputs[0])!r}, '--weights', {str(inputs[1])!r},"
        f" '--out', {str(tmp_path / 'out')!r}])\n"
        "sys.exit(status or ('torch' in sys.modules) * 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "next: curate finetune" in done.stdout


def test_earlier_names_are_read_and_warn() -> None:
    with pytest.warns(FutureWarning, match=r"curate\.weigh is called curate\.add_weights now"):
        assert curate.weigh is curate.add_weights
    with pytest.warns(FutureWarning, match=r"curate\.Weighed is called curate\.WeightedDataset now"):
        assert curate.Weighed is curate.WeightedDataset
