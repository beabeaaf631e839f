"""Prompts of synthesis, and parsing of the problems in completions."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping

from augmenters.synthesis.strategies import prompt_file
from curate.errors import InputError
from curate.generators.requests import Prompt

_THOUGHT = "</think>"
_FENCE = re.compile(r"```[ \t]*(text\b|[\w-]*[ \t]*$)?(.*?)```", re.DOTALL | re.IGNORECASE | re.MULTILINE)
_HEADING = re.compile(
    r"^[ \t]*(?:#+[ \t]*)?(?:\*\*)?(?:new |reconstructed |rewritten )?(?:question|problem)"
    r"(?:\*\*)?[ \t]*:[ \t]*(?:\*\*)?",
    re.IGNORECASE | re.MULTILINE,
)
# What makes a text a problem: a question mark, or a task whose verb begins a sentence or clause.
_ASKS = re.compile(
    r"\?|(?:^|[.!:;,$\n]\s*|\b(?:and|then|please|to|must|should)\s+)"
    r"(?:find|compute|calculate|determine|evaluate|simplify|solve|prove|show|express|factor|expand|give|state|list|write|"
    r"name|convert|round|count|estimate|draw|graph|work out|tell|add|subtract|multiply|divide|identify|choose|describe|"
    r"explain|justify|verify|how many|how much|what|which)\b",
    re.IGNORECASE,
)
_WORKED = re.compile(r"^[ \t]*(?:#+[ \t]*)?(?:\*\*)?(?:solution|answer|explanation)(?:\*\*)?[ \t]*:", re.I | re.M)
_PLACE = re.compile(r"\{\{(\w+)\}\}")
_SHORTEST = 20  # minimum length of a question in characters


DEFAULT_VARIATION_PROMPT = prompt_file("variation")
DEFAULT_SOLUTION_PROMPT = prompt_file("solution")


def check_prompt(text: str, *places: str) -> str:
    """`text`, if it contains each of the placeholders {{place}} exactly once."""
    for place in places:
        if text.count("{{" + place + "}}") != 1:
            raise InputError(
                f"a prompt needs the place {{{{{place}}}}} exactly once; this one has it "
                f"{text.count('{{' + place + '}}')} times"
            )
    return text


def chat(text: str, values: Mapping[str, str]) -> Prompt:
    """The prompt as one user message. Values are inserted verbatim and never interpreted."""
    parts = _PLACE.split(text)  # text, name, text, name, ..
    return ({"role": "user", "content": "".join(_filled(parts, values))},)


def _filled(parts: list[str], values: Mapping[str, str]) -> Iterator[str]:
    for place, part in enumerate(parts):
        yield part if place % 2 == 0 else values.get(part, "{{" + part + "}}")


def parse_problem(completion: str, *, cut_off: bool = False) -> str | None:
    """The problem in a completion: inside the first ```text block, else the first block of any kind, else after a
    heading such as "Problem:", else a whole reply that is a single question. None if there is none.

    cut_off: whether the completion was truncated. Otherwise an unclosed last block ends where the text does.
    """
    text = completion.rpartition(_THOUGHT)[2]
    if not cut_off and text.count("```") % 2:
        text += "```"
    blocks = _FENCE.findall(text)
    bodies = [body for kind, body in blocks if kind.strip().lower() == "text"]
    if blocks:
        problem = (bodies or [blocks[0][1]])[0]
    elif "```" in text:
        return None
    else:
        heading = _HEADING.search(text)
        problem = text[heading.end() :] if heading else text
        if heading is None and not _is_question(text):
            return None
    worked = _WORKED.search(problem)  # some models continue with a solution
    return problem[: worked.start() if worked else None].strip() or None


def _is_question(text: str) -> bool:
    """Whether a reply without any format is only a question: one paragraph that ends in a question mark."""
    text = text.strip()
    return text.endswith("?") and "\n\n" not in text


def has_control_characters(text: str) -> bool:
    """Whether there are characters that are not text: controls other than line breaks and tabs, and lone surrogates."""
    return any(unicodedata.category(mark) in ("Cc", "Cs") and mark not in "\n\t\r" for mark in text)


def problem_fault(problem: str, longest: int) -> str | None:
    """Why a text cannot be used as a problem, or None. longest: maximum number of characters."""
    if has_control_characters(problem):
        return "control characters in the problem"
    if len(problem) > longest:
        return "problem too long"
    if len(problem) < _SHORTEST:
        return "problem too short"
    if not _ASKS.search(problem):
        return "asks nothing"
    return None
