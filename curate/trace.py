"""Train the proxy once, look at every example at every checkpoint, keep both.

Two phases. First the proxy is trained and its float32 checkpoints are stored; then each checkpoint is loaded and
measured, shard by shard. Measuring after training rather than during it costs a reload per checkpoint and buys a
lot: a measure cannot disturb the run, one that is added later never retrains, and what a killed run still owes is
exactly the shards that are not there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from curate.component import fingerprint
from curate.errors import ExternalError, InputError
from curate.examples import Examples
from curate.models import identify, load_model, load_tokenizer, scratch_identity, scratch_model, scratch_tokenizer
from curate.protocols import Floats, Measure
from curate.proxy import Proxy, Schedule
from curate.publish import publish_file
from curate.seeds import derive_seed
from curate.templates import resolve_template
from curate.tokenization import tokenize
from curate.tokens import Tokens

if TYPE_CHECKING:
    from curate.run import Run
    from curate.train import DivergenceError

__all__ = ["SHARD_ROWS", "LiveCheckpoint", "Stored", "Trace", "stored", "trace"]

# Rows per shard: what a killed run may lose, and the pool from which batches of equal length are composed. Part of
# the numbers' identity, since batches never cross a shard.
SHARD_ROWS = 2048
_CODE_VERSION = 1  # raise when stored checkpoints or measures change their meaning


@dataclass
class LiveCheckpoint:
    """The proxy as it was after `step` optimizer steps, lent to a measure.

    model: float32 weights, eval mode, on `device`. A measure that changes them must put them back bit for bit.
    tokens: of the shard being measured; all_tokens: of the whole dataset.
    passes: checkpoints of the run, each a pass over the whole dataset.
    memo: kept across the shards of one checkpoint, for what a measure computes once.
    """

    model: Any
    step: int
    tokens: Tokens
    all_tokens: Tokens
    device: Any
    seed: int
    precision: Literal["auto", "float32", "bfloat16"]
    passes: int = 1
    memo: dict[str, Any] = field(default_factory=dict, repr=False)
    _engines: dict[str, Any] = field(default_factory=dict, repr=False)

    def losses(
        self, tokens: Tokens | None = None, *, precision: Literal["auto", "float32", "bfloat16"] | None = None
    ) -> Floats:
        """(n,) loss in nats per token of the shard (or of `tokens`) under the weights the model holds now.

        precision: "float32" for a measure that looks at small changes of the weights, which bfloat16 rounds away.
        """
        from curate.scoring import LossEngine

        name = precision or self.precision
        if name not in self._engines:
            # What all passes will cost decides whether compiling pays; what a cache holds of it must not.
            expected = self.passes * len(self.all_tokens.ids)
            self._engines[name] = LossEngine(self.model, precision=name, expected_tokens=expected, device=self.device)
        else:
            self._engines[name].refresh()
        result: Floats = self._engines[name].losses(self.tokens if tokens is None else tokens)
        return result


@dataclass(frozen=True)
class Trace:
    """What was measured.

    values: fingerprint of a measure -> (n, K, d) float32.
    valid: (n,) rows with completion text; tokens: (n,) completion tokens; truncated: (n,).
    proxy_key: names the proxy run in the cache; facts: what is worth reporting about it.
    """

    schedule: Schedule
    values: dict[str, Floats]
    valid: Any
    tokens: Any
    truncated: Any
    proxy_key: str
    facts: dict[str, Any]

    def of(self, measure: Measure) -> Floats:
        """(n, K, d) values of a measure."""
        return self.values[fingerprint(measure)]


def trace(examples: Examples, proxy: Proxy, measures: Sequence[Measure], run: Run) -> Trace:
    """Values of every measure at every checkpoint of the proxy, from the cache where they are there."""
    return _Tracer(examples, proxy, list(measures), run).trace()


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


def stored(examples: Examples, proxy: Proxy, measures: Sequence[Measure], run: Run) -> Stored:
    """What a call of `trace` with the same arguments would find; loads and runs nothing."""
    return _Tracer(examples, proxy, list(measures), run).stored()


class _Tracer:
    """One call of `trace`. The model and its tokenizer are loaded only if something is missing from the cache."""

    def __init__(self, examples: Examples, proxy: Proxy, measures: list[Measure], run: Run) -> None:
        self.examples, self.proxy, self.measures, self.run = examples, proxy, measures, run
        self.cache = run.store
        self.seed = derive_seed(run.seed, "proxy")
        self.data_key = examples.fingerprint()
        self.identity = (
            scratch_identity(self.data_key, proxy.max_length, self.seed)
            if proxy.scratch
            else identify(proxy.model, proxy.revision)
        )
        self.template = resolve_template(proxy.template, examples.shape, proxy.scratch)
        self.numerics = self._numerics()
        self.key = fingerprint(
            [_CODE_VERSION, self.data_key, self.identity, self.template, proxy, self.seed, self.numerics]
        )
        n = len(examples)
        self.shards = [(low, min(low + SHARD_ROWS, n)) for low in range(0, n, SHARD_ROWS)]

    def trace(self) -> Trace:
        from curate.distributed import any_rank, barrier

        rows = self._rows()
        self.schedule = self.proxy.schedule(int(rows["valid"].sum()))
        if any_rank(bool(self._missing())):  # a complete cache may be read-only, and needs no lock
            with self._exclusively():
                missing = self._missing()
                barrier()  # every rank has looked before any adds, so that all share out the same list
                if any_rank(bool(missing)):
                    self._train()
                    self._measure(missing)
        values = {fingerprint(measure): self._collect(measure) for measure in self.measures}
        facts = {
            "model": self.proxy.model,
            "identity": self.identity,
            "template": self.template,
            "steps": self.schedule.steps.tolist(),
            "steps_per_epoch": self.schedule.steps_per_epoch,
            "horizon_steps": self.schedule.horizon_steps,
            "batch_size": self.proxy.batch_size,
            "learning_rate": self.proxy.peak_learning_rate,
            "numerics": self.numerics,
            "fingerprint": self.key,
            "rows_truncated": int(rows["truncated"].sum()),
            **self._trained_facts(),
        }
        return Trace(self.schedule, values, rows["valid"], rows["tokens"], rows["truncated"], self.key, facts)

    def stored(self) -> Stored:
        key = self._rows_key()
        known = self.cache.get("rows", key) is not None
        self.schedule = self.proxy.schedule(int(self._rows()["valid"].sum()) if known else len(self.examples))
        steps = self.schedule.steps.tolist()
        shards = len(steps) * len(self.shards) * len(self.measures)
        return Stored(
            self.schedule,
            known,
            [step for step in steps if self.cache.get("proxies", self.key, _step(step))],
            shards - sum(len(owed) for owed in self._missing().values()),
            shards,
        )

    # -- what is there ------------------------------------------------------------------------------------------

    def _numerics(self) -> dict[str, Any]:
        """All of the machine that may show in the last digits of a loss."""
        import torch
        import transformers

        from curate.distributed import world_size
        from curate.scoring import resolve_precision

        device = self.run.torch_device()
        return {
            "device": device.type,
            "kind": torch.cuda.get_device_name(device)
            if device.type == "cuda"
            else torch.backends.cpu.get_cpu_capability(),
            "precision": str(resolve_precision(self.proxy.precision, device)),
            "threads": torch.get_num_threads() if device.type == "cpu" else 0,
            "compiler": shutil.which("g++") is not None,
            "world": world_size(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }

    def _rows_key(self) -> str:
        return fingerprint([_CODE_VERSION, self.data_key, self.identity, self.template, self.proxy.max_length])

    def _rows(self) -> dict[str, Any]:
        """valid, tokens and truncated of every row; tokenises only the first time."""
        key = self._rows_key()
        entry = self.cache.get("rows", key)
        if entry is None:
            tokens = self.tokens
            arrays = {"valid": tokens.valid, "tokens": tokens.completion_tokens, "truncated": tokens.truncated}

            def write(folder: Path) -> None:
                for name, array in arrays.items():
                    np.save(folder / f"{name}.npy", array, allow_pickle=False)

            self.cache.put("rows", key, write=write)
        else:
            arrays = {
                name: np.load(entry / f"{name}.npy", allow_pickle=False) for name in ("valid", "tokens", "truncated")
            }
        if not arrays["valid"].any():
            raise InputError(
                f"all {len(self.examples):,} rows are invalid: no completion text survives proxy.max_length = "
                f"{self.proxy.max_length}; check --columns, or raise it with --set proxy.max_length=N"
            )
        return arrays

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Hold the proxy run's lock: a second run waits and then finds everything done. One rank holds it for all."""
        from contextlib import nullcontext

        from curate.distributed import barrier, rank

        def waiting() -> None:
            self.run.progress.note("another run is at work on this proxy; waiting for it")

        with self.cache.lock("proxies", self.key, waiting=waiting) if rank() == 0 else nullcontext():
            barrier()
            yield
            barrier()

    def _entry(self, measure: Measure, step: int, shard: int) -> tuple[str, ...]:
        return ("measures", self.key, fingerprint(measure), f"step-{step:06d}", f"shard-{shard:05d}")

    def _missing(self) -> dict[int, list[tuple[Measure, int]]]:
        """step -> (measure, shard) still to be measured."""
        wanted: dict[int, list[tuple[Measure, int]]] = {}
        for step in self.schedule.steps.tolist():
            for measure in self.measures:
                for shard in range(len(self.shards)):
                    if self.cache.get(*self._entry(measure, step, shard)) is None:
                        wanted.setdefault(step, []).append((measure, shard))
        return wanted

    def _collect(self, measure: Measure) -> Floats:
        """(n, K, d) from the cache."""
        columns = []
        for step in self.schedule.steps.tolist():
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

    # -- what is loaded on demand --------------------------------------------------------------------------------

    @cached_property
    def tokenizer(self) -> Any:
        if self.proxy.scratch:
            return scratch_tokenizer(self.examples, self.seed)
        return load_tokenizer(
            self.proxy.model, revision=self.proxy.revision, trust_remote_code=self.proxy.trust_remote_code
        )

    @cached_property
    def tokens(self) -> Tokens:
        with self.run.progress.stage("tokenise", len(self.examples)) as stage:
            tokens = tokenize(
                self.examples,
                self.tokenizer,
                template=self.template,
                max_length=self.proxy.max_length,
                advance=stage.advance,
            )
            stage.cost.tokens = len(tokens.ids)
        return tokens

    @cached_property
    def model(self) -> Any:
        if self.proxy.scratch:
            return scratch_model(self.tokenizer, self.proxy.max_length, self.seed)
        return load_model(
            self.proxy.model, revision=self.proxy.revision, trust_remote_code=self.proxy.trust_remote_code
        )

    # -- phase 1: train -----------------------------------------------------------------------------------------

    def _train(self) -> None:
        """Train up to the last checkpoint that is not stored yet, from the last point a killed run had reached."""
        from curate.checkpoint import Checkpoint
        from curate.distributed import barrier, rank
        from curate.train import DivergenceError, TrainConfig, train

        steps = self.schedule.steps.tolist()
        absent = [step for step in steps if self.cache.get("proxies", self.key, _step(step)) is None]
        if not absent:
            self._drop_resumable()
            return
        reached = [step for step in steps if step < absent[0] and self.cache.get("proxies", self.key, _resume(step))]
        resume = self.cache.get("proxies", self.key, _resume(reached[-1])) if reached else None
        proxy = self.proxy
        config = TrainConfig(
            steps=absent[-1],
            horizon_steps=self.schedule.horizon_steps,
            batch_size=proxy.batch_size,
            learning_rate=proxy.peak_learning_rate,
            warmup_ratio=proxy.warmup_ratio,
            weight_decay=proxy.weight_decay,
            max_grad_norm=proxy.max_grad_norm,
            precision=proxy.precision,
            seed=self.seed,
        )

        def keep(checkpoint: Checkpoint) -> None:
            name = ("proxies", self.key, _resume(checkpoint.step))
            whole = self.cache.put(*name, write=checkpoint.save)
            self.cache.put(
                "proxies", self.key, _step(checkpoint.step), write=lambda folder: _link(whole, folder, checkpoint)
            )
            for step in steps:
                if step < checkpoint.step:
                    self.cache.drop("proxies", self.key, _resume(step))

        with self.run.progress.stage("train the proxy", absent[-1], "steps") as stage:
            if resume is not None:
                stage.advance(reached[-1])
            run = train(
                self.model,
                self.tokens,
                config,
                checkpoint_steps=absent,
                resume=resume,
                device=self.run.torch_device(),
                advance=stage.advance,
            )
            try:
                for checkpoint in run:
                    if rank() == 0:
                        keep(checkpoint)
                    barrier()
                    stage.cost.tokens = checkpoint.tokens_seen
            except DivergenceError as error:
                raise self._explained(error) from error
        self._drop_resumable()

    def _drop_resumable(self) -> None:
        """Optimizer state is of no use once every checkpoint is stored."""
        from curate.distributed import rank

        if rank() == 0:
            for step in self.schedule.steps.tolist():
                self.cache.drop("proxies", self.key, _resume(step))

    def _explained(self, error: DivergenceError) -> InputError:
        """The same error with the ids of its rows, which are saved beside the cache entry."""
        ids = [self.examples.ids[row].as_py() for row in error.rows]
        path = self.cache.root / "proxies" / self.key / f"diverged-at-step-{error.step}.json"
        publish_file(path, json.dumps({"step": error.step, "example_ids": ids}, indent=1))
        return InputError(f"{error}; row ids saved in {path}")

    def _trained_facts(self) -> dict[str, Any]:
        """Read from the last checkpoint, so that a run served from the cache reports them too."""
        last = self.cache.get("proxies", self.key, _step(int(self.schedule.steps[-1])))
        if last is None:
            return {}
        return dict(json.loads((last / "facts.json").read_text()))

    # -- phase 2: measure ---------------------------------------------------------------------------------------

    def _measure(self, missing: dict[int, list[tuple[Measure, int]]]) -> None:
        from curate.checkpoint import load_weights
        from curate.distributed import rank, world_size

        device = self.run.torch_device()
        model = self.model.to(device).float().eval()
        engines: dict[str, Any] = {}
        sizes = [high - low for low, high in self.shards]
        total = sum(sizes[shard] for owed in missing.values() for _, shard in owed)
        done = 0
        with self.run.progress.stage("measure", total, "rows") as stage:
            for step, owed in missing.items():
                stored = self.cache.get("proxies", self.key, _step(step))
                if stored is None:
                    raise ExternalError(
                        f"checkpoint {step} vanished from the cache {self.cache.root}; run the command again"
                    )
                load_weights(model, stored)
                checkpoint = LiveCheckpoint(
                    model,
                    step,
                    self.tokens,
                    self.tokens,
                    device,
                    self.seed,
                    self.proxy.precision,
                    len(self.schedule.steps),
                    {},
                    engines,
                )
                for measure, shard in owed:
                    low, high = self.shards[shard]
                    if done % world_size() == rank():
                        checkpoint.tokens = self.tokens.slice(low, high)
                        stage.cost.tokens += len(checkpoint.tokens.ids)
                        values = self._measured(measure, checkpoint, low, high)
                        self.cache.put(*self._entry(measure, step, shard), write=_saver(values))
                    done += 1
                    stage.advance(sizes[shard])

    def _measured(self, measure: Measure, checkpoint: LiveCheckpoint, low: int, high: int) -> Floats:
        values = np.asarray(measure.measure(checkpoint, self.examples.take(np.arange(low, high))), np.float32)
        if values.ndim != 2 or len(values) != high - low:
            raise InputError(
                f"{type(measure).__name__}.measure returned shape {values.shape} for {high - low} rows; "
                f"it must return ({high - low}, d)"
            )
        return values


def _step(step: int) -> str:
    return f"step-{step:06d}"


def _resume(step: int) -> str:
    """Name of the entry with the optimizer's state, kept only for the newest checkpoint of an unfinished run."""
    return f"resume-{step:06d}"


def _link(whole: Path, folder: Path, checkpoint: Any) -> None:
    """The weights of a resumable checkpoint alone, without writing them twice where the disk can link."""
    try:
        os.link(whole / "model.safetensors", folder / "model.safetensors")
    except OSError:
        shutil.copyfile(whole / "model.safetensors", folder / "model.safetensors")
    facts = {
        "parameters": sum(p.numel() for p in checkpoint.model.parameters()),
        "tokens_trained": checkpoint.tokens_seen,
        "training_losses": [round(loss, 5) for loss in checkpoint.losses],
    }
    (folder / "facts.json").write_text(json.dumps(facts))


def _saver(values: Floats) -> Any:
    def write(folder: Path) -> None:
        np.save(folder / "values.npy", values, allow_pickle=False)

    return write
