"""Sets of shingles and their sketches: exact where they are verified, unbiased where they are estimated."""

import itertools
import random

import numpy as np
import pyarrow as pa
import pytest

from curate.gate import minhash, normalization
from curate.gate.gate import Gate
from curate.gate.minhash import bands_for, overlaps, shingles, sketches
from curate.gate.normalization import split_words
from tests.fixtures.texts import VOCABULARY, jaccard, variants


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_similarity_is_that_of_the_definition(size: int) -> None:
    texts = [*variants(60, 1, templates=3), "ban", "ban ger", "ban ger lis", "ban ban ban ban ban", VOCABULARY[0]]
    sets = shingles(split_words(texts), size)
    pairs = list(itertools.combinations(range(len(texts)), 2))
    one, other = (sets.take(np.array([pair[k] for pair in pairs])) for k in (0, 1))
    expected = [jaccard(texts[a], texts[b], size) for a, b in pairs]
    assert overlaps(one, other).tolist() == expected
    assert max(expected[: 60 * 59 // 2]) > 0.5


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9])
def test_the_bands_propose_what_they_promise(threshold: float) -> None:
    bands, rows = bands_for(threshold)
    assert bands * rows <= 128
    assert 1 - (1 - threshold**rows) ** bands >= 0.9
    assert 1 - (1 - (threshold + 0.1) ** rows) ** bands >= 0.95


def test_the_minima_estimate_the_similarity() -> None:
    """Without bias: the share of equal minima is the similarity on average."""
    texts = variants(300, 4, templates=2)
    sets = shingles(split_words(texts), 3)
    minima = sketches(sets, 0.7).minima
    one, other = np.arange(299), np.arange(1, 300)
    estimate = (minima[one] == minima[other]).mean(axis=1)
    error = estimate - overlaps(sets.take(one), sets.take(other))
    assert abs(error.mean()) < 0.01
    assert np.abs(error).max() < 0.25


def test_long_texts_are_worked_on_in_parts_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [" ".join(random.Random(k).choices(VOCABULARY, k=size)) for k, size in enumerate((5, 4000, 0, 1, 3000, 9))]
    whole = sketches(shingles(split_words(texts), 3), 0.7)
    for module, name, value in ((normalization, "_TEXTS_AT_ONCE", 4), (normalization, "_CHARACTERS_AT_ONCE", 100)):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(minhash, "_SHINGLES_AT_ONCE", 8)
    monkeypatch.setattr(minhash, "_PRODUCTS_AT_ONCE", 10_000)
    found = [(low, sketches(shingles(block, 3), 0.7)) for low, block in normalization.word_blocks(pa.array(texts))]
    assert [low for low, _ in found] == [0, 1, 2, 4, 5]
    assert np.array_equal(
        np.concatenate([part.keys for _, part in found])[[0, 1, 3, 4, 5]], whole.keys[[0, 1, 3, 4, 5]]
    )
    assert [len(row) for row in Gate().open(texts).check(texts)] == [1, 1, 0, 1, 1, 1]
