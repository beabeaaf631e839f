"""The closure of the optimizer where memory runs out, and what it reports."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from curate.errors import InputError
from curate.optimizers import SAM, AdamW, FunctionalSAM
from curate.optimizers.adamw import trainable
from curate.training.config import StepRecord, TrainConfig
from curate.training.loop import train
from curate.training.reweighting import BatchOutputs, OptimizerBatch
from curate.training.step import TrainingStep
from tests.fixtures.models import random_tokens, tiny_model

LENGTHS = np.random.default_rng(5).integers((1, 2), (20, 24), (41, 2)).tolist()
TOKENS = random_tokens(LENGTHS, invalid=[3, 17])
CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to ...")


class Recording:
    def __init__(self) -> None:
        self.steps: list[int] = []

    def weights(self, batch: OptimizerBatch, outputs: BatchOutputs) -> torch.Tensor:
        self.steps.append(batch.step)
        return outputs.losses.softmax(0) * len(outputs.losses)


class Failing:
    """A model whose memory runs out in its n-th forward passes, and when."""

    def __init__(self, calls: set[int], error: Exception, model: Any = None) -> None:
        self.model = tiny_model() if model is None else model
        self.count = 0
        self.model.model.layers[1].register_forward_hook(self._after)
        self.calls, self.error = calls, error

    def _after(self, _: Any, __: Any, output: Any) -> None:
        if output.shape[1] == 1:  # the look whether anything drops out
            return
        if torch.is_grad_enabled() or self.model.training:
            self.count += 1
            if self.count in self.calls:
                raise self.error


def config(**changes: Any) -> TrainConfig:
    settings = {"steps": 4, "batch_size": 8, "learning_rate": 1e-2, "precision": "float32", "warmup_ratio": 0.0}
    settings |= {"optimizer": AdamW(eps=1e-3)}  # a milder division, so that rounding is not blown up
    return TrainConfig(**{**settings, **changes})


def run(model: Any, reweighter: Any = None, **changes: Any) -> tuple[list[StepRecord], torch.Tensor]:
    records: list[StepRecord] = []
    for _ in train(model, TOKENS, config(**changes), checkpoint_steps=[], reweighter=reweighter, log=records.append):
        pass
    return records, torch.cat([p.detach().flatten() for p in model.parameters()])


SHARP = {"sam": SAM(base=AdamW(eps=1e-3)), "functional sam": FunctionalSAM(base=AdamW(eps=1e-3))}
# optimizer, reweighted, and the forward pass of the second of three-part steps that fails
CASES = {
    "first part": (AdamW(eps=1e-3), False, 1),
    "middle of a batch": (AdamW(eps=1e-3), False, 2),
    "later step": (AdamW(eps=1e-3), False, 5),
    "before weighing": (AdamW(eps=1e-3), True, 2),
    "after weighing": (AdamW(eps=1e-3), True, 5),
    "ascent of sam": (SHARP["sam"], False, 2),
    "second gradient of sam": (SHARP["sam"], False, 5),
    "second gradient of sam, reweighted": (SHARP["sam"], True, 8),
    "anchor of functional sam": (SHARP["functional sam"], False, 2),
    "second gradient of functional sam": (SHARP["functional sam"], False, 5),
}


@pytest.mark.parametrize("name", CASES)
def test_a_step_that_does_not_fit_is_done_again_in_smaller_parts(name: str) -> None:
    optimizer, weighted, call = CASES[name]
    reweighters = [Recording() if weighted else None for _ in range(2)]
    failing = Failing({call}, CPU if call % 2 else CUDA)
    records, weights = run(failing.model, reweighters[0], optimizer=optimizer, micro_batch_tokens=90)
    assert failing.count > call
    sizes = [record.micro_batch_tokens for record in records]
    assert sizes[-1] < 90
    assert set(sizes) <= {90, sizes[-1]}
    again, expected = run(tiny_model(), reweighters[1], optimizer=optimizer, micro_batch_tokens=sizes[-1])
    np.testing.assert_allclose([r.loss for r in records], [r.loss for r in again], rtol=2e-6)
    np.testing.assert_allclose([r.gradient_norm for r in records], [r.gradient_norm for r in again], rtol=1e-4)
    start = torch.cat([p.detach().flatten() for p in tiny_model().parameters()])
    assert float((weights - expected).norm()) < 1e-3 * float((expected - start).norm())
    if weighted:
        assert [r.steps for r in reweighters if r is not None] == [[0, 1, 2, 3]] * 2


def test_with_dropout_all_passes_of_the_step_draw_alike_again() -> None:
    # rho 0: a second pass under other draws than the first would show as another gradient than AdamW's.
    def dropping() -> Any:
        model = tiny_model()
        for layer in model.model.layers:
            layer.self_attn.attention_dropout = 0.3
        return model

    found = {}
    for name, optimizer in {"adamw": AdamW(), "functional": FunctionalSAM(rho=0.0)}.items():
        failing = Failing({4 if name == "functional" else 2}, CUDA, dropping())
        found[name] = run(failing.model, optimizer=optimizer, micro_batch_tokens=150, steps=1)
    assert found["adamw"][0][0].micro_batch_tokens == found["functional"][0][0].micro_batch_tokens < 150
    assert torch.equal(found["adamw"][1], found["functional"][1])


def test_the_size_is_halved_until_it_fits_and_the_rest_of_the_run_keeps_it() -> None:
    failing = Failing({1, 2, 3}, CUDA)
    records, _ = run(failing.model, micro_batch_tokens=100_000)
    sizes = [record.micro_batch_tokens for record in records]
    assert len(set(sizes)) == 1
    # From the padded batch, which is far smaller than what was allowed, three times halved.
    assert sizes[0] < 8 * TOKENS.lengths.max() / 8 + 1
    assert sizes[0] >= 20


def test_every_halving_is_told() -> None:
    model = Failing({1, 2}, CPU).model
    optimizer = AdamW().build(model, learning_rate=1e-3, weight_decay=0.0)
    update = TrainingStep(model, TOKENS, config(micro_batch_tokens=200), torch.device("cpu"), False)
    model.train()
    for step in range(2):
        update.run(optimizer, step)
    assert [note.partition(" of ")[0] for note in update.notes] == ["out"] * 2
    assert update.notes[0].startswith("out of memory after 0 optimizer steps: micro-batches of 100 tokens from now")
    assert f"of {update.budget} tokens from now on, 100 until now" in update.notes[1]


def test_a_row_that_does_not_fit_alone_is_an_error_with_a_remedy() -> None:
    failing = Failing(set(range(1000)), CUDA)
    before = torch.cat([p.detach().flatten() for p in failing.model.parameters()]).clone()
    with pytest.raises(InputError, match=r"a row of \d+ tokens cannot be cut; lower .* or set gradient_check"):
        run(failing.model)
    assert failing.count < 12
    assert torch.equal(torch.cat([p.detach().flatten() for p in failing.model.parameters()]), before)
    assert all(p.grad is None for p in failing.model.parameters())
    with pytest.raises(InputError, match=r"max_length, or train LoRA instead of all weights$"):
        run(Failing(set(range(1000)), CUDA).model, gradient_checkpointing=True)


def test_memory_that_runs_out_in_the_optimizer_is_an_error_with_a_remedy() -> None:
    class Large:
        def build(self, model: Any, **_: Any) -> Any:
            class Stepped:
                param_groups: list[dict[str, Any]] = []  # noqa: RUF012

                def step(self, closure: Any) -> None:
                    closure()
                    raise CUDA

            return Stepped()

    with pytest.raises(InputError, match=r"the optimizer's own tensors .* train LoRA"):
        run(tiny_model(), optimizer=Large())


def test_other_errors_come_through() -> None:
    with pytest.raises(RuntimeError, match="device-side assert"):
        run(Failing({2}, RuntimeError("CUDA error: device-side assert triggered")).model)


@pytest.mark.parametrize("optimizer", [AdamW(), *SHARP.values()])
def test_autocast_of_the_caller_changes_nothing(optimizer: Any) -> None:
    # It would keep the bfloat16 copies of weights that have moved since.
    records, weights = run(tiny_model(), optimizer=optimizer, precision="bfloat16", steps=3)
    with torch.autocast("cpu", torch.bfloat16):
        again, inside = run(tiny_model(), optimizer=optimizer, precision="bfloat16", steps=3)
    assert [r.loss for r in again] == [r.loss for r in records]
    assert torch.equal(inside, weights)


# -- what it reports -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [AdamW(), *SHARP.values()])
def test_loss_and_norm_are_those_at_the_weights_before_clipping(optimizer: Any) -> None:
    oracle = tiny_model()
    update = TrainingStep(oracle, TOKENS, config(max_grad_norm=None), torch.device("cpu"), False)
    passes: list[int] = []

    class Looking:
        param_groups: list[dict[str, Any]] = []  # noqa: RUF012

        def step(self, closure: Any) -> None:
            closure()
            passes.append(closure.passes)

        def state_dict(self) -> dict[str, Any]:
            return {}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...

    oracle.train()
    update.run(Looking(), 0)
    norm = torch.cat([p.grad.flatten() for _, p in trainable(oracle) if p.grad is not None]).norm()
    records, _ = run(tiny_model(), optimizer=optimizer, max_grad_norm=0.01, steps=1)
    assert records[0].gradient_norm == pytest.approx(float(norm), rel=1e-5)
    assert records[0].gradient_norm == pytest.approx(update.norm, rel=1e-5)
    assert records[0].loss == pytest.approx(update.loss, rel=1e-6)
    assert passes == [1]


@pytest.mark.parametrize(("optimizer", "expected"), [(AdamW(), 1), (SHARP["sam"], 2), (SHARP["functional sam"], 2)])
def test_gradients_of_a_step_are_counted(optimizer: Any, expected: int) -> None:
    model = tiny_model()
    update = TrainingStep(model, TOKENS, config(), torch.device("cpu"), False)
    model.train()
    built = optimizer.build(model, learning_rate=1e-3, weight_decay=0.0)
    for step in range(2):
        update.run(built, step)
        assert update.passes == expected
        assert update.anchors == []
