"""Shared parts of the families of text: rows, small transformers and their training."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from filelock import FileLock

from benchmarks.reproduction.preparation import small_llama
from benchmarks.when.family import Losses, Outcome, Phase, Run, Tally
from benchmarks.when.settings import Setting
from curate import Proxy, Scores, models, read
from curate import Run as ProxyRun
from curate.errors import InputError
from curate.models.loading import load_model, load_tokenizer
from curate.models.scoring import score_losses
from curate.models.scratch import scratch_tokenizer
from curate.seeds import derive_seed
from curate.storage.atomic import publishing
from curate.tokenization.encoding import tokenize
from curate.tokenization.tokens import Tokens
from curate.training.config import TrainConfig
from curate.training.loop import train
from curate.training.row_order import RowOrder
from curate.types import BoolArray, Float64Array, IntArray
from scorers import LossTrajectory

# A target is a Llama of two layers from random weights, or pretrained on the frequent part, with the library's training
# loop at a constant rate. Its proxy is the same model before it is fine-tuned, a smaller one, or one given as a folder.

_COLUMNS = "prompt=question,completion=answer,id=id"
_TEST_BATCH = 100  # questions at once: their logits are held whole
_BLOCK = 8  # rows of neighboring length, among which completions move


@dataclass(frozen=True)
class Material:
    """The texts of a task.

    rows: training rows, with the columns of `benchmarks.when.family`. mixture: group -> share of the clean ones.
    test: clean held-out rows (id, question, answer, group). known: rows of the frequent part (id, question, answer)
    that are neither trained on nor asked: what a model that knows the frequent part has learned before.
    """

    rows: pa.Table
    mixture: Mapping[str, float]
    test: pa.Table
    known: pa.Table


@dataclass(frozen=True)
class Training:
    """How the models of a family are made and trained.

    shapes: size -> (width, layers) of the target, and of a small proxy. rate: of fine-tuning and of the proxy.
    pretrain_steps: of batches of `pretrain_batch` of the known rows, at `pretrain_rate`.
    proxy_steps, checkpoints: of the proxy. corpus: rows that the family's tokenizer is made from, all seeds alike.
    """

    corpus: Callable[[], pa.Table]
    max_length: int
    shapes: Mapping[str, tuple[int, int]]
    pretrain_steps: int
    pretrain_batch: int = 32
    pretrain_rate: float = 3e-3
    rate: float = 1e-3
    proxy_rate: float = 1e-3
    proxy_steps: int = 100
    checkpoints: int = 5


class LanguageTask:
    """One seed of one setting, see `benchmarks.when.family.Task`.

    proxy_model: folder of the pretrained model that is the proxy where the setting says "given".
    """

    def __init__(
        self,
        setting: Setting,
        seed: int,
        material: Material,
        training: Training,
        cache: Path,
        proxy_model: Path | None = None,
    ) -> None:
        self.setting, self.seed, self.material, self.training = setting, seed, material, training
        self.cache = cache
        self.rows, self.mixture = material.rows, dict(material.mixture)
        self.proxy_steps = training.proxy_steps
        self._places = {"target": self._start("target")}
        if setting.proxy == "given":
            if proxy_model is None:
                raise InputError(
                    f"{setting.family} {setting.name} has a given proxy; name its folder with --proxy-model DIR"
                )
            self._places["proxy"] = proxy_model
        else:
            self._places["proxy"] = self._places["target"] if setting.proxy == "same" else self._start("small")

    @cached_property
    def parameters(self) -> Mapping[str, int]:
        """Of the target and of the proxy."""
        loaded = {name: load_model(str(place)) for name, place in self._places.items()}
        return {name: sum(p.numel() for p in model.parameters()) for name, model in loaded.items()}

    # -- the proxy --------------------------------------------------------------------------------------------------

    def scores(self) -> Scores:
        training = self.training
        proxy = Proxy(
            model=str(self._places["proxy"]),
            steps=training.proxy_steps,
            checkpoints=training.checkpoints,
            learning_rate=training.proxy_rate,
            batch_size=self.setting.batch_size,
            max_length=training.max_length,
            template="plain",
            precision="float32",
        )
        run = ProxyRun(proxy, self.cache / "proxies", "cpu", seed=derive_seed(self.seed, "when", "proxy"))
        return LossTrajectory().score(read(self.rows, columns=_COLUMNS).examples, run)

    def proxy_losses(self, train: pa.Table, measured: pa.Table, at: Sequence[int], seed: int) -> Losses:
        tokenizer = load_tokenizer(str(self._places["proxy"]))
        rows, measured_tokens = (_tokens(table, tokenizer, self.training.max_length) for table in (train, measured))
        model = load_model(str(self._places["proxy"]))
        loss_columns = []
        order = drawn([Phase(max(at), np.ones(len(rows), np.int64))], self.setting.batch_size, seed)
        for _ in _trained(model, rows.take(order), self.setting.batch_size, self.training.proxy_rate, at):
            loss_columns.append(score_losses(model, measured_tokens, precision="float32", compile=False))  # (m,)
        return np.stack(loss_columns, axis=1)

    # -- the target -------------------------------------------------------------------------------------------------

    def train(self, runs: Mapping[str, Run]) -> Iterator[tuple[str, list[Outcome]]]:
        batch, seed = self.setting.batch_size, derive_seed(self.seed, "when", "order")
        for name, run in runs.items():
            model = load_model(str(self._places["target"]))
            rows = self._training_tokens.take(drawn(run.phases, batch, seed))
            steps = _trained(model, rows, batch, self.training.rate, run.at)
            yield name, [Outcome(step, self._tallies(model)) for step in steps]

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(str(self._places["target"]))

    @cached_property
    def _training_tokens(self) -> Tokens:
        return _tokens(self.rows, self._tokenizer, self.training.max_length)

    @cached_property
    def _test_tokens(self) -> Tokens:
        return _tokens(self.material.test, self._tokenizer, self.training.max_length)

    def _tallies(self, model: Any) -> dict[str, Tally]:
        nats, right = asked(model, self._test_tokens)
        groups, tokens = np.array(self.material.test["group"].to_pylist()), self._test_tokens.completion_tokens
        return {
            group: Tally(float(nats[rows].sum()), int(tokens[rows].sum()), int(right[rows].sum()), int(rows.sum()))
            for group in self.mixture
            for rows in (groups == group,)
        }

    def _start(self, size: str) -> Path:
        """Folder of the model of this size before it sees the training rows; made once for all settings of a seed."""
        setting = self.setting
        place = self.cache / "models" / f"{setting.family}-{setting.knows}-{size}-{self.seed}"
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.with_suffix(".lock")):
            if not place.is_dir():
                with publishing(place) as folder:
                    self._make(size, folder)
        return place

    def _make(self, size: str, folder: Path) -> None:
        training, facts = self.training, dict[str, Any]()
        tokenizer = scratch_tokenizer(read(training.corpus(), columns=_COLUMNS).examples, 0)
        width, layers = training.shapes[size]
        model = small_llama(tokenizer, width, layers, training.max_length, self.seed)
        if self.setting.knows == "frequent":
            steps, batch = training.pretrain_steps, training.pretrain_batch
            rows = _tokens(self.material.known, tokenizer, training.max_length)
            seed = derive_seed(self.seed, "when", "pretraining", size)
            config = TrainConfig(
                steps=steps, batch_size=batch, learning_rate=training.pretrain_rate, precision="float32", seed=seed
            )
            for checkpoint in train(model, rows, config, checkpoint_steps=[steps]):
                facts = {"steps": steps, "tokens": checkpoint.tokens_seen, "loss": checkpoint.losses[-20:]}
        model.eval().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "facts.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")


def drawn(phases: Sequence[Phase], batch: int, seed: int) -> IntArray:
    """(steps * batch,) the rows of all optimizer steps, one step after the other, as the phases have them."""
    order, step = list[IntArray](), 0
    for phase in phases:
        source = RowOrder(np.repeat(np.arange(len(phase.counts)), phase.counts), batch, seed)
        order += [source.batch(step) for step in range(step, phase.until)]
        step = phase.until
    return np.concatenate(order)


def _trained(model: Any, rows: Tokens, batch: int, rate: float, at: Sequence[int]) -> Iterator[int]:
    """Train on the rows in their order, at a constant rate after warm-up, and yield the step after each of `at`.

    The library's loop shuffles what it is given, once per pass; rows are put so that one pass of it undoes that.
    """
    steps = len(rows) // batch
    config = TrainConfig(
        steps=steps,
        batch_size=batch,
        learning_rate=rate,
        schedule="constant",
        precision="float32",
        micro_batch_tokens=1 << 14,
    )
    shuffled = RowOrder(np.arange(len(rows)), batch, config.seed)
    places = np.concatenate([shuffled.batch(step) for step in range(steps)])  # (n,)
    ordered = np.empty(len(rows), np.int64)
    ordered[places] = np.arange(len(rows))
    for checkpoint in train(model, rows.take(ordered), config, checkpoint_steps=list(at)):
        yield checkpoint.step


def _tokens(table: pa.Table, tokenizer: Any, max_length: int) -> Tokens:
    return tokenize(read(table, columns=_COLUMNS).examples, tokenizer, template="plain", max_length=max_length)


def asked(model: Any, tokens: Tokens) -> tuple[Float64Array, BoolArray]:
    """(n,) summed nats of the completions of n rows, and whether greedy decoding gives each exactly.

    It does where every token of the completion, its end included, is the likeliest after those before it.
    """
    nats, right = np.zeros(len(tokens)), np.zeros(len(tokens), bool)
    order = np.argsort(tokens.lengths, kind="stable")
    with torch.no_grad():
        for low in range(0, len(order), _TEST_BATCH):
            rows = order[low : low + _TEST_BATCH]
            batch = models.make_batch(tokens, rows)
            logits = model(input_ids=batch.input_ids, use_cache=False).logits[:, :-1].float()  # (b, t, v)
            labels = batch.labels[:, 1:]  # (b, t)
            losses = torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), labels, ignore_index=-100, reduction="none"
            )
            nats[rows] = losses.double().sum(1).numpy()
            right[rows] = ((logits.argmax(-1) == labels) | (labels == -100)).all(1).numpy()
    return nats, right


def with_faults(rows: pa.Table, share: float, seed: int) -> pa.Table:
    """`rows` in which `share` of the completions stand at another row of the same source and about the same length.

    fault: "shuffled" where the completion is not the one it was.
    """
    generator = np.random.default_rng(derive_seed(seed, "when", "faults"))
    answers, sources = rows["answer"].to_pylist(), rows["source"].to_pylist()
    chosen = generator.choice(len(rows), round(share * len(rows)), replace=False).tolist()
    moved = list(answers)
    for source in sorted(set(sources)):
        members = sorted((i for i in chosen if sources[i] == source), key=lambda i: len(answers[i]))
        for block in np.array_split(np.array(members, np.int64), max(1, len(members) // _BLOCK)):
            circle = generator.permutation(block).tolist()
            for place, other in zip(circle, circle[1:] + circle[:1], strict=True):
                moved[place] = answers[other]
    faults = ["" if new == old else "shuffled" for new, old in zip(moved, answers, strict=True)]
    rows = rows.set_column(rows.column_names.index("answer"), "answer", pa.array(moved, pa.string()))
    return rows.set_column(rows.column_names.index("fault"), "fault", pa.array(faults, pa.string()))
