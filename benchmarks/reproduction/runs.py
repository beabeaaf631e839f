"""One run: an arm of one seed, fine-tuned from the seed's target and evaluated, as a folder `curate compare` reads."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.reproduction.choice import by_level, chosen_rows
from benchmarks.reproduction.measuring import EvaluatedSet
from benchmarks.reproduction.preparation import Prepared, loaded, tokens_of
from benchmarks.reproduction.settings import BASELINE, Job, Settings
from curate.component import fingerprint
from curate.evaluation.results import EvaluationResult, write_result
from curate.optimizers import SAM, AdamW
from curate.storage.atomic import publishing
from curate.storage.records import record_text
from curate.training.checkpoint import Checkpoint
from curate.training.config import StepRecord, TrainConfig
from curate.training.loop import train
from curate.training.reweighting import TrainingRows, mean_weights

_CURVE_POINTS = 3  # of the run at which losses by level are taken
_ENDS = 20


def run_job(job: Job, prepared: Prepared, cache: Path, place: Path) -> None:
    """Fine-tune and evaluate; the folder `place` is there if and only if both are done."""
    settings = job.settings
    began = time.perf_counter()
    rows, choice = chosen_rows(job, prepared, cache)
    curation = {key: choice.get(key) for key in ("tokens", "proxy_parameters")}
    curation["seconds"] = time.perf_counter() - began
    originals = len(prepared.training.examples)
    steps = round(settings.epochs * (originals if job.budget == "steps" else len(rows)) / settings.batch_size)
    config = TrainConfig(
        steps=steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        warmup_ratio=settings.warmup_ratio,
        precision="float32",
        seed=job.seed,
        optimizer=AdamW() if settings.rho is None else SAM(rho=settings.rho),
    )
    model, log = prepared.model(), list[StepRecord]()
    sets = [EvaluatedSet(name, table, prepared.tokenizer, settings) for name, table in prepared.tests.items()]
    points = sorted({round(steps * k / _CURVE_POINTS) for k in range(_CURVE_POINTS + 1)})
    tokens = tokens_of(prepared.training, prepared.tokenizer, settings).take(rows)
    about = {"reweighter": settings.reweighter, "rows": _training_rows(prepared, rows, settings)}
    curve = []
    for checkpoint in train(model, tokens, config, checkpoint_steps=points, log=log.append, **about):
        curve.append({"step": checkpoint.step, "balanced": sets[0].nll_by_level(model)})
    choice |= _mean_weights(checkpoint, np.array(prepared.training.examples.table["level"].to_pylist())[rows])
    results = {each.name: each.evaluate(model) for each in sets}
    record = _record(job, prepared, rows, log, model)
    record |= {"choice": choice, "curve": curve, "curation": None if job.of == BASELINE else curation}

    with publishing(place) as folder:
        _write(folder, record, results, log, model)


def _training_rows(prepared: Prepared, rows: Any, settings: Settings) -> TrainingRows:
    """What a reweighter may ask of the rows of an arm."""
    table = prepared.training.examples.table.take(pa.array(rows))
    columns = {name: table[name].to_pylist() for name in ("level", "source")}
    return TrainingRows(columns, "source", lambda *_: tokens_of(loaded(prepared.anchors), prepared.tokenizer, settings))


def _mean_weights(last: Checkpoint, levels: Any) -> dict[str, Any]:
    """Mean weight of the rows of each level over the run, where there was a reweighter."""
    if last.reweighting is None:
        return {}
    means, times = mean_weights(last.reweighting.state())
    drawn = times > 0
    return {"mean_weight_by_level": by_level(means[drawn], levels[drawn])}


def _record(job: Job, prepared: Prepared, rows: Any, log: list[StepRecord], model: Any) -> dict[str, Any]:
    settings, originals = job.settings, len(prepared.training.examples)
    losses, parameters = [each.loss for each in log], sum(p.numel() for p in model.parameters())
    seen = len(log) * settings.batch_size
    return {
        "kind": "finetune",
        "arm": job.name,
        "seed": job.seed,
        "budget": job.budget,
        "settings": settings.written,
        "data": {
            "description": settings.data,
            "fingerprint": fingerprint([prepared.training.examples.fingerprint(), rows]),
            "rows": len(rows),
            "valid": len(rows),
            "truncated": 0,
            "origins": {"original": originals, "duplicate": len(rows) - originals},
        },
        # Each seed has weights of its own, made alike; that the runs are of one model means this.
        "model": {
            "name": f"{settings.layers} layers of width {settings.hidden_size}",
            "identity": fingerprint(
                [settings.pretraining, settings.hidden_size, settings.layers, settings.pretrain_epochs]
            ),
            "parameters": parameters,
            "trainable": parameters,
        },
        "training": {
            "steps": len(log),
            "epochs": seen / len(rows),
            "rows_seen": seen,
            "tokens": log[-1].tokens,
            "seconds": log[-1].seconds,
            "gradients_per_step": log[-1].gradients,
            "flops": 6 * parameters * log[-1].tokens * log[-1].gradients,
            "device": "cpu",
            "precision": "float32",
            "loss_first": float(np.mean(losses[:_ENDS])),
            "loss_last": float(np.mean(losses[-_ENDS:])),
        },
        "template": "plain",
        "max_length": settings.max_length,
    }


def _write(
    folder: Path, record: dict[str, Any], results: dict[str, EvaluationResult], log: list[StepRecord], model: Any
) -> None:
    for name, result in results.items():
        write_result(result, folder / "evaluation" / name)
    model.save_pretrained(folder / "model")
    lines = [json.dumps(asdict(each)) for each in log]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "run.json").write_text(record_text(record), encoding="utf-8")
