"""Functional SAM against the derivative written out, and the identities that define it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch.func import functional_call, vjp

from curate.models.forward import logit_map
from curate.optimizers import SAM, AdamW, FunctionalSAM, Muon
from curate.training.config import TrainConfig
from curate.training.loop import train
from curate.training.reweighting import BatchOutputs, OptimizerBatch
from curate.training.row_order import RowOrder
from tests.fixtures.models import random_tokens, tiny_model
from tests.fixtures.reweighting import Softmax, flat

LENGTHS = np.random.default_rng(5).integers((1, 2), (20, 24), (41, 2)).tolist()


TOKENS = random_tokens(LENGTHS, invalid=[3, 17])


RHO = 0.5


class Descent:
    """Plain gradient descent, so that a step shows its gradient."""

    def build(self, model: torch.nn.Module, *, learning_rate: float, weight_decay: float) -> Any:
        parameters = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(parameters, lr=learning_rate)
        optimizer.param_groups[0]["initial_lr"] = learning_rate
        return optimizer


class Capped(torch.nn.Linear):
    """A head that computes what no plain linear layer does."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return 3 * torch.tanh(super().forward(hidden) / 3)


def capped(family: str = "llama") -> Any:
    model = tiny_model(family)
    model.lm_head.__class__ = Capped
    return model


