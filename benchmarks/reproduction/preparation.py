"""What the runs of one seed share: the rows, and the target and the proxy before fine-tuning."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from benchmarks.reproduction.problems import LEVELS, problems
from benchmarks.reproduction.science import science
from benchmarks.reproduction.settings import Settings
from curate import read
from curate.data.readers import Loaded
from curate.models.loading import load_model
from curate.models.scratch import scratch_tokenizer
from curate.seeds import derive_seed
from curate.storage.atomic import publishing
from curate.tokenization.encoding import tokenize
from curate.tokenization.tokens import Tokens
from curate.training.config import TrainConfig
from curate.training.loop import train

_COLUMNS = "prompt=question,completion=answer,final_answer=final_answer,source=source,id=id"
_TEST_SEED = 9_000  # the same questions for every seed, so that runs can be paired by example
_MEAN_OVER = 50
_ANCHORS = 192  # 48 of each level


@dataclass(frozen=True)
class Prepared:
    """training: rows to curate. tests: evaluation sets by name. target, proxy: folders of the pretrained models.

    anchors: rows of all levels alike, for reweighters; neither trained on nor asked.
    """

    training: Loaded
    anchors: pa.Table
    tests: dict[str, pa.Table]
    target: Path
    proxy: Path
    tokenizer: Any

    def model(self) -> Any:
        """The target as it was before fine-tuning."""
        return load_model(str(self.target))


def prepare(settings: Settings, seed: int, folder: Path, science_file: Path | None = None) -> Prepared:
    """The rows and models of a seed; what `folder` holds of them is not made again."""
    draw = _Draw(settings, seed, science_file)

    def pretrained(hidden: int, layers: int, epochs: int) -> Path:
        place = folder / f"{settings.pretraining[:8]}-{hidden}x{layers}-{epochs}"
        if not place.is_dir():
            with publishing(place) as into:
                _pretrain(settings, seed, (hidden, layers, epochs), draw, into)
        return place

    target = pretrained(settings.hidden_size, settings.layers, settings.pretrain_epochs)
    proxy = pretrained(settings.proxy_hidden_size, settings.proxy_layers, settings.proxy_pretrain_epochs)
    tests = {"balanced": draw("balanced"), "mixture": draw("mixture")}
    return Prepared(loaded(draw("train")), draw("anchors"), tests, target, proxy, AutoTokenizer.from_pretrained(target))


def loaded(table: pa.Table) -> Loaded:
    return read(table, columns=_COLUMNS)


def tokens_of(rows: Loaded, tokenizer: Any, settings: Settings) -> Tokens:
    return tokenize(rows.examples, tokenizer, template="plain", max_length=settings.max_length)


@dataclass(frozen=True)
class _Draw:
    """The rows of a part: pretrain, train, anchors, balanced (test) or mixture (test)."""

    settings: Settings
    seed: int
    science_file: Path | None

    def __call__(self, part: str) -> pa.Table:
        settings = self.settings
        rows = {"pretrain": settings.pretrain_rows, "train": settings.train_rows}.get(part, settings.test_rows)
        seed = self.seed if part in ("pretrain", "train") else _TEST_SEED
        if settings.data == "science":
            assert self.science_file is not None, "name the file of science questions"
            return science(self.science_file, rows, "pretrain" if part == "anchors" else part, seed)
        if part == "anchors":  # of the questions that pretraining draws from, which has no levels 3 and 4
            return problems(_ANCHORS, dict.fromkeys(LEVELS, 1.0), "pretrain", derive_seed(self.seed, "anchors"))
        mixture = {"pretrain": settings.pretrain_mixture, "balanced": dict.fromkeys(LEVELS, 1.0)}.get(
            part, settings.train_mixture
        )
        return problems(rows, mixture, part if part in ("pretrain", "train") else "test", seed)


def _pretrain(settings: Settings, seed: int, shape: tuple[int, int, int], draw: _Draw, folder: Path) -> None:
    """A Llama of this (width, depth, passes over its rows), trained from random weights."""
    hidden, layers, epochs = shape
    rows = loaded(draw("pretrain"))
    tokenizer = scratch_tokenizer(rows.examples, seed)
    model = small_llama(tokenizer, hidden, layers, settings.max_length, seed)
    steps = len(rows.examples) * epochs // settings.pretrain_batch_size
    training = TrainConfig(
        steps=steps,
        batch_size=settings.pretrain_batch_size,
        learning_rate=settings.pretrain_learning_rate,
        precision="float32",
        seed=derive_seed(seed, "reproduction", "pretraining"),
    )
    started, facts = time.process_time(), dict[str, Any]()
    for checkpoint in train(model, tokens_of(rows, tokenizer, settings), training, checkpoint_steps=[steps]):
        last = checkpoint.losses[-_MEAN_OVER:]
        facts = {"steps": steps, "tokens": checkpoint.tokens_seen, "loss": round(sum(last) / len(last), 4)}
    facts["parameters"] = sum(p.numel() for p in model.parameters())
    facts["cpu_seconds"] = round(time.process_time() - started, 1)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "facts.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")


def small_llama(tokenizer: Any, hidden: int, layers: int, max_length: int, seed: int) -> Any:
    """A Llama of this width and depth with float32 weights drawn from `seed`, embeddings tied."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3 // 8 * 8,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "reproduction", "weights", hidden, layers))
        return LlamaForCausalLM(config).float()
