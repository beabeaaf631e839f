"""Check questions for what makes them useless: answers inside them, and letters of choices that are not shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from curate.data.columns import content_roles
from curate.data.wording import listed
from curate.errors import InputError

_ROWS = 64  # that are looked at
_SHORT = 8  # characters; a shorter answer may well be the last word of its question
# Columns of the choices of a question, in lower case.
CHOICES = frozenset(["choices", "options", "endings", "opa", "option_a", "choice_a"])
_LETTER = re.compile(r"\W*[A-Ja-j0-9]\W*")


def check_questions(table: pa.Table, shape: str, columns: Mapping[str, str], explicit: Mapping[str, str]) -> list[str]:
    """Notes on prompts and answers that hold one another, and on choices that no model sees.

    explicit: {role: column} that the caller assigned. Raises InputError if all answers are letters or numbers of such
    choices, unless the caller named the column of the answers.
    """
    names = {role: columns[role] for role in content_roles(shape, columns)}
    answer = names.get("output") or names.get("completion")
    if shape in ("messages", "text") or answer is None:
        return []
    rows = table.slice(0, _ROWS)
    asked = [_texts(rows, name) for name in names.values() if name != answer]
    answers = _texts(rows, answer)
    notes = _choices(table, names, answer, answers, explicit)
    notes += _ending_with_answer(names, answer, asked, answers)
    return [*notes, *_beginning_with_prompt(answer, asked[0], answers)]


def _texts(table: pa.Table, name: str) -> list[str]:
    cells: list[Any] = table[name].to_pylist()
    return [cell.strip() if isinstance(cell, str) else "" for cell in cells]


def _choices(
    table: pa.Table, names: Mapping[str, str], answer: str, answers: list[str], explicit: Mapping[str, str]
) -> list[str]:
    unread = [field for field in table.schema if field.name not in names.values()]
    choices = [field for field in unread if field.name.casefold() in CHOICES]
    if not choices or all(pa.types.is_null(field.type) for field in choices):
        return []
    name = choices[0].name
    cells = table[name].slice(0, _ROWS).to_pylist()
    letters = all(map(_LETTER.fullmatch, answers)) and not any(
        isinstance(cell, list) and text in cell for cell, text in zip(cells, answers, strict=True)
    )
    if letters and not {"completion", "output"} & explicit.keys():
        raise InputError(
            f"column {name!r} holds choices, of which column {answer!r} names the right one: multiple choice; write "
            "the question with its choices as `prompt`, and the right one as `completion`"
        )
    return [f"column {name!r} is not read: no model sees the choices, unless the question has them too"]


def _beginning_with_prompt(answer: str, prompts: list[str], answers: list[str]) -> list[str]:
    begins = [text.startswith(prompt) for prompt, text in zip(prompts, answers, strict=True) if len(prompt) >= _SHORT]
    if not begins or sum(begins) < 0.9 * len(begins):
        return []
    return [f"answers in column {answer!r} begin with their prompts, which a model would repeat; leave these out"]


def _ending_with_answer(names: Mapping[str, str], answer: str, asked: list[list[str]], answers: list[str]) -> list[str]:
    ends = [
        any(prompt.endswith(text) for prompt in prompts)
        for text, *prompts in zip(answers, *asked, strict=True)
        if len(text) >= _SHORT
    ]
    if not ends or sum(ends) < 0.9 * len(ends):
        return []
    columns = listed([repr(name) for name in names.values() if name != answer])
    return [
        f"{columns} ends with the answer of column {answer!r}, which a model would copy; name the column of the bare "
        f"question: --columns prompt=COLUMN,completion={answer}"
    ]
