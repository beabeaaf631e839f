"""Trainers, batches and models that weights cannot be given to are refused by name."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from curate.errors import InputError
from curate.reweighters import DynamicLoss
from curate.reweighters.trainers import reweight
from tests.fixtures.trainers import model, others_may_warn, sft, trainer

# -- what cannot be ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"label_smoothing_factor": 0.1},
            "label smoothing is not part of the weighted loss; set label_smoothing",
        ),
        ({"compute_loss_func": lambda *_, **__: 0}, "compute_loss_func and a reweighter .* leave one of them out"),
        ({"torch_compile": True}, "torch_compile .* turn it off"),
        ({"data": [(1, 2)]}, "rows of the train_dataset are tuple; let them be mappings"),
        ({"data": []}, "train_dataset is empty; give it rows"),
    ],
)
def test_trainers_with_another_loss_or_model_are_refused(options: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        reweight(trainer(tmp_path, **options), DynamicLoss())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"packing": True}, "in a pack .* set packing=False and padding_free=False"),
        ({"padding_free": True, "max_length": None}, "in a pack .* set packing=False and padding_free=False"),
        ({"loss_type": "dft"}, "loss_type='dft' weights tokens by itself"),
    ],
    ids=["packing", "padding_free", "dft"],
)
def test_packs_and_token_weights_are_refused(options: Any, message: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ready = sft(tmp_path, **options)
    with pytest.raises(InputError, match=message):
        reweight(ready, DynamicLoss())


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("is_fsdp_enabled", True, "no rank has the whole model"),
        ("is_deepspeed_enabled", True, "no rank has the whole model"),
        ("is_model_parallel", True, "spread over several devices"),
        ("get_tp_size", lambda: 2, "tensor, context and sequence parallelism"),
        ("train_dataset", None, "has no train_dataset"),
    ],
)
def test_trainers_without_whole_model_or_rows_are_refused(place: str, value: Any, message: str, tmp_path: Path) -> None:
    ready = trainer(tmp_path)
    setattr(ready, place, value)
    with pytest.raises(InputError, match=message):
        reweight(ready, DynamicLoss())


def test_a_mixture_of_experts_and_prompt_learning_are_refused(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    ready = trainer(tmp_path)
    ready.model.config.output_router_logits = True
    with pytest.raises(InputError, match=r"load-balancing loss .* set router_aux_loss_coef=0"):
        reweight(ready, DynamicLoss())
    with others_may_warn():
        prompted = peft.get_peft_model(model(), peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(InputError, match="prompt learning adds tokens that have no row; use LoRA"):
        reweight(trainer(tmp_path, of=prompted), DynamicLoss())


def test_a_trainer_takes_one_reweighter(tmp_path: Path) -> None:
    ready = trainer(tmp_path)
    reweight(ready, DynamicLoss())
    with pytest.raises(InputError, match="reweighted, or its methods replaced, already; make a new trainer"):
        reweight(ready, DynamicLoss())
