"""Copies as weights: the rows of the same plan, once each, and how often they count beside them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

import curate
from augmenters import Duplicate, Replay, Subset
from curate.cli.main import main
from curate.clusterers import KMeans
from curate.console.progress import Progress
from curate.curated import Curated
from curate.difficulty.score_files import write_scores
from curate.difficulty.scores import Scores
from curate.errors import InputError
from curate.finetuning.config import Finetuning
from curate.mixture.plan import fold
from curate.models.batches import make_batch
from curate.models.gradients import mean_gradient
from curate.pipeline import Pipeline
from curate.report.finished_run import read_finished
from curate.report.sizes import origins, sources
from curate.reweighters import DynamicLoss, GivenWeights
from curate.run import Run
from curate.training.reweighting import BatchOutputs, OptimizerBatch, Training, TrainingRows
from curate.validation.arms import _given
from curate.validation.config import Addition, Validation
from tests.fixtures.models import random_tokens, tiny_model

N = 60


@dataclass(frozen=True)
class Known:
    """Difficulties out of a column, with the losses and tokens a proxy would have left."""

    def score(self, examples: Any, run: Any) -> Scores:
        known = examples.table["known"].to_numpy().astype(np.float32)
        trajectory = np.stack([np.full_like(known, 5), known], axis=1)
        tokens = np.arange(3, 3 + len(known), dtype=np.int32)
        return Scores(trajectory, known, np.isfinite(known), trajectory, np.array([1, 2]), tokens)


@dataclass(frozen=True)
class AnyCounts:
    """A plan without a pattern: rows are left out, kept, or copied up to four times."""

    def plan(self, plan: Any, split: Any, seed: int) -> Any:
        return plan.with_counts(np.random.default_rng(seed).integers(0, 6, len(plan)))


def table(n: int = N, **columns: Any) -> pa.Table:
    rng = np.random.default_rng(n)
    known = np.where(rng.random(n) < 0.3, 3, 1) + rng.normal(0, 0.05, n)
    base: dict[str, Any] = {
        "id": [f"r{i}" for i in range(n)],
        "prompt": [f"p{i}" for i in range(n)],
        "completion": [f"c{i}" for i in range(n)],
        "source": [("maths", "code")[i % 2] for i in range(n)],
        "known": known,
    }
    return pa.table({**base, **columns})


OTHER = pa.table({"prompt": [f"q{i}" for i in range(90)], "completion": [f"a{i}" for i in range(90)]})
PLANS = {
    "duplicate": (Duplicate(times=2),),
    "capped": (Duplicate(times=3, cap=0.2),),
    "subset": (Subset(size=25), Duplicate(times=1)),
    "replay": (Duplicate(times=2), Replay(data=OTHER, share=0.25)),
    "any": (AnyCounts(), Replay(data=OTHER, share=0.1)),
}


def both(data: Any, **changes: Any) -> tuple[Curated, Curated]:
    """The same pipeline with copies as rows and as weights."""
    fields = {"scorer": Known(), "clusterer": KMeans(), "augmenters": (Duplicate(times=2),), **changes}
    rows, weights = (Pipeline(**fields, copies=copies).run(data) for copies in ("rows", "weights"))
    return rows, weights


# -- the same rows, counted instead of repeated ------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["shuffle", "keep"])
@pytest.mark.parametrize("name", PLANS)
def test_weights_are_the_counts_and_all_else_is_the_first_of_each_row(name: str, order: str) -> None:
    as_rows, as_weights = both(table(), augmenters=PLANS[name], order=order)
    rows, weighted = as_rows.dataset, as_weights.dataset
    once = rows.filter(pc.equal(rows["copy"], 0))
    assert weighted.drop_columns("weight").equals(once)
    assert weighted.schema.field("weight").type == pa.float32()
    counts = pd.Series(rows["source_id"].to_pylist()).value_counts()
    found = dict(zip(weighted["source_id"].to_pylist(), weighted["weight"].to_pylist(), strict=True))
    assert found == {key: float(value) for key, value in counts.items()}
    assert len(weighted) == len(as_weights) < len(rows)
    assert sum(found.values()) == len(rows)
    assert {w for w, origin in zip(weighted["weight"].to_pylist(), weighted["origin"].to_pylist(), strict=True)
            if origin == "replay"} <= {1.0}  # fmt: skip


@pytest.mark.parametrize("times", [1, 3])
def test_the_gradient_is_that_of_the_copies(times: int) -> None:
    """All rows in one batch: GivenWeights on the weights of a plan, and the mean gradient over its copied rows."""
    data = curate.read(table(12, known=[1.0] * 8 + [3.0] * 4))
    split = curate.make_split(Known().score(data.examples, Run()).with_ids(data.examples.ids), KMeans())
    plan = fold([Duplicate(times=times)], split)
    weighted = curate.rebuild(data, split, plan, order="keep", copies="weights")
    model, tokens = tiny_model(), random_tokens([(3, k) for k in range(4, 16)], seed=times)
    assert tokens.valid.all()
    copied = np.repeat(np.arange(12), plan.counts)
    assert len(copied) == 12 + 4 * times
    shared: dict[str, Any] = {"device": torch.device("cpu"), "budget": 10_000}
    expected = mean_gradient(model, tokens.take(copied), **shared)

    rows = TrainingRows({"weight": weighted["weight"].to_pylist()})
    training = Training(
        model, tokens, rows, 12, 0, torch.device("cpu"), False, lambda t, r: make_batch(t, r), lambda: 10_000
    )
    counts = torch.from_numpy(tokens.completion_tokens.astype(np.int64))
    batch = OptimizerBatch(0, counts, torch.arange(12))
    given = GivenWeights().begin(training).weights(batch, BatchOutputs(torch.ones(12)))
    total = [torch.zeros_like(each) for each in expected]
    for row in range(12):  # the loss of the training loop, sum of w n l over sum of n, a row at a time
        part = mean_gradient(model, tokens.take(np.array([row])), **shared)
        share = float(given[row]) * int(counts[row]) / int(counts.sum())
        total = [sum_ + share * each for sum_, each in zip(total, part, strict=True)]
    for one, other in zip(total, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", ["pandas", "dataset", "rebuilt"])
def test_every_kind_of_result_has_the_column(kind: str) -> None:
    import datasets

    data: Any = {"pandas": table().to_pandas(), "dataset": datasets.Dataset(table()), "rebuilt": table()}[kind]
    rows, weighted = (each.dataset for each in both(data))
    if kind == "rebuilt":
        loaded = curate.read(data)
        curated = both(data)[1]
        again = curate.rebuild(loaded, curated.split, curated.plan, order="shuffle", copies="weights")
        assert again.equals(weighted)
    assert np.asarray(weighted["weight"], np.float32).sum() == len(rows)


def test_one_recipe_written_down_and_read_again() -> None:
    pipeline = Pipeline.from_recipe("quick", settings=["copies=weights"])
    assert pipeline.copies == "weights"
    assert "copies: weights" in pipeline.to_yaml()
    assert Pipeline.from_yaml(pipeline.to_yaml()) == pipeline
    assert "copies" not in Pipeline.from_recipe("quick").to_yaml()
    with pytest.raises(InputError, match="copies"):
        Pipeline.from_recipe("quick", settings=["copies=columns"])


def test_a_column_of_that_name_is_refused_before_any_work_and_only_there() -> None:
    class Untouched:
        def score(self, examples: Any, run: Any) -> Any:
            raise AssertionError("scored")

    data = table(weight=np.full(N, 7.0))
    refused = Pipeline(scorer=Untouched(), clusterer=KMeans(), augmenters=(Duplicate(),), copies="weights")
    with pytest.raises(InputError, match=r"column 'weight'.*rename or remove.*copies: rows"):
        refused.run(data)
    kept = Pipeline(scorer=Known(), clusterer=KMeans(), augmenters=(Duplicate(),)).run(data)
    assert set(kept.dataset["weight"].to_pylist()) == {7.0}
    with pytest.raises(InputError, match="column 'weight'"):
        curate.rebuild(curate.read(data), kept.split, kept.plan, copies="weights")


def test_arms_of_a_validation_are_rows() -> None:
    """Weights of one arm and none of the others would be another comparison than the one that is asked for."""
    recipe, plain = (Pipeline.from_recipe("quick", settings=each) for each in (["copies=weights"], []))
    shared: dict[str, Any] = {"finetuning": Finetuning(model="scratch")}
    with pytest.raises(ValueError, match=r"--set copies=rows"):
        Validation(pipeline=recipe, **shared)
    with pytest.raises(ValueError, match=r"--set copies=rows"):
        Validation(pipeline=plain, additions=(Addition(name="mine", recipe=recipe),), **shared)
    Validation(pipeline=plain, **shared)


def test_a_dataset_with_weights_is_no_arm_of_rows(written: dict[str, Path]) -> None:
    named = {copies: Addition(name=copies, data=str(folder)) for copies, folder in written.items()}
    recipe = Pipeline.from_recipe("quick")
    for copies, addition in named.items():
        settings = Validation(pipeline=recipe, finetuning=Finetuning(model="scratch"), additions=(addition,))
        if copies == "rows":
            assert _given(addition, settings).rows > N
            continue
        with pytest.raises(InputError, match=r"arm weights: .* has weights, which these runs ignore"):
            _given(addition, settings)


# -- what is written and said ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same run in both ways: folders by `copies`."""
    folder = tmp_path_factory.mktemp("written")
    fields: dict[str, Any] = {"scorer": Known(), "clusterer": KMeans(), "augmenters": (Duplicate(times=2),)}
    for copies in ("rows", "weights"):
        Pipeline(**fields, copies=copies).run(table(), out=folder / copies)
    return {copies: folder / copies for copies in ("rows", "weights")}


