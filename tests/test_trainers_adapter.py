"""Reweighters in the trainers that people use: the stock loss where weights are 1, the project's own loop where not."""

from __future__ import annotations

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
from model_zoo import random_tokens, tiny_model
from tokenizer_zoo import byte_level

from curate import distributed
from curate.batches import RowOrder
from curate.errors import InputError
from curate.optimizers import AdamW
from curate.reweighters import ADAPT, DGA, IRDRO, DynamicLoss, GivenWeights, Selective, TrainingRows
from curate.reweighters.trainers import ReweightedTraining, reweight
from curate.reweighting import BatchOutputs, OptimizerBatch
from curate.tokens import Tokens
from curate.train import TrainConfig, train

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
    "selected": Selective(fraction=0.5),
    "embeddings": ADAPT(anchors=TARGET, tau=0.1, centred=True, mean_one=True, refresh_every=2),
    "words": ADAPT(anchors=TARGET, similarity="bm25", tau=0.2),
    "gradients": DGA(target=TARGET, domains="domain", eta=3.0, refresh_every=2, rows_per_gradient=3),
    "given": GivenWeights(),
}


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
    with torch.random.fork_rng():
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
            args=arguments(trl.SFTConfig, folder, accumulated, bf16=False, max_length=48, **more),
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


# -- the loss -----------------------------------------------------------------------------------------------------------


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
    config = TrainConfig(**settings, warmup_ratio=0.0, precision="float32", optimizer=AdamW(eps=1e-3))
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
