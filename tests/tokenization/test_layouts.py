"""Joining the pieces of a row loses no text and changes nothing that is predicted."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest

from curate.tokenization.layouts import (
    CONTEXT,
    Layout,
    Part,
    Piece,
    exchanges_of,
    joined,
    last_completion,
    only_last,
    parts_of,
    rounds_of,
)

LETTERS = {"s": "system", "u": "user", "a": "assistant", "c": "assistant", "t": "tool"}


def random_rows(seed: int) -> list[list[Piece]]:
    rng = np.random.default_rng(seed)
    parts = get_args(Part)
    return [[(f"<{k}>", parts[rng.integers(len(parts))]) for k in range(n)] for n in rng.integers(0, 12, 50)]


def text_of(row: list[Piece]) -> str:
    return "".join(text for text, _ in row)


@pytest.mark.parametrize("seed", range(3))
def test_joined_pieces_are_the_same_text_with_one_prompt_before_each_prediction(seed: int) -> None:
    for row in random_rows(seed):
        pieces = joined(row)
        assert text_of(pieces) == text_of(row)
        assert [piece for piece in pieces if piece[1] != "prompt"] == [p for p in row if p[1] not in CONTEXT]
        assert all(pieces[k][1] != "prompt" or pieces[k + 1][1] != "prompt" for k in range(len(pieces) - 1))


@pytest.mark.parametrize("seed", range(3))
def test_only_the_last_completion_and_what_follows_it_are_predicted(seed: int) -> None:
    for row in random_rows(seed):
        pieces = last_completion(row)
        assert text_of(pieces) == text_of(row)
        completions = [piece for piece in row if piece[1] == "completion"]
        assert [piece for piece in pieces if piece[1] == "completion"] == completions[-1:]
        assert all(part in ("prompt", "completion", "end") for _, part in pieces)


def test_a_layout_that_predicts_its_last_completion_leaves_out_the_same_exchanges() -> None:
    turns: list[Piece] = [("a", "question"), ("b", "completion"), ("c", "question"), ("d", "completion")]
    layout = only_last(Layout(lambda dropped: turns[2 * dropped :], [2]))
    assert layout.older == [2]
    assert layout.pieces(0) == [("a", "question"), ("b", "frame"), ("c", "question"), ("d", "completion")]
    assert layout.pieces(1) == turns[2:]


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
