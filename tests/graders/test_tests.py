"""Programs: right is what passes the tests of its row, and nothing that keeps them from running."""

from typing import Any

import pytest

from curate import graders
from curate.verify import Verdict
from curate.verify.sandbox import sandbox_layers

pytestmark = pytest.mark.skipif(not sandbox_layers(), reason="no sandbox here")

MBPP = {"test_list": ["assert twice(2) == 4", "assert twice(0) == 0"], "test_setup_code": ""}
HUMAN = {
    "prompt": 'import math\n\ndef twice(x):\n    """Twice x."""\n',
    "test": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(0) == 0\n",
    "entry_point": "twice",
}
FUNCTIONS = {"tests": "def test_it():\n    assert twice(2) == 4\n\ndef test_zero():\n    assert twice(0) == 0\n"}
GOOD, BAD = "def twice(x):\n    return 2 * x", "def twice(x):\n    return x + 2"


def verdict(row: dict[str, Any], completion: str, cut_off: bool = False) -> Verdict:
    grader = graders.Tests(seconds=5)
    reference = grader.reference("", "", None, row)
    assert reference is not None
    return grader.grade_many([completion], [reference], [row], [cut_off])[0]


@pytest.mark.parametrize("row", [MBPP, HUMAN, FUNCTIONS], ids=["list", "check", "functions"])
def test_what_passes_is_right_and_what_fails_one_test_is_wrong(row: dict[str, Any]) -> None:
    assert verdict(row, f"Here it is:\n```python\n{GOOD}\n```\nIt doubles.") is Verdict.right
    assert verdict(row, BAD) is Verdict.wrong
    assert verdict(row, f"{GOOD}\n\nif __name__ == '__main__':\n    print(input())") is Verdict.right


@pytest.mark.parametrize("body", ["    return 2 * x", "return 2 * x", "    y = math.floor(x)\n    return y + y\n"])
def test_a_function_may_be_gone_on_with(body: str) -> None:
    assert verdict(HUMAN, body) is Verdict.right


@pytest.mark.parametrize(
    "trick",
    [
        "import os\nos._exit(0)",
        "import sys\nsys.exit(0)",
        "raise SystemExit",
        "print('passed')\nimport os\nos._exit(0)",
        "def check(candidate):\n    pass\ndef test_it():\n    pass",
        "",
    ],
)
@pytest.mark.parametrize("row", [MBPP, HUMAN, FUNCTIONS], ids=["list", "check", "functions"])
def test_what_keeps_the_tests_from_running_is_not_right(trick: str, row: dict[str, Any]) -> None:
    assert verdict(row, f"```python\n{BAD}\n{trick}\n```") is Verdict.wrong


def test_what_does_not_end_lacks_a_package_or_is_no_program_is_undecided() -> None:
    grader = graders.Tests(seconds=1)
    reference = grader.reference("", "", None, MBPP)
    assert reference is not None
    said = ["while True: pass", "import a_package_that_is_not_there", "I would rather not.", f"```python\n{GOOD}"]
    rows = [MBPP] * 4
    assert grader.grade_many(said, [reference] * 4, rows, [False, False, False, True]) == [Verdict.undecided] * 4


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"test": "def check(candidate):\n    assert candidate(2) == 4"},  # of which function
        {"test": "def helper(x):\n    assert x"},  # is never called
        {"tests": "assert this is no Python"},
        {"test_list": []},
        {"test": "x = twice(2)"},
        {"test": 3},
    ],
)
def test_rows_whose_tests_check_nothing_are_not_graded(row: dict[str, Any]) -> None:
    assert graders.Tests().reference("", GOOD, None, row) is None


@pytest.mark.parametrize(
    "tests",
    [
        "if __name__ == '__main__':\n    assert twice(3) == 6",
        "try:\n    assert twice(3) == 6\nexcept AssertionError:\n    print('failed')",
        "def check(candidate):\n    assert candidate(3) == 6\ndef helper():\n    return 1\nx = helper()",
        "def test_it():\n    def inner():\n        assert twice(3) == 6",
        "for x in []:\n    assert twice(x) == 2 * x",
        "def test_it():\n    yield\n    assert twice(3) == 6",
        "assert (twice(3) == 6, 'twice')",
        "assert True",
    ],
)
def test_tests_that_reach_no_assertion_or_catch_it_are_never_passed(tests: str) -> None:
    assert verdict({"tests": tests}, BAD) is not Verdict.right


def test_tests_may_raise_instead_of_asserting() -> None:
    row = {"tests": "def test_it():\n    if twice(3) != 6:\n        raise ValueError('not twice')"}
    assert [verdict(row, each) for each in (GOOD, BAD)] == [Verdict.right, Verdict.wrong]
