"""Exact texts: the same characters, and nothing else."""

import unicodedata

from hypothesis import assume, given
from hypothesis import strategies as st

from curate.graders import Exact
from curate.verify import Verdict

TEXTS = st.text(st.characters(exclude_characters="<", codec="utf-8"))


@given(TEXTS, TEXTS)
def test_right_is_the_same_text_and_anything_else_is_wrong(one: str, other: str) -> None:
    assert Exact().grade(one, one, {}) is Verdict.right
    assume(unicodedata.normalize("NFC", one.strip()) != unicodedata.normalize("NFC", other.strip()))
    assert Exact().grade(one, other, {}) is Verdict.wrong


def test_reasoning_does_not_count_and_without_its_end_nothing_was_said() -> None:
    assert Exact().grade("<think>no</think>\nyes<|im_end|>", "yes", {}) is Verdict.right
    assert Exact().grade("<think>yes", "yes", {}) is Verdict.undecided
