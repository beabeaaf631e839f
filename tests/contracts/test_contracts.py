"""The contract tests that plug-in authors run, on every component of ours, and on classes that break them."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest
from sklearn.cluster import MiniBatchKMeans
from sklearn.mixture import GaussianMixture

from augmenters import Duplicate, Replay, Subset
from curate.checks import (
    check_augmenter,
    check_clusterer,
    check_generator,
    check_scorer,
    small_examples,
    small_split,
)
from curate.clusterers import HDBSCAN, KMeans, PerSource, Quantile, Threshold
from curate.data.examples import Examples
from curate.data.readers import read
from curate.errors import InputError
from curate.generators import Transformers, VLLMServer
from curate.generators.requests import Completion
from curate.mixture.plan import Realized, fold, realize
from curate.proxy.proxy import Proxy
from curate.run import Run
from scorers import (
    EarlyOutput,
    ErrorNorm,
    FinalLoss,
    ForgettingCount,
    GradientAlignment,
    InstructionFollowingDifficulty,
    Learnability,
    LossTrajectory,
    PreMemorizationAccuracy,
    Product,
    RankAverage,
    SAMSharpness,
)
from scorers import Length as CompletionLength
from tests.fixtures.models import tiny_model
from tests.fixtures.server import FakeServer
from tests.fixtures.tokenizers import byte_level


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("contracts")


class Length:
    """The three-line plug-in of the README."""

    def score(self, examples, run):
        return np.array([len(text) for text in examples.texts("completion", 0, len(examples))])


@pytest.mark.parametrize(
    "scorer",
    [
        LossTrajectory(),
        LossTrajectory(features="relative"),
        LossTrajectory(features="final"),
        FinalLoss(),
        SAMSharpness(),
        SAMSharpness(adaptive=True, rho=0.5, ascent="batch"),
        SAMSharpness(ascent="example"),
        EarlyOutput(within=0.3),
        EarlyOutput(output="distribution", dimensions=8, within=0.3),
        ErrorNorm(),
        ForgettingCount(threshold=0.02),
        InstructionFollowingDifficulty(),
        CompletionLength(),
        CompletionLength(unit="tokens"),
        RankAverage(scorers=(FinalLoss(), Length())),
        Product(scorers=(FinalLoss(), Length(), SAMSharpness())),
        Product(scorers=(FinalLoss(), Length()), of="scores"),
        Length(),
    ],
    ids=lambda part: type(part).__name__,
)
def test_scorers(scorer: object, cache: Path) -> None:
    check_scorer(scorer, cache=cache)


@pytest.mark.parametrize("parameters", ["last-layer", "lora", "all"])
def test_a_scorer_with_a_target(parameters: Literal["last-layer", "lora", "all"], cache: Path) -> None:
    path = cache / "target.jsonl"
    rows = [{"prompt": f"What comes after {k}?", "completion": "two three"} for k in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    check_scorer(GradientAlignment(target=str(path), parameters=parameters), cache=cache)


def test_a_scorer_with_a_reference(tmp_path: Path) -> None:
    tokenizer = byte_level()
    for name, seed in (("proxy", 0), ("reference", 1)):
        tiny_model(vocab_size=len(tokenizer), seed=seed).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    proxy = Proxy(model=str(tmp_path / "proxy"), steps=4, checkpoints=2, batch_size=8, max_length=64)
    check_scorer(Learnability(reference=str(tmp_path / "reference")), cache=tmp_path, proxy=proxy)


def test_scorers_of_answers(cache: Path) -> None:
    """They need rows with answers to grade by, and whole epochs."""
    table = small_examples().table
    numbers = [str(k % 4) for k in range(len(table))]
    answered = table.append_column("final_answer", pa.array([*numbers[:-2], None, None]))
    pairs = zip(table["completion"].to_pylist(), numbers, strict=True)
    texts = [f"{text}\n#### {number}" if text else "" for text, number in pairs]
    answered = answered.set_column(answered.column_names.index("completion"), "completion", pa.array(texts))
    epochs = Proxy(model="scratch", steps="2 epochs", checkpoints=2, min_steps=1, batch_size=8, max_length=64)
    scorer = PreMemorizationAccuracy(samples=2, max_tokens=8)
    for each in (scorer, RankAverage(scorers=(scorer, FinalLoss()))):
        check_scorer(each, cache=cache, proxy=epochs, examples=read(answered).examples)


@pytest.mark.parametrize(
    "clusterer",
    [
        KMeans(),
        KMeans(n_clusters=5),
        HDBSCAN(min_cluster_size=20),
        PerSource(clusterer=KMeans()),
        MiniBatchKMeans(2, n_init=3),
        GaussianMixture(2),
    ],
    ids=lambda part: type(part).__name__,
)
def test_clusterers(clusterer: object) -> None:
    check_clusterer(clusterer)


@pytest.mark.parametrize("clusterer", [Quantile(), Threshold(value=1.0)])
def test_cuts_are_clusterers_too(clusterer: object) -> None:
    check_clusterer(clusterer)


@pytest.mark.parametrize(
    "augmenter",
    [
        Duplicate(),
        Duplicate(times=3, cap=0.2, noise_guard=0.1),
        Duplicate(of="easy"),
        Duplicate(of="random"),
        Duplicate(of="matched", draw=2),
        Duplicate(of="final_loss"),
        Subset(size=0.3),
        Subset(size=5, choose="lowest_loss"),
        Subset(size=0.3, choose="random", per="source"),
        Replay(data="rows.parquet", share=0.2),
    ],
    ids=lambda part: type(part).__name__,
)
def test_augmenters(augmenter: object) -> None:
    check_augmenter(augmenter)


class NaNScorer:
    def score(self, examples, run):
        scores = LossTrajectory().score(examples, run)
        scores.features[0] = np.nan
        return scores


class RandomScorer:
    def score(self, examples, run):
        return np.random.default_rng().random(len(examples))


class ShortScorer:
    def score(self, examples, run):
        return np.zeros(3)


@pytest.mark.parametrize(
    ("scorer", "says"),
    [(RandomScorer(), "another answer"), (NaNScorer(), "not finite"), (object(), "method score")],
)
def test_broken_scorers_are_found(scorer: object, says: str, cache: Path) -> None:
    with pytest.raises(AssertionError, match=says):
        check_scorer(scorer, cache=cache)


def test_a_scorer_of_the_wrong_length_is_found(cache: Path) -> None:
    with pytest.raises(InputError, match="for 24 examples"):
        check_scorer(ShortScorer(), cache=cache)


class Resurrecting:
    def plan(self, plan, split, seed):
        return plan.with_counts(np.ones(len(plan), np.int32))


class Mutating:
    def plan(self, plan, split, seed):
        plan.counts[:] = 2
        return plan


@pytest.mark.parametrize(("augmenter", "says"), [(Resurrecting(), "came back"), (Mutating(), "was changed")])
def test_broken_augmenters_are_found(augmenter: object, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check_augmenter(augmenter)


class Floating:
    def fit_predict(self, X):
        return X[:, 0]


class Scaling:
    def fit_predict(self, X):
        X /= 2
        return np.zeros(len(X), int)


@pytest.mark.parametrize(("clusterer", "says"), [(Floating(), "not integers"), (Scaling(), "changed X")])
def test_broken_clusterers_are_found(clusterer: object, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check_clusterer(clusterer)


# -- the other dataset of Replay ------------------------------------------------------------------------------------


def _pairs(n: int = 60, **columns: list[object]) -> pa.Table:
    return pa.table({"prompt": [f"p{i}" for i in range(n)], "completion": [f"c{i}" for i in range(n)], **columns})


def _replayed(examples: Examples, replay: Replay) -> Realized:
    (realized,) = realize(fold([replay], small_split(len(examples)), 0), examples, Run())
    return realized


def test_replay_reads_as_the_input_is_read(tmp_path: Path) -> None:
    for name in ("train", "test"):
        rows = [{"prompt": f"{name} {i}", "completion": None if i == 3 else f"c{i}"} for i in range(20)]
        (tmp_path / f"{name}-0.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    examples = small_examples(24)
    realized = _replayed(examples, Replay(data=str(tmp_path), share=0.2, split="test", on_bad_row="drop"))
    assert all(text.startswith("test ") for text in realized.rows.table["prompt"].to_pylist())
    ((row, stage),) = [(record["row"], record["stage"]) for record in realized.rejected]
    assert (row, stage) == (3, "replay")


@pytest.mark.parametrize(
    ("replay", "says"),
    [
        (Replay(data="no/such.jsonl", share=0.2), "no/such.jsonl: .*does not exist"),
        (Replay(data=pa.table({"a": ["b"]}), share=0.2), "Table: .*match no known shape.*Replay.columns"),
        (Replay(data=pa.table({"text": ["b"]}), share=0.2), "Table: it has shape text .*Replay.columns"),
        (Replay(data=_pairs(3).append_column("x", pa.array([1, 2, 3])), share=0.2, where="x=7"), "Replay.where x=7"),
        (
            Replay(data=pa.table({"prompt": ["a", "b"], "completion": ["c", None]}), share=0.2),
            "Table: row 1 .*Replay.on_bad_row drop",
        ),
        (Replay(data=_pairs(3), share=0.2, config="main"), "Table: config=main"),
    ],
    ids=["path", "columns", "shape", "where", "null", "config"],
)
def test_replay_data_that_cannot_serve_is_named_before_anything_is_scored(replay: Replay, says: str) -> None:
    for serve in (lambda: replay.check_examples(small_examples(24)), lambda: _replayed(small_examples(24), replay)):
        with pytest.raises(InputError, match="Replay data .*" + says) as caught:
            serve()
        assert not re.search(r"--(columns|where|on-bad-row)", str(caught.value))


def test_replay_into_a_column_that_is_never_null_is_refused() -> None:
    level = pa.field("level", pa.int32(), nullable=False)
    examples = read(_pairs(24).append_column(level, pa.array(range(24), pa.int32()))).examples
    replay = Replay(data=_pairs(), share=0.2)
    with pytest.raises(InputError, match="'level', which is declared as never null"):
        replay.check_examples(examples)
    # A column that the other dataset has a value for may stay as it is.
    strict = pa.schema([pa.field("prompt", pa.string(), nullable=False), pa.field("completion", pa.string())])
    replay.check_examples(read(_pairs(24).cast(strict)).examples)


def test_replay_fills_the_column_that_is_trained_on() -> None:
    """Also where the input's completion is its final answer, which the other dataset has none of."""
    table = _pairs(24).rename_columns(["prompt", "final_answer"])
    examples = read(table, columns="prompt=prompt,completion=final_answer").examples
    rows = _replayed(examples, Replay(data=_pairs(), share=0.2)).rows.table
    assert [text[0] for text in rows["final_answer"].to_pylist()] == ["c"] * rows.num_rows


