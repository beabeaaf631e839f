"""Copies in the first part of the rows, the data as it is afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate
from augmenters import Duplicate, Subset
from curate.clusterers import KMeans
from curate.console.progress import Progress
from curate.errors import InputError
from curate.finetuning.config import Finetuning
from curate.finetuning.finetune import finetune
from curate.pipeline import Pipeline
from curate.report.finished_run import read_finished
from curate.reweighters import GivenWeights
from curate.validation.arms import _given
from curate.validation.config import Addition, Validation
from tests.fixtures.pipelines import FromColumn, pipeline_by_column, rows_of_known_difficulty

N = 30


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run with order: front, in folders by `copies`."""
    folder = tmp_path_factory.mktemp("written")
    for copies in ("rows", "weights"):
        made = Pipeline(
            scorer=FromColumn(), clusterer=KMeans(), augmenters=[Duplicate(times=2)], order="front", copies=copies
        )
        made.run(rows_of_known_difficulty(N), out=folder / copies)
    return {copies: folder / copies for copies in ("rows", "weights")}


def test_the_parts_are_files_splits_and_one_table_in_their_order(written: dict[str, Path], tmp_path: Path) -> None:
    import datasets

    folder = written["rows"]
    first, second = json.loads((folder / "run.json").read_text())["parts"].values()
    assert [path.name for path in sorted((folder / "data").iterdir())] == [
        "train-first-00000-of-00001.parquet",
        "train-second-00000-of-00001.parquet",
    ]
    whole = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path))
    parts = datasets.load_dataset(str(folder), "parts", cache_dir=str(tmp_path))
    assert (len(parts["first"]), len(parts["second"])) == (first, second) == (N // 2 + 20, N // 2)
    assert whole["example_id"] == [*parts["first"]["example_id"], *parts["second"]["example_id"]]
    assert set(parts["second"]["copy"]) == {0}
    assert curate.read(folder, allow_curated=True).examples.ids.to_pylist() == list(whole["example_id"])
    output = read_finished(folder).output
    assert output is not None
    assert len(output.parent) == first + second


def test_the_rows_are_those_of_a_shuffle(written: dict[str, Path]) -> None:
    shuffled = pipeline_by_column(augmenters=[Duplicate(times=2)]).run(rows_of_known_difficulty(N))
    ids = pq.read_table(written["rows"] / "data")["example_id"].to_pylist()
    assert sorted(ids) == sorted(shuffled.columns()["example_id"].to_pylist())
    assert shuffled.parts is None


def test_the_card_says_how_to_train_on_it(written: dict[str, Path]) -> None:
    cards = {copies: " ".join((folder / "README.md").read_text().split()) for copies, folder in written.items()}
    assert "The first 35 rows are half of the rows, drawn, and every copy; the last 15" in cards["rows"]
    assert 'train_sampling_strategy="sequential"' in cards["rows"]
    assert "{use: GivenWeights, until: 0.5}" in cards["weights"]
    assert "first half of the optimizer steps" in cards["weights"]
    assert "WeightedRandomSampler" not in cards["weights"]  # which knows no steps


def test_weights_have_no_order_and_their_files_no_parts(written: dict[str, Path]) -> None:
    assert json.loads((written["weights"] / "run.json").read_text())["parts"] is None
    data = pq.read_table(written["weights"] / "data")
    assert len(list((written["weights"] / "data").iterdir())) == 1
    assert sorted(set(data["weight"].to_pylist())) == [1.0, 3.0]


@pytest.mark.parametrize(
    ("copies", "reweighter", "says"),
    [
        ("rows", None, "all rows are shuffled; curate with --set copies=weights"),
        ("weights", None, "{use: GivenWeights, until: 0.5}' uses it"),
        ("weights", GivenWeights(), "for the first part of training (order: front) and hold in all of it here"),
        ("weights", GivenWeights(until=0.5), None),
    ],
)
def test_training_that_undoes_the_order_is_warned_about(
    written: dict[str, Path],
    copies: str,
    reweighter: Any,
    says: str | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = Finetuning(model="scratch", steps=2, batch_size=4, max_length=16, reweighter=reweighter)
    finetune(written[copies], settings, tmp_path / "run", progress=Progress("lines"))
    said = capsys.readouterr().err
    assert ("warning" in said) == (says is not None)
    assert says is None or says in said


def test_arms_of_a_validation_are_shuffled_so_the_order_is_refused(written: dict[str, Path]) -> None:
    target = Finetuning(model="scratch")
    with pytest.raises(ValueError, match="--set order=shuffle"):
        Validation(pipeline=pipeline_by_column(order="front"), finetuning=target)
    addition = Addition(name="ordered", data=str(written["rows"]))
    settings = Validation(pipeline=pipeline_by_column(), finetuning=target, additions=(addition,))
    with pytest.raises(InputError, match=r"arm ordered: .* has an order, and these runs shuffle"):
        _given(addition, settings)


def test_nothing_hard_leaves_two_halves(tmp_path: Path) -> None:
    table = rows_of_known_difficulty(5)
    table = table.set_column(table.column_names.index("known"), "known", pa.array(np.ones(5)))
    made = pipeline_by_column(order="front").run(table, out=tmp_path / "out")
    assert made.parts == {"first": 3, "second": 2}
    assert sorted(pq.read_table(tmp_path / "out" / "data")["id"].to_pylist()) == sorted(table["id"].to_pylist())


def test_rows_of_several_epochs_are_read_in_turn_and_a_trainer_that_shuffles_is_warned_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subset = Subset(size=10, epochs=3, pool=20, choose="random")
    made = pipeline_by_column(augmenters=[subset]).run(rows_of_known_difficulty(N), out=tmp_path / "data")
    assert made.parts == {"epoch1": 10, "epoch2": 10, "epoch3": 10}
    ids = curate.read(tmp_path / "data", allow_curated=True).examples.ids.to_pylist()
    assert ids == made.columns()["example_id"].to_pylist()
    rows = made.columns()["source_id"].to_pylist()
    draws = [set(rows[start : start + 10]) for start in (0, 10, 20)]
    assert [len(draw) for draw in draws] == [10, 10, 10]
    assert len(set.union(*draws)) == 20
    settings = Finetuning(model="scratch", steps=1, batch_size=4, max_length=16)
    finetune(tmp_path / "data", settings, tmp_path / "run", progress=Progress("lines"))
    assert "those of 3 epochs, redrawn for each, and here all are shuffled together" in capsys.readouterr().err
    with pytest.raises(ValueError, match="leave out epochs"):
        Validation(pipeline=pipeline_by_column(augmenters=[subset]), finetuning=Finetuning(model="scratch"))
