"""Workers of a real cluster: refused by name where they do not fit."""

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from curate.engine import Ray
from curate.engine.host import own_versions
from curate.engine.pool import Pool
from curate.errors import ExternalError, InputError
from tests.fixtures.ray_cluster import Notes, Square, items

pytestmark = [pytest.mark.slow, pytest.mark.ray]


def _settle(pool: Pool) -> None:
    """Until workers that are being started have joined, or were refused."""
    while pool._starting:
        pool.workers_now()
        time.sleep(0.05)


def test_a_package_that_is_missing_on_workers_is_named(ray_engine: Ray) -> None:
    with pytest.raises(InputError, match=r"worker \d+ on .* has no package not_there_at_all, .*it is not here either"):
        list(ray_engine.map(Square, {}, items(1), stage="square", needs=["json", "not_there_at_all"]))


def test_more_than_the_cluster_has_is_refused(ray_cluster: Any, ray_engine: Ray) -> None:
    assert ray_engine.numerics("float32")
    for asked, words in (
        ({"workers": 9}, "--workers asks for 9 with 0 GPUs and 1 CPUs each; give --workers 2"),
        ({"worker_gpus": 1}, "the cluster has 0 GPUs"),
        ({"train_workers": 5}, "--train-workers asks for 5"),
    ):
        with pytest.raises(InputError, match=words):
            Ray(address=ray_cluster.address, **asked).numerics("float32")
    assert ray_engine.numerics("float32")  # the connection is left to whoever made it


def test_a_worker_of_other_versions_or_numerics_is_refused_by_name(
    ray_engine: Ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes()
    ray_engine.notify(notes)
    pool = ray_engine.pool
    known = ray_engine.numerics("float32")
    _settle(pool)  # an earlier test may have ended a worker
    monkeypatch.setattr("curate.engine.pool.own_versions", lambda: {**own_versions(), "torch": "0.1"})
    with pytest.raises(InputError, match=r"worker \d+ on \S+ has torch \S+, and here it is 0.1"):
        pool.check(pool.workers_now()[0])
    monkeypatch.undo()
    monkeypatch.setattr(pool, "workers", pool.workers)  # is lowered by one that is refused
    monkeypatch.setitem(pool._numerics, "float32", {**known, "threads": 7})
    found = [value for _, value, _ in ray_engine.map(Square, {3: str(tmp_path / "a")}, items(8), stage="square")]
    assert len(found) == 8  # by the worker that is left
    _settle(pool)  # with the one in its place
    assert any("computes with threads 1 instead of 7" in note for note in notes)
    assert len(pool.live) == 1
    monkeypatch.undo()
    pool.workers_now()
    _settle(pool)
    assert len(pool.live) == 2


def test_another_cluster_than_that_of_the_connection_is_refused(ray_engine: Ray) -> None:
    assert ray_engine.numerics("float32")
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(InputError, match="is connected to the Ray cluster at "),
    ):
        Ray(address=f"127.0.0.1:{other.getsockname()[1]}").numerics("float32")


def test_a_full_object_store_is_one_line(ray_engine: Ray, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = ray_engine.pool.ray

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
    monkeypatch.setattr("curate.engine.pool.publish_file", lambda path, content: None)
    assert not ray_engine.shares(str(tmp_path))
