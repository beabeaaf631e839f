"""Grade the letter chosen among the options that a question lists."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from curate.component import Component
from curate.graders.final_words import final_words
from curate.verify.denials import retracted
from curate.verify.extraction import extract
from curate.verify.verdict import Verdict

_OPTION = re.compile(r"^[ \t]*(?:\(([A-J])\)|([A-J])[.):])[ \t]*(?=\S)", re.MULTILINE)
_KEYS = ("answer", "answerkey", "answer_key", "answer_idx", "answer_letter", "correct", "correct_answer", "gold")
_DECORATION = " \t\n*_$`\"'"
_LATEX = re.compile(r"\\(?:text|mathrm|mathbf|textbf)\{([^{}]*)\}")
_ALONE = re.compile(r"(?:(?:option|choice)\s+)?(?:\(([A-J])\)|([A-J])[.):]?)\.?", re.IGNORECASE)
_WITH_TEXT = re.compile(r"(?:\(([A-J])\)|([A-J])[.):])\s*(\S.*)", re.DOTALL)
# Letters that may name an option: excludes articles and pronouns.
_NAMED = re.compile(r"\b(A(?!\s+[a-z])|A(?=\s+(?:is|was|wins|and|or)\b)|I(?!['\u2019\s])|[B-HJ])\b")
_SPACES = re.compile(r"\s+")


class Choice(Component):
    """Right where the letter that a completion chooses is that of the reference.

    The question lists the options, one per line: `A. ..`, `A) ..`, `A: ..` or `(A) ..`; rows whose question lists
    none are not graded. The reference is a letter or the text of an option, from the row's final answer, its
    completion ("The answer is (B)."), or a column such as `answerKey`. The letter of a completion is read from a box,
    after `####`, after "the answer is", alone on its first or last line, or before the text of its option; the text of
    a single option alone counts too. Several letters, a letter beside another option's text, and prose are undecided,
    and so is a completion that was cut off, unless more text follows the letter.
    """

    def reference(self, question: str, completion: str, final_answer: str | None, row: Mapping[str, Any]) -> str | None:
        """The letter, followed by the options, one per line; see `curate.protocols.Grader`."""
        options = options_in(question)
        if options is None:
            return None
        cells = [row[name] for name in row if name.casefold() in _KEYS and isinstance(row[name], str)]
        for stated in (final_answer, completion, *cells):
            letter = None if not stated else _chosen(stated, options)
            if letter in options:
                lines = [f"{name}. {_folded(text)}" for name, text in options.items()]
                return "\n".join([str(letter), *lines])
        return None

    def grade(self, completion: str, reference: str, row: Mapping[str, Any]) -> Verdict:
        """See `curate.protocols.Grader`."""
        return self._grade(completion, reference, False)

    def grade_many(
        self,
        completions: Sequence[str],
        references: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
        cut_off: Sequence[bool],
    ) -> list[Verdict]:
        """See `curate.protocols.Grader`."""
        return [self._grade(*cells) for cells in zip(completions, references, cut_off, strict=True)]

    def extract(self, completion: str, cut_off: bool) -> str | None:
        """The letter that a completion states, whatever the options."""
        return _chosen(completion, {}, cut_off)

    def _grade(self, completion: str, reference: str, cut_off: bool) -> Verdict:
        right, _, stated = reference.partition("\n")
        letter = _chosen(completion, options_in(stated) or {}, cut_off)
        if letter is None:
            return Verdict.undecided
        return Verdict.right if letter == right.strip().upper() else Verdict.wrong


def options_in(text: str) -> dict[str, str] | None:
    """Letter -> text of the last list of options in a question, starting at A; None if there are fewer than two."""
    matches = [(match[1] or match[2], match.end(), match.start()) for match in _OPTION.finditer(text)]
    starts = [k for k, (letter, _, _) in enumerate(matches) if letter == "A"]
    if not starts:
        return None
    listed = matches[starts[-1] :]
    letters = [letter for letter, _, _ in listed]
    if len(listed) < 2 or letters != [chr(ord("A") + k) for k in range(len(listed))]:
        return None
    options = {}
    for k, (letter, begin, _) in enumerate(listed):
        end = listed[k + 1][2] if k + 1 < len(listed) else None
        options[letter] = text[begin:end].strip()
    last = letters[-1]
    options[last] = options[last].split("\n")[0]  # text after the list is not part of it
    return options


def _chosen(text: str, options: Mapping[str, str], cut_off: bool = False) -> str | None:
    """The one letter that a text chooses, None if there is none or it is ambiguous."""
    answer_text = final_words(text)
    if not answer_text:
        return None
    letter_by_text = None if cut_off else _by_text(answer_text, options)
    if letter_by_text is not None:
        return letter_by_text
    answer = extract(answer_text)
    if answer is not None and answer.how in ("choice", "whole") and len(_lone_letters(answer_text)) > 1:
        return None
    if answer is not None and answer.strong:
        if cut_off and answer_text.rstrip().endswith(answer.text):
            return None  # the letter may begin a word
        return _letter(answer.text, options)
    first, _, rest = answer_text.partition("\n")
    alone = _ALONE.fullmatch(first.strip(_DECORATION))
    if alone is None or (cut_off and not rest.strip()):
        return None
    letter = (alone[1] or alone[2]).upper()
    return None if _others(rest, letter) or retracted(letter, rest) else letter


def _lone_letters(text: str) -> set[str]:
    """Letters that stand alone on a line of the text."""
    lines = (_ALONE.fullmatch(line.strip(_DECORATION)) for line in text.split("\n"))
    return {(match[1] or match[2]).upper() for match in lines if match is not None}


def _letter(answer: str, options: Mapping[str, str]) -> str | None:
    """The letter that an extracted answer means; None if it is ambiguous or not an option."""
    answer = _LATEX.sub(r"\1", answer).strip(_DECORATION)
    alone = _ALONE.fullmatch(answer)
    if alone is not None:
        return (alone[1] or alone[2]).upper()
    with_text = _WITH_TEXT.fullmatch(answer)
    if with_text is None:
        return _by_text(answer, options)
    letter, rest = with_text[1] or with_text[2], with_text[3]
    option = options.get(letter.upper())
    if option is None:
        return None if options or _others(rest, letter) else letter.upper()
    # The letter must be followed by its text, and no other letter may follow that.
    folded_rest, option_text = _folded(rest), _folded(option)
    if not folded_rest.startswith(option_text) or folded_rest[len(option_text) : len(option_text) + 1].isalnum():
        return None
    behind = folded_rest[len(option_text) :]
    return (
        None
        if behind.startswith("?") or retracted(letter, behind) or _others(rest[len(option_text) :], letter)
        else letter.upper()
    )


def _others(text: str, letter: str) -> bool:
    """Whether a text names a letter other than this one."""
    return any(letter_named != letter.upper() for letter_named in _NAMED.findall(text))


def _by_text(text: str, options: Mapping[str, str]) -> str | None:
    """The letter of the only option with this text, else None."""
    folded_text = _folded(text)
    letters = [letter for letter, option in options.items() if folded_text and _folded(option) == folded_text]
    return letters[0] if len(letters) == 1 else None


def _folded(text: str) -> str:
    return _SPACES.sub(" ", text.strip(_DECORATION)).rstrip(".").casefold()
