"""The measured difference from the parent: names and numbers do not count."""

from __future__ import annotations

import pytest

from augmenters.synthesis.checks.difference import difference, fault

PARENT = "Tom has 3 boxes with 12 pens each. He gives 5 pens to Ann. How many pens has Tom left?"


def test_names_and_numbers_alone_are_no_difference() -> None:
    assert difference(PARENT, PARENT) == 0
    other = "Zoe has 7 boxes with 144 pens each. He gives 6 pens to Bo. How many pens has Zoe left?"
    assert difference(other, PARENT) == 0


def test_it_grows_with_what_is_changed_and_is_symmetric() -> None:
    pencils = PARENT.replace("pens", "pencils")
    other = "A bakery fills 3 trays with 12 rolls. Five fall down. What number of rolls can it sell?"
    amounts = [difference(text, PARENT) for text in (PARENT, pencils, other)]
    assert amounts == sorted(amounts)
    assert 0 < amounts[1] < 0.2 < amounts[2] < 1
    assert amounts[2] == pytest.approx(difference(PARENT, other), abs=0.1)


def test_the_fault_says_how_much() -> None:
    assert fault(PARENT, PARENT, 0.2) == "0.00 of 0.2 asked for"
    assert fault(PARENT, PARENT, 0.0) is None
    assert difference("", "") == 0
