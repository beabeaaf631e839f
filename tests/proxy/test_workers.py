"""A proxy that workers train and measure is the one that this process trains and measures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import curate.proxy.trace as trace_module
from curate.component import Component
from curate.engine import Ray
from curate.errors import InputError
from curate.proxy.measures import LiveCheckpoint, MeanLoss
from curate.proxy.trace import measure_checkpoints
from curate.proxy.workers import packages
from curate.run import Run
from scorers.sam_sharpness import SAMSharpness
from tests.fixtures.ray_cluster import Notes, die_once
from tests.fixtures.scored import PROXY, additions

pytestmark = pytest.mark.slow


class DyingLoss(Component):
    """The loss; the worker that measures a shard with `row` in it dies once."""

    row: str
    mark: str

    def measure(self, checkpoint: LiveCheckpoint, examples: Any) -> Any:
        if checkpoint.step == 4 and self.row in examples.column("prompt").to_pylist():
            die_once(Path(self.mark))
        with Path(self.mark + "-measured").open("a") as log:
            log.write(f"{checkpoint.step} {examples.ids[0].as_py()}\n")
        return checkpoint.losses()[:, None]


class WrongShape(Component):
    def measure(self, checkpoint: LiveCheckpoint, examples: Any) -> Any:
        return np.zeros(len(examples))


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_module, "SHARD_ROWS", 16)


@pytest.mark.parametrize("shared", [True, False])
def test_scores_are_the_same_bytes(
    ray_engine: Ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    """Also of a measure that looks at the tokens of all rows; also where workers do not see the cache."""
    measures = [MeanLoss(), *SAMSharpness(rows=16).measures()]
    here = measure_checkpoints(additions(), PROXY, measures, Run(PROXY, tmp_path / "a").context)
    if not shared:
        monkeypatch.setattr("curate.engine.pool.publish_file", lambda path, content: None)
    run = Run(PROXY, tmp_path / "b", engine=ray_engine)
    there = measure_checkpoints(additions(), PROXY, measures, run.context)
    assert there.proxy_key == here.proxy_key
    for measure in measures:
        assert there.of(measure).tobytes() == here.of(measure).tobytes()
    a, b = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.safetensors")}
        for folder in (tmp_path / "a", tmp_path / "b")
    )
    assert a == b
    assert len(a) == 3
    # Nothing is asked of workers for what the cache holds.
    monkeypatch.setattr(Ray, "map", lambda *arguments, **more: pytest.fail("measured again"))
    monkeypatch.setattr(Ray, "group", lambda *arguments, **more: pytest.fail("trained again"))
    again = measure_checkpoints(additions(), PROXY, measures, Run(PROXY, tmp_path / "b", engine=ray_engine).context)
    assert again.of(measures[0]).tobytes() == here.of(measures[0]).tobytes()


def test_no_finished_shard_is_measured_again_when_a_worker_dies(ray_engine: Ray, tmp_path: Path) -> None:
    notes = Notes()
    measure = DyingLoss(row="What is 20 plus 6?", mark=str(tmp_path / "mark"))
    run = Run(PROXY, tmp_path / "cache", engine=ray_engine)
    ray_engine.notify(notes)
    context = run.context
    ray_engine.notify(notes)
    found = measure_checkpoints(additions(), PROXY, [measure, MeanLoss()], context)
    assert found.of(measure).tobytes() == found.of(MeanLoss()).tobytes()
    measured = (tmp_path / "mark-measured").read_text().split("\n")[:-1]
    assert len(measured) <= 9 + 2  # what the lost worker had at once
    assert len(set(measured)) == 9
    assert any("is lost" in note for note in notes)


def test_a_wrong_shape_is_named(ray_engine: Ray, tmp_path: Path) -> None:
    run = Run(PROXY, tmp_path, engine=ray_engine)
    with pytest.raises(InputError, match=r"WrongShape.measure returned shape \(16,\) for 16 rows"):
        measure_checkpoints(additions(), PROXY, [WrongShape()], run.context)


def test_the_packages_of_components_are_told() -> None:
    assert packages(PROXY, MeanLoss(), DyingLoss(row="", mark="")) == ["curate", "tests"]
