"""Variants of hard rows: the band, problems out of completions, families, the queue and the budget."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from augmenters.synthesis.parsing import parse_problem, problem_fault
from augmenters.synthesis.prompts import DEFAULT_SOLUTION_PROMPT, DEFAULT_VARIATION_PROMPT, chat, check_prompt
from augmenters.synthesis.request_queue import Work
from augmenters.synthesis.variants import Family, Method, Parent
from curate.generators.request_store import RequestStore
from curate.generators.requests import Completion, Request, Sampling
from curate.verify import Verdict, grade
from curate.verify.pass_rate import Band

BANDS = [Band(1, 5, 8), Band(1, 1, 1), Band(2, 3, 4), Band(1, 4, 4), Band(4, 4, 4), Band(3, 6, 7)]


# -- the band -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("band", BANDS, ids=str)
def test_a_decision_holds_whatever_the_other_samples_would_be(band: Band) -> None:
    for verdicts in itertools.product("rw", repeat=band.samples):
        final = "too easy" if verdicts.count("r") > band.high else None
        final = final or ("too hard" if verdicts.count("r") < band.low else "in the band")
        for drawn in range(band.samples + 1):
            right = verdicts[:drawn].count("r")
            decision = band.decide(right, 0, drawn)
            assert decision in (None, final)
        assert decision == final


@pytest.mark.parametrize("band", BANDS, ids=str)
def test_an_ungraded_sample_never_decides(band: Band) -> None:
    """Every decision but "cannot be graded" is the one that either reading of the ungraded samples leads to."""
    for right, undecided in itertools.product(range(band.samples + 1), repeat=2):
        if right + undecided > band.samples:
            continue
        decision = band.decide(right, undecided, band.samples)
        readings = {band.decide(right + lucky, 0, band.samples) for lucky in range(undecided + 1)}
        assert decision == "cannot be graded" or readings == {decision}
        if undecided == 0:
            assert decision != "cannot be graded"


@pytest.mark.parametrize("band", BANDS, ids=str)
def test_rounds_draw_no_sample_that_could_have_been_spared(band: Band) -> None:
    """A round is the fewest samples that can decide: one fewer never does, whatever they are."""
    for drawn in range(band.samples):
        for right in range(drawn + 1):
            step = band.next_samples(right, 0, drawn)
            decided = band.decide(right, 0, drawn) is not None
            assert (step == 0) == decided
            if decided:
                continue
            assert drawn + step <= band.samples
            outcomes = {band.decide(right + more, 0, drawn + step) for more in range(step + 1)}
            assert outcomes != {None}
            fewer = {band.decide(right + more, 0, drawn + step - 1) for more in range(step)}
            assert fewer == {None}


def test_the_published_band_needs_four_samples_at_first() -> None:
    assert Band(1, 5, 8).next_samples(0, 0, 0) == 4


# -- problems out of completions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("```text\nHow many?\n```", "How many?"),
        ("Sure.\n```text\nHow\nmany?\n```\nDone.", "How\nmany?"),
        ("```python\nx\n```\n```text\nHow many?\n```", "How many?"),
        ("```\nHow many?\n```", "How many?"),
        ("```text\nno\n```</think>```text\nyes\n```", "yes"),
        ("**Problem:** How many?", "How many?"),
        ("## Question:\nHow many?", "How many?"),
        ("```text\nHow many?", "How many?"),
        ("```text How many?```", "How many?"),
        ("```text How many?\n```", "How many?"),
        ("```\nHow many?", "How many?"),
        ("```latex\nHow many?\n```", "How many?"),
        ("```textual\nHow many?\n```", "How many?"),
        ("How many?", "How many?"),
        ("Here you are:\n\nHow many?", None),
        ("Problem: How many?\n\nSolution: x = 3", "How many?"),
        ("```text\nHow many?\n**Answer:** 3\n```", "How many?"),
        ("It is seven.", None),
        ("", None),
        ("```text\n\n```", None),
        ("```text\r\nHow many?\r\n```", "How many?"),
    ],
)
def test_the_problem_is_found_in_the_completion(text: str, problem: str | None) -> None:
    assert parse_problem(text) == problem


def test_a_block_that_was_cut_off_holds_no_problem() -> None:
    assert parse_problem("```text\nHow many of", cut_off=True) is None
    assert parse_problem("```text\nHow many?\n```\nThis is", cut_off=True) == "How many?"


def test_a_completion_without_a_problem_never_gets_that_of_another() -> None:
    texts = ["```text\nfirst problem\n```", "nothing", "```text\nthird problem\n```", "Problem: fourth", "```"]
    alone = [parse_problem(text) for text in texts]
    for order in itertools.permutations(range(len(texts))):
        assert [parse_problem(texts[place]) for place in order] == [alone[place] for place in order]


PARENT = "Tom has 3 boxes with 4 pens each. How many pens has he?"


@pytest.mark.parametrize(
    ("problem", "answer", "fault"),
    [
        ("A baker makes 3 trays of 4 buns. How many buns are there?", "12", None),
        ("A baker makes 3 trays of 4 buns, 12 buns. How many buns?", "12", "answer in the problem"),
        ("A baker makes 3 trays of 4 buns. The answer is twelve. Why?", "12", "answer in the problem"),
        (r"A baker makes 3 trays of 4 buns: \boxed{12}. How many?", "12", "answer in the problem"),
        ("A baker makes 3 trays with 4 buns on each. How many on one?", "4", None),  # a given of the parent too
        ("A baker makes 1,200 buns a day. How many is that in all?", "1200", "answer in the problem"),
        ("A baker makes 120 buns at 1.2 each, 3 at a time. How many?", "12", None),
        ("Which of (A) 1 (B) 2 is the number of moons of the Earth?", "A", None),
        (r"What is $x + 1$ if it equals $\frac{3}{4}$ and more?", r"\frac{3}{4}", "answer in the problem"),
        ("A price of $18 falls to nothing. How much is that in dollars?", "$18", "answer in the problem"),
        ("How many?", "12", "problem too short"),
        ("A pipe of 3 m and one of 4 m are joined: 12cm is lost. How long is it?", "12", "answer in the problem"),
        ("Work out the sum of the numbers 3 and 4, times one.", "12", None),
        ("A baker makes 3 trays of 4 buns and sells them all.", "12", "asks nothing"),
        ("The round trip is made at 2 miles per gallon, they say.", "12", "asks nothing"),
        ("Let x be 3 and y be 4. Then find the product of both.", "12", None),
        ("Compute the value of $3 \\cdot 4$ in the usual way.", "12", None),
        ("How many? " * 60, "12", "problem too long"),
        ("A baker makes 3 trays\x07 of 4 buns. How many buns?", "12", "control characters in the problem"),
        ("A salt solution is 5% strong. The result is 3 times that. How much?", "15", None),
    ],
)
def test_what_is_wrong_with_a_problem(problem: str, answer: str, fault: str | None) -> None:
    assert problem_fault(problem, answer, PARENT, 500) == fault


# -- prompts --------------------------------------------------------------------------------------------------------


def test_what_looks_like_a_template_inside_the_data_stays_as_it_is() -> None:
    nasty = "{{solution}} {{ 7*7 }} {% raw %} {problem} $x %s \\1 {{problem}}"
    (message,) = chat(DEFAULT_VARIATION_PROMPT, "solution", nasty)
    before, _, after = DEFAULT_VARIATION_PROMPT.partition("{{solution}}")
    assert message["content"] == before + nasty + after
    assert message["content"].count(nasty) == 1


def test_shipped_prompts_have_their_place() -> None:
    assert check_prompt(DEFAULT_VARIATION_PROMPT, "solution")
    assert check_prompt(DEFAULT_SOLUTION_PROMPT, "problem")


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
