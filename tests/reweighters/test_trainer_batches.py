"""Batches of a trainer: rows keep their positions, and what is not a padded row is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers

from curate.errors import InputError
from curate.reweighters import DynamicLoss, GivenWeights
from curate.reweighters.trainers import reweight
from curate.tokenization.tokens import Tokens
from tests.fixtures.trainers import COLUMNS, ROWS, TOKENIZER, Recording, dataset, drawn, sft, trained, trainer
from tests.fixtures.training import Ones


def test_rows_without_anything_to_learn_are_not_asked_about(tmp_path: Path) -> None:
    data = dataset()
    data = data.map(lambda row, at: {"labels": [-100] * len(row["labels"])} if at % 3 == 0 else row, with_indices=True)
    ready, recording = trainer(tmp_path, 2, data=data), Recording()
    weighing = reweight(ready, recording)
    alone = trainer(tmp_path, 2, data=data)
    trained(ready)
    trained(alone)
    asked = [row for batch, _ in recording.asked if batch.rows is not None for row in batch.rows.tolist()]
    assert asked == [row for row in drawn() if row % 3]
    _, times = weighing.mean_weights()
    assert times[::3].tolist() == [0] * 8
    assert ready.state.log_history[0]["loss"] > alone.state.log_history[0]["loss"]  # IRDRO looks at the worst


class Mapped(torch.utils.data.Dataset[dict[str, Any]]):
    def __init__(self) -> None:
        self.rows = dataset(**COLUMNS).to_list()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return dict(self.rows[row])


def formatted() -> Any:
    return dataset(**COLUMNS).with_format("torch", columns=["input_ids", "labels"])


@pytest.mark.filterwarnings("ignore:Creating a tensor from a list")  # the collator's way with tensors
@pytest.mark.parametrize(
    ("data", "options"),
    [
        (lambda: dataset(**COLUMNS).to_list(), {}),
        (Mapped, {}),
        (lambda: dataset(**COLUMNS).with_transform(lambda rows: rows), {}),
        (formatted, {}),
        (lambda: dataset(**COLUMNS).with_format("torch"), {}),
        (lambda: dataset(**COLUMNS), {"dataloader_num_workers": 1}),
        (dataset, {"remove_unused_columns": False}),
    ],
    ids=["list", "map style", "transform", "some columns", "torch", "worker", "all columns"],
)
def test_rows_keep_their_numbers_through_any_dataset(data: Any, options: dict[str, Any], tmp_path: Path) -> None:
    ready, recording = trainer(tmp_path, 2, data=data(), **options), Recording()
    reweight(ready, recording)
    trained(ready)
    asked = [row for batch, _ in recording.asked if batch.rows is not None for row in batch.rows.tolist()]
    assert asked == drawn()
    assert ready.train_dataset[0].keys() == data()[0].keys()  # what the user gave is as it was


def test_columns_of_the_dataset_serve_though_the_trainer_removes_them(tmp_path: Path) -> None:
    found = []
    for rows in (None, ROWS):
        ready = trainer(tmp_path, 2, kind=transformers.Trainer)
        reweight(ready, GivenWeights(), rows=rows)
        found.append(trained(ready))
    assert torch.equal(found[0], found[1])


def test_sft_rows_and_further_rows_are_tokenized_alike(tmp_path: Path) -> None:
    """Anchors that are training rows come out as those rows did, token by token."""
    ready = sft(tmp_path)
    found: list[Tokens] = []

    class Looking:
        def begin(self, training: Any) -> Any:
            asked = pa.table({name: ready.train_dataset[:5][name] for name in ("prompt", "completion")})
            found.extend([training.tokens, training.rows.tokens_of(asked, {}, "this test")])
            assert list(training.rows.columns["domain"])[:4] == ["a", "b", "b", "c"]
            return Ones()

    reweight(ready, Looking())
    ours, further = found[0].take(np.arange(5)), found[1]
    assert ours.ids.tolist() == further.ids.tolist()
    assert ours.supervised.tolist() == further.supervised.tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda batch: batch.pop("labels"), "have no labels"),
        (lambda batch: batch.update(position_ids=batch["input_ids"]), "also hold position_ids; .* turn packing"),
        (lambda batch: batch.update(input_ids=batch["input_ids"].view(1, -1)), "do not hold one example per row"),
        (lambda batch: batch["attention_mask"][:, 1].zero_(), "has a hole inside a row"),
        (lambda batch: batch.update(attention_mask=batch["attention_mask"][:, None]), "masks are not .rows, tokens."),
    ],
)
def test_batches_that_are_not_padded_rows_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    stock = transformers.DataCollatorForSeq2Seq(TOKENIZER)

    def collate(rows: list[Any]) -> Any:
        batch = stock(rows)
        change(batch)
        return batch

    ready = trainer(tmp_path, data_collator=collate)
    reweight(ready, DynamicLoss())
    with pytest.raises(InputError, match=message):
        trained(ready)


def test_a_loss_that_is_not_finite_names_its_rows(tmp_path: Path) -> None:
    ready = trainer(tmp_path, 2)
    row = drawn()[5]
    with torch.no_grad():
        ready.model.get_input_embeddings().weight[dataset()[row]["input_ids"][0]] = torch.nan
    reweight(ready, DynamicLoss())
    with pytest.raises(InputError, match=f"is not finite after . optimizer steps .*{row}.* lower learning_rate"):
        trained(ready)
