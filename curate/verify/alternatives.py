"""Other ways to read an answer that is not found the same as it is written: "five", 1 234 567, ]2,5[, x=1 or x=2."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from curate.verify.number_words import in_digits
from curate.verify.numbers import plain_number

_MOST_CHARACTERS = 300

# Thousands with separators other than commas in groups of three, as they are written in many countries.
_NOT_WITHIN = r"(?<![\d.,'\u2019_])(?<![\d,.] )"
_GROUPED = re.compile(
    rf"""{_NOT_WITHIN}(?:\d{{1,3}}(?:\ \d{{3}})+(?:[.,]\d+)? | \d{{1,3}}(?:['\u2019]\d{{3}})+(?:[.,]\d+)?
      | \d{{1,3}}(?:_\d{{3}})+(?:\.\d+)? | \d{{1,2}}(?:,\d{{2}})+,\d{{3}}(?:\.\d+)?
      | \d{{1,3}}(?:\.\d{{3}}){{2,}}(?:,\d+)? | \d{{1,3}}(?:\.\d{{3}})+,\d{{1,2}}) (?![\d.,'\u2019_]?\d|\ \d)""",
    re.VERBOSE | re.ASCII,
)
_IN_BRACKETS = re.compile(r"(.+?)\s*[(\[](.+)[)\]]", re.DOTALL)
_PLUS_MINUS = re.compile(r"\\(pm|mp)(?![A-Za-z])|\u00b1|\+/-")
_OR = re.compile(r"\s+or\s+|\s*\\(?:lor|vee)(?![A-Za-z])\s*")
_AND = re.compile(r",?\s+and\s+|\s*\\(?:land|wedge)(?![A-Za-z])\s*")
_ASSIGNS = re.compile(r"[A-Za-z](?:_\{?\w\}?)?\s*=[^=<>]+")
_COMPARES = re.compile(r"[<>]|\\(?:[lg]eq?(?:slant)?|lt|gt)(?![A-Za-z])")
_BUILT = re.compile(
    r"\\?\{\s*([A-Za-z])\s*(?:\\in\s*\\mathbb\s*\{?\s*R\s*\}?\s*)?(?:\||:|\\mid|\\vert)(?![A-Za-z])\s*(.+?)\s*\\?\}",
    re.DOTALL,
)
_TURNED = re.compile(r"([\][])([^][(){},;]+[,;][^][(){},;]+)([\][])")
_REVERSED = re.compile(r"([-+\d.,/]+|\\frac\{-?\d+\}\{\d+\})\s*=\s*([A-Za-z])")
_ABOUT = re.compile(r"(?:[A-Za-z]\s*)?(?:\\approx(?![A-Za-z])|\u2248)\s*(-?\d*\.\d+.*)", re.DOTALL)
_RATIO = re.compile(r"(\d+)\s*(?:to|:)\s*(\d+)(?:\s*(?:to|:)\s*(\d+))?")
_CLASS = re.compile(
    r"(?:[a-z]\s*\\equiv(?![a-z])\s*)?(-?\d+)\s*\(?\s*\\?[bp]?mod(?![a-z])\s*\{?\s*(\d+)\s*\}?\s*\)?", re.ASCII
)
_NAMED = re.compile(
    r"(?:m?\s*\\(?:angle|measuredangle|triangle)\s*[A-Z]{1,4}|\\?\|\s*[A-Z]{2}\s*\\?\||\\overline\s*\{?[A-Z]{2}\}?"
    r"|[a-zA-Z]'{1,3}\([a-z0-9]+\)|\\lim(?:_\{[^{}]*\})?(?:\s*[a-z]\([a-z]\))?)\s*=\s*([^=]+)"
)
_LETTERS = re.compile(r"\(?[A-J]\)?(?:(?:\s*[,;&]\s*|,?\s+and\s+)\(?[A-J]\)?)+")
_JOINED_LETTERS = re.compile(r"[A-J]{2,10}")


def alternatives(text: str) -> Iterator[str]:
    """Other readings of a cleaned answer.

    Such a reading can only show that two answers are the same, never that they differ.
    """
    if len(text) > _MOST_CHARACTERS:
        return
    for reading in (
        in_digits(text),
        _in_brackets(text),
        _grouped(text),
        _both_signs(text),
        _relation(text),
        _renamed(text),
    ):
        if reading is not None and reading != text:
            yield reading


def _in_brackets(text: str) -> str | None:
    """ "12" for "12 (twelve)" and "twelve (12)"."""
    parts = _IN_BRACKETS.fullmatch(text)
    if parts is None:
        return None
    first, second = (plain_number(in_digits(part) or part) for part in parts.groups())
    same = first is not None and second is not None and first.value == second.value
    return (in_digits(parts[1]) or parts[1]) if same else None


def _grouped(text: str) -> str | None:
    return _GROUPED.sub(_joined, text) if _GROUPED.search(text) else None


def _joined(match: re.Match[str]) -> str:
    number = match[0]
    comma = re.search(r",(\d{1,2})\Z", number) if number.count(",") == 1 else None
    if comma is not None:
        return re.sub(r"[ .'\u2019]", "", number[: comma.start()]) + "." + comma[1]
    whole, point, places = number, "", ""
    if number.count(".") == 1 and not re.fullmatch(r"\d{1,3}\.\d{3}", number):
        whole, point, places = number.partition(".")
    return re.sub(r"[ .,_'\u2019]", "", whole) + point + places


def _both_signs(text: str) -> str | None:
    """A list of two for what contains plus-minus signs."""
    if not _PLUS_MINUS.search(text) or "," in text:
        return None
    plus, minus = (_PLUS_MINUS.sub(partial(_sign, upper), text) for upper in "+-")
    return ", ".join(re.sub(r"(\A|[=({])\s*\+", r"\1", reading) for reading in (plus, minus))


def _sign(upper: str, sign: re.Match[str]) -> str:
    """The sign for a plus-minus, or the other one for a minus-plus."""
    return upper if sign[1] != "mp" else "+-".replace(upper, "")


def _relation(text: str) -> str | None:
    """Equations with "or" as a list; intervals and sets in the notations of other countries and of set builders."""
    turned = _TURNED.fullmatch(text)
    if turned is not None and (turned[1], turned[3]) != ("[", "]"):
        return f"{'(' if turned[1] == ']' else '['}{turned[2]}{')' if turned[3] == '[' else ']'}"
    built = _BUILT.fullmatch(text)
    if built is not None:
        return built[2] if _COMPARES.search(built[2]) and built[1] in built[2] else None
    for joint, sign in ((_OR, r" \lor "), (_AND, r" \land ")):
        parts = joint.split(text)
        if len(parts) > 1 and all(map(_ASSIGNS.fullmatch, parts)) and sign == r" \lor ":
            return ", ".join(parts) if len({part.partition("=")[0].strip() for part in parts}) == 1 else None
        if len(parts) > 1 and all(map(_COMPARES.search, parts)):
            joined = sign.join(parts)
            return joined if joined != text else None
    return None


def _renamed(text: str) -> str | None:
    """An answer without what only names it, or in another order."""
    for pattern in (_REVERSED, _ABOUT, _NAMED):
        match = pattern.fullmatch(text)
        if match is not None:
            return f"{match[2]} = {match[1]}" if pattern is _REVERSED else match[1]
    ratio, residue = _RATIO.fullmatch(text), _CLASS.fullmatch(text)
    if ratio is not None:
        return ":".join(part for part in ratio.groups() if part)
    if residue is not None and int(residue[2]):
        plain = r"\equiv" not in text and r"\pmod" not in text and "(" not in text
        return str(int(residue[1]) % int(residue[2])) if plain else None
    if _LETTERS.fullmatch(text):
        return ", ".join(re.findall("[A-J]", text))
    if _JOINED_LETTERS.fullmatch(text) and sorted(set(text)) == list(text):
        return ", ".join(text)
    return None


def residue_class(text: str) -> tuple[int, int] | None:
    """Residue and modulus of x = 5 (mod 7), or None."""
    match = _CLASS.fullmatch(text)
    return None if match is None or not int(match[2]) else (int(match[1]) % int(match[2]), int(match[2]))
