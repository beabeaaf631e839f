"""The margin of preference pairs: the loss of the chosen answer less that of the rejected one."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from curate.clusterers import KMeans
from curate.console.progress import Progress
from curate.data.readers import read
from curate.difficulty.score_files import read_scores, write_scores
from curate.errors import InputError
from curate.models import load_model
from curate.pipeline import Pipeline
from curate.proxy.proxy import Proxy
from curate.proxy.training import ProxyTraining
from curate.run import Run
from scorers import PreferenceMargin
from tests.fixtures.checkpoints import row_loss
from tests.fixtures.scored import examples_of

N = 12


def _pairs(**columns: list[Any]) -> Any:
    rows = {
        "prompt": [f"What is {k} and {k}?" for k in range(N)],
        "chosen": [f"It is {2 * k}." + " Surely." * (k % 3) for k in range(N)],
        "rejected": [f"I think {2 * k + 1}." + " Maybe." * (k % 4) for k in range(N)],
    }
    return read(pa.table(rows | columns)).examples


def _proxy(family: Path, **changes: Any) -> Proxy:
    settings = {"steps": 4, "checkpoints": 2, "batch_size": 4, "max_length": 64, "precision": "float32"}
    return Proxy(model=str(family / "proxy"), **(settings | changes))


def test_the_margin_is_the_difference_of_the_losses_of_both_answers(family: Path) -> None:
    examples, frozen = _pairs(rejected=[*_pairs().table["rejected"].to_pylist()[:-1], ""]), _proxy(family)
    run = Run(frozen.model_copy(update={"learning_rate": 1e-12}), family / "cache")
    scores = PreferenceMargin().score(examples, run)
    model = load_model(str(family / "proxy"))
    chosen = ProxyTraining(examples, run.proxy, run.context).tokenized.tokens
    rejected = ProxyTraining(examples.rejected(), run.proxy, run.context).tokenized.tokens
    with torch.no_grad():
        losses = [[row_loss(model, tokens, k).item() for k in range(N - 1)] for tokens in (chosen, rejected)]
    expected = np.array(losses[0]) - np.array(losses[1])
    assert scores.features.shape == (N, 2)
    np.testing.assert_allclose(scores.features[:-1], np.stack([expected, expected], axis=1), atol=1e-4)
    np.testing.assert_allclose(scores.difficulty[:-1], expected, atol=1e-4)
    assert scores.valid.tolist() == [True] * (N - 1) + [False]  # no rejected text
    assert np.isnan(scores.difficulty[-1])
    difference = chosen.completion_tokens - rejected.completion_tokens
    assert scores.length_difference.tolist() == [*difference[:-1].tolist(), 0]
    np.testing.assert_array_equal(scores.trajectory, run.trace(examples, PreferenceMargin().measures()).losses)


def test_earlier_answers_of_the_prompt_count_in_neither_loss(family: Path) -> None:
    said = [{"role": "assistant", "content": "A long answer, which is the same in both."}]
    asked = [[{"role": "user", "content": f"{k}?"}, *said, {"role": "user", "content": "Again?"}] for k in range(N)]
    chosen, rejected = ([[{"role": "assistant", "content": text}]] * N for text in ("Yes.", "No, no."))
    examples = _pairs(prompt=asked, chosen=chosen, rejected=rejected)
    margins = [
        PreferenceMargin().score(examples, Run(_proxy(family, supervise=supervise), family / "cache")).features
        for supervise in ("all", "last")
    ]
    np.testing.assert_allclose(margins[0], margins[1], atol=1e-5)


def test_pairs_that_a_proxy_comes_to_prefer_have_a_falling_margin(family: Path) -> None:
    examples = _pairs(chosen=["It is so."] * N, rejected=["Not at all!"] * N)
    run = Run(_proxy(family, steps=30, checkpoints=3, learning_rate=1e-2), family / "cache")
    margins = PreferenceMargin().score(examples, run).features.mean(axis=0)
    assert margins[0] > margins[-1]
    assert margins[-1] < -1


def test_other_rejected_answers_are_measured_anew_and_nothing_is_trained_again(
    family: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = PreferenceMargin().score(_pairs(), Run(_proxy(family), family / "cache"))
    monkeypatch.setattr("curate.training.train", lambda *_, **__: pytest.fail("the proxy was trained again"))
    other = _pairs(rejected=["Something else."] * N)
    second = PreferenceMargin().score(other, Run(_proxy(family), family / "cache"))
    np.testing.assert_array_equal(first.trajectory, second.trajectory)
    assert not np.allclose(first.difficulty, second.difficulty)


def test_the_correlation_with_the_difference_of_lengths_is_reported(
    family: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = Pipeline(proxy=_proxy(family), scorer=PreferenceMargin(), clusterer=KMeans())
    table = _pairs().table
    curated = pipeline.run(table, cache=family / "cache", progress=Progress("plain"), out=family / "out")
    assert "margin and difference of lengths: Spearman correlation" in capsys.readouterr().err
    value = curated.record()["diagnostics"]["length_difference_correlation"]
    assert -1 <= value <= 1
    assert "difference of lengths" in (family / "out" / "report.html").read_text(encoding="utf-8")
    path = family / "scores.parquet"
    write_scores(curated.scores, curated.scores.ids, path)
    assert read_scores(path).length_difference.tolist() == curated.scores.length_difference.tolist()
    again = pipeline.run(table, scores=read_scores(path)).record()["diagnostics"]
    assert again["length_difference_correlation"] == pytest.approx(value)


def test_rows_without_rejected_answers_are_refused_before_any_training(family: Path) -> None:
    with pytest.raises(InputError, match="compares chosen with rejected answers, and the data has none"):
        PreferenceMargin().check_examples(examples_of(4))
    with pytest.raises(InputError, match="--columns chosen=COLUMN,rejected=COLUMN"):
        PreferenceMargin().score(examples_of(4), Run(_proxy(family), family / "cache"))
