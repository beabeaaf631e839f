"""A generator that asks vLLM or any OpenAI-compatible server: one started here, or servers that run already."""

from __future__ import annotations

import asyncio
import math
import os
import warnings
from collections.abc import Awaitable, Callable, Container, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from curate.component import Component, Consent
from curate.devices.memory import free_gpu_share, leave_gpus
from curate.engine.protocol import Engine
from curate.errors import ExternalError, InputError
from curate.generators.chat import Mode, Template, model_mode
from curate.generators.event_loop import drive_requests, run_in_thread
from curate.generators.load_balancing import (
    KEY_VARIABLE,
    Endpoint,
    Endpoints,
    check_key_travels_safely,
    check_url,
    key_in,
    key_refusal,
    read_urls,
)
from curate.generators.openai_client import Client
from curate.generators.replicas import Replica, run_replicas
from curate.generators.requests import Completion, Queue, Request
from curate.generators.server import find_command, follow_addresses, monitor_servers, report_silence, run_own_server
from curate.generators.vllm_arguments import ARGUMENTS, COMMAND, OWN, deciding, option_of
from curate.models.loading import identify
from curate.storage.places import expanded

_PARALLEL = ("--tensor-parallel-size", "--data-parallel-size", "-tp", "-dp")
_UTILIZATION = "--gpu-memory-utilization"
_MOST_OF_A_GPU, _LEFT_OF_A_GPU = 0.9, 0.02  # of its memory: vLLM's default, and what other processes may still take


