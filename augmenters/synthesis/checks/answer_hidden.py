"""Check that a problem does not contain its answer."""

from __future__ import annotations

import re

REASON = "answer in the problem"

_MARKER = re.compile(
    r"\\boxed|####|\banswer\s*(?:is\b|was\b|=|:|should be\b|must be\b|would be\b|equals\b)"
    r"|\b(?:hint|expected)\s*:",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?<![\w.,])-?\d[\d,]*(?:\.\d+)?(?![.,]?\d)")
_LONG = 20  # characters; a line this long does not occur in a task by chance
_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_SPELLED = {word: k for k, word in enumerate(_ONES.split())}
_SPELLED |= {word: 20 + 10 * k for k, word in enumerate(_TENS.split())}
_FACTORS = {"hundred": 100, "thousand": 1000, "million": 10**6}
_LEAST_SPELLED = 3  # "one" and "two" are in many sentences that state nothing
_LETTER = re.compile(r"\(?[A-Ea-e]\)?")


def fault(problem: str, answer: str, parent: str) -> str | None:
    """The text that reveals the answer, or None.

    A number that the parent problem names too may be given; one that occurs only in the solution is a
    result, in digits, in words, or between the two numbers beside it. A lettered answer is among the choices of every
    problem and reveals nothing there.
    """
    if (marker := _MARKER.search(problem)) is not None:
        return marker[0]
    if _LETTER.fullmatch(answer.strip()):
        return None
    stated = _numbers(answer)
    if len(stated) == 1 and _NUMBER.fullmatch(_bare(answer)):
        (number,) = stated
        new_numbers = (_numbers(problem) | _spelled(problem)) - _numbers(parent) - _spelled(parent)
        return answer if number in new_numbers or {number - 1, number + 1} <= new_numbers else None
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


def _spelled(text: str) -> set[float]:
    """The numbers in words from 3 on: "twenty-eight", "one hundred and five"."""
    values: set[float] = set()
    whole = part = 0  # a finished part such as "two thousand", and what follows it
    open_number = False
    for word in [*re.findall(r"[a-z]+|[^a-z\s-]", text.lower()), "."]:
        if word in _SPELLED:
            # "five six" are two numbers, "twenty six" is one.
            if open_number and (part % 100 and not (part % 10 == 0 and part % 100 >= 20 and _SPELLED[word] < 10)):
                values.add(whole + part)
                whole = part = 0
            part, open_number = part + _SPELLED[word], True
        elif open_number and word == "hundred":
            part *= 100
        elif open_number and word in _FACTORS:
            whole, part = whole + part * _FACTORS[word], 0
        elif open_number and word != "and":
            values.add(whole + part)
            whole, part, open_number = 0, 0, False
    return {number for number in values if number >= _LEAST_SPELLED}


def _squeezed(text: str) -> str:
    return re.sub(r"[\s$]+", "", text).lower()
