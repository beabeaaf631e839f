"""What a confirmatory study is, its rows, and their file: one block, all of whose arms were run at one go."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from curate.evaluation.results import read_evaluations
from curate.storage.atomic import publish_file

SCHEMA = pa.schema(
    [
        ("arm", pa.string()),
        ("seed", pa.int64()),  # of fine-tuning
        ("set", pa.string()),
        ("id", pa.string()),
        ("group", pa.string()),
        ("nats", pa.float32()),  # per token of the reference completion
        ("tokens", pa.int32()),  # of it
        ("right", pa.bool_()),  # null where no answer was drawn
    ]
)
METADATA = b"facts"
RECORDS = Path(__file__).parents[1] / "results" / "confirm"


class Study(Protocol):
    """Arms are named alike in all studies as far as the outcome goes, see `benchmarks.confirm.outcome`."""

    name: str
    blocks: Sequence[str]

    def run(self, block: str, out: Path) -> tuple[pa.Table, Mapping[str, Any]]:
        """Rows of SCHEMA for all arms of a block, and facts to keep beside them; resumed in `out` where it was
        stopped."""
        ...


def record_path(study: str, block: str, records: Path) -> Path:
    return records / f"{study}-{block}.parquet"


def write_record(table: pa.Table, facts: Mapping[str, Any], path: Path) -> None:
    table = table.replace_schema_metadata({METADATA: json.dumps(facts).encode()})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", compression_level=19, use_dictionary=True)
    publish_file(path, sink.getvalue().to_pybytes())


def read_facts(table: pa.Table) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((table.schema.metadata or {}).get(METADATA, b"{}"))
    return facts


def rows_of_runs(runs: Iterable[tuple[str, int, Path]], group: str) -> pa.Table:
    """Rows of evaluated run folders, given as (arm, seed, folder). group: column that says it, source or level."""
    tables = []
    for arm, seed, folder in runs:
        for name, result in sorted(read_evaluations(folder).items()):
            rows = result.rows
            n = len(rows)
            accuracy = rows["accuracy"].to_pylist()
            columns = [
                pa.array([arm] * n),
                pa.array([seed] * n),
                pa.array([name] * n),
                rows["example_id"].cast(pa.string()),
                rows[group].cast(pa.string()),
                rows["nll"].cast(pa.float32()),
                rows["nll_tokens"].cast(pa.int32()),
                pa.array([None if each is None else each == 1.0 for each in accuracy], pa.bool_()),
            ]
            tables.append(pa.table(columns, names=SCHEMA.names).cast(SCHEMA))
    return pa.concat_tables(tables).combine_chunks()
