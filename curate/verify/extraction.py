"""Extract the final answer that a solution states."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import Literal

from curate.verify.boxes import last_box
from curate.verify.denials import denied, denies, retracted
from curate.verify.last_number import goes_on, last_match, last_number
from curate.verify.number_words import in_digits
from curate.verify.numbers import plain_number
from curate.verify.turns import own_words

How = Literal["marker", "boxed", "tag", "phrase", "choice", "whole", "number"]

# An answer is near the end; of a longer text, only this many last characters are read.
_LAST_CHARACTERS = 100_000
_LONGEST_ANSWER = 2_000
_LONGEST_WHOLE = 200
# Only so many "the answer is" at the end of a text are read.
_MOST_PHRASES = 8

_PLAIN = {0x0: None, 0x2212: "-", 0xFF0D: "-", 0xFE63: "-"}
# Runs of spaces are shortened first, so that no pattern below backtracks over all ways to split one.
_RUNS = re.compile(r"(\s)\s{6,}")
_HEADING = re.compile(
    r"(?:step|part|case|problem|question|example|section|stage|phase|method|solution)\b.*|\d{1,2}[.)](?:\s.*)?",
    re.IGNORECASE,
)
_MARKER = re.compile(r"####(?!#)[ \t]*(.*)$", re.MULTILINE)
_TAG = re.compile(r"<((?:final[_ -]?)?ans(?:wer)?)(?:\s[^<>]{0,80})?>(.*?)(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_CLOSING_TAG = re.compile(r"</[A-Za-z].*")
_NEXT_PROBLEM = re.compile(
    r"^[ \t]*[#*]{0,6}[ \t]*(?:question|problem|exercise|q|human|user|instruction)\b[ \d#.]{0,8}[*]{0,2}:",
    re.MULTILINE | re.IGNORECASE,
)
_PHRASE = re.compile(
    r"""\b(?:answers?|ans)\b[*_\s]{0,4}
        (?: (?:\.\s)?\s*(?:is|are|was|would\s+be|will\s+be|should\s+be|must\s+be|equals?|=)\b(?:\s*[:=])?
          | \s*(?::|=(?!=)|->|\u2192)
          | \s*[-\u2013]\s*(?=\(?[A-J]\)?\s*\.?\s*$)
          | \.?\s+(?=\(?[A-J]\)?\s*\.?\s*$) )
        (?:[*_,\s]|\.{2,9}|\u2026){0,6} (?:(?:therefore|thus|then|simply|just|only|exactly|equal\s+to|given\s+by
          |option|choice)\b[\s:]*)* (?:```\w{0,9}\n)?
      | ^[ \t]*[#*_]{0,6}[ \t]*(?:the[ ])?(?:final[ ])?answer[#*_ \t]*\n (?:[-=]{3,}[ ]*\n)? [\s*_]{0,6}
        (?:```\w{0,9}\n)?
      | ^[ \t]*(?:(?:so|thus|hence|therefore),?\s+)?(?:the\s+)?(?:correct\s+)?(?:option|choice)\s*(?:is|:)?\s*[*_]{0,2}
        (?=\(?[A-J]\)?\s*\.?[*_]{0,2}\.?\s*$)
    """,
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
_MATH = re.compile(
    r"""\$\$(?P<dd>[^$]+)\$\$ | \$(?P<d>(?:[^$\n]|(?<=\\)\$)+)\$(?!\d) | \\\((?P<p>.+?)\\\) | \\\[(?P<b>.+?)\\\]""",
    re.VERBOSE | re.DOTALL,
)
_MONEY = re.compile(r"\d[\d,.]{0,40}(?:\s+[A-Za-z]{2,}|[\s.,]{1,8}$)")
_CHOSEN = re.compile(
    r"^[ \t]*\(?([A-J])\)?[.)]?\s*\Z|\(?\b([A-J])\)? is the (?:correct |right )?(?:answer|choice|option)\b"
    r"|\b(?:[Oo]ption|[Cc]hoice) \(?([A-J])\)? is (?:correct|right)[.*\s]*$"
    r"|\b[Cc]hoice (?:is |would be )?\(?([A-J])(?:\)|[.:]) [^\n]{1,200}$"
    r"|\b(?:choose|select|pick|go(?:ing)? with) (?:option |choice |answer )?\(?([A-J])\)?[.*\s]*$",
    re.MULTILINE,
)
_SENTENCE_END = re.compile(
    r"</[A-Za-z]|(?<!\d\.)(?<!\.\.)(?<!\bRs)[.?](?=[\"')\]*]{0,8}(?:\s|$))|\n|!+(?=[\"')\]*_]{0,8}(?:\s+(?:[A-Z]|[^\x00-\x7f])|\s*$))"
)
# An exclamation mark that may be part of the answer: 5!, n!, (n+1)!, 5!!.
_FACTORIAL = re.compile(r"(?:[\d)}\]]|(?<![A-Za-z])[A-Za-z])!{1,2}")
_LEAD = re.compile(
    r"(?:(?:(?:so|thus|hence|therefore|then|finally|and|it['\u2019]s|that['\u2019]s|(?:it|that|this) is)\b"
    r"|ans\.|=>|->|[\u2192\u21d2\u2234])(?:[\s,:]|\.{2,9}|\u2026)*)+",
    re.IGNORECASE,
)
# Letters of other scripts, and accented ones: such words may say more than the answer.
_FOREIGN = re.compile(r"[\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02af\u0400-\u1fff\u3040-\ufaff]")
_CLAUSE = re.compile(r"[A-Za-z]{2} (?:is|are|was|were|equals)\b", re.IGNORECASE)
# What is said about an answer behind it.
_REASON = re.compile(
    r",?\s(?:because|since|rather than|instead of)\s|,\s(?:(?:and )?not|which is(?! (?:wrong|not|incorrect|false)))\s"
    r"|\s\((?:because|since|as|not|rather|i\.?e\.?)\s",
)
# Calculator annotations as in GSM8K: 3+4=<<3+4=7>>7.
_CALCULATED = re.compile(r"<<[^<>\n]{0,200}>>")
_TEXT = re.compile(r"\\(?:text|textbf|mbox|mathrm)\s*\{([^{}]*)\}")
_JSON = re.compile(
    r"""["'](?:final[_ ])?answer["']\s*:\s*(?:["']([^"'\\\n]{1,200})["']|(-?[\d.,]+)(?=\s*[,}\n]))""", re.IGNORECASE
)
_AFTER_TAG = re.compile(r"\A[A-Za-z_ -]+>")
# HTML that only changes the appearance; that of paragraphs ends lines.
_STYLE = re.compile(r"</?(?:b|strong|i|em|u|mark|span|center|code)(?:\s[^<>]{0,80})?>", re.IGNORECASE)
_PARAGRAPH = re.compile(r"</?(?:p|br|div|h[1-6])(?:\s[^<>]{0,80})?/?>", re.IGNORECASE)
_YES_OR_NO = re.compile(r"\A[\s*_]*(yes|no)\b[*_]{0,2}[,.!]", re.IGNORECASE)
_HEADED = re.compile(r":[ *]*$|^[#*_ ]*(?:the )?(?:final )?answer[#*_ ]*$", re.IGNORECASE)
_DOLLARS = re.compile(r"(?<!\\)\$|\\[()]")
_LABEL = re.compile(r"#{0,6} ?[*_]{0,2}[A-Za-z][A-Za-z ']{0,40}[A-Za-z'][*_]{0,2}:[*_]{0,2}\s*(?=\S)")
_VARIABLE = re.compile(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])")
# Right sides of other relations, and numbers among words: "they earn 3 + 5 = 8".
_NO_SIDE = re.compile(r"[<>!:]$|\\[lgn]eq?(?![A-Za-z])|(?<!\\)\b[A-Za-z]{2,} .*\d")
_LISTS = re.compile(r"[,;]\s|\b(?:and|or)\b")
_TIMES = re.compile(r"(?<=\d) ?x ?(?=[\d$])")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")


