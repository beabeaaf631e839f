"""Work on a real cluster: handed out, handed out again when workers die, refused by name where they do not fit."""

from pathlib import Path
from typing import Any

import pytest

from curate.engine import Ray
from curate.engine.host import own_versions
from curate.engine.protocol import Job
from curate.errors import ExternalError, InputError
from tests.fixtures.ray_cluster import Notes, Square, add_node, count_up, items

pytestmark = pytest.mark.slow


def test_a_killed_worker_is_replaced_and_every_result_arrives_once(ray_engine: Ray, tmp_path: Path) -> None:
    notes = Notes()
    ray_engine.notify(notes)
    setup = {7: str(tmp_path / "a"), 13: str(tmp_path / "b")}
    found = [(position, value) for position, value, _ in ray_engine.map(Square, setup, items(30))]
    assert sorted(found) == [(k, k * k) for k in range(30)]
    assert len([note for note in notes if "is lost" in note]) == 2
    record = ray_engine.record()["workers"]
    assert sum(each["rows"] for each in record) == 30
    assert sum(each["lost"] for each in record) >= 2
    assert all(Path(each["log"]).is_file() for each in record)


def test_what_the_work_raises_is_raised_here(ray_engine: Ray) -> None:
    with pytest.raises(InputError, match=r"^3 is wrong$"):
        list(ray_engine.map(Square, {"wrong": 3}, items(6)))
    assert len(list(ray_engine.map(Square, {}, items(6)))) == 6  # and the workers serve again


def test_an_item_that_kills_every_worker_ends_the_run(ray_engine: Ray) -> None:
    with pytest.raises(ExternalError, match="3 workers were lost with the same piece of work"):
        list(ray_engine.map(Square, {"always": 2}, items(4)))


def test_a_job_whose_worker_dies_resumes_from_what_is_stored(ray_engine: Ray, tmp_path: Path) -> None:
    stored: dict[int, list[int]] = {0: [], 1: [], 2: []}

    def job(k: int) -> Job:
        about = {"to": 6, "dies": 4 if k == 1 else None, "mark": str(tmp_path / "mark")}
        return Job(f"job {k}", count_up, lambda: {**about, "from": len(stored[k])})

    for position, kind, value in ray_engine.jobs([job(0), job(1), job(2)]):
        if kind == "value":
            stored[position].append(value)
    assert stored == {k: list(range(6)) for k in range(3)}  # nothing twice, nothing missing


def test_a_node_that_is_removed_takes_no_result_along(ray_cluster: Any, ray_engine: Ray) -> None:
    ray_engine.numerics("float32")  # its two workers hold the two nodes
    node = add_node(ray_cluster)
    notes = Notes()
    found = []
    with Ray(address=ray_cluster.address, workers=1) as engine:
        engine.notify(notes)
        for position, value, _ in engine.map(Square, {}, items(40)):
            found.append((position, value))
            if len(found) == 5:
                ray_cluster.remove_node(node, allow_graceful=False)
                node = add_node(ray_cluster)
    ray_cluster.remove_node(node)
    assert sorted(found) == [(k, k * k) for k in range(40)]
    assert any("is lost" in note for note in notes)


def test_a_package_that_is_missing_on_workers_is_named(ray_engine: Ray) -> None:
    with pytest.raises(InputError, match=r"worker \d+ on .* has no package not_there_at_all"):
        list(ray_engine.map(Square, {}, items(1), needs=["json", "not_there_at_all"]))


def test_more_than_the_cluster_has_is_refused(ray_cluster: Any, ray_engine: Ray) -> None:
    assert ray_engine.numerics("float32")
    for asked, words in (
        ({"workers": 9}, "--workers asks for 9 with 0 GPUs and 1 CPUs each; give --workers 2"),
        ({"worker_gpus": 1}, "the cluster has 0 GPUs"),
        ({"train_workers": 5}, "--train-workers asks for 5"),
    ):
        with pytest.raises(InputError, match=words):
            Ray(address=ray_cluster.address, **asked).numerics("float32")


def test_a_worker_of_other_versions_or_numerics_is_refused_by_name(
    ray_engine: Ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes()
    ray_engine.notify(notes)
    session = ray_engine.session
    known = ray_engine.numerics("float32")
    monkeypatch.setattr("curate.engine.session.own_versions", lambda: {**own_versions(), "torch": "0.1"})
    with pytest.raises(InputError, match=r"worker \d+ on \S+ has torch \S+, and here it is 0.1"):
        session._check(session.pool()[0])
    monkeypatch.undo()
    monkeypatch.setattr(session, "workers", session.workers)  # is lowered by one that is refused
    monkeypatch.setitem(session._numerics, "float32", {**known, "threads": 7})
    found = [value for _, value, _ in ray_engine.map(Square, {3: str(tmp_path / "a")}, items(8))]
    assert len(found) == 8  # by the worker that is left
    assert any("computes with threads 1 instead of 7" in note for note in notes)
    assert len(session._live) == 1
    monkeypatch.undo()
    assert len(session.pool()) == 2


def test_a_full_object_store_is_one_line(ray_engine: Ray, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = ray_engine.session.ray

    def full(value: Any) -> Any:
        raise ray.exceptions.ObjectStoreFullError

    monkeypatch.setattr(ray, "put", full)
    with pytest.raises(ExternalError, match="object store is full"):
        ray_engine.share(1)


def test_a_folder_that_workers_do_not_see_is_not_shared(
    ray_engine: Ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ray_engine.shares(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("curate.engine.session.publish_file", lambda path, content: None)
    assert not ray_engine.shares(str(tmp_path))
