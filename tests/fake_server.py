"""An OpenAI-compatible server of the standard library alone, whose faults are ordered in advance.

    with FakeServer(lambda body: "42", lambda body, attempt: None if attempt else Fault("drop")) as server:
        VLLMServer(model=server.model, url=server.url)

It runs in a thread, keeps connections alive, and counts what it was asked and what it answered.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["FakeServer", "Fault", "asked", "request_key"]

Kind = Literal["slow", "status", "drop", "truncate", "close_midway", "redirect", "raw", "hang", "bytes"]


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    kind: "slow" = answered after `seconds`; "status" = `status` with `message` and `headers`; "drop" = the connection
        closes without an answer; "truncate" = half of the JSON, with its length; "close_midway" = half of the body
        that was announced; "redirect" = 307 to `message`; "raw" = `message` as the body; "hang" = never; "bytes" =
        what `sent` gives, one after the other with `seconds` between them, as it stands, and then nothing more.
    """

    kind: Kind
    status: int = 500
    message: str = "the engine is unwell"
    seconds: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)
    sent: Callable[[], Iterable[bytes]] = tuple


def asked(body: Mapping[str, Any]) -> str:
    """The prompt of a request, or the content of its last message."""
    return str(body["prompt"] if "prompt" in body else body["messages"][-1]["content"])


def request_key(body: Mapping[str, Any]) -> str:
    """All that decides a completion, so that one that is paid twice shows."""
    return json.dumps(body, sort_keys=True)


