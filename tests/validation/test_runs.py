"""Runs that workers make are those that this process makes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from curate.console.progress import Progress, Stage
from curate.engine import Ray
from curate.errors import ExternalError, InputError
from curate.finetuning.config import Finetuning
from curate.storage.folders import RECORD
from curate.storage.records import read_record
from curate.validation.runs import _FINETUNE
from curate.validation.validate import validate
from tests.fixtures.ray_cluster import Inline, add_node
from tests.fixtures.validation import Trained, loaded, settings, whole


def test_the_runs_of_all_seeds_are_made_once_and_the_result_is_the_same(tmp_path: Path, trained: Trained) -> None:
    one = whole(tmp_path / "a" / "out")
    first = sorted(trained.calls)
    trained.calls.clear()
    engine = Inline()
    other = whole(tmp_path / "b" / "out", engine=engine)
    assert engine.lost == 1
    assert sorted(trained.calls) == first
    assert [run["name"] for run in other["runs"]] == [run["name"] for run in one["runs"]]
    assert read_record(tmp_path / "b" / "out" / RECORD, "")["seeds"] == [0, 1]
    trained.calls.clear()
    whole(tmp_path / "b" / "out", engine=Inline())  # nothing is left
    assert trained.calls == []


def test_a_failure_on_a_worker_ends_it_and_what_is_done_is_kept(tmp_path: Path, trained: Trained) -> None:
    trained.fails_before = 3
    with pytest.raises(ExternalError, match="disk is full"):
        whole(tmp_path / "out", engine=Inline())
    trained.fails_before = 10**9
    whole(tmp_path / "out", engine=Inline())
    assert len(trained.calls) == len(set(trained.calls)) == 8


def test_a_folder_that_workers_do_not_see_is_refused_before_any_run(tmp_path: Path, trained: Trained) -> None:
    with pytest.raises(InputError, match=r"do not see .*out.*name a folder of shared storage with --out"):
        whole(tmp_path / "out", engine=Inline(sees=False))
    assert trained.calls == []


class Watched(Progress):
    """Calls `then` once, after the first steps of fine-tuning."""

    def __init__(self, then: Callable[[], None]) -> None:
        super().__init__("none")
        self.then: Callable[[], None] | None = then

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "rows") -> Iterator[Stage]:
        def advance(count: int, /, detail: str = "") -> None:
            if name == _FINETUNE and count and self.then is not None:
                then, self.then = self.then, None
                then()

        with super().stage(name, total, unit) as stage:
            yield Stage(stage.cost, advance)


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.timeout(500)
def test_a_validation_on_a_cluster_that_loses_a_node_compares_as_one_here(
    ray_cluster: Any, ray_engine: Ray, tmp_path: Path
) -> None:
    ray_engine.close()  # its workers hold the CPUs
    tuning = Finetuning(model="scratch", batch_size=10, max_length=48)
    arms = ("hard", "random")
    given = settings(finetuning=tuning, seeds=(0,), arms=arms, held_out=0.2, evaluation={"generate": False})
    one = validate(loaded(120), given, tmp_path / "a", cache=tmp_path / "cache", progress=Progress("none"))
    node = add_node(ray_cluster)
    progress = Watched(lambda: ray_cluster.remove_node(node, allow_graceful=False))
    with Ray(address=ray_cluster.address, workers=3) as engine:
        about = {"cache": tmp_path / "cache-b", "engine": engine, "progress": progress}
        other = validate(loaded(120), given, tmp_path / "b", **about)
        assert sum(worker["lost"] for worker in engine.record()["workers"]) == 1
    assert progress.then is None
    differences = [result["comparison"]["differences"] for result in (one, other)]
    assert differences[0] == differences[1]
    weights = [{path.parts[-3]: path.read_bytes() for path in (tmp_path / k).rglob("*.safetensors")} for k in "ab"]
    assert weights[0] == weights[1]
