"""The reproduction on a real model: files for `curate validate`, and its one frozen command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.publish import publish
from curate.verify import reference_answer

__all__ = ["validate_arguments", "write_data"]

_SOURCES = ("gsm8k", "math", "word_problems")
_SCHEMA = ("id", "question", "answer", "final_answer", "source", "level")


def write_data(shared: Path, folder: Path, test_rows: int | None) -> None:
    """train.parquet and one test file per source, from GSM8K, MATH and the word problems in `shared`.

    Every worked answer ends with a marked final answer, so that a model learns to give one. test_rows: at most so many
    of each source, drawn once for all; None = all.
    """
    tables = {name: pq.read_table(shared / f"{name}.parquet") for name in _SOURCES}

    def write(into: Path) -> None:
        train = [_rows(table.filter(pc.field("split") == "train")) for table in tables.values()]
        pq.write_table(pa.concat_tables(train), into / "train.parquet")
        for name, table in tables.items():
            test = _rows(table.filter(pc.field("split") != "train"))
            if test_rows is not None and len(test) > test_rows:
                chosen = np.random.default_rng(0).choice(len(test), test_rows, replace=False)
                test = test.take(np.sort(chosen))
            pq.write_table(test, into / f"{name}.parquet")

    publish(folder, write)


def _rows(table: pa.Table) -> pa.Table:
    """The rows that have a worked answer and a final one, with the columns of _SCHEMA."""
    table = table.filter(pc.field("final_answer").is_valid() & pc.field("answer").is_valid())
    answers = [
        answer if reference_answer(answer) is not None else f"{answer}\n#### {final}"
        for answer, final in zip(table["answer"].to_pylist(), table["final_answer"].to_pylist(), strict=True)
    ]
    columns = {name: table[name] for name in _SCHEMA} | {"answer": pa.array(answers, pa.string())}
    return pa.table({name: columns[name] for name in _SCHEMA})


def validate_arguments(model: Path, proxy: Path, data: Path, out: Path, seeds: str, minutes: float | None) -> list[str]:
    """The arguments of `curate`. Frozen: LoRA and AdamW, four arms at equal steps, greedy answers by transformers."""
    arguments = ["validate", str(data / "train.parquet"), "--model", str(model), "--proxy", str(proxy)]
    arguments += ["--out", str(out), "--lora", "--arms", "original,hard,random,easy", "--budgets", "steps"]
    arguments += ["--seeds", seeds, "--epochs", "2", "--batch-size", "32", "--max-tokens", "320"]
    arguments += ["--drop-contaminated", "--drop-weights", "--evaluate", "batch_size=128"]
    arguments += ["--columns", "prompt=question,completion=answer,final_answer=final_answer,source=source,id=id"]
    for name in _SOURCES:
        arguments += ["--evaluation", f"{name}={data / f'{name}.parquet'}"]
    return arguments if minutes is None else [*arguments, "--time-limit", f"{minutes:g}"]
