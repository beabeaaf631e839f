"""Find the last number of a text if it stands alone: not 3 in 2/3x, 3 + 5, 3 dozen, 3..., (3, 5), "no 3", LaTeX."""

from __future__ import annotations

import re
from collections import deque

from curate.verify.numbers import plain_number, scales

_LAST_NUMBER = re.compile(
    r"(?:(?<![\w.)\]}])-)?(?:(?:US)?[$€£]\s?)?(?<![\d.])(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:\s?/\s?\d+(?![\d.]))?"
    r"(?:\s?\\?%|\s(?:percent|per cent)\b)?",
    re.ASCII,
)
# Context before or after a number that makes it part of something larger.
_PART_BEFORE = re.compile(
    r"""[A-Za-z\d_^{\[]\Z | \d[,:]$ | [<>!]=[ ]?$ | [+/^<>~|\u00b1\u00d7\u00f7\u00b7\u221a\u2248][ ]?$
      | [\w)\]}]\*{1,2}$ | \d\*{1,2}[ ]$ | [\w)\]}][ ]\*{1,2}[ ]$ | \d[ ]\*$ | [\w)\]}$][ ]-[ ]?$ | [\w)\]}$]-[ ]?$
      | \\(?!(?:to|implies|[a-z]*[rR]ightarrow|quad)\b)[A-Za-z]+[ ]?$
      | \d[ ](?:and|or|to|by|x|plus|minus|times|over|out[ ]of|in|r|R|rem|remainder)[ ]$
      | \b(?:plus|minus|negative|menos|moins|times|over|than|log|ln|sin|cos|tan)[ ]$
      | \b(?:root|square|cube|power|factorial|half|third|quarter|twice|double|triple|reciprocal|inverse|negative
          |opposite|absolute[ ]value|multiple|factor|divisor)(?:[ ]of)?[ ]$
      | \b(?:(?:divided|multiplied|divisible)[ ]by|mod|modulo|base|choose|through|but|except|under|below|above|nearly
          |almost|up[ ]to|at[ ](?:most|least)|(?:undefined|defined)[ ]at|like)[ ]$ | \u00ac[ ]?$
      | \d[ ]?[\u2013\u2014][ ]?$ | [\u2013\u2014]\Z | [\u2200-\u2233\u2235-\u22ff][ ]?$ | \d[ ]$ | \\log_\{?\w+\}?[ ]?$
      | (?:\b(?:not|never|cannot|neither|nor|no|pas|nicht|kein\w{0,2}|\u043d\u0435|\u043c\u0438\u043d\u0443\u0441)
          |n['\u2019]t)(?:[ ][^\W\d_]+){0,2}[ ]$
      | [\u8d1f\u8ca0\u4e0d\u975e\u4e4b\u7b2c\u8fc7\u904e]\Z
      | (?<!\u7b49)[\u4e8e\u65bc]\Z | (?:\u4e0d\u662f|\u30de\u30a4\u30ca\u30b9)[ ]?\Z
      | =[ ]?\$?-?[\d.,/]+\$?[ ]?(?:,|;|,?[ ]and|,?[ ]or)[ ]\$?[A-Za-z]\w?[ ]?=[ ]?$
      | \d[ ](?:feet|foot|ft|yards?|miles?|hours?|hrs?|minutes?|mins?|weeks?|days?|months?|years?|pounds?|lbs?|dollars?
          |k?m|kilometers?|meters?|degrees?)[ ](?:and[ ])?$
    """,
    re.VERBOSE,
)
_PART_AFTER = re.compile(
    r"""[ ]?(?:\.\.|\u2026|\\(?![)\]$,;!\\]|text|mathrm|mbox|quad)|[+/^_{}=<>~|!\])]
          |[\u00b1\u00d7\u00f7\u00b7\u00b2\u00b3\u00b9\u00bc-\u00be\u0300-\u03ff\u2030-\u2034\u2044\u2070-\u209f\u2150-\u218f]
          |[\u2200-\u22ff\u5341\u767e\u5343\u4e07\u842c\u5104\u4ebf\u5146\u96f6\u4e00\u4e8c\u4e09\u56db\u4e94\u516d\u4e03]
          |[\u516b\u4e5d\u4e24\u534a\u5206\u70b9\u9ede\u5272\u4ee5\u591a\u4f59\u9918\u51e0\uc2ed\ubc31\ucc9c\ub9cc\uc5b5\uc870])
      | [ ][A-Za-z]+[ ](?:and[ ]a[ ](?:half|quarter|third)|y[ ]medi[ao]|et[ ]demie?)\b
      | \*+[\w(] | [ ]\*+[ ]?[\w(] | -[\w(] | [ ]?-[ ]?(?:\w\b|\() | :\d | ,\d
      | (?:[ ]|\\(?:text|mathrm|mbox)\{[ ]?|\\[ ,;])*
        (?:plus|minus|times|x|over|divided|multiplied|mod|below|degrees[ ]below|and[ ]an?|out[ ]of|to[ ]the[ ]power
          |choose|or[ ](?:more|fewer|less)|y|et|und|e|K|inverse|octal|hex|binary|would|per[ ](?:thousand|mille)
          |(?:less|fewer|more|greater|bigger|larger|smaller)[ ]than|cent[ ]mil\w*|bucks?[ ]\w+
          |(?:is|are|was|were)n['\u2019]t|(?:is|are|was|were|seems|looks)[ ](?:not|wrong|incorrect|false|too)
          |(?:can|could)(?:not|n?['\u2019]t)?[ ](?:not[ ])?be)\b | [ ]?\?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_GLUED = re.compile(r"[A-Za-z]+")
_NEXT_WORD = re.compile(r"(?:[ -]|\\(?:text|mathrm|mbox)\{[ ]?|\\[ ,;])*([^\W\d_]+)")


# What follows a number in math delimiters, or in a box, that makes it part of something larger.
_GOES_ON = re.compile(
    r"""[A-Za-z](?![A-Za-z]) | [ ]?[-+\u2013][ ]?(?:\$|\\\()?\d | [ ]?[*/^\u00d7\u00b7\u00f7\u00b1][ ]?[\w$\\(]
      | ,?[ ](?:or|and)[ ](?:\$|\\\(|`|\*\*)?(?:-?\d|\\|[A-Za-z][ ]?=) | ,[ ]?(?:\$|\\\()(?:-?\d|[A-Za-z][ ]?=)
      | [ ](?:to|in|by|x)[ ](?:\$|\\\()?\d
      | [ ](?:plus|minus|times(?=[ ](?:\$|\\\(|\d|as\b|the\b))|over|divided|multiplied|mod|modulo|out[ ]of|remainder
          |rem|percent|below[ ]zero|short[ ]of
          |(?:less|more|fewer|greater|bigger|larger|smaller)[ ]than|and[ ]an?[ ](?:half|quarter|third))\b
      | [ ](?:feet|foot|ft|yards?|miles?|hours?|hrs?|minutes?|mins?|weeks?|days?|months?|years?|pounds?|lbs?|dollars?
          |k?m|kilometers?|meters?|degrees?)[ ](?:and[ ])?(?:\$|\\\()?\d
    """,
    re.VERBOSE,
)


def goes_on(after: str) -> bool:
    """Whether the text after a number in math delimiters or a box makes it part of something larger."""
    if _GOES_ON.match(after):
        return True
    word = _NEXT_WORD.match(after)
    return word is not None and after[:1] in " \\" and scales(word[1])


def last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last of all matches, without storing the others."""
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


def last_number(text: str) -> str | None:
    """The last number of `text`, or None if there is none or it is part of something larger."""
    last = last_match(_LAST_NUMBER, text)
    return last[0].strip() if last is not None and _stands_alone(text, last) else None


def _stands_alone(text: str, number: re.Match[str]) -> bool:
    """Whether a number stands alone: not part of a formula, a power, a pair, a date or "5 dozen"."""
    before, after = text[max(0, number.start() - 40) : number.start()], text[number.end() : number.end() + 40]
    if after[:1] == ")" and before[-1:] == "(":
        before, after = before[:-1], after[1:]
    if _PART_BEFORE.search(before) or _PART_AFTER.match(after):
        return False
    word = _NEXT_WORD.match(after)
    if word is not None and scales(word[1]):
        return False
    glued = _GLUED.match(after)
    return glued is None or plain_number(number[0] + glued[0]) is not None
