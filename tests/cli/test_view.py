"""`curate view`: what it refuses, and where it listens."""

import json
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from curate.cli.view import listening
from curate.errors import InputError
from curate.storage.records import file_checksums, record_text
from tests.fixtures.commands import Call
from tests.fixtures.views import write_rows


def test_it_listens_on_this_machine_alone() -> None:
    with listening(0) as found:
        assert found.getsockname()[0] == "127.0.0.1"
        with pytest.raises(InputError, match="leave out --port"):
            listening(found.getsockname()[1])


def test_a_folder_without_a_result_is_refused(call: Call, tmp_path: Path) -> None:
    done = call("view", tmp_path, "--no-open")
    assert done.status == 2
    assert "run.json" in done.error
    assert "inspect" in call("view", tmp_path, "--json").out


def test_ctrl_c_is_how_it_ends(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(server: Any, sockets: Any) -> None:
        raise KeyboardInterrupt

    write_rows(tmp_path / "out", 20)
    monkeypatch.setattr("uvicorn.Server.run", interrupted)
    assert call("view", tmp_path / "out", "--no-open").status == 0


def test_a_damaged_result_is_refused(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write_rows(folder, 20)
    record = json.loads((folder / "run.json").read_text())
    record["files"] = file_checksums(folder, ["data/*", "tables/*"])
    (folder / "run.json").write_text(record_text(record))
    (folder / "tables" / "split.parquet").write_bytes(b"PAR1")
    done = call("view", folder, "--no-open")
    assert done.status == 2
    assert "split.parquet is damaged" in done.error


def test_a_request_that_breaks_off_is_no_fault(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import uvicorn

    run = uvicorn.Server.run
    head = b"Host: 127.0.0.1\r\nContent-Length: 70050\r\n\r\n"

    def attacked(server: Any, sockets: list[socket.socket]) -> None:
        def attack() -> None:
            for path in (b"/", b"/x", b"/api/rows"):
                with suppress(OSError), socket.create_connection(sockets[0].getsockname(), timeout=1) as client:
                    client.sendall(b"POST " + path + b" HTTP/1.1\r\n" + head + b"a" * 70_000)
                    client.shutdown(socket.SHUT_WR)
                    client.recv(1000)
            server.should_exit = True

        thread = threading.Thread(target=attack)
        thread.start()
        run(server, sockets=sockets)
        thread.join()

    write_rows(tmp_path / "out", 20)
    monkeypatch.setattr("uvicorn.Server.run", attacked)
    done = call("view", tmp_path / "out", "--no-open")
    assert done.status == 0
    assert "Traceback" not in done.err
