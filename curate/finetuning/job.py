"""The inputs of a fine-tuning run (model, tokenizer, tokens and folder), each loaded on first use."""

from __future__ import annotations

import json
import shlex
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from curate.component import fingerprint
from curate.context import Context
from curate.data.examples import Examples
from curate.devices.distributed import rank
from curate.errors import DataWarning, InputError
from curate.finetuning.config import Finetuning
from curate.finetuning.data import TrainingData, further_data, training_rows
from curate.finetuning.lora import with_adapter
from curate.finetuning.run_folder import RunFolder
from curate.models.loading import context_length, identify, load_model, load_tokenizer
from curate.models.model_files import check_vocabulary
from curate.models.scratch import scratch_identity, scratch_model, scratch_tokenizer
from curate.models.trained_template import choose_template
from curate.seeds import derive_seed
from curate.storage.atomic import publish_file
from curate.storage.places import expanded
from curate.tokenization.cached import CachedTokens, auto_length, truncation_facts
from curate.tokenization.encoding import TOKENS_VERSION, tokenize
from curate.tokenization.tokens import Tokens
from curate.tokenization.usable import Rules, check_usable
from curate.training.reweighting import TrainingRows

_CODE_VERSION = TOKENS_VERSION + 0  # add 1 when the same data and settings give another run


def with_length(settings: Finetuning, examples: Examples, context: Context) -> Finetuning:
    """The settings with `max_length: auto` replaced by the length for these examples."""
    if isinstance(settings.max_length, int):
        return settings
    most = context_length(settings.model, settings.revision, trust_remote_code=settings.trust_remote_code)
    template = choose_template(settings, examples.shape)
    key = fingerprint(_tokens_key(settings, examples, context))
    make_tokenizer = partial(_tokenizer, settings, examples)
    length = auto_length(
        examples, make_tokenizer, template, most, context.store, key, context.progress, settings.supervise
    )
    context.progress.note(f"  max_length auto: {length:,} tokens")
    return settings.model_copy(update={"max_length": length})


def tokenized(
    settings: Finetuning, examples: Examples, context: Context, tokenizer: Callable[[], Any] | None = None
) -> CachedTokens:
    """Tokenize the examples for training; settings as returned by `with_length`."""
    assert isinstance(settings.max_length, int)
    key = fingerprint([*_tokens_key(settings, examples, context), settings.max_length])
    template = choose_template(settings, examples.shape)
    make_tokenizer = tokenizer or cache(partial(_tokenizer, settings, examples))
    return CachedTokens(
        examples,
        make_tokenizer,
        template,
        settings.max_length,
        context.store,
        key,
        context.progress,
        settings.supervise,
    )


def _tokenizer(settings: Finetuning, examples: Examples) -> Any:
    if settings.scratch:
        return scratch_tokenizer(examples, derive_seed(settings.seed, "scratch"))
    return load_tokenizer(settings.model, revision=settings.revision, trust_remote_code=settings.trust_remote_code)


def _tokens_key(settings: Finetuning, examples: Examples, context: Context) -> list[Any]:
    """Cache key of the tokens of the rows, without the length."""
    files = settings.seed if settings.scratch else identify(settings.model, settings.revision, context.store)
    template = choose_template(settings, examples.shape)
    supervised = [] if settings.supervise == "all" else [settings.supervise]
    return ["fine-tuning", TOKENS_VERSION, examples.fingerprint(), files, template, *supervised]


