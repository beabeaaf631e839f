"""Estimate the cost of a run: rows, tokens, disk and time per stage, and what is cached."""

from __future__ import annotations

import functools
import json
import os
import platform
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from curate.component import call_hook, fingerprint
from curate.console.formatting import compact
from curate.context import Context
from curate.curated import inputs_fingerprint
from curate.data.examples import Examples
from curate.data.readers import Loaded
from curate.devices.precision import resolve_precision
from curate.difficulty.scores import Scores
from curate.engine.protocol import Engine, Item, WorkerContext
from curate.errors import ExternalError, InputError
from curate.finetuning.config import Finetuning
from curate.mixture.plan import Price, fold, share_counts
from curate.models.loading import load_tokenizer, parameter_count
from curate.models.scratch import scratch_tokenizer
from curate.models.trained_template import choose_template
from curate.pipeline import Pipeline, by_forecast
from curate.proxy.budget import Budget, cost_of
from curate.proxy.held_out import half_proxy
from curate.proxy.measures import passes_of
from curate.proxy.stopping import first_place
from curate.proxy.trace import cached_state, knows_stop
from curate.proxy.training import ProxyTraining
from curate.run import Run, measures_of
from curate.seeds import derive_seed
from curate.storage.destination import Destination
from curate.tokenization.cached import AUTO
from curate.tokenization.encoding import tokenize
from curate.tokenization.tokens import BYTES_PER_TOKEN, IN_MEMORY

_SAMPLE_ROWS = 500  # tokenized to estimate the tokens of all
_SHARE_OF_PEAK = 0.3  # share of the measured matrix rate that training of small models reaches in practice


@dataclass
class _Stage:
    """Estimated cost of one stage. work: description. seconds, bytes: None = not known. cached: what is cached."""

    stage: str
    work: str
    tokens: int = 0
    seconds: float | None = None
    bytes: int | None = None
    cached: str = ""


