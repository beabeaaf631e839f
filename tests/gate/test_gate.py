"""The gate as a component: its parameters and its evaluation sets."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from curate.component import fingerprint
from curate.errors import InputError
from curate.gate.compared_text import read_texts
from curate.gate.gate import Gate, near_duplicates
from tests.fixtures.chats import ODD, write_odd_chats
from tests.fixtures.ray_cluster import Inline
from tests.fixtures.texts import OTHER, STORY, evaluation, kinds

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


def test_case_punctuation_and_form_make_no_difference() -> None:
    index = Gate().open([STORY])
    changed = STORY.upper().replace(",", " ;").replace(" ", "\n\t")
    assert [hit.score for hit in index.check([changed])[0]] == [1.0]


def test_off_means_off() -> None:
    index = Gate(near_duplicate=None).open([STORY])
    assert index.admit([STORY, STORY], "ab") == [[], []]
    index.add(STORY, "c")
    assert index.check([STORY]) == [[]]


def test_an_evaluation_set_is_read_by_every_option_of_reading(tmp_path: Path) -> None:
    path = write_odd_chats(tmp_path, [STORY, OTHER])
    index = Gate(evaluation=({"data": str(path), **ODD},)).open()
    (found,) = index.admit([OTHER], ["new"])
    assert "evaluation exact" in {hit.kind for hit in found}
    with pytest.raises(InputError, match=r"encoding cp1252.*written \{data: FILE, encoding: NAME\}"):
        Gate(evaluation=(str(path),)).open()


def test_of_conversations_that_are_json_text_the_question_is_compared() -> None:
    talk = [{"role": "user", "content": STORY}, {"role": "assistant", "content": "66"}]
    table = pa.table({"messages": [json.dumps(talk)]})
    read = read_texts(table)
    assert read.texts.to_pylist() == [STORY]
    assert read.table.equals(table)


def test_workers_find_what_one_process_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.gate.gate._SENT", 7)
    words = OTHER.split()
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.permutation(words)[: 8 + k % 5]) for k in range(60)]
    texts += [text + " again" for text in texts[::3]]
    ids = [str(k) for k in range(len(texts))]

    def found(engine: Any) -> Any:
        index = Gate(near_duplicate=0.6).open()
        index.add_source(texts[5:14], ids[5:14], engine=engine)
        checked = index.check(texts, engine)
        hits = index.admit(texts, ids, engine)
        return hits, checked, index.crowded, len(index)

    here = found(None)
    assert sum(bool(hits) for hits in here[0]) > 10
    engine = Inline()
    assert found(engine) == here
    assert engine.stages == [("signatures", 2), ("compare", 12), ("compare", 12)]


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
