"""Normalize the notation of answers: LaTeX spacing, Markdown, Unicode look-alikes, delimiters, trailing full stops."""

from __future__ import annotations

import re

from curate.verify.turns import without_marks

_LOOK_ALIKES = str.maketrans(
    {
        "\u2212": "-",
        "\uff0d": "-",
        "\ufe63": "-",
        "\u2011": "-",
        "\u2010": "-",
        "\u00a0": " ",
        "\u2009": " ",
        "\u202f": " ",
        "\u200b": "",
        "\ufeff": "",
        "\u00d7": r"\times ",
        "\u00b7": r"\cdot ",
        "\u22c5": r"\cdot ",
        "\u03c0": r"\pi ",
        "\u221e": r"\infty ",
        "\u221a": r"\sqrt ",
        "\u2264": r"\le ",
        "\u2265": r"\ge ",
        "\u222a": r"\cup ",
        "\u2205": r"\emptyset ",
        "\u00b0": r"^\circ ",
        "\u2103": r"^\circ C",
        "\u2109": r"^\circ F",
        **{
            char: rf"\frac{{{top}}}{{{bottom}}}"
            for char, top, bottom in zip(
                "\u00bd\u00bc\u00be\u2150\u2151\u2153\u2154\u2155\u2156\u2157\u2158\u2159\u215a\u215b\u215c\u215d\u215e",
                "11311121234151357",
                (2, 4, 4, 7, 9, 3, 3, 5, 5, 5, 5, 6, 6, 8, 8, 8, 8),
                strict=True,
            )
        },
        "\u2026": "...",
        "\uff05": "%",
        **{chr(0xFF10 + digit): str(digit) for digit in range(10)},
    }
)
_RAISED = dict(
    zip("\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207a\u207b", "0123456789+-", strict=True)
)
_SUPERSCRIPT = re.compile(f"[{''.join(_RAISED)}]+")  # all digits of an exponent: 10\u00b2\u00b3 is 10 to the 23rd
# What remains of LaTeX commands that only change the appearance.
_PLAINER = [
    (re.compile(r"\\(?:left|right|displaystyle|textstyle|bf|rm|it|limits|big|Big|bigg|Bigg)(?![A-Za-z])"), ""),
    (re.compile(r"\\(?:text)?color\s*\{[A-Za-z]+\}"), ""),
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\[dt]binom(?![A-Za-z])"), r"\\binom"),
    (re.compile(r"\{\s*([^{}\\]+?)\s*\\choose(?![A-Za-z])\s*([^{}\\]+?)\s*\}"), r"\\binom{\1}{\2}"),
    (
        re.compile(
            r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf|tt|cal|normal)|boldsymbol|bm|pmb|mbox|hbox"
            r"|operatorname|underline|uline)\s*\{([^{}]*)\}"
        ),
        r" \1 ",
    ),
    (re.compile(r"(?<=\d)\s*(?:\{,\}|\\!,|,\\!|\\,(?=\d{3}))\s*(?=\d)"), ","),
    (re.compile(r"(?<!\\)\\[!,;: ]|\\q?quad(?![A-Za-z])|(?<!\\)~"), " "),
    (re.compile(r"\\([%$#&])"), r"\1"),
    (re.compile(r"\^\s*\{?\s*\\circ\s*\}?"), " degrees "),
    (re.compile(r"\\(?:degree|textdegree)s?(?![A-Za-z])"), " degrees "),
    (re.compile(r"degrees\s+C(?![A-Za-z])"), "degrees celsius"),
    (re.compile(r"degrees\s+F(?![A-Za-z])"), "degrees fahrenheit"),
    (re.compile(r"\\varnothing(?![A-Za-z])"), r"\\emptyset"),
    (re.compile(r"(?<=\d)\s*\\Omega(?![A-Za-z])"), " ohms"),
    (re.compile(r"\\log\s*_\s*(\d)"), r"\\log_{\1}"),
    (re.compile(r"\\sqrt\s*(\d+|[a-zA-Z])"), r"\\sqrt{\1}"),
    (re.compile(r"\\lg(?![A-Za-z])(?!\s*_)"), r"\\log_{10}"),
]
_OF_TWO = re.compile(r"\\(?:frac|binom)(?![A-Za-z])")
_ARGUMENT = re.compile(r"\s*([{0-9A-Za-z]|\\(?:pi|alpha|beta|theta)(?![A-Za-z]))")
_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))
_QUOTES = (('"', '"'), ("\u201c", "\u201d"), ("\u00ab", "\u00bb"))
# Thousands with separators.
_GROUPS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_MAYBE_GROUPS = re.compile(r"(?<![\d.])\d{1,3}(?:,\d{3})+(?!\d)")
_SEPARATOR = re.compile(r", |;| and ")
_SPACES = re.compile(r"\s+")
_OPENING, _CLOSING = "([{", ")]}"


