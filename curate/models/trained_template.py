"""The template that a model was fine-tuned with, kept with its tokenizer for whoever is given the model later."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from curate.errors import DataWarning, ExternalError, InputError
from curate.models.hub import Place, locate
from curate.tokenization.chat_template import HAD_TEMPLATE
from curate.tokenization.templates import resolve_template

# In tokenizer_config.json, beside the chat template. transformers hands on keys that it does not know, so this one
# survives whatever loads a tokenizer and saves it again.
KEY = "training_template"
_FILE = "tokenizer_config.json"
_NAMES = ("alpaca", "plain", "chat")


def record_template(tokenizer: Any, template: str) -> None:
    """Note the template for `save_pretrained`; rows of mere text have none, and leave what is noted."""
    if template in _NAMES:
        tokenizer.init_kwargs[KEY] = template
        tokenizer.init_kwargs.pop(HAD_TEMPLATE, None)
        if template == "chat" and tokenizer.chat_template:
            tokenizer.init_kwargs[HAD_TEMPLATE] = True


def recorded_template(model: str, revision: str | None = None) -> str | None:
    """The template that is noted in a model folder or hub id; None where none is, or the model cannot be had."""
    try:
        place = locate(model, revision)
        path = None if place.gguf else _config(place)
        found = None if path is None else json.loads(path.read_text(encoding="utf-8"))
    except (InputError, ExternalError, OSError, ValueError):  # whoever loads the tokenizer says what is wrong
        return None
    return _known(found)


def _known(settings: Any) -> str | None:
    """The template in settings of a tokenizer."""
    name = settings.get(KEY) if isinstance(settings, dict) else None
    return name if name in _NAMES else None


def _config(place: Place) -> Path:
    if place.commit is None:
        return Path(place.path) / _FILE
    import huggingface_hub

    found = huggingface_hub.hf_hub_download(place.path, _FILE, revision=place.commit, local_files_only=place.offline)
    return Path(found)


def choose_template(settings: Any, shape: str, tokenizer: Any = None) -> str:
    """The template for rows of a shape: as given, else the one that the model was trained with, else the default.

    settings: a `Proxy` or `Finetuning`. tokenizer: of its model, where that is loaded. Warns (DataWarning) where the
    model was trained with another template than it is to be given.
    """
    if settings.scratch:
        kept = None
    elif tokenizer is not None:
        kept = _known(getattr(tokenizer, "init_kwargs", None))
    else:
        kept = recorded_template(settings.model, settings.revision)
    if settings.template == "auto" and kept is not None and shape not in ("text", "messages"):
        return kept
    found = resolve_template(settings.template, shape, settings.scratch)
    remedy = (
        f"leave the template out, or set it to {kept}" if shape != "messages" else "messages take the chat template"
    )
    warn_of_template_change(settings.model, kept, found, remedy)
    return found


def warn_of_template_change(model: str, kept: str | None, given: str, remedy: str) -> None:
    """One line where a model is not given the template that it was trained with; mere text has none."""
    if kept is not None and given not in (kept, "none"):
        warnings.warn(
            f"the model {model} was fine-tuned with template {kept} and is given {given}, so its losses start higher "
            f"than they need to; {remedy}",
            DataWarning,
            stacklevel=3,
        )
