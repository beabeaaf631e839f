"""Which texts of a row are compared."""

from typing import Any

import pyarrow as pa
import pytest

from curate.data.readers import read
from curate.gate.compared_text import compared_texts, read_texts
from curate.gate.gate import Gate
from tests.fixtures.texts import OTHER, STORY

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "Two."},
    {"role": "user", "content": "Three?"},
]


@pytest.mark.parametrize(
    ("columns", "prompt", "everything"),
    [
        ({"prompt": ["p"], "completion": ["c"]}, "p", "p\nc"),
        ({"instruction": ["i"], "input": [None], "output": ["o"]}, "i", "i\no"),
        ({"instruction": ["i"], "input": ["n"], "output": ["o"]}, "i\nn", "i\nn\no"),
        ({"text": ["t"]}, "t", "t"),
        ({"messages": [[*TURNS, TURNS[2]]]}, "One?", "Be brief.\nOne?\nTwo.\nThree?\nTwo."),
        ({"prompt": [TURNS[:2]], "completion": [TURNS[2:3]]}, "One?", "Be brief.\nOne?\nTwo."),
    ],
    ids=["prompt", "instruction", "with input", "text", "messages", "two halves"],
)
def test_what_is_compared(columns: dict[str, Any], prompt: str, everything: str) -> None:
    examples = read(pa.table({key: pa.array(value) for key, value in columns.items()})).examples
    found = [compared_texts(examples.table, examples.shape, examples.columns, part) for part in ("prompt", "all")]
    assert [array.to_pylist() for array in found] == [[prompt], [everything]]
    (hits,) = Gate().open(examples).check([prompt])
    assert [hit.id for hit in hits] == examples.ids.to_pylist()


PAIRS: list[dict[str, Any]] = [
    {"prompt": "p?", "chosen": "so", "rejected": "no"},
    {"question": "p?", "response_j": "so", "response_k": "no"},
    {"prompt": "p?", "completion": "so", "label": True},
    {"chosen": "\n\nHuman: p?\n\nAssistant: so", "rejected": "\n\nHuman: p?\n\nAssistant: no"},
    {
        name: [{"role": "user", "content": "p?"}, {"role": "assistant", "content": answer}]
        for name, answer in (("chosen", "so"), ("rejected", "no"))
    },
    {
        "conversations": [{"from": "human", "value": "p?"}],
        "chosen": {"from": "gpt", "value": "so"},
        "rejected": {"from": "gpt", "value": "no"},
    },
]


@pytest.mark.parametrize("row", PAIRS, ids=lambda row: " ".join(row))
def test_pairs_and_labels_are_compared_by_what_is_learned_of_them(row: dict[str, Any]) -> None:
    examples = read([row]).examples
    found = [compared_texts(examples.readable, examples.shape, examples.columns, part)[0] for part in ("prompt", "all")]
    assert [text.as_py().strip().removeprefix("Human: ").removesuffix("\n\nAssistant:") for text in found[:1]] == ["p?"]
    assert "so" in found[1].as_py()
    assert "no" not in found[1].as_py().split()
    assert read_texts(pa.Table.from_pylist([row])).texts.to_pylist() == [found[0].as_py()]


def test_answers_are_not_needed_and_rows_without_a_prompt_are_left_out() -> None:
    table = pa.table({"question": [STORY, None, OTHER], "answer": pa.nulls(3, pa.string()), "id": ["a", "b", "c"]})
    found = read_texts(table)
    assert (found.texts.to_pylist(), found.ids.to_pylist(), found.missing) == ([STORY, OTHER], ["a", "c"], 1)
    assert found.table.column_names == table.column_names
    curated = table.append_column("example_id", pa.array(["x", "y", "z"]))
    assert read_texts(curated).ids.to_pylist() == ["x", "z"]
