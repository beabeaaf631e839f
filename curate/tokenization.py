"""From rendered examples to flat token arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.examples import Examples
from curate.templates import Piece, renderer
from curate.tokens import Tokens

__all__ = ["tokenize"]

_CHUNK_ROWS = 4096  # bounds the Python objects alive at once; has no influence on the result


def tokenize(
    examples: Examples,
    tokenizer: Any,
    *,
    template: str,
    max_length: int,
    advance: Callable[[int], None] | None = None,
) -> Tokens:
    """Tokens of all rows, prompt and completion tokenised apart, beginning-of-sequence once, then EOS.

    max_length: tokens per row; a longer row is cut there and gets no EOS. A row is valid if at least one token
    of completion text survives. advance: called with the number of rows done.
    """
    rules = _Rules(tokenizer, max_length)
    render = renderer(examples, template, tokenizer)
    parts = []
    for low in range(0, len(examples), _CHUNK_ROWS):
        high = min(low + _CHUNK_ROWS, len(examples))
        parts.append(rules.encode(render(low, high)))
        if advance:
            advance(high - low)
    lengths = np.concatenate([part[2] for part in parts])
    return Tokens(
        ids=np.concatenate([part[0] for part in parts]),
        supervised=np.concatenate([part[1] for part in parts]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        valid=np.concatenate([part[3] for part in parts]),
        truncated=np.concatenate([part[4] for part in parts]),
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
        self.ends = {self.eos} | {
            number for number, token in getattr(tokenizer, "added_tokens_decoder", {}).items() if token.special
        }
        # No row needs more characters than max_length of the longest token: the rest of a huge cell is cut off
        # before the tokenizer sees it, which would take minutes on tens of megabytes without a space.
        longest = max((len(token) for token in tokenizer.get_vocab()), default=16)
        self.most_characters = (max_length + 1) * max(longest, 16)

    def encode(
        self, rows: list[list[Piece]]
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
        texts = [text[: self.most_characters] for row in rows for text, _ in row]
        encoded = iter(_encode_batch(self.tokenizer, texts))
        flat: list[int] = []
        mask: list[bool] = []
        lengths, valid, truncated = [], [], []
        for row in rows:
            ids: list[int] = []
            supervised: list[bool] = []
            for _, counts in row:
                piece = next(encoded)
                ids += piece
                supervised += [counts] * len(piece)
            ids, supervised, ok, cut = self._finish(ids, supervised)
            flat += ids
            mask += supervised
            lengths.append(len(ids))
            valid.append(ok)
            truncated.append(cut)
        return (
            np.array(flat, np.int32),
            np.array(mask, np.bool_),
            np.array(lengths, np.int64),
            np.array(valid, np.bool_),
            np.array(truncated, np.bool_),
        )

    def _finish(self, ids: list[int], supervised: list[bool]) -> tuple[list[int], list[bool], bool, bool]:
        if self.bos is not None and (not ids or ids[0] != self.bos):
            ids, supervised = [self.bos, *ids], [False, *supervised]
        ended = bool(ids) and supervised[-1] and ids[-1] in self.ends
        has_text = any(supervised)
        if self.eos is not None and not ended and has_text:
            ids, supervised = [*ids, self.eos], [*supervised, True]
        cut = len(ids) > self.max_length
        ids, supervised = ids[: self.max_length], supervised[: self.max_length]
        if supervised:
            supervised[0] = False  # nothing predicts the first token
        # An EOS alone is no completion text.
        content = sum(supervised) - (1 if not cut and supervised and supervised[-1] and ids[-1] in self.ends else 0)
        return ids, supervised, content > 0, cut


def _encode_batch(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]
    encoded: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return encoded