@dataclass(frozen=True)
class ExtractedAnswer:
    """An answer extracted from a text, as it is written there.

    how: "marker" (####), "boxed", "tag" (<answer>), "phrase" ("the answer is"), "choice" (a letter that is the last
    line, or "B is the correct choice"), "whole" (the text is nothing but an answer), or "number", the last number,
    which may be anything.
    exclaimed: whether it ends in an exclamation mark that may be a factorial or the end of a sentence.
    """

    text: str
    how: How
    exclaimed: bool = False

    @property
    def readings(self) -> tuple[str, ...]:
        """The answer; and, if it ends in an exclamation mark that may end the sentence, the answer without the mark."""
        return (self.text, self.text.rstrip("!")) if self.exclaimed else (self.text,)

    @property
    def strong(self) -> bool:
        """Whether the text itself says that this is its answer."""
        return self.how != "number"


def extract(text: str) -> ExtractedAnswer | None:
    """The final answer that `text` (any string, of any size) states, or None.

    In this order: the last `#### 42`, `\\boxed{...}`, `\\fbox{...}` or `<answer>...</answer>`, whichever comes last;
    the last "the answer is ..", "final answer: ..", or heading "Answer"; a chosen letter; a text that is nothing but an
    answer ("= 12", "It is 12.", "Total: 12"); the last number, if it stands by itself (3 does not in "2/3x", "3 + 5",
    "3 dozen", "3...", "(3, 5)" or a LaTeX formula). All but the last number are strong: the text says that this is the
    answer. What comes before `</think>` is ignored, and so is what follows a mark of the end (`</s>`, `<|im_end|>` and
    their like) or, once there is a strong answer, a line that begins another problem ("Question:", "Q:", "User:"). A
    text that stops inside its last box or tag, after "the answer is", or before `</think>` has no answer, and neither
    has one that takes its last answer back ("\\boxed{5}. Wait, no: 6.") or asks it ("The answer is 5?").
    """
    text = text[-_LAST_CHARACTERS:].translate(_PLAIN)
    text = _CALCULATED.sub("", _RUNS.sub(_shorter, own_words(text)))
    if "<" in text:
        text = _PARAGRAPH.sub("\n", _STYLE.sub("", text))
    text_to_read = _after_thinking(text)
    if text_to_read is None:
        return None
    next_problem = _NEXT_PROBLEM.search(text_to_read) if ":" in text_to_read else None
    if next_problem is not None:
        before = _stated(text_to_read[: next_problem.start()])
        if before is not None and before.text:
            return before
    stated = _stated(text_to_read)
    if stated is not None:
        return stated if stated.text else None
    return _choice(text_to_read) or _yes_or_no(text_to_read) or _whole(text_to_read) or _last_number(text_to_read)