def record(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "run.json").read_text()))


def test_tables_are_the_same_bytes(written: dict[str, Path]) -> None:
    tables = [{path.name: path.read_bytes() for path in (each / "tables").iterdir()} for each in written.values()]
    assert tables[0] == tables[1]
    assert len(tables[0]) >= 5


def test_counts_say_both_what_stands_there_and_what_counts(written: dict[str, Path]) -> None:
    rows, weights = (record(written[copies])["counts"] for copies in ("rows", "weights"))
    data = pq.read_table(written["weights"] / "data")
    assert weights["output"] == data.num_rows == weights["original"] == rows["input"]
    assert weights["output_weighted"] == rows["output"] == sum(data["weight"].to_pylist())
    assert weights["duplicate"] == 0 < rows["duplicate"]
    assert (weights["tokens_after"], weights["tokens_weighted"]) == (rows["tokens_before"], rows["tokens_after"])
    assert not {"output_weighted", "tokens_weighted"} & set(rows)


def test_the_folder_loads_and_its_card_says_how_to_train_on_it(written: dict[str, Path], tmp_path: Path) -> None:
    import datasets

    loaded = datasets.load_dataset(str(written["weights"]), cache_dir=str(tmp_path))["train"]
    assert loaded.features["weight"].dtype == "float32"
    assert len(loaded) == N
    cards = {copies: (folder / "README.md").read_text() for copies, folder in written.items()}
    assert "--reweighter GivenWeights" in cards["weights"]
    assert "WeightedRandomSampler" in cards["weights"]
    assert f"count as {record(written['weights'])['counts']['output_weighted']:,} by their weights" in cards["weights"]
    assert "eight" not in cards["rows"]


