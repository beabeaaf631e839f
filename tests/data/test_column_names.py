"""Names of roles are told apart, and none is the name of a column that curation adds."""

from __future__ import annotations

from curate.data.column_names import (
    CONVERSATIONS,
    INPUT,
    OPTIONAL,
    OPTIONAL_CONTENT,
    PAIRS,
    REQUIRED,
    RESERVED,
    ROLES,
    SHAPES,
    SURROUNDING,
    SURROUNDING_NAMES,
)
from curate.data.columns import known_names


def test_no_role_goes_by_a_name_that_curation_gives() -> None:
    assert known_names().isdisjoint(RESERVED)
    assert {*INPUT, *CONVERSATIONS} <= known_names()


def test_every_role_is_one() -> None:
    roles = {role for names in REQUIRED.values() for role in names}
    assert roles | {*OPTIONAL, *SURROUNDING, *OPTIONAL_CONTENT} <= set(ROLES)
    assert tuple(REQUIRED) == SHAPES
    assert tuple(SURROUNDING_NAMES) == SURROUNDING


def test_names_are_written_as_they_are_compared() -> None:
    assert all(name == name.casefold().replace(" ", "_").replace("-", "_") for name in known_names())


def test_no_name_of_a_surrounding_is_that_of_a_prompt_or_completion_of_a_shape() -> None:
    """But for `context`, which is the input of an instruction, and `passage`, which is summarized where it is alone."""
    spoken = {name for names in REQUIRED.values() for each in names.values() for name in each}
    paired = {name for pair in PAIRS for names in pair for name in names}
    around = {name for names in SURROUNDING_NAMES.values() for name in names}
    assert around.isdisjoint(spoken)
    assert around & paired == {"passage"}
