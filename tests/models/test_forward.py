"""Per-example losses equal the model's own, value and gradient, for every family, layout and numeric mode."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from curate.errors import InputError
from curate.models import cross_entropy as head
from curate.models import forward
from curate.models.batches import Batch, make_batch, pack_batch
from curate.models.forward import allow_packing, batch_losses, logit_map
from curate.models.varlen_attention import VARLEN
from tests.fixtures.models import FAMILIES, VOCABULARY, random_tokens, tiny_model, with_prefix

TOKENS = random_tokens([(5, 7), (3, 30), (10, 1), (20, 40), (4, 4), (1, 2)], invalid=[4])
ROWS = np.arange(len(TOKENS))


def oracle(model: Any, tokens: Any = TOKENS) -> torch.Tensor:
    """(n,) sums of negative log-likelihood, each row alone, from the model's full logits in float64."""
    sums = []
    for row in range(len(tokens)):
        batch = make_batch(tokens, [row])
        logits = model(input_ids=batch.input_ids).logits[0, :-1].double()
        losses = F.cross_entropy(logits, batch.labels[0, 1:], ignore_index=-100, reduction="sum")
        sums.append(losses.float())
    return torch.stack(sums)


def gradients(model: Any, losses: torch.Tensor) -> dict[str, torch.Tensor]:
    """Gradients of an arbitrarily weighted sum of the losses."""
    model.zero_grad()
    weights = torch.linspace(-0.5, 1.5, len(losses))
    (weights * losses).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_gradients(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], rtol: float) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = gradient.abs().max().clamp_min(1e-3)
        assert (found[name] - gradient).abs().max() <= rtol * scale, name


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_are_the_models_own(family: str) -> None:
    model = tiny_model(family)
    assert logit_map(model) is not None  # none of these needs the slow path
    with torch.no_grad():
        torch.testing.assert_close(batch_losses(model, make_batch(TOKENS, ROWS)), oracle(model), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_rows_do_not_see_their_neighbors(family: str) -> None:
    model = tiny_model(family)
    expected = oracle(model).detach()
    assert allow_packing(model)
    with torch.no_grad():
        for rows in (ROWS, ROWS[::-1].copy(), ROWS[3:4]):
            found = batch_losses(model, pack_batch(TOKENS, rows))
            torch.testing.assert_close(found, expected[torch.from_numpy(rows)], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_shared_prefix_is_computed_once_and_counts_for_every_row(family: str) -> None:
    model, tokens = tiny_model(family), with_prefix(20)
    losses = oracle(model, tokens)
    expected = gradients(model, losses)
    assert allow_packing(model)
    batch = pack_batch(tokens, np.arange(4))
    assert batch.input_ids.shape[1] == tokens.lengths.sum() - 3 * 20
    found = batch_losses(model, batch)
    torch.testing.assert_close(found, losses, rtol=1e-5, atol=1e-4)
    assert_same_gradients(gradients(model, found), expected, rtol=1e-4)


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gemma2", "gpt2"])
def test_a_model_switched_to_packing_still_takes_masks(family: str) -> None:
    model = tiny_model(family)
    ids = torch.arange(24).view(2, 12) + 5
    mask = torch.ones_like(ids)
    mask[0, :4] = 0  # padded on the left, as for generation
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    with torch.no_grad():
        plain, masked = (
            model(input_ids=ids, attention_mask=m, position_ids=p).logits for m, p in ((None, None), (mask, positions))
        )
        assert allow_packing(model)
        torch.testing.assert_close(model(input_ids=ids).logits, plain, rtol=1e-4, atol=1e-5)
        after = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
    torch.testing.assert_close(after[0, 4:], masked[0, 4:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after[1], masked[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize("family", ["llama", "llama_tied", "gpt_neox", "gemma2", "phi", "cohere", "mistral"])
def test_gradients_are_the_models_own(family: str, layout: str) -> None:
    model = tiny_model(family)
    expected = gradients(model, oracle(model))
    if layout == "packed":
        assert allow_packing(model)
        batch = pack_batch(TOKENS, ROWS)
    else:
        batch = make_batch(TOKENS, ROWS)
    assert_same_gradients(gradients(model, batch_losses(model, batch)), expected, rtol=1e-4)


class LargestTensor(TorchDispatchMode):
    """Remembers the largest tensor any operation made."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for item in result if isinstance(result, tuple | list) else (result,):
            if isinstance(item, torch.Tensor):
                self.largest = max(self.largest, item.numel())
        return result


@pytest.mark.parametrize("train", [False, True])
def test_logits_of_the_batch_are_never_held(monkeypatch: pytest.MonkeyPatch, train: bool) -> None:
    monkeypatch.setattr(head, "SMALLEST_BLOCK", 64)
    monkeypatch.setattr(head, "CPU_BLOCK", 1)
    vocabulary = 8192
    model = tiny_model(vocab_size=vocabulary)
    tokens = random_tokens([(4, 60)] * 16, vocabulary=vocabulary)
    supervised = int(tokens.completion_tokens.sum())
    logit_map(model)
    with torch.set_grad_enabled(train), LargestTensor() as mode:
        losses = batch_losses(model, make_batch(tokens, np.arange(16)))
        if train:
            losses.sum().backward()
    assert mode.largest <= vocabulary * 32  # the head itself, and its gradient
    assert mode.largest < supervised * vocabulary / 10


@pytest.mark.parametrize("family", ["llama_tied", "gpt_neox"])
def test_autocast_keeps_float32_weights_gradients_and_losses(family: str) -> None:
    model = tiny_model(family)
    batch = make_batch(TOKENS, ROWS)
    reference = batch_losses(model, batch)
    expected = gradients(model, reference)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = batch_losses(model, batch)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, reference, rtol=0.02, atol=0.3)
    found = gradients(model, losses)
    assert all(gradient.dtype == torch.float32 for gradient in found.values())
    assert_same_gradients(found, expected, rtol=0.15)


@pytest.mark.parametrize("pad_to", [None, 100])
def test_padding_changes_nothing(pad_to: int | None) -> None:
    model = tiny_model("gemma3")
    batch = make_batch(TOKENS, ROWS, pad_to)
    real = np.arange(batch.input_ids.shape[1]) < TOKENS.lengths[:, None]
    garbage = torch.where(torch.from_numpy(real), batch.input_ids, VOCABULARY - 1)
    with torch.no_grad():
        expected = batch_losses(model, batch)
        assert torch.equal(batch_losses(model, Batch(garbage, batch.labels, batch.rows)), expected)
    torch.testing.assert_close(expected, oracle(model).detach(), rtol=1e-5, atol=1e-4)


def test_rows_without_supervised_tokens_lose_nothing_and_can_be_trained_on() -> None:
    model = tiny_model()
    tokens = random_tokens([(1, 0), (1, 0)], invalid=[0, 1])
    for batch in (make_batch(tokens, [0, 1]), make_batch(TOKENS, [4])):
        losses = batch_losses(model, batch)
        assert torch.equal(losses, torch.zeros(len(batch.rows)))
        losses.sum().backward()


class DoubledHead(torch.nn.Module):
    """A head that no rule knows."""

    def __init__(self, inner: torch.nn.Linear) -> None:
        super().__init__()
        self.inner = inner
        self.weight = inner.weight

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return 2 * self.inner(hidden).sin()


def test_a_strange_head_takes_the_slow_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "GENERIC_LOGITS", 60 * VOCABULARY * 2)  # two rows at a time
    model = tiny_model()
    model.set_output_embeddings(DoubledHead(model.lm_head))
    assert logit_map(model) is None
    assert not allow_packing(model)
    expected = oracle(model)
    found = batch_losses(model, make_batch(TOKENS, ROWS))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    assert_same_gradients(gradients(model, found), gradients(model, oracle(model)), rtol=1e-4)
    with pytest.raises(InputError, match="cannot be packed"):
        batch_losses(model, pack_batch(TOKENS, ROWS))


@pytest.mark.parametrize("key", ["final_logit_softcapping", "logit_scale", "logits_scaling"])
def test_a_misleading_configuration_is_not_believed(key: str) -> None:
    model = tiny_model()
    for parameter in model.parameters():
        parameter.data.mul_(0.02)  # small logits, where a soft-cap would hide
    setattr(model.config, key, 5.0)
    assert logit_map(model) is None
    with torch.no_grad():
        torch.testing.assert_close(batch_losses(model, make_batch(TOKENS, ROWS)), oracle(model), rtol=1e-5, atol=1e-4)


def test_a_model_that_looks_ahead_is_refused() -> None:
    model = tiny_model()

    def look_ahead(_module: Any, _inputs: Any, output: Any) -> Any:
        output.logits = output.logits + output.logits.mean(dim=1, keepdim=True)
        return output

    model.register_forward_hook(look_ahead)
    with pytest.raises(InputError, match="not causal"):
        batch_losses(model, make_batch(TOKENS, ROWS))


def test_weights_that_are_not_finite_are_named() -> None:
    model = tiny_model()
    model.lm_head.weight.data[3, 3] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        batch_losses(model, make_batch(TOKENS, ROWS))


def test_packed_rows_need_a_prepared_model() -> None:
    with pytest.raises(InputError, match="allow_packing"):
        batch_losses(tiny_model(), pack_batch(TOKENS, ROWS))


def test_packing_that_leaks_is_noticed_and_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    from curate.models import varlen_attention as attention

    right = attention.varlen_attention

    def leaky(*inputs: Any, cu_seq_lens_q: Any = None, **options: Any) -> Any:
        merged = cu_seq_lens_q if cu_seq_lens_q is None else cu_seq_lens_q[[0, -1]]
        return right(*inputs, cu_seq_lens_q=merged, **options)

    monkeypatch.setattr(attention, "varlen_attention", leaky)
    model = tiny_model()
    before = model.config._attn_implementation
    assert not allow_packing(model)
    assert model.config._attn_implementation == before != VARLEN
    monkeypatch.undo()
    assert allow_packing(model)


def test_probing_leaves_the_model_as_it_was() -> None:
    model = tiny_model().train()
    model.model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    logit_map(model)
    allow_packing(model)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_probe_does_not_keep_models_alive() -> None:
    model = tiny_model()
    logit_map(model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # inside peft
@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["q_proj", "lm_head"]])
def test_adapters(targets: list[str]) -> None:
    import peft

    model = peft.get_peft_model(
        tiny_model(), peft.LoraConfig(r=2, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM")
    )
    model.eval()
    expected = oracle(model)
    found = batch_losses(model, make_batch(TOKENS, ROWS))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    wanted = gradients(model, oracle(model))
    assert all("lora" in name for name in wanted)
    assert_same_gradients(gradients(model, found), wanted, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`:FutureWarning")  # the only name of both ends
def test_gradient_checkpointing() -> None:
    model = tiny_model()
    expected = gradients(model, batch_losses(model, make_batch(TOKENS, ROWS)))
    model.train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    found = gradients(model, batch_losses(model, make_batch(TOKENS, ROWS)))
    assert_same_gradients(found, expected, rtol=1e-5)
