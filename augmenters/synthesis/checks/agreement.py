"""Check that no other answer is reached more often than the parent's, which would make it more likely to be right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from curate.verify.extraction import extract
from curate.verify.numbers import plain_number

REASON = "another answer is more frequent"


def fault(right: int, wrong: Sequence[str]) -> str | None:
    """The answer that more wrong solutions reach than there are right ones, or None."""
    answers = Counter(answer for text in wrong if (answer := _answer(text)) is not None)
    if not answers:
        return None
    answer, count = answers.most_common(1)[0]
    return f"{answer} in {count} solutions, the parent's in {right}" if count > right else None


def _answer(text: str) -> str | None:
    """A canonical form of a solution's answer: its value if it is a plain number."""
    answer = extract(text)
    if answer is None or not answer.strong:
        return None
    number = plain_number(answer.text)
    return str(number.value) if number is not None else "".join(answer.text.split()).lower()
