"""Training tokens per second: the project's loop against transformers.Trainer with its best settings, in one run.

    python benchmarks/training.py --data DATA.parquet [--where split=train] --model FOLDER|scratch
        [--rows 400] [--batch 32] [--steps 4] [--repeats 3] [--precision float32] [--out FILE.json]

Both train the same rows with the same masks, batch size and optimizer settings, in alternation; the trainer groups
rows by length and pads each batch to its longest row. Wall and CPU seconds are reported; the ratio to quote is the
median over the repeats.
"""

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

from curate.models import SCRATCH, load_model, load_tokenizer, scratch_model, scratch_tokenizer
from curate.readers import read
from curate.templates import resolve_template
from curate.tokenization import tokenize
from curate.tokens import Tokens
from curate.train import TrainConfig, train

__all__ = ["main"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    examples = read(options.data, where=options.where, columns=options.columns, limit=options.rows).examples
    scratch = options.model == SCRATCH
    tokenizer = scratch_tokenizer(examples, 0) if scratch else load_tokenizer(options.model)
    model = scratch_model(tokenizer, 512, 0) if scratch else load_model(options.model)
    template = resolve_template("auto", examples.shape, scratch)
    tokens = tokenize(examples, tokenizer, template=template, max_length=512)
    tokens = tokens.take(np.flatnonzero(tokens.valid))
    runs: list[dict[str, Any]] = []
    for repeat in range(options.repeats + 1):
        theirs = _trainer(copy.deepcopy(model), tokens, options)
        ours = _ours(copy.deepcopy(model), tokens, options)
        if repeat:  # the first pair warms up allocators and caches
            runs.append({"trainer": theirs, "curate": ours})
            print(
                f"trainer {theirs['tokens_per_second']:,.0f} tokens/s, ours {ours['tokens_per_second']:,.0f}",
                flush=True,
            )
    ratios = [run["curate"]["tokens_per_second"] / run["trainer"]["tokens_per_second"] for run in runs]
    record = {
        "command": shlex.join(["python", *sys.argv]),
        "parameters": sum(p.numel() for p in model.parameters()),
        "mean_tokens": round(float(tokens.lengths.mean()), 1),
        "mean_completion_tokens": round(float(tokens.completion_tokens.mean()), 1),
        "runs": runs,
        "ratio_median": round(float(np.median(ratios)), 3),
        "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "machine": torch.backends.cpu.get_cpu_capability(),
        "load": os.getloadavg()[0],
        "versions": {name: metadata.version(name) for name in ("torch", "transformers", "numpy")},
        "python": platform.python_version(),
    }
    print(f"ratio {record['ratio_median']:.2f} (range {min(ratios):.2f} to {max(ratios):.2f})")
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

    per_pass = options.trainer_batch or options.batch
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder,
            per_device_train_batch_size=per_pass,
            gradient_accumulation_steps=options.batch // per_pass,
            max_steps=options.steps,
            learning_rate=2e-5,
            lr_scheduler_type="cosine",
            train_sampling_strategy="group_by_length",
            bf16=options.precision == "bfloat16",
            use_cpu=not torch.cuda.is_available(),
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            seed=0,
        )
        trainer = _Counting(model, arguments, train_dataset=rows, data_collator=collate)
        wall, cpu = time.perf_counter(), time.process_time()
        trainer.train()
        return _timed(time.perf_counter() - wall, time.process_time() - cpu, trainer.trained)


class _Counting(transformers.Trainer):
    """The stock trainer, counting the tokens that it trains on (batches fetched ahead do not count)."""

    trained = 0

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        self.trained += int(inputs["attention_mask"].sum())
        return super().compute_loss(model, inputs, *args, **kwargs)


if __name__ == "__main__":
    sys.exit(main())