class VLLMServer(Component):
    """A vLLM server as a generator. vLLM runs in a separate process, from whatever environment it is installed in.

    model: hub id or local folder.
    url: address of a running server, or several that share the work; None = one is started, monitored, and ended with
        all processes it started. A server that is down is left out until it is back.
    urls_from: file with such addresses, one per line, instead of `url` or in addition. It is reread every two seconds,
        for servers that come and go: an added one gets work once it answers, a removed one finishes its requests.
    command: the executable `vllm`, by name or path, or a command in several words.
    arguments: further arguments of `vllm serve`.
    api_key_variable: environment variable that holds the key of the servers at `url`, if they need one. The key is
        sent over https or to this machine only. Without consent, a recipe only sends OPENAI_API_KEY to this machine:
        another address takes --url, and it or another variable takes --send-key VARIABLE.
    template: "chat" = messages go through the chat template of the model, "plain" = as text with blank lines
        between; "auto" = "plain" for a local model without a chat template. A prompt that is text is unchanged.
    connections: maximum requests in flight; fewer while the servers are overloaded.
    start_timeout: seconds until a server that we start must be ready; it may have to download the model.
    request_timeout: seconds one completion may take at first; if that is too short, fewer requests are made at a time
        and each retry may take twice as long.
    patience: seconds for which servers may work on one completion, all retries together, and for which they may answer
        that there are too many requests and nothing else; then it fails.
    outage_timeout: seconds for which all servers may be down.
    retries: maximum retries of one request when a server fails on it.
    restarts: maximum restarts of a server that we started and that dies.
    replicas: servers started on the workers of an engine (--engine ray), and replaced when their workers are
        lost; None = one is started on this machine.
    gpus_per_replica: of each replica; None = `data_parallel` if the cluster has any, else 0. The GPUs of one
        copy of the model hold a part of it each (--tensor-parallel-size).
    data_parallel: copies of the model in each replica, which divide its GPUs (--data-parallel-size).
    """

    model: str
    url: str | tuple[str, ...] | None = None
    urls_from: str | None = None
    command: str | tuple[str, ...] = "vllm"
    arguments: tuple[str, ...] = ()
    api_key_variable: str = KEY_VARIABLE
    template: Template = "auto"
    connections: int = Field(default=256, ge=1, le=512)
    start_timeout: float = Field(default=1800.0, gt=0)
    request_timeout: float = Field(default=600.0, gt=0)
    patience: float = Field(default=1800.0, gt=0)
    outage_timeout: float = Field(default=300.0, gt=0)
    retries: int = Field(default=10, ge=0)
    restarts: int = Field(default=3, ge=0)
    replicas: int | None = Field(default=None, ge=1)
    gpus_per_replica: int | None = Field(default=None, ge=0)
    data_parallel: int = Field(default=1, ge=1)
    consents: ClassVar[Mapping[str, Consent]] = {"command": COMMAND, "arguments": ARGUMENTS}
    added: ClassVar[frozenset[str]] = frozenset(["urls_from", "replicas", "gpus_per_replica", "data_parallel"])

    @classmethod
    def key_refusal(cls, fields: Mapping[str, Any], given: Container[str]) -> str | None:
        """See `curate.component.Component`."""
        variable, file = fields.get("api_key_variable", KEY_VARIABLE), fields.get("urls_from")
        if (
            file
            and isinstance(variable, str)
            and f"--send-key {variable}" not in given
            and key_in(variable) is not None
        ):
            return (
                f"the key in the environment variable {variable} would be sent to whatever {file} names, which is not "
                f"done unasked; pass --send-key {variable} if you trust it"
            )
        return key_refusal(fields.get("url"), variable, given)

    @field_validator("url", mode="before")
    @classmethod
    def _usable(cls, url: Any) -> Any:
        if isinstance(url, str):
            return check_url(url)  # an InputError, since pydantic's own errors repeat what was given
        if isinstance(url, list | tuple):
            if not url:
                raise InputError("url is an empty list; name a server, or leave url out to start one")
            return tuple(dict.fromkeys(check_url(address) if isinstance(address, str) else address for address in url))
        return url

    @field_validator("arguments")
    @classmethod
    def _allowed(cls, arguments: tuple[str, ...]) -> tuple[str, ...]:
        for word in arguments:
            if (option := option_of(word)) in OWN:
                raise InputError(f"arguments: {option} is set by VLLMServer itself; leave it out")
        return arguments

    @model_validator(mode="after")
    def _consistent(self) -> VLLMServer:
        if self.replicas is None:
            if self.gpus_per_replica is not None or self.data_parallel > 1:
                name = "data_parallel" if self.gpus_per_replica is None else "gpus_per_replica"
                raise InputError(f"{name} is of the replicas; set replicas too, or leave {name} out")
            return self
        if not self._starts:
            raise InputError("replicas are started, and url or urls_from name servers that run; give one of them")
        gpus = self.gpus_per_replica
        if gpus and gpus % self.data_parallel:
            raise InputError(
                f"{gpus} GPUs of a replica cannot be shared by {self.data_parallel} copies of the model; let "
                "gpus_per_replica be a multiple of data_parallel"
            )
        for word in self.arguments:
            if (option := option_of(word)) in _PARALLEL:
                raise InputError(f"arguments: {option} follows from gpus_per_replica and data_parallel; leave it out")
        return self

    def check_engine(self, engine: Engine | None) -> None:
        """Raise InputError if replicas are requested but there is no engine to start them."""
        if self.replicas is not None and engine is None:
            raise InputError(
                f"replicas: {self.replicas} servers are started on the workers of a cluster; add --engine ray, or "
                "leave replicas out to have one started on this machine"
            )

    def identity(self) -> str:
        """The model, its template, and the arguments that change its output, as written.

        A local model counts by its content, one of the hub by its name and --revision: its commit is not known before
        the first server has fetched it, and what was paid for by then must be found again afterwards. Files that
        arguments name, a chat template say, count by their names. Of a server at `url` the arguments are unknown.
        """
        name = identify(self.model) if expanded(self.model).exists() else self.model
        return " ".join([name, self._mode(), *(deciding(self.arguments) if self._starts else ())])

    def check_ready(self) -> None:
        """Raise InputError if there is no such command or folder, a key would be sent unencrypted, or a server at
        `url` has another model. One that does not answer may be there when it is needed: where none does, a warning
        says so before time is spent on anything else."""
        if self._starts:
            if self.replicas is None:  # otherwise the command is on the workers
                find_command(self.command)
            self._serve_arguments()
            return
        client = self._remote(self._mode())

        answers: list[Any] = []

        async def look() -> None:
            async with client:
                answers.extend(await asyncio.gather(*map(client.probe, client.endpoints.all)))

        run_in_thread(look)
        if answers and not any(answers):
            faults = ", ".join(f"{endpoint.url} ({endpoint.fault})" for endpoint in client.endpoints.all)
            warnings.warn(f"no server answers at {faults}; one has to by the time the rows are scored", stacklevel=2)

    def serve(self, queue: Queue) -> None:
        """See `curate.protocols.Generator`."""
        mode = self._mode()
        if not self._starts:
            client = self._remote(mode)
            run_in_thread(lambda: _serve(queue, client, lambda: self._monitor(client)))
            return
        token = os.urandom(24).hex()  # a port of this machine is open to every user logged in on it
        if self.replicas is not None:
            self._serve_by_replicas(queue, self._client(mode, Endpoints([], self.connections), token), token)
            return
        environment = {name: value for name, value in os.environ.items() if name != self.api_key_variable}
        environment |= {"VLLM_API_KEY": token}
        client = self._client(mode, Endpoints([Endpoint("")], self.connections), token)

        async def run_own() -> None:
            leave_gpus()  # also of the proxy's weights, if they were on them
            await run_own_server(client, self._command(), environment, self.start_timeout, self.restarts)

        run_in_thread(lambda: _serve(queue, client, run_own))

    def _serve_by_replicas(self, queue: Queue, client: Client, token: str) -> None:
        engine: Engine | None = getattr(queue, "engine", None)
        self.check_engine(engine)
        assert engine is not None
        gpus = self.gpus_per_replica
        if gpus is None:
            gpus = self.data_parallel if engine.resources()["gpus"] else 0
        setup = (self._command, token, self.api_key_variable, self.start_timeout, self.restarts)
        replicas = [Replica(number, *setup) for number in range(self.replicas or 0)]
        leave_gpus()
        run_in_thread(lambda: _serve(queue, client, lambda: run_replicas(client, engine, replicas, gpus)))

    def _command(self) -> list[str]:
        return [*find_command(self.command), "serve", *self._serve_arguments(), *self._room()]

    @property
    def _starts(self) -> bool:
        """Whether it starts its own server."""
        return self.url is None and self.urls_from is None

    def _fixed_urls(self) -> tuple[str, ...]:
        return (self.url,) if isinstance(self.url, str) else self.url or ()

    def _check_key(self, url: str) -> None:
        """Raise InputError if the key would be sent unencrypted."""
        if key_in(self.api_key_variable):
            check_key_travels_safely(url, self.api_key_variable)

    async def _monitor(self, client: Client) -> None:
        """Monitor the servers; never returns."""
        async with asyncio.TaskGroup() as group:
            group.create_task(monitor_servers(client, self.outage_timeout))
            if self.urls_from is not None:
                fixed = self._fixed_urls()
                group.create_task(follow_addresses(client, self.urls_from, self._check_key, fixed))

    def _remote(self, mode: Mode) -> Client:
        """A client of the servers at `url`, and of those that the file lists now."""
        listed = () if self.urls_from is None else read_urls(self.urls_from)
        urls = tuple(dict.fromkeys([*self._fixed_urls(), *listed]))
        key = key_in(self.api_key_variable)
        for url in urls:
            self._check_key(url)
        return self._client(mode, Endpoints([Endpoint(url) for url in urls], self.connections), key)

    def _client(self, mode: Mode, endpoints: Endpoints, key: str | None) -> Client:
        name = str(expanded(self.model)) if expanded(self.model).exists() else self.model
        return Client(
            name,
            mode,
            endpoints,
            key=key,
            key_variable=self.api_key_variable,
            retries=self.retries,
            request_timeout=self.request_timeout,
            patience=self.patience,
        )

    def _mode(self) -> Mode:
        return model_mode(self.model, self.template)

    def _room(self) -> list[str]:
        """The share of each GPU's memory that the server may take: what is free, and at most vLLM's default."""
        if any(option_of(word) == _UTILIZATION for word in self.arguments):
            return []
        free = free_gpu_share()
        if free is None:
            return []
        share = min(_MOST_OF_A_GPU, math.floor(100 * (free - _LEFT_OF_A_GPU)) / 100)
        if share <= 0:
            raise ExternalError(
                f"no GPU memory is free for a server ({free:.0%} of the GPU); end what holds it, or name a server with "
                "--url, and rerun the same command"
            )
        return [_UTILIZATION, f"{share:.2f}"]

    def _serve_arguments(self) -> list[str]:
        path = expanded(self.model)
        if not path.exists() and (path.is_absolute() or self.model.startswith(".")):
            raise InputError(f"model {self.model!r} does not exist; give a folder or a hub id")
        model = str(path.absolute()) if path.exists() else self.model
        flags = ["--served-model-name", model.rpartition("/")[2], "--uvicorn-log-level", "warning"]
        copies = self.data_parallel
        parts = (self.gpus_per_replica or copies) // copies
        flags += ["--tensor-parallel-size", str(parts)] if parts > 1 else []
        flags += ["--data-parallel-size", str(copies)] if copies > 1 else []
        return [model, *flags, *self.arguments]


