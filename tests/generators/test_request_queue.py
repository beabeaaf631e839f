"""Requests in line: equal ones asked once, stored ones not at all, each stored before the next is waited for."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from curate.errors import ExternalError, InputError
from curate.generators.request_queue import RequestQueue, complete
from curate.generators.request_store import RequestStore
from curate.generators.requests import Completion, Queue, Request, Sampling

MODEL = "a-model chat"


def ask(number: int, prompt: str = "What is {}?") -> Request:
    return Request(prompt.format(number), Sampling(stop=("\n",)), seed=2**63 - 1, index=number)


@pytest.fixture
def store(tmp_path: Path) -> RequestStore:
    return RequestStore(tmp_path / "deep" / "requests.sqlite")


class Echo:
    """A generator that answers in the opposite order and counts what it is asked."""

    def __init__(self, batch: int = 7) -> None:
        self.batch = batch
        self.asked: Counter[Request] = Counter()

    def identity(self) -> str:
        return MODEL

    def serve(self, queue: Queue) -> None:
        while batch := queue.take(self.batch):
            assert len(batch) <= self.batch
            for request in reversed(batch):
                self.asked[request] += 1
                queue.done(request, Completion(f"to {request.prompt}", "stop", 1, 2))


def test_completions_come_in_the_order_of_the_requests() -> None:
    requests = [ask(k) for k in range(50)]
    assert [each.text for each in complete(Echo(), requests)] == [f"to What is {k}?" for k in range(50)]


def test_equal_requests_are_asked_once_and_stored_ones_not_at_all(store: RequestStore) -> None:
    requests = [ask(k % 20) for k in range(60)]
    first, second = Echo(), Echo()
    answers = complete(first, requests[:30], store)
    assert [each.text for each in answers] == [f"to What is {k % 20}?" for k in range(30)]
    assert set(first.asked.values()) == {1}
    assert complete(second, requests, store) == complete(Echo(), requests)
    assert not second.asked
    assert [each.text for each in complete(second, [ask(3), ask(99), ask(4)], store)][1] == "to What is 99?"
    assert second.asked == {ask(99): 1}


def test_no_requests_no_answers() -> None:
    assert complete(Echo(), []) == []


class Broken(Echo):
    """Fails after nine requests."""

    def serve(self, queue: Queue) -> None:
        for request in queue.take(9):
            queue.done(request, Completion("done", "stop"))
        raise ExternalError("gone")


def test_each_completion_is_in_the_store_before_the_next_is_waited_for(store: RequestStore) -> None:
    with pytest.raises(ExternalError, match="gone"):
        complete(Broken(), [ask(k) for k in range(20)], store)
    assert store.count() == 9


class Forgetful(Echo):
    def serve(self, queue: Queue) -> None:
        queue.take(3)


class Twice(Echo):
    def serve(self, queue: Queue) -> None:
        (request,) = queue.take(1)
        queue.done(request, Completion("", "stop"))
        queue.done(request, Completion("", "stop"))


def test_a_generator_that_breaks_its_contract_is_named() -> None:
    with pytest.raises(InputError, match=r"Forgetful.serve\(\) returned with 5 of 5 requests unanswered"):
        complete(Forgetful(), [ask(k) for k in range(5)])
    with pytest.raises(InputError, match="answered it twice"):
        complete(Twice(), [ask(0)])


def test_many_stored_requests_are_read_fast(store: RequestStore) -> None:
    requests = [ask(k) for k in range(3000)]
    started = time.process_time()
    complete(Echo(100), requests, store)
    complete(Echo(100), requests, store)
    assert time.process_time() - started < 5


# -- the budget and the order -----------------------------------------------------------------------------------------


def test_requests_are_handed_out_while_all_they_may_cost_still_fits(store: RequestStore) -> None:
    requests = [Request("p", Sampling(max_tokens=most), 1, most) for most in (4, 5, 6, 1)]
    queue = RequestQueue[int](MODEL, store, budget=12)
    for place, request in enumerate(requests):
        queue.add(request, place)
    assert queue.take(9) == requests[:2], "4 + 5 + 6 > 12, and none goes before another"
    queue.done(requests[0], Completion("", "length", 1, 1))
    assert queue.take(9) == requests[2:3], "of the 4 only 1 was used"
    queue.done(requests[2], Completion("", "length", 1, 6))
    queue.done(requests[1], Completion("", "length", 1, 5))
    assert (queue.take(9), queue.waiting, queue.completion_tokens, queue.made) == ([], True, 12, 3)
    again = RequestQueue[int](MODEL, store, budget=12)
    for place, request in enumerate(requests):
        again.add(request, place)
    assert again.take(9) == [], "what is stored counts too"
    assert (again.stored, again.made, again.completions) == (3, 0, queue.completions)


def test_urgent_requests_go_first_and_equal_ones_are_received_once_each() -> None:
    queue = RequestQueue[str](MODEL)
    queue.add(ask(1), "one")
    queue.add(ask(2), "two", urgent=True)
    queue.add(ask(1), "one again")
    assert queue.take(1) == [ask(2)]
    queue.add(ask(2), "two again")
    queue.done(ask(2), Completion("2", "stop"))
    assert queue.take(5) == [ask(1)]
    queue.done(ask(1), Completion("1", "stop"))
    assert {ticket: each.text for ticket, each in queue.completions.items()} == {
        "one": "1",
        "one again": "1",
        "two": "2",
        "two again": "2",
    }
