"""The reproduction on a real model: files for `curate validate`, and its two frozen command lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.reproduction.summary import condensed, made_with
from curate.storage.atomic import publishing
from curate.verify import reference_answer

_SOURCES = ("gsm8k", "math", "word_problems")
_SCHEMA = ("id", "question", "answer", "final_answer", "source", "level")


def write_data(shared: Path, folder: Path, test_rows: int | None) -> None:
    """train.parquet and one test file per source, from GSM8K, MATH and the word problems in `shared`.

    Every worked answer ends with a marked final answer, so that a model learns to give one. test_rows: at most so many
    of each source, drawn once for all; None = all.
    """
    tables = {name: pq.read_table(shared / f"{name}.parquet") for name in _SOURCES}

    with publishing(folder) as into:
        train = [_rows(table.filter(pc.field("split") == "train")) for table in tables.values()]
        pq.write_table(pa.concat_tables(train), into / "train.parquet")
        for name, table in tables.items():
            test = _rows(table.filter(pc.field("split") != "train"))
            if test_rows is not None and len(test) > test_rows:
                chosen = np.random.default_rng(0).choice(len(test), test_rows, replace=False)
                test = test.take(np.sort(chosen))
            pq.write_table(test, into / f"{name}.parquet")


def _rows(table: pa.Table) -> pa.Table:
    """The rows that have a worked answer and a final one, with the columns of _SCHEMA."""
    table = table.filter(pc.field("final_answer").is_valid() & pc.field("answer").is_valid())
    answers = [
        answer if reference_answer(answer) is not None else f"{answer}\n#### {final}"
        for answer, final in zip(table["answer"].to_pylist(), table["final_answer"].to_pylist(), strict=True)
    ]
    columns = {name: table[name] for name in _SCHEMA} | {"answer": pa.array(answers, pa.string())}
    return pa.table({name: columns[name] for name in _SCHEMA})


def write_small_data(shared: Path, folder: Path) -> None:
    """train.parquet, asdiv.parquet and mawps.parquet: word problems, whose rows are short enough for two cores.

    Drawn once for all: 1,200 of the training rows (or half of them), and of the others of ASDiv 400 to evaluate on,
    since it has no test split. mawps.parquet is the validation and test split of MAWPS.
    """
    table = pq.read_table(shared / "word_problems.parquet")
    train, test = (_rows(table.filter(part)) for part in (pc.field("split") == "train", pc.field("split") != "train"))
    order = pa.array(np.random.default_rng(0).permutation(len(train)))
    count = min(1200, len(train) // 2)
    drawn, others = train.take(order[:count]), train.take(order[count:])

    with publishing(folder) as into:
        pq.write_table(drawn, into / "train.parquet")
        pq.write_table(others.filter(pc.field("source") == "asdiv")[:400], into / "asdiv.parquet")
        pq.write_table(test, into / "mawps.parquet")


def gpu_arguments(data: Path) -> list[str]:
    """Arguments of `curate validate`. Frozen: LoRA, AdamW, four arms at equal steps, greedy answers by transformers."""
    arguments = [*_common(data, _SOURCES), "--lora", "--epochs", "2", "--batch-size", "32", "--max-tokens", "320"]
    return [*arguments, "--evaluate", "batch_size=128"]


def cpu_arguments(data: Path) -> list[str]:
    """Arguments of `curate validate`. Frozen: full, AdamW, four arms at equal steps, loss of answers only."""
    return [*_common(data, ("asdiv", "mawps")), "--epochs", "1.2", "--batch-size", "16", "--no-generate"]


def write_record(validation: Path, command: str, file: Path) -> None:
    """The comparison of a validation folder and the runs it is of, for benchmarks/results/.

    finished: whether all runs asked for are there; seeds that not all arms have may be in the comparison even so.
    """
    comparison = json.loads((validation / "comparison.json").read_text(encoding="utf-8"))
    places = [validation / "runs" / Path(place).name for each in comparison["arms"] for place in each["runs"]]
    runs = [json.loads((place / "run.json").read_text(encoding="utf-8")) for place in places]
    kept = ("steps", "epochs", "tokens", "seconds", "tokens_per_second", "loss_last")
    model = {**runs[0]["model"], "name": Path(runs[0]["model"]["name"]).name}
    record = {
        "command": command,
        "finished": (validation / "run.json").is_file(),
        "primary": comparison["primary"],
        **condensed(comparison),
        "arms": [{key: value for key, value in each.items() if key != "runs"} for each in comparison["arms"]],
        "warnings": comparison["warnings"],
        "settings": {**runs[0]["settings"], "model": model["name"]},
        "model": model,
        "runs": [
            {key: run[key] for key in ("arm", "seed", "budget")}
            | {"rows": run["data"]["rows"], **{key: run["training"][key] for key in kept}}
            for run in runs
        ],
        **made_with(),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _common(data: Path, sets: Sequence[str]) -> list[str]:
    arguments = [str(data / "train.parquet"), "--arms", "original,hard,random,easy", "--budgets", "steps"]
    arguments += ["--columns", "prompt=question,completion=answer,final_answer=final_answer,source=source,id=id"]
    arguments += ["--drop-contaminated", "--drop-weights"]
    for name in sets:
        arguments += ["--evaluation", f"{name}={data / f'{name}.parquet'}"]
    return arguments
