"""Parse and compare plain numbers exactly."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from curate.verify.normalization import clean
from curate.verify.verdict import Verdict

# Maximum size of a number, however short its notation.
_MAX_DIGITS = 1_000
_MAX_EXPONENT = 5_000

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d*)?|\.\d+)"
_NUMBER = re.compile(
    rf"""(?P<sign>[+-]?)\s*(?P<currency>US\$|Rs\.?|[$€£¥₹]|(?:USD|EUR|GBP|JPY|CNY|INR|CHF|CAD|AUD)(?=[\s\d])|)\s*(?P<inner>[+-]?)
    (?:
        (?:(?P<whole>\d+)\s*(?:\s|(?=\\)))? (?:
              \\frac\s*\{{\s*(?P<inside>-?)(?P<top>\d+)\s*\}}\s*\{{\s*(?P<bottom>\d+)\s*\}}
            | (?P<over>{_DECIMAL})\s*/\s*(?P<under>{_DECIMAL}))
      | (?P<decimal>{_DECIMAL}) (?:[eE](?P<e>[+-]?\d{{1,5}})
            | \s*(?:\\times|\\cdot|x|\*)\s*10\s*\^\s*
              (?:\{{\s*(?P<p>[+-]?\d{{1,5}})\s*\}}|\(\s*(?P<q>[+-]?\d{{1,5}})\s*\)|(?P<r>-?\d{{1,5}})))?
    )
    (?P<rest>.*)""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
# A fast path for most answers.
_SIMPLE = re.compile(r"(-?)(\$?)(\d{1,18}|\d{1,3}(?:,\d{3}){1,5})(?:\.(\d{1,18}))?", re.ASCII)
_BASE = re.compile(r"_\s*(?:\{\s*(\d{1,2}|[a-z]+)\s*\}|(\d))", re.ASCII)
# Digits are an exponent after ^ or directly after a unit of length; elsewhere they are another number: "2 out of 3".
_WORD = r"[A-Za-z]+(?:\s?\^\s?(?:[23]|\{[23]\}))?"
_LENGTH = "(?:[ckm]?m|ft|feet|foot|in|inch|inches|yd|yards?|miles?|meters?|metres?|centimeters?|centimetres?)"
_WORDS = re.compile(rf"(?:{_WORD}[ ./-]+)*(?:{_LENGTH}[23]|{_WORD})\.?", re.ASCII)
_MEASURED = re.compile(r"(.*[\d})])\s+([A-Za-z][A-Za-z ./]*(?:\^?\{?[23]\}?)?)", re.ASCII)
_TIMES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_CURRENCY = {"$": "dollar", "US$": "dollar", "€": "euro", "£": "pound", "¥": "yen", "₹": "rupee", "¢": "cent"}
_CURRENCY |= {"Rs": "rupee", "Rs.": "rupee", "USD": "dollar", "EUR": "euro", "GBP": "pound", "JPY": "yen"}
_CURRENCY |= {"INR": "rupee", **{code: code.lower() for code in ("CNY", "CHF", "CAD", "AUD")}}
_SAME_UNIT = {
    "usd": "dollar", "buck": "dollar", "eur": "euro", "gbp": "pound", "jpy": "yen", "inr": "rupee",
    "km": "kilometer", "kilometre": "kilometer", "cm": "centimeter",
    "centimetre": "centimeter", "mm": "millimeter", "millimetre": "millimeter", "m": "meter", "metre": "meter",
    "kg": "kilogram", "g": "gram", "mg": "milligram", "l": "liter", "litre": "liter", "ml": "milliliter",
    "millilitre": "milliliter", "hr": "hour", "hrs": "hour", "h": "hour", "min": "minute", "mins": "minute",
    "sec": "second", "secs": "second", "s": "second", "ft": "foot", "feet": "foot", "in": "inch", "inches": "inch",
    "mi": "mile", "mph": "mile per hour", "rs": "rupee",
    "lb": "pound", "lbs": "pound", "oz": "ounce", "yd": "yard",
    "people": "person", "men": "man", "women": "woman", "children": "child", "kids": "child",
}  # fmt: skip
_SHORT_UNITS = {*(word for word in _SAME_UNIT if len(word) == 2), "sq", "cu", "ha", "mL", "kW", "Hz"}
# Other single letters may be variables.
_SHORT_UNITS |= {"m", "g", "s", "L"}
_FILLERS = {"a", "an", "of", "in", "on", "at", "A"}
# Words after a number that change its value, or make it something other than a number with a unit.
_NOT_UNITS = frozenset(
    re.findall(
        r"\w+",
        """
    and or to plus minus times over by divided multiplied more less than least most between about if when mod sqrt
    sin cos tan sec csc cot log ln exp inf infinity infinite undefined frac choose but not is are was were equals
    the that this so which nor except without unless out rem remainder below above under zero one two three four
    five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
    nineteen twenty thirty forty fifty sixty seventy eighty ninety every negative
    approximately approx about roughly rounded etc binary octal hex hexadecimal decimal inverse reciprocal double
    twice triple und oder
        """,
    )
)
# Words that change the value of the number before them, in languages whose letters are common: 3 dozen,
# 2 fifths, 5 millones, 2 lakh, 7 squared.
_SCALE = re.compile(
    r"""half|halves|thirds?|quarters?|dozens?|scores?|gross|grand|hundreds?|tens|thousands?|myriads?
      | (?:four|fif|six|seven|eigh|nin|ten|eleven|twelf|[a-z]+teen|[a-z]+tie|hundred|thousand|[a-z]*illion)ths?
      | (?:m|b|tr|quadr|quint|sext|sept|oct|non|dec|z)il{1,2}i?(?:[oó]n|ard)\w{0,3} | milh(?:[aã]o|[oõ]es)
      | mi?ln|ml[nr]d|mrd|mio|bio|mil|mille|mila|tausend|hundert|cientos?|tysi\w* | lakhs?|lacs?|crores?|ribu|juta
      | pi|squared|cubed|doubled|halved|tripled|quadrupled|inverted|negated|googol(?:plex)?|tsd|[a-z]{1,6}illion\w{0,2}
      | (?:one|two|three|four|five|seven|eight|nine|ten|eleven|twelve)s|sixes
      | (?:twen|thir|for|fif|six|seven|eigh|nine)t(?:y|ies)
      | factorial|repeating|recurring|repeated|periodic|basis|bps|permil(?:le)?|ppm|ppb
      | medi[ao]s?|tercios?|demis?|drittel|viertel|halbe?
      | \u0442\u044b\u0441\w*|\u043c\u043b\u043d|\u043c\u043b\u0440\u0434|\u043c\u0438\u043b\u043b\u0438\w*""",
    re.VERBOSE,
)


