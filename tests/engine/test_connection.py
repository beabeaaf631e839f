"""What is said where there is no cluster, or none that lets us in."""

import socket

import pytest

from curate.engine import Ray
from curate.engine.connection import _explained
from curate.errors import ExternalError, InputError


def test_an_address_where_nothing_answers_is_named_at_once() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
        with pytest.raises(ExternalError, match=f"no Ray cluster answers at {address}.*ray start --head"):
            Ray(address=address).numerics("float32")


@pytest.mark.parametrize("address", ["nonsense", "ray://host", "http://host:1", "host:99999999", ""])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="is no address of a Ray cluster"):
        Ray(address=address).numerics("float32")


def test_errors_of_ray_become_one_line_with_a_remedy() -> None:
    mismatch = _explained(RuntimeError("Version mismatch: The cluster was started with:\n Ray: 2.1"), "h:1")
    assert isinstance(mismatch, InputError)
    assert "Ray: 2.1" in str(mismatch)
    assert "ray start --head" in str(_explained(ConnectionError("Could not find any running Ray instance."), "auto"))
    assert "RAY_AUTH_TOKEN" in str(_explained(RuntimeError("Failed to connect to GCS"), "h:1"))
    for error in (mismatch, _explained(SystemExit(15), "h:1")):
        assert "\n" not in str(error)
