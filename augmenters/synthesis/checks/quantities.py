"""Parse numbers and equations in problems and solutions exactly, and only if they are plain."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

_WORDS = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11,
    "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18,
    "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80,
    "ninety": 90, "hundred": 100, "thousand": 1000, "million": 10**6, "dozen": 12, "twice": 2, "double": 2,
    "doubles": 2, "doubled": 2, "both": 2, "pair": 2, "half": 2, "thrice": 3, "triple": 3, "triples": 3, "tripled": 3,
    "third": 3, "thirds": 3, "quarter": 4, "quarters": 4, "fourth": 4, "fourths": 4, "quadruple": 4, "fifth": 5,
    "fifths": 5, "sixth": 6, "sixths": 6, "seventh": 7, "eighth": 8, "eighths": 8, "ninth": 9, "tenth": 10,
    "tenths": 10,
}  # fmt: skip
# Constants that a solution may use without being told, if a word is in the problem or the solution.
_CONSTANTS = {
    "second": (60, 3600), "minute": (60, 3600), "hour": (24, 60, 3600), "day": (7, 24, 30, 365), "week": (7, 52),
    "weekend": (2,), "month": (12, 30, 52), "year": (12, 52, 365), "decade": (10,), "centur": (100,), "dozen": (12,),
    "cent": (100,), "penn": (100,), "dime": (10,), "nickel": (5,), "quarter": (4, 25), "dollar": (100,), "feet": (12,),
    "foot": (12,), "inch": (12,), "yard": (3, 36), "pound": (16,), "ounce": (16,), "mile": (5280,), "gallon": (4,),
    "kilo": (1000,), "km": (1000,), "gram": (1000,), "liter": (1000,), "litre": (1000,), "meter": (100, 1000),
    "metre": (100, 1000), "cm": (100, 10), "square": (4,), "rectang": (2, 4), "triang": (3, 2), "cube": (6, 12),
    "circle": (Fraction(314, 100), Fraction(22, 7)), "average": (2,), "percent": (100,), "%": (100,), "leg": (2, 4),
    "degree": (90, 180, 360), "angle": (90, 180, 360), "probab": (6, 2),
}  # fmt: skip
_ALWAYS = (0, 1, 2, 100)

_DIGITS = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|(?<![\w.])\.\d+"
_NUMBER = re.compile(rf"(?<![\w.:])(?:{_DIGITS})(?!\.?\d|:\d|st\b|nd\b|rd\b|th\b)")
_BULLET = re.compile(r"^[ \t]*(?:[-*\u2022][ \t]+|#*[ \t]*\(?\d{1,2}[.)][ \t]+|#*[ \t]*[Ss]tep \d+[.:]?)", re.MULTILINE)
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_TEXT = re.compile(r"\\(?:text|mathrm|mathbf|textbf|operatorname|boxed)\s*\{([^{}]*)\}")
_REWRITTEN = (
    (re.compile(r"<<[^<>\n]{0,200}>>"), ""),  # calculator annotations as in GSM8K
    (re.compile(r"\{,\}|\\,(?=\d{3})"), ","),
    (re.compile(r"\\times|\\cdot|\\ast|[\u00d7\u00b7\u22c5\u2217]"), " * "),
    (re.compile(r"\\div|\u00f7"), " / "),
    (re.compile(r"[\u2212\u2013]"), "-"),
    (re.compile(r"\\approx|\u2248|\\Rightarrow|==|&="), "="),
    (re.compile(r"\\left|\\right|\\[()\[\]!,;:]|\\quad|\*\*|[$\u00a3\u20ac\u00a5`]|\\(?=%)"), " "),
    (re.compile(r"[\[{]"), "("),
    (re.compile(r"[\]}]"), ")"),
    (re.compile(r"/\s*(?=[A-Za-z])"), " per "),
    (re.compile(r"(?<=[\d)%])\s*[xX]\s*(?=[\d(.])|\bx\b(?=\s*[\d(.])"), " * "),
    (re.compile(r"(%|\d/\d+)\s+of(?:\s+the)?\s+(?=[\d(])"), r"\1 * "),
)
_BOUNDARY = re.compile(r"\n|(?<!\d)[.;:](?=\s|$)|(?<=\d)[.;:](?=\s|$)|,\s|!|\?|\bso\b|\band\b")
_SENTENCE = re.compile(r"\n|(?<=[\w)%\]}])[.!?](?=\s|$)")
_TOKEN = re.compile(rf"(?P<n>{_DIGITS})(?P<p>\s*%)?|(?P<o>[-+*/^()])|(?P<w>[A-Za-z\\]+)|(?P<x>\S)")
_MOST_TOKENS = 60  # in an expression
_UNIT_LETTERS = frozenset("mgsLhl")


@dataclass(frozen=True)
class Operand:
    """A number in an equation: its value, digits after the point, and whether a percent sign follows."""

    value: Fraction
    decimals: int = 0
    percent: bool = False

    @property
    def readings(self) -> tuple[Fraction, ...]:
        """Values it may mean: 20 % is 20 or 0.2."""
        return (self.value, self.value / 100) if self.percent else (self.value,)


@dataclass(frozen=True)
class Equation:
    """An equation left = right, at least one side of which calculates. operands: numbers it calculates with; result:
    the right side; left: tokens of the left side."""

    operands: tuple[Operand, ...]
    result: Operand
    holds: bool
    left: tuple[str, ...]


class _Unreadable(Exception):
    pass


def numbers(text: str) -> list[Fraction]:
    """The numbers written in digits, in order, without times of day, ordinals and list markers."""
    plain = _BULLET.sub(" ", rewritten(text))
    return [_fraction(number[0]) for number in _NUMBER.finditer(plain)]


def number_words(text: str) -> set[Fraction]:
    """The numbers written in words: for "twice", "a third" and "dozen" 2, 3 and 12."""
    return {Fraction(_WORDS[word]) for word in re.findall(r"[a-z]+", text.lower()) if word in _WORDS}


def constants(text: str) -> set[Fraction]:
    """Constants that a reader knows: 60 if minutes are mentioned, 7 with weeks; 0, 1, 2 and 100 always."""
    low = text.lower()
    return {Fraction(number) for word, numbers_of in _CONSTANTS.items() if word in low for number in numbers_of} | {
        Fraction(number) for number in _ALWAYS
    }


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text, without list markers."""
    return [part for part in _SENTENCE.split(_BULLET.sub(" ", rewritten(text))) if part.strip()]


