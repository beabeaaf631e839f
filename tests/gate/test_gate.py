"""The gate: what is found is true, what should be found is, and how texts are divided over calls does not matter."""

import argparse
import itertools
import json
import random
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from curate.cli.gate import add_arguments
from curate.cli.gate import command as gate
from curate.component import fingerprint
from curate.data.readers import read
from curate.errors import InputError
from curate.gate import Gate, GateIndex, Hit, admission, compared_texts, read_texts
from curate.gate import minhash as near
from curate.gate import normalization as words
from curate.gate import shingles as sketching
from curate.gate.minhash import NearIndex
from curate.gate.normalization import split_words
from curate.gate.shingles import bands_for, overlaps, shingles, sketches

VOCABULARY = [a + b + c for a, b, c in itertools.product(["ba", "ke", "li", "mo"], ["da", "ge", "ki", "lo"], "nrstl")]
STORY = "Anna buys 12 apples at the market and gives 3 of them to her brother, who eats 2. How many does she have left?"
OTHER = "A train leaves the station at noon and travels north with constant speed until the evening light is gone."


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


def words_of(text: str) -> list[str]:
    words = split_words([text])
    return words.strings(0, len(words.hashes))


def evaluation(texts: Sequence[str | None], folder: Path, name: str = "held_out") -> str:
    path = folder / f"{name}.parquet"
    pq.write_table(pa.table({"id": [f"{name}/{k}" for k in range(len(texts))], "text": pa.array(texts)}), path)
    return str(path)


def kinds(hits: Sequence[Hit]) -> set[str]:
    return {hit.kind for hit in hits}