def _stated(text: str) -> ExtractedAnswer | None:
    """The answer that a text marks, or says to be one; with an empty text if it stops there or takes it back."""
    box = last_box(text)
    boxed_at = -1 if box is None else box.start
    tag, tagged_at = _last_tag(text)
    if box is not None and not box.text and boxed_at > tagged_at:
        return ExtractedAnswer("", "boxed")
    marked, marked_at = _last_marker(text)
    if marked is not None and marked_at > max(boxed_at, tagged_at):
        answer, behind = _exclaimed(marked, "marker"), text[marked_at:].partition("\n")[2]
    elif box is not None and boxed_at > tagged_at:
        answer, behind = ExtractedAnswer(_inside(box.text), "boxed"), text[box.end :]
    elif tag is not None:
        answer, behind = tag, _AFTER_TAG.sub("", text[tagged_at:].partition("</")[2], count=1)
    else:
        return _last_phrase(text) or _in_json(text)
    return (_last_phrase(behind) or ExtractedAnswer("", answer.how)) if retracted(answer.text, behind) else answer


def _inside(box: str) -> str:
    """The content of a box, or the answer that a sentence in it states."""
    if "nswer" not in box:
        return box[: _LONGEST_ANSWER + 1]
    stated = _last_phrase(_TEXT.sub(r"\1", box))
    return stated.text if stated is not None and stated.text else box[: _LONGEST_ANSWER + 1]


