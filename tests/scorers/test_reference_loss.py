"""Loss under a model of a reference corpus, and not under a proxy of the same rows."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import curate
from augmenters import Subset
from curate.cli.main import main
from curate.clusterers import KMeans
from curate.curated import inputs_fingerprint
from curate.errors import InputError
from curate.models.loading import load_model
from curate.pipeline import Pipeline
from curate.proxy.proxy import Proxy
from curate.proxy.training import ProxyTraining
from curate.run import Run
from scorers import FinalLoss, RankAverage, ReferenceLoss
from tests.fixtures.checkpoints import row_loss
from tests.fixtures.models import tiny_model
from tests.fixtures.scored import examples_of
from tests.fixtures.tokenizers import byte_level

PROXY = Proxy(model="scratch", steps=60, checkpoints=1, batch_size=8, max_length=48, learning_rate=5e-3)


def frequent_and_good() -> tuple[pa.Table, pa.Table]:
    """Data in which bad rows are frequent and alike, and a corpus of others like its few good ones."""
    rows = [(f"r{k}", f"p{k}?", "bad bad bad bad" if k % 4 else f"we find that {k} is good") for k in range(48)]
    corpus = [(f"p{k}?", f"we find that {k} is good") for k in range(100, 140)]
    data = pa.table(dict(zip(("id", "prompt", "completion"), map(list, zip(*rows, strict=True)), strict=True)))
    return data, pa.table(dict(zip(("prompt", "completion"), map(list, zip(*corpus, strict=True)), strict=True)))


def test_rows_like_the_corpus_have_the_lowest_loss_though_others_are_frequent(tmp_path: Path) -> None:
    data, corpus = frequent_and_good()
    good = np.array([text.endswith("good") for text in data["completion"].to_pylist()])
    run = Run(PROXY, tmp_path / "cache")
    found = ReferenceLoss(reference=corpus).score(data, run)
    assert found.difficulty[good].max() < found.difficulty[~good].min()
    own = FinalLoss().score(data, run)
    assert own.difficulty[good].min() > own.difficulty[~good].max()  # the proxy of the data says the opposite
    facts = Run(PROXY, tmp_path / "cache").facts(curate.read(data).examples)
    assert facts is None
    np.testing.assert_array_equal(found.final_loss, found.difficulty)


def test_a_model_is_scored_as_it_is_and_the_runs_proxy_is_not_trained(
    family: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.training.train", lambda *_, **__: pytest.fail("a proxy was trained"))
    examples = examples_of(7, completion=[" ".join(["word"] * (k % 4 + 1)) for k in range(6)] + [""])
    proxy = Proxy(model=str(family / "proxy"), max_length=64, precision="float32")
    run = Run(proxy, family / "cache")
    scorer = ReferenceLoss(model=str(family / "reference"))
    assert scorer.pending(examples, run) == f"7 rows under {family / 'reference'}"
    found = scorer.score(examples, run)
    tokens = ProxyTraining(examples, proxy.model_copy(update={"model": scorer.model}), run.context).tokenized.tokens
    with torch.no_grad():
        model = load_model(str(family / "reference"))
        expected = [row_loss(model, tokens, row).item() for row in range(6)]
    np.testing.assert_allclose(found.difficulty[:6], expected, atol=1e-4)
    assert found.valid.tolist() == [True] * 6 + [False]
    assert scorer.pending(examples, run) is None
    facts = run.facts(examples)
    assert facts is not None
    assert facts["model"] == str(family / "reference")


def test_other_files_under_the_same_name_are_another_run(family: Path, tmp_path: Path) -> None:
    data, corpus = frequent_and_good()
    loaded = curate.read(data)
    pq.write_table(corpus, tmp_path / "corpus.parquet")
    before = []
    for scorer in (
        ReferenceLoss(model=str(family / "reference")),
        ReferenceLoss(reference=str(tmp_path / "corpus.parquet")),
        RankAverage(scorers=(ReferenceLoss(reference=str(tmp_path / "corpus.parquet")),)),
    ):
        pipeline = Pipeline(scorer=scorer, clusterer=KMeans(), proxy=PROXY)
        before.append((pipeline, inputs_fingerprint(pipeline, loaded, None)))
    tiny_model(vocab_size=len(byte_level()), seed=5).save_pretrained(family / "reference")
    pq.write_table(corpus.slice(1), tmp_path / "corpus.parquet")
    for pipeline, old in before:
        assert inputs_fingerprint(pipeline, loaded, None) != old


def test_references_that_cannot_serve(family: Path, tmp_path: Path) -> None:
    data, corpus = frequent_and_good()
    for settings in ({}, {"model": "m", "reference": corpus}):
        with pytest.raises(ValueError, match="one of the two"):
            ReferenceLoss(**settings)
    with pytest.raises(ValueError, match="random weights"):
        ReferenceLoss(model="scratch")
    with pytest.raises(InputError, match="is the data itself"):
        ReferenceLoss(reference=data).score(data, Run(PROXY, tmp_path))
    with pytest.raises(InputError, match=r"ReferenceLoss reference .*absent\.parquet"):
        ReferenceLoss(reference=str(tmp_path / "absent.parquet")).check_examples(curate.read(data).examples)
    with pytest.raises(InputError, match="nothing"):
        ReferenceLoss(model=str(family / "nothing")).check_examples(curate.read(data).examples)


def test_a_plan_says_what_it_takes_and_trains_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, corpus = frequent_and_good()
    scorer = ReferenceLoss(reference=str(tmp_path / "corpus.parquet"))
    pipeline = Pipeline(
        scorer=scorer, clusterer=KMeans(), proxy=PROXY, augmenters=[Subset(size=12, choose="lowest_loss")]
    )
    (tmp_path / "recipe.yaml").write_text(pipeline.to_yaml())
    pq.write_table(data, tmp_path / "data.parquet")
    pq.write_table(corpus, tmp_path / "corpus.parquet")
    given = [str(tmp_path / "data.parquet"), "--recipe", str(tmp_path / "recipe.yaml")]
    with monkeypatch.context() as patch:
        patch.setattr("curate.training.train", lambda *_, **__: pytest.fail("a proxy was trained"))
        assert main(["plan", *given, "--json"]) == 0
    work = {each["stage"]: each["work"] for each in json.loads(capsys.readouterr().out)["stages"]}
    assert work["score"].startswith("a proxy is trained for 60 steps on 40 rows")
    assert main(["run", *given, "--out", str(tmp_path / "out")]) == 0
    kept = pq.read_table(tmp_path / "out" / "data")["completion"].to_pylist()
    assert len(kept) == 12
    assert all(text.endswith("good") for text in kept)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["proxy"]["steps"] == [60]
    capsys.readouterr()
    assert main(["plan", *given, "--json"]) == 0
    assert "score" not in {each["stage"] for each in json.loads(capsys.readouterr().out)["stages"]}
