"""The training loop: what it computes (against hand-written loops) and what cannot change it."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from curate.errors import DivergenceError, InputError
from curate.models.modes import state_tensors
from curate.optimizers import SAM, AdamW
from curate.tokenization.tokens import Tokens
from curate.training.loop import train
from curate.training.reweighting import BatchOutputs, OptimizerBatch
from curate.training.row_order import RowOrder
from tests.fixtures.models import tiny_model
from tests.fixtures.training import Ones, config, dropping, run, weights


def row_loss(model: Any, tokens: Tokens, row: int) -> torch.Tensor:
    """Summed loss of one row, by transformers alone."""
    span = slice(tokens.offsets[row], tokens.offsets[row + 1])
    ids = torch.from_numpy(tokens.ids[span].astype(np.int64))[None]
    labels = torch.where(torch.from_numpy(tokens.supervised[span])[None], ids, -100)
    loss: torch.Tensor = model(input_ids=ids, labels=labels).loss * int((labels != -100).sum())
    return loss


class Recording:
    """Weights that depend on the losses, and a record of what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[torch.Tensor, torch.Tensor, int]] = []

    def weights(self, batch: OptimizerBatch, outputs: BatchOutputs) -> torch.Tensor:
        self.asked.append((outputs.losses.clone(), batch.tokens.clone(), batch.step))
        return outputs.losses.softmax(0) * len(outputs.losses)


def test_only_valid_rows_are_trained_on(tokens: Tokens) -> None:
    spoilt = dataclasses.replace(tokens, ids=tokens.ids.copy())
    for row in np.flatnonzero(~tokens.valid):
        spoilt.ids[tokens.offsets[row] : tokens.offsets[row + 1]] = 10**6  # would be out of the vocabulary
    assert run(tiny_model(), spoilt, config(steps=8)) == run(tiny_model(), tokens, config(steps=8))


