"""Connection to a Ray cluster, and classification of its errors."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from typing import Any

from curate.errors import CurateError, ExternalError, InputError

_ANSWER_SECONDS, _GREETING_SECONDS = 5.0, 20.0
# What a client of HTTP/2, which gRPC speaks, sends first, with empty settings; a server answers with its own settings.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4  # type of such a frame, its fourth byte
_DOCS = "see docs/ray.md"


def load_ray() -> Any:
    """Import Ray. InputError if it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise InputError(f"--engine ray needs Ray ({error}); install it with: pip install 'curate-lm[ray]'") from error
    return ray


def connect(address: str) -> bool:
    """Connect to the cluster unless the caller is connected; returns whether a connection was made here.

    InputError for an invalid address, an address of another cluster than the caller's, or a cluster with other
    versions; ExternalError if no cluster answers, or it rejects us.
    """
    target = (os.environ.get("RAY_ADDRESS") or address) if address == "auto" else address
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # of all workers that fail alike, one is reported
    if _is_loopback(target):
        _keep_to_loopback()
    ray = load_ray()
    logging.getLogger("ray").setLevel(logging.ERROR)  # messages about workers are shown by the engine
    place = None if target == "auto" else _host_and_port(target)
    if ray.is_initialized():
        _check_same(ray, target)
        return False
    if target == "auto" and (address_here := _found()) is not None:
        target, place = address_here, _host_and_port(address_here)
        if _is_loopback(target):
            _keep_to_loopback()
    if place is not None:
        _check_answers(target, *place)
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=target, log_to_driver=False, logging_level=logging.ERROR)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # if a head does not answer, Ray exits the process
        ray.shutdown()
        raise _explained(error, target) from error
    finally:
        if terminate is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminate)  # Ray has put its own in place, which prints its stack and aborts
    printing = sys.modules.get("ray._private.worker")
    if printing is not None and "print_to_stdstream" in vars(printing):
        # Ray cannot switch this off: it prints messages about workers of any job among the results on standard output.
        vars(printing)["print_to_stdstream"] = _unprinted
    return True


def _unprinted(*arguments: Any, **more: Any) -> None:
    """Replaces Ray's function that prints messages."""


def _is_loopback(address: str) -> bool:
    return address.startswith(("127.", "localhost:"))


def _keep_to_loopback() -> None:
    """Have Ray use a loopback address as it is; it would replace it with one of the machine's, and not be answered."""
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # read when Ray is imported
    constants = sys.modules.get("ray._private.ray_constants")
    if constants is not None and os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0":
        vars(constants)["ENABLE_RAY_CLUSTER"] = False


def _found() -> str | None:
    """HOST:PORT of the cluster on this machine that Ray would take, whether it answers or not; None = none is found."""
    try:
        from ray._private.services import get_ray_address_from_environment

        return str(get_ray_address_from_environment("auto", None))
    except (ImportError, ConnectionError):
        return None


def check_address(address: str) -> None:
    """Raise InputError for an invalid address, and ExternalError if nothing answers there; "auto" is not looked up."""
    if address != "auto":
        _check_answers(address, *_host_and_port(address))


def _host_and_port(address: str) -> tuple[str, int]:
    host, colon, port = address.removeprefix("ray://").rstrip("/").rpartition(":")
    if not (host and colon and port.isdigit() and 0 < int(port) < 65536) or "/" in host:
        raise InputError(
            f"--address {address!r} is not an address of a Ray cluster; write auto, HOST:PORT or ray://HOST:PORT"
        )
    return host.strip("[]"), int(port)


def _check_answers(address: str, host: str, port: int) -> None:
    """Raise ExternalError if no head answers at the address: Ray itself would look for one for minutes."""
    remedy = "start one with `ray start --head`, or correct --address"
    try:
        with socket.create_connection((host, port), _ANSWER_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return
            connection.settimeout(_GREETING_SECONDS)
            connection.sendall(_HELLO)
            answer = connection.recv(9)
    except TimeoutError as error:
        raise ExternalError(f"no Ray cluster answers at {address} (it accepts connections only); {remedy}") from error
    except OSError as error:
        raise ExternalError(f"no Ray cluster answers at {address} ({error}); {remedy}") from error
    if answer[3:4] != bytes([_SETTINGS]):
        raise ExternalError(f"what answers at {address} is no Ray cluster; {remedy}")


def _check_same(ray: Any, address: str) -> None:
    """Raise InputError if the caller is connected to another cluster."""
    if address == "auto" or address.startswith("ray://"):
        return
    own_address = ray.get_runtime_context().gcs_address
    (host, _, port), (own_host, _, own_port) = address.rpartition(":"), own_address.rpartition(":")
    if port != own_port or socket.gethostbyname(host) != socket.gethostbyname(own_host):
        raise InputError(
            f"this process is connected to the Ray cluster at {own_address}, and not to {address}; call ray.shutdown() "
            "first, or leave the address out to use that one"
        )


def _explained(error: BaseException, address: str) -> InputError | ExternalError:
    text = " ".join(str(error).split())
    reason_text = (reason(error) if "Traceback" in text else text)[:160] or "it gave no reason"
    if "ersion mismatch" in text:
        return InputError(f"the cluster at {address} has other versions: {text[:300]}; install the same here")
    if isinstance(error, ConnectionError) and address == "auto":
        return ExternalError(
            "no Ray cluster runs on this machine; start one with `ray start --head`, or name one with --address "
            "HOST:PORT or ray://HOST:PORT"
        )
    if address.startswith("ray://") and "connection timeout" in text:
        return ExternalError(
            f"no client server of Ray answers at {address}; name its port (10001 unless `ray start` was given another) "
            "after ray://, or HOST:PORT of the head without ray:// on one of its nodes"
        )
    token = "set" if os.environ.get("RAY_AUTH_TOKEN") else "not set"
    return ExternalError(
        f"the Ray cluster at {address} answers, but does not let this process in ({reason_text}); if it requires a "
        f"token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (now {token}) to the cluster's, {_DOCS}"
    )


_FULL = (
    "Ray's object store is full, and its disk has no room to spill to; start nodes with more --object-store-memory or "
    "disk, or use a cache that all workers see, and rerun the same command"
)


class WorkerLost(Exception):
    """A worker is gone."""


class FullStore:
    """Converts a full object store to an ExternalError."""

    def __init__(self, ray: Any) -> None:
        self.full = (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, self.full):
            raise ExternalError(_FULL) from error


def cause(error: Any) -> BaseException:
    """The exception that the work raised, unwrapped."""
    raised: BaseException | None = getattr(error, "cause", None)
    if type(raised).__name__ in ("ObjectStoreFullError", "OutOfDiskError"):  # there is no room for a result
        return ExternalError(_FULL)
    if raised is not None and type(raised).__name__ == "RaySystemError":  # what was sent cannot be unpacked there
        if "No module named" in str(raised):
            return InputError(f"a worker lacks a package: {reason(raised)}; install it on every node")
        return ExternalError(f"a worker cannot unpack what was sent: {reason(raised)}; rerun the same command")
    if isinstance(raised, BaseException):
        return raised
    return CurateError(f"a worker failed: {reason(error)}")


def reason(error: BaseException) -> str:
    """The last line of an error, in which Ray quotes the original one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:240] if lines else type(error).__name__
