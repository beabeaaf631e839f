"""Final answers, by the rules of `curate.verify`."""

from hypothesis import given
from hypothesis import strategies as st

from curate.graders import Math
from curate.verify import Verdict, grade

NUMBERS = st.integers(-(10**9), 10**9)


@given(NUMBERS, NUMBERS)
def test_it_is_grade_of_verify(one: int, other: int) -> None:
    for text in (f"So #### {one}", f"\\boxed{{{one}}}", f"It is {one}"):
        assert Math().grade(text, str(other), {}) == grade(text, str(other))


@given(NUMBERS)
def test_what_was_cut_off_counts_only_where_it_marks_its_answer(number: int) -> None:
    texts, references = [f"#### {number}\n", f"There are {number} so"], [str(number)] * 2
    assert Math().grade_many(texts, references, [{}] * 2, [True] * 2) == [Verdict.right, Verdict.undecided]
    assert Math().extract(texts[1], True) is None


def test_the_answer_of_a_row_is_its_final_answer_else_what_its_completion_marks() -> None:
    assert Math().reference("", "#### 3", "4", {}) == "4"
    assert Math().reference("", "#### 3", None, {}) == "3"
    assert Math().reference("", "A story of a fox and a hen that met at noon, and talked.", None, {}) is None
