"""Folders of fine-tuning runs with their evaluations, as `curate finetune` and `curate evaluate` leave them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.records import file_checksums, record_text

__all__ = ["write_evaluation", "write_run", "write_study"]

STEPS = 200


def write_run(
    directory: Path,
    arm: str,
    seed: int,
    *,
    budget: str | None = "steps",
    curated: bool = False,
    training: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    identity: str = "weights-a",
    name: str = "small",
    hostile: str = "",
) -> Path:
    """A finished run without evaluations."""
    (directory / "model").mkdir(parents=True)
    rng = np.random.default_rng([seed, len(arm)])
    record = {
        "kind": "finetune",
        "version": "0.1.0",
        "arm": arm,
        "seed": seed,
        "budget": budget,
        "settings": {"model": "small", "learning_rate": 2e-5, "steps": 200, "seed": seed, **(settings or {})},
        "data": {"description": f"{arm}.parquet", "fingerprint": arm, "rows": 1000, "valid": 1000, "truncated": 0},
        "model": {
            "name": f"{name}{hostile}",
            "identity": identity,
            "parameters": 135_000_000,
            "trainable": 135_000_000,
        },
        "training": {
            "steps": STEPS if arm == "original" or budget != "epochs" else STEPS * 6 // 5,
            "epochs": 3.0 if arm == "original" or budget == "epochs" else 2.5,
            "rows_seen": STEPS * 32,
            "tokens": 1_200_000 + 100_000 * len(arm),
            "completion_tokens": 700_000,
            "seconds": 900.0 + seed,
            "gradients_per_step": 2 if arm == "sam" else 1,
            "flops": 1.1e15 * (2 if arm == "sam" else 1),
            "device": "cpu",
            "loss_first": 2.0,
            "loss_last": 0.7,
            **(training or {}),
        },
        "template": "alpaca",
        "max_length": 512,
        "curation": {"seconds": 120.0, "tokens": 400_000, "proxy_parameters": 70_000_000, "requests": 0}
        if curated
        else None,
    }
    (directory / "run.json").write_text(record_text(record))
    lines = []
    for step in range(0, STEPS, 5):
        loss = 0.6 + 1.4 * np.exp(-step / 60) + 0.05 * rng.normal()
        tokens = 7000 * (step + 1)
        values = {"step": step, "epoch": step / 60, "loss": loss, "learning_rate": 2e-5, "tokens": tokens}
        lines.append(json.dumps({**values, "gradient_norm": 1 + abs(rng.normal()), "seconds": 4.5 * step}))
    (directory / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return directory


def write_evaluation(
    run: Path,
    name: str,
    accuracy: Any = None,
    nll: Any = None,
    *,
    protocol: str = "p",
    levels: list[str | None] | None = None,
    sources: list[str | None] | None = None,
    hostile: str = "",
    **changed: Any,
) -> Path:
    """Results of a set: accuracy (n,) 0 or 1, nll (n,); rows are ids q-0000 and so on unless `changed` says."""
    n = len(accuracy if accuracy is not None else nll)
    columns: dict[str, Any] = {
        "example_id": [f"q-{i:04d}" for i in range(n)],
        "source": pa.array(sources or [name] * n, pa.string()),
        "level": pa.array(levels or [None] * n, pa.string()),
        "question": [f"How many apples are {i} and {i + 1} apples?{hostile}" for i in range(n)],
        "answer": [f"{2 * i + 1}{hostile}" for i in range(n)],
        "accuracy": pa.array(accuracy, pa.float64()) if accuracy is not None else pa.nulls(n, pa.float64()),
    }
    right = [None] * n if accuracy is None else [each == 1 for each in np.asarray(accuracy).tolist()]
    columns["verdicts"] = [[] if each is None else ["right" if each else "wrong"] for each in right]
    columns["extracted"] = [[] if each is None else [str(i)] for i, each in enumerate(right)]
    texts = [f"{i} + {i + 1} = {2 * i + (1 if each else 2)}{hostile}" for i, each in enumerate(right)]
    columns["completions"] = [[] if each is None else [text] for each, text in zip(right, texts, strict=True)]
    columns["nll"] = pa.array(nll, pa.float64()) if nll is not None else pa.nulls(n, pa.float64())
    tokens = pa.array([20 + 7 * (i % 11) for i in range(n)], pa.int32())
    columns["nll_tokens"] = tokens if nll is not None else pa.nulls(n, pa.int32())
    place = run / "evaluation" / name
    place.mkdir(parents=True)
    pq.write_table(pa.table({**columns, **changed}), place / "rows.parquet")
    summary = {"kind": "evaluation", "name": name, "protocol": protocol, "rows": n}
    (place / "summary.json").write_text(record_text(summary | {"files": file_checksums(place, ["rows.parquet"])}))
    return place


def write_study(
    root: Path,
    arms: Mapping[str, float],
    seeds: int = 3,
    *,
    budgets: tuple[str | None, ...] = ("steps",),
    sets: Mapping[str, int] | None = None,
    generated: bool = True,
    hostile: str = "",
) -> list[Path]:
    """Runs of arms whose chance of a right answer is higher by so much (in logits), and whose nll is lower."""
    runs = []
    rng = np.random.default_rng(7)
    named = {"gsm8k": 400, "math": 300} if sets is None else sets
    ease = {name: rng.normal(0, 1.5, n) for name, n in named.items()}
    for budget in budgets:
        for arm, gain in arms.items():
            for seed in range(seeds):
                place = root / f"{arm.replace('/', '-')[:20]}-{budget}-seed{seed}"
                run = write_run(place, arm, seed, budget=budget, curated=arm != "original", hostile=hostile)
                shift = 0.05 * rng.normal()
                for name, base in ease.items():
                    chance = 1 / (1 + np.exp(-(base + gain + shift)))
                    levels = [f"Level {1 + int(each)}{hostile}" for each in np.clip(2 - base, 0, 4)]
                    write_evaluation(
                        run,
                        name + hostile[:0],
                        (rng.random(len(base)) < chance).astype(float) if generated else None,
                        np.exp(-0.2 * base) - 0.1 * (gain + shift) + 0.05 * rng.normal(size=len(base)),
                        levels=levels if name == "math" else None,
                        sources=[f"algebra{hostile}" if i % 3 else "geometry" for i in range(len(base))],
                        hostile=hostile,
                    )
                runs.append(run)
    return runs
