"""Build the run.json record of a fine-tuning run."""

from __future__ import annotations

from typing import Any

import numpy as np

from curate import training
from curate.devices.distributed import world_size
from curate.devices.precision import resolve_precision
from curate.finetuning.flops import flop_counts
from curate.finetuning.job import Job
from curate.finetuning.weights import weight_facts
from curate.recipe import encode
from curate.storage.records import own_version, versions
from curate.tokenization.cached import truncation_facts
from curate.training.config import TrainConfig
from curate.training.row_order import RowOrder

_PACKAGES = ("curate-lm", "numpy", "peft", "safetensors", "tokenizers", "torch", "transformers")
_ENDS = 20  # first and last loss are means over this share of the steps: one batch alone is too noisy


def run_record(
    job: Job,
    config: TrainConfig,
    model: Any,
    last: training.Checkpoint,
    starts: int,
    peak: float | None,
    gradients: int,
) -> dict[str, Any]:
    """All fields of the record except `inputs`, equal on all ranks.

    starts: how often the run was started before. peak: operations per second of the device. gradients: per step.
    """
    settings, tokens = job.settings, job.tokens
    return {
        "kind": "finetune",
        "version": own_version(),
        "arm": job.arm,
        "seed": settings.seed,
        "budget": job.budget,
        "settings": settings.written(),
        "data": {
            "description": job.data.description,
            "fingerprint": job.data_key,
            "reading": encode(dict(job.data.reading), "reading"),
            "rows": len(tokens),
            "valid": int(tokens.valid.sum()),
            **truncation_facts(tokens, "truncated"),
            "refused": len(job.refused),
            "origins": job.data.origins,
        },
        "model": {
            "name": settings.model,
            "identity": job.identity,
            "parameters": sum(p.numel() for p in model.parameters()),
            "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
        },
        "training": _training(job, config, model, last, starts, peak, gradients),
        "template": job.template,
        "max_length": job.max_length,
        "curation": job.curation,
        "versions": versions(_PACKAGES),
    }


def _training(
    job: Job,
    config: TrainConfig,
    model: Any,
    last: training.Checkpoint,
    starts: int,
    peak: float | None,
    gradients: int,
) -> dict[str, Any]:
    tokens = job.tokens
    valid = np.flatnonzero(tokens.valid)  # (valid rows,)
    order = RowOrder(valid, config.batch_size, config.seed)
    rows_seen = np.concatenate([order.batch(step) for step in range(config.steps)])  # (rows seen,) with repeats
    operations = gradients * flop_counts(model).total(tokens, rows_seen)
    ends = max(1, config.steps // _ENDS)
    return {
        "steps": config.steps,
        "epochs": round(len(rows_seen) / len(valid), 6),
        "rows_seen": len(rows_seen),
        "learning_rate": config.learning_rate,
        "optimizer": encode(config.optimizer, "optimizer"),
        "tokens": last.tokens_seen,
        "completion_tokens": int(tokens.completion_tokens[rows_seen].astype(np.int64).sum()),
        "seconds": round(last.seconds, 3),
        "tokens_per_second": round(last.tokens_seen / last.seconds, 1) if last.seconds else None,
        "peak_share": round(operations / last.seconds / peak / world_size(), 4) if peak and last.seconds else None,
        "gradients_per_step": gradients,
        "flops": operations,
        "micro_batch_tokens": last.micro_batch_tokens,
        "micro_batch_lowered": last.lowered,
        "drops_out": last.drops_out,
        "precision": str(resolve_precision(config.precision, job.device)).removeprefix("torch."),
        "device": str(job.device),
        "world_size": world_size(),
        "resumed": starts,
        "loss_first": float(np.mean(last.losses[:ends])),
        "loss_last": float(np.mean(last.losses[-ends:])),
        "weights": None if last.reweighting is None else weight_facts(last.reweighting),
    }
