"""Muon: what it orthogonalizes, by how much it moves, and which parameters it leaves to AdamW."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curate.errors import InputError
from curate.optimizers import SAM, AdamW, Muon
from curate.optimizers.muon import MuonWithAdamW
from curate.training.config import TrainConfig
from curate.training.loop import train
from tests.fixtures.models import random_tokens, tiny_model

LENGTHS = np.random.default_rng(5).integers((1, 2), (20, 24), (41, 2)).tolist()
RATE = 0.01


class Layers(torch.nn.Module):
    """Linear layers (inputs, outputs) in a list, and a gradient of one's own choice for each."""

    def __init__(self, *shapes: tuple[int, int], seed: int = 0) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(i, o, bias=False) for i, o in shapes)
        self.draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=self.draw))

    def gradient(self) -> list[torch.Tensor]:
        for parameter in self.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=self.draw)
        return [p.grad.clone() for p in self.parameters() if p.grad is not None]


def built(optimizer: Muon, model: torch.nn.Module, weight_decay: float = 0.0) -> MuonWithAdamW:
    return optimizer.build(model, learning_rate=RATE, weight_decay=weight_decay)


def train_config(**changes: Any) -> TrainConfig:
    settings = {"steps": 4, "batch_size": 8, "learning_rate": RATE, "precision": "float32"}
    return TrainConfig(**{**settings, **changes})


def trained(model: Any, **changes: Any) -> tuple[list[float], torch.Tensor]:
    config = train_config(**changes)
    *_, last = train(model, random_tokens(LENGTHS, invalid=[3, 17]), config, checkpoint_steps=[config.steps])
    return last.losses, torch.cat([p.detach().flatten() for p in model.parameters()])


