"""Check that a problem does not contain its answer."""

from __future__ import annotations

import re

REASON = "answer in the problem"

_MARKER = re.compile(
    r"\\boxed|####|\banswer\s*(?:is\b|was\b|=|:|should be\b|must be\b|would be\b|equals\b)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?<![\w.,])-?\d[\d,]*(?:\.\d+)?(?![.,]?\d)")
_LONG = 20  # characters; a line this long does not occur in a task by chance
_LETTER = re.compile(r"\(?[A-Ea-e]\)?")


def fault(problem: str, answer: str, parent: str) -> str | None:
    """The text that reveals the answer, or None.

    A number that the parent problem names too may be given; one that occurs only in the solution is a
    result. A lettered answer is among the choices of every problem and reveals nothing there.
    """
    if (marker := _MARKER.search(problem)) is not None:
        return marker[0]
    if _LETTER.fullmatch(answer.strip()):
        return None
    stated = _numbers(answer)
    if len(stated) == 1 and _NUMBER.fullmatch(_bare(answer)):
        (number,) = stated
        return answer if number in _numbers(problem) and number not in _numbers(parent) else None
    squeezed_answer = _squeezed(answer)
    gives_answer = (
        len(squeezed_answer) >= 3 and squeezed_answer in _squeezed(problem) and squeezed_answer not in _squeezed(parent)
    )
    return answer if gives_answer else None


def solution_told(task: str, solution: str) -> str | None:
    """A line of the solution that occurs in the task, or a whole tool call; None if there is none."""
    if (call := re.search(r"<tool_call>|\{\s*\"name\"\s*:", task)) is not None:
        return call[0]
    lines = (line.strip() for line in solution.splitlines())
    squeezed = _squeezed(task)
    return next((line[:80] for line in lines if len(_squeezed(line)) >= _LONG and _squeezed(line) in squeezed), None)


def _bare(answer: str) -> str:
    """A number without currency, percent sign, LaTeX dollar signs or unit."""
    return re.sub(r"^[\s$£€\\]+|[\s$%\\.]+$", "", re.sub(r"\s*[a-zA-Z]+\.?\s*$", "", answer.strip()))


def _numbers(text: str) -> set[float]:
    return {float(number.replace(",", "")) for number in _NUMBER.findall(text)}


def _squeezed(text: str) -> str:
    return re.sub(r"[\s$]+", "", text).lower()
