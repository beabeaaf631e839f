"""Benchmark training tokens per second of the project's loop against transformers.Trainer and TRL's SFTTrainer."""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import shlex
import sys
import tempfile
import time
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from curate.data.readers import read
from curate.models.loading import load_model, load_tokenizer
from curate.models.scratch import SCRATCH, scratch_model, scratch_tokenizer
from curate.tokenization.encoding import tokenize
from curate.tokenization.templates import resolve_template
from curate.tokenization.tokens import Tokens
from curate.training.config import TrainConfig
from curate.training.loop import train

_DETAILS = """\
    python benchmarks/training.py --data DATA.parquet [--where split=train] --model FOLDER|scratch
        [--rows 400] [--batch 32] [--steps 4] [--repeats 3] [--precision float32] [--attention sdpa] [--out FILE.json]

All train the same rows with the same masks, batch size and optimizer settings, in alternation: `trainer` groups rows
by length and pads each batch to its longest row, `sft` does the same through SFTTrainer, `sft_packed` packs rows into
sequences of 512 tokens without attention across them, as many as hold a batch. Tokens are those of the rows, padding
not counted. Wall and CPU seconds are reported; the ratio to quote is the median over the repeats, against the fastest.
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--where")
    parser.add_argument("--columns")
    parser.add_argument("--model", required=True, help="folder, hub id, or scratch")
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--trainer-batch", type=int, help="rows per device and pass of the trainer (--batch)")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--attention", default="sdpa", help="of SFTTrainer: sdpa, or flash_attention_2 where there is one"
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    examples = read(options.data, where=options.where, columns=options.columns, limit=options.rows).examples
    scratch = options.model == SCRATCH
    tokenizer = scratch_tokenizer(examples, 0) if scratch else load_tokenizer(options.model)
    options.tokenizer = tokenizer
    model = scratch_model(tokenizer, 512, 0) if scratch else load_model(options.model)
    template = resolve_template("auto", examples.shape, scratch)
    tokens = tokenize(examples, tokenizer, template=template, max_length=512)
    tokens = tokens.take(np.flatnonzero(tokens.valid))
    runs: list[dict[str, Any]] = []
    rivals = {"trainer": _trainer, "sft": _sft, "sft_packed": _sft_packed}
    for repeat in range(options.repeats + 1):
        measured = {name: rival(copy.deepcopy(model), tokens, options) for name, rival in rivals.items()}
        measured["curate"] = _ours(copy.deepcopy(model), tokens, options)
        if repeat:  # the first round warms up allocators and caches
            runs.append(measured)
            print(", ".join(f"{name} {run['tokens_per_second']:,.0f}" for name, run in measured.items()), flush=True)
    ratios = {
        name: [run["curate"]["tokens_per_second"] / run[name]["tokens_per_second"] for run in runs] for name in rivals
    }
    record = {
        "command": shlex.join(["python", *sys.argv]),
        "parameters": sum(p.numel() for p in model.parameters()),
        "mean_tokens": round(float(tokens.lengths.mean()), 1),
        "mean_completion_tokens": round(float(tokens.completion_tokens.mean()), 1),
        "runs": runs,
        "ratios": {
            name: {"median": round(float(np.median(each)), 3), "range": [round(min(each), 3), round(max(each), 3)]}
            for name, each in ratios.items()
        },
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "machine": torch.backends.cpu.get_cpu_capability(),
        "load": os.getloadavg()[0],
        "versions": {name: metadata.version(name) for name in ("torch", "transformers", "trl", "numpy")},
        "python": platform.python_version(),
    }
    for name, each in ratios.items():
        print(f"ours / {name}: {np.median(each):.2f} (range {min(each):.2f} to {max(each):.2f})")
    if options.out:
        options.out.write_text(json.dumps(record, indent=1) + "\n")
    return 0


def _timed(seconds: float, cpu: float, trained: float) -> dict[str, float]:
    return {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu, 3),
        "tokens_per_second": round(trained / seconds, 1),
    }


def _ours(model: Any, tokens: Tokens, options: argparse.Namespace) -> dict[str, float]:
    config = TrainConfig(batch_size=options.batch, steps=options.steps, precision=options.precision)
    wall, cpu = time.perf_counter(), time.process_time()
    seen = 0
    for checkpoint in train(model, tokens, config, checkpoint_steps=[options.steps]):
        seen = checkpoint.tokens_seen
    return _timed(time.perf_counter() - wall, time.process_time() - cpu, seen)


def _trainer(model: Any, tokens: Tokens, options: argparse.Namespace) -> dict[str, float]:
    rows = [
        {
            "input_ids": tokens.ids[low:high].tolist(),
            "labels": np.where(tokens.supervised[low:high], tokens.ids[low:high], -100).tolist(),
        }
        for low, high in zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)
    ]

    def collate(batch: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        width = max(len(row["input_ids"]) for row in batch)

        def padded(name: str, value: int) -> torch.Tensor:
            return torch.tensor([row[name] + [value] * (width - len(row[name])) for row in batch])

        mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in batch])
        return {"input_ids": padded("input_ids", 0), "labels": padded("labels", -100), "attention_mask": mask}

    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(folder, **_settings(options))
        trainer = _Counting(model, arguments, train_dataset=rows, data_collator=collate)
        return _run(trainer)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    per_pass = options.trainer_batch or options.batch
    return {
        "per_device_train_batch_size": per_pass,
        "gradient_accumulation_steps": options.batch // per_pass,
        "max_steps": options.steps,
        "learning_rate": 2e-5,
        "lr_scheduler_type": "cosine",
        "train_sampling_strategy": "group_by_length",
        "bf16": options.precision == "bfloat16",
        "use_cpu": not torch.cuda.is_available(),
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "seed": 0,
    }


def _run(trainer: Any) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    trainer.train()
    return _timed(time.perf_counter() - wall, time.process_time() - cpu, trainer.trained)


def _sft(model: Any, tokens: Tokens, options: argparse.Namespace) -> dict[str, float]:
    return _sft_run(model, tokens, options, {"max_length": 512})


def _sft_packed(model: Any, tokens: Tokens, options: argparse.Namespace) -> dict[str, float]:
    packs = max(1, round(options.batch * float(tokens.lengths.mean()) / 512))
    settings = {"max_length": 512, "packing": True, "per_device_train_batch_size": packs}
    settings |= {"gradient_accumulation_steps": 1, "train_sampling_strategy": "random"}
    return _sft_run(model, tokens, options, settings)


def _sft_run(model: Any, tokens: Tokens, options: argparse.Namespace, settings: dict[str, Any]) -> dict[str, float]:
    import datasets
    import trl

    datasets.disable_progress_bars()
    bounds = list(zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True))
    rows = datasets.Dataset.from_dict(
        {
            "input_ids": [tokens.ids[low:high].tolist() for low, high in bounds],
            "completion_mask": [tokens.supervised[low:high].astype(int).tolist() for low, high in bounds],
        }
    )
    model.set_attn_implementation(options.attention)

    class Counting(trl.SFTTrainer):
        trained = 0

        def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            mask = inputs.get("attention_mask")
            self.trained += int(mask.sum()) if mask is not None else inputs["input_ids"].numel()
            return super().compute_loss(model, inputs, *args, **kwargs)

    with tempfile.TemporaryDirectory() as folder:
        arguments = trl.SFTConfig(
            folder,
            **(_settings(options) | settings),
            completion_only_loss=True,
            gradient_checkpointing=False,
        )
        tokenizer = load_tokenizer(options.model) if options.model != SCRATCH else options.tokenizer
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return _run(Counting(model, arguments, train_dataset=rows, processing_class=tokenizer))


class _Counting(transformers.Trainer):
    """The stock trainer, counting the tokens that it trains on (batches fetched ahead do not count)."""

    trained = 0

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        self.trained += int(inputs["attention_mask"].sum())
        return super().compute_loss(model, inputs, *args, **kwargs)


if __name__ == "__main__":
    sys.exit(main())