# -- what a step computes ----------------------------------------------------------------------------------------
def test_equals_a_hand_written_loop_of_transformers_losses_and_torch_adamw(tokens: Tokens) -> None:
    settings = config(weight_decay=0.1)
    model, oracle = tiny_model(), tiny_model()
    losses = run(model, tokens, settings)

    decayed = [p for p in oracle.parameters() if p.ndim >= 2]
    plain = [p for p in oracle.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, foreach=False, fused=False)
    scheduler = transformers.get_cosine_schedule_with_warmup(optimizer, 1, 6)
    order = RowOrder(np.flatnonzero(tokens.valid), 8, 0)
    expected = []
    for step in range(6):
        total, count = torch.zeros(()), 0
        for row in order.batch(step):
            total, count = total + row_loss(oracle, tokens, row), count + int(tokens.completion_tokens[row])
        optimizer.zero_grad()
        (total / count).backward()
        torch.nn.utils.clip_grad_norm_(oracle.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        expected.append(float(total.detach() / count))
    np.testing.assert_allclose(losses, expected, rtol=2e-5)
    # Adam divides by tiny second moments, so single weights may differ by a share of the rate, but few do.
    moved = (weights(oracle) - weights(tiny_model())).norm()
    assert (weights(model) - weights(oracle)).norm() < 2e-3 * moved


def gradient_of(tokens: Tokens, **changes: Any) -> torch.Tensor:
    """The gradient of the first optimizer batch, as the optimizer finds it."""
    found: list[torch.Tensor] = []

    class Looking:
        def __init__(self, model: Any) -> None:
            self.parameters = list(model.parameters())
            self.param_groups: list[dict[str, Any]] = []

        def step(self, closure: Any) -> None:
            closure()
            found.append(torch.cat([p.grad.flatten() for p in self.parameters]).double())

    class Look:
        def build(self, model: Any, *, learning_rate: float, weight_decay: float) -> Looking:
            return Looking(model)

    run(tiny_model(), tokens, config(steps=1, optimizer=Look(), **changes))
    return found[0]


def test_gradient_is_that_of_the_mean_over_the_tokens_of_the_whole_batch(tokens: Tokens) -> None:
    oracle = tiny_model()
    total, count = torch.zeros(()), 0
    for row in RowOrder(np.flatnonzero(tokens.valid), 8, 0).batch(0):
        total, count = total + row_loss(oracle, tokens, row), count + int(tokens.completion_tokens[row])
    (total / count).backward()
    expected = torch.cat([p.grad.flatten() for p in oracle.parameters()]).double()
    for budget in (None, 100, 1):
        found = gradient_of(tokens, micro_batch_tokens=budget, max_grad_norm=None)
        assert float((found - expected).norm() / expected.norm()) < 1e-6


def test_gradient_is_clipped_by_its_norm(tokens: Tokens) -> None:
    whole = gradient_of(tokens, max_grad_norm=None)
    assert float(whole.norm()) > 0.25
    torch.testing.assert_close(gradient_of(tokens, max_grad_norm=0.25), whole * (0.25 / whole.norm()))
    assert torch.equal(gradient_of(tokens, max_grad_norm=1e6), whole)


def test_adamw_moves_bfloat16_weights_at_a_low_rate(tokens: Tokens) -> None:
    rate, steps = 2e-5, 20
    settings = config(steps=steps, learning_rate=rate, schedule="constant", warmup_ratio=0.0)
    model = tiny_model().to(torch.bfloat16)
    before = weights(model).float()
    run(model, tokens, settings)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    # Adam moves a weight by about the rate a step; in bfloat16 a weight of 0.15 would take steps of 1e-3 or none.
    moved = (weights(model) - before).abs()
    assert 0.2 * rate * steps < float(moved.mean()) < rate * steps * 1.01
    assert float((moved > 0).float().mean()) > 0.9


def test_tied_embeddings_stay_tied_and_move_once(tokens: Tokens) -> None:
    model = tiny_model("llama_tied").to(torch.bfloat16)
    run(model, tokens, config())
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert "lm_head.weight" not in state_tensors(model)


def test_frozen_parameters_stay(tokens: Tokens) -> None:
    model = tiny_model()
    model.get_input_embeddings().weight.requires_grad_(False)
    before = model.get_input_embeddings().weight.clone()
    losses = run(model, tokens, config())
    assert torch.equal(model.get_input_embeddings().weight, before)
    assert losses[-1] != losses[0]


def test_autocast_keeps_float32_weights_and_agrees_roughly(tokens: Tokens) -> None:
    exact = run(tiny_model("llama_tied"), tokens, config(micro_batch_tokens=150))
    model = tiny_model("llama_tied")
    rounded = run(model, tokens, config(precision="bfloat16", micro_batch_tokens=150))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert rounded != exact
    np.testing.assert_allclose(rounded, exact, atol=0.05)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gradient_checkpointing_changes_nothing(tokens: Tokens, precision: str) -> None:
    losses, calls = [], []
    for wanted in (False, True):
        model = dropping()
        seen: list[bool] = []
        model.model.layers[0].mlp.register_forward_pre_hook(
            lambda module, _, seen=seen: seen.append(module.training and torch.is_grad_enabled())
        )
        losses.append(run(model, tokens, config(precision=precision, gradient_checkpointing=wanted)))
        calls.append(sum(seen))
        assert not any(module.gradient_checkpointing for module in model.model.layers)
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert calls[1] == 2 * calls[0]


# -- what cannot change a run ------------------------------------------------------------------------------------
def test_same_seed_twice_is_bitwise_equal_and_another_seed_is_not(tokens: Tokens) -> None:
    first, second, third = dropping(), dropping(), dropping()
    assert run(first, tokens, config()) == run(second, tokens, config())
    assert torch.equal(weights(first), weights(second))
    run(third, tokens, config(seed=1))
    assert not torch.equal(weights(first), weights(third))


def test_dropout_is_on_while_training(tokens: Tokens) -> None:
    assert run(dropping(), tokens, config()) != run(tiny_model("llama_tied"), tokens, config())


def test_measuring_does_not_change_the_run(tokens: Tokens) -> None:
    plain, measured = dropping(), dropping()
    losses = run(plain, tokens, config())
    random.seed(11)
    outside = random.getstate()
    for checkpoint in train(measured, tokens, config(), checkpoint_steps=range(7)):
        model = checkpoint.model
        assert not model.training
        assert not any(module.training for module in model.modules())
        random.seed(checkpoint.step)
        np.random.seed(checkpoint.step)  # noqa: NPY002
        torch.manual_seed(checkpoint.step)
        torch.rand(3)
        torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
        model.train()
        model.lm_head.weight.requires_grad_(False)
        ids = torch.arange(3, 20)[None]
        model(input_ids=ids, labels=ids).loss.backward()
    assert checkpoint.losses == losses
    assert torch.equal(weights(plain), weights(measured))
    assert random.getstate() == outside
    assert all(p.requires_grad for p in measured.parameters())
    assert not measured.training


def test_random_state_of_the_caller_comes_back(tokens: Tokens) -> None:
    torch.manual_seed(123)
    expected = torch.rand(4)
    torch.manual_seed(123)
    run(dropping(), tokens, config())
    assert torch.equal(torch.rand(4), expected)


def test_weights_that_are_not_put_back_are_an_error(tokens: Tokens) -> None:
    for checkpoint in train(tiny_model(), tokens, config(), checkpoint_steps=[2]):
        with torch.no_grad():
            saved = checkpoint.model.lm_head.weight.clone()
            checkpoint.model.lm_head.weight.add_(1e-3)
            checkpoint.model.lm_head.weight.copy_(saved)  # put back: fine

    def careless() -> None:
        for checkpoint in train(tiny_model(), tokens, config(), checkpoint_steps=[2]):
            with torch.no_grad():
                checkpoint.model.lm_head.weight[0, 0] += 1e-3

    with pytest.raises(InputError, match="weights changed while the checkpoint of step 2 was measured"):
        careless()


def test_checkpoints_come_at_their_steps_and_know_the_run(tokens: Tokens) -> None:
    ticks: list[int] = []
    found = list(train(tiny_model(), tokens, config(), checkpoint_steps=[4, 0, 6, 4], advance=ticks.append))
    assert [c.step for c in found] == [0, 4, 6]
    assert [len(c.losses) for c in found] == [0, 4, 6]
    assert found[2].losses[:4] == found[1].losses
    assert found[0].seconds == 0 < found[1].seconds < found[2].seconds
    order = RowOrder(np.flatnonzero(tokens.valid), 8, 0)
    assert found[1].tokens_seen == sum(int(tokens.lengths[order.batch(s)].sum()) for s in range(4))
    assert ticks == [1] * 6


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_ones_as_weights_equal_no_reweighter_bit_for_bit(tokens: Tokens, precision: str) -> None:
    for budget in (10_000, 150):
        settings = config(micro_batch_tokens=budget, precision=precision)
        plain, weighted = dropping(), dropping()
        assert run(plain, tokens, settings) == run(weighted, tokens, settings, reweighter=Ones())
        assert torch.equal(weights(plain), weights(weighted))


def test_reweighter_sees_the_whole_batch_whatever_the_micro_batches(tokens: Tokens) -> None:
    records, results = [], []
    for budget in (10_000, 100):
        reweighter = Recording()
        results.append(run(tiny_model(), tokens, config(micro_batch_tokens=budget), reweighter=reweighter))
        records.append(reweighter.asked)
    np.testing.assert_allclose(results[0], results[1], rtol=2e-6)
    order = RowOrder(np.flatnonzero(tokens.valid), 8, 0)
    assert [step for _, _, step in records[0]] == list(range(6))
    for step, ((losses, counts, _), (again, _, _)) in enumerate(zip(*records, strict=True)):
        np.testing.assert_array_equal(counts, tokens.completion_tokens[order.batch(step)])
        np.testing.assert_allclose(losses, again, rtol=1e-5)
        assert not losses.requires_grad
        mean = float((losses * counts).sum() / counts.sum())
        assert mean == pytest.approx(results[0][step], rel=1e-5)


@pytest.mark.parametrize("optimizer", [AdamW(), SAM()])
def test_weights_come_from_the_dropout_draws_trained_on_and_once_a_step(tokens: Tokens, optimizer: Any) -> None:
    reweighter = Recording()
    settings = config(micro_batch_tokens=100, optimizer=optimizer)
    losses = run(dropping(), tokens, settings, reweighter=reweighter)
    assert [step for _, _, step in reweighter.asked] == list(range(6))
    means = [float((each * counts).sum() / counts.sum()) for each, counts, _ in reweighter.asked]
    assert means == pytest.approx(losses, rel=1e-6)


def test_weights_of_zero_silence_a_row(tokens: Tokens) -> None:
    class FirstOnly:
        def weights(self, batch: OptimizerBatch, outputs: BatchOutputs) -> torch.Tensor:
            return torch.eye(len(outputs.losses))[0]

    row = int(RowOrder(np.flatnonzero(tokens.valid), 8, 0).batch(0)[0])
    settings = config(steps=1, warmup_ratio=0.0, max_grad_norm=1e-3)  # clipped: only the direction counts
    first, alone = tiny_model(), tiny_model()
    run(first, tokens, settings, reweighter=FirstOnly())
    run(alone, tokens.take(np.array([row])), settings.model_copy(update={"batch_size": 1}))
    moved = (weights(alone) - weights(tiny_model())).norm()
    assert float((weights(first) - weights(alone)).norm() / moved) < 0.02


def test_bad_weights_are_refused(tokens: Tokens) -> None:
    class Short:
        def weights(self, batch: OptimizerBatch, outputs: BatchOutputs) -> torch.Tensor:
            return outputs.losses[:-1]

    with pytest.raises(InputError, match=r"Short.weights returned shape \(7,\)"):
        run(tiny_model(), tokens, config(), reweighter=Short())


# -- what goes wrong ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("reweighter", [None, Ones()])
def test_a_loss_that_is_not_finite_names_its_rows_and_leaves_the_weights(tokens: Tokens, reweighter: Any) -> None:
    poisoned = 99
    tokens = dataclasses.replace(tokens, ids=np.where(tokens.ids == poisoned, 100, tokens.ids).astype(np.int32))
    row = int(RowOrder(np.flatnonzero(tokens.valid), 8, 0).batch(0)[5])
    tokens.ids[tokens.offsets[row]] = poisoned
    model = tiny_model()
    with torch.no_grad():
        model.get_input_embeddings().weight[poisoned] = torch.nan
    before = weights(model).clone()
    with pytest.raises(DivergenceError, match=r"loss of 1 of 8 rows is not finite after 0 .* learning_rate") as caught:
        run(model, tokens, config(warmup_ratio=0.0, micro_batch_tokens=100), reweighter=reweighter)
    assert caught.value.rows == [row]
    assert caught.value.step == 0
    assert isinstance(caught.value, InputError)
    assert torch.equal(weights(model).nan_to_num(), before.nan_to_num())


def test_a_rate_that_explodes_is_an_error_and_not_a_number(tokens: Tokens) -> None:
    with pytest.raises(DivergenceError) as caught:
        run(tiny_model(), tokens, config(steps=60, learning_rate=1e18, schedule="constant", max_grad_norm=None))
    assert caught.value.step > 0
    assert set(caught.value.rows) <= set(np.flatnonzero(tokens.valid))


def test_arguments_that_cannot_work_are_refused(tokens: Tokens) -> None:
    nothing = dataclasses.replace(tokens, valid=np.zeros(len(tokens), bool))
    with pytest.raises(InputError, match="no row has completion text"):
        run(tiny_model(), nothing, config())
    with pytest.raises(InputError, match=r"checkpoint step 7 is outside 0\.\.6"):
        run(tiny_model(), tokens, config(), checkpoint_steps=[7])
    frozen = tiny_model().requires_grad_(False)
    with pytest.raises(InputError, match="no parameter of the model requires a gradient"):
        run(frozen, tokens, config())
