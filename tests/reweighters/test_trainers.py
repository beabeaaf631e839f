"""Reweighters in the trainers that people use: the stock loss where weights are 1, the project's own loop where not."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers

from curate.devices import distributed
from curate.errors import InputError
from curate.optimizers import AdamW
from curate.reweighters import ADAPT, DGA, IRDRO, DynamicLoss, GivenWeights, Selective, TrainingRows
from curate.reweighters.trainers import reweight
from curate.tokenization.tokens import Tokens
from curate.training.config import TrainConfig
from curate.training.loop import train
from curate.training.reweighting import BatchOutputs, OptimizerBatch
from curate.training.row_order import RowOrder
from tests import ROOT
from tests.fixtures.models import random_tokens, tiny_model
from tests.fixtures.tokenizers import byte_level

pytest.importorskip("accelerate", reason="transformers.Trainer needs accelerate")

WORDS = 400
LENGTHS = np.random.default_rng(3).integers((1, 2), (9, 12), (24, 2)).tolist()
STEPS, BATCH = 4, 4
TOKENIZER = byte_level(vocabulary=WORDS)


def tokens() -> Tokens:
    return random_tokens(LENGTHS, vocabulary=WORDS)


def anchors(data: Any = None, reading: Any = None) -> Tokens:
    return random_tokens([(4, 5), (2, 7), (6, 3)], seed=9, vocabulary=WORDS)


COLUMNS: dict[str, list[Any]] = {
    "domain": [("a", "b", "b", "c")[row % 4] for row in range(len(LENGTHS))],
    "weight": [0.5 + (row % 5) for row in range(len(LENGTHS))],
}
ROWS = TrainingRows(COLUMNS, tokenise=anchors)
TARGET = pa.table({"prompt": ["p"], "completion": ["c"]})
METHODS: dict[str, Any] = {
    "losses": DynamicLoss(r=0.3),
    "worst": IRDRO(),
    "selected": Selective(fraction=0.5),
    "embeddings": ADAPT(anchors=TARGET, tau=0.1, centred=True, mean_one=True, refresh_every=2),
    "words": ADAPT(anchors=TARGET, similarity="bm25", tau=0.2),
    "gradients": DGA(target=TARGET, domains="domain", eta=3.0, refresh_every=2, rows_per_gradient=3),
    "given": GivenWeights(),
}


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> Iterator[None]:
    """Accelerate collects garbage at the start of every run, which looks at all that was ever imported."""
    gc.freeze()
    yield
    gc.unfreeze()


class Ones:
    def weights(self, batch: OptimizerBatch, outputs: BatchOutputs) -> torch.Tensor:
        return torch.ones_like(outputs.losses)


class Recording:
    """IRDRO, and a record of what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[OptimizerBatch, BatchOutputs]] = []

    def weights(self, batch: OptimizerBatch, outputs: BatchOutputs) -> torch.Tensor:
        self.asked.append((batch, outputs))
        return IRDRO().weights(batch, outputs)


class Ordered(transformers.Trainer):
    """Draws the rows that the project's own loop draws."""

    def _get_train_sampler(self, *_: Any) -> Any:
        return drawn()


def drawn() -> list[int]:
    order = RowOrder(np.arange(len(LENGTHS)), BATCH, 0)
    return np.concatenate([order.batch(step) for step in range(STEPS)]).tolist()


def dataset(**columns: list[Any]) -> Any:
    import datasets

    rows = tokens()
    ends = list(zip(rows.offsets[:-1], rows.offsets[1:], strict=True))
    ids = [rows.ids[low:high].tolist() for low, high in ends]
    labels = [np.where(rows.supervised[low:high], rows.ids[low:high], -100).tolist() for low, high in ends]
    return datasets.Dataset.from_dict({"input_ids": ids, "labels": labels, **columns})


def model(**changes: Any) -> Any:
    return tiny_model(vocab_size=WORDS, **changes)


