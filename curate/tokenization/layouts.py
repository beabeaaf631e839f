"""Layouts of rendered rows: pieces of context, predicted pieces, and exchanges that may be dropped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

# Context: the wording of a prompt ("prompt", cut last but one), template text of a chat ("frame", cut last), system
# prompt and tools ("system"), and the question. Predicted: the completion, and the token or text that ends a turn
# ("end").
Part = Literal["prompt", "frame", "system", "question", "completion", "end"]
Piece = tuple[str, Part]

CONTEXT: frozenset[Part] = frozenset(["prompt", "frame", "system", "question"])


class RefusedRow(Exception):
    """A template cannot render a row; the message is the reason, without the row."""


@dataclass(frozen=True)
class Layout:
    """A rendered row and its shorter versions.

    pieces: maps d in 0..len(older) to the pieces of the row without its d oldest exchanges; raises RefusedRow.
    older: characters of each exchange that may be dropped, oldest first.
    """

    pieces: Callable[[int], list[Piece]]
    older: Sequence[int] = ()


def joined(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces with each run of context merged into one piece "prompt"."""
    runs: list[Piece] = []
    for text, part in pieces:
        if part in CONTEXT and runs and runs[-1][1] == "prompt":
            runs[-1] = (runs[-1][0] + text, "prompt")
        else:
            runs.append((text, "prompt" if part in CONTEXT else part))
    return runs


def last_completion(row: Sequence[Piece]) -> list[Piece]:
    """The pieces of a row with only the last completion predicted; everything before it is one prompt."""
    return joined(_predict_last(row))


def only_last(layout: Layout) -> Layout:
    """The row with only its last completion predicted; earlier ones are context."""
    return Layout(lambda dropped: _predict_last(layout.pieces(dropped)), layout.older)


def _predict_last(row: Sequence[Piece]) -> list[Piece]:
    last = max((k for k, (_, part) in enumerate(row) if part == "completion"), default=len(row))
    before: list[Piece] = [(text, part if part in CONTEXT else "frame") for text, part in row[:last]]
    return [*before, *row[last:]]
