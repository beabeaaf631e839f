"""The queue between the groups and a generator: what is known already, what may still be asked, what was paid."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from augmenters.synthesis.variants import UNFINISHED, VariantGroup
from curate.generators.request_store import RequestStore
from curate.generators.requests import Completion, Request


@dataclass(frozen=True)
class Workload:
    """What is left to ask, at most. requests; completion_tokens: if every completion used all it may."""

    requests: int
    completion_tokens: int


class SynthesisQueue:
    """A `curate.generators.requests.Queue`.

    Everything the store holds is replayed first, so that a run that was interrupted, or whose budget or number of
    variants was raised, pays only for what is new, and so that the result is a function of the store. What follows
    from a completion goes before new groups: a run that is stopped has finished problems to show.

    budget: most completion tokens of all requests together, those in the store included. A request is begun only if
    all it may cost still fits, so that the budget is never exceeded by what this run begins.
    on_finished: called with each group once nothing of it is open; note: with what the generator has to tell the user.
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
        self.groups, self.store, self.model, self.budget = groups, store, model, budget
        self.on_finished, self.note = on_finished, note
        self._follow_ups: deque[tuple[Request, VariantGroup, Any]] = deque()
        self._fresh: deque[tuple[Request, VariantGroup, Any]] = deque()
        self._under_way: dict[str, tuple[VariantGroup, Any]] = {}
        self._reserved = 0
        self.stored = self.made = 0
        self.prompt_tokens = self.completion_tokens = self.made_tokens = 0
        self.seconds = 0.0
        self._started: float | None = None

    def replay(self) -> None:
        """Let every group take from the store what is there."""
        for group in self.groups:
            self._enter(group, group.begin())

    def _enter(self, group: VariantGroup, asked: Sequence[tuple[Request, Any]]) -> None:
        """Answer requests of a group from the store as far as it goes; what is not there waits for the generator."""
        known = deque(asked)
        while known:
            request, request_id = known.popleft()
            completion = self.store.get(request.key(self.model))
            if completion is None:
                waiting = self._fresh if group.untouched else self._follow_ups
                waiting.append((request, group, request_id))
                continue
            self.stored += 1
            self._count(completion)
            known.extend(group.receive(request_id, request, completion))
        if group.finished:
            self.on_finished(group)

    def take(self, most: int) -> list[Request]:
        if self._started is None:
            self._started = time.monotonic()
        taken: list[Request] = []
        while len(taken) < most and (self._follow_ups or self._fresh):
            waiting = self._follow_ups or self._fresh
            request, group, request_id = waiting[0]
            if not self._affordable(request):
                break
            waiting.popleft()
            # Another run may have paid for it since it was put in line.
            if self.store.get(request.key(self.model)) is not None:
                self._enter(group, [(request, request_id)])
                continue
            self._under_way[request.key(self.model)] = (group, request_id)
            self._reserved += request.sampling.max_tokens
            taken.append(request)
        return taken

    def done(self, request: Request, completion: Completion) -> None:
        key = request.key(self.model)
        if completion.finish_reason != "refused":
            self.store.put(key, request, self.model, completion)
        group, request_id = self._under_way.pop(key)
        self._reserved -= request.sampling.max_tokens
        self.made += 1
        self.made_tokens += completion.completion_tokens
        self._count(completion)
        self._enter(group, group.receive(request_id, request, completion))
        assert self._started is not None
        self.seconds = time.monotonic() - self._started

    @property
    def stopped(self) -> bool:
        """Whether the budget leaves something unasked that was to be asked."""
        return bool(self._follow_ups or self._fresh)

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

    def _affordable(self, request: Request) -> bool:
        if self.budget is None:
            return True
        return self.completion_tokens + self._reserved + request.sampling.max_tokens <= self.budget

    def _count(self, completion: Completion) -> None:
        self.prompt_tokens += completion.prompt_tokens
        self.completion_tokens += completion.completion_tokens
