"""`max_length: auto` of a fine-tuning run, and its rows before anything is trained."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from curate.component import fingerprint
from curate.context import Context
from curate.data.examples import Examples
from curate.finetuning.config import Finetuning
from curate.models.loading import context_length, identify, load_tokenizer
from curate.models.scratch import scratch_tokenizer
from curate.models.trained_template import settle_template
from curate.seeds import derive_seed
from curate.tokenization.cached import Tokenised, auto_length

__all__ = ["tokenised", "with_length"]

_VERSION = 2  # raise when the same rows come to be other tokens


class _Tokenizer:
    """The tokenizer of a run, made when first asked for."""

    def __init__(self, settings: Finetuning, examples: Examples) -> None:
        self.settings, self.examples = settings, examples

    @cached_property
    def made(self) -> Any:
        settings = self.settings
        if settings.scratch:
            return scratch_tokenizer(self.examples, derive_seed(settings.seed, "scratch"))
        return load_tokenizer(settings.model, revision=settings.revision, trust_remote_code=settings.trust_remote_code)


def with_length(settings: Finetuning, examples: Examples, context: Context) -> Finetuning:
    """The settings with a number for `max_length: auto`, that of these examples."""
    if isinstance(settings.max_length, int):
        return settings
    most = context_length(settings.model, settings.revision, trust_remote_code=settings.trust_remote_code)
    tokenizer, template = _Tokenizer(settings, examples), _template(settings, examples)
    about = (context.store, fingerprint(_key(settings, examples, context)), context.progress)
    length = auto_length(examples, lambda: tokenizer.made, template, most, *about)
    context.progress.note(f"  max_length auto: {length:,} tokens")
    return settings.model_copy(update={"max_length": length})


def tokenised(settings: Finetuning, examples: Examples, context: Context) -> Tokenised:
    """The examples as the run would train on them; of settings `with_length`."""
    assert isinstance(settings.max_length, int)
    tokenizer, key = _Tokenizer(settings, examples), [*_key(settings, examples, context), settings.max_length]
    about = (_template(settings, examples), settings.max_length, context.store, fingerprint(key), context.progress)
    return Tokenised(examples, lambda: tokenizer.made, *about)


def _template(settings: Finetuning, examples: Examples) -> str:
    return settle_template(settings, examples.shape)


def _key(settings: Finetuning, examples: Examples, context: Context) -> list[Any]:
    """What decides the tokens of the rows, but for the length."""
    files = settings.seed if settings.scratch else identify(settings.model, settings.revision, context.store)
    return ["fine-tuning", _VERSION, examples.fingerprint(), files, _template(settings, examples)]
