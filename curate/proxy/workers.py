"""Train and measure the proxy on the workers of an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.console.progress import Progress
from curate.context import Context
from curate.data.examples import Examples
from curate.engine.packages import package_names
from curate.engine.protocol import Item, Job, WorkerContext
from curate.errors import CurateError
from curate.proxy.measures import LiveCheckpoint, Measure, measured_values
from curate.proxy.training import ProxyTraining, resume_name, step_name
from curate.storage.cache import MANIFEST, Cache
from curate.storage.remote_cache import open_cache
from curate.tokenization.tokens import Tokens
from curate.types import FloatArray

# Values and checkpoints end up in the driver's cache. If workers see its folder, they read and write checkpoints there;
# otherwise checkpoints travel with the work. Values are small and always travel, so only the driver writes them.

Files = dict[str, npt.NDArray[np.uint8]]  # name -> bytes, files of a cache entry


# -- training ---------------------------------------------------------------------------------------------------------


def train_on_workers(proxy_training: ProxyTraining, advance: Callable[[int], None]) -> Iterator[tuple[int, int]]:
    """See `ProxyTraining.train_missing`; trains on the engine's training ranks. Runs on the driver."""
    engine, cache = proxy_training.engine, proxy_training.cache
    assert engine is not None
    shared = engine.shares(str(cache))
    shipped, tokens = proxy_training.shipped(), engine.share(proxy_training.training_tokens)
    position = reported = 0

    def payload() -> dict[str, Any]:
        nonlocal position
        position = 0
        step = proxy_training.resumable()
        key = ("proxies", proxy_training.key, resume_name(step))
        state = {key: _files(cache, *key)} if step and not shared else {}
        missing = proxy_training.missing()
        stored = [step for step in proxy_training.schedule.steps.tolist() if step not in missing]
        return {"shipped": shipped, "tokens": tokens, "state": state, "stored": stored}

    job = Job("the training of the proxy", _train, payload)
    for kind, value in engine.group(job, needs=package_names(proxy_training.proxy)):
        if kind == "advance":  # a replacement of a lost rank repeats some steps
            position += value
            advance(max(0, position - reported))
            reported = max(reported, position)
        elif kind == "value":
            step, tokens_seen, entries = value
            for key, files in entries.items():
                _install(cache, key, files)
            proxy_training.drop_resumable(step)
            yield step, tokens_seen


def _train(payload: dict[str, Any], worker: WorkerContext) -> Iterator[tuple[int, int, dict[tuple[str, ...], Files]]]:
    """Runs on a training rank: (step, tokens seen, cache entries) of every checkpoint; no entries of a shared cache."""
    cache = open_cache(worker.cache)
    tokens = worker.fetch(payload["tokens"])
    context = Context(cache, worker.device, progress=Progress())
    own = ProxyTraining.received(payload["shipped"], context, lambda: tokens)
    for key, files in payload["state"].items():
        _install(cache, key, files)
    own.stored_elsewhere = () if worker.shared else payload["stored"]
    for step, tokens_seen in own.train_missing(lambda count: worker.emit("advance", count)):
        keys = [("proxies", own.key, name) for name in (resume_name(step), step_name(step))]
        yield step, tokens_seen, {} if worker.shared else {key: _files(cache, *key) for key in keys}


# -- measuring --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shard:
    """Missing values. name: of the measure; rows low..high-1 at a checkpoint."""

    name: str
    step: int
    number: int
    low: int
    high: int


@dataclass(frozen=True)
class Shipment:
    """A shard as sent to a worker. rows: reference to its (tokens, examples); weights: to the files of the checkpoint,
    None if the cache is shared."""

    name: str
    step: int
    rows: Any
    weights: Any


class AllTokensNeeded(CurateError):
    """A measure needs the tokens of all rows, which workers get only on demand."""


