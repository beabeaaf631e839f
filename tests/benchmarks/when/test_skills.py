"""Rows of skills: shares, faults, and what the same seed means."""

from collections import Counter
from typing import Any

import pytest

from benchmarks.when.design import SYMBOLS_SETTINGS
from benchmarks.when.settings import Setting
from benchmarks.when.skills import RARE, SKILLS, UNLEARNABLE, drawn, training_rows

CLEAN = Setting("symbols", "nothing", 0.1, 400, 8, 10, "t_hard", (1,), ("original",))


def _with(**changes: Any) -> Setting:
    return Setting(**{**CLEAN.__dict__, **changes})


def _truth(question: str, table: dict[str, dict[str, str]]) -> str:
    skill, symbols = question.split(" : ")
    return " ".join(table[skill][symbol] for symbol in symbols.split())


def _substitutions(seed: int) -> dict[str, dict[str, str]]:
    """Skill -> symbol -> what it becomes, from clean rows."""
    table: dict[str, dict[str, str]] = {skill: {} for skill in SKILLS}
    rows = drawn(dict.fromkeys(SKILLS, 1.0), 800, 3, seed, "elsewhere")
    for question, answer in zip(rows["question"].to_pylist(), rows["answer"].to_pylist(), strict=True):
        skill, symbols = question.split(" : ")
        table[skill] |= dict(zip(symbols.split(), answer.split(), strict=True))
    return table


def test_rows_follow_their_skill_and_the_rare_part_has_its_share() -> None:
    rows = training_rows(CLEAN, 3, 7)
    table = _substitutions(7)
    assert all(sorted(each) == sorted(each.values()) for each in table.values())  # every skill is a permutation
    for question, answer in zip(rows["question"].to_pylist(), rows["answer"].to_pylist(), strict=True):
        assert answer == _truth(question, table)
    assert Counter(rows["rare"].to_pylist()) == {False: 360, True: 40}
    assert set(rows["group"].to_pylist()) == set(SKILLS)
    assert len(set(rows["id"].to_pylist())) == 400


def test_shuffled_completions_are_marked_and_only_they_move() -> None:
    clean, noisy = (training_rows(setting, 3, 7) for setting in (CLEAN, _with(noise=0.2)))
    assert clean["question"].equals(noisy["question"])
    faults = noisy["fault"].to_pylist()
    assert Counter(faults) == {"": 320, "shuffled": 80}
    moved = [fault == "shuffled" for fault in faults]
    answers = list(zip(clean["answer"].to_pylist(), noisy["answer"].to_pylist(), strict=True))
    assert all(before == after for (before, after), fault in zip(answers, moved, strict=True) if not fault)
    assert sorted(a for a, _ in answers) == sorted(b for _, b in answers)
    assert sum(before != after for before, after in answers) > 70


def test_rows_of_an_unlearnable_kind_come_on_top_of_the_shares() -> None:
    rows = training_rows(_with(unlearnable=0.15), 3, 7)
    kinds = Counter(rows["group"].to_pylist())
    assert kinds[UNLEARNABLE] == 60
    assert sum(kinds[skill] for skill in RARE) == 34
    assert Counter(rows["fault"].to_pylist()) == {"": 340, "unlearnable": 60}


@pytest.mark.parametrize("setting", SYMBOLS_SETTINGS, ids=lambda setting: setting.name)
def test_settings_have_names_of_their_own(setting: Setting) -> None:
    assert sum(other.name == setting.name for other in SYMBOLS_SETTINGS) == 1
    assert setting.arms[0] == "original"
