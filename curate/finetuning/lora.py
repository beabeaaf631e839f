"""Low-rank adapters (LoRA, Hu et al., 2021) by peft: put in, saved, read back and merged."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from curate.component import Component
from curate.errors import InputError
from curate.model_files import tensor_types
from curate.seeds import derive_seed

__all__ = ["LoRA", "merged", "save_adapter", "with_adapter"]


class LoRA(Component):
    """W + alpha / rank * B A for chosen matrices W; only A (rank, in) and B (out, rank) are trained.

    dropout: share of the inputs of A that is dropped in training; rows are then not packed.
    targets: "all-linear" (every linear layer but the LM head), or names of modules, such as q_proj and v_proj.
    """

    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=16.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"


def with_adapter(model: Any, lora: LoRA, seed: int) -> Any:
    """A peft model around `model`, whose own weights are frozen; A is drawn from `seed`, B is zero.

    The inner model (`get_base_model()`) holds the adapters too: it is what is trained. Raises InputError where peft is
    missing, a target is not in the model, or is one whose weights another module uses too.
    """
    import torch

    peft = _peft()
    targets = lora.targets if lora.targets == "all-linear" else list(lora.targets)
    for name in _tied(model) if isinstance(targets, list) else []:
        # Added to the weights, the adapter of one would change the other: not the model that was trained.
        if any(name == target or name.endswith(f".{target}") for target in targets):
            raise InputError(
                f"lora.targets = {targets}: {name} shares its weights (LM head and embeddings are tied), so an adapter "
                "on it cannot be added to them; leave it out"
            )
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=int(lora.alpha) if lora.alpha == int(lora.alpha) else lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        bias="none",
        fan_in_fan_out=any(type(module).__name__ == "Conv1D" for module in model.modules()),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "lora"))
        try:
            with _quiet():
                return peft.get_peft_model(model, config)
        except ValueError as error:
            names = sorted({name.rsplit(".", 1)[-1] for name, part in model.named_modules() if _matrix(part)})
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"lora.targets = {targets}: {reason}; modules of this model are {', '.join(names)}"
            ) from error


def _tied(model: Any) -> list[str]:
    """Names of the LM head and the embeddings, where they are the same weights."""
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or head.weight is not embeddings.weight:
        return []
    return [name for name, part in model.named_modules() if part is head or part is embeddings]


def _matrix(module: Any) -> bool:
    weight = getattr(module, "weight", None)
    return weight is not None and getattr(weight, "ndim", 0) == 2


def save_adapter(
    adapted: Any, directory: Path, base: str, revision: str | None, state: dict[str, Any] | None = None
) -> None:
    """peft's files in an existing folder, with the base model under the name it was given by.

    state: the factors to save, by their names in `adapted`; None = those it has.
    """
    config = adapted.peft_config["default"]
    config.base_model_name_or_path, config.revision = base, revision
    if not isinstance(config.target_modules, str):
        config.target_modules = sorted(config.target_modules)  # peft's set would be written in a random order
    with _quiet():
        adapted.save_pretrained(directory, save_embedding_layers=False, state_dict=state)
    (directory / "README.md").unlink(missing_ok=True)  # a form with nothing filled in


def merged(run: Path, *, trust_remote_code: bool = False) -> Any:
    """The model that a finished run trained, with float32 weights in eval mode; adapters are added to the weights.

    run: folder of a fine-tuning run. Raises InputError where the base model of an adapter is not the one it was
    trained on, or the adapter lacks a weight.
    """
    from curate.finetuning.run_folder import read_run
    from curate.models import identify, load_model

    record = read_run(run)
    if (run / "model").is_dir():
        return load_model(str(run / "model"))
    settings = record["settings"]
    name, revision = settings["model"], settings.get("revision")
    if identify(name, revision) != record["model"]["identity"]:
        raise InputError(f"{run}: the model {name} has changed since the adapter was trained; put back what it was")
    model = load_model(name, revision=revision, trust_remote_code=trust_remote_code)
    adapted = _with_saved_adapter(model, run / "adapter")
    with _quiet():
        whole = adapted.merge_and_unload(safe_merge=True).float().eval()
    if (run / "adapter" / "generation_config.json").is_file():
        import transformers

        whole.generation_config = transformers.GenerationConfig.from_pretrained(run / "adapter")
    return whole


def _with_saved_adapter(model: Any, folder: Path) -> Any:
    """The factors of a saved adapter in `model`; peft would go on with first ones where some are missing."""
    peft = _peft()
    stored = tensor_types(str(folder), folder / "adapter_model.safetensors")
    with _quiet(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Found missing adapter keys")
        try:
            adapted = peft.PeftModel.from_pretrained(model, folder)
        except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:  # RuntimeError: a wrong shape
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"adapter {folder} cannot be loaded ({reason}); fine-tune again with --fresh") from error
        wanted = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
    missing = next((name for name in wanted if name not in stored), None)
    if missing:
        raise InputError(f"adapter {folder} lacks the weight {missing}; fine-tune again with --fresh")
    return adapted


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what peft and transformers have to tell each other about names of each other that will change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise InputError("LoRA needs the package peft; install it with: pip install 'curate-lm[lora]'") from error
    return peft