def estimate(
    pipeline: Pipeline,
    loaded: Loaded,
    run: Run,
    *,
    scores: Scores | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Estimate rows, tokens, seconds and bytes of each stage; no model is loaded or run.

    Seconds are derived from the number of parameters and a briefly timed matrix multiplication on the device, and
    correct within a factor of about two. out: where a run would write. Raises InputError if it could not, or if the run
    would fail on these rows or with its evaluation sets.
    """
    pipeline.check(loaded.examples, scored=scores is not None)
    run.evaluation_index()  # fail early for an evaluation set that cannot be read
    loaded = loaded if scores is not None else pipeline.usable(loaded, run)
    examples = loaded.examples
    stages = [_Stage("read", f"{len(examples):,} of {loaded.rows_read:,} rows")]
    notes: list[str] = []
    max_length = None
    ready = scores is not None or not measures_of(pipeline.scorer)
    if not ready:
        proxied, ready, max_length = _proxy_stages(pipeline, loaded, run, notes)
        stages += proxied
        if pipeline.proxy.max_length == AUTO:
            notes.append(f"max_length auto: {max_length:,} tokens, at which 99 % of the rows are whole")
        if pipeline.stability > 1:
            notes.append(f"stability {pipeline.stability}: train and measure are repeated for every proxy seed")
    elif scores is not None:
        stages.append(_Stage("score", "from --scores", cached="yes"))
    elif (pending := call_hook(pipeline.scorer, "pending", examples, run)) is not None:
        stages.append(_Stage("score", pending))
        ready = False
    ready = _half_stages(pipeline, loaded, run, notes, scores, stages) and ready
    seconds = pipeline.stability * sum(stage.seconds or 0 for stage in stages)
    if pipeline.forecast is not None:
        ready = _forecast_stage(pipeline, loaded, run, scores, stages, notes, ready=ready)
        seconds += stages[-1].seconds or 0
    if seconds:
        notes.append(_hours(seconds / 3600, run))
    rows = None
    if ready:
        rows, planned = _planned(pipeline, loaded, run, scores, notes)
        stages += planned
    else:
        notes.append("how many rows come out is decided by the scores; run once, or give --scores, to know")
    size = examples.table.nbytes * (rows or 2 * len(examples)) // max(len(examples), 1) // 3
    stages.append(_Stage("write", "decided by the scores" if rows is None else f"{rows:,} rows", bytes=size))
    if out is not None and Destination.of(out).check(inputs_fingerprint(pipeline, loaded, scores)):
        notes.append(f"{out} already holds the result of these inputs: a run would have nothing to do")
    return {
        "stages": [asdict(stage) for stage in stages],
        "notes": notes,
        "rows_in": len(examples),
        "rows_out": rows,
        "max_length": max_length,
    }


def _forecast_stage(
    pipeline: Pipeline,
    loaded: Loaded,
    run: Run,
    scores: Scores | None,
    stages: list[_Stage],
    notes: list[str],
    *,
    ready: bool,
) -> bool:
    """Add the cost of held-out curves; returns whether the output rows can be determined. ready: scores are known."""
    assert pipeline.forecast is not None
    if ready:
        split = pipeline.split(pipeline.score(loaded, run) if scores is None else scores, loaded)
        cost = Budget(loaded.examples, split, pipeline.proxy, pipeline.forecast, run.context, pipeline.gate).cost()
    else:
        cost = cost_of(ProxyTraining(loaded.examples, pipeline.proxy, run.context), pipeline.forecast)
    rate = _matrix_rate(run)
    seconds = 6 * cost.parameters * cost.tokens / rate * (not cost.cached) if rate else None
    share = "share of the fine-tuning not known" if cost.share is None else f"{cost.share:.1%} of {cost.target}"
    work = f"{cost.steps:,} steps of the proxy for a forecast, {share}"
    stages.append(_Stage("forecast", work, cost.tokens, seconds, cost.bytes, "yes" if cost.cached else ""))
    if cost.cached or not any(by_forecast(augmenter) for augmenter in pipeline.augmenters):
        return ready
    notes.append("how many copies are made is decided by the forecast")
    return False


def _planned(
    pipeline: Pipeline, loaded: Loaded, run: Run, scores: Scores | None, notes: list[str]
) -> tuple[int, list[_Stage]]:
    """(number of output rows, stages) of the exact plan and its generator requests; free once there are scores."""
    split = pipeline.split(pipeline.score(loaded, run) if scores is None else scores, loaded)
    copies_known = any(by_forecast(augmenter) for augmenter in pipeline.augmenters)  # they are in the cache then
    budget_forecast = pipeline.budget_forecast(split, loaded.examples, run) if copies_known else None
    plan = fold(pipeline.resolved(budget_forecast), split, pipeline.seed)
    new = sum(demand.count or 0 for demand in share_counts(plan, 0))
    rows = counted = int(plan.counts.sum()) + new
    extra = int(np.maximum(plan.counts - 1, 0).sum())
    dropped = int((plan.counts == 0).sum())
    copies, result = "copies", f"{rows:,} rows"
    if pipeline.copies == "weights":
        rows = int(plan.planned.sum()) + new
        copies, result = "copies as weights", f"{rows:,} rows that count as {counted:,}"
    work = f"{int(split.hard.sum()):,} hard, {extra:,} {copies}, {dropped:,} left out -> {result}"
    stages = [_Stage("plan", work)]
    for demand in plan.demands:
        price = call_hook(demand.augmenter, "price", replace(plan, demands=(demand,)), loaded.examples, run)
        if price is not None:
            stages.append(_priced(price, notes))
    return rows, stages


def _priced(price: Price, notes: list[str]) -> _Stage:
    """The stage of a demand's price, with notes about it."""
    skipped = f" ({price.skipped:,} cannot be used)" if price.skipped else ""
    notes.append(
        f"synthesize: tokens are those to be generated, guessed from the lengths of the input; {price.most_tokens:,} "
        f"at most; beside them about {price.prompt_tokens:,} of prompts. How many rows come out is not known before"
    )
    if price.solving_parents:
        notes.append(f"synthesize: {price.solving_parents:,} of the requests are for solving the rows themselves")
    if price.second:
        notes.append(
            f"synthesize: {price.second:,} of the requests at most are for the check second_route, asked only of "
            "problems that passed all others; the other checks ask for nothing"
        )
    work = f"{price.rows:,} rows{skipped}, at most {price.requests:,} requests"
    return _Stage("synthesize", work, price.generated_tokens, cached=f"{price.stored:,} requests")


def _proxy_stages(pipeline: Pipeline, loaded: Loaded, run: Run, notes: list[str]) -> tuple[list[_Stage], bool, int]:
    """(stages of the proxy run, whether all of it is cached, max_length)."""
    examples = loaded.examples
    measures = measures_of(pipeline.scorer)
    proxy_training = ProxyTraining(examples, pipeline.proxy, run.context)
    proxy = proxy_training.proxy
    state = cached_state(examples, proxy, measures, run.context)
    schedule = state.schedule
    is_settled, points = schedule.settled, schedule.trained_steps
    total, k = int(points[-1]), len(schedule.steps) if is_settled else len(points)
    least = first_place(proxy.checkpoints)
    if not is_settled:
        notes.append("steps auto: training stops where the split settles; tokens and time are for the longest run")
    per_row = float(proxy_training.tokenized.rows.lengths.mean())
    tokenizer = proxy_training.tokenizer if proxy.scratch else None
    trusted = proxy.trust_remote_code
    parameters = parameter_count(proxy.model, proxy.revision, tokenizer, trust_remote_code=trusted)
    rate, workers, ranks = _rates(run)
    trained = int(total * proxy.batch_size * per_row)
    passes = sum(passes_of(measure, len(examples), k) for measure in measures)
    tokens, sample = round(len(examples) * per_row), proxy_training.sample
    measured = int(len(examples) * per_row * passes) if sample is None else sample.tokens
    ranges = ("", "") if is_settled else (f"{points[least]:,} to ", f"{least + 1} to ")
    rows_at = f"{len(examples):,} rows at {ranges[1]}{k} checkpoints"
    if sample is not None:
        rows_at = f"{len(sample.rows):,} rows at {k} checkpoints, the others at {len(sample.measured)}"
    missing_steps = [step for step in schedule.steps.tolist() if step not in state.checkpoints]
    stages = [
        _Stage(
            "tokenize",
            f"{len(examples):,} rows",
            tokens,
            bytes=BYTES_PER_TOKEN * tokens if tokens > IN_MEMORY else None,
            cached="yes" if state.rows else "",
        ),
        _Stage(
            "train the proxy",
            f"{ranges[0]}{total:,} steps of {proxy.batch_size} rows, {compact(parameters)} parameters",
            trained,
            6 * parameters * trained / rate / ranks * (len(missing_steps) > 0) if rate else None,
            4 * parameters * len(points),
            f"{len(state.checkpoints)} of {k} checkpoints" if is_settled else "",
        ),
        _Stage(
            "measure",
            rows_at,
            measured,
            2 * parameters * measured / rate / workers * (1 - state.measured / max(state.shards, 1)) if rate else None,
            4 * len(examples) * k,
            f"{state.measured} of {state.shards} shards",
        ),
    ]
    return stages, is_settled and state.measured == state.shards, proxy_training.max_length


def _half_stages(
    pipeline: Pipeline, loaded: Loaded, run: Run, notes: list[str], scores: Scores | None, stages: list[_Stage]
) -> bool:
    """Add the stages of measuring reducible rows; returns whether all of it is cached."""
    if scores is not None:
        pipeline.check_scores(scores)
    if scores is not None or not pipeline.needs_reducible:
        return True
    examples = loaded.examples
    proxy_training = ProxyTraining(examples, pipeline.proxy, run.context)
    proxy, rows = proxy_training.proxy, proxy_training.tokenized.rows
    settled = knows_stop(proxy_training)
    cached_all = settled and run.half_proxies(examples).measured()
    half = half_proxy(proxy, int(rows.valid.sum()), schedule=proxy_training.schedule)
    steps, k = half.last_step, len(half.schedule(len(examples)).steps)
    tokenizer = proxy_training.tokenizer if proxy.scratch else None
    parameters = parameter_count(proxy.model, proxy.revision, tokenizer, trust_remote_code=proxy.trust_remote_code)
    trained = 2 * int(steps * proxy.batch_size * rows.lengths.mean())
    measured = int(rows.lengths.sum()) * k  # each row on one of the two
    rate, workers, ranks = (None, 1, 1) if cached_all else _rates(run)
    cached = "yes" if cached_all else ""
    if pipeline.stability > 1:
        notes.append(f"stability {pipeline.stability}: so are the half-proxies, on other halves")
    stages += [
        _Stage(
            "train half-proxies",
            f"2 x {'' if settled else 'at most '}{steps:,} steps of {proxy.batch_size} rows, each on half of the rows",
            trained,
            6 * parameters * trained / rate / ranks if rate else None,
            2 * 4 * parameters * k,
            cached,
        ),
        _Stage(
            "measure held out",
            f"{len(examples):,} rows at {k} checkpoints, and null rows",
            measured,
            2 * parameters * measured / rate / workers if rate else None,
            4 * len(examples) * k,
            cached,
        ),
    ]
    return cached_all


def mean_tokens(examples: Examples, settings: Finetuning, seed: int) -> tuple[float, Any]:
    """(mean tokens per row of a seeded sample, the tokenizer).

    settings: of a fine-tuning run, with a number for max_length.
    """
    if settings.scratch:
        tokenizer = scratch_tokenizer(examples, 0)
    else:
        trusted = settings.trust_remote_code
        tokenizer = load_tokenizer(settings.model, revision=settings.revision, trust_remote_code=trusted)
    template = choose_template(settings, examples.shape, tokenizer)
    generator = np.random.default_rng(derive_seed(seed, "estimate"))
    sample = examples.take(np.sort(generator.choice(len(examples), min(_SAMPLE_ROWS, len(examples)), replace=False)))
    assert isinstance(settings.max_length, int)
    tokens = tokenize(
        sample, tokenizer, template=template, max_length=settings.max_length, supervise=settings.supervise
    )
    return len(tokens.ids) / max(len(sample), 1), tokenizer


def _hours(hours: float, run: Run) -> str:
    """Note on the hours of all training and measuring."""
    if run.engine is None:
        kind = "GPU" if run.torch_device().type == "cuda" else "CPU"
        return f"training and measuring: {hours:.2g} {kind} hours at the rate measured on this machine"
    resources = run.engine.resources()
    return (
        f"training and measuring: {hours:.2g} hours with {resources['workers']} workers, at the rate measured on one; "
        f"the cluster has {resources['nodes']} nodes, {resources['gpus']:g} GPUs and {resources['cpus']:g} CPUs"
    )


class _TimedWorker:
    """Runs `_timed_rate` on a worker of an engine."""

    def __init__(self, setup: None, worker: WorkerContext) -> None:
        self.device = Context(worker.cache, worker.device).torch_device()

    def __call__(self, item: None) -> float | None:
        return _timed_rate(self.device)


def _rates(run: Run) -> tuple[float | None, int, int]:
    """(rate of one process, see `_matrix_rate`; number of processes that measure; number that train)."""
    if run.engine is None:
        return _matrix_rate(run), 1, 1
    return _rate_of_workers(run.engine), run.engine.resources()["workers"], run.engine.train_workers


def _rate_of_workers(engine: Engine) -> float | None:
    """Like `_matrix_rate`, for one of the workers."""
    return next(rate for _, rate, _ in engine.map(_TimedWorker, None, [Item(lambda: None, 0)], stage="time"))


def _matrix_rate(run: Run) -> float | None:
    """FLOP/s that a model can reach on this device, a share of a timed matrix product; None if it cannot be timed.

    Timed once per machine and cached, since it takes longer than the rest of an estimate.
    """
    import torch

    device = run.torch_device()
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    machine = [device.type, kind, platform.node(), os.cpu_count(), torch.get_num_threads(), torch.__version__]
    key = fingerprint([machine, str(resolve_precision("auto", device))])
    entry = run.store.get("matrix-rates", key)
    if entry is not None:
        return float(json.loads((entry / "rate.json").read_text()))
    rate = _timed_rate(device)
    if rate is not None:
        # A read-only cache: the next estimate times it again.
        with suppress(ExternalError), run.store.writing("matrix-rates", key) as folder:
            _write_json(folder / "rate.json", rate)
    return rate


@functools.cache
def _timed_rate(device: Any) -> float | None:
    """Time matrix products on a device, once in this process; None if that fails. See `_matrix_rate`."""
    import torch

    try:
        dtype = resolve_precision("auto", device)
        a = torch.randn(1024, 1024, device=device, dtype=dtype)  # (1024, 1024)
        (a @ a).sum().item()
        repeats, started = 3 if device.type == "cpu" else 8, time.perf_counter()  # of 0.05 s on one core
        for _ in range(repeats):
            a @ a
        a.sum().item()
        return _SHARE_OF_PEAK * repeats * 2 * 1024**3 / (time.perf_counter() - started)
    except (RuntimeError, InputError, ExternalError):
        return None


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))