def test_the_report_tells_rows_from_weighted_rows(written: dict[str, Path]) -> None:
    finished = {copies: read_finished(folder) for copies, folder in written.items()}
    total = record(written["rows"])["counts"]["output"]
    sizes = {copies: origins(finished[copies]) for copies in written}
    by_source = {copies: sources(finished[copies]) for copies in written}
    assert not any(isinstance(each, str) for each in [*sizes.values(), *by_source.values()])
    assert [(each.name, each.rows, each.weighted) for each in sizes["weights"]] == [  # type: ignore[union-attr]
        ("input", N, None),
        ("original", N, total),
        ("output", N, total),
    ]
    assert all(each.weighted is None for each in sizes["rows"])  # type: ignore[union-attr]
    weighted = {each.name: each.weighted for each in by_source["weights"][0]}  # type: ignore[index]
    assert weighted == {each.name: each.after for each in by_source["rows"][0]}  # type: ignore[index]
    page = (written["weights"] / "report.html").read_text()
    assert f"<h1>{N} rows in, {N} rows out that count as {total}</h1>" in page
    assert "count three times" in page or "count 3 times" in page
    assert "Weighted rows" in page
    assert "Weighted rows" not in (written["rows"] / "report.html").read_text()


def test_a_weight_column_of_the_input_is_no_weight_of_ours(tmp_path: Path) -> None:
    pipeline = Pipeline(scorer=Known(), clusterer=KMeans(), augmenters=(Duplicate(),))
    pipeline.run(table(weight=["heavy"] * N), out=tmp_path / "out")
    output = read_finished(tmp_path / "out").output
    assert output is not None
    assert output.weight is None


def test_the_commands_say_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, scores = tmp_path / "data.parquet", tmp_path / "scores.parquet"
    pq.write_table(table(), data)
    examples = curate.read(data).examples
    write_scores(Known().score(examples, Run()), examples.ids, scores)
    usual = [str(data), "--scores", str(scores)]
    assert main(["plan", *usual, "--json"]) == 0
    total = json.loads(capsys.readouterr().out)["rows_out"]
    assert total > N
    assert main(["plan", *usual, "--set", "copies=weights", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["rows_out"] == N
    assert f"{N:,} rows that count as {total:,}" in " ".join(each["work"] for each in planned["stages"])
    assert main(["run", *usual, "--set", "copies=weights", "--out", str(tmp_path / "out")]) == 0
    said = f"{N} rows in, {N} out that count as {total} by `weight`"
    assert said in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "out")]) == 0
    assert said in " ".join(capsys.readouterr().out.split())
    refused = ["validate", *usual, "--set", "copies=weights", "--model", "scratch", "--out", str(tmp_path / "proof")]
    assert main(refused) == 2
    assert "--set copies=rows" in capsys.readouterr().err
    assert not (tmp_path / "proof").exists()


def test_training_that_ignores_the_weights_is_warned_about(
    written: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from curate.finetuning.finetune import finetune

    for number, (reweighter, warned) in enumerate([(None, True), (DynamicLoss(), True), (GivenWeights(), False)]):
        settings = Finetuning(model="scratch", steps=1, batch_size=4, max_length=16, reweighter=reweighter)
        finetune(written["weights"], settings, tmp_path / str(number), progress=Progress("lines"))
        assert ("GivenWeights uses it" in capsys.readouterr().err) == warned
