"""Normalize texts and split them into hashed words, the units that every rule of the gate compares."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.types import BoolArray, IntArray

Hashes = npt.NDArray[np.uint64]
Positions = IntArray

SEPARATOR, LETTERS, DIGITS, SINGLE, OPERATOR, DROPPED = range(6)
MASK = "#"
_NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion"
)
# Scripts written without spaces: kana, Han ideographs, Thai, Lao, Myanmar, Khmer.
_UNSPACED = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x9FFF)),
    *((0xF900, 0xFAFF), (0x20000, 0x3FFFF)),
)
# Default-ignorable code points outside of category Cf: joiners, fillers, variation selectors, and code points reserved
# for more of them.
_IGNORABLE = (
    *((0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x2060, 0x206F), (0x3164, 0x3164)),
    *((0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0xE0000, 0xE0FFF)),
)
_ENTITY = re.compile("&(?:nbsp|amp|lt|gt|quot|apos|#39|#x27|#160|#xa0);", re.I)
_TEXTS_AT_ONCE, _CHARACTERS_AT_ONCE = 4_096, 1 << 21
_STEP = np.uint64(0x9E3779B97F4A7C15)  # any odd number with well-distributed bits


@dataclass(frozen=True)
class Words:
    """The words of n texts.

    codes: (c,) code points of the normalized texts. starts, ends: (w,) where each word is in them.
    kinds: (w,) uint8 LETTERS, DIGITS, SINGLE or OPERATOR. hashes: (w,) 64-bit hash of each word.
    offsets: (n + 1,) text k has words offsets[k] .. offsets[k + 1] - 1.
    """

    codes: npt.NDArray[np.uint32]
    starts: Positions
    ends: Positions
    kinds: npt.NDArray[np.uint8]
    hashes: Hashes
    offsets: Positions

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def word(self, position: int) -> str:
        """The word at a position among all words."""
        return self.codes[self.starts[position] : self.ends[position]].tobytes().decode("utf-32-le", "surrogatepass")

    def strings(self, low: int, high: int) -> list[str]:
        """The words low .. high - 1 among all words."""
        return [self.word(position) for position in range(low, high)]

    def without_operators(self) -> Words:
        """The same texts without their operators."""
        return self.chosen(self.kinds != OPERATOR)

    def chosen(self, keep: BoolArray) -> Words:
        """The same texts, restricted to words where `keep` (w,) is True."""
        counts_before = np.concatenate([[0], np.cumsum(keep)]).astype(np.int64)  # (w + 1,)
        return Words(
            self.codes,
            self.starts[keep],
            self.ends[keep],
            self.kinds[keep],
            self.hashes[keep],
            counts_before[self.offsets],
        )

    def masked(self) -> tuple[Words, BoolArray]:
        """The same texts with numbers (digits or words) replaced by masks, and which words (w,) are masks.

        Consecutive numbers make one mask, so that `twenty five` equals `25`, and a longer list a shorter one.
        """
        # (w,) masks over all words
        number = (self.kinds == DIGITS) | np.isin(self.hashes, number_words())
        first = np.zeros(len(number), np.bool_)
        first[self.offsets[:-1][np.diff(self.offsets) > 0]] = True
        repeat = number & np.concatenate([[False], number[:-1]]) & ~first
        kept = self.chosen(~repeat)
        mask = number[~repeat]
        hashes = kept.hashes.copy()
        hashes[mask] = 1
        return Words(kept.codes, kept.starts, kept.ends, kept.kinds, hashes, kept.offsets), mask


@cache
def number_words() -> Hashes:
    """Hashes of the English words that are numbers."""
    return split_words([_NUMBER_WORDS]).hashes


@cache
def _classes() -> npt.NDArray[np.uint8]:
    """(0x110000,) the class of every code point."""
    by_category = {"Nd": DIGITS, "Sm": OPERATOR, "Cf": DROPPED}
    by_category |= dict.fromkeys(("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nl", "No"), LETTERS)
    classes = np.array(
        [by_category.get(unicodedata.category(chr(code)), SEPARATOR) for code in range(0x110000)], np.uint8
    )
    for low, high in _UNSPACED:
        part = classes[low : high + 1]
        part[part == LETTERS] = SINGLE
    for sign in "-/^":
        classes[ord(sign)] = OPERATOR
    for low, high in _IGNORABLE:
        classes[low : high + 1] = DROPPED
    for code in (*range(0x20), *range(0x7F, 0xA0)):
        classes[code] = SEPARATOR if chr(code).isspace() else DROPPED
    return classes


@cache
def _invisible() -> re.Pattern[str]:
    """Any run of the characters that are dropped."""
    codes = np.flatnonzero(_classes() == DROPPED)
    runs = np.split(codes, np.flatnonzero(np.diff(codes) > 1) + 1)
    return re.compile("[" + "".join(rf"\U{run[0]:08x}-\U{run[-1]:08x}" for run in runs) + "]+")


def _normal(text: str) -> str:
    if "&" in text:
        text = _ENTITY.sub(lambda entity: html.unescape(entity[0].lower()), text)
    if not text.isascii():
        text = _invisible().sub("", text)  # first, since one between a letter and its accent would keep them apart
    return unicodedata.normalize("NFKC", text).casefold()


def mixed(values: Hashes) -> Hashes:
    """A bijective mix of each 64-bit number, in which all bits depend on all bits (MurmurHash3's finalizer)."""
    mixing = values ^ (values >> np.uint64(33))
    mixing *= np.uint64(0xFF51AFD7ED558CCD)
    mixing ^= mixing >> np.uint64(33)
    mixing *= np.uint64(0xC4CEB9FE1A85EC53)
    mixing ^= mixing >> np.uint64(33)
    return mixing


def word_blocks(texts: Any) -> Iterator[tuple[int, Words]]:
    """The words of texts (n,) in blocks of bounded size, each with the position of its first text.

    texts: a sequence of strings or an Arrow array; null counts as empty.
    """
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        part = texts[start : start + _TEXTS_AT_ONCE]
        cells = [text or "" for text in (part.to_pylist() if isinstance(part, pa.Array | pa.ChunkedArray) else part)]
        ends = np.cumsum([len(text) for text in cells])  # (n,) cumulative characters
        low = 0
        while low < len(cells):
            done = ends[low - 1] if low else 0
            high = max(int(np.searchsorted(ends, done + _CHARACTERS_AT_ONCE)), low + 1)
            yield start + low, split_words(cells[low:high])
            low = high


def split_words(texts: Sequence[str]) -> Words:
    """The words of each text; a text without any has none.

    Common HTML entities are decoded, and invisible characters are dropped: format and control characters, variation
    selectors, and all else that Unicode calls default-ignorable. The rest is put into NFKC form and case-folded. Its
    words are runs of letters, runs of digits (`3.5` is one number, `1,000` is `1000`), single signs of scripts that are
    written without spaces, and the operators of mathematics (such as `+ - / ^ = < >`; a hyphen or slash between letters
    is none). Punctuation and space, line breaks and tabs included, separate words. All texts of a call are processed as
    one array.
    """
    normal = [_normal(text) for text in texts]
    # A line break after each text is a separator, so that no word spans two texts.
    joined = "\n".join([*normal, ""])
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint32)  # (c,)
    bounds = np.cumsum([0, *(len(text) + 1 for text in normal)], dtype=np.int64)  # (n + 1,)
    codes[(codes == 0x2212) | ((codes >= 0x2010) & (codes <= 0x2013))] = ord("-")
    codes, classes, bounds = _without_dropped(codes, _classes()[codes], bounds)
    codes, classes, bounds = _without_dropped(codes, _in_context(codes, classes), bounds)
    inside = classes != SEPARATOR  # (c,), as the masks below
    previous = np.concatenate([[SEPARATOR], classes[:-1]])
    begins = inside & ((classes != previous) | (classes == SINGLE) | (classes == OPERATOR))
    starts = np.flatnonzero(begins)  # (w,)
    closes = inside & np.concatenate([(begins | ~inside)[1:], [True]])
    ends = np.flatnonzero(closes) + 1
    hashes = sequence_hashes(codes[inside].astype(np.uint64), np.concatenate([[0], np.cumsum(ends - starts)]))
    return Words(codes, starts, ends, classes[starts], hashes, np.searchsorted(starts, bounds))


