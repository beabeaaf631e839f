"""A row as a template lays it out: what a model is given, what it is to predict, and what may be left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

# What the model is given: wording that may be cut last of all, marks of a chat template that never are if it can be
# helped, text of the system or of tools, and the question itself. Then what it is asked to predict, and the mark with
# which it ends a turn, also predicted.
Part = Literal["prompt", "frame", "system", "question", "completion", "end"]
Piece = tuple[str, Part]

CONTEXT: frozenset[Part] = frozenset(["prompt", "frame", "system", "question"])


class RefusedRow(Exception):
    """A template cannot render a row; the message says why and names no row."""


@dataclass(frozen=True)
class Layout:
    """One row.

    pieces: of the row without its d oldest exchanges, given d in 0..len(older); raises RefusedRow.
    older: characters of each exchange that may be left out, the oldest first.
    """

    pieces: Callable[[int], list[Piece]]
    older: Sequence[int] = ()


def joined(pieces: Sequence[Piece]) -> list[Piece]:
    """The same with each run of given text as one piece "prompt"."""
    found: list[Piece] = []
    for text, part in pieces:
        if part in CONTEXT and found and found[-1][1] == "prompt":
            found[-1] = (found[-1][0] + text, "prompt")
        else:
            found.append((text, "prompt" if part in CONTEXT else part))
    return found


def last_completion(row: Sequence[Piece]) -> list[Piece]:
    """A row with its last completion alone to be predicted, and all before it as one prompt."""
    return joined(_given_before_last(row))


def only_last(layout: Layout) -> Layout:
    """The row with its last completion alone to be predicted; earlier ones are given."""
    return Layout(lambda dropped: _given_before_last(layout.pieces(dropped)), layout.older)


def _given_before_last(row: Sequence[Piece]) -> list[Piece]:
    last = max((k for k, (_, part) in enumerate(row) if part == "completion"), default=len(row))
    before: list[Piece] = [(text, part if part in CONTEXT else "frame") for text, part in row[:last]]
    return [*before, *row[last:]]
