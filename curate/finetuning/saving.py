"""Save the Hugging Face model or peft adapter and the rejected rows of a run."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.data.invalid_rows import rejected_table
from curate.finetuning.job import Job
from curate.finetuning.lora import save_adapter
from curate.models.loading import quiet
from curate.models.trained_template import record_template
from curate.storage.atomic import publish_file, publishing
from curate.tokenization.tokens import Tokens
from curate.tokenization.usable import refused_records

if TYPE_CHECKING:
    import torch


def save_model(job: Job, model: Any, trained: Any) -> None:
    """Write model/ or adapter/ of the run folder; the weights in memory are unchanged. Runs on rank 0 only.

    trained: peft's wrapper around `model`, or `model` itself.
    """
    settings = job.settings
    record_template(job.tokenizer, job.template)
    generation = _generation(model, job.tokenizer, job.tokens)
    # A copy, because a model that was sharded cannot be converted in place.
    rounded = _rounded(trained, settings.lora is not None) if settings.saved_dtype == "bfloat16" else None

    with quiet(), publishing(job.out / ("model" if settings.lora is None else "adapter")) as folder:
        if settings.lora is None:
            model.generation_config = generation
            model.save_pretrained(folder, state_dict=rounded)
            if rounded is not None:
                _set_dtype(folder / "config.json")
        else:
            save_adapter(trained, folder, settings.model, settings.revision, rounded)
            generation.save_pretrained(folder)
        job.tokenizer.save_pretrained(folder)


def _rounded(model: Any, adapter: bool) -> dict[str, torch.Tensor]:
    """The state in bfloat16, with tied tensors still tied; of an adapter only the factors, the only part saved."""
    import torch

    converted: dict[int, torch.Tensor] = {}
    return {
        name: converted.setdefault(
            id(tensor), tensor.detach().to(torch.bfloat16) if tensor.is_floating_point() else tensor
        )
        for name, tensor in model.state_dict(keep_vars=True).items()
        if not adapter or "lora_" in name
    }


def _set_dtype(path: Path) -> None:
    """Set bfloat16 as the dtype of a config.json; transformers writes that of the weights in memory."""
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "dtype": "bfloat16"}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _generation(model: Any, tokenizer: Any, tokens: Tokens) -> Any:
    """The model's own generation settings, made greedy and stopping at the tokens that end its training rows."""
    import transformers

    before = getattr(model, "generation_config", None)
    eos = None if before is None else before.eos_token_id
    of_model = [] if eos is None else [eos] if isinstance(eos, int) else list(eos)
    of_tokenizer = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    ends = list(dict.fromkeys([*_ending_tokens(tokens, tokenizer), *of_tokenizer, *of_model]))
    pad = tokenizer.pad_token_id
    if pad is None:
        pad = ends[0] if ends else None
    return transformers.GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=ends[0] if len(ends) == 1 else ends or None,
        pad_token_id=pad,
    )


def _ending_tokens(tokens: Tokens, tokenizer: Any) -> list[int]:
    """Special tokens that end untruncated rows, most frequent first: EOS, or the end of a chat turn."""
    complete = tokens.valid & (tokens.completion_cut == 0)  # (n,) bool
    last = tokens.ids[tokens.offsets[1:][complete] - 1]  # (complete rows,)
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    return [token for token, _ in Counter(token for token in last.tolist() if token in special).most_common()]


def write_rejected(job: Job) -> None:
    """Write rejected.parquet in the format of `curate run`'s tables/; nothing if no row was left out."""
    data = job.data
    records = [*data.rejected, *refused_records(job.refused, data.examples, data.rows)]
    if records:
        sink = pa.BufferOutputStream()
        pq.write_table(rejected_table(records), sink, compression="zstd")
        publish_file(job.out / "rejected.parquet", sink.getvalue().to_pybytes(), replace=True)
