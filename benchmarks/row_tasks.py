"""Benchmark tasks over rows against the cost of sending the rows to a worker."""

from __future__ import annotations

import argparse
import io
import json
import pickle
import platform
import shlex
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json

from curate.data.examples import content_ids
from curate.data.row_store import row_store
from curate.data.writers import GROUP_ROWS, encode

_DETAILS = """\
    python -m benchmarks.row_tasks [--rows 300000] [--out FILE]

Process seconds of one core for: putting rows in order, encoding them as Parquet, pickling them (as for a worker),
making ids, and parsing JSON Lines with Arrow (threads off). Best of three.
"""

COLUMNS = {"prompt": "prompt", "completion": "completion"}


def rows(count: int) -> pa.Table:
    """Prompts and completions of 50 words each, of Zipf frequencies."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), rng.integers(2, 9))) for _ in range(5000)]
    texts = [" ".join([words[k] for k in row]) for row in rng.zipf(1.3, (count, 50)) % 5000]
    return pa.table({"prompt": texts, "completion": texts[::-1]})


def best(work: Callable[[], Any]) -> float:
    """Process seconds of the fastest of three calls."""
    seconds = []
    for _ in range(3):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return round(min(seconds), 3)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_DETAILS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    pa.set_cpu_count(1)
    table = rows(options.rows)
    order = np.random.default_rng(1).permutation(options.rows)
    ordered = pa.concat_tables(row_store([table]).slices(order))
    groups = [ordered.slice(low, GROUP_ROWS) for low in range(0, options.rows, GROUP_ROWS)]
    lines = "".join(json.dumps(row) + "\n" for row in table.slice(0, 100_000).to_pylist()).encode()
    parse = pyarrow.json.ReadOptions(use_threads=False)
    result = {
        "command": shlex.join(["python", "-m", "benchmarks.row_tasks", *sys.argv[1:]]),
        "rows": options.rows,
        "megabytes": round(table.nbytes / 1e6, 1),
        "seconds": {
            "put in order": best(lambda: list(row_store([table]).slices(order))),
            "encode": best(lambda: encode(groups, ordered.schema, io.BytesIO())),
            "pickle": best(lambda: pickle.dumps(ordered, 5)),
            "ids": best(lambda: content_ids(table, "prompt_completion", COLUMNS)),
        },
        "json": {
            "megabytes": round(len(lines) / 1e6, 1),
            "seconds": best(lambda: pyarrow.json.read_json(io.BytesIO(lines), read_options=parse)),
        },
        "machine": platform.machine(),
        "versions": {name: metadata.version(name) for name in ("pyarrow", "numpy")},
        "python": platform.python_version(),
    }
    text = json.dumps(result, indent=1) + "\n"
    print(text, end="")
    if options.out is not None:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
