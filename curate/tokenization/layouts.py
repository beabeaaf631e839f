"""Layouts of rendered rows: context, predicted pieces, and the exchanges and tool rounds that may be dropped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from curate.data.turns import Turn, is_learned

# Context: the wording of a prompt ("prompt", cut last but one), template text of a chat ("frame", cut last), system
# prompt and tools ("system"), and the question. Predicted: the completion, and the token or text that ends a turn
# ("end").
Part = Literal["prompt", "frame", "system", "question", "completion", "end"]
Piece = tuple[str, Part]

CONTEXT: frozenset[Part] = frozenset(["prompt", "frame", "system", "question"])
_PREAMBLE = ("system", "developer")
_PLAIN = {"role", "content", "train", "name", "tool_call_id"}


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


def is_more_than_content(turn: Turn) -> bool:
    """Whether an assistant turn has tool calls or reasoning, under any key."""
    return turn["role"] == "assistant" and not turn.keys() <= _PLAIN


def speaks(turn: Turn) -> bool:
    """Whether a turn has anything to render."""
    return bool(turn["content"]) or is_more_than_content(turn)


def exchanges_of(turns: Sequence[Turn]) -> tuple[int, list[int]]:
    """(number of turns in the preamble, index of the first turn of each exchange up to that of the last answer)."""
    preamble = next((k for k, turn in enumerate(turns) if turn["role"] not in _PREAMBLE), len(turns))
    last = _last_answer(turns)
    users = [k for k in range(preamble + 1, last) if turns[k]["role"] == "user" != turns[k - 1]["role"]]
    return preamble, [preamble, *users]


def rounds_of(turns: Sequence[Turn], begin: int) -> list[int]:
    """The index of the first turn of each round of tool calls and results in the exchange that begins at `begin`.

    The last round, which is always kept, is not among them. An exchange without rounds gives a single index.
    """
    last = _last_answer(turns)
    answers = [k for k in range(begin, last + 1) if turns[k]["role"] == "assistant"]
    rounds = [answers[0], *(k for k in answers[1:] if turns[k - 1]["role"] == "tool")] if answers else [begin]
    return rounds[:-1] if len(rounds) > 1 else rounds


def _last_answer(turns: Sequence[Turn]) -> int:
    """Index of the last supervised turn, or of the last turn if none is."""
    answers = (k for k in range(len(turns) - 1, -1, -1) if is_learned(turns[k]) and speaks(turns[k]))
    return next(answers, len(turns) - 1)


def parts_of(turns: Sequence[Turn], preamble: int, last: int) -> list[Part]:
    """The part that each content is.

    preamble, last: indices at which the first and the last exchange begin. Older questions are dropped only together
    with their turns, so they count as frame.
    """

    def part(k: int, turn: Turn) -> Part:
        if is_learned(turn):
            return "completion"
        if preamble <= k < last:
            return "frame"
        return "question" if turn["role"] == "user" else "system"

    return [part(k, turn) for k, turn in enumerate(turns)]
