"""New conversations are written as those of the input are."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from curate.data.json_values import column_of
from curate.data.message_style import written_like
from curate.data.messages import conversations, values_of
from curate.data.turns import MessageKeys

NEW = [
    [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
    [{"role": "user", "content": "r"}, {"role": "assistant", "content": "b"}],
]


@pytest.mark.parametrize(
    "given",
    [
        [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
        [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}],
        [{"from": "human", "value": "x"}, {"from": "chatgpt", "value": "y"}],
        [{"role": "User", "value": "x"}, {"role": "bot", "value": "y"}],
        [{"human": "x", "assistant": "y", "system": ""}],
        [{"role": "user", "content": [{"type": "text", "text": "x"}]}] * 2,
        [{"role": "user", "content": "x", "n": 1}, {"role": "assistant", "content": "y"}],
        [{"role": "user", "content": "x"}, {"role": "assistant", "content": ["y"]}],
        [{"role": "user", "content": "x", "weight": 1.0}, {"role": "assistant", "content": "y", "weight": 0.0}],
    ],
)
def test_new_conversations_have_the_keys_and_names_of_the_given(given: list[dict[str, Any]]) -> None:
    column = column_of("messages", [given])[0]
    written = written_like(NEW, column)
    assert written.type == column.type
    assert conversations(written) == NEW
    roles = {name for turn in given for key in ("role", "from") if (name := turn.get(key)) not in (None, "user")}
    shown = {turn.get("role") or turn.get("from") for turn in values_of(written)[1]}
    assert roles <= shown


def test_keys_that_are_named() -> None:
    column = pa.chunked_array([pa.array([[{"who": "x", "said": "y"}]])])
    written = written_like(NEW, column, MessageKeys("who", "said", {"x": "user"}))
    assert values_of(written)[1][0] == {"who": "x", "said": "r"}
