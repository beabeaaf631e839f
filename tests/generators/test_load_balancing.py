"""Several servers share the requests; one that dies is left out, and taken back when it answers again."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from curate.errors import InputError
from curate.generators import VLLMServer
from curate.generators import load_balancing as endpoints
from curate.generators import server as server_process
from curate.generators.request_queue import complete
from tests.fixtures.completions import Pulled, _until, ask, connect, failing, many
from tests.fixtures.server import FakeServer

# -- several servers, and none -----------------------------------------------------------------------------------------


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


def test_servers_come_and_go_with_the_file_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_process, "READ_EVERY", 0.05)
    file = tmp_path / "servers.txt"
    with FakeServer(delay=0.01) as one, FakeServer(delay=0.01) as two:
        file.write_text(f"# the first\n{one.url}\n\n")
        generator = VLLMServer(model="fake-model", urls_from=str(file), connections=8)
        generator.check_ready()
        queue = Pulled(600)
        thread = threading.Thread(target=generator.serve, args=(queue,))
        thread.start()
        _until(lambda: len(queue.done_) > 100)
        assert not two.requests
        file.write_text(f"{one.url}\n{two.url}/v1/\n")
        _until(lambda: len(two.requests) > 20)
        file.write_text("no address\n")  # is not used
        time.sleep(0.2)
        file.write_text(f"{two.url}\n")
        time.sleep(0.3)
        before = len(one.requests)
        thread.join()
        assert len(one.requests) == before
    assert len(set(queue.done_)) == len(queue.done_) >= 600
    assert VLLMServer(model="m", urls_from=str(file)).identity() == VLLMServer(model="m").identity()
    with pytest.raises(InputError, match="nowhere cannot be read"):
        VLLMServer(model="m", urls_from=str(tmp_path / "nowhere")).check_ready()


def test_a_key_goes_to_servers_of_a_file_only_where_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"urls_from": "servers.txt"}
    assert VLLMServer.key_refusal(fields, ()) is None
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert "whatever servers.txt names" in str(VLLMServer.key_refusal(fields, ()))
    assert VLLMServer.key_refusal(fields, ("--send-key OPENAI_API_KEY",)) is None


# -- what no repeat can mend -------------------------------------------------------------------------------------------


# -- how much at a time ------------------------------------------------------------------------------------------------


def test_there_are_never_more_requests_in_flight_than_connections() -> None:
    with FakeServer(delay=0.02) as server:
        complete(connect(server, connections=8), many(64))
    assert server.most_under_way == 8
    assert server.most_connections <= 9  # the first question, for the model, included


def test_concurrency_grows_while_the_server_copes() -> None:
    with FakeServer(delay=0.05) as server:
        complete(connect(server), many(600))
    assert server.most_under_way > 2 * endpoints.FIRST_WINDOW


def test_concurrency_settles_below_what_the_server_refuses() -> None:
    with FakeServer(delay=0.02, most=10) as server:
        assert len(complete(connect(server, retries=50), many(300))) == 300
    refused = sum(server.arrived.values()) - sum(server.answered.values())
    assert set(server.answered.values()) == {1}
    assert refused < 300


def test_one_cut_for_all_that_were_under_way_together() -> None:
    endpoint = endpoints.Endpoint("", window=64)
    for _ in range(40):
        endpoint.overloaded(asked_at=1.0, pause=0)
    assert endpoint.window == 32
    endpoint.overloaded(asked_at=time.monotonic(), pause=0)
    assert endpoint.window == 16


# -- keys and addresses ------------------------------------------------------------------------------------------------


KEY = "sk-very-secret-key"


def test_a_key_is_not_sent_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = VLLMServer(model="m", url=("http://127.0.0.1:9", "http://10.255.255.1:8000"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    message = failing(InputError, generator, [ask(0)])
    assert "http://10.255.255.1:8000 is not encrypted" in message
    assert KEY not in message


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "[::1]", "localhost"])
def test_this_machine_and_https_are_safe(host: str) -> None:
    endpoints.check_key_travels_safely(f"http://{host}:80", "K")
    endpoints.check_key_travels_safely("https://example.org", "K")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h:8000/", "http://h:8000"),
        ("http://h:8000/v1", "http://h:8000"),
        (" https://h/api/v1/ ", "https://h/api"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_addresses_are_brought_into_one_form(url: str, expected: str) -> None:
    assert VLLMServer(model="m", url=url).url == expected
    assert VLLMServer(model="m", url=(url, url)).url == (expected,)


@pytest.mark.parametrize(
    "url",
    [
        *[f"http://user:{KEY}@h:8000", f"https://{KEY}@h", f"https://h/v1?key={KEY}", f"https://h#{KEY}"],
        *[f"ftp://h/{KEY}", KEY, f"http:///{KEY}", f"http://h:port/{KEY}", f"file:///etc/{KEY}", ""],
    ],
)
def test_addresses_that_cannot_be_used_are_refused_without_repeating_what_may_be_secret(url: str) -> None:
    for given in (url, ("http://fine:80", url)):
        with pytest.raises(InputError) as caught:
            VLLMServer(model="m", url=given)
        assert KEY not in str(caught.value)
