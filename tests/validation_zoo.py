"""A dataset, and what stands in for fine-tuning and evaluation where a validation is tested without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizer_zoo import byte_level

from curate.errors import ExternalError
from curate.evaluation import Evaluation
from curate.evaluation.results import EvaluationResult, write_result
from curate.finetuning import Finetuning
from curate.models import identify, load_tokenizer
from curate.readers import read
from curate.records import record_text

__all__ = ["Trained", "identify_known", "load_known", "rows"]


def identify_known(name: str, revision: str | None = None) -> str:
    """In place of `curate.models.identify`: models of one letter exist."""
    return f"files:{name}" if len(name) == 1 else identify(name, revision)


def load_known(name: str, **_: Any) -> Any:
    """In place of `curate.models.load_tokenizer`: that of every model of one letter is one."""
    return byte_level(vocabulary=300) if len(name) == 1 else load_tokenizer(name)


def rows(n: int = 100, seed: int = 0) -> pa.Table:
    """n questions that have little in common, from two sources."""
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(list("abcdefghijklmnop"), 6)) for _ in range(12 * n)]
    return pa.table(
        {
            "prompt": [" ".join(words[12 * k : 12 * k + 12]) for k in range(n)],
            "completion": [f"the answer is {k}" for k in range(n)],
            "source": [("a", "b")[k % 2] for k in range(n)],
            "known": rng.gamma(2.0, 0.5, n),
        }
    )


class Trained:
    """Stands in for fine-tuning and evaluation: writes their folders, remembers the calls, fails when told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, int]] = []
        self.settings: dict[str, Finetuning] = {}
        self.curation: dict[str, Any] = {}
        self.fails_before: int = 10**9

    def finetune(self, data: Any, settings: Finetuning, out: Path, *, arm: str, budget: str, **more: Any) -> None:
        if (out / "run.json").exists():
            return
        if len(self.calls) == self.fails_before:
            raise ExternalError("the disk is full")
        self.calls.append((arm, budget, settings.seed))
        self.settings[out.name], self.curation[out.name] = settings, more["curation"]
        n = len(read(data, allow_curated=True, columns=more["columns"], shape=more["shape"]).examples)
        (out / "model").mkdir(parents=True)
        (out / "model" / "model.safetensors").touch()
        training = {
            "steps": settings.steps,
            "epochs": settings.steps * settings.batch_size / n,
            "tokens": 5,
            "device": "cpu",
        }
        training |= {"seconds": 1.0, "gradients_per_step": 1, "flops": 7, "tokens_per_second": 5.0}
        line = {"step": settings.steps, "epoch": 1.0, "loss": 1.0, "learning_rate": 1e-5, "gradient_norm": 1.0}
        line |= {"tokens": 5, "tokens_per_second": 5.0, "seconds": 1.0}
        (out / "metrics.jsonl").write_text(json.dumps(line) + "\n")
        record = {"kind": "finetune", "arm": arm, "seed": settings.seed, "budget": budget, "settings": {}}
        record |= {"training": training, "curation": more["curation"], "template": "plain", "max_length": 512}
        record["model"] = {"name": "m", "identity": "m", "parameters": 3, "trainable": 3}
        record["data"] = {"description": str(data), "rows": n, "valid": n, "origins": {}}
        (out / "run.json").write_text(record_text(record))

    def evaluate(self, target: str, sets: Any, evaluation: Evaluation, **more: Any) -> None:
        rng = np.random.default_rng(len(target) + len(self.calls))
        for each in sets:
            n = 40
            asked = pa.table(
                {
                    "example_id": [f"q{k}" for k in range(n)],
                    "source": pa.nulls(n, pa.string()),
                    "level": pa.nulls(n, pa.string()),
                    "question": [f"question {k}" for k in range(n)],
                    "answer": pa.nulls(n, pa.string()),
                    "accuracy": pa.nulls(n, pa.float64()),
                    "verdicts": pa.nulls(n, pa.list_(pa.string())),
                    "extracted": pa.nulls(n, pa.list_(pa.string())),
                    "completions": pa.nulls(n, pa.list_(pa.string())),
                    "nll": rng.gamma(3.0, 0.3, n),
                    "nll_tokens": pa.array([9] * n, pa.int32()),
                }
            )
            summary = {
                "kind": "evaluation",
                "name": each.title,
                "protocol": "p",
                "accuracy": None,
                "nll": 1.0,
                "seconds": 2.0,
            }
            write_result(EvaluationResult(summary, asked), Path(target) / "evaluation" / each.title)
