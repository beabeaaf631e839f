"""Every grader keeps the contract of graders."""

from typing import Any

import pytest

import curate.graders
from curate.checks import check_grader
from curate.verify import Verdict
from tests.fixtures.components import made, offered

ROWS: dict[str, dict[str, Any]] = {
    "Choice": {"question": "Which is a fruit?\nA. stone\nB. pear\nC. cloud", "completion": "B"},
    "JSON": {"completion": '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'},
    "Tests": {"completion": "def twice(x):\n    return 2 * x", "test_list": ["assert twice(2) == 4"]},
}


@pytest.mark.parametrize("grader", made(curate.graders, {}), ids=lambda part: type(part).__name__)
def test_graders(grader: Any) -> None:
    check_grader(grader, [ROWS.get(type(grader).__name__, {})])


def test_the_rows_are_of_graders_that_there_are() -> None:
    assert set(ROWS) < set(offered(curate.graders))


class Boastful:
    """What is empty is right."""

    def grade(self, completion: str, reference: str, row: Any) -> Any:
        return Verdict.right if completion in ("", reference) else None


def test_what_gives_no_verdict_is_found() -> None:
    with pytest.raises(AssertionError, match=r"must return a curate\.verify\.Verdict"):
        check_grader(Boastful())
