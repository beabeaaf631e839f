"""Prompts of synthesis, and parsing of the problems in their completions."""

from __future__ import annotations

import re
import unicodedata
from importlib import resources

from curate.errors import InputError
from curate.generators.requests import Prompt

_THOUGHT = "</think>"
_FENCE = re.compile(r"```[ \t]*(text\b|[\w-]*[ \t]*$)?(.*?)```", re.DOTALL | re.IGNORECASE | re.MULTILINE)
_HEADING = re.compile(
    r"^[ \t]*(?:#+[ \t]*)?(?:\*\*)?(?:new |reconstructed |rewritten )?(?:question|problem)"
    r"(?:\*\*)?[ \t]*:[ \t]*(?:\*\*)?",
    re.IGNORECASE | re.MULTILINE,
)
_MARKER = re.compile(
    r"\\boxed|####|\banswer\s*(?:is\b|was\b|=|:|should be\b|must be\b|would be\b|equals\b)",
    re.IGNORECASE,
)
# What makes a text a problem: a question mark, or a task, whose verb begins a sentence or a part of one.
_ASKS = re.compile(
    r"\?|(?:^|[.!:;,$\n]\s*|\b(?:and|then|please|to|must|should)\s+)"
    r"(?:find|compute|calculate|determine|evaluate|simplify|solve|prove|show|express|factor|expand|give|state|list|write|"
    r"name|convert|round|count|estimate|draw|graph|work out|tell|add|subtract|multiply|divide|identify|choose|describe|"
    r"explain|justify|verify|how many|how much|what|which)\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?<![\w.,])-?\d[\d,]*(?:\.\d+)?(?![.,]?\d)")
_LETTER = re.compile(r"\(?[A-Ea-e]\)?")
_WORKED = re.compile(r"^[ \t]*(?:#+[ \t]*)?(?:\*\*)?(?:solution|answer|explanation)(?:\*\*)?[ \t]*:", re.I | re.M)
_SHORTEST = 20  # characters of anything that asks a question


def _file(name: str) -> str:
    return (resources.files("augmenters.synthesis") / name).read_text(encoding="utf-8").rstrip("\n")


DEFAULT_VARIATION_PROMPT = _file("variation.txt")
DEFAULT_SOLUTION_PROMPT = _file("solution.txt")


def check_prompt(text: str, slot: str) -> str:
    """`text` if it has the slot {{slot}} exactly once."""
    if text.count("{{" + slot + "}}") != 1:
        raise InputError(
            f"a prompt needs the place {{{{{slot}}}}} exactly once; this one has it {text.count(slot)} times"
        )
    return text


def chat(text: str, slot: str, value: str) -> Prompt:
    """The prompt as one user message. The value is put in as it is: nothing inside it is ever interpreted."""
    before, _, after = text.partition("{{" + slot + "}}")
    return ({"role": "user", "content": before + value + after},)


def parse_problem(completion: str, *, cut_off: bool = False) -> str | None:
    """The problem in a completion: inside the first ```text block, else the first block of any kind, else behind a
    heading such as "Problem:", else the whole of a reply that is but one question. None where there is none.

    cut_off: whether the model would have gone on. Else a last block that was not closed ends where the text does.
    """
    text = completion.rpartition(_THOUGHT)[2]
    if not cut_off and text.count("```") % 2:
        text += "```"
    blocks = _FENCE.findall(text)
    named = [body for kind, body in blocks if kind.strip().lower() == "text"]
    if blocks:
        problem = (named or [blocks[0][1]])[0]
    elif "```" in text:
        return None
    else:
        heading = _HEADING.search(text)
        problem = text[heading.end() :] if heading else text
        if heading is None and not _is_question(text):
            return None
    worked = _WORKED.search(problem)  # some models go on to solve what they wrote
    return problem[: worked.start() if worked else None].strip() or None


def _is_question(text: str) -> bool:
    """Whether a reply without any form is a question and nothing else: one paragraph that ends in its mark."""
    text = text.strip()
    return text.endswith("?") and "\n\n" not in text


def has_control_characters(text: str) -> bool:
    """Whether there are characters that are no text: controls other than line ends and tabs, and half characters."""
    return any(unicodedata.category(mark) in ("Cc", "Cs") and mark not in "\n\t\r" for mark in text)


def problem_fault(problem: str, answer: str, parent: str, longest: int) -> str | None:
    """Why a problem cannot serve, or None.

    answer: the final answer it must not give away; parent: the problem whose solution it was written from;
    longest: characters.
    """
    if has_control_characters(problem):
        return "control characters in the problem"
    if len(problem) > longest:
        return "problem too long"
    if len(problem) < _SHORTEST:
        return "problem too short"
    if not _ASKS.search(problem):
        return "asks nothing"
    if _leaks(problem, answer, parent):
        return "answer in the problem"
    return None


def _leaks(problem: str, answer: str, parent: str) -> bool:
    """Whether the problem names its answer.

    A number that the parent problem names too may be one of the givens; one that stands only in the solution is a
    result. A lettered answer stands among the choices of every problem and says nothing by standing there.
    """
    if _MARKER.search(problem):
        return True
    if _LETTER.fullmatch(answer.strip()):
        return False
    numbers = _numbers(answer)
    if len(numbers) == 1 and _NUMBER.fullmatch(_bare(answer)):
        (number,) = numbers
        return number in _numbers(problem) and number not in _numbers(parent)
    wanted = _squeezed(answer)
    return len(wanted) >= 3 and wanted in _squeezed(problem) and wanted not in _squeezed(parent)


def _bare(answer: str) -> str:
    """A number without what may stand around it: currency, percent, dollar signs of LaTeX, a unit."""
    return re.sub(r"^[\s$£€\\]+|[\s$%\\.]+$", "", re.sub(r"\s*[a-zA-Z]+\.?\s*$", "", answer.strip()))


def _numbers(text: str) -> set[float]:
    return {float(number.replace(",", "")) for number in _NUMBER.findall(text)}


def _squeezed(text: str) -> str:
    return re.sub(r"[\s$]+", "", text).lower()
