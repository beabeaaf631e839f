"""What a worker does, without a cluster around it."""

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from curate.engine.host import COMPARED, Host, own_versions
from curate.engine.protocol import WorkerContext
from curate.errors import InputError
from tests.fixtures.ray_cluster import Square, count_up


@pytest.fixture
def host() -> Host:
    return Host(3, "cpu", 1, lambda reference: reference)


def test_it_says_what_it_is(host: Host) -> None:
    report = host.report()
    assert report["pid"] == os.getpid()
    assert set(own_versions()) == set(COMPARED)
    assert report["versions"]["python"] == ".".join(platform.python_version_tuple()[:2])
    assert host.numerics("float32")["threads"] == 1
    known = host.packages(["tests", "not_there_at_all"])
    assert known["tests"] is not None
    assert known["not_there_at_all"] is None


def test_what_cannot_be_made_fails_at_the_first_item(host: Host) -> None:
    def cannot(setup: object, worker: WorkerContext) -> Square:
        raise InputError("no")

    host.make(cannot, None)
    with pytest.raises(InputError, match="no"):
        host.call(1)
    host.make(Square, {})
    assert host.call(4)[0] == 16


def test_events_of_a_job_arrive_in_order_and_end(host: Host) -> None:
    host.start(count_up, {"from": 2, "to": 4})
    events = []
    while not events or events[-1][0] not in ("end", "error"):
        events += host.poll(5.0)
    assert events == [("advance", 1), ("value", 2), ("advance", 1), ("value", 3), ("end", None)]


def test_an_error_of_a_job_is_its_last_event(host: Host) -> None:
    def fails(payload: object, worker: WorkerContext) -> Iterator[int]:
        yield 1
        raise InputError("no")

    host.start(fails, None)
    events = [*host.poll(5.0), *host.poll(5.0)]
    assert events[0] == ("value", 1)
    assert (events[1][0], str(events[1][1])) == ("error", "no")


def test_the_cache_is_the_drivers_or_a_temporary_one(host: Host, tmp_path: Path) -> None:
    seen = []

    def look(setup: object, worker: WorkerContext) -> Square:
        seen.append((worker.cache, worker.shared, worker.number))
        return Square({}, worker)

    host.make(look, None)
    host.make(look, None)
    host.use_cache(str(tmp_path))
    host.make(look, None)
    assert seen[0] == seen[1]
    assert Path(seen[0][0]).is_dir()
    assert seen[2] == (str(tmp_path), True, 3)
    probe = tmp_path / "probe"
    probe.write_text("x")
    assert host.reads(str(tmp_path), "probe", "x")
    assert not host.reads(str(tmp_path), "probe", "y")
    assert not host.reads(str(tmp_path), "nowhere", "x")
