"""Train the proxy once, look at every example at every checkpoint, keep both.

Two phases. First the proxy is trained and its float32 checkpoints are stored (`curate.proxy.training`); then each
checkpoint is loaded and measured, shard by shard. Measuring after training rather than during it costs a reload per
checkpoint and buys a lot: a measure cannot disturb the run, one that is added later never retrains, rows that are
written later are measured on the same checkpoints, and what a killed run still owes is exactly the shards that are
not there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curate import training
from curate.component import fingerprint
from curate.context import Context
from curate.data.examples import Examples
from curate.devices.distributed import any_rank, barrier, rank, world_size
from curate.difficulty.scores import Scores
from curate.errors import ExternalError, InputError
from curate.proxy.checkpoints import LiveCheckpoint
from curate.proxy.measures import DemandingMeasure, KeyedMeasure, Measure, passes_of
from curate.proxy.proxy import Proxy, Schedule
from curate.proxy.training import ProxyRun
from curate.tokenization.tokens import Tokens
from curate.types import BoolArray, FloatArray, IntArray

__all__ = ["SHARD_ROWS", "Stored", "Trace", "extend", "stored", "trace"]

# Rows per shard: what a killed run may lose, and the pool from which batches of equal length are composed. Part of
# the numbers' identity, since batches never cross a shard.
SHARD_ROWS = 2048


@dataclass(frozen=True)
class Trace:
    """What was measured.

    values: fingerprint of a measure -> (n, K, d) float32.
    valid, tokens, prompt_cut, completion_cut: (n,) each, see `curate.tokenization.cached.Rows`.
    proxy_key: names the proxy run in the cache; facts: what is worth reporting about it.
    """

    schedule: Schedule
    values: dict[str, FloatArray]
    valid: BoolArray
    tokens: npt.NDArray[np.int32]
    prompt_cut: npt.NDArray[np.int32]
    completion_cut: npt.NDArray[np.int32]
    proxy_key: str
    facts: dict[str, Any]

    def of(self, measure: Measure) -> FloatArray:
        """(n, K, d) values of a measure."""
        return self.values[fingerprint(measure)]

    def to_scores(
        self,
        examples: Examples,
        losses: FloatArray,
        features: FloatArray,
        *,
        what: str = "feature",
        remedy: str = "lower proxy.learning_rate",
        difficulty: FloatArray | None = None,
        valid: BoolArray | None = None,
    ) -> Scores:
        """Scores of the n examples with features (n, f); difficulty (n,) is their mean unless it is given.

        losses: (n, K) nats per token at the K checkpoints, the trajectory. valid: (n,), the rows with completion text
        unless given. Raises InputError, naming row, id, step and remedy, where a loss or a feature (called `what`) of a
        valid row is not finite.
        """
        valid = self.valid if valid is None else valid
        steps = self.schedule.steps
        _check_finite(
            losses, valid, examples, steps, "loss", "lower proxy.learning_rate, or set proxy.precision to float32"
        )
        _check_finite(features, valid, examples, steps, what, remedy)
        kept = np.where(valid[:, None], features, 0).astype(np.float32)
        mean = kept.mean(axis=1) if difficulty is None else difficulty
        return Scores(
            features=kept,
            difficulty=np.where(valid, mean, np.nan).astype(np.float32),
            valid=valid,
            trajectory=losses,
            steps=steps,
            tokens=self.tokens,
            prompt_cut=self.prompt_cut,
            completion_cut=self.completion_cut,
            ids=examples.ids,
        )


def _check_finite(
    values: FloatArray,
    valid: BoolArray,
    examples: Examples,
    steps: IntArray,
    what: str,
    remedy: str,
) -> None:
    bad = valid & ~np.isfinite(values).all(axis=1)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        column = int(np.flatnonzero(~np.isfinite(values[row]))[0])
        where = f" at step {steps[column]}" if values.shape[1] == len(steps) else ""
        raise InputError(
            f"the {what} of {int(bad.sum())} valid rows is not finite, first row {row} (id {examples.ids[row].as_py()})"
            f"{where}; {remedy}"
        )


def trace(examples: Examples, proxy: Proxy, measures: Sequence[Measure], context: Context) -> Trace:
    """Values of every measure at every checkpoint of the proxy, from the cache where they are there."""
    proxy_run = ProxyRun(examples, proxy, context)
    for measure in measures:
        if isinstance(measure, DemandingMeasure):
            measure.check_proxy(proxy_run)
    rows, schedule = proxy_run.tokenised.rows, proxy_run.schedule
    values = _Measuring(proxy_run, examples, measures, schedule).values(lambda: proxy_run.tokenised.tokens)
    proxy_run.tokenised.tell_refused()
    about = (rows.valid, rows.tokens, rows.prompt_cut, rows.completion_cut)
    return Trace(schedule, values, *about, proxy_run.key, proxy_run.facts())


def extend(
    traced: Trace, examples: Examples, new: Examples, proxy: Proxy, measures: Sequence[Measure], context: Context
) -> Trace:
    """`traced`, that of `examples`, with m `new` rows behind them, measured at the checkpoints that are kept.

    Nothing is trained, unless checkpoints have vanished from the cache; asked again, nothing is measured. Only rows
    with completion text are measured, the others are NaN.
    """
    proxy_run = ProxyRun(examples, proxy, context)
    tokenised = proxy_run.tokenise(new)
    rows = tokenised.rows
    kept = np.flatnonzero(rows.valid)
    measurable = new if len(kept) == len(new) else new.take(kept)
    place = f"beside-{measurable.fingerprint()}"
    measuring = _Measuring(proxy_run, measurable, measures, traced.schedule, place)
    found = measuring.values(lambda: tokenised.tokens.take(kept)) if len(kept) else {}
    values = {}
    for name in (fingerprint(measure) for measure in measures):
        old = traced.values[name]
        behind = np.full((len(new), *old.shape[1:]), np.nan, np.float32)
        if name in found:
            behind[kept] = found[name]
        values[name] = np.concatenate([old, behind])
    return replace(
        traced,
        values=values,
        valid=np.concatenate([traced.valid, rows.valid]),
        tokens=np.concatenate([traced.tokens, rows.tokens]),
        prompt_cut=np.concatenate([traced.prompt_cut, rows.prompt_cut]),
        completion_cut=np.concatenate([traced.completion_cut, rows.completion_cut]),
    )


@dataclass(frozen=True)
class Stored:
    """What the cache holds of a proxy run.

    rows: whether the rows are known; checkpoints: steps whose weights are stored; measured of shards: values.
    """

    schedule: Schedule
    rows: bool
    checkpoints: list[int]
    measured: int
    shards: int

    @property
    def trained(self) -> bool:
        """Whether every checkpoint is there, so that rows are measured without training."""
        return len(self.checkpoints) == len(self.schedule.steps)


def stored(examples: Examples, proxy: Proxy, measures: Sequence[Measure], context: Context) -> Stored:
    """What a call of `trace` with the same arguments would find; loads and runs nothing."""
    proxy_run = ProxyRun(examples, proxy, context)
    known = proxy_run.tokenised.known
    schedule = proxy_run.schedule if known else proxy.schedule(len(examples))
    measuring = _Measuring(proxy_run, examples, measures, schedule)
    shards = len(schedule.steps) * len(measuring.shards) * len(measures)
    missing = sum(len(owed) for owed in measuring.missing().values())
    return Stored(schedule, known, proxy_run.checkpoints(schedule), shards - missing, shards)


class _Measuring:
    """Values of measures for n examples at the checkpoints of a proxy run.

    place: where in the run's part of the cache the values lie; "" for the rows that it was trained on.
    """

    def __init__(
        self, proxy_run: ProxyRun, examples: Examples, measures: Sequence[Measure], schedule: Schedule, place: str = ""
    ) -> None:
        self.proxy_run, self.examples, self.measures, self.place = proxy_run, examples, list(measures), place
        self.cache = proxy_run.cache
        self.steps: list[int] = schedule.steps.tolist()
        self.names = {
            fingerprint(m): fingerprint([m, m.key_of(examples)] if isinstance(m, KeyedMeasure) else m) for m in measures
        }
        n = len(examples)
        self.shards = [(low, min(low + SHARD_ROWS, n)) for low in range(0, n, SHARD_ROWS)]

    def values(self, tokens: Callable[[], Tokens]) -> dict[str, FloatArray]:
        """Fingerprint of a measure -> (n, K, d); what is not in the cache is measured, trained first if need be.

        tokens: gives those of the n examples; called only if something is missing.
        """
        if any_rank(bool(self.missing())):  # a complete cache may be read-only, and needs no lock
            with self.proxy_run.exclusively():
                missing = self.missing()
                barrier()  # every rank has looked before any adds, so that all share out the same list
                if any_rank(bool(missing)):
                    self.proxy_run.train()
                    self._measure(missing, tokens())
        return {fingerprint(measure): self._collect(measure) for measure in self.measures}

    def missing(self) -> dict[int, list[tuple[Measure, int]]]:
        """step -> (measure, shard) still to be measured."""
        wanted: dict[int, list[tuple[Measure, int]]] = {}
        for step in self.steps:
            for measure in self.measures:
                for shard in range(len(self.shards)):
                    if self.cache.get(*self._entry(measure, step, shard)) is None:
                        wanted.setdefault(step, []).append((measure, shard))
        return wanted

    def _entry(self, measure: Measure, step: int, shard: int) -> tuple[str, ...]:
        place = (self.place,) if self.place else ()
        name = self.names[fingerprint(measure)]
        return ("measures", self.proxy_run.key, name, f"step-{step:06d}", *place, f"shard-{shard:05d}")

    def _collect(self, measure: Measure) -> FloatArray:
        """(n, K, d) from the cache."""
        columns = []
        for step in self.steps:
            parts = []
            for shard in range(len(self.shards)):
                entry = self.cache.get(*self._entry(measure, step, shard))
                if entry is None:
                    raise ExternalError(
                        f"shard {shard} of step {step} vanished from the cache {self.cache.root}; run the command again"
                    )
                parts.append(np.load(entry / "values.npy", allow_pickle=False))
            columns.append(np.concatenate(parts))
        return np.stack(columns, axis=1)

    def _measure(self, missing: dict[int, list[tuple[Measure, int]]], tokens: Tokens) -> None:
        proxy_run = self.proxy_run
        model = proxy_run.model.to(proxy_run.device).float().eval()
        engines: dict[str, Any] = {}
        kept: dict[str, Any] = {}
        sizes = [high - low for low, high in self.shards]
        total = sum(sizes[shard] for owed in missing.values() for _, shard in owed)
        done = 0
        with proxy_run.progress.stage("measure", total, "rows") as stage:
            for step, owed in missing.items():
                training.load_weights(model, proxy_run.checkpoint(step))
                checkpoint = LiveCheckpoint(
                    model,
                    step,
                    tokens,
                    proxy_run.device,
                    proxy_run.seed,
                    proxy_run.proxy.precision,
                    len(self.steps) * len(tokens.ids),
                    kept=kept,
                    proxy_run=proxy_run,
                    _engines=engines,
                )
                for measure, shard in owed:
                    if done % world_size() == rank():
                        low, high = self.shards[shard]
                        checkpoint.tokens = tokens.slice(low, high)
                        passes = passes_of(measure, len(self.examples), len(self.steps)) / len(self.steps)
                        stage.cost.tokens += math.ceil(len(checkpoint.tokens.ids) * passes)
                        values = self._measured(measure, checkpoint, low, high)
                        self.cache.put(*self._entry(measure, step, shard), write=_saver(values))
                    done += 1
                    stage.advance(sizes[shard])

    def _measured(self, measure: Measure, checkpoint: LiveCheckpoint, low: int, high: int) -> FloatArray:
        values = np.asarray(measure.measure(checkpoint, self.examples.take(np.arange(low, high))), np.float32)
        if values.ndim != 2 or len(values) != high - low:
            raise InputError(
                f"{type(measure).__name__}.measure returned shape {values.shape} for {high - low} rows; "
                f"it must return ({high - low}, d)"
            )
        return values


def _saver(values: FloatArray) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / "values.npy", values, allow_pickle=False)