def equations(text: str) -> list[Equation]:
    """The equations between plain numbers in a text, in order; those with variables are skipped."""
    return list(_equations(_BULLET.sub(" ", rewritten(text))))


def rewritten(text: str) -> str:
    """The text with LaTeX and other arithmetic signs as plain characters."""
    for _ in range(3):
        text = _FRACTION.sub(r"((\1)/(\2))", text)
        text = _TEXT.sub(r" \1 ", text)
    for pattern, replacement in _REWRITTEN:
        text = pattern.sub(replacement, text)
    return text


def _equations(plain: str) -> Iterator[Equation]:
    for segment in _BOUNDARY.split(plain):
        sides = segment.split("=")
        tokens = [_tokens(side) for side in sides]
        for left, right in pairwise(tokens):
            first, second = _longest(left, suffix=True), _longest(right, suffix=False)
            if first is None or second is None:
                continue
            (value, operands, words), (second_result, other_operands, _) = first, second
            if len(operands) + len(other_operands) < 3:
                continue  # "1 hour = 60 minutes" calculates nothing
            if len(other_operands) == 1:
                yield Equation(tuple(operands), other_operands[0], _same(value, other_operands[0]), words)
            else:
                yield Equation((*operands, *other_operands), Operand(second_result), value == second_result, words)


