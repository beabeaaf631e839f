"""Rules of contamination: runs of words, templates and numbers that an evaluation set holds too."""

from pathlib import Path

import pytest

from curate.gate.gate import Gate, GateIndex
from tests.fixtures.texts import OTHER, STORY, evaluation, kinds, words_of

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
