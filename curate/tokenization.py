"""From rendered examples to flat token arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from curate.examples import Examples
from curate.templates import Part, Piece, renderer
from curate.tokens import Tokens

__all__ = ["encode_rows", "tokenize"]

_CHUNK_ROWS = 4096  # bounds the Python objects alive at once; has no influence on the result
_CHARACTERS_PER_TOKEN = 16  # more than text has; where it is not, a longer piece of the cell is tried
_SPARE_TOKENS = 64  # a cut changes how the last few characters before it are tokenised


def tokenize(
    examples: Examples,
    tokenizer: Any,
    *,
    template: str,
    max_length: int,
    advance: Callable[[int], None] | None = None,
) -> Tokens:
    """Tokens of all rows, prompt and completion tokenised apart, beginning-of-sequence once, then EOS.

    template: what `curate.templates.resolve_template` returned. max_length: tokens per row; a longer row is cut
    there and gets no EOS. The mark with which a chat template ends an assistant turn is supervised and, at the end
    of a row, stands for EOS. A row is valid if at least one token of completion text survives; others have no
    supervised token. advance: called with the number of rows done.
    """
    return _encode(renderer(examples, template, tokenizer), len(examples), tokenizer, max_length, advance)


def encode_rows(rows: Sequence[Sequence[Piece]], tokenizer: Any, max_length: int) -> Tokens:
    """Tokens of rows that are rendered already, by the rules of `tokenize`."""
    return _encode(lambda low, high: rows[low:high], len(rows), tokenizer, max_length, None)


def _encode(
    render: Callable[[int, int], Sequence[Sequence[Piece]]],
    n: int,
    tokenizer: Any,
    max_length: int,
    advance: Callable[[int], None] | None,
) -> Tokens:
    rules = _Rules(tokenizer, max_length)
    parts = []
    for low in range(0, max(n, 1), _CHUNK_ROWS):
        high = min(low + _CHUNK_ROWS, n)
        parts.append(rules.encode(render(low, high)))
        if advance:
            advance(high - low)
    lengths = np.concatenate([part.lengths for part in parts])
    return Tokens(
        ids=np.concatenate([part.ids for part in parts]),
        supervised=np.concatenate([part.supervised for part in parts]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        valid=np.concatenate([part.valid for part in parts]),
        truncated=np.concatenate([part.truncated for part in parts]),
    )


class _Rules:
    """What one tokenizer needs at the ends of a row, found out once."""

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.eos = tokenizer.eos_token_id
        bos = tokenizer.bos_token_id
        probe = tokenizer("a")["input_ids"]
        self.bos = bos if bos is not None and len(probe) > 0 and probe[0] == bos else None

    def encode(self, rows: Sequence[Sequence[Piece]]) -> Tokens:
        encoded = iter(self._beginnings([text for row in rows for text, _ in row]))
        flat: list[int] = []
        parts: list[int] = []
        offsets, truncated = [0], []
        for row in rows:
            ids: list[int] = []
            kinds: list[int] = []
            for _, part in row:
                piece = next(encoded)
                ids += piece
                kinds += [_PARTS[part]] * len(piece)
            if self.bos is not None and (not ids or ids[0] != self.bos):
                ids, kinds = [self.bos, *ids], [_PROMPT, *kinds]
            if self.eos is not None and _COMPLETION in kinds and not self._ended(ids[-1], kinds[-1]):
                ids, kinds = [*ids, self.eos], [*kinds, _END]
            flat += ids[: self.max_length]
            parts += kinds[: self.max_length]
            offsets.append(len(flat))
            truncated.append(len(ids) > self.max_length)
        return self._tokens(flat, parts, offsets, truncated)

    def _ended(self, last_id: int, last_kind: int) -> bool:
        return last_kind == _END or (last_kind == _COMPLETION and last_id == self.eos)

    def _tokens(self, flat: list[int], parts: list[int], offsets: list[int], truncated: list[bool]) -> Tokens:
        ids, kinds = np.array(flat, np.int32), np.array(parts, np.int8)
        ends = np.array(offsets, np.int64)
        lengths = np.diff(ends)
        row = np.repeat(np.arange(len(lengths)), lengths)
        predicted = np.ones(len(ids), np.bool_)
        predicted[ends[:-1][lengths > 0]] = False  # nothing predicts the first token
        content = predicted & (kinds == _COMPLETION)
        if self.eos is not None:
            content &= ids != self.eos  # an EOS alone is no completion text
        valid = np.bincount(row[content], minlength=len(lengths)) > 0
        supervised = predicted & (kinds != _PROMPT) & valid[row]
        return Tokens(ids, supervised, ends, valid, np.array(truncated, np.bool_))

    def _beginnings(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, or of a beginning of it that is longer than max_length tokens.

        A tokenizer takes minutes on tens of megabytes without a space, of which all but max_length tokens are cut.
        """
        enough = self.max_length + _SPARE_TOKENS
        characters = enough * _CHARACTERS_PER_TOKEN
        encoded = _encode_batch(self.tokenizer, [text[:characters] for text in texts])
        while short := [k for k, text in enumerate(texts) if len(text) > characters and len(encoded[k]) < enough]:
            characters *= 4
            again = _encode_batch(self.tokenizer, [texts[k][:characters] for k in short])
            for k, ids in zip(short, again, strict=True):
                encoded[k] = ids
        return encoded


_PROMPT, _COMPLETION, _END = 0, 1, 2
_PARTS: dict[Part, int] = {"prompt": _PROMPT, "completion": _COMPLETION, "end": _END}


def _encode_batch(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    if not texts:
        return []
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]
    encoded: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return encoded
