"""A server of our own: a command in a process that we start, watch and end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from curate.errors import InputError

__all__ = ["ServerProcess", "find_command", "free_port", "one_line"]

_WATCHDOG = Path(__file__).with_name("watchdog.py")
_GRACE = 15.0  # seconds a server has to end by itself
_TAIL = 1 << 16  # bytes of the log in which its last words are looked for
# vLLM's words on a CPU where the prefill of a request with a seed is cut in pieces, as of 0.32.
_SEEDED_IN_PIECES = "CPU Generator does not use offset"
_ERROR = re.compile(r"\b[\w.]*(?:Error|Exception)\b:?\s")


def find_command(command: str | tuple[str, ...]) -> list[str]:
    """The command with the full path of its executable; InputError where there is none."""
    words = [command] if isinstance(command, str) else list(command)
    found = shutil.which(os.path.expanduser(words[0])) if words else None
    if found is None:
        raise InputError(
            f"no command {' '.join(words) or 'vllm'!r}: install vLLM into an environment of its own (python -m venv "
            f"vllm-env && vllm-env/bin/pip install vllm) and set command: vllm-env/bin/vllm, or name a server with url"
        )
    return [found, *words[1:]]


def free_port() -> int:
    """A port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def one_line(text: str, most: int = 300) -> str:
    """Text of somebody else's as one line without control characters, at most `most` characters."""
    plain = "".join(c if c.isprintable() else " " for c in re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", text))
    line = " ".join(plain.split())
    return line if len(line) <= most else line[: most - 3] + "..."


class ServerProcess:
    """One run of the command. Its output goes to a log, which is removed with `close` unless it may be needed."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="curate-server-"))
        self.log = self.folder / "server.log"
        watchdog = [sys.executable, "-I", "-S", str(_WATCHDOG), str(os.getpid()), str(_GRACE), *command]
        # Private whatever the umask: a server may log what it is asked.
        with open(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as output:
            self.process = subprocess.Popen(
                watchdog,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,  # Ctrl-C at the terminal is ours to handle
            )

    def status(self) -> int | None:
        """Exit status, or None while it runs."""
        return self.process.poll()

    def last_words(self) -> str:
        """Why it ended, as far as its log tells, in one line, with the remedy where it is known."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _TAIL))
            lines = [one_line(line, 240) for line in file.read().decode(errors="replace").splitlines()]
        lines = [line for line in lines if line]
        errors = list(dict.fromkeys(line for line in lines if _ERROR.search(line)))
        told = errors if len(errors) <= 3 else [errors[0], *errors[-2:]]
        words = " | ".join(told or lines[-4:]) or "it said nothing"
        if any(_SEEDED_IN_PIECES in line for line in lines):
            words += (
                " - vLLM on a CPU fails where it cuts the prefill of a request with a seed in pieces: add the "
                "arguments --no-enable-chunked-prefill --max-num-batched-tokens N, with N at least max-model-len"
            )
        return words

    def close(self, *, keep_log: bool = False) -> None:
        """End it and all it started; returns when they are gone."""
        if self.process.stdin:
            self.process.stdin.close()
        try:
            self.process.wait(_GRACE + 10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if not keep_log:
            shutil.rmtree(self.folder, ignore_errors=True)
