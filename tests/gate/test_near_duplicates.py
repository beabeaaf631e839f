"""Near-duplicates among the rows of one dataset."""

import numpy as np

from curate.gate.gate import Gate
from curate.gate.near_duplicates import near_duplicates

WORDS = [
    "the",
    "baker",
    "sold",
    "nine",
    "loaves",
    "of",
    "dark",
    "bread",
    "on",
    "monday",
    "and",
    "twice",
    "as",
    "many",
    "on",
    "the",
    "following",
    "day",
    "before",
    "noon",
]


def _texts(n: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(f"{word}{rng.integers(1000)}" for word in WORDS) for _ in range(n)]


def test_pairs_across_blocks_are_found_and_no_text_is_a_pair_with_itself() -> None:
    texts = _texts(5000)
    texts[4900] = texts[3].replace("noon", "ten noon")
    left, right = near_duplicates(texts)
    assert {frozenset(pair) for pair in zip(left.tolist(), right.tolist(), strict=True)} == {frozenset((3, 4900))}


def test_equal_texts_are_pairs_and_empty_ones_are_not() -> None:
    left, right = near_duplicates(["", "one two three four", "", "One two, three four."])
    assert {frozenset(pair) for pair in zip(left.tolist(), right.tolist(), strict=True)} == {frozenset((1, 3))}


def test_a_gate_that_looks_for_none_finds_none() -> None:
    assert len(near_duplicates(["a b c d"] * 3, Gate(near_duplicate=None))[0]) == 0
    assert len(near_duplicates([])[0]) == 0
