"""Each row is graded by what fits it."""

from __future__ import annotations

import pyarrow as pa

from curate.data.examples import Examples
from curate.data.readers import read
from curate.graders import JSON, Exact, Tests
from scorers.row_graders import references_of, verifiable

CALL = '<tool_call>{"name": "book", "arguments": {"room": 3}}</tool_call>'
DOUBLE = "def double(x):\n    return 2 * x"


def _kinds() -> Examples:
    """A sum, a tool call, a program with a test, one that fails it, and words."""
    rows = {
        "prompt": ["1 plus 1", "Book room 3.", "Write double(x).", "Write double(x) again.", "Say hello."],
        "completion": ["#### 2", CALL, DOUBLE, DOUBLE.replace("2", "3"), "Hello."],
        "tests": ["", "", "assert double(4) == 8", "assert double(4) == 8", ""],
    }
    return read(pa.table(rows)).examples


def test_each_row_is_graded_by_what_fits_it() -> None:
    found = verifiable(_kinds(), (JSON(), Tests()), answers=True)
    assert [each and type(each[0]).__name__ for each in found] == ["NoneType", "JSON", "Tests", None, None]
    assert found[0] == (None, "2")
    unasked = verifiable(_kinds(), (JSON(),), answers=True)
    assert [each is not None for each in unasked] == [True, True, False, False, False]
    exact = verifiable(_kinds(), (Exact(),), answers=False)
    assert [each and type(each[0]).__name__ for each in exact] == ["Exact"] * 5
    assert references_of(JSON(), _kinds()) == [None, CALL, None, None, None]
