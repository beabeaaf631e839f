"""The queue of requests: no order decides anything, nothing is asked twice, and the budget is kept."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from augmenters.synthesis.request_queue import SynthesisQueue
from augmenters.synthesis.variant_group import VariantGroup
from curate.generators.request_store import RequestStore
from curate.generators.requests import Completion, Request
from curate.verify.verdict import PassRateBand
from tests.fixtures.variants import SOLVE, answer, groups, sum_row


class Shuffled:
    """A generator that has up to `room` requests under way and finishes them in any order."""

    def __init__(self, seed: int, room: int = 5, stop_after: int | None = None) -> None:
        self.random, self.room, self.left = random.Random(seed), room, stop_after
        self.asked: list[str] = []

    def identity(self) -> str:
        return "model"

    def serve(self, queue: SynthesisQueue) -> None:
        under_way: list[Request] = []
        while True:
            under_way += queue.take(self.room - len(under_way))
            if not under_way or self.left == 0:
                return
            request = under_way.pop(self.random.randrange(len(under_way)))
            self.asked.append(request.key("model"))
            queue.done(request, answer(request))
            self.left = None if self.left is None else self.left - 1


def outcomes(found: Sequence[VariantGroup]) -> list[object]:
    return [
        (v.outcome, v.problem, [(d.request.key("model"), d.completion.text, d.verdict) for d in v.drawn])
        for group in found
        for v in group.variants
    ]


def finish(store: RequestStore, generator: Shuffled, *, count: int = 12, variants: int = 2, budget: int | None = None):  # type: ignore[no-untyped-def]
    queue = SynthesisQueue(groups(count, variants), store, "model", budget=budget)
    queue.replay()
    generator.serve(queue)
    queue.close()
    return queue


def test_the_order_of_arrival_and_the_store_decide_nothing(tmp_path: Path) -> None:
    results = [
        finish(RequestStore(tmp_path / f"{seed}.sqlite"), Shuffled(seed, room))
        for seed, room in [(0, 1), (1, 5), (2, 100)]
    ]
    again = finish(RequestStore(tmp_path / "0.sqlite"), Shuffled(9))
    expected = outcomes(results[0].groups)
    for each in [*results[1:], again]:
        assert outcomes(each.groups) == expected
    assert again.made == 0
    assert again.stored == results[0].made
    assert len({outcome for outcome, *_ in expected}) >= 3  # kept, too easy, too hard: the model above does all


def test_no_request_is_made_twice_however_often_it_is_interrupted(tmp_path: Path) -> None:
    whole = finish(RequestStore(tmp_path / "whole.sqlite"), Shuffled(0))
    asked: Counter[str] = Counter()
    for attempt in range(30):
        generator = Shuffled(attempt, stop_after=11)
        # Each attempt opens the store anew, as a new process would. What was under way when it stopped is lost.
        queue = finish(RequestStore(tmp_path / "parts.sqlite"), generator)
        asked.update(generator.asked)
        if not queue.stopped and generator.left:
            break
    assert outcomes(queue.groups) == outcomes(whole.groups)
    assert asked.total() == whole.made
    assert set(asked.values()) == {1}


def test_more_variants_or_more_budget_pay_only_the_difference(tmp_path: Path) -> None:
    store = RequestStore(tmp_path / "r.sqlite")
    one = finish(store, Shuffled(0), variants=1)
    two = finish(store, Shuffled(1), variants=2)
    assert two.stored == one.made
    direct = finish(RequestStore(tmp_path / "direct.sqlite"), Shuffled(2), variants=2)
    assert outcomes(two.groups) == outcomes(direct.groups)
    assert two.made + one.made == direct.made


@pytest.mark.parametrize("budget", [1, 29, 30, 100, 333, 10**6])
def test_the_budget_is_never_exceeded_and_the_result_is_that_of_the_store(tmp_path: Path, budget: int) -> None:
    store = RequestStore(tmp_path / "r.sqlite")
    queue = finish(store, Shuffled(0), budget=budget)
    assert queue.completion_tokens <= budget
    assert queue.stopped == (budget < 10**6)
    again = finish(store, Shuffled(5, room=50), budget=budget)
    assert (again.made, outcomes(again.groups)) == (0, outcomes(queue.groups))
    if queue.stopped:
        left = {v.outcome for group in queue.groups for v in group.variants}
        assert "budget reached" in left
        more = finish(store, Shuffled(1), budget=10**6)
        whole = finish(RequestStore(tmp_path / "w.sqlite"), Shuffled(1))
        assert outcomes(more.groups) == outcomes(whole.groups)
        assert more.stored == queue.made + queue.stored


def test_started_families_are_finished_before_others_begin(tmp_path: Path) -> None:
    queue = SynthesisQueue(groups(50, 1), RequestStore(tmp_path / "r.sqlite"), "model", budget=600)
    queue.replay()
    Shuffled(0, room=2).serve(queue)
    begun = [group for group in queue.groups if group.variants[0].proposal is not None]
    done = [group for group in begun if group.finished]
    assert len(begun) < 50
    assert len(begun) - len(done) <= 2


def test_what_was_paid_before_a_refusal_is_counted(tmp_path: Path) -> None:
    """One sample of the first round is refused: the other three were paid for and stay in the sums."""

    class Partly(Shuffled):
        def serve(self, queue: SynthesisQueue) -> None:
            while batch := queue.take(3):
                for request in batch:
                    refused = request.sampling == SOLVE and request.index == 2
                    queue.done(request, Completion("", "refused", refusal="no") if refused else answer(request))

    queue = finish(RequestStore(tmp_path / "r.sqlite"), Partly(0), count=3)
    variants = [v for group in queue.groups for v in group.variants]
    assert {v.outcome for v in variants} == {"request refused"}
    assert [len(v.drawn) for v in variants] == [3] * 6
    assert sum(v.completion_tokens for v in variants) == queue.completion_tokens
    assert all(v.screened for v in variants)


def test_what_another_run_pays_for_meanwhile_is_not_asked_again(tmp_path: Path) -> None:
    store = RequestStore(tmp_path / "r.sqlite")
    slow = SynthesisQueue(groups(6), store, "model")
    slow.replay()
    fast = finish(store, Shuffled(0), count=6)
    Shuffled(1).serve(slow)
    assert (slow.made, slow.stored) == (0, fast.made)
    assert outcomes(slow.groups) == outcomes(fast.groups)


def test_a_refused_request_rejects_its_variant_and_says_why(tmp_path: Path) -> None:
    class Refusing(Shuffled):
        def serve(self, queue: SynthesisQueue) -> None:
            while batch := queue.take(9):
                for request in batch:
                    queue.done(request, Completion("", "refused", refusal="prompt too long"))

    queue = finish(RequestStore(tmp_path / "r.sqlite"), Refusing(0), count=2)
    assert {(v.outcome, v.detail) for f in queue.groups for v in f.variants} == {("request refused", "prompt too long")}
    assert finish(RequestStore(tmp_path / "r.sqlite"), Shuffled(0), count=2).stored == 0  # nothing was paid, nor kept


def test_a_hopeless_run_stops_by_itself_and_goes_on_from_the_store(tmp_path: Path) -> None:
    def served(least_yield: float) -> SynthesisQueue:
        notes: list[str] = []
        made = groups(60, variants=2)
        for group in made:
            group.settings = replace(group.settings, band=PassRateBand(8, 8, 8))  # what nothing meets
        store = RequestStore(tmp_path / "r.sqlite")
        queue = SynthesisQueue(made, store, "model", note=notes.append, least_yield=least_yield)
        queue.replay()
        Never().serve(queue)
        queue.close()
        assert [note.startswith("stopped: 0 of") for note in notes] == ([False, True] if least_yield else [False])
        return queue

    class Never(Shuffled):
        """Solves nothing."""

        def __init__(self) -> None:
            super().__init__(0)

        def serve(self, queue: SynthesisQueue) -> None:
            while taken := queue.take(3):
                for request in taken:
                    said = answer(request)
                    wrong = "so \\boxed{-1}" if said.text.startswith("so") else said.text
                    queue.done(request, Completion(wrong, "stop", 1, 1))

    first = served(0.05)
    ended = [variant.outcome for group in first.groups for variant in group.variants]
    assert first.hopeless
    assert not first.stopped
    assert 70 <= ended.count("too hard") < 90
    assert ended.count("given up") == 120 - ended.count("too hard")
    again = served(0.05)
    assert again.made == 0
    assert outcomes(again.groups) == outcomes(first.groups)
    rest = served(0.0)
    assert rest.stored == first.made
    assert {variant.outcome for group in rest.groups for variant in group.variants} == {"too hard"}


def test_another_model_takes_the_second_route_within_the_budget(tmp_path: Path) -> None:
    def finish_both(budget: int | None) -> tuple[SynthesisQueue, Shuffled]:
        made = [sum_row() for _ in range(1)]
        store = RequestStore(tmp_path / f"{budget}.sqlite")
        queue = SynthesisQueue(made, store, "model", budget=budget, second_model="other")
        queue.replay()
        Sums().serve(queue)
        other = Sums()
        if (second := queue.open_second()) is not None:
            other.serve(second)  # type: ignore[arg-type]
        queue.close()
        return queue, other

    class Sums(Shuffled):
        def __init__(self) -> None:
            super().__init__(0)

        def serve(self, queue: SynthesisQueue) -> None:
            while taken := queue.take(3):
                for request in taken:
                    self.asked.append(request.prompt[0]["content"][:5])  # type: ignore[index]
                    queue.done(request, Completion(self.says(request), "stop", 1, 1))

        def says(self, request: Request) -> str:
            text = request.prompt[0]["content"]  # type: ignore[index]
            if text.startswith("write"):
                return "```text\nA clerk puts 1 file beside 1 other file. What is the number of files?\n```"
            right = text.startswith("again") or request.index < 3
            return "1 + 1 = 2, so \\boxed{2}" if right else f"\\boxed{{{request.index + 50}}}"

    queue, other = finish_both(None)
    assert other.asked == ["again", "again"]
    assert queue.groups[0].variants[0].outcome == "kept"
    assert queue.second is not None
    assert (queue.second.made, queue.second.model) == (2, "other")
    spent = queue.completion_tokens
    queue, other = finish_both(spent + SOLVE.max_tokens + 1)
    assert other.asked == ["again"] * 2 or queue.stopped
    assert queue.completion_tokens + queue.second.completion_tokens <= spent + SOLVE.max_tokens + 1  # type: ignore[union-attr]
