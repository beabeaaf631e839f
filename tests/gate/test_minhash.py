"""Near-duplicates: what is reported is true, little is missed, and the division into batches does not matter."""

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curate.gate import Gate, GateIndex, Hit, admission
from curate.gate import minhash as near
from curate.gate import normalization as words
from curate.gate import shingles as sketching
from curate.gate.minhash import NearIndex
from curate.gate.normalization import split_words
from curate.gate.shingles import bands_for, overlaps, shingles, sketches
from tests.fixtures.texts import OTHER, STORY, VOCABULARY, evaluation, kinds


def variants(count: int, seed: int, templates: int = 20, words: int = 40) -> list[str]:
    """Texts in families: those of one differ from each other in up to a third of their words."""
    rng = random.Random(seed)
    originals = [rng.choices(VOCABULARY, k=words) for _ in range(templates)]
    found = []
    for _ in range(count):
        text = list(rng.choice(originals))
        for place in rng.sample(range(words), rng.randrange(words // 8)):
            text[place] = rng.choice(VOCABULARY)
        found.append(" ".join(text))
    return found


@cache
def windows(text: str, size: int) -> frozenset[tuple[str, ...]]:
    words = text.split()
    return frozenset([tuple(words[k : k + size]) for k in range(len(words) - size + 1)] or [tuple(words)])


def jaccard(one: str, other: str, size: int = 3) -> float:
    """The definition, for texts of plain words."""
    shared = len(windows(one, size) & windows(other, size))
    return shared / (len(windows(one, size)) + len(windows(other, size)) - shared)


# -- near-duplicates --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_similarity_is_that_of_the_definition(size: int) -> None:
    texts = [*variants(60, 1, templates=3), "ban", "ban ger", "ban ger lis", "ban ban ban ban ban", VOCABULARY[0]]
    sets = shingles(split_words(texts), size)
    pairs = list(itertools.combinations(range(len(texts)), 2))
    one, other = (sets.take(np.array([pair[k] for pair in pairs])) for k in (0, 1))
    expected = [jaccard(texts[a], texts[b], size) for a, b in pairs]
    assert overlaps(one, other).tolist() == expected
    assert max(expected[: 60 * 59 // 2]) > 0.5


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.9])
def test_what_is_reported_is_true_and_little_is_missed(threshold: float) -> None:
    source, texts = variants(400, 2), variants(400, 3)
    source, texts = [*source, *texts[:200]], texts[100:]
    texts += variants(300, 2)[::3]
    hits = Gate(near_duplicate=threshold).open(source).check(texts)
    found = due = surely_found = surely_due = 0
    for text, row in zip(texts, hits, strict=True):
        scores = [jaccard(text, each) for each in source]
        for hit in row:
            assert hit.kind == "near-duplicate of source"
            assert hit.score == scores[int(hit.id)] >= threshold
        best = max(scores)
        due += best >= threshold
        found += bool(row)
        surely_due += best >= threshold + 0.1
        surely_found += bool(row) and best >= threshold + 0.1
    assert surely_due > 100
    assert surely_found >= 0.95 * surely_due
    assert found >= 0.85 * due


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


def test_a_text_hits_itself_and_nothing_disjoint() -> None:
    texts = [*variants(50, 5, templates=50), STORY, "ban", "7", "日本語"]
    index = Gate().open(texts, [f"row {k}" for k in range(len(texts))])
    for k, row in enumerate(index.check(texts)):
        (hit,) = row
        assert (hit.kind, hit.score) == ("near-duplicate of source", 1.0)
        assert texts[int(hit.id.split()[1])] == texts[k]
    assert index.check([OTHER, "", " ?", "ger", "8"]) == [[]] * 5


def test_long_texts_are_worked_on_in_parts_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [" ".join(random.Random(k).choices(VOCABULARY, k=size)) for k, size in enumerate((5, 4000, 0, 1, 3000, 9))]
    whole = sketches(shingles(split_words(texts), 3), 0.7)
    for module, name, value in ((words, "_TEXTS_AT_ONCE", 4), (words, "_CHARACTERS_AT_ONCE", 100)):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(sketching, "_SHINGLES_AT_ONCE", 8)
    monkeypatch.setattr(sketching, "_PRODUCTS_AT_ONCE", 10_000)
    found = [(low, sketches(shingles(block, 3), 0.7)) for low, block in words.word_blocks(pa.array(texts))]
    assert [low for low, _ in found] == [0, 1, 2, 4, 5]
    assert np.array_equal(
        np.concatenate([part.keys for _, part in found])[[0, 1, 3, 4, 5]], whole.keys[[0, 1, 3, 4, 5]]
    )
    assert [len(row) for row in Gate().open(texts).check(texts)] == [1, 1, 0, 1, 1, 1]


def test_case_punctuation_and_form_make_no_difference() -> None:
    index = Gate().open([STORY])
    changed = STORY.upper().replace(",", " ;").replace(" ", "\n\t")
    assert [hit.score for hit in index.check([changed])[0]] == [1.0]


def test_of_near_duplicates_the_first_is_kept_and_hit() -> None:
    index = Gate().open()
    again = STORY.replace("brother", "sister")
    hits = index.admit([STORY, OTHER, again, STORY, "", ""], list("abcdef"))
    assert [[(hit.id, hit.dataset) for hit in row] for row in hits] == [[], [], [("a", "new")], [("a", "new")], [], []]
    assert len(index) == 2
    assert [hit.id for hit in index.check([again])[0]] == ["a"]


def test_a_text_near_to_a_rejected_one_only_is_kept() -> None:
    words = variants(1, 6)[0].split()
    second, third = [*words[:36], *"abcd"], [*words[:32], *"efghabcd"]
    texts = [" ".join(text) for text in (words, second, third)]
    assert jaccard(texts[0], texts[1]) >= 0.7 <= jaccard(texts[1], texts[2])
    assert jaccard(texts[0], texts[2]) < 0.7
    assert [bool(row) for row in Gate().open().admit(texts, "abc")] == [False, True, False]


def one_by_one(index: GateIndex, texts: Sequence[str], ids: Sequence[str]) -> list[list[Hit]]:
    found = []
    for text, name in zip(texts, ids, strict=True):
        hits = index.check([text])[0]
        found.append(hits)
        if not hits:
            index.add(text, name)
    return found


@pytest.mark.parametrize("bucket", [1, 2, 64])
@pytest.mark.parametrize("templates", [1, 40])
def test_one_by_one_and_in_batches_is_the_same(
    bucket: int, templates: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where keys are so crowded that not every text can be compared with."""
    for module in (near, admission):
        monkeypatch.setattr(module, "BUCKET", bucket)
    monkeypatch.setattr(admission, "_MOST_PAIRS", 300)
    monkeypatch.setattr(admission, "_SMALLEST", 4)
    texts = [*variants(150, 7, templates), "", *variants(60, 8, templates), "ban", "ban"]
    ids = [str(k) for k in range(len(texts))]
    rules = Gate(evaluation=(evaluation(texts[5:9], tmp_path),), ngrams=(13,))
    source = texts[40:60:4]
    expected = one_by_one(rules.open(source), texts, ids)
    assert rules.open(source).admit(texts, ids) == expected
    split = rules.open(source)
    parts = [split.admit(texts[low : low + 37], ids[low : low + 37]) for low in range(0, len(texts), 37)]
    assert list(itertools.chain(*parts)) == expected
    assert len(split) == sum(not row for row in expected) - 1  # the empty text cannot be hit
    seen = Counter(kind for row in expected for kind in kinds(row))
    assert seen["near-duplicate of new"] > 5
    assert seen["near-duplicate of source"] > 2


def test_a_million_copies_cost_one_comparison_each_and_are_all_found() -> None:
    """Equal sets are found whatever the keys hold; here one tenth of a million, scaled down."""
    index = NearIndex(0.7)
    sketch = sketches(shingles(split_words([STORY] * 3000), 3), 0.7)
    index.add(sketch)
    found, _ = index.search(sketch.take(np.arange(5)))
    assert sorted(set(found.query.tolist())) == list(range(5))
    assert index.compared == 5 * near.BUCKET
    assert index.crowded == 5


def test_off_means_off() -> None:
    index = Gate(near_duplicate=None).open([STORY])
    assert index.admit([STORY, STORY], "ab") == [[], []]
    index.add(STORY, "c")
    assert index.check([STORY]) == [[]]
