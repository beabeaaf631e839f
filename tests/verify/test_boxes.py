"""Boxes, nested and joined ones, and what stands around them."""

from __future__ import annotations

import pytest

from curate.verify import grade, reference_answer
from curate.verify.boxes import last_box
from tests.fixtures.answers import RIGHT


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"x = -\boxed{7}", "-7"),
        (r"-\boxed{\frac{1}{2}}", r"-\frac{1}{2}"),
        (r"= -\boxed{x+1}", "-(x+1)"),
        (r"- \boxed{7}", "7"),
        (r"**\boxed{7}**.", "7"),
        (r"$\boxed{7}$ is right", "7"),
        (r"2 + \boxed{5} = 7", "5"),
        (r"\boxed{\boxed{7}}", "7"),
        (r"\boxed{\frac{\boxed{3}}{4}}", r"\frac{3}{4}"),
        (r"\boxed{7}\%", "7"),
        (r"\boxed{19}x^3", "19"),
        (r"\boxed{90}^\circ", "90"),
        (r"$\boxed{7}$ or $\boxed{8}$", r"\{7, 8\}"),
        (r"$x=\boxed{7}$, $y=\boxed{8}$", r"\{7, 8\}"),
        (r"\boxed{7} apples", "7"),
        (r"\boxed{7}, no, \boxed{8}", "8"),
        ("\\boxed{7}\n\n\\boxed{8}", "8"),
        (r"it is not 6 but \boxed{7}", "7"),
    ],
)
def test_what_a_box_says(text: str, answer: str) -> None:
    box = last_box(text)
    assert box is not None
    assert box.text == answer


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{7}8",
        r"\boxed{7}.5",
        r"\boxed{7}^2",
        r"\boxed{7}/8",
        r"\boxed{7}\cdot 10^3",
        r"1\boxed{7}",
        r"\sqrt{\boxed{7}}",
        r"\frac{1}{\boxed{7}}",
        r"2\cdot\boxed{7}",
        r"\boxed{7} million",
        r"$\boxed{7}$ dozen",
        r"\boxed{7}\boxed{8}",
        r"It is not \boxed{7}",
        r"It isn't \boxed{7}.",
        r"\boxed{7} is wrong.",
        r"\boxed{7}. No, 8.",
        r"\boxed{7} would be the naive answer; it is 8",
        r"\boxed{7} or 8",
        r"10-\boxed{7}",
        r"\boxed{8} and \boxed{7}",
    ],
)
def test_a_box_that_is_part_of_something_is_never_right(text: str) -> None:
    assert grade(text, "7") is not RIGHT
    assert grade("First this.\n" + text, "7") is not RIGHT


def test_boxes_that_are_joined_are_all_of_the_answer() -> None:
    both = r"So $x=\boxed{7}$ or $x=\boxed{8}$."
    assert grade(both, "7, 8") is RIGHT
    assert grade(both, "8") is not RIGHT
    assert grade(r"\boxed{-b+2}, or \boxed{2-b}", "2-b") is RIGHT
    assert reference_answer(both) == r"\{7, 8\}"
    assert reference_answer(r"\boxed{3} pens, so $x=\boxed{8}$.") == "8"  # not joined: the first is of a step
    assert reference_answer(r"which is \boxed{2.2} million tons") == "2.2"