# -- words ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It costs $1,000.50, OK?", ["it", "costs", "1000.50", "ok"]),
        ("x^2 - 3 = 7", ["x", "^", "2", "-", "3", "=", "7"]),
        ("2x+3", ["2", "x", "+", "3"]),
        ("a well-known and/or rule", ["a", "well", "known", "and", "or", "rule"]),
        ("(1,2) and 1,2,3", ["1", "2", "and", "1", "2", "3"]),
        ("\uff21\uff22\uff23 ﬁne Straße", ["abc", "fine", "strasse"]),
        ("日本語 text", ["日", "本", "語", "text"]),
        ("ap\u200bple\u202e", ["apple"]),
        ("tab\tno\x00break\x85end\nline", ["tab", "nobreak", "end", "line"]),
        (
            "so\u00adft gl\u034fue sel\ufe0fected ze\u200b\u2060\ufeffro fil\u3164ler",
            ["soft", "glue", "selected", "zero", "filler"],
        ),
        ("cafe\u034f\u0301 1\x00,0\u200b00 well\u00ad-known", ["café", "1000", "well", "known"]),
        (
            "Anna&nbsp;buys&#160;3&nbsp;&lt; 4 R&amp;D &quot;it&#39;s&quot;",
            ["anna", "buys", "3", "<", "4", "r", "d", "it", "s"],
        ),
        ("AT&T &unknown; &amp", ["at", "t", "unknown", "amp"]),
        ("5 \u2212 3", ["5", "-", "3"]),
        ("lone \ud800 surrogate", ["lone", "surrogate"]),
        ("cafe\u0301", ["café"]),
        ("", []),
        (" ?!\t", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words_of(text) == expected


def test_words_do_not_depend_on_the_other_texts() -> None:
    texts = ["1,", "000 a", "", "b-", "c 1.", "5", "\u0301e", STORY, ",123", "a" * 3000]
    together = split_words(texts)
    for k, text in enumerate(texts):
        alone, low, high = split_words([text]), together.offsets[k], together.offsets[k + 1]
        assert together.strings(low, high) == alone.strings(0, len(alone.hashes))
        assert together.hashes[low:high].tolist() == alone.hashes.tolist()


def test_equal_words_and_no_others_have_equal_hashes() -> None:
    words = split_words([" ".join([*VOCABULARY, *map(str, range(2000)), "ab ba aab aba", *VOCABULARY])])
    strings = words.strings(0, len(words.hashes))
    assert len(set(words.hashes.tolist())) == len(set(strings))
    assert len(set(zip(strings, words.hashes.tolist(), strict=True))) == len(set(strings))


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


# -- contamination ----------------------------------------------------------------------------------------------


@pytest.fixture
def rules(tmp_path: Path) -> GateIndex:
    """An index over one evaluation set, without near-duplicates."""
    return Gate(evaluation=(evaluation([OTHER, STORY, "Compute 3 + 4."], tmp_path),), near_duplicate=None).open()


def test_each_rule_and_what_it_matched(rules: GateIndex) -> None:
    (hits,) = rules.check([f"  {STORY.upper()}!!"])
    assert {hit.kind: hit.id for hit in hits} == dict.fromkeys(
        ["evaluation exact", "evaluation 13-gram", "evaluation 8-gram", "evaluation template"], "held_out/1"
    )
    texts = {hit.kind: hit.text for hit in hits}
    assert texts["evaluation 8-gram"] == "anna buys 12 apples at the market and"
    assert str(texts["evaluation template"]).startswith("anna buys # apples at the market and gives # of them")
    assert all((hit.dataset, hit.score) == ("held_out.parquet", None) for hit in hits)


def test_numbers_are_masked_in_templates_only(rules: GateIndex) -> None:
    other = STORY.replace("12", "thirty five").replace("3", "1,700.5").replace("eats 2", "eats two")
    (hits,) = rules.check([other])
    assert kinds(hits) == {"evaluation template"}
    assert rules.check([other.replace("apples", "pears").replace("eats", "ate").replace("her", "a")]) == [[]]


def test_operators_and_short_templates_are_told_apart(rules: GateIndex) -> None:
    hits = rules.check(["compute 3 + 4", "compute 3 - 4", "compute 5 + 6", "3 4"])
    assert [kinds(row) for row in hits] == [{"evaluation exact"}, set(), set(), set()]


@pytest.mark.parametrize("size", [8, 13])
def test_a_run_of_exactly_that_many_words(rules: GateIndex, size: int) -> None:
    words = words_of(OTHER)
    run, short = " ".join(words[2 : 2 + size]), " ".join(words[2 : 1 + size])
    (hits, none) = rules.check([f"Quite another story, where {run}; so it goes.", f"Another {short} so it goes."])
    assert f"evaluation {size}-gram" in kinds(hits)
    assert next(hit.text for hit in hits if hit.kind == f"evaluation {size}-gram") == run
    assert f"evaluation {size}-gram" not in kinds(none)


def test_runs_do_not_cross_texts(tmp_path: Path) -> None:
    words = words_of(OTHER)
    halves = [" ".join(words[:6]), " ".join(words[6:12])]
    index = Gate(evaluation=(evaluation(halves, tmp_path),), near_duplicate=None).open()
    assert index.check([" ".join(words[:12])]) == [[]]
    assert [kinds(row) for row in index.check(halves)] == [{"evaluation exact", "evaluation template"}] * 2


def test_a_collision_of_hashes_is_no_hit(rules: GateIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = rules.evaluations
    assert found._has("exact", 1, " ".join(words_of(STORY)))
    assert not found._has("exact", 0, " ".join(words_of(STORY)))
    assert not found._has("8-gram", 1, "na buys 12 apples at the market and")
    assert not found._has("template", 1, " ".join(words_of(STORY)))


def test_rules_are_parameters(tmp_path: Path) -> None:
    path = evaluation([STORY], tmp_path)
    only = Gate(evaluation=(path,), near_duplicate=None, ngrams=(5,), template=False).open()
    assert [kinds(row) for row in only.check([STORY, "gives 3 of them to"])] == [
        {"evaluation exact", "evaluation 5-gram"},
        {"evaluation 5-gram"},
    ]


def test_rows_that_hit_an_evaluation_set_are_not_kept(tmp_path: Path) -> None:
    index = Gate(evaluation=(evaluation([STORY], tmp_path),)).open()
    first, second = index.admit([STORY, STORY.replace("brother", "sister")], "ab")
    assert "evaluation exact" in kinds(first)
    assert "near-duplicate of new" not in kinds(second)
    assert len(index) == 0


def test_several_sets_and_their_reading_options(tmp_path: Path) -> None:
    table = pa.table({"question": [STORY, OTHER], "answer": [None, "8"], "split": ["train", "test"]})
    pq.write_table(table, tmp_path / "both.parquet")
    path = str(tmp_path / "both.parquet")
    index = Gate(
        evaluation=({"data": path, "where": "split=test"}, {"data": path, "where": "split=train", "name": "again"})
    ).open()
    assert [{hit.dataset for hit in row} for row in index.check([STORY, OTHER])] == [{"again"}, {"both.parquet"}]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"text": pa.array([], pa.string())}), "evaluation set .*has no rows"),
        (pa.table({"text": pa.array([None, None], pa.string())}), "evaluation set .*no row has a text to compare"),
        (pa.table({"text": ["", " ?!"]}), "evaluation set .*no row has a text to compare"),
        (pa.table({"score": [1, 2]}), "evaluation set .*name it: columns text=COLUMN"),
    ],
    ids=["empty", "null", "blank", "no prompt"],
)
def test_an_evaluation_set_without_prompts_is_an_error(table: pa.Table, message: str, tmp_path: Path) -> None:
    pq.write_table(table, tmp_path / "test.parquet")
    with pytest.raises(InputError, match=message):
        Gate(evaluation=(str(tmp_path / "test.parquet"),)).open()


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.parquet does not exist"):
        Gate(evaluation=(str(tmp_path / "missing.parquet"),)).open()
    with pytest.raises(ValidationError, match="must have data"):
        Gate(evaluation=({"where": "a=b"},))
    with pytest.raises(ValidationError, match="must have data"):
        Gate(evaluation=({"data": "x", "limit": 3},))
    with pytest.raises(InputError, match="2 ids for 1 texts"):
        Gate().open().admit([STORY], "ab")


