"""Every scorer keeps the contract of scorers."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import rankdata

import scorers
from curate.checks import (
    check_scorer,
    small_examples,
)
from curate.data.readers import read
from curate.proxy.proxy import Proxy
from curate.recipe import decode
from curate.run import Run
from scorers import (
    ErrorNorm,
    FinalLoss,
    GradientAlignment,
    InstructionFollowingDifficulty,
    Learnability,
    PreferenceMargin,
    PreMemorizationAccuracy,
    Product,
    RankAverage,
    ReferenceLoss,
    SAMSharpness,
)
from tests.fixtures.components import made
from tests.fixtures.models import write_model
from tests.fixtures.tokenizers import byte_level


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("contracts")


class Length:
    """The three-line plug-in of the README."""

    def score(self, examples, run):
        return np.array([len(text) for text in examples.texts("completion", 0, len(examples))])


# Of a scorer that is not here, the defaults.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "LossTrajectory": [{}, {"features": "relative"}, {"features": "final"}],
    "SAMSharpness": [{}, {"adaptive": True, "rho": 0.5, "ascent": "batch"}, {"ascent": "example"}],
    "EarlyOutput": [{"within": 0.3}, {"output": "distribution", "dimensions": 8, "within": 0.3}],
    "ForgettingCount": [{"threshold": 0.02}],
    "Length": [{}, {"unit": "tokens"}],
    "RankAverage": [{"scorers": (FinalLoss(), Length())}],
    "Product": [
        {"scorers": (FinalLoss(), Length(), SAMSharpness())},
        {"scorers": (FinalLoss(), Length()), "of": "scores"},
    ],
}
# These need a target, a reference or answers, and have their own tests below.
NEEDING = ("GradientAlignment", "Learnability", "PreMemorizationAccuracy", "PreferenceMargin", "ReferenceLoss")


@pytest.mark.parametrize(
    "scorer", [*made(scorers, SETTINGS, without=NEEDING), Length()], ids=lambda part: type(part).__name__
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
        write_model(tmp_path / name, tokenizer, seed=seed)
    proxy = Proxy(model=str(tmp_path / "proxy"), steps=4, checkpoints=2, batch_size=8, max_length=64)
    check_scorer(Learnability(reference=str(tmp_path / "reference")), cache=tmp_path, proxy=proxy)
    check_scorer(ReferenceLoss(model=str(tmp_path / "reference")), cache=tmp_path, proxy=proxy)


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


def test_a_scorer_of_pairs(cache: Path) -> None:
    table = small_examples().table
    pairs = table.rename_columns({"completion": "chosen"})
    pairs = pairs.append_column("rejected", pa.array([f"no {k % 3}" for k in range(len(table))]))
    for scorer in (PreferenceMargin(), RankAverage(scorers=(PreferenceMargin(), FinalLoss()))):
        check_scorer(scorer, cache=cache, examples=read(pairs).examples)


def test_the_public_names() -> None:
    assert scorers.__all__ == sorted(scorers.__all__)
    for name in scorers.__all__:
        kind = getattr(scorers, name)
        assert kind.__module__.startswith("scorers.")
        assert kind.__name__ == name
    assert type(decode({"use": "ErrorNorm"}, "scorer")) is ErrorNorm


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
        scorers.Length(),
    ):
        ranks, easy = rankdata(scorer.score(table, run).difficulty), ~hard
        above = ranks[hard].sum() - hard.sum() * (hard.sum() + 1) / 2
        found[type(scorer).__name__] = above / (hard.sum() * easy.sum())
    least = {"ErrorNorm": 0.8, "InstructionFollowingDifficulty": 0.65, "Product": 0.8}
    assert all(found[name] > at_least for name, at_least in least.items()), found
    assert found["Length"] < 0.5  # it is not length that does it
