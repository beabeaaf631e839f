"""Reweighters in the trainers that people use: the stock loss where weights are 1, the project's own loop where not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers

from curate.errors import InputError
from curate.optimizers import AdamW
from curate.reweighters import ADAPT, DGA, IRDRO, DynamicLoss, GivenWeights
from curate.reweighters.trainers import reweight
from curate.training.config import TrainConfig
from curate.training.loop import train
from tests.fixtures.tokenizers import byte_level
from tests.fixtures.trainers import (
    BATCH,
    LENGTHS,
    METHODS,
    ROWS,
    STEPS,
    TOKENIZER,
    WORDS,
    Recording,
    adapted,
    assert_close,
    dataset,
    drawn,
    model,
    others_may_warn,
    sft,
    tokens,
    trained,
    trainer,
    weights_of,
)
from tests.fixtures.training import Ones


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


# -- where rows come from ----------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("accumulated", [1, 2])
def test_methods_that_look_further_work_in_sft(accumulated: int, tmp_path: Path) -> None:
    target = pa.table({"prompt": ["What is 3 plus 4? "] * 2, "completion": ["7, since 3 + 4.", "8."]})
    for reweighter in (
        ADAPT(anchors=target, tau=0.1, centered=True),
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