class Plain(NamedTuple):
    """A plain number.

    A plain number is an integer, decimal, fraction, mixed number or number in scientific notation, with a sign,
    thousands separators, a currency sign, a percent sign or a unit. Its value is a `Fraction`: no float is involved.

    decimals: number of digits after the point, 0 if there is none; a number with such digits may be rounded.
    unit: what it counts, in a common spelling; "" if none is written, "%" for percent (`value` is as written).
    """

    value: Fraction
    decimals: int
    unit: str


@lru_cache(maxsize=4096)
def plain_number(text: str) -> Plain | None:
    """Parse `text` as a plain number; None if it is something else, or too large to write out."""
    if len(text) > _MAX_DIGITS:
        return None
    simple = _SIMPLE.fullmatch(text)
    if simple is not None:
        sign, dollar, whole, places = simple.groups("")
        digits = int(sign + whole.replace(",", "") + places)
        value = Fraction(digits, 10 ** len(places)) if places else Fraction(digits)
        return Plain(value, len(places), "dollar" if dollar else "")
    match = _NUMBER.fullmatch(clean(text))
    if match is None or (match["sign"] and match["inner"]):
        return None
    measured = _value(match)
    if measured is None:
        return None
    value, decimals = measured
    factor, unit = _unit(match["rest"])
    if unit is None:
        return None
    if match["currency"]:
        if unit not in ("", "dollar", _CURRENCY[match["currency"]]) and " " not in unit:
            return None
        unit = _CURRENCY[match["currency"]]
    if factor is not None:
        value, decimals = value * 10**factor, max(0, decimals - factor)
    negative = "-" in (match["sign"], match["inner"])
    return Plain(-value if negative else value, decimals, unit)


def _value(match: re.Match[str]) -> tuple[Fraction, int] | None:
    """The value without its sign, and the number of digits after the point."""
    if match["decimal"] is not None:
        decimal = match["decimal"].replace(",", "")
        power = int(match["e"] or match["p"] or match["q"] or match["r"] or 0)
        if abs(power) > _MAX_EXPONENT:
            return None
        places = len(decimal.partition(".")[2])
        return Fraction(decimal if decimal[-1] != "." else decimal[:-1]) * Fraction(10) ** power, max(0, places - power)
    top, bottom = (match[name].replace(",", "").rstrip(".") for name in _parts(match))
    if Fraction(bottom) == 0:
        return None
    value = Fraction(top) / Fraction(bottom)
    if match["inside"]:
        return None if match["whole"] else (-value, 0)
    if match["whole"]:
        if value >= 1 or "." in top + bottom:
            return None
        value += int(match["whole"])
    return value, 0


def _parts(match: re.Match[str]) -> tuple[str, str]:
    return ("top", "bottom") if match["top"] is not None else ("over", "under")


