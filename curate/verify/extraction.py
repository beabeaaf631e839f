"""Where a solution states its final answer.

Found, in this order: the last `#### 42` or `\\boxed{...}` or `\\fbox{...}`, whichever comes later; the last "the answer
is ..", "final answer: .."; a chosen letter; a text that is nothing but an answer; the last number, if it stands by
itself (3 does not in "2/3x", "3 + 5", "3 dozen", "(3, 5)" or a LaTeX formula). All but the last number are strong: the
text says that this is the answer. What comes before `</think>` is ignored. A text that stops inside its last box, after
"the answer is", or before `</think>` has no answer.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import Literal

from curate.verify.cleaning import braced
from curate.verify.numbers import plain_number

__all__ = ["Found", "How", "extract", "reference_answer"]

How = Literal["marker", "boxed", "phrase", "choice", "whole", "number"]

# An answer stands near the end; of a longer text only so many last characters are read.
_LAST_CHARACTERS = 100_000
_LONGEST_ANSWER = 2_000
_LONGEST_WHOLE = 200

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:(?P<brace>\{)|(?P<bare>[A-Za-z0-9]+|\\[A-Za-z]+(?:\{[^{}]*\})*))?")
# Runs of spaces are cut short first: no pattern below has to try all the ways to share one.
_RUNS = re.compile(r"(\s)\s{6,}")
_HEADING = re.compile(
    r"(?:step|part|case|problem|question|example|section|stage|phase|method|solution)\b.*|\d{1,2}[.)](?:\s.*)?",
    re.IGNORECASE,
)
_MARKER = re.compile(r"^[ \t]*####(?!#)[ \t]*(.*)$", re.MULTILINE)
_PHRASE = re.compile(
    r"""\b(?:answers?|ans)\b[*_\s]{0,4}
        (?: (?:\.\s)?\s*(?:is|are|was|would\s+be|will\s+be|should\s+be|must\s+be|equals?|=)\b(?:\s*[:=])?
          | \s*(?::|=|->)
          | \s*[-\u2013]\s*(?=\(?[A-J]\)?\s*\.?\s*$)
          | \.?\s+(?=\(?[A-J]\)?\s*\.?\s*$) )
        [*_,\s]{0,6} (?:(?:therefore|thus|then|simply|just|only|exactly|equal\s+to|given\s+by|option|choice)\b[\s:]*)*
      | ^[ \t]*(?:the\s+)?(?:correct\s+)?(?:option|choice)\s*(?:is|:)?\s*(?=\(?[A-J]\)?\s*\.?\s*$)
    """,
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
_MATH = re.compile(
    r"""\$\$(?P<dd>[^$]+)\$\$ | \$(?P<d>(?:[^$\n]|(?<=\\)\$)+)\$(?!\d) | \\\((?P<p>.+?)\\\) | \\\[(?P<b>.+?)\\\]""",
    re.VERBOSE | re.DOTALL,
)
_MONEY = re.compile(r"\d[\d,.]{0,40}(?:\s+[A-Za-z]{2,}|[\s.,]{0,8}$)")
_CHOSEN = re.compile(
    r"^[ \t]*\(?([A-J])\)?[.)]?\s*\Z|\(?\b([A-J])\)? is the (?:correct |right )?(?:answer|choice|option)\b",
    re.MULTILINE,
)
_SENTENCE_END = re.compile(r"[.?](?=[\"')\]*]{0,8}(?:\s|$))|\n|<\||</s>")
_LAST_NUMBER = re.compile(
    r"(?:(?<![\w.)\]}])-)?(?:(?:US)?[$€£]\s?)?(?<![\d.])(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:\s?/\s?\d+(?![\d.]))?"
    r"(?:\s?\\?%|\s(?:percent|per cent)\b)?",
    re.ASCII,
)
# What stands before or after a number that is part of something larger.
_PART_BEFORE = re.compile(
    r"""[A-Za-z\d_^{\[]$ | \d[,:]$ | [<>!]=[ ]?$ | [+/^<>~|\u00b1\u00d7\u00f7\u00b7\u221a\u2248][ ]?$
      | [\w)\]}]\*{1,2}$ | \d\*{1,2}[ ]$ | [\w)\]}][ ]\*{1,2}[ ]$ | \d[ ]\*$ | [\w)\]}$][ ]-[ ]?$ | [\w)\]}$]-[ ]?$
      | \\(?!(?:to|implies|[a-z]*[rR]ightarrow|quad)\b)[A-Za-z]+[ ]?$
      | \d[ ](?:and|to|by|x|plus|minus|times|over|out[ ]of|in|r|R|rem|remainder)[ ]$ | \b(?:plus|minus|times|over)[ ]$
      | \d[ ](?:feet|foot|ft|yards?|miles?|hours?|hrs?|minutes?|mins?|weeks?|days?|months?|years?|pounds?|lbs?|dollars?
          |k?m|kilometers?|meters?|degrees?)[ ](?:and[ ])?$
    """,
    re.VERBOSE,
)
_PART_AFTER = re.compile(
    r"""[ ]?(?:\\(?![)\]$,;!\\]|text|mathrm|mbox|quad)|[+/^_{}=<>~|!\])]
          |[\u00b1\u00d7\u00f7\u00b7\u221a\u03c0\u00b2\u00b3\u00bd\u00bc\u00be])
      | \*+[\w(] | [ ]\*+[ ]?[\w(] | -[\w(] | [ ]?-[ ]?(?:\w\b|\() | :\d | ,\d
      | (?:[ ]|\\(?:text|mathrm|mbox)\{[ ]?|\\[ ,;])*
        (?:dozens?|hundreds?|thousands?|millions?|billions?|trillions?|score|gross|hal(?:f|ves)|thirds?|quarters?
          |(?:four|fif|six|seven|eigh|nin|ten)ths?|hundredths?|thousandths?|squared|cubed|factorial|plus|minus|times|x
          |over|divided|multiplied|mod|below|degrees[ ]below|pi|and[ ]an?|out[ ]of|to[ ]the[ ]power|choose)\b
    """,
    re.VERBOSE | re.IGNORECASE,
)
_GLUED = re.compile(r"[A-Za-z]+")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")


@dataclass(frozen=True)
class Found:
    """An answer found in a text, as it is written there.

    how: "marker" (####), "boxed", "phrase" ("the answer is"), "choice" (a letter that is the last line, or "B is the
    correct choice"), "whole" (the text is nothing but an answer), or "number", the last number, which may be anything.
    """

    text: str
    how: How

    @property
    def strong(self) -> bool:
        """Whether the text itself says that this is its answer."""
        return self.how != "number"


def extract(text: str) -> Found | None:
    """The final answer that `text` (any string, of any size) states, or None."""
    text = text[-_LAST_CHARACTERS:].replace("\x00", "").replace("\u2212", "-")
    end = _after_thinking(_RUNS.sub(_shorter, text))
    box, boxed_at = (None, -1) if end is None else _last_box(end)
    if end is None or box == "":
        return None
    marked, marked_at = _last_marker(end)
    if marked is not None or box is not None:
        return Found(marked, "marker") if marked is not None and marked_at > boxed_at else Found(str(box), "boxed")
    phrase = _last_phrase(end)
    if phrase is not None:
        return phrase if phrase.text else None
    return _choice(end) or _whole(end) or _last_number(end)


def reference_answer(solution: str) -> str | None:
    """The answer that a dataset's own solution marks as such, or None.

    A marker, a box, a chosen letter, or "the answer is" in the last line; in the middle of a solution, that may be
    the answer of a step. Never the last number, nor a bare equation.
    """
    found = extract(solution)
    if found is None or found.how in ("whole", "number"):
        return None
    lines = solution.strip().splitlines()
    last = (
        extract("\n".join(lines[-2:]))
        if lines[-2:] and lines[-2:][0].rstrip(" *").endswith(":")
        else extract(lines[-1])
    )
    return found.text if found.how != "phrase" or last == found else None


def _shorter(run: re.Match[str]) -> str:
    return "\n\n" if "\n" in run[0] else run[1] * 4


def _after_thinking(text: str) -> str | None:
    _, closed, after = text.rpartition("</think>")
    return after if closed or "<think>" not in text else None


def _last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


def _last_box(text: str) -> tuple[str | None, int]:
    """Content of the last box, and its place: "" if it is cut off or empty, None if there is none."""
    last = _last_match(_BOX, text)
    if last is None:
        return None, -1
    if last["brace"] is None:
        return last["bare"] or "", last.start()
    inside = braced(text, last.start("brace"))
    return (inside[0].strip()[: _LONGEST_ANSWER + 1] if inside is not None else ""), last.start()


def _last_marker(text: str) -> tuple[str | None, int]:
    """What follows the last `####` that is no Markdown heading, and its place."""
    end = len(text.rstrip())
    for found in reversed(list(_MARKER.finditer(text))):
        answer = found[1].strip().split("<|")[0].strip()
        closing = found.end() >= end
        if _HEADING.fullmatch(answer) and not (closing and answer[:-1].isdigit()):
            continue
        if "\\boxed" in answer or "\\fbox" in answer:
            continue
        if answer and (closing or plain_number(answer[: _LONGEST_ANSWER + 1]) is not None):
            return answer, found.start()
    return None, -1


def _last_phrase(text: str) -> Found | None:
    """What follows the last "answer is"; an empty text if nothing does."""
    last = _last_match(_PHRASE, text)
    if last is None:
        return None
    rest = text[last.end() :]
    math = _MATH.match(rest)
    if math is not None:
        inside = next(group for group in math.groups() if group is not None)
        if math["d"] is None or _MONEY.match(inside) is None:
            return Found(inside.strip(), "phrase")
    end = _SENTENCE_END.search(rest)
    answer = (rest[: end.start()] if end else rest).strip().rstrip("*_ ")
    if _is_prose(answer):
        # "The answer is that 5 of them are left" names a number, but not as its answer.
        return _last_number(answer)
    return Found(answer, "phrase")


def _is_prose(text: str) -> bool:
    return len(_WORD.findall(text)) > 3 and plain_number(text[: _LONGEST_ANSWER + 1]) is None


def _choice(text: str) -> Found | None:
    last = _last_match(_CHOSEN, text)
    return None if last is None else Found(last[1] or last[2], "choice")


def _whole(text: str) -> Found | None:
    line = text.strip()
    if not line or "\n" in line or len(line) > _LONGEST_WHOLE:
        return None
    words = len(_WORD.findall(line))
    only = words <= (1 if any(map(str.isdigit, line)) else 3) or plain_number(line) is not None
    return Found(line, "whole") if only else None


def _last_number(text: str) -> Found | None:
    last = _last_match(_LAST_NUMBER, text)
    return Found(last[0].strip(), "number") if last is not None and _stands_alone(text, last) else None


def _stands_alone(text: str, number: re.Match[str]) -> bool:
    """Whether a number is one by itself, not a part of a formula, a power, a pair, a date or "5 dozen"."""
    before, after = text[max(0, number.start() - 40) : number.start()], text[number.end() : number.end() + 40]
    if after[:1] == ")" and before[-1:] == "(":
        before, after = before[:-1], after[1:]
    if _PART_BEFORE.search(before) or _PART_AFTER.match(after):
        return False
    glued = _GLUED.match(after)
    return glued is None or plain_number(number[0] + glued[0]) is not None
