"""Check that the answers of solutions are in the unit that the problem asks for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from curate.verify.extraction import extract

REASON = "units disagree"

# Kind of quantity -> unit -> the words for it.
_KINDS: dict[str, dict[str, str]] = {
    "money": {"dollars": r"dollars?|usd", "cents": r"cents?|pennies", "euros": r"euros?"},
    "time": {
        "seconds": r"seconds?|secs?", "minutes": r"minutes?|mins?", "hours": r"hours?|hrs?", "days": r"days?",
        "weeks": r"weeks?", "months": r"months?", "years": r"years?",
    },
    "length": {
        "millimeters": r"mm|millimet(?:er|re)s?", "centimeters": r"cm|centimet(?:er|re)s?", "meters": r"met(?:er|re)s?",
        "kilometers": r"km|kilomet(?:er|re)s?", "inches": r"inch(?:es)?", "feet": r"feet|foot", "yards": r"yards?",
        "miles": r"miles?",
    },
    "mass": {"grams": r"grams?", "kilograms": r"kg|kilograms?|kilos?", "ounces": r"ounces?", "tons": r"tons?|tonnes?"},
    "volume": {"milliliters": r"ml|millilit(?:er|re)s?", "liters": r"lit(?:er|re)s?", "gallons": r"gallons?"},
}  # fmt: skip
_UNITS = {
    unit: (kind, re.compile(rf"(?:{words})", re.I)) for kind, units in _KINDS.items() for unit, words in units.items()
}
_ASKED = re.compile(
    r"\b(?:how many|(?:how much|how long|how far|what)\b[^?.]*?,?\s+in)\s+(?:more\s+|square\s+|cubic\s+)?([a-z]+)\b",
    re.I,
)
_STATED = re.compile(
    r"\b(?:"
    r"(?:give|stated?|express(?:ed)?|report(?:ed)?|write|written|answers?|results?)\b[^.?!]*?\b(?:in|as a number of)"
    r"|converted (?:in)?to|convert (?:it|this|that|the \w+) (?:in)?to|(?:want|know) (?:it|this|that|the \w+) in"
    r"|use(?=\s+(?:\w+\s+){1,2}for (?:the|your)(?: final)? (?:answer|result)\b)"
    r")\s+(?:(?:whole|square|cubic)\s+)?([a-z]+)\b",
    re.I,
)
_PER = re.compile(r"\b(?:per|each|every|an|a)\s+[a-z]+|/\s*[a-z]+", re.I)
_WORD = re.compile(r"[A-Za-z]+")


def fault(problem: str, right: Sequence[str]) -> str | None:
    """Both units, if the problem asks in two, or most solutions that name one name another than it asks for."""
    unit_asked = asked_unit(problem)
    unit_stated = next(
        (unit for match in _STATED.finditer(problem) if (unit := _unit_of(match[1])) is not None), unit_asked
    )
    if unit_asked and unit_stated and unit_stated != unit_asked and _UNITS[unit_stated][0] == _UNITS[unit_asked][0]:
        return f"asked in {unit_asked}, and in {unit_stated}"
    unit_asked = unit_asked or unit_stated
    if unit_asked is None:
        return None
    units = Counter(unit for text in right if (unit := _answer_unit(text)) is not None)
    if not units:
        return None
    most, _ = units.most_common(1)[0]
    return (
        f"asked in {unit_asked}, answered in {most}" if most != unit_asked and units[unit_asked] < units[most] else None
    )


def asked_unit(problem: str) -> str | None:
    """The unit that the last question asks for, if it is a common one: "How many minutes .." or "in minutes"."""
    questions = list(_ASKED.finditer(problem))
    return _unit_of(questions[-1][1]) if questions else None


def _answer_unit(text: str) -> str | None:
    """The unit in the final answer itself."""
    answer = extract(text)
    if answer is None:
        return None
    if re.search(r"\\?\$\s*\d", answer.text):
        return "dollars"
    words = [unit for word in _WORD.findall(_PER.sub(" ", answer.text)) if (unit := _unit_of(word)) is not None]
    return words[0] if len(set(words)) == 1 else None


def _unit_of(word: str) -> str | None:
    return next((unit for unit, (_, pattern) in _UNITS.items() if pattern.fullmatch(word)), None)
