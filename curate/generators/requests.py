"""Requests, completions, the queue protocol and the generator protocol."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import Field

from curate.component import Component

# Text to be continued as it is, or the messages of a chat in OpenAI's format ({"role": ..., "content": ...}, perhaps
# with "tool_calls", "tool_call_id", "name"), to be rendered with the model's own chat template.
Prompt = str | tuple[Mapping[str, Any], ...]


class Sampling(Component):
    """Sampling parameters.

    temperature: 0 = the most likely token each time (greedy).
    top_p: sample from the smallest set of tokens with that much probability; 1 = all.
    top_k: sample from that many most likely tokens; 0 = all.
    max_tokens: most tokens of one completion.
    stop: texts that end a completion; they are not part of it.
    """

    temperature: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    max_tokens: int = Field(default=1024, ge=1)
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """A request for one completion.

    seed: of the draw, in [0, 2**63); index: number of the sample among those of the same prompt and seed.
    tools: what the model may call, each {"type": "function", "function": {"name", "description", "parameters"}}; of a
        chat only. A call is part of the completion's text, as `<tool_call>`, JSON of name and arguments, `</tool_call>`
        where a server takes it out of the text, and as the model wrote it otherwise.
    """

    prompt: Prompt
    sampling: Sampling
    seed: int
    index: int = 0
    tools: tuple[Mapping[str, Any], ...] = ()

    def key(self, model: str) -> str:
        """32 hex digits of all that determines the completion: model, prompt, tools, sampling, seed and index."""
        digest = prompt_digest(self.prompt, self.tools)
        parts = [model, digest, self.sampling.model_dump(), self.seed, self.index]
        return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def prompt_digest(prompt: Prompt, tools: Sequence[Mapping[str, Any]] = ()) -> str:
    """32 hex digits of a prompt and its tools."""
    return hashlib.blake2b(json.dumps(plain_prompt(prompt, tools), sort_keys=True).encode(), digest_size=16).hexdigest()


def plain_prompt(prompt: Prompt, tools: Sequence[Mapping[str, Any]] = ()) -> Any:
    """A prompt as JSON has it: text, a list of messages, or an object of messages and tools."""
    plain: Any = prompt if isinstance(prompt, str) else [dict(message) for message in prompt]
    return {"messages": plain, "tools": list(tools)} if tools else plain


@dataclass(frozen=True)
class Completion:
    """The answer to a request.

    text: without the prompt and without the stop text; always encodable as UTF-8: half of a surrogate pair, which a
        server may send, has become U+FFFD.
    finish_reason: "stop" = the model ended it or a stop text did; "length" = cut off at max_tokens or at the end of
        the context; "refused" = this request can never be served (the prompt is longer than the context, say): text
        is then empty and `refusal` says why.
    prompt_tokens, completion_tokens: as the model counted them; where a server does not state them, 0 and max_tokens,
        an upper bound. More than twice max_tokens: the server ignored it, and the text was cut to its share.
    cap: most tokens where the context left fewer than max_tokens beside the prompt; None = max_tokens.
    refused_parameters: parameters of sampling that the server refuses, in place of which its own values were used.
    """

    text: str
    finish_reason: Literal["stop", "length", "refused"]
    prompt_tokens: int = 0
    completion_tokens: int = 0
    refusal: str | None = None
    cap: int | None = None
    refused_parameters: tuple[str, ...] = ()


class Queue(Protocol):
    """The source of a generator's requests. Its methods are never called by two threads at once.

    A queue may have one more method, `note(text: str) -> None`, which takes one line for the user on what a generator
    is doing, such as starting a server; and an attribute `engine`, whose workers may run servers.
    """

    def take(self, most: int) -> list[Request]:
        """Up to `most` requests to begin now. Empty = none now: more may come when one under way is done; with none
        under way, that was all."""
        ...

    def done(self, request: Request, completion: Completion) -> None:
        """The completion of a request that was taken. Kept on disk when this returns, where the queue keeps any."""
        ...


@runtime_checkable
class Generator(Protocol):
    """Generates completions with a language model.

    A generator pulls: it takes as many requests from a queue as it has room for and hands each completion back as soon
    as it is finished. The queue decides what comes next, whether the budget allows it and what is stored already, so
    that a generator can be as short as this:

        def serve(self, queue):
            while batch := queue.take(16):
                for request, completion in zip(batch, self.model(batch)):
                    queue.done(request, completion)

    A generator may have one more method, `check_ready() -> None`, which raises InputError or ExternalError before a run
    starts if something it needs is missing.
    """

    def identity(self) -> str:
        """Name of the model with all that distinguishes its versions; part of every request's key."""
        ...

    def serve(self, queue: Queue) -> None:
        """Take requests until there are none; hand back every completion as soon as it is finished, in any order.

        ExternalError if the model cannot be reached, InputError if it is not the one that was asked for. A request
        that can never be served is done with finish_reason "refused".
        """
        ...
