"""Answers that would be read as arithmetic: dates (2020-01-02 is not 2017), times, scores and codes (IV is not VI)."""

from __future__ import annotations

import re

from curate.verify.verdict import Verdict

_DATE = re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})|(\d{1,2})([-/.])(\d{1,2})\6(\d{4}|\d{2})", re.ASCII)
_TIME = re.compile(r"(\d{1,2}):([0-5]\d)(?::([0-5]\d))?(?: ?([ap])\.? ?m\.?)?", re.ASCII | re.IGNORECASE)
_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_MONTH = "|".join(rf"{name[:3]}(?:{name[3:]}|\.)?" if len(name) > 3 else name for name in _MONTHS)
_NAMED_DATE = re.compile(
    rf"(?:(?P<before>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? )?(?P<month>{_MONTH})(?: (?P<after>\d{{1,2}})(?:st|nd|rd|th)?)?"
    r"(?:,? (?P<year>\d{4}))?",
    re.ASCII | re.IGNORECASE,
)
_DIFFERENCE = re.compile(r"\d+ ?[-\u2013\u2014] ?\d+", re.ASCII)
# Without spaces it is rather a score, a range or a number of a telephone; and 4/2/1 a date.
_CHAIN = re.compile(r"\d+(?:[-\u2013\u2014]\d+)+|\d+(?:/\d+){2,}", re.ASCII)
# Words of two letters, and units, which are no products of variables.
_TWO_LETTERS = re.compile(
    r"\b(?:am|an|as|at|be|by|do|go|he|hi|if|in|is|it|me|my|no|of|oh|ok|on|or|pm|so|to|up|us|we|mg|km|cm|mm|kg|ml|dl|hz)\b",
    re.IGNORECASE,
)
_CODE = re.compile(r"(?=\d*[A-Z])[A-Z\d]{2,}")
_ANY_INTEGER = re.compile(r"(?<![A-Za-z\\])[kmn](?![A-Za-z])")
_ARROW = re.compile(r"\\(?:vec|hat|overrightarrow)(?![A-Za-z])\{?([A-Za-z]+)\}?")


def compare_dates(candidate: str, reference: str) -> Verdict | None:
    """Whether dates, times or scores are the same; None if both texts are something else.

    Day and month stand in either order, and a score or range (5-3) is equal to none that is written otherwise, though
    it may be a difference: undecided. A date is never compared with a number.
    """
    dates = [_DATE.fullmatch(text) for text in (candidate, reference)]
    if any(dates):
        return _same_dates(*dates) if all(dates) else Verdict.undecided
    named = [_named_date(text) for text in (candidate, reference)]
    if None not in named:
        return Verdict.right if named[0] == named[1] else Verdict.wrong if _as_full(*named) else Verdict.undecided
    times = [_TIME.fullmatch(text) for text in (candidate, reference)]
    if times[0] is not None and times[1] is not None:
        return _same_times(times[0], times[1])
    if any(map(_CHAIN.fullmatch, (candidate, reference))):
        return Verdict.undecided
    return Verdict.undecided if all(map(_DIFFERENCE.fullmatch, (candidate, reference))) else None


def _named_date(text: str) -> tuple[int, int, int] | None:
    """Year (0 = none), month and day of a date that names its month; None for anything else."""
    match = _NAMED_DATE.fullmatch(text)
    if match is None or (match["before"] is None) == (match["after"] is None):
        return None
    month = next(place for place, name in enumerate(_MONTHS, start=1) if match["month"][:3].lower() == name[:3])
    return int(match["year"] or 0), month, int(match["before"] or match["after"])


def _as_full(candidate: tuple[int, int, int] | None, reference: tuple[int, int, int] | None) -> bool:
    """Whether both dates have a year, or neither has one."""
    return candidate is not None and reference is not None and bool(candidate[0]) == bool(reference[0])


def _same_times(candidate: re.Match[str], reference: re.Match[str]) -> Verdict:
    """Times of the day, where one may lack the half of the day: 3:45 may be 3:45 PM."""
    candidate_time, reference_time = (
        [int(part) for part in match.groups()[:3] if part] for match in (candidate, reference)
    )
    halves = [match[4] and match[4].lower() for match in (candidate, reference)]
    if len(candidate_time) != len(reference_time):
        return Verdict.undecided
    for time, half in ((candidate_time, halves[0]), (reference_time, halves[1])):
        if half is not None and time[0] <= 12:
            time[0] = time[0] % 12 + 12 * (half == "p")
    if candidate_time == reference_time:
        return Verdict.right
    unsure = (
        None in halves
        and halves != [None, None]
        and candidate_time[1:] == reference_time[1:]
        and candidate_time[0] % 12 == reference_time[0] % 12
    )
    return Verdict.undecided if unsure else Verdict.wrong


def _same_dates(*dates: re.Match[str] | None) -> Verdict:
    parts = [[part for part in match.groups() if part and part.isdigit()] for match in dates if match]
    candidate_numbers, reference_numbers = ([int(part) for part in numbers] for numbers in parts)
    if [len(part) > 2 for part in parts[0]] != [len(part) > 2 for part in parts[1]]:
        return Verdict.undecided  # the year stands elsewhere, or is written in two digits
    if candidate_numbers == reference_numbers:
        return Verdict.right
    year_first = len(parts[0][0]) == 4
    return Verdict.wrong if year_first or sorted(candidate_numbers) != sorted(reference_numbers) else Verdict.undecided


def may_be_named_alike(candidate: str, reference: str) -> bool:
    """Whether texts that differ as products may be one thing, or those that are equal as products two.

    Letters and digits without operators may be a formula, a numeral or a code: CO2 is not C2O, IV not VI. Any integer
    is k or n, and a vector may be written without its arrow.
    """
    codes = [re.sub(r"[_{} ]", "", text) for text in (candidate, reference)]
    if all(map(_CODE.fullmatch, codes)) and sorted(codes[0]) == sorted(codes[1]):
        return True
    if _TWO_LETTERS.search(candidate) or _TWO_LETTERS.search(reference):
        letters = [sorted(re.sub(r"\W", "", text).lower()) for text in (candidate, reference)]
        return letters[0] == letters[1] and candidate.lower() != reference.lower()
    renamed = {_ANY_INTEGER.sub("n", _ARROW.sub(r"\1", text)).replace(" ", "") for text in (candidate, reference)}
    return len(renamed) == 1 and candidate.replace(" ", "") != reference.replace(" ", "")
