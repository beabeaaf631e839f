"""Train the proxy once, measure every example at every checkpoint, and cache both."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.component import call_hook, fingerprint
from curate.context import Context
from curate.data.examples import Examples
from curate.devices.distributed import any_rank, barrier, rank, world_size
from curate.difficulty.scores import Scores
from curate.errors import ExternalError, InputError
from curate.proxy.measures import LiveCheckpoint, MeanLoss, Measure, measured_values, passes_of
from curate.proxy.proxy import Proxy, Schedule
from curate.proxy.sampling import predict
from curate.proxy.stopping import Stop, find_stop
from curate.proxy.training import ProxyTraining
from curate.proxy.workers import Shard, measure_on_workers, train_on_workers
from curate.storage.mapped import release
from curate.tokenization.cached import CachedTokens
from curate.tokenization.tokens import Tokens
from curate.types import BoolArray, FloatArray, IntArray

# The proxy is trained first and its float32 checkpoints are stored (`curate.proxy.training`); then each checkpoint is
# loaded and measured, shard by shard. That costs one reload per checkpoint, but a measure cannot disturb the training,
# a measure that is added later does not retrain, new rows are measured on the same checkpoints, and after a kill
# exactly the missing shards are measured.

# Rows per shard: the most work that a killed run can lose, and the pool from which batches of equal length are built.
# Part of the numbers' identity, since batches never cross a shard.
SHARD_ROWS = 2048


@dataclass(frozen=True)
class Trace:
    """The values of measures for n examples at the K checkpoints of the proxy.

    ids: (n,) example ids (Arrow strings).
    values: fingerprint of a measure -> (n, K, d) float32.
    valid, tokens, prompt_cut, completion_cut: (n,) each, see `curate.tokenization.cached.RowValidity`.
    proxy_key: names the trained proxy in the cache; facts: reported about it.
    """

    ids: pa.Array
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

    def scalars(self, measure: Measure) -> FloatArray:
        """(n, K) first component of a measure: its only one if it gives a number per example."""
        return self.of(measure)[:, :, 0]

    @property
    def losses(self) -> FloatArray:
        """(n, K) losses in nats per token, if `MeanLoss` was measured."""
        return self.scalars(MeanLoss())

    def to_scores(
        self,
        features: FloatArray,
        *,
        what: str = "feature",
        remedy: str = "lower proxy.learning_rate",
        difficulty: FloatArray | None = None,
        valid: BoolArray | None = None,
        losses: FloatArray | None = None,
    ) -> Scores:
        """Scores of the n examples with features (n, f); difficulty (n,) is their mean unless given.

        valid: (n,), the rows with completion text unless given. losses: (n, K) nats per token, the trajectory; those
        of `MeanLoss` unless given. Raises InputError, naming row, id, step and remedy, where a loss or a feature
        (called `what`) of a valid row is not finite.
        """
        valid = self.valid if valid is None else valid
        losses = self.losses if losses is None else losses
        precision = "lower proxy.learning_rate, or set proxy.precision to float32"
        self._check_finite(losses, valid, "loss", precision)
        self._check_finite(features, valid, what, remedy)
        if not valid.all():
            features = np.where(valid[:, None], features, 0)  # (n, f)
        features = features.astype(np.float32, copy=False)
        mean = features.mean(axis=1) if difficulty is None else difficulty
        return Scores(
            features=features,
            difficulty=np.where(valid, mean, np.nan).astype(np.float32),
            valid=valid,
            trajectory=losses,
            steps=self.schedule.steps,
            tokens=self.tokens,
            prompt_cut=self.prompt_cut,
            completion_cut=self.completion_cut,
            ids=self.ids,
        )

    def _check_finite(self, values: FloatArray, valid: BoolArray, name: str, remedy: str) -> None:
        bad = valid & ~np.isfinite(values).all(axis=1)  # (n,)
        if bad.any():
            row, steps = int(np.argmax(bad)), self.schedule.steps
            column = int(np.argmin(np.isfinite(values[row])))
            at_step = f" at step {steps[column]}" if values.shape[1] == len(steps) else ""
            raise InputError(
                f"the {name} of {int(bad.sum())} valid rows is not finite, first row {row} "
                f"(id {self.ids[row].as_py()}){at_step}; {remedy}"
            )


def measure_checkpoints(
    examples: Examples,
    proxy: Proxy,
    measures: Sequence[Measure],
    context: Context,
    *,
    kind: type[ProxyTraining] = ProxyTraining,
) -> Trace:
    """Values of every measure at every checkpoint of the proxy, from the cache if they are there.

    kind: class of the training, such as `curate.proxy.untrained.Untrained`.
    """
    proxy_training = kind(examples, proxy, context)
    for measure in measures:
        call_hook(measure, "check_proxy", proxy_training)
    tokenized, schedule = proxy_training.tokenized, settled(proxy_training, examples)
    rows = tokenized.rows
    sampled = _Sampled(proxy_training, examples, measures) if proxy_training.sample else None
    facts: dict[str, Any] = {}
    if sampled is None:
        values = _Measurement(proxy_training, examples, measures, schedule).values(tokenized)
    else:
        values, facts = sampled.values(tokenized)
    tokenized.report_refused()
    counts = (rows.tokens, rows.prompt_cut, rows.completion_cut)
    facts = proxy_training.facts() | facts
    facts |= {name: fact for measure in measures for name, fact in (call_hook(measure, "facts") or {}).items()}
    return Trace(examples.ids, schedule, values, rows.valid, *counts, proxy_training.key, facts)


def measure_new_rows(
    trace: Trace, examples: Examples, new: Examples, proxy: Proxy, measures: Sequence[Measure], context: Context
) -> Trace:
    """The trace of `examples`, extended by m `new` rows that are measured at the same checkpoints.

    Nothing is trained unless checkpoints are missing from the cache; a repeated call measures nothing. Only rows
    with completion text are measured, others are NaN.
    """
    proxy_training = ProxyTraining(examples, proxy, context)
    proxy_training.schedule = trace.schedule
    tokenized = proxy_training.tokenize(new)
    rows = tokenized.rows
    valid = np.flatnonzero(rows.valid)  # (valid rows,)
    measurable = new if len(valid) == len(new) else new.take(valid)
    place = f"beside-{measurable.fingerprint()}"
    measurement = _Measurement(proxy_training, measurable, measures, trace.schedule, place)
    measured = measurement.values(tokenized, valid) if len(valid) else {}
    values = {}
    for name in (fingerprint(measure) for measure in measures):
        old = trace.values[name]  # (n, K, d)
        appended = np.full((len(new), *old.shape[1:]), np.nan, np.float32)
        if name in measured:
            appended[valid] = measured[name]
        values[name] = np.concatenate([old, appended])
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(trace, name), getattr(rows, name)])
        for name in ("valid", "tokens", "prompt_cut", "completion_cut")
    }
    return replace(trace, ids=pa.concat_arrays([examples.ids, new.ids]), values=values, **arrays)


def measure_held_out(
    examples: Examples, held_out: Sequence[Examples], proxy: Proxy, measures: Sequence[Measure], context: Context
) -> list[Trace]:
    """Values of every measure for each of several datasets under the proxy trained on `examples`, from the cache.

    `examples` themselves are not measured. Rows without completion text are NaN.
    """
    proxy_training = ProxyTraining(examples, proxy, context)
    schedule = settled(proxy_training, examples)
    traces = []
    for others in held_out:
        tokenized = proxy_training.tokenize(others)
        rows = tokenized.rows
        valid = np.flatnonzero(rows.valid)  # (valid rows,)
        measurable = others if len(valid) == len(others) else others.take(valid)
        values = {}
        measurement = _Measurement(proxy_training, measurable, measures, schedule, f"beside-{measurable.fingerprint()}")
        for name, measured in (measurement.values(tokenized, valid) if len(valid) else {}).items():
            values[name] = np.full((len(others), *measured.shape[1:]), np.nan, np.float32)
            values[name][valid] = measured
        counts = (rows.tokens, rows.prompt_cut, rows.completion_cut)
        facts = proxy_training.facts()
        traces.append(Trace(others.ids, schedule, values, rows.valid, *counts, proxy_training.key, facts))
    return traces


def measured_held_out(
    examples: Examples, others: Examples, proxy: Proxy, measures: Sequence[Measure], context: Context
) -> bool:
    """Whether the cache holds the results of `measure_held_out` for `others`; loads and runs nothing."""
    proxy_training = ProxyTraining(examples, proxy, context)
    tokenized = proxy_training.tokenize(others)
    if not (proxy_training.tokenized.known and tokenized.known):
        return False
    if not knows_stop(proxy_training):
        return False
    valid = np.flatnonzero(tokenized.rows.valid)
    measurable = others if len(valid) == len(others) else others.take(valid)
    place = f"beside-{measurable.fingerprint()}"
    return not _Measurement(proxy_training, measurable, measures, proxy_training.schedule, place).missing()


@dataclass(frozen=True)
class CachedState:
    """What the cache holds of a proxy's training and measurements.

    rows: whether the rows are tokenized; checkpoints: steps whose weights are stored; measured of shards: values.
    """

    schedule: Schedule
    rows: bool
    checkpoints: list[int]
    measured: int
    shards: int

    @property
    def trained(self) -> bool:
        """Whether every checkpoint is stored, so that rows can be measured without training."""
        return self.schedule.settled and len(self.checkpoints) == len(self.schedule.steps)


def cached_state(
    examples: Examples,
    proxy: Proxy,
    measures: Sequence[Measure],
    context: Context,
    *,
    kind: type[ProxyTraining] = ProxyTraining,
) -> CachedState:
    """What `measure_checkpoints` with the same arguments would find in the cache; loads and runs nothing."""
    proxy_training = kind(examples, proxy, context)
    rows_known = proxy_training.tokenized.known
    if rows_known:
        knows_stop(proxy_training)
    schedule = proxy_training.schedule if rows_known else proxy.schedule(len(examples))
    parts = [_Measurement(proxy_training, examples, measures, schedule)]
    if rows_known and proxy_training.sample:
        parts = _Sampled(proxy_training, examples, measures).parts
    shards = sum(len(part.steps) * len(part.shards) * len(measures) for part in parts)
    missing = sum(len(pairs) for part in parts for pairs in part.missing().values())
    return CachedState(schedule, rows_known, proxy_training.checkpoints(schedule), shards - missing, shards)


class _Sampled:
    """Losses of n examples, with only a sample measured at every checkpoint, see `curate.proxy.sampling`.

    parts: the measurements: all rows at some checkpoints, and the sample at the others.
    """

    def __init__(self, proxy_training: ProxyTraining, examples: Examples, measures: Sequence[Measure]) -> None:
        unsampled = next((measure for measure in measures if not isinstance(measure, MeanLoss)), None)
        if unsampled is not None:
            raise InputError(
                f"a sample (--score-sample, --score-budget) is for scorers of losses, and {type(unsampled).__name__} "
                "is none; leave it out"
            )
        assert proxy_training.sample is not None
        self.proxy_training, self.sample = proxy_training, proxy_training.sample
        schedule, measured = proxy_training.schedule, self.sample.measured
        self.steps, self.others = schedule.steps, self.sample.others(len(schedule.steps))
        self.parts = [_Measurement(proxy_training, examples, measures, replace(schedule, steps=self.steps[measured]))]
        if len(self.others):
            sample_schedule = replace(schedule, steps=self.steps[self.others])
            sampled = examples.take(self.sample.rows)
            self.parts.append(_Measurement(proxy_training, sampled, measures, sample_schedule, "sample"))

    def values(self, tokenized: CachedTokens) -> tuple[dict[str, FloatArray], dict[str, Any]]:
        """Fingerprint of the measure -> (n, K, 1) losses, and facts about how they were obtained."""
        sample, rows = self.sample, tokenized.rows
        facts: dict[str, Any] = {"rows": len(sample.rows), "tokens": sample.tokens}
        facts |= {"steps_of_all": self.steps[sample.measured].tolist(), "error": [], "explained": []}
        if (epochs := self.proxy_training.schedule.epochs[-1]) > 1:
            self.proxy_training.progress.note(
                f"  the proxy sees its {len(sample.rows):,} rows {epochs:.1f} times, so it knows them better than the "
                "others; a larger --score-sample predicts these better"
            )
        stored_values = self.parts[0].values(tokenized)
        if not len(self.others):
            return stored_values, {"sample": facts}
        values, sample_values = {}, self.parts[1].values(tokenized, sample.rows)
        for name in stored_values:
            prediction = predict(stored_values[name][:, :, 0], rows.tokens, sample.rows, sample_values[name][:, :, 0])
            losses = np.empty((len(rows.valid), len(self.steps), 1), np.float32)  # (n, K, 1)
            losses[:, sample.measured] = stored_values[name]
            losses[:, self.others, 0] = np.where(rows.valid[:, None], prediction.losses, np.nan)
            losses[sample.rows[:, None], self.others] = sample_values[name]
            values[name] = losses
            facts |= {"error": prediction.error.round(4).tolist(), "explained": prediction.explained.round(4).tolist()}
        self.proxy_training.progress.note(
            f"  {len(sample.rows):,} rows are measured throughout, the others at {len(sample.measured)} of "
            f"{len(self.steps)} checkpoints; their other losses are predicted to within {max(facts['error']):.3f} nats "
            "(root mean square)"
        )
        return values, {"sample": facts}


def settled(proxy_training: ProxyTraining, examples: Examples) -> Schedule:
    """The final schedule of the training; with `steps: auto`, trains and measures until it is known. Runs on
    every rank.
    """
    if knows_stop(proxy_training):
        return proxy_training.schedule
    schedule, proxy = proxy_training.schedule, proxy_training.proxy
    assert schedule.grid is not None
    grid = schedule.grid.tolist()
    loss = fingerprint(MeanLoss())

    def losses_through(place: int) -> FloatArray:
        proxy_training.schedule = part = schedule.through(grid[place], place + 1)
        measurement = _Measurement(proxy_training, examples, [MeanLoss()], part)
        return measurement.values(proxy_training.tokenized)[loss][:, :, 0]

    valid = proxy_training.tokenized.rows.valid
    held_out = proxy_training.held_out
    stop = find_stop(grid, losses_through, valid, held_out, proxy.checkpoints, proxy.stop_on)
    proxy_training.schedule = schedule
    if rank() == 0:
        with proxy_training.cache.writing(*_stop_entry(proxy_training)) as folder:
            (folder / "stop.json").write_text(json.dumps(stop.to_json()))
    barrier()
    assert knows_stop(proxy_training)
    return proxy_training.schedule


def knows_stop(proxy_training: ProxyTraining) -> bool:
    """Whether the schedule is known; with `steps: auto`, the cache says where training stopped. Trains nothing."""
    schedule = proxy_training.schedule
    if schedule.settled:
        return True
    entry = proxy_training.cache.get(*_stop_entry(proxy_training))
    if entry is None:
        return False
    proxy_training.stop = stop = Stop(**json.loads((entry / "stop.json").read_text()))
    proxy_training.schedule = schedule.through(stop.step, proxy_training.proxy.checkpoints)
    return True


def _stop_entry(proxy_training: ProxyTraining) -> tuple[str, str, str]:
    return "stops", proxy_training.key, fingerprint(proxy_training.proxy.stop_on)


class _Measurement:
    """Values of measures for n examples at the checkpoints of a proxy.

    place: prefix of the values in the proxy's part of the cache; "" for the rows that it was trained on.
    """

    def __init__(
        self,
        proxy_training: ProxyTraining,
        examples: Examples,
        measures: Sequence[Measure],
        schedule: Schedule,
        place: str = "",
    ) -> None:
        self.proxy_training, self.examples, self.place = proxy_training, examples, place
        self.cache = proxy_training.cache
        self.steps: list[int] = schedule.steps.tolist()
        # The same for runs of every length on a grid, since they share what they measure.
        self.passes = len(self.steps) if schedule.grid is None else proxy_training.proxy.checkpoints
        self.measures = {fingerprint(measure): measure for measure in measures}
        self.names = {name: _cache_name(name, measure, examples) for name, measure in self.measures.items()}
        n = len(examples)
        self.shards = [(low, min(low + SHARD_ROWS, n)) for low in range(0, n, SHARD_ROWS)]

    def values(self, tokenized: CachedTokens, rows: IntArray | None = None) -> dict[str, FloatArray]:
        """Fingerprint of a measure -> (n, K, d); measures what the cache lacks, and trains first if necessary.

        tokenized, rows: the n examples are `rows` of these, None = all of them. Runs on every rank.
        """
        if any_rank(bool(self.missing())):  # a complete cache may be read-only, and needs no lock
            with self.proxy_training.exclusively():
                missing = self.missing()
                barrier()  # all ranks list the missing entries before one adds any
                if any_rank(bool(missing)):
                    tokens = tokenized.tokens if rows is None else tokenized.tokens.take(rows)
                    if self.proxy_training.engine is None:
                        self.proxy_training.train()
                        self._measure(missing, tokens)
                    else:
                        self.proxy_training.train(train_on_workers)
                        self._measure_on_workers(missing, tokens)
        return {name: self._collect(name) for name in self.measures}

    def missing(self) -> dict[int, list[tuple[str, int]]]:
        """step -> (fingerprint of a measure, shard) still to be measured."""
        missing: dict[int, list[tuple[str, int]]] = {}
        for step in self.steps:
            for name in self.measures:
                for shard in range(len(self.shards)):
                    if self.cache.get(*self._entry(name, step, shard)) is None:
                        missing.setdefault(step, []).append((name, shard))
        return missing

    def _entry(self, name: str, step: int, shard: int) -> tuple[str, ...]:
        place = (self.place,) if self.place else ()
        key = self.proxy_training.key
        return ("measures", key, self.names[name], f"step-{step:06d}", *place, f"shard-{shard:05d}")

    def _collect(self, name: str) -> FloatArray:
        """(n, K, d) from the cache."""
        columns = []  # K arrays (n, d)
        for step in self.steps:
            parts = []
            for shard in range(len(self.shards)):
                entry = self.cache.get(*self._entry(name, step, shard))
                if entry is None:
                    raise ExternalError(
                        f"shard {shard} of step {step} vanished from the cache {self.cache}; rerun the command"
                    )
                parts.append(np.load(entry / "values.npy", allow_pickle=False))
            columns.append(np.concatenate(parts))
        return np.stack(columns, axis=1)

    def _measure(self, missing: dict[int, list[tuple[str, int]]], tokens: Tokens) -> None:
        """Fill the missing entries. Runs on every rank: the shards are distributed over the ranks in turn."""
        proxy_training = self.proxy_training
        model = proxy_training.model.to(proxy_training.device).float().eval()
        sizes = [high - low for low, high in self.shards]
        total = sum(sizes[shard] for pairs in missing.values() for _, shard in pairs)
        checkpoint = LiveCheckpoint(
            model,
            0,
            tokens,
            proxy_training.device,
            proxy_training.seed,
            proxy_training.proxy.precision,
            self.passes * len(tokens.ids),
            proxy_training=proxy_training,
        )
        done = 0
        with proxy_training.progress.stage("measure", total, "rows") as stage:
            for step, pairs in missing.items():
                proxy_training.load_weights(model, step)
                checkpoint = replace(checkpoint, step=step, memo={})
                for name, shard in pairs:
                    if done % world_size() == rank():
                        low, high = self.shards[shard]
                        checkpoint.tokens = tokens.slice(low, high)
                        stage.cost.tokens += self._cost(name, len(checkpoint.tokens.ids))
                        examples = self.examples.slice(low, high)
                        self._store(name, step, shard, measured_values(self.measures[name], checkpoint, examples))
                        release()
                    done += 1
                    stage.advance(sizes[shard])

    def _measure_on_workers(self, missing: dict[int, list[tuple[str, int]]], tokens: Tokens) -> None:
        """Fill the missing entries with what the engine's workers measure. Runs on the driver."""
        shards = [
            Shard(name, step, shard, *self.shards[shard]) for step, pairs in missing.items() for name, shard in pairs
        ]
        total, expected = sum(shard.high - shard.low for shard in shards), self.passes * len(tokens.ids)
        setup = (self.proxy_training, self.measures, shards, self.examples, tokens, expected)
        with self.proxy_training.progress.stage("measure", total, "rows") as stage:
            for shard, values, progress in measure_on_workers(*setup):
                self._store(shard.name, shard.step, shard.number, values)
                count = int(tokens.offsets[shard.high] - tokens.offsets[shard.low])
                stage.cost.tokens += self._cost(shard.name, count)
                stage.advance(shard.high - shard.low, progress)

    def _cost(self, name: str, tokens: int) -> int:
        """Tokens through the model for a measure of rows with these token counts at one checkpoint."""
        passes = passes_of(self.measures[name], len(self.examples), len(self.steps)) / len(self.steps)
        return math.ceil(tokens * passes)

    def _store(self, name: str, step: int, shard: int, values: FloatArray) -> None:
        """Store the values (rows of the shard, d) of a measure in the cache."""
        with self.cache.writing(*self._entry(name, step, shard)) as folder:
            np.save(folder / "values.npy", values, allow_pickle=False)


def _cache_name(name: str, measure: Measure, examples: Examples) -> str:
    """Cache name of a measure's values. name: its fingerprint."""
    key = call_hook(measure, "key_of", examples)
    return name if key is None else fingerprint([measure, key])