def adapted(inner: Any) -> Any:
    """peft's LoRA, its factors drawn the same every time."""
    peft = pytest.importorskip("peft")
    with torch.random.fork_rng(), others_may_warn():
        torch.manual_seed(4)
        return peft.get_peft_model(inner, peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear"))


@contextmanager
def others_may_warn() -> Iterator[None]:
    """What those packages deprecate in each other is theirs; any other warning still fails."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", category=category, module=r"(transformers|trl|accelerate|peft)\b")
        yield


def arguments(kind: Any, folder: Path, accumulated: int = 1, **more: Any) -> Any:
    settings = {
        "output_dir": str(folder),
        "max_steps": STEPS,
        "per_device_train_batch_size": BATCH // accumulated,
        "gradient_accumulation_steps": accumulated,
        "learning_rate": 1e-2,
        "adam_epsilon": 1e-3,  # a milder division, so that rounding is not blown up
        "max_grad_norm": 0.0,  # clipping would hide a loss of the wrong size
        "lr_scheduler_type": "constant",
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 0,
    }
    return kind(**(settings | more))


def trainer(folder: Path, accumulated: int = 1, *, of: Any = None, data: Any = None, **more: Any) -> Any:
    collator = more.pop("data_collator", transformers.DataCollatorForSeq2Seq(TOKENIZER))
    given = {name: more.pop(name) for name in ("compute_loss_func", "eval_dataset", "processing_class") if name in more}
    with others_may_warn():
        return more.pop("kind", Ordered)(
            model=model() if of is None else of,
            args=arguments(transformers.TrainingArguments, folder, accumulated, **more),
            train_dataset=dataset(**COLUMNS) if data is None else data,
            data_collator=collator,
            **given,
        )


def sft(folder: Path, accumulated: int = 1, **more: Any) -> Any:
    trl = pytest.importorskip("trl", reason="TRL is not installed")
    import datasets

    datasets.disable_progress_bars()
    rows = {
        "prompt": [f"What is {row} plus {row % 7}? " for row in range(24)],
        "completion": [f"{row + row % 7}, since {row} + {row % 7}." for row in range(24)],
        "domain": COLUMNS["domain"],
    }
    of = more.pop("of", None)
    with others_may_warn():
        return trl.SFTTrainer(
            model=model() if of is None else of,
            args=arguments(trl.SFTConfig, folder, accumulated, **({"bf16": False, "max_length": 48} | more)),
            train_dataset=datasets.Dataset.from_dict(rows),
            processing_class=TOKENIZER,
        )


def trained(ready: Any, **options: Any) -> torch.Tensor:
    """All weights after training."""
    with others_may_warn():
        ready.train(**options)
    return weights_of(ready.model)


def weights_of(trained_model: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trained_model.parameters()])


def assert_close(found: torch.Tensor, expected: torch.Tensor, start: Any, relative: float = 1e-4) -> None:
    """Apart by less than a share of how far training moved the weights."""
    moved = float((expected - weights_of(start)).norm())
    assert moved > 0.01
    assert float((found - expected).norm()) < relative * moved


# -- the loss ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulated", [1, 4])
@pytest.mark.parametrize("make", [trainer, sft], ids=["Trainer", "SFTTrainer"])
def test_weights_of_1_train_as_the_trainer_does_alone(make: Any, accumulated: int, tmp_path: Path) -> None:
    alone, weighed = make(tmp_path, accumulated), make(tmp_path, accumulated)
    reweight(weighed, Ones())
    found, expected = trained(weighed), trained(alone)
    assert_close(found, expected, model(), relative=1e-5)
    assert float((found - expected).norm() / expected.norm()) < 1e-6
    for ours, theirs in zip(weighed.state.log_history, alone.state.log_history, strict=True):
        assert ours.keys() <= theirs.keys()  # SFTTrainer's come with metrics of its own loss
        for name in {"loss", "train_loss", "grad_norm"} & ours.keys():
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4)


@pytest.mark.parametrize("accumulated", [1, 2, 4])
@pytest.mark.parametrize("name", METHODS)
def test_it_trains_as_the_projects_own_loop_does(name: str, accumulated: int, tmp_path: Path) -> None:
    own = model()
    settings: dict[str, Any] = {"steps": STEPS, "batch_size": BATCH, "learning_rate": 1e-2, "schedule": "constant"}
    config = TrainConfig(
        **settings, warmup_ratio=0.0, precision="float32", max_grad_norm=None, optimizer=AdamW(eps=1e-3)
    )
    (last,) = train(own, tokens(), config, checkpoint_steps=[STEPS], reweighter=METHODS[name], rows=ROWS)
    ready = trainer(tmp_path, accumulated)
    weighing = reweight(ready, METHODS[name], rows=ROWS)
    found = trained(ready)
    assert_close(found, weights_of(own), model())
    state = weighing.reweighting.state()
    expected = last.reweighting.state() if last.reweighting is not None else {}
    assert state.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(state[key], value, rtol=1e-4, atol=1e-5)
    weights, times = weighing.mean_weights()
    assert times.tolist() == np.bincount(drawn(), minlength=len(LENGTHS)).tolist()
    assert np.isnan(weights).tolist() == (times == 0).tolist()
    assert np.nanstd(weights) > 0.01


@pytest.mark.parametrize("make", [trainer, sft], ids=["Trainer", "SFTTrainer"])
@pytest.mark.parametrize(
    ("lora", "options"),
    [
        (True, {}),
        (True, {"gradient_checkpointing": True}),
        (False, {"gradient_checkpointing": True}),
        (True, {"bf16": True}),
        (False, {"bf16": True}),
    ],
    ids=["LoRA", "LoRA recomputed", "recomputed", "LoRA bfloat16", "bfloat16"],
)
def test_ways_to_train_keep_the_trainers_own_result(make: Any, lora: bool, options: Any, tmp_path: Path) -> None:
    def wrapped() -> Any:
        return adapted(model()) if lora else model()

    alone, weighed = make(tmp_path, 2, of=wrapped(), **options), make(tmp_path, 2, of=wrapped(), **options)
    reweight(weighed, Ones())
    # Under autocast the last digits of the logits differ, which the stock trainer rounds to bfloat16; adapters were
    # 0.052 apart on a CPU without bfloat16 units.
    relative = 1e-4 if "bf16" not in options else 0.06 if lora else 0.05
    assert_close(trained(weighed), trained(alone), wrapped(), relative=relative)


@pytest.mark.parametrize("options", [{}, {"bf16": True}], ids=["float32", "bfloat16"])
def test_a_lora_run_does_not_depend_on_accumulation(options: dict[str, Any], tmp_path: Path) -> None:
    found = []
    for accumulated in (1, 4):
        ready = trainer(tmp_path, accumulated, of=adapted(model()), **options)
        reweight(ready, METHODS["embeddings"], rows=ROWS)
        found.append(trained(ready))
    assert_close(found[1], found[0], adapted(model()), relative=0.05 if options else 1e-4)


def test_rows_padded_on_the_left_train_as_those_padded_on_the_right(tmp_path: Path) -> None:
    left = byte_level(vocabulary=WORDS)
    left.padding_side = "left"
    found = []
    for tokenizer in (TOKENIZER, left):
        for reweighter in (METHODS["embeddings"], METHODS["losses"]):
            ready = trainer(tmp_path, data_collator=transformers.DataCollatorForSeq2Seq(tokenizer))
            reweight(ready, reweighter, rows=ROWS)
            found.append(trained(ready))
    assert torch.equal(found[2], found[0])
    assert torch.equal(found[3], found[1])
    alone = trainer(tmp_path, data_collator=transformers.DataCollatorForSeq2Seq(left))
    ones = trainer(tmp_path, data_collator=transformers.DataCollatorForSeq2Seq(left))
    reweight(ones, Ones())
    assert_close(trained(ones), trained(alone), model())


def test_the_last_short_steps_of_an_epoch_are_weighed_whole(tmp_path: Path) -> None:
    """24 rows in batches of 2 x 5: the last step of an epoch has two micro-batches, of 2 rows each."""
    settings: dict[str, Any] = {"kind": transformers.Trainer, "per_device_train_batch_size": 2, "max_steps": 6}
    alone, weighed = trainer(tmp_path, 5, **settings), trainer(tmp_path, 5, **settings)
    recording = Recording()
    reweight(weighed, Ones())
    assert_close(trained(weighed), trained(alone), model())
    again = trainer(tmp_path, 5, **settings)
    reweight(again, recording)
    trained(again)
    assert [len(batch.tokens) for batch, _ in recording.asked] == [10, 10, 4, 10, 10, 4]
    assert [batch.step for batch, _ in recording.asked] == list(range(6))
    rows = np.concatenate([batch.rows.numpy() for batch, _ in recording.asked if batch.rows is not None])
    assert sorted(rows.tolist()) == sorted([*range(24)] * 2)
    counts = tokens().completion_tokens
    for batch, _ in recording.asked:
        assert batch.rows is not None
        assert batch.tokens.tolist() == counts[batch.rows.numpy()].tolist()


@pytest.mark.parametrize(("place", "value"), [("model_accepts_loss_kwargs", False), ("loss_is_scaled_for_ga", False)])
def test_a_trainer_that_divides_by_its_micro_batches_gets_the_loss_of_the_whole_batch(
    place: str, value: bool, tmp_path: Path
) -> None:
    usual, dividing = trainer(tmp_path, 4), trainer(tmp_path, 4)
    setattr(dividing, place, value)
    for ready in (usual, dividing):
        reweight(ready, METHODS["losses"])
    assert_close(trained(dividing), trained(usual), model())
    assert dividing.state.log_history[0]["loss"] == pytest.approx(usual.state.log_history[0]["loss"], rel=1e-5)


@pytest.mark.parametrize("accumulated", [1, 4])
def test_one_micro_batch_costs_no_further_pass(accumulated: int, tmp_path: Path) -> None:
    ready = trainer(tmp_path, accumulated)
    reweight(ready, DynamicLoss())
    passes: list[bool] = []
    ready.model.model.layers[0].register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    trained(ready)
    assert passes.count(True) == STEPS * accumulated
    assert passes.count(False) == (0 if accumulated == 1 else STEPS * accumulated)


def test_the_look_at_a_batch_sees_the_dropout_that_the_training_pass_sees(tmp_path: Path) -> None:
    dropping = model()
    for layer in dropping.model.layers:
        layer.self_attn.attention_dropout = 0.3
    ready = trainer(tmp_path, 4, of=dropping)
    recording = Recording()
    reweight(ready, recording)
    trained(ready)
    for (batch, outputs), said in zip(recording.asked, ready.state.log_history, strict=False):
        weights = IRDRO().weights(batch, outputs)
        weighed = (weights * batch.tokens * outputs.losses).sum() / batch.tokens.sum()
        assert said["loss"] == pytest.approx(float(weighed), rel=1e-4)


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


# -- where rows come from ----------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("accumulated", [1, 2])
def test_an_iterable_dataset_serves_reweighters_that_look_at_losses(accumulated: int, tmp_path: Path) -> None:
    found = []
    for data in (dataset().select(drawn()).to_iterable_dataset(), None):
        ready, recording = trainer(tmp_path, accumulated, data=data), Recording()
        weighing = reweight(ready, recording)
        found.append(trained(ready))
        assert (recording.asked[0][0].rows is None) == (data is not None)
    torch.testing.assert_close(found[0], found[1])
    ready = trainer(tmp_path, data=dataset().to_iterable_dataset())
    weighing = reweight(ready, DynamicLoss())
    with pytest.raises(InputError, match="no positions"):
        weighing.mean_weights()
    with pytest.raises(InputError, match="GivenWeights has to know the rows"):
        reweight(trainer(tmp_path, data=dataset().to_iterable_dataset()), GivenWeights())


def test_sft_rows_and_further_rows_are_tokenised_alike(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("accumulated", [1, 2])
def test_methods_that_look_further_work_in_sft(accumulated: int, tmp_path: Path) -> None:
    target = pa.table({"prompt": ["What is 3 plus 4? "] * 2, "completion": ["7, since 3 + 4.", "8."]})
    for reweighter in (
        ADAPT(anchors=target, tau=0.1, centred=True),
        DGA(target=target, domains="domain", refresh_every=2, rows_per_gradient=2),
    ):
        ready = sft(tmp_path, accumulated, of=adapted(model()))
        weighing = reweight(ready, reweighter)
        trained(ready)
        weights, _ = weighing.mean_weights()
        assert np.nanstd(weights) > 1e-3


# -- beside training ---------------------------------------------------------------------------------------------------


def test_evaluation_keeps_the_trainers_own_loss(tmp_path: Path) -> None:
    found = []
    for reweighter in (None, METHODS["losses"]):
        ready = trainer(tmp_path, eval_dataset=dataset(), eval_strategy="steps", eval_steps=2, learning_rate=0.0)
        if reweighter is not None:
            reweight(ready, reweighter)
        with others_may_warn():
            before = ready.evaluate()["eval_loss"]
            trained(ready)
        logged = [each["eval_loss"] for each in ready.state.log_history if "eval_loss" in each]
        assert len(logged) == STEPS // 2
        found.append([before, *logged])
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["losses", "embeddings", "gradients"])
def test_a_resumed_run_ends_as_the_uninterrupted_one(name: str, tmp_path: Path) -> None:
    runs = []
    for part in ("whole", "resumed"):
        folder = tmp_path / part
        ready = trainer(folder, 2, save_strategy="steps", save_steps=3)
        weighing = reweight(ready, METHODS[name], rows=ROWS)
        options = {"resume_from_checkpoint": str(tmp_path / "whole" / "checkpoint-3")} if part == "resumed" else {}
        runs.append((trained(ready, **options), weighing.reweighting.state()))
    (whole, state), (resumed, again) = runs
    assert torch.equal(whole, resumed)
    assert state.keys() == again.keys()
    for key, value in state.items():
        assert torch.equal(value, again[key]), key


def test_a_second_run_begins_anew_and_a_stranger_cannot_be_resumed(tmp_path: Path) -> None:
    ready = trainer(tmp_path, save_strategy="steps", save_steps=2)
    trained(ready)
    weighed = trainer(tmp_path, save_strategy="no")
    reweight(weighed, DynamicLoss())
    with pytest.raises(InputError, match="trained without a reweighter"):
        trained(weighed, resume_from_checkpoint=True)
    weighed = trainer(tmp_path / "again")
    weighing = reweight(weighed, DynamicLoss())
    trained(weighed)
    trained(weighed)
    assert weighing.mean_weights()[1].sum() == STEPS * BATCH


# -- what cannot be ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing_factor": 0.1}, "label smoothing is not part of the loss .* set label_smoothing_factor=0"),
        ({"compute_loss_func": lambda *_, **__: 0}, "compute_loss_func and a reweighter .* leave one of them out"),
        ({"torch_compile": True}, "torch_compile .* turn it off"),
        ({"data": [(1, 2)]}, "rows of the train_dataset are tuple; let them be mappings"),
        ({"data": []}, "train_dataset is empty; give it rows"),
    ],
)
def test_trainers_with_another_loss_or_model_are_refused(options: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        reweight(trainer(tmp_path, **options), DynamicLoss())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"packing": True}, "in a pack .* set packing=False and padding_free=False"),
        ({"padding_free": True, "max_length": None}, "in a pack .* set packing=False and padding_free=False"),
        ({"loss_type": "dft"}, "loss_type='dft' weighs tokens by itself"),
    ],
    ids=["packing", "padding_free", "dft"],
)
def test_packs_and_token_weights_are_refused(options: Any, message: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ready = sft(tmp_path, **options)
    with pytest.raises(InputError, match=message):
        reweight(ready, DynamicLoss())


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("is_fsdp_enabled", True, "no rank has the whole model"),
        ("is_deepspeed_enabled", True, "no rank has the whole model"),
        ("is_model_parallel", True, "spread over several devices"),
        ("get_tp_size", lambda: 2, "tensor, context and sequence parallelism"),
        ("train_dataset", None, "has no train_dataset"),
    ],
)
def test_trainers_without_whole_model_or_rows_are_refused(place: str, value: Any, message: str, tmp_path: Path) -> None:
    ready = trainer(tmp_path)
    setattr(ready, place, value)
    with pytest.raises(InputError, match=message):
        reweight(ready, DynamicLoss())


def test_a_mixture_of_experts_and_prompt_learning_are_refused(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    ready = trainer(tmp_path)
    ready.model.config.output_router_logits = True
    with pytest.raises(InputError, match=r"load-balancing loss .* set router_aux_loss_coef=0"):
        reweight(ready, DynamicLoss())
    with others_may_warn():
        prompted = peft.get_peft_model(model(), peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(InputError, match="prompt learning adds tokens that have no row; use LoRA"):
        reweight(trainer(tmp_path, of=prompted), DynamicLoss())


def test_a_trainer_takes_one_reweighter(tmp_path: Path) -> None:
    ready = trainer(tmp_path)
    reweight(ready, DynamicLoss())
    with pytest.raises(InputError, match="reweighted, or its methods replaced, already; make a new trainer"):
        reweight(ready, DynamicLoss())


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


class Head(torch.nn.Linear):
    """No plain linear layer, for all anybody knows."""


def headed(lora: bool) -> Any:
    if lora:
        peft = pytest.importorskip("peft")
        with torch.random.fork_rng(), others_may_warn():
            torch.manual_seed(4)
            return peft.get_peft_model(model(), peft.LoraConfig(r=4, target_modules=["lm_head", "q_proj"]))
    whole = model()
    head = Head(32, WORDS, bias=False)
    head.load_state_dict(whole.lm_head.state_dict())
    whole.lm_head = head
    return whole


@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize("lora", [False, True], ids=["all weights", "LoRA"])
def test_a_model_with_a_head_of_its_own_runs_whole_and_has_no_embeddings(
    lora: bool, accumulated: int, tmp_path: Path
) -> None:
    alone, weighed = trainer(tmp_path, accumulated, of=headed(lora)), trainer(tmp_path, accumulated, of=headed(lora))
    reweight(weighed, Ones())
    assert_close(trained(weighed), trained(alone), headed(lora))
    with pytest.raises(InputError, match="cannot be run up to its hidden states"):
        reweight(trainer(tmp_path, of=headed(lora)), METHODS["embeddings"], rows=ROWS)


# -- two processes -----------------------------------------------------------------------------------------------------

CASES: dict[str, dict[str, Any]] = {
    "plain": {"name": "losses"},
    "accumulated": {"name": "losses", "accumulated": 2},
    "rows": {"name": "worst", "accumulated": 2},
    "embeddings": {"name": "embeddings", "accumulated": 2},
    "gradients": {"name": "gradients"},
    "LoRA": {"name": "embeddings", "lora": True},
}


def case(folder: Path, name: str, accumulated: int = 1, lora: bool = False) -> dict[str, Any]:
    """Weights after training and mean weights of the rows; the batch is the same for any number of processes."""
    per_device = BATCH // accumulated // distributed.world_size()
    more = {"train_sampling_strategy": "sequential", "kind": transformers.Trainer}
    if "LOCAL_RANK" in os.environ:
        more["ddp_backend"] = "gloo"
    of = adapted(model()) if lora else model()
    ready = trainer(folder, accumulated, of=of, per_device_train_batch_size=per_device, **more)
    weighing = reweight(ready, METHODS[name], rows=ROWS)
    weights = trained(ready)
    means, times = weighing.mean_weights()
    return {"weights": weights, "means": torch.from_numpy(means), "times": torch.from_numpy(times)}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What both ranks of a torchrun of this very file found, per case."""
    folder = tmp_path_factory.mktemp("ranks")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": ""}
    command = [*launcher, __file__, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_as_one_does(ranks: list[dict[str, Any]], name: str, tmp_path: Path) -> None:
    alone = case(tmp_path, **CASES[name])
    first, second = (found[name] for found in ranks)
    assert torch.equal(first["weights"], second["weights"])
    assert_close(first["weights"], alone["weights"], adapted(model()) if CASES[name].get("lora") else model())
    assert torch.equal(first["times"], alone["times"])
    torch.testing.assert_close(first["means"], alone["means"], rtol=1e-3, atol=1e-5, equal_nan=True)
    assert float(alone["means"].nan_to_num(1).std()) > 0.01


if __name__ == "__main__":
    distributed.start()
    found = {name: case(Path(sys.argv[1]) / name, **each) for name, each in CASES.items()}
    assert distributed.world_size() == 2
    torch.save(found, Path(sys.argv[1]) / f"{distributed.rank()}.pt")
    distributed.barrier()
    torch.distributed.destroy_process_group()
