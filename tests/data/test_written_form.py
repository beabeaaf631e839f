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
