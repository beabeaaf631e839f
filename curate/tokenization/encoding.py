"""Tokenize rendered examples into flat token arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from curate.data.examples import Examples
from curate.errors import InputError
from curate.storage.mapped import release
from curate.tokenization.layouts import CONTEXT, Layout, Piece, RefusedRow
from curate.tokenization.templates import REFUSED_REMEDY, Supervise, fixed, layouts
from curate.tokenization.tokens import Tokens, row_offsets
from curate.tokenization.truncation import KINDS, Encoded, SequenceEnds, Truncation, encode_batch

# Raise when the same rows give other tokens, or other tokens are supervised: it is part of the key of everything cached
# that tokens decide. `tests/tokenization/test_golden_tokens.py` notices.
TOKENS_VERSION = 2

Refuse = Callable[[int, str], None]

_LONG_ROWS = 64  # bounds the encodings with offsets in memory
_CHUNK_ROWS = 4096  # bounds the Python objects in memory; does not affect the result


def tokenize(
    examples: Examples,
    tokenizer: Any,
    *,
    template: str,
    max_length: int,
    supervise: Supervise = "all",
    advance: Callable[[int], None] | None = None,
    refuse: Refuse | None = None,
) -> Tokens:
    """Tokenize all rows: prompt and completion separately, with one BOS at the beginning and EOS at the end.

    template: what `curate.tokenization.templates.resolve_template` returned. max_length: tokens per row; a longer row
    is truncated, see `curate.tokenization.truncation`, and gets no EOS if its completion is cut. The mark that ends an
    assistant turn in a chat template is supervised and replaces EOS at the end of a row. A row is valid if at least one
    token of completion text survives; others have no supervised token. supervise: which assistant turns count, all or
    the last one. advance: called with the number of rows done.
    refuse: called with the index of each row that the template cannot render and the reason; such a row has no tokens.
    None = raise InputError.
    """
    rows = layouts(examples, template, tokenizer, supervise)
    return Tokens.concatenate(list(_encode(rows, len(examples), tokenizer, max_length, advance, refuse)))


def token_parts(
    examples: Examples,
    tokenizer: Any,
    *,
    template: str,
    max_length: int,
    supervise: Supervise = "all",
    advance: Callable[[int], None] | None = None,
    refuse: Refuse | None = None,
) -> Iterator[Tokens]:
    """The tokens of `tokenize` in parts of 4,096 rows."""
    rows = layouts(examples, template, tokenizer, supervise)
    return _encode(rows, len(examples), tokenizer, max_length, advance, refuse)


def encode_rows(
    rows: Sequence[Layout] | Sequence[Sequence[Piece]], tokenizer: Any, max_length: int, refuse: Refuse | None = None
) -> Tokens:
    """Like `tokenize`, for rows that are rendered already."""
    layouts_of_rows = [row if isinstance(row, Layout) else fixed(row) for row in rows]
    parts = _encode(lambda low, high: layouts_of_rows[low:high], len(rows), tokenizer, max_length, None, refuse)
    return Tokens.concatenate(list(parts))


def _encode(
    render: Callable[[int, int], Sequence[Layout]],
    n: int,
    tokenizer: Any,
    max_length: int,
    advance: Callable[[int], None] | None,
    refuse: Refuse | None,
) -> Iterator[Tokens]:
    """Render and tokenize n rows, `_CHUNK_ROWS` at a time. render: (low, high) -> layouts."""

    def refused(row: int, reason: str) -> None:
        if refuse is None:
            raise InputError(f"row {row}: {reason}; {REFUSED_REMEDY}")
        refuse(row, reason)

    encoder = _RowEncoder(tokenizer, max_length)
    for low in range(0, max(n, 1), _CHUNK_ROWS):
        high = min(low + _CHUNK_ROWS, n)
        yield encoder.encode(render(low, high), low, refused)
        release()
        if advance:
            advance(high - low)


class _RowEncoder:
    """Encodes rows with one tokenizer: those that fit in batches, the others one by one."""

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length
        self.ends = SequenceEnds(tokenizer)
        self.truncation = Truncation(tokenizer, self.ends, max_length)

    def encode(self, rows: Sequence[Layout], first: int, refused: Refuse) -> Tokens:
        """Tokenize rows. first: index of the first row, for reports of refused rows."""
        runs: list[list[tuple[str, int]] | None] = []
        for k, row in enumerate(rows):
            try:
                runs.append(self._short_runs(row))
            except RefusedRow as error:
                refused(first + k, str(error))
                runs.append([])
        texts = [text[: self.truncation.window] for row_runs in runs for text, _ in row_runs or ()]
        token_ids = iter(encode_batch(self.tokenizer, texts))
        encoded = [None if run is None else self._whole(run, [next(token_ids) for _ in run]) for run in runs]
        long = [k for k, row_tokens in enumerate(encoded) if row_tokens is None]
        for low in range(0, len(long), _LONG_ROWS):
            block = long[low : low + _LONG_ROWS]
            self.truncation.prepare([rows[k] for k in block])
            for k in block:
                try:
                    encoded[k] = self.truncation.encode(rows[k])
                except RefusedRow as error:  # only without its oldest turns
                    refused(first + k, str(error))
                    encoded[k] = Encoded([], [])
        return self._tokens([row_tokens for row_tokens in encoded if row_tokens is not None])

    def _short_runs(self, row: Layout) -> list[tuple[str, int]] | None:
        """(text, kind) runs of a row that can be tokenized whole; None for a row that may need truncation."""
        if sum(row.older) > self.truncation.window:  # some exchanges will be dropped in any case
            return None
        runs = _runs(row.pieces(0))
        alone = [kind for _, kind in runs] == [KINDS["completion"]]
        return runs if alone or all(len(text) <= self.truncation.window for text, _ in runs) else None

    def _whole(self, runs: list[tuple[str, int]], encoded: list[list[int]]) -> Encoded | None:
        """The encoded row if it fits or is a single text, which is cut at its end; None if it needs `Truncation`."""
        if not runs:
            return Encoded([], [])
        row_ids = [number for ids in encoded for number in ids]
        row_kinds = [kind for (_, kind), ids in zip(runs, encoded, strict=True) for _ in ids]
        ids, kinds = self.ends.added(row_ids, row_kinds)
        hidden = max(max(len(text) for text, _ in runs) - self.truncation.window, 0)
        if len(ids) <= self.max_length and not hidden:
            return Encoded(ids, kinds)
        alone = len(runs) == 1 and runs[0][1] == KINDS["completion"]
        if not alone or (hidden and len(row_ids) < self.truncation.enough):
            return None
        unseen = round(len(row_ids) / self.truncation.window * hidden)
        return Encoded(ids[: self.max_length], kinds[: self.max_length], 0, len(ids) - self.max_length + unseen)

    def _tokens(self, rows: list[Encoded]) -> Tokens:
        """Flat arrays of n encoded rows with t tokens."""
        ids = np.array([number for row in rows for number in row.ids], np.int32)  # (t,)
        kinds = np.array([kind for row in rows for kind in row.kinds], np.int8)  # (t,)
        lengths = np.array([len(row.ids) for row in rows], np.int64)  # (n,)
        offsets = row_offsets(lengths)  # (n + 1,)
        row_of = np.repeat(np.arange(len(lengths)), lengths)  # (t,)
        predicted = np.ones(len(ids), np.bool_)  # (t,)
        predicted[offsets[:-1][lengths > 0]] = False  # nothing predicts the first token
        content = predicted & (kinds == KINDS["completion"])  # (t,)
        if self.ends.eos is not None:
            content &= ids != self.ends.eos  # an EOS alone is not a completion text
        valid = np.bincount(row_of[content], minlength=len(lengths)) > 0  # (n,)
        supervised = predicted & (kinds >= KINDS["completion"]) & valid[row_of]
        cuts = np.array([[row.prompt_cut for row in rows], [row.completion_cut for row in rows]], np.int64)  # (2, n)
        return Tokens(ids, supervised, offsets, valid, *np.minimum(cuts, np.iinfo(np.int32).max).astype(np.int32))


def _runs(pieces: list[Piece]) -> list[tuple[str, int]]:
    """(text, kind) of what is tokenized as one text: each stretch of context, each completion, each end."""
    runs: list[tuple[str, int]] = []
    for is_context, run in groupby(pieces, lambda piece: piece[1] in CONTEXT):
        if is_context:
            runs.append(("".join(text for text, _ in run), KINDS["frame"]))
        else:
            runs += [(text, KINDS[part]) for text, part in run]
    return runs
