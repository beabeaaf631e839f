"""The prompt template that a model was fine-tuned with, saved in its tokenizer's configuration."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from curate.errors import DataWarning, ExternalError, InputError
from curate.models.hub import Place, locate
from curate.models.scratch import SCRATCH
from curate.tokenization.default_template import HAD_TEMPLATE, JINJA
from curate.tokenization.templates import resolve_template

# Key in tokenizer_config.json, beside the chat template. transformers keeps unknown keys, so it
# survives loading and saving a tokenizer.
KEY = "training_template"
_FILE = "tokenizer_config.json"
_NAMES = ("alpaca", "plain", "chat")


def record_template(tokenizer: Any, template: str) -> None:
    """Record the template for `save_pretrained`; rows of plain text have none and keep the recorded one.

    A tokenizer without a chat template that was used for chats gets the default one, so that others find it.
    """
    if template in _NAMES:
        tokenizer.init_kwargs[KEY] = template
        tokenizer.init_kwargs.pop(HAD_TEMPLATE, None)
        if template == "chat":
            tokenizer.chat_template = tokenizer.chat_template or JINJA
            tokenizer.init_kwargs[HAD_TEMPLATE] = True


def recorded_template(model: str, revision: str | None = None) -> str | None:
    """The template recorded in a model folder or hub id; None if there is none, or no such model."""
    try:
        place = locate(model, revision)
        return None if place.gguf else _template_in(json.loads(_config(place).read_text(encoding="utf-8")))
    except (InputError, ExternalError, OSError, ValueError):  # loading the tokenizer reports what is wrong
        return None


def _template_in(settings: Any) -> str | None:
    """The template recorded in the configuration of a tokenizer."""
    name = settings.get(KEY) if isinstance(settings, dict) else None
    return name if name in _NAMES else None


def _config(place: Place) -> Path:
    """tokenizer_config.json of a model, fetched from the hub if it is there."""
    if place.commit is None:
        return Path(place.path) / _FILE
    import huggingface_hub

    return Path(
        huggingface_hub.hf_hub_download(place.path, _FILE, revision=place.commit, local_files_only=place.offline)
    )


def choose_template(settings: Any, shape: str, tokenizer: Any = None) -> str:
    """The template for rows of a shape: the one set, else the one that the model was trained with, else the default.

    settings: a `Proxy` or `Finetuning`. tokenizer: of its model, if loaded. Warns (DataWarning) if the
    model was trained with another template.
    """
    scratch = settings.model == SCRATCH
    if scratch:
        trained = None
    elif tokenizer is not None:
        trained = _template_in(getattr(tokenizer, "init_kwargs", None))
    else:
        trained = recorded_template(settings.model, settings.revision)
    if settings.template == "auto" and trained is not None and shape not in ("text", "messages"):
        return trained
    template = resolve_template(settings.template, shape, scratch)
    remedy = "messages take the chat template"
    if shape != "messages":
        remedy = f"leave the template out, or set it to {trained}"
    warn_of_template_change(settings.model, trained, template, remedy)
    return template


def warn_of_template_change(model: str, trained: str | None, template: str, remedy: str) -> None:
    """Warn (DataWarning) if a model gets another template than it was trained with; rows of plain text have none."""
    if trained is not None and template not in (trained, "none"):
        warnings.warn(
            f"the model {model} was fine-tuned with template {trained} and is given {template}, so its losses start "
            f"higher than they need to; {remedy}",
            DataWarning,
            stacklevel=3,
        )
