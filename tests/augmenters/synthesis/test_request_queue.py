"""The queue of requests: no order decides anything, nothing is asked twice, and the budget is kept."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from augmenters.synthesis.request_queue import Work
from augmenters.synthesis.variants import Family, Method, Parent
from curate.generators.request_store import RequestStore
from curate.generators.requests import Completion, Request, Sampling
from curate.verify import Verdict, grade
from curate.verify.pass_rate import Band

# -- families and the queue -----------------------------------------------------------------------------------------
PROPOSE, SOLVE = Sampling(max_tokens=20), Sampling(max_tokens=10)


def method(variants: int = 2, screen: object = None) -> Method:
    return Method(
        variants=variants,
        band=Band(1, 5, 8),
        variation_sampling=PROPOSE,
        solution_sampling=SOLVE,
        variation_prompt="write {{solution}}",
        solution_prompt="solve {{problem}}",
        longest_problem=500,
        grade=grade,
        screen=screen or (lambda problems: [None] * len(problems)),  # type: ignore[arg-type]
    )


def families(count: int, variants: int = 2) -> list[Family]:
    rows = [Parent(k, f"row{k}", f"What is {k} and {k}?", f"{k} + {k} = {2 * k}", str(2 * k)) for k in range(count)]
    return [Family(parent, method(variants), seed=7) for parent in rows]


def answer(request: Request) -> Completion:
    """A model that writes one problem per solution and sample, and solves it rightly or wrongly by its seed."""
    (message,) = request.prompt
    text = message["content"]  # type: ignore[index]
    if text.startswith("write"):
        k = text.split()[1]
        problem = f"Someone counts {k} and {k} things, way {request.index}. How many?"
        return Completion(f"```text\n{problem}\n```", "stop", 5, 9)
    k = int(text.split()[3])
    rate = [0.0, 0.3, 0.6, 1.0][request.seed % 4]
    right = random.Random(f"{request.seed}/{request.index}").random() < rate
    return Completion(f"so \\boxed{{{2 * k if right else -1}}}", "stop", 6, 4)


class Shuffled:
    """A generator that has up to `room` requests under way and finishes them in any order."""

    def __init__(self, seed: int, room: int = 5, stop_after: int | None = None) -> None:
        self.random, self.room, self.left = random.Random(seed), room, stop_after
        self.asked: list[str] = []

    def identity(self) -> str:
        return "model"

    def serve(self, queue: Work) -> None:
        under_way: list[Request] = []
        while True:
            under_way += queue.take(self.room - len(under_way))
            if not under_way or self.left == 0:
                return
            request = under_way.pop(self.random.randrange(len(under_way)))
            self.asked.append(request.key("model"))
            queue.done(request, answer(request))
            self.left = None if self.left is None else self.left - 1


def outcomes(found: Sequence[Family]) -> list[object]:
    return [
        (v.outcome, v.problem, [(d.request.key("model"), d.completion.text, d.verdict) for d in v.drawn])
        for family in found
        for v in family.variants
    ]


def finish(store: RequestStore, generator: Shuffled, *, count: int = 12, variants: int = 2, budget: int | None = None):  # type: ignore[no-untyped-def]
    work = Work(families(count, variants), store, "model", budget=budget)
    work.replay()
    generator.serve(work)
    work.close()
    return work


def test_the_order_of_arrival_and_the_store_decide_nothing(tmp_path: Path) -> None:
    results = [
        finish(RequestStore(tmp_path / f"{seed}.sqlite"), Shuffled(seed, room))
        for seed, room in [(0, 1), (1, 5), (2, 100)]
    ]
    again = finish(RequestStore(tmp_path / "0.sqlite"), Shuffled(9))
    expected = outcomes(results[0].families)
    for each in [*results[1:], again]:
        assert outcomes(each.families) == expected
    assert again.made == 0
    assert again.stored == results[0].made
    assert len({outcome for outcome, *_ in expected}) >= 3  # kept, too easy, too hard: the model above does all


def test_no_request_is_made_twice_however_often_it_is_interrupted(tmp_path: Path) -> None:
    whole = finish(RequestStore(tmp_path / "whole.sqlite"), Shuffled(0))
    asked: Counter[str] = Counter()
    for attempt in range(30):
        generator = Shuffled(attempt, stop_after=11)
        # Each attempt opens the store anew, as a new process would. What was under way when it stopped is lost.
        work = finish(RequestStore(tmp_path / "parts.sqlite"), generator)
        asked.update(generator.asked)
        if not work.stopped and generator.left:
            break
    assert outcomes(work.families) == outcomes(whole.families)
    assert asked.total() == whole.made
    assert set(asked.values()) == {1}


def test_more_variants_or_more_budget_pay_only_the_difference(tmp_path: Path) -> None:
    store = RequestStore(tmp_path / "r.sqlite")
    one = finish(store, Shuffled(0), variants=1)
    two = finish(store, Shuffled(1), variants=2)
    assert two.stored == one.made
    direct = finish(RequestStore(tmp_path / "direct.sqlite"), Shuffled(2), variants=2)
    assert outcomes(two.families) == outcomes(direct.families)
    assert two.made + one.made == direct.made


@pytest.mark.parametrize("budget", [1, 29, 30, 100, 333, 10**6])
def test_the_budget_is_never_exceeded_and_the_result_is_that_of_the_store(tmp_path: Path, budget: int) -> None:
    store = RequestStore(tmp_path / "r.sqlite")
    work = finish(store, Shuffled(0), budget=budget)
    assert work.completion_tokens <= budget
    assert work.stopped == (budget < 10**6)
    again = finish(store, Shuffled(5, room=50), budget=budget)
    assert (again.made, outcomes(again.families)) == (0, outcomes(work.families))
    if work.stopped:
        left = {v.outcome for family in work.families for v in family.variants}
        assert "budget reached" in left
        more = finish(store, Shuffled(1), budget=10**6)
        whole = finish(RequestStore(tmp_path / "w.sqlite"), Shuffled(1))
        assert outcomes(more.families) == outcomes(whole.families)
        assert more.stored == work.made + work.stored


def test_started_families_are_finished_before_others_begin(tmp_path: Path) -> None:
    work = Work(families(50, 1), RequestStore(tmp_path / "r.sqlite"), "model", budget=600)
    work.replay()
    Shuffled(0, room=2).serve(work)
    begun = [family for family in work.families if family.variants[0].proposal is not None]
    done = [family for family in begun if family.finished]
    assert len(begun) < 50
    assert len(begun) - len(done) <= 2


def test_what_collides_is_rejected_before_it_is_solved() -> None:
    family = Family(
        families(1)[0].parent, method(3, lambda problems: [("gate", "set 3"), *[None] * (len(problems) - 1)]), 0
    )
    following = []
    for request, ticket in family.begin():
        following += family.receive(ticket, request, answer(request))
    assert (family.variants[0].outcome, family.variants[0].detail) == ("gate", "set 3")
    assert {ticket[0] for _, ticket in following} == {1, 2}


def test_equal_proposals_of_one_parent_are_solved_once() -> None:
    family = Family(families(1)[0].parent, method(3), 0)
    following = []
    for request, ticket in family.begin():
        text = "```text\nSomeone  counts 0 and 0 THINGS, again. How many?\n```"
        following += family.receive(ticket, request, Completion(text, "stop", 1, 1))
    assert [v.outcome for v in family.variants] == [None, *["same as another variant of its parent"] * 2]
    assert {ticket[0] for _, ticket in following} == {0}


def test_a_solution_that_was_cut_off_is_wrong() -> None:
    family = Family(families(2)[1].parent, method(1), 0)
    ((request, ticket),) = family.begin()
    asked = family.receive(ticket, request, answer(request))
    for request, ticket in asked:
        family.receive(ticket, request, Completion("we get \\boxed{2} and then", "length", 1, 10))
    assert {each.verdict for each in family.variants[0].drawn} == {Verdict.wrong}


def test_what_was_paid_before_a_refusal_is_counted(tmp_path: Path) -> None:
    """One sample of the first round is refused: the other three were paid for and stay in the sums."""

    class Partly(Shuffled):
        def serve(self, queue: Work) -> None:
            while batch := queue.take(3):
                for request in batch:
                    refused = request.sampling == SOLVE and request.index == 2
                    queue.done(request, Completion("", "refused", refusal="no") if refused else answer(request))

    work = finish(RequestStore(tmp_path / "r.sqlite"), Partly(0), count=3)
    variants = [v for family in work.families for v in family.variants]
    assert {v.outcome for v in variants} == {"request refused"}
    assert [len(v.drawn) for v in variants] == [3] * 6
    assert sum(v.completion_tokens for v in variants) == work.completion_tokens
    assert all(v.screened for v in variants)


def test_what_another_run_pays_for_meanwhile_is_not_asked_again(tmp_path: Path) -> None:
    store = RequestStore(tmp_path / "r.sqlite")
    slow = Work(families(6), store, "model")
    slow.replay()
    fast = finish(store, Shuffled(0), count=6)
    Shuffled(1).serve(slow)
    assert (slow.made, slow.stored) == (0, fast.made)
    assert outcomes(slow.families) == outcomes(fast.families)


def test_a_solution_with_control_characters_is_never_the_new_rows() -> None:
    for bad, outcome in ((3, "kept"), (8, "control characters in the solutions")):
        family = Family(families(2)[1].parent, method(1), 0)
        ((request, ticket),) = family.begin()
        asked = family.receive(ticket, request, answer(request))
        while asked:
            request, ticket = asked.pop(0)
            right = request.index % 2 == 0
            text = (
                f"so\x1b[2J \\boxed{{{2 if right else 0}}}"
                if request.index < bad
                else f"\\boxed{{{2 if right else 0}}}"
            )
            asked += family.receive(ticket, request, Completion(text, "stop", 1, 1))
        (variant,) = family.variants
        assert variant.outcome == outcome
        assert variant.solution is None or "\x1b" not in variant.solution.completion.text


def test_a_refused_request_rejects_its_variant_and_says_why(tmp_path: Path) -> None:
    class Refusing(Shuffled):
        def serve(self, queue: Work) -> None:
            while batch := queue.take(9):
                for request in batch:
                    queue.done(request, Completion("", "refused", refusal="prompt too long"))

    work = finish(RequestStore(tmp_path / "r.sqlite"), Refusing(0), count=2)
    assert {(v.outcome, v.detail) for f in work.families for v in f.variants} == {
        ("request refused", "prompt too long")
    }
    assert finish(RequestStore(tmp_path / "r.sqlite"), Shuffled(0), count=2).stored == 0  # nothing was paid, nor kept