def measure_on_workers(
    proxy_training: ProxyTraining,
    measures: dict[str, Measure],
    shards: Sequence[Shard],
    examples: Examples,
    tokens: Tokens,
    expected_tokens: int,
) -> Iterator[tuple[Shard, FloatArray, str]]:
    """(shard, values (rows, d), progress text) of every shard, in measuring order. Runs on the driver.

    measures: by name. examples, tokens: of the n rows that the shards belong to.
    """
    engine, cache = proxy_training.engine, proxy_training.cache
    assert engine is not None
    shared = engine.shares(str(cache))
    setup = {"shipped": proxy_training.shipped(), "measures": measures, "expected_tokens": expected_tokens}
    weights: dict[int, Any] = {}  # of the newest step only: shards are ordered by step
    rows: dict[int, Any] = {}  # first row of a shard -> its rows; shared once for all measures and checkpoints

    def payload(shard: Shard) -> Shipment:
        if not shared and shard.step not in weights:
            weights.clear()
            weights[shard.step] = engine.share(_files(cache, "proxies", proxy_training.key, step_name(shard.step)))
        if shard.low not in rows:
            own = examples.slice(shard.low, shard.high)
            own = own.take(np.arange(len(own)))  # a copy: a slice would be sent with the whole table
            rows[shard.low] = engine.share((tokens.slice(shard.low, shard.high), own))
        return Shipment(shard.name, shard.step, rows[shard.low], weights.get(shard.step))

    remaining, needs = list(shards), package_names(proxy_training.proxy, *measures.values())
    while remaining:
        batch = tuple(remaining)
        items = [_item(shard, payload, tokens) for shard in batch]
        try:
            for position, values, progress in engine.map(MeasuringWorker, setup, items, stage="measure", needs=needs):
                remaining.remove(batch[position])
                yield batch[position], values, progress
        except AllTokensNeeded:
            setup = {**setup, "all_tokens": engine.share(proxy_training.tokenized.tokens)}


def _item(shard: Shard, payload: Callable[[Shard], Shipment], tokens: Tokens) -> Item:
    count = int(tokens.offsets[shard.high] - tokens.offsets[shard.low])
    return Item(lambda: payload(shard), shard.high - shard.low, count)


class MeasuringWorker:
    """Runs on a worker: holds the model, and measures the shards it is called with."""

    def __init__(self, setup: dict[str, Any], worker: WorkerContext) -> None:
        self.worker, self.all_tokens = worker, setup.get("all_tokens")
        self.cache, self.measures = open_cache(worker.cache), setup["measures"]
        context = Context(self.cache, worker.device, progress=Progress())
        self.training = ProxyTraining.received(setup["shipped"], context, self._all_tokens)
        self.expected_tokens = setup["expected_tokens"]
        self.checkpoint: LiveCheckpoint | None = None

    def __call__(self, shipment: Shipment) -> FloatArray:
        """(rows of the shard, d) values."""
        tokens, examples = self.worker.fetch(shipment.rows)
        checkpoint = self._at(shipment, tokens)
        checkpoint.tokens = tokens
        return measured_values(self.measures[shipment.name], checkpoint, examples)

    def _at(self, shipment: Shipment, tokens: Tokens) -> LiveCheckpoint:
        """The model with the weights of the shipment's step."""
        own, checkpoint = self.training, self.checkpoint
        if checkpoint is None:
            model = own.load_model(tokens).to(own.device).float().eval()
            precision = own.proxy.precision
            checkpoint = LiveCheckpoint(
                model, -1, tokens, own.device, own.seed, precision, self.expected_tokens, proxy_training=own
            )
        if checkpoint.step != shipment.step:
            key = ("proxies", own.key, step_name(shipment.step))
            if shipment.weights is not None:
                _install(self.cache, key, self.worker.fetch(shipment.weights))
            own.load_weights(checkpoint.model, shipment.step)
            if not self.worker.shared:
                self.cache.drop(*key)
            checkpoint = replace(checkpoint, step=shipment.step, memo={})
        self.checkpoint = checkpoint
        return checkpoint

    def _all_tokens(self) -> Tokens:
        if self.all_tokens is None:
            raise AllTokensNeeded("the tokens of all rows are needed")
        tokens: Tokens = self.worker.fetch(self.all_tokens)
        return tokens


# -- entries of a cache -----------------------------------------------------------------------------------------------


def _files(cache: Cache, *key: str) -> Files:
    """The files of a cache entry; empty if there is none, as for an untrained model."""
    entry = cache.get(*key)
    if entry is None:
        return {}
    paths = [path for path in entry.rglob("*") if path.is_file() and path.name != MANIFEST]
    return {path.relative_to(entry).as_posix(): np.fromfile(path, np.uint8) for path in paths}


def _install(cache: Cache, key: tuple[str, ...], files: Files) -> None:
    if not files:
        return
    with cache.writing(*key) as folder:
        for name, content in files.items():
            path = Path(folder / name)
            path.parent.mkdir(parents=True, exist_ok=True)
            content.tofile(path)
