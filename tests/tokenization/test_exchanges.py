"""Where exchanges and rounds begin."""

from typing import Any

import pytest

from curate.tokenization.exchanges import exchanges_of, parts_of, rounds_of

LETTERS = {"s": "system", "u": "user", "a": "assistant", "c": "assistant", "t": "tool"}


def talk(letters: str) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = [{"role": LETTERS[letter], "content": "x"} for letter in letters]
    for turn, letter in zip(turns, letters, strict=True):
        if letter == "c":
            turn |= {"content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    return turns


@pytest.mark.parametrize(
    ("letters", "preamble", "begins", "rounds"),
    [
        ("ua", 0, [0], [1]),
        ("sua", 1, [1], [2]),
        ("uauaua", 0, [0, 2, 4], [5]),
        ("uacta", 0, [0], [1]),
        ("uuauua", 0, [0, 3], [5]),
        ("ucta", 0, [0], [1]),
        ("uctcta", 0, [0], [1, 3]),
        ("uctctta", 0, [0], [1, 3]),
        ("uctctct", 0, [0], [1, 3]),
        ("uauctctcta", 0, [0, 2], [3, 5, 7]),
        ("u", 0, [0], [0]),
    ],
)
def test_exchanges_begin_with_questions_and_rounds_with_calls(
    letters: str, preamble: int, begins: list[int], rounds: list[int]
) -> None:
    turns = talk(letters)
    assert exchanges_of(turns) == (preamble, begins)
    assert rounds_of(turns, begins[-1]) == rounds


def test_what_is_learned_asked_and_said_around_it() -> None:
    assert parts_of(talk("suauct"), 1, 3) == ["system", "frame", "completion", "question", "completion", "system"]
