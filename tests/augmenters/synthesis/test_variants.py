"""A variant's solution and cost."""

from __future__ import annotations

from augmenters.synthesis.variants import SampledSolution, Variant
from curate.generators.requests import Completion, Request, Sampling
from curate.verify import Verdict

REQUEST = Request("solve", Sampling(), 0)


def sampled(text: str, verdict: Verdict) -> SampledSolution:
    return SampledSolution(REQUEST, Completion(text, "stop", 3, 4), verdict)


def test_the_solution_is_the_chosen_one_else_the_first_right_one_in_plain_text() -> None:
    variant = Variant(
        0, drawn=[sampled("a", Verdict.wrong), sampled("b\x07", Verdict.right), sampled("c", Verdict.right)]
    )
    assert variant.solution is variant.drawn[2]
    variant.chosen = variant.drawn[0]
    assert variant.solution is variant.drawn[0]
    assert Variant(1).solution is None


def test_every_completion_is_paid_for() -> None:
    variant = Variant(0, proposal=Completion("p", "stop", 1, 9), drawn=[sampled("a", Verdict.wrong)] * 2)
    variant.second = [sampled("s", Verdict.right)]
    assert variant.completion_tokens == 9 + 3 * 4
    assert variant.texts(Verdict.wrong) == ["a", "a"]
    assert variant.count(Verdict.right) == 0
