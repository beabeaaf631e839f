"""The variants of one source row: what is asked next, and why a variant is rejected."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from augmenters.synthesis.checks.registry import CHECKS
from augmenters.synthesis.variant_group import VariantGroup
from curate.generators.requests import Completion
from curate.verify import Verdict
from tests.fixtures.variants import answer, groups, settings, sum_row


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


class Scripted:
    """Writes the same problem for every row, solves it as told, and takes the second route as told."""

    def __init__(self, right: int, second: str = "\\boxed{2}", text: str = "1 + 1 = 2, so \\boxed{2}") -> None:
        self.right, self.second, self.text = right, second, text

    def run(self, group: VariantGroup) -> list[str]:
        """Answer everything; the kinds of requests in order."""
        asked, kinds = group.begin(), []
        while asked:
            request, ticket = asked.pop(0)
            kinds.append(ticket.kind)
            asked += group.receive(ticket, request, Completion(self.say(ticket), "stop", 1, 1))
        return kinds

    def say(self, ticket: Any) -> str:
        if ticket.kind == "proposal":
            return "```text\nA clerk puts 1 file beside 1 other file. What is the number of files?\n```"
        if ticket.kind == "second":
            return self.second
        return self.text if ticket.sample < self.right else "so \\boxed{" + str(100 + ticket.sample) + "}"


def test_the_second_route_is_asked_only_for_what_passed_everything_else() -> None:
    for right, outcome in ((3, "kept"), (1, "too hard"), (8, "too easy")):
        group = sum_row()
        kinds = Scripted(right).run(group)
        assert group.variants[0].outcome == outcome
        assert kinds.count("second") == (2 if outcome == "kept" else 0)
    group = sum_row()
    Scripted(3, second="\\boxed{unsolvable}").run(group)
    (variant,) = group.variants
    assert (variant.outcome, set(variant.faults)) == ("second route disagrees", {"second_route"})
    assert len(variant.second) == 2
    off = sum_row(second=None, checks=frozenset(CHECKS) - {"second_route"})
    assert "second" not in Scripted(3, second="\\boxed{unsolvable}").run(off)
    assert off.variants[0].outcome == "kept"


def test_faults_of_checks_are_all_recorded_and_the_first_is_the_reason() -> None:
    group = sum_row()
    Scripted(3, text="1 + 7 = 9, so \\boxed{2}").run(group)
    (variant,) = group.variants
    assert variant.outcome == "solutions use what the problem does not state"
    assert "grounded" in variant.faults
    assert set(variant.checked) == set(CHECKS) - {"second_route"}
    off = sum_row(checks=frozenset({"units"}), second=None)
    Scripted(3, text="1 + 7 = 9, so \\boxed{2}").run(off)
    assert (off.variants[0].outcome, off.variants[0].checked) == ("kept", ["units"])


def test_the_new_rows_solution_is_a_grounded_one() -> None:
    group = sum_row()

    class Mixed(Scripted):
        def say(self, ticket: Any) -> str:
            lucky = ticket.kind == "solution" and ticket.sample == 0
            return "7 - 5 = 2, so \\boxed{2}" if lucky else super().say(ticket)

    Mixed(4).run(group)
    assert group.variants[0].outcome == "kept"
    assert group.variants[0].solution is group.variants[0].drawn[1]


def test_parents_are_solved_first_where_that_is_asked_for() -> None:
    for right, outcome in ((0, "parent solved too seldom"), (8, "parent solved too often"), (3, "kept")):
        group = sum_row(parents=(1, 4))
        kinds = Scripted(right).run(group)
        assert kinds[:8] == ["parent"] * 8
        assert group.variants[0].outcome == outcome
        assert ("proposal" in kinds) == (outcome == "kept")


def test_a_sampled_context_is_a_right_solution_of_the_generator() -> None:
    group = sum_row(context="sampled")
    Scripted(3).run(group)
    (message,) = group.variants[0].request.prompt  # type: ignore[union-attr, misc]
    assert message["content"] == "write 1 + 1 = 2, so \\boxed{2}"  # type: ignore[index]
    group = sum_row(context="sampled")
    Scripted(0).run(group)
    assert group.variants[0].outcome == "no right solution of the parent"


def test_a_context_that_the_strategy_cannot_show_is_passed_over() -> None:
    group = VariantGroup(
        groups(2)[1].source,
        replace(settings(2), strategy="skeleton", context="sampled", variation_prompt="from {{operations}}"),
        0,
    )
    for request, ticket in group.begin():
        text = "1 + 1 = 2, so \\boxed{2}" if request.index == 3 else "It is \\boxed{2}"
        group.receive(ticket, request, Completion(text, "stop", 1, 1))
    assert [variant.context for variant in group.variants] == ["1 + 1 = 2, so \\boxed{2}"] * 2
    assert all("from 1 + 1 = 2" in str(variant.request) for variant in group.variants)


def test_a_refused_parent_is_called_refused() -> None:
    group = sum_row(parents=(1, 4))
    for request, ticket in group.begin():
        group.receive(ticket, request, Completion("", "refused", 0, 0, refusal="too long"))
    assert [(each.outcome, each.detail) for each in group.variants] == [("request refused", "too long")]


def test_a_task_must_not_hold_the_sampled_solution_it_was_written_from() -> None:
    program = "def double(x):\n    return x * 2 if x is not None else None"
    source = replace(groups(1)[0].source, problem="Write double(x).", solution="double = lambda x: x + x", answer="2")
    checks = frozenset({"answer_hidden"})
    changes: dict[str, Any] = {"context": "sampled", "of_answers": False, "checks": checks}
    always = replace(settings(1), grade=lambda text, source: Verdict.right, **changes)
    group = VariantGroup(source, always, 0)
    asked = group.begin()
    while asked and group.variants[0].outcome is None:
        request, ticket = asked.pop(0)
        told = f"```text\nWrite double(x) for shops, so that it does:\n{program}\n```"
        asked += group.receive(
            ticket, request, Completion(told if ticket.kind == "proposal" else program, "stop", 1, 1)
        )
    assert group.variants[0].outcome == "answer in the problem"


def test_a_strategy_that_can_show_nothing_asks_nothing() -> None:
    source = replace(groups(1)[0].source, solution="It is clear.")
    group = VariantGroup(source, replace(settings(2), strategy="skeleton", variation_prompt="{{operations}}"), 0)
    assert group.begin() == []
    parents = replace(group.settings, parents=(1, 4))
    assert VariantGroup(source, parents, 0).begin() == []  # nor that parents are solved first
    assert group.finished
