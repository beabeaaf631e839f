"""What a plan takes a measure to cost, against the tokens that go through a layer when it is taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import torch

from augmenters import Duplicate
from curate import estimate as estimate_module
from curate.clusterers import KMeans
from curate.data.readers import read
from curate.errors import InputError
from curate.estimate import estimate
from curate.pipeline import Pipeline
from curate.proxy.measures import MeanLoss, passes_of
from curate.proxy.proxy import Proxy
from curate.run import Run
from scorers import (
    EarlyOutput,
    ErrorNorm,
    GradientAlignment,
    InstructionFollowingDifficulty,
    LossTrajectory,
    PreMemorizationAccuracy,
    RankAverage,
    SAMSharpness,
)
from tests.fixtures.checkpoints import checkpoint_of
from tests.fixtures.models import random_tokens, tiny_model
from tests.fixtures.scored import PROXY, additions

ROWS, LENGTH, STEPS = 60, 12, (2, 30)
TARGET = pa.table({"prompt": ["a"] * 30, "completion": ["b"] * 30})


@pytest.mark.parametrize(
    "scorer",
    [
        ErrorNorm(),
        EarlyOutput(output="distribution"),
        InstructionFollowingDifficulty(),
        SAMSharpness(),
        SAMSharpness(rows=20),
        SAMSharpness(ascent="batch"),
        SAMSharpness(ascent="example"),
        GradientAlignment(target=TARGET),
        GradientAlignment(target=TARGET, parameters="all"),
    ],
    ids=lambda scorer: type(scorer).__name__,
)
def test_as_many_tokens_go_through_a_layer_as_its_passes_say(scorer: Any) -> None:
    """A token that a gradient goes back through counts twice more."""
    model = tiny_model()
    tokens = random_tokens([(1, LENGTH - 1)] * ROWS)
    target = random_tokens([(1, LENGTH - 1)] * 30)
    seen = 0

    def forward(_layer: Any, _arguments: Any, output: Any) -> None:
        nonlocal seen
        hidden = output if isinstance(output, torch.Tensor) else output[0]
        count = hidden.numel() // hidden.shape[-1]
        seen += count
        if hidden.requires_grad:
            hidden.register_hook(lambda _gradient: backward(count))

    def backward(count: int) -> None:
        nonlocal seen
        seen += 2 * count

    model.get_decoder().layers[0].register_forward_hook(forward)
    (measure,) = [each for each in scorer.measures() if not isinstance(each, MeanLoss)]
    for step in STEPS:
        lent = checkpoint_of(
            model,
            tokens,
            tokenizer=SimpleNamespace(bos_token_id=None),
            tokenize=lambda _rows: SimpleNamespace(tokens=target, refused={}),
            tokenized=SimpleNamespace(tokens=tokens),
        )
        measure.measure(replace(lent, step=step), [None] * ROWS)
    passes = passes_of(measure, ROWS, len(STEPS))
    assert seen / (ROWS * LENGTH) == pytest.approx(passes, rel=0.1)


def test_a_plan_adds_up_what_its_measures_cost() -> None:
    answers = [f"#### {k + 2}" for k in range(40)]
    table = pa.table({"prompt": [f"{k} and 2 is" for k in range(40)], "completion": answers})
    proxy = Proxy(model="scratch", steps="4 epochs", min_steps=1, checkpoints=4)

    def measured(scorer: Any) -> int:
        planned = estimate(Pipeline(proxy=proxy, scorer=scorer, clusterer=KMeans()), read(table), Run(proxy))
        return next(int(each["tokens"]) for each in planned["stages"] if each["stage"] == "measure")

    one = measured(ErrorNorm()) // 8  # of the norm and of the loss, at four checkpoints
    assert measured(PreMemorizationAccuracy(samples=5)) == pytest.approx((20 + 4) * one, rel=0.01)
    assert measured(RankAverage(scorers=(SAMSharpness(ascent="batch"), ErrorNorm()))) == pytest.approx(
        (20 + 8) * one, rel=0.01
    )


def test_the_rate_of_the_machine_is_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer than all the rest of an estimate; the cache keeps it for the next process too."""
    table = pa.table({"prompt": [f"{k} is" for k in range(40)], "completion": [f"{k}" for k in range(40)]})
    timed = []
    real = estimate_module._timed_rate
    monkeypatch.setattr(estimate_module, "_timed_rate", lambda device: (timed.append(1), real(device))[1])
    pipeline = Pipeline(proxy=Proxy(model="scratch"), scorer=ErrorNorm(), clusterer=KMeans())
    first, second = (estimate(pipeline, read(table), Run(pipeline.proxy)) for _ in range(2))
    assert timed == [1]
    assert first == second


def test_half_proxies_are_priced_and_then_in_the_cache(tmp_path: Path) -> None:
    """A run repeats nothing, and its plan is known before it is written."""
    data = read(additions(60).table)
    augmenters = [Duplicate(only="reducible")]
    pipeline = Pipeline(proxy=PROXY, scorer=LossTrajectory(), clusterer=KMeans(), augmenters=augmenters)
    before = estimate(pipeline, data, Run(PROXY, tmp_path))
    stages = {stage["stage"]: stage for stage in before["stages"]}
    assert stages["train half-proxies"]["work"] == "2 x 24 steps of 8 rows, each on half of the rows"
    assert stages["train half-proxies"]["tokens"] == pytest.approx(8 * stages["train the proxy"]["tokens"], abs=8)
    assert stages["measure held out"]["work"].startswith("60 rows at 9 checkpoints")
    assert before["rows_out"] is None
    curated = pipeline.run(data, cache=tmp_path)
    assert curated.split.reducible is not None
    assert curated.split.reducible.rows["hard"] == curated.split.hard.sum()
    after = estimate(pipeline, data, Run(PROXY, tmp_path))
    cached = {stage["stage"]: stage["cached"] for stage in after["stages"]}
    assert (cached["train half-proxies"], cached["measure held out"]) == ("yes", "yes")
    assert after["rows_out"] == len(curated)
    texts = read(pa.table({"text": ["one two", "three four", "five six"]}))
    with pytest.raises(InputError, match="no completion apart from the prompt"):
        pipeline.check(texts.examples)
