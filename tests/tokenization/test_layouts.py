"""Joining the pieces of a row loses no text and changes nothing that is predicted."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from curate.tokenization.layouts import CONTEXT, Layout, Part, Piece, joined, last_completion, only_last


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