def test_parameters_decide_the_fingerprint() -> None:
    gates = [Gate(), Gate(near_duplicate=None), Gate(ngrams=(13,)), Gate(evaluation=("a",)), Gate(part="all")]
    assert len({fingerprint(each) for each in gates}) == len(gates)
    assert Gate.model_validate(Gate(evaluation=({"data": "a"},)).model_dump()) == Gate(evaluation=({"data": "a"},))


# -- what is compared -------------------------------------------------------------------------------------------

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "Two."},
    {"role": "user", "content": "Three?"},
]


@pytest.mark.parametrize(
    ("columns", "prompt", "everything"),
    [
        ({"prompt": ["p"], "completion": ["c"]}, "p", "p\nc"),
        ({"instruction": ["i"], "input": [None], "output": ["o"]}, "i", "i\no"),
        ({"instruction": ["i"], "input": ["n"], "output": ["o"]}, "i\nn", "i\nn\no"),
        ({"text": ["t"]}, "t", "t"),
        ({"messages": [[*TURNS, TURNS[2]]]}, "One?", "Be brief.\nOne?\nTwo.\nThree?\nTwo."),
        ({"prompt": [TURNS[:2]], "completion": [TURNS[2:3]]}, "One?", "Be brief.\nOne?\nTwo."),
    ],
    ids=["prompt", "instruction", "with input", "text", "messages", "two halves"],
)
def test_what_is_compared(columns: dict[str, Any], prompt: str, everything: str) -> None:
    examples = read(pa.table({key: pa.array(value) for key, value in columns.items()})).examples
    found = [compared_texts(examples.table, examples.shape, examples.columns, part) for part in ("prompt", "all")]
    assert [array.to_pylist() for array in found] == [[prompt], [everything]]
    (hits,) = Gate().open(examples).check([prompt])
    assert [hit.id for hit in hits] == examples.ids.to_pylist()


def test_answers_are_not_needed_and_rows_without_a_prompt_are_left_out() -> None:
    table = pa.table({"question": [STORY, None, OTHER], "answer": pa.nulls(3, pa.string()), "id": ["a", "b", "c"]})
    found = read_texts(table)
    assert (found.texts.to_pylist(), found.ids.to_pylist(), found.missing) == ([STORY, OTHER], ["a", "c"], 1)
    assert found.table.column_names == table.column_names
    curated = table.append_column("example_id", pa.array(["x", "y", "z"]))
    assert read_texts(curated).ids.to_pylist() == ["x", "z"]


# -- the command ------------------------------------------------------------------------------------------------


