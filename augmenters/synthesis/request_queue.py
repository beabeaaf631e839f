"""Queue of requests between variants and a generator, with stored completions and a token budget."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from augmenters.synthesis.outlook import Outlook
from augmenters.synthesis.variant_group import Ticket, VariantGroup
from augmenters.synthesis.variants import GIVEN_UP, UNFINISHED
from curate.generators.request_queue import RequestQueue
from curate.generators.request_store import RequestStore
from curate.generators.requests import Completion, Request


@dataclass(frozen=True)
class Workload:
    """Upper bounds of what is left to do: requests; completion_tokens, if every completion uses all it may; second:
    number of requests for second routes among them."""

    requests: int
    completion_tokens: int
    second: int = 0


class SecondQueue(RequestQueue[tuple[VariantGroup, Ticket]]):
    """The second-route requests if another model answers them; its completions go to the queue of the groups."""

    def __init__(self, first: SynthesisQueue, store: RequestStore, model: str) -> None:
        super().__init__(model, store, note=first.note)
        self.first = first

    def receive(self, ticket: tuple[VariantGroup, Ticket], request: Request, completion: Completion) -> None:
        self.first.receive(ticket, request, completion)


class SynthesisQueue(RequestQueue[tuple[VariantGroup, Ticket]]):
    """The requests of groups of variants; a ticket is the group and the group's own ticket.

    Everything the store holds is replayed first, so that a run that was interrupted, or whose budget or number of
    variants was raised, pays only for what is new, and so that the result is a function of the store. What follows
    from a completion goes before new groups: a run that is stopped has finished problems to show.

    on_finished: called with each group once nothing of it is open; see `RequestQueue` for the others.
    second_model: identity of another generator for the second route; its requests are in `second`, to be served when
        those of this queue are done. None = there is no other.
    least_yield: no more is asked where fewer than that share of proposals are kept (see `Outlook`); 0 = never.
    """

    def __init__(
        self,
        groups: Sequence[VariantGroup],
        store: RequestStore,
        model: str,
        *,
        budget: int | None = None,
        on_finished: Callable[[VariantGroup], None] = lambda group: None,
        note: Callable[[str], None] = lambda text: None,
        second_model: str | None = None,
        least_yield: float = 0.0,
    ) -> None:
        super().__init__(model, store, budget=budget, note=note)
        self.groups, self.on_finished = groups, on_finished
        self.second = None if second_model is None else SecondQueue(self, store, second_model)
        self.outlook, self.least_yield, self.hopeless = Outlook(), least_yield, False
        self.seconds = 0.0
        self._started: float | None = None

    def replay(self) -> None:
        """Let every group take its stored completions from the store."""
        for group in self.groups:
            self._enter(group, group.begin())

    def _enter(self, group: VariantGroup, requests: Sequence[tuple[Request, Ticket]]) -> None:
        """Answer a group's requests from the store as far as possible; the others wait for their generator."""
        open_requests = deque(requests)
        while open_requests:
            request, ticket = open_requests.popleft()
            queue = self.second if ticket.kind == "second" and self.second is not None else self
            completion = queue.from_store(request)
            if completion is None:
                queue.add(request, (group, ticket), urgent=not group.untouched)
            else:
                open_requests.extend(group.receive(ticket, request, completion))
        if group.finished:
            if (line := self.outlook.count(group)) is not None:
                self.note(line)
            self.on_finished(group)

    def take(self, most: int) -> list[Request]:
        if not self.hopeless and self.outlook.hopeless(self.least_yield):
            self.hopeless = True
            self.note(self.outlook.why_stopped(self.least_yield))
        if self.hopeless:
            return []
        if self._started is None:
            self._started = time.monotonic()
        return super().take(most)

    def done(self, request: Request, completion: Completion) -> None:
        super().done(request, completion)
        assert self._started is not None
        self.seconds = time.monotonic() - self._started

    def receive(self, ticket: tuple[VariantGroup, Ticket], request: Request, completion: Completion) -> None:
        """Pass the completion to its group, and enqueue the requests that follow from it."""
        group, own = ticket
        self._enter(group, group.receive(own, request, completion))

    @property
    def stopped(self) -> bool:
        """Whether the budget left requests that were not made."""
        return (self.waiting or (self.second is not None and self.second.waiting)) and not self.hopeless

    def open_second(self) -> SecondQueue | None:
        """The second-route requests for another generator, within the rest of the budget; None if there are none."""
        if self.second is None or not self.second.waiting:
            return None
        if self.budget is not None:
            self.second.budget = max(self.budget - self.completion_tokens, 0)
        return self.second

    def close(self) -> None:
        """Mark what the budget, or a hopeless yield, left unfinished."""
        for group in self.groups:
            for variant in group.variants:
                if variant.outcome is None:
                    variant.reject(GIVEN_UP if self.hopeless else UNFINISHED)

    def left(self) -> Workload:
        """Upper bound of what is still to be requested, if the band stops nothing early."""
        requests = tokens = routes = 0
        for group in self.groups:
            settings = group.settings
            if settings.solves_parents and not group.parent:
                requests += settings.band.samples
                tokens += settings.band.samples * settings.solution_sampling.max_tokens
            for variant in group.variants:
                if variant.outcome is not None:
                    continue
                samples = settings.band.samples - len(variant.drawn)
                proposals = int(variant.proposal is None)
                second = settings.second.samples - len(variant.second) if settings.second is not None else 0
                requests += samples + proposals + second
                routes += second
                tokens += samples * settings.solution_sampling.max_tokens
                tokens += proposals * settings.variation_sampling.max_tokens
                tokens += second * settings.second.sampling.max_tokens if settings.second is not None else 0
        if self.budget is not None:
            tokens = min(tokens, max(self.budget - self.completion_tokens, 0))
        return Workload(requests, tokens, routes)
