"""The record says what was done, defaults included."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import transformers

import curate
import curate.training.step
from curate.finetuning.config import Finetuning, finetuning_from
from curate.finetuning.finetune import finetune
from curate.finetuning.flops import flop_counts
from curate.finetuning.lora import LoRA
from curate.models import load_model
from curate.optimizers import SAM, Muon
from curate.tokenization.encoding import tokenize
from tests.fixtures.finetuning import ROWS, losses, settings, table


def test_the_record_says_what_was_done(model: str, tmp_path: Path) -> None:
    curation = {"seconds": 1.5, "tokens": 9, "proxy_parameters": 3, "requests": 0, "generated_tokens": 0}
    chosen = settings(model, steps="1 epoch", optimizer=SAM())
    record = finetune(table(), chosen, tmp_path / "run", arm="hard", budget="epochs", curation=curation)
    assert {name: record[name] for name in ("kind", "arm", "seed", "budget", "template", "max_length", "curation")} == {
        "kind": "finetune",
        "arm": "hard",
        "seed": 0,
        "budget": "epochs",
        "template": "alpaca",
        "max_length": 64,
        "curation": curation,
    }
    assert record["data"] == {
        "description": "pyarrow.Table",
        "fingerprint": curate.read(table()).examples.fingerprint(),
        "rows": ROWS,
        "valid": ROWS,
        "refused": 0,
        **{name: record["data"][name] for name in ("truncated", "prompts_cut", "completions_cut")},
        "origins": {"original": ROWS},
        "reading": {},
    }
    found = record["training"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    tokens = tokenize(curate.read(table()).examples, tokenizer, template="alpaca", max_length=64)
    assert (found["steps"], found["epochs"], found["rows_seen"]) == (5, 1.0, ROWS)
    assert found["tokens"] == len(tokens.ids)
    assert found["completion_tokens"] == int(tokens.supervised.sum())
    assert found["gradients_per_step"] == 2
    assert found["flops"] == pytest.approx(2 * flop_counts(load_model(model)).total(tokens, np.arange(ROWS)))
    assert (found["precision"], found["device"], found["world_size"], found["resumed"]) == ("float32", "cpu", 1, 0)
    assert (found["loss_first"], found["loss_last"]) == (losses(tmp_path / "run")[0], losses(tmp_path / "run")[-1])
    assert finetuning_from(record["settings"]) == chosen
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["metrics.jsonl", "model", "run.json"]


def test_the_record_holds_defaults_too(model: str, tmp_path: Path) -> None:
    chosen = settings(model, steps=1, optimizer=SAM(base=Muon()), lora=LoRA(), learning_rate=None)
    record = finetune(table(), chosen, tmp_path / "run")
    found = record["settings"]
    assert set(found) == set(Finetuning.model_fields)
    assert (found["lora"]["rank"], found["optimizer"]["rho"]) == (8, 0.05)
    assert found["optimizer"]["base"]["momentum"] == 0.95
    assert found["optimizer"]["base"]["adamw"]["betas"] == [0.9, 0.999]
    assert record["training"]["learning_rate"] == 2e-4
    assert finetuning_from(json.loads(json.dumps(found))) == chosen
