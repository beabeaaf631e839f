"""Check that no other answer is reached more often than the parent's, which would make it more likely to be right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from augmenters.synthesis.checks.second_route import text_answer

REASON = "another answer is more frequent"


def fault(right: int, wrong: Sequence[str]) -> str | None:
    """The answer that more wrong solutions reach than there are right ones, or None."""
    answers = Counter(answer for text in wrong if (answer := text_answer(text)) is not None)
    if not answers:
        return None
    answer, count = answers.most_common(1)[0]
    return f"{answer} in {count} solutions, the parent's in {right}" if count > right else None
