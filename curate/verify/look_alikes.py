"""Answers that would be read as arithmetic: dates (2020-01-02 is not 2017), times, scores and codes (IV is not VI)."""

from __future__ import annotations

import re

from curate.verify.verdict import Verdict

_DATE = re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})|(\d{1,2})([-/.])(\d{1,2})\6(\d{4}|\d{2})", re.ASCII)
_TIME = re.compile(r"(\d{1,2}):([0-5]\d)(?::([0-5]\d))?", re.ASCII)
_DIFFERENCE = re.compile(r"\d+ ?[-\u2013\u2014] ?\d+", re.ASCII)
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
    times = [_TIME.fullmatch(text) for text in (candidate, reference)]
    if all(times):
        mine, theirs = ([int(part) for part in match.groups() if part] for match in times if match)
        return Verdict.right if mine == theirs else Verdict.wrong if len(mine) == len(theirs) else Verdict.undecided
    return Verdict.undecided if all(map(_DIFFERENCE.fullmatch, (candidate, reference))) else None


def _same_dates(*dates: re.Match[str] | None) -> Verdict:
    parts = [[part for part in match.groups() if part and part.isdigit()] for match in dates if match]
    mine, theirs = ([int(part) for part in numbers] for numbers in parts)
    if [len(part) > 2 for part in parts[0]] != [len(part) > 2 for part in parts[1]]:
        return Verdict.undecided  # the year stands elsewhere, or is written in two digits
    if mine == theirs:
        return Verdict.right
    year_first = len(parts[0][0]) == 4
    return Verdict.wrong if year_first or sorted(mine) != sorted(theirs) else Verdict.undecided


def may_be_named_alike(candidate: str, reference: str) -> bool:
    """Whether texts that differ as products may be one thing, or those that are equal as products two.

    Letters and digits without operators may be a formula, a numeral or a code: CO2 is not C2O, IV not VI. Any integer
    is k or n, and a vector may be written without its arrow.
    """
    codes = [re.sub(r"[_{} ]", "", text) for text in (candidate, reference)]
    if all(map(_CODE.fullmatch, codes)) and sorted(codes[0]) == sorted(codes[1]):
        return True
    renamed = {_ANY_INTEGER.sub("n", _ARROW.sub(r"\1", text)).replace(" ", "") for text in (candidate, reference)}
    return len(renamed) == 1 and candidate.replace(" ", "") != reference.replace(" ", "")
