"""The trained weights as a folder that others can load: a Hugging Face model, or peft's adapter files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.finetuning.job import Job
from curate.finetuning.lora import save_adapter
from curate.models.loading import quiet
from curate.models.trained_template import keep_template
from curate.storage.atomic import publish
from curate.tokenization.tokens import Tokens

if TYPE_CHECKING:
    import torch


__all__ = ["ending_tokens", "save_model"]


def save_model(job: Job, model: Any, whole: Any) -> None:
    """Write model/ or adapter/ of the run folder; the weights in memory stay as they are.

    whole: peft's wrapper around `model`, or `model` itself.
    """
    settings = job.settings
    keep_template(job.tokenizer, job.template)
    generation = _generation(model, job.tokenizer, job.tokens)
    # A copy, because a model that was sharded cannot be converted in place.
    rounded = _rounded(whole, settings.lora is not None) if settings.saved_dtype == "bfloat16" else None

    def write(folder: Path) -> None:
        if settings.lora is None:
            model.generation_config = generation
            model.save_pretrained(folder, state_dict=rounded)
            if rounded is not None:
                _say_dtype(folder / "config.json")
        else:
            save_adapter(whole, folder, settings.model, settings.revision, rounded)
            generation.save_pretrained(folder)
        job.tokenizer.save_pretrained(folder)

    with quiet():
        publish(job.out / ("model" if settings.lora is None else "adapter"), write)


def _rounded(whole: Any, adapter: bool) -> dict[str, torch.Tensor]:
    """The state in bfloat16, tied tensors still tied; of an adapter the factors alone, as nothing else is saved."""
    import torch

    made: dict[int, torch.Tensor] = {}
    return {
        name: made.setdefault(id(tensor), tensor.detach().to(torch.bfloat16) if tensor.is_floating_point() else tensor)
        for name, tensor in whole.state_dict(keep_vars=True).items()
        if not adapter or "lora_" in name
    }


def _say_dtype(path: Path) -> None:
    """bfloat16 as the dtype of a config.json; transformers writes that of the weights in memory."""
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "dtype": "bfloat16"}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _generation(model: Any, tokenizer: Any, tokens: Tokens) -> Any:
    """The model's own settings for generation, greedy, that stop where the rows it was trained on end."""
    import transformers

    before = getattr(model, "generation_config", None)
    given = None if before is None else before.eos_token_id
    known = [] if given is None else [given] if isinstance(given, int) else list(given)
    own = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    ends = list(dict.fromkeys([*ending_tokens(tokens, tokenizer), *own, *known]))
    pad = tokenizer.pad_token_id
    if pad is None:
        pad = ends[0] if ends else None
    return transformers.GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=ends[0] if len(ends) == 1 else ends or None,
        pad_token_id=pad,
    )


def ending_tokens(tokens: Tokens, tokenizer: Any) -> list[int]:
    """Special tokens with which rows end that were not cut, the most frequent first: EOS, or the end of a chat turn."""
    whole = tokens.valid & (tokens.completion_cut == 0)
    last = tokens.ids[tokens.offsets[1:][whole] - 1]
    special = {int(each) for each in (*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder)}
    counted = Counter(int(each) for each in last if int(each) in special)
    return [each for each, _ in counted.most_common()]
