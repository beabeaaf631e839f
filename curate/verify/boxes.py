"""Find boxed answers, and what around a box makes it part of something larger: -\\boxed{7}, \\boxed{7}/8."""

from __future__ import annotations

import re
from collections import deque
from typing import NamedTuple

from curate.verify.normalization import braced

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:(?P<brace>\{)|(?P<bare>[A-Za-z0-9]+|\\[A-Za-z]+(?:\{[^{}]*\})*))?")
_INNER = re.compile(r"\\(?:boxed|fbox)\s*\{([^{}]*)\}")
# Only so many boxes at the end of a text are read.
_MOST_BOXES = 16
_DELIMITERS = re.compile(r"(?<!\\)\$|\\[()\[\]]|\\(?:q?quad|[,;:! ])|\s")
_WRAPPED = re.compile(r"\\(?:text|mbox|mathrm|textrm)\s*\{\s*(and|or)\s*\}")
_JOINED = re.compile(r"(?:,|;|&|,?and|,?or)(?:[A-Za-z](?:_\{?\w\}?)?=)?")
_PART_BEFORE = re.compile(
    r"(?:\d|\d\.|[\w)}]\s?[*/^_]\{?|\\(?:cdot|times|div|pm|mp)\s*|\\sqrt(?:\[[^\]]*\])?\s*\{?"
    r"|\\[dt]?frac\s*\{|\\[dt]?frac\s*\{[^{}]*\}\s*\{)\Z"
)
_NOT_BEFORE = re.compile(r"\b(?:is|are|was|be) (?:not|never)\s*\Z|(?:\bnot|n['\u2019]t)\s*\Z", re.IGNORECASE)
_MINUS = re.compile(r"(?:\A|[^\w)}\]\s*-]\s*|\s)-\Z")
# A factor behind a box is none of it: of \\boxed{19}x^3 the coefficient is asked.
_PART_AFTER = re.compile(
    r"\d|\^\{?\s*[\w-]|[.,]\d|\s?[-+*/]\s?\$?\d|\s?/\s?[\w(\\]|\s*\\(?:cdot|times|div)\s*\d|\s+or\s+(?:\$|\\\()?-?\d|\s+(?:tens|dozen|hundred|thousand|[mbtr]+illion|lakh|crore)\b"
)
_SIGNED = re.compile(r"[\w.,]+(?:\\%)?|\\[dt]?frac.*|\\sqrt\{[^{}]*\}", re.DOTALL)
_BULLET = re.compile(r"(?:\A|\n)\s*[-*]\s+\Z")


class Box(NamedTuple):
    """A box: what it says, and where it starts and ends. "" if it is cut off, empty, or part of something larger."""

    text: str
    start: int
    end: int


def last_box(text: str, *, alone: bool = False) -> Box | None:
    """The last box of `text`, outermost first; boxes joined by commas, "and" or "or" are one set.

    alone: whether the last box counts without what stands around it.
    """
    boxes = _boxes(text)
    if not boxes or alone:
        return boxes[-1] if boxes else None
    group = [boxes[-1]]
    for box in reversed(boxes[:-1]):
        between = text[box.end : group[0].start]
        joint = _DELIMITERS.sub("", _WRAPPED.sub(r"\1", between)) if len(between) < 60 else between
        if "\n" in between.strip() or not _JOINED.fullmatch(joint):
            if not joint and "\n" not in between and box.text != group[0].text:
                return Box("", group[0].start, group[-1].end)
            break
        group.insert(0, box)
    first, last = group[0], group[-1]
    if len(group) == 1:
        return Box(_in_context(text, last), last.start, last.end)
    parts = [box.text for box in group]
    content = (
        r"\{" + ", ".join(parts) + r"\}" if all(parts) and len(set(parts)) > 1 else parts[-1] if all(parts) else ""
    )
    return Box(content, first.start, last.end)


def _boxes(text: str) -> list[Box]:
    boxes: list[Box] = []
    for match in deque(_BOX.finditer(text), maxlen=_MOST_BOXES):
        if boxes and match.start() < boxes[-1].end:
            continue  # inside another box
        if match["brace"] is None:
            boxes.append(Box(match["bare"] or "", match.start(), match.end()))
            continue
        inside = braced(text, match.start("brace"))
        if inside is None:
            boxes.append(Box("", match.start(), match.end()))
        else:
            boxes.append(Box(_INNER.sub(r"\1", inside[0]).strip(), match.start(), inside[1]))
    return boxes


def _in_context(text: str, box: Box) -> str:
    """The text of a box with a sign or a percent sign outside of it; "" if it is part of something larger."""
    before = re.sub(r"(?:(?<!\\)\$|\\[(\[])\s*\Z", "", text[max(0, box.start - 80) : box.start])
    after = text[box.end : box.end + 60]
    behind = re.sub(r"\A\s*(?:\$|\\[)\]])", "", after)
    if behind.lstrip().startswith("="):  # a blank that is filled: 2 + \boxed{5} = 7
        return box.text
    if _NOT_BEFORE.search(before) or _PART_BEFORE.search(before) or _PART_AFTER.match(behind):
        return ""
    content = box.text
    if not content or not before.endswith("-") or _BULLET.search(before):
        return content
    if _MINUS.search(before) is None:
        return ""
    return f"-{content}" if _SIGNED.fullmatch(content) else f"-({content})"
