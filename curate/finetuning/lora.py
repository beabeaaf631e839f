"""Low-rank adapters (LoRA, Hu et al., 2021) with peft: inserted, saved, loaded and merged."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from curate.component import Component
from curate.errors import InputError, reason_of
from curate.finetuning.run_folder import AGAIN, read_run
from curate.models.loading import identify, load_model
from curate.models.model_files import adapter_types
from curate.seeds import derive_seed

# Where peft expects the layers of an expert as older releases of transformers stored them.
_EXPERT_NAMES = frozenset(["gate", "w1", "w2", "w3", "gate_proj", "up_proj", "down_proj"])
# Loggers of peft and transformers that warn about each other's deprecated names.
_quiet = partial(warnings.catch_warnings, action="ignore", category=FutureWarning)


class LoRA(Component):
    """W + alpha / rank * B A for chosen matrices W; only A (rank, in) and B (out, rank) are trained.

    dropout: share of the inputs of A that is dropped in training; rows are then not packed into one sequence.
    targets: "all-linear" (every linear layer but the LM head; of a mixture of experts also all routed experts and their
        routers, however the architecture stores them), or names of modules, such as q_proj and v_proj.
    """

    rank: int = Field(default=8, ge=1, description="rank of the adapters; implies --lora")
    alpha: float = Field(default=16.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"


def with_adapter(model: Any, lora: LoRA, seed: int) -> Any:
    """Wrap `model` in a peft model and freeze its own weights; A is drawn from `seed`, B is zero.

    The inner model (`get_base_model()`) holds the adapters too; it is the one to train. Raises InputError if peft is
    missing, a target is not in the model, or a target's weights are shared with another module.
    """
    import torch

    peft = _peft()
    targets = lora.targets if lora.targets == "all-linear" else list(lora.targets)
    for name in _tied(model) if isinstance(targets, list) else []:
        # Merged into shared weights, the adapter of one module would change the other: not the model that was trained.
        if any(name == target or name.endswith(f".{target}") for target in targets):
            raise InputError(
                f"lora.targets = {targets}: {name} shares its weights (LM head and embeddings are tied), so an adapter "
                "on it cannot be added to them; leave it out"
            )
    experts = _expert_parameters(model) if targets == "all-linear" else []
    if experts:
        if lora.dropout:
            raise InputError(
                f"lora.dropout = {lora.dropout:g}: experts stacked in one tensor ({experts[0]}) take none; set "
                "lora.dropout=0, or name the layers in lora.targets"
            )
        targets, dense = _linear_layers(model)
        experts += dense
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        target_parameters=experts or None,
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
            raise InputError(
                f"lora.targets = {targets}: {reason_of(error)}; modules of this model are {', '.join(names)}"
            ) from error


def _tied(model: Any) -> list[str]:
    """Names of the LM head and the embeddings, where they are the same weights."""
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or head.weight is not embeddings.weight:
        return []
    return [name for name, part in model.named_modules() if part is head or part is embeddings]


def _expert_parameters(model: Any) -> list[str]:
    """Names of expert tensors (experts, out, in) or (experts, in, out) and of router tensors (experts, hidden).

    peft itself knows those of some architectures only, and then skips the dense layers beside them.
    """
    import torch

    stacked: dict[str, int] = {}
    parents: dict[str, int] = {}
    routers: list[tuple[str, str, int]] = []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding | torch.nn.modules.conv._ConvNd):
            continue
        for kind, parameter in module.named_parameters(recurse=False):
            if parameter.ndim == 3 and min(parameter.shape) > 1:
                stacked[f"{name}.{kind}"] = parents[name.rpartition(".")[0]] = len(parameter)
            elif parameter.ndim == 2 and kind == "weight":
                routers.append((f"{name}.{kind}", name.rpartition(".")[0], len(parameter)))
    return [*stacked, *(name for name, parent, experts in routers if parents.get(parent) == experts)]


def _linear_layers(model: Any) -> tuple[list[str], list[str]]:
    """Names of all linear layers except the LM head, and names of weights that peft must be given by weight name.

    The latter are modules whose name peft takes for an expert of older releases of transformers, and routers
    that are linear layers with a special output, around which peft cannot put its layer.
    """
    import torch

    head = model.get_output_embeddings()
    modules, weights = [], []
    for name, part in model.named_modules():
        if isinstance(part, torch.nn.Linear) and part is not head:
            plain = type(part) is torch.nn.Linear and name.rpartition(".")[2] not in _EXPERT_NAMES
            modules.append(name) if plain else weights.append(f"{name}.weight")
    return modules, weights


def _matrix(module: Any) -> bool:
    weight = getattr(module, "weight", None)
    return weight is not None and getattr(weight, "ndim", 0) == 2


def save_adapter(
    adapted: Any, directory: Path, base: str, revision: str | None, state: dict[str, Any] | None = None
) -> None:
    """Write peft's files into an existing folder, with the base model under its original name.

    state: factors to save, by their names in `adapted`; None = the current ones.
    """
    config = adapted.peft_config["default"]
    config.base_model_name_or_path, config.revision = base, revision
    if not isinstance(config.target_modules, str):
        config.target_modules = sorted(config.target_modules)  # peft's set would be written in random order
    if config.target_parameters:
        config.target_parameters = sorted(config.target_parameters)
    with _quiet():
        adapted.save_pretrained(directory, save_embedding_layers=False, state_dict=state)
    (directory / "README.md").unlink(missing_ok=True)  # an empty template


def merged(run: Path, *, trust_remote_code: bool = False) -> Any:
    """The trained model of a finished run, with float32 weights in eval mode and adapters merged.

    run: folder of a fine-tuning run. Raises InputError if the base model of an adapter is not the one it was
    trained on, or the adapter lacks a weight.
    """
    record = read_run(run)
    if (run / "model").is_dir():
        return load_model(str(run / "model"))
    settings = record["settings"]
    name, revision = settings["model"], settings.get("revision")
    if identify(name, revision) != record["model"]["identity"]:
        raise InputError(f"{run}: the model {name} has changed since the adapter was trained; restore it")
    model = load_model(name, revision=revision, trust_remote_code=trust_remote_code)
    adapted = _with_saved_adapter(model, run / "adapter")
    with _quiet():
        merged_model = adapted.merge_and_unload(safe_merge=True).float().eval()
    if (run / "adapter" / "generation_config.json").is_file():
        import transformers

        merged_model.generation_config = transformers.GenerationConfig.from_pretrained(run / "adapter")
    return merged_model


def _with_saved_adapter(model: Any, folder: Path) -> Any:
    """Load a saved adapter into `model`; InputError if factors are missing, which peft would initialize at random."""
    peft = _peft()
    stored = adapter_types(str(folder), folder / "adapter_model.safetensors")
    with _quiet():
        warnings.filterwarnings("ignore", "Found missing adapter keys")
        try:
            adapted = peft.PeftModel.from_pretrained(model, folder)
        except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:  # RuntimeError: a wrong shape
            raise InputError(f"adapter {folder} cannot be loaded ({reason_of(error)}); {AGAIN}") from error
        expected = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
    missing = next((name for name in expected if name not in stored), None)
    if missing:
        raise InputError(f"adapter {folder} lacks the weight {missing}; {AGAIN}")
    return adapted


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise InputError("LoRA needs the package peft; install it with: pip install 'curate-lm[lora]'") from error
    return peft