def adapted() -> Any:
    """LoRA on the attention and on the head, neither at its start, where half of each gradient is zero."""
    peft = pytest.importorskip("peft")
    model = tiny_model("llama")
    peft.inject_adapter_in_model(peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj", "lm_head"]), model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.2, generator=torch.Generator().manual_seed(len(name)))
    return model


def dropping(model: Any) -> Any:
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.3
    return model


def config(**changes: Any) -> TrainConfig:
    settings = {"steps": 3, "batch_size": 8, "learning_rate": 1e-2, "precision": "float32", "warmup_ratio": 0.0}
    return TrainConfig(**{**settings, **changes})


def run(model: Any, reweighter: Any = None, **changes: Any) -> tuple[list[float], torch.Tensor]:
    """Losses and final weights."""
    settings = config(**changes)
    *_, last = train(model, TOKENS, settings, checkpoint_steps=[settings.steps], reweighter=reweighter)
    return last.losses, flat(model)


def gradient(model: Any, optimizer: Any, reweighter: Any = None, **changes: Any) -> torch.Tensor:
    """What one step of descent at rate 1 takes off the weights, in float64."""
    before = flat(model).double()
    options = {"learning_rate": 1.0, "max_grad_norm": None, "steps": 1} | changes
    _, after = run(model, reweighter, optimizer=optimizer, **options)
    return before - after.double()


@dataclass(frozen=True)
class Gradients:
    """Of the first batch: J^T dL/dz with J and dL/dz at w, J at w + eps only, and both at w + eps."""

    plain: torch.Tensor
    functional: torch.Tensor
    sam: torch.Tensor


def oracle(model: Any, weights: torch.Tensor | None = None) -> Gradients:
    """Row by row through the model's own logits, in float64."""
    model = copy.deepcopy(model).double()
    here = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    rows = RowOrder(np.flatnonzero(TOKENS.valid), 8, 0).batch(0)
    shares = (torch.ones(len(rows)) if weights is None else weights) / int(TOKENS.completion_tokens[rows].sum())

    def pulled(row: int, at: dict[str, torch.Tensor]) -> tuple[torch.Tensor, Any]:
        span = slice(TOKENS.offsets[row], TOKENS.offsets[row + 1])
        ids = torch.from_numpy(TOKENS.ids[span].astype(np.int64))[None]
        z, pull = vjp(lambda at: functional_call(model, at, (), {"input_ids": ids, "use_cache": False}).logits[0], at)
        return z.detach()[:-1], lambda cotangent: pull(torch.nn.functional.pad(cotangent, (0, 0, 0, 1)))[0]

    def cotangent(row: int, z: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        span = slice(TOKENS.offsets[row] + 1, TOKENS.offsets[row + 1])
        target = torch.from_numpy(TOKENS.ids[span].astype(np.int64))
        mask = torch.from_numpy(TOKENS.supervised[span])[:, None]
        return share * mask * (z.softmax(-1) - torch.nn.functional.one_hot(target, z.shape[-1]))

    def added(parts: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        return {name: torch.stack([part[name] for part in parts]).sum(0) for name in here}

    cotangents, parts = [], []
    for row, share in zip(rows, shares, strict=True):
        z, pull = pulled(row, here)
        cotangents.append(cotangent(row, z, share))
        parts.append(pull(cotangents[-1]))
    plain = added(parts)
    norm = torch.cat([g.flatten() for g in plain.values()]).norm()
    uphill = {name: here[name] + RHO * plain[name] / norm for name in here}
    functional, sam = [], []
    for row, share, anchored in zip(rows, shares, cotangents, strict=True):
        z, pull = pulled(row, uphill)
        functional.append(pull(anchored))
        sam.append(pull(cotangent(row, z, share)))

    def whole(found: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([found.get(name, 0 * p).flatten() for name, p in model.named_parameters()]).detach()

    return Gradients(whole(plain), whole(added(functional)), whole(added(sam)))


def distance(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first - second).norm() / second.norm())


MODELS = {
    family: lambda family=family: tiny_model(family)
    for family in ("llama", "llama_tied", "gpt_neox", "gemma2", "phi", "cohere", "granite", "gpt2")
} | {"another head": capped, "lora on the head": adapted}


# -- what it computes ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", MODELS)
def test_equals_the_derivative_written_out(name: str) -> None:
    model = MODELS[name]()
    assert (logit_map(model) is None) == (name in ("another head", "lora on the head"))
    expected = oracle(model)
    assert distance(gradient(MODELS[name](), FunctionalSAM(base=Descent(), rho=RHO)), expected.functional) < 1e-4
    # ... and is neither the gradient at the weights nor SAM's.
    assert distance(expected.functional, expected.plain) > 0.01
    assert distance(expected.functional, expected.sam) > 0.01


def test_the_oracle_agrees_with_sam_and_with_descent() -> None:
    expected = oracle(tiny_model())
    assert distance(gradient(tiny_model(), SAM(base=Descent(), rho=RHO)), expected.sam) < 1e-4
    assert distance(gradient(tiny_model(), Descent()), expected.plain) < 1e-4


@pytest.mark.parametrize("make", [tiny_model, capped])
def test_weights_of_rows_count_in_both_gradients(make: Any) -> None:
    seen: list[torch.Tensor] = []

    class Recording(Softmax):
        def weights(self, batch: OptimizerBatch, outputs: BatchOutputs) -> torch.Tensor:
            seen.append(super().weights(batch, outputs))
            return seen[-1]

    found = gradient(make(), FunctionalSAM(base=Descent(), rho=RHO), Recording())
    assert len(seen) == 1
    assert distance(found, oracle(make(), seen[0]).functional) < 1e-4
    assert distance(found, oracle(make()).functional) > 0.01


@pytest.mark.parametrize("make", [tiny_model, capped])
@pytest.mark.parametrize("preconditioned", [False, True])
def test_without_radius_it_is_its_base_bit_for_bit(make: Any, preconditioned: bool) -> None:
    # With dropout: the second pass has to draw what the first drew.
    sharp = FunctionalSAM(rho=0.0, preconditioned=preconditioned)
    losses, weights = run(dropping(make()), optimizer=sharp, micro_batch_tokens=150)
    expected, plain = run(dropping(make()), optimizer=AdamW(), micro_batch_tokens=150)
    if make is tiny_model:
        assert losses == expected
        assert torch.equal(weights, plain)
    else:  # the linear form of the loss rounds differently
        assert np.allclose(losses, expected, rtol=1e-5)
        assert distance(weights - flat(make()), plain - flat(make())) < 1e-3


def test_where_logits_are_linear_in_what_is_trained_it_is_its_base() -> None:
    # The logits' derivative is the same everywhere, and the loss's is taken at the weights; SAM differs.
    def head_only() -> Any:
        model = tiny_model().requires_grad_(False)
        model.lm_head.requires_grad_(True)
        return model

    plain = gradient(head_only(), Descent())
    assert distance(gradient(head_only(), FunctionalSAM(base=Descent(), rho=RHO)), plain) < 1e-5
    assert distance(gradient(head_only(), SAM(base=Descent(), rho=RHO)), plain) > 0.01


def test_what_it_leaves_out_of_sam_is_the_curvature_of_the_loss_in_the_logits() -> None:
    # To first order in rho SAM adds (G + N) eps to the gradient, with G = J^T (d2L/dz2) J positive, functional SAM
    # only N eps: it differs from SAM by something that goes up along eps.
    plain = gradient(tiny_model(), Descent())
    left_out = gradient(tiny_model(), SAM(base=Descent(), rho=0.02)) - gradient(
        tiny_model(), FunctionalSAM(base=Descent(), rho=0.02)
    )
    assert float(left_out @ plain) > 0.1 * float(left_out.norm() * plain.norm())


# -- what cannot change it -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [tiny_model, capped])
def test_micro_batches_do_not_change_the_result(make: Any) -> None:
    whole = gradient(make(), FunctionalSAM(base=Descent(), rho=RHO))
    for budget in (1, 100):
        parts = gradient(make(), FunctionalSAM(base=Descent(), rho=RHO), micro_batch_tokens=budget)
        assert distance(parts, whole) < 1e-5


def test_gradient_checkpointing_does_not_change_the_result() -> None:
    whole = gradient(dropping(tiny_model()), FunctionalSAM(base=Descent(), rho=RHO))
    again = gradient(dropping(tiny_model()), FunctionalSAM(base=Descent(), rho=RHO), gradient_checkpointing=True)
    assert distance(again, whole) < 1e-6


def test_under_autocast_it_stays_near_and_keeps_float32_weights() -> None:
    model = tiny_model()
    exact = gradient(tiny_model(), FunctionalSAM(base=Descent(), rho=RHO))
    rounded = gradient(model, FunctionalSAM(base=Descent(), rho=RHO), precision="bfloat16")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert 0 < distance(rounded, exact) < 0.05


@pytest.mark.parametrize("make", [tiny_model, capped])
def test_weights_come_back_bit_for_bit(make: Any) -> None:
    class Still(Descent):
        def build(self, model: torch.nn.Module, *, learning_rate: float, weight_decay: float) -> Any:
            return super().build(model, learning_rate=0.0, weight_decay=weight_decay)

    model = make()
    with torch.no_grad():
        model.lm_head.weight.mul_(2.0**12 / 3)  # so that adding and subtracting eps would lose bits
    before = flat(model).clone()
    losses, after = run(model, optimizer=FunctionalSAM(base=Still(), rho=RHO))
    assert len(losses) == 3
    assert torch.equal(after, before)


class Scripted:
    """A closure of given gradients, and the weights it was called at."""

    def __init__(self, model: torch.nn.Module, gradients: list[list[torch.Tensor]], fails: bool = False) -> None:
        self.parameters, self.gradients, self.fails = list(model.parameters()), iter(gradients), fails
        self.at: list[torch.Tensor] = []
        self.anchors: list[torch.Tensor] = []

    def __call__(self, *, anchor: bool = False) -> float:
        self.at.append(torch.cat([p.detach().flatten() for p in self.parameters]))
        for parameter, value in zip(self.parameters, next(self.gradients), strict=True):
            parameter.grad = value.clone()
        return 1.0

    def anchored(self, weights: Mapping[torch.nn.Parameter, torch.Tensor]) -> float:
        self.anchors.append(torch.cat([weights[p].flatten() for p in self.parameters]))
        if self.fails:
            raise RuntimeError("second gradient")
        return self()


def test_weights_come_back_when_the_second_gradient_fails() -> None:
    model = torch.nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.mul_(1e4)
    before = flat(model)
    closure = Scripted(model, [[torch.ones(2, 3), torch.ones(2)]], fails=True)
    optimizer = FunctionalSAM(rho=RHO).build(model, learning_rate=0.1, weight_decay=0.0)
    with pytest.raises(RuntimeError, match="second gradient"):
        optimizer.step(closure)
    assert torch.equal(flat(model), before)


# -- the preconditioned form ---------------------------------------------------------------------------------------
def test_the_preconditioned_ascent_divides_by_the_corrected_second_moment() -> None:
    draw = torch.Generator().manual_seed(0)
    model = torch.nn.Linear(3, 2)
    gradients = [[torch.randn(p.shape, generator=draw) for p in model.parameters()] for _ in range(6)]
    closure = Scripted(model, gradients)
    optimizer = FunctionalSAM(rho=RHO, preconditioned=True, base=AdamW(betas=(0.9, 0.99))).build(
        model, learning_rate=0.1, weight_decay=0.0
    )
    moment = torch.zeros(8)
    for step in range(3):
        assert optimizer.step(closure) == 1.0
        here, uphill = closure.at[2 * step], closure.at[2 * step + 1]
        assert torch.equal(closure.anchors[step], here)
        first, second = (torch.cat([g.flatten() for g in gradients[2 * step + i]]) for i in (0, 1))
        corrected = moment / (1 - 0.99**step) if step else torch.ones(8)
        direction = first / (corrected.sqrt() + 1e-6)
        torch.testing.assert_close(uphill - here, RHO * direction / direction.norm(), rtol=1e-4, atol=1e-6)
        moment = 0.99 * moment + 0.01 * second**2


def test_parameters_of_muon_are_not_preconditioned() -> None:
    class Layers(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList([torch.nn.Linear(3, 2)])

    draw = torch.Generator().manual_seed(0)
    model = Layers()
    gradients = [[torch.randn(2, 3, generator=draw), torch.randn(2, generator=draw)] for _ in range(4)]
    closure = Scripted(model, gradients)
    optimizer = FunctionalSAM(rho=RHO, preconditioned=True, base=Muon()).build(
        model, learning_rate=0.1, weight_decay=0.0
    )
    optimizer.step(closure)
    optimizer.step(closure)
    matrix, bias = gradients[2]
    # After one step the corrected second moment of AdamW is the square of that step's gradient.
    direction = torch.cat([matrix.flatten(), bias / (gradients[1][1].abs() + 1e-6)])
    torch.testing.assert_close(closure.at[3] - closure.at[2], RHO * direction / direction.norm(), rtol=1e-4, atol=1e-6)
