"""The target of an evaluation (a fine-tuned run, a model or a generator) and its identity."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.console.progress import Progress
from curate.errors import InputError, reason_of
from curate.evaluation.config import Evaluation
from curate.finetuning.lora import merged
from curate.finetuning.run_folder import AGAIN, read_run
from curate.generators.requests import Generator
from curate.models.loading import context_length, identify, load_model, load_tokenizer, without_stdout
from curate.models.model_files import check_tokenizer
from curate.models.trained_template import recorded_template
from curate.storage.atomic import disk_errors, make_folder
from curate.storage.cache import Cache
from curate.storage.hashing import file_digest
from curate.storage.places import check_place, expanded
from curate.storage.temporary import temporary_folder

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Target:
    """A model that can be loaded, or a generator.

    name: as the user wrote it. model: folder, GGUF file or hub id; None for a generator whose model is not local.
    identity: fingerprint of weights and tokenizer. run: run.json of a fine-tuned run, and directory its folder.
    adapter: folder of a LoRA run's adapter, whose base is `model`. generator: used instead of a model.
    """

    name: str
    model: str | None
    identity: str
    run: dict[str, Any] | None = None
    directory: Path | None = None
    adapter: Path | None = None
    generator: Generator | None = None
    revision: str | None = None
    trust_remote_code: bool = False

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer; None if there is none on this machine."""
        if self.model is None:
            return None
        if self.adapter is not None:  # fine-tuning may have changed the tokenizer and saved it there
            return _saved_tokenizer(self.adapter)
        return load_tokenizer(self.model, revision=self.revision, trust_remote_code=self.trust_remote_code)

    def load(self, device: torch.device) -> Any:
        """Load the model with float32 weights on a device, with an adapter merged into them."""
        assert self.model is not None
        if self.adapter is not None:
            assert self.directory is not None
            model = merged(self.directory, trust_remote_code=self.trust_remote_code)
        else:
            model = load_model(self.model, revision=self.revision, trust_remote_code=self.trust_remote_code)
        return model.to(device)

    @cached_property
    def context(self) -> int | None:
        """Maximum number of tokens of a sequence; None = no known limit."""
        if self.model is None:
            return None
        return context_length(self.model, self.revision, trust_remote_code=self.trust_remote_code)

    @cached_property
    def template(self) -> str | None:
        """The template that the model was trained with, if its run or folder says so; else None."""
        if self.run is not None:
            return str(self.run["template"])
        return None if self.model is None else recorded_template(self.model, self.revision)

    @contextmanager
    def folder(self, cache: Cache) -> Iterator[str]:
        """A path or name by which another program can load the model; for an adapter, a temporary merged copy."""
        assert self.model is not None
        if self.adapter is None:
            yield self.model
            return
        import torch

        make_folder(cache.root)
        with temporary_folder(".merged-", cache.root) as place:
            with disk_errors(place):
                self.load(torch.device("cpu")).save_pretrained(place)
                self.tokenizer.save_pretrained(place)
            yield str(place)


def _saved_tokenizer(folder: Path) -> Any:
    """The tokenizer saved in a folder that holds no full model."""
    from transformers import AutoTokenizer

    try:
        with without_stdout():
            tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except Exception as error:  # tokenizers raise bare Exception
        raise InputError(f"{folder} holds no tokenizer ({reason_of(error)}); {AGAIN}") from error
    check_tokenizer(str(folder), tokenizer)
    return tokenizer


def check_out(place: Path) -> None:
    """Check the output folder before any work: InputError if it holds other files, ExternalError if not writable."""
    if (place / "run.json").is_file():
        raise InputError(f"--out {place} is a run, and its folder holds nothing else; name another folder")
    check_place(place / "x")


def find_target(target: Any, settings: Evaluation, cache: Cache) -> Target:
    """The Target that `target` names. InputError if it cannot be evaluated."""
    if isinstance(target, Generator):
        return Target(_shown(target), _local_model(target), target.identity(), generator=target)
    if not isinstance(target, str | Path):
        kind = f"{type(target).__module__}.{type(target).__qualname__}"
        raise InputError(f"target is a {kind}; give a run folder, a model folder, a hub id or a generator")
    directory = expanded(target)
    if (directory / "run.json").is_file() or (directory / "metrics.jsonl").is_file():
        return _run(directory, cache, settings.trust_remote_code)
    name = str(directory) if directory.exists() else str(target)
    identity = identify(name, settings.revision, cache)
    return Target(name, name, identity, revision=settings.revision, trust_remote_code=settings.trust_remote_code)


def with_possible_scores(settings: Evaluation, target: Target, progress: Progress) -> Evaluation:
    """The settings without scores where there are no weights to score with."""
    if settings.nll and target.model is None:
        if not settings.generate:
            raise InputError(f"{target.name} is a generator: its losses are not available; leave generate on")
        progress.note(f"no losses: the weights of {target.name} are not here")
        return settings.model_copy(update={"nll": False})
    return settings


def _run(directory: Path, cache: Cache, trust: bool) -> Target:
    """Read the target from a fine-tuned run. trust: consent of this command; the settings of a run grant none."""
    run = read_run(directory)
    described = run["settings"]
    if (directory / "model" / "config.json").is_file():
        model = str(directory / "model")
        return Target(str(directory), model, identify(model, None, cache), run, directory, trust_remote_code=trust)
    adapter = directory / "adapter"
    if not (adapter / "adapter_model.safetensors").is_file():
        raise InputError(f"{directory} has neither model/ nor adapter/; {AGAIN}")
    base, revision = described["model"], described.get("revision")
    base_identity = identify(base, revision, cache)
    if base_identity != run["model"]["identity"]:
        raise InputError(
            f"the base model {base} of {directory} is not the one that was fine-tuned; restore it, or fine-tune "
            "again with --fresh"
        )
    files = sorted(path for path in adapter.iterdir() if path.is_file() and path.suffix != ".md")
    identity = f"lora:{file_digest(((file, file.name) for file in files), cache)} of {base_identity}"
    return Target(str(directory), base, identity, run, directory, adapter, revision=revision, trust_remote_code=trust)


def _shown(generator: Generator) -> str:
    """Name of a generator in texts: its model, else its class."""
    model = getattr(generator, "model", None)
    return model if isinstance(model, str) else type(generator).__name__


def _local_model(generator: Generator) -> str | None:
    """The model of a generator if this process can load it too, for its tokenizer and losses."""
    model = getattr(generator, "model", None)
    local = isinstance(model, str) and expanded(model).exists() and getattr(generator, "url", None) is None
    return str(expanded(model)) if local and isinstance(model, str) else None
