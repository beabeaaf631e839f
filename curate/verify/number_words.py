"""Numbers that are written in English words, whole or in part: "five", "minus 5", "2 dozen", "three quarters"."""

from __future__ import annotations

import re
from fractions import Fraction

_SMALL = {
    word: number
    for number, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        ]
    )
}
_TENS = {
    word: 10 * number
    for number, word in enumerate(
        ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], start=2
    )
}
_LARGE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8}
_PARTS |= {"ninth": 9, "tenth": 10, "hundredth": 100, "thousandth": 1000}
_PLURALS = {word + "s": number for word, number in _PARTS.items() if word != "half"} | {"halves": 2}
_WORDS = {*_SMALL, *_TENS, *_LARGE, *_PARTS, *_PLURALS, "hundred", "dozen", "a", "an", "and", "minus", "negative"}
_TOKEN = re.compile(r"[A-Za-z]+|\d+(?:\.\d+)?(?:/\d+)?")
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:/[1-9]\d*)?")
_MOST_CHARACTERS = 200


def in_digits(text: str) -> str | None:
    """`text` with the number that it begins with in digits: "five apples" becomes "5 apples"; None if it has none.

    Numbers that are digits already are None, and so is what may mean something else ("third", "one of them", "a").
    """
    if len(text) > _MOST_CHARACTERS or not any(char.isalpha() for char in text):
        return None
    words, end = [], 0
    for token in _TOKEN.finditer(text):
        between = text[end : token.start()]
        if between.strip(" -\u2010\u2011") or not (token[0].lower() in _WORDS or _NUMBER.fullmatch(token[0])):
            break
        words.append(token[0].lower())
        end = token.end()
    rest = text[end:]
    if (
        not words
        or all(map(_NUMBER.fullmatch, words))
        or rest[:1].isalnum()
        or rest[:1] in ("-", ".", ",", "'", "_", "^")
    ):
        return None
    value = _signed(words)
    if value is None or any(token.lower() in _WORDS or token[0].isdigit() for token in _TOKEN.findall(rest)):
        return None
    return f"{value}{rest}"


def _signed(words: list[str]) -> Fraction | None:
    if words[0] in ("minus", "negative"):
        value = _value(words[1:])
        return None if value is None else -value
    return _value(words)


def _value(words: list[str]) -> Fraction | None:
    """The number that words mean: whole, a fraction, or whole "and" a fraction."""
    if not words or words[0] == "and" or words[-1] in ("and", "a", "an"):
        return None
    if len(words) == 1 and _NUMBER.fullmatch(words[0]):
        return Fraction(words[0])
    for place, word in enumerate(words):
        if word == "and":
            whole, part = _whole(words[:place]), _part(words[place + 1 :])
            if whole is not None and part is not None and part < 1:
                return whole + part
    part = _part(words)
    return part if part is not None else _whole(words)


def _part(words: list[str]) -> Fraction | None:
    """A fraction: "half", "a third", "three quarters", "1/2"."""
    if words == ["half"]:
        return Fraction(1, 2)
    if len(words) == 1 and "/" in words[0]:
        return Fraction(words[0])
    if len(words) != 2:
        return None
    is_one = words[0] in ("a", "an", "one", "1")
    bottom = (_PARTS if is_one else _PLURALS).get(words[1])
    top = 1 if is_one else _SMALL.get(words[0], int(words[0]) if words[0].isdigit() else None)
    return None if bottom is None or not top else Fraction(top, bottom)


def _whole(words: list[str]) -> Fraction | None:
    """A whole number in words, or digits followed by hundred, dozen, thousand and so on."""
    if len(words) > 1 and words[0] in ("a", "an"):
        words = ["one", *words[1:]]
        if words[1] not in ("hundred", "dozen", *_LARGE):
            return None
    if words[-1:] == ["dozen"]:
        count = _whole(words[:-1]) if words[:-1] else Fraction(1)
        return None if count is None else 12 * count
    total, current, last = Fraction(0), None, None
    largest = 10**15
    for place, word in enumerate(words):
        if word == "and":
            if last not in ("hundred", "large") or place + 1 == len(words):
                return None
            continue
        if word == "hundred":
            if current is None or last not in ("small", "digits") or (last == "small" and current > 19):
                return None
            current, last = current * 100, "hundred"
        elif word in _LARGE:
            if current is None or _LARGE[word] >= largest:
                return None
            total, current, last, largest = total + current * _LARGE[word], None, "large", _LARGE[word]
        elif word in _TENS:
            if last not in (None, "hundred", "large"):
                return None
            current, last = (current or Fraction(0)) + _TENS[word], "tens"
        elif word in _SMALL:
            if last not in (None, "hundred", "large", "tens") or (last == "tens" and not 0 < _SMALL[word] < 10):
                return None
            if last is not None and _SMALL[word] == 0:
                return None
            current, last = (current or Fraction(0)) + _SMALL[word], "small"
        elif _NUMBER.fullmatch(word) and last is None and "/" not in word:
            current, last = Fraction(word), "digits"
        else:
            return None
    if current is None and last != "large":
        return None
    return total + (current or 0)
