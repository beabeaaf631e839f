"""Another answer that is more frequent than the parent's."""

from __future__ import annotations

from augmenters.synthesis.checks.agreement import fault


def test_only_a_majority_of_one_other_answer_counts() -> None:
    boxed = "so \\boxed{{{}}}".format
    assert fault(2, [boxed(7), boxed("7.0"), boxed(7)]) == "7 in 3 solutions, the parent's in 2"
    assert fault(2, [boxed(7), boxed(7), boxed(8)]) is None  # as frequent, and scattered
    assert fault(2, [boxed(n) for n in range(6)]) is None
    assert fault(1, ["the last number is 7", "and here 7", ""]) is None  # nothing is marked
    assert fault(1, [boxed("x + 1"), boxed("x+1")]) is not None