def orthogonalized(u: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """The quintic Newton-Schulz iteration, in bfloat16, written down again."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = (u / (u.norm() + 1e-7)).bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if tall else x).float()


# -- the update ----------------------------------------------------------------------------------------------------


def test_an_update_has_singular_values_near_one_times_the_rate() -> None:
    model = Layers((96, 32), (32, 96), (64, 48))
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = built(Muon(learning_rate=RATE), model)
    model.gradient()
    optimizer.step(lambda: 0.0)
    for old, new in zip(before, model.parameters(), strict=True):
        scale = max(1.0, new.shape[0] / new.shape[1]) ** 0.5
        values = torch.linalg.svdvals((old - new.detach()).double()) / (RATE * scale)
        assert float(values.min()) > 0.5
        assert float(values.max()) < 1.5


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
def test_follows_an_oracle_over_several_steps(nesterov: bool, adjust: Any) -> None:
    shapes = ((24, 40), (40, 24), (40, 40))
    model, beta, decay = Layers(*shapes), 0.9, 0.5
    start = [p.detach().clone() for p in model.parameters()]
    optimizer = built(
        Muon(learning_rate=RATE, momentum=beta, nesterov=nesterov, adjust=adjust, weight_decay=decay), model
    )
    expected, momenta = [p.clone() for p in start], [torch.zeros_like(p) for p in start]
    for _ in range(4):
        for i, g in enumerate(model.gradient()):
            momenta[i] = beta * momenta[i] + (1 - beta) * g
            u = (1 - beta) * g + beta * momenta[i] if nesterov else momenta[i]
            rows, columns = g.shape
            factor = max(1, rows / columns) ** 0.5 if adjust == "original" else 0.2 * max(rows, columns) ** 0.5
            expected[i] = expected[i] * (1 - RATE * decay) - RATE * factor * orthogonalized(u)
        optimizer.step(lambda: 0.0)
    for old, found, oracle in zip(start, model.parameters(), expected, strict=True):
        assert float((found.detach() - oracle).norm()) < 0.02 * float((oracle - old).norm())


def test_match_rms_gives_updates_the_size_of_adamw_at_its_rate() -> None:
    model = Layers((64, 32), (32, 256))
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = built(Muon(adjust="match_rms_adamw"), model)
    model.gradient()
    optimizer.step(lambda: 0.0)
    for old, new in zip(before, model.parameters(), strict=True):
        assert 0.1 * RATE < float((new.detach() - old).square().mean().sqrt()) < 0.3 * RATE


def test_a_matrix_stored_transposed_moves_like_any_other() -> None:
    from transformers.pytorch_utils import Conv1D

    for adjust in ("original", "match_rms_adamw"):
        model, other = Layers((24, 60), (60, 24)), Layers()
        other.layers.extend(Conv1D(o, i) for i, o in ((24, 60), (60, 24)))
        weights = [module.weight for module in other.layers]
        with torch.no_grad():
            for theirs, ours in zip(weights, model.parameters(), strict=True):
                theirs.copy_(ours.T)
        muon = Muon(adjust=adjust, learning_rate=RATE, weight_decay=0.3)
        first, second = built(muon, model), built(muon, other)
        gradients = model.gradient()
        for theirs, gradient in zip(weights, gradients, strict=True):
            theirs.grad = gradient.T.contiguous()
        first.step(lambda: 0.0)
        second.step(lambda: 0.0)
        for theirs, ours in zip(weights, model.parameters(), strict=True):
            torch.testing.assert_close(theirs.detach().T, ours.detach(), rtol=0, atol=2e-4)


def test_no_gradient_no_move_and_a_zero_gradient_only_decays() -> None:
    model = Layers((24, 32), (24, 32))
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = built(Muon(learning_rate=RATE, weight_decay=0.5), model)
    first, second = model.parameters()
    second.grad = torch.zeros_like(second)
    optimizer.step(lambda: 0.0)
    assert torch.equal(first.detach(), before[0])
    torch.testing.assert_close(second.detach(), before[1] * (1 - RATE * 0.5))


# -- which parameters ----------------------------------------------------------------------------------------------


def split_of(model: Any, **options: Any) -> tuple[set[str], set[str]]:
    """Names that went to Muon and to AdamW."""
    optimizer = built(Muon(**options), model)
    muon, adamw = optimizer.parts
    named = [{name for group in part.param_groups for name in group["param_names"]} for part in (muon, adamw)]
    assert isinstance(muon, torch.optim.Muon)
    assert isinstance(adamw, torch.optim.AdamW)
    assert not named[0] & named[1]
    assert named[0] | named[1] == {name for name, p in model.named_parameters() if p.requires_grad}
    return named[0], named[1]


GATED = {f"mlp.{x}_proj" for x in ("gate", "up", "down")} | {f"self_attn.{x}_proj" for x in "qkvo"}
MATRICES = {
    "llama": ("model.layers", GATED),
    "llama_tied": ("model.layers", GATED),
    "gemma3": ("model.layers", GATED),
    "qwen2": ("model.layers", GATED),
    "gpt_neox": (
        "gpt_neox.layers",
        {"attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"},
    ),
    "gpt2": ("transformer.h", {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"}),
}


@pytest.mark.parametrize("family", MATRICES)
def test_hidden_matrices_go_to_muon_and_everything_else_to_adamw(family: str) -> None:
    prefix, names = MATRICES[family]
    found, _ = split_of(tiny_model(family))
    assert found == {f"{prefix}.{layer}.{name}.weight" for layer in range(2) for name in names}


def test_lora_factors_go_to_muon_and_frozen_weights_nowhere() -> None:
    peft = pytest.importorskip("peft")
    model = tiny_model()
    peft.inject_adapter_in_model(peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj", "lm_head"]), model)
    found, rest = split_of(model)
    factors = {
        f"model.layers.{i}.self_attn.{x}_proj.lora_{y}.default.weight" for i in (0, 1) for x in "qv" for y in "AB"
    }
    assert found == factors
    assert rest == {"lm_head.lora_A.default.weight", "lm_head.lora_B.default.weight"}


def test_rates_and_decays_are_its_own_for_the_matrices_and_those_of_training_for_the_rest() -> None:
    def rates(optimizer: Muon) -> list[tuple[float, float]]:
        groups = built(optimizer, tiny_model(), weight_decay=0.1).param_groups
        return [(group["initial_lr"], group["weight_decay"]) for group in groups]

    assert rates(Muon()) == [(2e-4, 0.0), (RATE, 0.1), (RATE, 0.0)]
    assert rates(Muon(adjust="match_rms_adamw")) == [(RATE, 0.0), (RATE, 0.1), (RATE, 0.0)]
    own = Muon(learning_rate=0.3, weight_decay=0.2, adamw=AdamW(learning_rate=0.4, weight_decay=0.5))
    assert rates(own) == [(0.3, 0.2), (0.4, 0.5), (0.4, 0.0)]


def test_the_schedule_governs_all_groups() -> None:
    class Watching(Muon):
        def build(self, model: Any, **rates: Any) -> MuonWithAdamW:
            seen.append(super().build(model, **rates))
            return seen[-1]

    seen: list[MuonWithAdamW] = []
    trained(tiny_model(), optimizer=Watching(), steps=3, horizon_steps=6, schedule="linear", warmup_ratio=0.0)
    factors = [group["lr"] / group["initial_lr"] for group in seen[0].param_groups]
    assert factors == pytest.approx([2 / 3] * 3)
    assert [group["lr"] for part in seen[0].parts for group in part.param_groups] == pytest.approx(
        [2e-4 * 2 / 3, RATE * 2 / 3, RATE * 2 / 3]
    )


def test_a_model_without_trainable_matrices_is_refused() -> None:
    model = tiny_model().requires_grad_(False)
    model.get_output_embeddings().requires_grad_(True)
    with pytest.raises(InputError, match="no trainable matrix in the layers of the model; use AdamW"):
        built(Muon(), model)


# -- in the training loop ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama_tied", "gpt2"])
def test_training_goes_down_and_moves_everything(family: str) -> None:
    model = tiny_model(family)
    losses, _ = trained(model, optimizer=Muon(learning_rate=0.02), steps=12, max_grad_norm=None)
    assert losses[-1] < losses[0] - 0.1
    for before, after in zip(tiny_model(family).parameters(), model.parameters(), strict=True):
        assert not torch.equal(before, after)


def test_saved_state_goes_by_names(tmp_path: Path) -> None:
    from safetensors import safe_open

    tokens = random_tokens(LENGTHS, invalid=[3, 17])
    for checkpoint in train(tiny_model(), tokens, train_config(optimizer=Muon()), checkpoint_steps=[2]):
        checkpoint.save(tmp_path)
    with safe_open(tmp_path / "optimizer.safetensors", "pt") as file:
        kept = set(file.keys())
    assert "model.layers.1.mlp.up_proj.weight/momentum_buffer" in kept
    assert "model.layers.1.mlp.up_proj.weight/exp_avg_sq" not in kept
    assert {"lm_head.weight/exp_avg_sq", "model.norm.weight/exp_avg", "model.norm.weight/step"} <= kept


def test_sam_around_muon_without_radius_is_muon_and_with_one_is_not() -> None:
    plain = trained(tiny_model(), optimizer=Muon(), warmup_ratio=0.0)
    flat = trained(tiny_model(), optimizer=SAM(base=Muon(), rho=0.0), warmup_ratio=0.0)
    wide = trained(tiny_model(), optimizer=SAM(base=Muon(), rho=0.3), warmup_ratio=0.0)
    assert plain[0] == flat[0]
    assert torch.equal(plain[1], flat[1])
    assert wide[0][0] == plain[0][0]
    assert not torch.equal(wide[1], plain[1])
