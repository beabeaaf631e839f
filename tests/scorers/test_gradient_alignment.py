"""Alignment with a target: against naive gradients of single rows, and what it means for a step."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from curate.clusterers import KMeans
from curate.component import fingerprint
from curate.curated import inputs_fingerprint
from curate.data.readers import read
from curate.errors import InputError
from curate.pipeline import Pipeline
from curate.proxy import example_gradients as module
from curate.proxy import predictions
from curate.proxy.example_gradients import GradientParts
from curate.proxy.proxy import Proxy, Schedule
from curate.run import Run
from curate.tokenization.tokens import Tokens
from scorers import GradientAlignment
from scorers.gradient_alignment import Alignment
from tests.fixtures.checkpoints import checkpoint_of, given_run, row_gradient, row_loss
from tests.fixtures.models import random_tokens, tiny_model

TOKENS = random_tokens([(6, 30), (20, 3), (2, 20), (11, 1), (9, 13), (3, 7)], invalid=[3])
TARGET = random_tokens([(5, 9), (4, 14), (8, 2), (3, 5)], seed=9, invalid=[2])
VALID = np.flatnonzero(TOKENS.valid)


def parts_of(**changes: Any) -> GradientParts:
    return GradientParts(**{"parameters": "last-layer", "rank": 8} | changes)


def alignment(
    similarity: str = "cosine", target: Tokens = TARGET, model: Any = None, tokens: Tokens = TOKENS, **of: Any
) -> np.ndarray:
    measure = Alignment(target=target, name="target t", of=parts_of(**of), similarity=similarity)
    known: Any = {"tokenize": lambda given: type("CachedTokens", (), {"tokens": given, "refused": {}})}
    checkpoint = checkpoint_of(model or tiny_model(), tokens, **known)
    return measure.measure(checkpoint, [None] * len(tokens))[:, 0]  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _tokens_have_fingerprints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tokens, "fingerprint", lambda self: str(len(self)), raising=False)


def naive(similarity: str, parameters: str = "all", tokens: Tokens = TOKENS, model: Any = None) -> np.ndarray:
    """(n,) by naive gradients of all parameters, or of the LM head."""
    model = model or tiny_model()

    def flat(of: Tokens, row: int) -> torch.Tensor:
        gradients = row_gradient(model, of, row)
        named = gradients if parameters == "all" else {"": gradients["lm_head.weight"]}
        return torch.cat([part.flatten() for part in named.values()]).double()

    target = torch.stack([flat(TARGET, int(row)) for row in np.flatnonzero(TARGET.valid)]).mean(0)
    found = np.full(len(tokens), np.nan)
    for row in np.flatnonzero(tokens.valid):
        gradient = flat(tokens, int(row))
        dot = gradient @ target
        scale = gradient.norm() * target.norm() if similarity == "cosine" else 1.0
        found[row] = float(dot / scale)
    return found


@pytest.mark.parametrize("parameters", ["all", "last-layer"])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_it_is_the_true_alignment(similarity: str, parameters: str) -> None:
    found = alignment(similarity, parameters=parameters)
    np.testing.assert_allclose(found, naive(similarity, parameters), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("family", "parameters"),
    [("llama", "all"), ("llama_tied", "all"), ("gpt2", "all"), ("gemma3", "all"), ("llama", "last-layer")],
)
def test_the_order_of_rows_by_alignment_is_the_true_one(family: str, parameters: str) -> None:
    """Rows that differ little in alignment, in models whose gradients have few strong directions: the errors of a
    projection by random factors of each weight made rank correlations of 0.84 to 0.96 of the first four."""
    lengths = np.random.default_rng(0).integers((1, 1), (12, 30), (60, 2)).tolist()
    tokens, model = random_tokens(lengths, seed=3), tiny_model(family)
    found, exact = (
        alignment(parameters=parameters, tokens=tokens, model=model),
        naive("cosine", parameters, tokens, model),
    )
    assert exact.std() > 0.01
    ranks = [each.argsort().argsort() for each in (found, exact)]
    assert np.corrcoef(*ranks)[0, 1] >= 0.999
    assert np.sqrt(np.mean((found - exact) ** 2)) < 1e-5


def test_a_step_on_a_row_lowers_the_loss_of_the_target_by_its_dot_product() -> None:
    dots = alignment("dot", parameters="all")

    def target_loss(model: Any) -> float:
        with torch.no_grad():
            losses = [row_loss(model, TARGET, int(row)).double().item() for row in np.flatnonzero(TARGET.valid)]
        return float(np.mean(losses))

    rate = 1e-3
    for row in VALID:
        moved = copy.deepcopy(tiny_model())
        gradient = row_gradient(moved, TOKENS, int(row))
        with torch.no_grad():
            for name, parameter in moved.named_parameters():
                parameter -= rate * gradient[name]
        fell = target_loss(tiny_model()) - target_loss(moved)
        assert fell == pytest.approx(rate * dots[row], rel=0.15, abs=2e-5)


@pytest.mark.parametrize("parameters", ["last-layer", "lora", "all"])
def test_a_row_of_the_target_alone_is_aligned_with_itself(parameters: str) -> None:
    found = alignment(target=TOKENS.take(np.array([2])), parameters=parameters)
    assert found[2] == pytest.approx(1, abs=1e-4)
    assert np.delete(found, [2, 3]).max() < 0.95
    np.testing.assert_array_equal(np.isnan(found), ~TOKENS.valid)


@pytest.mark.parametrize("parameters", ["last-layer", "lora"])
def test_rows_are_measured_alike_with_and_without_neighbors(parameters: str, monkeypatch: pytest.MonkeyPatch) -> None:
    together = alignment(parameters=parameters)
    monkeypatch.setitem(module._TOKENS, "cpu", 1)
    monkeypatch.setattr(predictions, "default_token_budget", lambda _device: 1)
    np.testing.assert_allclose(alignment(parameters=parameters), together, atol=1e-5)


def test_the_last_layer_in_bfloat16_is_near_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = alignment()
    monkeypatch.setattr(predictions, "resolve_precision", lambda *_: torch.bfloat16)
    half = alignment()
    assert 0 < np.abs(half - exact)[VALID].max() < 0.02


# -- errors ---------------------------------------------------------------------------------------------------------


def test_a_target_cut_away_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"target t: no completion text of its 1 rows survives proxy\.max_length = 512"
    ):
        alignment(target=TARGET.take(np.array([2])))


def test_a_target_without_gradient_is_refused() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
        for parameter in model.get_decoder().parameters():
            parameter.zero_()
    with pytest.raises(InputError, match="its mean gradient is zero at step 2"):
        alignment(model=model)
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(1e38)
        model.get_decoder().norm.weight.fill_(1e38)
        model.get_decoder().embed_tokens.weight.fill_(1)
    with pytest.raises(InputError, match="not finite"):
        alignment(model=model)


@pytest.mark.parametrize("parameters", ["last-layer", "lora"])
def test_a_model_without_a_known_head_is_refused(parameters: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.models.logit_map", lambda _model: None)
    with pytest.raises(InputError, match="choose parameters='all'"):
        alignment(parameters=parameters)
    assert np.isfinite(alignment(parameters="all")[VALID]).all()


@pytest.mark.parametrize(
    ("scorer", "says"),
    [
        (GradientAlignment(target="no/such.jsonl"), "GradientAlignment.target data no/such.jsonl: .*does not exist"),
        (GradientAlignment(target=pa.table({"a": ["b"]})), r"target data Table: .*GradientAlignment\.target\.columns"),
        (GradientAlignment(target=pa.table({"prompt": [], "completion": []})), "target data Table: .*no rows"),
        (
            GradientAlignment(target={"data": pa.table({"text": ["b"]}), "where": "x=1"}),
            r"GradientAlignment\.target\.where x=1",
        ),
    ],
    ids=["path", "columns", "empty", "where"],
)
def test_targets_that_cannot_be_read_are_named_before_anything_is_trained(scorer: GradientAlignment, says: str) -> None:
    with pytest.raises(InputError, match=says):
        scorer.measures()


# -- the scorer -----------------------------------------------------------------------------------------------------


def test_checkpoints_are_weighted_by_their_learning_rates() -> None:
    from scorers.gradient_alignment import _rates

    proxy = Proxy(model="scratch", warmup_ratio=0.1)
    rates = _rates(proxy, Schedule(np.array([10, 55, 100]), 100, 10.0))
    assert rates[0] == pytest.approx(np.arange(10).mean() / 10)  # the warm-up
    assert rates[2] < rates[1] <= 1
    scorer = GradientAlignment(target=pa.table({"prompt": ["a"], "completion": ["b"]}))
    alignments = np.array([[[1.0], [0.0]], [[0.0], [1.0]]])
    examples = read(pa.table({"prompt": ["a", "b"], "completion": ["c", "d"]})).examples
    mean, alignment = scorer.measures()
    run = given_run((mean, np.ones((2, 2, 1))), (alignment, alignments))
    run.proxy = proxy
    early, late = _rates(proxy, run.trace(examples, []).schedule)
    found = scorer.score(examples, run)
    np.testing.assert_allclose(found.difficulty, np.array([early, late]) / (early + late), rtol=1e-5)
    equal = scorer.model_copy(update={"weights": "equal"}).score(examples, run)
    np.testing.assert_allclose(equal.difficulty, [0.5, 0.5])
    np.testing.assert_array_equal(found.features, alignments[:, :, 0])


def test_a_run_of_one_step_whose_rate_is_zero_still_says_something() -> None:
    target = pa.table({"prompt": ["a"], "completion": ["b"]})
    scorer = GradientAlignment(target=target)
    mean, alignment = scorer.measures()
    examples = read(pa.table({"prompt": ["a", "b"], "completion": ["c", "d"]})).examples
    run = given_run((mean, np.ones((2, 1, 1))), (alignment, np.array([[[0.5]], [[-0.5]]])))
    run.proxy, run.trace(examples, []).schedule.steps[:] = Proxy(model="scratch", steps=1, checkpoints=1), 1
    np.testing.assert_allclose(scorer.score(examples, run).difficulty, [0.5, -0.5])


def test_the_target_is_part_of_what_is_remembered(tmp_path: Path) -> None:
    """A file that holds other rows is another target, though its name is the same; also for a folder of results."""
    path = tmp_path / "target.jsonl"
    loaded = read(pa.table({"prompt": ["a", "b"], "completion": ["c", "d"]}))
    pipeline = Pipeline(scorer=GradientAlignment(target=str(path)), clusterer=KMeans())
    seen = []
    for completion in ("four", "five", "four"):
        path.write_text(f'{{"prompt": "two and two", "completion": "{completion}"}}\n')
        seen.append((fingerprint(pipeline.scorer.measures()[1]), inputs_fingerprint(pipeline, loaded, None)))
    assert seen[0] == seen[2]
    assert all(one != other for one, other in zip(seen[0], seen[1], strict=True))


@pytest.mark.parametrize(
    "target",
    [
        pa.table({"text": ["two and two is four"]}),
        pa.table({"messages": [[{"role": "user", "content": "two?"}, {"role": "assistant", "content": "four"}]]}),
    ],
    ids=["text", "messages"],
)
def test_a_target_of_another_shape_is_rendered_as_that_shape_is(target: pa.Table, tmp_path: Path) -> None:
    table = pa.table({"prompt": [f"{k} and 2 is" for k in range(8)], "completion": [f"{k}" for k in range(8)]})
    run = Run(Proxy(model="scratch", steps=2, checkpoints=1, max_length=32), tmp_path)
    found = GradientAlignment(target=target).score(table, run)
    assert found.valid.all()
    assert (np.abs(found.features) < 1).all()
    assert len(np.unique(found.difficulty)) == 8


@pytest.mark.slow
@pytest.mark.parametrize("parameters", ["last-layer", "all"])
def test_rows_like_the_target_are_found(parameters: Any, tmp_path: Path) -> None:
    """Two kinds of rows, a target of one of them: its own kind is aligned best.

    By the attention's gradients alone this does not show in a proxy that has hardly begun to attend to anything.
    """
    n = 60
    rows = [(f"{k} plus {k % 7} is", f"{k + k % 7}") for k in range(n)]
    rows += [(f"spell {k}", " ".join(f"{chr(97 + k % 9)}{chr(98 + k % 5)}") * 3) for k in range(n)]
    table = pa.table({"prompt": [a for a, _ in rows], "completion": [b for _, b in rows]})
    target = pa.table({"prompt": ["90 plus 3 is", "71 plus 5 is"], "completion": ["93", "76"]})
    run = Run(Proxy(model="scratch", steps=20, checkpoints=2, batch_size=16, max_length=64), tmp_path)
    found = GradientAlignment(target=target, parameters=parameters).score(table, run).difficulty
    assert (found[:n, None] > found[None, n:]).mean() > 0.9
