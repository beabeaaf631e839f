"""What a written dataset is in."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from curate.data.examples import Examples
from curate.data.readers import read
from curate.data.trainer_forms import in_form
from curate.data.written_form import written_form


def _examples(rows: list[dict[str, Any]]) -> Examples:
    return read(pa.Table.from_pylist(rows)).examples


def test_the_form_of_what_was_written() -> None:
    spoken = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    examples = _examples([{"conversations": spoken, "id": "x"}])
    form = written_form(examples, examples.table)
    assert (form.kind, form.shape, form.keys, form.speakers) == ("sft", "messages", ("from", "value"), ("human", "gpt"))
    assert form.columns == {"messages": "conversations", "id": "id"}
    (table,) = in_form([examples], [examples.table], "messages")
    form = written_form(examples, table, "messages")
    assert (form.keys, form.speakers, dict(form.columns)) == (
        ("role", "content"),
        ("user", "assistant"),
        {"messages": "messages"},
    )
    pairs = _examples([{"prompt": "a", "chosen": "b", "rejected": "c"}])
    form = written_form(pairs, pairs.table)
    assert (form.kind, form.answers, form.prompt) == ("preference", "texts", "text")
    assert dict(form.columns) == {name: name for name in ("prompt", "chosen", "rejected")}


def _weight(messages: list[dict[str, Any]], rows: int = 1) -> str:
    plain = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    examples = _examples([{"messages": plain}] * (rows - 1) + [{"messages": messages}])
    return written_form(examples, examples.table).weight


def test_the_key_that_says_which_answers_are_not_learned() -> None:
    asked, said = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    assert _weight([asked, {**said, "train": False}, asked, said], rows=2_000) == "train"
    assert _weight([asked, {**said, "weight": 0}, asked, {**said, "weight": 1.0}]) == "weight"
    assert _weight([{**asked, "train": False}, {**said, "train": True}]) == ""  # questions are never learned
    assert _weight([asked, {**said, "loss": 0.0}]) == ""  # measured
    assert _weight([asked, {**said, "loss": False}, asked, said]) == "loss"
    halves = _examples([{"prompt": [asked, {**said, "train": False}, asked], "completion": [said]}])
    assert written_form(halves, halves.table).weight == ""
    (table,) = in_form([halves], [halves.table], "messages")
    assert written_form(halves, table, "messages").weight == "train"


def test_columns_of_json_are_known() -> None:
    for note, json in (({"b": 1}, True), ({"a": 2}, False)):
        loaded = read([{"question": "a", "answer": "b", "note": each} for each in ({"a": 1}, note)])
        assert written_form(loaded.examples, loaded.examples.table).json is json
