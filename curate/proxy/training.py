"""Training of the proxy: its cache key, its stored checkpoints, and resuming after a kill."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from curate import training
from curate.component import fingerprint
from curate.context import Context
from curate.data.examples import Examples
from curate.devices.distributed import barrier, rank
from curate.errors import DivergenceError, ExternalError, InputError
from curate.models.loading import context_length, identify, load_model, load_tokenizer
from curate.models.model_files import check_vocabulary
from curate.models.scratch import scratch_identity, scratch_model, scratch_tokenizer
from curate.models.trained_template import choose_template
from curate.proxy.proxy import Proxy, Schedule
from curate.proxy.sampling import Sample, choose_sample
from curate.proxy.stopping import Stop
from curate.seeds import derive_seed
from curate.storage.atomic import publish_file
from curate.tokenization.cached import CachedTokens, auto_length, truncation_facts
from curate.tokenization.encoding import TOKENS_VERSION
from curate.tokenization.tokens import Tokens

# Add 1 when the meaning of stored checkpoints or measures changes: a sum, so that no value comes back.
CODE_VERSION = TOKENS_VERSION + 0

# Properties that depend on all rows, which a worker is sent instead of computing them.
_SHIPPED = ("proxy", "template", "max_length", "identity", "seed", "numerics", "settings_key", "key")


@dataclass(frozen=True)
class ReceivedTokens:
    """Stands in for `curate.tokenization.cached.CachedTokens` if the rows are elsewhere. receive: gets the tokens."""

    receive: Callable[[], Tokens]

    @property
    def tokens(self) -> Tokens:
        return self.receive()


class ProxyTraining:
    """The training of `proxy` on `examples` with the seed, device and cache of `context`.

    The model and its tokenizer are loaded, and rows are tokenized, only if something that needs them is missing.
    """

    def __init__(self, examples: Examples, proxy: Proxy, context: Context) -> None:
        self.examples, self.progress, self.cache = examples, context.progress, context.store
        self.context, self.engine = context, context.engine
        self.stored_elsewhere: Sequence[int] = ()  # steps whose weights the sender's cache holds
        self.seed = derive_seed(context.seed, "proxy")
        data_key = examples.fingerprint()
        self.template = choose_template(proxy, examples.shape)
        files = None if proxy.scratch else identify(proxy.model, proxy.revision)
        self.proxy = proxy
        self.max_length = self._max_length(data_key, files)
        self.proxy = proxy = proxy.model_copy(update={"max_length": self.max_length})
        self.identity = files or scratch_identity(data_key, self.max_length, self.seed)
        self.numerics = context.numerics(proxy.precision)
        settings = [CODE_VERSION, data_key, self.identity, self.template, proxy.of_any_length, self.seed]
        self.settings_key = fingerprint(settings)  # identifies this training under any numerics
        self.key = fingerprint([*settings, self.numerics])
        self.tokenized = self._tokenized(examples, data_key)
        self.held_out = proxy.held_out(examples.ids)  # (n,) rows measured but not trained on
        self.stop: Stop | None = None  # for steps: auto, once it is known

    def tokenize(self, examples: Examples) -> CachedTokens:
        """Tokenize further examples like the training rows: same tokenizer and max_length, template of their shape."""
        return self._tokenized(examples, examples.fingerprint())

    def _max_length(self, data_key: str, files: str | None) -> int:
        """Tokens per row, with "auto" resolved. files: identity of a model that is not from scratch."""
        proxy = self.proxy
        if isinstance(proxy.max_length, int):
            return proxy.max_length
        context = context_length(proxy.model, proxy.revision, trust_remote_code=proxy.trust_remote_code)
        key = fingerprint([CODE_VERSION, data_key, files or self.seed, self.template, *self._supervised])
        return auto_length(
            self.examples,
            lambda: self.tokenizer,
            self.template,
            context,
            self.cache,
            key,
            self.progress,
            proxy.supervise,
            self.engine,
        )

    @property
    def _supervised(self) -> list[str]:
        """Its part in cache keys: nothing for the default, which was added later than the keys."""
        return [] if self.proxy.supervise == "all" else [self.proxy.supervise]

    def _tokenized(self, examples: Examples, data_key: str) -> CachedTokens:
        length = self.max_length
        template = choose_template(self.proxy, examples.shape)
        key = fingerprint([CODE_VERSION, data_key, self.identity, template, length, *self._supervised])
        return CachedTokens(
            examples,
            lambda: self.tokenizer,
            template,
            length,
            self.cache,
            key,
            self.progress,
            self.proxy.supervise,
            self.engine,
        )

    @cached_property
    def schedule(self) -> Schedule:
        """Raises InputError if no row can be trained on."""
        valid = int(self.tokenized.rows.valid.sum())
        if valid == 0:
            raise InputError(
                f"all {len(self.examples):,} rows are invalid: no completion text survives proxy.max_length = "
                f"{self.max_length}; check --columns, or raise it with --set proxy.max_length=N"
            )
        valid -= int((self.held_out & self.tokenized.rows.valid).sum())
        return self.proxy.schedule(valid if self.sample is None else len(self.sample.rows))

    @cached_property
    def sample(self) -> Sample | None:
        """The sample that the proxy is trained on and that every checkpoint measures; None if that is all rows."""
        proxy = self.proxy
        if proxy.score_sample is None and proxy.score_budget is None:
            return None
        rows, limits = self.tokenized.rows, (proxy.score_sample, proxy.score_budget, proxy.checkpoints)
        return choose_sample(*limits, rows.valid, rows.lengths, self.examples.sources(), self.seed)

    @property
    def training_tokens(self) -> Tokens:
        """Tokens of the rows that the proxy is trained on."""
        tokens = self.tokenized.tokens if self.sample is None else self.tokenized.tokens.take(self.sample.rows)
        if self.held_out.any():
            tokens = replace(tokens, valid=tokens.valid & ~self.held_out)
        return tokens

    @cached_property
    def tokenizer(self) -> Any:
        if self.proxy.scratch:
            return scratch_tokenizer(self.examples, self.seed)
        return load_tokenizer(
            self.proxy.model, revision=self.proxy.revision, trust_remote_code=self.proxy.trust_remote_code
        )

    @cached_property
    def device(self) -> Any:
        """The torch.device of this process, which trains and measures there unless an engine does."""
        return self.context.torch_device()

    @cached_property
    def model(self) -> Any:
        """The model before training."""
        return self.load_model()

    def load_model(self, tokens: Tokens | None = None) -> Any:
        """A new copy of the model. Raises InputError if it lacks an embedding for a token. tokens: None = all rows."""
        proxy = self.proxy
        if proxy.scratch:
            return scratch_model(self.tokenizer, self.max_length, self.seed)
        model = load_model(proxy.model, revision=proxy.revision, trust_remote_code=proxy.trust_remote_code)
        used = self.tokenized.tokens if tokens is None else tokens
        check_vocabulary(proxy.model, model, self.tokenizer, used.ids)
        return model

    # -- the cache ----------------------------------------------------------------------------------------------

    def checkpoints(self, schedule: Schedule) -> list[int]:
        """Steps of the schedule whose weights are stored."""
        return [step for step in schedule.steps.tolist() if self.cache.get("proxies", self.key, step_name(step))]

    def checkpoint(self, step: int) -> Path:
        """Folder with the weights after `step` steps. Raises ExternalError if they are gone."""
        entry = self.cache.get("proxies", self.key, step_name(step))
        if entry is None:
            raise ExternalError(f"checkpoint {step} vanished from the cache {self.cache}; rerun the command")
        return entry

    def load_weights(self, model: Any, step: int) -> None:
        """Copy the weights after `step` steps into `model`."""
        training.load_weights(model, self.checkpoint(step))

    def facts(self) -> dict[str, Any]:
        """Facts for reports; those about training come from the last checkpoint, even if nothing was trained."""
        facts = {
            "model": self.proxy.model,
            "identity": self.identity,
            "template": self.template,
            "steps": self.schedule.steps.tolist(),
            **({} if self.stop is None else {"stop": {"on": self.proxy.stop_on, **self.stop.to_json()}}),
            "steps_per_epoch": self.schedule.steps_per_epoch,
            "horizon_steps": self.schedule.horizon_steps,
            "batch_size": self.proxy.batch_size,
            "learning_rate": self.proxy.peak_learning_rate,
            "numerics": self.numerics,
            "fingerprint": self.key,
            "max_length": self.max_length,
            **truncation_facts(self.tokenized.rows),
        }
        last = self.cache.get("proxies", self.key, step_name(int(self.schedule.steps[-1])))
        return facts if last is None else facts | json.loads((last / "facts.json").read_text())

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Hold the lock of this training: a second run waits, then finds everything done.

        All ranks must enter it; rank 0 holds the lock for all.
        """
        from contextlib import nullcontext

        def waiting() -> None:
            self.progress.note("another run is training this proxy; waiting for it")

        with self.cache.lock("proxies", self.key, waiting=waiting) if rank() == 0 else nullcontext():
            barrier()
            yield
            barrier()

    # -- for workers of an engine ---------------------------------------------------------------------------------

    def shipped(self) -> dict[str, Any]:
        """The state from which `received` rebuilds this training in another process, without the rows."""
        return {"kind": type(self), "tokenizer": self.tokenizer, "schedule": self.schedule} | {
            name: getattr(self, name) for name in _SHIPPED
        }

    @staticmethod
    def received(shipped: dict[str, Any], context: Context, tokens: Callable[[], Tokens]) -> ProxyTraining:
        """Rebuild a shipped training with this process's context.

        tokens: of all rows, or of the training rows if it is for training; called when they are needed.
        """
        kind = shipped["kind"]
        own: ProxyTraining = kind.__new__(kind)
        own.stored_elsewhere, own.sample, own.held_out = (), None, np.zeros(1, np.bool_)  # tokens are already selected
        own.context, own.engine, own.progress, own.cache = context, None, context.progress, context.store
        for name in ("tokenizer", "schedule", *_SHIPPED):
            setattr(own, name, shipped[name])
        own.tokenized = cast(CachedTokens, ReceivedTokens(tokens))  # a rank only needs the tokens
        return own

    # -- training -----------------------------------------------------------------------------------------------

    def train(self, trainer: Trainer | None = None) -> None:
        """Train up to the last missing checkpoint, resuming from the last one of a killed run. Runs on every rank.

        trainer: how to train; None = `train_missing`.
        """
        trainer = trainer or ProxyTraining.train_missing
        steps, missing = self.schedule.trained_steps.tolist(), self.missing()
        if not missing:
            self._drop_resumable()
            return
        if missing == steps:
            self._note_other_numerics(steps)
        self._record_numerics()
        with self.progress.stage("train the proxy", missing[-1], "steps") as stage:
            try:
                for _, tokens_seen in trainer(self, stage.advance):
                    stage.cost.tokens = tokens_seen
            except DivergenceError as error:
                raise self._explained(error) from error
        self._drop_resumable()

    def missing(self) -> list[int]:
        """Steps of the schedule whose weights are not stored."""
        steps = [step for step in self.schedule.trained_steps.tolist() if step not in self.stored_elsewhere]
        return [step for step in steps if self.cache.get("proxies", self.key, step_name(step)) is None]

    def resumable(self) -> int:
        """The newest stored step before the missing ones from which training resumes; 0 = there is none."""
        first, steps = self.missing()[0], self.schedule.trained_steps.tolist()
        earlier = [step for step in steps if step < first]
        resumable = [step for step in earlier if self.cache.get("proxies", self.key, resume_name(step))]
        return resumable[-1] if resumable else 0

    def train_missing(self, advance: Callable[[int], None]) -> Iterator[tuple[int, int]]:
        """(step, tokens seen) of every missing checkpoint, once it is stored. Runs on every rank of this process group.

        advance: called with the number of steps done, first with those that need not be repeated.
        """
        missing, resumed = self.missing(), self.resumable()
        if resumed:
            advance(resumed)
        run = training.train(
            self.model,
            self.training_tokens,
            self.proxy.train_config(self.schedule, missing[-1], self.seed),
            checkpoint_steps=missing,
            resume=self.cache.get("proxies", self.key, resume_name(resumed)) if resumed else None,
            device=self.device,
            advance=advance,
            log=None if self.context.log is None or rank() else self._logged,
        )
        for checkpoint in run:
            if rank() == 0:
                self._store(checkpoint)
            barrier()
            yield checkpoint.step, checkpoint.tokens_seen

    def _logged(self, record: training.StepRecord) -> None:
        assert self.context.log is not None
        self.context.log(record.step, record.metrics(record.step / self.schedule.steps_per_epoch))

    def _store(self, checkpoint: training.Checkpoint) -> None:
        """Store weights, and the state from which training resumes in place of the previous one."""
        with self.cache.writing("proxies", self.key, resume_name(checkpoint.step)) as folder:
            checkpoint.save(folder)
        resumable = self.cache.get("proxies", self.key, resume_name(checkpoint.step))
        assert resumable is not None  # it was just written
        with self.cache.writing("proxies", self.key, step_name(checkpoint.step)) as folder:
            _link(resumable, folder, checkpoint)
        self.drop_resumable(checkpoint.step)

    def drop_resumable(self, before: int) -> None:
        """Drop the state kept for resuming from earlier steps."""
        for step in self.schedule.trained_steps.tolist():
            if step < before:
                self.cache.drop("proxies", self.key, resume_name(step))

    def _record_numerics(self) -> None:
        """Store the numerics of this training by its settings, for `_note_other_numerics`."""
        if rank() == 0:
            text = json.dumps(self.numerics)
            with self.cache.writing("numerics", self.settings_key, self.key) as folder:
                publish_file(folder / "numerics.json", text)

    def _note_other_numerics(self, steps: list[int]) -> None:
        """Note each training of these settings that the cache holds under other numerics: it is not resumed."""
        for key in self.cache.names("numerics", self.settings_key):
            entry = self.cache.get("numerics", self.settings_key, key)
            stored = sum(self.cache.get("proxies", key, step_name(step)) is not None for step in steps)
            if entry is None or not stored or key == self.key:
                continue
            numerics = json.loads((entry / "numerics.json").read_text())
            names = [name for name in self.numerics if numerics.get(name) != self.numerics[name]]
            differences = ", ".join(f"{name} {numerics.get(name)} instead of {self.numerics[name]}" for name in names)
            self.progress.note(
                f"the cache holds {stored} of {len(steps)} checkpoints of this proxy, trained with {differences}; "
                f"they would change the result, so it is trained again{_how_to_resume(names, numerics)}"
            )

    def _drop_resumable(self) -> None:
        """Drop optimizer states, which are not needed once every checkpoint is stored, unless a run may continue."""
        if rank() == 0 and self.schedule.grid is None:
            for step in self.schedule.steps.tolist():
                self.cache.drop("proxies", self.key, resume_name(step))

    def _explained(self, error: DivergenceError) -> InputError:
        """The same error with the ids of its rows, which are saved beside the cache entry."""
        rows = error.rows if self.sample is None else self.sample.rows[np.asarray(error.rows, np.int64)].tolist()
        ids = [self.examples.ids[row].as_py() for row in rows]
        path = self.cache.root / "proxies" / self.key / f"diverged-at-step-{error.step}.json"
        publish_file(path, json.dumps({"step": error.step, "example_ids": ids}, indent=1))
        return InputError(f"{error}; row ids saved in {path}")


