"""Each row is graded by what fits it."""

from __future__ import annotations

from curate.graders import JSON, Exact, Tests
from scorers.row_graders import references_of, verifiable
from tests.fixtures.graded_rows import CALL, mixed_tasks


def test_each_row_is_graded_by_what_fits_it() -> None:
    found = verifiable(mixed_tasks(), (JSON(), Tests()), answers=True)
    assert [each and type(each[0]).__name__ for each in found] == ["NoneType", "JSON", "Tests", None, None]
    assert found[0] == (None, "2")
    unasked = verifiable(mixed_tasks(), (JSON(),), answers=True)
    assert [each is not None for each in unasked] == [True, True, False, False, False]
    exact = verifiable(mixed_tasks(), (Exact(),), answers=False)
    assert [each and type(each[0]).__name__ for each in exact] == ["Exact"] * 5
    assert references_of(JSON(), mixed_tasks()) == [None, CALL, None, None, None]
