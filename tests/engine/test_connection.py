"""What is said where there is no cluster, or none that lets us in."""

import contextlib
import signal
import socket
import threading

import pytest

from curate.engine import Ray
from curate.engine.connection import _explained, connect
from curate.errors import ExternalError, InputError


def test_an_address_where_nothing_answers_is_named_at_once() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
        with pytest.raises(ExternalError, match=f"no Ray cluster answers at {address}.*ray start --head"):
            Ray(address=address).numerics("float32")


@pytest.mark.parametrize(
    ("answer", "message"),
    [(None, "it accepts connections only"), (b"HTTP/1.1 400 Bad Request\r\n", "is no Ray cluster")],
)
def test_a_server_that_is_no_cluster_is_not_waited_for(
    answer: bytes | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.engine.connection._GREETING_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:  # run by a thread of the test
            connection, _ = server.accept()
            with connection:
                if answer is not None:
                    connection.sendall(answer)
                with contextlib.suppress(OSError):  # the client hangs up
                    while connection.recv(1000):
                        pass

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(ExternalError, match=f"{message}.*ray start --head"):
            Ray(address=f"127.0.0.1:{server.getsockname()[1]}").numerics("float32")


@pytest.mark.parametrize("address", ["nonsense", "ray://host", "http://host:1", "host:99999999", ""])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="is not an address of a Ray cluster"):
        Ray(address=address).numerics("float32")


def test_sigterm_is_handled_as_before_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own function prints a stack and aborts."""

    class Aborting:
        is_initialized = staticmethod(lambda: False)
        init = staticmethod(
            lambda **settings: signal.signal(signal.SIGTERM, lambda number, frame: pytest.fail("aborts"))
        )

    monkeypatch.setattr("curate.engine.connection.load_ray", Aborting)
    monkeypatch.setattr("curate.engine.connection._check_answers", lambda *address: None)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert connect("h:1")
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGTERM, before)


def test_errors_of_ray_become_one_line_with_a_remedy() -> None:
    mismatch = _explained(RuntimeError("Version mismatch: The cluster was started with:\n Ray: 2.1"), "h:1")
    assert isinstance(mismatch, InputError)
    assert "Ray: 2.1" in str(mismatch)
    assert "ray start --head" in str(_explained(ConnectionError("Could not find any running Ray instance."), "auto"))
    assert "RAY_AUTH_TOKEN" in str(_explained(RuntimeError("Failed to connect to GCS"), "h:1"))
    client = _explained(ConnectionError("ray client connection timeout"), "ray://h:6379")
    assert "no client server of Ray answers at ray://h:6379; name its port (10001" in str(client)
    failed = RuntimeError(
        "Initialization failure from server:\nTraceback (most recent call last):\n" + "x" * 999 + "\nE: no"
    )
    assert "does not let this process in (E: no)" in str(_explained(failed, "h:1"))
    for error in (mismatch, _explained(SystemExit(15), "h:1")):
        assert "\n" not in str(error)
