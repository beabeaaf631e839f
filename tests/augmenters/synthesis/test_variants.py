"""The variants of one source row: what is asked next, and why a variant is rejected."""

from __future__ import annotations

from augmenters.synthesis.variants import VariantGroup
from curate.generators.requests import Completion
from curate.verify import Verdict
from tests.fixtures.variants import answer, groups, settings


def test_what_collides_is_rejected_before_it_is_solved() -> None:
    group = VariantGroup(
        groups(1)[0].source, settings(3, lambda problems: [("gate", "set 3"), *[None] * (len(problems) - 1)]), 0
    )
    following = []
    for request, request_id in group.begin():
        following += group.receive(request_id, request, answer(request))
    assert (group.variants[0].outcome, group.variants[0].detail) == ("gate", "set 3")
    assert {request_id[0] for _, request_id in following} == {1, 2}


def test_equal_proposals_of_one_parent_are_solved_once() -> None:
    group = VariantGroup(groups(1)[0].source, settings(3), 0)
    following = []
    for request, request_id in group.begin():
        text = "```text\nSomeone  counts 0 and 0 THINGS, again. How many?\n```"
        following += group.receive(request_id, request, Completion(text, "stop", 1, 1))
    assert [v.outcome for v in group.variants] == [None, *["same as another variant of its parent"] * 2]
    assert {request_id[0] for _, request_id in following} == {0}


def test_a_solution_that_was_cut_off_is_wrong() -> None:
    group = VariantGroup(groups(2)[1].source, settings(1), 0)
    ((request, request_id),) = group.begin()
    asked = group.receive(request_id, request, answer(request))
    for request, request_id in asked:
        group.receive(request_id, request, Completion("we get \\boxed{2} and then", "length", 1, 10))
    assert {each.verdict for each in group.variants[0].drawn} == {Verdict.wrong}


def test_a_solution_with_control_characters_is_never_the_new_rows() -> None:
    for bad, outcome in ((3, "kept"), (8, "control characters in the solutions")):
        group = VariantGroup(groups(2)[1].source, settings(1), 0)
        ((request, request_id),) = group.begin()
        asked = group.receive(request_id, request, answer(request))
        while asked:
            request, request_id = asked.pop(0)
            right = request.index % 2 == 0
            text = (
                f"so\x1b[2J \\boxed{{{2 if right else 0}}}"
                if request.index < bad
                else f"\\boxed{{{2 if right else 0}}}"
            )
            asked += group.receive(request_id, request, Completion(text, "stop", 1, 1))
        (variant,) = group.variants
        assert variant.outcome == outcome
        assert variant.solution is None or "\x1b" not in variant.solution.completion.text
