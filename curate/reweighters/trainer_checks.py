"""Checks for unsupported trainers, each with a remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from curate.errors import InputError
from curate.reweighters.trainer_batches import has_positions

_WHOLE_MODEL = {"NO", "MULTI_CPU", "MULTI_GPU", "MULTI_NPU", "MULTI_MLU", "MULTI_SDAA", "MULTI_MUSA", "MULTI_XPU"}


def check_trainer(trainer: Any, replaced: Sequence[str]) -> None:
    """Raise InputError if weights would be wrong, or would silently replace a nonstandard loss.

    replaced: names of the trainer methods that will be replaced.
    """
    for reason in _reasons(trainer, replaced):
        raise InputError(reason)


def _reasons(trainer: Any, replaced: Sequence[str]) -> Iterator[str]:
    args, model = trainer.args, trainer.model
    if any(name in vars(trainer) for name in replaced):
        yield "the trainer's training is reweighted, or its methods replaced, already; make a new trainer"
    if trainer.train_dataset is None:
        yield "the trainer has no train_dataset; give it one before calling reweight"
    yield from _of_the_rows(trainer)
    yield from _of_the_loss(trainer)
    kind = trainer.accelerator.distributed_type.value
    if kind not in _WHOLE_MODEL or trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        yield (
            f"no rank has the whole model under {kind}, which the losses are taken from; train with DDP (torchrun) and "
            "gradient checkpointing or LoRA, or with `curate finetune`, which shards"
        )
    if trainer.get_tp_size() * trainer.get_cp_size() * trainer.get_sp_size() > 1:
        yield "tensor, context and sequence parallelism cut up rows or the model; train with DDP (torchrun) alone"
    if args.n_gpu > 1:
        yield "the trainer would use nn.DataParallel; start it with torchrun, or make one GPU visible"
    if trainer.is_model_parallel:
        yield "the model is spread over several devices; load it on one, without device_map"
    if args.torch_compile:
        yield "torch_compile compiles the model's own forward pass, which is not the one used here; turn it off"
    if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        yield "prompt learning adds tokens that have no row; use LoRA, or train all weights"


def _of_the_rows(trainer: Any) -> Iterator[str]:
    args, dataset = trainer.args, trainer.train_dataset
    if getattr(args, "packing", False) or getattr(trainer, "padding_free", False):
        yield "the loss of an example in a pack is unknown; set packing=False and padding_free=False"
    if has_positions(dataset):
        if len(dataset) == 0:
            yield "the trainer's train_dataset is empty; give it rows"
        if not isinstance(dataset[0], Mapping):
            yield f"rows of the train_dataset are {type(dataset[0]).__name__}; let them be mappings by field name"


def _of_the_loss(trainer: Any) -> Iterator[str]:
    args = trainer.args
    if trainer.compute_loss_func is not None:
        yield "compute_loss_func and a reweighter cannot both decide the loss; leave one of them out"
    if trainer.label_smoother is not None:
        yield "label smoothing is not part of the weighted loss; set label_smoothing_factor=0"
    if getattr(args, "loss_type", None) == "dft":
        yield "loss_type='dft' weights tokens by itself; set loss_type='nll'"
    text = trainer.model.config.get_text_config()
    if getattr(text, "output_router_logits", False):
        yield (
            "the load-balancing loss of a mixture of experts is not part of the weighted loss; set "
            "router_aux_loss_coef=0 (SFTConfig) or output_router_logits=False in the model's config"
        )
