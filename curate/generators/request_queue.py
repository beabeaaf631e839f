"""An in-memory queue of requests in front of the request store."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from curate.console.progress import Progress
from curate.engine.protocol import Engine
from curate.errors import InputError
from curate.generators.request_store import RequestStore
from curate.generators.requests import Completion, Generator, Request
from curate.generators.sampling_parameters import count_refused_parameters

_Ticket = TypeVar("_Ticket")


class RequestQueue(Generic[_Ticket]):
    """A `curate.generators.requests.Queue`. Stored requests are answered from the store; equal requests are made once.

    Every request comes with a ticket, the key of its completion in `completions`; a subclass that does more with
    a completion (such as adding further requests) overrides `receive`. Only one thread at a time may call a queue.

    model: identity of the generator, part of every request's key.
    store: checked before a request is handed out; new completions are written to it before they are received.
    budget: maximum completion tokens, including those of received completions. A request is handed out only if its
        maximum cost still fits.
    note: called with reports of the generator; advance: called with the number of tickets answered.
    """

    def __init__(
        self,
        model: str = "",
        store: RequestStore | None = None,
        *,
        budget: int | None = None,
        note: Callable[[str], None] = lambda text: None,
        advance: Callable[[int], None] = lambda count: None,
    ) -> None:
        self.model, self.store, self.budget = model, store, budget
        self.note, self.advance = note, advance
        self.engine: Engine | None = None  # its workers may run servers of the generator
        self.completions: dict[_Ticket, Completion] = {}
        self.stored = 0  # completions from the store
        self.made = self.made_tokens = 0  # completions from the generator, and their tokens
        self.prompt_tokens = self.completion_tokens = 0  # of all received completions
        self.refused_parameters: Counter[str] = Counter()  # "temperature=0": completions drawn without it
        self._open: dict[str, tuple[Request, list[_Ticket]]] = {}  # by key: waiting or handed out
        self._waiting: deque[str] = deque()
        self._urgent: deque[str] = deque()
        self._handed_out: set[str] = set()
        self._reserved = 0  # maximum tokens of the requests that are handed out

    @property
    def waiting(self) -> bool:
        """Whether there are requests that are not handed out yet."""
        return bool(self._urgent or self._waiting)

    def add(self, request: Request, ticket: _Ticket, *, urgent: bool = False) -> None:
        """Enqueue a request; an urgent one goes before all that are not urgent."""
        key = request.key(self.model)
        if key in self._open:
            self._open[key][1].append(ticket)
            return
        self._open[key] = (request, [ticket])
        (self._urgent if urgent else self._waiting).append(key)

    def from_store(self, request: Request) -> Completion | None:
        """The stored completion of a request, or None; counted as received."""
        completion = self.store.get(request.key(self.model)) if self.store is not None else None
        if completion is not None:
            self.stored += 1
            self._count(request, completion)
        return completion

    def receive(self, ticket: _Ticket, request: Request, completion: Completion) -> None:
        """Called once per ticket when its completion is known."""
        self.completions[ticket] = completion

    def take(self, most: int) -> list[Request]:
        batch: list[Request] = []
        while len(batch) < most and (keys := self._affordable(most - len(batch))):
            stored = self.store.get_many(keys) if self.store is not None else {}
            for key in keys:
                if key in stored:
                    self.stored += 1
                    self._deliver(key, stored[key])
                else:
                    self._handed_out.add(key)
                    batch.append(self._open[key][0])
        return batch

    def done(self, request: Request, completion: Completion) -> None:
        key = request.key(self.model)
        if key not in self._handed_out:
            raise InputError("the generator answered a request that it had not taken, or answered it twice")
        if self.store is not None:
            self.store.put(key, request, self.model, completion)
        self._handed_out.remove(key)
        self.made += 1
        self.made_tokens += completion.completion_tokens
        self._deliver(key, completion)

    def _affordable(self, most: int) -> list[str]:
        """The next keys, up to `most` and within the budget; their tokens are reserved."""
        keys: list[str] = []
        while len(keys) < most and (line := self._urgent or self._waiting):
            cost = self._open[line[0]][0].sampling.max_tokens
            if self.budget is not None and self.completion_tokens + self._reserved + cost > self.budget:
                break
            keys.append(line.popleft())
            self._reserved += cost
        return keys

    def _deliver(self, key: str, completion: Completion) -> None:
        request, tickets = self._open.pop(key)
        self._reserved -= request.sampling.max_tokens
        self._count(request, completion)
        for ticket in tickets:
            self.receive(ticket, request, completion)
        self.advance(len(tickets))

    def _count(self, request: Request, completion: Completion) -> None:
        self.refused_parameters.update(count_refused_parameters([request], [completion]))
        self.prompt_tokens += completion.prompt_tokens
        self.completion_tokens += completion.completion_tokens


def complete(
    generator: Generator,
    requests: Sequence[Request],
    store: RequestStore | None = None,
    progress: Progress | None = None,
    engine: Engine | None = None,
) -> list[Completion]:
    """Completions of `requests`, in their order. Equal requests are made once, stored ones not at all.

    engine: its workers may run servers of the generator. Every completion is stored before the next is awaited.
    Raises what the generator and the store raise.
    """
    progress, model = progress or Progress(), generator.identity()
    with progress.stage("generation", len(requests), "requests") as stage:
        queue = RequestQueue[int](model, store, note=progress.note, advance=stage.advance)
        queue.engine = engine
        for place, request in enumerate(requests):
            queue.add(request, place)
        generator.serve(queue)
        stage.cost.tokens += queue.made_tokens
    if missing := len(requests) - len(queue.completions):
        raise InputError(
            f"{type(generator).__name__}.serve() returned with {missing} of {len(requests)} requests unanswered; "
            "it must take until there are none"
        )
    return [queue.completions[place] for place in range(len(requests))]