@pytest.mark.parametrize(
    ("scorers", "weights", "says"),
    [
        (("FinalLoss",), None, "write {use: FinalLoss}"),
        ((FinalLoss,), None, r"give an object of it, FinalLoss\(\)"),
        ((KMeans(),), None, "KMeans does not fit: a scorer has a method score"),
        ((FinalLoss(), Length()), (1.0,), "there are 2 scorers; give as many weights, not 1"),
        ((FinalLoss(),), (0.0,), "greater than 0"),
        ((FinalLoss(),), (float("nan"),), "weights"),
        ((FinalLoss(),), (float("inf"),), "finite"),
    ],
    ids=["name", "class", "clusterer", "number", "zero", "nan", "infinite"],
)
def test_rank_average_checks_its_parts_when_it_is_made(scorers: tuple, weights: tuple | None, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        RankAverage(scorers=scorers, weights=weights)


# -- generators -----------------------------------------------------------------------------------------------------


def test_generators(tmp_path: Path) -> None:
    tokenizer = byte_level()
    tiny_model(vocab_size=len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    check_generator(Transformers(model=str(tmp_path), device="cpu", batch_size=4))
    with FakeServer(lambda body: "two") as server:
        check_generator(VLLMServer(model=server.model, url=server.url))


@dataclass(frozen=True)
class Echo:
    """The generator of the module's docstring, with a fault."""

    fault: str = ""

    def identity(self) -> str:
        return "echo"

    def serve(self, queue) -> None:
        batch = queue.take(4)
        while batch:
            for number, request in enumerate(batch):
                text = f"{request.prompt}{id(queue) if self.fault == 'random' else ''}"
                if self.fault != "lost" or number:
                    queue.done(request, Completion(text, "done" if self.fault == "reason" else "stop", 1, 1))
                if self.fault == "twice":
                    queue.done(request, Completion(text, "stop", 1, 1))
            batch = [] if self.fault == "early" else queue.take(4)


def test_a_generator_of_a_few_lines_keeps_the_contract() -> None:
    check_generator(Echo())


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("random", "greedy"),
        ("lost", "not answered"),
        ("twice", "came twice"),
        ("early", "not taken"),
        ("reason", "finish_reason"),
    ],
)
def test_broken_generators_are_found(fault: str, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check_generator(Echo(fault))
