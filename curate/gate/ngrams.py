"""Contamination by evaluation sets: shared n-grams, texts and templates, found by hash and verified word by word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.gate.normalization import (
    LETTERS,
    MASK,
    Hashes,
    Positions,
    Words,
    sequence_hashes,
    split_words,
    window_hashes,
    word_blocks,
)
from curate.types import BoolArray, IntArray

_CACHED_ROWS = 4096  # rows whose words are cached for the next text that matches them
_SIEVE_BITS = (16, 27)


@dataclass(frozen=True)
class Rules:
    """The active rules. ngrams: sizes in words; template: whether equality up to numbers counts;
    template_words: minimum number of words of letters, besides numbers, for that."""

    ngrams: tuple[int, ...]
    template: bool
    template_words: int

    @property
    def names(self) -> tuple[str, ...]:
        """The rules, strictest evidence first."""
        sizes = sorted(set(self.ngrams), reverse=True)
        return ("exact", *(f"{size}-gram" for size in sizes), *(("template",) if self.template else ()))

    def hashed(self, views: Views) -> Iterator[tuple[str, Words, Hashes, Positions]]:
        """Per rule: its name, the words it reads, hashes of what it compares, and the first word of each."""
        for name in self.names:
            if name.endswith("-gram"):
                hashes, starts = window_hashes(views.plain.hashes, views.plain.offsets, int(name.partition("-")[0]))
                yield name, views.plain, hashes, starts
                continue
            words = views.words if name == "exact" else views.masked
            lengths = np.diff(words.offsets)  # (n,)
            if name == "template":
                letters = (words.kinds == LETTERS) & ~views.masks
                before = np.concatenate([[0], np.cumsum(letters)])
                lengths = np.where(np.diff(before[words.offsets]) >= self.template_words, lengths, 0)
            filled = np.flatnonzero(lengths)
            yield name, words, sequence_hashes(words.hashes, words.offsets)[filled], words.offsets[filled]


class Views:
    """n texts as the rules read them: all words; without operators (n-grams); with numbers masked (templates)."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self.plain = words.without_operators()
        self.masked, self.masks = words.masked()

    def text(self, name: str, words: Words, start: int, row: int) -> str:
        """The text that a rule compares: the n-gram that starts at a word, or the whole row."""
        low, high = int(words.offsets[row]), int(words.offsets[row + 1])
        if name.endswith("-gram"):
            low, high = start, min(start + int(name.partition("-")[0]), high)
        strings = words.strings(low, high)
        if name == "template":
            strings = [MASK if self.masks[low + k] else word for k, word in enumerate(strings)]
        return " ".join(strings)


@dataclass(frozen=True)
class SharedText:
    """query: position of the text; rule: see `Rules.names`; row: the first row of the evaluation set that shares it;
    text: the shared text, normalized."""

    query: int
    rule: str
    row: int
    text: str


@dataclass(frozen=True)
class _Table:
    """Distinct hashes (h,) in ascending order, the first row of each, and a sieve over their low bits."""

    hashes: Hashes
    rows: IntArray
    sieve: BoolArray

    def find(self, hashes: Hashes) -> tuple[Positions, Positions]:
        """Those of `hashes` that are in the table, as indices in ascending order, and their rows."""
        maybe = np.flatnonzero(self.sieve[hashes & np.uint64(len(self.sieve) - 1)])  # (c,) that pass the sieve
        place = np.minimum(np.searchsorted(self.hashes, hashes[maybe]), len(self.hashes) - 1)  # (c,)
        present = self.hashes[place] == hashes[maybe]  # (c,)
        return maybe[present], self.rows[place[present]]


class EvaluationSet:
    """The texts (n,) of one evaluation set, hashed once.

    name: label in hits; ids: (n,) of its rows. readable: number of texts with words.
    """

    def __init__(self, name: str, texts: Sequence[str], ids: Sequence[str], rules: Rules) -> None:
        self.name, self.texts, self.ids, self.rules = name, texts, ids, rules
        parts: dict[str, list[tuple[Hashes, IntArray]]] = {rule: [] for rule in rules.names}
        self.readable = 0
        for low, block in word_blocks(texts):
            views = Views(block)
            self.readable += int(np.count_nonzero(np.diff(block.offsets)))
            for rule, words, hashes, starts in rules.hashed(views):
                parts[rule].append((hashes, low + _row_of(words, starts)))
        self._row_texts: dict[int, tuple[str, str, str]] = {}  # row -> its exact text, template and plain words
        self._tables = {rule: _table(part) for rule, part in parts.items()}

    def shared(self, views: Views) -> list[SharedText]:
        """At most one match per text and rule: the first in the text."""
        shared: list[SharedText] = []
        for rule, words, hashes, starts in self.rules.hashed(views):
            places, rows = self._tables[rule].find(hashes)
            queries = _row_of(words, starts[places])
            done = -1
            for query, start, row in zip(queries.tolist(), starts[places].tolist(), rows.tolist(), strict=True):
                if query == done:
                    continue
                text = views.text(rule, words, start, query)
                if self._has(rule, row, text):
                    shared.append(SharedText(query, rule, row, text))
                    done = query
        return shared

    def _has(self, rule: str, row: int, text: str) -> bool:
        """Whether the row contains these exact words: two texts may have one hash."""
        if row not in self._row_texts:
            if len(self._row_texts) >= _CACHED_ROWS:
                self._row_texts.clear()
            views = Views(split_words([self.texts[row]]))
            plain = " ".join(views.plain.strings(0, len(views.plain.hashes)))
            matches = [
                views.text(name, words, 0, 0) for name, words in (("exact", views.words), ("template", views.masked))
            ]
            self._row_texts[row] = (matches[0], matches[1], f" {plain} ")
        exact, template, plain = self._row_texts[row]
        if rule.endswith("-gram"):
            return f" {text} " in plain
        return text == (template if rule == "template" else exact)


def _row_of(words: Words, starts: Positions) -> Any:
    return np.searchsorted(words.offsets, starts, "right") - 1


def _table(parts: list[tuple[Hashes, IntArray]]) -> _Table:
    hashes = np.concatenate([np.zeros(0, np.uint64), *(part[0] for part in parts)])  # (all hashes,)
    rows = np.concatenate([np.zeros(0, np.int64), *(part[1] for part in parts)])  # (all hashes,)
    hashes, first = np.unique(hashes, return_index=True)  # (h,) each; of equal hashes the first row
    low, high = _SIEVE_BITS
    bits = min(max(len(hashes).bit_length() + 4, low), high)
    sieve = np.zeros(2**bits, np.bool_)
    sieve[hashes & np.uint64(2**bits - 1)] = True
    return _Table(hashes, rows[first], sieve)