def _without_dropped(
    codes: npt.NDArray[np.uint32], classes: npt.NDArray[np.uint8], bounds: Positions
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8], Positions]:
    """The characters (c,) and their classes without dropped ones, and the bounds (n + 1,) of the texts in them."""
    keep = classes != DROPPED
    if keep.all():
        return codes, classes, bounds
    before = np.concatenate([[0], np.cumsum(keep)]).astype(np.int64)
    return codes[keep], classes[keep], before[bounds]


def _in_context(codes: npt.NDArray[np.uint32], classes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The classes, with points, commas, hyphens and slashes reclassified by their neighbors."""
    padded = np.concatenate([[SEPARATOR], classes, [SEPARATOR] * 4])

    def near(places: Positions, distance: int, kind: int) -> BoolArray:
        return np.asarray(padded[places + 1 + distance] == kind)

    points, commas = np.flatnonzero(codes == ord(".")), np.flatnonzero(codes == ord(","))
    signs = np.flatnonzero((codes == ord("-")) | (codes == ord("/")))  # (positions of signs,)
    classes = classes.copy()
    classes[points[near(points, -1, DIGITS) & near(points, 1, DIGITS)]] = DIGITS
    grouping = near(commas, -1, DIGITS) & ~near(commas, 4, DIGITS)
    for distance in (1, 2, 3):
        grouping &= near(commas, distance, DIGITS)
    classes[commas[grouping]] = DROPPED
    classes[signs[near(signs, -1, LETTERS) & near(signs, 1, LETTERS)]] = SEPARATOR
    return classes


def sequence_hashes(values: Hashes, offsets: Positions) -> Hashes:
    """(n,) one order-dependent hash per sequence values[offsets[k]:offsets[k + 1]], 0 for an empty one."""
    lengths = np.diff(offsets)  # (n,)
    hashes = np.zeros(len(lengths), np.uint64)  # (n,)
    if not len(values):
        return hashes
    powers = np.full(int(lengths.max()), _STEP)  # (longest,)
    powers[0] = 1
    powers = np.cumprod(powers, dtype=np.uint64)  # (longest,) _STEP ** k
    place = np.arange(len(values)) - np.repeat(offsets[:-1], lengths)  # (v,) position of each value in its sequence
    filled = lengths > 0  # (n,)
    hashes[filled] = np.add.reduceat(mixed(values + _STEP) * powers[place], offsets[:-1][filled])
    hashes[filled] = mixed(hashes[filled] + lengths[filled].astype(np.uint64))
    return hashes


def window_hashes(hashes: Hashes, offsets: Positions, size: int) -> tuple[Hashes, Positions]:
    """Hashes (g,) of all runs of `size` words within one text, and the word (g,) each starts at."""
    count = len(hashes) - size + 1
    if count <= 0:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    last = np.repeat(offsets[1:] - size, np.diff(offsets))[:count]  # (count,) last start in the text of each word
    starts = np.flatnonzero(np.arange(count) <= last)  # (g,)
    rolling = np.zeros(count, np.uint64)  # (count,) polynomial hash of the window that starts at each word
    for k in range(size):
        rolling *= _STEP
        rolling += hashes[k : k + count]
    return mixed(rolling[starts]), starts