@lru_cache(maxsize=4096)
def _unit(rest: str) -> tuple[int | None, str | None]:
    """What follows a number: the power of ten it means, and the unit; unit None if it is neither."""
    rest, spaced = rest.strip(), rest[:1] == " "
    if (rest[:1], rest[-1:]) in (("(", ")"), ("[", "]")):
        rest = rest[1:-1]
    if not rest:
        return None, ""
    if rest == "%" or rest.lower() in ("percent", "per cent", "percentage points"):
        return None, "%"
    if rest in _CURRENCY:
        return None, _CURRENCY[rest]
    if (base := _BASE.fullmatch(rest)) is not None:
        return None, f"base {base[1] or base[2]}"
    if len(rest) > 60 or _WORDS.fullmatch(rest) is None:
        return None, None
    words = re.findall(r"[A-Za-z]+|[23]", rest)
    factor = _TIMES.get(words[0].lower())
    if factor is not None:
        words = words[1:]
    if len(words) > 6 or (any(map(_no_unit, words)) and words != ["times"]):
        return None, None
    short = [word for word in words if len(word) < 3 and word not in "23"]
    known_short_units = _SHORT_UNITS | _FILLERS | ({"h"} if "/h" in rest else set())
    if not known_short_units.issuperset(short):
        return None, None
    # "3 in every box" is not inches; "3 a" may be a product.
    if words and words != ["in"] and (words[0] in _FILLERS or words[-1] in _FILLERS - {"in"}):
        return None, None
    if words and (not words[0].isalpha() or (not spaced and (len(words[0]) == 1 or words[0] not in _SHORT_UNITS))):
        return None, None
    return factor, " ".join(_squared([_common(word) for word in words]))


def _squared(words: list[str]) -> list[str]:
    """Units of areas and volumes in one spelling: "square foot" as "foot 2"."""
    power = {"square": "2", "sq": "2", "cubic": "3", "cu": "3"}.get(words[0]) if len(words) == 2 else None
    return words if power is None else [words[1], power]


def _no_unit(word: str) -> bool:
    word = word.lower()
    return word in _NOT_UNITS or scales(word)


def scales(word: str) -> bool:
    """Whether a word after a number changes its value, as in 3 dozen, 2 fifths or 7 squared."""
    return _SCALE.fullmatch(word.lower()) is not None


def split_unit(text: str) -> tuple[str, str]:
    """An expression and the unit after it; "" if there is none, or what follows may be variables."""
    match = _MEASURED.fullmatch(text)
    if match is None or min(len(word) for word in re.findall(r"[A-Za-z]+", match[2])) < 2:
        return text, ""
    factor, unit = _unit(" " + match[2])
    return (match[1], unit) if unit and factor is None else (text, "")


def _common(word: str) -> str:
    word = word.lower()
    if word in _SAME_UNIT:
        return _SAME_UNIT[word]
    single = word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word
    return _SAME_UNIT.get(single, single)


def compare_numbers(candidate: Plain, reference: Plain) -> Verdict:
    """Whether two plain numbers are the same answer, by the rules in docs/answers.md."""
    candidate_unit, reference_unit = candidate.unit, reference.unit
    if candidate_unit != reference_unit:
        number_with_base = candidate if candidate_unit.startswith("base ") else reference
        if number_with_base.unit.startswith("base ") and "" in (candidate_unit, reference_unit):
            return _compare_based(number_with_base, reference if number_with_base is candidate else candidate)
        if "%" in (candidate_unit, reference_unit) and "" in (candidate_unit, reference_unit):
            return _compare_percent(candidate, reference)
        if candidate_unit and reference_unit:
            return Verdict.undecided
    return _compare_values(candidate, reference)


def _compare_based(number_with_base: Plain, bare: Plain) -> Verdict:
    """Compare a number in a base with one that may be in the same base, or in base ten."""
    if number_with_base.value == bare.value:
        return Verdict.right
    base = number_with_base.unit.removeprefix("base ")
    try:
        value_in_base_ten = int(str(number_with_base.value), int(base))
    except ValueError:  # a base in words, or digits that do not exist in the base
        return Verdict.undecided
    return Verdict.undecided if value_in_base_ten == bare.value else Verdict.wrong


def _compare_percent(candidate: Plain, reference: Plain) -> Verdict:
    percent, bare = (candidate, reference) if candidate.unit == "%" else (reference, candidate)
    if percent.value / 100 == bare.value:
        return Verdict.right
    if percent.value == bare.value:
        # "1" may be one percent or a whole; a bare number of 1 or more cannot be a proportion.
        return Verdict.right if abs(bare.value) > 1 else Verdict.undecided
    as_share = Plain(percent.value / 100, percent.decimals + 2 if percent.decimals else 0, "")
    verdict = _compare_values(as_share, bare)
    return verdict if verdict is Verdict.undecided else _compare_values(percent, bare)


def _cut_short(decimal: Plain, exact: Fraction) -> bool:
    """Whether a decimal may be a truncated repeating fraction: 0.66 for 2/3."""
    rest = (exact - decimal.value) * (1 if exact > 0 else -1)
    bottom = exact.denominator
    for prime in (2, 5):
        while bottom % prime == 0:
            bottom //= prime
    return bottom > 1 and 0 <= rest * 10**decimal.decimals < 1


def _compare_values(candidate: Plain, reference: Plain) -> Verdict:
    if candidate.value == reference.value:
        return Verdict.right
    for rounded, exact in ((candidate, reference), (reference, candidate)):
        # Half a unit of the last place, inclusive, since halves are rounded either way.
        if rounded.decimals >= 2 and abs(rounded.value - exact.value) * 2 * 10**rounded.decimals <= 1:
            return Verdict.undecided
        if rounded.decimals >= 2 and _cut_short(rounded, exact.value):
            return Verdict.undecided
    return Verdict.wrong
