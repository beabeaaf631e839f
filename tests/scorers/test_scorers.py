"""Difficulty signals against naive oracles, one row at a time, and what each of them means."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.stats import rankdata

import scorers
from curate.clusterers import KMeans
from curate.data.examples import Examples
from curate.data.readers import read
from curate.errors import InputError
from curate.models.scoring import LossEngine
from curate.pipeline import Pipeline
from curate.proxy.measures import MeanLoss
from curate.proxy.proxy import Proxy, Schedule
from curate.proxy.random_projection import projection
from curate.recipe import decode
from curate.run import Run
from curate.seeds import derive_seed
from curate.tokenization.tokens import Tokens
from scorers import (
    EarlyOutput,
    ErrorNorm,
    FinalLoss,
    ForgettingCount,
    InstructionFollowingDifficulty,
    Learnability,
    Length,
    Product,
    RankAverage,
    SAMSharpness,
)
from scorers.forgetting import TokenAccuracy
from scorers.instruction_following import without_prompt
from tests.fixtures.checkpoints import checkpoint_of, given_run, row_gradient, row_logits, row_loss
from tests.fixtures.models import random_tokens, tiny_model
from tests.fixtures.tokenizers import byte_level

TOKENS = random_tokens([(6, 40), (30, 3), (2, 30), (11, 1), (9, 33), (3, 7)], invalid=[3])
VALID = np.flatnonzero(TOKENS.valid)
ROWS: Any = [None] * len(TOKENS)


def examples_of(n: int, **columns: list[Any]) -> Examples:
    return read(
        pa.table({"prompt": ["p"] * n, "completion": ["c"] * n, "id": [f"r{k}" for k in range(n)]} | columns)
    ).examples


def test_the_public_names() -> None:
    assert scorers.__all__ == sorted(scorers.__all__)
    for name in scorers.__all__:
        kind = getattr(scorers, name)
        assert kind.__module__.startswith("scorers.")
        assert kind.__name__ == name
    assert type(decode({"use": "ErrorNorm"}, "scorer")) is ErrorNorm


# -- error norm and forgetting --------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gemma2", "phi"])
def test_error_norm_and_accuracy_by_the_models_own_probabilities(family: str) -> None:
    model = tiny_model(family)
    for parameter in model.parameters():
        parameter.data.mul_(2.0)  # or nothing would be predicted right
    tokens = TOKENS
    for row in VALID[:3]:  # rows that repeat themselves are predicted in part
        low, high = tokens.offsets[row : row + 2]
        tokens.ids[low:high] = tokens.ids[low]
    checkpoint = checkpoint_of(model, tokens)
    norms = ErrorNorm().measure(checkpoint, ROWS)
    accuracy = TokenAccuracy().measure(checkpoint, ROWS)
    with torch.no_grad():
        for row in VALID:
            logits, targets = row_logits(model, tokens, int(row))
            error = logits.softmax(1) - torch.nn.functional.one_hot(targets, logits.shape[1])
            assert norms[row, 0] == pytest.approx(error.norm(dim=1).mean().item(), abs=1e-4)
            assert accuracy[row, 0] == pytest.approx((logits.argmax(1) == targets).float().mean().item(), abs=1e-6)
    for found in (norms, accuracy):
        assert found.shape == (6, 1)
        np.testing.assert_array_equal(np.isnan(found[:, 0]), ~tokens.valid)
    assert (norms[VALID] <= np.sqrt(2) + 1e-6).all()


def test_forgetting_counts_what_was_learned_and_lost() -> None:
    accuracy = [
        [0.1, 0.6, 0.7, 0.9],  # learned once and for all
        [0.6, 0.4, 0.6, 0.4],  # forgotten twice
        [0.5, 0.5, 0.5, 0.49],  # once; the threshold itself counts as learned
        [0.4, 0.1, 0.2, 0.4],  # never learned
        [0.9, 0.9, 0.9, 0.9],
        [np.nan] * 4,
    ]
    valid = np.arange(6) < 5
    losses = np.where(valid[:, None, None], np.ones((6, 4, 1)), np.nan)
    run = given_run((TokenAccuracy(), np.array(accuracy)[:, :, None]), (MeanLoss(), losses), valid=valid)
    found = ForgettingCount().score(examples_of(6), run)
    np.testing.assert_array_equal(found.difficulty, [0, 2, 1, 4, 0, np.nan])
    np.testing.assert_array_equal(found.features[:, 0], [0, 2, 1, 4, 0, 0])
    assert ForgettingCount(threshold=0.95).threshold == 0.95
    with pytest.raises(InputError, match=r"no row is learned .*right tokens 0\.90\); lower ForgettingCount\.threshold"):
        ForgettingCount(threshold=0.95).score(examples_of(6), run)
    with pytest.raises(InputError, match=r"set proxy\.checkpoints to at least 2"):
        ForgettingCount().check_schedule(Schedule(np.array([5]), 15, 10.0))


# -- learnability ---------------------------------------------------------------------------------------------------


@pytest.fixture
def family(tmp_path: Path) -> Path:
    """Folders of two models with one tokenizer, `proxy` and `reference`, one of few positions and one with another."""
    tokenizer = byte_level()
    for name, seed, changes in (("proxy", 0, {}), ("reference", 1, {}), ("short", 1, {"max_position_embeddings": 32})):
        tiny_model(vocab_size=len(tokenizer), seed=seed, **changes).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    other = byte_level()
    other.add_tokens(["<more>"])
    tiny_model(vocab_size=len(other)).save_pretrained(tmp_path / "other")
    other.save_pretrained(tmp_path / "other")
    return tmp_path


def proxy_of(family: Path) -> Proxy:
    return Proxy(model=str(family / "proxy"), steps=4, checkpoints=2, batch_size=4, max_length=64, precision="float32")


def test_learnability_is_the_loss_less_that_of_the_reference(family: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from curate.models.loading import load_model
    from curate.proxy.training import ProxyRun

    examples = examples_of(9, completion=[" ".join(["word"] * (k % 4 + 1)) for k in range(8)] + [""])
    run = Run(proxy_of(family), family / "cache")
    tokens = ProxyRun(examples, run.proxy, run.context).tokenised.tokens
    asked = []
    real = LossEngine.losses
    monkeypatch.setattr(LossEngine, "losses", lambda self, given: (asked.append(self._model), real(self, given))[1])
    found = Learnability(reference=str(family / "reference")).score(examples, run)
    reference = load_model(str(family / "reference"))
    with torch.no_grad():
        expected = [row_loss(reference, tokens, row).item() for row in range(8)]
    np.testing.assert_allclose(found.features[:8], found.trajectory[:8] - np.array(expected)[:, None], atol=1e-4)
    np.testing.assert_array_equal(found.valid, tokens.valid)
    assert np.isnan(found.difficulty[8])
    assert len({id(model) for model in asked}) == 2
    assert len(asked) == 3  # two checkpoints of the proxy, and the reference once


def test_a_proxy_has_nothing_to_learn_from_itself(family: Path) -> None:
    frozen = proxy_of(family).model_copy(update={"learning_rate": 1e-12})
    found = Learnability(reference=str(family / "proxy")).score(examples_of(6), Run(frozen, family / "cache"))
    np.testing.assert_allclose(found.difficulty, 0, atol=1e-4)


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("other", "another tokenizer than the proxy .*choose a reference of the proxy's family"),
        ("short", r"takes 32 tokens but rows have up to 64; set proxy\.max_length to at most 32"),
        ("nothing", "nothing"),
    ],
)
def test_references_that_cannot_serve(reference: str, says: str, family: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if reference != "short":  # how long its rows may be is known once it is loaded, the rest before any training
        monkeypatch.setattr("curate.training.loop.train", lambda *_, **__: pytest.fail("the proxy was trained"))
    with pytest.raises(InputError, match=says):
        Learnability(reference=str(family / reference)).score(examples_of(4), Run(proxy_of(family), family / "cache"))


def test_other_weights_under_the_same_name_are_another_reference(family: Path) -> None:
    before = Learnability(reference=str(family / "reference")).measures()
    tiny_model(vocab_size=len(byte_level()), seed=5).save_pretrained(family / "reference")
    assert Learnability(reference=str(family / "reference")).measures() != before


# -- instruction-following difficulty -------------------------------------------------------------------------------


def test_completions_alone_row_by_row() -> None:
    bos = 1
    rows = [  # (ids, supervised)
        ([1, 5, 6, 7, 8, 2], [0, 0, 0, 1, 1, 1]),  # with BOS
        ([5, 6, 7, 8, 2], [0, 0, 1, 1, 1]),  # without
        ([5, 6, 7, 8, 9, 10], [0, 1, 1, 0, 1, 1]),  # two turns
        ([1, 5, 6], [0, 0, 0]),  # invalid
        ([5, 9], [0, 1]),  # nothing to compare
        ([1, 9], [0, 1]),
    ]
    lengths = [len(ids) for ids, _ in rows]
    supervised = np.concatenate([np.array(mask, bool) for _, mask in rows])
    tokens = Tokens(
        np.concatenate([np.array(ids, np.int32) for ids, _ in rows]),
        supervised,
        np.concatenate([[0], np.cumsum(lengths)]),
        np.array([True, True, True, False, True, True]),
        *np.zeros((2, 6), np.int32),
    )
    same, alone = without_prompt(tokens, bos)

    def cut(each: Tokens, row: int, where: Any = slice(None)) -> list[int]:
        low, high = each.offsets[row : row + 2]
        return each.ids[low:high][each.supervised[low:high] if where is None else where].tolist()

    assert [cut(alone, row) for row in range(6)] == [[1, 7, 8, 2], [7, 8, 2], [6, 7, 9, 10], [1], [9], [1, 9]]
    for each in (same, alone):
        assert [cut(each, row, None) for row in range(6)] == [[7, 8, 2], [8, 2], [7, 9, 10], [], [], [9]]
    assert same.valid.tolist() == alone.valid.tolist() == [True, True, True, False, False, True]
    np.testing.assert_array_equal(tokens.supervised, supervised)


@pytest.mark.parametrize("bos", [None, 1])
def test_ifd_against_losses_of_rows_written_out(bos: int | None) -> None:
    model = tiny_model()
    tokens = random_tokens([(6, 20), (9, 5), (3, 7), (4, 1)])
    if bos is not None:
        tokens.ids[tokens.offsets[:-1]] = bos
    checkpoint = checkpoint_of(model, tokens, tokenizer=SimpleNamespace(bos_token_id=bos))
    found = InstructionFollowingDifficulty().measure(checkpoint, examples_of(4))
    for row in range(4):
        low, high = tokens.offsets[row : row + 2]
        ids = torch.from_numpy(tokens.ids[low:high].astype(np.int64))
        said = int(tokens.completion_tokens[row])
        kept = said if bos is not None else said - 1
        assert found[row, 2] == kept
        if kept == 0:
            assert np.isnan(found[row, :2]).all()
            continue
        alone = ids[-said:] if bos is None else torch.cat([ids[:1], ids[-said:]])
        with torch.no_grad():
            for column, given in ((0, ids), (1, alone)):
                logits = model(input_ids=given[None]).logits[0, -kept - 1 : -1]
                expected = torch.nn.functional.cross_entropy(logits, given[-kept:]).item()
                assert found[row, column] == pytest.approx(expected, abs=1e-4)


def test_ifd_is_the_ratio_and_marks_rows_with_nothing_to_compare() -> None:
    scorer = InstructionFollowingDifficulty()
    values = [[[1.0, 2.0, 5.0], [0.5, 2.0, 5.0]], [[3.0, 2.0, 1.0]] * 2, [[np.nan, np.nan, 0.0]] * 2]
    losses = (MeanLoss(), np.ones((3, 2, 1)))
    found = scorer.score(examples_of(3), given_run((scorer, values), losses))
    np.testing.assert_allclose(found.features, [[0.5, 0.25], [1.5, 1.5], [0, 0]])
    np.testing.assert_allclose(found.difficulty, [0.375, 1.5, np.nan])
    assert found.valid.tolist() == [True, True, False]
    known_by_heart = given_run((scorer, [[[1.0, 2.0, 5.0], [0.0, 0.0, 5.0]]]), (MeanLoss(), np.ones((1, 2, 1))))
    with pytest.raises(InputError, match=r"ratio .* not finite, first row 0 \(id r0\) at step 20; lower proxy\.steps"):
        scorer.score(examples_of(1), known_by_heart)
    texts = read(pa.table({"text": ["a", "b"]})).examples
    with pytest.raises(InputError, match="text have no prompt to leave out"):
        scorer.score(texts, Run())
    for inside in (scorer, Product(scorers=(RankAverage(scorers=(scorer,)), Length()))):
        pipeline = Pipeline(proxy=Proxy(model="scratch"), scorer=inside, clusterer=KMeans())
        with pytest.raises(InputError, match="text have no prompt to leave out"):
            pipeline.check(texts)
        pipeline.check(texts, scored=True)


# -- length ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"prompt": ["aaaa", "b"], "completion": ["xyz", ""]}, [3, np.nan]),
        ({"question": ["aaaa", "b"], "answer": ["xyz", "é"]}, [3, 1]),
        ({"instruction": ["aaaa", "b"], "input": ["i", ""], "output": ["xyz", "q"]}, [3, 1]),
        ({"text": ["aaaa", "b"]}, [4, 1]),
        (
            {
                "messages": [
                    [{"role": r, "content": c} for r, c in turns]
                    for turns in (
                        [("user", "aaaa"), ("assistant", "xy"), ("user", "b"), ("assistant", "zzz")],
                        [("user", "a"), ("assistant", "b")],
                    )
                ]
            },
            [5, 1],
        ),
    ],
    ids=["prompt_completion", "question_answer", "instruction", "text", "messages"],
)
def test_length_in_characters(columns: dict[str, Any], expected: list[float], tmp_path: Path) -> None:
    found = Length().score(pa.table(columns), Run(cache=tmp_path))
    np.testing.assert_array_equal(found.difficulty, expected)
    assert not list(tmp_path.iterdir())


def test_length_in_tokens_trains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from curate.proxy.training import ProxyRun

    monkeypatch.setattr(ProxyRun, "train", lambda self: pytest.fail("trained"))
    proxy = Proxy(model="scratch", steps=4, checkpoints=2, max_length=8)
    examples = examples_of(3, completion=["one", "one two three " * 30, ""])
    run = Run(proxy, tmp_path)
    found = Length(unit="tokens").score(examples, run)
    assert run.facts(examples) is None  # nor does a report speak of a proxy
    assert found.difficulty[0] < found.difficulty[1] <= 8
    assert found.valid.tolist() == [True, True, False]


# -- combinations ---------------------------------------------------------------------------------------------------


class Given:
    """A plug-in that has its difficulties with it."""

    def __init__(self, *values: float) -> None:
        self.values = values

    def fingerprint(self) -> str:
        return repr(self.values)

    def score(self, examples: Any, run: Any) -> Any:
        return np.array(self.values)


def test_products_of_ranks_and_of_scores() -> None:
    a, b = (3.0, 1.0, 2.0, np.nan, 2.0), (0.5, 8.0, 0.25, 1.0, 100.0)
    examples, valid = examples_of(5), [0, 1, 2, 4]
    ranks = Product(scorers=(Given(*a), Given(*b))).score(examples, Run())
    expected = rankdata(np.array(a)[valid]) / 4 * rankdata(np.array(b)[valid]) / 4
    np.testing.assert_allclose(ranks.difficulty[valid], expected)
    assert np.isnan(ranks.difficulty[3])
    assert not ranks.valid[3]
    scores = Product(scorers=(Given(*a), Given(*b)), of="scores").score(examples, Run())
    np.testing.assert_allclose(scores.difficulty[valid], (np.array(a) * b)[valid])
    with pytest.raises(InputError, match=r"Given says -1 of row 0, .*choose Product\(of='ranks'\)"):
        Product(scorers=(Given(-1.0), Given(1.0)), of="scores").score(examples_of(1), Run())


def test_products_of_ranks_know_no_units() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30))
    one = Product(scorers=(Given(*a), Given(*b))).score(examples_of(30), Run())
    other = Product(scorers=(Given(*np.exp(3 * a)), Given(*(b**3)))).score(examples_of(30), Run())
    np.testing.assert_array_equal(one.difficulty, other.difficulty)


def test_combinations_measure_each_thing_once() -> None:
    for kind in (Product, RankAverage):
        measures = kind(scorers=(FinalLoss(), ErrorNorm(), ForgettingCount(), Length())).measures()
        assert [type(each).__name__ for each in measures] == ["MeanLoss", "ErrorNorm", "TokenAccuracy"]


# -- early output ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("output", ["hidden", "distribution"])
def test_early_outputs_are_projected_means_over_completion_tokens(
    output: Any, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if whole:
        monkeypatch.setattr("curate.proxy.predictions.logit_map", lambda _model: None)
        monkeypatch.setattr("curate.models.forward.logit_map", lambda _model: None)
    model = tiny_model("gemma3")
    scorer = EarlyOutput(output=output, dimensions=5)
    checkpoint = checkpoint_of(model, TOKENS)
    if whole and output == "hidden":
        with pytest.raises(InputError, match=r"choose EarlyOutput\(output='distribution'\)"):
            scorer.measure(checkpoint, ROWS)
        return
    found = scorer.measure(checkpoint, ROWS)
    width = 32 if output == "hidden" else 211
    matrix = projection(width, 5, derive_seed(7, "early output", output), "cpu")
    with torch.no_grad():
        for row in VALID:
            low, high = TOKENS.offsets[row : row + 2]
            ids = torch.from_numpy(TOKENS.ids[low:high].astype(np.int64))[None]
            where = torch.from_numpy(TOKENS.supervised[low:high])[1:]
            out = model(input_ids=ids, output_hidden_states=True)
            each = out.hidden_states[-1] if output == "hidden" else out.logits.softmax(-1)
            expected = (each[0, :-1][where].mean(0) @ matrix).numpy()
            np.testing.assert_allclose(found[row], expected, atol=1e-4, rtol=1e-3)
    np.testing.assert_array_equal(np.isnan(found).any(axis=1), ~TOKENS.valid)


def test_outputs_are_taken_at_the_last_early_checkpoint_and_nowhere_else() -> None:
    scorer = EarlyOutput(dimensions=3)
    checkpoint = checkpoint_of(tiny_model(), TOKENS)
    assert np.isfinite(scorer.measure(checkpoint, ROWS)[VALID]).all()  # step 2 of a schedule of 40
    checkpoint.proxy_run.schedule = Schedule(np.array([2, 3]), 40, 10.0)
    assert np.isnan(scorer.measure(checkpoint, ROWS)).all()  # 3 is early too
    outputs = np.arange(2 * 4 * 3).reshape(2, 4, 3)
    losses = np.arange(8.0).reshape(2, 4, 1)
    examples = examples_of(2)
    run = given_run((scorer, outputs), (MeanLoss(), losses))
    assert run.trace(examples, []).schedule.horizon_steps == 400
    found = scorer.score(examples, run)  # steps 10, 20, 30, 40: all within a tenth of 400
    np.testing.assert_array_equal(found.features, outputs[:, 3])
    np.testing.assert_array_equal(found.difficulty, losses[:, 3, 0])
    early = EarlyOutput(dimensions=3, within=0.05)
    run = given_run((early, outputs), (MeanLoss(), losses))
    np.testing.assert_array_equal(early.score(examples, run).difficulty, losses[:, 1, 0])


def test_a_schedule_without_an_early_checkpoint_is_refused_and_the_remedy_serves() -> None:
    proxy = Proxy(model="scratch", checkpoints=2)
    scorer = EarlyOutput()
    with pytest.raises(
        InputError, match=r"within 10% .* at 17% \(step 150 of 900\); set proxy\.checkpoints to at least 4"
    ):
        scorer.check_schedule(proxy.schedule(1000))
    scorer.check_schedule(proxy.model_copy(update={"checkpoints": 4}).schedule(1000))
    for rows in (200, 20_000, 1_000_000):  # the shipped recipe's proxy, at any size
        scorer.check_schedule(Proxy(steps="1/4 epoch", checkpoints=4).schedule(rows))


# -- sharpness with an ascent of each example's own -----------------------------------------------------------------


@pytest.mark.parametrize(("adaptive", "rho"), [(False, 0.3), (True, 2.0)])
@pytest.mark.parametrize("family_name", ["llama", "gpt_neox"])
def test_own_ascent_against_a_naive_loop(adaptive: bool, rho: float, family_name: str) -> None:
    import copy

    model = tiny_model(family_name)
    before = copy.deepcopy(model.state_dict())
    found = SAMSharpness(ascent="example", rho=rho, adaptive=adaptive).measure(checkpoint_of(model, TOKENS), ROWS)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in model.parameters())
    for row in VALID:
        uphill = copy.deepcopy(model)
        gradient = row_gradient(uphill, TOKENS, int(row))
        with torch.no_grad():
            scale = {n: p.abs() if adaptive else torch.ones_like(p) for n, p in uphill.named_parameters()}
            norm = torch.sqrt(sum(((scale[n] * g) ** 2).sum() for n, g in gradient.items()))
            for name, parameter in uphill.named_parameters():
                parameter += rho * scale[name] ** 2 * gradient[name] / norm
            expected = [row_loss(model, TOKENS, int(row)).item(), row_loss(uphill, TOKENS, int(row)).item()]
        np.testing.assert_allclose(found[row], expected, atol=2e-4, rtol=1e-4)
    np.testing.assert_array_equal(np.isnan(found).any(axis=1), ~TOKENS.valid)


def test_own_ascent_is_the_steepest_and_to_first_order_the_gradients_norm() -> None:
    model, rho = tiny_model(), 1e-3
    found = SAMSharpness(ascent="example", rho=rho).measure(checkpoint_of(model, TOKENS), ROWS)
    shared = SAMSharpness(ascent="batch", rho=rho).measure(checkpoint_of(model, TOKENS), ROWS)
    rise, rise_shared = (each[:, 1] - each[:, 0] for each in (found, shared))
    for row in VALID:
        norm = torch.sqrt(sum((g**2).sum() for g in row_gradient(model, TOKENS, int(row)).values())).item()
        assert rise[row] == pytest.approx(rho * norm, rel=0.05)
        assert rise[row] > rise_shared[row]


# -- known difficulty -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_signals_tell_the_known_levels_of_the_demo_set_apart(tmp_path: Path) -> None:
    """Chance that a row of levels 3 and 4 scores above one of levels 1 and 2; 0.5 says nothing."""
    from curate.word_problems.table import generate

    table = generate(160, seed=1)
    hard = np.array(table["level"]) >= 3
    proxy = Proxy(model="scratch", steps=60, horizon=180, checkpoints=2, learning_rate=3e-3, batch_size=8)
    run = Run(proxy, tmp_path)
    found = {}
    for scorer in (
        ErrorNorm(),
        InstructionFollowingDifficulty(),
        Product(scorers=(FinalLoss(), ErrorNorm())),
        Length(),
    ):
        ranks, easy = rankdata(scorer.score(table, run).difficulty), ~hard
        above = ranks[hard].sum() - hard.sum() * (hard.sum() + 1) / 2
        found[type(scorer).__name__] = above / (hard.sum() * easy.sum())
    least = {"ErrorNorm": 0.8, "InstructionFollowingDifficulty": 0.65, "Product": 0.8}
    assert all(found[name] > at_least for name, at_least in least.items()), found
    assert found["Length"] < 0.5  # it is not length that does it
