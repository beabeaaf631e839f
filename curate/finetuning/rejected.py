"""The rows of its data that a run does not train on, and why."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from curate.data.invalid_rows import rejected_table
from curate.finetuning.job import Job
from curate.storage.atomic import publish_file
from curate.tokenization.usable import refused_records

__all__ = ["REJECTED", "write_rejected"]

REJECTED = "rejected.parquet"


def write_rejected(job: Job) -> None:
    """rejected.parquet, as `curate run` has it in tables/; nothing where no row was left out."""
    data = job.data
    records = [*data.rejected, *refused_records(job.refused, data.examples, data.numbers)]
    if records:
        sink = pa.BufferOutputStream()
        pq.write_table(rejected_table(records), sink, compression="zstd")
        publish_file(job.out / REJECTED, sink.getvalue().to_pybytes(), replace=True)
