"""Queue of requests between variants and a generator, with stored completions and a token budget."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from augmenters.synthesis.variants import UNFINISHED, VariantGroup
from curate.generators.request_queue import RequestQueue
from curate.generators.request_store import RequestStore
from curate.generators.requests import Completion, Request


@dataclass(frozen=True)
class Workload:
    """What is left to ask, at most. requests; completion_tokens: if every completion used all it may."""

    requests: int
    completion_tokens: int


class SynthesisQueue(RequestQueue[tuple[VariantGroup, Any]]):
    """The requests of groups of variants; a ticket is the group and the group's own id of the request.

    Everything the store holds is replayed first, so that a run that was interrupted, or whose budget or number of
    variants was raised, pays only for what is new, and so that the result is a function of the store. What follows
    from a completion goes before new groups: a run that is stopped has finished problems to show.

    on_finished: called with each group once nothing of it is open; see `RequestQueue` for the others.
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
    ) -> None:
        super().__init__(model, store, budget=budget, note=note)
        self.groups, self.on_finished = groups, on_finished
        self.seconds = 0.0
        self._started: float | None = None

    def replay(self) -> None:
        """Let every group take from the store what is there."""
        for group in self.groups:
            self._enter(group, group.begin())

    def _enter(self, group: VariantGroup, requests: Sequence[tuple[Request, Any]]) -> None:
        """Answer requests of a group from the store as far as it goes; the others wait for the generator."""
        open_requests = deque(requests)
        while open_requests:
            request, request_id = open_requests.popleft()
            completion = self.from_store(request)
            if completion is None:
                self.add(request, (group, request_id), urgent=not group.untouched)
            else:
                open_requests.extend(group.receive(request_id, request, completion))
        if group.finished:
            self.on_finished(group)

    def take(self, most: int) -> list[Request]:
        if self._started is None:
            self._started = time.monotonic()
        return super().take(most)

    def done(self, request: Request, completion: Completion) -> None:
        super().done(request, completion)
        assert self._started is not None
        self.seconds = time.monotonic() - self._started

    def receive(self, ticket: tuple[VariantGroup, Any], request: Request, completion: Completion) -> None:
        """Hand the completion to its group, and put what follows from it in line."""
        group, request_id = ticket
        self._enter(group, group.receive(request_id, request, completion))

    @property
    def stopped(self) -> bool:
        """Whether the budget left requests that were not asked."""
        return self.waiting

    def close(self) -> None:
        """Mark what the budget left open."""
        for group in self.groups:
            for variant in group.variants:
                if variant.outcome is None:
                    variant.reject(UNFINISHED)

    def left(self) -> Workload:
        """What would still be asked at most, if nothing were stopped early by the band."""
        requests = tokens = 0
        for group in self.groups:
            settings = group.settings
            for variant in group.variants:
                if variant.outcome is not None:
                    continue
                samples = settings.band.samples - len(variant.drawn)
                proposals = int(variant.proposal is None)
                requests += samples + proposals
                tokens += samples * settings.solution_sampling.max_tokens
                tokens += proposals * settings.variation_sampling.max_tokens
        if self.budget is not None:
            tokens = min(tokens, max(self.budget - self.completion_tokens, 0))
        return Workload(requests, tokens)
