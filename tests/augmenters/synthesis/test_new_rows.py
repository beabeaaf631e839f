"""New rows have the shape and the columns of the input."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from augmenters import Duplicate, Synthesize
from curate import read
from tests.fixtures.synthesis_pipelines import Writer, pipeline, rows, run, synthetic


def test_new_rows_carry_everything_the_contract_names(cache: Path) -> None:
    curated = run(cache, Duplicate(), Synthesize(generator=Writer(), variants=2))
    found = synthetic(curated)
    assert len(found) >= 5
    originals = {row["example_id"]: row for row in curated.dataset.to_pylist() if row["origin"] == "original"}
    hard = {row["example_id"] for row in originals.values() if row["hard"]}
    for row in found:
        parent = originals[row["source_id"]]
        assert row["source_id"] in hard
        assert row["final_answer"] == parent["final_answer"]
        assert row["topic"] == parent["topic"]
        assert row["question"] != parent["question"]
        assert f"\\boxed{{{row['final_answer']}}}" in row["answer"]
        assert 1 <= row["pass_count"] <= 5
        assert row["verified"] is True
        assert row["generator"] == "writer-0.5"
        assert re.fullmatch("[0-9a-f]{32}", row["request"])
        assert row["rescored_hard"] == row["hard"]
        assert row["cluster"] in (0, 1)
        assert row["difficulty"] > 0
    assert len({row["example_id"] for row in curated.dataset.to_pylist()}) == len(curated.dataset)
    assert all(row["generator"] is None for row in curated.dataset.to_pylist() if row["origin"] != "synthetic")


# -- shapes ---------------------------------------------------------------------------------------------------------


def shaped(shape: str) -> tuple[pa.Table, str]:
    table = rows().to_pydict()
    pairs = list(zip(table["question"], table["answer"], strict=True))
    if shape == "messages":
        turns = [
            [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
            for question, answer in pairs
        ]
        return pa.table({"messages": turns}), "messages=messages"
    if shape == "sharegpt":
        turns = [[{"from": "human", "value": q}, {"from": "gpt", "value": a}] for q, a in pairs]
        return pa.table({"conversations": turns}), "messages=conversations"
    return (
        pa.table({"instruction": table["question"], "input": [""] * 60, "output": table["answer"]}),
        "instruction=instruction,input=input,output=output",
    )


def opened(cell: Any) -> Any:
    return [json.loads(turn) for turn in cell] if isinstance(cell, list) and isinstance(cell[0], str) else cell


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("shape", ["messages", "sharegpt", "instruction"])
def test_new_rows_have_the_shape_of_the_input(shape: str, as_json: bool, tmp_path: Path) -> None:
    table, columns = shaped(shape)
    if as_json:  # as where some message has a key that others have not
        for k, field in enumerate(table.schema):
            if pa.types.is_list(field.type):
                texts = pa.array([[json.dumps(turn) for turn in turns] for turns in table[k].to_pylist()])
                table = table.set_column(k, field.name, texts.cast(pa.list_(pa.json_())))
    data = read(table, columns=columns)
    curated = pipeline(Synthesize(generator=Writer())).run(data, cache=tmp_path / "c", out=tmp_path / "out")
    found = synthetic(curated)
    assert found
    assert curated.dataset.schema.field(0).type == table.schema.field(0).type
    for row in found:
        row = {name: opened(cell) for name, cell in row.items()}
        if shape == "messages":
            assert [turn["role"] for turn in row["messages"]] == ["system", "user", "assistant"]
            assert "visitors" in row["messages"][1]["content"]
        elif shape == "sharegpt":
            assert [turn["from"] for turn in row["conversations"]] == ["human", "gpt"]
        else:
            assert "visitors" in row["instruction"]
            assert row["input"] == ""
            assert "boxed" in row["output"]
    again = read(tmp_path / "out" / "data", columns=columns, allow_curated=True)
    assert again.examples.shape == data.examples.shape
