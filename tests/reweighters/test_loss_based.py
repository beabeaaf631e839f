"""Reweighters: their formulas against hand-made values and naive loops, and what they ask of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curate.checks import check_component
from curate.errors import InputError
from curate.models.batches import make_batch, pack_batch
from curate.models.forward import allow_packing
from curate.models.gradients import mean_gradient
from curate.reweighters import (
    ADAPT,
    DGA,
    IRDRO,
    BatchOutputs,
    DynamicLoss,
    GivenWeights,
    OptimizerBatch,
    Selective,
    Training,
    TrainingRows,
    example_losses,
    reweighter_from,
)
from curate.reweighters.bm25 import bm25_scores
from curate.reweighters.dga_basis import importance_basis
from curate.tokenization.tokens import Tokens
from curate.training.config import TrainConfig
from curate.training.loop import train
from curate.training.reweighting import Reweighting, mean_weights
from tests.fixtures.models import random_tokens, tiny_model

LENGTHS = np.random.default_rng(5).integers((1, 2), (20, 24), (41, 2)).tolist()
TOKENS = random_tokens(LENGTHS, invalid=[3, 17])
ANCHORS = random_tokens([(4, 6), (9, 3), (2, 11)], seed=9)


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def asked(reweighter: Any, losses: list[float], step: int = 0, rows: list[int] | None = None) -> torch.Tensor:
    tokens = torch.ones(len(losses), dtype=torch.int64)
    batch = OptimizerBatch(step, tokens, None if rows is None else torch.tensor(rows))
    found: torch.Tensor = reweighter.weights(batch, BatchOutputs(torch.tensor(losses)))
    return found


def rows_of(further: Tokens = ANCHORS, **columns: Any) -> TrainingRows:
    source = "domain" if "domain" in columns else None
    return TrainingRows(columns, source, lambda data, reading: further)


def training(model: Any, tokens: Tokens = TOKENS, rows: TrainingRows | None = None, packed: bool = False) -> Training:
    batches = pack_batch if packed else make_batch
    cpu = torch.device("cpu")
    return Training(model, tokens, rows or rows_of(), 8, 0, cpu, False, batches, lambda: 100)


def config(**changes: Any) -> TrainConfig:
    settings = {"steps": 6, "batch_size": 8, "learning_rate": 1e-2, "precision": "float32", "warmup_ratio": 0.0}
    return TrainConfig(**{**settings, **changes})


def run(model: Any, reweighter: Any, tokens: Tokens = TOKENS, rows: TrainingRows | None = None, **changes: Any) -> Any:
    settings = config(**changes)
    steps = train(
        model, tokens, settings, checkpoint_steps=[settings.steps], reweighter=reweighter, rows=rows or rows_of()
    )
    *_, last = steps
    return last


def flat(model: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# -- from losses alone -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "expected"), [("linupper", [0, 1, 1]), ("quadratic", [0, 1, 0]), ("extremes", [1, 0, 1])]
)
def test_dynamic_loss_shapes_the_lowest_the_middle_and_the_highest_loss(strategy: Any, expected: list[float]) -> None:
    reweighter = DynamicLoss(strategy=strategy, r=0.5)
    assert reweighter.shape(torch.tensor([-1.0, 0.0, 1.0])).tolist() == expected
    weights = asked(reweighter, [1.0, 2.0, 3.0])  # h = -1, 0, 1
    shares = np.exp(np.array(expected) / 0.5)
    assert np.allclose(weights, 3 * shares / shares.sum(), atol=1e-6)


def test_linupper_is_linear_below_the_middle_and_flat_above() -> None:
    shape = DynamicLoss().shape(torch.linspace(-1, 1, 9))
    assert torch.allclose(shape, torch.tensor([0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1]))


@pytest.mark.parametrize("reweighter", [DynamicLoss(strategy="extremes", r=0.1), IRDRO(kl_weight=0.1)])
def test_equal_losses_weigh_one(reweighter: Any) -> None:
    assert torch.allclose(asked(reweighter, [1.5] * 5), torch.ones(5))


def test_dynamic_loss_is_uniform_at_first() -> None:
    reweighter = DynamicLoss(uniform_steps=3)
    assert asked(reweighter, [0.1, 5.0], step=2).tolist() == [1, 1]
    assert asked(reweighter, [0.1, 5.0], step=3).tolist() != [1, 1]


def test_irdro_is_the_worst_mixture_less_its_divergence_from_uniform() -> None:
    losses, strength = torch.tensor([0.3, 1.7, 0.9, 2.2], dtype=torch.float64), 0.7

    def value(p: torch.Tensor) -> float:
        return float(p @ losses - strength * (p * (p * 4).log()).sum())

    weights = IRDRO(kl_weight=strength).weights(OptimizerBatch(0, torch.ones(4)), BatchOutputs(losses))
    assert float(weights.sum()) == pytest.approx(4)
    assert (weights.argsort() == losses.argsort()).all()
    best = value(weights / 4)
    draws = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(4), 500))
    assert all(value(p) <= best + 1e-12 for p in draws)
    assert torch.allclose(asked(IRDRO(kl_weight=1e6), [0.3, 9.0]), torch.ones(2), atol=1e-4)
    assert torch.allclose(asked(IRDRO(kl_weight=1e-3), [0.3, 9.0]), torch.tensor([0.0, 2.0]))


@pytest.mark.parametrize("reweighter", [IRDRO(kl_weight=1e-30), DynamicLoss(strategy="linupper", r=1e-40)])
def test_the_smallest_scale_leaves_the_highest_alone(reweighter: Any) -> None:
    assert asked(reweighter, [1e9, 1.0, 2.0]).tolist() == [3, 0, 0]


def test_selective_takes_one_portion_of_the_sorted_losses() -> None:
    losses = [5.0, 1.0, 4.0, 2.0, 3.0, 0.5, 0.2, 0.1]
    assert asked(Selective(fraction=0.25, portion=0), losses).tolist() == [4, 0, 4, 0, 0, 0, 0, 0]
    assert asked(Selective(fraction=0.25, portion=1), losses).tolist() == [0, 0, 0, 4, 4, 0, 0, 0]
    assert asked(Selective(fraction=0.25, portion=9), losses).tolist() == [0, 0, 0, 0, 0, 0, 4, 4]
    assert asked(Selective(fraction=0.125), [1.0, 2.0]).tolist() == [
        2,
        0,
    ]  # at least one, and the last portion there is
    assert asked(Selective(fraction=0.5, portion=0), [1.0, 1.0, 1.0, 1.0]).tolist() == [2, 2, 0, 0]


def test_example_losses_are_those_of_transformers() -> None:
    model = tiny_model()
    batch = make_batch(TOKENS, [0, 1, 5])
    logits = model(input_ids=batch.input_ids).logits
    losses, tokens = example_losses(logits, batch.labels)
    assert losses.requires_grad
    for i in range(3):
        alone = model(input_ids=batch.input_ids[i : i + 1], labels=batch.labels[i : i + 1]).loss
        assert losses[i].item() == pytest.approx(alone.item(), abs=1e-5)
    assert tokens.tolist() == TOKENS.completion_tokens[[0, 1, 5]].tolist()


# -- given weights -----------------------------------------------------------------------------------------------


def test_given_weights_have_mean_one_over_the_tokens_that_are_trained_on() -> None:
    values = np.random.default_rng(0).uniform(0, 3, 41).tolist()
    values[3] = None  # an invalid row may have none
    live = GivenWeights(column="w").begin(training(tiny_model(), rows=rows_of(w=values)))
    counts, valid = TOKENS.completion_tokens, TOKENS.valid
    weights = asked(live, [0.0] * 41, rows=list(range(41))).numpy()
    assert (weights[valid] * counts[valid]).sum() == pytest.approx(counts[valid].sum(), rel=1e-5)
    assert weights[5] / weights[6] == pytest.approx(values[5] / values[6], rel=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "reads column 'weight', which the data does not have; its columns: w"),
        ([1.0] * 5 + [-1.0] + [1.0] * 35, "row 5 in column 'weight' is -1.0"),
        ([1.0] * 5 + [None] + [1.0] * 35, "row 5 in column 'weight' is None"),
        ([0] * 41, "are 0, so nothing would be learned"),
        (["x"] * 41, "no numbers"),
    ],
)
def test_given_weights_that_cannot_serve(values: Any, message: str) -> None:
    rows = rows_of(w=[1.0] * 41) if values is None else rows_of(weight=values)
    with pytest.raises(InputError, match=message):
        GivenWeights().begin(training(tiny_model(), rows=rows))


# -- ADAPT -------------------------------------------------------------------------------------------------------


def naive_embedding(model: Any, tokens: Tokens, row: int) -> torch.Tensor:
    """By transformers alone, one row at a time."""
    ids = torch.from_numpy(tokens.ids[tokens.offsets[row] : tokens.offsets[row + 1]].astype(np.int64))[None]
    with torch.no_grad():
        states = model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0, :-1]
    place = torch.arange(1, len(states) + 1, dtype=torch.float32)
    return (place / place.sum()) @ states


@pytest.mark.parametrize("packed", [False, True])
def test_embeddings_weigh_later_states_more(packed: bool) -> None:
    model = tiny_model()
    shared = random_tokens([(30, 5), (30, 9), (30, 2)], seed=1)
    start = shared.ids[:20].copy()
    for row in range(3):  # a prompt prefix that packed rows share
        shared.ids[shared.offsets[row] : shared.offsets[row] + 20] = start
    if packed:
        assert allow_packing(model)
    for tokens in (TOKENS, shared):
        found = training(model, tokens, packed=packed).embeddings(tokens)
        expected = torch.stack([naive_embedding(tiny_model(), tokens, row) for row in range(len(tokens))])
        assert torch.allclose(found, expected, atol=1e-5)


def test_adapt_is_a_sigmoid_of_the_mean_cosine_with_the_anchors() -> None:
    class Keeping(ADAPT):
        def begin(self, training: Training) -> Any:
            live = super().begin(training)
            inner = live.weights
            live.weights = lambda batch, outputs: seen.append((batch, inner(batch, outputs))) or seen[-1][1]
            return live

    seen: list[Any] = []
    run(tiny_model(), Keeping(anchors="a", tau=0.2), steps=1)
    (batch, weights), model = seen[0], tiny_model()
    anchors = torch.stack([naive_embedding(model, ANCHORS, row) for row in range(3)])
    for row, weight in zip(batch.rows.tolist(), weights.tolist(), strict=True):
        cosines = torch.cosine_similarity(naive_embedding(model, TOKENS, row)[None], anchors)
        assert weight == pytest.approx(float((cosines.mean() / 0.2).sigmoid()), abs=1e-5)


@pytest.mark.parametrize("optimizer", [None, "functional"])
def test_adapt_does_not_depend_on_micro_batches(optimizer: str | None) -> None:
    from curate.optimizers import AdamW, FunctionalSAM

    sharp = {"optimizer": FunctionalSAM(base=AdamW(eps=1e-3))} if optimizer else {"optimizer": AdamW(eps=1e-3)}
    results = []
    for budget in (10_000, 60):
        model = tiny_model()
        last = run(model, ADAPT(anchors="a", tau=0.1, refresh_every=2), micro_batch_tokens=budget, steps=4, **sharp)
        results.append((last.losses, flat(model)))
    assert np.allclose(results[0][0], results[1][0], atol=1e-4)
    assert torch.allclose(results[0][1], results[1][1], atol=2e-4)


def test_adapt_can_look_at_differences_and_keep_the_size_of_updates() -> None:
    similarity = torch.tensor([0.90, 0.91, 0.95])
    alike = torch.ones(3, dtype=torch.int64)
    plain = ADAPT(anchors="a", tau=0.1)._weigh(similarity, alike)
    assert float(plain.max() / plain.min()) < 1.01
    telling = ADAPT(anchors="a", tau=0.01, centred=True, mean_one=True)._weigh(similarity, alike)
    assert float(telling.max() / telling.min()) > 5
    assert float(telling.mean()) == pytest.approx(1)
    similarity = torch.tensor([-0.3, 0.1, 0.2])
    kept = ADAPT(anchors="a", tau=0.1, mean_one=True)._weigh(similarity, alike)
    sigmoids = (similarity / 0.1).sigmoid()
    assert torch.allclose(kept, sigmoids / sigmoids.mean())
    far = ADAPT(anchors="a", tau=1e-3, mean_one=True)._weigh(torch.tensor([-0.2, -0.2, -0.5]), alike)
    assert far.tolist() == [1.5, 1.5, 0]  # all three sigmoids are 0 in float32


def test_bm25_is_the_formula() -> None:
    documents, queries = random_tokens([(3, 4), (2, 9), (5, 1), (1, 1)], vocabulary=12), ANCHORS
    queries = random_tokens([(2, 3), (4, 4)], seed=3, vocabulary=12)
    rows = [documents.ids[a:b].tolist() for a, b in zip(documents.offsets, documents.offsets[1:], strict=False)]
    wanted = [set(queries.ids[a:b].tolist()) for a, b in zip(queries.offsets, queries.offsets[1:], strict=False)]
    mean = np.mean([len(row) for row in rows])
    expected = np.zeros(4)
    for i, row in enumerate(rows):
        for query in wanted:
            for t in query:
                n_t, f = sum(t in other for other in rows), row.count(t)
                damping = 1.5 * (1 - 0.75 + 0.75 * len(row) / mean)
                expected[i] += np.log(1 + (4 - n_t + 0.5) / (n_t + 0.5)) * f * 2.5 / (f + damping) / 2
    assert np.allclose(bm25_scores(documents, queries), expected)


def test_adapt_by_bm25_prefers_rows_that_share_words_with_the_anchors() -> None:
    tokens = random_tokens([(5, 5)] * 6, vocabulary=50)
    near = tokens.slice(2, 3)
    rows = TrainingRows({}, None, lambda data, reading: near)
    live = ADAPT(anchors="a", similarity="bm25", tau=0.3).begin(training(tiny_model(), tokens, rows))
    weights = asked(live, [0.0] * 6, rows=list(range(6)))
    assert int(weights.argmax()) == 2
    assert float(weights.max()) == pytest.approx(float(torch.tensor(1 / 0.3).sigmoid()))


@pytest.mark.parametrize("kind", ["adapt", "dga"])
def test_a_further_dataset_that_cannot_serve(kind: str) -> None:
    reweighter = ADAPT(anchors="far.parquet") if kind == "adapt" else DGA(target="far.parquet")
    columns = {"domain": ["a", "b"] * 20 + ["a"]}
    empty = random_tokens([(4, 3), (5, 2)], invalid=[0, 1])  # longer than the context: nothing of the answer is left
    with pytest.raises(InputError, match=r"far.parquet\): none of the 2 rows has completion text left"):
        reweighter.begin(training(tiny_model(), rows=rows_of(empty, **columns)))
    with pytest.raises(InputError, match="pass TrainingRows with tokenise"):
        reweighter.begin(training(tiny_model(), rows=TrainingRows(columns, "domain")))


# -- DGA ---------------------------------------------------------------------------------------------------------


def patterned(patterns: list[list[int]], rows: int, seed: int = 0) -> Tokens:
    """rows sequences for each pattern of tokens, one after the other: a few random tokens, then the pattern."""
    random = np.random.default_rng(seed)
    parts, supervised, lengths = [], [], []
    for pattern in patterns:
        for _ in range(rows):
            prompt = random.integers(3, 200, 4).tolist()
            parts += prompt + pattern
            supervised += [False] * 4 + [True] * len(pattern)
            lengths.append(4 + len(pattern))
    n = len(lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Tokens(
        np.array(parts, np.int32), np.array(supervised), offsets, np.ones(n, bool), *np.zeros((2, n), np.int32)
    )


PATTERNS = [[20, 21, 22, 23, 24], [60, 61, 62, 63, 64], [101, 102, 103, 104, 105], [150, 151, 152, 153, 154]]


def test_the_domain_that_agrees_with_the_target_gains_weight() -> None:
    """Four domains that share no token; the target continues prompts as the second of them does."""
    tokens, target = patterned(PATTERNS, 12), patterned(PATTERNS[1:2], 10, seed=1)
    domains = np.repeat(["a", "b", "c", "d"], 12).tolist()
    reweighter = DGA(target="t", refresh_every=4, rows_per_gradient=6)
    last = run(tiny_model(), reweighter, tokens, rows_of(target, domain=domains), steps=60, learning_rate=3e-3)
    alpha = last.reweighting.live.alpha
    assert alpha.sum() == pytest.approx(1)
    assert alpha[1] > 0.8
    means, times = mean_weights(last.reweighting.state())
    assert times.sum() == 60 * 8
    assert means[12:24].min() > 1 > means[:12].max()


@pytest.mark.parametrize("alignment", ["dot", "cosine"])
def test_alignment_is_that_of_the_gradients(alignment: Any) -> None:
    tokens, target = patterned(PATTERNS[:2], 5), patterned(PATTERNS[1:2], 5, seed=1)
    model, eta = tiny_model(), 0.3
    settings = DGA(target="t", eta=eta, alignment=alignment, rows_per_gradient=5, smoothing=0.4)
    live = settings.begin(training(model, tokens, rows_of(target, domain=["a"] * 5 + ["b"] * 5)))
    live.refresh(0)

    def gradient(rows: Tokens) -> torch.Tensor:
        oracle = tiny_model()
        batch = make_batch(rows, range(len(rows)))
        oracle(input_ids=batch.input_ids, labels=batch.labels).loss.backward()  # rows of equal length
        return torch.cat([p.grad.flatten() for p in oracle.parameters()])

    z, domains = gradient(target), [gradient(tokens.slice(0, 5)), gradient(tokens.slice(5, 10))]
    a = [float(g @ z / (g.norm() * z.norm() if alignment == "cosine" else 1)) for g in domains]
    raised = 0.5 * np.exp(eta * np.array(a))
    assert np.allclose(live.alpha, 0.6 * 0.5 + 0.4 * raised / raised.sum(), atol=1e-6)
    assert a[1] > a[0]
    live.refresh(1)  # not due
    assert np.allclose(live.alpha, 0.6 * 0.5 + 0.4 * raised / raised.sum(), atol=1e-6)


def test_a_domain_that_lost_all_its_weight_can_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, target = patterned(PATTERNS[:2], 5), patterned(PATTERNS[1:2], 5, seed=1)
    settings = DGA(target="t", eta=1e4, alignment="dot", refresh_every=1)
    live = settings.begin(training(tiny_model(), tokens, rows_of(target, domain=["a"] * 5 + ["b"] * 5)))
    for agreement, expected in (([1.0, -1.0], [1, 0]), ([-1.0, 1.0], [0, 1])):
        monkeypatch.setattr(live, "_agreement", lambda step, found=agreement: np.array(found))
        live.refresh(0)
        assert live.alpha.tolist() == expected


@pytest.mark.parametrize(("basis", "which"), [(None, "domain 'a'"), (2, "mixture 0 of the basis")])
def test_a_domain_whose_gradient_is_not_finite_is_named(basis: int | None, which: str) -> None:
    tokens, target = patterned(PATTERNS[:2], 5), patterned(PATTERNS[1:2], 5, seed=1)
    model = tiny_model()
    with torch.no_grad():
        model.get_input_embeddings().weight[PATTERNS[0][0]] = torch.nan
    rows = rows_of(target, domain=["a"] * 5 + ["b"] * 5)
    live = DGA(target="t", basis=basis).begin(training(model, tokens, rows))
    with pytest.raises(InputError, match=f"the gradient of {which} is not finite after 0 steps; lower"):
        live.refresh(0)


def test_a_row_weighs_its_domains_weight_over_its_domains_share() -> None:
    tokens = patterned(PATTERNS[:2], 6)
    live = DGA(target="t").begin(training(tiny_model(), tokens, rows_of(domain=["a"] * 3 + [None] * 9)))
    assert asked(live, [0.0] * 12, rows=list(range(12))).tolist() == pytest.approx([1] * 12)  # before the first look
    live.mixing = np.array([0.1, 0.9])  # (none) sorts before a
    weights = asked(live, [0.0] * 2, rows=[0, 11]).tolist()
    assert weights == pytest.approx([0.9 / 0.25, 0.1 / 0.75])


def test_mixtures_of_the_basis_find_the_domains_of_the_target() -> None:
    tokens = patterned(PATTERNS, 8)
    target = patterned([PATTERNS[0], PATTERNS[3]], 6, seed=2)
    basis = importance_basis(tokens, np.repeat(np.arange(4), 8), target, 3, 0)
    assert basis.shape == (3, 4)
    assert np.allclose(basis.sum(axis=1), 1)
    assert np.allclose(basis[0], 0.25)
    assert sorted(basis[1:].argmax(axis=1).tolist()) == [0, 3]
    assert basis[1:].max(axis=1).min() > 0.9
    with pytest.raises(InputError, match="wants 5 groups of the target, which has 3 rows"):
        importance_basis(tokens, np.repeat(np.arange(4), 8), ANCHORS, 6, 0)


def test_a_basis_moves_many_domains_with_few_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, target = patterned(PATTERNS, 12), patterned(PATTERNS[2:3], 10, seed=1)
    calls = []
    real = Training.gradient
    monkeypatch.setattr(Training, "gradient", lambda self, rows: calls.append(1) or real(self, rows))
    reweighter = DGA(target="t", refresh_every=4, rows_per_gradient=6, basis=2)
    rows = rows_of(target, domain=np.repeat(["a", "b", "c", "d"], 12).tolist())
    last = run(tiny_model(), reweighter, tokens, rows, steps=40, learning_rate=3e-3)
    assert len(calls) == 10 * 3
    assert last.reweighting.live.alpha[2] > 0.8


@pytest.mark.parametrize(
    ("columns", "domains", "message"),
    [
        ({}, None, "no source column; name one with domains=COLUMN"),
        ({"domain": ["a"] * 41}, None, "one value only"),
        ({"domain": ["a"] * 41}, "topic", "reads column 'topic', which the data does not have; its columns: domain"),
    ],
)
def test_domains_that_cannot_serve(columns: Any, domains: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        DGA(target="t", domains=domains).begin(training(tiny_model(), rows=rows_of(**columns)))


def test_a_target_without_a_gradient_is_an_error() -> None:
    rows = rows_of(domain=["a", "b"] * 20 + ["a"])
    live = DGA(target="dull.parquet").begin(training(tiny_model(), rows=rows))
    for parameter in live.training.model.parameters():
        parameter.data.zero_()
        parameter.requires_grad_(False)
    live.training.model.model.layers[0].mlp.gate_proj.weight.requires_grad_(True)  # behind a product with 0
    with pytest.raises(InputError, match=r"the gradient of the target dull\.parquet is 0 after 0 steps"):
        live.refresh(0)


# -- in a run ----------------------------------------------------------------------------------------------------

STATEFUL = {
    "adapt": ADAPT(anchors="a", tau=0.1, refresh_every=4),
    "dga": DGA(target="t", refresh_every=2, rows_per_gradient=3),
    "given": GivenWeights(column="w"),
    "irdro": IRDRO(),
}
COLUMNS = {"domain": ["a", "b"] * 20 + ["a"], "w": np.linspace(0, 2, 41).tolist()}


@pytest.mark.parametrize("name", STATEFUL)
def test_a_resumed_run_remembers(name: str, tmp_path: Path) -> None:
    whole, half = tiny_model(), tiny_model(seed=4)
    for checkpoint in train(
        whole, TOKENS, config(steps=7), checkpoint_steps=[3, 7], reweighter=STATEFUL[name], rows=rows_of(**COLUMNS)
    ):
        if checkpoint.step == 3:
            checkpoint.save(tmp_path)
    *_, again = train(
        half,
        TOKENS,
        config(steps=7),
        checkpoint_steps=[7],
        resume=tmp_path,
        reweighter=STATEFUL[name],
        rows=rows_of(**COLUMNS),
    )
    assert again.losses == checkpoint.losses
    assert torch.equal(flat(half), flat(whole))
    assert torch.equal(again.reweighting.sums, checkpoint.reweighting.sums)
    assert int(again.reweighting.times.sum()) == 7 * 8


def test_a_run_is_not_resumed_with_or_without_the_reweighter_it_had(tmp_path: Path) -> None:
    for reweighter, place in ((None, tmp_path / "plain"), (IRDRO(), tmp_path / "weighed")):
        place.mkdir()
        for checkpoint in train(tiny_model(), TOKENS, config(), checkpoint_steps=[2], reweighter=reweighter):
            checkpoint.save(place)
    with pytest.raises(InputError, match="trained with a reweighter; give it"):
        list(train(tiny_model(), TOKENS, config(), checkpoint_steps=[6], resume=tmp_path / "weighed"))
    with pytest.raises(InputError, match="trained without a reweighter; leave it out"):
        list(train(tiny_model(), TOKENS, config(), checkpoint_steps=[6], resume=tmp_path / "plain", reweighter=IRDRO()))


@pytest.mark.parametrize("name", ["adapt", "dga"])
def test_a_look_at_the_model_that_does_not_fit_is_taken_again_in_smaller_parts(name: str) -> None:
    found = []
    for failing in (0, 1):
        model, left = tiny_model(), [0]
        records: list[Any] = []

        def hook(*_: Any, model: Any = model, left: list[int] = left) -> None:
            if not model.training and left[0]:
                left[0] -= 1
                raise torch.OutOfMemoryError("CUDA out of memory")

        model.model.layers[1].register_forward_hook(hook)
        given: dict[str, Any] = {"reweighter": STATEFUL[name], "rows": rows_of(**COLUMNS)}
        for last in train(model, TOKENS, config(), checkpoint_steps=[0, 6], log=records.append, **given):
            left[0] = failing if last.step == 0 else 0  # not before: the loop tries out the model, in eval mode
        sizes = [record.micro_batch_tokens for record in records]
        found.append((last.losses, last.reweighting.sums, sizes))
    (losses, sums, sizes), (again, sums_again, smaller) = found
    assert max(smaller) < min(sizes)
    assert np.allclose(losses, again, atol=1e-4)
    assert torch.allclose(sums, sums_again, atol=1e-3)


@pytest.mark.parametrize(
    ("reweighter", "serves"),
    [
        (GivenWeights(column="w"), True),
        (IRDRO(), True),
        (ADAPT(anchors="a", similarity="bm25"), True),
        (ADAPT(anchors="a"), False),
        (DGA(target="t"), False),
    ],
)
def test_sharding_leaves_no_whole_model_to_look_at(reweighter: Any, serves: bool) -> None:
    known = training(tiny_model(), rows=rows_of(**COLUMNS))
    if serves:
        Reweighting(reweighter, lambda: known, 41, sharded=True)
        return
    with pytest.raises(
        InputError, match=r"looks at the whole model, .* losses or columns alone, or leave sharding out"
    ):
        Reweighting(reweighter, lambda: known, 41, sharded=True)


def test_another_reweighters_memory_is_refused(tmp_path: Path) -> None:
    for checkpoint in train(tiny_model(), TOKENS, config(), checkpoint_steps=[2], reweighter=IRDRO()):
        checkpoint.save(tmp_path)
    for other in (DynamicLoss(), IRDRO(kl_weight=2.0), STATEFUL["dga"]):
        again = {"reweighter": other, "rows": rows_of(**COLUMNS), "resume": tmp_path}
        with pytest.raises(InputError, match="trained with another reweighter, or other settings of it"):
            list(train(tiny_model(), TOKENS, config(), checkpoint_steps=[6], **again))


def test_looking_at_gradients_leaves_the_run_alone() -> None:
    """With a step size for the mixture so small that nothing moves, the run is the plain one but for rounding."""
    model, plain = tiny_model(), tiny_model()
    still = DGA(target="t", eta=1e-12, refresh_every=1)
    last = run(model, still, rows=rows_of(domain=COLUMNS["domain"]))
    expected = run(plain, None)
    assert np.allclose(last.losses, expected.losses, atol=1e-6)
    assert torch.allclose(flat(model), flat(plain), atol=1e-6)


def test_mean_gradient_is_that_of_the_mean_token() -> None:
    model = tiny_model()
    model.lm_head.weight.grad = kept = torch.ones_like(model.lm_head.weight)
    found = mean_gradient(model, TOKENS, device=torch.device("cpu"), budget=60)
    assert model.lm_head.weight.grad is kept
    oracle = tiny_model()
    for row in np.flatnonzero(TOKENS.valid):
        batch = make_batch(TOKENS, [row])
        count = int(TOKENS.completion_tokens[row])
        (oracle(input_ids=batch.input_ids, labels=batch.labels).loss * count).backward()
    total = int(TOKENS.completion_tokens[TOKENS.valid].sum())
    for gradient, parameter in zip(found, oracle.parameters(), strict=True):
        assert torch.allclose(gradient, parameter.grad / total, atol=1e-6)
    nothing = random_tokens([(3, 2)], invalid=[0])
    with pytest.raises(InputError, match="no row with completion text"):
        mean_gradient(model, nothing, device=torch.device("cpu"), budget=60)


def test_a_loop_that_does_not_know_its_rows_is_told() -> None:
    live = GivenWeights(column="w").begin(training(tiny_model(), rows=rows_of(w=[1.0] * 41)))
    with pytest.raises(InputError, match="GivenWeights weighs rows by their place in the training data"):
        asked(live, [0.5, 0.7])


def test_what_has_no_weights_is_no_reweighter() -> None:
    with pytest.raises(InputError, match=r"a reweighter has a method weights\(batch, outputs\)"):
        run(tiny_model(), object())


@pytest.mark.parametrize(
    "reweighter",
    [
        DynamicLoss(r=0.4),
        IRDRO(),
        Selective(),
        GivenWeights(),
        ADAPT(anchors="a.jsonl"),
        DGA(target={"data": "t", "limit": 5}),
    ],
)
def test_reweighters_are_components(reweighter: Any) -> None:
    check_component(reweighter)


def test_reweighters_by_name() -> None:
    assert reweighter_from("irdro", "reweighter") == IRDRO()
    found = reweighter_from({"use": "DGA", "target": "t.parquet", "eta": 0.5}, "reweighter")
    assert found == DGA(target="t.parquet", eta=0.5)
    with pytest.raises(InputError, match="there is no reweighter 'drift'; choose one of ADAPT, DGA, DynamicLoss"):
        reweighter_from("drift", "reweighter")