def _in_json(text: str) -> ExtractedAnswer | None:
    """The value of a key "answer"."""
    last = last_match(_JSON, text) if "nswer" in text else None
    return None if last is None else ExtractedAnswer((last[1] or last[2]).strip(), "phrase")


def reference_answer(solution: str) -> str | None:
    """The answer marked in a dataset's own solution, or None.

    A marker, a box, a chosen letter, or "the answer is" in the last line; in the middle of a solution, that may be
    the answer of a step. Never the last number, nor a bare equation, nor "the answer is 5!", which may be 5 or 120.
    """
    solution = own_words(solution)
    answer = extract(solution)
    box = last_box(solution)
    if box is not None and not box.text:  # part of something larger: the author meant what is in it
        box = last_box(solution, alone=True)
    if (
        box is not None
        and box.text
        and (answer.how == "boxed" if answer else not retracted(box.text, solution[box.end :]))
    ):
        return _inside(box.text)  # boxes that are not joined are of steps
    if answer is None or answer.how in ("whole", "number") or (answer.how == "phrase" and answer.exclaimed):
        return None
    lines = solution.strip().splitlines()
    last = extract("\n".join(lines[-2:])) if lines[-2:] and _HEADED.search(lines[-2:][0]) else extract(lines[-1])
    return answer.text if answer.how != "phrase" or last == answer else None


def _shorter(run: re.Match[str]) -> str:
    return "\n\n" if "\n" in run[0] else run[1] * 4


def _after_thinking(text: str) -> str | None:
    _, closed, after = text.rpartition("</think>")
    return after if closed or "<think>" not in text else None


def _last_marker(text: str) -> tuple[str | None, int]:
    """The text after the last `####` that is not a Markdown heading, and its position."""
    if "####" not in text:
        return None, -1
    end = len(text.rstrip())
    for marker in reversed(list(_MARKER.finditer(text))):
        if text[marker.start() - 1 : marker.start()] == "#":
            continue
        answer = _CLOSING_TAG.sub("", marker[1]).strip()
        closing = marker.end() >= end
        if _HEADING.fullmatch(answer) and not (closing and answer[:-1].isdigit()):
            continue
        if "\\boxed" in answer or "\\fbox" in answer:
            continue
        if answer and (closing or plain_number(answer[: _LONGEST_ANSWER + 1]) is not None):
            return answer, marker.start()
    return None, -1


def _last_phrase(text: str) -> ExtractedAnswer | None:
    """The text after the last "answer is" that is not denied; empty if nothing follows, or if every one is."""
    phrases = deque(_PHRASE.finditer(text), maxlen=_MOST_PHRASES)
    if not phrases:
        return None
    last = next(
        (phrase for phrase in reversed(phrases) if not denied(text[max(0, phrase.start() - 80) : phrase.start()])), None
    )
    if last is None:
        return ExtractedAnswer("", "phrase")
    rest = text[last.end() :]
    if "\n" in last[0] and rest.startswith("- "):  # a list item, or a minus sign
        return ExtractedAnswer("", "phrase")
    math = _MATH.match(rest)
    partial = math is not None and goes_on(rest[math.end() :])
    if math is not None and not partial:
        inside = next(group for group in math.groups() if group is not None)
        if math["d"] is None or _MONEY.match(inside) is None:
            behind = rest[math.end() :]
            return ExtractedAnswer("" if retracted(inside, behind) else inside.strip(), "phrase")
    end = _SENTENCE_END.search(rest)
    closing = len(end[0]) if end and end[0][0] == "!" else 0
    answer = (rest[: end.start() + closing] if end else rest).strip().rstrip("*_ ")
    if end is not None and (end[0] == "?" or retracted(answer, rest[end.start() :])):
        return ExtractedAnswer("", "phrase")
    if partial:
        answer = _DOLLARS.sub("", answer)
    if last[0].rstrip().endswith("**"):
        answer = answer.replace("**", "", 1)
    answer = _REASON.split(answer, maxsplit=1)[0].rstrip("*_ ")
    if _is_prose(answer):
        # "The answer is that 5 of them are left" contains a number, but not as its answer.
        return ExtractedAnswer("", "phrase") if denies(answer) else _last_number(answer)
    return _exclaimed(answer, "phrase")


