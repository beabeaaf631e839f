"""JSON texts: taken apart as they are written, and what `datasets` would misread in them."""

from __future__ import annotations

import json
import random

import datasets

from curate.data.json_text import fault_of, items_of, members_of


def test_what_datasets_misreads_is_known() -> None:
    draw = random.Random(0)
    texts = [f"{draw.uniform(0, 100):.{digits}f}" for digits in range(1, 17) for _ in range(50)]
    texts += [
        "18446744073709551615",
        "-9223372036854775808",
        "1e22",
        "-0.0",
        "[1, null]",
        '"\\ud83d\\ude00"',
        '"\\\\ud800"',
    ]
    texts += ["18446744073709551616", "-9223372036854775809", '{"a": "\\uD800"}', "5e-324"]
    kept = [fault_of(text) is None for text in texts]
    assert 0 < sum(kept) < len(kept)
    for text, fine in zip(texts, kept, strict=True):
        try:
            opened = datasets.Json().decode_example(text)
        except ValueError:
            opened = "refused"
        assert fine == (opened == json.loads(text)), text


def test_texts_are_taken_apart_as_they_are_written() -> None:
    assert members_of(' { "a" : [1 , 2], "b":{} ,"c" : "}\\"" } ') == {"a": "[1 , 2]", "b": "{}", "c": '"}\\""'}
    assert items_of('[ 1.50 ,"],", [ ] , null]') == ["1.50", '"],"', "[ ]", "null"]
    assert members_of("{ }") == {}
    assert items_of("[ ]") == []
