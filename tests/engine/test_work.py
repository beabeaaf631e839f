"""Work on a real cluster: handed out, and handed out again when workers die."""

from pathlib import Path
from typing import Any

import pytest

from curate.engine import Ray
from curate.engine.protocol import Job
from curate.errors import ExternalError, InputError
from tests.fixtures.ray_cluster import Notes, Square, add_node, count_up, items

pytestmark = [pytest.mark.slow, pytest.mark.ray]


def test_a_killed_worker_is_replaced_and_every_result_arrives_once(
    ray_engine: Ray, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    notes = Notes()
    ray_engine.notify(notes)
    before = sum(each["rows"] for each in ray_engine.record().get("workers", []))
    setup = {7: str(tmp_path / "a"), 13: str(tmp_path / "b")}
    found = [(position, value) for position, value, _ in ray_engine.map(Square, setup, items(30))]
    assert sorted(found) == [(k, k * k) for k in range(30)]
    assert len([note for note in notes if "is lost" in note]) == 2
    record = ray_engine.record()["workers"]
    assert sum(each["rows"] for each in record) == before + 30
    assert sum(each["lost"] for each in record) >= 2
    assert all(Path(each["log"]).is_file() for each in record)
    assert capfd.readouterr() == ("", "")  # what Ray says of it is not among the results


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
        for position, value, _ in engine.map(Square, {}, items(400)):
            found.append((position, value))
            if len(found) == 5:
                ray_cluster.remove_node(node, allow_graceful=False)
                node = add_node(ray_cluster)
    ray_cluster.remove_node(node)
    assert sorted(found) == [(k, k * k) for k in range(400)]
    assert any("is lost" in note for note in notes)
