"""What a run leaves behind goes into the trainers that people use, as it is: one optimizer step each, offline."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers

from augmenters import Duplicate
from curate import Pipeline
from curate.clusterers import KMeans
from curate.data.examples import Examples
from curate.data.readers import read
from curate.finetuning.finetune import finetune
from curate.models.scratch import scratch_tokenizer
from tests.fixtures.finetuning import settings

pytestmark = pytest.mark.slow

CHAT = (
    "{% for m in messages %}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}{{ eos_token }}{% endgeneration %}"
    "{% else %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endif %}"
    "{% endfor %}"
)


@dataclass(frozen=True)
class Known:
    def score(self, examples, run):
        return examples.table["known"].to_numpy()


def _pairs() -> pa.Table:
    return pa.table(
        {
            "prompt": [f"What is {i} and {i}? " for i in range(24)],
            "completion": [f"It is {2 * i}." for i in range(24)],
            "known": np.r_[np.ones(16), np.full(8, 9.0)],
        }
    )


def _conversations() -> pa.Table:
    messages = [
        [
            {"role": "user", "content": row["prompt"]},
            {"role": "assistant", "content": row["completion"]},
        ]
        for row in _pairs().to_pylist()
    ]
    return pa.table({"messages": messages, "known": _pairs()["known"]})


def _curated(table: pa.Table, folder: Path) -> Any:
    """The train split that `datasets.load_dataset` reads from the output folder."""
    import datasets

    pipeline = Pipeline(scorer=Known(), clusterer=KMeans(), augmenters=[Duplicate()])
    pipeline.run(table, out=folder / "out")
    dataset = datasets.load_dataset(str(folder / "out"), cache_dir=str(folder / "cache"))["train"]
    assert len(dataset) == 32
    return dataset


def _tokenizer(table: pa.Table) -> Any:
    examples: Examples = read(table).examples
    tokenizer = scratch_tokenizer(examples, 0)
    tokenizer.chat_template = CHAT
    return tokenizer


def _model(tokenizer: Any) -> Any:
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config)


@contextmanager
def _others_may_warn() -> Iterator[None]:
    """What those packages deprecate in each other is theirs; any other warning still fails."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", category=category, module=r"(transformers|trl|accelerate)\b")
        yield


def _arguments(kind: Any, folder: Path, **more: Any) -> Any:
    return kind(
        output_dir=str(folder / "trainer"),
        max_steps=1,
        per_device_train_batch_size=8,
        learning_rate=1e-2,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        **more,
    )


def _assert_steps(trainer: Any, model: Any) -> None:
    """One step is taken, with a finite loss, and the weights move."""
    before = [parameter.detach().clone() for parameter in model.parameters()]
    result = trainer.train()
    assert result.global_step == 1
    assert 0 < result.training_loss < 20
    assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_stock_trainer(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="transformers.Trainer needs accelerate")
    table = _pairs()
    dataset, tokenizer = _curated(table, tmp_path), _tokenizer(table)

    def encode(row: dict[str, Any]) -> dict[str, list[int]]:
        prompt = tokenizer(row["prompt"], add_special_tokens=False)["input_ids"]
        completion = [*tokenizer(row["completion"], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        return {"input_ids": prompt + completion, "labels": [-100] * len(prompt) + completion}

    with _others_may_warn():
        model = _model(tokenizer)
        trainer = transformers.Trainer(
            model=model,
            args=_arguments(transformers.TrainingArguments, tmp_path),
            train_dataset=dataset.map(encode),  # the columns that curation added stay; the trainer leaves them out
            data_collator=transformers.DataCollatorForSeq2Seq(tokenizer),
        )
        _assert_steps(trainer, model)


@pytest.mark.parametrize(
    ("table", "options"),
    [(_pairs, {}), (_conversations, {"assistant_only_loss": True})],
    ids=["prompt and completion", "messages"],
)
def test_trl_sft_trainer(table: Any, options: dict[str, Any], tmp_path: Path) -> None:
    trl = pytest.importorskip("trl", reason="TRL is not installed")
    pytest.importorskip("accelerate", reason="TRL needs accelerate")
    dataset, tokenizer = _curated(table(), tmp_path), _tokenizer(table())
    with _others_may_warn():
        model = _model(tokenizer)
        trainer = trl.SFTTrainer(
            model=model,
            args=_arguments(trl.SFTConfig, tmp_path, max_length=64, bf16=False, **options),
            train_dataset=dataset,
            processing_class=tokenizer,
        )
        batch = next(iter(trainer.get_train_dataloader()))
        supervised = (batch["labels"] != -100).sum(1)
        assert (supervised > 0).all()
        assert (supervised < batch["attention_mask"].sum(1)).all()  # the prompt is not learned
        _assert_steps(trainer, model)


def test_trl_goes_on_from_a_chat_model_made_from_scratch(tmp_path: Path) -> None:
    trl = pytest.importorskip("trl", reason="TRL is not installed")
    pytest.importorskip("accelerate", reason="TRL needs accelerate")
    finetune(_conversations(), settings("scratch", learning_rate=None, steps=2), tmp_path / "run")
    folder = str(tmp_path / "run" / "model")
    dataset = _curated(_conversations(), tmp_path)
    with _others_may_warn():
        trainer = trl.SFTTrainer(
            model=folder,  # weights, tokenizer and chat template are those of the run
            args=_arguments(trl.SFTConfig, tmp_path, max_length=64, bf16=False, assistant_only_loss=True),
            train_dataset=dataset,
        )
        tokenizer = trainer.processing_class
        batch = next(iter(trainer.get_train_dataloader()))
        learned = tokenizer.decode(batch["labels"][0][batch["labels"][0] != -100])
        assert learned.startswith("It is ")
        assert learned.endswith(f".{tokenizer.eos_token}")
        _assert_steps(trainer, trainer.model)