async def _serve(queue: Queue, client: Client, keep: Callable[[], Awaitable[None]]) -> None:
    """Drive the requests while `keep` monitors the servers; if one of the two fails, both end.

    Nothing is started or probed before there is a request.
    """
    needed = asyncio.Event()

    async def ask(request: Request) -> Completion:
        needed.set()
        return await client.ask(request)

    async def keep_when_needed() -> None:
        await needed.wait()
        await keep()

    with ThreadPoolExecutor(1, thread_name_prefix="curate-queue") as worker:

        def note(text: str) -> None:
            """Runs in the event loop: pass the line to the worker thread, which alone may call the queue."""
            if (tell := getattr(queue, "note", None)) is not None:
                worker.submit(tell, text)

        client.note = note
        async with client:
            endpoints = client.endpoints
            try:
                async with asyncio.TaskGroup() as group:
                    keeping = [group.create_task(keep_when_needed()), group.create_task(report_silence(client))]
                    # An error of `keep` cancels this; the queue gets finished completions before a server is ended.
                    await drive_requests(queue, ask, endpoints.room, endpoints.changed, worker)
                    for task in keeping:
                        task.cancel()
            except BaseExceptionGroup as errors:
                first: BaseException = errors
                while isinstance(first, BaseExceptionGroup):  # tasks may have started tasks
                    first = first.exceptions[0]
                raise first from first.__cause__
