"""JSON values as Arrow columns: keys and digits are kept, nesting is bounded."""

from __future__ import annotations

from typing import Any

import pytest

from curate.data.json_values import MOST_LEVELS, column_of
from curate.errors import InputError


def test_python_values_keep_their_keys_and_digits() -> None:
    found, notes = column_of("x", [{"a": 2**70}, {"b": 0.1}, None])
    assert found.to_pylist() == ['{"a": 1180591620717411303424}', '{"b": 0.1}', None]
    assert notes == ["column 'x' is kept as JSON: its objects have different keys"]
    assert column_of("x", [2**64, 1])[0].to_pylist() == ["18446744073709551616", "1"]


def test_nesting_of_python_values_is_bounded() -> None:
    deep: Any = 1
    for _ in range(MOST_LEVELS + 2):
        deep = [deep]
    with pytest.raises(InputError, match="nests more than 48 levels"):
        column_of("x", [deep])
