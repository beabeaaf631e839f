"""What two conversations begin with, and conversations made of single messages and texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.data.shared_prompts import (
    as_conversations,
    as_messages,
    divided_texts,
    part_of_messages,
    shared_messages,
)


def _plain(first: list[Any], second: list[Any]) -> int:
    count = 0
    while count < min(len(first), len(second)) - 1 and first[count] == second[count]:
        count += 1
    return count


@pytest.mark.parametrize("large", [False, True])
def test_the_shared_beginning_of_random_conversations(large: bool) -> None:
    draw = np.random.default_rng(0)

    def conversation() -> list[dict[str, str]] | None:
        if draw.random() < 0.1:
            return None
        return [{"role": "ab"[draw.integers(2)], "content": "x"} for _ in range(draw.integers(0, 6))]

    rows = [(conversation(), conversation()) for _ in range(300)]
    item = pa.struct({"role": pa.string(), "content": pa.string()})
    kind = pa.large_list(item) if large else pa.list_(item)
    first, second = (pa.array([row[k] for row in rows], kind).slice(7) for k in (0, 1))
    shared = shared_messages(first, second)
    assert shared.tolist() == [_plain(a or [], b or []) for a, b in rows[7:]]
    begin, rest = (part_of_messages(first, shared, begin=each).to_pylist() for each in (True, False))
    for (row, _), count, head, tail in zip(rows[7:], shared.tolist(), begin, rest, strict=True):
        assert (head, tail) == ((None, None) if row is None else (row[:count], row[count:]))


def test_single_messages_and_texts_as_conversations() -> None:
    message = {"from": "gpt", "value": "b"}
    column = pa.chunked_array([[message, None], [message]])
    assert as_conversations(column).to_pylist() == [[message], None, [message]]
    assert as_conversations(as_conversations(column)).to_pylist() == [[message], None, [message]]
    found = as_messages(pa.chunked_array([["a", None], ["c"]]), "user").to_pylist()
    assert found == [[{"role": "user", "content": "a"}], None, [{"role": "user", "content": "c"}]]


def test_texts_are_divided_between_words() -> None:
    assert divided_texts("a b c", "a b d") == ("a b", " c", " d")
    assert divided_texts(None, "x") == (None, None, "x")
