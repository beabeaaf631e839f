"""Work on a real cluster: handed out, and handed out again when workers die."""

import re
from pathlib import Path
from typing import Any

import pytest

from curate.engine import Ray, work
from curate.engine.protocol import Job
from curate.errors import ExternalError, InputError
from tests.fixtures.ray_cluster import Notes, Square, add_node, count_up, items

pytestmark = [pytest.mark.slow, pytest.mark.ray]


def _squared(engine: Ray) -> int:
    """Numbers that its workers have squared, by its record."""
    return sum(each["stages"].get("square", {"rows": 0})["rows"] for each in engine.record().get("workers", []))


def test_results_wait_for_earlier_ones_in_a_window(ray_engine: Ray) -> None:
    made: list[int] = []
    following = 0

    def payload(number: int) -> int:
        assert number < following + 4
        made.append(number)
        return number

    for *result, rates in ray_engine.map(Square, {"slow": 2}, items(20, payload), stage="square", window=4):
        assert result == [following, following**2]
        text = rates
        following += 1
    assert following == 20
    assert made == list(range(20))
    assert re.fullmatch(r"2 workers, [\d,]+ rows/s \([\d,]+\.\.[\d,]+ rows/s each\)", text)


def test_a_straggler_is_named_once(ray_engine: Ray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "_SLOW_SECONDS", 1.0)
    notes = Notes()
    ray_engine.notify(notes)
    assert len(list(ray_engine.map(Square, {"slow": 9}, items(20), stage="square"))) == 20
    slow = [
        note
        for note in notes
        if re.fullmatch(r"worker \d+ on \S+ has been processing a shard for \d s; typical: 0 s", note)
    ]
    assert len({note.split(" has")[0] for note in slow}) == 1
    assert 1 <= len(slow) <= 2  # the piece at work and the one behind it


def test_a_killed_worker_is_replaced_and_every_result_arrives_once(
    ray_engine: Ray, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    notes = Notes()
    ray_engine.notify(notes)
    before = _squared(ray_engine)
    setup = {7: str(tmp_path / "a")}
    found = [(position, value) for position, value, _ in ray_engine.map(Square, setup, items(30), stage="square")]
    assert sorted(found) == [(k, k * k) for k in range(30)]
    assert len([note for note in notes if "is lost" in note]) == 1
    record = ray_engine.record()["workers"]
    assert _squared(ray_engine) == before + 30
    assert sum(each["lost"] for each in record) >= 1
    assert all(Path(each["log"]).is_file() for each in record)
    assert capfd.readouterr() == ("", "")  # what Ray says of it is not among the results


def test_what_the_work_raises_is_raised_here(ray_engine: Ray) -> None:
    with pytest.raises(InputError, match=r"^3 is wrong$"):
        list(ray_engine.map(Square, {"wrong": 3}, items(6), stage="square"))
    assert len(list(ray_engine.map(Square, {}, items(6), stage="square"))) == 6  # and the workers serve again


def test_an_item_that_kills_every_worker_ends_the_run(ray_engine: Ray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "_ATTEMPTS", 2)
    with pytest.raises(ExternalError, match="2 workers were lost with the same piece of work"):
        list(ray_engine.map(Square, {"always": 2}, items(4), stage="square"))


def test_a_job_whose_worker_dies_resumes_from_what_is_stored(ray_engine: Ray, tmp_path: Path) -> None:
    stored: dict[int, list[int]] = {0: [], 1: [], 2: []}

    def job(k: int) -> Job:
        about = {"to": 6, "dies": 4 if k == 1 else None, "mark": str(tmp_path / "mark")}
        return Job(f"job {k}", count_up, lambda: {**about, "from": len(stored[k])})

    for position, kind, value in ray_engine.jobs([job(0), job(1), job(2)]):
        if kind == "value":
            stored[position].append(value)
    assert stored == {k: list(range(6)) for k in range(3)}  # nothing twice, nothing missing


def test_the_other_jobs_end_when_one_fails(ray_engine: Ray) -> None:
    """Their workers would otherwise go on with them beside what comes next."""
    ray_engine.numerics("float32")
    workers = list(ray_engine.pool.live)
    endless = Job("endless", count_up, lambda: {"from": 0, "to": 10**9, "pause": 0.1})
    failing = Job("failing", count_up, lambda: {"from": 0, "to": "no number"})
    with pytest.raises(TypeError):
        list(ray_engine.jobs([endless, failing]))
    assert len(set(workers) & set(ray_engine.pool.live)) == len(workers) - 1
    assert len(list(ray_engine.map(Square, {}, items(4), stage="square"))) == 4


def test_a_node_that_is_removed_takes_no_result_along(ray_cluster: Any, ray_engine: Ray) -> None:
    ray_engine.numerics("float32")  # its two workers hold the two nodes
    node = add_node(ray_cluster)
    notes = Notes()
    found = []
    with Ray(address=ray_cluster.address, workers=1) as engine:
        engine.notify(notes)
        for position, value, _ in engine.map(Square, {}, items(150), stage="square"):
            found.append((position, value))
            if len(found) == 5:
                ray_cluster.remove_node(node, allow_graceful=False)
                node = add_node(ray_cluster)
    ray_cluster.remove_node(node)
    assert sorted(found) == [(k, k * k) for k in range(150)]
    assert any("is lost" in note for note in notes)
