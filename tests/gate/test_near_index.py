"""Near-duplicates: what is reported is true, little is missed, and the division into batches does not matter."""

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from curate.gate import near_index
from curate.gate.gate import Gate, GateIndex, Hit
from curate.gate.minhash import shingles, sketches
from curate.gate.near_index import NearIndex
from curate.gate.normalization import split_words
from tests.fixtures.texts import OTHER, STORY, evaluation, jaccard, kinds, variants


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


def test_a_text_hits_itself_and_nothing_disjoint() -> None:
    texts = [*variants(50, 5, templates=50), STORY, "ban", "7", "日本語"]
    index = Gate().open(texts, [f"row {k}" for k in range(len(texts))])
    for k, row in enumerate(index.check(texts)):
        (hit,) = row
        assert (hit.kind, hit.score) == ("near-duplicate of source", 1.0)
        assert texts[int(hit.id.split()[1])] == texts[k]
    assert index.check([OTHER, "", " ?", "ger", "8"]) == [[]] * 5


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
    for name, value in (("BUCKET", bucket), ("_MOST_PAIRS", 300), ("_SMALLEST", 4)):
        monkeypatch.setattr(near_index, name, value)
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
    assert index.compared == 5 * near_index.BUCKET
    assert index.crowded == 5
