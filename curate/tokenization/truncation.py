"""Truncate rows that are longer than the maximum length."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np

from curate.tokenization.layouts import CONTEXT, Layout, Part, Piece, RefusedRow
from curate.types import BoolArray, IntArray

CHARACTERS_PER_TOKEN = 16  # an upper bound for ordinary text; where it fails, a longer piece of the text is tried
SPARE_TOKENS = 64  # a cut through a text changes how the characters next to it are tokenized
_RUN = 256  # longest run kept of white space or of a word unknown to the tokenizer; longer runs add no information
_LEAST = 64  # tokens of the prompt, and of the completion, that are always kept (all of them if there are fewer)
_QUESTION_SHARE = 8  # one in so many of the kept prompt tokens is reserved for the question itself

# A token that spans two pieces is of the lower kind: template text is kept longer than the content it surrounds.
KINDS: dict[Part, int] = {"frame": 0, "prompt": 1, "system": 2, "question": 3, "completion": 4, "end": 5}
_WORD_END = re.compile(r"\w(?=\s)")


@dataclass
class Encoded:
    """The tokens of a row.

    kinds: of each token, see `KINDS`.
    prompt_cut: tokens dropped before the completion; estimated for text that was cut before it was tokenized.
    completion_cut: tokens dropped at the end of the completion, including the end-of-text token; estimated likewise.
    """

    ids: list[int]
    kinds: list[int]
    prompt_cut: int = 0
    completion_cut: int = 0


class SequenceEnds:
    """The beginning-of-sequence and end-of-sequence tokens of a tokenizer, looked up once."""

    def __init__(self, tokenizer: Any) -> None:
        self.eos = tokenizer.eos_token_id
        bos = tokenizer.bos_token_id
        probe = tokenizer("a")["input_ids"]
        self.bos = bos if bos is not None and len(probe) > 0 and probe[0] == bos else None

    def added(self, ids: list[int], kinds: list[int]) -> tuple[list[int], list[int]]:
        """Add the beginning-of-sequence token, and the end-of-text token to a completion that has none."""
        if self.bos is not None and (not ids or ids[0] != self.bos):
            ids, kinds = [self.bos, *ids], [KINDS["frame"], *kinds]
        if self.eos is not None and KINDS["completion"] in kinds and not self._ended(ids[-1], kinds[-1]):
            ids, kinds = [*ids, self.eos], [*kinds, KINDS["end"]]
        return ids, kinds

    def _ended(self, last_id: int, last_kind: int) -> bool:
        return last_kind == KINDS["end"] or (last_kind == KINDS["completion"] and last_id == self.eos)


@dataclass
class _Long(Encoded):
    """A row whose texts may have been tokenized only in part.

    hidden_prompt, hidden_completion: estimated number of tokens that were not tokenized.
    short: too little of a text was tokenized to decide what is kept.
    """

    hidden_prompt: int = 0
    hidden_completion: int = 0
    short: bool = False

    @property
    def total(self) -> int:
        return len(self.ids) + self.hidden_prompt + self.hidden_completion


class Truncation:
    """Truncates rows to `max_length` tokens of one tokenizer.

    What is dropped, in this order: whole exchanges of a conversation, oldest first; whole rounds of tool calls and
    their results before the last answer, oldest first, except the last round; the text of system prompt, tools and
    context, from the left in the order in which the template renders it, and tool results; the left of the question;
    and only then the right of the completion. A text that is far too long is cut before it is tokenized.
    """

    def __init__(self, tokenizer: Any, ends: SequenceEnds, max_length: int) -> None:
        self.tokenizer, self.ends, self.max_length = tokenizer, ends, max_length
        self.enough = max_length + SPARE_TOKENS
        self._contexts: dict[str, Any] = {}  # text -> its encoding, see `prepare`
        self._predicted: dict[str, list[int]] = {}  # text -> its token ids

    @property
    def window(self) -> int:
        """Number of characters of a text that are tokenized at first."""
        return self.enough * CHARACTERS_PER_TOKEN

    def prepare(self, layouts: Sequence[Layout]) -> None:
        """Tokenize several rows at once, on all cores, before they are truncated one by one."""
        backend = _backend(self.tokenizer)
        contexts, predicted = list[str](), list[str]()
        for layout in layouts:
            if not layout.older:  # otherwise it is not known yet which turns are kept
                with suppress(RefusedRow):
                    for is_context, run in _stretches(layout.pieces(0)):
                        if is_context:
                            contexts.append("".join(_shown(run, self.window)[0]))
                        else:
                            predicted += [text[: self.window] for text, _ in run]
        encodings = [] if backend is None else backend.encode_batch(contexts, add_special_tokens=False)
        self._contexts = dict(zip(contexts, encodings, strict=False))
        self._predicted = dict(zip(predicted, encode_batch(self.tokenizer, predicted), strict=True))

    def encode(self, layout: Layout) -> Encoded:
        """The tokens of a row of any length. Raises RefusedRow."""
        window, row = self.window, layout
        while (encoded := self._within(row, window)) is None:
            window *= 4
            if row is layout and window > self.enough * self._longest:
                # So many characters with so few tokens are white space that the tokenizer skips or words unknown to it,
                # which are one token each.
                row = Layout(_shortened(layout, self._longest), layout.older)
        return encoded

    @cached_property
    def _longest(self) -> int:
        """Length of the longest token in characters or bytes, at least `_RUN`."""
        return max(_RUN, *(len(token) for token in self.tokenizer.get_vocab()))

    def _within(self, layout: Layout, window: int) -> Encoded | None:
        """Truncate a row looking at no more than `window` characters of each text and of the older exchanges.

        Returns None where that is too little to decide what is kept.
        """
        first_kept = low = _beyond(layout.older, window)
        longest = self._answered(layout, low, window) if low else self._encoded(layout.pieces(0), window)
        if longest is None or longest.short or (low and len(longest.ids) <= self.max_length):
            return None
        if longest.total <= self.max_length:
            return Encoded(longest.ids, longest.kinds)
        high, row = len(layout.older), None
        while high > low and row is None:  # the template has to accept what is left, and an answer has to be in it
            row = self._answered(layout, high, window)
            high -= row is None
        row = row or longest
        if row.short:
            return None
        if row.total <= self.max_length:
            while high - low > 1:
                middle = (low + high) // 2
                candidate = self._answered(layout, middle, window)
                if candidate is not None and candidate.short:
                    return None
                fits = candidate is not None and candidate.total <= self.max_length
                low, high, row = (low, middle, candidate or row) if fits else (middle, high, row)
        # The tokens of exchanges beyond the window are estimated from those of the exchanges seen.
        left_out = longest.total - row.total
        unseen = sum(layout.older[:first_kept]) * left_out / max(sum(layout.older[first_kept:high]), 1)
        row.hidden_prompt += left_out + round(unseen)
        return self._cut(row)

    def _answered(self, layout: Layout, dropped: int, window: int) -> _Long | None:
        """The row without its oldest exchanges; None if the template refuses it or no completion is left."""
        try:
            row = self._encoded(layout.pieces(dropped), window)
        except RefusedRow:
            return None
        answer = KINDS["completion"]
        return row if any(k == answer and i != self.ends.eos for i, k in zip(row.ids, row.kinds, strict=True)) else None

    def _cut(self, row: _Long) -> Encoded:
        """Truncate a row whose oldest exchanges have been dropped already."""
        kinds = np.array(row.kinds, np.int8)  # (t,)
        completions = np.flatnonzero(kinds >= KINDS["completion"])
        first = int(completions[0]) if len(completions) else len(kinds)
        is_kept = np.ones(len(kinds), np.bool_)  # (t,)
        least = min(_LEAST, self.max_length // 2)
        begins = int(self.ends.bos is not None)
        own = least // _QUESTION_SHARE

        def drop(selected: BoolArray, leaves: int, own: int = 0) -> None:
            """Drop the leftmost tokens of `selected`, (t,), until the row fits.

            Stops when `leaves` prompt tokens or `own` tokens of `selected` are left.
            """
            places = np.flatnonzero(is_kept & selected)
            spare = int(is_kept[:first].sum()) - leaves if leaves else len(places)
            is_kept[places[: max(min(int(is_kept.sum()) - self.max_length, spare, len(places) - own), 0)]] = False

        before = np.arange(len(kinds)) < first  # (t,)
        before[:begins] = False
        drop(before & (kinds == KINDS["system"]), least)
        drop(~before & (kinds == KINDS["system"]), 0)  # tool results of the last exchange
        drop(before & (kinds == KINDS["question"]), least, own)
        drop(~before & (kinds == KINDS["question"]), 0, own)  # the last question of a conversation kept whole
        drop(before & (kinds == KINDS["prompt"]), least)
        # Template text is dropped only where it would leave no room for the completion.
        drop(before, max(least, self.max_length - least))
        ids = np.array(row.ids, np.int64)[is_kept]
        dropped = len(row.ids) - len(ids) + row.hidden_prompt
        beyond = max(len(ids) - self.max_length, 0) + row.hidden_completion
        return Encoded(ids[: self.max_length].tolist(), kinds[is_kept][: self.max_length].tolist(), dropped, beyond)

    # -- texts to tokens ----------------------------------------------------------------------------------------------

    def _encoded(self, pieces: list[Piece], window: int) -> _Long:
        """Tokenize a row: of each text at most `window` characters, at the side that may be kept."""
        row = _Long([], [])
        for is_context, run in _stretches(pieces):
            if is_context:
                self._add_context(row, run, window)
            else:
                for text, part in run:
                    self._add_predicted(row, text, part, window)
        row.ids, row.kinds = self.ends.added(row.ids, row.kinds)
        return row

    def _add_predicted(self, row: _Long, text: str, part: Part, window: int) -> None:
        """Add the tokens of the beginning of a predicted text."""
        beginning = text[:window]
        ids = (
            self._predicted[beginning] if beginning in self._predicted else encode_batch(self.tokenizer, [beginning])[0]
        )
        if len(text) > window:
            row.short |= len(ids) < self.enough
            row.hidden_completion += round(len(ids) / window * (len(text) - window))
        row.ids += ids
        row.kinds += [KINDS[part]] * len(ids)

    def _add_context(self, row: _Long, run: list[Piece], window: int) -> None:
        """Add a run of context pieces, tokenized as one text.

        Of a long piece its end is tokenized, and enough of its beginning to tokenize the text before it correctly.
        """
        texts, ends = _shown(run, window)
        ids, pieces, starts = self._placed(texts)
        bounds = np.concatenate([[0], np.cumsum([len(text) for text in texts])])  # (texts + 1,)
        codes = np.array([KINDS[part] for _, part in run])  # (texts,)
        for number, cut in enumerate(ends):
            if cut is not None:
                middle_start, middle_end = cut
                seen_tokens = int(((pieces[:, 0] == number) & (starts >= bounds[number] + middle_start)).sum())
                row.short |= seen_tokens < self.enough
                row.hidden_prompt += round(
                    seen_tokens / (len(run[number][0]) - middle_end) * (middle_end - middle_start)
                )
        row.ids += ids
        row.kinds += codes[pieces].min(axis=1).tolist() if len(ids) else []

    def _placed(self, texts: list[str]) -> tuple[list[int], IntArray, IntArray]:
        """Token ids of the concatenated texts; (t, 2) texts in which each token begins and ends; (t,) its offset."""
        bounds = np.cumsum([len(text) for text in texts])  # (texts,)
        backend = _backend(self.tokenizer)
        if backend is None:  # slow tokenizers give no offsets
            encoded = encode_batch(self.tokenizer, texts)
            number = np.repeat(np.arange(len(texts)), [len(ids) for ids in encoded])  # (t,)
            within = np.concatenate(
                [np.linspace(0, len(x), len(i), endpoint=False) for x, i in zip(texts, encoded, strict=True)]
            )
            starts = np.concatenate([[0], bounds])[number] + within.astype(np.int64)
            return [token for ids in encoded for token in ids], np.stack([number, number], axis=1), starts
        joined = "".join(texts)
        encoding = self._contexts.get(joined) or backend.encode(joined, add_special_tokens=False)
        spans = np.array(encoding.offsets, np.int64).reshape(-1, 2)  # (t, 2)
        last = np.maximum(spans[:, 1] - 1, spans[:, 0])
        pieces = np.stack(
            [np.searchsorted(bounds, positions, side="right") for positions in (spans[:, 0], last)], axis=1
        )
        return list(encoding.ids), np.minimum(pieces, len(texts) - 1), spans[:, 0]


def _stretches(pieces: list[Piece]) -> list[tuple[bool, list[Piece]]]:
    """Consecutive pieces grouped by whether they are context (True) or predicted (False)."""
    return [(is_context, list(run)) for is_context, run in groupby(pieces, lambda piece: piece[1] in CONTEXT)]


def _shown(run: list[Piece], window: int) -> tuple[list[str], list[tuple[int, int] | None]]:
    """The text of each piece, long ones without their middle, and (begin, end) of the middle or None."""
    texts: list[str] = []
    gaps: list[tuple[int, int] | None] = []
    for text, _ in run:
        tail, beginning = _end(text, window), SPARE_TOKENS * CHARACTERS_PER_TOKEN
        texts.append(text if tail <= beginning else text[:beginning] + text[tail:])
        gaps.append((beginning, tail) if tail > beginning else None)
    return texts, gaps


def _beyond(older: Any, window: int) -> int:
    """The number of oldest exchanges that lie before the last `window` characters of all exchanges."""
    remaining = window
    for number in range(len(older) - 1, -1, -1):
        remaining -= older[number]
        if remaining <= 0:
            return number
    return 0


def _shortened(layout: Layout, most: int) -> Callable[[int], list[Piece]]:
    """The pieces of a layout with every run of white space or non-space shortened to `most` characters."""
    run = re.compile(rf"\s{{{most + 1},}}|\S{{{most + 1},}}")

    def shorter(match: re.Match[str]) -> str:
        return match[0][: most // 2] + match[0][-(most // 2) :]

    return lambda dropped: [(run.sub(shorter, text), part) for text, part in layout.pieces(dropped)]


def _end(text: str, window: int) -> int:
    """The offset at which the last `window` or more characters of a text begin.

    If possible it follows a word, where any tokenizer may split.
    """
    latest = len(text) - window
    match = _WORD_END.search(text, max(latest - SPARE_TOKENS * CHARACTERS_PER_TOKEN, 0), max(latest, 0) + 1)
    return match.end() if match and match.end() <= latest else max(latest, 0)


def _backend(tokenizer: Any) -> Any:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
    return backend


def encode_batch(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Token ids of each text, without special tokens."""
    if not texts:
        return []
    backend = _backend(tokenizer)
    if backend is not None:
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]
    encoded: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return encoded