@dataclass(frozen=True)
class Job:
    """One run; model, tokenizer and tokens are loaded on first access."""

    data: TrainingData
    settings: Finetuning
    out: Path
    context: Context
    arm: str
    budget: str | None
    curation: dict[str, Any] | None

    @cached_property
    def device(self) -> Any:
        return self.context.torch_device()

    @cached_property
    def data_key(self) -> str:
        return self.data.examples.fingerprint()

    @cached_property
    def identity(self) -> str:
        """Identity of the model before training."""
        if self.settings.scratch:
            return scratch_identity(self.data_key, self.max_length, self._scratch_seed)
        _refuse_run(expanded(self.settings.model))
        return identify(self.settings.model, self.settings.revision, self.context.store)

    @property
    def _scratch_seed(self) -> int:
        return derive_seed(self.settings.seed, "scratch")

    @cached_property
    def folder(self) -> RunFolder:
        decided_by = [_CODE_VERSION, self.data_key, self.identity, self.settings.decisive(), self.arm, self.budget]
        decided_by += [further_data(self.settings.reweighter)]
        if self.settings.reweighter is not None:  # it may read any column, as GivenWeights does
            decided_by += [self.data.examples.table_fingerprint()]
        return RunFolder(self.out, fingerprint(decided_by))

    @cached_property
    def template(self) -> str:
        return choose_template(self.settings, self.data.examples.shape)

    @cached_property
    def tokenizer(self) -> Any:
        tokenizer = _tokenizer(self.settings, self.data.examples)
        if self.settings.scratch:
            return tokenizer
        if tokenizer.eos_token_id is None:
            warnings.warn(
                f"the tokenizer of {self.settings.model} has no end-of-sequence token: rows get none, so the trained "
                "model will not stop by itself; set tokenizer.eos_token and save the model with it",
                DataWarning,
                stacklevel=2,
            )
        return tokenizer

    @cached_property
    def tokens(self) -> Tokens:
        """Raises InputError for rows that cannot be trained on, see `curate.tokenization.usable`."""
        tokens, examples = self._tokenized.tokens, self.data.examples
        rules = Rules(self.data.drop, self.max_length, "--max-length N")
        check_usable(self._tokenized.rows, examples, self.data.rows, rules)
        for line in _remarks(tokens, self.refused, self.max_length):
            self.context.progress.note(line)
        return tokens

    @property
    def refused(self) -> dict[int, str]:
        """Row -> why the chat template cannot render it; such a row has no tokens."""
        return self._tokenized.refused

    @cached_property
    def _tokenized(self) -> CachedTokens:
        return tokenized(self.settings, self.data.examples, self.context, lambda: self.tokenizer)

    @property
    def max_length(self) -> int:
        """Tokens per row; the settings of a job name a number, see `with_length`."""
        assert isinstance(self.settings.max_length, int)
        return self.settings.max_length

    @property
    def rows(self) -> TrainingRows:
        """The rows as a reweighter may read them."""

        def tokenize_further(examples: Examples) -> Tokens:
            template = choose_template(self.settings, examples.shape)
            return tokenize(
                examples,
                self.tokenizer,
                template=template,
                max_length=self.max_length,
                supervise=self.settings.supervise,
            )

        return training_rows(self.data.examples, tokenize_further)

    def load(self) -> tuple[Any, Any]:
        """The model to train, in float32, and the object to save in the end: the model itself or peft's wrapper.

        Raises InputError if the tokenizer produces token ids that the model does not have.
        """
        settings = self.settings
        if settings.scratch:
            model = scratch_model(self.tokenizer, self.max_length, self._scratch_seed)
        else:
            model = load_model(settings.model, revision=settings.revision, trust_remote_code=settings.trust_remote_code)
        check_vocabulary(settings.model, model, self.tokenizer, self.tokens.ids)
        trained_model = model if settings.lora is None else with_adapter(model, settings.lora, settings.seed)
        return model, trained_model

    def diverged(self, error: Any) -> InputError:
        """The same error with the ids of its rows, which are also saved in the run folder."""
        ids = [self.data.examples.ids[row].as_py() for row in error.rows]
        path = self.out / "diverged.json"
        if rank() == 0:
            publish_file(path, json.dumps({"step": error.step, "example_ids": ids}, indent=1) + "\n", replace=True)
        return InputError(f"{error}; row ids saved in {path}")


def _remarks(tokens: Tokens, refused: dict[int, str], max_length: int) -> Iterator[str]:
    """Lines about rows that are left out of training or truncated."""
    n, without = len(tokens), len(tokens) - int(tokens.valid.sum()) - len(refused)
    if refused:
        yield f"  {len(refused):,} of {n:,} rows are refused by the model's chat template: they are not trained on"
    if without:
        yield f"  {without:,} of {n:,} rows have no completion text: they are not trained on"
    facts = truncation_facts(tokens)
    if facts["rows_truncated"]:
        yield (
            f"  {facts['rows_truncated']:,} of {n:,} rows are longer than {max_length} tokens: "
            f"{facts['prompts_cut']:,} lost older turns or the beginning of their prompt, "
            f"{facts['completions_cut']:,} the end of their completion; --max-length auto keeps 99 % of the rows whole"
        )


def _refuse_run(folder: Path) -> None:
    """Raise InputError for a run or adapter given as the model, and say what to give instead."""
    if (folder / "config.json").is_file() or not folder.is_dir():
        return
    if (folder / "model" / "config.json").is_file():
        raise InputError(
            f"{folder} is a run, not a model; its weights are --model {shlex.quote(str(folder / 'model'))}"
        )
    if any((place / "adapter_config.json").is_file() for place in (folder, folder / "adapter")):
        raise InputError(
            f"{folder} holds an adapter, not a whole model; add it to its base with "
            f"`curate expo {shlex.quote(str(folder))} --alpha 0 --out MODEL` and train that"
        )
