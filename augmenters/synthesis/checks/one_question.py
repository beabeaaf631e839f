"""Check that a problem asks for one quantity: with two, it is unknown which of them the parent's answer is."""

from __future__ import annotations

import re

REASON = "asks for more than one thing"

_ASKED = r"how many|how much|how long|how far|how old|how tall|how fast|how often|what|which|when|who"
_ASKS = re.compile(
    rf"\b(?:{_ASKED})\b|^\s*(?:find|compute|calculate|determine|evaluate|solve|simplify|work out)\b", re.I
)
# A sentence that asks without a question mark; "State your answer as a fraction" only says how.
_ORDER = re.compile(
    r"\s*(?:(?:and|also|then|finally),?\s+)*(?:(?:find|compute|calculate|determine|evaluate|solve|simplify|work out)\b"
    r"|(?:state|name|report|tell|give|list|compare|provide|indicate|specify)\b"
    r"(?![^.?!]*\b(?:answers?|results?|solutions?|steps?|work|reasoning|decimals?|fractions?|form|units?|nearest|places)\b)"
    r"|(?:explain|describe|show|justify|round|list)\b[^.?!]*\b(?:and|then)\s+"
    r"(?:(?:find|compute|calculate|determine|work out)\b|(?:give|state|say|tell)\s+(?:how|what|by|their|its)\b))",
    re.I,
)
_AND_ALSO = re.compile(
    r"(?:,|\band\b|\bor\b|;)\s+(?:also\s+)?(?:how (?:many|much|long|far|old|tall|fast|often)"
    r"|(?:what|which|when|who) (?:is|are|was|were|will|did|does)|find|compute|calculate|determine)\b",
    re.I,
)
_FIRST = re.compile(rf"\b(?:{_ASKED}|find|compute|calculate|determine)\b", re.I)
_PARTS = re.compile(r"(?:^|\s)\(?(?:a|i|1)[.)]\s.*(?:^|\s)\(?(?:b|ii|2)[.)]\s", re.S)
_CHOICES = re.compile(r"\(?A[).:]\s.*\(?B[).:]\s.*\(?C[).:]\s", re.S)
_SENTENCE = re.compile(r"(?<=[.?!])\s+|\n+")
_SEVERAL = re.compile(r",(?!\d{3})|\band\b|;|\\cup|\\\{|\{")


def fault(problem: str, answer: str) -> str | None:
    """The second thing that is asked for, or None. An answer of several parts, or with choices, may ask for several."""
    if _SEVERAL.search(answer) or _CHOICES.search(problem):
        return None
    if _PARTS.search(problem):
        return "parts (a), (b)"
    asking = [part for part in _SENTENCE.split(problem) if _is_question(part)]
    for sentence in asking:
        first = _FIRST.search(sentence)
        if first and (second := _AND_ALSO.search(sentence, first.end())):
            return sentence[second.start() :].strip()[:80]
    return asking[-1].strip()[:80] if len(asking) > 1 else None


def _is_question(sentence: str) -> bool:
    """Whether a sentence asks for a quantity; "Can you help?" does not."""
    asks = sentence.rstrip().endswith("?")
    return bool((asks and _ASKS.search(sentence)) or _ORDER.match(sentence))
