"""A score is the row's own: the same for every batching, layout, neighbor, order and history."""

from __future__ import annotations

import copy
from functools import partialmethod
from typing import Any

import numpy as np
import pytest
import torch

from curate.errors import InputError
from curate.models import forward, scoring
from curate.models.scoring import LossEngine, score_losses
from curate.tokenization.tokens import Tokens
from tests.fixtures.models import FAMILIES, random_tokens, tiny_model

LENGTHS = [(6, 40), (30, 3), (2, 90), (11, 1), (9, 33), (50, 50), (3, 7), (20, 32), (1, 60), (4, 12)]
INVALID = [3]
TOKENS = random_tokens(LENGTHS, invalid=INVALID)


def oracle(model: Any, tokens: Tokens) -> np.ndarray:
    """(n,) mean losses in float32, one row at a time, by the model's own forward pass."""
    losses = []
    with torch.no_grad():
        for row in range(len(tokens)):
            low, high = tokens.offsets[row : row + 2]
            ids = torch.from_numpy(tokens.ids[low:high].astype(np.int64))
            where = torch.from_numpy(tokens.supervised[low:high])[1:]
            log_probs = model(input_ids=ids[None]).logits[0, :-1].float().log_softmax(-1)
            losses.append(-log_probs[where, ids[1:][where]].mean().item())
    return np.array(losses, np.float32)


def assert_within_contract(found: np.ndarray, expected: np.ndarray, tokens: Tokens) -> None:
    """The promised tolerance of float32: 1e-5 nats from 32 completion tokens on, 1e-4 below."""
    assert found.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(found), ~tokens.valid)
    error = np.abs(found - expected)[tokens.valid]
    assert (error <= np.where(tokens.completion_tokens[tokens.valid] >= 32, 1e-5, 1e-4)).all(), error.max()


def templated(rows: int = 8, prefix: int = 25) -> Tokens:
    """Rows behind one template."""
    tokens = random_tokens([(prefix + 2 + row % 3, 10 + 7 * row) for row in range(rows)])
    for start in tokens.offsets[:-1]:
        tokens.ids[start : start + prefix] = np.arange(prefix) + 3
    return tokens


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_float32_scores_match_one_row_at_a_time(family: str, layout: Any) -> None:
    model = tiny_model(family)
    for tokens in (TOKENS, templated()):
        expected = oracle(model, tokens)
        for budget in (1, 150, 100_000):
            engine = LossEngine(model, precision="float32", layout=layout, token_budget=budget)
            assert engine.layout == layout
            assert engine.notes == ()
            assert_within_contract(engine.losses(tokens), expected, tokens)


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_scores_do_not_depend_on_neighbors_or_order(layout: Any) -> None:
    model = tiny_model("gemma3")
    engine = LossEngine(model, precision="float32", layout=layout, token_budget=120)
    expected = oracle(model, TOKENS)
    rng = np.random.default_rng(0)
    for rows in (np.arange(9, -1, -1), rng.permutation(10), np.array([5]), np.array([4, 4, 4, 0]), np.arange(2)):
        chosen = TOKENS.take(rows.astype(np.int64))
        assert_within_contract(engine.losses(chosen), expected[rows], chosen)


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_the_same_rows_give_the_same_bits_whatever_came_before(layout: Any) -> None:
    model = tiny_model()
    fresh = LossEngine(model, precision="float32", layout=layout, token_budget=120).losses(TOKENS)
    engine = LossEngine(model, precision="float32", layout=layout, token_budget=120)
    engine.losses(templated())
    np.testing.assert_array_equal(engine.losses(TOKENS), fresh)


@pytest.mark.parametrize("family", ["llama", "llama_tied", "gpt_neox", "gemma2", "gemma3", "gpt2", "cohere"])
@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_bfloat16_scores_keep_the_ranking(family: str, layout: Any) -> None:
    from scipy.stats import spearmanr

    model = tiny_model(family)
    for parameter in model.parameters():
        parameter.data.mul_(0.5)  # losses of a few nats, as models have
    rng = np.random.default_rng(0)
    long = random_tokens([(5, int(n)) for n in rng.integers(32, 90, 60)], seed=1)
    short = random_tokens([(5, int(n)) for n in rng.integers(1, 32, 60)], seed=2)
    engine = LossEngine(model, precision="bfloat16", layout=layout)
    assert engine.dtype == torch.bfloat16
    for tokens, most, mean, rank in ((long, 0.05, 0.01, 0.999), (short, 0.3, 0.06, 0.99)):
        expected, found = oracle(model, tokens), engine.losses(tokens)
        error = np.abs(found - expected)
        assert error.max() <= most
        assert error.mean() <= mean
        assert spearmanr(found, expected).statistic >= rank
        few = tokens.completion_tokens < 8
        assert (error[few] <= 1e-4).all()  # scored in float32
        assert (error[~few] > 1e-6).any()  # and the others were not