def _exclaimed(answer: str, how: How) -> ExtractedAnswer:
    """An answer in a sentence, without an exclamation mark that can only belong to the sentence."""
    bare = answer.rstrip("!")
    if bare == answer:
        return ExtractedAnswer(answer, how)
    if _FACTORIAL.fullmatch(answer, max(0, len(bare) - 1)):
        return ExtractedAnswer(answer, how, exclaimed=True)
    return ExtractedAnswer(bare.rstrip("*_ "), how)


def _last_tag(text: str) -> tuple[ExtractedAnswer | None, int]:
    """Content of the last <answer>, and its position; an empty text if it is cut off or empty."""
    last = last_match(_TAG, text) if "<" in text else None
    if last is None:
        return None, -1
    if not last[0].endswith(">"):
        return ExtractedAnswer("", "tag"), last.start()
    inside = last[2].lower().rpartition("answer>")[2]
    inside = last[2][len(last[2]) - len(inside) :].strip()
    answer = _stated(inside) or _choice(inside) or _whole(inside)
    if answer is None and _is_prose(inside):
        answer = _last_number(inside)
    return ExtractedAnswer((answer.text if answer else inside)[: _LONGEST_ANSWER + 1], "tag"), last.start()


def _is_prose(text: str) -> bool:
    wordy = len(_WORD.findall(text)) > 3 or _CLAUSE.search(text) is not None
    return wordy and plain_number(text[: _LONGEST_ANSWER + 1]) is None and in_digits(text) is None


def _choice(text: str) -> ExtractedAnswer | None:
    last = last_match(_CHOSEN, text)
    if last is None or denied(text[max(0, last.start() - 80) : last.start()]):
        return None
    return ExtractedAnswer(next(letter for letter in last.groups() if letter), "choice")


def _yes_or_no(text: str) -> ExtractedAnswer | None:
    """The "yes" or "no" that begins a text."""
    match = _YES_OR_NO.match(text)
    return None if match is None or any(map(str.isdigit, text)) else ExtractedAnswer(match[1], "choice")


def _whole(text: str) -> ExtractedAnswer | None:
    line = text.strip()
    if not line or "\n" in line or len(line) > _LONGEST_WHOLE:
        return None
    if _FOREIGN.search(line) and any(map(str.isdigit, line)):
        return None
    line = _right_side(_LABEL.sub("", _LEAD.sub("", line, count=1) if _LEAD.match(line) else line, count=1))
    words = len(_WORD.findall(line))
    is_answer_only = words <= (1 if any(map(str.isdigit, line)) else 3) and not (words and "=" in line)
    is_answer_only |= plain_number(line) is not None
    return _exclaimed(line, "whole") if line and is_answer_only else None


def _right_side(line: str) -> str:
    """The last side of a calculation, "3 + 4 = 7" or "x = 3 + 4 = 7"; an equation in variables unchanged."""
    first_side, *later_sides = _TIMES.sub("*", line).split("=")
    sides = [first_side, *later_sides[:-1]]
    if not later_sides or any(map(_NO_SIDE.search, sides)) or any(map(_LISTS.search, sides[1:])):
        return line
    defines = later_sides[1:] and _VARIABLE.fullmatch(first_side.strip()) is not None
    if any(_VARIABLE.search(side) for side in (sides[1:] if defines else sides)):
        return line
    return line.rpartition("=")[2].strip()


def _last_number(text: str) -> ExtractedAnswer | None:
    number = last_number(text)
    return None if number is None else ExtractedAnswer(number, "number")
