"""What a completion says once its reasoning and the marks around it are gone."""

from hypothesis import given
from hypothesis import strategies as st

from curate.graders.final_words import final_words

WORDS = st.text(st.characters(exclude_characters="<>{", codec="utf-8"))


@given(WORDS, WORDS)
def test_what_follows_the_reasoning_is_said(thought: str, said: str) -> None:
    for opening in ("<think>", ""):
        assert final_words(f"{opening}{thought}</think>{said}") == said.strip()
    assert final_words(f"<think>{thought}{said}") is None


@given(WORDS)
def test_marks_at_the_ends_do_not_count(said: str) -> None:
    assert final_words(f" <|im_start|>{said}<|im_end|>\n</s>") == said.strip()


def test_a_mark_within_json_is_part_of_it() -> None:
    call = '{"name": "say", "arguments": {"text": "a </think> b"}}'
    assert final_words(call) == call
