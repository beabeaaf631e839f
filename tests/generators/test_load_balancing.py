"""Several servers share the requests; one that dies is left out, and taken back when it answers again."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from curate.errors import ExternalError, InputError
from curate.generators import VLLMServer
from curate.generators import event_loop as pump
from curate.generators.request_store import RequestStore, complete
from tests.fixtures.completions import MESSAGES, Pulled, _until, ask, connect, failing, many
from tests.fixtures.server import FakeServer, Fault, asked

# -- several servers, and none ----------------------------------------------------------------------------------------


def test_load_is_spread_and_a_dead_server_is_left_out_and_taken_back() -> None:
    with FakeServer(delay=0.01) as one, FakeServer(delay=0.01) as two:
        generator = VLLMServer(model="fake-model", url=(one.url, two.url), connections=8)
        queue = Pulled(600)
        thread = threading.Thread(target=generator.serve, args=(queue,))
        thread.start()
        _until(lambda: len(queue.done_) > 100)
        assert min(len(one.requests), len(two.requests)) > 20
        two.stop()
        _until(lambda: len(queue.done_) > 300)
        before = len(two.requests)
        two.start()
        thread.join()
        assert len(two.requests) > before
    assert len(queue.done_) == 800
    assert len(set(queue.done_)) == 800


def test_a_server_that_comes_back_goes_on_where_it_was() -> None:
    with FakeServer(delay=0.01) as server:
        queue = Pulled(200)
        thread = threading.Thread(target=connect(server, connections=4).serve, args=(queue,))
        thread.start()
        _until(lambda: len(queue.done_) > 20)
        server.stop()
        time.sleep(0.3)
        server.start()
        thread.join()
    assert len(queue.done_) == 267


def test_all_servers_gone_for_too_long_is_an_external_error_and_what_was_finished_is_kept(tmp_path: Path) -> None:
    store = RequestStore(tmp_path / "requests.sqlite")
    with FakeServer(delay=0.01) as server:
        threading.Thread(target=lambda: (_until(lambda: len(server.answered) > 20), server.stop())).start()
        with pytest.raises(ExternalError, match=r"no server has answered for 0.5 s at http://127.0.0.1:\d+ \(conn"):
            complete(connect(server, outage_timeout=0.5, connections=4), many(500), store)
        assert store.count() >= 20
        server.start()
        assert len(complete(connect(server), many(500), store)) == 500
    paid_twice = sum(count - 1 for count in server.answered.values())
    assert paid_twice <= 4  # answered, but killed with the connection


def test_no_server_at_all_is_said_at_once_and_waited_for_a_little() -> None:
    with FakeServer() as server:
        url = server.url
    queue = Pulled(1)
    with pytest.raises(ExternalError, match=rf"no server answers at {url} \(connection refused\); start it, or"):
        VLLMServer(model="m", url=url).serve(queue)
    assert queue.notes == [f"no server answers at {url} (connection refused); waiting up to 0.2 s for it"]


def test_a_server_with_another_model_is_refused_with_both_names() -> None:
    with FakeServer(model="other/model") as server:
        message = failing(InputError, VLLMServer(model="my/model", url=server.url), [ask(0)])
    assert "serves other/model, not my/model" in message
    assert not server.requests


@pytest.mark.parametrize("served", ["org/my-model", "my-model"])
def test_a_model_may_be_served_by_the_last_part_of_its_name(served: str) -> None:
    with FakeServer(model=served) as server:
        assert len(complete(VLLMServer(model="org/my-model", url=server.url), [ask(0)])) == 1
    assert server.requests[0]["model"] == served


def test_what_is_no_such_server_is_said() -> None:
    with FakeServer() as server:
        message = failing(InputError, connect(server, url=server.url + "/elsewhere"), [ask(0)])
    assert "does not list models (status 404)" in message


# -- what no repeat can mend ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 404, 422, 418])
def test_a_request_that_is_not_accepted_is_the_users_turn(status: int) -> None:
    with FakeServer(faults=lambda body, _: Fault("status", status, "top_p must be\n\x1b[1m in (0, 1]")) as server:
        message = failing(InputError, connect(server), [ask(0)])
    assert f"(status {status}): top_p must be in (0, 1]" in message
    assert server.paths["/v1/completions"] == 1


def test_what_is_under_way_when_a_request_fails_is_kept(tmp_path: Path) -> None:
    """Its answers may be paid for; no more is asked."""
    refused = Fault("status", 400, "top_p must be in (0, 1]")
    store = RequestStore(tmp_path / "requests.sqlite")
    slow = Fault("slow", seconds=0.5)
    with FakeServer(faults=lambda body, _: refused if asked(body) == "question 0" else slow) as server:
        failing(InputError, connect(server, connections=8), many(100), store)
        assert store.count() == sum(server.answered.values()) == len(server.requests) - 1
        assert 1 <= store.count() < 50


def test_what_hangs_when_a_request_fails_is_waited_for_a_little_and_an_interrupt_ends_that(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refused = Fault("status", 400, "top_p must be in (0, 1]")
    hanging: dict[str, Fault | None] = {"question 0": refused, "question 1": Fault("hang")}
    store = RequestStore(tmp_path / "requests.sqlite")
    with FakeServer(faults=lambda body, _: hanging.get(asked(body))) as server:
        monkeypatch.setattr(pump, "GRACE", 0.5)
        began = time.monotonic()
        failing(InputError, connect(server, connections=8), many(4), store)
        assert 0.4 < time.monotonic() - began < 10
        assert store.count() == 2
        monkeypatch.setattr(pump, "GRACE", 1000.0)
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        timer.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                connect(server, connections=8).serve(Pulled(4))
        finally:
            signal.signal(signal.SIGINT, before)


def test_no_chat_template_names_the_remedy() -> None:
    with FakeServer(chat_template=False) as server:
        assert "set template: plain" in failing(InputError, connect(server), [ask(0, MESSAGES)])
        assert complete(connect(server, template="plain"), [ask(0, MESSAGES)])


def test_redirects_are_not_followed() -> None:
    with (
        FakeServer() as other,
        FakeServer(faults=lambda body, _: Fault("redirect", message=other.url + "/x")) as server,
    ):
        message = failing(ExternalError, connect(server), [ask(0)])
        assert "redirects to http://127.0.0.1/x, which is not followed" in message
        assert not other.headers
