"""HTTP client for OpenAI-compatible servers with retries; classifies failures as user or server errors."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from curate.console.formatting import printable_line
from curate.errors import ExternalError, InputError, memory_in
from curate.generators import payloads, responses
from curate.generators.chat import Mode
from curate.generators.load_balancing import Endpoint, Endpoints
from curate.generators.payloads import Served
from curate.generators.requests import Completion, Request
from curate.generators.responses import BodyReader, BodyTooLong, RetryableError
from curate.generators.room import Room, concerns_length, fills_context
from curate.generators.sampling_parameters import refused_parameter, sampling_parameters, setting, without_stops

if TYPE_CHECKING:
    import aiohttp


FIRST_BACKOFF = 0.5  # seconds before the first retry, doubled for each further one
LONGEST_BACKOFF = 30.0
PROBE_SECONDS = 10.0
_SHORT_PAUSE = 5.0  # pauses up to this many seconds are not reported
_UNTOLD = 4  # failures of one request that are not reported; the pauses after more are long
_MODELS = 10_000  # token limit for a list of models
_KEEP_ALIVE = 4.0  # seconds a connection is kept unused: uvicorn, vLLM's server, drops it after 5
_IN_DISTRESS = {408, 425, 500, 502, 504}
_OVERLOADED = {429, 503}


class Client:
    """An async context manager around one connection pool.

    All methods run in the thread of the event loop.

    key: sent as a bearer token, never shown in a message; key_variable: the environment variable it came from.
    request_timeout, patience: seconds that one attempt may take at first, and that all attempts at a request may take.
    note: called with one line for the user.
    heard_at: time of the last answer of any server; limited_since: since when all answers say that there are too many
    requests, None = the last one did not; failed: whether a request could not be served.
    """

    def __init__(
        self,
        model: str,
        mode: Mode,
        endpoints: Endpoints,
        *,
        key: str | None,
        key_variable: str,
        retries: int,
        request_timeout: float,
        patience: float,
    ) -> None:
        self.model, self.mode, self.endpoints = model, mode, endpoints
        self.key, self.key_variable = key, key_variable
        self.retries, self.patience = retries, patience
        self.note: Callable[[str], None] = lambda text: None
        self.heard_at, self.failed = time.monotonic(), False
        self.limited_since: float | None = None
        self._attempt_seconds = min(request_timeout, patience)
        self._noted: set[str] = set()
        self._other_cap: set[str] = set()  # addresses of servers that take max_completion_tokens
        self._refused: dict[str, set[tuple[str, float | None]]] = {}  # by address: refused parameters and values
        self._bodies = BodyReader()
        self._jitter = random.Random()

    async def __aenter__(self) -> Client:
        import aiohttp

        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        self._unreachable = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
        self._unusable = (aiohttp.InvalidURL, UnicodeError)
        self._broken = (aiohttp.ClientError, TimeoutError, OSError, EOFError)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.endpoints.most, keepalive_timeout=_KEEP_ALIVE),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )
        self._timeout = lambda seconds: aiohttp.ClientTimeout(total=seconds, sock_connect=PROBE_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def probe(self, endpoint: Endpoint) -> Served | None:
        """The model as the server offers it; None if the server does not answer (yet).

        InputError if it offers another model or rejects the key.
        """
        try:
            async with self._session.get(
                endpoint.url + "/v1/models", timeout=self._timeout(PROBE_SECONDS), allow_redirects=False
            ) as response:
                self.heard_at = time.monotonic()
                content = await self._content(endpoint, response, responses.body_limit(_MODELS))
                status, location = response.status, response.headers.get("Location", "")
        except self._unusable as error:
            raise InputError(f"{endpoint.url} is not a valid address; write it like http://127.0.0.1:8000") from error
        except self._broken as error:
            endpoint.fault = responses.unreachable_reason(error)
            return None
        except (BodyTooLong, ValueError):
            status, location, content = 200, "", b""
        if status in _IN_DISTRESS or status in _OVERLOADED:
            endpoint.fault = f"status {status}: {self._clean(payloads.error_message(content))}"
            return None
        self._check_status(endpoint, status, location)
        try:
            listed = json.loads(content) if status == 200 else None
        except (ValueError, RecursionError):
            listed = None
        if not isinstance(listed, dict) or not isinstance(listed.get("data"), list):
            raise InputError(
                f"{endpoint.url}/v1/models does not list models (status {status}); name an OpenAI-compatible server"
            )
        model_name = payloads.find_model(self.model, listed)
        if model_name is None:
            names = [str(entry.get("id")) for entry in listed["data"] if isinstance(entry, dict)]
            raise InputError(
                f"{endpoint.url} serves {self._clean(', '.join(names)) or 'no model'}, not {self.model}; start it with "
                "that model, or name the one it serves"
            )
        return model_name

    async def ask(self, request: Request) -> Completion:
        """Request one completion. ExternalError after too many failures or too long, InputError if no retry helps."""
        room, spent, failures = Room(request.sampling.max_tokens), 0.0, 0
        while True:
            endpoint = await self.endpoints.acquire()
            asked_at, fault = time.monotonic(), None
            if self.endpoints.in_flight == 1:
                self.heard_at = asked_at  # no request was outstanding until now
            try:
                completion = await self._ask(endpoint, request, room, self.patience - spent)
            except RetryableError as error:
                completion, fault = None, error
            finally:
                spent += time.monotonic() - asked_at
                self.endpoints.release(endpoint)
            if completion is not None:
                return completion
            if fault is not None:
                failures += 1
                self._give_up(endpoint, fault, failures, spent)
                if not fault.waited:
                    longest = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** (failures - 1))
                    await asyncio.sleep(longest * self._jitter.uniform(0.5, 1.0))

    def _give_up(self, endpoint: Endpoint, fault: RetryableError, failures: int, spent: float) -> None:
        """Raise ExternalError if a request has failed too often or taken too long."""
        limited = 0.0 if self.limited_since is None else time.monotonic() - self.limited_since
        if failures <= self.retries and spent < self.patience and limited < self.patience:
            if failures == _UNTOLD:
                self._note_once("repeating", f"repeating what failed {failures} times at {endpoint.url}: {fault}")
            return
        self.failed = True
        log = f"see its log {endpoint.log}" if endpoint.log else "see its log"
        if failures > self.retries:
            problem = f"the server failed {failures} times on one request, at last at {endpoint.url}: {fault}; {log}"
        elif limited >= self.patience:
            problem = f"told to wait for {limited:.0f} s without an answer, at last by {endpoint.url}: {fault}; "
            problem += "wait until it takes requests again, or raise the generator's patience"
        else:
            problem = f"one request was not answered in {spent:.0f} s, at last by {endpoint.url}: {fault}; {log}"
            problem += ", or raise the generator's patience if it is only slow"
        raise ExternalError(f"{problem}, then rerun the same command")

    async def _ask(self, endpoint: Endpoint, request: Request, room: Room, patience: float) -> Completion | None:
        """The completion; None if it must be requested again with other parameters."""
        served = endpoint.served
        if served is None:
            raise RetryableError("it went down", waited=True)
        room.within(served.context)
        cap = payloads.OTHER_CAP if endpoint.url in self._other_cap else "max_tokens"
        parameters = sampling_parameters(request, served)
        refused = self._refused.get(endpoint.url, ())
        sent = {name: value for name, value in parameters.items() if setting(name, value) not in refused}
        path, body = payloads.encode_request(request, served, self.mode, room.asked, sent, cap)
        asked_at = time.monotonic()
        status, headers, content = await self._post(endpoint, path, body, responses.body_limit(room.asked), patience)
        if status not in _OVERLOADED:
            self.limited_since = None
        if status == 200:
            completion = self._completion(endpoint, served, room.asked, content)
            endpoint.grow_window(self.endpoints.most)
            if not room.accepted(completion):
                return None
            left_out = parameters.keys() - sent.keys() - {"stop"}
            if "stop" not in sent:
                completion = without_stops(completion, request.sampling.stop)
            return replace(completion, cap=room.cap, refused_parameters=tuple(sorted(left_out)))
        stated = self._clean(payloads.error_message(content), payloads.LONGEST_MESSAGE)
        message = printable_line(stated)
        if cap != payloads.OTHER_CAP and self.mode == "chat" and payloads.wants_other_cap(status, stated):
            self._other_cap.add(endpoint.url)
            return None
        if (name := refused_parameter(status, content, sent)) is not None:
            self._refused.setdefault(endpoint.url, set()).add(setting(name, sent[name]))
            text = f"{endpoint.url} does not take {name} ({self._clean(stated)}); asking without"
            self._note_once(f"{endpoint.url} {name}", text)
            return None
        if concerns_length(status, stated) and not payloads.lacks_chat_template(message):
            if room.refused(stated):
                return None
            if fills_context(status, stated):
                return Completion("", "refused", refusal=message)
        if payloads.refuses_tools(request, status, stated):
            raise InputError(
                f"{endpoint.url} does not take the tools of a chat (status {status}): {message}; start it so that "
                "it does (vLLM: --enable-auto-tool-choice --tool-call-parser NAME, llama.cpp: --jinja), or leave them "
                "out with {data: FILE, columns: 'tools='}"
            )
        if status in _OVERLOADED:
            pause = self._pause(endpoint, asked_at, headers.get("Retry-After"))
            raise RetryableError(f"status {status}: {message}", waited=pause > 0)
        if status in _IN_DISTRESS or status > 504:
            if memory_in(stated):
                self.endpoints.pause(endpoint, asked_at, 0.0)
                self._note_once("memory", f"{endpoint.url} ran out of memory; asking less at a time")
                message += " (start it with less, in vLLM a smaller --max-num-seqs or --gpu-memory-utilization)"
            raise RetryableError(f"status {status}: {message}")
        self._check_status(endpoint, status, headers.get("Location", ""))
        if payloads.lacks_chat_template(message):
            raise InputError(f"{self.model} has no chat template ({message}); set template: plain")
        raise InputError(f"{endpoint.url} does not accept a request (status {status}): {message}")

    async def _post(
        self, endpoint: Endpoint, path: str, body: bytes, most: int, patience: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of an answer, up to `most` bytes of it."""
        asked_at, seconds = time.monotonic(), max(0.001, min(self._attempt_seconds, patience))  # 0 would be no limit
        try:
            async with self._session.post(
                endpoint.url + path, data=body, allow_redirects=False, timeout=self._timeout(seconds)
            ) as response:
                content = await self._content(endpoint, response, most)
        except self._unreachable as error:
            endpoint.fault = responses.unreachable_reason(error)
            self.endpoints.mark_down(endpoint)
            raise RetryableError(f"no connection ({endpoint.fault})", waited=True) from error
        except TimeoutError as error:
            raise self._late(endpoint, asked_at, seconds) from error
        except self._broken as error:
            raise RetryableError(f"the connection broke ({type(error).__name__})") from error
        except BodyTooLong as error:
            if error.together:
                self.endpoints.pause(endpoint, asked_at, 0.0)
            raise RetryableError(str(error)) from error
        except ValueError as error:
            raise RetryableError(printable_line(str(error), 120)) from error
        self.heard_at = endpoint.heard_at = time.monotonic()
        return response.status, response.headers, content

    def _late(self, endpoint: Endpoint, asked_at: float, seconds: float) -> RetryableError:
        if self.endpoints.hangs(endpoint, asked_at):
            self._note_once(endpoint.url, f"{endpoint.url} has answered nothing in {seconds:g} s; others take its work")
            return RetryableError(f"no answer in {seconds:g} s", waited=True)
        # All requests in flight share the server: with as many at a time, all would time out again.
        self.endpoints.pause(endpoint, asked_at, 0.0)
        self._attempt_seconds = max(self._attempt_seconds, min(2 * seconds, self.patience))
        text = f"no answer from {endpoint.url} in {seconds:g} s; asking less at a time, and waiting longer"
        self._note_once("late", text)
        return RetryableError(f"no answer in {seconds:g} s", waited=True)

    def _pause(self, endpoint: Endpoint, asked_at: float, retry_after: str | None) -> float:
        """Pause a server for as long as it asks for, within limits; returns the seconds.

        All requests share the patience for this: between two turns of one request stand those of all others.
        """
        now = time.monotonic()
        self.limited_since = now if self.limited_since is None else self.limited_since
        requested, left = responses.wanted_seconds(retry_after), self.limited_since + self.patience - now
        pause = min(responses.pause_seconds(retry_after), max(0.0, left))
        if pause > _SHORT_PAUSE and time.monotonic() >= endpoint.paused_until:
            bounded = "" if requested == pause else f", asking again in {pause:.0f} s"
            self.note(f"{endpoint.url} is rate limiting for {requested:.0f} s; waiting{bounded}")
        self.endpoints.pause(endpoint, asked_at, pause)
        return pause

    def _completion(self, endpoint: Endpoint, served: Served, requested: int, content: bytes) -> Completion:
        try:
            answer = payloads.decode_completion(content, requested)
        except ValueError as error:
            raise RetryableError(f"not a completion: {self._clean(str(error), 120)}") from error
        if answer.model is not None and not payloads.names_model(answer.model, served, self.model):
            raise InputError(
                f"{endpoint.url} answered as {self._clean(answer.model)}, not as {self.model}; see where it passes "
                "requests on to, or name the model that answers"
            )
        if not answer.counted:
            self._note_once("usage", "the server does not say how many tokens it used; max_tokens is assumed")
        if answer.cut:
            self._note_once("cut", "the server ignores max_tokens; overlong completions are truncated")
        return answer.completion

    def _check_status(self, endpoint: Endpoint, status: int, location: str) -> None:
        """Raise for a status that is about the server, not about one request."""
        if 300 <= status < 400:
            target = self._clean(responses.redirect_target(location)) or "nowhere"
            raise ExternalError(
                f"{endpoint.url} redirects to {target}, and redirects are not followed; set url to the target"
            )
        if status in (401, 403):
            problem = "does not accept the key in" if self.key else "requires a key, and there is none in"
            raise InputError(
                f"{endpoint.url} {problem} the environment variable {self.key_variable} (status {status}); set it, or "
                "name another with api_key_variable"
            )

    async def _content(self, endpoint: Endpoint, response: aiohttp.ClientResponse, most: int) -> bytes:
        """The body of an answer, at most `most` bytes; for an error response, only its beginning."""
        if (coding := responses.unsupported_encoding(response)) is not None:
            if response.status == 200:
                raise ExternalError(
                    f"{endpoint.url} compresses its answers ({self._clean(coding)}), which was not asked for; switch "
                    "that off there, or name the server behind it, then rerun the same command"
                )
            return b""
        if response.status != 200:
            return await self._bodies.read(response, responses.ERROR_BYTES, cut=True)
        return await self._bodies.read(response, most)

    def _note_once(self, kind: str, text: str) -> None:
        if kind not in self._noted:
            self._noted.add(kind)
            self.note(text)

    def _clean(self, text: str, most: int = 300) -> str:
        return printable_line(text.replace(self.key, "***") if self.key else text, most)
