"""The weights that rows had under a reweighter: kept, resumed and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from curate.errors import InputError
from curate.finetuning.config import Finetuning
from curate.finetuning.finetune import finetune
from curate.finetuning.weights import read_weights
from curate.reweighters import ADAPT, DGA, DynamicLoss
from tests.fixtures.finetuning import write_topics


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_topics(folder)
    return folder


def tuning(inputs: Path, **changes: Any) -> Finetuning:
    given = {"model": str(inputs / "model"), "steps": 9, "batch_size": 8, "learning_rate": 0.01, "max_length": 64}
    return Finetuning(**given | {"precision": "float32", "template": "plain"} | changes)


def test_a_run_keeps_the_weights_that_rows_had(inputs: Path, tmp_path: Path) -> None:
    reweighter = DGA(target=str(inputs / "target.parquet"), domains="topic", refresh_every=3, rows_per_gradient=4)
    record = finetune(inputs / "rows.parquet", tuning(inputs, reweighter=reweighter), tmp_path / "run")
    ids, weights, times = read_weights(tmp_path / "run")
    assert ids.to_pylist() == [f"r{k}" for k in range(60)]
    assert times.sum() == 72
    drawn = times > 0
    assert np.isnan(weights[~drawn]).all()
    topics = np.array(["plus", "minus"] * 30)
    assert weights[drawn & (topics == "plus")].min() > 1 > weights[drawn & (topics == "minus")].max()
    facts = record["training"]["weights"]
    assert facts["rows_drawn"] == drawn.sum()
    assert (facts["smallest"], facts["largest"]) == pytest.approx(
        (weights[drawn].min(), weights[drawn].max()), abs=1e-5
    )
    assert 0 < facts["effective_share"] < 1
    assert record["settings"]["reweighter"]["use"] == "curate.reweighters.DGA"


def test_all_rows_alike_is_the_plain_run(inputs: Path, tmp_path: Path) -> None:
    alike = DynamicLoss(uniform_steps=9)
    weighed = finetune(inputs / "rows.parquet", tuning(inputs, reweighter=alike), tmp_path / "weighed")
    plain = finetune(inputs / "rows.parquet", tuning(inputs), tmp_path / "plain")
    assert weighed["training"]["loss_last"] == plain["training"]["loss_last"]
    assert weighed["training"]["weights"]["effective_share"] == 1
    assert plain["training"]["weights"] is None
    assert not (tmp_path / "plain" / "weights.parquet").exists()
    with pytest.raises(InputError, match="holds no weights"):
        read_weights(tmp_path / "plain")


def test_stopped_and_begun_again_it_goes_on_with_its_weights(inputs: Path, tmp_path: Path) -> None:
    from curate.errors import ExternalError

    reweighter = ADAPT(anchors=str(inputs / "target.parquet"), tau=0.1, refresh_every=4)
    settings = tuning(inputs, reweighter=reweighter, save_every=1)
    whole = finetune(inputs / "rows.parquet", settings, tmp_path / "whole")
    for _ in range(12):
        try:
            pieces = finetune(inputs / "rows.parquet", settings, tmp_path / "pieces", time_limit=1e-9)
            break
        except ExternalError:
            continue
    assert pieces["training"]["resumed"] > 3
    assert pieces["training"]["loss_last"] == whole["training"]["loss_last"]
    for one, two in zip(read_weights(tmp_path / "pieces")[1:], read_weights(tmp_path / "whole")[1:], strict=True):
        assert np.array_equal(one, two, equal_nan=True)


def test_a_changed_target_is_another_run(inputs: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.parquet"
    pq.write_table(pq.read_table(inputs / "target.parquet"), target)
    settings = tuning(inputs, reweighter=ADAPT(anchors=str(target)), steps=2)
    finetune(inputs / "rows.parquet", settings, tmp_path / "run")
    pq.write_table(pq.read_table(inputs / "target.parquet").slice(0, 3), target)
    with pytest.raises(InputError, match="a run of other data or settings"):
        finetune(inputs / "rows.parquet", settings, tmp_path / "run")