# (training, advance) -> (step, tokens seen) of every missing checkpoint, see `ProxyTraining.train_missing`
Trainer = Callable[["ProxyTraining", Callable[[int], None]], Iterator[tuple[int, int]]]


def step_name(step: int) -> str:
    return f"step-{step:06d}"


def resume_name(step: int) -> str:
    """Cache name of the optimizer's state, kept only for the newest checkpoint of an unfinished run."""
    return f"resume-{step:06d}"


def _link(resumable: Path, folder: Path, checkpoint: Any) -> None:
    """Put the weights of a resumable checkpoint into `folder`, by a hard link if the disk supports it."""
    weights = "model.safetensors"
    try:
        os.link(resumable / weights, folder / weights)
    except OSError:
        shutil.copyfile(resumable / weights, folder / weights)
    facts = {
        "parameters": sum(p.numel() for p in checkpoint.model.parameters()),
        "tokens_trained": checkpoint.tokens_seen,
        "tokens_per_pass": len(checkpoint.tokens.ids),
        "seconds": round(checkpoint.seconds, 3),  # of all its steps, in any number of processes
        "training_losses": [round(loss, 5) for loss in checkpoint.losses],
    }
    (folder / "facts.json").write_text(json.dumps(facts))


def _how_to_resume(names: list[str], numerics: dict[str, Any]) -> str:
    """How to resume a training under other numerics, if one setting restores them."""
    ways = {
        "threads": f"OMP_NUM_THREADS={numerics.get('threads')}",
        "device": f"--device {numerics.get('device')}",
        "world": f"torchrun --nproc-per-node {numerics.get('world')}",
    }
    return f" (to resume it: {ways[names[0]]})" if len(names) == 1 and names[0] in ways else ""
