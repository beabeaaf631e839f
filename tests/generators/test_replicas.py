"""Servers of our own on the workers of a cluster; a stand-in is what they start."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from curate.console.progress import Progress
from curate.engine import Ray
from curate.engine.protocol import Engine
from curate.errors import ExternalError, InputError
from curate.generators import VLLMServer
from curate.generators.request_queue import complete
from curate.generators.requests import Completion, Request, Sampling
from tests.fixtures.completions import _until
from tests.fixtures.ray_cluster import STORE, Notes, add_node
from tests.fixtures.server_processes import FAKE, gone, many, server


class Endless:
    """A queue that has requests until it is over."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.over, self.taken = engine, False, 0
        self.texts: list[str] = []

    def take(self, most: int) -> list[Request]:
        first, self.taken = self.taken, self.taken + (0 if self.over else most)
        return [Request(f"question {k}", Sampling(max_tokens=50), 0, k) for k in range(first, self.taken)]

    def done(self, request: Request, completion: Completion) -> None:
        self.texts.append(completion.text)

    def answered_by(self, start: int) -> bool:
        return any(text.endswith(f"start {start}") for text in reversed(self.texts))


def _pids(file: Path) -> list[int]:
    """Of the server that was started last, and its child."""
    _until(lambda: file.exists() and file.read_text().endswith("]"), seconds=100)
    found: list[int] = json.loads(file.read_text())
    return found


@pytest.mark.slow
@pytest.mark.ray
def test_replicas_share_the_requests_and_those_that_die_are_replaced(ray_engine: Ray, tmp_path: Path) -> None:
    """Once the process of a server dies, once the worker that it is on."""
    starts, about = tmp_path / "starts", tmp_path / "about"
    arguments = ("--deaths", str(starts), "--child", str(about), "--slow", "0.05")
    generator, queue = server(*arguments, replicas=2, connections=8), Endless(ray_engine)
    failures: list[BaseException] = []

    def serve() -> None:
        try:
            generator.serve(queue)
        except BaseException as error:
            failures.append(error)

    asking = threading.Thread(target=serve)
    asking.start()
    try:
        _until(lambda: queue.answered_by(2), seconds=100)
        os.kill(_pids(about)[0], signal.SIGKILL)
        _until(lambda: queue.answered_by(3), seconds=100)
        last = _pids(about)
        watchdog = psutil.Process(last[0]).parent()
        worker = None if watchdog is None else watchdog.parent()
        assert worker is not None
        assert "ray" in " ".join(worker.cmdline())
        os.kill(worker.pid, signal.SIGKILL)
        _until(lambda: queue.answered_by(4), seconds=100)
        assert gone(last, 30)
    finally:
        queue.over = True
        asking.join(60)
    assert failures == []
    assert len(queue.texts) == queue.taken
    assert {text.split(" from ")[0] for text in queue.texts} == {f"about question {k}" for k in range(queue.taken)}
    assert gone(_pids(about), 30)
    assert ray_engine.pool.workers_now()  # they measure again


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.timeout(400)
def test_a_node_that_is_removed_while_generating_is_replaced(ray_cluster: Any, ray_engine: Ray, tmp_path: Path) -> None:
    """Its server is started again when there is room for it; meanwhile the others answer, and no answer is lost."""
    ray_engine.close()  # its workers hold the CPUs
    node, notes, starts = add_node(ray_cluster), Notes(), tmp_path / "starts"
    with Ray(address=ray_cluster.address, workers=1) as engine:
        engine.notify(notes)
        arguments = ("--slow", "0.05", "--deaths", str(starts))
        generator, queue = server(*arguments, replicas=3, connections=8), Endless(engine)
        asking = threading.Thread(target=generator.serve, args=(queue,))
        asking.start()
        try:
            _until(lambda: starts.exists() and starts.stat().st_size == 3 and len(queue.texts) > 20, seconds=150)
            ray_cluster.remove_node(node, allow_graceful=False)
            _until(lambda: any("is lost; another one takes its place" in note for note in notes), seconds=60)
            answered = len(queue.texts)
            _until(lambda: len(queue.texts) > answered + 40, seconds=60)  # by those that are left
            node = add_node(ray_cluster)
            _until(lambda: queue.answered_by(4), seconds=150)
        finally:
            queue.over = True
            asking.join(60)
    ray_cluster.remove_node(node)
    assert len(queue.texts) == queue.taken
    assert {text.split(" from ")[0] for text in queue.texts} == {f"about question {k}" for k in range(queue.taken)}


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.timeout(400)
def test_each_replica_has_its_own_gpus(ray_cluster: Any, ray_engine: Ray, tmp_path: Path) -> None:
    """On a node that says it has six GPUs; as many as copies of the model where nothing else is asked for."""
    ray_engine.close()  # its workers hold the CPUs
    node = ray_cluster.add_node(num_cpus=2, num_gpus=6, object_store_memory=STORE)
    try:
        for given, gpus, sizes in (
            ({"gpus_per_replica": 2}, 2, [2, None]),
            ({"data_parallel": 3}, 3, [None, 3]),
        ):
            told = tmp_path / f"told-{gpus}"
            generator = server("--told", str(told), replicas=2, connections=8, **given)
            with Ray(address=ray_cluster.address, workers=1, worker_gpus=0) as engine:
                assert len(complete(generator, many(6), progress=Progress("none"), engine=engine)) == 6
            lines = [json.loads(line) for line in told.read_text().splitlines()]
            assert [line[:2] for line in lines] == [sizes] * len(lines)
            used = [number for line in lines for number in line[2].split(",")]
            assert len(used) == len(set(used)) == gpus * len(lines)
    finally:
        ray_cluster.remove_node(node)


