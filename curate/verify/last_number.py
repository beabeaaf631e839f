"""The last number of a text, where it stands by itself: 3 does not in 2/3x, 3 + 5, 3 dozen, 3..., (3, 5) or LaTeX."""

from __future__ import annotations

import re
from collections import deque

from curate.verify.numbers import plain_number

__all__ = ["last_match", "last_number"]

_LAST_NUMBER = re.compile(
    r"(?:(?<![\w.)\]}])-)?(?:(?:US)?[$€£]\s?)?(?<![\d.])(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:\s?/\s?\d+(?![\d.]))?"
    r"(?:\s?\\?%|\s(?:percent|per cent)\b)?",
    re.ASCII,
)
# What stands before or after a number that is part of something larger.
_PART_BEFORE = re.compile(
    r"""[A-Za-z\d_^{\[]\Z | \d[,:]$ | [<>!]=[ ]?$ | [+/^<>~|\u00b1\u00d7\u00f7\u00b7\u221a\u2248][ ]?$
      | [\w)\]}]\*{1,2}$ | \d\*{1,2}[ ]$ | [\w)\]}][ ]\*{1,2}[ ]$ | \d[ ]\*$ | [\w)\]}$][ ]-[ ]?$ | [\w)\]}$]-[ ]?$
      | \\(?!(?:to|implies|[a-z]*[rR]ightarrow|quad)\b)[A-Za-z]+[ ]?$
      | \d[ ](?:and|to|by|x|plus|minus|times|over|out[ ]of|in|r|R|rem|remainder)[ ]$ | \b(?:plus|minus|times|over)[ ]$
      | \d[ ](?:feet|foot|ft|yards?|miles?|hours?|hrs?|minutes?|mins?|weeks?|days?|months?|years?|pounds?|lbs?|dollars?
          |k?m|kilometers?|meters?|degrees?)[ ](?:and[ ])?$
    """,
    re.VERBOSE,
)
_PART_AFTER = re.compile(
    r"""[ ]?(?:\.\.|\u2026|\\(?![)\]$,;!\\]|text|mathrm|mbox|quad)|[+/^_{}=<>~|!\])]
          |[\u00b1\u00d7\u00f7\u00b7\u221a\u03c0\u00b2\u00b3\u00bd\u00bc\u00be])
      | \*+[\w(] | [ ]\*+[ ]?[\w(] | -[\w(] | [ ]?-[ ]?(?:\w\b|\() | :\d | ,\d
      | (?:[ ]|\\(?:text|mathrm|mbox)\{[ ]?|\\[ ,;])*
        (?:dozens?|hundreds?|thousands?|millions?|billions?|trillions?|score|gross|hal(?:f|ves)|thirds?|quarters?
          |(?:four|fif|six|seven|eigh|nin|ten)ths?|hundredths?|thousandths?|tens|repeating|recurring|squared|cubed|factorial|plus|minus|times|x
          |over|divided|multiplied|mod|below|degrees[ ]below|pi|and[ ]an?|out[ ]of|to[ ]the[ ]power|choose)\b
    """,
    re.VERBOSE | re.IGNORECASE,
)
_GLUED = re.compile(r"[A-Za-z]+")


def last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last of all matches, without holding the others."""
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


def last_number(text: str) -> str | None:
    """The last number of `text`, or None if there is none, or it is part of something larger."""
    last = last_match(_LAST_NUMBER, text)
    return last[0].strip() if last is not None and _stands_alone(text, last) else None


def _stands_alone(text: str, number: re.Match[str]) -> bool:
    """Whether a number is one by itself, not a part of a formula, a power, a pair, a date or "5 dozen"."""
    before, after = text[max(0, number.start() - 40) : number.start()], text[number.end() : number.end() + 40]
    if after[:1] == ")" and before[-1:] == "(":
        before, after = before[:-1], after[1:]
    if _PART_BEFORE.search(before) or _PART_AFTER.match(after):
        return False
    glued = _GLUED.match(after)
    return glued is None or plain_number(number[0] + glued[0]) is not None