def _same(value: Fraction, stated: Operand) -> bool:
    """Whether a calculated value equals the stated one, exactly, rounded or as a percentage."""
    slack = Fraction(1, 2 * 10**stated.decimals) if stated.decimals else Fraction(0)
    if value.denominator > 1 and not stated.decimals:
        slack = Fraction(1, 2)  # rounded to a whole number
    return any(abs(value - reading) <= slack for reading in (*stated.readings, stated.value / 100, stated.value * 100))


Token = tuple[str, str, bool]  # kind "n", "o", "w" or "x"; text; percent


def _tokens(side: str) -> list[Token]:
    tokens: list[Token] = []
    end = 0
    for match in _TOKEN.finditer(side):
        kind = str(match.lastgroup if match.lastgroup != "p" else "n")
        word = match["w"]
        if word and len(word) == 1 and word.lower() != "a":
            # A single letter is a variable, unless it is a unit directly after a number.
            kind = "w" if match.start() == end and word in _UNIT_LETTERS and tokens and tokens[-1][0] == "n" else "x"
        text = match["n"] or match[0]
        tokens.append((kind, text, bool(match["p"])))
        end = match.end()
    return tokens


def _longest(tokens: list[Token], *, suffix: bool) -> tuple[Fraction, list[Operand], tuple[str, ...]] | None:
    """The longest expression at the end (or beginning) of a side: (value, operands, tokens); None if there is none."""
    tokens = tokens[-_MOST_TOKENS:] if suffix else tokens[:_MOST_TOKENS]
    places = range(len(tokens)) if suffix else range(len(tokens), 0, -1)
    for place in places:
        part = tokens[place:] if suffix else tokens[:place]
        edge = part[0] if suffix else part[-1]
        if edge[0] == "w" or any(kind == "x" for kind, _, _ in part):
            continue
        if suffix and edge[:2] == ("o", "-") and len(part) > 2:
            continue  # a dash before the first number is not a sign
        plain = [token for token in part if token[0] != "w"]
        try:
            value, operands = _evaluated(plain)
        except _Unreadable:
            continue
        return value, operands, tuple(text + "%" * percent for _, text, percent in plain)
    return None


def _evaluated(tokens: list[Token]) -> tuple[Fraction, list[Operand]]:
    """The value of a formula and its operands, by recursive descent. Raises _Unreadable."""
    place, operands = 0, []

    def peek() -> str:
        return tokens[place][1] if place < len(tokens) and tokens[place][0] == "o" else ""

    def total() -> Fraction:
        nonlocal place
        value = product()
        while peek() in ("+", "-"):
            sign, place = peek(), place + 1
            right = product()
            value = value + right if sign == "+" else value - right
        return value

    def product() -> Fraction:
        nonlocal place
        value = atom()
        while peek() in ("*", "/"):
            sign, place = peek(), place + 1
            right = atom()
            if sign == "/" and not right:
                raise _Unreadable
            value = value * right if sign == "*" else value / right
        return value

    def atom() -> Fraction:
        nonlocal place
        if place >= len(tokens):
            raise _Unreadable
        kind, text, percent = tokens[place]
        place += 1
        if kind == "o" and text == "(":
            value = total()
            if peek() != ")":
                raise _Unreadable
            place += 1
            return value
        if kind == "o" and text == "-" and place < len(tokens) and tokens[place][0] == "n":
            return -atom()
        if kind != "n":
            raise _Unreadable
        decimals = len(text.partition(".")[2])
        operand = Operand(_fraction(text), decimals, percent)
        operands.append(operand)
        value = operand.value / 100 if percent else operand.value
        if peek() == "^":
            place += 1
            power = atom()
            if power.denominator > 1 or not 0 <= power <= 6:
                raise _Unreadable
            value = value ** int(power)
        return value

    value = total()
    if place < len(tokens):
        raise _Unreadable
    return value, operands


def _fraction(text: str) -> Fraction:
    return Fraction(text.replace(",", "") if not text.startswith(".") else "0" + text)
