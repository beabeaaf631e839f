"""Rewrite notations that the LaTeX parser does not know: repeating decimals and combinations."""

from __future__ import annotations

import math
import re
from fractions import Fraction

_LARGEST = 1_000

_ELLIPSIS = re.compile(
    r"\.\.|\\(?:[lcdvh]?dots|ddots|iddots|dots[bcimo]|textellipsis)(?![A-Za-z])|(?<![A-Za-z])(?:etc|so on)(?![A-Za-z])"
)

_DIGITS = r"(?:\{\s*\d{1,4}\s*\}|\d{1,4}(?!\d))"
_NOT_BEFORE = r"(?<![A-Za-z\\\d.])"
_COUNTS = re.compile(
    rf"""{_NOT_BEFORE}(?P<kind>[CPA])\s*(?:_\s*{_DIGITS}\s*\^\s*{_DIGITS}|\^\s*{_DIGITS}\s*_\s*{_DIGITS})(?!\s*[!^])
      | (?:\{{\s*\}}\s*[\^_]\s*|(?<![A-Za-z\d.}})\]])[\^_]\s*)
        {_DIGITS}\s*(?P<prefixed>[CP])\s*_?\s*{_DIGITS}
      | (?<![\d.^_])(?<![\^_]\{{){_DIGITS}\s*(?P<between>[CP])\s*_?\s*{_DIGITS}(?!\s*[!^])
      | {_NOT_BEFORE}(?P<indexed>[CP])\s*_\s*\{{\s*\d{{1,4}}\s*,\s*\d{{1,4}}\s*\}}
      | {_NOT_BEFORE}(?P<called>nCr|nPr|C|P|comb|perm|binom|binomial|Comb|Perm)\s*\(\s*\d{{1,4}}\s*,\s*\d{{1,4}}\s*\)
      | (?<![\d.])\d{{1,4}}\s*\\?(?P<named>choose|nCr|nPr|permute)\s*\d{{1,4}}(?!\d|\s*[!^])
      | (?<![\d.])\d{{1,4}}\s*(?P<double>!\s*!)(?!\s*!)
    """,
    re.VERBOSE | re.ASCII,
)
# A multiple of one. 5C_2^2 is ambiguous, since 5C_2 is one by itself; 2C_5 is none.
_MULTIPLE = re.compile(
    rf"(?<![\w.^_}}{{\\])(?P<factor>\d{{1,4}})\s*(?=[CPA]\s*(?:_\s*(?P<below>{_DIGITS})\s*\^|\^\s*{_DIGITS}\s*_)|[CP]\s*\()",
    re.ASCII,
)
# The same with variables, other letters, or missing braces: C_n^k, nC2, P(n, r), 5c2, V_5^2, \binom 10 4.
_MAYBE = re.compile(
    r"""[CPAV]\s*(?:_[^=+]{1,12}\^|\^[^=+]{1,12}_|_\s*\{[^{},]{1,8},|\(\s*\w{1,4}\s*,)
      | (?<![A-Za-z\\])\w{1,4}\s*[CPcp]r?\s*_?\{?\d | \\binom\s*\{\d\}\s*\{\d\}\s*\d""",
    re.VERBOSE | re.ASCII,
)
_OF_FACTORIALS = re.compile(r"(?<![A-Za-z\d^_}])\(\s*([0-6])\s*!\s*\)(?=\s*!(?!\s*!))")
_PERMUTATIONS = ("P", "A", "nPr", "perm", "Perm", "permute")

_REPEATING = re.compile(
    r"""(?<![\d.,])(?P<whole>\d{0,20})\.(?P<before>\d{0,50})
    (?: \\(?:overline|bar)\s*(?:\{\s*(?P<line>\d{1,50})\s*\}|(?P<digit>\d))
      | \((?P<round>\d{1,50})\)
      | (?P<dotted>(?:\\dot\s*\{?\s*\d\s*\}?\s*)(?:\d*\s*\\dot\s*\{?\s*\d\s*\}?)?)
      | (?P<lined>(?:\d[\u0304\u0305])+)
      | (?P<points>\d\u0307(?:\d*\d\u0307)?) )
    (?!\s*[\d^(.])""",
    re.VERBOSE | re.ASCII,
)


def has_ellipsis(text: str) -> bool:
    """Whether something is left out, as in 0.999... or 1, 2, 3, and so on."""
    return _ELLIPSIS.search(text) is not None


def may_count(text: str) -> bool:
    """Whether `text` may contain combinations or permutations that are not parsed."""
    return _MAYBE.search(text) is not None


def with_counts(text: str) -> str:
    """`text` with the values of combinations, permutations and double factorials of numbers.

    Which of two numbers in C_5^2 counts the whole depends on the country, but it is the larger one. C_1^2 may be a
    squared constant and P(5, 2) a point, 4!! is rarely (4!)!, and 0.1(6) may be a product: such a reading can show that
    two answers are the same, and never that they differ. What has two usual readings is left alone: 5C_2^2 is a
    multiple or a square, 5C2^2 and 5C2! have the power and the factorial of the whole or of the 2.
    """
    return _COUNTS.sub(_count, _MULTIPLE.sub(_multiple, text))


def _multiple(match: re.Match[str]) -> str:
    below = match["below"]
    is_multiple = below is None or int(match["factor"]) < int(below.strip("{} "))
    return rf"{match['factor']}\cdot " if is_multiple else match[0]


def _count(match: re.Match[str]) -> str:
    numbers = [int(number) for number in re.findall(r"\d+", match[0])]
    if max(numbers) > _LARGEST:
        return match[0]
    if match["double"]:
        value = math.prod(range(numbers[0], 0, -2))
    else:
        kind = next(name for name in match.groups() if name)
        count = math.perm if kind in _PERMUTATIONS else math.comb
        value = count(max(numbers), min(numbers))
    return str(value) if match[0] == match.string.strip() else f"({value})"


def with_factorials(text: str) -> str:
    """`text` with (6)! for (3!)!; factorials of factorials of any size are not computed."""
    return _OF_FACTORIALS.sub(lambda match: f"({math.factorial(int(match[1]))})", text)


def with_fractions(text: str) -> tuple[str, bool]:
    r"""Rewrite repeating decimals, such as 0.\overline{3} and 0.(3), as fractions; and whether all are unambiguous."""
    certain = all(not match["round"] or not match["before"] for match in _REPEATING.finditer(text))
    return _REPEATING.sub(_fraction, text), certain


def _fraction(match: re.Match[str]) -> str:
    marked = next(part for part in (match[name] for name in _PARTS) if part)
    repeated, before = "".join(re.findall(r"\d", marked)), match["before"]
    whole = Fraction(int(match["whole"] + before or 0), 10 ** len(before))
    value = whole + Fraction(int(repeated), (10 ** len(repeated) - 1) * 10 ** len(before))
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


_PARTS = ("line", "digit", "round", "dotted", "lined", "points")
