"""Chosen letters: what is right states one letter, that of the reference; what states several is never right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.graders import Choice
from curate.graders.choice import options_in
from curate.verify import Verdict

TEXTS = ["stone", "pear", "cloud", "river"]
LETTERS = "ABCD"
SAID = [
    *("{0}", "({0})", "{0}.", "**{0}**", "{0}) {1}", "({0}) {1}", "{0}. {1}.", "{1}", "The answer is {0}.", "#### {0}"),
    *("The answer is ({0}) {1}.", "Answer: {0}", "\\boxed{{{0}}}", "\\boxed{{\\text{{{0}}}}}", "<answer>{0}</answer>"),
    *(
        "{0}\n\nBecause it is a {1}.",
        "A stone is no fruit, a cloud is none.\nSo the answer is {0}",
        "(B) is near.\n{0}",
    ),
    *("<think>It is A, no C.</think>\n{0}", "The answer is {0} because it grows."),
]
OPEN = [
    *("The answer is {0} or {2}.", "{0} or {2}", "{0}\n{2}", "({0}) and ({2})", "The answer is not {0}.", ""),
    *("I am not sure about {0}.", "The answer is ({0}) {3}.", "{0}, {2}", "<think>{0}", "{0}) {1} or {2}) {3}"),
    *("Both {0} and {2} are right", "{0}\n\nActually, {2}.", "({0}) {1}, or ({2})", "{0}) {3}"),
]


def question(marks: str) -> str:
    return "Which of them?\n" + "\n".join(marks.format(x) + f" {text}" for x, text in zip(LETTERS, TEXTS, strict=True))


@given(
    marks=st.sampled_from(["{}.", "{})", "({})", "{}:"]),
    chosen=st.sampled_from(range(4)),
    expected=st.sampled_from(range(4)),
    said=st.sampled_from(SAID),
)
def test_one_letter_is_right_where_it_is_that_of_the_reference_and_else_wrong(
    marks: str, chosen: int, expected: int, said: str
) -> None:
    reference = Choice().reference(question(marks), LETTERS[expected], None, {})
    assert reference is not None
    verdict = Choice().grade(said.format(LETTERS[chosen], TEXTS[chosen]), reference, {})
    assert verdict is (Verdict.right if chosen == expected else Verdict.wrong), said


@given(chosen=st.sampled_from(range(4)), shift=st.integers(1, 3), said=st.sampled_from(OPEN))
def test_several_letters_and_none_are_undecided(chosen: int, shift: int, said: str) -> None:
    other = (chosen + shift) % 4
    text = said.format(LETTERS[chosen], TEXTS[chosen], LETTERS[other], TEXTS[other])
    for expected in LETTERS:
        reference = Choice().reference(question("{}."), expected, None, {})
        assert reference is not None
        assert Choice().grade(text, reference, {}) is Verdict.undecided, text


@given(st.sampled_from(range(4)))
def test_the_reference_is_a_letter_a_text_or_a_solution(chosen: int) -> None:
    letter, text = LETTERS[chosen], TEXTS[chosen]
    answers = [(letter, None), (text, None), (f"Well.\nThe answer is ({letter}).", None), ("It grows.", letter)]
    for completion, final in answers:
        assert str(Choice().reference(question("{}."), completion, final, {}))[0] == letter
    assert str(Choice().reference(question("{}."), "", None, {"answerKey": letter}))[0] == letter
    assert Choice().reference("Which of them?", letter, None, {"choices": TEXTS}) is None
    assert Choice().reference(question("{}."), "E", None, {}) is None


def test_what_was_cut_off_counts_only_where_more_follows() -> None:
    reference = Choice().reference(question("{}."), "B", None, {})
    said = ["B", "The answer is B", "The answer is (B) pear. It", "B\n\nBecause", "\\boxed{B} is"]
    right, open_ = Verdict.right, Verdict.undecided
    found = Choice().grade_many(said, [str(reference)] * 5, [{}] * 5, [True] * 5)
    assert found == [open_, open_, right, right, right]


def test_options_stand_at_the_beginning_of_lines_in_the_order_of_letters() -> None:
    assert options_in("A. one\nB. two\nAnswer:") == {"A": "one", "B": "two"}
    assert options_in("A. old\nB. one\n\nNow:\nA) one\nB) two\nC) three") == {"A": "one", "B": "two", "C": "three"}
    for text in ("A. one", "A. one\nC. two", "B. one\nC. two", "I saw A. Then B. came", ""):
        assert options_in(text) is None


@pytest.mark.parametrize(
    "back",
    [
        "\nActually {1} is correct.",
        ".\nWait, no. {1} is right.",
        "\n\nNo, {1}",
        "\nCorrection: {2}",
        "\nI was wrong; option {1} it is",
        "? No, {1}.",
        ". {0}? No: {2}",
    ],
)
@pytest.mark.parametrize("said", ["B", "**B**", "The answer is B", "\\boxed{{B}}"])
def test_a_letter_that_is_taken_back_is_never_right(said: str, back: str) -> None:
    reference = Choice().reference(question("{}."), "B", None, {})
    assert reference is not None
    text = said.replace("{{", "{").replace("}}", "}") + back.format(TEXTS[1], "A", TEXTS[0])
    assert Choice().grade(text, reference, {}) is not Verdict.right, text
    assert Choice().grade(said.replace("{{", "{").replace("}}", "}"), reference, {}) is Verdict.right
