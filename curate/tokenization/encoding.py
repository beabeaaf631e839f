"""From rendered examples to flat token arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from curate.data.examples import Examples
from curate.errors import InputError
from curate.tokenization.layouts import CONTEXT, Layout, Piece, RefusedRow
from curate.tokenization.templates import REFUSED_REMEDY, fixed, layouts
from curate.tokenization.tokens import Tokens
from curate.tokenization.truncation import KINDS, Cut, Encoded, Ends, encode_batch

Refuse = Callable[[int, str], None]

_LONG_ROWS = 64  # bounds the tokens alive at once that know where they lie in their text
_CHUNK_ROWS = 4096  # bounds the Python objects alive at once; has no influence on the result


def tokenize(
    examples: Examples,
    tokenizer: Any,
    *,
    template: str,
    max_length: int,
    advance: Callable[[int], None] | None = None,
    refuse: Refuse | None = None,
) -> Tokens:
    """Tokens of all rows, prompt and completion tokenized apart, beginning-of-sequence once, then EOS.

    template: what `curate.tokenization.templates.resolve_template` returned. max_length: tokens per row; a longer row
    is cut, see `curate.tokenization.truncation`, and if that takes some of its completion gets no EOS. The mark with
    which a chat template ends an assistant turn is supervised and, at the end of a row, stands for EOS. A row is valid
    if at least one token of completion text survives; others have no supervised token. advance: called with the number
    of rows done.
    refuse: called with the number of each row that the template cannot render, and why; such a row has no tokens.
    None = InputError.
    """
    return _encode(layouts(examples, template, tokenizer), len(examples), tokenizer, max_length, advance, refuse)


def encode_rows(
    rows: Sequence[Layout] | Sequence[Sequence[Piece]], tokenizer: Any, max_length: int, refuse: Refuse | None = None
) -> Tokens:
    """Tokens of rows that are rendered already, by the rules of `tokenize`."""
    given = [row if isinstance(row, Layout) else fixed(row) for row in rows]
    return _encode(lambda low, high: given[low:high], len(given), tokenizer, max_length, None, refuse)


def _encode(
    render: Callable[[int, int], Sequence[Layout]],
    n: int,
    tokenizer: Any,
    max_length: int,
    advance: Callable[[int], None] | None,
    refuse: Refuse | None,
) -> Tokens:
    def refused(row: int, reason: str) -> None:
        if refuse is None:
            raise InputError(f"row {row}: {reason}; {REFUSED_REMEDY}")
        refuse(row, reason)

    rules = _Rules(tokenizer, max_length)
    parts = []
    for low in range(0, max(n, 1), _CHUNK_ROWS):
        high = min(low + _CHUNK_ROWS, n)
        parts.append(rules.encode(render(low, high), low, refused))
        if advance:
            advance(high - low)
    lengths = np.concatenate([part.lengths for part in parts])
    return Tokens(
        ids=np.concatenate([part.ids for part in parts]),
        supervised=np.concatenate([part.supervised for part in parts]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        valid=np.concatenate([part.valid for part in parts]),
        prompt_cut=np.concatenate([part.prompt_cut for part in parts]),
        completion_cut=np.concatenate([part.completion_cut for part in parts]),
    )


class _Rules:
    """Rows to tokens, by one tokenizer."""

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length
        self.ends = Ends(tokenizer)
        self.cut = Cut(tokenizer, self.ends, max_length)

    def encode(self, rows: Sequence[Layout], first: int, refused: Refuse) -> Tokens:
        """first: number of the first of the rows, by which one that a template refuses is reported."""
        pieces: list[list[Piece] | None] = []
        for k, row in enumerate(rows):
            try:
                pieces.append(self._rendered(row))
            except RefusedRow as error:
                refused(first + k, str(error))
                pieces.append([])
        runs = [None if row is None else self._short_enough(_runs(row)) for row in pieces]
        texts = [text[: self.cut.window] for row in runs for text, _ in row or ()]
        encoded = iter(encode_batch(self.tokenizer, texts))
        found = [None if row is None else self._whole(row, [next(encoded) for _ in row]) for row in runs]
        long = [k for k, row in enumerate(found) if row is None]
        for low in range(0, len(long), _LONG_ROWS):
            block = long[low : low + _LONG_ROWS]
            self.cut.prepare([rows[k] for k in block])
            for k in block:
                try:
                    found[k] = self.cut(rows[k])
                except RefusedRow as error:  # only without its oldest turns
                    refused(first + k, str(error))
                    found[k] = Encoded([], [])
        return self._tokens([row for row in found if row is not None])

    def _rendered(self, row: Layout) -> list[Piece] | None:
        """The pieces of the row; None where it has so many turns that some are left out in any case."""
        return None if sum(row.older) > self.cut.window else row.pieces(0)

    def _short_enough(self, runs: list[tuple[str, int]]) -> list[tuple[str, int]] | None:
        """The runs, or None where it takes more than their beginnings to tokenize them."""
        alone = [kind for _, kind in runs] == [KINDS["completion"]]
        return runs if alone or all(len(text) <= self.cut.window for text, _ in runs) else None

    def _whole(self, runs: list[tuple[str, int]], encoded: list[list[int]]) -> Encoded | None:
        """The row if it fits, or is a text alone, which is cut at its end; None where it takes more thought."""
        if not runs:
            return Encoded([], [])
        row_ids = [number for ids in encoded for number in ids]
        row_kinds = [kind for (_, kind), ids in zip(runs, encoded, strict=True) for _ in ids]
        ids, kinds = self.ends.added(row_ids, row_kinds)
        hidden = max(max(len(text) for text, _ in runs) - self.cut.window, 0)
        if len(ids) <= self.max_length and not hidden:
            return Encoded(ids, kinds)
        alone = len(runs) == 1 and runs[0][1] == KINDS["completion"]
        if not alone or (hidden and len(row_ids) < self.cut.enough):
            return None
        unseen = round(len(row_ids) / self.cut.window * hidden)
        return Encoded(ids[: self.max_length], kinds[: self.max_length], 0, len(ids) - self.max_length + unseen)

    def _tokens(self, rows: list[Encoded]) -> Tokens:
        ids = np.array([number for row in rows for number in row.ids], np.int32)
        kinds = np.array([kind for row in rows for kind in row.kinds], np.int8)
        lengths = np.array([len(row.ids) for row in rows], np.int64)
        ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        row = np.repeat(np.arange(len(lengths)), lengths)
        predicted = np.ones(len(ids), np.bool_)
        predicted[ends[:-1][lengths > 0]] = False  # nothing predicts the first token
        content = predicted & (kinds == KINDS["completion"])
        if self.ends.eos is not None:
            content &= ids != self.ends.eos  # an EOS alone is no completion text
        valid = np.bincount(row[content], minlength=len(lengths)) > 0
        supervised = predicted & (kinds >= KINDS["completion"]) & valid[row]
        cuts = (_counts([row.prompt_cut for row in rows]), _counts([row.completion_cut for row in rows]))
        return Tokens(ids, supervised, ends, valid, *cuts)


def _runs(pieces: list[Piece]) -> list[tuple[str, int]]:
    """(text, kind) of what is tokenized as one text: all that is given at a stretch, each completion, each end."""
    found: list[tuple[str, int]] = []
    for given, run in groupby(pieces, lambda piece: piece[1] in CONTEXT):
        if given:
            found.append(("".join(text for text, _ in run), KINDS["frame"]))
        else:
            found += [(text, KINDS[part]) for text, part in run]
    return found


def _counts(values: list[int]) -> np.ndarray:
    return np.minimum(np.array(values, np.int64), np.iinfo(np.int32).max).astype(np.int32)
