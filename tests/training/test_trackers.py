"""Trackers: one callback for runs, fine-tuning and validation; each with its real package, offline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from curate.clusterers import KMeans
from curate.errors import InputError
from curate.pipeline import Pipeline
from curate.training.trackers import tracker_names
from tests.fixtures.commands import TINY, _rows, _write

SETTINGS = [argument for argument in TINY if "=" in argument]


def test_a_run_tells_its_callback_every_step_and_then_what_came_of_it(tmp_path: Path) -> None:
    seen: list[tuple[int, Mapping[str, float]]] = []
    data, cache = _write(tmp_path / "rows.jsonl", _rows()), tmp_path / "cache"
    pipeline = Pipeline.from_recipe("quick", settings=["proxy.model=scratch", *SETTINGS])
    curated = pipeline.run(data, cache=cache, progress=False, log=[lambda *line: seen.append(line)])
    assert [step for step, _ in seen] == [1, 2, 3, 4, 4]
    assert all(values["loss"] > 0 and values["learning_rate"] >= 0 for _, values in seen[:-1])
    assert [values["epoch"] for _, values in seen[:-1]] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    result = seen.pop()[1]
    assert result["rows"] == 40
    assert result["rows_hard"] == curated.split.hard.sum()
    assert result["rows_planned"] == len(curated)
    final = curated.scores.final_loss
    assert final is not None
    assert result["loss_hard"] == pytest.approx(final[curated.split.hard].mean())
    again: list[tuple[int, Mapping[str, float]]] = []  # the proxy comes from the cache
    pipeline.run(data, cache=cache, progress=False, log=[lambda *line: again.append(line)])
    assert again == [(4, result)]


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_tracker_keeps_what_a_run_tells_it_beside_the_result(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = {"tensorboard": "tensorboard.backend.event_processing.event_accumulator"}.get(name, name)
    package = pytest.importorskip(reader)
    for variable in ("MLFLOW_TRACKING_URI", "WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("WANDB_SILENT", "true")
    data, out = _write(tmp_path / "rows.jsonl", _rows()), tmp_path / "out"
    pipeline = Pipeline.from_recipe("quick", settings=["proxy.model=scratch", *SETTINGS])
    pipeline.run(data, out=out, cache=tmp_path / "cache", progress=False, log=[name])
    folder = tmp_path / "out-log"
    if name == "tensorboard":
        found = package.EventAccumulator(str(folder / "tensorboard")).Reload()
        assert [point.step for point in found.Scalars("loss")] == [1, 2, 3, 4]
        assert [point.value for point in found.Scalars("rows")] == [40]
    elif name == "mlflow":
        client = package.MlflowClient(tracking_uri=(folder / "mlruns").as_uri())
        (found,) = client.search_runs([client.get_experiment_by_name("curate").experiment_id])
        assert [point.step for point in client.get_metric_history(found.info.run_id, "loss")] == [1, 2, 3, 4]
        assert (found.data.metrics["rows"], found.info.run_name) == (40, "out")
        assert "scratch" in found.data.params["proxy"]
    else:
        (written,) = folder.glob("wandb/offline-run-*/run-*.wandb")
        content = written.read_bytes()
        assert all(key in content for key in (b"learning_rate", b"rows_planned", b"LossTrajectory"))
    assert not (out / "tensorboard").exists()


def test_a_component_that_no_recipe_can_name_is_tracked_too(tmp_path: Path) -> None:
    class Length:
        def score(self, examples: Any, run: Any) -> list[float]:
            return [float(row % 5) for row in range(len(examples))]

    seen: list[int] = []
    pipeline = Pipeline(scorer=Length(), clusterer=KMeans(), augmenters=[])
    data = _write(tmp_path / "rows.jsonl", _rows())
    pipeline.run(data, cache=tmp_path / "cache", progress=False)
    pipeline.run(data, cache=tmp_path / "cache", progress=False, log=[lambda step, _: seen.append(step)])
    assert seen == [0]


def test_trackers_that_are_not_there_are_named_before_anything_is_done(tmp_path: Path) -> None:
    assert tracker_names(" tensorboard, ,mlflow") == ["tensorboard", "mlflow"]
    with pytest.raises(InputError, match=r"choose from tensorboard, wandb, mlflow, or pass a function"):
        Pipeline.from_recipe("quick").run(tmp_path / "missing.jsonl", log=["neptune"])
