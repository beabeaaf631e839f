"""A proxy that workers train and measure is the one that this process trains and measures."""

import os
import subprocess
import sys
import time
from collections import Counter
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
from curate.run import Run
from scorers.sam_sharpness import SAMSharpness
from tests import ROOT
from tests.fixtures import ranks
from tests.fixtures.ray_cluster import Notes, die_once
from tests.fixtures.ray_driver import SHARD_ROWS
from tests.fixtures.scored import PROXY, additions

pytestmark = [pytest.mark.slow, pytest.mark.ray]


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


MEASURES = [MeanLoss(), *SAMSharpness(rows=16).measures()]  # one looks at the tokens of all rows


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The cache of a proxy that this process trained and measured, and what it measured."""
    cache = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace_module, "SHARD_ROWS", 16)
        return cache, measure_checkpoints(additions(), PROXY, MEASURES, Run(PROXY, cache).context)


@pytest.mark.parametrize("shared", [True, False])
def test_scores_are_the_same_bytes(
    ray_engine: Ray, here: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    """Also where workers do not see the cache."""
    here_cache, here_trace = here
    if not shared:
        monkeypatch.setattr("curate.engine.pool.publish_file", lambda path, content: None)
    shared_values: list[Any] = []
    share = Ray.share

    def spied(engine: Ray, value: Any) -> Any:
        shared_values.append(value)
        return share(engine, value)

    monkeypatch.setattr(Ray, "share", spied)
    run = Run(PROXY, tmp_path / "b", engine=ray_engine)
    there = measure_checkpoints(additions(), PROXY, MEASURES, run.context)
    assert there.proxy_key == here_trace.proxy_key
    for measure in MEASURES:
        assert there.of(measure).tobytes() == here_trace.of(measure).tobytes()
    sizes = [len(value[1]) for value in shared_values if isinstance(value, tuple)]
    assert sorted(sizes) == [8, 16, 16]  # every shard once, for all measures and checkpoints
    a, b = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.safetensors")}
        for folder in (here_cache, tmp_path / "b")
    )
    assert a == b
    assert len(a) == 3
    # Nothing is asked of workers for what the cache holds.
    monkeypatch.setattr(Ray, "map", lambda *arguments, **more: pytest.fail("measured again"))
    monkeypatch.setattr(Ray, "group", lambda *arguments, **more: pytest.fail("trained again"))
    again = measure_checkpoints(additions(), PROXY, MEASURES, Run(PROXY, tmp_path / "b", engine=ray_engine).context)
    assert again.of(MEASURES[0]).tobytes() == here_trace.of(MEASURES[0]).tobytes()


def test_no_finished_shard_is_measured_again_when_a_worker_dies(
    ray_engine: Ray, here: tuple[Path, Any], tmp_path: Path
) -> None:
    notes = Notes()
    measure = DyingLoss(row="What is 20 plus 6?", mark=str(tmp_path / "mark"))
    context = Run(PROXY, here[0], engine=ray_engine).context
    ray_engine.notify(notes)
    found = measure_checkpoints(additions(), PROXY, [measure], context)
    assert found.of(measure).tobytes() == here[1].of(MeanLoss()).tobytes()
    measured = (tmp_path / "mark-measured").read_text().split("\n")[:-1]
    assert len(measured) <= 9 + 2  # what the lost worker had at once
    assert len(set(measured)) == 9
    assert any("is lost" in note for note in notes)


@pytest.mark.long
@pytest.mark.timeout(280)
def test_a_driver_that_is_killed_while_measuring_and_started_again_repeats_nothing(
    ray_cluster: Any, ray_engine: Ray, tmp_path: Path
) -> None:
    ray_engine.close()  # its workers hold the CPUs
    log, cache = tmp_path / "log", tmp_path / "cache"
    command = [sys.executable, "-m", "tests.fixtures.ray_driver", ray_cluster.address, str(cache), str(log)]

    def finished() -> int:
        # os.walk passes over folders that the driver renames meanwhile, and rglob fails at them.
        return sum("values.npy" in names for _, _, names in os.walk(cache))

    driver = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while finished() < 5:
        assert driver.poll() is None, driver.stderr and driver.stderr.read()[-2000:]
        time.sleep(0.05)
    driver.kill()
    driver.communicate()
    weights = {path: path.read_bytes() for path in cache.rglob("*.safetensors")}
    ids = additions().ids.to_pylist()
    stored = {
        f"{int(path.parts[-3].removeprefix('step-'))} {ids[SHARD_ROWS * int(path.parts[-2].removeprefix('shard-'))]}"
        for path in cache.rglob("values.npy")
    }
    assert 5 <= len(stored) < 30  # ten shards at three checkpoints
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
    assert again.returncode == 0, again.stderr[-2000:]
    measured = Counter(log.read_text().splitlines())
    assert {measured[shard] for shard in stored} == {1}
    assert len(measured) == finished() == 30
    assert {path: path.read_bytes() for path in weights} == weights  # nor is the proxy trained again
    values = [np.load(path) for path in sorted(cache.rglob("values.npy"))]
    here = measure_checkpoints(additions(), PROXY, [MeanLoss()], Run(PROXY, tmp_path / "here").context)
    found = np.concatenate(values).reshape(3, 40).T  # by step, then by shard
    assert found.tobytes() == np.ascontiguousarray(here.of(MeanLoss())[:, :, 0]).tobytes()


@pytest.mark.long
def test_a_group_of_ranks_trains_and_measures_what_torchrun_does(
    ray_cluster: Any, ray_engine: Ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two gloo ranks: the same key, and the same bytes of weights and values."""
    ray_engine.close()  # its workers hold the CPUs
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "tests.fixtures.ranks", str(tmp_path / "torchrun")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    monkeypatch.setattr(trace_module, "SHARD_ROWS", ranks.SHARD_ROWS)
    with Ray(address=ray_cluster.address, train_workers=2) as engine:
        Run(ranks.proxy, tmp_path / "ray", device="cpu", engine=engine).trace(ranks.examples, [MeanLoss()])
    one, other = (
        {
            path.relative_to(tmp_path / name).as_posix(): path.read_bytes()
            for pattern in ("proxies/**/*.safetensors", "measures/**/values.npy")
            for path in (tmp_path / name).glob(pattern)
        }
        for name in ("torchrun", "ray")
    )
    assert len(other) == 2 + 2 * 4  # weights and four shards of each checkpoint
    assert {name: one.get(name) for name in other} == other  # torchrun has measured new rows besides


def test_a_wrong_shape_is_named(ray_engine: Ray, here: tuple[Path, Any]) -> None:
    run = Run(PROXY, here[0], engine=ray_engine)
    with pytest.raises(InputError, match=r"WrongShape.measure returned shape \(16,\) for 16 rows"):
        measure_checkpoints(additions(), PROXY, [WrongShape()], run.context)
