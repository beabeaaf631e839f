"""Check that a second route to the answer, which sees only the new problem, arrives at the parent's answer too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from curate.verify import Verdict
from curate.verify.extraction import extract
from curate.verify.numbers import plain_number
from curate.verify.sandbox import printed_answer, program_in

REASON = "second route disagrees"
UNSOLVABLE = "unsolvable"


def fault(verdicts: Sequence[Verdict], answers: Sequence[str | None]) -> str | None:
    """Why the routes do not confirm the answer, or None. verdicts, answers: (m,) of the completions.

    Confirmed if at least one arrives at the parent's answer and no other answer is more frequent; a reply that a
    condition is missing or contradictory counts as an answer too.
    """
    right = sum(verdict == Verdict.right for verdict in verdicts)
    other_answers = Counter(
        answer for answer, verdict in zip(answers, verdicts, strict=True) if verdict != Verdict.right and answer
    )
    answer, most = other_answers.most_common(1)[0] if other_answers else ("none", 0)
    if right and right >= most:
        return None
    return f"{right} of {len(verdicts)} at the parent's answer, {most} at {answer}"


def text_answer(text: str, verdict: Verdict = Verdict.undecided) -> str | None:
    """The marked final answer of a solution, with numbers in canonical form."""
    answer = extract(text)
    if answer is None or not answer.strong:
        return None
    number = plain_number(answer.text)
    return str(number.value) if number is not None else "".join(answer.text.split()).lower()


def program_answer(text: str, verdict: Verdict = Verdict.undecided) -> str | None:
    """The last line that the program in a completion prints; None if there is none, or it fails."""
    program = program_in(text)
    return None if program is None else printed_answer(program)