class FakeServer:
    """A context manager; also `start`, `stop` and `start` again, on the same port.

    answer: text for a request, or (text, finish_reason).
    faults: fault of a request, given its body and how often the same one came before; None = none.
    key: bearer token that is wanted. context: `max_model_len`, beyond which a prompt, a token a character, is refused.
    limit: what is refused besides, given the tokens of a prompt and those asked for: (status, message), or None.
    count: tokens of a text. usage: whether they are told. listing: fault of /v1/models, "status" or "bytes".
    most: requests at a time, beyond which the answer is 429. delay: seconds before every answer.
    """

    def __init__(
        self,
        answer: Callable[[dict[str, Any]], Any] = lambda body: f"about {asked(body)}",
        faults: Callable[[dict[str, Any], int], Fault | None] = lambda body, attempt: None,
        *,
        model: str = "fake-model",
        key: str | None = None,
        port: int = 0,
        context: int | None = None,
        most: int | None = None,
        delay: float = 0.0,
        owner: str = "vllm",
        chat_template: bool = True,
        limit: Callable[[int, int], tuple[int, str] | None] = lambda prompt, asked: None,
        count: Callable[[str], int] = len,
        usage: bool = True,
        listing: Fault | None = None,
    ) -> None:
        self.answer, self.faults, self.model, self.key, self.port = answer, faults, model, key, port
        self.context, self.most, self.delay, self.owner = context, most, delay, owner
        self.chat_template = chat_template
        self.limit, self.count, self.usage, self.listing = limit, count, usage, listing
        self.requests: list[dict[str, Any]] = []  # as they came
        self.paths: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.arrived: Counter[str] = Counter()  # by request_key
        self.answered: Counter[str] = Counter()  # those that were answered whole: what would be paid
        self.times: list[float] = []
        self.under_way = self.most_under_way = self.connections = self.most_connections = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> FakeServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(ready)), daemon=True)
        self._thread.start()
        assert ready.wait(10)

    def stop(self) -> None:
        """As if it were killed: connections end, no answer is finished."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join()
            self._loop = None

    async def _run(self, ready: threading.Event) -> None:
        self._ending = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._talk, "127.0.0.1", self.port, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        self._loop = asyncio.get_running_loop()
        ready.set()
        await self._ending.wait()
        server.close()
        for _ in range(3):  # connections that were just accepted begin, and aborted ones are closed, in the next rounds
            for writer in self._writers:
                writer.transport.abort()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.sleep(0.01)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self._writers.add(writer)
        self.connections += 1
        self.most_connections = max(self.connections, self.most_connections)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                _, path, _ = first.split(" ")
                if not await self._reply(writer, path, headers, body):
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            self.connections -= 1
            self._writers.discard(writer)
            self._tasks.discard(task)
            if self._ending.is_set():
                writer.transport.abort()  # closing waits until all that was written has been read
            else:
                writer.close()

    async def _reply(self, writer: asyncio.StreamWriter, path: str, headers: dict[str, str], content: bytes) -> bool:
        """Whether the connection stays."""
        self.paths[path] += 1
        self.headers.append(headers)
        if self.key and headers.get("authorization") != f"Bearer {self.key}":
            return await self._send(writer, 401, {"error": {"message": "Unauthorized"}})
        if path == "/health":
            return await self._send(writer, 200, {})
        if path == "/v1/models" and self.listing:
            if self.listing.kind == "status":
                return await self._send(writer, self.listing.status, {"error": {"message": self.listing.message}})
            return await self._send_bytes(writer, self.listing)
        if path == "/v1/models":
            entry = {"id": self.model, "object": "model", "owned_by": self.owner, "max_model_len": self.context}
            return await self._send(writer, 200, {"object": "list", "data": [entry]})
        if path not in ("/v1/completions", "/v1/chat/completions"):
            return await self._send(writer, 404, {"error": {"message": "Not Found"}})
        body = json.loads(content)
        attempt = self.arrived[request_key(body)]
        self.arrived[request_key(body)] += 1
        self.requests.append(body)
        self.times.append(time.monotonic())
        self.under_way += 1
        self.most_under_way = max(self.under_way, self.most_under_way)
        try:
            return await self._complete(writer, path, body, attempt)
        finally:
            self.under_way -= 1

    async def _complete(self, writer: asyncio.StreamWriter, path: str, body: dict[str, Any], attempt: int) -> bool:
        fault = self.faults(body, attempt)
        if fault and fault.kind == "hang":
            await asyncio.sleep(3600)
        if fault and fault.kind == "bytes":
            return await self._send_bytes(writer, fault)
        if self.most is not None and self.under_way > self.most:
            return await self._send(writer, 429, {"error": {"message": "too many requests"}})
        seconds = self.delay + (fault.seconds if fault else 0.0)
        if seconds:
            await asyncio.sleep(seconds)
        if refusal := self._refusal(path, body):
            return await self._send(writer, 400, {"error": {"message": refusal, "code": 400}})
        if beyond := self.limit(self.count(asked(body)), body["max_tokens"]):
            return await self._send(writer, beyond[0], {"error": {"message": beyond[1], "code": beyond[0]}})
        if fault and fault.kind == "drop":
            return False
        if fault and fault.kind == "status":
            return await self._send(writer, fault.status, {"error": {"message": fault.message}}, fault.headers)
        if fault and fault.kind == "redirect":
            return await self._send(writer, 307, {}, {"Location": fault.message})
        if fault and fault.kind == "raw":
            return await self._send(writer, 200, fault.message)
        whole = self._completion(path, body)
        if fault and fault.kind == "truncate":
            text = json.dumps(whole)
            return await self._send(writer, 200, text[: len(text) // 2])
        if fault and fault.kind == "close_midway":
            await self._send(writer, 200, whole, cut=True)
            return False
        self.answered[request_key(body)] += 1
        return await self._send(writer, 200, whole)

    def _refusal(self, path: str, body: dict[str, Any]) -> str | None:
        if not self.chat_template and path == "/v1/chat/completions":
            return "default chat template is no longer allowed, so you must provide a chat template"
        if self.context is None:
            return None
        if body["max_tokens"] > self.context:
            return f"max_tokens={body['max_tokens']} cannot be greater than max_model_len={self.context}"
        if len(asked(body)) >= self.context:
            return f"This model's maximum context length is {self.context} tokens. However, your prompt contains more"
        return None

    def _completion(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.answer(body)
        text, reason = answer if isinstance(answer, tuple) else (answer, "stop")
        content = {"message": {"role": "assistant", "content": text}} if "chat" in path else {"text": text}
        usage = {"prompt_tokens": self.count(asked(body)), "completion_tokens": self.count(text or "")}
        choice = {"index": 0, "finish_reason": reason, **content}
        told = {"usage": usage} if self.usage else {}
        return {"id": "fake", "model": self.model, "choices": [choice], **told}

    async def _send_bytes(self, writer: asyncio.StreamWriter, fault: Fault) -> bool:
        for part in fault.sent():
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(fault.seconds)
        await asyncio.sleep(3600)
        return False

    async def _send(
        self, writer: asyncio.StreamWriter, status: int, body: Any, headers: Mapping[str, str] = {}, cut: bool = False
    ) -> bool:
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        lines = [f"HTTP/1.1 {status} X", "Content-Type: application/json", f"Content-Length: {len(content)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + content[: len(content) // 2 if cut else None])
        await writer.drain()
        return True
