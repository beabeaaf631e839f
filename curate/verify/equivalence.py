"""Compare two answers without algebra; expressions are left to a callback."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

from curate.verify.alternatives import alternatives, residue_class
from curate.verify.look_alikes import compare_dates, may_be_named_alike
from curate.verify.normalization import clean, split_top, with_other_commas
from curate.verify.notations import has_ellipsis, may_count, with_counts, with_factorials, with_fractions
from curate.verify.numbers import compare_numbers, plain_number, split_unit
from curate.verify.verdict import Verdict
from curate.verify.words import WORDS, compare_words, is_known

# Longer answers (in characters) are not parsed.
_LONGEST_ANSWER = 2_000
_MOST_ELEMENTS = 50
# Maximum number of pairs of readings that are compared.
_MOST_READINGS = 16

_EMPTY = re.compile(r"\\emptyset|\\\{\s*\\\}|\{\s*\}")

# Compares two cleaned expressions.
_Symbolic = Callable[[str, str], Verdict]

_CHOICE = re.compile(
    r"\(?\s*(?:[Oo]ption|[Cc]hoice|[Ll]etter)?\s*\(?\s*([A-Ja-j])\s*(?:\)(?!\s*\(?[A-J]\))|[.:](?=\s|$)|$)\s*(.*)",
    re.DOTALL,
)
# A small letter alone may be a variable.
_LETTER = re.compile(r"(?:(?:[Oo]ption|[Cc]hoice|[Ll]etter)\s+)?[\[({]?\s*([A-J])\s*[\])}]?\.?|\(?\s*([a-j])\s*\)")
_NUMBERED = re.compile(r"answer ?([1-9])", re.IGNORECASE)
# x =, x_1 \in, f(x) =, Area =, or a bare equals sign.
_ASSIGNED = re.compile(
    r"\s*(?:(?:\([A-Za-z](?:, ?[A-Za-z])+\)|[A-Za-z](?:_\{?\w\}?)?(?:\([a-z](?:, ?[a-z])*\))?|[A-Za-z][A-Za-z ]{2,40})"
    r"\s*(?:=|\\in(?![A-Za-z]))|=)"
    r"\s*(?!=)"
)
# Spaces without meaning: not those between two numbers, nor the one that keeps "1, 234" from being thousands.
_SPACE = re.compile(r" (?!\.?\d)|(?<![\d,]) |(?<=,) (?!\d{3}(?!\d))")
_PARTED = re.compile(r"\d \.?\d")
# A number followed by letters that may scale it, be its unit, or be variables.
_SCALED = re.compile(
    r"(?a)[-+]?\$?[\d.,]+\s?(?:(?![einxyzX])[A-Za-z]|(?<=\s)(?![einxyz]+\Z)[A-Za-z]{2,3}|[bm]n|[ckm]m|kg|ml|hr|ft|oz|lb)"
)
_ANGLE = re.compile(r"(?:sin|cos|tan|sec|csc|cot)(?![A-Za-z]).*degrees")
_BUILDER = re.compile(r"\\?\{[^,{}|:]*(?:\||:|\\mid|\\vert)(?=[^,]*(?:[<>=]|\\[lgn]|\\in))")
# Powers of powers of numbers, huge exponents, and factorials of large numbers or of factorials.
_TOWER = re.compile(
    r"\d\s*[})]*\s*(?:\^|\*\*)\s*[({\s]*-?(?:\d{5,}|[\d.]+\s*(?:\^|\*\*|!)|[({\s]*\d+\s*[})]*\s*!)|\d{5,}\s*!|!\s*[})]*\s*!"
)


def compare(candidate: str, reference: str, symbolic: _Symbolic, *, ordered: bool = False) -> Verdict:
    """Whether `candidate` is the same answer as `reference`; expressions are left to `symbolic`.

    ordered: whether the order of a list without brackets counts; that of tuples always does, that of sets never.
    """
    verdict = _compare_as_written(candidate, reference, symbolic, ordered)
    if verdict is Verdict.right or max(len(candidate), len(reference)) > _LONGEST_ANSWER:
        return verdict
    cleaned_candidate, cleaned_reference = clean(candidate), clean(reference)
    residues = residue_class(cleaned_candidate), residue_class(cleaned_reference)
    if None not in residues:
        return Verdict.right if residues[0] == residues[1] else verdict
    pairs = itertools.product(
        (cleaned_candidate, *alternatives(cleaned_candidate)), (cleaned_reference, *alternatives(cleaned_reference))
    )
    for candidate_reading, reference_reading in itertools.islice(pairs, 1, _MOST_READINGS):
        if _compare_as_written(candidate_reading, reference_reading, symbolic, ordered) is Verdict.right:
            return Verdict.right
    return verdict


def _compare_as_written(candidate: str, reference: str, symbolic: _Symbolic, ordered: bool) -> Verdict:
    """The verdict without other readings of the two answers."""
    if max(len(candidate), len(reference)) > _LONGEST_ANSWER:
        return Verdict.undecided
    candidate_number, reference_number = plain_number(candidate), plain_number(reference)
    if candidate_number is not None and reference_number is not None:
        verdict = compare_numbers(candidate_number, reference_number)
        listed = sorted(candidate.split(",")) == sorted(reference.split(","))  # of three digits each, in another order
        return Verdict.undecided if listed and verdict is Verdict.wrong else verdict
    candidate, reference = clean(candidate), clean(reference)
    if not candidate or not reference:
        return Verdict.undecided
    choice = _compare_choices(candidate, reference)
    if choice is not None:
        return choice
    alike = _compare_spelling(candidate, reference)
    if alike is not None:
        return alike
    dates = compare_dates(candidate, reference)
    if dates is not None:
        return dates
    if has_ellipsis(candidate) or has_ellipsis(reference):
        return Verdict.undecided
    rewritten = _compare_rewritten(candidate, reference, symbolic, ordered)
    if rewritten is not None:
        return rewritten
    bare_candidate, bare_reference = _unassigned(candidate, reference)
    if (bare_candidate, bare_reference) != (candidate, reference):
        return compare(bare_candidate, bare_reference, symbolic, ordered=ordered)
    words = compare_words(candidate, reference)
    if words is not None:
        return words
    lists = _compare_lists(candidate, reference, symbolic, ordered)
    if lists is not None:
        return _if_commas_agree(lists, candidate, reference, symbolic, ordered)
    candidate, reference = with_factorials(candidate), with_factorials(reference)
    if _TOWER.search(candidate) or _TOWER.search(reference):
        return Verdict.undecided
    if may_be_named_alike(candidate, reference):
        return Verdict.undecided
    if any(
        _SCALED.fullmatch(left) and right is not None
        for left, right in ((candidate, reference_number), (reference, candidate_number))
    ):
        return Verdict.undecided
    return _compare_measured(candidate, reference, symbolic)


def _compare_rewritten(candidate: str, reference: str, symbolic: _Symbolic, ordered: bool) -> Verdict | None:
    """Compare repeating decimals and combinations by value; None if there are none."""
    (candidate_fractions, candidate_certain), (reference_fractions, reference_certain) = (
        with_fractions(candidate),
        with_fractions(reference),
    )
    counted = with_counts(candidate_fractions), with_counts(reference_fractions)
    if counted == (candidate, reference):
        return None
    verdict = compare(*counted, symbolic, ordered=ordered)
    certain = candidate_certain and reference_certain and counted == (candidate_fractions, reference_fractions)
    return verdict if certain or verdict is Verdict.right else Verdict.undecided


def _compare_measured(candidate: str, reference: str, symbolic: _Symbolic) -> Verdict:
    """Compare expressions that may be followed by a unit."""
    percent = [text.endswith("%") for text in (candidate, reference)]
    if any(percent):
        return _compare_percent(candidate.rstrip("% "), reference.rstrip("% "), percent, symbolic)
    split = [(text, "") if _ANGLE.search(text) else split_unit(text) for text in (candidate, reference)]
    (candidate, candidate_unit), (reference, reference_unit) = split
    if candidate_unit != reference_unit and candidate_unit and reference_unit:
        return Verdict.undecided
    verdict = symbolic(candidate, reference)
    # Without a unit, an angle may be in radians.
    unsure = candidate_unit != reference_unit and "degree" in (candidate_unit, reference_unit)
    unsure |= may_count(candidate) or may_count(reference)
    return Verdict.undecided if unsure and verdict is Verdict.wrong else verdict


def _compare_percent(candidate: str, reference: str, percent: list[bool], symbolic: _Symbolic) -> Verdict:
    """Compare expressions if one or both end in %: against a bare number, p% is a share or the number itself."""
    if all(percent):
        return symbolic(candidate, reference)
    texts = zip((candidate, reference), percent, strict=True)
    shares = [f"({text})/100" if is_percent else text for text, is_percent in texts]
    verdicts = {symbolic(candidate, reference), symbolic(*shares)}
    return next((verdict for verdict in (Verdict.right, Verdict.undecided) if verdict in verdicts), Verdict.wrong)


def _compare_spelling(candidate: str, reference: str) -> Verdict | None:
    """Compare texts that differ only in spaces, or words that differ only in case; None if they differ in more."""
    unspaced_candidate, unspaced_reference = (_SPACE.sub("", text) for text in (candidate, reference))
    if unspaced_candidate == unspaced_reference:
        return Verdict.right
    bare = candidate.replace(" ", ""), reference.replace(" ", "")
    if bare[0] == bare[1]:
        # "3 1" is not 31, and "1, 234" may be a list, which it is within brackets.
        bracketed = bare[0][0] in "([{" and bare[0][-1] in ")]}" and not _PARTED.search(candidate + "|" + reference)
        return Verdict.right if bracketed else Verdict.undecided
    if (
        WORDS.fullmatch(candidate)
        and WORDS.fullmatch(reference)
        and unspaced_candidate.lower() == unspaced_reference.lower()
    ):
        words = [re.split(r"[ '-]", text) for text in (candidate, reference)]
        longest = max(map(len, words[0]))
        capitals = [word[1:] for word in words[0]] == [word[1:] for word in words[1]]
        # "abcd" may be a product, and ABCD a square.
        return Verdict.right if longest > 4 or is_known(candidate) or (longest > 2 and capitals) else None
    return None


def _compare_choices(candidate: str, reference: str) -> Verdict | None:
    """Compare letters and answer1 .. answer9; None if the reference is neither."""
    numbered = _NUMBERED.fullmatch(reference)
    if numbered is not None:
        match = _NUMBERED.match(candidate)
        if match is None:
            return Verdict.undecided
        return Verdict.right if match[1] == numbered[1] else Verdict.wrong
    letter = _LETTER.fullmatch(reference)
    chosen = _CHOICE.fullmatch(candidate)
    if letter is None:
        return _compare_as_choices(candidate, reference) or _compare_with_text(candidate, reference)
    chosen = chosen or _LETTER.fullmatch(candidate)
    if chosen is None:
        # An expression may be equal to a variable of that name.
        return Verdict.undecided if _unassigned(candidate, reference)[0] == candidate else None
    return Verdict.right if (chosen[1] or chosen[2]).upper() == (letter[1] or letter[2]).upper() else Verdict.wrong


def _compare_as_choices(candidate: str, reference: str) -> Verdict | None:
    """Compare a chosen letter with "(B) 18", or with b, which may be the choice or a variable. None for all else."""
    candidate_letter, reference_choice = _LETTER.fullmatch(candidate), _CHOICE.fullmatch(reference)
    if candidate_letter is None or reference_choice is None:
        return None
    same = (candidate_letter[1] or candidate_letter[2]).upper() == reference_choice[1].upper()
    if reference_choice[2]:
        return Verdict.right if same else Verdict.wrong
    if same and candidate_letter[0] != reference_choice[0]:
        return Verdict.right if ")" in candidate_letter[0] else Verdict.undecided
    return None


def _compare_with_text(candidate: str, reference: str) -> Verdict | None:
    """Compare "(C) Rome" with "C) Rome"; None if they are not both letters with the same text."""
    candidate_choice, reference_choice = _CHOICE.fullmatch(candidate), _CHOICE.fullmatch(reference)
    if (
        candidate_choice is None
        or reference_choice is None
        or not candidate_choice[2]
        or candidate_choice[2].lower() != reference_choice[2].lower()
    ):
        return None
    return Verdict.right if candidate_choice[1].upper() == reference_choice[1].upper() else Verdict.wrong


def _unassigned(candidate: str, reference: str) -> tuple[str, str]:
    """Both without "x =" or "(B)" in front, if only one of them has it."""
    candidate_choice, reference_choice = _CHOICE.fullmatch(candidate), _CHOICE.fullmatch(reference)
    if candidate_choice is not None and candidate_choice[2] and reference_choice is None:
        return candidate_choice[2], reference
    if reference_choice is not None and reference_choice[2] and candidate_choice is None:
        return candidate, reference_choice[2]
    assigns = [text.count("=") <= 1 and _ASSIGNED.match(text) is not None for text in (candidate, reference)]
    if assigns[0] and "=" not in reference and not assigns[1]:
        return _ASSIGNED.sub("", candidate, count=1), reference
    if assigns[1] and "=" not in candidate and not assigns[0]:
        return candidate, _ASSIGNED.sub("", reference, count=1)
    return candidate, reference


def _brackets(text: str) -> tuple[str, list[str]] | None:
    """Opening and closing bracket ("" for a bare list) and the elements; None if `text` is not a list."""
    if _BUILDER.match(text):
        return None
    body, kind = text, ""
    for left, right, name in ((r"\{", r"\}", "{}"), ("{", "}", "{}")):
        if text.startswith(left) and text.endswith(right):
            body, kind = text[len(left) : -len(right)], name
            break
    else:
        if text[0] in "([" and text[-1] in ")]":
            body, kind = text[1:-1], text[0] + text[-1]
    parts = split_top(body.replace(r"\{", "{").replace(r"\}", "}"))
    if kind and parts is not None and (kind == "{}" or len(parts) > 1):
        return kind, parts
    parts = split_top(text.replace(r"\{", "{").replace(r"\}", "}"))
    return ("", parts) if parts is not None and len(parts) > 1 else None


def _compare_lists(candidate: str, reference: str, symbolic: _Symbolic, ordered: bool) -> Verdict | None:
    """Compare lists, sets, tuples and intervals element by element; None if the reference is none of these."""
    reference_list, candidate_list = _brackets(reference), _brackets(candidate)
    if any(
        _EMPTY.fullmatch(alone) and other_list is not None and any(other_list[1])
        for alone, other_list in ((reference, candidate_list), (candidate, reference_list))
    ):
        return Verdict.wrong  # not the set of the empty set, nor a list with it
    if reference_list is None:
        if candidate_list is None or candidate_list[0] not in ("{}", ""):
            return Verdict.wrong if candidate_list is not None and plain_number(reference) is not None else None
        alone = "{" + reference + "}"
        # Unbalanced brackets do not make a set of one element either.
        reference_is_element = candidate_list[0] == "{}" and _brackets(alone) is not None
        return _compare_lists(candidate, alone, symbolic, ordered) if reference_is_element else None
    if candidate_list is None:
        if reference_list[0] not in ("", "{}"):
            return None if plain_number(candidate) is None else Verdict.wrong
        candidate_list = ("", [candidate])
        if len(reference_list[1]) > 1 and plain_number(candidate) is None:
            return None
    if max(len(candidate_list[1]), len(reference_list[1])) > _MOST_ELEMENTS:
        return Verdict.undecided
    kinds = (candidate_list[0], reference_list[0])
    if kinds[1] in ("", "{}") or kinds[0] in ("", "{}"):
        if ordered and "{}" not in kinds:
            return _in_order(candidate_list[1], reference_list[1], symbolic)
        verdict = _in_any_order(
            *(_unassigned_all(candidate_list[1], reference_list[1])), symbolic, distinct="{}" in kinds
        )
        return verdict if set(kinds) <= {"", "{}"} or verdict is not Verdict.right else Verdict.undecided
    verdict = _in_order(candidate_list[1], reference_list[1], symbolic)
    return Verdict.wrong if kinds[0] != kinds[1] and verdict is Verdict.right else verdict


def _if_commas_agree(verdict: Verdict, candidate: str, reference: str, symbolic: _Symbolic, ordered: bool) -> Verdict:
    """The verdict on two lists, if it is the same with the commas of {1,720} read the other way."""

    def reread(text: str) -> str:
        # 1,720 alone is one number, unless that would make it wrong.
        return text if verdict is Verdict.right and plain_number(text) is not None else with_other_commas(text)

    other_candidate, other_reference = reread(candidate), reread(reference)
    if (other_candidate, other_reference) == (candidate, reference) or _compare_lists(
        other_candidate, other_reference, symbolic, ordered
    ) is verdict:
        return verdict
    return Verdict.undecided


def _unassigned_all(candidate_parts: list[str], reference_parts: list[str]) -> tuple[list[str], list[str]]:
    """Elements without "x =" if only one list has it."""
    assign = [all(_ASSIGNED.match(part) for part in parts) for parts in (candidate_parts, reference_parts)]
    if assign[0] == assign[1]:
        return candidate_parts, reference_parts
    bare = [_ASSIGNED.sub("", part, count=1) for part in (candidate_parts if assign[0] else reference_parts)]
    return (bare, reference_parts) if assign[0] else (candidate_parts, bare)


def _in_order(candidate_parts: list[str], reference_parts: list[str], symbolic: _Symbolic) -> Verdict:
    """Compare two lists element by element."""
    if len(candidate_parts) != len(reference_parts):
        return Verdict.wrong
    verdicts = [
        compare(candidate, reference, symbolic)
        for candidate, reference in zip(candidate_parts, reference_parts, strict=True)
    ]
    if Verdict.wrong in verdicts:
        return Verdict.wrong
    return Verdict.undecided if Verdict.undecided in verdicts else Verdict.right


def _in_any_order(
    candidate_parts: list[str], reference_parts: list[str], symbolic: _Symbolic, *, distinct: bool
) -> Verdict:
    """Compare multisets of elements; `distinct`: sets, in which repeated elements count once."""
    if distinct:
        return _same_elements(list(dict.fromkeys(candidate_parts)), list(dict.fromkeys(reference_parts)), symbolic)
    if len(candidate_parts) != len(reference_parts):
        return Verdict.wrong
    unmatched, unsure = list(reference_parts), False
    for candidate in candidate_parts:
        for index, reference in enumerate(unmatched):
            verdict = compare(candidate, reference, symbolic)
            if verdict is Verdict.right:
                del unmatched[index]
                break
            unsure |= verdict is Verdict.undecided
    if not unmatched:
        return Verdict.right
    return Verdict.undecided if unsure else Verdict.wrong


def _same_elements(candidate_parts: list[str], reference_parts: list[str], symbolic: _Symbolic) -> Verdict:
    """Compare sets: each element of one must equal an element of the other."""
    table = [
        [compare(candidate, reference, symbolic) for reference in reference_parts] for candidate in candidate_parts
    ]
    lines = [*table, *(list(column) for column in zip(*table, strict=True))]
    if all(Verdict.right in row for row in lines):
        return Verdict.right
    certain = any(all(verdict is Verdict.wrong for verdict in row) for row in lines)
    return Verdict.wrong if certain else Verdict.undecided
