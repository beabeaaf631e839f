"""The queue between the families and a generator: what is known already, what may still be asked, what was paid."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from augmenters.synthesis.variants import UNFINISHED, Family
from curate.generators.request_store import RequestStore
from curate.generators.requests import Completion, Request

__all__ = ["Work", "Workload"]


@dataclass(frozen=True)
class Workload:
    """What is left to ask, at most. requests; completion_tokens: if every completion used all it may."""

    requests: int
    completion_tokens: int


class Work:
    """A `curate.generators.requests.Queue`.

    Everything the store holds is replayed first, so that a run that was interrupted, or whose budget or number of
    variants was raised, pays only for what is new, and so that the result is a function of the store. What follows
    from a completion goes before new families: a run that is stopped has finished problems to show.

    budget: most completion tokens of all requests together, those in the store included. A request is begun only if
    all it may cost still fits, so that the budget is never exceeded by what this run begins.
    on_finished: called with each family once nothing of it is open; note: with what the generator has to tell the user.
    """

    def __init__(
        self,
        families: Sequence[Family],
        store: RequestStore,
        model: str,
        *,
        budget: int | None = None,
        on_finished: Callable[[Family], None] = lambda family: None,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.families, self.store, self.model, self.budget = families, store, model, budget
        self.on_finished, self.note = on_finished, note
        self._follow_ups: deque[tuple[Request, Family, Any]] = deque()
        self._fresh: deque[tuple[Request, Family, Any]] = deque()
        self._under_way: dict[str, tuple[Family, Any]] = {}
        self._reserved = 0
        self.stored = self.made = 0
        self.prompt_tokens = self.completion_tokens = self.made_tokens = 0
        self.seconds = 0.0
        self._started: float | None = None

    def replay(self) -> None:
        """Let every family take from the store what is there."""
        for family in self.families:
            self._enter(family, family.begin())

    def _enter(self, family: Family, asked: Sequence[tuple[Request, Any]]) -> None:
        """Answer requests of a family from the store as far as it goes; what is not there waits for the generator."""
        known = deque(asked)
        while known:
            request, ticket = known.popleft()
            completion = self.store.get(request.key(self.model))
            if completion is None:
                waiting = self._fresh if family.untouched else self._follow_ups
                waiting.append((request, family, ticket))
                continue
            self.stored += 1
            self._count(completion)
            known.extend(family.receive(ticket, request, completion))
        if family.finished:
            self.on_finished(family)

    def take(self, most: int) -> list[Request]:
        if self._started is None:
            self._started = time.monotonic()
        taken: list[Request] = []
        while len(taken) < most and (self._follow_ups or self._fresh):
            waiting = self._follow_ups or self._fresh
            request, family, ticket = waiting[0]
            if not self._affordable(request):
                break
            waiting.popleft()
            # Another run may have paid for it since it was put in line.
            if self.store.get(request.key(self.model)) is not None:
                self._enter(family, [(request, ticket)])
                continue
            self._under_way[request.key(self.model)] = (family, ticket)
            self._reserved += request.sampling.max_tokens
            taken.append(request)
        return taken

    def done(self, request: Request, completion: Completion) -> None:
        key = request.key(self.model)
        if completion.finish_reason != "refused":
            self.store.put(key, request, self.model, completion)
        family, ticket = self._under_way.pop(key)
        self._reserved -= request.sampling.max_tokens
        self.made += 1
        self.made_tokens += completion.completion_tokens
        self._count(completion)
        self._enter(family, family.receive(ticket, request, completion))
        assert self._started is not None
        self.seconds = time.monotonic() - self._started

    @property
    def stopped(self) -> bool:
        """Whether the budget leaves something unasked that was to be asked."""
        return bool(self._follow_ups or self._fresh)

    def close(self) -> None:
        """Mark what the budget left open."""
        for family in self.families:
            for variant in family.variants:
                if variant.outcome is None:
                    variant.reject(UNFINISHED)

    def left(self) -> Workload:
        """What would still be asked at most, if nothing were stopped early by the band."""
        requests = tokens = 0
        for family in self.families:
            method = family.method
            for variant in family.variants:
                if variant.outcome is not None:
                    continue
                samples = method.band.samples - len(variant.drawn)
                proposals = int(variant.proposal is None)
                requests += samples + proposals
                tokens += samples * method.solution_sampling.max_tokens
                tokens += proposals * method.variation_sampling.max_tokens
        if self.budget is not None:
            tokens = min(tokens, max(self.budget - self.completion_tokens, 0))
        return Workload(requests, tokens)

    def _affordable(self, request: Request) -> bool:
        if self.budget is None:
            return True
        return self.completion_tokens + self._reserved + request.sampling.max_tokens <= self.budget

    def _count(self, completion: Completion) -> None:
        self.prompt_tokens += completion.prompt_tokens
        self.completion_tokens += completion.completion_tokens