def test_bfloat16_leaves_rotary_frequencies_alone() -> None:
    model = tiny_model()
    engine = LossEngine(model, precision="bfloat16")
    twin = engine._twin
    assert {parameter.dtype for parameter in twin.parameters()} == {torch.bfloat16}
    assert torch.equal(twin.model.rotary_emb.inv_freq, model.model.rotary_emb.inv_freq)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_scoring_leaves_the_model_and_the_random_state_alone(precision: Any) -> None:
    model = tiny_model(attention_dropout=0.5)
    model.config.attention_dropout = 0.5
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    expected = score_losses(model, TOKENS, precision=precision)
    model.train()
    implementation = model.config._attn_implementation
    before = copy.deepcopy(model.state_dict())
    random_state = torch.get_rng_state()
    np.testing.assert_array_equal(score_losses(model, TOKENS, precision=precision), expected)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(module.training for module in model.modules())
    assert model.config._attn_implementation == implementation
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    model(input_ids=torch.arange(6)[None]).logits.sum().backward()  # still trains


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_refresh_takes_over_new_weights(precision: Any) -> None:
    model = tiny_model("llama_tied")
    engine = LossEngine(model, precision=precision, float32_below=20)
    first = engine.losses(TOKENS)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.7)
    engine.refresh()
    second = engine.losses(TOKENS)
    assert (np.abs(second - first)[TOKENS.valid] > 1e-3).all()
    np.testing.assert_array_equal(second, score_losses_with(model, precision))


def score_losses_with(model: Any, precision: Any) -> np.ndarray:
    return LossEngine(model, precision=precision, float32_below=20).losses(TOKENS)


def test_nothing_to_score() -> None:
    model = tiny_model()
    assert score_losses(model, TOKENS.slice(0, 0)).shape == (0,)
    assert np.isnan(score_losses(model, TOKENS.slice(3, 4))).all()


def test_a_valid_row_without_completion_is_an_error() -> None:
    tokens = Tokens(
        TOKENS.ids, TOKENS.supervised, TOKENS.offsets, np.ones(10, bool), TOKENS.prompt_cut, TOKENS.completion_cut
    )
    with pytest.raises(InputError, match="row 3 is valid"):
        score_losses(tiny_model(), tokens)


def test_losses_that_are_not_finite_are_not_hidden() -> None:
    model = tiny_model()
    engine = LossEngine(model, precision="float32")
    model.model.embed_tokens.weight.data[int(TOKENS.ids[0])] = torch.inf
    losses = engine.losses(TOKENS)
    assert not np.isfinite(losses[0])
    model.lm_head.weight.data.fill_(torch.nan)
    with pytest.raises(InputError, match="not finite"):
        score_losses(model, TOKENS)


def test_a_model_that_cannot_be_packed_is_padded_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "allow_packing", lambda _model: False)
    model = tiny_model()
    engine = LossEngine(model, precision="float32", layout="packed")
    assert engine.layout == "padded"
    assert "padded" in engine.notes[0]
    assert LossEngine(model, precision="float32").notes == ()
    assert_within_contract(engine.losses(TOKENS), oracle(model, TOKENS), TOKENS)


def test_rows_share_a_template_only_in_packed_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    original = forward.decoder_states

    def counted(model: Any, batch: Any) -> Any:
        seen.append(batch.input_ids.numel())
        return original(model, batch)

    tokens = templated()
    engine = LossEngine(tiny_model(), precision="float32", layout="packed", token_budget=10_000)
    monkeypatch.setattr(forward, "decoder_states", counted)
    engine.losses(tokens)
    assert seen == [len(tokens.ids) - 7 * 25]


@pytest.mark.parametrize("bad", [{"precision": "float16"}, {"layout": "ragged"}, {"token_budget": 0}])
def test_bad_arguments(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        score_losses(tiny_model(), TOKENS, **bad)


@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # inside torch._inductor
@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "backend"),
    [
        ("padded", "aot_eager"),  # the same graphs, without the compiler of C++
        ("packed", "aot_eager"),
        pytest.param("padded", "inductor", marks=pytest.mark.long),
        pytest.param("packed", "inductor", marks=pytest.mark.long),
    ],
)
def test_compiled_layers_score_the_same_whatever_came_before(
    layout: Any, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend=backend))
    torch._dynamo.reset()
    model = tiny_model()
    expected = oracle(model, TOKENS)
    scores = []
    for earlier in (TOKENS.slice(0, 1), templated()):
        engine = LossEngine(model, precision="float32", layout=layout, compile=True, token_budget=120)
        if engine.notes:
            pytest.skip(engine.notes[0])
        assert engine.compiled
        engine.losses(earlier)
        made = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        scores.append(engine.losses(TOKENS))
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == made
        assert_within_contract(scores[-1], expected, TOKENS)
    np.testing.assert_array_equal(*scores)
    assert model.model.layers[0]._compiled_call_impl is None


@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # inside torch._inductor
def test_without_a_compiler_scoring_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def broken(_self: Any, *_arguments: Any) -> Any:
        if _self.compiled:
            raise TorchDynamoException("no C++ compiler\nlong story")
        return original(_self, *_arguments)

    original = LossEngine._sums
    monkeypatch.setattr(LossEngine, "_sums", broken)
    model = tiny_model()
    engine = LossEngine(model, precision="float32", compile=True)
    assert not engine.compiled
    assert "no C++ compiler" in engine.notes[0]
    assert_within_contract(engine.losses(TOKENS), oracle(model, TOKENS), TOKENS)


def test_compiling_is_decided_by_the_work_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    decided: list[LossEngine] = []
    monkeypatch.setattr(LossEngine, "_compile", lambda engine: decided.append(engine))
    monkeypatch.setattr(scoring.shutil, "which", lambda _name: "/usr/bin/g++")
    model = tiny_model()
    LossEngine(model)
    LossEngine(model, expected_tokens=10**6)
    LossEngine(model, expected_tokens=10**12, compile=False)
    assert decided == []
    LossEngine(model, expected_tokens=10**12)
    assert len(decided) == 1
    monkeypatch.setattr(scoring.shutil, "which", lambda _name: None)
    LossEngine(model, expected_tokens=10**12)
    assert len(decided) == 1
