"""A run: one pass over the proxy for all who ask."""

from pathlib import Path
from typing import Any

import pytest

from curate import Pipeline
from curate import run as run_module
from curate.checks import small_examples
from curate.clusterers import KMeans
from curate.data.readers import read
from curate.run import Run, standalone
from scorers import FinalLoss, LossTrajectory, RankAverage, SAMSharpness
from tests.fixtures.pipelines import (
    TINY,
    _planted,
)

pytestmark = pytest.mark.usefixtures("tiny_scratch")


def test_the_union_of_measures_is_traced_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = run_module.measure_checkpoints

    def spy(examples: Any, proxy: Any, measures: Any, run: Any) -> Any:
        asked.append([type(measure).__name__ for measure in measures])
        return real(examples, proxy, measures, run)

    monkeypatch.setattr(run_module, "measure_checkpoints", spy)
    table, _ = _planted(16)
    proxy = TINY.model_copy(update={"steps": 3, "horizon": 9})
    scorer = RankAverage(scorers=(FinalLoss(), LossTrajectory(), SAMSharpness(rows=8)))
    curated = Pipeline(proxy=proxy, scorer=scorer, clusterer=KMeans()).run(table, cache=tmp_path)
    assert len(asked) == 1
    assert set(asked[0]) == {"MeanLoss", "SAMSharpness"}
    assert curated.scores.features.shape == (16, 3)


def test_an_index_of_the_gate_is_built_once_and_a_new_one_for_new_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, examples = Run(cache=tmp_path), small_examples()
    assert run.gate_index(examples) is run.gate_index(examples)
    assert run.gate_index(examples) is not run.gate_index(examples.slice(0, 5))
    assert run.evaluation_index() is None
    assert run.new_rows_index() is not run.new_rows_index()


def test_a_component_called_by_hand_reads_what_it_is_given(tmp_path: Path) -> None:
    run, examples = Run(cache=tmp_path), small_examples()
    assert standalone(examples, run) == (examples, run)
    for data in (examples.table, read(examples.table)):
        alone, own = standalone(data, run)
        assert (alone.fingerprint(), own) == (examples.fingerprint(), run)