@pytest.mark.slow
@pytest.mark.ray
def test_a_replica_that_does_not_start_is_quoted(ray_engine: Ray) -> None:
    generator = server("--fail-with", "ValueError: no such model", replicas=2)
    with pytest.raises(ExternalError, match=r"server \d on \S+ did not start \(status 1\): ValueError: no such model"):
        complete(generator, many(1), progress=Progress("none"), engine=ray_engine)
    with pytest.raises(InputError, match="9 servers with 0 GPUs and 1 CPUs each are asked for"):
        complete(server(replicas=9), many(1), engine=ray_engine)
    with pytest.raises(InputError, match="1 servers with 4 GPUs"):
        complete(server(replicas=1, gpus_per_replica=4), many(1), engine=ray_engine)


def test_replicas_need_an_engine() -> None:
    generator = server(replicas=2)
    with pytest.raises(InputError, match="add --engine ray"):
        generator.check_engine(None)
    with pytest.raises(InputError, match="add --engine ray"):
        complete(generator, many(1))
    server().check_engine(None)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"gpus_per_replica": 2}, "set replicas too"),
        ({"replicas": 2, "url": "http://127.0.0.1:1"}, "give one of them"),
        ({"replicas": 2, "gpus_per_replica": 3, "data_parallel": 2}, "a multiple of data_parallel"),
        ({"replicas": 2, "arguments": ("-tp", "2")}, "-tp follows from gpus_per_replica"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        VLLMServer(model="org/fake-model", command=FAKE, **given)


def test_the_model_is_cut_by_the_gpus_of_each_copy() -> None:
    def parallel(**given: int) -> list[str]:
        return VLLMServer(model="org/fake-model", replicas=2, **given)._serve_arguments()[5:]

    assert parallel() == []
    assert parallel(gpus_per_replica=4) == ["--tensor-parallel-size", "4"]
    assert parallel(gpus_per_replica=4, data_parallel=2) == ["--tensor-parallel-size", "2", "--data-parallel-size", "2"]
    assert parallel(data_parallel=2) == ["--data-parallel-size", "2"]
    alone, several = (VLLMServer(model="org/fake-model", **given) for given in ({}, {"replicas": 2}))
    assert alone.identity() == several.identity()  # what is paid for is found again