def run_command(*arguments: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    add_arguments(parser)
    return gate(parser.parse_args(arguments))


@pytest.fixture
def data(tmp_path: Path) -> str:
    rows = [STORY, OTHER, STORY.replace("brother", "sister"), None, "Something else \x1b[31m entirely", OTHER]
    pq.write_table(pa.table({"question": rows, "answer": ["1"] * 6, "n": range(6)}), tmp_path / "data.parquet")
    return str(tmp_path / "data.parquet")


def test_the_command(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, clean = tmp_path / "hits.parquet", tmp_path / "clean.parquet"
    held_out = evaluation([OTHER], tmp_path)
    result = run_command(data, "--evaluation", held_out, "--out", str(out), "--clean", str(clean))
    assert (result["rows"], result["without_text"], result["rows_with_hits"], result["rows_clean"]) == (5, 1, 3, 2)
    assert {"kind": "evaluation exact", "dataset": "held_out.parquet", "rows": 2} in result["hits"]
    table = pq.read_table(out)
    near_rows = [row for row in table.to_pylist() if row["kind"] == "near-duplicate of new"]
    (row,) = near_rows
    assert (row["row"], row["dataset"]) == (2, "new")
    assert 0.7 <= row["score"] < 1
    first = table["example_id"].to_pylist()[0]
    assert row["matched_id"] != first
    assert table["matched_text"].drop_null().to_pylist()
    assert pq.read_table(clean).to_pydict() == {
        "question": [STORY, "Something else \x1b[31m entirely"],
        "answer": ["1"] * 2,
        "n": [0, 4],
    }
    shown = capsys.readouterr().out
    assert "3 of 5 rows hit something" in shown
    assert "near-duplicate of new" in shown
    assert "\x1b" not in shown


def test_the_command_against_another_dataset(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = evaluation([STORY, OTHER], tmp_path, "other")
    source = json.dumps({"data": other, "where": "id=other/1", "name": "the others"})
    result = run_command(data, "--against", source, "--json")
    assert capsys.readouterr().out == ""
    assert json.loads(json.dumps(result)) == result
    assert {"kind": "near-duplicate of source", "dataset": "the others", "rows": 2} in result["hits"]
    assert run_command(data, "--near-duplicate", "0.99", "--json")["rows_with_hits"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--near-duplicate", "off"], "nothing to look for"),
        (["--near-duplicate", "much"], "--near-duplicate much: give a share"),
        (["--near-duplicate", "1.5"], "--near-duplicate: Input should be less than or equal to 1"),
        (["--ngrams", "8,x"], "--ngrams: .*integer"),
        (["--ngrams", "1"], "--ngrams: .*greater than or equal to 2"),
        (["--against", "{where: x}"], "names no data"),
        (["--evaluation", "{data: [}"], "not readable as plain YAML"),
        (["--evaluation", "{data: a.parquet, limits: 3}"], "--evaluation: .*must have data, and else only"),
        (["--against", "{data: DATA, limits: 3}"], "reading option 'limits'"),
        (["--out", "hits.csv"], "ends in .parquet"),
        (["--out", "a.parquet", "--clean", "a.parquet"], "name two files"),
        (["--near-duplicate", "off", "--evaluation", "DATA", "--against", "DATA"], "leave one of them out"),
    ],
)
def test_mistakes_in_the_command(arguments: list[str], message: str, data: str) -> None:
    with pytest.raises(InputError, match=message):
        run_command(data, "--json", *(each.replace("DATA", data) for each in arguments))


def test_results_never_take_the_place_of_what_is_read(data: str, tmp_path: Path) -> None:
    other = Path(evaluation([OTHER], tmp_path, "other"))
    folder = tmp_path / "folder"
    folder.mkdir()
    inside = Path(evaluation([STORY], folder, "inside"))
    linked, symbolic = tmp_path / "linked.parquet", tmp_path / "symbolic.parquet"
    linked.hardlink_to(data)
    symbolic.symlink_to(other)
    roundabout = f"{folder}/../{Path(data).name}"
    others = ["--against", json.dumps({"data": str(other)}), "--evaluation", str(folder), "--json"]
    before = {path: path.read_bytes() for path in (Path(data), other, inside)}
    wrong = [(data, "DATA"), (roundabout, "DATA"), (linked, "DATA"), (symbolic, "--against"), (inside, "--evaluation")]
    for option in ("--out", "--clean"):
        for path, role in wrong:
            with pytest.raises(InputError, match=f"{option} .* would overwrite what {role} reads; name another file"):
                run_command(data, option, str(path), *others)
    with pytest.raises(InputError, match="name two files"):
        run_command(data, "--out", f"{tmp_path}/a.parquet", "--clean", f"{folder}/../a.parquet", *others)
    assert {path: path.read_bytes() for path in before} == before
    for _ in range(2):  # a result of an earlier time may be replaced
        run_command(data, "--clean", str(tmp_path / "clean.parquet"), *others)


# -- real data --------------------------------------------------------------------------------------------------


def test_what_public_sets_share(shared_data: Path) -> None:
    """Known overlaps: 11 exact and about 194 number-masked questions between MATH train and test, and a 13-gram of
    61 test questions in SwS. Signs count here, so that of the 11 those that differ in a minus are templates or
    n-grams instead; digits and letters are words of their own, so that a few more 13-grams are found."""
    path = str(shared_data / "math.parquet")
    test = read_texts(path, where="split=test").texts

    def rows_hit(data: str, where: str | None, template: bool = True) -> Counter[str]:
        held_out = {"data": data, "where": where}
        index = Gate(evaluation=(held_out,), near_duplicate=None, ngrams=(13,), template=template).open()
        return Counter(kind for row in index.check(test) for kind in kinds(row))

    train = rows_hit(path, "split=train")
    assert train["evaluation exact"] == 4
    assert 180 <= train["evaluation template"] <= 220
    assert 58 <= rows_hit(str(shared_data / "sws_synthetic.parquet"), None, False)["evaluation 13-gram"] <= 67