def clean(text: str) -> str:
    """`text` without everything that does not change its meaning; one line, single spaces."""
    text = text.strip()
    if text.isascii() and text.isalnum():
        return text
    text = _SPACES.sub(" ", without_marks(text).translate(_LOOK_ALIKES)).strip()
    text = _SUPERSCRIPT.sub(lambda match: "^{" + "".join(map(_RAISED.__getitem__, match[0])) + "}", text)
    text = unwrap(text)
    if "\\" in text or "{" in text:
        for pattern, plainer in _PLAINER:
            text = pattern.sub(plainer, text)
        text = unwrap(_SPACES.sub(" ", _with_braces(text)).strip())
    return text


def _with_braces(text: str) -> str:
    r"""`text` with braces around both arguments of fractions and binomials, which TeX lets one leave out: \frac12."""
    place = 0
    while (match := _OF_TWO.search(text, place)) is not None:
        place = end = match.end()
        for _ in range(2):
            argument = _ARGUMENT.match(text, end)
            if argument is None:
                break
            if argument[1] == "{":
                inside = braced(text, argument.start(1))
                if inside is None:
                    return text
                end = inside[1]
            else:
                text = f"{text[: argument.start()]}{{{argument[1]}}}{text[argument.end() :]}"
                end = argument.start() + len(argument[1]) + 2
    return text


def unwrap(text: str) -> str:
    """`text` without enclosing Markdown emphasis, math delimiters and full stop."""
    while True:
        before = text
        text = text.strip()
        # Two or more full stops are an ellipsis.
        if text.endswith((".", ",", ";", ":")) and not text.endswith(".."):
            text = text[:-1].rstrip()
        if text.endswith("\\"):  # it belongs to a LaTeX space or line break
            text = text.rstrip("\\ ")
        for mark in ("**", "__", "`", "*", "_"):
            if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark):
                text = text[len(mark) : -len(mark)]
        for left, right in _QUOTES:
            if len(text) > 2 and text[0] == left and text[-1] == right and not {left, right} & {*text[1:-1]}:
                text = text[1:-1]
        for left, right in _DELIMITERS:
            inner = text[len(left) : -len(right)]
            if inner and text.startswith(left) and text.endswith(right) and left not in inner and right not in inner:
                text = inner
        for box in ("\\boxed", "\\fbox"):
            if text.startswith(box + "{") and braced(text, len(box)) == (text[len(box) + 1 : -1], len(text)):
                text = text[len(box) + 1 : -1]
        if text == before:
            return text


def braced(text: str, start: int) -> tuple[str, int] | None:
    """The text between the brace at `start` and its partner, and the position after that; None if it is unbalanced."""
    depth = 0
    index = start
    while index < len(text):
        char = text[index]
        if char == "\\":
            index += 2
            continue
        if char == "{":
            depth += 1
        elif char == "}":
            depth -= 1
            if depth == 0:
                return text[start + 1 : index], index + 1
        index += 1
    return None


def split_top(text: str) -> list[str] | None:
    """The parts of a list: `text` split at commas, semicolons and the word "and" outside of brackets.

    Brackets close in any shape, as in half-open intervals. None if they are unbalanced.
    """
    depth, parts, part_start, index = 0, [], 0, 0
    groups = [match.span() for match in _GROUPS.finditer(text)]
    while index < len(text):
        char = text[index]
        if char in _OPENING:
            depth += 1
        elif char in _CLOSING:
            depth -= 1
            if depth < 0:
                return None
        elif depth == 0:
            size = 1 if char in ",;" else 5 if text.startswith(" and ", index) else 0
            if size and not (char == "," and any(begin < index < end for begin, end in groups)):
                parts.append(text[part_start:index])
                part_start = index + size
                index = part_start
                continue
        index += 1
    if depth:
        return None
    parts.append(text[part_start:])
    parts = [part.strip() for part in parts]
    # "a, b, and c": the comma before "and" leaves an empty part.
    return [part for part in parts if part] if all(parts[:1] + parts[-1:]) else None


def join_thousands(text: str) -> str:
    """`text` without the commas that separate thousands."""
    return _GROUPS.sub(lambda match: match[0].replace(",", ""), text)


def with_other_commas(text: str) -> str:
    """A list with its commas read the other way, if they may be meant so.

    In {1,720} the comma may separate thousands (the default reading) or elements. With
    other separators, as in {10,000, 20,000}, commas separate thousands, though some are read as separating elements.
    """
    new = "" if _SEPARATOR.search(text) else ", "
    return _MAYBE_GROUPS.sub(lambda match: match[0].replace(",", new), text)
